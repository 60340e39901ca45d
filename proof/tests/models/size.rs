//! The size of the models.

/// The size of the models.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// Every kind of interleaving, in seconds.
    Small,
    /// More processes, calls and deaths: minutes, and gigabytes of memory.
    Large,
}

impl Size {
    pub(crate) fn chosen() -> Self {
        match std::env::var("SHM_SYNC_MODEL_SIZE").as_deref() {
            Ok("large") => Self::Large,
            Ok(other) => panic!("SHM_SYNC_MODEL_SIZE is `large` or not set, not `{other}`"),
            Err(_) => Self::Small,
        }
    }
}
