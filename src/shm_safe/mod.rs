//! The markers of types whose values may be in shared memory, and the walk over the
//! locks inside these values.

mod cache_padded;
mod content;
mod derived;
mod description;
mod fingerprint;
mod impls;
mod marker;
#[cfg(feature = "bytemuck")]
mod plain;
mod properties;
mod sync_ops;
mod tear_free;
mod visit;
mod zeroed;

pub use cache_padded::CachePadded;
pub use content::{SegmentContent, VariableLength, WithTail};
pub(crate) use content::{sealed, size_after};
pub use derived::{TypeOf, sum};
pub use description::{Description, Parts};
pub(crate) use description::{FIELD, TYPE, VARIANT, fingerprint_of};
pub use fingerprint::Fingerprint;
pub use marker::ShmSafe;
#[cfg(feature = "bytemuck")]
pub use plain::Plain;
pub use properties::TypeProperties;
pub(crate) use sync_ops::InitContext;
pub use sync_ops::{SyncKind, SyncOps};
pub use tear_free::{TearFree, TearFreeField};
pub use visit::{FieldPath, Visitor};
pub(crate) use zeroed::zeroed;
