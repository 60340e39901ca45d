//! All points of an operation, and what was found there. Several experiments run at a
//! time.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use shm_sync::{Segment, SegmentOptions, ShmSafe};

use super::arena::{Fault, Observation};
use super::experiment::{self, Found, Point, Reached};
use super::operation::Case;
use super::subject::Subject;
use super::trace::Trace;
use crate::support::{Child, number_from_env, spawn};

/// The number of experiments at a time. Most of them sleep most of the time.
const PARALLEL: usize = 6;

/// The choice of the points, and the limits for stuck survivors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The number of instructions between two kills.
    pub(crate) stride: u64,
    /// The time after which a survivor counts as stuck.
    pub(crate) time_limit: Duration,
    /// The number of experiments with stuck survivors after which the run ends.
    max_stuck: u32,
}

impl Settings {
    /// Returns the settings for a subject that must have no fault. No load delays a
    /// healthy survivor for so long.
    pub(crate) fn with_stride(stride: u64) -> Self {
        Self {
            stride: number_from_env("SHM_SYNC_KILL_STRIDE").unwrap_or(stride),
            time_limit: Duration::from_secs(20),
            max_stuck: 6,
        }
    }

    /// Returns the settings for a subject that must have a fault.
    pub(crate) fn for_planted_fault(stride: u64) -> Self {
        Self {
            time_limit: Duration::from_secs(1),
            max_stuck: u32::MAX,
            ..Self::with_stride(stride)
        }
    }
}

/// The result of one experiment, in shared memory.
#[derive(ShmSafe)]
#[repr(C)]
struct Record {
    /// 0: not run. 1: killed in its operation. 2: killed after its operation.
    reached: AtomicU32,
    observation: AtomicU32,
    faults: AtomicU32,
    reserved: AtomicU32,
    /// In nanoseconds, plus one. 0 means that there is none.
    next_lock: AtomicU64,
    waited_for_lock: AtomicU64,
    waited_on_condvar: AtomicU64,
}

impl Record {
    fn write(&self, found: &Found) {
        let order = Ordering::SeqCst;
        let put = |field: &AtomicU64, time: Option<Duration>| {
            let nanos = time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap() + 1);
            field.store(nanos, order);
        };
        self.observation
            .store(found.observation.map_or(0, Observation::code), order);
        self.faults.store(found.faults, order);
        put(&self.next_lock, found.next_lock);
        put(&self.waited_for_lock, found.waited_for_lock);
        put(&self.waited_on_condvar, found.waited_on_condvar);
        let reached = match found.reached {
            Reached::Point => 1,
            Reached::End => 2,
        };
        self.reached.store(reached, order);
    }

    fn read(&self) -> Option<Found> {
        let order = Ordering::SeqCst;
        let get = |field: &AtomicU64| field.load(order).checked_sub(1).map(Duration::from_nanos);
        Some(Found {
            reached: match self.reached.load(order) {
                0 => return None,
                1 => Reached::Point,
                _ => Reached::End,
            },
            observation: Observation::from_code(self.observation.load(order)),
            next_lock: get(&self.next_lock),
            waited_for_lock: get(&self.waited_for_lock),
            waited_on_condvar: get(&self.waited_on_condvar),
            faults: self.faults.load(order),
        })
    }
}

/// The results of an operation in a scene.
pub(crate) struct Report {
    case: Case,
    instructions: u64,
    stride: u64,
    /// The points, and what was found at each. `None` if the point was left out.
    pub(crate) found: Vec<(Point, Option<Found>)>,
    took: Duration,
}

/// Kills victims at all points of an operation.
pub(crate) fn kill_at_all_points<S: Subject>(case: Case, settings: Settings) -> Report {
    let begun = Instant::now();
    let trace = Trace::of::<S>(case);
    // Another offset in each run.
    let offset = u64::from(std::process::id());
    let points = trace.points(settings.stride, offset);
    let mut found = run::<S>(case, settings, points);
    // The operation may be a little longer than in the trace.
    let mut end = trace.instructions;
    let was_killed_inside = |(_, found): &(Point, Option<Found>)| {
        found.is_some_and(|found| found.reached == Reached::Point)
    };
    while settings.stride == 1 && found.iter().all(was_killed_inside) {
        let more = (end + 1..=end + 32).map(Point::After).collect();
        end += 32;
        found.extend(run::<S>(case, settings, more));
    }
    Report {
        case,
        instructions: trace.instructions,
        stride: settings.stride,
        found,
        took: begun.elapsed(),
    }
}

/// Kills one victim at each point, several at a time.
fn run<S: Subject>(
    case: Case,
    settings: Settings,
    points: Vec<Point>,
) -> Vec<(Point, Option<Found>)> {
    let records = SegmentOptions::<[Record]>::new()
        .anonymous_with_len("records", points.len(), |_| {})
        .unwrap();
    let next = Segment::anonymous(AtomicUsize::new(0)).unwrap();
    let stuck = Segment::anonymous(AtomicU32::new(0)).unwrap();
    let worker = || {
        while stuck.load(Ordering::SeqCst) < settings.max_stuck {
            let number = next.fetch_add(1, Ordering::SeqCst);
            let Some(&point) = points.get(number) else {
                break;
            };
            let found = experiment::kill_at::<S>(case, point, settings.time_limit);
            records[number].write(&found);
            stuck.fetch_add(u32::from(found.is_stuck()), Ordering::SeqCst);
        }
    };
    let workers: Vec<Child> = (0..PARALLEL).map(|_| spawn(worker)).collect();
    workers.into_iter().for_each(Child::join);
    let found = records.iter().map(Record::read);
    points.into_iter().zip(found).collect()
}

impl Report {
    fn all(&self) -> impl Iterator<Item = &Found> {
        self.found.iter().filter_map(|(_, found)| found.as_ref())
    }

    fn count(&self, what: impl Fn(&Found) -> bool) -> usize {
        self.all().filter(|found| what(found)).count()
    }

    /// Returns the number of victims that were killed in their operation.
    pub(crate) fn killed(&self) -> usize {
        self.count(|found| found.reached == Reached::Point)
    }

    pub(crate) fn waited_on_condvar(&self) -> Times {
        Times::of(self.all().map(|found| found.waited_on_condvar))
    }

    /// Returns the points with that fault.
    pub(crate) fn points_with(&self, fault: Fault) -> Vec<Point> {
        let with = self
            .found
            .iter()
            .filter(|(_, found)| found.is_some_and(|found| found.faults & fault.bit() != 0));
        with.map(|&(point, _)| point).collect()
    }

    /// Returns the number of experiments with a fault.
    pub(crate) fn faulty(&self) -> usize {
        self.count(|found| found.faults != 0)
    }

    /// Returns the number of points that were left out, because too many survivors were
    /// stuck.
    pub(crate) fn left_out(&self) -> usize {
        self.found
            .iter()
            .filter(|(_, found)| found.is_none())
            .count()
    }
}

/// The columns of a report.
pub(crate) const HEADER: [&str; 11] = [
    "operation",
    "scene",
    "instructions",
    "kills",
    "clean, before",
    "clean, after",
    "`Poisoned`",
    "next lock, median / max",
    "asleep on the lock",
    "asleep on the condvar",
    "faults",
];

/// The columns of a report on a subject that must have a fault.
pub(crate) const PLANTED_HEADER: [&str; 6] = [
    "subject",
    "operation",
    "scene",
    "kills",
    "with a fault",
    "which",
];

impl Report {
    /// Returns the row of a table with the columns of [`HEADER`].
    pub(crate) fn row(&self) -> Vec<String> {
        let observed = Observation::ALL.map(|kind| {
            let count = self.count(|found| found.observation == Some(kind));
            count.to_string()
        });
        let times = |of: fn(&Found) -> Option<Duration>| Times::of(self.all().map(of)).to_string();
        let [before, after, poisoned] = observed;
        vec![
            self.case.operation.to_string(),
            format!("{:?}", self.case.scene),
            self.instructions.to_string(),
            self.kills(),
            before,
            after,
            poisoned,
            times(|found| found.next_lock),
            times(|found| found.waited_for_lock),
            times(|found| found.waited_on_condvar),
            self.faulty().to_string(),
        ]
    }

    /// Returns the row of a table with the columns of [`PLANTED_HEADER`].
    pub(crate) fn planted_row(&self, subject: &str) -> Vec<String> {
        let faults = Fault::ALL.into_iter().filter_map(|fault| {
            let count = self.points_with(fault).len();
            (count > 0).then(|| format!("{} ({count})", fault.text()))
        });
        vec![
            subject.to_owned(),
            self.case.operation.to_string(),
            format!("{:?}", self.case.scene),
            self.kills(),
            self.faulty().to_string(),
            faults.collect::<Vec<_>>().join(", "),
        ]
    }

    fn kills(&self) -> String {
        match self.stride {
            1 => self.killed().to_string(),
            stride => format!("{} (one in {stride})", self.killed()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { operation, scene } = self.case;
        write!(f, "{operation}, {scene:?}:")?;
        for fault in Fault::ALL {
            let points = self.points_with(fault);
            if !points.is_empty() {
                write!(f, "\n  {fault:?} at {} points: {points:?}", points.len())?;
            }
        }
        if self.left_out() > 0 {
            write!(f, "\n  {} points were left out", self.left_out())?;
        }
        write!(
            f,
            "\n  {} kills, stride {}, in {:.1?}",
            self.killed(),
            self.stride,
            self.took
        )
    }
}

/// Some times, in ascending order.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    fn of(times: impl Iterator<Item = Option<Duration>>) -> Self {
        let mut times: Vec<Duration> = times.flatten().collect();
        times.sort();
        Self(times)
    }

    pub(crate) fn median(&self) -> Option<Duration> {
        self.0.get(self.0.len() / 2).copied()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.median(), self.0.last()) {
            (Some(median), Some(max)) => write!(f, "{median:.1?} / {max:.1?}"),
            _ => f.write_str("–"),
        }
    }
}
