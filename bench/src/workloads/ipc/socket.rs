//! Connected Unix sockets: `SOCK_STREAM`, and `SOCK_SEQPACKET` for messages that fit
//! into one packet. The buffers have the system's default sizes.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use super::stream::{read_all, write_all};
use super::way::{Side, Way, wrong};
use crate::failure::Failure;
use crate::report::Survives;

/// A pair of stream sockets.
pub(super) struct Stream {
    ends: [OwnedFd; 2],
}

impl Way for Stream {
    const NAME: &'static str = "Unix stream socket";
    const SURVIVES: Survives = Survives::DoesNotApply;

    fn make(_: usize) -> Result<Self, Failure> {
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

/// The longest message that is sent as one packet.
pub(super) const LONGEST_PACKET: usize = 64 << 10;

/// A pair of sockets that keep messages apart.
pub(super) struct Packets {
    ends: [OwnedFd; 2],
}

impl Way for Packets {
    const NAME: &'static str = "Unix seqpacket socket";
    const SURVIVES: Survives = Survives::DoesNotApply;

    fn make(_: usize) -> Result<Self, Failure> {
        Ok(Self {
            ends: pair(SockType::SeqPacket)?,
        })
    }

    fn send(&self, side: Side, message: &[u8]) -> Result<(), Failure> {
        let socket = self.ends[side.index()].as_raw_fd();
        match send(socket, message, MsgFlags::empty()).map_err(Failure::of("send"))? {
            sent if sent == message.len() => Ok(()),
            sent => Err(wrong(
                Self::NAME,
                format!("{sent} bytes of a packet went out"),
            )),
        }
    }

    fn receive(&self, side: Side, message: &mut [u8]) -> Result<(), Failure> {
        let socket = self.ends[side.index()].as_raw_fd();
        match recv(socket, message, MsgFlags::empty()).map_err(Failure::of("recv"))? {
            received if received == message.len() => Ok(()),
            received => Err(wrong(
                Self::NAME,
                format!("a packet of {received} bytes came"),
            )),
        }
    }
}

fn pair(kind: SockType) -> Result<[OwnedFd; 2], Failure> {
    let (left, right) = socketpair(AddressFamily::Unix, kind, None, SockFlag::empty())
        .map_err(Failure::of("socketpair"))?;
    Ok([left, right])
}
