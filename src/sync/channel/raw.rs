//! The ring of a channel: how messages are sent and received.
//!
//! Each side has an index, which counts its messages. The slot of a message is its
//! number modulo `N`. So the indices wrap around at a multiple of `N`: see
//! [`Number`].

use std::cell::UnsafeCell;
use std::mem::{MaybeUninit, offset_of};

use super::side::{End, Side, Turn};
use crate::error::LockError;
use crate::os::clock::Deadline;
use crate::os::futex::Wake;
use crate::robust::Blocking;
use crate::shm_safe::{FieldPath, ShmSafe, Visitor};
use crate::sync::event_count::EventCount;
use crate::sync::robust_lock::RawLockError;
use crate::sync::seat::Seat;

/// A channel without its public methods.
#[repr(C)]
pub(super) struct RawChannel<T, const N: usize, const SENDERS: usize, const RECEIVERS: usize> {
    pub(super) senders: Side<SENDERS>,
    pub(super) receivers: Side<RECEIVERS>,
    /// The slots from the index of the receivers to that of the senders are messages.
    /// Only the holder of the senders' turn writes to the other slots.
    pub(super) slots: UnsafeCell<[MaybeUninit<T>; N]>,
}

// SAFETY: the two sides access different slots: see the field. Within a side, only the
// holder of the turn accesses slots. The indices order the accesses of the sides.
unsafe impl<T: Send, const N: usize, const SENDERS: usize, const RECEIVERS: usize> Sync
    for RawChannel<T, N, SENDERS, RECEIVERS>
{
}

/// The numbers of messages, with capacity `N`.
struct Number<const N: usize>;

impl<const N: usize> Number<N> {
    /// The first number that is not used: the greatest multiple of `N`.
    const END: u64 = u64::MAX - u64::MAX % N as u64;

    /// Returns the number after `count` messages, which are at most `N`.
    #[inline]
    const fn after(number: u64, count: usize) -> u64 {
        // `number` is less than `END`, unless a faulty program has stored it.
        let until_end = Self::END.wrapping_sub(number);
        let count = count as u64;
        if count < until_end {
            number.wrapping_add(count)
        } else {
            count.wrapping_sub(until_end)
        }
    }

    /// Returns how many messages there are from `first` to before `last`. It is more
    /// than `N` if `first` is later than `last`.
    #[inline]
    const fn between(first: u64, last: u64) -> u64 {
        if first <= last {
            last - first
        } else {
            Self::END.wrapping_sub(first).wrapping_add(last)
        }
    }

    #[inline]
    const fn slot(number: u64) -> usize {
        (number % N as u64) as usize
    }
}

/// Why nothing was sent or received.
#[derive(Debug)]
pub(super) enum Stop {
    /// The channel is full or empty, and the call does not wait any more.
    NotNow,
    /// This endpoint had peers, and none is left.
    Disconnected {
        died: bool,
    },
    Lock(RawLockError),
}

impl From<RawLockError> for Stop {
    fn from(error: RawLockError) -> Self {
        match error {
            LockError::WouldBlock | LockError::TimedOut => Self::NotNow,
            error => Self::Lock(error),
        }
    }
}

impl<T: ShmSafe, const N: usize, const SENDERS: usize, const RECEIVERS: usize>
    RawChannel<T, N, SENDERS, RECEIVERS>
{
    /// The number of sync objects in it.
    pub(super) const SYNC_OBJECTS: usize =
        Side::<SENDERS>::SYNC_OBJECTS + Side::<RECEIVERS>::SYNC_OBJECTS;

    /// Rejects capacities and messages that a channel can't have. The constructors,
    /// the fingerprint and the walk name it.
    pub(super) const IS_VALID: () = {
        assert!(N > 0, "a channel has room for at least one message");
        assert!(
            SENDERS > 0 && RECEIVERS > 0,
            "each side of a channel has at least one endpoint"
        );
        assert!(
            T::SYNC_OBJECTS == 0,
            "the messages of a ShmChannel can't contain locks: they are copied"
        );
    };

    pub(super) const fn new() -> Self {
        const { Self::IS_VALID }
        Self {
            senders: Side::new(),
            receivers: Side::new(),
            // Zeros, so that no bytes of the stack get into shared memory.
            slots: UnsafeCell::new([const { MaybeUninit::zeroed() }; N]),
        }
    }

    pub(super) fn visit_sides(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        const { Self::IS_VALID }
        let senders = at.field("senders", offset_of!(Self, senders));
        Side::<SENDERS>::visit(&senders, visitor);
        let receivers = at.field("receivers", offset_of!(Self, receivers));
        Side::<RECEIVERS>::visit(&receivers, visitor);
    }

    /// Returns how many messages are in the ring at this moment.
    pub(super) fn len(&self) -> usize {
        let received = self.receivers.index();
        let sent = self.senders.index();
        // A receiver may have moved on since.
        Number::<N>::between(received, sent).min(N as u64) as usize
    }

    fn slot(&self, number: u64) -> *mut T {
        // The slots are contiguous, and the number of a slot is less than N.
        self.slots
            .get()
            .cast::<T>()
            .wrapping_add(Number::<N>::slot(number))
    }

    /// Returns how many of `count` messages from `number` on fit before the end of the
    /// ring. The others begin at the first slot.
    fn before_wrap(number: u64, count: usize) -> usize {
        count.min(N - Number::<N>::slot(number))
    }

    /// Sends as many of `count` messages as there is room for. Does not wait for room.
    ///
    /// # Safety
    ///
    /// * `from` is valid for reads of `count` messages.
    /// * The caller has an endpoint of the senders, which no other thread uses.
    #[inline]
    unsafe fn put(
        &self,
        from: *const T,
        count: usize,
        blocking: Blocking,
    ) -> Result<usize, RawLockError> {
        let turn = self.senders.take_turn(blocking)?;
        let sent = self.senders.index();
        let room_since = |received| {
            let room = (N as u64).checked_sub(Number::<N>::between(received, sent));
            room.unwrap_or(0) as usize
        };
        let mut room = room_since(self.senders.known(&turn));
        if room < count {
            let received = self.receivers.index();
            self.senders.set_known(&turn, received);
            room = room_since(received);
        }
        let count = count.min(room);
        if count == 0 {
            return Ok(0);
        }
        let first = Self::before_wrap(sent, count);
        // SAFETY: `from` is valid for `count` messages, and `first` is at most that.
        // The slots are inside the ring. They are free, and this thread has the turn,
        // so no other thread accesses them.
        unsafe { from.copy_to_nonoverlapping(self.slot(sent), first) };
        // SAFETY: `first` is at most `count`.
        let rest = unsafe { from.add(first) };
        // SAFETY: as above, for the other messages and the slots from the first one on.
        unsafe { rest.copy_to_nonoverlapping(self.slots.get().cast(), count - first) };
        self.senders.move_to(&turn, Number::<N>::after(sent, count));
        drop(turn);
        self.receivers.notify(count);
        Ok(count)
    }

    /// Returns how many messages there are from `received` on, the receivers' index. It
    /// may return fewer, but at least `wanted` if there are so many.
    #[inline]
    fn ready(&self, turn: &Turn<'_>, received: u64, wanted: usize) -> usize {
        let ready_until = |sent| {
            let ready = Number::<N>::between(received, sent);
            // More than N: the index that is known is older than this side's.
            if ready > N as u64 { 0 } else { ready as usize }
        };
        let ready = ready_until(self.receivers.known(turn));
        if ready >= wanted {
            return ready;
        }
        let sent = self.senders.index();
        self.receivers.set_known(turn, sent);
        ready_until(sent)
    }

    /// Receives as many of `count` messages as there are. Does not wait for messages.
    ///
    /// # Safety
    ///
    /// * `to` is valid for writes of `count` messages.
    /// * The caller has an endpoint of the receivers, which no other thread uses.
    #[inline]
    unsafe fn take(
        &self,
        to: *mut T,
        count: usize,
        blocking: Blocking,
    ) -> Result<usize, RawLockError> {
        let turn = self.receivers.take_turn(blocking)?;
        let received = self.receivers.index();
        let ready = self.ready(&turn, received, count);
        let count = count.min(ready);
        if count == 0 {
            return Ok(0);
        }
        let first = Self::before_wrap(received, count);
        // SAFETY: `to` is valid for `count` messages, and `first` is at most that. The
        // slots are inside the ring. They have messages, and this thread has the turn,
        // so no other thread writes to them.
        unsafe { to.copy_from_nonoverlapping(self.slot(received), first) };
        // SAFETY: `first` is at most `count`.
        let rest = unsafe { to.add(first) };
        // SAFETY: as above, for the other messages and the slots from the first one on.
        unsafe { rest.copy_from_nonoverlapping(self.slots.get().cast(), count - first) };
        self.receivers
            .move_to(&turn, Number::<N>::after(received, count));
        drop(turn);
        self.senders.notify(count);
        Ok(count)
    }

    /// Sends at least one of `count` messages, which are not 0. Returns how many it has
    /// sent.
    ///
    /// # Safety
    ///
    /// * `from` is valid for reads of `count` messages.
    /// * `end` is an endpoint of the senders of this channel.
    #[inline]
    pub(super) unsafe fn send(
        &self,
        end: &End,
        from: *const T,
        count: usize,
        blocking: Blocking,
    ) -> Result<usize, Stop> {
        end.check()?;
        if self.receivers.seems_left() {
            if let Some(left) = end.peers_left(&self.receivers) {
                let died = end.tell(left);
                return Err(Stop::Disconnected { died });
            }
        }
        let for_turn = for_turn(blocking);
        // SAFETY: `from` is valid for reads of `count` messages, as the caller
        // promises. `end` is an endpoint of the senders, and only this thread uses it,
        // because `End` is not `Sync`.
        let put = || unsafe { self.put(from, count, for_turn) };
        let sent = put()?;
        if sent > 0 {
            return Ok(sent);
        }
        let attempt = || -> Result<usize, Stop> {
            match put()? {
                0 => Err(match end.peers_left(&self.receivers) {
                    Some(left) => Stop::Disconnected {
                        died: end.tell(left),
                    },
                    None => Stop::NotNow,
                }),
                sent => Ok(sent),
            }
        };
        let has_room = || self.len() < N;
        let peers = self.receivers.seats();
        wait(self.senders.asleep(), blocking, peers, has_room, attempt)
    }

    /// Receives at least one message, and at most `count`, which is not 0. Returns how
    /// many it has received.
    ///
    /// # Safety
    ///
    /// * `to` is valid for writes of `count` messages.
    /// * `end` is an endpoint of the receivers of this channel.
    #[inline]
    pub(super) unsafe fn receive(
        &self,
        end: &End,
        to: *mut T,
        count: usize,
        blocking: Blocking,
    ) -> Result<usize, Stop> {
        let for_turn = for_turn(blocking);
        // SAFETY: `to` is valid for writes of `count` messages, as the caller promises.
        // `end` is an endpoint of the receivers, and only this thread uses it, because
        // `End` is not `Sync`.
        let take = || unsafe { self.take(to, count, for_turn) };
        self.receive_by(end, blocking, take)
    }

    /// Calls `take` until it returns another number than 0, and waits in between.
    #[inline]
    fn receive_by(
        &self,
        end: &End,
        blocking: Blocking,
        take: impl Fn() -> Result<usize, RawLockError>,
    ) -> Result<usize, Stop> {
        end.check()?;
        let received = take()?;
        if received > 0 {
            return Ok(received);
        }
        let attempt = || -> Result<usize, Stop> {
            let received = take()?;
            if received > 0 {
                return Ok(received);
            }
            let Some(left) = end.peers_left(&self.senders) else {
                return Err(Stop::NotNow);
            };
            // The last sender may have sent a message since, and then left.
            match take()? {
                0 => Err(Stop::Disconnected {
                    died: end.tell(left),
                }),
                received => Ok(received),
            }
        };
        let has_messages = || self.len() > 0;
        let peers = self.senders.seats();
        wait(
            self.receivers.asleep(),
            blocking,
            peers,
            has_messages,
            attempt,
        )
    }
}

impl<T: ShmSafe, const N: usize, const SENDERS: usize> RawChannel<T, N, SENDERS, 1> {
    /// Waits for messages, and returns those that lie next to each other. They stay in
    /// the ring until [`consume`](Self::consume).
    ///
    /// # Safety
    ///
    /// * `end` is the endpoint of the receiver of this channel.
    /// * The messages are not used after this endpoint has received or consumed some.
    pub(super) unsafe fn wait_for_messages(&self, end: &End) -> Result<&[T], Stop> {
        // The endpoint has the only seat, so it has the turn.
        let turn = self.receivers.take_turn(Blocking::Wait)?;
        let received = self.receivers.index();
        let look = || Ok(self.ready(&turn, received, 1));
        let ready = self.receive_by(end, Blocking::Wait, look)?;
        let first = Self::before_wrap(received, ready);
        // SAFETY: the slots are inside the ring and have messages, which a sender has
        // sent as values of T. No thread writes to them until the index is moved, and
        // after that the caller does not use them.
        Ok(unsafe { std::slice::from_raw_parts(self.slot(received), first) })
    }

    /// Receives messages without copying them: `count`, or as many as there are.
    pub(super) fn consume(&self, end: &End, count: usize) -> Result<(), Stop> {
        end.check()?;
        let turn = self.receivers.take_turn(Blocking::Wait)?;
        let received = self.receivers.index();
        let count = count.min(self.ready(&turn, received, count));
        if count > 0 {
            self.receivers
                .move_to(&turn, Number::<N>::after(received, count));
            drop(turn);
            self.senders.notify(count);
        }
        Ok(())
    }
}

/// Returns how long a call waits for its turn. Another endpoint has the turn while it
/// copies messages, so a call that does not wait for messages waits for this.
#[inline]
fn for_turn(blocking: Blocking) -> Blocking {
    match blocking {
        Blocking::Try => Blocking::Wait,
        other => other,
    }
}

/// Waits until `attempt` returns something else than [`Stop::NotNow`].
#[cold]
fn wait(
    asleep: &EventCount,
    blocking: Blocking,
    peers: &[Seat],
    looks_answered: impl Fn() -> bool,
    attempt: impl Fn() -> Result<usize, Stop>,
) -> Result<usize, Stop> {
    let deadline: Option<Deadline> = match blocking {
        Blocking::Try => return attempt(),
        Blocking::Wait => None,
        Blocking::WaitUntil(deadline) => Some(deadline),
    };
    let question = || match attempt() {
        Err(Stop::NotNow) => None,
        answer => Some(answer),
    };
    match asleep.wait(deadline, peers, &looks_answered, question) {
        Ok(Some(answer)) => answer,
        Ok(None) => {
            // If the deadline has passed before this thread had its turn, this thread
            // may have used the wake-up for a message or for room.
            if looks_answered() {
                asleep.notify(Wake::One);
            }
            Err(Stop::NotNow)
        }
        Err(error) => Err(Stop::Lock(LockError::Os(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    fn check_numbers<const N: usize>() {
        type Of<const N: usize> = Number<N>;
        assert_eq!(Of::<N>::END % N as u64, 0);
        for start in [0, 1, Of::<N>::END - 1, Of::<N>::END - N as u64] {
            let mut number = start;
            for steps in 0..3 * N {
                assert_eq!(Of::<N>::slot(number), (Of::<N>::slot(start) + steps) % N);
                if steps <= N {
                    assert_eq!(Of::<N>::between(start, number), steps as u64);
                    assert_eq!(Of::<N>::after(start, steps), number);
                }
                if steps > 0 {
                    assert!(
                        Of::<N>::between(number, start) > N as u64,
                        "{start} {steps}"
                    );
                }
                number = Of::<N>::after(number, 1);
                assert!(number < Of::<N>::END);
            }
        }
    }

    #[test]
    fn numbers_wrap_around() {
        check_numbers::<1>();
        check_numbers::<3>();
        check_numbers::<8>();
        check_numbers::<1000>();
    }

    #[test]
    fn numbers_are_documented() {
        type Channel = RawChannel<[u64; 2], 3, 7, 5>;
        documented::fields!(
            "ShmChannel",
            Channel {
                senders,
                receivers,
                slots
            },
            [
                ("N", 3),
                ("T", 16),
                ("side(S)", size_of::<Side<7>>()),
                ("side(R)", size_of::<Side<5>>()),
            ]
        );
    }
}
