//! Who is attached: the kernel knows, however a process came and however it ended.

use std::process::Command;

use crate::support::mounts::{Stand, has_own_mounts_for, run};
use crate::support::{
    Child, Gate, Marked, NOBODY, TestAddress, become_nobody, is_root_for, on_stage, spawn,
};
use nix::sys::signal::Signal;
use shm_sync::{Backing, Segment, SegmentOptions, inspect};

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
        Segment::attached_pids(segment).unwrap(),
        expected,
        "{:?}",
        Segment::address(segment)
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
            crate::support::poll(|| {
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
                .env("SHM_SYNC_TEST_STAGE", crate::support::stage!(an_executed_opener))
                .env("SHM_SYNC_TEST_ADDRESS", &*address)
                .spawn()
                .unwrap();
            let expected = {
                let mut both = vec![std::process::id(), worker.id()];
                both.sort_unstable();
                both
            };
            crate::support::poll(|| *segment.visits.lock().unwrap() == 1);
            assert_eq!(Segment::attached_pids(&segment).unwrap(), expected);
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
                crate::support::die()
            });
            parent.wait();
            let mut bytes = [0; 4];
            nix::unistd::read(&tell.0, &mut bytes).unwrap();
            let heir = u32::from_ne_bytes(bytes);
            let mut expected = vec![heir, std::process::id()];
            expected.sort_unstable();
            assert_eq!(Segment::attached_pids(&_keeper).unwrap(), expected);
            let pid = nix::unistd::Pid::from_raw(i32::try_from(heir).unwrap());
            nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
            crate::support::poll(|| Segment::attached_pids(&_keeper).unwrap() == [std::process::id()]);
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
            crate::support::poll(|| Segment::attached_pids(&segment).unwrap() == [std::process::id()]);
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
                let seen = Segment::attached_pids(&opened).unwrap();
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

    // Failure mode 38: a system where users do not see each other's processes.
    fn hidden_processes_are_attached() {
        if !has_own_mounts_for("hidden processes")
            || !run("mount", &["-t", "proc", "-o", "hidepid=2", "proc", "/proc"])
        {
            return;
        }
        for kind in [Backing::Posix, Backing::File] {
            let address = TestAddress::new(kind, "hidden");
            let public = SegmentOptions::new().mode(0o666);
            let _segment = public.create(&address, Marked::new(1)).unwrap();
            let root = std::process::id();
            let mut ended = opener_by(&public, &address);
            ended.kill();
            let options = public.clone().owner(0);
            spawn(|| {
                become_nobody();
                assert!(std::fs::metadata(format!("/proc/{root}")).is_err(), "it is hidden");
                let opened = options.open::<Marked>(&address).unwrap();
                let mut both = [std::process::id(), root];
                both.sort_unstable();
                assert_eq!(Segment::attached_pids(&opened).unwrap(), both);
                let object = inspect::object(&address.parse().unwrap()).unwrap();
                assert_eq!(object.users.pids, both);
                assert!(object.users.unreadable_processes > 0, "there are some that can't be asked");
            })
            .join();
        }
    }

    // Failure mode 38: their numbers in /proc/PID/maps are not those of `stat`.
    fn subvolumes_of_btrfs_show_all_attached() {
        all_are_seen_on("btrfs", |stand, test| {
            let volume = stand.file_system("btrfs", 200, test)?;
            let [first, second] = ["first", "second"].map(|name| {
                let path = format!("{volume}/{name}");
                assert!(run("btrfs", &["subvolume", "create", &path]));
                crate::support::mounts::open_to_all(&path);
                path
            });
            Some([first, second])
        });
    }

    fn overlays_show_all_attached() {
        all_are_seen_on("overlay", |stand, test| {
            let at = stand.overlay(test)?;
            Some([at.clone(), at])
        });
    }

    fn a_descriptor_that_was_given_away_counts_with_its_mapping() {
        let segment = Segment::anonymous(Marked::new(1)).unwrap();
        let heir = settled(|stay| stay());
        let file = Segment::as_fd(&segment).unwrap();
        let again = SegmentOptions::new().from_fd::<Marked>(file.try_clone_to_owned().unwrap()).unwrap();
        assert_attached(&again, [&heir]);
    }
}

fn opener_by(options: &SegmentOptions, address: &str) -> Child {
    settled(|stay| {
        let _segment = options.open::<Marked>(address).unwrap();
        stay();
    })
}

/// Segments in both directories, for root and for an ordinary user: each is attached to
/// by its creator, a child of that, an opener and a reader.
fn all_are_seen_on(what: &str, directories: impl FnOnce(&Stand, &str) -> Option<[String; 2]>) {
    if !has_own_mounts_for(what) {
        return;
    }
    let Some(directories) = directories(&Stand::new(), what) else {
        return;
    };
    for user in ["root", "nobody"] {
        spawn(|| {
            if user == "nobody" {
                become_nobody();
                // SAFETY: takes numbers. So that its children may look at it, as they
                // may if it was an ordinary user from the beginning.
                unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
            }
            let addresses = directories.clone().map(|at| format!("{at}/{user}"));
            let created = addresses.iter().zip(0..).map(|(address, n)| {
                Segment::create(&format!("{address}{n}"), Marked::new(1)).unwrap()
            });
            let created: Vec<_> = created.collect();
            let names: Vec<String> = created
                .iter()
                .map(|segment| Segment::address(segment).unwrap().to_string())
                .collect();
            let address = names[0].clone();
            let heir = settled(|stay| {
                drop(unsafe_copy(&created[1]));
                stay();
            });
            let opened = settled(|stay| {
                created
                    .iter()
                    .for_each(|segment| drop(unsafe_copy(segment)));
                let _opened = Segment::<Marked>::open(&address).unwrap();
                stay();
            });
            let read = settled(|stay| {
                created
                    .iter()
                    .for_each(|segment| drop(unsafe_copy(segment)));
                let _read = Segment::<Marked>::open_read_only(&address).unwrap();
                stay();
            });
            assert_attached(&created[0], [&heir, &opened, &read]);
            assert_attached(&created[1], []);
            // And one of the others sees the same.
            let creator = std::process::id();
            let mut all = vec![creator, heir.pid(), opened.pid(), read.pid()];
            spawn(|| {
                created
                    .iter()
                    .for_each(|segment| drop(unsafe_copy(segment)));
                let again = Segment::<Marked>::open(&address).unwrap();
                all.push(std::process::id());
                all.sort_unstable();
                assert_eq!(Segment::attached_pids(&again).unwrap(), all);
                let object = inspect::object(&address.parse().unwrap()).unwrap();
                assert_eq!(object.users.pids, all);
                let all_objects = inspect::objects(inspect::Scope::Segments).unwrap();
                for name in &names {
                    let found = all_objects.iter().filter(|object| object.name == *name);
                    assert_eq!(found.count(), 1, "{name}");
                }
            })
            .join();
        })
        .join();
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
