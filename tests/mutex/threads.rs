//! Threads of one process, for ThreadSanitizer. The other tests do the same with
//! processes, which no sanitizer follows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::{TestName, expect_poisoned, on_stage};
use shm_sync::{LockError, Segment, ShmCondvar, ShmMutex, ShmSafe};

const THREADS: u64 = 4;
const TURNS: u64 = 2_000;

#[derive(ShmSafe)]
#[repr(C)]
struct Table {
    turn: ShmMutex<u64>,
    changed: ShmCondvar,
    total: ShmMutex<[u64; 8]>,
}

fn table() -> Segment<Table> {
    let table = Table {
        turn: ShmMutex::new(0),
        changed: ShmCondvar::new(),
        total: ShmMutex::new([0; 8]),
    };
    Segment::anonymous(table).unwrap()
}

on_stage! {
    fn smoke() {
        let table = table();
        thread::scope(|s| {
            for _ in 0..THREADS {
                s.spawn(|| {
                    for _ in 0..TURNS {
                        table.total.lock().unwrap().iter_mut().for_each(|n| *n += 1);
                    }
                });
            }
        });
        assert_eq!(*table.total.lock().unwrap(), [THREADS * TURNS; 8]);
    }

    fn try_lock_excludes_threads() {
        let table = table();
        let locked = AtomicU64::new(0);
        thread::scope(|s| {
            for thread in 0..THREADS {
                let (table, locked) = (&table, &locked);
                s.spawn(move || {
                    for _ in 0..TURNS {
                        let guard = match thread % 2 {
                            0 => table.total.try_lock(),
                            _ => table.total.try_lock_for(Duration::from_micros(50)),
                        };
                        match guard {
                            Ok(mut total) => {
                                total[0] += 1;
                                locked.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(LockError::WouldBlock | LockError::TimedOut) => thread::yield_now(),
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                });
            }
        });
        assert_eq!(table.total.lock().unwrap()[0], locked.load(Ordering::Relaxed));
    }

    fn notified_thread_sees_earlier_writes() {
        let table = table();
        thread::scope(|s| {
            for me in 0..THREADS {
                let table = &table;
                s.spawn(move || {
                    for round in 0..TURNS / 10 {
                        let mine = round * THREADS + me;
                        let turn = table.turn.lock().unwrap();
                        let mut turn = table.changed.wait_while(turn, |turn| *turn != mine).unwrap();
                        *turn += 1;
                        table.changed.notify_all();
                    }
                });
            }
        });
        assert_eq!(*table.turn.lock().unwrap(), TURNS / 10 * THREADS);
    }

    fn repair_sees_writes_of_panicked_thread() {
        let table = table();
        for round in 1..20 {
            thread::scope(|s| {
                let panicked = s.spawn(|| {
                    let mut total = table.total.lock().unwrap();
                    total[0] += 1;
                    panic!("on purpose");
                });
                assert!(panicked.join().is_err());
            });
            let guard = expect_poisoned(table.total.lock()).recover(|total| total[1] = total[0]);
            assert_eq!(guard[1], round);
        }
    }

    fn create_open_drop_race_uses_one_object() {
        let name = TestName::new("threads");
        thread::scope(|s| {
            for _ in 0..THREADS {
                s.spawn(|| {
                    for _ in 0..50 {
                        let shared = Segment::open_or_create(&name, || ShmMutex::new(0_u64)).unwrap();
                        *shared.lock().unwrap() += 1;
                    }
                });
            }
        });
        let shared = Segment::<ShmMutex<u64>>::open(&name).unwrap();
        assert_eq!(*shared.lock().unwrap(), THREADS * 50);
    }
}
