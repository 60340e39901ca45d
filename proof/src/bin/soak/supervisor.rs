//! The supervisor: kills, stops and commands the workers, and checks that they make
//! progress.
//!
//! It has one thread, which forks the workers, and no wait of it is endless. The seed
//! decides its actions, their slots and their order. The machine decides what the
//! workers do at that moment.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use shm_sync::Segment;

use crate::condvar::CondvarKind;
use crate::findings::{Findings, Violation};
use crate::plan::{Limit, Plan};
use crate::process::{self, now};
use crate::progress::Progress;
use crate::random::Random;
use crate::scenarios::Scenarios;
use crate::segments::{self, Addresses};
use crate::shared::Shared;
use crate::slot::Command;
use crate::statistics::Statistics;
use crate::worker::{Role, Worker};

/// The number of kills between two checkpoints.
const KILLS_PER_CHECKPOINT: u64 = 1_000;
/// The number for libc's condition variable, which gets stuck soon.
const KILLS_PER_PTHREAD_CHECKPOINT: u64 = 100;

/// The pauses between actions are below 2^this nanoseconds. Short pauses are as
/// frequent as long ones, because some actions should hit a worker that has just
/// started.
const PAUSE_SCALE: u64 = 20;

/// The greatest number of killed workers that are not reaped yet.
const MAX_DYING: usize = 8;

/// An action of the supervisor.
#[derive(Clone, Copy, Debug)]
enum Action {
    Kill,
    /// Stops the worker for this number of actions.
    Stop(u64),
    Command(Command),
}

impl Action {
    fn choose(random: &mut Random) -> Self {
        // Both numbers are drawn for each action, so that each uses the seed equally.
        let (what, actions) = (random.below(64), 1 + random.below(6));
        match what {
            0..4 => Self::Stop(actions),
            4..6 => Self::Command(Command::Exit),
            6 => Self::Command(Command::Exec),
            7..9 => Self::Command(Command::EndThread),
            9..11 => Self::Command(Command::Panic),
            11..13 => Self::Command(Command::Fork),
            13..15 => Self::Command(Command::Leak),
            _ => Self::Kill,
        }
    }
}

/// A killed worker that is not reaped yet.
#[derive(Clone, Copy, Debug)]
struct Dying {
    pid: Pid,
    slot: usize,
}

/// A worker that is stopped until a certain action.
#[derive(Clone, Copy, Debug)]
struct Stopped {
    slot: usize,
    until_action: u64,
}

pub(crate) struct Supervisor<'a> {
    shared: &'a Segment<Shared>,
    addresses: &'a Addresses,
    plan: Plan,
    random: Random,
    /// The worker of each slot.
    workers: Vec<Pid>,
    /// The number of workers that were started.
    started: u64,
    stopped: Vec<Stopped>,
    dying: VecDeque<Dying>,
    /// The time at which each process was killed.
    killed: HashMap<u32, u64>,
    scenarios: Option<Scenarios<'a>>,
    pub(crate) statistics: Statistics,
}

impl<'a> Supervisor<'a> {
    pub(crate) fn new(shared: &'a Segment<Shared>, addresses: &'a Addresses, plan: Plan) -> Self {
        let mut supervisor = Self {
            shared,
            addresses,
            plan,
            random: Random::new(plan.seed),
            workers: Vec::new(),
            started: 0,
            stopped: Vec::new(),
            dying: VecDeque::new(),
            killed: HashMap::new(),
            scenarios: None,
            statistics: Statistics::new(),
        };
        for slot in 0..plan.workers {
            let worker = supervisor.start_worker(slot);
            supervisor.workers.push(worker);
        }
        // The scenarios use this crate's condition variable.
        if plan.condvar == CondvarKind::ShmCondvar {
            supervisor.scenarios = Some(Scenarios::new(&shared.scenarios, &shared.findings));
        }
        supervisor
    }

    fn findings(&self) -> &'a Findings {
        let shared: &'a Shared = self.shared;
        &shared.findings
    }

    /// Runs until the limit, a violation, or a request to end.
    pub(crate) fn run(&mut self) {
        let begin = Instant::now();
        let kills_per_checkpoint = match self.plan.condvar {
            CondvarKind::ShmCondvar => KILLS_PER_CHECKPOINT,
            CondvarKind::PthreadCondvar => KILLS_PER_PTHREAD_CHECKPOINT,
        };
        let mut progress = Progress::new(self.plan.limit);
        while !self.is_over(begin) {
            let checkpoint = self.statistics.kill_actions + kills_per_checkpoint;
            while self.statistics.kill_actions < checkpoint && !self.is_over(begin) {
                self.act();
                progress.show(begin.elapsed(), self.statistics.kills);
            }
            if !self.must_end() {
                self.checkpoint();
            }
        }
        self.statistics.duration = begin.elapsed();
        progress.end();
        self.check_scenarios();
    }

    /// Reports a scenario that has never taken place, although there were many
    /// occasions.
    fn check_scenarios(&self) {
        const ENOUGH: u64 = 10;

        let statistics = &self.statistics;
        if self.scenarios.is_none() || self.must_end() || statistics.checkpoints < ENOUGH {
            return;
        }
        for (what, times) in [
            ("a woken waiter dies", &statistics.woken_waiter_died),
            ("the holder dies", &statistics.holder_died),
            ("the holder dies, a locker is blocked", &statistics.locked),
        ] {
            if times.count() == 0 {
                let detail = format_args!("{what}: {} checkpoints", statistics.checkpoints);
                self.findings().violation(Violation::NeverTested, detail);
            }
        }
    }

    fn is_over(&self, begin: Instant) -> bool {
        let limit_is_reached = match self.plan.limit {
            Limit::Time(time) => begin.elapsed() >= time,
            Limit::Kills(kills) => self.statistics.kill_actions >= kills,
        };
        limit_is_reached || self.must_end()
    }

    fn must_end(&self) -> bool {
        self.findings().is_violated() || process::end_signal().is_some()
    }

    fn start_worker(&mut self, slot: usize) -> Pid {
        let (shared, addresses) = (self.shared, self.addresses);
        self.started += 1;
        let seed = self.plan.seed ^ self.started << 20;
        shared.slots[slot].set_command(None);
        process::spawn(|| {
            process::lower_priority();
            Worker::new(shared, addresses, slot, seed).run()
        })
    }

    fn act(&mut self) {
        let pause = self.random.of_any_size(PAUSE_SCALE);
        let slot = self.random.index(self.workers.len());
        let action = Action::choose(&mut self.random);
        self.statistics
            .note_action(slot, &format_args!("{action:?}"));
        self.pass_time(pause);
        match action {
            Action::Kill => {
                self.statistics.kill_actions += 1;
                self.kill(slot);
            }
            Action::Stop(actions) => {
                self.signal(slot, Signal::SIGSTOP);
                let until_action = self.statistics.actions + actions;
                self.stopped.push(Stopped { slot, until_action });
                self.statistics.stops += 1;
            }
            Action::Command(command) => {
                self.shared.slots[slot].set_command(Some(command));
                self.statistics.commands[command as usize] += 1;
            }
        }
        self.continue_stopped(self.statistics.actions);
        self.reap();
        self.read_owner_deaths();
    }

    /// Checks the poison for this number of nanoseconds.
    fn pass_time(&self, nanoseconds: u64) {
        let until = now() + nanoseconds;
        while now() < until {
            self.shared.check_poison();
        }
    }

    fn signal(&self, slot: usize, signal: Signal) {
        kill(self.workers[slot], signal).expect("a worker is a child that was not reaped");
    }

    /// Kills the worker of a slot, and starts another one there. The kernel ends the
    /// killed worker some time later, which is waited for later, too.
    fn kill(&mut self, slot: usize) {
        let victim = self.workers[slot];
        self.killed.insert(process::id_of(victim), now());
        self.signal(slot, Signal::SIGKILL);
        self.dying.push_back(Dying { pid: victim, slot });
        self.replace_worker(slot);
        if self.dying.len() > MAX_DYING {
            if let Some(Dying { pid, .. }) = self.dying.front().copied() {
                let end = process::reap(pid);
                self.note_end(pid, end);
            }
        }
    }

    fn replace_worker(&mut self, slot: usize) {
        self.stopped.retain(|stopped| stopped.slot != slot);
        self.workers[slot] = self.start_worker(slot);
    }

    /// Notes the end of a process.
    fn note_end(&mut self, pid: Pid, end: WaitStatus) {
        if let Some(at) = self.dying.iter().position(|dying| dying.pid == pid) {
            let slot = self.dying.remove(at).map_or(0, |dying| dying.slot);
            self.check_end(&format_args!("slot {slot}"), end);
            if matches!(end, WaitStatus::Signaled(_, Signal::SIGKILL, _)) {
                self.statistics.kills += 1;
            } else {
                // It was not killed, because a command ended it just before.
                self.killed.remove(&process::id_of(pid));
                self.kill(slot);
            }
        } else if let Some(slot) = self.workers.iter().position(|&worker| worker == pid) {
            self.check_end(&format_args!("slot {slot}"), end);
            self.replace_worker(slot);
        } else {
            self.check_end(&"an orphan or a waiter of a scenario", end);
            if let Some(scenarios) = &mut self.scenarios {
                scenarios.note_end(pid);
            }
        }
    }

    fn check_end(&self, process: &dyn std::fmt::Display, end: WaitStatus) {
        let is_expected = process::is_expected_end(end) || process::end_signal().is_some();
        if !is_expected {
            let detail = format_args!("{process}: {end:?}");
            self.findings().violation(Violation::WrongEnd, detail);
        }
    }

    /// Continues the workers that were to be stopped until this action.
    fn continue_stopped(&mut self, action: u64) {
        let due = |stopped: &Stopped| stopped.until_action <= action;
        for stopped in self.stopped.iter().filter(|stopped| due(stopped)) {
            self.signal(stopped.slot, Signal::SIGCONT);
        }
        self.stopped.retain(|stopped| !due(stopped));
    }

    /// Reaps all processes that have ended: killed workers, workers that obeyed a
    /// command, and orphans.
    fn reap(&mut self) {
        while let Some(end) = process::reap_if_ended(None) {
            if let Some(pid) = end.pid() {
                self.note_end(pid, end);
            }
        }
    }

    fn read_owner_deaths(&mut self) {
        while let Some(death) = self.findings().owner_deaths.next() {
            let moment = self.killed.get(&death.pid);
            match moment.and_then(|&moment| death.reported_after(moment)) {
                Some(time) => {
                    self.killed.remove(&death.pid);
                    self.statistics.note_next_lock(death.site, time);
                }
                None => self.statistics.note_other_death(death),
            }
        }
    }

    /// Waits until every worker has made progress, and checks the totals. Then it runs
    /// the scenarios.
    fn checkpoint(&mut self) {
        self.continue_stopped(u64::MAX);
        self.wait_for_progress();
        self.check_totals();
        self.read_owner_deaths();
        self.killed.clear();
        self.statistics.checkpoints += 1;
        if !self.must_end() {
            self.run_scenarios();
        }
    }

    fn rounds(&self) -> Vec<u64> {
        let slots = &self.shared.slots[..self.workers.len()];
        slots.iter().map(|slot| slot.rounds()).collect()
    }

    fn wait_for_progress(&mut self) {
        let before = self.rounds();
        let begin = Instant::now();
        loop {
            self.reap();
            self.read_owner_deaths();
            let now = self.rounds();
            let mut stuck = (0..now.len())
                .filter(|&slot| now[slot] == before[slot])
                .peekable();
            let have_progress = stuck.peek().is_none() && self.dying.is_empty();
            if have_progress || self.must_end() {
                return;
            }
            if begin.elapsed() > self.plan.timeout {
                stuck.for_each(|slot| self.report_stuck(slot));
                return;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn report_stuck(&self, slot: usize) {
        let pid = self.workers[slot];
        let (role, doing) = (Role::of_slot(slot), process::what_it_does(pid));
        let kills = self.statistics.kills;
        let detail = format_args!("after {kills} kills: {role:?} {pid} in slot {slot}: {doing}");
        self.findings().violation(Violation::Stuck, detail);
    }

    /// Checks that the data has every change that a worker has counted.
    fn check_totals(&mut self) {
        let changes = self.rounds_of(Role::LedgerWriter);
        let taken = self.rounds_of(Role::Consumer);
        let (shared, findings) = (self.shared, self.findings());
        let (ledger, queue) = (&shared.ledger, &shared.queue);
        let timeout = self.plan.timeout;
        match ledger.enter(findings, ledger.mutex.try_lock_for(timeout)) {
            Some(guard) => {
                self.statistics.changes = guard.left;
                self.check_total("changes", changes, guard.left);
                ledger.leave(findings);
            }
            None => findings.violation(Violation::Stuck, "no process gets the ledger"),
        }
        match queue.enter(findings, queue.mutex.try_lock_for(timeout)) {
            Some(guard) => {
                self.statistics.taken = guard.consumed();
                self.check_total("items taken", taken, guard.consumed());
                queue.leave(findings);
            }
            None => findings.violation(Violation::Stuck, "no process gets the queue"),
        }
    }

    fn rounds_of(&self, role: Role) -> u64 {
        let rounds = self.rounds().into_iter().enumerate();
        rounds
            .filter(|(slot, _)| Role::of_slot(*slot) == role)
            .map(|(_, rounds)| rounds)
            .sum()
    }

    fn check_total(&self, what: &str, counted: u64, stored: u64) {
        if stored < counted {
            let detail = format_args!("workers counted {counted} {what}, the data has {stored}");
            self.findings().violation(Violation::LostUpdate, detail);
        }
    }

    /// Runs the scenarios while all workers are stopped.
    fn run_scenarios(&mut self) {
        let Some(mut scenarios) = self.scenarios.take() else {
            return;
        };
        (0..self.workers.len()).for_each(|slot| self.signal(slot, Signal::SIGSTOP));
        let times = scenarios.run();
        (0..self.workers.len()).for_each(|slot| self.signal(slot, Signal::SIGCONT));
        self.statistics.note_recovery(&times);
        self.scenarios = Some(scenarios);
    }

    /// Kills all processes, removes what they leave under names, as any user could, and
    /// checks that nothing is left behind.
    pub(crate) fn end_everything(&mut self) {
        self.end_processes();
        self.read_owner_deaths();
        let findings = self.findings();
        for address in self.addresses.segments() {
            if let Err(fault) = segments::remove_abandoned(address) {
                findings.violation(Violation::WrongSegment, fault);
            }
        }
        let _ = shm_sync::unlink(self.addresses.shared());
        for left in self.addresses.left_behind() {
            findings.violation(Violation::LeftBehind, left);
        }
    }

    fn end_processes(&mut self) {
        self.scenarios = None;
        for worker in self.workers.drain(..) {
            process::kill_and_reap(worker);
        }
        for dying in self.dying.drain(..) {
            process::reap(dying.pid);
        }
        // Their children die with them.
        let begin = Instant::now();
        while process::has_children() && begin.elapsed() < self.plan.timeout {
            process::reap_if_ended(None);
            std::thread::sleep(Duration::from_micros(200));
        }
        if process::has_children() {
            let findings = self.findings();
            findings.violation(Violation::LeftBehind, "a process");
        }
    }
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        self.end_processes();
    }
}
