//! The scenarios of the model, and the mistakes that break it.

use super::model::{ADMITTED, ONE_NAMESPACE, REINIT_ALONE};
use super::state::Namespace::{New, Old, Third};
use super::state::Task::{Open, Probe, Remove};
use super::state::{Members, Mistake, SysvReinit};
use crate::segments::search::{
    assert_breaks, assert_harmless, assert_holds, assert_holds_and_covers,
};
use crate::size::Size;

const ONE_OLD_TWO_NEW: Members = &[(Old, &[Open]), (New, &[Open]), (New, &[Open])];

fn model(tasks: u8, members: Members) -> SysvReinit {
    SysvReinit {
        members,
        tasks,
        mistake: None,
    }
}

fn with_mistake(mistake: Mistake) -> SysvReinit {
    SysvReinit {
        mistake: Some(mistake),
        ..model(2, ONE_OLD_TWO_NEW)
    }
}

#[test]
fn properties_hold() {
    assert_holds_and_covers(model(2, ONE_OLD_TWO_NEW));
    let third = &[(Old, &[Open] as &[_]), (New, &[Open]), (Third, &[Open])];
    assert_holds(model(2, third));
    let remover = &[(Old, &[Open] as &[_]), (New, &[Open]), (New, &[Remove])];
    assert_holds(model(2, remover));
    if Size::chosen() == Size::Large {
        assert_holds(model(3, ONE_OLD_TWO_NEW));
        let four = &[
            (Old, &[Open] as &[_]),
            (New, &[Open]),
            (New, &[Open]),
            (Third, &[Open, Remove, Probe]),
        ];
        assert_holds(model(2, four));
    }
}

#[test]
fn mistakes_break_it() {
    for (mistake, property) in [
        (Mistake::UnnumberedAndNoFirstCount, REINIT_ALONE),
        (Mistake::NoSecondCount, ONE_NAMESPACE),
        (Mistake::CommitWithoutExchange, REINIT_ALONE),
        (Mistake::LoadBeforeAttach, REINIT_ALONE),
        (Mistake::ReadyBeforeLocks, REINIT_ALONE),
        (Mistake::TakeOverWithoutCount, REINIT_ALONE),
        (Mistake::TakeOverWithoutReload, REINIT_ALONE),
        (Mistake::StaleClaimStays, ADMITTED),
        (Mistake::StaleReinitStays, ADMITTED),
    ] {
        assert_breaks(mistake, with_mistake(mistake), property);
    }
}

/// Either of the two alone is enough. The code does both: the first count spares users
/// of the old namespace the claims, and the number makes the argument short.
#[test]
fn number_or_first_count_suffices() {
    for mistake in [Mistake::UnnumberedClaims, Mistake::NoFirstCount] {
        assert_harmless(mistake, with_mistake(mistake));
    }
}
