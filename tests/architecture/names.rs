//! Reads Rust files: which modules they declare, and which paths they name.
//!
//! The reader uses the compiler's tokens. Comments and strings are therefore not code,
//! and the bodies of macros are. It resolves no types: it cannot see what a method
//! does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::TokenTree::{Group, Ident, Punct};
use proc_macro2::{TokenStream, TokenTree};

/// Makes the repository the working directory of this program. Cargo starts it in the
/// folder of its package, which is a folder of the repository.
pub(crate) fn enter_repository() {
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .expect("the repository is where this program was compiled");
}

/// Returns the text of every Rust file in a directory and below it.
pub(crate) fn files_below(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("the directory exists") {
        let path = entry.expect("the directory is readable").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("the file is readable");
            files.insert(path, text);
        }
    }
    files
}

/// Whether modules under `#[cfg(test)]` are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tests {
    Read,
    Skipped,
}

/// A path that a file names.
pub(crate) struct Name {
    pub(crate) line: usize,
    /// The module that names it, from the root of its crate.
    pub(crate) module: Vec<String>,
    /// The path without its alias (`as`). It begins with `crate` if the file writes
    /// `crate`, `self`, `super` or the name of its own crate there.
    pub(crate) path: Vec<String>,
    /// The name that an import binds in `module`; `None` in an expression.
    pub(crate) binds: Option<String>,
    /// Whether it is in a visibility: `pub(in path)`.
    pub(crate) is_visibility: bool,
}

/// A module that a file declares without a body: `mod name;`.
pub(crate) struct Declaration {
    /// The module, from the root of its crate.
    pub(crate) module: Vec<String>,
    /// The value of its attribute `path`.
    pub(crate) file: Option<String>,
}

/// What a file says.
pub(crate) struct Source {
    pub(crate) names: Vec<Name>,
    pub(crate) declarations: Vec<Declaration>,
    /// The macros that it defines with `macro_rules!`.
    pub(crate) macros: Vec<String>,
}

/// Reads the text of a file, which is a module of `own_crate`.
pub(crate) fn read(text: &str, module: &[String], own_crate: &str, tests: Tests) -> Source {
    let mut reader = Reader {
        module: module.to_vec(),
        own_crate,
        tests,
        is_visibility: false,
        source: Source {
            names: Vec::new(),
            declarations: Vec::new(),
            macros: Vec::new(),
        },
    };
    reader.read(text.parse().expect("the file consists of tokens"));
    reader.source
}

struct Reader<'a> {
    /// The module that is being read.
    module: Vec<String>,
    own_crate: &'a str,
    tests: Tests,
    is_visibility: bool,
    source: Source,
}

impl Reader<'_> {
    fn read(&mut self, stream: TokenStream) {
        let tokens = tokens_of(stream);
        let mut rest = tokens.as_slice();
        let mut attributes = Vec::new();
        while let [first, after_first @ ..] = rest {
            if let [hash, Group(attribute), after @ ..] = rest
                && is_mark(hash, '#')
            {
                attributes.push(attribute.stream().to_string().replace(' ', ""));
                self.read(attribute.stream());
                rest = after;
                continue;
            }
            let is_test = attributes.iter().any(|text| text == "cfg(test)");
            rest = match rest {
                [Ident(word), Ident(_), Group(_), after @ ..]
                    if word == "mod" && is_test && self.tests == Tests::Skipped =>
                {
                    after
                }
                [Ident(word), Ident(name), Group(body), after @ ..] if word == "mod" => {
                    self.module.push(name.to_string());
                    self.read(body.stream());
                    self.module.pop();
                    after
                }
                [Ident(word), Ident(name), end, after @ ..]
                    if word == "mod" && is_mark(end, ';') =>
                {
                    self.declare(&name.to_string(), &attributes);
                    after
                }
                [Ident(word), bang, Ident(name), after @ ..]
                    if word == "macro_rules" && is_mark(bang, '!') =>
                {
                    self.source.macros.push(name.to_string());
                    after
                }
                [Ident(word), Ident(what), after @ ..] if word == "extern" && what == "crate" => {
                    self.read_path(after, &[], true)
                }
                [Ident(word), ..] if word == "use" => self.read_path(after_first, &[], true),
                // A visibility keeps the attributes of what follows.
                [Ident(word), Group(group), after @ ..] if word == "pub" => {
                    self.is_visibility = true;
                    self.read(group.stream());
                    self.is_visibility = false;
                    rest = after;
                    continue;
                }
                [Ident(word), ..] if word == "pub" => {
                    rest = after_first;
                    continue;
                }
                [Ident(_), ..] => self.read_path(rest, &[], false),
                _ => {
                    if let Group(group) = first {
                        self.read(group.stream());
                    }
                    after_first
                }
            };
            attributes.clear();
        }
    }

    fn declare(&mut self, name: &str, attributes: &[String]) {
        let mut module = self.module.clone();
        module.push(name.replace("r#", ""));
        let file = attributes.iter().find_map(|text| {
            let value = text.strip_prefix("path=\"")?;
            value.strip_suffix('"').map(str::to_owned)
        });
        self.source.declarations.push(Declaration { module, file });
    }

    /// Reads one path, or all paths of an import, and returns the tokens after it.
    fn read_path<'a>(
        &mut self,
        tokens: &'a [TokenTree],
        prefix: &[String],
        is_import: bool,
    ) -> &'a [TokenTree] {
        let mut path = prefix.to_vec();
        let mut next = after_colons(tokens).or(Some(tokens));
        let mut rest = tokens;
        let mut alias = None;
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
                [Ident(word), Ident(name), after @ ..] if is_import && word == "as" => {
                    alias = Some(name.to_string());
                    rest = after;
                    None
                }
                _ => after_colons(rest),
            };
        }
        if path.len() > prefix.len() && (path.len() > 1 || is_import) {
            let line = tokens[0].span().start().line;
            let last = path.iter().rfind(|part| *part != "self").cloned();
            let binds = if is_import { alias.or(last) } else { None };
            let path = from_root(&path, &self.module, self.own_crate);
            let module = self.module.clone();
            let name = Name {
                line,
                module,
                path,
                binds,
                is_visibility: self.is_visibility,
            };
            self.source.names.push(name);
        }
        rest
    }
}

/// Leaves out the `$` of macros: `$crate` is read as `crate`.
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

/// Returns the path from the crate's root, if its first part is a keyword or the name
/// of the crate itself.
fn from_root(path: &[String], module: &[String], own_crate: &str) -> Vec<String> {
    let mut whole = vec!["crate".to_owned()];
    match path[0].as_str() {
        "crate" => {}
        "self" | "super" => whole.extend_from_slice(module),
        first if first == own_crate => {}
        _ => return path.to_vec(),
    }
    for (index, part) in path.iter().enumerate() {
        match part.as_str() {
            "crate" | "self" => {}
            "super" => whole.truncate(whole.len().max(2) - 1),
            first if index == 0 && first == own_crate => {}
            _ => whole.push(part.clone()),
        }
    }
    whole
}
