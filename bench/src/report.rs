//! The reports, and the choice of workloads.

use crate::workloads::{self, Workload};

/// A report, and the workloads whose results it contains.
#[derive(Debug)]
pub(crate) struct Report {
    /// The name of its files without their extensions. On the command line it chooses
    /// all workloads of the report.
    pub(crate) name: &'static str,
    /// The text before the first table.
    pub(crate) introduction: &'static str,
    /// Whether the locks that the workloads compare are described before them.
    pub(crate) compares_locks: bool,
    /// In the order in which they run.
    pub(crate) workloads: &'static [Workload],
}

/// The mutex and the condition variable.
pub(crate) const LOCKS: Report = Report {
    name: "benchmarks",
    introduction: "# Benchmarks

`cargo run --release -p shm-sync-bench -- --only benchmarks --out docs/results` writes
this file. The method and its limits are in [testing.md](../testing.md).
",
    compares_locks: true,
    workloads: workloads::LOCKS,
};

/// The other primitives.
pub(crate) const FAMILY: Report = Report {
    name: "family",
    introduction: "# Benchmarks of the other primitives

`cargo run --release -p shm-sync-bench -- --only family --out docs/results` writes this
file. The method and its limits are in [testing.md](../testing.md).
",
    compares_locks: false,
    workloads: workloads::family::ALL,
};

/// The mutex in other languages.
pub(crate) const LANGUAGES: Report = Report {
    name: "languages",
    introduction: "# Benchmark of other languages

`cargo run --release -p shm-sync-bench -- --only languages --out docs/results` writes this
file. The method and its limits are in [testing.md](../testing.md).
",
    compares_locks: false,
    workloads: workloads::languages::ALL,
};

/// All reports.
pub(crate) const REPORTS: [Report; 3] = [LOCKS, FAMILY, LANGUAGES];

/// The chosen workloads of a report: at least one.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) report: Report,
    pub(crate) workloads: Vec<&'static Workload>,
}

/// Returns the workload with this name, or those of the report with this name, or those
/// with names that contain it.
pub(crate) fn choose(name: &str) -> Vec<Chosen> {
    let with_name = choose_by(|_, workload| workload.name == name);
    if !with_name.is_empty() {
        return with_name;
    }
    let of_report = choose_by(|report, _| report.name == name);
    if !of_report.is_empty() {
        return of_report;
    }
    choose_by(|_, workload| workload.name.contains(name))
}

fn choose_by(is_chosen: impl Fn(&Report, &Workload) -> bool) -> Vec<Chosen> {
    let chosen = REPORTS.into_iter().map(|report| {
        let workloads = report.workloads.iter();
        let workloads = workloads.filter(|workload| is_chosen(&report, workload));
        let workloads = workloads.collect();
        Chosen { report, workloads }
    });
    chosen.filter(|it| !it.workloads.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &str) -> Vec<&'static str> {
        let chosen = choose(name);
        let workloads = chosen.iter().flat_map(|chosen| &chosen.workloads);
        workloads.map(|workload| workload.name).collect()
    }

    #[test]
    fn choose_prefers_the_exact_name() {
        assert_eq!(names("contended"), ["contended"]);
        assert_eq!(names("over"), ["hand-over", "recovery"], "by a part");
        assert_eq!(names("family").len(), FAMILY.workloads.len(), "by a report");
        let all = REPORTS.map(|report| report.workloads.len());
        assert_eq!(names("").len(), all.iter().sum(), "all");
        assert_eq!(names("nosuch"), [""; 0], "none");
    }

    #[test]
    fn names_are_unique() {
        let mut all = names("");
        all.extend(REPORTS.map(|report| report.name));
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count, "{all:?}");
    }
}
