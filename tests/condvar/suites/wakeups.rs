//! Who is woken by a notification, and that everyone comes back with the lock: the
//! cases of the published suites, over both condition variables.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{ANYWHERE, Condvar, Guard, Shared, State, Where, is_empty, is_held_by_me};
use crate::support::{Child, Gate, TestAddress, median, on_stage, poll, spawn};
use shm_sync::{PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmSafe};

/// Long enough for any sleeper to look around by itself, more than once.
const SEVERAL_HEARTBEATS: Duration = Duration::from_millis(500);
/// A timeout that no test lives to see.
const LONG: Duration = Duration::from_secs(1_000);

on_stage! {
    fn smoke() {
        smoke_of::<ShmCondvar>();
        smoke_of::<PthreadCondvar>();
    }

    fn notify_without_waiter_is_not_stored() {
        is_not_remembered::<ShmCondvar>();
        is_not_remembered::<PthreadCondvar>();
    }

    fn wait_without_notify_does_not_end() {
        goes_on::<ShmCondvar>();
        goes_on::<PthreadCondvar>();
    }

    fn notify_one_n_times_wakes_n_waiters() {
        n_wake_n::<ShmCondvar>();
        n_wake_n::<PthreadCondvar>();
    }

    // The heartbeat would hide a notification that wakes nobody.
    fn notify_wakes_all_waiters_before_recheck() {
        const SLEEPERS: u64 = 6;
        type Notify = fn(&ShmCondvar);
        let ways: [(&str, Notify); 2] = [
            ("one by one", |changed| (0..SLEEPERS).for_each(|_| changed.notify_one())),
            ("at once", ShmCondvar::notify_all),
        ];
        for (name, notify) in ways {
            let woken = median(5, || {
                let shared: Segment<Shared<ShmCondvar>> = Shared::placed();
                let sleepers: Vec<_> = (0..SLEEPERS)
                    .map(|_| {
                        let sleeper = spawn(|| shared.take());
                        sleeper.wait_until_asleep();
                        sleeper
                    })
                    .collect();
                shared.lock_when_waiting(SLEEPERS).items = SLEEPERS;
                let heartbeat = just_after_a_heartbeat();
                notify(&shared.changed);
                poll(|| shared.returned() == SLEEPERS);
                let woken = heartbeat.elapsed();
                sleepers.into_iter().for_each(Child::join);
                woken
            });
            println!("woken {name}: median of the time since the last heartbeat: {woken:?}");
            assert!(woken < HEARTBEAT - Duration::from_millis(10), "{name}: {woken:?}");
        }
    }

    fn notify_all_wakes_600_waiters_in_20_processes() {
        all_of_many_wake::<ShmCondvar>();
        all_of_many_wake::<PthreadCondvar>();
    }

    fn wait_returns_after_unlock_and_holds_lock() {
        comes_back_when_free::<ShmCondvar>();
        comes_back_when_free::<PthreadCondvar>();
    }

    fn wait_and_notify_variants_alternate() {
        take_turns::<ShmCondvar>();
        take_turns::<PthreadCondvar>();
    }

    fn notify_rounds_wake_each_waiter_once() {
        rounds::<ShmCondvar>();
        rounds::<PthreadCondvar>();
    }

    fn condvar_with_two_mutexes_relocks_own() {
        two_mutexes::<ShmCondvar>();
        two_mutexes::<PthreadCondvar>();
    }

    // Each wakes the next, and must not wait for anything before it does.
    fn notify_all_passes_waiter_of_held_mutex() {
        const KEPT_OUT: u64 = 6;
        let woken = median(9, || {
            let [one, other] = [(); 2].map(|()| Shared::<ShmCondvar>::placed());
            let wait_with = |mine: &Shared<ShmCondvar>| {
                drop(one.changed.wait(mine.lock_to_wait()).unwrap());
                mine.returned.fetch_add(1, Ordering::SeqCst);
            };
            let mut waiters: Vec<_> = (0..KEPT_OUT).map(|_| spawn(|| wait_with(&one))).collect();
            waiters.push(spawn(|| wait_with(&other)));
            waiters.iter().for_each(Child::wait_until_asleep);
            let kept = one.lock_when_waiting(KEPT_OUT);
            drop(other.lock_when_waiting(1));
            let heartbeat = just_after_a_heartbeat();
            one.changed.notify_all();
            poll(|| other.returned() == 1);
            let woken = heartbeat.elapsed();
            assert_eq!(one.returned(), 0);
            drop(kept);
            waiters.into_iter().for_each(Child::join);
            woken
        });
        assert!(woken < HEARTBEAT - Duration::from_millis(10), "{woken:?}");
    }

    fn condvars_in_one_segment_are_independent() {
        side_by_side::<ShmCondvar>();
        side_by_side::<PthreadCondvar>();
    }

    fn wait_while_condition_runs_under_lock() {
        asked_under_the_lock::<ShmCondvar>();
        asked_under_the_lock::<PthreadCondvar>();
    }

    fn notify_works_across_mappings_and_backings() {
        mapped_elsewhere::<ShmCondvar>();
        mapped_elsewhere::<PthreadCondvar>();
    }

    fn notify_works_when_sequence_wraps() {
        for last in [u32::MAX, u32::MAX >> 1] {
            let shared: Segment<Shared<ShmCondvar>> = Shared::placed();
            sequence_of(&shared.changed).store(last, Ordering::SeqCst);
            let sleeper = spawn(|| shared.take());
            sleeper.wait_until_asleep();
            shared.lock_when_waiting(1).items = 1;
            shared.changed.notify_one();
            sleeper.join();
            assert_eq!(
                sequence_of(&shared.changed).load(Ordering::SeqCst),
                last.wrapping_add(1)
            );
        }
    }

    fn sequence_wrap_loses_no_notification() {
        const ITEMS: u64 = 2_000;
        // The number of notifications into the generation, and both into nothing.
        for begin in [(1 << 27) - 1_000, u32::MAX - 1_000] {
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
        const ROUNDS: u64 = 100;
        const WAITERS: u64 = 3;
        let shared: Segment<Shared<ShmCondvar>> = Shared::placed();
        let waiters: Vec<_> = (0..WAITERS)
            .map(|_| spawn(|| (0..ROUNDS).for_each(|round| {
                let state = shared.lock_to_wait();
                let state = shared.changed.wait_while(state, |state| state.items <= round);
                drop(state.unwrap());
            })))
            .collect();
        let begin = Instant::now();
        for round in 1..=ROUNDS {
            let mut state = shared.lock_when_waiting(round * WAITERS);
            state.items = round;
            shared.changed.notify_all();
        }
        waiters.into_iter().for_each(Child::join);
        assert!(begin.elapsed() < HEARTBEAT * ROUNDS as u32 / 2, "by heartbeats");
    }
}

fn smoke_of<C: Condvar>() {
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
        shared.came_back_with(state);
    });
}

fn is_not_remembered<C: Condvar>() {
    let shared = Shared::<C>::placed();
    for _ in 0..1_000 {
        shared.changed.notify_one();
        shared.changed.notify_all();
    }
    let state = shared.state.lock().unwrap();
    let start = Instant::now();
    let (_state, result) = shared
        .changed
        .wait_timeout(state, SEVERAL_HEARTBEATS)
        .unwrap();
    assert!(result.timed_out());
    assert!(start.elapsed() >= SEVERAL_HEARTBEATS);
}

/// That a wait ends without reason is permitted, so this asks more than the contract
/// promises. But where there is no signal there is no reason either.
fn goes_on<C: Condvar>() {
    let shared = Shared::<C>::placed();
    let waiters: Vec<_> = (1..=5)
        .map(|count| {
            let waiter = spawn(|| {
                let state = shared.lock_to_wait();
                shared.came_back_with(shared.changed.wait(state).unwrap());
            });
            drop(shared.lock_when_waiting(count));
            waiter
        })
        .collect();
    std::thread::sleep(SEVERAL_HEARTBEATS);
    assert_eq!(shared.returned(), 0);
    shared.changed.notify_all();
    waiters.into_iter().for_each(Child::join);
}

fn n_wake_n<C: Condvar>() {
    const WAITERS: u64 = 10;
    for round in 0..20 {
        let shared = Shared::<C>::placed();
        let waiters: Vec<_> = (0..WAITERS)
            .map(|_| {
                spawn(|| {
                    let state = shared.lock_to_wait();
                    shared.came_back_with(shared.changed.wait(state).unwrap());
                })
            })
            .collect();
        let state = shared.lock_when_waiting(WAITERS);
        let notify = || (0..WAITERS).for_each(|_| shared.changed.notify_one());
        match ANYWHERE[round % 2] {
            Where::UnderTheLock => {
                notify();
                drop(state);
            }
            Where::OutsideOfIt => {
                drop(state);
                notify();
            }
        }
        waiters.into_iter().for_each(Child::join);
        assert_eq!(shared.returned(), WAITERS);
    }
}

fn all_of_many_wake<C: Condvar>() {
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
                            shared.came_back_with(state);
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

fn comes_back_when_free<C: Condvar>() {
    let shared = Shared::<C>::placed();
    let waits: [&dyn Fn(Guard<'_>); 2] = [
        &|state| shared.came_back_with(shared.changed.wait(state).unwrap()),
        &|state| {
            let (state, result) = shared.changed.wait_timeout(state, LONG).unwrap();
            assert!(!result.timed_out());
            shared.came_back_with(state);
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
        std::thread::sleep(SEVERAL_HEARTBEATS);
        assert_eq!(shared.returned(), before, "the lock is held here");
        state.waiting = 0;
        drop(state);
        waiters.into_iter().for_each(Child::join);
        assert_eq!(shared.returned(), before + 2);
    }
}

/// Each of two processes waits until the number is its own, and makes it the
/// other's.
fn take_turns<C: Condvar>() {
    const TURNS: u64 = 400;
    let shared = Shared::<C>::placed();
    let play = |me: u64| {
        let not_mine = move |state: &mut State| state.items % 2 != me;
        for turn in 0..TURNS {
            let state = shared.state.lock().unwrap();
            let mut state = wait_somehow(&shared.changed, state, turn % 4, not_mine);
            assert_eq!(state.items, 2 * turn + me);
            state.items += 1;
            match ANYWHERE[(turn / 4 % 2) as usize] {
                Where::UnderTheLock => {
                    shared.changed.notify_one();
                    drop(state);
                }
                Where::OutsideOfIt => {
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

/// The four ways to wait for as long as a condition is true.
fn wait_somehow<'a, C: Condvar>(
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

/// Two condition variables with one mutex: the waiters gather, the last to come
/// tells the notifier, and the notifier releases them in another style each time.
fn rounds<C: Condvar>() {
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
                    shared.came_back_with(wait_somehow(&shared.changed, state, way, locked_up));
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
        match ANYWHERE[(round % 2) as usize] {
            Where::UnderTheLock => {
                notify();
                drop(state);
            }
            Where::OutsideOfIt => {
                drop(state);
                notify();
            }
        }
    }
    waiters.into_iter().for_each(Child::join);
    assert_eq!(shared.returned(), WAITERS * ROUNDS);
}

/// Each waits with one mutex, and then with the other.
fn two_mutexes<C: Condvar>() {
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
        assert!(is_held_by_me(mine));
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

fn side_by_side<C: Condvar>() {
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
            .came_back_with(row.shared.changed.wait(state).unwrap());
    });
    drop(row.shared.lock_when_waiting(1));
    let start = Instant::now();
    while start.elapsed() < SEVERAL_HEARTBEATS {
        row.others.iter().for_each(C::notify_one);
        row.others.iter().for_each(C::notify_all);
        row.shared.answered.notify_all();
    }
    assert_eq!(row.shared.returned(), 0);
    row.shared.changed.notify_one();
    waiter.join();
}

fn asked_under_the_lock<C: Condvar>() {
    let shared = Shared::<C>::placed();
    // Once, if it is false at first: there is nothing to wait for.
    let state = shared.state.lock().unwrap();
    let mut asked = 0;
    let state = shared.changed.wait_while(state, |_| {
        asked += 1;
        assert!(shared.is_held_by_me());
        false
    });
    drop(state.unwrap());
    assert_eq!(asked, 1);

    // Again after each notification, until it is false; what it has changed, it
    // finds changed.
    const ASKED: u64 = 5;
    let waiter = spawn(|| {
        let state = shared.lock_to_wait();
        let state = shared.changed.wait_while(state, |state| {
            assert!(shared.is_held_by_me());
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

fn mapped_elsewhere<C: Condvar>() {
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

/// How often a sleeper looks around by itself: docs/design.md.
const HEARTBEAT: Duration = Duration::from_millis(150);

/// Sleeps until the sleepers of the machine have looked around, and says when that
/// was, or a little before.
fn just_after_a_heartbeat() -> Instant {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let read = Instant::now();
    let period = HEARTBEAT.as_nanos() as u64;
    let since = (now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64) % period;
    let heartbeat = read + Duration::from_nanos(period - since);
    std::thread::sleep(heartbeat - read + Duration::from_millis(5));
    heartbeat
}

/// The first word of a `ShmCondvar`: docs/design.md.
fn sequence_of(condvar: &ShmCondvar) -> &AtomicU32 {
    // SAFETY: a ShmCondvar consists of atomic words; this one is its first, and
    // lives as long.
    unsafe { &*std::ptr::from_ref(condvar).cast::<AtomicU32>() }
}
