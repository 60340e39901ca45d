//! `ShmSafe`: the code that the derive macro generates, and the properties of the
//! public types. `tests/ui/` has the tests of the compiler's messages.

mod derive;
mod mismatch;
mod properties;
mod public_types;
mod serialise;
mod type_table;
mod values;
