//! Queries about a segment (attached processes, name, System V status), and `flush`.

use crate::error::Error;
use crate::os::mem::sysv_shm;
use crate::os::proc::maps::MapsSnapshot;
use crate::segment::failure;
use crate::segment::handle::Segment;
use crate::shm_safe::SegmentContent;

/// The kernel's data about a System V segment (`IPC_STAT`), which
/// [`Segment::system_v_status`] returns.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SystemVStatus {
    /// The key. 0 if the segment has none, or was removed.
    pub key: i32,
    /// The id.
    pub id: i32,
    /// The user id of the owner.
    pub owner: u32,
    /// The group id.
    pub group: u32,
    /// The permission bits.
    pub mode: u32,
    /// The size in bytes that was requested. The memory is whole pages.
    pub size: u64,
    /// The number of attachments, by all processes.
    pub attached: u64,
    /// The id of the process that created it.
    pub creator_pid: i32,
    /// The id of the process that attached or detached last.
    pub last_pid: i32,
    /// The time of the last attach, in seconds since 1970. 0 if there was none.
    pub attach_time: i64,
    /// The time of the last detach, in seconds since 1970. 0 if there was none.
    pub detach_time: i64,
    /// The time of its creation or of the last change of its permissions, in seconds
    /// since 1970.
    pub change_time: i64,
    /// `true` if it is locked in memory (`SHM_LOCK`).
    pub is_locked: bool,
    /// `true` if it is marked for removal when the last process detaches (`IPC_RMID`
    /// was called).
    pub is_removed: bool,
}

impl<T: SegmentContent + ?Sized> Segment<T> {
    /// Returns the ids of the processes that have this segment mapped at this moment,
    /// this process and forked children included, and also those that only read. Call
    /// it as `Segment::attached_pids(&segment)`.
    ///
    /// The kernel provides the answer, so it contains no dead process. It can be
    /// incomplete:
    ///
    /// * This process cannot inspect the processes of other users, which `/proc` may
    ///   also hide (`hidepid`). The answer contains those that opened the segment by
    ///   its name, but not those that inherited it. Of a System V segment, it contains
    ///   none of them. There, [`SystemVStatus::attached`] counts all attachments.
    /// * A process that may read the segment can hold any number of locks on it. The
    ///   call still returns within about a second, but processes that `/proc` hides may
    ///   then be missing.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let jobs = Segment::anonymous(ShmMutex::new(0_u64))?;
    /// assert_eq!(Segment::attached_pids(&jobs)?, [std::process::id()]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if `/proc` can't be read.
    pub fn attached_pids(this: &Self) -> Result<Vec<u32>, Error> {
        Self::find_attached_pids(this).map_err(|error| Self::named(this, error))
    }

    fn find_attached_pids(this: &Self) -> Result<Vec<u32>, Error> {
        let attachment = Self::attachment(this);
        let survey = MapsSnapshot::take().map_err(failure::call_error("reading /proc"))?;
        if let Some(id) = attachment.system_v_id() {
            return Ok(survey.mapping_system_v(id.0));
        }
        let Some((device, inode)) = attachment.identity() else {
            return Ok(Vec::new());
        };
        let mut pids = survey.mapping(device, inode);
        pids.push(std::process::id());
        if let Some(file) = attachment.as_file() {
            let mut registered = file.attached_pids(&survey.unreadable)?;
            registered.retain(|pid| survey.may_map(*pid, inode));
            pids.extend(registered);
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Returns whether the address still leads to this segment. Call it as
    /// `Segment::is_linked(&segment)`.
    ///
    /// It returns `false` if a process has removed the name
    /// ([`unlink`](crate::unlink)), or if another object has the name now. Later
    /// processes then do not find this segment. It also returns `false` for an
    /// anonymous segment.
    ///
    /// A service that runs for a long time can call this from time to time, and create
    /// its segment again if another program has removed the name: see
    /// [`Segment`](crate::Segment#names-that-disappear). The answer may be out of date
    /// when the call returns.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmMutex, unlink};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// # let name = format!("/shm-sync-doc-is-linked-{}", std::process::id());
    /// # let name = name.as_str();
    /// let jobs = Segment::create(name, ShmMutex::new(0_u64))?;
    /// assert!(Segment::is_linked(&jobs)?);
    /// unlink(name)?;
    /// assert!(!Segment::is_linked(&jobs)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::PermissionDenied`] if this process may not search a directory of the
    /// path, [`Error::Os`] if another system call fails.
    pub fn is_linked(this: &Self) -> Result<bool, Error> {
        let is_linked = Self::attachment(this).is_linked();
        is_linked.map_err(|error| Self::named(this, error))
    }

    /// Writes all changes to the device of the segment's file, and returns when they
    /// are there ([`msync(2)`], `MS_SYNC`). It does nothing for segments in memory.
    /// Call it as `Segment::flush(&segment)`. The cookbook has
    /// [an example](crate::guide::cookbook#a-file-that-persists).
    ///
    /// # Crash behaviour
    ///
    /// Processes need no `flush` to see each other's changes, nor to survive each
    /// other's deaths. It is for power failures: the system writes pages at any time
    /// and in any order, so a file that was changed after its last flush may contain
    /// half of the changes.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if the device fails.
    ///
    /// [`msync(2)`]: https://man7.org/linux/man-pages/man2/msync.2.html
    pub fn flush(this: &Self) -> Result<(), Error> {
        let synced = Self::attachment(this).mapping().sync();
        synced.map_err(|source| Self::named(this, failure::os_error("msync")(source)))
    }

    /// Returns the kernel's data about a System V segment, and `None` for other
    /// backings. Call it as `Segment::system_v_status(&segment)`.
    ///
    /// ```
    /// use shm_sync::{Removal, Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let jobs = Segment::<ShmMutex<u64>>::options()
    ///     .removal(Removal::UntilLastDetach)
    ///     .create_system_v_private(ShmMutex::new(0))?;
    /// let status = Segment::system_v_status(&jobs)?;
    /// assert_eq!(status.map(|status| status.attached), Some(1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if `shmctl` fails.
    pub fn system_v_status(this: &Self) -> Result<Option<SystemVStatus>, Error> {
        let Some(id) = Self::attachment(this).system_v_id() else {
            return Ok(None);
        };
        let status = sysv_shm::status(id).map_err(|source| {
            let error = failure::os_error("shmctl(IPC_STAT)")(source);
            Self::named(this, error)
        })?;
        Ok(Some(SystemVStatus {
            key: status.key,
            id: id.0,
            owner: status.owner,
            group: status.group,
            mode: status.mode,
            size: status.len,
            attached: status.attached,
            creator_pid: status.creator_pid,
            last_pid: status.last_pid,
            attach_time: status.attach_time,
            detach_time: status.detach_time,
            change_time: status.change_time,
            is_locked: status.is_locked,
            is_removed: status.is_marked_for_removal,
        }))
    }
}
