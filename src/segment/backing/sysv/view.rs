//! `View`: a segment attached for reading, which may hold anything and belong to any
//! user.

use std::io;

use crate::error::Error;
use crate::os::mem::sysv_shm::{self, Id};
use crate::os::mem::{Access, Mapping};
use crate::segment::backing::sysv::query::is_marked_unfinished;
use crate::segment::backing::sysv::state;
use crate::segment::format::header::{self, Header};
use crate::segment::format::offsets;
use crate::segment::policy::Removal;

/// A segment attached for reading. It may hold any bytes. Waits for no lock.
#[derive(Debug)]
pub(super) struct View {
    mapping: Option<Mapping>,
    id: Id,
    /// No other process was attached when this one attached.
    was_abandoned: bool,
}

impl View {
    /// Attaches to a segment. Returns `None` if the segment is gone.
    pub(super) fn attach(id: Id) -> io::Result<Option<Self>> {
        let mapping = match sysv_shm::attach(id, Access::ReadOnly) {
            Err(error) if sysv_shm::is_removed_error(&error) => return Ok(None),
            mapping => Some(mapping?),
        };
        let mut view = Self {
            mapping,
            id,
            was_abandoned: false,
        };
        // In this order: the creator is attached until the segment is complete.
        view.was_abandoned = view.lifecycle() == Lifecycle::Ready && view.is_alone();
        Ok(Some(view))
    }

    pub(super) fn id(&self) -> Id {
        self.id
    }

    /// Returns whether this is the only attachment, and no process has attached or
    /// detached since it was made.
    fn is_alone(&self) -> bool {
        sysv_shm::status(self.id).is_ok_and(|now| {
            now.attached == 1 && u32::try_from(now.last_pid) == Ok(std::process::id())
        })
    }

    /// Copies bytes from `offset` on. Returns `false` if the segment is too short.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: usize) -> bool {
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

    /// Returns how far the segment has come, by its state word.
    pub(super) fn lifecycle(&self) -> Lifecycle {
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

    /// Returns whether it is a segment of this crate, though it may be damaged or of
    /// another version. If an untrusted user may write to it, the caller must rely on
    /// nothing else in it.
    pub(super) fn is_ours(&self) -> bool {
        match self.header() {
            None => false,
            Some(Ok(_) | Err(Error::Corrupt { .. } | Error::UnsupportedFormat { .. })) => true,
            Some(Err(_)) => {
                let mode = sysv_shm::status(self.id).map_or(0, |status| status.mode);
                self.lifecycle() == Lifecycle::Unfinished && is_marked_unfinished(mode)
            }
        }
    }

    /// Detaches. Returns whether another process may have counted this one as a user of
    /// a segment that its last user removes. The caller then repeats the check of a
    /// last user.
    pub(super) fn detach(&mut self) -> bool {
        let is_transient = matches!(
            self.header(),
            Some(Ok(header)) if header.removal == Removal::UntilLastDetach
        );
        let is_abandoned = self.was_abandoned && self.is_alone();
        self.mapping = None;
        is_transient && !is_abandoned
    }

    /// Parses the header. Returns `None` if the segment is too short for one.
    fn header(&self) -> Option<Result<Header, Error>> {
        let mut bytes = [0; header::LEN];
        let len = self.mapping.as_ref().map_or(0, Mapping::len);
        self.read_at(&mut bytes, 0)
            .then(|| Header::parse(&bytes, len as u64))
    }
}

/// How far a System V segment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    /// Being created; or its creator died, and no process has opened it since.
    Unfinished,
    /// Complete.
    Ready,
    /// Not a segment of this crate.
    Foreign,
}
