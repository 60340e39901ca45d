//! Members of the family in the structs and arrays of users: placed by the derive
//! macro, listed by `inspect`, reinitialised in a copy.

use std::fs;

use shm_sync::inspect::{self, HolderState, LockState, SyncState};
use shm_sync::{
    End, Lifelines, RecvError, Removal, Segment, SegmentOptions, ShmBarrier, ShmChannel, ShmEvent,
    ShmLifeline, ShmMutex, ShmRwLock, ShmSafe, ShmSemaphore,
};

use crate::support::{Gate, TestFile, TestName, on_stage, spawn};

#[derive(ShmSafe)]
#[repr(C)]
struct Plant {
    name: [u8; 3],
    ready: ShmEvent,
    devices: ShmSemaphore<2>,
    workers: [Worker; 2],
    group: Lifelines<2>,
    line: ShmChannel<u32, 4, 2, 1>,
    table: ShmRwLock<u64, 2>,
    steps: ShmBarrier<1>,
}

#[derive(ShmSafe)]
#[repr(C)]
struct Worker {
    line: ShmLifeline,
    jobs: ShmMutex<u64>,
}

fn plant() -> Plant {
    let worker = || Worker {
        line: ShmLifeline::new(),
        jobs: ShmMutex::new(0),
    };
    Plant {
        name: *b"one",
        ready: ShmEvent::manual_reset(),
        devices: ShmSemaphore::new(),
        workers: [worker(), worker()],
        group: Lifelines::new(),
        line: ShmChannel::new(),
        table: ShmRwLock::new(0),
        steps: ShmBarrier::new(),
    }
}

/// Uses each member once.
fn run(plant: &Plant) {
    plant.ready.set().unwrap();
    plant.ready.wait().unwrap();
    assert_eq!(plant.devices.acquire_many(2).unwrap().len(), 2);
    for worker in &plant.workers {
        drop(worker.line.hold().unwrap());
        assert_eq!(worker.line.wait_for_end(None).unwrap(), End::Ended);
        *worker.jobs.lock().unwrap() += 1;
    }
    drop(plant.group.hold().unwrap());
    let receiver = plant.line.receiver().unwrap();
    plant.line.sender().unwrap().send(7).unwrap();
    assert!(receiver.iter().eq([7]));
    *plant.table.write().unwrap() += 1;
    assert_ne!(*plant.table.read().unwrap(), 0);
    assert!(plant.steps.join().unwrap().wait().unwrap());
}

/// The paths of all sync objects.
const PATHS: [&str; 20] = [
    ".ready",
    ".devices.gate",
    ".devices.permits[0]",
    ".devices.permits[1]",
    ".workers[0].line.holder",
    ".workers[0].jobs",
    ".workers[1].line.holder",
    ".workers[1].jobs",
    ".group.holders[0]",
    ".group.holders[1]",
    ".line.senders.lock",
    ".line.senders.seats[0]",
    ".line.senders.seats[1]",
    ".line.receivers.seats[0]",
    ".table.gate",
    ".table.writer",
    ".table.readers[0]",
    ".table.readers[1]",
    ".steps.gate",
    ".steps.members[0]",
];

on_stage! {
    fn smoke() {
        let plant = Segment::anonymous(plant()).unwrap();
        run(&plant);
        spawn(|| run(&plant)).join();
    }

    fn opener_finds_the_members() {
        let name = TestName::new("family");
        let created = Segment::create(&name, plant()).unwrap();
        let opened = Segment::<Plant>::open(&name).unwrap();
        let permit = created.devices.acquire().unwrap();
        assert_eq!(opened.devices.available(), 1);
        drop(permit);
        run(&opened);
    }

    fn zeros_become_members() {
        let plant = SegmentOptions::<[Plant]>::new()
            .anonymous_with_len("family", 3, |_| {})
            .unwrap();
        plant.iter().for_each(run);
    }

    fn inspect_lists_occupants() {
        let name = TestName::new("family-shown");
        let plant = Segment::create(&name, plant()).unwrap();
        let _permit = plant.devices.acquire().unwrap();
        plant.ready.set().unwrap();
        let held = Gate::new();
        let mut worker = spawn(|| {
            let _guard = plant.workers[1].line.hold().unwrap();
            held.open();
            nix::unistd::pause();
        });
        held.pass();
        let details = || inspect::details(&name.parse().unwrap(), 100).unwrap();
        let paths: Vec<String> =
            details().sync_objects.iter().map(|object| object.path.clone()).collect();
        let mut expected = PATHS.to_vec();
        let mut found: Vec<&str> = paths.iter().map(String::as_str).collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);

        let state_of = |path: &str| {
            let objects = details().sync_objects;
            let object = objects.into_iter().find(|object| object.path == path);
            object.unwrap().state
        };
        let SyncState::Event(event) = state_of(".ready") else {
            panic!("{:?}", state_of(".ready"));
        };
        assert!(event.is_set && !event.resets_itself && event.waiters == 0);
        let occupants: Vec<u32> = PATHS
            .into_iter()
            .filter_map(|path| match state_of(path) {
                SyncState::Seat(seat) => match seat.lock {
                    LockState::Held(holder) => {
                        assert_eq!(holder.state, HolderState::Alive);
                        Some(holder.pid)
                    }
                    _ => None,
                },
                _ => None,
            })
            .collect();
        assert_eq!(occupants, [std::process::id(), worker.pid()]);
        let locks = |details: &inspect::Details| {
            details.object.content.segment().unwrap().locks.unwrap()
        };
        let counted = locks(&details());
        assert_eq!((counted.objects, counted.occupied, counted.orphaned), (PATHS.len() as u64, 2, 0));
        assert_eq!(counted.held, 0);

        worker.kill();
        let SyncState::Seat(seat) = state_of(".workers[1].line.holder") else {
            panic!("a lifeline is a seat");
        };
        assert_eq!(seat.lock, LockState::OwnerDied);
        assert_eq!(locks(&details()).orphaned, 1);
    }

    // The copy of a file is like a file of another boot: no occupant is there any more.
    fn copy_has_orphaned_seats() {
        let original = TestFile::new("family-original");
        let copy = TestFile::new("family-copy");
        let plant = SegmentOptions::new()
            .removal(Removal::Persistent)
            .create(&original, plant())
            .unwrap();
        let permit = plant.devices.acquire().unwrap();
        let guard = plant.workers[0].line.hold().unwrap();
        plant.ready.set().unwrap();
        let sender = plant.line.sender().unwrap();
        sender.send(5).unwrap();
        Segment::flush(&plant).unwrap();
        fs::copy(&*original, &*copy).unwrap();
        let copied = Segment::<Plant>::open(&copy).unwrap();
        assert!(copied.ready.is_set());
        assert_eq!((copied.line.len(), copied.line.senders()), (1, 0));
        let receiver = copied.line.receiver().unwrap();
        assert_eq!(receiver.recv().unwrap(), 5);
        drop(copied.line.sender().unwrap());
        assert!(matches!(receiver.recv(), Err(RecvError::Disconnected { .. })));
        drop(receiver);
        assert_eq!(copied.devices.available(), 2);
        let permits = copied.devices.acquire_many(2).unwrap();
        for here in &permits {
            assert_eq!(here.after_death(), here.index() == permit.index());
        }
        let line = &copied.workers[0].line;
        assert!(!line.is_alive());
        assert_eq!(line.wait_for_end(None).unwrap(), End::Died);
        assert!(line.hold().unwrap().after_death());
        drop(permits);
        run(&copied);
        assert!(plant.workers[0].line.is_alive());
        drop((permit, guard, sender));
        assert_eq!(plant.line.receiver().unwrap().recv().unwrap(), 5);
        run(&plant);
    }

    // The seat of a leaked permit is on the robust list of its thread.
    fn leaked_permit_keeps_the_mapping() {
        let plant = Segment::anonymous(plant()).unwrap();
        std::mem::forget(plant.devices.acquire().unwrap());
        assert!(Segment::close(plant).is_err());
    }

    // The memory of a snapshot is private, so a forked child has copies of the seats.
    // Their occupants do not exist there.
    fn child_renews_copied_seats() {
        type Seats = (ShmSemaphore<2>, ShmLifeline, Lifelines<1>, ShmBarrier<1>);
        let name = TestName::new("family-snapshot");
        let seats: Seats =
            (ShmSemaphore::new(), ShmLifeline::new(), Lifelines::new(), ShmBarrier::new());
        let segment = Segment::create(&name, seats).unwrap();
        let snapshot = SegmentOptions::<Seats>::new().open_snapshot(&name).unwrap();
        drop(segment);
        let (semaphore, line, group, barrier) = &*snapshot;
        let _held = (
            semaphore.acquire_many(2).unwrap(),
            line.hold().unwrap(),
            group.hold().unwrap(),
            barrier.join().unwrap(),
        );
        spawn(|| {
            assert_eq!(line.wait_for_end(None).unwrap(), End::Died);
            assert_eq!(group.wait_for_end(0, None).unwrap(), End::Died);
            assert_eq!(semaphore.acquire_many(2).unwrap().len(), 2);
            drop(line.hold().unwrap());
            drop(group.hold().unwrap());
            assert!(barrier.join().unwrap().wait().unwrap());
        })
        .join();
        spawn(|| assert!(semaphore.acquire().unwrap().after_death())).join();
    }
}
