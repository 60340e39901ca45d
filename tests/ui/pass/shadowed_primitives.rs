//! In the derived code, the names of primitive types mean the primitive types.

#![allow(non_camel_case_types, non_upper_case_globals, dead_code)]

use shm_sync::ShmSafe;

mod plain {
    #[derive(shm_sync::ShmSafe)]
    #[repr(u16)]
    pub enum Enum {
        A,
        B = 7,
        C(f32),
    }
}

mod shadowed {
    type u16 = ::core::primitive::u64;
    pub struct i128;
    pub struct usize;
    pub struct u64;

    // A variable in the derived code that is not hygienic would be a pattern for one of
    // these constants.
    const at: u8 = 1;
    const path: u8 = 1;
    const visitor: u8 = 1;
    const number: u8 = 1;
    const report: u8 = 1;
    const hash: u8 = 1;
    const nature: u8 = 1;
    const discriminant: u8 = 1;
    const this: u8 = 1;
    const field_0: u8 = 1;

    #[derive(shm_sync::ShmSafe)]
    #[repr(u16)]
    pub enum Enum {
        A,
        B = 7,
        C(f32),
    }

    #[derive(shm_sync::ShmSafe)]
    #[repr(C)]
    pub struct Struct {
        inside: Enum,
    }
}

fn main() {
    assert_eq!(shadowed::Enum::FINGERPRINT, plain::Enum::FINGERPRINT);
    assert_eq!(shadowed::Enum::PROPERTIES, plain::Enum::PROPERTIES);
    assert_eq!(size_of::<shadowed::Struct>(), 8);
}
