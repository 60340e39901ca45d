//! Processors that threads run on.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::failure::Failure;

/// Returns the processors that this process may run on.
pub(crate) fn allowed_processors() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count())
        .filter(|&processor| set.is_set(processor).unwrap_or(false))
        .collect()
}

/// Restricts the calling thread to one processor. Threads with different `index` get
/// different processors, as long as there are enough.
pub(crate) fn pin(index: usize) -> Result<(), Failure> {
    let processors = allowed_processors();
    let mut set = CpuSet::new();
    if let Some(&processor) = processors.get(index % processors.len().max(1)) {
        set.set(processor).map_err(Failure::os("CPU_SET"))?;
        sched_setaffinity(Pid::from_raw(0), &set).map_err(Failure::os("sched_setaffinity"))?;
    }
    Ok(())
}

/// Restricts the calling thread to its first processor until the value is dropped.
#[derive(Debug)]
pub(crate) struct PinnedToFirst {
    before: CpuSet,
}

impl PinnedToFirst {
    pub(crate) fn new() -> Result<Self, Failure> {
        let before =
            sched_getaffinity(Pid::from_raw(0)).map_err(Failure::os("sched_getaffinity"))?;
        pin(0)?;
        Ok(Self { before })
    }
}

impl Drop for PinnedToFirst {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}
