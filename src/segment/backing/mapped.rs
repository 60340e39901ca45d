//! `Mapped`: a value in shared memory, and the attachment that keeps it mapped.

use std::ptr::NonNull;

/// An initialised `T` in a mapping that an attachment of type `A` owns.
///
/// Holding one proves that `value` points to an initialised `T` for as long as
/// `attachment` exists.
#[derive(Debug)]
pub(in crate::segment) struct Mapped<T: ?Sized, A> {
    value: NonNull<T>,
    attachment: A,
}

impl<T: ?Sized, A> Mapped<T, A> {
    /// Couples a value with its attachment.
    ///
    /// # Safety
    ///
    /// * `value` points to an initialised `T`, whose locks are initialised as well.
    /// * The memory of the value stays mapped for as long as `attachment` exists, also
    ///   when `attachment` is moved.
    pub(in crate::segment) unsafe fn new(value: NonNull<T>, attachment: A) -> Self {
        Self { value, attachment }
    }

    /// Turns the attachment into the type that covers every backing.
    ///
    /// The conversion must keep the mapping: the proof of `Mapped` depends on it. Each
    /// `From` of `Attachment` only moves the attachment into a variant.
    pub(in crate::segment) fn into_any<B: From<A>>(self) -> Mapped<T, B> {
        Mapped {
            value: self.value,
            attachment: B::from(self.attachment),
        }
    }

    pub(in crate::segment) fn attachment(&self) -> &A {
        &self.attachment
    }

    /// Returns the value and its attachment. The value is valid while the attachment
    /// exists.
    pub(in crate::segment) fn into_parts(self) -> (NonNull<T>, A) {
        (self.value, self.attachment)
    }
}
