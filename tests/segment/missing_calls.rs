//! One system call is missing, on each backing: the segment works, works by a fallback,
//! or fails with an error that names what is missing. Failure mode 80.
//!
//! A seccomp filter imitates the kernel or the sandbox. docs/results/missing-calls.md
//! has the table, and [`table_is_documented`] compares the two.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::containers::kernel_reports_namespaces_without_proc;
use crate::support::{
    Child, TestAddress, dead_owner, die, exit_now, expect_poisoned, on_stage, seccomp, spawn,
};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use shm_sync::{
    Backing, Error, LockError, Residency, Segment, SegmentOptions, ShmCondvar, ShmMutex, ShmSafe,
    Unsupported, unlink,
};

/// What a program sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Works,
    /// It works in another way, which the text describes.
    By(&'static str),
    /// It fails with an error whose text contains this one.
    Fails(&'static str),
}
use Answer::{By, Fails, Works};

/// A system call, or one of its operations, that the kernel answers with an error.
struct Row {
    call: &'static str,
    errnos: &'static [i32],
    refuse: fn(i32),
    /// For an anonymous segment, a POSIX object, a file, and a System V segment.
    answers: [Answer; 4],
}

const BACKINGS: [Backing; 4] = [
    Backing::Memfd,
    Backing::Posix,
    Backing::File,
    Backing::SystemV,
];

/// What a sandbox or an old kernel usually returns.
const USUAL: &[i32] = &[libc::ENOSYS, libc::EPERM, libc::EINVAL];

fn all(answer: Answer) -> [Answer; 4] {
    [answer; 4]
}

fn named(answer: Answer) -> [Answer; 4] {
    [Works, answer, answer, Works]
}

fn anonymous(answer: Answer) -> [Answer; 4] {
    [answer, Works, Works, Works]
}

fn system_v(answer: Answer) -> [Answer; 4] {
    [Works, Works, Works, answer]
}

macro_rules! refuse {
    ($call:ident) => {
        |errno| seccomp::refuse(libc::$call, errno)
    };
    ($call:ident, $argument:literal = $value:expr) => {
        |errno| seccomp::refuse_value(libc::$call, $argument, $value, errno)
    };
}

fn table() -> Vec<Row> {
    use libc::{EISDIR, ENOENT, ENOLCK, EOPNOTSUPP};
    const TEMPORARY: Answer = By("a temporary name");
    let row = |call, errnos, refuse, answers| Row {
        call,
        errnos,
        refuse,
        answers,
    };
    let rows: Vec<(_, _, fn(i32), _)> = vec![
        (
            "get_robust_list",
            USUAL,
            refuse!(SYS_get_robust_list),
            all(Fails("get_robust_list(2)")),
        ),
        (
            "set_robust_list",
            USUAL,
            refuse!(SYS_set_robust_list),
            all(Fails("set_robust_list(2)")),
        ),
        (
            "madvise: MADV_WIPEONFORK",
            USUAL,
            seccomp::refuse_wiped_memory,
            all(By("a question to the kernel at each lock")),
        ),
        (
            "madvise",
            USUAL,
            refuse!(SYS_madvise),
            all(Fails("MADV_WIPEONFORK")),
        ),
        (
            "memfd_create",
            USUAL,
            refuse!(SYS_memfd_create),
            anonymous(Fails("memfd_create")),
        ),
        (
            "fcntl: F_ADD_SEALS",
            USUAL,
            refuse!(SYS_fcntl, 1 = libc::F_ADD_SEALS),
            anonymous(Fails("F_ADD_SEALS")),
        ),
        (
            "ftruncate",
            USUAL,
            refuse!(SYS_ftruncate),
            anonymous(Fails("ftruncate")),
        ),
        (
            "open: O_TMPFILE",
            &[
                libc::ENOSYS,
                libc::EPERM,
                libc::EINVAL,
                EOPNOTSUPP,
                EISDIR,
                ENOENT,
            ],
            seccomp::refuse_unnamed_files,
            named(TEMPORARY),
        ),
        ("linkat", USUAL, refuse!(SYS_linkat), named(Fails("linkat"))),
        ("renameat2", USUAL, refuse!(SYS_renameat2), all(Works)),
        (
            "fcntl: F_OFD_SETLK",
            &[libc::ENOSYS, libc::EPERM, libc::EINVAL, ENOLCK],
            refuse!(SYS_fcntl, 1 = libc::F_OFD_SETLK),
            named(Fails("F_OFD_SETLK")),
        ),
        (
            "fcntl: F_OFD_SETLKW",
            USUAL,
            refuse!(SYS_fcntl, 1 = libc::F_OFD_SETLKW),
            all(Works),
        ),
        (
            "fcntl: F_OFD_GETLK",
            USUAL,
            refuse!(SYS_fcntl, 1 = libc::F_OFD_GETLK),
            all(Works),
        ),
        (
            "fallocate",
            &[libc::ENOSYS, EOPNOTSUPP],
            refuse!(SYS_fallocate),
            named(By("writing zeros")),
        ),
        (
            "fallocate",
            &[libc::EPERM, libc::EINVAL],
            refuse!(SYS_fallocate),
            named(Fails("fallocate")),
        ),
        (
            "fstatfs",
            USUAL,
            refuse!(SYS_fstatfs),
            named(Fails("fstatfs")),
        ),
        ("statfs", USUAL, refuse!(SYS_statfs), all(By("pidfd_open"))),
        (
            "fchmod",
            USUAL,
            refuse!(SYS_fchmod),
            [Fails("fchmod"), Fails("fchmod"), Fails("fchmod"), Works],
        ),
        ("statx", USUAL, refuse!(SYS_statx), all(Works)),
        (
            "fsync",
            USUAL,
            refuse!(SYS_fsync),
            [Works, Works, Fails("fsync"), Works],
        ),
        (
            "shmget",
            USUAL,
            refuse!(SYS_shmget),
            system_v(Fails("shmget")),
        ),
        ("shmat", USUAL, refuse!(SYS_shmat), system_v(Fails("shmat"))),
        (
            "shmctl",
            USUAL,
            refuse!(SYS_shmctl),
            system_v(Fails("shmctl")),
        ),
        (
            "futex: FUTEX_WAIT_BITSET",
            USUAL,
            refuse!(SYS_futex, 1 = libc::FUTEX_WAIT_BITSET),
            all(Fails("futex(2)")),
        ),
        (
            "futex: FUTEX_WAKE",
            USUAL,
            refuse!(SYS_futex, 1 = libc::FUTEX_WAKE),
            all(By("a recheck after 150 ms")),
        ),
        (
            "futex: FUTEX_WAKE_BITSET",
            USUAL,
            refuse!(SYS_futex, 1 = libc::FUTEX_WAKE_BITSET),
            all(Works),
        ),
        ("futex_waitv", USUAL, refuse!(SYS_futex_waitv), all(Works)),
        ("tgkill", USUAL, refuse!(SYS_tgkill), all(Works)),
        ("mincore", USUAL, refuse!(SYS_mincore), all(Works)),
        ("prctl", USUAL, refuse!(SYS_prctl), all(Works)),
        ("getrandom", USUAL, refuse!(SYS_getrandom), all(Works)),
        ("pidfd_open", USUAL, refuse!(SYS_pidfd_open), all(Works)),
        ("sysinfo", USUAL, refuse!(SYS_sysinfo), all(Works)),
        ("prlimit64", USUAL, refuse!(SYS_prlimit64), all(Works)),
        ("msync", USUAL, refuse!(SYS_msync), all(Works)),
        ("mlock", USUAL, refuse!(SYS_mlock), all(Works)),
        (
            "madvise: MADV_POPULATE_WRITE",
            USUAL,
            refuse!(SYS_madvise, 2 = libc::MADV_POPULATE_WRITE),
            all(Works),
        ),
    ];
    rows.into_iter()
        .map(|(call, errnos, refuse, answers)| row(call, errnos, refuse, answers))
        .collect()
}

#[derive(ShmSafe)]
#[repr(C)]
struct Content {
    count: ShmMutex<u64>,
    changed: ShmCondvar,
}

/// The first step that failed, with the whole text of the error.
type Failure = String;

/// Names a step that has failed.
fn step<T, E: std::error::Error>(name: &str, result: Result<T, E>) -> Result<T, Failure> {
    result.map_err(|error| {
        let mut text = format!("{name}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    })
}

/// A forked child that reports its failure.
struct Step {
    child: Child,
    failure: File,
}

impl Step {
    fn start(body: impl FnOnce() -> Result<(), Failure>) -> Self {
        let (failure, report) = nix::unistd::pipe().unwrap();
        let child = spawn(|| {
            // A hang ends the child by SIGALRM.
            nix::unistd::alarm::set(20);
            if let Err(failure) = body() {
                File::from(report).write_all(failure.as_bytes()).unwrap();
                exit_now(1);
            }
        });
        Self {
            child,
            failure: failure.into(),
        }
    }

    /// Waits until the child has ended. Returns what its body has returned.
    fn finish(mut self) -> Result<(), Failure> {
        let mut failure = String::new();
        self.failure.read_to_string(&mut failure).unwrap();
        match self.child.wait() {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, 1) => Err(failure),
            WaitStatus::Signaled(_, Signal::SIGALRM, _) => Err("it hangs".to_owned()),
            other => Err(format!("a child failed: {other:?}")),
        }
    }
}

/// Creates a segment, opens it in another process, locks, waits, finds an owner death,
/// and removes the segment.
fn use_everything(kind: Backing, address: &TestAddress) -> Result<(), Failure> {
    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(10);
    let content = || Content {
        count: ShmMutex::new(0),
        changed: ShmCondvar::new(),
    };
    let segment = step(
        "create",
        match kind {
            Backing::Memfd => Segment::anonymous(content()),
            _ => Segment::create(address, content()),
        },
    )?;
    let file = Segment::as_fd(&segment).map(|file| file.try_clone_to_owned().unwrap());
    let open = |file: Option<&OwnedFd>| match file {
        Some(file) => SegmentOptions::new().from_fd(file.try_clone().unwrap()),
        None => Segment::<Content>::open(address),
    };
    let other = Step::start(|| {
        let theirs = step("open", open(file.as_ref()))?;
        *step("lock", theirs.count.lock())? += 1;
        Ok(())
    });
    other.finish()?;

    // A waiter times out.
    let held = step("lock", segment.count.lock())?;
    let waiter = Step::start(|| {
        let theirs = step("open", open(file.as_ref()))?;
        match theirs.count.try_lock_for(SHORT) {
            Err(LockError::TimedOut) => Ok(()),
            other => step("time out", other.map(drop)),
        }
    });
    waiter.finish()?;
    let waited = segment.changed.wait_timeout(held, SHORT);
    let (held, timeout) = step("wait", waited)?;
    assert!(timeout.timed_out(), "no thread has notified");
    assert_eq!(*held, 1);

    // A waiter is woken: by the unlock, and by a notification.
    let waiter = Step::start(|| {
        let theirs = step("open", open(file.as_ref()))?;
        let mut count = step("lock", theirs.count.try_lock_for(LONG))?;
        *count += 1;
        theirs.changed.notify_all();
        Ok(())
    });
    let mut held = held;
    let begin = Instant::now();
    while *held == 1 {
        let waited = segment.changed.wait_timeout(held, LONG);
        held = step("wait", waited)?.0;
        assert!(begin.elapsed() < LONG, "the notification is lost");
    }
    drop(held);
    waiter.finish()?;

    // The holder dies.
    let mut holder = spawn(|| {
        let guard = segment.count.lock();
        std::mem::forget(guard);
        die()
    });
    let dead = holder.pid();
    holder.wait();
    let poisoned = expect_poisoned(segment.count.try_lock_for(LONG));
    assert_eq!(dead_owner(poisoned.cause()), Some(dead));
    drop(poisoned.recover(|count| *count += 1));
    assert_eq!(*step("lock", segment.count.lock())?, 3);

    if kind != Backing::Memfd {
        step("unlink", unlink(address))?;
    }
    step("close", Segment::close(segment))
}

/// Returns what is wrong with the answer of a segment of this kind.
fn complaint(row: &Row, errno: i32, kind: Backing, answer: Answer) -> Option<String> {
    let address = TestAddress::new(kind, "missing");
    let found = Step::start(|| {
        (row.refuse)(errno);
        use_everything(kind, &address)
    })
    .finish();
    let is_met = match (answer, &found) {
        (Works | By(_), Ok(())) => true,
        (Fails(text), Err(failure)) => failure.contains(text) && !names_wrong_reason(failure),
        _ => false,
    };
    let name = nix::errno::Errno::from_raw(errno);
    (!is_met).then(|| format!("{kind}, {} {name:?}: {found:?}, not {answer:?}", row.call))
}

/// Returns whether the text blames something that is not wrong here.
fn names_wrong_reason(failure: &str) -> bool {
    [
        "permission denied",
        "there is no segment",
        "belongs to",
        "damaged",
        "raw clone",
        "hangs",
        "a child failed",
    ]
    .iter()
    .any(|reason| failure.contains(reason))
}

fn check(rows: impl Fn(usize) -> bool) {
    let mut complaints = Vec::new();
    for (_, row) in table()
        .iter()
        .enumerate()
        .filter(|(number, _)| rows(*number))
    {
        // Its fallback is newer than the crate's oldest kernel.
        if row.call == "statfs" && !kernel_reports_namespaces_without_proc() {
            continue;
        }
        for &errno in row.errnos {
            for (kind, answer) in BACKINGS.into_iter().zip(row.answers) {
                complaints.extend(complaint(row, errno, kind, answer));
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Works => f.write_str("works"),
            By(way) => write!(f, "works, by {way}"),
            Fails(text) => write!(f, "an error that names `{text}`"),
        }
    }
}

/// The table of the document.
fn document() -> String {
    let mut lines = vec![
        "| call | refused with | anonymous | POSIX object | file | System V |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    for row in table() {
        let errnos = row.errnos.iter();
        let errnos: Vec<_> = errnos
            .map(|errno| format!("{:?}", nix::errno::Errno::from_raw(*errno)))
            .collect();
        let answers = row.answers.map(|answer| answer.to_string()).join(" | ");
        let (call, errnos) = (row.call, errnos.join(", "));
        lines.push(format!("| `{call}` | {errnos} | {answers} |"));
    }
    lines.join("\n")
}

#[test]
fn table_is_documented() {
    const FILE: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/results/missing-calls.md"
    );
    let Ok(text) = std::fs::read_to_string(FILE) else {
        println!("skipped, because the sources are not here");
        return;
    };
    let expected = document();
    assert!(
        text.contains(&expected),
        "{FILE} lacks this table:\n{expected}"
    );
}

on_stage! {
    fn smoke() {
        for kind in BACKINGS {
            let address = TestAddress::new(kind, "missing");
            assert_eq!(use_everything(kind, &address), Ok(()), "{kind}");
        }
    }

    fn each_missing_call_is_named_or_not_needed() {
        check(|number| number % 2 == 0);
    }

    fn each_other_missing_call_is_named_too() {
        check(|number| number % 2 == 1);
    }

    fn refused_prefault_is_named() {
        let prefaulted = |address: &TestAddress| {
            let options = SegmentOptions::new().residency(Residency::Prefaulted);
            let made = options.create(address, ShmMutex::new(0_u64));
            made.map(drop).unwrap_err()
        };
        for errno in USUAL.iter().copied() {
            let address = TestAddress::new(Backing::Posix, "prefault");
            spawn(|| {
                let advice = libc::MADV_POPULATE_WRITE;
                seccomp::refuse_value(libc::SYS_madvise, 2, advice, errno);
                let error = prefaulted(&address);
                let is_named = match &error {
                    // The answer of Linux before 5.14.
                    Error::Unsupported { reason: Unsupported::Prefault, .. } => errno == libc::EINVAL,
                    Error::Os { call, .. } => call.contains("MADV_POPULATE_WRITE"),
                    _ => false,
                };
                assert!(is_named, "{error:?}");
            })
            .join();
        }
    }
}
