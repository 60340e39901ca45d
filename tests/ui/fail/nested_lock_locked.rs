//! Memory that another library maps is cast to the type.

use shm_sync::{Error, ShmMutex};

type Nested = ShmMutex<ShmMutex<u32>>;

fn lock(mapped: &Nested) -> Result<(), Error> {
    drop(mapped.lock()?);
    Ok(())
}

fn main() -> Result<(), Error> {
    let memory = std::mem::MaybeUninit::<Nested>::zeroed();
    // SAFETY: this line does not compile, so it never runs.
    lock(unsafe { memory.assume_init_ref() })
}
