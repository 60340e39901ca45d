//! The house rules that a program can check: which file may name which, who
//! talks to the operating system, how waiting is done, how long a file may be.
//!
//! The checker reads the tokens that the compiler would read, so comments and
//! strings may say what they like, and macros are looked into. It gathers every
//! path that a file names, with those of `use a::{b, c}` spelled out, and holds
//! each against the rules. Code under `#[cfg(test)]` keeps the rules as well.
//!
//! It reads no types: what a glob import brings in, and what a value's methods
//! do, it cannot know.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::TokenTree::{Group, Ident, Punct};
use proc_macro2::{TokenStream, TokenTree};

/// The floors of the house, bottom up. A module names modules of lower floors;
/// those that share a floor never name each other. `lib.rs` is the roof: what it
/// re-exports counts as a name of the module that it comes from.
const FLOORS: [&[&str]; 7] = [
    &["printable", "shm_safe"],
    &["error"],
    &["os"],
    &["robust"],
    &["init", "read_only"],
    &["sync", "segment"],
    &["inspect"],
];

/// Programs, which see of the house what everybody sees: no floor, but all other
/// rules are theirs, too.
const PROGRAMS: &str = "bin";

/// The module that may name [`SYSTEM_CRATES`].
const SYSTEM_MODULE: &str = "os";
const SYSTEM_CRATES: [&str; 2] = ["libc", "nix"];

/// Ways to wait that nothing can end early.
#[rustfmt::skip]
const BLIND_WAITS: [&str; 6] =
    ["yield_now", "usleep", "nanosleep", "sched_yield", "sleep_ms", "sleep_until"];
/// One more, but one's own functions may have this name: it counts in a path.
const SLEEP: &str = "sleep";

/// What makes descriptors that can be written through, and the function that keeps
/// their numbers away from standard input, output and error: a file that names one of
/// the former names the latter.
const MAKERS: [&str; 4] = ["OpenOptions", "memfd_create", "pidfd_open", "openat"];
const KEEPER: &str = "above_standard";

/// A longer file tells two stories.
const LONGEST_FILE: usize = 600;

#[test]
fn smoke() {
    let files = files_below(Path::new("src"));
    assert!(files.len() > FLOORS.len(), "the files are found");
    assert!(!names(&files[Path::new("src/lib.rs")], Vec::new()).is_empty());
}

#[test]
fn the_house_keeps_its_rules() {
    let list = violations(&files_below(Path::new("src")));
    assert!(list.is_empty(), "rules are broken:\n{}", list.join("\n"));
}

// --- The rules ------------------------------------------------------------------

/// What is against the rules, and where.
fn violations(files: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let owners = owners(files);
    let mut all = Vec::new();
    for (file, text) in files {
        let module = module_of(file);
        let here = module.first().cloned().unwrap_or_default(); // nothing: the roof
        let mut broken = vec![
            (LONGEST_FILE + 1, length_rule(text)),
            (1, address_rule(&here)),
        ];
        for Name { line, path } in names(text, module) {
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

fn length_rule(text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > LONGEST_FILE).then(|| format!("a file has at most {LONGEST_FILE} lines, not {lines}"))
}

/// Every module has its floor.
fn address_rule(here: &str) -> Option<String> {
    let is_homeless = !here.is_empty() && here != PROGRAMS && floor_of(here).is_none();
    is_homeless.then(|| format!("`{here}` is on no floor: give it one in tests/architecture.rs"))
}

/// A module names only modules of lower floors, and parts of itself.
fn floor_rule(here: &str, path: &[String], owners: &BTreeMap<String, String>) -> Option<String> {
    let my_floor = floor_of(here)?; // the roof may name all
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
    let by_way = match name == there {
        true => String::new(),
        false => format!(" (as `crate::{name}`)"),
    };
    let rule = format!("`{here}` names `{there}`{by_way}, which is on {which} floor");
    Some(rule)
}

/// Only one module talks to the operating system.
fn system_rule(here: &str, path: &[String]) -> Option<String> {
    let name = path.first()?.as_str();
    let is_wrong = SYSTEM_CRATES.contains(&name) && here != SYSTEM_MODULE;
    is_wrong.then(|| format!("`{name}` is named outside src/{SYSTEM_MODULE}"))
}

/// Nobody waits for time to pass, or hopes that others run meanwhile.
fn waiting_rule(path: &[String]) -> Option<String> {
    let (first, others) = path.split_first()?;
    let sleeps = first != "Self" && others.iter().any(|part| part == SLEEP);
    let is_blind = sleeps || path.iter().any(|part| BLIND_WAITS.contains(&part.as_str()));
    is_blind.then(|| format!("`{}` waits blindly: wait for an event", path.join("::")))
}

/// No descriptor of ours is standard output.
fn descriptor_rule(here: &str, path: &[String], text: &str) -> Option<String> {
    let makes = path.iter().any(|part| MAKERS.contains(&part.as_str()))
        || path.starts_with(&["nix", "fcntl", "open"].map(String::from));
    let is_wrong = makes && here != PROGRAMS && !text.contains(KEEPER);
    is_wrong.then(|| format!("`{}` needs `{KEEPER}` around it", path.join("::")))
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The module that each name of the crate's root belongs to: `Segment` to
/// `segment`, a module to itself, an exported macro to where it is written.
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
    for Name { path, .. } in root.map_or(Vec::new(), |(_, text)| names(text, Vec::new())) {
        match path.as_slice() {
            [root, module, .., name] if root == "crate" && floor_of(module).is_some() => {
                owners.insert(name.clone(), module.clone());
            }
            _ => {}
        }
    }
    owners
}

// --- Reading code ---------------------------------------------------------------

/// The text of every file in a directory and below.
fn files_below(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("the directory is there") {
        let path = entry.expect("the directory can be read").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("the file can be read");
            files.insert(path, text);
        }
    }
    files
}

/// The module that a file is: `["sync", "mutex"]`. Empty for `lib.rs`.
fn module_of(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix("src").unwrap_or(file).with_extension("");
    let parts = inside
        .iter()
        .map(|part| part.to_string_lossy().into_owned());
    parts
        .filter(|part| part != "mod" && part != "lib")
        .collect()
}

/// Every path that a file names, and everything that it imports.
fn names(text: &str, module: Vec<String>) -> Vec<Name> {
    let stream = text.parse().expect("a file consists of tokens");
    let names = Vec::new();
    let mut reader = Reader { module, names };
    reader.read(stream);
    reader.names
}

/// A path begins with `crate` if it leads into this crate, else as it is written.
/// What an import calls it (`as`) is one more part.
struct Name {
    line: usize,
    path: Vec<String>,
}

struct Reader {
    /// The module that is being read.
    module: Vec<String>,
    names: Vec<Name>,
}

impl Reader {
    fn read(&mut self, stream: TokenStream) {
        let tokens = tokens_of(stream);
        let mut rest = tokens.as_slice();
        while let [first, after_first @ ..] = rest {
            rest = match rest {
                [Ident(word), Ident(name), Group(body), after @ ..] if word == "mod" => {
                    self.module.push(name.to_string());
                    self.read(body.stream());
                    self.module.pop();
                    after
                }
                [Ident(word), Ident(what), after @ ..] if word == "extern" && what == "crate" => {
                    self.read_path(after, &[], true)
                }
                [Ident(word), ..] if word == "use" => self.read_path(after_first, &[], true),
                [Ident(_), ..] => self.read_path(rest, &[], false),
                _ => {
                    if let Group(group) = first {
                        self.read(group.stream());
                    }
                    after_first
                }
            };
        }
    }

    /// Reads one path, or all paths of an import, and returns what follows.
    fn read_path<'a>(
        &mut self,
        tokens: &'a [TokenTree],
        prefix: &[String],
        is_import: bool,
    ) -> &'a [TokenTree] {
        let mut path = prefix.to_vec();
        let mut next = after_colons(tokens).or(Some(tokens));
        let mut rest = tokens;
        while let Some([first, after @ ..]) = next {
            match first {
                Ident(name) => path.push(name.to_string().replace("r#", "")),
                star if is_import && is_mark(star, '*') => path.push("*".to_owned()),
                Group(group) if is_import => {
                    for tree in tokens_of(group.stream()).split(|token| is_mark(token, ',')) {
                        self.read_path(tree, &path, true);
                    }
                    return after;
                }
                _ => break,
            }
            rest = after;
            next = match rest {
                [Ident(word), alias @ ..] if is_import && word == "as" => Some(alias),
                _ => after_colons(rest),
            };
        }
        if path.len() > prefix.len() && (path.len() > 1 || is_import) {
            let line = tokens[0].span().start().line;
            let path = from_root(&path, &self.module);
            self.names.push(Name { line, path });
        }
        rest
    }
}

/// Leaves out the `$` of macros: `$crate` is `crate` to us.
fn tokens_of(stream: TokenStream) -> Vec<TokenTree> {
    let tokens = stream.into_iter();
    tokens.filter(|token| !is_mark(token, '$')).collect()
}

fn is_mark(token: &TokenTree, mark: char) -> bool {
    matches!(token, Punct(punct) if punct.as_char() == mark)
}

fn after_colons(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    match tokens {
        [one, two, after @ ..] if is_mark(one, ':') && is_mark(two, ':') => Some(after),
        _ => None,
    }
}

/// The path from the crate's root, if it leads into this crate.
fn from_root(path: &[String], module: &[String]) -> Vec<String> {
    let mut whole = vec!["crate".to_owned()];
    match path[0].as_str() {
        "crate" | "shm_sync" => {}
        "self" | "super" => whole.extend_from_slice(module),
        // In the root, a path begins with a module as it does with `crate`.
        first if module.is_empty() && floor_of(first).is_some() => {}
        _ => return path.to_vec(),
    }
    for part in path {
        match part.as_str() {
            "crate" | "shm_sync" | "self" => {}
            "super" => whole.truncate(whole.len().max(2) - 1),
            _ => whole.push(part.clone()),
        }
    }
    whole
}

// --- Whether the checker would notice -------------------------------------------

const ROOT: &str = "
    mod error; mod os; mod sync; mod segment;
    pub use error::{Damage, Error};
    pub use sync::{MAX_LOCKS_HELD, ShmMutex as Mutex};
    pub use segment::{Segment, unlink};";

/// What is wrong with a house of the root and this file.
fn violations_with(file: &str, text: &str) -> Vec<String> {
    let files = [("src/lib.rs", ROOT), (file, text)];
    violations(&files.map(|(file, text)| (file.into(), text.into())).into())
}

/// Checks that each of these lines, alone in a file, breaks this rule and no other.
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
fn a_name_of_a_higher_floor_is_caught() {
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
fn a_name_of_the_same_floor_is_caught() {
    let rule = "`sync` names `segment`, which is on the same floor";
    assert_caught("src/sync/a.rs", rule, "use crate::segment::Segment;");
    let rule = "`segment` names `sync`, which is on the same floor";
    assert_caught("src/segment/mod.rs", rule, "use super::sync;");
    let rule = "`sync` names `segment` (as `crate::Segment`), which is on the same floor";
    assert_caught("src/sync/a.rs", rule, "mod tests { use crate::Segment; }");
}

#[test]
fn a_name_of_no_floor_is_caught() {
    let rule = "`os` names `crate::*`, of which no floor is known";
    assert_caught("src/os/a.rs", rule, "use crate::*;");
    assert_caught("src/os/mod.rs", rule, "use super::*;");
    let rule = "`os` names `crate::attic`, of which no floor is known";
    assert_caught("src/os/a.rs", rule, "use crate::attic::Chest;");
    let rule = "`attic` is on no floor: give it one in tests/architecture.rs";
    let lines = "use crate::error::Error;\nuse std::io;\n// nothing";
    assert_caught("src/attic.rs", rule, lines);
}

#[test]
fn a_system_crate_upstairs_is_caught() {
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
    assert_caught("src/bin/tool/main.rs", rule, "use libc::c_int;");
    let rule = "`nix` is named outside src/os";
    assert_caught("src/segment/mod.rs", rule, "use {std::io, nix::unistd};");
}

#[test]
fn a_blind_wait_is_caught() {
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
fn a_descriptor_with_a_low_number_is_caught() {
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
fn a_long_file_is_caught() {
    let long = "//\n".repeat(LONGEST_FILE);
    assert_eq!(violations_with("src/init.rs", &long), [""; 0]);
    let rule = "src/init.rs:601: a file has at most 600 lines, not 601";
    assert_eq!(violations_with("src/init.rs", &(long + "//")), [rule]);
}

#[test]
fn every_violation_is_told_with_its_line() {
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
fn what_keeps_the_rules_is_allowed() {
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
    assert_allowed("src/bin/tool/main.rs", program);

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
