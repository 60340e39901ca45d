//! Memory: mappings and the objects behind them.

pub(crate) mod atomic_copy;
mod mapping;
pub(crate) mod memfd;
mod pages;
pub(crate) mod sysv_shm;

pub(crate) use mapping::{Access, AnyBytes, Mapping, memory_lock_limit};
pub(crate) use pages::{MIN_PAGE, Pages, huge_page_size, page_size};
