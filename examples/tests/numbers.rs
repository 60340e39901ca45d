//! The example `numbers`: its sums, bad input and output, and the death of each side.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use support::Random;

use super::{Ended, Running, WATCHDOG};

/// A side that has not ended by then after the death of the other side counts as hung.
const LIMIT: Duration = Duration::from_secs(5);

const CHILD_DIED: &str = "numbers: the child ended early (signal: 9 (SIGKILL))";
const PARENT_DIED: &str = "numbers: the parent ended early";

/// A folder for the files of one test. It is removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("numbers-{test}"));
        let _ = fs::remove_dir_all(&folder); // An earlier run may have failed.
        fs::create_dir(&folder).expect("the folder is new");
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        let path = self.0.join(name);
        path.into_os_string().into_string().expect("text")
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("the folder is writable");
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("the file is there")
    }

    fn assert_empty(&self) {
        let left: Vec<_> = fs::read_dir(&self.0).expect("it is there").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A run whose standard input stays open.
fn start(output: &str) -> (Running, ChildStdin) {
    let mut running = Running::start_with("numbers", &[output], Stdio::piped());
    let stdin = running.child.stdin.take().expect("it is a pipe");
    (running, stdin)
}

fn run(arguments: &[&str]) -> Ended {
    super::run("numbers", arguments)
}

/// Writes lines until the parent has ended.
fn feed(mut stdin: ChildStdin) {
    thread::spawn(move || while stdin.write_all(b"1 2 3\n").is_ok() {});
}

fn is_asleep(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"));
    stat.expect("the process is there").contains(") S ")
}

/// Waits until a process sleeps, and looks twice: a sleep may be a short one.
fn wait_until_asleep(process: Pid) {
    let start = Instant::now();
    while !is_asleep(process) || {
        thread::sleep(Duration::from_millis(50));
        !is_asleep(process)
    } {
        assert!(start.elapsed() < WATCHDOG, "process {process} sleeps");
    }
}

/// Waits for the end of all processes, and checks that the parent has reported it.
fn assert_fails(running: Running, message: &str) -> Ended {
    let start = Instant::now();
    let ended = running.wait();
    assert!(start.elapsed() < LIMIT, "it ends soon: {ended:#?}");
    assert_eq!(ended.status.code(), Some(1), "{ended:#?}");
    assert!(ended.stderr.contains(message), "{message}: {ended:#?}");
    ended
}

#[test]
fn sums_equal_those_of_awk() {
    let folder = Folder::new("awk");
    let input = folder.path("input");
    let mut file = BufWriter::new(File::create(&input).expect("the folder is writable"));
    let mut random = Random(7);
    for _ in 0..100_000 {
        for _ in 0..random.below(8) {
            let number = random.below(2_000_001) as i64 - 1_000_000;
            let space = ["", " ", "\t"][random.below(3) as usize];
            write!(file, "{space}{number} ").expect("the disk has room");
        }
        writeln!(file).expect("the disk has room");
    }
    // The end of the last line is missing.
    write!(file, "1 2 3").expect("the disk has room");
    file.into_inner().expect("the disk has room");

    run(&[&folder.path("sums"), &input]).assert_success();
    let program = r#"{ s = 0; for (i = 1; i <= NF; i++) s += $i; printf "%d\n", s }"#;
    let awk = Command::new("awk").arg(program).arg(&input).output();
    let expected = awk.expect("awk is installed").stdout;
    assert!(
        folder.read("sums").as_bytes() == expected,
        "the sums differ"
    );
}

#[test]
fn bad_lines_are_reported_and_skipped() {
    let folder = Folder::new("bad-lines");
    let long_word = "x".repeat(100_000);
    let lines: [&[u8]; 8] = [
        b"1 2",
        b"3 1.5",
        b"",
        b"4 \xff",
        b"9223372036854775807 1",
        b"-9223372036854775809",
        long_word.as_bytes(),
        b"9223372036854775807 -1\r",
    ];
    let input = folder.write("input", lines.join(&b'\n'));
    let ended = run(&[&folder.path("sums"), &input]);
    assert!(ended.status.success(), "{ended:#?}");
    assert_eq!(folder.read("sums"), "3\n0\n9223372036854775806\n");
    let start = "x".repeat(40);
    let expected = [
        "line 2 was skipped: \"1.5\" is not a whole number",
        "line 4 was skipped: it is not UTF-8",
        "line 5 was skipped: its sum does not fit 64 bits",
        "line 6 was skipped: \"-9223372036854775809\" does not fit 64 bits",
        &format!("line 7 was skipped: \"{start}\" is not a whole number"),
    ];
    let reports: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(reports, expected.map(|line| format!("numbers: {line}")));
}

#[test]
fn line_may_be_longer_than_the_pipe() {
    let folder = Folder::new("long-lines");
    let fits = "1 ".repeat(200_000);
    let too_long = "1 ".repeat(10 << 20);
    let input = folder.write("input", format!("{fits}\n{too_long}\n5\n{too_long}"));
    let ended = run(&[&folder.path("sums"), &input]);
    assert!(ended.status.success(), "{ended:#?}");
    assert_eq!(folder.read("sums"), "200000\n5\n");
    let reports = [2, 4].map(|number| {
        format!("numbers: line {number} was skipped: it is longer than 16777216 bytes\n")
    });
    assert_eq!(ended.stderr, reports.concat());
}

/// The input ends before the child has opened the pipe.
#[test]
fn input_may_be_short() {
    let folder = Folder::new("short");
    for (lines, sums) in [("", ""), ("1 2", "3\n"), ("1\n\n", "1\n0\n")] {
        for _ in 0..10 {
            let output = folder.path("sums");
            let (running, mut stdin) = start(&output);
            stdin.write_all(lines.as_bytes()).expect("it reads");
            drop(stdin);
            running.wait().assert_success();
            assert_eq!(folder.read("sums"), sums);
            fs::remove_file(output).expect("it is there");
        }
    }
}

#[test]
fn errors_name_the_file() {
    let folder = Folder::new("errors");
    let (missing, present) = (folder.path("missing/file"), folder.write("present", "1"));
    let output = folder.path("sums");
    let here = folder.path("");
    let cases: [(&[&str], &str); 6] = [
        (&[&missing, &present], "can't create"),
        (&[&present, &present], "it exists already"),
        (&[&here, &present], "can't create"),
        (&[&output, &missing], "can't read"),
        (&[&output, &here], "can't read"),
        (
            &["/dev/full", &present],
            "can't write the sums: No space left",
        ),
    ];
    for (arguments, message) in cases {
        let ended = run(arguments);
        assert_eq!(ended.status.code(), Some(1), "{ended:#?}");
        assert!(ended.stderr.contains(message), "{message}: {ended:#?}");
        let names = arguments.iter().any(|name| ended.stderr.contains(name));
        assert!(names || message.contains("No space"), "{ended:#?}");
        assert!(!Path::new(&output).exists(), "{ended:#?}");
    }
    assert_eq!(folder.read("present"), "1");
    // The disk fills up while the parent waits for input.
    let (running, mut stdin) = start("/dev/full");
    let lines = stdin.write_all("1\n".repeat(10_000).as_bytes());
    lines.expect("it reads");
    assert_fails(running, "No space left");
    drop(stdin);
}

/// Output to a device needs no name.
#[test]
fn standard_output_is_possible() {
    let folder = Folder::new("stdout");
    let input = folder.write("input", "1 2\n");
    let ended = run(&["/dev/stdout", &input]);
    ended.assert_success();
    assert_eq!(ended.stdout, "3\n");
}

#[test]
fn parent_ends_after_the_child() {
    let folder = Folder::new("child-dies");
    let output = folder.path("sums");

    // The parent waits for input.
    let (running, mut stdin) = start(&output);
    stdin.write_all(b"1 2\n3").expect("it reads");
    let child = running.wait_for_children(1)[0];
    wait_until_asleep(running.group());
    wait_until_asleep(child);
    kill(child, Signal::SIGKILL).expect("the child waits");
    assert_fails(running, CHILD_DIED);
    drop(stdin);

    // The parent waits for room in the pipe.
    let (running, stdin) = start(&output);
    let child = running.wait_for_children(1)[0];
    wait_until_asleep(child);
    kill(child, Signal::SIGSTOP).expect("the child waits");
    feed(stdin);
    thread::sleep(Duration::from_millis(50));
    wait_until_asleep(running.group());
    kill(child, Signal::SIGKILL).expect("the child is stopped");
    assert_fails(running, CHILD_DIED);

    // Any moment from the start on.
    let mut random = Random(11);
    for _ in 0..25 {
        let (running, stdin) = start(&output);
        feed(stdin);
        let child = running.wait_for_children(1)[0];
        thread::sleep(Duration::from_micros(random.below(20_000)));
        kill(child, Signal::SIGKILL).expect("the child adds up");
        assert_fails(running, CHILD_DIED);
    }
    folder.assert_empty();
}

/// Kills the parent. Checks that the child reports it and ends with status 1, and wakes
/// the child before if it is stopped. Returns whether the status was seen: a thread of
/// the dying parent may have reaped the child.
fn kill_parent(mut running: Running, child: Pid) -> bool {
    running.child.kill().expect("the parent runs");
    running.child.wait().expect("it is a child");
    let start = Instant::now();
    let _ = kill(child, Signal::SIGCONT);
    let ended = running.wait();
    assert!(start.elapsed() < LIMIT, "it ends soon: {ended:#?}");
    assert!(ended.stderr.starts_with(PARENT_DIED), "{ended:#?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:#?}");
    match waitpid(child, None) {
        Ok(status) => {
            assert_eq!(status, WaitStatus::Exited(child, 1));
            true
        }
        Err(error) => {
            assert_eq!(error, Errno::ECHILD);
            false
        }
    }
}

#[test]
fn child_ends_after_the_parent() {
    let folder = Folder::new("parent-dies");
    let output = folder.path("sums");
    // Children of killed processes become children of this one, which learns how they
    // end.
    prctl::set_child_subreaper(true).expect("each process may");

    // The child waits for lines, and has got half of one.
    let (running, mut stdin) = start(&output);
    stdin.write_all(b"1 2\n3").expect("it reads");
    let child = running.wait_for_children(1)[0];
    wait_until_asleep(running.group());
    wait_until_asleep(child);
    let mut seen = usize::from(kill_parent(running, child));

    // The pipe is full.
    let (running, stdin) = start(&output);
    let child = running.wait_for_children(1)[0];
    wait_until_asleep(child);
    kill(child, Signal::SIGSTOP).expect("the child waits");
    feed(stdin);
    thread::sleep(Duration::from_millis(50));
    wait_until_asleep(running.group());
    seen += usize::from(kill_parent(running, child));

    // Any moment after the start of the child.
    let mut random = Random(13);
    for _ in 0..25 {
        let (running, stdin) = start(&output);
        feed(stdin);
        let child = running.wait_for_children(1)[0];
        thread::sleep(Duration::from_micros(random.below(20_000)));
        seen += usize::from(kill_parent(running, child));
    }
    assert!(seen > 0, "the status of one child was seen");
    folder.assert_empty();
}

#[test]
fn interrupt_leaves_nothing() {
    let folder = Folder::new("interrupt");
    let output = folder.path("sums");
    for delay in [0, 3, 30] {
        let (running, stdin) = start(&output);
        feed(stdin);
        thread::sleep(Duration::from_millis(delay));
        killpg(running.group(), Signal::SIGINT).expect("it runs");
        running.wait().assert_interrupted();
    }
    folder.assert_empty();
}

#[test]
fn comparison_ends_with_any_process() {
    for delay in [0, 100, 500, 1500] {
        for kill_child in [true, false] {
            let running = Running::start("numbers", &["--compare", "20000"]);
            thread::sleep(Duration::from_millis(delay));
            let victim = match running.children()[..] {
                [child, ..] if kill_child => child,
                _ => running.group(),
            };
            // Fails if the child has just ended. Then the next one goes on.
            let _ = kill(victim, Signal::SIGKILL);
            let start = Instant::now();
            let ended = running.wait();
            assert!(start.elapsed() < LIMIT, "{ended:#?}");
            let is_told = ended.stderr.starts_with(CHILD_DIED);
            let is_done = ended.stderr.is_empty() && ended.status.success();
            let is_killed = ended.status.signal() == Some(Signal::SIGKILL as i32);
            assert!(is_told || is_done || is_killed, "{ended:#?}");
        }
    }
}
