//! The targets of other languages.

use super::target::{Bound, Run, Target};
use crate::series::Measure;
use crate::workloads::languages::{HEADER, PTHREAD, SERIES};

/// Returns the targets of all workloads that were measured.
pub(super) fn evaluate(run: Run<'_>) -> Option<Target> {
    let measure = Measure::NanosPerOperation;
    Target::ratio(
        "uncontended lock in C: time / raw robust mutex",
        Bound::AtMost(1.1),
        run.ratio(SERIES, measure, HEADER, PTHREAD),
    )
}
