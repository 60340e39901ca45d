//! One victim, one death, and what becomes of the others.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::signal::Signal;
use shm_sync::Segment;

use super::arena::{Arena, FRIEND, Fault, HEIR, LOCKERS, SLEEPERS, Sight, now, stage};
use super::operation::{self, Notified, Operation, Scene, Start, Way};
use super::subject::Subject;
use crate::support::walker::{Step, Walker};
use crate::support::{Child, Gate, die, spawn};

/// Where on its way the victim is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    /// After so many instructions.
    After(u64),
    /// When it sleeps for the first time.
    Asleep,
    /// When it has just been woken, before it does anything.
    Woken,
}

/// How far the victim has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    ThePoint,
    /// The end came first.
    TheEnd,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) reached: Reached,
    pub(crate) sight: Option<Sight>,
    /// From the death to the first lock of a survivor.
    pub(crate) next_lock: Option<Duration>,
    /// From the death to the last one of those that slept on the lock.
    pub(crate) slept_on_lock: Option<Duration>,
    /// From the death to the last one of those that had to wake on the condition
    /// variable.
    pub(crate) slept_on_condvar: Option<Duration>,
    /// The bits of [`Fault`].
    pub(crate) faults: u32,
}

impl Found {
    /// Whether a survivor can't go on.
    pub(crate) fn is_stuck(&self) -> bool {
        let stuck = Fault::ALL.into_iter().filter(|fault| fault.is_stuck());
        stuck
            .into_iter()
            .any(|fault| self.faults & fault.bit() != 0)
    }
}

/// Kills a victim at `point` of its way. `patience` is how long survivors may take for
/// anything before they count as stuck.
pub(crate) fn kill_at<S: Subject>(way: Way, point: Point, patience: Duration) -> Found {
    let arena = Segment::anonymous(Arena::<S>::new()).unwrap();
    let mut staging = Staging::new(&arena, way);
    let reached = staging.walk(point, Care::IfItMaySleep, |_, _| {});
    staging.kill();
    staging.find(reached, patience)
}

/// Walks the whole way once. `look` is told the number of each instruction and what it
/// was.
pub(crate) fn survey<S: Subject>(way: Way, mut look: impl FnMut(&S, u64, Step)) {
    let arena = Segment::anonymous(Arena::<S>::new()).unwrap();
    let mut staging = Staging::new(&arena, way);
    look(&arena.subject, 0, Step::Plain);
    let reached = staging.walk(Point::After(u64::MAX), Care::EachStep, |number, step| {
        look(&arena.subject, number, step);
    });
    assert_eq!(reached, Reached::TheEnd);
    staging.kill();
}

/// The processes, each where it should be when the victim dies.
struct Staging<'a, S: Subject> {
    arena: &'a Segment<Arena<S>>,
    way: Way,
    walker: Option<Walker>,
    /// Killed and reaped with the others.
    _heir: Child,
    death: Gate,
    go_on: Gate,
    lockers: Vec<Child>,
    sleepers: Vec<Child>,
    holder: Holder<'a, S>,
    /// Whether the sleepers slept when the victim went its way.
    sleepers_were_there: Asleep,
    /// Whether the victim was released from its sleep.
    released: Released,
    /// How many notifications there were before the way, and before the death.
    notifications_before: Option<u32>,
    notifications: Option<u32>,
}

/// Who holds the lock while the victim comes.
enum Holder<'a, S: Subject + 'a> {
    Nobody,
    ThisProcess(S::Guard<'a>),
    /// Is killed with the lock held.
    Doomed(Child),
}

/// How closely it is looked at what a step is, which takes time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    EachStep,
    IfItMaySleep,
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

impl<'a, S: Subject> Staging<'a, S> {
    fn new(arena: &'a Segment<Arena<S>>, way: Way) -> Self {
        let death = Gate::new();
        let go_on = Gate::new();
        let heir = spawn(|| {
            death.pass();
            arena.inherit(|| go_on.pass());
        });
        let mut staging = Self {
            arena,
            way,
            walker: None,
            _heir: heir,
            death,
            go_on,
            lockers: Vec::new(),
            sleepers: Vec::new(),
            holder: Holder::Nobody,
            sleepers_were_there: Asleep::Later,
            released: Released::No,
            notifications_before: arena.subject.notifications(),
            notifications: None,
        };
        staging.set_the_scene();
        staging
    }

    fn set_the_scene(&mut self) {
        let (arena, way) = (self.arena, self.way);
        if matches!(way.start(), Start::OwnerDead | Start::Doubted) {
            let mut owner = spawn(|| tear_and(arena, || die()));
            owner.wait();
        }
        let sleepers_come_later = matches!(way.scene, Scene::First | Scene::Called) && way.waits();
        if way.scene != Scene::Alone && !sleepers_come_later {
            self.send_sleepers();
            self.sleepers_were_there = Asleep::Before;
        }
        if way.start() == Start::Taken {
            self.holder = self.take();
        }
        if way.scene == Scene::Behind {
            self.send_locker();
        }
        let walker = Walker::prepared(
            || operation::prepare(way, arena),
            |stake| operation::walk(way, arena, stake),
        );
        self.walker = Some(walker);
        if way.scene == Scene::Crowd && matches!(way.start(), Start::Held | Start::Doubted) {
            self.send_locker();
            self.send_locker();
        }
    }

    /// Takes the lock before the victim comes.
    fn take(&self) -> Holder<'a, S> {
        let arena = self.arena;
        if self.way.operation != Operation::Inherit {
            let Ok(guard) = arena.subject.lock() else {
                panic!("it is not free");
            };
            return Holder::ThisProcess(guard);
        }
        let locked = Gate::new();
        let holder = spawn(|| {
            tear_and(arena, || {
                locked.open();
                nix::unistd::pause();
            });
        });
        locked.pass();
        Holder::Doomed(holder)
    }

    fn send_sleepers(&mut self) {
        let arena = self.arena;
        for who in SLEEPERS {
            let sleeper = spawn(|| arena.sleep(who));
            crate::support::poll(|| arena.seat(who).has_reached(stage::WAITING));
            sleeper.wait_until_asleep();
            self.sleepers.push(sleeper);
        }
    }

    /// Sends one more to sleep on the lock.
    fn send_locker(&mut self) {
        let arena = self.arena;
        let who = LOCKERS[self.lockers.len()];
        let locker = spawn(|| arena.lock_once(who));
        locker.wait_until_asleep();
        self.lockers.push(locker);
    }

    /// Leads the victim to `point`, if that is on its way.
    fn walk(&mut self, point: Point, care: Care, mut look: impl FnMut(u64, Step)) -> Reached {
        let looks_closely = care == Care::EachStep || self.way.may_sleep();
        for number in 1.. {
            let walker = self.walker.as_mut().unwrap();
            if walker.is_at_end() {
                return Reached::TheEnd;
            }
            if point == Point::After(number - 1) {
                return Reached::ThePoint;
            }
            let step = if looks_closely {
                walker.step_or_sleep()
            } else {
                walker.step_blindly();
                Step::Plain
            };
            if let Step::Asleep(_) = step {
                if point == Point::Asleep {
                    return Reached::ThePoint;
                }
                self.release();
                if point == Point::Woken {
                    return Reached::ThePoint;
                }
                let walker = self.walker.as_mut().unwrap();
                crate::support::poll(|| walker.stands());
            }
            look(number, step);
        }
        unreachable!("there are not so many numbers")
    }

    /// The victim sleeps: what it waits for comes. If it sleeps again, whoever was faster
    /// gives way.
    fn release(&mut self) {
        if self.released == Released::Yes {
            return self.give_back();
        }
        self.released = Released::Yes;
        let way = self.way;
        if way.start() == Start::Taken {
            while self.lockers.len() < LOCKERS.len() {
                self.send_locker();
            }
            self.give_back();
            if way.scene == Scene::Overtaken {
                self.holder = self.take();
            }
        } else if way.waits() {
            if self.sleepers.is_empty() && way.scene != Scene::Alone {
                self.send_sleepers();
                self.sleepers_were_there = Asleep::Before;
            }
            let subject = &self.arena.subject;
            match (way.operation, way.scene) {
                // It waits for its timeout.
                (Operation::WaitTimeout, Scene::Alone) => {}
                (_, Scene::First) => notify(subject, S::notify_one),
                _ => notify(subject, S::notify_all),
            }
        }
    }

    fn give_back(&mut self) {
        match std::mem::replace(&mut self.holder, Holder::Nobody) {
            Holder::Nobody => {}
            Holder::ThisProcess(guard) => drop(guard),
            Holder::Doomed(mut holder) => holder.kill(),
        }
    }

    /// Kills the victim, and lets the others go on.
    fn kill(&mut self) {
        let walker = self.walker.take().unwrap();
        let arena = self.arena;
        self.notifications = arena.subject.notifications();
        arena.death.store(now(), Ordering::SeqCst);
        walker.child().signal(Signal::SIGKILL);
        if !matches!(self.holder, Holder::Nobody) {
            // The others can't have it before.
            arena.death.store(now(), Ordering::SeqCst);
            self.give_back();
        }
        self.death.open();
        walker.kill();
        if self.way.scene != Scene::Alone && self.sleepers.is_empty() {
            self.send_sleepers();
        }
        while self.way.start() == Start::Taken && self.lockers.len() < LOCKERS.len() {
            let who = LOCKERS[self.lockers.len()];
            self.lockers.push(spawn(|| arena.lock_once(who)));
        }
    }

    /// Watches the survivors.
    fn find(mut self, reached: Reached, patience: Duration) -> Found {
        let arena = self.arena;
        let death = arena.death.load(Ordering::SeqCst);
        let slept_on_condvar = match self.watch(reached, patience, death) {
            Ok(slept) => slept,
            Err(fault) => {
                arena.blame(fault);
                None
            }
        };
        let (sight, at) = arena.first_sight().unzip();
        if reached == Reached::TheEnd {
            let was_told = arena.victim_was_told.load(Ordering::SeqCst);
            let must_be_told = self.way.operation == Operation::Inherit
                // A sleeper may have been faster, by its heartbeat.
                && !arena.somebody_else_inherited();
            if was_told != must_be_told {
                arena.blame(Fault::NotTold);
            }
            if self.way.operation == Operation::Section && sight == Some(Sight::CleanBefore) {
                arena.blame(Fault::LostUpdate);
            }
        }
        let since = |at: u64| (at >= death).then(|| Duration::from_nanos(at - death));
        let lockers = LOCKERS.iter().take(self.lockers.len());
        Found {
            reached,
            sight,
            next_lock: at.and_then(since),
            slept_on_lock: lockers.filter_map(|&who| since(arena.seat(who).at())).max(),
            slept_on_condvar,
            faults: arena.faults(),
        }
    }

    /// Watches until all survivors have got on, or somebody has not. How long those
    /// took that had to wake by themselves.
    fn watch(
        &mut self,
        reached: Reached,
        patience: Duration,
        death: u64,
    ) -> Result<Option<Duration>, Fault> {
        let arena = self.arena;
        let within = |fault: Fault, done: &dyn Fn() -> bool| {
            let until = now() + u64::try_from(patience.as_nanos()).unwrap();
            while !done() {
                if now() > until {
                    return Err(fault);
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            Ok(())
        };
        let has_reached = |who, stage| move || arena.seat(who).has_reached(stage);
        within(Fault::LockStuck, &has_reached(HEIR, stage::LOCKED))?;
        for &who in LOCKERS.iter().take(self.lockers.len()) {
            within(Fault::LockersStuck, &has_reached(who, stage::DONE))?;
        }
        within(Fault::LockStuck, &has_reached(HEIR, stage::LOCKED_AGAIN))?;

        let due = self.due(reached);
        within(Fault::SleepersStuck, &|| due.is_met(arena, death))?;
        let slept = due.last_of(arena, death);

        self.go_on.open();
        within(Fault::NotifyStuck, &has_reached(HEIR, stage::NOTIFIED))?;
        for &who in SLEEPERS.iter().take(self.sleepers.len()) {
            within(Fault::NotifyStuck, &has_reached(who, stage::DONE))?;
        }
        let _friend = spawn(|| arena.befriend());
        within(Fault::RoundTripStuck, &has_reached(FRIEND, stage::DONE))?;
        within(Fault::RoundTripStuck, &has_reached(HEIR, stage::DONE))?;
        Ok(slept)
    }

    /// Who of the sleepers must wake by itself after what has happened.
    fn due(&self, reached: Reached) -> Due {
        let arena = self.arena;
        if self.sleepers_were_there == Asleep::Later {
            return Due::Nobody;
        }
        if arena.was_told_of_a_death() {
            return Due::AllSinceTheDeath;
        }
        let has_notified = match (self.notifications_before, self.notifications) {
            (Some(before), Some(after)) => before != after,
            _ => reached == Reached::TheEnd,
        };
        let notified = match self.released {
            Released::Yes => self.way.is_notified_with(),
            Released::No if has_notified => self.way.notifies(),
            Released::No => Notified::Nobody,
        };
        match notified {
            _ if arena.was_told_of_a_panic() => Due::All,
            Notified::All => Due::All,
            Notified::One => Due::One,
            Notified::Nobody => Due::Nobody,
        }
    }
}

/// Which of the sleepers must come back from its wait, if only to wait again.
#[derive(Clone, Copy)]
enum Due {
    Nobody,
    One,
    All,
    /// They may have come back before, too.
    AllSinceTheDeath,
}

impl Due {
    fn is_met<S: Subject>(self, arena: &Arena<S>, death: u64) -> bool {
        let mut seats = SLEEPERS.iter().map(|&who| arena.seat(who));
        match self {
            Self::Nobody => true,
            Self::One => seats.any(|seat| seat.returns() > 0),
            Self::All => seats.all(|seat| seat.returns() > 0),
            Self::AllSinceTheDeath => seats.all(|seat| seat.returns() > 0 && seat.at() >= death),
        }
    }

    /// When the last of them came back, counted from the death.
    fn last_of<S: Subject>(self, arena: &Arena<S>, death: u64) -> Option<Duration> {
        let came = SLEEPERS.iter().map(|&who| arena.seat(who));
        let came = came.filter(|seat| seat.returns() > 0 && seat.at() >= death);
        let times = came.map(|seat| Duration::from_nanos(seat.at() - death));
        match self {
            Self::Nobody => None,
            Self::One => times.min(),
            Self::All | Self::AllSinceTheDeath => times.max(),
        }
    }
}

fn notify<S: Subject>(subject: &S, notify: fn(&S)) {
    let Ok(guard) = subject.lock() else {
        panic!("nobody has died yet");
    };
    notify(subject);
    drop(guard);
}

/// Takes the lock, leaves the data half-changed, and goes on to its end.
fn tear_and<S: Subject>(arena: &Arena<S>, end: impl FnOnce()) {
    let Ok(mut guard) = arena.subject.lock() else {
        panic!("nobody has died yet");
    };
    guard.first += 5;
    end();
}
