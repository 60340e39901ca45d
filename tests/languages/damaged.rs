//! Damaged segments and wrong calls: programs in C and C++ that the sanitizers watch.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::{Compiler, Language, Product, SANITIZERS};
use crate::support::number_from_env;
use crate::world::{Place, fingerprint};

/// Compiles a program with the sanitizers. Returns `None`, and prints why, if this
/// machine can't.
fn program(compiler: &str, language: Language, source: &str) -> Option<PathBuf> {
    let Some(compiler) = Compiler::named(compiler, language, SANITIZERS, "sanitized") else {
        println!("skipped: {compiler} is not installed");
        return None;
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("languages");
    Some(compiler.compile(&folder.join(source), Product::Program))
}

/// Runs the command, which has a watchdog of its own. Returns its standard output.
fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program can be started");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the program prints text")
}

#[test]
fn header_refuses_damaged_segments_and_wrong_calls() {
    let Some(program) = program("gcc", Language::C, "damaged.c") else {
        return;
    };
    let cases = run(&mut Command::new(&program));
    assert!(cases.lines().count() > 20, "{cases}");
    for case in cases.lines() {
        println!("{case}");
        run(Command::new(&program).arg(case));
    }
}

/// The variables `SHM_SYNC_FUZZ_SEED` and `SHM_SYNC_FUZZ_SECONDS` make it longer.
#[test]
fn header_survives_random_damage() {
    let Some(program) = program("gcc", Language::C, "fuzz.c") else {
        return;
    };
    let seed = number_from_env("SHM_SYNC_FUZZ_SEED").unwrap_or(1);
    let seconds = number_from_env("SHM_SYNC_FUZZ_SECONDS").unwrap_or(3);
    let arguments = [seed.to_string(), seconds.to_string()];
    println!("{}", run(Command::new(&program).args(arguments)));
}

#[test]
fn classes_of_cpp_check_their_arguments() {
    let Some(program) = program("g++", Language::Cpp, "library.cpp") else {
        return;
    };
    let place = Place::new("languages-cpp");
    run(Command::new(&program).args([&*place.name, &*fingerprint()]));
}
