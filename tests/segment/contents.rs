//! The contents of segments and their memory: values larger than a stack, lengths
//! chosen at creation, huge pages, resident and locked memory, core dumps.

use std::fs;
use std::thread;

use crate::support::{
    NOBODY, TestFile, TestKey, TestName, become_nobody, can_populate_for, dead_owner,
    expect_poisoned, holder_of, is_root_for, on_stage, spawn,
};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use shm_sync::{
    CoreDump, Error, Pages, Residency, Segment, SegmentContent, SegmentOptions, ShmMutex, ShmSafe,
    Unsupported, WithTail,
};

type Counter = ShmMutex<u64>;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// An address of each kind, for a test of all kinds.
struct Names(TestName, TestFile, TestKey);

impl Names {
    fn new(what: &str) -> Self {
        Self(TestName::new(what), TestFile::new(what), TestKey::new())
    }

    fn all(&self) -> [&str; 3] {
        [&self.0, &self.1, &self.2]
    }
}

/// The entry of `/proc/self/smaps` for the mapping of a segment. Sizes are in bytes.
struct Mapped(String);

impl Mapped {
    fn of<T: SegmentContent>(segment: &Segment<T>) -> Self {
        Self::at(std::ptr::from_ref::<T>(segment).addr())
    }

    fn at(at: usize) -> Self {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut block = String::new();
        let mut is_ours = false;
        for line in maps.lines() {
            let range = line.split(' ').next().unwrap().split_once('-');
            if let Some((start, end)) = range {
                let bound = |text| usize::from_str_radix(text, 16).unwrap();
                is_ours = (bound(start)..bound(end)).contains(&at);
            }
            if is_ours {
                block += line;
                block.push('\n');
            }
        }
        Self(block)
    }

    /// Returns whether this mapping is locked. The field `Locked` instead counts only a
    /// part of each page that several mappings share.
    fn is_locked(&self) -> bool {
        self.has_flag("lo")
    }

    /// Returns whether the mapping is excluded from core dumps.
    fn is_excluded(&self) -> bool {
        self.has_flag("dd")
    }

    fn has_flag(&self, expected: &str) -> bool {
        let flags = self.0.lines().find(|line| line.starts_with("VmFlags:"));
        flags.unwrap().split(' ').any(|flag| flag == expected)
    }

    fn bytes(&self, title: &str) -> usize {
        let line = self.0.lines().find_map(|line| line.strip_prefix(title));
        let number = line.unwrap().trim_start_matches(':').trim();
        KIB * number
            .strip_suffix(" kB")
            .unwrap()
            .parse::<usize>()
            .unwrap()
    }
}

#[test]
fn smoke() {
    let names = Names::new("smoke");
    for name in names.all() {
        let mine = SegmentOptions::<[Counter]>::new()
            .create_with_len(name, 3, |locks| {
                locks[2] = Counter::new(5);
            })
            .unwrap();
        assert_eq!(mine.len(), 3);
        let opened = Segment::<[Counter]>::open(name).unwrap();
        assert_eq!(opened.len(), 3);
        *opened[2].lock().unwrap() += 1;
        let values: Vec<u64> = mine.iter().map(|lock| *lock.lock().unwrap()).collect();
        assert_eq!(values, [0, 0, 6]);
    }
}

// --- Lengths ------------------------------------------------------------------

#[derive(ShmSafe)]
#[repr(C)]
struct Head {
    used: ShmMutex<u32>,
    kind: u8,
}

type Table = WithTail<Head, [Counter]>;

#[test]
fn tail_follows_head() {
    let names = Names::new("tail");
    for name in names.all() {
        let table = SegmentOptions::<Table>::new()
            .create_with_len(name, 50, |table| {
                table.head.used = ShmMutex::new(9);
                table.head.kind = 7;
                table.tail[49] = Counter::new(49);
            })
            .unwrap();
        *table.head.used.lock().unwrap() += 1;
        let same = Segment::<Table>::open(name).unwrap();
        assert_eq!((same.tail.len(), same.head.kind), (50, 7));
        assert_eq!(*same.head.used.lock().unwrap(), 10);
        assert_eq!(*same.tail[49].lock().unwrap(), 49);
        assert_eq!(*same.tail[48].lock().unwrap(), 0);
        let end = std::ptr::from_ref(&same.tail[49]).addr() + size_of::<Counter>();
        let start = std::ptr::from_ref(&same.head).addr();
        assert!(end - start <= size_of::<WithTail<Head, [Counter; 50]>>());
    }
}

#[test]
fn open_refuses_other_element_type() {
    fn refuses<T: SegmentContent + ?Sized>(name: &str) {
        let opened = Segment::<T>::open(name);
        assert!(
            matches!(opened, Err(Error::LayoutMismatch { .. })),
            "{opened:?}"
        );
    }
    let names = Names::new("elements");
    for name in names.all() {
        let slice = SegmentOptions::<[u32]>::new()
            .create_with_len(name, 8, |_| {})
            .unwrap();
        refuses::<[u64]>(name);
        refuses::<[i32]>(name);
        refuses::<[u32; 8]>(name);
        refuses::<u32>(name);
        refuses::<[[u32; 8]]>(name);
        refuses::<WithTail<(), [u32]>>(name);
        drop(slice);
        shm_sync::unlink(name).unwrap();

        let _array = SegmentOptions::<[u32; 8]>::new()
            .create_in_place(name, |_| {})
            .unwrap();
        refuses::<[u32]>(name);
        refuses::<[u32; 7]>(name);
    }
}

#[test]
fn length_is_set_by_creator() {
    let names = Names::new("first");
    for name in names.all() {
        let options = SegmentOptions::new();
        let mine: Segment<[u64]> = options.open_or_create_with_len(name, 4, |_| {}).unwrap();
        let same: Segment<[u64]> = options
            .open_or_create_with_len(name, 9, |_| panic!("the segment exists already"))
            .unwrap();
        assert_eq!((mine.len(), same.len()), (4, 4));
    }
}

#[test]
fn slice_may_be_empty() {
    let names = Names::new("none");
    for name in names.all() {
        let none = SegmentOptions::<[Counter]>::new()
            .create_with_len(name, 0, |_| {})
            .unwrap();
        assert!(none.is_empty());
        assert!(Segment::<[Counter]>::open(name).unwrap().is_empty());
        drop(none);
        shm_sync::unlink(name).unwrap();
        let none = SegmentOptions::<Table>::new()
            .create_with_len(name, 0, |_| {})
            .unwrap();
        *none.head.used.lock().unwrap() = 1;
        assert!(Segment::<Table>::open(name).unwrap().tail.is_empty());
        drop(none);
        shm_sync::unlink(name).unwrap();
        // Elements without a size may have any number.
        let units = SegmentOptions::<[()]>::new()
            .create_with_len(name, usize::MAX, |_| {})
            .unwrap();
        assert_eq!(Segment::<[()]>::open(name).unwrap().len(), units.len());
        drop(units);
        shm_sync::unlink(name).unwrap();
        let _unit = Segment::create(name, ()).unwrap();
        assert!(Segment::<()>::open(name).is_ok());
    }
    let none: Segment<[Counter]> = SegmentOptions::new()
        .anonymous_with_len("none", 0, |_| {})
        .unwrap();
    assert!(none.is_empty());
}

#[test]
fn label_refused_by_kernel_is_an_error() {
    for label in ["x".repeat(300), "nul\0".to_owned()] {
        let made = SegmentOptions::new().anonymous(&label, 0_u8);
        assert!(matches!(made, Err(Error::Os { .. })), "{made:?}");
    }
}

// --- In place -----------------------------------------------------------------

#[test]
fn content_in_place_is_zero_with_usable_locks() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Mixed {
        plain: [u64; 100],
        inherits: ShmMutex<u64>,
        untouched: ShmMutex<[u8; 100]>,
        nested: [(u8, ShmMutex<u16>); 3],
    }
    let names = Names::new("zero");
    for name in names.all() {
        let mixed = SegmentOptions::<Mixed>::new()
            .create_in_place(name, |mixed| {
                assert!(mixed.plain.iter().all(|number| *number == 0));
                assert_eq!(mixed.untouched.get_mut(), &[0; 100]);
                mixed.inherits = ShmMutex::with_priority_inheritance(4);
                *mixed.nested[2].1.get_mut() = 9;
                mixed.plain[99] = 1;
            })
            .unwrap();
        assert_eq!(*mixed.inherits.lock().unwrap(), 4);
        assert_eq!(*mixed.untouched.lock().unwrap(), [0; 100]);
        assert_eq!(*mixed.nested[2].1.lock().unwrap(), 9);
        assert_eq!(mixed.plain[99], 1);
    }
}

#[test]
fn only_creator_initialises() {
    let name = TestName::new("creator");
    let options = SegmentOptions::new();
    let first: Segment<[u64; 10]> = options
        .open_or_create_in_place(&name, |numbers: &mut [u64; 10]| numbers[9] = 9)
        .unwrap();
    let second: Segment<[u64; 10]> = options
        .open_or_create_in_place(&name, |_| panic!("the segment exists already"))
        .unwrap();
    assert_eq!((first[9], second[9]), (9, 9));
}

on_stage! {
    fn gigabyte_uses_neither_stack_nor_heap() {
        #[derive(ShmSafe)]
        #[repr(C)]
        struct Frame {
            lock: Counter,
            pixels: [u8; GIB],
        }
        // The limits leave no room for a copy.
        setrlimit(Resource::RLIMIT_DATA, 128 * MIB as u64, 128 * MIB as u64).unwrap();
        let name = TestName::new("gigabyte");
        let small_stack = thread::Builder::new().stack_size(64 * KIB);
        thread::scope(|scope| {
            let name = &name;
            small_stack
                .spawn_scoped(scope, move || {
                    let created = SegmentOptions::<Frame>::new().create_in_place(name, |frame| {
                        frame.lock = Counter::new(1);
                        frame.pixels[GIB - 1] = 255;
                    });
                    let mine = match created {
                        Err(Error::NoSpace { .. }) => {
                            println!("not run: /dev/shm has no room for a gigabyte");
                            return;
                        }
                        other => other.unwrap(),
                    };
                    let same = Segment::<Frame>::open(name).unwrap();
                    *same.lock.lock().unwrap() += 1;
                    assert_eq!(*mine.lock.lock().unwrap(), 2);
                    assert_eq!((same.pixels[0], same.pixels[GIB - 1]), (0, 255));
                    assert!(Segment::mapped_len(&same) > GIB);
                })
                .unwrap()
                .join()
                .unwrap();
        });
    }

    fn million_locks_work() {
        const MANY: usize = 1_000_000;
        let name = TestName::new("million");
        let started = std::time::Instant::now();
        let mine = match SegmentOptions::<[Counter]>::new().create_with_len(&name, MANY, |_| {}) {
            Err(Error::NoSpace { .. }) => {
                println!("not run: /dev/shm has no room for a million locks");
                return;
            }
            other => other.unwrap(),
        };
        println!("created in {:?}", started.elapsed());
        spawn(|| {
            let started = std::time::Instant::now();
            let same = Segment::<[Counter]>::open(&name).unwrap();
            println!("opened in {:?}", started.elapsed());
            assert_eq!(same.len(), MANY);
            *same[MANY - 1].lock().unwrap() = 7;
        })
        .join();
        assert_eq!(*mine[MANY - 1].lock().unwrap(), 7);
        let mut holder = holder_of(&mine[MANY - 1]);
        holder.kill();
        let cause = expect_poisoned(mine[MANY - 1].lock()).cause();
        assert_eq!(dead_owner(cause), Some(holder.pid()));
        assert_eq!(*mine[MANY - 2].lock().unwrap(), 0);
        let started = std::time::Instant::now();
        drop(mine);
        println!("dropped in {:?}", started.elapsed());
    }

    fn oversized_content_is_refused() {
        // If the kernel runs out of memory after all, it kills this process.
        fs::write("/proc/self/oom_score_adj", "1000").unwrap();
        let names = Names::new("huge");
        let options = SegmentOptions::<[u64]>::new();
        for len in [
            1 << 48,
            isize::MAX as usize / 8,
            isize::MAX as usize,
            usize::MAX,
        ] {
            let refused = |result: Result<(), Error>| match result {
                Err(Error::NoSpace { bytes, .. }) => assert!(bytes > len / 2, "{bytes}"),
                other => panic!("{len} elements: {other:?}"),
            };
            for name in names.all() {
                refused(SegmentOptions::<[u8]>::new().create_with_len(name, len, |_| {}).map(drop));
                refused(SegmentOptions::<[Counter]>::new().create_with_len(name, len, |_| {}).map(drop));
                refused(SegmentOptions::<Table>::new().create_with_len(name, len, |_| {}).map(drop));
                let made = options.open_or_create_with_len(name, len, |_| {});
                refused(made.map(drop));
                let opened = Segment::<[u8]>::open(name);
                let is_absent = matches!(opened, Err(Error::NotFound { .. }));
                assert!(is_absent, "the failed creation leaves nothing");
            }
            refused(
                SegmentOptions::<[u8]>::new()
                    .anonymous_with_len("huge", len, |_| {})
                    .map(drop),
            );
        }
    }

    fn initialiser_panic_leaves_nothing() {
        let names = Names::new("panic");
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let mappings = || fs::read_to_string("/proc/self/maps").unwrap().matches("shm").count();
        let before = (descriptors(), mappings());
        for name in names.all() {
            let panicking = || {
                SegmentOptions::<[Counter]>::new().create_with_len(name, 100, |_| panic!("halfway"))
            };
            assert!(std::panic::catch_unwind(panicking).is_err());
            assert!(matches!(Segment::<[Counter]>::open(name), Err(Error::NotFound { .. })));
            let panicking = || Segment::open_or_create(name, || -> Counter { panic!("at once") });
            assert!(std::panic::catch_unwind(panicking).is_err());
            assert!(matches!(Segment::<Counter>::open(name), Err(Error::NotFound { .. })));
        }
        let panicking = || {
            let options = SegmentOptions::<Counter>::new();
            options.anonymous_in_place("panic", |_| panic!("halfway"))
        };
        assert!(std::panic::catch_unwind(panicking).is_err());
        assert_eq!((descriptors(), mappings()), before);
    }
}

// --- Pages --------------------------------------------------------------------

fn huge_pages_free() -> usize {
    let info = fs::read_to_string("/proc/meminfo").unwrap();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("HugePages_Free:"));
    line.map_or(0, |number| number.trim().parse().unwrap())
}

on_stage! {
    fn huge_pages_are_used_or_refused() {
        let huge = SegmentOptions::new().pages(Pages::Huge);
        let Names(posix, file, key) = Names::new("huge-pages");
        for name in [&*posix, &*file] {
            let made = huge.create(name, Counter::new(0));
            assert!(matches!(made, Err(Error::Unsupported { reason: Unsupported::HugePages, .. })), "{made:?}");
            assert!(matches!(Segment::<Counter>::open(name), Err(Error::NotFound { .. })));
        }
        let results = [
            huge.anonymous("huge", Counter::new(0)),
            huge.create(&key, Counter::new(0)),
            huge.create_system_v_private(Counter::new(0)),
        ];
        let free = huge_pages_free() + results.iter().flatten().count();
        println!("{free} huge pages were free");
        for result in results {
            match result {
                Ok(segment) => {
                    *segment.lock().unwrap() += 1;
                    let mapped = Mapped::of(&segment);
                    assert!(mapped.bytes("KernelPageSize") > 64 * KIB);
                    let mut holder = holder_of(&segment);
                    holder.kill();
                    drop(expect_poisoned(segment.lock()));
                    if let Some(address) = Segment::address(&segment) {
                        drop(Segment::<Counter>::open(address).unwrap());
                        shm_sync::unlink(address).unwrap();
                    }
                }
                Err(Error::NoHugePages { bytes, .. }) => {
                    assert!(free < 3, "huge pages are refused although enough are free");
                    assert!(bytes >= size_of::<Counter>());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn prefaulted_memory_is_resident() {
        if !can_populate_for("prefaulted_memory_is_resident") {
            return;
        }
        const LEN: usize = 2 * MIB;
        let names = Names::new("resident");
        let resident = |options: &SegmentOptions<[u8; LEN]>, name: &str| {
            let created: Segment<[u8; LEN]> = options.create_in_place(name, |_| {}).unwrap();
            let opened = options.open(name).unwrap();
            let both = [&created, &opened].map(|segment| Mapped::of(segment).bytes("Rss"));
            let read = options.open_read_only(name).unwrap();
            drop((created, opened, read));
            shm_sync::unlink(name).unwrap();
            both
        };
        for name in names.all() {
            let default = resident(&SegmentOptions::new(), name);
            assert!(default.iter().all(|bytes| *bytes < LEN / 2), "{name}: {default:?}");
            let options = SegmentOptions::new().residency(Residency::Prefaulted);
            let prefaulted = resident(&options, name);
            assert!(prefaulted.iter().all(|bytes| *bytes >= LEN), "{name}: {prefaulted:?}");
        }
        let options = SegmentOptions::new().residency(Residency::Prefaulted);
        let prefaulted: Segment<[u8; LEN]> =
            options.anonymous_in_place("prefaulted", |_| {}).unwrap();
        assert!(Mapped::of(&prefaulted).bytes("Rss") >= LEN);
        println!("{}", Mapped::of(&prefaulted).0);
    }

    fn core_dump_omits_excluded_segments() {
        if !can_populate_for("core_dump_omits_excluded_segments") {
            return;
        }
        let names = Names::new("core-dump");
        let excluded = SegmentOptions::<u64>::new().core_dump(CoreDump::Excluded);
        let locked = excluded.clone().residency(Residency::Locked);
        for name in names.all() {
            for (options, expected) in
                [(&SegmentOptions::new(), false), (&excluded, true), (&locked, true)]
            {
                let created = options.create(name, 0_u64).unwrap();
                let opened = options.open(name).unwrap();
                let read = options.open_read_only(name).unwrap();
                let copy = options.open_snapshot(name).unwrap();
                let mapped = [
                    Mapped::of(&created),
                    Mapped::of(&opened),
                    Mapped::at(std::ptr::from_ref::<u64>(read.view().get()).addr()),
                    Mapped::at(std::ptr::from_ref::<u64>(&copy).addr()),
                ];
                for (way, mapped) in mapped.iter().enumerate() {
                    assert_eq!(mapped.is_excluded(), expected, "{name}, way {way}: {}", mapped.0);
                }
                spawn(|| assert_eq!(Mapped::of(&created).is_excluded(), expected)).join();
                // Each mapping has its own setting.
                let plain = Segment::<u64>::open(name).unwrap();
                assert!(!Mapped::of(&plain).is_excluded());
                drop((created, opened, read, plain));
                shm_sync::unlink(name).unwrap();
            }
        }
        let plain = Segment::anonymous(Counter::new(0)).unwrap();
        assert!(!Mapped::of(&plain).is_excluded());
        let excluded = SegmentOptions::new().core_dump(CoreDump::Excluded);
        let excluded_segment = excluded.anonymous("core-dump", Counter::new(0)).unwrap();
        assert!(Mapped::of(&excluded_segment).is_excluded());
        let file = Segment::as_fd(&excluded_segment).unwrap().try_clone_to_owned().unwrap();
        let received = excluded.from_fd(file).unwrap();
        assert!(Mapped::of(&received).is_excluded());

        let huge = excluded.pages(Pages::Huge);
        let results = [
            huge.anonymous("core-dump", Counter::new(0)),
            huge.create(names.all()[2], Counter::new(0)),
        ];
        for result in results {
            match result {
                Ok(segment) => assert!(Mapped::of(&segment).is_excluded()),
                Err(Error::NoHugePages { .. }) => println!("skipped: no huge pages are free"),
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    fn memory_is_locked_on_request() {
        if !can_populate_for("memory_is_locked_on_request") {
            return;
        }
        const LEN: usize = 256 * KIB;
        let names = Names::new("locked");
        let options = SegmentOptions::new().residency(Residency::Locked);
        for name in names.all() {
            let created: Segment<[u8; LEN]> = options.create_in_place(name, |_| {}).unwrap();
            let opened = options.open(name).unwrap();
            for segment in [&created, &opened] {
                assert!(Mapped::of(segment).bytes("Rss") >= LEN);
                match Segment::system_v_status(segment).unwrap() {
                    Some(status) => assert!(status.is_locked),
                    None => assert!(Mapped::of(segment).is_locked()),
                }
            }
            drop((created, opened));
            let plain = Segment::<[u8; LEN]>::open(name).unwrap();
            if Segment::backing(&plain) != shm_sync::Backing::SystemV {
                assert!(!Mapped::of(&plain).is_locked());
            }
        }
        let locked: Segment<[u8; LEN]> = options.anonymous_in_place("locked", |_| {}).unwrap();
        assert!(Mapped::of(&locked).is_locked());
        assert_eq!(Mapped::of(&locked).bytes("Rss"), Mapped::of(&locked).bytes("Locked"));
    }

    fn memory_lock_limit_is_reported() {
        const LEN: usize = MIB;
        const LIMIT: u64 = 64 * KIB as u64;
        let test = "memory_lock_limit_is_reported";
        if !is_root_for(test) || !can_populate_for(test) {
            return;
        }
        let names = Names::new("limit");
        spawn(|| {
            setrlimit(Resource::RLIMIT_MEMLOCK, LIMIT, LIMIT).unwrap();
            become_nobody();
            let options = SegmentOptions::new().residency(Residency::Locked);
            let refused = |result: Result<Segment<[u8; LEN]>, Error>| {
                let error = result.expect_err("the segment is larger than the limit");
                let text = error.to_string();
                match error {
                    Error::MemoryLockLimit { bytes, limit, .. } => {
                        assert!(bytes >= LEN);
                        assert_eq!(limit, Some(LIMIT));
                        assert!(text.contains("65536") && text.contains("ulimit"), "{text}");
                    }
                    other => panic!("{other:?}"),
                }
            };
            refused(options.anonymous_in_place("limit", |_| {}));
            for name in names.all() {
                refused(options.create_in_place(name, |_| {}));
                let opened = Segment::<[u8; LEN]>::open(name);
                let is_absent = matches!(opened, Err(Error::NotFound { .. }));
                assert!(is_absent, "{name}: the failed creation leaves nothing");
                let made = SegmentOptions::<[u8; LEN]>::new().create_in_place(name, |_| {}).unwrap();
                refused(options.open(name));
                drop(made);
                shm_sync::unlink(name).unwrap();
                // A segment within the limit is created.
                let options = SegmentOptions::new().residency(Residency::Locked);
                drop(options.create(name, Counter::new(0)).unwrap());
                shm_sync::unlink(name).unwrap();
            }
        })
        .join();
        assert_ne!(nix::unistd::Uid::effective().as_raw(), NOBODY);
    }

    fn system_v_size_limit_is_reported() {
        if !is_root_for("system_v_size_limit_is_reported") {
            return;
        }
        spawn(|| {
            let others = fs::read_to_string("/proc/sysvipc/shm").unwrap().lines().count();
            let key = TestKey::new();
            let _seen_outside_only = Segment::create(&key, 0_u8).unwrap();
            spawn(|| {
                if let Err(errno) = unshare(CloneFlags::CLONE_NEWIPC) {
                    println!("not run: no new IPC namespace is permitted ({errno})");
                    return;
                }
                let list = fs::read_to_string("/proc/sysvipc/shm").unwrap();
                assert_eq!(list.lines().count(), 1, "the new namespace has no segments");
                if let Err(error) = fs::write("/proc/sys/kernel/shmmax", "65536") {
                    println!("not run: the limit cannot be set ({error})");
                    return;
                }
                drop(Segment::create(&key, 0_u8).unwrap());
                shm_sync::unlink(&key).unwrap();
                let large = SegmentOptions::<[u8; 65536]>::new().create_in_place(&key, |_| {});
                assert!(matches!(large, Err(Error::NoSpace { bytes: 65537.., .. })), "{large:?}");
            })
            .join();
            shm_sync::unlink(&key).unwrap();
            assert!(others >= 1);
        })
        .join();
    }
}
