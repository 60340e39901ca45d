//! What the states are made of, and the kernel's part.

pub(super) const PROCESSES: usize = 3;
/// Places in the kernel's queue: for each process and each wait of the reader.
pub(super) const PLACES: usize = PROCESSES + READS;
pub(super) const READS: usize = 2;

pub(super) type Id = u8;

/// The lock word. `owner` is the owner's number plus one; 0 is no thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Word {
    pub(super) owner: u8,
    pub(super) waiters: bool,
    pub(super) owner_died: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Step {
    #[default]
    Idle,
    Load,
    Take,
    Request,
    Queued,
    Wake,
    WaitOut,
    Look,
    Enlist,
    Enlisted,
    WriteFirst,
    WriteSecond,
    Announce,
    Delist,
    Release,
    HandOver,
    WakeAgain,
    LeaveToKernel,
    Quiet,
    DyingOnList,
    DyingInQueue,
    Dead,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) step: Step,
    pub(super) pending: bool,
    pub(super) listed: bool,
    /// It may still repeat what the kernel refused.
    pub(super) may_repeat: bool,
    /// The word said that the last owner died.
    pub(super) is_told: bool,
    pub(super) rounds: u8,
}

/// A waiter in the kernel's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Waiter {
    #[default]
    None,
    /// `FUTEX_LOCK_PI2`.
    Locker(Id),
    /// `FUTEX_WAIT`.
    Plain,
    /// `FUTEX_WAIT_REQUEUE_PI`.
    ForRequeue,
}

/// For which owner the lockers in the queue wait: the kernel's `pi_state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// No locker waits.
    #[default]
    NoState,
    Is(Id),
    /// It ended: the next waiter becomes the owner.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) word: Word,
    pub(super) queue: [Waiter; PLACES],
    pub(super) owner: Owner,
    pub(super) processes: [Process; PROCESSES],
    pub(super) deaths_left: u8,
    pub(super) reads_left: u8,
    pub(super) is_torn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Begin(Id),
    Go(Id),
    /// The kernel lets this waiter have the mutex.
    Choose(Id, Id),
    /// The owner ended, and this waiter becomes the owner.
    Succeed(Id),
    /// The turn of a wait ends.
    TurnEnds(Id),
    Die(Id),
    Read(Waiter),
    /// The reader's waits end.
    StopReading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    /// glibc: a refusal is taken for success.
    BelievesRefusals,
    /// The holder that can't hand the mutex on writes 0 into the word.
    ReleasesToZero,
    /// A locker takes a mutex without an owner by itself, whatever the flags say.
    TakesFromTheKernel,
    /// Plain waiters are left in the queue.
    WakesNoReader,
    /// A wait has no turns.
    WaitsForEver,
    /// The mutex is taken without `list_op_pending`.
    TakesUnannounced,
    /// The mutex is released without `list_op_pending`.
    ReleasesUnannounced,
    /// `FUTEX_OWNER_DIED` is not looked at.
    IsNotTold,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Inheriting {
    pub(super) mistake: Mistake,
    /// How the reader waits.
    pub(super) reader: Waiter,
    pub(super) deaths: u8,
    pub(super) rounds: u8,
}

/// What the kernel answers.
#[derive(PartialEq, Eq)]
pub(super) enum Answer {
    Assigned,
    Queued,
    Refused,
}

impl State {
    pub(super) fn first(&self) -> Waiter {
        self.queue[0]
    }

    pub(super) fn push(&mut self, waiter: Waiter) {
        let mut free = self.queue.iter_mut().filter(|at| **at == Waiter::None);
        *free.next().expect("there is a place for each") = waiter;
    }

    pub(super) fn retain(&mut self, stays: impl Fn(Waiter) -> bool) {
        let mut queue = [Waiter::None; PLACES];
        let waiting = self.queue.into_iter();
        let staying = waiting.filter(|waiter| *waiter != Waiter::None && stays(*waiter));
        for (place, waiter) in queue.iter_mut().zip(staying) {
            *place = waiter;
        }
        self.queue = queue;
        let is_locker = |waiter: &Waiter| matches!(waiter, Waiter::Locker(_));
        if !self.queue.iter().any(is_locker) {
            self.owner = Owner::NoState;
        }
    }

    /// `FUTEX_WAKE` for all: ends at the first waiter that is no plain one.
    pub(super) fn wake_plain(&mut self) {
        while self.first() == Waiter::Plain {
            self.queue.rotate_left(1);
            self.queue[PLACES - 1] = Waiter::None;
        }
    }

    /// `FUTEX_LOCK_PI2`: `futex_lock_pi_atomic`.
    pub(super) fn lock_pi(&mut self, me: Id) -> Answer {
        match self.first() {
            Waiter::Plain | Waiter::ForRequeue => return Answer::Refused,
            Waiter::Locker(_) => {
                if !self.queue_agrees() {
                    return Answer::Refused;
                }
            }
            Waiter::None if self.word.owner == 0 => {
                self.word = Word {
                    owner: me + 1,
                    waiters: false,
                    owner_died: self.word.owner_died,
                };
                return Answer::Assigned;
            }
            Waiter::None => {
                self.word.waiters = true;
                let owner = self.word.owner - 1;
                if self.processes[owner as usize].step == Step::Dead {
                    return Answer::Refused;
                }
                self.owner = Owner::Is(owner);
            }
        }
        self.push(Waiter::Locker(me));
        Answer::Queued
    }

    /// `attach_to_pi_state`.
    pub(super) fn queue_agrees(&self) -> bool {
        let word = self.word;
        match self.owner {
            Owner::NoState => false,
            Owner::Ended => word.owner_died && word.owner == 0,
            Owner::Is(_) if word.owner_died && word.owner == 0 => true,
            Owner::Is(owner) => word.owner == owner + 1,
        }
    }

    /// Whether the kernel would refuse this process.
    pub(super) fn refuses(&self, me: Id) -> bool {
        self.clone().lock_pi(me) == Answer::Refused
    }

    pub(super) fn is_alive(&self, id: Id) -> bool {
        let step = self.processes[id as usize].step;
        !matches!(step, Step::DyingOnList | Step::DyingInQueue | Step::Dead)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Id, &Process)> {
        (0..).zip(&self.processes)
    }
}
