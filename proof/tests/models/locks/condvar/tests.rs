//! What must hold in every state of the condition variable, and which mistakes break it.

use stateright::Model;

use super::model::{ENOUGH_WAITERS, HOLDS_MUTEX, WAKES_BY_RECHECK};
use super::state::{
    Condvar, MayDie, Mistake, NotifyWhen, PROCESSES, Poison, Recheck, Role, Targets,
};
use crate::locks::checker::{NOT_STUCK, assert_breaks, assert_holds, assert_livelocks};
use crate::size::Size;

fn producer(items: u8, targets: Targets, when: NotifyWhen) -> Role {
    Role::Producer {
        items,
        targets,
        when,
    }
}

/// Puts one item after another and notifies one waiter of each, as the documentation
/// advises.
fn locked_producer(items: u8) -> Role {
    producer(items, Targets::One, NotifyWhen::UnderLock)
}

fn two_consumers_and(others: &[Role]) -> Vec<Role> {
    [&[Role::Consumer; 2], others].concat()
}

fn three_consumers_and(others: &[Role]) -> Vec<Role> {
    [&[Role::Consumer; 3], others].concat()
}

/// A small cast for what needs no larger one.
fn small_roles() -> Vec<Role> {
    two_consumers_and(&[locked_producer(2)])
}

fn with_timed_consumer() -> Vec<Role> {
    vec![Role::TimedConsumer, Role::Consumer, locked_producer(2)]
}

/// One poisons, and one repairs before the sleepers look.
fn with_transient_poison() -> Vec<Role> {
    vec![Role::Consumer, Role::Panicker, Role::Repairer]
}

/// Two wait for what a `notify_all` tells, and one for what a `notify_one` tells after it.
fn with_flag_waiters(when: NotifyWhen) -> Vec<Role> {
    let host = Role::FlagSetter { items: 1, when };
    vec![Role::Consumer, Role::FlagWaiter, Role::FlagWaiter, host]
}

/// Nobody dies, and nobody has a heartbeat: every notification must do by itself.
fn without_deaths(there: &[Role], mistake: Mistake) -> Condvar {
    let mut roles = [Role::Absent; PROCESSES];
    roles[..there.len()].copy_from_slice(there);
    Condvar {
        roles,
        recheck: Recheck::NoProcess,
        deaths: 0,
        may_die: MayDie::AnyProcess,
        mistake,
    }
}

/// Up to two die, and everybody has a heartbeat.
fn with_deaths(there: &[Role], mistake: Mistake) -> Condvar {
    Condvar {
        recheck: Recheck::EveryProcess,
        deaths: 2,
        ..without_deaths(there, mistake)
    }
}

/// The same, but up to two die only if the size is large. Otherwise up to one.
fn with_deaths_by_size(there: &[Role]) -> Condvar {
    Condvar {
        deaths: match Size::chosen() {
            Size::Small => 1,
            Size::Large => 2,
        },
        ..with_deaths(there, Mistake::None)
    }
}

/// The holder dies while three sleep, of whom only the first ever looks around. It tells
/// one of the others, other calls the last.
fn holder_dies(mistake: Mistake) -> Condvar {
    Condvar {
        recheck: Recheck::OnlyFirst,
        deaths: 1,
        may_die: MayDie::WhileOthersWait(3),
        ..without_deaths(&three_consumers_and(&[Role::Repairer]), mistake)
    }
}

fn assert_no_lost_wakeup(there: &[Role]) {
    assert_holds(&without_deaths(there, Mistake::None));
}

#[test]
fn smoke() {
    let model = without_deaths(&small_roles(), Mistake::None);
    let [state] = model.init_states()[..] else {
        panic!("it begins in one way");
    };
    assert_eq!(state.poison, Poison::Clean);
    assert_eq!(model.next_steps(&state).len(), 3);
}

#[test]
fn wakeups_reach_waiters_without_deaths() {
    let late = |items| producer(items, Targets::One, NotifyWhen::AfterUnlock);
    assert_no_lost_wakeup(&two_consumers_and(&[locked_producer(1), late(1)]));
    assert_no_lost_wakeup(&two_consumers_and(&[late(2)]));
    if Size::chosen() == Size::Large {
        assert_no_lost_wakeup(&two_consumers_and(&[locked_producer(2), late(2)]));
    }
}

#[test]
fn chain_wakes_every_waiter_without_deaths() {
    let all = |items, when| producer(items, Targets::All, when);
    for when in [NotifyWhen::UnderLock, NotifyWhen::AfterUnlock] {
        assert_no_lost_wakeup(&two_consumers_and(&[all(2, when)]));
        assert_no_lost_wakeup(&three_consumers_and(&[all(1, when)]));
        if Size::chosen() == Size::Large {
            assert_no_lost_wakeup(&three_consumers_and(&[all(2, when)]));
        }
    }
    if Size::chosen() == Size::Large {
        let late = all(1, NotifyWhen::AfterUnlock);
        assert_no_lost_wakeup(&three_consumers_and(&[late, late]));
    }
}

#[test]
fn notify_one_and_notify_all_coexist() {
    for when in [NotifyWhen::UnderLock, NotifyWhen::AfterUnlock] {
        let both = [
            producer(1, Targets::All, when),
            producer(1, Targets::One, when),
        ];
        assert_no_lost_wakeup(&two_consumers_and(&both));
        if Size::chosen() == Size::Large {
            assert_no_lost_wakeup(&three_consumers_and(&both));
        }
        assert_no_lost_wakeup(&with_flag_waiters(when));
    }
}

#[test]
fn timeout_consumes_no_notification() {
    let model = without_deaths(&with_timed_consumer(), Mistake::None);
    assert_holds(&model);
    let model = with_deaths(&with_timed_consumer(), Mistake::None);
    assert_holds(&model);
    let all = producer(2, Targets::All, NotifyWhen::UnderLock);
    assert_no_lost_wakeup(&[Role::TimedConsumer, Role::Consumer, all]);
    if Size::chosen() == Size::Large {
        let all = producer(1, Targets::All, NotifyWhen::AfterUnlock);
        assert_no_lost_wakeup(&[Role::TimedConsumer, Role::Consumer, Role::Consumer, all]);
    }
}

#[test]
fn deaths_strand_no_waiter() {
    assert_holds(&with_deaths(&small_roles(), Mistake::None));
    if Size::chosen() == Size::Large {
        let roles = two_consumers_and(&[locked_producer(1); 2]);
        let model = with_deaths(&roles, Mistake::None);
        assert_holds(&model);
    }
}

#[test]
fn deaths_in_the_chain_strand_no_waiter() {
    let all = producer(1, Targets::All, NotifyWhen::UnderLock);
    let mut casts = vec![two_consumers_and(&[all, locked_producer(1)])];
    if Size::chosen() == Size::Large {
        casts.push(three_consumers_and(&[all]));
        casts.push(with_flag_waiters(NotifyWhen::UnderLock));
    }
    for roles in casts {
        assert_holds(&with_deaths_by_size(&roles));
    }
}

#[test]
fn transient_poison_wakes_waiters() {
    let roles = with_transient_poison();
    assert_holds(&with_deaths(&roles, Mistake::None));
}

#[test]
fn owner_death_is_passed_to_all_waiters() {
    assert_holds(&holder_dies(Mistake::None));
}

/// What the documentation warns of: without the lock, nobody learns that the notifier
/// died.
#[test]
fn notifier_death_after_unlock_strands_waiter() {
    let late = producer(1, Targets::One, NotifyWhen::AfterUnlock);
    let model = with_deaths(&two_consumers_and(&[late]), Mistake::None);
    assert_breaks(
        "a notifier dies after it unlocks, before it notifies",
        &model,
        NOT_STUCK,
    );
}

#[test]
fn notification_mistakes_break_it() {
    for mistake in [
        Mistake::SequenceReadLate,
        Mistake::WaiterAddedLate,
        Mistake::WaitersReadFirst,
        Mistake::SequenceKept,
    ] {
        assert_breaks(mistake, &without_deaths(&small_roles(), mistake), NOT_STUCK);
    }
    let mistake = Mistake::NotifierRemovesWaiter;
    assert_breaks(
        mistake,
        &without_deaths(&small_roles(), mistake),
        ENOUGH_WAITERS,
    );
}

/// Three changes are not here, because they lose nothing:
///
/// * Who timed out does not call the next one. It has left the kernel's queue by itself,
///   so no wakeup was spent on it, and the chain does not lead over it.
/// * Who is called compares the generations before it takes itself off the sleepers. It is
///   off the kernel's queue by then, so a `notify_all` that comes later begins its chain
///   with somebody else.
/// * Who is called calls the next one once it has the mutex, content or not. It gets the
///   mutex in the end. (And other dies before that has a heartbeat behind it, as ever.)
#[test]
fn chain_mistakes_break_it() {
    for mistake in [
        Mistake::GenerationKept,
        Mistake::ChainWakesNone,
        Mistake::ChainWakesAny,
        Mistake::ChainWakesIfSatisfied,
        // Among consumers it loses nothing: the one that is hit has not looked yet, and
        // takes the item itself. A guest goes and leaves it.
        Mistake::NotifyOneWakesAny,
    ] {
        let model = without_deaths(&with_flag_waiters(NotifyWhen::UnderLock), mistake);
        assert_breaks(mistake, &model, NOT_STUCK);
    }
    // Under the lock nobody can begin to wait between the new generation and the wake.
    let mistake = Mistake::NotifyAllWakesAny;
    let model = without_deaths(&with_flag_waiters(NotifyWhen::AfterUnlock), mistake);
    assert_breaks(mistake, &model, NOT_STUCK);
}

#[test]
fn deadline_mistakes_break_it() {
    for (mistake, property) in [
        (Mistake::DeadlineOverridesWake, NOT_STUCK),
        (Mistake::TimeoutWithoutLock, HOLDS_MUTEX),
    ] {
        let model = without_deaths(&with_timed_consumer(), mistake);
        assert_breaks(mistake, &model, property);
    }
}

#[test]
fn recheck_mistakes_break_it() {
    let without_heartbeat = Condvar {
        recheck: Recheck::NoProcess,
        ..with_deaths(&small_roles(), Mistake::None)
    };
    assert_breaks("waits are not rechecked", &without_heartbeat, NOT_STUCK);
    for (mistake, property) in [
        (Mistake::SequenceReadAgain, NOT_STUCK),
        (Mistake::OwnerDeathUnchecked, WAKES_BY_RECHECK),
    ] {
        assert_breaks(mistake, &with_deaths(&small_roles(), mistake), property);
    }
    for mistake in [
        Mistake::EpochUnchecked,
        Mistake::EpochReadLate,
        Mistake::EpochKept,
    ] {
        let model = with_deaths(&with_transient_poison(), mistake);
        assert_breaks(mistake, &model, WAKES_BY_RECHECK);
    }
}

#[test]
fn passing_on_mistakes_break_it() {
    for mistake in [
        Mistake::DeathNotPassedOn,
        Mistake::DeathPassedToOne,
        Mistake::ChainWakesNone,
        Mistake::ChainWakesAny,
    ] {
        assert_breaks(mistake, &holder_dies(mistake), NOT_STUCK);
    }
}

#[test]
fn refused_wait_must_not_be_retried() {
    let mistake = Mistake::RefusedWaitRetried;
    assert_livelocks(mistake, &with_deaths(&small_roles(), mistake));
}
