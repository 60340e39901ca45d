//! Sends and receives a descriptor over a Unix socket. A process that was not forked
//! from the creator of an anonymous segment gets the segment in this way.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// The contents of the message. A message has at least one byte, and the descriptor
/// travels beside it.
const BYTE: [u8; 1] = *b"x";

/// Sends a copy of `fd` (`SCM_RIGHTS` of [`unix(7)`]). The caller keeps `fd`.
///
/// [`unix(7)`]: https://man7.org/linux/man-pages/man7/unix.7.html
pub(crate) fn send(socket: &UnixStream, fd: BorrowedFd<'_>) -> io::Result<()> {
    let fds = [fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let bytes = [IoSlice::new(&BYTE)];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &bytes,
        &rights,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Waits for a descriptor. The kernel closes it on `exec`.
pub(crate) fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = BYTE;
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!(RawFd);
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut buffers,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for rights in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = rights {
            if let [fd] = fds[..] {
                // SAFETY: the kernel has just opened the descriptor for this process,
                // and no other code knows its number.
                return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    let message = "the peer closed the socket, or sent no descriptor";
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, message))
}
