//! Imports between the modules of `src/`, system calls, waits, and descriptors.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::names::{self, Name, Tests, enter_repository, files_below};

/// The floors of `src/`, bottom up. A module names modules of lower floors only. Modules
/// of one floor never name each other. `lib.rs` may name all. A name that `lib.rs`
/// re-exports counts as a name of the module that defines it.
const FLOORS: [&[&str]; 9] = [
    &["documented"],
    &["printable", "shm_safe"],
    &["error"],
    &["collections", "os"],
    &["robust"],
    &["init", "read_only"],
    &["sync", "segment"],
    &["inspect"],
    &["fuzzing"],
];

/// The folder of the tool. It uses the public API, so it has no floor. All other rules
/// hold for it, too.
const TOOL: &str = "cli";

/// The module that may name [`SYSTEM_CRATES`].
const SYSTEM_MODULE: &str = "os";
const SYSTEM_CRATES: [&str; 2] = ["libc", "nix"];

/// Waits that no event ends early.
#[rustfmt::skip]
const BLIND_WAITS: [&str; 6] =
    ["yield_now", "usleep", "nanosleep", "sched_yield", "sleep_ms", "sleep_until"];
/// Such a wait as well, if it is part of a path: methods may have this name.
const SLEEP: &str = "sleep";

/// Calls that create descriptors that can be written through. A file that names one of
/// them names [`KEEPER`] as well, which keeps descriptors off the numbers of standard
/// input, output and error.
const MAKERS: [&str; 4] = ["OpenOptions", "memfd_create", "pidfd_open", "openat"];
const KEEPER: &str = "above_standard";

#[test]
fn smoke() {
    enter_repository();
    let files = files_below(Path::new("src"));
    assert!(files.len() > FLOORS.len(), "the files are found");
    let root = names(&files[Path::new("src/lib.rs")], &[]);
    assert!(!root.is_empty(), "the names in lib.rs are read");
}

#[test]
fn source_keeps_the_rules() {
    enter_repository();
    let mut files = files_below(Path::new("src"));
    files.extend(files_below(&Path::new(TOOL).join("src")));
    let list = violations(&files);
    assert!(list.is_empty(), "rules are broken:\n{}", list.join("\n"));
}

/// Returns each violation of a rule, with its file and line.
fn violations(files: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let owners = owners(files);
    let mut all = Vec::new();
    for (file, text) in files {
        let module = module_of(file);
        let here = module.first().cloned().unwrap_or_default(); // empty: lib.rs
        let mut broken = vec![(1, module_rule(&here))];
        for Name { line, path, .. } in names(text, &module) {
            broken.push((line, floor_rule(&here, &path, &owners)));
            broken.push((line, system_rule(&here, &path)));
            broken.push((line, waiting_rule(&path)));
            broken.push((line, descriptor_rule(&here, &path, text)));
        }
        broken.sort();
        broken.dedup();
        for (line, rule) in broken {
            all.extend(rule.map(|rule| format!("{}:{line}: {rule}", file.display())));
        }
    }
    all
}

/// Requires that each module has a floor.
fn module_rule(here: &str) -> Option<String> {
    let is_unknown = !here.is_empty() && here != TOOL && floor_of(here).is_none();
    is_unknown.then(|| format!("`{here}` is on no floor: add it to FLOORS in {}", file!()))
}

/// Requires that a module names only modules of lower floors and parts of itself.
fn floor_rule(here: &str, path: &[String], owners: &BTreeMap<String, String>) -> Option<String> {
    let my_floor = floor_of(here)?; // lib.rs has none
    let [root, name, ..] = path else { return None };
    if root != "crate" {
        return None;
    }
    let Some(there) = owners.get(name) else {
        let rule = format!("`{here}` names `crate::{name}`, of which no floor is known");
        return Some(rule);
    };
    let which = match floor_of(there)?.cmp(&my_floor) {
        Ordering::Greater => "a higher",
        Ordering::Equal if there != here => "the same",
        Ordering::Equal | Ordering::Less => return None,
    };
    let alias = if name == there {
        String::new()
    } else {
        format!(" (as `crate::{name}`)")
    };
    let rule = format!("`{here}` names `{there}`{alias}, which is on {which} floor");
    Some(rule)
}

/// Requires that only one module names the crates of system calls.
fn system_rule(here: &str, path: &[String]) -> Option<String> {
    let name = path.first()?.as_str();
    let is_wrong = SYSTEM_CRATES.contains(&name) && here != SYSTEM_MODULE;
    is_wrong.then(|| format!("`{name}` is named outside src/{SYSTEM_MODULE}"))
}

/// Forbids waits that only time ends.
fn waiting_rule(path: &[String]) -> Option<String> {
    let (first, others) = path.split_first()?;
    let sleeps = first != "Self" && others.iter().any(|part| part == SLEEP);
    let is_blind = sleeps || path.iter().any(|part| BLIND_WAITS.contains(&part.as_str()));
    is_blind.then(|| format!("`{}` waits blindly: wait for an event", path.join("::")))
}

/// Requires that no descriptor gets the number of standard output.
fn descriptor_rule(here: &str, path: &[String], text: &str) -> Option<String> {
    let makes = path.iter().any(|part| MAKERS.contains(&part.as_str()))
        || path.starts_with(&["nix", "fcntl", "open"].map(String::from));
    let is_wrong = makes && here != TOOL && !text.contains(KEEPER);
    is_wrong.then(|| format!("`{}` needs `{KEEPER}` around it", path.join("::")))
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Maps each name in the crate's root to its module: `Segment` to `segment`, a module to
/// itself, an exported macro to the module that defines it.
fn owners(files: &BTreeMap<PathBuf, String>) -> BTreeMap<String, String> {
    let modules = FLOORS.iter().copied().flatten();
    let mut owners: BTreeMap<String, String> = modules
        .map(|module| (module.to_string(), module.to_string()))
        .collect();
    for (file, text) in files {
        for definition in text.split("macro_rules! ").skip(1) {
            let name = definition.split_whitespace().next().unwrap_or_default();
            let module = module_of(file).first().cloned().unwrap_or_default();
            owners.insert(name.to_string(), module);
        }
    }
    let root = files.iter().find(|(file, _)| module_of(file).is_empty());
    for Name { path, binds, .. } in root.map_or(Vec::new(), |(_, text)| names(text, &[])) {
        if let ([root, module, ..], Some(name)) = (path.as_slice(), binds)
            && root == "crate"
            && floor_of(module).is_some()
        {
            owners.insert(name, module.clone());
        }
    }
    owners
}

/// Returns the module that a file is: `["sync", "mutex"]`. It is empty for `lib.rs`. It
/// begins with [`TOOL`] for the files of the tool.
fn module_of(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix("src").unwrap_or(file).with_extension("");
    let parts = inside
        .iter()
        .map(|part| part.to_string_lossy().into_owned());
    parts
        .filter(|part| part != "mod" && part != "lib")
        .collect()
}

/// Returns every path that a file names. In the root, a path that begins with a module
/// begins with `crate`.
fn names(text: &str, module: &[String]) -> Vec<Name> {
    let mut names = names::read(text, module, "shm_sync", Tests::Read).names;
    for Name { module, path, .. } in &mut names {
        if module.is_empty() && floor_of(&path[0]).is_some() {
            path.insert(0, "crate".to_owned());
        }
    }
    names
}

const ROOT: &str = "
    mod error; mod os; mod sync; mod segment;
    pub use error::{Damage, Error};
    pub use sync::{MAX_LOCKS_HELD, ShmMutex as Mutex};
    pub use segment::{Segment, unlink};";

/// Returns the violations in a crate of [`ROOT`] and one more file.
fn violations_with(file: &str, text: &str) -> Vec<String> {
    let files = [("src/lib.rs", ROOT), (file, text)];
    violations(&files.map(|(file, text)| (file.into(), text.into())).into())
}

/// Asserts that each of these lines, alone in a file, breaks this rule and no other.
#[track_caller]
fn assert_caught(file: &str, rule: &str, lines: &str) {
    for line in lines.trim().lines() {
        let expected = format!("{file}:1: {rule}");
        assert_eq!(violations_with(file, line), [expected], "{line}");
    }
}

#[track_caller]
fn assert_allowed(file: &str, lines: &str) {
    for line in lines.trim().lines() {
        assert_eq!(violations_with(file, line), [""; 0], "{line}");
    }
}

#[test]
fn higher_floor_is_caught() {
    let rule = "`os` names `sync`, which is on a higher floor";
    let lines = "
        use crate::sync::ShmMutex;
        use super::super::sync;
        use crate::{error::Error, sync::spin};
        use crate::{error, sync::{a, b}};
        use crate::{error::{a, b}, sync::{a}};
        fn f() { crate::sync::f() }
        fn f(x: &mut crate::sync::Lock<u8>) {}
        fn f() { ::shm_sync::sync::f(); }
        fn f() { assert!(matches!(x, Some(crate::sync::X))) }
        pub(in crate::sync) struct S;
        macro_rules! m { () => { $crate::sync::f() } }
        macro_rules! m { () => { use $crate::{error, sync}; } }
        macro_rules! m { ($($x:ident),*) => { use crate::error::{$($x),*}; use crate::sync; } }
        mod tests { use crate::sync::*; }
        mod x { mod y {} fn f() { super::super::super::sync::f() } }";
    assert_caught("src/os/futex.rs", rule, lines);
    assert_caught("src/os/mod.rs", rule, "use super::sync::f;");

    let rule = "`os` names `sync` (as `crate::Mutex`), which is on a higher floor";
    assert_caught("src/os/mod.rs", rule, "use crate::Mutex;");
    let rule = "`error` names `sync` (as `crate::MAX_LOCKS_HELD`), which is on a higher floor";
    let lines = r#"
        #[error("{}", crate::MAX_LOCKS_HELD)]
        use super::MAX_LOCKS_HELD;
        use crate::{MAX_LOCKS_HELD as MOST};
        fn f() -> u32 { shm_sync::MAX_LOCKS_HELD }"#;
    assert_caught("src/error.rs", rule, lines);
}

#[test]
fn same_floor_is_caught() {
    let rule = "`sync` names `segment`, which is on the same floor";
    assert_caught("src/sync/a.rs", rule, "use crate::segment::Segment;");
    let rule = "`segment` names `sync`, which is on the same floor";
    assert_caught("src/segment/mod.rs", rule, "use super::sync;");
    let rule = "`sync` names `segment` (as `crate::Segment`), which is on the same floor";
    assert_caught("src/sync/a.rs", rule, "mod tests { use crate::Segment; }");
}

#[test]
fn unknown_floor_is_caught() {
    let rule = "`os` names `crate::*`, of which no floor is known";
    assert_caught("src/os/a.rs", rule, "use crate::*;");
    assert_caught("src/os/mod.rs", rule, "use super::*;");
    let rule = "`os` names `crate::attic`, of which no floor is known";
    assert_caught("src/os/a.rs", rule, "use crate::attic::Chest;");
    let rule = "`attic` is on no floor: add it to FLOORS in tests/architecture/floors.rs";
    let lines = "use crate::error::Error;\nuse std::io;\n// nothing";
    assert_caught("src/attic.rs", rule, lines);
}

#[test]
fn system_crate_outside_os_is_caught() {
    let rule = "`libc` is named outside src/os";
    let lines = r###"
        use libc;
        use ::libc::c_int as int;
        extern crate libc;
        fn f() { libc::getpid(); }
        fn f(x: ::libc::c_int) {}
        mod tests { use libc::c_int; }
        f('"', '\'', '\\', 'ż', '\u{17c}', b'"', b'\x22', "\\", "//", libc::x)
        f(r"\", r#"""#, br##""#"##, c"//", 1_u8, 1.5e3, /* /* */ */ libc::x)
        f(r#match, x::<'static>(), 'label: loop {}, libc::x)"###;
    assert_caught("src/init.rs", rule, lines);
    assert_caught("src/lib.rs", rule, "pub use libc::c_int;");
    assert_caught("cli/src/main.rs", rule, "use libc::c_int;");
    let rule = "`nix` is named outside src/os";
    assert_caught("src/segment/mod.rs", rule, "use {std::io, nix::unistd};");
}

#[test]
fn blind_wait_is_caught() {
    let paths = "std::thread::sleep thread::sleep thread::sleep_ms thread::sleep_until \
                 std::thread::yield_now libc::usleep libc::nanosleep libc::sched_yield";
    for path in paths.split(' ') {
        let rule = format!("`{path}` waits blindly: wait for an event");
        let lines = format!("fn f() {{ {path}(x); }}\nuse {path};");
        assert_caught("src/os/a.rs", &rule, &lines);
    }
    let rule = "`std::thread::sleep` waits blindly: wait for an event";
    assert_caught("src/os/a.rs", rule, "use std::thread::{self, sleep};");
}

#[test]
fn low_descriptor_is_caught() {
    for text in [
        "use nix::fcntl::{fcntl, open as open_path};",
        "use std::fs::OpenOptions;",
        "fn f() { nix::sys::memfd::memfd_create(label, flags); }",
    ] {
        let list = violations_with("src/os/files.rs", text);
        assert_eq!(list.len(), 1, "{text}: {list:?}");
        let careful = format!("use super::descriptor::above_standard; {text}");
        let list = violations_with("src/os/files.rs", &careful);
        assert!(list.is_empty(), "{text}: {list:?}");
    }
}

#[test]
fn violations_name_their_lines() {
    let text = "use crate::{\n error::{\n a,\n },\n segment::{\n Segment,\n },\n};\n\
                fn f() {\n g(\"\n\", libc::x); \n}\n/* \n */ use std::thread::yield_now;";
    let expected = [
        "src/sync/a.rs:6: `sync` names `segment`, which is on the same floor",
        "src/sync/a.rs:11: `libc` is named outside src/os",
        "src/sync/a.rs:14: `std::thread::yield_now` waits blindly: wait for an event",
    ];
    assert_eq!(violations_with("src/sync/a.rs", text), expected);
}

#[test]
fn code_within_the_rules_is_allowed() {
    let downward_and_inside = "
        use crate::os::futex; use crate::init::place_at;
        use crate::error::Error; use crate::Damage;
        use crate::sync::mutex; use crate::Mutex as M;
        use super::mutex::ShmMutex; use self::inner::X;
        mod tests { mod more { use super::super::*; } }
        mod x {} use super::super::os::clock;
        pub(crate) fn f() {} pub(super) fn g() {}";
    assert_allowed("src/sync/a.rs", downward_and_inside);
    assert_allowed("src/error.rs", "mod tests { use super::*; }");
    let inside = "use super::super::clock; use libc::x;";
    assert_allowed("src/os/b/a.rs", inside);
    let program = "use shm_sync::Segment; use crate::table; mod text;";
    assert_allowed("cli/src/main.rs", program);

    let other_meanings = "
        struct Abi { libc: u8 } fn f(a: Abi) { a.libc; }
        fn f() { let libc = 1; g(libc) }
        impl C { fn sleep(&self) { self.sleep(); Self::sleep(self) } }";
    assert_allowed("src/sync/a.rs", other_meanings);

    let said_and_not_done = r###"
        fn f() {} // crate::sync
        /* crate::sync /* */ libc::x */ fn f() {}
        /// [`X`](crate::sync::X)
        //! libc::x
        const A: &str = "crate::sync \" libc::x";
        const A: &str = r#"crate::sync \" libc::x"#;
        const A: [u8; 3] = *b"crate::sync\\"; fn f<'a>(_: &'a u8) {}"###;
    assert_allowed("src/error.rs", said_and_not_done);
}
