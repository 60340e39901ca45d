//! Stress tests of the published suites (see `mod.rs`): many processes wait and notify
//! at the same time.
//!
//! A process hangs here if `PthreadCondvar` loses a notification. `ShmCondvar` would
//! recheck and only be late. `wakeups.rs` tests for that.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Condvar, LOCKED_OR_NOT, NotifyWhen, Shared, State};
use crate::support::{Child, Random, on_stage, spawn};
use shm_sync::{LockResult, PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe};

on_stage! {
    fn smoke() {
        let plan = Plan { producers: 1, consumers: 1, slots: 1, notified: One, timeout: None };
        plan.carry_out::<ShmCondvar>();
        plan.carry_out::<PthreadCondvar>();
    }

    fn queue_delivers_each_message_once() {
        for (producers, consumers) in [(1, 1), (1, 5), (6, 1), (1, 6), (6, 6)] {
            for (slots, notified) in [(1, All), (3, One), (SLOTS, One), (SLOTS, All)] {
                for timeout in [None, Some(Duration::from_millis(1))] {
                    let plan = Plan { producers, consumers, slots, notified, timeout };
                    plan.carry_out::<ShmCondvar>();
                    plan.carry_out::<PthreadCondvar>();
                }
            }
        }
    }

    fn flag_and_condvar_exclude_processes() {
        for when in LOCKED_OR_NOT {
            check_exclusion::<ShmCondvar>(when);
            check_exclusion::<PthreadCondvar>(when);
        }
    }

    fn notify_count_mismatch_hangs_no_waiter() {
        check_notify_count::<ShmCondvar>(&Shared::placed());
        check_notify_count::<PthreadCondvar>(&Shared::placed());
    }

    // The mutex has priority inheritance.
    fn notify_count_mismatch_hangs_no_waiter_pi() {
        check_notify_count::<ShmCondvar>(&placed_with_pi());
    }

    // In glibc before the fix of BZ 25847, late waiters could steal the notifications
    // of earlier ones. So the test is for `ShmCondvar` only.
    fn rewaiting_waiters_steal_no_notification() {
        const WAITERS: u64 = 6;
        const NOTIFIERS: u64 = 2;
        const EACH: u64 = 5_000;
        let shared: Segment<Shared<ShmCondvar>> = Shared::placed();
        let processes: Vec<_> = (0..WAITERS)
            .map(|_| spawn(|| (0..NOTIFIERS * EACH).for_each(|_| shared.take())))
            .chain((0..NOTIFIERS).map(|_| {
                spawn(|| {
                    for _ in 0..WAITERS * EACH {
                        shared.state.lock().unwrap().items += 1;
                        shared.changed.notify_one();
                    }
                })
            }))
            .collect();
        processes.into_iter().for_each(Child::join);
        assert_eq!(shared.returned(), WAITERS * NOTIFIERS * EACH);
        assert_eq!(shared.state.lock().unwrap().items, 0);
    }
}

use Notified::{All, One};

/// Which waiters are notified of a message or of a free slot.
#[derive(Clone, Copy, Debug)]
enum Notified {
    /// One waiter, for each message or slot.
    One,
    /// All waiters, when the ring was empty or full before.
    All,
}

const SLOTS: u64 = 20;

/// A ring of messages.
#[derive(ShmSafe)]
#[repr(C)]
struct Ring {
    messages: [u64; SLOTS as usize],
    /// The numbers of messages ever put and taken.
    put: u64,
    taken: u64,
}

#[derive(ShmSafe)]
#[repr(C)]
struct Queue<C> {
    ring: ShmMutex<Ring>,
    not_full: C,
    not_empty: C,
    /// How often each message was taken.
    received: [AtomicU32; Plan::MESSAGES as usize],
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    producers: u64,
    consumers: u64,
    slots: u64,
    notified: Notified,
    /// The timeout of each wait. After it, the condition is evaluated again.
    timeout: Option<Duration>,
}

impl Plan {
    /// The number of messages, divisible by the numbers of producers and consumers.
    const MESSAGES: u64 = 600;

    fn carry_out<C: Condvar>(self) {
        let queue = Segment::anonymous(Queue {
            ring: ShmMutex::new(Ring {
                messages: [0; SLOTS as usize],
                put: 0,
                taken: 0,
            }),
            not_full: C::unplaced(),
            not_empty: C::unplaced(),
            received: [const { AtomicU32::new(0) }; Self::MESSAGES as usize],
        })
        .unwrap();
        let share = Self::MESSAGES / self.producers;
        let producers = (0..self.producers).map(|n| {
            spawn(|| (n * share..(n + 1) * share).for_each(|message| self.put(&queue, message)))
        });
        let share = Self::MESSAGES / self.consumers;
        let consumers =
            (0..self.consumers).map(|_| spawn(|| (0..share).for_each(|_| self.take(&queue))));
        let processes: Vec<_> = consumers.chain(producers).collect();
        processes.into_iter().for_each(Child::join);
        for times in &queue.received {
            assert_eq!(times.load(Ordering::Relaxed), 1, "{self:?}");
        }
    }

    fn put<C: Condvar>(self, queue: &Queue<C>, message: u64) {
        let is_full = |ring: &mut Ring| ring.put - ring.taken == self.slots;
        let mut ring = self.wait_while(&queue.not_full, queue.ring.lock(), is_full);
        let was_empty = ring.put == ring.taken;
        let at = (ring.put % SLOTS) as usize;
        ring.messages[at] = message;
        ring.put += 1;
        drop(ring);
        self.notify(&queue.not_empty, was_empty);
    }

    fn take<C: Condvar>(self, queue: &Queue<C>) {
        let is_empty = |ring: &mut Ring| ring.put == ring.taken;
        let mut ring = self.wait_while(&queue.not_empty, queue.ring.lock(), is_empty);
        let was_full = ring.put - ring.taken == self.slots;
        let message = ring.messages[(ring.taken % SLOTS) as usize];
        ring.taken += 1;
        drop(ring);
        self.notify(&queue.not_full, was_full);
        queue.received[message as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn wait_while<'a, C: Condvar>(
        self,
        changed: &C,
        ring: LockResult<ShmMutexGuard<'a, Ring>>,
        mut condition: impl FnMut(&mut Ring) -> bool,
    ) -> ShmMutexGuard<'a, Ring> {
        let mut ring = ring.unwrap();
        let Some(timeout) = self.timeout else {
            return changed.wait_while(ring, condition).unwrap();
        };
        while condition(&mut ring) {
            ring = changed.wait_timeout(ring, timeout).unwrap().0;
        }
        ring
    }

    fn notify<C: Condvar>(self, changed: &C, was_empty_or_full: bool) {
        match self.notified {
            One => changed.notify_one(),
            All if was_empty_or_full => changed.notify_all(),
            All => {}
        }
    }
}

/// Uses `items` as a flag that is 1 while a process is inside.
fn check_exclusion<C: Condvar>(when: NotifyWhen) {
    const PROCESSES: u64 = 6;
    const TIMES: u64 = 200;
    let shared = Shared::<C>::placed();
    let inside = Segment::anonymous(AtomicU32::new(0)).unwrap();
    let processes: Vec<_> = (0..PROCESSES)
        .map(|_| {
            spawn(|| {
                for _ in 0..TIMES {
                    let state = shared.state.lock().unwrap();
                    let taken = |state: &mut State| state.items == 1;
                    let mut state = shared.changed.wait_while(state, taken).unwrap();
                    state.items = 1;
                    drop(state);

                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);

                    let mut state = shared.state.lock().unwrap();
                    state.items = 0;
                    match when {
                        NotifyWhen::Locked => {
                            shared.changed.notify_all();
                            drop(state);
                        }
                        NotifyWhen::Unlocked => {
                            drop(state);
                            shared.changed.notify_all();
                        }
                    }
                    shared.returned.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    processes.into_iter().for_each(Child::join);
    assert_eq!(shared.returned(), PROCESSES * TIMES);
}

/// Adds jobs in batches. The notifications do not match: there is one per job, or one
/// and then a `notify_all` whether there are jobs or not.
fn check_notify_count<C: Condvar>(shared: &Segment<Shared<C>>) {
    const WORKERS: u64 = 5;
    const EACH: u64 = 1_000;
    let workers: Vec<_> = (0..WORKERS)
        .map(|n| {
            spawn(move || {
                for job in 0..EACH {
                    if (n + job) % 2 == 0 {
                        shared.take();
                    } else {
                        take_with_timeout(shared);
                    }
                }
            })
        })
        .collect();
    let mut random = Random::new(WORKERS);
    let mut left = WORKERS * EACH;
    while left > 0 {
        let jobs = random.below(WORKERS + 2).min(left);
        left -= jobs;
        shared.state.lock().unwrap().items += jobs;
        if random.below(30) == 0 {
            shared.changed.notify_one();
            shared.changed.notify_all();
        } else {
            (0..jobs).for_each(|_| shared.changed.notify_one());
        }
    }
    workers.into_iter().for_each(Child::join);
    assert_eq!(shared.returned(), WORKERS * EACH);
}

/// Like [`Shared::take`], with a timeout that never passes.
fn take_with_timeout<C: Condvar>(shared: &Shared<C>) {
    let long = Duration::from_secs(1_000);
    let state = shared.state.lock().unwrap();
    let result = shared
        .changed
        .wait_timeout_while(state, long, super::is_empty);
    let (mut state, result) = result.unwrap();
    assert!(!result.timed_out());
    state.items -= 1;
    shared.returned.fetch_add(1, Ordering::SeqCst);
}

fn placed_with_pi<C: Condvar>() -> Segment<Shared<C>> {
    Segment::anonymous(Shared::unplaced_with_priority_inheritance()).unwrap()
}
