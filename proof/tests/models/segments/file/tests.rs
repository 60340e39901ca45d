//! The scenarios of the model, and the mistakes that break it.

use super::model::{KEEPS_NAME, NO_IDLE_RETRY, NOTHING_LEFT, RIGHT_OBJECT, WHOLE};
use super::state::{FileModel, Mistake};
use crate::segments::search::{
    WAITS_FOR_ACTIVE, assert_breaks, assert_harmless, assert_holds, assert_holds_and_covers,
};
use crate::size::Size;

fn model(processes: usize, tasks: u8) -> FileModel {
    FileModel {
        processes,
        tasks,
        mistake: None,
    }
}

fn with_mistake(mistake: Mistake, processes: usize, tasks: u8) -> FileModel {
    FileModel {
        mistake: Some(mistake),
        ..model(processes, tasks)
    }
}

#[test]
fn smoke() {
    assert_holds(model(1, 2));
}

#[test]
fn properties_hold() {
    assert_holds_and_covers(model(3, 1));
    assert_holds(model(2, 2));
    if Size::chosen() == Size::Large {
        assert_holds(model(2, 3));
        assert_holds(model(3, 2));
    }
}

#[test]
fn mistakes_break_it() {
    use Mistake::{
        LeaverTestsBeforeClose, LinkedBeforeLocked, LinkedBeforeWritten, NameCheckedBeforeLock,
        NameUnchecked, OpenerTriesLock, RemoverSkipsNameCheck, RemoverTestsOnly,
        RemoverWaitsForUsers, RemoverWithoutRemoval, UnlinkOfMissingContinues,
        UnlinkWithoutRemoval,
    };
    for (mistake, processes, tasks, property) in [
        (LinkedBeforeWritten, 2, 1, WHOLE),
        (LinkedBeforeLocked, 2, 1, KEEPS_NAME),
        (NameUnchecked, 2, 1, KEEPS_NAME),
        (NameCheckedBeforeLock, 2, 1, KEEPS_NAME),
        (OpenerTriesLock, 2, 1, NO_IDLE_RETRY),
        (LeaverTestsBeforeClose, 1, 1, NOTHING_LEFT),
        (RemoverTestsOnly, 2, 1, KEEPS_NAME),
        (RemoverWaitsForUsers, 2, 1, WAITS_FOR_ACTIVE),
        (RemoverSkipsNameCheck, 2, 2, RIGHT_OBJECT),
        (RemoverWithoutRemoval, 2, 2, KEEPS_NAME),
        (UnlinkWithoutRemoval, 2, 2, KEEPS_NAME),
        (UnlinkOfMissingContinues, 2, 2, KEEPS_NAME),
    ] {
        assert_breaks(mistake, with_mistake(mistake, processes, tasks), property);
    }
}

/// The remover may check the name earlier, because no other process changes it while
/// `REMOVAL` is locked. A process that locks `REMOVAL` too early finds that `ATTACHED`
/// is locked and that the name is gone.
#[test]
fn order_inside_removal_is_harmless() {
    for mistake in [
        Mistake::RemoverChecksNameFirst,
        Mistake::RemovalUnlockedFirst,
    ] {
        assert_harmless(mistake, with_mistake(mistake, 2, 2));
    }
}
