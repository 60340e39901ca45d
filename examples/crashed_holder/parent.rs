//! The parent process. It makes the plan, starts the workers, kills the victims, reaps
//! all workers, and compares their totals with those of a plain count.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{self, Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use shm_sync::{Segment, unlink};

use crate::arguments::{Options, worker_arguments};
use crate::failure::Failure;
use crate::ledger::{INITIAL_CHUNKS, Shared, monotonic_nanoseconds};
use crate::report::{self, WorkerRun};
use crate::text::{InputFile, Plan, count_alone, repository_files};
use crate::worker::{HALFWAY, READY, WorkerKind};

const EXIT_TOTALS_DIFFER: u8 = 1;

pub(crate) fn count_with_workers(options: Options) -> Result<ExitCode, Failure> {
    let Options {
        workers,
        victims,
        files,
    } = options;
    let files = if files.is_empty() {
        repository_files()?
    } else {
        files
    };
    let inputs = files
        .into_iter()
        .map(InputFile::open)
        .collect::<Result<Vec<_>, _>>()?;
    let plan = Plan::new(&inputs, workers * INITIAL_CHUNKS)?;

    let name = format!("/shm-sync-crashed-holder-{}", process::id());
    let shared = Segment::create(&name, Shared::new(plan))?;
    let name = SegmentName(name);
    let mut workers = Workers::start(&name, &inputs, workers, victims)?;
    workers.wait_until_ready()?;
    // All workers have opened the segment, so it needs no name any more. The kernel
    // frees the memory when the last process ends.
    drop(name);

    let mut ledger = shared.lock()?;
    ledger.assign_initial_chunks(&workers.pids());
    ledger.started = true;
    shared.changed.notify_all();
    drop(ledger);

    workers.kill_victims_and_reap()?;

    let ledger = shared.lock()?;
    if !ledger.is_complete() {
        return Err("the workers left chunks uncounted".into());
    }
    let alone = count_alone(&inputs)?;
    report::print(inputs.len(), &ledger, &workers.runs(), victims, alone)?;
    Ok(if ledger.totals == alone {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_TOTALS_DIFFER)
    })
}

/// Unlinks the segment when dropped, also after an error.
struct SegmentName(String);

impl Drop for SegmentName {
    fn drop(&mut self) {
        if let Err(error) = unlink(&self.0) {
            eprintln!("crashed_holder: can't unlink {}: {error}", self.0);
        }
    }
}

/// The workers and their messages. `drop` kills and reaps the workers that still run.
struct Workers {
    list: Vec<Worker>,
    messages: Receiver<(usize, Message)>,
}

struct Worker {
    child: Child,
    /// When the parent killed it: see [`monotonic_nanoseconds`].
    killed_at: Option<u64>,
}

enum Message {
    Ready,
    Halfway,
    /// The worker's standard output was closed, because the worker ended.
    Ended,
}

impl Workers {
    /// Starts the workers. The victims come first, so the parent assigns chunks to them
    /// first.
    fn start(
        name: &SegmentName,
        inputs: &[InputFile],
        count: usize,
        victims: usize,
    ) -> Result<Self, Failure> {
        let program = env::current_exe()?;
        let (sender, messages) = mpsc::channel();
        let mut workers = Self {
            list: Vec::with_capacity(count),
            messages,
        };
        for index in 0..count {
            let kind = if index < victims {
                WorkerKind::Victim
            } else {
                WorkerKind::Survivor
            };
            let mut child = Command::new(&program)
                .args(worker_arguments(&name.0, kind))
                .args(inputs.iter().map(|input| &input.path))
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()?;
            let output = child.stdout.take();
            workers.list.push(Worker {
                child,
                killed_at: None,
            });
            let sender = sender.clone();
            thread::spawn(move || forward_messages(index, output, &sender));
        }
        Ok(workers)
    }

    fn pids(&self) -> Vec<u32> {
        self.list.iter().map(Worker::pid).collect()
    }

    fn runs(&self) -> Vec<WorkerRun> {
        let run = |worker: &Worker| WorkerRun {
            pid: worker.pid(),
            killed_at: worker.killed_at,
        };
        self.list.iter().map(run).collect()
    }

    fn wait_until_ready(&mut self) -> Result<(), Failure> {
        for _ in 0..self.list.len() {
            match self.messages.recv()? {
                (_, Message::Ready) => {}
                (index, _) => {
                    self.list[index].reap()?;
                    return Err("a worker ended before the start".into());
                }
            }
        }
        Ok(())
    }

    /// Kills each victim when it is halfway through an update, and waits until all
    /// workers have ended.
    fn kill_victims_and_reap(&mut self) -> Result<(), Failure> {
        let mut running = self.list.len();
        while running > 0 {
            let (index, message) = self.messages.recv()?;
            match message {
                Message::Ready => {}
                Message::Halfway => self.list[index].kill()?,
                Message::Ended => {
                    self.list[index].reap()?;
                    running -= 1;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for Worker { child, .. } in &mut self.list {
            // Both calls do nothing to a child that was reaped.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Worker {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the worker. The kernel releases its locks when it dies, and keeps its
    /// process id until [`reap`](Self::reap).
    fn kill(&mut self) -> Result<(), Failure> {
        self.killed_at = Some(monotonic_nanoseconds());
        Ok(self.child.kill()?)
    }

    /// Waits until the worker has ended. Returns an error if the worker failed and was
    /// not killed by this process.
    fn reap(&mut self) -> Result<(), Failure> {
        let status = self.child.wait()?;
        if status.success() || self.killed_at.is_some() {
            Ok(())
        } else {
            Err(format!("worker {} failed: {status}", self.pid()).into())
        }
    }
}

/// Forwards the messages of one worker until its standard output is closed.
fn forward_messages(
    index: usize,
    output: Option<ChildStdout>,
    messages: &Sender<(usize, Message)>,
) {
    let lines = output
        .into_iter()
        .flat_map(|pipe| BufReader::new(pipe).lines());
    let received = lines
        .map_while(Result::ok)
        .filter_map(|line| match line.as_str() {
            READY => Some(Message::Ready),
            HALFWAY => Some(Message::Halfway),
            _ => None,
        });
    for message in received.chain([Message::Ended]) {
        if messages.send((index, message)).is_err() {
            return; // The parent has stopped after an error.
        }
    }
}
