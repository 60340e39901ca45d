//! The scenarios of the model, and the mistakes that break it.

use super::model::{NOT_REFUSED, ONE_EPOCH, VALID};
use super::state::{
    CONTAINER, CURRENT, ENDED_CONTAINER, Epoch, FileReinit, Mistake, OTHER_BOOT, PAST_BOOT,
};
use crate::segments::search::{
    assert_breaks, assert_harmless, assert_holds, assert_holds_and_covers,
};
use crate::size::Size;

fn model(epochs: &'static [Epoch], file_epoch: Epoch, tasks: u8) -> FileReinit {
    FileReinit {
        epochs,
        file_epoch,
        tasks,
        mistake: None,
    }
}

fn with_mistake(mistake: Mistake, epochs: &'static [Epoch], file_epoch: Epoch) -> FileReinit {
    FileReinit {
        mistake: Some(mistake),
        ..model(epochs, file_epoch, 1)
    }
}

#[test]
fn properties_hold() {
    const THREE: &[Epoch] = &[CURRENT, CURRENT, CURRENT];
    const TWO_AND_OTHER_BOOT: &[Epoch] = &[CURRENT, CURRENT, OTHER_BOOT];
    const TWO_AND_CONTAINER: &[Epoch] = &[CURRENT, CURRENT, CONTAINER];
    let mut models = vec![
        model(THREE, PAST_BOOT, 1),
        model(TWO_AND_OTHER_BOOT, PAST_BOOT, 1),
        model(TWO_AND_OTHER_BOOT, CURRENT, 1),
        // A container restarts; two restart at once; the old and a new one at once.
        model(THREE, ENDED_CONTAINER, 1),
        model(TWO_AND_CONTAINER, ENDED_CONTAINER, 1),
        model(TWO_AND_CONTAINER, CURRENT, 1),
    ];
    if Size::chosen() == Size::Large {
        const FOUR: &[Epoch] = &[CURRENT, CURRENT, CURRENT, CURRENT];
        const TWO_AND_TWO_BOOTS: &[Epoch] = &[CURRENT, CURRENT, OTHER_BOOT, OTHER_BOOT];
        const TWO_AND_TWO_CONTAINERS: &[Epoch] = &[CURRENT, CURRENT, CONTAINER, CONTAINER];
        models.extend([
            model(FOUR, PAST_BOOT, 1),
            model(TWO_AND_TWO_BOOTS, PAST_BOOT, 1),
            model(TWO_AND_OTHER_BOOT, PAST_BOOT, 2),
            model(TWO_AND_TWO_BOOTS, CURRENT, 1),
            model(TWO_AND_TWO_CONTAINERS, ENDED_CONTAINER, 1),
            model(TWO_AND_CONTAINER, ENDED_CONTAINER, 2),
        ]);
    }
    models.into_iter().for_each(assert_holds_and_covers);
    // No two processes use the locks at once, because each sees another epoch.
    let all_differ = &[CURRENT, CONTAINER, OTHER_BOOT];
    assert_holds(model(all_differ, ENDED_CONTAINER, 1));
}

#[test]
fn mistakes_break_it() {
    use Mistake::{
        EpochBeforeLocks, InvalidatedLate, NamespaceReadOnce, NamespaceWrittenLast,
        NoLoadAfterLock, NoLoadBeforeReinit, NoReinitLock, OthersIgnored, OthersTestedOnly,
        ReinitUnlockedFirst,
    };
    const TWO: &[Epoch] = &[CURRENT, CURRENT];
    const TWO_BOOTS: &[Epoch] = &[CURRENT, OTHER_BOOT];
    const TWO_CONTAINERS: &[Epoch] = &[CURRENT, CONTAINER];
    const ONE_AND_TWO_CONTAINERS: &[Epoch] = &[CURRENT, CONTAINER, CONTAINER];
    for (mistake, epochs, file_epoch, property) in [
        (NoReinitLock, TWO, PAST_BOOT, NOT_REFUSED),
        (EpochBeforeLocks, TWO, PAST_BOOT, VALID),
        (OthersIgnored, TWO_BOOTS, CURRENT, ONE_EPOCH),
        (OthersTestedOnly, TWO_BOOTS, CURRENT, VALID),
        (InvalidatedLate, TWO_BOOTS, CURRENT, VALID),
        (NoLoadBeforeReinit, TWO, PAST_BOOT, NOT_REFUSED),
        (NoLoadAfterLock, TWO_BOOTS, CURRENT, VALID),
        // In these, only the namespace differs.
        (OthersIgnored, TWO_CONTAINERS, CURRENT, ONE_EPOCH),
        (OthersTestedOnly, TWO_CONTAINERS, CURRENT, VALID),
        (InvalidatedLate, TWO_CONTAINERS, CURRENT, VALID),
        (NoLoadAfterLock, TWO_CONTAINERS, CURRENT, VALID),
        (EpochBeforeLocks, TWO, ENDED_CONTAINER, VALID),
        (NamespaceReadOnce, TWO_CONTAINERS, CURRENT, VALID),
        (NamespaceWrittenLast, TWO_CONTAINERS, CURRENT, VALID),
        (
            ReinitUnlockedFirst,
            ONE_AND_TWO_CONTAINERS,
            CURRENT,
            NOT_REFUSED,
        ),
    ] {
        let model = with_mistake(mistake, epochs, file_epoch);
        assert_breaks(mistake, model, property);
    }
}

/// In one epoch every opener waits for the process that reinitialises.
#[test]
fn exclusion_is_not_needed_in_one_epoch() {
    const THREE: &[Epoch] = &[CURRENT, CURRENT, CURRENT];
    for mistake in [Mistake::OthersTestedOnly, Mistake::InvalidatedLate] {
        assert_harmless(mistake, with_mistake(mistake, THREE, PAST_BOOT));
    }
}

/// The second load of the end only helps processes without a lock: a process that holds
/// its own byte, and decides by what it loads, excludes every process that writes the
/// epoch.
#[test]
fn end_may_be_loaded_once() {
    const TWO_AND_OTHER_BOOT: &[Epoch] = &[CURRENT, CURRENT, OTHER_BOOT];
    let mistake = Mistake::EndLoadedOnce;
    assert_harmless(
        mistake,
        with_mistake(mistake, TWO_AND_OTHER_BOOT, PAST_BOOT),
    );
}
