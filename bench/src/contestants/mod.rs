//! The locks, each in its own best documented use.
//!
//! | contestant | a process is killed inside | why |
//! |---|---|---|
//! | shm-sync | all go on, and are told | a robust mutex, made consistent by the library; poison beside it |
//! | pthread plain | all wait for ever | nobody unlocks |
//! | pthread robust | all go on, the next is told | the kernel marks the mutex; the program calls `pthread_mutex_consistent` |
//! | pthread robust checking | the same | the same, and relocking is an error: what shm-sync is made of |
//! | posix-sync | all go on, the next is told | a robust pthread mutex; `make_consistent` |
//! | iceoryx2-bb-posix | all go on, the next is told | a robust pthread mutex; `make_consistent` |
//! | rustix-futex-sync | all wait for ever | a futex, as in `std`: no owner |
//! | raw_sync_2 | all wait for ever | a plain pthread mutex |
//! | process-sync | all wait for ever | a plain pthread mutex |
//! | Boost.Interprocess | all wait for ever, or fail for ever | before 1.78 a plain pthread mutex, since then a robust one that is never made consistent |
//! | POSIX semaphore | all wait for ever | a count: no owner |
//! | System V semaphore | all go on, nobody is told | `SEM_UNDO` |
//! | flock | all go on, nobody is told | the lock goes with the open file |
//! | fcntl OFD lock | all go on, nobody is told | the lock goes with the open file |
//! | std::sync, parking_lot | does not apply | threads of one process, for scale |
//!
//! Each guards a number, in its own way: inside the mutex where the library has that,
//! and otherwise right behind the lock, on the same cache line, as a careful C
//! programmer would put it. Every result is checked, as it should be in production:
//! a lock that fails ends the worker with a panic, and the contestant is named.

mod boost;
mod file_lock;
mod flag;
mod futex;
mod guarded;
mod ours;
mod pthread;
mod rust_pthread;
mod semaphore;
mod threads;

use comfy_table::Table;

use crate::failure::Failure;
use crate::report::{Style, Survives};

pub(crate) use boost::{
    Boost, Functions as BoostFunctions, Room as BoostRoom, functions as boost_functions,
};
pub(crate) use file_lock::{Flock, OfdLock};
pub(crate) use flag::{PAUSE, POLLING, PolledFlag};
pub(crate) use futex::RustixFutexSync;
pub(crate) use ours::ShmSync;
pub(crate) use pthread::{Plain, Pthread, Robust, RobustChecking, check, initialise};
pub(crate) use rust_pthread::{Iceoryx2, PosixSync, ProcessSync, RawSync};
pub(crate) use semaphore::{PosixSemaphore, SystemVSemaphore};
pub(crate) use threads::{ParkingLot, Std};

/// What is to be known of a lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    pub(crate) survives: Survives,
    /// Whether the next holder learns that one was killed inside.
    pub(crate) tells: bool,
    pub(crate) scope: Scope,
    pub(crate) cost: Cost,
    /// What one takes in shared memory, without the data. 0 if it is in the kernel.
    pub(crate) bytes: usize,
}

/// Who can share a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Processes,
    Threads,
}

/// What a free lock costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    AtomicInstructions,
    SystemCalls,
}

/// A lock around a number.
///
/// Workloads are generic over it, so nothing is called through a table in a measured
/// loop.
pub(crate) trait Lock: Sync + Sized + 'static {
    const PROFILE: Profile;

    /// Makes one, around zero. Processes that are forked while it is there share it.
    fn make() -> Result<Self, Failure>;

    /// What a forked worker does to its copy before it uses it: a lock of the kernel
    /// that goes with the open file is opened anew.
    fn join(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Locks, does what has to be done inside, and unlocks.
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R;
}

/// What wants to know all locks.
pub(crate) trait Visitor {
    fn visit<L: Lock>(&mut self);
}

/// Shows all locks to `visitor`, in the order in which they are listed everywhere.
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

/// Who is compared, as a table.
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
            let (name, survives) = (profile.name, profile.survives.word());
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

/// A lock did not do what it has to.
#[cold]
#[inline(never)]
fn broken(what: &str, why: impl std::fmt::Debug) -> ! {
    panic!("{what}: {why:?}")
}
