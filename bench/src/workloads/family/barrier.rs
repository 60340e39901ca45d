//! Barrier: two processes meet, again and again.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};

use shm_sync::{BarrierMember, Segment, ShmBarrier};

use crate::affinity;
use crate::clock::now;
use crate::contestants::check;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{Measure, SHM_SYNC, Series, Survives};
use crate::shared::{Shared, Zeroed};
use crate::workers;
use crate::workloads::rounds::{Entry, run_rounds};

/// The number of processes.
const MEMBERS: usize = 2;
/// The number of times that they meet.
const MEETINGS: u32 = 4_000;

pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let meetings = MEETINGS / plan.pick(1, 4);
    let entries = vec![entry::<Own>(meetings), entry::<Pthread>(meetings)];
    run_rounds(plan, "barrier", entries, plan.pick(31, 5), progress)
}

fn entry<B: Barrier>(meetings: u32) -> Entry {
    Entry {
        workload: "barrier/two processes".to_owned(),
        contestant: B::NAME,
        survives: B::SURVIVES,
        columns: vec![("both running", Measure::NanosPerOperation)],
        round: Box::new(move || Ok(vec![meet::<B>(meetings)?])),
    }
}

/// A barrier of two processes.
trait Barrier: Sized + 'static {
    const NAME: &'static str;
    const SURVIVES: Survives;

    /// The place of a process, as long as it takes part.
    type Member<'a>: Member
    where
        Self: 'a;

    /// Creates it before the workers are forked.
    fn create() -> Result<Self, Failure>;

    /// Joins as one of the two.
    fn join(&self) -> Result<Self::Member<'_>, Failure>;
}

/// The place of a process.
trait Member {
    /// Waits for the other process.
    fn wait(&self) -> Result<(), Failure>;
}

/// Returns nanoseconds per meeting.
fn meet<B: Barrier>(meetings: u32) -> Result<f64, Failure> {
    let barrier = B::create()?;
    let took = Shared::<AtomicU64>::zeroed()?;
    let arrived = Shared::<[AtomicU64; MEMBERS]>::zeroed()?;
    let work = |worker: &mut workers::Worker| {
        affinity::pin(worker.index)?;
        let member = barrier.join()?;
        worker.start()?;
        let meet = |number: u64| {
            arrived[worker.index].store(number, Ordering::Relaxed);
            member.wait()
        };
        meet(1)?; // They start at different times.
        let start = now();
        for number in 0..u64::from(meetings) {
            meet(number + 2)?;
        }
        took.fetch_max(now() - start, Ordering::Relaxed);
        // The other one has arrived as often, and may not have gone on.
        let others = arrived[1 - worker.index].load(Ordering::Relaxed);
        if others == u64::from(meetings) + 1 {
            return Ok(());
        }
        Err(Failure::WrongResult {
            contestant: B::NAME,
            what: format!("the other process has arrived {others} times"),
        })
    };
    workers::run_processes(B::NAME, MEMBERS, work, || ())?;
    Ok(took.load(Ordering::Relaxed) as f64 / f64::from(meetings))
}

/// This crate's.
struct Own(Segment<ShmBarrier<MEMBERS>>);

impl Barrier for Own {
    const NAME: &'static str = SHM_SYNC;
    const SURVIVES: Survives = Survives::Kills;

    type Member<'a> = BarrierMember<'a, MEMBERS>;

    fn create() -> Result<Self, Failure> {
        Ok(Self(Segment::anonymous(ShmBarrier::new())?))
    }

    fn join(&self) -> Result<Self::Member<'_>, Failure> {
        Ok(self.0.join()?)
    }
}

impl Member for BarrierMember<'_, MEMBERS> {
    fn wait(&self) -> Result<(), Failure> {
        Self::wait(self).map_err(shm_sync::Error::from)?;
        Ok(())
    }
}

/// `pthread_barrier_t`, process-shared. It counts arrivals: if a process dies before
/// it arrives, the others wait forever.
struct Pthread(Shared<Place>);

#[repr(transparent)]
struct Place(UnsafeCell<libc::pthread_barrier_t>);

// SAFETY: threads may share a barrier.
unsafe impl Sync for Place {}
// SAFETY: `create` initialises the barrier before the first use, and zeros refer to no
// process.
unsafe impl Zeroed for Place {}

impl Barrier for Pthread {
    const NAME: &'static str = "pthread_barrier";
    const SURVIVES: Survives = Survives::Nothing;

    type Member<'a> = &'a Self;

    fn create() -> Result<Self, Failure> {
        let place = Shared::<Place>::zeroed()?;
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the memory has the size of attributes.
        let code = unsafe { libc::pthread_barrierattr_init(attributes) };
        check("pthread_barrierattr_init", code)?;
        let is_shared = libc::PTHREAD_PROCESS_SHARED;
        // SAFETY: the attributes are initialised.
        let code = unsafe { libc::pthread_barrierattr_setpshared(attributes, is_shared) };
        check("pthread_barrierattr_setpshared", code)?;
        let at: *mut libc::pthread_barrier_t = place.0.get();
        // SAFETY: the barrier is not moved, and no thread uses it yet. The attributes
        // are initialised. In glibc they own no memory, so they need not be destroyed.
        let code = unsafe { libc::pthread_barrier_init(at, attributes, MEMBERS as u32) };
        check("pthread_barrier_init", code)?;
        Ok(Self(place))
    }

    fn join(&self) -> Result<&Self, Failure> {
        Ok(self)
    }
}

impl Member for &Pthread {
    fn wait(&self) -> Result<(), Failure> {
        // SAFETY: `create` has initialised the barrier.
        match unsafe { libc::pthread_barrier_wait(self.0.0.get()) } {
            libc::PTHREAD_BARRIER_SERIAL_THREAD => Ok(()),
            code => check("pthread_barrier_wait", code),
        }
    }
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        assert!(meet::<Own>(100)? > 0.0);
        assert!(meet::<Pthread>(100)? > 0.0);
        Ok(())
    }
}
