//! `ShmChannel`: a bounded queue between processes that survives them.
//!
//! # The protocol
//!
//! A channel is a ring of slots, and two sides. Each side has an index: how many
//! messages it has sent or received. The slots from the receivers' index to that of the
//! senders have messages.
//!
//! * **send**: takes the turn of its side; if there is room, copies the message into
//!   the next slot and stores the index; ends the turn; notifies the receivers. The
//!   store is the commit.
//! * **recv**: does the same on the other side.
//! * **turn**: a robust lock, which is held for a copy and never during a wait. If a
//!   side has only one seat, the occupant of the seat always has the turn.
//! * **wait**: for the other side's index to move, or for the end of its occupants,
//!   whose seats the kernel watches.
//!
//! An endpoint is a seat. No number of senders or receivers is stored: the seats are
//! counted.
//!
//! # Crash behaviour
//!
//! | death of | what is left | what repairs it |
//! |---|---|---|
//! | sender, before the store of the index | bytes in a slot that is no message | the next sender overwrites them |
//! | sender, between the store and the notification | receivers that were not called | the kernel wakes a watcher of its seat, which notifies the others |
//! | receiver, before the store | the message | the next receiver copies it |
//! | receiver, after the store | nothing: the message is lost with it | |
//! | holder of the turn | an orphaned lock | the next locker |
//! | woken receiver, before it takes the message | receivers that were not called | their recheck |
//!
//! There is nothing to repair, so the locks have no poison.

mod errors;
mod raw;
mod receiver;
mod sender;
mod side;

use std::fmt;
use std::mem::offset_of;
use std::panic::{RefUnwindSafe, UnwindSafe};

pub use errors::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
use raw::RawChannel;
pub use receiver::{Receiver, ReceiverIter, ReceiverTryIter};
pub use sender::Sender;
use side::Side;

use crate::error::Error;
use crate::shm_safe::{FieldPath, Parts, ShmSafe, TypeProperties, Visitor};

/// A bounded channel in shared memory: a queue of at most `N` messages, between any
/// number of senders and receivers in any processes.
///
/// Each message goes to one receiver. At most `SENDERS` threads can have a [`Sender`]
/// at a time, and at most `RECEIVERS` a [`Receiver`].
///
/// ```
/// use shm_sync::{Segment, ShmChannel, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Job {
///     input: u64,
///     attempts: u32,
/// }
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// // Between programs: `Segment::open_or_create("/jobs", ShmChannel::<Job, 64>::new)`.
/// let jobs = Segment::anonymous(ShmChannel::<Job, 64>::new())?;
/// std::thread::scope(|s| {
///     // Or another process that has opened the segment.
///     let worker = s.spawn(|| {
///         let receiver = jobs.receiver()?;
///         // The iterator ends when all senders have closed or died.
///         Ok::<u64, shm_sync::Error>(receiver.iter().map(|job| job.input).sum())
///     });
///     let sender = jobs.sender()?;
///     for input in 0..1000 {
///         sender.send(Job { input, attempts: 1 })?;
///     }
///     drop(sender);
///     assert_eq!(worker.join().expect("it does not panic")?, 499_500);
///     Ok(())
/// })
/// # }
/// ```
///
/// The messages of one sender arrive in their order. What a thread has written before
/// it sends is visible to the receiver of the message.
///
/// In the cookbook: [a queue](crate::guide::cookbook#a-queue).
///
/// # The other side
///
/// Each side may come first, as with a FIFO. A receiver waits for the first sender, and
/// a sender that has filled the channel waits for the first receiver. When all
/// endpoints of the other side have closed or died, the channel is *disconnected*: the
/// methods return `Disconnected`.
///
/// * Receivers get the messages that were sent before. A receiver that comes when the
///   last sender has left gets the rest, and then `Disconnected`.
/// * A sender learns of receivers that it has seen. If it comes when the last receiver
///   has left, its messages wait for the next one.
///
/// A new endpoint of the other side connects the channel again:
/// [`wait_for_sender`](Receiver::wait_for_sender) and
/// [`wait_for_receiver`](Sender::wait_for_receiver) wait for one. To keep a channel
/// connected, hold an endpoint.
///
/// # Crash behaviour
///
/// Any process may be killed at any instruction. A message is sent by the one store
/// that moves the senders' index, and received by the store that moves the receivers'.
///
/// | death of | effect |
/// |---|---|
/// | a sender in [`send`](Sender::send) | the message was sent, or not; never a part of it |
/// | a receiver in [`recv`](Receiver::recv) | the next receiver gets the message, or it is lost with the dead one; never twice |
/// | the last sender | receivers get the rest, and then `Disconnected` with `died` |
/// | the last receiver | senders get `Disconnected` with `died`, at the latest when the channel is full |
///
/// Each message for which `send` has returned `Ok` is received exactly once, or has
/// died with its receiver. If it must not be lost, let the receiver record what it does
/// in a [`ShmMutex`](crate::ShmMutex).
///
/// If the kernel has `futex_waitv` (Linux 5.16), it wakes a waiter at once when a
/// thread of the other side dies. Otherwise, and if the other side has more than 127
/// endpoints, waiters notice within 250 ms. If a receiver dies that was just woken for
/// a message, another one gets it within 250 ms.
///
/// A thread that is stopped while it copies a message stops its side, if the side has
/// more than one seat. A thread *other than the main thread* that calls `exec` keeps
/// its endpoint for ever, as with a [`ShmMutex`](crate::ShmMutex#crash-behaviour).
///
/// # Messages
///
/// A message is copied into the channel and out of it, so it must not contain locks:
///
/// ```compile_fail,E0080
/// use shm_sync::{ShmChannel, ShmMutex};
/// let nested = ShmChannel::<ShmMutex<u8>, 4>::new();
/// ```
///
/// Large messages need room on the stack. The constructor does as well: create a large
/// channel in its place, with
/// [`create_in_place`](crate::SegmentOptions::create_in_place). All zeros are an empty
/// channel.
///
/// # One to one
///
/// `ShmChannel<T, N, 1, 1>` has one sender and one receiver, and needs no lock for a
/// message.
///
/// # Forks
///
/// A forked child does not have its parent's endpoints. The methods of an inherited one
/// fail with [`LockError::NotOwner`](crate::LockError::NotOwner).
#[repr(transparent)]
pub struct ShmChannel<T, const N: usize, const SENDERS: usize = 16, const RECEIVERS: usize = 16> {
    raw: RawChannel<T, N, SENDERS, RECEIVERS>,
}

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)` over the sides and the slots. The fingerprint covers all three.
// * The words have the same meaning in every process, and T is ShmSafe. There is no
//   destructor.
// * Sync objects: those of the sides, reported at their offsets. Messages have none, or
//   the fingerprint and the walk would not compile.
// * Zeros are an empty channel, whatever T is. A mixture may have other messages than
//   its indices say, so it is not tear-free.
unsafe impl<T: ShmSafe, const N: usize, const SENDERS: usize, const RECEIVERS: usize> ShmSafe
    for ShmChannel<T, N, SENDERS, RECEIVERS>
{
    const PARTS: Parts = {
        let () = RawChannel::<T, N, SENDERS, RECEIVERS>::IS_VALID;
        Parts {
            kind: "ShmChannel",
            size: size_of::<Self>(),
            align: align_of::<Self>(),
            fields: &[
                (
                    "senders",
                    offset_of!(Self, raw.senders),
                    Side::<SENDERS>::DESCRIPTION,
                ),
                (
                    "receivers",
                    offset_of!(Self, raw.receivers),
                    Side::<RECEIVERS>::DESCRIPTION,
                ),
                ("slots", offset_of!(Self, raw.slots), <[T; N]>::DESCRIPTION),
            ],
            variants: &[],
        }
    };
    const SYNC_OBJECTS: usize = RawChannel::<T, N, SENDERS, RECEIVERS>::SYNC_OBJECTS;
    const PROPERTIES: TypeProperties = TypeProperties::POD
        .with_interior_mutability()
        .without_tear_free();

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        RawChannel::<T, N, SENDERS, RECEIVERS>::visit_sides(at, visitor);
    }
}

// A panic can't leave it inconsistent, because no user code runs inside.
impl<T, const N: usize, const SENDERS: usize, const RECEIVERS: usize> UnwindSafe
    for ShmChannel<T, N, SENDERS, RECEIVERS>
{
}
impl<T, const N: usize, const SENDERS: usize, const RECEIVERS: usize> RefUnwindSafe
    for ShmChannel<T, N, SENDERS, RECEIVERS>
{
}

impl<T: ShmSafe, const N: usize, const SENDERS: usize, const RECEIVERS: usize>
    ShmChannel<T, N, SENDERS, RECEIVERS>
{
    /// Makes an empty channel. A [`Segment`](crate::Segment) or
    /// [`place_at`](crate::place_at) initialises it later. Using it before that fails
    /// with [`LockError::NotPlaced`](crate::LockError::NotPlaced).
    ///
    /// `N`, `SENDERS` and `RECEIVERS` must not be 0:
    ///
    /// ```compile_fail,E0080
    /// let none = shm_sync::ShmChannel::<u8, 0>::new();
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        Self {
            raw: RawChannel::new(),
        }
    }

    /// Opens an endpoint of this thread that sends. Does not wait.
    ///
    /// ```
    /// use shm_sync::{Error, Segment, ShmChannel};
    ///
    /// # fn main() -> Result<(), Error> {
    /// let channel = Segment::anonymous(ShmChannel::<u8, 4, 1, 1>::new())?;
    /// let sender = channel.sender()?;
    /// let second = channel.sender();
    /// assert!(matches!(second, Err(Error::TooManyEndpoints { limit: 1 })));
    /// # drop(sender);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Error::TooManyEndpoints`]: there are `SENDERS` senders.
    /// * [`LockError::TooManyLocks`] in [`Error::Lock`]: this thread holds
    ///   [`MAX_LOCKS_HELD`](crate::MAX_LOCKS_HELD) robust locks and endpoints.
    /// * [`LockError::NotPlaced`] in [`Error::Lock`], [`Error::ForeignPidNamespace`],
    ///   [`LockError::NotRecoverable`] in [`Error::Lock`], [`Error::Unidentified`],
    ///   [`Error::Os`]: this process can't use the channel; see there.
    ///
    /// [`LockError::TooManyLocks`]: crate::LockError::TooManyLocks
    /// [`LockError::NotPlaced`]: crate::LockError::NotPlaced
    /// [`LockError::NotRecoverable`]: crate::LockError::NotRecoverable
    pub fn sender(&self) -> Result<Sender<'_, T, N, SENDERS, RECEIVERS>, Error> {
        Sender::open(&self.raw)
    }

    /// Opens an endpoint of this thread that receives. Does not wait.
    ///
    /// An example is [above](Self).
    ///
    /// # Errors
    ///
    /// Those of [`sender`](Self::sender), for `RECEIVERS`.
    pub fn receiver(&self) -> Result<Receiver<'_, T, N, SENDERS, RECEIVERS>, Error> {
        Receiver::open(&self.raw)
    }

    /// Returns how many messages are in the channel at this moment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Returns whether no message is in the channel at this moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether there is no room for a message at this moment.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == N
    }

    /// Returns how many messages the channel has room for.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        N
    }

    /// Returns how many threads have a [`Sender`] at this moment.
    #[must_use]
    pub fn senders(&self) -> usize {
        self.raw.senders.occupied()
    }

    /// Returns how many threads have a [`Receiver`] at this moment.
    #[must_use]
    pub fn receivers(&self) -> usize {
        self.raw.receivers.occupied()
    }
}

impl<T: ShmSafe, const N: usize, const SENDERS: usize, const RECEIVERS: usize> Default
    for ShmChannel<T, N, SENDERS, RECEIVERS>
{
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ShmSafe, const N: usize, const SENDERS: usize, const RECEIVERS: usize> fmt::Debug
    for ShmChannel<T, N, SENDERS, RECEIVERS>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmChannel")
            .field("capacity", &N)
            .field("len", &self.len())
            .field("senders", &self.senders())
            .field("receivers", &self.receivers())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::MaybeUninit;
    use std::ptr::NonNull;

    /// Returns a channel whose first message has the number `start`.
    fn channel<const N: usize, const S: usize, const R: usize>(
        start: u64,
    ) -> &'static ShmChannel<u64, N, S, R> {
        let memory = Box::leak(Box::new(MaybeUninit::<ShmChannel<u64, N, S, R>>::uninit()));
        let memory = NonNull::from(memory).cast();
        // SAFETY: the memory is valid, aligned and used by no other thread. It stays
        // where it is and is never freed.
        let channel: &ShmChannel<u64, N, S, R> =
            unsafe { crate::init::place_at(memory, ShmChannel::new()) }
                .expect("pthread initialises the seats");
        channel.raw.senders.start_at(start);
        channel.raw.receivers.start_at(start);
        channel
    }

    fn check_wrap<const N: usize, const S: usize, const R: usize>() {
        let end = u64::MAX - u64::MAX % N as u64;
        for before in [0, 1, 3, N as u64] {
            let channel = channel::<N, S, R>(end.checked_sub(before).unwrap() % end);
            let sender = channel.sender().unwrap();
            let receiver = channel.receiver().unwrap();
            let mut next = 0_u64..;
            let mut expected = 0_u64..;
            for round in 0..4 * N {
                let count = round % N + 1;
                let batch: Vec<u64> = next.by_ref().take(count).collect();
                if round % 2 == 0 {
                    assert_eq!(sender.send_slice(&batch).unwrap(), count);
                } else {
                    batch.iter().for_each(|it| sender.send(*it).unwrap());
                }
                assert_eq!(channel.len(), count);
                assert_eq!(channel.is_full(), count == N);
                if channel.is_full() {
                    assert!(matches!(sender.try_send(0), Err(TrySendError::Full(0))));
                }
                let mut received = vec![0; N];
                if round % 3 == 0 {
                    assert_eq!(receiver.recv_slice(&mut received).unwrap(), count);
                } else {
                    let each = received.iter_mut().take(count);
                    each.for_each(|it| *it = receiver.recv().unwrap());
                }
                assert!(expected.by_ref().take(count).eq(received[..count].to_vec()));
                assert!(channel.is_empty());
                assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
            }
        }
    }

    #[test]
    fn smoke() {
        let channel = channel::<2, 16, 16>(0);
        let (sender, receiver) = (channel.sender().unwrap(), channel.receiver().unwrap());
        sender.send(5).unwrap();
        assert_eq!(receiver.recv().unwrap(), 5);
    }

    #[test]
    fn indices_wrap_around() {
        check_wrap::<1, 16, 16>();
        check_wrap::<1, 1, 1>();
        check_wrap::<3, 2, 1>();
        check_wrap::<7, 1, 2>();
        check_wrap::<8, 16, 16>();
    }

    // Indices that a faulty program has stored do no harm outside the ring.
    #[test]
    fn invalid_indices_stay_inside_the_ring() {
        for (sent, received) in [(5, 2), (0, 1), (u64::MAX, 0), (0, u64::MAX), (7, u64::MAX)] {
            let channel = channel::<3, 2, 2>(0);
            channel.raw.senders.start_at(sent);
            channel.raw.receivers.start_at(received);
            assert!(channel.len() <= 3);
            let (sender, receiver) = (channel.sender().unwrap(), channel.receiver().unwrap());
            for number in 0..10 {
                let _ = sender.try_send(number);
                let _ = receiver.try_recv();
                let _ = receiver.try_recv();
            }
        }
    }
}
