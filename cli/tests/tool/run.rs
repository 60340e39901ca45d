//! Runs the tool, and reads its output.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use nix::pty::{Winsize, openpty};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use crate::support::poll;

/// Returns a command that runs the tool.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shm-sync"));
    command.args(arguments).stdin(Stdio::null());
    command.env_remove("COLUMNS");
    command
}

/// Runs the tool.
pub(crate) fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// Runs the tool, which must succeed, and returns its standard output.
pub(crate) fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Removes a System V segment that no process uses. Without an IPC namespace of this
/// test's own, it may still be in use for a moment, because other tests of this program
/// list all segments and probe it.
pub(crate) fn remove_system_v(address: &str) {
    poll(|| {
        let output = run(&["rm", address]);
        let is_probed = String::from_utf8_lossy(&output.stderr).contains("in use");
        assert!(output.status.success() || is_probed, "{output:?}");
        output.status.success()
    });
}

/// Runs the tool with `--json`, and returns its output.
pub(crate) fn json(arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.push("--json");
    serde_json::from_str(&stdout(&all)).unwrap()
}

/// Runs the tool, and returns its standard error and its exit code.
pub(crate) fn refusal(arguments: &[&str]) -> (String, i32) {
    let output = run(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    (text, output.status.code().unwrap())
}

/// Returns the row with that name of a list.
#[track_caller]
pub(crate) fn row(list: &Value, name: &str) -> Value {
    let mut rows = list.as_array().unwrap().iter();
    let found = rows.find(|row| row["name"] == name);
    found
        .unwrap_or_else(|| panic!("{name} is in {list}"))
        .clone()
}

/// Returns whether a list has a row with that name.
pub(crate) fn has_row(list: &Value, name: &str) -> bool {
    let mut rows = list.as_array().unwrap().iter();
    rows.any(|row| row["name"] == name)
}

/// Gives this process its own IPC namespace and `/dev/shm`, because other programs of
/// the machine have segments, too. Returns whether that is possible.
pub(crate) fn has_own_shared_memory() -> bool {
    let succeeds = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).status();
        status.is_ok_and(|status| status.success())
    };
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC).is_ok()
        && succeeds("mount", &["--make-rprivate", "/"])
        && succeeds("mount", &["-t", "tmpfs", "tmpfs", "/dev/shm"])
}

/// A run of the tool on a terminal of its own.
#[derive(Debug)]
pub(crate) struct Terminal {
    tool: Child,
    master: File,
    output: String,
}

impl Terminal {
    /// Starts the tool on a terminal of this size.
    pub(crate) fn start(columns: u16, rows: u16, arguments: &[&str]) -> Self {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).unwrap();
        let slave: OwnedFd = pty.slave;
        let fd = slave.as_raw_fd();
        let mut command = command(arguments);
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        let login = move || {
            // SAFETY: `fd` is the open slave, because `slave` outlives the call.
            match unsafe { libc::login_tty(fd) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: `login_tty` is async-signal-safe, and a stage has a single thread.
        unsafe { command.pre_exec(login) };
        let tool = command.spawn().unwrap();
        drop(slave);
        Self {
            tool,
            master: pty.master.into(),
            output: String::new(),
        }
    }

    /// Reads until the output contains a text, whatever its colours.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        while !without_styles(&self.output).contains(text) {
            assert!(self.read(), "{text} is in {}", self.output);
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Returns the whole output, and the exit code.
    pub(crate) fn end(mut self) -> (String, i32) {
        while self.read() {}
        let code = self.tool.wait().unwrap().code().unwrap();
        (without_styles(&self.output.replace("\r\n", "\n")), code)
    }

    /// Returns `false` at the end of the output.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        // The kernel reports the end of a terminal as an error.
        let number = self.master.read(&mut bytes).unwrap_or(0);
        self.output += &String::from_utf8_lossy(&bytes[..number]);
        number > 0
    }
}

/// Removes the escape sequences for colours and attributes. Spaces between them stay,
/// as on a terminal.
fn without_styles(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or("").to_owned();
    for part in parts {
        match part.find(|c: char| c.is_ascii_alphabetic()) {
            Some(end) if part[end..].starts_with('m') => plain += &part[end + 1..],
            _ => plain = plain + "\x1b[" + part,
        }
    }
    plain
}

/// Runs the tool on a terminal, and returns its output.
pub(crate) fn on_terminal(columns: u16, arguments: &[&str]) -> String {
    let (output, code) = Terminal::start(columns, 24, arguments).end();
    assert_eq!(code, 0, "{arguments:?}: {output}");
    output
}
