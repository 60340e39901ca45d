//! The models of the mutex and of the condition variable, with deaths at any step.
//!
//! | model | what it has | what it relies on |
//! |---|---|---|
//! | `mutex` | lock word, robust list, kernel, holder, poison, data | the kernel's futexes |
//! | `pi_mutex` | the mutex with priority inheritance: lock word, robust list, the kernel's queue, a reader that waits on the word | the kernel's futexes |
//! | `condvar` | sequence, generation, waiters, wake chain, recheck, notification of an owner death | the mutex, as its model shows it |
//! | `store_buffer` | the two accesses by which a notifier skips the system call | nothing: it is checked on the memory model |
//!
//! The memory of the first three is sequentially consistent. In one place the code's
//! orderings are weaker, and no lock makes up for it: `store_buffer` checks that one.

mod checker;
mod condvar;
mod mutex;
mod pi_mutex;
mod store_buffer;
