//! The code that `#[derive(ShmSafe)]` generates. Fingerprints change with the layout
//! and only with it, and `visit` reports every lock at its offset.

use std::collections::BTreeSet;
use std::mem::{MaybeUninit, offset_of};
use std::num::NonZero;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use proptest::prelude::*;
use shm_sync::__private::{FieldPath, SyncKind};
use shm_sync::{
    Error, Fingerprint, LockError, PthreadCondvar, Segment, ShmCondvar, ShmEvent, ShmLifeline,
    ShmMutex, ShmSafe,
};

/// Returns the fingerprint of the type that is declared in the brackets.
macro_rules! fingerprint {
    ([$(#[$attribute:meta])* $kind:ident $name:ident $($rest:tt)*]) => {{
        #[derive(ShmSafe)]
        $(#[$attribute])*
        #[allow(dead_code, reason = "only the layout matters")]
        $kind $name $($rest)*

        const FINGERPRINT: Fingerprint = $name::FINGERPRINT;
        FINGERPRINT
    }};
}

/// Returns the text and the fingerprint of each declaration in brackets.
macro_rules! fingerprints {
    ($($declaration:tt)+) => {
        [$((stringify!($declaration), fingerprint!($declaration))),+]
    };
}

fn assert_all_differ(types: &[(&str, Fingerprint)]) {
    for (i, (this, fingerprint)) in types.iter().enumerate() {
        for (other, its_fingerprint) in &types[..i] {
            assert_ne!(
                fingerprint, its_fingerprint,
                "{this} has the fingerprint of {other}"
            );
        }
    }
}

fn assert_all_equal(types: &[(&str, Fingerprint)]) {
    for pair in types.windows(2) {
        assert_eq!(
            pair[0].1, pair[1].1,
            "{} has not the fingerprint of {}",
            pair[0].0, pair[1].0
        );
    }
}

#[test]
fn smoke() -> Result<(), Error> {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Jobs {
        pending: ShmMutex<u64>,
        changed: ShmCondvar,
    }

    let jobs = Segment::anonymous(Jobs {
        pending: ShmMutex::new(1),
        changed: ShmCondvar::new(),
    })?;
    *jobs.pending.lock()? += 1;
    jobs.changed.notify_all();
    assert_eq!(*jobs.pending.lock()?, 2);
    let changed = offset_of!(Jobs, changed);
    assert_eq!(
        reports::<Jobs>(),
        [
            found(".pending", 0, MUTEX),
            found(".changed", changed, CONDVAR)
        ]
    );
    Ok(())
}

// --- Fingerprints -----------------------------------------------------------

#[test]
fn fingerprint_differs_for_each_struct_change() {
    assert_all_differ(&fingerprints! {
        [#[repr(C)] struct S { a: u32, b: u32, c: [u8; 3] }]
        // A renamed field; fields in another order.
        [#[repr(C)] struct S { a: u32, x: u32, c: [u8; 3] }]
        [#[repr(C)] struct S { b: u32, a: u32, c: [u8; 3] }]
        // One field more: in the padding, or without a size. One field less.
        [#[repr(C)] struct S { a: u32, b: u32, c: [u8; 3], d: u32 }]
        [#[repr(C)] struct S { a: u32, b: u32, c: [u8; 3], d: u8 }]
        [#[repr(C)] struct S { a: u32, b: u32, c: [u8; 3], d: () }]
        [#[repr(C)] struct S { a: u32, c: [u8; 3] }]
        // Another type of the same size; another length in the same space.
        [#[repr(C)] struct S { a: u32, b: i32, c: [u8; 3] }]
        [#[repr(C)] struct S { a: u32, b: u32, c: [u8; 4] }]
        // Another alignment; no names; another depth.
        [#[repr(C, align(16))] struct S { a: u32, b: u32, c: [u8; 3] }]
        [#[repr(C)] struct S(u32, u32, [u8; 3]);]
        [#[repr(C)] struct S { a: (u32, u32), c: [u8; 3] }]
        // Another alignment, and the same size.
        [#[repr(C)] struct S { a: [u32; 4] }]
        [#[repr(C, align(16))] struct S { a: [u32; 4] }]
    });
}

#[test]
fn fingerprint_differs_for_same_size() {
    assert_all_differ(&fingerprints! {
        [#[repr(C)] struct S { a: u32 }]
        [#[repr(C)] struct S { a: i32 }]
        [#[repr(C)] struct S { a: f32 }]
        [#[repr(C)] struct S { a: char }]
        [#[repr(C)] struct S { a: [u8; 4] }]
        [#[repr(C)] struct S { a: (u16, u16) }]
        [#[repr(C)] struct S { a: (u32,) }]
        [#[repr(C)] struct S { a: AtomicU32 }]
        [#[repr(C)] struct S { a: NonZero<u32> }]
        [#[repr(C)] struct S { a: MaybeUninit<u32> }]
        [#[repr(C)] struct S { a: ShmMutex<u32> }]
        [#[repr(C)] struct S { a: ShmMutex<i32> }]
        [#[repr(C)] struct S { a: [u32; 2] }]
        [#[repr(C)] struct S { a: ShmCondvar }]
        [#[repr(C)] struct S { a: PthreadCondvar }]
    });
}

#[test]
fn fingerprint_differs_for_each_enum_change() {
    assert_all_differ(&fingerprints! {
        [#[repr(u8)] enum E { A, B(u8, i8) }]
        // A renamed variant; variants in another order; another discriminant.
        [#[repr(u8)] enum E { A, X(u8, i8) }]
        [#[repr(u8)] enum E { B(u8, i8), A }]
        [#[repr(u8)] enum E { B(u8, i8) = 1, A = 0 }]
        [#[repr(u8)] enum E { A, B(u8, i8) = 7 }]
        [#[repr(u8)] enum E { A, B(u8, i8), C }]
        // Fields of a variant: another order, type, name, variant.
        [#[repr(u8)] enum E { A, B(i8, u8) }]
        [#[repr(u8)] enum E { A, B(u8, u8) }]
        [#[repr(u8)] enum E { A, B { a: u8, b: i8 } }]
        [#[repr(u8)] enum E { A, B { a: u8, x: i8 } }]
        [#[repr(u8)] enum E { A(u8), B(i8) }]
        // Another type of discriminant.
        [#[repr(i8)] enum E { A, B(u8, i8) }]
        [#[repr(u16)] enum E { A, B(u8, i8) }]
    });
    assert_all_differ(&fingerprints! {
        [#[repr(i64)] enum E { A = i64::MIN }]
        [#[repr(i64)] enum E { A = i64::MAX }]
        [#[repr(i64)] enum E { A = -1 }]
        [#[repr(i64)] enum E { A = 0 }]
    });
}

/// In `Joined`, the field of `Small` follows the tag directly. In `Apart`, it has the
/// offset of the field of `Large`. Size, alignment and tokens are the same.
#[test]
fn fingerprint_differs_for_repr_c_enum() {
    #[derive(ShmSafe)]
    #[repr(u8)]
    #[allow(dead_code, reason = "only the layout matters")]
    enum Joined {
        Small(u8),
        Large(u32),
    }

    #[derive(ShmSafe)]
    #[repr(C, u8)]
    #[allow(dead_code, reason = "only the layout matters")]
    enum Apart {
        Small(u8),
        Large(u32),
    }

    fn offset<T>(of: &u8, inside: &T) -> usize {
        std::ptr::from_ref(of).addr() - std::ptr::from_ref(inside).addr()
    }

    assert_eq!(size_of::<Joined>(), size_of::<Apart>());
    assert_eq!(align_of::<Joined>(), align_of::<Apart>());
    let (joined, apart) = (
        [Joined::Small(1), Joined::Large(2)],
        [Apart::Small(1), Apart::Large(2)],
    );
    let (Joined::Small(in_joined), Apart::Small(in_apart)) = (&joined[0], &apart[0]) else {
        unreachable!("both are small");
    };
    assert_eq!(offset(in_joined, &joined[0]), 1);
    assert_eq!(offset(in_apart, &apart[0]), 4);

    assert_ne!(Joined::FINGERPRINT, Apart::FINGERPRINT);
}

#[test]
fn fingerprint_differs_for_nested_change() {
    macro_rules! outer {
        ($($fields:tt)*) => {{
            #[derive(ShmSafe)]
            #[repr(C)]
            #[allow(dead_code, reason = "only the layout matters")]
            struct Inner { $($fields)* }

            fingerprint!([#[repr(C)] struct Outer { a: [(u8, ShmMutex<[Inner; 2]>); 3] }])
        }};
    }
    assert_all_differ(&[
        ("x: u32", outer!(x: u32)),
        ("y: u32", outer!(y: u32)),
        ("x: i32", outer!(x: i32)),
    ]);
}

/// With the 64-bit FNV-1a of format 2, each pair had the same fingerprint. A variant
/// was hashed like a field, and a discriminant of 128 bits left room to choose the
/// rest. A value of the second type is invalid for the first, so safe code could create
/// one.
#[test]
fn fingerprint_differs_where_format_2_collided() {
    const U32: u128 = u32::FINGERPRINT.to_bits();
    // The discriminant of `b` is hashed like the number and the type of the field `b`.
    assert_all_differ(&fingerprints! {
        [#[repr(u128)] enum E { A { x: u8, b: u32 } }]
        [#[allow(non_camel_case_types)] #[repr(u128)] enum E { A { x: u8 }, b = 1 | U32 << 64 }]
        [#[allow(non_camel_case_types)] #[repr(u128)] enum E { A { x: u8 }, b = 1 }]
        [#[allow(non_camel_case_types)] #[repr(u128)] enum E { A { x: u8 }, b = U32 }]
    });
    // The discriminant was computed by the reduction of a lattice.
    assert_all_differ(&fingerprints! {
        [#[repr(C, align(16))] struct S { a: u128 }]
        [#[repr(u128)] enum E { A = 0x1900_0001_0419_1e0f_000f_0508_1f1a_0007 }]
    });
}

mod elsewhere {
    use shm_sync::ShmSafe;

    #[derive(ShmSafe)]
    #[repr(C)]
    pub(crate) struct Point {
        x: u32,
        y: [i16; 3],
    }

    #[derive(ShmSafe)]
    #[repr(u8)]
    pub(crate) enum State {
        #[allow(dead_code, reason = "only the layout matters")]
        Idle,
        #[allow(dead_code, reason = "only the layout matters")]
        Busy(u32),
    }
}

#[test]
fn fingerprint_ignores_spelling() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Generic<T, U, const N: usize> {
        x: T,
        y: [U; N],
    }

    type Number = u32;

    let point = fingerprint!([#[repr(C)] struct Point { x: u32, y: [i16; 3] }]);
    assert_eq!(point, elsewhere::Point::FINGERPRINT, "another module");
    assert_eq!(point, Generic::<u32, i16, 3>::FINGERPRINT, "generic");
    assert_all_equal(&fingerprints! {
        [#[repr(C)] struct Point { x: u32, y: [i16; 3] }]
        [#[repr(C)] struct Other { x: u32, y: [i16; 3] }]
        [#[repr(C)] struct Point { x: Number, y: [i16; 1 + 2] }]
        [#[repr(C)] struct Point { r#x: u32, r#y: [i16; 3] }]
        [#[repr(C)] #[derive(Debug)] struct Point { pub(crate) x: u32, y: [i16; 3] }]
    });

    let state = fingerprint!([#[repr(u8)] enum State { Idle, Busy(u32) }]);
    assert_eq!(state, elsewhere::State::FINGERPRINT, "another module");
    assert_all_equal(&fingerprints! {
        [#[repr(u8)] enum State { Idle, Busy(u32) }]
        [#[repr(u8)] enum Other { Idle, Busy(u32) }]
        [#[repr(u8)] enum State { Idle = 0, Busy(u32) = 2 - 1 }]
        [#[repr(u8)] enum State { r#Idle, r#Busy(Number) }]
    });
}

/// Like a macro that gives each flag a bit: the derive macro above it sees no numbers.
#[test]
fn discriminants_match_the_compilers() {
    use shm_sync_test_attributes::replace;

    assert_all_equal(&fingerprints! {
        [#[repr(u8)] enum Flag { Read = 1, Write = 2, Run = 4 }]
        [#[replace(Read => Read = 1)] #[replace(Run => Run = 4)] #[repr(u8)] enum Flag { Read, Write, Run }]
    });

    #[derive(ShmSafe)]
    #[replace(Read => Read = 1)]
    #[repr(u8)]
    #[allow(dead_code, reason = "only the layout matters")]
    enum Flag {
        Read,
        Write,
    }
    assert!(!Flag::PROPERTIES.from_zeros(), "no flag is zero");
}

#[test]
fn fingerprint_differs_at_largest_discriminant() {
    assert_all_differ(&fingerprints! {
        [#[repr(u128)] enum E { A(u8) = i128::MAX as u128, B }]
        [#[repr(u128)] enum E { A(u8) = u128::MAX - 1, B }]
        [#[repr(i128)] enum E { A(u8) = -2, B }]
        [#[repr(i128)] enum E { A(u8) = i128::MIN, B }]
        [#[repr(u128)] enum E { A(u8) = 1 << 64, B }]
        [#[repr(u128)] enum E { A(u8), B }]
    });
}

/// Types of different kinds differ, although their parts have the same names and types.
#[test]
fn fingerprint_differs_for_each_kind_of_type() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Sized<const N: usize> {
        a: [u32; N],
    }

    assert_all_differ(&[
        ("tuple", <(u32, u32)>::FINGERPRINT),
        ("struct", fingerprint!([#[repr(C)] struct S(u32, u32);])),
        ("array", <[u32; 2]>::FINGERPRINT),
        ("array of arrays", <[[u32; 1]; 2]>::FINGERPRINT),
        ("the other way round", <[[u32; 2]; 1]>::FINGERPRINT),
        ("empty array", <[u32; 0]>::FINGERPRINT),
        ("another", <[f32; 0]>::FINGERPRINT),
        ("its length", <[[u32; 0]; 1]>::FINGERPRINT),
        ("no bytes", <[(); 2]>::FINGERPRINT),
        ("no bytes, and more of them", <[(); 3]>::FINGERPRINT),
        ("unit", <()>::FINGERPRINT),
        ("unit struct", fingerprint!([#[repr(C)] struct S;])),
        ("unit variant", fingerprint!([#[repr(u8)] enum E { A }])),
        ("phantom", std::marker::PhantomData::<u32>::FINGERPRINT),
        ("maybe", MaybeUninit::<u32>::FINGERPRINT),
        ("field", fingerprint!([#[repr(C)] struct S(u32);])),
        ("element", <[u32; 1]>::FINGERPRINT),
        ("tuple of one", <(u32,)>::FINGERPRINT),
        ("number", u32::FINGERPRINT),
        ("number but zero", NonZero::<u32>::FINGERPRINT),
        ("of a length", Sized::<1>::FINGERPRINT),
        ("of another", Sized::<2>::FINGERPRINT),
    ]);
}

#[test]
fn discriminants_continue_after_explicit_one() {
    assert_all_equal(&fingerprints! {
        [#[repr(i16)] enum E { A = -2, B, C, D = 40, F }]
        [#[repr(i16)] enum E { A = -2, B = -1, C = 0, D = 40, F = 41 }]
    });
}

/// Programs built with different versions of this crate share segments, so the
/// fingerprint of a type must never change. If this test has to change, no existing
/// segment can be opened any more, and the changelog must say so.
#[test]
fn fingerprints_are_stable() {
    let point = fingerprint!([#[repr(C)] struct Point { x: u32, y: [i16; 3], z: bool }]);
    assert_eq!(point.to_string(), "50fd5ae63baa8076080c7d7d55f45bab");
    let state = fingerprint!([#[repr(C, u8)] enum State { Idle, Busy { since: u32 } = 7 }]);
    assert_eq!(state.to_string(), "3f15006317640f03be92e3a3f9731634");
}

// --- visit -------------------------------------------------------------------

const MUTEX: SyncKind = SyncKind::Mutex;
const CONDVAR: SyncKind = SyncKind::Condvar;
const PTHREAD_CONDVAR: SyncKind = SyncKind::PthreadCondvar;

/// A report of `visit`: the path, the offset and the kind of an object.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    path: String,
    offset: usize,
    kind: SyncKind,
}

fn found(path: &str, offset: usize, kind: SyncKind) -> Found {
    Found {
        path: path.to_owned(),
        offset,
        kind,
    }
}

/// Returns all reports of `visit` for a `T`, after checks that hold for every type.
fn reports<T: ShmSafe>() -> Vec<Found> {
    let mut all = Vec::new();
    T::visit(&FieldPath::root(), &mut |at, object| {
        all.push(found(&at.to_string(), at.offset(), object.kind));
    });
    assert_eq!(all.len(), T::SYNC_OBJECTS, "{all:?}");
    let offsets: BTreeSet<usize> = all.iter().map(|found| found.offset).collect();
    assert_eq!(
        offsets.len(),
        all.len(),
        "two objects have one offset: {all:?}"
    );
    for one in &all {
        assert!(one.offset < size_of::<T>(), "{one:?} is outside");
        let align = match one.kind {
            CONDVAR => align_of::<ShmCondvar>(),
            PTHREAD_CONDVAR => align_of::<PthreadCondvar>(),
            MUTEX => align_of::<ShmMutex<()>>(),
            SyncKind::Seat => align_of::<ShmLifeline>(),
            SyncKind::Event => align_of::<ShmEvent>(),
        };
        assert_eq!(one.offset % align, 0, "{one:?} is misaligned");
    }
    all
}

#[derive(ShmSafe)]
#[repr(C)]
struct Worker {
    id: u8,
    lock: ShmMutex<[u16; 3]>,
    heartbeats: u16,
}

#[derive(ShmSafe)]
#[repr(C)]
struct Pool {
    size: u32,
    workers: [Worker; 4],
    changed: ShmCondvar,
    signal: (bool, PthreadCondvar, u8),
}

#[derive(ShmSafe)]
#[repr(C, align(128))]
struct Server {
    version: u8,
    pools: ([Pool; 2], u8, Pool),
    r#type: ShmMutex<u8>,
    grid: [[ShmMutex<u32>; 2]; 2],
}

impl Worker {
    fn new(id: u8, data: [u16; 3]) -> Self {
        Self {
            id,
            lock: ShmMutex::new(data),
            heartbeats: u16::MAX - u16::from(id),
        }
    }
}

impl Pool {
    fn new(size: u32, data: [u16; 3]) -> Self {
        Self {
            size,
            workers: std::array::from_fn(|id| Worker::new(id as u8, data)),
            changed: ShmCondvar::new(),
            signal: (true, PthreadCondvar::new(), 5),
        }
    }
}

impl Server {
    fn new(version: u8, data: [u16; 3]) -> Self {
        let pool = |size| Pool::new(size, data);
        Self {
            version,
            pools: ([pool(1), pool(2)], 7, pool(3)),
            r#type: ShmMutex::new(8),
            grid: [[0, 1], [2, 3]].map(|row| row.map(ShmMutex::new)),
        }
    }

    fn pools(&self) -> [&Pool; 3] {
        [&self.pools.0[0], &self.pools.0[1], &self.pools.2]
    }

    fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.pools().into_iter().flat_map(|pool| &pool.workers)
    }
}

/// Returns the expected reports for a pool, with offsets computed by the compiler.
fn expected_in_pool(path: &str, at: usize) -> Vec<Found> {
    let mut all: Vec<Found> = (0..4)
        .map(|i| {
            found(
                &format!("{path}.workers[{i}].lock"),
                at + offset_of!(Pool, workers) + i * size_of::<Worker>() + offset_of!(Worker, lock),
                MUTEX,
            )
        })
        .collect();
    all.push(found(
        &format!("{path}.changed"),
        at + offset_of!(Pool, changed),
        CONDVAR,
    ));
    all.push(found(
        &format!("{path}.signal.1"),
        at + offset_of!(Pool, signal.1),
        PTHREAD_CONDVAR,
    ));
    all
}

#[test]
fn visit_reports_path_of_each_lock() {
    assert_eq!(reports::<Pool>(), expected_in_pool("", 0));
    assert_eq!(reports::<Pool>()[3].path, ".workers[3].lock");

    let first = offset_of!(Server, pools.0);
    let mut expected = expected_in_pool(".pools.0[0]", first);
    expected.extend(expected_in_pool(".pools.0[1]", first + size_of::<Pool>()));
    expected.extend(expected_in_pool(".pools.2", offset_of!(Server, pools.2)));
    expected.push(found(".type", offset_of!(Server, r#type), MUTEX));
    for (i, row) in (0..2).map(|i| (i, i * size_of::<[ShmMutex<u32>; 2]>())) {
        for (j, column) in (0..2).map(|j| (j, j * size_of::<ShmMutex<u32>>())) {
            expected.push(found(
                &format!(".grid[{i}][{j}]"),
                offset_of!(Server, grid) + row + column,
                MUTEX,
            ));
        }
    }
    assert_eq!(reports::<Server>(), expected);
}

#[test]
fn visit_offsets_match_placed_value() -> Result<(), Error> {
    let server = Segment::anonymous(Server::new(1, [0; 3]))?;
    let base = std::ptr::from_ref(&*server).addr();
    let mut mutexes: BTreeSet<usize> = server
        .workers()
        .map(|worker| worker.lock.as_pthread_ptr().addr() - base)
        .collect();
    mutexes.insert(server.r#type.as_pthread_ptr().addr() - base);
    for lock in server.grid.iter().flatten() {
        mutexes.insert(lock.as_pthread_ptr().addr() - base);
    }
    let condvars = server
        .pools()
        .map(|pool| std::ptr::from_ref(&pool.changed).addr() - base);
    let pthread_condvars = server
        .pools()
        .map(|pool| pool.signal.1.as_pthread_ptr().addr() - base);

    let offsets = |kind| -> BTreeSet<usize> {
        let all = reports::<Server>().into_iter();
        all.filter(|found| found.kind == kind)
            .map(|found| found.offset)
            .collect()
    };
    assert_eq!(offsets(MUTEX), mutexes);
    assert_eq!(offsets(CONDVAR), condvars.into());
    assert_eq!(offsets(PTHREAD_CONDVAR), pthread_condvars.into());
    Ok(())
}

#[test]
fn visit_of_plain_data_reports_nothing() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Unit;

    #[derive(ShmSafe)]
    #[repr(C)]
    struct Data {
        numbers: [u64; 4],
        atomic: AtomicU32,
        unit: Unit,
        none: [Worker; 0],
        raw: MaybeUninit<ShmMutex<u32>>,
    }

    #[derive(ShmSafe)]
    #[repr(u8)]
    #[allow(dead_code, reason = "only the layout matters")]
    enum Choice<T> {
        Nothing,
        Something(T, Unit),
    }

    assert_eq!(reports::<Data>(), []);
    assert_eq!(reports::<Unit>(), []);
    assert_eq!(reports::<Choice<u32>>(), []);
    assert_eq!(reports::<[Choice<Choice<u8>>; 3]>(), []);
}

#[test]
fn visit_of_generic_reports_its_argument() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Slots<T, const N: usize> {
        next: u8,
        slots: [T; N],
    }

    type Locks = Slots<ShmMutex<u8>, 2>;

    #[derive(ShmSafe)]
    #[repr(transparent)]
    struct Wrapper(Slots<Locks, 2>);

    let (outer, inner) = (offset_of!(Slots<Locks, 2>, slots), offset_of!(Locks, slots));
    let expected: Vec<Found> = (0..4)
        .map(|n| {
            let (i, j) = (n / 2, n % 2);
            found(
                &format!(".0.slots[{i}].slots[{j}]"),
                outer + i * size_of::<Locks>() + inner + j * size_of::<ShmMutex<u8>>(),
                MUTEX,
            )
        })
        .collect();
    assert_eq!(reports::<Wrapper>(), expected);
    assert_eq!(reports::<Slots<u32, 9>>(), []);
}

// --- Initialisation ---------------------------------------------------------

#[test]
fn nested_locks_are_initialised() -> Result<(), Error> {
    let inert = Server::new(1, [0; 3]);
    for worker in inert.workers() {
        assert!(matches!(worker.lock.try_lock(), Err(LockError::NotPlaced)));
    }

    let server = Segment::anonymous(inert)?;
    // All locks are held at once, so no two of them are the same lock.
    let mut held = Vec::new();
    for worker in server.workers() {
        held.push(worker.lock.lock()?);
    }
    let _type = server.r#type.lock()?;
    for lock in server.grid.iter().flatten() {
        drop(lock.lock()?);
    }
    for guard in &mut held {
        guard[0] += 1;
    }
    drop(held);

    for pool in server.pools() {
        pool.signal.1.notify_one();
        let guard = pool.workers[0].lock.lock()?;
        assert_eq!(*guard, [1, 0, 0]);
        // An uninitialised condition variable would return an error.
        let (guard, result) = pool
            .signal
            .1
            .wait_timeout(guard, Duration::from_millis(1))?;
        drop(guard);
        let _ = result.timed_out();
    }
    Ok(())
}

proptest! {
    #[test]
    fn segment_initialises_locks_and_keeps_data(
        version: u8,
        size: u32,
        data: [u16; 3],
    ) {
        let mut value = Server::new(version, data);
        value.pools.2.size = size;
        let server = Segment::anonymous(value)?;
        prop_assert_eq!(server.version, version);
        prop_assert_eq!(server.pools().map(|pool| pool.size), [1, 2, size]);
        prop_assert_eq!(server.pools.1, 7);
        for pool in server.pools() {
            prop_assert_eq!((pool.signal.0, pool.signal.2), (true, 5));
            for (id, worker) in pool.workers.iter().enumerate() {
                prop_assert_eq!(usize::from(worker.id), id);
                prop_assert_eq!(worker.heartbeats, u16::MAX - u16::from(worker.id));
                prop_assert_eq!(*worker.lock.lock()?, data);
            }
        }
        prop_assert_eq!(*server.r#type.lock()?, 8);
        for (n, lock) in server.grid.iter().flatten().enumerate() {
            prop_assert_eq!(*lock.lock()? as usize, n);
        }
    }
}
