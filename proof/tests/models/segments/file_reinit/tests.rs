//! What must hold in every world, and which mistakes break it.

use super::model::{ALIVE, NOT_REFUSED, ONE_VIEW};
use super::state::{CONTAINER, GONE, HERE, MASKED, Mutation, PAST, Revival, View};
use crate::segments::search::{assert_found, assert_safe, assert_safe_and_lively};
use crate::size::Size;

/// Searches the protocol as it is.
#[test]
fn locks_are_revived_exactly_when_nobody_uses_them() {
    let size = Size::chosen();
    let of = |views: &'static [View], origin, tasks| {
        let title = format!(
            "revival, boots and namespaces {views:?}, file of {origin:?}, {tasks} task each"
        );
        let protocol = Revival {
            views,
            origin,
            tasks,
            mutation: None,
        };
        (title, protocol)
    };
    let mut all = vec![
        of(&[HERE, HERE, HERE], PAST, 1),
        of(&[HERE, HERE, MASKED], PAST, 1),
        of(&[HERE, HERE, MASKED], HERE, 1),
        // A container starts again; two do at once; the old and the new one at once.
        of(&[HERE, HERE, HERE], GONE, 1),
        of(&[HERE, HERE, CONTAINER], GONE, 1),
        of(&[HERE, HERE, CONTAINER], HERE, 1),
    ];
    if size == Size::Large {
        all.push(of(&[HERE, HERE, HERE, HERE], PAST, 1));
        all.push(of(&[HERE, HERE, MASKED, MASKED], PAST, 1));
        all.push(of(&[HERE, HERE, MASKED], PAST, 2));
        all.push(of(&[HERE, HERE, MASKED, MASKED], HERE, 1));
        all.push(of(&[HERE, HERE, CONTAINER, CONTAINER], GONE, 1));
        all.push(of(&[HERE, HERE, CONTAINER], GONE, 2));
    }
    for (title, protocol) in all {
        assert_safe_and_lively(&title, protocol);
    }
    // Where all see something else, no two are inside.
    let (title, protocol) = of(&[HERE, CONTAINER, MASKED], GONE, 1);
    assert_safe(&title, protocol);
}

/// Searches what it must not be.
#[test]
fn planted_bugs_are_found() {
    use Mutation::{
        CompanyIgnored, CompanyOnlyAsked, EndLoadedOnce, EndMarkedLate, NamespaceOnlyPeeked,
        NamespaceWrittenLast, NoLoadAfterAttaching, NoLoadBeforeRevival, NoRevivalLock,
        OriginBeforeLocks, RefusedStays,
    };
    let mutated = |mutation, views, origin| {
        let protocol = Revival {
            views,
            origin,
            tasks: 1,
            mutation: Some(mutation),
        };
        (format!("revival, {mutation:?}"), protocol)
    };
    let bugs: [(_, &'static [View], _, _); 15] = [
        (NoRevivalLock, &[HERE, HERE], PAST, NOT_REFUSED),
        (OriginBeforeLocks, &[HERE, HERE], PAST, ALIVE),
        (CompanyIgnored, &[HERE, MASKED], HERE, ONE_VIEW),
        (CompanyOnlyAsked, &[HERE, MASKED], HERE, ALIVE),
        (EndMarkedLate, &[HERE, MASKED], HERE, ALIVE),
        (NoLoadBeforeRevival, &[HERE, HERE], PAST, NOT_REFUSED),
        (NoLoadAfterAttaching, &[HERE, MASKED], HERE, ALIVE),
        // The same, where only the namespace is another.
        (CompanyIgnored, &[HERE, CONTAINER], HERE, ONE_VIEW),
        (CompanyOnlyAsked, &[HERE, CONTAINER], HERE, ALIVE),
        (EndMarkedLate, &[HERE, CONTAINER], HERE, ALIVE),
        (NoLoadAfterAttaching, &[HERE, CONTAINER], HERE, ALIVE),
        (OriginBeforeLocks, &[HERE, HERE], GONE, ALIVE),
        (NamespaceOnlyPeeked, &[HERE, CONTAINER], HERE, ALIVE),
        (NamespaceWrittenLast, &[HERE, CONTAINER], HERE, ALIVE),
        (
            RefusedStays,
            &[HERE, CONTAINER, CONTAINER],
            HERE,
            NOT_REFUSED,
        ),
    ];
    for (mutation, views, origin, property) in bugs {
        let (title, protocol) = mutated(mutation, views, origin);
        assert_found(&title, protocol, property);
    }
    // Where all see one boot, nobody comes by without having to wait for the reviver.
    for mutation in [CompanyOnlyAsked, EndMarkedLate] {
        let (title, protocol) = mutated(mutation, &[HERE, HERE, HERE], PAST);
        assert_safe(&title, protocol);
    }
    // Nobody has its own lock, and reads what counts, while a reviver writes: to read
    // the end twice only helps those who have no lock.
    let (title, protocol) = mutated(EndLoadedOnce, &[HERE, HERE, MASKED], PAST);
    assert_safe(&title, protocol);
}
