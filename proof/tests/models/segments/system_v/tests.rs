//! What must hold in every world, and which mistakes break it.

use super::model::{FILLED_IN_PEACE, KEEPS_ITS_KEY, NOTHING_STAYS};
use super::state::{Menus, Mutation, SystemV, Task};
use crate::segments::search::{assert_found, assert_safe, assert_safe_and_lively};
use crate::size::Size;

/// Searches the protocol as it is.
#[test]
fn a_system_v_segment_is_used_whole_and_goes_with_its_last_user() {
    let size = Size::chosen();
    use Task::{Create, Look, Open, OpenOrCreate, Read, Remove, Unlink};
    const EVERYTHING: &[Task] = &[Create, OpenOrCreate, Open, Read, Remove, Look, Unlink];
    let of = |tasks, menus: Menus| {
        let title = format!("System V, {tasks} of each of {menus:?}");
        let protocol = SystemV {
            menus,
            tasks,
            mutation: None,
        };
        (title, protocol)
    };
    let (title, protocol) = of(1, &[EVERYTHING, EVERYTHING]);
    assert_safe_and_lively(&title, protocol);
    let (title, protocol) = of(1, &[&[Create], &[Look], &[Remove]]);
    assert_safe(&title, protocol);
    if size == Size::Large {
        for (title, protocol) in [
            of(2, &[EVERYTHING, EVERYTHING]),
            of(1, &[&[Create], &[Open], &[Open]]),
            of(1, &[&[Create], &[Open], &[Read]]),
            of(1, &[&[Create], &[Open], &[Remove, Unlink]]),
            of(1, &[&[Create, Look], &[Open, Look], &[Create, Look]]),
            of(1, &[&[OpenOrCreate], &[OpenOrCreate], &[Open]]),
        ] {
            assert_safe(&title, protocol);
        }
    }
}

/// Searches what it must not be.
#[test]
fn planted_bugs_are_found() {
    use Mutation::{
        CountBeforeLeaving, CreatorDoesNotClaim, CreatorGoesAsNobody, FinderDoesNotClaim,
        LeaverDoesNotAskAgain, LeavingIsBornAgain, LeavingWithoutLock, LoadBeforeMapping,
        LookGoesAsNobody, NothingIsExcused, ReaderGoesAsNobody,
    };
    use Task::{Create, Look, Open, OpenOrCreate, Read};
    let creators: Menus = &[&[OpenOrCreate], &[OpenOrCreate]];
    let strict_creators: Menus = &[&[Create], &[Create]];
    let opener: Menus = &[&[Create], &[Open]];
    let bugs = [
        (CreatorDoesNotClaim, 1, creators, FILLED_IN_PEACE),
        (FinderDoesNotClaim, 1, creators, FILLED_IN_PEACE),
        (LoadBeforeMapping, 1, opener, KEEPS_ITS_KEY),
        (CountBeforeLeaving, 1, opener, KEEPS_ITS_KEY),
        (LeavingWithoutLock, 1, opener, KEEPS_ITS_KEY),
        (LeavingIsBornAgain, 1, opener, KEEPS_ITS_KEY),
        (LeaverDoesNotAskAgain, 1, opener, NOTHING_STAYS),
        (LookGoesAsNobody, 1, &[&[Create], &[Look]], NOTHING_STAYS),
        (CreatorGoesAsNobody, 1, strict_creators, NOTHING_STAYS),
        (ReaderGoesAsNobody, 1, &[&[Create], &[Read]], NOTHING_STAYS),
        (
            NothingIsExcused,
            2,
            &[&[Create], &[Read, Look]],
            NOTHING_STAYS,
        ),
    ];
    for (mutation, tasks, menus, property) in bugs {
        let protocol = SystemV {
            menus,
            tasks,
            mutation: Some(mutation),
        };
        assert_found(&format!("System V, {mutation:?}"), protocol, property);
    }
}
