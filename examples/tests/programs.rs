//! Runs the examples as a user does: with `--help`, with wrong arguments, with Ctrl-C,
//! and with `kill -9` of their processes.

#[path = "../../tests/support/compiler.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the tests of the library use the rest"
)]
mod compiler;
mod job_queue;
mod numbers;

use std::env;
use std::fs;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use support::Random;

/// An example that has not ended by then counts as hung.
const WATCHDOG: Duration = Duration::from_secs(60);

/// An example.
struct Example {
    name: &'static str,
    /// All options but `--help`.
    options: &'static [&'static str],
    /// Arguments with which it ends soon, and parts of what it then prints.
    short: &'static [&'static str],
    prints: &'static [&'static str],
    /// Arguments with which it runs for minutes. None if there are no such arguments.
    long: Option<&'static [&'static str]>,
}

const EXAMPLES: &[Example] = &[
    Example {
        name: "recover",
        options: &[],
        short: &[],
        prints: &["was killed in a transfer", "savings: 70, checking: 30"],
        long: None,
    },
    Example {
        name: "counters",
        options: &["--workers", "--increments"],
        short: &["--increments", "1000"],
        prints: &["counted 4000, expected 4000"],
        long: Some(&["--increments", "4000000000"]),
    },
    Example {
        name: "lifeline",
        options: &["--work"],
        short: &["--work", "50"],
        prints: &["ended normally", "died", "after the kill"],
        long: Some(&["--work", "60000"]),
    },
    Example {
        name: "pool",
        options: &["--workers", "--below"],
        short: &["--below", "5000"],
        prints: &["was killed with job", "exactly one right result: 40"],
        long: Some(&["--below", "10000000"]),
    },
    Example {
        name: "numbers",
        options: &["--compare"],
        short: &["--compare", "1000"],
        prints: &["ShmPipe, line by line", "usleep(1000)          "],
        // Its children report the death of the parent: the module `numbers` tests it.
        long: None,
    },
    Example {
        name: "job_queue",
        options: &["--workers", "--jobs", "--kills", "--seed"],
        short: &["--jobs", "200", "--kills", "10"],
        prints: &["was killed", "exactly one right result: 200"],
        long: Some(&["--jobs", "1000000", "--kills", "0"]),
    },
    Example {
        name: "dashboard",
        options: &["--ticks", "--tick", "--pid"],
        short: &["--ticks", "2", "--tick", "10"],
        prints: &["segment", "process     count"],
        long: Some(&["--ticks", "1000000"]),
    },
    Example {
        name: "hand_over",
        options: &["--below"],
        short: &["--below", "5000"],
        prints: &["168 primes are below 1000", "669 primes are below 5000"],
        long: Some(&["--below", "4000000000"]),
    },
    Example {
        name: "ping_pong",
        options: &["--round-trips"],
        short: &["--round-trips", "1000"],
        prints: &["ShmCondvar", "PthreadCondvar"],
        long: Some(&["--round-trips", "4000000000"]),
    },
    Example {
        name: "supervisor",
        options: &["--crash-at", "--pause"],
        short: &["--crash-at", "2"],
        prints: &["its last holder died", "40 jobs, sum 22140"],
        // Its worker does not end with it.
        long: None,
    },
    #[cfg(feature = "tokio")]
    Example {
        name: "tokio_service",
        options: &["--requests"],
        short: &["--requests", "20"],
        prints: &["20 requests wait for the lock", "then 20 were counted"],
        long: None,
    },
    Example {
        name: "crashed_holder",
        options: &["--workers", "--kill", "--pause"],
        short: &["--workers", "3", "--kill", "2", "Cargo.toml"],
        prints: &["rolled back the update", "equal"],
        long: Some(&["--pause", "60000", "Cargo.toml"]),
    },
];

/// A running example, in a process group of its own. The group is killed when dropped.
struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// How an example has ended, and what it has printed.
#[derive(Debug)]
struct Ended {
    pid: u32,
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Running {
    fn start(name: &str, arguments: &[&str]) -> Self {
        Self::start_with(name, arguments, Stdio::null())
    }

    fn start_with(name: &str, arguments: &[&str], stdin: Stdio) -> Self {
        let program = program(name);
        let mut command = Command::new(&program);
        // It compiles a program for its own libc.
        if let ("supervisor", Some(compiler)) = (name, compiler::c_compiler()) {
            command.env("CC", compiler);
        }
        let mut child = command
            .args(arguments)
            .process_group(0)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}. `cargo test --test` builds no examples: first run \
                     `cargo build -p shm-sync-examples --examples`",
                    program.display()
                )
            });
        Self {
            stdout: read_all(child.stdout.take().expect("stdout is a pipe")),
            stderr: read_all(child.stderr.take().expect("stderr is a pipe")),
            child,
        }
    }

    /// Waits until all processes of the example have ended: only then are both pipes
    /// closed.
    fn wait(mut self) -> Ended {
        let [stdout, stderr] = [&self.stdout, &self.stderr].map(|pipe| {
            pipe.recv_timeout(WATCHDOG)
                .unwrap_or_else(|_| panic!("process {} hangs", self.child.id()))
        });
        Ended {
            pid: self.child.id(),
            status: self.child.wait().expect("the example is a child"),
            stdout,
            stderr,
        }
    }

    fn group(&self) -> Pid {
        pid(self.child.id())
    }

    fn wait_for_children(&self, count: usize) -> Vec<Pid> {
        let start = Instant::now();
        loop {
            let children = self.children();
            if children.len() >= count {
                return children;
            }
            assert!(start.elapsed() < WATCHDOG, "it starts {count} processes");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns the children of the main thread, those that were not reaped included.
    fn children(&self) -> Vec<Pid> {
        let id = self.child.id();
        let list = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let list = list.unwrap_or_default();
        let ids = list.split_whitespace().map(|id| id.parse().expect("an id"));
        ids.map(pid).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if all processes have ended.
        let _ = killpg(self.group(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Ended {
    fn assert_success(&self) {
        assert!(self.status.success(), "it succeeds: {self:#?}");
        assert_eq!(self.stderr, "", "it reports no error: {self:#?}");
    }

    fn assert_interrupted(&self) {
        let by_signal = self.status.signal() == Some(Signal::SIGINT as i32);
        let is_interrupted = by_signal || self.status.code() == Some(130);
        assert!(is_interrupted, "SIGINT ends it: {self:#?}");
        assert_eq!(self.stderr, "", "it reports no error: {self:#?}");
        self.assert_nothing_left();
    }

    /// Checks that it has left no name: each name of an example ends in its process id.
    fn assert_nothing_left(&self) {
        let suffix = format!("-{}", self.pid);
        for entry in fs::read_dir("/dev/shm").expect("/dev/shm is readable") {
            let name = entry.expect("/dev/shm is readable").file_name();
            let name = name.to_string_lossy();
            let is_ours = name.starts_with("shm-sync-") && name.ends_with(&suffix);
            assert!(!is_ours, "{name} is left: {self:#?}");
        }
    }
}

/// Reads a pipe to its end, and sends the text.
fn read_all(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).expect("the output is text");
        let _ = sender.send(text);
    });
    receiver
}

/// Returns the path of an example. Cargo builds it beside the tests.
fn program(name: &str) -> PathBuf {
    let test = env::current_exe().expect("this program has a path");
    let profile = test.ancestors().nth(2).expect("it is in `deps`");
    profile.join("examples").join(name)
}

fn run(name: &str, arguments: &[&str]) -> Ended {
    Running::start(name, arguments).wait()
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(id.try_into().expect("a process id fits"))
}

#[test]
fn each_example_is_tested() {
    let manifest = fs::read_to_string("Cargo.toml").expect("the manifest is readable");
    let count = manifest.matches("[[example]]").count();
    let without_feature = usize::from(!cfg!(feature = "tokio"));
    assert_eq!(
        EXAMPLES.len() + without_feature,
        count,
        "the table is complete"
    );
}

#[test]
fn help_names_every_option() {
    for Example { name, options, .. } in EXAMPLES {
        let ended = run(name, &["--help"]);
        ended.assert_success();
        for part in [*options, &["--help", "Usage:", "Exit status:"]].concat() {
            assert!(ended.stdout.contains(part), "{part} of {name}: {ended:#?}");
        }
        let lines = ended.stdout.lines();
        let listed = lines.filter(|line| line.starts_with("  --")).count();
        assert_eq!(
            listed,
            options.len() + 1,
            "no option of {name} is unknown here"
        );
    }
}

#[test]
fn wrong_arguments_are_refused() {
    for Example { name, options, .. } in EXAMPLES {
        let values = options.iter().map(|option| vec![*option, "many"]);
        let missing = options.iter().map(|option| vec![*option]);
        let unknown = [vec!["--no-such-option"], vec!["-x"], vec!["--worker"]];
        for arguments in unknown.into_iter().chain(values).chain(missing) {
            let ended = run(name, &arguments);
            assert_eq!(
                ended.status.code(),
                Some(2),
                "{name} {arguments:?}: {ended:#?}"
            );
            assert_eq!(ended.stdout, "", "{name} {arguments:?}: {ended:#?}");
            let named = arguments[0].trim_start_matches('-');
            assert!(
                ended.stderr.contains(named),
                "{name} {arguments:?}: {ended:#?}"
            );
        }
    }
}

#[test]
fn short_run_succeeds() {
    for Example {
        name,
        short,
        prints,
        ..
    } in EXAMPLES
    {
        let ended = run(name, short);
        ended.assert_success();
        for part in *prints {
            assert!(
                ended.stdout.contains(part),
                "{name} prints {part}: {ended:#?}"
            );
        }
        ended.assert_nothing_left();
    }
}

#[test]
fn interrupt_leaves_nothing() {
    let mut random = Random(1);
    for example in EXAMPLES {
        let Some(long) = example.long else { continue };
        for longest in [3, 20, 150] {
            let running = Running::start(example.name, long);
            thread::sleep(Duration::from_millis(random.below(longest)));
            killpg(running.group(), Signal::SIGINT).expect("the example runs");
            running.wait().assert_interrupted();
        }
    }
}

#[test]
fn children_end_with_their_parent() {
    for example in EXAMPLES
        .iter()
        .filter(|example| example.name != "hand_over")
    {
        let Some(long) = example.long else { continue };
        let mut running = Running::start(example.name, long);
        running.wait_for_children(1);
        running.child.kill().expect("the example runs");
        let ended = running.wait();
        assert_eq!(ended.stderr, "", "{}", example.name);
        // Nothing can remove the name after this.
        if example.name == "dashboard" {
            let name = format!("/dev/shm/shm-sync-dashboard-{}", ended.pid);
            fs::remove_file(name).expect("the segment has a name");
        }
    }
}

/// How workers that the test killed have died, in all rounds.
#[derive(Default, Debug)]
struct Deaths {
    in_update: usize,
    with_lock: usize,
    without_lock: usize,
    rounds_without_survivor: usize,
}

#[test]
fn crashed_holder_survives_random_kills() {
    let mut deaths = Deaths::default();
    let start = Instant::now();
    for seed in 1_u64.. {
        let mut random = Random(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
        let kills = 1 + random.below(6);
        let victims = random.below(3).to_string();
        let running = Running::start(
            "crashed_holder",
            &[
                "--workers",
                "5",
                "--kill",
                &victims,
                "--pause",
                "8",
                "tests/programs.rs",
            ],
        );
        thread::sleep(Duration::from_millis(random.below(30)));
        for _ in 0..kills {
            let children = running.children();
            if let Some(last) = (children.len() as u64).checked_sub(1) {
                // Fails if the example has just reaped it.
                let child = children[random.below(last + 1) as usize];
                let _ = kill(child, Signal::SIGKILL);
            }
            // A short time may be in the middle of a repair after the last kill.
            let longest = if random.below(2) == 0 { 3 } else { 12 };
            thread::sleep(Duration::from_millis(random.below(longest)));
        }
        let ended = running.wait();
        ended.assert_success();
        let verdict = ended.stdout.lines().rfind(|line| line.contains("equal"));
        assert_eq!(
            verdict.map(str::trim),
            Some("equal"),
            "seed {seed}: {ended:#?}"
        );

        let count = |text: &str| ended.stdout.matches(text).count();
        deaths.in_update += count("was killed by you in an update");
        deaths.with_lock += count("was killed by you with the lock held");
        deaths.without_lock += count("was killed by you, without the lock");
        deaths.rounds_without_survivor += count("this program itself");
        let all_seen = deaths.in_update > 0 && deaths.without_lock > 0;
        if seed >= 40 && (all_seen || start.elapsed() > WATCHDOG) {
            break;
        }
    }
    println!("{deaths:?}");
    assert!(
        deaths.in_update > 0,
        "a worker died in an update: {deaths:?}"
    );
    assert!(
        deaths.without_lock > 0,
        "a worker died without the lock: {deaths:?}"
    );
}

#[test]
fn crashed_holder_without_workers_counts() {
    let running = Running::start("crashed_holder", &["--pause", "60", "tests/programs.rs"]);
    for child in running.wait_for_children(4) {
        kill(child, Signal::SIGKILL).expect("the workers count");
    }
    let ended = running.wait();
    ended.assert_success();
    assert!(ended.stdout.contains("this program itself"), "{ended:#?}");
    assert!(ended.stdout.contains("equal"), "{ended:#?}");
}

#[test]
fn crashed_holder_tells_waiting_workers() {
    // One byte is one chunk. It is assigned to the first worker, and the second waits.
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("one-byte");
    fs::write(&file, "x").expect("the folder is writable");
    let file = file.to_str().expect("the path is text");
    let arguments = ["--workers", "2", "--kill", "0", "--pause", "2000", file];
    let running = Running::start("crashed_holder", &arguments);
    let first = running.wait_for_children(2)[0];
    thread::sleep(Duration::from_millis(200));
    kill(first, Signal::SIGKILL).expect("the first worker counts");
    let ended = running.wait();
    ended.assert_success();
    for text in ["without the lock", "released uncounted chunks: 1", "equal"] {
        assert!(ended.stdout.contains(text), "{text}: {ended:#?}");
    }
}
