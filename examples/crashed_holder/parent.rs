//! The parent: makes the plan, starts the workers, kills the doomed, reaps all,
//! and compares what they have counted with a plain count.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{self, Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use shm_sync::{Segment, unlink};

use crate::Failure;
use crate::arguments::{Options, arguments_of_worker};
use crate::ledger::{HAND, Shared, monotonic_nanoseconds};
use crate::report::report;
use crate::text::{Input, Plan, count_alone, files_of_this_repository};
use crate::worker::{Fate, HALFWAY, READY};

const TOTALS_DIFFER: u8 = 1;

pub(crate) fn count_in_company(options: Options) -> Result<ExitCode, Failure> {
    let Options {
        workers,
        doomed,
        files,
    } = options;
    let files = if files.is_empty() {
        files_of_this_repository()?
    } else {
        files
    };
    let inputs = files
        .into_iter()
        .map(Input::measure)
        .collect::<Result<Vec<_>, _>>()?;
    let plan = Plan::new(&inputs, workers * HAND)?;

    let name = format!("/shm-sync-crashed-holder-{}", process::id());
    let shared = Segment::create(&name, Shared::new(plan))?;
    let name = Name(name);
    let mut crew = Crew::start(&name, &inputs, workers, doomed)?;
    crew.wait_until_ready()?;
    // Everybody has it open, so nobody needs the name any more, and the memory
    // is gone with the last process.
    drop(name);

    let mut ledger = shared.lock()?;
    ledger.deal(&crew.pids());
    ledger.started = true;
    shared.changed.notify_all();
    drop(ledger);

    crew.see_through()?;

    let ledger = shared.lock()?;
    if !ledger.is_complete() {
        return Err("the workers left something uncounted".into());
    }
    let alone = count_alone(&inputs)?;
    report(&inputs, &ledger, &crew.workers, doomed, alone);
    Ok(if ledger.totals == alone {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(TOTALS_DIFFER)
    })
}

/// Takes the segment's name away when dropped, also when something fails.
struct Name(String);

impl Drop for Name {
    fn drop(&mut self) {
        if let Err(error) = unlink(&self.0) {
            eprintln!("crashed_holder: can't unlink {}: {error}", self.0);
        }
    }
}

/// The workers, and what comes from them. When this is dropped, whatever the
/// reason, they are gone.
struct Crew {
    workers: Vec<Worker>,
    events: Receiver<(usize, Event)>,
}

pub(crate) struct Worker {
    child: Child,
    /// When the parent killed it: see [`monotonic_nanoseconds`].
    pub(crate) killed_at: Option<u64>,
}

enum Event {
    Ready,
    Halfway,
    /// The end of its output, which is its own end, however it came.
    Ended,
}

impl Crew {
    /// Starts the workers. The first ones are the doomed, so that they are
    /// dealt chunks first.
    fn start(
        name: &Name,
        inputs: &[Input],
        workers: usize,
        doomed: usize,
    ) -> Result<Self, Failure> {
        let program = env::current_exe()?;
        let (sender, events) = mpsc::channel();
        let mut crew = Self {
            workers: Vec::with_capacity(workers),
            events,
        };
        for index in 0..workers {
            let fate = if index < doomed {
                Fate::Doomed
            } else {
                Fate::Survivor
            };
            let mut child = Command::new(&program)
                .args(arguments_of_worker(&name.0, fate))
                .args(inputs.iter().map(|input| &input.path))
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()?;
            let output = child.stdout.take();
            crew.workers.push(Worker {
                child,
                killed_at: None,
            });
            let sender = sender.clone();
            thread::spawn(move || listen(index, output, &sender));
        }
        Ok(crew)
    }

    fn pids(&self) -> Vec<u32> {
        self.workers.iter().map(Worker::pid).collect()
    }

    fn wait_until_ready(&mut self) -> Result<(), Failure> {
        for _ in 0..self.workers.len() {
            match self.events.recv()? {
                (_, Event::Ready) => {}
                (index, _) => {
                    self.workers[index].reap()?;
                    return Err("a worker left before the start".into());
                }
            }
        }
        Ok(())
    }

    /// Kills every doomed worker when it is halfway, until all have ended.
    fn see_through(&mut self) -> Result<(), Failure> {
        let mut running = self.workers.len();
        while running > 0 {
            let (index, event) = self.events.recv()?;
            match event {
                Event::Ready => {}
                Event::Halfway => self.workers[index].kill()?,
                Event::Ended => {
                    self.workers[index].reap()?;
                    running -= 1;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for Worker { child, .. } in &mut self.workers {
            // These do nothing to a child that has been reaped.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Worker {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The kernel unlocks what it holds as it dies; its process id stays taken
    /// until it is reaped.
    fn kill(&mut self) -> Result<(), Failure> {
        self.killed_at = Some(monotonic_nanoseconds());
        Ok(self.child.kill()?)
    }

    /// Waits for its end, which must have been a success or our doing.
    fn reap(&mut self) -> Result<(), Failure> {
        let status = self.child.wait()?;
        if status.success() || self.killed_at.is_some() {
            Ok(())
        } else {
            Err(format!("worker {} failed: {status}", self.pid()).into())
        }
    }
}

/// Passes on what a worker says.
fn listen(index: usize, output: Option<ChildStdout>, events: &Sender<(usize, Event)>) {
    let lines = output
        .into_iter()
        .flat_map(|pipe| BufReader::new(pipe).lines());
    let said = lines
        .map_while(Result::ok)
        .filter_map(|line| match line.as_str() {
            READY => Some(Event::Ready),
            HALFWAY => Some(Event::Halfway),
            _ => None,
        });
    for event in said.chain([Event::Ended]) {
        if events.send((index, event)).is_err() {
            return; // the parent has given up
        }
    }
}
