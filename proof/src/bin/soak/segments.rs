//! The segments under contended names. Their value shows which segment it is and
//! whether it is complete.

use shm_sync::{IfAbandoned, Removal, Segment, SegmentOptions, ShmMutex, ShmSafe};

use crate::checked_mutex::{CheckedData, CheckedMutex, step};
use crate::findings::Site;
use crate::random::Random;

/// The value of a segment.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Content {
    id: u64,
    body: [u64; 62],
    inverse: u64,
    pub(crate) visits: CheckedMutex<Visits>,
}

/// Counts the workers that use a segment. Both numbers are equal if the data is
/// consistent.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Visits {
    begun: u64,
    ended: u64,
}

impl Visits {
    pub(crate) fn begin(&mut self) {
        self.begun += 1;
        step();
    }

    pub(crate) fn end(&mut self) {
        step();
        self.ended += 1;
    }
}

impl CheckedData for Visits {
    const SITE: Site = Site::Segment;

    fn fault(&self) -> Option<String> {
        let Self { begun, ended } = self;
        (begun != ended).then(|| format!("{begun} begun, {ended} ended"))
    }

    fn repair(&mut self) {
        self.ended = self.begun;
    }
}

impl Content {
    /// Returns a value with this id. Every other value has a mutex with priority
    /// inheritance.
    pub(crate) fn new(id: u64) -> Self {
        let visits = Visits { begun: 0, ended: 0 };
        Self {
            id,
            body: [id; 62],
            inverse: !id,
            visits: CheckedMutex::new(if id.is_multiple_of(2) {
                ShmMutex::new(visits)
            } else {
                ShmMutex::with_priority_inheritance(visits)
            }),
        }
    }

    /// Returns the id, if the value is complete.
    pub(crate) fn id(&self) -> Option<u64> {
        let is_complete = self.body == [self.id; 62] && self.inverse == !self.id;
        is_complete.then_some(self.id)
    }
}

/// The addresses of one soak.
#[derive(Debug)]
pub(crate) struct Addresses {
    shared: String,
    posix: String,
    system_v: String,
    system_v_key: i32,
    file: String,
}

impl Addresses {
    /// Returns the addresses of the soak with this supervisor.
    pub(crate) fn of(supervisor: u32) -> Self {
        // Process ids have 22 bits. Other programs on the machine are unlikely to have
        // keys in this range.
        let key = 0x1000_0000 | (supervisor & 0x3f_ffff);
        let name = format!("shm-sync-soak-{supervisor}");
        Self {
            shared: format!("/{name}-shared"),
            posix: format!("/{name}-segment"),
            system_v: format!("sysv:{key:#x}"),
            system_v_key: key.cast_signed(),
            file: format!("{}/{name}-segment", std::env::temp_dir().display()),
        }
    }

    pub(crate) fn shared(&self) -> &str {
        &self.shared
    }

    pub(crate) fn segments(&self) -> [&str; 3] {
        [&self.posix, &self.system_v, &self.file]
    }

    /// Returns one of the addresses: rarely the file, because it is written to the
    /// disk.
    pub(crate) fn any(&self, random: &mut Random) -> &str {
        match random.below(16) {
            0 => &self.file,
            1..9 => &self.posix,
            _ => &self.system_v,
        }
    }

    /// Returns the objects of this soak that still exist.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        let mut found: Vec<String> = [
            format!("/dev/shm{}", self.shared),
            format!("/dev/shm{}", self.posix),
            self.file.clone(),
        ]
        .into_iter()
        .filter(|path| std::fs::symlink_metadata(path).is_ok())
        .collect();
        // SAFETY: `shmget` takes and returns numbers. Without `IPC_CREAT` it creates
        // nothing.
        if unsafe { libc::shmget(self.system_v_key, 0, 0) } >= 0 {
            found.push(self.system_v.clone());
        }
        found
    }

    /// Removes all objects of this soak, also after a violation.
    pub(crate) fn remove_all(&self) {
        for address in [self.shared()].into_iter().chain(self.segments()) {
            let _ = shm_sync::unlink(address);
        }
    }
}

/// Returns options with which the last user removes the segment.
pub(crate) fn transient<T>(abandoned: IfAbandoned) -> SegmentOptions<T> {
    SegmentOptions::new()
        .removal(Removal::UntilLastDetach)
        .if_abandoned(abandoned)
}

/// Opens what dead workers have left under a name, and drops it as the last user.
/// Returns what was wrong with it as an error.
pub(crate) fn remove_abandoned(address: &str) -> Result<(), String> {
    match Segment::<Content>::open(address) {
        Ok(segment) if segment.id().is_none() => Err(format!("{address} is incomplete")),
        Ok(_) | Err(shm_sync::Error::NotFound { .. }) => Ok(()),
        Err(other) => Err(format!("{address}: {other}")),
    }
}
