//! Notifications: which waiters they wake, and that each waiter returns with the lock,
//! by the published suites (see `mod.rs`). Over both condition variables.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{
    Condvar, Guard, LOCKED_OR_NOT, NotifyWhen, Shared, State, is_empty, is_held_by_this_thread,
};
use crate::rechecks::{RECHECK_INTERVAL, rechecks_due, sleep_past_recheck};
use crate::support::{Child, Gate, TestAddress, median, on_stage, poll, spawn};
use shm_sync::{PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmSafe};

/// Longer than several recheck intervals.
const SEVERAL_RECHECKS: Duration = Duration::from_millis(500);
/// A timeout that never passes in a test.
const LONG: Duration = Duration::from_secs(1_000);

on_stage! {
    fn smoke() {
        check_smoke::<ShmCondvar>();
        check_smoke::<PthreadCondvar>();
    }

    fn notify_without_waiter_is_not_stored() {
        check_notify_is_not_stored::<ShmCondvar>();
        check_notify_is_not_stored::<PthreadCondvar>();
    }

    fn wait_without_notify_does_not_end() {
        check_wait_does_not_end::<ShmCondvar>();
        check_wait_does_not_end::<PthreadCondvar>();
    }

    fn notify_one_n_times_wakes_n_waiters() {
        check_n_wake_n::<ShmCondvar>();
        check_n_wake_n::<PthreadCondvar>();
    }

    // A recheck would hide a notification that wakes no waiter.
    fn notify_wakes_all_waiters_before_recheck() {
        const WAITERS: u64 = 6;
        type Notify = fn(&ShmCondvar);
        let ways: [(&str, Notify); 2] = [
            ("one by one", |changed| (0..WAITERS).for_each(|_| changed.notify_one())),
            ("at once", ShmCondvar::notify_all),
        ];
        for (name, notify) in ways {
            let woken = median(5, || {
                let shared: Segment<Shared<ShmCondvar>> = Shared::placed();
                let waiters: Vec<_> = (0..WAITERS)
                    .map(|_| {
                        let waiter = spawn(|| shared.take());
                        waiter.wait_until_asleep();
                        waiter
                    })
                    .collect();
                shared.lock_when_waiting(WAITERS).items = WAITERS;
                let last_recheck = sleep_past_recheck();
                notify(&shared.changed);
                poll(|| shared.returned() == WAITERS);
                let woken = last_recheck.elapsed();
                waiters.into_iter().for_each(Child::join);
                woken
            });
            println!("woken {name}: median time since the last recheck: {woken:?}");
            assert!(woken < RECHECK_INTERVAL - Duration::from_millis(10), "{name}: {woken:?}");
        }
    }

    fn notify_all_wakes_600_waiters_in_20_processes() {
        check_notify_all_wakes_many::<ShmCondvar>();
        check_notify_all_wakes_many::<PthreadCondvar>();
    }

    fn wait_returns_after_unlock_and_holds_lock() {
        check_return_after_unlock::<ShmCondvar>();
        check_return_after_unlock::<PthreadCondvar>();
    }

    fn wait_and_notify_variants_alternate() {
        check_alternation::<ShmCondvar>();
        check_alternation::<PthreadCondvar>();
    }

    fn notify_rounds_wake_each_waiter_once() {
        check_rounds::<ShmCondvar>();
        check_rounds::<PthreadCondvar>();
    }

    fn condvar_with_two_mutexes_relocks_own() {
        check_two_mutexes::<ShmCondvar>();
        check_two_mutexes::<PthreadCondvar>();
    }

    // The waiter of the other mutex must not wait for the mutex of the notifier,
    // whether it begins its wait first or last.
    fn notify_all_passes_waiter_of_held_mutex() {
        const BLOCKED: u64 = 6;
        for other_is_first in [false, true] {
            let woken = median(9, || {
                let [one, other] = [(); 2].map(|()| Shared::<ShmCondvar>::placed());
                let wait_with = |mine: &Shared<ShmCondvar>| {
                    drop(one.changed.wait(mine.lock_to_wait()).unwrap());
                    mine.returned.fetch_add(1, Ordering::SeqCst);
                };
                let mut waiters = Vec::new();
                let spawn_other = |waiters: &mut Vec<Child>| {
                    let waiter = spawn(|| wait_with(&other));
                    waiter.wait_until_asleep();
                    waiters.push(waiter);
                };
                if other_is_first {
                    spawn_other(&mut waiters);
                }
                waiters.extend((0..BLOCKED).map(|_| spawn(|| wait_with(&one))));
                waiters.iter().for_each(Child::wait_until_asleep);
                if !other_is_first {
                    spawn_other(&mut waiters);
                }
                drop(other.lock_when_waiting(1));
                let held = one.lock_when_waiting(BLOCKED);
                let last_recheck = sleep_past_recheck();
                one.changed.notify_all();
                poll(|| other.returned() == 1);
                let woken = last_recheck.elapsed();
                assert_eq!(one.returned(), 0);
                drop(held);
                waiters.into_iter().for_each(Child::join);
                woken
            });
            let limit = RECHECK_INTERVAL - Duration::from_millis(10);
            assert!(woken < limit, "first: {other_is_first}, {woken:?}");
        }
    }

    fn condvars_in_one_segment_are_independent() {
        check_independence::<ShmCondvar>();
        check_independence::<PthreadCondvar>();
    }

    fn wait_while_condition_runs_under_lock() {
        check_condition_under_lock::<ShmCondvar>();
        check_condition_under_lock::<PthreadCondvar>();
    }

    fn notify_works_across_mappings_and_backings() {
        check_other_mappings::<ShmCondvar>();
        check_other_mappings::<PthreadCondvar>();
    }

    fn notify_works_when_sequence_wraps() {
        for last in [u32::MAX, u32::MAX >> 1] {
            let shared: Segment<Shared<ShmCondvar>> = Shared::placed();
            sequence_of(&shared.changed).store(last, Ordering::SeqCst);
            let waiter = spawn(|| shared.take());
            waiter.wait_until_asleep();
            shared.lock_when_waiting(1).items = 1;
            shared.changed.notify_one();
            waiter.join();
            assert_eq!(
                sequence_of(&shared.changed).load(Ordering::SeqCst),
                last.wrapping_add(1)
            );
        }
    }

    fn sequence_wrap_loses_no_notification() {
        const ITEMS: u64 = 2_000;
        // The sequence wraps into the generation, and then as a whole.
        for begin in [(1 << 24) - 1_000, u32::MAX - 1_000] {
            let shared: Segment<Shared<ShmCondvar>> = Shared::placed();
            sequence_of(&shared.changed).store(begin, Ordering::SeqCst);
            let takers: Vec<_> = (0..2)
                .map(|_| spawn(|| (0..ITEMS / 2).for_each(|_| shared.take())))
                .collect();
            for _ in 0..ITEMS {
                shared.state.lock().unwrap().items += 1;
                shared.changed.notify_one();
            }
            takers.into_iter().for_each(Child::join);
            let end = begin.wrapping_add(ITEMS as u32);
            assert_eq!(sequence_of(&shared.changed).load(Ordering::SeqCst), end);
        }
    }

    fn notify_all_wakes_in_reused_generations() {
        /// More than there are generations.
        const ROUNDS: u64 = 100;
        const WAITERS: u64 = 3;
        const END: u64 = u64::MAX;
        let shared: Segment<Shared<ShmCondvar>> = Shared::placed();
        let waiters: Vec<_> = (0..WAITERS)
            .map(|_| spawn(|| for round in 0.. {
                let state = shared.lock_to_wait();
                let state = shared.changed.wait_while(state, |state| state.items <= round);
                if state.unwrap().items == END {
                    return;
                }
            }))
            .collect();
        // A round proves that the notification wakes all waiters if no recheck is due
        // before they wait again. If it never does, the watchdog ends the test.
        let mut proven = 0;
        let mut round = 0;
        while proven < ROUNDS {
            round += 1;
            let mut state = shared.lock_when_waiting(round * WAITERS);
            state.items = round;
            let before = rechecks_due();
            shared.changed.notify_all();
            drop(state);
            drop(shared.lock_when_waiting((round + 1) * WAITERS));
            proven += u64::from(rechecks_due() == before);
        }
        println!("{round} rounds, {proven} of them without a recheck");
        shared.state.lock().unwrap().items = END;
        shared.changed.notify_all();
        waiters.into_iter().for_each(Child::join);
    }
}

fn check_smoke<C: Condvar>() {
    let shared = Shared::<C>::placed();
    shared.changed.notify_one();
    shared.changed.notify_all();
    std::thread::scope(|s| {
        let state = shared.lock_to_wait();
        s.spawn(|| {
            let mut state = shared.lock_when_waiting(1);
            state.items = 1;
            shared.changed.notify_one();
        });
        let state = shared.changed.wait_while(state, is_empty).unwrap();
        assert_eq!(state.items, 1);
        shared.count_return(state);
    });
}

fn check_notify_is_not_stored<C: Condvar>() {
    let shared = Shared::<C>::placed();
    for _ in 0..1_000 {
        shared.changed.notify_one();
        shared.changed.notify_all();
    }
    let state = shared.state.lock().unwrap();
    let start = Instant::now();
    let (_state, result) = shared
        .changed
        .wait_timeout(state, SEVERAL_RECHECKS)
        .unwrap();
    assert!(result.timed_out());
    assert!(start.elapsed() >= SEVERAL_RECHECKS);
}

/// Checks more than the contract, which permits spurious wakeups. Without signals there
/// is no cause for one.
fn check_wait_does_not_end<C: Condvar>() {
    let shared = Shared::<C>::placed();
    let waiters: Vec<_> = (1..=5)
        .map(|count| {
            let waiter = spawn(|| {
                let state = shared.lock_to_wait();
                shared.count_return(shared.changed.wait(state).unwrap());
            });
            drop(shared.lock_when_waiting(count));
            waiter
        })
        .collect();
    std::thread::sleep(SEVERAL_RECHECKS);
    assert_eq!(shared.returned(), 0);
    shared.changed.notify_all();
    waiters.into_iter().for_each(Child::join);
}

fn check_n_wake_n<C: Condvar>() {
    const WAITERS: u64 = 10;
    for round in 0..20 {
        let shared = Shared::<C>::placed();
        let waiters: Vec<_> = (0..WAITERS)
            .map(|_| {
                spawn(|| {
                    let state = shared.lock_to_wait();
                    shared.count_return(shared.changed.wait(state).unwrap());
                })
            })
            .collect();
        let state = shared.lock_when_waiting(WAITERS);
        let notify = || (0..WAITERS).for_each(|_| shared.changed.notify_one());
        match LOCKED_OR_NOT[round % 2] {
            NotifyWhen::Locked => {
                notify();
                drop(state);
            }
            NotifyWhen::Unlocked => {
                drop(state);
                notify();
            }
        }
        waiters.into_iter().for_each(Child::join);
        assert_eq!(shared.returned(), WAITERS);
    }
}

fn check_notify_all_wakes_many<C: Condvar>() {
    const PROCESSES: u64 = 20;
    const THREADS: u64 = 30;
    let shared = Shared::<C>::placed();
    let processes: Vec<_> = (0..PROCESSES)
        .map(|_| {
            spawn(|| {
                std::thread::scope(|s| {
                    for _ in 0..THREADS {
                        s.spawn(|| {
                            let state = shared.lock_to_wait();
                            let state = shared.changed.wait_while(state, is_empty).unwrap();
                            shared.count_return(state);
                        });
                    }
                });
            })
        })
        .collect();
    shared.lock_when_waiting(PROCESSES * THREADS).items = 1;
    shared.changed.notify_all();
    processes.into_iter().for_each(Child::join);
    assert_eq!(shared.returned(), PROCESSES * THREADS);
}

fn check_return_after_unlock<C: Condvar>() {
    let shared = Shared::<C>::placed();
    let waits: [&dyn Fn(Guard<'_>); 2] = [
        &|state| shared.count_return(shared.changed.wait(state).unwrap()),
        &|state| {
            let (state, result) = shared.changed.wait_timeout(state, LONG).unwrap();
            assert!(!result.timed_out());
            shared.count_return(state);
        },
    ];
    for notify in [C::notify_one, C::notify_all] {
        let waiters: Vec<_> = waits
            .iter()
            .map(|wait| spawn(|| wait(shared.lock_to_wait())))
            .collect();
        let mut state = shared.lock_when_waiting(2);
        let before = shared.returned();
        notify(&shared.changed);
        notify(&shared.changed);
        std::thread::sleep(SEVERAL_RECHECKS);
        assert_eq!(shared.returned(), before, "this process holds the lock");
        state.waiting = 0;
        drop(state);
        waiters.into_iter().for_each(Child::join);
        assert_eq!(shared.returned(), before + 2);
    }
}

/// Two processes alternate: each waits until the number is its own, and then makes it
/// the other's.
fn check_alternation<C: Condvar>() {
    const TURNS: u64 = 400;
    let shared = Shared::<C>::placed();
    let play = |me: u64| {
        let not_mine = move |state: &mut State| state.items % 2 != me;
        for turn in 0..TURNS {
            let state = shared.state.lock().unwrap();
            let mut state = wait_by(&shared.changed, state, turn % 4, not_mine);
            assert_eq!(state.items, 2 * turn + me);
            state.items += 1;
            match LOCKED_OR_NOT[(turn / 4 % 2) as usize] {
                NotifyWhen::Locked => {
                    shared.changed.notify_one();
                    drop(state);
                }
                NotifyWhen::Unlocked => {
                    drop(state);
                    shared.changed.notify_one();
                }
            }
        }
    };
    let other = spawn(|| play(1));
    play(0);
    other.join();
    assert_eq!(shared.state.lock().unwrap().items, 2 * TURNS);
}

/// Waits while a condition is true, in one of four ways.
fn wait_by<'a, C: Condvar>(
    changed: &C,
    mut state: Guard<'a>,
    way: u64,
    mut condition: impl FnMut(&mut State) -> bool,
) -> Guard<'a> {
    match way {
        0 => changed.wait_while(state, condition).unwrap(),
        1 => {
            let result = changed.wait_timeout_while(state, LONG, condition);
            let (state, result) = result.unwrap();
            assert!(!result.timed_out());
            state
        }
        2 => {
            while condition(&mut state) {
                state = changed.wait(state).unwrap();
            }
            state
        }
        _ => {
            while condition(&mut state) {
                state = changed.wait_timeout(state, LONG).unwrap().0;
            }
            state
        }
    }
}

/// Uses two condition variables with one mutex. The last waiter to arrive notifies the
/// notifier, which wakes all waiters in another way in each round.
fn check_rounds<C: Condvar>() {
    const WAITERS: u64 = 4;
    const ROUNDS: u64 = 64;
    let shared = Shared::<C>::placed();
    let waiters: Vec<_> = (0..WAITERS)
        .map(|me| {
            spawn(|| {
                for round in 0..ROUNDS {
                    let state = shared.lock_to_wait();
                    if state.waiting == WAITERS * (round + 1) {
                        shared.answered.notify_one();
                    }
                    let way = (me + round) % 4;
                    let locked_up = |state: &mut State| state.items == round;
                    shared.count_return(wait_by(&shared.changed, state, way, locked_up));
                }
            })
        })
        .collect();
    for round in 0..ROUNDS {
        let state = shared.state.lock().unwrap();
        let gathering = |state: &mut State| state.waiting != WAITERS * (round + 1);
        let mut state = shared.answered.wait_while(state, gathering).unwrap();
        state.items = round + 1;
        let notify = || match round / 2 % 3 {
            0 => shared.changed.notify_all(),
            1 => (0..WAITERS).for_each(|_| shared.changed.notify_one()),
            _ => {
                (0..round % WAITERS).for_each(|_| shared.changed.notify_one());
                shared.changed.notify_all();
            }
        };
        match LOCKED_OR_NOT[(round % 2) as usize] {
            NotifyWhen::Locked => {
                notify();
                drop(state);
            }
            NotifyWhen::Unlocked => {
                drop(state);
                notify();
            }
        }
    }
    waiters.into_iter().for_each(Child::join);
    assert_eq!(shared.returned(), WAITERS * ROUNDS);
}

/// Each waiter waits with one mutex, and then with the other.
fn check_two_mutexes<C: Condvar>() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Two<C> {
        mutexes: [ShmMutex<State>; 2],
        changed: C,
        woken: AtomicU64,
    }
    const EACH: u64 = 3;
    let two = Segment::anonymous(Two {
        mutexes: [const {
            ShmMutex::new(State {
                waiting: 0,
                items: 0,
            })
        }; 2],
        changed: C::unplaced(),
        woken: AtomicU64::new(0),
    })
    .unwrap();
    let wait_with = |which: usize| {
        let [mine, other] = [&two.mutexes[which], &two.mutexes[1 - which]];
        let mut state = mine.lock().unwrap();
        state.waiting += 1;
        let state = two.changed.wait_while(state, is_empty).unwrap();
        assert!(is_held_by_this_thread(mine));
        let me = std::process::id();
        assert!(other.holder().is_none_or(|holder| holder.pid != me));
        drop(state);
        two.woken.fetch_add(1, Ordering::SeqCst);
    };
    let waiters: Vec<_> = (0..2 * EACH)
        .map(|n| {
            let first = (n % 2) as usize;
            spawn(|| {
                wait_with(first);
                wait_with(1 - first);
            })
        })
        .collect();
    for mutex in &two.mutexes {
        poll(|| mutex.lock().unwrap().waiting == EACH);
    }
    assert_eq!(two.woken.load(Ordering::SeqCst), 0);
    for mutex in &two.mutexes {
        mutex.lock().unwrap().items = 1;
    }
    two.changed.notify_all();
    waiters.into_iter().for_each(Child::join);
}

fn check_independence<C: Condvar>() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Row<C> {
        shared: Shared<C>,
        others: [C; 3],
    }
    let row = Segment::anonymous(Row {
        shared: Shared::<C>::unplaced(),
        others: std::array::from_fn(|_| C::unplaced()),
    })
    .unwrap();
    let waiter = spawn(|| {
        let state = row.shared.lock_to_wait();
        row.shared
            .count_return(row.shared.changed.wait(state).unwrap());
    });
    drop(row.shared.lock_when_waiting(1));
    let start = Instant::now();
    while start.elapsed() < SEVERAL_RECHECKS {
        row.others.iter().for_each(C::notify_one);
        row.others.iter().for_each(C::notify_all);
        row.shared.answered.notify_all();
    }
    assert_eq!(row.shared.returned(), 0);
    row.shared.changed.notify_one();
    waiter.join();
}

fn check_condition_under_lock<C: Condvar>() {
    let shared = Shared::<C>::placed();
    // A condition that is false at first is evaluated once.
    let state = shared.state.lock().unwrap();
    let mut asked = 0;
    let state = shared.changed.wait_while(state, |_| {
        asked += 1;
        assert!(shared.is_held_by_this_thread());
        false
    });
    drop(state.unwrap());
    assert_eq!(asked, 1);

    // Otherwise it is evaluated after each notification until it is false. It sees its
    // own changes to the data.
    const ASKED: u64 = 5;
    let waiter = spawn(|| {
        let state = shared.lock_to_wait();
        let state = shared.changed.wait_while(state, |state| {
            assert!(shared.is_held_by_this_thread());
            state.items += 1;
            state.items < ASKED
        });
        assert_eq!(state.unwrap().items, ASKED);
    });
    for asked in 1..ASKED {
        poll(|| shared.state.lock().unwrap().items >= asked);
        shared.changed.notify_one();
    }
    waiter.join();
}

fn check_other_mappings<C: Condvar>() {
    for address in TestAddress::of_each_kind("elsewhere") {
        let shared = Segment::create(&address, Shared::<C>::unplaced()).unwrap();
        for notify in [C::notify_one, C::notify_all] {
            let opened = Gate::new();
            let waiter = spawn(|| {
                let mine = Segment::<Shared<C>>::open(&address).unwrap();
                assert!(!std::ptr::eq(&raw const *mine, &raw const *shared));
                opened.open();
                mine.take();
                mine.state.lock().unwrap().waiting = 0;
                mine.answered.notify_all();
            });
            opened.pass();
            shared.lock_when_waiting(1).items = 1;
            notify(&shared.changed);
            let state = shared.state.lock().unwrap();
            let asleep = |state: &mut State| state.waiting != 0;
            drop(shared.answered.wait_while(state, asleep).unwrap());
            waiter.join();
        }
    }
}

/// Returns the first word of a `ShmCondvar`, its sequence: see docs/design.md.
fn sequence_of(condvar: &ShmCondvar) -> &AtomicU32 {
    // SAFETY: a `ShmCondvar` consists of atomic words. The first of them is at its
    // address, and lives as long as the `ShmCondvar`.
    unsafe { &*std::ptr::from_ref(condvar).cast::<AtomicU32>() }
}
