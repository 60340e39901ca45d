//! Sending a descriptor over a Unix socket: the one way to share memory that has
//! no name with a process that was not forked from this one.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// A message has at least one byte; the descriptor comes beside it.
const LETTER: [u8; 1] = *b"x";

/// Sends a copy of `file` ([`unix(7)`](https://man7.org/linux/man-pages/man7/unix.7.html),
/// `SCM_RIGHTS`). Ours stays open.
pub(crate) fn send(socket: &UnixStream, file: BorrowedFd<'_>) -> io::Result<()> {
    let files = [file.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&files)];
    let letter = [IoSlice::new(&LETTER)];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &letter,
        &rights,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Waits for a descriptor. It is closed on `exec`.
pub(crate) fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut letter = LETTER;
    let mut buffers = [IoSliceMut::new(&mut letter)];
    let mut space = cmsg_space!(RawFd);
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut buffers,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for rights in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(files) = rights {
            if let [file] = files[..] {
                // SAFETY: the kernel has just opened it for this process, and
                // nobody else knows its number.
                return Ok(unsafe { OwnedFd::from_raw_fd(file) });
            }
        }
    }
    let message = "the other side closed the socket, or sent no descriptor";
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, message))
}
