//! The states of the barrier.

use std::fmt;

/// The number of a process.
pub(super) type Id = u8;

pub(super) const PROCESSES: usize = 4;
/// The number of members, at most.
pub(super) const SEATS: usize = 3;
/// No scenario has more rounds.
pub(super) const ROUNDS: usize = 16;

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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Note {
    #[default]
    NoMember,
    Member,
    Arrived(u8),
}

/// The next step of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Step {
    TakeGate,
    LookForDeath(u8),
    LookAtDeadNote(u8),
    BreakForDead(u8),
    TakeDead(u8),
    ClearDead(u8),
    LeaveDead(u8),
    TakeSeat,
    LookAtTaken,
    BreakForTaken,
    Become,
    ReadRound,
    LeaveGate,
    Check,
    Arrive,
    ReadRounds,
    LookAtSeat(u8),
    LookAtNote(u8),
    Complete,
    TryGate,
    Waiting,
    GiveUp,
    /// A member that was told of a broken round reads the next one.
    ReadNextRound,
    BreakToLeave,
    ClearOwn,
    LeaveSeat,
    #[default]
    Done,
    Dead,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) step: Step,
    /// Its seat, if it has one.
    pub(super) index: Option<u8>,
    /// The round at which it arrives next.
    pub(super) round: u8,
    /// Whether all members that it has looked at have arrived.
    pub(super) all_arrived: bool,
    /// How many more times it waits.
    pub(super) waits: u8,
    /// Another member has died or left, and this member was not told. It may not be
    /// told that this round, or a later one, is complete. The code does not store this.
    pub(super) owed: Option<u8>,
    /// How often it was told of a broken round. The code does not store this.
    pub(super) told: u8,
}

/// How a round has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Ended {
    #[default]
    Unknown,
    Complete,
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) seats: [Seat; SEATS],
    pub(super) notes: [Note; SEATS],
    pub(super) gate: Seat,
    /// The present round.
    pub(super) round: u8,
    /// One more than the last completed round, or 0.
    pub(super) after_completed: u8,
    /// Whether the last round that has ended was broken: see [`Mistake::OnlyLastEnd`].
    pub(super) last_is_broken: bool,
    pub(super) processes: [Process; PROCESSES],
    pub(super) deaths_left: u8,
    pub(super) timeouts_left: u8,
    /// What members were told of each round. The code does not store this, nor the
    /// rest.
    pub(super) told: [Ended; ROUNDS],
    /// How many members have arrived at the present round.
    pub(super) arrived: u8,
    /// How many rounds may be broken so far.
    pub(super) reasons: u8,
    pub(super) is_contradicted: bool,
    pub(super) is_incomplete: bool,
    pub(super) is_death_hidden: bool,
    pub(super) is_refused: bool,
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
    DeathsIgnored,
    JoinHidesDeath,
    NoteClearedFirst,
    SettledWithoutGate,
    LeaverClearsFirst,
    LeaverClearsNothing,
    TimeoutKeepsRound,
    OnlyLastEnd,
    LooksBeforeArrival,
    RoundNotChecked,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::DeathsIgnored => "a waiter does not look for vacant seats",
            Self::JoinHidesDeath => "a new member does not break the round of a dead one",
            Self::NoteClearedFirst => "the note of a dead member is cleared before the break",
            Self::SettledWithoutGate => "a waiter settles a death without the gate",
            Self::LeaverClearsFirst => "a member that leaves clears its note before the break",
            Self::LeaverClearsNothing => "a member that leaves does not clear its note",
            Self::TimeoutKeepsRound => "a timeout does not break the round",
            Self::OnlyLastEnd => "only the end of the last round is remembered",
            Self::LooksBeforeArrival => "a member looks at the seats before it arrives",
            Self::RoundNotChecked => "a round is completed whichever it is",
        })
    }
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Barrier {
    /// The number of members, [`SEATS`] at most.
    pub(super) members: u8,
    /// How often each process waits. 0: it is absent.
    pub(super) waits: [u8; PROCESSES],
    pub(super) deaths: u8,
    pub(super) timeouts: u8,
    pub(super) mistake: Mistake,
}
