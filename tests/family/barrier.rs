//! `ShmBarrier`: rounds, members that die, leave or time out, and their replacements.

use std::mem::forget;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shm_sync::{
    BarrierError, BarrierMember, Error, LockError, MAX_LOCKS_HELD, Segment, ShmBarrier, ShmMutex,
    ShmSafe,
};

use crate::support::{Child, Gate, die, median, on_stage, seccomp, spawn};

/// The promised time after a death.
const RECOVERS_WITHIN: Duration = Duration::from_millis(250);
/// Longer than any healthy process needs.
const LONG: Duration = Duration::from_secs(20);

fn barrier<const N: usize>() -> Segment<ShmBarrier<N>> {
    Segment::anonymous(ShmBarrier::new()).unwrap()
}

fn broken<T>(result: Result<T, BarrierError>) -> bool {
    matches!(result, Err(BarrierError::Broken))
}

fn timed_out<T>(result: Result<T, BarrierError>) -> bool {
    matches!(result, Err(BarrierError::TimedOut))
}

/// Starts a member that does `act` after it has joined, and then waits until it is
/// killed.
fn member<const N: usize>(
    barrier: &ShmBarrier<N>,
    act: impl FnOnce(&BarrierMember<'_, N>),
) -> Child {
    let joined = Gate::new();
    let child = spawn(|| {
        let member = barrier.join().unwrap();
        joined.open();
        act(&member);
        nix::unistd::pause();
    });
    joined.pass();
    child
}

/// Starts a member that waits for a round, and sleeps in it.
fn waiter<const N: usize>(
    barrier: &ShmBarrier<N>,
    check: impl FnOnce(Result<bool, BarrierError>),
) -> Child {
    let waiter = spawn(|| {
        let member = barrier.join().unwrap();
        check(member.wait());
        forget(member);
    });
    waiter.wait_until_asleep();
    waiter
}

/// What the members of a group count together.
#[derive(ShmSafe)]
#[repr(C)]
struct Group {
    barrier: ShmBarrier<4>,
    arrived: AtomicU32,
    leaders: AtomicU32,
}

impl Group {
    fn new() -> Segment<Self> {
        let group = Self {
            barrier: ShmBarrier::new(),
            arrived: AtomicU32::new(0),
            leaders: AtomicU32::new(0),
        };
        Segment::anonymous(group).unwrap()
    }

    /// Takes part in rounds, and checks that no member is in another round.
    fn take_part(&self, rounds: u32) {
        let member = self.barrier.join().unwrap();
        for round in 0..rounds {
            self.arrived.fetch_add(1, Ordering::Relaxed);
            if member.wait().unwrap() {
                self.leaders.fetch_add(1, Ordering::Relaxed);
            }
            let arrived = self.arrived.load(Ordering::Relaxed);
            assert!(arrived >= 4 * (round + 1), "all have arrived: {arrived}");
            assert!(arrived <= 4 * (round + 2), "none is two rounds ahead");
        }
    }
}

#[test]
fn unplaced_barrier_is_refused() {
    let barrier = ShmBarrier::<2>::new();
    let error = barrier.join().unwrap_err();
    assert!(matches!(error, Error::Lock(LockError::NotPlaced)));
    assert_eq!(barrier.members(), 0);
}

#[test]
fn members_are_limited() {
    let barrier = barrier::<2>();
    let first = barrier.join().unwrap();
    assert!(matches!(
        barrier.join(),
        Err(Error::Lock(LockError::Deadlock))
    ));
    std::thread::scope(|s| {
        let others = s.spawn(|| {
            let second = barrier.join().unwrap();
            let third = std::thread::scope(|s| {
                let third = s.spawn(|| barrier.join().map(|member| member.index()));
                third.join().unwrap()
            });
            assert!(matches!(third, Err(Error::Lock(LockError::WouldBlock))));
            second.index()
        });
        assert_eq!(others.join().unwrap() + first.index(), 1);
    });
    assert_eq!(barrier.members(), 1);
}

#[test]
fn members_count_as_robust_locks() {
    let barrier = barrier::<1>();
    let mutexes =
        Segment::anonymous([const { ShmMutex::new(0_u8) }; MAX_LOCKS_HELD as usize]).unwrap();
    let guards: Vec<_> = mutexes.iter().map(|mutex| mutex.lock().unwrap()).collect();
    let refused = barrier.join();
    assert!(matches!(refused, Err(Error::Lock(LockError::TooManyLocks))));
    drop(guards);
    assert!(barrier.join().unwrap().wait().unwrap());
}

#[test]
fn lone_member_leads_each_round() {
    let barrier = barrier::<1>();
    let member = barrier.join().unwrap();
    for _ in 0..1_000 {
        assert!(member.wait().unwrap());
    }
    assert!(member.wait_timeout(Duration::ZERO).unwrap(), "a full round");
}

#[test]
fn errors_become_the_error_of_the_crate() {
    let broken = Error::from(BarrierError::Broken);
    assert!(matches!(broken, Error::BrokenBarrier));
    assert_eq!(broken.to_string(), BarrierError::Broken.to_string());
    let timed_out = Error::from(BarrierError::TimedOut);
    assert!(matches!(timed_out, Error::Lock(LockError::TimedOut)));
    let not_owner = Error::from(BarrierError::Lock(LockError::NotOwner));
    assert!(matches!(not_owner, Error::Lock(LockError::NotOwner)));
}

#[test]
fn debug_shows_members() {
    let barrier = barrier::<2>();
    let member = barrier.join().unwrap();
    assert!(format!("{:?}", *barrier).contains("size: 2, members: 1, round: 0"));
    assert!(format!("{member:?}").contains("round: 0"));
}

#[test]
fn threads_meet() {
    let group = Group::new();
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| group.take_part(2_000));
        }
    });
    assert_eq!(group.leaders.load(Ordering::Relaxed), 2_000);
}

#[test]
fn panic_breaks_the_round() {
    let barrier = barrier::<2>();
    let member = barrier.join().unwrap();
    std::thread::scope(|s| {
        let other = s.spawn(|| {
            let _member = barrier.join().unwrap();
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(other.join().is_err());
    });
    assert!(broken(member.wait()));
}

on_stage! {
    fn smoke() {
        let group = Group::new();
        let members = [0; 4].map(|_| spawn(|| group.take_part(500)));
        members.into_iter().for_each(Child::join);
        assert_eq!(group.leaders.load(Ordering::Relaxed), 500, "one leader of each round");
        assert_eq!(group.barrier.members(), 0);
    }

    fn first_round_waits_for_all_to_join() {
        let barrier = barrier::<3>();
        let waiters = [0; 2].map(|_| waiter(&barrier, |met| assert!(met.is_ok())));
        assert_eq!(barrier.members(), 2);
        barrier.join().unwrap().wait().unwrap();
        waiters.into_iter().for_each(Child::join);
    }

    fn killed_member_breaks_the_round() {
        let time = median(5, || {
            let barrier = barrier::<3>();
            let mut victim = member(&barrier, |_| ());
            let waiters = [0; 2].map(|_| waiter(&barrier, |met| assert!(broken(met))));
            let begin = Instant::now();
            victim.kill();
            waiters.into_iter().for_each(Child::join);
            begin.elapsed()
        });
        println!("from SIGKILL until both waiters were told: {time:?}");
        assert!(time < RECOVERS_WITHIN, "{time:?}");
    }

    fn killed_waiter_breaks_the_round() {
        let barrier = barrier::<3>();
        let mut victim = waiter(&barrier, |_| ());
        let other = waiter(&barrier, |met| assert!(broken(met)));
        victim.kill();
        other.join();
        let member = barrier.join().unwrap();
        // The other has died with its member.
        assert!(timed_out(member.wait_timeout(Duration::from_millis(1))));
    }

    fn killed_member_is_noticed_without_waitv() {
        for errno in [libc::ENOSYS, libc::EPERM] {
            let barrier = barrier::<2>();
            let mut victim = member(&barrier, |_| ());
            let waiter = spawn(|| {
                seccomp::refuse(libc::SYS_futex_waitv, errno);
                assert!(broken(barrier.join().unwrap().wait()));
            });
            waiter.wait_until_asleep();
            victim.kill();
            waiter.join();
        }
    }

    fn member_that_leaves_breaks_the_round() {
        let barrier = barrier::<2>();
        let waiter = waiter(&barrier, |met| assert!(broken(met)));
        drop(barrier.join().unwrap());
        waiter.join();
    }

    fn each_other_member_is_told_once() {
        let barrier = barrier::<3>();
        let mine = barrier.join().unwrap();
        let told = Gate::new();
        let waiter = spawn(|| {
            let member = barrier.join().unwrap();
            assert!(broken(member.wait()));
            told.open();
            member.wait().unwrap();
            forget(member);
        });
        waiter.wait_until_asleep();
        member(&barrier, |_| ()).kill();
        told.pass();
        assert!(broken(mine.wait()), "although another member was told first");
        let replacement = member(&barrier, |member| assert!(member.wait().is_ok()));
        mine.wait().unwrap();
        waiter.join();
        drop(replacement);
    }

    // A new member must not hide the death from members that did not wait at the time.
    fn death_outlives_the_replacement() {
        let barrier = barrier::<2>();
        let mine = barrier.join().unwrap();
        for _ in 0..50 {
            member(&barrier, |_| ()).kill();
            let mut replacement = member(&barrier, |member| drop(member.wait()));
            assert!(broken(mine.wait()));
            mine.wait().unwrap();
            replacement.kill();
            assert!(broken(mine.wait()));
        }
    }

    fn next_round_waits_for_the_replacement() {
        let barrier = barrier::<2>();
        let mine = barrier.join().unwrap();
        member(&barrier, |_| ()).kill();
        assert!(broken(mine.wait()));
        assert_eq!(barrier.members(), 1);
        assert!(timed_out(mine.wait_timeout(Duration::from_millis(1))), "and not broken");
        let replacement = member(&barrier, |member| assert!(member.wait().is_ok()));
        mine.wait().unwrap();
        drop(replacement);
    }

    // A group that has died as a whole, and a second one.
    fn second_group_is_not_told_of_the_first() {
        let barrier = barrier::<2>();
        for _ in 0..20 {
            let mut group = [0; 2].map(|_| member(&barrier, |_| ()));
            group.iter_mut().for_each(Child::kill);
            let mine = barrier.join().unwrap();
            let other = waiter(&barrier, |met| assert!(met.is_ok()));
            mine.wait().unwrap();
            other.join();
        }
    }

    fn timeout_breaks_the_round_for_all() {
        let barrier = barrier::<3>();
        let other = waiter(&barrier, |met| assert!(broken(met)));
        let mine = barrier.join().unwrap();
        assert!(timed_out(mine.wait_timeout(Duration::from_millis(1))));
        other.join();
    }

    fn late_member_learns_that_the_round_was_complete() {
        let barrier = barrier::<2>();
        let woken = waiter(&barrier, |met| assert!(!met.unwrap()));
        woken.stop();
        let mine = barrier.join().unwrap();
        assert!(mine.wait().unwrap(), "the last to arrive leads");
        drop(mine); // Breaks the next round.
        woken.signal(nix::sys::signal::Signal::SIGCONT);
        woken.join();
    }

    fn stopped_member_is_waited_for() {
        let barrier = barrier::<2>();
        let stopped = member(&barrier, |_| ());
        stopped.stop();
        let mine = barrier.join().unwrap();
        assert!(timed_out(mine.wait_timeout(Duration::from_millis(400))));
    }

    fn deaths_of_many_are_noticed() {
        // The kernel takes 127 seats at most.
        let barrier = barrier::<130>();
        let mut first = [0; 20].map(|_| member(&barrier, |_| ()));
        let waiter = waiter(&barrier, |met| assert!(broken(met)));
        first.iter_mut().for_each(Child::kill);
        waiter.join();
        assert_eq!(barrier.members(), 0);
    }

    fn forked_child_is_no_member() {
        let barrier = barrier::<2>();
        let mut inherited = Some(barrier.join().unwrap());
        spawn(|| {
            let member = inherited.take().unwrap();
            let refused = member.wait();
            assert!(matches!(refused, Err(BarrierError::Lock(LockError::NotOwner))));
            drop(member);
        })
        .join();
        assert_eq!(barrier.members(), 1);
        let other = waiter(&barrier, |met| assert!(met.is_ok()));
        inherited.take().unwrap().wait().unwrap();
        other.join();
    }

    fn exec_breaks_the_round() {
        let barrier = barrier::<2>();
        let mine = barrier.join().unwrap();
        let mut child = spawn(|| {
            forget(barrier.join().unwrap());
            let sleep = std::ffi::CString::new("/bin/sleep").unwrap();
            let time = std::ffi::CString::new("60").unwrap();
            let _ = nix::unistd::execv(&sleep, &[&sleep, &time]);
            die()
        });
        assert!(broken(mine.wait_timeout(LONG)));
        child.kill();
    }
}
