//! What all processes of the soak share: the games, the seats, and the books that
//! survive the players who write them.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use shm_sync::ShmSafe;

use crate::games::{Condvar, Ledger, Queue};
use crate::process::now;
use crate::scenes::Stage;
use crate::watched::Watched;

/// How many can play.
pub(crate) const MAX_SEATS: usize = 64;

/// What the queue waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Over {
    /// This crate's: survives.
    ShmCondvar,
    /// libc's: gets stuck.
    PthreadCondvar,
}

/// A lock that a process can die with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Ledger,
    Queue,
    Segment,
}

impl Place {
    pub(crate) const ALL: [Self; 3] = [Self::Ledger, Self::Queue, Self::Segment];
}

/// What a player may be told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// `exit` with the lock held and the data half-changed.
    Exit,
    /// The same with `exec`: the new image joins the game.
    Exec,
    /// Ends a thread that has leaked a guard.
    EndThread,
    /// Panics with the guard held, and catches it.
    Panic,
    /// Forks with the guard held.
    Fork,
    /// Leaks a guard, drops the segment that it belongs to, locks elsewhere, and
    /// ends.
    Leak,
}

impl Order {
    pub(crate) const ALL: [Self; 6] = [
        Self::Exit,
        Self::Exec,
        Self::EndThread,
        Self::Panic,
        Self::Fork,
        Self::Leak,
    ];
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    TwoInside,
    Torn,
    LostUpdate,
    Stuck,
    WrongHolder,
    PoisonGone,
    LockRefused,
    ForkDoesHarm,
    WrongSegment,
    LeftBehind,
    WrongEnd,
    HealedTooLate,
}

impl Violation {
    pub(crate) const ALL: [Self; 12] = [
        Self::TwoInside,
        Self::Torn,
        Self::LostUpdate,
        Self::Stuck,
        Self::WrongHolder,
        Self::PoisonGone,
        Self::LockRefused,
        Self::ForkDoesHarm,
        Self::WrongSegment,
        Self::LeftBehind,
        Self::WrongEnd,
        Self::HealedTooLate,
    ];
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TwoInside => "two inside at once, or a death that nobody was told of",
            Self::Torn => "torn data without poison",
            Self::LostUpdate => "a lost update",
            Self::Stuck => "a process is stuck",
            Self::WrongHolder => "the lock names another holder",
            Self::PoisonGone => "the poison was gone before the repair was done",
            Self::LockRefused => "a lock was refused",
            Self::ForkDoesHarm => "a forked child did what only its parent may",
            Self::WrongSegment => "a segment is half-built, or not the one that has the name",
            Self::LeftBehind => "something was left behind",
            Self::WrongEnd => "a process ended in a way that nobody asked for",
            Self::HealedTooLate => "a sleeper learned too late",
        })
    }
}

/// One of those who play.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Seat {
    /// An [`Order`], counted from 1; or 0.
    order: AtomicU32,
    /// How often it has got its turn.
    turns: AtomicU64,
    /// The child of this player that was forked last and has checked what it may.
    pub(crate) checked_child: AtomicU32,
}

impl Seat {
    /// Tells the player to do that next; forgets what it was told before.
    pub(crate) fn tell(&self, order: Option<Order>) {
        let code = order.map_or(0, |order| order as u32 + 1);
        self.order.store(code, Ordering::Relaxed);
    }

    /// Takes the order off the seat if it is one of those.
    pub(crate) fn take_order(&self, among: &[Order]) -> Option<Order> {
        let code = self.order.load(Ordering::Relaxed);
        let found = among.iter().find(|&&order| order as u32 + 1 == code)?;
        let relaxed = Ordering::Relaxed;
        let taken = self.order.compare_exchange(code, 0, relaxed, relaxed);
        taken.is_ok().then_some(*found)
    }

    pub(crate) fn count_turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }
}

/// Who died with a lock held, as told to those who came next.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Deaths {
    written: AtomicU64,
    read: AtomicU64,
    /// | bits | meaning |
    /// |---|---|
    /// | 0–1 | a [`Place`], counted from 1; all bits zero: nothing yet |
    /// | 2–23 | the process id, 0 if unknown |
    /// | 24–63 | when it was told: nanoseconds, modulo 2^40 |
    ring: [AtomicU64; Self::LEN as usize],
}

/// A death that somebody was told of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    pub(crate) pid: u32,
    pub(crate) place: Place,
    told_at: u64,
}

impl Death {
    /// The time from `moment`, in nanoseconds. `None` if it was told before: then it
    /// was an earlier death under the same id, of a thread or of another image.
    pub(crate) fn told_after(&self, moment: u64) -> Option<u64> {
        let time = self.told_at.wrapping_sub(moment) & Deaths::TIME_MASK;
        // Differences of more than nine minutes are negative ones.
        (time <= Deaths::TIME_MASK / 2).then_some(time)
    }
}

impl Deaths {
    const LEN: u64 = 4096;
    const TIME_MASK: u64 = (1 << 40) - 1;
    const PID_MASK: u64 = (1 << 22) - 1;

    /// Enters a death, with the time of this moment. A writer that dies before its
    /// store leaves a gap.
    pub(crate) fn report(&self, pid: u32, place: Place) {
        let word = (now() & Self::TIME_MASK) << 24
            | (u64::from(pid) & Self::PID_MASK) << 2
            | (place as u64 + 1);
        let at = self.written.fetch_add(1, Ordering::Relaxed);
        self.ring[(at % Self::LEN) as usize].store(word, Ordering::Release);
    }

    /// The next one, for the only reader.
    pub(crate) fn next(&self) -> Option<Death> {
        loop {
            let at = self.read.load(Ordering::Relaxed);
            if at == self.written.load(Ordering::Acquire) {
                return None;
            }
            self.read.store(at + 1, Ordering::Relaxed);
            let word = self.ring[(at % Self::LEN) as usize].swap(0, Ordering::Acquire);
            let Some(place) = ((word & 3) as usize).checked_sub(1) else {
                continue; // a gap, or it is filled later and read in the next round
            };
            return Some(Death {
                pid: (word >> 2 & Self::PID_MASK) as u32,
                place: Place::ALL[place],
                told_at: word >> 24,
            });
        }
    }
}

/// All that is shared. Zero is its beginning.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Arena {
    pub(crate) ledger: Watched<Ledger>,
    pub(crate) queue: Watched<Queue>,
    pub(crate) not_empty: Condvar,
    pub(crate) not_full: Condvar,
    pub(crate) seats: [Seat; MAX_SEATS],
    pub(crate) stages: [Stage; Stage::COUNT],
    pub(crate) deaths: Deaths,
    /// The conductor, after whom the segments of the game are named.
    pub(crate) conductor: AtomicU32,
    /// Whether the queue waits on libc's condition variable.
    over_pthread: AtomicU32,
    /// How many values for segments were made.
    values: AtomicU64,
    segments_opened: AtomicU64,
    panics: AtomicU64,
    obeyed: [AtomicU64; Order::ALL.len()],
    violations: [AtomicU64; Violation::ALL.len()],
}

impl Arena {
    pub(crate) fn over(&self) -> Over {
        match self.over_pthread.load(Ordering::Relaxed) {
            0 => Over::ShmCondvar,
            _ => Over::PthreadCondvar,
        }
    }

    pub(crate) fn set_over(&self, over: Over) {
        let is_pthread = u32::from(over == Over::PthreadCondvar);
        self.over_pthread.store(is_pthread, Ordering::Relaxed);
    }

    /// Gives the locks of the game priority inheritance, before anything is in them.
    pub(crate) fn inherit_priorities(&mut self) {
        let Self {
            ledger,
            queue,
            stages,
            ..
        } = self;
        ledger.inherit_priorities();
        queue.inherit_priorities();
        stages.iter_mut().for_each(Stage::inherit_priorities);
    }

    /// A number that no segment has had.
    pub(crate) fn next_value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn values(&self) -> u64 {
        self.values.load(Ordering::Relaxed)
    }

    pub(crate) fn count_opened(&self) {
        self.segments_opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn opened(&self) -> u64 {
        self.segments_opened.load(Ordering::Relaxed)
    }

    /// Somebody was told of a panic.
    pub(crate) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// That order is carried out now.
    pub(crate) fn count_obeyed(&self, order: Order) {
        self.obeyed[order as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn obeyed(&self, order: Order) -> u64 {
        self.obeyed[order as usize].load(Ordering::Relaxed)
    }

    /// Says what must not have happened, and counts it. The first ones in full.
    pub(crate) fn violated(&self, what: Violation, detail: impl fmt::Display) {
        const SAID_IN_FULL: u64 = 8;
        let earlier = self.violations[what as usize].fetch_add(1, Ordering::SeqCst);
        if earlier < SAID_IN_FULL {
            eprintln!(
                "VIOLATION, seen by {}: {what}: {detail}",
                std::process::id()
            );
        }
    }

    pub(crate) fn violations(&self, what: Violation) -> u64 {
        self.violations[what as usize].load(Ordering::SeqCst)
    }

    pub(crate) fn is_violated(&self) -> bool {
        Violation::ALL.iter().any(|&what| self.violations(what) > 0)
    }
}
