//! One experiment: a victim, its death, and how the survivors continue.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::signal::Signal;
use shm_sync::Segment;

use super::arena::{
    Arena, CONDVAR_WAITERS, Fault, LOCK_WAITERS, Observation, PARTNER, SUCCESSOR, now, stage,
};
use super::operation::{self, Case, Notified, Operation, Scene, Start};
use super::subject::Subject;
use crate::support::walker::{Step, Walker};
use crate::support::{Child, Gate, die, spawn};

/// The point at which the victim is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    /// After this number of instructions.
    After(u64),
    /// During its first sleep.
    Asleep,
    /// Just after it was woken, before its next instruction.
    Woken,
}

/// The progress of the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    Point,
    /// The operation ended before the point.
    End,
}

/// The observations of one experiment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) reached: Reached,
    pub(crate) observation: Option<Observation>,
    /// Time from the death to the first lock of a survivor.
    pub(crate) next_lock: Option<Duration>,
    /// Time from the death until the last waiter of the lock had acquired it.
    pub(crate) waited_for_lock: Option<Duration>,
    /// Time from the death until the last waiter of the condition variable that had to
    /// wake was awake.
    pub(crate) waited_on_condvar: Option<Duration>,
    /// The bits of [`Fault`].
    pub(crate) faults: u32,
}

impl Found {
    /// Returns whether a survivor is stuck.
    pub(crate) fn is_stuck(&self) -> bool {
        let stuck = Fault::ALL.into_iter().filter(|fault| fault.is_stuck());
        stuck
            .into_iter()
            .any(|fault| self.faults & fault.bit() != 0)
    }
}

/// Kills a victim at `point` of its operation. A survivor that needs longer than
/// `time_limit` for a step counts as stuck.
pub(crate) fn kill_at<S: Subject>(case: Case, point: Point, time_limit: Duration) -> Found {
    let arena = Segment::anonymous(Arena::<S>::new()).unwrap();
    let mut experiment = Experiment::new(&arena, case);
    let reached = experiment.walk(point, Stepping::BlindIfNeverAsleep, |_, _| {});
    experiment.kill();
    experiment.find(reached, time_limit)
}

/// Traces the whole operation once. Calls `visit` with the number of each instruction
/// and what it was.
pub(crate) fn trace<S: Subject>(case: Case, mut visit: impl FnMut(&S, u64, Step)) {
    let arena = Segment::anonymous(Arena::<S>::new()).unwrap();
    let mut experiment = Experiment::new(&arena, case);
    visit(&arena.subject, 0, Step::Plain);
    let reached = experiment.walk(
        Point::After(u64::MAX),
        Stepping::SeeEachStep,
        |number, step| {
            visit(&arena.subject, number, step);
        },
    );
    assert_eq!(reached, Reached::End);
    experiment.kill();
}

/// The processes of an experiment.
struct Experiment<'a, S: Subject> {
    arena: &'a Segment<Arena<S>>,
    case: Case,
    walker: Option<Walker>,
    /// Killed and reaped when the experiment is dropped.
    _successor: Child,
    death: Gate,
    go_on: Gate,
    lock_waiters: Vec<Child>,
    condvar_waiters: Vec<Child>,
    holder: Holder<'a, S>,
    /// The waiters of the condition variable slept when the operation began, or only
    /// later.
    condvar_waiters_slept: Asleep,
    /// The event that the victim waits for has happened, or not.
    released: Released,
    /// The numbers of notifications before the operation and before the death.
    notifications_before: Option<u32>,
    notifications: Option<u32>,
}

/// The holder of the lock when the victim's operation begins.
enum Holder<'a, S: Subject + 'a> {
    None,
    ThisProcess(S::Guard<'a>),
    /// A process that is killed while it holds the lock.
    OtherProcess(Child),
}

/// The classification of each step, which takes time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stepping {
    SeeEachStep,
    BlindIfNeverAsleep,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asleep {
    Before,
    Later,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Released {
    No,
    Yes,
}

impl<'a, S: Subject> Experiment<'a, S> {
    fn new(arena: &'a Segment<Arena<S>>, case: Case) -> Self {
        let death = Gate::new();
        let go_on = Gate::new();
        let successor = spawn(|| {
            death.pass();
            arena.run_successor(|| go_on.pass());
        });
        let mut experiment = Self {
            arena,
            case,
            walker: None,
            _successor: successor,
            death,
            go_on,
            lock_waiters: Vec::new(),
            condvar_waiters: Vec::new(),
            holder: Holder::None,
            condvar_waiters_slept: Asleep::Later,
            released: Released::No,
            notifications_before: arena.subject.notifications(),
            notifications: None,
        };
        experiment.set_up_scene();
        experiment
    }

    fn set_up_scene(&mut self) {
        let (arena, case) = (self.arena, self.case);
        if matches!(case.start(), Start::OwnerDead | Start::Poisoned) {
            let mut owner = spawn(|| lock_and_tear(arena, || die()));
            owner.wait();
        }
        let waiters_come_later = matches!(case.scene, Scene::First | Scene::Called) && case.waits();
        if case.scene != Scene::Alone && !waiters_come_later {
            self.start_condvar_waiters();
            self.condvar_waiters_slept = Asleep::Before;
        }
        if case.start() == Start::Taken {
            self.holder = self.hold_lock();
        }
        if case.scene == Scene::Behind {
            self.start_lock_waiter();
        }
        let walker = Walker::prepared(
            || operation::prepare(case, arena),
            |held| operation::walk(case, arena, held),
        );
        self.walker = Some(walker);
        if case.scene == Scene::Crowd && matches!(case.start(), Start::Held | Start::Poisoned) {
            self.start_lock_waiter();
            self.start_lock_waiter();
        }
    }

    /// Acquires the lock before the victim's operation.
    fn hold_lock(&self) -> Holder<'a, S> {
        let arena = self.arena;
        if self.case.operation != Operation::RecoverOwnerDeath {
            let Ok(guard) = arena.subject.lock() else {
                panic!("the lock is not free");
            };
            return Holder::ThisProcess(guard);
        }
        let locked = Gate::new();
        let holder = spawn(|| {
            lock_and_tear(arena, || {
                locked.open();
                nix::unistd::pause();
            });
        });
        locked.pass();
        Holder::OtherProcess(holder)
    }

    fn start_condvar_waiters(&mut self) {
        let arena = self.arena;
        for process in CONDVAR_WAITERS {
            let waiter = spawn(|| arena.sleep(process));
            crate::support::poll(|| arena.progress_of(process).has_reached(stage::WAITING));
            waiter.wait_until_asleep();
            self.condvar_waiters.push(waiter);
        }
    }

    /// Starts one more waiter of the lock.
    fn start_lock_waiter(&mut self) {
        let arena = self.arena;
        let process = LOCK_WAITERS[self.lock_waiters.len()];
        let waiter = spawn(|| arena.lock_once(process));
        waiter.wait_until_asleep();
        self.lock_waiters.push(waiter);
    }

    /// Leads the victim to `point`, or to the end of its operation.
    fn walk(
        &mut self,
        point: Point,
        stepping: Stepping,
        mut visit: impl FnMut(u64, Step),
    ) -> Reached {
        let classifies = stepping == Stepping::SeeEachStep || self.case.may_sleep();
        for number in 1.. {
            let walker = self.walker.as_mut().unwrap();
            if walker.is_at_end() {
                return Reached::End;
            }
            if point == Point::After(number - 1) {
                return Reached::Point;
            }
            let step = if classifies {
                walker.step_or_sleep()
            } else {
                walker.step_blindly();
                Step::Plain
            };
            if let Some(is_asleep) = step.waits() {
                if point == Point::Asleep && is_asleep {
                    return Reached::Point;
                }
                self.release();
                if point == Point::Woken {
                    return Reached::Point;
                }
                let walker = self.walker.as_mut().unwrap();
                crate::support::poll(|| !is_asleep || walker.stands());
            }
            visit(number, step);
        }
        unreachable!("an operation has fewer instructions than u64 has numbers")
    }

    /// Causes the event that the sleeping victim waits for. If the victim sleeps again,
    /// the process that acquired the lock first releases it.
    fn release(&mut self) {
        if self.released == Released::Yes {
            return self.release_lock();
        }
        self.released = Released::Yes;
        let case = self.case;
        if case.start() == Start::Taken {
            while self.lock_waiters.len() < LOCK_WAITERS.len() {
                self.start_lock_waiter();
            }
            self.release_lock();
            if case.scene == Scene::Overtaken {
                self.holder = self.hold_lock();
            }
        } else if case.waits() {
            if self.condvar_waiters.is_empty() && case.scene != Scene::Alone {
                self.start_condvar_waiters();
                self.condvar_waiters_slept = Asleep::Before;
            }
            let subject = &self.arena.subject;
            match (case.operation, case.scene) {
                // The victim waits for its timeout.
                (Operation::WaitTimeout, Scene::Alone) => {}
                (_, Scene::First) => notify(subject, S::notify_one),
                _ => notify(subject, S::notify_all),
            }
        }
    }

    fn release_lock(&mut self) {
        match std::mem::replace(&mut self.holder, Holder::None) {
            Holder::None => {}
            Holder::ThisProcess(guard) => drop(guard),
            Holder::OtherProcess(mut holder) => holder.kill(),
        }
    }

    /// Kills the victim, and starts the waiters that did not wait before.
    fn kill(&mut self) {
        let walker = self.walker.take().unwrap();
        let arena = self.arena;
        self.notifications = arena.subject.notifications();
        arena.death.store(now(), Ordering::SeqCst);
        walker.child().signal(Signal::SIGKILL);
        if !matches!(self.holder, Holder::None) {
            // The survivors cannot acquire the lock before it is released here.
            arena.death.store(now(), Ordering::SeqCst);
            self.release_lock();
        }
        self.death.open();
        walker.kill();
        if self.case.scene != Scene::Alone && self.condvar_waiters.is_empty() {
            self.start_condvar_waiters();
        }
        while self.case.start() == Start::Taken && self.lock_waiters.len() < LOCK_WAITERS.len() {
            let process = LOCK_WAITERS[self.lock_waiters.len()];
            self.lock_waiters.push(spawn(|| arena.lock_once(process)));
        }
    }

    /// Waits for the survivors, and returns what was observed.
    fn find(mut self, reached: Reached, time_limit: Duration) -> Found {
        let arena = self.arena;
        let death = arena.death.load(Ordering::SeqCst);
        let waited_on_condvar = match self.watch(reached, time_limit, death) {
            Ok(slept) => slept,
            Err(fault) => {
                arena.record_fault(fault);
                None
            }
        };
        let (observation, at) = arena.first_observation().unzip();
        if reached == Reached::End {
            let was_told = arena.victim_saw_poison.load(Ordering::SeqCst);
            let must_be_told = self.case.operation == Operation::RecoverOwnerDeath
                // A waiter may have recovered the lock first, after its recheck
                // interval.
                && !arena.was_recovered_early();
            if was_told != must_be_told {
                arena.record_fault(Fault::OwnerDeathNotReported);
            }
            if self.case.operation == Operation::Section
                && observation == Some(Observation::CleanBefore)
            {
                arena.record_fault(Fault::LostUpdate);
            }
        }
        let since = |at: u64| (at >= death).then(|| Duration::from_nanos(at - death));
        let lock_waiters = LOCK_WAITERS.iter().take(self.lock_waiters.len());
        Found {
            reached,
            observation,
            next_lock: at.and_then(since),
            waited_for_lock: lock_waiters
                .filter_map(|&process| since(arena.progress_of(process).at()))
                .max(),
            waited_on_condvar,
            faults: arena.faults(),
        }
    }

    /// Waits until all survivors have continued, or one is stuck. Returns how long the
    /// waiters took that had to wake by themselves.
    fn watch(
        &mut self,
        reached: Reached,
        time_limit: Duration,
        death: u64,
    ) -> Result<Option<Duration>, Fault> {
        let arena = self.arena;
        let within = |fault: Fault, done: &dyn Fn() -> bool| {
            let until = now() + u64::try_from(time_limit.as_nanos()).unwrap();
            while !done() {
                if now() > until {
                    return Err(fault);
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            Ok(())
        };
        let has_reached = |process, stage| move || arena.progress_of(process).has_reached(stage);
        within(Fault::LockStuck, &has_reached(SUCCESSOR, stage::LOCKED))?;
        for &process in LOCK_WAITERS.iter().take(self.lock_waiters.len()) {
            within(Fault::LockWaitersStuck, &has_reached(process, stage::DONE))?;
        }
        within(
            Fault::LockStuck,
            &has_reached(SUCCESSOR, stage::LOCKED_AGAIN),
        )?;

        let due = self.due(reached);
        within(Fault::CondvarWaitersStuck, &|| due.is_met(arena, death))?;
        let slept = due.last_of(arena, death);

        self.go_on.open();
        within(
            Fault::NotifierStuck,
            &has_reached(SUCCESSOR, stage::NOTIFIED),
        )?;
        for &process in CONDVAR_WAITERS.iter().take(self.condvar_waiters.len()) {
            within(Fault::NotifierStuck, &has_reached(process, stage::DONE))?;
        }
        let _partner = spawn(|| arena.notify_successor());
        within(Fault::RoundTripStuck, &has_reached(PARTNER, stage::DONE))?;
        within(Fault::RoundTripStuck, &has_reached(SUCCESSOR, stage::DONE))?;
        Ok(slept)
    }

    /// Returns which waiters of the condition variable must wake without a further
    /// notification.
    fn due(&self, reached: Reached) -> Due {
        let arena = self.arena;
        if self.condvar_waiters_slept == Asleep::Later {
            return Due::None;
        }
        if arena.owner_death_was_reported() {
            return Due::AllSinceDeath;
        }
        let has_notified = match (self.notifications_before, self.notifications) {
            (Some(before), Some(after)) => before != after,
            _ => reached == Reached::End,
        };
        let notified = match self.released {
            Released::Yes => self.case.is_notified_with(),
            Released::No if has_notified => self.case.notifies(),
            Released::No => Notified::None,
        };
        match notified {
            _ if arena.panic_was_reported() => Due::All,
            Notified::All => Due::All,
            Notified::One => Due::One,
            Notified::None => Due::None,
        }
    }
}

/// The waiters of the condition variable that must return from their wait, even if they
/// wait again.
#[derive(Clone, Copy)]
enum Due {
    None,
    One,
    All,
    /// They may have returned before the death as well.
    AllSinceDeath,
}

impl Due {
    fn is_met<S: Subject>(self, arena: &Arena<S>, death: u64) -> bool {
        let mut progress = CONDVAR_WAITERS
            .iter()
            .map(|&process| arena.progress_of(process));
        match self {
            Self::None => true,
            Self::One => progress.any(|progress_of| progress_of.returns() > 0),
            Self::All => progress.all(|progress_of| progress_of.returns() > 0),
            Self::AllSinceDeath => {
                progress.all(|progress_of| progress_of.returns() > 0 && progress_of.at() >= death)
            }
        }
    }

    /// Returns the time from the death until the last of them returned.
    fn last_of<S: Subject>(self, arena: &Arena<S>, death: u64) -> Option<Duration> {
        let returned = CONDVAR_WAITERS
            .iter()
            .map(|&process| arena.progress_of(process));
        let returned =
            returned.filter(|progress_of| progress_of.returns() > 0 && progress_of.at() >= death);
        let times = returned.map(|progress_of| Duration::from_nanos(progress_of.at() - death));
        match self {
            Self::None => None,
            Self::One => times.min(),
            Self::All | Self::AllSinceDeath => times.max(),
        }
    }
}

fn notify<S: Subject>(subject: &S, notify: fn(&S)) {
    let Ok(guard) = subject.lock() else {
        panic!("the lock is poisoned before the death");
    };
    notify(subject);
    drop(guard);
}

/// Locks, leaves the data half-changed, and runs `end`.
fn lock_and_tear<S: Subject>(arena: &Arena<S>, end: impl FnOnce()) {
    let Ok(mut guard) = arena.subject.lock() else {
        panic!("the lock is poisoned before the death");
    };
    guard.first += 5;
    end();
}
