//! C compilers for the libc of this program.

use std::process::{Command, Stdio};

/// The compilers to look for, the first one first. `musl-gcc` is Debian's gcc with
/// musl. On Alpine Linux, all compilers are for musl.
pub const C_COMPILERS: [&str; 4] = ["gcc", "clang", "cc", "musl-gcc"];

/// Returns whether the compiler makes programs for glibc, or `None` if it is not
/// installed.
fn is_for_glibc(compiler: &str) -> Option<bool> {
    let macros = Command::new(compiler)
        .args([
            "-E",
            "-dM",
            "-x",
            "c",
            "-include",
            "features.h",
            "/dev/null",
        ])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&macros.stdout);
    let has_macro = |name| text.lines().any(|line| line.starts_with(name));
    macros
        .status
        .success()
        .then(|| has_macro("#define __GLIBC__ "))
}

/// Returns whether the compiler is installed and makes programs for the libc of this
/// program. Otherwise prints why not.
pub fn is_usable_compiler(compiler: &str) -> bool {
    let Some(is_for_glibc) = is_for_glibc(compiler) else {
        println!("skipped: {compiler} is not installed");
        return false;
    };
    let is_usable = is_for_glibc == cfg!(target_env = "gnu");
    if !is_usable {
        println!("skipped: {compiler} is for another libc");
    }
    is_usable
}

/// Returns a C compiler for the libc of this program, if there is one.
pub fn c_compiler() -> Option<&'static str> {
    let is_ours = |name: &&str| is_for_glibc(name) == Some(cfg!(target_env = "gnu"));
    C_COMPILERS.into_iter().find(is_ours)
}

/// Returns a C compiler for another libc, if there is one.
pub fn foreign_c_compiler() -> Option<&'static str> {
    let is_foreign = |name: &&str| is_for_glibc(name) == Some(cfg!(target_env = "musl"));
    C_COMPILERS.into_iter().find(is_foreign)
}
