//! What is sent: a number, and bytes that can be recognised.

use super::way::{Side, Way, wrong};
use crate::failure::Failure;

/// The bytes of the number.
const NUMBER: usize = size_of::<u64>();

/// A message of at least eight bytes.
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Number zero, from `side`.
    pub(super) fn new(len: usize, side: Side) -> Self {
        // Neighbours differ, and so do pages.
        let byte = |at: usize| (at ^ (at >> 8) ^ (at >> 16)) as u8 ^ (side.index() as u8 + 1);
        let mut message = Self {
            bytes: (0..len.max(NUMBER)).map(byte).collect(),
        };
        message.set_number(0);
        message
    }

    /// Room for a message: zeros.
    pub(super) fn empty(len: usize) -> Self {
        Self {
            bytes: vec![0; len.max(NUMBER)],
        }
    }

    pub(super) fn set_number(&mut self, number: u64) {
        self.bytes[..NUMBER].copy_from_slice(&number.to_ne_bytes());
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Says if this is not number `number`.
    pub(super) fn expect_number<W: Way>(&self, number: u64) -> Result<(), Failure> {
        if self.bytes[..NUMBER] == number.to_ne_bytes() {
            return Ok(());
        }
        Err(wrong(
            W::NAME,
            format!("message {number} did not come in its turn"),
        ))
    }

    /// Says if this is not what `sent` is.
    pub(super) fn expect<W: Way>(&self, sent: &Self) -> Result<(), Failure> {
        if self.bytes == sent.bytes {
            return Ok(());
        }
        Err(wrong(
            W::NAME,
            "a message came in other bytes than it was sent",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pipe::Pipes;
    use super::*;

    #[test]
    fn a_change_anywhere_is_seen() {
        let sent = Message::new(5000, Side::Left);
        for at in [8, 600, 4999] {
            let mut received = Message::new(5000, Side::Left);
            received.expect_number::<Pipes>(0).unwrap();
            received.expect::<Pipes>(&sent).unwrap();
            received.bytes_mut()[at] ^= 1;
            received.expect::<Pipes>(&sent).unwrap_err();
        }
        Message::empty(8).expect_number::<Pipes>(1).unwrap_err();
    }
}
