//! POSIX objects and files: publication, attachment and removal.
//!
//! # The steps in the code
//!
//! | step | in the code | system call |
//! |---|---|---|
//! | `OpenTmpfile` | `Unpublished::build` | `open(O_TMPFILE)` |
//! | `Write` | `Unpublished::build` | `fallocate`, `fstat`, `mmap`, `fchmod`; writes the content |
//! | `LockOwn` | publication: `register_creator` | `F_OFD_SETLK`, repeated, shared, own byte of `ATTACHED` |
//! | `Linkat` | publication: `link_at` | `linkat`; `EEXIST`: open, or fail |
//! | `Open` | `open_checked` | `open`, `fstat`, `pread`; `ENOENT`: create, or fail |
//! | `LockShared` | `open`: `Registration::new` | `F_OFD_SETLK`, repeated, shared, own byte of `ATTACHED` |
//! | `CheckName` | `leads_to` | `lstat`; another object: `Close` |
//! | `Close` | `Registration::drop`, without removal | `close`; from `Open` again |
//! | `Reopen` | `Registration::open_remover` | `open` of the name again |
//! | `OpenToRemove` | `remove_if_abandoned` | `open`, `pread` |
//! | `LockRemoval` | `RemovalLock::new` | `F_OFD_SETLK`, exclusive, `REMOVAL` |
//! | `CloseAttached` | `Registration::drop`, after `LockRemoval` | `close` of the descriptor with the shared lock |
//! | `TryLockAttached` | `RemovalLock::remove_if_abandoned` | `F_OFD_SETLK`, exclusive, `ATTACHED` |
//! | `CheckNameAgain` | `leads_to` | `lstat` |
//! | `UnlinkAbandoned` | `RemovalLock::remove_if_abandoned` | `unlink` |
//! | `UnlockAttached`, `UnlockRemoval` | `RemovalLock::drop` | `F_OFD_SETLK`, unlocked; `close` |
//! | `OpenToUnlink`, `LockToUnlink`, `CheckToUnlink`, `Unlink` | `unlink` | `open`, `F_OFD_SETLK`, repeated, `lstat`, `unlink` |
//!
//! The kernel keeps an inode while it has a name or is open, and reuses its number
//! afterwards. The locks of a file description end together with its last descriptor,
//! also when a process dies.
//!
//! # Simplifications
//!
//! * `IfAbandoned::Recreate` is left out: it is a removal and then a creation.
//! * `Removal::Persistent` is left out: it leaves what a death leaves.
//! * Readers are left out: they lock other bytes of the same range.
//! * Forked children are left out: they share a file description.

mod model;
mod state;
mod steps;
mod tests;
