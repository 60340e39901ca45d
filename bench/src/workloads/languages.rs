//! The mutex from C, beside the raw mutex and the crate.
//!
//! All of them lock the same mutex, of one segment.

use std::ffi::c_void;
use std::time::Instant;

use shm_sync::{Segment, ShmMutex};

use super::Workload;
use super::rounds::{Entry, run_rounds};
use crate::affinity::PinnedToFirst;
use crate::failure::Failure;
use crate::foreign;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{Measure, SHM_SYNC, SHM_SYNC_H, Series, Survives};

/// All workloads of other languages.
pub(crate) const ALL: &[Workload] = &[Workload {
    name: "c",
    title: "Uncontended lock in C",
    method: "\
One thread locks, adds one and unlocks, all of them the same `ShmMutex`. The loops in C are
compiled by `cc -O2`. *pthread robust checking* calls `pthread_mutex_lock` and `unlock` and
looks at no poison. *shm_sync.h* calls `shm_sync_lock` and `shm_sync_unlock`, with the
thread-local variables of a program (`-ftls-model=initial-exec`). *In a library* has those
of a library that can be loaded at any time: each access is a call of `__tls_get_addr`.",
    baseline: PTHREAD,
    run,
}];

/// The contestant in C that uses the header.
pub(crate) const HEADER: &str = SHM_SYNC_H;
/// The same, as a compiler makes it for a library by default.
const IN_LIBRARY: &str = "shm_sync.h in a library";
/// The contestant in C that calls the C library.
pub(crate) const PTHREAD: &str = "pthread robust checking";
/// The name of the measured series.
pub(crate) const SERIES: &str = "c/lock and unlock";

/// A function in `lock.c`. It takes the mutex, its data and the number of operations.
type Batch = unsafe extern "C" fn(*mut c_void, *mut u64, u32) -> i32;

const OPERATIONS: u32 = 20_000;

fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    const AS_A_PROGRAM: &str = "-ftls-model=initial-exec";
    let function = |name: &[u8], options: &str| -> Result<Batch, Failure> {
        let include = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/../include");
        let options = format!("-std=c11 -O2 -fvisibility=hidden {options} -x c {include}");
        let source = include_bytes!("../../languages/lock.c");
        let library = foreign::compile_and_load("cc", &options, source);
        let library = library.map_err(Failure::Unavailable)?;
        // SAFETY: `lock.c` defines the functions with this type.
        let found = unsafe { library.get::<Batch>(name) };
        Ok(*found.map_err(|error| Failure::Unavailable(error.to_string()))?)
    };
    let pthread = function(b"batch_of_pthread\0", AS_A_PROGRAM)?;
    let header = function(b"batch_of_header\0", AS_A_PROGRAM)?;
    let in_library = function(b"batch_of_header\0", "")?;
    let segment: &'static Segment<ShmMutex<u64>> =
        Box::leak(Box::new(Segment::anonymous(ShmMutex::new(0))?));
    let entries = vec![
        entry(PTHREAD, in_c(segment, pthread)),
        entry(HEADER, in_c(segment, header)),
        entry(IN_LIBRARY, in_c(segment, in_library)),
        entry(SHM_SYNC, in_rust(segment)),
    ];
    run_rounds(plan, "c", entries, plan.pick(401, 41), progress)
}

fn entry(
    contestant: &'static str,
    mut batch: impl FnMut() -> Result<(), Failure> + 'static,
) -> Entry {
    Entry {
        workload: "c".to_owned(),
        contestant,
        survives: Survives::Kills,
        columns: vec![("lock and unlock", Measure::NanosPerOperation)],
        round: Box::new(move || {
            let _pinned = PinnedToFirst::new()?;
            batch()?; // Warms up.
            let start = Instant::now();
            batch()?;
            Ok(vec![
                start.elapsed().as_nanos() as f64 / f64::from(OPERATIONS),
            ])
        }),
    }
}

fn in_c(
    mutex: &'static ShmMutex<u64>,
    batch: Batch,
) -> impl FnMut() -> Result<(), Failure> + 'static {
    move || {
        // SAFETY: the segment stays mapped, and its mutex is initialised. The function
        // accesses the data with the lock held, and leaves it unlocked.
        match unsafe { batch(mutex.as_pthread_ptr(), mutex.data_ptr(), OPERATIONS) } {
            0 => Ok(()),
            _ => Err(Failure::Unavailable("a lock in C has failed".to_owned())),
        }
    }
}

fn in_rust(mutex: &'static ShmMutex<u64>) -> impl FnMut() -> Result<(), Failure> + 'static {
    move || {
        for _ in 0..OPERATIONS {
            *std::hint::black_box(&mut *mutex.lock().map_err(shm_sync::Error::from)?) += 1;
        }
        Ok(())
    }
}
