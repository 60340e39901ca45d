//! The marker of types that may live in shared memory, and the walk over the
//! sync objects inside them.

mod cache_padded;
mod fingerprint;
mod impls;
mod properties;

use std::fmt;
use std::io;
use std::marker::PhantomData;

pub use cache_padded::CachePadded;
pub use fingerprint::Fingerprint;
pub use properties::TypeProperties;

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
/// # Fingerprints
///
/// Two programs agree on a layout by [`FINGERPRINT`](Self::FINGERPRINT), and on nothing
/// else. Equal fingerprints mean equal structure, because no two structures have one by
/// accident: it is a hash with 128 bits of a description that is different for each
/// structure. Equal fingerprints do not mean
///
/// * that the fingerprint is genuine: a process that may write to a segment can write
///   any fingerprint into its header,
/// * that both programs mean the same by a field of one name and type, or keep the same
///   invariants in it, public or private. The type's own name is left out, and so is
///   the parameter of `PhantomData`,
/// * that a handwritten `unsafe impl ShmSafe` told the truth,
/// * that bytes which are no value (padding, the inside of `MaybeUninit`) are alike.
///
/// The derive macro sees an item before the attribute macros below it do. Code that it
/// writes does not compile if one of them adds a field or a variant or changes a type,
/// and it follows one that numbers the variants of an enum without fields. If an
/// attribute macro changes the `repr` of a type, or the discriminants of an enum with
/// fields, write it above the derive.
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
///   and `SYNC_OBJECTS` is how many there are. From a pattern, it reports those of
///   an array's elements once for all.
/// * `PROPERTIES` promises nothing that does not hold: of all-zero bytes with every
///   sync object inside made inert, of shared values, and of mixtures of two values.
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

    /// What holds of the values, as bytes.
    #[doc(hidden)]
    const PROPERTIES: TypeProperties = TypeProperties::UNKNOWN;

    /// Reports every sync object inside a value to `report`.
    #[doc(hidden)]
    fn visit(_at: &FieldPath<'_>, _report: &mut Visitor<'_>) {}
}

/// What [`ShmSafe::visit`] reports to.
#[doc(hidden)]
pub type Visitor<'a> = dyn FnMut(&FieldPath<'_>, &'static SyncOps) + 'a;

/// Where the walk over a value is: the offset, and the way there.
///
/// The way is a list of stack frames, so that walking allocates nothing.
/// Displayed, it reads like Rust: `.workers[3].lock`.
///
/// A walk from a [`pattern`](Self::pattern) goes into the element type of each
/// array once, whatever the length: `.workers[].lock`.
#[doc(hidden)]
#[derive(Debug)]
pub struct FieldPath<'a> {
    /// In a pattern, of the first of the elements it stands for.
    offset: usize,
    step: Step,
    walk: Walk,
    parent: Option<&'a FieldPath<'a>>,
}

#[derive(Debug)]
enum Step {
    Root,
    Field(&'static str),
    Index(usize),
    /// All elements of an array; `stride` is in bytes.
    Each {
        count: usize,
        stride: usize,
    },
}

/// What a walk does with arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Walk {
    /// It visits every element.
    Elements,
    /// It visits one for all.
    Arrays,
}

impl<'a> FieldPath<'a> {
    /// The value itself.
    #[must_use]
    pub const fn root() -> Self {
        Self::start(Walk::Elements)
    }

    /// The value itself, for a walk that visits one element of an array for all.
    #[must_use]
    pub const fn pattern() -> Self {
        Self::start(Walk::Arrays)
    }

    const fn start(walk: Walk) -> Self {
        Self {
            offset: 0,
            step: Step::Root,
            walk,
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

    /// All `count` elements of an array, `stride` bytes apart.
    #[must_use]
    pub const fn array(&'a self, count: usize, stride: usize) -> Self {
        self.child(Step::Each { count, stride }, 0)
    }

    const fn child(&'a self, step: Step, offset: usize) -> Self {
        Self {
            offset: self.offset + offset,
            step,
            walk: self.walk,
            parent: Some(self),
        }
    }

    /// Whether arrays are to be visited by [`each`](Self::each).
    #[must_use]
    pub const fn is_pattern(&self) -> bool {
        matches!(self.walk, Walk::Arrays)
    }

    /// The count and the stride in bytes of each array that this place stands for
    /// all elements of, outermost first.
    pub(crate) fn array_dims(&self) -> Vec<(u64, u64)> {
        let mut repeats = self.parent.map_or_else(Vec::new, Self::array_dims);
        if let Step::Each { count, stride } = self.step {
            repeats.push((count as u64, stride as u64));
        }
        repeats
    }

    /// In bytes from the start of the value.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Each { .. } => f.write_str("[]"),
        }
    }
}

/// What a walk finds: which primitive it is, and what can be done with it by
/// those who know only its address.
#[doc(hidden)]
#[derive(Debug)]
pub struct SyncOps {
    /// Which primitive it is.
    pub kind: SyncKind,
    /// In bytes; of a mutex, the lock without the data.
    pub size: usize,
    /// Makes zero bytes the inert value of this kind.
    ///
    /// Safety: the pointer is valid for writes of an object of this kind and
    /// aligned for it; the bytes are zero, and nobody uses them.
    pub(crate) init_zeroed: unsafe fn(*mut u8),
    /// Brings the object to life where it lies.
    ///
    /// Safety: the pointer is to an object of this kind that was written there
    /// as an inert value, will stay there, and is used by nobody yet.
    pub(crate) init: unsafe fn(*mut u8, InitContext) -> io::Result<()>,
    /// Brings back to life what was placed and used elsewhere: before the machine
    /// was started anew, in a file that this one is a copy of, or in memory that
    /// this is a private copy of. A mutex that was held then is poisoned. To do it
    /// over after a death halfway does no harm, nor does any content of the bytes.
    ///
    /// Safety: the pointer is to an object of this kind, mapped and writable, which
    /// will stay there. No thread that is alive holds it, waits for it or otherwise
    /// uses it, at this place.
    pub(crate) reinit: unsafe fn(*mut u8, InitContext) -> io::Result<()>,
    /// Whether a thread of this process holds it, so that the kernel, or libc,
    /// may still come back to its address.
    ///
    /// Safety: the pointer is to an object of this kind, mapped and placed.
    pub(crate) is_held_by_this_process: unsafe fn(*const u8) -> bool,
}

/// The primitives, and how memory names them.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SyncKind {
    /// `ShmMutex`.
    Mutex = 1,
    /// `ShmCondvar`.
    Condvar = 2,
    /// `PthreadCondvar`.
    PthreadCondvar = 3,
}

impl SyncKind {
    /// The primitive's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mutex => "ShmMutex",
            Self::Condvar => "ShmCondvar",
            Self::PthreadCondvar => "PthreadCondvar",
        }
    }

    /// The primitive that a segment's directory calls so.
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Mutex),
            2 => Some(Self::Condvar),
            3 => Some(Self::PthreadCondvar),
            _ => None,
        }
    }
}

/// What a sync object must know to come to life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InitContext {
    /// The pid namespace whose thread ids own locks here. In private memory, the word
    /// that names the process: see [`private_owner`](crate::os::private_owner).
    pub(crate) pid_namespace: u32,
}

/// Adds the numbers up, at compile time.
#[doc(hidden)]
#[must_use]
pub const fn sum(numbers: &[usize]) -> usize {
    let mut sum = 0;
    let mut rest = numbers;
    while let [number, after @ ..] = rest {
        sum += *number;
        rest = after;
    }
    sum
}

/// A value of this type and no other: neither does another type coerce to it, nor does
/// a sub-type take its place.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct TypeOf<'a, T: ?Sized> {
    /// The value.
    pub value: &'a T,
    /// Makes it invariant.
    pub exactly: PhantomData<*mut T>,
}

#[cfg(test)]
mod tests {
    use super::*;

    static THING: SyncOps = SyncOps {
        kind: SyncKind::Condvar,
        size: 4,
        init_zeroed: |_| {},
        init: |_, _| Ok(()),
        reinit: |_, _| Ok(()),
        is_held_by_this_process: |_| false,
    };

    struct Thing(#[allow(dead_code, reason = "only the layout matters")] u32);

    // SAFETY: repr is not fixed, but there is one field, and no memory is shared.
    unsafe impl ShmSafe for Thing {
        const FINGERPRINT: Fingerprint = u32::FINGERPRINT;
        const SYNC_OBJECTS: usize = 1;

        fn visit(at: &FieldPath<'_>, report: &mut Visitor<'_>) {
            report(at, &THING);
        }
    }

    /// What a walk reports: the way there, the offset, and the arrays on the way.
    type Found = (String, usize, Vec<(u64, u64)>);

    fn walk<T: ShmSafe>(start: &FieldPath<'_>) -> Vec<Found> {
        let mut all = Vec::new();
        T::visit(start, &mut |at, _| {
            all.push((at.to_string(), at.offset(), at.array_dims()));
        });
        all
    }

    /// The offsets of all objects that a pattern stands for.
    fn spelled_out((_, offset, repeats): Found) -> Vec<usize> {
        let mut offsets = vec![offset];
        for (count, stride) in repeats {
            let each = |&start: &usize| (0..count).map(move |i| start + (i * stride) as usize);
            offsets = offsets.iter().flat_map(each).collect();
        }
        offsets
    }

    #[test]
    fn smoke() {
        type Things = [[(u64, [Thing; 3]); 2]; 5];
        let pair = size_of::<(u64, [Thing; 3])>();
        let found = walk::<Things>(&FieldPath::pattern());
        let repeats = [(5, 2 * pair), (2, pair), (3, 4)].map(|(n, m)| (n, m as u64));
        let offset = std::mem::offset_of!((u64, [Thing; 3]), 1);
        assert_eq!(found, [("[][].1[]".to_owned(), offset, repeats.to_vec())]);

        let full = walk::<Things>(&FieldPath::root());
        assert_eq!(full.len(), Things::SYNC_OBJECTS);
        assert!(full.iter().all(|(_, _, repeats)| repeats.is_empty()));
        let offsets: Vec<usize> = full.into_iter().map(|(_, offset, _)| offset).collect();
        let patterns: Vec<usize> = found.into_iter().flat_map(spelled_out).collect();
        assert_eq!(patterns, offsets);
    }

    #[test]
    fn a_pattern_is_short_whatever_the_length() {
        let found = walk::<(Thing, [[Thing; 1 << 20]; 1 << 20], u8)>(&FieldPath::pattern());
        let paths: Vec<&str> = found.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(paths, [".0", ".1[][]"]);
        assert_eq!(found[0].2, []);
    }

    #[test]
    fn empty_arrays_report_nothing() {
        assert_eq!(walk::<[Thing; 0]>(&FieldPath::pattern()), []);
        assert_eq!(walk::<[[Thing; 3]; 0]>(&FieldPath::pattern()), []);
        assert_eq!(walk::<[[Thing; 0]; 3]>(&FieldPath::pattern()), []);
        assert_eq!(walk::<[[Thing; 0]; 3]>(&FieldPath::root()), []);
    }

    #[test]
    fn each_kind_has_its_own_code_and_name() {
        let kinds = [SyncKind::Mutex, SyncKind::Condvar, SyncKind::PthreadCondvar];
        assert_eq!(kinds.map(|kind| kind as u8), [1, 2, 3]);
        let names = ["ShmMutex", "ShmCondvar", "PthreadCondvar"];
        assert_eq!(kinds.map(SyncKind::name), names);
    }
}
