//! Uncontended lock: one process on one processor locks, adds one and unlocks.
//!
//! The clock measures batches of operations, so that its cost does not matter. The
//! contestants alternate batch by batch.

use std::hint::black_box;
use std::time::Instant;

use crate::affinity::PinnedToFirst;
use crate::contestants::{Cost, ListStores, Lock, Profile, Visitor, visit_all};
use crate::failure::Failure;
use crate::plan::{Plan, order_in_round};
use crate::progress::Progress;
use crate::series::{Measure, Series};

const NAME: &str = "uncontended";

pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let rounds = plan.pick(401, 41);
    let mut collector = Collector {
        plan,
        progress,
        contestants: vec![],
    };
    visit_all(&mut collector);
    collector.visit::<ListStores>();
    let mut contestants = collector.contestants;
    let mut series: Vec<Series> = contestants
        .iter()
        .map(|contestant| Series {
            workload: NAME.to_owned(),
            contestant: contestant.profile().name,
            survives: contestant.profile().survives,
            measure: Measure::NanosPerOperation,
            rounds: Vec::with_capacity(rounds),
        })
        .collect();

    progress.begin(NAME, rounds);
    let pinned = PinnedToFirst::new()?;
    for contestant in &mut contestants {
        contestant.batch(); // Warms up.
    }
    for round in 0..rounds {
        progress.step("")?;
        for index in order_in_round(round, contestants.len()) {
            series[index].rounds.push(contestants[index].batch());
        }
    }
    drop(pinned);

    for contestant in &contestants {
        contestant.check()?;
    }
    Ok(series)
}

/// Collects the contestants that take part and that this machine supports.
struct Collector<'a> {
    plan: &'a Plan,
    progress: &'a Progress,
    contestants: Vec<Box<dyn Contestant>>,
}

impl Visitor for Collector<'_> {
    fn visit<L: Lock>(&mut self) {
        if !self.plan.includes(L::PROFILE.name) {
            return;
        }
        match L::create() {
            Ok(lock) => self.contestants.push(Box::new(Counter { lock, done: 0 })),
            Err(failure) => self.progress.left_out(L::PROFILE.name, &failure),
        }
    }
}

/// A lock of any type. A virtual call happens once per batch.
trait Contestant {
    fn profile(&self) -> Profile;
    /// Runs a batch and returns nanoseconds per operation.
    fn batch(&mut self) -> f64;
    /// Checks that no update was lost.
    fn check(&self) -> Result<(), Failure>;
}

struct Counter<L> {
    lock: L,
    done: u64,
}

impl<L: Lock> Contestant for Counter<L> {
    fn profile(&self) -> Profile {
        L::PROFILE
    }

    fn batch(&mut self) -> f64 {
        let operations = match L::PROFILE.cost {
            Cost::AtomicInstructions => 20_000,
            Cost::SystemCalls => 500,
        };
        self.done += u64::from(operations);
        let start = Instant::now();
        count(&self.lock, operations);
        start.elapsed().as_nanos() as f64 / f64::from(operations)
    }

    fn check(&self) -> Result<(), Failure> {
        match self.lock.with(|count| *count) {
            count if count == self.done => Ok(()),
            count => Err(Failure::WrongResult {
                contestant: L::PROFILE.name,
                what: format!("counted {count} of {}", self.done),
            }),
        }
    }
}

/// Runs the measured loop.
#[inline(never)]
fn count(lock: &impl Lock, operations: u32) {
    for _ in 0..operations {
        lock.with(|count| *black_box(count) += 1);
    }
}
