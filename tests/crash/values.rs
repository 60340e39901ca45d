//! `Published` and `ShmOnceLock`: killed at every instruction, and at random instants.
//!
//! ```sh
//! SHM_SYNC_KILL_STRIDE=1 SHM_SYNC_STORM_KILLS=5000 SHM_SYNC_TEST_WATCHDOG=1800 \
//!     cargo test --release --test crash -- --nocapture values
//! ```

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shm_sync::{Published, Segment, ShmOnceLock, ShmSafe};

use crate::family_results::record;
use crate::scene::{Order, Reached, Scene, nothing, yes};
use crate::storm::{Log, PROCESSES, survive};
use crate::support::on_stage;
use crate::support::walker::Walker;

type Value = [u64; 8];

/// Uses an object of the same kind, because the first use in a process takes another
/// path.
fn warm_up() {
    let spare = Segment::anonymous(Published::<Value>::new([0; 8])).unwrap();
    spare.publish([1; 8]).unwrap();
    let spare = Segment::anonymous(ShmOnceLock::<Value>::new()).unwrap();
    assert_eq!(spare.get_or_init(|| [1; 8]).unwrap(), &[1; 8]);
}

type Sleeper<'a> = &'a dyn Fn(&Published<Value>);

fn wait_for_publication(published: &Published<Value>) {
    assert!(published.wait_newer(0, None).unwrap());
    assert_ne!(published.read(), [0; 8]);
}

// --- Storms -------------------------------------------------------------------------

/// Two processes publish without a pause, and the others read.
#[derive(ShmSafe)]
#[repr(C)]
struct Board {
    /// So large that publications fall into the copy of a reader.
    latest: Published<[u64; 1024]>,
    log: Log,
}

const PUBLISHERS: usize = 2;

impl Board {
    fn publish_forever(&self, me: usize) {
        loop {
            match self.latest.update(|[last, ..]| [last + 1; 1024]) {
                Ok(_) => self.log.finish_round(me),
                Err(error) => return self.log.record_violation(&format!("{error:?}")),
            }
        }
    }

    fn read_forever(&self, me: usize) {
        let mut seen = 0;
        loop {
            let (value, version) = self.latest.read_with_version();
            if value != [version; 1024] {
                self.log
                    .record_violation(&format!("torn at version {version}: {value:?}"));
            }
            if version < seen {
                self.log
                    .record_violation(&format!("version {version} after {seen}"));
            }
            seen = version;
            self.log.finish_round(me);
            if me + 1 == PROCESSES {
                let waited = self
                    .latest
                    .wait_newer(version, Some(Duration::from_millis(5)));
                if let Err(error) = waited {
                    self.log.record_violation(&format!("{error:?}"));
                }
            }
        }
    }
}

/// Each place is made once, whichever process is killed.
#[derive(ShmSafe)]
#[repr(C)]
struct Places {
    places: [ShmOnceLock<Value>; 2048],
    next: AtomicU64,
    log: Log,
}

impl Places {
    fn make_forever(&self, me: usize) {
        let mut known = [None; 16];
        loop {
            // All processes work on the same few places.
            let at = self.next.load(Ordering::Relaxed) as usize % self.places.len();
            let made = self.places[at].get_or_init(|| {
                let mut value = [0; 8];
                for element in &mut value {
                    *element = u64::from(std::process::id());
                    std::hint::black_box(&element);
                }
                value
            });
            match made {
                Ok(value) => {
                    if value.iter().any(|element| *element != value[0]) || value[0] == 0 {
                        self.log.record_violation(&format!("not whole: {value:?}"));
                    }
                    let slot = &mut known[at % 16];
                    if slot.is_some_and(|(place, first)| place == at && first != value[0]) {
                        self.log.record_violation("the value has changed");
                    }
                    *slot = Some((at, value[0]));
                }
                Err(error) => self.log.record_violation(&format!("{error:?}")),
            }
            if me == 0 {
                self.next.fetch_add(1, Ordering::Relaxed);
            }
            self.log.finish_round(me);
        }
    }
}

on_stage! {
    output to record;

    fn publish_survives_kills() {
        let sleepers: [Sleeper<'_>; 2] = [&wait_for_publication, &wait_for_publication];
        for (name, sleepers) in [("publish", &sleepers[..0]), ("publish with waiters", &sleepers)] {
            let scene = Scene {
                name,
                object: &|| Published::<Value>::new([0; 8]),
                set_up: &nothing,
                sleepers,
                order: Order::BeforeVictim,
                victim: &|published: &'static Published<Value>| {
                    Walker::prepared(warm_up, |()| {
                        published.publish([1; 8]).unwrap();
                    })
                },
                release: &nothing,
                check: &|published: &Published<Value>, reached| {
                    let (value, version) = published.read_with_version();
                    assert_eq!(value, [version; 8], "the value is whole");
                    assert!(version == 1 || reached == Reached::Inside);
                    assert_eq!(published.publish([version + 1; 8]).unwrap(), version + 1);
                    assert_eq!(published.read(), [version + 1; 8]);
                },
                goes_on_alone: &|published: &Published<Value>, _| published.version() == 1,
            };
            scene.run(40);
        }
    }

    fn making_once_survives_kills() {
        let scene = Scene {
            name: "make once",
            object: &ShmOnceLock::<Value>::new,
            set_up: &nothing,
            sleepers: &[],
            order: Order::BeforeVictim,
            victim: &|lock: &'static ShmOnceLock<Value>| {
                Walker::prepared(warm_up, |()| {
                    assert_eq!(lock.get_or_init(|| [1; 8]).unwrap(), &[1; 8]);
                })
            },
            release: &nothing,
            check: &|lock: &ShmOnceLock<Value>, reached| {
                let before = lock.get().copied();
                assert!(before.is_none_or(|value| value == [1; 8]), "{before:?} is not whole");
                assert!(before.is_some() || reached == Reached::Inside);
                let value = *lock.get_or_init(|| [2; 8]).unwrap();
                assert_eq!(value, before.unwrap_or([2; 8]));
            },
            goes_on_alone: &yes,
        };
        scene.run(10);
    }

    fn published_storm_tears_no_value() {
        let board = Segment::anonymous(Board {
            latest: Published::new([0; 1024]),
            log: Log::new(),
        })
        .unwrap();
        survive("published", &board.log, |me| {
            if me < PUBLISHERS {
                board.publish_forever(me);
            } else {
                board.read_forever(me);
            }
        });
    }

    fn once_storm_makes_each_value_once() {
        let places = Segment::anonymous(Places {
            places: [const { ShmOnceLock::new() }; 2048],
            next: AtomicU64::new(0),
            log: Log::new(),
        })
        .unwrap();
        survive("made once", &places.log, |me| places.make_forever(me));
        let made = places.places.iter().filter(|place| place.get().is_some()).count();
        assert!(made > 0, "no value was made");
        println!("{made} values were made");
    }
}
