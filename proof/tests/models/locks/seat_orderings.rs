//! Threads that announce themselves by a seat or its note, and then look at each other:
//! the store-buffer pattern, on the memory model.
//!
//! | primitive | thread | first | then |
//! |---|---|---|---|
//! | readers-writer lock | reader | takes its seat | reads the phase |
//! | | writer | closes the phase | looks at the seats |
//! | barrier | member | notes its arrival | looks at the other notes |
//!
//! If both read the old values, a reader and a writer are inside together, or all
//! members of a barrier sleep. All these accesses are `SeqCst` in the code. `loom`
//! treats such accesses as acquire and release, but it knows the fence. Therefore each
//! thread here has a fence between its accesses, as in `store_buffer`.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::pair::Pair;
use super::store_buffer::holds;

const CLOSED: u32 = 1;

/// The phase, the seat of one reader, and the data. A thread that may not come inside
/// gives up.
struct Lock {
    phase: AtomicU32,
    seat: AtomicU32,
    data: UnsafeCell<u32>,
}

impl Lock {
    /// `RawRwLock::read` and `end_read`.
    fn read(&self, reader: Pair) {
        self.seat.swap(1, Ordering::AcqRel);
        reader.order();
        if self.phase.load(Ordering::Acquire) & CLOSED == 0 {
            // SAFETY: loom reports a writer that is inside.
            self.data.with(|data| unsafe { *data });
        }
        self.seat.swap(0, Ordering::AcqRel);
    }

    /// `RawRwLock::write` and `end_write`. The seat of the writer is left out.
    fn write(&self, writer: Pair) {
        self.phase.store(CLOSED, Ordering::Release);
        writer.order();
        if self.seat.load(Ordering::Acquire) == 0 {
            // SAFETY: loom reports a reader that is inside.
            self.data.with_mut(|data| unsafe { *data += 1 });
        }
        self.phase.store(2, Ordering::Release);
    }
}

/// Runs a reader and a writer. Returns whether they are never inside together.
fn excludes(reader: Pair, writer: Pair) -> bool {
    let what = format!("readers-writer lock: reader {reader}, writer {writer}");
    holds(
        &what,
        "they exclude each other",
        "Causality violation",
        None,
        move || {
            let lock = Arc::new(Lock {
                phase: AtomicU32::new(0),
                seat: AtomicU32::new(0),
                data: UnsafeCell::new(0),
            });
            let other = {
                let lock = Arc::clone(&lock);
                thread::spawn(move || lock.read(reader))
            };
            lock.write(writer);
            // The second round finds what the first has left.
            lock.write(writer);
            other.join().unwrap();
        },
    )
}

/// Runs two members that arrive. Returns whether one of them sees both.
fn one_completes(member: Pair) -> bool {
    let what = format!("barrier: members {member}");
    holds(&what, "one member sees both", "asleep", None, move || {
        let notes = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let arrive = move |notes: &[AtomicU32; 2], me: usize| {
            notes[me].store(1, Ordering::Release);
            member.order();
            notes[1 - me].load(Ordering::Acquire) == 1
        };
        let other = {
            let notes = Arc::clone(&notes);
            thread::spawn(move || arrive(&notes, 1))
        };
        let seen = [arrive(&notes, 0), other.join().unwrap()];
        assert!(seen.contains(&true), "asleep: {seen:?}");
    })
}

#[test]
fn code_orderings_suffice() {
    assert!(excludes(Pair::SeqCst, Pair::SeqCst));
    assert!(one_completes(Pair::SeqCst));
}

#[test]
fn weaker_orderings_do_not() {
    assert!(!excludes(Pair::AcquireRelease, Pair::SeqCst));
    assert!(!excludes(Pair::SeqCst, Pair::AcquireRelease));
    assert!(!one_completes(Pair::AcquireRelease));
}
