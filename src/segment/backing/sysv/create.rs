//! Creates a segment that holds a `T`.

use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use crate::error::{Error, LockError};
use crate::os::fork::ForkMarker;
use crate::os::mem::sysv_shm::{self, Id};
use crate::os::mem::{Access, Mapping, Pages};
use crate::os::regular_file::{effective_group, effective_user};
use crate::robust;
use crate::segment::address::Target;
use crate::segment::backing::mapped::Mapped;
use crate::segment::backing::sysv::attachment::{SysvAttachment, detach_unused};
use crate::segment::backing::sysv::open::attach;
use crate::segment::backing::sysv::probe::Probe;
use crate::segment::backing::sysv::query::UNFINISHED;
use crate::segment::backing::sysv::state::{self, AttachBackoff, SysvState};
use crate::segment::backing::sysv::view::Lifecycle;
use crate::segment::failure;
use crate::segment::format::writer::SegmentLayout;
use crate::segment::permissions::Permissions;
use crate::segment::settings::Settings;
use crate::shm_safe::SegmentContent;

/// The mode bits that let the owner read and write.
const OWNER: u32 = 0o600;

/// Creates the segment of a key, or a segment without a key. Returns `None` if the key
/// has a segment already: a complete one, one to which an untrusted user may write, or
/// one of another program.
///
/// Takes `write` out of the option when the segment is about to be filled.
pub(in crate::segment) fn create<T, W>(
    settings: &Settings,
    key: Option<i32>,
    len: usize,
    write: &mut Option<W>,
) -> Result<Option<Mapped<T, SysvAttachment>>, Error>
where
    T: SegmentContent + ?Sized,
    W: FnOnce(NonNull<T>, usize),
{
    let permissions = &settings.permissions;
    // A segment that these options could not open is not created.
    permissions.check_creator(effective_user(), effective_group())?;
    let layout = SegmentLayout::of::<T>(len, NonZeroUsize::MIN, settings.removal)?;
    let total = layout.total_len();
    let memory_error = |call| {
        move |source| match settings.pages {
            Pages::Normal => failure::memory_error(total.get(), call)(source),
            Pages::Huge => failure::huge_page_error(total.get(), call)(source),
        }
    };
    loop {
        // The creator must be able to attach, also if the final mode would forbid it.
        let mode = permissions.mode | OWNER | UNFINISHED;
        let created = match key {
            Some(key) => sysv_shm::create(key, total, mode, settings.pages),
            None => sysv_shm::create_private(total, mode, settings.pages),
        };
        let id = match (created, key) {
            (Err(error), Some(key)) if error.kind() == ErrorKind::AlreadyExists => {
                if is_untrusted_or_complete(permissions, key) {
                    return Ok(None);
                }
                // A dead creator may have left the segment unfinished.
                let target = Target::SystemVKey(key);
                let mut attempts = AttachBackoff::new();
                match attach(permissions, &target, Access::ReadWrite, &mut attempts) {
                    Err(Error::NotFound { .. }) => continue,
                    Err(
                        error @ (Error::Unidentified(_)
                        | Error::HeaderLock {
                            source: LockError::TooManyLocks,
                            ..
                        }
                        | Error::Unfinished { .. }),
                    ) => return Err(error),
                    // Another process has completed it meanwhile.
                    Ok((id, ready)) => detach_unused(ready, permissions, id),
                    Err(_) => {}
                }
                return Ok(None);
            }
            // Key and length are not zero, so the length exceeds `SHMMAX`, or a sandbox
            // refuses the call.
            (Err(error), _)
                if error.kind() == ErrorKind::InvalidInput
                    && sysv_shm::max_len().is_none_or(|max| total.get() as u64 > max) =>
            {
                return Err(memory_error("shmget")(ErrorKind::StorageFull.into()));
            }
            (Err(error), _) => return Err(memory_error("shmget")(error)),
            (Ok(id), _) => id,
        };
        if let Some(mapped) = fill(settings, id, &layout, write)? {
            return Ok(Some(mapped));
        }
        // Another process has removed the unfinished segment, because it waited too
        // long.
    }
}

/// Returns whether an untrusted user may write to the segment of a key, or whether the
/// segment is complete. Uses a probe, because an ordinary attachment could be the last
/// one, and would then have to remove the segment.
fn is_untrusted_or_complete(permissions: &Permissions, key: i32) -> bool {
    let Ok(id) = sysv_shm::find(key) else {
        return false;
    };
    if sysv_shm::status(id).is_ok_and(|status| !permissions.trusts(&status)) {
        return true;
    }
    let probe = Probe::at(id, *permissions);
    matches!(probe, Ok(Some(probe)) if probe.lifecycle() == Lifecycle::Ready)
}

/// Fills a new segment. Returns `None` if another process removed it before that began.
fn fill<T, W>(
    settings: &Settings,
    id: Id,
    layout: &SegmentLayout,
    write: &mut Option<W>,
) -> Result<Option<Mapped<T, SysvAttachment>>, Error>
where
    T: SegmentContent + ?Sized,
    W: FnOnce(NonNull<T>, usize),
{
    let mut unfinished = Unfinished {
        id,
        mapping: None,
        marker: robust::current_marker().inspect_err(|_| drop(sysv_shm::remove(id)))?,
    };
    let mapping = match sysv_shm::attach(id, Access::ReadWrite) {
        Err(error) if sysv_shm::is_removed_error(&error) => {
            std::mem::forget(unfinished); // the kernel may reuse its id
            return Ok(None);
        }
        other => other.map_err(failure::memory_error(layout.total_len().get(), "shmat"))?,
    };
    let mapping = unfinished.mapping.insert(mapping);
    let word = SysvState::of(mapping);
    // SAFETY:
    // * No other process uses the lock before the state changes: the state is `NEW`,
    //   and this process has created the segment.
    // * The segment stays mapped: `unfinished` owns the mapping and outlives the guard.
    unsafe { word.init_lock() }?;
    // SAFETY:
    // * Writable and `total_len` bytes long: just attached.
    // * No other writer: other processes use only the state word until it changes, and
    //   `write_header` does not write that word.
    unsafe { layout.write_header(mapping) };
    // SAFETY:
    // * The lock is initialised, by this thread, and so of this pid namespace.
    // * All writers are trusted: this process has created the segment.
    // * The segment stays mapped: `unfinished` outlives the guard.
    let held = unsafe { word.lock() }?;
    if !word.try_leave_new(state::INITIALIZING) {
        return Ok(None);
    }
    let Some(write) = write.take() else {
        unreachable!("it is taken once: no process removes a segment that is being filled");
    };
    // SAFETY:
    // * Writable, long enough: as for `write_header`. No other user: the lock keeps
    //   other processes out until the segment is complete.
    // * Zero behind the header: all bytes of a new segment are zero.
    // * The memory stays: `Segment` keeps the mapping while the value is borrowed or a
    //   lock in it is held.
    // * `write` comes from `by_value` or `in_place`.
    let value = unsafe { layout.fill(mapping, write) }?;
    settings.memory.apply_system_v(mapping, id)?;
    let permissions = settings.permissions;
    sysv_shm::set_permissions(id, permissions.owner, permissions.group, permissions.mode)
        .map_err(failure::call_error("shmctl(IPC_SET)"))?;
    word.set_state(state::READY);
    drop(held);

    let Some(mapping) = unfinished.mapping.take() else {
        unreachable!("it was put there above");
    };
    std::mem::forget(unfinished);
    let attachment = SysvAttachment::new(id, mapping, settings.removal, permissions);
    // SAFETY:
    // * Initialised: `fill` wrote the value and initialised its locks.
    // * It stays mapped: `attachment` owns the mapping of the value.
    Ok(Some(unsafe { Mapped::new(value, attachment) }))
}

/// A segment that its creator has not finished. If it is dropped (an error, a panic),
/// it is removed. Its lock is unlocked by then. A child that the creator's closure
/// forked only detaches.
struct Unfinished {
    id: Id,
    mapping: Option<Mapping>,
    /// The creator's fork marker.
    marker: ForkMarker,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.marker.is_current() {
            return;
        }
        if let Some(mapping) = &self.mapping {
            SysvState::of(mapping).set_state(state::DEAD);
        }
        let _ = sysv_shm::remove(self.id);
    }
}
