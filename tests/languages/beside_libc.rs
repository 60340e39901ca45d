//! The header and libc's own functions, on the same mutexes.

use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::build::{Compiler, Language, Product};
use crate::damaged::run_cases;
use crate::support::seccomp;

#[test]
fn header_and_libc_share_mutexes_and_lists() {
    let Some(compiler) = Compiler::any(Language::C) else {
        return;
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("languages/beside_libc.c");
    let program = compiler.compile(&source, Product::Program);
    assert!(run_cases(&program, |_| ()) > 10);
    // The same on a kernel that wipes no memory of forked children.
    let without_wiped_memory = |command: &mut std::process::Command| {
        command.env("WITHOUT_WIPED_MEMORY", "1");
        let refuse = || {
            seccomp::refuse_wiped_memory(libc::EINVAL);
            Ok(())
        };
        // SAFETY: the child makes system calls only.
        unsafe { command.pre_exec(refuse) };
    };
    run_cases(&program, without_wiped_memory);
}
