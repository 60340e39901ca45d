//! POSIX objects and files: publication, attachment, removal. [`steps`] has the steps.
//!
//! What a process does, from `src/segment/named.rs` and `attach.rs`, as steps:
//!
//! | step | in | system call |
//! |---|---|---|
//! | `MakeUnnamed` | `Unpublished::build` | `open(O_TMPFILE)` |
//! | `Fill` | `Unpublished::build` | `fchmod`, `fallocate`, `mmap`; all of the content |
//! | `LockOwn` | `publish`: `Attached::new` | `F_OFD_SETLKW`, shared, own byte of `ATTACHED` |
//! | `Link` | `named_file::publish` | `linkat`; `EEXIST`: open, or fail |
//! | `Open` | `open_checked` | `open`, `fstat`, `pread`; `ENOENT`: create, or fail |
//! | `TakeShared` | `open`: `Attached::new` | `F_OFD_SETLKW`, shared, own byte of `ATTACHED` |
//! | `Look` | `attach::leads_to` | `lstat`; elsewhere: `Close` |
//! | `Close` | `Attached::drop`, not armed | `close`; from `Open` again |
//! | `Reopen` | `Attached::drop`, armed | `open` of `/proc/self/fd/N` |
//! | `Visit` | `named::remove_if_abandoned` | `open`, `pread` |
//! | `TakeRemoval` | `Remover::new` | `F_OFD_SETLK`, exclusive, `REMOVAL` |
//! | `LetGo` | `Attached::drop`, after `TakeRemoval` | `close` of what has the shared lock |
//! | `TryAll` | `Remover::remove_if_abandoned` | `F_OFD_SETLK`, exclusive, `ATTACHED` |
//! | `LookAgain` | `attach::leads_to` | `lstat` |
//! | `TakeAway` | `Remover::remove_if_abandoned` | `unlink` |
//! | `FreeAll`, `FreeRemoval` | `Remover::drop` | `F_OFD_SETLK`, unlocked; `close` |
//! | `VisitToUnlink`, `LockToUnlink`, `LookToUnlink`, `Unlink` | `attach::unlink` | `open`, `F_OFD_SETLKW`, `lstat`, `unlink` |
//!
//! The kernel's part: an inode lives while it has a name or is open, and its number is
//! given out again afterwards; the locks of a description go with its last descriptor,
//! all at once, also when a process dies.
//!
//! Left out: `Abandoned::Recreate`, which is `Remove` and then a creation;
//! `Removal::Persistent`, which leaves what a death leaves; readers, who lock other
//! bytes of the same range; forked children, who share a description.

mod model;
mod state;
mod steps;
mod tests;
