//! System V segments: never used before they are complete, although a key can't
//! be published with its segment; removed by the last one out.
//!
//! [`birth`](super::birth) has the states. In short: whoever finds a segment
//! unfinished waits on its robust lock, and clears it away if the creator is dead;
//! a creator whose segment was cleared away begins anew. A segment that is being
//! filled is told from a foreign one that is zero by its mode: [`UNBORN`].
//!
//! # The last one out
//!
//! The kernel counts attachments, and counts down for the dead. Who leaves looks
//! first: takes the lock, says `LEAVING`, and asks for the count. If it is 1, the
//! looker itself, the segment is removed; if not, it is `BORN` as before, and the
//! looker detaches. If nobody is attached then, it comes back for another look.
//! Two who look at the same time see each other and leave it; but each then asks
//! again after its own detachment, so the later one finds nobody and looks once
//! more.
//!
//! Removal goes by the id, so it can't hit a segment that got the key meanwhile. (The
//! kernel gives an id out again after some 65,000 creations; a leaver would have to be
//! stopped for so long between detaching and looking.)

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use super::address::Target;
use super::attach::Verdict;
use super::birth::{self, Birth};
use super::build::{self, Plan};
use super::content::SegmentContent;
use super::failure;
use super::header::{self, Header};
use super::hold::Hold;
use super::options::SegmentOptions;
use super::policy::Removal;
use crate::error::Error;
use crate::os::mman::{Access, Mapping, Pages};
use crate::os::sysv_shm::{self, Id};
use crate::place;

/// Mode bits of a segment that is not complete yet. System V gives "execute" no
/// meaning, and nobody gives it to group and others without the owner.
const UNBORN: u32 = 0o011;
pub(super) const EXECUTE: u32 = 0o111;
/// Reading and writing, for the owner.
const OWNER: u32 = 0o600;

/// The attachment of this process. Dropped after the mapping.
#[derive(Debug)]
pub(super) struct Attached {
    id: Id,
    removal: Removal,
}

impl Attached {
    pub(super) fn id(&self) -> Id {
        self.id
    }
}

impl Attached {
    /// To be called while `mapping`, of this attachment, is still there. The only
    /// one takes the key away before it detaches: no looker finds it abandoned.
    pub(super) fn leave(&mut self, mapping: &Mapping) {
        let may_be_last = self.removal == Removal::UntilLastDetach
            && mapping.access() == Access::ReadWrite
            && sysv_shm::status(self.id).is_ok_and(|status| status.attached == 1);
        if may_be_last && remove_if_alone(self.id, mapping).is_ok_and(|gone| gone.is_some()) {
            self.removal = Removal::Persistent; // nothing is left to do
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if self.removal == Removal::UntilLastDetach {
            // Whoever can't remove it leaves it to others, and to `gc`.
            let _ = remove_if_abandoned(self.id);
        }
    }
}

/// What an attempt to create came to.
pub(super) enum Creation<T: ?Sized> {
    Done(NonNull<T>, Hold),
    /// There is one already, complete.
    Exists,
}

/// Creates the segment of a key, or one without.
///
/// `write` is taken when the segment is about to be filled.
pub(super) fn create<T, W>(
    options: &SegmentOptions,
    key: Option<i32>,
    len: usize,
    write: &mut Option<W>,
) -> Result<Creation<T>, Error>
where
    T: SegmentContent + ?Sized,
    W: FnOnce(NonNull<T>, usize),
{
    let plan = Plan::of::<T>(len, NonZeroUsize::MIN, options.removal)?;
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
                if is_complete(key) {
                    return Ok(Creation::Exists);
                }
                // Unless what is there is what a dead creator left.
                match attach(options, &Target::SystemVKey(key), Access::ReadWrite) {
                    Err(Error::NotFound) => continue,
                    Err(error @ (Error::Unidentified(_) | Error::TooManyLocks)) => {
                        return Err(error);
                    }
                    // It was completed meanwhile.
                    Ok((id, it)) => leave_unused(id, it.mapping, it.header.removal),
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

/// Whether the segment of a key is complete. Only looks: who attached and left
/// might be the last one out.
fn is_complete(key: i32) -> bool {
    let look = sysv_shm::find(key).and_then(Look::at);
    matches!(look, Ok(Some(look)) if look.life() == Life::Born)
}

/// Fills a new segment. `None` if it was cleared away before that began.
fn fill<T, W>(
    options: &SegmentOptions,
    id: Id,
    plan: &Plan,
    write: &mut Option<W>,
) -> Result<Option<(NonNull<T>, Hold)>, Error>
where
    T: SegmentContent + ?Sized,
    W: FnOnce(NonNull<T>, usize),
{
    let mut unborn = Unborn { id, mapping: None };
    let mapping = match sysv_shm::attach(id, Access::ReadWrite) {
        Err(error) if is_gone(&error) => {
            std::mem::forget(unborn); // its id may be given out again
            return Ok(None);
        }
        other => other.map_err(failure::of_memory(plan.total_len().get(), "shmat"))?,
    };
    let mapping = unborn.mapping.insert(mapping);
    // SAFETY: the segment is as long as the plan says: longer than a header.
    let birth = unsafe { Birth::of(mapping) };
    // SAFETY: this process has just created it, and it is virgin.
    unsafe { birth.make_lock() }?;
    // SAFETY: others read no more than the state before it changes.
    unsafe { plan.write_header(mapping) };
    // SAFETY: made just now, by this thread.
    let held = unsafe { birth.lock() }?;
    if !birth.leave_virginity(birth::GESTATING) {
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
    birth.set_state(birth::BORN);
    drop(held);

    let mapping = unborn.mapping.take();
    std::mem::forget(unborn);
    let removal = options.removal;
    let hold = mapping.map(|mapping| Hold::system_v(mapping, Attached { id, removal }));
    let Some(hold) = hold else {
        unreachable!("it was put there above");
    };
    Ok(Some((value, hold)))
}

/// A segment that its creator has not finished. Dropped (an error, a panic), it is
/// removed: its lock is given back by then.
struct Unborn {
    id: Id,
    mapping: Option<Mapping>,
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(mapping) = &self.mapping {
            // SAFETY: longer than a header: see `fill`.
            unsafe { Birth::of(mapping) }.set_state(birth::DEAD);
        }
        let _ = sysv_shm::remove(self.id);
    }
}

/// A complete segment, mapped.
#[derive(Debug)]
struct Settled {
    mapping: Mapping,
    header: Header,
}

/// Opens the segment of `target`, after checking that it is what it should be.
pub(super) fn open<T: SegmentContent + ?Sized>(
    options: &SegmentOptions,
    target: &Target,
    access: Access,
) -> Result<(NonNull<T>, Hold), Error> {
    let (id, Settled { mapping, header }) = attach(options, target, access)?;
    let len = header.check_layout::<T>()?;
    if access == Access::ReadWrite {
        check_namespace(&header)?;
    }
    options.settle_in_system_v(&mapping, id)?;
    // SAFETY: the header is of this object, and all of it is mapped.
    let base = unsafe { build::value_in(&mapping, &header) };
    // From here on this process is a user, whose leaving may remove the segment.
    let removal = header.removal;
    let hold = Hold::system_v(mapping, Attached { id, removal });
    Ok((T::at(base, len), hold))
}

/// Finds a complete segment and attaches to it. Clears away what a dead creator
/// left. [`Error::NotFound`] if there is none, or none any more.
fn attach(
    options: &SegmentOptions,
    target: &Target,
    access: Access,
) -> Result<(Id, Settled), Error> {
    loop {
        let id = find(target)?;
        if let Some(settled) = settle(options, id, access)? {
            return Ok((id, settled));
        }
        // The key may lead elsewhere by now; an id never does.
        if matches!(target, Target::SystemVId(_)) {
            return Err(Error::NotFound);
        }
    }
}

fn find(target: &Target) -> Result<Id, Error> {
    match *target {
        Target::SystemVKey(key) => sysv_shm::find(key).map_err(failure::of("shmget")),
        Target::SystemVId(id) => Ok(Id(id)),
        Target::File(_) => Err(Error::NotASegment),
    }
}

/// `None` if the segment is gone.
fn settle(options: &SegmentOptions, id: Id, access: Access) -> Result<Option<Settled>, Error> {
    let status = match sysv_shm::status(id) {
        Err(error) if is_gone(&error) => return Ok(None),
        other => other.map_err(failure::of("shmctl(IPC_STAT)"))?,
    };
    options.check_system_v(&status)?;
    if status.len < header::LEN as u64 {
        return Err(Error::NotASegment);
    }
    let mapping = match sysv_shm::attach(id, access) {
        Err(error) if is_gone(&error) => return Ok(None),
        other => other.map_err(failure::of("shmat"))?,
    };
    // SAFETY: a segment never changes its length, and it is longer than a header.
    let birth = unsafe { Birth::of(&mapping) };
    loop {
        match birth.state() {
            birth::VIRGIN => {
                if !is_marked_unborn(status.mode) {
                    return Err(Error::NotASegment);
                }
                birth.wait_while(birth::VIRGIN, access)?;
                if access == Access::ReadOnly {
                    return Err(not_found(id, mapping));
                }
                birth.leave_virginity(birth::DEAD);
            }
            // Cleared away, maybe before it had a header or a lock.
            birth::DEAD if is_marked_unborn(status.mode) => {
                if access == Access::ReadOnly {
                    return Err(not_found(id, mapping));
                }
                clear_away(birth, id)?;
                return Ok(None);
            }
            birth::BORN => {
                let header = read_header(&mapping, status.len)?;
                return Ok(Some(Settled { mapping, header }));
            }
            birth::GESTATING | birth::LEAVING | birth::DEAD => {
                let header = read_header(&mapping, status.len)?;
                if access == Access::ReadOnly {
                    return Err(not_found(id, mapping));
                }
                header.check_abi()?;
                check_namespace(&header)?;
                // SAFETY: the lock was made before the state left `VIRGIN`; it is
                // of our namespace; `mapping` outlives the guard.
                let held = unsafe { birth.lock() }?;
                let gone = resolve(birth, id)?;
                drop(held);
                if gone {
                    return Ok(None);
                }
            }
            _ => return Err(Error::NotASegment),
        }
    }
}

/// For a reader that came too early or too late.
fn not_found(id: Id, mapping: Mapping) -> Error {
    if let Ok(header) = read_header(&mapping, mapping.len() as u64) {
        leave_unused(id, mapping, header.removal);
    }
    Error::NotFound
}

/// Leaves as a user does: whoever left meanwhile has counted this one.
fn leave_unused(id: Id, mapping: Mapping, removal: Removal) {
    drop(Hold::system_v(mapping, Attached { id, removal }));
}

/// Finishes what the last holder of the lock has left. Returns whether the segment
/// is gone. The caller holds the lock.
fn resolve(birth: &Birth, id: Id) -> Result<bool, Error> {
    match birth.state() {
        // The looker died before it removed the segment, or after.
        birth::LEAVING if !is_removed(id) => birth.set_state(birth::BORN),
        birth::BORN => {}
        // The creator died, or the remover.
        _ => {
            birth.set_state(birth::DEAD);
            clear_away(birth, id)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes a segment that is `DEAD`, unless it is removed already.
fn clear_away(birth: &Birth, id: Id) -> Result<(), Error> {
    use std::io::ErrorKind;
    match sysv_shm::remove(id) {
        // Who may remove it may be about to.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            birth.wait_while(birth::DEAD, Access::ReadWrite)?;
            match is_removed(id) {
                true => Ok(()),
                false => Err(Error::PermissionDenied),
            }
        }
        Err(error) if !is_gone(&error) => Err(failure::of_removal("shmctl(IPC_RMID)")(error)),
        _ => Ok(()),
    }
}

/// Whether a segment has lost its key.
fn is_removed(id: Id) -> bool {
    match sysv_shm::status(id) {
        Ok(status) => status.is_condemned,
        Err(error) => is_gone(&error),
    }
}

/// Removes what `target` leads to if it is a segment that nobody is attached to.
pub(super) fn remove_abandoned_at(
    options: &SegmentOptions,
    target: &Target,
) -> Result<Verdict, Error> {
    let id = find(target)?;
    let status = match sysv_shm::status(id) {
        Err(error) if is_gone(&error) => return Ok(Verdict::Gone),
        other => other.map_err(failure::of("shmctl(IPC_STAT)"))?,
    };
    options.check_system_v(&status)?;
    remove_if_abandoned(id)
}

/// Removes the segment if nobody is attached to it: see above. The caller is not
/// attached.
pub(super) fn remove_if_abandoned(id: Id) -> Result<Verdict, Error> {
    loop {
        match sysv_shm::status(id) {
            Ok(status) if status.attached > 0 => return Ok(Verdict::InUse),
            Ok(_) => {}
            Err(error) if is_gone(&error) => return Ok(Verdict::Gone),
            Err(error) => return Err(failure::of("shmctl(IPC_STAT)")(error)),
        }
        let anybody = SegmentOptions::of_anybody();
        let Some(settled) = settle(&anybody, id, Access::ReadWrite)? else {
            return Ok(Verdict::Removed);
        };
        if let Some(verdict) = remove_if_alone(id, &settled.mapping)? {
            return Ok(verdict);
        }
        // Detach, and ask again: above.
    }
}

/// Removes a complete segment if `mapping`, for writing, is the only one of it.
/// `None` if it is not.
fn remove_if_alone(id: Id, mapping: &Mapping) -> Result<Option<Verdict>, Error> {
    let header = read_header(mapping, mapping.len() as u64)?;
    header.check_abi()?;
    check_namespace(&header)?;
    // SAFETY: it has a header.
    let birth = unsafe { Birth::of(mapping) };
    // SAFETY: complete, so the lock is made; of our namespace; `mapping` outlives
    // the guard.
    let _held = unsafe { birth.lock() }?;
    if resolve(birth, id)? {
        return Ok(Some(Verdict::Gone));
    }
    birth.set_state(birth::LEAVING);
    match sysv_shm::status(id) {
        Ok(status) if status.attached <= 1 => {
            // Who may not remove it leaves it as it was.
            let removed = sysv_shm::remove(id);
            birth.set_state(match removed {
                Ok(()) => birth::DEAD,
                Err(_) => birth::BORN,
            });
            removed.map_err(failure::of_removal("shmctl(IPC_RMID)"))?;
            Ok(Some(Verdict::Removed))
        }
        _ => {
            birth.set_state(birth::BORN);
            Ok(None)
        }
    }
}

/// A segment mapped for a look, whatever it holds. Who attaches and leaves
/// meanwhile may have taken the looker for a user; so the looker leaves as a user
/// does, unless nobody else came.
#[derive(Debug)]
pub(crate) struct Look {
    mapping: Option<Mapping>,
    id: Id,
    /// Nobody was attached before.
    was_abandoned: bool,
}

impl Look {
    /// `None` if the segment is gone.
    pub(crate) fn at(id: Id) -> std::io::Result<Option<Self>> {
        let mapping = match sysv_shm::attach(id, Access::ReadOnly) {
            Err(error) if is_gone(&error) => return Ok(None),
            mapping => Some(mapping?),
        };
        let mut look = Self {
            mapping,
            id,
            was_abandoned: false,
        };
        // In this order: its creator is attached until it is complete.
        look.was_abandoned = look.life() == Life::Born && look.is_alone();
        Ok(Some(look))
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
    pub(crate) fn life(&self) -> Life {
        let mut state = [0; 4];
        if !self.read_at(&mut state, header::BIRTH_AT) {
            return Life::Foreign;
        }
        match u32::from_ne_bytes(state) {
            birth::BORN | birth::LEAVING => Life::Born,
            birth::VIRGIN | birth::GESTATING | birth::DEAD => Life::Unborn,
            _ => Life::Foreign,
        }
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        let mut bytes = [0; header::LEN];
        let len = self.mapping.as_ref().map_or(0, Mapping::len);
        let is_transient = self.read_at(&mut bytes, 0)
            && Header::parse(&bytes, len as u64)
                .is_ok_and(|header| header.removal == Removal::UntilLastDetach);
        let is_abandoned = self.was_abandoned && self.is_alone();
        self.mapping = None;
        if is_transient && !is_abandoned {
            let _ = remove_if_abandoned(self.id);
        }
    }
}

/// How far a System V segment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Being created; or its creator died, and nobody has come since.
    Unborn,
    /// Complete.
    Born,
    /// Not a segment of this crate.
    Foreign,
}

/// Whether the mode of a segment is that of one that is not complete.
pub(crate) fn is_marked_unborn(mode: u32) -> bool {
    mode & EXECUTE == UNBORN
}

/// Removes the key of a segment, whoever is attached.
pub(super) fn unlink(target: &Target) -> Result<(), Error> {
    match sysv_shm::remove(find(target)?) {
        Err(error) if is_gone(&error) => Err(Error::NotFound),
        other => other.map_err(failure::of_removal("shmctl(IPC_RMID)")),
    }
}

fn check_namespace(header: &Header) -> Result<(), Error> {
    match header.pid_namespace == place::placement()?.pid_namespace {
        true => Ok(()),
        false => Err(Error::ForeignPidNamespace),
    }
}

/// Reads the header of the segment that is mapped. Its bytes are copied first:
/// what is checked can't change afterwards.
pub(super) fn read_header(mapping: &Mapping, object_len: u64) -> Result<Header, Error> {
    let mut bytes = [0; header::LEN];
    mapping.copy_to(&mut bytes, 0);
    Header::parse(&bytes, object_len)
}

/// Whether a segment's id leads nowhere any more (`EINVAL`, `EIDRM`).
fn is_gone(error: &std::io::Error) -> bool {
    sysv_shm::means_gone(error)
}
