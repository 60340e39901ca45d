//! Recovery scenarios: a process dies while others wait. They run at a checkpoint,
//! while all workers are stopped.
//!
//! | scenario | what must happen |
//! |---|---|
//! | a woken waiter dies before it acts; the notification was for it alone | another waiter takes the ticket |
//! | the holder dies while all others wait on the condition variable | every waiter wakes |
//! | the holder dies while a locker is blocked on the mutex | the locker gets the mutex at once, and every waiter wakes |
//!
//! The library promises 250 ms to waiters. A violation is a waiter that has not woken
//! after [`TOO_LATE`], twenty times as long. Load cannot cause it: a waiter rechecks
//! every 150 ms by a timer, and load delays it only while a runnable process gets no
//! processor. A machine on which that lasts seconds could not run the workers at all.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::findings::{Findings, Violation};
use crate::process::{self, now};
use crate::scenario::{Scenario, recovered};

/// The time after which a waiter that has not woken is a violation.
const TOO_LATE: Duration = Duration::from_secs(5);
/// The time that the preparations of a scenario may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The times until processes recovered, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct RecoveryTimes {
    /// From the death of a woken waiter until another took the ticket.
    pub(crate) woken_waiter_died: Vec<u64>,
    /// From the death of the holder until every waiter woke.
    pub(crate) holder_died: Vec<u64>,
    /// From the death of the holder until the blocked locker got the mutex.
    pub(crate) locked: Vec<u64>,
}

/// All scenarios, with their processes.
pub(crate) struct Scenarios<'a> {
    groups: Vec<Group<'a>>,
}

/// A scenario, with its waiters.
struct Group<'a> {
    findings: &'a Findings,
    scenario: &'a Scenario,
    /// `None` between a death and the next run.
    waiters: [Option<Pid>; Scenario::WAITERS],
}

/// The lockers that are blocked on the mutex of the dying holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockedLocker {
    None,
    One,
}

/// An event after which a scenario has ended.
enum Expected {
    /// A waiter takes a ticket after this time.
    Taken { since: u64 },
    /// Every waiter wakes after this time.
    AllAwake { since: u64 },
    /// The blocked locker gets the mutex after this time.
    Locked { since: u64 },
}

impl<'a> Scenarios<'a> {
    pub(crate) fn new(scenarios: &'a [Scenario], findings: &'a Findings) -> Self {
        let group = |scenario| {
            let waiters = [None; Scenario::WAITERS];
            let mut group = Group {
                findings,
                scenario,
                waiters,
            };
            group.fill();
            group
        };
        Self {
            groups: scenarios.iter().map(group).collect(),
        }
    }

    /// Runs all scenarios at the same time.
    pub(crate) fn run(&mut self) -> RecoveryTimes {
        let mut times = RecoveryTimes::default();
        let mut expected = Vec::new();
        for (number, group) in self.groups.iter_mut().enumerate() {
            if !group.wait_until_asleep() {
                return times;
            }
            let begun = match number % 3 {
                0 => group.kill_woken_waiter().into_iter().collect(),
                1 => group.kill_holder(BlockedLocker::None),
                _ => group.kill_holder(BlockedLocker::One),
            };
            expected.extend(begun.into_iter().map(|what| (number, what)));
        }
        let begin = Instant::now();
        while !expected.is_empty() {
            expected.retain(|(number, what)| {
                let Some(time) = self.groups[*number].time_of(what) else {
                    return true;
                };
                match what {
                    Expected::Taken { .. } => times.woken_waiter_died.push(time),
                    Expected::AllAwake { .. } => times.holder_died.push(time),
                    Expected::Locked { .. } => times.locked.push(time),
                }
                false
            });
            if begin.elapsed() > TOO_LATE {
                for (number, _) in &expected {
                    let group = &self.groups[*number];
                    group.report(Violation::RecoveredLate, "after a death");
                }
                break;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        self.groups.iter_mut().for_each(Group::fill);
        times
    }

    /// Notes the end of a child that was not waited for.
    pub(crate) fn note_end(&mut self, pid: Pid) {
        for group in &mut self.groups {
            for waiter in &mut group.waiters {
                if *waiter == Some(pid) {
                    *waiter = None;
                }
            }
        }
    }
}

impl Drop for Scenarios<'_> {
    fn drop(&mut self) {
        let waiters = self.groups.iter().flat_map(|group| group.waiters);
        for pid in waiters.flatten() {
            process::kill_and_reap(pid);
        }
    }
}

/// Polls until `done`, or until the time is up. Returns whether it is done.
fn poll(mut done: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while !done() {
        if begin.elapsed() > TIMEOUT {
            return false;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    true
}

impl Group<'_> {
    /// Starts the waiters that are missing.
    fn fill(&mut self) {
        let Self {
            findings, scenario, ..
        } = *self;
        for (number, waiter) in self.waiters.iter_mut().enumerate() {
            waiter
                .get_or_insert_with(|| process::spawn(|| scenario.take_tickets(findings, number)));
        }
    }

    fn sleeps_in_wait(&self, pid: Pid) -> bool {
        process::waits_inside(pid, &self.scenario.offered)
    }

    fn sleeps_in_lock(&self, pid: Pid) -> bool {
        process::waits_inside(pid, &self.scenario.tickets)
    }

    /// Waits until all waiters sleep. Reports them if they don't.
    fn wait_until_asleep(&self) -> bool {
        let all_sleep = poll(|| {
            let mut waiters = self.waiters.iter().flatten();
            waiters.all(|&pid| self.sleeps_in_wait(pid))
        });
        if !all_sleep {
            self.report(Violation::Stuck, "before a scenario");
        }
        all_sleep
    }

    /// Wakes one waiter, and kills it before it has the mutex. Expects nothing if other
    /// waiters recheck at the same moment.
    fn kill_woken_waiter(&mut self) -> Option<Expected> {
        let scenario = self.scenario;
        let result = scenario.tickets.try_lock_for(TIMEOUT);
        let mut tickets = recovered(self.findings, result)?;
        *tickets += 1;
        // By a process that does not hold the mutex, so that the waiter wakes at once.
        // If this process notified, its unlock would wake the waiter.
        process::reap(process::spawn(|| scenario.offered.notify_one()));
        let has_woken = poll(|| {
            let mut waiters = self.waiters.iter().flatten();
            waiters.any(|&pid| self.sleeps_in_lock(pid))
        });
        if !has_woken {
            drop(tickets);
            self.report(Violation::Stuck, "after a notification");
            return None;
        }
        let asleep = self
            .waiters
            .map(|pid| pid.is_some_and(|pid| self.sleeps_in_wait(pid)));
        let victim = match asleep {
            [false, true, true] => 0,
            [true, false, true] => 1,
            [true, true, false] => 2,
            _ => return None,
        };
        if let Some(pid) = self.waiters[victim].take() {
            process::kill_and_reap(pid);
        }
        let since = now();
        drop(tickets);
        Some(Expected::Taken { since })
    }

    fn kill_holder(&mut self, locker: BlockedLocker) -> Vec<Expected> {
        let Self {
            findings, scenario, ..
        } = *self;
        let holder = process::spawn(|| scenario.hold_until_killed(findings));
        let id = process::id_of(holder);
        let mut is_ready = poll(|| scenario.holder.load(Ordering::Acquire) == id);
        if locker == BlockedLocker::One {
            // The supervisor reaps it with the other processes that end by themselves.
            let pid = process::spawn(|| scenario.lock_after_owner_death(findings));
            is_ready = is_ready && poll(|| self.sleeps_in_lock(pid));
        }
        let since = now();
        process::kill_and_reap(holder);
        if !is_ready {
            self.report(Violation::Stuck, "no process gets a free mutex");
            return Vec::new();
        }
        match locker {
            BlockedLocker::None => vec![Expected::AllAwake { since }],
            BlockedLocker::One => vec![Expected::AllAwake { since }, Expected::Locked { since }],
        }
    }

    /// Returns how long it took, once it has happened.
    fn time_of(&self, what: &Expected) -> Option<u64> {
        match *what {
            Expected::Taken { since } => {
                let taken_at = self.scenario.taken_at.load(Ordering::Acquire);
                taken_at.checked_sub(since)
            }
            Expected::AllAwake { since } => {
                let woke_at = self.scenario.woke_at.iter();
                let woke_at = woke_at.map(|at| at.load(Ordering::Acquire));
                let all_awake = woke_at.clone().all(|at| at > since);
                all_awake.then(|| woke_at.max().unwrap_or(since) - since)
            }
            Expected::Locked { since } => {
                let locked_at = self.scenario.locked_at.load(Ordering::Acquire);
                locked_at.checked_sub(since)
            }
        }
    }

    fn report(&self, what: Violation, when: &str) {
        for pid in self.waiters.iter().flatten() {
            let doing = process::what_it_does(*pid);
            let detail = format_args!("{when}: waiter {pid} of a scenario: {doing}");
            self.findings.violation(what, detail);
        }
    }
}
