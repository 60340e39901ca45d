//! `ShmCondvar` between processes: notification, timeouts, and the deaths of waiters,
//! notifiers and holders.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{
    Child, Gate, dead_owner, die, expect_poisoned, leave_a_death, median, on_stage, spawn,
};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use shm_sync::{LockError, PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe};

/// A count of items, and a condition variable that tells when there are some.
#[derive(ShmSafe)]
#[repr(C)]
struct Queue {
    items: ShmMutex<u64>,
    changed: ShmCondvar,
    taken: AtomicU64,
}

fn queue() -> Segment<Queue> {
    Segment::anonymous(Queue {
        items: ShmMutex::new(0),
        changed: ShmCondvar::new(),
        taken: AtomicU64::new(0),
    })
    .unwrap()
}

impl Queue {
    /// Waits for an item and removes it.
    fn take(&self) {
        let items = self.items.lock().unwrap();
        let mut items = self.changed.wait_while(items, |items| *items == 0).unwrap();
        *items -= 1;
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    fn put(&self, count: u64) {
        *self.items.lock().unwrap() += count;
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Forks a process that waits for an item. Returns when it sleeps in the kernel.
fn waiting_taker(queue: &Queue) -> Child {
    let taker = spawn(|| queue.take());
    taker.wait_until_asleep();
    taker
}

/// Installs a handler for `signal` that forks the process.
fn fork_on(signal: Signal) {
    extern "C" fn fork(_: libc::c_int) {
        // SAFETY: the process has a single thread.
        unsafe { libc::fork() };
    }
    let action = SigAction::new(SigHandler::Handler(fork), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler calls only `fork`. The process has a single thread, which
    // sleeps when the signal comes.
    unsafe { sigaction(signal, &action) }.unwrap();
}

/// The promised time from a death or a lost wakeup until the next waiter proceeds.
///
/// The tests assert it of a median, because a busy machine may delay any single run.
/// The rounds measure nearly the worst case: each begins where the last one ended, just
/// after a recheck.
const RECOVERY_LIMIT: Duration = Duration::from_millis(250);

on_stage! {
    fn smoke() {
        let queue = queue();
        std::thread::scope(|s| {
            s.spawn(|| queue.take());
            queue.put(1);
            queue.changed.notify_one();
        });
        assert_eq!(queue.taken(), 1);
    }

    fn wait_timeout_expires_and_holds_lock() {
        let queue = queue();
        let timeout = Duration::from_millis(60);
        let start = Instant::now();
        let items = queue.items.lock().unwrap();
        let (items, result) = queue
            .changed
            .wait_timeout_while(items, timeout, |items| *items == 0)
            .unwrap();
        assert!(result.timed_out());
        assert!(start.elapsed() >= timeout);
        assert!(
            matches!(queue.items.lock(), Err(LockError::Deadlock)),
            "the waiter holds the lock"
        );
        drop(items);

        // Longer than several recheck intervals.
        let timeout = Duration::from_millis(700);
        let start = Instant::now();
        let items = queue.items.lock().unwrap();
        let (items, result) = queue.changed.wait_timeout(items, timeout).unwrap();
        assert!(result.timed_out());
        assert!(start.elapsed() >= timeout, "a recheck is not a timeout");
        drop(items);

        // A timeout of zero, and a condition that is false at once.
        let items = queue.items.lock().unwrap();
        let (items, result) = queue.changed.wait_timeout(items, Duration::ZERO).unwrap();
        assert!(result.timed_out());
        let (_items, result) = queue
            .changed
            .wait_timeout_while(items, Duration::MAX, |_| false)
            .unwrap();
        assert!(!result.timed_out());
    }

    fn pthread_condvar_not_placed_fails() {
        let mutex = Segment::anonymous(ShmMutex::new(0_u64)).unwrap();
        let condvar = PthreadCondvar::new();
        condvar.notify_one();
        condvar.notify_all();
        let guard = mutex.lock().unwrap();
        assert!(matches!(condvar.wait(guard), Err(LockError::NotPlaced)));
        assert!(mutex.try_lock().is_ok(), "the failed wait has unlocked the mutex");
    }

    fn notify_all_wakes_all_notify_one_wakes_one() {
        let queue = queue();
        let takers: Vec<_> = (0..6).map(|_| waiting_taker(&queue)).collect();
        queue.put(6);
        queue.changed.notify_all();
        takers.into_iter().for_each(Child::join);

        let takers: Vec<_> = (0..6).map(|_| waiting_taker(&queue)).collect();
        for _ in 0..6 {
            queue.put(1);
            queue.changed.notify_one();
        }
        takers.into_iter().for_each(Child::join);
        assert_eq!(queue.taken(), 12);
    }

    fn notify_one_wakes_before_recheck() {
        let woken = median(15, || {
            let queue = queue();
            let taker = waiting_taker(&queue);
            queue.put(1);
            let notified = Instant::now();
            queue.changed.notify_one();
            taker.join();
            notified.elapsed()
        });
        println!("median time from notification to exit: {woken:?}");
        // Rechecks alone would take 75 ms in the median.
        assert!(woken < Duration::from_millis(35));
    }

    fn wait_while_true_condition_does_not_end() {
        let queue = queue();
        let _taker = waiting_taker(&queue);
        queue.changed.notify_one();
        queue.changed.notify_all();
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(queue.taken(), 0, "the condition is still false");
    }

    // The parent held the lock before the wait.
    fn wait_forked_by_handler_relocks_in_child() {
        let queue = queue();
        let both = spawn(|| {
            fork_on(Signal::SIGUSR1);
            let items = queue.items.lock().unwrap();
            let items = queue.changed.wait(items).unwrap();
            let me = std::process::id();
            assert_eq!(queue.items.holder().map(|holder| holder.pid), Some(me));
            queue.taken.fetch_add(1, Ordering::Relaxed);
            drop(items);
            crate::support::exit_now(0);
        });
        both.wait_until_asleep();
        both.signal(Signal::SIGUSR1);
        both.join();
        crate::support::poll(|| queue.taken() == 2);
        // If the child had locked under its parent's id, the lock would never be free.
        assert!(queue.items.try_lock_for(Duration::from_secs(20)).is_ok());
    }

    fn producers_and_consumers_lose_no_item() {
        const EACH: u64 = 3_000;
        let queue = queue();
        let consumers: Vec<_> = (0..3)
            .map(|_| spawn(|| (0..EACH).for_each(|_| queue.take())))
            .collect();
        let producers: Vec<_> = (0..3)
            .map(|_| {
                spawn(|| {
                    for _ in 0..EACH {
                        queue.put(1);
                        queue.changed.notify_one();
                    }
                })
            })
            .collect();
        producers.into_iter().chain(consumers).for_each(Child::join);
        assert_eq!(queue.taken(), 3 * EACH);
        assert_eq!(*queue.items.lock().unwrap(), 0);
    }

    // Failure mode 7.
    fn notify_does_not_block_on_dead_waiters() {
        let queue = queue();
        for _ in 0..20 {
            let mut waiter = waiting_taker(&queue);
            waiter.kill();
        }
        let live_waiter = waiting_taker(&queue);
        for _ in 0..1_000 {
            queue.changed.notify_one();
            queue.changed.notify_all();
        }
        queue.put(1);
        queue.changed.notify_one();
        live_waiter.join();
    }

    // Failure mode 8.
    fn notifiers_killed_at_random_block_no_waiter() {
        let queue = queue();
        for round in 0..300_u64 {
            let mut notifier = spawn(|| loop {
                queue.changed.notify_one();
                queue.changed.notify_all();
            });
            let mut waiter = spawn(|| loop {
                let items = queue.items.lock().map_err(|_| "poisoned").unwrap();
                drop(queue.changed.wait(items).map_err(|_| "poisoned").unwrap());
            });
            std::thread::sleep(Duration::from_micros(200 + (round * 41) % 700));
            notifier.kill();
            waiter.kill();
            queue.items.clear_poison();
            drop(queue.items.lock_or_recover(|items, _| *items = 0).unwrap());
            let taker = spawn(|| queue.take());
            queue.put(1);
            queue.changed.notify_one();
            taker.join();
        }
        assert_eq!(queue.taken(), 300);
    }

    // Failure mode 9.
    fn woken_waiter_killed_wakes_next() {
        let recovered = median(5, || {
            let queue = queue();
            let mut first = waiting_taker(&queue);
            let second = waiting_taker(&queue);
            let mut items = queue.items.lock().unwrap();
            *items += 1;
            // The kernel wakes the waiter that has slept longest. This waiter cannot
            // act before it has the mutex, and it dies while it waits for the mutex.
            queue.changed.notify_one();
            first.kill();
            drop(items);
            let lost = Instant::now();
            second.join();
            assert_eq!(queue.taken(), 1);
            lost.elapsed()
        });
        println!("median time to the second waiter's return: {recovered:?}");
        assert!(recovered < RECOVERY_LIMIT, "recovered after {recovered:?}");
    }

    // Failure modes 10 and 12: the wait reports the death.
    fn owner_death_is_reported_to_all_waiters() {
        let recovered = median(5, || {
            let queue = queue();
            let locked = Gate::new();
            let die_now = Gate::new();
            let waiters: Vec<_> = (0..4)
                .map(|_| {
                    spawn(|| {
                        let items = queue.items.lock().unwrap();
                        let result = queue.changed.wait_while(items, |items| *items == 0);
                        let poisoned = expect_poisoned(result);
                        assert!(dead_owner(poisoned.cause()).is_some());
                    })
                })
                .collect();
            waiters.iter().for_each(Child::wait_until_asleep);
            let mut holder = spawn(|| {
                let _items = queue.items.lock().unwrap();
                locked.open();
                die_now.pass();
                die()
            });
            locked.pass();
            let dead = Instant::now();
            die_now.open();
            holder.wait();
            waiters.into_iter().for_each(Child::join);
            dead.elapsed()
        });
        println!("median time to the report to all four: {recovered:?}");
        assert!(recovered < RECOVERY_LIMIT, "recovered after {recovered:?}");
    }

    // Failure mode 11, where the notifier holds the lock: it changes the state and dies
    // before it notifies. A third process then repairs the data without a notification.
    fn owner_death_wakes_waiters_after_repair() {
        let queue = queue();
        let waiters = [waiting_taker(&queue), waiting_taker(&queue)];
        let mut holder = spawn(|| {
            *queue.items.lock().unwrap() += 2;
            let _items = queue.items.lock().unwrap();
            die()
        });
        holder.wait();
        // Repaired at once, before a waiter has rechecked the lock.
        drop(queue.items.lock_or_recover(|_, _| ()).unwrap());
        // Each waiter has seen the poison and failed, or has taken an item.
        for mut waiter in waiters {
            let _ = waiter.wait();
        }
        assert!(!queue.items.is_poisoned());
    }

    // Failure mode 12.
    fn wait_variants_report_owner_death() {
        let queue = queue();
        type Wait = fn(&Queue) -> bool;
        let long = Duration::from_secs(50);
        let waits: [(&str, Wait); 4] = [
            ("wait", |q| {
                let items = q.items.lock().unwrap();
                matches!(q.changed.wait(items), Err(LockError::Poisoned(_)))
            }),
            ("wait_while", |q| {
                let items = q.items.lock().unwrap();
                matches!(q.changed.wait_while(items, |_| true), Err(LockError::Poisoned(_)))
            }),
            ("wait_timeout", |q| {
                let items = q.items.lock().unwrap();
                let result = q.changed.wait_timeout(items, Duration::from_secs(50));
                matches!(result, Err(LockError::Poisoned(_)))
            }),
            ("wait_timeout_while", |q| {
                let items = q.items.lock().unwrap();
                let long = Duration::from_secs(50);
                let result = q.changed.wait_timeout_while(items, long, |_| true);
                matches!(result, Err(LockError::Poisoned(_)))
            }),
        ];
        for (name, wait) in waits {
            let waiter = spawn(|| assert!(wait(&queue), "{name}"));
            waiter.wait_until_asleep();
            leave_a_death(&queue.items);
            waiter.join();
            let result = queue.items.try_lock_for(long);
            drop(expect_poisoned(result).recover(|_| ()));
        }
    }

    fn wait_ignores_known_poison() {
        let queue = queue();
        leave_a_death(&queue.items);
        let items = expect_poisoned(queue.items.lock()).into_inner();
        let start = Instant::now();
        let timeout = Duration::from_millis(600);
        let result = queue.changed.wait_timeout(items, timeout);
        // The wait reports the poison like `lock`, but only when it ends.
        drop(expect_poisoned(result.map(|(guard, _)| guard)));
        assert!(start.elapsed() >= timeout);
    }

    fn holder_panic_wakes_waiters() {
        let queue = queue();
        let waiter = spawn(|| {
            let items = queue.items.lock().unwrap();
            drop(expect_poisoned(queue.changed.wait_while(items, |items| *items == 0)));
        });
        waiter.wait_until_asleep();
        let mut holder = spawn(|| {
            let _items = queue.items.lock().unwrap();
            panic!("on purpose, in a child");
        });
        holder.wait();
        waiter.join();
    }

    // The unlock in the wait must poison, because the panic has interrupted a change.
    fn wait_during_unwinding_poisons() {
        struct WaitsWhenDropped<'a> {
            guard: Option<ShmMutexGuard<'a, u64>>,
            changed: &'a ShmCondvar,
        }
        impl Drop for WaitsWhenDropped<'_> {
            fn drop(&mut self) {
                let guard = self.guard.take().unwrap();
                let _ = self.changed.wait_timeout(guard, Duration::from_millis(1));
            }
        }
        let pair = Segment::anonymous((ShmMutex::new(0_u64), ShmCondvar::new())).unwrap();
        let (number, changed) = &*pair;
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let guard = Some(number.lock().unwrap());
            let _waits = WaitsWhenDropped { guard, changed };
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert!(number.is_poisoned(), "the holder panicked");
    }

    fn wait_with_inherited_guard_fails() {
        let queue = queue();
        let guard = std::mem::ManuallyDrop::new(queue.items.lock().unwrap());
        spawn(|| {
            // SAFETY: this is the child's copy of the guard; the parent drops its own.
            let inherited = unsafe { std::ptr::read(&*guard) };
            assert!(matches!(queue.changed.wait(inherited), Err(LockError::NotOwner)));
            assert!(matches!(queue.items.try_lock(), Err(LockError::WouldBlock)));
        })
        .join();
        assert_eq!(queue.items.holder().unwrap().pid, std::process::id());
        drop(std::mem::ManuallyDrop::into_inner(guard));
    }

    fn notify_does_not_block_on_stopped_waiter() {
        let queue = queue();
        let stopped = waiting_taker(&queue);
        stopped.signal(Signal::SIGSTOP);
        stopped.wait_until_stopped();
        for _ in 0..1_000 {
            queue.changed.notify_all();
        }
        let other = waiting_taker(&queue);
        queue.put(2);
        queue.changed.notify_all();
        other.join();
        stopped.signal(Signal::SIGCONT);
        stopped.join();
    }

    fn waiters_use_little_cpu_time() {
        use nix::sys::resource::{UsageWho, getrusage};
        use nix::sys::time::TimeValLike;
        let queue = queue();
        let mut waiters: Vec<_> = (0..4).map(|_| waiting_taker(&queue)).collect();
        std::thread::sleep(Duration::from_secs(2));
        waiters.iter_mut().for_each(Child::kill);
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
        let used = (usage.user_time() + usage.system_time()).num_milliseconds();
        // A loop that never sleeps would use up to eight seconds.
        assert!(used < 500, "{used} ms of processor time in two seconds of sleep");
    }

    fn pthread_condvar_notifies_and_times_out() {
        #[derive(ShmSafe)]
        #[repr(C)]
        struct Shared {
            items: ShmMutex<u64>,
            changed: PthreadCondvar,
        }
        let shared = Segment::anonymous(Shared {
            items: ShmMutex::new(0),
            changed: PthreadCondvar::new(),
        })
        .unwrap();
        let takers: Vec<_> = (0..3)
            .map(|_| {
                spawn(|| {
                    let items = shared.items.lock().unwrap();
                    let mut items = shared.changed.wait_while(items, |n| *n == 0).unwrap();
                    *items -= 1;
                })
            })
            .collect();
        takers.iter().for_each(Child::wait_until_asleep);
        *shared.items.lock().unwrap() = 3;
        shared.changed.notify_one();
        shared.changed.notify_all();
        takers.into_iter().for_each(Child::join);

        let timeout = Duration::from_millis(50);
        let start = Instant::now();
        let items = shared.items.lock().unwrap();
        let (items, result) = shared.changed.wait_timeout(items, timeout).unwrap();
        assert!(result.timed_out() && start.elapsed() >= timeout);
        let (items, result) = shared
            .changed
            .wait_timeout_while(items, timeout, |_| true)
            .unwrap();
        assert!(result.timed_out());
        drop(items);

        // Failure mode 12: the wait reports a death after the next notification.
        let waiter = spawn(|| {
            let items = shared.items.lock().unwrap();
            drop(expect_poisoned(shared.changed.wait_while(items, |n| *n == 0)));
        });
        waiter.wait_until_asleep();
        spawn(|| {
            let _items = shared.items.lock().unwrap();
            shared.changed.notify_all();
            die()
        })
        .wait();
        waiter.join();
    }
}
