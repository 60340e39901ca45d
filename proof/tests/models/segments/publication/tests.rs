//! What must hold in every world, and which mistakes break it.

use super::model::{KEEPS_ITS_NAME, NOTHING_STAYS, RIGHT_ONE, TURNS, WHOLE};
use super::state::{Mutation, Publication};
use crate::segments::search::{WAITS, assert_found, assert_safe, assert_safe_and_lively};
use crate::size::Size;

/// Searches what one process can do alone.
#[test]
fn smoke() {
    let protocol = Publication {
        processes: 1,
        tasks: 2,
        mutation: None,
    };
    assert_safe("publication, 1 process, 2 tasks", protocol);
}

/// Searches the protocol as it is.
#[test]
fn a_name_leads_to_a_whole_object_and_goes_with_its_last_user() {
    let size = Size::chosen();
    let protocol = |processes, tasks| Publication {
        processes,
        tasks,
        mutation: None,
    };
    assert_safe_and_lively("publication, 3 processes, 1 task each", protocol(3, 1));
    assert_safe("publication, 2 processes, 2 tasks each", protocol(2, 2));
    if size == Size::Large {
        assert_safe("publication, 2 processes, 3 tasks each", protocol(2, 3));
        assert_safe("publication, 3 processes, 2 tasks each", protocol(3, 2));
    }
}

/// Searches what it must not be.
#[test]
fn planted_bugs_are_found() {
    use Mutation::{
        LeaverAsksBeforeItLetsGo, LookBeforeAttaching, NoLookAfterAttaching,
        PublishedBeforeAttached, PublishedHalf, RemovalFreedFirst, RemoverDoesNotLook,
        RemoverHasNoRemoval, RemoverLooksBeforeItExcludes, RemoverOnlyAsks, RemoverWaitsForUsers,
        TriesInsteadOfWaiting, UnlinkHasNoRemoval, UnlinkOfNothingGoesOn,
    };
    let mutated = |mutation, processes, tasks| {
        let protocol = Publication {
            processes,
            tasks,
            mutation: Some(mutation),
        };
        (format!("publication, {mutation:?}"), protocol)
    };
    let bugs = [
        (PublishedHalf, 2, 1, WHOLE),
        (PublishedBeforeAttached, 2, 1, KEEPS_ITS_NAME),
        (NoLookAfterAttaching, 2, 1, KEEPS_ITS_NAME),
        (LookBeforeAttaching, 2, 1, KEEPS_ITS_NAME),
        (TriesInsteadOfWaiting, 2, 1, TURNS),
        (LeaverAsksBeforeItLetsGo, 1, 1, NOTHING_STAYS),
        (RemoverOnlyAsks, 2, 1, KEEPS_ITS_NAME),
        (RemoverWaitsForUsers, 2, 1, WAITS),
        (RemoverDoesNotLook, 2, 2, RIGHT_ONE),
        (RemoverHasNoRemoval, 2, 2, KEEPS_ITS_NAME),
        (UnlinkHasNoRemoval, 2, 2, KEEPS_ITS_NAME),
        (UnlinkOfNothingGoesOn, 2, 2, KEEPS_ITS_NAME),
    ];
    for (mutation, processes, tasks, property) in bugs {
        let (title, protocol) = mutated(mutation, processes, tasks);
        assert_found(&title, protocol, property);
    }
    // Nobody can take or give the name of an object whose `REMOVAL` is held, so it
    // does not matter when the holder looks.
    let (title, protocol) = mutated(RemoverLooksBeforeItExcludes, 2, 2);
    assert_safe(&title, protocol);
    // Whoever gets `REMOVAL` too early finds all of `ATTACHED` taken, and the name
    // gone already.
    let (title, protocol) = mutated(RemovalFreedFirst, 2, 2);
    assert_safe(&title, protocol);
}
