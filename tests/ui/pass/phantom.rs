//! `PhantomData` of types that may be shared between threads.

use std::marker::PhantomData;

use shm_sync::{Segment, ShmMutex, ShmSafe};

struct Metres;

#[derive(ShmSafe)]
#[repr(C)]
struct Length<Unit> {
    value: u64,
    unit: PhantomData<Unit>,
}

// The parameter itself must be `ShmSafe`, as with every derive.
#[derive(ShmSafe)]
#[repr(C)]
struct Tagged {
    value: ShmMutex<u64>,
    unit: PhantomData<Metres>,
    text: PhantomData<&'static str>,
    list: PhantomData<Vec<Metres>>,
    itself: PhantomData<Self>,
}

#[derive(ShmSafe)]
#[repr(u8)]
enum Tree {
    Leaf(PhantomData<Self>),
    Node(u8),
}

fn main() -> Result<(), shm_sync::Error> {
    let tagged = Segment::anonymous(Tagged {
        value: ShmMutex::new(3),
        unit: PhantomData,
        text: PhantomData,
        list: PhantomData,
        itself: PhantomData,
    })?;
    assert_eq!(*tagged.value.lock()?, 3);
    let _length = Segment::anonymous(Length::<u8> {
        value: 1,
        unit: PhantomData,
    })?;
    let _tree = Segment::anonymous([Tree::Leaf(PhantomData), Tree::Node(1)])?;
    Ok(())
}
