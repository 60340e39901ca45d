//! `inspect::values`: the values in a segment, read by its type table.

use std::mem::MaybeUninit;
use std::num::NonZero;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicI32};

use shm_sync::inspect::{self, Value, Values};
use shm_sync::{
    CachePadded, Published, Segment, SegmentContent, ShmCondvar, ShmMutex, ShmOnceLock, ShmOption,
    ShmRwLock, ShmSafe, ShmString, ShmVec, WithTail,
};

fn values_of<T: SegmentContent + ?Sized>(segment: &Segment<T>, limit: usize) -> Values {
    let fd = Segment::as_fd(segment).expect("it is a memfd").as_raw_fd();
    let address = format!("/proc/{}/fd/{fd}", std::process::id());
    let address = address.parse().expect("it is an address");
    let values = inspect::values(&address, limit).expect("it is readable");
    values.expect("the segment has a type table")
}

/// Returns the paths and the values, as they are displayed.
fn lines(values: &Values) -> Vec<String> {
    let fields = values.fields.iter();
    fields
        .map(|field| format!("{} = {}", field.path, field.value))
        .collect()
}

fn shown<T: ShmSafe>(value: T) -> Vec<String> {
    let segment = Segment::anonymous(value).expect("there is memory");
    let values = values_of(&segment, 1000);
    assert!(!values.is_cut, "{values:?}");
    lines(&values)
}

#[derive(ShmSafe, Clone, Copy)]
#[repr(i16)]
enum State {
    Idle = -3,
    Busy { since: u32, by: (u8, bool) },
}

#[test]
fn smoke() {
    let value = (ShmMutex::new((7_u64, State::Idle)), ShmCondvar::new());
    assert_eq!(shown(value), [".0.data.0 = 7", ".0.data.1 = Idle"]);
    let value = ShmMutex::new(State::Busy {
        since: 9,
        by: (1, true),
    });
    let expected = [
        ".data = Busy",
        ".data::Busy.since = 9",
        ".data::Busy.by.0 = 1",
        ".data::Busy.by.1 = true",
    ];
    assert_eq!(shown(value), expected);
}

#[test]
fn each_kind_of_type_has_its_value() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct All {
        numbers: (u8, i8, u128, i128, f32, f64),
        letter: char,
        atomic: AtomicI32,
        flag: AtomicBool,
        non_zero: NonZero<u16>,
        maybe: MaybeUninit<u16>,
        padded: CachePadded<ShmMutex<i64>>,
        text: ShmString<9>,
        list: ShmVec<u16, 5>,
        pairs: ShmVec<(u8, u8), 3>,
        empty: ShmVec<(u8, u8), 3>,
        none: ShmOption<u64>,
        some: ShmOption<u64>,
        rwlock: ShmRwLock<u32, 2>,
        unmade: ShmOnceLock<u32>,
        made: ShmOnceLock<u64>,
        published: Published<u64>,
        unit: (),
    }

    let mut list = ShmVec::new();
    list.try_extend_from_slice(&[1, 2]).expect("it fits");
    let mut pairs = ShmVec::new();
    pairs.try_push((3, 4)).expect("it fits");
    let segment = Segment::anonymous(All {
        numbers: (200, -3, u128::MAX, i128::MIN, 0.1, -0.5),
        letter: '\u{1b}',
        atomic: AtomicI32::new(-7),
        flag: AtomicBool::new(true),
        non_zero: NonZero::<u16>::MAX,
        maybe: MaybeUninit::new(0x201),
        padded: CachePadded::new(ShmMutex::new(-9)),
        text: ShmString::try_from("a\"\u{202e}").expect("it fits"),
        list,
        pairs,
        empty: ShmVec::new(),
        none: ShmOption::none(),
        some: ShmOption::some(5),
        rwlock: ShmRwLock::new(6),
        unmade: ShmOnceLock::new(),
        made: ShmOnceLock::new(),
        published: Published::new(1),
        unit: (),
    });
    let segment = segment.expect("there is memory");
    segment
        .made
        .get_or_init(|| 8)
        .expect("no other process makes it");
    for value in 2..7 {
        segment
            .published
            .publish(value)
            .expect("no other process publishes");
        assert!(
            lines(&values_of(&segment, 1000)).contains(&format!(".published = {value}")),
            "the latest value is shown"
        );
    }
    let expected = [
        ".numbers.0 = 200",
        ".numbers.1 = -3",
        ".numbers.2 = 340282366920938463463374607431768211455",
        ".numbers.3 = -170141183460469231731687303715884105728",
        ".numbers.4 = 0.1",
        ".numbers.5 = -0.5",
        ".letter = '\\u{1b}'",
        ".atomic = -7",
        ".flag = true",
        ".non_zero = 65535",
        ".maybe = 0102",
        ".padded.data = -9",
        ".text = \"a\"\\u{202e}\"",
        ".list = [1, 2]",
        ".pairs[0].0 = 3",
        ".pairs[0].1 = 4",
        ".empty = []",
        ".none = none",
        ".some = 5",
        ".rwlock.data = 6",
        ".unmade = none",
        ".made.value = 8",
        ".published = 6",
    ];
    assert_eq!(lines(&values_of(&segment, 1000)), expected);
}

#[test]
fn long_values_are_shortened_with_a_mark() {
    let text: String = "x".repeat(300);
    let text = ShmString::<300>::try_from(text.as_str()).expect("it fits");
    let found = shown((text, [1_u8; 20], [[2_u16; 2]; 17]));
    assert!(found[0].ends_with("xx\" … 44 more bytes"), "{found:?}");
    assert!(found[1].ends_with("1, 1 … 4 more elements]"), "{found:?}");
    assert_eq!(found[2], ".2[0] = [2, 2]");
    assert_eq!(found[17], ".2[15] = [2, 2]");
    assert_eq!(found[18], ".2[16…] = … 1 more elements");
    assert_eq!(found.len(), 19);
}

#[test]
fn limit_cuts_the_list() {
    let segment = Segment::anonymous([[(1_u8, 2_u8); 3]; 3]).expect("there is memory");
    let all = values_of(&segment, 18);
    assert!(!all.is_cut && all.fields.len() == 18, "{all:?}");
    let some = values_of(&segment, 17);
    assert!(some.is_cut, "{some:?}");
    assert_eq!(some.fields, all.fields[..17]);
    let none = values_of(&segment, 0);
    assert!(none.is_cut && none.fields.is_empty(), "{none:?}");
}

#[test]
fn variable_lengths_have_their_elements() {
    type Table = WithTail<u16, ShmMutex<[u32]>>;
    let options = Segment::<Table>::options();
    let segment = options.anonymous_with_len("table", 3, |table| {
        table.head = 5;
        table.tail.get_mut().copy_from_slice(&[6, 7, 8]);
    });
    let values = values_of(&segment.expect("there is memory"), 100);
    assert_eq!(lines(&values), [".head = 5", ".tail.data = [6, 7, 8]"]);
    let offsets: Vec<u64> = values.fields.iter().map(|field| field.offset).collect();
    assert_eq!(offsets, [0, 8 + size_of::<ShmMutex<()>>() as u64]);

    let options = Segment::<[(u8, u8)]>::options();
    let empty = options.anonymous_with_len("empty", 0, |_| {});
    let values = values_of(&empty.expect("there is memory"), 100);
    assert_eq!(lines(&values), [" = []"]);
    let field = &values.fields[0];
    assert_eq!((field.path.as_str(), field.offset), ("", 0));
    let expected = Value::List {
        elements: Vec::new(),
        omitted: 0,
    };
    assert_eq!(field.value, expected);
}
