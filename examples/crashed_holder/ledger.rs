//! The shared state: the plan, and the ledger under its lock. `Ledger::add_chunk` adds
//! a chunk to the totals, and `Ledger::roll_back` undoes an interrupted update.

use std::process;
use std::sync::atomic::{Ordering, compiler_fence};
use std::thread;
use std::time::Duration;

use nix::libc;
use shm_sync::{OrRecover, PoisonCause, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe};

use crate::text::{Counts, MAX_CHUNKS, Plan};

pub(crate) const MAX_WORKERS: usize = 64;
/// How many chunks each worker is assigned before the start.
pub(crate) const INITIAL_CHUNKS: usize = 4;
/// The process id of no process.
const NO_PROCESS: u32 = 0;

/// The contents of the segment.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Shared {
    pub(crate) parent: u32,
    /// How long a process spends with each chunk, so that the user has time to kill it.
    pub(crate) pause_milliseconds: u64,
    /// The parent fills the plan before it starts a worker. No process changes it
    /// afterwards, so it needs no lock.
    pub(crate) plan: Plan,
    ledger: ShmMutex<Ledger>,
    /// Notified after each change of the ledger that a worker may wait for.
    pub(crate) changed: ShmCondvar,
}

#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Ledger {
    /// Whether the workers may begin.
    pub(crate) started: bool,
    pub(crate) totals: Counts,
    journal: Journal,
    pub(crate) chunk_count: usize,
    /// One for each chunk of the plan.
    chunks: [ChunkState; MAX_CHUNKS],
    owner_death_count: usize,
    owner_deaths: [OwnerDeath; MAX_WORKERS],
}

/// The progress of a chunk. Each change is one store to one field, and a death leaves
/// the store done or not done. Therefore these changes need no journal.
#[derive(Clone, Copy, ShmSafe)]
#[repr(C)]
struct ChunkState {
    /// The process that counts the chunk, or [`NO_PROCESS`].
    assigned_to: u32,
    /// Whether the totals contain the chunk.
    counted: bool,
}

/// How to undo an interrupted update of the totals.
#[derive(Clone, Copy, ShmSafe)]
#[repr(C)]
struct Journal {
    /// Whether an update is in progress. The other fields are valid only then.
    open: bool,
    worker: u32,
    chunk: usize,
    totals_before: Counts,
}

/// A worker that died while it held the lock.
#[derive(Clone, Copy, ShmSafe)]
#[repr(C)]
pub(crate) struct OwnerDeath {
    pub(crate) pid: u32,
    /// Whether it died in an update of the totals.
    pub(crate) in_update: bool,
    pub(crate) released_chunks: usize,
    pub(crate) repair: Repair,
}

/// The process that repaired the ledger after an owner death.
#[derive(Clone, Copy, ShmSafe)]
#[repr(C)]
pub(crate) struct Repair {
    pub(crate) pid: u32,
    pub(crate) reported_by: Call,
    /// When the process acquired the lock: see [`monotonic_nanoseconds`].
    pub(crate) locked_at: u64,
}

/// The call that reported an owner death.
#[derive(Clone, Copy, ShmSafe)]
#[repr(u8)]
pub(crate) enum Call {
    Lock,
    Wait,
}

/// The next step of a worker.
pub(crate) enum Step {
    Count(usize),
    /// All uncounted chunks are assigned to other processes. If one of these dies, its
    /// chunks are released.
    Wait,
    Finish,
}

impl Shared {
    pub(crate) fn new(plan: Plan, pause_milliseconds: u64) -> Self {
        Self {
            parent: process::id(),
            pause_milliseconds,
            ledger: ShmMutex::new(Ledger::new(plan.chunk_count)),
            plan,
            changed: ShmCondvar::new(),
        }
    }

    /// Locks the ledger, and repairs it if the last holder died.
    pub(crate) fn lock(&self) -> Result<ShmMutexGuard<'_, Ledger>, shm_sync::Error> {
        self.ledger
            .lock_or_recover(|ledger, cause| self.repair(ledger, cause, Call::Lock))
    }

    /// Locks the ledger, and waits until the workers may begin.
    pub(crate) fn lock_after_start(&self) -> Result<ShmMutexGuard<'_, Ledger>, shm_sync::Error> {
        let mut ledger = self.lock()?;
        while !ledger.started {
            ledger = self.wait(ledger)?;
        }
        Ok(ledger)
    }

    /// Waits for one notification, and repairs the ledger if the last holder died.
    pub(crate) fn wait<'a>(
        &'a self,
        ledger: ShmMutexGuard<'a, Ledger>,
    ) -> Result<ShmMutexGuard<'a, Ledger>, shm_sync::Error> {
        self.changed
            .wait(ledger)
            .or_recover(|ledger, cause| self.repair(ledger, cause, Call::Wait))
    }

    /// Rolls back the interrupted update. `call` reported the death.
    fn repair(&self, ledger: &mut Ledger, cause: PoisonCause, call: Call) {
        let repair = Repair {
            pid: process::id(),
            reported_by: call,
            locked_at: monotonic_nanoseconds(),
        };
        ledger.roll_back(cause, repair, || self.pause());
        // The repair may have released chunks that waiters can count.
        self.changed.notify_all();
    }

    /// Sleeps half of the time for a chunk.
    pub(crate) fn pause(&self) {
        thread::sleep(Duration::from_millis(self.pause_milliseconds) / 2);
    }
}

impl Ledger {
    /// Adds a chunk to the totals. Calls `halfway` in the middle of the update.
    pub(crate) fn add_chunk(
        &mut self,
        worker: u32,
        chunk: usize,
        counts: Counts,
        halfway: impl FnOnce(),
    ) {
        self.journal.worker = worker;
        self.journal.chunk = chunk;
        self.journal.totals_before = self.totals;
        keep_store_order();
        self.journal.open = true;
        keep_store_order();

        self.totals.lines += counts.lines;
        halfway();
        self.totals.words += counts.words;
        self.totals.bytes += counts.bytes;
        self.chunks[chunk].counted = true;

        keep_store_order();
        self.journal.open = false;
    }

    /// Undoes an interrupted update, and releases the chunks of the dead process. Calls
    /// `halfway` before the end.
    ///
    /// A process may be killed in this function. The next process is then told of
    /// *that* death, and the journal, which is still open, names the first dead
    /// process.
    fn roll_back(&mut self, cause: PoisonCause, repair: Repair, halfway: impl FnOnce()) {
        if self.journal.open {
            self.totals = self.journal.totals_before;
            self.chunks[self.journal.chunk].counted = false;
            self.record_owner_death(self.journal.worker, true, repair);
        }
        if let PoisonCause::OwnerDied { pid, .. } | PoisonCause::Panicked { pid, .. } = cause {
            self.record_owner_death(pid, false, repair);
        }
        halfway();
        keep_store_order();
        self.journal.open = false;
    }

    /// Records that `pid` died, unless that is recorded already, and releases its
    /// uncounted chunks.
    fn record_owner_death(&mut self, pid: u32, in_update: bool, repair: Repair) {
        if pid == NO_PROCESS {
            return;
        }
        if self.owner_deaths().iter().all(|death| death.pid != pid) {
            self.owner_deaths[self.owner_death_count] = OwnerDeath {
                pid,
                in_update,
                released_chunks: self.uncounted_chunks_of(pid),
                repair,
            };
            keep_store_order();
            self.owner_death_count += 1;
            keep_store_order();
        }
        self.release_chunks_of(pid);
    }

    /// Releases the uncounted chunks of a dead process for the other processes. Returns
    /// how many there are.
    pub(crate) fn release_chunks_of(&mut self, pid: u32) -> usize {
        let chunks = self.chunks[..self.chunk_count].iter_mut();
        let uncounted = chunks.filter(|chunk| chunk.is_uncounted_by(pid));
        uncounted
            .map(|chunk| chunk.assigned_to = NO_PROCESS)
            .count()
    }
}

/// Prevents the compiler from moving stores across this call.
///
/// A killed process has executed its machine code up to some instruction, and the next
/// process sees all stores before it. Without the fence the compiler may reorder the
/// stores, because it assumes that no thread reads them before the unlock.
fn keep_store_order() {
    compiler_fence(Ordering::SeqCst);
}

impl Ledger {
    fn new(chunk_count: usize) -> Self {
        const UNASSIGNED: ChunkState = ChunkState {
            assigned_to: NO_PROCESS,
            counted: false,
        };
        const EMPTY: OwnerDeath = OwnerDeath {
            pid: NO_PROCESS,
            in_update: false,
            released_chunks: 0,
            repair: Repair {
                pid: NO_PROCESS,
                reported_by: Call::Lock,
                locked_at: 0,
            },
        };
        Self {
            started: false,
            totals: Counts::default(),
            journal: Journal {
                open: false,
                worker: NO_PROCESS,
                chunk: 0,
                totals_before: Counts::default(),
            },
            chunk_count,
            chunks: [UNASSIGNED; MAX_CHUNKS],
            owner_death_count: 0,
            owner_deaths: [EMPTY; MAX_WORKERS],
        }
    }

    /// Assigns the first chunks to the workers in turn, so that each worker takes part
    /// even if another is faster.
    pub(crate) fn assign_initial_chunks(&mut self, workers: &[u32]) {
        let assignments = workers.iter().cycle().take(INITIAL_CHUNKS * workers.len());
        let chunks = self.chunks[..self.chunk_count].iter_mut();
        for (chunk, &worker) in chunks.zip(assignments) {
            chunk.assigned_to = worker;
        }
    }

    /// Returns the next step of `worker`. A chunk that it returns is assigned to the
    /// worker.
    pub(crate) fn next_step(&mut self, worker: u32) -> Step {
        let is_own = |chunk: &ChunkState| chunk.is_uncounted_by(worker);
        let is_unassigned = |chunk: &ChunkState| chunk.assigned_to == NO_PROCESS;
        let own = self.chunks().iter().position(is_own);
        match own.or_else(|| self.chunks().iter().position(is_unassigned)) {
            Some(chunk) => {
                self.chunks[chunk].assigned_to = worker;
                Step::Count(chunk)
            }
            None if self.is_complete() => Step::Finish,
            None => Step::Wait,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.chunks().iter().all(|chunk| chunk.counted)
    }

    pub(crate) fn uncounted_chunks_of(&self, pid: u32) -> usize {
        let chunks = self.chunks().iter();
        chunks.filter(|chunk| chunk.is_uncounted_by(pid)).count()
    }

    pub(crate) fn counted_chunks_of(&self, pid: u32) -> usize {
        let chunks = self.chunks().iter();
        chunks
            .filter(|chunk| chunk.counted && chunk.assigned_to == pid)
            .count()
    }

    pub(crate) fn owner_deaths(&self) -> &[OwnerDeath] {
        &self.owner_deaths[..self.owner_death_count]
    }

    fn chunks(&self) -> &[ChunkState] {
        &self.chunks[..self.chunk_count]
    }
}

impl ChunkState {
    fn is_uncounted_by(&self, pid: u32) -> bool {
        self.assigned_to == pid && !self.counted
    }
}

/// Reads `CLOCK_MONOTONIC`, which is the same clock in all processes. (An `Instant` may
/// not be stored in shared memory.)
pub(crate) fn monotonic_nanoseconds() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is valid for writes of a timespec. The call does not fail, because
    // every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
