//! Two pipes, one in each direction, each as large as an unprivileged process may
//! have it.

use std::fs;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::pipe;

use super::stream::{read_all, write_all};
use super::way::{Side, Way};
use crate::failure::Failure;
use crate::report::Survives;

/// Two pipes.
pub(super) struct Pipes {
    /// From the left, and from the right.
    from: [(OwnedFd, OwnedFd); 2],
}

impl Way for Pipes {
    const NAME: &'static str = "pipe";
    const SURVIVES: Survives = Survives::DoesNotApply;

    fn make(_: usize) -> Result<Self, Failure> {
        Ok(Self {
            from: [large_pipe()?, large_pipe()?],
        })
    }

    fn send(&self, side: Side, message: &[u8]) -> Result<(), Failure> {
        write_all(&self.from[side.index()].1, message)
    }

    fn receive(&self, side: Side, message: &mut [u8]) -> Result<(), Failure> {
        read_all(&self.from[side.other().index()].0, message)
    }
}

/// A pipe of the largest size that is free for everybody, or of the default size.
fn large_pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    let (reader, writer) = pipe().map_err(Failure::of("pipe"))?;
    let largest = fs::read_to_string("/proc/sys/fs/pipe-max-size")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    if let Some(largest) = largest {
        // Whoever has many large pipes already gets no further one.
        let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(largest));
    }
    Ok((reader, writer))
}
