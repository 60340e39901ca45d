//! Writes what a harness has measured as a Markdown file.
//!
//! The environment variable `SHM_SYNC_RESULTS` names the directory, by an absolute
//! path, because `cargo test` starts each test in the directory of its package. Without
//! the variable nothing is written.
//!
//! ```no_run
//! use shm_sync_proof::results::Results;
//!
//! Results::new("soak", "The soak")
//!     .section("Kills")
//!     .table(&["what", "count"], &[vec!["kills".to_owned(), "1000".to_owned()]])
//!     .write();
//! ```
//!
//! Each file begins with the machine, the commit, the date and the command line.

// A test that includes this file by its path exports nothing, and may not use
// everything.
#![allow(dead_code, unreachable_pub)]

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// The environment variable that names the directory.
const DIRECTORY: &str = "SHM_SYNC_RESULTS";

/// The results of one run, which become one file.
#[derive(Debug)]
pub struct Results {
    name: String,
    title: String,
    body: String,
}

impl Results {
    /// Starts the file `<name>.md`.
    #[must_use]
    pub fn new(name: &str, title: &str) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            body: String::new(),
        }
    }

    /// Adds a heading.
    #[must_use]
    pub fn section(mut self, heading: &str) -> Self {
        let _ = write!(self.body, "\n## {heading}\n");
        self
    }

    /// Adds a table. Columns of numbers are aligned to the right.
    #[must_use]
    pub fn table(mut self, header: &[&str], rows: &[Vec<String>]) -> Self {
        let alignment = (0..header.len()).map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            if is_numeric(cells) { "--:" } else { "---" }
        });
        let lines = [
            line(header.iter().copied()),
            format!("|{}|", alignment.collect::<Vec<_>>().join("|")),
        ];
        let rows = rows.iter().map(|row| line(row.iter().map(String::as_str)));
        let lines: Vec<String> = lines.into_iter().chain(rows).collect();
        let _ = write!(self.body, "\n{}\n", lines.join("\n"));
        self
    }

    /// Writes the file to the directory that the environment variable names, if it is
    /// set.
    ///
    /// # Panics
    ///
    /// If the path is not absolute, or the file can't be written.
    pub fn write(self) {
        if let Some(directory) = std::env::var_os(DIRECTORY) {
            self.write_to(Path::new(&directory));
        }
    }

    /// Writes the file to a directory, which is created if it does not exist.
    ///
    /// # Panics
    ///
    /// If the path is not absolute, or the file can't be written.
    pub fn write_to(self, directory: &Path) {
        let shown = directory.display();
        assert!(
            directory.is_absolute(),
            "{DIRECTORY} must be an absolute path, not {shown}"
        );
        let run = Self::new("", "").table(&["", ""], &facts_of_this_run());
        let text = format!("# {}\n{}{}", self.title, run.body, self.body);
        let path = directory.join(self.name).with_extension("md");
        let written = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&path, text));
        if let Err(error) = written {
            panic!("{}: {error}", path.display());
        }
    }
}

/// Returns a number with a comma before each group of three digits.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let groups = digits.as_bytes()[first..].chunks(3);
    let groups = std::iter::once(&digits.as_bytes()[..first]).chain(groups);
    let groups = groups.filter(|group| !group.is_empty());
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// Returns a row of a table. A `|` in a cell would end it.
fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let cells: Vec<String> = cells.map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |", cells.join(" | "))
}

/// Returns whether a column holds numbers. A dash stands for a number that there is
/// not.
fn is_numeric<'a>(cells: impl Iterator<Item = &'a String>) -> bool {
    let mut numbers = cells
        .filter(|cell| !matches!(cell.as_str(), "" | "–"))
        .peekable();
    let is_number = |cell: &String| cell.starts_with(|first: char| first.is_ascii_digit());
    numbers.peek().is_some() && numbers.all(is_number)
}

/// Returns the machine, the date, the commit and the command line.
fn facts_of_this_run() -> Vec<Vec<String>> {
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "optimised"
    };
    let rows = [
        ("processor", processor()),
        ("kernel", output("uname", &["-sr"])),
        ("libc", libc_version()),
        ("compiler", output("rustc", &["--version"])),
        ("date", output("date", &["-u", "+%F %H:%M UTC"])),
        ("commit", commit()),
        ("command line", format!("`{}`, {build}", command_line())),
    ];
    let rows = rows.map(|(what, value)| vec![what.to_owned(), value]);
    rows.to_vec()
}

/// Returns the commit, with a mark if files have changed. This run may write results,
/// so changes of these do not count.
fn commit() -> String {
    let commit = output("git", &["describe", "--always"]);
    let mut diff = Command::new("git");
    diff.args([
        "diff",
        "--quiet",
        "HEAD",
        "--",
        ":/",
        ":(top,exclude)docs/results",
    ]);
    if diff.status().is_ok_and(|status| status.success()) {
        commit
    } else {
        format!("{commit}-dirty")
    }
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |model| {
        model.trim_start_matches([' ', '\t', ':'])
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let arch = std::env::consts::ARCH;
    format!("{model}, {cores} cores, {arch}")
}

/// Returns the version of the C library that this process runs with.
#[cfg(target_env = "gnu")]
fn libc_version() -> String {
    // SAFETY: the function has no preconditions.
    let version = unsafe { libc::gnu_get_libc_version() };
    // SAFETY: glibc returns a string with a zero byte that lives as long as the
    // process.
    let version = unsafe { std::ffi::CStr::from_ptr(version) };
    format!("glibc {}", version.to_string_lossy())
}

/// Returns the version of the C library that this process runs with.
#[cfg(not(target_env = "gnu"))]
fn libc_version() -> String {
    "not glibc".to_owned()
}

/// Returns the variables of this project, the program and its arguments.
fn command_line() -> String {
    let mut words: Vec<String> = std::env::vars()
        .filter(|(name, _)| name.starts_with("SHM_SYNC_") && name != DIRECTORY)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    words.sort();
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default();
    words.push(without_hash(&program.to_string_lossy()).to_owned());
    words.extend(arguments);
    words.join(" ")
}

/// Returns the name of a test binary without the hash that cargo appends.
fn without_hash(program: &str) -> &str {
    match program.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 => name,
        _ => program,
    }
}

/// Returns the first line that a command prints, or that it failed.
fn output(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    match text.lines().next() {
        Some(line) if !line.is_empty() => line.to_owned(),
        _ => "unknown".to_owned(),
    }
}
