//! The states, and the kernel's part.

use std::fmt;

pub(super) const PROCESSES: usize = 3;
/// The length of the kernel's queue: one slot for each process and each wait of the
/// reader.
pub(super) const QUEUE_LEN: usize = PROCESSES + READS;
pub(super) const READS: usize = 2;

pub(super) type Id = u8;

/// The lock word. `owner` is the number of the holder plus one, or 0.
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
    Exchange,
    FutexLockPi,
    Waiting,
    WakePlainWaiters,
    Pause,
    CheckWord,
    PushFront,
    LockClearPending,
    WriteFirst,
    WriteSecond,
    SetPending,
    RemoveFromList,
    ReleaseWord,
    FutexUnlockPi,
    WakePlainWaitersAgain,
    ReleaseToKernel,
    UnlockClearPending,
    ExitRobustList,
    ExitPiStateList,
    Dead,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) step: Step,
    pub(super) pending: bool,
    pub(super) listed: bool,
    /// It may repeat an attempt that the kernel refused.
    pub(super) may_retry: bool,
    /// The word had `FUTEX_OWNER_DIED` when this process locked it.
    pub(super) sees_owner_death: bool,
    pub(super) rounds: u8,
}

/// A waiter in the kernel's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Waiter {
    #[default]
    None,
    /// `FUTEX_LOCK_PI2`.
    LockPi(Id),
    /// `FUTEX_WAIT`.
    Wait,
    /// `FUTEX_WAIT_REQUEUE_PI`.
    WaitRequeuePi,
}

/// The owner for which the waiters in the queue wait: the kernel's `pi_state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// No process waits for the lock.
    #[default]
    NoWaiter,
    Is(Id),
    /// The owner ended. The next waiter becomes the owner.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) word: Word,
    pub(super) queue: [Waiter; QUEUE_LEN],
    pub(super) owner: Owner,
    pub(super) processes: [Process; PROCESSES],
    pub(super) deaths_left: u8,
    pub(super) reads_left: u8,
    pub(super) is_torn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Begin(Id),
    Step(Id),
    /// The kernel assigns the mutex of the first process to the second.
    HandOver(Id, Id),
    /// The owner ended, and this waiter becomes the owner.
    BecomeOwner(Id),
    /// The recheck interval of a wait or a pause ends.
    PauseEnds(Id),
    Die(Id),
    ReaderWaits(Waiter),
    /// The waits of the reader end.
    ReaderStops,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    RefusalIgnored,
    ReleaseToZero,
    KernelBypassed,
    PlainWaitersNotWoken,
    EndlessWait,
    LockWithoutPending,
    UnlockWithoutPending,
    OwnerDeathIgnored,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::RefusalIgnored => "glibc: a refusal of the kernel is taken for success",
            Self::ReleaseToZero => "a holder that can't hand over writes 0 into the word",
            Self::KernelBypassed => {
                "a locker exchanges a word without an owner, whatever its flags"
            }
            Self::PlainWaitersNotWoken => "plain waiters stay in the queue",
            Self::EndlessWait => "waits are endless",
            Self::LockWithoutPending => "a locker locks without `list_op_pending`",
            Self::UnlockWithoutPending => "a holder unlocks without `list_op_pending`",
            Self::OwnerDeathIgnored => "`FUTEX_OWNER_DIED` is ignored",
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct PiMutex {
    pub(super) mistake: Mistake,
    /// The reader's kind of wait; `None` without a reader.
    pub(super) reader: Waiter,
    pub(super) deaths: u8,
    pub(super) rounds: u8,
}

/// The kernel's reply to a request.
#[derive(PartialEq, Eq)]
pub(super) enum Reply {
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
        *free.next().expect("each waiter has a slot") = waiter;
    }

    pub(super) fn retain(&mut self, stays: impl Fn(Waiter) -> bool) {
        let mut queue = [Waiter::None; QUEUE_LEN];
        let waiting = self.queue.into_iter();
        let staying = waiting.filter(|waiter| *waiter != Waiter::None && stays(*waiter));
        for (slot, waiter) in queue.iter_mut().zip(staying) {
            *slot = waiter;
        }
        self.queue = queue;
        let waits_for_lock = |waiter: &Waiter| matches!(waiter, Waiter::LockPi(_));
        if !self.queue.iter().any(waits_for_lock) {
            self.owner = Owner::NoWaiter;
        }
    }

    /// Does `FUTEX_WAKE` for all waiters, which ends at the first that is not plain.
    pub(super) fn wake_plain(&mut self) {
        while self.first() == Waiter::Wait {
            self.queue.rotate_left(1);
            self.queue[QUEUE_LEN - 1] = Waiter::None;
        }
    }

    /// Does `FUTEX_LOCK_PI2`, as `futex_lock_pi_atomic`.
    pub(super) fn lock_pi(&mut self, me: Id) -> Reply {
        match self.first() {
            Waiter::Wait | Waiter::WaitRequeuePi => return Reply::Refused,
            Waiter::LockPi(_) => {
                if !self.queue_matches_word() {
                    return Reply::Refused;
                }
            }
            Waiter::None if self.word.owner == 0 => {
                self.word = Word {
                    owner: me + 1,
                    waiters: false,
                    owner_died: self.word.owner_died,
                };
                return Reply::Assigned;
            }
            Waiter::None => {
                self.word.waiters = true;
                let owner = self.word.owner - 1;
                if self.processes[owner as usize].step == Step::Dead {
                    return Reply::Refused;
                }
                self.owner = Owner::Is(owner);
            }
        }
        self.push(Waiter::LockPi(me));
        Reply::Queued
    }

    /// Returns whether the queue and the word name one owner, as `attach_to_pi_state`.
    pub(super) fn queue_matches_word(&self) -> bool {
        let word = self.word;
        match self.owner {
            Owner::NoWaiter => false,
            Owner::Ended => word.owner_died && word.owner == 0,
            Owner::Is(_) if word.owner_died && word.owner == 0 => true,
            Owner::Is(owner) => word.owner == owner + 1,
        }
    }

    /// Returns whether the kernel would refuse this process.
    pub(super) fn would_refuse(&self, me: Id) -> bool {
        self.clone().lock_pi(me) == Reply::Refused
    }

    pub(super) fn is_alive(&self, id: Id) -> bool {
        let step = self.processes[id as usize].step;
        !matches!(
            step,
            Step::ExitRobustList | Step::ExitPiStateList | Step::Dead
        )
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Id, &Process)> {
        (0..).zip(&self.processes)
    }
}
