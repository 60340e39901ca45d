//! What is in an object: noise, parts of good ones, and good ones of which a field
//! says something else.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shm_sync::{Backing, CorruptHeader};

use Verdict::{Corrupt, Good, NotASegment, OtherFormat, OtherLayout, OtherNamespace};

use super::ways::{
    Counter, Expected, Verdict, Way, attempt, bytes_of, check_briefly, holdings, patch, put,
    put_good,
};
use crate::support::{Random, TestAddress, on_stage};

/// The length of a segment's header in bytes; the directory follows.
const HEADER: usize = 448;
/// Where a header says what becomes of the object when nobody is attached.
const REMOVAL: usize = 17;
/// The magic, and the format version after it.
const FORMAT_END: usize = 12;
/// The part of a System V segment's header that is alive: its state, and a lock.
const LIVE: std::ops::Range<usize> = 192..256;
/// The state that says that a System V segment is complete.
const BORN: u32 = 2;
/// The part of a mutex that is no data, in bytes.
const BARE_MUTEX: u64 = 64;

/// A good object, to be spoilt.
struct Specimen {
    address: TestAddress,
    bytes: Vec<u8>,
}

impl Specimen {
    fn of(kind: Backing) -> Self {
        Self::from(TestAddress::new(kind, "hostile"))
    }

    fn number(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }

    /// Looks at it with some bytes changed.
    fn check_with(&self, what: &str, at: usize, changed: &[u8], expected: &Expected) {
        patch(&self.address, at, changed);
        check_briefly::<Counter>(what, &self.address, expected);
        patch(&self.address, 0, &self.bytes);
    }
}

impl From<TestAddress> for Specimen {
    fn from(address: TestAddress) -> Self {
        put_good::<Counter>(&address);
        let bytes = bytes_of(&address);
        Self { address, bytes }
    }
}

fn specimens() -> impl Iterator<Item = Specimen> {
    TestAddress::of_each_kind("hostile")
        .into_iter()
        .map(Specimen::from)
}

/// A number in the header, and what becomes of an object in which it is another.
struct Field {
    name: &'static str,
    at: usize,
    len: usize,
    judge: fn(u64, &Specimen) -> Expected,
}

const FIELDS: [Field; 21] = [
    Field {
        name: "format version",
        at: 8,
        len: 4,
        judge: |_, _| Expected::all(OtherFormat),
    },
    Field {
        name: "libc",
        at: 12,
        len: 1,
        judge: of_another_platform,
    },
    Field {
        name: "endianness",
        at: 13,
        len: 1,
        judge: of_another_platform,
    },
    Field {
        name: "pointer width",
        at: 14,
        len: 1,
        judge: of_another_platform,
    },
    Field {
        name: "size of a pthread_mutex_t",
        at: 15,
        len: 1,
        judge: of_another_platform,
    },
    Field {
        name: "size of a pthread_cond_t",
        at: 16,
        len: 1,
        judge: of_another_platform,
    },
    Field {
        name: "pid namespace",
        at: 20,
        len: 4,
        judge: |namespace, object| match namespace {
            0 => Expected::all(Corrupt(CorruptHeader::NoPidNamespace)),
            // Nobody is attached, so the locks are made anew.
            _ if object.address.kind() == Backing::SystemV => Expected::all(Good),
            _ => Expected {
                writer: match object.address.kind() {
                    Backing::SystemV => OtherNamespace,
                    // Its processes are gone, and its locks are brought back to life.
                    _ => Good,
                },
                ..Expected::all(Good)
            },
        },
    },
    Field {
        name: "length of the object",
        at: 24,
        len: 8,
        judge: |claimed, object| {
            let actual = object.bytes.len() as u64;
            Expected::all(Corrupt(CorruptHeader::WrongSize { claimed, actual }))
        },
    },
    // Any that is aligned would be outside the object.
    Field {
        name: "offset of the value",
        at: 32,
        len: 8,
        judge: |_, _| Expected::all(Corrupt(CorruptHeader::MisplacedValue)),
    },
    Field {
        name: "size of the value",
        at: 40,
        len: 8,
        judge: |size, object| {
            let room = object.bytes.len() as u64 - object.number(32);
            match size {
                _ if size > room => Expected::all(Corrupt(CorruptHeader::MisplacedValue)),
                _ if size >= BARE_MUTEX => Expected::for_users(OtherLayout),
                // The directory has a mutex in it.
                _ => Expected {
                    writer: OtherLayout,
                    reader: OtherLayout,
                    ..Expected::all(Corrupt(CorruptHeader::MisplacedObject))
                },
            }
        },
    },
    Field {
        name: "alignment of the value",
        at: 48,
        len: 8,
        judge: |align, object| {
            let is_possible = align.is_power_of_two() && object.number(32).is_multiple_of(align);
            match is_possible {
                true => Expected::for_users(OtherLayout),
                false => Expected::all(Corrupt(CorruptHeader::MisplacedValue)),
            }
        },
    },
    Field {
        name: "fingerprint",
        at: 56,
        len: 8,
        judge: |_, _| Expected::for_users(OtherLayout),
    },
    Field {
        name: "creator",
        at: 92,
        len: 4,
        judge: for_people,
    },
    Field {
        name: "length of the type's name",
        at: 96,
        len: 4,
        judge: |len, _| match len {
            0..=192 => Expected::all(Good),
            _ => Expected::all(Corrupt(CorruptHeader::UnreadableTypeName)),
        },
    },
    Field {
        name: "number of elements",
        at: 72,
        len: 8,
        judge: |_, _| Expected::for_users(OtherLayout),
    },
    Field {
        name: "time of creation",
        at: 80,
        len: 8,
        judge: for_people,
    },
    // Users don't read the directory, but they see that it ends before the value.
    Field {
        name: "length of the directory",
        at: 88,
        len: 4,
        judge: |len, object| match len {
            0 => Expected::all(Good),
            _ if HEADER as u64 + len > object.number(32) => {
                Expected::all(Corrupt(CorruptHeader::MisplacedValue))
            }
            _ => Expected::for_tool(Corrupt(CorruptHeader::UnreadableLockTable)),
        },
    },
    // Then it is taken for a copy, and its locks are brought back to life.
    Field {
        name: "device",
        at: 104,
        len: 8,
        judge: |_, _| Expected::all(Good),
    },
    Field {
        name: "inode number",
        at: 112,
        len: 8,
        judge: |_, _| Expected::all(Good),
    },
    Field {
        name: "boot",
        at: 128,
        len: 8,
        judge: |_, _| Expected::all(Good),
    },
    Field {
        name: "birth of the file",
        at: 136,
        len: 8,
        judge: |_, _| Expected::all(Good),
    },
];

fn of_another_platform(_: u64, _: &Specimen) -> Expected {
    Expected {
        lock: NotASegment,
        ..Expected::for_users(OtherLayout)
    }
}

fn for_people(_: u64, _: &Specimen) -> Expected {
    Expected::all(Good)
}

impl Field {
    fn max(&self) -> u64 {
        u64::MAX >> (64 - 8 * self.len)
    }

    /// The numbers that break those who calculate with them.
    fn nasty(&self, original: u64) -> Vec<u64> {
        let max = self.max();
        let mut numbers = vec![0, 1, max, max - 7, (max >> 1) + 1, 1 << 47 & max];
        numbers.extend([
            original.wrapping_sub(1) & max,
            original.wrapping_add(1) & max,
        ]);
        numbers.retain(|number| *number != original);
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

fn check_numbers_in(kind: Backing) {
    let object = Specimen::of(kind);
    for field in &FIELDS {
        let original = object.number(field.at) & field.max();
        for number in field.nasty(original) {
            let what = format!("{} = {number:#x}", field.name);
            let changed = &number.to_le_bytes()[..field.len];
            let expected = (field.judge)(number, &object);
            object.check_with(&what, field.at, changed, &expected);
        }
    }
}

/// Fills objects with what is no segment, and with parts of one.
fn check_noise_in(kind: Backing) {
    let mut random = Random::new(25);
    let mut noise = |len: usize| {
        (0..len)
            .map(|_| random.below(256) as u8)
            .collect::<Vec<_>>()
    };
    let nothing = Expected::all(NotASegment);
    // The tool tells what was cut off; of System V segments, which nobody can cut,
    // it reads the whole header or nothing.
    let part_of = |len: usize| {
        let (claimed, actual) = (HEADER as u64, len as u64);
        let cut = Corrupt(CorruptHeader::WrongSize { claimed, actual });
        match kind {
            Backing::SystemV => nothing,
            _ => Expected {
                tool: cut,
                lock: cut,
                ..nothing
            },
        }
    };
    let good = Specimen::of(kind).bytes;
    let resized = |len: usize| {
        let mut bytes = good.clone();
        bytes.resize(len, 0);
        let (claimed, actual) = (good.len() as u64, len as u64);
        (
            bytes,
            Expected::all(Corrupt(CorruptHeader::WrongSize { claimed, actual })),
        )
    };
    let mut cases = vec![
        (vec![0], nothing),
        (vec![0; HEADER], nothing),
        (vec![0; 100_000], nothing),
        (vec![0xff; 8192], nothing),
        (vec![b'\n'; HEADER - 1], nothing),
        (noise(HEADER), nothing),
        (noise(100_000), nothing),
        (good[..7].to_vec(), nothing),
        (good[1..].to_vec(), nothing),
        (good[..8].to_vec(), part_of(8)),
        (good[..FORMAT_END].to_vec(), part_of(FORMAT_END)),
        (good[..HEADER - 1].to_vec(), part_of(HEADER - 1)),
        resized(HEADER),
        resized(HEADER + 1),
        resized(good.len() - 1),
        resized(good.len() + 1),
        resized(100_000),
    ];
    if kind != Backing::SystemV {
        cases.push((Vec::new(), nothing));
    }
    for (bytes, expected) in cases {
        let address = TestAddress::new(kind, "hostile");
        put(&address, &bytes);
        let what = format!("{} bytes, {:?}", bytes.len(), &bytes[..bytes.len().min(9)]);
        check_briefly::<Counter>(&what, &address, &expected);
    }
}

/// Changes some bytes of header and directory at random, and tries a way.
fn check_changes_of(kind: Backing) {
    let object = Specimen::of(kind);
    let end = usize::try_from(object.number(32)).unwrap();
    // Who may write to a segment is trusted with the lock there.
    let is_alive = move |at: &usize| kind == Backing::SystemV && LIVE.contains(at);
    let place = (0..end).prop_filter("it is alive", move |at| !is_alive(at));
    let byte = prop_oneof![any::<u8>(), Just(0), Just(1), Just(u8::MAX)];
    let changes = prop::collection::vec((place, byte), 1..6);
    // It may say that it goes with the last one attached, and then it is gone.
    let changes = changes.prop_filter("it would be removed", |changes| {
        !changes.contains(&(REMOVAL, 1))
    });
    let way = prop_oneof![
        3 => prop::sample::select(vec![Way::Open, Way::OpenReadOnly, Way::Snapshot]),
        1 => prop::sample::select(vec![Way::Details, Way::SyncObject]),
    ];
    let held = holdings();
    let config = Config {
        cases: cases(),
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&(changes, way), |(changes, way)| {
        for (at, byte) in &changes {
            patch(&object.address, *at, &[*byte]);
        }
        // It panics if the error is of a kind that no bad object has.
        let _ = attempt::<Counter>(way, &object.address);
        prop_assert_eq!(&holdings(), &held);
        patch(&object.address, 0, &object.bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{}: {error}", &*object.address));
}

/// How often each object is changed at random.
fn cases() -> u32 {
    let cases = crate::support::number_from_env("PROPTEST_CASES").unwrap_or(300);
    u32::try_from(cases).unwrap()
}

on_stage! {
    // Failure modes 22 and 25.
    fn a_number_in_the_header_of_a_posix_object_is_believed_only_if_it_can_be_true() {
        check_numbers_in(Backing::Posix);
    }

    fn a_number_in_the_header_of_a_file_is_believed_only_if_it_can_be_true() {
        check_numbers_in(Backing::File);
    }

    fn a_number_in_the_header_of_a_system_v_segment_is_believed_only_if_it_can_be_true() {
        check_numbers_in(Backing::SystemV);
    }

    fn a_byte_that_means_something_is_checked() {
        for object in specimens() {
            for at in 0..8 {
                let changed = [object.bytes[at] ^ 0x20];
                let expected = Expected::all(NotASegment);
                object.check_with(&format!("magic, byte {at}"), at, &changed, &expected);
            }
            let expected = Expected::all(Corrupt(CorruptHeader::UnknownRemoval));
            for code in [2, 3, 0x80, u8::MAX] {
                object.check_with(&format!("removal {code}"), REMOVAL, &[code], &expected);
            }
            let expected = Expected::all(Corrupt(CorruptHeader::UnreadableTypeName));
            object.check_with("a name that is no UTF-8", 256, &[0xff], &expected);
        }
    }

    fn the_life_of_a_system_v_segment_is_believed_only_if_there_is_such_a_state() {
        let object = Specimen::of(Backing::SystemV);
        // A claim of the dead, and a segment whose locks a dead process made anew.
        for state in [5_u32, 0x0100_0005, 0xffff_ff05, 6] {
            let what = format!("state {state}");
            object.check_with(&what, LIVE.start, &state.to_le_bytes(), &Expected::all(Good));
        }
        for state in [7, 0x0106, u32::MAX, u32::from_be(BORN)] {
            let what = format!("state {state}");
            // The header is good all the same, and the tool only reads.
            let expected = Expected::for_users(NotASegment);
            object.check_with(&what, LIVE.start, &state.to_le_bytes(), &expected);
        }
        // Of files, nobody looks at it.
        for kind in [Backing::Posix, Backing::File] {
            let object = Specimen::of(kind);
            let expected = Expected::all(Good);
            object.check_with("a live part", LIVE.start, &[0xff; LIVE.end - LIVE.start], &expected);
        }
    }

    fn a_directory_may_say_anything() {
        use CorruptHeader::{MisplacedObject, UnreadableLockTable};
        /// Where the parts of its one entry are, and what they become.
        const CASES: [(&str, usize, &[u8], CorruptHeader); 14] = [
            ("no kind", 0, &[0], UnreadableLockTable),
            ("an unknown kind", 0, &[0xff], UnreadableLockTable),
            ("an array more", 1, &[2], UnreadableLockTable),
            ("many arrays", 1, &[0xff], UnreadableLockTable),
            ("no array, and what is left is no path", 1, &[0], UnreadableLockTable),
            ("a longer path", 2, &[3], UnreadableLockTable),
            ("the longest path", 2, &[0xff; 2], UnreadableLockTable),
            ("nothing", 4, &[0; 4], MisplacedObject),
            ("the largest object", 4, &[0xff; 4], MisplacedObject),
            ("the furthest", 8, &[0xff; 8], MisplacedObject),
            ("none of them", 16, &[0; 8], MisplacedObject),
            ("the most", 16, &[0xff; 8], MisplacedObject),
            ("the furthest apart", 24, &[0xff; 8], MisplacedObject),
            ("a path that is no UTF-8", 32, &[0xff], UnreadableLockTable),
        ];
        for address in TestAddress::of_each_kind("hostile") {
            put_good::<[Counter; 3]>(&address);
            let bytes = bytes_of(&address);
            for (what, at, changed, damage) in CASES {
                patch(&address, HEADER + at, changed);
                let expected = Expected::for_tool(Corrupt(damage));
                check_briefly::<[Counter; 3]>(what, &address, &expected);
                patch(&address, 0, &bytes);
            }
        }
    }

    // Failure mode 25.
    fn noise_and_parts_are_no_posix_objects() {
        check_noise_in(Backing::Posix);
    }

    fn noise_and_parts_are_no_files() {
        check_noise_in(Backing::File);
    }

    fn noise_and_parts_are_no_system_v_segments() {
        check_noise_in(Backing::SystemV);
    }

    fn any_change_of_a_posix_object_is_an_error_or_harmless() {
        check_changes_of(Backing::Posix);
    }

    fn any_change_of_a_file_is_an_error_or_harmless() {
        check_changes_of(Backing::File);
    }

    fn any_change_of_a_system_v_segment_is_an_error_or_harmless() {
        check_changes_of(Backing::SystemV);
    }

    #[cfg(feature = "cli")]
    fn the_tool_names_what_it_can_not_read() {
        for object in specimens() {
            patch(&object.address, 24, &[0xff; 8]);
            let mut tool = std::process::Command::new(env!("CARGO_BIN_EXE_shm-sync"));
            let output = tool.args(["show", &object.address]).output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            let is_named = text.contains(&*object.address) || text.contains("sysv:");
            assert!(is_named && text.contains("bytes, but it has"), "{text}");
        }
    }
}
