//! The orderings in the sources of the library, as they are now.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::Ordering;

/// What has an ordering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Used {
    Access,
    Fence,
    /// Orders nothing for other processors.
    CompilerFence,
}

/// An ordering in a source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) ordering: Ordering,
    pub(super) used: Used,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = match self.used {
            Used::Access => "",
            Used::Fence => " fence",
            Used::CompilerFence => " compiler fence",
        };
        write!(f, "{:?}{after}", self.ordering)
    }
}

/// A function, or a static, with the orderings in it, in the order of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) orderings: Vec<Written>,
}

/// The functions with orderings of each file, by its path in the repository.
pub(super) static SOURCES: LazyLock<BTreeMap<String, Vec<Function>>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    let mut sources = BTreeMap::new();
    for file in files {
        let name = file.strip_prefix(&root).expect("it is below the root");
        let name = name.to_str().expect("a name in ASCII").to_owned();
        let functions = read(&fs::read_to_string(&file).expect("the file is readable"));
        if !functions.is_empty() && !name.starts_with(FUZZING) {
            sources.insert(name, functions);
        }
    }
    sources
});

/// The functions of the C header with orderings that are not relaxed.
pub(super) static HEADER: LazyLock<Vec<Function>> = LazyLock::new(|| {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/shm_sync.h");
    let header = fs::read_to_string(header).expect("the header is readable");
    let mut functions = read_c(&header);
    for function in &mut functions {
        let orderings = &mut function.orderings;
        orderings.retain(|written| written.ordering != Ordering::Relaxed);
    }
    functions.retain(|function| !function.orderings.is_empty());
    functions
});

/// What only the fuzz targets compile.
const FUZZING: &str = "src/inspect/fuzz";

/// Returns the nth ordering in a function.
pub(super) fn ordering(file: &str, function: &str, nth: usize) -> Written {
    let functions = SOURCES.get(file).into_iter().flatten();
    let found = functions.filter(|candidate| candidate.name == function);
    let mut all = found.flat_map(|function| &function.orderings);
    let written = all.nth(nth);
    *written.unwrap_or_else(|| panic!("{file}: `{function}` has {} orderings or more", nth + 1))
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the directory is readable") {
        let path = entry.expect("the directory is readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Returns the functions of a file that have orderings. The tests of the file, which
/// are its end, are left out.
fn read(text: &str) -> Vec<Function> {
    let mut functions: Vec<Function> = Vec::new();
    let mut name = "";
    for line in text.lines().take_while(|line| *line != "mod tests {") {
        let code = line.split("//").next().unwrap_or_default();
        let begins = begun_by(code);
        name = begins.unwrap_or(name);
        add(&mut functions, name, orderings_in(code));
    }
    functions
}

/// Adds orderings to the function that was read last, if it has this name.
fn add(functions: &mut Vec<Function>, name: &str, orderings: Vec<Written>) {
    match functions.last_mut() {
        _ if orderings.is_empty() => {}
        Some(last) if last.name == name => last.orderings.extend(orderings),
        _ => functions.push(Function {
            name: name.to_owned(),
            orderings,
        }),
    }
}

/// How the C header writes orderings.
const MARKS_OF_C: [(&str, Ordering, Used); 12] = [
    (
        "__atomic_signal_fence(__ATOMIC_SEQ_CST",
        Ordering::SeqCst,
        Used::CompilerFence,
    ),
    ("__sync_synchronize(", Ordering::SeqCst, Used::Fence),
    ("SHM_SYNC_I_LOAD(", Ordering::Relaxed, Used::Access),
    ("SHM_SYNC_I_STORE(", Ordering::Relaxed, Used::Access),
    ("SHM_SYNC_I_ACQUIRE(", Ordering::Acquire, Used::Access),
    ("SHM_SYNC_I_LOAD_SC(", Ordering::SeqCst, Used::Access),
    ("SHM_SYNC_I_STORE_SC(", Ordering::SeqCst, Used::Access),
    ("__ATOMIC_RELAXED", Ordering::Relaxed, Used::Access),
    ("__ATOMIC_ACQUIRE", Ordering::Acquire, Used::Access),
    ("__ATOMIC_RELEASE", Ordering::Release, Used::Access),
    ("__ATOMIC_ACQ_REL", Ordering::AcqRel, Used::Access),
    ("__ATOMIC_SEQ_CST", Ordering::SeqCst, Used::Access),
];

/// Returns the functions of a C file that have orderings. Comments have no marks.
fn read_c(text: &str) -> Vec<Function> {
    let mut functions: Vec<Function> = Vec::new();
    let mut name = "";
    // A definition begins in the first column.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let is_first = line.starts_with(|c: char| c.is_ascii_alphabetic());
        name = is_first.then(|| named_in(line)).flatten().unwrap_or(name);
        let mut orderings = Vec::new();
        let mut rest = line;
        while !rest.is_empty() {
            let mark = MARKS_OF_C.iter().find(|(mark, ..)| rest.starts_with(mark));
            if let Some(&(_, ordering, used)) = mark {
                orderings.push(Written { ordering, used });
            }
            let read = mark.map_or(1, |(mark, ..)| mark.len());
            rest = rest.get(read..).unwrap_or_default();
        }
        add(&mut functions, name, orderings);
    }
    functions
}

/// Returns the function of the header that a line in C names first.
fn named_in(line: &str) -> Option<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut starts = line.match_indices("shm_sync_").map(|(at, _)| &line[at..]);
    starts.find_map(|text| {
        let (name, after) = text.split_at(text.find(|c| !is_name(c))?);
        after.starts_with('(').then_some(name)
    })
}

/// Returns the name of the function, or of the static, that begins in a line.
fn begun_by(code: &str) -> Option<&str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let before = |mark: &str| {
        let (before, after) = code.split_once(mark)?;
        let name = &after[..after.find(|c| !is_name(c))?];
        let is_qualifier = |word: &str| {
            ["const", "unsafe", "extern", "\"C\""].contains(&word) || word.starts_with("pub")
        };
        let is_in_path = |word: &str| word.starts_with("crate::") || word.starts_with("super");
        let mut words = before.split_whitespace();
        words
            .all(|word| is_qualifier(word) || is_in_path(word))
            .then_some(name)
    };
    before("fn ").or_else(|| (!code.starts_with(' ')).then(|| before("static "))?)
}

fn orderings_in(code: &str) -> Vec<Written> {
    const MARK: &str = "Ordering::";
    let mut found = Vec::new();
    for (at, _) in code.match_indices(MARK) {
        let (before, after) = (&code[..at], &code[at + MARK.len()..]);
        let end = after.find(|c: char| !c.is_alphanumeric());
        let ordering = match &after[..end.unwrap_or(after.len())] {
            "Relaxed" => Ordering::Relaxed,
            "Acquire" => Ordering::Acquire,
            "Release" => Ordering::Release,
            "AcqRel" => Ordering::AcqRel,
            "SeqCst" => Ordering::SeqCst,
            _ => continue, // of a comparison
        };
        let used = if before.ends_with("compiler_fence(") {
            Used::CompilerFence
        } else if before.ends_with("fence(") {
            Used::Fence
        } else {
            Used::Access
        };
        found.push(Written { ordering, used });
    }
    found
}

#[test]
fn smoke() {
    let text = "
static EVENT: Ops = Ops {
    init: |at| at.fetch_or(1, Ordering::Release), // Ordering::SeqCst
};
impl Word {
    /// Ordering::SeqCst
    pub(in crate::a) const unsafe fn load(&self) -> u32 {
        fence(Ordering::Acquire);
        compiler_fence(Ordering::SeqCst);
        self.0.compare_exchange(1, 2, Ordering::AcqRel, Ordering::Relaxed)
    }
    fn is_less(&self) -> bool { self.cmp() == Ordering::Less }
}
mod tests {
    fn f() { x.load(Ordering::Relaxed) }
}";
    let described = |function: Function| {
        let orderings = function.orderings.iter().map(ToString::to_string);
        (function.name, orderings.collect::<Vec<_>>().join(", "))
    };
    let found: Vec<_> = read(text).into_iter().map(described).collect();
    let load = "Acquire fence, SeqCst compiler fence, AcqRel, Relaxed";
    let expected = [("EVENT", "Release"), ("load", load)];
    assert_eq!(
        found,
        expected.map(|(name, list)| (name.to_owned(), list.to_owned()))
    );
}

#[test]
fn c_smoke() {
    let text = "
#define SHM_SYNC_I_LOAD(at) __atomic_load_n(at, __ATOMIC_RELAXED)
SHM_SYNC_I_OUTLINE bool shm_sync_i_take(
    shm_sync_i_words *words) {
    if (SHM_SYNC_I_LOAD_SC(&words->lock) != 0 || SHM_SYNC_I_LOAD(&words->lock) != 0)
        shm_sync_i_other(words);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}
static inline shm_sync_result shm_sync_give(int *at) { f(at, __ATOMIC_ACQ_REL); }";
    let orderings = |function: &Function| {
        let orderings = function.orderings.iter().map(ToString::to_string);
        orderings.collect::<Vec<_>>().join(", ")
    };
    let found = read_c(text);
    let found: Vec<_> = found
        .iter()
        .map(|it| (it.name.as_str(), orderings(it)))
        .collect();
    let take = "SeqCst, Relaxed, SeqCst compiler fence";
    let expected = [("shm_sync_i_take", take), ("shm_sync_give", "AcqRel")];
    assert_eq!(found, expected.map(|(name, list)| (name, list.to_owned())));
}
