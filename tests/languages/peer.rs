//! Peers: which there are, and a running one.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};

use crate::build::{Compiler, Language, Product};
use crate::support::{poll, watchdog};
use crate::{python, rust_peer, world};

/// A program that speaks the protocol.
pub(crate) struct Peer {
    pub(crate) name: String,
    command: Box<dyn Fn() -> Command + Send + Sync>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Peer {
    /// Returns the peer that a program is.
    pub(crate) fn of_program(name: String, program: PathBuf) -> Self {
        let command = Box::new(move || Command::new(&program));
        Self { name, command }
    }

    fn rust() -> Self {
        let command = Box::new(rust_peer::command);
        let name = "Rust".to_owned();
        Self { name, command }
    }

    /// Returns the peer that a file in `peers/` is. Returns `None`, and prints why, if
    /// this machine can't run it.
    fn of_file(file: &Path) -> Option<Self> {
        let name = file.file_name().map(OsStr::to_string_lossy)?.into_owned();
        let compiled = |language| {
            let Some(compiler) = Compiler::any(language) else {
                println!("skipped: no compiler of this machine is for {name}");
                return None;
            };
            let program = compiler.compile(file, Product::Program);
            Some(Self::of_program(name.clone(), program))
        };
        match file.extension().and_then(OsStr::to_str)? {
            "c" => compiled(Language::C),
            "cpp" => compiled(Language::Cpp),
            "py" => Self::of_script(name, file),
            other => panic!("no peer has the extension {other}"),
        }
    }

    fn of_script(name: String, file: &Path) -> Option<Self> {
        let package = python::package()?;
        let file = file.to_owned();
        let command = Box::new(move || {
            let mut command = Command::new("python3");
            command.env("PYTHONPATH", &package).arg(&file);
            command
        });
        Some(Self { name, command })
    }

    pub(crate) fn start(&self) -> Running {
        self.start_in(|| {})
    }

    /// Starts the peer in a sandbox. `refuse` calls functions of
    /// [`seccomp`](crate::support::seccomp).
    pub(crate) fn start_in(&self, refuse: fn()) -> Running {
        let mut command = (self.command)();
        // SAFETY: those functions make system calls only.
        unsafe {
            command.pre_exec(move || {
                refuse();
                Ok(())
            })
        };
        // The stage of this test is no stage of the peer.
        command.env_remove("SHM_SYNC_TEST_STAGE");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a peer can be started");
        let output = child.stdout.take().expect("it is a pipe");
        let (send, replies) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Running {
            name: self.name.clone(),
            input: child.stdin.take(),
            child,
            replies,
            early: None,
        }
    }

    /// Starts the peer, and lets it open the segment.
    pub(crate) fn open(&self, address: &str) -> Running {
        let mut running = self.start();
        running.expect_ok(&format!("open {address} {}", world::fingerprint()));
        running
    }
}

/// Returns all peers that this machine can run.
pub(crate) fn peers() -> &'static [Peer] {
    static PEERS: OnceLock<Vec<Peer>> = OnceLock::new();
    PEERS.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("languages/peers");
        let entries = fs::read_dir(folder).expect("the folder of the peers is there");
        let mut files: Vec<PathBuf> = entries
            .map(|entry| entry.expect("the folder can be listed").path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        let mut peers = vec![Peer::rust()];
        peers.extend(files.iter().filter_map(|file| Peer::of_file(file)));
        peers
    })
}

/// Calls `test` with each ordered pair of peers, a peer with itself included.
pub(crate) fn for_each_pair(mut test: impl FnMut(&Peer, &Peer)) {
    for first in peers() {
        for second in peers() {
            println!("{first:?}, {second:?}");
            test(first, second);
        }
    }
}

/// A peer that runs. It is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: process::Child,
    input: Option<ChildStdin>,
    replies: Receiver<String>,
    /// A reply that was looked for before it was asked for.
    early: Option<String>,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a command, and does not wait for the reply.
    pub(crate) fn tell(&mut self, command: &str) {
        let input = self.input.as_mut().expect("its input is open");
        let line = format!("{command}\n");
        input
            .write_all(line.as_bytes())
            .unwrap_or_else(|error| panic!("{}, {command:?}: {error}", self.name));
    }

    /// Waits for the reply to a command. Fails after the time of the watchdog.
    pub(crate) fn reply(&mut self) -> String {
        if let Some(reply) = self.early.take() {
            return reply;
        }
        match self.replies.recv_timeout(watchdog()) {
            Ok(reply) => reply,
            Err(error) => panic!(
                "{} ({}) does not reply: {error}; status {:?}",
                self.name,
                self.pid(),
                self.child.try_wait()
            ),
        }
    }

    /// Waits until one of two peers has replied. Returns whether this one has.
    pub(crate) fn replies_before(&mut self, other: &mut Self) -> bool {
        let begin = std::time::Instant::now();
        let mut has_replied = [false; 2];
        poll(|| {
            let late = begin.elapsed() > watchdog();
            assert!(!late, "{} and {} do not reply", self.name, other.name);
            has_replied = [&mut *self, &mut *other].map(|it| {
                it.early = it.early.take().or_else(|| it.replies.try_recv().ok());
                it.early.is_some()
            });
            has_replied.contains(&true)
        });
        has_replied[0]
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.reply()
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, command: &str, reply: &str) {
        assert_eq!(self.ask(command), reply, "{}: {command}", self.name);
    }

    #[track_caller]
    pub(crate) fn expect_ok(&mut self, command: &str) {
        self.expect(command, "ok");
    }

    #[track_caller]
    pub(crate) fn expect_reply(&mut self, reply: &str) {
        assert_eq!(self.reply(), reply, "{}", self.name);
    }

    /// Waits until a thread of the peer sleeps in a futex system call.
    pub(crate) fn wait_until_asleep(&self) {
        let calls = [libc::SYS_futex, libc::SYS_futex_waitv].map(|call| format!("{call} "));
        let begin = std::time::Instant::now();
        poll(|| {
            assert!(begin.elapsed() < watchdog(), "{} does not sleep", self.name);
            fs::read_to_string(format!("/proc/{}/syscall", self.pid()))
                .is_ok_and(|line| calls.iter().any(|call| line.starts_with(call)))
        });
    }

    /// Kills the peer with SIGKILL, and waits for its end.
    pub(crate) fn kill(mut self) -> u32 {
        let pid = self.pid();
        self.child.kill().expect("it has not been waited for");
        self.child.wait().expect("it is a child");
        pid
    }

    /// Ends the input of the peer. Asserts that it ends with status 0.
    pub(crate) fn end(mut self) {
        self.input = None;
        let begin = std::time::Instant::now();
        let mut status = None;
        poll(|| {
            assert!(begin.elapsed() < watchdog(), "{} does not end", self.name);
            status = self.child.try_wait().expect("it is a child");
            status.is_some()
        });
        let status = status.expect("it has ended");
        assert!(status.success(), "{}: {status}", self.name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
