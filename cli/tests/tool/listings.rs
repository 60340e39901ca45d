//! The listings of the README in C and C++, with the header that `export-c` prints.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::run::stdout;
use crate::support::{TestName, die, expect_poisoned, is_usable_compiler, on_stage, poll, spawn};
use shm_sync::{PoisonCause, Segment, ShmMutex, ShmSafe};

/// The struct of the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ShmSafe)]
#[repr(C)]
struct Runs {
    begun: u64,
    finished: u64,
}

const README: &str = include_str!("../../../README.md");

/// Returns the first listing of the README in a language.
fn listing(language: &str) -> &'static str {
    let (_, after) = README
        .split_once(&format!("```{language}\n"))
        .unwrap_or_else(|| panic!("the README has a listing in {language}"));
    after.split_once("```").expect("the listing ends").0
}

/// A segment like that of the README, and a directory with its header.
struct Place {
    _name: TestName,
    segment: Segment<ShmMutex<Runs>>,
    directory: PathBuf,
}

impl Place {
    fn new() -> Self {
        let name = TestName::new("listings");
        let runs = Runs {
            begun: 0,
            finished: 0,
        };
        let segment = Segment::create(&name, ShmMutex::new(runs)).expect("the name is new");
        let directory = PathBuf::from(name.path().replace("/dev/shm", "/tmp"));
        fs::create_dir(&directory).expect("the name is new");
        let header = stdout(&["export-c", &name, "--prefix", "runs"]);
        fs::write(directory.join("runs.h"), header).expect("there is room");
        Self {
            _name: name,
            segment,
            directory,
        }
    }

    /// Compiles a program, and returns its path. Returns `None`, and prints why, if
    /// there is no such compiler for the libc of this program.
    fn compile(&self, compiler: &str, options: &[&str], text: &str) -> Option<PathBuf> {
        if !is_usable_compiler(compiler) {
            return None;
        }
        let source = self.directory.join("listing");
        fs::write(&source, text).expect("there is room");
        let program = self.directory.join(format!("program-{compiler}"));
        let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include");
        let output = Command::new(compiler)
            .args(options)
            .args(["-Wall", "-Wextra", "-pedantic", "-Werror", "-pthread", "-o"])
            .arg(&program)
            .args(["-I".as_ref(), include.as_os_str(), "-I".as_ref()])
            .arg(&self.directory)
            .arg(&source)
            .output()
            .expect("there is a compiler");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{compiler}: {errors}");
        Some(program)
    }

    fn runs(&self) -> Runs {
        *self.segment.lock().expect("no holder has failed")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Waits until a process holds the lock, and kills it.
fn kill_inside(segment: &Segment<ShmMutex<Runs>>, mut program: Child) -> u32 {
    let pid = program.id();
    poll(|| segment.holder().is_some_and(|holder| holder.pid == pid));
    program.kill().expect("it runs");
    program.wait().expect("it is a child");
    pid
}

on_stage! {
    fn listing_in_c_survives_kills_on_either_side() {
        let place = Place::new();
        let lines = listing("c").lines().count();
        assert!(lines < 30, "the listing is short: {lines} lines");
        for (compiler, options) in [
            ("gcc", &["-std=gnu11", "-x", "c"][..]),
            ("clang", &["-std=gnu11", "-x", "c"][..]),
            ("musl-gcc", &["-std=gnu11", "-x", "c"][..]),
        ] {
            let Some(slow) = place.compile(compiler, options, listing("c")) else {
                continue;
            };
            let start = |program: &Path| {
                let mut command = Command::new(program);
                command.stdout(Stdio::piped()).spawn().expect("it runs")
            };
            let victim = start(&slow);
            let pid = kill_inside(&place.segment, victim);
            let cause = expect_poisoned(place.segment.lock()).cause();
            assert!(
                matches!(cause, PoisonCause::OwnerDied { pid: dead, .. } if dead == pid),
                "the process in C has died with the lock: {cause:?}"
            );

            let fast = listing("c").replace("sleep(5)", "sleep(0)");
            assert_ne!(fast, listing("c"), "the listing sleeps");
            let fast = place.compile(compiler, options, &fast).expect("as above");
            let run = || {
                let output = start(&fast).wait_with_output().expect("it is a child");
                assert_eq!(output.stdout, b"success\n", "{output:?}");
                let runs = place.runs();
                assert_eq!(runs.begun, runs.finished, "the repair has undone the killed run");
                runs.begun
            };
            let after_c = run();

            let mut child = spawn(|| {
                let mut guard = place.segment.lock().expect("no holder has failed");
                guard.begun += 1;
                die()
            });
            child.wait();
            assert_eq!(run(), after_c + 1, "the process in Rust has died");
        }
    }

    fn listing_in_cpp_compiles_and_runs() {
        let place = Place::new();
        let program = format!("{}\nint main() {{ return count_a_run(); }}\n", listing("cpp"));
        for compiler in ["g++", "clang++"] {
            let options = ["-std=c++17", "-x", "c++"];
            let Some(program) = place.compile(compiler, &options, &program) else {
                continue;
            };
            let before = place.runs().begun;
            let status = Command::new(program).status().expect("it runs");
            assert!(status.success(), "{compiler}: {status}");
            let after = Runs {
                begun: before + 1,
                finished: before + 1,
            };
            assert_eq!(place.runs(), after, "{compiler}");
        }
    }
}
