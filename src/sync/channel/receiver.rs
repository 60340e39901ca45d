//! `Receiver`: the endpoint that receives, and its iterators.

use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use super::errors::{RecvError, RecvTimeoutError, TryRecvError};
use super::raw::{RawChannel, Stop};
use super::side::{Earlier, End};
use crate::error::Error;
use crate::os::clock::Deadline;
use crate::robust::{Blocking, BoundToThread};
use crate::shm_safe::ShmSafe;

/// An endpoint of a [`ShmChannel`](crate::ShmChannel) that receives. Dropping it closes
/// it.
///
/// ```
/// use shm_sync::{RecvError, Segment, ShmChannel};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let channel = Segment::anonymous(ShmChannel::<u64, 8>::new())?;
/// let (sender, receiver) = (channel.sender()?, channel.receiver()?);
/// sender.send(7)?;
/// drop(sender);
/// assert_eq!(receiver.recv()?, 7);
/// let end = receiver.recv();
/// assert!(matches!(end, Err(RecvError::Disconnected { died: false })));
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
pub struct Receiver<
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
    Receiver<'a, T, N, SENDERS, RECEIVERS>
{
    pub(super) fn open(channel: &'a RawChannel<T, N, SENDERS, RECEIVERS>) -> Result<Self, Error> {
        let end = End::open(&channel.receivers, &channel.senders, Earlier::Count)?;
        Ok(Self {
            channel,
            end,
            bound: PhantomData,
        })
    }

    /// Receives a message, and waits in the kernel while the channel is empty. It also
    /// waits while no sender has ever come.
    ///
    /// An example is [above](Self).
    ///
    /// # Errors
    ///
    /// * [`RecvError::Disconnected`]: the channel is empty. Senders have come, possibly
    ///   before this receiver, and all have closed or died. A server that starts again
    ///   calls [`wait_for_sender`](Self::wait_for_sender) then.
    /// * [`RecvError::Lock`]: this thread can't use the channel. The endpoint was
    ///   inherited over a fork ([`NotOwner`]), this thread holds too many robust locks
    ///   ([`TooManyLocks`]), or the kernel refuses to let it sleep.
    ///
    /// [`NotOwner`]: crate::LockError::NotOwner
    /// [`TooManyLocks`]: crate::LockError::TooManyLocks
    ///
    /// # Crash behaviour
    ///
    /// A message is received by one store. If the thread dies before it, another
    /// receiver gets the message. If it dies after it, the message is lost with the
    /// thread.
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.receive_one(Blocking::Wait)
    }

    /// Receives a message, if there is one at this moment.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmChannel, TryRecvError};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let channel = Segment::anonymous(ShmChannel::<u8, 1>::new())?;
    /// let (sender, receiver) = (channel.sender()?, channel.receiver()?);
    /// assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
    /// sender.send(1)?;
    /// assert!(matches!(receiver.try_recv(), Ok(1)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It does not wait for messages. It waits while another receiver copies its
    /// message.
    ///
    /// # Errors
    ///
    /// * [`TryRecvError::Empty`]: there is no message.
    /// * [`TryRecvError::Disconnected`], [`TryRecvError::Lock`]: as with
    ///   [`recv`](Self::recv).
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.receive_one(Blocking::Try)
    }

    /// Receives a message, and waits at most for `timeout` while the channel is empty.
    /// The wait is in the kernel, by the monotonic clock. A timeout too long to
    /// represent means for ever.
    ///
    /// ```
    /// use shm_sync::{RecvTimeoutError, Segment, ShmChannel};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let channel = Segment::anonymous(ShmChannel::<u8, 1>::new())?;
    /// let receiver = channel.receiver()?;
    /// let nothing = receiver.recv_timeout(Duration::from_millis(1));
    /// assert!(matches!(nothing, Err(RecvTimeoutError::Timeout)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`RecvTimeoutError::Timeout`]: the channel was empty until the end.
    /// * [`RecvTimeoutError::Disconnected`], [`RecvTimeoutError::Lock`]: as with
    ///   [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.receive_one(Blocking::WaitUntil(Deadline::after(timeout)))
    }

    /// Receives a message, and waits at most until `deadline`. See
    /// [`recv_timeout`](Self::recv_timeout).
    ///
    /// # Errors
    ///
    /// Those of [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.receive_one(Blocking::WaitUntil(Deadline::at(deadline)))
    }

    /// Receives a message. The error is that of the caller, so that the message is
    /// copied no further time into another `Result`.
    #[inline]
    fn receive_one<E: From<Stop>>(&self, blocking: Blocking) -> Result<T, E> {
        let mut message = MaybeUninit::<T>::uninit();
        let to = message.as_mut_ptr();
        // SAFETY: `to` is valid for one message. The endpoint is one of this channel.
        unsafe { self.channel.receive(&self.end, to, 1, blocking)? };
        // SAFETY: the call has copied a message, which a sender had sent as a T.
        Ok(unsafe { message.assume_init() })
    }

    /// Receives messages into `messages`: at least one, and as many as there are.
    /// Returns how many it has received. Waits in the kernel while the channel is
    /// empty.
    ///
    /// It costs little more than to receive one message. It returns 0 only if
    /// `messages` is empty.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmChannel};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let channel = Segment::anonymous(ShmChannel::<u8, 8>::new())?;
    /// let (sender, receiver) = (channel.sender()?, channel.receiver()?);
    /// sender.send_slice(b"abc")?;
    /// let mut received = [0; 8];
    /// assert_eq!(receiver.recv_slice(&mut received)?, 3);
    /// assert_eq!(received[..3], *b"abc");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv). Nothing was received.
    ///
    /// # Crash behaviour
    ///
    /// If the thread dies, the call has received all of its messages, or none.
    #[inline]
    pub fn recv_slice(&self, messages: &mut [T]) -> Result<usize, RecvError>
    where
        T: Copy,
    {
        Ok(self.receive_several(messages, Blocking::Wait)?)
    }

    /// Receives like [`recv_slice`](Self::recv_slice), and waits at most for `timeout`
    /// while the channel is empty. The wait is in the kernel, by the monotonic clock. A
    /// timeout too long to represent means for ever.
    ///
    /// ```
    /// use shm_sync::{RecvTimeoutError, Segment, ShmChannel};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let channel = Segment::anonymous(ShmChannel::<u8, 8>::new())?;
    /// let receiver = channel.receiver()?;
    /// let nothing = receiver.recv_slice_timeout(&mut [0; 8], Duration::from_millis(1));
    /// assert!(matches!(nothing, Err(RecvTimeoutError::Timeout)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`recv_timeout`](Self::recv_timeout). Nothing was received.
    pub fn recv_slice_timeout(
        &self,
        messages: &mut [T],
        timeout: Duration,
    ) -> Result<usize, RecvTimeoutError>
    where
        T: Copy,
    {
        let blocking = Blocking::WaitUntil(Deadline::after(timeout));
        Ok(self.receive_several(messages, blocking)?)
    }

    #[inline]
    fn receive_several(&self, messages: &mut [T], blocking: Blocking) -> Result<usize, Stop>
    where
        T: Copy,
    {
        if messages.is_empty() {
            return Ok(0);
        }
        let (to, count) = (messages.as_mut_ptr(), messages.len());
        // SAFETY: the slice is valid for its messages. The endpoint is one of this
        // channel.
        unsafe { self.channel.receive(&self.end, to, count, blocking) }
    }

    /// Returns an iterator that receives messages, and waits for each. It ends when
    /// [`recv`](Self::recv) fails: call that to learn why.
    #[must_use]
    pub fn iter(&self) -> ReceiverIter<'_, 'a, T, N, SENDERS, RECEIVERS> {
        ReceiverIter { receiver: self }
    }

    /// Returns an iterator that receives the messages that are there. It ends when
    /// [`try_recv`](Self::try_recv) fails.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmChannel};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let channel = Segment::anonymous(ShmChannel::<u8, 8>::new())?;
    /// let (sender, receiver) = (channel.sender()?, channel.receiver()?);
    /// sender.send_slice(b"abc")?;
    /// assert!(receiver.try_iter().eq(*b"abc"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn try_iter(&self) -> ReceiverTryIter<'_, 'a, T, N, SENDERS, RECEIVERS> {
        ReceiverTryIter { receiver: self }
    }

    /// Waits until there is a sender, at most for `timeout`. `None` means for ever. The
    /// wait is in the kernel. With this, a server waits for the next client after
    /// `Disconnected`.
    ///
    /// Returns `true` if there is a sender now, or if one has come and gone and this
    /// receiver has not yet returned `Disconnected` for it. So a client that sends one
    /// message and ends is not missed.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmChannel};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = Segment::anonymous(ShmChannel::<u64, 4>::new())?;
    /// let receiver = channel.receiver()?;
    /// let is_there = receiver.wait_for_sender(Some(Duration::from_millis(1)))?;
    /// assert!(!is_there);
    /// let _sender = channel.sender()?;
    /// assert!(receiver.wait_for_sender(None)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Sender::wait_for_receiver`](crate::Sender::wait_for_receiver).
    pub fn wait_for_sender(&self, timeout: Option<Duration>) -> Result<bool, Error> {
        let Self { channel, end, .. } = self;
        let deadline = timeout.map(Deadline::after);
        Ok(end.wait_for_peer(&channel.receivers, &channel.senders, deadline)?)
    }

    /// Returns whether senders have come and all have closed or died. It looks at the
    /// seats of the senders. There may be messages left. As long as there are,
    /// [`wait_for_sender`](Self::wait_for_sender) returns at once.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        let left = self.end.peers_left(&self.channel.senders);
        if let Some(left) = left {
            // The rest comes before the end.
            if self.channel.len() == 0 {
                self.end.tell(left);
            }
        }
        left.is_some()
    }
}

impl<T: ShmSafe, const N: usize, const SENDERS: usize> Receiver<'_, T, N, SENDERS, 1> {
    /// Waits for messages, and returns those that lie next to each other in the ring.
    /// They count as received after [`consume`](Self::consume).
    pub(in crate::sync) fn wait_for_messages(&mut self) -> Result<&[T], RecvError> {
        // SAFETY: the endpoint is that of this channel. While the messages are
        // borrowed, no other method can be called.
        Ok(unsafe { self.channel.wait_for_messages(&self.end) }?)
    }

    /// Receives the next `count` messages, or as many as there are, without a copy.
    pub(in crate::sync) fn consume(&mut self, count: usize) -> Result<(), RecvError> {
        Ok(self.channel.consume(&self.end, count)?)
    }
}

impl<T: ShmSafe, const N: usize, const SENDERS: usize, const RECEIVERS: usize> Drop
    for Receiver<'_, T, N, SENDERS, RECEIVERS>
{
    fn drop(&mut self) {
        self.end
            .close(&self.channel.receivers, &self.channel.senders);
    }
}

impl<T: ShmSafe, const N: usize, const SENDERS: usize, const RECEIVERS: usize> fmt::Debug
    for Receiver<'_, T, N, SENDERS, RECEIVERS>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("seat", &self.end.seat_index())
            .field("len", &self.channel.len())
            .finish_non_exhaustive()
    }
}

/// The iterator of [`Receiver::iter`].
#[derive(Debug)]
pub struct ReceiverIter<'r, 'a, T: ShmSafe, const N: usize, const S: usize, const R: usize> {
    receiver: &'r Receiver<'a, T, N, S, R>,
}

impl<T: ShmSafe, const N: usize, const S: usize, const R: usize> Iterator
    for ReceiverIter<'_, '_, T, N, S, R>
{
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

/// The iterator of [`Receiver::try_iter`].
#[derive(Debug)]
pub struct ReceiverTryIter<'r, 'a, T: ShmSafe, const N: usize, const S: usize, const R: usize> {
    receiver: &'r Receiver<'a, T, N, S, R>,
}

impl<T: ShmSafe, const N: usize, const S: usize, const R: usize> Iterator
    for ReceiverTryIter<'_, '_, T, N, S, R>
{
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<'r, 'a, T: ShmSafe, const N: usize, const S: usize, const R: usize> IntoIterator
    for &'r Receiver<'a, T, N, S, R>
{
    type Item = T;
    type IntoIter = ReceiverIter<'r, 'a, T, N, S, R>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
