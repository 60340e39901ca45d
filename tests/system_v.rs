//! What only System V segments have: keys from files, ids, no key at all, and a
//! status that the kernel keeps.

mod common;

use std::ffi::CString;
use std::process::id as own_pid;

use common::{Gate, TestFile, TestKey, dead_owner, expect_poisoned, on_stage, spawn};
use shm_sync::{
    Address, Backing, Error, Residency, Segment, SegmentOptions, ShmMutex, SystemVStatus,
    Unsupported, unlink,
};

type Counter = ShmMutex<u64>;

fn status(segment: &Segment<Counter>) -> SystemVStatus {
    let status = Segment::system_v_status(segment).unwrap();
    status.expect("it is of System V")
}

on_stage! {
    fn smoke() {
        let key = TestKey::new();
        let shared = Segment::create(&key, Counter::new(1)).unwrap();
        assert_eq!(Segment::backing(&shared), Backing::SystemV);
        assert!(Segment::as_fd(&shared).is_none());
        spawn(|| *Segment::<Counter>::open(&key).unwrap().lock().unwrap() += 1).join();
        assert_eq!(*shared.lock().unwrap(), 2);
        Segment::flush(&shared).unwrap();

        let file = TestFile::new("status");
        let other = Segment::create(&file, Counter::new(0)).unwrap();
        assert_eq!(Segment::system_v_status(&other).unwrap(), None);
    }

    fn a_key_is_made_of_a_file_as_c_programs_make_it() {
        let path = TestFile::new("ftok");
        std::fs::write(&*path, "").unwrap();
        let address = Address::ftok(&*path, b'j').unwrap();
        let c_path = CString::new(&*path).unwrap();
        // SAFETY: a string that ends in NUL.
        let key = unsafe { libc::ftok(c_path.as_ptr(), i32::from(b'j')) };
        assert_eq!(address, Address::system_v(key).unwrap());
        assert_ne!(address, Address::ftok(&*path, b'k').unwrap());

        let shared = Segment::create(&address, Counter::new(0)).unwrap();
        assert_eq!(status(&shared).key, key);
        spawn(|| {
            let address = Address::ftok(&*path, b'j').unwrap();
            *Segment::<Counter>::open(&address).unwrap().lock().unwrap() += 1;
        })
        .join();
        assert_eq!(*shared.lock().unwrap(), 1);
        unlink(&address).unwrap();

        std::fs::remove_file(&*path).unwrap();
        assert!(matches!(Address::ftok(&*path, b'j'), Err(Error::Os { call: "ftok", .. })));
    }

    fn a_key_may_be_spelt_in_several_ways() {
        let key = TestKey::new();
        let _shared = Segment::create(&key, Counter::new(0)).unwrap();
        let number = key.number();
        for address in [format!("sysv:{number}"), format!("sysv:{number:#x}")] {
            assert!(Segment::<Counter>::open(&address).is_ok(), "{address}");
        }
        let address = Address::system_v(number).unwrap();
        assert_eq!(&*address, &*key);
        assert!(matches!(Address::system_v(0), Err(Error::InvalidName { .. })));
    }

    fn without_a_key_it_is_found_by_its_id() {
        let shared = SegmentOptions::new().create_private(Counter::new(0)).unwrap();
        let address = Segment::name(&shared).unwrap().to_owned();
        assert_eq!(address, format!("sysv:id:{}", status(&shared).id));
        assert_eq!(status(&shared).key, 0);
        spawn(|| {
            let theirs = Segment::<Counter>::open(&address).unwrap();
            *theirs.lock().unwrap() += 1;
            std::mem::forget(theirs.lock().unwrap());
        })
        .join();
        assert_eq!(*expect_poisoned(shared.lock()).into_inner(), 1);

        let created = Segment::create(&address, Counter::new(0));
        assert!(matches!(created, Err(Error::Unsupported(Unsupported::CreationById))));
        unlink(&address).unwrap();
        drop(shared);
        assert!(matches!(Segment::<Counter>::open(&address), Err(Error::NotFound)));
        assert!(matches!(unlink(&address), Err(Error::NotFound)));
    }

    fn its_status_is_what_the_kernel_says() {
        let key = TestKey::new();
        let options = SegmentOptions::new().mode(0o640);
        // The kernel's clock for this is a tick behind.
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let before = now.as_secs() as i64 - 1;
        let shared = options.create(&key, Counter::new(0)).unwrap();
        let first = status(&shared);
        assert_eq!(first.key, key.number());
        assert_eq!(first.owner, nix::unistd::Uid::effective().as_raw());
        assert_eq!(first.group, nix::unistd::Gid::effective().as_raw());
        assert_eq!(first.mode, 0o640);
        assert_eq!(first.size, Segment::mapped_len(&shared) as u64);
        assert_eq!(first.attached, 1);
        assert_eq!(u32::try_from(first.creator_pid), Ok(own_pid()));
        assert_eq!(u32::try_from(first.last_pid), Ok(own_pid()));
        assert!(first.attach_time >= before && first.change_time >= before);
        assert_eq!(first.detach_time, 0);
        assert!(!first.is_locked && !first.is_removed);

        let (attached, leave) = (Gate::new(), Gate::new());
        let opener = spawn(|| {
            let theirs = Segment::<Counter>::open(&key).unwrap();
            assert_eq!(status(&theirs).attached, 3, "inherited, and opened");
            attached.open();
            leave.pass();
        });
        attached.pass();
        let second = status(&shared);
        assert_eq!(second.attached, 3);
        assert_eq!(u32::try_from(second.last_pid), Ok(opener.pid()));
        assert_eq!(Segment::attached(&shared).unwrap(), [own_pid(), opener.pid()]);
        leave.open();
        opener.join();
        let third = status(&shared);
        assert_eq!(third.attached, 1);
        assert!(third.detach_time >= before);
        assert_eq!(third.id, first.id);
    }

    fn the_kernel_counts_the_killed() {
        let key = TestKey::new();
        let shared = Segment::create(&key, Counter::new(0)).unwrap();
        let attached = Gate::new();
        let mut opener = spawn(|| {
            let theirs = Segment::<Counter>::open(&key).unwrap();
            let _guard = theirs.lock().unwrap();
            attached.open();
            nix::unistd::pause();
        });
        attached.pass();
        assert_eq!(status(&shared).attached, 3);
        opener.kill();
        assert_eq!(status(&shared).attached, 1);
        assert_eq!(Segment::attached(&shared).unwrap(), [own_pid()]);
        let cause = expect_poisoned(shared.lock()).cause();
        assert_eq!(dead_owner(cause), Some(opener.pid()));
    }

    fn removed_it_goes_with_the_last_attachment() {
        let key = TestKey::new();
        let shared = Segment::create(&key, Counter::new(1)).unwrap();
        let id = status(&shared).id;
        let (removed, done) = (Gate::new(), Gate::new());
        let user = spawn(|| {
            let theirs = Segment::<Counter>::open(&key).unwrap();
            unlink(&key).unwrap();
            removed.open();
            done.pass();
            assert_eq!(*theirs.lock().unwrap(), 2, "it is there for those who have it");
        });
        removed.pass();
        let now = status(&shared);
        assert!(now.is_removed);
        assert_eq!((now.key, now.id), (0, id));
        assert!(matches!(Segment::<Counter>::open(&key), Err(Error::NotFound)));
        *shared.lock().unwrap() += 1;

        // The key is free, and what comes next is another segment.
        let next = Segment::create(&key, Counter::new(100)).unwrap();
        assert_ne!(status(&next).id, id);
        assert_eq!((*shared.lock().unwrap(), *next.lock().unwrap()), (2, 100));
        done.open();
        user.join();
        drop(shared);
        let by_id = Segment::<Counter>::open(&format!("sysv:id:{id}"));
        assert!(matches!(by_id, Err(Error::NotFound)), "the memory is gone");
        assert_eq!(*Segment::<Counter>::open(&key).unwrap().lock().unwrap(), 100);
    }

    fn it_can_be_kept_in_memory() {
        let key = TestKey::new();
        let shared = Segment::create(&key, Counter::new(0)).unwrap();
        assert!(!status(&shared).is_locked);
        let options = SegmentOptions::new().residency(Residency::Locked);
        let locked = options.open::<Counter>(&key).unwrap();
        assert!(status(&locked).is_locked);
        drop(locked);
        assert!(status(&shared).is_locked, "it is the segment that is locked");
    }
}
