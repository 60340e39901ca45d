//! Attaches to a segment, and finishes the interrupted work of a dead process.

use std::io::ErrorKind;

use crate::error::Error;
use crate::os::mem::sysv_shm::{self, Id};
use crate::os::mem::{Access, Mapping};
use crate::segment::backing::sysv::query::{
    is_alone, is_marked_unfinished, is_of_our_namespace, is_removed, read_header, status_of,
};
use crate::segment::backing::sysv::state::{self, AttachBackoff, StateGuard, SysvState};
use crate::segment::failure;
use crate::segment::format::header::{self, Header};
use crate::segment::permissions::Permissions;

/// A complete segment, attached.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) mapping: Mapping,
    pub(super) header: Header,
    /// The process that was reinitialising its locks is dead, and this one is alone.
    pub(super) is_half_reinitialized: bool,
    /// A process was attached before this one. It may detach meanwhile, and counts this
    /// one as a user.
    pub(super) was_in_use: bool,
}

/// The result of one attempt to attach to a segment.
pub(super) enum Attempt {
    Ready(Box<Ready>),
    /// The segment is gone, or this call has removed it.
    Gone,
    /// Other processes must detach or finish first. This process is not attached.
    Later(Obstacle),
    /// The segment is not complete yet, or no longer, and this process may only read.
    /// It is still attached.
    NotForReaders(Mapping),
}

/// Why a segment can't be used yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Its locks belong to another pid namespace, and other processes are attached.
    OtherNamespace,
    /// A process reinitialises its locks.
    Reinit,
    /// Another thread holds its lock, and the caller does not wait.
    Lock,
}

impl Obstacle {
    /// Waits until the next attempt.
    ///
    /// # Errors
    ///
    /// [`Error::Unfinished`], [`Error::ForeignPidNamespace`]: the time that this
    /// obstacle may take has passed.
    pub(super) fn pause(self, attempts: &mut AttachBackoff) -> Result<(), Error> {
        let waited = state::UNFINISHED_TIMEOUT;
        if !attempts.pause(waited)? {
            return Err(Error::Unfinished {
                address: None,
                waited,
            });
        }
        match self {
            Self::OtherNamespace if !attempts.may_retry_as_newcomer() => {
                Err(Error::ForeignPidNamespace { address: None })
            }
            _ => Ok(()),
        }
    }
}

/// How long to wait for the lock of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockWait {
    /// At most [`state::UNFINISHED_TIMEOUT`].
    Bounded,
    /// Not at all, for removal: the holder is attached, so the segment is in use.
    Never,
}

impl LockWait {
    /// Locks a state. Returns `None` if another thread holds the lock and this is
    /// [`Never`](Self::Never).
    ///
    /// # Safety
    ///
    /// * The lock is initialised, in the pid namespace of this process.
    /// * All users who may write to the segment are trusted.
    /// * The segment stays mapped for as long as the lock is held.
    unsafe fn lock(self, state: &SysvState) -> Result<Option<StateGuard<'_>>, Error> {
        match self {
            // SAFETY: initialised in this pid namespace, all writers trusted, mapped
            // while it is held: the three clauses of this function.
            Self::Bounded => unsafe { state.lock() }.map(Some),
            // SAFETY: initialised in this pid namespace, all writers trusted, mapped
            // while it is held: the three clauses of this function.
            Self::Never => unsafe { state.try_lock() },
        }
    }
}

/// Attaches to a segment if every user with the right to write to it is trusted.
/// Finishes the interrupted work of a dead process.
pub(super) fn attach_ready(
    permissions: &Permissions,
    id: Id,
    access: Access,
    wait: LockWait,
) -> Result<Attempt, Error> {
    let Some(status) = status_of(id)? else {
        return Ok(Attempt::Gone);
    };
    permissions.check_system_v(&status)?;
    if status.len < header::LEN as u64 {
        return Err(Error::NotASegment { address: None });
    }
    let was_in_use = status.attached > 0;
    let mapping = match sysv_shm::attach(id, access) {
        Err(error) if sysv_shm::is_removed_error(&error) => return Ok(Attempt::Gone),
        other => other.map_err(failure::os_error("shmat"))?,
    };
    // Checks the attached segment, because the kernel may have reused the id since the
    // first check.
    let Some(status) = status_of(id)? else {
        return Ok(Attempt::Gone);
    };
    permissions.check_system_v(&status)?;
    if mapping.len() < header::LEN {
        return Err(Error::NotASegment { address: None });
    }
    let word = SysvState::of(&mapping);
    let is_half_reinitialized = loop {
        let state = word.state();
        match state {
            state::NEW => {
                if !is_marked_unfinished(status.mode) {
                    return Err(Error::NotASegment { address: None });
                }
                word.wait_while(state::NEW, access)?;
                if access == Access::ReadOnly {
                    return Ok(Attempt::NotForReaders(mapping));
                }
                word.try_leave_new(state::DEAD);
            }
            // The segment may have had no header and no lock when it became `DEAD`.
            state::DEAD => {
                if !is_marked_unfinished(status.mode) {
                    read_header(&mapping, status.len)?;
                }
                if access == Access::ReadOnly {
                    return Ok(Attempt::NotForReaders(mapping));
                }
                remove_dead(word, id)?;
                return Ok(Attempt::Gone);
            }
            state::READY => break false,
            state::INITIALIZING | state::REMOVING => {
                let header = read_header(&mapping, status.len)?;
                if access == Access::ReadOnly {
                    return Ok(Attempt::NotForReaders(mapping));
                }
                header.check_abi()?;
                if !is_of_our_namespace(&header)? {
                    if !is_alone(id) {
                        return Ok(Attempt::Later(Obstacle::OtherNamespace));
                    }
                    // The process that wrote this state was attached, so it is dead.
                    let is_to_stay = state == state::REMOVING && !is_removed(id);
                    let next = if is_to_stay {
                        state::READY
                    } else {
                        state::DEAD
                    };
                    word.replace(state, next);
                    continue;
                }
                // SAFETY:
                // * The lock is initialised: its creator did that before the state left
                //   `NEW`. It is of this pid namespace, as just checked.
                // * All users with the right to write are trusted: `check_system_v`.
                // * The segment stays mapped: `mapping` outlives `held`.
                let held = unsafe { wait.lock(word) }?;
                let Some(held) = held else {
                    return Ok(Attempt::Later(Obstacle::Lock));
                };
                let is_gone = finish_interrupted(word, id)?;
                drop(held);
                if is_gone {
                    return Ok(Attempt::Gone);
                }
            }
            _ if state::is_claim(state) => {
                let header = read_header(&mapping, status.len)?;
                if access == Access::ReadOnly {
                    break false; // complete, also while its locks change
                }
                // A claimant that is alive is attached.
                if !is_alone(id) {
                    if !is_of_our_namespace(&header)? {
                        return Ok(Attempt::Later(Obstacle::OtherNamespace));
                    }
                    word.wait_while(state, access)?;
                }
                word.replace(state, state::READY);
            }
            state::REINITIALIZING => {
                let header = read_header(&mapping, status.len)?;
                if access == Access::ReadOnly {
                    break false;
                }
                // A process that reinitialises is attached until it is ready or dead.
                if !is_alone(id) {
                    return Ok(Attempt::Later(Obstacle::Reinit));
                }
                // The process may have stored `READY` before it died. From here on no
                // other process reinitialises the locks, because it would count this
                // one.
                if word.state() != state::REINITIALIZING {
                    continue;
                }
                header.check_abi()?;
                if is_removed(id) {
                    word.set_state(state::DEAD);
                } else {
                    break true;
                }
            }
            _ => return Err(Error::NotASegment { address: None }),
        }
    };
    let header = read_header(&mapping, status.len)?;
    Ok(Attempt::Ready(Box::new(Ready {
        mapping,
        header,
        is_half_reinitialized,
        was_in_use,
    })))
}

/// Changes the state from `READY` to `REINITIALIZING` if this process is the only one
/// attached: steps 2 and 3 of [`state`].
pub(super) fn seize(word: &SysvState, id: Id) -> bool {
    // If the segment is in use, no claim disturbs its users.
    if !is_alone(id) {
        return false;
    }
    let Some(claim) = word.claim() else {
        return false;
    };
    if is_alone(id) && word.replace(claim, state::REINITIALIZING) {
        return true;
    }
    word.replace(claim, state::READY);
    false
}

/// Finishes the interrupted work of the last holder of the lock. The caller holds the
/// lock. Returns whether the segment is gone.
pub(super) fn finish_interrupted(word: &SysvState, id: Id) -> Result<bool, Error> {
    match word.state() {
        // The remover died before it removed the segment.
        state::REMOVING if !is_removed(id) => word.set_state(state::READY),
        state::READY => {}
        // The claimant counts the caller, and finds its claim replaced.
        claim if state::is_claim(claim) => word.set_state(state::READY),
        // The creator died, or a remover died after the removal.
        _ => {
            word.set_state(state::DEAD);
            remove_dead(word, id)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes a segment that is `DEAD`, unless it is removed already.
fn remove_dead(word: &SysvState, id: Id) -> Result<(), Error> {
    match sysv_shm::remove(id) {
        // A process that is allowed to remove it may be doing so now.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            word.wait_while(state::DEAD, Access::ReadWrite)?;
            if is_removed(id) {
                Ok(())
            } else {
                Err(Error::PermissionDenied { address: None })
            }
        }
        Err(error) if !sysv_shm::is_removed_error(&error) => {
            Err(failure::removal_error("shmctl(IPC_RMID)")(error))
        }
        _ => Ok(()),
    }
}
