//! The sync objects of a segment and their holders.

use std::collections::HashMap;
use std::io;

use super::reader::{Opened, Reader};
use super::types::{
    Epoch, Holder, HolderState, LockState, Locks, MutexState, SeatState, SyncObject, SyncState,
};
use crate::os::proc::task::{self, Task, TaskState};
use crate::segment::internals::Entry;
use crate::shm_safe::SyncKind;
use crate::sync::raw_view::{self, CONDVAR_LEN, EVENT_LEN, MUTEX_LEN, SEAT_LEN};
use crate::sync::snapshot;
use crate::sync::snapshot::Waiters;

/// The maximum number of sync objects that are inspected in a segment.
const MAX_INSPECTED: u64 = 1_000_000;

/// The maximum number of holders that [`count`] looks up in `/proc`. Further mutexes
/// count as held.
const MAX_HOLDERS: usize = 10_000;

/// Counts the sync objects of a segment by state.
pub(super) fn count(opened: &Opened, epoch: Epoch) -> Locks {
    let mut sum = Locks::default();
    let mut reader = Reader::new(opened);
    // A thread may hold many locks.
    let mut states = HashMap::new();
    for entry in &opened.entries {
        sum.objects = sum.objects.saturating_add(entry.count());
    }
    for (entry, index) in all(&opened.entries) {
        sum.counted += 1;
        let mut state_of = |recorded| match states.get(&recorded) {
            Some(state) => *state,
            None if states.len() < MAX_HOLDERS => {
                let state = holder_of(recorded, epoch).state;
                states.insert(recorded, state);
                state
            }
            None => HolderState::Unknown,
        };
        let offset = entry.offset(index);
        match entry.kind {
            SyncKind::Mutex => {
                let bytes = offset.and_then(|offset| reader.bytes(offset));
                let Some(mutex) = bytes.map(raw_view::mutex) else {
                    continue;
                };
                sum.poisoned += u64::from(mutex.poison.is_some());
                if let snapshot::LockState::Held(recorded) = mutex.lock {
                    let state = state_of(recorded);
                    sum.held += u64::from(state != HolderState::Dead);
                    sum.stopped += u64::from(state == HolderState::Stopped);
                    sum.dead += u64::from(state == HolderState::Dead);
                }
            }
            SyncKind::Seat => {
                let bytes = offset.and_then(|offset| reader.bytes(offset));
                match bytes.map(raw_view::seat).map(|seat| seat.lock) {
                    Some(snapshot::LockState::Held(recorded)) => {
                        let state = state_of(recorded);
                        sum.occupied += u64::from(state != HolderState::Dead);
                        sum.stopped += u64::from(state == HolderState::Stopped);
                        sum.dead += u64::from(state == HolderState::Dead);
                    }
                    Some(snapshot::LockState::OwnerDied) => sum.orphaned += 1,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    sum
}

/// Returns at most `limit` sync objects, and the number of those that were omitted.
pub(super) fn list(opened: &Opened, epoch: Epoch, limit: usize) -> (Vec<SyncObject>, u64) {
    let mut reader = Reader::new(opened);
    let mut lists = [const { Vec::new() }; 3];
    for (number, (entry, index)) in all(&opened.entries).enumerate() {
        let Some(offset) = entry.offset(index) else {
            continue;
        };
        let state = read(&mut reader, offset, entry.kind, epoch);
        let list = &mut lists[rank(&state) as usize];
        if list.len() < limit {
            let path = entry.path(index).unwrap_or_default();
            let object = SyncObject {
                path,
                offset,
                state,
            };
            list.push((number, object));
        }
    }
    let mut listed: Vec<_> = lists.into_iter().flatten().take(limit).collect();
    listed.sort_by_key(|(number, _)| *number);
    let total = opened.entries.iter().map(Entry::count);
    let omitted = total.fold(0, u64::saturating_add) - listed.len() as u64;
    let listed = listed.into_iter().map(|(_, object)| object).collect();
    (listed, omitted)
}

/// Returns the sync object with this path.
pub(super) fn find(opened: &Opened, epoch: Epoch, path: &str) -> Option<SyncObject> {
    let mut entries = opened.entries.iter();
    let (offset, kind) = entries.find_map(|entry| Some((entry.find(path)?, entry.kind)))?;
    Some(SyncObject {
        path: path.to_owned(),
        offset,
        state: read(&mut Reader::new(opened), offset, kind, epoch),
    })
}

/// Returns the entry of every sync object and the index in this entry, up to
/// [`MAX_INSPECTED`].
fn all(entries: &[Entry]) -> impl Iterator<Item = (&Entry, u64)> {
    let objects = entries
        .iter()
        .flat_map(|entry| (0..entry.count()).map(move |index| (entry, index)));
    objects.take(MAX_INSPECTED as usize)
}

fn read(reader: &mut Reader<'_>, offset: u64, kind: SyncKind, epoch: Epoch) -> SyncState {
    let state = match kind {
        SyncKind::Mutex => reader
            .bytes::<MUTEX_LEN>(offset)
            .map(|bytes| SyncState::Mutex(mutex(raw_view::mutex(bytes), epoch))),
        SyncKind::Condvar => reader
            .bytes::<CONDVAR_LEN>(offset)
            .map(|bytes| SyncState::Condvar(raw_view::condvar(bytes))),
        SyncKind::Seat => reader
            .bytes::<SEAT_LEN>(offset)
            .map(|bytes| SyncState::Seat(seat(raw_view::seat(bytes), epoch))),
        SyncKind::Event => reader
            .bytes::<EVENT_LEN>(offset)
            .map(|bytes| SyncState::Event(raw_view::event(bytes))),
        SyncKind::PthreadCondvar => Some(SyncState::PthreadCondvar),
    };
    state.unwrap_or(SyncState::Unreadable)
}

/// Tells which sync objects a limited list keeps: the lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    Faulty,
    Used,
    Idle,
}

fn rank(state: &SyncState) -> Rank {
    match state {
        SyncState::Mutex(mutex) => match mutex.lock {
            _ if mutex.poison.is_some() => Rank::Faulty,
            LockState::OwnerDied | LockState::NotRecoverable => Rank::Faulty,
            LockState::Held(_) => Rank::Used,
            LockState::Free | LockState::NotPlaced => match mutex.waiters {
                Waiters::Some => Rank::Used,
                Waiters::NoneSeen => Rank::Idle,
            },
        },
        SyncState::Seat(seat) => match seat.lock {
            LockState::OwnerDied | LockState::NotRecoverable => Rank::Faulty,
            LockState::Held(_) => Rank::Used,
            LockState::Free | LockState::NotPlaced => Rank::Idle,
        },
        SyncState::Condvar(condvar) if condvar.waiters > 0 => Rank::Used,
        SyncState::Event(event) if event.is_set || event.waiters > 0 => Rank::Used,
        SyncState::Event(_) => Rank::Idle,
        SyncState::Condvar(_) | SyncState::PthreadCondvar => Rank::Idle,
        SyncState::Unreadable => Rank::Faulty,
    }
}

fn mutex(found: snapshot::MutexState<snapshot::Holder>, epoch: Epoch) -> MutexState {
    found.map_holder(|recorded| holder_of(recorded, epoch))
}

fn seat(found: snapshot::SeatState<snapshot::Holder>, epoch: Epoch) -> SeatState {
    found.map_holder(|recorded| holder_of(recorded, epoch))
}

fn holder_of(recorded: snapshot::Holder, epoch: Epoch) -> Holder {
    let pid = Some(recorded.pid).filter(|pid| *pid != 0);
    holder(pid, recorded.tid, epoch)
}

/// Describes the thread that holds a lock. `pid` is its process, if the holder has
/// recorded it.
fn holder(pid: Option<u32>, tid: u32, epoch: Epoch) -> Holder {
    let holder_in = |state| Holder {
        pid: pid.unwrap_or(0),
        tid,
        state,
        command: None,
        thread_started: None,
    };
    match epoch {
        Epoch::Past => return holder_in(HolderState::Dead),
        Epoch::OtherNamespace | Epoch::Unknown => return holder_in(HolderState::Unknown),
        Epoch::Current => {}
    }
    let found: io::Result<Option<Task>> = match pid {
        Some(pid) => task::thread_of(pid, tid),
        None => task::task(tid),
    };
    match found {
        Ok(Some(task)) => Holder {
            pid: pid.or_else(|| task::process_of(tid)).unwrap_or(0),
            state: match task.state {
                TaskState::Alive => HolderState::Alive,
                TaskState::Stopped => HolderState::Stopped,
                TaskState::Ended => HolderState::Dead,
            },
            thread_started: task.start_time().ok(),
            command: Some(task.command),
            tid,
        },
        Ok(None) if task::is_gone(tid) => holder_in(HolderState::Dead),
        // The id belongs to a thread of another process now.
        Ok(None) if task::task(tid).is_ok_and(|task| task.is_some()) => {
            holder_in(HolderState::Dead)
        }
        // `/proc` hides it.
        Ok(None) => holder_in(HolderState::Alive),
        Err(_) => holder_in(HolderState::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::reader::Source;
    use crate::os::mem::Pages;
    use crate::os::mem::memfd;
    use crate::segment::Segment;
    use crate::sync::{ShmCondvar, ShmMutex};
    use proptest::prelude::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::FileExt;

    type Farm = ([(u32, ShmMutex<u64>); 5], ShmCondvar);

    fn farm() -> Farm {
        let workers = std::array::from_fn(|_| (0, ShmMutex::new(0)));
        (workers, ShmCondvar::new())
    }

    fn opened(segment: &Segment<Farm>) -> Opened {
        let file = Segment::as_fd(segment)
            .unwrap()
            .try_clone_to_owned()
            .unwrap();
        Opened::new(Source::File(file), Segment::mapped_len(segment) as u64).unwrap()
    }

    /// Creates a file with these bytes.
    fn file_of(bytes: &[u8]) -> OwnedFd {
        let file = memfd::create("inspected", Pages::Normal).unwrap();
        let file = File::from(file);
        file.write_all_at(bytes, 0).unwrap();
        file.into()
    }

    #[test]
    fn smoke() {
        let segment = Segment::anonymous(farm()).unwrap();
        let opened = opened(&segment);
        let guard = segment.0[3].1.lock().unwrap();
        let sum = count(&opened, Epoch::Current);
        assert_eq!(
            (sum.objects, sum.counted, sum.held, sum.poisoned),
            (6, 6, 1, 0)
        );

        let (all, omitted) = list(&opened, Epoch::Current, 10);
        let paths: Vec<_> = all.iter().map(|object| object.path.as_str()).collect();
        let expected = [".0[0].1", ".0[1].1", ".0[2].1", ".0[3].1", ".0[4].1", ".1"];
        assert_eq!((paths.as_slice(), omitted), (expected.as_slice(), 0));
        for object in &all {
            let found = find(&opened, Epoch::Current, &object.path);
            assert_eq!(found.as_ref(), Some(object));
        }
        let SyncState::Mutex(mutex) = &all[3].state else {
            panic!("{all:?}");
        };
        let LockState::Held(holder) = &mutex.lock else {
            panic!("{mutex:?}");
        };
        assert_eq!(
            (holder.pid, holder.state),
            (std::process::id(), HolderState::Alive)
        );
        drop(guard);
    }

    #[test]
    fn used_locks_are_omitted_last() {
        let segment = Segment::anonymous(farm()).unwrap();
        let opened = opened(&segment);
        let _guard = segment.0[4].1.lock().unwrap();
        let (few, omitted) = list(&opened, Epoch::Current, 2);
        let paths: Vec<_> = few.iter().map(|object| object.path.as_str()).collect();
        assert_eq!(
            (paths.as_slice(), omitted),
            ([".0[0].1", ".0[4].1"].as_slice(), 4)
        );
        let (none, omitted) = list(&opened, Epoch::Current, 0);
        assert_eq!((none, omitted), (Vec::new(), 6));
    }

    #[test]
    fn poisoned_locks_are_kept_before_held_ones() {
        let segment = Segment::anonymous(farm()).unwrap();
        let opened = opened(&segment);
        let _guards = [0, 1, 2].map(|index| segment.0[index].1.lock().unwrap());
        let lock = &segment.0[4].1;
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = lock.lock().unwrap();
            panic!("this poisons the lock");
        }));
        assert!(panicked.is_err());
        let (few, _) = list(&opened, Epoch::Current, 2);
        let paths: Vec<_> = few.iter().map(|object| object.path.as_str()).collect();
        assert_eq!(paths, [".0[0].1", ".0[4].1"]);
    }

    #[test]
    fn count_separates_live_and_dead_holders() {
        let segment = Segment::anonymous(farm()).unwrap();
        let opened = opened(&segment);
        let _guards = [0, 1].map(|index| segment.0[index].1.lock().unwrap());
        for (epoch, held, dead) in [
            (Epoch::Current, 2, 0),
            (Epoch::OtherNamespace, 2, 0),
            (Epoch::Past, 0, 2),
        ] {
            let sum = count(&opened, epoch);
            assert_eq!(
                (sum.held, sum.stopped, sum.dead),
                (held, 0, dead),
                "{epoch:?}"
            );
        }
    }

    #[test]
    fn stale_or_foreign_holders_are_not_searched() {
        let me = std::process::id();
        assert_eq!(
            holder(Some(me), me, Epoch::Current).state,
            HolderState::Alive
        );
        assert_eq!(holder(None, me, Epoch::Current).pid, me);
        assert_eq!(holder(Some(me), me, Epoch::Past).state, HolderState::Dead);
        assert_eq!(
            holder(Some(me), me, Epoch::OtherNamespace).state,
            HolderState::Unknown
        );
        assert_eq!(
            holder(Some(1 << 29), 1 << 29, Epoch::Current).state,
            HolderState::Dead
        );
        // The id belongs to a thread of another process.
        assert_eq!(
            holder(Some(1 << 29), me, Epoch::Current).state,
            HolderState::Dead
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_listed_or_refused(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            len in any::<prop::sample::Index>(),
            is_cut in any::<bool>(),
        ) {
            let segment = Segment::anonymous(farm()).unwrap();
            let file = Segment::as_fd(&segment).unwrap().try_clone_to_owned().unwrap();
            let mut bytes = Vec::new();
            File::from(crate::os::mem::memfd::reopen(file, crate::os::mem::Access::ReadOnly).unwrap())
                .read_to_end(&mut bytes)
                .unwrap();
            let object_len = bytes.len() as u64;
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if is_cut {
                bytes.truncate(len.index(bytes.len()));
            }
            // The file may have become shorter since its length was read.
            for len in [object_len, bytes.len() as u64] {
                if let Ok(opened) = Opened::new(Source::File(file_of(&bytes)), len) {
                    let sum = count(&opened, Epoch::Past);
                    let (all, omitted) = list(&opened, Epoch::Current, 4);
                    prop_assert!(sum.counted <= sum.objects);
                    prop_assert_eq!(all.len() as u64 + omitted, sum.objects);
                }
            }
        }
    }
}
