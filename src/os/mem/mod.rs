//! Mappings, and the memory objects that can be mapped.

mod any_bytes;
pub(crate) mod atomic_copy;
mod mapping;
pub(crate) mod memfd;
mod own;
mod pages;
pub(crate) mod sysv_shm;

pub(crate) use any_bytes::AnyBytes;
pub use mapping::Access;
pub(crate) use mapping::{Mapping, memory_lock_limit};
pub(crate) use own::read_own_memory;
pub use pages::Pages;
pub(crate) use pages::{MIN_PAGE, huge_page_size, page_size};
