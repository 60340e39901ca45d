//! The copies of a published value, on the memory model.
//!
//! A publisher writes version `v` into slot `v % 3` and then stores the version. A
//! reader copies the slot of the version that it has read, and keeps the copy if the
//! version has grown by less than 2. The words of the slots are relaxed. The orderings
//! are those of *Can Seqlocks Get Along With Programming Language Memory Models?*
//! (Boehm, MSPC 2012), with a slot in place of the odd sequence number.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;

use super::store_buffer::holds;

/// What differs from the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// The publisher has no fence before its stores to a slot.
    NoReleaseFence,
    /// The store of the version does not release the slot.
    RelaxedVersion,
    /// The reader has no fence before its copy.
    NoFenceBeforeCopy,
    /// The reader has no fence after its copy.
    NoFenceAfterCopy,
    /// Two slots are used as three.
    TwoSlots,
}

struct Shared {
    version: AtomicU32,
    slots: [[AtomicU32; 2]; 3],
}

impl Shared {
    fn new() -> Arc<Self> {
        let word = || AtomicU32::new(0);
        Arc::new(Self {
            version: word(),
            slots: [(); 3].map(|()| [word(), word()]),
        })
    }

    fn slot(&self, version: u32, mistake: Mistake) -> &[AtomicU32; 2] {
        let slots = if mistake == Mistake::TwoSlots { 2 } else { 3 };
        &self.slots[(version % slots) as usize]
    }

    /// `Published::update`, under the publisher's lock. The value is the version.
    fn publish(&self, mistake: Mistake) {
        let version = self.version.load(Ordering::Relaxed) + 1;
        if mistake != Mistake::NoReleaseFence {
            fence(Ordering::Release);
        }
        for word in self.slot(version, mistake) {
            word.store(version, Ordering::Relaxed);
        }
        self.version.store(
            version,
            match mistake {
                Mistake::RelaxedVersion => Ordering::Relaxed,
                _ => Ordering::Release,
            },
        );
    }

    /// One attempt of `Published::read_with_version`.
    fn try_read(&self, mistake: Mistake) {
        let version = self.version.load(Ordering::Relaxed);
        if mistake != Mistake::NoFenceBeforeCopy {
            fence(Ordering::Acquire);
        }
        let slot = self.slot(version, mistake);
        let copy = [0, 1].map(|word: usize| slot[word].load(Ordering::Relaxed));
        if mistake != Mistake::NoFenceAfterCopy {
            fence(Ordering::Acquire);
        }
        let published = self.version.load(Ordering::Relaxed).wrapping_sub(version);
        if published < 2 {
            assert!(
                copy == [version; 2],
                "torn: {copy:?} is no version {version}"
            );
        }
    }
}

/// Runs a publisher and a reader. The third publication uses the slot of the first
/// value again.
fn copies_are_whole(mistake: Mistake) -> bool {
    let what = format!("published value: mistake {mistake:?}");
    holds(&what, "every copy is whole", "torn", None, move || {
        let shared = Shared::new();
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.try_read(mistake))
        };
        for _ in 0..3 {
            shared.publish(mistake);
        }
        reader.join().unwrap();
    })
}

#[test]
fn code_orderings_keep_copies_whole() {
    assert!(copies_are_whole(Mistake::None));
}

#[test]
fn weaker_publisher_tears_copies() {
    assert!(!copies_are_whole(Mistake::NoReleaseFence));
    assert!(!copies_are_whole(Mistake::RelaxedVersion));
}

#[test]
fn weaker_reader_tears_copies() {
    assert!(!copies_are_whole(Mistake::NoFenceBeforeCopy));
    assert!(!copies_are_whole(Mistake::NoFenceAfterCopy));
}

#[test]
fn two_slots_tear_copies() {
    assert!(!copies_are_whole(Mistake::TwoSlots));
}
