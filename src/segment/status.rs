//! What can be asked of a segment: who is attached, how the system sees it; and
//! making it last.

use crate::error::Error;
use crate::os::mem::sysv_shm;
use crate::os::proc::maps::MapsSnapshot;
use crate::segment::Segment;
use crate::segment::content::SegmentContent;
use crate::segment::failure;

/// What the system knows of a System V segment (`IPC_STAT`).
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemVStatus {
    /// The key; 0 if it has none, or not any more.
    pub key: i32,
    /// The id.
    pub id: i32,
    /// The user id of the owner.
    pub owner: u32,
    /// The id of its group.
    pub group: u32,
    /// The permission bits.
    pub mode: u32,
    /// Its size in bytes, as it was asked for; its memory is whole pages.
    pub size: u64,
    /// How many times it is attached, by whatever process.
    pub attached: u64,
    /// The process that created it.
    pub creator_pid: i32,
    /// The process that attached or detached last.
    pub last_pid: i32,
    /// When it was attached last, in seconds since 1970; 0 if never.
    pub attach_time: i64,
    /// When it was detached last, in seconds since 1970; 0 if never.
    pub detach_time: i64,
    /// When it was created or its permissions changed, in seconds since 1970.
    pub change_time: i64,
    /// Whether it is kept in memory (`SHM_LOCK`).
    pub is_locked: bool,
    /// Whether it goes when the last process detaches (`IPC_RMID` was called).
    pub is_removed: bool,
}

impl<T: SegmentContent + ?Sized> Segment<T> {
    /// The ids of the processes that have this segment mapped at this moment, this
    /// one among them: forked children, and those that only read, as well. Call it as
    /// `Segment::attached(&segment)`.
    ///
    /// The kernel answers, so no dead process is in it. This process may not look into
    /// every process: not into those of other users, which `/proc` may hide as well
    /// (`hidepid`). Such a process is in the answer if it opened the segment by its
    /// name. It is missing if it inherited the segment, or if it is a System V segment,
    /// of which [`SystemVStatus::attached`] counts all.
    ///
    /// A process that may read the segment can hold any number of locks on it. The
    /// call returns all the same within a second or so, but processes that `/proc`
    /// hides may then be missing.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if `/proc` can't be read.
    pub fn attached_pids(this: &Self) -> Result<Vec<u32>, Error> {
        let hold = this.placed.hold();
        let survey = MapsSnapshot::take().map_err(failure::of_call("reading /proc"))?;
        if let Some(id) = hold.system_v_id() {
            return Ok(survey.mapping_system_v(id.0));
        }
        let Some((device, inode)) = hold.identity() else {
            return Ok(Vec::new());
        };
        let mut pids = survey.mapping(device, inode);
        pids.push(std::process::id());
        if let Some(attached) = hold.attached() {
            let registered = attached.attached_pids(&survey.unreadable);
            let mut registered = registered.map_err(failure::of_lock("fcntl(F_OFD_GETLK)"))?;
            registered.retain(|pid| survey.may_map(*pid, inode));
            pids.extend(registered);
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Returns whether the address still leads to this segment. If a process has taken
    /// the name away ([`unlink`](crate::unlink)), or another object has it now, this
    /// returns `false`, and later processes do not find this segment. Returns `false`
    /// for an anonymous segment. Call it as `Segment::is_linked(&segment)`.
    ///
    /// A service that runs for long calls this now and then, and creates its segment
    /// anew if another program has taken the name away: see
    /// [`Segment`](crate::Segment#names-that-go). The answer may be out of date when
    /// the call returns.
    ///
    /// # Errors
    ///
    /// [`Error::PermissionDenied`] if this process may not search a directory of the
    /// path, [`Error::Os`] if the system refuses to answer.
    pub fn is_linked(this: &Self) -> Result<bool, Error> {
        this.placed.hold().is_linked()
    }

    /// Writes what was changed to the device of the file that the segment is in, and
    /// comes back when it is there ([`msync(2)`](https://man7.org/linux/man-pages/man2/msync.2.html),
    /// `MS_SYNC`). Nothing to do for segments that live in memory. Call it as
    /// `Segment::flush(&segment)`.
    ///
    /// # Crash behaviour
    ///
    /// Processes need no `flush` to see each other's changes, nor to survive each
    /// other's deaths. It is for power failures: the system writes pages whenever
    /// and in whatever order it likes, so a file that was changed after its last
    /// flush may come back half-changed.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] if the device fails.
    pub fn flush(this: &Self) -> Result<(), Error> {
        this.placed
            .hold()
            .mapping()
            .sync()
            .map_err(failure::of("msync"))
    }

    /// What the system knows of a System V segment; `None` for other kinds. Call it
    /// as `Segment::system_v_status(&segment)`.
    ///
    /// # Errors
    ///
    /// [`Error::Os`].
    pub fn system_v_status(this: &Self) -> Result<Option<SystemVStatus>, Error> {
        let Some(id) = this.placed.hold().system_v_id() else {
            return Ok(None);
        };
        let status = sysv_shm::status(id).map_err(failure::of("shmctl(IPC_STAT)"))?;
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
