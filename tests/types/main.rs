//! `ShmSafe`: what the derive macro generates, and the properties of the public types.
//! The compiler's messages are tested in `derive/tests/`.

mod derive;
mod properties;
mod public_types;
