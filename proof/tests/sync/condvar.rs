//! The condition variable: a sequence, its generation, a count of sleepers, the chain by
//! which the called call each other, the heartbeat, and the telling of a death.
//!
//! Producers put items under the mutex and notify; consumers take them, and wait while
//! there are none. Guests wait until a host opens, and go. Others only die, panic or
//! repair under the mutex. Some may be killed, between any two steps.
//!
//! # The steps, and where they are
//!
//! | step | in the code | reads, *writes* |
//! |---|---|---|
//! | `Lock` | `ShmMutex::lock`; in a wait, `RawMutex::take_back` | *lock* |
//! | `Mark`, `Count` | `RawMutex::inherit`, after a death; `RawMutex::poison_by_panic` | *poison*, *poisonings* |
//! | `AddSequence` | `ShmCondvar::notify_one`, `notify_all`: one word | *sequence*, *generation* |
//! | `ReadSleepers` | `ShmCondvar::wake_one_of`: if there are none, the next step is left out | sleepers |
//! | `Wake` | there, `futex::wake_one_of`: of the generation that was, or not of the new one | *queue* |
//! | `Judge` | `ShmMutex::guard` | poison |
//! | `Clear` | `Poisoned::recover` | *poison* |
//! | `Work` | what a user does under the lock: puts an item, opens, takes an item, or finds nothing | *items*, *door* |
//! | `ReadSequence`, `ReadCount` | `ShmCondvar::wait_raw`, under the mutex | sequence, generation, poisonings |
//! | `GiveBack`, `Unlock` | `RawMutex::unlock` | *lock* |
//! | `Spin` | `ShmCondvar::wait_raw`: the last look of the spin | sequence |
//! | `Register` | `ShmCondvar::sleep` | *sleepers* |
//! | `Sleep` | there, `futex::wait_among`: the kernel compares and queues in one step | sequence, *queue* |
//! | `Queued` | asleep in the kernel; ended by a wake, a heartbeat or the deadline | |
//! | `LookForDeath` | there, `trouble`: `RawMutex::owner_died` | lock |
//! | `LookForPoison` | there, `trouble`: `RawMutex::poisonings` | poisonings |
//! | `LookAtClock` | there, `Deadline::has_passed` | |
//! | `Deregister` | there | *sleepers* |
//! | `LookForCall` | there: if the generation is still the same, the next two steps are left out | generation |
//! | `LookForNext` | `ShmCondvar::wake_one_of`: if there are no sleepers, the next step is left out | sleepers |
//! | `CallNext` | there, `futex::wake_one_of`: not of the generation just read | *queue* |
//! | `Dying` | the kernel: out of the queue; the lock, if it was held, becomes owner died | *queue*, *lock* |
//!
//! # What is simpler than the truth
//!
//! * The mutex is one word, taken and given back in one step each, and a blocked
//!   process takes it once it can: that is what the machine of the mutex shows.
//! * A wake may hit any sleeper of its generations; the kernel takes the one that has
//!   slept longest.
//! * The numbers don't wrap: nobody does enough for that. So the sequence and its
//!   generation are two numbers, which change in one step.
//! * `Consistent` and `Name` are left out: here nobody reads what they write. So is the
//!   spin before `take_back`, which decides nothing.

mod machine;
mod tests;

pub(crate) use tests::smoke;

/// A process, by its number.
type Id = u8;

/// The most processes of any cast.
const PROCESSES: usize = 5;

/// The mutex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lock {
    Free,
    HeldBy(Id),
    OwnerDied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Poison {
    Clean,
    Set,
}

/// What guests wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Door {
    Closed,
    Open,
}

/// How many sleepers a notification is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    One,
    All,
}

/// When a producer or a host notifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    UnderTheLock,
    AfterUnlocking,
}

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
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
enum Step {
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
enum Errand {
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
struct Process {
    step: Step,
    errand: Errand,
    /// The sequence before the wait. (For `LooksFirst`, the sleepers of a notifier.)
    seen: u8,
    /// The generation before the wait. Of who notifies or calls the next one: the
    /// generation by which it chooses whom it wakes.
    generation: u8,
    /// How many poisonings there were before the wait, as the code knows it.
    poisonings_seen: u8,
    /// How many there really were when the mutex was given back.
    poisonings_really: u8,
    /// How many items it has still to put.
    to_put: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    lock: Lock,
    poison: Poison,
    poisonings: u8,
    /// How many poisonings there were, whether the code counts them or not.
    poisonings_really: u8,
    sequence: u8,
    generation: u8,
    sleepers: u8,
    items: u8,
    door: Door,
    /// Who sleeps on the sequence, a bit for each.
    queue: u8,
    processes: [Process; PROCESSES],
    deaths_left: u8,
}

impl State {
    fn all(&self) -> impl Iterator<Item = (Id, &Process)> {
        (0..).zip(&self.processes)
    }

    fn step(&self, id: Id) -> Step {
        self.processes[id as usize].step
    }
}

/// What can happen. The first number is the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
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
enum Mistake {
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
enum Heartbeat {
    Nobody,
    OnlyTheFirst,
    Everybody,
}

/// Who may be killed, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    AnyoneAnywhere,
    /// Only this one, when all others sleep.
    WhileOthersSleep(Id),
}

/// The machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Condvar {
    cast: [Role; PROCESSES],
    heartbeat: Heartbeat,
    deaths: u8,
    killed: Killed,
    mistake: Mistake,
}
