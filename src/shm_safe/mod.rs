//! The marker of types whose values may be in shared memory, and the walk over the
//! locks inside these values.

mod cache_padded;
mod derived;
mod fingerprint;
mod impls;
mod marker;
mod properties;
mod sync_ops;
mod visit;

pub use cache_padded::CachePadded;
pub use derived::{TypeOf, sum};
pub use fingerprint::Fingerprint;
pub(crate) use impls::visit_elements;
pub use marker::ShmSafe;
pub use properties::TypeProperties;
pub(crate) use sync_ops::InitContext;
pub use sync_ops::{SyncKind, SyncOps};
pub use visit::{FieldPath, Visitor};
