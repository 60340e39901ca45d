//! Creators, openers and leavers are killed, and stopped, at every step of their
//! way: nobody ever uses what is half-made or half-gone.
//!
//! A parent leads its child by `ptrace`, system call by system call and instruction
//! by instruction, to a chosen point. The number of points per way can be chosen:
//!
//! ```sh
//! SHM_SYNC_BIRTH_POINTS=2000 SHM_SYNC_TEST_WATCHDOG=900 \
//!     cargo test --test crash -- --nocapture create_open_remove
//! ```

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))] // it reads instructions

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::walker::{Point, Walker};
use crate::support::{Child, Gate, Marked, TestAddress, number_from_env, on_stage, spawn};
use nix::sys::wait::{WaitStatus, wait, waitpid};
use nix::unistd::{ForkResult, fork};
use shm_sync::{
    Backing, Error, IfAbandoned, Removal, Segment, SegmentOptions, ShmMutex, ShmSafe, unlink,
};

fn transient() -> SegmentOptions {
    SegmentOptions::new().removal(Removal::UntilLastDetach)
}

fn open(address: &str) -> Result<Segment<Marked>, Error> {
    Segment::open(address)
}

/// How many points of a way are tried, about.
fn points() -> u64 {
    number_from_env("SHM_SYNC_BIRTH_POINTS").unwrap_or(8)
}

/// Walks the whole way once, and chooses about `count` points of it: all system call
/// boundaries, and instructions evenly. They begin at the first call `from`, or at
/// the beginning.
fn survey(mut walker: Walker, from: Option<libc::c_long>, count: u64) -> (Vec<Point>, u64) {
    // The lengths of the stretches between the calls.
    let mut stretches = vec![0];
    let mut first = None;
    while !walker.is_at_end() {
        let call = walker.step();
        *stretches.last_mut().unwrap() += 1;
        if let Some(call) = call {
            if first.is_none() && from.is_none_or(|from| from == call.number) {
                first = Some(match from {
                    Some(_) => stretches.len(),
                    None => 0,
                });
            }
            stretches.push(0);
        }
    }
    walker.kill();
    let first = first.unwrap_or(0);
    let total: u64 = stretches[first..].iter().sum();
    let stride = (total / count).max(1);
    let mut points = Vec::new();
    for (calls, len) in stretches.iter().enumerate().skip(first) {
        let calls = calls as u64;
        if calls > 0 {
            // Where the call begins, before it does anything.
            points.push(Point::at(2 * calls - 1, 0));
        }
        let steps = (0..*len).step_by(stride as usize);
        points.extend(steps.map(|steps| Point::at(2 * calls, steps)));
    }
    (points, total)
}

/// What the others may find after a death, and that it does not last.
fn check_after_a_death(address: &TestAddress, point: Point, whole: &[u64]) -> Found {
    const PATIENCE: Duration = Duration::from_secs(5);
    let begun = Instant::now();
    let found = match Segment::<Marked>::open_read_only(address) {
        Ok(_) | Err(Error::NotFound) => open(address),
        Err(other) => panic!("{point:?}: {other:?}"),
    };
    let found = match found {
        Ok(segment) => {
            segment.visit();
            assert!(whole.contains(&segment.id()), "{point:?}");
            Found::Whole
        }
        Err(Error::NotFound) => Found::Nothing,
        Err(other) => panic!("{point:?}: {other:?}"),
    };
    let new = transient().open_or_create(address, || Marked::new(9));
    let new = new.unwrap_or_else(|error| panic!("{point:?}: {error:?}"));
    new.visit();
    assert!(new.id() == 9 || whole.contains(&new.id()), "{point:?}");
    drop(new);
    let _ = unlink(address);
    assert!(!address.exists(), "{point:?}");
    assert!(
        begun.elapsed() < PATIENCE,
        "{point:?}: {:?}",
        begun.elapsed()
    );
    found
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Whole,
}

/// Kills a walker at each point of its way. `prepare` makes what is there before and
/// keeps what is to be kept.
fn kill_everywhere<K>(
    what: &str,
    address: &TestAddress,
    from: Option<libc::c_long>,
    prepare: impl Fn(&TestAddress) -> K,
    body: impl Fn(&TestAddress),
    check: impl Fn(&TestAddress, Point, K) -> Found,
) {
    let kept = prepare(address);
    let (points, total) = survey(Walker::new(|| body(address)), from, points());
    drop(kept);
    let _ = unlink(address);

    let begun = Instant::now();
    let mut whole = 0;
    let mut slowest = Duration::ZERO;
    for &point in &points {
        let kept = prepare(address);
        let mut walker = Walker::new(|| body(address));
        walker.go_to(point);
        walker.kill();
        let checked = Instant::now();
        if check(address, point, kept) == Found::Whole {
            whole += 1;
        }
        slowest = slowest.max(checked.elapsed());
    }
    println!(
        "{what}, {}: killed at {} points of {total} instructions in {:.1?}: {whole} times whole, \
         all well after {slowest:.1?} at most",
        address.kind(),
        points.len(),
        begun.elapsed(),
    );
}

/// What becomes of a walker that was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    GoesOn,
    /// It goes on, and all leave in peace: nothing is left.
    Leaves,
    IsKilled,
}

/// Stops a walker at points of its way while some others do `other`, lets it go on or
/// kills it, and looks whether all who are attached in the end are attached to the
/// same, if somebody is.
fn stop_everywhere<K>(
    what: &str,
    address: &TestAddress,
    (from, end, others): (Option<libc::c_long>, End, usize),
    prepare: impl Fn(&TestAddress) -> K,
    body: impl Fn(&TestAddress),
    other: impl Fn(&TestAddress, K) -> Option<Segment<Marked>>,
) {
    /// Enough for clearing away what a creator left; then it must be waiting.
    const A_WHILE: Duration = Duration::from_millis(60);

    let kept = prepare(address);
    let (points, total) = survey(Walker::new(|| body(address)), from, points() / 2);
    drop(kept);
    let _ = unlink(address);
    let begun = Instant::now();
    let mut waited = 0;
    for &point in &points {
        let there = Segment::anonymous([const { AtomicUsize::new(0) }; 2]).unwrap();
        let [prepared, done] = &*there;
        let may_begin: Vec<Gate> = (0..others).map(|_| Gate::new()).collect();
        let may_leave: Vec<Gate> = (0..others).map(|_| Gate::new()).collect();
        let spawned: Vec<Child> = (0..others)
            .map(|who| {
                let (other, prepare, may_begin, may_leave) =
                    (&other, &prepare, &may_begin[who], &may_leave[who]);
                spawn(move || {
                    let kept = prepare(address);
                    prepared.fetch_add(1, Ordering::SeqCst);
                    may_begin.pass();
                    let mine = other(address, kept);
                    mine.iter().for_each(|mine| mine.visit());
                    done.fetch_add(1, Ordering::SeqCst);
                    may_leave.pass();
                    if let Some(mine) = mine {
                        let again = open(address).expect("somebody is attached");
                        assert_eq!(again.id(), mine.id(), "not what the name leads to");
                    }
                })
            })
            .collect();
        crate::support::poll(|| prepared.load(Ordering::SeqCst) == others);
        let mut walker = Walker::new(|| body(address));
        walker.go_to(point);
        may_begin.iter().for_each(Gate::open);
        let all_are_done = || done.load(Ordering::SeqCst) == others;
        let until = Instant::now() + A_WHILE;
        while !all_are_done() && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(200));
        }
        waited += u32::from(!all_are_done());
        let walker = match end {
            End::IsKilled => {
                // Those who wait for it have seen what was; it dies a little later.
                walker.go_to(Point::at(1, 0));
                walker.kill();
                crate::support::poll(all_are_done);
                None
            }
            End::GoesOn | End::Leaves => {
                let walker = walker.let_go();
                // Behind its way it pauses; if something failed, it has ended.
                crate::support::poll(|| is_pausing(&walker) && all_are_done());
                Some(walker)
            }
        };
        may_leave.iter().for_each(Gate::open);
        spawned.into_iter().for_each(Child::join);
        assert!(
            end != End::Leaves || !address.exists(),
            "{point:?}: left behind"
        );
        drop(walker);
        let _ = unlink(address);
        assert!(!address.exists(), "{point:?}");
    }
    println!(
        "{what}, {}: stopped at {} points of {total} instructions in {:.1?}: {waited} times waited for",
        address.kind(),
        points.len(),
        begun.elapsed(),
    );
}

fn is_pausing(child: &Child) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{}/syscall", child.pid()));
    let call = call.unwrap_or_default();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap_or_default();
    assert!(!stat.contains(") Z "), "the walker has failed");
    call.starts_with(&format!("{} ", crate::support::walker::PAUSE))
}

/// Where a header says in which pid namespace its locks are.
const PID_NAMESPACE: usize = 20;

/// What can be made in place.
#[derive(ShmSafe)]
#[repr(C)]
struct Numbers {
    numbers: [u64; 8],
    visits: ShmMutex<u64>,
}

const KINDS: [Backing; 2] = [Backing::SystemV, Backing::Posix];

const EVERY_KIND: [Backing; 3] = [Backing::SystemV, Backing::Posix, Backing::File];

const KINDS_AND_ENDS: [(Backing, End); 3] = [
    (Backing::SystemV, End::GoesOn),
    (Backing::SystemV, End::IsKilled),
    (Backing::Posix, End::GoesOn),
];

const KINDS_AND_ENDS_OF_LEAVERS: [(Backing, End); 3] = [
    (Backing::SystemV, End::Leaves),
    (Backing::SystemV, End::IsKilled),
    (Backing::Posix, End::Leaves),
];

fn stale_before(address: &TestAddress) {
    let mut user = spawn(|| {
        let _segment = transient().create(address, Marked::new(1)).unwrap();
        crate::support::die()
    });
    user.wait();
}

fn in_use_before(address: &TestAddress) -> Segment<Marked> {
    transient().create(address, Marked::new(1)).unwrap()
}

/// Where a creation begins to be seen.
fn birth_of(kind: Backing) -> Option<libc::c_long> {
    match kind {
        Backing::SystemV => Some(libc::SYS_shmget),
        _ => None,
    }
}

fn create(address: &TestAddress) {
    let created = Segment::create(address, Marked::new(1));
    std::mem::forget(created.unwrap());
}

fn leave(address: &TestAddress) {
    drop(open(address).unwrap());
}

/// While somebody is attached, the name leads to what it is attached to.
fn check_in_use(address: &TestAddress, point: Point, kept: Segment<Marked>) -> Found {
    let again = open(address).unwrap_or_else(|error| panic!("{point:?}: {error:?}"));
    assert_eq!(again.id(), kept.id());
    again.visit();
    assert_eq!(*kept.visits.lock().unwrap(), 1, "{point:?}: another object");
    drop(again);
    drop(kept);
    assert!(!address.exists(), "{point:?}: the last one is out");
    Found::Whole
}

on_stage! {
    fn smoke() {
        let address = TestAddress::new(Backing::SystemV, "smoke");
        let mut walker = Walker::new(|| create(&address));
        walker.go_to(Point::at(0, 1_000));
        assert!(!walker.is_at_end());
        walker.go_to(Point::at(1_000_000, 0));
        assert!(walker.is_at_end());
        walker.kill();
        assert_eq!(open(&address).unwrap().id(), 1);
    }

    fn a_creator_that_is_killed_leaves_nothing_half_made() {
        for kind in EVERY_KIND {
            let address = TestAddress::new(kind, "create");
            kill_everywhere(
                "creating", &address, birth_of(kind), |_| (), create,
                |address, point, ()| check_after_a_death(address, point, &[1]),
            );
        }
    }

    fn one_that_opens_or_creates_and_is_killed_leaves_nothing_half_made() {
        for kind in EVERY_KIND {
            let address = TestAddress::new(kind, "ooc");
            kill_everywhere(
                "opening or creating", &address, None, |_| (),
                |address| {
                    let made = transient().open_or_create(address, || Marked::new(1));
                    std::mem::forget(made.unwrap());
                },
                |address, point, ()| check_after_a_death(address, point, &[1]),
            );
        }
    }

    fn one_that_recreates_and_is_killed_leaves_the_old_or_the_new_or_nothing() {
        for kind in EVERY_KIND {
            let address = TestAddress::new(kind, "anew");
            kill_everywhere(
                "recreating", &address, None, stale_before,
                |address| {
                    let anew = transient().if_abandoned(IfAbandoned::Recreate);
                    std::mem::forget(anew.create(address, Marked::new(2)).unwrap());
                },
                |address, point, ()| check_after_a_death(address, point, &[1, 2]),
            );
        }
    }

    fn an_opener_that_is_killed_changes_nothing() {
        for kind in EVERY_KIND {
            let address = TestAddress::new(kind, "open");
            kill_everywhere(
                "opening", &address, None, in_use_before,
                |address| std::mem::forget(open(address).unwrap()),
                check_in_use,
            );
        }
    }

    fn the_last_one_out_that_is_killed_leaves_the_whole_or_nothing() {
        for kind in EVERY_KIND {
            let address = TestAddress::new(kind, "leave");
            kill_everywhere(
                "leaving last", &address, None, stale_before, leave,
                |address, point, ()| check_after_a_death(address, point, &[1]),
            );
        }
    }

    fn one_who_leaves_and_is_killed_takes_nothing_from_who_stays() {
        for kind in EVERY_KIND {
            let address = TestAddress::new(kind, "stay");
            kill_everywhere(
                "leaving", &address, None, in_use_before, leave, check_in_use,
            );
        }
    }

    fn a_stopped_creator_ends_up_right_and_nobody_uses_what_it_has_begun() {
        for (kind, end) in KINDS_AND_ENDS {
            let address = TestAddress::new(kind, "stopped");
            stop_everywhere(
                "creating", &address, (birth_of(kind), end, 2), |_| (),
                |address| match transient().create(address, Marked::new(1)) {
                    Ok(mine) => {
                        // The name leads here.
                        assert_eq!(open(address).unwrap().id(), 1);
                        std::mem::forget(mine);
                    }
                    Err(Error::AlreadyExists) => {}
                    Err(other) => panic!("{other:?}"),
                },
                |address, ()| {
                    let looked = Segment::<Marked>::open_read_only(address);
                    assert!(matches!(looked, Ok(_) | Err(Error::NotFound)), "{looked:?}");
                    drop(looked);
                    let opened = open(address);
                    assert!(matches!(opened, Ok(_) | Err(Error::NotFound)), "{opened:?}");
                    let made = transient().open_or_create(address, || Marked::new(2));
                    Some(made.unwrap())
                },
            );
        }
    }

    fn nobody_gets_what_a_stopped_leaver_is_about_to_remove() {
        for (kind, end) in KINDS_AND_ENDS_OF_LEAVERS {
            let address = TestAddress::new(kind, "away");
            stop_everywhere(
                "leaving last", &address, (None, end, 2), |_| (),
                |address| {
                    let made = transient().open_or_create(address, || Marked::new(1));
                    drop(made.unwrap());
                },
                |address, ()| {
                    let made = transient().open_or_create(address, || Marked::new(2));
                    Some(made.unwrap())
                },
            );
        }
    }

    fn a_stopped_leaver_does_not_take_the_name_from_what_comes_after_an_unlink() {
        for kind in KINDS {
            let address = TestAddress::new(kind, "after");
            stop_everywhere(
                "leaving last", &address, (None, End::Leaves, 1), |_| (),
                |address| {
                    let made = transient().open_or_create(address, || Marked::new(1));
                    drop(made.unwrap());
                },
                |address, ()| {
                    let _ = unlink(address);
                    let made = transient().open_or_create(address, || Marked::new(2));
                    Some(made.unwrap())
                },
            );
        }
    }

    fn of_two_who_leave_the_one_that_was_stopped_leaves_nothing_either() {
        for kind in KINDS {
            let address = TestAddress::new(kind, "two");
            stop_everywhere(
                "leaving", &address, (None, End::Leaves, 1), in_use_before,
                |address| match open(address) {
                    Err(Error::NotFound) => {} // the other has left
                    opened => drop(opened.unwrap()),
                },
                |_, kept| {
                    drop(kept);
                    None
                },
            );
        }
    }

    fn a_child_forked_by_init_leaves_the_parents_segment() {
        for kind in EVERY_KIND {
            for child_returns in [false, true] {
                let address = TestAddress::new(kind, "forks");
                let parent = std::process::id();
                let made = catch_unwind(AssertUnwindSafe(|| {
                    transient().create_in_place(&address, |value: &mut Numbers| {
                        value.numbers = [7; 8];
                        // SAFETY: a stage has a single thread.
                        let forked = unsafe { fork() }.unwrap();
                        let ForkResult::Parent { child } = forked else {
                            assert!(child_returns, "the child unwinds");
                            return;
                        };
                        let end = waitpid(child, None).unwrap();
                        assert_eq!(end, WaitStatus::Exited(child, 0));
                        if kind == Backing::SystemV {
                            // Others still wait for the parent.
                            let opener = spawn(|| {
                                let opened = transient().open::<Numbers>(&address);
                                assert_eq!(opened.unwrap().numbers, [8; 8]);
                            });
                            opener.wait_until_asleep();
                            std::mem::forget(opener);
                        }
                        value.numbers = [8; 8];
                    })
                }));
                if std::process::id() != parent {
                    let is_refused = matches!(&made, Ok(Err(Error::ForkedWhileCreating)));
                    drop(made);
                    crate::support::exit_now(i32::from(is_refused != child_returns));
                }
                let made = made.unwrap().unwrap();
                spawn(|| {
                    let opened = transient().open::<Numbers>(&address).unwrap();
                    assert_eq!(opened.numbers, [8; 8], "{kind}");
                    *opened.visits.lock().unwrap() += 1;
                })
                .join();
                assert_eq!(*made.visits.lock().unwrap(), 1, "{kind}");
                while let Ok(end) = wait() {
                    assert!(matches!(end, WaitStatus::Exited(_, 0)), "{end:?}");
                }
                drop(made);
                assert!(!address.exists(), "{kind}");
            }
        }
    }

    fn a_process_that_renews_and_is_killed_leaves_it_to_the_next() {
        let address = TestAddress::new(Backing::SystemV, "renew");
        kill_everywhere(
            "renewing", &address, None,
            |address| {
                let _ = unlink(address);
                let dead = spawn(|| {
                    let made = Segment::create(address, Marked::new(1)).unwrap();
                    std::mem::forget(made.visits.lock().unwrap());
                    std::mem::forget(made);
                });
                dead.join();
                // As if that had been in another pid namespace.
                address.overwrite_system_v(PID_NAMESPACE, &1_u32.to_le_bytes());
            },
            |address| std::mem::forget(open(address).unwrap()),
            |address, point, ()| {
                let begun = Instant::now();
                let opened = open(address).unwrap_or_else(|error| panic!("{point:?}: {error:?}"));
                assert_eq!(opened.id(), 1);
                let poisoned = crate::support::expect_poisoned(opened.visits.lock());
                *poisoned.recover(|_| {}) += 1;
                opened.visit();
                drop(opened);
                // The lock of the header is of this namespace again.
                let anew = transient().if_abandoned(IfAbandoned::Recreate);
                drop(anew.create(address, Marked::new(2)).unwrap());
                assert!(!address.exists(), "{point:?}");
                assert!(begun.elapsed() < Duration::from_secs(5), "{point:?}");
                Found::Whole
            },
        );
    }

    fn a_stopped_renewal_ends_up_right_and_no_lock_is_used_meanwhile() {
        for end in [End::GoesOn, End::IsKilled] {
            let address = TestAddress::new(Backing::SystemV, "renewals");
            stop_everywhere(
                "renewing", &address, (None, end, 2),
                |address| match Segment::create(address, Marked::new(1)) {
                    Ok(made) => {
                        drop(made);
                        address.overwrite_system_v(PID_NAMESPACE, &1_u32.to_le_bytes());
                    }
                    Err(Error::AlreadyExists) => {} // another one is faster
                    Err(other) => panic!("{other:?}"),
                },
                |address| std::mem::forget(open(address).unwrap()),
                |address, ()| loop {
                    match open(address) {
                        Ok(opened) => break Some(opened),
                        // It takes the one that is stopped for a user.
                        Err(Error::ForeignPidNamespace) => {}
                        Err(other) => panic!("{other:?}"),
                    }
                },
            );
        }
    }

    fn one_that_removes_in_another_namespace_and_is_killed_leaves_the_whole_or_nothing() {
        let address = TestAddress::new(Backing::SystemV, "anew-elsewhere");
        kill_everywhere(
            "recreating elsewhere", &address, None,
            |address| {
                stale_before(address);
                address.overwrite_system_v(PID_NAMESPACE, &1_u32.to_le_bytes());
            },
            |address| {
                let anew = transient().if_abandoned(IfAbandoned::Recreate);
                std::mem::forget(anew.create(address, Marked::new(2)).unwrap());
            },
            |address, point, ()| {
                let found = match open(address) {
                    Ok(opened) => {
                        opened.visit();
                        assert!([1, 2].contains(&opened.id()), "{point:?}");
                        Found::Whole
                    }
                    Err(Error::NotFound) => Found::Nothing,
                    Err(other) => panic!("{point:?}: {other:?}"),
                };
                check_after_a_death(address, point, &[1, 2]);
                found
            },
        );
    }
}
