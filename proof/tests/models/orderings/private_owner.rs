//! The owner word of an object in private memory, which a forked child reinitialises.

use std::rc::Rc;

use loom::cell::UnsafeCell;
use loom::thread;

use super::protocol::{
    Orderings, Protocol, Scenario, Site, exchange, load, relaxed, store, together,
};
use super::word::Word;

const FILE: &str = "src/os/private_owner.rs";
const FIND: Site = Site::new(FILE, "renew_if_copied", 0);
const CLAIM: Site = Site::new(FILE, "renew_if_copied", 1);
const CLAIM_FAILED: Site = Site::new(FILE, "renew_if_copied", 2);
const STORE: Site = Site::new(FILE, "renew_if_copied", 3);

pub(super) static PROTOCOL: Protocol = Protocol {
    name: "private_owner",
    scenarios: &[
        Scenario::new("two threads renew", |o| renew(o, false)),
        Scenario::new("the first renewal fails", |o| renew(o, true)),
    ],
    places: &[
        load(FIND, &[]),
        exchange(CLAIM, &[]),
        store(STORE, &[]),
        relaxed(CLAIM_FAILED),
    ],
    mistakes: &[],
};

#[test]
fn orderings() {
    PROTOCOL.check();
}

const PARENT: u64 = 1;
const OURS: u64 = 2;
const BUSY: u64 = 4;

struct Shared {
    word: Word,
    object: UnsafeCell<u64>,
}

impl Shared {
    /// `renew_if_copied`. Returns whether this thread has failed to renew.
    fn renew_if_copied(&self, o: Orderings, fails: bool) -> bool {
        loop {
            let found = self.word.load(o.of(FIND));
            if found == OURS {
                return false;
            }
            if found == OURS | BUSY {
                // `futex_wait`, which orders nothing for the program.
                thread::yield_now();
                continue;
            }
            let (success, failure) = (o.of(CLAIM), o.of(CLAIM_FAILED));
            let claimed = self
                .word
                .compare_exchange(found, OURS | BUSY, success, failure);
            if claimed.is_err() {
                continue;
            }
            // SAFETY: loom reports another thread that renews.
            self.object.with_mut(|object| unsafe { *object += 1 });
            let now = if fails { found } else { OURS };
            self.word.store(now, o.of(STORE));
            return fails;
        }
    }

    fn use_object(&self, o: Orderings, fails: bool) {
        if !self.renew_if_copied(o, fails) {
            // SAFETY: loom reports a thread that renews.
            self.object.with(|object| unsafe { *object });
        }
    }
}

fn renew(o: Orderings, fails: bool) {
    let shared = Rc::new(Shared {
        word: Word::new(PARENT),
        object: UnsafeCell::new(0),
    });
    together(
        o,
        &shared,
        vec![
            Box::new(move |shared| shared.use_object(o, false)),
            Box::new(move |shared| shared.use_object(o, fails)),
        ],
    );
}
