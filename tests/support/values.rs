//! Values that processes share, and what a test expects of their locks.

use std::sync::atomic::{AtomicU32, Ordering};

use shm_sync::{LockError, PoisonCause, Poisoned, Segment, ShmMutex, ShmSafe};

use super::child::{Child, Gate, die, spawn};

/// Two numbers that are equal unless somebody is between changing them.
#[derive(ShmSafe)]
#[repr(C)]
pub struct Pair {
    pub first: u64,
    pub second: u64,
}

/// A pair that processes share.
pub type SharedPair = Segment<ShmMutex<Pair>>;

pub fn pair() -> SharedPair {
    Segment::anonymous(ShmMutex::new(Pair {
        first: 0,
        second: 0,
    }))
    .unwrap()
}

/// A process that has taken the lock and keeps it until it is killed.
pub fn holder_of<T: ShmSafe>(lock: &ShmMutex<T>) -> Child {
    let locked = Gate::new();
    let holder = spawn(|| {
        let _guard = lock.lock().unwrap();
        locked.open();
        nix::unistd::pause();
    });
    locked.pass();
    holder
}

/// Lets a process die with the lock held. Returns its process id.
pub fn leave_a_death<T: ShmSafe>(lock: &ShmMutex<T>) -> u32 {
    let mut holder = spawn(|| {
        let _guard = lock.lock().unwrap();
        die()
    });
    holder.wait();
    holder.pid()
}

/// The poisoned lock in `result`, or a panic that says what it was instead.
pub fn expect_poisoned<G>(result: Result<G, LockError<G>>) -> Poisoned<G> {
    match result {
        Err(LockError::Poisoned(poisoned)) => poisoned,
        Err(other) => panic!("not poisoned but: {other:?}"),
        Ok(_) => panic!("not poisoned but clean"),
    }
}

/// The process that died, if that is why a lock was poisoned.
pub fn dead_owner(cause: PoisonCause) -> Option<u32> {
    match cause {
        PoisonCause::OwnerDied { pid, .. } => Some(pid),
        _ => None,
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
