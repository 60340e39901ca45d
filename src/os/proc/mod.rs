//! Readers of `/proc`: processes, their memory and files, System V segments, the boot.

pub(crate) mod boot_id;
pub(crate) mod fd;
pub(crate) mod maps;
mod parse;
pub(crate) mod sysvipc;
pub(crate) mod task;
