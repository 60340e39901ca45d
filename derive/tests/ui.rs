//! What must compile, what must not, and what the compiler says of it.
//!
//! `tests/ui/pass` holds programs that run; `tests/ui/fail` holds programs
//! that are refused, each with the compiler's words beside it. The words are
//! those of rustc [`COMPILER`]; under any other compiler only the programs that
//! run are tried.
//!
//! To see new words: `TRYBUILD=overwrite cargo test -p shm-sync-derive --test ui`, and
//! read the difference. (With `-- trybuild=NAME` it tries single cases, but does not
//! find errors that show only when code is generated unless NAME also matches a program
//! that runs.)

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The words change between versions.
const COMPILER: &str = "1.95";

#[test]
fn smoke() {
    assert!(
        files("pass", "stderr").is_empty(),
        "who runs has nothing to say"
    );
    assert!(!files("pass", "rs").is_empty());

    let said: Vec<PathBuf> = files("fail", "rs")
        .iter()
        .map(|case| case.with_extension("stderr"))
        .collect();
    assert_eq!(
        said,
        files("fail", "stderr"),
        "each case has its text, and each text its case"
    );
}

#[test]
fn compiler_accepts_and_refuses() {
    let cases = trybuild::TestCases::new();
    // A program that is to run also makes trybuild build the others, instead of
    // only checking them.
    cases.pass("tests/ui/pass/*.rs");

    let version = rustc(&["--version"]);
    if !version.starts_with(&format!("rustc {COMPILER}.")) {
        eprintln!(
            "tests/ui/fail is not tried: its texts are those of rustc {COMPILER}, this is {version}"
        );
        return;
    }
    let std_source = Path::new(&rustc(&["--print=sysroot"])).join("lib/rustlib/src/rust/library");
    for case in files("fail", "rs") {
        if std_source.exists() && quotes_std(&case) {
            eprintln!(
                "{} is not tried: with the component rust-src, the compiler says more",
                case.display()
            );
        } else {
            cases.compile_fail(case);
        }
    }
}

/// Whether the expected text shows a place in std, of which the compiler prints
/// the line only if it has the source.
fn quotes_std(case: &Path) -> bool {
    fs::read_to_string(case.with_extension("stderr")).is_ok_and(|text| text.contains("--> $RUST"))
}

/// The files of one kind, sorted.
fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let directory = Path::new("tests/ui").join(directory);
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("the directory can be read").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

/// What the compiler that builds the cases says of itself.
fn rustc(arguments: &[&str]) -> String {
    let program = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("there is a rustc, because it has built this");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
