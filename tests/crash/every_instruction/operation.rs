//! The operation of the victim, and the other processes of the scene.

use std::fmt;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{Ordering, compiler_fence};
use std::time::Duration;

use shm_sync::{LockError, LockResult, Poisoned};

use super::arena::{Arena, VICTIM};
use super::subject::{Subject, add};

/// One call, from its first instruction to its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// No operation: only the instructions of the harness.
    Nothing,
    /// The first lock of a process, which finds out its identity.
    FirstLock,
    Lock,
    TryLock,
    TryLockFor,
    Unlock,
    /// Lock, change the data, unlock.
    Section,
    /// Lock after an owner death.
    RecoverOwnerDeath,
    Recover,
    /// A panic that unwinds through the guard and is caught.
    Panic,
    Wait,
    WaitTimeout,
    NotifyOne,
    NotifyAll,
    /// Notify under the lock, then unlock.
    NotifyOneAndUnlock,
    NotifyAllAndUnlock,
}

impl Operation {
    /// The texts in a table, in the order of the rows.
    pub(crate) const TEXTS: [&str; 16] = [
        "first `lock` of a process",
        "`lock`",
        "`try_lock`",
        "`try_lock_for`",
        "unlock",
        "lock, change, unlock",
        "`lock` after an owner death",
        "`recover`",
        "panic",
        "`wait`",
        "`wait_timeout`",
        "`notify_one`",
        "`notify_all`",
        "`notify_one`, unlock",
        "`notify_all`, unlock",
        "(the harness itself)",
    ];
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "(the harness itself)",
            Self::FirstLock => "first `lock` of a process",
            Self::Lock => "`lock`",
            Self::TryLock => "`try_lock`",
            Self::TryLockFor => "`try_lock_for`",
            Self::Unlock => "unlock",
            Self::Section => "lock, change, unlock",
            Self::RecoverOwnerDeath => "`lock` after an owner death",
            Self::Recover => "`recover`",
            Self::Panic => "panic",
            Self::Wait => "`wait`",
            Self::WaitTimeout => "`wait_timeout`",
            Self::NotifyOne => "`notify_one`",
            Self::NotifyAll => "`notify_all`",
            Self::NotifyOneAndUnlock => "`notify_one`, unlock",
            Self::NotifyAllAndUnlock => "`notify_all`, unlock",
        })
    }
}

/// The other processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// None. The harness wakes the victim where necessary.
    Alone,
    /// Two processes wait on the condition variable. If the victim holds the lock, two
    /// more wait for the lock.
    Crowd,
    /// Like `Crowd`, but another process holds the lock. The victim falls asleep
    /// between two waiters, and the holder then unlocks.
    Behind,
    /// The victim falls asleep first, two others after it, and one is woken.
    First,
    /// Like `First` on the condition variable, but all are woken. The victim locks with
    /// a mark for the waiters behind it. So its unlock or its death wakes the next.
    Called,
    /// Like `First` on the lock, but a third process acquires the lock before the
    /// victim. It unlocks when the victim sleeps again or has died.
    Overtaken,
    /// Like `Crowd`, but the notifier does not hold the lock.
    Unlocked,
}

/// An operation in a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) operation: Operation,
    pub(crate) scene: Scene,
}

/// The state of the lock at the beginning of the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Free,
    /// A living process holds it.
    Taken,
    /// Its holder died and left torn data.
    OwnerDead,
    /// The victim holds it.
    Held,
    /// The victim holds it. It is poisoned, and the data are torn.
    Poisoned,
}

/// The waiters that a notification wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notified {
    None,
    One,
    All,
}

/// The value of the data after a repair by the victim.
const REPAIRED: u64 = 9;
/// A timeout that never ends in these tests.
const LONG: Duration = Duration::from_secs(3600);

impl Case {
    pub(crate) const fn new(operation: Operation, scene: Scene) -> Self {
        Self { operation, scene }
    }

    pub(crate) fn start(self) -> Start {
        use Operation as O;
        match (self.operation, self.scene) {
            (O::RecoverOwnerDeath, Scene::Alone) => Start::OwnerDead,
            (
                O::Lock | O::TryLockFor | O::RecoverOwnerDeath,
                Scene::Behind | Scene::First | Scene::Overtaken,
            ) => Start::Taken,
            (
                O::Unlock
                | O::Panic
                | O::Wait
                | O::WaitTimeout
                | O::NotifyOneAndUnlock
                | O::NotifyAllAndUnlock,
                _,
            )
            | (O::NotifyOne | O::NotifyAll, Scene::Crowd) => Start::Held,
            (O::Recover, _) => Start::Poisoned,
            _ => Start::Free,
        }
    }

    pub(crate) fn waits(self) -> bool {
        matches!(self.operation, Operation::Wait | Operation::WaitTimeout)
    }

    /// Returns whether the victim may fall asleep.
    pub(crate) fn may_sleep(self) -> bool {
        self.waits() || self.start() == Start::Taken
    }

    /// Returns which waiters the victim notifies, if it gets there.
    pub(crate) fn notifies(self) -> Notified {
        match self.operation {
            Operation::NotifyOne | Operation::NotifyOneAndUnlock => Notified::One,
            Operation::NotifyAll | Operation::NotifyAllAndUnlock => Notified::All,
            _ => Notified::None,
        }
    }

    /// Returns which waiters the harness notifies when the victim sleeps.
    pub(crate) fn is_notified_with(self) -> Notified {
        match self.scene {
            Scene::First if self.waits() => Notified::One,
            Scene::Crowd | Scene::Called if self.waits() => Notified::All,
            _ => Notified::None,
        }
    }
}

/// The victim's hold on the lock at the beginning of its operation.
pub(crate) enum Held<'a, S: Subject + 'a> {
    Nothing,
    Lock(S::Guard<'a>),
    Poisoned(Poisoned<S::Guard<'a>>),
}

/// Prepares the victim for its operation.
pub(crate) fn prepare<S: Subject>(case: Case, arena: &Arena<S>) -> Held<'_, S> {
    if case.operation != Operation::FirstLock {
        warm_up(case, &arena.spare);
    }
    match case.start() {
        Start::Free | Start::Taken | Start::OwnerDead => Held::Nothing,
        Start::Held => {
            let Ok(mut guard) = arena.subject.lock() else {
                panic!("the lock is not free");
            };
            match case.operation {
                Operation::Unlock
                | Operation::NotifyOneAndUnlock
                | Operation::NotifyAllAndUnlock => add(&mut guard, 1),
                Operation::Panic => guard.first += 1,
                _ => {}
            }
            if !case.waits() && case.operation != Operation::Panic {
                arena.inside.store(VICTIM, Ordering::SeqCst);
            }
            Held::Lock(guard)
        }
        Start::Poisoned => match arena.subject.lock() {
            Err(LockError::Poisoned(poisoned)) => Held::Poisoned(poisoned),
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("the lock is not poisoned"),
        },
    }
}

/// Uses each operation once, because the first use in a process takes a different path.
fn warm_up<S: Subject>(case: Case, spare: &S) {
    drop(spare.try_lock());
    drop(spare.try_lock_for(LONG));
    spare.notify_one();
    spare.notify_all();
    if let Ok(guard) = spare.lock() {
        drop(spare.wait_timeout(guard, Duration::ZERO));
    }
    if case.operation == Operation::Panic {
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

/// Runs the operation.
pub(crate) fn walk<'a, S: Subject>(case: Case, arena: &'a Arena<S>, held: Held<'a, S>) {
    const SHORT: Duration = Duration::from_millis(5);
    let subject = &arena.subject;
    match (case.operation, held) {
        (Operation::Nothing, _) => {}
        (Operation::FirstLock | Operation::Lock | Operation::RecoverOwnerDeath, _) => {
            keep(arena, subject.lock());
        }
        (Operation::TryLock, _) => keep(arena, subject.try_lock()),
        (Operation::TryLockFor, _) => keep(arena, subject.try_lock_for(LONG)),
        (Operation::Unlock, Held::Lock(guard)) => {
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
        (Operation::Recover, Held::Poisoned(poisoned)) => {
            std::mem::forget(subject.recover(poisoned, |pair| {
                pair.first = black_box(REPAIRED);
                compiler_fence(Ordering::SeqCst);
                pair.second = black_box(REPAIRED);
            }));
        }
        (Operation::Panic, Held::Lock(guard)) => panic_with(guard),
        (Operation::Wait, Held::Lock(guard)) => keep(arena, subject.wait(guard)),
        (Operation::WaitTimeout, Held::Lock(guard)) => {
            let timeout = match case.scene {
                Scene::Alone => SHORT,
                _ => LONG,
            };
            keep(arena, subject.wait_timeout(guard, timeout));
        }
        (Operation::NotifyOne, held) => {
            subject.notify_one();
            std::mem::forget(held);
        }
        (Operation::NotifyAll, held) => {
            subject.notify_all();
            std::mem::forget(held);
        }
        (Operation::NotifyOneAndUnlock, Held::Lock(guard)) => {
            subject.notify_one();
            arena.inside.store(0, Ordering::SeqCst);
            drop(guard);
        }
        (Operation::NotifyAllAndUnlock, Held::Lock(guard)) => {
            subject.notify_all();
            arena.inside.store(0, Ordering::SeqCst);
            drop(guard);
        }
        _ => panic!("the operation does not match what the victim holds"),
    }
}

/// Keeps the lock until the victim is killed. Records whether the lock was poisoned.
fn keep<S: Subject, G>(arena: &Arena<S>, result: LockResult<G>) {
    let poisoned = matches!(result, Err(LockError::Poisoned(_)));
    std::mem::forget(result);
    arena.victim_saw_poison.store(poisoned, Ordering::SeqCst);
}
