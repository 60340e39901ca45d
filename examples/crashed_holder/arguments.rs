//! The command line: what people may write, and what the parent writes for its
//! workers.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::Failure;
use crate::ledger::MAX_WORKERS;
use crate::worker::{Fate, Orders};

pub(crate) const HELP: &str = "\
Counts lines, words and bytes with several processes, some of which are killed
in the middle of an update of the shared totals.

Usage: crashed_holder [--workers W] [--kill N] [--] [FILE...]

  --workers W   how many processes count: 1 to 64, default 4
  --kill N      how many of them are killed: fewer than W, default 1
  --help        print this text

Without files, it counts the Markdown and Rust files of this repository.

Exit status: 0 if the shared totals equal those of a plain count, 1 if they
differ, 2 if something went wrong.
";

const WORKER: &str = "--worker";
const DOOMED: &str = "doomed";
const SURVIVOR: &str = "survivor";

/// What this process is to do.
pub(crate) enum Role {
    Help,
    Parent(Options),
    Worker(Orders),
}

pub(crate) struct Options {
    pub(crate) workers: usize,
    /// How many of them are to be killed.
    pub(crate) doomed: usize,
    /// Empty means those of the repository.
    pub(crate) files: Vec<PathBuf>,
}

impl Role {
    pub(crate) fn from_arguments(
        mut arguments: impl Iterator<Item = OsString>,
    ) -> Result<Self, Failure> {
        let mut options = Options {
            workers: 4,
            doomed: 1,
            files: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--help" | "-h") => return Ok(Self::Help),
                Some(WORKER) => return orders(arguments).map(Self::Worker),
                Some("--workers") => options.workers = number("--workers", arguments.next())?,
                Some("--kill") => options.doomed = number("--kill", arguments.next())?,
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
            workers, doomed, ..
        } = self;
        if !(1..=MAX_WORKERS).contains(&workers) {
            return Err(format!("--workers must be 1 to {MAX_WORKERS}, not {workers}").into());
        }
        if doomed >= workers {
            return Err(format!(
                "one worker at least must survive to finish the work: \
                 --kill {doomed} is too many for --workers {workers}"
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

/// What the parent writes for a worker, before the files.
pub(crate) fn arguments_of_worker(segment: &str, fate: Fate) -> [&str; 3] {
    let fate = match fate {
        Fate::Doomed => DOOMED,
        Fate::Survivor => SURVIVOR,
    };
    [WORKER, segment, fate]
}

/// Reads what [`arguments_of_worker`] and the list of files have become.
fn orders(mut arguments: impl Iterator<Item = OsString>) -> Result<Orders, Failure> {
    let segment = arguments.next().and_then(|name| name.into_string().ok());
    let fate = match arguments.next().as_deref().and_then(OsStr::to_str) {
        Some(DOOMED) => Some(Fate::Doomed),
        Some(SURVIVOR) => Some(Fate::Survivor),
        _ => None,
    };
    match (segment, fate) {
        (Some(segment), Some(fate)) => Ok(Orders {
            segment,
            fate,
            files: arguments.map(PathBuf::from).collect(),
        }),
        _ => Err(format!("{WORKER} is not for people: see --help").into()),
    }
}
