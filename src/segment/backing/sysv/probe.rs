//! `Probe`: inspects a segment that may hold anything and belong to any user.

use std::io;

use crate::os::mem::sysv_shm::Id;
use crate::segment::backing::sysv::removal::{Unlocked, remove_if_abandoned};
use crate::segment::backing::sysv::view::{Lifecycle, View};
use crate::segment::permissions::Permissions;

/// A segment attached for inspection. It may hold any bytes.
///
/// A process that detaches while this process is attached counts this process as a
/// user. So `drop` repeats the last-user check, unless no other process came. It waits
/// for no lock, and uses no memory to which an untrusted user may write. A segment to
/// which an untrusted user may write can stay behind, for `gc`.
#[derive(Debug)]
pub(crate) struct Probe {
    view: View,
    permissions: Permissions,
}

impl Probe {
    /// Attaches to a segment. Returns `None` if the segment is gone.
    pub(crate) fn at(id: Id, permissions: Permissions) -> io::Result<Option<Self>> {
        let view = View::attach(id)?;
        Ok(view.map(|view| Self { view, permissions }))
    }

    pub(crate) fn id(&self) -> Id {
        self.view.id()
    }

    /// Copies bytes from `offset` on. Returns `false` if the segment is too short.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: usize) -> bool {
        self.view.read_at(buffer, offset)
    }

    /// Returns how far the segment has come, by its state word.
    pub(crate) fn lifecycle(&self) -> Lifecycle {
        self.view.lifecycle()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if self.view.detach() {
            // If it fails, the segment stays for another process, or for `gc`.
            let _ = remove_if_abandoned(&self.permissions, self.view.id(), Unlocked::Keep);
        }
    }
}
