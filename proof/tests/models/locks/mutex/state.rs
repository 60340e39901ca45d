//! The states of the mutex.

use std::fmt;
use std::hash::{Hash, Hasher};

pub(super) const PROCESSES: usize = 3;

/// The number of a process.
pub(super) type Id = u8;

/// The lock word. `owner` is the number of the holder plus one, or 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Word {
    pub(super) owner: u8,
    pub(super) waiters: bool,
    pub(super) owner_died: bool,
}

impl Word {
    pub(super) const FREE: Self = Self {
        owner: 0,
        waiters: false,
        owner_died: false,
    };

    pub(super) fn is_owned_by(self, process: Id) -> bool {
        self.owner == process + 1
    }
}

/// The consistency in glibc's `__owner` field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Consistency {
    #[default]
    Consistent,
    Inconsistent,
    NotRecoverable,
}

/// The poison word. The cause is a process, as in [`Word::owner`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Poison {
    #[default]
    Clean,
    OwnerDied(u8),
    Panicked(u8),
}

/// The next step of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    #[default]
    Idle,
    Load,
    Exchange,
    FutexWait,
    Waiting,
    Reload,
    PushFront,
    LockClearPending,
    SetPoison,
    AddEpoch,
    MakeConsistent,
    SetHolder,
    CheckPoison,
    WriteFirst,
    WriteSecond,
    RepairFirst,
    RepairSecond,
    ClearPoison,
    PanicSetPoison,
    PanicAddEpoch,
    ClearHolder,
    SetPending,
    RemoveFromList,
    ReleaseWord,
    Wake,
    UnlockClearPending,
    Dying,
    DyingWakes,
    Dead,
}

/// The state of the lock word when the process locked it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Found {
    #[default]
    Free,
    OwnerDied,
}

/// The time that a process waits for the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Blocking {
    #[default]
    Wait,
    WaitUntil,
    /// The last attempt after a deadline, which does not wait.
    Try,
}

/// The data of one process. The kernel sees only `pending` and `listed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) step: Step,
    pub(super) blocking: Blocking,
    /// The lock word as it was last loaded.
    pub(super) seen: Word,
    pub(super) assume_waiters: bool,
    pub(super) found: Found,
    /// `list_op_pending` points to the mutex.
    pub(super) pending: bool,
    /// The mutex is on the robust list.
    pub(super) listed: bool,
    /// The number of calls that it may still make.
    pub(super) rounds: u8,
    /// It has panicked and poisons after the unlock: only with a mistake.
    pub(super) poisons_later: bool,
}

/// The first number of each process, for schedules. The processes are renumbered after
/// each step, in the order of their steps, because equal processes make fewer states.
/// All labels are equal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Labels(pub(super) [Id; PROCESSES]);

impl PartialEq for Labels {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) word: Word,
    pub(super) consistency: Consistency,
    pub(super) holder: u8,
    pub(super) poison: Poison,
    /// The two halves of the data differ.
    pub(super) is_torn: bool,
    /// The waiters on the word, one bit each.
    pub(super) queue: u8,
    pub(super) processes: [Process; PROCESSES],
    pub(super) labels: Labels,
    pub(super) deaths_left: u8,
    /// A holder died or panicked, and no repair has ended since.
    pub(super) may_be_inconsistent: bool,
    /// The poison epoch was not advanced since then.
    pub(super) is_epoch_due: bool,
}

impl State {
    pub(super) fn is_alive(&self, process: Id) -> bool {
        use Step::{Dead, Dying, DyingWakes};
        !matches!(
            self.processes[process as usize].step,
            Dying | DyingWakes | Dead
        )
    }

    /// Returns the state with the processes in the order of their steps.
    pub(super) fn sorted(&self) -> Self {
        let mut by_step: [usize; PROCESSES] = std::array::from_fn(|id| id);
        by_step.sort_by_key(|id| {
            let process = &self.processes[*id];
            let is_queued = self.queue >> id & 1;
            (process.step, process.rounds, process.pending, is_queued)
        });
        let mut order = [0; PROCESSES];
        for (new, old) in (0..).zip(by_step) {
            order[old] = new;
        }
        self.renumbered(order)
    }

    /// Returns the state with other numbers. `order` has the new number of each
    /// process.
    pub(super) fn renumbered(&self, order: [Id; PROCESSES]) -> Self {
        let owner = |old: u8| match old {
            0 => 0,
            some => order[some as usize - 1] + 1,
        };
        let word = |old: Word| Word {
            owner: owner(old.owner),
            ..old
        };
        let mut new = *self;
        new.word = word(self.word);
        new.holder = owner(self.holder);
        new.poison = match self.poison {
            Poison::Clean => Poison::Clean,
            Poison::OwnerDied(cause) => Poison::OwnerDied(owner(cause)),
            Poison::Panicked(cause) => Poison::Panicked(owner(cause)),
        };
        new.queue = 0;
        for (id, process) in self.all() {
            let to = order[id as usize];
            new.labels.0[to as usize] = self.labels.0[id as usize];
            new.queue |= (self.queue >> id & 1) << to;
            new.processes[to as usize] = Process {
                seen: word(process.seen),
                ..*process
            };
        }
        new
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Id, &Process)> {
        (0..).zip(&self.processes)
    }
}

/// An action. The first number is the acting process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// An idle process calls `lock`.
    Begin(Id, Blocking),
    /// The process takes its next step.
    Step(Id),
    /// The process wakes this waiter, or there is no waiter.
    Wake(Id, Option<Id>),
    /// The deadline or the recheck interval of its wait ends.
    TimeOut(Id),
    /// The process panics instead of taking its next step.
    Panic(Id),
    /// The process unlocks poisoned data without a repair.
    UnlockPoisoned(Id),
    /// The process is killed.
    Die(Id),
}

/// A mistake in this crate, in glibc or in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    NoPoison,
    HolderBeforePoison,
    NoConsistent,
    PoisonAfterConsistent,
    ClearBeforeRepair,
    PanicPoisonAfterUnlock,
    PanicKeepsEpoch,
    UnlockKeepsHolder,
    UnlockClearsPoison,
    LockWithoutPending,
    UnlockWithoutPending,
    PendingClearedBeforeWake,
    WaitersForgotten,
    WakeOnZeroOnly,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::NoPoison => "a locker does not poison after owner death",
            Self::HolderBeforePoison => "a locker records itself as the holder before it poisons",
            Self::NoConsistent => "a locker does not call `pthread_mutex_consistent`",
            Self::PoisonAfterConsistent => "a locker poisons after `pthread_mutex_consistent`",
            Self::ClearBeforeRepair => "`recover` clears the poison before the repair",
            Self::PanicPoisonAfterUnlock => "a panic poisons after the unlock",
            Self::PanicKeepsEpoch => "a panic does not advance the poison epoch",
            Self::UnlockKeepsHolder => "unlock leaves the holder recorded",
            Self::UnlockClearsPoison => "unlock clears the poison",
            Self::LockWithoutPending => "glibc: locks without `list_op_pending`",
            Self::UnlockWithoutPending => "glibc: unlocks without `list_op_pending`",
            Self::PendingClearedBeforeWake => "glibc: clears `list_op_pending` before the wake",
            Self::WaitersForgotten => {
                "glibc before 2.25 (BZ 20973): a woken waiter forgets the other waiters"
            }
            Self::WakeOnZeroOnly => "Linux before 6.2: repeats a lost wake only if the word is 0",
        })
    }
}

/// The kernel's part after a thread dies with `list_op_pending` set and does not own
/// the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// It wakes a waiter if the lock is free. It wakes none if another thread holds the
    /// lock.
    Linux,
    /// It wakes a waiter in both cases. No kernel does.
    Fixed,
}

/// The wait of a process without a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitKind {
    /// Until it is woken, as in `pthread_mutex_lock`.
    Endless,
    /// Until it is woken or the recheck interval ends, as in this crate.
    Rechecked,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mutex {
    pub(super) kernel: Kernel,
    pub(super) wait: WaitKind,
    pub(super) deaths: u8,
    /// The number of times that each process locks; [`UNLIMITED`] is not counted down.
    pub(super) rounds: u8,
    pub(super) mistake: Mistake,
}

pub(super) const UNLIMITED: u8 = u8::MAX;
