//! Locks and unlocks libc's robust mutexes without calls into libc.
//!
//! This crate writes the words of the `pthread_mutex_t` of glibc or musl, and the list
//! of mutexes that libc keeps for each thread. The kernel reads that list when the
//! thread ends ([documentation](https://docs.kernel.org/locking/robust-futex-ABI.html)).
//!
//! The stores are those of libc, in the order below. So this crate and C code can use
//! one mutex. C code can unlock, in the same thread, a mutex that this crate has
//! locked. The kernel, a debugger and other processes see the same words as with libc,
//! with three exceptions:
//!
//! * The previous entry of a mutex that is on no list, and the one before the head of a
//!   list, are not written. glibc writes them, and no code reads them.
//! * After an owner death, `__owner` names the dead thread until the mutex is marked
//!   consistent. glibc stores a mark there when it locks.
//! * A word that has its value already is not stored again.
//!
//! The exchange of an unlock waits for all stores before it, so each of them costs
//! time.
//!
//! # Why not libc
//!
//! libc determines the kind of the mutex in each call. That costs more than the lock
//! itself. And libc's waiters don't recheck. `docs/decisions/why-not-libc-calls.md` has
//! the figures.
//!
//! # Locking
//!
//! | step | store | if the thread dies after it, the kernel |
//! |---|---|---|
//! | 1 | `list_op_pending` = the mutex | finds that the lock word names another thread; if the word is 0, wakes a waiter |
//! | 2 | lock word: 0 → thread id | finds the mutex by `list_op_pending`: owner died |
//! | 3 | the mutex goes to the front of the list | finds the mutex by the list: owner died |
//! | 4 | `list_op_pending` = null | finds the mutex by the list: owner died |
//!
//! # Unlocking
//!
//! | step | store | if the thread dies after it, the kernel |
//! |---|---|---|
//! | 1 | `list_op_pending` = the mutex | finds the mutex by the list: owner died |
//! | 2 | the mutex is removed from the list | finds the mutex by `list_op_pending`: owner died |
//! | 3 | lock word: thread id → 0 | finds that the word is 0, wakes a waiter |
//! | 4 | a waiter is woken, or several after a `notify_all`, if the word had `FUTEX_WAITERS` | finds that the word is 0, wakes a waiter |
//! | 5 | `list_op_pending` = null | does nothing |
//!
//! # Memory ordering
//!
//! When a thread dies, the kernel sees its stores up to one point of the machine code.
//! So the compiler must not reorder the steps: `compiler_fence(SeqCst)` stands between
//! them. They need no order for other processors, because the kernel works in the
//! thread that dies. (An exchange may be a loop of `ldxr` and `stxr`. A thread that
//! dies in it has stored the word, or has not.)
//!
//! A mutex needs `Acquire` and `Release` only. The slow path of a lock uses `Acquire`,
//! and mutexes with priority inheritance use both. The fast path of a lock and every
//! other unlock use `SeqCst`, because of the seats. A thread that takes a reader's seat
//! then reads the phase, and must not read before it has taken the seat. A thread that
//! leaves a seat then reads whether a thread waits for that. (The slow path of a seat
//! has a fence.) All other words are `Relaxed`, because the lock orders them, or
//! because only one thread accesses them.
//!
//! # Verification
//!
//! In each thread, and again after a fork, [`LockOwner`](owner::LockOwner) lets libc
//! lock a mutex and checks every word. If a word is not as expected, libc locks and
//! unlocks for that thread. The thread can then lock no mutex with priority
//! inheritance: the error is `ENOTSUP`.
//!
//! # Files
//!
//! | file | contents |
//! |---|---|
//! | `layout` | the words of libc's mutex: a module for glibc, and one for musl |
//! | `list` | insertion into and removal from the list, and the count of held locks |
//! | `held_within` | whether a thread of this process holds a mutex in a range of addresses |
//! | `forked_child` | empties the list of a forked child, for musl |
//! | `owner` | a thread as the owner of mutexes; the verification |
//! | `mutex` | [`RobustMutex`] as an object: initialisation and state |
//! | `spin` | short waits before a sleep |
//! | `contended` | the waiting loop |
//! | `pi`, `fallback` | mutexes with priority inheritance; unknown layouts |
//! | `lock` | lock and unlock |
//! | `deferred_wakes` | wake-ups that a holder makes when it unlocks |
//! | `thread_id`, `thread` | the cached identity of a thread, and the number of its locks |
//! | `bound_to_thread` | the mark of guards, which stay in the thread that locked |

mod bound_to_thread;
mod contended;
mod deferred_wakes;
mod fallback;
#[cfg(target_env = "musl")]
mod forked_child;
mod held_within;
mod layout;
mod list;
mod lock;
mod mutex;
mod owner;
mod pi;
pub(crate) mod spin;
mod thread;
mod thread_id;

pub(crate) use bound_to_thread::BoundToThread;
pub(crate) use contended::Blocking;
pub(crate) use held_within::is_any_held_within;
#[cfg(test)]
pub(crate) use layout::LOCK_WORD_OFFSET;
pub(crate) use layout::LastOwner;
pub(crate) use list::RobustList;
pub(crate) use lock::{FastLock, Queued, Released, Unlock};
pub(crate) use mutex::RobustMutex;
pub(crate) use thread::{Room, ThreadState, current_marker, pid_namespace};
pub(crate) use thread_id::ThreadId;
