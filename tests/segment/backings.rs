//! All backings that have an address behave alike: creation, opening, all refusals, and
//! the death of a holder.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use crate::support::{
    Child, Gate, NOBODY, TestFile, TestKey, TestName, become_member, become_nobody, dead_owner,
    expect_poisoned, is_root_for, on_stage, spawn,
};
use shm_sync::{
    Address, Backing, Error, Removal, Residency, Segment, SegmentOptions, ShmMutex, ToAddress,
    unlink,
};

type Counter = ShmMutex<u64>;

/// An address of one kind. `drop` removes the object that has the address.
#[derive(Debug)]
enum Place {
    Posix(TestName),
    /// A file, and its address in this test.
    File(TestFile, String),
    SystemV(TestKey),
}

/// Returns an address of each kind. Changes to the temporary directory, for the
/// relative addresses.
fn places(what: &str) -> impl Iterator<Item = Place> {
    std::env::set_current_dir(std::env::temp_dir()).unwrap();
    let file = |spell: fn(&str, &str) -> String| {
        let file = TestFile::new(what);
        let (_, name) = file.rsplit_once('/').unwrap();
        let address = spell(&file, name);
        Place::File(file, address)
    };
    [
        Place::Posix(TestName::new(what)),
        file(|path, _| path.to_owned()),
        file(|path, _| format!("file:{path}")),
        file(|_, name| format!("./{name}")),
        file(|_, name| format!("file:{name}")),
        Place::SystemV(TestKey::new()),
    ]
    .into_iter()
    // The harness prints the address if the test fails.
    .inspect(|place| println!("at {}", &**place))
}

impl ToAddress for Place {
    fn to_address(&self) -> Result<Address, Error> {
        (**self).to_address()
    }
}

impl Deref for Place {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Posix(name) => name,
            Self::File(_, address) => address,
            Self::SystemV(key) => key,
        }
    }
}

impl Place {
    fn backing(&self) -> Backing {
        match self {
            Self::Posix(_) => Backing::Posix,
            Self::File(..) => Backing::File,
            Self::SystemV(_) => Backing::SystemV,
        }
    }

    /// Returns the path of the object, if it is a file.
    fn path(&self) -> Option<String> {
        match self {
            Self::Posix(name) => Some(name.path()),
            Self::File(file, _) => Some(file.to_string()),
            Self::SystemV(_) => None,
        }
    }

    /// Returns the mode, the owner and the group of the object, as the kernel has them.
    fn mode_and_owner(&self) -> Option<(u32, u32, u32)> {
        match (self, self.path()) {
            (Self::SystemV(key), _) => {
                let row = system_v_row(key.number())?;
                let number = |column: usize| row[column].parse().unwrap();
                let mode = u32::from_str_radix(&row[2], 8).unwrap();
                Some((mode & 0o777, number(7), number(8)))
            }
            (_, path) => {
                let metadata = fs::metadata(path?).ok()?;
                Some((metadata.mode() & 0o777, metadata.uid(), metadata.gid()))
            }
        }
    }

    fn set_mode(&self, mode: u32) {
        match (self, self.path()) {
            (_, Some(path)) => {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
            (Self::SystemV(key), _) => {
                change_system_v(key, |permissions| permissions.mode = mode as _);
            }
            _ => unreachable!("an object without a path is a System V segment"),
        }
    }

    fn give_to(&self, user: u32, group: u32) {
        match (self, self.path()) {
            (_, Some(path)) => chown(path, Some(user), Some(group)).unwrap(),
            (Self::SystemV(key), _) => change_system_v(key, |permissions| {
                (permissions.uid, permissions.gid) = (user, group);
            }),
            _ => unreachable!("an object without a path is a System V segment"),
        }
    }

    /// Creates a foreign object with these bytes at the address.
    fn fill(&self, bytes: &[u8]) {
        match (self, self.path()) {
            (_, Some(path)) => {
                fs::write(&path, bytes).unwrap();
                self.set_mode(0o600);
            }
            (Self::SystemV(key), _) => {
                let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o600;
                // SAFETY: the call takes and returns only numbers.
                let id = unsafe { libc::shmget(key.number(), bytes.len(), flags) };
                assert_ne!(id, -1);
                // SAFETY: the kernel chooses the address.
                let base = unsafe { libc::shmat(id, std::ptr::null(), 0) };
                assert_ne!(base.addr(), usize::MAX);
                // SAFETY: the new segment is as long as the bytes, and no other process
                // uses it.
                unsafe {
                    base.cast::<u8>()
                        .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
                };
                // SAFETY: `base` was attached above, and is not used again.
                unsafe { libc::shmdt(base) };
            }
            _ => unreachable!("an object without a path is a System V segment"),
        }
    }
}

/// Returns the columns of the kernel's row for the segment with this key.
fn system_v_row(key: i32) -> Option<Vec<String>> {
    let list = fs::read_to_string("/proc/sysvipc/shm").unwrap();
    list.lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .find(|row: &Vec<String>| row[0] == key.to_string())
}

fn change_system_v(key: &TestKey, change: impl FnOnce(&mut libc::ipc_perm)) {
    let id = system_v_row(key.number()).unwrap()[1].parse().unwrap();
    // SAFETY: the struct consists of integers, for which zero is valid.
    let mut status: libc::shmid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: the struct is valid for writes during the call.
    assert_eq!(unsafe { libc::shmctl(id, libc::IPC_STAT, &mut status) }, 0);
    change(&mut status.shm_perm);
    // SAFETY: the struct is valid for reads during the call.
    assert_eq!(unsafe { libc::shmctl(id, libc::IPC_SET, &mut status) }, 0);
}

fn refusal(address: &str) -> Error {
    Segment::<Counter>::open(address).expect_err("the segment is refused")
}

fn counter() -> Counter {
    Counter::new(0)
}

on_stage! {
    fn smoke() {
        for place in places("smoke") {
            assert!(matches!(refusal(&place), Error::NotFound { .. }));
            assert!(matches!(unlink(&place), Err(Error::NotFound { .. })));

            let created = Segment::create(&place, Counter::new(1)).unwrap();
            assert_eq!(Segment::backing(&created), place.backing());
            let address: Address = place.parse().unwrap();
            assert_eq!(Segment::address(&created), Some(&address));
            let file = Segment::as_fd(&created);
            assert!(file.is_none(), "a named segment has no descriptor to pass on");
            let again = Segment::create(&place, counter());
            assert!(matches!(again, Err(Error::AlreadyExists { .. })));

            let opened = Segment::<Counter>::open(&place).unwrap();
            *opened.lock().unwrap() += 1;
            assert_eq!(*created.lock().unwrap(), 2);
        }
    }

    fn open_or_create_creates_once() {
        for place in places("once") {
            let first = Segment::open_or_create(&place, || Counter::new(7)).unwrap();
            spawn(|| {
                let second: Segment<Counter> =
                    Segment::open_or_create(&place, || panic!("the segment exists")).unwrap();
                *second.lock().unwrap() += 1;
            })
            .join();
            assert_eq!(*first.lock().unwrap(), 8);
        }
    }

    fn executed_workers_count_together() {
        const WORKERS: u64 = 4;
        for place in places("exec") {
            let total = Segment::create(&place, counter()).unwrap();
            let mut workers: Vec<_> = (0..WORKERS)
                .map(|_| {
                    Command::new(std::env::current_exe().unwrap())
                        .env("SHM_SYNC_TEST_STAGE", crate::support::stage!(executed_worker))
                        .env("SHM_SYNC_TEST_NAME", &*place)
                        .spawn()
                        .unwrap()
                })
                .collect();
            for worker in &mut workers {
                assert_eq!(worker.wait().unwrap().code(), Some(42));
            }
            assert_eq!(*total.lock().unwrap(), WORKERS * 500);
        }
    }

    /// Runs in the processes that the test above starts. Without them, it does nothing.
    fn executed_worker() {
        if let Ok(name) = std::env::var("SHM_SYNC_TEST_NAME") {
            let total = Segment::<Counter>::open(&name).unwrap();
            for _ in 0..500 {
                *total.lock().unwrap() += 1;
            }
        }
    }

    fn owner_death_is_reported() {
        for place in places("death") {
            let shared = Segment::create(&place, counter()).unwrap();
            let locked = Gate::new();
            let mut holder = spawn(|| {
                let own = Segment::<Counter>::open(&place).unwrap();
                let mut guard = own.lock().unwrap();
                *guard = 13;
                locked.open();
                nix::unistd::pause();
            });
            locked.pass();
            assert_eq!(shared.holder().unwrap().pid, holder.pid());
            holder.kill();
            let poisoned = expect_poisoned(shared.lock());
            assert_eq!(dead_owner(poisoned.cause()), Some(holder.pid()));
            drop(poisoned.recover(|count| *count += 1));
            assert_eq!(*Segment::<Counter>::open(&place).unwrap().lock().unwrap(), 14);
        }
    }

    fn concurrent_openers_use_one_object() {
        for place in places("openers") {
            let openers: Vec<Child> = (0..6)
                .map(|_| {
                    spawn(|| {
                        let shared = Segment::open_or_create(&place, counter).unwrap();
                        *shared.lock().unwrap() += 1;
                    })
                })
                .collect();
            openers.into_iter().for_each(Child::join);
            assert_eq!(*Segment::<Counter>::open(&place).unwrap().lock().unwrap(), 6);
        }
    }

    fn open_refuses_other_type() {
        for place in places("type") {
            let _shared = Segment::create(&place, counter()).unwrap();
            match Segment::<ShmMutex<i64>>::open(&place) {
                Err(Error::LayoutMismatch { expected, found, field, .. }) => {
                    assert!(expected.type_name.contains("i64"));
                    assert!(found.type_name.contains("u64"));
                    let at = size_of::<ShmMutex<()>>();
                    let shown =
                        format!("field `.data`: expected i64 at offset {at}, found u64 at offset {at}");
                    assert_eq!(field.map(|field| field.to_string()), Some(shown));
                }
                other => panic!("{other:?}"),
            }
            let opened = Segment::open_or_create(&place, || ShmMutex::new(0_i64));
            assert!(matches!(opened, Err(Error::LayoutMismatch { .. })));
            assert!(Segment::<[Counter; 1]>::open_read_only(&place).is_err());
            assert!(SegmentOptions::<[Counter]>::new().open_snapshot(&place).is_err());
        }
    }

    fn open_refuses_and_keeps_foreign_object() {
        for place in places("garbage") {
            for bytes in [&[0_u8; 5000][..], &[0xff; 5000], b"short"] {
                place.fill(bytes);
                let before = place.path().map(|path| fs::read(path).unwrap());
                assert!(matches!(refusal(&place), Error::NotASegment { .. }));
                let created = Segment::create(&place, counter());
                assert!(matches!(created, Err(Error::AlreadyExists { .. })));
                let opened = Segment::open_or_create(&place, counter);
                assert!(matches!(opened, Err(Error::NotASegment { .. })));
                let read = Segment::<Counter>::open_read_only(&place);
                assert!(matches!(read, Err(Error::NotASegment { .. })));
                assert_eq!(place.path().map(|path| fs::read(path).unwrap()), before);
                unlink(&place).unwrap();
            }
        }
    }

    fn open_checks_write_permissions() {
        for place in places("mode") {
            let group = SegmentOptions::new().mode(0o660);
            let shared = group.create(&place, counter()).unwrap();
            assert_eq!(place.mode_and_owner().unwrap().0, 0o660);
            match refusal(&place) {
                Error::TooPermissive { allowed, found, .. } => {
                    assert_eq!((allowed, found), (0o600, 0o660));
                }
                other => panic!("{other:?}"),
            }
            assert!(group.open(&place).is_ok());
            place.set_mode(0o666);
            let opened = group.open(&place);
            assert!(matches!(opened, Err(Error::TooPermissive { .. })));
            let read = group.open_read_only(&place);
            assert!(matches!(read, Err(Error::TooPermissive { .. })));
            let made = group.open_or_create(&place, counter);
            assert!(matches!(made, Err(Error::TooPermissive { .. })));
            // Read permission for other users is harmless.
            place.set_mode(0o644);
            assert!(Segment::<Counter>::open(&place).is_ok());
            drop(shared);
            unlink(&place).unwrap();

            // The mode is exact: no umask applies, and no bit is added.
            for mode in [0o600, 0o640, 0o604, 0o622, 0o666, 0o777] {
                let options = SegmentOptions::new().mode(mode);
                drop(options.create(&place, counter()).unwrap());
                assert_eq!(place.mode_and_owner().unwrap().0, mode, "{mode:o}");
                assert!(options.open(&place).is_ok());
                unlink(&place).unwrap();
            }
        }
    }

    fn owner_is_checked_and_set() {
        if !is_root_for("owner_is_checked_and_set") {
            return;
        }
        for place in places("owner") {
            let _shared = Segment::create(&place, counter()).unwrap();
            place.give_to(NOBODY, 0);
            match refusal(&place) {
                Error::WrongOwner { expected, found, .. } => assert_eq!((expected, found), (0, NOBODY)),
                other => panic!("{other:?}"),
            }
            let owned_by_nobody = SegmentOptions::new().owner(NOBODY);
            assert!(owned_by_nobody.open(&place).is_ok());
            let root = owned_by_nobody.clone().group(NOBODY);
            match root.open(&place) {
                Err(Error::WrongGroup { expected, found, .. }) => {
                    assert_eq!((expected, found), (NOBODY, 0));
                }
                other => panic!("{other:?}"),
            }
            let made = Segment::open_or_create(&place, counter);
            assert!(matches!(made, Err(Error::WrongOwner { .. })));
            unlink(&place).unwrap();

            // The creator may give the segment to another user.
            let options = owned_by_nobody.group(NOBODY).mode(0o640);
            let given = options.create(&place, counter()).unwrap();
            assert_eq!(place.mode_and_owner(), Some((0o640, NOBODY, NOBODY)));
            spawn(|| {
                become_nobody();
                *Segment::<Counter>::open(&place).unwrap().lock().unwrap() += 1;
            })
            .join();
            assert_eq!(*given.lock().unwrap(), 1);
        }
    }

    fn group_members_share_segment() {
        const GROUP: u32 = 2000;
        if !is_root_for("group_members_share_segment") {
            return;
        }
        let options = SegmentOptions::new().any_owner().group(GROUP).mode(0o660);
        let readable = options.clone().mode(0o664);
        let create = |place: &Place, options: &SegmentOptions<Counter>, user, groups: &[u32]| {
            spawn(|| {
                become_member(user, groups);
                let shared = options.open_or_create(place, counter).unwrap();
                *shared.lock().unwrap() += 1;
            })
            .join();
        };
        for place in places("group") {
            let increment = |user, groups: &[u32]| create(&place, &options, user, groups);
            increment(1001, &[GROUP]);
            assert_eq!(place.mode_and_owner(), Some((0o660, 1001, GROUP)));
            increment(1002, &[GROUP]);
            increment(1003, &[3000, GROUP]);
            let seen = options.open(&place).unwrap();
            assert_eq!(*seen.lock().unwrap(), 3, "root is a trusted owner, and trusts the group");
            assert!(matches!(refusal(&place), Error::WrongOwner { expected: 0, found: 1001, .. }));
            spawn(|| {
                become_member(1004, &[3000]);
                let opened = options.open(&place);
                assert!(matches!(opened, Err(Error::PermissionDenied { .. })), "{opened:?}");
                let read = options.open_read_only(&place);
                assert!(matches!(read, Err(Error::PermissionDenied { .. })), "{read:?}");
            })
            .join();
            drop(seen);
            unlink(&place).unwrap();

            // A member by a supplementary group may create the segment, except with
            // System V.
            spawn(|| {
                become_member(1003, &[3000, GROUP]);
                match options.create(&place, counter()) {
                    Ok(made) => drop(made),
                    Err(Error::WrongCreatorGroup { expected: GROUP, found: 3000, .. }) => {
                        assert_eq!(place.backing(), Backing::SystemV);
                    }
                    Err(other) => panic!("{other:?}"),
                }
            })
            .join();
            if place.backing() != Backing::SystemV {
                assert_eq!(place.mode_and_owner(), Some((0o660, 1003, GROUP)));
                increment(1001, &[GROUP]);
                unlink(&place).unwrap();
            }

            // Root may create the segment as well, and other users may be allowed to
            // read.
            drop(readable.create(&place, counter()).unwrap());
            create(&place, &readable, 1001, &[GROUP]);
            spawn(|| {
                become_member(1004, &[3000]);
                let read = readable.open_read_only(&place).unwrap();
                assert_eq!(read.view().peek(), 1);
                let as_owner = Segment::<Counter>::open_read_only(&place);
                assert!(matches!(as_owner, Err(Error::WrongOwner { .. })), "{as_owner:?}");
            })
            .join();
            unlink(&place).unwrap();
        }
    }

    fn any_owner_requires_trusted_group() {
        const GROUP: u32 = 2000;
        let options = SegmentOptions::new().any_owner().group(GROUP).mode(0o660);
        for place in places("stranger") {
            // Without a group, or with write permission for all other users, no group
            // is trusted.
            let no_group = SegmentOptions::new().any_owner().mode(0o660);
            for untrusted in [no_group, options.clone().mode(0o662)] {
                let results = [
                    untrusted.create(&place, counter()),
                    untrusted.open(&place),
                    untrusted.open_or_create(&place, counter),
                    untrusted.open_read_only(&place).map(|_| unreachable!()),
                ];
                for result in results {
                    assert!(matches!(result, Err(Error::NoTrustedGroup { .. })), "{result:?}");
                }
            }
            if !is_root_for("any_owner_requires_trusted_group") {
                continue;
            }
            let refused = |expected: fn(&Error) -> bool| {
                let opened = options.open(&place).unwrap_err();
                let read = options.open_read_only(&place).unwrap_err();
                let made = options.open_or_create(&place, counter).unwrap_err();
                for error in [opened, read, made] {
                    assert!(expected(&error), "{error:?}");
                }
            };
            let put = |mode: u32| {
                spawn(|| {
                    become_member(1004, &[3000]);
                    let made = SegmentOptions::new().mode(mode).create(&place, counter());
                    drop(made.unwrap());
                })
                .join();
            };
            for mode in [0o600, 0o660] {
                put(mode);
                refused(|error| matches!(error, Error::WrongGroup { expected: GROUP, .. }));
                unlink(&place).unwrap();
            }
            // The owner of a System V segment may give it to any group.
            put(0o660);
            let given = spawn(|| {
                become_member(1004, &[3000]);
                if let Place::SystemV(key) = &place {
                    change_system_v(key, |permissions| permissions.gid = GROUP);
                }
            });
            given.join();
            refused(|error| {
                matches!(
                    error,
                    Error::WrongGroup { found: 3000, .. }
                        | Error::WrongCreatorGroup { found: 3000, .. }
                )
            });
            unlink(&place).unwrap();

            // The group is right, but other users may write.
            spawn(|| {
                become_member(1001, &[GROUP]);
                drop(options.create(&place, counter()).unwrap());
            })
            .join();
            place.set_mode(0o662);
            refused(|error| matches!(error, Error::TooPermissive { .. }));
            place.set_mode(0o660);
            drop(options.open(&place).unwrap());
            // The last setting applies.
            let owner = options.clone().owner(1001);
            drop(owner.open(&place).unwrap());
            let other = options.clone().owner(1002).open(&place);
            assert!(matches!(other, Err(Error::WrongOwner { .. })), "{other:?}");
            unlink(&place).unwrap();
        }
    }

    fn unprivileged_user_gets_clear_errors() {
        if !is_root_for("unprivileged_user_gets_clear_errors") {
            return;
        }
        let [roots, nobodys] = [places("of-root"), places("of-nobody")];
        for (owned_by_root, owned_by_nobody) in roots.zip(nobodys) {
            let _private = Segment::create(&owned_by_root, counter()).unwrap();
            spawn(|| {
                become_nobody();
                assert!(matches!(refusal(&owned_by_root), Error::PermissionDenied { .. }));
                let read = Segment::<Counter>::open_read_only(&owned_by_root);
                assert!(matches!(read, Err(Error::PermissionDenied { .. })));
                assert!(matches!(unlink(&owned_by_root), Err(Error::PermissionDenied { .. })));
                let created = Segment::create(&owned_by_root, counter());
                assert!(matches!(created, Err(Error::AlreadyExists { .. })));

                // The user can create its own segments, but cannot give them to root.
                drop(Segment::create(&owned_by_nobody, counter()).unwrap());
                unlink(&owned_by_nobody).unwrap();
                for options in [SegmentOptions::new().owner(0), SegmentOptions::new().group(0)] {
                    match options.create(&owned_by_nobody, counter()) {
                        Err(Error::Os { call: "fchown", .. }) => {
                            let left = owned_by_nobody.mode_and_owner();
                            assert_eq!(left, None, "the failed creation leaves nothing");
                        }
                        // The group of the creator would keep its permissions.
                        Err(Error::WrongCreatorGroup { expected: 0, .. }) => {
                            assert_eq!(owned_by_nobody.backing(), Backing::SystemV);
                            let left = owned_by_nobody.mode_and_owner();
                            assert_eq!(left, None, "the failed creation leaves nothing");
                        }
                        // System V lets owners give their segments to other users.
                        Ok(_) => {
                            assert_eq!(owned_by_nobody.backing(), Backing::SystemV);
                            unlink(&owned_by_nobody).unwrap();
                        }
                        other => panic!("{other:?}"),
                    }
                }
            })
            .join();
        }
    }

    fn is_linked_detects_removed_name() {
        for place in places("linked") {
            let old = Segment::create(&place, counter()).unwrap();
            let read = Segment::<Counter>::open_read_only(&place).unwrap();
            let is_linked = || {
                let both = (Segment::is_linked(&old).unwrap(), read.is_linked().unwrap());
                assert_eq!(both.0, both.1);
                both.0
            };
            assert!(is_linked());
            // A relative address keeps its meaning.
            std::env::set_current_dir("/").unwrap();
            assert!(is_linked());
            std::env::set_current_dir(std::env::temp_dir()).unwrap();
            spawn(|| unlink(&place).unwrap()).join();
            assert!(!is_linked());
            let new = Segment::create(&place, counter()).unwrap();
            assert!(!is_linked() && Segment::is_linked(&new).unwrap());
            unlink(&place).unwrap();
        }
        // The directory of the file is renamed, and a file gets the directory's name.
        let directory = TestFile::new("directory");
        let moved = TestFile::new("moved");
        std::fs::create_dir(&*directory).unwrap();
        let inside = Segment::create(format!("{}/jobs", &*directory), counter()).unwrap();
        assert!(Segment::is_linked(&inside).unwrap());
        std::fs::rename(&*directory, &*moved).unwrap();
        assert!(!Segment::is_linked(&inside).unwrap());
        std::fs::write(&*directory, "a file").unwrap();
        assert!(!Segment::is_linked(&inside).unwrap());
        std::fs::remove_dir_all(&*moved).unwrap();

        let private = SegmentOptions::new().create_system_v_private(counter()).unwrap();
        assert!(Segment::is_linked(&private).unwrap());
        unlink(Segment::address(&private).unwrap()).unwrap();
        assert!(!Segment::is_linked(&private).unwrap());
        let anonymous = Segment::anonymous(counter()).unwrap();
        assert!(!Segment::is_linked(&anonymous).unwrap());
    }

    fn unlinked_segment_stays_usable() {
        for place in places("unlinked") {
            let old = Segment::create(&place, Counter::new(1)).unwrap();
            let child = spawn(|| {
                let mine = Segment::<Counter>::open(&place).unwrap();
                *mine.lock().unwrap() += 1;
                unlink(&place).unwrap();
                assert!(matches!(refusal(&place), Error::NotFound { .. }));
                assert!(matches!(unlink(&place), Err(Error::NotFound { .. })));
                *mine.lock().unwrap() += 1;
            });
            child.join();
            assert_eq!(place.mode_and_owner(), None);
            *old.lock().unwrap() += 1;
            let new = Segment::create(&place, Counter::new(100)).unwrap();
            assert_eq!(*old.lock().unwrap(), 4);
            assert_eq!(*new.lock().unwrap(), 100);
            // The drop of the old segment does not remove the new one.
            drop(old);
            assert_eq!(*Segment::<Counter>::open(&place).unwrap().lock().unwrap(), 100);
        }
    }

    fn failed_creation_leaves_nothing() {
        for place in places("failed") {
            let attempt = || {
                SegmentOptions::<[Counter; 9]>::new().create_in_place(&place, |locks| {
                    locks[3] = Counter::new(3);
                    panic!("halfway");
                })
            };
            let attempt = std::panic::AssertUnwindSafe(attempt);
            assert!(std::panic::catch_unwind(attempt).is_err());
            assert_eq!(place.mode_and_owner(), None);
            let oversized = SegmentOptions::<[u64]>::new().create_with_len(&place, 1 << 50, |_| {});
            assert!(matches!(oversized, Err(Error::NoSpace { .. })), "{oversized:?}");
            assert_eq!(place.mode_and_owner(), None);
            if nix::unistd::Uid::effective().is_root() {
                spawn(|| {
                    // Without the permission to lock memory.
                    let limit = nix::sys::resource::Resource::RLIMIT_MEMLOCK;
                    nix::sys::resource::setrlimit(limit, 0, 0).unwrap();
                    become_nobody();
                    let locked = SegmentOptions::new().residency(Residency::Locked);
                    match locked.create(&place, counter()) {
                        Err(Error::MemoryLockLimit { limit, .. }) => assert_eq!(limit, Some(0)),
                        other => panic!("{other:?}"),
                    }
                    assert_eq!(place.mode_and_owner(), None);
                })
                .join();
            }
            drop(Segment::create(&place, counter()).unwrap());
        }
    }

    fn relative_path_is_resolved_once() {
        let places: Vec<Place> = places("relative").collect();
        for place in &places {
            let options = SegmentOptions::new().removal(Removal::UntilLastDetach);
            let shared = options.create(place, counter()).unwrap();
            std::env::set_current_dir("/").unwrap();
            if place.starts_with('.') {
                let error = refusal(place);
                assert!(matches!(error, Error::NotFound { .. }), "the address names another file now");
            }
            assert!(place.mode_and_owner().is_some());
            drop(shared);
            assert_eq!(place.mode_and_owner(), None, "the last process has removed the right name");
            std::env::set_current_dir(std::env::temp_dir()).unwrap();
        }
    }

    fn missing_directory_is_reported() {
        let missing = format!("{}/no-such-directory/jobs", std::env::temp_dir().display());
        assert!(matches!(refusal(&missing), Error::NotFound { .. }));
        assert!(matches!(unlink(&missing), Err(Error::NotFound { .. })));
        for result in [
            Segment::create(&missing, counter()),
            Segment::open_or_create(&missing, counter),
        ] {
            match result {
                Err(Error::Os { source, .. }) => {
                    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
