//! The report: as text, and as the file `soak.md`.

use std::fmt::Write;

use shm_sync_proof::results::{Results, grouped};

use crate::condvar::CondvarKind;
use crate::findings::{Site, Violation};
use crate::plan::{Limit, Plan};
use crate::process;
use crate::shared::Shared;
use crate::slot::Command;
use crate::statistics::{PROMISE, Statistics, Times};

/// The results of a soak.
pub(crate) struct Report<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) shared: &'a Shared,
    pub(crate) statistics: &'a Statistics,
}

impl Report<'_> {
    /// Returns the report as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.write_text(&mut text).expect("a string takes any text");
        text
    }

    /// Writes the report as Markdown, if the environment names a directory.
    pub(crate) fn write_results(&self) {
        let (name, title) = match (self.plan.condvar, self.plan.priority_inheritance) {
            (CondvarKind::PthreadCondvar, _) => {
                ("soak-pthread-condvar", "The soak, with pthread_cond_t")
            }
            (_, true) => (
                "soak-priority-inheritance",
                "The soak, with priority inheritance",
            ),
            (_, false) => ("soak", "The soak"),
        };
        let counts = self.counts().into_iter();
        let counts: Vec<_> = counts.map(|(what, count)| vec![what, count]).collect();
        let times = self.times().into_iter();
        let times: Vec<_> = times
            .map(|(what, times)| {
                let summary = times.summary();
                let summary = summary.unwrap_or_else(|| std::array::from_fn(|_| "–".to_owned()));
                let late = grouped(times.longer_than(PROMISE));
                let mut row = vec![what, grouped(times.count())];
                row.extend(summary);
                row.push(late);
                row
            })
            .collect();
        let header = ["from SIGKILL, until", "n", "median", "p99", "p99.9", "max"];
        let late = format!("longer than {PROMISE:?}");
        let header: Vec<&str> = header.into_iter().chain([late.as_str()]).collect();
        Results::new(name, title)
            .section("Counts")
            .table(&["what", "count"], &counts)
            .section("Times")
            .table(&header, &times)
            .write();
    }

    fn counts(&self) -> Vec<(String, String)> {
        let (shared, statistics) = (self.shared, self.statistics);
        let seconds = statistics.duration.as_secs_f64();
        let per_second = (statistics.kills as f64 / seconds).round() as u64;
        let mut counts = vec![
            ("workers", self.plan.workers as u64),
            ("kills", statistics.kills),
            ("kills per second", per_second),
            ("stops", statistics.stops),
            ("checkpoints", statistics.checkpoints),
        ];
        let commands = Command::ALL.map(|command| {
            let name = match command {
                Command::Exit => "`exit` inside a lock",
                Command::Exec => "`exec` inside a lock",
                Command::EndThread => "threads ended with a leaked guard",
                Command::Panic => "panics inside a lock",
                Command::Fork => "forks inside a lock",
                Command::Leak => "segments dropped with a leaked guard",
            };
            (name, shared.commands(command))
        });
        counts.extend(commands);
        let [uses, messages, rounds] = shared.family.counts();
        counts.extend([
            ("uses of the other primitives", uses),
            ("messages received", messages),
            ("rounds of a barrier, each member", rounds),
            ("changes of the ledger", statistics.changes),
            ("items through the queue", statistics.taken),
            ("segments opened", shared.opened()),
            ("values made for segments", shared.values()),
            ("kills of a holder, reported", statistics.killed_holders()),
            ("owner deaths without an id", statistics.anonymous_deaths),
            ("other owner deaths, reported", statistics.other_deaths),
            ("panics, reported", shared.findings.panics()),
        ]);
        let violations = Violation::ALL.iter();
        let violations = violations.map(|&what| shared.findings.violations(what));
        counts.push(("violations", violations.sum()));
        let counts = counts.into_iter();
        let mut counts: Vec<(String, String)> = counts
            .map(|(what, count)| (what.to_owned(), grouped(count)))
            .collect();
        counts.insert(0, ("seed".to_owned(), self.plan.seed.to_string()));
        counts.insert(1, ("seconds".to_owned(), format!("{seconds:.1}")));
        counts
    }

    fn times(&self) -> Vec<(String, &Times)> {
        let statistics = self.statistics;
        let sites = Site::ALL.map(|site| {
            let name = match site {
                Site::Ledger => "the next lock of the ledger",
                Site::Queue => "the next lock of the queue",
                Site::Segment => "the next lock in a segment",
            };
            (name, &statistics.next_lock[site as usize])
        });
        let scenarios = [
            (
                "scenario: a woken waiter dies, another takes the ticket",
                &statistics.woken_waiter_died,
            ),
            (
                "scenario: the holder dies, all waiters wake",
                &statistics.holder_died,
            ),
            (
                "scenario: the holder dies, a blocked locker locks",
                &statistics.locked,
            ),
        ];
        let mut times = sites.to_vec();
        if self.plan.condvar == CondvarKind::ShmCondvar {
            times.extend(scenarios);
        }
        let times = times.into_iter();
        times
            .map(|(name, times)| (name.to_owned(), times))
            .collect()
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let statistics = self.statistics;
        match process::end_signal() {
            Some(signal) => writeln!(out, "soak, ended by signal {signal}")?,
            None => writeln!(out, "soak")?,
        }
        for (what, count) in self.counts() {
            writeln!(out, "  {what:<38} {count:>14}")?;
        }
        let (actions, digest) = (statistics.actions, statistics.digest);
        writeln!(out, "  {actions} actions, digest {digest:016x}")?;
        for command in Command::ALL {
            let given = statistics.commands[command as usize];
            let begun = self.shared.commands(command);
            let name = format!("{command:?}");
            writeln!(out, "  {name:<10} given {given}, carried out {begun}")?;
        }
        writeln!(out, "from SIGKILL, until")?;
        for (what, times) in self.times() {
            let late = times.longer_than(PROMISE);
            writeln!(out, "  {what:<56} {times}, longer than {PROMISE:?}: {late}")?;
        }
        let unreported = statistics.kills.saturating_sub(statistics.killed_holders());
        writeln!(
            out,
            "  {unreported} kills without a report: of no holder, or the next holder was killed as well"
        )?;
        self.write_violations(out)
    }

    fn write_violations(&self, out: &mut String) -> std::fmt::Result {
        let findings = &self.shared.findings;
        if !findings.is_violated() {
            return writeln!(out, "no violation");
        }
        for what in Violation::ALL {
            match findings.violations(what) {
                0 => {}
                count => writeln!(out, "VIOLATION: {what} ({count} times)")?,
            }
        }
        let kills = self.statistics.kills;
        writeln!(
            out,
            "after {kills} kills. The same actions again, at other moments:\n  {}",
            command_line(self.plan)
        )
    }
}

/// Returns the command with the same actions.
fn command_line(plan: &Plan) -> String {
    let limit = match plan.limit {
        Limit::Time(time) => format!("--seconds {}", time.as_secs()),
        Limit::Kills(kills) => format!("--kills {kills}"),
    };
    let condvar = match plan.condvar {
        CondvarKind::ShmCondvar => "",
        CondvarKind::PthreadCondvar => " --condvar pthread-condvar",
    };
    let protocol = if plan.priority_inheritance {
        " --priority-inheritance"
    } else {
        ""
    };
    format!(
        "cargo run --release -p shm-sync-proof --bin soak -- {limit} --seed {} --processes {}{condvar}{protocol}",
        plan.seed, plan.workers
    )
}
