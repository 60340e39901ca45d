//! A crate whose dependency on shm-sync has another name, `shm`. There is no crate
//! `shm_sync` here that the code of the macros could find.

#![cfg(test)]
#![allow(dead_code, reason = "most items only need to compile")]

use shm::{Segment, ShmCondvar, ShmMutex, ShmSafe, project};

#[derive(ShmSafe)]
#[shm_safe(crate = "shm")]
#[repr(C)]
struct Jobs {
    pending: ShmMutex<Pair<u32>>,
    changed: ShmCondvar,
    state: State,
    last: Last<u8>,
}

#[derive(ShmSafe, Clone, Copy, Debug, PartialEq)]
#[shm_safe(crate = "shm")]
#[repr(C)]
struct Pair<T: Copy>(T, [T; 2]);

#[derive(ShmSafe)]
#[shm_safe(crate = "shm")]
#[repr(u8)]
enum State {
    Idle,
    Busy = 7,
}

#[derive(ShmSafe)]
#[shm_safe(crate = "shm")]
#[repr(C, u16)]
enum Last<T> {
    None,
    Some { of: T, at: u64 },
}

/// A module that names the crate by a path of its own.
mod inner {
    pub(super) use shm as reexported;

    #[derive(reexported::ShmSafe)]
    #[shm_safe(crate = "self::reexported")]
    #[repr(transparent)]
    pub(super) struct Id(pub(super) u64);
}

#[test]
fn smoke() -> Result<(), shm::Error> {
    let jobs = Segment::anonymous(Jobs {
        pending: ShmMutex::new(Pair(1, [2, 3])),
        changed: ShmCondvar::new(),
        state: State::Busy,
        last: Last::Some { of: 1, at: 2 },
    })?;
    assert_eq!(*jobs.pending.lock()?, Pair(1, [2, 3]));
    let id = Segment::anonymous(ShmMutex::new(inner::Id(7)))?;
    assert_eq!(id.lock()?.0, 7);
    Ok(())
}

fn look(jobs: shm::ReadOnly<'_, Jobs>) -> Pair<u32> {
    project!(jobs => pending).peek()
}

/// Every name of the crate beside the prelude of std.
mod with_prelude {
    use shm::*;

    #[derive(ShmSafe)]
    #[shm_safe(crate = "shm")]
    #[repr(C)]
    struct Jobs {
        pending: ShmMutex<u64>,
    }

    fn of_the_prelude(text: Option<String>) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let text = text.ok_or("no text")?;
        Ok(text.into_bytes())
    }
}

/// Every name of the crate beside those of `std::sync`. Two have the same name in both,
/// because they mean the same. An explicit import decides.
mod with_std_sync {
    use shm::*;
    use shm::{LockResult, WaitTimeoutResult};
    use std::sync::*;

    type Results = (LockResult<()>, WaitTimeoutResult);
    type OfStd = (
        Arc<Mutex<u8>>,
        Barrier,
        Condvar,
        Once,
        OnceLock<u8>,
        RwLock<u8>,
        Weak<u8>,
    );
    type Locks<'a> = (
        Holder,
        PthreadCondvar,
        ShmCondvar,
        ShmMutex<u8>,
        ShmMutexGuard<'a, u8>,
        Poisoned<ShmMutexGuard<'a, u8>>,
        PoisonCause,
        LockError<ShmMutexGuard<'a, u8>>,
        WaitTimeoutLockResult<'a, u8>,
    );
    type Memory<'a> = (
        Address,
        Backing,
        CoreDump,
        IfAbandoned,
        Pages,
        ReadOnly<'a, u8>,
        ReadOnlySegment<u8>,
        Removal,
        Residency,
        Segment<u8>,
        SegmentOptions<u8>,
        Snapshot<u8>,
        SystemVStatus,
    );
    type Errors = (
        Abi,
        CorruptHeader,
        Error,
        IdentityError,
        Layout,
        NameError,
        Unsupported,
    );
    type Types = (CachePadded<u8>, Fingerprint, WithTail<u8, u8>);

    fn all<T: ShmSafe + TearFree + SegmentContent>(_: T, _: &impl VariableLength) {
        let _ = (MAX_LOCKS_HELD, inspect::page_size);
        let _ = unlink("/shm-sync-no-such-segment");
    }
}
