//! Opens a segment that holds a `T`.

use std::ptr::NonNull;

use crate::error::Error;
use crate::init;
use crate::os::mem::sysv_shm::Id;
use crate::os::mem::{Access, Mapping};
use crate::segment::address::Target;
use crate::segment::backing::mapped::Mapped;
use crate::segment::backing::sysv::attachment::{SysvAttachment, detach_reader, detach_unused};
use crate::segment::backing::sysv::query::{find, is_of_our_namespace};
use crate::segment::backing::sysv::ready::{
    Attempt, LockWait, Obstacle, Ready, attach_ready, seize,
};
use crate::segment::backing::sysv::state::{self, AttachBackoff, SysvState};
use crate::segment::format::epoch::Validity;
use crate::segment::format::header::Header;
use crate::segment::format::type_diff;
use crate::segment::format::writer;
use crate::segment::memory_policy::MemoryPolicy;
use crate::segment::permissions::Permissions;
use crate::shm_safe::{SegmentContent, Visitor};

/// Opens the segment that `target` leads to, after checking it.
pub(in crate::segment) fn open<T: SegmentContent + ?Sized>(
    permissions: &Permissions,
    memory: MemoryPolicy,
    target: &Target,
    access: Access,
) -> Result<Mapped<T, SysvAttachment>, Error> {
    let mut attempts = AttachBackoff::new();
    loop {
        let (id, ready) = attach(permissions, target, access, &mut attempts)?;
        match enter(memory, id, &ready, access) {
            Ok(Some(value)) => {
                let removal = ready.header.removal;
                let attachment = SysvAttachment::new(id, ready.mapping, removal, *permissions);
                // SAFETY:
                // * Initialised: the header says that the segment holds a complete `T`.
                // * It stays mapped: `attachment` owns the mapping of the value.
                return Ok(unsafe { Mapped::new(value, attachment) });
            }
            Ok(None) => {
                drop(ready);
                Obstacle::OtherNamespace.pause(&mut attempts)?;
            }
            Err(error) => {
                detach_unused(ready, permissions, id);
                return Err(error);
            }
        }
    }
}

/// Attaches to the complete segment that `target` leads to. Removes an unfinished
/// segment of a dead creator.
///
/// # Errors
///
/// [`Error::NotFound`] if there is no segment, or no longer.
pub(super) fn attach(
    permissions: &Permissions,
    target: &Target,
    access: Access,
    attempts: &mut AttachBackoff,
) -> Result<(Id, Ready), Error> {
    loop {
        let id = find(target)?;
        match attach_ready(permissions, id, access, LockWait::Bounded)? {
            Attempt::Ready(ready) => return Ok((id, *ready)),
            Attempt::Later(obstacle) => obstacle.pause(attempts)?,
            Attempt::NotForReaders(mapping) => {
                detach_reader(mapping, permissions, id);
                return Err(Error::NotFound { address: None });
            }
            // A key may lead to another segment by now. An id never does.
            Attempt::Gone if matches!(target, Target::SystemVId(_)) => {
                return Err(Error::NotFound { address: None });
            }
            Attempt::Gone => {}
        }
    }
}

/// Checks that a segment holds a `T`, and makes its locks valid for this process.
/// Returns `None` if they are not valid, and other processes are attached.
fn enter<T: SegmentContent + ?Sized>(
    memory: MemoryPolicy,
    id: Id,
    ready: &Ready,
    access: Access,
) -> Result<Option<NonNull<T>>, Error> {
    let (mapping, header) = (&ready.mapping, &ready.header);
    let len = header.check_layout::<T>().map_err(|error| {
        type_diff::explain(error, header, T::DESCRIPTION, &mut |buffer, offset| {
            let end = offset.checked_add(buffer.len() as u64);
            let is_inside = end.is_some_and(|end| end <= mapping.len() as u64);
            if is_inside {
                mapping.copy_to(buffer, offset as usize);
            }
            is_inside
        })
    })?;
    let is_valid =
        access == Access::ReadOnly || !ready.is_half_reinitialized && is_of_our_namespace(header)?;
    if !is_valid && !reinit::<T>(id, mapping, header, len, ready.is_half_reinitialized)? {
        return Ok(None);
    }
    memory.apply_system_v(mapping, id)?;
    // SAFETY: the header is of this object, and all of it is mapped.
    let base = unsafe { writer::value_in(mapping, header) };
    Ok(Some(T::at(base, len)))
}

/// Reinitialises the locks of a segment if this process is the only one attached: steps
/// 2 to 4 of [`state`]. Otherwise returns `false` and changes nothing.
fn reinit<T: SegmentContent + ?Sized>(
    id: Id,
    mapping: &Mapping,
    header: &Header,
    len: usize,
    is_half_reinitialized: bool,
) -> Result<bool, Error> {
    let context = init::init_context()?;
    let word = SysvState::of(mapping);
    if !is_half_reinitialized && !seize(word, id) {
        return Ok(false);
    }
    // SAFETY: the header is of this object, and all of it is mapped.
    let base = unsafe { writer::value_in(mapping, header) };
    let value: NonNull<T> = T::at(base, len);
    let locks = |visitor: &mut Visitor<'_>| T::for_each_sync_object(value, visitor);
    // SAFETY:
    // * `locks` visits the locks of the `T` at `base`, which the header describes. The
    //   mapping is writable, because a reader does not reinitialise.
    // * No other process uses them in the state `REINITIALIZING`.
    // * The mapping stays: `Segment` keeps it while a lock in the value is held.
    unsafe { init::reinit_all(base, context, locks) }?;
    // SAFETY:
    // * No other process uses the lock before the state changes: the state is
    //   `REINITIALIZING` by this process.
    // * The segment stays mapped while the lock is held: this function does not lock
    //   it, and a later `StateGuard` borrows the state from its mapping.
    unsafe { word.init_lock() }?;
    let here = Validity {
        epoch: header.epoch,
        pid_namespace: context.pid_namespace,
    };
    here.publish(mapping);
    word.set_state(state::READY);
    Ok(true)
}
