//! The header and libc's own functions, on the same mutexes.

use std::path::Path;

use crate::build::{Compiler, Language, Product};
use crate::damaged::run_cases;

#[test]
fn header_and_libc_share_mutexes_and_lists() {
    let Some(compiler) = Compiler::any(Language::C) else {
        return;
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("languages/beside_libc.c");
    let program = compiler.compile(&source, Product::Program);
    assert!(run_cases(&program) > 10);
}
