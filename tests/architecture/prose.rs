//! The prose of comments and documents: the width of lines, and words that hide which
//! thread or process acts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::names::{enter_repository, files_below};

/// The most columns of a line that holds a comment, and of a line of prose in a document.
const WIDTH: usize = 88;

/// Words that do not say which thread or process acts. "The holder", "a waiter", "the
/// creator", "the caller" and "the kernel" do.
const VAGUE: [&str; 8] = [
    "whoever",
    "whomever",
    "somebody",
    "someone",
    "nobody",
    "anybody",
    "everybody",
    "everyone",
];

/// Expressions that have a term in POSIX or the kernel, and that term.
const TERMS: [(&str, &str); 5] = [
    ("give back the lock", "unlock"),
    ("gives the mutex back", "unlocks"),
    ("brings to life", "initialises"),
    ("brought to life", "initialised"),
    ("came to life", "were initialised"),
];

/// The folders of Rust code.
const FOLDERS: [&str; 8] = [
    "bench",
    "cli",
    "derive",
    "examples",
    "fuzz/fuzz_targets",
    "proof",
    "src",
    "tests",
];

/// The documents that people write. Programs write those in `docs/results/`.
fn documents() -> BTreeMap<PathBuf, String> {
    let mut documents = BTreeMap::new();
    for folder in [".", "cli", "docs", "docs/decisions", "tests"] {
        for entry in std::fs::read_dir(folder).expect("the folder is readable") {
            let path = entry.expect("the folder is readable").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path).expect("the document is readable");
                documents.insert(path, text);
            }
        }
    }
    documents
}

fn sources() -> BTreeMap<PathBuf, String> {
    let files = FOLDERS
        .iter()
        .flat_map(|folder| files_below(Path::new(folder)));
    files
        .filter(|(file, _)| !file.starts_with("tests/architecture"))
        .filter(|(file, _)| file.components().all(|part| part.as_os_str() != "target"))
        .collect()
}

/// Returns the comment in a line of code, without the marks in front of it.
fn comment_in(line: &str) -> Option<&str> {
    let trimmed = line.trim_start();
    let comment = trimmed.strip_prefix("//").or_else(|| {
        // A comment after code. A mark inside a string has a quote somewhere after it.
        let (_, after) = line.split_once(" // ")?;
        (!after.contains('"')).then_some(after)
    })?;
    Some(comment.trim_start_matches(['/', '!']))
}

/// Returns the lines of prose of a document: not those of tables, code and links.
fn prose_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence && !line.trim_start().starts_with(['|', '['])
    })
}

fn is_too_wide(line: &str) -> bool {
    // A word that is too long by itself, such as an address, cannot be wrapped.
    line.chars().count() > WIDTH && !line.contains("://")
}

/// Returns the vague words and the paraphrases of terms in a line of prose.
fn faults_of(line: &str) -> Vec<String> {
    let line = line.to_lowercase();
    let words = line.split(|c: char| !c.is_alphanumeric());
    let vague = words.filter(|word| VAGUE.contains(word));
    let mut faults: Vec<String> = vague
        .map(|word| format!("\"{word}\" does not say which thread or process acts"))
        .collect();
    for (paraphrase, term) in TERMS {
        if line.contains(paraphrase) {
            faults.push(format!("\"{paraphrase}\": the term is \"{term}\""));
        }
    }
    faults
}

#[test]
fn comments_fit_the_width() {
    enter_repository();
    let mut wide = Vec::new();
    for (file, text) in sources() {
        let mut is_code = false;
        for (number, line) in (1..).zip(text.lines()) {
            let comment = comment_in(line).map(str::trim_start);
            let is_fence = comment.is_some_and(|comment| comment.starts_with("```"));
            is_code = comment.is_some() && (is_code ^ is_fence);
            // Code has its own width, and a row of a table cannot be wrapped.
            let is_prose = comment.is_some_and(|comment| !comment.starts_with('|')) && !is_code;
            if is_prose && is_too_wide(line) {
                wide.push(format!("{}:{number}: {line}", file.display()));
            }
        }
    }
    assert!(wide.is_empty(), "wider than {WIDTH}:\n{}", wide.join("\n"));
}

#[test]
fn documents_fit_the_width() {
    enter_repository();
    let mut wide = Vec::new();
    for (file, text) in documents() {
        let lines = prose_of(&text).filter(|(_, line)| is_too_wide(line));
        wide.extend(lines.map(|(number, line)| format!("{}:{number}: {line}", file.display())));
    }
    assert!(wide.is_empty(), "wider than {WIDTH}:\n{}", wide.join("\n"));
}

#[test]
fn prose_names_the_actor() {
    enter_repository();
    let mut faults = Vec::new();
    for (file, text) in sources() {
        for (number, line) in (1..).zip(text.lines()) {
            for fault in comment_in(line).into_iter().flat_map(faults_of) {
                faults.push(format!("{}:{number}: {fault}", file.display()));
            }
        }
    }
    for (file, text) in documents() {
        for (number, line) in prose_of(&text) {
            let found = faults_of(line).into_iter();
            faults.extend(found.map(|fault| format!("{}:{number}: {fault}", file.display())));
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

#[test]
fn faults_are_found() {
    assert_eq!(comment_in("    /// Locks it."), Some(" Locks it."));
    assert_eq!(comment_in("let a = 1; // one"), Some("one"));
    assert_eq!(comment_in("let a = \"b // c\";"), None);
    assert_eq!(faults_of(" Whoever holds it, somebody waits.").len(), 2);
    assert_eq!(faults_of(" A waiter locks the mutex."), [""; 0]);
    assert!(is_too_wide(&"x".repeat(WIDTH + 1)) && !is_too_wide(&"é".repeat(WIDTH)));
}
