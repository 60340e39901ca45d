//! What the examples share: they parse the command line, fork, count primes, and make
//! pseudorandom numbers.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::process;

use lexopt::Arg;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid};

/// The exit status after wrong arguments.
pub const EXIT_USAGE: i32 = 2;

/// An option that takes a number: its name without `--`, its default, its range.
pub type NumberOption = (&'static str, u64, RangeInclusive<u64>);

/// Returns the values of the options, in their order. Prints `help` and exits if the
/// user asks for it. Exits with status 2 if the arguments are wrong.
pub fn parse_arguments<const N: usize>(help: &str, options: [NumberOption; N]) -> [u64; N] {
    parse_arguments_and_files(help, options, 0).0
}

/// Does the same as [`parse_arguments`], and returns the other arguments as well, which
/// are paths. There are at most `max_files` of them.
pub fn parse_arguments_and_files<const N: usize>(
    help: &str,
    options: [NumberOption; N],
    max_files: usize,
) -> ([u64; N], Vec<PathBuf>) {
    let mut values = options.clone().map(|(_, default, _)| default);
    let mut files = Vec::new();
    match parse(&options, &mut values, max_files, &mut files) {
        Ok(Request::Run) => (values, files),
        Ok(Request::Help) => {
            let written = io::stdout().write_all(help.as_bytes());
            process::exit(i32::from(written.is_err()))
        }
        Err(error) => exit_for_usage(&error),
    }
}

/// Prints what is wrong with the arguments, and exits with status 2.
pub fn exit_for_usage(error: &dyn Display) -> ! {
    eprintln!("{error}: see --help");
    process::exit(EXIT_USAGE)
}

enum Request {
    Run,
    Help,
}

fn parse(
    options: &[NumberOption],
    values: &mut [u64],
    max_files: usize,
    files: &mut Vec<PathBuf>,
) -> Result<Request, lexopt::Error> {
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        let name = match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Request::Help),
            Arg::Long(name) => name,
            Arg::Value(file) if files.len() < max_files => {
                files.push(file.into());
                continue;
            }
            other => return Err(other.unexpected()),
        };
        let Some(index) = options.iter().position(|option| option.0 == name) else {
            return Err(argument.unexpected());
        };
        let (name, _, range) = &options[index];
        let text = parser.value()?;
        let number = text.to_str().and_then(|text| text.parse().ok());
        values[index] = number.filter(|n| range.contains(n)).ok_or_else(|| {
            let (first, last) = range.clone().into_inner();
            format!("--{name} needs a number from {first} to {last}, not {text:?}")
        })?;
    }
    Ok(Request::Run)
}

/// Forks a process that runs `body` and ends with exit status 0, or with 1 after an
/// error, which it prints. The kernel kills it when this process ends.
///
/// # Errors
///
/// `fork` failed, or this process has several threads: a lock of the allocator that
/// another thread holds would stay locked in the child.
pub fn fork<E: Display>(body: impl FnOnce() -> Result<(), E>) -> io::Result<Pid> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        let message = "a process with several threads must not fork";
        return Err(io::Error::other(message));
    }
    let parent = process::id();
    // SAFETY: this process has only one thread. So no other thread holds a lock of the
    // allocator or of the standard library that would stay locked in the child.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let ended = end_with_parent(parent).map_err(|error| error.to_string());
            match ended.and_then(|()| body().map_err(|error| error.to_string())) {
                Ok(()) => process::exit(0),
                Err(error) => {
                    eprintln!("process {}: {error}", process::id());
                    process::exit(1)
                }
            }
        }
    }
}

/// Makes the kernel kill this process when the thread of `parent` ends that started it.
/// Exits if the parent has ended already.
///
/// # Errors
///
/// The error of `prctl`.
pub fn end_with_parent(parent: u32) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if parent_id() != parent {
        process::exit(1);
    }
    Ok(())
}

/// Counts the primes below a number. It takes time, as a real job does.
pub fn count_primes(below: u64) -> u64 {
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0);
    (2..below).filter(is_prime).count() as u64
}

/// Pseudorandom numbers (xorshift64). The seed is not 0.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// Returns the next number, which is less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
