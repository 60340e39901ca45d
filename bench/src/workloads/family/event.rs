//! Events: without a waiter, and as turns between two processes.

use nix::sys::eventfd::EventFd;
use shm_sync::{Segment, ShmCondvar, ShmEvent};

use super::one_thread::{self, Batch};
use crate::failure::Failure;
use crate::monitors::{Events, HandOver, PolledTurn, Pthread, Semaphores, ShmMonitor, Spinning};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::semaphores::PosixSemaphore;
use crate::series::{Measure, SHM_SYNC, Series, Survives};
use crate::shared::Shared;
use crate::workloads::hand_over::{self, Placement};
use crate::workloads::rounds::{Entry, run_rounds};

const TABLE: &str = "event/no waiter";

pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let entries = vec![
        set()?,
        set_and_reset()?,
        set_and_wait()?,
        post_and_wait()?,
        eventfd()?,
    ];
    let mut series = run_rounds(plan, "event", entries, one_thread::rounds(plan), progress)?;
    let share = plan.pick(1, 5);
    let entries = vec![
        turns::<Events>(SHM_SYNC, share),
        turns::<ShmMonitor<ShmCondvar>>("ShmCondvar", share),
        turns::<Pthread>(<Pthread>::NAME, share),
        turns::<Semaphores>(Semaphores::NAME, share),
        turns::<PolledTurn<Spinning>>(PolledTurn::<Spinning>::NAME, share),
    ];
    series.extend(run_rounds(
        plan,
        "event",
        entries,
        plan.pick(31, 5),
        progress,
    )?);
    Ok(series)
}

fn set() -> Result<Entry, Failure> {
    let event = Segment::anonymous(ShmEvent::manual_reset())?;
    Ok(own("set", move || Ok(event.set()?)))
}

fn set_and_reset() -> Result<Entry, Failure> {
    let event = Segment::anonymous(ShmEvent::manual_reset())?;
    Ok(own("set and reset", move || {
        event.set()?;
        event.reset();
        Ok(())
    }))
}

fn set_and_wait() -> Result<Entry, Failure> {
    let event = Segment::anonymous(ShmEvent::auto_reset())?;
    Ok(own("set and wait", move || {
        event.set()?;
        Ok(event.wait()?)
    }))
}

fn own(column: &'static str, operate: impl FnMut() -> Result<(), Failure> + 'static) -> Entry {
    let contestant = (SHM_SYNC, Survives::Kills);
    one_thread::entry(TABLE, column, contestant, Batch::Long, operate)
}

fn post_and_wait() -> Result<Entry, Failure> {
    let semaphore = Shared::<PosixSemaphore>::zeroed()?;
    semaphore.init(0)?;
    let contestant = ("POSIX semaphore", Survives::Nothing);
    let operate = move || {
        semaphore.post()?;
        semaphore.wait()
    };
    Ok(one_thread::entry(
        TABLE,
        "set and wait",
        contestant,
        Batch::Long,
        operate,
    ))
}

fn eventfd() -> Result<Entry, Failure> {
    let event = EventFd::new().map_err(Failure::os("eventfd"))?;
    let contestant = ("eventfd", Survives::Kills);
    let operate = move || {
        event.write(1).map_err(Failure::os("write"))?;
        event.read().map_err(Failure::os("read"))?;
        Ok(())
    };
    Ok(one_thread::entry(
        TABLE,
        "set and wait",
        contestant,
        Batch::Short,
        operate,
    ))
}

fn turns<T: HandOver + 'static>(contestant: &'static str, share: usize) -> Entry {
    Entry {
        workload: "event/two".to_owned(),
        contestant,
        survives: T::SURVIVES,
        columns: vec![("both running", Measure::NanosPerOperation)],
        round: Box::new(move || {
            Ok(vec![hand_over::running::<T>(
                Placement::TwoProcessors,
                share,
            )?])
        }),
    }
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        assert!(hand_over::running::<Events>(Placement::TwoProcessors, 20)? > 0.0);
        for entry in [
            set()?,
            set_and_reset()?,
            set_and_wait()?,
            post_and_wait()?,
            eventfd()?,
        ] {
            let mut round = entry.round;
            assert!(round()?[0] > 0.0);
        }
        Ok(())
    }
}
