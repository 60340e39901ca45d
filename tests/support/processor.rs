//! One processor for a stepped process and its tracer. The two run by turns. A switch
//! between two processors costs an interrupt, which takes most of the time of a step on
//! a virtual machine.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread stays on one processor, until this is dropped.
#[derive(Debug)]
pub struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// Chooses the processor by the id of the process, so that tracers that are forked
    /// one after the other use all processors. If each stayed on the processor on which
    /// it runs, all of them would stay on that of their parent.
    pub fn by_process_id() -> Self {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let is_allowed = |processor: &usize| before.is_set(*processor).unwrap();
        let allowed: Vec<usize> = (0..CpuSet::count()).filter(is_allowed).collect();
        let mut chosen = CpuSet::new();
        let number = std::process::id() as usize % allowed.len();
        chosen.set(allowed[number]).unwrap();
        sched_setaffinity(Pid::from_raw(0), &chosen).unwrap();
        Self { before }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        sched_setaffinity(Pid::from_raw(0), &self.before).unwrap();
    }
}
