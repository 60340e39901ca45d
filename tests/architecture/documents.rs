//! Checks that the documents lead somewhere: each relative link, each anchor, each path
//! of the repository and each test that a document names exists.
//!
//! A test module is named `binary::module`, for example `crash::lock_storm`, which is
//! `tests/crash/lock_storm.rs` or `tests/crash/lock_storm/mod.rs`. A test of it is named
//! `binary::module::function`. The binary `tool` is in `cli/tests`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::names::enter_repository;

/// The folders of the repository. Their paths are checked wherever a document names
/// them.
const FOLDERS: [&str; 10] = [
    ".ci", "bench", "cli", "derive", "docs", "examples", "fuzz", "proof", "src", "tests",
];

/// The test programs that consist of modules.
const TEST_BINARIES: [&str; 8] = [
    "condvar",
    "crash",
    "family",
    "languages",
    "mutex",
    "segment",
    "tool",
    "types",
];

/// The documents that list tests by the names of their functions.
const LISTS: [&str; 2] = ["docs/results/failure-modes.md", "docs/results/suites.md"];

/// A document, and where it is.
struct Document {
    path: PathBuf,
    text: String,
}

/// A name in a document that leads nowhere.
struct Dead {
    line: usize,
    name: String,
}

impl Document {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{} can be read: {error}", path.display()));
        Self { path, text }
    }

    /// Returns the lines outside of code blocks, with their numbers.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut in_code = false;
        (1..).zip(self.text.lines()).filter(move |(_, line)| {
            let is_fence = line.trim_start().starts_with("```");
            in_code ^= is_fence;
            !in_code && !is_fence
        })
    }

    /// Returns the anchors of the headings and of the named places.
    fn anchors(&self) -> BTreeSet<String> {
        let heading = |line: &str| {
            let text = line.strip_prefix('#')?.trim_start_matches('#');
            Some(slug(text.trim()))
        };
        let place = |line: &str| {
            let (_, rest) = line.split_once("<a id=\"")?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        self.prose()
            .filter_map(|(_, line)| heading(line).or_else(|| place(line)))
            .collect()
    }

    /// Returns the links that lead to no file, or to no anchor of a document.
    fn dead_links(&self) -> Vec<Dead> {
        let prose: Vec<_> = self.prose().collect();
        // The text of a link may be broken over two lines.
        let joined: String = prose.iter().map(|(_, line)| format!("{line}\n")).collect();
        let mut dead = Vec::new();
        let inline = joined.match_indices("](").map(|found| (found, ')'));
        let definitions = joined.match_indices("]: ").map(|found| (found, '\n'));
        for ((at, opening), end) in inline.chain(definitions) {
            let target = joined[at + opening.len()..].split(end).next().unwrap_or("");
            if !self.leads_somewhere(target) {
                let (line, _) = prose[joined[..at].matches('\n').count()];
                let name = target.to_owned();
                dead.push(Dead { line, name });
            }
        }
        dead
    }

    /// Returns whether the target of a link exists: its file, and the anchor in it.
    fn leads_somewhere(&self, target: &str) -> bool {
        if target.contains("://") {
            return true;
        }
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        if file.is_empty() {
            return self.anchors().contains(anchor);
        }
        let folder = self.path.parent().expect("a document is in a folder");
        let path = clean(&folder.join(file));
        path.exists() && (anchor.is_empty() || Self::read(path).anchors().contains(anchor))
    }

    /// Returns the paths and the tests that do not exist.
    fn dead_names(&self) -> Vec<Dead> {
        let mut dead = Vec::new();
        for (line, text) in self.prose() {
            let paths = paths_in(text).filter(|name| !Path::new(name).exists());
            let tests = tests_in(text).filter(|name| !is_test(name));
            dead.extend(paths.chain(tests).map(|name| {
                let name = name.to_owned();
                Dead { line, name }
            }));
        }
        dead
    }
}

/// Returns the path of a test module without its extension.
fn test_path(name: &str) -> PathBuf {
    let folder = match name.split_once("::") {
        Some(("tool", _)) => "cli/tests",
        _ => "tests",
    };
    Path::new(folder).join(name.replace("::", "/"))
}

/// Returns whether a test module exists, or a function of it.
fn is_test(name: &str) -> bool {
    let source = |name| {
        let module = test_path(name);
        let file = fs::read_to_string(module.with_extension("rs"));
        file.or_else(|_| fs::read_to_string(module.join("mod.rs")))
    };
    let (parent, last) = name.rsplit_once("::").expect("a binary and a module");
    source(name).is_ok() || source(parent).is_ok_and(|text| text.contains(&format!("fn {last}(")))
}

/// Resolves `..`, as a link from one document to another has it.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(clean.pop(), "{} stays inside", path.display()),
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}

/// Returns the anchor that GitHub gives to a heading.
fn slug(heading: &str) -> String {
    let kept = |&c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let heading = heading.to_lowercase();
    heading
        .chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}

/// Returns the paths of the repository that a line names.
fn paths_in(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || "_-./:".contains(c)))
        // A line number may follow. Of a URL, "https" is left.
        .filter_map(|word| word.split(':').next())
        .map(|word| word.trim_end_matches(['.', '-']))
        .filter(|word| {
            let folder = word.split_once('/').map(|(folder, _)| folder);
            folder.is_some_and(|folder| FOLDERS.contains(&folder))
        })
}

/// Returns the test modules and tests that a line names.
fn tests_in(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .map(|word| word.trim_end_matches(':'))
        .filter(|word| {
            let binary = word.split_once("::").map(|(binary, _)| binary);
            binary.is_some_and(|binary| TEST_BINARIES.contains(&binary))
        })
}

/// Returns the names of functions in backticks in a line. A name of fewer than four words
/// may be another thing than a test.
fn functions_in(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|name| {
        name.matches('_').count() >= 3
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    })
}

/// Returns the text of all Rust files in a folder.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("a folder can be listed").path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path).expect("a source can be read");
        }
    }
    text
}

/// Returns all documents of the repository.
fn documents() -> Vec<Document> {
    fn add(folder: &Path, documents: &mut Vec<Document>) {
        for entry in fs::read_dir(folder).expect("a folder can be listed") {
            let path = clean(&entry.expect("a folder can be listed").path());
            if path.is_dir() && folder != Path::new(".") {
                add(&path, documents);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                documents.push(Document::read(path));
            }
        }
    }
    let mut documents = Vec::new();
    for folder in FOLDERS.iter().chain(&["."]) {
        add(Path::new(folder), &mut documents);
    }
    documents
}

/// Fails with a list of what `find` finds in the documents.
fn assert_none_dead(find: impl Fn(&Document) -> Vec<Dead>) {
    let mut list = Vec::new();
    for document in documents() {
        for Dead { line, name } in find(&document) {
            list.push(format!("{}:{line}: {name}", document.path.display()));
        }
    }
    assert!(
        list.is_empty(),
        "these names lead nowhere:\n{}",
        list.join("\n")
    );
}

/// Returns lines and names of what `find` finds in a document in `docs`.
fn dead_in(text: &str, find: impl Fn(&Document) -> Vec<Dead>) -> Vec<(usize, String)> {
    let path = PathBuf::from("docs/sample.md");
    let text = text.to_owned();
    let dead = find(&Document { path, text });
    dead.into_iter()
        .map(|dead| (dead.line, dead.name))
        .collect()
}

#[test]
fn smoke() {
    enter_repository();
    let paths: Vec<_> = documents()
        .into_iter()
        .map(|document| document.path)
        .collect();
    for path in ["README.md", "docs/design.md", "docs/decisions/README.md"] {
        assert!(paths.contains(&path.into()), "{path} is found");
    }
}

#[test]
fn dead_links_are_found() {
    enter_repository();
    let text = "# A heading, `with code`\n\
        [a](../README.md) [b](#a-heading-with-code)\n\
        [c](https://example.org/absent)\n\
        ```sh\n[d](in-code.md)\n```\n\
        [e\nf](absent.md) and [g](#absent)\n\
        [h](../README.md#absent)\n\
        [i]: ../README.md\n\
        [j]: ../README.md#nowhere\n";
    let dead = [
        (8, "absent.md"),
        (8, "#absent"),
        (9, "../README.md#absent"),
        (11, "../README.md#nowhere"),
    ];
    let dead = dead.map(|(line, name)| (line, name.to_owned()));
    assert_eq!(dead_in(text, Document::dead_links), dead);
}

#[test]
fn dead_names_are_found() {
    enter_repository();
    let text = "`src/lib.rs`, src/ and tests/architecture/main.rs.\n\
        https://example.org/src/absent.rs\n\
        ```sh\nsrc/absent.rs\n```\n\
        `src/absent.rs`: `mutex::absent`, `segment::absent::absent`, std::mutex::Absent\n";
    let dead = ["src/absent.rs", "mutex::absent", "segment::absent::absent"];
    let dead = dead.map(|name| (6, name.to_owned()));
    assert_eq!(dead_in(text, Document::dead_names), dead);
}

#[test]
fn links_lead_somewhere() {
    enter_repository();
    assert_none_dead(Document::dead_links);
}

#[test]
fn names_exist() {
    enter_repository();
    assert_none_dead(Document::dead_names);
}

#[test]
fn listed_tests_exist() {
    enter_repository();
    let folders = ["src", "tests", "cli"];
    let sources: String = folders.map(|folder| sources(Path::new(folder))).concat();
    let mut list = Vec::new();
    for path in LISTS {
        let document = Document::read(path.into());
        for (line, text) in document.prose() {
            let names = functions_in(text);
            let absent = names.filter(|name| !sources.contains(&format!("fn {name}(")));
            list.extend(absent.map(|name| format!("{path}:{line}: {name}")));
        }
    }
    assert!(
        list.is_empty(),
        "no test has these names:\n{}",
        list.join("\n")
    );
}

/// Cargo finds no test programs by itself here, because each one is in a folder of its
/// own.
#[test]
fn test_programs_are_declared() {
    enter_repository();
    let manifest = |folder: &Path| fs::read_to_string(folder.join("Cargo.toml"));
    let shared = manifest(Path::new("tests")).expect("the package of the tests is there");
    for entry in fs::read_dir("tests").expect("the folder is readable") {
        let folder = entry.expect("the folder is readable").path();
        if !folder.join("main.rs").is_file() {
            continue;
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let declared = shared.contains(&format!("path = \"{name}/main.rs\""));
        assert!(
            declared || manifest(&folder).is_ok(),
            "no Cargo.toml has tests/{name}/main.rs"
        );
    }
}
