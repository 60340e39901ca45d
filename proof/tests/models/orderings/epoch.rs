//! The epoch in the header, which is written while read-only processes may load it.
//!
//! Record locks keep the process that writes an epoch apart from the processes that act
//! on it. Without them, the words are a sequence lock: the scenario shows that this is
//! sound by itself, if the two epochs have other ends.

use std::rc::Rc;

use loom::cell::UnsafeCell;

use super::protocol::{Orderings, Protocol, Scenario, Site, fence, load, relaxed, store, together};
use super::word::{Word, fence as fence_of};

const FILE: &str = "src/segment/format/epoch.rs";
const LOAD_END: Site = Site::new(FILE, "load", 0);
const LOAD_WORD: Site = Site::new(FILE, "load", 1);
const LOAD_NAMESPACE: Site = Site::new(FILE, "load", 2);
const LOAD_FENCE: Site = Site::new(FILE, "load", 3);
const LOAD_AGAIN: Site = Site::new(FILE, "load", 4);
const CHANGE: Site = Site::new(FILE, "publish", 0);
const CHANGE_FENCE: Site = Site::new(FILE, "publish", 1);
const STORE_NAMESPACE: Site = Site::new(FILE, "publish", 2);
const STORE_WORD: Site = Site::new(FILE, "publish", 3);
const STORE_END: Site = Site::new(FILE, "publish", 4);

pub(super) static PROTOCOL: Protocol = Protocol {
    name: "epoch",
    scenarios: &[Scenario::new(
        "an epoch is loaded while it is written",
        loaded_while_written,
    )],
    places: &[
        load(LOAD_END, &[]),
        fence(LOAD_FENCE, &[]),
        fence(CHANGE_FENCE, &[]),
        store(STORE_END, &[]),
        relaxed(LOAD_WORD),
        relaxed(LOAD_NAMESPACE),
        relaxed(LOAD_AGAIN),
        relaxed(CHANGE),
        relaxed(STORE_NAMESPACE),
        relaxed(STORE_WORD),
    ],
    mistakes: &[],
};

#[test]
fn orderings() {
    PROTOCOL.check();
}

const CHANGING: u64 = 0;

/// The epochs are 1 and 2. Each of their words has that value.
struct Header {
    end: Word,
    word: Word,
    namespace: Word,
    locks: UnsafeCell<u64>,
}

fn loaded_while_written(o: Orderings) {
    // `Validity::publish`, after the locks are initialised.
    let write = Box::new(move |header: &Header| {
        // SAFETY: loom reports a reader that has not loaded the new epoch.
        header.locks.with_mut(|locks| unsafe { *locks = 2 });
        header.end.store(CHANGING, o.of(CHANGE));
        fence_of(o.of(CHANGE_FENCE));
        header.namespace.store(2, o.of(STORE_NAMESPACE));
        header.word.store(2, o.of(STORE_WORD));
        header.end.store(2, o.of(STORE_END));
    });
    // `Validity::load`
    let read = Box::new(move |header: &Header| {
        let end = header.end.load(o.of(LOAD_END));
        let word = header.word.load(o.of(LOAD_WORD));
        let namespace = header.namespace.load(o.of(LOAD_NAMESPACE));
        fence_of(o.of(LOAD_FENCE));
        if header.end.load(o.of(LOAD_AGAIN)) == end && end != CHANGING {
            let is_whole = word == end && namespace == end;
            assert!(is_whole, "wrong: a mixture of two epochs");
            if end == 2 {
                // SAFETY: loom reports a race with the writer.
                header.locks.with(|locks| unsafe { *locks });
            }
        }
    });
    let header = Rc::new(Header {
        end: Word::new(1),
        word: Word::new(1),
        namespace: Word::new(1),
        locks: UnsafeCell::new(1),
    });
    together(o, &header, vec![write, read]);
}
