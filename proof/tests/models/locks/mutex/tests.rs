//! What must hold in every state of the mutex, and which mistakes break it.

use stateright::Model;

use super::model::{BLAMED, COUNTED, NAMED, POISONED, RECOVERABLE, TOLD};
use super::state::{Kernel, Mistake, Mutex, Sleep, UNLIMITED};
use crate::locks::checker::{self as check, NOBODY_IS_STUCK};
use crate::size::Size;

/// The mutex of the code, on the kernel that there is.
fn machine(mistake: Mistake) -> Mutex {
    let (deaths, rounds) = match Size::chosen() {
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

#[test]
fn smoke() {
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
