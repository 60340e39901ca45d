//! The command line: the arguments of the user, and those that the parent passes to its
//! workers.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::failure::Failure;
use crate::ledger::MAX_WORKERS;
use crate::worker::{WorkerKind, WorkerOptions};

pub(crate) const HELP: &str = "\
Counts lines, words and bytes with several processes, and kills some of them in
the middle of an update of the shared totals.

Usage: crashed_holder [--workers W] [--kill N] [--] [FILE...]

  --workers W   number of processes that count: 1 to 64, default 4
  --kill N      number of these to kill: less than W, default 1
  --help        print this text

Without files, it counts the Markdown and Rust files of this repository.

Exit status: 0 if the shared totals equal those of a plain count, 1 if they
differ, 2 after an error.
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
    /// Empty means the files of the repository.
    pub(crate) files: Vec<PathBuf>,
}

impl Invocation {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, Failure> {
        let mut options = Options {
            workers: 4,
            victims: 1,
            files: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--help" | "-h") => return Ok(Self::Help),
                Some(WORKER) => return parse_worker(arguments).map(Self::Worker),
                Some("--workers") => options.workers = number("--workers", arguments.next())?,
                Some("--kill") => options.victims = number("--kill", arguments.next())?,
                Some("--") => options.files.extend(arguments.by_ref().map(PathBuf::from)),
                Some(option) if option.starts_with('-') => {
                    return Err(format!("there is no option {option}: see --help").into());
                }
                _ => options.files.push(argument.into()),
            }
        }
        options.check().map(Self::Parent)
    }
}

impl Options {
    fn check(self) -> Result<Self, Failure> {
        let Self {
            workers, victims, ..
        } = self;
        if !(1..=MAX_WORKERS).contains(&workers) {
            return Err(format!("--workers must be 1 to {MAX_WORKERS}, not {workers}").into());
        }
        if victims >= workers {
            return Err(format!(
                "at least one worker must survive to finish the count: \
                 --kill {victims} is too many for --workers {workers}"
            )
            .into());
        }
        Ok(self)
    }
}

fn number(option: &str, value: Option<OsString>) -> Result<usize, Failure> {
    let value = value.ok_or_else(|| format!("{option} needs a number"))?;
    let number = value.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("{option} needs a number, not {value:?}").into())
}

/// Returns the arguments of a worker. The files follow them.
pub(crate) fn worker_arguments(segment: &str, kind: WorkerKind) -> [&str; 3] {
    let kind = match kind {
        WorkerKind::Victim => VICTIM,
        WorkerKind::Survivor => SURVIVOR,
    };
    [WORKER, segment, kind]
}

/// Parses [`worker_arguments`] after the first, and the files.
fn parse_worker(mut arguments: impl Iterator<Item = OsString>) -> Result<WorkerOptions, Failure> {
    let segment = arguments.next().and_then(|name| name.into_string().ok());
    let kind = match arguments.next().as_deref().and_then(OsStr::to_str) {
        Some(VICTIM) => Some(WorkerKind::Victim),
        Some(SURVIVOR) => Some(WorkerKind::Survivor),
        _ => None,
    };
    match (segment, kind) {
        (Some(segment), Some(kind)) => Ok(WorkerOptions {
            segment,
            kind,
            files: arguments.map(PathBuf::from).collect(),
        }),
        _ => Err(format!("only the program itself may use {WORKER}: see --help").into()),
    }
}
