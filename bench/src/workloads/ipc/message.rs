//! Messages: a number and a pattern of bytes.

use super::channel::{Channel, Side, wrong_result};
use crate::failure::Failure;

/// The size of the number in bytes.
const NUMBER_LEN: usize = size_of::<u64>();

/// A message of at least eight bytes.
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Creates message number zero from `side`.
    pub(super) fn new(len: usize, side: Side) -> Self {
        // Adjacent bytes differ, and so do the contents of different pages.
        let byte = |at: usize| (at ^ (at >> 8) ^ (at >> 16)) as u8 ^ (side.index() as u8 + 1);
        let mut message = Self {
            bytes: (0..len.max(NUMBER_LEN)).map(byte).collect(),
        };
        message.set_number(0);
        message
    }

    /// Creates a buffer of zeros for a message.
    pub(super) fn empty(len: usize) -> Self {
        Self {
            bytes: vec![0; len.max(NUMBER_LEN)],
        }
    }

    pub(super) fn set_number(&mut self, number: u64) {
        self.bytes[..NUMBER_LEN].copy_from_slice(&number.to_ne_bytes());
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Fails if this is not message `number`.
    pub(super) fn expect_number<C: Channel>(&self, number: u64) -> Result<(), Failure> {
        if self.bytes[..NUMBER_LEN] == number.to_ne_bytes() {
            return Ok(());
        }
        Err(wrong_result(
            C::NAME,
            format!("message {number} did not arrive in order"),
        ))
    }

    /// Fails if this differs from `sent`.
    pub(super) fn expect<C: Channel>(&self, sent: &Self) -> Result<(), Failure> {
        if self.bytes == sent.bytes {
            return Ok(());
        }
        Err(wrong_result(
            C::NAME,
            "a message arrived with other bytes than it was sent",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pipe::Pipes;
    use super::*;

    #[test]
    fn changed_byte_is_found() {
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
