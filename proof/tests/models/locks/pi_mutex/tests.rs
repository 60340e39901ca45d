//! The scenarios of the model, and the mistakes that break it.

use super::model::{MUTUAL_EXCLUSION, OWNER_DEATH_REPORTED};
use super::state::{Mistake, PiMutex, Waiter};
use crate::locks::checker::{NOT_STUCK, assert_breaks, assert_holds};
use crate::size::Size;

fn model(mistake: Mistake, reader: Waiter) -> PiMutex {
    PiMutex {
        mistake,
        reader,
        deaths: 1,
        rounds: match Size::chosen() {
            Size::Small => 1,
            Size::Large => 2,
        },
    }
}

#[test]
fn smoke() {
    let alone = PiMutex {
        deaths: 0,
        ..model(Mistake::None, Waiter::None)
    };
    assert_holds(&alone);
}

#[test]
fn lockers_progress_beside_reader() {
    for reader in [Waiter::None, Waiter::Wait, Waiter::WaitRequeuePi] {
        assert_holds(&model(Mistake::None, reader));
    }
}

#[test]
fn mistakes_break_it() {
    use Mistake as M;
    let (plain, requeue) = (Waiter::Wait, Waiter::WaitRequeuePi);
    for (mistake, reader, property) in [
        (M::RefusalIgnored, plain, MUTUAL_EXCLUSION),
        (M::ReleaseToZero, requeue, MUTUAL_EXCLUSION),
        (M::KernelBypassed, requeue, MUTUAL_EXCLUSION),
        (M::PlainWaitersNotWoken, plain, NOT_STUCK),
        (M::EndlessWait, requeue, NOT_STUCK),
        (M::LockWithoutPending, Waiter::None, NOT_STUCK),
        (M::UnlockWithoutPending, Waiter::None, NOT_STUCK),
        (M::OwnerDeathIgnored, Waiter::None, OWNER_DEATH_REPORTED),
    ] {
        let model = PiMutex {
            rounds: 2,
            deaths: 1,
            ..model(mistake, reader)
        };
        assert_breaks(mistake, &model, property);
    }
}
