//! System V segments that another user can write to: given away, created under a known
//! key, or damaged on purpose. The crate locks nothing in them, follows no pointer in
//! them and trusts no number in them.

use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, raise};
use nix::unistd::{Gid, getegid, setegid};
use shm_sync::inspect::{self, Scope};
use shm_sync::{Backing, CorruptHeader, Error, Removal, Segment, SegmentOptions};

use Outcome::{Opened, WrongCreator};

use super::access::{
    Attached, Counter, Expected, Outcome, attempt, bytes_of, change_system_v, check, patch,
    put_good, put_system_v,
};
use crate::support::{
    Child, LOCK_WORD, NOBODY, TestAddress, become_nobody, is_root_for, on_stage, spawn,
};

/// The offset of the state in the header, and of the lock behind it.
const STATE: usize = 192;
const LOCK: usize = 200;
/// The end of the part of the header that changes.
const LIVE_END: usize = 256;
/// The offset of the removal policy.
const REMOVAL: usize = 17;

/// Every valid state, and some invalid ones.
const STATES: [u32; 10] = [0, 1, 2, 3, 4, 5, 0x0705, 6, 7, u32::MAX];

/// The time limit of calls that must not wait for a lock.
const AT_ONCE: Duration = Duration::from_secs(5);

fn new() -> TestAddress {
    TestAddress::new(Backing::SystemV, "foreign")
}

fn at_once<R>(what: &str, f: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let result = f();
    assert!(begun.elapsed() < AT_ONCE, "{what}: {:?}", begun.elapsed());
    result
}

/// Removes a segment that no process uses. Other tests of this program list all
/// segments meanwhile, and a probe of this segment counts as a user.
fn remove(address: &TestAddress) -> Result<(), Error> {
    let parsed = address.parse().unwrap();
    let begun = Instant::now();
    loop {
        match at_once("remove", || inspect::remove(&parsed)) {
            Err(Error::InUse { .. }) if begun.elapsed() < AT_ONCE => std::thread::yield_now(),
            other => return other,
        }
    }
}

/// Returns bytes that another user may write to the changing part of a header.
fn live_states(holder: &Child) -> Vec<(String, Vec<u8>)> {
    let mut parts = Vec::new();
    for state in STATES {
        // The lock is free, held by a living thread, or garbage that refers to any
        // address.
        let tid = holder.pid();
        for (lock, fill) in [("free", 0_u8), ("held", 0), ("garbage", 0x41)] {
            let mut part = vec![fill; LIVE_END - STATE];
            part[..4].copy_from_slice(&state.to_le_bytes());
            if lock != "garbage" {
                // The kind of a robust, process-shared mutex.
                part[LOCK - STATE + 16..][..4].copy_from_slice(&(16_u32 | 128).to_le_bytes());
            }
            if lock != "free" {
                part[LOCK - STATE..][..4].copy_from_slice(&tid.to_le_bytes());
            }
            parts.push((format!("state {state}, lock {lock}"), part));
        }
    }
    parts
}

/// Creates a good segment as an ordinary user, and gives it to root if `given_away`.
fn create_as_nobody(address: &TestAddress, mode: u32, given_away: bool) {
    spawn(|| {
        become_nobody();
        let options = SegmentOptions::new()
            .mode(mode)
            .removal(Removal::UntilLastDetach);
        std::mem::forget(options.create(address, Counter::default()).unwrap());
        if given_away {
            change_system_v(address, |permissions| permissions.uid = 0);
        }
    })
    .join();
}

on_stage! {
    fn segment_given_away_is_refused() {
        if !is_root_for("segment_given_away_is_refused") {
            return;
        }
        let address = new();
        create_as_nobody(&address, 0o600, true);
        assert_eq!(Attached::to(address.system_v_id().unwrap()).owner, 0);
        check::<Counter>("given away", &address, &Expected::for_users(WrongCreator));
        // Segments of the own user, and those that root gave away, can be opened.
        let own = new();
        put_good::<Counter>(&own);
        check::<Counter>("my own", &own, &Expected::all(Opened));
        let for_nobody = new();
        drop(SegmentOptions::new().owner(NOBODY).create(&for_nobody, Counter::default()).unwrap());
        let options = SegmentOptions::<Counter>::new().owner(NOBODY);
        drop(options.open(&for_nobody).unwrap());
        spawn(|| {
            become_nobody();
            drop(Segment::<Counter>::open(&for_nobody).expect("root may give a segment away"));
        })
        .join();
    }

    fn creator_of_other_group_is_refused() {
        const GROUP: u32 = 4321;
        if !is_root_for("creator_of_other_group_is_refused") {
            return;
        }
        let root = getegid();
        let options = SegmentOptions::new().mode(0o660).group(GROUP);
        let address = new();
        setegid(Gid::from_raw(NOBODY)).unwrap();
        let refused = options.create(&address, Counter::default());
        assert!(
            matches!(refused, Err(Error::WrongCreatorGroup { expected: GROUP, found: NOBODY, .. })),
            "{refused:?}"
        );
        assert!(!address.exists());
        drop(SegmentOptions::new().mode(0o660).create(&address, Counter::default()).unwrap());
        setegid(root).unwrap();
        change_system_v(&address, |permissions| permissions.gid = GROUP);
        for mode in [0o660, 0o600] {
            change_system_v(&address, |permissions| permissions.mode = mode);
            let opened = options.open(&address);
            assert!(matches!(opened, Err(Error::WrongCreatorGroup { .. })), "{mode:o}: {opened:?}");
        }
        assert_eq!(attempt::<Counter>(super::access::Access::Open, &address), Some(Opened));

        // Creators of the group, and of root's group, are accepted.
        for group in [GROUP, 0] {
            let address = new();
            setegid(Gid::from_raw(group)).unwrap();
            drop(options.create(&address, Counter::default()).unwrap());
            setegid(root).unwrap();
            drop(options.open(&address).unwrap());
        }
    }

    fn squatted_key_is_not_locked_or_changed() {
        if !is_root_for("squatted_key_is_not_locked_or_changed") {
            return;
        }
        let holder = spawn(|| {
            nix::unistd::pause();
        });
        for (mode, given_away) in [(0o600, false), (0o666, false), (0o600, true)] {
            let address = new();
            create_as_nobody(&address, mode, given_away);
            for (what, part) in live_states(&holder) {
                patch(&address, STATE, &part);
                let before = bytes_of(&address);
                let what = format!("{what}, mode {mode:o}, given away: {given_away}");
                let anew = SegmentOptions::new().if_abandoned(shm_sync::IfAbandoned::Recreate);
                at_once(&what, || {
                    let created = Segment::create(&address, Counter::default());
                    assert!(matches!(created, Err(Error::AlreadyExists { .. })), "{what}: {created:?}");
                    let made = Segment::open_or_create(&address, Counter::default);
                    let refused = anew.create(&address, Counter::default());
                    let read = Segment::<Counter>::open_read_only(&address);
                    for error in [made.err(), refused.err(), read.err()] {
                        let error = error.expect("a foreign segment must be refused");
                        let is_refused_as_foreign = matches!(
                            error,
                            Error::WrongOwner { .. } | Error::WrongCreator { .. }
                        );
                        assert!(is_refused_as_foreign, "{what}: {error:?}");
                    }
                });
                assert!(bytes_of(&address) == before, "{what}: the segment was changed");
            }
        }
    }

    fn tool_locks_no_foreign_segment() {
        if !is_root_for("tool_locks_no_foreign_segment") {
            return;
        }
        if unshare(CloneFlags::CLONE_NEWIPC).is_err() {
            println!("skipped, because a new IPC namespace is not permitted");
            return;
        }
        let holder = spawn(|| {
            nix::unistd::pause();
        });
        // Each state gets its own segment, so that a list shows all of them.
        let parts = live_states(&holder);
        let all: Vec<_> = parts
            .iter()
            .enumerate()
            .map(|(number, (what, part))| {
                let address = new();
                let (mode, given_away) = [(0o600, false), (0o666, false), (0o600, true)][number % 3];
                create_as_nobody(&address, mode, given_away);
                patch(&address, STATE, part);
                (what, bytes_of(&address), address)
            })
            .collect();
        // Another process attaches and detaches meanwhile, as the last user does.
        let _other_process = spawn(|| loop {
            for (_, _, address) in &all {
                drop(Attached::to(address.system_v_id().unwrap()));
            }
        });
        for _ in 0..3 {
            let found = at_once("list", || inspect::objects(Scope::Everything).unwrap());
            assert!(found.len() >= all.len());
        }
        for (what, before, address) in &all {
            let parsed = address.parse().unwrap();
            at_once(what, || {
                let _ = inspect::details(&parsed, 10);
                let _ = inspect::sync_object(&parsed, "");
            });
            assert!(bytes_of(address) == *before, "{what}: the segment was changed");
        }
    }

    fn foreign_segment_is_removed_by_its_count() {
        if !is_root_for("foreign_segment_is_removed_by_its_count") {
            return;
        }
        let holder = spawn(|| {
            nix::unistd::pause();
        });
        for (number, (what, part)) in live_states(&holder).iter().enumerate() {
            let address = new();
            let (mode, given_away) = [(0o600, false), (0o666, false), (0o600, true)][number % 3];
            create_as_nobody(&address, mode, given_away);
            patch(&address, STATE, part);
            let parsed = address.parse().unwrap();
            let user = Attached::to(address.system_v_id().unwrap());
            let before = bytes_of(&address);
            let refused = at_once(what, || inspect::remove(&parsed));
            assert!(matches!(refused, Err(Error::InUse { .. })), "{what}: {refused:?}");
            assert!(bytes_of(&address) == before, "{what}: the segment was changed");
            drop(user);
            remove(&address).unwrap_or_else(|e| panic!("{what}: {e:?}"));
            assert!(!address.exists(), "{what}");
        }
        // The tool does not remove segments of other programs.
        let address = new();
        put_system_v(&address, 4096);
        change_system_v(&address, |permissions| permissions.uid = NOBODY);
        let refused = inspect::remove(&address.parse().unwrap());
        assert!(matches!(refused, Err(Error::NotASegment { .. })), "{refused:?}");
    }

    fn probe_ignores_foreign_header() {
        if !is_root_for("probe_ignores_foreign_header") {
            return;
        }
        // A segment of root that all users may write to. Another user changes its
        // removal policy.
        let address = new();
        drop(SegmentOptions::new().mode(0o666).create(&address, Counter::default()).unwrap());
        patch(&address, REMOVAL, &[1]);
        let _other_process = spawn(|| {
            become_nobody();
            loop {
                let Some(id) = address.system_v_id() else { return };
                drop(Attached::to(id));
            }
        });
        for _ in 0..200 {
            inspect::object(&address.parse().unwrap()).expect("the segment must exist");
        }
    }

    fn stopped_creator_is_awaited_for_ten_seconds() {
        const PATIENCE: Duration = Duration::from_secs(10);
        let address = new();
        let mut creator = spawn(|| {
            let _ = SegmentOptions::<Counter>::new().create_in_place(&address, |_| raise(Signal::SIGSTOP).unwrap());
        });
        creator.wait_until_stopped();
        type Act = fn(&str) -> Option<Error>;
        let acts: [Act; 4] = [
            |at| Segment::<Counter>::open(at).err(),
            |at| Segment::create(at, Counter::default()).err(),
            |at| Segment::open_or_create(at, Counter::default).err(),
            |at| SegmentOptions::new()
                .if_abandoned(shm_sync::IfAbandoned::Recreate)
                .open_or_create(at, Counter::default)
                .err(),
        ];
        let waiting = acts.map(|act| {
            spawn(|| {
                let begun = Instant::now();
                let error = act(&address);
                let waited = begun.elapsed();
                assert!(matches!(error, Some(Error::Unfinished { waited: PATIENCE, .. })), "{error:?}");
                assert!(waited >= PATIENCE && waited < PATIENCE * 3, "{waited:?}");
            })
        });
        let parsed = address.parse().unwrap();
        let refused = at_once("remove", || inspect::remove(&parsed));
        assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
        let read = at_once("read", || Segment::<Counter>::open_read_only(&address));
        assert!(matches!(read, Err(Error::NotFound { .. })), "{read:?}");
        waiting.into_iter().for_each(Child::join);
        // The segment is unchanged. When it is continued, the creator completes it.
        creator.signal(Signal::SIGCONT);
        creator.wait();
        drop(Segment::<Counter>::open(&address).unwrap());
    }

    fn damaged_segment_is_removed_by_its_count() {
        const FORMAT: usize = 8;
        for (at, byte) in [(FORMAT, 99), (REMOVAL, 7), (FORMAT + 4, 77)] {
            for recreates in [false, true] {
                let address = new();
                put_good::<Counter>(&address);
                patch(&address, at, &[byte]);
                let user = Attached::to(address.system_v_id().unwrap());
                let parsed = address.parse().unwrap();
                let refused = inspect::remove(&parsed);
                assert!(matches!(refused, Err(Error::InUse { .. })), "{at}: {refused:?}");
                drop(user);
                let anew = SegmentOptions::new().if_abandoned(shm_sync::IfAbandoned::Recreate);
                if recreates {
                    drop(anew.create(&address, Counter::default()).unwrap());
                } else {
                    remove(&address).unwrap();
                }
                assert_eq!(address.exists(), recreates, "{at}");
            }
        }
    }

    fn detached_holder_does_not_block_removal() {
        let holder = spawn(|| {
            nix::unistd::pause();
        });
        for state in [1_u32, 2, 3] {
            let address = new();
            put_good::<Counter>(&address);
            patch(&address, STATE, &state.to_le_bytes());
            patch(&address, LOCK + LOCK_WORD, &holder.pid().to_le_bytes());
            remove(&address).unwrap();
            assert!(!address.exists());
        }
    }

    fn damaged_lock_does_not_block_removal() {
        const KIND: usize = LOCK + if cfg!(target_env = "musl") { 0 } else { 16 };
        // These kinds are, in order: refused by glibc, passed to the kernel, with
        // effects on the thread's priority, and such that an unlock would fail.
        let file_types = [0x5b_u32, u32::MAX, 0xb0, 0x20, 0x40, 0xc0, 0, 1, 3, 0x80, 0x90];
        for state in [1_u32, 2, 3] {
            for kind in file_types {
                let address = new();
                put_good::<Counter>(&address);
                patch(&address, STATE, &state.to_le_bytes());
                patch(&address, KIND, &kind.to_le_bytes());
                let what = format!("state {state}, kind {kind:#x}");
                let opened = at_once(&what, || Segment::<Counter>::open(&address));
                match (state, opened) {
                    (2, Ok(_)) => {}
                    (1 | 3, Err(Error::Corrupt { reason: CorruptHeader::UnknownLock, .. })) => {}
                    (_, other) => panic!("{what}: {other:?}"),
                }
                remove(&address).unwrap_or_else(|error| panic!("{what}: {error:?}"));
                assert!(!address.exists(), "{what}");
            }
            // The lock is held by the removing thread, which is not attached.
            let address = new();
            put_good::<Counter>(&address);
            patch(&address, STATE, &state.to_le_bytes());
            let me = u32::try_from(nix::unistd::gettid().as_raw()).unwrap();
            patch(&address, LOCK + LOCK_WORD, &me.to_le_bytes());
            remove(&address).unwrap_or_else(|error| panic!("{state}, held by me: {error:?}"));
            assert!(!address.exists());
        }
    }
}
