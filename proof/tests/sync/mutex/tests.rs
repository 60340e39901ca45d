//! What must hold in every state of the mutex, and which mistakes break it.

use stateright::{Model, Property};

use super::{
    Consistency, Id, Kernel, Mistake, Mutex, Poison, Process, Sleep, State, Step, UNLIMITED,
};
use crate::check::{self, NOBODY_IS_STUCK, Size, nobody_is_stuck};

const ONE_AT_A_TIME: &str = "one at a time has the lock";
const TOLD: &str = "whoever gets data in doubt is told";
const TOLD_WITH_REASON: &str = "whoever is told has reason to doubt";
const POISONED: &str = "doubt is visible from outside, but for who is about to say it";
const COUNTED: &str = "no poisoning is uncounted when the next one has the lock";
const NAMED: &str = "the holder's name is of one who has the lock, or is dead";
const BLAMED: &str = "who is blamed for a death is dead, or nobody";
const RECOVERABLE: &str = "it is never not recoverable";

pub(super) fn properties() -> Vec<Property<Mutex>> {
    vec![
        nobody_is_stuck(),
        Property::always(ONE_AT_A_TIME, |_, state: &State| {
            let inside = |(id, process): &(Id, &Process)| {
                state.is_alive(*id) && (process.listed || is_between(process.step))
            };
            state.all().filter(inside).count() <= 1
        }),
        Property::always(TOLD, |_, state: &State| {
            !any_at(state, Step::WriteFirst) || !(state.is_torn || state.is_in_doubt)
        }),
        Property::always(TOLD_WITH_REASON, |_, state: &State| {
            !any_at(state, Step::RepairFirst) || state.is_in_doubt
        }),
        Property::always(POISONED, |_, state: &State| {
            !state.is_in_doubt
                || state.poison != Poison::Clean
                || state.word.owner_died
                || state
                    .all()
                    .any(|(id, process)| state.word.is_owned_by(id) && will_mark(process))
        }),
        Property::always(COUNTED, |_, state: &State| {
            !state.is_uncounted
                || !(any_at(state, Step::WriteFirst) || any_at(state, Step::RepairFirst))
        }),
        Property::always(NAMED, |_, state: &State| {
            let named = |id: &Id| state.holder == id + 1 && state.is_alive(*id);
            let all = state.all().map(|(id, _)| id);
            all.filter(named).all(|id| state.word.is_owned_by(id))
        }),
        Property::always(BLAMED, |_, state: &State| match state.poison {
            Poison::OwnerDied(0) | Poison::Clean | Poison::Panicked(_) => true,
            Poison::OwnerDied(culprit) => !state.is_alive(culprit - 1),
        }),
        Property::always(RECOVERABLE, |_, state: &State| {
            state.consistency != Consistency::NotRecoverable
        }),
    ]
}

fn any_at(state: &State, step: Step) -> bool {
    state.all().any(|(_, process)| process.step == step)
}

/// It has the word, but the mutex is not yet on its list, or no longer.
fn is_between(step: Step) -> bool {
    matches!(step, Step::Enlist | Step::Release)
}

/// It has the lock, has not yet said that the data is in doubt, and will. So will the
/// kernel for the dying.
fn will_mark(process: &Process) -> bool {
    use Step::{Consistent, Dying, Enlist, Enlisted, Mark, MarkPanic};
    matches!(
        process.step,
        Dying | Enlist | Enlisted | Consistent | Mark | MarkPanic
    )
}

/// The mutex of the code, on the kernel that there is.
fn machine(mistake: Mistake) -> Mutex {
    let (deaths, rounds) = match Size::wanted() {
        Size::Small => (1, 1),
        Size::Large => (2, UNLIMITED),
    };
    Mutex {
        kernel: Kernel::Linux,
        sleep: Sleep::InTurns,
        deaths,
        rounds,
        mistake,
    }
}

/// The same with sleepers that never look around, on a kernel without the gap that
/// [`who_sleeps_for_ever_sleeps_beside_a_free_lock`] shows: what breaks nothing here is
/// healed by nothing but the protocol itself.
fn machine_without_gap(mistake: Mistake) -> Mutex {
    Mutex {
        kernel: Kernel::Mended,
        sleep: Sleep::ForEver,
        ..machine(mistake)
    }
}

pub(crate) fn smoke() {
    let machine = machine(Mistake::None);
    let [state] = machine.init_states()[..] else {
        panic!("it begins in one way");
    };
    assert!(machine.next_steps(&state).len() > 1);
}

#[test]
fn every_property_holds() {
    check::holds("mutex", &machine(Mistake::None));
}

/// Killed after it has freed the word and before it wakes, or just woken and before it
/// takes the word: the kernel then wakes another sleeper, but only if the lock is
/// free. If somebody else has taken it meanwhile, without the waiters bit because it met
/// nobody, it will wake nobody when it gives it back. The sleeper sleeps on, by a free
/// lock, until others queue behind it.
#[test]
fn who_sleeps_for_ever_sleeps_beside_a_free_lock() {
    let machine = Mutex {
        sleep: Sleep::ForEver,
        ..machine(Mistake::None)
    };
    check::is_found("sleeping for ever", &machine, NOBODY_IS_STUCK);
}

/// The gap is the only one: a kernel without it would be enough.
#[test]
fn a_kernel_that_woke_a_sleeper_then_would_be_enough() {
    let machine = machine_without_gap(Mistake::None);
    check::holds("mutex, on a mended kernel", &machine);
}

#[test]
fn mistakes_of_this_crate_are_found() {
    for (mistake, property) in [
        (Mistake::NoMark, TOLD),
        (Mistake::NamesItselfFirst, BLAMED),
        (Mistake::NotConsistent, RECOVERABLE),
        (Mistake::ClearsFirst, POISONED),
        (Mistake::PanicMarksAfterUnlock, TOLD),
        (Mistake::PanicUncounted, COUNTED),
        (Mistake::NameStays, NAMED),
        (Mistake::UnlockClears, TOLD),
    ] {
        check::is_found(mistake, &machine(mistake), property);
    }
}

#[test]
fn mistakes_below_this_crate_are_found() {
    for mistake in [
        Mistake::TakesUnannounced,
        Mistake::ReleasesUnannounced,
        Mistake::QuietBeforeWake,
        Mistake::ForgetsOtherWaiters,
    ] {
        check::is_found(mistake, &machine_without_gap(mistake), NOBODY_IS_STUCK);
    }
    // The owner dies, and then the one whom the kernel has woken.
    let machine = Mutex {
        deaths: 2,
        ..machine_without_gap(Mistake::WakesOnZeroOnly)
    };
    check::is_found(machine.mistake, &machine, NOBODY_IS_STUCK);
}

/// The code poisons before it makes the mutex consistent. The other order would do as
/// well: who does either still has the lock, so if it dies, the kernel marks the
/// lock again, and the next one poisons.
#[test]
fn poisoning_after_making_consistent_makes_no_difference() {
    let mistake = Mistake::MarksAfterConsistent;
    check::holds("mutex, MarksAfterConsistent", &machine_without_gap(mistake));
}
