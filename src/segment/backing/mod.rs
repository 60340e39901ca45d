//! A value in shared memory, and what keeps it there.

pub(in crate::segment) mod attachment;
pub(in crate::segment) mod file;
pub(in crate::segment) mod memfd;
pub(in crate::segment) mod sysv;

use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use crate::error::Error;
use crate::init;
use crate::os::descriptor::CheckedFd;
use crate::os::mem::Mapping;
use crate::os::mem::sysv_shm::{self, Id};
use crate::segment::content::SegmentContent;
use crate::segment::failure;
use crate::segment::policy::Removal;
use crate::shm_safe::{FieldPath, Visitor};

/// Memory, and what ties this process to it. The memory is unmapped first.
#[derive(Debug)]
pub(in crate::segment) struct Hold {
    mapping: Mapping,
    tie: Tie,
}

#[derive(Debug)]
enum Tie {
    /// An object that has, or had, a name.
    Named(attachment::FileAttachment),
    /// The descriptor of an object that never has one.
    Sealed(CheckedFd),
    SystemV(sysv::SysvAttachment),
    /// Memory of this process alone.
    None,
}

impl Hold {
    pub(in crate::segment) fn named(
        mapping: Mapping,
        attached: attachment::FileAttachment,
    ) -> Self {
        let tie = Tie::Named(attached);
        Self { mapping, tie }
    }

    pub(in crate::segment) fn sealed(mapping: Mapping, file: CheckedFd) -> Self {
        let tie = Tie::Sealed(file);
        Self { mapping, tie }
    }

    pub(in crate::segment) fn system_v(mapping: Mapping, attached: sysv::SysvAttachment) -> Self {
        let tie = Tie::SystemV(attached);
        Self { mapping, tie }
    }

    pub(in crate::segment) fn private(mapping: Mapping) -> Self {
        let tie = Tie::None;
        Self { mapping, tie }
    }

    pub(in crate::segment) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The descriptor of an object that never has a name, unless the program has closed
    /// it.
    pub(in crate::segment) fn nameless_file(&self) -> Option<BorrowedFd<'_>> {
        match &self.tie {
            Tie::Sealed(file) => file.get().ok(),
            _ => None,
        }
    }

    /// The descriptor of what is mapped, if it has one that the program has not closed.
    pub(in crate::segment) fn file(&self) -> Option<BorrowedFd<'_>> {
        match &self.tie {
            Tie::Named(attached) => attached.file().ok(),
            _ => self.nameless_file(),
        }
    }

    /// What ties this process to an object that has, or had, a name.
    pub(in crate::segment) fn attached(&self) -> Option<&attachment::FileAttachment> {
        match &self.tie {
            Tie::Named(attached) => Some(attached),
            _ => None,
        }
    }

    /// From here on this process is a user of an object with a name, whose leaving may
    /// take the name away.
    pub(in crate::segment) fn arm(&mut self, removal: Removal) {
        if let Tie::Named(attached) = &mut self.tie {
            attached.set_removal(removal);
        }
    }

    /// Device and inode number of what is mapped, if it is a file.
    pub(in crate::segment) fn identity(&self) -> Option<(u64, u64)> {
        match &self.tie {
            Tie::Named(attached) => Some(attached.identity()),
            Tie::Sealed(file) => Some(file.identity()),
            Tie::SystemV(_) | Tie::None => None,
        }
    }

    /// Returns whether a name, a key or an id still leads to the memory.
    pub(in crate::segment) fn is_linked(&self) -> Result<bool, Error> {
        match &self.tie {
            Tie::Named(attached) => attached.has_its_name().map_err(failure::of("lstat")),
            // A key goes with its segment's removal, and by no other way.
            Tie::SystemV(attached) => match sysv_shm::status(attached.id()) {
                Err(error) if sysv_shm::is_removed_error(&error) => Ok(false),
                status => status
                    .map(|status| !status.is_marked_for_removal)
                    .map_err(failure::of("shmctl(IPC_STAT)")),
            },
            Tie::Sealed(_) | Tie::None => Ok(false),
        }
    }

    pub(in crate::segment) fn system_v_id(&self) -> Option<Id> {
        match &self.tie {
            Tie::SystemV(attached) => Some(attached.id()),
            _ => None,
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        match &mut self.tie {
            Tie::Named(attached) => attached.prepare_to_leave(),
            Tie::SystemV(attached) => attached.leave(&self.mapping),
            Tie::Sealed(_) | Tie::None => {}
        }
    }
}

/// A placed `T`, and what keeps it there.
#[derive(Debug)]
pub(in crate::segment) struct MappedValue<T: SegmentContent + ?Sized> {
    value: NonNull<T>,
    /// Given up by `drop`, unless a lock inside is still held.
    hold: ManuallyDrop<Hold>,
}

impl<T: SegmentContent + ?Sized> MappedValue<T> {
    /// # Safety
    ///
    /// `value` is placed, in writable memory that stays as long as `hold`.
    pub(in crate::segment) unsafe fn new(value: NonNull<T>, hold: Hold) -> Self {
        Self {
            value,
            hold: ManuallyDrop::new(hold),
        }
    }

    pub(in crate::segment) fn hold(&self) -> &Hold {
        &self.hold
    }

    #[inline]
    pub(in crate::segment) fn value(&self) -> &T {
        // SAFETY: a placed T lies there for as long as this lives, and nobody has
        // exclusive access to it.
        unsafe { self.value.as_ref() }
    }
}

impl<T: SegmentContent + ?Sized> Drop for MappedValue<T> {
    fn drop(&mut self) {
        // No borrow of the value is left, so only a leaked guard can hold a
        // lock in it; no call to lock or unlock can still be running.
        let len = T::len_of(self.value);
        let walk = |report: &mut Visitor<'_>| T::visit(len, &FieldPath::root(), report);
        // SAFETY: the value is placed and still mapped.
        let must_stay = unsafe { init::any_held(self.value.cast(), walk) };
        if !must_stay {
            // SAFETY: dropped here and nowhere else.
            unsafe { ManuallyDrop::drop(&mut self.hold) };
        }
    }
}
