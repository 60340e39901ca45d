//! Typed shared memory.
//!
//! `open` is the top: it creates and opens segments, and returns the types of `handle`,
//! `read_only` and `snapshot`. `status` adds queries to `handle`. The files below them
//! are, bottom up: `policy`, `address`, `failure`; `permissions`,
//! `memory_policy`, `settings`; `format/`; `backing/`; `options`, `removal`,
//! `pending_create`.

mod address;
mod backing;
mod failure;
mod format;
mod handle;
mod memory_policy;
mod open;
mod options;
mod pending_create;
mod permissions;
mod policy;
mod read_only;
mod removal;
mod settings;
mod snapshot;
mod status;

pub use address::{Address, Backing, ToAddress};
pub use format::type_table::{Field, Type, Types, Variant};
pub use handle::Segment;
pub use options::SegmentOptions;
pub use policy::{CoreDump, IfAbandoned, Pages, Removal, Residency};
pub use read_only::ReadOnlySegment;
pub use removal::unlink;
pub use snapshot::Snapshot;
pub use status::SystemVStatus;

/// The items with which [`inspect`](crate::inspect) reads any segment.
pub(crate) mod internals {
    pub(crate) use crate::segment::address::Target;
    pub(crate) use crate::segment::backing::attachment::{RemoveOutcome, attached_pids};
    pub(crate) use crate::segment::backing::memfd::LABEL as MEMFD_LABEL;
    pub(crate) use crate::segment::backing::sysv::{Lifecycle, Probe, is_marked_unfinished};
    pub(crate) use crate::segment::backing::temporary::is_temporary;
    pub(crate) use crate::segment::format::epoch::Epoch;
    pub(crate) use crate::segment::format::header::{Header, LEN as HEADER_LEN, MAGIC};
    pub(crate) use crate::segment::format::lock_table::{Entry, parse as parse_lock_table};
    pub(crate) use crate::segment::format::type_table::{
        MAX_LEN as MAX_TYPE_TABLE, int_of, parse as parse_type_table,
    };
    #[cfg(feature = "serde")]
    pub(crate) use crate::segment::format::type_table::{signed, unsigned};
    pub(crate) use crate::segment::permissions::Permissions;
    pub(crate) use crate::segment::removal::remove_if_abandoned;
}
