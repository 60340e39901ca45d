//! Measures ways to get lines to the child: `ShmPipe`, an anonymous pipe, and the flag
//! that both sides poll.

use std::error::Error;
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::fd::AsFd;
use std::process::{self, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shm_sync::{Segment, ShmSafe};
use support::Random;

use crate::child;
use crate::output::Output;
use crate::parent::{exit_if_it_fails, send_to_child, start};

/// The argument that makes this program the child of a comparison. The way to get the
/// lines and the process id of the parent follow it.
pub(crate) const ARGUMENT: &str = "--compare-child";
const PIPE: &str = "pipe";
const FLAG: &str = "flag";

/// The sleep between two looks at the flag.
const NAP: Duration = Duration::from_micros(1000);
/// The most lines for the polled flag, which needs about 1 ms for each.
const LINES_BY_FLAG: usize = 1000;
const BLOCK: usize = 8192;

pub(crate) fn run(count: u64) -> Result<(), Box<dyn Error>> {
    let input = some_lines(count);
    let few = input.split_inclusive(|byte| *byte == b'\n');
    let few: usize = few.take(LINES_BY_FLAG).map(<[u8]>::len).sum();
    let few = &input[..few];

    let mut out = io::stdout();
    let titles = ["lines", "seconds", "per second"];
    writeln!(
        out,
        "{:<32}{:>10}{:>10}{:>14}",
        "", titles[0], titles[1], titles[2]
    )?;
    measure("ShmPipe, line by line", &input, |output| {
        send_to_child(output, |pipe| Ok(send_lines(&input, pipe)?))
    })?;
    measure("anonymous pipe, line by line", &input, |output| {
        by_pipe(output, |pipe| send_lines(&input, pipe))
    })?;
    measure("ShmPipe, 8 KiB at a time", &input, |output| {
        send_to_child(output, |pipe| Ok(send_blocks(&input, pipe)?))
    })?;
    measure("anonymous pipe, 8 KiB at a time", &input, |output| {
        by_pipe(output, |pipe| send_blocks(&input, pipe))
    })?;
    measure("a flag and usleep(1000)", few, |output| {
        by_flag(output, few)
    })
}

fn send_lines(input: &[u8], to: &mut dyn Write) -> io::Result<()> {
    let mut lines = input.split_inclusive(|byte| *byte == b'\n');
    lines.try_for_each(|line| to.write_all(line))
}

fn send_blocks(input: &[u8], to: &mut dyn Write) -> io::Result<()> {
    input
        .chunks(BLOCK)
        .try_for_each(|block| to.write_all(block))
}

/// Returns lines of one to eight numbers.
fn some_lines(count: u64) -> Vec<u8> {
    let mut random = Random(1);
    let mut lines = Vec::new();
    for _ in 0..count {
        let numbers: Vec<String> = (0..=random.below(8))
            .map(|_| random.below(1_000_000).to_string())
            .collect();
        lines.extend(numbers.join(" ").bytes());
        lines.push(b'\n');
    }
    lines
}

/// Runs one way, checks its sums, and prints a line of the table.
fn measure(
    name: &str,
    input: &[u8],
    way: impl FnOnce(&Output) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut expected = Vec::new();
    child::add_up(input, &mut expected)?;
    let mut output = Output::temporary()?;

    let start = Instant::now();
    way(&output)?;
    let seconds = start.elapsed().as_secs_f64();

    let mut sums = Vec::new();
    output.file.rewind()?;
    output.file.read_to_end(&mut sums)?;
    if sums != expected {
        return Err(format!("{name}: the sums are wrong").into());
    }
    let lines = input.iter().filter(|byte| **byte == b'\n').count();
    let rate = lines as f64 / seconds;
    writeln!(
        io::stdout(),
        "{name:<32}{lines:>10}{seconds:>10.3}{rate:>14.0}"
    )?;
    Ok(())
}

fn by_pipe(
    output: &Output,
    send: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Box<dyn Error>> {
    let arguments = [ARGUMENT, PIPE, &process::id().to_string()];
    let mut child = start(&arguments, Stdio::piped(), output)?;
    let mut pipe = child.stdin.take().ok_or("the child has no pipe")?;
    let child = exit_if_it_fails(child);
    let sent = send(&mut pipe);
    drop(pipe);
    child.join().map_err(|_| "the thread panicked")?;
    Ok(sent?)
}

/// The polled buffer: one line, and a flag that says which side may use it.
#[derive(ShmSafe)]
#[repr(C)]
struct Polled {
    is_full: AtomicU32,
    length: AtomicU32,
    line: [AtomicU8; BLOCK],
}

fn by_flag(output: &Output, input: &[u8]) -> Result<(), Box<dyn Error>> {
    let polled = Segment::anonymous(Polled {
        is_full: AtomicU32::new(0),
        length: AtomicU32::new(0),
        line: [const { AtomicU8::new(0) }; BLOCK],
    })?;
    let memory = Segment::as_fd(&polled).ok_or("the segment has no descriptor")?;
    let arguments = [ARGUMENT, FLAG, &process::id().to_string()];
    let child = start(&arguments, memory.try_clone_to_owned()?, output)?;
    let child = exit_if_it_fails(child);
    let mut writer = FlagWriter(&polled);
    send_lines(input, &mut writer)?;
    let _ = writer.write(&[])?; // An empty line is the end of the file.
    child.join().map_err(|_| "the thread panicked".into())
}

struct FlagWriter<'a>(&'a Polled);

impl Write for FlagWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Polled {
            is_full,
            length,
            line,
        } = self.0;
        while is_full.load(Ordering::Acquire) != 0 {
            thread::sleep(NAP);
        }
        let count = bytes.len().min(line.len());
        for (to, from) in line.iter().zip(bytes) {
            to.store(*from, Ordering::Relaxed);
        }
        length.store(count as u32, Ordering::Relaxed);
        is_full.store(1, Ordering::Release);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads one line at a time, into buffers that have room for it.
struct FlagReader<'a>(&'a Polled);

impl Read for FlagReader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Polled {
            is_full,
            length,
            line,
        } = self.0;
        while is_full.load(Ordering::Acquire) == 0 {
            thread::sleep(NAP);
        }
        let count = length.load(Ordering::Relaxed) as usize;
        for (to, from) in bytes.iter_mut().zip(&line[..count]) {
            *to = from.load(Ordering::Relaxed);
        }
        is_full.store(0, Ordering::Release);
        Ok(count)
    }
}

/// Adds up the lines in the child. These ways do not report the death of the parent, so
/// the kernel kills the child.
pub(crate) fn run_child(way: &str, parent: &str) -> Result<(), Box<dyn Error>> {
    support::end_with_parent(parent.parse()?)?;
    let output = io::stdout().lock();
    if way == PIPE {
        return Ok(child::add_up(io::stdin().lock(), output)?);
    }
    let memory = io::stdin().as_fd().try_clone_to_owned()?;
    let polled: Segment<Polled> = Segment::<Polled>::options().from_fd(memory)?;
    let lines = BufReader::with_capacity(BLOCK, FlagReader(&polled));
    Ok(child::add_up(lines, output)?)
}
