//! `#[derive(ShmSafe)]` for the `shm-sync` crate, which re-exports it.
//!
//! What it checks itself, because only the tokens show it: the `repr`, the kind
//! of type, lifetimes, and fields that are references, pointers, functions or
//! slices. What the compiler checks in the code it writes: that every field is
//! `ShmSafe`, that the type has no `Drop`, and that the variants of enums
//! contain no locks.

mod expand;
mod input;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements the trait of the same name for a struct or an enum, if its layout is
/// fixed and everything in it is `ShmSafe`: see the trait.
///
/// The code that it writes names the crate `shm_sync`, so the dependency must not
/// be renamed.
#[proc_macro_derive(ShmSafe)]
pub fn derive_shm_safe(tokens: TokenStream) -> TokenStream {
    let derive_input = parse_macro_input!(tokens as DeriveInput);
    match input::Input::check(&derive_input) {
        Ok(input) => expand::expand(&input),
        Err(error) => error.into_compile_error().into(),
    }
}
