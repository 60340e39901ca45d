//! Initialises, reinitialises and inspects all sync objects of a value in its final
//! place.

use std::io;
use std::ptr::NonNull;

use crate::error::{Error, IdentityError};
use crate::os::private_owner;
use crate::robust;
use crate::shm_safe::{FieldPath, InitContext, ShmSafe, SyncOps, Visitor};

/// Writes `value` to shared memory that the caller mapped, and initialises the locks
/// inside it.
///
/// Use it for memory that another library mapped. For memory of its own,
/// [`Segment`](crate::Segment) does this and more. One process calls `place_at`. The
/// other processes cast their own mapping of the same bytes to `&T`, after a check that
/// both programs mean the same `T`.
///
/// In private memory (not `MAP_SHARED`), a forked child has a copy of each lock. A lock
/// that is held during the fork stays held in the child for ever.
///
/// # Errors
///
/// * [`Error::Unidentified`]: this process can't own locks.
/// * [`Error::Os`]: pthread fails to initialise a lock. Some locks at `destination` may
///   be initialised, others not.
///
/// `value` is lost after an error.
///
/// # Safety
///
/// * `destination` is valid for reads and writes of `T` and aligned for `T`, and no
///   other thread or process uses those bytes while this call runs.
/// * The bytes stay a `T` and stay where they are in the memory object, and this
///   mapping of them stays for as long as any thread of this process uses the value or
///   holds one of its locks, a leaked guard included.
/// * `'a` does not outlive the mapping.
///
/// # Example
///
/// ```
/// use std::ptr::NonNull;
/// use shm_sync::{ShmMutex, place_at};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// // One process can use any memory.
/// let memory = Box::leak(Box::new(std::mem::MaybeUninit::<ShmMutex<u64>>::uninit()));
/// let memory = NonNull::from(memory).cast();
/// // SAFETY: the memory is valid, aligned and used by no other thread. It stays where
/// // it is and is never freed, so it outlives every lock and every borrow.
/// let counter: &ShmMutex<u64> = unsafe { place_at(memory, ShmMutex::new(0)) }?;
/// *counter.lock()? += 1;
/// # Ok(())
/// # }
/// ```
pub unsafe fn place_at<'a, T: ShmSafe>(destination: NonNull<T>, value: T) -> Result<&'a T, Error> {
    let context = init_context()?;
    // SAFETY: valid for writes, aligned and unused by others: the first clause of this
    // function.
    unsafe { destination.write(value) };
    let walk = |visitor: &mut Visitor<'_>| T::visit(&FieldPath::root(), visitor);
    // SAFETY:
    // * `walk` visits the sync objects of the value that was just written, so the
    //   memory is mapped and writable.
    // * They are uninitialised, because a value that can be moved has no initialised
    //   sync object. No other thread or process uses them yet: the first clause of this
    //   function.
    // * They stay: the second clause.
    unsafe { init_all(destination.cast(), context, walk) }?;
    // SAFETY: a valid T was just written, and the mapping outlives 'a: the third
    // clause.
    Ok(unsafe { destination.as_ref() })
}

/// Returns the data for sync objects that this process initialises in shared memory.
pub(crate) fn init_context() -> Result<InitContext, Error> {
    let pid_namespace = robust::pid_namespace()?;
    Ok(InitContext { pid_namespace })
}

/// Returns the data for sync objects that this process initialises in private memory. A
/// forked child reinitialises its copies of them.
pub(crate) fn private_init_context() -> Result<InitContext, Error> {
    robust::pid_namespace()?;
    let word = private_owner::word_of_this_process().map_err(IdentityError::NoForkDetection)?;
    Ok(InitContext {
        pid_namespace: word,
    })
}

/// Makes every sync object that `walk` visits an uninitialised one.
///
/// # Safety
///
/// * `walk` visits the sync objects of a value at `base`, which is mapped and writable.
/// * The bytes of the value are zero.
/// * No other thread or process uses them while this call runs.
pub(crate) unsafe fn init_all_zeroed(base: NonNull<u8>, walk: impl FnOnce(&mut Visitor<'_>)) {
    let init_zeroed = |address: NonNull<u8>, ops: &SyncOps| {
        // SAFETY: zero bytes that are valid for an object of this kind, and that no
        // other thread or process uses: the clauses of this function.
        unsafe { (ops.init_zeroed)(address.as_ptr()) };
    };
    // SAFETY: `walk` visits the objects of the value at `base`, which is mapped: the
    // first clause.
    unsafe { for_each_object(base, walk, init_zeroed) };
}

/// Initialises every sync object that `walk` visits. After an error, some are
/// uninitialised.
///
/// # Safety
///
/// * `walk` visits the sync objects of a value at `base`, which is mapped and writable.
/// * The objects are uninitialised, and no other thread or process uses them while this
///   call runs.
/// * They stay where they are, and the mapping stays for as long as any thread of this
///   process uses the value or holds one of its locks.
pub(crate) unsafe fn init_all(
    base: NonNull<u8>,
    context: InitContext,
    walk: impl FnOnce(&mut Visitor<'_>),
) -> Result<(), Error> {
    let mut result = Ok(());
    let init = |address: NonNull<u8>, ops: &SyncOps| {
        if result.is_ok() {
            // SAFETY: an uninitialised object of this kind, which no other thread or
            // process uses and which stays: the clauses of this function.
            result = unsafe { (ops.init)(address.as_ptr(), context) };
        }
    };
    // SAFETY: `walk` visits the objects of the value at `base`, which is mapped: the
    // first clause.
    unsafe { for_each_object(base, walk, init) };
    result.map_err(pthread_init_error)
}

/// Reinitialises every sync object that `walk` visits, after the value was used
/// elsewhere. After an error, some are as they were.
///
/// # Safety
///
/// * `walk` visits the sync objects of a value at `base`, which is mapped and writable.
/// * No other thread or process uses them while this call runs.
/// * They stay where they are, and the mapping stays for as long as any thread of this
///   process uses the value or holds one of its locks.
pub(crate) unsafe fn reinit_all(
    base: NonNull<u8>,
    context: InitContext,
    walk: impl FnOnce(&mut Visitor<'_>),
) -> Result<(), Error> {
    let mut result = Ok(());
    let reinit = |address: NonNull<u8>, ops: &SyncOps| {
        if result.is_ok() {
            // SAFETY: a writable object of this kind, which no thread uses at this
            // place and which stays: the clauses of this function.
            result = unsafe { (ops.reinit)(address.as_ptr(), context) };
        }
    };
    // SAFETY: `walk` visits the objects of the value at `base`, which is mapped: the
    // first clause.
    unsafe { for_each_object(base, walk, reinit) };
    result.map_err(pthread_init_error)
}

/// Returns whether a thread of this process holds a lock that `walk` visits, as after a
/// leaked guard. The robust list of that thread contains the lock, so the memory must
/// stay mapped.
///
/// # Safety
///
/// * `walk` visits the sync objects of a value at `base`, which stays mapped during the
///   call.
/// * The objects are initialised.
pub(crate) unsafe fn any_held(base: NonNull<u8>, walk: impl FnOnce(&mut Visitor<'_>)) -> bool {
    let mut any = false;
    let check = |address: NonNull<u8>, ops: &SyncOps| {
        // SAFETY: a mapped, initialised object of this kind: the clauses of this
        // function.
        any = any || unsafe { (ops.is_held_by_this_process)(address.as_ptr()) };
    };
    // SAFETY: `walk` visits the objects of the value at `base`, which is mapped: the
    // first clause.
    unsafe { for_each_object(base, walk, check) };
    any
}

/// Calls `f` with the address and the operations of every sync object that `walk`
/// visits.
///
/// # Safety
///
/// * `walk` visits the sync objects of a value at `base`.
/// * The whole value is mapped.
unsafe fn for_each_object(
    base: NonNull<u8>,
    walk: impl FnOnce(&mut Visitor<'_>),
    mut f: impl FnMut(NonNull<u8>, &SyncOps),
) {
    walk(&mut |path, ops| {
        // SAFETY: the offset is inside the value (first clause), which is mapped
        // (second clause).
        let address = unsafe { base.add(path.offset()) };
        f(address, ops);
    });
}

fn pthread_init_error(source: io::Error) -> Error {
    Error::Os {
        address: None,
        call: "pthread_mutex_init or pthread_cond_init",
        source,
    }
}
