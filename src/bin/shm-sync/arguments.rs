//! What the tool can be asked.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use shm_sync::Address;

/// What every help page ends with.
const EXIT_CODES: &str = "\
Exit codes:
  0  done; also if some rows say that an object can't be read
  1  it could not be done: no such segment or process, in use, no permission
  2  wrong usage, or not confirmed";

/// Shows and cleans up what processes share by the shm-sync library: POSIX objects,
/// files, System V segments and memfds.
///
/// It reads any segment, whatever type it holds. It takes no lock and waits for
/// none, so it works while a process that holds one is stopped, and nobody notices.
/// What it shows is no snapshot: the processes go on meanwhile.
#[derive(Debug, Parser)]
#[command(name = "shm-sync", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// When to use colours; `auto` is on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List all segments, of every backing
    ///
    /// Files and memfds are found through the processes that map them. Root sees
    /// all; others see what they may read, and their own processes.
    #[command(after_help = EXIT_CODES)]
    Ls(Ls),
    /// Show a segment: header, users, and every lock with its holder
    #[command(after_help = EXIT_CODES)]
    Show(Show),
    /// Show a segment again and again
    ///
    /// On a terminal, q, Esc or Ctrl-C ends it, and any other key refreshes.
    #[command(after_help = EXIT_CODES)]
    Watch(Watch),
    /// List what a process has attached
    #[command(after_help = EXIT_CODES)]
    Maps(Maps),
    /// Remove a segment that nobody is attached to
    ///
    /// What is in use is not removed, and nothing that is no segment of this library.
    #[command(after_help = EXIT_CODES)]
    Rm(Rm),
    /// Remove all segments that nobody is attached to
    ///
    /// Also those that persist by design: look with --dry-run first. Files outside
    /// /dev/shm, and segments that can't be read, are left alone.
    #[command(after_help = EXIT_CODES)]
    Gc(Gc),
    /// Take the mark of poison from a mutex, after asking
    ///
    /// You vouch for the data then. A program that knows the type can repair it.
    #[command(after_help = EXIT_CODES)]
    ClearPoison(ClearPoison),
    /// Print the manual page, or write those of all commands to a directory
    Man(Man),
    /// Print completions for a shell
    Completions(Completions),
}

#[derive(Debug, Args)]
pub(crate) struct Format {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Also list foreign objects in /dev/shm and System V
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Subject {
    /// "/jobs", "./file", "sysv:42", "sysv:id:7", or "/proc/PID/fd/N"
    #[arg(value_name = "NAME")]
    pub(crate) address: Address,
}

#[derive(Debug, Args)]
pub(crate) struct Limit {
    /// How many locks to show at most; those in use come first
    #[arg(long, default_value_t = 1000)]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) subject: Subject,
    #[command(flatten)]
    pub(crate) limit: Limit,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// How long to wait between two looks
    #[arg(short = 'n', long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) interval: Duration,
    /// How many times to look; for ever if not given
    #[arg(short, long)]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) limit: Limit,
    /// Print a line of JSON for every look
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Maps {
    /// The id of the process
    pub(crate) pid: u32,
    /// Also list foreign objects in /dev/shm and System V
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// "/jobs", "./file", "sysv:42" or "sysv:id:7"
    #[arg(value_name = "NAME", required = true)]
    pub(crate) addresses: Vec<Address>,
}

#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ClearPoison {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// The mutex, as `show` names it: ".workers[3].lock"; "." if the segment is one
    pub(crate) field: String,
    /// Don't ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write a page for every command into this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// For which shell
    pub(crate) shell: clap_complete::Shell,
}

fn seconds(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_millis(50);
    let number: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    let interval = Duration::try_from_secs_f64(number).map_err(|error| error.to_string())?;
    match interval < SHORTEST {
        true => Err(format!("less than {SHORTEST:?}")),
        false => Ok(interval),
    }
}
