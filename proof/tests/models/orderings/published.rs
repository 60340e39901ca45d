//! The copies of a published value.
//!
//! A publisher writes version `v` into slot `v % 3` and then stores the version. A
//! reader copies the slot of the version that it has read, and keeps the copy if the
//! version has grown by less than 2. The words of the slots are relaxed. The orderings
//! are those of *Can Seqlocks Get Along With Programming Language Memory Models?*
//! (Boehm, MSPC 2012), with a slot in place of the odd sequence number.

use std::rc::Rc;
use std::sync::atomic::Ordering::Release;

use super::protocol::{Orderings, Protocol, Scenario, Site, fence, relaxed, store, together};
use super::word::{Word, fence as fence_of};

const FILE: &str = "src/sync/published.rs";
const COPY: &str = "src/os/mem/atomic_copy.rs";
const VERSION: Site = Site::new(FILE, "version", 0);
const WRITE_FENCE: Site = Site::new(FILE, "write", 0);
const WRITE_WORD: Site = Site::new(COPY, "store_relaxed", 0);
const PUBLISH: Site = Site::new(FILE, "publish_with", 0);
const READ: Site = Site::new(FILE, "read_with_version", 0);
const FENCE_BEFORE: Site = Site::new(FILE, "read_with_version", 1);
const COPY_WORD: Site = Site::new(COPY, "copy_relaxed", 0);
const FENCE_AFTER: Site = Site::new(FILE, "read_with_version", 2);
const READ_AGAIN: Site = Site::new(FILE, "read_with_version", 3);

const TWO_SLOTS: &str = "two slots are used as three";

pub(super) static PROTOCOL: Protocol = Protocol {
    name: "published",
    scenarios: &[Scenario::new(
        "three publications and a copy",
        three_publications,
    )],
    places: &[
        fence(WRITE_FENCE, &[]),
        store(PUBLISH, &[Release]),
        fence(FENCE_BEFORE, &[]),
        fence(FENCE_AFTER, &[]),
        relaxed(VERSION),
        relaxed(WRITE_WORD),
        relaxed(READ),
        relaxed(COPY_WORD),
        relaxed(READ_AGAIN),
    ],
    mistakes: &[TWO_SLOTS],
};

#[test]
fn orderings() {
    PROTOCOL.check();
}

struct Shared {
    version: Word,
    slots: [[Word; 2]; 3],
}

impl Shared {
    fn slot(&self, o: Orderings, version: u64) -> &[Word; 2] {
        let slots = if o.has(TWO_SLOTS) { 2 } else { 3 };
        &self.slots[(version % slots) as usize]
    }

    /// `Published::publish_with`, with the publisher's seat. The value is the version.
    fn publish(&self, o: Orderings) {
        let version = self.version.load(o.of(VERSION)) + 1;
        fence_of(o.of(WRITE_FENCE));
        for word in self.slot(o, version) {
            word.store(version, o.of(WRITE_WORD));
        }
        self.version.store(version, o.of(PUBLISH));
    }

    /// One attempt of `Published::read_with_version`.
    fn try_read(&self, o: Orderings) {
        let version = self.version.load(o.of(READ));
        fence_of(o.of(FENCE_BEFORE));
        let slot = self.slot(o, version);
        let copy = [0, 1].map(|word: usize| slot[word].load(o.of(COPY_WORD)));
        fence_of(o.of(FENCE_AFTER));
        let published = self.version.load(o.of(READ_AGAIN)).wrapping_sub(version);
        if published < 2 {
            assert_eq!(copy, [version; 2], "wrong: the copy is torn");
        }
    }
}

/// The third publication uses the slot of the first value again.
fn three_publications(o: Orderings) {
    let word = || Word::new(0);
    let shared = Rc::new(Shared {
        version: word(),
        slots: [(); 3].map(|()| [word(), word()]),
    });
    let publish = Box::new(move |shared: &Shared| (0..3).for_each(|_| shared.publish(o)));
    let read = Box::new(move |shared: &Shared| shared.try_read(o));
    together(o, &shared, vec![publish, read]);
}
