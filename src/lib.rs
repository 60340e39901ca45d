//! Locks in shared memory that survive the processes that use them.
//!
//! Processes that share memory need mutual exclusion, and a way to wait without
//! polling. With an ordinary process-shared mutex, every waiter blocks for ever when
//! the holder is killed. With [`ShmMutex`], the next process acquires the lock and is
//! told that the holder died. It repairs the data and goes on. A process may be killed
//! at any instruction, also while it locks, unlocks, waits or notifies. No waiter
//! blocks for ever because of that: if the kernel does not wake it at once, it goes on
//! within 250 ms. [Platform](#platform) has the kernels for which this holds.
//!
//! ```
//! use shm_sync::{Segment, ShmMutex, ShmSafe};
//!
//! #[derive(ShmSafe)]
//! #[repr(C)]
//! struct Runs {
//!     begun: u64,
//!     finished: u64,
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     # let name = &format!("/shm-sync-doc-lib-{}", std::process::id());
//!     # stringify!(
//!     let name = "/shm-sync-runs";
//!     # );
//!     // The first run creates the segment, and later runs open it with its contents.
//!     let runs = Segment::open_or_create(name, || {
//!         ShmMutex::new(Runs { begun: 0, finished: 0 })
//!     })?;
//!     // If the last holder died or panicked, the closure repairs the data under the
//!     // lock.
//!     let mut runs = runs.lock_or_recover(|runs, cause| {
//!         println!("{cause}");
//!         runs.begun = runs.finished;
//!     })?;
//!     runs.begun += 1;
//!     println!("run {} begins: press Ctrl-C, or wait", runs.begun);
//!     # stringify!(
//!     std::thread::sleep(std::time::Duration::from_secs(5));
//!     # );
//!     runs.finished += 1;
//!     println!("run {} has finished", runs.finished);
//!     # assert_eq!((runs.begun, runs.finished), (1, 1));
//!     # shm_sync::unlink(name)?;
//!     Ok(())
//! }
//! ```
//!
//! # Contents
//!
//! | items | purpose |
//! |---|---|
//! | [`guide`], [`guide::cookbook`] | how to use the crate; pieces to copy for common tasks |
//! | [`ShmSafe`](trait@ShmSafe), [`#[derive(ShmSafe)]`][derive] | marks the types that may be stored in shared memory |
//! | [`Segment`] | a value of such a type in shared memory |
//! | [`SegmentContent`], [`WithTail`], [`CachePadded`] | what a segment can hold: a value, a slice, a head with a slice; padding |
//! | [`ShmString`], [`ShmVec`], [`ShmOption`] | a text, a list and a value that may be missing, of bounded size |
//! | [`Plain`] (feature `bytemuck`) | plain data of other crates, such as `Uuid` |
//! | [`Fingerprint`], [`Layout`], [`Abi`] | the structure of a type, by which programs agree |
//! | [`SegmentOptions`] | how a segment is created and opened |
//! | [`Removal`], [`IfAbandoned`], [`Residency`], [`CoreDump`], [`Pages`] | the values of options |
//! | [`Address`], [`ToAddress`], [`Backing`] | the name of a segment: text or a path; the kind of its memory |
//! | [`unlink`], [`place_at`] | removes a name; initialises locks in memory that the caller mapped |
//! | [`ShmMutex`], [`ShmMutexGuard`] | locks the data; it is a robust `pthread_mutex_t`, which C code can use as well |
//! | [`ShmCondvar`] | waits for a change of the data, on a futex |
//! | [`ShmEvent`] | lets threads wait until an event is set |
//! | [`ShmRwLock`], [`ShmRwLockReadGuard`], [`ShmRwLockWriteGuard`] | many readers or one writer; a dead reader keeps no writer out |
//! | [`ShmSemaphore`], [`SemaphorePermit`] | limits how many threads use a resource; permits of dead processes come back |
//! | [`ShmChannel`], [`Sender`], [`Receiver`] | a bounded queue between processes, whose messages survive them |
//! | [`ShmPipe`], [`PipeReader`], [`PipeWriter`] | a pipe of bytes, with the traits of `std::io` |
//! | [`SendError`], [`TrySendError`], [`SendTimeoutError`], [`RecvError`], [`TryRecvError`], [`RecvTimeoutError`], [`ReceiverIter`], [`ReceiverTryIter`] | the errors and iterators of channels |
//! | [`ShmLifeline`], [`Lifelines`], [`LifelineGuard`], [`End`] | tells at once when a thread or process has ended or died |
//! | [`ShmBarrier`], [`BarrierMember`], [`BarrierError`] | lets processes wait for each other; a member that dies breaks the round |
//! | [`Published`] | the latest complete value, which any number of readers copy without a lock |
//! | [`ShmOnceLock`] | a value that is made once, by the first process that needs it |
//! | [`OrRecover`] | repairs poisoned data in one call, for every result of a lock |
//! | [`LockError`], [`Poisoned`], [`PoisonCause`] | the errors of locks, and recovery after owner death |
//! | [`Holder`], [`MAX_LOCKS_HELD`] | the thread that holds a lock; how many locks one thread may hold |
//! | [`Error`] | all other errors |
//! | [`ReadOnlySegment`], [`ReadOnly`], [`project!`] | reads a segment that is mapped for reading only |
//! | [`Snapshot`] | a private copy of a segment |
//! | [`TearFree`] | marks the types that can be copied without the lock |
//! | [`PthreadCondvar`] | a `pthread_cond_t` for C programs; it is not crash-safe |
//! | [`inspect`] | reads any segment without its type; the tool `shm-sync` (package `shm-sync-cli`) prints it |
//!
//! # Features
//!
//! | feature | by default | effect |
//! |---|---|---|
//! | `derive` | yes | [`#[derive(ShmSafe)]`][derive], for structs and enums of your own |
//! | `bytemuck` | no | [`Plain`], for types that are plain data by the traits of [bytemuck](https://docs.rs/bytemuck) |
//! | `serde` | no | `serde::Serialize` for the types that describe segments and locks: those of [`inspect`], [`Holder`], [`SystemVStatus`] and the types inside them. Also for [`ShmString`], [`ShmVec`] and [`ShmOption`] |
//!
//! The memory format does not depend on the features. Programs with different features
//! can share a segment.
//!
//! # Platform
//!
//! The crate runs on 64-bit Linux with glibc 2.30 or later or with musl 1.2, and uses
//! `/proc` and `/dev/shm`. It was run on Linux 5.10 and later, and on glibc 2.31 and
//! later. The README has the kernels, processors and C libraries.
//!
//! The mutexes of glibc and of musl have different words. So the programs of one C
//! library refuse the segments of the other: [`Error::LayoutMismatch`]. A static
//! program with musl can't share segments with the programs of a distribution with
//! glibc.
//!
//! The crash promises depend on two corrections of the kernel. Older kernels may have
//! them as well: the tests found neither fault on Debian's 5.10.223, 6.1 and 6.12.
//!
//! * "oom_kill.c: futex: delay the OOM reaper to allow time for proper futex cleanup"
//!   (Linux 5.18). Without it, the kernel may free the memory of a process that it
//!   kills for want of memory before it has released the locks. They stay held.
//! * "futex: Resend potentially swallowed owner death notification" (Linux 6.2).
//!   Without it, a waiter that is killed just after the kernel has woken it may swallow
//!   the wake-up. The next waiter then acquires the lock within 250 ms.
//!
//! Locks need the kernel's robust lists. Some emulators and sandboxes lack or refuse
//! `get_robust_list(2)` or `set_robust_list(2)` (qemu-user, some seccomp policies).
//! There, a process can open a segment for reading only. Creating, opening for writing
//! and locking return [`IdentityError::NoRobustLists`].
//!
//! Where the kernel has no `MADV_WIPEONFORK` (gVisor), each lock and unlock makes a
//! system call, which tells a forked child from its parent.
//!
//! # Forks
//!
//! Segments, locks and condition variables may be used on both sides of a `fork`. Do
//! not fork from a signal handler that may have interrupted a function of this crate.
//!
//! A process that was made by a bare `clone` system call has its parent's identity in
//! pthread. If it has memory of its own, its locks return [`IdentityError::RawClone`].
//!
#![cfg_attr(feature = "bytemuck", doc = "[`Plain`]: crate::Plain")]
#![cfg_attr(not(feature = "bytemuck"), doc = "[`Plain`]: #features")]
#![cfg_attr(feature = "derive", doc = "[derive]: derive@ShmSafe")]
#![cfg_attr(not(feature = "derive"), doc = "[derive]: #features")]

// The derive macro names this crate by its name, also inside this crate.
#[cfg(test)]
extern crate self as shm_sync;

// The floors, bottom up, are in docs/design.md. tests/architecture/ checks them.
mod collections;
#[cfg(test)]
mod documented;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod init;
pub mod inspect;
mod os;
mod printable;
mod read_only;
mod robust;
mod segment;
mod shm_safe;
mod sync;

pub use collections::{ShmOption, ShmString, ShmVec};
pub use error::{
    Abi, CapacityError, CorruptHeader, Error, FieldLayout, FieldMismatch, IdentityError,
    InvalidContents, Layout, LockError, LockResult, NameError, PoisonCause, Poisoned, Unsupported,
};
pub use init::place_at;
pub use read_only::ReadOnly;
pub use segment::{
    Address, Backing, CoreDump, IfAbandoned, Pages, ReadOnlySegment, Removal, Residency, Segment,
    SegmentOptions, Snapshot, SystemVStatus, ToAddress, unlink,
};
#[cfg(feature = "bytemuck")]
pub use shm_safe::Plain;
pub use shm_safe::{
    CachePadded, Fingerprint, SegmentContent, ShmSafe, TearFree, VariableLength, WithTail,
};
pub use sync::{
    BarrierError, BarrierMember, End, Holder, LifelineGuard, Lifelines, MAX_LOCKS_HELD, OrRecover,
    PipeReader, PipeWriter, PthreadCondvar, Published, Receiver, ReceiverIter, ReceiverTryIter,
    RecvError, RecvTimeoutError, SemaphorePermit, SendError, SendTimeoutError, Sender, ShmBarrier,
    ShmChannel, ShmCondvar, ShmEvent, ShmLifeline, ShmMutex, ShmMutexGuard, ShmOnceLock, ShmPipe,
    ShmRwLock, ShmRwLockReadGuard, ShmRwLockWriteGuard, ShmSemaphore, TryRecvError, TrySendError,
    WaitTimeoutLockResult, WaitTimeoutResult,
};

/// Derives the trait [`ShmSafe`](trait@ShmSafe), whose page has the rules, and
/// [`TearFree`] for the types that are.
///
/// ```
/// use shm_sync::{Segment, ShmMutex, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Job {
///     state: ShmMutex<State>,
///     attempts: u32,
/// }
///
/// #[derive(ShmSafe, Debug, PartialEq)]
/// #[repr(u8)]
/// enum State {
///     Waiting,
///     Done { result: i64 },
/// }
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let state = ShmMutex::new(State::Waiting);
/// let job = Segment::anonymous(Job { state, attempts: 3 })?;
/// *job.state.lock()? = State::Done { result: 42 };
/// assert_eq!(*job.state.lock()?, State::Done { result: 42 });
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "derive")]
pub use shm_sync_derive::ShmSafe;

/// Compiles and runs the example of the README as a test.
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../README.md")]
struct Readme;

// The guide and the cookbook, whose examples are tests. Of two definitions of a link,
// the first counts, so these lead to the pages of this documentation.
#[cfg(any(doc, all(doctest, feature = "derive")))]
#[doc = "[cookbook]: crate::guide::cookbook"]
#[doc = "[pool]: crate::guide::cookbook#a-pool-of-workers"]
#[doc = "[counter]: crate::guide::cookbook#a-counter"]
#[doc = "[queue]: crate::guide::cookbook#a-queue"]
#[doc = "[lifeline]: crate::guide::cookbook#the-death-of-another-process"]
#[doc = "[journal]: crate::guide::cookbook#a-journal-and-a-repair"]
#[doc = "[monitor]: crate::guide::cookbook#a-read-only-monitor"]
#[doc = "[files]: crate::guide::cookbook#a-file-that-persists"]
#[doc = "[containers]: crate::guide::cookbook#containers"]
#[doc = "[users]: crate::guide::cookbook#several-users"]
#[doc = "[daemons]: crate::guide::cookbook#daemons"]
#[doc = "[signals]: crate::guide::cookbook#signals-and-ctrl-c"]
#[doc = "[c]: crate::guide::cookbook#a-c-program"]
#[doc = "[readme]: https://docs.rs/crate/shm-sync/latest/source/README.md"]
#[doc = "[design]: https://docs.rs/crate/shm-sync/latest/source/docs/design.md"]
#[doc = "[failure-modes]: https://docs.rs/crate/shm-sync/latest/source/docs/results/failure-modes.md"]
#[doc = "[format]: https://docs.rs/crate/shm-sync/latest/source/docs/format.md"]
#[doc = ""]
#[doc = "How to use the crate: what there is, and the rules."]
#[doc = ""]
#[doc = include_str!("../docs/guide.md")]
pub mod guide {
    #[doc = "[guide]: crate::guide"]
    #[doc = "[recovery]: crate::guide#recovery"]
    #[doc = "[testing]: https://docs.rs/crate/shm-sync/latest/source/docs/testing.md"]
    #[doc = "[format]: https://docs.rs/crate/shm-sync/latest/source/docs/format.md"]
    #[doc = ""]
    #[doc = "Pieces to copy for common tasks."]
    #[doc = ""]
    #[doc = include_str!("../docs/cookbook.md")]
    pub mod cookbook {}
}

/// Items for the code of the derive macro. Other code must not use them.
#[doc(hidden)]
pub mod __private {
    pub use crate::shm_safe::{
        Description, FieldPath, Parts, SyncKind, SyncOps, TearFreeField, TypeOf, TypeProperties,
        Visitor, sum,
    };
}
