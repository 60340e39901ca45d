//! Code in other languages, which the benchmark compiles to a shared library when it
//! runs.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Compiles a source to a shared library, and loads it until the process ends.
///
/// `options` are those of the compiler, separated by spaces.
///
/// # Errors
///
/// The messages of the compiler or of the loader.
pub(crate) fn compile_and_load(
    compiler: &str,
    options: &str,
    source: &[u8],
) -> Result<&'static libloading::Library, String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("libshm-sync-bench-{}-{count}.so", std::process::id());
    let library = program.with_file_name(name);
    let loaded = compile(compiler, options, source, &library).and_then(|()| load(&library));
    // A loaded library does not need its name.
    let _ = std::fs::remove_file(&library);
    loaded
}

fn compile(compiler: &str, options: &str, source: &[u8], library: &Path) -> Result<(), String> {
    let mut child = Command::new(compiler)
        .args(options.split_whitespace())
        .args(["-pthread", "-shared", "-fPIC", "-", "-o"])
        .arg(library)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{compiler} does not run ({error}): install a compiler"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A compiler that stops reading reports why.
        let _ = stdin.write_all(source);
    }
    let output = child
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let messages = String::from_utf8_lossy(&output.stderr);
    let error = messages.lines().find(|line| line.contains("error"));
    Err(format!("{compiler}: {}", error.unwrap_or("failed")))
}

fn load(library: &Path) -> Result<&'static libloading::Library, String> {
    // SAFETY: `compile` has created the library. It has no initialisation functions.
    let library = unsafe { libloading::Library::new(library) };
    let library = library.map_err(|error| error.to_string())?;
    Ok(Box::leak(Box::new(library)))
}
