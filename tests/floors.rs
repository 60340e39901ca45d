//! The house rules that a program can check: which file may name which, who
//! talks to the operating system, how waiting is done, how long a file may be.
//!
//! The checker reads tokens, not text: comments and strings may say what they
//! like. Code under `#[cfg(test)]` keeps the rules as well.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors of the house, bottom up. A module names modules of lower floors;
/// those that share a floor never name each other. `lib.rs` is the roof: what it
/// re-exports counts as a name of the module that it comes from.
const FLOORS: [&[&str]; 6] = [
    &["fingerprint"],
    &["error"],
    &["os"],
    &["shm_safe"],
    &["place"],
    &["sync", "segment"],
];

/// The module that may name [`SYSTEM_CRATES`].
const SYSTEM_MODULE: &str = "os";
const SYSTEM_CRATES: [&str; 2] = ["libc", "nix"];

/// Ways to wait that nothing can end early. `sleep` itself is a name that one's
/// own functions may have, so it counts only as a part of a longer path.
const BLIND_WAITS: [&str; 6] = [
    "yield_now",
    "usleep",
    "nanosleep",
    "sched_yield",
    "sleep_ms",
    "sleep_until",
];

/// A longer file tells two stories.
const LONGEST_FILE: usize = 600;

// --- The rules, as the house has them ----------------------------------------

#[test]
fn smoke() {
    let house = House::read(Path::new("src"));
    assert!(house.files.len() > FLOORS.len(), "the files are found");
    assert!(!house.tokens(Path::new("src/lib.rs")).is_empty());
}

#[test]
fn the_house_keeps_its_rules() {
    let violations = House::read(Path::new("src")).violations();
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(
        list.is_empty(),
        "{} of the house's rules broken:\n{}",
        list.len(),
        list.join("\n")
    );
}

/// What is against the rules, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    file: PathBuf,
    line: usize,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.rule)
    }
}

/// The text of every file below `src`.
struct House {
    files: BTreeMap<PathBuf, String>,
}

impl House {
    /// Reads a directory and all below it.
    fn read(directory: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut directories = vec![directory.to_owned()];
        while let Some(directory) = directories.pop() {
            let entries = fs::read_dir(&directory)
                .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
            for entry in entries {
                let path = entry.expect("the directory can be read").path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(&path)
                        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                    files.insert(path, text);
                }
            }
        }
        Self { files }
    }

    fn tokens(&self, file: &Path) -> Vec<Token> {
        tokens(&self.files[file])
    }

    fn violations(&self) -> Vec<Violation> {
        let reexports = self.reexports();
        let mut all = Vec::new();
        for (file, text) in &self.files {
            let mut report = |line, rule| {
                all.push(Violation {
                    file: file.clone(),
                    line,
                    rule,
                });
            };
            let lines = text.lines().count();
            if lines > LONGEST_FILE {
                report(
                    LONGEST_FILE + 1,
                    format!("a file has at most {LONGEST_FILE} lines, not {lines}"),
                );
            }
            let module = module_of(file);
            if let Some(here) = module.first().filter(|module| floor_of(module).is_none()) {
                report(
                    1,
                    format!("`{here}` is on no floor: give it one in tests/floors.rs"),
                );
            }
            for used in uses(&tokens(text), &module) {
                check_floor(&module, &used, &reexports, &mut report);
                check_system(&module, &used, &mut report);
                check_waiting(&used, &mut report);
            }
        }
        all.sort();
        all.dedup();
        all
    }

    /// Where each name of the crate's root comes from: `Segment` from `segment`.
    fn reexports(&self) -> BTreeMap<String, String> {
        let mut reexports = BTreeMap::new();
        let root = self.files.keys().find(|file| module_of(file).is_empty());
        for used in root.map_or(Vec::new(), |root| uses(&self.tokens(root), &[])) {
            let is_ours = used.is_import && used.is_from_root;
            if let (true, [module, .., name]) = (is_ours, used.path.as_slice()) {
                let name = used.alias.as_ref().unwrap_or(name);
                reexports.insert(name.clone(), module.clone());
            }
        }
        reexports
    }
}

/// A module names only modules of lower floors, and parts of itself.
fn check_floor(
    module: &[String],
    used: &Use,
    reexports: &BTreeMap<String, String>,
    report: &mut impl FnMut(usize, String),
) {
    let (Some(here), true) = (module.first(), used.is_from_root) else {
        return; // lib.rs may name all; other crates are not of the house
    };
    let Some(name) = used.path.first() else {
        return;
    };
    let there = match floor_of(name) {
        Some(_) => name,
        None => match reexports.get(name) {
            Some(module) => module,
            None => {
                report(
                    used.line,
                    format!("`{here}` names `crate::{name}`, of which no floor is known"),
                );
                return;
            }
        },
    };
    if here == there {
        return;
    }
    let by_way = match name == there {
        true => String::new(),
        false => format!(" (as `crate::{name}`)"),
    };
    match (floor_of(here), floor_of(there)) {
        (Some(below), Some(above)) if below < above => report(
            used.line,
            format!("`{here}` names `{there}`{by_way}, which is on a higher floor"),
        ),
        (Some(one), Some(other)) if one == other => report(
            used.line,
            format!("`{here}` names `{there}`{by_way}, which is on the same floor"),
        ),
        (None, _) | (Some(_), Some(_)) => {}
        (Some(_), None) => report(
            used.line,
            format!("`{here}` names `{there}`{by_way}, which is on no floor"),
        ),
    }
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Only one module talks to the operating system.
fn check_system(module: &[String], used: &Use, report: &mut impl FnMut(usize, String)) {
    let may = module.first().is_some_and(|module| module == SYSTEM_MODULE);
    let Some(name) = used.path.first() else {
        return;
    };
    if !may && !used.is_from_root && SYSTEM_CRATES.contains(&name.as_str()) {
        report(
            used.line,
            format!("`{name}` is named outside src/{SYSTEM_MODULE}"),
        );
    }
}

/// Nobody waits for time to pass, or hopes that others run meanwhile.
fn check_waiting(used: &Use, report: &mut impl FnMut(usize, String)) {
    let is_sleep = matches!(used.path.as_slice(), [.., before, last]
        if last == "sleep" && before != "Self");
    let is_blind = used
        .path
        .iter()
        .any(|name| BLIND_WAITS.contains(&name.as_str()));
    if is_sleep || is_blind {
        report(
            used.line,
            format!(
                "`{}` waits blindly: wait for an event",
                used.path.join("::")
            ),
        );
    }
}

/// The module that a file is: `["sync", "mutex"]`. Empty for `lib.rs`.
fn module_of(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix("src").unwrap_or(file).with_extension("");
    let mut module: Vec<String> = inside
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if matches!(module.last(), Some(last) if last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

// --- Reading code -------------------------------------------------------------

/// A path that the code names, or imports.
#[derive(Debug, PartialEq, Eq)]
struct Use {
    line: usize,
    /// From the crate's root, if it begins in this crate; else as written.
    path: Vec<String>,
    is_from_root: bool,
    is_import: bool,
    /// What the import calls it, if not by its own name.
    alias: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

impl Token {
    fn is_name(&self) -> bool {
        self.text
            .starts_with(|c: char| c == '_' || c.is_alphabetic())
    }
}

/// The names and punctuation of a text, without comments, strings and numbers.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = length_of_token(rest, first);
        let token = &rest[..len];
        let is_name = first == '_' || first.is_alphabetic();
        let is_text = token.ends_with(['"', '\'', '#']) && len > 1;
        if token == "::" || (is_name && !is_text) || (len == 1 && first.is_ascii_punctuation()) {
            tokens.push(Token {
                line,
                text: token.trim_start_matches("r#").to_owned(),
            });
        }
        line += token.matches('\n').count();
        rest = &rest[len..];
    }
    tokens
}

/// How many bytes the token at the start of `text` has.
fn length_of_token(text: &str, first: char) -> usize {
    let is_part_of_name = |c: char| c == '_' || c.is_alphanumeric();
    let name_len = |text: &str| text.find(|c| !is_part_of_name(c)).unwrap_or(text.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return length_of_block_comment(text);
    }
    if text.starts_with("::") {
        return 2;
    }
    if let Some(len) = length_of_string(text) {
        return len;
    }
    if let Some(name) = text.strip_prefix("r#") {
        return 2 + name_len(name);
    }
    if is_part_of_name(first) {
        return name_len(text);
    }
    if first == '\'' {
        return length_of_quote(text, name_len(&text[1..]));
    }
    first.len_utf8()
}

/// Block comments nest.
fn length_of_block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            match rest.chars().next() {
                Some(c) => at += c.len_utf8(),
                None => return at,
            }
        }
    }
}

/// `"..."`, `r#"..."#`, and the same with `b` or `c` before it.
fn length_of_string(text: &str) -> Option<usize> {
    let after_kind = text.strip_prefix(['b', 'c']).unwrap_or(text);
    let after_raw = after_kind.strip_prefix('r');
    let after_hashes = after_raw.unwrap_or(after_kind).trim_start_matches('#');
    let hashes = after_raw.map_or(0, |raw| raw.len() - after_hashes.len());
    if after_raw.is_none() && after_hashes.len() != after_kind.len() {
        return None; // `#"` outside a raw string is a punctuation mark
    }
    let content = after_hashes.strip_prefix('"')?;
    let begin = text.len() - content.len();
    let content_len = match after_raw {
        Some(_) => {
            let end = format!("\"{}", "#".repeat(hashes));
            content
                .find(&end)
                .map_or(content.len(), |at| at + end.len())
        }
        None => {
            let mut escaped = false;
            content
                .find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                })
                .map_or(content.len(), |at| at + 1)
        }
    };
    Some(begin + content_len)
}

/// `'a'` and `'\n'` are characters, `'a` is a lifetime.
fn length_of_quote(text: &str, name_len: usize) -> usize {
    let content = &text[1..];
    if let Some(escape) = content.strip_prefix('\\') {
        let after = escape
            .char_indices()
            .nth(1)
            .map_or(escape.len(), |(at, _)| at);
        return 2 + after + escape[after..].find('\'').map_or(0, |at| at + 1);
    }
    let first = content.chars().next().map_or(0, char::len_utf8);
    match content[first..].starts_with('\'') {
        true => 1 + first + 1,
        false => 1 + name_len,
    }
}

/// Every path that the tokens of a file name. `file_module` is what the file is.
fn uses(tokens: &[Token], file_module: &[String]) -> Vec<Use> {
    let mut reader = Reader {
        tokens,
        at: 0,
        module: file_module.to_vec(),
        inner_modules: Vec::new(),
        depth: 0,
        uses: Vec::new(),
    };
    reader.read();
    reader.uses
}

/// Walks over the tokens of a file.
struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    /// The module that the walk is in.
    module: Vec<String>,
    /// The depths of braces at which `mod name {` began.
    inner_modules: Vec<usize>,
    depth: usize,
    uses: Vec<Use>,
}

impl Reader<'_> {
    fn text(&self, ahead: usize) -> &str {
        self.tokens
            .get(self.at + ahead)
            .map_or("", |token| &token.text)
    }

    fn read(&mut self) {
        while let Some(token) = self.tokens.get(self.at) {
            match token.text.as_str() {
                "mod" if self.text(2) == "{" => {
                    let name = self.text(1).to_owned();
                    self.module.push(name);
                    self.inner_modules.push(self.depth);
                    self.depth += 1;
                    self.at += 3;
                }
                "{" => {
                    self.depth += 1;
                    self.at += 1;
                }
                "}" => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.inner_modules.last() == Some(&self.depth) {
                        self.inner_modules.pop();
                        self.module.pop();
                    }
                    self.at += 1;
                }
                "use" => {
                    self.at += 1;
                    self.read_path(Vec::new(), true);
                }
                "extern" if self.text(1) == "crate" => {
                    self.at += 2;
                    self.read_path(Vec::new(), true);
                }
                _ if token.is_name() || token.text == "::" => self.read_path(Vec::new(), false),
                _ => self.at += 1,
            }
        }
    }

    /// Reads one path, or a tree of paths if it is an import.
    fn read_path(&mut self, mut path: Vec<String>, is_import: bool) {
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let mut alias = None;
        if self.text(0) == "::" {
            self.at += 1;
        }
        loop {
            match self.text(0) {
                "{" if is_import => {
                    self.at += 1;
                    while !matches!(self.text(0), "}" | "") {
                        match self.tokens[self.at].is_name() || "::{*".contains(self.text(0)) {
                            true => self.read_path(path.clone(), true),
                            false => self.at += 1, // a comma, or the `$` of a macro
                        }
                    }
                    self.at += 1;
                    return;
                }
                "*" if is_import => {
                    path.push("*".to_owned());
                    self.at += 1;
                }
                _ if self.tokens.get(self.at).is_some_and(Token::is_name) => {
                    path.push(self.text(0).to_owned());
                    self.at += 1;
                }
                _ => {}
            }
            match self.text(0) {
                "::" => self.at += 1,
                "as" if is_import => {
                    alias = Some(self.text(1).to_owned());
                    self.at += 2;
                    break;
                }
                _ => break,
            }
        }
        self.found(line, path, is_import, alias);
    }

    /// Notes a path, if it may lead out of the module.
    fn found(&mut self, line: usize, path: Vec<String>, is_import: bool, alias: Option<String>) {
        let mut parts = path.iter().map(String::as_str).peekable();
        let mut base = self.module.clone();
        let mut is_from_root = true;
        match parts.peek() {
            Some(&("crate" | "shm_sync")) => {
                base.clear();
                parts.next();
            }
            Some(&"self") => {
                parts.next();
            }
            Some(&"super") => {}
            // In the root, a path begins with a module as it does with `crate`.
            Some(first) if base.is_empty() && floor_of(first).is_some() => {}
            _ => is_from_root = false,
        }
        while is_from_root && parts.next_if_eq(&"super").is_some() {
            base.pop();
        }
        let rest = parts.map(str::to_owned);
        let path: Vec<String> = match is_from_root {
            true => base.into_iter().chain(rest).collect(),
            false => rest.collect(),
        };
        let is_more_than_a_name = path.len() > 1 || is_import || is_from_root;
        if is_more_than_a_name && !path.is_empty() {
            self.uses.push(Use {
                line,
                path,
                is_from_root,
                is_import,
                alias,
            });
        }
    }
}

// --- Whether the checker would notice -------------------------------------------

/// What is wrong with a house of these files.
fn violations_of(files: &[(&str, &str)]) -> Vec<String> {
    let files = files
        .iter()
        .map(|(file, text)| (PathBuf::from(file), (*text).to_owned()))
        .collect();
    let violations = House { files }.violations();
    violations.iter().map(ToString::to_string).collect()
}

const ROOT: (&str, &str) = (
    "src/lib.rs",
    "mod error; mod os; mod sync; mod segment;\n\
     pub use error::{Damage, Error};\n\
     pub use sync::{MAX_LOCKS_HELD, ShmMutex as Mutex};\n\
     pub use segment::{Segment, unlink};\n",
);

/// Checks that in a file with one of these texts, exactly one rule is broken, on
/// the line that says "here".
#[track_caller]
fn assert_caught(file: &str, rule: &str, texts: &[&str]) {
    for text in texts {
        let line = text.lines().position(|line| line.contains("here"));
        let line = line.map_or(1, |before| before + 1);
        let expected = format!("{file}:{line}: {rule}");
        assert_eq!(violations_of(&[ROOT, (file, text)]), [expected], "{text}");
    }
}

#[track_caller]
fn assert_allowed(file: &str, texts: &[&str]) {
    for text in texts {
        assert_eq!(violations_of(&[ROOT, (file, text)]), [""; 0], "{text}");
    }
}

#[test]
fn an_upward_name_is_caught() {
    let texts = [
        "use crate::sync::ShmMutex;",
        "use super::super::sync;",
        "use crate::{\n error::Error,\n sync::spin, // here\n};",
        "use crate::{error, sync::{a, b}};",
        "fn f() {\n\n crate::sync::f() // here\n }",
        "fn f(x: &mut crate::sync::Lock<u8>) {}",
        "fn f() { ::shm_sync::sync::f(); }",
        "pub(in crate::sync) struct S;",
        "macro_rules! m { () => { $crate::sync::f() } }",
        "macro_rules! m { ($($x:ident),*) => { use crate::error::{$($x),*}; use crate::sync; } }",
        "use crate::{\n error::{\n a,\n b,\n },\n sync::{\n a, // here\n },\n};",
        "mod tests { use crate::sync::*; }",
        "mod x { mod y {} fn f() { super::super::super::sync::f() } }",
    ];
    let rule = "`os` names `sync`, which is on a higher floor";
    assert_caught("src/os/futex.rs", rule, &texts);
    assert_caught("src/os/mod.rs", rule, &["use super::sync::f;"]);
}

#[test]
fn an_upward_name_by_way_of_the_root_is_caught() {
    let texts = [
        "#[error(\"{}\",\n crate::MAX_LOCKS_HELD)] // here",
        "use super::MAX_LOCKS_HELD;",
        "use crate::{MAX_LOCKS_HELD as MOST};",
        "fn f() -> u32 { shm_sync::MAX_LOCKS_HELD }",
    ];
    let rule = "`error` names `sync` (as `crate::MAX_LOCKS_HELD`), which is on a higher floor";
    assert_caught("src/error.rs", rule, &texts);
    let rule = "`os` names `sync` (as `crate::Mutex`), which is on a higher floor";
    assert_caught("src/os/mod.rs", rule, &["use crate::Mutex;"]);
}

#[test]
fn a_sideways_name_is_caught() {
    let rule = "`sync` names `segment`, which is on the same floor";
    assert_caught("src/sync/a.rs", rule, &["use crate::segment::Segment;"]);
    let rule = "`sync` names `segment` (as `crate::Segment`), which is on the same floor";
    let in_tests = "mod tests {\n use crate::Segment; // here\n}";
    assert_caught("src/sync/a.rs", rule, &[in_tests]);
    let rule = "`segment` names `sync`, which is on the same floor";
    assert_caught("src/segment/mod.rs", rule, &["use super::sync;"]);
}

#[test]
fn a_name_of_no_floor_is_caught() {
    let rule = "`os` names `crate::*`, of which no floor is known";
    assert_caught("src/os/a.rs", rule, &["use crate::*;"]);
    assert_caught("src/os/mod.rs", rule, &["use super::*;"]);
    let rule = "`os` names `crate::attic`, of which no floor is known";
    assert_caught("src/os/a.rs", rule, &["use crate::attic::Chest;"]);
    let rule = "`attic` is on no floor: give it one in tests/floors.rs";
    assert_caught(
        "src/attic.rs",
        rule,
        &["use crate::error::Error;", "use std::io;", ""],
    );
}

#[test]
fn a_system_crate_upstairs_is_caught() {
    let texts = [
        "use libc;",
        "use ::libc::c_int as int;",
        "extern crate libc;",
        "fn f() {\n libc::getpid(); // here\n }",
        "mod tests { use libc::c_int; }",
    ];
    let rule = "`libc` is named outside src/os";
    assert_caught("src/place.rs", rule, &texts);
    assert_caught("src/lib.rs", rule, &["pub use libc::c_int;"]);
    let rule = "`nix` is named outside src/os";
    assert_caught("src/segment/mod.rs", rule, &["use {std::io, nix::unistd};"]);
}

#[test]
fn a_blind_wait_is_caught() {
    for path in [
        "std::thread::sleep",
        "thread::sleep",
        "thread::sleep_ms",
        "std::thread::yield_now",
        "libc::usleep",
        "libc::sched_yield",
    ] {
        let rule = format!("`{path}` waits blindly: wait for an event");
        let call = format!("fn f() {{\n {path}(x); // here\n }}");
        assert_caught("src/os/a.rs", &rule, &[&call, &format!("use {path};")]);
    }
    let rule = "`std::thread::sleep` waits blindly: wait for an event";
    assert_caught("src/os/a.rs", rule, &["use std::thread::{self, sleep};"]);
}

#[test]
fn a_long_file_is_caught() {
    let long = "//\n".repeat(LONGEST_FILE);
    assert_allowed("src/place.rs", &[&long]);
    let rule = "a file has at most 600 lines, not 601";
    assert_caught("src/place.rs", rule, &[&(long + "// here")]);
}

#[test]
fn all_violations_are_told_at_once() {
    let text = "use crate::segment::Segment;\nuse libc::c_int;\nuse std::thread::yield_now;\n";
    assert_eq!(violations_of(&[ROOT, ("src/sync/mod.rs", text)]).len(), 3);
}

#[test]
fn what_keeps_the_rules_is_allowed() {
    let downward_and_inside = [
        "use crate::os::futex; use crate::place::place_at;",
        "use crate::error::Error; use crate::Damage;",
        "use crate::sync::mutex; use crate::Mutex as M;",
        "use super::mutex::ShmMutex; use self::inner::X;",
        "mod tests { mod more { use super::super::*; } }",
        "mod x {} use super::super::os::clock;",
        "pub(crate) fn f() {} pub(super) fn g() {}",
    ];
    assert_allowed("src/sync/a.rs", &downward_and_inside);
    assert_allowed("src/error.rs", &["mod tests { use super::*; }"]);
    assert_allowed("src/os/b/a.rs", &["use super::super::clock; use libc::x;"]);

    let other_meanings = [
        "struct Abi { libc: u8 } fn f(a: Abi) { a.libc; }",
        "fn f() { let libc = 1; g(libc) }",
        "impl C { fn sleep(&self) { self.sleep(); Self::sleep(self) } }",
    ];
    assert_allowed("src/sync/a.rs", &other_meanings);

    let said_and_not_done = [
        "// crate::sync\n/* crate::sync /* */ libc::x */ fn f() {}",
        "/// [`X`](crate::sync::X)\n//! libc::x\nfn f() {}",
        r##"const A: &str = "crate::sync \" libc::x";"##,
        "const A: &str = r#\"crate::sync \" libc::x\"#;",
        r#"const A: [u8; 3] = *b"crate::sync\\"; fn f<'a>(_: &'a u8) {}"#,
    ];
    assert_allowed("src/error.rs", &said_and_not_done);
}

#[test]
fn what_follows_a_literal_is_read() {
    let literals = [
        "'\"'",
        "'\\''",
        "'\\\\'",
        "'ż'",
        "'\\u{17c}'",
        "b'\"'",
        "b'\\x22'",
        "\"\\\\\"",
        "\"//\"",
        "r\"\\\"",
        "r#\"\"\"#",
        "br##\"\"#\"##",
        "c\"//\"",
        "1_u8",
        "1.5e3",
        "/* /* */ */",
        "r#match",
        "x::<'static>()",
        "'label: loop {}",
    ];
    for literal in literals {
        let text = format!("f({literal}, libc::x)");
        assert_caught("src/place.rs", "`libc` is named outside src/os", &[&text]);
    }
}
