//! `ShmLifeline` and `Lifelines`: ends and deaths of holders.

use std::mem::forget;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use shm_sync::{End, Error, Lifelines, LockError, Segment, ShmLifeline};

use crate::support::{Child, Gate, die, median, on_stage, seccomp, spawn};

/// The promised time after a death.
const RECOVERS_WITHIN: Duration = Duration::from_millis(250);
/// A time in which a waiter does its recheck, and yet does not go on.
const SEVERAL_RECHECKS: Duration = Duration::from_millis(400);

fn lifeline() -> Segment<ShmLifeline> {
    Segment::anonymous(ShmLifeline::new()).unwrap()
}

/// Starts a process that holds the lifeline until it is killed.
fn holder(line: &ShmLifeline) -> Child {
    let held = Gate::new();
    let holder = spawn(|| {
        let _guard = line.hold().unwrap();
        held.open();
        nix::unistd::pause();
    });
    held.pass();
    holder
}

/// Starts a process that waits for the end, and checks how it ended.
fn watcher(line: &ShmLifeline, expected: End) -> Child {
    let watcher = spawn(move || assert_eq!(line.wait_for_end(None).unwrap(), expected));
    watcher.wait_until_asleep();
    watcher
}

fn would_block<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Lock(LockError::WouldBlock)))
}

#[test]
fn unplaced_lifeline_is_refused() {
    let line = ShmLifeline::new();
    let not_placed = |error| matches!(error, Error::Lock(LockError::NotPlaced));
    assert!(not_placed(line.hold().unwrap_err()));
    assert!(not_placed(line.wait_for_end(None).unwrap_err()));
    assert!(!line.is_alive());
    let lines = Lifelines::<2>::new();
    assert!(not_placed(lines.hold().unwrap_err()));
    assert!(not_placed(lines.wait_for_end(1, None).unwrap_err()));
}

#[test]
fn end_follows_the_guard() {
    let line = lifeline();
    assert!(!line.is_alive());
    for _ in 0..3 {
        let guard = line.hold().unwrap();
        assert!(line.is_alive() && !guard.after_death());
        assert_eq!(line.holder().map(|it| it.pid), Some(std::process::id()));
        assert!(would_block(line.hold()));
        drop(guard);
        assert!(!line.is_alive());
        assert_eq!(line.holder(), None);
        assert_eq!(line.wait_for_end(None).unwrap(), End::Ended);
    }
}

#[test]
fn wait_for_own_end_is_a_deadlock() {
    let line = lifeline();
    let guard = line.hold().unwrap();
    let refused = line.wait_for_end(None);
    assert!(matches!(refused, Err(Error::Lock(LockError::Deadlock))));
    drop(guard);
}

#[test]
fn ended_thread_with_leaked_guard_has_died() {
    let line = lifeline();
    std::thread::scope(|s| {
        s.spawn(|| forget(line.hold().unwrap()));
        assert_eq!(line.wait_for_end(None).unwrap(), End::Died);
    });
    let guard = line.hold().unwrap();
    assert!(guard.after_death());
    drop(guard);
    assert!(
        !line.hold().unwrap().after_death(),
        "a death is reported once"
    );
}

#[test]
fn group_has_distinct_members() {
    let lines = Segment::anonymous(Lifelines::<3>::new()).unwrap();
    let guards: Vec<_> = (0..3).map(|_| lines.hold().unwrap()).collect();
    let mut indices: Vec<usize> = guards.iter().map(|guard| guard.index()).collect();
    indices.sort_unstable();
    assert_eq!(indices, [0, 1, 2]);
    assert_eq!(lines.alive(), 3);
    assert!(would_block(lines.hold()));
    drop(guards);
    assert_eq!(lines.alive(), 0);
    for index in 0..3 {
        assert_eq!(lines.wait_for_end(index, None).unwrap(), End::Ended);
    }
}

#[test]
#[should_panic(expected = "there is no lifeline 3, because there are 3")]
fn index_beyond_the_group_panics() {
    let lines = Segment::anonymous(Lifelines::<3>::new()).unwrap();
    let _ = lines.is_alive(3);
}

#[test]
fn debug_shows_holder() {
    let line = lifeline();
    assert!(format!("{:?}", *line).contains("alive: false"));
    let guard = line.hold().unwrap();
    assert!(format!("{:?}", *line).contains("alive: true"));
    assert!(format!("{guard:?}").contains("after_death: false"));
}

on_stage! {
    // The holder and the child that waits have the thread id 1, each in its namespace.
    fn holder_of_another_pid_namespace_is_another_thread() {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWPID) {
            println!("skipped, because a new pid namespace is not permitted: {error}");
            return;
        }
        spawn(|| {
            assert_eq!(std::process::id(), 1);
            let line = lifeline();
            let _guard = line.hold().unwrap();
            unshare(CloneFlags::CLONE_NEWPID).unwrap();
            spawn(|| {
                assert_eq!(std::process::id(), 1);
                let refused = line.hold();
                assert!(
                    matches!(refused, Err(Error::ForeignPidNamespace { .. })),
                    "{refused:?}"
                );
                let end = line.wait_for_end(Some(Duration::from_millis(1)));
                assert_eq!(end.unwrap(), End::TimedOut);
            })
            .join();
        })
        .join();
    }

    fn smoke() {
        let line = lifeline();
        let mut holder = holder(&line);
        assert!(line.is_alive());
        let timeout = Some(Duration::from_millis(1));
        assert_eq!(line.wait_for_end(timeout).unwrap(), End::TimedOut);
        holder.kill();
        assert!(!line.is_alive());
        assert_eq!(line.wait_for_end(None).unwrap(), End::Died);
    }

    fn killed_holder_wakes_all_watchers() {
        let line = lifeline();
        let time = median(5, || {
            let mut holder = holder(&line);
            let watchers = [0; 3].map(|_| watcher(&line, End::Died));
            let begin = Instant::now();
            holder.kill();
            watchers.into_iter().for_each(Child::join);
            begin.elapsed()
        });
        println!("from SIGKILL until three watchers had gone on: {time:?}");
        assert!(time < RECOVERS_WITHIN, "{time:?}");
    }

    fn dropped_guard_wakes_all_watchers() {
        let line = lifeline();
        let go = Gate::new();
        let held = Gate::new();
        let holder = spawn(|| {
            let guard = line.hold().unwrap();
            held.open();
            go.pass();
            drop(guard);
        });
        held.pass();
        let watchers = [0; 3].map(|_| watcher(&line, End::Ended));
        go.open();
        watchers.into_iter().for_each(Child::join);
        holder.join();
    }

    fn living_holder_has_not_ended() {
        let line = lifeline();
        let holder = holder(&line);
        for _ in 0..2 {
            assert_eq!(line.wait_for_end(Some(SEVERAL_RECHECKS)).unwrap(), End::TimedOut);
            assert!(line.is_alive() && would_block(line.hold()));
            holder.stop();
        }
    }

    fn death_is_noticed_without_waitv() {
        for errno in [libc::ENOSYS, libc::EPERM] {
            let line = lifeline();
            let mut holder = holder(&line);
            let watcher = spawn(|| {
                seccomp::refuse(libc::SYS_futex_waitv, errno);
                assert_eq!(line.wait_for_end(None).unwrap(), End::Died);
            });
            watcher.wait_until_asleep();
            holder.kill();
            watcher.join();
        }
    }

    fn killed_watcher_does_not_delay_others_for_long() {
        let line = lifeline();
        let mut holder = holder(&line);
        let mut watchers = [0; 3].map(|_| watcher(&line, End::Died));
        watchers[0].kill();
        holder.kill();
        for watcher in watchers.into_iter().skip(1) {
            watcher.join();
        }
    }

    fn watcher_waits_for_the_first_holder() {
        let line = lifeline();
        let watcher = watcher(&line, End::Died);
        holder(&line).kill();
        watcher.join();
    }

    fn late_watcher_learns_how_its_holder_ended() {
        let line = lifeline();
        for expected in [End::Died, End::Ended, End::Died] {
            let leave = Gate::new();
            let held = Gate::new();
            let mut holder = spawn(|| {
                let guard = line.hold().unwrap();
                held.open();
                leave.pass();
                drop(guard);
            });
            held.pass();
            let watcher = watcher(&line, expected);
            watcher.stop();
            match expected {
                End::Died => holder.kill(),
                _ => {
                    leave.open();
                    holder.wait();
                }
            }
            // The next holder is there before the watcher looks.
            let next = line.hold().unwrap();
            assert_eq!(next.after_death(), expected == End::Died);
            watcher.signal(nix::sys::signal::Signal::SIGCONT);
            watcher.join();
            drop(next);
        }
    }

    fn forked_child_does_not_hold() {
        let line = lifeline();
        let mut inherited = Some(line.hold().unwrap());
        spawn(|| {
            drop(inherited.take());
            assert!(line.is_alive());
            let timeout = Some(Duration::from_millis(1));
            assert_eq!(line.wait_for_end(timeout).unwrap(), End::TimedOut);
        })
        .join();
        assert!(line.is_alive());
        drop(inherited);
        assert_eq!(line.wait_for_end(None).unwrap(), End::Ended);
    }

    fn exit_with_guard_is_a_death() {
        let line = lifeline();
        spawn(|| forget(line.hold().unwrap())).join();
        assert_eq!(line.wait_for_end(None).unwrap(), End::Died);
        let mut killed = spawn(|| {
            let guard = line.hold().unwrap();
            assert!(guard.after_death());
            die()
        });
        killed.wait();
        assert!(line.hold().unwrap().after_death(), "the second death");
    }
}
