//! `Segment`: creation, publication, opening, and all refusals.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::time::Duration;

use crate::support::{Child, TestName, number_from_env, on_stage, spawn};
use proptest::prelude::*;
use serial_test::file_serial;
use shm_sync::{
    CorruptHeader, Error, LockError, NameError, Segment, SegmentOptions, ShmMutex, ShmSafe, unlink,
};

type Counter = ShmMutex<u64>;

/// The length of a segment's header in bytes, and the offsets of some fields.
const HEADER: usize = 448;
const INODE: std::ops::Range<usize> = 112..120;
const BIRTH_TIME: std::ops::Range<usize> = 136..144;

/// Returns the bytes of a valid segment that holds a counter.
fn valid_bytes() -> Vec<u8> {
    let name = TestName::new("bytes");
    let _segment = Segment::create(&name, Counter::new(0)).unwrap();
    fs::read(name.path()).unwrap()
}

fn open_error(name: &str) -> Error {
    Segment::<Counter>::open(name).expect_err("the segment is refused")
}

#[test]
fn names_are_checked() {
    for (name, expected) in [
        ("counter", NameError::NoLeadingSlash),
        ("/", NameError::Empty),
        ("/..", NameError::Empty),
        ("a/", NameError::Empty),
        ("/a\0b", NameError::Nul),
    ] {
        let error = Segment::create(name, Counter::new(0)).expect_err(name);
        match &error {
            Error::InvalidName { reason, .. } => assert_eq!(*reason, expected),
            other => panic!("{name}: {other:?}"),
        }
        assert!(matches!(open_error(name), Error::InvalidName { .. }));
        assert!(matches!(unlink(name), Err(Error::InvalidName { .. })));
    }
}

#[test]
fn mode_is_exact_and_private_by_default() {
    let mode = |name: &TestName| fs::metadata(name.path()).unwrap().permissions().mode() & 0o777;
    let private = TestName::new("private");
    let _private = Segment::create(&private, Counter::new(0)).unwrap();
    assert_eq!(mode(&private), 0o600);

    // The usual umask, 022 or stricter, would clear the group's write bit.
    let group = TestName::new("group");
    let options = SegmentOptions::new().mode(0o660);
    let _group = options.create(&group, Counter::new(0)).unwrap();
    assert_eq!(mode(&group), 0o660);
    match open_error(&group) {
        Error::TooPermissive { allowed, found, .. } => assert_eq!((allowed, found), (0o600, 0o660)),
        other => panic!("{other:?}"),
    }
    assert!(options.open(&group).is_ok());

    let anonymous = Segment::anonymous(Counter::new(0)).unwrap();
    let file = Segment::as_fd(&anonymous).unwrap().try_clone_to_owned();
    let metadata = fs::File::from(file.unwrap()).metadata().unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
}

#[test]
fn open_or_create_opens_existing_segment() {
    let name = TestName::new("ooc");
    let first = Segment::open_or_create(&name, || Counter::new(7)).unwrap();
    let second: Segment<Counter> =
        Segment::open_or_create(&name, || panic!("the segment exists already")).unwrap();
    *first.lock().unwrap() += 1;
    assert_eq!(*second.lock().unwrap(), 8);
}

// Failure mode 22.
#[test]
fn open_refuses_other_layout_and_names_both() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Yesterday {
        jobs: ShmMutex<u32>,
        flags: [u8; 4],
    }
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Today {
        jobs: ShmMutex<u32>,
        marks: [u8; 4],
    }
    let name = TestName::new("layout");
    let value = Yesterday {
        jobs: ShmMutex::new(0),
        flags: [0; 4],
    };
    let _segment = Segment::create(&name, value).unwrap();
    let error = Segment::<Today>::open(&name).expect_err("a field has another name");
    match &error {
        Error::LayoutMismatch {
            expected, found, ..
        } => {
            assert!(expected.type_name.ends_with("Today"));
            assert!(found.type_name.ends_with("Yesterday"));
            assert_eq!(expected.size, found.size);
            assert_ne!(expected.fingerprint, found.fingerprint);
        }
        other => panic!("{other:?}"),
    }
    let text = error.to_string();
    assert!(
        text.contains("Today") && text.contains("Yesterday"),
        "{text}"
    );
    assert!(Segment::<Yesterday>::open(&name).is_ok());
}

/// Returns the time at which the file was created, in nanoseconds since 1970:
/// `statx(2)`. std returns it with glibc only.
fn birth_time(file: &fs::File) -> u64 {
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is empty and ends with a zero, and `found` is valid for writes.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_statx,
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_BTIME,
            found.as_mut_ptr(),
        )
    };
    assert_eq!(rc, 0, "statx");
    // SAFETY: the kernel has written it.
    let time = unsafe { found.assume_init() }.stx_btime;
    time.tv_sec as u64 * 1_000_000_000 + u64::from(time.tv_nsec)
}

// Failure mode 25.
#[test]
fn open_refuses_foreign_file_before_mapping() {
    let good = valid_bytes();
    let put = |bytes: &[u8]| {
        let name = TestName::new("foreign");
        name.write(bytes);
        if bytes.len() > BIRTH_TIME.end {
            // Otherwise the file would be a copy of a segment, which is another test.
            let file = fs::OpenOptions::new()
                .write(true)
                .open(name.path())
                .unwrap();
            let metadata = file.metadata().unwrap();
            let inode = metadata.ino().to_le_bytes();
            file.write_all_at(&inode, INODE.start as u64).unwrap();
            let birth_time = birth_time(&file).to_le_bytes();
            file.write_all_at(&birth_time, BIRTH_TIME.start as u64)
                .unwrap();
        }
        name
    };
    let refused = |bytes: &[u8]| open_error(&put(bytes));
    assert!(matches!(refused(b""), Error::NotASegment { .. }));
    assert!(matches!(refused(b"short"), Error::NotASegment { .. }));
    assert!(matches!(
        refused(&good[..HEADER - 1]),
        Error::NotASegment { .. }
    ));
    assert!(matches!(refused(&vec![0; 8192]), Error::NotASegment { .. }));
    assert!(matches!(
        refused(&vec![0xff; 8192]),
        Error::NotASegment { .. }
    ));

    // A truncated segment: access to its mapping would end in SIGBUS.
    for len in [HEADER, HEADER + 1, good.len() - 1] {
        match refused(&good[..len]) {
            Error::Corrupt {
                reason: CorruptHeader::WrongSize { claimed, actual },
                ..
            } => {
                assert_eq!((claimed, actual), (good.len() as u64, len as u64));
            }
            other => panic!("{len}: {other:?}"),
        }
    }
    let longer = [&good[..], &[0; 100]].concat();
    assert!(matches!(
        refused(&longer),
        Error::Corrupt {
            reason: CorruptHeader::WrongSize { .. },
            ..
        }
    ));

    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= byte;
        refused(&bytes)
    };
    assert!(matches!(changed(0, 1), Error::NotASegment { .. }));
    assert!(matches!(
        changed(8, 0xf0),
        Error::UnsupportedFormat {
            found: 0xf4,
            supported: 4,
            ..
        }
    ));
    assert!(
        matches!(changed(12, 3), Error::LayoutMismatch { .. }),
        "the segment is of another libc"
    );
    assert!(
        matches!(changed(13, 3), Error::LayoutMismatch { .. }),
        "the segment has another endianness"
    );
    assert!(
        matches!(changed(14, 12), Error::LayoutMismatch { .. }),
        "the segment has another pointer width"
    );
    assert!(
        matches!(changed(15, 24), Error::LayoutMismatch { .. }),
        "the segment has another pthread_mutex_t"
    );
    // A segment of another pid namespace that no process is attached to: see
    // `containers.rs`.
    let mut of_a_container = good.clone();
    of_a_container[20] ^= 1;
    assert!(Segment::<Counter>::open(put(&of_a_container)).is_ok());
    assert!(matches!(
        changed(24, 1),
        Error::Corrupt {
            reason: CorruptHeader::WrongSize { .. },
            ..
        }
    ));
    assert!(matches!(
        changed(32, 1),
        Error::Corrupt {
            reason: CorruptHeader::MisplacedValue,
            ..
        }
    ));
    assert!(matches!(
        changed(46, 0xff),
        Error::Corrupt {
            reason: CorruptHeader::MisplacedValue,
            ..
        }
    ));
    assert!(
        matches!(changed(56, 1), Error::LayoutMismatch { .. }),
        "the segment has another fingerprint"
    );
    assert!(matches!(
        changed(99, 0xff),
        Error::Corrupt {
            reason: CorruptHeader::UnreadableTypeName,
            ..
        }
    ));
}

#[test]
fn open_refuses_other_owner() {
    let name = TestName::new("owner");
    let _segment = Segment::create(&name, Counter::new(0)).unwrap();
    let me = nix::unistd::Uid::effective().as_raw();
    let stranger = me + 1;
    let options = Segment::<Counter>::options().owner(stranger);
    match options.open(&name) {
        Err(Error::WrongOwner {
            expected, found, ..
        }) => {
            assert_eq!((expected, found), (stranger, me));
        }
        other => panic!("{other:?}"),
    }
    assert!(
        SegmentOptions::<Counter>::new()
            .owner(me)
            .open(&name)
            .is_ok()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn open_survives_arbitrary_files(
        noise in proptest::collection::vec(any::<u8>(), 0..600),
        changes in proptest::collection::vec((0..HEADER, any::<u8>()), 0..8),
        start_from_valid in any::<bool>(),
    ) {
        let mut bytes = if start_from_valid { valid_bytes() } else { noise };
        for (at, byte) in changes {
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
        }
        let name = TestName::new("noise");
        name.write(&bytes);
        if let Ok(segment) = Segment::<Counter>::open(&name) {
            // The file passed every check, so the whole segment must be usable.
            prop_assert!(matches!(segment.try_lock(), Ok(_) | Err(LockError::WouldBlock)));
        }
    }
}

on_stage! {
    fn smoke() {
        let name = TestName::new("smoke");
        let created = Segment::create(&name, Counter::new(1)).unwrap();
        let opened = Segment::<Counter>::open(&name).unwrap();
        *created.lock().unwrap() += 1;
        assert_eq!(*opened.lock().unwrap(), 2);
        assert_eq!(Segment::address(&opened).unwrap().to_str(), Some(&*name));
        assert!(matches!(
            Segment::create(&name, Counter::new(0)),
            Err(Error::AlreadyExists { .. })
        ));
        unlink(&name).unwrap();
        assert!(matches!(unlink(&name), Err(Error::NotFound { .. })));
        assert!(matches!(open_error(&name), Error::NotFound { .. }));
        *opened.lock().unwrap() += 1; // the segment is usable without a name
        assert_eq!(*created.lock().unwrap(), 3);
    }

    fn open_refuses_non_files() {
        let target = TestName::new("target");
        let _target = Segment::create(&target, Counter::new(0)).unwrap();
        let link = TestName::new("link");
        symlink(target.path(), link.path()).unwrap();
        assert!(matches!(open_error(&link), Error::NotASegment { .. }));
        let result = Segment::open_or_create(&link, || Counter::new(0));
        assert!(matches!(result, Err(Error::NotASegment { .. })));

        let fifo = TestName::new("fifo");
        nix::unistd::mkfifo(fifo.path().as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(open_error(&fifo), Error::NotASegment { .. }));

        let directory = TestName::new("directory");
        fs::create_dir(directory.path()).unwrap();
        assert!(matches!(open_error(&directory), Error::NotASegment { .. }));
        fs::remove_dir(directory.path()).unwrap();

        let socket = TestName::new("socket");
        let _socket = std::os::unix::net::UnixListener::bind(socket.path()).unwrap();
        assert!(matches!(open_error(&socket), Error::NotASegment { .. }));
    }

    fn executed_workers_open_by_name() {
        const WORKERS: usize = 6;
        let name = TestName::new("exec");
        let total = Segment::create(&name, Counter::new(0)).unwrap();
        let mut workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .env("SHM_SYNC_TEST_STAGE", crate::support::stage!(executed_worker))
                    .env("SHM_SYNC_TEST_NAME", &*name)
                    .spawn()
                    .unwrap()
            })
            .collect();
        for worker in &mut workers {
            assert_eq!(worker.wait().unwrap().code(), Some(42));
        }
        assert_eq!(*total.lock().unwrap(), WORKERS as u64 * 1_000);
    }

    /// Runs in the processes that the test above starts. Without them, it does nothing.
    fn executed_worker() {
        if let Ok(name) = std::env::var("SHM_SYNC_TEST_NAME") {
            let total = Segment::<Counter>::open(&name).unwrap();
            for _ in 0..1_000 {
                *total.lock().unwrap() += 1;
            }
        }
    }

    fn other_user_is_refused_by_kernel() {
        if !nix::unistd::Uid::effective().is_root() {
            println!("not run: only root can become another user");
            return;
        }
        let name = TestName::new("stranger");
        let _segment = Segment::create(&name, Counter::new(0)).unwrap();
        let public = TestName::new("public");
        let options = SegmentOptions::new().mode(0o666);
        let _public = options.create(&public, Counter::new(0)).unwrap();
        spawn(|| {
            nix::unistd::setuid(nix::unistd::Uid::from_raw(65_534)).unwrap();
            assert!(matches!(open_error(&name), Error::PermissionDenied { .. }));
            // The file may be opened, but its owner could be any user who creates this
            // name first.
            let opened = options.open(&public);
            assert!(matches!(opened, Err(Error::WrongOwner { expected: 65_534, found: 0, .. })));
            let opened = options.clone().owner(0).open(&public);
            *opened.unwrap().lock().unwrap() += 1;
            assert!(matches!(unlink(&public), Err(Error::PermissionDenied { .. })));
            // A user without privileges can publish a segment.
            let mine = TestName::new("unprivileged");
            drop(Segment::create(&mine, Counter::new(0)).unwrap());
            drop(Segment::<Counter>::open(&mine).unwrap());
        })
        .join();
    }

    // Failure mode 19.
    fn creator_killed_leaves_whole_object_or_none() {
        let name = TestName::new("creator");
        let mut published = 0;
        for round in 0..300_u64 {
            let mut creator = spawn(|| loop {
                drop(Segment::create(&name, [const { Counter::new(5) }; 64]).unwrap());
                unlink(&name).unwrap();
            });
            std::thread::sleep(Duration::from_micros(100 + (round * 31) % 1_500));
            creator.kill();
            match Segment::<[Counter; 64]>::open(&name) {
                Ok(locks) => {
                    published += 1;
                    assert!(locks.iter().all(|lock| *lock.lock().unwrap() == 5));
                    unlink(&name).unwrap();
                }
                Err(Error::NotFound { .. }) => {}
                Err(other) => panic!("round {round}: {other:?}"),
            }
            // The next caller can create the segment.
            drop(Segment::create(&name, Counter::new(0)).unwrap());
            unlink(&name).unwrap();
        }
        println!("{published} of 300 creators died with the object published");
    }

    fn concurrent_creators_have_one_winner() {
        let name = TestName::new("race");
        let tally = Segment::anonymous(Counter::new(0)).unwrap();
        for _ in 0..40 {
            let racers: Vec<_> = (0..8)
                .map(|racer| {
                    let (name, tally) = (&name, &tally);
                    spawn(move || {
                        let shared = Segment::open_or_create(name, || {
                            ShmMutex::new((1_000 + racer, 0_u64))
                        })
                        .unwrap();
                        let mut value = shared.lock().unwrap();
                        assert!((1_000..1_008).contains(&value.0));
                        value.1 += 1;
                        *tally.lock().unwrap() += 1;
                    })
                })
                .collect();
            racers.into_iter().for_each(Child::join);
            let shared = Segment::<ShmMutex<(i32, u64)>>::open(&name).unwrap();
            assert_eq!(shared.lock().unwrap().1, 8, "all eight processes used the same object");
            unlink(&name).unwrap();
        }
        assert_eq!(*tally.lock().unwrap(), 320);
    }

    // Failure mode 20.
    fn open_during_recreation_gives_whole_object() {
        let name = TestName::new("recreate");
        let mut recreator = spawn(|| loop {
            if let Ok(segment) = Segment::create(&name, Counter::new(9)) {
                drop(segment);
            }
            let _ = unlink(&name);
        });
        let attempts = number_from_env("SHM_SYNC_OPEN_ATTEMPTS").unwrap_or(20_000);
        let mut opened = 0;
        for _ in 0..attempts {
            match Segment::<Counter>::open(&name) {
                Ok(segment) => {
                    opened += 1;
                    assert_eq!(*segment.lock().unwrap(), 9);
                }
                Err(Error::NotFound { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
            let segment = Segment::open_or_create(&name, || Counter::new(9)).unwrap();
            assert_eq!(*segment.lock().unwrap(), 9);
        }
        recreator.kill();
        println!("{opened} of {attempts} attempts met an object");
    }

    // Failure mode 17: a child never removes its parent's object.
    fn child_drop_keeps_parents_segment() {
        let name = TestName::new("child");
        let shared = std::mem::ManuallyDrop::new(Segment::create(&name, Counter::new(0)).unwrap());
        let guard = shared.lock().unwrap();
        spawn(|| {
            // SAFETY: this is the child's copy of the segment; the parent keeps its
            // own.
            drop(unsafe { std::ptr::read(&*shared) });
        })
        .join();
        drop(guard);
        *shared.lock().unwrap() += 1;
        assert_eq!(*Segment::<Counter>::open(&name).unwrap().lock().unwrap(), 1);
        drop(std::mem::ManuallyDrop::into_inner(shared));
    }
}

on_stage! {
    // All runs of these tests on the machine share the fixed name.
    #[file_serial(shm_sync_fixed_name)]
    fn object_with_fixed_name_outlives_crash() {
        const NAME: &str = "/shm-sync-test-fixed-name";
        let _ = unlink(NAME);
        for expected in 1..=3 {
            spawn(|| {
                let counter = Segment::open_or_create(NAME, || Counter::new(0)).unwrap();
                *counter.lock().unwrap() += 1;
                crate::support::die()
            })
            .wait();
            let counter = Segment::<Counter>::open(NAME).unwrap();
            assert_eq!(*counter.lock().unwrap(), expected);
        }
        unlink(NAME).unwrap();
    }
}
