//! What must hold in every world, and which mistakes break it.

use super::model::{LET_IN, MADE_ALONE, ONE_GROUP};
use super::state::Namespace::{New, Old, Third};
use super::state::Task::{Look, Open, Remove};
use super::state::{Members, Mutation, Renewal};
use crate::segments::search::{assert_found, assert_safe, assert_safe_and_lively};
use crate::size::Size;

/// Searches the protocol as it is.
#[test]
fn system_v_locks_are_renewed_only_when_nobody_uses_them() {
    let size = Size::chosen();
    let of = |tasks, members: Members| {
        let title = format!("renewal, {tasks} of each of {members:?}");
        let protocol = Renewal {
            members,
            tasks,
            mutation: None,
        };
        (title, protocol)
    };
    let (title, protocol) = of(2, &[(Old, &[Open]), (New, &[Open]), (New, &[Open])]);
    assert_safe_and_lively(&title, protocol);
    for (title, protocol) in [
        of(2, &[(Old, &[Open]), (New, &[Open]), (Third, &[Open])]),
        of(2, &[(Old, &[Open]), (New, &[Open]), (New, &[Remove])]),
    ] {
        assert_safe(&title, protocol);
    }
    if size == Size::Large {
        for (title, protocol) in [
            of(3, &[(Old, &[Open]), (New, &[Open]), (New, &[Open])]),
            of(
                2,
                &[
                    (Old, &[Open]),
                    (New, &[Open]),
                    (New, &[Open]),
                    (Third, &[Open, Remove, Look]),
                ],
            ),
        ] {
            assert_safe(&title, protocol);
        }
    }
}

/// Searches what it must not be, and what is harmless.
#[test]
fn planted_bugs_are_found() {
    use Mutation::{
        BornBeforeLocks, ClaimOfTheDeadStays, ClaimsHaveNoNumber, CommitWithoutSwap,
        LoadBeforeMapping, NeitherNumberNorFirstCount, NoFirstCount, NoSecondCount,
        RenewalOfTheDeadStays, TakeOverUnconfirmed, TakeOverUncounted,
    };
    let members: Members = &[(Old, &[Open]), (New, &[Open]), (New, &[Open])];
    let of = |mutation| Renewal {
        members,
        tasks: 2,
        mutation: Some(mutation),
    };
    for (mutation, property) in [
        (NeitherNumberNorFirstCount, MADE_ALONE),
        (NoSecondCount, ONE_GROUP),
        (CommitWithoutSwap, MADE_ALONE),
        (LoadBeforeMapping, MADE_ALONE),
        (BornBeforeLocks, MADE_ALONE),
        (TakeOverUncounted, MADE_ALONE),
        // It was so in the code until the model found it.
        (TakeOverUnconfirmed, MADE_ALONE),
        (ClaimOfTheDeadStays, LET_IN),
        (RenewalOfTheDeadStays, LET_IN),
    ] {
        assert_found(&format!("renewal, {mutation:?}"), of(mutation), property);
    }
    // Each of the two makes the other unnecessary. Both are there: the first count spares
    // users of the old namespace the claims, and the number makes the argument short.
    for mutation in [ClaimsHaveNoNumber, NoFirstCount] {
        assert_safe(&format!("renewal, {mutation:?}"), of(mutation));
    }
}
