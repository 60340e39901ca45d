//! The path of the crate can be given, for a crate that is renamed or re-exported.

mod facade {
    pub mod memory {
        pub use shm_sync as sync;
    }
}

use facade::memory::sync::{Segment, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[shm_safe(crate = "facade::memory::sync")]
#[repr(C)]
struct Jobs<T> {
    pending: ShmMutex<T>,
    state: State,
}

#[derive(ShmSafe)]
#[repr(u8)]
#[shm_safe(crate = "crate::facade::memory::sync")]
enum State {
    Idle,
    Busy(u32),
}

fn main() -> Result<(), facade::memory::sync::Error> {
    let pending = ShmMutex::new(7_u64);
    let jobs = Segment::anonymous(Jobs { pending, state: State::Idle })?;
    assert_eq!(*jobs.pending.lock()?, 7);
    assert!(matches!(jobs.state, State::Idle | State::Busy(_)));
    Ok(())
}
