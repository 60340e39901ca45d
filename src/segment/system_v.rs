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
use super::birth::{self, Birth, Held, Visits};
use super::build::{self, Plan};
use super::content::SegmentContent;
use super::failure;
use super::header::{self, Header};
use super::hold::Hold;
use super::options::SegmentOptions;
use super::policy::{Removal, Residency};
use crate::error::Error;
use crate::os::mman::{Access, Mapping, Pages};
use crate::os::named_file::{effective_group, effective_user};
use crate::os::process::{self, Mark};
use crate::os::sysv_shm::{self, Id, Status};
use crate::place;
use crate::shm_safe::{Place, Report};

/// Mode bits of a segment that is not complete yet. System V gives "execute" no
/// meaning, and nobody gives it to group and others without the owner.
const UNBORN: u32 = 0o011;
pub(super) const EXECUTE: u32 = 0o111;
/// Reading and writing, for the owner.
const OWNER: u32 = 0o600;

/// The attachment of this process. Dropped after the mapping.
///
/// A forked child has an attachment of its own, which the kernel counts, so this is
/// dropped there as anywhere.
#[derive(Debug)]
pub(super) struct Attached {
    id: Id,
    removal: Removal,
    /// They say whose memory is trusted.
    options: SegmentOptions,
}

impl Attached {
    pub(super) fn id(&self) -> Id {
        self.id
    }

    /// To be called while `mapping`, of this attachment, is still there. The only
    /// one takes the key away before it detaches: no looker finds it abandoned.
    pub(super) fn leave(&mut self, mapping: &Mapping) {
        let may_be_last = self.removal == Removal::UntilLastDetach
            && mapping.access() == Access::ReadWrite
            && sysv_shm::status(self.id)
                .is_ok_and(|status| status.attached == 1 && self.options.trusts(&status));
        if may_be_last && remove_if_alone(self.id, mapping).is_ok_and(|gone| gone.is_some()) {
            self.removal = Removal::Persistent; // nothing is left to do
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if self.removal == Removal::UntilLastDetach {
            // Whoever can't remove it leaves it to others, and to `gc`.
            let _ = remove_if_abandoned(&self.options, self.id, Unlocked::Stays);
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
    // What could not be opened with these options is not created.
    options.check_creator(effective_user(), effective_group())?;
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
                if is_strange_or_complete(options, key) {
                    return Ok(Creation::Exists);
                }
                // Unless what is there is what a dead creator left.
                match attach(options, &Target::SystemVKey(key), Access::ReadWrite) {
                    Err(Error::NotFound) => continue,
                    Err(
                        error @ (Error::Unidentified(_)
                        | Error::TooManyLocks
                        | Error::Unfinished { .. }),
                    ) => return Err(error),
                    // It was completed meanwhile.
                    Ok((id, it)) => leave_unused(options, id, it.mapping, it.header.removal),
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
    let look = Look::at(id, options);
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
    let mut unborn = Unborn {
        id,
        mapping: None,
        mark: process::mark().inspect_err(|_| drop(sysv_shm::remove(id)))?,
    };
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
        .map_err(failure::of("shmctl(IPC_SET)"))?;
    birth.set_state(birth::BORN);
    drop(held);

    let mapping = unborn.mapping.take();
    std::mem::forget(unborn);
    let removal = options.removal;
    let options = options.clone();
    let attached = Attached {
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
    mark: Mark,
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if !process::is_ours(self.mark) {
            return;
        }
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
    /// The process that made its locks anew is dead, and this one is alone.
    is_half_renewed: bool,
}

/// What was found under an id.
enum Finding {
    Gone,
    There(Settled),
    /// Others are attached, and must go or finish first. This process is not attached.
    Later(Obstacle),
}

/// Why a segment can't be used yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// Its locks belong to another pid namespace, and others are attached.
    OtherNamespace,
    /// A process makes its locks anew.
    Renewal,
    /// Another thread holds its lock. Only for those who do not wait.
    Lock,
}

impl Obstacle {
    /// Waits for the next visit. Returns an error after the time that the obstacle may
    /// take.
    fn pause(self, visits: &mut Visits) -> Result<(), Error> {
        let waited = birth::PATIENCE;
        if !visits.pause(waited)? {
            return Err(Error::Unfinished { waited });
        }
        match self {
            Self::OtherNamespace if !visits.is_newcomer_still() => Err(Error::ForeignPidNamespace),
            _ => Ok(()),
        }
    }
}

/// How long to wait for the lock of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// As long as [`birth::PATIENCE`].
    Patiently,
    /// Those who remove don't: the holder is attached, so the segment is in use.
    Never,
}

impl Wait {
    /// # Safety
    ///
    /// As for [`Birth::lock`].
    unsafe fn lock(self, birth: &Birth) -> Result<Option<Held<'_>>, Error> {
        match self {
            // SAFETY: the caller promises all clauses of `lock`.
            Self::Patiently => unsafe { birth.lock() }.map(Some),
            // SAFETY: as above.
            Self::Never => unsafe { birth.try_lock() },
        }
    }
}

/// Opens the segment of `target`, after checking that it is what it should be.
pub(super) fn open<T: SegmentContent + ?Sized>(
    options: &SegmentOptions,
    target: &Target,
    access: Access,
) -> Result<(NonNull<T>, Hold), Error> {
    let mut visits = Visits::new();
    let (id, mapping, header, len) = loop {
        let (id, settled) = attach_in(options, target, access, &mut visits)?;
        let len = settled.header.check_layout::<T>()?;
        let is_right = access == Access::ReadOnly
            || !settled.is_half_renewed && is_of_our_namespace(&settled.header)?;
        let Settled {
            mapping, header, ..
        } = settled;
        if is_right {
            break (id, mapping, header, len);
        }
        if renew::<T>(id, &mapping, &header, len, settled.is_half_renewed)? {
            break (id, mapping, header, len);
        }
        drop(mapping);
        Obstacle::OtherNamespace.pause(&mut visits)?;
    };
    options.settle_in_system_v(&mapping, id)?;
    // SAFETY: the header is of this object, and all of it is mapped.
    let base = unsafe { build::value_in(&mapping, &header) };
    // From here on this process is a user, whose leaving may remove the segment.
    let attached = Attached {
        id,
        removal: header.removal,
        options: options.clone(),
    };
    let hold = Hold::system_v(mapping, attached);
    Ok((T::at(base, len), hold))
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
    let placement = place::placement()?;
    // SAFETY: it has a header.
    let birth = unsafe { Birth::of(mapping) };
    if !is_half_renewed && !seize(birth, id) {
        return Ok(false);
    }
    // SAFETY: the header is of this object, and all of it is mapped.
    let base = unsafe { build::value_in(mapping, header) };
    let walk = |report: &mut Report<'_>| T::visit(len, &Place::root(), report);
    // SAFETY: a T lies there, as its header says. The state keeps all others away who
    // might use its locks: see `birth`.
    unsafe { place::revive(base, placement, walk) }?;
    // SAFETY: this process is renewing the segment.
    unsafe { birth.make_lock() }?;
    header.origin.publish(mapping, placement.pid_namespace);
    birth.set_state(birth::BORN);
    Ok(true)
}

/// Changes the state from `BORN` to `RENEWING` if this process is the only one
/// attached: steps 2 and 3 of [`birth`].
fn seize(birth: &Birth, id: Id) -> bool {
    // Those who use it are not even disturbed.
    if !is_alone(id) {
        return false;
    }
    let Some(claim) = birth.claim() else {
        return false;
    };
    if is_alone(id) && birth.replace(claim, birth::RENEWING) {
        return true;
    }
    birth.replace(claim, birth::BORN);
    false
}

/// Whether the one attachment is the caller's, in whatever pid namespace others are.
fn is_alone(id: Id) -> bool {
    sysv_shm::status(id).is_ok_and(|status| status.attached == 1)
}

/// Finds a complete segment and attaches to it. Clears away what a dead creator
/// left. [`Error::NotFound`] if there is none, or none any more.
fn attach(
    options: &SegmentOptions,
    target: &Target,
    access: Access,
) -> Result<(Id, Settled), Error> {
    attach_in(options, target, access, &mut Visits::new())
}

/// As [`attach`], as one of several visits.
fn attach_in(
    options: &SegmentOptions,
    target: &Target,
    access: Access,
    visits: &mut Visits,
) -> Result<(Id, Settled), Error> {
    loop {
        let id = find(target)?;
        match settle(options, id, access, Wait::Patiently)? {
            Finding::There(settled) => return Ok((id, settled)),
            Finding::Later(obstacle) => obstacle.pause(visits)?,
            // The key may lead elsewhere by now; an id never does.
            Finding::Gone if matches!(target, Target::SystemVId(_)) => {
                return Err(Error::NotFound);
            }
            Finding::Gone => {}
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

/// Returns what the kernel knows of a segment; `None` if it is gone.
fn status_of(id: Id) -> Result<Option<Status>, Error> {
    match sysv_shm::status(id) {
        Err(error) if is_gone(&error) => Ok(None),
        other => other.map(Some).map_err(failure::of("shmctl(IPC_STAT)")),
    }
}

/// Attaches to a segment if all who may write to it are trusted, and brings it into a
/// state in which it can be used.
fn settle(options: &SegmentOptions, id: Id, access: Access, wait: Wait) -> Result<Finding, Error> {
    let Some(status) = status_of(id)? else {
        return Ok(Finding::Gone);
    };
    options.check_system_v(&status)?;
    if status.len < header::LEN as u64 {
        return Err(Error::NotASegment);
    }
    let mapping = match sysv_shm::attach(id, access) {
        Err(error) if is_gone(&error) => return Ok(Finding::Gone),
        other => other.map_err(failure::of("shmat"))?,
    };
    // Once more, of the segment that is attached: the kernel may have given the id to
    // another one in between.
    let Some(status) = status_of(id)? else {
        return Ok(Finding::Gone);
    };
    options.check_system_v(&status)?;
    if mapping.len() < header::LEN {
        return Err(Error::NotASegment);
    }
    // SAFETY: a segment never changes its length, and it is longer than a header.
    let birth = unsafe { Birth::of(&mapping) };
    let is_half_renewed = loop {
        let state = birth.state();
        match state {
            birth::VIRGIN => {
                if !is_marked_unborn(status.mode) {
                    return Err(Error::NotASegment);
                }
                birth.wait_while(birth::VIRGIN, access)?;
                if access == Access::ReadOnly {
                    return Err(not_found(options, id, mapping));
                }
                birth.leave_virginity(birth::DEAD);
            }
            // Cleared away, maybe before it had a header or a lock.
            birth::DEAD => {
                if !is_marked_unborn(status.mode) {
                    read_header(&mapping, status.len)?;
                }
                if access == Access::ReadOnly {
                    return Err(not_found(options, id, mapping));
                }
                clear_away(birth, id)?;
                return Ok(Finding::Gone);
            }
            birth::BORN => break false,
            birth::GESTATING | birth::LEAVING => {
                let header = read_header(&mapping, status.len)?;
                if access == Access::ReadOnly {
                    return Err(not_found(options, id, mapping));
                }
                header.check_abi()?;
                if !is_of_our_namespace(&header)? {
                    if !is_alone(id) {
                        return Ok(Finding::Later(Obstacle::OtherNamespace));
                    }
                    // The process that wrote this state was attached, so it is dead.
                    let is_to_stay = state == birth::LEAVING && !is_removed(id);
                    let next = if is_to_stay { birth::BORN } else { birth::DEAD };
                    birth.replace(state, next);
                    continue;
                }
                // SAFETY: the lock was made before the state left `VIRGIN`, and is of
                // our namespace; all who may write to it are trusted, as checked above;
                // `mapping` outlives the guard.
                let held = unsafe { wait.lock(birth) }?;
                let Some(held) = held else {
                    return Ok(Finding::Later(Obstacle::Lock));
                };
                let gone = resolve(birth, id)?;
                drop(held);
                if gone {
                    return Ok(Finding::Gone);
                }
            }
            _ if birth::is_claim(state) => {
                let header = read_header(&mapping, status.len)?;
                if access == Access::ReadOnly {
                    break false; // complete, whatever becomes of its locks
                }
                // A claimant that is alive is attached.
                if !is_alone(id) {
                    if !is_of_our_namespace(&header)? {
                        return Ok(Finding::Later(Obstacle::OtherNamespace));
                    }
                    birth.wait_while(state, access)?;
                }
                birth.replace(state, birth::BORN);
            }
            birth::RENEWING => {
                let header = read_header(&mapping, status.len)?;
                if access == Access::ReadOnly {
                    break false;
                }
                // A process that renews is attached until it is ready or dead.
                if !is_alone(id) {
                    return Ok(Finding::Later(Obstacle::Renewal));
                }
                header.check_abi()?;
                match is_removed(id) {
                    true => birth.set_state(birth::DEAD),
                    false => break true,
                }
            }
            _ => return Err(Error::NotASegment),
        }
    };
    let header = read_header(&mapping, status.len)?;
    Ok(Finding::There(Settled {
        mapping,
        header,
        is_half_renewed,
    }))
}

/// For a reader that came too early or too late.
fn not_found(options: &SegmentOptions, id: Id, mapping: Mapping) -> Error {
    if let Ok(header) = read_header(&mapping, mapping.len() as u64) {
        leave_unused(options, id, mapping, header.removal);
    }
    Error::NotFound
}

/// Leaves as a user does: whoever left meanwhile has counted this one.
fn leave_unused(options: &SegmentOptions, id: Id, mapping: Mapping, removal: Removal) {
    let options = options.clone();
    let attached = Attached {
        id,
        removal,
        options,
    };
    drop(Hold::system_v(mapping, attached));
}

/// Finishes what the last holder of the lock has left. Returns whether the segment
/// is gone. The caller holds the lock.
fn resolve(birth: &Birth, id: Id) -> Result<bool, Error> {
    match birth.state() {
        // The looker died before it removed the segment, or after.
        birth::LEAVING if !is_removed(id) => birth.set_state(birth::BORN),
        birth::BORN => {}
        // The claimant finds the caller attached, and its claim replaced.
        claim if birth::is_claim(claim) => birth.set_state(birth::BORN),
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
        Err(error) if !is_gone(&error) => Err(failure::of("shmctl(IPC_RMID)")(error)),
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

/// What becomes of an abandoned segment whose lock can't be used: strangers may write to
/// it, or it is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unlocked {
    /// It stays: no caller asked for its removal, only its own header.
    Stays,
    /// It is removed by what the kernel says, if it is a segment of this crate.
    Goes,
}

/// Removes what `target` leads to if it is a segment that nobody is attached to.
pub(super) fn remove_abandoned_at(
    options: &SegmentOptions,
    target: &Target,
) -> Result<Verdict, Error> {
    let id = find(target)?;
    let Some(status) = status_of(id)? else {
        return Ok(Verdict::Gone);
    };
    options.check_system_v(&status)?;
    remove_if_abandoned(options, id, Unlocked::Goes)
}

/// Removes the segment if nobody is attached to it: see above. The caller is not
/// attached. Waits for no lock: the holder of one is attached.
fn remove_if_abandoned(
    options: &SegmentOptions,
    id: Id,
    unlocked: Unlocked,
) -> Result<Verdict, Error> {
    /// Each try but the first is due to a process that came and went meanwhile. After
    /// so many the lock is held by no process that is attached: it is damaged.
    const TRIES: u32 = 100;

    for _ in 0..TRIES {
        let Some(status) = status_of(id)? else {
            return Ok(Verdict::Gone);
        };
        if status.attached > 0 {
            return Ok(Verdict::InUse);
        }
        if !options.trusts(&status) {
            return match unlocked {
                Unlocked::Stays => Ok(Verdict::InUse),
                Unlocked::Goes => remove_unseen(options, id),
            };
        }
        let removed = match settle(options, id, Access::ReadWrite, Wait::Never) {
            Ok(Finding::Gone) => return Ok(Verdict::Removed),
            Ok(Finding::Later(_)) => Ok(None),
            Ok(Finding::There(settled)) => remove_if_alone(id, &settled.mapping),
            Err(error) => Err(error),
        };
        match removed {
            Ok(Some(verdict)) => return Ok(verdict),
            // Detached by now; ask again.
            Ok(None) => {}
            // Its lock says nothing to this program, or to any.
            Err(
                Error::Corrupt(_)
                | Error::UnsupportedFormat { .. }
                | Error::LayoutMismatch { .. }
                | Error::NotRecoverable,
            ) if unlocked == Unlocked::Goes => return remove_unseen(options, id),
            Err(error) => return Err(error),
        }
    }
    match unlocked {
        Unlocked::Stays => Ok(Verdict::InUse),
        Unlocked::Goes => remove_unseen(options, id),
    }
}

/// Removes a segment of this crate if the kernel counts no attachment, without a lock:
/// for one to which strangers may write, or that is damaged.
///
/// A process that attaches between the count and the removal keeps its memory, and all
/// who are attached with it. What it loses is the key: who comes later finds nothing,
/// and creates another segment. So the worst is what [`unlink`](crate::unlink) does.
/// The id can't have passed to a segment in use: that takes a removal and some 65,000
/// creations between two calls.
fn remove_unseen(options: &SegmentOptions, id: Id) -> Result<Verdict, Error> {
    let is_ours = match Look::at(id, options).map_err(failure::of("shmat"))? {
        None => return Ok(Verdict::Gone),
        Some(look) => look.is_ours(),
    };
    if !is_ours {
        return Err(Error::NotASegment);
    }
    match status_of(id)? {
        None => Ok(Verdict::Gone),
        Some(status) if status.attached > 0 => Ok(Verdict::InUse),
        Some(_) => match sysv_shm::remove(id) {
            Err(error) if is_gone(&error) => Ok(Verdict::Gone),
            removed => removed
                .map(|()| Verdict::Removed)
                .map_err(failure::of("shmctl(IPC_RMID)")),
        },
    }
}

/// Removes a complete segment if `mapping`, for writing, is the only one of it.
/// `None` if it is not, or if another thread holds its lock. All who may write to it are
/// trusted.
fn remove_if_alone(id: Id, mapping: &Mapping) -> Result<Option<Verdict>, Error> {
    let header = read_header(mapping, mapping.len() as u64)?;
    header.check_abi()?;
    // SAFETY: it has a header.
    let birth = unsafe { Birth::of(mapping) };
    let is_half_renewed = birth.state() == birth::RENEWING;
    if is_half_renewed || !is_of_our_namespace(&header)? {
        let is_mine = match is_half_renewed {
            true => is_alone(id),
            false => seize(birth, id),
        };
        let before = if is_half_renewed {
            birth::RENEWING
        } else {
            birth::BORN
        };
        return match is_mine {
            true => remove_as(birth, id, before).map(Some),
            false => Ok(None),
        };
    }
    // SAFETY: complete, so the lock is made; of our namespace; the caller trusts all who
    // may write to it; `mapping` outlives the guard.
    let Some(_held) = (unsafe { birth.try_lock() })? else {
        return Ok(None);
    };
    if resolve(birth, id)? {
        return Ok(Some(Verdict::Gone));
    }
    birth.set_state(birth::LEAVING);
    match sysv_shm::status(id) {
        Ok(status) if status.attached <= 1 => remove_as(birth, id, birth::BORN).map(Some),
        _ => {
            birth.set_state(birth::BORN);
            Ok(None)
        }
    }
}

/// Removes a segment that the caller alone may. A caller without the right to leaves the
/// state that was `before`.
fn remove_as(birth: &Birth, id: Id, before: u32) -> Result<Verdict, Error> {
    let removed = sysv_shm::remove(id);
    birth.set_state(match removed {
        Ok(()) => birth::DEAD,
        Err(_) => before,
    });
    removed.map_err(failure::of("shmctl(IPC_RMID)"))?;
    Ok(Verdict::Removed)
}

/// A segment mapped for a look, whatever it holds. Who attaches and leaves
/// meanwhile may have taken the looker for a user; so the looker leaves as a user
/// does, unless nobody else came. It waits for no lock, and leaves the memory of
/// strangers alone: that may stay behind, for `gc`.
#[derive(Debug)]
pub(crate) struct Look {
    mapping: Option<Mapping>,
    id: Id,
    options: SegmentOptions,
    /// Nobody was attached before.
    was_abandoned: bool,
}

impl Look {
    /// `None` if the segment is gone.
    pub(crate) fn at(id: Id, options: &SegmentOptions) -> std::io::Result<Option<Self>> {
        let mapping = match sysv_shm::attach(id, Access::ReadOnly) {
            Err(error) if is_gone(&error) => return Ok(None),
            mapping => Some(mapping?),
        };
        let mut look = Self {
            mapping,
            id,
            options: options.clone(),
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
            birth::BORN | birth::LEAVING | birth::RENEWING => Life::Born,
            claim if birth::is_claim(claim) => Life::Born,
            birth::VIRGIN | birth::GESTATING | birth::DEAD => Life::Unborn,
            _ => Life::Foreign,
        }
    }
}

impl Look {
    /// Whether it is a segment of this crate, though it may be damaged or of another
    /// version. That is all that is believed of a stranger's.
    fn is_ours(&self) -> bool {
        let mut bytes = [0; header::LEN];
        let len = self.mapping.as_ref().map_or(0, Mapping::len);
        if !self.read_at(&mut bytes, 0) {
            return false;
        }
        match Header::parse(&bytes, len as u64) {
            Ok(_) | Err(Error::Corrupt(_) | Error::UnsupportedFormat { .. }) => true,
            Err(_) => {
                let mode = sysv_shm::status(self.id).map_or(0, |status| status.mode);
                self.life() == Life::Unborn && is_marked_unborn(mode)
            }
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
            let _ = remove_if_abandoned(&self.options, self.id, Unlocked::Stays);
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
        other => other.map_err(failure::of("shmctl(IPC_RMID)")),
    }
}

impl SegmentOptions {
    /// As [`settle_in`](Self::settle_in). Locking is the segment's business here,
    /// not the mapping's.
    fn settle_in_system_v(&self, mapping: &Mapping, id: Id) -> Result<(), Error> {
        match self.residency {
            Residency::Locked => {
                let refused = failure::of_memory_lock(mapping.len(), "shmctl(SHM_LOCK)");
                sysv_shm::lock_in_memory(id).map_err(refused)?;
                super::options::prefault(mapping)
            }
            _ => self.settle_in(mapping),
        }
    }
}

/// Whether thread ids in the locks mean here what they say.
fn is_of_our_namespace(header: &Header) -> Result<bool, Error> {
    Ok(header.pid_namespace == place::placement()?.pid_namespace)
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
