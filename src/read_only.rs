//! `ReadOnly`: looking at shared memory that can't be written to.

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
use crate::shm_safe::ShmSafe;

/// A `T` that may be looked at and nothing else: what leads to it is not `&T`, so
/// what would write (locking, storing) does not compile.
///
/// [`project!`](crate::project) goes to a field, [`element`](ReadOnly::element) to
/// an element. At the end of the way:
///
/// | at | there is |
/// |---|---|
/// | what never changes while it is shared: numbers, arrays and structs of such | [`get`](ReadOnly::get) |
/// | an atomic | `load` |
/// | a [`ShmMutex`](crate::ShmMutex) | `is_poisoned`, `holder`, `peek` |
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
/// # let _jobs = Segment::create(name, Jobs { limit: 9, done: AtomicU64::new(3), pending: ShmMutex::new(5) })?;
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
/// let counter = Segment::<ShmMutex<u64>>::open_read_only("/counter").unwrap();
/// let guard = counter.view().lock();
/// ```
pub struct ReadOnly<'a, T: ?Sized> {
    value: NonNull<T>,
    lives: PhantomData<&'a ()>,
}

impl<T: ?Sized> Clone for ReadOnly<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for ReadOnly<'_, T> {}

// SAFETY: it gives no more than a shared reference would.
unsafe impl<T: ?Sized + Sync> Send for ReadOnly<'_, T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for ReadOnly<'_, T> {}

impl<T: ?Sized> fmt::Debug for ReadOnly<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadOnly<{}>", std::any::type_name::<T>())
    }
}

impl ReadOnly<'_, ()> {
    /// For [`project!`](crate::project): `0.1` is one token, but two fields.
    #[doc(hidden)]
    pub const fn __assert_is_one_field(field: &str) {
        let bytes = field.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at] != b'.', "one field at a time");
            at += 1;
        }
    }
}

impl<'a, T: ?Sized> ReadOnly<'a, T> {
    /// # Safety
    ///
    /// A `T` lies there, readable for `'a`, and whoever writes to it meanwhile
    /// does so only where `&T` would permit it.
    pub(crate) unsafe fn new(value: NonNull<T>) -> Self {
        Self {
            value,
            lives: PhantomData,
        }
    }

    /// A reference for those who only load from it.
    ///
    /// # Safety
    ///
    /// The caller writes nothing through it, and loads from its atomics only as
    /// read-only memory permits: `Relaxed`, at most eight bytes.
    pub(crate) unsafe fn as_shared(self) -> &'a T {
        // SAFETY: see `new`.
        unsafe { self.value.as_ref() }
    }

    /// For [`project!`](crate::project): compiles only for types without `Deref`.
    #[doc(hidden)]
    pub fn __has_fields_of_its_own<Which>(self)
    where
        T: AmbiguousIfDeref<Which>,
    {
    }

    /// For [`project!`](crate::project).
    ///
    /// # Safety
    ///
    /// `way` leads from a valid pointer to a field of what it points to.
    #[doc(hidden)]
    pub unsafe fn __project<U: ?Sized>(
        self,
        way: impl FnOnce(*const T) -> *const U,
    ) -> ReadOnly<'a, U> {
        let field = way(self.value.as_ptr()).cast_mut();
        // SAFETY: a field is not at null.
        let field = unsafe { NonNull::new_unchecked(field) };
        // SAFETY: a part of what `new` was promised.
        unsafe { ReadOnly::new(field) }
    }
}

impl<'a, T: ShmSafe> ReadOnly<'a, T> {
    /// The value, if values of this type never change while they are shared. For
    /// others it does not compile.
    #[must_use]
    pub fn get(self) -> &'a T {
        const {
            assert!(
                T::PROPERTIES.immutable(),
                "this type can change while it is shared: go on to its fields with `project!`, \
                 `load` its atomics, `peek` at what its locks guard"
            );
        }
        // SAFETY: nothing in it can be written through a shared reference.
        unsafe { self.as_shared() }
    }

    /// A copy of a value that others may be changing at this moment.
    ///
    /// Its parts may be of different times: each number, boolean and character in
    /// it is one that was there. For types whose parts must agree to be a value at
    /// all (enums with fields) it does not compile.
    pub(crate) fn copy_unsynchronised(self) -> T {
        const {
            assert!(
                T::PROPERTIES.tear_free(),
                "a copy of this type that is made while it changes might be no value of it: \
                 it contains an enum with fields, or a NonZero number of 128 bits"
            );
        }
        let mut copy = MaybeUninit::<T>::uninit();
        let from = self.value.as_ptr().cast();
        // SAFETY: readable by `new`; the copy is a variable of this function.
        unsafe { atomic_copy::copy_relaxed(from, copy.as_mut_ptr().cast(), size_of::<T>()) };
        // SAFETY: a mixture of values of T, word by word, is a value of T.
        unsafe { copy.assume_init() }
    }
}

impl<'a, T, const N: usize> ReadOnly<'a, [T; N]> {
    /// The array as a slice.
    #[must_use]
    pub fn as_slice(self) -> ReadOnly<'a, [T]> {
        ReadOnly {
            value: NonNull::slice_from_raw_parts(self.value.cast(), N),
            lives: PhantomData,
        }
    }
}

impl<'a, T> ReadOnly<'a, [T]> {
    /// How many elements there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.value.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The element, if there is one of that number.
    #[must_use]
    pub fn element(self, index: usize) -> Option<ReadOnly<'a, T>> {
        if index >= self.len() {
            return None;
        }
        // SAFETY: inside the slice, as just checked.
        let element = unsafe { self.value.cast::<T>().add(index) };
        // SAFETY: a part of what `new` was promised.
        Some(unsafe { ReadOnly::new(element) })
    }

    /// All elements.
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
            /// The value at this moment.
            ///
            /// # Memory ordering
            ///
            /// `Acquire`: what was written before a `Release` store of this value
            /// is seen after this.
            #[must_use]
            pub fn load(self) -> $plain {
                // SAFETY: loaded `Relaxed`, and not larger than eight bytes.
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

/// Goes from a [`ReadOnly`] view of a struct to a field of it: `project!(view =>
/// field)`, or further, `project!(view => field.inner)`. Fields that are private
/// stay so. A field of a tuple goes by its number: `project!(view => 0)`.
///
/// A type that implements `Deref` has no fields here: what `deref` does is code that
/// may write, or lead elsewhere.
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
        // SAFETY: the closure names a field of what it is given; a type without
        // `Deref` has no others.
        unsafe { $crate::ReadOnly::__project(view, |whole| &raw const (*whole).$field) }
    }};
}

/// Implemented twice for types that implement `Deref`, so that the compiler can't
/// choose, and once for all others.
#[doc(hidden)]
pub trait AmbiguousIfDeref<Which> {}

/// The second choice.
#[doc(hidden)]
#[derive(Debug)]
pub enum IsDeref {}

impl<T: ?Sized> AmbiguousIfDeref<()> for T {}
impl<T: ?Sized + Deref> AmbiguousIfDeref<IsDeref> for T {}
