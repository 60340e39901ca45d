//! The errors of channels. The names are those of `crossbeam-channel`. An error of a
//! sender has the message that was not sent.

use std::convert::Infallible;
use std::fmt;

use thiserror::Error as ThisError;

use super::raw::Stop;
use crate::error::{Error, LockError};

/// Why [`Sender::send`](crate::Sender::send) has not sent the message.
#[non_exhaustive]
#[derive(ThisError)]
pub enum SendError<T> {
    /// All receivers have closed or died.
    #[error("the channel is disconnected: {}", receivers(.died))]
    Disconnected {
        /// The message.
        message: T,
        /// Whether a receiver has died, and no other has taken its seat since.
        died: bool,
    },
    /// This thread can't use the channel. [`LockError::NotOwner`]: the endpoint was
    /// inherited over a fork.
    #[error("the message was not sent")]
    Lock {
        /// The message.
        message: T,
        /// The error of the lock.
        source: LockError<Infallible>,
    },
}

/// Why [`Sender::try_send`](crate::Sender::try_send) has not sent the message.
#[non_exhaustive]
#[derive(ThisError)]
pub enum TrySendError<T> {
    /// The channel is full.
    #[error("the channel is full")]
    Full(T),
    /// All receivers have closed or died.
    #[error("the channel is disconnected: {}", receivers(.died))]
    Disconnected {
        /// The message.
        message: T,
        /// Whether a receiver has died, and no other has taken its seat since.
        died: bool,
    },
    /// This thread can't use the channel: see [`SendError::Lock`].
    #[error("the message was not sent")]
    Lock {
        /// The message.
        message: T,
        /// The error of the lock.
        source: LockError<Infallible>,
    },
}

/// Why [`Sender::send_timeout`](crate::Sender::send_timeout) has not sent the message.
#[non_exhaustive]
#[derive(ThisError)]
pub enum SendTimeoutError<T> {
    /// The timeout has passed: the channel was full, or another sender was copying
    /// messages.
    #[error("no message was sent until the timeout had passed")]
    Timeout(T),
    /// All receivers have closed or died.
    #[error("the channel is disconnected: {}", receivers(.died))]
    Disconnected {
        /// The message.
        message: T,
        /// Whether a receiver has died, and no other has taken its seat since.
        died: bool,
    },
    /// This thread can't use the channel: see [`SendError::Lock`].
    #[error("the message was not sent")]
    Lock {
        /// The message.
        message: T,
        /// The error of the lock.
        source: LockError<Infallible>,
    },
}

/// Why [`Receiver::recv`](crate::Receiver::recv) has no message.
#[non_exhaustive]
#[derive(Debug, ThisError)]
pub enum RecvError {
    /// The channel is empty, and all senders have closed or died.
    #[error("the channel is empty and disconnected: {}", senders(.died))]
    Disconnected {
        /// Whether a sender has died, and no other has taken its seat since.
        died: bool,
    },
    /// This thread can't use the channel. [`LockError::NotOwner`]: the endpoint was
    /// inherited over a fork.
    #[error("no message was received")]
    Lock(#[source] LockError<Infallible>),
}

/// Why [`Receiver::try_recv`](crate::Receiver::try_recv) has no message.
#[non_exhaustive]
#[derive(Debug, ThisError)]
pub enum TryRecvError {
    /// The channel is empty.
    #[error("the channel is empty")]
    Empty,
    /// The channel is empty, and all senders have closed or died.
    #[error("the channel is empty and disconnected: {}", senders(.died))]
    Disconnected {
        /// Whether a sender has died, and no other has taken its seat since.
        died: bool,
    },
    /// This thread can't use the channel: see [`RecvError::Lock`].
    #[error("no message was received")]
    Lock(#[source] LockError<Infallible>),
}

/// Why [`Receiver::recv_timeout`](crate::Receiver::recv_timeout) has no message.
#[non_exhaustive]
#[derive(Debug, ThisError)]
pub enum RecvTimeoutError {
    /// The timeout has passed: the channel was empty, or another receiver was copying
    /// messages.
    #[error("no message was received until the timeout had passed")]
    Timeout,
    /// The channel is empty, and all senders have closed or died.
    #[error("the channel is empty and disconnected: {}", senders(.died))]
    Disconnected {
        /// Whether a sender has died, and no other has taken its seat since.
        died: bool,
    },
    /// This thread can't use the channel: see [`RecvError::Lock`].
    #[error("no message was received")]
    Lock(#[source] LockError<Infallible>),
}

fn receivers(died: &bool) -> &'static str {
    if *died {
        "a receiver has died, and none is left"
    } else {
        "all receivers have closed"
    }
}

fn senders(died: &bool) -> &'static str {
    if *died {
        "a sender has died, and none is left"
    } else {
        "all senders have closed"
    }
}

/// Implements what the errors of senders have in common. `$more` is the variant of a
/// message for which there was no room.
macro_rules! send_error {
    ($error:ident $(, $more:ident)?) => {
        impl<T> $error<T> {
            /// Returns the message.
            pub fn into_inner(self) -> T {
                match self {
                    $(Self::$more(message) => message,)?
                    Self::Disconnected { message, .. } | Self::Lock { message, .. } => message,
                }
            }

            /// Returns whether all receivers have closed or died.
            #[must_use]
            pub fn is_disconnected(&self) -> bool {
                matches!(self, Self::Disconnected { .. })
            }
        }

        /// Does not show the message, so that `unwrap` works if it is not `Debug`.
        impl<T> fmt::Debug for $error<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$more(_) => f.write_str(concat!(stringify!($more), "(..)")),)?
                    Self::Disconnected { died, .. } => f
                        .debug_struct("Disconnected")
                        .field("died", died)
                        .finish_non_exhaustive(),
                    Self::Lock { source, .. } => f
                        .debug_struct("Lock")
                        .field("source", source)
                        .finish_non_exhaustive(),
                }
            }
        }
    };
}

send_error!(SendError);
send_error!(TrySendError, Full);
send_error!(SendTimeoutError, Timeout);

impl<T> SendError<T> {
    pub(super) fn new(stop: Stop, message: T) -> Self {
        match stop {
            Stop::Disconnected { died } => Self::Disconnected { message, died },
            Stop::Lock(source) => Self::Lock { message, source },
            // A call without a deadline does not end by this.
            Stop::NotNow => Self::Lock {
                message,
                source: LockError::WouldBlock,
            },
        }
    }
}

impl<T> TrySendError<T> {
    pub(super) fn new(stop: Stop, message: T) -> Self {
        match stop {
            Stop::NotNow => Self::Full(message),
            Stop::Disconnected { died } => Self::Disconnected { message, died },
            Stop::Lock(source) => Self::Lock { message, source },
        }
    }
}

impl<T> SendTimeoutError<T> {
    pub(super) fn new(stop: Stop, message: T) -> Self {
        match stop {
            Stop::NotNow => Self::Timeout(message),
            Stop::Disconnected { died } => Self::Disconnected { message, died },
            Stop::Lock(source) => Self::Lock { message, source },
        }
    }
}

impl From<Stop> for RecvError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Disconnected { died } => Self::Disconnected { died },
            Stop::Lock(error) => Self::Lock(error),
            // A call without a deadline does not end by this.
            Stop::NotNow => Self::Lock(LockError::WouldBlock),
        }
    }
}

impl From<Stop> for TryRecvError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::NotNow => Self::Empty,
            Stop::Disconnected { died } => Self::Disconnected { died },
            Stop::Lock(error) => Self::Lock(error),
        }
    }
}

impl From<Stop> for RecvTimeoutError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::NotNow => Self::Timeout,
            Stop::Disconnected { died } => Self::Disconnected { died },
            Stop::Lock(error) => Self::Lock(error),
        }
    }
}

impl<T> From<SendError<T>> for Error {
    /// Drops the message.
    fn from(error: SendError<T>) -> Self {
        match error {
            SendError::Disconnected { died, .. } => Self::Disconnected { died },
            SendError::Lock { source, .. } => source.into(),
        }
    }
}

impl From<RecvError> for Error {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Disconnected { died } => Self::Disconnected { died },
            RecvError::Lock(source) => source.into(),
        }
    }
}
