//! `ShmPipe`: bytes from one process to another, with the traits of `std::io`. It is a
//! channel of bytes with one seat on each side, whose module has the protocol.

use std::fmt;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::time::Duration;

use super::channel::{
    Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, ShmChannel,
};
use crate::error::Error;
use crate::shm_safe::{FieldPath, Parts, ShmSafe, TypeProperties, Visitor};

/// A pipe in shared memory: bytes from one [`PipeWriter`] to one [`PipeReader`], in a
/// ring of `N` bytes.
///
/// It is like a [FIFO] that survives its users, and that tells the reader whether the
/// writer has closed it or died.
///
/// [FIFO]: https://man7.org/linux/man-pages/man7/fifo.7.html
///
/// ```
/// use shm_sync::{Segment, ShmPipe};
/// use std::io::{BufRead, Write};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Between programs: `Segment::open_or_create("/lines", ShmPipe::<4096>::new)`.
/// let pipe = Segment::anonymous(ShmPipe::<4096>::new())?;
/// std::thread::scope(|s| {
///     // Or another process that has opened the segment.
///     s.spawn(|| {
///         let mut writer = pipe.writer().expect("there is no other writer");
///         for number in 0..1000 {
///             writeln!(writer, "line {number}").expect("the reader is there");
///         }
///     });
///     let mut lines = 0;
///     for line in pipe.reader()?.lines() {
///         assert_eq!(line?, format!("line {lines}"));
///         lines += 1;
///     }
///     assert_eq!(lines, 1000);
///     Ok(())
/// })
/// # }
/// ```
///
/// Either side may come first. A reader waits for the first writer, and a writer that
/// has filled the pipe waits for the first reader. A reader that comes when the writer
/// has left reads the rest, and then the end. After the end, a new writer may come, and
/// the reader reads on.
///
/// # Crash behaviour
///
/// Any process may be killed at any instruction. It behaves like a
/// [`ShmChannel`](crate::ShmChannel#crash-behaviour) of bytes. Each call of `write`
/// puts its bytes into the pipe by one store, as far as there is room. So a writer that
/// dies has written all of these bytes, or none.
///
/// | the other side | [`PipeReader`], after it has read the rest | [`PipeWriter`] |
/// |---|---|---|
/// | has closed its end | end of file: 0 bytes | [`ErrorKind::BrokenPipe`] |
/// | has died | [`ErrorKind::ConnectionAborted`] | [`ErrorKind::ConnectionAborted`] |
///
/// A thread that panics closes its end, if that is dropped.
///
/// If another thread opens the end of a dead thread before the other side has looked,
/// that side is not told of the death. So if a message can be cut, open a new pipe for
/// each writer, or mark the messages.
///
/// # Forks
///
/// A forked child does not have its parent's ends. Reading and writing through an
/// inherited one fails with an error that contains
/// [`LockError::NotOwner`](crate::LockError::NotOwner).
#[repr(transparent)]
pub struct ShmPipe<const N: usize> {
    channel: ShmChannel<u8, N, 1, 1>,
}

// SAFETY: the clauses of `ShmSafe`, as for the channel, over which it is transparent.
unsafe impl<const N: usize> ShmSafe for ShmPipe<N> {
    const PARTS: Parts = Parts {
        kind: "ShmPipe",
        size: size_of::<Self>(),
        align: align_of::<Self>(),
        fields: &[("channel", 0, <ShmChannel<u8, N, 1, 1>>::DESCRIPTION)],
        variants: &[],
    };
    const SYNC_OBJECTS: usize = <ShmChannel<u8, N, 1, 1>>::SYNC_OBJECTS;
    const PROPERTIES: TypeProperties = <ShmChannel<u8, N, 1, 1>>::PROPERTIES;

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        <ShmChannel<u8, N, 1, 1>>::visit(at, visitor);
    }
}

impl<const N: usize> ShmPipe<N> {
    /// Makes an empty pipe. A [`Segment`](crate::Segment) or
    /// [`place_at`](crate::place_at) initialises it later. Using it before that fails
    /// with [`LockError::NotPlaced`](crate::LockError::NotPlaced).
    #[must_use]
    pub const fn new() -> Self {
        Self {
            channel: ShmChannel::new(),
        }
    }

    /// Opens the end that reads, for this thread. Does not wait.
    ///
    /// ```
    /// use shm_sync::{Error, Segment, ShmPipe};
    ///
    /// # fn main() -> Result<(), Error> {
    /// let pipe = Segment::anonymous(ShmPipe::<64>::new())?;
    /// let reader = pipe.reader()?;
    /// let second = pipe.reader();
    /// assert!(matches!(second, Err(Error::TooManyEndpoints { limit: 1 })));
    /// # drop(reader);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`ShmChannel::sender`](crate::ShmChannel::sender).
    pub fn reader(&self) -> Result<PipeReader<'_, N>, Error> {
        let receiver = self.channel.receiver()?;
        Ok(PipeReader { receiver })
    }

    /// Opens the end that writes, for this thread. Does not wait.
    ///
    /// An example is [above](Self).
    ///
    /// # Errors
    ///
    /// Those of [`ShmChannel::sender`](crate::ShmChannel::sender).
    pub fn writer(&self) -> Result<PipeWriter<'_, N>, Error> {
        let sender = self.channel.sender()?;
        Ok(PipeWriter { sender })
    }

    /// Returns how many bytes are in the pipe at this moment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Returns whether no byte is in the pipe at this moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channel.is_empty()
    }

    /// Returns how many bytes the pipe has room for.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        N
    }
}

impl<const N: usize> Default for ShmPipe<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for ShmPipe<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmPipe")
            .field("capacity", &N)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// The end of a [`ShmPipe`] that reads. Dropping it closes it.
///
/// [`BufRead`] lends the bytes of the ring itself, so it needs no further buffer.
///
/// # Errors
///
/// Reading fails with [`ErrorKind::ConnectionAborted`] if the pipe is empty and its
/// writer has died. If this thread can't use the pipe, the kind is
/// [`ErrorKind::Other`]. The error contains a [`RecvError`](crate::RecvError).
///
/// [`ErrorKind::Other`]: std::io::ErrorKind::Other
#[derive(Debug)]
#[must_use = "an end that is not kept is closed at once"]
pub struct PipeReader<'a, const N: usize> {
    receiver: Receiver<'a, u8, N, 1, 1>,
}

impl<const N: usize> PipeReader<'_, N> {
    /// Waits until there is a writer, at most for `timeout`. `None` means for ever.
    /// Returns whether there is one. See [`Receiver::wait_for_sender`].
    ///
    /// # Errors
    ///
    /// Those of [`Receiver::wait_for_sender`].
    pub fn wait_for_writer(&self, timeout: Option<Duration>) -> Result<bool, Error> {
        self.receiver.wait_for_sender(timeout)
    }
}

impl<const N: usize> PipeReader<'_, N> {
    /// Reads like [`read`](Read::read), and waits at most for `timeout`. The wait is in
    /// the kernel, by the monotonic clock. A timeout too long to represent means for
    /// ever.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmPipe};
    /// use std::io::ErrorKind;
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let pipe = Segment::anonymous(ShmPipe::<64>::new())?;
    /// let (mut reader, _writer) = (pipe.reader()?, pipe.writer()?);
    /// // The writer is stopped or slow.
    /// let nothing = reader.read_timeout(&mut [0; 8], Duration::from_millis(1));
    /// assert_eq!(nothing.unwrap_err().kind(), ErrorKind::TimedOut);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`] with a [`RecvTimeoutError`](crate::RecvTimeoutError),
    /// and the errors of [the type](Self#errors).
    pub fn read_timeout(&mut self, buf: &mut [u8], timeout: Duration) -> io::Result<usize> {
        let read = self.receiver.recv_slice_timeout(buf, timeout);
        read.or_else(|error| match error {
            RecvTimeoutError::Timeout => Err(io::Error::new(ErrorKind::TimedOut, error)),
            RecvTimeoutError::Disconnected { died } => at_end(RecvError::Disconnected { died }, 0),
            RecvTimeoutError::Lock(source) => at_end(RecvError::Lock(source), 0),
        })
    }
}

/// Returns 0 or no bytes at the end of the file, or the error.
fn at_end<T>(error: RecvError, nothing: T) -> io::Result<T> {
    match error {
        RecvError::Disconnected { died: false } => Ok(nothing),
        RecvError::Disconnected { died: true } => {
            Err(io::Error::new(ErrorKind::ConnectionAborted, error))
        }
        RecvError::Lock(_) => Err(io::Error::other(error)),
    }
}

impl<const N: usize> Read for PipeReader<'_, N> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.receiver
            .recv_slice(buf)
            .or_else(|error| at_end(error, 0))
    }
}

impl<const N: usize> BufRead for PipeReader<'_, N> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.receiver
            .wait_for_messages()
            .or_else(|error| at_end(error, &[][..]))
    }

    fn consume(&mut self, amount: usize) {
        // It fails in a forked child, where `fill_buf` fails as well.
        let _ = self.receiver.consume(amount);
    }
}

/// The end of a [`ShmPipe`] that writes. Dropping it closes it.
///
/// # Errors
///
/// Writing fails with [`ErrorKind::BrokenPipe`] if the reader has closed its end, and
/// with [`ErrorKind::ConnectionAborted`] if it has died. If this thread can't use the
/// pipe, the kind is [`ErrorKind::Other`]. The error contains a
/// [`SendError`](crate::SendError).
///
/// [`ErrorKind::Other`]: std::io::ErrorKind::Other
#[derive(Debug)]
#[must_use = "an end that is not kept is closed at once"]
pub struct PipeWriter<'a, const N: usize> {
    sender: Sender<'a, u8, N, 1, 1>,
}

impl<const N: usize> PipeWriter<'_, N> {
    /// Waits until there is a reader, at most for `timeout`. `None` means for ever.
    /// Returns whether there is one. See [`Sender::wait_for_receiver`].
    ///
    /// ```
    /// use shm_sync::{Segment, ShmPipe};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let pipe = Segment::anonymous(ShmPipe::<64>::new())?;
    /// let writer = pipe.writer()?;
    /// // The process that should read does not come.
    /// assert!(!writer.wait_for_reader(Some(Duration::from_millis(1)))?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Sender::wait_for_receiver`].
    pub fn wait_for_reader(&self, timeout: Option<Duration>) -> Result<bool, Error> {
        self.sender.wait_for_receiver(timeout)
    }
}

impl<const N: usize> PipeWriter<'_, N> {
    /// Writes like [`write`](Write::write), and waits at most for `timeout`. The wait
    /// is in the kernel, by the monotonic clock. A timeout too long to represent means
    /// for ever.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmPipe};
    /// use std::io::ErrorKind;
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pipe = Segment::anonymous(ShmPipe::<4>::new())?;
    /// let (_reader, mut writer) = (pipe.reader()?, pipe.writer()?);
    /// let soon = Duration::from_millis(1);
    /// assert_eq!(writer.write_timeout(b"abcdef", soon)?, 4);
    /// // The reader is stopped or slow.
    /// let full = writer.write_timeout(b"ef", soon);
    /// assert_eq!(full.unwrap_err().kind(), ErrorKind::TimedOut);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`] with a [`SendTimeoutError`](crate::SendTimeoutError),
    /// and the errors of [the type](Self#errors). Nothing was written.
    pub fn write_timeout(&mut self, buf: &[u8], timeout: Duration) -> io::Result<usize> {
        let written = self.sender.send_slice_timeout(buf, timeout);
        written.map_err(|error| match error {
            SendTimeoutError::Timeout(()) => io::Error::new(ErrorKind::TimedOut, error),
            SendTimeoutError::Disconnected { message, died } => {
                refused(SendError::Disconnected { message, died })
            }
            SendTimeoutError::Lock { message, source } => {
                refused(SendError::Lock { message, source })
            }
        })
    }
}

/// Returns why nothing was written.
fn refused(error: SendError<()>) -> io::Error {
    match error {
        SendError::Disconnected { died: false, .. } => io::Error::new(ErrorKind::BrokenPipe, error),
        SendError::Disconnected { died: true, .. } => {
            io::Error::new(ErrorKind::ConnectionAborted, error)
        }
        SendError::Lock { .. } => io::Error::other(error),
    }
}

impl<const N: usize> Write for PipeWriter<'_, N> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.sender.send_slice(buf).map_err(refused)
    }

    /// Does nothing, because each write is in the pipe at once.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
