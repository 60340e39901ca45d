//! The conductor: deals out deaths, stops and orders, and looks whether everybody
//! gets on.
//!
//! It has one thread, which forks the players, and never waits for a lock for ever.
//! What it deals out, to whom, and in which sequence, the seed decides; what the
//! players are doing at that moment is up to the machine.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use shm_sync::Segment;

use crate::arena::{Arena, Order, Over, Violation};
use crate::player::{Player, Role};
use crate::process::{self, now};
use crate::progress::Progress;
use crate::random::Random;
use crate::scenes::Scenes;
use crate::tally::Tally;
use crate::vessels::{self, Addresses};

/// How many kills there are between two calms.
const SQUALL: u64 = 1_000;
/// The same, over what is expected to get stuck soon.
const SHORT_SQUALL: u64 = 100;

/// Cards are dealt at random intervals below 2^this nanoseconds, short ones as often
/// as long ones: some find a player hardly born.
const PAUSE_SCALE: u64 = 20;

/// How many may have been killed and not reaped at a time.
const MOST_DYING: usize = 8;

/// When the soak is over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Time(Duration),
    Kills(u64),
}

/// What the soak is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) limit: Limit,
    pub(crate) seed: u64,
    pub(crate) players: usize,
    pub(crate) over: Over,
    /// Whether the locks of the game inherit priorities.
    pub(crate) inheriting: bool,
    /// How long anybody may take to get on, in a calm.
    pub(crate) patience: Duration,
}

/// What is dealt out.
#[derive(Clone, Copy, Debug)]
enum Card {
    Kill,
    /// Stops the player for so many cards.
    Stop(u64),
    Tell(Order),
}

impl Card {
    fn draw(random: &mut Random) -> Self {
        // Both are drawn always, so that each card takes the same from the seed.
        let (what, cards) = (random.below(64), 1 + random.below(6));
        match what {
            0..4 => Self::Stop(cards),
            4..6 => Self::Tell(Order::Exit),
            6 => Self::Tell(Order::Exec),
            7..9 => Self::Tell(Order::EndThread),
            9..11 => Self::Tell(Order::Panic),
            11..13 => Self::Tell(Order::Fork),
            13..15 => Self::Tell(Order::Leak),
            _ => Self::Kill,
        }
    }
}

/// A player that was killed.
#[derive(Clone, Copy, Debug)]
struct Dying {
    pid: Pid,
    /// Where it sat.
    seat: usize,
}

/// A player that is stopped until a certain card is dealt.
#[derive(Clone, Copy, Debug)]
struct Stopped {
    seat: usize,
    until_card: u64,
}

pub(crate) struct Conductor<'a> {
    arena: &'a Segment<Arena>,
    addresses: &'a Addresses,
    plan: Plan,
    random: Random,
    /// Who sits on which seat.
    seats: Vec<Pid>,
    /// How many players there were.
    lives: u64,
    stopped: Vec<Stopped>,
    /// Who was killed, and has not been reaped yet.
    dying: VecDeque<Dying>,
    /// When which process was killed.
    killed: HashMap<u32, u64>,
    scenes: Option<Scenes<'a>>,
    pub(crate) tally: Tally,
}

impl<'a> Conductor<'a> {
    pub(crate) fn new(arena: &'a Segment<Arena>, addresses: &'a Addresses, plan: Plan) -> Self {
        let mut conductor = Self {
            arena,
            addresses,
            plan,
            random: Random::new(plan.seed),
            seats: Vec::new(),
            lives: 0,
            stopped: Vec::new(),
            dying: VecDeque::new(),
            killed: HashMap::new(),
            scenes: None,
            tally: Tally::new(),
        };
        for seat in 0..plan.players {
            let player = conductor.start_player(seat);
            conductor.seats.push(player);
        }
        // The scenes are about this crate's condition variable.
        if plan.over == Over::ShmCondvar {
            conductor.scenes = Some(Scenes::new(arena));
        }
        conductor
    }

    /// Until the limit, a violation, or a request to end.
    pub(crate) fn run(&mut self) {
        let begun = Instant::now();
        let squall_len = match self.plan.over {
            Over::ShmCondvar => SQUALL,
            Over::PthreadCondvar => SHORT_SQUALL,
        };
        let mut progress = Progress::new(self.plan.limit);
        while !self.is_over(begun) {
            let squall = self.tally.kill_cards + squall_len;
            while self.tally.kill_cards < squall && !self.is_over(begun) {
                self.deal();
                progress.show(begun.elapsed(), self.tally.kills);
            }
            if !self.must_end() {
                self.calm();
            }
        }
        self.tally.duration = begun.elapsed();
        progress.end();
    }

    fn is_over(&self, begun: Instant) -> bool {
        let limit_is_reached = match self.plan.limit {
            Limit::Time(time) => begun.elapsed() >= time,
            Limit::Kills(kills) => self.tally.kill_cards >= kills,
        };
        limit_is_reached || self.must_end()
    }

    fn must_end(&self) -> bool {
        self.arena.is_violated() || process::asked_to_end().is_some()
    }

    fn start_player(&mut self, seat: usize) -> Pid {
        let (arena, addresses) = (self.arena, self.addresses);
        self.lives += 1;
        let life = self.plan.seed ^ self.lives << 20;
        arena.seats[seat].tell(None);
        process::spawn(|| {
            process::give_way();
            Player::new(arena, addresses, seat, life).play()
        })
    }

    fn deal(&mut self) {
        let pause = self.random.of_any_size(PAUSE_SCALE);
        let seat = self.random.index(self.seats.len());
        let card = Card::draw(&mut self.random);
        self.tally.note_card(seat, &format_args!("{card:?}"));
        self.pass_time(pause);
        match card {
            Card::Kill => {
                self.tally.kill_cards += 1;
                self.kill(seat);
            }
            Card::Stop(cards) => {
                self.signal(seat, Signal::SIGSTOP);
                let until_card = self.tally.cards + cards;
                self.stopped.push(Stopped { seat, until_card });
                self.tally.stops += 1;
            }
            Card::Tell(order) => {
                self.arena.seats[seat].tell(Some(order));
                self.tally.orders[order as usize] += 1;
            }
        }
        self.wake_the_stopped(self.tally.cards);
        self.reap();
        self.read_deaths();
    }

    /// Looks on for so many nanoseconds.
    fn pass_time(&self, nanoseconds: u64) {
        let until = now() + nanoseconds;
        while now() < until {
            self.arena.ledger.look(self.arena);
            self.arena.queue.look(self.arena);
        }
    }

    fn signal(&self, seat: usize, signal: Signal) {
        kill(self.seats[seat], signal).expect("a player is a child that was not reaped");
    }

    /// Kills the player of that seat, and puts another there. The kernel lets the dead
    /// do nothing more, but takes some time to end them: that is waited for later.
    fn kill(&mut self, seat: usize) {
        let victim = self.seats[seat];
        self.killed.insert(process::id_of(victim), now());
        self.signal(seat, Signal::SIGKILL);
        self.dying.push_back(Dying { pid: victim, seat });
        self.seat_a_player(seat);
        if self.dying.len() > MOST_DYING {
            if let Some(Dying { pid, .. }) = self.dying.front().copied() {
                let end = process::reap(pid);
                self.take_leave(pid, end);
            }
        }
    }

    /// Puts a new player in the place of another.
    fn seat_a_player(&mut self, seat: usize) {
        self.stopped.retain(|stopped| stopped.seat != seat);
        self.seats[seat] = self.start_player(seat);
    }

    /// Takes note of an end.
    fn take_leave(&mut self, pid: Pid, end: WaitStatus) {
        if let Some(at) = self.dying.iter().position(|dying| dying.pid == pid) {
            let seat = self.dying.remove(at).map_or(0, |dying| dying.seat);
            self.judge(&format_args!("seat {seat}"), end);
            if matches!(end, WaitStatus::Signaled(_, Signal::SIGKILL, _)) {
                self.tally.kills += 1;
            } else {
                // It ended by an order just before, which is no kill.
                self.killed.remove(&process::id_of(pid));
                self.kill(seat);
            }
        } else if let Some(seat) = self.seats.iter().position(|&player| player == pid) {
            self.judge(&format_args!("seat {seat}"), end);
            self.seat_a_player(seat);
        } else {
            self.judge(&"an orphan or a sleeper", end);
            if let Some(scenes) = &mut self.scenes {
                scenes.note_end(pid);
            }
        }
    }

    fn judge(&self, who: &dyn std::fmt::Display, end: WaitStatus) {
        let is_expected = process::is_good_end(end) || process::asked_to_end().is_some();
        if !is_expected {
            self.arena
                .violated(Violation::WrongEnd, format_args!("{who}: {end:?}"));
        }
    }

    /// Lets those go on that were to stand until that card.
    fn wake_the_stopped(&mut self, card: u64) {
        let due = |stopped: &Stopped| stopped.until_card <= card;
        for stopped in self.stopped.iter().filter(|stopped| due(stopped)) {
            self.signal(stopped.seat, Signal::SIGCONT);
        }
        self.stopped.retain(|stopped| !due(stopped));
    }

    /// Takes note of all who have ended: the killed, players by an order, and orphans.
    fn reap(&mut self) {
        while let Some(end) = process::reap_if_ended(None) {
            if let Some(pid) = end.pid() {
                self.take_leave(pid, end);
            }
        }
    }

    fn read_deaths(&mut self) {
        while let Some(death) = self.arena.deaths.next() {
            let moment = self.killed.get(&death.pid);
            match moment.and_then(|&moment| death.told_after(moment)) {
                Some(time) => {
                    self.killed.remove(&death.pid);
                    self.tally.note_recovery(death.place, time);
                }
                None => self.tally.note_other_death(death),
            }
        }
    }

    /// Lets everybody have a turn, and looks at the books. Then come the scenes.
    fn calm(&mut self) {
        self.wake_the_stopped(u64::MAX);
        self.wait_until_all_get_on();
        self.check_books();
        self.read_deaths();
        self.killed.clear();
        self.tally.calms += 1;
        if !self.must_end() {
            self.play_scenes();
        }
    }

    fn turns(&self) -> Vec<u64> {
        let seats = &self.arena.seats[..self.seats.len()];
        seats.iter().map(|seat| seat.turns()).collect()
    }

    fn wait_until_all_get_on(&mut self) {
        let before = self.turns();
        let begun = Instant::now();
        loop {
            self.reap();
            self.read_deaths();
            let now = self.turns();
            let mut stuck = (0..now.len())
                .filter(|&seat| now[seat] == before[seat])
                .peekable();
            let all_got_on = stuck.peek().is_none() && self.dying.is_empty();
            if all_got_on || self.must_end() {
                return;
            }
            if begun.elapsed() > self.plan.patience {
                stuck.for_each(|seat| self.report_stuck(seat));
                return;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn report_stuck(&self, seat: usize) {
        let pid = self.seats[seat];
        let (role, doing) = (Role::of_seat(seat), process::what_it_does(pid));
        let detail = format_args!(
            "after {} kills: {role:?} {pid} on seat {seat}: {doing}",
            self.tally.kills
        );
        self.arena.violated(Violation::Stuck, detail);
    }

    /// What was counted after a change must be in the books.
    fn check_books(&mut self) {
        let (changes, taken) = (self.turns_of(Role::Clerk), self.turns_of(Role::Consumer));
        let (arena, patience) = (self.arena, self.plan.patience);
        let (ledger, queue) = (&arena.ledger, &arena.queue);
        match ledger.enter(arena, ledger.lock.try_lock_for(patience)) {
            Some(guard) => {
                self.tally.changes = guard.left;
                self.check_book("changes", changes, guard.left);
                ledger.leave(arena);
            }
            None => arena.violated(Violation::Stuck, "the ledger can't be had"),
        }
        match queue.enter(arena, queue.lock.try_lock_for(patience)) {
            Some(guard) => {
                self.tally.taken = guard.consumed();
                self.check_book("items taken", taken, guard.consumed());
                queue.leave(arena);
            }
            None => arena.violated(Violation::Stuck, "the queue can't be had"),
        }
    }

    fn turns_of(&self, role: Role) -> u64 {
        let turns = self.turns().into_iter().enumerate();
        turns
            .filter(|(seat, _)| Role::of_seat(*seat) == role)
            .map(|(_, turns)| turns)
            .sum()
    }

    fn check_book(&self, what: &str, counted: u64, booked: u64) {
        if booked < counted {
            let detail = format_args!("{counted} {what}, of which the books have {booked}");
            self.arena.violated(Violation::LostUpdate, detail);
        }
    }

    /// Plays the scenes while all players stand.
    fn play_scenes(&mut self) {
        let Some(mut scenes) = self.scenes.take() else {
            return;
        };
        (0..self.seats.len()).for_each(|seat| self.signal(seat, Signal::SIGSTOP));
        let healed = scenes.play();
        (0..self.seats.len()).for_each(|seat| self.signal(seat, Signal::SIGCONT));
        self.tally.note_healed(&healed);
        self.scenes = Some(scenes);
    }

    /// Ends everybody at once. What their deaths leave under names, a user can clear
    /// away.
    pub(crate) fn end_everything(&mut self) {
        self.end_players();
        self.read_deaths();
        for address in self.addresses.vessels() {
            if let Err(fault) = vessels::clear_away(address) {
                self.arena.violated(Violation::WrongSegment, fault);
            }
        }
        let _ = shm_sync::unlink(self.addresses.arena());
        for left in self.addresses.left_behind() {
            self.arena.violated(Violation::LeftBehind, left);
        }
    }

    fn end_players(&mut self) {
        self.scenes = None;
        for player in self.seats.drain(..) {
            process::kill_and_reap(player);
        }
        for dying in self.dying.drain(..) {
            process::reap(dying.pid);
        }
        // Their children die with them.
        let begun = Instant::now();
        while process::has_children() && begun.elapsed() < self.plan.patience {
            process::reap_if_ended(None);
            std::thread::sleep(Duration::from_micros(200));
        }
        if process::has_children() {
            self.arena.violated(Violation::LeftBehind, "a process");
        }
    }
}

impl Drop for Conductor<'_> {
    fn drop(&mut self) {
        self.end_players();
    }
}
