//! Memory: what a lock takes, and a million of them in one segment, each around a number.
//!
//! * **Create**: the memory is made, and all locks in it.
//! * **Attach**: another mapping of the same memory is made, checked, and let go.
//! * **Resident**: what the process has in memory for it, when all have been made.
//! * **Lock, add, unlock**: each lock once, in random order; most are not in any cache.
//!
//! A process is forked for every round, so that nothing is left of the one before.

mod pthread;

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use shm_sync::{Error, Segment, ShmMutex};

use self::pthread::Mutexes;
use super::rounds::{Entry, take_turns};
use crate::contestants::{Lock, Visitor, visit_all};
use crate::crew::{self, Worker};
use crate::failure::Failure;
use crate::plan::{Plan, Progress};
use crate::report::{Measure, Series, Survives};
use crate::shared::Shared;

/// Measures sizes, and a million.
pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let len = plan.pick(1_000_000, 100_000);
    let entries = vec![
        million::<Mutexes>(len),
        million::<Segment<[ShmMutex<u64>]>>(len),
    ];
    let mut series = sizes();
    series.extend(take_turns("memory", entries, plan.pick(5, 3), progress)?);
    Ok(series)
}

/// What each lock takes, where it takes anything.
fn sizes() -> Vec<Series> {
    struct Sizes(Vec<Series>);
    impl Visitor for Sizes {
        fn visit<L: Lock>(&mut self) {
            let profile = L::PROFILE;
            if profile.bytes > 0 {
                self.0.push(Series {
                    workload: "memory/a lock without its data/each".to_owned(),
                    contestant: profile.name,
                    survives: profile.survives,
                    measure: Measure::Bytes,
                    rounds: vec![profile.bytes as f64],
                });
            }
        }
    }
    let mut sizes = Sizes(vec![]);
    visit_all(&mut sizes);
    sizes.0
}

/// Many locks, each around a number.
trait Many: Sized {
    const NAME: &'static str;

    fn create(len: usize) -> Result<Self, Failure>;

    /// Maps the same memory again.
    fn attach(&self) -> Result<Self, Failure>;

    /// Locks one, adds one, unlocks it, and returns what the number was.
    fn add_one(&self, index: usize) -> Result<u64, Failure>;
}

fn million<M: Many + 'static>(len: usize) -> Entry {
    Entry {
        workload: format!("memory/{len} locks"),
        contestant: M::NAME,
        survives: Survives::Kills,
        columns: vec![
            ("create", Measure::Nanos),
            ("attach", Measure::Nanos),
            ("resident", Measure::Bytes),
            ("lock + add + unlock", Measure::NanosPerOperation),
        ],
        round: Box::new(move || Ok(round::<M>(len)?.to_vec())),
    }
}

fn round<M: Many>(len: usize) -> Result<[f64; 4], Failure> {
    let board = Shared::<[AtomicU64; 4]>::zeroed()?;
    let work = |worker: &mut Worker| {
        crew::sit(0)?;
        worker.start()?;
        let order = shuffled(len);
        let before = resident()?;
        let mut locks = None;
        let create = timed(|| {
            locks = Some(M::create(len)?);
            Ok(())
        })?;
        let Some(locks) = locks else { return Ok(()) };
        let resident = resident()? - before;
        let attach = timed(|| locks.attach().map(drop))?;
        let lock = timed(|| {
            order
                .iter()
                .try_for_each(|&index| match locks.add_one(index as usize)? {
                    0 => Ok(()),
                    _ => Err(Failure::Wrong {
                        contestant: M::NAME,
                        what: format!("lock {index} was locked before"),
                    }),
                })
        })?;
        for (slot, value) in board.iter().zip([create, attach, resident, lock]) {
            slot.store(value, Ordering::Relaxed);
        }
        Ok(())
    };
    crew::processes(M::NAME, 1, work, || ())?;
    let [create, attach, resident, lock] = board
        .each_ref()
        .map(|slot| slot.load(Ordering::Relaxed) as f64);
    Ok([create, attach, resident, lock / len as f64])
}

/// Nanoseconds.
fn timed(f: impl FnOnce() -> Result<(), Failure>) -> Result<u64, Failure> {
    let start = Instant::now();
    f()?;
    Ok(start.elapsed().as_nanos() as u64)
}

/// Bytes of this process that are in memory and shared: `RssShmem` of `/proc/self/status`.
fn resident() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status").map_err(Failure::of("read"))?;
    let kilobytes = status.lines().find_map(|line| {
        line.strip_prefix("RssShmem:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    match kilobytes {
        Some(kilobytes) => Ok(kilobytes << 10),
        None => Err(Failure::NotHere(
            "/proc/self/status has no RssShmem".to_owned(),
        )),
    }
}

/// All numbers below `len`, in an order that is the same every time.
fn shuffled(len: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..len as u32).collect();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for index in (1..len).rev() {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(index, (state % (index as u64 + 1)) as usize);
    }
    order
}

impl Many for Segment<[ShmMutex<u64>]> {
    const NAME: &'static str = "shm-sync";

    fn create(len: usize) -> Result<Self, Failure> {
        Ok(Self::options().anonymous_with_len("million", len, |_| {})?)
    }

    fn attach(&self) -> Result<Self, Failure> {
        let file = Self::as_fd(self).map(|file| file.try_clone_to_owned());
        match file {
            Some(file) => Ok(Self::options().from_fd(file.map_err(Failure::of("dup"))?)?),
            None => Err(Failure::NotHere("it has no descriptor".to_owned())),
        }
    }

    #[inline]
    fn add_one(&self, index: usize) -> Result<u64, Failure> {
        let mut number = self[index].lock().map_err(Error::from)?;
        *number += 1;
        Ok(*number - 1)
    }
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    #[test]
    fn shuffled_numbers_are_all_there() {
        let mut order = shuffled(1000);
        assert_ne!(order[..5], [0, 1, 2, 3, 4]);
        order.sort_unstable();
        assert!(order.into_iter().eq(0..1000));
    }

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        for values in [
            round::<Mutexes>(1000)?,
            round::<Segment<[ShmMutex<u64>]>>(1000)?,
        ] {
            assert!(values.iter().all(|&value| value > 0.0), "{values:?}");
        }
        Ok(())
    }
}
