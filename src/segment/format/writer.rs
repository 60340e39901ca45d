//! Writes a new segment: header, lock table, type table and value, and initialises its
//! locks last.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use crate::error::Error;
use crate::init;
use crate::os::mem::Mapping;
use crate::robust;
use crate::segment::format::epoch::Epoch;
use crate::segment::format::header::{self, Header, assert_mappable};
use crate::segment::format::{lock_table, offsets, type_table};
use crate::segment::policy::Removal;
use crate::shm_safe::{SegmentContent, ShmSafe, Visitor};

/// The header, the tables and the length of a segment that has no memory yet.
#[derive(Debug)]
pub(in crate::segment) struct SegmentLayout {
    header: Header,
    lock_table: Vec<u8>,
    type_table: Vec<u8>,
    len: usize,
    total_len: NonZeroUsize,
}

impl SegmentLayout {
    /// Plans a segment for a `T` with `len` elements, in an object whose length must be
    /// a multiple of `granularity` bytes.
    ///
    /// # Errors
    ///
    /// * [`Error::Unidentified`]: this process can't own locks.
    /// * [`Error::NoSpace`]: the length exceeds every memory.
    pub(in crate::segment) fn of<T: SegmentContent + ?Sized>(
        len: usize,
        granularity: NonZeroUsize,
        removal: Removal,
    ) -> Result<Self, Error> {
        const { assert_mappable::<T>() };
        let lock_table = lock_table::of::<T>(len);
        let type_table = type_table::of(T::DESCRIPTION);
        let header = Header::of::<T>(
            len as u64,
            lock_table.len(),
            type_table.len(),
            granularity.get() as u64,
            init::init_context()?.pid_namespace,
            Epoch::ANONYMOUS,
            removal,
        );
        let header = header.filter(|header| header.total_len <= isize::MAX as u64);
        let header = header.ok_or(Error::NoSpace {
            address: None,
            bytes: usize::MAX,
        })?;
        let total_len = usize::try_from(header.total_len)
            .ok()
            .and_then(NonZeroUsize::new)
            .ok_or(Error::NoSpace {
                address: None,
                bytes: usize::MAX,
            })?;
        Ok(Self {
            header,
            lock_table,
            type_table,
            len,
            total_len,
        })
    }

    /// Returns the length of the whole object in bytes.
    pub(in crate::segment) fn total_len(&self) -> NonZeroUsize {
        self.total_len
    }

    /// Sets the epoch of the file that the segment will be in.
    pub(in crate::segment) fn set_epoch(&mut self, epoch: Epoch) {
        self.header.epoch = epoch;
    }

    pub(in crate::segment) fn header_bytes(&self) -> [u8; header::LEN] {
        self.header.to_bytes()
    }

    /// Writes the header to the start of the object, except the `SysvState` of a System
    /// V segment, which other processes may already read.
    ///
    /// # Safety
    ///
    /// * `mapping` is writable and `total_len` bytes long.
    /// * No other thread or process accesses the bytes that this writes during the
    ///   call.
    pub(in crate::segment) unsafe fn write_header(&self, mapping: &Mapping) {
        debug_assert!(mapping.len() >= header::LEN);
        let bytes = self.header_bytes();
        let before = 0..offsets::SYSV_STATE.offset();
        let after = offsets::SYSV_STATE.end()..header::LEN;
        for part in [before, after] {
            let source = &bytes[part.clone()];
            // SAFETY: the offset is inside the mapping, which contains a header.
            let target = unsafe { mapping.base().as_ptr().add(part.start) };
            // SAFETY:
            // * `target` is writable for the length of this part, and not accessed
            //   elsewhere: the clauses of this function.
            // * `source` is a local variable, so the two do not overlap.
            unsafe { target.copy_from_nonoverlapping(source.as_ptr(), source.len()) };
        }
    }

    /// Writes lock table, type table and value, and initialises the locks. Returns the
    /// value.
    ///
    /// # Errors
    ///
    /// * [`Error::ForkedWhileCreating`]: `write` forked, and this is the child.
    /// * [`Error::Unidentified`]: this process can't own locks.
    /// * [`Error::Os`]: pthread fails to initialise a lock.
    ///
    /// # Safety
    ///
    /// * `mapping` is writable, `total_len` bytes long, and zero behind the header.
    /// * No other thread or process accesses it during the call.
    /// * It stays for as long as any thread of this process uses the value or holds one
    ///   of its locks.
    /// * `write` comes from [`by_value`] or [`in_place`].
    pub(in crate::segment) unsafe fn fill<T: SegmentContent + ?Sized>(
        &self,
        mapping: &Mapping,
        write: impl FnOnce(NonNull<T>, usize),
    ) -> Result<NonNull<T>, Error> {
        let tables = [
            (&self.lock_table, header::LEN),
            (&self.type_table, self.header.type_table_offset() as usize),
        ];
        for (source, offset) in tables {
            // SAFETY: the offset is inside the mapping, or at the start of the value:
            // the header places both tables before the value.
            let target = unsafe { mapping.base().add(offset).as_ptr() };
            // SAFETY:
            // * `target` is writable for the length of the table, and not accessed
            //   elsewhere: the first two clauses of this function.
            // * `source` is in a `Vec`, so the two do not overlap.
            unsafe { target.copy_from_nonoverlapping(source.as_ptr(), source.len()) };
        }

        // SAFETY: `mapping` has the `total_len` that is computed from this header.
        let base = unsafe { value_in(mapping, &self.header) };
        let value = T::at(base, self.len);
        let marker = robust::current_marker()?;
        write(value, self.len);
        // The child of a fork in `write` must not go on. Otherwise both processes would
        // initialise the locks and publish the object.
        if !marker.is_current() {
            return Err(Error::ForkedWhileCreating { address: None });
        }
        let locks = |visitor: &mut Visitor<'_>| T::for_each_sync_object(value, visitor);
        // SAFETY:
        // * `locks` visits the sync objects of the value at `base`, which is writable.
        // * `write` left them uninitialised, and no other thread or process uses them.
        // * They and the mapping stay: the third clause of this function.
        unsafe { init::init_all(base, init::init_context()?, locks) }?;
        Ok(value)
    }
}

/// Returns the first byte of the value.
///
/// # Safety
///
/// * `header` was parsed from the object, or made for it.
/// * `mapping` is all of the object.
pub(in crate::segment) unsafe fn value_in(mapping: &Mapping, header: &Header) -> NonNull<u8> {
    // SAFETY: a parsed or new header places the value inside the object (the first
    // clause), and all of the object is mapped (the second).
    unsafe { mapping.base().add(header.value_offset as usize) }
}

/// Returns a function for [`SegmentLayout::fill`] that writes `value`.
pub(in crate::segment) fn by_value<T: ShmSafe>(value: T) -> impl FnOnce(NonNull<T>, usize) {
    move |target, _| {
        // SAFETY: `SegmentLayout::fill` passes an aligned pointer to writable memory
        // for a T, which no other thread or process accesses.
        unsafe { target.write(value) };
    }
}

/// Proof that all-zero bytes, with uninitialised sync objects, are a valid `T`.
pub(in crate::segment) struct ValidAsZeros<T: ?Sized>(PhantomData<*const T>);

impl<T: SegmentContent + ?Sized> ValidAsZeros<T> {
    /// Fails to compile in `const { ValidAsZeros::<T>::check() }` if zeros could be
    /// invalid.
    ///
    /// That expression belongs into the public function, because the compiler reports
    /// the call of the function that contains it.
    pub(in crate::segment) const fn check() -> Self {
        assert!(
            T::PROPERTIES.from_zeros(),
            "to be made in place, a type must be valid when all its bytes are zero: \
             `NonZero` numbers and enums without a variant 0 are not"
        );
        Self(PhantomData)
    }
}

/// Returns a function for [`SegmentLayout::fill`] that makes a value of zero bytes in
/// its final place, and lets `init` change it there.
pub(in crate::segment) fn in_place<T: SegmentContent + ?Sized>(
    _: ValidAsZeros<T>,
    init: impl FnOnce(&mut T),
) -> impl FnOnce(NonNull<T>, usize) {
    |mut value, _| {
        let locks = |visitor: &mut Visitor<'_>| T::for_each_sync_object(value, visitor);
        // SAFETY: `SegmentLayout::fill` passes writable zero bytes for a T, which no
        // other thread or process accesses, and `locks` visits the sync objects of that
        // T.
        unsafe { init::init_all_zeroed(value.cast(), locks) };
        // SAFETY: zero bytes with uninitialised sync objects are a valid T, as the
        // `ValidAsZeros` proves. No other thread or process accesses them.
        init(unsafe { value.as_mut() });
    }
}
