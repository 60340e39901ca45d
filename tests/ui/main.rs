//! Compiles programs with the derive macro. Some must run, and some must be refused
//! with a certain message.
//!
//! `pass` holds the programs that run. `fail` holds the programs that are refused, each
//! with the compiler's message beside it. The messages are those of rustc [`COMPILER`].
//! With any other compiler, only the programs that run are tested.
//!
//! To update the messages, run `TRYBUILD=overwrite cargo test -p shm-sync-test-ui` and
//! read the difference. `-- compiler trybuild=NAME` runs single cases. It then
//! finds no errors that appear only during code generation, unless NAME also matches a
//! program that runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The compiler whose messages are expected. Messages change between versions.
const COMPILER: &str = "1.95";

#[test]
fn smoke() {
    assert!(
        files("pass", "stderr").is_empty(),
        "a program that runs has no message"
    );
    assert!(!files("pass", "rs").is_empty());

    let with_messages: Vec<PathBuf> = files("fail", "rs")
        .iter()
        .map(|case| case.with_extension("stderr"))
        .collect();
    assert_eq!(
        with_messages,
        files("fail", "stderr"),
        "each case has its message, and each message has its case"
    );
}

#[test]
fn compiler_accepts_and_refuses() {
    let cases = trybuild::TestCases::new();
    // A program that runs makes trybuild build the others too, instead of only checking
    // them.
    cases.pass("pass/*.rs");

    let version = rustc(&["--version"]);
    if !version.starts_with(&format!("rustc {COMPILER}.")) {
        eprintln!(
            "the programs in fail are skipped: its messages are those of rustc {COMPILER}, this is {version}"
        );
        return;
    }
    let std_source = Path::new(&rustc(&["--print=sysroot"])).join("lib/rustlib/src/rust/library");
    for case in files("fail", "rs") {
        if std_source.exists() && quotes_std(&case) {
            eprintln!(
                "{} is skipped: with the component rust-src, the compiler prints more",
                case.display()
            );
        } else {
            cases.compile_fail(case);
        }
    }
}

/// Returns whether the expected message shows a line of std. The compiler prints such a
/// line only if it has the source.
fn quotes_std(case: &Path) -> bool {
    fs::read_to_string(case.with_extension("stderr")).is_ok_and(|text| text.contains("--> $RUST"))
}

/// Returns the files of one kind, sorted.
fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{directory}: {error}"))
        .map(|entry| entry.expect("the directory can be read").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

/// Runs the compiler that builds the cases, and returns its output.
fn rustc(arguments: &[&str]) -> String {
    let program = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("rustc is installed, because it has built this test");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
