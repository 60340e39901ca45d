//! The scenarios of the model, and the mistakes that break it.

use stateright::Model;

use super::model::{
    CAUSE_DEAD, EPOCH_ADVANCED, HOLDER_RIGHT, POISON_VISIBLE, RECOVERABLE, REPORTED,
};
use super::state::{Kernel, Mistake, Mutex, UNLIMITED, WaitKind};
use crate::locks::checker::{NOT_STUCK, assert_breaks, assert_harmless, assert_holds};
use crate::size::Size;

/// Returns the mutex of the code, on the kernel as it is.
fn model(mistake: Mistake) -> Mutex {
    let (deaths, rounds) = match Size::chosen() {
        Size::Small => (1, 1),
        Size::Large => (2, UNLIMITED),
    };
    Mutex {
        kernel: Kernel::Linux,
        wait: WaitKind::Rechecked,
        deaths,
        rounds,
        mistake,
    }
}

/// Returns a mutex with endless waits, on a kernel without the gap that
/// [`endless_wait_misses_free_lock`] shows. Here the protocol alone must wake each
/// waiter.
fn model_on_fixed_kernel(mistake: Mistake) -> Mutex {
    Mutex {
        kernel: Kernel::Fixed,
        wait: WaitKind::Endless,
        ..model(mistake)
    }
}

#[test]
fn smoke() {
    let model = model(Mistake::None);
    let [state] = model.init_states()[..] else {
        panic!("a model has one initial state");
    };
    assert!(model.next_steps(&state).len() > 1);
}

#[test]
fn properties_hold() {
    assert_holds(&model(Mistake::None));
}

/// A process is killed after it has released the word and before it wakes a waiter, or
/// a woken waiter is killed before it locks. The kernel then wakes another waiter, but
/// only if the lock is free. If a third process has locked it in the meantime, without
/// `FUTEX_WAITERS` because it met no waiter, its unlock wakes no process. The waiter
/// sleeps beside a free lock, until other processes queue behind it.
#[test]
fn endless_wait_misses_free_lock() {
    let model = Mutex {
        wait: WaitKind::Endless,
        ..model(Mistake::None)
    };
    let mistake = "waits are endless, as in `pthread_mutex_lock`";
    assert_breaks(mistake, &model, NOT_STUCK);
}

/// The gap is the only one: an endless wait would do on a kernel without it.
#[test]
fn endless_wait_holds_on_fixed_kernel() {
    assert_holds(&model_on_fixed_kernel(Mistake::None));
}

#[test]
fn crate_mistakes_break_it() {
    for (mistake, property) in [
        (Mistake::NoPoison, REPORTED),
        (Mistake::HolderBeforePoison, CAUSE_DEAD),
        (Mistake::NoConsistent, RECOVERABLE),
        (Mistake::ClearBeforeRepair, POISON_VISIBLE),
        (Mistake::PanicPoisonAfterUnlock, REPORTED),
        (Mistake::PanicKeepsEpoch, EPOCH_ADVANCED),
        (Mistake::UnlockKeepsHolder, HOLDER_RIGHT),
        (Mistake::UnlockClearsPoison, REPORTED),
    ] {
        assert_breaks(mistake, &model(mistake), property);
    }
}

#[test]
fn glibc_and_kernel_mistakes_break_it() {
    for mistake in [
        Mistake::LockWithoutPending,
        Mistake::UnlockWithoutPending,
        Mistake::PendingClearedBeforeWake,
        Mistake::WaitersForgotten,
    ] {
        assert_breaks(mistake, &model_on_fixed_kernel(mistake), NOT_STUCK);
    }
    // The holder dies, and then the waiter that the kernel has woken.
    let model = Mutex {
        deaths: 2,
        ..model_on_fixed_kernel(Mistake::WakeOnZeroOnly)
    };
    assert_breaks(model.mistake, &model, NOT_STUCK);
}

/// The code poisons before it makes the mutex consistent. The other order is
/// equivalent: the locker holds the lock during both steps. If it dies in between, the
/// kernel sets `FUTEX_OWNER_DIED` again, and the next locker poisons.
#[test]
fn poison_after_consistent_holds() {
    let mistake = Mistake::PoisonAfterConsistent;
    assert_harmless(mistake, &model_on_fixed_kernel(mistake));
}
