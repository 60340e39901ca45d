//! Files outlive processes, reboots, containers and copying, also of a whole file
//! system: what is in them persists, and their locks come back to life.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::mounts::{has_own_mounts_for, run};
use crate::support::{
    Child, Gate, TestFile, dead_owner, die, expect_poisoned, holder_of, on_stage, spawn,
};
use shm_sync::{
    Error, LockError, PthreadCondvar, Segment, SegmentOptions, ShmCondvar, ShmMutex, ShmSafe,
    unlink,
};

/// Where the header says in which pid namespace, file and boot the locks live.
const PID_NAMESPACE: std::ops::Range<usize> = 20..24;
const DEVICE: std::ops::Range<usize> = 104..112;
const INODE: std::ops::Range<usize> = 112..120;
const BOOT: std::ops::Range<usize> = 120..136;
const BORN: std::ops::Range<usize> = 136..144;

#[derive(ShmSafe)]
#[repr(C)]
struct Jobs {
    /// They come back to life first, and take their time.
    first: [ShmMutex<u8>; 2_000],
    held: ShmMutex<(u64, u64)>,
    free: ShmMutex<u64>,
    changed: ShmCondvar,
    for_c: PthreadCondvar,
    inherits: ShmMutex<u8>,
}

fn jobs() -> Jobs {
    Jobs {
        first: [const { ShmMutex::new(1) }; 2_000],
        held: ShmMutex::new((0, 0)),
        free: ShmMutex::new(7),
        changed: ShmCondvar::new(),
        for_c: PthreadCondvar::new(),
        inherits: ShmMutex::with_priority_inheritance(9),
    }
}

/// A file that was last used in another boot of the machine, in which somebody
/// held a lock when the power failed. Returns that process's id.
fn from_another_boot(path: &str) -> u32 {
    let shared = Segment::create(path, jobs()).unwrap();
    let mut holder = spawn_holder(&shared);
    Segment::flush(&shared).unwrap();
    let as_the_power_failed = fs::read(path).unwrap();
    holder.kill();
    drop(shared);
    overwrite(path, 0, &as_the_power_failed);
    overwrite(path, BOOT.start, &[0x5a; 16]);
    // Namespaces are numbered anew in each boot.
    overwrite(path, PID_NAMESPACE.start, &[0xee; 4]);
    holder.pid()
}

/// The kind of the file system that a file is on.
fn file_system_of(path: &str) -> nix::sys::statfs::FsType {
    nix::sys::statfs::statfs(path).unwrap().filesystem_type()
}

/// File systems in files, mounted for this process and its children only. Unmounted
/// and removed when dropped.
struct Mounts(PathBuf);

impl Mounts {
    /// An empty image, and directories to mount it at.
    fn new() -> Option<Self> {
        if !has_own_mounts_for("copies of file systems") {
            return None;
        }
        let directory = TestFile::new("mounts");
        let mounts = Self(PathBuf::from(&*directory));
        for name in ["original", "copy", "bound"] {
            fs::create_dir_all(mounts.path(name)).unwrap();
        }
        let image = File::create(mounts.path("image")).unwrap();
        image.set_len(400 << 20).unwrap(); // XFS takes no less than 300 MiB
        Some(mounts)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0.display())
    }

    /// Puts a file system into the image.
    fn format(&self, kind: &str, options: &[&str]) -> bool {
        let program = format!("mkfs.{kind}");
        let image = self.path("image");
        let made = run(&program, &[options, &[&image]].concat());
        if !made {
            println!("skipped: {program} is missing or failed");
        }
        made
    }

    fn mount(&self, image: &str, name: &str, options: &str) -> bool {
        let mounted = run(
            "mount",
            &["-o", options, &self.path(image), &self.path(name)],
        );
        if !mounted {
            println!("skipped: the image can't be mounted");
        }
        mounted
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for name in ["bound", "copy", "original"] {
            // Most of them are no mounts.
            let _ = Command::new("umount")
                .args(["--lazy", &self.path(name)])
                .output();
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn a_copied_device_has_locks_of_its_own(kind: &str, format: &[&str], options: &str) {
    let Some(mounts) = Mounts::new() else {
        return;
    };
    if !mounts.format(kind, format) || !mounts.mount("image", "original", options) {
        return;
    }
    let original = mounts.path("original/jobs");
    a_copy_of_the_file_system_has_locks_of_its_own(&original, || {
        assert!(run("sync", &["--file-system", &original]));
        assert!(run(
            "cp",
            &[
                "--sparse=always",
                &mounts.path("image"),
                &mounts.path("second")
            ]
        ));
        assert!(mounts.mount("second", "copy", options));
        mounts.path("copy/jobs")
    });
}

/// `copy` copies the file system under a held lock, and returns where the file is in
/// the copy: with the same inode number, birth time and boot.
fn a_copy_of_the_file_system_has_locks_of_its_own(path: &str, copy: impl FnOnce() -> String) {
    let original = Segment::create(path, jobs()).unwrap();
    let mut holder = spawn_holder(&original);
    Segment::flush(&original).unwrap();
    let copy = copy();
    let facts = |path: &str| fs::metadata(path).map(|facts| (facts.ino(), facts.created().ok()));
    assert_eq!(
        facts(path).unwrap(),
        facts(&copy).unwrap(),
        "a test of nothing"
    );

    let copied = Segment::<Jobs>::open(&copy).unwrap();
    let poisoned = expect_poisoned(copied.held.try_lock());
    assert_eq!(dead_owner(poisoned.cause()), Some(holder.pid()));
    drop(poisoned.recover(|pair| *pair = (5, 5)));
    assert!(matches!(
        original.held.try_lock(),
        Err(LockError::WouldBlock)
    ));
    holder.kill();
    assert_eq!(*expect_poisoned(original.held.lock()).into_inner(), (1, 0));
    // Once only.
    let again = Segment::<Jobs>::open(&copy).unwrap();
    assert_eq!(*again.held.lock().unwrap(), (5, 5));
}

/// A process that holds one of the locks, halfway through a change.
fn spawn_holder(shared: &Segment<Jobs>) -> Child {
    let locked = Gate::new();
    let holder = spawn(|| {
        let mut pair = shared.held.lock().unwrap();
        pair.0 += 1;
        locked.open();
        nix::unistd::pause();
    });
    locked.pass();
    holder
}

/// Writes to a file in place.
fn overwrite(path: &str, at: usize, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at as u64).unwrap();
}

/// Locks, and repairs if need be: returns whether that was so.
fn repaired(jobs: &Jobs) -> bool {
    match jobs.held.lock() {
        Ok(_) => false,
        Err(LockError::Poisoned(poisoned)) => {
            drop(poisoned.recover(|pair| *pair = (0, 0)));
            true
        }
        Err(other) => panic!("{other:?}"),
    }
}

on_stage! {
    fn smoke() {
        let path = TestFile::new("persists");
        spawn(|| {
            let shared = Segment::create(&path, jobs()).unwrap();
            *shared.free.lock().unwrap() = 70;
            Segment::flush(&shared).unwrap();
        })
        .join();
        // Nobody has it now.
        spawn(|| {
            let shared = Segment::<Jobs>::open(&path).unwrap();
            assert_eq!(*shared.free.lock().unwrap(), 70);
            *shared.free.lock().unwrap() += 1;
        })
        .join();
        let shared = Segment::<Jobs>::open(&path).unwrap();
        assert_eq!(*shared.free.lock().unwrap(), 71);
        assert!(!shared.held.is_poisoned());
        drop(shared);
        unlink(&path).unwrap();
        assert!(matches!(Segment::<Jobs>::open(&path), Err(Error::NotFound)));
    }

    fn a_file_knows_its_place_and_time() {
        let path = TestFile::new("origin");
        let _shared = Segment::create(&path, jobs()).unwrap();
        let bytes = fs::read(&*path).unwrap();
        let facts = fs::metadata(&*path).unwrap();
        assert_eq!(bytes[INODE], facts.ino().to_le_bytes());
        let digits: String = bytes[BOOT].iter().map(|byte| format!("{byte:02x}")).collect();
        match file_system_of(&path) {
            nix::sys::statfs::TMPFS_MAGIC => assert_eq!(bytes[BOOT], [0xff; 16]),
            _ => {
                let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
                assert_eq!(digits, boot.trim().replace('-', ""));
            }
        }
        match file_system_of(&path) {
            // Its numbers are not those that others see for the same file.
            nix::sys::statfs::OVERLAYFS_SUPER_MAGIC => assert_eq!(bytes[DEVICE], [0; 8]),
            _ => assert_eq!(bytes[DEVICE], facts.dev().to_le_bytes()),
        }
    }

    // Processes agree on it whether they can read the boot's id or not.
    fn an_object_in_memory_names_no_boot() {
        let name = crate::support::TestName::new("no-boot");
        let _shared = Segment::create(&name, jobs()).unwrap();
        if file_system_of(&name.path()) == nix::sys::statfs::TMPFS_MAGIC {
            assert_eq!(fs::read(name.path()).unwrap()[BOOT], [0xff; 16]);
        }
    }

    fn after_another_boot_locks_work_and_what_was_held_is_poisoned() {
        let path = TestFile::new("boot");
        let dead = from_another_boot(&path);
        let shared = Segment::<Jobs>::open(&path).unwrap();
        let poisoned = expect_poisoned(shared.held.try_lock());
        assert_eq!(dead_owner(poisoned.cause()), Some(dead));
        assert_eq!(**poisoned.get_ref(), (1, 0), "half-changed");
        drop(poisoned.recover(|pair| pair.1 = pair.0));

        assert_eq!(*shared.free.try_lock().unwrap(), 7);
        assert_eq!(*shared.inherits.try_lock().unwrap(), 9);
        // They are robust again, and condition variables wake.
        let mut holder = holder_of(&shared.free);
        holder.kill();
        drop(expect_poisoned(shared.free.lock()).recover(|_| ()));
        let waiter = spawn(|| {
            let mine = Segment::<Jobs>::open(&path).unwrap();
            let guard = mine.free.lock().unwrap();
            let guard = mine.changed.wait_while(guard, |number| *number != 8).unwrap();
            let guard = mine.for_c.wait_while(guard, |number| *number != 9).unwrap();
            assert_eq!(*guard, 9);
        });
        for number in [8, 9] {
            waiter.wait_until_asleep();
            *shared.free.lock().unwrap() = number;
            shared.changed.notify_all();
            shared.for_c.notify_all();
            std::thread::sleep(Duration::from_millis(5));
        }
        waiter.join();

        // Once only.
        let again = Segment::<Jobs>::open(&path).unwrap();
        assert!(!again.held.is_poisoned());
        assert_eq!(*again.held.lock().unwrap(), (1, 1));
    }

    fn a_copy_has_locks_of_its_own() {
        let path = TestFile::new("original");
        let copy = TestFile::new("copy");
        let original = Segment::create(&path, jobs()).unwrap();
        let mut holder = spawn_holder(&original);
        fs::copy(&*path, &*copy).unwrap();

        let copied = Segment::<Jobs>::open(&copy).unwrap();
        let poisoned = expect_poisoned(copied.held.try_lock());
        assert_eq!(dead_owner(poisoned.cause()), Some(holder.pid()));
        drop(poisoned.recover(|pair| *pair = (5, 5)));
        assert_eq!(*copied.free.lock().unwrap(), 7);
        // The original is as it was.
        assert!(matches!(original.held.try_lock(), Err(LockError::WouldBlock)));
        assert!(!original.held.is_poisoned());
        holder.kill();
        assert_eq!(*expect_poisoned(original.held.lock()).into_inner(), (1, 0));
        assert_eq!(*copied.held.lock().unwrap(), (5, 5));
    }

    fn a_renamed_file_is_the_same() {
        let path = TestFile::new("before");
        let later = TestFile::new("after");
        let original = Segment::create(&path, jobs()).unwrap();
        let mut holder = spawn_holder(&original);
        fs::rename(&*path, &*later).unwrap();
        let renamed = Segment::<Jobs>::open(&later).unwrap();
        assert!(matches!(renamed.held.try_lock(), Err(LockError::WouldBlock)));
        holder.kill();
        drop(expect_poisoned(renamed.held.lock()));
    }

    fn a_copy_that_happens_to_have_the_same_inode_number_is_known_by_its_birth() {
        let path = TestFile::new("twin");
        let shared = Segment::create(&path, jobs()).unwrap();
        let mut holder = spawn_holder(&shared);
        let bytes = fs::read(&*path).unwrap();
        assert_ne!(bytes[BORN], [0; 8], "this file system knows when files were made");
        holder.kill();
        drop(shared);
        // As it would be on another file system that gave it the same number.
        overwrite(&path, 0, &bytes);
        overwrite(&path, BORN.start, &1_u64.to_le_bytes());
        let copy = Segment::<Jobs>::open(&path).unwrap();
        drop(expect_poisoned(copy.held.try_lock()));
        assert_eq!(fs::read(&*path).unwrap()[BORN], bytes[BORN], "at home now");
    }

    fn who_sees_another_boot_leaves_the_locks_of_the_attached_alone() {
        // As in a container with something mounted over the boot's id.
        let path = TestFile::new("masked");
        let shared = Segment::create(&path, jobs()).unwrap();
        let guard = shared.held.lock().unwrap();
        overwrite(&path, BOOT.start, &[0x5a; 16]);
        let refused = spawn(|| {
            let opened = Segment::<Jobs>::open(&path);
            assert!(matches!(opened, Err(Error::InUse)), "{opened:?}");
        });
        refused.join();
        drop(guard);
        assert!(!shared.held.is_poisoned());
        let reader = Segment::<Jobs>::open_read_only(&path).unwrap();
        drop(shared);
        // Who only reads is in nobody's way.
        assert!(Segment::<Jobs>::open(&path).is_ok());
        drop(reader);
    }

    fn a_foreign_namespace_is_refused_while_in_use() {
        let path = TestFile::new("namespace");
        let shared = Segment::create(&path, jobs()).unwrap();
        overwrite(&path, PID_NAMESPACE.start, &[0xee; 4]);
        let refused = || {
            let opened = Segment::<Jobs>::open(&path);
            assert!(matches!(opened, Err(Error::ForeignPidNamespace)), "{opened:?}");
        };
        refused();
        spawn(refused).join();
        // A process that only reads uses no lock.
        let _reader = Segment::<Jobs>::open_read_only(&path).unwrap();
        drop(shared);
        let shared = Segment::<Jobs>::open(&path).unwrap();
        assert_eq!(*shared.free.lock().unwrap(), 7);
        assert!(!shared.held.is_poisoned());
        assert_ne!(fs::read(&*path).unwrap()[PID_NAMESPACE], [0xee; 4]);
    }

    fn another_device_is_another_file() {
        let path = TestFile::new("device");
        let shared = Segment::create(&path, jobs()).unwrap();
        let mut holder = spawn_holder(&shared);
        let bytes = fs::read(&*path).unwrap();
        overwrite(&path, DEVICE.start, &0x1234_u64.to_le_bytes());
        let opened = Segment::<Jobs>::open(&path);
        assert!(matches!(opened, Err(Error::InUse)), "{opened:?}");
        holder.kill();
        drop(shared);
        // As the power failed, or the file system was copied.
        overwrite(&path, 0, &bytes);
        overwrite(&path, DEVICE.start, &0x1234_u64.to_le_bytes());
        let copy = Segment::<Jobs>::open(&path).unwrap();
        let poisoned = expect_poisoned(copy.held.try_lock());
        assert_eq!(dead_owner(poisoned.cause()), Some(holder.pid()));
        drop(poisoned);
        assert_eq!(fs::read(&*path).unwrap()[DEVICE], bytes[DEVICE]);
        // One that does not say contradicts nobody.
        overwrite(&path, DEVICE.start, &[0; 8]);
        assert!(Segment::<Jobs>::open(&path).is_ok());
    }

    fn a_btrfs_snapshot_has_locks_of_its_own() {
        let Some(mounts) = Mounts::new() else {
            return;
        };
        let root = mounts.path("original");
        if !mounts.format("btrfs", &[]) || !mounts.mount("image", "original", "loop") {
            return;
        }
        let subvolume = |name: &str| format!("{root}/{name}");
        assert!(run("btrfs", &["subvolume", "create", &subvolume("a")]));
        a_copy_of_the_file_system_has_locks_of_its_own(&subvolume("a/jobs"), || {
            let (a, b) = (subvolume("a"), subvolume("b"));
            assert!(run("btrfs", &["subvolume", "snapshot", &a, &b]));
            subvolume("b/jobs")
        });
    }

    fn a_copied_ext4_device_has_locks_of_its_own() {
        a_copied_device_has_locks_of_its_own("ext4", &["-q", "-F"], "loop");
    }

    fn a_copied_xfs_device_has_locks_of_its_own() {
        // XFS takes care that its identity is not mounted twice.
        a_copied_device_has_locks_of_its_own("xfs", &["-q"], "loop,nouuid");
    }

    // Bind mounts are how containers see a volume.
    fn a_file_is_the_same_through_every_mount() {
        for (kind, options) in [("btrfs", &["-q"][..]), ("ext4", &["-q", "-F"]), ("xfs", &["-q"])] {
            let Some(mounts) = Mounts::new() else {
                return;
            };
            if !mounts.format(kind, options) || !mounts.mount("image", "original", "loop") {
                continue;
            }
            let device = fs::read_dir("/sys/block").unwrap().flatten().find_map(|entry| {
                let file = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
                let name = entry.file_name().into_string().ok()?;
                (file.trim() == mounts.path("image")).then(|| format!("/dev/{name}"))
            });
            let bound = run("mount", &["--bind", &mounts.path("original"), &mounts.path("bound")]);
            let twice = device.is_some_and(|device| run("mount", &[&device, &mounts.path("copy")]));
            let shared = Segment::create(&mounts.path("original/jobs"), jobs()).unwrap();
            let _holder = spawn_holder(&shared);
            for (there, name) in [(bound, "bound/jobs"), (twice, "copy/jobs")] {
                if !there {
                    println!("skipped: {kind} is not to be mounted as {name}");
                    continue;
                }
                let same = Segment::<Jobs>::open(&mounts.path(name)).unwrap();
                assert!(matches!(same.held.try_lock(), Err(LockError::WouldBlock)), "{kind} {name}");
            }
        }
    }

    // An overlay shows a file that others may have open beneath it.
    fn a_file_beneath_an_overlay_stays_the_same() {
        let Some(mounts) = Mounts::new() else {
            return;
        };
        // Not on what may be an overlay itself.
        if !mounts.format("ext4", &["-q", "-F"]) || !mounts.mount("image", "original", "loop") {
            return;
        }
        for name in ["lower", "upper", "work"] {
            fs::create_dir(mounts.path(&format!("original/{name}"))).unwrap();
        }
        let base = mounts.path("original");
        let layers = format!("lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work");
        if !run("mount", &["-t", "overlay", "-o", &layers, "none", &mounts.path("bound")]) {
            println!("skipped: no overlay to be had");
            return;
        }
        let file = mounts.path("original/upper/jobs");
        let beneath = Segment::create(&file, jobs()).unwrap();
        let _holder = spawn_holder(&beneath);
        let above = Segment::<Jobs>::open(&mounts.path("bound/jobs")).unwrap();
        assert!(matches!(above.held.try_lock(), Err(LockError::WouldBlock)));
    }

    fn of_many_who_open_at_once_all_succeed_and_one_is_told() {
        const OPENERS: usize = 8;
        const ROUNDS: u64 = 20;
        let tally = Segment::anonymous(ShmMutex::new(0_u64)).unwrap();
        for round in 1..=ROUNDS {
            let path = TestFile::new("crowd");
            from_another_boot(&path);
            let start = Gate::new();
            let openers: Vec<Child> = (0..OPENERS)
                .map(|_| {
                    spawn(|| {
                        start.pass();
                        let shared = Segment::<Jobs>::open(&path).unwrap();
                        if repaired(&shared) {
                            *tally.lock().unwrap() += 1;
                        }
                        // Were the locks made anew once more, two would be inside.
                        for _ in 0..200 {
                            let mut pair = shared.held.lock().unwrap();
                            pair.0 += 1;
                            assert_eq!(pair.0, pair.1 + 1);
                            pair.1 += 1;
                        }
                    })
                })
                .collect();
            (0..OPENERS).for_each(|_| start.open());
            openers.into_iter().for_each(Child::join);
            assert_eq!(*tally.lock().unwrap(), round, "exactly one is told");
            let shared = Segment::<Jobs>::open(&path).unwrap();
            let all = OPENERS as u64 * 200;
            assert_eq!(*shared.held.lock().unwrap(), (all, all));
        }
    }

    fn a_death_in_the_middle_of_it_is_made_good_by_the_next() {
        const LOCKS: usize = 10_000;
        const HELD: [usize; 3] = [0, LOCKS / 2, LOCKS - 1];
        const STALE: [u8; 16] = [0x5a; 16];
        const ROUNDS: u32 = 20;
        type Locks = Segment<[ShmMutex<u64>]>;
        let path = TestFile::new("middle");
        let shared: Locks = SegmentOptions::new().create_with_len(&path, LOCKS, |_| {}).unwrap();
        let mut holders = HELD.map(|number| holder_of(&shared[number]));
        let mut stale = fs::read(&*path).unwrap();
        stale[BOOT].copy_from_slice(&STALE);
        holders.iter_mut().for_each(Child::kill);
        drop(shared);

        overwrite(&path, 0, &stale);
        let whole_time = crate::support::time(|| drop(Locks::open(&path).unwrap()));
        let mut left_in_the_middle = 0;
        for round in 0..ROUNDS {
            overwrite(&path, 0, &stale);
            let opening = Gate::new();
            let mut opener = spawn(|| {
                opening.open();
                let _shared = Locks::open(&path).unwrap();
                nix::unistd::pause();
            });
            opening.pass();
            std::thread::sleep(whole_time * round / ROUNDS);
            opener.kill();
            let bytes = fs::read(&*path).unwrap();
            if bytes[BOOT][8..] == [0; 8] {
                left_in_the_middle += 1;
            }
            let shared = Locks::open(&path).unwrap();
            for (number, lock) in shared.iter().enumerate() {
                let was_held = HELD.contains(&number);
                match lock.try_lock() {
                    Ok(_) => assert!(!was_held, "round {round}: lock {number}"),
                    Err(LockError::Poisoned(_)) => assert!(was_held, "round {round}: {number}"),
                    Err(other) => panic!("round {round}: lock {number}: {other:?}"),
                }
            }
        }
        println!("{left_in_the_middle} of {ROUNDS} died halfway; whole: {whole_time:?}");
    }

    fn who_only_looks_neither_heals_nor_hinders() {
        let path = TestFile::new("reader");
        from_another_boot(&path);
        let before = fs::read(&*path).unwrap();
        let read = Segment::<Jobs>::open_read_only(&path).unwrap();
        let copy = SegmentOptions::new().open_snapshot::<Jobs>(&path).unwrap();
        drop(expect_poisoned(copy.held.lock()));
        assert_eq!(fs::read(&*path).unwrap(), before);
        // While somebody looks.
        spawn(|| {
            let shared = Segment::<Jobs>::open(&path).unwrap();
            assert!(repaired(&shared));
        })
        .join();
        assert!(!shm_sync::project!(read.view() => held).is_poisoned());
        assert_eq!(shm_sync::project!(read.view() => free).peek(), 7);
    }

    fn poison_persists() {
        let path = TestFile::new("poison");
        let shared = Segment::create(&path, jobs()).unwrap();
        let mut dying = spawn(|| {
            let _guard = shared.held.lock().unwrap();
            die()
        });
        dying.wait();
        drop(expect_poisoned(shared.held.lock()));
        drop(shared);
        overwrite(&path, BOOT.start, &[0x5a; 16]);
        let shared = Segment::<Jobs>::open(&path).unwrap();
        let poisoned = expect_poisoned(shared.held.lock());
        assert_eq!(dead_owner(poisoned.cause()), Some(dying.pid()), "not overwritten");
    }
}
