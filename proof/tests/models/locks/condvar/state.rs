//! The states of the condition variable.

use std::fmt;

/// The number of a process.
pub(super) type Id = u8;

/// Some processes, one bit each.
pub(super) type Set = u8;

/// The greatest number of processes in a scenario.
pub(super) const PROCESSES: usize = 5;

/// The mutex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lock {
    Free,
    HeldBy(Id),
    OwnerDied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Poison {
    Clean,
    Set,
}

/// The condition of flag waiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flag {
    Clear,
    Set,
}

/// The waiters for which a notification is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Targets {
    One,
    All,
}

/// The moment at which a process notifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotifyWhen {
    /// It holds the mutex, and unlocks it after each notification.
    UnderLock,
    /// It holds the mutex, and unlocks it after its last notification.
    UnderOneLock,
    /// It holds the mutex and does not know it: it is C code, or has locked another
    /// mutex since.
    UnderUnknownLock,
    AfterUnlock,
}

/// The part of a process in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Puts items, one at a time, and notifies after each.
    Producer {
        items: u8,
        targets: Targets,
        when: NotifyWhen,
    },
    /// Takes items for ever, and waits while there are none.
    Consumer,
    /// Takes one item, for which it waits, and ends.
    TakerOfOne,
    /// Takes items as a consumer, but with a deadline. Ends if the deadline ends its
    /// wait.
    TimedConsumer,
    /// Sets the flag and notifies all. Then it puts items, one at a time, and notifies
    /// one waiter of each. No flag waiter begins to wait after the first item.
    FlagSetter {
        items: u8,
        when: NotifyWhen,
    },
    /// Waits until the flag is set, and ends. It takes no items.
    FlagWaiter,
    /// Locks, panics and unlocks. It notifies no waiter.
    Panicker,
    /// Locks, repairs poisoned data and unlocks. It notifies no waiter.
    Repairer,
    Absent,
}

impl Role {
    pub(super) fn when(self) -> Option<NotifyWhen> {
        match self {
            Self::Producer { when, .. } | Self::FlagSetter { when, .. } => Some(when),
            _ => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = |when: &NotifyWhen| match when {
            NotifyWhen::UnderLock => "under the lock",
            NotifyWhen::UnderOneLock => "under one lock",
            NotifyWhen::UnderUnknownLock => "under the lock, unknowingly",
            NotifyWhen::AfterUnlock => "after unlock",
        };
        match self {
            Self::Producer {
                items,
                targets,
                when: at,
            } => {
                let call = match targets {
                    Targets::One => "notify_one",
                    Targets::All => "notify_all",
                };
                write!(f, "producer ({items} × {call} {})", when(at))
            }
            Self::Consumer => f.write_str("consumer"),
            Self::TakerOfOne => f.write_str("taker of one item"),
            Self::TimedConsumer => f.write_str("consumer with a deadline"),
            Self::FlagSetter { items, when: at } => {
                write!(f, "notify_all and {items} × notify_one {}", when(at))
            }
            Self::FlagWaiter => f.write_str("waiter for a flag"),
            Self::Panicker => f.write_str("panicking holder"),
            Self::Repairer => f.write_str("repairing holder"),
            Self::Absent => f.write_str("absent"),
        }
    }
}

/// The next step of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Step {
    #[default]
    Lock,
    LockWaiting,
    SetPoison,
    AddEpoch,
    /// With [`Mistake::MarkedAfterLock`] only.
    MarkLate,
    AddSequence,
    ReadWaiters,
    Wake,
    Mark,
    Move,
    CheckPoison,
    ClearPoison,
    Work,
    ReadSequence,
    ReadEpoch,
    UnlockForWait,
    Unlock,
    WakeLockers,
    WakeDeferred,
    Spin,
    AddWaiter,
    FutexWait,
    Waiting,
    CheckOwnerDeath,
    CheckEpoch,
    CheckDeadline,
    RemoveWaiter,
    CheckGeneration,
    Done,
    Dying,
    DyingWakes,
    Dead,
}

/// The present call of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// It locks for the first time.
    #[default]
    FirstLock,
    /// It waits, and locks again.
    Relock,
    /// It locks again after a wait that its deadline ended.
    RelockTimedOut,
    /// It has seen an owner death after a wait, and notifies all waiters.
    NotifyOfDeath,
    /// It has put an item, and notifies one waiter.
    NotifyOne,
    /// It has put an item or set the flag, and notifies all waiters.
    NotifyAll,
    Panic,
}

/// The data of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) step: Step,
    pub(super) purpose: Purpose,
    /// The sequence before the wait. For `WaitersReadFirst`, the waiters that a
    /// notifier read.
    pub(super) seen: u8,
    /// The generation before the wait.
    pub(super) generation: u8,
    /// The sequence had changed when the timer of its wait expired. Only a process with
    /// a deadline notes it.
    pub(super) notified_in_time: bool,
    /// It has slept in the queue of the mutex, or may have. So it sets `FUTEX_WAITERS`
    /// when it locks.
    pub(super) queued: bool,
    /// The poison epoch before the wait, as the code reads it.
    pub(super) epoch_seen: u8,
    /// The number of poisonings at the unlock, whether the code counts them or not.
    pub(super) real_epoch: u8,
    /// The number of items that it has still to put.
    pub(super) items_left: u8,
    /// The number of waiters on the sequence that it wakes after the unlock.
    pub(super) deferred: u8,
    /// Its unlock wakes several waiters on the lock word.
    pub(super) wakes_several: bool,
    /// `list_op_pending` named the mutex when it was killed.
    pub(super) pending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) lock: Lock,
    /// `FUTEX_WAITERS` in the lock word.
    pub(super) is_marked: bool,
    pub(super) poison: Poison,
    pub(super) epoch: u8,
    /// The number of poisonings, whether the code counts them or not.
    pub(super) real_epoch: u8,
    pub(super) sequence: u8,
    pub(super) generation: u8,
    pub(super) waiters: u8,
    pub(super) items: u8,
    pub(super) flag: Flag,
    /// The waiters on the sequence.
    pub(super) queue: Set,
    /// The waiters on the lock word.
    pub(super) lock_queue: Set,
    pub(super) processes: [Process; PROCESSES],
    pub(super) deaths_left: u8,
}

impl State {
    pub(super) fn all(&self) -> impl Iterator<Item = (Id, &Process)> {
        (0..).zip(&self.processes)
    }

    pub(super) fn step(&self, id: Id) -> Step {
        self.processes[id as usize].step
    }
}

/// An action. The first number is the acting process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The process takes its next step.
    Step(Id),
    /// The process, or the kernel for it, wakes these waiters.
    Wake(Id, Set),
    /// The recheck interval or the deadline of its wait ends.
    TimeOut(Id),
    /// The process finds that its deadline has passed.
    GiveUp(Id),
    /// The process is killed.
    Die(Id),
}

/// A mistake in this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    SequenceReadLate,
    EpochReadLate,
    WaiterAddedLate,
    WaitersReadFirst,
    SequenceKept,
    NotifierRemovesWaiter,
    DeadlineOverridesWake,
    TimeoutOverridesNotification,
    TimeoutWithoutLock,
    RefusedWaitRetried,
    SequenceReadAgain,
    OwnerDeathUnchecked,
    EpochUnchecked,
    EpochKept,
    DeathNotPassedOn,
    DeathPassedToOne,
    GenerationKept,
    MoveUnmarked,
    NeverMarked,
    FirstDoNotMark,
    MarkedUnlessTimedOut,
    MarkedAfterLock,
    NotPendingInWait,
    MarkDroppedByHeir,
    UnlockForWaitWakesNone,
    DeferredForgotten,
    DeferredOnce,
    OneWokenWithoutLock,
    MovedWithoutLock,
    MovedBehindOneWithoutLock,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::SequenceReadLate => "a waiter reads the sequence after it unlocks",
            Self::EpochReadLate => "a waiter reads the poison epoch after it unlocks",
            Self::WaiterAddedLate => {
                "a waiter adds itself to `waiters` after it compares the sequence"
            }
            Self::WaitersReadFirst => "a notifier reads `waiters` before it adds to the sequence",
            Self::SequenceKept => "a notifier wakes a waiter and does not add to the sequence",
            Self::NotifierRemovesWaiter => "a notifier removes the woken waiter from `waiters`",
            Self::DeadlineOverridesWake => "a waiter woken after its deadline reports a timeout",
            Self::TimeoutOverridesNotification => {
                "a waiter notified before its deadline reports a timeout"
            }
            Self::TimeoutWithoutLock => "a waiter returns from a timeout without the mutex",
            Self::RefusedWaitRetried => "a wait that the kernel refuses is tried again",
            Self::SequenceReadAgain => "a waiter reads the sequence again after a recheck",
            Self::OwnerDeathUnchecked => "a recheck does not check for owner death",
            Self::EpochUnchecked => "a recheck does not compare the poison epoch",
            Self::EpochKept => "poisoning does not advance the poison epoch",
            Self::DeathNotPassedOn => "a waiter that sees an owner death notifies no process",
            Self::DeathPassedToOne => "a waiter that sees an owner death notifies one process",
            Self::GenerationKept => "`notify_all` begins no generation",
            Self::MoveUnmarked => "`notify_all` moves the waiters and does not mark the lock word",
            Self::NeverMarked => "a woken waiter locks without the mark",
            Self::FirstDoNotMark => {
                "the waiters that the notifier's unlock wakes lock without the mark"
            }
            Self::MarkedUnlessTimedOut => "a waiter that timed out locks without the mark",
            Self::MarkedAfterLock => "a woken waiter marks the lock word after it has locked",
            Self::NotPendingInWait => "`list_op_pending` is not set during the wait",
            Self::MarkDroppedByHeir => "the next locker after an owner death clears the mark",
            Self::UnlockForWaitWakesNone => "the unlock before a wait wakes no moved waiter",
            Self::DeferredForgotten => "an unlock forgets the deferred wake-ups",
            Self::DeferredOnce => "an unlock makes one of two deferred wake-ups",
            Self::OneWokenWithoutLock => "`notify_all` without the mutex wakes one waiter",
            Self::MovedWithoutLock => "`notify_all` without the mutex moves the waiters",
            Self::MovedBehindOneWithoutLock => {
                "`notify_all` without the mutex wakes one waiter and moves the others"
            }
        })
    }
}

/// The processes that recheck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recheck {
    NoProcess,
    OnlyFirst,
    EveryProcess,
}

/// The processes that may be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MayDie {
    AnyProcess,
    /// Only this process, while all other processes wait.
    WhileOthersWait(Id),
    /// Only flag waiters, while all other processes wait or have ended. Not in the gap
    /// between the end of a wait and the lock.
    FlagWaiterOutsideGap,
}

/// What a process does that finds the mutex held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lockers {
    /// It locks as soon as it can.
    Spin,
    /// It sleeps on the lock word.
    Sleep,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condvar {
    pub(super) roles: [Role; PROCESSES],
    pub(super) lockers: Lockers,
    /// How many moved waiters the notifier's unlock wakes.
    pub(super) woken_together: u8,
    pub(super) recheck: Recheck,
    pub(super) deaths: u8,
    pub(super) may_die: MayDie,
    pub(super) mistake: Mistake,
}
