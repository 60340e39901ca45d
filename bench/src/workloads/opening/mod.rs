//! Opening: what it takes to create shared memory, to open what is there, and to let go
//! of it again, by kind of memory.
//!
//! A segment is created whole, and checked when it is opened. The bare system calls are
//! those of a short program: make, give a length, map, store a number; or open, map, and
//! read it. They check nothing. One process does everything, twenty times in a round;
//! the values are means. Taking the name away in the end is not measured.

mod bare;
mod ours;
mod shared_memory;

use std::time::{Duration, Instant};

use self::bare::Bare;
use self::ours::Ours;
use self::shared_memory::SharedMemory;
use super::rounds::{Entry, take_turns};
use crate::failure::Failure;
use crate::plan::{Plan, Progress};
use crate::report::{Measure, Series, Survives};

/// How often a round does everything.
const TIMES: u32 = 20;

/// Kinds of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Posix,
    File,
    SystemV,
    Memfd,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Posix, Self::File, Self::SystemV, Self::Memfd];

    fn workload(self) -> &'static str {
        match self {
            Self::Posix => "opening/POSIX object",
            Self::File => "opening/file",
            Self::SystemV => "opening/System V segment",
            Self::Memfd => "opening/memfd",
        }
    }

    /// The name of this process's object, where it needs one: as
    /// [`shm_sync::Address`] has it.
    fn address(self) -> String {
        let pid = std::process::id();
        match self {
            Self::Posix | Self::Memfd => format!("/shm-sync-bench-{pid}"),
            Self::File => std::env::temp_dir()
                .join(format!("shm-sync-bench-{pid}"))
                .display()
                .to_string(),
            Self::SystemV => format!("sysv:{pid}"),
        }
    }
}

/// One who has shared memory. Dropping what it returns lets go of it.
trait Memory {
    const NAME: &'static str;
    /// Whether the others can use it, or make another one, when a process is killed while
    /// it creates one.
    const SURVIVES: Survives;
    type Attached;

    /// Makes it, with a number in it.
    fn create(&self) -> Result<Self::Attached, Failure>;

    /// Opens what is there, and looks at the number.
    fn open(&self, first: &Self::Attached) -> Result<Self::Attached, Failure>;

    /// Opens what is there, and would create it otherwise; `None` where there is no such
    /// operation.
    fn open_or_create(&self) -> Option<Result<Self::Attached, Failure>>;

    /// Takes its name away, if it has one.
    fn remove(&self) -> Result<(), Failure>;
}

/// Measures all kinds.
pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let mut entries = Vec::new();
    for kind in Kind::ALL {
        entries.push(entry(kind, Bare(kind)));
        entries.push(entry(kind, Ours(kind)));
        if kind == Kind::Posix {
            entries.push(entry(kind, SharedMemory));
        }
    }
    let mut series = take_turns("opening", entries, plan.pick(25, 5), progress)?;
    // What does not exist took no time.
    series.retain(|series| series.rounds.iter().any(|&nanos| nanos > 0.0));
    Ok(series)
}

fn entry<M: Memory + 'static>(kind: Kind, memory: M) -> Entry {
    let columns = ["create", "open", "open or create", "close"];
    Entry {
        workload: kind.workload().to_owned(),
        contestant: M::NAME,
        survives: M::SURVIVES,
        columns: columns.map(|column| (column, Measure::Nanos)).into(),
        round: Box::new(move || {
            let mut times = Times::default();
            for _ in 0..TIMES {
                once(&memory, &mut times)?;
            }
            Ok(times.means())
        }),
    }
}

/// How long everything took together.
#[derive(Default)]
struct Times {
    create: Duration,
    open: Duration,
    open_or_create: Duration,
    close: Duration,
}

impl Times {
    /// Nanoseconds each, in the order of the columns.
    fn means(&self) -> Vec<f64> {
        [self.create, self.open, self.open_or_create, self.close]
            .map(|time| time.as_nanos() as f64 / f64::from(TIMES))
            .into()
    }
}

/// Does everything once.
fn once<M: Memory>(memory: &M, times: &mut Times) -> Result<(), Failure> {
    let first = timed(&mut times.create, || memory.create())?;
    let named = Named(memory);
    let second = timed(&mut times.open, || memory.open(&first))?;
    timed(&mut times.close, || drop(second));
    let start = Instant::now();
    if let Some(third) = memory.open_or_create() {
        times.open_or_create += start.elapsed();
        drop(third?);
    }
    drop(first);
    std::mem::forget(named);
    memory.remove()
}

fn timed<R>(total: &mut Duration, f: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = f();
    *total += start.elapsed();
    result
}

/// Removes the name if something fails.
struct Named<'a, M: Memory>(&'a M);

impl<M: Memory> Drop for Named<'_, M> {
    fn drop(&mut self) {
        // It is on the way out with a failure already.
        let _ = self.0.remove();
    }
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    #[test]
    #[serial] // the names are the process's
    fn smoke() -> Result<(), Failure> {
        for kind in Kind::ALL {
            let mut times = Times::default();
            once(&Bare(kind), &mut times)?;
            once(&Ours(kind), &mut times)?;
            assert!(times.means().iter().all(|&nanos| nanos > 0.0) || kind == Kind::Memfd);
        }
        once(&SharedMemory, &mut Times::default())
    }
}
