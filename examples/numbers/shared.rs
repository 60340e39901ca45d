//! What parent and child share.

use std::error::Error;
use std::io::{self, Write};

use shm_sync::{ShmLifeline, ShmPipe, ShmSafe};

/// The contents of the segment. The child inherits it as standard input.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Shared {
    pub(crate) pipe: ShmPipe<65536>,
    /// Held by the parent for as long as it runs.
    pub(crate) parent: ShmLifeline,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            pipe: ShmPipe::new(),
            parent: ShmLifeline::new(),
        }
    }
}

/// Prints an error. Ignores that standard error can't be written to.
pub(crate) fn report(error: &dyn Error) {
    let _ = writeln!(io::stderr(), "numbers: {error}");
}
