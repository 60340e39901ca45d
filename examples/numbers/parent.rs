//! The parent: starts the child, and copies the input into the pipe.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use shm_sync::Segment;

use crate::child;
use crate::output::Output;
use crate::shared::{Shared, report};

pub(crate) fn run(output: &Path, input: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let input_error = |error| {
        let name = input.unwrap_or(Path::new("standard input"));
        format!("can't read {}: {error}", name.display())
    };
    let mut lines: Box<dyn Read> = match input {
        Some(path) => Box::new(File::open(path).map_err(input_error)?),
        None => Box::new(io::stdin().lock()),
    };
    let output = Output::create(output)?;
    send_to_child(&output, |pipe| {
        // An error of the pipe is not seen here, because the child has failed then.
        io::copy(&mut lines, pipe).map_err(input_error)?;
        Ok(())
    })?;
    output.give_name()
}

/// Starts the child, and lets `send` write the lines into the pipe. Returns when the
/// child has written all sums. Ends this process if the child fails.
pub(crate) fn send_to_child(
    output: &Output,
    send: impl FnOnce(&mut dyn Write) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let shared = Segment::anonymous(Shared::new())?;
    let _lifeline = shared.parent.hold()?;
    let mut writer = shared.pipe.writer()?;
    let memory = Segment::as_fd(&shared).ok_or("the segment has no descriptor")?;
    let child = start(&[child::ARGUMENT], memory.try_clone_to_owned()?, output)?;
    let child = exit_if_it_fails(child);

    let sent = send(&mut writer);
    drop(writer); // The child reads the end of the file.
    child.join().map_err(|_| "the thread panicked")?;
    sent
}

/// Starts this program again, as a child that writes to `output`.
pub(crate) fn start(
    arguments: &[&str],
    stdin: impl Into<Stdio>,
    output: &Output,
) -> io::Result<Child> {
    Command::new(env::current_exe()?)
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::from(output.file.try_clone()?))
        .spawn()
}

/// Starts a thread that ends when the child has succeeded. If the child fails, the
/// thread ends this process. The main thread can't do that while it reads the input.
pub(crate) fn exit_if_it_fails(mut child: Child) -> JoinHandle<()> {
    thread::spawn(move || {
        let error: Box<dyn Error> = match child.wait() {
            Ok(status) if status.success() => return,
            Ok(status) => {
                format!("the child ended early ({status}), so the output is incomplete").into()
            }
            Err(error) => error.into(),
        };
        report(&*error);
        process::exit(1)
    })
}
