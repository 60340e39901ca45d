//! The scenarios of the model, and the mistakes that break it.

use stateright::Model;

use super::model::{ENOUGH_WAITERS, HOLDS_MUTEX, NOTIFIED_IN_TIME, WAKES_BY_RECHECK};
use super::state::{
    Condvar, Lockers, MayDie, Mistake, NotifyWhen, PROCESSES, Poison, Recheck, Role, Targets,
};
use crate::locks::checker::{
    NOT_STUCK, assert_breaks, assert_harmless, assert_holds, assert_livelocks,
};
use crate::size::Size;

/// The ways to notify.
const WHENS: [NotifyWhen; 4] = [
    NotifyWhen::UnderLock,
    NotifyWhen::UnderOneLock,
    NotifyWhen::UnderUnknownLock,
    NotifyWhen::AfterUnlock,
];

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
        lockers: Lockers::Spin,
        woken_together: 1,
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

/// Returns a model in which the last process dies while the others wait. Only the first
/// rechecks.
fn last_dies(members: &[Role], mistake: Mistake) -> Condvar {
    let last = (0..).zip(members).last();
    let (last, _) = last.expect("there are members");
    Condvar {
        recheck: Recheck::OnlyFirst,
        deaths: 1,
        may_die: MayDie::WhileOthersWait(last),
        ..without_deaths(members, mistake)
    }
}

/// Returns a model in which a holder dies that has not notified. The first waiter
/// notifies the others.
fn holder_dies(mistake: Mistake) -> Condvar {
    last_dies(&three_consumers_and(&[Role::Repairer]), mistake)
}

/// Returns a model in which the process dies that notifies all. The waiters wait for
/// this one call.
fn notifier_dies(mistake: Mistake) -> Condvar {
    let setter = Role::FlagSetter {
        items: 0,
        when: NotifyWhen::UnderLock,
    };
    let waiter = Role::FlagWaiter;
    last_dies(&[waiter, waiter, waiter, setter], mistake)
}

/// Returns a model in which a woken waiter dies, and no process rechecks. The waiters
/// wait for one `notify_all`.
fn woken_waiter_dies(mistake: Mistake) -> Condvar {
    let setter = Role::FlagSetter {
        items: 0,
        when: NotifyWhen::UnderLock,
    };
    let waiter = Role::FlagWaiter;
    Condvar {
        deaths: 1,
        may_die: MayDie::FlagWaiterOutsideGap,
        ..without_deaths(&[waiter, waiter, waiter, setter], mistake)
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
    for when in WHENS {
        let one = |items| producer(items, Targets::One, when);
        assert_no_lost_wakeup(&two_consumers_and(&[one(2)]));
        assert_no_lost_wakeup(&[Role::TakerOfOne, Role::TakerOfOne, one(2)]);
        assert_no_lost_wakeup(&two_consumers_and(&[locked_producer(1), one(1)]));
        if Size::chosen() == Size::Large {
            assert_no_lost_wakeup(&two_consumers_and(&[locked_producer(2), one(2)]));
        }
    }
}

#[test]
fn notify_all_wakes_every_waiter_without_deaths() {
    for when in WHENS {
        let all = |items| producer(items, Targets::All, when);
        assert_no_lost_wakeup(&two_consumers_and(&[all(2)]));
        if when != NotifyWhen::UnderOneLock {
            assert_no_lost_wakeup(&three_consumers_and(&[all(1)]));
        }
        if Size::chosen() == Size::Large {
            assert_no_lost_wakeup(&three_consumers_and(&[all(2)]));
        }
    }
    let all = |when| producer(1, Targets::All, when);
    let both = [all(NotifyWhen::UnderLock), all(NotifyWhen::AfterUnlock)];
    assert_no_lost_wakeup(&two_consumers_and(&both));
    if Size::chosen() == Size::Large {
        assert_no_lost_wakeup(&three_consumers_and(&both));
        assert_no_lost_wakeup(&three_consumers_and(&[both[1]; 2]));
    }
}

#[test]
fn unlock_may_wake_several_moved_waiters() {
    let all = producer(1, Targets::All, NotifyWhen::UnderLock);
    let mut scenarios = vec![three_consumers_and(&[all])];
    if Size::chosen() == Size::Large {
        scenarios.push([&[Role::Consumer; 4], &[all][..]].concat());
        scenarios.push(with_flag_waiters(NotifyWhen::UnderOneLock));
    }
    for roles in scenarios {
        assert_holds(&Condvar {
            woken_together: 2,
            ..without_deaths(&roles, Mistake::None)
        });
    }
}

#[test]
fn moved_waiters_and_lockers_share_a_queue() {
    let all = |items| producer(items, Targets::All, NotifyWhen::UnderLock);
    let mut scenarios = vec![
        two_consumers_and(&[all(2)]),
        two_consumers_and(&[locked_producer(2)]),
    ];
    if Size::chosen() == Size::Large {
        scenarios.push(two_consumers_and(&[all(1), locked_producer(1)]));
        scenarios.push(three_consumers_and(&[all(1)]));
        scenarios.push(with_flag_waiters(NotifyWhen::UnderLock));
        scenarios.push(with_flag_waiters(NotifyWhen::AfterUnlock));
        let late = producer(1, Targets::All, NotifyWhen::AfterUnlock);
        scenarios.push(two_consumers_and(&[all(1), late]));
        scenarios.push(vec![Role::TimedConsumer, Role::Consumer, all(2)]);
        assert_holds(&Condvar {
            lockers: Lockers::Sleep,
            ..notifier_dies(Mistake::None)
        });
    }
    for roles in scenarios {
        assert_holds(&Condvar {
            lockers: Lockers::Sleep,
            ..without_deaths(&roles, Mistake::None)
        });
    }
    let roles = two_consumers_and(&[all(1)]);
    assert_holds(&Condvar {
        lockers: Lockers::Sleep,
        ..with_deaths_by_size(&roles)
    });
}

#[test]
fn notify_one_and_notify_all_coexist() {
    for when in WHENS {
        let both = [
            producer(1, Targets::All, when),
            producer(1, Targets::One, when),
        ];
        assert_no_lost_wakeup(&with_flag_waiters(when));
        if Size::chosen() == Size::Large {
            assert_no_lost_wakeup(&two_consumers_and(&both));
            assert_no_lost_wakeup(&three_consumers_and(&both));
        }
    }
    let all = producer(1, Targets::All, NotifyWhen::UnderLock);
    let late = producer(1, Targets::One, NotifyWhen::AfterUnlock);
    assert_no_lost_wakeup(&two_consumers_and(&[all, late]));
    let late = producer(1, Targets::All, NotifyWhen::AfterUnlock);
    assert_no_lost_wakeup(&two_consumers_and(&[late, locked_producer(1)]));
}

#[test]
fn timeout_consumes_no_notification() {
    let model = without_deaths(&with_timed_consumer(), Mistake::None);
    assert_holds(&model);
    let model = with_deaths_by_size(&with_timed_consumer());
    assert_holds(&model);
    for when in [NotifyWhen::UnderLock, NotifyWhen::AfterUnlock] {
        let all = producer(2, Targets::All, when);
        assert_no_lost_wakeup(&[Role::TimedConsumer, Role::Consumer, all]);
        if Size::chosen() == Size::Large {
            let all = producer(1, Targets::All, when);
            assert_no_lost_wakeup(&[Role::TimedConsumer, Role::Consumer, Role::Consumer, all]);
        }
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
fn deaths_strand_no_moved_waiter() {
    let all = producer(1, Targets::All, NotifyWhen::UnderLock);
    let mut scenarios = vec![two_consumers_and(&[all])];
    if Size::chosen() == Size::Large {
        scenarios.push(two_consumers_and(&[all, locked_producer(1)]));
        scenarios.push(three_consumers_and(&[all]));
        scenarios.push(with_flag_waiters(NotifyWhen::UnderLock));
    }
    for roles in scenarios {
        assert_holds(&with_deaths_by_size(&roles));
    }
}

/// The kernel wakes one moved waiter for a dead holder, or one rechecks. That one wakes
/// the next, and so on.
#[test]
fn dead_notifier_strands_no_moved_waiter() {
    assert_holds(&notifier_dies(Mistake::None));
}

/// The kernel wakes the next moved waiter: `list_op_pending` names the free mutex, or
/// the lock word of the dead holder has its mark.
#[test]
fn dead_woken_waiter_strands_no_moved_waiter() {
    let model = woken_waiter_dies(Mistake::None);
    assert_holds(&model);
    assert_holds(&Condvar {
        lockers: Lockers::Sleep,
        ..model
    });
    for mistake in [Mistake::NotPendingInWait, Mistake::MarkedAfterLock] {
        assert_breaks(mistake, &woken_waiter_dies(mistake), NOT_STUCK);
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
        Mistake::DeferredForgotten,
    ] {
        assert_breaks(mistake, &without_deaths(&small_roles(), mistake), NOT_STUCK);
    }
    let mistake = Mistake::NotifierRemovesWaiter;
    assert_breaks(
        mistake,
        &without_deaths(&small_roles(), mistake),
        ENOUGH_WAITERS,
    );
    let mistake = Mistake::DeferredOnce;
    let two = producer(2, Targets::One, NotifyWhen::UnderOneLock);
    // A consumer would take both items.
    let roles = [Role::TakerOfOne, Role::TakerOfOne, two];
    assert_breaks(mistake, &without_deaths(&roles, mistake), NOT_STUCK);
}

#[test]
fn moving_mistakes_break_it() {
    for mistake in [
        Mistake::GenerationKept,
        Mistake::MoveUnmarked,
        Mistake::NeverMarked,
    ] {
        let model = without_deaths(&with_flag_waiters(NotifyWhen::UnderLock), mistake);
        assert_breaks(mistake, &model, NOT_STUCK);
    }
    let mistake = Mistake::FirstDoNotMark;
    let all = producer(1, Targets::All, NotifyWhen::UnderLock);
    let model = Condvar {
        woken_together: 2,
        ..without_deaths(&three_consumers_and(&[all]), mistake)
    };
    assert_breaks(mistake, &model, NOT_STUCK);
    for mistake in [
        Mistake::OneWokenWithoutLock,
        Mistake::MovedWithoutLock,
        Mistake::MovedBehindOneWithoutLock,
    ] {
        let model = without_deaths(&with_flag_waiters(NotifyWhen::AfterUnlock), mistake);
        assert_breaks(mistake, &model, NOT_STUCK);
    }
}

/// * A waiter that timed out has left the kernel's queue by itself, and no wake was
///   spent on it.
/// * After an owner death the kernel wakes a waiter, which marks the lock word.
#[test]
fn changes_of_the_mark_are_harmless() {
    let mistake = Mistake::MarkedUnlessTimedOut;
    let all = producer(2, Targets::All, NotifyWhen::UnderLock);
    let roles = [Role::TimedConsumer, Role::Consumer, all];
    assert_harmless(mistake, &without_deaths(&roles, mistake));
    let mistake = Mistake::MarkDroppedByHeir;
    assert_harmless(mistake, &notifier_dies(mistake));
}

#[test]
fn deadline_mistakes_break_it() {
    for (mistake, property) in [
        (Mistake::DeadlineOverridesWake, NOT_STUCK),
        (Mistake::TimeoutOverridesNotification, NOTIFIED_IN_TIME),
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
        Mistake::MoveUnmarked,
        Mistake::NeverMarked,
        Mistake::UnlockForWaitWakesNone,
    ] {
        assert_breaks(mistake, &holder_dies(mistake), NOT_STUCK);
    }
}

#[test]
fn refused_wait_must_not_be_retried() {
    let mistake = Mistake::RefusedWaitRetried;
    assert_livelocks(mistake, &with_deaths(&small_roles(), mistake));
}
