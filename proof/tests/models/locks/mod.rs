//! All interleavings: the protocols of the mutex and of the condition variable,
//! with a process killed at any step.
//!
//! Tests of the real code meet the interleavings that happen to happen. Here the
//! protocols are written down once more as machines, whose every step is one access
//! to shared memory or one system call, and a checker visits every state that
//! they can reach.
//!
//! | file | machine | what it trusts |
//! |---|---|---|
//! | `mutex.rs`, `mutex/` | lock word, robust list, kernel, holder, poison, data | the kernel's futexes |
//! | `inheriting.rs` | the mutex with priority inheritance: lock word, robust list, the kernel's queue, a reader that waits on the word | the kernel's futexes |
//! | `condvar.rs`, `condvar/` | sequence, generation, sleepers, the chain of calls, heartbeat, telling of a death | the mutex, as the first machine shows it |
//! | `store_buffer.rs` | the two operations by which a notifier saves the system call | nothing: the memory model itself |
//!
//! The machines step through memory that everybody sees alike (sequential
//! consistency). Where the code's orderings are weaker than that, and no lock makes up
//! for it, is one place only, and it has its own test with `loom`.
//!
//! What is proved of a machine is as good as the machine is like the code: each file
//! has a table of its steps and where they are in the source. And a checker that never
//! complains proves nothing: each machine can be told to make a mistake, and
//! there is a test for every mistake.
//!
//! `SHM_SYNC_MODEL_SIZE=large` lets more processes die, or more of them take part.
//! `--nocapture` prints the sizes, and a way into every mistake.

mod checker;
mod condvar;
mod mutex;
mod pi_mutex;
mod store_buffer;
