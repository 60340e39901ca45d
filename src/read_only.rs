//! `ReadOnly`: a view of shared memory that only permits reading.

use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16,
    AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

use crate::os::mem::atomic_copy;
use crate::shm_safe::{ShmSafe, TearFree};

/// A view of a `T` that only permits reading.
///
/// It lends `&T` only for types that do not change while they are shared. So code that
/// would write (locking, storing) does not compile. [`project!`](crate::project) leads
/// to a field, [`element`](ReadOnly::element) to an element. There, the methods depend
/// on the type:
///
/// | type | method |
/// |---|---|
/// | does not change while it is shared: numbers, arrays and structs of these | [`get`](ReadOnly::get) |
/// | an atomic | [`load`](ReadOnly::load) |
/// | a [`ShmMutex`](crate::ShmMutex) | [`is_poisoned`](ReadOnly::is_poisoned), [`holder`](ReadOnly::holder), [`peek`](ReadOnly::peek) |
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use shm_sync::{Segment, ShmMutex, ShmSafe, project};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Jobs {
///     limit: u64,
///     done: AtomicU64,
///     pending: ShmMutex<u64>,
/// }
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-view-{}", std::process::id());
/// # let name = name.as_str();
/// # let done = AtomicU64::new(3);
/// # let pending = ShmMutex::new(5);
/// # let _jobs = Segment::create(name, Jobs { limit: 9, done, pending })?;
/// let jobs = Segment::<Jobs>::open_read_only(name)?;
/// let jobs = jobs.view();
/// assert_eq!(*project!(jobs => limit).get(), 9);
/// assert_eq!(project!(jobs => done).load(), 3);
/// assert_eq!(project!(jobs => pending).holder(), None);
/// assert_eq!(project!(jobs => pending).peek(), 5);
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
///
/// Locking does not compile:
///
/// ```compile_fail,E0599
/// # use shm_sync::{Segment, ShmMutex};
/// # fn main() -> Result<(), shm_sync::Error> {
/// let counter = Segment::<ShmMutex<u64>>::open_read_only("/counter")?;
/// let guard = counter.view().lock();
/// # Ok(())
/// # }
/// ```
///
/// In the cookbook: [a read-only monitor](crate::guide::cookbook#a-read-only-monitor).
pub struct ReadOnly<'a, T: ?Sized> {
    value: NonNull<T>,
    lifetime: PhantomData<&'a ()>,
}

impl<T: ?Sized> Clone for ReadOnly<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for ReadOnly<'_, T> {}

// SAFETY: it permits no more than `&T` would, and T is `Sync`.
unsafe impl<T: ?Sized + Sync> Send for ReadOnly<'_, T> {}
// SAFETY: it permits no more than `&T` would, and T is `Sync`.
unsafe impl<T: ?Sized + Sync> Sync for ReadOnly<'_, T> {}

impl<T: ?Sized> fmt::Debug for ReadOnly<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadOnly<{}>", std::any::type_name::<T>())
    }
}

impl ReadOnly<'_, ()> {
    /// Rejects `0.1`, which is one token but two fields. For
    /// [`project!`](crate::project).
    #[doc(hidden)]
    pub const fn __assert_is_one_field(field: &str) {
        let bytes = field.as_bytes();
        let mut index = 0;
        while index < bytes.len() {
            assert!(bytes[index] != b'.', "one field at a time");
            index += 1;
        }
    }
}

impl<'a, T: ?Sized> ReadOnly<'a, T> {
    /// Makes a view of `value`.
    ///
    /// # Safety
    ///
    /// * `value` leads to a valid `T` that is readable for `'a`.
    /// * Other threads and processes write to it only where `&T` permits it.
    pub(crate) unsafe fn new(value: NonNull<T>) -> Self {
        Self {
            value,
            lifetime: PhantomData,
        }
    }

    /// Returns a reference, for code of this crate that only loads.
    ///
    /// # Safety
    ///
    /// * The caller writes nothing through it.
    /// * The caller loads atomics only as read-only memory permits: `Relaxed`, and at
    ///   most eight bytes.
    pub(crate) unsafe fn as_shared(self) -> &'a T {
        // SAFETY:
        // * Valid and readable for 'a: the first clause of `new`.
        // * Written only where `&T` permits it: the second clause of `new`, and the
        //   first of this function.
        unsafe { self.value.as_ref() }
    }

    /// Compiles only for types without `Deref`. For [`project!`](crate::project).
    #[doc(hidden)]
    pub fn __has_fields_of_its_own<Which>(self)
    where
        T: AmbiguousIfDeref<Which>,
    {
    }

    /// Returns the view of a field. For [`project!`](crate::project).
    ///
    /// # Safety
    ///
    /// * `to_field` returns the address of a field of the value that it gets.
    #[doc(hidden)]
    pub unsafe fn __project<U: ?Sized>(
        self,
        to_field: impl FnOnce(*const T) -> *const U,
    ) -> ReadOnly<'a, U> {
        let field = to_field(self.value.as_ptr()).cast_mut();
        // SAFETY: the address of a field of a value is not null.
        let field = unsafe { NonNull::new_unchecked(field) };
        // SAFETY: the field is part of the value, for which both clauses of `new` hold.
        unsafe { ReadOnly::new(field) }
    }
}

impl<'a, T: ShmSafe> ReadOnly<'a, T> {
    /// Returns the value. It does not compile for types that can change while they are
    /// shared.
    #[must_use]
    pub fn get(self) -> &'a T {
        const {
            assert!(
                T::PROPERTIES.immutable(),
                "this type can change while it is shared: go on to its fields with `project!`, \
                 `load` its atomics, `peek` at what its locks guard"
            );
        }
        // SAFETY: the type has no interior mutability and no atomics, as asserted
        // above, so the caller can neither write through the reference nor load
        // atomics.
        unsafe { self.as_shared() }
    }

    /// Returns a copy of a value that other threads may change at this moment.
    ///
    /// Its parts may be of different times. Each number, boolean and character in it
    /// was stored at some time.
    pub(crate) fn copy_unsynchronised(self) -> T
    where
        T: TearFree,
    {
        let mut copy = MaybeUninit::<T>::uninit();
        let from = self.value.as_ptr().cast();
        // SAFETY: the source is readable for the size of T (the first clause of `new`).
        // The target is a local variable of the same size, so they do not overlap.
        unsafe { atomic_copy::copy_relaxed(from, copy.as_mut_ptr().cast(), size_of::<T>()) };
        // SAFETY: `copy_relaxed` copies aligned words, and a mixture of values of T by
        // words is a valid T, because T is `TearFree`.
        unsafe { copy.assume_init() }
    }
}

impl<'a, T, const N: usize> ReadOnly<'a, [T; N]> {
    /// Returns the view of the array as a slice.
    #[must_use]
    pub fn as_slice(self) -> ReadOnly<'a, [T]> {
        ReadOnly {
            value: NonNull::slice_from_raw_parts(self.value.cast(), N),
            lifetime: PhantomData,
        }
    }
}

/// ```
/// use std::sync::atomic::AtomicU64;
/// use shm_sync::{ReadOnly, Segment};
///
/// fn sum(counters: ReadOnly<'_, [AtomicU64]>) -> u64 {
///     counters.iter().map(|counter| counter.load()).sum()
/// }
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-view-slice-{}", std::process::id());
/// # let name = name.as_str();
/// # let _counters = Segment::create(name, [7, 8, 9].map(AtomicU64::new))?;
/// let counters = Segment::<[AtomicU64; 3]>::open_read_only(name)?;
/// let counters = counters.view().as_slice();
/// assert_eq!(counters.len(), 3);
/// assert_eq!(counters.element(1).map(ReadOnly::<AtomicU64>::load), Some(8));
/// assert!(counters.element(3).is_none());
/// assert_eq!(sum(counters), 24);
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
impl<'a, T> ReadOnly<'a, [T]> {
    /// Returns the number of elements.
    #[must_use]
    pub fn len(self) -> usize {
        self.value.len()
    }

    /// Returns whether there are no elements.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns the view of an element, or `None` if `index` is not below the length.
    #[must_use]
    pub fn element(self, index: usize) -> Option<ReadOnly<'a, T>> {
        if index >= self.len() {
            return None;
        }
        // SAFETY: the index is below the length of the slice, as just checked.
        let element = unsafe { self.value.cast::<T>().add(index) };
        // SAFETY: the element is part of the slice, for which both clauses of `new`
        // hold.
        Some(unsafe { ReadOnly::new(element) })
    }

    /// Returns the views of all elements.
    pub fn iter(self) -> impl ExactSizeIterator<Item = ReadOnly<'a, T>> {
        (0..self.len()).map(move |index| match self.element(index) {
            Some(element) => element,
            None => unreachable!("the index is below the length"),
        })
    }
}

macro_rules! atomics {
    ($($atomic:ty => $plain:ty),+ $(,)?) => {$(
        impl ReadOnly<'_, $atomic> {
            /// Loads the value.
            ///
            /// # Memory ordering
            ///
            /// `Acquire`: after this, the thread sees all writes before the `Release`
            /// store of the value.
            #[must_use]
            pub fn load(self) -> $plain {
                // SAFETY: a `Relaxed` load of at most eight bytes, and no write.
                let value = unsafe { self.as_shared() }.load(Ordering::Relaxed);
                fence(Ordering::Acquire);
                value
            }
        }
    )+};
}

atomics!(
    AtomicBool => bool,
    AtomicU8 => u8,
    AtomicU16 => u16,
    AtomicU32 => u32,
    AtomicU64 => u64,
    AtomicUsize => usize,
    AtomicI8 => i8,
    AtomicI16 => i16,
    AtomicI32 => i32,
    AtomicI64 => i64,
    AtomicIsize => isize,
);

/// Returns the [`ReadOnly`] view of a field of a struct, from the view of the struct:
/// `project!(view => field)`, or `project!(view => field.inner)`. The field must be
/// visible to the caller. A field of a tuple is named by its number: `project!(view =>
/// 0)`.
///
/// It does not compile for fields of a type that implements `Deref`, because `deref` is
/// code that may write, or lead to other memory.
///
/// ```compile_fail,E0283
/// # use shm_sync::{ReadOnly, ShmSafe, project};
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Wrapper {
///     inner: u64,
/// }
///
/// impl std::ops::Deref for Wrapper {
///     type Target = u64;
///     fn deref(&self) -> &u64 {
///         &self.inner
///     }
/// }
///
/// fn look(wrapper: ReadOnly<'_, Wrapper>) -> u64 {
///     *project!(wrapper => inner).get()
/// }
/// ```
#[macro_export]
macro_rules! project {
    ($view:expr => $field:ident) => { $crate::__project_one!($view, $field) };
    ($view:expr => 0) => { $crate::__project_one!($view, 0) };
    ($view:expr => 1) => { $crate::__project_one!($view, 1) };
    ($view:expr => 2) => { $crate::__project_one!($view, 2) };
    ($view:expr => 3) => { $crate::__project_one!($view, 3) };
    ($view:expr => 4) => { $crate::__project_one!($view, 4) };
    ($view:expr => 5) => { $crate::__project_one!($view, 5) };
    ($view:expr => 6) => { $crate::__project_one!($view, 6) };
    ($view:expr => 7) => { $crate::__project_one!($view, 7) };
    ($view:expr => 8) => { $crate::__project_one!($view, 8) };
    ($view:expr => 9) => { $crate::__project_one!($view, 9) };
    ($view:expr => 10) => { $crate::__project_one!($view, 10) };
    ($view:expr => 11) => { $crate::__project_one!($view, 11) };
    ($view:expr => $field:ident . $($rest:tt).+) => {
        $crate::project!($crate::project!($view => $field) => $($rest).+)
    };
}

/// One step of [`project!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __project_one {
    ($view:expr, $field:tt) => {{
        let view: $crate::ReadOnly<'_, _> = $view;
        const { $crate::ReadOnly::<()>::__assert_is_one_field(stringify!($field)) };
        $crate::ReadOnly::__has_fields_of_its_own(view);
        // SAFETY: the closure returns the address of a field of its argument, because a
        // type without `Deref` has only its own fields.
        unsafe { $crate::ReadOnly::__project(view, |value| &raw const (*value).$field) }
    }};
}

/// Makes `project!` ambiguous for types with `Deref`: they implement it for two types
/// `Which`, all other types for one.
#[doc(hidden)]
pub trait AmbiguousIfDeref<Which> {}

/// The second `Which`, for types with `Deref`.
#[doc(hidden)]
#[derive(Debug)]
pub enum IsDeref {}

impl<T: ?Sized> AmbiguousIfDeref<()> for T {}
impl<T: ?Sized + Deref> AmbiguousIfDeref<IsDeref> for T {}
