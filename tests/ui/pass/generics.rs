//! Type and const parameters, defaults, where clauses, associated types.

use std::marker::PhantomData;

use shm_sync::{Error, Segment, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(C)]
struct Slot<T = u64>
where
    T: Copy,
{
    lock: ShmMutex<T>,
    spare: (T, [T; 2]),
    kind: PhantomData<T>,
}

impl<T: ShmSafe + Copy> Slot<T> {
    fn new(value: T) -> Self {
        Self {
            lock: ShmMutex::new(value),
            spare: (value, [value; 2]),
            kind: PhantomData,
        }
    }
}

#[derive(ShmSafe)]
#[repr(C)]
struct Ring<T: Copy, const N: usize> {
    next: u32,
    slots: [Slot<T>; N],
}

trait Protocol {
    type Request;
    type Reply;
}

#[derive(ShmSafe)]
#[repr(C)]
struct Call<P: Protocol> {
    request: ShmMutex<P::Request>,
    replies: [<P as Protocol>::Reply; 2],
}

#[derive(ShmSafe)]
#[repr(C)]
struct Echo {
    version: u8,
}

impl Protocol for Echo {
    type Request = u16;
    type Reply = u32;
}

#[derive(ShmSafe)]
#[repr(u8)]
enum Choice<T, const N: usize> {
    None,
    Some([T; N]),
    Default = 9,
}

/// Generic code does not depend on how the trait is implemented.
fn place<T: ShmSafe + Copy>(value: T) -> Result<Segment<Slot<T>>, Error> {
    Segment::anonymous(Slot::new(value))
}

fn main() -> Result<(), Error> {
    let _default: Segment<Slot> = place(1_u64)?;
    assert_eq!(*place(-5_i8)?.lock.lock()?, -5);

    let ring = Segment::anonymous(Ring {
        next: 0,
        slots: [Slot::new('a'), Slot::new('b')],
    })?;
    assert_eq!(*ring.slots[1].lock.lock()?, 'b');

    let call = Segment::anonymous(Call::<Echo> {
        request: ShmMutex::new(1_u16),
        replies: [2_u32, 3],
    })?;
    assert_eq!(*call.request.lock()?, 1);

    let _choices = Segment::anonymous([
        Choice::<u16, 3>::None,
        Choice::Some([1, 2, 3]),
        Choice::Default,
    ])?;
    Ok(())
}
