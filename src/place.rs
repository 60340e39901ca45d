//! Placing: writing a value where it stays, and bringing its locks to life there.

use std::io;
use std::ptr::NonNull;

use crate::error::Error;
use crate::os::process;
use crate::shm_safe::{Place, Placement, ShmSafe};

/// Writes `value` to shared memory that the caller mapped, and brings the
/// locks inside it to life.
///
/// For memory that another library mapped; [`Segment`](crate::Segment) does
/// this, and much more, for memory of its own. One process places; the others
/// cast their own mapping of the same bytes to `&T`, after checking somehow
/// that both mean the same `T`.
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
    let pid_namespace = process::pid_namespace()?;
    // SAFETY: the caller's first promise.
    unsafe { destination.write(value) };
    // SAFETY: the value was just written, and nobody else uses it yet; the
    // caller promises that it stays.
    unsafe { enliven(destination, Placement { pid_namespace }) }.map_err(|source| Error::Os {
        call: "pthread_mutex_init or pthread_cond_init",
        source,
    })?;
    // SAFETY: a valid T was written there; the caller vouches for 'a.
    Ok(unsafe { destination.as_ref() })
}

/// Brings every sync object inside `value` to life.
///
/// # Safety
///
/// As for [`place_at`], with the value written already.
unsafe fn enliven<T: ShmSafe>(value: NonNull<T>, placement: Placement) -> io::Result<()> {
    let base = value.as_ptr().cast::<u8>();
    let mut result = Ok(());
    T::visit(&Place::root(), &mut |at, object| {
        if result.is_ok() {
            // SAFETY: `ShmSafe::visit` reports offsets inside T only.
            let address = unsafe { base.add(at.offset()) };
            // SAFETY: an inert object of this kind lies there, by the contract
            // of `visit`; the caller promises that nobody uses it yet and that
            // it stays.
            result = unsafe { (object.place)(address, placement) };
        }
    });
    result
}

/// Whether a thread of this process holds a lock inside `value`: a leaked
/// guard. libc's list of held locks then runs through it, so it must stay
/// mapped.
///
/// # Safety
///
/// `value` points at a placed `T`, mapped for the whole call.
pub(crate) unsafe fn is_held_here<T: ShmSafe>(value: NonNull<T>) -> bool {
    let base = value.as_ptr().cast::<u8>().cast_const();
    let mut held = false;
    T::visit(&Place::root(), &mut |at, object| {
        // SAFETY: `ShmSafe::visit` reports offsets inside T only.
        let address = unsafe { base.add(at.offset()) };
        // SAFETY: a placed object of this kind lies there.
        held = held || unsafe { (object.is_held_here)(address) };
    });
    held
}
