//! The values that a title states: those of shm-sync and of its peer.

use crate::cell::Cell;
use crate::series::{SHM_SYNC, three_digits};

/// The cells of one plot.
#[derive(Debug)]
pub(super) struct Finding<'a> {
    cells: &'a [&'a Cell],
    pub(super) peer: &'a str,
}

impl<'a> Finding<'a> {
    pub(super) fn new(cells: &'a [&'a Cell], peer: &'a str) -> Self {
        Self { cells, peer }
    }

    /// Returns the ratio of shm-sync to the baseline in a column, as in the table.
    pub(super) fn ratio(&self, column: &str) -> Option<String> {
        Some(three_digits(self.find(SHM_SYNC, column)?.ratio?))
    }

    /// Returns the smallest and the largest ratio of shm-sync to the baseline.
    pub(super) fn ratios(&self) -> Option<(String, String)> {
        let own = self.cells.iter().filter(|cell| cell.contestant == SHM_SYNC);
        let ratios = || own.clone().filter_map(|cell| cell.ratio);
        let smallest = ratios().min_by(f64::total_cmp)?;
        let largest = ratios().max_by(f64::total_cmp)?;
        Some((three_digits(smallest), three_digits(largest)))
    }

    /// Returns the medians of shm-sync and of the peer in a column.
    pub(super) fn values(&self, column: &str) -> Option<(String, String)> {
        let peer = self.find(self.peer, column)?;
        Some((self.find(SHM_SYNC, column)?.value(), peer.value()))
    }

    fn find(&self, contestant: &str, column: &str) -> Option<&'a Cell> {
        let mut cells = self.cells.iter().copied();
        cells.find(|cell| cell.contestant == contestant && cell.column() == column)
    }
}
