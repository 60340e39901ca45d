//! What the victim does, and among whom.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{Ordering, compiler_fence};
use std::time::Duration;

use shm_sync::{LockError, LockResult, Poisoned};

use super::arena::{Arena, VICTIM};
use super::subject::{Subject, add};

/// One call, from before its first instruction to behind its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// The instructions that the harness itself has on every way.
    Nothing,
    /// The first of a process: it finds out who it is.
    FirstLock,
    Lock,
    TryLock,
    TryLockFor,
    Unlock,
    /// Lock, change the data, unlock.
    Section,
    /// Lock after a holder's death.
    Inherit,
    Recover,
    /// A panic that unwinds through the guard, and is caught.
    Panic,
    Wait,
    WaitTimeout,
    NotifyOne,
    NotifyAll,
}

/// Who else is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// Nobody. Whoever must wake the victim does.
    Alone,
    /// Two sleep on the condition variable and, if the victim holds the lock, two
    /// on the lock.
    Crowd,
    /// As `Crowd`, but the lock is held: the victim falls asleep between two others, and
    /// the holder gives it back then.
    Behind,
    /// The victim is the first to fall asleep, two others are behind it, and one is
    /// woken.
    First,
    /// As `First` on the condition variable, and all are woken: the victim is the one
    /// who wakes the next.
    Called,
    /// As `First` on the lock, but a third takes it before the victim can, and gives it
    /// back when the victim sleeps again or is dead.
    Overtaken,
    /// As `Crowd`, and the notifier does not hold the lock.
    Unlocked,
}

/// One way of the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) operation: Operation,
    pub(crate) scene: Scene,
}

/// The state of the lock where the way begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Free,
    /// A living process holds it.
    Taken,
    /// Its holder has died, with the data torn.
    OwnerDead,
    /// The victim holds it.
    Held,
    /// The victim holds it, poisoned, with the data torn.
    Doubted,
}

/// Why a survivor must come back from its wait by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notified {
    Nobody,
    One,
    All,
}

/// What the data are after a repair by the victim.
const REPAIRED: u64 = 9;
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(3600);

impl Way {
    pub(crate) const fn new(operation: Operation, scene: Scene) -> Self {
        Self { operation, scene }
    }

    pub(crate) fn start(self) -> Start {
        use Operation as O;
        match (self.operation, self.scene) {
            (O::Inherit, Scene::Alone) => Start::OwnerDead,
            (
                O::Lock | O::TryLockFor | O::Inherit,
                Scene::Behind | Scene::First | Scene::Overtaken,
            ) => Start::Taken,
            (O::Unlock | O::Panic | O::Wait | O::WaitTimeout, _)
            | (O::NotifyOne | O::NotifyAll, Scene::Crowd) => Start::Held,
            (O::Recover, _) => Start::Doubted,
            _ => Start::Free,
        }
    }

    pub(crate) fn waits(self) -> bool {
        matches!(self.operation, Operation::Wait | Operation::WaitTimeout)
    }

    /// Whether the victim may fall asleep.
    pub(crate) fn may_sleep(self) -> bool {
        self.waits() || self.start() == Start::Taken
    }

    /// Whom the victim notifies, if it gets there.
    pub(crate) fn notifies(self) -> Notified {
        match self.operation {
            Operation::NotifyOne => Notified::One,
            Operation::NotifyAll => Notified::All,
            _ => Notified::Nobody,
        }
    }

    /// Whom the others notify when the victim sleeps.
    pub(crate) fn is_notified_with(self) -> Notified {
        match self.scene {
            Scene::First if self.waits() => Notified::One,
            Scene::Crowd | Scene::Called if self.waits() => Notified::All,
            _ => Notified::Nobody,
        }
    }
}

/// What the victim has at the beginning of its way.
pub(crate) enum Stake<'a, S: Subject + 'a> {
    Nothing,
    Lock(S::Guard<'a>),
    Doubt(Poisoned<S::Guard<'a>>),
}

/// Brings the victim to the beginning of its way.
pub(crate) fn prepare<S: Subject>(way: Way, arena: &Arena<S>) -> Stake<'_, S> {
    if way.operation != Operation::FirstLock {
        warm_up(way, &arena.spare);
    }
    match way.start() {
        Start::Free | Start::Taken | Start::OwnerDead => Stake::Nothing,
        Start::Held => {
            let Ok(mut guard) = arena.subject.lock() else {
                panic!("it is not free");
            };
            match way.operation {
                Operation::Unlock => add(&mut guard, 1),
                Operation::Panic => guard.first += 1,
                _ => {}
            }
            if matches!(
                way.operation,
                Operation::Unlock | Operation::NotifyOne | Operation::NotifyAll
            ) {
                arena.inside.store(VICTIM, Ordering::SeqCst);
            }
            Stake::Lock(guard)
        }
        Start::Doubted => match arena.subject.lock() {
            Err(LockError::Poisoned(poisoned)) => Stake::Doubt(poisoned),
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("nobody died"),
        },
    }
}

/// Does once what a process does differently the first time.
fn warm_up<S: Subject>(way: Way, spare: &S) {
    drop(spare.try_lock());
    drop(spare.try_lock_for(LONG));
    spare.notify_one();
    spare.notify_all();
    if let Ok(guard) = spare.lock() {
        drop(spare.wait_timeout(guard, Duration::ZERO));
    }
    if way.operation == Operation::Panic {
        panic_with(spare.lock());
    }
}

fn panic_with<G>(guard: G) {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _guard = guard;
        resume_unwind(Box::new(()));
    }));
    assert!(caught.is_err());
}

/// The way itself.
pub(crate) fn walk<'a, S: Subject>(way: Way, arena: &'a Arena<S>, stake: Stake<'a, S>) {
    const SHORT: Duration = Duration::from_millis(5);
    let subject = &arena.subject;
    match (way.operation, stake) {
        (Operation::Nothing, _) => {}
        (Operation::FirstLock | Operation::Lock | Operation::Inherit, _) => {
            keep(arena, subject.lock());
        }
        (Operation::TryLock, _) => keep(arena, subject.try_lock()),
        (Operation::TryLockFor, _) => keep(arena, subject.try_lock_for(LONG)),
        (Operation::Unlock, Stake::Lock(guard)) => {
            arena.inside.store(0, Ordering::SeqCst);
            drop(guard);
        }
        (Operation::Section, _) => {
            if let Ok(mut guard) = subject.lock() {
                arena.inside.store(VICTIM, Ordering::SeqCst);
                add(&mut guard, 1);
                arena.inside.store(0, Ordering::SeqCst);
            }
        }
        (Operation::Recover, Stake::Doubt(poisoned)) => {
            std::mem::forget(subject.recover(poisoned, |pair| {
                pair.first = black_box(REPAIRED);
                compiler_fence(Ordering::SeqCst);
                pair.second = black_box(REPAIRED);
            }));
        }
        (Operation::Panic, Stake::Lock(guard)) => panic_with(guard),
        (Operation::Wait, Stake::Lock(guard)) => keep(arena, subject.wait(guard)),
        (Operation::WaitTimeout, Stake::Lock(guard)) => {
            let timeout = match way.scene {
                Scene::Alone => SHORT,
                _ => LONG,
            };
            keep(arena, subject.wait_timeout(guard, timeout));
        }
        (Operation::NotifyOne, stake) => {
            subject.notify_one();
            std::mem::forget(stake);
        }
        (Operation::NotifyAll, stake) => {
            subject.notify_all();
            std::mem::forget(stake);
        }
        _ => panic!("no stake for this"),
    }
}

/// Keeps the lock until death, and notes whether there was bad news with it.
fn keep<S: Subject, G>(arena: &Arena<S>, result: LockResult<G>) {
    let poisoned = matches!(result, Err(LockError::Poisoned(_)));
    std::mem::forget(result);
    arena.victim_was_told.store(poisoned, Ordering::SeqCst);
}
