//! The marker of types that may live in shared memory, and the walk over the
//! sync objects inside them.

mod impls;

use std::fmt;
use std::io;

use crate::fingerprint::Fingerprint;

/// Types whose values may be shared between processes that map the same memory
/// at different addresses.
///
/// Derive it:
///
/// ```
/// use shm_sync::{ShmCondvar, ShmMutex, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Jobs {
///     pending: ShmMutex<u64>,
///     changed: ShmCondvar,
/// }
/// ```
///
/// The derive macro accepts structs with `#[repr(C)]` or
/// `#[repr(transparent)]` and enums with a primitive `repr`, if every field is
/// `ShmSafe`. It refuses references, pointers, slices, lifetimes, types with a
/// destructor, and enums with locks in their variants.
///
/// It is implemented for integers, floats, `bool`, `char`, the atomics,
/// `NonZero` integers, arrays, tuples of up to twelve elements,
/// `MaybeUninit<T>`, `()`, `PhantomData`, and the primitives of this crate. Not for
/// `Option`, `Duration` and other types of std whose layout is not fixed: write an
/// enum with `#[repr(u8)]`, or a number of nanoseconds.
///
/// # Privacy
///
/// Any program that declares a type of the same structure can create a segment
/// that yours then opens, with whatever values it likes in your private fields.
/// `unsafe` code must not rely on invariants of the fields of a `ShmSafe` type:
/// check what comes out of shared memory.
///
/// # Safety
///
/// Derive it: implementing it by hand is not supported. This is what the derive
/// macro vouches for:
///
/// * The layout is fixed by `repr`, or else [`FINGERPRINT`](Self::FINGERPRINT)
///   covers the offset of everything inside.
/// * `FINGERPRINT` differs between types of different layout: whatever bytes are
///   a value of one type are a value of every other with the same fingerprint,
///   down to the ranges of `bool`, `char` and enums.
/// * Values hold nothing that means something to one process only: no address,
///   no descriptor, no `Instant`, nothing allocated, nothing with a destructor.
/// * `visit` reports each sync object inside exactly once, at its true offset,
///   and `SYNC_OBJECTS` is how many there are.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't live in shared memory",
    label = "not `ShmSafe`",
    note = "another process could not use it: types that allocate, point or clean up belong to \
            one process, and `Option` and the like have no fixed layout",
    note = "use integers, arrays, atomics and the primitives of shm-sync; derive `ShmSafe` for \
            structs and enums of these"
)]
pub unsafe trait ShmSafe: Send + Sync + Sized + 'static {
    /// The structural hash of the type: see [`Fingerprint`].
    const FINGERPRINT: Fingerprint;

    /// How many sync objects a value contains.
    #[doc(hidden)]
    const SYNC_OBJECTS: usize = 0;

    /// Reports every sync object inside a value to `report`.
    #[doc(hidden)]
    fn visit(_at: &Place<'_>, _report: &mut Report<'_>) {}
}

/// What [`ShmSafe::visit`] reports to.
#[doc(hidden)]
pub type Report<'a> = dyn FnMut(&Place<'_>, &'static SyncObject) + 'a;

/// Where the walk over a value is: the offset, and the way there.
///
/// The way is a list of stack frames, so that walking allocates nothing.
/// Displayed, it reads like Rust: `.workers[3].lock`.
#[doc(hidden)]
#[derive(Debug)]
pub struct Place<'a> {
    offset: usize,
    step: Step,
    parent: Option<&'a Place<'a>>,
}

#[derive(Debug)]
enum Step {
    Root,
    Field(&'static str),
    Index(usize),
}

impl<'a> Place<'a> {
    /// The value itself.
    #[must_use]
    pub const fn root() -> Self {
        Self {
            offset: 0,
            step: Step::Root,
            parent: None,
        }
    }

    /// A field, `offset` bytes into this place.
    #[must_use]
    pub const fn field(&'a self, name: &'static str, offset: usize) -> Self {
        self.child(Step::Field(name), offset)
    }

    /// An element, `offset` bytes into this place.
    #[must_use]
    pub const fn index(&'a self, index: usize, offset: usize) -> Self {
        self.child(Step::Index(index), offset)
    }

    const fn child(&'a self, step: Step, offset: usize) -> Self {
        Self {
            offset: self.offset + offset,
            step,
            parent: Some(self),
        }
    }

    /// In bytes from the start of the value.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// What a walk finds: which primitive it is, and what can be done with it by
/// those who know only its address.
#[doc(hidden)]
#[derive(Debug)]
pub struct SyncObject {
    /// The primitive's name.
    pub kind: &'static str,
    /// Brings the object to life where it lies.
    ///
    /// Safety: the pointer is to an object of this kind that was written there
    /// as an inert value, will stay there, and is used by nobody yet.
    pub(crate) place: unsafe fn(*mut u8, Placement) -> io::Result<()>,
    /// Whether a thread of this process holds it, so that the kernel, or libc,
    /// may still come back to its address.
    ///
    /// Safety: the pointer is to an object of this kind, mapped and placed.
    pub(crate) is_held_here: unsafe fn(*const u8) -> bool,
}

/// What a sync object must know to come to life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placement {
    /// The pid namespace whose thread ids own locks here.
    pub(crate) pid_namespace: u32,
}
