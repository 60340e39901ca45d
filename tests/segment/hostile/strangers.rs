//! System V segments to which strangers may write: given away, squatted on, damaged on
//! purpose. Nothing in them is locked, followed or believed.

use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, raise};
use nix::unistd::{Gid, getegid, setegid};
use shm_sync::inspect::{self, Scope};
use shm_sync::{Backing, CorruptHeader, Error, Removal, Segment, SegmentOptions};

use Verdict::{Good, WrongCreator};

use super::ways::{
    Attached, Counter, Expected, Verdict, attempt, bytes_of, change_system_v, check, patch,
    put_good, put_system_v,
};
use crate::support::{Child, NOBODY, TestAddress, become_nobody, is_root_for, on_stage, spawn};

/// Where the state is in the header, and the lock behind it.
const STATE: usize = 192;
const LOCK: usize = 200;
/// The part of the header that changes.
const LIVE_END: usize = 256;
/// Where a header says what becomes of the segment.
const REMOVAL: usize = 17;

/// Every state that there is, and some that are none.
const STATES: [u32; 10] = [0, 1, 2, 3, 4, 5, 0x0705, 6, 7, u32::MAX];

/// A lookout for what must not take time: no lock is waited for.
const AT_ONCE: Duration = Duration::from_secs(5);

fn new() -> TestAddress {
    TestAddress::new(Backing::SystemV, "stranger")
}

fn at_once<R>(what: &str, f: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let result = f();
    assert!(begun.elapsed() < AT_ONCE, "{what}: {:?}", begun.elapsed());
    result
}

/// Removes a segment that no process uses. The other tests of this program list all
/// segments meanwhile, and while one of them looks at this one, it is in use.
fn remove(address: &TestAddress) -> Result<(), Error> {
    let parsed = address.parse().unwrap();
    let begun = Instant::now();
    loop {
        match at_once("remove", || inspect::remove(&parsed)) {
            Err(Error::InUse) if begun.elapsed() < AT_ONCE => std::thread::yield_now(),
            other => return other,
        }
    }
}

/// What a stranger makes of the live part of a header.
fn live_parts(holder: &Child) -> Vec<(String, Vec<u8>)> {
    let mut parts = Vec::new();
    for state in STATES {
        // Free; held by a living thread; garbage that leads anywhere.
        let tid = holder.pid();
        for (lock, fill) in [("free", 0_u8), ("held", 0), ("garbage", 0x41)] {
            let mut part = vec![fill; LIVE_END - STATE];
            part[..4].copy_from_slice(&state.to_le_bytes());
            if lock != "garbage" {
                // The kind of a robust mutex that processes share.
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

/// Puts a good segment there as the user nobody, and gives it away to root if asked.
fn put_as_nobody(address: &TestAddress, mode: u32, given_away: bool) {
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
    fn a_segment_given_away_is_refused() {
        if !is_root_for("a_segment_given_away_is_refused") {
            return;
        }
        let address = new();
        put_as_nobody(&address, 0o600, true);
        assert_eq!(Attached::to(address.system_v_id().unwrap()).owner, 0);
        check::<Counter>("given away", &address, &Expected::for_users(WrongCreator));
        // The creator itself and the new owner's own are fine.
        let own = new();
        put_good::<Counter>(&own);
        check::<Counter>("my own", &own, &Expected::all(Good));
        let for_nobody = new();
        drop(SegmentOptions::new().owner(NOBODY).create(&for_nobody, Counter::default()).unwrap());
        let options = SegmentOptions::new().owner(NOBODY);
        drop(options.open::<Counter>(&for_nobody).unwrap());
        spawn(|| {
            become_nobody();
            drop(Segment::<Counter>::open(&for_nobody).expect("root may give"));
        })
        .join();
    }

    fn a_creator_of_another_group_is_refused() {
        const GROUP: u32 = 4321;
        if !is_root_for("a_creator_of_another_group_is_refused") {
            return;
        }
        let root = getegid();
        let options = SegmentOptions::new().mode(0o660).group(GROUP);
        let address = new();
        setegid(Gid::from_raw(NOBODY)).unwrap();
        let refused = options.create(&address, Counter::default());
        assert!(
            matches!(refused, Err(Error::WrongCreatorGroup { expected: GROUP, found: NOBODY })),
            "{refused:?}"
        );
        assert!(!address.exists());
        drop(SegmentOptions::new().mode(0o660).create(&address, Counter::default()).unwrap());
        setegid(root).unwrap();
        change_system_v(&address, |permissions| permissions.gid = GROUP);
        for mode in [0o660, 0o600] {
            change_system_v(&address, |permissions| permissions.mode = mode);
            let opened = options.open::<Counter>(&address);
            assert!(matches!(opened, Err(Error::WrongCreatorGroup { .. })), "{mode:o}: {opened:?}");
        }
        assert_eq!(attempt::<Counter>(super::ways::Way::Open, &address), Some(Good));

        // Of the group itself, or of root's, it is welcome.
        for group in [GROUP, 0] {
            let address = new();
            setegid(Gid::from_raw(group)).unwrap();
            drop(options.create(&address, Counter::default()).unwrap());
            setegid(root).unwrap();
            drop(options.open::<Counter>(&address).unwrap());
        }
    }

    fn a_squatted_key_is_neither_locked_nor_changed() {
        if !is_root_for("a_squatted_key_is_neither_locked_nor_changed") {
            return;
        }
        let holder = spawn(|| {
            nix::unistd::pause();
        });
        for (mode, given_away) in [(0o600, false), (0o666, false), (0o600, true)] {
            let address = new();
            put_as_nobody(&address, mode, given_away);
            for (what, part) in live_parts(&holder) {
                patch(&address, STATE, &part);
                let before = bytes_of(&address);
                let what = format!("{what}, mode {mode:o}, given away: {given_away}");
                let anew = SegmentOptions::new().if_abandoned(shm_sync::IfAbandoned::Recreate);
                at_once(&what, || {
                    let created = Segment::create(&address, Counter::default());
                    assert!(matches!(created, Err(Error::AlreadyExists)), "{what}: {created:?}");
                    let made = Segment::open_or_create(&address, Counter::default);
                    let refused = anew.create(&address, Counter::default());
                    let read = Segment::<Counter>::open_read_only(&address);
                    for error in [made.err(), refused.err(), read.err()] {
                        let error = error.expect("it is a stranger's");
                        let is_told = matches!(
                            error,
                            Error::WrongOwner { .. } | Error::WrongCreator { .. }
                        );
                        assert!(is_told, "{what}: {error:?}");
                    }
                });
                assert!(bytes_of(&address) == before, "{what}: it was changed");
            }
        }
    }

    fn the_tools_looks_lock_no_stranger() {
        if !is_root_for("the_tools_looks_lock_no_stranger") {
            return;
        }
        if unshare(CloneFlags::CLONE_NEWIPC).is_err() {
            println!("skipped: no IPC namespace of its own");
            return;
        }
        let holder = spawn(|| {
            nix::unistd::pause();
        });
        // One segment for each, so that a list shows all of them.
        let parts = live_parts(&holder);
        let all: Vec<_> = parts
            .iter()
            .enumerate()
            .map(|(number, (what, part))| {
                let address = new();
                let (mode, given_away) = [(0o600, false), (0o666, false), (0o600, true)][number % 3];
                put_as_nobody(&address, mode, given_away);
                patch(&address, STATE, part);
                (what, bytes_of(&address), address)
            })
            .collect();
        // While somebody comes and goes, as a last one out does.
        let _visitor = spawn(|| loop {
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
            assert!(bytes_of(address) == *before, "{what}: it was changed");
        }
    }

    fn a_strangers_segment_is_removed_by_its_count() {
        if !is_root_for("a_strangers_segment_is_removed_by_its_count") {
            return;
        }
        let holder = spawn(|| {
            nix::unistd::pause();
        });
        for (number, (what, part)) in live_parts(&holder).iter().enumerate() {
            let address = new();
            let (mode, given_away) = [(0o600, false), (0o666, false), (0o600, true)][number % 3];
            put_as_nobody(&address, mode, given_away);
            patch(&address, STATE, part);
            let parsed = address.parse().unwrap();
            let user = Attached::to(address.system_v_id().unwrap());
            let before = bytes_of(&address);
            let refused = at_once(what, || inspect::remove(&parsed));
            assert!(matches!(refused, Err(Error::InUse)), "{what}: {refused:?}");
            assert!(bytes_of(&address) == before, "{what}: it was changed");
            drop(user);
            remove(&address).unwrap_or_else(|e| panic!("{what}: {e:?}"));
            assert!(!address.exists(), "{what}");
        }
        // What is none of this crate's is not the tool's to remove.
        let address = new();
        put_system_v(&address, 4096);
        change_system_v(&address, |permissions| permissions.uid = NOBODY);
        let refused = inspect::remove(&address.parse().unwrap());
        assert!(matches!(refused, Err(Error::NotASegment)), "{refused:?}");
    }

    fn a_look_believes_no_strangers_header() {
        if !is_root_for("a_look_believes_no_strangers_header") {
            return;
        }
        // Root's segment, which all may write to: somebody changes what becomes of it.
        let address = new();
        drop(SegmentOptions::new().mode(0o666).create(&address, Counter::default()).unwrap());
        patch(&address, REMOVAL, &[1]);
        let _visitor = spawn(|| {
            become_nobody();
            loop {
                let Some(id) = address.system_v_id() else { return };
                drop(Attached::to(id));
            }
        });
        for _ in 0..200 {
            inspect::object(&address.parse().unwrap()).expect("it is there to stay");
        }
    }

    fn a_stopped_creator_is_waited_for_ten_seconds() {
        const PATIENCE: Duration = Duration::from_secs(10);
        let address = new();
        let mut creator = spawn(|| {
            let _ = SegmentOptions::new().create_in_place::<Counter>(&address, |_| raise(Signal::SIGSTOP).unwrap());
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
                assert!(matches!(error, Some(Error::Unfinished { waited: PATIENCE })), "{error:?}");
                assert!(waited >= PATIENCE && waited < PATIENCE * 3, "{waited:?}");
            })
        });
        let parsed = address.parse().unwrap();
        let refused = at_once("remove", || inspect::remove(&parsed));
        assert!(matches!(refused, Err(Error::InUse)), "{refused:?}");
        let read = at_once("read", || Segment::<Counter>::open_read_only(&address));
        assert!(matches!(read, Err(Error::NotFound)), "{read:?}");
        waiting.into_iter().for_each(Child::join);
        // It is as it was: continued, the creator completes it.
        creator.signal(Signal::SIGCONT);
        creator.wait();
        drop(Segment::<Counter>::open(&address).unwrap());
    }

    fn a_damaged_segment_is_removed_by_its_count() {
        const FORMAT: usize = 8;
        for (at, byte) in [(FORMAT, 99), (REMOVAL, 7), (FORMAT + 4, 77)] {
            for recreates in [false, true] {
                let address = new();
                put_good::<Counter>(&address);
                patch(&address, at, &[byte]);
                let user = Attached::to(address.system_v_id().unwrap());
                let parsed = address.parse().unwrap();
                let refused = inspect::remove(&parsed);
                assert!(matches!(refused, Err(Error::InUse)), "{at}: {refused:?}");
                drop(user);
                let anew = SegmentOptions::new().if_abandoned(shm_sync::IfAbandoned::Recreate);
                match recreates {
                    false => remove(&address).unwrap(),
                    true => drop(anew.create(&address, Counter::default()).unwrap()),
                }
                assert_eq!(address.exists(), recreates, "{at}");
            }
        }
    }

    fn a_lock_whose_holder_is_not_attached_keeps_no_removal() {
        let holder = spawn(|| {
            nix::unistd::pause();
        });
        for state in [1_u32, 2, 3] {
            let address = new();
            put_good::<Counter>(&address);
            patch(&address, STATE, &state.to_le_bytes());
            patch(&address, LOCK, &holder.pid().to_le_bytes());
            remove(&address).unwrap();
            assert!(!address.exists());
        }
    }

    fn a_damaged_lock_keeps_no_removal() {
        const KIND: usize = LOCK + 16;
        // In this order: kinds that glibc refuses, that ask the kernel, that change the
        // priority of the thread, and that no unlock would survive.
        let kinds = [0x5b_u32, u32::MAX, 0xb0, 0x20, 0x40, 0xc0, 0, 1, 3, 0x80, 0x90];
        for state in [1_u32, 2, 3] {
            for kind in kinds {
                let address = new();
                put_good::<Counter>(&address);
                patch(&address, STATE, &state.to_le_bytes());
                patch(&address, KIND, &kind.to_le_bytes());
                let what = format!("state {state}, kind {kind:#x}");
                let opened = at_once(&what, || Segment::<Counter>::open(&address));
                match (state, opened) {
                    (2, Ok(_)) => {}
                    (1 | 3, Err(Error::Corrupt(CorruptHeader::UnknownLock))) => {}
                    (_, other) => panic!("{what}: {other:?}"),
                }
                remove(&address).unwrap_or_else(|error| panic!("{what}: {error:?}"));
                assert!(!address.exists(), "{what}");
            }
            // Held by the thread that removes it, which is not attached.
            let address = new();
            put_good::<Counter>(&address);
            patch(&address, STATE, &state.to_le_bytes());
            let me = u32::try_from(nix::unistd::gettid().as_raw()).unwrap();
            patch(&address, LOCK, &me.to_le_bytes());
            remove(&address).unwrap_or_else(|error| panic!("{state}, held by me: {error:?}"));
            assert!(!address.exists());
        }
    }
}
