//! What the states of the mutex are made of.

use std::fmt;
use std::hash::{Hash, Hasher};

/// How many processes there are.
pub(super) const PROCESSES: usize = 3;

/// A process, by its number.
pub(super) type Id = u8;

/// The lock word. `owner` is the owner's number plus one; 0 is nobody.
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

/// What glibc's `__owner` says besides the owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Consistency {
    #[default]
    Consistent,
    Inconsistent,
    NotRecoverable,
}

/// The poison word. The culprit as in [`Word::owner`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Poison {
    #[default]
    Clean,
    OwnerDied(u8),
    Panicked(u8),
}

/// The next thing that a process does.
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

/// How a lock was found when it was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Found {
    #[default]
    Free,
    OwnerDied,
}

/// How long a process waits for the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Blocking {
    #[default]
    Wait,
    WaitUntil,
    /// The last attempt after a deadline: it does not wait.
    Try,
}

/// What only one process knows, and of that the kernel `pending` and `listed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) step: Step,
    pub(super) blocking: Blocking,
    /// The lock word as it was last seen.
    pub(super) seen: Word,
    /// glibc's `assume_other_futex_waiters`.
    pub(super) assume_waiters: bool,
    pub(super) found: Found,
    /// `list_op_pending` points at the mutex.
    pub(super) pending: bool,
    /// The mutex is on the list.
    pub(super) listed: bool,
    /// How often it may still begin.
    pub(super) rounds: u8,
    /// It has panicked and will mark that later, which is a mistake.
    pub(super) poisons_later: bool,
}

/// Which number each process had at first. The processes are alike and numbered anew
/// after every step, by what they are at, so that fewer states are different; the names
/// are for people, and no difference.
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
    /// Who sleeps on the word, a bit for each.
    pub(super) queue: u8,
    pub(super) processes: [Process; PROCESSES],
    pub(super) labels: Labels,
    pub(super) deaths_left: u8,
    /// Somebody died or panicked with the lock held, and no repair was completed since.
    pub(super) may_be_inconsistent: bool,
    /// `poisonings` was not raised since then.
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

    /// The same with the processes numbered by what they are at.
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

    /// The same with other numbers: `order` has the new number of each process.
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

/// What can happen. The first number is the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// An idle process wants the lock.
    Begin(Id, Blocking),
    /// The process does its step.
    Step(Id),
    /// The process wakes this one, or finds nobody asleep.
    Wake(Id, Option<Id>),
    /// Its deadline passes.
    TimeOut(Id),
    /// It panics instead of doing its step.
    Panic(Id),
    /// It gives a poisoned lock back as it is.
    UnlockPoisoned(Id),
    /// `SIGKILL`.
    Die(Id),
}

/// A mistake that somebody might have made in the code, in glibc or in the kernel.
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

/// What the kernel does for one other died with `list_op_pending` set, and the lock is
/// not the dead one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// It wakes a sleeper if the lock is free, and nobody if another has it.
    Linux,
    /// It wakes a sleeper in either case. No kernel does.
    Fixed,
}

/// How a process sleeps that waits for the lock for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitKind {
    /// Until it is woken, as `pthread_mutex_lock` does.
    Endless,
    /// Until it is woken or a turn is over: `PthreadMutex::acquire`.
    Rechecked,
}

/// The machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mutex {
    pub(super) kernel: Kernel,
    pub(super) wait: WaitKind,
    pub(super) deaths: u8,
    /// How often each process locks; [`UNLIMITED`] is not counted.
    pub(super) rounds: u8,
    pub(super) mistake: Mistake,
}

pub(super) const UNLIMITED: u8 = u8::MAX;
