//! What the processes share: the plan, and the ledger under its lock. How a
//! chunk gets into the totals, and how an update that was cut short gets out.

use std::process;
use std::sync::atomic::{Ordering, compiler_fence};

use nix::libc;
use shm_sync::{LockError, LockResult, PoisonCause, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe};

use crate::text::{Counts, MAX_CHUNKS, Plan};

pub(crate) const MAX_WORKERS: usize = 64;
/// How many chunks each worker is dealt at the start.
pub(crate) const HAND: usize = 4;
/// Stands where the id of a process could.
const NOBODY: u32 = 0;

/// The contents of the segment.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Shared {
    pub(crate) parent: u32,
    /// Complete before any worker sees it, and never changed: it needs no lock.
    pub(crate) plan: Plan,
    ledger: ShmMutex<Ledger>,
    /// Notified of every change in the ledger that somebody may wait for.
    pub(crate) changed: ShmCondvar,
}

#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Ledger {
    /// Whether the parent has opened the gate.
    pub(crate) started: bool,
    pub(crate) totals: Counts,
    journal: Journal,
    pub(crate) chunk_count: usize,
    /// One for each chunk of the plan.
    entries: [Entry; MAX_CHUNKS],
    death_count: usize,
    deaths: [Death; MAX_WORKERS],
}

/// What became of a chunk. Every change is one store to one field: a death
/// leaves it done or not done, so it needs no journal.
#[derive(Clone, Copy, ShmSafe)]
#[repr(C)]
struct Entry {
    /// The process that counts it, or [`NOBODY`].
    taken_by: u32,
    /// Whether it is in the totals.
    counted: bool,
}

/// How to undo the update in progress.
#[derive(Clone, Copy, ShmSafe)]
#[repr(C)]
struct Journal {
    /// Whether there is one. The other fields mean something only then.
    open: bool,
    by: u32,
    chunk: usize,
    totals_before: Counts,
}

/// Who died with the lock held.
#[derive(Clone, Copy, ShmSafe)]
#[repr(C)]
pub(crate) struct Death {
    pub(crate) pid: u32,
    pub(crate) chunks_put_back: usize,
    pub(crate) repair: Repair,
}

/// Who found out, and so had to repair the ledger.
#[derive(Clone, Copy, ShmSafe)]
#[repr(C)]
pub(crate) struct Repair {
    pub(crate) by: u32,
    pub(crate) news: News,
    /// When it got the lock: see [`monotonic_nanoseconds`].
    pub(crate) at: u64,
}

/// Which call brought the news of a death.
#[derive(Clone, Copy, ShmSafe)]
#[repr(u8)]
pub(crate) enum News {
    FromLock,
    FromWait,
}

/// What a worker should do next.
pub(crate) enum Next {
    Count(usize),
    /// The rest is in the hands of others, but may come back.
    Wait,
    Leave,
}

impl Shared {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            parent: process::id(),
            ledger: ShmMutex::new(Ledger::new(plan.chunk_count)),
            plan,
            changed: ShmCondvar::new(),
        }
    }

    pub(crate) fn lock(&self) -> Result<ShmMutexGuard<'_, Ledger>, shm_sync::Error> {
        self.repaired(self.ledger.lock(), News::FromLock)
    }

    /// Waits for a change, once.
    pub(crate) fn wait<'a>(
        &'a self,
        ledger: ShmMutexGuard<'a, Ledger>,
    ) -> Result<ShmMutexGuard<'a, Ledger>, shm_sync::Error> {
        self.repaired(self.changed.wait(ledger), News::FromWait)
    }

    /// The ledger, repaired if the last one to hold it died.
    fn repaired<'a>(
        &self,
        result: LockResult<ShmMutexGuard<'a, Ledger>>,
        news: News,
    ) -> Result<ShmMutexGuard<'a, Ledger>, shm_sync::Error> {
        match result {
            Ok(ledger) => Ok(ledger),
            Err(LockError::Poisoned(poisoned)) => {
                let repair = Repair {
                    by: process::id(),
                    news,
                    at: monotonic_nanoseconds(),
                };
                let cause = poisoned.cause();
                let ledger = poisoned.recover(|ledger| ledger.roll_back(cause, repair));
                // Chunks came back, perhaps for those who sleep.
                self.changed.notify_all();
                Ok(ledger)
            }
            Err(other) => Err(other.into()),
        }
    }
}

impl Ledger {
    /// Adds a chunk to the totals. `halfway` is called in the middle of it.
    pub(crate) fn enter(&mut self, me: u32, chunk: usize, counts: Counts, halfway: impl FnOnce()) {
        self.journal.by = me;
        self.journal.chunk = chunk;
        self.journal.totals_before = self.totals;
        in_this_order();
        self.journal.open = true;
        in_this_order();

        self.totals.lines += counts.lines;
        halfway();
        self.totals.words += counts.words;
        self.totals.bytes += counts.bytes;
        self.entries[chunk].counted = true;

        in_this_order();
        self.journal.open = false;
    }

    /// Undoes what the dead left half done, and puts back what it had taken.
    ///
    /// Whoever does this may be killed as well. Then the next one is told of
    /// *that* death, and the journal, which is still open, names the first.
    fn roll_back(&mut self, cause: PoisonCause, repair: Repair) {
        if self.journal.open {
            self.totals = self.journal.totals_before;
            self.entries[self.journal.chunk].counted = false;
            self.bury(self.journal.by, repair);
        }
        if let PoisonCause::OwnerDied { pid, .. } | PoisonCause::Panicked { pid, .. } = cause {
            self.bury(pid, repair);
        }
        in_this_order();
        self.journal.open = false;
    }

    /// Records a death, once, and puts the chunks back that `pid` had taken.
    fn bury(&mut self, pid: u32, repair: Repair) {
        if pid == NOBODY {
            return;
        }
        if self.deaths().iter().all(|death| death.pid != pid) {
            self.deaths[self.death_count] = Death {
                pid,
                chunks_put_back: self.chunks_in_hand_of(pid),
                repair,
            };
            in_this_order();
            self.death_count += 1;
            in_this_order();
        }
        for entry in &mut self.entries[..self.chunk_count] {
            if entry.is_in_hand_of(pid) {
                entry.taken_by = NOBODY;
            }
        }
    }
}

/// Keeps the stores before it before those after it.
///
/// A killed process got to some point of its machine code, so the next one
/// finds the stores up to there. But the compiler may reorder them: it thinks
/// that nobody looks until the lock is released.
fn in_this_order() {
    compiler_fence(Ordering::SeqCst);
}

impl Ledger {
    fn new(chunk_count: usize) -> Self {
        const FREE: Entry = Entry {
            taken_by: NOBODY,
            counted: false,
        };
        const NO_DEATH: Death = Death {
            pid: NOBODY,
            chunks_put_back: 0,
            repair: Repair {
                by: NOBODY,
                news: News::FromLock,
                at: 0,
            },
        };
        Self {
            started: false,
            totals: Counts::default(),
            journal: Journal {
                open: false,
                by: NOBODY,
                chunk: 0,
                totals_before: Counts::default(),
            },
            chunk_count,
            entries: [FREE; MAX_CHUNKS],
            death_count: 0,
            deaths: [NO_DEATH; MAX_WORKERS],
        }
    }

    /// Gives every worker its first chunks in turn, so that each takes part
    /// however fast the others are.
    pub(crate) fn deal(&mut self, workers: &[u32]) {
        let hands = workers.iter().cycle().take(HAND * workers.len());
        for (entry, &worker) in self.entries[..self.chunk_count].iter_mut().zip(hands) {
            entry.taken_by = worker;
        }
    }

    /// What `me` should do next. If that is to count a chunk, it is taken.
    pub(crate) fn next(&mut self, me: u32) -> Next {
        let mine = |entry: &Entry| entry.is_in_hand_of(me);
        let free = |entry: &Entry| entry.taken_by == NOBODY;
        let in_hand = self.entries().iter().position(mine);
        match in_hand.or_else(|| self.entries().iter().position(free)) {
            Some(chunk) => {
                self.entries[chunk].taken_by = me;
                Next::Count(chunk)
            }
            None if self.is_complete() => Next::Leave,
            None => Next::Wait,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.entries().iter().all(|entry| entry.counted)
    }

    pub(crate) fn chunks_in_hand_of(&self, pid: u32) -> usize {
        let entries = self.entries().iter();
        entries.filter(|entry| entry.is_in_hand_of(pid)).count()
    }

    pub(crate) fn chunks_counted_by(&self, pid: u32) -> usize {
        let entries = self.entries().iter();
        entries
            .filter(|entry| entry.counted && entry.taken_by == pid)
            .count()
    }

    pub(crate) fn deaths(&self) -> &[Death] {
        &self.deaths[..self.death_count]
    }

    fn entries(&self) -> &[Entry] {
        &self.entries[..self.chunk_count]
    }
}

impl Entry {
    fn is_in_hand_of(&self, pid: u32) -> bool {
        self.taken_by == pid && !self.counted
    }
}

/// `CLOCK_MONOTONIC`, which all processes read alike. (An `Instant` can't be
/// put into shared memory.)
pub(crate) fn monotonic_nanoseconds() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is valid for writes of a timespec. The call can't fail:
    // every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
