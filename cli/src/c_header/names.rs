//! Names in C and C++ for names in Rust, which another user may have chosen.

use std::collections::HashMap;
use std::rc::Rc;

/// The keywords of C and C++, and other names that a header can't give to a member:
/// types that it uses, and macros of the headers that `shm_sync.h` includes.
const TAKEN: &str = "\
alignas alignof and and_eq asm atomic_cancel atomic_commit atomic_noexcept auto bitand \
bitor bool break case catch char char16_t char32_t char8_t class co_await co_return \
co_yield compl concept const const_cast consteval constexpr constinit continue decltype \
default delete do double dynamic_cast else enum explicit export extern false float for \
friend goto if inline int long mutable namespace new noexcept not not_eq nullptr \
operator or or_eq private protected public reflexpr register reinterpret_cast requires \
restrict return short signed sizeof static static_assert static_cast struct switch \
synchronized template this thread_local throw true try typedef typeid typename \
typeof typeof_unqual union unsigned using virtual void volatile wchar_t while xor xor_eq \
int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t size_t \
NULL EOF assert errno linux main stderr stdin stdout unix offsetof \
sa_handler sa_sigaction sigev_notify_attributes si_addr si_pid si_status si_uid \
si_value st_atime st_ctime st_mtime";

/// The beginning of all names in `shm_sync.h`.
const LIBRARY: &str = "shm_sync";

/// Names that differ from each other.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Each name, and how often it was wanted.
    taken: HashMap<String, u64>,
    outer: Option<Rc<Names>>,
}

impl Names {
    /// Returns an empty set of names that also differ from those in `outer`.
    pub(crate) fn inside(outer: Rc<Names>) -> Self {
        Self {
            taken: HashMap::new(),
            outer: Some(outer),
        }
    }

    /// Adds a name, or one like it that is not there yet, and returns it.
    pub(crate) fn add(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        // Counted, so that many equal names cost no more than others.
        let mut count = self.taken.get(wanted).copied().unwrap_or(0);
        while self.has(&name) {
            count += 1;
            name = match count {
                1 => format!("{wanted}_"),
                _ => format!("{wanted}_{count}"),
            };
        }
        self.taken.insert(wanted.to_owned(), count);
        self.taken.entry(name.clone()).or_insert(0);
        name
    }

    fn has(&self, name: &str) -> bool {
        let outer = self.outer.as_ref();
        self.taken.contains_key(name) || outer.is_some_and(|outer| outer.has(name))
    }
}

/// Returns the C identifier for a Rust name. A name that is no identifier, or that C,
/// C++ or `shm_sync.h` uses, gets an underscore at the end. The number of an element of
/// a tuple gets an `f` before it.
pub(crate) fn identifier(name: &str) -> String {
    let mut text = String::new();
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        text.push('f');
    }
    let of_identifier = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let characters = name.chars();
    text.extend(characters.map(|c| if of_identifier(c) { c } else { '_' }));
    if !name.chars().all(of_identifier) || is_taken(&text) {
        text.push('_');
    }
    text
}

/// Returns whether a text is an identifier that a program may define.
pub(crate) fn is_free(name: &str) -> bool {
    !name.is_empty() && identifier(name) == name
}

fn is_taken(name: &str) -> bool {
    let is_reserved = name
        .strip_prefix('_')
        .is_some_and(|rest| rest.starts_with(|c: char| c == '_' || c.is_ascii_uppercase()));
    name.is_empty()
        || is_reserved
        || name.starts_with(LIBRARY)
        || TAKEN.split(' ').any(|taken| taken == name)
}

/// Returns the prefix of all names of a segment that has no other one: `jobs` for
/// `/jobs`, for `./jobs` and for `/shm-sync-jobs`.
pub(crate) fn prefix_of(address: &str) -> String {
    let file = address.rsplit('/').next().unwrap_or(address);
    let stem = file.split('.').find(|part| !part.is_empty());
    let text: String = stem
        .unwrap_or(file)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let text = text.trim_matches('_');
    let text = text.strip_prefix("shm_sync").unwrap_or(text);
    match text.trim_matches('_') {
        "" => "segment".to_owned(),
        text if text.starts_with(|first: char| first.is_ascii_digit()) => format!("segment_{text}"),
        text => identifier(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let cases = [
            ("count", "count"),
            ("0", "f0"),
            ("class", "class_"),
            ("żółw", "___w_"),
            ("a b", "a_b_"),
            ("", "_"),
            ("uint64_t", "uint64_t_"),
            ("shm_sync_mutex", "shm_sync_mutex_"),
            ("__x", "__x_"),
            ("_x", "_x"),
            ("*/ evil", "___evil_"),
        ];
        for (name, expected) in cases {
            assert_eq!(identifier(name), expected, "{name}");
        }
        assert!(is_free("jobs") && !is_free("int") && !is_free("") && !is_free("a-b"));
        let mut names = Names::default();
        assert_eq!(
            ["a", "a", "a_"].map(|name| names.add(name)),
            ["a", "a_", "a__"]
        );
    }

    #[test]
    fn prefixes_come_from_addresses() {
        let cases = [
            ("/jobs", "jobs"),
            ("/shm-sync-runs", "runs"),
            ("/shm-sync", "segment"),
            ("./data/table.bin", "table"),
            ("sysv:42", "sysv_42"),
            ("/int", "int_"),
            ("/7up", "segment_7up"),
            ("/", "segment"),
            ("/.hidden", "hidden"),
        ];
        for (address, expected) in cases {
            assert_eq!(prefix_of(address), expected, "{address}");
            assert!(is_free(&prefix_of(address)), "{address}");
        }
    }
}
