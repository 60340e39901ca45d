//! How players do what they are told: end in every way there is, fork, panic, leak.

use std::convert::Infallible;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::unistd::{Pid, execv, getppid};
use shm_sync::{LockError, Segment, ShmMutexGuard};

use crate::arena::{Arena, Order, Violation};
use crate::games::step;
use crate::player::{Player, Rank, Role, Ward};
use crate::process::{self, ENDED_WELL};
use crate::vessels::{Vessel, Visits};
use crate::watched::{Sound, Watched};

/// How long one tries for a lock that one can do without.
const BRIEFLY: Duration = Duration::from_millis(5);

/// How long the parent of a child that found its lock free may take to turn out to
/// be dead.
const UNTIL_DEAD: Duration = Duration::from_secs(2);

impl Player<'_> {
    /// Carries out an order for those who hold a lock and have changed half of the
    /// data. Gives the guard back if it still is one.
    pub(crate) fn obey_inside<'g, T: Sound>(
        &mut self,
        watched: &'g Watched<T>,
        guard: ShmMutexGuard<'g, T>,
    ) -> Option<ShmMutexGuard<'g, T>> {
        step();
        let wanted = [Order::Exit, Order::Exec, Order::Panic, Order::Fork];
        let Some(order) = self.take_order(&wanted) else {
            return Some(guard);
        };
        self.arena.count_obeyed(order);
        match order {
            Order::Exec => self.exec(),
            Order::Fork => Some(self.fork_inside(watched, guard)),
            Order::Panic => {
                panic_with(guard);
                None
            }
            _ => std::process::exit(ENDED_WELL),
        }
    }

    /// Carries out an order for those who hold no lock.
    pub(crate) fn obey_outside(&mut self) {
        if self.take_order(&[Order::EndThread]).is_some() {
            self.end_a_thread();
        }
        // Those who sail have a segment of their own to leak in.
        let sails = Role::of_seat(self.seat_number) == Role::Sailor;
        if !sails && self.take_order(&[Order::Leak]).is_some() {
            self.leak_in_the_arena();
        }
    }

    fn take_order(&self, among: &[Order]) -> Option<Order> {
        match self.rank {
            Rank::Seated => self.seat().take_order(among),
            Rank::Guest => None,
        }
    }

    /// Becomes another image, which joins the game at the same seat.
    fn exec(&mut self) -> ! {
        let life = self.random.below(u64::from(u32::MAX));
        let arguments = [
            "soak",
            "--join",
            self.addresses.arena(),
            "--seat",
            &self.seat_number.to_string(),
            "--life",
            &life.to_string(),
        ]
        .map(|argument| CString::new(argument).expect("it has no zero byte"));
        let failed = execv(c"/proc/self/exe", &arguments);
        let detail = format_args!("exec: {failed:?}");
        self.arena.violated(Violation::WrongEnd, detail);
        process::end(ENDED_WELL)
    }

    /// A thread leaks its guard with the data half-changed, and ends.
    fn end_a_thread(&mut self) {
        let arena: &Arena = self.arena;
        let end = || {
            if leak(arena, &arena.ledger, |ledger| ledger.left += 1) {
                arena.count_obeyed(Order::EndThread);
            }
        };
        // Joined, and not only waited for by the scope: whoever forks next must be
        // alone.
        let joined = std::thread::scope(|scope| scope.spawn(end).join());
        if joined.is_err() {
            arena.violated(Violation::WrongEnd, "a thread panicked");
        }
    }

    /// Leaks a guard of a second mapping of the arena.
    fn leak_in_the_arena(&mut self) {
        let arena: &Arena = self.arena;
        let own = match Segment::<Arena>::open(self.addresses.arena()) {
            Ok(own) => own,
            Err(error) => {
                let detail = format_args!("the arena: {error}");
                return arena.violated(Violation::WrongSegment, detail);
            }
        };
        if leak(arena, &own.ledger, |ledger| ledger.left += 1) {
            self.end_with_a_leak(own);
        }
    }

    /// The same in the segment that this player has just opened.
    pub(crate) fn leak_inside(&mut self, vessel: Segment<Vessel>) -> Segment<Vessel> {
        let must_leak = self.take_order(&[Order::Leak]).is_some();
        if must_leak && leak(self.arena, &vessel.visits, Visits::begin) {
            self.end_with_a_leak(vessel);
        }
        vessel
    }

    /// Drops a segment in which a guard was leaked, uses other locks, and ends: others
    /// wait for the one that is held.
    fn end_with_a_leak(&self, segment: impl Sized) -> ! {
        let arena = self.arena;
        arena.count_obeyed(Order::Leak);
        drop(segment);
        // The list of held locks, in which these are entered, leads through the one
        // that was leaked.
        for _ in 0..3 {
            let watched = &arena.queue;
            let result = watched.lock.try_lock_for(BRIEFLY);
            if let Some(queue) = watched.enter(arena, result) {
                watched.leave(arena);
                drop(queue);
            }
        }
        process::end(ENDED_WELL)
    }

    /// Forks with the lock held. The child does what it should not, to no effect,
    /// and then plays a little.
    fn fork_inside<'g, T: Sound>(
        &mut self,
        watched: &'g Watched<T>,
        guard: ShmMutexGuard<'g, T>,
    ) -> ShmMutexGuard<'g, T> {
        if let Some(ward) = self.ward.take() {
            self.judge_ward(process::kill_and_reap(ward.pid));
        }
        let turns_left = self.random.below(64);
        let parent = Pid::this();
        let Some(pid) = process::fork_child() else {
            self.rank = Rank::Guest;
            self.try_to_do_harm(watched, guard, parent);
            let me = std::process::id();
            self.seat().checked_child.store(me, Ordering::Release);
            self.play_a_little();
        };
        if self.wait_for_checks_of(pid).is_none() {
            self.ward = Some(Ward { pid, turns_left });
        }
        if !watched.is_untouched() {
            let detail = format_args!("{:?}: held by {:?}", T::PLACE, watched.lock.holder());
            self.arena.violated(Violation::ForkDoesHarm, detail);
        }
        guard
    }

    /// Of a child: uses a copy of its parent's guard. Meanwhile the parent waits.
    fn try_to_do_harm<'g, T: Sound>(
        &mut self,
        watched: &'g Watched<T>,
        guard: ShmMutexGuard<'g, T>,
        parent: Pid,
    ) {
        let is_refused = match self.random.below(3) {
            0 => {
                drop(guard);
                true
            }
            1 => {
                panic_with(guard);
                true
            }
            _ => {
                let waited = self.arena.not_empty.ours.wait_timeout(guard, BRIEFLY);
                matches!(waited, Err(LockError::NotOwner))
            }
        };
        let is_kept_out = matches!(watched.lock.try_lock(), Err(LockError::WouldBlock));
        if !is_refused || (!is_kept_out && !is_orphan_before_long(parent)) {
            let detail = format_args!(
                "{:?}: wait refused: {is_refused}, kept out: {is_kept_out}",
                T::PLACE
            );
            self.arena.violated(Violation::ForkDoesHarm, detail);
        }
    }
}

/// Takes the lock if it can be had, changes half of the data, and leaks the guard.
fn leak<T: Sound>(arena: &Arena, watched: &Watched<T>, half_change: impl FnOnce(&mut T)) -> bool {
    let result = watched.lock.try_lock_for(BRIEFLY);
    match watched.enter(arena, result) {
        Some(mut guard) => {
            half_change(&mut guard);
            step();
            std::mem::forget(guard);
            true
        }
        None => false,
    }
}

/// Whether the parent of this process turns out to be dead: the kernel gives up a dead
/// process's locks before it tells its children.
fn is_orphan_before_long(parent: Pid) -> bool {
    let begun = Instant::now();
    while getppid() == parent {
        if begun.elapsed() > UNTIL_DEAD {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Unwinds through the guard, in silence.
fn panic_with<G>(guard: G) {
    let unwound = catch_unwind(AssertUnwindSafe(move || -> Infallible {
        let _guard = guard;
        resume_unwind(Box::new("ordered"))
    }));
    drop(unwound.expect_err("it unwinds"));
}
