//! System V segments: creation, attachment and removal.
//!
//! # The steps in the code
//!
//! | step | in the code | system call, or access to the segment |
//! |---|---|---|
//! | `Shmget` | creation | `shmget(IPC_CREAT \| IPC_EXCL)`, marked unfinished; `EEXIST`: `ProbeFind` |
//! | `AttachNew` | creation | `shmat`; removed: `Shmget` |
//! | `InitNew`, `LockNew` | creation | initialises the robust mutex, writes the header; locks |
//! | `TryLeaveNew` | `SysvState::try_leave_new` | compare-exchange, `NEW` to `INITIALIZING`; failed: `AbortUnlock` |
//! | `Write`, `SetPermissions`, `SetReady`, `UnlockNew` | creation | writes; `IPC_SET`; `READY`; unlocks |
//! | `AbortUnlock`, `AbortSetDead`, `AbortRemove`, `AbortDetach` | `Unfinished::drop` | unlocks; `DEAD`; `IPC_RMID`; `shmdt` |
//! | `ProbeFind`, `ProbeAttach`, `ProbeLoad`, `ProbeCount` | `Probe` | `shmget`, `shmat`, state, `IPC_STAT` |
//! | `ProbeLoadAgain`, `ProbeCountAgain`, `ProbeDetach` | `Probe`, `Probe::drop` | state, `IPC_STAT`, `shmdt` |
//! | `Find`, `Stat`, `Attach`, `Load` | `attach_ready` | `shmget`, `IPC_STAT`, `shmat`, state |
//! | `TryNewToDead`, `RemoveDead` | `attach_ready` | compare-exchange, `NEW` to `DEAD`; `IPC_RMID` |
//! | `Lock`, `Unlock` | `attach_ready`, `remove_if_alone` | the robust mutex; held, and for removal: `LeaveDetach` |
//! | `Finish`, `FinishStat` | `finish_interrupted` | state, `IPC_STAT` |
//! | `FinishReady`, `FinishDead`, `FinishRemove` | `finish_interrupted` | state, `IPC_RMID` |
//! | `Detach` | `attach_ready` | `shmdt`; from `Find` again |
//! | `ReaderDetach` | `attach_ready`, for reading | `shmdt` |
//! | `Count` | `SysvAttachment::drop` | `IPC_STAT` |
//! | `SetRemoving`, `CountAgain`, `RemoveSegment`, `SetDead`, `RestoreReady` | `remove_if_alone` | state, `IPC_STAT`, `IPC_RMID` |
//! | `LeaveDetach`, `CountAfterDetach` | `RemoveAfterDetach::drop`, `remove_if_abandoned` | `shmdt`, `IPC_STAT` |
//! | `FindToRemove` | `remove_abandoned_at` | `shmget` |
//! | `FindToUnlink`, `Unlink` | `unlink` | `shmget`, `IPC_RMID` |
//!
//! An opener gives a creator 20 ms. `TryNewToDead` may follow `Load` at once, because
//! they may end at any time.
//!
//! The kernel counts attachments, and lowers the count for a process that dies. A
//! removed segment has no key, can still be attached by its id, and is destroyed with
//! its last detachment. The next locker gets the mutex of a dead holder.
//!
//! # Simplifications
//!
//! * The kernel reuses no ids.
//! * All users have the same rights, and there are no foreign segments.
//! * The memory is sequentially consistent.

mod kernel;
mod model;
mod state;
mod steps;
mod tests;
