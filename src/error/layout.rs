//! What a segment holds, as two builds may disagree on it.

use std::fmt;

use crate::printable::printable;

/// What a segment holds, and how: enough to tell two builds apart.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The type, for people: paths differ between programs that agree. It may hold
    /// any character; the display of a layout escapes those that steer a terminal.
    pub type_name: String,
    /// The structural hash of the type.
    pub fingerprint: crate::Fingerprint,
    /// The size of the value in bytes.
    pub size: u64,
    /// The alignment of the value in bytes.
    pub align: u64,
    /// The platform.
    pub abi: Abi,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({} bytes, aligned to {}, fingerprint {}, {})",
            printable(&self.type_name),
            self.size,
            self.align,
            self.fingerprint,
            self.abi
        )
    }
}

/// What the platform contributes to the layout of shared memory.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abi {
    /// The C library: 1 is glibc.
    pub libc: u8,
    /// 1 is little-endian, 2 is big-endian.
    pub endianness: u8,
    /// In bytes.
    pub pointer_width: u8,
    /// The size of a `pthread_mutex_t` in bytes.
    pub pthread_mutex: u8,
    /// The size of a `pthread_cond_t` in bytes.
    pub pthread_cond: u8,
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let libc = match self.libc {
            1 => "glibc",
            _ => "an unknown libc",
        };
        let endianness = match self.endianness {
            1 => "little-endian",
            2 => "big-endian",
            _ => "unknown-endian",
        };
        write!(
            f,
            "{libc}, {}-bit {endianness}, pthread_mutex_t of {} and pthread_cond_t of {} bytes",
            u32::from(self.pointer_width) * 8,
            self.pthread_mutex,
            self.pthread_cond
        )
    }
}
