//! The command line arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use shm_sync::Address;

use crate::c_header;
use crate::complete;

/// The end of every help page.
const EXIT_CODES: &str = "\
Exit codes:
  0    success, also if some rows report an object that can't be read
  1    failure: no such segment or process, segment in use, no permission, or the output
       can't be written
  2    wrong usage, or not confirmed
  141  the reader of the output has closed it";

/// Shows and cleans up segments of the shm-sync library: POSIX objects, files, System V
/// segments and memfds.
///
/// The tool reads segments of any type. It does not lock them and does not wait for
/// locks, so it works while a stopped process holds a lock, and the users notice
/// nothing. Its output is not a snapshot, because the processes go on meanwhile.
#[derive(Debug, Parser)]
#[command(name = "shm-sync", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// When to use colours; `auto` uses them on a terminal, unless NO_COLOR is set
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
    /// Files and memfds are found through the processes that map them. Root sees all
    /// segments and processes. Other users see the segments that they may read, and
    /// their own processes.
    #[command(after_help = EXIT_CODES)]
    Ls(Ls),
    /// Show a segment: header, attached processes, and every lock with its holder
    #[command(after_help = EXIT_CODES)]
    Show(Show),
    /// Show a segment repeatedly
    ///
    /// On a terminal, q, Esc or Ctrl-C quits, and any other key refreshes.
    #[command(after_help = EXIT_CODES)]
    Watch(Watch),
    /// List the segments that a process has mapped
    #[command(after_help = EXIT_CODES)]
    Maps(Maps),
    /// Remove segments to which no process is attached
    ///
    /// Segments in use, and objects that are not segments of this library, are not
    /// removed.
    #[command(after_help = EXIT_CODES)]
    Rm(Rm),
    /// Remove segments that their processes have left behind
    ///
    /// These are segments to which no process is attached, and which should be gone:
    /// `UntilLastDetach` segments that their last process left, and System V segments
    /// whose creator died before they were complete. The command lists them and asks. A
    /// script passes --yes. Without a terminal and without --yes, nothing is done.
    /// Persistent segments and those of other users stay, unless the options below
    /// select them. Files outside /dev/shm, and segments that can't be read, always
    /// stay.
    #[command(after_help = EXIT_CODES)]
    Gc(Gc),
    /// Clear the poison of a mutex, after confirmation
    ///
    /// You are then responsible for the data. A program that knows the type can repair
    /// it.
    #[command(after_help = EXIT_CODES)]
    ClearPoison(ClearPoison),
    /// Print a C header for the value of a segment
    ///
    /// The header has a struct for each type, and checks sizes and offsets when it is
    /// compiled, as C11 or C++17. It includes `shm_sync.h`.
    #[command(after_help = EXIT_CODES)]
    ExportC(ExportC),
    /// Print the manual page, or write the pages of all commands to a directory
    Man(Man),
    /// Print the completions for a shell: of commands, segments, fields and processes
    ///
    /// bash: `source <(shm-sync completions bash)` in ~/.bashrc;
    /// zsh: `source <(shm-sync completions zsh)` in ~/.zshrc;
    /// fish: `shm-sync completions fish | source` in ~/.config/fish/config.fish.
    /// The shell calls the tool, so print them again after an update.
    Completions(Completions),
}

#[derive(Debug, Args)]
pub(crate) struct Format {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Columns {
    /// Show all columns, in full, and not only those that fit 80 columns
    #[arg(short, long)]
    pub(crate) wide: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Also list other objects in /dev/shm and other System V segments
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) columns: Columns,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Subject {
    /// "/jobs", "./file", "sysv:42", "sysv:id:7", or "/proc/PID/fd/N"
    #[arg(value_name = "NAME", value_parser = parse_address(), add = ArgValueCompleter::new(complete::names))]
    pub(crate) address: Address,
}

#[derive(Debug, Args)]
pub(crate) struct Limit {
    /// The maximum number of locks to show; unlocked and clean ones are omitted first
    #[arg(long, default_value_t = 1000)]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// Also show the values of all fields; they are read without locks, so they are no
    /// snapshot and may be torn
    #[arg(long)]
    pub(crate) values: bool,
    #[command(flatten)]
    pub(crate) limit: Limit,
    #[command(flatten)]
    pub(crate) columns: Columns,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// The time between two reports
    #[arg(short = 'n', long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) interval: Duration,
    /// The number of reports; without limit if not given
    #[arg(short, long)]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) limit: Limit,
    /// Show the header as well, and all columns
    #[arg(short, long)]
    pub(crate) wide: bool,
    /// Print one line of JSON per report
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Maps {
    /// The id of the process
    #[arg(add = ArgValueCompleter::new(complete::pids))]
    pub(crate) pid: u32,
    /// Also list other objects in /dev/shm and other System V segments
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) columns: Columns,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// "/jobs", "./file", "sysv:42" or "sysv:id:7"
    #[arg(value_name = "NAME", required = true, value_parser = parse_address(), add = ArgValueCompleter::new(complete::names))]
    pub(crate) addresses: Vec<Address>,
}

#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Only report the segments that would be removed
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Also remove persistent segments to which no process is attached, with their data
    #[arg(long)]
    pub(crate) persistent: bool,
    /// Also remove segments of other users, if this user may
    #[arg(long)]
    pub(crate) all_users: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ClearPoison {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// The mutex, as `show` names it: ".workers[3].lock", or "." if the segment is a
    /// mutex
    #[arg(add = ArgValueCompleter::new(complete::fields))]
    pub(crate) field: String,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportC {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// The name of the value's type; all other names begin with it, and those of macros
    /// with its capital letters. Without it, it is the name of the segment up to the
    /// first dot and without a leading "shm-sync-": "runs" for "/shm-sync-runs" and for
    /// "./runs.bin"
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    pub(crate) prefix: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write one page per command into this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// Returns the parser of addresses, which need not be UTF-8.
fn parse_address() -> impl TypedValueParser<Value = Address> {
    OsStringValueParser::new().try_map(|text| Address::try_from(text.as_os_str()))
}

/// Parses the prefix of `export-c`.
fn prefix(text: &str) -> Result<String, String> {
    if c_header::is_free(text) {
        return Ok(text.to_owned());
    }
    Err("not a name that a C and C++ program may define".to_owned())
}

/// Parses the interval of `watch`.
fn seconds(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(365 * 86_400);
    let number: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    let interval = Duration::try_from_secs_f64(number).map_err(|error| error.to_string())?;
    if interval < SHORTEST {
        return Err(format!("less than {SHORTEST:?}"));
    }
    if interval > LONGEST {
        return Err("more than a year".to_owned());
    }
    Ok(interval)
}
