//! A look at a segment that may hold anything and belong to any user.

use crate::error::Error;
use crate::os::mem::sysv_shm::{self, Id};
use crate::os::mem::{Access, Mapping};
use crate::segment::backing::sysv::removal::{Unlocked, remove_if_abandoned};
use crate::segment::backing::sysv::settle::is_marked_unfinished;
use crate::segment::backing::sysv::state;
use crate::segment::format::header::{self, Header};
use crate::segment::format::offsets;
use crate::segment::options::SegmentOptions;
use crate::segment::policy::Removal;

/// A segment mapped for a look, whatever it holds. Who attaches and leaves
/// meanwhile may have taken the looker for a user; so the looker leaves as a user
/// does, unless nobody else came. It waits for no lock, and leaves the memory of
/// strangers alone: that may stay behind, for `gc`.
#[derive(Debug)]
pub(crate) struct Probe {
    mapping: Option<Mapping>,
    id: Id,
    options: SegmentOptions,
    /// Nobody was attached before.
    was_abandoned: bool,
}

impl Probe {
    /// `None` if the segment is gone.
    pub(crate) fn at(id: Id, options: &SegmentOptions) -> std::io::Result<Option<Self>> {
        let mapping = match sysv_shm::attach(id, Access::ReadOnly) {
            Err(error) if sysv_shm::is_removed_error(&error) => return Ok(None),
            mapping => Some(mapping?),
        };
        let mut look = Self {
            mapping,
            id,
            options: options.clone(),
            was_abandoned: false,
        };
        // In this order: its creator is attached until it is complete.
        look.was_abandoned = look.lifecycle() == Lifecycle::Ready && look.is_alone();
        Ok(Some(look))
    }

    /// Which segment it is.
    pub(crate) fn id(&self) -> Id {
        self.id
    }

    /// Whether nobody else is attached, nor was since this began.
    fn is_alone(&self) -> bool {
        sysv_shm::status(self.id).is_ok_and(|now| {
            now.attached == 1 && u32::try_from(now.last_pid) == Ok(std::process::id())
        })
    }

    /// Copies bytes from `offset` on. Returns whether the segment has so many.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: usize) -> bool {
        let Some(mapping) = &self.mapping else {
            return false;
        };
        let inside = offset.checked_add(buffer.len());
        if inside.is_none_or(|end| end > mapping.len()) {
            return false;
        }
        mapping.copy_to(buffer, offset);
        true
    }

    /// How far it is in its life, if it is long enough to say.
    pub(crate) fn lifecycle(&self) -> Lifecycle {
        let mut state = [0; 4];
        if !self.read_at(&mut state, offsets::SYSV_STATE.offset()) {
            return Lifecycle::Foreign;
        }
        match u32::from_ne_bytes(state) {
            state::READY | state::REMOVING | state::REINITIALIZING => Lifecycle::Ready,
            claim if state::is_claim(claim) => Lifecycle::Ready,
            state::NEW | state::INITIALIZING | state::DEAD => Lifecycle::Unfinished,
            _ => Lifecycle::Foreign,
        }
    }
}

impl Probe {
    /// Whether it is a segment of this crate, though it may be damaged or of another
    /// version. That is all that is believed of a stranger's.
    pub(in crate::segment) fn is_ours(&self) -> bool {
        let mut bytes = [0; header::LEN];
        let len = self.mapping.as_ref().map_or(0, Mapping::len);
        if !self.read_at(&mut bytes, 0) {
            return false;
        }
        match Header::parse(&bytes, len as u64) {
            Ok(_) | Err(Error::Corrupt(_) | Error::UnsupportedFormat { .. }) => true,
            Err(_) => {
                let mode = sysv_shm::status(self.id).map_or(0, |status| status.mode);
                self.lifecycle() == Lifecycle::Unfinished && is_marked_unfinished(mode)
            }
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let mut bytes = [0; header::LEN];
        let len = self.mapping.as_ref().map_or(0, Mapping::len);
        let is_transient = self.read_at(&mut bytes, 0)
            && Header::parse(&bytes, len as u64)
                .is_ok_and(|header| header.removal == Removal::UntilLastDetach);
        let is_abandoned = self.was_abandoned && self.is_alone();
        self.mapping = None;
        if is_transient && !is_abandoned {
            let _ = remove_if_abandoned(&self.options, self.id, Unlocked::Stays);
        }
    }
}

/// How far a System V segment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    /// Being created; or its creator died, and nobody has come since.
    Unfinished,
    /// Complete.
    Ready,
    /// Not a segment of this crate.
    Foreign,
}
