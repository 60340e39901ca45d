//! The command `gc`: what it removes, and what it asks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::run::{Terminal, has_own_shared_memory, has_row, json, refusal, run, stdout};
use crate::support::{
    Gate, NOBODY, TestFile, become_nobody, die, is_root_for, on_stage, seccomp, spawn,
};
use shm_sync::{Removal, Segment, ShmMutex};

type Counter = ShmMutex<u64>;

/// Returns the names and the outcomes of a run.
fn outcomes(arguments: &[&str]) -> Vec<String> {
    let list = json(arguments);
    let rows = list.as_array().unwrap().iter();
    rows.map(|row| format!("{} {}", row["name"], row["outcome"]).replace('"', ""))
        .collect()
}

/// Has a process create segments that it should have removed, and kills it.
fn leave(names: &[&str]) {
    let options = Segment::<Counter>::options().removal(Removal::UntilLastDetach);
    let mut killed = spawn(|| {
        let create = |name: &&str| options.create(name, Counter::new(0)).unwrap();
        let _all: Vec<_> = names.iter().map(create).collect();
        die();
    });
    killed.wait();
}

fn exists(name: &str) -> bool {
    fs::exists(format!("/dev/shm{name}")).unwrap()
}

on_stage! {
    fn smoke() {
        if !has_own_shared_memory() {
            println!("not run: no namespace of its own");
            return;
        }
        assert_eq!(stdout(&["gc", "--yes"]), "nothing to remove\n");
        leave(&["/left"]);
        let table = stdout(&["gc", "--dry-run"]);
        assert!(table.contains("would be removed") && exists("/left"), "{table}");
        assert!(stdout(&["gc", "--yes"]).contains("removed"));
        assert!(!exists("/left"));
    }

    fn gc_removes_only_what_should_be_gone() {
        if !has_own_shared_memory() {
            println!("not run: no namespace of its own");
            return;
        }
        let transient = Segment::<Counter>::options().removal(Removal::UntilLastDetach);
        let used = transient.create("/used", Counter::new(0)).unwrap();
        leave(&["/transient", "sysv:7"]);
        let mut creator = spawn(|| {
            let _ = Segment::<Counter>::options().create_in_place("sysv:8", |_| die());
        });
        creator.wait();
        drop(Segment::create("/persistent", Counter::new(0)).unwrap());
        drop(Segment::create("sysv:9", Counter::new(0)).unwrap());
        fs::write("/dev/shm/foreign", "data").unwrap();
        let mut old = fs::read("/dev/shm/used").unwrap();
        old[8] = 99;
        fs::write("/dev/shm/old", old).unwrap();

        let expected = ["/old left alone", "/persistent left alone", "/transient would be removed",
            "sysv:0x00000007 would be removed", "sysv:0x00000008 would be removed",
            "sysv:0x00000009 left alone"];
        assert_eq!(outcomes(&["gc", "--dry-run"]), expected);
        let all = ["/used", "/old", "/persistent", "/transient", "sysv:0x00000007",
            "sysv:0x00000008", "sysv:0x00000009"];
        for name in all {
            assert!(has_row(&json(&["ls"]), name), "{name}");
        }
        let expected = expected.map(|row| row.replace("would be removed", "removed"));
        assert_eq!(outcomes(&["gc", "--yes"]), expected);
        let table = stdout(&["gc", "--yes"]);
        let note = "2 segments without a process stay: persistent (--persistent)\n";
        assert!(table.ends_with(note), "{table}");

        let expected = ["/old left alone", "/persistent removed", "sysv:0x00000009 removed"];
        assert_eq!(outcomes(&["gc", "--yes", "--persistent"]), expected);
        assert!(exists("/foreign"));
        drop(used.lock().unwrap());
        stdout(&["rm", "/old"]);
        assert_eq!(stdout(&["gc", "--yes"]), "nothing to remove\n");
    }

    // Failure mode 82.
    fn gc_removes_temporary_names_of_the_dead() {
        if !has_own_shared_memory() {
            println!("not run: no namespace of its own");
            return;
        }
        let options = Segment::<Counter>::options;
        let leave = || {
            let mut dead = spawn(|| {
                seccomp::refuse_unnamed_files(libc::EOPNOTSUPP);
                let _ = options().create_in_place("/never", |_| die());
            });
            dead.wait();
        };
        leave();
        let [is_filling, may_end] = [Gate::new(), Gate::new()];
        let creator = spawn(|| {
            seccomp::refuse_unnamed_files(libc::EOPNOTSUPP);
            let created = options().create_in_place("/slow", |_| {
                is_filling.open();
                may_end.pass();
            });
            created.unwrap();
        });
        is_filling.pass();

        let list = json(&["ls"]);
        let rows = list.as_array().unwrap().iter();
        let is_temporary = |row: &&serde_json::Value| {
            row["name"].as_str().unwrap().starts_with("/.shm-sync.new.")
        };
        // The creator that works has removed those of the dead.
        assert_eq!(rows.filter(is_temporary).count(), 1, "{list}");
        leave();
        // The creator of this one died between the link and the removal of its
        // temporary name.
        drop(options().create("/linked", Counter::new(0)).unwrap());
        let second = "/dev/shm/.shm-sync.new.0000000000000000";
        fs::hard_link("/dev/shm/linked", second).unwrap();
        let outcomes = outcomes(&["gc", "--yes"]);
        assert_eq!(outcomes.len(), 3, "{outcomes:?}");
        for removed in &outcomes[..2] {
            assert!(removed.starts_with("/.shm-sync.new.") && removed.ends_with(" removed"));
        }
        assert_eq!(outcomes[2], "/linked left alone");
        may_end.open();
        creator.join();
        assert!(exists("/slow") && exists("/linked") && !exists("/never"));
        assert_eq!(fs::read_dir("/dev/shm").unwrap().count(), 2);
    }

    fn gc_keeps_copies() {
        if !has_own_shared_memory() {
            println!("not run: no namespace of its own");
            return;
        }
        leave(&["/jobs"]);
        fs::copy("/dev/shm/jobs", "/dev/shm/jobs.bak").unwrap();
        let expected = ["/jobs removed", "/jobs.bak left alone"];
        assert_eq!(outcomes(&["gc", "--yes"]), expected);
        let table = stdout(&["gc", "--yes"]);
        let note = "1 segment without a process stays: copied (--persistent)\n";
        assert!(table.ends_with(note), "{table}");
        let expected = ["/jobs.bak removed"];
        assert_eq!(outcomes(&["gc", "--yes", "--persistent"]), expected);
    }

    fn gc_keeps_segments_of_other_users() {
        if !is_root_for("gc_keeps_segments_of_other_users") || !has_own_shared_memory() {
            println!("not run: no namespace of its own");
            return;
        }
        fs::set_permissions("/dev/shm", fs::Permissions::from_mode(0o1777)).unwrap();
        leave(&["/of-root"]);
        fs::set_permissions("/dev/shm/of-root", fs::Permissions::from_mode(0o644)).unwrap();
        let mut other = spawn(|| {
            become_nobody();
            leave(&["/of-nobody"]);
        });
        other.wait();
        let expected = ["/of-nobody left alone", "/of-root would be removed"];
        assert_eq!(outcomes(&["gc", "--dry-run"]), expected);
        let table = stdout(&["gc", "--dry-run"]);
        let note = "1 segment without a process stays: of another user (--all-users)\n";
        assert!(table.ends_with(note), "{table}");

        // A copy of the program, because its directory may be closed to this user.
        let program = TestFile::new("tool");
        fs::copy(env!("CARGO_BIN_EXE_shm-sync"), &*program).unwrap();
        let mut tool = Command::new(&*program);
        tool.args(["gc", "--yes", "--all-users"]).current_dir("/");
        let output = tool.uid(NOBODY).gid(NOBODY).output().unwrap();
        let table = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{table}");
        assert!(table.contains("failed") && table.contains("permission denied"), "{table}");
        assert!(exists("/of-root") && !exists("/of-nobody"), "{table}");
    }

    fn gc_without_terminal_needs_yes() {
        if !has_own_shared_memory() {
            println!("not run: no namespace of its own");
            return;
        }
        // Also if there is nothing to remove, so that a script fails at its first run.
        for _ in 0..2 {
            let (text, code) = refusal(&["gc"]);
            assert!(code == 2 && text.contains("--yes") && text.contains("--dry-run"), "{text}");
            leave(&["/left"]);
        }
        assert!(exists("/left"));
    }

    fn gc_lists_and_asks_on_a_terminal() {
        if !has_own_shared_memory() {
            println!("not run: no namespace of its own");
            return;
        }
        leave(&["/first", "/second"]);
        drop(Segment::create("/persistent", Counter::new(0)).unwrap());
        for (answer, code) in [("n\n", 2), ("\n", 2), ("\x04", 2), ("y\n", 0)] {
            let mut terminal = Terminal::start(80, 24, &["gc"]);
            terminal.wait_for("Remove these 2 segments? [y/N] ");
            terminal.send(answer);
            let (text, found) = terminal.end();
            assert_eq!(found, code, "{text}");
            let (list, after) = text.split_once("Remove these").unwrap();
            assert!(list.contains("/first") && list.contains("/second"), "{text}");
            assert!(!list.contains("/persistent"), "{text}");
            assert_eq!(exists("/first"), code == 2, "{text}");
            assert_eq!(after.contains("nothing was removed"), code == 2, "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
        assert!(!exists("/second") && exists("/persistent"));
        let (text, code) = Terminal::start(80, 24, &["gc"]).end();
        assert!(code == 0 && text.starts_with("nothing to remove\n"), "{text}");
        // The list goes to the terminal, so JSON is alone on standard output.
        assert!(run(&["gc", "--yes", "--json"]).stderr.is_empty());
    }

    fn gc_keeps_segment_that_changes_meanwhile() {
        if !has_own_shared_memory() {
            println!("not run: no namespace of its own");
            return;
        }
        leave(&["/replaced", "/taken", "/gone", "/left-again"]);
        let mut terminal = Terminal::start(80, 24, &["gc"]);
        terminal.wait_for("[y/N] ");
        shm_sync::unlink("/replaced").unwrap();
        drop(Segment::create("/replaced", Counter::new(7)).unwrap());
        let taken = Segment::<Counter>::open("/taken").unwrap();
        shm_sync::unlink("/gone").unwrap();
        // Owner, size, policy and type are those of the object that was listed.
        shm_sync::unlink("/left-again").unwrap();
        leave(&["/left-again"]);
        terminal.send("y\n");
        let (text, code) = terminal.end();
        assert_eq!(code, 0, "{text}");
        for part in ["it has changed meanwhile", "a process has attached it", "gone"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(exists("/left-again"), "{text}");
        let replaced = Segment::<Counter>::open("/replaced").unwrap();
        assert_eq!((*replaced.lock().unwrap(), *taken.lock().unwrap()), (7, 0));
    }
}
