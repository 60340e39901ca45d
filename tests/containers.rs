//! Segments and locks across containers: other pid namespaces, and a `/dev/shm`
//! that is full.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Gate, TestName, on_stage, spawn};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use shm_sync::{Error, LockError, Segment, ShmMutex};

type Counter = ShmMutex<u64>;

on_stage! {
    // Where namespaces can't be had, the tests below have nothing to refuse.
    fn smoke() {
        spawn(|| {
            if enter_new_pid_namespace() {
                spawn(|| assert_eq!(std::process::id(), 1)).join();
            }
        })
        .join();
    }

    // Failure mode 16.
    fn another_pid_namespace_is_refused() {
        let name = TestName::new("namespace");
        let shared = Segment::create(&name, Counter::new(0)).unwrap();
        let anonymous = Segment::anonymous(Counter::new(0)).unwrap();
        drop(shared.lock().unwrap());
        let container = spawn(|| {
            if !enter_new_pid_namespace() {
                return;
            }
            // The caller of unshare stays where it was; its children do not.
            drop(shared.lock().unwrap());
            spawn(|| {
                assert_eq!(std::process::id(), 1);
                let opened = Segment::<Counter>::open(&name);
                assert!(matches!(opened, Err(Error::ForeignPidNamespace)));
                // Mappings and the identity came over the fork. Neither helps.
                for lock in [&*shared, &*anonymous] {
                    assert!(matches!(lock.lock(), Err(LockError::ForeignPidNamespace)));
                    assert!(matches!(lock.try_lock(), Err(LockError::ForeignPidNamespace)));
                    assert!(matches!(
                        lock.try_lock_for(Duration::from_secs(30)),
                        Err(LockError::ForeignPidNamespace)
                    ));
                }
                // What it makes itself, it may use.
                let own = Segment::anonymous(Counter::new(0)).unwrap();
                *own.lock().unwrap() += 1;
            })
            .join();
        });
        container.join();
        assert!(!shared.is_poisoned());
        drop(shared.lock().unwrap());
    }

    // Failure mode 16: both are process 1 of their containers.
    fn two_containers_never_both_get_in() {
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
            assert_eq!(inside.load(Ordering::SeqCst), 1, "somebody else is inside");
        });
        created.pass();
        let second = container(&|| {
            match Segment::<Counter>::open(&name) {
                Err(Error::ForeignPidNamespace) => {}
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

    // Failure mode 24.
    fn a_full_file_system_is_an_error_and_not_a_sigbus() {
        if !enter_private_shm("size=64k") {
            println!("not run: a private /dev/shm needs mount namespaces");
            return;
        }
        let small = TestName::new("small");
        let _small = Segment::create(&small, Counter::new(0)).unwrap();
        let large = TestName::new("large");
        match Segment::create(&large, [0_u8; 100_000]) {
            Err(Error::NoSpace { bytes }) => assert!(bytes > 100_000),
            other => panic!("{:?}", other.map(|_| ())),
        }
        assert!(matches!(Segment::<[u8; 100_000]>::open(&large), Err(Error::NotFound)));
        // What failed took nothing.
        let _next = Segment::create(&large, [0_u8; 20_000]).unwrap();
    }
}

/// Makes the children of this process the first of a new container. Whether
/// that works depends on privileges.
fn enter_new_pid_namespace() -> bool {
    let entered = unshare(CloneFlags::CLONE_NEWPID)
        .or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID));
    if let Err(error) = entered {
        println!("not run: no new pid namespace to be had: {error}");
    }
    entered.is_ok()
}

/// Gives this process a `/dev/shm` of its own.
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
