//! The ledger: counters that workers change under a mutex.

use shm_sync::ShmSafe;

use crate::checked_mutex::CheckedData;
use crate::findings::Site;
use crate::slot::MAX_WORKERS;

/// Counters. They are consistent if `left == right`.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Ledger {
    pub(crate) left: u64,
    /// The changes of each slot. No other worker changes them.
    pub(crate) by_slot: [u64; MAX_WORKERS],
    pub(crate) right: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            left: 0,
            by_slot: [0; MAX_WORKERS],
            right: 0,
        }
    }
}

impl CheckedData for Ledger {
    const SITE: Site = Site::Ledger;

    fn fault(&self) -> Option<String> {
        let Self { left, right, .. } = self;
        (left != right).then(|| format!("left {left}, right {right}"))
    }

    fn repair(&mut self) {
        self.right = self.left;
    }
}
