//! The traits of all channels, and their messages.

use crate::contestants::Scope;
use crate::failure::Failure;
use crate::series::Survives;

/// The number of messages that a channel has room for, if it counts messages.
pub(super) const CAPACITY: usize = 64;

/// A channel for messages of `LEN` bytes in one direction.
pub(super) trait Channel<const LEN: usize>: Sync + Sized + 'static {
    const NAME: &'static str;
    /// Kills of a sender after which the receiver can continue or gets an error.
    const SURVIVES: Survives;
    const SCOPE: Scope;

    type Sender<'a>: Sender<LEN>
    where
        Self: 'a;
    type Receiver<'a>: Receiver<LEN>
    where
        Self: 'a;

    /// Creates it before the workers start.
    fn create() -> Result<Self, Failure>;

    /// Opens the end of a worker.
    fn sender(&self) -> Result<Self::Sender<'_>, Failure>;

    /// Opens the end of a worker.
    fn receiver(&self) -> Result<Self::Receiver<'_>, Failure>;
}

/// The end that sends.
pub(super) trait Sender<const LEN: usize> {
    fn send(&mut self, message: &[u8; LEN]) -> Result<(), Failure>;
}

/// The end that receives.
pub(super) trait Receiver<const LEN: usize> {
    fn receive(&mut self, message: &mut [u8; LEN]) -> Result<(), Failure>;
}

/// The size of the number at the start of a message.
const NUMBER: usize = size_of::<u64>();

/// Returns message number zero. Adjacent bytes differ, and so do adjacent pages.
pub(super) fn message<const LEN: usize>() -> [u8; LEN] {
    let mut message = std::array::from_fn(|at| (at ^ (at >> 8)) as u8);
    set_number(&mut message, 0);
    message
}

#[inline]
pub(super) fn set_number<const LEN: usize>(message: &mut [u8; LEN], number: u64) {
    message[..NUMBER].copy_from_slice(&number.to_ne_bytes());
}

/// Fails if a message has another number.
#[inline]
pub(super) fn expect_number<const LEN: usize>(
    contestant: &'static str,
    message: &[u8; LEN],
    number: u64,
) -> Result<(), Failure> {
    if message[..NUMBER] == number.to_ne_bytes() {
        return Ok(());
    }
    Err(Failure::WrongResult {
        contestant,
        what: format!("message {number} did not arrive in order"),
    })
}

/// Fails if the last message arrived with other bytes than it was sent.
pub(super) fn expect_bytes<const LEN: usize>(
    contestant: &'static str,
    received: &[u8; LEN],
) -> Result<(), Failure> {
    if received[NUMBER..] == message::<LEN>()[NUMBER..] {
        return Ok(());
    }
    Err(Failure::WrongResult {
        contestant,
        what: "a message arrived with other bytes than it was sent".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_messages_are_found() {
        let mut received = message::<1024>();
        set_number(&mut received, 7);
        expect_number("a test", &received, 7).unwrap();
        expect_number("a test", &received, 8).unwrap_err();
        expect_bytes("a test", &received).unwrap();
        received[1000] ^= 1;
        expect_bytes("a test", &received).unwrap_err();
    }
}
