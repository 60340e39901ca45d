//! The scenarios of the model, and the mistakes that break it.

use stateright::Model;

use super::model::{EXCLUSION, HALF_IS_TOLD, ONLY_INSIDE, PHASE_FAIR};
use super::state::{Downgrades, GivesUp, Mistake, PROCESSES, RwLock};
use crate::locks::checker::{NOT_STUCK, assert_breaks, assert_holds, assert_livelocks};
use crate::size::Size;

fn with(rounds: [u8; PROCESSES], deaths: u8, mistake: Mistake) -> RwLock {
    RwLock {
        rounds,
        deaths,
        gives_up: GivesUp::Never,
        downgrades: Downgrades::No,
        mistake,
    }
}

fn with_downgrades(rounds: [u8; PROCESSES], deaths: u8, mistake: Mistake) -> RwLock {
    RwLock {
        downgrades: Downgrades::Yes,
        ..with(rounds, deaths, mistake)
    }
}

#[test]
fn smoke() {
    let model = with([1; PROCESSES], 1, Mistake::None);
    let [state] = model.init_states()[..] else {
        panic!("a model has one initial state");
    };
    assert_eq!(model.next_steps(&state).len(), 8);
}

#[test]
fn holds_without_deaths() {
    assert_holds(&with([1, 1, 1, 1], 0, Mistake::None));
    assert_holds(&with([2, 0, 2, 2], 0, Mistake::None));
    if Size::chosen() == Size::Large {
        assert_holds(&with([2, 1, 2, 2], 0, Mistake::None));
    }
}

#[test]
fn holds_with_deaths() {
    assert_holds(&with([1, 1, 1, 1], 2, Mistake::None));
    assert_holds(&with([2, 0, 2, 1], 2, Mistake::None));
    if Size::chosen() == Size::Large {
        assert_holds(&with([2, 1, 2, 1], 2, Mistake::None));
        assert_holds(&with([1, 1, 1, 1], 3, Mistake::None));
    }
}

#[test]
fn holds_with_downgrades() {
    assert_holds(&with_downgrades([1, 1, 1, 1], 1, Mistake::None));
    let mistake = Mistake::DowngradeLeavesSeat;
    assert_breaks(
        mistake,
        &with_downgrades([1, 0, 1, 1], 0, mistake),
        EXCLUSION,
    );
    let mistake = Mistake::DowngradeWithoutClear;
    assert_breaks(
        mistake,
        &with_downgrades([1, 0, 1, 1], 1, mistake),
        ONLY_INSIDE,
    );
}

#[test]
fn holds_with_timeouts() {
    for rounds in [[1, 1, 1, 1], [2, 0, 1, 1]] {
        let model = RwLock {
            gives_up: GivesUp::Maybe,
            ..with(rounds, 1, Mistake::None)
        };
        assert_holds(&model);
    }
}

#[test]
fn access_mistakes_break_it() {
    for mistake in [
        Mistake::WriterIgnoresReaders,
        Mistake::WriterIgnoresWaitOfAnyPhase,
        Mistake::ReaderIgnoresPhase,
        Mistake::ReaderReadsPhaseFirst,
    ] {
        assert_breaks(mistake, &with([1, 1, 1, 1], 0, mistake), EXCLUSION);
    }
}

#[test]
fn waiting_mistakes_break_it() {
    let mistake = Mistake::WriterWaitsForWaitingReader;
    assert_breaks(mistake, &with([1, 1, 1, 1], 0, mistake), NOT_STUCK);
    let mistake = Mistake::NumberKept;
    assert_livelocks(mistake, &with([1, 0, 1, 0], 0, mistake));
    let mistake = Mistake::ReaderDoesNotRepair;
    assert_breaks(mistake, &with([1, 1, 1, 0], 1, mistake), NOT_STUCK);
    let mistake = Mistake::NoPhaseFairness;
    assert_breaks(mistake, &with([1, 0, 1, 2], 0, mistake), PHASE_FAIR);
}

#[test]
fn poison_mistakes_break_it() {
    let mistake = Mistake::DeadWriterDoesNotPoison;
    assert_breaks(mistake, &with([1, 0, 1, 1], 1, mistake), HALF_IS_TOLD);
    let mistake = Mistake::DeathClearedFirst;
    assert_breaks(mistake, &with([1, 0, 1, 1], 2, mistake), HALF_IS_TOLD);
    let mistake = Mistake::WaitingWriterPoisons;
    assert_breaks(mistake, &with([1, 0, 1, 1], 1, mistake), ONLY_INSIDE);
}
