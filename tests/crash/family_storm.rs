//! SIGKILL at random instants, for processes that use events, semaphores, lifelines and
//! barriers.
//!
//! Six processes share an object. The parent kills them at random instants, one after
//! the other, and starts new ones. At intervals and at the end, every process must make
//! progress.
//!
//! The number of kills and the seed can be set:
//!
//! ```sh
//! SHM_SYNC_STORM_KILLS=5000 SHM_SYNC_TEST_WATCHDOG=900 \
//!     cargo test --release --test crash -- --nocapture family_storm
//! ```

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::family_results::record;
use crate::storm::{Log, PROCESSES, TIME_LIMIT, check_progress, survive};
use crate::support::{Child, on_stage, spawn};
use shm_sync::{
    BarrierError, BarrierMember, End, Error, Lifelines, LockError, Segment, SemaphorePermit,
    ShmBarrier, ShmEvent, ShmSafe, ShmSemaphore,
};

/// The number of permits: fewer than processes.
const PERMITS: usize = 3;

#[derive(ShmSafe)]
#[repr(C)]
struct Devices {
    semaphore: ShmSemaphore<PERMITS>,
    /// The process that uses each device, written by that process. 0 means none.
    users: [AtomicU32; PERMITS],
    log: Log,
}

impl Devices {
    fn new() -> Self {
        Self {
            semaphore: ShmSemaphore::new(),
            users: [const { AtomicU32::new(0) }; PERMITS],
            log: Log::new(),
        }
    }

    /// Uses a device, and checks that no other process does.
    fn enter(&self, permit: &SemaphorePermit<'_, PERMITS>) {
        let user = &self.users[permit.index()];
        let before = user.swap(std::process::id(), Ordering::SeqCst);
        if permit.after_death() {
            self.log.deaths_reported.fetch_add(1, Ordering::Relaxed);
        } else if before != 0 {
            self.log
                .record_violation("two users of a device, or a death that was not reported");
        }
    }

    fn leave(&self, permit: SemaphorePermit<'_, PERMITS>) {
        let user = &self.users[permit.index()];
        if user.swap(0, Ordering::SeqCst) != std::process::id() {
            self.log.record_violation("another process used the device");
        }
        drop(permit);
    }

    fn use_forever(&self, me: usize) {
        for round in me.. {
            let acquired = match round % 5 {
                0 => self.semaphore.try_acquire().map(|permit| vec![permit]),
                1 => {
                    let permit = self.semaphore.try_acquire_for(Duration::from_millis(2));
                    permit.map(|permit| vec![permit])
                }
                2 => self.semaphore.acquire_many(1 + round % PERMITS),
                3 => {
                    let timeout = Duration::from_millis(2);
                    self.semaphore.try_acquire_many_for(PERMITS, timeout)
                }
                _ => self.semaphore.acquire().map(|permit| vec![permit]),
            };
            match acquired {
                Ok(permits) => {
                    for permit in &permits {
                        self.enter(permit);
                    }
                    if round % 7 == 0 {
                        std::thread::yield_now();
                    }
                    for permit in permits {
                        self.leave(permit);
                    }
                    self.log.finish_round(me);
                }
                Err(Error::Lock(LockError::WouldBlock | LockError::TimedOut)) => {}
                Err(other) => self.log.record_violation(&format!("{other:?}")),
            }
        }
    }
}

/// The number of lifelines, which four processes hold.
const LINES: usize = 4;

#[derive(ShmSafe)]
#[repr(C)]
struct Group {
    lines: Lifelines<LINES>,
    holders: [AtomicU32; LINES],
    ends_seen: AtomicU64,
    deaths_seen: AtomicU64,
    log: Log,
}

impl Group {
    fn new() -> Self {
        Self {
            lines: Lifelines::new(),
            holders: [const { AtomicU32::new(0) }; LINES],
            ends_seen: AtomicU64::new(0),
            deaths_seen: AtomicU64::new(0),
            log: Log::new(),
        }
    }

    fn hold_forever(&self, me: usize) {
        for round in 0_u32.. {
            let guard = match self.lines.hold() {
                Ok(guard) => guard,
                // The kernel has not released the line of the last victim yet.
                Err(Error::Lock(LockError::WouldBlock)) => continue,
                Err(other) => {
                    self.log.record_violation(&format!("{other:?}"));
                    return;
                }
            };
            let holder = &self.holders[guard.index()];
            let before = holder.swap(std::process::id(), Ordering::SeqCst);
            if guard.after_death() {
                self.log.deaths_reported.fetch_add(1, Ordering::Relaxed);
            } else if before != 0 {
                self.log
                    .record_violation("two holders, or a death that was not reported");
            }
            if round % 16 == 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
            if holder.swap(0, Ordering::SeqCst) != std::process::id() {
                self.log
                    .record_violation("another process held the lifeline");
            }
            drop(guard);
            self.log.finish_round(me);
        }
    }

    fn watch_forever(&self, me: usize) {
        for round in me.. {
            let timeout = match round % 3 {
                0 => Some(Duration::from_millis(1)),
                _ => None,
            };
            match self.lines.wait_for_end(round % LINES, timeout) {
                Ok(End::Died) => self.deaths_seen.fetch_add(1, Ordering::Relaxed),
                Ok(End::Ended) => self.ends_seen.fetch_add(1, Ordering::Relaxed),
                Ok(_) => 0,
                Err(error) => {
                    self.log.record_violation(&format!("{error:?}"));
                    return;
                }
            };
            self.log.finish_round(me);
        }
    }
}

/// A manual event that two processes set and reset and two wait for, and two automatic
/// ones by which two processes take turns.
#[derive(ShmSafe)]
#[repr(C)]
struct Events {
    gate: ShmEvent,
    turns: [ShmEvent; 2],
    log: Log,
}

impl Events {
    fn new() -> Self {
        Self {
            gate: ShmEvent::manual_reset(),
            turns: [const { ShmEvent::auto_reset() }; 2],
            log: Log::new(),
        }
    }

    fn run_forever(&self, me: usize) -> Result<(), Error> {
        for round in 0_u64.. {
            match me {
                0 => {
                    self.gate.set()?;
                    if round % 8 == 0 {
                        std::thread::yield_now();
                    }
                    self.gate.reset();
                    // The last event stays set for a while, so that each waiter may
                    // see it.
                    self.gate.set()?;
                    std::thread::sleep(Duration::from_micros(100));
                }
                1 | 2 => self.gate.wait()?,
                3 => {
                    let timeout = Duration::from_millis(1);
                    if self.gate.wait_timeout(timeout)?.timed_out() {
                        continue;
                    }
                }
                // A turn that was lost with its process is given again.
                _ => {
                    let [mine, other] = match me {
                        4 => [&self.turns[0], &self.turns[1]],
                        _ => [&self.turns[1], &self.turns[0]],
                    };
                    other.set()?;
                    if mine.wait_timeout(Duration::from_millis(50))?.timed_out() {
                        continue;
                    }
                }
            }
            self.log.finish_round(me);
        }
        Ok(())
    }
}

/// A group whose members write in one round and read in the next.
#[derive(ShmSafe)]
#[repr(C)]
struct Steps {
    barrier: ShmBarrier<PROCESSES>,
    marks: [AtomicU64; PROCESSES],
    log: Log,
}

impl Steps {
    fn new() -> Self {
        Self {
            barrier: ShmBarrier::new(),
            marks: [const { AtomicU64::new(0) }; PROCESSES],
            log: Log::new(),
        }
    }

    fn marks(&self) -> [u64; PROCESSES] {
        std::array::from_fn(|at| self.marks[at].load(Ordering::SeqCst))
    }

    /// Returns whether the round was complete. After a broken one, each member begins
    /// with writing again.
    fn meet(&self, member: &BarrierMember<'_, PROCESSES>, round: usize) -> bool {
        let met = match round % 64 {
            63 => member.wait_timeout(Duration::from_micros(200)),
            _ => member.wait(),
        };
        match met {
            Ok(_) => true,
            Err(BarrierError::Broken) => {
                self.log.deaths_reported.fetch_add(1, Ordering::Relaxed);
                false
            }
            Err(BarrierError::TimedOut) => false,
            Err(other) => {
                self.log.record_violation(&format!("{other:?}"));
                false
            }
        }
    }

    fn take_part_forever(&self, me: usize) -> Result<(), Error> {
        let mut round = me;
        loop {
            let member = self.barrier.join()?;
            for _ in 0..1_000 {
                round += 1;
                self.marks[member.index()].store(round as u64, Ordering::SeqCst);
                if !self.meet(&member, round) {
                    continue;
                }
                // No member writes, unless one has died or left.
                let before = self.marks();
                if round % 16 == me {
                    std::thread::yield_now();
                }
                let after = self.marks();
                if !self.meet(&member, round) {
                    continue;
                }
                if before != after {
                    self.log
                        .record_violation("a member wrote while others read");
                }
                self.log.finish_round(me);
            }
        }
    }
}

on_stage! {
    output to record;

    fn smoke() {
        let devices = Segment::anonymous(Devices::new()).unwrap();
        let _users: Vec<Child> =
            (0..PROCESSES).map(|me| spawn(|| devices.use_forever(me))).collect();
        assert_eq!(check_progress(&devices.log), Ok(()));
    }

    fn semaphore_storm_leaves_no_stuck_process() {
        let devices = Segment::anonymous(Devices::new()).unwrap();
        survive("semaphore", &devices.log, |me| devices.use_forever(me));
        let back = devices.semaphore.try_acquire_many_for(PERMITS, TIME_LIMIT).unwrap();
        assert_eq!(back.len(), PERMITS, "all permits are back");
        for permit in &back {
            devices.enter(permit);
        }
        assert_eq!(devices.log.violations.load(Ordering::Relaxed), 0);
    }

    fn lifeline_storm_leaves_no_stuck_process() {
        let group = Segment::anonymous(Group::new()).unwrap();
        survive("lifelines", &group.log, |me| {
            if me < LINES {
                group.hold_forever(me);
            } else {
                group.watch_forever(me);
            }
        });
        assert_eq!(group.lines.alive(), 0, "no killed process counts as alive");
        println!(
            "watchers were told of {} ends and {} deaths",
            group.ends_seen.load(Ordering::Relaxed),
            group.deaths_seen.load(Ordering::Relaxed)
        );
    }

    fn barrier_storm_leaves_no_stuck_process() {
        let steps = Segment::anonymous(Steps::new()).unwrap();
        survive("barrier", &steps.log, |me| {
            if let Err(error) = steps.take_part_forever(me) {
                steps.log.record_violation(&format!("{error:?}"));
            }
        });
        assert_eq!(steps.barrier.members(), 0, "no killed process is a member");
    }

    fn event_storm_leaves_no_stuck_process() {
        let events = Segment::anonymous(Events::new()).unwrap();
        survive("events", &events.log, |me| {
            if let Err(error) = events.run_forever(me) {
                events.log.record_violation(&format!("{error:?}"));
            }
        });
    }
}
