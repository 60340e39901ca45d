//! Tables and pages on a terminal of 80 columns.

use std::fs;
use std::os::fd::AsRawFd;
use std::process::Command;

use crate::run::{Terminal, command, on_terminal, stdout};
use crate::support::{
    TestFile, TestName, become_nobody, holder_of, is_root_for, leave_a_death, on_stage, spawn,
};
use shm_sync::{CachePadded, Segment, SegmentOptions, ShmCondvar, ShmMutex, ShmSafe};

type Counter = ShmMutex<u64>;

/// A type whose names are long.
#[derive(ShmSafe)]
#[repr(C)]
struct DistributedConfigurationSnapshot {
    replication_coordinators: [CachePadded<Counter>; 12],
    configuration_has_changed: ShmCondvar,
}

fn snapshot() -> DistributedConfigurationSnapshot {
    DistributedConfigurationSnapshot {
        replication_coordinators: std::array::from_fn(|_| CachePadded::new(Counter::new(0))),
        configuration_has_changed: ShmCondvar::new(),
    }
}

/// Asserts that no line is wider than a terminal.
#[track_caller]
fn assert_fits(text: &str, columns: usize) {
    for line in text.lines() {
        assert!(line.chars().count() <= columns, "{columns}: {line}\n{text}");
    }
}

#[track_caller]
fn line_with<'a>(text: &'a str, part: &str) -> &'a str {
    let line = text.lines().find(|line| line.contains(part));
    line.unwrap_or_else(|| panic!("{part} is in {text}"))
}

/// Returns the lines of a page that was drawn with escape sequences.
fn drawn(output: &str) -> String {
    let mut text = String::new();
    for part in output.split("\x1b[") {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
        // Each line begins with a movement of the cursor.
        if part[end..].starts_with('H') {
            text.push('\n');
        }
        text += part.get(end + 1..).unwrap_or("");
    }
    text
}

on_stage! {
    fn smoke() {
        let name = TestName::new("narrow");
        let segment = Segment::create(&name, snapshot()).unwrap();
        let table = on_terminal(80, &["ls"]);
        assert_fits(&table, 80);
        let titles: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(titles, ["NAME", "STATE", "HELD", "POISON", "PIDS", "SIZE", "TYPE"]);
        let wide = on_terminal(80, &["ls", "--wide"]);
        assert!(wide.contains("DistributedConfigurationSnapshot"), "{wide}");
        assert!(wide.contains("BACKING") && wide.contains("0600"), "{wide}");
        drop(segment);
    }

    fn ls_shortens_long_names_on_a_terminal() {
        let name = TestName::new(&format!("{}-end", "long-".repeat(20)));
        let segment = Segment::create(&name, snapshot()).unwrap();
        leave_a_death(&segment.replication_coordinators[3]);
        for columns in [80, 100, 200] {
            let table = on_terminal(columns, &["ls"]);
            assert_fits(&table, usize::from(columns));
            let line = line_with(&table, &name[name.len() - 6..]);
            assert!(columns == 200 || line.contains('…'), "{table}");
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[1..4], ["attached", "0", "1"], "{table}");
        }
        // Programs read the output of a pipe.
        for arguments in [&["ls"][..], &["ls", "--wide"]] {
            assert!(stdout(arguments).contains(&*name), "{arguments:?}");
        }
        let output = command(&["ls"]).env("COLUMNS", "76").output().unwrap();
        assert_fits(std::str::from_utf8(&output.stdout).unwrap(), 76);
    }

    fn ls_tells_stopped_from_running_holders() {
        let name = TestName::new("stopped");
        let segment = Segment::create(&name, snapshot()).unwrap();
        let locks = &segment.replication_coordinators;
        let holders = [0, 1, 2].map(|index| holder_of(&*locks[index]));
        let held = || {
            let table = stdout(&["ls"]);
            let line = line_with(&table, &name).to_owned();
            line.split("  ").filter(|cell| !cell.is_empty()).nth(2).unwrap().trim().to_owned()
        };
        assert_eq!(held(), "3");
        holders[0].stop();
        assert_eq!(held(), "2, 1 stopped");
        holders[1].stop();
        holders[2].stop();
        assert_eq!(held(), "3 stopped");
        drop(holders);
        assert_eq!(held(), "0", "dead owners hold nothing");
        assert_fits(&on_terminal(80, &["ls"]), 80);
    }

    fn show_fits_the_terminal() {
        let name = TestName::new("show");
        let segment = Segment::create(&name, snapshot()).unwrap();
        let locks = &segment.replication_coordinators;
        let dead = leave_a_death(&locks[4]);
        drop(locks[4].lock());
        let holder = holder_of(&*locks[5]);
        holder.stop();
        let text = on_terminal(80, &["show", &name]);
        assert_fits(&text, 80);
        assert!(text.contains(&format!("owner died: {dead}")), "{text}");
        let line = line_with(&text, "held, stopped");
        assert!(line.contains(&holder.pid().to_string()), "{text}");
        let wide = on_terminal(80, &["show", "--wide", &name]);
        assert!(wide.contains("HOLDER RUNS SINCE"), "{wide}");
        assert!(wide.contains(".replication_coordinators[11]"), "{wide}");
    }

    fn maps_fits_the_terminal() {
        let name = TestName::new(&"maps-".repeat(20));
        let _segment = Segment::create(&name, snapshot()).unwrap();
        let me = std::process::id().to_string();
        let text = on_terminal(80, &["maps", &me]);
        assert_fits(&text, 80);
        assert!(text.contains("read-write"), "{text}");
        let wide = on_terminal(80, &["maps", "--wide", &me]);
        assert!(wide.contains(&*name) && wide.contains("OFFSET"), "{wide}");
    }

    fn watch_never_clips_poison() {
        let name = TestName::new(&"watch-".repeat(15));
        let segment = Segment::create(&name, snapshot()).unwrap();
        let locks = &segment.replication_coordinators;
        let dead = leave_a_death(&locks[9]);
        drop(locks[9].lock());
        let _holders = [0, 1, 2, 3, 4, 5].map(|index| holder_of(&*locks[index]));
        let poison = format!("owner died: {dead}");
        for (columns, rows, wide) in [(80, 24, false), (60, 12, false), (80, 8, false), (80, 30, true)] {
            let mut arguments = vec!["watch", &name, "--interval", "60"];
            if wide {
                arguments.push("--wide");
            }
            let mut terminal = Terminal::start(columns, rows, &arguments);
            terminal.wait_for(&poison);
            terminal.send("q");
            let (output, code) = terminal.end();
            assert_eq!(code, 0, "{output}");
            let page = drawn(&output);
            let line = line_with(&page, &poison);
            let end = line.find(&poison).unwrap() + poison.len();
            assert!(end <= usize::from(columns), "{page}");
            if !wide {
                assert_fits(&page, usize::from(columns));
                assert!(page.trim().lines().count() <= usize::from(rows), "{page}");
            }
        }
    }

    fn watch_shows_removal_and_goes_on() {
        let name = TestName::new("watched");
        let segment = Segment::create(&name, Counter::new(0)).unwrap();
        let mut terminal = Terminal::start(80, 24, &["watch", &name, "--interval", "0.05"]);
        terminal.wait_for("attached");
        drop(segment);
        shm_sync::unlink(&name).unwrap();
        terminal.wait_for("there is no such object");
        terminal.send("q");
        assert_eq!(terminal.end().1, 0);
    }

    fn unreadable_processes_are_named_where_it_matters() {
        if !is_root_for("unreadable_processes_are_named_where_it_matters") {
            return;
        }
        // A copy of the program, because its directory may be closed to this user.
        let program = TestFile::new("tool");
        fs::copy(env!("CARGO_BIN_EXE_shm-sync"), &*program).unwrap();
        let name = TestName::new("hidden");
        spawn(|| {
            become_nobody();
            // SAFETY: the option takes a number. It lets other processes of the user
            // read `/proc` of this one.
            assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) }, 0);
            let show = |address: &str| {
                let mut tool = Command::new(&*program);
                let output = tool.args(["show", address]).current_dir("/").output().unwrap();
                String::from_utf8(output.stdout).unwrap()
            };
            // The kernel knows all processes that have attached a named segment.
            let _named = Segment::create(&name, Counter::new(0)).unwrap();
            let text = show(&name);
            assert!(text.contains("the kernel counts 1") && !text.contains("unreadable"), "{text}");
            // It does not know those that have mapped a memfd.
            let memfd = SegmentOptions::new().anonymous("hidden", Counter::new(0)).unwrap();
            let fd = Segment::as_fd(&memfd).unwrap().as_raw_fd();
            let text = show(&format!("/proc/{}/fd/{fd}", std::process::id()));
            let init = fs::read_to_string("/proc/1/comm").unwrap();
            let expected = format!("are unreadable: 1 {}", init.trim());
            let one = format!("process 1 {} are unreadable", init.trim());
            assert!(text.contains(&expected) || text.contains(&one), "{text}");
        })
        .join();
    }
}
