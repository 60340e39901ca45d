//! Values of bounded size whose contents vary: text, lists, options. They are plain
//! data, which a lock guards.
//!
//! Each has one field that says how much of the rest counts. A change writes the rest
//! first and this field last, with a `compiler_fence` in between. So a killed process
//! leaves the value as it was before or after the change, unless the documentation of
//! the method says otherwise.

mod commit;
mod option;
mod string;
mod vec;

pub use option::ShmOption;
pub use string::ShmString;
pub use vec::ShmVec;
