//! The type table: it describes each type as the compiler lays it out.

use std::marker::PhantomData;
use std::mem::{MaybeUninit, align_of, offset_of, size_of};
use std::num::NonZero;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI8, AtomicU64};

use shm_sync::inspect::{self, Field, Type, Types};
use shm_sync::{
    CachePadded, Lifelines, PthreadCondvar, Published, Segment, ShmBarrier, ShmChannel, ShmCondvar,
    ShmEvent, ShmLifeline, ShmMutex, ShmOnceLock, ShmOption, ShmPipe, ShmRwLock, ShmSafe,
    ShmSemaphore, ShmString, ShmVec,
};

/// The length of a mutex without its data. It differs between processors.
const BARE_MUTEX: usize = size_of::<ShmMutex<()>>();

/// The length of a seat: a robust lock in cache lines of its own.
const SEAT: u64 = BARE_MUTEX.next_multiple_of(64) as u64;

fn types_in<T: shm_sync::SegmentContent + ?Sized>(segment: &Segment<T>) -> Types {
    let fd = Segment::as_fd(segment).expect("it is a memfd").as_raw_fd();
    let address = format!("/proc/{}/fd/{fd}", std::process::id());
    let address = address.parse().expect("it is an address");
    let types = inspect::types(&address).expect("it is readable");
    types.expect("the segment has a type table")
}

fn types_of<T: ShmSafe>(value: T) -> Types {
    types_in(&Segment::anonymous(value).expect("there is memory"))
}

/// Returns a field, and its type.
#[track_caller]
fn field<'a>(types: &'a Types, fields: &'a [Field], name: &str) -> (&'a Field, &'a Type) {
    let found = fields.iter().find(|field| field.name == name);
    let found = found.unwrap_or_else(|| panic!("{name} is in {fields:?}"));
    let of = types.type_of(found);
    (found, of.expect("the table has the types of its fields"))
}

/// Checks the offset of each field of a value of an enum.
macro_rules! check_variant {
    ($types:ident, $value:expr, $variant:ident { $($member:tt: $binding:ident),* }) => {{
        let value = Box::new($value);
        let types = &$types;
        let variants = &types.root().variants;
        let name = stringify!($variant);
        let variant = variants.iter().find(|variant| variant.name == name);
        let variant = variant.unwrap_or_else(|| panic!("{name} is in {variants:?}"));
        let Enum::$variant { $($member: $binding),* } = &*value else {
            panic!("the value is of the variant {name}");
        };
        let base = std::ptr::from_ref(&*value).addr();
        let _ = (variant, base); // unused without fields
        $(
            let expected = std::ptr::from_ref($binding).addr() - base;
            let (found, of) = field(types, &variant.fields, stringify!($member));
            assert_eq!(found.offset, expected as u64, "{} of {name}", stringify!($member));
            assert_eq!(of.size, size_of_val($binding) as u64, "{}", stringify!($member));
        )*
    }};
}

/// Declares an enum with this `repr`, and compares the offsets with real addresses.
macro_rules! check_enum {
    ($repr:meta) => {{
        #[derive(ShmSafe, Clone, Copy)]
        #[repr(C)]
        struct Triple {
            a: u8,
            b: u16,
            c: u8,
        }

        #[derive(ShmSafe, Clone, Copy)]
        #[repr(C, align(32))]
        struct Wide(u8);

        #[derive(ShmSafe, Clone, Copy)]
        #[$repr]
        #[allow(dead_code, reason = "the macro names not every variant")]
        enum Enum {
            Unit,
            Small(u8, u16, u8, u32),
            Bytes { a: u8, b: [u8; 3], c: u8 },
            Large { first: u8, second: u128, third: u8 },
            Nested(u8, Triple, u8, (u8, u32)),
            Empty((), u8, [u64; 0], u8),
            Wide { a: u16, wide: Wide, b: u64 },
        }

        let types = types_of(Enum::Unit);
        let root = types.root();
        assert_eq!(root.size, size_of::<Enum>() as u64, "{}", stringify!($repr));
        assert_eq!(
            root.align,
            align_of::<Enum>() as u64,
            "{}",
            stringify!($repr)
        );
        check_variant!(types, Enum::Unit, Unit {});
        check_variant!(
            types,
            Enum::Small(1, 2, 3, 4),
            Small {
                0: a,
                1: b,
                2: c,
                3: d
            }
        );
        check_variant!(
            types,
            Enum::Bytes {
                a: 1,
                b: [2; 3],
                c: 3
            },
            Bytes { a: a, b: b, c: c }
        );
        check_variant!(
            types,
            Enum::Large {
                first: 1,
                second: 2,
                third: 3
            },
            Large {
                first: a,
                second: b,
                third: c
            }
        );
        let triple = Triple { a: 1, b: 2, c: 3 };
        check_variant!(
            types,
            Enum::Nested(1, triple, 2, (3, 4)),
            Nested {
                0: a,
                1: b,
                2: c,
                3: d
            }
        );
        check_variant!(
            types,
            Enum::Empty((), 1, [], 2),
            Empty {
                0: a,
                1: b,
                2: c,
                3: d
            }
        );
        check_variant!(
            types,
            Enum::Wide {
                a: 1,
                wide: Wide(2),
                b: 3
            },
            Wide {
                a: a,
                wide: b,
                b: c
            }
        );
    }};
}

/// The same without the types of a large alignment.
macro_rules! check_small_enum {
    ($repr:meta) => {{
        #[derive(ShmSafe, Clone, Copy)]
        #[$repr]
        enum Enum {
            Unit,
            Two(u8, u16),
            Three { a: u8, b: u8, c: u16 },
        }

        let types = types_of(Enum::Unit);
        check_variant!(types, Enum::Two(1, 2), Two { 0: a, 1: b });
        check_variant!(
            types,
            Enum::Three { a: 1, b: 2, c: 3 },
            Three { a: a, b: b, c: c }
        );
    }};
}

#[test]
fn fields_of_variants_are_at_their_addresses() {
    check_enum!(repr(u8));
    check_enum!(repr(i16));
    check_enum!(repr(u32));
    check_enum!(repr(isize));
    check_enum!(repr(u128));
    check_enum!(repr(C, u8));
    check_enum!(repr(C, i16));
    check_enum!(repr(u32, C));
    check_enum!(repr(C, u64));
    check_enum!(repr(C, i128));
    check_enum!(repr(u8, align(64)));
    check_enum!(repr(C, u8, align(64)));
    check_small_enum!(repr(u8));
    check_small_enum!(repr(u16));
    check_small_enum!(repr(u64));
    check_small_enum!(repr(C, u8));
    check_small_enum!(repr(C, u32));
    check_small_enum!(repr(u8, align(16)));
    check_small_enum!(repr(C, u8, align(16)));
}

#[test]
fn discriminants_are_signed_and_wide() {
    #[derive(ShmSafe)]
    #[repr(i8)]
    #[allow(dead_code, reason = "only the layout matters")]
    enum Level {
        Low = -7,
        Next,
        High = 100,
    }

    #[derive(ShmSafe)]
    #[repr(u128)]
    #[allow(dead_code, reason = "only the layout matters")]
    enum Huge {
        Largest = u128::MAX,
    }

    let types = types_of(Level::Low);
    let found = types.root().variants.iter();
    let found: Vec<_> = found.map(|v| (v.name.as_str(), v.discriminant)).collect();
    assert_eq!(found, [("Low", -7), ("Next", -6), ("High", 100)]);
    let (repr, of) = field(&types, &types.root().fields, "i8");
    assert_eq!((repr.offset, of.kind.as_str()), (0, "i8"));
    let types = types_of(Huge::Largest);
    assert_eq!(types.root().variants[0].discriminant as u128, u128::MAX);
}

/// The kinds that a program in another language looks for, and what it finds there.
#[test]
fn each_public_type_has_its_kind_and_its_parts() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct All {
        mutex: ShmMutex<u8>,
        condvar: ShmCondvar,
        pthread_condvar: PthreadCondvar,
        event: ShmEvent,
        semaphore: ShmSemaphore<3>,
        lifeline: ShmLifeline,
        lifelines: Lifelines<5>,
        barrier: ShmBarrier<2>,
        rwlock: ShmRwLock<CachePadded<u16>, 7>,
        once: ShmOnceLock<u32>,
        published: Published<u64>,
        channel: ShmChannel<(u8, u64), 9, 1, 2>,
        pipe: ShmPipe<100>,
        string: ShmString<20>,
        list: ShmVec<u16, 6>,
        option: ShmOption<i32>,
        padded: CachePadded<i64>,
        atomic: AtomicU64,
        signed_atomic: AtomicI8,
        non_zero: NonZero<u16>,
        maybe: MaybeUninit<u128>,
        phantom: PhantomData<u8>,
        unit: (),
    }

    let types = types_of(All {
        mutex: ShmMutex::new(0),
        condvar: ShmCondvar::new(),
        pthread_condvar: PthreadCondvar::new(),
        event: ShmEvent::manual_reset(),
        semaphore: ShmSemaphore::new(),
        lifeline: ShmLifeline::new(),
        lifelines: Lifelines::new(),
        barrier: ShmBarrier::new(),
        rwlock: ShmRwLock::new(CachePadded::new(0)),
        once: ShmOnceLock::new(),
        published: Published::new(0),
        channel: ShmChannel::new(),
        pipe: ShmPipe::new(),
        string: ShmString::new(),
        list: ShmVec::new(),
        option: ShmOption::none(),
        padded: CachePadded::new(0),
        atomic: AtomicU64::new(0),
        signed_atomic: AtomicI8::new(0),
        non_zero: NonZero::<u16>::MIN,
        maybe: MaybeUninit::zeroed(),
        phantom: PhantomData,
        unit: (),
    });
    let inside = |of: &Type, names: &[(&str, usize)]| {
        let found = of
            .fields
            .iter()
            .map(|f| (f.name.as_str(), f.offset as usize));
        assert_eq!(found.collect::<Vec<_>>(), names, "{}", of.kind);
    };
    let of = |name: &str| field(&types, &types.root().fields, name).1;
    let kinds = types.root().fields.iter().map(|field| {
        let of = types.type_of(field).expect("it is of this table");
        (field.name.as_str(), of.kind.as_str(), of.size)
    });
    let expected = [
        ("mutex", "ShmMutex", BARE_MUTEX as u64 + 8),
        ("condvar", "ShmCondvar", 16),
        (
            "pthread_condvar",
            "PthreadCondvar",
            size_of::<PthreadCondvar>() as u64,
        ),
        ("event", "ShmEvent", 24),
        ("semaphore", "ShmSemaphore", 64 + SEAT * 4),
        ("lifeline", "ShmLifeline", SEAT + 64),
        ("lifelines", "Lifelines", 64 + SEAT * 5),
        ("barrier", "ShmBarrier", 64 + SEAT * 3),
        (
            "rwlock",
            "ShmRwLock",
            size_of::<ShmRwLock<CachePadded<u16>, 7>>() as u64,
        ),
        ("once", "ShmOnceLock", SEAT + 64),
        ("published", "Published", SEAT + 64),
        (
            "channel",
            "ShmChannel",
            size_of::<ShmChannel<(u8, u64), 9, 1, 2>>() as u64,
        ),
        ("pipe", "ShmPipe", size_of::<ShmPipe<100>>() as u64),
        ("string", "ShmString", 24),
        ("list", "ShmVec", 16),
        ("option", "ShmOption", 8),
        ("padded", "CachePadded", 128),
        ("atomic", "AtomicU64", 8),
        ("signed_atomic", "AtomicI8", 1),
        ("non_zero", "NonZero", 2),
        ("maybe", "MaybeUninit", 16),
        ("phantom", "PhantomData", 0),
        ("unit", "()", 0),
    ];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);

    inside(of("mutex"), &[("data", BARE_MUTEX)]);
    let readers = 2 * SEAT as usize + 64;
    let data = (readers + 7 * SEAT as usize).next_multiple_of(align_of::<CachePadded<u16>>());
    inside(of("rwlock"), &[("readers", readers), ("data", data)]);
    let (readers, _) = field(&types, &of("rwlock").fields, "readers");
    let readers = types.type_of(readers).expect("it is of this table");
    inside(readers, &[("0", 7)]);
    inside(of("once"), &[("value", SEAT as usize + 4)]);
    inside(of("published"), &[("slots", SEAT as usize + 24)]);
    inside(of("string"), &[("len", 0), ("bytes", 4)]);
    inside(of("list"), &[("len", 0), ("elements", 4)]);
    inside(of("option"), &[("is_some", 0), ("value", 4)]);
    inside(of("padded"), &[("value", 0)]);
    inside(of("non_zero"), &[("0", 0)]);

    let channel = of("channel");
    let seat = SEAT as usize;
    let door = (seat + 64).next_multiple_of(128);
    let side = |seats: usize| (door + 128 + seat * seats).next_multiple_of(128);
    let (receivers, end) = (side(1), side(1) + side(2));
    inside(
        channel,
        &[("senders", 0), ("receivers", receivers), ("slots", end)],
    );
    let (_, slots) = field(&types, &channel.fields, "slots");
    inside(slots, &[("0", 9)]);
    let (_, message) = field(&types, &slots.fields, "0");
    assert_eq!((message.kind.as_str(), message.size), ("tuple", 16));
    for (side, seats) in [("senders", 1), ("receivers", 2)] {
        let (_, side) = field(&types, &channel.fields, side);
        assert_eq!(side.kind, "Side");
        let parts = [
            ("lock", 0),
            ("index", seat),
            ("known", seat + 8),
            ("asleep", door),
            ("is_left", door + 16),
            ("arrivals", door + 24),
            ("seats", door + 128),
        ];
        inside(side, &parts);
        let (_, array) = field(&types, &side.fields, "seats");
        inside(array, &[("0", seats)]);
    }
    let (_, inner) = field(&types, &of("pipe").fields, "channel");
    assert_eq!(inner.kind, "ShmChannel");
    assert_eq!(
        types.root().fields[1].offset as usize,
        offset_of!(All, condvar)
    );
}

#[test]
fn variable_lengths_are_described() {
    type Table = shm_sync::WithTail<u8, ShmMutex<[u64]>>;
    let options = Segment::<Table>::options();
    let segment = options.anonymous_with_len("table", 3, |_| {});
    let types = types_in(&segment.expect("there is memory"));
    let root = types.root();
    assert_eq!(
        (root.kind.as_str(), root.size, root.align),
        ("with tail", 0, 8)
    );
    assert!(root.is_variable());
    let (tail, mutex) = field(&types, &root.fields, "tail");
    assert_eq!(
        (tail.offset, mutex.kind.as_str(), mutex.size),
        (8, "ShmMutex", 0)
    );
    let (data, slice) = field(&types, &mutex.fields, "data");
    assert_eq!(
        (data.offset, slice.kind.as_str()),
        (BARE_MUTEX as u64, "slice")
    );
    let (element, of) = field(&types, &slice.fields, "0");
    assert_eq!((element.offset, of.kind.as_str()), (8, "u64"));
}

/// The sizes of these types are equal, because they are rounded up.
#[test]
fn numbers_of_seats_differ_where_sizes_do_not() {
    /// A multiple of two seats, on each processor.
    #[derive(Clone, Copy, ShmSafe)]
    #[repr(C, align(256))]
    struct Wide(u8);

    type One = ShmChannel<Wide, 4, 1, 2>;
    type Two = ShmChannel<Wide, 4, 2, 2>;
    assert_eq!(size_of::<One>(), size_of::<Two>());
    assert_ne!(One::FINGERPRINT, Two::FINGERPRINT, "senders");
    type Odd = ShmRwLock<Wide, 2>;
    type Even = ShmRwLock<Wide, 3>;
    assert_eq!(size_of::<Odd>(), size_of::<Even>());
    assert_ne!(Odd::FINGERPRINT, Even::FINGERPRINT, "readers");
}
