//! The protocols of this crate as models, of which every state is visited.
//!
//! Tests of the real code meet some interleavings. Here each protocol is written down
//! once more, as a model in which each step is one access to shared memory or one
//! system call. A checker visits every state that the model can reach, with deaths at
//! any step.
//!
//! Each model has a table of its steps and of their places in the code, because a model
//! proves only as much as it resembles the code. Each model has planted mistakes,
//! because a checker that never complains proves nothing. The tests assert that each
//! mistake breaks a certain property.
//!
//! [`orderings`] checks the orderings of the atomic accesses, by small scenarios.
//!
//! ```sh
//! cargo test -p shm-sync-proof --test models -- --nocapture
//! ```
//!
//! | environment variable | effect |
//! |---|---|
//! | `SHM_SYNC_MODEL_SIZE=large` | more processes, calls and deaths: minutes, and gigabytes of memory |
//! | `SHM_SYNC_MODEL_SCHEDULES=1` | prints a schedule for each mistake |
//! | `SHM_SYNC_RESULTS=DIRECTORY` | writes `models.md` or `models-large.md` to this absolute path |

mod locks;
mod orderings;
mod report;
mod segments;
mod size;
