//! The contents of objects: noise, parts of good objects, and good objects with one
//! changed field.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shm_sync::{Backing, CorruptHeader, ShmMutex};

use Outcome::{Corrupt, NotASegment, Opened, OtherFormat, OtherLayout, OtherNamespace};

use super::access::{
    Access, Counter, Expected, Outcome, attempt, bytes_of, check_briefly, patch, put, put_good,
    resources,
};
use crate::support::{Random, TestAddress, on_stage};

/// The length of a segment's header in bytes. The lock table and the type table follow.
const HEADER: usize = 448;
/// The offset of the removal policy.
const REMOVAL: usize = 17;
/// The end of the magic number and the format version.
const FORMAT_END: usize = 12;
/// The part of a System V segment's header that changes: its state, and a lock.
const LIVE: std::ops::Range<usize> = 192..256;
/// The state of a complete System V segment.
const COMPLETE: u32 = 2;
/// The length of a mutex without its data, in bytes.
const BARE_MUTEX: u64 = size_of::<ShmMutex<()>>() as u64;

/// A good object, whose bytes a test changes.
struct GoodObject {
    address: TestAddress,
    bytes: Vec<u8>,
}

impl GoodObject {
    fn of(kind: Backing) -> Self {
        Self::from(TestAddress::new(kind, "hostile"))
    }

    fn number(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }

    /// Returns the offset of the type table.
    fn type_table(&self) -> u64 {
        let lock_table_len = self.number(88) & u64::from(u32::MAX);
        (HEADER as u64 + lock_table_len).next_multiple_of(8)
    }

    fn type_table_len(&self) -> u64 {
        self.number(96) >> 32
    }

    /// Checks the object with some bytes changed.
    fn check_with(&self, what: &str, at: usize, changed: &[u8], expected: &Expected) {
        patch(&self.address, at, changed);
        check_briefly::<Counter>(what, &self.address, expected);
        patch(&self.address, 0, &self.bytes);
    }
}

impl From<TestAddress> for GoodObject {
    fn from(address: TestAddress) -> Self {
        put_good::<Counter>(&address);
        let bytes = bytes_of(&address);
        Self { address, bytes }
    }
}

fn good_objects() -> impl Iterator<Item = GoodObject> {
    TestAddress::of_each_kind("hostile")
        .into_iter()
        .map(GoodObject::from)
}

/// A number in the header, and the expected outcome for each other number.
struct Field {
    name: &'static str,
    at: usize,
    len: usize,
    expect: fn(u64, &GoodObject) -> Expected,
}

const FIELDS: [Field; 22] = [
    Field {
        name: "format version",
        at: 8,
        len: 4,
        expect: |_, _| Expected::all(OtherFormat),
    },
    Field {
        name: "libc",
        at: 12,
        len: 1,
        expect: other_platform,
    },
    Field {
        name: "endianness",
        at: 13,
        len: 1,
        expect: other_platform,
    },
    Field {
        name: "pointer width",
        at: 14,
        len: 1,
        expect: other_platform,
    },
    Field {
        name: "size of a pthread_mutex_t",
        at: 15,
        len: 1,
        expect: other_platform,
    },
    Field {
        name: "size of a pthread_cond_t",
        at: 16,
        len: 1,
        expect: other_platform,
    },
    Field {
        name: "pid namespace",
        at: 20,
        len: 4,
        expect: |namespace, object| match namespace {
            0 => Expected::all(Corrupt(CorruptHeader::NoPidNamespace)),
            // No process is attached, so the locks are reinitialised.
            _ if object.address.kind() == Backing::SystemV => Expected::all(Opened),
            _ => Expected {
                writer: match object.address.kind() {
                    Backing::SystemV => OtherNamespace,
                    // Its processes have ended, so its locks are reinitialised.
                    _ => Opened,
                },
                ..Expected::all(Opened)
            },
        },
    },
    Field {
        name: "length of the object",
        at: 24,
        len: 8,
        expect: |claimed, object| {
            let actual = object.bytes.len() as u64;
            Expected::all(Corrupt(CorruptHeader::WrongSize { claimed, actual }))
        },
    },
    // Every other aligned offset is outside the object.
    Field {
        name: "offset of the value",
        at: 32,
        len: 8,
        expect: |_, _| Expected::all(Corrupt(CorruptHeader::MisplacedValue)),
    },
    Field {
        name: "size of the value",
        at: 40,
        len: 8,
        expect: |size, object| {
            let room = object.bytes.len() as u64 - object.number(32);
            match size {
                _ if size > room => Expected::all(Corrupt(CorruptHeader::MisplacedValue)),
                _ if size >= BARE_MUTEX => Expected::for_users(OtherLayout),
                // The lock table contains a mutex.
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
        expect: |align, object| {
            let is_possible = align.is_power_of_two() && object.number(32).is_multiple_of(align);
            if is_possible {
                Expected::for_users(OtherLayout)
            } else {
                Expected::all(Corrupt(CorruptHeader::MisplacedValue))
            }
        },
    },
    Field {
        name: "fingerprint",
        at: 56,
        len: 8,
        expect: |_, _| Expected::for_users(OtherLayout),
    },
    Field {
        name: "creator",
        at: 92,
        len: 4,
        expect: is_informative,
    },
    Field {
        name: "length of the type's name",
        at: 96,
        len: 4,
        expect: |len, _| match len {
            0..=192 => Expected::all(Opened),
            _ => Expected::all(Corrupt(CorruptHeader::UnreadableTypeName)),
        },
    },
    Field {
        name: "number of elements",
        at: 72,
        len: 8,
        expect: |_, _| Expected::for_users(OtherLayout),
    },
    Field {
        name: "time of creation",
        at: 80,
        len: 8,
        expect: is_informative,
    },
    // Openers don't read the lock table, but they check that it ends before the value.
    Field {
        name: "length of the lock table",
        at: 88,
        len: 4,
        expect: |len, object| match len {
            0 => Expected::all(Opened),
            // The type table follows.
            _ if (HEADER as u64 + len).next_multiple_of(8) + object.type_table_len()
                > object.number(32) =>
            {
                Expected::all(Corrupt(CorruptHeader::MisplacedValue))
            }
            _ => Expected::for_tool(Corrupt(CorruptHeader::UnreadableLockTable)),
        },
    },
    // Neither openers nor the list of segments read the type table.
    Field {
        name: "length of the type table",
        at: 100,
        len: 4,
        expect: |len, object| match len {
            0 => Expected::all(Opened),
            _ if object.type_table() + len > object.number(32) => {
                Expected::all(Corrupt(CorruptHeader::MisplacedValue))
            }
            _ => Expected::all(Opened),
        },
    },
    // The object is taken for a copy, so its locks are reinitialised.
    Field {
        name: "device",
        at: 104,
        len: 8,
        expect: |_, _| Expected::all(Opened),
    },
    Field {
        name: "inode number",
        at: 112,
        len: 8,
        expect: |_, _| Expected::all(Opened),
    },
    Field {
        name: "boot",
        at: 128,
        len: 8,
        expect: |_, _| Expected::all(Opened),
    },
    Field {
        name: "birth of the file",
        at: 136,
        len: 8,
        expect: |_, _| Expected::all(Opened),
    },
];

fn other_platform(_: u64, _: &GoodObject) -> Expected {
    Expected {
        lock: NotASegment,
        ..Expected::for_users(OtherLayout)
    }
}

fn is_informative(_: u64, _: &GoodObject) -> Expected {
    Expected::all(Opened)
}

impl Field {
    fn max(&self) -> u64 {
        u64::MAX >> (64 - 8 * self.len)
    }

    /// Returns numbers that cause overflows in arithmetic.
    fn boundary_values(&self, original: u64) -> Vec<u64> {
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
    let object = GoodObject::of(kind);
    for field in &FIELDS {
        let original = object.number(field.at) & field.max();
        for number in field.boundary_values(original) {
            let what = format!("{} = {number:#x}", field.name);
            let changed = &number.to_le_bytes()[..field.len];
            let expected = (field.expect)(number, &object);
            object.check_with(&what, field.at, changed, &expected);
        }
    }
}

/// Checks objects of noise, and of parts of a segment.
fn check_noise_in(kind: Backing) {
    let mut random = Random::new(25);
    let mut noise = |len: usize| {
        (0..len)
            .map(|_| random.below(256) as u8)
            .collect::<Vec<_>>()
    };
    let nothing = Expected::all(NotASegment);
    // The tool names the missing part. System V segments cannot be shortened, and the
    // tool reads their whole header or nothing.
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
    let good = GoodObject::of(kind).bytes;
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

/// Changes random bytes of the header and the lock table, and tries an access.
fn check_changes_of(kind: Backing) {
    let object = GoodObject::of(kind);
    let end = usize::try_from(object.number(32)).unwrap();
    // Writers of a segment are trusted with the lock there.
    let is_live = move |at: &usize| kind == Backing::SystemV && LIVE.contains(at);
    let place = (0..end).prop_filter("it is the changing part", move |at| !is_live(at));
    let byte = prop_oneof![any::<u8>(), Just(0), Just(1), Just(u8::MAX)];
    let changes = prop::collection::vec((place, byte), 1..6);
    // The removal policy must not become `UntilLastDetach`, because the object would
    // then be removed.
    let changes = changes.prop_filter("it would be removed", |changes| {
        !changes.contains(&(REMOVAL, 1))
    });
    let access = prop_oneof![
        3 => prop::sample::select(vec![Access::Open, Access::OpenReadOnly, Access::Snapshot]),
        1 => prop::sample::select(vec![Access::Details, Access::SyncObject]),
    ];
    let resources_before = resources();
    let config = Config {
        cases: cases(),
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&(changes, access), |(changes, access)| {
        for (at, byte) in &changes {
            patch(&object.address, *at, &[*byte]);
        }
        // `attempt` panics on an error that no bad object may cause.
        let _ = attempt::<Counter>(access, &object.address);
        prop_assert_eq!(&resources(), &resources_before);
        patch(&object.address, 0, &object.bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{}: {error}", &*object.address));
}

/// Returns the number of random changes of each object.
fn cases() -> u32 {
    let cases = crate::support::number_from_env("PROPTEST_CASES").unwrap_or(300);
    u32::try_from(cases).unwrap()
}

on_stage! {
    // Failure modes 22 and 25.
    fn header_numbers_are_checked_in_posix_object() {
        check_numbers_in(Backing::Posix);
    }

    fn header_numbers_are_checked_in_file() {
        check_numbers_in(Backing::File);
    }

    fn header_numbers_are_checked_in_system_v() {
        check_numbers_in(Backing::SystemV);
    }

    fn header_bytes_with_meaning_are_checked() {
        for object in good_objects() {
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

    fn system_v_state_must_be_known() {
        let object = GoodObject::of(Backing::SystemV);
        // A claim of a dead process, and a segment whose locks a dead process was
        // reinitialising.
        for state in [5_u32, 0x0100_0005, 0xffff_ff05, 6] {
            let what = format!("state {state}");
            object.check_with(&what, LIVE.start, &state.to_le_bytes(), &Expected::all(Opened));
        }
        for state in [7, 0x0106, u32::MAX, u32::from_be(COMPLETE)] {
            let what = format!("state {state}");
            // The header is valid, and the tool only reads.
            let expected = Expected::for_users(NotASegment);
            object.check_with(&what, LIVE.start, &state.to_le_bytes(), &expected);
        }
        // Files do not use this part.
        for kind in [Backing::Posix, Backing::File] {
            let object = GoodObject::of(kind);
            let expected = Expected::all(Opened);
            object.check_with("a live part", LIVE.start, &[0xff; LIVE.end - LIVE.start], &expected);
        }
    }

    fn lock_table_is_checked() {
        use CorruptHeader::{MisplacedObject, UnreadableLockTable};
        /// The offsets of the parts of the only entry, and their new bytes.
        const CASES: [(&str, usize, &[u8], CorruptHeader); 14] = [
            ("no kind", 0, &[0], UnreadableLockTable),
            ("an unknown kind", 0, &[0xff], UnreadableLockTable),
            ("an array more", 1, &[2], UnreadableLockTable),
            ("many arrays", 1, &[0xff], UnreadableLockTable),
            ("no array, and what is left is no path", 1, &[0], UnreadableLockTable),
            ("a longer path", 2, &[3], UnreadableLockTable),
            ("the longest path", 2, &[0xff; 2], UnreadableLockTable),
            ("an object of size 0", 4, &[0; 4], MisplacedObject),
            ("the largest object", 4, &[0xff; 4], MisplacedObject),
            ("the furthest", 8, &[0xff; 8], MisplacedObject),
            ("an array of 0 objects", 16, &[0; 8], MisplacedObject),
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
    fn noise_is_refused_as_posix_object() {
        check_noise_in(Backing::Posix);
    }

    fn noise_is_refused_as_file() {
        check_noise_in(Backing::File);
    }

    fn noise_is_refused_as_system_v() {
        check_noise_in(Backing::SystemV);
    }

    fn changed_posix_object_is_refused_or_harmless() {
        check_changes_of(Backing::Posix);
    }

    fn changed_file_is_refused_or_harmless() {
        check_changes_of(Backing::File);
    }

    fn changed_system_v_is_refused_or_harmless() {
        check_changes_of(Backing::SystemV);
    }
}
