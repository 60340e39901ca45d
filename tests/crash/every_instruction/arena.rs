//! What the processes share, and what the survivors do in it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use shm_sync::{LockError, LockResult, PoisonCause, ShmSafe};

use super::subject::{Subject, add};

/// By what numbers processes go when they are inside.
pub(crate) const VICTIM: u32 = 1;
pub(crate) const HEIR: u32 = 2;
pub(crate) const FRIEND: u32 = 3;
pub(crate) const LOCKERS: [u32; 2] = [4, 5];
pub(crate) const SLEEPERS: [u32; 2] = [6, 7];
const SEATS: usize = 8;

/// What each survivor adds to the numbers: more than any victim.
const SHARE: u64 = 1000;

/// What must never be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The data are torn, and the lock does not say so.
    Torn,
    TwoInside,
    /// The victim's change is gone, though it had given the lock back.
    LostUpdate,
    /// Poisoned again after a repair.
    PoisonedTwice,
    /// An error that there is no reason for.
    Error,
    /// Inheriting did not bring the news.
    NotTold,
    /// A fresh process does not get the lock.
    LockStuck,
    /// Those asleep on the lock don't get it.
    LockersStuck,
    /// Those asleep on the condition variable don't learn what they must.
    SleepersStuck,
    /// A fresh process can't notify, or those asleep don't wake from it.
    NotifyStuck,
    /// Afterwards, two fresh processes can't wait for each other.
    RoundTripStuck,
}

impl Fault {
    pub(crate) const ALL: [Self; 11] = [
        Self::Torn,
        Self::TwoInside,
        Self::LostUpdate,
        Self::PoisonedTwice,
        Self::Error,
        Self::NotTold,
        Self::LockStuck,
        Self::LockersStuck,
        Self::SleepersStuck,
        Self::NotifyStuck,
        Self::RoundTripStuck,
    ];

    pub(crate) fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Whether somebody can't go on.
    pub(crate) fn is_stuck(self) -> bool {
        matches!(
            self,
            Self::LockStuck
                | Self::LockersStuck
                | Self::SleepersStuck
                | Self::NotifyStuck
                | Self::RoundTripStuck
        )
    }
}

/// How a survivor finds the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    CleanBefore,
    CleanAfter,
    Poisoned,
}

impl Sight {
    pub(crate) const ALL: [Self; 3] = [Self::CleanBefore, Self::CleanAfter, Self::Poisoned];

    /// 0 is for none.
    pub(crate) fn code(self) -> u32 {
        1 + self as u32
    }

    pub(crate) fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|sight| sight.code() == code)
    }
}

/// How far a survivor has come; 0 where it begins.
pub(crate) mod stage {
    /// Has the lock, and is about to wait for a notification.
    pub(crate) const WAITING: u32 = 1;
    /// Has had the lock.
    pub(crate) const LOCKED: u32 = 2;
    pub(crate) const LOCKED_AGAIN: u32 = 3;
    pub(crate) const NOTIFIED: u32 = 4;
    pub(crate) const DONE: u32 = 5;
}

/// Where a survivor writes down how it gets on.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub(crate) struct Seat {
    stage: AtomicU32,
    /// How often it has come back from a wait.
    returns: AtomicU32,
    /// When it has last got the lock.
    at: AtomicU64,
}

impl Seat {
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
    /// For doing things the first time.
    pub(crate) spare: S,
    /// Who is inside the lock, by its own account.
    pub(crate) inside: AtomicU32,
    faults: AtomicU32,
    /// The time of the death, in nanoseconds; 0 before.
    pub(crate) death: AtomicU64,
    /// How the lock was found first after the death, and when.
    sight: AtomicU32,
    deaths_seen: AtomicU32,
    panics_seen: AtomicU32,
    repairs: AtomicU32,
    sight_at: AtomicU64,
    seats: [Seat; SEATS],
    /// The sleepers may go.
    go: AtomicBool,
    /// The heir may go.
    ball: AtomicBool,
    pub(crate) victim_was_told: AtomicBool,
    /// Whether another than the victim got bad news before the victim's death.
    early_inheritance: AtomicBool,
}

/// The monotonic clock, in nanoseconds: the same for all processes.
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
            sight: AtomicU32::new(0),
            deaths_seen: AtomicU32::new(0),
            panics_seen: AtomicU32::new(0),
            repairs: AtomicU32::new(0),
            sight_at: AtomicU64::new(0),
            seats: std::array::from_fn(|_| Seat::default()),
            go: AtomicBool::new(false),
            ball: AtomicBool::new(false),
            victim_was_told: AtomicBool::new(false),
            early_inheritance: AtomicBool::new(false),
        }
    }

    pub(crate) fn seat(&self, who: u32) -> &Seat {
        &self.seats[who as usize]
    }

    pub(crate) fn blame(&self, fault: Fault) {
        self.faults.fetch_or(fault.bit(), Ordering::SeqCst);
    }

    pub(crate) fn faults(&self) -> u32 {
        self.faults.load(Ordering::SeqCst)
    }

    /// How the lock was found first after the death, and when.
    pub(crate) fn first_sight(&self) -> Option<(Sight, u64)> {
        let sight = Sight::from_code(self.sight.load(Ordering::SeqCst))?;
        Some((sight, self.sight_at.load(Ordering::SeqCst)))
    }

    /// Whether a survivor was told of a holder's death since the victim's.
    pub(crate) fn was_told_of_a_death(&self) -> bool {
        self.deaths_seen.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn somebody_else_inherited(&self) -> bool {
        self.early_inheritance.load(Ordering::SeqCst)
    }

    pub(crate) fn was_told_of_a_panic(&self) -> bool {
        self.panics_seen.load(Ordering::SeqCst) > 0
    }

    /// A survivor is inside: what it sees there. It repairs what is in doubt.
    fn enter<'a>(&'a self, who: u32, result: LockResult<S::Guard<'a>>) -> Option<S::Guard<'a>> {
        let at = now();
        let (guard, sight) = match result {
            Ok(guard) => {
                let inside = self.inside.swap(who, Ordering::SeqCst);
                if inside != 0 {
                    self.blame(Fault::TwoInside);
                }
                if guard.first != guard.second {
                    self.blame(Fault::Torn);
                }
                let sight = if guard.first.is_multiple_of(SHARE) {
                    Sight::CleanBefore
                } else {
                    Sight::CleanAfter
                };
                (guard, sight)
            }
            Err(LockError::Poisoned(poisoned)) => {
                let seen = match poisoned.cause() {
                    PoisonCause::Panicked { .. } => &self.panics_seen,
                    _ => &self.deaths_seen,
                };
                let is_dead = self.death.load(Ordering::SeqCst) != 0;
                if !is_dead {
                    self.early_inheritance.store(true, Ordering::SeqCst);
                }
                if is_dead || matches!(poisoned.cause(), PoisonCause::Panicked { .. }) {
                    seen.fetch_add(1, Ordering::SeqCst);
                    if self.repairs.fetch_add(1, Ordering::SeqCst) > 0 {
                        self.blame(Fault::PoisonedTwice);
                    }
                }
                let guard = self.subject.recover(poisoned, |pair| {
                    self.inside.store(who, Ordering::SeqCst);
                    pair.second = pair.first;
                });
                (guard, Sight::Poisoned)
            }
            Err(_) => {
                self.blame(Fault::Error);
                return None;
            }
        };
        if self.death.load(Ordering::SeqCst) != 0 && self.sight.load(Ordering::SeqCst) == 0 {
            // Under the lock.
            self.sight_at.store(at, Ordering::SeqCst);
            self.sight.store(sight.code(), Ordering::SeqCst);
        }
        self.seat(who).at.store(at, Ordering::SeqCst);
        Some(guard)
    }

    /// Is about to give the lock back.
    fn leave(&self, who: u32) {
        if self.inside.swap(0, Ordering::SeqCst) != who {
            self.blame(Fault::TwoInside);
        }
    }

    fn section(&self, who: u32) {
        if let Some(mut guard) = self.enter(who, self.subject.lock()) {
            add(&mut guard, SHARE);
            self.leave(who);
        }
    }

    /// Waits until `done`, which is changed under the lock.
    fn wait_for(&self, who: u32, done: &AtomicBool) {
        let mut entered = match self.subject.lock() {
            // The victim is about to repair it.
            Err(LockError::Poisoned(poisoned)) if self.death.load(Ordering::SeqCst) == 0 => {
                self.inside.store(who, Ordering::SeqCst);
                Some(poisoned.into_inner())
            }
            result => self.enter(who, result),
        };
        while let Some(guard) = entered.take() {
            if done.load(Ordering::SeqCst) {
                self.leave(who);
                return;
            }
            self.leave(who);
            self.seat(who).reach(stage::WAITING);
            let result = self.subject.wait(guard);
            entered = self.enter(who, result);
            self.seat(who).returns.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Changes `word` under the lock and notifies.
    fn tell(&self, who: u32, word: &AtomicBool, notify: fn(&S)) {
        if let Some(guard) = self.enter(who, self.subject.lock()) {
            word.store(true, Ordering::SeqCst);
            notify(&self.subject);
            self.leave(who);
            drop(guard);
        }
    }

    /// A process that wants the lock once.
    pub(crate) fn lock_once(&self, who: u32) {
        self.section(who);
        self.seat(who).reach(stage::DONE);
    }

    /// A process that waits to be told to go.
    pub(crate) fn sleep(&self, who: u32) {
        self.wait_for(who, &self.go);
        self.seat(who).reach(stage::DONE);
    }

    /// The first to come after the death.
    pub(crate) fn inherit(&self, may_go_on: impl FnOnce()) {
        let seat = self.seat(HEIR);
        self.section(HEIR);
        seat.reach(stage::LOCKED);
        self.section(HEIR);
        self.section(HEIR);
        seat.reach(stage::LOCKED_AGAIN);
        may_go_on();
        self.tell(HEIR, &self.go, S::notify_all);
        seat.reach(stage::NOTIFIED);
        self.wait_for(HEIR, &self.ball);
        seat.reach(stage::DONE);
    }

    /// The last to come.
    pub(crate) fn befriend(&self) {
        self.tell(FRIEND, &self.ball, S::notify_one);
        self.seat(FRIEND).reach(stage::DONE);
    }
}
