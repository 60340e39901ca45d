//! The scenarios, and the planted mistakes.

use stateright::Model;

use super::model::{NOT_LOST, ONCE, PEERS_FIRST, REST_FIRST, WHOLE};
use super::state::{Channel, Kind, MayDie, Mistake, PROCESSES, Recheck, Role};
use crate::locks::checker::{NOT_STUCK, assert_breaks, assert_holds};
use crate::size::Size;
use Role::{Receiver, Sender};

const ONE_TO_ONE: [Role; 2] = [Sender(2), Receiver];
const TWO_SENDERS: [Role; 3] = [Sender(1), Sender(1), Receiver];
const TWO_RECEIVERS: [Role; 3] = [Sender(2), Receiver, Receiver];
const TWO_TO_TWO: [Role; 4] = [Sender(1), Sender(1), Receiver, Receiver];

/// Returns a model without deaths and without rechecks: each notification must suffice.
fn without_deaths(members: &[Role], kind: Kind, slots: u8, mistake: Mistake) -> Channel {
    let mut roles = [Role::Absent; PROCESSES];
    roles[..members.len()].copy_from_slice(members);
    Channel {
        roles,
        kind,
        slots,
        recheck: Recheck::No,
        deaths: 0,
        may_die: MayDie::Any,
        mistake,
    }
}

/// Returns a model with deaths of any processes, in which waiters recheck.
fn with_deaths(members: &[Role], kind: Kind, slots: u8, mistake: Mistake) -> Channel {
    Channel {
        recheck: Recheck::Yes,
        deaths: 1,
        ..without_deaths(members, kind, slots, mistake)
    }
}

/// Returns a model in which the processes of one side may die, and no process rechecks.
fn side_dies(members: &[Role], kind: Kind, may_die: MayDie, mistake: Mistake) -> Channel {
    Channel {
        deaths: 2,
        may_die,
        ..without_deaths(members, kind, 1, mistake)
    }
}

#[test]
fn smoke() {
    let model = without_deaths(&ONE_TO_ONE, Kind::OneToOne, 1, Mistake::None);
    let [state] = model.init_states()[..] else {
        panic!("a model has one initial state");
    };
    assert_eq!(model.next_steps(&state).len(), 2);
}

#[test]
fn messages_arrive_without_deaths() {
    for slots in [1, 2] {
        assert_holds(&without_deaths(
            &ONE_TO_ONE,
            Kind::OneToOne,
            slots,
            Mistake::None,
        ));
        for roles in [&TWO_SENDERS[..], &TWO_RECEIVERS] {
            assert_holds(&without_deaths(roles, Kind::Locks, slots, Mistake::None));
        }
    }
    if Size::chosen() == Size::Large {
        assert_holds(&without_deaths(&TWO_TO_TWO, Kind::Locks, 1, Mistake::None));
        let roles = [Sender(2), Sender(1), Receiver, Receiver];
        assert_holds(&without_deaths(&roles, Kind::Locks, 2, Mistake::None));
    }
}

#[test]
fn deaths_lose_no_message() {
    for slots in [1, 2] {
        let model = with_deaths(&ONE_TO_ONE, Kind::OneToOne, slots, Mistake::None);
        assert_holds(&Channel { deaths: 2, ..model });
    }
    for roles in [&TWO_SENDERS[..], &TWO_RECEIVERS] {
        assert_holds(&with_deaths(roles, Kind::Locks, 1, Mistake::None));
    }
    if Size::chosen() == Size::Large {
        for roles in [&TWO_SENDERS[..], &TWO_RECEIVERS] {
            assert_holds(&with_deaths(roles, Kind::Locks, 2, Mistake::None));
            let model = with_deaths(roles, Kind::Locks, 1, Mistake::None);
            assert_holds(&Channel { deaths: 2, ..model });
        }
        assert_holds(&with_deaths(&TWO_TO_TWO, Kind::Locks, 1, Mistake::None));
    }
}

/// No recheck is needed after the death of senders, however many receivers sleep.
#[test]
fn death_of_peers_wakes_all_sleepers() {
    for (roles, kind, may_die) in [
        (&ONE_TO_ONE[..], Kind::OneToOne, MayDie::OnlySenders),
        (&ONE_TO_ONE, Kind::OneToOne, MayDie::OnlyReceivers),
        (&TWO_RECEIVERS, Kind::Locks, MayDie::OnlySenders),
    ] {
        assert_holds(&side_dies(roles, kind, may_die, Mistake::None));
    }
    if Size::chosen() == Size::Large {
        for (roles, may_die) in [
            ([Sender(2), Sender(2), Receiver], MayDie::OnlyReceivers),
            ([Sender(1), Receiver, Receiver], MayDie::OnlySenders),
        ] {
            assert_holds(&side_dies(&roles, Kind::Locks, may_die, Mistake::None));
        }
    }
}

#[test]
fn recheck_is_needed_after_deaths() {
    // A receiver that was woken for a message may die before it takes it.
    let roles = [Sender(2), Receiver, Receiver];
    let model = Channel {
        recheck: Recheck::No,
        ..with_deaths(&roles, Kind::Locks, 1, Mistake::None)
    };
    assert_breaks("waits are not rechecked", &model, NOT_STUCK);
    // An opener may die before it has the sleepers watch its seat.
    let model = Channel {
        recheck: Recheck::No,
        ..with_deaths(&ONE_TO_ONE, Kind::OneToOne, 1, Mistake::None)
    };
    assert_breaks("waits for an opener are not rechecked", &model, NOT_STUCK);
}

#[test]
fn commit_mistakes_break_it() {
    let mistake = Mistake::SentBeforeCopy;
    for (roles, kind) in [
        (&ONE_TO_ONE[..], Kind::OneToOne),
        (&TWO_SENDERS, Kind::Locks),
    ] {
        assert_breaks(mistake, &without_deaths(roles, kind, 2, mistake), WHOLE);
    }
    let mistake = Mistake::ReceivedBeforeCopy;
    let model = without_deaths(&ONE_TO_ONE, Kind::OneToOne, 1, mistake);
    assert_breaks(mistake, &model, WHOLE);
}

#[test]
fn lock_mistakes_break_it() {
    let mistake = Mistake::NotLocked;
    assert_breaks(
        mistake,
        &without_deaths(&TWO_RECEIVERS, Kind::Locks, 2, mistake),
        ONCE,
    );
    assert_breaks(
        mistake,
        &without_deaths(&TWO_SENDERS, Kind::Locks, 2, mistake),
        ONCE,
    );
    assert_breaks(
        mistake,
        &without_deaths(&TWO_RECEIVERS, Kind::Locks, 2, mistake),
        NOT_LOST,
    );
    let mistake = Mistake::LockKeptByDead;
    assert_breaks(
        mistake,
        &with_deaths(&TWO_SENDERS, Kind::Locks, 1, mistake),
        NOT_STUCK,
    );
}

#[test]
fn notification_mistakes_break_it() {
    for mistake in [
        Mistake::NotifiedBeforeCommit,
        Mistake::NotNotified,
        Mistake::AskedBeforeAnnouncement,
    ] {
        for (roles, kind) in [
            (&ONE_TO_ONE[..], Kind::OneToOne),
            (&TWO_SENDERS, Kind::Locks),
        ] {
            let model = without_deaths(roles, kind, 1, mistake);
            assert_breaks(mistake, &model, NOT_STUCK);
        }
    }
}

#[test]
fn end_mistakes_break_it() {
    let mistake = Mistake::ToldBeforeRest;
    let model = without_deaths(&ONE_TO_ONE, Kind::OneToOne, 2, mistake);
    assert_breaks(mistake, &model, REST_FIRST);
    let mistake = Mistake::EndBeforeFirstPeer;
    let model = without_deaths(&ONE_TO_ONE, Kind::OneToOne, 2, mistake);
    assert_breaks(mistake, &model, PEERS_FIRST);
    let mistake = Mistake::EarlierSendersForgotten;
    let model = without_deaths(&ONE_TO_ONE, Kind::OneToOne, 2, mistake);
    assert_breaks(mistake, &model, NOT_STUCK);
}

#[test]
fn watch_mistakes_break_it() {
    let senders_die =
        |mistake| side_dies(&TWO_RECEIVERS, Kind::Locks, MayDie::OnlySenders, mistake);
    for mistake in [
        Mistake::SeatsNotWatched,
        Mistake::DeathNotPassedOn,
        Mistake::ArrivalNotNotified,
    ] {
        assert_breaks(mistake, &senders_die(mistake), NOT_STUCK);
    }
}
