//! `Segment`: a value in shared memory.

use std::fmt;
use std::ops::Deref;
use std::os::fd::BorrowedFd;

use crate::error::Error;
use crate::segment::address::{Address, Backing};
use crate::segment::backing::mapped::Mapped;
use crate::segment::backing::{Attachment, MappedValue};
use crate::shm_safe::SegmentContent;

/// A `T` in memory that processes share.
///
/// It dereferences to `&T`. Data that changes while it is shared belongs in a
/// [`ShmMutex`](crate::ShmMutex) or an atomic.
///
/// ```
/// use shm_sync::{Segment, ShmMutex, unlink};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-segment-{}", std::process::id());
/// # let name = name.as_str();
/// // In one process, with a name such as "/jobs":
/// let mine = Segment::create(name, ShmMutex::new(0_u64))?;
/// *mine.lock()? += 1;
///
/// // In another process:
/// let theirs = Segment::<ShmMutex<u64>>::open(name)?;
/// assert_eq!(*theirs.lock()?, 1);
///
/// unlink(name)?;
/// # Ok(())
/// # }
/// ```
///
/// In the cookbook: [a counter](crate::guide::cookbook#a-counter),
/// [a file that persists](crate::guide::cookbook#a-file-that-persists),
/// [a new layout](crate::guide::cookbook#a-new-layout),
/// [containers](crate::guide::cookbook#containers),
/// [daemons](crate::guide::cookbook#daemons).
///
/// # Addresses
///
/// The [`Address`] selects the kind of memory: `"/jobs"` is a POSIX object, `"./jobs"`
/// a file, which persists, and `"sysv:42"` a System V segment. A
/// [`Path`](std::path::Path) is always a file. [`ToAddress`](crate::ToAddress) lists
/// the types that name a segment. An [anonymous](Self::anonymous) segment has no
/// address. Forked children share it, and other processes open it by its
/// [descriptor](crate::SegmentOptions::from_fd).
///
/// # Lifetime
///
/// Dropping a segment unmaps it from this process, and ignores errors.
/// [`close`](Self::close) returns them. [`SegmentOptions::removal`]
/// determines what happens to the name, and so to the memory. By default both stay
/// until a process calls [`unlink`]. A forked child inherits the mapping, and counts as
/// attached because of it. The child's copy does not depend on the parent's.
///
/// Dropping does not wait, with one exception: an [`UntilLastDetach`] file or POSIX
/// object that another process has locked. For a process that locks it to remove its
/// name and is then stopped, dropping waits up to 10 s. For a process that may only
/// read the object, it waits up to 250 ms. [`close`](Self::close) waits as long.
///
/// If this process still holds a lock in the segment when it drops the segment (a
/// leaked guard), the mapping stays until the process ends, because libc's and the
/// kernel's lists of held locks lead through it.
///
/// # Names that disappear
///
/// Other programs may remove a name. The attached processes go on with the segment.
/// Later processes find nothing, or create a new segment.
/// [`is_linked`](Self::is_linked) returns whether the name still exists.
///
/// * systemd-logind with `RemoveIPC=yes` (its default) removes the POSIX objects and
///   System V segments of an ordinary user when the last session of that user ends. It
///   keeps those of system users. So run a service that uses shared memory as a system
///   user, or let its user linger (`loginctl enable-linger`), or put the segment into a
///   file elsewhere, for example in `/run`.
/// * Cleaners of temporary directories (`systemd-tmpfiles`) remove old files.
///
/// # Crash behaviour
///
/// An object gets its name in one step, when it is complete. A System V segment has its
/// key from the start, but no process uses it before it is complete. If the creator
/// dies at any point, other processes see either the complete object or no object. The
/// kernel frees an unfinished POSIX object or file. On a file system without unnamed
/// files, it stays under a temporary name until a later creator or the tool's `gc`
/// removes it. The next process that creates the key of an unfinished System V segment,
/// or opens it for writing, removes that segment.
///
/// The kernel knows every attached process, by a lock on the object or by the attach
/// count of a System V segment. The kernel stops counting a process when it ends. A
/// reused process id makes no difference.
///
/// Creating reserves all memory, so a full file system is [`Error::NoSpace`], and not a
/// `SIGBUS` later. There are three exceptions:
///
/// * *A copy or a snapshot of a file* on a file system that shares blocks (btrfs, xfs).
///   The next write to each page of the original allocates a block. If no block is
///   free, the writer ends by `SIGBUS`. The copy gets blocks of its own when a process
///   first opens it for writing, except on btrfs.
/// * *btrfs in a directory with compression* writes each page to a new place, and ends
///   the writer by `SIGBUS` if there is none. Elsewhere on btrfs, a new segment's file
///   is exempt from that (`FS_NOCOW_FL`, tried on Linux 6.18), and has no checksums.
/// * *A memory cgroup* counts memory when a process touches it. If its limit is too
///   small, the kernel ends a process by `SIGKILL`, and no call returns an error.
///
/// A program may close all its descriptors (daemons call `closefrom`). It stays
/// attached by its mapping. Dropping the segment does not close a file that the program
/// has opened under the same number since, unless it is the very same object. On
/// overlayfs, the file system of most container images, the attachment ends with the
/// descriptor. The memory and its locks work on, but
/// [`attached_pids`](Self::attached_pids) may miss the process, and other processes may
/// remove the name of an [`UntilLastDetach`] segment, so that a new segment can get the
/// name. On overlayfs, close the descriptors before you open segments, or keep the
/// segments on a volume.
///
/// No descriptor of a segment has the number of standard input, output or error.
///
/// A POSIX object can outlive the container that used it, and a file the boot of the
/// machine. A file can be copied, alone or with its whole file system. The first
/// process that opens such an object reinitialises its locks, and poisons those that
/// were held. Restore a backup by renaming it into place. If you write it over the old
/// file instead, no process notices, and locks that were held in the backup stay held.
///
/// A System V segment can outlive its container. The first process that opens it in
/// another pid namespace reinitialises its locks and poisons those that were held, if
/// no other process is attached. Attached readers and C programs count as well. While
/// other processes are attached, opening fails after 250 ms
/// ([`Error::ForeignPidNamespace`]).
///
/// A process waits at most 10 s for another process that creates, reinitialises or
/// removes a System V segment. If that process is stopped, or its closure takes long,
/// the call returns [`Error::Unfinished`].
///
/// # Trust
///
/// Before an object is mapped, its owner, mode, kind, size, header and layout are
/// checked. Before a lock in it is used, the pid namespace is checked. (A System V
/// segment is mapped to read its header; its size cannot change.) Afterwards, every
/// process that may write to the object is trusted not to damage it on purpose. Readers
/// must trust the writers, too. So every way to open checks the owner, also
/// [`open_read_only`](Self::open_read_only).
///
/// The creator of a System V segment, and the creator's group, keep their rights when
/// the segment is given away. So they are checked in the same way as the owner and the
/// group ([`Error::WrongCreator`], [`Error::WrongCreatorGroup`]).
///
/// A process that may only *read* a segment changes nothing in it and takes none of its
/// locks. But it may place record locks on the file, as every reader of every file may.
/// With these it can
///
/// * count as attached: `gc` and [`IfAbandoned::Recreate`] do not remove the segment,
///   and the name of an [`UntilLastDetach`] segment stays;
/// * prevent the reinitialisation of stale locks after a reboot, in a copy, or after a
///   container has started again: opening returns [`Error::InUse`],
///   [`Error::ForeignPidNamespace`] or [`Error::Blocked`];
/// * prevent removal, which returns [`Error::Blocked`]. [`unlink`] still works;
/// * delay each of these calls by a quarter of a second, and
///   [`attached_pids`](Self::attached_pids) by up to a second.
///
/// These effects end when that process ends. Give users whom you do not trust no right
/// to read: see [`SegmentOptions::mode`].
///
/// [`SegmentOptions::mode`]: crate::SegmentOptions::mode
/// [`SegmentOptions::removal`]: crate::SegmentOptions::removal
/// [`unlink`]: crate::unlink
/// [`UntilLastDetach`]: crate::Removal::UntilLastDetach
/// [`IfAbandoned::Recreate`]: crate::IfAbandoned::Recreate
pub struct Segment<T: SegmentContent + ?Sized> {
    value: MappedValue<T>,
    address: Option<Address>,
}

// SAFETY: a segment lends `&T` to any thread that has it, as a `Box<T>` does, and its
// content is `Send` and `Sync`. Unmapping is not tied to a thread.
unsafe impl<T: SegmentContent + ?Sized> Send for Segment<T> {}
// SAFETY: sharing a segment shares `&T`, and its content is `Sync`.
unsafe impl<T: SegmentContent + ?Sized> Sync for Segment<T> {}

impl<T: SegmentContent + ?Sized> Segment<T> {
    /// Makes the handle of a mapped value.
    ///
    /// # Panics
    ///
    /// If the memory is read-only.
    pub(super) fn new(mapped: Mapped<T, Attachment>, address: Option<Address>) -> Self {
        Self {
            value: MappedValue::new(mapped),
            address,
        }
    }

    /// Returns the address, or `None` for an anonymous segment.
    ///
    /// This is a function and not a method, as with `Box`, because `T` may have a
    /// method of that name. Call it as `Segment::address(&segment)`. The other
    /// functions of this type are called in the same way.
    ///
    /// ```
    /// use shm_sync::{Backing, Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let segment = Segment::anonymous(ShmMutex::new(0_u64))?;
    /// assert_eq!(Segment::address(&segment), None);
    /// assert_eq!(Segment::backing(&segment), Backing::Memfd);
    /// assert!(Segment::mapped_len(&segment) > size_of::<ShmMutex<u64>>());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn address(this: &Self) -> Option<&Address> {
        this.address.as_ref()
    }

    /// Returns the kind of memory that contains the segment.
    #[must_use]
    pub fn backing(this: &Self) -> Backing {
        this.address
            .as_ref()
            .map_or(Backing::Memfd, Address::backing)
    }

    /// Returns the length of the mapping in bytes: the header, its tables and the
    /// value.
    #[must_use]
    pub fn mapped_len(this: &Self) -> usize {
        Self::attachment(this).mapping().len()
    }

    /// Returns the descriptor of an [anonymous](Segment::anonymous) segment, which
    /// another process opens with [`from_fd`](crate::SegmentOptions::from_fd). It is
    /// closed on `exec`. Returns `None` for segments that have an address, and if the
    /// program has closed the descriptor (`closefrom`).
    ///
    /// Do not write through it: arbitrary bytes break the validity of `T`. A process
    /// that has the descriptor could write them, and so could every process that has
    /// the segment open.
    #[must_use]
    pub fn as_fd(this: &Self) -> Option<BorrowedFd<'_>> {
        Self::attachment(this).memfd()
    }

    /// Unmaps the segment, as `drop` does, and returns the error that `drop` ignores.
    /// Call it as `Segment::close(segment)`.
    ///
    /// ```
    /// use shm_sync::{Removal, Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// # let name = format!("/shm-sync-doc-close-{}", std::process::id());
    /// # let name = name.as_str();
    /// let jobs = Segment::<ShmMutex<u64>>::options()
    ///     .removal(Removal::UntilLastDetach)
    ///     .create(name, ShmMutex::new(0))?;
    /// Segment::close(jobs)?;
    /// # assert!(Segment::<ShmMutex<u64>>::open(name).is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// In each case the segment is closed for this program: a second call is neither
    /// possible nor needed.
    ///
    /// * [`Error::LocksHeld`]: this process still holds a lock in the segment, so it
    ///   stays mapped and attached.
    /// * [`Error::PermissionDenied`], [`Error::Blocked`]: this process is the last user
    ///   of a [`Removal::UntilLastDetach`] segment, and can't remove its name. The name
    ///   stays: see [`Removal::UntilLastDetach`].
    /// * [`Error::Os`]: the kernel refused to unmap the memory, or another call that
    ///   the removal needs.
    ///
    /// It is no error if another process is attached, or if the name is gone.
    ///
    /// # Crash behaviour
    ///
    /// That of `drop`: a process that is killed in this call leaves the name either
    /// present or absent, and does not count as attached.
    ///
    /// [`Removal::UntilLastDetach`]: crate::Removal::UntilLastDetach
    pub fn close(this: Self) -> Result<(), Error> {
        let Self { value, address } = this;
        let closed = value.close();
        closed.map_err(|error| at(address.as_ref(), error))
    }

    /// Adds the address of the segment to an error.
    pub(super) fn named(this: &Self, error: Error) -> Error {
        at(this.address.as_ref(), error)
    }

    pub(super) fn attachment(this: &Self) -> &Attachment {
        this.value.attachment()
    }
}

fn at(address: Option<&Address>, error: Error) -> Error {
    match address {
        Some(address) => error.at(address),
        None => error,
    }
}

impl<T: SegmentContent + ?Sized> Deref for Segment<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value.value()
    }
}

impl<T: SegmentContent + ?Sized> fmt::Debug for Segment<T> {
    /// Shows the segment and not its content, because `T` need not be `Debug`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("address", &Self::address(self).map(Address::as_os_str))
            .field("type", &std::any::type_name::<T>())
            .field("mapped_len", &Self::mapped_len(self))
            .finish()
    }
}
