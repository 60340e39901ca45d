//! The list of attached processes, for every way to attach and to end.

use std::process::Command;

use crate::support::mounts::{Stand, has_own_mounts_for, run};
use crate::support::{
    Child, Gate, Marked, NOBODY, TestAddress, become_nobody, is_root_for, on_stage, spawn,
};
use nix::sys::signal::Signal;
use shm_sync::{Backing, Segment, SegmentOptions, inspect};

/// Starts a process that opens the segment and stays until it is killed.
fn opener(address: &str) -> Child {
    spawn_staying(|stay| {
        let segment = Segment::<Marked>::open(address).unwrap();
        segment.visit();
        stay();
    })
}

/// Starts a child that runs `body`. When `body` calls its argument, the child stays
/// until it is killed.
fn spawn_staying(body: impl FnOnce(&dyn Fn())) -> Child {
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

    fn process_is_attached_until_it_ends() {
        for address in TestAddress::of_each_kind("ways") {
            let segment = Segment::create(&address, Marked::new(1)).unwrap();
            let mut openers = [opener(&address), opener(&address)];
            let mut child = spawn_staying(|stay| stay());
            let mut reader = spawn_staying(|stay| {
                let _read = Segment::<Marked>::open_read_only(&address).unwrap();
                // The read-only segment is its only attachment.
                drop(child_copy(&segment));
                stay();
            });
            let [first, second] = &openers;
            assert_attached(&segment, [first, second, &child, &reader]);

            // A stopped process is still attached.
            openers[0].stop();
            let [first, second] = &openers;
            assert_attached(&segment, [first, second, &child, &reader]);
            openers[0].kill(); // while it is stopped
            assert_attached(&segment, [&openers[1], &child, &reader]);
            openers[1].signal(Signal::SIGTERM);
            openers[1].wait();
            assert_attached(&segment, [&child, &reader]);
            reader.kill();
            assert_attached(&segment, [&child]);
            child.kill();
            assert_attached(&segment, []);
        }
    }

    fn exit_drop_and_exec_detach() {
        for address in TestAddress::of_each_kind("ends") {
            let segment = Segment::create(&address, Marked::new(1)).unwrap();
            spawn(|| {
                let opened = Segment::<Marked>::open(&address).unwrap();
                std::mem::forget(opened); // `exit` drops nothing
            })
            .join();
            assert_attached(&segment, []);

            let dropper = spawn_staying(|stay| {
                let opened = Segment::<Marked>::open(&address).unwrap();
                drop(child_copy(&segment));
                drop(opened);
                stay();
            });
            assert_attached(&segment, []);
            drop(dropper);

            let (ready, go) = (Gate::new(), Gate::new());
            let mut executed = spawn(|| {
                let opened = Segment::<Marked>::open(&address).unwrap();
                ready.open();
                go.pass();
                std::mem::forget(opened);
                let name = c"sleep";
                let failed = nix::unistd::execvp(name, &[name, c"60"]);
                panic!("{failed:?}");
            });
            ready.pass();
            assert_attached(&segment, [&executed]);
            go.open();
            crate::support::poll(|| {
                let comm = std::fs::read_to_string(format!("/proc/{}/comm", executed.pid()));
                comm.is_ok_and(|comm| comm.trim() == "sleep")
            });
            assert_attached(&segment, []);
            executed.kill();
        }
    }

    fn executed_opener_is_attached() {
        for address in TestAddress::of_each_kind("exec") {
            let segment = Segment::create(&address, Marked::new(1)).unwrap();
            let mut worker = Command::new(std::env::current_exe().unwrap())
                .env("SHM_SYNC_TEST_STAGE", crate::support::stage!(executed_opener))
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

    /// The program that the test above executes. Without an address it does nothing.
    fn executed_opener() {
        if let Ok(address) = std::env::var("SHM_SYNC_TEST_ADDRESS") {
            let segment = Segment::<Marked>::open(&address).unwrap();
            segment.visit();
            nix::unistd::pause();
        }
    }

    fn orphan_stays_attached() {
        for address in TestAddress::of_each_kind("orphan") {
            let segment = Segment::create(&address, Marked::new(1)).unwrap();
            let there = Gate::new();
            let pid_pipe = nix::unistd::pipe().unwrap();
            let mut parent = spawn(|| {
                let _opened = Segment::<Marked>::open(&address).unwrap();
                let child = spawn(|| {
                    there.open();
                    nix::unistd::pause();
                });
                nix::unistd::write(&pid_pipe.1, &child.pid().to_ne_bytes()).unwrap();
                there.pass();
                crate::support::die()
            });
            parent.wait();
            let mut bytes = [0; 4];
            nix::unistd::read(&pid_pipe.0, &mut bytes).unwrap();
            let child = u32::from_ne_bytes(bytes);
            let mut expected = vec![child, std::process::id()];
            expected.sort_unstable();
            assert_eq!(Segment::attached_pids(&segment).unwrap(), expected);
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child).unwrap());
            nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
            crate::support::poll(|| Segment::attached_pids(&segment).unwrap() == [std::process::id()]);
        }
    }

    fn second_segment_of_process_keeps_attachment() {
        for address in TestAddress::of_each_kind("twice") {
            let segment = Segment::create(&address, Marked::new(1)).unwrap();
            let (first_dropped, done) = (Gate::new(), Gate::new());
            let process = spawn_with_two_segments(&address, &segment, &first_dropped, &done);
            first_dropped.pass();
            assert_attached(&segment, [&process]);
            done.open();
            crate::support::poll(|| Segment::attached_pids(&segment).unwrap() == [std::process::id()]);
        }
    }

    fn attached_processes_of_other_users_are_listed() {
        if !is_root_for("attached_processes_of_other_users_are_listed") {
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
                drop(child_copy(&segment));
                become_nobody();
                let opened = options.open(&address).unwrap();
                there.open();
                let seen = Segment::attached_pids(&opened).unwrap();
                assert!(seen.contains(&std::process::id()), "{seen:?}");
                // For System V the kernel only counts attachments.
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

    // Failure mode 38. Users do not see each other's processes.
    fn hidden_processes_are_listed() {
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
                assert!(std::fs::metadata(format!("/proc/{root}")).is_err(), "the process must be hidden");
                let opened = options.open(&address).unwrap();
                let mut both = [std::process::id(), root];
                both.sort_unstable();
                assert_eq!(Segment::attached_pids(&opened).unwrap(), both);
                let object = inspect::object(&address.parse().unwrap()).unwrap();
                assert_eq!(object.users.pids, both);
                assert!(!object.users.unreadable_pids.is_empty(), "some processes must be unreadable");
            })
            .join();
        }
    }

    // Failure mode 38. The device numbers in /proc/PID/maps differ from those of
    // `stat`.
    fn btrfs_subvolume_lists_all_attached() {
        check_list_on("btrfs", |stand, test| {
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

    fn overlay_lists_all_attached() {
        check_list_on("overlay", |stand, test| {
            let at = stand.overlay(test)?;
            Some([at.clone(), at])
        });
    }

    fn passed_descriptor_lists_same_processes() {
        let segment = Segment::anonymous(Marked::new(1)).unwrap();
        let child = spawn_staying(|stay| stay());
        let file = Segment::as_fd(&segment).unwrap();
        let again = SegmentOptions::<Marked>::new().from_fd(file.try_clone_to_owned().unwrap()).unwrap();
        assert_attached(&again, [&child]);
    }
}

fn opener_by(options: &SegmentOptions<Marked>, address: &str) -> Child {
    spawn_staying(|stay| {
        let _segment = options.open(address).unwrap();
        stay();
    })
}

/// Checks the lists for segments in both directories, created by root and by an
/// ordinary user. Each has its creator, a child of it, an opener and a reader.
fn check_list_on(what: &str, directories: impl FnOnce(&Stand, &str) -> Option<[String; 2]>) {
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
                // SAFETY: the call takes numbers. It lets the children inspect this
                // process, as if it had been an ordinary user from the beginning.
                unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
            }
            let addresses = directories.clone().map(|at| format!("{at}/{user}"));
            let created = addresses.iter().zip(0..).map(|(address, n)| {
                Segment::create(format!("{address}{n}"), Marked::new(1)).unwrap()
            });
            let created: Vec<_> = created.collect();
            let names: Vec<String> = created
                .iter()
                .map(|segment| Segment::address(segment).unwrap().to_string())
                .collect();
            let address = names[0].clone();
            let child = spawn_staying(|stay| {
                drop(child_copy(&created[1]));
                stay();
            });
            let opened = spawn_staying(|stay| {
                created.iter().for_each(|segment| drop(child_copy(segment)));
                let _opened = Segment::<Marked>::open(&address).unwrap();
                stay();
            });
            let read = spawn_staying(|stay| {
                created.iter().for_each(|segment| drop(child_copy(segment)));
                let _read = Segment::<Marked>::open_read_only(&address).unwrap();
                stay();
            });
            assert_attached(&created[0], [&child, &opened, &read]);
            assert_attached(&created[1], []);
            // Another process sees the same list.
            let creator = std::process::id();
            let mut all = vec![creator, child.pid(), opened.pid(), read.pid()];
            spawn(|| {
                created.iter().for_each(|segment| drop(child_copy(segment)));
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

/// Returns the child's copy of a parent's segment, which the child drops.
fn child_copy(segment: &Segment<Marked>) -> Segment<Marked> {
    // SAFETY: the caller is a child, which ends without dropping the original.
    unsafe { std::ptr::read(segment) }
}

fn spawn_with_two_segments(
    address: &str,
    inherited: &Segment<Marked>,
    first_dropped: &Gate,
    done: &Gate,
) -> Child {
    spawn(|| {
        drop(child_copy(inherited));
        let first = Segment::<Marked>::open(address).unwrap();
        let second = Segment::<Marked>::open(address).unwrap();
        drop(first);
        first_dropped.open();
        done.pass();
        drop(second);
        nix::unistd::pause();
    })
}
