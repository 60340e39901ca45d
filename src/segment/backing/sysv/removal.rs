//! Removes a segment that no process is attached to.

use crate::error::{Error, LockError};
use crate::os::mem::sysv_shm::{self, Id};
use crate::os::mem::{Access, Mapping};
use crate::segment::address::Target;
use crate::segment::backing::attachment::RemoveOutcome;
use crate::segment::backing::sysv::query::{
    find, is_alone, is_of_our_namespace, read_header, status_of,
};
use crate::segment::backing::sysv::ready::{
    Attempt, LockWait, attach_ready, finish_interrupted, seize,
};
use crate::segment::backing::sysv::state::{self, SysvState};
use crate::segment::backing::sysv::view::View;
use crate::segment::failure;
use crate::segment::permissions::Permissions;

/// The treatment of an abandoned segment whose lock can't be used, because an untrusted
/// user may write to it or because it is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unlocked {
    /// Keep it: only its own header asks for its removal, and no caller.
    Keep,
    /// Remove it by the kernel's attach count, if it is a segment of this crate.
    Remove,
}

/// Removes the segment that `target` leads to if no process is attached to it.
pub(in crate::segment) fn remove_abandoned_at(
    permissions: &Permissions,
    target: &Target,
) -> Result<RemoveOutcome, Error> {
    let id = find(target)?;
    let Some(status) = status_of(id)? else {
        return Ok(RemoveOutcome::Gone);
    };
    permissions.check_system_v(&status)?;
    remove_if_abandoned(permissions, id, Unlocked::Remove)
}

/// Removes the segment that `target` leads to, whether processes are attached or not.
pub(in crate::segment) fn unlink(target: &Target) -> Result<(), Error> {
    match sysv_shm::remove(find(target)?) {
        Err(error) if sysv_shm::is_removed_error(&error) => Err(Error::NotFound { address: None }),
        other => other.map_err(failure::removal_error("shmctl(IPC_RMID)")),
    }
}

/// Removes the segment if no process is attached to it. The caller is not attached.
/// Does not wait for the lock, because its holder is attached.
pub(super) fn remove_if_abandoned(
    permissions: &Permissions,
    id: Id,
    unlocked: Unlocked,
) -> Result<RemoveOutcome, Error> {
    /// Each attempt but the first is due to a process that attached and detached
    /// meanwhile. After so many, the holder of the lock is no attached process, so the
    /// segment is damaged.
    const ATTEMPTS: u32 = 100;

    for _ in 0..ATTEMPTS {
        let Some(status) = status_of(id)? else {
            return Ok(RemoveOutcome::Gone);
        };
        if status.attached > 0 {
            return Ok(RemoveOutcome::InUse);
        }
        if !permissions.trusts(&status) {
            return match unlocked {
                Unlocked::Keep => Ok(RemoveOutcome::InUse),
                Unlocked::Remove => remove_without_lock(permissions, id),
            };
        }
        let removed = match attach_ready(permissions, id, Access::ReadWrite, LockWait::Never) {
            Ok(Attempt::Gone) => return Ok(RemoveOutcome::Removed),
            // Readers alone get `NotForReaders`, and this process is none.
            Ok(Attempt::Later(_) | Attempt::NotForReaders(_)) => Ok(None),
            Ok(Attempt::Ready(ready)) => remove_if_alone(id, &ready.mapping),
            Err(error) => Err(error),
        };
        match removed {
            Ok(Some(outcome)) => return Ok(outcome),
            // This process has detached by now. Read the count again.
            Ok(None) => {}
            // This program, or no program, can use the lock.
            Err(
                Error::Corrupt { .. }
                | Error::UnsupportedFormat { .. }
                | Error::LayoutMismatch { .. }
                // A holder of the lock would be attached.
                | Error::HeaderLock {
                    source: LockError::NotRecoverable | LockError::Deadlock,
                    ..
                },
            ) if unlocked == Unlocked::Remove => return remove_without_lock(permissions, id),
            Err(error) => return Err(error),
        }
    }
    match unlocked {
        Unlocked::Keep => Ok(RemoveOutcome::InUse),
        Unlocked::Remove => remove_without_lock(permissions, id),
    }
}

/// Removes a segment of this crate if the kernel counts no attachment. Takes no lock,
/// because the segment is damaged or an untrusted user may write to it.
///
/// A process that attaches between the count and the removal keeps its memory, and
/// shares it with all processes that are attached. The key is gone: later processes
/// find nothing, and create another segment. The data is lost with the last detachment,
/// unless it was copied. So the worst result is that of [`unlink`](crate::unlink). A
/// lock would prevent it, but an untrusted user could write to that lock.
///
/// The id cannot have passed to a segment in use, because that takes a removal and some
/// 65,000 creations between two calls.
fn remove_without_lock(permissions: &Permissions, id: Id) -> Result<RemoveOutcome, Error> {
    let Some(mut view) = View::attach(id).map_err(failure::os_error("shmat"))? else {
        return Ok(RemoveOutcome::Gone);
    };
    let is_ours = view.is_ours();
    if view.detach() {
        let _ = remove_if_abandoned(permissions, id, Unlocked::Keep);
    }
    if !is_ours {
        return Err(Error::NotASegment { address: None });
    }
    match status_of(id)? {
        None => Ok(RemoveOutcome::Gone),
        Some(status) if status.attached > 0 => Ok(RemoveOutcome::InUse),
        Some(_) => match sysv_shm::remove(id) {
            Err(error) if sysv_shm::is_removed_error(&error) => Ok(RemoveOutcome::Gone),
            removed => removed
                .map(|()| RemoveOutcome::Removed)
                .map_err(failure::removal_error("shmctl(IPC_RMID)")),
        },
    }
}

/// Removes a complete segment if `mapping`, which is writable, is its only attachment.
/// Returns `None` if it is not, or if another thread holds the lock. Every user with
/// the right to write to the segment is trusted.
pub(super) fn remove_if_alone(id: Id, mapping: &Mapping) -> Result<Option<RemoveOutcome>, Error> {
    let header = read_header(mapping, mapping.len() as u64)?;
    header.check_abi()?;
    let word = SysvState::of(mapping);
    let is_half_reinitialized = word.state() == state::REINITIALIZING;
    if is_half_reinitialized || !is_of_our_namespace(&header)? {
        let (is_exclusive, before) = if is_half_reinitialized {
            (is_alone(id), state::REINITIALIZING)
        } else {
            (seize(word, id), state::READY)
        };
        return if is_exclusive {
            remove_as(word, id, before).map(Some)
        } else {
            Ok(None)
        };
    }
    // SAFETY:
    // * The lock is initialised, because the segment is complete. It is of this pid
    //   namespace, as just checked.
    // * All users with the right to write are trusted, as the caller has checked.
    // * The segment stays mapped: `mapping` outlives the guard.
    let Some(_held) = (unsafe { word.try_lock() })? else {
        return Ok(None);
    };
    if finish_interrupted(word, id)? {
        return Ok(Some(RemoveOutcome::Gone));
    }
    word.set_state(state::REMOVING);
    match sysv_shm::status(id) {
        Ok(status) if status.attached <= 1 => remove_as(word, id, state::READY).map(Some),
        _ => {
            word.set_state(state::READY);
            Ok(None)
        }
    }
}

/// Removes a segment for which the caller has the exclusive permission. If the kernel
/// refuses, restores the state `before`.
fn remove_as(word: &SysvState, id: Id, before: u32) -> Result<RemoveOutcome, Error> {
    let removed = sysv_shm::remove(id);
    word.set_state(match removed {
        Ok(()) => state::DEAD,
        Err(_) => before,
    });
    removed.map_err(failure::removal_error("shmctl(IPC_RMID)"))?;
    Ok(RemoveOutcome::Removed)
}
