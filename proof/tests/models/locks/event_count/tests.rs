//! The scenarios of the model, and the mistakes that break it.

use stateright::Model;

use super::model::{DEAD_COST_ONE_CALL, NO_VAIN_CALL};
use super::state::{
    EventCount, MayDie, Mistake, PROCESSES, Recheck, Role, Targets, Targets::All, Targets::One,
};
use crate::locks::checker::{NOT_STUCK, assert_breaks, assert_holds};
use crate::size::Size;

fn setter(tokens: u8, targets: Targets) -> Role {
    Role::Setter { tokens, targets }
}

fn two_consumers_and(others: &[Role]) -> Vec<Role> {
    [&[Role::Consumer; 2], others].concat()
}

/// Returns a holder and watchers of its seat.
fn watched(watchers: usize) -> Vec<Role> {
    [&[Role::Holder][..], &vec![Role::Watcher; watchers]].concat()
}

/// Returns a model without deaths and without rechecks: each notification must suffice.
fn without_deaths(members: &[Role], mistake: Mistake) -> EventCount {
    let mut roles = [Role::Absent; PROCESSES];
    roles[..members.len()].copy_from_slice(members);
    EventCount {
        roles,
        recheck: Recheck::No,
        deaths: 0,
        may_die: MayDie::AnyProcess,
        mistake,
    }
}

/// Returns a model with up to two deaths, in which waiters recheck.
fn with_deaths(members: &[Role], mistake: Mistake) -> EventCount {
    EventCount {
        recheck: Recheck::Yes,
        deaths: 2,
        ..without_deaths(members, mistake)
    }
}

/// Returns a model in which the holder of the seat may die, and no waiter rechecks.
fn holder_dies(watchers: usize, mistake: Mistake) -> EventCount {
    EventCount {
        deaths: 1,
        may_die: MayDie::OnlyHolder,
        ..without_deaths(&watched(watchers), mistake)
    }
}

#[test]
fn smoke() {
    let model = without_deaths(&two_consumers_and(&[setter(1, One)]), Mistake::None);
    let [state] = model.init_states()[..] else {
        panic!("a model has one initial state");
    };
    assert_eq!(model.next_steps(&state).len(), 3);
}

#[test]
fn notifications_reach_sleepers_without_deaths() {
    for targets in [One, All] {
        let mut scenarios = vec![
            vec![Role::Consumer, setter(3, targets)],
            two_consumers_and(&[setter(2, targets)]),
            two_consumers_and(&[setter(1, targets); 2]),
        ];
        if Size::chosen() == Size::Large {
            scenarios.push(two_consumers_and(&[setter(2, targets); 2]));
            scenarios.push([&[Role::Consumer; 3], &[setter(2, targets)][..]].concat());
        }
        for roles in scenarios {
            assert_holds(&without_deaths(&roles, Mistake::None));
        }
    }
}

#[test]
fn timeout_consumes_no_notification() {
    let roles = [Role::TimedConsumer, Role::Consumer, setter(2, One)];
    assert_holds(&without_deaths(&roles, Mistake::None));
}

#[test]
fn deaths_strand_no_sleeper() {
    for targets in [One, All] {
        let roles = two_consumers_and(&[setter(2, targets)]);
        assert_holds(&with_deaths(&roles, Mistake::None));
        if Size::chosen() == Size::Large {
            let roles = two_consumers_and(&[setter(2, targets), setter(1, targets)]);
            assert_holds(&with_deaths(&roles, Mistake::None));
        }
    }
}

/// No recheck is needed after the death of a holder.
#[test]
fn death_of_holder_wakes_all_watchers() {
    for watchers in 1..=3 {
        assert_holds(&holder_dies(watchers, Mistake::None));
    }
}

#[test]
fn deaths_of_watchers_strand_no_watcher() {
    assert_holds(&with_deaths(&watched(2), Mistake::None));
    if Size::chosen() == Size::Large {
        assert_holds(&with_deaths(&watched(3), Mistake::None));
    }
}

#[test]
fn roll_mistakes_break_it() {
    for mistake in [
        Mistake::CountInsteadOfRoll,
        Mistake::SettledWithoutCompare,
        Mistake::RollReadBeforeChange,
        Mistake::AnnouncedOnce,
    ] {
        let roles = two_consumers_and(&[setter(2, One), setter(1, One)]);
        assert_breaks(mistake, &without_deaths(&roles, mistake), NOT_STUCK);
    }
    // Among consumers that wait for ever, another one takes the token.
    let mistake = Mistake::SettledInCompany;
    let roles = [Role::Consumer, Role::TimedConsumer, setter(1, One)];
    assert_breaks(mistake, &without_deaths(&roles, mistake), NOT_STUCK);
}

#[test]
fn waiter_mistakes_break_it() {
    for mistake in [
        Mistake::SequenceKept,
        Mistake::AnnouncedAfterQuestion,
        Mistake::SequenceReadAfterAnnouncement,
        Mistake::SequenceReadAfterQuestion,
    ] {
        let roles = two_consumers_and(&[setter(2, One), setter(1, One)]);
        assert_breaks(mistake, &without_deaths(&roles, mistake), NOT_STUCK);
    }
}

#[test]
fn cost_mistakes_break_it() {
    let roles = two_consumers_and(&[setter(2, One)]);
    for (mistake, property) in [
        (Mistake::AnnouncementsIgnored, NO_VAIN_CALL),
        (Mistake::NeverSettled, DEAD_COST_ONE_CALL),
    ] {
        assert_breaks(mistake, &with_deaths(&roles, mistake), property);
    }
}

#[test]
fn recheck_is_needed_after_deaths() {
    let roles = two_consumers_and(&[setter(2, One)]);
    let model = EventCount {
        recheck: Recheck::No,
        ..with_deaths(&roles, Mistake::None)
    };
    assert_breaks("waits are not rechecked", &model, NOT_STUCK);
    // The watcher that the kernel has woken may die before it notifies.
    let model = EventCount {
        recheck: Recheck::No,
        ..with_deaths(&watched(2), Mistake::None)
    };
    assert_breaks("watchers do not recheck", &model, NOT_STUCK);
}

#[test]
fn watch_mistakes_break_it() {
    for mistake in [Mistake::MarkedAfterQuestion, Mistake::DeathNotPassedOn] {
        assert_breaks(mistake, &holder_dies(2, mistake), NOT_STUCK);
    }
    let mistake = Mistake::DeathPassedToOne;
    assert_breaks(mistake, &holder_dies(3, mistake), NOT_STUCK);
}
