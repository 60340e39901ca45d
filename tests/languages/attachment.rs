//! A peer counts as attached, and the last process removes the name.

use shm_sync::{Removal, Segment, SegmentOptions, inspect};

use crate::peer::{for_each_pair, peers};
use crate::support::{TestAddress, on_stage};
use crate::world::World;

fn create(address: &TestAddress, removal: Removal) -> Segment<World> {
    SegmentOptions::new()
        .removal(removal)
        .create(address, World::new())
        .expect("the name is new")
}

// On stage, because a child that another test starts in this process would have copies
// of the descriptors for a moment, and would count as attached.
on_stage! {
    fn peer_is_listed_and_keeps_the_name() {
        for peer in peers() {
            for address in TestAddress::of_each_kind("languages-attached") {
                println!("{peer:?}, {}", &*address);
                let segment = create(&address, Removal::UntilLastDetach);
                let mut running = peer.open(&address);
                let pids = Segment::attached_pids(&segment).expect("the kernel lists them");
                assert!(pids.contains(&running.pid()), "{pids:?} has the peer");
                let object = address.parse().expect("it is an address");
                let object = inspect::object(&object).expect("it is a segment");
                assert!(
                    object.users.pids.contains(&running.pid()),
                    "inspect lists the peer: {:?}",
                    object.users
                );
                drop(segment);
                assert!(address.exists(), "the peer is attached");
                running.expect("increment 1", "ok 0");
                running.expect_ok("close");
                assert!(!address.exists(), "the last process has removed the name");
                running.end();
            }
        }
    }

    fn name_stays_until_the_last_of_two() {
        for_each_pair(|first, second| {
            for address in TestAddress::of_each_kind("languages-two") {
                let segment = create(&address, Removal::UntilLastDetach);
                let mut first = first.open(&address);
                let mut second = second.open(&address);
                drop(segment);
                first.expect_ok("close");
                assert!(address.exists(), "the second process is attached");
                second.expect_ok("close");
                assert!(!address.exists(), "no process is attached");
            }
        });
    }

    fn killed_peer_is_not_attached() {
        for_each_pair(|victim, survivor| {
            for address in TestAddress::of_each_kind("languages-killed") {
                let segment = create(&address, Removal::UntilLastDetach);
                let killed = victim.open(&address);
                let mut survivor = survivor.open(&address);
                let killed = killed.kill();
                let pids = Segment::attached_pids(&segment).expect("the kernel lists them");
                assert!(!pids.contains(&killed), "{pids:?} has the dead process");
                drop(segment);
                survivor.expect_ok("close");
                assert!(!address.exists(), "no process is attached");
            }
        });
    }

    fn persistent_name_stays() {
        for peer in peers() {
            for address in TestAddress::of_each_kind("languages-persistent") {
                drop(create(&address, Removal::Persistent));
                let mut running = peer.open(&address);
                running.expect("increment 2", "ok 0");
                running.expect_ok("close");
                assert!(address.exists(), "the name stays");
                let again = Segment::<World>::open(&address).expect("it is there");
                assert_eq!(again.ledger().total, 2, "so do the contents");
            }
        }
    }

    fn segment_is_opened_and_closed_many_times() {
        for peer in peers() {
            let address = TestAddress::new(shm_sync::Backing::Posix, "languages-again");
            drop(create(&address, Removal::Persistent));
            let mut running = peer.start();
            for round in 1..=100 {
                running.expect_ok(&format!("open {} -", &*address));
                running.expect("increment 1", "ok 0");
                running.expect("read", &format!("ok {round} {round} 0 0"));
                running.expect_ok("close");
            }
            running.end();
        }
    }
}
