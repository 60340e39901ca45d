//! System V segments: birth and leaving. [`steps`] has the steps.
//!
//! What a process does, from `src/segment/system_v.rs` and `birth.rs`, as steps:
//!
//! | step | in | system call, or access to the segment |
//! |---|---|---|
//! | `Get` | `create` | `shmget(IPC_CREAT \| IPC_EXCL)`, marked unborn; `EEXIST`: `LookFind` |
//! | `NewMap` | `fill` | `shmat`; gone: `Get` |
//! | `Prepare`, `NewLock` | `fill` | makes the robust mutex, writes the header; takes it |
//! | `Claim` | `leave_virginity` | compare and swap, `VIRGIN` to `GESTATING`; lost: `LostUnlock` |
//! | `Fill`, `Unmark`, `Bear`, `NewUnlock` | `fill` | writes; `IPC_SET`; `BORN`; gives back the mutex |
//! | `LostUnlock`, `LostDead`, `LostRemove`, `LostUnmap` | `Unborn::drop` | the mutex; `DEAD`; `IPC_RMID`; `shmdt` |
//! | `LookFind`, `LookMap`, `LookLoad`, `LookCount` | `is_complete`, `Look::at` | `shmget`, `shmat`, state, `IPC_STAT` |
//! | `LookLoadAgain`, `LookCountAgain`, `LookUnmap` | `Look::life`, `Look::drop` | state, `IPC_STAT`, `shmdt` |
//! | `Find`, `Stat`, `Map`, `Load` | `attach`, `settle` | `shmget`, `IPC_STAT`, `shmat`, state |
//! | `ClaimDead`, `ClearAway` | `settle` | compare and swap, `VIRGIN` to `DEAD`; `IPC_RMID` |
//! | `Lock`, `Unlock` | `settle`, `remove_if_alone` | the robust mutex; held, and for removal: `LeaveUnmap` |
//! | `Resolve`, `ResolveStat` | `resolve` | state, `IPC_STAT` |
//! | `SetBorn`, `SetDead`, `ResolveRemove` | `resolve` | state, `IPC_RMID` |
//! | `Unmap` | `settle` | `shmdt`; from `Find` again |
//! | `ReaderUnmap` | `settle`, for reading | `shmdt` |
//! | `Count` | `Attached::leave` | `IPC_STAT` |
//! | `SayLeaving`, `CountAgain`, `TakeAway`, `SayDead`, `SayBorn` | `remove_if_alone` | state, `IPC_STAT`, `IPC_RMID` |
//! | `LeaveUnmap`, `Ask` | `Attached::drop`, `remove_if_abandoned` | `shmdt`, `IPC_STAT` |
//! | `FindToRemove` | `remove_abandoned_at` | `shmget` |
//! | `FindToUnlink`, `Unlink` | `unlink` | `shmget`, `IPC_RMID` |
//!
//! The 20 ms of grace can end at any time: `ClaimDead` follows `Load` whenever it
//! likes. The kernel's part: it counts attachments, and down for the dead; a removed
//! segment has no key, can still be attached to by its id, and is destroyed with its
//! last detachment; the mutex of a dead holder can be had.
//!
//! Left out: ids that the kernel gives out again (the model's ids are new each time),
//! several users with different rights, foreign segments, orderings weaker than
//! sequential.

mod kernel;
mod model;
mod state;
mod steps;
mod tests;
