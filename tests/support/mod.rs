//! Helpers that the test programs share: stages, children, names, values.
//!
//! Rust's test harness runs tests on threads of one process, where a fork may copy a
//! lock that another thread holds. A test that forks therefore runs on a *stage*: the
//! harness executes its own program again, and the test runs there before `main`, on
//! the only thread. A stage has a process group, which a watchdog kills when the time
//! is up.
//!
//! The numbered failure modes that tests name are listed in
//! docs/results/failure-modes.md.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(unused_imports, reason = "each test file uses its part")]
#![allow(
    unreachable_pub,
    reason = "part of each test program, not of a library"
)]

mod child;
mod compiler;
mod environment;
mod kernel;
pub mod mounts;
mod names;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod processor;
mod random;
pub mod seccomp;
mod stage;
mod timing;
mod type_table;
mod users;
mod values;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub mod walker;

pub use child::{Child, Gate, close_from_three, die, exit_now, spawn};
pub use compiler::{C_COMPILERS, c_compiler, foreign_c_compiler, is_usable_compiler};
pub use environment::number_from_env;
pub use kernel::can_populate_for;
pub use names::{TestAddress, TestFile, TestKey, TestName};
pub use random::Random;
pub use stage::{enter_stage, ignore_output, send_on_stage, watchdog};
pub(crate) use stage::{on_stage, stage};
pub use timing::{median, poll, time};
pub use type_table::{TestField, TypeTable};
pub use users::{NOBODY, become_member, become_nobody, is_root_for};
pub use values::{
    LOCK_WORD, Marked, Meeting, Pair, SharedPair, dead_owner, expect_poisoned, holder_of,
    leave_a_death, pair,
};
