//! Storms of SIGKILL over processes that create, open, leave, remove and recreate
//! segments under one name.
//!
//! Numbers and the seed can be chosen:
//!
//! ```sh
//! SHM_SYNC_NAMES_ROUNDS=2000 SHM_SYNC_NAMES_KILLS=5000 SHM_SYNC_TEST_WATCHDOG=900 \
//!     cargo test --release --test crash -- --nocapture name_storm
//! ```

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Child, Marked, Random, TestAddress, number_from_env, on_stage, spawn};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use shm_sync::{Backing, Error, IfAbandoned, Removal, Segment, SegmentOptions, ShmSafe, unlink};

const KINDS: [Backing; 3] = [Backing::Posix, Backing::SystemV, Backing::File];

/// How many rounds or kills there are: a file goes to the disk each time.
fn how_many(variable: &str, otherwise: u64, kind: Backing) -> u64 {
    match kind {
        Backing::File => number_from_env(variable).unwrap_or(otherwise) / 10,
        _ => number_from_env(variable).unwrap_or(otherwise),
    }
}

fn transient() -> SegmentOptions {
    SegmentOptions::new().removal(Removal::UntilLastDetach)
}

/// Where all meet who start at once.
#[derive(ShmSafe)]
#[repr(C)]
struct Start {
    go: AtomicU32,
    /// Who was called upon for a value last: its number, counted from 1.
    creating: AtomicU32,
    may_leave: AtomicU32,
    /// What each has found: the id, and 0 if it has not got so far.
    found: [AtomicU64; Start::RACERS],
}

impl Start {
    const RACERS: usize = 16;

    fn new() -> Self {
        Self {
            go: AtomicU32::new(0),
            creating: AtomicU32::new(0),
            may_leave: AtomicU32::new(0),
            found: [const { AtomicU64::new(0) }; Self::RACERS],
        }
    }

    fn race(&self, options: &SegmentOptions, address: &str, me: usize, round: u64) {
        wait_for(&self.go);
        let value = || {
            self.creating.store(me as u32 + 1, Ordering::SeqCst);
            Marked::new(round * 100 + me as u64 + 1)
        };
        let segment = options.open_or_create(address, value).unwrap();
        segment.visit();
        self.found[me].store(segment.id(), Ordering::SeqCst);
        // Nobody leaves before all are there, or it might go in between.
        wait_for(&self.may_leave);
    }
}

fn wait_for(flag: &AtomicU32) {
    while flag.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
}

/// Sixteen at once, one of which is killed at a random moment. Returns whether the
/// one that was killed had created what the others use.
fn race(address: &TestAddress, options: &SegmentOptions, round: u64, random: &mut Random) -> bool {
    let start = Segment::anonymous(Start::new()).unwrap();
    let mut racers: Vec<Child> = (0..Start::RACERS)
        .map(|me| {
            let start = &start;
            spawn(move || start.race(options, address, me, round))
        })
        .collect();
    start.go.store(1, Ordering::SeqCst);
    let victim = match random.below(2) {
        0 => random.below(Start::RACERS as u64) as usize,
        // One that is in the middle of it.
        _ => {
            wait_for(&start.creating);
            start.creating.load(Ordering::SeqCst) as usize - 1
        }
    };
    random.dither(20);
    racers[victim].signal(Signal::SIGKILL);
    let end = racers[victim].wait();
    assert!(
        matches!(end, WaitStatus::Signaled(_, Signal::SIGKILL, _)),
        "{end:?}"
    );
    let survivors = Start::RACERS as u32 - 1;
    crate::support::poll(|| {
        let finished =
            |(who, racer): (usize, &mut Child)| who != victim && racer.try_wait().is_some();
        let failed = racers.iter_mut().enumerate().any(finished);
        assert!(!failed, "round {round}: a survivor ended too early");
        // The victim may have arrived before its end.
        let there = |&who: &usize| start.found[who].load(Ordering::SeqCst) != 0;
        (0..Start::RACERS)
            .filter(|who| *who != victim)
            .filter(there)
            .count() as u32
            == survivors
    });

    let found = |who: usize| start.found[who].load(Ordering::SeqCst);
    let id = found((victim + 1) % Start::RACERS);
    for who in 0..Start::RACERS {
        let same = found(who) == id || (who == victim && found(who) == 0);
        assert!(same, "round {round}: {who} has another object");
    }
    let now = Segment::<Marked>::open(address).unwrap();
    assert_eq!(now.id(), id, "round {round}: the name leads elsewhere");
    let visits = *match now.visits.lock() {
        Ok(visits) => visits,
        Err(error) => match error {
            shm_sync::LockError::Poisoned(poisoned) => poisoned.recover(|_| {}),
            other => panic!("{other:?}"),
        },
    };
    let victims = visits.checked_sub(u64::from(survivors));
    assert!(
        matches!(victims, Some(0 | 1)),
        "round {round}: {visits} visits"
    );
    drop(now);
    start.may_leave.store(1, Ordering::SeqCst);
    for (who, racer) in racers.into_iter().enumerate() {
        if who != victim {
            racer.join();
        }
    }
    id == round * 100 + victim as u64 + 1
}

/// Processes that do anything to one name, until they are killed.
#[derive(ShmSafe)]
#[repr(C)]
struct Sea {
    ids: AtomicU64,
    turns: AtomicU64,
    created: AtomicU64,
    violations: AtomicU64,
    /// How often each has got its turn.
    each: [AtomicU64; Sea::SAILORS],
}

/// Whether somebody takes the name away from those who use it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unlinking {
    Never,
    NowAndThen,
}

impl Sea {
    const SAILORS: usize = 6;

    fn new() -> Self {
        Self {
            ids: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            created: AtomicU64::new(0),
            violations: AtomicU64::new(0),
            each: [const { AtomicU64::new(0) }; Self::SAILORS],
        }
    }

    fn violated(&self, what: &str) {
        eprintln!("VIOLATION: {what}");
        self.violations.fetch_add(1, Ordering::SeqCst);
    }

    fn new_one(&self) -> Marked {
        self.created.fetch_add(1, Ordering::Relaxed);
        Marked::new(self.ids.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn sail(&self, address: &str, me: usize, seed: u64, unlinking: Unlinking) {
        let mut random = Random::new(seed);
        loop {
            let mut options = SegmentOptions::new();
            if random.below(4) > 0 {
                options = options.removal(Removal::UntilLastDetach);
            }
            if random.below(2) == 0 {
                options = options.if_abandoned(IfAbandoned::Recreate);
            }
            let result = match random.below(8) {
                0..3 => options.open_or_create(address, || self.new_one()),
                3 => options.create(address, self.new_one()),
                _ => options.open(address),
            };
            let mine = match result {
                Ok(segment) => Some(segment),
                Err(Error::NotFound | Error::AlreadyExists) => None,
                Err(other) => {
                    self.violated(&format!("{other:?}"));
                    None
                }
            };
            if let Some(segment) = mine {
                self.use_it(&segment, address, &mut random, unlinking);
            }
            if random.below(16) == 0 {
                let looked = Segment::<Marked>::open_read_only(address);
                if !matches!(looked, Ok(_) | Err(Error::NotFound)) {
                    self.violated(&format!("looking: {looked:?}"));
                }
            }
            if unlinking == Unlinking::NowAndThen && random.below(4) == 0 {
                let unlinked = unlink(address);
                if !matches!(unlinked, Ok(()) | Err(Error::NotFound)) {
                    self.violated(&format!("unlinking: {unlinked:?}"));
                }
            }
            self.turns.fetch_add(1, Ordering::Relaxed);
            self.each[me].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn use_it(
        &self,
        segment: &Segment<Marked>,
        address: &str,
        random: &mut Random,
        unlinking: Unlinking,
    ) {
        let id = segment.id(); // whole, or it panics
        segment.visit();
        for _ in 0..random.below(4) {
            random.dither(14);
            match Segment::<Marked>::open(address) {
                Ok(again) if again.id() == id => {}
                Ok(_) | Err(Error::NotFound) if unlinking == Unlinking::NowAndThen => {}
                Ok(again) => {
                    self.violated(&format!("{id} is attached, {} has the name", again.id()))
                }
                Err(other) => self.violated(&format!("{id} is attached, and: {other:?}")),
            }
        }
    }
}

fn storm(kind: Backing, kills: u64, seed: u64, unlinking: Unlinking) {
    const PATIENCE: Duration = Duration::from_secs(20);

    let address = TestAddress::new(kind, "sea");
    let sea = Segment::anonymous(Sea::new()).unwrap();
    let mut random = Random::new(seed);
    let sailor = |who: usize, nth: u64| {
        let (sea, address) = (&sea, &address);
        spawn(move || sea.sail(address, who, seed ^ (nth + 1) << 20, unlinking))
    };
    let mut everybody: Vec<Child> = (0..Sea::SAILORS)
        .map(|who| sailor(who, who as u64))
        .collect();
    let begun = Instant::now();
    let mut stops = 0;
    for kill in 0..kills {
        random.dither(22);
        let victim = random.below(Sea::SAILORS as u64) as usize;
        assert!(
            everybody[victim].try_wait().is_none(),
            "a process has failed"
        );
        if random.below(4) == 0 {
            // Stopped for a while, it is not dead.
            stops += 1;
            everybody[victim].signal(Signal::SIGSTOP);
            random.dither(25);
            everybody[victim].signal(Signal::SIGCONT);
        } else {
            everybody[victim].kill();
            everybody[victim] = sailor(victim, kill + Sea::SAILORS as u64);
        }
        assert_eq!(sea.violations.load(Ordering::SeqCst), 0, "kill {kill}");
    }
    // Everybody gets on.
    let each = || -> Vec<u64> { sea.each.iter().map(|n| n.load(Ordering::Relaxed)).collect() };
    let before = each();
    let calm = Instant::now();
    while each()
        .iter()
        .zip(&before)
        .any(|(now, before)| now == before)
    {
        assert!(calm.elapsed() < PATIENCE, "stuck: {before:?}, {:?}", each());
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(everybody);
    assert_eq!(sea.violations.load(Ordering::SeqCst), 0);
    println!(
        "{kind}: {} kills and {stops} stops (seed {seed}) in {:.1?}: {} turns, {} values made",
        kills - stops,
        begun.elapsed(),
        sea.turns.load(Ordering::Relaxed),
        sea.created.load(Ordering::Relaxed),
    );
    // Whatever they left can be used, or cleared away.
    let anew = transient().if_abandoned(IfAbandoned::Recreate);
    let fresh = anew
        .open_or_create(&address, || Marked::new(u64::MAX))
        .unwrap();
    assert_eq!(fresh.id(), u64::MAX);
    drop(fresh);
    assert!(!address.exists());
}

on_stage! {
    fn smoke() {
        for kind in KINDS {
            let address = TestAddress::new(kind, "smoke");
            race(&address, &transient(), 1, &mut Random::new(1));
        }
    }

    fn open_or_create_race_yields_one_object() {
        let (mut random, seed) = Random::from_env(0x16);
        for kind in KINDS {
            let rounds = how_many("SHM_SYNC_NAMES_ROUNDS", 100, kind);
            let address = TestAddress::new(kind, "race");
            let begun = Instant::now();
            let mut orphans = 0;
            for round in 1..=rounds {
                if round % 2 == 0 {
                    orphans += u64::from(race(&address, &transient(), round, &mut random));
                } else {
                    orphans += u64::from(race(&address, &SegmentOptions::new(), round, &mut random));
                    unlink(&address).unwrap();
                }
                assert!(!address.exists(), "round {round}: left behind");
            }
            println!(
                "{kind}: {rounds} rounds (seed {seed}) in {:.1?}, the creator was killed in {orphans}",
                begun.elapsed()
            );
        }
    }

    fn attached_object_keeps_name_in_storm() {
        let (_, seed) = Random::from_env(0x5ea);
        for kind in KINDS {
            storm(kind, how_many("SHM_SYNC_NAMES_KILLS", 300, kind), seed, Unlinking::Never);
        }
    }

    fn opened_object_is_whole_despite_unlinks() {
        let (_, seed) = Random::from_env(0xd0d0);
        for kind in KINDS {
            storm(kind, how_many("SHM_SYNC_NAMES_KILLS", 300, kind), seed, Unlinking::NowAndThen);
        }
    }
}
