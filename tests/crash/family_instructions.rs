//! Every operation on events, semaphores and lifelines, killed at every instruction.
//!
//! `ptrace` steps a child through one operation and kills it after the n-th
//! instruction, another child for each n, and in its sleep. After each kill, the
//! processes that slept before must go on, and a new process must find an object that
//! works.
//!
//! By default, short operations are killed at every instruction or every second one.
//! Waits have up to 16,000 instructions, most of them in a spin, and are killed at one
//! in 150. These differ from run to run. The environment sets another stride:
//!
//! ```sh
//! SHM_SYNC_KILL_STRIDE=16 SHM_SYNC_TEST_WATCHDOG=600 \
//!     cargo test --release --test crash -- --nocapture family_instructions
//! ```

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use std::cell::RefCell;
use std::mem::forget;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shm_sync::{
    End, Error, LifelineGuard, Lifelines, LockError, Segment, ShmEvent, ShmLifeline, ShmMutex,
    ShmSafe, ShmSemaphore,
};

use crate::family_results::record;
use crate::scene::{Order, Reached, Scene, TIME_LIMIT, nothing, try_keeps_no_other_try_out, yes};
use crate::support::walker::{Walker, can_lead_for};
use crate::support::{Child, LOCK_WORD, on_stage, spawn};

/// Returns the words of an object. Other processes may write to them.
fn words<T>(object: &T) -> Vec<u32> {
    let begin = std::ptr::from_ref(object).cast::<u32>();
    (0..size_of::<T>() / size_of::<u32>())
        .map(|at| {
            let word = begin.wrapping_add(at);
            // SAFETY: the word is inside the object, which is aligned for `u32`. The
            // read is volatile, because other processes write to the memory.
            unsafe { word.read_volatile() }
        })
        .collect()
}

/// Leads a victim to the end of its operation. Returns the offsets of the words that
/// have changed, in the order of their first changes.
fn order_of_changes<T>(object: &T, walker: &mut Walker) -> Vec<usize> {
    let first = words(object);
    let mut changed = Vec::new();
    while !walker.is_at_end() {
        walker.step_blindly();
        let now = words(object);
        for (at, _) in first
            .iter()
            .zip(&now)
            .enumerate()
            .filter(|(_, (a, b))| a != b)
        {
            let offset = at * size_of::<u32>();
            if !changed.contains(&offset) {
                changed.push(offset);
            }
        }
    }
    changed
}

/// Starts a process that falls asleep, and stops it. So it is announced, and does not
/// settle its announcement.
pub(crate) fn stopped_sleeper(sleep: impl FnOnce()) -> Child {
    let sleeper = spawn(sleep);
    sleeper.wait_until_asleep();
    sleeper.stop();
    sleeper
}

/// Asserts that a victim changes these words, in this order.
pub(crate) fn assert_order<T>(object: &T, mut walker: Walker, expected: &[usize]) {
    let mut changes = order_of_changes(object, &mut walker);
    changes.retain(|offset| expected.contains(offset));
    assert_eq!(changes, expected);
    walker.kill();
}

// --- Events -------------------------------------------------------------------------

#[derive(ShmSafe)]
#[repr(C)]
struct Turns {
    event: ShmEvent,
    passed: AtomicU32,
}

impl Turns {
    fn manual() -> Self {
        Self {
            event: ShmEvent::manual_reset(),
            passed: AtomicU32::new(0),
        }
    }

    fn auto() -> Self {
        Self {
            event: ShmEvent::auto_reset(),
            passed: AtomicU32::new(0),
        }
    }

    fn pass(&self) {
        self.event.wait().unwrap();
        self.passed.fetch_add(1, Ordering::SeqCst);
    }

    fn set(&self) {
        self.event.set().unwrap();
    }

    /// Lets `sleepers` pass, one after the other.
    fn let_pass(&self, sleepers: u32) {
        while self.passed.load(Ordering::SeqCst) < sleepers {
            let before = self.passed.load(Ordering::SeqCst);
            self.set();
            let begin = Instant::now();
            while self.passed.load(Ordering::SeqCst) == before {
                assert!(begin.elapsed() < TIME_LIMIT, "no sleeper passes");
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    }
}

/// Uses an object of the same kind, because the first use in a process takes another
/// path.
fn warm_up_event() {
    let spare = Segment::anonymous(Turns::manual()).unwrap();
    spare.set();
    spare.pass();
    assert!(spare.event.try_wait().unwrap());
    spare.event.reset();
    assert!(
        spare
            .event
            .wait_timeout(Duration::from_millis(1))
            .unwrap()
            .timed_out()
    );
}

// --- Semaphores ---------------------------------------------------------------------

fn warm_up_semaphore() {
    let spare = Segment::anonymous(ShmSemaphore::<2>::new()).unwrap();
    drop(spare.acquire_many(2).unwrap());
    let _both = spare.acquire_many(2).unwrap();
    assert!(spare.try_acquire_for(Duration::ZERO).is_err());
}

/// Checks that all permits come back, and that `deaths` of their holders died.
fn check_permits<const N: usize>(semaphore: &ShmSemaphore<N>, deaths: impl Fn(usize) -> bool) {
    let permits = semaphore.try_acquire_many_for(N, TIME_LIMIT).unwrap();
    let mut indices: Vec<usize> = permits.iter().map(|permit| permit.index()).collect();
    indices.sort_unstable();
    assert!(indices.into_iter().eq(0..N), "each permit once");
    let dead = permits.iter().filter(|permit| permit.after_death()).count();
    assert!(deaths(dead), "{dead} deaths are reported");
    drop(permits);
    let again = semaphore.try_acquire_many_for(N, TIME_LIMIT).unwrap();
    let dead = again.iter().filter(|permit| permit.after_death()).count();
    assert_eq!(dead, 0, "a death is reported once");
}

fn leak_permit<const N: usize>(semaphore: &ShmSemaphore<N>) {
    forget(semaphore.acquire().unwrap());
}

fn use_permit<const N: usize>(semaphore: &ShmSemaphore<N>) {
    drop(semaphore.acquire().unwrap());
}

// --- Lifelines ----------------------------------------------------------------------

#[derive(ShmSafe)]
#[repr(C)]
struct Worker {
    line: ShmLifeline,
    group: Lifelines<3>,
    /// How many watchers have returned, and how many of them were told of a death.
    told: AtomicU32,
    died: AtomicU32,
}

impl Worker {
    fn new() -> Self {
        Self {
            line: ShmLifeline::new(),
            group: Lifelines::new(),
            told: AtomicU32::new(0),
            died: AtomicU32::new(0),
        }
    }

    fn watch(&self) {
        match self.line.wait_for_end(None).unwrap() {
            End::Died => {
                self.died.fetch_add(1, Ordering::SeqCst);
            }
            End::Ended => {}
            other => panic!("{other:?}"),
        }
        self.told.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until so many watchers have returned.
    fn expect_told(&self, watchers: u32) {
        let begin = Instant::now();
        while self.told.load(Ordering::SeqCst) < watchers {
            assert!(begin.elapsed() < TIME_LIMIT, "a watcher is stuck");
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn hold(&self) -> LifelineGuard<'_> {
        self.line.hold().unwrap()
    }
}

fn warm_up_lifeline() {
    let spare = Segment::anonymous(Worker::new()).unwrap();
    drop(spare.hold());
    assert_eq!(spare.line.wait_for_end(None).unwrap(), End::Ended);
    let _guard = spare.hold();
    assert!(matches!(
        spare.line.wait_for_end(None),
        Err(Error::Lock(LockError::Deadlock))
    ));
    drop(spare.group.hold().unwrap());
    let timeout = Some(Duration::from_millis(1));
    let never_held = spare.group.wait_for_end(2, timeout).unwrap();
    assert!(matches!(never_held, End::TimedOut | End::Ended));
}

on_stage! {
    output to record;

    fn smoke() {
        let scene = Scene {
            name: "nothing",
            object: &Turns::manual,
            set_up: &nothing,
            sleepers: &[&Turns::pass],
            order: Order::BeforeVictim,
            victim: &|_| Walker::new(|| ()),
            release: &nothing,
            check: &|turns: &Turns, _| turns.set(),
            goes_on_alone: &|_, _| false,
        };
        scene.run(1);
    }

    // A death between two steps does not show these orders, because the recheck repairs
    // what a wrong order breaks.
    fn changes_precede_notifications() {
        if !can_lead_for("the order of the steps") {
            return;
        }
        let (state, sequence) = (0, 8);
        let event = Segment::anonymous(ShmEvent::auto_reset()).unwrap();
        let sleeper = stopped_sleeper(|| event.wait().unwrap());
        let set = Walker::prepared(warm_up_event, |()| event.set().unwrap());
        assert_order(&*event, set, &[state, sequence]);
        drop(sleeper);

        let seat_len = size_of::<ShmLifeline>() - 64;
        let (sequence, permit) = (seat_len, seat_len + 64 + LOCK_WORD);
        let semaphore = Segment::anonymous(ShmSemaphore::<1>::new()).unwrap();
        let prepare = || {
            warm_up_semaphore();
            semaphore.acquire().unwrap()
        };
        let release = Walker::prepared(prepare, drop);
        let sleeper = stopped_sleeper(|| use_permit(&semaphore));
        assert_order(&*semaphore, release, &[permit, sequence]);
        drop(sleeper);

        let pthread_len = size_of::<ShmMutex<()>>() - 24;
        let (word, sequence) = (LOCK_WORD, seat_len);
        let upper_half_of_note = pthread_len + 12;
        let worker = Segment::anonymous(Worker::new()).unwrap();
        let prepare = || {
            warm_up_lifeline();
            worker.hold()
        };
        let end = Walker::prepared(prepare, drop);
        let _sleeper = stopped_sleeper(|| worker.watch());
        assert_order(&worker.line, end, &[upper_half_of_note, word, sequence]);
    }

    fn event_set_survives_kills() {
        for (name, sleepers) in [
            ("set", &[] as &[&dyn Fn(&Turns)]),
            ("set with sleepers", &[&Turns::pass, &Turns::pass]),
        ] {
            let scene = Scene {
                name,
                object: &Turns::manual,
                set_up: &nothing,
                sleepers,
                order: Order::BeforeVictim,
                victim: &|turns| Walker::prepared(warm_up_event, |()| turns.set()),
                release: &nothing,
                check: &|turns: &Turns, _| {
                    turns.set();
                    turns.pass();
                },
                // The flag is set, whether the victim has woken the sleepers or not.
                goes_on_alone: &|turns, _| turns.event.is_set(),
            };
            scene.run(2);
        }
    }

    fn auto_event_set_survives_kills() {
        let scene = Scene {
            name: "set, automatic, with sleepers",
            object: &Turns::auto,
            set_up: &nothing,
            sleepers: &[&Turns::pass, &Turns::pass],
            order: Order::BeforeVictim,
            victim: &|turns| Walker::prepared(warm_up_event, |()| turns.set()),
            release: &nothing,
            check: &|turns: &Turns, reached| {
                // The victim's event lets one sleeper pass, without a further one.
                let begin = Instant::now();
                let is_pending =
                    || turns.event.is_set() || reached == Reached::End;
                while is_pending() && turns.passed.load(Ordering::SeqCst) == 0 {
                    assert!(begin.elapsed() < TIME_LIMIT, "no sleeper passes");
                    std::thread::sleep(Duration::from_micros(100));
                }
                turns.let_pass(2);
            },
            goes_on_alone: &|_, _| false,
        };
        scene.run(2);
    }

    fn event_wait_survives_kills() {
        for (name, object) in [
            ("wait", &Turns::manual as &dyn Fn() -> Turns),
            ("wait, automatic", &Turns::auto),
        ] {
            let scene = Scene {
                name,
                object,
                set_up: &nothing,
                sleepers: &[&Turns::pass],
                order: Order::BeforeVictim,
                victim: &|turns| {
                    Walker::prepared(warm_up_event, |()| turns.event.wait().unwrap())
                },
                release: &|turns| turns.set(),
                check: &|turns: &Turns, _| turns.let_pass(1),
                goes_on_alone: &|_, _| false,
            };
            scene.run(150);
        }
    }

    fn acquire_survives_kills() {
        let scene = Scene {
            name: "acquire",
            object: &ShmSemaphore::<2>::new,
            set_up: &nothing,
            sleepers: &[],
            order: Order::BeforeVictim,
            victim: &|semaphore| {
                Walker::prepared(warm_up_semaphore, |()| leak_permit(semaphore))
            },
            release: &nothing,
            check: &|semaphore: &ShmSemaphore<2>, reached| {
                let at_least = usize::from(reached == Reached::End);
                check_permits(semaphore, |dead| (at_least..=1).contains(&dead));
            },
            goes_on_alone: &yes,
        };
        scene.run(1);
    }

    fn acquire_at_gate_survives_kills() {
        // The harness has the only permit. One process queues behind the victim.
        let kept = RefCell::new(None);
        let scene = Scene {
            name: "acquire at the gate",
            object: &ShmSemaphore::<1>::new,
            set_up: &|semaphore| {
                drop(kept.replace(None));
                kept.replace(Some(semaphore.acquire().unwrap()));
            },
            sleepers: &[&use_permit],
            order: Order::BeforeVictim,
            victim: &|semaphore| {
                Walker::prepared(warm_up_semaphore, |()| leak_permit(semaphore))
            },
            release: &|_| drop(kept.take()),
            check: &|semaphore: &ShmSemaphore<1>, _| check_permits(semaphore, |dead| dead <= 1),
            goes_on_alone: &yes,
        };
        scene.run(150);
    }

    fn acquire_many_survives_kills() {
        // The harness has one of three permits. The victim collects the others, and
        // waits.
        let kept = RefCell::new(None);
        let scene = Scene {
            name: "acquire three",
            object: &ShmSemaphore::<3>::new,
            set_up: &|semaphore| {
                drop(kept.replace(None));
                kept.replace(Some(semaphore.acquire().unwrap()));
            },
            sleepers: &[],
            order: Order::BeforeVictim,
            victim: &|semaphore| {
                Walker::prepared(warm_up_semaphore, |()| {
                    forget(semaphore.acquire_many(3).unwrap());
                })
            },
            release: &|_| drop(kept.take()),
            check: &|semaphore: &ShmSemaphore<3>, reached| {
                let at_least = if reached == Reached::End { 3 } else { 0 };
                check_permits(semaphore, |dead| (at_least..=3).contains(&dead));
            },
            goes_on_alone: &yes,
        };
        scene.run(150);
    }

    fn release_survives_kills() {
        let scene = Scene {
            name: "release",
            object: &ShmSemaphore::<2>::new,
            set_up: &nothing,
            sleepers: &[],
            order: Order::BeforeVictim,
            victim: &|semaphore| {
                let prepare = || {
                    warm_up_semaphore();
                    semaphore.acquire().unwrap()
                };
                Walker::prepared(prepare, drop)
            },
            release: &nothing,
            check: &|semaphore: &ShmSemaphore<2>, reached| {
                let at_most = usize::from(reached == Reached::Inside);
                check_permits(semaphore, |dead| dead <= at_most);
            },
            goes_on_alone: &yes,
        };
        scene.run(1);
    }

    fn release_to_sleeper_survives_kills() {
        // The victim has the only permit.
        let scene = Scene {
            name: "release to a sleeper",
            object: &ShmSemaphore::<1>::new,
            set_up: &nothing,
            sleepers: &[&use_permit],
            order: Order::AfterPreparation,
            victim: &|semaphore| {
                let prepare = || {
                    warm_up_semaphore();
                    semaphore.acquire().unwrap()
                };
                Walker::prepared(prepare, drop)
            },
            release: &nothing,
            check: &|semaphore: &ShmSemaphore<1>, _| check_permits(semaphore, |dead| dead <= 1),
            goes_on_alone: &yes,
        };
        scene.run(2);
    }

    fn hold_survives_kills() {
        let scene = Scene {
            name: "hold",
            object: &Worker::new,
            set_up: &nothing,
            // They wait for the first holder.
            sleepers: &[&Worker::watch, &Worker::watch],
            order: Order::BeforeVictim,
            victim: &|worker| Walker::prepared(warm_up_lifeline, |()| forget(worker.hold())),
            release: &nothing,
            check: &|worker: &Worker, reached| {
                let guard = worker.hold();
                assert!(guard.after_death() || reached == Reached::Inside);
                let deaths = if guard.after_death() { 2 } else { 0 };
                drop(guard);
                worker.expect_told(2);
                assert_eq!(worker.died.load(Ordering::SeqCst), deaths);
                assert_eq!(worker.line.wait_for_end(None).unwrap(), End::Ended);
                assert!(!worker.hold().after_death(), "a death is reported once");
            },
            goes_on_alone: &|_, reached| reached == Reached::End,
        };
        scene.run(2);
    }

    fn end_of_holding_survives_kills() {
        let scene = Scene {
            name: "drop of a lifeline's guard",
            object: &Worker::new,
            set_up: &nothing,
            sleepers: &[&Worker::watch, &Worker::watch],
            order: Order::AfterPreparation,
            victim: &|worker| {
                let prepare = || {
                    warm_up_lifeline();
                    worker.hold()
                };
                Walker::prepared(prepare, drop)
            },
            release: &nothing,
            check: &|worker: &Worker, reached| {
                worker.expect_told(2);
                assert!(!worker.line.is_alive());
                let end = worker.line.wait_for_end(None).unwrap();
                assert!(end == End::Ended || reached == Reached::Inside);
                let guard = worker.hold();
                assert_eq!(guard.after_death(), end == End::Died, "both tell the same");
            },
            goes_on_alone: &yes,
        };
        scene.run(2);
    }

    fn try_acquire_keeps_no_other_try_out() {
        try_keeps_no_other_try_out(
            "try_acquire",
            ShmSemaphore::<1>::new,
            || drop(Segment::anonymous(ShmSemaphore::<1>::new()).unwrap().acquire()),
            |semaphore| semaphore.acquire().unwrap(),
            |semaphore| semaphore.try_acquire().is_ok(),
        );
    }

    fn wait_for_end_survives_kills() {
        // The kernel wakes the victim or the other watcher when the holder dies.
        let holder = RefCell::new(None);
        let scene = Scene {
            name: "wait for the end",
            object: &Worker::new,
            set_up: &|worker| {
                let child = spawn(|| {
                    forget(worker.hold());
                    nix::unistd::pause();
                });
                crate::support::poll(|| worker.line.is_alive());
                holder.replace(Some(child));
            },
            sleepers: &[&Worker::watch],
            order: Order::BeforeVictim,
            victim: &|worker| {
                Walker::prepared(warm_up_lifeline, |()| {
                    assert_eq!(worker.line.wait_for_end(None).unwrap(), End::Died);
                })
            },
            release: &|_| {
                if let Some(mut child) = holder.take() {
                    child.kill();
                }
            },
            check: &|worker: &Worker, _| {
                assert_eq!(worker.died.load(Ordering::SeqCst), 1, "the watcher was told");
                assert!(worker.hold().after_death());
            },
            goes_on_alone: &yes,
        };
        scene.run(150);
    }
}
