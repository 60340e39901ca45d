//! SIGKILL at random instants, for processes that create, open, detach, remove and
//! recreate segments under one name.
//!
//! The numbers and the seed can be set:
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

/// Returns the number of rounds or kills. Files get fewer, because each one is written
/// to the disk.
fn count_for(variable: &str, default: u64, kind: Backing) -> u64 {
    match kind {
        Backing::File => number_from_env(variable).unwrap_or(default) / 10,
        _ => number_from_env(variable).unwrap_or(default),
    }
}

fn transient<T>() -> SegmentOptions<T> {
    SegmentOptions::new().removal(Removal::UntilLastDetach)
}

/// The state that racing processes share.
#[derive(ShmSafe)]
#[repr(C)]
struct Start {
    go: AtomicU32,
    /// The process that was last asked for a value, counted from 1.
    creating: AtomicU32,
    may_leave: AtomicU32,
    /// The id that each process found. 0 before that.
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

    fn race(&self, options: &SegmentOptions<Marked>, address: &str, me: usize, round: u64) {
        wait_for(&self.go);
        let value = || {
            self.creating.store(me as u32 + 1, Ordering::SeqCst);
            Marked::new(round * 100 + me as u64 + 1)
        };
        let segment = options.open_or_create(address, value).unwrap();
        segment.visit();
        self.found[me].store(segment.id(), Ordering::SeqCst);
        // No process detaches before all have opened the object. Otherwise the object
        // might be removed in between.
        wait_for(&self.may_leave);
    }
}

fn wait_for(flag: &AtomicU32) {
    while flag.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
}

/// Runs sixteen processes at once, and kills one at a random moment. Returns whether
/// the killed process had created the object.
fn race(
    address: &TestAddress,
    options: &SegmentOptions<Marked>,
    round: u64,
    random: &mut Random,
) -> bool {
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
        // The process that creates the object.
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
            |(index, racer): (usize, &mut Child)| index != victim && racer.try_wait().is_some();
        let failed = racers.iter_mut().enumerate().any(finished);
        assert!(!failed, "round {round}: a survivor ended too early");
        // The victim may have opened the object before its end.
        let has_found = |&index: &usize| start.found[index].load(Ordering::SeqCst) != 0;
        (0..Start::RACERS)
            .filter(|index| *index != victim)
            .filter(has_found)
            .count() as u32
            == survivors
    });

    let found = |index: usize| start.found[index].load(Ordering::SeqCst);
    let id = found((victim + 1) % Start::RACERS);
    for index in 0..Start::RACERS {
        let same = found(index) == id || (index == victim && found(index) == 0);
        assert!(same, "round {round}: {index} has another object");
    }
    let now = Segment::<Marked>::open(address).unwrap();
    assert_eq!(
        now.id(),
        id,
        "round {round}: the name refers to another object"
    );
    let visits = *now.visits.lock_or_recover(|_, _| ()).unwrap();
    let victims = visits.checked_sub(u64::from(survivors));
    assert!(
        matches!(victims, Some(0 | 1)),
        "round {round}: {visits} visits"
    );
    drop(now);
    start.may_leave.store(1, Ordering::SeqCst);
    for (index, racer) in racers.into_iter().enumerate() {
        if index != victim {
            racer.join();
        }
    }
    id == round * 100 + victim as u64 + 1
}

/// The state of processes that use one name at random until they are killed.
#[derive(ShmSafe)]
#[repr(C)]
struct Storm {
    ids: AtomicU64,
    rounds: AtomicU64,
    created: AtomicU64,
    violations: AtomicU64,
    /// The number of rounds of each process.
    per_process: [AtomicU64; Storm::PROCESSES],
}

/// The processes never unlink the name, or sometimes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unlinking {
    Never,
    Sometimes,
}

impl Storm {
    const PROCESSES: usize = 6;

    fn new() -> Self {
        Self {
            ids: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            created: AtomicU64::new(0),
            violations: AtomicU64::new(0),
            per_process: [const { AtomicU64::new(0) }; Self::PROCESSES],
        }
    }

    fn record_violation(&self, what: &str) {
        eprintln!("VIOLATION: {what}");
        self.violations.fetch_add(1, Ordering::SeqCst);
    }

    fn new_one(&self) -> Marked {
        self.created.fetch_add(1, Ordering::Relaxed);
        Marked::new(self.ids.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn run(&self, address: &str, me: usize, seed: u64, unlinking: Unlinking) {
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
            let segment_of_round = match result {
                Ok(segment) => Some(segment),
                Err(Error::NotFound { .. } | Error::AlreadyExists { .. }) => None,
                Err(other) => {
                    self.record_violation(&format!("{other:?}"));
                    None
                }
            };
            if let Some(segment) = segment_of_round {
                self.use_segment(&segment, address, &mut random, unlinking);
            }
            if random.below(16) == 0 {
                let read = Segment::<Marked>::open_read_only(address);
                if !matches!(read, Ok(_) | Err(Error::NotFound { .. })) {
                    self.record_violation(&format!("reading: {read:?}"));
                }
            }
            if unlinking == Unlinking::Sometimes && random.below(4) == 0 {
                let unlinked = unlink(address);
                if !matches!(unlinked, Ok(()) | Err(Error::NotFound { .. })) {
                    self.record_violation(&format!("unlinking: {unlinked:?}"));
                }
            }
            self.rounds.fetch_add(1, Ordering::Relaxed);
            self.per_process[me].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn use_segment(
        &self,
        segment: &Segment<Marked>,
        address: &str,
        random: &mut Random,
        unlinking: Unlinking,
    ) {
        let id = segment.id(); // panics if the value is not whole
        segment.visit();
        for _ in 0..random.below(4) {
            random.dither(14);
            match Segment::<Marked>::open(address) {
                Ok(again) if again.id() == id => {}
                Ok(_) | Err(Error::NotFound { .. }) if unlinking == Unlinking::Sometimes => {}
                Ok(again) => {
                    self.record_violation(&format!("{id} is attached, {} has the name", again.id()))
                }
                Err(other) => self.record_violation(&format!("{id} is attached, and: {other:?}")),
            }
        }
    }
}

fn storm(kind: Backing, kills: u64, seed: u64, unlinking: Unlinking) {
    const TIME_LIMIT: Duration = Duration::from_secs(20);

    let address = TestAddress::new(kind, "storm");
    let shared = Segment::anonymous(Storm::new()).unwrap();
    let mut random = Random::new(seed);
    let start = |index: usize, nth: u64| {
        let (shared, address) = (&shared, &address);
        spawn(move || shared.run(address, index, seed ^ (nth + 1) << 20, unlinking))
    };
    let mut processes: Vec<Child> = (0..Storm::PROCESSES)
        .map(|index| start(index, index as u64))
        .collect();
    let begun = Instant::now();
    let mut stops = 0;
    for kill in 0..kills {
        random.dither(22);
        let victim = random.below(Storm::PROCESSES as u64) as usize;
        assert!(
            processes[victim].try_wait().is_none(),
            "a process has failed"
        );
        if random.below(4) == 0 {
            // A stopped process counts as attached.
            stops += 1;
            processes[victim].signal(Signal::SIGSTOP);
            random.dither(25);
            processes[victim].signal(Signal::SIGCONT);
        } else {
            processes[victim].kill();
            processes[victim] = start(victim, kill + Storm::PROCESSES as u64);
        }
        assert_eq!(shared.violations.load(Ordering::SeqCst), 0, "kill {kill}");
    }
    // Every process makes progress.
    let per_process = || -> Vec<u64> {
        shared
            .per_process
            .iter()
            .map(|n| n.load(Ordering::Relaxed))
            .collect()
    };
    let before = per_process();
    let checked = Instant::now();
    while per_process()
        .iter()
        .zip(&before)
        .any(|(now, before)| now == before)
    {
        assert!(
            checked.elapsed() < TIME_LIMIT,
            "stuck: {before:?}, {:?}",
            per_process()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(processes);
    assert_eq!(shared.violations.load(Ordering::SeqCst), 0);
    println!(
        "{kind}: {} kills and {stops} stops (seed {seed}) in {:.1?}: {} rounds, {} values created",
        kills - stops,
        begun.elapsed(),
        shared.rounds.load(Ordering::Relaxed),
        shared.created.load(Ordering::Relaxed),
    );
    // The object that they left can be opened or recreated.
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
            let rounds = count_for("SHM_SYNC_NAMES_ROUNDS", 100, kind);
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
                assert!(!address.exists(), "round {round}: the object was not removed");
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
            storm(kind, count_for("SHM_SYNC_NAMES_KILLS", 300, kind), seed, Unlinking::Never);
        }
    }

    fn opened_object_is_whole_despite_unlinks() {
        let (_, seed) = Random::from_env(0xd0d0);
        for kind in KINDS {
            storm(kind, count_for("SHM_SYNC_NAMES_KILLS", 300, kind), seed, Unlinking::Sometimes);
        }
    }
}
