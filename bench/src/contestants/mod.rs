//! The locks. Each is used as its documentation recommends.
//!
//! | contestant | after a holder was killed | reason |
//! |---|---|---|
//! | shm-sync | the others continue, the next holder is told | a robust mutex, which the library makes consistent, and a poison flag |
//! | pthread plain | the others wait forever | the mutex stays locked |
//! | pthread robust | the others continue, the next holder is told | the kernel marks the mutex; the program calls `pthread_mutex_consistent` |
//! | pthread robust checking | the others continue, the next holder is told | a robust mutex that also reports relocking, as in shm-sync |
//! | posix-sync | the others continue, the next holder is told | a robust pthread mutex; the program calls `make_consistent` |
//! | iceoryx2-bb-posix | the others continue, the next holder is told | a robust pthread mutex; the program calls `make_consistent` |
//! | rustix-futex-sync | the others wait forever | a futex without an owner, as in `std` |
//! | raw_sync_2 | the others wait forever | a plain pthread mutex |
//! | process-sync | the others wait forever | a plain pthread mutex |
//! | Boost.Interprocess | the others wait forever or fail forever | before 1.78 a plain pthread mutex, since then a robust mutex that stays inconsistent |
//! | POSIX semaphore | the others wait forever | a count without an owner |
//! | System V semaphore | the others continue, no holder is told | `SEM_UNDO` |
//! | flock | the others continue, no holder is told | the lock belongs to the open file |
//! | fcntl OFD lock | the others continue, no holder is told | the lock belongs to the open file |
//! | std::sync, parking_lot | does not apply | for threads of one process, for comparison |
//! | stores of a robust list | does not apply | without contention only; it shows a lower bound |
//! | futex in two cache lines | the others wait forever | rustix-futex-sync, with contention only; it shows the cost of a second cache line |
//!
//! Each lock guards a number. The number is inside the mutex if the library supports
//! that. Otherwise it is directly behind the lock, on the same cache line, as in a
//! careful C program. Every result is checked, as in production. A lock that fails ends
//! the worker with a panic, and the failure names the contestant.

mod boost;
mod file_lock;
mod flag;
mod futex;
mod guarded;
mod list_stores;
mod lock;
mod pthread;
mod rust_pthread;
mod semaphore;
mod this_crate;
mod threads;

use crate::series::Survives;
use crate::tables::{Style, Table};

pub(crate) use boost::{
    Boost, Functions as BoostFunctions, Room as BoostRoom, functions as boost_functions,
};
pub(crate) use file_lock::{Flock, OfdLock};
pub(crate) use flag::{POLL_INTERVAL, POLLED_FLAG, PolledFlag};
pub(crate) use futex::{FutexInTwoLines, ListedFutex, RustixFutexSync};
pub(crate) use list_stores::ListStores;
pub(crate) use lock::{Cost, Lock, Profile, Scope};
pub(crate) use pthread::{Plain, Pthread, Robust, RobustChecking, check, initialise};
pub(crate) use rust_pthread::{Iceoryx2, PosixSync, ProcessSync, RawSync};
pub(crate) use semaphore::{PosixSemaphore, SystemVSemaphore};
pub(crate) use this_crate::ShmSync;
pub(crate) use threads::{ParkingLot, Std};

/// An operation on all locks.
pub(crate) trait Visitor {
    fn visit<L: Lock>(&mut self);
}

/// Calls `visitor` for each lock, in the order of all tables.
pub(crate) fn visit_all(visitor: &mut impl Visitor) {
    visitor.visit::<ShmSync>();
    visitor.visit::<Pthread<Plain>>();
    visitor.visit::<Pthread<Robust>>();
    visitor.visit::<Pthread<RobustChecking>>();
    visitor.visit::<PosixSync>();
    visitor.visit::<Iceoryx2>();
    visitor.visit::<RustixFutexSync>();
    visitor.visit::<RawSync>();
    visitor.visit::<ProcessSync>();
    visitor.visit::<Boost>();
    visitor.visit::<PosixSemaphore>();
    visitor.visit::<SystemVSemaphore>();
    visitor.visit::<Flock>();
    visitor.visit::<OfdLock>();
    visitor.visit::<Std>();
    visitor.visit::<ParkingLot>();
}

/// Returns a table of the properties of all locks.
pub(crate) fn table(style: Style) -> Table {
    struct Rows(Table);
    impl Visitor for Rows {
        fn visit<L: Lock>(&mut self) {
            let profile = L::PROFILE;
            let tells = match (profile.survives, profile.tells) {
                (Survives::DoesNotApply, _) => "-",
                (_, true) => "yes",
                (_, false) => "no",
            };
            let scope = match profile.scope {
                Scope::Processes => "processes",
                Scope::Threads => "threads only",
            };
            let cost = match profile.cost {
                Cost::AtomicInstructions => "atomic instructions",
                Cost::SystemCalls => "two system calls",
            };
            let bytes = match profile.bytes {
                0 => "in the kernel".to_owned(),
                bytes => format!("{bytes} bytes"),
            };
            let (name, survives) = (profile.name, profile.survives.label());
            self.0.add_row([name, survives, tells, scope, cost, &bytes]);
        }
    }
    let titles = vec![
        "contestant",
        "survives",
        "tells",
        "between",
        "a free lock costs",
        "size",
    ];
    let mut rows = Rows(style.table(titles, 6));
    visit_all(&mut rows);
    rows.0
}
