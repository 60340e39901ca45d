//! Segments and locks across containers: other pid namespaces, a chroot, a `/proc` that
//! is partial or missing, and a `/dev/shm` that is full.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::{
    Child, Gate, TestFile, TestKey, TestName, become_nobody, dead_owner, expect_poisoned,
    is_root_for, on_stage, seccomp, spawn,
};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use shm_sync::{
    Error, IdentityError, IfAbandoned, LockError, Removal, Segment, SegmentOptions, ShmMutex,
    inspect,
};

type Counter = ShmMutex<u64>;
/// Two counters. One is held when a container is killed.
type Counters = [Counter; 2];

on_stage! {
    // Where namespaces are not permitted, the tests below have nothing to refuse.
    fn smoke() {
        spawn(|| {
            if enter_new_pid_namespace() {
                spawn(|| assert_eq!(std::process::id(), 1)).join();
            }
        })
        .join();
    }

    // Failure mode 16.
    fn foreign_pid_namespace_is_refused() {
        let name = TestName::new("namespace");
        let shared = Segment::create(&name, Counter::new(0)).unwrap();
        let anonymous = Segment::anonymous(Counter::new(0)).unwrap();
        drop(shared.lock().unwrap());
        let container = spawn(|| {
            if !enter_new_pid_namespace() {
                return;
            }
            // The caller of `unshare` stays in its namespace. Its children do not.
            drop(shared.lock().unwrap());
            spawn(|| {
                assert_eq!(std::process::id(), 1);
                let opened = Segment::<Counter>::open(&name);
                assert!(matches!(opened, Err(Error::ForeignPidNamespace { .. })));
                // The child has the mappings and the identity from before the fork.
                // Neither permits a lock.
                for lock in [&*shared, &*anonymous] {
                    assert!(matches!(lock.lock(), Err(LockError::ForeignPidNamespace)));
                    assert!(matches!(lock.try_lock(), Err(LockError::ForeignPidNamespace)));
                    assert!(matches!(
                        lock.try_lock_for(Duration::from_secs(30)),
                        Err(LockError::ForeignPidNamespace)
                    ));
                }
                // A segment of the new namespace is usable.
                let own = Segment::anonymous(Counter::new(0)).unwrap();
                *own.lock().unwrap() += 1;
            })
            .join();
        });
        container.join();
        assert!(!shared.is_poisoned());
        drop(shared.lock().unwrap());
    }

    // Failure mode 16. Both processes have the id 1 in their containers.
    fn containers_never_share_a_lock() {
        let name = TestName::new("containers");
        let inside = Segment::anonymous(AtomicU64::new(0)).unwrap();
        let created = Gate::new();
        let refused = Gate::new();
        let locked = Gate::new();
        let container = |body: &dyn Fn()| {
            spawn(|| {
                if enter_new_pid_namespace() {
                    spawn(body).join();
                } else {
                    // Without namespaces there is nothing to refuse.
                    created.open();
                    refused.open();
                    locked.open();
                }
            })
        };
        let first = container(&|| {
            let shared = Segment::create(&name, Counter::new(0)).unwrap();
            let _guard = shared.lock().unwrap();
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            created.open();
            refused.pass();
            assert_eq!(inside.load(Ordering::SeqCst), 1, "another process is inside");
        });
        created.pass();
        let second = container(&|| {
            match Segment::<Counter>::open(&name) {
                Err(Error::ForeignPidNamespace { .. }) => {}
                Ok(shared) => {
                    let _guard = shared.lock().unwrap();
                    inside.fetch_add(1, Ordering::SeqCst);
                }
                Err(other) => panic!("{other:?}"),
            }
            refused.open();
        });
        second.join();
        first.join();
    }

    // The container is killed as a whole, and starts again in a new namespace.
    fn restarted_container_finds_data_and_poison() {
        let (name, file) = (TestName::new("restart"), TestFile::new("restart"));
        for address in [&*name, &*file] {
            let Some(killed) = create_in_killed_container(address) else {
                return;
            };
            let second = spawn_container(|| {
                let shared = Segment::<Counters>::open(address).unwrap();
                let poisoned = expect_poisoned(shared[0].lock());
                assert_eq!(**poisoned.get_ref(), 70, "half-changed");
                assert_eq!(dead_owner(poisoned.cause()), Some(1));
                drop(poisoned.recover(|count| *count += 1));
                assert_eq!(*shared[1].lock().unwrap(), 8);
                // The locks belong to this namespace now, and are robust in it.
                spawn(|| {
                    let mine = Segment::<Counters>::open(address).unwrap();
                    let _guard = mine[1].lock().unwrap();
                    crate::support::die()
                })
                .wait();
                drop(expect_poisoned(shared[1].lock()).recover(|count| *count += 1));
            });
            second.unwrap().join();
            drop(killed);
            let shared = Segment::<Counters>::open(address).unwrap();
            assert_eq!(*shared[0].lock().unwrap(), 71);
            assert_eq!(*shared[1].lock().unwrap(), 9);
        }
    }

    // The kernel may reuse the number of a namespace that has ended.
    fn reused_namespace_number_keeps_owner_death() {
        let (name, file) = (TestName::new("number"), TestFile::new("number"));
        for (address, path) in [(&*name, name.path()), (&*file, file.to_string())] {
            if create_in_killed_container(address).is_none() {
                return;
            }
            let second = spawn_container(|| {
                renumber_namespace(&path);
                let shared = Segment::<Counters>::open(address).unwrap();
                let poisoned = expect_poisoned(shared[0].try_lock());
                assert_eq!(dead_owner(poisoned.cause()), Some(1));
                drop(poisoned);
                assert_eq!(*shared[1].try_lock().unwrap(), 8);
            });
            second.unwrap().join();
        }
    }

    fn recreation_works_from_other_namespace() {
        let (name, file) = (TestName::new("recreate"), TestFile::new("recreate"));
        for address in [&*name, &*file] {
            let Some(_killed) = create_in_killed_container(address) else {
                return;
            };
            let anew = || {
                let options = Segment::<Counters>::options().if_abandoned(IfAbandoned::Recreate);
                options.create(address, [Counter::new(1), Counter::new(2)])
            };
            let second = spawn_container(|| {
                let shared = anew().unwrap();
                assert_eq!(*shared[0].try_lock().unwrap(), 1);
                // The object stays while a process is attached.
                let third = spawn_container(|| {
                    assert!(matches!(anew(), Err(Error::AlreadyExists { .. })));
                });
                third.unwrap().join();
            });
            second.unwrap().join();
        }
    }

    // A mapping keeps the open file description, and with it the OFD lock.
    fn daemon_with_closed_files_stays_attached() {
        let (name, file) = (TestName::new("closed"), TestFile::new("closed"));
        let closed = Segment::anonymous(AtomicU64::new(0)).unwrap();
        let directory = nix::sys::statfs::statfs(&std::env::temp_dir()).unwrap();
        let addresses = match directory.filesystem_type() {
            nix::sys::statfs::OVERLAYFS_SUPER_MAGIC => {
                println!("skipped for a file, because an overlay maps the file below it");
                vec![&*name]
            }
            _ => vec![&*name, &*file],
        };
        for (number, address) in addresses.into_iter().enumerate() {
            let daemon = spawn_container(|| {
                let shared = Segment::create(address, Counter::new(7)).unwrap();
                let _held = shared.lock().unwrap();
                // SAFETY: the process uses none of the closed descriptors: it waits
                // until it is killed, and runs no destructor.
                unsafe { crate::support::close_from_three() };
                closed.fetch_add(1, Ordering::SeqCst);
                nix::unistd::pause();
            });
            let Some(mut daemon) = daemon else {
                return;
            };
            crate::support::poll(|| closed.load(Ordering::SeqCst) > number as u64);
            let opened = Segment::<Counter>::open(address);
            assert!(matches!(opened, Err(Error::ForeignPidNamespace { .. })), "{opened:?}");
            daemon.kill();
            drop(expect_poisoned(Segment::<Counter>::open(address).unwrap().lock()));
        }
    }

    // The old namespace is that of this test. Processes of two new ones open the object
    // at the same time.
    fn simultaneous_containers_never_mix() {
        const GROUPS: usize = 3;
        const OPENERS: usize = 3;
        const ROUNDS: usize = 25;
        let inside = Segment::anonymous([const { AtomicU64::new(0) }; GROUPS]).unwrap();
        let opened = Segment::anonymous([const { AtomicU64::new(0) }; GROUPS]).unwrap();
        for round in 0..ROUNDS {
            let name = TestName::new("at-once");
            drop(Segment::create(&name, ShmMutex::new((0_u64, 0_u64))).unwrap());
            opened.iter().for_each(|count| count.store(0, Ordering::SeqCst));
            let start = Gate::new();
            let open_and_use = |group: usize| {
                start.pass();
                let shared = match Segment::<ShmMutex<(u64, u64)>>::open(&name) {
                    Ok(shared) => shared,
                    Err(Error::ForeignPidNamespace { .. }) => return,
                    Err(other) => panic!("{other:?}"),
                };
                opened[group].fetch_add(1, Ordering::SeqCst);
                for _ in 0..100 {
                    let mut pair = shared.lock().unwrap();
                    inside[group].fetch_add(1, Ordering::SeqCst);
                    let all: u64 = inside.iter().map(|one| one.load(Ordering::SeqCst)).sum();
                    assert_eq!(all, 1, "two processes hold the lock");
                    pair.0 += 1;
                    assert_eq!(pair.0, pair.1 + 1);
                    pair.1 += 1;
                    inside[group].fetch_sub(1, Ordering::SeqCst);
                }
            };
            let openers = |group: usize| -> Vec<Child> {
                (0..OPENERS).map(|_| spawn(|| open_and_use(group))).collect()
            };
            let mut children = Vec::new();
            for group in 1..GROUPS {
                let container = spawn_container(|| {
                    openers(group).into_iter().for_each(Child::join);
                });
                let Some(container) = container else {
                    return;
                };
                children.push(container);
            }
            children.extend(openers(0));
            (0..GROUPS * OPENERS).for_each(|_| start.open());
            children.into_iter().for_each(Child::join);
            let count = |group: usize| opened[group].load(Ordering::SeqCst);
            let all: u64 = (0..GROUPS).map(count).sum();
            assert!(all > 0, "round {round}: every opener was refused");
            let last = Segment::<ShmMutex<(u64, u64)>>::open(&name).unwrap();
            assert_eq!(*last.lock().unwrap(), (all * 100, all * 100));
        }
    }

    // A daemon opens a segment, changes its root, drops its privileges, and forks
    // workers.
    fn chroot_without_proc_can_lock() {
        if !is_root_for("chroot") || !kernel_reports_namespaces_without_proc() {
            return;
        }
        let name = TestName::new("chroot");
        let named = Segment::create(&name, Counter::new(0)).unwrap();
        let anonymous = Segment::anonymous(Counter::new(0)).unwrap();
        spawn(|| {
            drop(named.lock().unwrap());
            enter_empty_root();
            become_nobody();
            spawn(|| {
                for lock in [&*named, &*anonymous] {
                    *lock.lock().unwrap() += 1;
                }
                // One worker's parent has locked before, and another worker's has not.
                spawn(|| *named.lock().unwrap() += 1).join();
                spawn(|| spawn(|| *named.lock().unwrap() += 1).join()).join();
                let own = Segment::anonymous(Counter::new(0)).unwrap();
                drop(own.lock().unwrap());
            })
            .join();
        })
        .join();
        assert_eq!(*named.lock().unwrap(), 3);
        assert_eq!(*anonymous.lock().unwrap(), 1);
    }

    // The namespace of the parent says nothing about the child.
    fn container_in_chroot_is_refused() {
        if !is_root_for("chroot") || !kernel_reports_namespaces_without_proc() {
            return;
        }
        let shared = Segment::anonymous(Counter::new(0)).unwrap();
        spawn(|| {
            drop(shared.lock().unwrap());
            enter_empty_root();
            unshare(CloneFlags::CLONE_NEWPID).unwrap();
            let refused = || {
                let locked = shared.lock();
                assert!(matches!(locked, Err(LockError::ForeignPidNamespace)), "{locked:?}");
            };
            spawn(|| {
                spawn(refused).join();
                refused();
            })
            .join();
        })
        .join();
    }

    // Linux before 6.11, imitated by a filter of system calls. The result must be an
    // error.
    fn old_kernel_needs_proc() {
        if !is_root_for("chroot") {
            return;
        }
        let shared = Segment::anonymous(Counter::new(0)).unwrap();
        spawn(|| {
            drop(shared.lock().unwrap());
            seccomp::refuse(libc::SYS_pidfd_open, libc::ENOSYS);
            spawn(|| *shared.lock().unwrap() += 1).join();
            enter_empty_root();
            // The process that has locked before continues.
            *shared.lock().unwrap() += 1;
            spawn(|| {
                let error = shared.lock().unwrap_err();
                assert!(matches!(
                    &error,
                    LockError::Unidentified(IdentityError::NoPidNamespace(_))
                ));
                let text = error.to_string();
                assert!(text.contains("/proc/self/ns/pid") && text.contains("6.11"), "{text}");
            })
            .join();
        })
        .join();
        assert_eq!(*shared.lock().unwrap(), 2);
    }

    // `ProcSubset=pid` of systemd.
    fn proc_of_pids_suffices_in_memory() {
        let (name, file) = (TestName::new("subset"), TestFile::new("subset"));
        let outside = Segment::create(&name, Counter::new(0)).unwrap();
        let on_disk = Segment::create(&file, Counter::new(7)).unwrap();
        spawn(|| {
            if !enter_private_mounts()
                || mount(c"proc", c"/proc", Some(c"proc"), 0, Some("subset=pid")).is_err()
            {
                println!("skipped, because /proc cannot be mounted");
                return;
            }
            // Next to a segment of a process that knows the boot.
            *Segment::<Counter>::open(&name).unwrap().lock().unwrap() += 1;
            *outside.lock().unwrap() += 1;
            check_memory_backings();
            check_disk_is_refused(&file);
        })
        .join();
        let count = *outside.lock().unwrap();
        assert!(count == 2 || count == 0, "{count}");
        drop(on_disk);
    }

    fn missing_proc_suffices_in_memory() {
        if !kernel_reports_namespaces_without_proc() {
            return;
        }
        let file = TestFile::new("no-proc");
        let _on_disk = Segment::create(&file, Counter::new(7)).unwrap();
        spawn(|| {
            if !enter_private_mounts() || unmount(c"/proc").is_err() {
                println!("skipped, because /proc cannot be unmounted");
                return;
            }
            check_memory_backings();
            // An ordinary user needs no privilege.
            spawn(|| {
                become_nobody();
                check_memory_backings();
            })
            .join();
            check_disk_is_refused(&file);
        })
        .join();
    }

    fn missing_or_read_only_shm_is_named() {
        let mounts: [(&std::ffi::CStr, libc::c_ulong, Errno); 2] = [
            (c"/dev/shm", libc::MS_RDONLY, Errno::EROFS),
            // An empty file system over all of `/dev`.
            (c"/dev", 0, Errno::ENOENT),
        ];
        for (target, flags, errno) in mounts {
            spawn(|| {
                if !enter_private_mounts()
                    || mount(c"tmpfs", target, Some(c"tmpfs"), flags, None).is_err()
                {
                    println!("skipped, because a file system cannot be mounted");
                    return;
                }
                let refused = Segment::create(TestName::new("no-shm"), Counter::new(0));
                let error = refused.unwrap_err();
                let Error::Os { call, source, .. } = &error else {
                    panic!("{error:?}");
                };
                assert!(call.starts_with("open(") && call.ends_with(" in /dev/shm"), "{call}");
                assert_eq!(source.raw_os_error(), Some(errno as i32));
                let anonymous = Segment::anonymous(Counter::new(0)).unwrap();
                drop(anonymous.lock().unwrap());
            })
            .join();
        }
    }

    // Failure mode 24.
    fn full_file_system_is_an_error() {
        if !enter_private_shm("size=64k") {
            println!("not run, because a private /dev/shm needs mount namespaces");
            return;
        }
        let small = TestName::new("small");
        let _small = Segment::create(&small, Counter::new(0)).unwrap();
        let large = TestName::new("large");
        match Segment::create(&large, [0_u8; 100_000]) {
            Err(Error::NoSpace { bytes, .. }) => assert!(bytes > 100_000),
            other => panic!("{:?}", other.map(|_| ())),
        }
        assert!(matches!(Segment::<[u8; 100_000]>::open(&large), Err(Error::NotFound { .. })));
        // The failed creation reserved no memory.
        let _next = Segment::create(&large, [0_u8; 20_000]).unwrap();
    }
}

/// Forks the first process of a new container. Returns `None` if that is not permitted.
fn spawn_container(body: impl FnOnce()) -> Option<Child> {
    let own_namespace = File::open("/proc/self/ns/pid").unwrap();
    if let Err(error) = unshare(CloneFlags::CLONE_NEWPID) {
        println!("skipped, because a new pid namespace is not permitted: {error}");
        return None;
    }
    let child = spawn(body);
    setns(own_namespace, CloneFlags::CLONE_NEWPID).unwrap();
    Some(child)
}

/// Creates the counters 7 and 8 in a container, changes the first one to 70, and kills
/// the container while that lock is held. Returns a file that keeps the kernel from
/// reusing the number of the namespace.
fn create_in_killed_container(address: &str) -> Option<File> {
    let locked = Gate::new();
    let mut container = spawn_container(|| {
        let counters = [Counter::new(7), Counter::new(8)];
        let shared = Segment::create(address, counters).unwrap();
        let mut held = shared[0].lock().unwrap();
        *held = 70;
        locked.open();
        nix::unistd::pause();
    })?;
    locked.pass();
    let namespace = File::open(format!("/proc/{}/ns/pid", container.pid())).unwrap();
    // While the container lives, processes of other namespaces are refused.
    let refused = || {
        let opened = Segment::<Counters>::open(address);
        assert!(
            matches!(opened, Err(Error::ForeignPidNamespace { .. })),
            "{opened:?}"
        );
    };
    refused();
    spawn_container(refused).unwrap().join();
    container.kill();
    Some(namespace)
}

/// Writes the number of this pid namespace into the header and the locks of the
/// counters.
fn renumber_namespace(path: &str) {
    const IN_HEADER: u64 = 20;
    const VALUE_OFFSET: std::ops::Range<usize> = 32..40;
    const IN_LOCK: u64 = size_of::<ShmMutex<()>>() as u64 - 8;
    let own_namespace = std::fs::metadata("/proc/self/ns/pid").unwrap().ino();
    let own_namespace = u32::try_from(own_namespace).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let value = u64::from_le_bytes(bytes[VALUE_OFFSET].try_into().unwrap());
    let second = value + size_of::<Counter>() as u64;
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&own_namespace.to_le_bytes(), IN_HEADER)
        .unwrap();
    for lock in [value, second] {
        let at = lock + IN_LOCK;
        let was = &bytes[usize::try_from(at).unwrap()..][..4];
        assert_eq!(
            was,
            &bytes[IN_HEADER as usize..][..4],
            "the namespace is at another offset"
        );
        file.write_all_at(&own_namespace.to_ne_bytes(), at).unwrap();
    }
}

/// Creates, opens and uses segments of every backing that no boot outlives.
fn check_memory_backings() {
    let name = TestName::new("memory");
    let options = Segment::<Counter>::options().removal(Removal::UntilLastDetach);
    let created = options.create(&name, Counter::new(0)).unwrap();
    *created.lock().unwrap() += 1;
    assert_eq!(*Segment::<Counter>::open(&name).unwrap().lock().unwrap(), 1);
    drop(created);
    let missing = Segment::<Counter>::open(TestName::new("missing"));
    assert!(matches!(missing, Err(Error::NotFound { .. })));
    let either = Segment::open_or_create(&TestName::new("either"), || Counter::new(0)).unwrap();
    drop(either.lock().unwrap());

    let anonymous = Segment::anonymous(Counter::new(5)).unwrap();
    let file = Segment::as_fd(&anonymous)
        .unwrap()
        .try_clone_to_owned()
        .unwrap();
    let again: Segment<Counter> = SegmentOptions::new().from_fd(file).unwrap();
    spawn(|| *again.lock().unwrap() += 1).join();
    assert_eq!(*anonymous.lock().unwrap(), 6);

    let key = TestKey::new();
    let system_v = Segment::create(&key, Counter::new(0)).unwrap();
    *Segment::<Counter>::open(&key).unwrap().lock().unwrap() += 1;
    assert_eq!(*system_v.lock().unwrap(), 1);
}

/// Returns whether the files of the tests have no disk that a boot outlives.
fn has_files_in_memory() -> bool {
    let directory = nix::sys::statfs::statfs(&std::env::temp_dir()).unwrap();
    directory.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC
}

/// Checks that files are refused, because their boot is unknown.
fn check_disk_is_refused(existing: &str) {
    if has_files_in_memory() {
        println!("not run, because {existing} is in memory: a refused disk");
        return;
    }
    let text = |result: Result<Segment<Counter>, Error>| result.unwrap_err().to_string();
    let other = TestFile::new("other");
    for refused in [
        text(Segment::open(existing)),
        text(Segment::create(&other, Counter::new(0))),
        text(Segment::open_or_create(&other, || Counter::new(0))),
    ] {
        assert!(
            refused.contains("/proc/sys/kernel/random/boot_id"),
            "{refused}"
        );
    }
    assert!(!std::path::Path::new(&*other).exists());
    // The tool reports an error as well, because it cannot read the processes.
    let listed = inspect::objects(inspect::Scope::Segments).unwrap_err();
    assert!(
        matches!(&listed, Error::Os { call, .. } if call.contains("/proc")),
        "{listed:?}"
    );
    // A read-only segment needs no lock.
    let reader = Segment::<Counter>::open_read_only(existing).unwrap();
    assert_eq!(reader.view().peek(), 7);
}

/// Returns whether the kernel has `PIDFD_GET_PID_NAMESPACE`.
pub(crate) fn kernel_reports_namespaces_without_proc() -> bool {
    let release = nix::sys::utsname::uname().unwrap();
    let release = release.release().to_str().unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    if version < (6, 11) {
        println!("skipped, because Linux before 6.11 shows a namespace only in /proc");
    }
    version >= (6, 11)
}

/// Changes the root to a directory without `/proc`.
fn enter_empty_root() {
    let root = std::env::temp_dir().join(format!("shm-sync-test-root-{}", std::process::id()));
    std::fs::create_dir(&root).unwrap();
    let opened = File::open(&root).unwrap();
    nix::unistd::chdir(&root).unwrap();
    std::fs::remove_dir(&root).unwrap();
    nix::unistd::chroot(".").unwrap();
    drop(opened);
    assert!(std::fs::metadata("/proc").is_err());
}

/// Gives this process its own mounts.
fn enter_private_mounts() -> bool {
    unshare(CloneFlags::CLONE_NEWNS).is_ok()
        && mount(c"none", c"/", None, libc::MS_REC | libc::MS_PRIVATE, None).is_ok()
}

fn unmount(target: &std::ffi::CStr) -> nix::Result<()> {
    // SAFETY: the argument is a C string that outlives the call.
    let rc = unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    Errno::result(rc).map(drop)
}

/// Makes the children of this process the first of a new container. Returns whether
/// that is permitted.
fn enter_new_pid_namespace() -> bool {
    let entered = unshare(CloneFlags::CLONE_NEWPID)
        .or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID));
    if let Err(error) = entered {
        println!("not run, because a new pid namespace is not permitted: {error}");
    }
    entered.is_ok()
}

/// Gives this process its own `/dev/shm`.
fn enter_private_shm(options: &str) -> bool {
    let entered = unshare(CloneFlags::CLONE_NEWNS)
        .or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS));
    entered.is_ok()
        && mount(c"none", c"/", None, libc::MS_REC | libc::MS_PRIVATE, None).is_ok()
        && mount(c"tmpfs", c"/dev/shm", Some(c"tmpfs"), 0, Some(options)).is_ok()
}

fn mount(
    source: &std::ffi::CStr,
    target: &std::ffi::CStr,
    kind: Option<&std::ffi::CStr>,
    flags: libc::c_ulong,
    options: Option<&str>,
) -> nix::Result<()> {
    let options = options.map(|text| std::ffi::CString::new(text).unwrap());
    let pointer = |text: Option<&std::ffi::CStr>| text.map_or(std::ptr::null(), |t| t.as_ptr());
    // SAFETY: every argument is null or a C string that outlives the call.
    let rc = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            pointer(kind),
            flags,
            pointer(options.as_deref()).cast(),
        )
    };
    Errno::result(rc).map(drop)
}
