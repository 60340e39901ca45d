//! What the states of the mutex are made of.

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
    Take,
    Sleep,
    Queued,
    Reload,
    Enlist,
    Enlisted,
    Mark,
    Count,
    Consistent,
    Name,
    Judge,
    WriteFirst,
    WriteSecond,
    RepairFirst,
    RepairSecond,
    Clear,
    MarkPanic,
    CountPanic,
    Unname,
    Announce,
    Delist,
    Release,
    Wake,
    Quiet,
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
pub(super) enum Patience {
    #[default]
    Forever,
    Limited,
    /// The last attempt after a deadline: it does not wait.
    None,
}

/// What only one process knows, and of that the kernel `pending` and `listed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) step: Step,
    pub(super) patience: Patience,
    /// The lock word as it was last seen.
    pub(super) seen: Word,
    /// glibc's `assume_other_futex_waiters`.
    pub(super) assumes_waiters: bool,
    pub(super) found: Found,
    /// `list_op_pending` points at the mutex.
    pub(super) pending: bool,
    /// The mutex is on the list.
    pub(super) listed: bool,
    /// How often it may still begin.
    pub(super) rounds: u8,
    /// It has panicked and will mark that later, which is a mistake.
    pub(super) marks_later: bool,
}

/// Which number each process had at first. The processes are alike and numbered anew
/// after every step, by what they are at, so that fewer states are different; the names
/// are for people, and no difference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names(pub(super) [Id; PROCESSES]);

impl PartialEq for Names {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Names {}

impl Hash for Names {
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
    pub(super) names: Names,
    pub(super) deaths_left: u8,
    /// Somebody died or panicked with the lock held, and no repair was completed since.
    pub(super) is_in_doubt: bool,
    /// `poisonings` was not raised since then.
    pub(super) is_uncounted: bool,
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
            Poison::OwnerDied(culprit) => Poison::OwnerDied(owner(culprit)),
            Poison::Panicked(culprit) => Poison::Panicked(owner(culprit)),
        };
        new.queue = 0;
        for (id, process) in self.all() {
            let to = order[id as usize];
            new.names.0[to as usize] = self.names.0[id as usize];
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
    Begin(Id, Patience),
    /// The process does its step.
    Go(Id),
    /// The process wakes this one, or finds nobody asleep.
    Wake(Id, Option<Id>),
    /// Its deadline passes.
    TimeOut(Id),
    /// It panics instead of doing its step.
    Panic(Id),
    /// It gives a poisoned lock back as it is.
    Leave(Id),
    /// `SIGKILL`.
    Die(Id),
}

/// A mistake that somebody might have made in the code, in glibc or in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    /// Who inherits a lock does not poison it.
    NoMark,
    /// Who inherits writes its own name first, and blames itself.
    NamesItselfFirst,
    /// Who inherits does not call `pthread_mutex_consistent`.
    NotConsistent,
    /// Who inherits poisons only after `pthread_mutex_consistent`.
    MarksAfterConsistent,
    /// `recover` clears the poison before the repair.
    ClearsFirst,
    /// A panic poisons after the lock was given back.
    PanicMarksAfterUnlock,
    /// A panic is not counted.
    PanicUncounted,
    /// The lock is given back with the holder's name still on it.
    NameStays,
    /// Giving the lock back clears the poison.
    UnlockClears,
    /// glibc: taking the lock without `list_op_pending`.
    TakesUnannounced,
    /// glibc: giving it back without `list_op_pending`.
    ReleasesUnannounced,
    /// glibc: `list_op_pending` is cleared before the wake.
    QuietBeforeWake,
    /// glibc before 2.25 (BZ 20973): who was woken forgets that others may sleep.
    ForgetsOtherWaiters,
    /// Linux before 6.2: a wakeup that a dead one took along is repeated only if the whole
    /// word is 0, not if the waiters bit is left in it.
    WakesOnZeroOnly,
}

/// What the kernel does for one who died with `list_op_pending` set, and the lock is
/// not the dead one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// It wakes a sleeper if the lock is free, and nobody if another has it.
    Linux,
    /// It wakes a sleeper in either case. No kernel does.
    Mended,
}

/// How a process sleeps that waits for the lock for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sleep {
    /// Until it is woken, as `pthread_mutex_lock` does.
    ForEver,
    /// Until it is woken or a turn is over: `PthreadMutex::acquire`.
    InTurns,
}

/// The machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mutex {
    pub(super) kernel: Kernel,
    pub(super) sleep: Sleep,
    pub(super) deaths: u8,
    /// How often each process locks; [`UNLIMITED`] is not counted.
    pub(super) rounds: u8,
    pub(super) mistake: Mistake,
}

pub(super) const UNLIMITED: u8 = u8::MAX;
