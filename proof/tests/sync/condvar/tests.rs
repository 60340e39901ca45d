//! What must hold in every state of the condition variable, and which mistakes break it.

use stateright::{Model, Property};

use super::{
    Condvar, Heartbeat, Id, Killed, Lock, Mistake, PROCESSES, Poison, Process, Role, State, Step,
    When, Whom,
};
use crate::check::{self, NOBODY_IS_STUCK, Size, nobody_is_stuck};

const ENOUGH_SLEEPERS: &str = "`sleepers` is never too low";
const HAS_THE_LOCK: &str = "who comes back from a wait has the mutex";
const NEVER_BLOCKED: &str = "nothing keeps a notifier from its next step";
const LEAVES_BY_ITSELF: &str = "a sleeper with reason wakes by itself, at its next heartbeat";

pub(super) fn properties() -> Vec<Property<Condvar>> {
    vec![
        nobody_is_stuck(),
        Property::always(ENOUGH_SLEEPERS, |_, state: &State| {
            use Step::{Deregister, LookAtClock, LookForDeath, LookForPoison, Queued, Sleep};
            let sleeps = |(_, process): &(Id, &Process)| {
                matches!(
                    process.step,
                    Sleep | Queued | LookForDeath | LookForPoison | LookAtClock | Deregister
                )
            };
            state.all().filter(sleeps).count() <= usize::from(state.sleepers)
        }),
        Property::always(HAS_THE_LOCK, |_, state: &State| {
            use Step::{
                Clear, Count, GiveBack, Judge, Mark, ReadCount, ReadSequence, Unlock, Work,
            };
            state.all().all(|(id, process)| match process.step {
                Mark | Count | Judge | Clear | Work | ReadSequence | ReadCount | GiveBack
                | Unlock => state.lock == Lock::HeldBy(id),
                _ => true,
            })
        }),
        Property::always(NEVER_BLOCKED, |machine: &Condvar, state: &State| {
            let notifies =
                |step| matches!(step, Step::AddSequence | Step::ReadSleepers | Step::Wake);
            let notifiers = state.all().filter(|(_, process)| notifies(process.step));
            let next: Vec<State> = machine.next_states(state);
            let goes_on = |id| {
                next.iter().any(|next| {
                    !matches!(next.step(id), Step::Dying) && next.step(id) != state.step(id)
                })
            };
            notifiers.map(|(id, _)| id).all(goes_on)
        }),
        Property::always(LEAVES_BY_ITSELF, |machine: &Condvar, state: &State| {
            let all = state.all().map(|(id, _)| id);
            let mut with_reason = all.filter(|id| Condvar::has_reason(state, *id));
            machine.heartbeat != Heartbeat::Everybody
                || with_reason.all(|id| machine.leaves_by_itself(state, id))
        }),
    ]
}

fn producer(items: u8, whom: Whom, when: When) -> Role {
    Role::Producer { items, whom, when }
}

/// Puts one item after another and notifies one waiter of each, as the documentation
/// advises.
fn careful_producer(items: u8) -> Role {
    producer(items, Whom::One, When::UnderTheLock)
}

/// Nobody dies, and nobody has a heartbeat: every notification must do by itself.
fn living(cast: [Role; PROCESSES], mistake: Mistake) -> Condvar {
    Condvar {
        cast,
        heartbeat: Heartbeat::Nobody,
        deaths: 0,
        killed: Killed::AnyoneAnywhere,
        mistake,
    }
}

/// Up to two die, and everybody has a heartbeat.
fn dying(cast: [Role; PROCESSES], mistake: Mistake) -> Condvar {
    Condvar {
        heartbeat: Heartbeat::Everybody,
        deaths: 2,
        ..living(cast, mistake)
    }
}

/// The holder dies while three sleep, of whom only the first ever looks around.
fn told(mistake: Mistake) -> Condvar {
    let cast = [
        Role::Consumer,
        Role::Consumer,
        Role::Consumer,
        Role::Visitor,
    ];
    Condvar {
        heartbeat: Heartbeat::OnlyTheFirst,
        deaths: 1,
        killed: Killed::WhileOthersSleep(3),
        ..living(cast, mistake)
    }
}

const CONSUMERS: [Role; 2] = [Role::Consumer, Role::Consumer];

fn two_consumers_and(third: Role, fourth: Role) -> [Role; PROCESSES] {
    [CONSUMERS[0], CONSUMERS[1], third, fourth]
}

/// A small cast for what needs no larger one.
fn few() -> [Role; PROCESSES] {
    two_consumers_and(careful_producer(2), Role::Absent)
}

fn with_an_impatient_one() -> [Role; PROCESSES] {
    [
        Role::Impatient,
        Role::Consumer,
        careful_producer(2),
        Role::Absent,
    ]
}

/// One poisons, and one repairs before the sleepers look.
fn with_poison_that_passes() -> [Role; PROCESSES] {
    [Role::Consumer, Role::Panicker, Role::Visitor, Role::Absent]
}

pub(crate) fn smoke() {
    let machine = living(few(), Mistake::None);
    let [state] = machine.init_states()[..] else {
        panic!("it begins in one way");
    };
    assert_eq!(state.poison, Poison::Clean);
    assert_eq!(machine.next_steps(&state).len(), 3);
}

#[test]
fn among_the_living_no_wakeup_is_lost() {
    let mut others = vec![
        (
            careful_producer(1),
            producer(1, Whom::One, When::AfterUnlocking),
        ),
        (producer(2, Whom::All, When::UnderTheLock), Role::Absent),
        (producer(2, Whom::One, When::AfterUnlocking), Role::Absent),
    ];
    if Size::wanted() == Size::Large {
        others.push((
            careful_producer(2),
            producer(2, Whom::One, When::AfterUnlocking),
        ));
    }
    for (third, fourth) in others {
        let machine = living(two_consumers_and(third, fourth), Mistake::None);
        check::holds(&format!("condvar, living, {third:?}, {fourth:?}"), &machine);
    }
}

#[test]
fn a_timeout_takes_no_notification_along() {
    let machine = living(with_an_impatient_one(), Mistake::None);
    check::holds("condvar, living, impatient", &machine);
    let machine = dying(with_an_impatient_one(), Mistake::None);
    check::holds("condvar, dying, impatient", &machine);
}

#[test]
fn whoever_dies_nobody_sleeps_for_ever() {
    check::holds("condvar, dying", &dying(few(), Mistake::None));
    if Size::wanted() == Size::Large {
        let cast = two_consumers_and(careful_producer(1), careful_producer(1));
        check::holds("condvar, dying, two producers", &dying(cast, Mistake::None));
    }
}

#[test]
fn poison_that_comes_and_goes_is_noticed() {
    let cast = with_poison_that_passes();
    check::holds("condvar, dying, poison", &dying(cast, Mistake::None));
}

#[test]
fn who_learns_of_a_death_in_a_wait_tells_all() {
    check::holds("condvar, told", &told(Mistake::None));
}

/// What the documentation warns of: without the lock, nobody learns that the notifier
/// died.
#[test]
fn a_notifier_that_dies_after_unlocking_leaves_sleepers() {
    let late = producer(1, Whom::One, When::AfterUnlocking);
    let machine = dying(two_consumers_and(late, Role::Absent), Mistake::None);
    check::is_found("AfterUnlocking", &machine, NOBODY_IS_STUCK);
}

#[test]
fn mistakes_among_the_living_are_found() {
    for mistake in [
        Mistake::ReadsSequenceLate,
        Mistake::RegistersLate,
        Mistake::LooksFirst,
        Mistake::OnlyWakes,
    ] {
        check::is_found(mistake, &living(few(), mistake), NOBODY_IS_STUCK);
    }
    let mistake = Mistake::WakerDeregisters;
    check::is_found(mistake, &living(few(), mistake), ENOUGH_SLEEPERS);
}

#[test]
fn mistakes_about_deadlines_are_found() {
    for (mistake, property) in [
        (Mistake::DeadlineBeatsWake, NOBODY_IS_STUCK),
        (Mistake::TimesOutWithoutLock, HAS_THE_LOCK),
    ] {
        let machine = living(with_an_impatient_one(), mistake);
        check::is_found(mistake, &machine, property);
    }
}

#[test]
fn mistakes_about_deaths_are_found() {
    let without_heartbeat = Condvar {
        heartbeat: Heartbeat::Nobody,
        ..dying(few(), Mistake::None)
    };
    check::is_found("no heartbeat", &without_heartbeat, NOBODY_IS_STUCK);
    for (mistake, property) in [
        (Mistake::ForgetsSequence, NOBODY_IS_STUCK),
        (Mistake::NoLookForDeath, LEAVES_BY_ITSELF),
    ] {
        check::is_found(mistake, &dying(few(), mistake), property);
    }
    for mistake in [
        Mistake::NoLookForPoison,
        Mistake::ReadsPoisoningsLate,
        Mistake::Uncounted,
    ] {
        let machine = dying(with_poison_that_passes(), mistake);
        check::is_found(mistake, &machine, LEAVES_BY_ITSELF);
    }
}

#[test]
fn mistakes_in_telling_are_found() {
    for mistake in [Mistake::KeepsItToItself, Mistake::TellsOne] {
        check::is_found(mistake, &told(mistake), NOBODY_IS_STUCK);
    }
}

#[test]
fn a_sleeper_that_the_kernel_refuses_must_not_insist() {
    let mistake = Mistake::SleepsAnyway;
    check::goes_in_circles(mistake, &dying(few(), mistake));
}
