//! `Published` and `ShmOnceLock` between processes.

use std::time::Duration;

use crate::support::{Gate, TestName, die, exit_now, on_stage, spawn};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use shm_sync::{Error, LockError, Published, Segment, ShmOnceLock};

on_stage! {
    fn read_only_process_sees_publications() {
        let name = TestName::new("published");
        let latest = Segment::create(&name, Published::new([0_u64; 100])).unwrap();
        let reader = spawn(|| {
            let latest = Segment::<Published<[u64; 100]>>::open_read_only(&name).unwrap();
            let latest = latest.view();
            let mut seen = 0;
            while seen < 1000 {
                if let Some(value) = latest.read_if_newer(&mut seen) {
                    assert_eq!(value, [seen; 100], "the copy is whole");
                }
                assert!(latest.version() >= seen);
            }
            assert_eq!(latest.read(), [1000; 100]);
        });
        for value in 1..=1000 {
            latest.publish([value; 100]).unwrap();
        }
        reader.join();
    }

    fn waiting_process_sees_publication() {
        let latest = Segment::anonymous(Published::new(0_u32)).unwrap();
        let waiter = spawn(|| {
            assert!(latest.wait_newer(0, Some(Duration::from_secs(60))).unwrap());
            assert_eq!(latest.read(), 7);
        });
        waiter.wait_until_asleep();
        latest.publish(7).unwrap();
        waiter.join();
    }

    fn publisher_killed_in_update_publishes_nothing() {
        let latest = Segment::anonymous(Published::new(1_u64)).unwrap();
        let mut publisher = spawn(|| {
            let _ = latest.update(|_| die());
        });
        publisher.wait();
        assert_eq!(latest.read_with_version(), (1, 0));
        assert_eq!(latest.publish(2).unwrap(), 1);
    }

    fn child_forked_in_update_publishes_nothing() {
        let latest = Segment::anonymous(Published::new(1_u64)).unwrap();
        let mut child = None;
        let result = latest.update(|value| {
            // SAFETY: this process has one thread. The child only returns from the
            // closure, and ends.
            child = Some(unsafe { fork() }.unwrap());
            value + 1
        });
        match child.expect("the closure ran") {
            ForkResult::Child => {
                let refused = matches!(result, Err(Error::Lock(LockError::NotOwner)));
                exit_now(i32::from(!refused))
            }
            ForkResult::Parent { child } => {
                assert_eq!(result.unwrap(), 1);
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
            }
        }
        assert_eq!(latest.read_with_version(), (2, 1));
    }

    fn maker_killed_leaves_no_value() {
        let lock = Segment::anonymous(ShmOnceLock::<u64>::new()).unwrap();
        let there = Gate::new();
        let mut maker = spawn(|| {
            let _ = lock.get_or_init(|| {
                there.open();
                loop {
                    nix::unistd::pause();
                }
            });
        });
        there.pass();
        let waiter = spawn(|| assert_eq!(*lock.get_or_init(|| 5).unwrap(), 5));
        waiter.wait_until_asleep();
        assert_eq!(lock.get(), None);
        maker.kill();
        waiter.join();
        assert_eq!(lock.get(), Some(&5));
    }
}
