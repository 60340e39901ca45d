//! What the tests share: a stage for each test that forks, disciplined
//! children, and names that clean up after themselves.
//!
//! Rust's test harness runs tests on threads of one process, where a fork may
//! copy a lock that another thread holds. So a test that forks runs *on stage*:
//! the harness executes its own program again, and there the test runs before
//! `main`, on the only thread there is. A stage has a process group of its own,
//! which a watchdog kills as a whole when time is up.
//!
//! The numbered failure modes that tests name are listed in docs/design.md.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    unreachable_pub,
    reason = "part of each test program, not of a library"
)]

mod life;
pub mod mounts;
pub mod seccomp;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub mod walker;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use shm_sync::{LockError, PoisonCause, Poisoned, Segment, ShmMutex, ShmSafe};

#[allow(unused_imports, reason = "each test file uses its part")]
pub use life::{Marked, Meeting, Random, TestAddress};

/// How long a test may take before it counts as hung. For long storms and slow
/// tools, `SHM_SYNC_TEST_WATCHDOG` says otherwise, in seconds.
pub fn watchdog() -> Duration {
    Duration::from_secs(number_from_env("SHM_SYNC_TEST_WATCHDOG").unwrap_or(180))
}

/// A number that whoever runs the tests may set.
pub fn number_from_env(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(error) => panic!("{variable}={text}: {error}"),
    }
}

const STAGE: &str = "SHM_SYNC_TEST_STAGE";

/// The exit status of a stage whose test has passed: not 0, which a process
/// might end with for another reason.
const STAGE_PASSED: i32 = 42;

/// The name of the stage of a test: the path of its module and its own name, because
/// tests of several modules have the same one.
macro_rules! stage {
    ($test:ident) => {
        concat!(module_path!(), "::", stringify!($test))
    };
}
pub(crate) use stage;

/// Declares tests that run on stage.
macro_rules! on_stage {
    ($($(#[$attribute:meta])* fn $name:ident() $body:block)+) => {$(
        $(#[$attribute])*
        #[test]
        fn $name() {
            /// Called by the C runtime before `main`, in every process that
            /// runs this program; goes on stage if this is the one.
            extern "C" fn enter() {
                $crate::support::enter_stage($crate::support::stage!($name), || $body);
            }
            #[used]
            // SAFETY: the section holds pointers to such functions.
            #[unsafe(link_section = ".init_array")]
            static ENTER: extern "C" fn() = enter;

            $crate::support::send_on_stage($crate::support::stage!($name), $crate::support::watchdog());
        }
    )+};
}
pub(crate) use on_stage;

/// Runs the test if this process is its stage, and ends the process then.
pub fn enter_stage(test: &str, body: impl FnOnce()) {
    if std::env::var(STAGE).is_ok_and(|stage| stage == test) {
        assert_eq!(
            threads(),
            1,
            "with more than one thread, forks are not safe"
        );
        let code = match catch_unwind(AssertUnwindSafe(body)) {
            Ok(()) => STAGE_PASSED,
            Err(_) => 101,
        };
        exit_now(code);
    }
}

/// Runs a test in a process of its own: see above.
pub fn send_on_stage(test: &str, limit: Duration) {
    assert!(std::env::var(STAGE).is_err(), "{test} has missed its stage");
    // The harness names a test without its crate. A stage reads no arguments: they tell
    // in a list of processes which test this is.
    let (_, argument) = test.split_once("::").unwrap();
    let mut stage = Command::new(std::env::current_exe().unwrap())
        .args([argument, "--exact"])
        .env(STAGE, test)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let group = Pid::from_raw(i32::try_from(stage.id()).unwrap());
    let (send, ended) = mpsc::channel();
    let mut out = stage.stdout.take().unwrap();
    let mut err = stage.stderr.take().unwrap();
    // The pipes end when the last process of the stage has ended.
    let err = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = err.read_to_string(&mut text);
        text
    });
    let out = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = out.read_to_string(&mut text);
        let _ = send.send(());
        text
    });
    let hung = ended.recv_timeout(limit).is_err();
    let stuck = if hung {
        processes_of(group)
    } else {
        String::new()
    };
    let _ = killpg(group, Signal::SIGKILL);
    let status = stage.wait().unwrap();
    let text = format!("{}{}", out.join().unwrap(), err.join().unwrap());
    assert!(!hung, "{test} hung for {limit:?}\n{stuck}\n{text}");
    assert_eq!(
        status.code(),
        Some(STAGE_PASSED),
        "{test}: {status}\n{text}"
    );
    print!("{text}");
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// What the processes of a hung stage were doing.
fn processes_of(group: Pid) -> String {
    let mut text = String::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        if fields.get(2) == Some(&group.to_string().as_str()) {
            let call = fs::read_to_string(entry.path().join("syscall")).unwrap_or_default();
            text += &format!(
                "process {}: state {}, syscall {}\n",
                entry.file_name().to_string_lossy(),
                fields[0],
                call.trim()
            );
        }
    }
    text
}

/// A forked child. Killed and reaped when dropped.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    reaped: Option<WaitStatus>,
}

/// Forks. The child runs `body` and ends without unwinding into the harness:
/// exit status 0, or 101 if it panicked.
pub fn spawn(body: impl FnOnce()) -> Child {
    // SAFETY: a stage has a single thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => Child {
            pid: child,
            reaped: None,
        },
        ForkResult::Child => {
            let code = match catch_unwind(AssertUnwindSafe(body)) {
                Ok(()) => 0,
                Err(_) => 101,
            };
            exit_now(code)
        }
    }
}

/// Ends the process without running exit handlers or destructors.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; nothing runs afterwards.
    unsafe { libc::_exit(code) }
}

/// The id of the user and group `nobody`.
pub const NOBODY: u32 = 65_534;

/// Whether this process may become somebody else. If not, says that `test` is not
/// run.
pub fn is_root_for(test: &str) -> bool {
    let is_root = nix::unistd::Uid::effective().is_root();
    if !is_root {
        println!("not run, because only root can become somebody else: {test}");
    }
    is_root
}

/// Goes on as an ordinary user, for good.
pub fn become_nobody() {
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setgid(nix::unistd::Gid::from_raw(NOBODY)).unwrap();
    nix::unistd::setuid(nix::unistd::Uid::from_raw(NOBODY)).unwrap();
}

/// Goes on as an ordinary user with these groups, for good. The first is the effective
/// one.
pub fn become_member(user: u32, groups: &[u32]) {
    let groups: Vec<_> = groups
        .iter()
        .map(|id| nix::unistd::Gid::from_raw(*id))
        .collect();
    nix::unistd::setgroups(&groups).unwrap();
    nix::unistd::setgid(groups[0]).unwrap();
    nix::unistd::setuid(nix::unistd::Uid::from_raw(user)).unwrap();
}

/// The end of a child that was killed for good.
pub fn die() -> ! {
    kill(Pid::this(), Signal::SIGKILL).unwrap();
    unreachable!("SIGKILL can't be survived")
}

/// Two numbers that are equal unless somebody is between changing them.
#[derive(ShmSafe)]
#[repr(C)]
pub struct Pair {
    pub first: u64,
    pub second: u64,
}

/// A pair that processes share.
pub type SharedPair = Segment<ShmMutex<Pair>>;

pub fn pair() -> SharedPair {
    Segment::anonymous(ShmMutex::new(Pair {
        first: 0,
        second: 0,
    }))
    .unwrap()
}

/// A process that has taken the lock and keeps it until it is killed.
pub fn holder_of<T: ShmSafe>(lock: &ShmMutex<T>) -> Child {
    let locked = Gate::new();
    let holder = spawn(|| {
        let _guard = lock.lock().unwrap();
        locked.open();
        nix::unistd::pause();
    });
    locked.pass();
    holder
}

/// Lets a process die with the lock held. Returns its process id.
pub fn leave_a_death<T: ShmSafe>(lock: &ShmMutex<T>) -> u32 {
    let mut holder = spawn(|| {
        let _guard = lock.lock().unwrap();
        die()
    });
    holder.wait();
    holder.pid()
}

impl Child {
    pub fn pid(&self) -> u32 {
        u32::try_from(self.pid.as_raw()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Kills it with SIGKILL and reaps it.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let status = self.wait();
        assert_eq!(
            status,
            WaitStatus::Signaled(self.pid, Signal::SIGKILL, false)
        );
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> WaitStatus {
        if let Some(status) = self.reaped {
            return status;
        }
        let status = loop {
            match waitpid(self.pid, None) {
                Err(Errno::EINTR) => {}
                other => break other.unwrap(),
            }
        };
        self.reaped = Some(status);
        status
    }

    /// Waits for its end, which must be a good one.
    pub fn join(mut self) {
        let status = self.wait();
        assert_eq!(status, WaitStatus::Exited(self.pid, 0), "a child failed");
    }

    /// Stops it, and waits until it stands.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        self.wait_until_stopped();
    }

    /// Its end, if it has come.
    pub fn try_wait(&mut self) -> Option<WaitStatus> {
        if self.reaped.is_none() {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                other => self.reaped = Some(other.unwrap()),
            }
        }
        self.reaped
    }

    /// Waits until it sleeps in a futex system call.
    pub fn wait_until_asleep(&self) {
        let call = format!("{} ", libc::SYS_futex);
        poll(|| {
            fs::read_to_string(format!("/proc/{}/syscall", self.pid))
                .is_ok_and(|line| line.starts_with(&call))
        });
    }

    /// Waits until a signal has stopped it.
    pub fn wait_until_stopped(&self) {
        poll(|| {
            fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|line| {
                line.rsplit(')')
                    .next()
                    .unwrap()
                    .trim_start()
                    .starts_with('T')
            })
        });
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.reaped.is_none() {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// Looks again and again, until `done`. The stage's watchdog is the limit.
pub fn poll(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A pipe by which one process tells another to go on.
#[derive(Debug)]
pub struct Gate {
    read: OwnedFd,
    write: OwnedFd,
}

impl Gate {
    pub fn new() -> Self {
        let (read, write) = nix::unistd::pipe().unwrap();
        Self { read, write }
    }

    /// Lets one waiter through.
    pub fn open(&self) {
        nix::unistd::write(self.write.as_fd(), b"x").unwrap();
    }

    /// Waits to be let through.
    pub fn pass(&self) {
        let mut byte = [0];
        loop {
            match nix::unistd::read(self.read.as_fd(), &mut byte) {
                Ok(1) => return,
                Err(Errno::EINTR) => {}
                other => panic!("the gate is broken: {other:?}"),
            }
        }
    }
}

/// A name in `/dev/shm` that no other test has, removed when dropped.
#[derive(Debug)]
pub struct TestName(String);

impl TestName {
    pub fn new(what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(format!(
            "/shm-sync-test-{what}-{}-{count}",
            std::process::id()
        ))
    }

    /// Where the object is as a file.
    pub fn path(&self) -> String {
        format!("/dev/shm{}", self.0)
    }

    /// Puts a file of those bytes there.
    pub fn write(&self, bytes: &[u8]) {
        let mut file = fs::File::create(self.path()).unwrap();
        file.write_all(bytes).unwrap();
        let mut mode = file.metadata().unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o600);
        file.set_permissions(mode).unwrap();
    }
}

impl std::ops::Deref for TestName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for TestName {
    fn drop(&mut self) {
        let _ = shm_sync::unlink(&self.0);
    }
}

/// A path in the temporary directory that no other test has; what is there is
/// removed when this is dropped.
#[derive(Debug)]
pub struct TestFile(String);

impl TestFile {
    pub fn new(what: &str) -> Self {
        let directory = std::env::temp_dir();
        // A test name is one for files as well.
        let name = TestName::new(what);
        Self(format!("{}{}", directory.display(), &*name))
    }
}

impl std::ops::Deref for TestFile {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The address of a System V key that no other test has; its segment is removed
/// when this is dropped.
#[derive(Debug)]
pub struct TestKey(String);

impl TestKey {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Process ids have 22 bits; a test needs few keys.
        let key = 1 << 30 | (std::process::id() & 0x3f_ffff) << 8 | count & 0xff;
        Self(format!("sysv:{key:#010x}"))
    }

    /// The key as the system takes it.
    pub fn number(&self) -> i32 {
        let digits = self.0.trim_start_matches("sysv:0x");
        i32::from_str_radix(digits, 16).unwrap()
    }
}

impl std::ops::Deref for TestKey {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for TestKey {
    fn drop(&mut self) {
        let _ = shm_sync::unlink(&self.0);
    }
}

/// The poisoned lock in `result`, or a panic that says what it was instead.
pub fn expect_poisoned<G>(result: Result<G, LockError<G>>) -> Poisoned<G> {
    match result {
        Err(LockError::Poisoned(poisoned)) => poisoned,
        Err(other) => panic!("not poisoned but: {other:?}"),
        Ok(_) => panic!("not poisoned but clean"),
    }
}

/// The process that died, if that is why a lock was poisoned.
pub fn dead_owner(cause: PoisonCause) -> Option<u32> {
    match cause {
        PoisonCause::OwnerDied { pid, .. } => Some(pid),
        _ => None,
    }
}

/// The median of the times that `measure` returns in some runs: an odd number.
pub fn median(runs: usize, measure: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = std::iter::repeat_with(measure).take(runs).collect();
    times.sort();
    times[runs / 2]
}

/// How long `f` takes.
pub fn time(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}
