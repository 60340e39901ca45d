//! `ShmSafe`: the marker of types whose values may be in shared memory.

use crate::shm_safe::description::{Description, Parts};
use crate::shm_safe::fingerprint::Fingerprint;
use crate::shm_safe::properties::TypeProperties;
use crate::shm_safe::visit::{FieldPath, Visitor};

/// Marks types of which processes may share values, although each process maps the
/// memory at another address.
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
/// The derive macro accepts structs with `#[repr(C)]` or `#[repr(transparent)]` and
/// enums with a primitive `repr`, if every field is `ShmSafe`. It rejects references,
/// pointers, slices, lifetimes, types with a destructor, and enums with locks in their
/// variants.
///
/// Integers, floats, `bool`, `char`, the atomics, `NonZero` integers, arrays, tuples of
/// up to twelve elements, `MaybeUninit<T>`, `()`, `PhantomData` and the primitives of
/// this crate implement it. `String`, `Vec` and `Option` do not: use
/// [`ShmString`](crate::ShmString), [`ShmVec`](crate::ShmVec) and
/// [`ShmOption`](crate::ShmOption). Neither do `Duration` and other types of std whose
/// layout is not fixed: use a number of nanoseconds. `Plain` (feature `bytemuck`)
/// stores plain data of other crates. The guide [lists
/// both](crate::guide#types-of-std-and-of-other-crates).
///
/// In the guide: [data](crate::guide#data).
///
/// # Fingerprints
///
/// Two programs agree on a layout by [`FINGERPRINT`](Self::FINGERPRINT) alone. It is a
/// hash with 128 bits over a description that is different for each structure. Equal
/// fingerprints mean equal structure, because two structures do not have the same hash
/// by accident. Equal fingerprints do not mean that
///
/// * the fingerprint is genuine: a process that may write to a segment can write any
///   fingerprint into its header,
/// * both programs give a field of one name and type one meaning, or keep the same
///   invariants in it, public or private. The hash leaves out the type's own name and
///   the parameter of `PhantomData`,
/// * a handwritten `unsafe impl ShmSafe` is correct,
/// * bytes that are part of no value (padding, the inside of `MaybeUninit`) are alike.
///
/// The derive macro sees an item before the attribute macros below it do. Its code does
/// not compile if one of these adds a field or a variant or changes a type. It follows
/// an attribute macro that numbers the variants of an enum without fields. If an
/// attribute macro changes the `repr` of a type, or the discriminants of an enum with
/// fields, write it above the derive.
///
/// # Privacy
///
/// Any program can declare a type of the same structure and create a segment that your
/// program then opens, with any values in your private fields. `unsafe` code must not
/// rely on invariants of the fields of a `ShmSafe` type. Check each value that comes
/// out of shared memory.
///
/// # Safety
///
/// Derive it: implementing it by hand is not supported. An implementation guarantees:
///
/// * The layout is fixed by `repr`, or else [`FINGERPRINT`](Self::FINGERPRINT) covers
///   the offset of every part.
/// * `FINGERPRINT` differs between types of different layout. Bytes that are a value of
///   one type are a value of every other type with the same fingerprint, including the
///   ranges of `bool`, `char` and enums.
/// * Values contain nothing that has a meaning in one process only: no address, no
///   descriptor, no `Instant`, nothing allocated, nothing with a destructor.
/// * `visit` passes each sync object to the visitor exactly once, with its true offset,
///   and `SYNC_OBJECTS` is their number. In a pattern, it passes the sync objects of an
///   array's element once.
/// * Each of the `PROPERTIES` holds: for all-zero bytes with uninitialised sync objects
///   written into them, for shared values, and for mixtures of two values.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't live in shared memory",
    label = "not `ShmSafe`",
    note = "another process could not use it: types that allocate, point or clean up belong to \
            one process, and `Option` and the like have no fixed layout",
    note = "use integers, arrays, atomics, `ShmString`, `ShmVec`, `ShmOption` and the locks of \
            shm-sync; derive `ShmSafe` for structs and enums of these"
)]
pub unsafe trait ShmSafe: Send + Sync + Sized + 'static {
    /// The structural hash of the type: see [`Fingerprint`].
    const FINGERPRINT: Fingerprint = Self::DESCRIPTION.fingerprint();

    /// What the fingerprint hashes.
    #[doc(hidden)]
    const PARTS: Parts;

    /// The parts and their hash.
    #[doc(hidden)]
    const DESCRIPTION: &'static Description = &Description::new(Self::PARTS);

    /// The number of sync objects in a value.
    #[doc(hidden)]
    const SYNC_OBJECTS: usize = 0;

    /// The properties of the bytes of each value.
    #[doc(hidden)]
    const PROPERTIES: TypeProperties = TypeProperties::UNKNOWN;

    /// Passes every sync object inside a value at `path` to `visitor`.
    #[doc(hidden)]
    fn visit(_path: &FieldPath<'_>, _visitor: &mut Visitor<'_>) {}
}
