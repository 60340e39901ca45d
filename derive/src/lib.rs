//! `#[derive(ShmSafe)]` for the `shm-sync` crate, which re-exports it.
//!
//! | check | by |
//! |---|---|
//! | the `repr`, the kind of type, no lifetimes, no fields that are references, pointers, functions or slices | the macro, from the tokens |
//! | every field is `ShmSafe`, no `Drop`, no locks in the variants of enums | the compiler, in the generated code |

mod expand;
mod input;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `ShmSafe` for a struct or an enum, if its layout is fixed and every field
/// is `ShmSafe`.
///
/// # The name of the crate
///
/// The generated code names the crate `::shm_sync`. If the dependency has another name,
/// or if another crate re-exports it, give its path:
///
/// ```toml
/// [dependencies]
/// shm = { package = "shm-sync", version = "0.1" }
/// ```
///
/// ```ignore
/// #[derive(shm::ShmSafe)]
/// #[shm_safe(crate = "shm")]
/// #[repr(C)]
/// struct Jobs {
///     pending: shm::ShmMutex<u64>,
/// }
/// ```
///
/// The path must lead to `shm_sync` itself, or to a module that re-exports all of it
/// and defines nothing. The generated `unsafe` code relies on the items that it finds
/// there.
#[proc_macro_derive(ShmSafe, attributes(shm_safe))]
pub fn derive_shm_safe(tokens: TokenStream) -> TokenStream {
    let derive_input = parse_macro_input!(tokens as DeriveInput);
    match input::Input::check(&derive_input) {
        Ok(input) => expand::expand(&input),
        Err(error) => error.into_compile_error().into(),
    }
}
