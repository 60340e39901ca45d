//! The scenarios of the model, and the mistakes that break it.

use stateright::Model;

use super::model::{AGREE, ALL_ARRIVED, DEATH_IS_TOLD, FOR_A_REASON, NOT_REFUSED};
use super::state::{Barrier, Mistake, PROCESSES};
use crate::locks::checker::{NOT_STUCK, assert_breaks, assert_holds};
use crate::size::Size;

fn with(members: u8, waits: [u8; PROCESSES], deaths: u8, mistake: Mistake) -> Barrier {
    Barrier {
        members,
        waits,
        deaths,
        timeouts: 0,
        mistake,
    }
}

fn with_timeout(members: u8, waits: [u8; PROCESSES], deaths: u8, mistake: Mistake) -> Barrier {
    Barrier {
        timeouts: 1,
        ..with(members, waits, deaths, mistake)
    }
}

#[test]
fn smoke() {
    let model = with(2, [1, 1, 0, 0], 1, Mistake::None);
    let [state] = model.init_states()[..] else {
        panic!("a model has one initial state");
    };
    assert_eq!(model.next_steps(&state).len(), 4);
}

#[test]
fn holds_without_deaths() {
    assert_holds(&with(2, [2, 2, 0, 0], 0, Mistake::None));
    assert_holds(&with(2, [1, 1, 1, 0], 0, Mistake::None));
    assert_holds(&with(3, [1, 1, 1, 0], 0, Mistake::None));
}

#[test]
fn holds_with_deaths() {
    assert_holds(&with(2, [2, 1, 1, 0], 1, Mistake::None));
    assert_holds(&with(2, [1, 1, 1, 0], 2, Mistake::None));
    if Size::chosen() == Size::Large {
        assert_holds(&with(3, [1, 1, 1, 0], 1, Mistake::None));
        assert_holds(&with(2, [2, 2, 2, 0], 2, Mistake::None));
        assert_holds(&with(2, [1, 1, 1, 1], 2, Mistake::None));
    }
}

#[test]
fn holds_with_timeouts() {
    assert_holds(&with_timeout(2, [2, 2, 0, 0], 1, Mistake::None));
    if Size::chosen() == Size::Large {
        assert_holds(&with_timeout(2, [1, 1, 1, 0], 1, Mistake::None));
    }
}

#[test]
fn waiting_mistakes_break_it() {
    let mistake = Mistake::DeathsIgnored;
    assert_breaks(mistake, &with(2, [1, 1, 0, 0], 1, mistake), NOT_STUCK);
    let mistake = Mistake::LooksBeforeArrival;
    assert_breaks(mistake, &with(2, [1, 1, 0, 0], 0, mistake), NOT_STUCK);
}

#[test]
fn ending_mistakes_break_it() {
    let mistake = Mistake::OnlyLastEnd;
    assert_breaks(mistake, &with(2, [1, 1, 0, 0], 0, mistake), AGREE);
    let mistake = Mistake::TimeoutKeepsRound;
    assert_breaks(mistake, &with_timeout(2, [2, 2, 0, 0], 0, mistake), AGREE);
    let mistake = Mistake::RoundNotChecked;
    assert_breaks(mistake, &with(2, [2, 2, 0, 0], 0, mistake), ALL_ARRIVED);
}

#[test]
fn settling_mistakes_break_it() {
    let mistake = Mistake::JoinHidesDeath;
    assert_breaks(mistake, &with(2, [2, 1, 1, 0], 1, mistake), DEATH_IS_TOLD);
    let mistake = Mistake::NoteClearedFirst;
    assert_breaks(mistake, &with(2, [2, 1, 1, 1], 2, mistake), DEATH_IS_TOLD);
    let mistake = Mistake::LeaverClearsFirst;
    assert_breaks(mistake, &with(2, [2, 1, 1, 0], 1, mistake), DEATH_IS_TOLD);
    let mistake = Mistake::LeaverClearsNothing;
    assert_breaks(mistake, &with(2, [3, 1, 0, 0], 0, mistake), FOR_A_REASON);
    let mistake = Mistake::SettledWithoutGate;
    assert_breaks(mistake, &with(2, [2, 1, 1, 0], 1, mistake), NOT_REFUSED);
}
