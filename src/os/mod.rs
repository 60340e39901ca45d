//! The floor that talks to the operating system.
//!
//! This is the only place that names `libc` or `nix`. Each wrapper names the
//! call it makes, turns its return code into a typed result once, and deals
//! with `EINTR` once. Nothing here knows what the memory is used for.

pub(crate) mod boot;
pub(crate) mod clock;
pub(crate) mod descriptor;
pub(crate) mod futex;
pub(crate) mod lock_file;
pub(crate) mod memfd;
pub(crate) mod mman;
pub(crate) mod named_file;
pub(crate) mod proc;
pub(crate) mod process;
pub(crate) mod pthread;
pub(crate) mod shared_bytes;
pub(crate) mod spin;
pub(crate) mod sysv_shm;

use std::io;

/// The error of an OS call that `nix` made.
fn io_error(errno: nix::errno::Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

/// Calls `f` again for as long as a signal interrupts it.
fn retry_on_eintr<T>(mut f: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match f() {
            Err(nix::errno::Errno::EINTR) => {}
            other => return other.map_err(io_error),
        }
    }
}
