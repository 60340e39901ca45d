//! Amount and order of measurements, and the contestants that take part.

use crate::series::is_own;

/// The amount of measurements.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `true` for a few short rounds.
    quick: bool,
    /// `true` if only the contestants of this crate take part.
    own_only: bool,
}

impl Plan {
    /// Creates a plan in which all contestants take part.
    pub(crate) fn new(quick: bool) -> Self {
        Self {
            quick,
            own_only: false,
        }
    }

    /// Creates a plan of a few short rounds, in which only the contestants of this
    /// crate take part.
    pub(crate) fn own() -> Self {
        Self {
            quick: true,
            own_only: true,
        }
    }

    /// Returns whether a contestant takes part.
    pub(crate) fn includes(&self, contestant: &str) -> bool {
        !self.own_only || is_own(contestant)
    }

    /// Returns `quick` in quick mode, and `full` otherwise.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// Returns the order of the contestants in a round. Each contestant comes first in some
/// rounds, and its predecessor changes from round to round.
pub(crate) fn order_in_round(round: usize, contestants: usize) -> impl Iterator<Item = usize> {
    (0..contestants).map(move |position| {
        let position = (position + round / 2) % contestants;
        match round % 2 {
            0 => position,
            _ => contestants - 1 - position,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_plan_excludes_peers() {
        let names = [
            "shm-sync",
            "shm-sync 1 to 1",
            "shm_sync.h",
            "pthread robust",
        ];
        let taking_part = |plan: Plan| names.map(|name| plan.includes(name));
        assert_eq!(taking_part(Plan::new(false)), [true; 4]);
        assert_eq!(taking_part(Plan::own()), [true, true, true, false]);
    }

    #[test]
    fn order_contains_each_contestant_once() {
        for round in 0..9 {
            let mut all: Vec<usize> = order_in_round(round, 5).collect();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4]);
        }
    }
}
