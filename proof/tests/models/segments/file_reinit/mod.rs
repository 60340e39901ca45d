//! The locks of an object that comes from another boot or pid namespace: which process
//! reinitialises them.
//!
//! # The steps of an opener in the code
//!
//! | step | in the code | system call, or access to the header |
//! |---|---|---|
//! | `ReadNamespace`, `ReadFront`, `ReadEnd`, `ReadBack` | `read_header` | `open`, `pread`, which may be torn |
//! | `LockReinit` | `ReinitLock::new`, if the epoch is stale | `F_OFD_SETLK`, repeated, exclusive, `REINIT` |
//! | `LockOwn` | `Registration::new` | `F_OFD_SETLK`, repeated, shared, own byte of `WRITERS` |
//! | `LoadEnd`, `LoadFront`, `LoadBack`, `LoadNamespace`, `LoadEndAgain` | the epoch is loaded | loads |
//! | `LockWriters` | `reinit_stale_locks` | `F_OFD_SETLK`, exclusive, `WRITERS`; if another process holds one: refused |
//! | `InvalidateEnd` | `reinit_stale_locks`: the epoch is invalidated | store |
//! | `BeginReinit`, `EndReinit` | `reinit_all` | the first lock is written, the last lock is written |
//! | `WriteNamespace`, `WriteFront`, `WriteBack`, `WriteEnd` | the epoch is written | stores |
//! | `Downgrade` | `reinit_stale_locks` | `F_OFD_SETLK`, shared, own byte; the other bytes unlocked |
//! | `UnlockOwn` | `ReinitLock::leave`, if refused | `F_OFD_SETLK`, own byte unlocked |
//! | `UnlockReinit` | `ReinitLock::drop` | `F_OFD_SETLK`, unlocked |
//! | `Close` | `Registration::drop` | `close`; if another process was faster, from `ReadFront` again |
//!
//! An epoch is of one boot if all its words are: the end of the boot id, and what lies
//! before and behind it. Boot 0 is past. The processes see boot 1; some see boot 2, as
//! in a container that has another file mounted over the boot id. The pid namespace is
//! a word of its own. A container that restarts is a process of another namespace and
//! the same boot.
//!
//! # Simplifications
//!
//! * The name is left out: the model `file` has it.
//! * Readers are left out: they use no lock.
//! * The memory is sequentially consistent.

mod model;
mod state;
mod steps;
mod tests;
