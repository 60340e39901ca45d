//! The type that all peers share. `world.h` declares it for C and C++.

use shm_sync::{
    CachePadded, LockError, Poisoned, Segment, ShmChannel, ShmCondvar, ShmEvent, ShmMutex,
    ShmMutexGuard, ShmSafe, ShmSemaphore,
};

use crate::support::{TestName, watchdog};

pub(crate) const PERMITS: usize = 3;
pub(crate) const WORKERS: usize = 4;
pub(crate) const CAPACITY: usize = 64;
pub(crate) const ENDPOINTS: usize = 4;
/// The most processes of a storm.
pub(crate) const ROUNDS: usize = 8;

pub(crate) type Bytes = ShmChannel<u8, CAPACITY, ENDPOINTS, ENDPOINTS>;

#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct World {
    pub(crate) ledger: ShmMutex<Ledger>,
    pub(crate) changed: ShmCondvar,
    pub(crate) permits: ShmSemaphore<PERMITS>,
    /// Stays set.
    pub(crate) gate: ShmEvent,
    /// Lets one waiter go on.
    pub(crate) turnstile: ShmEvent,
    pub(crate) bytes: Bytes,
    pub(crate) workers: [CachePadded<Worker>; WORKERS],
}

/// The data under the lock. They are consistent if `total` and `check` are equal.
#[derive(ShmSafe, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Ledger {
    pub(crate) total: u64,
    pub(crate) check: u64,
    /// The process whose turn it is, by a number that the test gives it.
    pub(crate) turn: u64,
    pub(crate) repairs: u64,
    /// How often a holder was not alone, or found torn data without poison.
    pub(crate) violations: u64,
    /// The holder, as it sees itself.
    pub(crate) inside: u64,
    pub(crate) rounds: [u64; ROUNDS],
}

impl Ledger {
    pub(crate) fn repair(&mut self) {
        self.check = self.total;
        self.inside = 0;
        self.repairs += 1;
    }
}

#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Worker {
    pub(crate) lock: ShmMutex<u64>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            ledger: ShmMutex::new(Ledger::default()),
            changed: ShmCondvar::new(),
            permits: ShmSemaphore::new(),
            gate: ShmEvent::manual_reset(),
            turnstile: ShmEvent::auto_reset(),
            bytes: ShmChannel::new(),
            workers: [const {
                CachePadded::new(Worker {
                    lock: ShmMutex::new(0),
                })
            }; WORKERS],
        }
    }

    /// Locks the ledger. Fails if the lock is not free within the watchdog.
    pub(crate) fn lock(&self) -> Result<ShmMutexGuard<'_, Ledger>, LedgerPoisoned<'_>> {
        match self.ledger.try_lock_for(watchdog()) {
            Ok(guard) => Ok(guard),
            Err(LockError::Poisoned(poisoned)) => Err(poisoned),
            Err(other) => panic!("the ledger can't be locked: {other:?}"),
        }
    }

    /// Returns the ledger, which must be consistent and free.
    pub(crate) fn ledger(&self) -> Ledger {
        let guard = self.lock();
        let guard = guard.unwrap_or_else(|poisoned| panic!("poisoned: {}", poisoned.cause()));
        assert_eq!(guard.total, guard.check, "the ledger is consistent");
        *guard
    }
}

pub(crate) type LedgerPoisoned<'a> = Poisoned<ShmMutexGuard<'a, Ledger>>;

/// A segment with a name, for one test.
pub(crate) struct Place {
    pub(crate) name: TestName,
    pub(crate) segment: Segment<World>,
}

impl Place {
    pub(crate) fn new(what: &str) -> Self {
        let name = TestName::new(what);
        let segment = Segment::create(&name, World::new()).expect("the name is new");
        Self { name, segment }
    }
}

/// The fingerprint of [`World`], in the form in which peers take it.
pub(crate) fn fingerprint() -> String {
    World::FINGERPRINT.to_string()
}
