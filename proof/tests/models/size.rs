//! How much the models search.

/// How much is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// Enough for every kind of interleaving, and small enough for every day.
    Small,
    /// For the record.
    Large,
}

impl Size {
    pub(crate) fn chosen() -> Self {
        match std::env::var("SHM_SYNC_MODEL_SIZE").as_deref() {
            Ok("large") => Self::Large,
            Ok(other) => panic!("SHM_SYNC_MODEL_SIZE={other}: there is only `large`"),
            Err(_) => Self::Small,
        }
    }
}
