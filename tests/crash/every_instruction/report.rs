//! All points of a way, in lanes side by side, and what was found at them.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use shm_sync::{Segment, SegmentOptions, ShmSafe};

use super::arena::{Fault, Sight};
use super::experiment::{self, Found, Point, Reached};
use super::operation::Way;
use super::subject::Subject;
use super::survey::Survey;
use crate::support::{Child, number_from_env, spawn};

/// Most experiments sleep most of the time.
const LANES: usize = 6;

/// How the points of a way are chosen, and how survivors are judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rigour {
    /// Every how many instructions the victim is killed.
    pub(crate) stride: u64,
    /// How long survivors may take for anything before they count as stuck.
    pub(crate) patience: Duration,
    /// After how many experiments with stuck survivors there are no more.
    enough: u32,
}

impl Rigour {
    /// For what must hold. No load makes a healthy survivor take so long.
    pub(crate) fn with_stride(stride: u64) -> Self {
        Self {
            stride: number_from_env("SHM_SYNC_KILL_STRIDE").unwrap_or(stride),
            patience: Duration::from_secs(20),
            enough: 6,
        }
    }

    /// For what must fail.
    pub(crate) fn for_a_planted_fault(stride: u64) -> Self {
        Self {
            patience: Duration::from_secs(1),
            enough: u32::MAX,
            ..Self::with_stride(stride)
        }
    }
}

/// What one experiment has found, for the process that sums up.
#[derive(ShmSafe)]
#[repr(C)]
struct Record {
    /// 0: not run; 1: killed on its way; 2: killed at the end of it.
    reached: AtomicU32,
    sight: AtomicU32,
    faults: AtomicU32,
    reserved: AtomicU32,
    /// In nanoseconds, plus one; 0: there was none.
    next_lock: AtomicU64,
    slept_on_lock: AtomicU64,
    slept_on_condvar: AtomicU64,
}

impl Record {
    fn write(&self, found: &Found) {
        let order = Ordering::SeqCst;
        let put = |place: &AtomicU64, time: Option<Duration>| {
            let nanos = time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap() + 1);
            place.store(nanos, order);
        };
        self.sight.store(found.sight.map_or(0, Sight::code), order);
        self.faults.store(found.faults, order);
        put(&self.next_lock, found.next_lock);
        put(&self.slept_on_lock, found.slept_on_lock);
        put(&self.slept_on_condvar, found.slept_on_condvar);
        let reached = match found.reached {
            Reached::ThePoint => 1,
            Reached::TheEnd => 2,
        };
        self.reached.store(reached, order);
    }

    fn read(&self) -> Option<Found> {
        let order = Ordering::SeqCst;
        let get = |place: &AtomicU64| place.load(order).checked_sub(1).map(Duration::from_nanos);
        Some(Found {
            reached: match self.reached.load(order) {
                0 => return None,
                1 => Reached::ThePoint,
                _ => Reached::TheEnd,
            },
            sight: Sight::from_code(self.sight.load(order)),
            next_lock: get(&self.next_lock),
            slept_on_lock: get(&self.slept_on_lock),
            slept_on_condvar: get(&self.slept_on_condvar),
            faults: self.faults.load(order),
        })
    }
}

/// What was found on a way.
pub(crate) struct Report {
    way: Way,
    instructions: u64,
    stride: u64,
    /// Where victims were killed, and what was found there; nothing if that was not
    /// tried any more.
    pub(crate) found: Vec<(Point, Option<Found>)>,
    took: Duration,
}

/// Kills victims at all points of a way.
pub(crate) fn kill_everywhere<S: Subject>(way: Way, rigour: Rigour) -> Report {
    let begun = Instant::now();
    let survey = Survey::of::<S>(way);
    // Another each time that this is run.
    let offset = u64::from(std::process::id());
    let points = survey.points(rigour.stride, offset);
    let mut found = run::<S>(way, rigour, points);
    // The way may be a little longer than it was the first time.
    let mut end = survey.instructions;
    let is_on_its_way = |(_, found): &(Point, Option<Found>)| {
        found.is_some_and(|found| found.reached == Reached::ThePoint)
    };
    while rigour.stride == 1 && found.iter().all(is_on_its_way) {
        let more = (end + 1..=end + 32).map(Point::After).collect();
        end += 32;
        found.extend(run::<S>(way, rigour, more));
    }
    Report {
        way,
        instructions: survey.instructions,
        stride: rigour.stride,
        found,
        took: begun.elapsed(),
    }
}

/// Kills one victim at each of the points, several at a time.
fn run<S: Subject>(way: Way, rigour: Rigour, points: Vec<Point>) -> Vec<(Point, Option<Found>)> {
    let records = SegmentOptions::new()
        .anonymous_with_len::<[Record]>("records", points.len(), |_| {})
        .unwrap();
    let next = Segment::anonymous(AtomicUsize::new(0)).unwrap();
    let stuck = Segment::anonymous(AtomicU32::new(0)).unwrap();
    let lane = || {
        while stuck.load(Ordering::SeqCst) < rigour.enough {
            let number = next.fetch_add(1, Ordering::SeqCst);
            let Some(&point) = points.get(number) else {
                break;
            };
            let found = experiment::kill_at::<S>(way, point, rigour.patience);
            records[number].write(&found);
            stuck.fetch_add(u32::from(found.is_stuck()), Ordering::SeqCst);
        }
    };
    let lanes: Vec<Child> = (0..LANES).map(|_| spawn(lane)).collect();
    lanes.into_iter().for_each(Child::join);
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

    /// How many victims were killed on their way.
    pub(crate) fn killed(&self) -> usize {
        self.count(|found| found.reached == Reached::ThePoint)
    }

    pub(crate) fn slept_on_condvar(&self) -> Times {
        Times::of(self.all().map(|found| found.slept_on_condvar))
    }

    /// Where that was found.
    pub(crate) fn points_with(&self, fault: Fault) -> Vec<Point> {
        let with = self
            .found
            .iter()
            .filter(|(_, found)| found.is_some_and(|found| found.faults & fault.bit() != 0));
        with.map(|&(point, _)| point).collect()
    }

    /// How many experiments had a fault.
    pub(crate) fn faulty(&self) -> usize {
        self.count(|found| found.faults != 0)
    }

    /// How many had to be left out, because too many survivors were stuck.
    pub(crate) fn left_out(&self) -> usize {
        self.found
            .iter()
            .filter(|(_, found)| found.is_none())
            .count()
    }
}

/// The columns of a [`Visitor`].
pub(crate) const HEADINGS: &str = "\
| operation | scene | instructions | kills | clean, before | clean, after | `Poisoned` \
| next lock, median / max | asleep on the lock | asleep on the condvar | faults |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Way { operation, scene } = self.way;
        let [before, after, poisoned] =
            Sight::ALL.map(|sight| self.count(|found| found.sight == Some(sight)));
        let next_lock = Times::of(self.all().map(|found| found.next_lock));
        let on_lock = Times::of(self.all().map(|found| found.slept_on_lock));
        write!(
            f,
            "| {operation:?} | {scene:?} | {} | {} | {before} | {after} | {poisoned} | \
             {next_lock} | {on_lock} | {} | {} |",
            self.instructions,
            self.killed(),
            self.slept_on_condvar(),
            self.faulty(),
        )?;
        for fault in Fault::ALL {
            let points = self.points_with(fault);
            if !points.is_empty() {
                write!(f, "\n  {fault:?} at {} points: {points:?}", points.len())?;
            }
        }
        if self.left_out() > 0 {
            write!(f, "\n  {} points were left out", self.left_out())?;
        }
        write!(f, "\n  stride {}, in {:.1?}", self.stride, self.took)
    }
}

/// Some times, in order.
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
