//! Values that processes share, and what a test expects of their locks.

use std::sync::atomic::{AtomicU32, Ordering};

use shm_sync::{LockError, PoisonCause, Poisoned, Segment, SegmentContent, ShmMutex, ShmSafe};

use super::child::{Child, Gate, die, spawn};

/// The offset of the futex word in a `pthread_mutex_t`: see docs/format.md.
pub const LOCK_WORD: usize = if cfg!(target_env = "musl") { 4 } else { 0 };

/// Two numbers that are equal, except while a process changes them.
#[derive(ShmSafe)]
#[repr(C)]
pub struct Pair {
    pub first: u64,
    pub second: u64,
}

/// A pair in shared memory.
pub type SharedPair = Segment<ShmMutex<Pair>>;

pub fn pair() -> SharedPair {
    Segment::anonymous(ShmMutex::new(Pair {
        first: 0,
        second: 0,
    }))
    .unwrap()
}

/// Starts a process that locks and holds the lock until it is killed.
pub fn holder_of<T: SegmentContent + ?Sized>(lock: &ShmMutex<T>) -> Child {
    let locked = Gate::new();
    let holder = spawn(|| {
        let _guard = lock.lock().unwrap();
        locked.open();
        nix::unistd::pause();
    });
    locked.pass();
    holder
}

/// Starts a process that dies while it holds the lock. Returns its process id.
pub fn leave_a_death<T: ShmSafe>(lock: &ShmMutex<T>) -> u32 {
    let mut holder = spawn(|| {
        let _guard = lock.lock().unwrap();
        die()
    });
    holder.wait();
    holder.pid()
}

/// Returns the poisoned lock in `result`. Panics on any other result.
pub fn expect_poisoned<G>(result: Result<G, LockError<G>>) -> Poisoned<G> {
    match result {
        Err(LockError::Poisoned(poisoned)) => poisoned,
        Err(other) => panic!("not poisoned but: {other:?}"),
        Ok(_) => panic!("not poisoned but clean"),
    }
}

/// Returns the process that died, if an owner death poisoned the lock.
pub fn dead_owner(cause: PoisonCause) -> Option<u32> {
    match cause {
        PoisonCause::OwnerDied { pid, .. } => Some(pid),
        _ => None,
    }
}

/// A value with an id, which shows whether it is complete.
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

    /// Returns the id, after a check that the value is complete.
    pub fn id(&self) -> u64 {
        let is_whole = self.body == [self.id; 62] && self.inverse == !self.id;
        assert!(
            is_whole,
            "the value is not complete: {} {}",
            self.id, self.inverse
        );
        self.id
    }

    /// Locks each lock once, and repairs it if it is poisoned.
    pub fn visit(&self) {
        for lock in [&self.visits, &self.inheriting] {
            *lock.lock_or_recover(|_, _| ()).unwrap() += 1;
        }
    }
}

/// A barrier of processes.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub struct Meeting {
    arrived: AtomicU32,
}

impl Meeting {
    /// Waits until `parties` processes have called it `round` times. `round` counts
    /// from 1.
    pub fn attend(&self, parties: u32, round: u32) {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        while self.arrived.load(Ordering::SeqCst) < parties * round {
            std::thread::yield_now();
        }
    }
}
