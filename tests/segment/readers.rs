//! What a process that may only read a segment can do to its owners: delay them, by a
//! deadline at most (failure mode 39).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::support::{
    Child, Gate, Marked, TestAddress, become_nobody, is_root_for, on_stage, spawn,
};
use shm_sync::{Backing, Error, Removal, Segment, SegmentOptions, inspect, unlink};

/// The bytes by which a segment's users order what they do (`src/segment/attach.rs`).
const ATTACHED: i64 = 1 << 62;
const REMOVAL: i64 = ATTACHED - 1;
const REVIVAL: i64 = ATTACHED - 2;
const READERS: i64 = ATTACHED + (1 << 30);

/// Where the header says in which boot the locks live.
const BOOT: u64 = 120;

/// How long a call may be held up: the library's ten seconds, and a slow machine.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a call may take that waits for nobody.
const SHORT: Duration = Duration::from_secs(5);

fn lock(file: &File, kind: i32, start: i64, len: i64) {
    let request = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    // SAFETY: the struct is valid.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &request) };
    assert_eq!(rc, 0, "{}", io::Error::last_os_error());
}

fn path_of(address: &TestAddress) -> String {
    match address.kind() {
        Backing::Posix => format!("/dev/shm{}", &**address),
        _ => address.to_string(),
    }
}

fn files(what: &str) -> [TestAddress; 2] {
    [Backing::Posix, Backing::File].map(|kind| TestAddress::new(kind, what))
}

/// A process of another user, which may only read the object, and locks these bytes.
fn reader(path: &str, bytes: impl Iterator<Item = i64>) -> Child {
    let there = Gate::new();
    let reader = spawn(|| {
        become_nobody();
        File::options().write(true).open(path).unwrap_err();
        let file = File::open(path).unwrap();
        for byte in bytes {
            lock(&file, libc::F_RDLCK, byte, 1);
        }
        there.open();
        nix::unistd::pause();
    });
    there.pass();
    reader
}

fn readable() -> SegmentOptions {
    SegmentOptions::new().mode(0o644)
}

/// Calls `f`, which must come back soon enough.
fn within<R>(limit: Duration, f: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = f();
    let took = start.elapsed();
    assert!(took < limit, "it took {took:?}");
    result
}

fn open(address: &str) -> Result<Segment<Marked>, Error> {
    readable().open(address)
}

on_stage! {
    fn smoke() {
        let address = TestAddress::new(Backing::Posix, "readers");
        let segment = readable().create(&address, Marked::new(1)).unwrap();
        assert_eq!(open(&address).unwrap().id(), segment.id());
    }

    fn reader_on_reinit_byte_delays_open() {
        if !is_root_for("a reader on the revival byte") {
            return;
        }
        for address in files("revival") {
            drop(readable().create(&address, Marked::new(1)).unwrap());
            let path = path_of(&address);
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[0x5a; 16], BOOT).unwrap(); // as after a reboot
            let mut reader = reader(&path, [REVIVAL].into_iter());
            let error = within(SHORT, || open(&address)).unwrap_err();
            assert!(matches!(error, Error::Blocked { .. }), "{error:?}");
            // It says how to find the holder.
            let text = error.to_string();
            let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
            assert!(text.contains(&format!(":{inode} {REVIVAL} ")), "{text}");
            let found = std::process::Command::new("sh")
                .args(["-c", &text[text.find('`').unwrap() + 1..text.rfind('`').unwrap()]])
                .output()
                .unwrap();
            let found = String::from_utf8(found.stdout).unwrap();
            let holder = format!("/proc/{}/fdinfo/", reader.pid());
            assert!(found.lines().any(|line| line.starts_with(&holder)), "{text}: {found}");
            reader.kill();
            // A byte by which a writer would be attached.
            let mut reader = self::reader(&path, [ATTACHED + 1].into_iter());
            let error = within(SHORT, || open(&address)).unwrap_err();
            assert!(matches!(error, Error::InUse), "{error:?}");
            reader.kill();
            open(&address).unwrap().visit();
        }
    }

    fn reader_on_removal_byte_delays_removers() {
        if !is_root_for("a reader on the removal byte") {
            return;
        }
        for address in files("removal") {
            let transient = readable().removal(Removal::UntilLastDetach);
            let segment = transient.create(&address, Marked::new(1)).unwrap();
            let mut reader = reader(&path_of(&address), [REMOVAL].into_iter());
            within(SHORT, || drop(segment));
            assert!(address.exists(), "the name stays, for gc");
            let refused = within(SHORT, || inspect::remove(&address.parse().unwrap()));
            assert!(matches!(refused, Err(Error::Blocked { .. })), "{refused:?}");
            // It takes away whatever has the name.
            within(SHORT, || unlink(&address)).unwrap();
            assert!(!address.exists());
            reader.kill();
        }
    }

    fn stopped_remover_delays_other_removers() {
        // Ten seconds each: one kind of file is enough.
        for address in &files("stopped")[..1] {
            let segment = readable().create(address, Marked::new(1)).unwrap();
            let there = Gate::new();
            let path = path_of(address);
            let mut remover = spawn(|| {
                let file = File::options().read(true).write(true).open(&path).unwrap();
                lock(&file, libc::F_WRLCK, REMOVAL, 1);
                there.open();
                nix::unistd::pause();
            });
            there.pass();
            let refused = within(LIMIT, || unlink(address));
            assert!(matches!(refused, Err(Error::Blocked { .. })), "{refused:?}");
            remover.kill();
            drop(segment);
            // Now all of the bytes by which processes are attached.
            let mut remover = spawn(|| {
                let file = File::options().read(true).write(true).open(&path).unwrap();
                lock(&file, libc::F_WRLCK, ATTACHED, 1 << 31);
                there.open();
                nix::unistd::pause();
            });
            there.pass();
            let refused = within(LIMIT, || open(address));
            assert!(matches!(refused, Err(Error::Blocked { .. })), "{refused:?}");
            remover.kill();
            open(address).unwrap().visit();
        }
    }

    fn foreign_file_locks_delay_gc_little() {
        let objects: Vec<_> = (0..6).map(|_| TestAddress::new(Backing::Posix, "gc")).collect();
        for address in &objects {
            drop(readable().create(address, Marked::new(1)).unwrap());
        }
        let there = Gate::new();
        let mut owner = spawn(|| {
            let hold = |address| {
                let file = File::options().read(true).write(true).open(path_of(address)).unwrap();
                lock(&file, libc::F_WRLCK, REMOVAL, 1);
                file
            };
            let _held: Vec<File> = objects.iter().map(hold).collect();
            there.open();
            nix::unistd::pause();
        });
        there.pass();
        within(SHORT, || {
            for address in &objects {
                let refused = inspect::remove(&address.parse().unwrap());
                assert!(matches!(refused, Err(Error::Blocked { .. })), "{refused:?}");
            }
        });
        owner.kill();
    }

    fn slow_remover_is_waited_for() {
        for address in files("slow") {
            drop(readable().create(&address, Marked::new(1)).unwrap());
            let there = Gate::new();
            let path = path_of(&address);
            let remover = spawn(|| {
                let file = File::options().read(true).write(true).open(&path).unwrap();
                lock(&file, libc::F_WRLCK, REMOVAL, 1 + (1 << 31));
                there.open();
                std::thread::sleep(Duration::from_millis(700));
            });
            there.pass();
            within(LIMIT, || open(&address)).unwrap().visit();
            within(LIMIT, || unlink(&address)).unwrap();
            remover.join();
        }
    }

    fn thousands_of_locks_hide_no_attachment() {
        if !is_root_for("thousands of locks") {
            return;
        }
        let address = TestAddress::new(Backing::Posix, "many");
        let segment = readable().create(&address, Marked::new(1)).unwrap();
        let there = Gate::new();
        let mut other = spawn(|| {
            let opened = open(&address).unwrap();
            there.open();
            nix::unistd::pause();
            drop(opened);
        });
        there.pass();
        // Every second byte, or they would be one lock.
        let spots = (0..10_000).map(|n| READERS + 2 * n);
        let mut reader = reader(&path_of(&address), spots);
        // It has inherited the mapping of this process, like every child.
        let mut all = [std::process::id(), other.pid(), reader.pid()];
        all.sort_unstable();
        let attached = within(SHORT, || Segment::attached_pids(&segment)).unwrap();
        assert_eq!(attached, all);
        let object = within(SHORT, || inspect::object(&address.parse().unwrap())).unwrap();
        assert_eq!(object.users.pids, all);
        // Nor do they hide a process whose maps the asker may not read, and whose lock
        // the kernel tells last.
        let mut late = spawn(|| {
            let opened = open(&address).unwrap();
            there.open();
            nix::unistd::pause();
            drop(opened);
        });
        there.pass();
        spawn(|| {
            become_nobody();
            let object = within(SHORT, || inspect::object(&address.parse().unwrap())).unwrap();
            assert!(object.users.pids.contains(&late.pid()), "{:?}", object.users);
        })
        .join();
        late.kill();
        other.kill();
        reader.kill();
    }
}
