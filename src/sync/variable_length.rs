//! Mutexes around a slice, or around a head and a slice. The creator of the segment
//! chooses the length.

use std::ptr::NonNull;

use super::mutex::ShmMutex;
use super::raw_mutex;
use crate::shm_safe::{
    FieldPath, Parts, SegmentContent, ShmSafe, TypeProperties, VariableLength, Visitor, WithTail,
    sealed, size_after,
};

/// Implements `SegmentContent` for a mutex around each of these. An implementation for
/// all `VariableLength` types would overlap with that for `ShmSafe` types.
macro_rules! guarded {
    ($([$($parameters:tt)+] $data:ty),+ $(,)?) => {$(
        impl<$($parameters)+> sealed::Sealed for ShmMutex<$data> {}

        // SAFETY: the clauses of `ShmSafe`:
        // * Layout: `repr(C)` over the lock and the data, which is the last field. So
        //   both pointers have the same metadata. The fingerprint covers both.
        // * Sync objects: the lock, reported at offset 0. The data has none, or the
        //   fingerprint and the walk would not compile.
        // * No destructor: the lock has none. The elements and the head are ShmSafe.
        // * Any bytes are valid as the lock, so zeros and mixtures are valid if they
        //   are for the data.
        unsafe impl<$($parameters)+> SegmentContent for ShmMutex<$data> {
            const PARTS: Parts = {
                let () = Self::DATA_HAS_NO_LOCKS;
                Parts { kind: "ShmMutex", size: 0, align: Self::MUTEX_ALIGN, fields: &[("data", Self::DATA_AT, <$data>::DESCRIPTION)], variants: &[] }
            };
            const ALIGN: usize = Self::MUTEX_ALIGN;
            const PROPERTIES: TypeProperties = <$data>::PROPERTIES.with_interior_mutability();
            const HAS_SYNC_OBJECTS: bool = true;

            fn size(len: u64) -> Option<u64> {
                size_after(Self::DATA_AT, <$data>::size(len)?, Self::MUTEX_ALIGN)
            }

            fn at(base: NonNull<u8>, len: usize) -> NonNull<Self> {
                let data = <$data>::at(base, len).as_ptr();
                // The cast keeps the address, which is not null, and the length.
                NonNull::new(data as *mut Self)
                    .unwrap_or_else(|| unreachable!("the base is not null"))
            }

            fn len_of(value: NonNull<Self>) -> usize {
                let data = NonNull::new(value.as_ptr() as *mut $data);
                // The cast keeps the address, which is not null, and the length.
                <$data>::len_of(data.unwrap_or_else(|| unreachable!("the value is not null")))
            }

            fn visit(_len: usize, path: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
                const { Self::DATA_HAS_NO_LOCKS }
                visitor(path, &raw_mutex::MUTEX);
            }
        }

        impl<$($parameters)+> VariableLength for ShmMutex<$data> {}
    )+};
}

guarded!(
    [T: ShmSafe] [T],
    [H: ShmSafe, T: ShmSafe] WithTail<H, [T]>,
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::alloc::Layout;
    use std::sync::atomic::AtomicU8;

    type Slice<T> = ShmMutex<[T]>;
    type Table<H, T> = ShmMutex<WithTail<H, [T]>>;

    /// A value of 32 bytes at each multiple of 32.
    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(C, align(32))]
    struct Wide(u8);

    // SAFETY: as a derived one: `repr(C)`, one field, no sync objects.
    unsafe impl ShmSafe for Wide {
        const PARTS: Parts = Parts::opaque("Wide", 32, 32);
        const PROPERTIES: TypeProperties = TypeProperties::POD;
    }

    /// Memory for a content, zero at first.
    struct Memory {
        base: NonNull<u8>,
        layout: Layout,
    }

    impl Memory {
        fn of<T: SegmentContent + ?Sized>(len: usize) -> Self {
            let size = T::size(len as u64).expect("it fits in memory") as usize;
            assert_ne!(size, 0, "a mutex has a size");
            let layout = Layout::from_size_align(size, T::ALIGN).expect("it is a layout");
            // SAFETY: the size is not 0.
            let base = unsafe { std::alloc::alloc_zeroed(layout) };
            let base = NonNull::new(base).expect("there is memory");
            Self { base, layout }
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            // SAFETY: allocated by `of`, with this layout.
            unsafe { std::alloc::dealloc(self.base.as_ptr(), self.layout) };
        }
    }

    /// Makes a mutex of `len` elements as a segment does, and passes it to `check`.
    fn with_zeroed<T: SegmentContent + ?Sized>(len: usize, check: impl FnOnce(&mut T)) {
        let memory = Memory::of::<T>(len);
        let mut value = T::at(memory.base, len);
        T::visit(len, &FieldPath::root(), &mut |path, ops| {
            // SAFETY: the path of a sync object leads into the value.
            let at = unsafe { memory.base.add(path.offset()) };
            // SAFETY: the bytes are zero, aligned, writable and used by no other
            // thread.
            unsafe { (ops.init_zeroed)(at.as_ptr()) };
        });
        assert_eq!(T::len_of(value), len, "the pointer keeps the length");
        // SAFETY: zeros with an uninitialised mutex are a value of the types below, and
        // no other thread uses the memory.
        check(unsafe { value.as_mut() });
    }

    #[test]
    fn smoke() {
        with_zeroed::<Slice<u32>>(5, |mutex| {
            mutex.get_mut().copy_from_slice(&[1, 2, 3, 4, 5]);
            assert_eq!(mutex.get_mut()[4], 5);
            assert!(!mutex.is_poisoned(), "a new mutex is not poisoned");
        });
        with_zeroed::<Table<u8, u64>>(2, |mutex| {
            let WithTail { head, tail } = mutex.get_mut();
            *head = 7;
            tail.fill(9);
            assert_eq!(
                (mutex.get_mut().head, &mutex.get_mut().tail),
                (7, &[9, 9][..])
            );
        });
    }

    /// Compares the layout of a table with that of a table of fixed size. The head or
    /// the elements may have the greater alignment.
    fn check_table<H: ShmSafe, T: ShmSafe, const N: usize>() {
        with_zeroed::<Table<H, T>>(N, |mutex| {
            let sized = size_of::<ShmMutex<WithTail<H, [T; N]>>>();
            assert_eq!(size_of_val(mutex), sized);
            let start = std::ptr::from_mut(mutex).addr();
            let head = (&raw mut mutex.get_mut().head).addr();
            assert_eq!(head - start, <Table<H, T>>::DATA_AT, "offset of the data");
        });
    }

    /// The lock is first, and the data follows where the compiler places it, for each
    /// alignment.
    #[test]
    fn layout_equals_the_compilers() {
        fn check<T: ShmSafe, const N: usize>() {
            with_zeroed::<Slice<T>>(N, |mutex| {
                assert_eq!(size_of_val(mutex), size_of::<ShmMutex<[T; N]>>());
                assert_eq!(align_of_val(mutex), <Slice<T>>::ALIGN);
                let start = std::ptr::from_mut(mutex).addr();
                let data = std::ptr::from_mut(mutex.get_mut()).addr();
                assert_eq!(data - start, <Slice<T>>::DATA_AT, "offset of the data");
                assert_eq!(mutex.as_pthread_ptr().addr(), start, "offset of the lock");
            });
            check_table::<u8, T, N>();
            check_table::<u64, T, N>();
            check_table::<Wide, T, N>();
            with_zeroed::<WithTail<u8, Slice<T>>>(N, |table| {
                let sized = size_of::<WithTail<u8, ShmMutex<[T; N]>>>();
                assert_eq!(size_of_val(table), sized);
            });
            with_zeroed::<WithTail<u16, Table<u8, T>>>(N, |table| {
                let sized = size_of::<WithTail<u16, ShmMutex<WithTail<u8, [T; N]>>>>();
                assert_eq!(size_of_val(table), sized);
            });
        }
        check::<u8, 0>();
        check::<u8, 7>();
        check::<u16, 3>();
        check::<u64, 5>();
        check::<(), 4>();
        check::<Wide, 0>();
        check::<Wide, 3>();
    }

    #[test]
    fn fingerprints_are_distinct() {
        let all = [
            <Slice<u8>>::FINGERPRINT,
            <Slice<u16>>::FINGERPRINT,
            <ShmMutex<[u8; 1]> as SegmentContent>::FINGERPRINT,
            <[ShmMutex<u8>]>::FINGERPRINT,
            <Table<u8, u8>>::FINGERPRINT,
            <Table<u16, u8>>::FINGERPRINT,
            <WithTail<u8, [u8]>>::FINGERPRINT,
            <WithTail<u8, [ShmMutex<u8>]>>::FINGERPRINT,
            <WithTail<u8, Slice<u8>>>::FINGERPRINT,
            <WithTail<u8, Table<u8, u8>>>::FINGERPRINT,
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(!all[i + 1..].contains(one), "number {i}");
        }
    }

    #[test]
    fn properties_are_those_of_the_data() {
        let shared = TypeProperties::POD.with_interior_mutability();
        assert_eq!(<Slice<u8>>::PROPERTIES, shared);
        assert_eq!(<Table<u8, AtomicU8>>::PROPERTIES, shared);
        let id = shared.without_from_zeros();
        assert_eq!(<Table<std::num::NonZero<u8>, u8>>::PROPERTIES, id);
    }

    #[test]
    fn walk_finds_one_lock_for_all_elements() {
        let mut found = Vec::new();
        <WithTail<(u8, ShmMutex<u8>), Slice<u8>>>::visit(
            9,
            &FieldPath::root(),
            &mut |path, ops| {
                found.push((path.to_string(), path.offset(), ops.kind.name()));
            },
        );
        let tail_at = size_of::<(u8, ShmMutex<u8>)>();
        let head_at = std::mem::offset_of!((u8, ShmMutex<u8>), 1);
        let expected = [
            (".head.1".to_owned(), head_at, "ShmMutex"),
            (".tail".to_owned(), tail_at, "ShmMutex"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn size_above_all_memory_is_refused() {
        assert_eq!(<Slice<u64>>::size(u64::MAX / 8), None);
        assert_eq!(<Table<u64, u8>>::size(isize::MAX as u64), None);
    }

    proptest! {
        #[test]
        fn elements_keep_their_values(values in proptest::collection::vec(any::<u16>(), 0..40)) {
            with_zeroed::<WithTail<u8, Table<u8, u16>>>(values.len(), |table| {
                table.head = 0xff;
                let data = table.tail.get_mut();
                data.head = 0xfe;
                data.tail.copy_from_slice(&values);
                assert_eq!(table.tail.get_mut().tail, values);
                assert_eq!((table.head, table.tail.get_mut().head), (0xff, 0xfe));
                assert!(!table.tail.is_poisoned(), "no element overlaps with the lock");
                assert_eq!(table.tail.holder(), None, "no element overlaps with the lock");
            });
        }
    }
}
