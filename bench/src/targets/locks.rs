//! The targets of the mutex and the condition variable.
//!
//! A target over several setups (numbers of processes times kinds of section) uses the
//! geometric mean of their ratios, or the arithmetic mean of their fairness. Crash-safe
//! contestants are those that survive every kill.

use super::target::{Bound, Run, Target};
use crate::series::{
    FUTEX_IN_TWO_LINES, LIST_STORES, LISTED_FUTEX, Measure, SHM_SYNC, TIMED_PTHREAD,
};
use crate::stats::geometric_mean;
use crate::workloads::contended::section::{self, Section};

const PLAIN: &str = "pthread plain";
const ROBUST: &str = "pthread robust";

/// Returns the targets of all workloads that were measured.
pub(super) fn evaluate(run: Run<'_>) -> Vec<Target> {
    let mut targets = vec![];
    targets.extend(uncontended(run));
    targets.extend(contended(run));
    targets.extend(hand_over(run));
    targets.extend(recovery(run));
    targets.extend(idle(run));
    targets.extend(opening(run));
    targets
}

fn uncontended(run: Run<'_>) -> Vec<Target> {
    let at = |contestant: &str| {
        run.ratio(
            "uncontended",
            Measure::NanosPerOperation,
            SHM_SYNC,
            contestant,
        )
    };
    // The raw mutex has a target of its own.
    let closest = run
        .crash_safe("uncontended")
        .into_iter()
        .filter(|contestant| !contestant.starts_with("pthread"))
        .filter_map(|contestant| Some((at(contestant)?, contestant)))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    [
        Target::ratio(
            "uncontended: time / std::sync::Mutex",
            Bound::AtMost(1.25),
            at("std::sync (threads)"),
        ),
        Target::ratio(
            format!("uncontended: time / {LIST_STORES}"),
            Bound::AtMost(1.25),
            at(LIST_STORES),
        ),
        Target::ratio(
            "uncontended: time / raw robust mutex",
            Bound::AtMost(1.05),
            at(ROBUST),
        ),
        closest.and_then(|(ratio, peer)| {
            Target::ratio(
                format!("uncontended: time / closest crash-safe peer ({peer})"),
                Bound::Below(1.0),
                Some(ratio),
            )
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns the targets over 2, 4 and 8 processes and all kinds of section.
fn contended(run: Run<'_>) -> Vec<Target> {
    let all = Setups::of(run, Section::ALL);
    let worst_setup = all.speeds(ROBUST).and_then(|ratios| {
        ratios
            .into_iter()
            .zip(&all.names)
            .min_by(|a, b| a.0.total_cmp(&b.0))
    });
    let mut targets = vec![
        all.best(run.crash_safe(&all.names[0]))
            .and_then(|(ratio, peer)| {
                Target::ratio(
                    format!("contended: throughput / best crash-safe contestant ({peer})"),
                    Bound::AtLeast(1.2),
                    Some(ratio),
                )
            }),
        Target::ratio(
            "contended: throughput / raw mutex without robustness",
            Bound::AtLeast(1.0),
            all.speed(PLAIN),
        ),
        worst_setup.and_then(|(ratio, setup)| {
            Target::ratio(
                format!("{setup}, the worst setup: throughput / raw robust mutex"),
                Bound::AtLeast(0.9),
                Some(ratio),
            )
        }),
        Target::ratio(
            "contended: mean fairness / raw robust mutex",
            Bound::AtLeast(1.0),
            all.fairness(SHM_SYNC)
                .zip(all.fairness(ROBUST))
                .map(|(shm_sync, robust)| shm_sync / robust),
        ),
    ];
    for section in Section::ALL {
        let setups = Setups::of(run, [section]);
        let name = section.name();
        // The peers include locks that survive nothing.
        let best = setups.best(run.peers(&setups.names[0]));
        targets.push(best.and_then(|(ratio, peer)| {
            Target::ratio(
                format!("contended/{name}: throughput / best lock ({peer})"),
                Bound::AtLeast(0.95),
                Some(ratio),
            )
        }));
        for reference in [FUTEX_IN_TWO_LINES, LISTED_FUTEX] {
            targets.push(Target::ratio(
                format!("contended/{name}: throughput / {reference}"),
                Bound::AtLeast(0.95),
                setups.speed(reference),
            ));
        }
    }
    targets.into_iter().flatten().collect()
}

/// Setups with 2, 4 and 8 processes.
struct Setups<'a> {
    run: Run<'a>,
    names: Vec<String>,
}

impl<'a> Setups<'a> {
    fn of(run: Run<'a>, sections: impl IntoIterator<Item = Section>) -> Self {
        let names = sections
            .into_iter()
            .flat_map(|section| [2, 4, 8].map(|workers| section::name(section, workers)))
            .collect();
        Self { run, names }
    }

    /// Returns the throughput of shm-sync relative to a contestant's in each setup.
    fn speeds(&self, contestant: &str) -> Option<Vec<f64>> {
        let measure = Measure::OperationsPerSecond;
        self.names
            .iter()
            .map(|setup| self.run.ratio(setup, measure, SHM_SYNC, contestant))
            .collect()
    }

    /// Returns the geometric mean of [`speeds`](Self::speeds).
    fn speed(&self, contestant: &str) -> Option<f64> {
        self.speeds(contestant).map(geometric_mean)
    }

    /// Returns the throughput of shm-sync relative to the fastest of some contestants,
    /// and its name.
    fn best(&self, contestants: Vec<&'static str>) -> Option<(f64, &'static str)> {
        contestants
            .into_iter()
            .filter_map(|contestant| Some((self.speed(contestant)?, contestant)))
            .min_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// Returns a contestant's mean fairness.
    fn fairness(&self, contestant: &str) -> Option<f64> {
        let measure = Measure::MinShareOfMax;
        let all: Vec<f64> = self
            .names
            .iter()
            .map(|setup| self.run.median(setup, measure, contestant))
            .collect::<Option<_>>()?;
        Some(all.iter().sum::<f64>() / all.len() as f64)
    }
}

fn hand_over(run: Run<'_>) -> Vec<Target> {
    let ratio = |workload: &str, over: &str, under: &str| {
        run.ratio(workload, Measure::NanosPerOperation, over, under)
    };
    let (both_running, together) = (
        "hand-over/two/both running",
        "hand-over/two/on one processor",
    );
    let mut targets = vec![
        Target::ratio(
            "hand-over, both running: time of pthread_cond / shm-sync",
            Bound::AtLeast(20.0),
            ratio(both_running, ROBUST, SHM_SYNC),
        ),
        Target::ratio(
            "hand-over, both running: time / bare word",
            Bound::AtMost(2.5),
            ratio(both_running, SHM_SYNC, "bare word, spinning"),
        ),
        Target::ratio(
            "hand-over, both running: time / spin lock and number",
            Bound::AtMost(2.5),
            ratio(both_running, SHM_SYNC, "spin lock and number"),
        ),
        Target::ratio(
            "hand-over, on one processor: time / pair of pipes",
            Bound::AtMost(1.2),
            ratio(together, SHM_SYNC, "pair of pipes"),
        ),
        Target::ratio(
            "hand-over, both asleep: time / pthread_cond",
            Bound::AtMost(1.0),
            ratio("hand-over/two/both asleep", SHM_SYNC, ROBUST),
        ),
    ];
    for waiters in [
        "8 waiters",
        "8 waiters, 5 µs",
        "32 waiters",
        "32 waiters, 5 µs",
    ] {
        for (peer, label) in [
            (ROBUST, "pthread_cond_broadcast"),
            (TIMED_PTHREAD, TIMED_PTHREAD),
        ] {
            targets.push(Target::ratio(
                format!("notify_all, {waiters}: time / {label}"),
                Bound::AtMost(1.0),
                ratio(&format!("hand-over/notify_all/{waiters}"), SHM_SYNC, peer),
            ));
        }
    }
    targets.into_iter().flatten().collect()
}

fn recovery(run: Run<'_>) -> Option<Target> {
    let workload = "recovery/next locker/waits in lock()";
    Some(Target {
        what: "recovery: from SIGKILL to the next lock, median".to_owned(),
        bound: Bound::Below(100.0),
        measured: run.median(workload, Measure::Nanos, SHM_SYNC)? / 1e3,
        unit: " µs",
    })
}

fn opening(run: Run<'_>) -> Vec<Target> {
    let mut targets = vec![];
    for (backing, peer) in [
        ("POSIX object", "bare system calls"),
        ("POSIX object", "careful system calls"),
        ("file", "bare system calls"),
        ("file", "careful system calls"),
        ("System V segment", "bare system calls"),
        ("memfd", "bare system calls"),
    ] {
        for operation in ["create", "open"] {
            let workload = format!("opening/{backing}/{operation}");
            targets.extend(Target::ratio(
                format!("{operation} a {backing}: time / {peer}"),
                Bound::AtMost(2.0),
                run.ratio(&workload, Measure::Nanos, SHM_SYNC, peer),
            ));
        }
    }
    targets
}

fn idle(run: Run<'_>) -> Vec<Target> {
    ["in lock()", "in wait()"]
        .into_iter()
        .filter_map(|call| {
            let workload = format!("idle/waiters/{call}");
            Some(Target {
                what: format!("idle waiter {call}: processor time"),
                bound: Bound::Below(0.1),
                measured: run.median(&workload, Measure::CpuPercent, SHM_SYNC)?,
                unit: " %",
            })
        })
        .collect()
}
