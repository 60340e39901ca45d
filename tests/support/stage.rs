//! The stage of a test that forks: a process with one thread, and with an IPC namespace
//! of its own if that is permitted.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::child::exit_now;
use super::environment::number_from_env;

/// Returns the time after which a test counts as hung. The variable
/// `SHM_SYNC_TEST_WATCHDOG` sets it in seconds, for long runs and slow tools.
pub fn watchdog() -> Duration {
    Duration::from_secs(number_from_env("SHM_SYNC_TEST_WATCHDOG").unwrap_or(180))
}

const STAGE: &str = "SHM_SYNC_TEST_STAGE";
/// The test that gets an IPC namespace of its own. Programs that its stage executes
/// share that namespace, although they are on the stage of another test.
const ALONE: &str = "SHM_SYNC_TEST_ALONE";

/// The exit status of a stage whose test passed. It is not 0, because a process may end
/// with 0 for another reason.
const STAGE_PASSED: i32 = 42;

/// The name of a test's stage: the path of its module and its name, because tests of
/// several modules may have the same name.
macro_rules! stage {
    ($test:ident) => {
        concat!(module_path!(), "::", stringify!($test))
    };
}
pub(crate) use stage;

/// Declares tests that run on stage. `output to reader;` in front of them has the
/// function `reader` called with the output of each, in the process of the harness.
macro_rules! on_stage {
    (
        output to $reader:path;
        $($(#[$attribute:meta])* fn $name:ident() $body:block)+
    ) => {$(
        $(#[$attribute])*
        #[test]
        fn $name() {
            /// Runs before `main`, called by the C runtime, in every process of this
            /// program. Enters the stage if this process is the one of the test.
            extern "C" fn enter() {
                $crate::support::enter_stage($crate::support::stage!($name), || $body);
            }
            #[used]
            // SAFETY: the section holds pointers to functions of this type.
            #[unsafe(link_section = ".init_array")]
            static ENTER: extern "C" fn() = enter;

            let limit = $crate::support::watchdog();
            let output = $crate::support::send_on_stage($crate::support::stage!($name), limit);
            $reader(&output);
        }
    )+};
    ($($tests:tt)+) => {
        $crate::support::on_stage! {
            output to $crate::support::ignore_output;
            $($tests)+
        }
    };
}
pub(crate) use on_stage;

/// Runs the test and ends the process, if this process is the stage of the test.
pub fn enter_stage(test: &str, body: impl FnOnce()) {
    if std::env::var(STAGE).is_ok_and(|stage| stage == test) {
        assert_eq!(
            threads(),
            1,
            "with more than one thread, forks are not safe"
        );
        // The lists of other tests attach to all System V segments that they find. So
        // they would change the attach count, and delay the removal.
        let is_alone = std::env::var(ALONE).is_ok_and(|alone| alone == test)
            && unshare(CloneFlags::CLONE_NEWIPC).is_ok();
        super::seccomp::refuse_by_environment();
        let passed = catch_unwind(AssertUnwindSafe(|| {
            body();
            if is_alone {
                assert_eq!(system_v_segments(), "", "the test has left segments");
            }
        }));
        exit_now(if passed.is_ok() { STAGE_PASSED } else { 101 });
    }
}

/// Returns the lines of the kernel's table of System V segments that are not marked for
/// removal.
fn system_v_segments() -> String {
    /// `SHM_DEST` of the kernel: the segment goes with its last attachment.
    const IS_MARKED: u32 = 0o1000;
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let is_left = |line: &&str| {
        let mode = line.split_whitespace().nth(2).unwrap();
        u32::from_str_radix(mode, 8).unwrap() & IS_MARKED == 0
    };
    let left: Vec<&str> = table.lines().skip(1).filter(is_left).collect();
    left.join("\n")
}

/// Reads nothing.
pub fn ignore_output(_: &str) {}

/// Runs a test in a new process. Returns what it printed.
pub fn send_on_stage(test: &str, limit: Duration) -> String {
    assert!(
        std::env::var(STAGE).is_err(),
        "the stage of {test} was not entered"
    );
    // The harness names a test without its crate. A stage reads no arguments. They show
    // in a list of processes which test this is.
    let (_, argument) = test.split_once("::").unwrap();
    let mut stage = Command::new(std::env::current_exe().unwrap())
        .args([argument, "--exact"])
        .env(STAGE, test)
        .env(ALONE, test)
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
    // The pipes end with the last process of the stage.
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
    text
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Returns the states and system calls of the processes of a hung stage.
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
