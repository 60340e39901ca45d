//! Removal of a segment that no process is attached to.

use crate::error::{Error, LockError};
use crate::os::mem::sysv_shm::{self, Id};
use crate::os::mem::{Access, Mapping};
use crate::segment::address::Target;
use crate::segment::backing::attachment::RemoveOutcome;
use crate::segment::backing::sysv::probe::Probe;
use crate::segment::backing::sysv::settle::{
    Finding, Wait, find, is_alone, is_of_our_namespace, read_header, resolve, seize, settle,
    status_of,
};
use crate::segment::backing::sysv::state::{self, SysvState};
use crate::segment::failure;
use crate::segment::options::SegmentOptions;

/// What becomes of an abandoned segment whose lock can't be used: strangers may write to
/// it, or it is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::segment) enum Unlocked {
    /// It stays: no caller asked for its removal, only its own header.
    Stays,
    /// It is removed by what the kernel says, if it is a segment of this crate.
    Goes,
}

/// Removes what `target` leads to if it is a segment that nobody is attached to.
pub(in crate::segment) fn remove_abandoned_at(
    options: &SegmentOptions,
    target: &Target,
) -> Result<RemoveOutcome, Error> {
    let id = find(target)?;
    let Some(status) = status_of(id)? else {
        return Ok(RemoveOutcome::Gone);
    };
    options.check_system_v(&status)?;
    remove_if_abandoned(options, id, Unlocked::Goes)
}

/// Removes the segment if nobody is attached to it: see above. The caller is not
/// attached. Waits for no lock: the holder of one is attached.
pub(in crate::segment) fn remove_if_abandoned(
    options: &SegmentOptions,
    id: Id,
    unlocked: Unlocked,
) -> Result<RemoveOutcome, Error> {
    /// Each try but the first is due to a process that came and went meanwhile. After
    /// so many the lock is held by no process that is attached: it is damaged.
    const TRIES: u32 = 100;

    for _ in 0..TRIES {
        let Some(status) = status_of(id)? else {
            return Ok(RemoveOutcome::Gone);
        };
        if status.attached > 0 {
            return Ok(RemoveOutcome::InUse);
        }
        if !options.trusts(&status) {
            return match unlocked {
                Unlocked::Stays => Ok(RemoveOutcome::InUse),
                Unlocked::Goes => remove_unseen(options, id),
            };
        }
        let removed = match settle(options, id, Access::ReadWrite, Wait::Never) {
            Ok(Finding::Gone) => return Ok(RemoveOutcome::Removed),
            Ok(Finding::Later(_)) => Ok(None),
            Ok(Finding::There(settled)) => remove_if_alone(id, &settled.mapping),
            Err(error) => Err(error),
        };
        match removed {
            Ok(Some(verdict)) => return Ok(verdict),
            // Detached by now; ask again.
            Ok(None) => {}
            // Its lock says nothing to this program, or to any.
            Err(
                Error::Corrupt(_)
                | Error::UnsupportedFormat { .. }
                | Error::LayoutMismatch { .. }
                // The holder of the lock would be attached.
                | Error::Lock(LockError::NotRecoverable | LockError::Deadlock),
            ) if unlocked == Unlocked::Goes => return remove_unseen(options, id),
            Err(error) => return Err(error),
        }
    }
    match unlocked {
        Unlocked::Stays => Ok(RemoveOutcome::InUse),
        Unlocked::Goes => remove_unseen(options, id),
    }
}

/// Removes a segment of this crate if the kernel counts no attachment, without a lock:
/// for one to which strangers may write, or that is damaged.
///
/// A process that attaches between the count and the removal keeps its memory, and shares
/// it with all processes that are attached. It loses the key: later processes find
/// nothing, and create another segment. The data of the first segment is lost with its
/// last detachment, unless it was copied. So the worst is what
/// [`unlink`](crate::unlink) does. A lock would prevent it, but it would be the stranger's.
/// The id can't have passed to a segment in use: that takes a removal and some 65,000
/// creations between two calls.
fn remove_unseen(options: &SegmentOptions, id: Id) -> Result<RemoveOutcome, Error> {
    let is_ours = match Probe::at(id, options).map_err(failure::of("shmat"))? {
        None => return Ok(RemoveOutcome::Gone),
        Some(look) => look.is_ours(),
    };
    if !is_ours {
        return Err(Error::NotASegment);
    }
    match status_of(id)? {
        None => Ok(RemoveOutcome::Gone),
        Some(status) if status.attached > 0 => Ok(RemoveOutcome::InUse),
        Some(_) => match sysv_shm::remove(id) {
            Err(error) if sysv_shm::is_removed_error(&error) => Ok(RemoveOutcome::Gone),
            removed => removed
                .map(|()| RemoveOutcome::Removed)
                .map_err(failure::of_removal("shmctl(IPC_RMID)")),
        },
    }
}

/// Removes a complete segment if `mapping`, for writing, is the only one of it.
/// `None` if it is not, or if another thread holds its lock. All users with the right to
/// write to it are trusted.
pub(in crate::segment) fn remove_if_alone(
    id: Id,
    mapping: &Mapping,
) -> Result<Option<RemoveOutcome>, Error> {
    let header = read_header(mapping, mapping.len() as u64)?;
    header.check_abi()?;
    // SAFETY: it has a header.
    let birth = unsafe { SysvState::of(mapping) };
    let is_half_renewed = birth.state() == state::REINITIALIZING;
    if is_half_renewed || !is_of_our_namespace(&header)? {
        let is_mine = match is_half_renewed {
            true => is_alone(id),
            false => seize(birth, id),
        };
        let before = if is_half_renewed {
            state::REINITIALIZING
        } else {
            state::READY
        };
        return match is_mine {
            true => remove_as(birth, id, before).map(Some),
            false => Ok(None),
        };
    }
    // SAFETY: complete, so the lock is made; of our namespace; the caller trusts all
    // users with the right to write; `mapping` outlives the guard.
    let Some(_held) = (unsafe { birth.try_lock() })? else {
        return Ok(None);
    };
    if resolve(birth, id)? {
        return Ok(Some(RemoveOutcome::Gone));
    }
    birth.set_state(state::REMOVING);
    match sysv_shm::status(id) {
        Ok(status) if status.attached <= 1 => remove_as(birth, id, state::READY).map(Some),
        _ => {
            birth.set_state(state::READY);
            Ok(None)
        }
    }
}

/// Removes a segment that the caller alone may. A caller without the right to leaves the
/// state that was `before`.
fn remove_as(birth: &SysvState, id: Id, before: u32) -> Result<RemoveOutcome, Error> {
    let removed = sysv_shm::remove(id);
    birth.set_state(match removed {
        Ok(()) => state::DEAD,
        Err(_) => before,
    });
    removed.map_err(failure::of_removal("shmctl(IPC_RMID)"))?;
    Ok(RemoveOutcome::Removed)
}
