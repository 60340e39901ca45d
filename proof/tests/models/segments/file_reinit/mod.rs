//! The locks of an object that comes from another boot or pid namespace: which process
//! brings them back to life.
//!
//! What a process does that opens a file to write, from `src/segment/named.rs`,
//! `attach.rs` and `origin.rs`, as steps:
//!
//! | step | in | system call, or access to the header |
//! |---|---|---|
//! | `PeekNamespace`, `PeekFront`, `PeekEnd`, `PeekBack` | `read_header` | `open`, `pread`, which may be torn |
//! | `TakeRevival` | `Reviver::new`, if the header says another | `F_OFD_SETLKW`, exclusive, `REVIVAL` |
//! | `TakeShared` | `Attached::new` | `F_OFD_SETLKW`, shared, own byte of `WRITERS` |
//! | `LoadEnd`, `LoadFront`, `LoadBack`, `LoadNamespace`, `LoadEndAgain` | `Validity::load` | loads |
//! | `Exclude` | `bring_home` | `F_OFD_SETLK`, exclusive, `WRITERS`; not to be had: refused |
//! | `MarkEnd` | `bring_home` | store: from here on the origin is none |
//! | `BeginRevival`, `EndRevival` | `place::revive` | every lock is made anew |
//! | `WriteNamespace`, `WriteFront`, `WriteBack`, `WriteEnd` | `Validity::publish` | stores |
//! | `Share` | `bring_home` | `F_OFD_SETLK`, shared, own byte; the others unlocked |
//! | `LeaveWriters` | `Reviver::leave`, if refused | `F_OFD_SETLK`, own byte unlocked |
//! | `FreeRevival` | `Reviver::drop` | `F_OFD_SETLK`, unlocked |
//! | `Close` | `Attached::drop` | `close`; if somebody else was faster, from `PeekFront` again |
//!
//! An origin is of one boot if all of its words are: the end of the boot's id, and what
//! lies before and behind it. Boot 0 is past. The processes see boot 1; one may see
//! boot 2, as in a container that has something mounted over the id. The pid namespace is
//! a word of its own, and each process lives in one: a container that starts again is a
//! process of another namespace and of the same boot. What a process sees, and what the
//! locks are of, is a boot and a namespace.
//!
//! Left out: the name, which is the business of [`publication`](super::publication);
//! readers, who use no lock; orderings weaker than sequential.

mod model;
mod state;
mod steps;
mod tests;
