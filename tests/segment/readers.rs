//! Processes that may only read a segment can delay its users, but only until a
//! deadline (failure mode 39).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::support::{
    Child, Gate, Marked, TestAddress, become_nobody, is_root_for, on_stage, spawn,
};
use shm_sync::{Backing, Error, Removal, Segment, SegmentOptions, inspect, unlink};

/// The bytes whose locks order the operations on a segment
/// (`src/segment/backing/attachment.rs`).
const ATTACHED: i64 = 1 << 62;
const REMOVAL: i64 = ATTACHED - 1;
const REINIT: i64 = ATTACHED - 2;
const READERS: i64 = ATTACHED + (1 << 30);

/// The offset of the stored epoch in the header.
const EPOCH: u64 = 120;

/// The longest time that a call may be delayed: the library's ten seconds, and time for
/// a slow machine.
const LIMIT: Duration = Duration::from_secs(30);
/// The longest time for a call that waits for no other process.
const SHORT: Duration = Duration::from_secs(5);

fn lock(file: &File, kind: i32, start: i64, len: i64) {
    let request = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    // SAFETY: the struct is valid for reads during the call.
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

/// Starts a process of another user, which may only read the object and locks these
/// bytes.
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

fn readable<T>() -> SegmentOptions<T> {
    SegmentOptions::new().mode(0o644)
}

/// Calls `f`, which must return within `limit`.
fn within<R>(limit: Duration, f: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = f();
    let took = start.elapsed();
    assert!(took < limit, "the call took {took:?}");
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
        if !is_root_for("a reader on the reinitialisation byte") {
            return;
        }
        for address in files("reinit") {
            drop(readable().create(&address, Marked::new(1)).unwrap());
            let path = path_of(&address);
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[0x5a; 16], EPOCH).unwrap(); // as after a reboot
            let mut reader = reader(&path, [REINIT].into_iter());
            let error = within(SHORT, || open(&address)).unwrap_err();
            assert!(matches!(error, Error::Blocked { .. }), "{error:?}");
            // The error says how to find the holder.
            let text = error.to_string();
            let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
            assert!(text.contains(&format!(":{inode} {REINIT} ")), "{text}");
            let found = std::process::Command::new("sh")
                .args(["-c", &text[text.find('`').unwrap() + 1..text.rfind('`').unwrap()]])
                .output()
                .unwrap();
            let found = String::from_utf8(found.stdout).unwrap();
            let holder = format!("/proc/{}/fdinfo/", reader.pid());
            assert!(found.lines().any(|line| line.starts_with(&holder)), "{text}: {found}");
            reader.kill();
            // A byte with which a writer would be attached.
            let mut reader = self::reader(&path, [ATTACHED + 1].into_iter());
            let error = within(SHORT, || open(&address)).unwrap_err();
            assert!(matches!(error, Error::InUse { .. }), "{error:?}");
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
            assert!(address.exists(), "the name stays until `gc` removes it");
            let refused = within(SHORT, || inspect::remove(&address.parse().unwrap()));
            assert!(matches!(refused, Err(Error::Blocked { .. })), "{refused:?}");
            // `unlink` removes any object with this name.
            within(SHORT, || unlink(&address)).unwrap();
            assert!(!address.exists());
            reader.kill();
        }
    }

    fn stopped_remover_delays_other_removers() {
        // Each call takes ten seconds, so one kind of file is enough.
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
            // The same with all bytes with which processes are attached.
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
        // Every second byte, because the kernel joins adjacent locks.
        let spots = (0..10_000).map(|n| READERS + 2 * n);
        let mut reader = reader(&path_of(&address), spots);
        // The reader has inherited the mapping of this process, like every child.
        let mut all = [std::process::id(), other.pid(), reader.pid()];
        all.sort_unstable();
        let attached = within(SHORT, || Segment::attached_pids(&segment)).unwrap();
        assert_eq!(attached, all);
        let object = within(SHORT, || inspect::object(&address.parse().unwrap())).unwrap();
        assert_eq!(object.users.pids, all);
        // The locks do not hide a process whose maps the caller may not read, and whose
        // lock the kernel reports last.
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
