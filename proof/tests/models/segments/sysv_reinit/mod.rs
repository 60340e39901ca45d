//! System V segments after the restart of a container: a process of another pid
//! namespace reinitialises the locks.
//!
//! # The steps in the code
//!
//! | step | in the code | system call, or access to the segment |
//! |---|---|---|
//! | `Attach`, `Load` | `attach_ready` | `shmat`; state and header |
//! | `CancelClaim`, `CancelClaimIfAlone` | `attach_ready` | compare-exchange, this claim to `READY`; before it `IPC_STAT`, in another namespace |
//! | `TakeOverIfAlone`, `LoadAgain` | `attach_ready` | `IPC_STAT`, in `REINITIALIZING`; state, and `IPC_STAT`: `DEAD` if the segment has lost its key |
//! | `Count`, `Claim`, `CountAgain`, `Commit`, `Withdraw` | `seize` | `IPC_STAT`; compare-exchange; `IPC_STAT`; compare-exchange, twice |
//! | `BeginInit`, `EndInit`, `WriteNamespace`, `SetReady` | reinitialisation | the first lock is begun, the last lock is written; the header; `READY` |
//! | `RemoveSegment`, `SetDead` | `remove_as` | `IPC_RMID`; `DEAD` |
//! | `Detach` | | `shmdt` |
//!
//! A call is one attempt. The next attempt after a pause is another call. The 20 ms
//! that a process gives a claimant may end at any time. The kernel counts attachments
//! in all pid namespaces, and lowers the count for a process that dies.
//!
//! # Simplifications
//!
//! * Creation and removal are left out. The model `sysv` has them, for one namespace.

mod model;
mod state;
mod steps;
mod tests;
