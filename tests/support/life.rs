//! What the tests of life and death share: addresses of every kind, values that tell
//! what they are, meetings, and chance.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shm_sync::{Backing, LockError, ShmMutex, ShmSafe};

use super::number_from_env;

/// An address of each kind that has names, that no other test has; removed when
/// dropped.
#[derive(Debug)]
pub struct TestAddress {
    text: String,
    kind: Backing,
}

impl TestAddress {
    pub fn new(kind: Backing, what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let name = format!("shm-sync-test-{what}-{pid}-{count}");
        let text = match kind {
            Backing::Posix => format!("/{name}"),
            Backing::File => format!("{}/{name}", std::env::temp_dir().display()),
            _ => format!(
                "sysv:{:#x}",
                1 << 29 | (pid & 0x1f_ffff) << 8 | count & 0xff
            ),
        };
        Self { text, kind }
    }

    /// One of each kind.
    pub fn of_each_kind(what: &str) -> [Self; 3] {
        [Backing::Posix, Backing::File, Backing::SystemV].map(|kind| Self::new(kind, what))
    }

    pub fn kind(&self) -> Backing {
        self.kind
    }

    /// Whether the system knows something of this name, whatever it is.
    pub fn exists(&self) -> bool {
        let path = match self.kind {
            Backing::Posix => format!("/dev/shm{}", self.text),
            Backing::File => self.text.clone(),
            _ => return self.system_v_id().is_some(),
        };
        fs::symlink_metadata(path).is_ok()
    }

    pub fn system_v_key(&self) -> i32 {
        let digits = self.text.strip_prefix("sysv:0x").unwrap();
        i32::from_str_radix(digits, 16).unwrap()
    }

    /// Overwrites some bytes of a System V segment.
    pub fn overwrite_system_v(&self, at: usize, bytes: &[u8]) {
        let id = self.system_v_id().expect("there is a segment");
        // SAFETY: no address is asked for.
        let base: *mut u8 = unsafe { libc::shmat(id, std::ptr::null(), 0) }.cast();
        assert_ne!(base.addr(), usize::MAX);
        // SAFETY: callers write to the header, which every segment has.
        let to = unsafe { base.add(at) };
        // SAFETY: as above; the source is elsewhere.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        // SAFETY: attached above, and used no more.
        unsafe { libc::shmdt(base.cast()) };
    }

    pub fn system_v_id(&self) -> Option<i32> {
        // SAFETY: takes and returns numbers.
        let id = unsafe { libc::shmget(self.system_v_key(), 0, 0) };
        (id >= 0).then_some(id)
    }
}

impl std::ops::Deref for TestAddress {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl Drop for TestAddress {
    fn drop(&mut self) {
        let _ = shm_sync::unlink(&self.text);
    }
}

/// A value that says which object it is in, and whether it is whole.
#[derive(ShmSafe)]
#[repr(C)]
pub struct Marked {
    id: u64,
    body: [u64; 62],
    inverse: u64,
    pub visits: ShmMutex<u64>,
    inheriting: ShmMutex<u64>,
}

impl Marked {
    pub fn new(id: u64) -> Self {
        Self {
            id,
            body: [id; 62],
            inverse: !id,
            visits: ShmMutex::new(0),
            inheriting: ShmMutex::with_priority_inheritance(0),
        }
    }

    /// The one that it was made with.
    pub fn id(&self) -> u64 {
        let is_whole = self.body == [self.id; 62] && self.inverse == !self.id;
        assert!(is_whole, "it is not complete: {} {}", self.id, self.inverse);
        self.id
    }

    /// Uses the locks.
    pub fn visit(&self) {
        for lock in [&self.visits, &self.inheriting] {
            match lock.lock() {
                Ok(mut visits) => *visits += 1,
                Err(LockError::Poisoned(poisoned)) => *poisoned.recover(|_| {}) += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

/// Numbers that a seed repeats (xorshift64*, Vigna 2016).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The seed is `SHM_SYNC_STORM_SEED` or, if that is not set, `otherwise`.
    pub fn from_env(otherwise: u64) -> (Self, u64) {
        let seed = number_from_env("SHM_SYNC_STORM_SEED").unwrap_or(otherwise);
        (Self::new(seed), seed)
    }

    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    /// Spins for a time between nothing and 2^`scale` nanoseconds, short ones as
    /// often as long ones.
    pub fn dither(&mut self, scale: u64) {
        let range = 1 << self.below(scale + 1);
        let until = Instant::now() + Duration::from_nanos(self.below(range));
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }
}

/// A place where processes meet, again and again.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub struct Meeting {
    arrived: AtomicU32,
}

impl Meeting {
    /// Comes back when `parties` have called it as often as this one. `round`
    /// counts from 1.
    pub fn attend(&self, parties: u32, round: u32) {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        while self.arrived.load(Ordering::SeqCst) < parties * round {
            std::thread::yield_now();
        }
    }
}
