//! System V segments only: keys from files, ids, no key at all, the kernel's status,
//! and containers that share the IPC namespace.

use std::ffi::CString;
use std::fs::File;
use std::process::id as own_pid;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{
    Child, Gate, TestFile, TestKey, can_populate_for, dead_owner, expect_poisoned, on_stage, spawn,
};
use nix::sched::{CloneFlags, unshare};
use shm_sync::{
    Address, Backing, Error, IfAbandoned, Removal, Residency, Segment, SegmentOptions, ShmMutex,
    SystemVStatus, Unsupported, inspect, unlink,
};

type Counter = ShmMutex<u64>;

/// Makes the next child of this process the first process of a new container. The
/// container shares the IPC namespace of this process.
fn enter_new_pid_namespace() {
    unshare(CloneFlags::CLONE_NEWPID).expect("`has_namespaces` has tried this");
}

/// Gives the test its own IPC namespace. Returns whether this process may create
/// containers.
fn has_namespaces(test: &str) -> bool {
    let has = unshare(CloneFlags::CLONE_NEWIPC).is_ok()
        && spawn(|| unshare(CloneFlags::CLONE_NEWPID).unwrap()).wait_succeeds();
    if !has {
        println!("skipped: namespaces are not permitted: {test}");
    }
    has
}

trait WaitSucceeds {
    fn wait_succeeds(self) -> bool;
}

impl WaitSucceeds for Child {
    fn wait_succeeds(mut self) -> bool {
        matches!(self.wait(), nix::sys::wait::WaitStatus::Exited(_, 0))
    }
}

/// Runs `body` as the first process of a new container.
fn container(body: impl FnOnce()) -> Child {
    spawn(|| {
        enter_new_pid_namespace();
        spawn(|| {
            assert_eq!(own_pid(), 1);
            body();
        })
        .join();
    })
}

/// Runs `body` in a container that has ended when this returns. Returns the container's
/// namespace, so that no later container gets the same number.
fn past_container(body: impl FnOnce()) -> File {
    let (there, go) = (Gate::new(), Gate::new());
    let container = spawn(|| {
        enter_new_pid_namespace();
        spawn(|| {
            there.open();
            go.pass();
            body();
        })
        .join();
    });
    there.pass();
    let namespace = format!("/proc/{}/ns/pid_for_children", container.pid());
    let namespace = File::open(namespace).unwrap();
    go.open();
    container.join();
    namespace
}

/// Creates a segment of two locks in a past container, which leaves the second one
/// held.
fn leave_behind(key: &str, options: &SegmentOptions<[Counter; 2]>) -> File {
    past_container(|| {
        let made = options
            .create(key, [Counter::new(5), Counter::new(6)])
            .unwrap();
        std::mem::forget(made[1].lock().unwrap());
        crate::support::exit_now(0);
    })
}

fn status(segment: &Segment<Counter>) -> SystemVStatus {
    let status = Segment::system_v_status(segment).unwrap();
    status.expect("the segment is a System V segment")
}

on_stage! {
    fn smoke() {
        let key = TestKey::new();
        let shared = Segment::create(&key, Counter::new(1)).unwrap();
        assert_eq!(Segment::backing(&shared), Backing::SystemV);
        assert!(Segment::as_fd(&shared).is_none());
        spawn(|| *Segment::<Counter>::open(&key).unwrap().lock().unwrap() += 1).join();
        assert_eq!(*shared.lock().unwrap(), 2);
        Segment::flush(&shared).unwrap();

        let file = TestFile::new("status");
        let other = Segment::create(&file, Counter::new(0)).unwrap();
        assert_eq!(Segment::system_v_status(&other).unwrap(), None);
    }

    fn ftok_key_equals_that_of_libc() {
        let path = TestFile::new("ftok");
        std::fs::write(&*path, "").unwrap();
        let address = Address::ftok(&*path, b'j').unwrap();
        let c_path = CString::new(&*path).unwrap();
        // SAFETY: the string ends with a NUL byte.
        let key = unsafe { libc::ftok(c_path.as_ptr(), i32::from(b'j')) };
        assert_eq!(address, Address::system_v(key).unwrap());
        assert_ne!(address, Address::ftok(&*path, b'k').unwrap());

        let shared = Segment::create(&address, Counter::new(0)).unwrap();
        assert_eq!(status(&shared).key, key);
        spawn(|| {
            let address = Address::ftok(&*path, b'j').unwrap();
            *Segment::<Counter>::open(&address).unwrap().lock().unwrap() += 1;
        })
        .join();
        assert_eq!(*shared.lock().unwrap(), 1);
        unlink(&address).unwrap();

        std::fs::remove_file(&*path).unwrap();
        assert!(matches!(Address::ftok(&*path, b'j'), Err(Error::Os { call: "ftok", .. })));
    }

    fn key_may_be_decimal_or_hexadecimal() {
        let key = TestKey::new();
        let _shared = Segment::create(&key, Counter::new(0)).unwrap();
        let number = key.number();
        for address in [format!("sysv:{number}"), format!("sysv:{number:#x}")] {
            assert!(Segment::<Counter>::open(&address).is_ok(), "{address}");
        }
        let address = Address::system_v(number).unwrap();
        assert_eq!(address.to_str(), Some(&*key));
        assert!(matches!(Address::system_v(0), Err(Error::InvalidName { .. })));
    }

    fn segment_without_key_is_found_by_id() {
        let shared = SegmentOptions::new().create_system_v_private(Counter::new(0)).unwrap();
        let address = Segment::address(&shared).unwrap().to_string();
        assert_eq!(address, format!("sysv:id:{}", status(&shared).id));
        assert_eq!(status(&shared).key, 0);
        spawn(|| {
            let theirs = Segment::<Counter>::open(&address).unwrap();
            *theirs.lock().unwrap() += 1;
            std::mem::forget(theirs.lock().unwrap());
        })
        .join();
        assert_eq!(*expect_poisoned(shared.lock()).into_inner(), 1);

        let created = Segment::create(&address, Counter::new(0));
        assert!(matches!(created, Err(Error::Unsupported { reason: Unsupported::CreationById, .. })));
        unlink(&address).unwrap();
        drop(shared);
        assert!(matches!(Segment::<Counter>::open(&address), Err(Error::NotFound { .. })));
        assert!(matches!(unlink(&address), Err(Error::NotFound { .. })));
    }

    fn status_matches_that_of_kernel() {
        let key = TestKey::new();
        let options = SegmentOptions::new().mode(0o640);
        // The kernel's clock for these times is one tick behind.
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let before = now.as_secs() as i64 - 1;
        let shared = options.create(&key, Counter::new(0)).unwrap();
        let first = status(&shared);
        assert_eq!(first.key, key.number());
        assert_eq!(first.owner, nix::unistd::Uid::effective().as_raw());
        assert_eq!(first.group, nix::unistd::Gid::effective().as_raw());
        assert_eq!(first.mode, 0o640);
        assert_eq!(first.size, Segment::mapped_len(&shared) as u64);
        assert_eq!(first.attached, 1);
        assert_eq!(u32::try_from(first.creator_pid), Ok(own_pid()));
        assert_eq!(u32::try_from(first.last_pid), Ok(own_pid()));
        assert!(first.attach_time >= before && first.change_time >= before);
        assert_eq!(first.detach_time, 0);
        assert!(!first.is_locked && !first.is_removed);

        let (attached, leave) = (Gate::new(), Gate::new());
        let opener = spawn(|| {
            let theirs = Segment::<Counter>::open(&key).unwrap();
            let attachments = status(&theirs).attached;
            assert_eq!(attachments, 3, "the parent, the inherited mapping and the child's own");
            attached.open();
            leave.pass();
        });
        attached.pass();
        let second = status(&shared);
        assert_eq!(second.attached, 3);
        assert_eq!(u32::try_from(second.last_pid), Ok(opener.pid()));
        assert_eq!(Segment::attached_pids(&shared).unwrap(), [own_pid(), opener.pid()]);
        leave.open();
        opener.join();
        let third = status(&shared);
        assert_eq!(third.attached, 1);
        assert!(third.detach_time >= before);
        assert_eq!(third.id, first.id);
    }

    fn attach_count_drops_when_process_is_killed() {
        let key = TestKey::new();
        let shared = Segment::create(&key, Counter::new(0)).unwrap();
        let attached = Gate::new();
        let mut opener = spawn(|| {
            let theirs = Segment::<Counter>::open(&key).unwrap();
            let _guard = theirs.lock().unwrap();
            attached.open();
            nix::unistd::pause();
        });
        attached.pass();
        assert_eq!(status(&shared).attached, 3);
        opener.kill();
        assert_eq!(status(&shared).attached, 1);
        assert_eq!(Segment::attached_pids(&shared).unwrap(), [own_pid()]);
        let cause = expect_poisoned(shared.lock()).cause();
        assert_eq!(dead_owner(cause), Some(opener.pid()));
    }

    fn removed_segment_ends_with_last_attachment() {
        let key = TestKey::new();
        let shared = Segment::create(&key, Counter::new(1)).unwrap();
        let id = status(&shared).id;
        let (removed, done) = (Gate::new(), Gate::new());
        let user = spawn(|| {
            let theirs = Segment::<Counter>::open(&key).unwrap();
            unlink(&key).unwrap();
            removed.open();
            done.pass();
            assert_eq!(*theirs.lock().unwrap(), 2, "the memory stays for attached processes");
        });
        removed.pass();
        let now = status(&shared);
        assert!(now.is_removed);
        assert_eq!((now.key, now.id), (0, id));
        assert!(matches!(Segment::<Counter>::open(&key), Err(Error::NotFound { .. })));
        *shared.lock().unwrap() += 1;

        // The key is free, and the next segment is another one.
        let next = Segment::create(&key, Counter::new(100)).unwrap();
        assert_ne!(status(&next).id, id);
        assert_eq!((*shared.lock().unwrap(), *next.lock().unwrap()), (2, 100));
        done.open();
        user.join();
        drop(shared);
        let by_id = Segment::<Counter>::open(format!("sysv:id:{id}"));
        assert!(matches!(by_id, Err(Error::NotFound { .. })), "the memory is freed");
        assert_eq!(*Segment::<Counter>::open(&key).unwrap().lock().unwrap(), 100);
    }

    fn segment_can_be_locked_in_memory() {
        if !can_populate_for("segment_can_be_locked_in_memory") {
            return;
        }
        let key = TestKey::new();
        let shared = Segment::create(&key, Counter::new(0)).unwrap();
        assert!(!status(&shared).is_locked);
        let options = SegmentOptions::new().residency(Residency::Locked);
        let locked = options.open(&key).unwrap();
        assert!(status(&locked).is_locked);
        drop(locked);
        assert!(status(&shared).is_locked, "the lock is a property of the segment");
    }

    fn container_restart_keeps_data() {
        if !has_namespaces("container_restart_keeps_data") {
            return;
        }
        for removal in [Removal::Persistent, Removal::UntilLastDetach] {
            let key = TestKey::new();
            let options = SegmentOptions::new().removal(removal);
            let _past = leave_behind(&key, &options);
            let again = container(|| {
                let opened = Segment::open_or_create(&key, || [Counter::new(0), Counter::new(0)]);
                let opened = opened.unwrap();
                assert_eq!(*opened[0].lock().unwrap(), 5);
                let poisoned = expect_poisoned(opened[1].lock());
                assert_eq!(*poisoned.recover(|_| {}), 6);
                // After that, the segment behaves as in one container.
                let mut dead = spawn(|| {
                    let theirs = Segment::<[Counter; 2]>::open(&key).unwrap();
                    std::mem::forget(theirs[0].lock().unwrap());
                    crate::support::die();
                });
                dead.wait();
                drop(expect_poisoned(opened[0].lock()));
                let object = inspect::object(&key.parse().unwrap()).unwrap();
                let epoch = object.content.segment().unwrap().epoch;
                assert_eq!(epoch, inspect::Epoch::Current);
                drop(opened);
                let left = Segment::<[Counter; 2]>::open(&key);
                match removal {
                    Removal::UntilLastDetach => assert!(matches!(left, Err(Error::NotFound { .. }))),
                    _ => drop(left.unwrap()),
                }
            });
            again.join();
        }
    }

    fn segment_of_past_container_is_removable() {
        if !has_namespaces("segment_of_past_container_is_removable") {
            return;
        }
        let key = TestKey::new();
        let options = SegmentOptions::new();
        let _past = leave_behind(&key, &options);
        container(|| inspect::remove(&key.parse().unwrap()).unwrap()).join();
        assert!(matches!(unlink(&key), Err(Error::NotFound { .. })));

        let _past = leave_behind(&key, &options);
        container(|| {
            let anew = SegmentOptions::new().if_abandoned(IfAbandoned::Recreate);
            let made = anew.create(&key, Counter::new(7)).unwrap();
            assert_eq!(*made.lock().unwrap(), 7);
        })
        .join();

        // Segments of a creator and of a detaching process that died with their
        // container.
        for state in [1_u32, 3] {
            let _ = unlink(&key);
            let _past = leave_behind(&key, &options);
            overwrite(&key, 192, &state.to_le_bytes());
            container(|| {
                let made = Segment::open_or_create(&key, || [Counter::new(8), Counter::new(8)]);
                let expected = if state == 1 { 8 } else { 5 };
                assert_eq!(*made.unwrap()[0].lock().unwrap(), expected);
            })
            .join();
        }
    }

    fn segment_used_in_other_container_is_refused() {
        if !has_namespaces("segment_used_in_other_container_is_refused") {
            return;
        }
        let key = TestKey::new();
        let (there, go) = (Gate::new(), Gate::new());
        let first = container(|| {
            let made = Segment::create(&key, Counter::new(1)).unwrap();
            let guard = made.lock().unwrap();
            there.open();
            go.pass();
            drop(guard);
            // Other processes of this container can open the segment.
            drop(Segment::<Counter>::open(&key).unwrap());
            *made.lock().unwrap() += 1;
            there.open();
            go.pass();
        });
        there.pass();
        let refused = || {
            container(|| {
                let begun = Instant::now();
                let opened = Segment::<Counter>::open(&key);
                assert!(matches!(opened, Err(Error::ForeignPidNamespace { .. })), "{opened:?}");
                assert!(begun.elapsed() < Duration::from_secs(5));
                let removed = inspect::remove(&key.parse().unwrap());
                assert!(matches!(removed, Err(Error::InUse { .. })), "{removed:?}");
                let anew = SegmentOptions::new().if_abandoned(IfAbandoned::Recreate);
                let made = anew.create(&key, Counter::new(0));
                assert!(matches!(made, Err(Error::AlreadyExists { .. })), "{made:?}");
                assert!(Segment::<Counter>::open_read_only(&key).is_ok());
            })
            .join();
        };
        refused();
        go.open();
        there.pass();
        refused();
        go.open();
        first.join();
        container(|| {
            let opened = Segment::<Counter>::open(&key).unwrap();
            assert_eq!(*opened.lock().unwrap(), 2);
        })
        .join();
    }

    fn concurrent_openers_form_one_group() {
        const OPENERS: u32 = 5;
        const ROUNDS: u64 = 6;
        if !has_namespaces("concurrent_openers_form_one_group") {
            return;
        }
        for _ in 0..ROUNDS {
            let key = TestKey::new();
            let _past = leave_behind(&key, &SegmentOptions::new());
            let ready = Segment::anonymous(AtomicU32::new(0)).unwrap();
            container(|| {
                let all: Vec<_> = (0..OPENERS)
                    .map(|_| {
                        spawn(|| {
                            ready.fetch_add(1, Ordering::SeqCst);
                            while ready.load(Ordering::SeqCst) < OPENERS {
                                std::hint::spin_loop();
                            }
                            let opened = Segment::<[Counter; 2]>::open(&key).unwrap();
                            for _ in 0..1000 {
                                *opened[0].lock().unwrap() += 1;
                            }
                        })
                    })
                    .collect();
                all.into_iter().for_each(Child::join);
                let opened = Segment::<[Counter; 2]>::open(&key).unwrap();
                assert_eq!(*opened[0].lock().unwrap(), 5 + 1000 * u64::from(OPENERS));
            })
            .join();
        }
    }

    fn racing_containers_exclude_each_other() {
        const TIME: Duration = Duration::from_secs(3);
        if !has_namespaces("racing_containers_exclude_each_other") {
            return;
        }
        let key = TestKey::new();
        drop(Segment::create(&key, Counter::new(0)).unwrap());
        // The number of users in each container. At most one of them is not 0.
        let users = Segment::anonymous([const { AtomicU64::new(0) }; 2]).unwrap();
        let times = Segment::anonymous([const { AtomicU64::new(0) }; 2]).unwrap();
        let containers: Vec<_> = (0..2)
            .map(|which: usize| {
                let (users, times, key) = (&users, &times, &key);
                container(move || {
                    let all: Vec<_> = (0..2)
                        .map(|_| {
                            spawn(|| {
                                let begun = Instant::now();
                                while begun.elapsed() < TIME {
                                    let opened = match Segment::<Counter>::open(key) {
                                        Ok(opened) => opened,
                                        Err(Error::ForeignPidNamespace { .. }) => continue,
                                        Err(other) => panic!("{other:?}"),
                                    };
                                    users[which].fetch_add(1, Ordering::SeqCst);
                                    *opened.lock().unwrap() += 1;
                                    let others = users[1 - which].load(Ordering::SeqCst);
                                    assert_eq!(others, 0, "both containers are inside");
                                    times[which].fetch_add(1, Ordering::SeqCst);
                                    users[which].fetch_sub(1, Ordering::SeqCst);
                                    drop(opened);
                                }
                            })
                        })
                        .collect();
                    all.into_iter().for_each(Child::join);
                })
            })
            .collect();
        containers.into_iter().for_each(Child::join);
        let times = [0, 1].map(|which| times[which].load(Ordering::SeqCst));
        println!("entries by container: {times:?}");
        assert!(times[0] + times[1] > 0);
        let opened = Segment::<Counter>::open(&key).unwrap();
        assert_eq!(*opened.lock().unwrap(), times[0] + times[1]);
    }
}

/// Overwrites some bytes of the segment with this key.
fn overwrite(key: &TestKey, at: usize, bytes: &[u8]) {
    // SAFETY: the call takes and returns only numbers.
    let id = unsafe { libc::shmget(key.number(), 0, 0) };
    // SAFETY: the kernel chooses the address.
    let base: *mut u8 = unsafe { libc::shmat(id, std::ptr::null(), 0) }.cast();
    assert_ne!(base.addr(), usize::MAX);
    // SAFETY: the offset is inside the header of the attached segment.
    let to = unsafe { base.add(at) };
    // SAFETY: the header has room for the bytes, and the source does not overlap.
    unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    // SAFETY: `base` was attached above, and is not used again.
    unsafe { libc::shmdt(base.cast()) };
}
