//! Every operation on a barrier, killed at every instruction: see
//! [`family_instructions`](crate::family_instructions).
//!
//! In each scene another member must be told of the death, and meet a new member
//! afterwards.

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use std::cell::RefCell;
use std::mem::forget;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use shm_sync::{BarrierError, BarrierMember, Segment, ShmBarrier, ShmSafe};

use crate::family_instructions::{assert_order, stopped_sleeper};
use crate::family_results::record;
use crate::scene::{Order, Reached, Scene, TIME_LIMIT, nothing, yes};
use crate::support::walker::{Walker, can_lead_for};
use crate::support::{Child, LOCK_WORD, on_stage, spawn};

#[derive(ShmSafe)]
#[repr(C)]
struct Group<const N: usize> {
    barrier: ShmBarrier<N>,
    /// How many members were told that a round was complete, or broken.
    completed: AtomicU32,
    broken: AtomicU32,
    /// Lets the keeper go.
    is_called: AtomicU32,
}

impl<const N: usize> Group<N> {
    fn new() -> Self {
        Self {
            barrier: ShmBarrier::new(),
            completed: AtomicU32::new(0),
            broken: AtomicU32::new(0),
            is_called: AtomicU32::new(0),
        }
    }

    fn join(&self) -> BarrierMember<'_, N> {
        self.barrier.join().unwrap()
    }

    /// Waits for one round. Returns whether it was complete.
    fn meet_once(&self, member: &BarrierMember<'_, N>) -> bool {
        match member.wait() {
            Ok(_) => {
                self.completed.fetch_add(1, Ordering::SeqCst);
                true
            }
            Err(BarrierError::Broken) => {
                self.broken.fetch_add(1, Ordering::SeqCst);
                false
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Joins, and waits for one round.
    fn be_told(&self) {
        let member = self.join();
        self.meet_once(&member);
        // The process ends as a member. So it breaks the next round only.
        forget(member);
    }

    /// Joins, and waits for rounds until one is complete.
    fn meet(&self) {
        let member = self.join();
        while !self.meet_once(&member) {}
    }

    /// Joins, sleeps until it is called, and then meets.
    fn keep(&self) -> Child {
        let keeper = spawn(|| {
            let member = self.join();
            while self.is_called.load(Ordering::SeqCst) == 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
            while !self.meet_once(&member) {}
        });
        crate::support::poll(|| self.barrier.members() == 1);
        keeper
    }

    /// Leaves the seat of a member that has died, and that no process has noticed.
    fn leave_a_death(&self) {
        spawn(|| forget(self.join())).join();
    }

    /// Checks that a group of new members meets. All members of before have ended.
    fn check_new_group(&self) {
        std::thread::scope(|s| {
            for _ in 0..N {
                s.spawn(|| {
                    let member = self.join();
                    let deaths = (0..).take_while(|_| !self.meet_once(&member)).count();
                    assert!(deaths <= N, "each death is told once");
                });
            }
        });
    }

    fn expect_broken(&self, times: impl FnOnce(u32) -> bool) {
        let broken = self.broken.load(Ordering::SeqCst);
        assert!(times(broken), "told of {broken} broken rounds");
    }
}

/// Uses an object of the same kind, because the first use in a process takes another
/// path.
fn warm_up() {
    let spare = Segment::anonymous(ShmBarrier::<2>::new()).unwrap();
    let member = spare.join().unwrap();
    assert!(member.wait_timeout(Duration::from_millis(1)).is_err());
    std::thread::scope(|s| {
        s.spawn(|| forget(spare.join()));
    });
    assert!(matches!(member.wait(), Err(BarrierError::Broken)));
}

on_stage! {
    output to record;

    fn smoke() {
        let group = Segment::anonymous(Group::<3>::new()).unwrap();
        group.leave_a_death();
        group.check_new_group();
        group.expect_broken(|times| times == 0);
    }

    // A death between two steps does not always show these orders.
    fn changes_precede_notifications() {
        if !can_lead_for("the order of the steps") {
            return;
        }
        const MUTEX: usize = size_of::<libc::pthread_mutex_t>();
        // A seat, and behind it these words.
        let rounds = (MUTEX + 24_usize).next_multiple_of(64);
        let (sequence, seat) = (rounds + 8, rounds + 64);
        let (word, upper_half_of_note) = (seat + LOCK_WORD, seat + MUTEX + 12);
        let barrier = Segment::anonymous(ShmBarrier::<2>::new()).unwrap();
        let prepare = || {
            warm_up();
            barrier.join().unwrap()
        };
        let last = Walker::prepared(prepare, |member| forget(member.wait()));
        let sleeper = stopped_sleeper(|| {
            let _ = barrier.join().unwrap().wait();
        });
        assert_order(&*barrier, last, &[rounds, sequence]);
        drop(sleeper);

        let barrier = Segment::anonymous(ShmBarrier::<1>::new()).unwrap();
        let prepare = || {
            warm_up();
            barrier.join().unwrap()
        };
        let leave = Walker::prepared(prepare, drop);
        assert_order(&*barrier, leave, &[rounds, upper_half_of_note, word]);
    }

    fn join_survives_kills() {
        let scene = Scene {
            name: "join",
            object: &Group::<2>::new,
            set_up: &nothing,
            sleepers: &[&Group::meet],
            order: Order::BeforeVictim,
            victim: &|group| Walker::prepared(warm_up, |()| forget(group.join())),
            release: &nothing,
            check: &|group: &Group<2>, reached| {
                group.meet();
                let at_least = u32::from(reached == Reached::End);
                group.expect_broken(|times| (at_least..=2).contains(&times));
            },
            goes_on_alone: &|_, _| false,
        };
        scene.run(2);
    }

    // The victim settles the death of another member.
    fn join_after_death_survives_kills() {
        let keeper = RefCell::new(None);
        let scene = Scene {
            name: "join after a death",
            object: &Group::<2>::new,
            set_up: &|group| {
                keeper.replace(Some(group.keep()));
                group.leave_a_death();
            },
            sleepers: &[],
            order: Order::BeforeVictim,
            victim: &|group| Walker::prepared(warm_up, |()| forget(group.join())),
            release: &|group| group.is_called.store(1, Ordering::SeqCst),
            check: &|group: &Group<2>, _| {
                group.is_called.store(1, Ordering::SeqCst);
                group.meet();
                group.expect_broken(|times| times >= 1);
            },
            goes_on_alone: &|_, _| false,
        };
        scene.run(2);
        drop(keeper);
    }

    fn last_arrival_survives_kills() {
        let scene = Scene {
            name: "arrival of the last member",
            object: &Group::<3>::new,
            set_up: &nothing,
            sleepers: &[&Group::be_told, &Group::be_told],
            order: Order::AfterPreparation,
            victim: &|group| {
                let prepare = || {
                    warm_up();
                    group.join()
                };
                Walker::prepared(prepare, |member| {
                    let _ = member.wait();
                    forget(member);
                })
            },
            release: &nothing,
            check: &|group: &Group<3>, reached| {
                let completed = group.completed.load(Ordering::SeqCst);
                assert!(completed == 2 || (completed == 0 && reached == Reached::Inside));
                group.expect_broken(|times| times == 2 - completed);
                group.check_new_group();
            },
            goes_on_alone: &yes,
        };
        scene.run(2);
    }

    fn wait_survives_kills() {
        // The harness arrives last.
        let kept = RefCell::new(None);
        let scene = Scene {
            name: "wait",
            object: &Group::<3>::new,
            set_up: &|group| {
                drop(kept.replace(None));
                kept.replace(Some(group.join()));
            },
            sleepers: &[&Group::be_told],
            order: Order::BeforeVictim,
            victim: &|group| {
                let prepare = || {
                    warm_up();
                    group.join()
                };
                Walker::prepared(prepare, |member| {
                    let _ = member.wait();
                    forget(member);
                })
            },
            release: &|_| {
                if let Some(member) = kept.take() {
                    let met = member.wait_timeout(TIME_LIMIT);
                    assert!(!matches!(met, Err(BarrierError::TimedOut)));
                }
            },
            check: &|group: &Group<3>, _| {
                let told = group.completed.load(Ordering::SeqCst)
                    + group.broken.load(Ordering::SeqCst);
                assert_eq!(told, 1, "the other waiter was told");
                group.check_new_group();
            },
            goes_on_alone: &yes,
        };
        scene.run(150);
    }

    // The victim settles the death of another member.
    fn wait_after_death_survives_kills() {
        let keeper = RefCell::new(None);
        let scene = Scene {
            name: "wait after a death",
            object: &Group::<3>::new,
            set_up: &|group| {
                keeper.replace(Some(group.keep()));
            },
            sleepers: &[],
            order: Order::BeforeVictim,
            victim: &|group| {
                let prepare = || {
                    warm_up();
                    let member = group.join();
                    group.leave_a_death();
                    member
                };
                Walker::prepared(prepare, |member| {
                    let _ = member.wait();
                    forget(member);
                })
            },
            release: &nothing,
            check: &|group: &Group<3>, _| {
                group.is_called.store(1, Ordering::SeqCst);
                std::thread::scope(|s| {
                    s.spawn(|| group.meet());
                    group.meet();
                });
                group.expect_broken(|times| times >= 1);
            },
            goes_on_alone: &|_, _| false,
        };
        scene.run(2);
        drop(keeper);
    }

    fn leave_survives_kills() {
        let scene = Scene {
            name: "drop of a member",
            object: &Group::<2>::new,
            set_up: &nothing,
            sleepers: &[&Group::meet],
            order: Order::AfterPreparation,
            victim: &|group| {
                let prepare = || {
                    warm_up();
                    group.join()
                };
                Walker::prepared(prepare, drop)
            },
            release: &nothing,
            check: &|group: &Group<2>, _| {
                group.meet();
                group.expect_broken(|times| (1..=3).contains(&times));
            },
            goes_on_alone: &|_, _| false,
        };
        scene.run(2);
    }
}
