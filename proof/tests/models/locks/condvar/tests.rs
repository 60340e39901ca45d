//! What must hold in every state of the condition variable, and which mistakes break it.

use stateright::Model;

use super::model::{ENOUGH_SLEEPERS, HAS_THE_LOCK, LEAVES_BY_ITSELF};
use super::state::{Condvar, Heartbeat, Killed, Mistake, PROCESSES, Poison, Role, When, Whom};
use crate::locks::checker::{self as check, NOBODY_IS_STUCK};
use crate::size::Size;

fn producer(items: u8, whom: Whom, when: When) -> Role {
    Role::Producer { items, whom, when }
}

/// Puts one item after another and notifies one waiter of each, as the documentation
/// advises.
fn careful_producer(items: u8) -> Role {
    producer(items, Whom::One, When::UnderTheLock)
}

fn two_consumers_and(others: &[Role]) -> Vec<Role> {
    [&[Role::Consumer; 2], others].concat()
}

fn three_consumers_and(others: &[Role]) -> Vec<Role> {
    [&[Role::Consumer; 3], others].concat()
}

/// A small cast for what needs no larger one.
fn few() -> Vec<Role> {
    two_consumers_and(&[careful_producer(2)])
}

fn with_an_impatient_one() -> Vec<Role> {
    vec![Role::Impatient, Role::Consumer, careful_producer(2)]
}

/// One poisons, and one repairs before the sleepers look.
fn with_poison_that_passes() -> Vec<Role> {
    vec![Role::Consumer, Role::Panicker, Role::Visitor]
}

/// Two wait for what a `notify_all` tells, and one for what a `notify_one` tells after it.
fn with_guests(when: When) -> Vec<Role> {
    let host = Role::Host { items: 1, when };
    vec![Role::Consumer, Role::Guest, Role::Guest, host]
}

/// Nobody dies, and nobody has a heartbeat: every notification must do by itself.
fn living(there: &[Role], mistake: Mistake) -> Condvar {
    let mut cast = [Role::Absent; PROCESSES];
    cast[..there.len()].copy_from_slice(there);
    Condvar {
        cast,
        heartbeat: Heartbeat::Nobody,
        deaths: 0,
        killed: Killed::AnyoneAnywhere,
        mistake,
    }
}

/// Up to two die, and everybody has a heartbeat.
fn dying(there: &[Role], mistake: Mistake) -> Condvar {
    Condvar {
        heartbeat: Heartbeat::Everybody,
        deaths: 2,
        ..living(there, mistake)
    }
}

/// The same, but up to two die only if the size is large. Otherwise up to one.
fn dying_by_size(there: &[Role]) -> Condvar {
    Condvar {
        deaths: match Size::chosen() {
            Size::Small => 1,
            Size::Large => 2,
        },
        ..dying(there, Mistake::None)
    }
}

/// The holder dies while three sleep, of whom only the first ever looks around. It tells
/// one of the others, who calls the last.
fn told(mistake: Mistake) -> Condvar {
    Condvar {
        heartbeat: Heartbeat::OnlyTheFirst,
        deaths: 1,
        killed: Killed::WhileOthersSleep(3),
        ..living(&three_consumers_and(&[Role::Visitor]), mistake)
    }
}

/// What a line of output says about who takes part.
fn names(there: &[Role]) -> String {
    let names: Vec<String> = there.iter().map(|role| format!("{role:?}")).collect();
    names.join(", ")
}

fn no_wakeup_is_lost(there: &[Role]) {
    let machine = living(there, Mistake::None);
    check::holds(&format!("condvar, living: {}", names(there)), &machine);
}

#[test]
fn smoke() {
    let machine = living(&few(), Mistake::None);
    let [state] = machine.init_states()[..] else {
        panic!("it begins in one way");
    };
    assert_eq!(state.poison, Poison::Clean);
    assert_eq!(machine.next_steps(&state).len(), 3);
}

#[test]
fn among_the_living_no_wakeup_is_lost() {
    let late = |items| producer(items, Whom::One, When::AfterUnlocking);
    no_wakeup_is_lost(&two_consumers_and(&[careful_producer(1), late(1)]));
    no_wakeup_is_lost(&two_consumers_and(&[late(2)]));
    if Size::chosen() == Size::Large {
        no_wakeup_is_lost(&two_consumers_and(&[careful_producer(2), late(2)]));
    }
}

#[test]
fn among_the_living_the_chain_reaches_everybody() {
    let all = |items, when| producer(items, Whom::All, when);
    for when in [When::UnderTheLock, When::AfterUnlocking] {
        no_wakeup_is_lost(&two_consumers_and(&[all(2, when)]));
        no_wakeup_is_lost(&three_consumers_and(&[all(1, when)]));
        if Size::chosen() == Size::Large {
            no_wakeup_is_lost(&three_consumers_and(&[all(2, when)]));
        }
    }
    if Size::chosen() == Size::Large {
        let late = all(1, When::AfterUnlocking);
        no_wakeup_is_lost(&three_consumers_and(&[late, late]));
    }
}

#[test]
fn among_the_living_notify_one_and_notify_all_do_not_hinder_each_other() {
    for when in [When::UnderTheLock, When::AfterUnlocking] {
        let both = [producer(1, Whom::All, when), producer(1, Whom::One, when)];
        no_wakeup_is_lost(&two_consumers_and(&both));
        if Size::chosen() == Size::Large {
            no_wakeup_is_lost(&three_consumers_and(&both));
        }
        no_wakeup_is_lost(&with_guests(when));
    }
}

#[test]
fn a_timeout_takes_no_notification_along() {
    let machine = living(&with_an_impatient_one(), Mistake::None);
    check::holds("condvar, living, impatient", &machine);
    let machine = dying(&with_an_impatient_one(), Mistake::None);
    check::holds("condvar, dying, impatient", &machine);
    let all = producer(2, Whom::All, When::UnderTheLock);
    no_wakeup_is_lost(&[Role::Impatient, Role::Consumer, all]);
    if Size::chosen() == Size::Large {
        let all = producer(1, Whom::All, When::AfterUnlocking);
        no_wakeup_is_lost(&[Role::Impatient, Role::Consumer, Role::Consumer, all]);
    }
}

#[test]
fn whoever_dies_nobody_sleeps_for_ever() {
    check::holds("condvar, dying", &dying(&few(), Mistake::None));
    if Size::chosen() == Size::Large {
        let cast = two_consumers_and(&[careful_producer(1); 2]);
        let machine = dying(&cast, Mistake::None);
        check::holds("condvar, dying, two producers", &machine);
    }
}

#[test]
fn whoever_dies_in_the_chain_nobody_sleeps_for_ever() {
    let all = producer(1, Whom::All, When::UnderTheLock);
    let mut casts = vec![two_consumers_and(&[all, careful_producer(1)])];
    if Size::chosen() == Size::Large {
        casts.push(three_consumers_and(&[all]));
        casts.push(with_guests(When::UnderTheLock));
    }
    for cast in casts {
        let what = format!("condvar, dying: {}", names(&cast));
        check::holds(&what, &dying_by_size(&cast));
    }
}

#[test]
fn poison_that_comes_and_goes_is_noticed() {
    let cast = with_poison_that_passes();
    check::holds("condvar, dying, poison", &dying(&cast, Mistake::None));
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
    let machine = dying(&two_consumers_and(&[late]), Mistake::None);
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
        check::is_found(mistake, &living(&few(), mistake), NOBODY_IS_STUCK);
    }
    let mistake = Mistake::WakerDeregisters;
    check::is_found(mistake, &living(&few(), mistake), ENOUGH_SLEEPERS);
}

/// Three changes are not here, because they lose nothing:
///
/// * Who timed out does not call the next one. It has left the kernel's queue by itself,
///   so no wakeup was spent on it, and the chain does not lead over it.
/// * Who is called compares the generations before it takes itself off the sleepers. It is
///   off the kernel's queue by then, so a `notify_all` that comes later begins its chain
///   with somebody else.
/// * Who is called calls the next one once it has the mutex, content or not. It gets the
///   mutex in the end. (And who dies before that has a heartbeat behind it, as ever.)
#[test]
fn mistakes_in_the_chain_are_found() {
    for mistake in [
        Mistake::StaysInGeneration,
        Mistake::CallsNobody,
        Mistake::CallsAnyone,
        Mistake::CallsIfContent,
        // Among consumers it loses nothing: the one that is hit has not looked yet, and
        // takes the item itself. A guest goes and leaves it.
        Mistake::NotifiesTheCalled,
    ] {
        let machine = living(&with_guests(When::UnderTheLock), mistake);
        check::is_found(mistake, &machine, NOBODY_IS_STUCK);
    }
    // Under the lock nobody can begin to wait between the new generation and the wake.
    let mistake = Mistake::BeginsWithAnyone;
    let machine = living(&with_guests(When::AfterUnlocking), mistake);
    check::is_found(mistake, &machine, NOBODY_IS_STUCK);
}

#[test]
fn mistakes_about_deadlines_are_found() {
    for (mistake, property) in [
        (Mistake::DeadlineBeatsWake, NOBODY_IS_STUCK),
        (Mistake::TimesOutWithoutLock, HAS_THE_LOCK),
    ] {
        let machine = living(&with_an_impatient_one(), mistake);
        check::is_found(mistake, &machine, property);
    }
}

#[test]
fn mistakes_about_deaths_are_found() {
    let without_heartbeat = Condvar {
        heartbeat: Heartbeat::Nobody,
        ..dying(&few(), Mistake::None)
    };
    check::is_found("no heartbeat", &without_heartbeat, NOBODY_IS_STUCK);
    for (mistake, property) in [
        (Mistake::ForgetsSequence, NOBODY_IS_STUCK),
        (Mistake::NoLookForDeath, LEAVES_BY_ITSELF),
    ] {
        check::is_found(mistake, &dying(&few(), mistake), property);
    }
    for mistake in [
        Mistake::NoLookForPoison,
        Mistake::ReadsPoisoningsLate,
        Mistake::Uncounted,
    ] {
        let machine = dying(&with_poison_that_passes(), mistake);
        check::is_found(mistake, &machine, LEAVES_BY_ITSELF);
    }
}

#[test]
fn mistakes_in_telling_are_found() {
    for mistake in [
        Mistake::KeepsItToItself,
        Mistake::TellsOne,
        Mistake::CallsNobody,
        Mistake::CallsAnyone,
    ] {
        check::is_found(mistake, &told(mistake), NOBODY_IS_STUCK);
    }
}

#[test]
fn a_sleeper_that_the_kernel_refuses_must_not_insist() {
    let mistake = Mistake::SleepsAnyway;
    check::goes_in_circles(mistake, &dying(&few(), mistake));
}
