//! Names in C and C++ for names in Rust, which another user may have chosen.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::LazyLock;

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
NULL EOF I assert errno linux main stderr stdin stdout unix offsetof i386 complex \
d_fileno h_addr h_errno math_errhandling msg_cbytes no_argument optional_argument \
required_argument s6_addr s6_addr16 s6_addr32 sa_handler sa_sigaction sched_priority \
si_addr si_addr_lsb si_arch si_band si_call_addr si_fd si_int si_lower si_overrun \
si_pid si_pkey si_ptr si_status si_stime si_syscall si_timerid si_uid si_upper \
si_utime si_value sigev_notify_attributes sigev_notify_function st_atime st_ctime \
st_mtime";

/// Names at file scope in the headers of glibc and musl, of which a program may include
/// any: functions, types, tags, constants and macros. Those that [`is_like_macro`]
/// finds, and those that end in `_t`, are left out.
const GLOBALS: &str = include_str!("globals.txt");

/// The beginning of all names in `shm_sync.h`.
const LIBRARY: &str = "shm_sync";

/// Names that differ from each other.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Each name, and how often it was wanted.
    taken: HashMap<String, u64>,
    outer: Option<Rc<Names>>,
    /// Whether they are at file scope, where those of the system's headers are.
    are_global: bool,
}

impl Names {
    /// Returns an empty set of names at file scope, which also differ from those in
    /// `outer`.
    pub(crate) fn at_file_scope(outer: Option<Rc<Names>>) -> Self {
        Self {
            taken: HashMap::new(),
            outer,
            are_global: true,
        }
    }

    /// Returns an empty set of names that also differ from those in `outer`.
    pub(crate) fn inside(outer: Rc<Names>) -> Self {
        Self {
            taken: HashMap::new(),
            outer: Some(outer),
            are_global: false,
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

    /// Returns whether a new name can't be this one.
    fn has(&self, name: &str) -> bool {
        let outer = self.outer.as_ref();
        self.taken.contains_key(name)
            || (self.are_global && is_global(name))
            || outer.is_some_and(|outer| outer.contains(name))
    }

    /// Returns whether a name was added.
    fn contains(&self, name: &str) -> bool {
        let outer = self.outer.as_ref();
        self.taken.contains_key(name) || outer.is_some_and(|outer| outer.contains(name))
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

/// Returns the [`identifier`] for a member. A name like that of a macro also gets an
/// underscore at the end, because the system's headers define thousands.
pub(crate) fn member(name: &str) -> String {
    let mut text = identifier(name);
    // The compiler's macros begin with underscores, and may end with one.
    if name.starts_with('_') && text == format!("{name}_") {
        return format!("f{name}");
    }
    if text.len() > 1 && is_like_macro(&text) && !text.ends_with('_') {
        text.push('_');
    }
    text
}

/// Returns whether a text can be the prefix of all names at file scope. It is not like
/// a macro, so that no name with the prefix is, and none begins as those in
/// `shm_sync.h`.
pub(crate) fn is_free(name: &str) -> bool {
    let is_identifier = !name.is_empty() && identifier(name) == name;
    let is_reserved = name.starts_with('_') || name.eq_ignore_ascii_case("shm");
    is_identifier && !is_reserved && !is_like_macro(name) && !is_global(name)
}

/// Returns whether the part before the first underscore has capitals, and no small
/// letters: `EAGAIN`, `SYS_read`.
fn is_like_macro(name: &str) -> bool {
    let first = name.split('_').next().unwrap_or(name);
    first.starts_with(|c: char| c.is_ascii_uppercase())
        && !first.contains(|c: char| c.is_ascii_lowercase())
}

/// Returns whether a name at file scope may have another meaning.
fn is_global(name: &str) -> bool {
    static ALL: LazyLock<HashSet<&str>> = LazyLock::new(|| {
        let all = GLOBALS.split_whitespace();
        all.chain(TAKEN.split(' ')).collect()
    });
    // POSIX reserves the names that end in `_t`.
    name.ends_with("_t") || ALL.contains(name)
}

fn is_taken(name: &str) -> bool {
    let is_reserved = name
        .strip_prefix('_')
        .is_some_and(|rest| rest.starts_with(|c: char| c == '_' || c.is_ascii_uppercase()));
    let start = name.get(..LIBRARY.len());
    let is_of_library = start.is_some_and(|start| start.eq_ignore_ascii_case(LIBRARY));
    name.is_empty() || is_reserved || is_of_library || TAKEN.split(' ').any(|taken| taken == name)
}

/// Returns the prefix of all names of a segment that has no other one: `jobs` for
/// `/jobs`, for `./jobs` and for `/shm-sync-jobs`; `segment_read` for `/read`, because
/// `read` is a function.
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
    let mut text = text.trim_matches('_').to_owned();
    if text.is_empty() {
        return "segment".to_owned();
    }
    if is_like_macro(&text) {
        text.make_ascii_lowercase();
    }
    if !is_free(&text) {
        text.insert_str(0, "segment_");
    }
    if !is_free(&text) {
        text.push('_');
    }
    text
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
        for name in ["read", "_x", "time_t", "RUNS", "SYS_x", "Shm_Sync"] {
            assert!(!is_free(name), "{name}");
        }
        let members = ["A", "EAGAIN", "SYS_x", "NULL", "Busy", "read", "I"].map(member);
        assert_eq!(
            members,
            ["A", "EAGAIN_", "SYS_x_", "NULL_", "Busy", "read", "I_"]
        );
        assert!(is_free("jobs") && !is_free("int") && !is_free("") && !is_free("a-b"));
        let mut names = Names::default();
        assert_eq!(
            ["a", "a", "a_"].map(|name| names.add(name)),
            ["a", "a_", "a__"]
        );
        let mut global = Names::at_file_scope(None);
        let found = ["time_t", "struct", "read", "jobs"].map(|name| global.add(name));
        assert_eq!(found, ["time_t_", "struct_", "read_", "jobs"]);
        let mut inside = Names::inside(Rc::new(global));
        assert_eq!(
            ["index", "jobs"].map(|name| inside.add(name)),
            ["index", "jobs_"]
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
            ("/int", "segment_int"),
            ("/read", "segment_read"),
            ("/stat", "segment_stat"),
            ("/time_t", "segment_time_t_"),
            ("/RUNS", "runs"),
            ("/EAGAIN_7", "eagain_7"),
            ("/Shm_Sync_x", "segment_Shm_Sync_x"),
            ("/no", "segment_no"),
            ("/SHM", "segment_shm"),
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
