//! The states of the channel.

use std::fmt;

/// The number of a process.
pub(super) type Id = u8;

/// The greatest number of processes in a scenario.
pub(super) const PROCESSES: usize = 4;
/// The greatest number of slots.
pub(super) const SLOTS: usize = 2;

/// A side of the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Senders,
    Receivers,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Senders => Self::Receivers,
            Self::Receivers => Self::Senders,
        }
    }
}

/// The part of a process in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Sends so many messages.
    Sender(u8),
    /// Receives until all senders have left.
    Receiver,
    Absent,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sender(messages) => write!(f, "sender of {messages}"),
            Self::Receiver => f.write_str("receiver"),
            Self::Absent => f.write_str("absent"),
        }
    }
}

/// The next step of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Step {
    #[default]
    TakeSeat,
    Arrive,
    NotifyArrival,
    Lock,
    Check,
    CopyBegin,
    CopyEnd,
    Commit,
    Unlock,
    UnlockInVain,
    Notify,
    Return,
    Announce,
    Look,
    Sleep,
    Waiting,
    PassOn,
    Leave,
    WakeSeat,
    NotifyClose,
    Done,
    Dying,
    KernelWake,
    Dead,
}

/// How far a process is in its call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Attempt {
    /// It has not announced itself.
    #[default]
    First,
    /// It has announced itself.
    Announced,
    /// It has seen that all peers have left, and looks for the rest.
    Last,
}

/// The content of a slot, or what a receiver has copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Content {
    #[default]
    Nothing,
    /// A copy has begun.
    Torn,
    /// The message with this number.
    Message(u8),
}

/// The data of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) step: Step,
    pub(super) attempt: Attempt,
    pub(super) has_seat: bool,
    /// Of a dying process, whether the kernel finds its seat: it has the seat, or
    /// `list_op_pending` names it.
    pub(super) seat_is_listed: bool,
    pub(super) had_peer: bool,
    /// Whether it was notified since it has announced itself.
    pub(super) is_called: bool,
    /// The peers whose seats it has marked, one bit each.
    pub(super) watched: u8,
    /// The message that it has copied out, and whether it has moved the index.
    pub(super) copied: Content,
    pub(super) has_committed: bool,
    /// The senders' index when it saw that all senders had left.
    pub(super) sent_at_look: u8,
    /// The messages that it has still to send.
    pub(super) messages_left: u8,
}

/// Where a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// `send` was not called, or has not moved the index, or its caller has died.
    #[default]
    NotSent,
    /// `send` has given it back.
    Returned,
    /// The index has been moved, and it has not been received.
    Sent,
    /// `recv` has returned it.
    Received,
    /// A receiver has died with it.
    Lost,
    /// It was received twice, or after it was given back, or it was never sent.
    Wrong,
}

/// The greatest number of messages.
pub(super) const MESSAGES: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) slots: [Content; SLOTS],
    /// Whether a sender has ever opened an endpoint.
    pub(super) sender_has_come: bool,
    pub(super) sent: u8,
    pub(super) received: u8,
    /// The holder of each side's lock.
    pub(super) locks: [Option<Id>; 2],
    pub(super) processes: [Process; PROCESSES],
    pub(super) deaths_left: u8,
    /// Where each message is. The code does not store this.
    pub(super) places: [Place; MESSAGES],
    /// A receiver got something else than a message.
    pub(super) has_torn: bool,
    /// A receiver was told of the end before it had the rest.
    pub(super) told_early: bool,
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
    /// The process is killed.
    Die(Id),
}

/// A mistake in this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    SentBeforeCopy,
    ReceivedBeforeCopy,
    NotLocked,
    LockKeptByDead,
    NotifiedBeforeCommit,
    NotNotified,
    AskedBeforeAnnouncement,
    ToldBeforeRest,
    SeatsNotWatched,
    DeathNotPassedOn,
    ArrivalNotNotified,
    EndBeforeFirstPeer,
    EarlierSendersForgotten,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::SentBeforeCopy => "a sender moves the index before it copies the message",
            Self::ReceivedBeforeCopy => "a receiver moves the index before it copies the message",
            Self::NotLocked => "a side with several seats has no lock",
            Self::LockKeptByDead => "a dead process keeps the lock of its side",
            Self::NotifiedBeforeCommit => "a process notifies before it moves the index",
            Self::NotNotified => "a process notifies no sleeper",
            Self::AskedBeforeAnnouncement => {
                "a waiter looks at the indices before it announces itself"
            }
            Self::ToldBeforeRest => {
                "a receiver that sees no sender does not look for messages once more"
            }
            Self::SeatsNotWatched => "a waiter does not watch the seats of its peers",
            Self::DeathNotPassedOn => "a waiter that a death has woken notifies no process",
            Self::ArrivalNotNotified => "a process that opens an endpoint notifies no sleeper",
            Self::EarlierSendersForgotten => {
                "a receiver is not told of senders that have left before it came"
            }
            Self::EndBeforeFirstPeer => "a process is told of the end before the first peer comes",
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
    Any,
    /// Those that have notified the other side of their arrival.
    OnlySenders,
    OnlyReceivers,
}

/// How the processes of a side take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// By a lock.
    Locks,
    /// Each side has one seat, which is the lock.
    OneToOne,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel {
    pub(super) roles: [Role; PROCESSES],
    pub(super) kind: Kind,
    pub(super) slots: u8,
    pub(super) recheck: Recheck,
    pub(super) deaths: u8,
    pub(super) may_die: MayDie,
    pub(super) mistake: Mistake,
}
