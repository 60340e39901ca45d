//! Operations of one thread that no other thread disturbs.
//!
//! The clock measures batches of operations, so that its cost does not matter.

use std::time::Instant;

use crate::affinity::PinnedToFirst;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::series::{Measure, Survives};
use crate::workloads::rounds::Entry;

/// The number of operations in a batch.
#[derive(Clone, Copy)]
pub(super) enum Batch {
    /// For operations without system calls.
    Long,
    /// For operations with system calls.
    Short,
}

impl Batch {
    fn len(self) -> u32 {
        match self {
            Self::Long => 20_000,
            Self::Short => 1_000,
        }
    }
}

/// The number of rounds.
pub(super) fn rounds(plan: &Plan) -> usize {
    plan.pick(101, 15)
}

/// Returns the entry of an operation in a table and a column.
pub(super) fn entry(
    table: &str,
    column: &'static str,
    (contestant, survives): (&'static str, Survives),
    batch: Batch,
    mut operate: impl FnMut() -> Result<(), Failure> + 'static,
) -> Entry {
    Entry {
        workload: table.to_owned(),
        contestant,
        survives,
        columns: vec![(column, Measure::NanosPerOperation)],
        round: Box::new(move || Ok(vec![time(batch.len(), &mut operate)?])),
    }
}

/// Returns nanoseconds per operation.
#[inline(never)]
fn time(
    operations: u32,
    operate: &mut impl FnMut() -> Result<(), Failure>,
) -> Result<f64, Failure> {
    let _pinned = PinnedToFirst::new()?;
    for _ in 0..operations / 10 {
        operate()?;
    }
    let start = Instant::now();
    for _ in 0..operations {
        operate()?;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(operations))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let mut done = 0;
        let nanos = time(100, &mut || {
            done += 1;
            Ok(())
        });
        assert!(nanos.unwrap() >= 0.0);
        assert_eq!(done, 110);
    }
}
