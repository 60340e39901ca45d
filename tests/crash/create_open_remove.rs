//! Creating, opening and detaching, killed and stopped at every step. No process ever
//! uses a partial object or one that is being removed.
//!
//! A parent steps its child by `ptrace`, system call by system call and instruction by
//! instruction, to a chosen point. The number of points per operation can be set:
//!
//! ```sh
//! SHM_SYNC_BIRTH_POINTS=2000 SHM_SYNC_TEST_WATCHDOG=900 \
//!     cargo test --test crash -- --nocapture create_open_remove
//! ```

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))] // reads instructions

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::walker::{Point, Walker};
use crate::support::{
    Child, Gate, Marked, TestAddress, number_from_env, on_stage, seccomp, spawn, watchdog,
};
use crate::tables::{ResultFile, print_header, print_row};
use nix::sys::wait::{WaitStatus, wait, waitpid};
use nix::unistd::{ForkResult, fork};
use shm_sync::{
    Backing, Error, IfAbandoned, Removal, Segment, SegmentOptions, ShmMutex, ShmSafe, unlink,
};

const KILLED: &str = "Killed";
const STOPPED: &str = "Stopped";

const KILLED_HEADER: [&str; 6] = [
    "operation",
    "kind",
    "instructions",
    "points",
    "whole object found",
    "recovered after, at most",
];
const STOPPED_HEADER: [&str; 6] = [
    "operation",
    "kind",
    "then",
    "instructions",
    "points",
    "others waited",
];

static BIRTHS: ResultFile = ResultFile::new(
    "births",
    "Kills while segments are created, opened and left",
    &[KILLED, STOPPED],
    &[
        "creating",
        "creating by renaming",
        "creating by a link",
        "opening or creating",
        "recreating",
        "recreating elsewhere",
        "leaving",
        "leaving last",
        "opening",
        "reinitialising",
    ],
);

fn record(output: &str) {
    BIRTHS.add(output);
}

fn transient<T>() -> SegmentOptions<T> {
    SegmentOptions::new().removal(Removal::UntilLastDetach)
}

fn open(address: &str) -> Result<Segment<Marked>, Error> {
    Segment::open(address)
}

/// Returns the approximate number of points per operation.
fn points() -> u64 {
    number_from_env("SHM_SYNC_BIRTH_POINTS").unwrap_or(8)
}

/// Traces the whole operation once, and chooses about `count` points: the boundaries of
/// all system calls, and instructions at even distances. The first point is at the
/// first call `from`, or at the beginning.
fn trace(mut walker: Walker, from: Option<libc::c_long>, count: u64) -> (Vec<Point>, u64) {
    // The numbers of instructions between two system calls.
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
            // The point where the call begins, before it does anything.
            points.push(Point::at(2 * calls - 1, 0));
        }
        let steps = (0..*len).step_by(stride as usize);
        points.extend(steps.map(|steps| Point::at(2 * calls, steps)));
    }
    (points, total)
}

/// How long the survivors may take: 5 s, unless the watchdog has more time.
fn time_limit() -> Duration {
    watchdog() / 36
}

/// Checks what other processes find after a kill: a whole object or none, and that the
/// name can be used again.
fn check_after_kill(address: &TestAddress, point: Point, whole: &[u64]) -> Found {
    let begun = Instant::now();
    let found = match Segment::<Marked>::open_read_only(address) {
        Ok(_) | Err(Error::NotFound { .. }) => open(address),
        Err(other) => panic!("{point:?}: {other:?}"),
    };
    let found = match found {
        Ok(segment) => {
            segment.visit();
            assert!(whole.contains(&segment.id()), "{point:?}");
            Found::Whole
        }
        Err(Error::NotFound { .. }) => Found::Nothing,
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
        begun.elapsed() < time_limit(),
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

/// Kills a child at each point of an operation. `prepare` creates what exists before
/// it, and returns what the parent keeps.
fn kill_at_all_points<K>(
    operation: &str,
    address: &TestAddress,
    from: Option<libc::c_long>,
    prepare: impl Fn(&TestAddress) -> K,
    body: impl Fn(&TestAddress),
    check: impl Fn(&TestAddress, Point, K) -> Found,
) {
    let kept = prepare(address);
    let (points, total) = trace(Walker::new(|| body(address)), from, points());
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
    print_header(KILLED, &KILLED_HEADER);
    print_row(&[
        operation.to_owned(),
        address.kind().to_string(),
        total.to_string(),
        points.len().to_string(),
        whole.to_string(),
        format!("{slowest:.1?}"),
    ]);
    println!("{operation}, {}: {:.1?}", address.kind(), begun.elapsed());
}

/// The end of a stopped child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Continues,
    /// It continues, and all processes detach, which removes the object.
    Detaches,
    IsKilled,
}

/// Stops a child at points of its operation while `others` processes run `other`. Then
/// continues or kills the child. All processes that are attached in the end must be
/// attached to the same object.
fn stop_at_all_points<K>(
    operation: &str,
    address: &TestAddress,
    (from, end, others): (Option<libc::c_long>, End, usize),
    prepare: impl Fn(&TestAddress) -> K,
    body: impl Fn(&TestAddress),
    other: impl Fn(&TestAddress, K) -> Option<Segment<Marked>>,
) {
    /// Long enough to clear away what a creator left. After it, the others must be
    /// waiting.
    const TIME_TO_CLEAR: Duration = Duration::from_millis(60);

    let kept = prepare(address);
    let (points, total) = trace(Walker::new(|| body(address)), from, points() / 2);
    drop(kept);
    let _ = unlink(address);
    let begun = Instant::now();
    let mut waited = 0;
    for &point in &points {
        let shared = Segment::anonymous([const { AtomicUsize::new(0) }; 2]).unwrap();
        let [prepared, done] = &*shared;
        let may_begin: Vec<Gate> = (0..others).map(|_| Gate::new()).collect();
        let may_leave: Vec<Gate> = (0..others).map(|_| Gate::new()).collect();
        let spawned: Vec<Child> = (0..others)
            .map(|index| {
                let (other, prepare, may_begin, may_leave) =
                    (&other, &prepare, &may_begin[index], &may_leave[index]);
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
                        assert_eq!(again.id(), mine.id(), "the name refers to another object");
                    }
                })
            })
            .collect();
        crate::support::poll(|| prepared.load(Ordering::SeqCst) == others);
        let mut walker = Walker::new(|| body(address));
        walker.go_to(point);
        may_begin.iter().for_each(Gate::open);
        let all_done = || done.load(Ordering::SeqCst) == others;
        let until = Instant::now() + TIME_TO_CLEAR;
        while !all_done() && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(200));
        }
        waited += u32::from(!all_done());
        let walker = match end {
            End::IsKilled => {
                // The waiting processes have seen the stopped state. The child dies a
                // little later.
                walker.go_to(Point::at(1, 0));
                walker.kill();
                crate::support::poll(all_done);
                None
            }
            End::Continues | End::Detaches => {
                let walker = walker.let_go();
                // The child pauses after its operation. If an assertion failed, it has
                // ended.
                crate::support::poll(|| is_pausing(&walker) && all_done());
                Some(walker)
            }
        };
        may_leave.iter().for_each(Gate::open);
        spawned.into_iter().for_each(Child::join);
        assert!(
            end != End::Detaches || !address.exists(),
            "{point:?}: the object was not removed"
        );
        drop(walker);
        let _ = unlink(address);
        assert!(!address.exists(), "{point:?}");
    }
    print_header(STOPPED, &STOPPED_HEADER);
    print_row(&[
        operation.to_owned(),
        address.kind().to_string(),
        format!("{end:?}"),
        total.to_string(),
        points.len().to_string(),
        waited.to_string(),
    ]);
    println!("{operation}, {}: {:.1?}", address.kind(), begun.elapsed());
}

fn is_pausing(child: &Child) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{}/syscall", child.pid()));
    let call = call.unwrap_or_default();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap_or_default();
    assert!(!stat.contains(") Z "), "the child has failed");
    call.starts_with(&format!("{} ", crate::support::walker::PAUSE))
}

/// The offset of the pid namespace in a header.
const PID_NAMESPACE: usize = 20;

/// A value that can be created in place.
#[derive(ShmSafe)]
#[repr(C)]
struct Numbers {
    numbers: [u64; 8],
    visits: ShmMutex<u64>,
}

const KINDS: [Backing; 2] = [Backing::SystemV, Backing::Posix];

const EVERY_KIND: [Backing; 3] = [Backing::SystemV, Backing::Posix, Backing::File];

const CREATOR_CASES: [(Backing, End); 3] = [
    (Backing::SystemV, End::Continues),
    (Backing::SystemV, End::IsKilled),
    (Backing::Posix, End::Continues),
];

const DETACHER_CASES: [(Backing, End); 3] = [
    (Backing::SystemV, End::Detaches),
    (Backing::SystemV, End::IsKilled),
    (Backing::Posix, End::Detaches),
];

fn leave_stale(address: &TestAddress) {
    let mut user = spawn(|| {
        let _segment = transient().create(address, Marked::new(1)).unwrap();
        crate::support::die()
    });
    user.wait();
}

fn create_in_use(address: &TestAddress) -> Segment<Marked> {
    transient().create(address, Marked::new(1)).unwrap()
}

/// Returns the call with which a creation becomes visible.
fn first_visible_call(kind: Backing) -> Option<libc::c_long> {
    match kind {
        Backing::SystemV => Some(libc::SYS_shmget),
        _ => None,
    }
}

fn create(address: &TestAddress) {
    let created = Segment::create(address, Marked::new(1));
    std::mem::forget(created.unwrap());
}

fn detach(address: &TestAddress) {
    drop(open(address).unwrap());
}

/// Checks that the name still refers to the object that this process is attached to.
fn check_in_use(address: &TestAddress, point: Point, kept: Segment<Marked>) -> Found {
    let again = open(address).unwrap_or_else(|error| panic!("{point:?}: {error:?}"));
    assert_eq!(again.id(), kept.id());
    again.visit();
    assert_eq!(*kept.visits.lock().unwrap(), 1, "{point:?}: another object");
    drop(again);
    drop(kept);
    assert!(!address.exists(), "{point:?}: the last user has detached");
    Found::Whole
}

/// A directory for files of this stage alone. `drop` removes it.
struct OwnDirectory(std::path::PathBuf);

impl OwnDirectory {
    /// Makes it the directory of each later [`TestAddress`] of a file.
    fn enter(what: &str) -> Self {
        let name = format!("shm-sync-test-{what}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        // SAFETY: a stage has a single thread.
        unsafe { std::env::set_var("TMPDIR", &path) };
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect()
    }

    /// Returns how many temporary names there are.
    fn leftovers(&self) -> usize {
        let names = self.names();
        names
            .iter()
            .filter(|name| name.starts_with(".shm-sync.new."))
            .count()
    }
}

impl Drop for OwnDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Kills creators that use temporary names. Each leaves at most `most` of them, which
/// the next creator in the directory removes.
fn check_temporary_names(operation: &str, most: usize) {
    let directory = OwnDirectory::enter("temporary");
    let address = TestAddress::new(Backing::File, "create");
    let next = TestAddress::new(Backing::File, "next");
    let left = std::cell::Cell::new(0);
    kill_at_all_points(
        operation,
        &address,
        None,
        |_| (),
        create,
        |address, point, ()| {
            let leftovers = directory.leftovers();
            assert!(leftovers <= most, "{point:?}: {:?}", directory.names());
            left.set(left.get() + leftovers);
            let found = check_after_kill(address, point, &[1]);
            drop(transient().create(&next, Marked::new(2)).unwrap());
            assert_eq!(directory.names(), [""; 0], "{point:?}");
            found
        },
    );
    // Otherwise, the fallback was not used.
    assert!(left.get() > 0);
}

on_stage! {
    output to record;

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

    fn creator_killed_leaves_no_partial_object() {
        for kind in EVERY_KIND {
            let address = TestAddress::new(kind, "create");
            kill_at_all_points(
                "creating", &address, first_visible_call(kind), |_| (), create,
                |address, point, ()| check_after_kill(address, point, &[1]),
            );
        }
    }

    // Failure mode 82.
    fn renaming_creator_killed_leaves_one_name() {
        seccomp::refuse_unnamed_files(libc::EOPNOTSUPP);
        check_temporary_names("creating by renaming", 1);
    }

    // Failure mode 82.
    fn linking_creator_killed_leaves_two_names() {
        seccomp::refuse_unnamed_files(libc::EOPNOTSUPP);
        seccomp::refuse(libc::SYS_renameat2, libc::EINVAL);
        check_temporary_names("creating by a link", 2);
    }

    // The other processes create as well, so they look for the files of dead creators.
    fn stopped_creator_keeps_its_temporary_name() {
        seccomp::refuse_unnamed_files(libc::EOPNOTSUPP);
        let directory = OwnDirectory::enter("stopped");
        for end in [End::Continues, End::IsKilled] {
            let address = TestAddress::new(Backing::File, "stopped");
            stop_at_all_points(
                "creating by renaming", &address, (None, end, 2), |_| (),
                |address| {
                    let made = transient().open_or_create(address, || Marked::new(1));
                    std::mem::forget(made.unwrap());
                },
                |address, ()| {
                    let made = transient().open_or_create(address, || Marked::new(2));
                    Some(made.unwrap())
                },
            );
            drop(transient().create(&address, Marked::new(3)).unwrap());
            assert_eq!(directory.names(), [""; 0]);
        }
    }

    fn open_or_create_killed_leaves_no_partial() {
        for kind in EVERY_KIND {
            let address = TestAddress::new(kind, "ooc");
            kill_at_all_points(
                "opening or creating", &address, None, |_| (),
                |address| {
                    let made = transient().open_or_create(address, || Marked::new(1));
                    std::mem::forget(made.unwrap());
                },
                |address, point, ()| check_after_kill(address, point, &[1]),
            );
        }
    }

    fn recreation_killed_leaves_old_or_new_or_none() {
        for kind in EVERY_KIND {
            let address = TestAddress::new(kind, "anew");
            kill_at_all_points(
                "recreating", &address, None, leave_stale,
                |address| {
                    let anew = transient().if_abandoned(IfAbandoned::Recreate);
                    std::mem::forget(anew.create(address, Marked::new(2)).unwrap());
                },
                |address, point, ()| check_after_kill(address, point, &[1, 2]),
            );
        }
    }

    fn opener_killed_changes_nothing() {
        for kind in EVERY_KIND {
            let address = TestAddress::new(kind, "open");
            kill_at_all_points(
                "opening", &address, None, create_in_use,
                |address| std::mem::forget(open(address).unwrap()),
                check_in_use,
            );
        }
    }

    fn last_user_killed_leaves_whole_object_or_none() {
        for kind in EVERY_KIND {
            let address = TestAddress::new(kind, "leave");
            kill_at_all_points(
                "leaving last", &address, None, leave_stale, detach,
                |address, point, ()| check_after_kill(address, point, &[1]),
            );
        }
    }

    fn detacher_killed_keeps_segment_of_others() {
        for kind in EVERY_KIND {
            let address = TestAddress::new(kind, "stay");
            kill_at_all_points(
                "leaving", &address, None, create_in_use, detach, check_in_use,
            );
        }
    }

    fn creator_stopped_exposes_no_partial_object() {
        for (kind, end) in CREATOR_CASES {
            let address = TestAddress::new(kind, "stopped");
            stop_at_all_points(
                "creating", &address, (first_visible_call(kind), end, 2), |_| (),
                |address| match transient().create(address, Marked::new(1)) {
                    Ok(mine) => {
                        // The name refers to this object.
                        assert_eq!(open(address).unwrap().id(), 1);
                        std::mem::forget(mine);
                    }
                    Err(Error::AlreadyExists { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                },
                |address, ()| {
                    let looked = Segment::<Marked>::open_read_only(address);
                    assert!(matches!(looked, Ok(_) | Err(Error::NotFound { .. })), "{looked:?}");
                    drop(looked);
                    let opened = open(address);
                    assert!(matches!(opened, Ok(_) | Err(Error::NotFound { .. })), "{opened:?}");
                    let made = transient().open_or_create(address, || Marked::new(2));
                    Some(made.unwrap())
                },
            );
        }
    }

    fn last_user_stopped_exposes_no_removed_object() {
        for (kind, end) in DETACHER_CASES {
            let address = TestAddress::new(kind, "away");
            stop_at_all_points(
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

    fn last_user_stopped_keeps_name_of_new_object() {
        for kind in KINDS {
            let address = TestAddress::new(kind, "after");
            stop_at_all_points(
                "leaving last", &address, (None, End::Detaches, 1), |_| (),
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

    fn detacher_stopped_still_removes_object() {
        for kind in KINDS {
            let address = TestAddress::new(kind, "two");
            stop_at_all_points(
                "leaving", &address, (None, End::Detaches, 1), create_in_use,
                |address| match open(address) {
                    Err(Error::NotFound { .. }) => {} // the other process removed it
                    opened => drop(opened.unwrap()),
                },
                |_, kept| {
                    drop(kept);
                    None
                },
            );
        }
    }

    fn init_fork_keeps_segment_of_parent() {
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
                            // Other processes still wait for the parent.
                            let opener = spawn(|| {
                                let opened = transient::<Numbers>().open(&address);
                                assert_eq!(opened.unwrap().numbers, [8; 8]);
                            });
                            opener.wait_until_asleep();
                            std::mem::forget(opener);
                        }
                        value.numbers = [8; 8];
                    })
                }));
                if std::process::id() != parent {
                    let is_refused = matches!(&made, Ok(Err(Error::ForkedWhileCreating { .. })));
                    drop(made);
                    crate::support::exit_now(i32::from(is_refused != child_returns));
                }
                let made = made.unwrap().unwrap();
                spawn(|| {
                    let opened = transient::<Numbers>().open(&address).unwrap();
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

    fn reinit_killed_is_repeated_by_next_opener() {
        let address = TestAddress::new(Backing::SystemV, "renew");
        kill_at_all_points(
            "reinitialising", &address, None,
            |address| {
                let _ = unlink(address);
                let dead = spawn(|| {
                    let made = Segment::create(address, Marked::new(1)).unwrap();
                    std::mem::forget(made.visits.lock().unwrap());
                    std::mem::forget(made);
                });
                dead.join();
                // As if the holder had been in another pid namespace.
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
                // The lock of the header belongs to this namespace again.
                let anew = transient().if_abandoned(IfAbandoned::Recreate);
                drop(anew.create(address, Marked::new(2)).unwrap());
                assert!(!address.exists(), "{point:?}");
                assert!(begun.elapsed() < time_limit(), "{point:?}");
                Found::Whole
            },
        );
    }

    fn reinit_stopped_exposes_no_lock() {
        for end in [End::Continues, End::IsKilled] {
            let address = TestAddress::new(Backing::SystemV, "renewals");
            stop_at_all_points(
                "reinitialising", &address, (None, end, 2),
                |address| match Segment::create(address, Marked::new(1)) {
                    Ok(made) => {
                        drop(made);
                        address.overwrite_system_v(PID_NAMESPACE, &1_u32.to_le_bytes());
                    }
                    Err(Error::AlreadyExists { .. }) => {} // another process was faster
                    Err(other) => panic!("{other:?}"),
                },
                |address| std::mem::forget(open(address).unwrap()),
                |address, ()| loop {
                    match open(address) {
                        Ok(opened) => break Some(opened),
                        // It counts the stopped process as a user.
                        Err(Error::ForeignPidNamespace { .. }) => {}
                        Err(other) => panic!("{other:?}"),
                    }
                },
            );
        }
    }

    fn foreign_removal_killed_leaves_object_or_none() {
        let address = TestAddress::new(Backing::SystemV, "anew-elsewhere");
        kill_at_all_points(
            "recreating elsewhere", &address, None,
            |address| {
                leave_stale(address);
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
                    Err(Error::NotFound { .. }) => Found::Nothing,
                    Err(other) => panic!("{point:?}: {other:?}"),
                };
                check_after_kill(address, point, &[1, 2]);
                found
            },
        );
    }
}
