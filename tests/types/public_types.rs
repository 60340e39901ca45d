//! The guarantees of the public types: which of them may cross threads, their sizes,
//! how uninitialised locks behave, and their `Debug` output.

use std::cell::Cell;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};
use std::sync::MutexGuard as StdGuard;
use std::time::{Duration, Instant};

use shm_sync::{
    Abi, Address, Backing, BarrierError, BarrierMember, CachePadded, CapacityError, CoreDump,
    CorruptHeader, End, Error, Fingerprint, Holder, IdentityError, IfAbandoned, InvalidContents,
    Layout, LifelineGuard, Lifelines, LockError, LockResult, NameError, OrRecover, Pages,
    PipeReader, PipeWriter, PoisonCause, Poisoned, PthreadCondvar, Published, ReadOnly,
    ReadOnlySegment, Receiver, RecvError, RecvTimeoutError, Removal, Residency, Segment,
    SegmentOptions, SemaphorePermit, SendError, SendTimeoutError, Sender, ShmBarrier, ShmChannel,
    ShmCondvar, ShmEvent, ShmLifeline, ShmMutex, ShmMutexGuard, ShmOnceLock, ShmOption, ShmPipe,
    ShmRwLock, ShmRwLockReadGuard, ShmRwLockWriteGuard, ShmSafe, ShmSemaphore, ShmString, ShmVec,
    Snapshot, SystemVStatus, TearFree, ToAddress, TryRecvError, TrySendError, Unsupported,
    WaitTimeoutResult, WithTail, inspect,
};

/// Returns whether a type implements traits, as a constant. The constant exists also if
/// the type does not.
///
/// `Probe::<T>::ANSWER` is the inherent constant if the bounds hold, because inherent
/// items have priority. Otherwise it is the constant of `No`.
macro_rules! implements {
    ($type:ty: $($bounds:tt)+) => {{
        struct Probe<T: ?Sized>(PhantomData<T>);

        impl<T: ?Sized + $($bounds)+> Probe<T> {
            #[allow(dead_code, reason = "not for types that lack the trait")]
            const ANSWER: bool = true;
        }

        trait No {
            #[allow(dead_code, reason = "not for types that have the trait")]
            const ANSWER: bool = false;
        }

        impl<T: ?Sized> No for Probe<T> {}

        Probe::<$type>::ANSWER
    }};
}

type Guard<T> = ShmMutexGuard<'static, T>;

/// A type that is `Send` and not `Sync`.
type SendOnly = Cell<u8>;
/// A type that is `Sync` and not `Send`.
type SyncOnly = StdGuard<'static, u8>;
/// A type that is neither `Send` nor `Sync`.
type Neither = *const u8;

#[test]
fn smoke() {
    // The probe distinguishes these.
    const {
        assert!(implements!(u8: Send + Sync));
        assert!(implements!(SendOnly: Send) && !implements!(SendOnly: Sync));
        assert!(!implements!(SyncOnly: Send) && implements!(SyncOnly: Sync));
        assert!(!implements!(Neither: Send) && !implements!(Neither: Sync));
        assert!(!implements!(SendOnly: Send + Sync));
    }
}

// --- Threads ----------------------------------------------------------------

/// Threads that share a mutex send its data to each other and never share it.
const _: () = {
    assert!(implements!(ShmMutex<u8>: Send + Sync));
    assert!(implements!(ShmMutex<SendOnly>: Send + Sync));
    assert!(!implements!(ShmMutex<SyncOnly>: Send) && !implements!(ShmMutex<SyncOnly>: Sync));
    assert!(!implements!(ShmMutex<Neither>: Send) && !implements!(ShmMutex<Neither>: Sync));
};

/// A guard stays with the thread that locked. Threads that share the guard share the
/// data.
const _: () = {
    assert!(!implements!(Guard<u8>: Send) && implements!(Guard<u8>: Sync));
    assert!(!implements!(Guard<SendOnly>: Send) && !implements!(Guard<SendOnly>: Sync));
    assert!(!implements!(Guard<SyncOnly>: Send) && implements!(Guard<SyncOnly>: Sync));
    assert!(!implements!(Guard<Neither>: Send) && !implements!(Guard<Neither>: Sync));
    assert!(!implements!(Poisoned<Guard<u8>>: Send) && implements!(Poisoned<Guard<u8>>: Sync));
    assert!(!implements!(LockError<Guard<u8>>: Send));
};

/// Types that threads share.
const _: () = {
    assert!(implements!(ShmCondvar: Send + Sync));
    assert!(implements!(PthreadCondvar: Send + Sync));
    assert!(implements!(Segment<u8>: Send + Sync));
    assert!(implements!(Segment<ShmMutex<u8>>: Send + Sync));
    assert!(implements!(ReadOnlySegment<ShmMutex<u8>>: Send + Sync));
    assert!(implements!(Snapshot<ShmMutex<u8>>: Send + Sync));
    assert!(implements!(ReadOnly<'static, ShmMutex<u8>>: Send + Sync));
    assert!(!implements!(ReadOnly<'static, SendOnly>: Send));
    // Options name a type and contain none of its values.
    assert!(implements!(SegmentOptions<Neither>: Send + Sync));
    assert!(implements!(inspect::Object: Send + Sync));
    assert!(implements!(inspect::Details: Send + Sync));
    assert!(implements!(inspect::Attachment: Send + Sync));
};

/// The members of the family. A permit and a lifeline's guard stay with their thread.
const _: () = {
    assert!(implements!(ShmEvent: ShmSafe + TearFree + Send + Sync + UnwindSafe + RefUnwindSafe));
    assert!(implements!(ShmSemaphore<3>: ShmSafe + TearFree + Send + Sync));
    assert!(implements!(ShmSemaphore<3>: UnwindSafe + RefUnwindSafe));
    assert!(implements!(ShmRwLock<u8>: ShmSafe + TearFree + Send + Sync));
    assert!(implements!(ShmRwLock<u8>: UnwindSafe + RefUnwindSafe));
    assert!(implements!(ShmRwLock<SendOnly>: Send));
    assert!(!implements!(ShmRwLock<SendOnly>: Sync));
    assert!(!implements!(ShmRwLock<SyncOnly>: Sync) && !implements!(ShmRwLock<SyncOnly>: Send));
    assert!(implements!(ShmRwLockReadGuard<'static, u8>: Sync));
    assert!(!implements!(ShmRwLockReadGuard<'static, u8>: Send));
    assert!(!implements!(ShmRwLockReadGuard<'static, SendOnly>: Sync));
    assert!(implements!(ShmRwLockWriteGuard<'static, u8>: Sync));
    assert!(!implements!(ShmRwLockWriteGuard<'static, u8>: Send));
    assert!(!implements!(ShmRwLockWriteGuard<'static, SendOnly>: Sync));
    assert!(implements!(ShmBarrier<3>: ShmSafe + TearFree + Send + Sync));
    assert!(implements!(ShmBarrier<3>: UnwindSafe + RefUnwindSafe));
    type Member = BarrierMember<'static, 3>;
    assert!(!implements!(Member: Send) && !implements!(Member: Clone));
    assert!(implements!(BarrierError: std::error::Error + Send + Sync));
    assert!(implements!(ShmLifeline: ShmSafe + TearFree + Send + Sync));
    assert!(implements!(ShmLifeline: UnwindSafe + RefUnwindSafe));
    assert!(implements!(Lifelines<3>: ShmSafe + TearFree + Send + Sync));
    assert!(implements!(Lifelines<3>: UnwindSafe + RefUnwindSafe));
    type Permit = SemaphorePermit<'static, 3>;
    assert!(!implements!(Permit: Send) && implements!(Permit: Sync));
    assert!(!implements!(LifelineGuard<'static>: Send));
    assert!(implements!(LifelineGuard<'static>: Sync));
    assert!(!implements!(ShmSemaphore<3>: Clone) && !implements!(ShmEvent: Clone));
    assert!(!implements!(ShmLifeline: Clone) && !implements!(Permit: Clone));
    assert!(implements!(Published<u64>: ShmSafe + TearFree + Send + Sync));
    assert!(implements!(Published<u64>: UnwindSafe + RefUnwindSafe));
    assert!(implements!(ShmOnceLock<u64>: ShmSafe + Send + Sync + UnwindSafe + RefUnwindSafe));
    assert!(!implements!(ShmOnceLock<u64>: TearFree) && !implements!(ShmOnceLock<u64>: Clone));
    assert!(implements!(End: Copy + Eq + Debug + Send + Sync));
};

/// Channels and pipes. Their endpoints stay with their thread. Their errors may be sent
/// if the message may.
const _: () = {
    type Channel = ShmChannel<u8, 3>;
    assert!(implements!(Channel: ShmSafe + Send + Sync + UnwindSafe + RefUnwindSafe + Default));
    // A mixture may have other messages than its indices say.
    assert!(!implements!(Channel: TearFree) && !implements!(Channel: Clone));
    assert!(implements!(ShmPipe<3>: ShmSafe + Send + Sync + UnwindSafe + RefUnwindSafe));
    assert!(!implements!(Sender<'static, u8, 3>: Send));
    assert!(!implements!(Sender<'static, u8, 3>: Sync));
    assert!(!implements!(Receiver<'static, u8, 3>: Send));
    assert!(!implements!(Receiver<'static, u8, 3>: Sync));
    assert!(!implements!(PipeReader<'static, 3>: Send));
    assert!(!implements!(PipeWriter<'static, 3>: Send));
    assert!(implements!(SendError<Neither>: std::error::Error + Debug + Display));
    assert!(implements!(SendError<u8>: std::error::Error + Send + Sync + 'static));
    assert!(implements!(TrySendError<u8>: std::error::Error + Send + Sync + 'static));
    assert!(implements!(SendTimeoutError<u8>: std::error::Error + Send + Sync + 'static));
    assert!(implements!(RecvError: std::error::Error + Send + Sync + 'static));
    assert!(implements!(TryRecvError: std::error::Error + Send + Sync + 'static));
    assert!(implements!(RecvTimeoutError: std::error::Error + Send + Sync + 'static));
    assert!(!implements!(SendError<Neither>: Send));
};

/// A panic poisons the mutex, as with std's mutex. So a mutex may be used after a
/// panic, whatever data it guards.
const _: () = {
    assert!(implements!(ShmMutex<SendOnly>: UnwindSafe + RefUnwindSafe));
    assert!(implements!(ShmCondvar: UnwindSafe + RefUnwindSafe));
    assert!(implements!(PthreadCondvar: UnwindSafe + RefUnwindSafe));
    assert!(implements!(Segment<ShmMutex<u8>>: UnwindSafe + RefUnwindSafe));
};

/// `ShmSafe` data is `Send` and `Sync`. So the other cases above are only for mutexes
/// that cannot be placed.
const _: () = {
    assert!(implements!(ShmMutex<u8>: ShmSafe));
    assert!(!implements!(SendOnly: ShmSafe) && !implements!(ShmMutex<SendOnly>: ShmSafe));
    assert!(!implements!(Neither: ShmSafe) && !implements!(ShmMutex<Neither>: ShmSafe));
};

/// Types that cannot be copied: a copy would be a second lock, or a second unlock.
const _: () = {
    assert!(!implements!(ShmMutex<u8>: Clone) && !implements!(Guard<u8>: Clone));
    assert!(!implements!(ShmCondvar: Clone) && !implements!(PthreadCondvar: Clone));
    assert!(!implements!(Segment<u8>: Clone));
};

// --- Common traits ----------------------------------------------------------

/// Checks that each type is plain data: it can be compared, hashed, copied and printed.
macro_rules! are_plain_data {
    ($($type:ty),+ $(,)?) => {
        $(assert!(
            implements!($type: Clone + Eq + Hash + Debug + Send + Sync + Unpin + 'static),
            stringify!($type)
        );)+
    };
}

const _: () = {
    are_plain_data!(
        Address,
        Backing,
        Fingerprint,
        Layout,
        Abi,
        Holder,
        PoisonCause
    );
    are_plain_data!(CoreDump, IfAbandoned, Pages, Removal, Residency);
    are_plain_data!(NameError, Unsupported, CorruptHeader, CapacityError);
    are_plain_data!(ShmString<8>, ShmVec<u8, 8>, ShmOption<u8>);
    are_plain_data!(SystemVStatus, WaitTimeoutResult, CachePadded<u8>);
    are_plain_data!(
        inspect::Access,
        inspect::CondvarState,
        inspect::Epoch,
        inspect::FileKind,
        inspect::Holder,
        inspect::HolderState,
        inspect::Link,
        inspect::Locks,
        inspect::LockState,
        inspect::MutexState,
        inspect::Scope,
        inspect::Segment,
        inspect::State,
        inspect::SyncObject,
        inspect::SyncState,
        inspect::Users,
        inspect::Waiters,
    );
    assert!(implements!(CachePadded<u8>: Copy + Default + Ord + Display));
    assert!(implements!(WithTail<u8, [u8; 2]>: Copy + Default));
    assert!(implements!(WithTail<u8, [u8]>: Ord + Hash + Debug));
    // A lock inside is neither copied nor compared.
    assert!(!implements!(WithTail<ShmMutex<u8>, [u8; 2]>: Clone));
    assert!(!implements!(WithTail<u8, [ShmMutex<u8>]>: PartialEq));
    // Functions can take the address as a trait object.
    assert!(implements!(dyn ToAddress: ToAddress));
};

#[test]
fn with_tail_compares_head_first() {
    let small: &WithTail<u8, [u8]> = &WithTail {
        head: 1,
        tail: [9, 9],
    };
    let large: &WithTail<u8, [u8]> = &WithTail {
        head: 2,
        tail: [0, 0],
    };
    let longer: &WithTail<u8, [u8]> = &WithTail {
        head: 1,
        tail: [9, 9, 0],
    };
    assert!(small < large, "the heads decide");
    assert!(small < longer, "equal heads leave it to the tails");
}

// --- Errors -----------------------------------------------------------------

/// An error that can cross threads, and that a `Box<dyn Error>` can contain.
const _: () = {
    assert!(implements!(IdentityError: std::error::Error + Send + Sync + 'static));
    assert!(implements!(NameError: std::error::Error + Send + Sync + 'static));
    assert!(implements!(Unsupported: std::error::Error + Send + Sync + 'static));
    assert!(implements!(CorruptHeader: std::error::Error + Send + Sync + 'static));
    assert!(implements!(CapacityError: std::error::Error + Send + Sync + 'static));
    assert!(implements!(InvalidContents: std::error::Error + Send + Sync + 'static));
    assert!(implements!(
        inspect::ClearPoisonError: std::error::Error + Send + Sync + 'static
    ));
};

const _: () = {
    assert!(implements!(Error: std::error::Error + Send + Sync + 'static));
    assert!(implements!(LockError<Guard<u8>>: std::error::Error + Into<Error>));
    assert!(implements!(Poisoned<Guard<u8>>: std::error::Error));
    // The error can be shown for guards of any type.
    assert!(implements!(LockError<Guard<Neither>>: Debug + Display));
    assert!(implements!(PoisonCause: Copy + Eq + Debug + Display + Send + Sync));
    assert!(implements!(Holder: Copy + Eq + Debug + Display + Send + Sync));
};

/// An error type that holds any error.
type AnyError = Box<dyn std::error::Error + Send + Sync>;
/// An error type that holds any error of this thread.
type LocalError = Box<dyn std::error::Error>;

/// An error type that accepts the same errors as `anyhow::Error`.
#[derive(Debug)]
struct ForeignError(AnyError);

impl<E: std::error::Error + Send + Sync + 'static> From<E> for ForeignError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// A user's function.
fn add_one(counter: &ShmMutex<u32>) -> Result<u32, Error> {
    let mut count = counter.lock()?;
    *count += 1;
    Ok(*count)
}

/// A box can't contain the guard, which borrows the mutex.
fn add_one_boxed(counter: &ShmMutex<u32>) -> Result<u32, AnyError> {
    let mut count = counter.lock().map_err(Error::from)?;
    *count += 1;
    Ok(*count)
}

fn add_one_boxed_locally(counter: &ShmMutex<u32>) -> Result<u32, LocalError> {
    let mut count = counter.lock().map_err(Error::from)?;
    *count += 1;
    Ok(*count)
}

fn add_one_with_foreign_error(counter: &ShmMutex<u32>) -> Result<u32, ForeignError> {
    let mut count = counter.lock_or_recover(|count, _| *count = 0)?;
    *count += 1;
    drop(count);
    let count = counter.try_lock().or_recover(|count, _| *count = 0)?;
    Ok(*count)
}

#[test]
fn lock_error_converts_with_question_mark() -> Result<(), AnyError> {
    let unplaced = ShmMutex::new(1);
    assert!(matches!(
        add_one(&unplaced),
        Err(Error::Lock(LockError::NotPlaced))
    ));
    let error = add_one_boxed(&unplaced).expect_err("the mutex is not placed");
    let local = add_one_boxed_locally(&unplaced).expect_err("the mutex is not placed");
    let ForeignError(foreign) =
        add_one_with_foreign_error(&unplaced).expect_err("the mutex is not placed");
    for error in [
        error.downcast_ref::<Error>(),
        local.downcast_ref::<Error>(),
        foreign.downcast_ref::<Error>(),
    ] {
        assert!(
            matches!(error, Some(Error::Lock(LockError::NotPlaced))),
            "{error:?}"
        );
    }

    let placed = Segment::anonymous(unplaced)?;
    assert_eq!(add_one(&placed)?, 2);
    assert_eq!(add_one_boxed(&placed)?, 3);
    assert_eq!(add_one_boxed_locally(&placed).expect("it is placed"), 4);
    let count = add_one_with_foreign_error(&placed).expect("it is placed");
    assert_eq!(count, 5);
    Ok(())
}

/// Poisons the mutex, and returns the boxed error of the next locker.
fn boxed_poison(counter: &ShmMutex<u32>) -> LocalError {
    let panicked = catch_unwind(|| {
        let _guard = counter.lock();
        resume_unwind(Box::new("without a message on the screen"));
    });
    assert!(panicked.is_err());
    add_one_boxed_locally(counter).expect_err("the last holder panicked")
}

#[test]
fn boxed_poison_has_released_the_lock() -> Result<(), Error> {
    let counter = Segment::anonymous(ShmMutex::new(1))?;
    let error = boxed_poison(&counter);
    assert_eq!(counter.holder(), None, "the box does not contain the guard");
    assert!(counter.is_poisoned());
    assert!(matches!(
        error.downcast_ref::<Error>(),
        Some(Error::Poisoned(PoisonCause::Panicked { .. }))
    ));
    Ok(())
}

/// Each of these texts is one of the crate's errors, whatever type contains it.
#[test]
fn lock_error_text_is_that_of_the_error() {
    type NoGuard = LockError<std::convert::Infallible>;
    let errors: [fn() -> NoGuard; 8] = [
        || LockError::WouldBlock,
        || LockError::TimedOut,
        || LockError::Deadlock,
        || LockError::NotPlaced,
        || LockError::TooManyLocks,
        || LockError::NotRecoverable,
        || LockError::PriorityInheritance,
        || LockError::NotOwner,
    ];
    let mut texts = Vec::new();
    for error in errors {
        let text = error().to_string();
        assert_eq!(Error::from(error()).to_string(), text);
        assert!(!text.is_empty() && !texts.contains(&text), "{text}");
        texts.push(text);
    }
}

// --- Guards -----------------------------------------------------------------

#[test]
fn guard_names_its_mutex() -> Result<(), Error> {
    let mutexes = Segment::anonymous([const { ShmMutex::new(7_u32) }; 2])?;
    for mutex in &*mutexes {
        let guard = mutex.lock()?;
        let of_guard = ShmMutexGuard::mutex(&guard);
        assert!(std::ptr::eq(of_guard, mutex));
        assert!(matches!(of_guard.try_lock(), Err(LockError::WouldBlock)));
        drop(guard);
        // The reference lives as long as the mutex, not as long as the guard.
        assert_eq!(*of_guard.lock()?, 7);
    }
    Ok(())
}

#[test]
fn data_ptr_is_where_the_guard_reads() -> Result<(), Error> {
    let mutex = Segment::anonymous(ShmMutex::new(7_u32))?;
    let mut guard = mutex.lock()?;
    assert!(std::ptr::eq(mutex.data_ptr(), &raw mut *guard));
    // SAFETY: this thread holds the lock, and no reference to the data is in use.
    unsafe { mutex.data_ptr().write(8) };
    assert_eq!(*guard, 8);
    Ok(())
}

#[test]
fn holder_display_names_process_and_thread() -> Result<(), Error> {
    let mutex = Segment::anonymous(ShmMutex::new(7_u32))?;
    let _guard = mutex.lock()?;
    let holder = mutex.holder().expect("this thread holds the mutex");
    let expected = format!("process {}, thread {}", std::process::id(), holder.tid);
    assert_eq!(holder.to_string(), expected);
    Ok(())
}

// --- Layout -----------------------------------------------------------------

const _: () = {
    assert!(size_of::<ShmMutex<u64>>() <= 128);
    assert!(size_of::<ShmCondvar>() <= 64);
    // The lock has one size whatever data it guards, and the data follows it.
    assert!(size_of::<ShmMutex<[u64; 9]>>() == size_of::<ShmMutex<()>>() + 72);
    assert!(align_of::<ShmMutex<u8>>() == align_of::<ShmMutex<u64>>());
};

// --- Not placed -------------------------------------------------------------

static IN_A_STATIC: ShmMutex<u32> = ShmMutex::new(1);
static WITH_PI: ShmMutex<u32> = ShmMutex::with_priority_inheritance(1);
static CONDVAR: ShmCondvar = ShmCondvar::new();
static PTHREAD_CONDVAR: PthreadCondvar = PthreadCondvar::new();

/// Creates an array from a constant.
fn many() -> [ShmMutex<u8>; 3] {
    #[allow(
        clippy::declare_interior_mutable_const,
        reason = "each use creates another mutex"
    )]
    const ONE: ShmMutex<u8> = ShmMutex::new(7);
    [ONE; 3]
}

#[test]
fn mutex_not_placed_fails() {
    fn is_not_placed<G>(result: LockResult<G>) -> bool {
        matches!(result, Err(LockError::NotPlaced))
    }

    for mutex in [&IN_A_STATIC, &WITH_PI] {
        assert!(is_not_placed(mutex.lock()));
        assert!(is_not_placed(mutex.try_lock()));
        assert!(is_not_placed(mutex.try_lock_for(Duration::MAX)));
        assert!(is_not_placed(mutex.try_lock_until(Instant::now())));
        assert!(!mutex.is_poisoned());
        assert_eq!(mutex.holder(), None);
        // SAFETY: no other thread uses the mutex.
        let reset = unsafe { mutex.reset() };
        assert!(matches!(reset, Err(Error::Lock(LockError::NotPlaced))));
    }
    assert!(many().iter().all(|mutex| is_not_placed(mutex.lock())));
    // No thread can wait without a guard, so there is no waiter to wake.
    CONDVAR.notify_all();
    PTHREAD_CONDVAR.notify_all();
}

#[test]
fn mutex_not_placed_still_owns_its_value() {
    let [mut first, second, _] = many();
    *first.get_mut() += 1;
    assert_eq!((first.into_inner(), second.into_inner()), (8, 7));
    assert_eq!(ShmMutex::<u16>::default().into_inner(), 0);
    assert_eq!(ShmMutex::from('a').into_inner(), 'a');
}

// --- Debug ------------------------------------------------------------------

#[test]
fn mutex_debug_shows_state_without_data() -> Result<(), Error> {
    let unplaced = ShmMutex::new(271_828_u32);
    assert_eq!(
        format!("{unplaced:?}"),
        "ShmMutex { placed: false, holder: None, poison: None, .. }"
    );
    let mutex = Segment::anonymous(unplaced)?;
    let free = "ShmMutex { placed: true, holder: None, poison: None, .. }";
    assert_eq!(format!("{:?}", *mutex), free);

    let guard = mutex.lock()?;
    // If `Debug` locked, it would get `Deadlock` here.
    let holder = mutex.holder().expect("this thread holds the mutex");
    assert_eq!(holder.pid, std::process::id());
    let held = format!("{:?}", *mutex);
    assert_eq!(
        held,
        format!(
            "ShmMutex {{ placed: true, holder: Some(Holder {{ pid: {}, tid: {} }}), poison: None, .. }}",
            holder.pid, holder.tid
        )
    );
    // If `Debug` had unlocked, another thread could lock now.
    let others = std::thread::scope(|s| {
        s.spawn(|| matches!(mutex.try_lock(), Err(LockError::WouldBlock)))
            .join()
    });
    assert!(others.expect("the thread does not panic"));
    drop(guard);
    assert_eq!(format!("{:?}", *mutex), free);
    Ok(())
}

#[test]
fn guard_debug_shows_data() -> Result<(), Error> {
    let mutex = Segment::anonymous(ShmMutex::new(271_828_u32))?;
    let guard = mutex.lock()?;
    assert_eq!(format!("{guard:?}"), "271828");
    assert_eq!(format!("{guard:#x?} {guard}"), "0x425d4 271828");
    Ok(())
}

#[test]
fn error_debug_shows_cause_without_data() -> Result<(), Error> {
    let mutex = Segment::anonymous(ShmMutex::new(271_828_u32))?;
    let panicked = catch_unwind(|| {
        let _guard = mutex.lock();
        resume_unwind(Box::new("without a message on the screen"));
    });
    assert!(panicked.is_err());
    assert!(mutex.is_poisoned());

    let pid = std::process::id();
    let error = mutex.lock().expect_err("the last holder panicked");
    let LockError::Poisoned(poisoned) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(
        **poisoned.get_ref(),
        271_828,
        "the error gives access to the data"
    );
    let cause = poisoned.cause();
    let PoisonCause::Panicked { tid, .. } = cause else {
        panic!("{cause:?}");
    };
    let shown_cause = format!("Panicked {{ pid: {pid}, tid: {tid} }}");
    assert_eq!(format!("{cause:?}"), shown_cause);
    assert_eq!(format!("{error:?}"), format!("Poisoned({shown_cause})"));
    assert_eq!(
        format!("{poisoned:?}"),
        format!("Poisoned {{ cause: {shown_cause}, .. }}")
    );
    let message = format!("its last holder panicked (process {pid}, thread {tid})");
    assert_eq!(cause.to_string(), message);
    assert!(error.to_string().ends_with(&message), "{error}");
    let as_error: &dyn std::error::Error = poisoned;
    assert!(as_error.to_string().ends_with(&message), "{as_error}");

    let error = Error::from(error);
    assert_eq!(format!("{error:?}"), format!("Poisoned: {error}"));
    assert!(error.to_string().ends_with(&message), "{error}");
    let state = format!("{:?}", *mutex);
    assert!(
        state.contains("holder: None") && state.contains(&shown_cause),
        "{state}"
    );

    let unplaced = ShmMutex::new(271_828_u32);
    let error = unplaced.lock().expect_err("the mutex is not placed");
    assert_eq!(format!("{error:?}"), "NotPlaced");
    assert!(error.to_string().contains("Segment"), "{error}");
    Ok(())
}

#[test]
fn handles_debug_shows_name_and_type() -> Result<(), Error> {
    let name = format!("/shm-sync-test-debug-{}", std::process::id());
    let segment = Segment::create(&name, ShmMutex::new(271_828_u32))?;
    let reader = Segment::<ShmMutex<u32>>::open_read_only(&name)?;
    let copy = Segment::<ShmMutex<u32>>::options().open_snapshot(&name)?;
    shm_sync::unlink(&name)?;
    for shown in [format!("{segment:?}"), format!("{reader:?}")] {
        assert!(
            shown.contains(&name) && shown.contains("ShmMutex<u32>"),
            "{shown}"
        );
    }
    let options = SegmentOptions::<ShmMutex<u32>>::new();
    let view = reader.view();
    for shown in [
        format!("{copy:?}"),
        format!("{view:?}"),
        format!("{options:?}"),
    ] {
        assert!(shown.contains("ShmMutex<u32>"), "{shown}");
    }
    Ok(())
}

#[test]
fn condvar_debug_shows_state() -> Result<(), Error> {
    assert_eq!(format!("{CONDVAR:?}"), "ShmCondvar { .. }");
    assert_eq!(
        format!("{PTHREAD_CONDVAR:?}"),
        "PthreadCondvar { placed: false, .. }"
    );
    let placed = Segment::anonymous(PthreadCondvar::new())?;
    assert_eq!(
        format!("{:?}", *placed),
        "PthreadCondvar { placed: true, .. }"
    );
    Ok(())
}
