//! The scenarios of the model, and the mistakes that break it.

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

/// Returns a producer that notifies under the lock, as the documentation advises.
fn locked_producer(items: u8) -> Role {
    producer(items, Targets::One, NotifyWhen::UnderLock)
}

fn two_consumers_and(others: &[Role]) -> Vec<Role> {
    [&[Role::Consumer; 2], others].concat()
}

fn three_consumers_and(others: &[Role]) -> Vec<Role> {
    [&[Role::Consumer; 3], others].concat()
}

/// Returns the roles of a small scenario.
fn small_roles() -> Vec<Role> {
    two_consumers_and(&[locked_producer(2)])
}

fn with_timed_consumer() -> Vec<Role> {
    vec![Role::TimedConsumer, Role::Consumer, locked_producer(2)]
}

/// Returns roles of which one poisons, and one repairs before the waiter rechecks.
fn with_transient_poison() -> Vec<Role> {
    vec![Role::Consumer, Role::Panicker, Role::Repairer]
}

/// Returns two waiters for a `notify_all` and one for a `notify_one` after it.
fn with_flag_waiters(when: NotifyWhen) -> Vec<Role> {
    let setter = Role::FlagSetter { items: 1, when };
    vec![Role::Consumer, Role::FlagWaiter, Role::FlagWaiter, setter]
}

/// Returns a model without deaths and without rechecks: each notification must suffice.
fn without_deaths(members: &[Role], mistake: Mistake) -> Condvar {
    let mut roles = [Role::Absent; PROCESSES];
    roles[..members.len()].copy_from_slice(members);
    Condvar {
        roles,
        recheck: Recheck::NoProcess,
        deaths: 0,
        may_die: MayDie::AnyProcess,
        mistake,
    }
}

/// Returns a model with up to two deaths, in which every waiter rechecks.
fn with_deaths(members: &[Role], mistake: Mistake) -> Condvar {
    Condvar {
        recheck: Recheck::EveryProcess,
        deaths: 2,
        ..without_deaths(members, mistake)
    }
}

/// Returns a model with up to one death, or two in the large size.
fn with_deaths_by_size(members: &[Role]) -> Condvar {
    Condvar {
        deaths: match Size::chosen() {
            Size::Small => 1,
            Size::Large => 2,
        },
        ..with_deaths(members, Mistake::None)
    }
}

/// Returns a model in which the holder dies while three processes wait. Only the first
/// rechecks. It notifies another waiter, which wakes the last.
fn holder_dies(mistake: Mistake) -> Condvar {
    Condvar {
        recheck: Recheck::OnlyFirst,
        deaths: 1,
        may_die: MayDie::WhileOthersWait(3),
        ..without_deaths(&three_consumers_and(&[Role::Repairer]), mistake)
    }
}

fn assert_no_lost_wakeup(members: &[Role]) {
    assert_holds(&without_deaths(members, Mistake::None));
}

#[test]
fn smoke() {
    let model = without_deaths(&small_roles(), Mistake::None);
    let [state] = model.init_states()[..] else {
        panic!("a model has one initial state");
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
    let mut scenarios = vec![two_consumers_and(&[all, locked_producer(1)])];
    if Size::chosen() == Size::Large {
        scenarios.push(three_consumers_and(&[all]));
        scenarios.push(with_flag_waiters(NotifyWhen::UnderLock));
    }
    for roles in scenarios {
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

/// The documented limit: if a notifier dies after it has unlocked, no waiter sees a
/// death.
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

/// Three changes are left out, because they lose no notification:
///
/// * A waiter that timed out does not wake the next. The chain does not depend on it:
///   it left the kernel's queue by itself, and no wake was spent on it.
/// * A woken waiter compares the generations before it removes itself from `waiters`. A
///   later `notify_all` begins with another waiter, because this one has left the
///   kernel's queue.
/// * A woken waiter wakes the next after it has locked the mutex, whether its condition
///   holds or not. It gets the mutex in the end. If it dies before that, other waiters
///   recheck.
#[test]
fn chain_mistakes_break_it() {
    for mistake in [
        Mistake::GenerationKept,
        Mistake::ChainWakesNone,
        Mistake::ChainWakesAny,
        Mistake::ChainWakesIfSatisfied,
        // Among consumers this loses nothing: the woken consumer has not tested its
        // condition yet, and takes the item. A flag waiter ends and leaves the item.
        Mistake::NotifyOneWakesAny,
    ] {
        let model = without_deaths(&with_flag_waiters(NotifyWhen::UnderLock), mistake);
        assert_breaks(mistake, &model, NOT_STUCK);
    }
    // Under the lock no process begins to wait between the new generation and the wake.
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
    let without_recheck = Condvar {
        recheck: Recheck::NoProcess,
        ..with_deaths(&small_roles(), Mistake::None)
    };
    assert_breaks("waits are not rechecked", &without_recheck, NOT_STUCK);
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
