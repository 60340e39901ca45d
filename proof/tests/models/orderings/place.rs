//! Words that say "what lies beside this is complete": the plain hand-over of a value.
//!
//! | word | what lies beside it |
//! |---|---|
//! | `pid_namespace` of a lock | the initialised `pthread_mutex_t` |
//! | `state` of a `PthreadCondvar` | the initialised `pthread_cond_t` |
//! | `kind` of an event | its other words, reset |
//! | `state` of a `ShmOnceLock` | the value |
//! | an atomic in a read-only view | what the program has written before its store |
//! | the addresses of the wiped pages and of the own page | the mapped page |
//!
//! The maker of a page exchanges the address, because another maker may be faster.

use std::rc::Rc;
use std::sync::atomic::Ordering::Release;

use loom::cell::UnsafeCell;

use super::protocol::{
    Orderings, Protocol, Scenario, Site, Thread, exchange, fence, load, relaxed, store, together,
};
use super::word::{Word, fence as fence_of};

const ROBUST: &str = "src/sync/robust_lock.rs";
const INIT: Site = Site::new(ROBUST, "init", 0);
const REINIT: Site = Site::new("src/sync/robust_lock/recovery.rs", "reinit", 0);
const FAST: Site = Site::new(ROBUST, "try_lock_fast", 0);
const CHECK_READY: Site = Site::new(ROBUST, "check_ready", 0);
const IS_INITIALIZED: Site = Site::new(ROBUST, "is_initialized", 0);

const COND: &str = "src/sync/pthread_condvar.rs";
const COND_INIT: Site = Site::new(COND, "init", 0);
const COND_CHECK: Site = Site::new(COND, "is_initialized", 0);

const EVENT: &str = "src/sync/event.rs";
const EVENT_INIT: Site = Site::new(EVENT, "EVENT", 0);
const EVENT_REINIT: Site = Site::new(EVENT, "EVENT", 1);
const EVENT_CHECK: Site = Site::new(EVENT, "check", 0);

const ONCE: &str = "src/sync/once_lock.rs";
const ONCE_MADE: Site = Site::new(ONCE, "get_or_try_init", 0);
const ONCE_GET: Site = Site::new(ONCE, "get", 0);

const VIEW: Site = Site::new("src/read_only.rs", "load", 0);
const VIEW_FENCE: Site = Site::new("src/read_only.rs", "load", 1);

const FORK: &str = "src/os/fork.rs";
const MARKER: Site = Site::new(FORK, "of_this_process", 0);
const NEW_MARKER: Site = Site::new(FORK, "of_this_process", 1);
const NEW_MARKER_FAILED: Site = Site::new(FORK, "of_this_process", 2);

const OWN: &str = "src/os/own_page.rs";
const OWN_LAST: Site = Site::new(OWN, "last", 0);
const NEW_OWN: Site = Site::new(OWN, "of_this_process", 0);
const NEW_OWN_FAILED: Site = Site::new(OWN, "of_this_process", 1);

const OWNER: &str = "src/os/private_owner.rs";
const NUMBER: Site = Site::new(OWNER, "number_word", 0);
const NEW_NUMBER: Site = Site::new(OWNER, "number_word", 1);
const FASTER_NUMBER: Site = Site::new(OWNER, "number_word", 2);

pub(super) static PROTOCOL: Protocol = Protocol {
    name: "place",
    scenarios: &[
        Scenario::new("lock, fast path", |o| {
            handed_over(o, Make::Store(INIT), FAST, None)
        }),
        Scenario::new("lock, slow path", |o| {
            handed_over(o, Make::Store(REINIT), CHECK_READY, None)
        }),
        Scenario::new("lock, question", |o| {
            handed_over(o, Make::Store(INIT), IS_INITIALIZED, None)
        }),
        Scenario::new("PthreadCondvar", |o| {
            handed_over(o, Make::Store(COND_INIT), COND_CHECK, None)
        }),
        Scenario::new("event", |o| {
            handed_over(o, Make::Or(EVENT_INIT), EVENT_CHECK, None)
        }),
        Scenario::new("event, again", |o| {
            handed_over(o, Make::Or(EVENT_REINIT), EVENT_CHECK, None)
        }),
        Scenario::new("ShmOnceLock", |o| {
            handed_over(o, Make::Store(ONCE_MADE), ONCE_GET, None)
        }),
        Scenario::new("read-only view", |o| {
            handed_over(o, Make::ByProgram, VIEW, Some(VIEW_FENCE))
        }),
        Scenario::new("fork marker", |o| {
            page(o, MARKER, NEW_MARKER, NEW_MARKER_FAILED, Loser::Repeats)
        }),
        Scenario::new("own page", |o| {
            page(o, OWN_LAST, NEW_OWN, NEW_OWN_FAILED, Loser::Repeats)
        }),
        Scenario::new("private number", |o| {
            page(o, NUMBER, NEW_NUMBER, FASTER_NUMBER, Loser::UsesTheFaster)
        }),
    ],
    places: &[
        store(INIT, &[]),
        store(REINIT, &[]),
        load(FAST, &[]),
        load(CHECK_READY, &[]),
        load(IS_INITIALIZED, &[]),
        store(COND_INIT, &[]),
        load(COND_CHECK, &[]),
        exchange(EVENT_INIT, &[]),
        exchange(EVENT_REINIT, &[]),
        load(EVENT_CHECK, &[]),
        store(ONCE_MADE, &[]),
        load(ONCE_GET, &[]),
        fence(VIEW_FENCE, &[]),
        load(MARKER, &[]),
        exchange(NEW_MARKER, &[Release]),
        load(OWN_LAST, &[]),
        exchange(NEW_OWN, &[]),
        load(NUMBER, &[]),
        exchange(NEW_NUMBER, &[Release]),
        load(FASTER_NUMBER, &[]),
        relaxed(VIEW),
        relaxed(NEW_MARKER_FAILED),
        relaxed(NEW_OWN_FAILED),
    ],
    mistakes: &[],
};

#[test]
fn orderings() {
    PROTOCOL.check();
}

/// How the word is written.
#[derive(Clone, Copy)]
enum Make {
    Store(Site),
    Or(Site),
    /// By the program, with `Release`.
    ByProgram,
}

fn handed_over(o: Orderings, make: Make, read: Site, behind: Option<Site>) {
    type Shared = (Word, UnsafeCell<u64>);
    let make = Box::new(move |(word, value): &Shared| {
        // SAFETY: loom reports a thread that has not waited for the word.
        value.with_mut(|value| unsafe { *value = 1 });
        match make {
            Make::Store(site) => word.store(1, o.of(site)),
            Make::Or(site) => drop(word.fetch_or(1, o.of(site))),
            Make::ByProgram => word.store(1, Release),
        }
    });
    let read = Box::new(move |(word, value): &Shared| {
        let is_complete = word.load(o.of(read)) == 1;
        if let Some(behind) = behind {
            fence_of(o.of(behind));
        }
        if is_complete {
            // SAFETY: loom reports a race with the maker.
            value.with(|value| unsafe { *value });
        }
    });
    let shared = Rc::new((Word::new(0), UnsafeCell::new(0)));
    together(o, &shared, vec![make, read]);
}

/// What a maker does after a failed exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loser {
    Repeats,
    UsesTheFaster,
}

/// Each of two threads maps a page. The slower one uses that of the faster one.
fn page(o: Orderings, known: Site, new: Site, failed: Site, loser: Loser) {
    type Shared = (Word, [UnsafeCell<u64>; 2]);
    let use_page = move |me: usize| -> Thread<Shared> {
        Box::new(move |(word, pages)| {
            let address = loop {
                let known = word.load(o.of(known));
                if known != 0 {
                    break known;
                }
                // SAFETY: loom reports a thread that has not read the address.
                pages[me].with_mut(|page| unsafe { *page = 1 });
                let address = me as u64 + 1;
                match word.compare_exchange(0, address, o.of(new), o.of(failed)) {
                    Ok(_) => break address,
                    Err(faster) if loser == Loser::UsesTheFaster => break faster,
                    Err(_) => {}
                }
            };
            // SAFETY: loom reports a race with the maker of the page.
            pages[address as usize - 1].with(|page| unsafe { *page });
        })
    };
    let pages = [UnsafeCell::new(0), UnsafeCell::new(0)];
    let shared = Rc::new((Word::new(0), pages));
    together(o, &shared, vec![use_page(0), use_page(1)]);
}
