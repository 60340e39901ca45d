//! Outputs that can't be written: a closed pipe, and a full disk.

use std::fs::File;
use std::process::{Output, Stdio};

use crate::run::{command, has_own_shared_memory};
use crate::support::{TestName, holder_of, on_stage, spawn};
use shm_sync::{Removal, Segment, ShmMutex};

type Counter = ShmMutex<u64>;

/// Commands that print something, and the arguments for a segment.
fn all_commands(name: &str, pid: &str) -> Vec<Vec<String>> {
    let lines = [
        "--help",
        "--version",
        "gc --help",
        "ls",
        "ls --all --wide",
        "ls --json",
        "show NAME",
        "show NAME --json",
        "export-c NAME",
        "watch NAME --interval 0.05",
        "watch NAME --interval 0.05 --json",
        "maps PID",
        "maps PID --json",
        "gc --dry-run",
        "gc --dry-run --json",
        "man",
        "completions bash",
        "completions fish",
    ];
    let words = |line: &str| -> Vec<String> {
        let line = line.replace("NAME", name).replace("PID", pid);
        line.split(' ').map(str::to_owned).collect()
    };
    lines.map(words).into()
}

/// Runs each command with its output there.
fn run_all(name: &str, stdout: impl Fn() -> Stdio) -> Vec<(Vec<String>, Output)> {
    let pid = std::process::id().to_string();
    let run = |arguments: Vec<String>| {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut tool = command(&words);
        let output = tool.stdout(stdout()).stderr(Stdio::piped()).output();
        (arguments, output.unwrap())
    };
    all_commands(name, &pid).into_iter().map(run).collect()
}

/// Returns the writing end of a pipe whose reader has gone.
fn closed_pipe() -> Stdio {
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    write.into()
}

on_stage! {
    fn closed_pipe_ends_as_sigpipe_does() {
        let name = TestName::new("cli-pipe");
        let segment = Segment::create(&name, Counter::new(0)).unwrap();
        let _holder = holder_of(&segment);
        for (arguments, output) in run_all(&name, closed_pipe) {
            assert_eq!(output.status.code(), Some(141), "{arguments:?}: {output:?}");
            assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
        }
    }

    fn full_disk_is_reported() {
        let name = TestName::new("cli-full");
        let _segment = Segment::create(&name, Counter::new(0)).unwrap();
        let full = || File::options().write(true).open("/dev/full").unwrap().into();
        for (arguments, output) in run_all(&name, full) {
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
            let text = String::from_utf8(output.stderr).unwrap();
            let expected = "shm-sync: write error: No space left on device";
            assert!(text.starts_with(expected), "{arguments:?}: {text}");
            assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
        }
    }

    fn closed_stderr_changes_no_exit_code() {
        for (arguments, code) in [(&["frobnicate"][..], 2), (&["show", "/shm-sync-absent"], 1)] {
            let output = command(arguments).stderr(closed_pipe()).output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        }
    }

    fn gc_removes_all_before_it_prints() {
        if !has_own_shared_memory() {
            println!("not run: no namespace of its own");
            return;
        }
        let options = Segment::<Counter>::options().removal(Removal::UntilLastDetach);
        let mut killed = spawn(|| {
            let _all: Vec<_> = (0..3)
                .map(|number| options.create(format!("/left-{number}"), Counter::new(0)))
                .collect();
            crate::support::die();
        });
        killed.wait();
        let mut gc = command(&["gc", "--yes"]);
        assert_eq!(gc.stdout(closed_pipe()).status().unwrap().code(), Some(141));
        assert_eq!(std::fs::read_dir("/dev/shm").unwrap().count(), 0);
    }
}
