//! The rules of the repository that a program can check: imports, layout, documents,
//! prose.

mod circles;
mod documents;
mod floors;
mod names;
mod prose;
