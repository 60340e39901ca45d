//! System V segments.
//!
//! A segment is never used before it is complete, although its key leads to it from the
//! first moment on. The last process that detaches removes it, if its creator wants
//! that.
//!
//! [`state`] has the states of a segment. In short: a process that finds a segment
//! unfinished waits on its robust lock, and removes the segment if the creator is dead.
//! A creator whose segment was removed starts again. The mode tells a segment that is
//! being filled from another program's segment of zeros:
//! [`UNFINISHED`](query::UNFINISHED).
//!
//! # The last process that detaches
//!
//! The kernel counts the attachments, and counts down when a process ends. A detaching
//! process first takes the lock, sets `REMOVING`, and reads the attach count. If the
//! count is 1, that is its own attachment, and it removes the segment. Otherwise it
//! sets `READY` again and detaches. After that it reads the count once more, and checks
//! again if no process is attached. Two processes that check at once each see a count
//! of 2 and do not remove. Each checks again after `shmdt`, so the later one sees 0.
//!
//! A process that detaches or removes does not wait for the lock. The holder of the
//! lock is attached, so the segment is in use, and the holder checks when it detaches.
//!
//! Removal goes by the id, so it cannot hit a segment that got the key meanwhile. (The
//! kernel reuses an id after some 65,000 creations. A detaching process would have to
//! be stopped for so long between `shmdt` and its check.)
//!
//! # Untrusted users
//!
//! A lock leads its holder to other memory, because libc's list of held locks runs
//! through it. So a segment to which an untrusted user may write is not locked, and no
//! decision depends on its words
//! ([`Permissions::trusts`](crate::segment::permissions::Permissions::trusts)). A
//! trusted owner is not enough, because the creator keeps all rights. For such a
//! segment only the kernel's answers count (`IPC_STAT`). Its first bytes are read only
//! to tell a segment of this crate from another program's.
//!
//! # Files
//!
//! Each file uses only those above it.
//!
//! | file | content |
//! |---|---|
//! | `state` | the state word and the lock, and why the protocol is correct |
//! | `query` | small queries of the kernel and of the header |
//! | `view` | a segment attached for reading, which may hold any bytes |
//! | `ready` | attaches to a segment, and finishes the interrupted work of a dead process |
//! | `removal` | removes a segment that no process is attached to |
//! | `attachment` | the attachment of this process, which checks for removal on drop |
//! | `probe` | a view that counts as an attachment |
//! | `open`, `create` | open and create a typed segment |

mod attachment;
mod create;
mod open;
mod probe;
mod query;
mod ready;
mod removal;
pub(in crate::segment) mod state;
mod view;

pub(in crate::segment) use attachment::SysvAttachment;
pub(in crate::segment) use create::create;
pub(in crate::segment) use open::open;
pub(crate) use probe::Probe;
pub(crate) use query::is_marked_unfinished;
pub(in crate::segment) use removal::{remove_abandoned_at, unlink};
pub(crate) use view::Lifecycle;
