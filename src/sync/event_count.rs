//! A place to sleep until a question about words in shared memory is answered.
//!
//! The idea is that of Reed and Kanodia, [*Synchronization with eventcounts and
//! sequencers*](https://dl.acm.org/doi/10.1145/359060.359076) (1979). The announcements
//! spare a notifier the system call if no thread waits.
//!
//! # The protocol
//!
//! An event count is a sequence number and a *roll*: the number of announcements of
//! sleepers, and the number up to which they are *settled*. A settled announcement is
//! that of a thread that does not sleep, or is dead.
//!
//! * **wait**: reads the sequence, announces itself, asks the question, and sleeps in
//!   the kernel while the sequence is unchanged. After each wake and each recheck it
//!   does all of this again.
//! * **notify**: the caller has changed a word. If all announcements are settled, that
//!   is all. Otherwise it adds one to the sequence and wakes. If the kernel has woken
//!   no thread, it settles the announcements that it has read, by a compare-exchange.
//! * **settle**: a woken thread that was the only one announced settles its own
//!   announcement, so that the next notifier makes no system call.
//!
//! The compare-exchange of the whole roll fails if a thread has announced itself since.
//! Announcements only grow, so the roll never has an earlier value again. A count of
//! sleepers would: it sinks and rises, and a notifier would settle a sleeper of which
//! it knows nothing.
//!
//! # Why no wake-up is lost
//!
//! A notifier may skip the system call. This is the store-buffer pattern, and at least
//! one side must see the other:
//!
//! | | first | then |
//! |---|---|---|
//! | waiter | adds its announcement to `roll`, `SeqCst` | the question reads the words, `SeqCst` |
//! | notifier | the caller changes a word, `SeqCst` | reads `roll`, `SeqCst` |
//!
//! A notifier that does not skip changes the sequence after the announcement that it
//! has read. The waiter has read the sequence before its announcement. So the kernel
//! either refuses to let it sleep, or has queued it. If the kernel wakes no thread, no
//! announced thread was queued, and none of them falls asleep any more with the old
//! sequence: each asks again. So their announcements are settled.
//!
//! # Watching
//!
//! A waiter may *watch* seats. The kernel then wakes it when an occupant dies, because
//! it sleeps on the lock words of these seats as well (`futex_waitv`). The order is:
//! announce, mark the lock words, ask, sleep. If an occupant has left before the mark,
//! the question sees that. If it leaves after the mark, it changes a word on which the
//! waiter sleeps. The kernel wakes one watcher of a dead occupant, and that watcher
//! notifies the others.
//!
//! Before Linux 5.16, under a seccomp filter that refuses the call, and for more than
//! 127 seats, a death is noticed at the next recheck.
//!
//! # The crash argument
//!
//! There is no lock inside, so no death can leave one locked.
//!
//! | death of | what is left | what repairs it |
//! |---|---|---|
//! | caller, before its change | nothing | |
//! | caller, between its change and the wake | waiters that were not called | a watched seat of the caller, or the waiters' recheck |
//! | waiter, anywhere | its announcement | the next notifier that wakes no thread |
//! | woken waiter, before it acts | a change that no thread uses | the other waiters' recheck |
//! | watcher that was woken by a death, before it notifies | the other watchers sleep | their recheck |
//!
//! The recheck: each waiter asks again at every multiple of [`RECHECK_INTERVAL`].
//!
//! # Limits
//!
//! A notifier that reads 2³² announcements, none of them settled, takes them for none.
//! A waiter that sleeps through 2³² notifications of other threads misses the last one.
//! Both repair themselves at the next recheck.
//!
//! [`RECHECK_INTERVAL`]: crate::os::clock::RECHECK_INTERVAL

use std::io;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::seat::Seat;
use crate::os::clock::Deadline;
use crate::os::futex::{self, FutexWait, ListWait, WaitList, Wake};
use crate::robust::spin;
use crate::shm_safe::{Parts, ShmSafe, TypeProperties};

/// An event count. Any bytes are valid.
#[repr(C)]
pub(super) struct EventCount {
    sequence: AtomicU32,
    _reserved: AtomicU32,
    /// A [`Roll`].
    roll: AtomicU64,
}

const _: () = {
    assert!(size_of::<EventCount>() == 16);
    assert!(offset_of!(EventCount, roll) == 8);
};

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)` over atomic words, whose size is in the fingerprint.
// * The words have the same meaning in every process, and there is no destructor.
// * There are no sync objects, because it needs no initialisation.
// * Any bytes are valid, so zeros and mixtures are.
unsafe impl ShmSafe for EventCount {
    const PARTS: Parts = Parts::opaque("EventCount", size_of::<Self>(), align_of::<Self>());
    const PROPERTIES: TypeProperties = TypeProperties::POD.with_interior_mutability();
}

/// The announcements of sleepers. Both parts wrap around.
///
/// | bits | meaning |
/// |---|---|
/// | 0–31 | how many announcements are settled |
/// | 32–63 | how many announcements there were |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Roll(u64);

impl Roll {
    const ONE: u64 = 1 << 32;

    fn announced(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn settled(self) -> u32 {
        self.0 as u32
    }

    fn open(self) -> u32 {
        self.announced().wrapping_sub(self.settled())
    }

    fn with_all_settled(self) -> Self {
        let announced = u64::from(self.announced());
        Self(announced << 32 | announced)
    }
}

impl EventCount {
    pub(super) const fn new() -> Self {
        Self {
            sequence: AtomicU32::new(0),
            _reserved: AtomicU32::new(0),
            roll: AtomicU64::new(0),
        }
    }

    /// Waits until `question` has an answer. Returns `None` if the deadline has passed.
    ///
    /// `question` reads the words on which it depends by sequentially consistent
    /// accesses. `looks_answered` only reads, and returns whether asking is worthwhile.
    /// The spin before the sleep calls it. The death of an occupant of the `watched`
    /// seats ends the sleep.
    ///
    /// # Errors
    ///
    /// The kernel refuses to let a thread sleep, for example by a seccomp filter.
    pub(super) fn wait<T>(
        &self,
        deadline: Option<Deadline>,
        watched: &[Seat],
        looks_answered: impl Fn() -> bool,
        mut question: impl FnMut() -> Option<T>,
    ) -> io::Result<Option<T>> {
        if spin::spin_until(looks_answered) {
            let answer = question();
            if answer.is_some() {
                return Ok(answer);
            }
        }
        loop {
            let seen = self.sequence.load(Ordering::SeqCst);
            let announced = self.announce();
            let mut list = (!watched.is_empty()).then(|| WaitList::new(&self.sequence, seen));
            if let Some(list) = &mut list {
                for (word, value) in watched.iter().filter_map(Seat::watch) {
                    list.push(word, value);
                }
            }
            let answer = question();
            if answer.is_some() || deadline.is_some_and(Deadline::has_passed) {
                self.settle_if_alone(announced);
                return Ok(answer);
            }
            let slept = self.sleep(seen, list.as_ref(), Deadline::next_recheck(deadline));
            self.settle_if_alone(announced);
            if slept? == Woken::BySeat {
                self.notify(Wake::All);
            }
        }
    }

    /// Adds an announcement. Returns the roll with it.
    fn announce(&self) -> Roll {
        // SeqCst: the waiter's row of the table above.
        let before = self.roll.fetch_add(Roll::ONE, Ordering::SeqCst);
        Roll(before.wrapping_add(Roll::ONE))
    }

    /// Settles the announcement of this thread, if all earlier ones are settled and
    /// there is no later one.
    fn settle_if_alone(&self, announced: Roll) {
        if announced.open() == 1 {
            self.settle(announced);
        }
    }

    /// Settles all announcements, unless there is another one since `read`.
    fn settle(&self, read: Roll) {
        let settled = read.with_all_settled();
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        let _ = self
            .roll
            .compare_exchange(read.0, settled.0, success, failure);
    }

    /// Sleeps while the sequence is `seen`, on the words of `list` as well.
    fn sleep(&self, seen: u32, list: Option<&WaitList<'_>>, until: Deadline) -> io::Result<Woken> {
        let by_list = list.map(|list| list.wait(until));
        match by_list {
            // The first word is the sequence, the others are those of seats.
            Some(Ok(ListWait::Woken(1..))) => return Ok(Woken::BySeat),
            Some(Ok(ListWait::Woken(0) | ListWait::Changed | ListWait::TimedOut)) => {
                return Ok(Woken::Otherwise);
            }
            // The kernel has no such call, or refuses it.
            Some(Err(_)) | None => {}
        }
        match futex::wait(&self.sequence, seen, Some(until))? {
            FutexWait::Woken | FutexWait::TimedOut => Ok(Woken::Otherwise),
        }
    }

    /// Wakes waiters, if there may be any. The caller has changed a word by a
    /// sequentially consistent access.
    ///
    /// [`Wake::One`] is right if only one thread waits, or if each waiter can use what
    /// the caller has changed. A seat may wake the same waiter at the same time. Then
    /// that waiter wakes the others ([`Woken::BySeat`]).
    #[inline]
    pub(super) fn notify(&self, waiters: Wake) {
        // SeqCst: the notifier's row of the table above.
        let roll = Roll(self.roll.load(Ordering::SeqCst));
        if roll.open() != 0 {
            self.wake(roll, waiters);
        }
    }

    #[cold]
    fn wake(&self, read: Roll, waiters: Wake) {
        self.sequence.fetch_add(1, Ordering::SeqCst);
        if futex::wake(&self.sequence, waiters) == Some(0) {
            self.settle(read);
        }
    }

    /// Settles all announcements. No thread waits.
    pub(super) fn reset(&self) {
        let roll = Roll(self.roll.load(Ordering::Relaxed));
        self.roll
            .store(roll.with_all_settled().0, Ordering::Relaxed);
    }

    /// Returns the number of announcements that are not settled: at least the number
    /// of sleeping threads.
    pub(super) fn waiters(&self) -> u32 {
        Roll(self.roll.load(Ordering::Relaxed)).open()
    }
}

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// A wake on the lock word of a seat: its occupant has died or left.
    BySeat,
    Otherwise,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;
    use std::time::{Duration, Instant};

    fn sequence(count: &EventCount) -> u32 {
        count.sequence.load(Ordering::Relaxed)
    }

    /// Waits for a flag.
    fn wait_for(count: &EventCount, flag: &AtomicU32, deadline: Option<Deadline>) -> bool {
        let is_set = || flag.load(Ordering::SeqCst) != 0;
        let answer = count.wait(deadline, &[], is_set, || is_set().then_some(()));
        answer.expect("the kernel lets threads sleep").is_some()
    }

    #[test]
    fn smoke() {
        let (count, flag) = (EventCount::new(), AtomicU32::new(0));
        std::thread::scope(|s| {
            let waiters = [0; 3].map(|_| s.spawn(|| wait_for(&count, &flag, None)));
            flag.store(1, Ordering::SeqCst);
            count.notify(Wake::All);
            for waiter in waiters {
                assert!(waiter.join().expect("a waiter does not panic"));
            }
        });
    }

    #[test]
    fn notify_without_waiters_writes_nothing() {
        let count = EventCount::new();
        count.notify(Wake::All);
        count.notify(Wake::One);
        assert_eq!((sequence(&count), count.waiters()), (0, 0));
    }

    #[test]
    fn lone_waiter_settles_itself() {
        let (count, flag) = (EventCount::new(), AtomicU32::new(0));
        let soon = Deadline::after(Duration::from_millis(1));
        assert!(!wait_for(&count, &flag, Some(soon)));
        assert!(
            count.roll.load(Ordering::Relaxed) != 0,
            "it has announced itself"
        );
        assert_eq!(count.waiters(), 0);
    }

    #[test]
    fn dead_waiters_cost_one_call() {
        let count = EventCount::new();
        count.announce();
        count.announce();
        assert_eq!(count.waiters(), 2);
        count.notify(Wake::One);
        assert_eq!((sequence(&count), count.waiters()), (1, 0));
        count.notify(Wake::One);
        assert_eq!(sequence(&count), 1, "no system call");
    }

    #[test]
    fn later_announcement_is_not_settled() {
        let count = EventCount::new();
        let read = count.announce();
        count.announce();
        count.settle(read);
        assert_eq!(count.waiters(), 2);
        count.settle_if_alone(read);
        assert_eq!(count.waiters(), 2);
    }

    #[test]
    fn announcements_wrap_around() {
        let count = EventCount::new();
        let last = u64::from(u32::MAX);
        count.roll.store(last << 32 | last, Ordering::Relaxed);
        let read = count.announce();
        assert_eq!(count.waiters(), 1);
        count.settle(read);
        assert_eq!(count.roll.load(Ordering::Relaxed), 0);
    }

    /// A notification that was lost reaches the waiter at its next recheck.
    #[test]
    fn lost_notification_is_noticed_by_recheck() {
        let (count, flag) = (EventCount::new(), AtomicU32::new(0));
        std::thread::scope(|s| {
            let waiter = s.spawn(|| wait_for(&count, &flag, None));
            while count.waiters() == 0 {
                std::hint::spin_loop();
            }
            // The notifier dies after its change.
            flag.store(1, Ordering::SeqCst);
            let begin = Instant::now();
            assert!(waiter.join().expect("a waiter does not panic"));
            let waited = begin.elapsed();
            assert!(
                waited < Duration::from_secs(60),
                "the test is not hung: {waited:?}"
            );
        });
    }

    #[test]
    fn reset_settles_announcements() {
        let count = EventCount::new();
        count.announce();
        count.reset();
        assert_eq!(count.waiters(), 0);
    }

    #[test]
    fn numbers_are_documented() {
        documented::fields!(
            "event count",
            EventCount {
                sequence,
                _reserved,
                roll
            }
        );
        let settled = Roll(u64::MAX).settled();
        documented::bits(
            "roll",
            &[
                ("settled", settled.into()),
                (
                    "announced",
                    u64::from(Roll(u64::MAX).announced()) * Roll::ONE,
                ),
            ],
        );
    }
}
