//! What the states of the condition variable are made of.

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
pub(super) enum Door {
    Closed,
    Open,
}

/// How many sleepers a notification is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    One,
    All,
}

/// When a producer or a host notifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    UnderTheLock,
    AfterUnlocking,
}

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Puts that many items, one at a time, and notifies after each.
    Producer { items: u8, whom: Whom, when: When },
    /// Takes items for ever, and waits while there are none.
    Consumer,
    /// The same, but waits with a deadline, and gives up if that is what ends its wait.
    Impatient,
    /// Opens the door and notifies all; then puts that many items, one at a time, and
    /// notifies one of each. So no guest begins to wait once there are items.
    Host { items: u8, when: When },
    /// Waits until the door is open, and goes. An item is nothing to it.
    Guest,
    /// Locks, panics, unlocks. Tells no condition variable.
    Panicker,
    /// Locks, repairs if there is need, unlocks. Tells no condition variable.
    Visitor,
    /// Not there.
    Absent,
}

/// The next thing that a process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Step {
    #[default]
    Lock,
    Mark,
    Count,
    AddSequence,
    ReadSleepers,
    Wake,
    Judge,
    Clear,
    Work,
    ReadSequence,
    ReadCount,
    GiveBack,
    Spin,
    Register,
    Sleep,
    Queued,
    LookForDeath,
    LookForPoison,
    LookAtClock,
    Deregister,
    LookForCall,
    LookForNext,
    CallNext,
    Unlock,
    Done,
    Dying,
    Dead,
}

/// What a process is in the middle of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Errand {
    /// Nothing in particular: it comes to lock.
    #[default]
    Ordinary,
    /// It comes back from a wait.
    Relock,
    /// It comes back from a wait that its deadline ended.
    RelockTimedOut,
    /// It came back from a wait, learned of a death, and tells the others.
    Tell,
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
    pub(super) errand: Errand,
    /// The sequence before the wait. (For `LooksFirst`, the sleepers of a notifier.)
    pub(super) seen: u8,
    /// The generation before the wait. Of who notifies or calls the next one: the
    /// generation by which it chooses whom it wakes.
    pub(super) generation: u8,
    /// How many poisonings there were before the wait, as the code knows it.
    pub(super) poisonings_seen: u8,
    /// How many there really were when the mutex was given back.
    pub(super) poisonings_really: u8,
    /// How many items it has still to put.
    pub(super) to_put: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) lock: Lock,
    pub(super) poison: Poison,
    pub(super) poisonings: u8,
    /// How many poisonings there were, whether the code counts them or not.
    pub(super) poisonings_really: u8,
    pub(super) sequence: u8,
    pub(super) generation: u8,
    pub(super) sleepers: u8,
    pub(super) items: u8,
    pub(super) door: Door,
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
    Go(Id),
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
    /// A waiter reads the sequence after it has given the mutex back.
    ReadsSequenceLate,
    /// A waiter reads the poisonings after it has given the mutex back.
    ReadsPoisoningsLate,
    /// A sleeper adds itself after it has compared the sequence, and sleeps whatever it
    /// is then.
    RegistersLate,
    /// A notifier looks for sleepers before it adds to the sequence.
    LooksFirst,
    /// A notifier wakes, and the sequence stays.
    OnlyWakes,
    /// A notifier takes one off the sleepers for the one that it wakes.
    WakerDeregisters,
    /// Who was woken after its deadline says that it timed out.
    DeadlineBeatsWake,
    /// After its deadline a waiter returns without the mutex.
    TimesOutWithoutLock,
    /// A sleep that the kernel refuses is tried again.
    SleepsAnyway,
    /// After a heartbeat a sleeper takes the sequence as it is now.
    ForgetsSequence,
    /// A heartbeat does not look whether the mutex's owner died.
    NoLookForDeath,
    /// A heartbeat does not look whether the mutex was poisoned.
    NoLookForPoison,
    /// Who inherits the mutex or panics does not count it.
    Uncounted,
    /// Who learns of a death in a wait does not tell the others.
    KeepsItToItself,
    /// Who learns of a death in a wait tells one other.
    TellsOne,
    /// `notify_all` begins no new generation, and wakes one of the same.
    StaysInGeneration,
    /// `notify_all` wakes a sleeper of any generation.
    BeginsWithAnyone,
    /// `notify_one` wakes a sleeper of any generation.
    NotifiesTheCalled,
    /// Who is called does not call the next one.
    CallsNobody,
    /// Who is called calls one of any generation.
    CallsAnyone,
    /// Who is called calls the next one once it has the mutex, and only if it finds
    /// what it waits for.
    CallsIfContent,
}

/// Who wakes up now and then by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heartbeat {
    Nobody,
    OnlyTheFirst,
    Everybody,
}

/// Who may be killed, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Killed {
    AnyoneAnywhere,
    /// Only this one, when all others sleep.
    WhileOthersSleep(Id),
}

/// The machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condvar {
    pub(super) cast: [Role; PROCESSES],
    pub(super) heartbeat: Heartbeat,
    pub(super) deaths: u8,
    pub(super) killed: Killed,
    pub(super) mistake: Mistake,
}
