//! Names that are keywords.

#![allow(non_camel_case_types)]

use shm_sync::{Segment, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(C)]
struct r#struct {
    r#type: u8,
    r#fn: ShmMutex<u32>,
}

#[derive(ShmSafe)]
#[repr(u8)]
enum r#enum {
    r#loop,
    r#match { r#if: u8 },
}

#[derive(ShmSafe)]
#[repr(C)]
struct Generic<r#impl> {
    r#for: r#impl,
}

fn main() -> Result<(), shm_sync::Error> {
    let value = Segment::anonymous(r#struct {
        r#type: 1,
        r#fn: ShmMutex::new(2),
    })?;
    assert_eq!(*value.r#fn.lock()?, 2);
    let _enums = Segment::anonymous([r#enum::r#loop, r#enum::r#match { r#if: 1 }])?;
    let _generic = Segment::anonymous(Generic { r#for: r#enum::r#loop })?;
    Ok(())
}
