//! Segments under names that everybody fights for, and a value that tells which it
//! is and whether it is whole.

use shm_sync::{IfAbandoned, Removal, Segment, SegmentOptions, ShmMutex, ShmSafe};

use crate::arena::Place;
use crate::games::step;
use crate::random::Random;
use crate::watched::{Sound, Watched};

/// What is in a segment.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Vessel {
    id: u64,
    body: [u64; 62],
    inverse: u64,
    pub(crate) visits: Watched<Visits>,
}

/// Who has been there. Sound if both are the same.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Visits {
    came: u64,
    went: u64,
}

impl Visits {
    pub(crate) fn begin(&mut self) {
        self.came += 1;
        step();
    }

    pub(crate) fn end(&mut self) {
        step();
        self.went += 1;
    }
}

impl Sound for Visits {
    const PLACE: Place = Place::Segment;

    fn fault(&self) -> Option<String> {
        let Self { came, went } = self;
        (came != went).then(|| format!("{came} came, {went} went"))
    }

    fn repair(&mut self) {
        self.went = self.came;
    }
}

impl Vessel {
    /// Every other vessel has a lock with priority inheritance.
    pub(crate) fn new(id: u64) -> Self {
        let visits = Visits { came: 0, went: 0 };
        Self {
            id,
            body: [id; 62],
            inverse: !id,
            visits: Watched::new(if id.is_multiple_of(2) {
                ShmMutex::new(visits)
            } else {
                ShmMutex::with_priority_inheritance(visits)
            }),
        }
    }

    /// The one that it was made with, if it is whole.
    pub(crate) fn id(&self) -> Option<u64> {
        let is_whole = self.body == [self.id; 62] && self.inverse == !self.id;
        is_whole.then_some(self.id)
    }
}

/// The addresses of one game.
#[derive(Debug)]
pub(crate) struct Addresses {
    arena: String,
    posix: String,
    system_v: String,
    system_v_key: i32,
    file: String,
}

impl Addresses {
    /// Those of the game that `conductor` leads.
    pub(crate) fn of(conductor: u32) -> Self {
        // Process ids have 22 bits. No program that this is likely to meet has keys
        // there.
        let key = 0x1000_0000 | (conductor & 0x3f_ffff);
        let name = format!("shm-sync-soak-{conductor}");
        Self {
            arena: format!("/{name}-arena"),
            posix: format!("/{name}-vessel"),
            system_v: format!("sysv:{key:#x}"),
            system_v_key: key.cast_signed(),
            file: format!("{}/{name}-vessel", std::env::temp_dir().display()),
        }
    }

    pub(crate) fn arena(&self) -> &str {
        &self.arena
    }

    pub(crate) fn vessels(&self) -> [&str; 3] {
        [&self.posix, &self.system_v, &self.file]
    }

    /// One of them; rarely the file, which goes to the disk each time.
    pub(crate) fn any(&self, random: &mut Random) -> &str {
        match random.below(16) {
            0 => &self.file,
            1..9 => &self.posix,
            _ => &self.system_v,
        }
    }

    /// What the system still has of this game.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        let mut found: Vec<String> = [
            format!("/dev/shm{}", self.arena),
            format!("/dev/shm{}", self.posix),
            self.file.clone(),
        ]
        .into_iter()
        .filter(|path| std::fs::symlink_metadata(path).is_ok())
        .collect();
        // SAFETY: takes and returns numbers.
        if unsafe { libc::shmget(self.system_v_key, 0, 0) } >= 0 {
            found.push(self.system_v.clone());
        }
        found
    }

    /// Takes away whatever is left, also of a game that came to a bad end.
    pub(crate) fn clear(&self) {
        for address in [self.arena()].into_iter().chain(self.vessels()) {
            let _ = shm_sync::unlink(address);
        }
    }
}

/// Options for a vessel: the last one out takes its name away.
pub(crate) fn transient(abandoned: IfAbandoned) -> SegmentOptions {
    SegmentOptions::new()
        .removal(Removal::UntilLastDetach)
        .if_abandoned(abandoned)
}

/// Opens what the dead have left under a name, and leaves as the last one.
///
/// Says what was wrong with it.
pub(crate) fn clear_away(address: &str) -> Result<(), String> {
    match Segment::<Vessel>::open(address) {
        Ok(vessel) if vessel.id().is_none() => Err(format!("{address} is not whole")),
        Ok(_) | Err(shm_sync::Error::NotFound) => Ok(()),
        Err(other) => Err(format!("{address}: {other}")),
    }
}
