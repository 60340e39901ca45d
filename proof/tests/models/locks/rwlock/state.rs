//! The states of the readers-writer lock.

use std::fmt;

/// The number of a process. Those below [`READERS`] read, the others write.
pub(super) type Id = u8;

pub(super) const READERS: usize = 2;
pub(super) const PROCESSES: usize = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Seat {
    #[default]
    Vacant,
    Held(Id),
    Orphaned,
}

impl Seat {
    pub(super) fn is_held(self) -> bool {
        matches!(self, Self::Held(_))
    }
}

/// The next step of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Step {
    TakeSeat,
    ReadPhase,
    Note,
    AskNumber,
    AskWriter,
    WaitForTurn,
    TakeWriterToRepair,
    LeaveSeat,
    /// The same of a reader that has not come inside.
    LeaveSeatUnread,
    LookAtGate,
    TakeWriter,
    TakeGate,
    TakeWriterAtGate,
    LeaveGate,
    LookForDeath,
    PoisonForDead,
    ClearDead,
    OpenForDead,
    Close,
    LookAtSeat(u8),
    LookAtNote(u8),
    WaitForReader(u8),
    SetInside,
    Look,
    Repair,
    ClearPoison,
    Begin,
    Finish,
    ClearInside,
    Open,
    /// A writer that downgrades opens the next phase, and keeps its seat.
    OpenKept,
    LookDowngraded,
    LeaveWriter,
    #[default]
    Done,
    Dead,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) step: Step,
    /// The number of the phase for whose end a reader waits.
    pub(super) since: u8,
    /// How many writers have come inside while this reader waited.
    pub(super) passed_by: u8,
    /// How many more times it reads or writes.
    pub(super) rounds: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) seats: [Seat; READERS],
    /// The number of the phase for whose end the occupant waits, plus one; or 0.
    pub(super) notes: [u8; READERS],
    pub(super) gate: Seat,
    pub(super) writer: Seat,
    pub(super) number: u8,
    pub(super) is_closed: bool,
    pub(super) is_inside: bool,
    pub(super) is_poisoned: bool,
    /// The data is half changed.
    pub(super) is_half: bool,
    /// A writer has died inside, and no writer has cleared the poison since. The code
    /// does not store this.
    pub(super) has_died_inside: bool,
    /// A process has found half a change without poison. The code does not store this.
    pub(super) is_misled: bool,
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

/// An action of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It takes its next step.
    Step(Id),
    /// Its deadline has passed.
    GiveUp(Id),
    /// It is killed.
    Die(Id),
}

/// A mistake in this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    WriterIgnoresReaders,
    WriterIgnoresWaitOfAnyPhase,
    WriterWaitsForWaitingReader,
    ReaderIgnoresPhase,
    ReaderReadsPhaseFirst,
    ReaderDoesNotRepair,
    DeadWriterDoesNotPoison,
    WaitingWriterPoisons,
    DeathClearedFirst,
    NumberKept,
    NoPhaseFairness,
    DowngradeLeavesSeat,
    DowngradeWithoutClear,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::WriterIgnoresReaders => "a writer does not look at the seats",
            Self::WriterIgnoresWaitOfAnyPhase => {
                "a writer ignores a reader that has waited for the end of any phase"
            }
            Self::WriterWaitsForWaitingReader => {
                "a writer waits for a reader that waits for the end of its phase"
            }
            Self::ReaderIgnoresPhase => "a reader does not look at the phase",
            Self::ReaderReadsPhaseFirst => "a reader reads the phase before it takes a seat",
            Self::ReaderDoesNotRepair => "a reader does not end the phase of a dead writer",
            Self::DeadWriterDoesNotPoison => "the death of a writer inside does not poison",
            Self::WaitingWriterPoisons => "a writer counts as inside while it waits",
            Self::DeathClearedFirst => "`inside` is cleared before the poison is set",
            Self::NumberKept => "a phase ends without a new number",
            Self::DowngradeLeavesSeat => "a writer that downgrades leaves its seat",
            Self::DowngradeWithoutClear => "a writer that downgrades does not clear `inside`",
            Self::NoPhaseFairness => "a waiting reader waits until a phase is open",
        })
    }
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub(super) struct RwLock {
    /// How often each process reads or writes.
    pub(super) rounds: [u8; PROCESSES],
    pub(super) deaths: u8,
    pub(super) gives_up: GivesUp,
    pub(super) downgrades: Downgrades,
    pub(super) mistake: Mistake,
}

/// Whether a process that waits may give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivesUp {
    Never,
    Maybe,
}

/// Whether a writer downgrades its access before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Downgrades {
    No,
    Yes,
}
