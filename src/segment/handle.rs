//! `Segment`: a value in shared memory.

use std::fmt;
use std::ops::Deref;
use std::os::fd::BorrowedFd;

use crate::segment::address::{Address, Backing};
use crate::segment::backing::mapped::Mapped;
use crate::segment::backing::{Attachment, MappedValue};
use crate::segment::content::SegmentContent;

/// A `T` in memory that processes share.
///
/// It dereferences to `&T`. What should change while it is shared belongs in
/// a [`ShmMutex`](crate::ShmMutex) or an atomic.
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
/// // In another:
/// let theirs = Segment::<ShmMutex<u64>>::open(name)?;
/// assert_eq!(*theirs.lock()?, 1);
///
/// unlink(name)?;
/// # Ok(())
/// # }
/// ```
///
/// # Where it is
///
/// The [`Address`] says which kind of memory it is: `"/jobs"` is a POSIX object,
/// `"./jobs"` a file, which persists, `"sysv:42"` a System V segment. What is
/// [anonymous](Self::anonymous) has no address; forked children share it, and
/// others by its [descriptor](Self::from_fd).
///
/// # Life
///
/// Dropping a segment unmaps it from this process. What becomes of its name, and
/// so of the memory, [`SegmentOptions::removal`] says: by default it stays until
/// [`unlink`] takes it away. A forked child inherits the mapping, and counts as
/// attached by it; whether and when it drops its copy does not concern the parent.
///
/// If a lock in the segment is still held by this process when the segment is
/// dropped (a leaked guard), the mapping stays until the process ends, because
/// libc's and the kernel's lists of held locks lead through it.
///
/// # Names that go
///
/// Other programs may take a name away. The processes that are attached go on with the
/// segment. Later ones find nothing, or create a new segment.
/// [`is_linked`](Self::is_linked) returns whether the name is still there.
///
/// * systemd-logind with `RemoveIPC=yes` (its default) removes the POSIX objects and
///   System V segments of an ordinary user when the last session of that user ends.
///   Those of system users stay. So run a service that uses shared memory as a system
///   user, or let its user linger (`loginctl enable-linger`), or put the segment into a
///   file elsewhere, in `/run` for example.
/// * Cleaners of temporary directories (`systemd-tmpfiles`) remove old files.
///
/// # Crash behaviour
///
/// An object gets its name when it is complete, in one step; a System V segment,
/// whose key can't be given to it later, is not used before it is complete.
/// Whatever moment its creator dies at, others find the whole object or none, and
/// what it had begun is freed: by the kernel, or, under a System V key, by
/// whoever opens or creates it next.
///
/// Every attached process is known to the kernel, by a lock on the object or, of
/// System V, by its count. So nobody is overlooked, whatever way it ends, and
/// nobody is taken for alive by its process id.
///
/// Creating reserves all memory, so a full file system is [`Error::NoSpace`] and not a
/// `SIGBUS` later. There are three exceptions:
///
/// * *A copy or a snapshot of a file* on a file system that shares blocks (btrfs, xfs).
///   The next write to each page of the original needs new room. If there is none, the
///   writer ends by `SIGBUS`. The copy gets blocks of its own when a process first opens
///   it for writing, except on btrfs.
/// * *btrfs in a directory with compression* writes each page to a new place, and ends
///   the writer by `SIGBUS` if there is none. Elsewhere on btrfs, a new segment's file
///   is exempt from that (`FS_NOCOW_FL`, tried on Linux 6.18), and has no checksums.
/// * *A memory cgroup* counts memory when a process touches it. If its limit is too
///   small, the kernel ends a process by `SIGKILL`, and no call returns an error.
///
/// A program may close all its descriptors (daemons call `closefrom`). It stays
/// attached by its mapping. Dropping the segment does not close a file that the program
/// has opened under the same number since, unless it is the very same object. On
/// overlayfs, the file system of most container images, the attachment ends
/// with the descriptor. The memory and its locks work on, but
/// [`attached`](Self::attached) may miss the process, and other processes may take the
/// name of an `UntilLastDetach` segment away, so that a new segment can get the name.
/// There, open segments after closing descriptors, or keep them on a volume.
///
/// No descriptor of a segment has the number of standard input, output or error.
///
/// A POSIX object can outlive the container that used it, and a file the boot of
/// the machine. A file can be copied, alone or with its whole file system. The first
/// process that opens such an object makes its locks anew, and poisons those that were
/// held. Restore a backup by renaming it into place. If you write it over the old file
/// instead, no process notices, and locks that were held in the backup stay held.
///
/// A System V segment can outlive its container. The first process that opens it in
/// another pid namespace makes its locks anew and poisons those that were held, if no
/// other process is attached. Attached readers and C programs count as well.
/// While other processes are attached, opening fails after 250 ms
/// ([`Error::ForeignPidNamespace`]).
///
/// A process waits at most 10 s for another process that creates, renews or removes a
/// System V segment. If that process is stopped, or its closure takes long, the call
/// returns [`Error::Unfinished`].
///
/// # Trust
///
/// Before an object is mapped, its owner, mode, kind, size, header and layout are
/// checked; before a lock in it is used, the pid namespace. (A System V segment is
/// mapped to read its header; its size can't change.) Afterwards, whoever may write to
/// it is trusted not to damage it on purpose.
///
/// The creator of a System V segment, and the creator's group, keep their rights when
/// the segment is given away. So they are checked as owner and group are
/// ([`Error::WrongCreator`], [`Error::WrongCreatorGroup`]).
///
/// A process that may only *read* a segment changes nothing in it and takes none of its
/// locks. But it may place record locks on the file, as every reader of every file may.
/// With these it can
///
/// * count as attached: `gc` and [`IfAbandoned::Recreate`] leave the segment alone, and
///   the name of an `UntilLastDetach` segment stays;
/// * prevent that locks are made anew after a reboot, in a copy, or after a container
///   has started again: opening returns [`Error::InUse`], [`Error::ForeignPidNamespace`]
///   or [`Error::Blocked`];
/// * prevent removal, which returns [`Error::Blocked`]. [`unlink`] works all the same;
/// * delay each of these calls by a quarter of a second, and
///   [`attached`](Self::attached) by up to a second.
///
/// All that ends when the process does. If you do not trust readers so far, give them no
/// right to read: see [`SegmentOptions::mode`].
pub struct Segment<T: SegmentContent + ?Sized> {
    value: MappedValue<T>,
    address: Option<Address>,
}

// SAFETY: a segment lends out `&T` from any thread that has it, as a `Box<T>`
// would; its content must be Send and Sync. Unmapping is not tied to a thread.
unsafe impl<T: SegmentContent + ?Sized> Send for Segment<T> {}
// SAFETY: sharing a segment shares `&T`, and T is Sync.
unsafe impl<T: SegmentContent + ?Sized> Sync for Segment<T> {}

impl<T: SegmentContent + ?Sized> Segment<T> {
    /// # Panics
    ///
    /// If the memory is read-only.
    pub(super) fn new(mapped: Mapped<T, Attachment>, address: Option<Address>) -> Self {
        Self {
            value: MappedValue::new(mapped),
            address,
        }
    }

    /// The address, if it has one.
    ///
    /// A function and not a method, as with `Box`: `T` may have a method of that
    /// name. Call it as `Segment::address(&segment)`; so with all that follow.
    #[must_use]
    pub fn address(this: &Self) -> Option<&Address> {
        this.address.as_ref()
    }

    /// The address as text, if it has one.
    #[must_use]
    pub fn name(this: &Self) -> Option<&str> {
        this.address.as_ref().map(Address::as_str)
    }

    /// Which kind of memory it is in.
    #[must_use]
    pub fn backing(this: &Self) -> Backing {
        this.address
            .as_ref()
            .map_or(Backing::Memfd, Address::backing)
    }

    /// How many bytes of memory are mapped: the header and the value.
    #[must_use]
    pub fn mapped_len(this: &Self) -> usize {
        Self::attachment(this).mapping().len()
    }

    /// The descriptor of an [anonymous](Segment::anonymous) segment, to give it to
    /// another process ([`from_fd`](Self::from_fd)). It is closed on `exec`. `None` for
    /// segments that have an address, and if the program has closed the descriptor
    /// (`closefrom`).
    ///
    /// Who has it may write any bytes by it, as every process may to which a segment
    /// is open: don't, or values may be none of their types.
    #[must_use]
    pub fn as_fd(this: &Self) -> Option<BorrowedFd<'_>> {
        Self::attachment(this).memfd()
    }

    pub(super) fn attachment(this: &Self) -> &Attachment {
        this.value.attachment()
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
    /// What it is, not what is in it: `T` need not be `Debug`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("address", &Self::name(self))
            .field("type", &std::any::type_name::<T>())
            .field("mapped_len", &Self::mapped_len(self))
            .finish()
    }
}
