//! From an id to a segment that is trusted, attached and complete.

use crate::error::Error;
use crate::init;
use crate::os::mem::sysv_shm::{self, Id, Status};
use crate::os::mem::{Access, Mapping};
use crate::segment::address::Target;
use crate::segment::backing::Hold;
use crate::segment::backing::sysv::state::{self, AttachBackoff, Held, SysvState};
use crate::segment::backing::sysv::{EXECUTE, SysvAttachment, UNBORN};
use crate::segment::failure;
use crate::segment::format::header::{self, Header};
use crate::segment::options::SegmentOptions;
use crate::segment::policy::Removal;

/// A complete segment, mapped.
#[derive(Debug)]
pub(in crate::segment) struct Settled {
    pub(in crate::segment) mapping: Mapping,
    pub(in crate::segment) header: Header,
    /// The process that made its locks anew is dead, and this one is alone.
    pub(in crate::segment) is_half_renewed: bool,
    /// A process was attached before this one: it may leave meanwhile, and counts this
    /// one as a user.
    pub(in crate::segment) was_in_use: bool,
}

impl Settled {
    /// Detaches without having become a user. If a user left meanwhile, it has counted
    /// this process, so this process leaves as a user does. If no process was
    /// attached before, the segment was left by a crash, and stays.
    pub(in crate::segment) fn leave(self, options: &SegmentOptions, id: Id) {
        if self.was_in_use {
            leave_unused(options, id, self.mapping, self.header.removal);
        }
    }
}

/// What was found under an id.
pub(in crate::segment) enum Finding {
    Gone,
    There(Box<Settled>),
    /// Others are attached, and must go or finish first. This process is not attached.
    Later(Obstacle),
}

/// Why a segment can't be used yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::segment) enum Obstacle {
    /// Its locks belong to another pid namespace, and others are attached.
    OtherNamespace,
    /// A process makes its locks anew.
    Renewal,
    /// Another thread holds its lock, and the caller does not wait.
    Lock,
}

impl Obstacle {
    /// Waits for the next visit. Returns an error after the time that the obstacle may
    /// take.
    pub(in crate::segment) fn pause(self, visits: &mut AttachBackoff) -> Result<(), Error> {
        let waited = state::UNFINISHED_TIMEOUT;
        if !visits.pause(waited)? {
            return Err(Error::Unfinished { waited });
        }
        match self {
            Self::OtherNamespace if !visits.may_retry_as_newcomer() => {
                Err(Error::ForeignPidNamespace)
            }
            _ => Ok(()),
        }
    }
}

/// How long to wait for the lock of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::segment) enum Wait {
    /// As long as [`state::UNFINISHED_TIMEOUT`].
    Patiently,
    /// Not at all, for removal: the holder is attached, so the segment is in use.
    Never,
}

impl Wait {
    /// # Safety
    ///
    /// As for [`SysvState::lock`].
    unsafe fn lock(self, birth: &SysvState) -> Result<Option<Held<'_>>, Error> {
        match self {
            // SAFETY: the caller promises all clauses of `lock`.
            Self::Patiently => unsafe { birth.lock() }.map(Some),
            // SAFETY: as above.
            Self::Never => unsafe { birth.try_lock() },
        }
    }
}

/// Changes the state from `READY` to `REINITIALIZING` if this process is the only one
/// attached: steps 2 and 3 of [`birth`].
pub(in crate::segment) fn seize(birth: &SysvState, id: Id) -> bool {
    // If it is in use, no claim disturbs its users.
    if !is_alone(id) {
        return false;
    }
    let Some(claim) = birth.claim() else {
        return false;
    };
    if is_alone(id) && birth.replace(claim, state::REINITIALIZING) {
        return true;
    }
    birth.replace(claim, state::READY);
    false
}

/// Whether the one attachment is the caller's, in whatever pid namespace others are.
pub(in crate::segment) fn is_alone(id: Id) -> bool {
    sysv_shm::status(id).is_ok_and(|status| status.attached == 1)
}

/// Finds a complete segment and attaches to it. Clears away what a dead creator
/// left. [`Error::NotFound`] if there is none, or none any more.
pub(in crate::segment) fn attach(
    options: &SegmentOptions,
    target: &Target,
    access: Access,
) -> Result<(Id, Settled), Error> {
    attach_in(options, target, access, &mut AttachBackoff::new())
}

/// As [`attach`], as one of several visits.
pub(in crate::segment) fn attach_in(
    options: &SegmentOptions,
    target: &Target,
    access: Access,
    visits: &mut AttachBackoff,
) -> Result<(Id, Settled), Error> {
    loop {
        let id = find(target)?;
        match settle(options, id, access, Wait::Patiently)? {
            Finding::There(settled) => return Ok((id, *settled)),
            Finding::Later(obstacle) => obstacle.pause(visits)?,
            // The key may lead elsewhere by now; an id never does.
            Finding::Gone if matches!(target, Target::SystemVId(_)) => {
                return Err(Error::NotFound);
            }
            Finding::Gone => {}
        }
    }
}

pub(in crate::segment) fn find(target: &Target) -> Result<Id, Error> {
    match *target {
        Target::SystemVKey(key) => sysv_shm::find(key).map_err(failure::of("shmget")),
        Target::SystemVId(id) => Ok(Id(id)),
        Target::File(_) => Err(Error::NotASegment),
    }
}

/// Returns what the kernel knows of a segment; `None` if it is gone.
pub(in crate::segment) fn status_of(id: Id) -> Result<Option<Status>, Error> {
    match sysv_shm::status(id) {
        Err(error) if sysv_shm::is_removed_error(&error) => Ok(None),
        other => other.map(Some).map_err(failure::of("shmctl(IPC_STAT)")),
    }
}

/// Attaches to a segment if all users with the right to write to it are trusted, and
/// brings it into a state in which it can be used.
pub(in crate::segment) fn settle(
    options: &SegmentOptions,
    id: Id,
    access: Access,
    wait: Wait,
) -> Result<Finding, Error> {
    let Some(status) = status_of(id)? else {
        return Ok(Finding::Gone);
    };
    options.check_system_v(&status)?;
    if status.len < header::LEN as u64 {
        return Err(Error::NotASegment);
    }
    let was_in_use = status.attached > 0;
    let mapping = match sysv_shm::attach(id, access) {
        Err(error) if sysv_shm::is_removed_error(&error) => return Ok(Finding::Gone),
        other => other.map_err(failure::of("shmat"))?,
    };
    // Once more, of the segment that is attached: the kernel may have given the id to
    // another one in between.
    let Some(status) = status_of(id)? else {
        return Ok(Finding::Gone);
    };
    options.check_system_v(&status)?;
    if mapping.len() < header::LEN {
        return Err(Error::NotASegment);
    }
    // SAFETY: a segment never changes its length, and it is longer than a header.
    let birth = unsafe { SysvState::of(&mapping) };
    let is_half_renewed = loop {
        let state = birth.state();
        match state {
            state::NEW => {
                if !is_marked_unfinished(status.mode) {
                    return Err(Error::NotASegment);
                }
                birth.wait_while(state::NEW, access)?;
                if access == Access::ReadOnly {
                    return Err(not_found(options, id, mapping));
                }
                birth.try_leave_new(state::DEAD);
            }
            // Cleared away, maybe before it had a header or a lock.
            state::DEAD => {
                if !is_marked_unfinished(status.mode) {
                    read_header(&mapping, status.len)?;
                }
                if access == Access::ReadOnly {
                    return Err(not_found(options, id, mapping));
                }
                clear_away(birth, id)?;
                return Ok(Finding::Gone);
            }
            state::READY => break false,
            state::INITIALIZING | state::REMOVING => {
                let header = read_header(&mapping, status.len)?;
                if access == Access::ReadOnly {
                    return Err(not_found(options, id, mapping));
                }
                header.check_abi()?;
                if !is_of_our_namespace(&header)? {
                    if !is_alone(id) {
                        return Ok(Finding::Later(Obstacle::OtherNamespace));
                    }
                    // The process that wrote this state was attached, so it is dead.
                    let is_to_stay = state == state::REMOVING && !is_removed(id);
                    let next = if is_to_stay {
                        state::READY
                    } else {
                        state::DEAD
                    };
                    birth.replace(state, next);
                    continue;
                }
                // SAFETY: the lock was made before the state left `NEW`, and is of
                // our namespace; all users with the right to write are trusted, as checked above;
                // `mapping` outlives the guard.
                let held = unsafe { wait.lock(birth) }?;
                let Some(held) = held else {
                    return Ok(Finding::Later(Obstacle::Lock));
                };
                let gone = resolve(birth, id)?;
                drop(held);
                if gone {
                    return Ok(Finding::Gone);
                }
            }
            _ if state::is_claim(state) => {
                let header = read_header(&mapping, status.len)?;
                if access == Access::ReadOnly {
                    break false; // complete, whatever becomes of its locks
                }
                // A claimant that is alive is attached.
                if !is_alone(id) {
                    if !is_of_our_namespace(&header)? {
                        return Ok(Finding::Later(Obstacle::OtherNamespace));
                    }
                    birth.wait_while(state, access)?;
                }
                birth.replace(state, state::READY);
            }
            state::REINITIALIZING => {
                let header = read_header(&mapping, status.len)?;
                if access == Access::ReadOnly {
                    break false;
                }
                // A process that renews is attached until it is ready or dead.
                if !is_alone(id) {
                    return Ok(Finding::Later(Obstacle::Renewal));
                }
                // It may have become ready before it died. From here on it can't be renewed
                // by another process: that would count this one.
                if birth.state() != state::REINITIALIZING {
                    continue;
                }
                header.check_abi()?;
                match is_removed(id) {
                    true => birth.set_state(state::DEAD),
                    false => break true,
                }
            }
            _ => return Err(Error::NotASegment),
        }
    };
    let header = read_header(&mapping, status.len)?;
    Ok(Finding::There(Box::new(Settled {
        mapping,
        header,
        is_half_renewed,
        was_in_use,
    })))
}

/// For a reader that came too early or too late.
fn not_found(options: &SegmentOptions, id: Id, mapping: Mapping) -> Error {
    if let Ok(header) = read_header(&mapping, mapping.len() as u64) {
        leave_unused(options, id, mapping, header.removal);
    }
    Error::NotFound
}

/// Leaves as a user does: whoever left meanwhile has counted this one.
pub(in crate::segment) fn leave_unused(
    options: &SegmentOptions,
    id: Id,
    mapping: Mapping,
    removal: Removal,
) {
    let options = options.clone();
    let attached = SysvAttachment {
        id,
        removal,
        options,
    };
    drop(Hold::system_v(mapping, attached));
}

/// Finishes what the last holder of the lock has left. Returns whether the segment
/// is gone. The caller holds the lock.
pub(in crate::segment) fn resolve(birth: &SysvState, id: Id) -> Result<bool, Error> {
    match birth.state() {
        // The looker died before it removed the segment, or after.
        state::REMOVING if !is_removed(id) => birth.set_state(state::READY),
        state::READY => {}
        // The claimant finds the caller attached, and its claim replaced.
        claim if state::is_claim(claim) => birth.set_state(state::READY),
        // The creator died, or the remover.
        _ => {
            birth.set_state(state::DEAD);
            clear_away(birth, id)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes a segment that is `DEAD`, unless it is removed already.
fn clear_away(birth: &SysvState, id: Id) -> Result<(), Error> {
    use std::io::ErrorKind;
    match sysv_shm::remove(id) {
        // Who may remove it may be about to.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            birth.wait_while(state::DEAD, Access::ReadWrite)?;
            match is_removed(id) {
                true => Ok(()),
                false => Err(Error::PermissionDenied),
            }
        }
        Err(error) if !sysv_shm::is_removed_error(&error) => {
            Err(failure::of_removal("shmctl(IPC_RMID)")(error))
        }
        _ => Ok(()),
    }
}

/// Whether a segment has lost its key.
pub(in crate::segment) fn is_removed(id: Id) -> bool {
    match sysv_shm::status(id) {
        Ok(status) => status.is_marked_for_removal,
        Err(error) => sysv_shm::is_removed_error(&error),
    }
}

/// Whether the mode of a segment is that of one that is not complete.
pub(crate) fn is_marked_unfinished(mode: u32) -> bool {
    mode & EXECUTE == UNBORN
}

/// Whether thread ids in the locks mean here what they say.
pub(in crate::segment) fn is_of_our_namespace(header: &Header) -> Result<bool, Error> {
    Ok(header.pid_namespace == init::init_context()?.pid_namespace)
}

/// Reads the header of the segment that is mapped. Its bytes are copied first:
/// what is checked can't change afterwards.
pub(in crate::segment) fn read_header(mapping: &Mapping, object_len: u64) -> Result<Header, Error> {
    let mut bytes = [0; header::LEN];
    mapping.copy_to(&mut bytes, 0);
    Header::parse(&bytes, object_len)
}
