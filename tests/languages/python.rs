//! The Python package: where peers find it, and its own tests.

use std::fs;
use std::num::NonZero;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64};

use shm_sync::{
    CachePadded, LockError, Segment, ShmChannel, ShmCondvar, ShmEvent, ShmMutex, ShmOption,
    ShmPipe, ShmSafe, ShmSemaphore, ShmString, ShmVec,
};

use crate::build::{Compiler, Language, Product};
use crate::support::TestName;

/// Prints `glibc`, or nothing with musl.
const PRINT_LIBC: &str = "import platform; print(platform.libc_ver()[0])";

/// Builds the library of the package. Returns the folder for `PYTHONPATH`. Returns
/// `None`, and prints why, if this machine has no C compiler or no Python.
pub(crate) fn package() -> Option<PathBuf> {
    let Some(compiler) = Compiler::any(Language::C) else {
        println!("skipped: there is no C compiler for the Python package");
        return None;
    };
    let libc = Command::new("python3").args(["-c", PRINT_LIBC]).output();
    let Ok(libc) = libc else {
        println!("skipped: there is no python3");
        return None;
    };
    if (libc.stdout == b"glibc\n") != cfg!(target_env = "gnu") {
        println!("skipped: python3 has another libc");
        return None;
    }
    let sources = source().join("src/shm_sync");
    let library = compiler.compile(&sources.join("_library.c"), Product::Library);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("languages/python");
    let package = folder.join("shm_sync");
    fs::create_dir_all(&package).expect("the folder for temporary files is writable");
    let link = |target: &Path, name: &Path| {
        let place = package.join(name);
        if fs::read_link(&place).is_ok_and(|old| old == target) {
            return;
        }
        // Another test process may do the same.
        let temporary = package.join(format!("{}.{}", name.display(), std::process::id()));
        symlink(target, &temporary).expect("the folder is writable");
        fs::rename(&temporary, &place).expect("the new link can be renamed");
    };
    link(&library, Path::new("_library.so"));
    for entry in fs::read_dir(&sources).expect("the package is there") {
        let path = entry.expect("the folder can be listed").path();
        let name = path.file_name().expect("a file has a name");
        if path.extension().is_some_and(|extension| extension == "py") {
            link(&path, Path::new(name));
        }
    }
    Some(folder)
}

/// Returns the folder of the package in the repository.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../python")
}

#[derive(ShmSafe, Clone, Copy, Debug)]
#[repr(u8)]
enum State {
    Idle,
    Busy = 7,
    Gone,
}

#[derive(ShmSafe, Clone, Copy, Debug)]
#[repr(u8)]
#[expect(dead_code, reason = "Python stores the other variants")]
enum Shape {
    Circle { radius: f64 },
    Pair(u32, u16),
    Empty,
}

/// Its fields have the names of attributes of the package.
#[derive(ShmSafe, Clone, Copy, Debug)]
#[repr(u8)]
enum Named {
    User { name: u32, variant: u16 },
}

#[derive(ShmSafe, Clone, Copy)]
#[repr(C)]
struct Job {
    id: u32,
    name: ShmString<20>,
    state: State,
    shape: Shape,
    parent: ShmOption<u64>,
}

#[derive(ShmSafe)]
#[repr(C)]
struct Worker {
    lock: ShmMutex<Job>,
    beats: AtomicU64,
}

/// A value with everything that the package knows.
#[derive(ShmSafe)]
#[repr(C)]
struct Everything {
    version: u32,
    pending: ShmMutex<u64>,
    changed: ShmCondvar,
    workers: [Worker; 4],
    pair: ShmMutex<(u8, u64)>,
    list: ShmMutex<ShmVec<u16, 5>>,
    flag: AtomicBool,
    letter: ShmMutex<char>,
    shape: ShmMutex<Shape>,
    named: ShmMutex<Named>,
    small: ShmMutex<NonZero<u16>>,
    wide: ShmMutex<i128>,
    floats: ShmMutex<[f32; 3]>,
    devices: ShmSemaphore<4>,
    event: ShmEvent,
    auto: ShmEvent,
    channel: ShmChannel<Job, 8, 2, 2>,
    numbers: ShmChannel<u64, 8>,
    pipe: ShmPipe<64>,
    padded: CachePadded<AtomicI32>,
}

impl Everything {
    fn new() -> Self {
        let worker = || Worker {
            lock: ShmMutex::new(Job {
                id: 3,
                name: ShmString::try_from("first").expect("it is short"),
                state: State::Busy,
                shape: Shape::Circle { radius: 1.5 },
                parent: Some(5).into(),
            }),
            beats: AtomicU64::new(1),
        };
        Self {
            version: 12,
            pending: ShmMutex::new(5),
            changed: ShmCondvar::new(),
            workers: [worker(), worker(), worker(), worker()],
            pair: ShmMutex::new((1, 2)),
            list: ShmMutex::new(ShmVec::new()),
            flag: AtomicBool::new(true),
            letter: ShmMutex::new('ż'),
            named: ShmMutex::new(Named::User {
                name: 1234,
                variant: 5,
            }),
            shape: ShmMutex::new(Shape::Circle { radius: 1.5 }),
            small: ShmMutex::new(NonZero::new(9).expect("9 is not 0")),
            wide: ShmMutex::new(-3),
            floats: ShmMutex::new([1.0, 2.5, -3.0]),
            devices: ShmSemaphore::new(),
            event: ShmEvent::manual_reset(),
            auto: ShmEvent::auto_reset(),
            channel: ShmChannel::new(),
            numbers: ShmChannel::new(),
            pipe: ShmPipe::new(),
            padded: CachePadded::new(AtomicI32::new(-4)),
        }
    }
}

/// The struct of the README.
#[derive(Clone, Copy, ShmSafe)]
#[repr(C)]
struct Runs {
    begun: u64,
    finished: u64,
}

/// Returns the listing of the README in Python, for another segment.
fn listing(address: &str) -> String {
    let readme = fs::read_to_string(source().join("../README.md")).expect("it is there");
    let (_, after) = readme
        .split_once("```python\n")
        .expect("there is a listing");
    let (listing, _) = after.split_once("```").expect("the listing ends");
    let changed = listing.replace("/shm-sync-runs", address);
    assert_ne!(changed, listing, "the listing opens /shm-sync-runs");
    changed
}

#[test]
fn listing_of_the_readme_repairs_and_counts() {
    let Some(package) = package() else { return };
    let name = TestName::new("languages-listing");
    let before = Runs {
        begun: 7,
        finished: 5,
    };
    let runs = Segment::create(&name, ShmMutex::new(before)).expect("the name is new");
    let killed = Command::new("python3")
        .args(["-c", DIES_INSIDE, &name])
        .env("PYTHONPATH", &package)
        .status()
        .expect("python3 can be started");
    assert_eq!(killed.signal(), Some(libc::SIGKILL), "{killed}");
    for expected in [6, 7] {
        let status = Command::new("python3")
            .args(["-c", &listing(&name)])
            .env("PYTHONPATH", &package)
            .status()
            .expect("python3 can be started");
        assert!(status.success(), "the listing: {status}");
        let runs = *runs.lock().expect("the listing has repaired the data");
        assert_eq!((runs.begun, runs.finished), (expected, expected));
    }
}

/// Kills itself with the lock held.
const DIES_INSIDE: &str = "
import os, sys, shm_sync
with shm_sync.open(sys.argv[1]).value.lock() as runs:
    os.kill(os.getpid(), 9)
";

/// Runs python/tests, with a segment for each test.
#[test]
fn python_package_passes_its_tests() {
    /// More than there are tests.
    const TESTS: usize = 60;
    let Some(package) = package() else { return };
    let names: Vec<TestName> = (0..TESTS)
        .map(|_| TestName::new("languages-python"))
        .collect();
    let segments: Vec<Segment<Everything>> = names
        .iter()
        .map(|name| Segment::create(name, Everything::new()).expect("the name is new"))
        .collect();
    let addresses: Vec<&str> = names.iter().map(|name| &**name).collect();
    let status = Command::new("python3")
        .arg(source().join("tests/test_shm_sync.py"))
        .env("PYTHONPATH", package)
        .env("SHM_SYNC_TEST_ADDRESSES", addresses.join(","))
        .status()
        .expect("python3 can be started");
    assert!(status.success(), "python/tests: {status}");
    for (segment, name) in segments.iter().zip(&names) {
        let lock = segment.pending.try_lock();
        let is_free = matches!(lock, Ok(_) | Err(LockError::Poisoned(_)));
        assert!(is_free, "{}: a test has left {lock:?}", &**name);
    }
}
