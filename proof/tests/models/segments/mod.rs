//! All interleavings of what processes do to a name: publication, attachment,
//! removal, birth, revival, renewal.
//!
//! Each protocol is a model: the world as the kernel and the memory see it, and
//! processes that take one system call or one access to shared memory at a time. The
//! search takes every step that any process can take in every world, and in every one
//! lets any process die. A process that is stopped is one that takes no step.
//!
//! A check that has never failed proves nothing. So each model has mutations, planted
//! bugs, of which the search must find every one, by the property that is named beside
//! it. Those that are harmless say why.
//!
//! What they say is printed with `--nocapture`:
//!
//! ```sh
//! cargo test -p shm-sync-proof --test names -- --nocapture
//! # with a schedule for each planted bug
//! SHM_SYNC_MODEL_SCHEDULES=1 cargo test -p shm-sync-proof --test names -- --nocapture
//! # more processes and tasks: minutes, and gigabytes of memory
//! SHM_SYNC_MODEL_SIZE=large cargo test --release -p shm-sync-proof --test names -- --nocapture
//! ```

mod file;
mod file_reinit;
mod search;
mod sysv;
mod sysv_reinit;
