//! Kinds of section, numbers of workers and durations.

/// The name of the workload.
pub(super) const NAME: &str = "contended";

/// The amount of work inside and outside the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Short,
    Medium,
    Long,
}

impl Section {
    pub(crate) const ALL: [Self; 3] = [Self::Short, Self::Medium, Self::Long];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Medium => "medium",
            Self::Long => "long",
        }
    }

    /// Returns nanoseconds inside the lock, and outside on average.
    pub(super) fn nanos(self) -> (u32, u32) {
        match self {
            Self::Short => (0, 20),
            Self::Medium => (250, 500),
            Self::Long => (5_000, 10_000),
        }
    }
}

/// The numbers of workers.
pub(super) const WORKER_COUNTS: [usize; 5] = [2, 4, 8, 16, 64];

/// Returns the name of a setup in [`Series`](crate::series::Series).
pub(crate) fn name(section: Section, workers: usize) -> String {
    format!("{NAME}/{}/{workers} processes", section.name())
}

/// Milliseconds of measurements.
#[derive(Clone, Copy, Debug)]
pub(in crate::workloads) struct Millis {
    /// For measurements that count operations.
    pub(in crate::workloads) counted: u64,
    /// For measurements that time each operation.
    pub(in crate::workloads) clocked: u64,
}
