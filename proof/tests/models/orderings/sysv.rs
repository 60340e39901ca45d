//! The state word of a System V segment, against the kernel's count of attachments.
//!
//! `shmat`, `shmdt` and `shmctl` take the lock of the segment, which is a mutex here. A
//! process changes the state and then counts, or attaches and then loads the state.
//! That lock orders the two already. The program's own orderings are needed for what
//! the state says of other memory.

use std::rc::Rc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use loom::cell::UnsafeCell;
use loom::sync::Mutex;

use super::protocol::{Orderings, Protocol, Scenario, Site, exchange, load, store, together};
use super::word::Word;

const FILE: &str = "src/segment/backing/sysv/state.rs";
const STATE: Site = Site::new(FILE, "state", 0);
const SET_STATE: Site = Site::new(FILE, "set_state", 0);
const REPLACE: Site = Site::new(FILE, "replace", 0);
const REPLACE_FAILED: Site = Site::new(FILE, "replace", 1);
const CLAIM_NUMBER: Site = Site::new(FILE, "claim", 0);

const COUNTS_FIRST: &str = "a remover counts before it stores `REMOVING`";
const LOADS_FIRST: &str = "an opener loads the state before it attaches";
const NO_SECOND_COUNT: &str = "a claimant does not count again";

pub(super) static PROTOCOL: Protocol = Protocol {
    name: "sysv",
    scenarios: &[
        Scenario::new("creator and opener", creation),
        Scenario::new("remover and opener", removal),
        Scenario::new("newcomer and opener", claim),
    ],
    places: &[
        load(STATE, &[Acquire]),
        store(SET_STATE, &[Release]),
        exchange(REPLACE, &[AcqRel, Release]),
        load(REPLACE_FAILED, &[Acquire, Relaxed]),
        exchange(CLAIM_NUMBER, &[AcqRel, Acquire, Release, Relaxed]),
    ],
    mistakes: &[COUNTS_FIRST, LOADS_FIRST, NO_SECOND_COUNT],
};

#[test]
fn orderings() {
    PROTOCOL.check();
}

const NEW: u64 = 0;
const INITIALIZING: u64 = 1;
const READY: u64 = 2;
const REMOVING: u64 = 3;
const DEAD: u64 = 4;
const CLAIM: u64 = 5;
const REINITIALIZING: u64 = 6;

/// The kernel's part.
struct Kernel {
    attached: u64,
    is_removed: bool,
}

struct Segment {
    state: Word,
    claims: Word,
    /// How many processes use the segment.
    users: Word,
    kernel: Mutex<Kernel>,
    header: UnsafeCell<u64>,
    locks: UnsafeCell<u64>,
}

impl Segment {
    fn new(state: u64) -> Rc<Self> {
        Rc::new(Self {
            state: Word::new(state),
            claims: Word::new(0),
            users: Word::new(0),
            kernel: Mutex::new(Kernel {
                attached: 1,
                is_removed: false,
            }),
            header: UnsafeCell::new(0),
            locks: UnsafeCell::new(0),
        })
    }

    /// Returns `false` if the segment is removed.
    fn shmat(&self) -> bool {
        let mut kernel = self.kernel.lock().unwrap();
        kernel.attached += 1;
        !kernel.is_removed
    }

    fn shmdt(&self) {
        self.kernel.lock().unwrap().attached -= 1;
    }

    fn is_alone(&self) -> bool {
        self.kernel.lock().unwrap().attached == 1
    }

    fn state(&self, o: Orderings) -> u64 {
        self.state.load(o.of(STATE))
    }

    fn set_state(&self, o: Orderings, state: u64) {
        self.state.store(state, o.of(SET_STATE));
    }

    fn replace(&self, o: Orderings, old: u64, new: u64) -> bool {
        let (success, failure) = (o.of(REPLACE), o.of(REPLACE_FAILED));
        self.state
            .compare_exchange(old, new, success, failure)
            .is_ok()
    }

    fn use_locks(&self) {
        // SAFETY: loom reports a process that reinitialises them.
        self.locks.with_mut(|locks| unsafe { *locks += 1 });
    }
}

/// `create` and `attach_ready`.
fn creation(o: Orderings) {
    let create = Box::new(move |segment: &Segment| {
        // SAFETY: loom reports an opener that has not waited for the state.
        segment.header.with_mut(|header| unsafe { *header = 1 });
        let is_mine = segment.replace(o, NEW, INITIALIZING);
        assert!(is_mine, "no other thread does this");
        segment.use_locks();
        segment.set_state(o, READY);
    });
    let open = Box::new(move |segment: &Segment| {
        segment.shmat();
        let state = segment.state(o);
        if state != NEW {
            // SAFETY: loom reports a race with the creator.
            segment.header.with(|header| unsafe { *header });
        }
        if state == READY {
            segment.use_locks();
        }
    });
    together(o, &Segment::new(NEW), vec![create, open]);
}

/// `remove_if_alone` and `attach_ready`. The lock of the state is left out.
fn removal(o: Orderings) {
    let remove = Box::new(move |segment: &Segment| {
        let has_counted = o.has(COUNTS_FIRST) && segment.is_alone();
        segment.set_state(o, REMOVING);
        if has_counted || segment.is_alone() {
            segment.kernel.lock().unwrap().is_removed = true;
            segment.set_state(o, DEAD);
        } else {
            segment.set_state(o, READY);
        }
    });
    let open = Box::new(move |segment: &Segment| {
        let loaded = o.has(LOADS_FIRST).then(|| segment.state(o));
        if !segment.shmat() {
            return;
        }
        if loaded.unwrap_or_else(|| segment.state(o)) == READY {
            segment.users.fetch_add(1, Relaxed);
        }
    });
    let segment = Segment::new(READY);
    together(o, &segment, vec![remove, open]);
    let is_removed = segment.kernel.lock().unwrap().is_removed;
    let has_user = segment.users.load(Relaxed) != 0;
    assert!(!(has_user && is_removed), "wrong: removed with a user");
}

/// `reinit_stale_locks` by a process of a new namespace, and a process of the old one
/// that attaches, uses the locks and detaches.
fn claim(o: Orderings) {
    // The newcomer is attached from the beginning.
    let seize = Box::new(move |segment: &Segment| {
        if !segment.is_alone() {
            return;
        }
        let claim = (segment.claims.fetch_add(1, o.of(CLAIM_NUMBER)) + 1) << 8 | CLAIM;
        if !segment.replace(o, READY, claim) {
            return;
        }
        let is_alone = o.has(NO_SECOND_COUNT) || segment.is_alone();
        if is_alone && segment.replace(o, claim, REINITIALIZING) {
            segment.use_locks();
            segment.set_state(o, READY);
        } else {
            segment.replace(o, claim, READY);
        }
    });
    let open = Box::new(move |segment: &Segment| {
        segment.shmat();
        let mut state = segment.state(o);
        if state & 0xff == CLAIM {
            segment.replace(o, state, READY);
            state = segment.state(o);
        }
        if state == READY {
            segment.use_locks();
        }
        segment.shmdt();
    });
    together(o, &Segment::new(READY), vec![seize, open]);
}
