//! Contended lock: 2 to 64 processes count together.
//!
//! Each worker locks, adds one, works inside the lock, unlocks and works outside, until
//! the benchmark stops it. There are three kinds of *section*:
//!
//! | section | inside | outside, on average |
//! |---|---|---|
//! | short | one addition | 20 ns |
//! | medium | 250 ns | 500 ns |
//! | long | 5 µs | 10 µs |
//!
//! The work is a chain of dependent multiplications. Its speed is measured at the start
//! of the run. The work outside varies at random between 0.5 and 1.5 times the
//! average, so that the workers do not synchronise. Worker `n` runs on processor `n`,
//! modulo the number of processors. Therefore two workers on two processors run at the
//! same time.
//!
//! In a round, every contestant is measured with the same *setup*: kind of section and
//! number of workers. One measurement yields
//!
//! * *operations per second* of all workers together;
//! * *processor time per operation*, including the work. It shows the cost of spinning.
//!
//! Longer measurements in separate rounds yield
//!
//! * *the time to lock*. Reading the clock for each operation takes longer than a short
//!   section, so these measurements are separate.
//! * *fairness*: operations of the least busy worker relative to those of the busiest.
//!   Short measurements would show the scheduler instead, because each of eight workers
//!   gets a processor for a few milliseconds at a time.
//!
//! After each measurement the count must be exact. A lost update ends the run, and the
//! failure names the contestant. 16 and 64 workers have fewer but longer rounds, so
//! that each worker gets a processor several times. Locks that make system calls only
//! take part there with short sections.

pub(crate) mod section;
mod setup;

use super::busy_work::Speed;
use crate::contestants::{Cost, FutexInTwoLines, ListedFutex, Lock, Profile, Visitor, visit_all};
use crate::failure::Failure;
use crate::plan::{Plan, order_in_round};
use crate::progress::Progress;
use crate::series::{Measure, Series};

use section::{Millis, NAME, Section, WORKER_COUNTS};
use setup::{Latency, Setup, Throughput};

/// The number of rounds, and the duration of each measurement.
struct Rounds {
    counted: usize,
    clocked: usize,
    millis: Millis,
}

impl Rounds {
    fn new(plan: &Plan, workers: usize) -> Self {
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
    let mut collector = Collector {
        plan,
        progress,
        contestants: vec![],
    };
    visit_all(&mut collector);
    collector.visit::<FutexInTwoLines>();
    collector.visit::<ListedFutex>();
    let mut contestants = collector.contestants;
    let setups: Vec<_> = Section::ALL
        .into_iter()
        .flat_map(|section| WORKER_COUNTS.map(|workers| (section, workers)))
        .collect();
    let speed = Speed::measure();
    let steps = setups.iter().map(|&(_, workers)| {
        let rounds = Rounds::new(plan, workers);
        rounds.counted + rounds.clocked
    });
    progress.begin(NAME, steps.sum());
    let mut series = vec![];
    for (section, workers) in setups {
        let rounds = Rounds::new(plan, workers);
        let setup = Setup::new(section, workers, rounds.millis, speed);
        let taking_part = contestants
            .iter_mut()
            .filter(|contestant| takes_part(contestant.profile(), section, workers))
            .collect();
        series.extend(measure_rounds(taking_part, &setup, &rounds, progress)?);
    }
    Ok(series)
}

/// Returns a function that measures a setup for another workload. It returns operations
/// per second, fairness, and the 99 % and 99.9 % quantiles of the time to lock.
pub(super) fn measure_once<L: Lock>(
    section: Section,
    workers: usize,
    millis: Millis,
) -> impl Fn() -> Result<[f64; 4], Failure> {
    let setup = Setup::new(section, workers, millis, Speed::measure());
    move || {
        let mut lock = L::create()?;
        let throughput = setup.measure_throughput(&mut lock)?;
        let latency = setup.measure_latency(&mut lock)?;
        let Latency {
            fairness,
            p99,
            p999,
            ..
        } = latency;
        Ok([throughput.per_second, fairness, p99, p999])
    }
}

/// Measures all rounds of one setup.
fn measure_rounds(
    mut contestants: Vec<&mut Box<dyn Contestant>>,
    setup: &Setup,
    rounds: &Rounds,
    progress: &Progress,
) -> Result<Vec<Series>, Failure> {
    let mut throughputs: Vec<Vec<Throughput>> = contestants.iter().map(|_| vec![]).collect();
    let mut latencies: Vec<Vec<Latency>> = contestants.iter().map(|_| vec![]).collect();
    let name = section::name(setup.section, setup.workers);
    for round in 0..rounds.counted {
        progress.step(&name)?;
        for index in order_in_round(round, contestants.len()) {
            throughputs[index].push(contestants[index].measure_throughput(setup)?);
        }
    }
    for round in 0..rounds.clocked {
        progress.step(&name)?;
        for index in order_in_round(round, contestants.len()) {
            latencies[index].push(contestants[index].measure_latency(setup)?);
        }
    }
    let mut series = vec![];
    for ((contestant, throughputs), latencies) in
        contestants.iter().zip(&throughputs).zip(&latencies)
    {
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
        let throughput = |value: fn(&Throughput) -> f64| throughputs.iter().map(value).collect();
        report(Measure::OperationsPerSecond, throughput(|t| t.per_second));
        report(Measure::CpuNanosPerOperation, throughput(|t| t.cpu_nanos));
        let latency = |value: fn(&Latency) -> f64| latencies.iter().map(value).collect();
        report(Measure::MinShareOfMax, latency(|l| l.fairness));
        report(Measure::LatencyP50, latency(|l| l.p50));
        report(Measure::LatencyP99, latency(|l| l.p99));
        report(Measure::LatencyP999, latency(|l| l.p999));
    }
    Ok(series)
}

/// Returns whether a lock takes part in a setup. Locks that make system calls are too
/// slow for some.
fn takes_part(profile: Profile, section: Section, workers: usize) -> bool {
    match profile.cost {
        Cost::AtomicInstructions => true,
        Cost::SystemCalls => workers <= 8 || section == Section::Short,
    }
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
            Ok(lock) => self.contestants.push(Box::new(Typed(lock))),
            Err(failure) => self.progress.left_out(L::PROFILE.name, &failure),
        }
    }
}

/// A lock of any type. A virtual call happens once per measurement.
trait Contestant {
    fn profile(&self) -> Profile;
    fn measure_throughput(&mut self, setup: &Setup) -> Result<Throughput, Failure>;
    fn measure_latency(&mut self, setup: &Setup) -> Result<Latency, Failure>;
}

struct Typed<L>(L);

impl<L: Lock> Contestant for Typed<L> {
    fn profile(&self) -> Profile {
        L::PROFILE
    }

    fn measure_throughput(&mut self, setup: &Setup) -> Result<Throughput, Failure> {
        setup.measure_throughput(&mut self.0)
    }

    fn measure_latency(&mut self, setup: &Setup) -> Result<Latency, Failure> {
        setup.measure_latency(&mut self.0)
    }
}
