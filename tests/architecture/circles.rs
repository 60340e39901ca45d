//! Imports between files. No file may import another that imports it in return, directly
//! or through further files.
//!
//! A file imports the file that *defines* a name, whatever module re-exports it.
//! Declarations (`mod a;`), visibilities (`pub(in path)`) and the names in
//! `#[cfg(test)]` modules are not imports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::names::{self, Declaration, Name, Source, Tests, enter_repository};

/// The root files of all crates that are not tests, and the folders that have one crate
/// in each subfolder.
const ROOTS: [(&str, &str); 6] = [
    ("src/lib.rs", "shm_sync"),
    ("cli/src/main.rs", "shm_sync_cli"),
    ("derive/src/lib.rs", "shm_sync_derive"),
    ("bench/src/main.rs", "shm_sync_bench"),
    ("proof/src/lib.rs", "shm_sync_proof"),
    ("proof/src/bin/soak/main.rs", "soak"),
];
const FOLDERS: [&str; 4] = ["examples", "tests", "cli/tests", "proof/tests"];

type Module = Vec<String>;

/// The modules of one crate.
struct Crate {
    /// The file of each module, those with a body in their parent's file included.
    files: BTreeMap<Module, PathBuf>,
    sources: BTreeMap<PathBuf, Source>,
    /// What each module's imports bind: a name, and the path that it stands for.
    imports: BTreeMap<Module, Vec<(String, Module, Vec<String>)>>,
    /// The files that define the macros.
    macros: BTreeMap<String, PathBuf>,
}

/// The files that each file imports, with the line of the first import.
type Imports = BTreeMap<PathBuf, BTreeMap<PathBuf, usize>>;

impl Crate {
    /// Reads a crate from its root file and the files of its modules.
    fn read(root: &Path, name: &str, text_of: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut this = Self {
            files: BTreeMap::new(),
            sources: BTreeMap::new(),
            imports: BTreeMap::new(),
            macros: BTreeMap::new(),
        };
        let text = text_of(root).unwrap_or_else(|| panic!("{} is readable", root.display()));
        this.add(Module::new(), root, &text, name, text_of);
        this
    }

    fn add(
        &mut self,
        module: Module,
        file: &Path,
        text: &str,
        name: &str,
        text_of: &dyn Fn(&Path) -> Option<String>,
    ) {
        let source = names::read(text, &module, name, Tests::Skipped);
        for declaration in &source.declarations {
            let (path, text) = find(file, &module, declaration, text_of);
            self.add(declaration.module.clone(), &path, &text, name, text_of);
        }
        for Name {
            module,
            path,
            binds,
            ..
        } in &source.names
        {
            // A module with a body is a module of the same file.
            self.files
                .entry(module.clone())
                .or_insert_with(|| file.to_owned());
            if let Some(bound) = binds {
                let import = (bound.clone(), module.clone(), path.clone());
                self.imports.entry(module.clone()).or_default().push(import);
            }
        }
        for name in &source.macros {
            self.macros.insert(name.clone(), file.to_owned());
        }
        self.files.insert(module, file.to_owned());
        self.sources.insert(file.to_owned(), source);
    }

    /// Returns the file that defines what `path` names in `module`, if it is a file of
    /// this crate.
    fn definer(&self, module: &Module, path: &[String], depth: u32) -> Option<&PathBuf> {
        let (first, rest) = path.split_first()?;
        let (mut here, mut rest) = if first == "crate" {
            (Module::new(), rest)
        } else if self.files.contains_key(&child(module, first)) {
            (module.clone(), path)
        } else {
            return None;
        };
        while let Some((name, after)) = rest.split_first() {
            let inner = child(&here, name);
            if self.files.contains_key(&inner) {
                here = inner;
                rest = after;
                continue;
            }
            if here.is_empty()
                && let Some(file) = self.macros.get(name)
            {
                return Some(file);
            }
            if let Some(file) = self.imported(&here, name, after, depth) {
                return Some(file);
            }
            break;
        }
        self.files.get(&here)
    }

    /// Returns the file that defines a name which `module` imports, and so re-exports.
    fn imported(
        &self,
        module: &Module,
        name: &String,
        after: &[String],
        depth: u32,
    ) -> Option<&PathBuf> {
        assert!(depth < 20, "the re-exports of {name} end somewhere");
        let imports = self.imports.get(module)?;
        let (_, at, path) = imports.iter().find(|(bound, ..)| bound == name)?;
        let whole: Vec<String> = path.iter().chain(after).cloned().collect();
        // A path that begins with the name itself is one of another crate.
        if whole.first() == Some(name) {
            return None;
        }
        self.definer(at, &whole, depth + 1)
    }

    fn file_imports(&self) -> Imports {
        let mut all = Imports::new();
        for (file, source) in &self.sources {
            let to = all.entry(file.clone()).or_default();
            for name in source.names.iter().filter(|name| !name.is_visibility) {
                match self.definer(&name.module, &name.path, 0) {
                    Some(other) if other != file => {
                        to.entry(other.clone()).or_insert(name.line);
                    }
                    _ => {}
                }
            }
        }
        all
    }
}

fn child(module: &Module, name: &str) -> Module {
    let mut child = module.clone();
    child.push(name.to_owned());
    child
}

/// Returns the file of a module that `file` declares, and its text.
fn find(
    file: &Path,
    module: &Module,
    declaration: &Declaration,
    text_of: &dyn Fn(&Path) -> Option<String>,
) -> (PathBuf, String) {
    let folder = file.parent().unwrap_or(Path::new(""));
    let below = &declaration.module[module.len()..];
    let (name, _) = below.split_last().expect("the declared module has a name");
    let name_of_file = file.file_stem().unwrap_or_default();
    let is_folder_root = ["mod", "lib", "main"]
        .iter()
        .any(|root| name_of_file == *root)
        || module.is_empty();
    let base = if is_folder_root {
        folder.to_owned()
    } else {
        folder.join(name_of_file)
    };
    let candidates = match &declaration.file {
        Some(path) => vec![normalized(&folder.join(path))],
        None => {
            let base = below[..below.len() - 1]
                .iter()
                .fold(base, |base, part| base.join(part));
            vec![
                base.join(format!("{name}.rs")),
                base.join(name).join("mod.rs"),
            ]
        }
    };
    let found = candidates
        .iter()
        .find_map(|path| text_of(path).map(|text| (path.clone(), text)));
    found.unwrap_or_else(|| panic!("{} declares {name}: {candidates:?}", file.display()))
}

/// Removes `..` from a path.
fn normalized(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path {
        if part == ".." {
            normal.pop();
        } else {
            normal.push(part);
        }
    }
    normal
}

/// Returns the circles: groups of files that each import all others of the group, on
/// some way. Each is told by the imports inside it.
fn circles(imports: &Imports) -> Vec<String> {
    let reachable: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> = imports
        .keys()
        .map(|file| (file, reachable_from(file, imports)))
        .collect();
    let mut told = BTreeSet::new();
    let mut circles = Vec::new();
    for file in imports.keys() {
        let members: BTreeSet<&PathBuf> = reachable[file]
            .iter()
            .copied()
            .filter(|other| reachable.get(other).is_some_and(|back| back.contains(file)))
            .collect();
        if !members.contains(file) || !told.insert(members.clone()) {
            continue;
        }
        let mut lines = vec![format!("a circle of {} files:", members.len())];
        for from in &members {
            for (to, line) in &imports[*from] {
                if members.contains(to) {
                    lines.push(format!(
                        "  {}:{line} imports {}",
                        from.display(),
                        to.display()
                    ));
                }
            }
        }
        circles.push(lines.join("\n"));
    }
    circles
}

/// Returns the files that `start` imports, directly or through other files.
fn reachable_from<'a>(start: &PathBuf, imports: &'a Imports) -> BTreeSet<&'a PathBuf> {
    let mut found = BTreeSet::new();
    let mut queue = vec![start];
    while let Some(file) = queue.pop() {
        for next in imports.get(file).into_iter().flat_map(BTreeMap::keys) {
            if found.insert(next) {
                queue.push(next);
            }
        }
    }
    found
}

/// Returns the roots of all crates of the repository.
fn roots() -> Vec<(PathBuf, String)> {
    let mut roots: Vec<(PathBuf, String)> = ROOTS
        .map(|(file, name)| (PathBuf::from(file), name.to_owned()))
        .into();
    for folder in FOLDERS {
        for entry in std::fs::read_dir(folder).expect("the folder is readable") {
            let path = entry.expect("the folder is readable").path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let main = path.join("main.rs");
            if main.is_file() {
                roots.push((main, name.into_owned()));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                roots.push((path.clone(), name.into_owned()));
            }
        }
    }
    roots
}

#[test]
fn no_files_import_each_other() {
    enter_repository();
    let text_of = |path: &Path| std::fs::read_to_string(path).ok();
    let roots = roots();
    assert!(roots.len() > ROOTS.len(), "the crates in folders are found");
    let mut found = BTreeSet::new();
    for (root, name) in roots {
        let imports = Crate::read(&root, &name, &text_of).file_imports();
        assert!(!imports.is_empty(), "{} is read", root.display());
        found.extend(circles(&imports));
    }
    let found: Vec<String> = found.into_iter().collect();
    assert!(
        found.is_empty(),
        "files import each other:\n{}",
        found.join("\n")
    );
}

/// Returns the circles of a crate of these files, of which the first is the root.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let text_of = |path: &Path| {
        let file = files.iter().find(|(name, _)| Path::new(name) == path);
        file.map(|(_, text)| (*text).to_owned())
    };
    let root = Path::new(files[0].0);
    circles(&Crate::read(root, "shm_sync", &text_of).file_imports())
}

#[test]
fn smoke() {
    let found = circles_of(&[
        ("src/lib.rs", "mod a; mod b;"),
        ("src/a.rs", "use crate::b::B; pub struct A(B);"),
        ("src/b.rs", "\nfn f(_: super::a::A) {}"),
    ]);
    let expected = "a circle of 2 files:\n  src/a.rs:1 imports src/b.rs\n  \
                    src/b.rs:2 imports src/a.rs";
    assert_eq!(found, [expected]);
}

#[test]
fn circle_of_parent_and_child_is_found() {
    let found = circles_of(&[
        ("src/lib.rs", "mod a;"),
        ("src/a/mod.rs", "mod b; use b::B; pub const C: u8 = 0;"),
        ("src/a/b.rs", "use super::C; pub struct B;"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn circle_through_re_exports_is_found() {
    let found = circles_of(&[
        (
            "src/lib.rs",
            "mod a; mod b; mod c; pub use a::A as First; pub use c::*;",
        ),
        ("src/a.rs", "fn f() { shm_sync::b::b() }"),
        ("src/b.rs", "use crate::c; fn b() { c::c() }"),
        ("src/c.rs", "macro_rules! m { () => { $crate::First } }"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("a circle of 3 files"), "{found:?}");
}

#[test]
fn sibling_through_its_parent_is_no_circle() {
    let found = circles_of(&[
        ("src/lib.rs", "mod a; pub use a::B;"),
        ("src/a/mod.rs", "mod b; mod c; pub use b::B; pub use c::C;"),
        ("src/a/b.rs", "pub struct B;"),
        (
            "src/a/c.rs",
            "use super::B; use crate::a::B as Same; pub struct C;
            #[cfg(test)] mod tests { use super::super::super::d; use super::*; }
            pub(in crate::a) struct D; mod inner { use super::C; }",
        ),
    ]);
    assert_eq!(found, [""; 0]);
}
