//! The memory that the processes share, and what the survivors do in it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use shm_sync::{LockError, LockResult, PoisonCause, ShmSafe};

use super::subject::{Subject, add};

/// The numbers of the processes. `inside` holds the number of the holder.
pub(crate) const VICTIM: u32 = 1;
pub(crate) const SUCCESSOR: u32 = 2;
pub(crate) const PARTNER: u32 = 3;
pub(crate) const LOCK_WAITERS: [u32; 2] = [4, 5];
pub(crate) const CONDVAR_WAITERS: [u32; 4] = [6, 7, 8, 9];
/// One more than the greatest of these numbers.
const SURVIVORS: usize = 10;

/// The share that each survivor adds to the numbers: more than any victim adds.
const SHARE: u64 = 1000;

/// An observation that no death may cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The data are torn, and the lock is not poisoned.
    Torn,
    TwoInside,
    /// The victim's change is lost, although the victim had unlocked.
    LostUpdate,
    /// The lock is poisoned again after a repair.
    PoisonedTwice,
    /// An unexpected error.
    Error,
    /// The locker after an owner death did not get `Poisoned`.
    OwnerDeathNotReported,
    /// A new process cannot acquire the lock.
    LockStuck,
    /// A waiter of the lock does not acquire it.
    LockWaitersStuck,
    /// A waiter of the condition variable does not wake.
    CondvarWaitersStuck,
    /// A new process cannot notify, or its notification wakes no waiter.
    NotifierStuck,
    /// Two new processes cannot wait for each other afterwards.
    RoundTripStuck,
}

impl Fault {
    pub(crate) const ALL: [Self; 11] = [
        Self::Torn,
        Self::TwoInside,
        Self::LostUpdate,
        Self::PoisonedTwice,
        Self::Error,
        Self::OwnerDeathNotReported,
        Self::LockStuck,
        Self::LockWaitersStuck,
        Self::CondvarWaitersStuck,
        Self::NotifierStuck,
        Self::RoundTripStuck,
    ];

    pub(crate) fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Returns the text in a table.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Torn => "torn",
            Self::TwoInside => "two inside",
            Self::LostUpdate => "lost update",
            Self::PoisonedTwice => "poisoned twice",
            Self::Error => "error",
            Self::OwnerDeathNotReported => "owner death not reported",
            Self::LockStuck => "lock stuck",
            Self::LockWaitersStuck => "lock waiters stuck",
            Self::CondvarWaitersStuck => "condvar waiters stuck",
            Self::NotifierStuck => "notifier stuck",
            Self::RoundTripStuck => "no round trip",
        }
    }

    /// Returns whether a process is stuck.
    pub(crate) fn is_stuck(self) -> bool {
        matches!(
            self,
            Self::LockStuck
                | Self::LockWaitersStuck
                | Self::CondvarWaitersStuck
                | Self::NotifierStuck
                | Self::RoundTripStuck
        )
    }
}

/// The state of the lock that a survivor finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observation {
    CleanBefore,
    CleanAfter,
    Poisoned,
}

impl Observation {
    pub(crate) const ALL: [Self; 3] = [Self::CleanBefore, Self::CleanAfter, Self::Poisoned];

    /// Returns the code of this observation. 0 means none.
    pub(crate) fn code(self) -> u32 {
        1 + self as u32
    }

    pub(crate) fn from_code(code: u32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|observation| observation.code() == code)
    }
}

/// The stages of a survivor, which begins at 0.
pub(crate) mod stage {
    /// Holds the lock, and is about to wait for a notification.
    pub(crate) const WAITING: u32 = 1;
    /// Has held the lock.
    pub(crate) const LOCKED: u32 = 2;
    pub(crate) const LOCKED_AGAIN: u32 = 3;
    pub(crate) const NOTIFIED: u32 = 4;
    pub(crate) const DONE: u32 = 5;
}

/// The progress of one survivor.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub(crate) struct Progress {
    stage: AtomicU32,
    /// The number of returns from a wait.
    returns: AtomicU32,
    /// The time of its last lock.
    at: AtomicU64,
}

impl Progress {
    pub(crate) fn has_reached(&self, stage: u32) -> bool {
        self.stage.load(Ordering::SeqCst) >= stage
    }

    fn reach(&self, stage: u32) {
        self.stage.fetch_max(stage, Ordering::SeqCst);
    }

    pub(crate) fn returns(&self) -> u32 {
        self.returns.load(Ordering::SeqCst)
    }

    pub(crate) fn at(&self) -> u64 {
        self.at.load(Ordering::SeqCst)
    }
}

#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Arena<S> {
    pub(crate) subject: S,
    /// Used before the operation, so that the victim's first use of a lock is over.
    pub(crate) spare: S,
    /// The number of the holder, written by the holder. 0 means none.
    pub(crate) inside: AtomicU32,
    faults: AtomicU32,
    /// The time of the death in nanoseconds. 0 before the death.
    pub(crate) death: AtomicU64,
    /// The first observation after the death.
    observation: AtomicU32,
    deaths_seen: AtomicU32,
    panics_seen: AtomicU32,
    repairs: AtomicU32,
    observed_at: AtomicU64,
    progress: [Progress; SURVIVORS],
    /// Set when the waiters of the condition variable may end.
    go: AtomicBool,
    /// Set when the successor may end.
    partner_notified: AtomicBool,
    pub(crate) victim_saw_poison: AtomicBool,
    /// Set if a survivor got `Poisoned` before the victim's death.
    recovered_early: AtomicBool,
}

/// Returns the monotonic clock in nanoseconds. All processes read the same clock.
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes to `time`.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

impl<S: Subject> Arena<S> {
    pub(crate) fn new() -> Self {
        Self {
            subject: S::new(),
            spare: S::new(),
            inside: AtomicU32::new(0),
            faults: AtomicU32::new(0),
            death: AtomicU64::new(0),
            observation: AtomicU32::new(0),
            deaths_seen: AtomicU32::new(0),
            panics_seen: AtomicU32::new(0),
            repairs: AtomicU32::new(0),
            observed_at: AtomicU64::new(0),
            progress: std::array::from_fn(|_| Progress::default()),
            go: AtomicBool::new(false),
            partner_notified: AtomicBool::new(false),
            victim_saw_poison: AtomicBool::new(false),
            recovered_early: AtomicBool::new(false),
        }
    }

    pub(crate) fn progress_of(&self, process: u32) -> &Progress {
        &self.progress[process as usize]
    }

    pub(crate) fn record_fault(&self, fault: Fault) {
        self.faults.fetch_or(fault.bit(), Ordering::SeqCst);
    }

    pub(crate) fn faults(&self) -> u32 {
        self.faults.load(Ordering::SeqCst)
    }

    /// The first observation after the death.
    pub(crate) fn first_observation(&self) -> Option<(Observation, u64)> {
        let observation = Observation::from_code(self.observation.load(Ordering::SeqCst))?;
        Some((observation, self.observed_at.load(Ordering::SeqCst)))
    }

    /// Returns whether a survivor got `Poisoned` with an owner death after the victim's
    /// death.
    pub(crate) fn owner_death_was_reported(&self) -> bool {
        self.deaths_seen.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn was_recovered_early(&self) -> bool {
        self.recovered_early.load(Ordering::SeqCst)
    }

    pub(crate) fn panic_was_reported(&self) -> bool {
        self.panics_seen.load(Ordering::SeqCst) > 0
    }

    /// Checks what a survivor finds after locking. Repairs poisoned data.
    fn enter<'a>(&'a self, process: u32, result: LockResult<S::Guard<'a>>) -> Option<S::Guard<'a>> {
        let at = now();
        let (guard, observation) = match result {
            Ok(guard) => {
                let inside = self.inside.swap(process, Ordering::SeqCst);
                if inside != 0 {
                    self.record_fault(Fault::TwoInside);
                }
                if guard.first != guard.second {
                    self.record_fault(Fault::Torn);
                }
                let observation = if guard.first.is_multiple_of(SHARE) {
                    Observation::CleanBefore
                } else {
                    Observation::CleanAfter
                };
                (guard, observation)
            }
            Err(LockError::Poisoned(poisoned)) => {
                let seen = match poisoned.cause() {
                    PoisonCause::Panicked { .. } => &self.panics_seen,
                    _ => &self.deaths_seen,
                };
                let is_dead = self.death.load(Ordering::SeqCst) != 0;
                if !is_dead {
                    self.recovered_early.store(true, Ordering::SeqCst);
                }
                if is_dead || matches!(poisoned.cause(), PoisonCause::Panicked { .. }) {
                    seen.fetch_add(1, Ordering::SeqCst);
                    if self.repairs.fetch_add(1, Ordering::SeqCst) > 0 {
                        self.record_fault(Fault::PoisonedTwice);
                    }
                }
                let guard = self.subject.recover(poisoned, |pair| {
                    self.inside.store(process, Ordering::SeqCst);
                    pair.second = pair.first;
                });
                (guard, Observation::Poisoned)
            }
            Err(_) => {
                self.record_fault(Fault::Error);
                return None;
            }
        };
        if self.death.load(Ordering::SeqCst) != 0 && self.observation.load(Ordering::SeqCst) == 0 {
            // Written under the lock.
            self.observed_at.store(at, Ordering::SeqCst);
            self.observation.store(observation.code(), Ordering::SeqCst);
        }
        self.progress_of(process).at.store(at, Ordering::SeqCst);
        Some(guard)
    }

    /// Checks that the survivor was alone. It is about to unlock.
    fn leave(&self, process: u32) {
        if self.inside.swap(0, Ordering::SeqCst) != process {
            self.record_fault(Fault::TwoInside);
        }
    }

    fn section(&self, process: u32) {
        if let Some(mut guard) = self.enter(process, self.subject.lock()) {
            add(&mut guard, SHARE);
            self.leave(process);
        }
    }

    /// Waits on the condition variable until `done`, which changes under the lock.
    fn wait_for(&self, process: u32, done: &AtomicBool) {
        let mut entered = match self.subject.lock() {
            // The victim is about to repair it.
            Err(LockError::Poisoned(poisoned)) if self.death.load(Ordering::SeqCst) == 0 => {
                self.inside.store(process, Ordering::SeqCst);
                Some(poisoned.into_inner())
            }
            result => self.enter(process, result),
        };
        while let Some(guard) = entered.take() {
            if done.load(Ordering::SeqCst) {
                self.leave(process);
                return;
            }
            self.leave(process);
            self.progress_of(process).reach(stage::WAITING);
            let result = self.subject.wait(guard);
            entered = self.enter(process, result);
            self.progress_of(process)
                .returns
                .fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Sets `word` under the lock and notifies.
    fn set_and_notify(&self, process: u32, word: &AtomicBool, notify: fn(&S)) {
        if let Some(guard) = self.enter(process, self.subject.lock()) {
            word.store(true, Ordering::SeqCst);
            notify(&self.subject);
            self.leave(process);
            drop(guard);
        }
    }

    /// Locks once.
    pub(crate) fn lock_once(&self, process: u32) {
        self.section(process);
        self.progress_of(process).reach(stage::DONE);
    }

    /// Waits on the condition variable until the successor notifies.
    pub(crate) fn sleep(&self, process: u32) {
        self.wait_for(process, &self.go);
        self.progress_of(process).reach(stage::DONE);
    }

    /// Runs the first process that locks after the death.
    pub(crate) fn run_successor(&self, may_go_on: impl FnOnce()) {
        let progress_of = self.progress_of(SUCCESSOR);
        self.section(SUCCESSOR);
        progress_of.reach(stage::LOCKED);
        self.section(SUCCESSOR);
        self.section(SUCCESSOR);
        progress_of.reach(stage::LOCKED_AGAIN);
        may_go_on();
        self.set_and_notify(SUCCESSOR, &self.go, S::notify_all);
        progress_of.reach(stage::NOTIFIED);
        self.wait_for(SUCCESSOR, &self.partner_notified);
        progress_of.reach(stage::DONE);
    }

    /// Notifies the successor, as the last process.
    pub(crate) fn notify_successor(&self) {
        self.set_and_notify(PARTNER, &self.partner_notified, S::notify_one);
        self.progress_of(PARTNER).reach(stage::DONE);
    }
}
