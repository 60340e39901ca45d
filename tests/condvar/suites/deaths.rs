//! Deaths and panics of those who wait, notify, and hold the lock: the cases of the
//! published suites, over both kinds of mutex and, where a death outside of the
//! condition variable is meant, over both condition variables.

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
    LockError, LockResult, PoisonCause, PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmSafe,
};

/// A timeout that no test lives to see.
const LONG: Duration = Duration::from_secs(1_000);
/// The promise for healing: see tests/condvar/waiting.rs.
const HEALS_WITHIN: Duration = Duration::from_millis(250);

on_stage! {
    fn smoke() {
        learns_from_a_notification(&wait::<ShmCondvar>, &Shared::placed());
        learns_from_a_notification(&wait::<PthreadCondvar>, &Shared::placed());
    }

    fn wait_reports_death_of_notifier_with_lock() {
        every_way_learns::<ShmCondvar>(Shared::placed);
        every_way_learns::<ShmCondvar>(inheriting);
        every_way_learns::<PthreadCondvar>(Shared::placed);
    }

    // Nobody notifies: it is the sleepers that look around.
    fn wait_reports_owner_death_under_pi() {
        for way in ways::<ShmCondvar>() {
            let healed = median(3, || {
                let shared = inheriting();
                let sleeper = spawn(|| {
                    let poisoned = expect_poisoned(way(&shared, shared.lock_to_wait()));
                    assert!(dead_owner(poisoned.cause()).is_some());
                    shared.came_back_with(poisoned.into_inner());
                });
                sleeper.wait_until_asleep();
                drop(shared.lock_when_waiting(1));
                leave_a_death(&shared.state);
                time(|| sleeper.join())
            });
            println!("median time until it knew: {healed:?}");
            assert!(healed < HEALS_WITHIN);
        }
    }

    fn woken_waiters_die_next_waiter_is_told() {
        die_one_after_the_other::<ShmCondvar>(&Shared::placed());
        die_one_after_the_other::<PthreadCondvar>(&Shared::placed());
        die_one_after_the_other::<ShmCondvar>(&inheriting());
    }

    fn wait_condition_panic_poisons_and_unlocks() {
        panics_in_the_condition::<ShmCondvar>();
        panics_in_the_condition::<PthreadCondvar>();
    }

    // Those who wait with the other mutex may be woken, but hear nothing of it.
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
        let told = spawn(|| {
            let state = two.mine.lock().unwrap();
            let result = two.shared.changed.wait_while(state, is_empty);
            assert!(dead_owner(expect_poisoned(result).cause()).is_some());
        });
        let untold = spawn(|| two.shared.take());
        told.wait_until_asleep();
        drop(two.shared.lock_when_waiting(1));
        leave_a_death(&two.mine);
        told.join();
        assert!(!two.shared.state.is_poisoned());
        assert_eq!(two.shared.returned(), 0);
        two.shared.state.lock().unwrap().items = 1;
        two.shared.changed.notify_one();
        untold.join();
    }

    // A dead listener, and one whose timeout keeps ending its wait.
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
        let shared = inheriting::<ShmCondvar>();
        for round in 0..100_u64 {
            let mut waiters: Vec<_> = (0..2)
                .map(|_| {
                    spawn(|| loop {
                        let state = repaired(shared.state.lock());
                        let result = shared.changed.wait_timeout(state, LONG);
                        drop(repaired(result.map(|(state, _)| state)));
                    })
                })
                .collect();
            let mut notifier = spawn(|| loop {
                let state = repaired(shared.state.lock());
                shared.changed.notify_one();
                drop(state);
            });
            std::thread::sleep(Duration::from_micros(100 + (round * 61) % 1_500));
            waiters[0].kill();
            notifier.kill();
            waiters[1].kill();

            let mut state = repaired(shared.state.lock());
            (state.waiting, state.items) = (0, 0);
            drop(state);
            let taker = spawn(|| {
                let state = shared.lock_to_wait();
                drop(repaired(shared.changed.wait_while(state, is_empty)));
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

/// The four ways to wait, for a change that does not come.
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

fn inheriting<C: Condvar>() -> Segment<Shared<C>> {
    Segment::anonymous(Shared::unplaced_with_priority_inheritance()).unwrap()
}

fn every_way_learns<C: Condvar>(shared: fn() -> Segment<Shared<C>>) {
    for way in ways::<C>() {
        learns_from_a_notification(&way, &shared());
    }
}

fn learns_from_a_notification<C: Condvar>(
    way: &dyn for<'a> Fn(&Shared<C>, Guard<'a>) -> LockResult<Guard<'a>>,
    shared: &Segment<Shared<C>>,
) {
    let waiter = spawn(|| {
        let poisoned = expect_poisoned(way(shared, shared.lock_to_wait()));
        assert!(dead_owner(poisoned.cause()).is_some());
        shared.came_back_with(poisoned.into_inner());
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

/// Five are woken together. Each dies as soon as it has the lock, so all but the
/// first inherit it from the dead.
fn die_one_after_the_other<C: Condvar>(shared: &Segment<Shared<C>>) {
    const WAITERS: u64 = 5;
    let inherited = Segment::anonymous(AtomicU64::new(0)).unwrap();
    let waiters: Vec<_> = (0..WAITERS)
        .map(|_| {
            spawn(|| {
                let _state = match shared.changed.wait(shared.lock_to_wait()) {
                    Ok(state) => state,
                    Err(LockError::Poisoned(poisoned)) => {
                        inherited.fetch_add(1, Ordering::SeqCst);
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
    assert_eq!(inherited.load(Ordering::SeqCst), WAITERS - 1);
    drop(expect_poisoned(shared.state.lock()).recover(|_| ()));
    assert!(shared.state.lock().is_ok());
}

/// The condition panics when it is asked for the first time, or after a wakeup.
fn panics_in_the_condition<C: Condvar>() {
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
        for good_answers in 0..2 {
            let shared = Shared::<C>::placed();
            let waiter = spawn(|| {
                let mut asked = 0;
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    wait(&shared, &mut |state| {
                        state.items += 1;
                        asked += 1;
                        assert!(asked <= good_answers, "on purpose, in a child");
                        true
                    });
                }));
                assert!(panicked.is_err());
                assert!(!shared.is_held_by_me());
            });
            if good_answers > 0 {
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
            assert_eq!(poisoned.get_ref().items, good_answers + 1);
        }
    }
}

/// The lock, whether somebody has died with it or not.
fn repaired(result: LockResult<Guard<'_>>) -> Guard<'_> {
    match result {
        Ok(state) => state,
        Err(LockError::Poisoned(poisoned)) => poisoned.recover(|_| ()),
        Err(other) => panic!("{other:?}"),
    }
}
