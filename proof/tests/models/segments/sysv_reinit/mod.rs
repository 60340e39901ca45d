//! System V segments whose container was restarted: the locks are made anew in another
//! pid namespace.
//!
//! What a process does, from `src/segment/birth.rs` and `system_v/`, as steps:
//!
//! | step | in | system call, or access to the segment |
//! |---|---|---|
//! | `Map`, `Load` | `settle` | `shmat`; state and header |
//! | `Kick`, `KickIfAlone` | `settle` | compare and swap, this claim to `BORN`; before it `IPC_STAT`, in another namespace |
//! | `TakeOverIfAlone`, `LoadAgain` | `settle` | `IPC_STAT`, of a segment that is `RENEWING`; state, and `IPC_STAT`: `DEAD` if it has lost its key |
//! | `Count`, `Claim`, `CountAgain`, `Commit`, `Withdraw` | `seize` | `IPC_STAT`; compare and swap; `IPC_STAT`; compare and swap, twice |
//! | `Unmake`, `Make`, `Publish`, `Bear` | `renew` | the first lock begun, the last made; the header; `BORN` |
//! | `TakeAway`, `SayDead` | `remove_as` | `IPC_RMID`; `DEAD` |
//! | `Unmap` | | `shmdt` |
//!
//! A task is one visit; the next visit after a pause is another task. The 20 ms of
//! grace can end at any time. The kernel's part: it counts attachments, in all pid
//! namespaces, and down for the dead.
//!
//! Left out: birth, and leaving, which [`system_v`](super::system_v) has; in it all are
//! of one namespace.

mod model;
mod state;
mod steps;
mod tests;
