//! Candidates for completions: segments, processes, and the locks of a segment.
//!
//! A shell inserts a candidate into the command line, and bash does so without quotes.
//! Other users choose the names of their segments. So only texts of characters that
//! run no command are candidates. (A `[` begins a pattern, and matters only if a file
//! has a name that it matches.)

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};
use shm_sync::Address;
use shm_sync::inspect::{self, Link, Object, Scope, SyncObject, SyncState};

use crate::labels;
use crate::text::short_type;

/// The maximum number of locks that are read.
const MAX_LOCKS: usize = 10_000;

/// Returns the addresses of segments, or paths of files if no segment matches.
pub(crate) fn names(current: &OsStr) -> Vec<CompletionCandidate> {
    let objects = objects();
    let named = objects.iter().filter_map(|object| {
        // The name of a System V segment has its key, and the address its id.
        let name = match object.link {
            Link::Named => object.name.clone(),
            _ => object.address.as_ref()?.to_string(),
        };
        let candidate = candidate(name, current)?;
        Some(candidate.help(Some(description(object).into())))
    });
    let named: Vec<_> = named.collect();
    let is_path = current.as_encoded_bytes().contains(&b'/');
    match named.is_empty() && is_path {
        true => PathCompleter::file().complete(current),
        false => named,
    }
}

/// Returns the processes that are attached to segments.
pub(crate) fn pids(current: &OsStr) -> Vec<CompletionCandidate> {
    let pids: BTreeSet<u32> = objects()
        .iter()
        .flat_map(|object| object.users.pids.clone())
        .collect();
    let candidates = pids.into_iter().filter_map(|pid| {
        let command = inspect::command_of(pid)?;
        let candidate = candidate(pid.to_string(), current)?;
        Some(candidate.help(Some(inspect::printable(&command).into())))
    });
    candidates.collect()
}

/// Returns the poisoned mutexes of the segment that the command line names, or all of
/// its mutexes if none is poisoned.
pub(crate) fn fields(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(address) = address_in(std::env::args_os()) else {
        return Vec::new();
    };
    let Ok(details) = inspect::details(&address, MAX_LOCKS) else {
        return Vec::new();
    };
    let is_mutex = |object: &&SyncObject| matches!(object.state, SyncState::Mutex(_));
    let is_poisoned = |object: &&SyncObject| match &object.state {
        SyncState::Mutex(mutex) => mutex.poison.is_some(),
        _ => false,
    };
    let mut locks: Vec<_> = details.sync_objects.iter().filter(is_mutex).collect();
    if locks.iter().any(is_poisoned) {
        locks.retain(is_poisoned);
    }
    let candidates = locks.into_iter().filter_map(|object| {
        let path = match object.path.as_str() {
            "" => ".",
            path => path,
        };
        candidate(path.to_owned(), current)
    });
    candidates.collect()
}

fn objects() -> Vec<Object> {
    inspect::objects(Scope::Segments).unwrap_or_default()
}

fn description(object: &Object) -> String {
    let (state, _) = labels::state(object);
    match object.content.segment() {
        Some(segment) => format!("{}, {state}", short_type(&segment.layout.type_name)),
        None => state.to_owned(),
    }
}

/// Returns the text as a candidate, if it continues the current word and no shell
/// interprets its characters.
fn candidate(text: String, current: &OsStr) -> Option<CompletionCandidate> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._:-+,@%[]".contains(c);
    let continues = text.as_bytes().starts_with(current.as_encoded_bytes());
    (continues && text.chars().all(is_plain)).then(|| CompletionCandidate::new(text))
}

/// Returns the segment that the command line of `clear-poison` names. The shell passes
/// the command line after `--`.
fn address_in(arguments: impl Iterator<Item = OsString>) -> Option<Address> {
    let mut words = arguments
        .skip_while(|word| word != "--")
        .skip_while(|word| word != "clear-poison")
        .skip(1)
        .filter_map(|word| word.into_string().ok());
    words.find(|word| !word.starts_with('-'))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_offered(text: &str, current: &str) -> bool {
        candidate(text.to_owned(), OsStr::new(current)).is_some()
    }

    #[test]
    fn smoke() {
        assert!(is_offered("/jobs", "/j") && is_offered("/jobs", ""));
        assert!(!is_offered("/jobs", "/k"));
    }

    #[test]
    fn texts_that_a_shell_interprets_are_omitted() {
        for text in [
            "/a b",
            "/a;b",
            "/$(a)",
            "/`a`",
            "/a\nb",
            "/\u{1b}[2J",
            "/a&",
            "/*",
            "/é",
        ] {
            assert!(!is_offered(text, "/"), "{text:?}");
        }
        for text in ["sysv:0x0000002a", ".workers[3].lock", "/proc/1/fd/3", "."] {
            assert!(is_offered(text, ""), "{text:?}");
        }
    }

    #[test]
    fn address_is_found_in_the_command_line() {
        let find = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            address_in(words.into_iter()).map(|address| address.to_string())
        };
        let line = "shm-sync -- shm-sync clear-poison --yes /jobs .w";
        assert_eq!(find(line).as_deref(), Some("/jobs"));
        assert_eq!(find("shm-sync -- shm-sync clear-poison"), None);
        assert_eq!(find("shm-sync -- shm-sync show /jobs"), None);
    }
}
