//! Deaths and panics of waiters, notifiers and holders, by the published suites (see
//! `mod.rs`).
//!
//! The cases use mutexes with and without priority inheritance. They use both condition
//! variables where the death happens outside of the condition variable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Condvar, Guard, Shared, State, is_empty};
use crate::support::{
    dead_owner, die, expect_poisoned, leave_a_death, median, on_stage, spawn, time,
};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use shm_sync::{
    LockError, LockResult, OrRecover, PoisonCause, PthreadCondvar, Segment, ShmCondvar, ShmMutex,
    ShmSafe,
};

/// A timeout that never passes in a test.
const LONG: Duration = Duration::from_secs(1_000);
/// The promised time from a death to the report of it: see `RECOVERY_LIMIT` in
/// tests/condvar/waiting.rs.
const RECOVERY_LIMIT: Duration = Duration::from_millis(250);

on_stage! {
    fn smoke() {
        check_death_is_reported(&wait::<ShmCondvar>, &Shared::placed());
        check_death_is_reported(&wait::<PthreadCondvar>, &Shared::placed());
    }

    fn wait_reports_death_of_notifier_with_lock() {
        check_each_wait_reports_death::<ShmCondvar>(Shared::placed);
        check_each_wait_reports_death::<ShmCondvar>(placed_with_pi);
        check_each_wait_reports_death::<PthreadCondvar>(Shared::placed);
    }

    // No thread notifies here. The waiters find the death when they recheck the lock.
    fn wait_reports_owner_death_under_pi() {
        for way in ways::<ShmCondvar>() {
            let reported = median(3, || {
                let shared = placed_with_pi();
                let waiter = spawn(|| {
                    let poisoned = expect_poisoned(way(&shared, shared.lock_to_wait()));
                    assert!(dead_owner(poisoned.cause()).is_some());
                    shared.count_return(poisoned.into_inner());
                });
                waiter.wait_until_asleep();
                drop(shared.lock_when_waiting(1));
                leave_a_death(&shared.state);
                time(|| waiter.join())
            });
            println!("median time to the report: {reported:?}");
            assert!(reported < RECOVERY_LIMIT, "reported after {reported:?}");
        }
    }

    fn woken_waiters_die_next_waiter_is_told() {
        check_woken_waiters_die::<ShmCondvar>(&Shared::placed());
        check_woken_waiters_die::<PthreadCondvar>(&Shared::placed());
        check_woken_waiters_die::<ShmCondvar>(&placed_with_pi());
    }

    fn wait_condition_panic_poisons_and_unlocks() {
        check_condition_panics::<ShmCondvar>();
        check_condition_panics::<PthreadCondvar>();
    }

    // Waiters with the other mutex may be woken, but their waits do not end.
    fn owner_death_ends_waits_with_same_mutex_only() {
        #[derive(ShmSafe)]
        #[repr(C)]
        struct Two {
            mine: ShmMutex<State>,
            shared: Shared<ShmCondvar>,
        }
        let two = Segment::anonymous(Two {
            mine: ShmMutex::new(State::default()),
            shared: Shared::unplaced(),
        })
        .unwrap();
        let same_mutex_waiter = spawn(|| {
            let state = two.mine.lock().unwrap();
            let result = two.shared.changed.wait_while(state, is_empty);
            assert!(dead_owner(expect_poisoned(result).cause()).is_some());
        });
        let other_mutex_waiter = spawn(|| two.shared.take());
        same_mutex_waiter.wait_until_asleep();
        drop(two.shared.lock_when_waiting(1));
        leave_a_death(&two.mine);
        same_mutex_waiter.join();
        assert!(!two.shared.state.is_poisoned());
        assert_eq!(two.shared.returned(), 0);
        two.shared.state.lock().unwrap().items = 1;
        two.shared.changed.notify_one();
        other_mutex_waiter.join();
    }

    // One waiter has died. The timeout of the other ends its waits again and again.
    fn notify_reaches_living_beside_dead_waiter() {
        const NOTIFICATIONS: u64 = 100;
        let shared: Segment<Shared<ShmCondvar>> = Shared::placed();
        let mut dead = spawn(|| shared.take());
        dead.wait_until_asleep();
        dead.kill();
        shared.lock_when_waiting(1).waiting = 0;
        let listener = spawn(|| {
            let mut state = shared.lock_to_wait();
            for _ in 0..NOTIFICATIONS {
                while is_empty(&mut state) {
                    let short = Duration::from_millis(10);
                    state = shared.changed.wait_timeout(state, short).unwrap().0;
                }
                state.items = 0;
                shared.returned.fetch_add(1, Ordering::SeqCst);
                shared.answered.notify_one();
            }
        });
        for heard in 0..NOTIFICATIONS {
            let mut state = shared.lock_when_waiting(1);
            state.items = 1;
            shared.changed.notify_all();
            let unheard = |_: &mut State| shared.returned() == heard;
            drop(shared.answered.wait_while(state, unheard).unwrap());
        }
        listener.join();
    }

    fn waiters_and_notifiers_killed_under_pi() {
        let shared = placed_with_pi::<ShmCondvar>();
        for round in 0..100_u64 {
            let mut waiters: Vec<_> = (0..2)
                .map(|_| {
                    spawn(|| loop {
                        let state = recovered(shared.state.lock());
                        let result = shared.changed.wait_timeout(state, LONG);
                        drop(recovered(result.map(|(state, _)| state)));
                    })
                })
                .collect();
            let mut notifier = spawn(|| loop {
                let state = recovered(shared.state.lock());
                shared.changed.notify_one();
                drop(state);
            });
            std::thread::sleep(Duration::from_micros(100 + (round * 61) % 1_500));
            waiters[0].kill();
            notifier.kill();
            waiters[1].kill();

            let mut state = recovered(shared.state.lock());
            (state.waiting, state.items) = (0, 0);
            drop(state);
            let taker = spawn(|| {
                let state = shared.lock_to_wait();
                drop(recovered(shared.changed.wait_while(state, is_empty)));
            });
            let mut state = shared.lock_when_waiting(1);
            state.items = 1;
            shared.changed.notify_one();
            drop(state);
            taker.join();
        }
    }
}

type Way<C> = for<'a> fn(&Shared<C>, Guard<'a>) -> LockResult<Guard<'a>>;

/// Returns the four ways to wait. None of them ends without a death.
fn ways<C: Condvar>() -> [Way<C>; 4] {
    [
        wait::<C>,
        |shared, state| shared.changed.wait_while(state, is_empty),
        |shared, state| Ok(shared.changed.wait_timeout(state, LONG)?.0),
        |shared, state| Ok(shared.changed.wait_timeout_while(state, LONG, is_empty)?.0),
    ]
}

fn wait<'a, C: Condvar>(shared: &Shared<C>, state: Guard<'a>) -> LockResult<Guard<'a>> {
    shared.changed.wait(state)
}

fn placed_with_pi<C: Condvar>() -> Segment<Shared<C>> {
    Segment::anonymous(Shared::unplaced_with_priority_inheritance()).unwrap()
}

fn check_each_wait_reports_death<C: Condvar>(shared: fn() -> Segment<Shared<C>>) {
    for way in ways::<C>() {
        check_death_is_reported(&way, &shared());
    }
}

fn check_death_is_reported<C: Condvar>(
    way: &dyn for<'a> Fn(&Shared<C>, Guard<'a>) -> LockResult<Guard<'a>>,
    shared: &Segment<Shared<C>>,
) {
    let waiter = spawn(|| {
        let poisoned = expect_poisoned(way(shared, shared.lock_to_wait()));
        assert!(dead_owner(poisoned.cause()).is_some());
        shared.count_return(poisoned.into_inner());
    });
    drop(shared.lock_when_waiting(1));
    spawn(|| {
        let _state = shared.state.lock().unwrap();
        shared.changed.notify_one();
        die()
    })
    .wait();
    waiter.join();
    assert!(shared.state.is_poisoned());
}

/// Wakes five waiters at once. Each dies as soon as it holds the lock, so each but the
/// first sees an owner death.
fn check_woken_waiters_die<C: Condvar>(shared: &Segment<Shared<C>>) {
    const WAITERS: u64 = 5;
    let deaths_seen = Segment::anonymous(AtomicU64::new(0)).unwrap();
    let waiters: Vec<_> = (0..WAITERS)
        .map(|_| {
            spawn(|| {
                let _state = match shared.changed.wait(shared.lock_to_wait()) {
                    Ok(state) => state,
                    Err(LockError::Poisoned(poisoned)) => {
                        deaths_seen.fetch_add(1, Ordering::SeqCst);
                        poisoned.into_inner()
                    }
                    Err(other) => panic!("{other:?}"),
                };
                shared.returned.fetch_add(1, Ordering::SeqCst);
                die()
            })
        })
        .collect();
    drop(shared.lock_when_waiting(WAITERS));
    shared.changed.notify_all();
    for mut waiter in waiters {
        match waiter.wait() {
            WaitStatus::Signaled(_, Signal::SIGKILL, _) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(shared.returned(), WAITERS);
    assert_eq!(deaths_seen.load(Ordering::SeqCst), WAITERS - 1);
    drop(expect_poisoned(shared.state.lock()).recover(|_| ()));
    assert!(shared.state.lock().is_ok());
}

/// Lets the condition panic in its first or its second evaluation.
fn check_condition_panics<C: Condvar>() {
    type Wait<C> = fn(&Shared<C>, &mut dyn FnMut(&mut State) -> bool);
    let waits: [Wait<C>; 2] = [
        |shared, condition| {
            drop(shared.changed.wait_while(shared.lock_to_wait(), condition));
        },
        |shared, condition| {
            let state = shared.lock_to_wait();
            drop(shared.changed.wait_timeout_while(state, LONG, condition));
        },
    ];
    for wait in waits {
        for good_evaluations in 0..2 {
            let shared = Shared::<C>::placed();
            let waiter = spawn(|| {
                let mut evaluations = 0;
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    wait(&shared, &mut |state| {
                        state.items += 1;
                        evaluations += 1;
                        assert!(evaluations <= good_evaluations, "on purpose, in a child");
                        true
                    });
                }));
                assert!(panicked.is_err());
                assert!(!shared.is_held_by_this_thread());
            });
            if good_evaluations > 0 {
                drop(shared.lock_when_waiting(1));
                shared.changed.notify_one();
            }
            let waiter_pid = waiter.pid();
            waiter.join();
            let poisoned = expect_poisoned(shared.state.lock());
            match poisoned.cause() {
                PoisonCause::Panicked { pid, .. } => assert_eq!(pid, waiter_pid),
                other => panic!("{other:?}"),
            }
            assert_eq!(poisoned.get_ref().items, good_evaluations + 1);
        }
    }
}

/// Returns the guard, after recovery from an owner death if there was one.
fn recovered(result: LockResult<Guard<'_>>) -> Guard<'_> {
    result.or_recover(|_, _| ()).unwrap()
}
