//! The findings of all processes: violations, and the deaths and panics that mutexes
//! have reported.
//!
//! They survive the processes that write them, because they lie in shared memory.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use shm_sync::ShmSafe;

use crate::process::now;

/// A violation: each kind must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    TwoHolders,
    Torn,
    LostUpdate,
    Stuck,
    WrongHolder,
    PoisonGone,
    LockRefused,
    ChildInterferes,
    WrongSegment,
    LeftBehind,
    WrongEnd,
    RecoveredLate,
    WrongMessage,
    NeverTested,
}

impl Violation {
    pub(crate) const ALL: [Self; 14] = [
        Self::TwoHolders,
        Self::Torn,
        Self::LostUpdate,
        Self::Stuck,
        Self::WrongHolder,
        Self::PoisonGone,
        Self::LockRefused,
        Self::ChildInterferes,
        Self::WrongSegment,
        Self::LeftBehind,
        Self::WrongEnd,
        Self::RecoveredLate,
        Self::WrongMessage,
        Self::NeverTested,
    ];
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TwoHolders => "two holders at once, or an unreported owner death",
            Self::Torn => "torn data without poison",
            Self::LostUpdate => "a lost update",
            Self::Stuck => "a process makes no progress",
            Self::WrongHolder => "a mutex names another holder",
            Self::PoisonGone => "the poison was cleared before the repair ended",
            Self::LockRefused => "a lock was refused",
            Self::ChildInterferes => "a forked child changed what only its parent may change",
            Self::WrongSegment => "a segment is incomplete, or another one has its name",
            Self::LeftBehind => "something was left behind",
            Self::WrongEnd => "a process ended in an unexpected way",
            Self::RecoveredLate => "a waiter recovered too late",
            Self::WrongMessage => "a message came twice, or before an earlier one",
            Self::NeverTested => "a scenario has never taken place",
        })
    }
}

/// A mutex that a process can die with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    Ledger,
    Queue,
    Segment,
}

impl Site {
    pub(crate) const ALL: [Self; 3] = [Self::Ledger, Self::Queue, Self::Segment];
}

/// The owner deaths that mutexes have reported to their next holders.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct OwnerDeaths {
    written: AtomicU64,
    read: AtomicU64,
    /// | bits | meaning |
    /// |---|---|
    /// | 0–1 | a [`Site`], counted from 1; 0 in an empty entry |
    /// | 2–23 | the process id, 0 if unknown |
    /// | 24–63 | when it was reported: nanoseconds, modulo 2^40 |
    ring: [AtomicU64; Self::LEN as usize],
}

/// A reported owner death.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnerDeath {
    pub(crate) pid: u32,
    pub(crate) site: Site,
    reported_at: u64,
}

impl OwnerDeath {
    /// Returns the time from `moment` to the report, in nanoseconds. Returns `None` if
    /// the report came first: then it was about an earlier death under the same id, of
    /// a thread or of another image.
    pub(crate) fn reported_after(&self, moment: u64) -> Option<u64> {
        let time = self.reported_at.wrapping_sub(moment) & OwnerDeaths::TIME_MASK;
        // Differences of more than nine minutes are negative.
        (time <= OwnerDeaths::TIME_MASK / 2).then_some(time)
    }
}

impl OwnerDeaths {
    const LEN: u64 = 4096;
    const TIME_MASK: u64 = (1 << 40) - 1;
    const PID_MASK: u64 = (1 << 22) - 1;

    /// Records an owner death, with the present time. A writer that dies before its
    /// store leaves an empty entry.
    pub(crate) fn report(&self, pid: u32, site: Site) {
        let word = (now() & Self::TIME_MASK) << 24
            | (u64::from(pid) & Self::PID_MASK) << 2
            | (site as u64 + 1);
        let at = self.written.fetch_add(1, Ordering::Relaxed);
        self.ring[(at % Self::LEN) as usize].store(word, Ordering::Release);
    }

    /// Returns the next owner death. Only one process may read.
    pub(crate) fn next(&self) -> Option<OwnerDeath> {
        loop {
            let at = self.read.load(Ordering::Relaxed);
            if at == self.written.load(Ordering::Acquire) {
                return None;
            }
            self.read.store(at + 1, Ordering::Relaxed);
            let word = self.ring[(at % Self::LEN) as usize].swap(0, Ordering::Acquire);
            let Some(site) = ((word & 3) as usize).checked_sub(1) else {
                continue; // empty, or written later and read in the next round
            };
            return Some(OwnerDeath {
                pid: (word >> 2 & Self::PID_MASK) as u32,
                site: Site::ALL[site],
                reported_at: word >> 24,
            });
        }
    }
}

/// All findings. Zeros are the initial state.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Findings {
    pub(crate) owner_deaths: OwnerDeaths,
    panics: AtomicU64,
    violations: [AtomicU64; Violation::ALL.len()],
}

impl Findings {
    /// Counts a panic that a mutex has reported.
    pub(crate) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Counts a violation. Prints the first ones of each kind.
    pub(crate) fn violation(&self, what: Violation, detail: impl fmt::Display) {
        const PRINTED: u64 = 8;
        let earlier = self.violations[what as usize].fetch_add(1, Ordering::SeqCst);
        if earlier < PRINTED {
            eprintln!(
                "VIOLATION, found by {}: {what}: {detail}",
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
