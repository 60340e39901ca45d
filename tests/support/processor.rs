//! One processor for a stepped process and its tracer. The two run by turns, and each
//! turn between two processors is an interrupt: on a virtual machine, that is most of
//! the time of a step.

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread stays on the processor on which it runs, until this is dropped.
#[derive(Debug)]
pub struct Pinned {
    before: CpuSet,
}

impl Pinned {
    pub fn here() -> Self {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let mut here = CpuSet::new();
        here.set(sched_getcpu().unwrap()).unwrap();
        sched_setaffinity(Pid::from_raw(0), &here).unwrap();
        Self { before }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        sched_setaffinity(Pid::from_raw(0), &self.before).unwrap();
    }
}
