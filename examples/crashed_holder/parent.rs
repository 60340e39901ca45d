//! The parent process. It makes the plan, starts the workers, kills the victims, reaps
//! all workers, and compares their totals with those of a plain count.

use std::env;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use shm_sync::Segment;

use crate::arguments::{Options, worker_arguments};
use crate::failure::Failure;
use crate::ledger::{INITIAL_CHUNKS, Shared, monotonic_nanoseconds};
use crate::report::{self, WorkerRun};
use crate::text::{InputFile, Plan, count_alone, repository_files};
use crate::worker::{HALFWAY, READY, WorkerKind, WorkerOptions, count_chunks};

const EXIT_TOTALS_DIFFER: u8 = 1;

pub(crate) fn count_with_workers(options: Options) -> Result<ExitCode, Failure> {
    let Options {
        workers: count,
        victims,
        pause,
        files,
    } = options;
    let files = if files.is_empty() {
        repository_files()?
    } else {
        files
    };
    let inputs = files
        .iter()
        .map(|path| InputFile::open(path.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    let plan = Plan::new(&inputs, count * INITIAL_CHUNKS)?;

    let shared = Arc::new(Segment::anonymous(Shared::new(plan, pause))?);
    let workers = Workers::start(&shared, &files, count, victims)?;
    workers.wait_until_ready();
    if pause > 0 {
        report::invite(&workers.pids)?;
    }

    let mut ledger = shared.lock()?;
    ledger.assign_initial_chunks(&workers.pids);
    ledger.started = true;
    shared.changed.notify_all();
    drop(ledger);

    let runs = workers.wait_until_ended()?;
    // If the user has killed all workers, this process counts the rest.
    count_chunks(
        &shared,
        &WorkerOptions {
            kind: WorkerKind::Survivor,
            files,
        },
    )?;

    let ledger = shared.lock()?;
    let alone = count_alone(&inputs)?;
    report::print(inputs.len(), &ledger, &runs, alone)?;
    if pause == 0 {
        report::hint()?;
    }
    Ok(if ledger.totals == alone {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_TOTALS_DIFFER)
    })
}

/// The workers. A thread of this process watches each of them. If this process ends
/// early, the kernel kills the workers.
struct Workers {
    pids: Vec<u32>,
    /// Disconnected when each worker has opened the segment, or has ended.
    not_ready: Receiver<()>,
    ended: Receiver<Result<WorkerRun, Failure>>,
}

impl Workers {
    /// Starts the workers. The victims come first, so the parent assigns chunks to them
    /// first.
    fn start(
        shared: &Arc<Segment<Shared>>,
        files: &[PathBuf],
        count: usize,
        victims: usize,
    ) -> Result<Self, Failure> {
        let program = env::current_exe()?;
        let (not_ready_sender, not_ready) = mpsc::channel();
        let (ended_sender, ended) = mpsc::channel();
        let mut pids = Vec::new();
        for index in 0..count {
            let kind = if index < victims {
                WorkerKind::Victim
            } else {
                WorkerKind::Survivor
            };
            let segment = Segment::as_fd(shared).ok_or("the segment has no descriptor")?;
            let child = Command::new(&program)
                .args(worker_arguments(kind))
                .args(files)
                .stdin(segment.try_clone_to_owned()?)
                .stdout(Stdio::piped())
                .spawn()?;
            pids.push(child.id());

            let shared = Arc::clone(shared);
            let (not_ready, ended) = (not_ready_sender.clone(), ended_sender.clone());
            // Sending fails only if the main thread has stopped after an error.
            thread::spawn(move || ended.send(watch(child, kind, &shared, not_ready)));
        }
        Ok(Self {
            pids,
            not_ready,
            ended,
        })
    }

    fn wait_until_ready(&self) {
        // No message is sent. The error says that all senders were dropped.
        let _ = self.not_ready.recv();
    }

    /// Waits until all workers have ended. Returns their runs in the order of the
    /// start.
    fn wait_until_ended(&self) -> Result<Vec<WorkerRun>, Failure> {
        let mut runs = Vec::new();
        for _ in &self.pids {
            runs.push(self.ended.recv()??);
        }
        runs.sort_by_key(|run| self.pids.iter().position(|&pid| pid == run.pid));
        Ok(runs)
    }
}

/// Kills a victim when it is halfway through an update. Waits until the worker has
/// ended, and releases its chunks, because it may have been killed without the lock.
/// Drops `not_ready` when the worker is ready or has ended.
///
/// A thread of its own does this for each worker. So a thread that waits for the lock
/// here does not prevent the kill of a victim that holds the lock.
fn watch(
    mut child: Child,
    kind: WorkerKind,
    shared: &Shared,
    not_ready: Sender<()>,
) -> Result<WorkerRun, Failure> {
    let pid = child.id();
    let mut not_ready = Some(not_ready);
    let mut killed_at = None;
    let output = child.stdout.take().ok_or("the worker has no pipe")?;
    for line in BufReader::new(output).lines() {
        match line?.as_str() {
            READY => not_ready = None,
            // The user may have killed it before.
            HALFWAY if child.try_wait()?.is_none() => {
                killed_at = Some(monotonic_nanoseconds());
                child.kill()?;
            }
            _ => {}
        }
    }
    // The worker has closed its output, because it ended.
    drop(not_ready);
    let status = child.wait()?;
    if !status.success() && status.signal().is_none() {
        return Err(format!("worker {pid} failed: {status}").into());
    }

    // Chunks are assigned at the start, also to a worker that is already dead.
    let mut ledger = shared.lock_after_start()?;
    let released_chunks = ledger.release_chunks_of(pid);
    shared.changed.notify_all();
    drop(ledger);
    let run = WorkerRun {
        pid,
        is_victim: kind == WorkerKind::Victim,
        killed_at,
        signal: status.signal(),
        released_chunks,
    };
    if shared.pause_milliseconds > 0 && run.signal.is_some() {
        report::print_death(&run)?;
    }
    Ok(run)
}
