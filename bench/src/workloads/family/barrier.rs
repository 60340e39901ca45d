//! Barrier: two processes meet, round after round.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use shm_sync::{BarrierMember, Segment, ShmBarrier};

use crate::affinity;
use crate::contestants::check;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{Measure, SHM_SYNC, Series, Survives};
use crate::shared::{Shared, Zeroed};
use crate::workers::{self, Worker};
use crate::workloads::rounds::{Entry, run_rounds};

const MEMBERS: usize = 2;
/// The number of meetings of a measurement.
const MEETINGS: u64 = 20_000;

/// A barrier of two processes.
trait Barrier: Sized {
    const NAME: &'static str;
    const SURVIVES: Survives;

    type Member<'a>
    where
        Self: 'a;

    fn create() -> Result<Self, Failure>;

    fn join(&self) -> Result<Self::Member<'_>, Failure>;

    fn meet(member: &Self::Member<'_>) -> Result<(), Failure>;
}

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

    fn meet(member: &Self::Member<'_>) -> Result<(), Failure> {
        member.wait().map_err(shm_sync::Error::from)?;
        Ok(())
    }
}

/// A `pthread_barrier_t`. It is not robust: after a death, the others wait for ever.
struct Pthread(Shared<Memory>);

struct Memory(UnsafeCell<libc::pthread_barrier_t>);

// SAFETY: threads may share the barrier, which is used through its address only.
unsafe impl Sync for Memory {}
// SAFETY: `create` initialises the barrier before its first use. It refers to no
// process.
unsafe impl Zeroed for Memory {}

impl Barrier for Pthread {
    const NAME: &'static str = "pthread_barrier";
    const SURVIVES: Survives = Survives::Nothing;

    type Member<'a> = &'a Self;

    fn create() -> Result<Self, Failure> {
        let shared = Shared::<Memory>::zeroed()?;
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the memory has the size of attributes.
        let code = unsafe { libc::pthread_barrierattr_init(attributes) };
        check("pthread_barrierattr_init", code)?;
        let is_shared = libc::PTHREAD_PROCESS_SHARED;
        // SAFETY: the attributes are initialised.
        let code = unsafe { libc::pthread_barrierattr_setpshared(attributes, is_shared) };
        check("pthread_barrierattr_setpshared", code)?;
        let at = ptr::from_ref(&*shared).cast::<libc::pthread_barrier_t>();
        // SAFETY: the barrier is not moved, and no thread uses it yet. The attributes
        // are initialised.
        let code = unsafe {
            libc::pthread_barrier_init(at.cast_mut(), attributes, MEMBERS as libc::c_uint)
        };
        check("pthread_barrier_init", code)?;
        Ok(Self(shared))
    }

    fn join(&self) -> Result<Self::Member<'_>, Failure> {
        Ok(self)
    }

    fn meet(member: &Self::Member<'_>) -> Result<(), Failure> {
        // SAFETY: `create` has initialised the barrier.
        let code = unsafe { libc::pthread_barrier_wait(member.0.0.get()) };
        match code {
            libc::PTHREAD_BARRIER_SERIAL_THREAD => Ok(()),
            code => check("pthread_barrier_wait", code),
        }
    }
}

pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let meetings = MEETINGS / plan.pick(1, 5);
    let entries = vec![entry::<Own>(meetings), entry::<Pthread>(meetings)];
    run_rounds("barrier", entries, plan.pick(31, 5), progress)
}

fn entry<B: Barrier + 'static>(meetings: u64) -> Entry {
    Entry {
        workload: "barrier/two processes".to_owned(),
        contestant: B::NAME,
        survives: B::SURVIVES,
        columns: vec![("a round", Measure::NanosPerOperation)],
        round: Box::new(move || Ok(vec![nanos_per_meeting::<B>(meetings)?])),
    }
}

/// Lets two processes meet. Each has its own processor.
fn nanos_per_meeting<B: Barrier>(meetings: u64) -> Result<f64, Failure> {
    let barrier = B::create()?;
    let took = Shared::<AtomicU64>::zeroed()?;
    let work = |worker: &mut Worker| {
        affinity::pin(worker.index)?;
        let member = barrier.join()?;
        worker.start()?;
        B::meet(&member)?;
        let begin = Instant::now();
        for _ in 0..meetings {
            B::meet(&member)?;
        }
        if worker.index == 0 {
            let nanos = begin.elapsed().as_nanos() as u64;
            took.store(nanos, Ordering::Relaxed);
        }
        Ok(())
    };
    workers::run_processes(B::NAME, MEMBERS, work, || ())?;
    Ok(took.load(Ordering::Relaxed) as f64 / meetings as f64)
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        assert!(nanos_per_meeting::<Own>(100)? > 0.0);
        assert!(nanos_per_meeting::<Pthread>(100)? > 0.0);
        Ok(())
    }
}
