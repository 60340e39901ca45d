//! Memory: the size of a lock, and a million locks in one segment, each with a number.
//!
//! * **Create**: create the memory and initialise all locks.
//! * **Attach**: map the same memory again, check it and unmap it.
//! * **Resident**: the resident shared memory of the process after the creation.
//! * **Lock, add, unlock**: lock each lock once, in random order. Most are in no cache.
//!
//! Each round runs in a new process, so that rounds do not affect each other.

mod lock_array;
mod pthread;

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use shm_sync::{Error, Segment, ShmMutex};

use self::lock_array::LockArray;
use self::pthread::PthreadArray;
use super::rounds::{Entry, run_rounds};
use crate::affinity;
use crate::contestants::{Lock, Visitor, visit_all};
use crate::failure::Failure;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{Measure, Series, Survives};
use crate::shared::Shared;
use crate::workers::{self, Worker};

/// Measures sizes and arrays.
pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let len = plan.pick(1_000_000, 100_000);
    let entries = vec![
        million::<PthreadArray>(len),
        million::<Segment<[ShmMutex<u64>]>>(len),
    ];
    let mut series = sizes();
    series.extend(run_rounds(
        plan,
        "memory",
        entries,
        plan.pick(5, 3),
        progress,
    )?);
    Ok(series)
}

/// Returns the sizes of all locks in shared memory.
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

fn million<M: LockArray + 'static>(len: usize) -> Entry {
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

fn round<M: LockArray>(len: usize) -> Result<[f64; 4], Failure> {
    let values = Shared::<[AtomicU64; 4]>::zeroed()?;
    let work = |worker: &mut Worker| {
        affinity::pin(0)?;
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
                    _ => Err(Failure::WrongResult {
                        contestant: M::NAME,
                        what: format!("lock {index} has been locked before"),
                    }),
                })
        })?;
        for (slot, value) in values.iter().zip([create, attach, resident, lock]) {
            slot.store(value, Ordering::Relaxed);
        }
        Ok(())
    };
    workers::run_processes(M::NAME, 1, work, || ())?;
    let [create, attach, resident, lock] = values
        .each_ref()
        .map(|slot| slot.load(Ordering::Relaxed) as f64);
    Ok([create, attach, resident, lock / len as f64])
}

/// Returns the nanoseconds that `f` takes.
fn timed(f: impl FnOnce() -> Result<(), Failure>) -> Result<u64, Failure> {
    let start = Instant::now();
    f()?;
    Ok(start.elapsed().as_nanos() as u64)
}

/// Returns the resident shared memory of this process in bytes: `RssShmem` in
/// `/proc/self/status`.
fn resident() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status").map_err(Failure::os("read"))?;
    let kilobytes = status.lines().find_map(|line| {
        line.strip_prefix("RssShmem:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    match kilobytes {
        Some(kilobytes) => Ok(kilobytes << 10),
        None => Err(Failure::Unavailable(
            "/proc/self/status has no RssShmem".to_owned(),
        )),
    }
}

/// Returns all numbers below `len` in a random order that is the same in every run.
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

impl LockArray for Segment<[ShmMutex<u64>]> {
    const NAME: &'static str = "shm-sync";

    fn create(len: usize) -> Result<Self, Failure> {
        Ok(Self::options().anonymous_with_len("million", len, |_| {})?)
    }

    fn attach(&self) -> Result<Self, Failure> {
        let file = Self::as_fd(self).map(|file| file.try_clone_to_owned());
        match file {
            Some(file) => Ok(Self::options().from_fd(file.map_err(Failure::os("dup"))?)?),
            None => Err(Failure::Unavailable(
                "the segment has no descriptor".to_owned(),
            )),
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
    fn shuffled_contains_all_numbers() {
        let mut order = shuffled(1000);
        assert_ne!(order[..5], [0, 1, 2, 3, 4]);
        order.sort_unstable();
        assert!(order.into_iter().eq(0..1000));
    }

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        for values in [
            round::<PthreadArray>(1000)?,
            round::<Segment<[ShmMutex<u64>]>>(1000)?,
        ] {
            assert!(values.iter().all(|&value| value > 0.0), "{values:?}");
        }
        Ok(())
    }
}
