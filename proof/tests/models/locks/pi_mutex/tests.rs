//! What must hold in every state, and which mistakes break it.

use super::model::{ONE_AT_A_TIME, TOLD};
use super::state::{Inheriting, Mistake, Waiter};
use crate::locks::checker::{self as check, NOBODY_IS_STUCK};
use crate::size::Size;

fn machine(mistake: Mistake, reader: Waiter) -> Inheriting {
    Inheriting {
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
    let alone = Inheriting {
        deaths: 0,
        ..machine(Mistake::None, Waiter::None)
    };
    check::holds("no death, no reader", &alone);
}

#[test]
fn lockers_get_on_beside_a_reader() {
    for reader in [Waiter::None, Waiter::Plain, Waiter::ForRequeue] {
        let what = format!("reader {reader:?}");
        check::holds(&what, &machine(Mistake::None, reader));
    }
}

#[test]
fn each_mistake_is_found() {
    use Mistake as M;
    let (plain, requeue) = (Waiter::Plain, Waiter::ForRequeue);
    for (mistake, reader, property) in [
        (M::BelievesRefusals, plain, ONE_AT_A_TIME),
        (M::ReleasesToZero, requeue, ONE_AT_A_TIME),
        (M::TakesFromTheKernel, requeue, ONE_AT_A_TIME),
        (M::WakesNoReader, plain, NOBODY_IS_STUCK),
        (M::WaitsForEver, requeue, NOBODY_IS_STUCK),
        (M::TakesUnannounced, Waiter::None, NOBODY_IS_STUCK),
        (M::ReleasesUnannounced, Waiter::None, NOBODY_IS_STUCK),
        (M::IsNotTold, Waiter::None, TOLD),
    ] {
        let machine = Inheriting {
            rounds: 2,
            deaths: 1,
            ..machine(mistake, reader)
        };
        check::is_found(mistake, &machine, property);
    }
}
