//! A value that has been made, read by one thread.

use std::hint::black_box;
use std::sync::OnceLock;

use shm_sync::{Segment, ShmOnceLock};

use super::one_thread::{self, Batch};
use crate::failure::Failure;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{SHM_SYNC, Series, Survives};
use crate::workloads::rounds::{Entry, run_rounds};

pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let own = Segment::anonymous(ShmOnceLock::<u64>::new())?;
    own.get_or_init(|| 1)?;
    let standard = Box::new(OnceLock::<u64>::from(1));
    let entries = vec![
        entry(SHM_SYNC, Survives::Kills, move || {
            black_box(&own).get().copied()
        }),
        entry("std::sync (threads)", Survives::DoesNotApply, move || {
            black_box(&standard).get().copied()
        }),
    ];
    run_rounds(
        plan,
        "once-lock",
        entries,
        one_thread::rounds(plan),
        progress,
    )
}

fn entry(
    contestant: &'static str,
    survives: Survives,
    get: impl Fn() -> Option<u64> + 'static,
) -> Entry {
    let contestant_and_survives = (contestant, survives);
    let operate = move || match get() {
        Some(1) => Ok(()),
        other => Err(Failure::WrongResult {
            contestant,
            what: format!("{other:?} was read instead of 1"),
        }),
    };
    one_thread::entry(
        "once-lock/get",
        "get",
        contestant_and_survives,
        Batch::Long,
        operate,
    )
}
