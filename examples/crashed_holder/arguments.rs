//! The command line: the arguments of the user, and those that the parent passes to its
//! workers.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use lexopt::{Arg, Parser};

use crate::failure::Failure;
use crate::ledger::MAX_WORKERS;
use crate::worker::{WorkerKind, WorkerOptions};

pub(crate) const HELP: &str = "\
Counts lines, words and bytes with several processes, and kills some of them in
the middle of an update of the shared totals. You can kill more.

Usage: cargo run --release --example crashed_holder [-- OPTIONS [FILE...]]

  --workers W   number of processes that count: 1 to 64, default 4
  --kill N      number of these that the program kills: less than W, default 1
  --pause M     milliseconds that a process spends with each chunk, half of them
                in the update with the lock held: 0 to 60000, default 0
  --help        print this text

Without files, it counts the Markdown and Rust files of this repository.

Try --pause 50, and kill processes in another terminal: waiting, counting, with
the lock held, or in a repair. The program prints their ids. If you kill all of
them, it counts the rest itself. Ctrl-C ends all processes.

Exit status: 0 if the shared totals equal those of a plain count, 1 if they
differ, 2 after an error or for wrong arguments.
";

const WORKER: &str = "--worker";
const VICTIM: &str = "victim";
const SURVIVOR: &str = "survivor";

/// What this process is to do.
pub(crate) enum Invocation {
    Help,
    Parent(Options),
    Worker(WorkerOptions),
}

pub(crate) struct Options {
    pub(crate) workers: usize,
    /// How many of the workers the parent kills.
    pub(crate) victims: usize,
    /// Milliseconds for each chunk.
    pub(crate) pause: u64,
    /// Empty means the files of the repository.
    pub(crate) files: Vec<PathBuf>,
}

impl Invocation {
    pub(crate) fn parse(mut parser: Parser) -> Result<Self, Failure> {
        let mut worker = None;
        let mut options = Options {
            workers: 4,
            victims: 1,
            pause: 0,
            files: Vec::new(),
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("help") | Arg::Short('h') => return Ok(Self::Help),
                Arg::Long("worker") => worker = Some(worker_kind(&parser.value()?)?),
                Arg::Long("workers") => {
                    options.workers = number("--workers", &parser.value()?, 1..=MAX_WORKERS)?;
                }
                Arg::Long("kill") => {
                    options.victims = number("--kill", &parser.value()?, 0..=MAX_WORKERS)?;
                }
                Arg::Long("pause") => {
                    options.pause = number("--pause", &parser.value()?, 0..=60_000)?;
                }
                Arg::Value(file) => options.files.push(file.into()),
                other => return Err(other.unexpected().into()),
            }
        }
        match worker {
            Some(kind) => Ok(Self::Worker(WorkerOptions {
                kind,
                files: options.files,
            })),
            None => options.check().map(Self::Parent),
        }
    }
}

impl Options {
    fn check(self) -> Result<Self, Failure> {
        let Self {
            workers, victims, ..
        } = self;
        if victims >= workers {
            return Err(format!(
                "--kill {victims} is too many for --workers {workers}: one worker must remain"
            )
            .into());
        }
        Ok(self)
    }
}

fn number<N>(option: &str, value: &OsString, range: RangeInclusive<N>) -> Result<N, Failure>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let number = value.to_str().and_then(|text| text.parse().ok());
    number.filter(|n| range.contains(n)).ok_or_else(|| {
        let (first, last) = range.into_inner();
        format!("{option} needs a number from {first} to {last}, not {value:?}").into()
    })
}

/// Returns the arguments of a worker. The files follow them.
pub(crate) fn worker_arguments(kind: WorkerKind) -> [&'static str; 3] {
    let kind = match kind {
        WorkerKind::Victim => VICTIM,
        WorkerKind::Survivor => SURVIVOR,
    };
    [WORKER, kind, "--"]
}

fn worker_kind(value: &OsString) -> Result<WorkerKind, Failure> {
    match value.to_str() {
        Some(VICTIM) => Ok(WorkerKind::Victim),
        Some(SURVIVOR) => Ok(WorkerKind::Survivor),
        _ => Err(format!("only the program itself may use {WORKER}").into()),
    }
}
