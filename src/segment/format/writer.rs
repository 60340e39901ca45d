//! Filling new memory: header, directory, value, and last the locks.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use crate::error::Error;
use crate::init;
use crate::os::mem::Mapping;
use crate::robust;
use crate::segment::content::{SegmentContent, assert_mappable};
use crate::segment::format::epoch::Epoch;
use crate::segment::format::header::{self, Header};
use crate::segment::format::lock_table;
use crate::segment::policy::Removal;
use crate::shm_safe::{FieldPath, ShmSafe, Visitor};

/// Everything about a segment that is known before there is memory for it.
#[derive(Debug)]
pub(in crate::segment) struct SegmentLayout {
    header: Header,
    directory: Vec<u8>,
    len: usize,
    total_len: NonZeroUsize,
}

impl SegmentLayout {
    /// A segment for a `T` with `len` elements, in an object whose length must be
    /// a multiple of `granularity` bytes.
    pub(in crate::segment) fn of<T: SegmentContent + ?Sized>(
        len: usize,
        granularity: NonZeroUsize,
        removal: Removal,
    ) -> Result<Self, Error> {
        const { assert_mappable::<T>() };
        let directory = lock_table::of::<T>(len);
        let header = Header::of::<T>(
            len as u64,
            directory.len(),
            granularity.get() as u64,
            init::init_context()?.pid_namespace,
            Epoch::NAMELESS,
            removal,
        );
        let header = header.filter(|header| header.total_len <= isize::MAX as u64);
        let too_large = Error::NoSpace { bytes: usize::MAX };
        let header = header.ok_or(too_large)?;
        let total_len = usize::try_from(header.total_len)
            .ok()
            .and_then(NonZeroUsize::new)
            .ok_or(Error::NoSpace { bytes: usize::MAX })?;
        Ok(Self {
            header,
            directory,
            len,
            total_len,
        })
    }

    /// The length of the whole object in bytes.
    pub(in crate::segment) fn total_len(&self) -> NonZeroUsize {
        self.total_len
    }

    /// Says in which file the segment will be.
    pub(in crate::segment) fn set_origin(&mut self, origin: Epoch) {
        self.header.origin = origin;
    }

    pub(in crate::segment) fn header_bytes(&self) -> [u8; header::LEN] {
        self.header.to_bytes()
    }

    /// Writes the header to where the object begins.
    ///
    /// # Safety
    ///
    /// `mapping` is writable, `total_len` bytes long, and nobody else writes its
    /// first bytes while this call runs.
    pub(in crate::segment) unsafe fn write_header(&self, mapping: &Mapping) {
        debug_assert!(mapping.len() >= header::LEN);
        let bytes = self.header_bytes();
        let base = mapping.base().as_ptr();
        // What comes before and after the part that is live elsewhere.
        for part in [0..header::BIRTH_AT, header::BIRTH_END..header::LEN] {
            let source = &bytes[part.clone()];
            // SAFETY: the header is inside the mapping.
            let to = unsafe { base.add(part.start) };
            // SAFETY: as above, for all of this part; the source is an array of
            // this function.
            unsafe { to.copy_from_nonoverlapping(source.as_ptr(), source.len()) };
        }
    }

    /// Writes directory and value, and brings the locks to life. Returns the
    /// value.
    ///
    /// # Safety
    ///
    /// * `mapping` is writable, `total_len` bytes long and zero behind the header,
    ///   and nobody else uses it while this call runs.
    /// * It stays for as long as the value is used, or a lock in it held.
    /// * `write` is as [`by_value`] and [`in_place`] say.
    pub(in crate::segment) unsafe fn fill<T: SegmentContent + ?Sized>(
        &self,
        mapping: &Mapping,
        write: impl FnOnce(NonNull<T>, usize),
    ) -> Result<NonNull<T>, Error> {
        let source = self.directory.as_slice();
        // SAFETY: the directory follows the header, inside the mapping.
        let to = unsafe { mapping.base().add(header::LEN) };
        // SAFETY: as above, for all of it; the source is elsewhere.
        unsafe {
            to.as_ptr()
                .copy_from_nonoverlapping(source.as_ptr(), source.len())
        };

        // SAFETY: the header was made for this mapping.
        let base = unsafe { value_in(mapping, &self.header) };
        let value = T::at(base, self.len);
        let mark = robust::current_marker()?;
        write(value, self.len);
        // `write` may have forked. The child must not go on: both would make the
        // locks, and publish.
        if !mark.is_current() {
            return Err(Error::ForkedWhileCreating);
        }
        let walk = |report: &mut Visitor<'_>| T::visit(self.len, &FieldPath::root(), report);
        // SAFETY: `write` left an inert T there, which nobody else uses yet and
        // which stays where it is.
        unsafe { init::init_all(base, init::init_context()?, walk) }?;
        Ok(value)
    }
}

/// Where the value begins.
///
/// # Safety
///
/// `header` is of the object that is mapped, all of it.
pub(in crate::segment) unsafe fn value_in(mapping: &Mapping, header: &Header) -> NonNull<u8> {
    // SAFETY: a header is parsed, or made, only with its value inside the object.
    unsafe { mapping.base().add(header.value_offset as usize) }
}

/// Writes a value that is at hand.
pub(in crate::segment) fn by_value<T: ShmSafe>(value: T) -> impl FnOnce(NonNull<T>, usize) {
    move |to, _| {
        // SAFETY: `SegmentLayout::fill` gives the place for a T, aligned, inside a mapping
        // that nobody else uses.
        unsafe { to.write(value) };
    }
}

/// Makes a value of zero bytes where it stays, and lets `init` change it there.
pub(in crate::segment) fn in_place<T: SegmentContent + ?Sized>(
    init: impl FnOnce(&mut T),
) -> impl FnOnce(NonNull<T>, usize) {
    const {
        assert!(
            T::PROPERTIES.from_zeros(),
            "to be made in place, a type must be valid when all its bytes are zero: \
             `NonZero` numbers and enums without a variant 0 are not"
        );
    }
    |mut to, len| {
        let walk = |report: &mut Visitor<'_>| T::visit(len, &FieldPath::root(), report);
        // SAFETY: `SegmentLayout::fill` gives zero bytes, inside a mapping that nobody else
        // uses.
        unsafe { init::init_all_zeroed(to.cast(), walk) };
        // SAFETY: zero is a value of T, as checked above, and its sync objects are
        // inert; nobody else uses it yet.
        init(unsafe { to.as_mut() });
    }
}
