//! The commands of the tool `shm-sync`, on segments and processes in every state.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::run::{
    command, has_own_shared_memory, has_row, json, refusal, remove_system_v, row, run, stdout,
};
use crate::support::mounts::{has_own_mounts_for, run as tool};
use crate::support::{
    Gate, NOBODY, TestAddress, TestFile, TestKey, TestName, become_nobody, holder_of, is_root_for,
    leave_a_death, on_stage, poll, spawn, watchdog,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use shm_sync::{
    Backing, LockError, Removal, Segment, SegmentOptions, ShmCondvar, ShmEvent, ShmLifeline,
    ShmMutex, ShmSafe, ShmSemaphore,
};

type Counter = ShmMutex<u64>;

/// The shared data of a server.
#[derive(ShmSafe)]
#[repr(C)]
struct Farm {
    workers: [Worker; 3],
    changed: ShmCondvar,
}

#[derive(ShmSafe)]
#[repr(C)]
struct Worker {
    lock: Counter,
}

fn farm() -> Farm {
    Farm {
        workers: std::array::from_fn(|_| Worker {
            lock: Counter::new(0),
        }),
        changed: ShmCondvar::new(),
    }
}

/// Returns the only lock of a segment from the output of `show`.
fn only_lock(address: &str) -> Value {
    json(&["show", address])["sync_objects"][0].clone()
}

on_stage! {
    fn smoke() {
        let name = TestName::new("cli");
        let segment = Segment::create(&name, farm()).unwrap();
        let me = std::process::id();

        let found = row(&json(&["ls"]), &name);
        assert_eq!(found["address"], *name);
        assert_eq!(found["backing"], "posix");
        assert_eq!(found["state"], "attached");
        assert_eq!(found["size"], Segment::mapped_len(&segment));
        assert_eq!(found["pids"], serde_json::json!([me]));
        assert_eq!(found["attachments"], 1);
        assert_eq!(found["mode"], "0600");
        assert_eq!(found["owner"], nix::unistd::Uid::effective().as_raw());
        assert_eq!(found["resident_pages"], 1);
        let inside = &found["segment"];
        assert_eq!(inside["creator"], me);
        assert_eq!(inside["epoch"], "current");
        assert_eq!(inside["locks"]["objects"], 4);
        assert_eq!(inside["locks"]["held"], 0);
        assert_eq!(inside["fingerprint"], Farm::FINGERPRINT.to_string());

        let table = stdout(&["ls", "--wide"]);
        let line = table.lines().find(|line| line.starts_with(&format!("{} ", &*name)));
        let line = line.unwrap_or_else(|| panic!("{table}"));
        for part in ["posix", "1/1", "0600", &me.to_string(), "attached", "Farm"] {
            assert!(line.contains(part), "{part} is in {line}");
        }
        assert!(!table.contains('\x1b'), "no colours without a terminal");
        assert!(stdout(&["ls", "--color", "always"]).contains('\x1b'));
    }

    fn show_reports_live_stopped_and_dead_holder() {
        let name = TestName::new("cli-holder");
        let segment = Segment::create(&name, farm()).unwrap();
        let lock = &segment.workers[1].lock;
        let mut holder = holder_of(lock);

        let shown = json(&["show", &name]);
        let object = &shown["sync_objects"][1];
        assert_eq!(object["path"], ".workers[1].lock");
        assert_eq!(object["kind"], "mutex");
        assert_eq!(object["lock"], "held");
        assert_eq!(object["holder"]["pid"], holder.pid());
        assert_eq!(object["holder"]["tid"], holder.pid());
        assert_eq!(object["holder"]["state"], "alive");
        let command = fs::read_to_string(format!("/proc/{}/comm", holder.pid())).unwrap();
        assert_eq!(object["holder"]["command"], command.trim_end());
        assert!(object["holder"]["running_since"].as_u64().unwrap() > 1_600_000_000);
        assert_eq!(object["poison"], Value::Null);
        assert_eq!(object["waiters"], "none seen");
        assert_eq!(shown["sync_objects"][0]["lock"], "free");
        assert_eq!(row(&json(&["ls"]), &name)["segment"]["locks"]["held"], 1);

        let waiter = spawn(|| drop(lock.lock()));
        waiter.wait_until_asleep();
        assert_eq!(json(&["show", &name])["sync_objects"][1]["waiters"], "yes");

        holder.signal(Signal::SIGSTOP);
        holder.wait_until_stopped();
        let text = stdout(&["show", &name]);
        assert!(text.contains(&format!("{} ", holder.pid())), "{text}");
        assert!(text.contains("held, stopped"), "{text}");
        let locks = row(&json(&["ls"]), &name)["segment"]["locks"].clone();
        assert_eq!((&locks["held"], &locks["stopped"]), (&1.into(), &1.into()));
        assert!(stdout(&["ls"]).contains("1 stopped"));
        let result = lock.try_lock();
        assert!(matches!(result, Err(LockError::WouldBlock)), "the tool does not unlock it");
        drop(result);

        let pid = holder.pid();
        holder.kill();
        waiter.join();
        let poison = json(&["show", &name])["sync_objects"][1]["poison"].clone();
        assert_eq!(poison["cause"], "owner died");
        assert_eq!(poison["pid"], pid);
        assert_eq!(row(&json(&["ls"]), &name)["segment"]["locks"]["poisoned"], 1);
        assert!(lock.is_poisoned());
    }

    fn show_reports_new_owner_death_and_keeps_it() {
        let name = TestName::new("cli-death");
        let segment = Segment::create(&name, Counter::new(0)).unwrap();
        let dead = leave_a_death(&segment);
        for _ in 0..2 {
            let lock = only_lock(&name);
            assert_eq!(lock["path"], "");
            assert_eq!(lock["lock"], "owner died");
            assert_eq!(lock["poison"]["pid"], dead);
        }
        assert!(stdout(&["show", &name]).contains("owner died"));
        let locks = row(&json(&["ls"]), &name)["segment"]["locks"].clone();
        assert_eq!((&locks["held"], &locks["poisoned"]), (&0.into(), &1.into()));
        assert!(matches!(segment.lock(), Err(LockError::Poisoned(_))));
    }

    fn show_counts_condvar_waiters() {
        let name = TestName::new("cli-waiters");
        let segment = Segment::create(&name, farm()).unwrap();
        let waiter = spawn(|| {
            let guard = segment.workers[0].lock.lock().unwrap();
            drop(segment.changed.wait_while(guard, |n| *n == 0));
        });
        waiter.wait_until_asleep();
        let condvar = json(&["show", &name])["sync_objects"][3].clone();
        assert_eq!(condvar["kind"], "condvar");
        assert_eq!(condvar["waiters_at_most"], 1);
        assert!(stdout(&["show", &name]).contains("up to 1"));
    }

    fn show_lists_occupants_of_seats() {
        let name = TestName::new("cli-seats");
        let family = (ShmEvent::auto_reset(), ShmSemaphore::<2>::new(), ShmLifeline::new());
        let segment = Segment::create(&name, family).unwrap();
        let (event, devices, line) = &*segment;
        let permit = devices.acquire().unwrap();
        event.set().unwrap();
        let held = Gate::new();
        let mut worker = spawn(|| {
            let _guard = line.hold().unwrap();
            held.open();
            nix::unistd::pause();
        });
        held.pass();
        let object = |path: &str| {
            let objects = json(&["show", &name])["sync_objects"].clone();
            let objects = objects.as_array().unwrap().clone();
            objects.into_iter().find(|object| object["path"] == path).unwrap()
        };
        let event = object(".0");
        assert_eq!((&event["kind"], &event["event"]), (&"event".into(), &"set".into()));
        assert_eq!(event["resets_itself"], true);
        let taken = object(&format!(".1.permits[{}]", permit.index()));
        assert_eq!((&taken["kind"], &taken["seat"]), (&"seat".into(), &"occupied".into()));
        assert_eq!(taken["occupant"]["pid"], std::process::id());
        let free = object(&format!(".1.permits[{}]", 1 - permit.index()));
        assert_eq!((&free["seat"], &free["occupant"]), (&"vacant".into(), &Value::Null));
        let holder = object(".2.holder");
        assert_eq!(holder["occupant"]["pid"], worker.pid());
        assert_eq!(holder["occupant"]["state"], "alive");

        worker.kill();
        assert_eq!(object(".2.holder")["seat"], "orphaned");
        let text = stdout(&["show", &name]);
        assert!(text.contains("; seats: 1 occupied, 1 orphaned"), "{text}");
        let mut lines = text.lines();
        let line = lines.find(|line| line.contains(".2.holder")).unwrap();
        assert!(line.contains("orphaned"), "{line}");
        drop(permit);
    }

    fn stale_segment_is_listed_and_removable() {
        let name = TestName::new("cli-stale");
        let segment = Segment::create(&name, Counter::new(0)).unwrap();
        let (text, code) = refusal(&["rm", &name]);
        assert_eq!(code, 1);
        assert!(text.contains("in use by") && text.contains(&std::process::id().to_string()));

        drop(segment);
        let found = row(&json(&["ls"]), &name);
        assert_eq!((&found["state"], &found["attachments"]), (&"abandoned".into(), &0.into()));
        assert_eq!(stdout(&["rm", &name]), "");
        assert!(!has_row(&json(&["ls", "--all"]), &name));
        let (text, code) = refusal(&["rm", &name]);
        assert!(text.contains("no such segment") && code == 1, "{text}");
    }

    fn ls_has_row_for_each_object() {
        let header = {
            let name = TestName::new("cli-model");
            let _segment = Segment::create(&name, Counter::new(0)).unwrap();
            fs::read(name.path()).unwrap()
        };
        let changed = |at: usize, bytes: &[u8]| {
            let mut copy = header.clone();
            copy[at..at + bytes.len()].copy_from_slice(bytes);
            copy
        };
        let cases = [
            ("garbage", vec![0xa5; 5000], "foreign"),
            ("empty", vec![], "foreign"),
            ("short", b"shmsync".to_vec(), "foreign"),
            ("truncated", header[..100].to_vec(), "damaged"),
            ("cut", header[..header.len() - 1].to_vec(), "damaged"),
            ("version", changed(8, &99_u32.to_le_bytes()), "other version"),
            ("platform", changed(15, &[7]), "abandoned"),
            ("huge", changed(24, &u64::MAX.to_le_bytes()), "damaged"),
            ("far", changed(40, &u64::MAX.to_le_bytes()), "damaged"),
            ("directory", changed(88, &u32::MAX.to_le_bytes()), "damaged"),
            ("copy", header.clone(), "abandoned"),
        ];
        let names = cases.map(|(what, bytes, state)| {
            let name = TestName::new(&format!("cli-{what}"));
            name.write(&bytes);
            (name, state)
        });
        let all = json(&["ls", "--all"]);
        let ours = json(&["ls"]);
        for (name, state) in &names {
            let found = row(&all, name);
            assert_eq!(found["state"], *state, "{found}");
            assert_eq!(has_row(&ours, name), *state != "foreign", "{found}");
            assert_eq!(found["reason"].is_null(), *state == "abandoned", "{found}");
            let code = run(&["show", name]).status.code();
            assert_eq!(code, Some(if *state == "abandoned" { 0 } else { 1 }), "{found}");
            if *state == "foreign" {
                let removed = run(&["rm", name]).status.code();
                assert_eq!(removed, Some(1), "the tool removes no foreign objects");
            }
        }
        let [.., (copy, _)] = &names;
        assert_eq!(row(&all, copy)["segment"]["epoch"], "past");
        assert!(stdout(&["ls", "--all"]).contains("not a segment: other data"));
    }

    fn tool_names_unreadable_object() {
        for address in TestAddress::of_each_kind("cli-unreadable") {
            drop(Segment::create(&address, Counter::new(0)).unwrap());
            // The length that the header says.
            match address.kind() {
                Backing::SystemV => address.overwrite_system_v(24, &[0xff; 8]),
                kind => {
                    let path = match kind {
                        Backing::Posix => format!("/dev/shm{}", &*address),
                        _ => address.to_string(),
                    };
                    let file = File::options().write(true).open(path).unwrap();
                    file.write_all_at(&[0xff; 8], 24).unwrap();
                }
            }
            let output = run(&["show", &address]);
            assert_eq!(output.status.code(), Some(1));
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            let is_named = text.contains(&*address) || text.contains("sysv:");
            assert!(is_named && text.contains("bytes, but it has"), "{text}");
        }
    }

    fn ls_has_row_for_non_files() {
        let [fifo, directory, link, sparse] =
            ["fifo", "subdirectory", "link", "sparse"].map(TestName::new);
        nix::unistd::mkfifo(fifo.path().as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(directory.path()).unwrap();
        std::os::unix::fs::symlink("/dev/zero", link.path()).unwrap();
        sparse.write(b"shmsync\0");
        File::options().write(true).open(sparse.path()).unwrap().set_len(1 << 40).unwrap();
        let evil = TestName::new("evil\x1b[2J\nname");
        evil.write(b"");

        let all = json(&["ls", "--all"]);
        for (name, reason) in [(&fifo, "special"), (&directory, "directory"), (&link, "link")] {
            let found = row(&all, name);
            assert_eq!(found["state"], "foreign");
            assert!(found["reason"].as_str().unwrap().contains(reason), "{found}");
            assert_eq!(run(&["show", name]).status.code(), Some(1));
        }
        assert_eq!(row(&all, &sparse)["state"], "other version");
        assert_eq!(row(&all, &evil)["state"], "foreign");
        let table = stdout(&["ls", "--all"]);
        assert!(!table.contains('\x1b') && table.contains("evil\\u{1b}[2J\\nname"), "{table}");
        fs::remove_dir(directory.path()).unwrap();
    }

    fn ls_has_row_for_unreadable_objects() {
        if !is_root_for("ls_has_row_for_unreadable_objects") {
            return;
        }
        let [closed, open] = ["closed", "open"].map(TestName::new);
        let _closed = Segment::create(&closed, Counter::new(0)).unwrap();
        let _open = Segment::create(&open, Counter::new(0)).unwrap();
        fs::set_permissions(open.path(), fs::Permissions::from_mode(0o644)).unwrap();
        // A copy of the program, because its directory may be closed to this user.
        let program = TestFile::new("tool");
        fs::copy(env!("CARGO_BIN_EXE_shm-sync"), &*program).unwrap();
        let as_nobody = |arguments: &[&str]| {
            let mut tool = Command::new(&*program);
            tool.args(arguments).current_dir("/").uid(NOBODY).gid(NOBODY);
            tool.output().unwrap()
        };
        let list = as_nobody(&["ls", "--json"]);
        assert!(list.status.success(), "{list:?}");
        let list: Value = serde_json::from_slice(&list.stdout).unwrap();
        let found = row(&list, &closed);
        assert_eq!(found["state"], "unreadable");
        assert_eq!(found["reason"], "permission denied");
        // The locks show the attached processes, although `/proc` is not readable.
        let found = row(&list, &open);
        assert_eq!(found["state"], "attached");
        assert_eq!(found["pids"], serde_json::json!([std::process::id()]));
        for arguments in [&["show", &closed][..], &["rm", &closed], &["rm", &open], &["maps", "1"]] {
            assert_eq!(as_nobody(arguments).status.code(), Some(1), "{arguments:?}");
        }
        assert!(as_nobody(&["gc", "--dry-run"]).status.success());
    }

    fn system_v_probe_changes_nothing() {
        let [key, foreign] = [TestKey::new(), TestKey::new()];
        let segment = Segment::create(&key, Counter::new(0)).unwrap();
        // SAFETY: the call takes and returns only numbers.
        let id = unsafe { libc::shmget(foreign.number(), 5000, libc::IPC_CREAT | 0o600) };
        assert!(id >= 0);
        let holder = holder_of(&segment);

        let list = json(&["ls", "--all"]);
        let found = row(&list, &key);
        assert_eq!((&found["state"], &found["backing"]), (&"attached".into(), &"sysv".into()));
        assert_eq!(found["attachments"], 2);
        assert_eq!(found["segment"]["locks"]["held"], 1);
        let mut pids = [std::process::id(), holder.pid()];
        pids.sort_unstable();
        assert_eq!(found["pids"], serde_json::json!(pids));
        let by_id = found["address"].as_str().unwrap();
        assert_eq!(only_lock(by_id)["holder"]["pid"], holder.pid());

        let found = row(&list, &foreign);
        assert_eq!((&found["state"], &found["in_use"]), (&"foreign".into(), &"abandoned".into()));
        assert_eq!((&found["size"], &found["attachments"]), (&5000.into(), &0.into()));
        assert!(!has_row(&json(&["ls"]), &foreign));
        assert_eq!(refusal(&["rm", &foreign]).1, 1);

        let status = Segment::system_v_status(&segment).unwrap().unwrap();
        assert_eq!(status.attached, 2);
        assert_eq!(refusal(&["rm", &key]).1, 1);
        drop(holder);
        drop(segment);
        remove_system_v(&key);
        assert_eq!(refusal(&["show", &key]).1, 1);
    }

    fn unfinished_segment_is_listed_and_removable() {
        let key = TestKey::new();
        let mut creator = spawn(|| {
            let _ = SegmentOptions::<Counter>::new().create_in_place(&key, |_| crate::support::die());
        });
        creator.wait();
        let found = row(&json(&["ls"]), &key);
        assert_eq!((&found["state"], &found["in_use"]), (&"unfinished".into(), &"abandoned".into()));
        assert_eq!(run(&["show", &key]).status.code(), Some(1));
        remove_system_v(&key);
        assert!(!has_row(&json(&["ls", "--all"]), &key));
    }

    fn show_lists_used_locks_first() {
        let name = TestName::new("cli-large");
        let locks = SegmentOptions::<[Counter]>::new().create_with_len(&name, 5000, |_| {}).unwrap();
        let _guard = locks[4321].lock().unwrap();
        let shown = json(&["show", &name, "--limit", "2"]);
        assert_eq!(shown["segment"]["elements"], 5000);
        assert_eq!(shown["omitted"], 4998);
        assert_eq!(shown["sync_objects"][0]["path"], "[0]");
        assert_eq!(shown["sync_objects"][1]["path"], "[4321]");
        assert!(stdout(&["show", &name, "--limit", "2"]).contains("and 4998 more"));
    }

    fn ls_finds_mapped_files_and_memfds() {
        let path = TestFile::new("cli-file");
        let file = Segment::create(&path, Counter::new(0)).unwrap();
        let label = format!("cli-{}", std::process::id());
        let memfd = Segment::<Counter>::options().anonymous(&label, Counter::new(0)).unwrap();
        let gone = TestName::new("cli-unlinked");
        let unlinked = Segment::create(&gone, Counter::new(0)).unwrap();
        // The kernel never tells the creator of an object its name.
        let same = Segment::<Counter>::open(&gone).unwrap();
        shm_sync::unlink(&gone).unwrap();

        let list = json(&["ls"]);
        let found = row(&list, &path);
        assert_eq!((&found["backing"], &found["link"]), (&"file".into(), &"named".into()));
        let found = row(&list, &format!("memfd:{label}"));
        assert_eq!((&found["backing"], &found["link"]), (&"memfd".into(), &"nameless".into()));
        assert_eq!(found["state"], "attached");
        assert_eq!(found["pids"], serde_json::json!([std::process::id()]));
        let address = found["address"].as_str().unwrap();
        assert_eq!(only_lock(address)["lock"], "free");
        let fd = Segment::as_fd(&memfd).unwrap().as_raw_fd();
        let own = format!("/proc/{}/fd/{fd}", std::process::id());
        assert_eq!(json(&["show", &own])["name"], format!("memfd:{label}"));
        let found = row(&list, &gone);
        assert_eq!((&found["backing"], &found["link"]), (&"posix".into(), &"unlinked".into()));

        let me = std::process::id().to_string();
        let maps = json(&["maps", &me]);
        let maps = maps.as_array().unwrap();
        assert_eq!(maps.len(), 4, "{maps:?}");
        for name in [&*path, &format!("memfd:{label}"), &*gone] {
            let found = maps.iter().find(|map| map["object"]["name"] == *name);
            let found = found.unwrap_or_else(|| panic!("{name} is in {maps:?}"));
            assert_eq!((&found["access"], &found["offset"]), (&"read-write".into(), &0.into()));
        }
        assert!(stdout(&["maps", &me]).contains("ShmMutex<u64>"));
        drop((file, memfd, unlinked, same));
        assert_eq!(json(&["maps", &me]), serde_json::json!([]));
        assert_eq!(refusal(&["maps", "536870912"]).1, 1);
    }

    fn clear_poison_requires_confirmation() {
        let name = TestName::new("cli-poison");
        let segment = Segment::create(&name, farm()).unwrap();
        let lock = &segment.workers[2].lock;
        leave_a_death(lock);
        let (text, code) = refusal(&["clear-poison", &name, ".workers[2].lock", "--yes"]);
        assert!(code == 1 && text.contains("no thread has locked it since"), "{text}");
        drop(lock.lock());

        let (text, code) = refusal(&["clear-poison", &name, ".workers[2].lock"]);
        assert!(code == 2 && text.contains("--yes"), "{text}");
        assert!(lock.is_poisoned());
        stdout(&["clear-poison", &name, "workers[2].lock", "--yes"]);
        assert!(!lock.is_poisoned());
        assert_eq!(*lock.lock().unwrap(), 0);
        for field in [".workers[2].lock", ".workers[3].lock", ".changed", ".", ""] {
            assert_eq!(refusal(&["clear-poison", &name, field, "--yes"]).1, 1, "{field}");
        }

        let key = TestKey::new();
        let segment = Segment::create(&key, Counter::new(0)).unwrap();
        leave_a_death(&segment);
        drop(segment.lock());
        stdout(&["clear-poison", &key, ".", "--yes"]);
        assert!(!segment.is_poisoned());
    }

    fn tool_works_on_segments_of_other_users() {
        let limit = watchdog() / 9; // 20 s by default
        if !is_root_for("tool_works_on_segments_of_other_users") {
            return;
        }
        if !has_own_shared_memory() {
            println!("skipped: no namespaces of its own");
            return;
        }
        // Segments of an unprivileged user in each state, with locks that a live thread
        // holds. Half of them were given to root.
        let holder = spawn(nix::unistd::pause);
        let holder_id = holder.pid().to_le_bytes();
        let states = [0_u32, 1, 2, 3, 4, 5, 6, 77];
        let all: Vec<_> = (0..16).map(|number| {
            let key = TestKey::new();
            spawn(|| {
                become_nobody();
                let options = SegmentOptions::new().mode(0o666);
                let made = options.removal(Removal::UntilLastDetach).create(&key, Counter::new(0));
                let id = Segment::system_v_status(made.as_ref().unwrap()).unwrap().unwrap().id;
                // SAFETY: the kernel chooses the address.
                let base: *mut u8 = unsafe { libc::shmat(id, std::ptr::null(), 0) }.cast();
                let state = states[number % states.len()].to_le_bytes();
                for (at, bytes) in [(192, state), (200, holder_id)] {
                    // SAFETY: the offset is inside the header of the attached segment.
                    let to = unsafe { base.add(at) };
                    // SAFETY: the header has room for the bytes, and the source does
                    // not overlap.
                    unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
                }
                if number >= states.len() {
                    // SAFETY: the struct consists of integers, for which zero is valid.
                    let mut status: libc::shmid_ds = unsafe { std::mem::zeroed() };
                    // SAFETY: `status` is valid for writes during the call.
                    unsafe { libc::shmctl(id, libc::IPC_STAT, &raw mut status) };
                    status.shm_perm.uid = 0;
                    // SAFETY: `status` is valid for reads during the call.
                    let rc = unsafe { libc::shmctl(id, libc::IPC_SET, &raw mut status) };
                    assert_eq!(rc, 0);
                }
                std::mem::forget(made);
            })
            .join();
            key
        })
        .collect();
        let used = &all[2];
        let (there, go) = (Gate::new(), Gate::new());
        let user = spawn(|| {
            become_nobody();
            // SAFETY: the call takes and returns only numbers.
            let id = unsafe { libc::shmget(used.number(), 0, 0) };
            // SAFETY: the kernel chooses the address.
            let base = unsafe { libc::shmat(id, std::ptr::null(), 0) };
            assert_ne!(base.addr(), usize::MAX);
            there.open();
            go.pass();
        });
        there.pass();
        let begun = std::time::Instant::now();
        for key in &all {
            assert!(has_row(&json(&["ls", "--all"]), key));
            run(&["show", key]);
        }
        let refused = refusal(&["rm", used]);
        assert_eq!(refused.1, 1);
        assert!(refused.0.contains("in use"), "{}", refused.0);
        stdout(&["rm", &all[1]]);
        let rows = json(&["gc", "--yes", "--all-users"]);
        let gone = rows.as_array().unwrap().iter().filter(|row| row["outcome"] == "removed");
        assert_eq!(gone.count(), all.len() - 2, "{rows}");
        for key in &all {
            // SAFETY: the call takes and returns only numbers.
            let is_there = unsafe { libc::shmget(key.number(), 0, 0) } >= 0;
            assert_eq!(is_there, std::ptr::eq(key, used), "{}: {rows}", &**key);
        }
        assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
        go.open();
        user.join();
        let rows = json(&["gc", "--yes", "--all-users"]);
        assert_eq!(rows[0]["outcome"], "removed");
    }

    fn longest_names_are_listed_and_collected() {
        if !has_own_mounts_for("the longest names")
            || !tool("mount", &["-t", "tmpfs", "tmpfs", "/dev/shm"])
        {
            return;
        }
        let names = ["x".repeat(255), "y".repeat(254)];
        let paths = names.each_ref().map(|name| format!("/dev/shm/{name}"));
        for path in &paths {
            drop(Segment::create(path, Counter::new(0)).unwrap());
        }
        // `shm_open` accepts no name of 255 bytes, so the address of that object is its
        // path.
        let expected = [paths[0].clone(), format!("/{}", names[1])];
        for name in &expected {
            let row = row(&json(&["ls"]), name);
            assert_eq!((row["backing"].as_str(), &row["address"]), (Some("posix"), &row["name"]));
        }
        let dry = json(&["gc", "--dry-run"]);
        assert!(expected.iter().all(|name| has_row(&dry, name)), "{dry}");
        stdout(&["gc", "--persistent", "--yes"]);
        assert!(!paths.iter().any(|path| fs::exists(path).unwrap()));
    }

    // Some systems have `/dev/shm` as a link to `/run/shm`.
    fn directory_symlink_changes_no_name() {
        if !has_own_mounts_for("a link to the directory")
            || !tool("mount", &["-t", "tmpfs", "tmpfs", "/run"])
            || !tool("mount", &["-t", "tmpfs", "tmpfs", "/dev"])
        {
            return;
        }
        // The tools read from it.
        fs::write("/dev/null", "").unwrap();
        fs::create_dir("/run/shm").unwrap();
        std::os::unix::fs::symlink("/run/shm", "/dev/shm").unwrap();
        let me = std::process::id().to_string();
        let created = Segment::create("/linked", Counter::new(0)).unwrap();
        let opened = Segment::<Counter>::open("/linked").unwrap();
        let (maps, listed) = (json(&["maps", &me]), json(&["ls"]));
        let mut objects: Vec<&Value> = maps.as_array().unwrap().iter().map(|row| &row["object"]).collect();
        assert_eq!(objects.len(), 2, "{maps}");
        objects.extend(listed.as_array().unwrap().iter().filter(|row| {
            row["pids"].as_array().unwrap().contains(&std::process::id().into())
        }));
        for object in &objects {
            let seen = (object["name"].as_str(), object["backing"].as_str());
            assert_eq!(seen, (Some("/linked"), Some("posix")), "{object}");
            assert_eq!(object["address"], "/linked");
        }
        assert_eq!(objects.len(), 3, "{listed}");
        drop((created, opened));
        let dry = json(&["gc", "--dry-run"]);
        assert!(has_row(&dry, "/linked"), "{dry}");
    }

    fn watch_reports_repeatedly() {
        let name = TestName::new("cli-watch");
        let segment = Segment::create(&name, Counter::new(0)).unwrap();
        let text = stdout(&["watch", &name, "--interval", "0.05", "--count", "3"]);
        assert_eq!(text.matches("attached ").count(), 3, "{text}");
        assert!(!text.contains('\x1b'));

        let arguments = ["watch", &name, "--interval", "0.05", "--json"];
        let mut tool = command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(tool.stdout.take().unwrap()).lines();
        let mut lock = || {
            let line = lines.next().unwrap().unwrap();
            let report: Value = serde_json::from_str(&line).unwrap();
            report["sync_objects"][0]["lock"].as_str().unwrap().to_owned()
        };
        assert_eq!(lock(), "free");
        let guard = segment.lock().unwrap();
        poll(|| lock() == "held");
        drop(guard);
        poll(|| lock() == "free");
        // The tool ends when its output is closed.
        drop(lines);
        assert_eq!(tool.wait().unwrap().code(), Some(141));

        drop(segment);
        drop(name);
        assert_eq!(refusal(&["watch", "/shm-sync-test-nothing"]).1, 1);
    }

    fn usage_error_has_exit_code_2() {
        let wrong = [&[][..], &["frobnicate"], &["show"], &["show", "jobs"], &["maps", "x"],
            &["watch", "/x", "--interval", "0"], &["watch", "/x", "--interval", "1e18"], &["rm"]];
        for arguments in wrong {
            assert_eq!(refusal(arguments).1, 2, "{arguments:?}");
        }
        for command in ["", "ls", "show", "watch", "maps", "rm", "gc", "clear-poison", "export-c"] {
            let arguments = [command, "--help"];
            let help = stdout(&arguments[usize::from(command.is_empty())..]);
            assert!(help.contains("Exit codes:"), "{command}");
        }
        assert!(stdout(&["--version"]).starts_with("shm-sync "));
    }

    fn man_pages_are_generated() {
        let page = stdout(&["man"]);
        assert!(page.starts_with(".ie") && page.contains("Exit codes"), "{page}");
        let directory = TestName::new("man");
        fs::create_dir(directory.path()).unwrap();
        stdout(&["man", "--directory", &directory.path()]);
        let pages = fs::read_dir(directory.path()).unwrap().count();
        fs::remove_dir_all(directory.path()).unwrap();
        assert!(pages >= 10, "{pages}");
    }
}
