//! What the states of the condition variable are made of.

use std::fmt;

/// A process, by its number.
pub(super) type Id = u8;

/// The most processes of any cast.
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

/// What guests wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flag {
    Clear,
    Set,
}

/// How many sleepers a notification is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Targets {
    One,
    All,
}

/// When a producer or a host notifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotifyWhen {
    UnderLock,
    AfterUnlock,
}

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Puts that many items, one at a time, and notifies after each.
    Producer {
        items: u8,
        targets: Targets,
        when: NotifyWhen,
    },
    /// Takes items for ever, and waits while there are none.
    Consumer,
    /// The same, but waits with a deadline, and gives up if that is what ends its wait.
    TimedConsumer,
    /// Opens the door and notifies all; then puts that many items, one at a time, and
    /// notifies one of each. So no guest begins to wait once there are items.
    FlagSetter { items: u8, when: NotifyWhen },
    /// Waits until the door is open, and goes. An item is nothing to it.
    FlagWaiter,
    /// Locks, panics, unlocks. Tells no condition variable.
    Panicker,
    /// Locks, repairs if there is need, unlocks. Tells no condition variable.
    Repairer,
    /// Not there.
    Absent,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = |when: &NotifyWhen| match when {
            NotifyWhen::UnderLock => "under the lock",
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

/// The next thing that a process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Step {
    #[default]
    Lock,
    SetPoison,
    AddEpoch,
    AddSequence,
    ReadWaiters,
    Wake,
    CheckPoison,
    ClearPoison,
    Work,
    ReadSequence,
    ReadEpoch,
    UnlockForWait,
    Spin,
    AddWaiter,
    FutexWait,
    Waiting,
    CheckOwnerDeath,
    CheckEpoch,
    CheckDeadline,
    RemoveWaiter,
    CheckGeneration,
    ReadWaitersAgain,
    WakeNext,
    Unlock,
    Done,
    Dying,
    Dead,
}

/// What a process is in the middle of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// Nothing in particular: it comes to lock.
    #[default]
    FirstLock,
    /// It comes back from a wait.
    Relock,
    /// It comes back from a wait that its deadline ended.
    RelockTimedOut,
    /// It came back from a wait, learned of a death, and tells the others.
    NotifyOfDeath,
    /// It has put an item, and notifies one.
    NotifyOne,
    /// It has put an item or opened the door, and notifies all.
    NotifyAll,
    /// It panics.
    Panic,
}

/// What only one process knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) step: Step,
    pub(super) purpose: Purpose,
    /// The sequence before the wait. (For `LooksFirst`, the sleepers of a notifier.)
    pub(super) seen: u8,
    /// The generation before the wait. Of other notifies or calls the next one: the
    /// generation by which it chooses whom it wakes.
    pub(super) generation: u8,
    /// How many poisonings there were before the wait, as the code knows it.
    pub(super) epoch_seen: u8,
    /// How many there really were when the mutex was given back.
    pub(super) real_epoch: u8,
    /// How many items it has still to put.
    pub(super) items_left: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) lock: Lock,
    pub(super) poison: Poison,
    pub(super) epoch: u8,
    /// How many poisonings there were, whether the code counts them or not.
    pub(super) real_epoch: u8,
    pub(super) sequence: u8,
    pub(super) generation: u8,
    pub(super) waiters: u8,
    pub(super) items: u8,
    pub(super) flag: Flag,
    /// Who sleeps on the sequence, a bit for each.
    pub(super) queue: u8,
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

/// What can happen. The first number is the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The process does its step.
    Step(Id),
    /// The process wakes this one: `Step::Wake` or `Step::CallNext`.
    Wake(Id, Id),
    /// Its sleep is over: a heartbeat, or its deadline.
    TimeOut(Id),
    /// Its deadline turns out to have passed.
    GiveUp(Id),
    /// `SIGKILL`.
    Die(Id),
}

/// A mistake that somebody might have made in the code.
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
    TimeoutWithoutLock,
    RefusedWaitRetried,
    SequenceReadAgain,
    OwnerDeathUnchecked,
    EpochUnchecked,
    EpochKept,
    DeathNotPassedOn,
    DeathPassedToOne,
    GenerationKept,
    NotifyAllWakesAny,
    NotifyOneWakesAny,
    ChainWakesNone,
    ChainWakesAny,
    ChainWakesIfSatisfied,
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
            Self::TimeoutWithoutLock => "a waiter returns from a timeout without the mutex",
            Self::RefusedWaitRetried => "a wait that the kernel refuses is tried again",
            Self::SequenceReadAgain => "a waiter reads the sequence again after a recheck",
            Self::OwnerDeathUnchecked => "a recheck does not check for owner death",
            Self::EpochUnchecked => "a recheck does not compare the poison epoch",
            Self::EpochKept => "poisoning does not advance the poison epoch",
            Self::DeathNotPassedOn => "a waiter that sees an owner death notifies no process",
            Self::DeathPassedToOne => "a waiter that sees an owner death notifies one process",
            Self::GenerationKept => {
                "`notify_all` begins no generation, and wakes one waiter of the present one"
            }
            Self::NotifyAllWakesAny => "`notify_all` wakes a waiter of any generation",
            Self::NotifyOneWakesAny => "`notify_one` wakes a waiter of any generation",
            Self::ChainWakesNone => "a waiter woken by `notify_all` wakes no waiter",
            Self::ChainWakesAny => "a waiter woken by `notify_all` wakes one of any generation",
            Self::ChainWakesIfSatisfied => {
                "a waiter woken by `notify_all` wakes the next only if its condition holds"
            }
        })
    }
}

/// Who wakes up now and then by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recheck {
    NoProcess,
    OnlyFirst,
    EveryProcess,
}

/// Who may be killed, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MayDie {
    AnyProcess,
    /// Only this one, when all others sleep.
    WhileOthersWait(Id),
}

/// The machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condvar {
    pub(super) roles: [Role; PROCESSES],
    pub(super) recheck: Recheck,
    pub(super) deaths: u8,
    pub(super) may_die: MayDie,
    pub(super) mistake: Mistake,
}
