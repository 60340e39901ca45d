//! `Sender`: the endpoint that sends.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::errors::{SendError, SendTimeoutError, TrySendError};
use super::raw::{RawChannel, Stop};
use super::side::{Earlier, End};
use crate::error::Error;
use crate::os::clock::Deadline;
use crate::robust::{Blocking, BoundToThread};
use crate::shm_safe::ShmSafe;

/// An endpoint of a [`ShmChannel`](crate::ShmChannel) that sends. Dropping it closes
/// it.
///
/// ```
/// use shm_sync::{Segment, SendError, ShmChannel};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let channel = Segment::anonymous(ShmChannel::<u64, 8>::new())?;
/// let (sender, receiver) = (channel.sender()?, channel.receiver()?);
/// sender.send(7)?;
/// drop(receiver);
/// let error = sender.send(8).unwrap_err();
/// assert!(matches!(error, SendError::Disconnected { message: 8, died: false }));
/// # Ok(())
/// # }
/// ```
///
/// An endpoint belongs to the thread that has opened it. Each thread opens its own.
/// A leaked endpoint (`mem::forget`) counts as dead when its thread ends, and the
/// segment stays mapped until then.
///
/// # Forks
///
/// The parent has the endpoint. In a forked child, its methods fail with
/// [`LockError::NotOwner`](crate::LockError::NotOwner), and dropping it does nothing.
/// The child opens an endpoint of its own.
#[must_use = "an endpoint that is not kept is closed at once"]
pub struct Sender<
    'a,
    T: ShmSafe,
    const N: usize,
    const SENDERS: usize = 16,
    const RECEIVERS: usize = 16,
> {
    channel: &'a RawChannel<T, N, SENDERS, RECEIVERS>,
    end: End,
    bound: BoundToThread,
}

impl<'a, T: ShmSafe, const N: usize, const SENDERS: usize, const RECEIVERS: usize>
    Sender<'a, T, N, SENDERS, RECEIVERS>
{
    pub(super) fn open(channel: &'a RawChannel<T, N, SENDERS, RECEIVERS>) -> Result<Self, Error> {
        let end = End::open(&channel.senders, &channel.receivers, Earlier::DoNotCount)?;
        Ok(Self {
            channel,
            end,
            bound: PhantomData,
        })
    }

    /// Sends a message, and waits in the kernel while the channel is full. It also
    /// waits while the channel is full and no receiver has come yet.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmChannel};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let channel = Segment::anonymous(ShmChannel::<(u32, u32), 2>::new())?;
    /// std::thread::scope(|s| {
    ///     s.spawn(|| {
    ///         let sender = channel.sender()?;
    ///         for number in 0..100 {
    ///             sender.send((number, number * number))?;
    ///         }
    ///         Ok::<(), shm_sync::Error>(())
    ///     });
    ///     let receiver = channel.receiver()?;
    ///     assert_eq!(receiver.iter().map(|(number, _)| number).sum::<u32>(), 4950);
    ///     Ok(())
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`SendError::Disconnected`]: this endpoint had receivers, and all have closed
    ///   or died. If a receiver was killed, `send` may put messages into the channel
    ///   until it is full.
    /// * [`SendError::Lock`]: this thread can't use the channel. The endpoint was
    ///   inherited over a fork ([`NotOwner`]), this thread holds too many robust locks
    ///   ([`TooManyLocks`]), or the kernel refuses to let it sleep.
    ///
    /// [`NotOwner`]: crate::LockError::NotOwner
    /// [`TooManyLocks`]: crate::LockError::TooManyLocks
    ///
    /// # Crash behaviour
    ///
    /// A message is sent by one store. If the thread dies before it, the message is not
    /// sent, and after it, a receiver gets it.
    #[inline]
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        match self.send_one(&message, Blocking::Wait) {
            Ok(()) => Ok(()),
            Err(stop) => Err(SendError::new(stop, message)),
        }
    }

    /// Sends a message, if there is room at this moment.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmChannel, TrySendError};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let channel = Segment::anonymous(ShmChannel::<u8, 1>::new())?;
    /// let sender = channel.sender()?;
    /// assert!(sender.try_send(1).is_ok());
    /// assert!(matches!(sender.try_send(2), Err(TrySendError::Full(2))));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It does not wait for room. It waits while another sender copies its message into
    /// the channel.
    ///
    /// # Errors
    ///
    /// * [`TrySendError::Full`]: there is no room.
    /// * [`TrySendError::Disconnected`], [`TrySendError::Lock`]: as with
    ///   [`send`](Self::send).
    #[inline]
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        match self.send_one(&message, Blocking::Try) {
            Ok(()) => Ok(()),
            Err(stop) => Err(TrySendError::new(stop, message)),
        }
    }

    /// Sends a message, and waits at most for `timeout` while the channel is full. The
    /// wait is in the kernel, by the monotonic clock. A timeout too long to represent
    /// means for ever.
    ///
    /// ```
    /// use shm_sync::{Segment, SendTimeoutError, ShmChannel};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let channel = Segment::anonymous(ShmChannel::<u8, 1>::new())?;
    /// let sender = channel.sender()?;
    /// let soon = Duration::from_millis(1);
    /// assert!(sender.send_timeout(1, soon).is_ok());
    /// let full = sender.send_timeout(2, soon);
    /// assert!(matches!(full, Err(SendTimeoutError::Timeout(2))));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`SendTimeoutError::Timeout`]: the channel was full until the end.
    /// * [`SendTimeoutError::Disconnected`], [`SendTimeoutError::Lock`]: as with
    ///   [`send`](Self::send).
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_until(message, Deadline::after(timeout))
    }

    /// Sends a message, and waits at most until `deadline`. See
    /// [`send_timeout`](Self::send_timeout).
    ///
    /// # Errors
    ///
    /// Those of [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(&self, message: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_until(message, Deadline::at(deadline))
    }

    fn send_until(&self, message: T, deadline: Deadline) -> Result<(), SendTimeoutError<T>> {
        match self.send_one(&message, Blocking::WaitUntil(deadline)) {
            Ok(()) => Ok(()),
            Err(stop) => Err(SendTimeoutError::new(stop, message)),
        }
    }

    #[inline]
    fn send_one(&self, message: &T, blocking: Blocking) -> Result<(), Stop> {
        // SAFETY: the reference is valid for one message. The message is sent at most
        // once, and it has no destructor. The endpoint is one of this channel.
        unsafe { self.channel.send(&self.end, message, 1, blocking) }.map(|_| ())
    }

    /// Sends the first messages of `messages`: at least one, and as many as there is
    /// room for. Returns how many it has sent. They lie next to each other in the
    /// channel. Waits in the kernel while the channel is full.
    ///
    /// It costs little more than to send one message. It returns 0 only if `messages`
    /// is empty.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmChannel};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let channel = Segment::anonymous(ShmChannel::<u8, 4>::new())?;
    /// let sender = channel.sender()?;
    /// assert_eq!(sender.send_slice(b"abcdef")?, 4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send), without a message. Nothing was sent.
    ///
    /// # Crash behaviour
    ///
    /// If the thread dies, all messages that there was room for are sent, or none.
    #[inline]
    pub fn send_slice(&self, messages: &[T]) -> Result<usize, SendError<()>>
    where
        T: Copy,
    {
        self.send_several(messages, Blocking::Wait)
            .map_err(|stop| SendError::new(stop, ()))
    }

    /// Sends like [`send_slice`](Self::send_slice), and waits at most for `timeout`
    /// while the channel is full. The wait is in the kernel, by the monotonic clock. A
    /// timeout too long to represent means for ever.
    ///
    /// ```
    /// use shm_sync::{Segment, SendTimeoutError, ShmChannel};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = Segment::anonymous(ShmChannel::<u8, 4>::new())?;
    /// let sender = channel.sender()?;
    /// let soon = Duration::from_millis(1);
    /// assert_eq!(sender.send_slice_timeout(b"abcdef", soon)?, 4);
    /// let full = sender.send_slice_timeout(b"ef", soon);
    /// assert!(matches!(full, Err(SendTimeoutError::Timeout(()))));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`send_timeout`](Self::send_timeout), without a message. Nothing was
    /// sent.
    pub fn send_slice_timeout(
        &self,
        messages: &[T],
        timeout: Duration,
    ) -> Result<usize, SendTimeoutError<()>>
    where
        T: Copy,
    {
        self.send_several(messages, Blocking::WaitUntil(Deadline::after(timeout)))
            .map_err(|stop| SendTimeoutError::new(stop, ()))
    }

    #[inline]
    fn send_several(&self, messages: &[T], blocking: Blocking) -> Result<usize, Stop>
    where
        T: Copy,
    {
        if messages.is_empty() {
            return Ok(0);
        }
        let (from, count) = (messages.as_ptr(), messages.len());
        // SAFETY: the slice is valid for its messages, which are `Copy`. The endpoint
        // is one of this channel.
        unsafe { self.channel.send(&self.end, from, count, blocking) }
    }

    /// Waits until there is a receiver, at most for `timeout`. `None` means for ever.
    /// The wait is in the kernel.
    ///
    /// Returns `true` if there is a receiver now, or if one has come and gone and this
    /// sender has not yet returned `Disconnected` for it.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmChannel};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = Segment::anonymous(ShmChannel::<u64, 4>::new())?;
    /// let sender = channel.sender()?;
    /// let is_there = sender.wait_for_receiver(Some(Duration::from_millis(1)))?;
    /// assert!(!is_there);
    /// let _receiver = channel.receiver()?;
    /// assert!(sender.wait_for_receiver(None)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::NotOwner`](crate::LockError::NotOwner) in [`Error::Lock`]: the
    ///   endpoint was inherited over a fork.
    /// * [`Error::Os`]: the kernel refuses to let the thread sleep, for example by a
    ///   seccomp filter.
    pub fn wait_for_receiver(&self, timeout: Option<Duration>) -> Result<bool, Error> {
        let Self { channel, end, .. } = self;
        let deadline = timeout.map(Deadline::after);
        Ok(end.wait_for_peer(&channel.senders, &channel.receivers, deadline)?)
    }

    /// Returns whether this endpoint had receivers and all have closed or died. It
    /// looks at the seats of the receivers.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        let left = self.end.peers_left(&self.channel.receivers);
        left.map(|left| self.end.tell(left)).is_some()
    }
}

impl<T: ShmSafe, const N: usize, const SENDERS: usize, const RECEIVERS: usize> Drop
    for Sender<'_, T, N, SENDERS, RECEIVERS>
{
    fn drop(&mut self) {
        self.end
            .close(&self.channel.senders, &self.channel.receivers);
    }
}

impl<T: ShmSafe, const N: usize, const SENDERS: usize, const RECEIVERS: usize> fmt::Debug
    for Sender<'_, T, N, SENDERS, RECEIVERS>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("seat", &self.end.seat_index())
            .field("len", &self.channel.len())
            .finish_non_exhaustive()
    }
}
