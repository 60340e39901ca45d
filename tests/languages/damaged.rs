//! Damaged segments and wrong calls: programs in C and C++ that the sanitizers watch,
//! and Python.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::{Compiler, Language, Product, SANITIZERS};
use crate::python;
use crate::support::{TestName, TypeTable, c_compiler, number_from_env};
use crate::world::{Place, fingerprint};

/// Compiles a program with the sanitizers. Returns `None`, and prints why, if this
/// machine can't.
pub(crate) fn program(compiler: Option<&str>, language: Language, source: &str) -> Option<PathBuf> {
    let compiler = Compiler::named(compiler?, language, SANITIZERS, "sanitized")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("languages");
    Some(compiler.compile(&folder.join(source), Product::Program))
}

/// Runs the command, which has a watchdog of its own. Returns its standard output.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program can be started");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the program prints text")
}

/// Runs a program that lists its cases, once for each. `prepare` is called for each
/// command. Returns how many cases there are.
pub(crate) fn run_cases(program: &Path, prepare: impl Fn(&mut Command)) -> usize {
    let cases = run(&mut Command::new(program));
    for case in cases.lines() {
        println!("{case}");
        let mut command = Command::new(program);
        prepare(&mut command);
        run(command.arg(case));
    }
    cases.lines().count()
}

#[test]
fn header_refuses_damaged_segments_and_wrong_calls() {
    let Some(program) = program(c_compiler(), Language::C, "damaged.c") else {
        return;
    };
    assert!(run_cases(&program, |_| ()) > 20);
}

/// The variables `SHM_SYNC_FUZZ_SEED` and `SHM_SYNC_FUZZ_SECONDS` make it longer.
#[test]
fn header_survives_random_damage() {
    let Some(program) = program(c_compiler(), Language::C, "fuzz.c") else {
        return;
    };
    let seed = number_from_env("SHM_SYNC_FUZZ_SEED").unwrap_or(1);
    let seconds = number_from_env("SHM_SYNC_FUZZ_SECONDS").unwrap_or(3);
    let arguments = [seed.to_string(), seconds.to_string()];
    println!("{}", run(Command::new(&program).args(arguments)));
}

#[test]
fn classes_of_cpp_check_their_arguments() {
    let Some(program) = program(Some("g++"), Language::Cpp, "library.cpp") else {
        return;
    };
    let place = Place::new("languages-cpp");
    run(Command::new(&program).args([&*place.name, &*fingerprint()]));
}

/// Makes the locks of an object in memory valid for this file: see docs/format.md.
fn set_epoch(name: &TestName) {
    let file = File::options().write(true).open(name.path());
    let file = file.expect("the object is a file");
    let metadata = file.metadata().expect("it has metadata");
    let epoch = [metadata.dev(), metadata.ino(), u64::MAX, u64::MAX, 0];
    let epoch = epoch.map(u64::to_le_bytes).concat();
    file.write_all_at(&epoch, 104).expect("it can be written");
}

/// Ends with status 0 if no object can be used at any of the paths.
const SCRIPT: &str = "
import sys, shm_sync
with shm_sync.open(sys.argv[1]) as segment:
    for path in sys.argv[2:]:
        try:
            print(segment[path])
        except shm_sync.CorruptSegment:
            continue
        sys.exit(f'{path} can be used')
";

/// No program could close a segment safely while it holds a lock that the lock table
/// does not have.
#[test]
fn python_refuses_locks_that_are_not_listed() {
    let mut types = TypeTable::default();
    let number = types.add("u64", 8, 8, &[]);
    let mutex = types.add("ShmMutex", 72, 8, &[("data", 64, number)]);
    let permits = types.add("ShmSemaphore", 192, 64, &[]);
    // A semaphore that is larger than it says.
    let short = types.add("ShmSemaphore", 72, 1, &[]);
    types.add(
        "struct",
        448,
        64,
        &[
            ("mutex", 0, mutex),
            ("permits", 128, permits),
            ("short", 320, short),
            ("number", 72, number),
        ],
    );
    let name = types.create(&[0; 448], 64);
    set_epoch(&name);
    let Some(package) = python::package() else {
        return;
    };
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", package).args(["-c", SCRIPT]);
    run(command.arg(&*name).args([".mutex", ".permits", ".short"]));
}
