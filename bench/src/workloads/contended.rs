//! A lock that many want: 2 to 64 processes count together.
//!
//! Each worker locks, adds one, works inside, unlocks, and works outside, again and
//! again, until it is told to stop. There are three kinds of *section*:
//!
//! | section | inside | outside, on average |
//! |---|---|---|
//! | short | one addition | 20 ns |
//! | medium | 250 ns | 500 ns |
//! | long | 5 µs | 10 µs |
//!
//! The work is a chain of multiplications, each of which needs the one before it, and
//! is measured out at the start of the run. Outside it varies at random between half
//! and one and a half times the average, so that no rhythm sets in. Worker `n` is kept
//! on processor `n`, modulo their number: two workers on a machine with two processors
//! do run at once.
//!
//! In a round every contestant has its turn in the same cell (section and number of
//! workers). From the same turn come
//!
//! * *operations per second*, of all workers together;
//! * *processor time per operation*, which shows what spinning costs the others: the
//!   work inside and outside is in it.
//!
//! From long turns, in rounds of their own, come
//!
//! * *the time to get the lock*: the clock that is read for each operation takes longer
//!   than a short section;
//! * *fairness*: the operations of the worker that had the fewest, as a part of those
//!   of the one that had the most. In a short turn it is the scheduler's: of eight
//!   workers, each has a processor for a few milliseconds at a time.
//!
//! After each turn the count must be exact: a lost update ends the run, and names the
//! contestant. 16 and 64 workers have fewer but longer rounds, long enough that
//! everybody gets a processor now and then; locks of which each operation is a system
//! call take part there with short sections only.

mod cell;
mod toil;

use crate::contestants::{Cost, Lock, Profile, Visitor, visit_all};
use crate::failure::Failure;
use crate::plan::{Plan, Progress, turns};
use crate::report::{Measure, Series};

use cell::{Cell, Clocked, Counted};
use toil::Pace;

const NAME: &str = "contended";

/// What is done inside and outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Short,
    Medium,
    Long,
}

impl Section {
    pub(crate) const ALL: [Self; 3] = [Self::Short, Self::Medium, Self::Long];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Medium => "medium",
            Self::Long => "long",
        }
    }

    /// Nanoseconds inside, and outside on average.
    fn nanos(self) -> (u32, u32) {
        match self {
            Self::Short => (0, 20),
            Self::Medium => (250, 500),
            Self::Long => (5_000, 10_000),
        }
    }
}

/// So many workers are there.
pub(crate) const CREWS: [usize; 5] = [2, 4, 8, 16, 64];

/// The name of a cell, as it stands in [`Series`].
pub(crate) fn name(section: Section, workers: usize) -> String {
    format!("{NAME}/{}/{workers} processes", section.name())
}

/// How often and how long everybody has a turn.
struct Rounds {
    counted: usize,
    clocked: usize,
    millis: Millis,
}

/// How long turns last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Millis {
    /// Where operations are counted,
    pub(super) counted: u64,
    /// and where each takes its time.
    pub(super) clocked: u64,
}

impl Rounds {
    fn of(plan: &Plan, workers: usize) -> Self {
        let (full, quick) = match workers {
            0..=8 => ((11, 40, 9, 250), (3, 15, 1, 60)),
            9..=16 => ((5, 100, 2, 400), (1, 30, 1, 60)),
            _ => ((3, 250, 1, 500), (1, 60, 1, 60)),
        };
        let (counted, counted_millis, clocked, clocked_millis) = plan.pick(full, quick);
        Self {
            counted,
            clocked,
            millis: Millis {
                counted: counted_millis,
                clocked: clocked_millis,
            },
        }
    }
}

pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let mut field = Field {
        progress,
        contestants: vec![],
    };
    visit_all(&mut field);
    let mut contestants = field.contestants;
    let cells: Vec<_> = Section::ALL
        .into_iter()
        .flat_map(|section| CREWS.map(|workers| (section, workers)))
        .collect();
    let pace = Pace::measure();
    let steps = cells.iter().map(|&(_, workers)| {
        let rounds = Rounds::of(plan, workers);
        rounds.counted + rounds.clocked
    });
    progress.begin(NAME, steps.sum());
    let mut series = vec![];
    for (section, workers) in cells {
        let rounds = Rounds::of(plan, workers);
        let cell = Cell::new(section, workers, rounds.millis, pace);
        let there = contestants
            .iter_mut()
            .filter(|contestant| takes_part(contestant.profile(), section, workers))
            .collect();
        series.extend(rounds_of(there, &cell, &rounds, progress)?);
    }
    Ok(series)
}

/// A turn in a cell, for other workloads: operations per second, fairness, and the times
/// to get the lock that 99 % and 99.9 % are below.
pub(super) fn turn_of<L: Lock>(
    section: Section,
    workers: usize,
    millis: Millis,
) -> impl Fn() -> Result<[f64; 4], Failure> {
    let cell = Cell::new(section, workers, millis, Pace::measure());
    move || {
        let mut lock = L::make()?;
        let counted = cell.count(&mut lock)?;
        let clocked = cell.clock(&mut lock)?;
        let Clocked {
            fairness,
            p99,
            p999,
            ..
        } = clocked;
        Ok([counted.per_second, fairness, p99, p999])
    }
}

/// All rounds of one cell.
fn rounds_of(
    mut contestants: Vec<&mut Box<dyn Contestant>>,
    cell: &Cell,
    rounds: &Rounds,
    progress: &Progress,
) -> Result<Vec<Series>, Failure> {
    let mut counted: Vec<Vec<Counted>> = contestants.iter().map(|_| vec![]).collect();
    let mut clocked: Vec<Vec<Clocked>> = contestants.iter().map(|_| vec![]).collect();
    let name = name(cell.section, cell.workers);
    for round in 0..rounds.counted {
        progress.step(&name)?;
        for turn in turns(round, contestants.len()) {
            counted[turn].push(contestants[turn].count(cell)?);
        }
    }
    for round in 0..rounds.clocked {
        progress.step(&name)?;
        for turn in turns(round, contestants.len()) {
            clocked[turn].push(contestants[turn].clock(cell)?);
        }
    }
    let mut series = vec![];
    for ((contestant, counted), clocked) in contestants.iter().zip(&counted).zip(&clocked) {
        let profile = contestant.profile();
        let mut report = |measure, rounds: Vec<f64>| {
            series.push(Series {
                workload: name.clone(),
                contestant: profile.name,
                survives: profile.survives,
                measure,
                rounds,
            });
        };
        let of_counted = |value: fn(&Counted) -> f64| counted.iter().map(value).collect();
        report(Measure::OperationsPerSecond, of_counted(|c| c.per_second));
        report(Measure::CpuNanosPerOperation, of_counted(|c| c.cpu_nanos));
        let of_clocked = |value: fn(&Clocked) -> f64| clocked.iter().map(value).collect();
        report(Measure::MinShareOfMax, of_clocked(|c| c.fairness));
        report(Measure::LatencyP50, of_clocked(|c| c.p50));
        report(Measure::LatencyP99, of_clocked(|c| c.p99));
        report(Measure::LatencyP999, of_clocked(|c| c.p999));
    }
    Ok(series)
}

fn takes_part(profile: Profile, section: Section, workers: usize) -> bool {
    match profile.cost {
        Cost::AtomicInstructions => true,
        Cost::SystemCalls => workers <= 8 || section == Section::Short,
    }
}

/// Who takes part.
struct Field<'a> {
    progress: &'a Progress,
    contestants: Vec<Box<dyn Contestant>>,
}

impl Visitor for Field<'_> {
    fn visit<L: Lock>(&mut self) {
        match L::make() {
            Ok(lock) => self.contestants.push(Box::new(One(lock))),
            Err(failure) => self.progress.left_out(L::PROFILE.name, &failure),
        }
    }
}

/// A lock, behind a pointer: what is called through it lasts for a turn.
trait Contestant {
    fn profile(&self) -> Profile;
    fn count(&mut self, cell: &Cell) -> Result<Counted, Failure>;
    fn clock(&mut self, cell: &Cell) -> Result<Clocked, Failure>;
}

struct One<L>(L);

impl<L: Lock> Contestant for One<L> {
    fn profile(&self) -> Profile {
        L::PROFILE
    }

    fn count(&mut self, cell: &Cell) -> Result<Counted, Failure> {
        cell.count(&mut self.0)
    }

    fn clock(&mut self, cell: &Cell) -> Result<Clocked, Failure> {
        cell.clock(&mut self.0)
    }
}
