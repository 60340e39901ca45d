//! The format of a segment in memory: header, lock table, type table, value.

pub(in crate::segment) mod epoch;
pub(in crate::segment) mod header;
pub(in crate::segment) mod lock_table;
pub(in crate::segment) mod offsets;
pub(in crate::segment) mod type_diff;
pub(in crate::segment) mod type_table;
pub(in crate::segment) mod writer;
