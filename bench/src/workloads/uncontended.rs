//! A free lock: lock, add one, unlock, by one process on one processor.
//!
//! What is timed is a batch of operations, so that the clock costs nothing. The
//! contestants take turns batch by batch.

use std::hint::black_box;
use std::time::Instant;

use crate::contestants::{Cost, Lock, Profile, Visitor, visit_all};
use crate::crew::Seated;
use crate::failure::Failure;
use crate::plan::{Plan, Progress, turns};
use crate::report::{Measure, Series};

const NAME: &str = "uncontended";

pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let rounds = plan.pick(401, 41);
    let mut field = Field {
        progress,
        contestants: vec![],
    };
    visit_all(&mut field);
    let mut contestants = field.contestants;
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
    let seated = Seated::first()?;
    for contestant in &mut contestants {
        contestant.batch(); // to warm up
    }
    for round in 0..rounds {
        progress.step("")?;
        for turn in turns(round, contestants.len()) {
            series[turn].rounds.push(contestants[turn].batch());
        }
    }
    drop(seated);

    for contestant in &contestants {
        contestant.check()?;
    }
    Ok(series)
}

/// Who takes part.
struct Field<'a> {
    progress: &'a Progress,
    contestants: Vec<Box<dyn Contestant>>,
}

impl Visitor for Field<'_> {
    fn visit<L: Lock>(&mut self) {
        match L::make() {
            Ok(lock) => self.contestants.push(Box::new(One { lock, done: 0 })),
            Err(failure) => self.progress.left_out(L::PROFILE.name, &failure),
        }
    }
}

/// A lock, behind a pointer: what is called through it lasts for a batch.
trait Contestant {
    fn profile(&self) -> Profile;
    /// Nanoseconds per operation.
    fn batch(&mut self) -> f64;
    fn check(&self) -> Result<(), Failure>;
}

struct One<L> {
    lock: L,
    done: u64,
}

impl<L: Lock> Contestant for One<L> {
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
            count => Err(Failure::Wrong {
                contestant: L::PROFILE.name,
                what: format!("counted {count} of {}", self.done),
            }),
        }
    }
}

/// The measured loop.
#[inline(never)]
fn count(lock: &impl Lock, operations: u32) {
    for _ in 0..operations {
        lock.with(|count| *black_box(count) += 1);
    }
}
