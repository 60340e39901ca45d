//! The child: adds up the numbers in each line.

use std::error::Error;
use std::fmt;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::num::IntErrorKind;
use std::os::fd::AsFd;
use std::process;
use std::str;
use std::sync::Arc;
use std::thread;

use shm_sync::Segment;

use crate::shared::{Shared, report};

/// The argument that makes this program the child.
pub(crate) const ARGUMENT: &str = "--child-process";

/// The most bytes of a line: input without line breaks must not fill the memory.
const LONGEST_LINE: u64 = 16 << 20;

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let inherited = io::stdin().as_fd().try_clone_to_owned()?;
    let shared: Segment<Shared> = Segment::<Shared>::options().from_fd(inherited)?;
    let shared = Arc::new(shared);
    let reader = shared.pipe.reader()?;
    let parent = thread::spawn({
        let shared = Arc::clone(&shared);
        move || exit_after_parent(&shared)
    });
    // One read takes many lines out of the pipe. It waits only if there is none.
    match add_up(BufReader::new(reader), io::stdout().lock()) {
        // The parent has died, so the thread ends this process.
        Err(Failure::Input(error)) if error.kind() == ErrorKind::ConnectionAborted => {
            parent.join().map_err(|_| "the thread panicked".into())
        }
        result => Ok(result?),
    }
}

/// Ends this process when the parent has ended. It should wait for this process.
fn exit_after_parent(shared: &Shared) {
    let error: Box<dyn Error> = match shared.parent.wait_for_end(None) {
        Ok(_) => "the parent ended early, so the output is incomplete".into(),
        Err(error) => error.into(),
    };
    report(&*error);
    process::exit(1)
}

/// Why the output is incomplete.
#[derive(Debug)]
pub(crate) enum Failure {
    Input(io::Error),
    Output(io::Error),
    Report(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(error) => write!(f, "can't read the lines: {error}"),
            Self::Output(error) => write!(f, "can't write the sums: {error}"),
            Self::Report(error) => write!(f, "can't report a skipped line: {error}"),
        }
    }
}

impl Error for Failure {}

/// Writes the sum of the numbers in each line. Reports and skips bad lines.
pub(crate) fn add_up(mut lines: impl BufRead, output: impl Write) -> Result<(), Failure> {
    let mut output = BufWriter::new(output);
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let mut limited = lines.by_ref().take(LONGEST_LINE);
        let length = limited
            .read_until(b'\n', &mut line)
            .map_err(Failure::Input)?;
        let sum = match length as u64 {
            0 => break,
            LONGEST_LINE if line.last() != Some(&b'\n') => {
                lines.skip_until(b'\n').map_err(Failure::Input)?;
                Err(format!("it is longer than {LONGEST_LINE} bytes"))
            }
            _ => sum_of(&line),
        };
        match sum {
            Ok(sum) => writeln!(output, "{sum}").map_err(Failure::Output)?,
            Err(fault) => writeln!(io::stderr(), "numbers: line {number} was skipped: {fault}")
                .map_err(Failure::Report)?,
        }
    }
    output.flush().map_err(Failure::Output)
}

/// Returns the sum of the numbers in a line, or what is wrong with the line.
fn sum_of(line: &[u8]) -> Result<i64, String> {
    let line = str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
    let mut sum = 0_i64;
    for word in line.split_ascii_whitespace() {
        let number = word.parse::<i64>().map_err(|error| {
            let start: String = word.chars().take(40).collect();
            match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => {
                    format!("{start:?} does not fit 64 bits")
                }
                _ => format!("{start:?} is not a whole number"),
            }
        })?;
        sum = sum
            .checked_add(number)
            .ok_or("its sum does not fit 64 bits")?;
    }
    Ok(sum)
}
