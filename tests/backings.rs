//! Every kind of memory that has an address behaves alike: creation, opening,
//! everything that must be refused, a death with the lock held.

mod common;

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use common::{
    Child, Gate, NOBODY, TestFile, TestKey, TestName, become_nobody, dead_owner, expect_poisoned,
    is_root_for, on_stage, spawn,
};
use shm_sync::{
    Address, Backing, Error, Removal, Residency, Segment, SegmentOptions, ShmMutex, unlink,
};

type Counter = ShmMutex<u64>;

/// An address of some kind. What has it is removed when this is dropped.
#[derive(Debug)]
enum Place {
    Posix(TestName),
    /// A file, and how it is called here.
    File(TestFile, String),
    SystemV(TestKey),
}

/// One of each kind. Goes to the temporary directory, for those that are relative.
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
    // Shown if the test fails.
    .inspect(|place| println!("at {}", &**place))
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

    /// Where it is as a file.
    fn path(&self) -> Option<String> {
        match self {
            Self::Posix(name) => Some(name.path()),
            Self::File(file, _) => Some(file.to_string()),
            Self::SystemV(_) => None,
        }
    }

    /// Mode, owner and group of what is there, as the system has them.
    fn facts(&self) -> Option<(u32, u32, u32)> {
        match (self, self.path()) {
            (Self::SystemV(key), _) => {
                let row = system_v_row(key.number())?;
                let number = |column: usize| row[column].parse().unwrap();
                let mode = u32::from_str_radix(&row[2], 8).unwrap();
                Some((mode & 0o777, number(7), number(8)))
            }
            (_, path) => {
                let facts = fs::metadata(path?).ok()?;
                Some((facts.mode() & 0o777, facts.uid(), facts.gid()))
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
            _ => unreachable!("what is no file is of System V"),
        }
    }

    fn give_to(&self, user: u32, group: u32) {
        match (self, self.path()) {
            (_, Some(path)) => chown(path, Some(user), Some(group)).unwrap(),
            (Self::SystemV(key), _) => change_system_v(key, |permissions| {
                (permissions.uid, permissions.gid) = (user, group);
            }),
            _ => unreachable!("what is no file is of System V"),
        }
    }

    /// Puts an object there that was made by somebody else.
    fn fill(&self, bytes: &[u8]) {
        match (self, self.path()) {
            (_, Some(path)) => {
                fs::write(&path, bytes).unwrap();
                self.set_mode(0o600);
            }
            (Self::SystemV(key), _) => {
                let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o600;
                // SAFETY: takes and returns numbers.
                let id = unsafe { libc::shmget(key.number(), bytes.len(), flags) };
                assert_ne!(id, -1);
                // SAFETY: no address is asked for.
                let base = unsafe { libc::shmat(id, std::ptr::null(), 0) };
                assert_ne!(base.addr(), usize::MAX);
                // SAFETY: the segment is as long as the bytes, and nobody else's.
                unsafe {
                    base.cast::<u8>()
                        .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
                };
                // SAFETY: attached above, and used no more.
                unsafe { libc::shmdt(base) };
            }
            _ => unreachable!("what is no file is of System V"),
        }
    }
}

/// The words of the kernel's line on the segment that has the key.
fn system_v_row(key: i32) -> Option<Vec<String>> {
    let list = fs::read_to_string("/proc/sysvipc/shm").unwrap();
    list.lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .find(|row: &Vec<String>| row[0] == key.to_string())
}

fn change_system_v(key: &TestKey, change: impl FnOnce(&mut libc::ipc_perm)) {
    let id = system_v_row(key.number()).unwrap()[1].parse().unwrap();
    // SAFETY: made of integers, of which zero is a value.
    let mut facts: libc::shmid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: fills the structure that is lent.
    assert_eq!(unsafe { libc::shmctl(id, libc::IPC_STAT, &mut facts) }, 0);
    change(&mut facts.shm_perm);
    // SAFETY: reads the structure that is lent.
    assert_eq!(unsafe { libc::shmctl(id, libc::IPC_SET, &mut facts) }, 0);
}

fn refusal(address: &str) -> Error {
    Segment::<Counter>::open(address).expect_err("it should be refused")
}

fn counter() -> Counter {
    Counter::new(0)
}

on_stage! {
    fn smoke() {
        for place in places("smoke") {
            assert!(matches!(refusal(&place), Error::NotFound));
            assert!(matches!(unlink(&place), Err(Error::NotFound)));

            let created = Segment::create(&place, Counter::new(1)).unwrap();
            assert_eq!(Segment::backing(&created), place.backing());
            let address: Address = place.parse().unwrap();
            assert_eq!(Segment::address(&created), Some(&address));
            assert!(Segment::as_fd(&created).is_none(), "it goes by its name");
            let again = Segment::create(&place, counter());
            assert!(matches!(again, Err(Error::AlreadyExists)));

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
                    Segment::open_or_create(&place, || panic!("there is one already")).unwrap();
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
                        .env("SHM_SYNC_TEST_STAGE", "an_executed_worker")
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

    /// The other side of the test above; alone, it has nothing to do.
    fn an_executed_worker() {
        if let Ok(name) = std::env::var("SHM_SYNC_TEST_NAME") {
            let total = Segment::<Counter>::open(&name).unwrap();
            for _ in 0..500 {
                *total.lock().unwrap() += 1;
            }
        }
    }

    fn a_death_with_the_lock_held_is_told() {
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

    fn many_openers_at_once_use_one_object() {
        for place in places("openers") {
            let racers: Vec<Child> = (0..6)
                .map(|_| {
                    spawn(|| {
                        let shared = Segment::open_or_create(&place, counter).unwrap();
                        *shared.lock().unwrap() += 1;
                    })
                })
                .collect();
            racers.into_iter().for_each(Child::join);
            assert_eq!(*Segment::<Counter>::open(&place).unwrap().lock().unwrap(), 6);
        }
    }

    fn another_type_is_refused() {
        for place in places("type") {
            let _shared = Segment::create(&place, counter()).unwrap();
            match Segment::<ShmMutex<i64>>::open(&place) {
                Err(Error::LayoutMismatch { expected, found }) => {
                    assert!(expected.type_name.contains("i64"));
                    assert!(found.type_name.contains("u64"));
                }
                other => panic!("{other:?}"),
            }
            let opened = Segment::open_or_create(&place, || ShmMutex::new(0_i64));
            assert!(matches!(opened, Err(Error::LayoutMismatch { .. })));
            assert!(Segment::<[Counter; 1]>::open_read_only(&place).is_err());
            assert!(Segment::<[Counter]>::snapshot_of(&place).is_err());
        }
    }

    fn what_is_none_of_ours_is_refused_and_stays() {
        for place in places("garbage") {
            for bytes in [&[0_u8; 5000][..], &[0xff; 5000], b"short"] {
                place.fill(bytes);
                let before = place.path().map(|path| fs::read(path).unwrap());
                assert!(matches!(refusal(&place), Error::NotASegment));
                let created = Segment::create(&place, counter());
                assert!(matches!(created, Err(Error::AlreadyExists)));
                let opened = Segment::open_or_create(&place, counter);
                assert!(matches!(opened, Err(Error::NotASegment)));
                let read = Segment::<Counter>::open_read_only(&place);
                assert!(matches!(read, Err(Error::NotASegment)));
                assert_eq!(place.path().map(|path| fs::read(path).unwrap()), before);
                unlink(&place).unwrap();
            }
        }
    }

    fn who_may_write_to_it_is_checked() {
        for place in places("mode") {
            let group = SegmentOptions::new().mode(0o660);
            let shared = group.create(&place, counter()).unwrap();
            assert_eq!(place.facts().unwrap().0, 0o660);
            match refusal(&place) {
                Error::TooPermissive { allowed, found } => {
                    assert_eq!((allowed, found), (0o600, 0o660));
                }
                other => panic!("{other:?}"),
            }
            assert!(group.open::<Counter>(&place).is_ok());
            place.set_mode(0o666);
            let opened = group.open::<Counter>(&place);
            assert!(matches!(opened, Err(Error::TooPermissive { .. })));
            let read = group.open_read_only::<Counter>(&place);
            assert!(matches!(read, Err(Error::TooPermissive { .. })));
            let made = group.open_or_create(&place, counter);
            assert!(matches!(made, Err(Error::TooPermissive { .. })));
            // Who may only read does no harm.
            place.set_mode(0o644);
            assert!(Segment::<Counter>::open(&place).is_ok());
            drop(shared);
            unlink(&place).unwrap();

            // Not masked by a umask, nor more than was asked for.
            for mode in [0o600, 0o640, 0o604, 0o622, 0o666, 0o777] {
                let options = SegmentOptions::new().mode(mode);
                drop(options.create(&place, counter()).unwrap());
                assert_eq!(place.facts().unwrap().0, mode, "{mode:o}");
                assert!(options.open::<Counter>(&place).is_ok());
                unlink(&place).unwrap();
            }
        }
    }

    fn the_owner_is_checked_and_set() {
        if !is_root_for("the_owner_is_checked_and_set") {
            return;
        }
        for place in places("owner") {
            let _shared = Segment::create(&place, counter()).unwrap();
            place.give_to(NOBODY, 0);
            match refusal(&place) {
                Error::WrongOwner { expected, found } => assert_eq!((expected, found), (0, NOBODY)),
                other => panic!("{other:?}"),
            }
            let of_nobody = SegmentOptions::new().owner(NOBODY);
            assert!(of_nobody.open::<Counter>(&place).is_ok());
            let root = of_nobody.clone().group(NOBODY);
            match root.open::<Counter>(&place) {
                Err(Error::WrongGroup { expected, found }) => {
                    assert_eq!((expected, found), (NOBODY, 0));
                }
                other => panic!("{other:?}"),
            }
            let made = Segment::open_or_create(&place, counter);
            assert!(matches!(made, Err(Error::WrongOwner { .. })));
            unlink(&place).unwrap();

            // Given away at birth, and nobody's own.
            let given = of_nobody.group(NOBODY).mode(0o640).create(&place, counter()).unwrap();
            assert_eq!(place.facts(), Some((0o640, NOBODY, NOBODY)));
            spawn(|| {
                become_nobody();
                *Segment::<Counter>::open(&place).unwrap().lock().unwrap() += 1;
            })
            .join();
            assert_eq!(*given.lock().unwrap(), 1);
        }
    }

    fn an_ordinary_user_is_told_what_it_may_not_do() {
        if !is_root_for("an_ordinary_user_is_told_what_it_may_not_do") {
            return;
        }
        let [roots, nobodys] = [places("of-root"), places("of-nobody")];
        for (of_root, of_nobody) in roots.zip(nobodys) {
            let _private = Segment::create(&of_root, counter()).unwrap();
            spawn(|| {
                become_nobody();
                assert!(matches!(refusal(&of_root), Error::PermissionDenied));
                let read = Segment::<Counter>::open_read_only(&of_root);
                assert!(matches!(read, Err(Error::PermissionDenied)));
                assert!(matches!(unlink(&of_root), Err(Error::PermissionDenied)));
                let created = Segment::create(&of_root, counter());
                assert!(matches!(created, Err(Error::AlreadyExists)));

                // It can have its own, but not give it away.
                drop(Segment::create(&of_nobody, counter()).unwrap());
                unlink(&of_nobody).unwrap();
                for options in [SegmentOptions::new().owner(0), SegmentOptions::new().group(0)] {
                    match options.create(&of_nobody, counter()) {
                        Err(Error::PermissionDenied) => {
                            assert_eq!(of_nobody.facts(), None, "nothing is left");
                        }
                        // The group of its creator would keep its rights.
                        Err(Error::WrongCreatorGroup { expected: 0, .. }) => {
                            assert_eq!(of_nobody.backing(), Backing::SystemV);
                            assert_eq!(of_nobody.facts(), None, "nothing is left");
                        }
                        // System V lets owners give away what is theirs.
                        Ok(_) => {
                            assert_eq!(of_nobody.backing(), Backing::SystemV);
                            unlink(&of_nobody).unwrap();
                        }
                        other => panic!("{other:?}"),
                    }
                }
            })
            .join();
        }
    }

    fn unlinked_it_lives_on_for_those_who_have_it() {
        for place in places("unlinked") {
            let old = Segment::create(&place, Counter::new(1)).unwrap();
            let child = spawn(|| {
                let mine = Segment::<Counter>::open(&place).unwrap();
                *mine.lock().unwrap() += 1;
                unlink(&place).unwrap();
                assert!(matches!(refusal(&place), Error::NotFound));
                assert!(matches!(unlink(&place), Err(Error::NotFound)));
                *mine.lock().unwrap() += 1;
            });
            child.join();
            assert_eq!(place.facts(), None);
            *old.lock().unwrap() += 1;
            let new = Segment::create(&place, Counter::new(100)).unwrap();
            assert_eq!(*old.lock().unwrap(), 4);
            assert_eq!(*new.lock().unwrap(), 100);
            // Going, the old one leaves the new one alone.
            drop(old);
            assert_eq!(*Segment::<Counter>::open(&place).unwrap().lock().unwrap(), 100);
        }
    }

    fn a_failed_creation_leaves_nothing() {
        for place in places("failed") {
            let attempt = || {
                Segment::<[Counter; 9]>::create_in_place(&place, |locks| {
                    locks[3] = Counter::new(3);
                    panic!("halfway");
                })
            };
            let attempt = std::panic::AssertUnwindSafe(attempt);
            assert!(std::panic::catch_unwind(attempt).is_err());
            assert_eq!(place.facts(), None);
            let huge = Segment::<[u64]>::create_with_len(&place, 1 << 50, |_| {});
            assert!(matches!(huge, Err(Error::NoSpace { .. })), "{huge:?}");
            assert_eq!(place.facts(), None);
            if nix::unistd::Uid::effective().is_root() {
                spawn(|| {
                    // Without the right to lock memory.
                    let limit = nix::sys::resource::Resource::RLIMIT_MEMLOCK;
                    nix::sys::resource::setrlimit(limit, 0, 0).unwrap();
                    become_nobody();
                    let locked = SegmentOptions::new().residency(Residency::Locked);
                    match locked.create(&place, counter()) {
                        Err(Error::MemoryLockLimit { limit, .. }) => assert_eq!(limit, Some(0)),
                        other => panic!("{other:?}"),
                    }
                    assert_eq!(place.facts(), None);
                })
                .join();
            }
            drop(Segment::create(&place, counter()).unwrap());
        }
    }

    fn a_relative_path_means_what_it_meant_at_first() {
        let places: Vec<Place> = places("relative").collect();
        for place in &places {
            let options = SegmentOptions::new().removal(Removal::UntilLastDetach);
            let shared = options.create(place, counter()).unwrap();
            std::env::set_current_dir("/").unwrap();
            if place.starts_with('.') {
                assert!(matches!(refusal(place), Error::NotFound), "it is elsewhere now");
            }
            assert!(place.facts().is_some());
            drop(shared);
            assert_eq!(place.facts(), None, "the last one out took the right name away");
            std::env::set_current_dir(std::env::temp_dir()).unwrap();
        }
    }

    fn a_directory_that_is_not_there_is_told() {
        let missing = format!("{}/no-such-directory/jobs", std::env::temp_dir().display());
        assert!(matches!(refusal(&missing), Error::NotFound));
        assert!(matches!(unlink(&missing), Err(Error::NotFound)));
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
