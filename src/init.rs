//! Placing: writing a value where it stays, and bringing its locks to life there.

use std::io;
use std::ptr::NonNull;

use crate::error::{Error, IdentityError};
use crate::os::private_owner;
use crate::robust;
use crate::shm_safe::{FieldPath, InitContext, ShmSafe, Visitor};

/// Writes `value` to shared memory that the caller mapped, and brings the
/// locks inside it to life.
///
/// For memory that another library mapped; [`Segment`](crate::Segment) does
/// this, and much more, for memory of its own. One process places; the others
/// cast their own mapping of the same bytes to `&T`, after checking somehow
/// that both mean the same `T`.
///
/// In private memory (not `MAP_SHARED`), a lock that is held while the process forks
/// stays held for ever in the child, which has a copy of it.
///
/// # Errors
///
/// [`Error::Unidentified`] if this process can't own locks, [`Error::Os`] if
/// pthread refuses to make one. Nothing is placed then, and `value` is gone.
///
/// # Safety
///
/// * `destination` is valid for reads and writes of `T` and aligned for `T`, and
///   nobody else uses those bytes while this call runs.
/// * The bytes stay a `T` and stay where they are in the memory object, and
///   this mapping of them stays for as long as any thread of this process uses
///   the value or holds one of its locks, a leaked guard included.
/// * `'a` does not outlive the mapping.
///
/// # Example
///
/// ```
/// use std::ptr::NonNull;
/// use shm_sync::{ShmMutex, place_at};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// // Any memory will do for one process.
/// let memory = Box::leak(Box::new(std::mem::MaybeUninit::<ShmMutex<u64>>::uninit()));
/// let memory = NonNull::from(memory).cast();
/// // SAFETY: the memory is valid, aligned and ours alone; it stays where it is
/// // and is never freed, so it outlives every lock and every borrow.
/// let counter: &ShmMutex<u64> = unsafe { place_at(memory, ShmMutex::new(0)) }?;
/// *counter.lock()? += 1;
/// # Ok(())
/// # }
/// ```
pub unsafe fn place_at<'a, T: ShmSafe>(destination: NonNull<T>, value: T) -> Result<&'a T, Error> {
    let placement = init_context()?;
    // SAFETY: the caller's first promise.
    unsafe { destination.write(value) };
    // SAFETY: the value was just written, and nobody else uses it yet; the
    // caller promises that it stays.
    unsafe {
        init_all(destination.cast(), placement, |report| {
            T::visit(&FieldPath::root(), report)
        })
    }?;
    // SAFETY: a valid T was written there; the caller vouches for 'a.
    Ok(unsafe { destination.as_ref() })
}

/// What sync objects placed by this process must know.
pub(crate) fn init_context() -> Result<InitContext, Error> {
    let pid_namespace = robust::pid_namespace()?;
    Ok(InitContext { pid_namespace })
}

/// As [`init_context`], for objects in private memory: a forked child makes its copies of
/// them anew.
pub(crate) fn private_init_context() -> Result<InitContext, Error> {
    robust::pid_namespace()?;
    let word = private_owner::word_of_this_process().map_err(IdentityError::NoForkDetection)?;
    Ok(InitContext {
        pid_namespace: word,
    })
}

/// Makes every sync object inert that `walk` reports: of a value that is zero
/// bytes.
///
/// # Safety
///
/// `walk` reports the sync objects of a value at `base`, whose bytes are zero,
/// and which nobody else uses.
pub(crate) unsafe fn init_all_zeroed(base: NonNull<u8>, walk: impl FnOnce(&mut Visitor<'_>)) {
    walk(&mut |at, object| {
        // SAFETY: `walk` reports offsets inside the value only.
        let address = unsafe { base.add(at.offset()) };
        // SAFETY: the caller's promise.
        unsafe { (object.init_zeroed)(address.as_ptr()) };
    });
}

/// Brings every sync object to life that `walk` reports.
///
/// # Safety
///
/// `walk` reports the sync objects of a value at `base`; as for [`place_at`],
/// with the value written already.
pub(crate) unsafe fn init_all(
    base: NonNull<u8>,
    placement: InitContext,
    walk: impl FnOnce(&mut Visitor<'_>),
) -> Result<(), Error> {
    let mut result = Ok(());
    walk(&mut |at, object| {
        if result.is_ok() {
            // SAFETY: `walk` reports offsets inside the value only.
            let address = unsafe { base.add(at.offset()) };
            // SAFETY: an inert object of this kind lies there; the caller
            // promises that nobody uses it yet and that it stays.
            result = unsafe { (object.init)(address.as_ptr(), placement) };
        }
    });
    result.map_err(pthread_init_error)
}

/// Brings every sync object back to life that `walk` reports, after its value
/// was used elsewhere.
///
/// # Safety
///
/// `walk` reports the sync objects of a value at `base`, which was placed, is
/// mapped and writable, and is used by nobody else while this call runs.
pub(crate) unsafe fn reinit_all(
    base: NonNull<u8>,
    placement: InitContext,
    walk: impl FnOnce(&mut Visitor<'_>),
) -> Result<(), Error> {
    let mut result = Ok(());
    walk(&mut |at, object| {
        if result.is_ok() {
            // SAFETY: `walk` reports offsets inside the value only.
            let address = unsafe { base.add(at.offset()) };
            // SAFETY: an object of this kind lies there; nobody uses it.
            result = unsafe { (object.reinit)(address.as_ptr(), placement) };
        }
    });
    result.map_err(pthread_init_error)
}

fn pthread_init_error(source: io::Error) -> Error {
    Error::Os {
        call: "pthread_mutex_init or pthread_cond_init",
        source,
    }
}

/// Whether a thread of this process holds a lock that `walk` reports: a leaked
/// guard. libc's list of held locks then runs through it, so it must stay
/// mapped.
///
/// # Safety
///
/// `walk` reports the sync objects of a placed value at `base`, mapped for the
/// whole call.
pub(crate) unsafe fn any_held(base: NonNull<u8>, walk: impl FnOnce(&mut Visitor<'_>)) -> bool {
    let mut held = false;
    walk(&mut |at, object| {
        // SAFETY: `walk` reports offsets inside the value only.
        let address = unsafe { base.add(at.offset()) };
        // SAFETY: a placed object of this kind lies there.
        held = held || unsafe { (object.is_held_by_this_process)(address.as_ptr()) };
    });
    held
}
