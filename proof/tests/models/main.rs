//! All interleavings: the protocols of this crate as models that are checked exhaustively.

mod locks;
mod report;
mod segments;
mod size;
