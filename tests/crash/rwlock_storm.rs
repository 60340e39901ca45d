//! SIGKILL at random instants, for the readers and writers of a `ShmRwLock`: see
//! [`family_storm`](super::family_storm) for the method and for the variables.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::family_results::record;
use crate::storm::{Log, PROCESSES, TIME_LIMIT, survive};
use crate::support::on_stage;
use shm_sync::{LockError, Segment, ShmRwLock, ShmRwLockReadGuard, ShmRwLockWriteGuard, ShmSafe};

/// The number of seats: fewer than readers.
const SEATS: usize = 3;
/// The number of processes that read. The others write.
const READERS: usize = 4;

/// Two equal numbers, and whether a writer is about to change them.
#[derive(ShmSafe)]
#[repr(C)]
struct Pair {
    is_changing: u64,
    first: u64,
    second: u64,
}

impl Pair {
    fn is_whole(&self) -> bool {
        self.first == self.second && self.is_changing == 0
    }
}

#[derive(ShmSafe)]
#[repr(C)]
struct Library {
    pair: ShmRwLock<Pair, SEATS>,
    poisoned_reads: AtomicU64,
    whole_but_poisoned: AtomicU64,
    log: Log,
}

type Reading<'a> = ShmRwLockReadGuard<'a, Pair, SEATS>;
type Writing<'a> = ShmRwLockWriteGuard<'a, Pair, SEATS>;

impl Library {
    fn new() -> Self {
        let pair = Pair {
            is_changing: 0,
            first: 0,
            second: 0,
        };
        Self {
            pair: ShmRwLock::new(pair),
            poisoned_reads: AtomicU64::new(0),
            whole_but_poisoned: AtomicU64::new(0),
            log: Log::new(),
        }
    }

    fn look(&self, pair: &Reading<'_>) {
        let before = pair.first;
        if !pair.is_whole() {
            self.log
                .record_violation("a reader has found half a change");
        }
        std::hint::black_box(pair);
        for _ in 0..20 {
            std::hint::spin_loop();
        }
        // SAFETY: the number is readable.
        let after = unsafe { (&raw const pair.second).read_volatile() };
        if before != after {
            self.log
                .record_violation("a writer was inside with a reader");
        }
    }

    fn read_forever(&self, me: usize) {
        for round in me.. {
            let result = match round % 6 {
                0 => self.pair.try_read(),
                1 => self.pair.try_read_for(Duration::from_millis(2)),
                _ => self.pair.read(),
            };
            match result {
                Ok(guard) => {
                    self.look(&guard);
                    if round % 3 == 0 {
                        self.read_once_more(&guard);
                    }
                    if round % 7 == 0 {
                        std::thread::yield_now();
                    }
                }
                Err(LockError::Poisoned(_)) => {
                    self.poisoned_reads.fetch_add(1, Ordering::Relaxed);
                }
                Err(LockError::WouldBlock | LockError::TimedOut) => continue,
                Err(other) => self.log.record_violation(&format!("read: {other:?}")),
            }
            self.log.finish_round(me);
        }
    }

    fn read_once_more(&self, first: &Reading<'_>) {
        match self.pair.read() {
            Ok(second) => {
                self.look(&second);
                if first.first != second.first {
                    self.log.record_violation("two reads of one thread differ");
                }
            }
            Err(other) => self.log.record_violation(&format!("once more: {other:?}")),
        }
        if !matches!(self.pair.write(), Err(LockError::Deadlock)) {
            self.log.record_violation("a reader may write");
        }
    }

    fn change(&self, pair: &mut Writing<'_>, round: usize) {
        if !pair.is_whole() {
            self.log
                .record_violation("a writer has found half a change");
        }
        let next = pair.first + 1;
        // SAFETY: the numbers are writable.
        unsafe { (&raw mut pair.is_changing).write_volatile(1) };
        // SAFETY: as above.
        unsafe { (&raw mut pair.first).write_volatile(next) };
        if round.is_multiple_of(5) {
            std::thread::yield_now();
        }
        // SAFETY: as above.
        unsafe { (&raw mut pair.second).write_volatile(next) };
        // SAFETY: as above.
        unsafe { (&raw mut pair.is_changing).write_volatile(0) };
    }

    fn write_forever(&self, me: usize) {
        for round in me.. {
            let result = match round % 5 {
                0 => self.pair.try_write(),
                1 => self.pair.try_write_for(Duration::from_millis(1)),
                _ => self.pair.write(),
            };
            match result {
                Ok(mut guard) => {
                    self.change(&mut guard, round);
                    if round % 3 == 0 {
                        let reading = ShmRwLockWriteGuard::downgrade(guard);
                        self.look(&reading);
                        self.read_once_more(&reading);
                    }
                }
                Err(LockError::Poisoned(poisoned)) => {
                    self.log.deaths_reported.fetch_add(1, Ordering::Relaxed);
                    if poisoned.get_ref().is_whole() {
                        self.whole_but_poisoned.fetch_add(1, Ordering::Relaxed);
                    }
                    let mut guard = poisoned.recover(|pair| {
                        pair.second = pair.first;
                        pair.is_changing = 0;
                    });
                    self.change(&mut guard, round);
                }
                Err(LockError::WouldBlock | LockError::TimedOut) => continue,
                Err(other) => self.log.record_violation(&format!("write: {other:?}")),
            }
            self.log.finish_round(me);
        }
    }
}

on_stage! {
    output to record;

    fn smoke() {
        let library = Segment::anonymous(Library::new()).unwrap();
        let mut guard = library.pair.write().unwrap();
        library.change(&mut guard, 0);
        drop(guard);
        library.look(&library.pair.read().unwrap());
    }

    fn rwlock_storm_leaves_no_stuck_process() {
        let library = Segment::anonymous(Library::new()).unwrap();
        const { assert!(READERS < PROCESSES) };
        survive("rwlock", &library.log, |me| {
            if me < READERS {
                library.read_forever(me);
            } else {
                library.write_forever(me);
            }
        });
        println!(
            "{} reads of poisoned data, {} repairs of whole data",
            library.poisoned_reads.load(Ordering::Relaxed),
            library.whole_but_poisoned.load(Ordering::Relaxed)
        );
        let pair = library.pair.try_write_for(TIME_LIMIT);
        let is_whole_or_poisoned = match pair {
            Ok(pair) => pair.is_whole(),
            Err(LockError::Poisoned(_)) => true,
            Err(other) => panic!("{other:?}"),
        };
        assert!(is_whole_or_poisoned, "half a change without poison");
        assert_eq!(library.pair.readers(), 0, "no killed reader counts");
    }
}
