//! Where each field of a header lies.
//!
//! All numbers are little-endian, except those in [`SYSV_STATE`]. A program of any
//! platform can therefore read which platform the segment is for, and name the
//! difference. Bytes that no field covers are zero.

/// The length of a header in bytes.
pub(in crate::segment) const LEN: usize = 448;

/// A field of `N` bytes in a header.
#[derive(Clone, Copy, Debug)]
pub(in crate::segment) struct Field<const N: usize> {
    offset: usize,
}

impl<const N: usize> Field<N> {
    /// Returns the offset in bytes from the start of the header.
    pub(in crate::segment) const fn offset(self) -> usize {
        self.offset
    }

    /// Returns the offset of the first byte after the field.
    pub(in crate::segment) const fn end(self) -> usize {
        self.offset + N
    }

    /// Returns the length in bytes.
    pub(in crate::segment) const fn len(self) -> usize {
        N
    }

    /// Returns the bytes of the field in a header.
    pub(in crate::segment) fn read(self, header: &[u8; LEN]) -> [u8; N] {
        std::array::from_fn(|i| header[self.offset + i])
    }

    /// Replaces the bytes of the field in a header.
    pub(in crate::segment) fn write(self, header: &mut [u8; LEN], bytes: [u8; N]) {
        header[self.offset..self.end()].copy_from_slice(&bytes);
    }
}

/// Defines the fields. Fails to compile if two of them overlap or one leaves the
/// header.
macro_rules! fields {
    ($($start:literal..$end:literal $name:ident: $content:literal)+) => {
        $(
            #[doc = $content]
            pub(in crate::segment) const $name: Field<{ $end - $start }> =
                Field { offset: $start };
        )+
        const _: () = {
            let mut end = 0;
            $(
                assert!(end <= $start && $start < $end, stringify!($name));
                end = $end;
            )+
            assert!(end <= LEN);
        };
        /// The name, the offset and the length of each field.
        #[cfg(test)]
        const ALL: [(&str, usize, usize); [$($start),+].len()] =
            [$((stringify!($name), $start, $end - $start)),+];
    };
}

fields! {
    0..8     MAGIC: "`shmsync\\0`."
    8..12    FORMAT: "The version of the format."
    12..13   LIBC: "The libc (1: glibc, 2: musl)."
    13..14   ENDIANNESS: "The endianness (1: little, 2: big)."
    14..15   POINTER_WIDTH: "The width of a pointer in bytes."
    15..16   PTHREAD_MUTEX: "The size of a `pthread_mutex_t` in bytes."
    16..17   PTHREAD_COND: "The size of a `pthread_cond_t` in bytes."
    17..18   REMOVAL: "What the last detach does (0: nothing, 1: it removes the name)."
    20..24   PID_NAMESPACE: "The inode number of `/proc/self/ns/pid` of the processes that lock here."
    24..32   TOTAL_LEN: "The length of the object in bytes."
    32..40   VALUE_OFFSET: "The offset of the value in bytes."
    40..48   VALUE_SIZE: "The size of the value in bytes."
    48..56   VALUE_ALIGN: "The alignment of the value in bytes."
    56..72   FINGERPRINT: "The fingerprint of the type."
    72..80   ELEMENTS: "The number of elements, if the creator chose it."
    80..88   CREATED: "When it was created, in seconds since 1970. Only shown."
    88..92   LOCK_TABLE_LEN: "The length in bytes of the lock table, which follows the header."
    92..96   CREATOR: "The process id of the creator. Only shown."
    96..100  TYPE_NAME_LEN: "The length of the type's name in bytes."
    100..104 TYPE_TABLE_LEN: "The length in bytes of the type table, after the lock table; 0: there is none."
    104..144 EPOCH: "The `Epoch` for which the locks are valid."
    192..256 SYSV_STATE: "The `SysvState` of a System V segment. Zero elsewhere."
    256..448 TYPE_NAME: "The name of the type, UTF-8. Only shown."
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn numbers_are_documented() {
        documented::rows("header", &ALL, &[], Some((LEN, 1)));
    }
}
