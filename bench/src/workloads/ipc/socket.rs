//! Connected Unix sockets: `SOCK_STREAM`, and `SOCK_SEQPACKET` for messages that fit
//! into one packet. The buffers have the default sizes of the system.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use super::channel::{Channel, Side, wrong_result};
use super::stream::{read_all, write_all};
use crate::failure::Failure;
use crate::series::Survives;

/// A pair of stream sockets.
pub(super) struct Stream {
    ends: [OwnedFd; 2],
}

impl Channel for Stream {
    const NAME: &'static str = "Unix stream socket";
    const SURVIVES: Survives = Survives::DoesNotApply;

    fn create(_: usize) -> Result<Self, Failure> {
        Ok(Self {
            ends: pair(SockType::Stream)?,
        })
    }

    fn send(&self, side: Side, message: &[u8]) -> Result<(), Failure> {
        write_all(&self.ends[side.index()], message)
    }

    fn receive(&self, side: Side, message: &mut [u8]) -> Result<(), Failure> {
        read_all(&self.ends[side.index()], message)
    }
}

/// The longest message that one packet carries.
pub(super) const LONGEST_PACKET: usize = 64 << 10;

/// A pair of sockets that preserve message boundaries.
pub(super) struct Packets {
    ends: [OwnedFd; 2],
}

impl Channel for Packets {
    const NAME: &'static str = "Unix seqpacket socket";
    const SURVIVES: Survives = Survives::DoesNotApply;

    fn create(_: usize) -> Result<Self, Failure> {
        Ok(Self {
            ends: pair(SockType::SeqPacket)?,
        })
    }

    fn send(&self, side: Side, message: &[u8]) -> Result<(), Failure> {
        let socket = self.ends[side.index()].as_raw_fd();
        match send(socket, message, MsgFlags::empty()).map_err(Failure::os("send"))? {
            sent if sent == message.len() => Ok(()),
            sent => Err(wrong_result(
                Self::NAME,
                format!("only {sent} bytes of a packet were sent"),
            )),
        }
    }

    fn receive(&self, side: Side, message: &mut [u8]) -> Result<(), Failure> {
        let socket = self.ends[side.index()].as_raw_fd();
        match recv(socket, message, MsgFlags::empty()).map_err(Failure::os("recv"))? {
            received if received == message.len() => Ok(()),
            received => Err(wrong_result(
                Self::NAME,
                format!("a packet of {received} bytes arrived"),
            )),
        }
    }
}

fn pair(kind: SockType) -> Result<[OwnedFd; 2], Failure> {
    let (left, right) = socketpair(AddressFamily::Unix, kind, None, SockFlag::empty())
        .map_err(Failure::os("socketpair"))?;
    Ok([left, right])
}
