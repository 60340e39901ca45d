//! System V segments: never used before they are complete, although a key can't
//! be published with its segment; removed by the last one out.
//!
//! [`birth`](crate::segment::birth) has the states. In short: whoever finds a segment
//! unfinished waits on its robust lock, and clears it away if the creator is dead;
//! a creator whose segment was cleared away begins anew. A segment that is being
//! filled is told from a foreign one that is zero by its mode: [`UNBORN`].
//!
//! # The last one out
//!
//! The kernel counts attachments, and counts down for the dead. Who leaves looks
//! first: takes the lock, says `REMOVING`, and asks for the count. If it is 1, the
//! looker itself, the segment is removed; if not, it is `READY` as before, and the
//! looker detaches. If nobody is attached then, it comes back for another look.
//! Two who look at the same time see each other and leave it; but each then asks
//! again after its own detachment, so the later one finds nobody and looks once
//! more.
//!
//! A process that leaves or removes does not wait for the lock. The holder of the lock
//! is attached, so the segment is in use, and the holder asks again when it leaves.
//!
//! Removal goes by the id, so it can't hit a segment that got the key meanwhile. (The
//! kernel gives an id out again after some 65,000 creations; a leaver would have to be
//! stopped for so long between detaching and looking.)
//!
//! # Strangers
//!
//! A lock leads its holder to other memory: libc's list of held locks runs through it.
//! So no lock is taken, and no word is believed, in a segment to which a user may write
//! that is not trusted ([`SegmentOptions::trusts`]). The owner's word for it is not
//! enough, since the creator keeps all rights. Of such a segment only the kernel's facts
//! count (`IPC_STAT`), and its first bytes are read, to tell a segment of this crate
//! from another program's.

mod probe;
mod removal;
mod settle;
pub(in crate::segment) mod state;

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use crate::error::{Error, LockError};
use crate::init;
use crate::os::fork::ForkMarker;
use crate::os::mem::sysv_shm::{self, Id};
use crate::os::mem::{Access, Mapping, Pages};
use crate::os::regular_file::{effective_group, effective_user};
use crate::robust;
use crate::segment::address::Target;
use crate::segment::backing::Hold;
use crate::segment::backing::sysv::state::{AttachBackoff, SysvState};
use crate::segment::content::SegmentContent;
use crate::segment::failure;
use crate::segment::format::epoch::Validity;
use crate::segment::format::header::Header;
use crate::segment::format::writer::{self, SegmentLayout};
use crate::segment::options::SegmentOptions;
use crate::segment::policy::Removal;
use crate::shm_safe::{FieldPath, Visitor};
use removal::{Unlocked, remove_if_abandoned, remove_if_alone};
use settle::{Obstacle, Settled, attach, attach_in, find, is_of_our_namespace, seize};

pub(crate) use probe::{Lifecycle, Probe};
pub(in crate::segment) use removal::remove_abandoned_at;
pub(crate) use settle::is_marked_unfinished;

/// Mode bits of a segment that is not complete yet. System V gives "execute" no
/// meaning, and nobody gives it to group and others without the owner.
const UNBORN: u32 = 0o011;
pub(in crate::segment) const EXECUTE: u32 = 0o111;
/// Reading and writing, for the owner.
const OWNER: u32 = 0o600;

/// The attachment of this process. Dropped after the mapping.
///
/// A forked child has an attachment of its own, which the kernel counts, so this is
/// dropped there as anywhere.
#[derive(Debug)]
pub(in crate::segment) struct SysvAttachment {
    id: Id,
    removal: Removal,
    /// They say whose memory is trusted.
    options: SegmentOptions,
}

impl SysvAttachment {
    pub(in crate::segment) fn id(&self) -> Id {
        self.id
    }

    /// To be called while `mapping`, of this attachment, is still there. The only
    /// one takes the key away before it detaches: no looker finds it abandoned.
    pub(in crate::segment) fn leave(&mut self, mapping: &Mapping) {
        let may_be_last = self.removal == Removal::UntilLastDetach
            && mapping.access() == Access::ReadWrite
            && sysv_shm::status(self.id)
                .is_ok_and(|status| status.attached == 1 && self.options.trusts(&status));
        if may_be_last && remove_if_alone(self.id, mapping).is_ok_and(|gone| gone.is_some()) {
            self.removal = Removal::Persistent; // nothing is left to do
        }
    }
}

impl Drop for SysvAttachment {
    fn drop(&mut self) {
        if self.removal == Removal::UntilLastDetach {
            // Whoever can't remove it leaves it to others, and to `gc`.
            let _ = remove_if_abandoned(&self.options, self.id, Unlocked::Stays);
        }
    }
}

/// What an attempt to create came to.
pub(in crate::segment) enum Creation<T: ?Sized> {
    Done(NonNull<T>, Hold),
    /// There is one already, complete.
    Exists,
}

/// Creates the segment of a key, or one without.
///
/// `write` is taken when the segment is about to be filled.
pub(in crate::segment) fn create<T, W>(
    options: &SegmentOptions,
    key: Option<i32>,
    len: usize,
    write: &mut Option<W>,
) -> Result<Creation<T>, Error>
where
    T: SegmentContent + ?Sized,
    W: FnOnce(NonNull<T>, usize),
{
    // What could not be opened with these options is not created.
    options.check_creator(effective_user(), effective_group())?;
    let plan = SegmentLayout::of::<T>(len, NonZeroUsize::MIN, options.removal)?;
    let total = plan.total_len();
    let of_memory = |call| {
        move |source| match options.pages {
            Pages::Normal => failure::of_memory(total.get(), call)(source),
            Pages::Huge => failure::of_huge_pages(total.get(), call)(source),
        }
    };
    loop {
        // Its creator must be able to attach to it, whatever it is to become.
        let mode = options.mode | OWNER | UNBORN;
        let created = match key {
            Some(key) => sysv_shm::create(key, total, mode, options.pages),
            None => sysv_shm::create_private(total, mode, options.pages),
        };
        let id = match (created, key) {
            (Err(error), Some(key)) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                if is_strange_or_complete(options, key) {
                    return Ok(Creation::Exists);
                }
                // Unless what is there is what a dead creator left.
                match attach(options, &Target::SystemVKey(key), Access::ReadWrite) {
                    Err(Error::NotFound) => continue,
                    Err(
                        error @ (Error::Unidentified(_)
                        | Error::Lock(LockError::TooManyLocks)
                        | Error::Unfinished { .. }),
                    ) => return Err(error),
                    // It was completed meanwhile.
                    Ok((id, it)) => it.leave(options, id),
                    Err(_) => {}
                }
                return Ok(Creation::Exists);
            }
            // Key and length are not zero, so it is longer than `SHMMAX`.
            (Err(error), _) if error.kind() == std::io::ErrorKind::InvalidInput => {
                return Err(of_memory("shmget")(std::io::ErrorKind::StorageFull.into()));
            }
            (Err(error), _) => return Err(of_memory("shmget")(error)),
            (Ok(id), _) => id,
        };
        match fill(options, id, &plan, write) {
            // Somebody has cleared it away, because it had to wait too long.
            Ok(None) => {}
            Ok(Some((value, hold))) => return Ok(Creation::Done(value, hold)),
            Err(error) => return Err(error),
        }
    }
}

/// Whether the segment of a key is a stranger's, which is left alone, or complete. Only
/// looks: who attached and left might be the last one out.
fn is_strange_or_complete(options: &SegmentOptions, key: i32) -> bool {
    let Ok(id) = sysv_shm::find(key) else {
        return false;
    };
    if sysv_shm::status(id).is_ok_and(|status| !options.trusts(&status)) {
        return true;
    }
    let look = Probe::at(id, options);
    matches!(look, Ok(Some(look)) if look.lifecycle() == Lifecycle::Ready)
}

/// Fills a new segment. `None` if it was cleared away before that began.
fn fill<T, W>(
    options: &SegmentOptions,
    id: Id,
    plan: &SegmentLayout,
    write: &mut Option<W>,
) -> Result<Option<(NonNull<T>, Hold)>, Error>
where
    T: SegmentContent + ?Sized,
    W: FnOnce(NonNull<T>, usize),
{
    let mut unborn = Unborn {
        id,
        mapping: None,
        mark: robust::current_marker().inspect_err(|_| drop(sysv_shm::remove(id)))?,
    };
    let mapping = match sysv_shm::attach(id, Access::ReadWrite) {
        Err(error) if sysv_shm::is_removed_error(&error) => {
            std::mem::forget(unborn); // its id may be given out again
            return Ok(None);
        }
        other => other.map_err(failure::of_memory(plan.total_len().get(), "shmat"))?,
    };
    let mapping = unborn.mapping.insert(mapping);
    // SAFETY: the segment is as long as the plan says: longer than a header.
    let birth = unsafe { SysvState::of(mapping) };
    // SAFETY: this process has just created it, and it is virgin.
    unsafe { birth.make_lock() }?;
    // SAFETY: others read no more than the state before it changes.
    unsafe { plan.write_header(mapping) };
    // SAFETY: made just now, by this thread.
    let held = unsafe { birth.lock() }?;
    if !birth.try_leave_new(state::INITIALIZING) {
        return Ok(None);
    }
    let Some(write) = write.take() else {
        unreachable!("it is taken once: nobody clears away what is gestating");
    };
    // SAFETY: the lock keeps others away until it is complete; a new segment is
    // zero. The mapping stays as `Segment` keeps it.
    let value = unsafe { plan.fill(mapping, write) }?;
    options.settle_in_system_v(mapping, id)?;
    sysv_shm::set_permissions(id, options.owner, options.group, options.mode)
        .map_err(failure::of_call("shmctl(IPC_SET)"))?;
    birth.set_state(state::READY);
    drop(held);

    let mapping = unborn.mapping.take();
    std::mem::forget(unborn);
    let removal = options.removal;
    let options = options.clone();
    let attached = SysvAttachment {
        id,
        removal,
        options,
    };
    let hold = mapping.map(|mapping| Hold::system_v(mapping, attached));
    let Some(hold) = hold else {
        unreachable!("it was put there above");
    };
    Ok(Some((value, hold)))
}

/// A segment that its creator has not finished. Dropped (an error, a panic), it is
/// removed: its lock is given back by then. A child that the creator's closure forked
/// only detaches.
struct Unborn {
    id: Id,
    mapping: Option<Mapping>,
    /// Of the creator.
    mark: ForkMarker,
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if !self.mark.is_current() {
            return;
        }
        if let Some(mapping) = &self.mapping {
            // SAFETY: longer than a header: see `fill`.
            unsafe { SysvState::of(mapping) }.set_state(state::DEAD);
        }
        let _ = sysv_shm::remove(self.id);
    }
}

/// Opens the segment of `target`, after checking that it is what it should be.
pub(in crate::segment) fn open<T: SegmentContent + ?Sized>(
    options: &SegmentOptions,
    target: &Target,
    access: Access,
) -> Result<(NonNull<T>, Hold), Error> {
    let mut visits = AttachBackoff::new();
    loop {
        let (id, settled) = attach_in(options, target, access, &mut visits)?;
        match enter(options, id, &settled, access) {
            Ok(Some(value)) => {
                // From here on this process is a user, whose leaving may remove the
                // segment.
                let attached = SysvAttachment {
                    id,
                    removal: settled.header.removal,
                    options: options.clone(),
                };
                return Ok((value, Hold::system_v(settled.mapping, attached)));
            }
            Ok(None) => {
                drop(settled);
                Obstacle::OtherNamespace.pause(&mut visits)?;
            }
            Err(error) => {
                settled.leave(options, id);
                return Err(error);
            }
        }
    }
}

/// Checks that a segment holds a `T`, and makes its locks valid here. Returns `None` if
/// they are not, and others are attached.
fn enter<T: SegmentContent + ?Sized>(
    options: &SegmentOptions,
    id: Id,
    settled: &Settled,
    access: Access,
) -> Result<Option<NonNull<T>>, Error> {
    let (mapping, header) = (&settled.mapping, &settled.header);
    let len = header.check_layout::<T>()?;
    let is_right =
        access == Access::ReadOnly || !settled.is_half_renewed && is_of_our_namespace(header)?;
    if !is_right && !renew::<T>(id, mapping, header, len, settled.is_half_renewed)? {
        return Ok(None);
    }
    options.settle_in_system_v(mapping, id)?;
    // SAFETY: the header is of this object, and all of it is mapped.
    let base = unsafe { writer::value_in(mapping, header) };
    Ok(Some(T::at(base, len)))
}

/// Makes the locks of a segment anew if this process is the only one attached: steps 2
/// to 4 of [`birth`]. Returns `false`, and changes nothing, if it is not.
fn renew<T: SegmentContent + ?Sized>(
    id: Id,
    mapping: &Mapping,
    header: &Header,
    len: usize,
    is_half_renewed: bool,
) -> Result<bool, Error> {
    let placement = init::init_context()?;
    // SAFETY: it has a header.
    let birth = unsafe { SysvState::of(mapping) };
    if !is_half_renewed && !seize(birth, id) {
        return Ok(false);
    }
    // SAFETY: the header is of this object, and all of it is mapped.
    let base = unsafe { writer::value_in(mapping, header) };
    let walk = |report: &mut Visitor<'_>| T::visit(len, &FieldPath::root(), report);
    // SAFETY: a T lies there, as its header says. The state keeps all other processes from
    // its locks: see `birth`.
    unsafe { init::reinit_all(base, placement, walk) }?;
    // SAFETY: this process is renewing the segment.
    unsafe { birth.make_lock() }?;
    let here = Validity {
        origin: header.origin,
        pid_namespace: placement.pid_namespace,
    };
    here.publish(mapping);
    birth.set_state(state::READY);
    Ok(true)
}

/// Removes the key of a segment, whoever is attached.
pub(in crate::segment) fn unlink(target: &Target) -> Result<(), Error> {
    match sysv_shm::remove(find(target)?) {
        Err(error) if sysv_shm::is_removed_error(&error) => Err(Error::NotFound),
        other => other.map_err(failure::of_removal("shmctl(IPC_RMID)")),
    }
}
