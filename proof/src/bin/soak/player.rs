//! A player: a process that locks, waits, notifies, opens and leaves, until it is
//! killed or ordered to end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use shm_sync::{Error, IfAbandoned, Segment};

use crate::arena::{Arena, MAX_SEATS, Seat, Violation};
use crate::process::{self, ENDED_WELL, is_good_end};
use crate::random::Random;
use crate::vessels::{Addresses, Vessel, transient};

/// What one plays all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Changes the ledger.
    Clerk,
    /// Takes from the queue.
    Consumer,
    /// Puts into the queue.
    Producer,
    /// Opens, creates, uses and leaves segments.
    Sailor,
}

impl Role {
    /// With four players, there is one of each.
    pub(crate) const ALL: [Self; 4] = [Self::Clerk, Self::Consumer, Self::Producer, Self::Sailor];

    pub(crate) fn of_seat(seat: usize) -> Self {
        Self::ALL[seat % Self::ALL.len()]
    }
}

/// Whether one has a seat of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    Seated,
    /// A child that a player has forked inside a lock: it plays a little, and takes
    /// no orders.
    Guest,
}

/// A child that plays a little.
#[derive(Debug)]
pub(crate) struct Ward {
    pub(crate) pid: Pid,
    /// After how many turns of its parent it is killed.
    pub(crate) turns_left: u64,
}

#[derive(Debug)]
pub(crate) struct Player<'a> {
    pub(crate) arena: &'a Segment<Arena>,
    pub(crate) addresses: &'a Addresses,
    pub(crate) seat_number: usize,
    pub(crate) rank: Rank,
    pub(crate) random: Random,
    pub(crate) ward: Option<Ward>,
    /// How many changes the ledger has of this seat, once that was read.
    changes: Option<u64>,
}

impl<'a> Player<'a> {
    pub(crate) fn new(
        arena: &'a Segment<Arena>,
        addresses: &'a Addresses,
        seat_number: usize,
        life: u64,
    ) -> Self {
        assert!(seat_number < MAX_SEATS);
        Self {
            arena,
            addresses,
            seat_number,
            rank: Rank::Seated,
            random: Random::new(life),
            ward: None,
            changes: None,
        }
    }

    pub(crate) fn play(mut self) -> ! {
        loop {
            self.look_around();
            match Role::of_seat(self.seat_number) {
                Role::Clerk => self.change_the_ledger(),
                Role::Consumer => self.take(),
                Role::Producer => self.put(),
                Role::Sailor => self.sail(),
            }
        }
    }

    /// Plays as a guest.
    pub(crate) fn play_a_little(&mut self) -> ! {
        for _ in 0..self.random.below(64) {
            self.look_around();
            self.change_the_ledger();
        }
        process::end(ENDED_WELL)
    }

    pub(crate) fn seat(&self) -> &'a Seat {
        let arena: &'a Arena = self.arena;
        &arena.seats[self.seat_number]
    }

    fn look_around(&mut self) {
        self.arena.ledger.look(self.arena);
        self.arena.queue.look(self.arena);
        self.tend_ward();
        self.obey_outside();
    }

    /// Takes care that a child ends, and well.
    fn tend_ward(&mut self) {
        let Some(ward) = &mut self.ward else {
            return;
        };
        let end = match ward.turns_left.checked_sub(1) {
            Some(turns_left) => {
                ward.turns_left = turns_left;
                process::reap_if_ended(Some(ward.pid))
            }
            None => Some(process::kill_and_reap(ward.pid)),
        };
        if let Some(end) = end {
            self.ward = None;
            self.judge_ward(end);
        }
    }

    pub(crate) fn judge_ward(&self, end: WaitStatus) {
        if !is_good_end(end) {
            let detail = format_args!("a forked child: {end:?}");
            self.arena.violated(Violation::WrongEnd, detail);
        }
    }

    fn end_turn(&self) {
        if self.rank == Rank::Seated {
            self.seat().count_turn();
        }
    }

    fn change_the_ledger(&mut self) {
        let arena = self.arena;
        let watched = &arena.ledger;
        let result = match self.random.below(4) {
            0 => watched.lock.try_lock(),
            1 => watched.lock.try_lock_for(Duration::from_millis(5)),
            _ => watched.lock.lock(),
        };
        let Some(mut ledger) = watched.enter(arena, result) else {
            return;
        };
        self.check_own_changes(ledger.by_seat[self.seat_number]);
        ledger.left += 1;
        let Some(mut ledger) = self.obey_inside(watched, ledger) else {
            return;
        };
        if self.rank == Rank::Seated {
            ledger.by_seat[self.seat_number] += 1;
            self.changes = Some(ledger.by_seat[self.seat_number]);
        }
        ledger.right += 1;
        watched.leave(arena);
        drop(ledger);
        self.end_turn();
    }

    /// Nobody else changes the number of a seat.
    fn check_own_changes(&self, found: u64) {
        if let (Rank::Seated, Some(expected)) = (self.rank, self.changes) {
            if found != expected {
                let seat = self.seat_number;
                let detail = format_args!("seat {seat} has made {expected} changes, not {found}");
                self.arena.violated(Violation::LostUpdate, detail);
            }
        }
    }

    fn take(&mut self) {
        let arena = self.arena;
        let (watched, over) = (&arena.queue, arena.over());
        let Some(mut queue) = watched.enter(arena, watched.lock.lock()) else {
            return;
        };
        while queue.is_empty() {
            watched.leave(arena);
            let result = match self.random.below(8) {
                0 => arena.not_empty.wait_timeout(over, queue, A_WHILE),
                _ => arena.not_empty.wait(over, queue),
            };
            match watched.enter(arena, result) {
                Some(guard) => queue = guard,
                None => return,
            }
        }
        queue.begin_to_take();
        let Some(mut queue) = self.obey_inside(watched, queue) else {
            return;
        };
        queue.end_to_take();
        match self.random.below(4) {
            0 => arena.not_full.notify_all(over),
            _ => arena.not_full.notify_one(over),
        }
        watched.leave(arena);
        drop(queue);
        self.end_turn();
    }

    fn put(&mut self) {
        let arena = self.arena;
        let (watched, over) = (&arena.queue, arena.over());
        let Some(mut queue) = watched.enter(arena, watched.lock.lock()) else {
            return;
        };
        while queue.is_full() {
            watched.leave(arena);
            let result = match self.random.below(8) {
                0 => arena.not_full.wait_timeout(over, queue, A_WHILE),
                _ => arena.not_full.wait(over, queue),
            };
            match watched.enter(arena, result) {
                Some(guard) => queue = guard,
                None => return,
            }
        }
        queue.begin_to_put();
        let Some(mut queue) = self.obey_inside(watched, queue) else {
            return;
        };
        queue.end_to_put();
        match self.random.below(4) {
            0 => arena.not_empty.notify_all(over),
            _ => arena.not_empty.notify_one(over),
        }
        watched.leave(arena);
        drop(queue);
        self.end_turn();
    }

    fn sail(&mut self) {
        let address = self.addresses.any(&mut self.random);
        let options = transient(match self.random.below(2) {
            0 => IfAbandoned::Recreate,
            _ => IfAbandoned::Reuse,
        });
        let result = match self.random.below(4) {
            0 => options.open(address),
            _ => options.open_or_create(address, || Vessel::new(self.arena.next_value())),
        };
        match result {
            Ok(vessel) => self.board(vessel, address),
            Err(Error::NotFound) => {}
            Err(other) => {
                let detail = format_args!("{address}: {other}");
                self.arena.violated(Violation::WrongSegment, detail);
            }
        }
        self.end_turn();
    }

    fn board(&mut self, vessel: Segment<Vessel>, address: &str) {
        let arena = self.arena;
        arena.count_opened();
        let Some(id) = vessel.id() else {
            arena.violated(
                Violation::WrongSegment,
                format_args!("{address} is not whole"),
            );
            return;
        };
        let vessel = self.leak_inside(vessel);
        let watched = &vessel.visits;
        if let Some(mut visits) = watched.enter(arena, watched.lock.lock()) {
            visits.begin();
            if let Some(mut visits) = self.obey_inside(watched, visits) {
                visits.end();
                watched.leave(arena);
            }
        }
        // Who is attached has what the name leads to: nobody unlinks.
        for _ in 0..self.random.below(3) {
            let again = Segment::<Vessel>::open(address);
            let found = again.as_ref().map(|again| again.id());
            if !matches!(found, Ok(Some(found)) if found == id) {
                let detail = format_args!("{address}: attached to {id}, found {found:?}");
                arena.violated(Violation::WrongSegment, detail);
            }
        }
    }

    /// Waits until the child has done what it must do while its parent holds the
    /// lock, or has ended.
    pub(crate) fn wait_for_checks_of(&self, child: Pid) -> Option<WaitStatus> {
        let id = process::id_of(child);
        let end = loop {
            if self.seat().checked_child.load(Ordering::Acquire) == id {
                break None;
            }
            if let Some(end) = process::reap_if_ended(Some(child)) {
                break Some(end);
            }
            std::thread::yield_now();
        };
        end.inspect(|&end| self.judge_ward(end))
    }
}

/// A timeout that is seldom met, between two heartbeats.
const A_WHILE: Duration = Duration::from_millis(20);
