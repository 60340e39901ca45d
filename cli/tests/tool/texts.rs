//! Texts that other users chose, in the output of the tool. No control character and no
//! invisible character reaches standard output or standard error.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{TestFile, TestKey, TestName, on_stage, spawn};
use serde_json::Value;
use shm_sync::{Error, Segment, ShmMutex};

type Counter = ShmMutex<u64>;

/// A text that clears the screen in two ways, deletes, changes the direction of
/// writing, ends the line in four ways, and has invisible characters.
const EVIL: &str = "a\x1b[2J\u{9b}2J\x7f\u{202e}\u{2066}\u{61c}\r\n\u{85}\u{2028}\u{200b}\u{feff}z";

/// [`EVIL`] as the tool must show it.
const SHOWN: &str = "a\\u{1b}[2J\\u{9b}2J\\u{7f}\\u{202e}\\u{2066}\\u{61c}\\r\\n\\u{85}\\u{2028}\
                     \\u{200b}\\u{feff}z";

/// Runs the tool, and checks its whole output.
#[track_caller]
fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shm-sync"));
    let output = command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    for bytes in [&output.stdout, &output.stderr] {
        let text = std::str::from_utf8(bytes).unwrap();
        let steers = |c: &char| *c != '\n' && (c.is_control() || is_invisible(*c));
        let found: Vec<char> = text.chars().filter(steers).collect();
        assert!(found.is_empty(), "{arguments:?}: {found:?} in {text:?}");
    }
    output
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[track_caller]
fn stdout(arguments: &[&str]) -> String {
    String::from_utf8(run(arguments).stdout).unwrap()
}

#[track_caller]
fn stderr(arguments: &[&str]) -> String {
    String::from_utf8(run(arguments).stderr).unwrap()
}

#[track_caller]
fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(arguments)).unwrap()
}

/// Creates an object with the header of a segment whose type has this name.
fn segment_of_type(name: &str, platform: u8) -> TestName {
    let object = TestName::new("cli-type");
    let segment = Segment::create(&object, Counter::new(0)).unwrap();
    let mut bytes = fs::read(object.path()).unwrap();
    drop(segment);
    shm_sync::unlink(&object).unwrap();
    bytes[256..][..name.len()].copy_from_slice(name.as_bytes());
    bytes[96..100].copy_from_slice(&u32::try_from(name.len()).unwrap().to_le_bytes());
    bytes[15] = platform;
    object.write(&bytes);
    object
}

/// Runs each command that reads a segment.
fn run_all_commands(address: &str) {
    run(&["show", address]);
    run(&["show", address, "--json"]);
    run(&["watch", address, "--count", "1"]);
    run(&["watch", address, "--count", "1", "--json"]);
    run(&["export-c", address]);
    run(&["clear-poison", address, ".", "--yes"]);
    run(&["clear-poison", address, EVIL, "--yes"]);
    run(&["ls", "--all"]);
    run(&["ls", "--all", "--json"]);
    run(&["gc", "--dry-run"]);
    run(&["gc", "--dry-run", "--json"]);
    let me = std::process::id().to_string();
    run(&["maps", &me]);
    run(&["maps", &me, "--json"]);
}

on_stage! {
    fn smoke() {
        let name = segment_of_type(EVIL, 40);
        assert!(stdout(&["show", &name]).contains(SHOWN));
        let inside = &json(&["show", &name, "--json"])["segment"];
        assert_eq!(inside["type_name"], EVIL, "JSON has the text as it is");
        assert_eq!(run(&["rm", &name]).status.code(), Some(0));
    }

    fn type_names_are_escaped() {
        for platform in [40, 7] {
            let name = segment_of_type(EVIL, platform);
            run_all_commands(&name);
        }
        // The library's error has the name as well.
        let name = segment_of_type(EVIL, 40);
        let Err(error) = Segment::<u32>::open(&name) else {
            panic!("the segment has another type");
        };
        assert!(matches!(error, Error::LayoutMismatch { .. }));
        assert!(error.to_string().contains(SHOWN), "{error}");
        let debug = format!("{error:?}");
        assert!(!debug.chars().any(|c| c.is_control() || is_invisible(c)), "{debug}");
    }

    fn type_names_in_system_v_are_escaped() {
        const SHORT: &str = "\x1b]0;owned\x07";
        let key = TestKey::new();
        drop(Segment::create(&key, Counter::new(0)).unwrap());
        // SAFETY: the call takes and returns only numbers.
        let id = unsafe { libc::shmget(key.number(), 0, 0) };
        // SAFETY: the kernel chooses the address.
        let base = unsafe { libc::shmat(id, std::ptr::null(), 0) }.cast::<u8>();
        assert_ne!(base.addr(), usize::MAX);
        let put = |at: usize, bytes: &[u8]| {
            // SAFETY: the offset is inside the header of the attached segment.
            let to = unsafe { base.add(at) };
            // SAFETY: the header has room for the bytes, and no other process uses it.
            unsafe { to.copy_from(bytes.as_ptr(), bytes.len()) };
        };
        put(256, SHORT.as_bytes());
        put(96, &u32::try_from(SHORT.len()).unwrap().to_le_bytes());
        put(15, &[7]);
        // SAFETY: `base` is the address of the attachment, and is not used again.
        assert_eq!(unsafe { libc::shmdt(base.cast()) }, 0);

        run_all_commands(&key);
        let error = Segment::<Counter>::open(&key).unwrap_err().to_string();
        assert!(error.contains(" holds \\u{1b}]0;owned\\u{7} of another platform"), "{error}");
        // The segment is of another platform. No process is attached, except that other
        // tests list all segments and probe it.
        crate::support::poll(|| run(&["rm", &key]).status.success());
    }

    fn object_names_are_escaped() {
        let name = TestName::new(EVIL);
        run_all_commands(&name);
        let segment = Segment::create(&name, Counter::new(0)).unwrap();
        run_all_commands(&name);
        let text = stderr(&["rm", &name]);
        assert!(text.contains(SHOWN) && text.contains("in use by"), "{text}");
        let all = json(&["ls", "--json"]);
        assert!(all.as_array().unwrap().iter().any(|row| row["name"] == *name));
        // An object without a name, and a damaged one.
        let same = Segment::<Counter>::open(&name).unwrap();
        shm_sync::unlink(&name).unwrap();
        run_all_commands(&name);
        drop((segment, same));
        name.write(b"shmsync\0 and nothing else");
        run_all_commands(&name);
        run(&["rm", &name]);
    }

    fn file_names_are_escaped() {
        let directory = TestFile::new(EVIL);
        fs::create_dir(&*directory).unwrap();
        let path = format!("{}/{EVIL}", &*directory);
        let segment = Segment::create(&path, Counter::new(0)).unwrap();
        run_all_commands(&path);
        assert!(stderr(&["rm", &path]).contains(SHOWN));
        drop(segment);
        run(&["rm", &path]);
        run_all_commands(&path);
        assert!(stderr(&["man", "--directory", &path]).contains(SHOWN));
        fs::remove_dir_all(Path::new(&*directory)).unwrap();
    }

    fn memfd_names_are_escaped() {
        let options = Segment::<Counter>::options();
        let Ok(segment) = options.anonymous(EVIL, Counter::new(0)) else {
            println!("skipped: the kernel accepts no such name");
            return;
        };
        let all = json(&["ls", "--json"]);
        let mut rows = all.as_array().unwrap().iter();
        let row = rows.find(|row| row["name"].as_str().unwrap().contains("memfd:a\x1b"));
        run_all_commands(row.unwrap_or_else(|| panic!("{all}"))["address"].as_str().unwrap());
        drop(segment);
    }

    fn process_names_are_escaped() {
        for name in [c"a\x1b[2J\xc2\x9b2J\x7f", c"\xe2\x80\xae\x9b\r\n\x07z"] {
            let object = TestName::new("cli-comm");
            let segment = Segment::create(&object, Counter::new(0)).unwrap();
            let rename = || {
                // SAFETY: the name is a string that ends with a zero byte.
                let renamed = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
                assert_eq!(renamed, 0);
            };
            let lock = &*segment;
            let holder = spawn(|| {
                rename();
                let _guard = lock.lock().unwrap();
                std::thread::park();
            });
            holder.wait_until_asleep();
            run_all_commands(&object);
            let text = stderr(&["rm", &object]);
            assert!(text.contains("in use by") && text.contains("\\u{"), "{text}");
            assert!(stdout(&["show", &object]).contains("\\u{"));
            drop(holder);
        }
    }

    fn wrong_arguments_are_escaped() {
        for arguments in [
            &[EVIL][..],
            &["show", EVIL],
            &["show", "/x", EVIL],
            &["rm", "/x", EVIL],
            &["maps", EVIL],
            &["ls", "--color", EVIL],
            &["ls", &format!("--{EVIL}")],
            &["watch", "/x", "--interval", EVIL],
            &["completions", EVIL],
        ] {
            let output = run(arguments);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
            assert!(!output.stderr.is_empty());
        }
    }
}
