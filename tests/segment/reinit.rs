//! Files that outlive processes, reboots and containers, and copies of files and file
//! systems. The data persist, and the locks are reinitialised.

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

/// The offsets of the pid namespace, file and boot for which the locks are valid.
const PID_NAMESPACE: std::ops::Range<usize> = 20..24;
const DEVICE: std::ops::Range<usize> = 104..112;
const INODE: std::ops::Range<usize> = 112..120;
const BOOT: std::ops::Range<usize> = 120..136;
const BIRTH_TIME: std::ops::Range<usize> = 136..144;

#[derive(ShmSafe)]
#[repr(C)]
struct Jobs {
    /// These are reinitialised first, and take some time.
    first: [ShmMutex<u8>; 2_000],
    held: ShmMutex<(u64, u64)>,
    free: ShmMutex<u64>,
    changed: ShmCondvar,
    for_c: PthreadCondvar,
    inheriting: ShmMutex<u8>,
}

fn jobs() -> Jobs {
    Jobs {
        first: [const { ShmMutex::new(1) }; 2_000],
        held: ShmMutex::new((0, 0)),
        free: ShmMutex::new(7),
        changed: ShmCondvar::new(),
        for_c: PthreadCondvar::new(),
        inheriting: ShmMutex::with_priority_inheritance(9),
    }
}

/// Creates a file as of another boot, in which a process held a lock when the power
/// failed. Returns the id of that process.
fn create_for_other_boot(path: &str) -> u32 {
    let shared = Segment::create(path, jobs()).unwrap();
    let mut holder = spawn_holder(&shared);
    Segment::flush(&shared).unwrap();
    let bytes_at_power_failure = fs::read(path).unwrap();
    holder.kill();
    drop(shared);
    overwrite(path, 0, &bytes_at_power_failure);
    overwrite(path, BOOT.start, &[0x5a; 16]);
    // Each boot numbers namespaces anew.
    overwrite(path, PID_NAMESPACE.start, &[0xee; 4]);
    holder.pid()
}

/// Returns the kind of the file system that a file is on.
fn file_system_of(path: &str) -> nix::sys::statfs::FsType {
    nix::sys::statfs::statfs(path).unwrap().filesystem_type()
}

/// File systems in image files, mounted for this process and its children only. They
/// are unmounted and removed when dropped.
struct Mounts(PathBuf);

impl Mounts {
    /// Creates an empty image, and the mount points.
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
        image.set_len(400 << 20).unwrap(); // XFS needs 300 MiB
        Some(mounts)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0.display())
    }

    /// Creates a file system in the image.
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
            println!("skipped, because the image cannot be mounted");
        }
        mounted
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for name in ["bound", "copy", "original"] {
            // Not every directory is a mount point.
            let _ = Command::new("umount")
                .args(["--lazy", &self.path(name)])
                .output();
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn check_copied_device(kind: &str, format: &[&str], options: &str) {
    let Some(mounts) = Mounts::new() else {
        return;
    };
    if !mounts.format(kind, format) || !mounts.mount("image", "original", options) {
        return;
    }
    let original = mounts.path("original/jobs");
    check_file_system_copy(&original, || {
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

/// Checks that the locks of a copied file system are independent. `copy` copies the
/// file system while a lock is held, and returns the path in the copy. The copy has the
/// same inode number, birth time and boot.
fn check_file_system_copy(path: &str, copy: impl FnOnce() -> String) {
    let original = Segment::create(path, jobs()).unwrap();
    let mut holder = spawn_holder(&original);
    Segment::flush(&original).unwrap();
    let copy = copy();
    let facts = |path: &str| fs::metadata(path).map(|facts| (facts.ino(), facts.created().ok()));
    assert_eq!(
        facts(path).unwrap(),
        facts(&copy).unwrap(),
        "the copy must have the same numbers"
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
    // The locks are reinitialised only once.
    let again = Segment::<Jobs>::open(&copy).unwrap();
    assert_eq!(*again.held.lock().unwrap(), (5, 5));
}

/// Starts a process that holds one of the locks, halfway through a change.
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

/// Overwrites bytes of a file in place.
fn overwrite(path: &str, at: usize, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at as u64).unwrap();
}

/// Locks, and repairs the data if the lock is poisoned. Returns whether it was.
fn lock_and_repair(jobs: &Jobs) -> bool {
    let mut was_poisoned = false;
    let repaired = jobs.held.lock_or_recover(|pair, _| {
        was_poisoned = true;
        *pair = (0, 0);
    });
    drop(repaired.unwrap());
    was_poisoned
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
        // No process has the file open now.
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
        assert!(matches!(Segment::<Jobs>::open(&path), Err(Error::NotFound { .. })));
    }

    fn file_header_names_device_inode_and_boot() {
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
            // Other mounts show other numbers for the same file.
            nix::sys::statfs::OVERLAYFS_SUPER_MAGIC => assert_eq!(bytes[DEVICE], [0; 8]),
            _ => assert_eq!(bytes[DEVICE], facts.dev().to_le_bytes()),
        }
    }

    // Processes agree on the value whether or not they can read the boot id.
    fn object_in_memory_names_no_boot() {
        let name = crate::support::TestName::new("no-boot");
        let _shared = Segment::create(&name, jobs()).unwrap();
        if file_system_of(&name.path()) == nix::sys::statfs::TMPFS_MAGIC {
            assert_eq!(fs::read(name.path()).unwrap()[BOOT], [0xff; 16]);
        }
    }

    fn reboot_poisons_held_locks() {
        let path = TestFile::new("boot");
        let dead = create_for_other_boot(&path);
        let shared = Segment::<Jobs>::open(&path).unwrap();
        let poisoned = expect_poisoned(shared.held.try_lock());
        assert_eq!(dead_owner(poisoned.cause()), Some(dead));
        assert_eq!(**poisoned.get_ref(), (1, 0), "half-changed");
        drop(poisoned.recover(|pair| pair.1 = pair.0));

        assert_eq!(*shared.free.try_lock().unwrap(), 7);
        assert_eq!(*shared.inheriting.try_lock().unwrap(), 9);
        // The locks are robust again, and the condition variables wake waiters.
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

        // The locks are reinitialised only once.
        let again = Segment::<Jobs>::open(&path).unwrap();
        assert!(!again.held.is_poisoned());
        assert_eq!(*again.held.lock().unwrap(), (1, 1));
    }

    fn copy_has_its_own_locks() {
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
        // The original is unchanged.
        assert!(matches!(original.held.try_lock(), Err(LockError::WouldBlock)));
        assert!(!original.held.is_poisoned());
        holder.kill();
        assert_eq!(*expect_poisoned(original.held.lock()).into_inner(), (1, 0));
        assert_eq!(*copied.held.lock().unwrap(), (5, 5));
    }

    fn renamed_file_keeps_its_locks() {
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

    fn copy_with_same_inode_has_other_birth_time() {
        let path = TestFile::new("twin");
        let shared = Segment::create(&path, jobs()).unwrap();
        let mut holder = spawn_holder(&shared);
        let bytes = fs::read(&*path).unwrap();
        if fs::metadata(&*path).unwrap().created().is_err() && cfg!(target_env = "gnu") {
            println!("not run, because this file system has no birth times");
            holder.kill();
            return;
        }
        assert_ne!(bytes[BIRTH_TIME], [0; 8], "this file system knows when files were made");
        holder.kill();
        drop(shared);
        // As on another file system that assigned the same number.
        overwrite(&path, 0, &bytes);
        overwrite(&path, BIRTH_TIME.start, &1_u64.to_le_bytes());
        let copy = Segment::<Jobs>::open(&path).unwrap();
        drop(expect_poisoned(copy.held.try_lock()));
        assert_eq!(fs::read(&*path).unwrap()[BIRTH_TIME], bytes[BIRTH_TIME], "the birth time is stored again");
    }

    fn other_boot_is_refused_while_in_use() {
        // As in a container with another file mounted over the boot id.
        let path = TestFile::new("masked");
        let shared = Segment::create(&path, jobs()).unwrap();
        let guard = shared.held.lock().unwrap();
        overwrite(&path, BOOT.start, &[0x5a; 16]);
        let refused = spawn(|| {
            let opened = Segment::<Jobs>::open(&path);
            assert!(matches!(opened, Err(Error::InUse { .. })), "{opened:?}");
        });
        refused.join();
        drop(guard);
        assert!(!shared.held.is_poisoned());
        let reader = Segment::<Jobs>::open_read_only(&path).unwrap();
        drop(shared);
        // A process that only reads does not block the opener.
        assert!(Segment::<Jobs>::open(&path).is_ok());
        drop(reader);
    }

    fn foreign_namespace_is_refused_while_in_use() {
        let path = TestFile::new("namespace");
        let shared = Segment::create(&path, jobs()).unwrap();
        overwrite(&path, PID_NAMESPACE.start, &[0xee; 4]);
        let refused = || {
            let opened = Segment::<Jobs>::open(&path);
            assert!(matches!(opened, Err(Error::ForeignPidNamespace { .. })), "{opened:?}");
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

    fn other_device_is_other_file() {
        let path = TestFile::new("device");
        let shared = Segment::create(&path, jobs()).unwrap();
        let mut holder = spawn_holder(&shared);
        let bytes = fs::read(&*path).unwrap();
        overwrite(&path, DEVICE.start, &0x1234_u64.to_le_bytes());
        let opened = Segment::<Jobs>::open(&path);
        assert!(matches!(opened, Err(Error::InUse { .. })), "{opened:?}");
        holder.kill();
        drop(shared);
        // As after a power failure, or in a copied file system.
        overwrite(&path, 0, &bytes);
        overwrite(&path, DEVICE.start, &0x1234_u64.to_le_bytes());
        let copy = Segment::<Jobs>::open(&path).unwrap();
        let poisoned = expect_poisoned(copy.held.try_lock());
        assert_eq!(dead_owner(poisoned.cause()), Some(holder.pid()));
        drop(poisoned);
        assert_eq!(fs::read(&*path).unwrap()[DEVICE], bytes[DEVICE]);
        // An unknown device (0) matches every device.
        overwrite(&path, DEVICE.start, &[0; 8]);
        assert!(Segment::<Jobs>::open(&path).is_ok());
    }

    fn btrfs_snapshot_has_its_own_locks() {
        let Some(mounts) = Mounts::new() else {
            return;
        };
        let root = mounts.path("original");
        if !mounts.format("btrfs", &[]) || !mounts.mount("image", "original", "loop") {
            return;
        }
        let subvolume = |name: &str| format!("{root}/{name}");
        assert!(run("btrfs", &["subvolume", "create", &subvolume("a")]));
        check_file_system_copy(&subvolume("a/jobs"), || {
            let (a, b) = (subvolume("a"), subvolume("b"));
            assert!(run("btrfs", &["subvolume", "snapshot", &a, &b]));
            subvolume("b/jobs")
        });
    }

    fn copied_ext4_device_has_its_own_locks() {
        check_copied_device("ext4", &["-q", "-F"], "loop");
    }

    fn copied_xfs_device_has_its_own_locks() {
        // XFS refuses to mount the same UUID twice.
        check_copied_device("xfs", &["-q"], "loop,nouuid");
    }

    // Containers see volumes as bind mounts.
    fn file_is_the_same_through_every_mount() {
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
            let shared = Segment::create(mounts.path("original/jobs"), jobs()).unwrap();
            let _holder = spawn_holder(&shared);
            for (is_mounted, name) in [(bound, "bound/jobs"), (twice, "copy/jobs")] {
                if !is_mounted {
                    println!("skipped, because {kind} cannot be mounted as {name}");
                    continue;
                }
                let same = Segment::<Jobs>::open(mounts.path(name)).unwrap();
                assert!(matches!(same.held.try_lock(), Err(LockError::WouldBlock)), "{kind} {name}");
            }
        }
    }

    // An overlay shows a file that other processes may have open below it.
    fn file_beneath_overlay_keeps_its_locks() {
        let Some(mounts) = Mounts::new() else {
            return;
        };
        // The directory must not be on an overlay itself.
        if !mounts.format("ext4", &["-q", "-F"]) || !mounts.mount("image", "original", "loop") {
            return;
        }
        for name in ["lower", "upper", "work"] {
            fs::create_dir(mounts.path(&format!("original/{name}"))).unwrap();
        }
        let base = mounts.path("original");
        let layers = format!("lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work");
        if !run("mount", &["-t", "overlay", "-o", &layers, "none", &mounts.path("bound")]) {
            println!("skipped, because an overlay cannot be mounted");
            return;
        }
        let file = mounts.path("original/upper/jobs");
        let beneath = Segment::create(&file, jobs()).unwrap();
        let _holder = spawn_holder(&beneath);
        let above = Segment::<Jobs>::open(mounts.path("bound/jobs")).unwrap();
        assert!(matches!(above.held.try_lock(), Err(LockError::WouldBlock)));
    }

    fn simultaneous_reinit_happens_once() {
        const OPENERS: usize = 8;
        const ROUNDS: u64 = 20;
        let tally = Segment::anonymous(ShmMutex::new(0_u64)).unwrap();
        for round in 1..=ROUNDS {
            let path = TestFile::new("crowd");
            create_for_other_boot(&path);
            let start = Gate::new();
            let openers: Vec<Child> = (0..OPENERS)
                .map(|_| {
                    spawn(|| {
                        start.pass();
                        let shared = Segment::<Jobs>::open(&path).unwrap();
                        if lock_and_repair(&shared) {
                            *tally.lock().unwrap() += 1;
                        }
                        // After a second reinitialisation, two processes would hold the
                        // lock.
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
            assert_eq!(*tally.lock().unwrap(), round, "exactly one opener gets the poisoned lock");
            let shared = Segment::<Jobs>::open(&path).unwrap();
            let all = OPENERS as u64 * 200;
            assert_eq!(*shared.held.lock().unwrap(), (all, all));
        }
    }

    fn killed_reinit_is_repeated_by_next_opener() {
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
        let mut interrupted = 0;
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
                interrupted += 1;
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
        println!("{interrupted} of {ROUNDS} openers died halfway; the whole time is {whole_time:?}");
    }

    fn read_only_open_does_not_reinitialise() {
        let path = TestFile::new("reader");
        create_for_other_boot(&path);
        let before = fs::read(&*path).unwrap();
        let read = Segment::<Jobs>::open_read_only(&path).unwrap();
        let copy = SegmentOptions::<Jobs>::new().open_snapshot(&path).unwrap();
        drop(expect_poisoned(copy.held.lock()));
        assert_eq!(fs::read(&*path).unwrap(), before);
        // The read-only segment stays open meanwhile.
        spawn(|| {
            let shared = Segment::<Jobs>::open(&path).unwrap();
            assert!(lock_and_repair(&shared));
        })
        .join();
        assert!(!shm_sync::project!(read.view() => held).is_poisoned());
        assert_eq!(shm_sync::project!(read.view() => free).peek(), 7);
    }

    fn poison_persists_over_reboot() {
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
        assert_eq!(dead_owner(poisoned.cause()), Some(dying.pid()), "the cause must not be overwritten");
    }
}
