//! Descriptors in daemons. No descriptor of the crate is a standard stream. Numbers
//! that the daemon has closed and used again belong to the daemon.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::mounts::{Stand, has_own_mounts_for};
use crate::support::{Marked, TestAddress, TestName, on_stage, poll, spawn};
use shm_sync::{Backing, Error, Removal, Segment, SegmentOptions, unlink};

/// Closes all descriptors from 3 on, as daemons do with `closefrom(3)`.
fn close_from_three() {
    // SAFETY: the tests are about the owners of these descriptors.
    unsafe { crate::support::close_from_three() };
}

fn close(number: i32) {
    // SAFETY: the call takes only a number. The tests are about the owner of the
    // descriptor.
    unsafe { libc::close(number) };
}

/// Files that a daemon opens, on the lowest numbers that are free.
struct Daemon(Vec<(File, TestName)>);

impl Daemon {
    fn start() -> Self {
        let files = (0..8).map(|_| {
            let name = TestName::new("daemon");
            (File::create(name.path()).unwrap(), name)
        });
        Self(files.collect())
    }

    /// Checks that the daemon's files are open, and hold what it writes.
    fn check(&mut self) {
        for (file, name) in &mut self.0 {
            let there = std::fs::metadata(name.path()).unwrap();
            let here = file.metadata().expect("the file is open");
            assert_eq!((here.dev(), here.ino()), (there.dev(), there.ino()));
            file.write_all(b"line").unwrap();
            assert_eq!(std::fs::read(name.path()).unwrap(), b"line");
        }
    }
}

/// Steps that processes agree on in memory, because `closefrom` closes their pipes.
struct Steps(Segment<AtomicU32>);

impl Steps {
    fn new() -> Self {
        Self(Segment::anonymous(AtomicU32::new(0)).unwrap())
    }

    fn reach(&self, step: u32) {
        self.0.store(step, Ordering::SeqCst);
    }

    fn wait_for(&self, step: u32) {
        poll(|| self.0.load(Ordering::SeqCst) >= step);
    }
}

fn transient<T>() -> SegmentOptions<T> {
    SegmentOptions::new().removal(Removal::UntilLastDetach)
}

fn files(what: &str) -> [TestAddress; 2] {
    [Backing::Posix, Backing::File].map(|kind| TestAddress::new(kind, what))
}

on_stage! {
    fn smoke() {
        spawn(|| {
            let segment = Segment::anonymous(Marked::new(1)).unwrap();
            assert!(Segment::as_fd(&segment).unwrap().as_raw_fd() > 2);
        })
        .join();
    }

    // A daemon without standard streams.
    fn segment_uses_no_low_descriptor() {
        for address in files("low") {
            let mut daemon = spawn(|| {
                for missing in [0, 1, 2] {
                    close(missing);
                }
                let created = Segment::create(&address, Marked::new(1)).unwrap();
                let opened = Segment::<Marked>::open(&address).unwrap();
                let reader = Segment::<Marked>::open_read_only(&address).unwrap();
                let anonymous = Segment::anonymous(Marked::new(2)).unwrap();
                for number in [0, 1, 2] {
                    // SAFETY: the buffer is static and has 11 bytes. The descriptor
                    // belongs to no owner.
                    let written = unsafe { libc::write(number, c"overwritten".as_ptr().cast(), 11) };
                    if written != -1 {
                        crate::support::exit_now(10 + number);
                    }
                }
                created.visit();
                opened.visit();
                anonymous.visit();
                drop(reader);
                let ids = [created.id(), opened.id(), anonymous.id()];
                crate::support::exit_now(i32::from(ids != [1, 1, 2]));
            });
            let status = daemon.wait();
            assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)), "{status:?}");
            assert_eq!(Segment::<Marked>::open(&address).unwrap().id(), 1);
        }
    }

    // A descriptor that is inherited as standard input.
    fn from_fd_moves_low_descriptor_up() {
        let segment = Segment::anonymous(Marked::new(3)).unwrap();
        let mut child = spawn(|| {
            let file = Segment::as_fd(&segment).unwrap().as_raw_fd();
            // SAFETY: the call takes only numbers.
            let moved = unsafe { libc::dup2(file, 0) };
            // SAFETY: `dup2` has just created the descriptor, and no other owner has
            // it.
            let stdin = unsafe { OwnedFd::from_raw_fd(moved) };
            let again = SegmentOptions::<Marked>::new().from_fd(stdin).unwrap();
            again.visit();
            let number = Segment::as_fd(&again).unwrap().as_raw_fd();
            crate::support::exit_now(i32::from(number < 3));
        });
        let status = child.wait();
        assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)), "{status:?}");
        assert_eq!(*segment.visits.lock().unwrap(), 1);
    }

    // Failure mode 36.
    fn closefrom_then_drop_closes_nothing_foreign() {
        for address in files("foreign") {
            spawn(|| {
                let created = transient().create(&address, Marked::new(1)).unwrap();
                let opened = Segment::<Marked>::open(&address).unwrap();
                let reader = Segment::<Marked>::open_read_only(&address).unwrap();
                let anonymous = Segment::anonymous(Marked::new(2)).unwrap();
                close_from_three();
                let mut daemon = Daemon::start();
                assert!(Segment::as_fd(&anonymous).is_none(), "the number belongs to the daemon");
                for segment in [&created, &opened, &anonymous] {
                    segment.visit();
                    let attached = Segment::attached_pids(segment).unwrap();
                    assert_eq!(attached, [std::process::id()]);
                }
                drop(anonymous);
                drop(opened);
                drop(reader);
                assert!(address.exists());
                drop(created);
                assert!(!address.exists(), "the last process removes the name");
                daemon.check();
            })
            .join();
        }
    }

    // Failure mode 36.
    fn closefrom_leaves_the_process_attached() {
        for address in files("kept") {
            let steps = Steps::new();
            let segment = transient().create(&address, Marked::new(1)).unwrap();
            let daemon = spawn(|| {
                let opened = Segment::<Marked>::open(&address).unwrap();
                close_from_three();
                steps.reach(1);
                steps.wait_for(2);
                opened.visit();
                drop(opened);
                steps.reach(3);
                // The child still has its copy of the parent's attachment.
                steps.wait_for(4);
            });
            steps.wait_for(1);
            let mut both = [std::process::id(), daemon.pid()];
            both.sort_unstable();
            assert_eq!(Segment::attached_pids(&segment).unwrap(), both);
            drop(segment);
            assert!(address.exists(), "the daemon is attached");
            drop(Segment::<Marked>::open(&address).unwrap());
            assert!(address.exists(), "the daemon is attached");
            steps.reach(2);
            steps.wait_for(3);
            steps.reach(4);
            daemon.join();
        }
    }

    // Failure mode 36: the caller's initialiser calls `closefrom`.
    fn closefrom_while_creating_uses_nothing_foreign() {
        for address in files("creating") {
            spawn(|| {
                let mut daemon = None;
                let become_daemon = |value: &mut u64| {
                    *value = 5;
                    close_from_three();
                    daemon = Some(Daemon::start());
                };
                let created = SegmentOptions::<u64>::new().create_in_place(&address, become_daemon);
                assert!(matches!(created, Err(Error::Os { .. })), "{created:?}");
                assert!(!address.exists());
                daemon.unwrap().check();

                let mut daemon = None;
                let options = SegmentOptions::new();
                let anonymous = options.anonymous_in_place("daemon", |value| {
                    *value = 5;
                    close_from_three();
                    daemon = Some(Daemon::start());
                });
                let anonymous = anonymous.unwrap();
                assert_eq!(*anonymous, 5);
                assert!(Segment::as_fd(&anonymous).is_none());
                drop(anonymous);
                daemon.unwrap().check();
            })
            .join();
        }
    }

    // Failure mode 36: the exception that `Segment` documents.
    fn closefrom_on_overlayfs_ends_the_attachment() {
        if !has_own_mounts_for("closefrom on overlayfs") {
            return;
        }
        let Some(overlay) = Stand::new().overlay("closefrom on overlayfs") else {
            return;
        };
        let address = format!("{overlay}/segment");
        let steps = Steps::new();
        let segment = transient().create(&address, Marked::new(1)).unwrap();
        let daemon = spawn(|| {
            let opened = Segment::<Marked>::open(&address).unwrap();
            close_from_three();
            let mut daemon = Daemon::start();
            steps.reach(1);
            steps.wait_for(2);
            opened.visit();
            drop(opened);
            daemon.check();
        });
        steps.wait_for(1);
        let mut both = [std::process::id(), daemon.pid()];
        both.sort_unstable();
        assert_eq!(Segment::attached_pids(&segment).unwrap(), both, "the mapping shows the daemon");
        drop(segment);
        let opened = Segment::<Marked>::open(&address);
        assert!(matches!(opened, Err(Error::NotFound { .. })), "the lock has ended with the descriptor");
        steps.reach(2);
        daemon.join();
    }

    // Failure mode 38.
    fn last_drop_without_free_descriptor_removes() {
        for address in files("full") {
            spawn(|| {
                let segment = transient().create(&address, Marked::new(1)).unwrap();
                let full = use_up_descriptors();
                drop(segment);
                drop(full);
                assert!(!address.exists());
            })
            .join();
        }
    }

    // Failure mode 38.
    fn drop_without_free_descriptor_respects_child() {
        for address in files("full-child") {
            let steps = Steps::new();
            spawn(|| {
                let segment = transient().create(&address, Marked::new(1)).unwrap();
                let child = spawn(|| {
                    steps.reach(1);
                    steps.wait_for(2);
                });
                steps.wait_for(1);
                let full = use_up_descriptors();
                drop(segment);
                drop(full);
                assert!(address.exists(), "the child is attached");
                steps.reach(2);
                child.join();
            })
            .join();
            assert!(address.exists());
            unlink(&address).unwrap();
        }
    }

    fn drop_keeps_name_of_another_object() {
        for address in files("other") {
            let segment = transient().create(&address, Marked::new(1)).unwrap();
            unlink(&address).unwrap();
            drop(Segment::create(&address, Marked::new(2)).unwrap());
            let full = use_up_descriptors();
            drop(segment);
            drop(full);
            assert_eq!(Segment::<Marked>::open(&address).unwrap().id(), 2);
        }
    }
}

fn use_up_descriptors() -> Vec<File> {
    let few = libc::rlimit {
        rlim_cur: 64,
        rlim_max: 4096,
    };
    // SAFETY: the struct is valid for reads during the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &few) }, 0);
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}
