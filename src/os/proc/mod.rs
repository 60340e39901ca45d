//! `/proc`: what the kernel tells of processes, of their memory, and of itself.

pub(crate) mod boot_id;
pub(crate) mod fd;
pub(crate) mod maps;
mod parse;
pub(crate) mod sysvipc;
pub(crate) mod task;
