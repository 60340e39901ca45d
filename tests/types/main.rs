//! `ShmSafe`: what the derive macro generates, what the compiler refuses, and the
//! properties of the public types. No test here starts a process that uses a lock.

mod derive;
mod properties;
mod public_types;
mod ui;
