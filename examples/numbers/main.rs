//! A program reads lines of numbers, and a child process adds up each line and writes
//! the sums to a file. The lines go through shared memory, in a [`ShmPipe`].
//!
//! Such pairs of programs are often written with a flag and a buffer in shared memory,
//! and both sides sleep a millisecond between two looks at the flag. That is slow, and
//! if one side is killed, the other one polls for ever. Here, no process polls:
//!
//! * **The pipe** puts a reader to sleep while it is empty, and a writer while it is
//!   full.
//! * **The child is killed:** a thread of the parent waits for the end of the child,
//!   prints how it ended, and exits. So the parent ends at once, whether it waits for
//!   input or for room in the pipe.
//! * **The parent is killed:** a thread of the child waits for the end of the parent's
//!   [`ShmLifeline`](shm_sync::ShmLifeline), and does the same.
//! * **The output** has no name before it is complete. The kernel frees it if both
//!   processes are killed. An existing file is never replaced.
//!
//! The sums are those of `awk`, as long as they are below 2^53, where `awk` begins to
//! round. Here they are exact, and a sum that does not fit 64 bits is an error of its
//! line:
//!
//! ```sh
//! awk '{ s = 0; for (i = 1; i <= NF; i++) s += $i; printf "%d\n", s }'
//! ```
//!
//! The files in reading order: `shared.rs` is the shared memory. `parent.rs` copies the
//! lines, and `child.rs` adds up. `output.rs` is the file without a name. `compare.rs`
//! measures other ways to do the same.
//!
//! [`ShmPipe`]: shm_sync::ShmPipe

mod child;
mod compare;
mod output;
mod parent;
mod shared;

use std::env;
use std::error::Error;
use std::process::ExitCode;

const HELP: &str = "\
Adds up the whole numbers in each line, in a child process that gets the lines
through shared memory. OUTPUT is a new file, which gets this name when it is
complete, or a device. Without INPUT, the lines come from standard input.

Usage: cargo run --release --example numbers [-- OPTIONS] OUTPUT [INPUT]

  --compare N   instead, measure this and other ways with N lines, 1 to 10000000
  --help        print this text

A line without numbers has the sum 0. A line with anything else than whole
numbers has no sum: its number and its fault are printed, and it is skipped.

In a terminal, it waits for lines. Then kill one of its two processes.

Exit status: 0 if the output is complete, even if lines were skipped, 1 after an
error, 2 for wrong arguments.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [child::ARGUMENT] => child::run(),
        [compare::ARGUMENT, way, parent] => compare::run_child(way, parent),
        _ => run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shared::report(&*error);
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let options = [("compare", 0, 1..=10_000_000)];
    let ([lines], files) = support::parse_arguments_and_files(HELP, options, 2);
    match (lines, &files[..]) {
        (0, []) => support::exit_for_usage(&"OUTPUT is missing"),
        (0, [output]) => parent::run(output, None),
        (0, [output, input, ..]) => parent::run(output, Some(input)),
        (lines, []) => compare::run(lines),
        _ => support::exit_for_usage(&"--compare needs no files"),
    }
}
