//! Who is attached: the kernel knows, however a process came and however it ended.

mod common;

use std::process::Command;

use common::{
    Child, Gate, Marked, NOBODY, TestAddress, become_nobody, is_root_for, on_stage, spawn,
};
use nix::sys::signal::Signal;
use shm_sync::{Backing, Segment, SegmentOptions};

/// A process that has opened the segment and stays until it is killed.
fn opener(address: &str) -> Child {
    settled(|stay| {
        let segment = Segment::<Marked>::open(address).unwrap();
        segment.visit();
        stay();
    })
}

/// A child that lives what `body` does up to its call of the function it is given,
/// and then stays.
fn settled(body: impl FnOnce(&dyn Fn())) -> Child {
    let there = Gate::new();
    let child = spawn(|| {
        body(&|| {
            there.open();
            loop {
                nix::unistd::pause();
            }
        });
    });
    there.pass();
    child
}

/// Asserts that exactly this process and `others` are attached.
fn assert_attached<'a>(segment: &Segment<Marked>, others: impl IntoIterator<Item = &'a Child>) {
    let mut expected: Vec<u32> = others.into_iter().map(Child::pid).collect();
    expected.push(std::process::id());
    expected.sort_unstable();
    assert_eq!(
        Segment::attached(segment).unwrap(),
        expected,
        "{:?}",
        Segment::name(segment)
    );
}

on_stage! {
    fn smoke() {
        for address in TestAddress::of_each_kind("attached") {
            let segment = Segment::create(&address, Marked::new(1)).unwrap();
            assert_attached(&segment, []);
            let mut other = opener(&address);
            assert_attached(&segment, [&other]);
            other.kill();
            assert_attached(&segment, []);
        }
    }

    fn openers_and_children_are_attached_until_they_end() {
        for address in TestAddress::of_each_kind("ways") {
            let segment = Segment::create(&address, Marked::new(1)).unwrap();
            let mut openers = [opener(&address), opener(&address)];
            let mut heir = settled(|stay| stay());
            let mut reader = settled(|stay| {
                let _read = Segment::<Marked>::open_read_only(&address).unwrap();
                // Its only attachment.
                drop(unsafe_copy(&segment));
                stay();
            });
            let [first, second] = &openers;
            assert_attached(&segment, [first, second, &heir, &reader]);

            // Stopped is not dead.
            openers[0].stop();
            let [first, second] = &openers;
            assert_attached(&segment, [first, second, &heir, &reader]);
            openers[0].kill(); // while it is stopped
            assert_attached(&segment, [&openers[1], &heir, &reader]);
            openers[1].signal(Signal::SIGTERM);
            openers[1].wait();
            assert_attached(&segment, [&heir, &reader]);
            reader.kill();
            assert_attached(&segment, [&heir]);
            heir.kill();
            assert_attached(&segment, []);
        }
    }

    fn who_exits_or_drops_or_executes_is_attached_no_more() {
        for address in TestAddress::of_each_kind("ends") {
            let segment = Segment::create(&address, Marked::new(1)).unwrap();
            spawn(|| {
                let opened = Segment::<Marked>::open(&address).unwrap();
                std::mem::forget(opened); // `exit` drops nothing
            })
            .join();
            assert_attached(&segment, []);

            let dropper = settled(|stay| {
                let opened = Segment::<Marked>::open(&address).unwrap();
                drop(unsafe_copy(&segment));
                drop(opened);
                stay();
            });
            assert_attached(&segment, []);
            drop(dropper);

            let (ready, go) = (Gate::new(), Gate::new());
            let mut executor = spawn(|| {
                let opened = Segment::<Marked>::open(&address).unwrap();
                ready.open();
                go.pass();
                std::mem::forget(opened);
                let name = c"sleep";
                let failed = nix::unistd::execvp(name, &[name, c"60"]);
                panic!("{failed:?}");
            });
            ready.pass();
            assert_attached(&segment, [&executor]);
            go.open();
            common::poll(|| {
                let comm = std::fs::read_to_string(format!("/proc/{}/comm", executor.pid()));
                comm.is_ok_and(|comm| comm.trim() == "sleep")
            });
            assert_attached(&segment, []);
            executor.kill();
        }
    }

    fn one_that_was_executed_and_opens_it_is_attached() {
        for address in TestAddress::of_each_kind("exec") {
            let segment = Segment::create(&address, Marked::new(1)).unwrap();
            let mut worker = Command::new(std::env::current_exe().unwrap())
                .env("SHM_SYNC_TEST_STAGE", "an_executed_opener")
                .env("SHM_SYNC_TEST_ADDRESS", &*address)
                .spawn()
                .unwrap();
            let expected = {
                let mut both = vec![std::process::id(), worker.id()];
                both.sort_unstable();
                both
            };
            common::poll(|| *segment.visits.lock().unwrap() == 1);
            assert_eq!(Segment::attached(&segment).unwrap(), expected);
            worker.kill().unwrap();
            worker.wait().unwrap();
            assert_attached(&segment, []);
        }
    }

    /// The other side of the test above; alone, it has nothing to do.
    fn an_executed_opener() {
        if let Ok(address) = std::env::var("SHM_SYNC_TEST_ADDRESS") {
            let segment = Segment::<Marked>::open(&address).unwrap();
            segment.visit();
            nix::unistd::pause();
        }
    }

    fn a_child_outlives_its_parent_and_is_still_attached() {
        for address in TestAddress::of_each_kind("orphan") {
            let _keeper = Segment::create(&address, Marked::new(1)).unwrap();
            let there = Gate::new();
            let tell = nix::unistd::pipe().unwrap();
            let mut parent = spawn(|| {
                let _opened = Segment::<Marked>::open(&address).unwrap();
                let heir = spawn(|| {
                    there.open();
                    nix::unistd::pause();
                });
                nix::unistd::write(&tell.1, &heir.pid().to_ne_bytes()).unwrap();
                there.pass();
                common::die()
            });
            parent.wait();
            let mut bytes = [0; 4];
            nix::unistd::read(&tell.0, &mut bytes).unwrap();
            let heir = u32::from_ne_bytes(bytes);
            let mut expected = vec![heir, std::process::id()];
            expected.sort_unstable();
            assert_eq!(Segment::attached(&_keeper).unwrap(), expected);
            let pid = nix::unistd::Pid::from_raw(i32::try_from(heir).unwrap());
            nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
            common::poll(|| Segment::attached(&_keeper).unwrap() == [std::process::id()]);
        }
    }

    fn twice_open_in_one_process_is_attached_until_the_second_is_dropped() {
        for address in TestAddress::of_each_kind("twice") {
            let segment = Segment::create(&address, Marked::new(1)).unwrap();
            let (once, done) = (Gate::new(), Gate::new());
            let twice = settled_twice(&address, &segment, &once, &done);
            once.pass();
            assert_attached(&segment, [&twice]);
            done.open();
            common::poll(|| Segment::attached(&segment).unwrap() == [std::process::id()]);
        }
    }

    fn other_users_are_seen_and_see() {
        if !is_root_for("other users are seen") {
            return;
        }
        for address in TestAddress::of_each_kind("users") {
            let public = SegmentOptions::new().mode(0o666);
            let segment = public.create(&address, Marked::new(1)).unwrap();
            let (there, asked) = (Gate::new(), Gate::new());
            let root = std::process::id();
            let is_system_v = address.kind() == Backing::SystemV;
            let options = public.clone().owner(0);
            let mut nobody = spawn(|| {
                drop(unsafe_copy(&segment));
                become_nobody();
                let opened = options.open::<Marked>(&address).unwrap();
                there.open();
                let seen = Segment::attached(&opened).unwrap();
                assert!(seen.contains(&std::process::id()), "{seen:?}");
                // Of System V the kernel counts attachments, and names nobody.
                assert!(is_system_v || seen.contains(&root), "{seen:?}");
                assert!(!seen.contains(&NOBODY));
                asked.open();
                nix::unistd::pause();
            });
            there.pass();
            asked.pass();
            assert_attached(&segment, [&nobody]);
            nobody.kill();
            assert_attached(&segment, []);
        }
    }

    fn a_descriptor_that_was_given_away_counts_with_its_mapping() {
        let segment = Segment::anonymous(Marked::new(1)).unwrap();
        let heir = settled(|stay| stay());
        let file = Segment::as_fd(&segment).unwrap();
        let again = Segment::<Marked>::from_fd(file.try_clone_to_owned().unwrap()).unwrap();
        assert_attached(&again, [&heir]);
    }
}

/// The copy of a parent's segment that a child has, to be dropped by the child.
fn unsafe_copy(segment: &Segment<Marked>) -> Segment<Marked> {
    // SAFETY: called in children that end without dropping the original.
    unsafe { std::ptr::read(segment) }
}

fn settled_twice(address: &str, inherited: &Segment<Marked>, once: &Gate, done: &Gate) -> Child {
    spawn(|| {
        drop(unsafe_copy(inherited));
        let first = Segment::<Marked>::open(address).unwrap();
        let second = Segment::<Marked>::open(address).unwrap();
        drop(first);
        once.open();
        done.pass();
        drop(second);
        nix::unistd::pause();
    })
}
