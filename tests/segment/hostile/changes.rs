//! Objects that change while they are opened and used. Only a process with write
//! permission can do this. These tests show what it cannot do.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::ftruncate;
use shm_sync::{Backing, LockError, Segment, ShmMutex, ShmSafe};

use super::access::{ACCESSES, Access, Counter, Outcome, attempt, bytes_of, path, put_good};
use crate::support::{Child, Gate, TestAddress, expect_poisoned, on_stage, spawn};

const FILES: [Backing; 2] = [Backing::Posix, Backing::File];

/// The remaining length of a shrunk object in bytes. It contains no lock.
const PAGE: i64 = 4096;

/// So many of these fill the largest pages, of 64 KiB, so a lock behind them is in
/// another page than the beginning.
const BLOCKS: usize = 16;

/// One of two locks.
#[derive(Clone, Copy)]
enum Lock {
    Healthy,
    Shrinking,
}

/// The state of a lock after its holder died.
#[derive(Debug, PartialEq, Eq)]
enum AfterDeath {
    Poisoned,
    Lost,
}

/// A value long enough to lose pages.
#[derive(ShmSafe)]
#[repr(C)]
struct Long {
    pages: [[u64; 512]; BLOCKS],
    lock: Counter,
}

impl Default for Long {
    fn default() -> Self {
        Self {
            pages: [[1; 512]; BLOCKS],
            lock: Counter::new(0),
        }
    }
}

fn shorten(address: &TestAddress, len: i64) {
    let file = fs::File::options().write(true).open(path(address)).unwrap();
    ftruncate(&file, len).unwrap();
}

fn ended_by(child: &mut Child, signal: Signal) -> bool {
    match child.wait() {
        WaitStatus::Exited(_, code) => {
            assert_eq!(code, 0, "the child panicked");
            false
        }
        WaitStatus::Signaled(_, signal_of_end, _) => {
            assert_eq!(signal_of_end, signal);
            true
        }
        other => panic!("{other:?}"),
    }
}

on_stage! {
    // Failure mode 25.
    fn shrunk_object_faults_only_its_user() {
        for kind in FILES {
            let [shrinking, healthy] = [(); 2].map(|()| TestAddress::new(kind, "hostile"));
            put_good::<Long>(&shrinking);
            let counter = Segment::create(&healthy, Counter::new(0)).unwrap();
            let (ready, shrunk) = (Gate::new(), Gate::new());
            let mut victim = spawn(|| {
                let long = Segment::<Long>::open(&shrinking).unwrap();
                let _guard = counter.lock().unwrap();
                ready.open();
                shrunk.pass();
                drop(long.lock.lock());
            });
            ready.pass();
            shorten(&shrinking, PAGE);
            let bystander = spawn(|| {
                *expect_poisoned(counter.lock()).recover(|_| {}) += 1;
            });
            shrunk.open();
            assert!(ended_by(&mut victim, Signal::SIGBUS));
            bystander.join();
            assert_eq!(*counter.lock().unwrap(), 1);
        }
    }

    // The kernel walks a thread's robust list through the locks themselves, from the
    // last one locked, and stops at an unreadable one. This test asserts a limit of the
    // kernel, which is not a promise: see the trust model.
    fn shrunk_lock_hides_owner_death_of_older_locks() {
        for kind in FILES {
            let lock_after_death = |order: [Lock; 2]| {
                let [shrinking, healthy] = [(); 2].map(|()| TestAddress::new(kind, "hostile"));
                put_good::<Long>(&shrinking);
                let counter = Segment::create(&healthy, Counter::new(0)).unwrap();
                let ready = Gate::new();
                let mut victim = spawn(|| {
                    let long = Segment::<Long>::open(&shrinking).unwrap();
                    let _guards = order.map(|lock| match lock {
                        Lock::Healthy => counter.lock().unwrap(),
                        Lock::Shrinking => long.lock.lock().unwrap(),
                    });
                    ready.open();
                    nix::unistd::pause();
                });
                ready.pass();
                shorten(&shrinking, PAGE);
                victim.kill();
                match counter.try_lock_for(Duration::from_millis(250)) {
                    Err(LockError::Poisoned(_)) => AfterDeath::Poisoned,
                    Err(LockError::TimedOut) => AfterDeath::Lost,
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(lock_after_death([Lock::Shrinking, Lock::Healthy]), AfterDeath::Poisoned);
            assert_eq!(lock_after_death([Lock::Healthy, Lock::Shrinking]), AfterDeath::Lost);
        }
    }

    fn anonymous_segment_cannot_shrink() {
        let anonymous = Segment::anonymous(Counter::new(0)).unwrap();
        let file: BorrowedFd<'_> = Segment::as_fd(&anonymous).unwrap();
        let len = i64::try_from(Segment::mapped_len(&anonymous)).unwrap();
        for other in [0, 448, len - 1, len + 1] {
            assert_eq!(ftruncate(file.as_fd(), other), Err(Errno::EPERM));
        }
        *anonymous.lock().unwrap() += 1;
    }

    // A file may shrink between the check of its length and the first access, so the
    // opener may fault. The tool reads without a mapping and never faults.
    fn shrinking_object_never_faults_the_tool() {
        const TIME: Duration = Duration::from_millis(300);
        for kind in FILES {
            let address = TestAddress::new(kind, "hostile");
            put_good::<Long>(&address);
            let bytes = bytes_of(&address);
            let mut writer = spawn(|| {
                let file = fs::File::options().write(true).open(path(&address)).unwrap();
                loop {
                    file.set_len(0).unwrap();
                    file.write_all_at(&bytes, 0).unwrap();
                }
            });
            for access in ACCESSES {
                if kind == Backing::File && access == Access::List {
                    continue; // it does not list files
                }
                let mut faults = 0;
                let tally = Segment::anonymous([const { ShmMutex::new(0_u64) }; 3]).unwrap();
                let begin = Instant::now();
                while begin.elapsed() < TIME {
                    let mut opener = spawn(|| {
                        while begin.elapsed() < TIME {
                            let column = match attempt::<Long>(access, &address) {
                                Some(Outcome::Opened) => 0,
                                Some(Outcome::NotASegment) => 1,
                                Some(Outcome::Corrupt(_)) => 2,
                                other => panic!("{access:?}: {other:?}"),
                            };
                            *tally[column].lock().unwrap() += 1;
                        }
                    });
                    faults += u64::from(ended_by(&mut opener, Signal::SIGBUS));
                }
                let [good, foreign, damaged] = [0, 1, 2].map(|at| *tally[at].lock().unwrap());
                println!(
                    "{kind}, {access:?}: opened {good}, no segment {foreign}, damaged {damaged}, \
                     faults {faults}"
                );
                let only_reads = matches!(
                    access,
                    Access::Object | Access::Details | Access::SyncObject | Access::List
                );
                assert!(!only_reads || faults == 0, "{access:?}");
            }
            writer.kill();
        }
    }
}
