//! Scenes in which others sleep when somebody dies, played between squalls with nothing
//! else going on.
//!
//! * **A woken waiter dies** before it acts: the notification was for it alone. Another
//!   must take what is offered.
//! * **The holder dies** while all others sleep in `wait`: nobody touches the lock.
//!   Every sleeper must wake.
//! * **The holder dies** while one more waits for the lock: that one must have it at
//!   once, and the others must wake as before.
//!
//! The promise to those who sleep in `wait` is 250 ms. A violation is a sleeper that
//! has not woken after
//! [`TOO_LATE`]: twenty times as long. A sleeper looks around every 150 ms by a
//! timer, so what is late by load is late by the time for which a runnable process
//! doesn't get a processor. For that to be seconds, this machine would have to be
//! unable to play the game at all; and a sleeper that nothing will wake is as late as
//! one likes to wait.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use shm_sync::{LockError, LockResult, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe};

use crate::arena::{Arena, Violation};
use crate::process::{self, now};

/// When a sleeper that has not woken is a violation.
const TOO_LATE: Duration = Duration::from_secs(5);
/// How long the preparations of a scene may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a scene is played.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Stage {
    tickets: ShmMutex<u64>,
    offered: ShmCondvar,
    /// When each sleeper woke last.
    woke_at: [AtomicU64; Self::SLEEPERS],
    /// When a ticket was taken last.
    taken_at: AtomicU64,
    /// When one that waited for the lock of a dead holder had it.
    inherited_at: AtomicU64,
    /// The process that holds the lock until it is killed.
    holder: AtomicU32,
}

impl Stage {
    const SLEEPERS: usize = 3;
    /// How many there are: one third for each scene.
    pub(crate) const COUNT: usize = 9;

    pub(crate) fn inherit_priorities(&mut self) {
        self.tickets = ShmMutex::with_priority_inheritance(0);
    }

    /// Sleeps until there is a ticket, takes it, and so on.
    fn sleep_for_ever(&self, arena: &Arena, me: usize) {
        let Some(mut tickets) = repaired(arena, self.tickets.lock()) else {
            return;
        };
        loop {
            while *tickets == 0 {
                let result = self.offered.wait(tickets);
                self.woke_at[me].store(now(), Ordering::Release);
                match repaired(arena, result) {
                    Some(guard) => tickets = guard,
                    None => return,
                }
            }
            *tickets -= 1;
            self.taken_at.store(now(), Ordering::Release);
        }
    }

    fn hold_until_killed(&self, arena: &Arena) {
        let _tickets = repaired(arena, self.tickets.lock());
        self.holder.store(std::process::id(), Ordering::Release);
        loop {
            nix::unistd::pause();
        }
    }

    /// Waits for the lock. Usually it is the one to be told of the death; if a
    /// sleeper's heartbeat comes at the same moment, that one may be.
    fn inherit(&self, arena: &Arena) {
        let result = self.tickets.lock();
        self.inherited_at.store(now(), Ordering::Release);
        drop(repaired(arena, result));
    }
}

fn repaired<'a>(
    arena: &Arena,
    result: LockResult<ShmMutexGuard<'a, u64>>,
) -> Option<ShmMutexGuard<'a, u64>> {
    match result {
        Ok(guard) => Some(guard),
        // A number is never half-changed.
        Err(LockError::Poisoned(poisoned)) => Some(poisoned.recover(|_| ())),
        Err(other) => {
            arena.violated(Violation::LockRefused, format_args!("in a scene: {other}"));
            None
        }
    }
}

/// What heals after which time, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Healed {
    pub(crate) woken_waiter_died: Vec<u64>,
    pub(crate) holder_died: Vec<u64>,
    /// Until the one that waited for the lock had it.
    pub(crate) inherited: Vec<u64>,
}

/// All scenes, and those who play in them.
pub(crate) struct Scenes<'a> {
    troupes: Vec<Troupe<'a>>,
}

/// A stage, and those who sleep on it.
struct Troupe<'a> {
    arena: &'a Arena,
    stage: &'a Stage,
    /// `None` for a moment after a death.
    sleepers: [Option<Pid>; Stage::SLEEPERS],
}

/// Whether somebody waits for the lock whose holder dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heir {
    None,
    Waits,
}

/// What must have happened for a scene to be over.
enum Awaited {
    /// A ticket was taken after this.
    Taken { since: u64 },
    /// Every sleeper woke after this.
    AllAwake { since: u64 },
    /// The lock was inherited after this.
    Inherited { since: u64 },
}

impl<'a> Scenes<'a> {
    pub(crate) fn new(arena: &'a Arena) -> Self {
        let troupe = |stage| {
            let sleepers = [None; Stage::SLEEPERS];
            let mut troupe = Troupe {
                arena,
                stage,
                sleepers,
            };
            troupe.fill();
            troupe
        };
        Self {
            troupes: arena.stages.iter().map(troupe).collect(),
        }
    }

    /// Plays each scene on half of the stages, all at the same time.
    pub(crate) fn play(&mut self) -> Healed {
        let mut healed = Healed::default();
        let mut awaited = Vec::new();
        for (number, troupe) in self.troupes.iter_mut().enumerate() {
            if !troupe.falls_asleep() {
                return healed;
            }
            let began = match number % 3 {
                0 => troupe.kill_a_woken_waiter().into_iter().collect(),
                1 => troupe.kill_the_holder(Heir::None),
                _ => troupe.kill_the_holder(Heir::Waits),
            };
            awaited.extend(began.into_iter().map(|what| (number, what)));
        }
        let begun = Instant::now();
        while !awaited.is_empty() {
            awaited.retain(|(number, what)| {
                let Some(time) = self.troupes[*number].time_of(what) else {
                    return true;
                };
                match what {
                    Awaited::Taken { .. } => healed.woken_waiter_died.push(time),
                    Awaited::AllAwake { .. } => healed.holder_died.push(time),
                    Awaited::Inherited { .. } => healed.inherited.push(time),
                }
                false
            });
            if begun.elapsed() > TOO_LATE {
                for (number, _) in &awaited {
                    self.troupes[*number].report(Violation::HealedTooLate, "after a death");
                }
                break;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        self.troupes.iter_mut().for_each(Troupe::fill);
        healed
    }

    /// A child has ended that nobody waited for.
    pub(crate) fn note_end(&mut self, pid: Pid) {
        for troupe in &mut self.troupes {
            for sleeper in &mut troupe.sleepers {
                if *sleeper == Some(pid) {
                    *sleeper = None;
                }
            }
        }
    }
}

impl Drop for Scenes<'_> {
    fn drop(&mut self) {
        for pid in self
            .troupes
            .iter()
            .flat_map(|troupe| troupe.sleepers)
            .flatten()
        {
            process::kill_and_reap(pid);
        }
    }
}

/// Looks again and again until `done`, but not for ever.
fn poll(mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    true
}

impl Troupe<'_> {
    /// Puts a sleeper where one is missing.
    fn fill(&mut self) {
        let Self { arena, stage, .. } = *self;
        for (me, sleeper) in self.sleepers.iter_mut().enumerate() {
            sleeper.get_or_insert_with(|| process::spawn(|| stage.sleep_for_ever(arena, me)));
        }
    }

    fn sleeps_in_wait(&self, sleeper: Pid) -> bool {
        process::sleeps_on(sleeper) == Some((&raw const self.stage.offered).addr())
    }

    fn waits_for_the_lock(&self, sleeper: Pid) -> bool {
        process::sleeps_on(sleeper) == Some((&raw const self.stage.tickets).addr())
    }

    /// Waits until all sleep. If they don't, says so.
    fn falls_asleep(&self) -> bool {
        let all_sleep = poll(|| {
            let mut sleepers = self.sleepers.iter().flatten();
            sleepers.all(|&pid| self.sleeps_in_wait(pid))
        });
        if !all_sleep {
            self.report(Violation::Stuck, "before a scene");
        }
        all_sleep
    }

    /// Wakes one, and kills it before it has the lock. Nothing is awaited if the
    /// heartbeat woke others at the same moment.
    fn kill_a_woken_waiter(&mut self) -> Option<Awaited> {
        let stage = self.stage;
        let mut tickets = repaired(self.arena, stage.tickets.try_lock_for(PATIENCE))?;
        *tickets += 1;
        stage.offered.notify_one();
        let has_woken = poll(|| {
            let mut sleepers = self.sleepers.iter().flatten();
            sleepers.any(|&pid| self.waits_for_the_lock(pid))
        });
        if !has_woken {
            drop(tickets);
            self.report(Violation::Stuck, "after a notification");
            return None;
        }
        let asleep = self
            .sleepers
            .map(|pid| pid.is_some_and(|pid| self.sleeps_in_wait(pid)));
        let victim = match asleep {
            [false, true, true] => 0,
            [true, false, true] => 1,
            [true, true, false] => 2,
            _ => return None,
        };
        if let Some(pid) = self.sleepers[victim].take() {
            process::kill_and_reap(pid);
        }
        let since = now();
        drop(tickets);
        Some(Awaited::Taken { since })
    }

    fn kill_the_holder(&mut self, heir: Heir) -> Vec<Awaited> {
        let Self { arena, stage, .. } = *self;
        let holder = process::spawn(|| stage.hold_until_killed(arena));
        let id = process::id_of(holder);
        let mut is_ready = poll(|| stage.holder.load(Ordering::Acquire) == id);
        if heir == Heir::Waits {
            // Reaped by whoever reaps those that end by themselves.
            let heir = process::spawn(|| stage.inherit(arena));
            is_ready = is_ready && poll(|| self.waits_for_the_lock(heir));
        }
        let since = now();
        process::kill_and_reap(holder);
        if !is_ready {
            self.report(Violation::Stuck, "a lock is free and can't be had");
            return Vec::new();
        }
        match heir {
            Heir::None => vec![Awaited::AllAwake { since }],
            Heir::Waits => vec![Awaited::AllAwake { since }, Awaited::Inherited { since }],
        }
    }

    /// How long it took, once it has happened.
    fn time_of(&self, what: &Awaited) -> Option<u64> {
        match *what {
            Awaited::Taken { since } => {
                let taken_at = self.stage.taken_at.load(Ordering::Acquire);
                taken_at.checked_sub(since)
            }
            Awaited::AllAwake { since } => {
                let woke_at = self
                    .stage
                    .woke_at
                    .iter()
                    .map(|at| at.load(Ordering::Acquire));
                let all_awake = woke_at.clone().all(|at| at > since);
                all_awake.then(|| woke_at.max().unwrap_or(since) - since)
            }
            Awaited::Inherited { since } => {
                let inherited_at = self.stage.inherited_at.load(Ordering::Acquire);
                inherited_at.checked_sub(since)
            }
        }
    }

    fn report(&self, what: Violation, when: &str) {
        for pid in self.sleepers.iter().flatten() {
            let doing = process::what_it_does(*pid);
            let detail = format_args!("{when}: sleeper {pid} of a scene: {doing}");
            self.arena.violated(what, detail);
        }
    }
}
