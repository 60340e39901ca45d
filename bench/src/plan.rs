//! Amount and order of measurements.

/// The amount of measurements.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `true` for a few short rounds.
    pub(crate) quick: bool,
}

impl Plan {
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
    fn order_contains_each_contestant_once() {
        for round in 0..9 {
            let mut all: Vec<usize> = order_in_round(round, 5).collect();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4]);
        }
    }
}
