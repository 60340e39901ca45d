//! The states of the event count.

use std::fmt;

/// The number of a process.
pub(super) type Id = u8;

/// The greatest number of processes in a scenario.
pub(super) const PROCESSES: usize = 4;

/// The waiters that a notification wakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Targets {
    One,
    #[default]
    All,
}

/// The part of a process in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Makes tokens, one at a time, and notifies after each.
    Setter {
        tokens: u8,
        targets: Targets,
    },
    /// Waits for a token and takes it, for ever.
    Consumer,
    /// A consumer whose deadline may end its wait. It then ends.
    TimedConsumer,
    /// Holds the seat, leaves it, and notifies.
    Holder,
    /// Waits until the seat is no longer held.
    Watcher,
    Absent,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setter { tokens, targets } => {
                let targets = match targets {
                    Targets::One => "one",
                    Targets::All => "all",
                };
                write!(f, "setter ({tokens} × notify {targets})")
            }
            Self::Consumer => f.write_str("consumer"),
            Self::TimedConsumer => f.write_str("consumer with a deadline"),
            Self::Holder => f.write_str("holder of a seat"),
            Self::Watcher => f.write_str("watcher"),
            Self::Absent => f.write_str("absent"),
        }
    }
}

/// The next step of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Step {
    #[default]
    ReadSequence,
    Announce,
    Mark,
    Ask,
    FutexWait,
    Waiting,
    SettleAlone,
    Change,
    LoadRoll,
    AddSequence,
    Wake,
    Settle,
    Leave,
    WakeSeat,
    Done,
    Dying,
    KernelWake,
    Dead,
}

/// What a waiter does after it has settled its announcement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Then {
    /// It waits again.
    #[default]
    Again,
    /// It was woken by the seat, and notifies.
    Notify,
    /// It returns, and waits for the next token.
    Next,
    /// It returns, and ends.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Seat {
    Vacant,
    Held,
    /// Held, with `FUTEX_WAITERS`.
    HeldMarked,
    Orphaned,
}

impl Seat {
    pub(super) fn is_held(self) -> bool {
        matches!(self, Self::Held | Self::HeldMarked)
    }
}

/// The data of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) step: Step,
    /// Whether the sequence still has the value that the waiter has read.
    pub(super) sequence_is_seen: bool,
    /// Whether the roll still has the value that the process has read.
    pub(super) roll_is_read: bool,
    /// How many announcements were open in that roll.
    pub(super) open: u8,
    /// Whether the waiter has announced itself before: see `Mistake::AnnouncedOnce`.
    pub(super) has_announced: bool,
    /// Whether a watcher sleeps on the seat as well. Of a dying process, whether
    /// `list_op_pending` names the seat.
    pub(super) on_seat: bool,
    pub(super) then: Then,
    /// The number of tokens that it has still to make.
    pub(super) tokens_left: u8,
}

/// Neither the sequence nor the roll is ever what it was before. So the state has no
/// numbers, but for each process whether they have changed since it has read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) tokens: u8,
    /// How many announcements are open. More than [`MANY`] are [`MANY`], because only a
    /// settling of all of them makes them fewer.
    pub(super) open: u8,
    pub(super) seat: Seat,
    /// The waiters on the sequence and on the seat, one bit each.
    pub(super) queue: u8,
    pub(super) seat_queue: u8,
    pub(super) settling: Settling,
    pub(super) processes: [Process; PROCESSES],
    pub(super) deaths_left: u8,
}

/// More than one announcement.
pub(super) const MANY: u8 = 2;

/// Whether each notifier has settled what it had to settle. The code does not store
/// this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Settling {
    Done,
    /// After a vain wake, announcements that the notifier has read are open.
    Missed,
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
    /// The process, or the kernel for it, wakes this waiter.
    Wake(Id, Id),
    /// The recheck interval ends.
    TimeOut(Id),
    /// The question has no answer, and the deadline has passed.
    GiveUp(Id),
    /// The process is killed.
    Die(Id),
}

/// A mistake in this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    CountInsteadOfRoll,
    SettledWithoutCompare,
    NeverSettled,
    AnnouncementsIgnored,
    RollReadBeforeChange,
    SequenceKept,
    AnnouncedAfterQuestion,
    SequenceReadAfterAnnouncement,
    SequenceReadAfterQuestion,
    AnnouncedOnce,
    SettledInCompany,
    MarkedAfterQuestion,
    DeathNotPassedOn,
    DeathPassedToOne,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::CountInsteadOfRoll => {
                "the sleepers are counted up and down, and a vain wake sets the count to 0"
            }
            Self::SettledWithoutCompare => "a vain wake settles without a comparison",
            Self::NeverSettled => "a vain wake settles nothing",
            Self::AnnouncementsIgnored => "a notifier does not look at the announcements",
            Self::RollReadBeforeChange => "a notifier reads the roll before its change",
            Self::SequenceKept => "a notifier does not add to the sequence",
            Self::AnnouncedAfterQuestion => "a waiter asks before it announces itself",
            Self::SequenceReadAfterAnnouncement => {
                "a waiter announces itself before it reads the sequence"
            }
            Self::SequenceReadAfterQuestion => "a waiter asks before it reads the sequence",
            Self::AnnouncedOnce => "a waiter that sleeps again does not announce itself again",
            Self::SettledInCompany => {
                "a woken waiter settles its announcement although earlier ones are open"
            }
            Self::MarkedAfterQuestion => "a watcher asks before it marks the seat",
            Self::DeathNotPassedOn => "a watcher that a death has woken notifies no process",
            Self::DeathPassedToOne => "a watcher that a death has woken notifies one process",
        })
    }
}

/// Whether waiters recheck: with and without a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recheck {
    No,
    Yes,
}

/// The processes that may be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MayDie {
    AnyProcess,
    OnlyHolder,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventCount {
    pub(super) roles: [Role; PROCESSES],
    pub(super) recheck: Recheck,
    pub(super) deaths: u8,
    pub(super) may_die: MayDie,
    pub(super) mistake: Mistake,
}
