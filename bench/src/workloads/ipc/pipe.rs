//! Two pipes, one in each direction, with the largest size that an unprivileged process
//! may choose.

use std::fs;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::pipe;

use super::channel::{Channel, Side};
use super::stream::{read_all, write_all};
use crate::failure::Failure;
use crate::series::Survives;

/// Two pipes.
pub(super) struct Pipes {
    /// The pipes from the left and from the right process.
    from: [(OwnedFd, OwnedFd); 2],
}

impl Channel for Pipes {
    const NAME: &'static str = "pipe";
    const SURVIVES: Survives = Survives::DoesNotApply;

    fn create(_: usize) -> Result<Self, Failure> {
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

/// Creates a pipe with the largest size for unprivileged processes, or the default
/// size.
pub(in crate::workloads) fn large_pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    let (reader, writer) = pipe().map_err(Failure::os("pipe"))?;
    let largest = fs::read_to_string("/proc/sys/fs/pipe-max-size")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    if let Some(largest) = largest {
        // The call fails if this user has many large pipes already.
        let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(largest));
    }
    Ok((reader, writer))
}
