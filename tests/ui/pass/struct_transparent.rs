//! A wrapper with the layout of its field.

use std::marker::PhantomData;

use shm_sync::{Segment, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(transparent)]
struct Counter(ShmMutex<u64>);

struct Metres;

#[derive(ShmSafe)]
#[repr(transparent)]
struct Measured<T> {
    unit: PhantomData<Metres>,
    value: T,
}

fn main() -> Result<(), shm_sync::Error> {
    let counter = Segment::anonymous(Counter(ShmMutex::new(1)))?;
    *counter.0.lock()? += 1;
    let length = Segment::anonymous(Measured {
        unit: PhantomData,
        value: ShmMutex::new(3_u32),
    })?;
    assert_eq!(*length.value.lock()?, 3);
    let Measured { unit: PhantomData, .. } = *length;
    Ok(())
}
