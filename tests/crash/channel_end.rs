//! What happens between the instructions of an endpoint that opens, or that looks for
//! the end. The last sender sends a message and ends: a receiver gets the message
//! before it is told of the end. One sender dies, and the next one comes: the receiver
//! is told of no end, or of the death. One side ends while the other one opens: it is
//! told.

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use std::mem::forget;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shm_sync::{Receiver, SendError, ShmChannel, ShmSafe, TryRecvError};

use crate::scene::{TIME_LIMIT, leaked};
use crate::support::walker::{Point, Walker, can_lead_for};
use crate::support::{Gate, die, number_from_env, on_stage, spawn};

/// The number of instructions between two tries, by default. They differ from run to
/// run. With `SHM_SYNC_KILL_STRIDE=1`, all of them are tried.
const STRIDE: u64 = 31;
const MESSAGE: u64 = 7;

#[derive(ShmSafe)]
#[repr(C)]
struct Line<const ENDS: usize> {
    channel: ShmChannel<u64, 2, ENDS, ENDS>,
    /// What the receiver was told: [`GOT_IT`], [`WAS_TOLD_OF_END`] or
    /// [`WAS_TOLD_OF_DEATH`]; or 0.
    told: AtomicU32,
    /// Whether a wait for a sender has missed the sender whose message was received.
    missed: AtomicU32,
    /// How often the receiver has found nothing.
    tries: AtomicU32,
}

/// After so many tries, all instructions of a try were seen.
const TRIES: u32 = 2;

const GOT_IT: u32 = 1;
const WAS_TOLD_OF_END: u32 = 2;
const WAS_TOLD_OF_DEATH: u32 = 3;

impl<const ENDS: usize> Line<ENDS> {
    fn new() -> Self {
        Self {
            channel: ShmChannel::new(),
            told: AtomicU32::new(0),
            missed: AtomicU32::new(0),
            tries: AtomicU32::new(0),
        }
    }

    /// Tries until there is a message or an end.
    fn receive(&self, receiver: &Receiver<'_, u64, 2, ENDS, ENDS>) {
        let told = loop {
            match receiver.try_recv() {
                Ok(message) => {
                    assert_eq!(message, MESSAGE);
                    // The sender is there, or this receiver was not told of its end.
                    let is_there = receiver.wait_for_sender(Some(Duration::ZERO)).unwrap();
                    self.missed.store((!is_there).into(), Ordering::SeqCst);
                    break GOT_IT;
                }
                Err(TryRecvError::Empty) => {
                    self.tries.fetch_add(1, Ordering::SeqCst);
                }
                Err(TryRecvError::Disconnected { died: false }) => break WAS_TOLD_OF_END,
                Err(TryRecvError::Disconnected { died: true }) => break WAS_TOLD_OF_DEATH,
                Err(error) => panic!("{error:?}"),
            }
        };
        self.told.store(told, Ordering::SeqCst);
    }

    /// Starts a receiver, stopped at its first try.
    fn receiver(&'static self) -> Walker {
        let prepare = || {
            let receiver = self.channel.receiver().unwrap();
            assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
            receiver
        };
        Walker::prepared(prepare, |receiver| self.receive(&receiver))
    }
}

impl<const ENDS: usize> Line<ENDS> {
    /// Lets the receiver go on, until it was told something, or has tried so often.
    /// Returns what it was told.
    fn wait_until_told(&self, receiver: Walker, tries: u32, what: &str) -> u32 {
        let _receiver = receiver.let_go();
        let begin = Instant::now();
        loop {
            let told = self.told.load(Ordering::SeqCst);
            if told != 0 || self.tries.load(Ordering::SeqCst) >= tries {
                return told;
            }
            let is_in_time = begin.elapsed() < TIME_LIMIT;
            assert!(is_in_time, "{what}: the receiver is stuck");
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// Executes some instructions of an endpoint, and none after it has set `is_over`:
/// behind that, a step could be a wait that never ends. Returns whether it is set.
fn step_until(endpoint: &mut Walker, instructions: u64, is_over: &AtomicU32) -> bool {
    let is_over = || is_over.load(Ordering::SeqCst) != 0;
    for _ in 0..instructions {
        if is_over() {
            break;
        }
        endpoint.step_blindly();
    }
    is_over()
}

/// How the last sender ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closes,
    Dies,
}

fn new_line<const ENDS: usize>() -> &'static Line<ENDS> {
    leaked(Line::new())
}

/// Lets the sender send and end after some instructions of the receiver. Returns
/// whether the receiver had more of them.
fn end_after<const ENDS: usize>(instructions: u64, end: End) -> bool {
    let line = new_line::<ENDS>();
    let (opened, may_send) = (Gate::new(), Gate::new());
    let sender = spawn(|| {
        let sender = line.channel.sender().unwrap();
        opened.open();
        may_send.pass();
        sender.send(MESSAGE).unwrap();
        match end {
            End::Closes => drop(sender),
            End::Dies => forget(sender),
        }
    });
    opened.pass();
    let mut receiver = line.receiver();
    receiver.go_to(Point::at(0, instructions));
    may_send.open();
    sender.join();
    let what = format!("{end:?} after {instructions} instructions, {ENDS} ends");
    let told = line.wait_until_told(receiver, u32::MAX, &what);
    assert_eq!(told, GOT_IT, "{what}: told of the end first");
    let missed = line.missed.load(Ordering::SeqCst);
    assert_eq!(missed, 0, "{what}: a wait has missed the sender");
    line.tries.load(Ordering::SeqCst) < TRIES
}

/// Lets another sender come after some instructions of the receiver. The last one has
/// died. Returns whether the receiver had more instructions.
fn come_after<const ENDS: usize>(instructions: u64) -> bool {
    let line = new_line::<ENDS>();
    let [opened, may_die, come] = [Gate::new(), Gate::new(), Gate::new()];
    let dead = spawn(|| {
        let sender = line.channel.sender().unwrap();
        opened.open();
        may_die.pass();
        forget(sender);
    });
    opened.pass();
    let mut receiver = line.receiver();
    may_die.open();
    dead.join();
    let was_told = step_until(&mut receiver, instructions, &line.told);
    let next = spawn(|| {
        let _sender = line.channel.sender().unwrap();
        come.open();
        nix::unistd::pause();
    });
    come.pass();
    let what = format!("another sender after {instructions} instructions, {ENDS} ends");
    // A receiver that goes on trying was told nothing.
    let enough = line.tries.load(Ordering::SeqCst) + TRIES;
    let told = line.wait_until_told(receiver, enough, &what);
    assert_ne!(told, WAS_TOLD_OF_END, "{what}: no sender has closed");
    drop(next);
    !was_told
}

/// Lets a sender open after some instructions of a receiver that opens, and then ends.
/// Returns whether the receiver had more instructions.
fn sender_opens_after<const ENDS: usize>(instructions: u64, end: End) -> bool {
    let line = new_line::<ENDS>();
    let may_end = Gate::new();
    let mut receiver = Walker::prepared(
        || drop(line.channel.receiver().unwrap()),
        |()| {
            let receiver = line.channel.receiver().unwrap();
            line.told.store(GOT_IT, Ordering::SeqCst);
            may_end.pass();
            match end {
                End::Closes => drop(receiver),
                End::Dies => die(),
            }
        },
    );
    let was_open = step_until(&mut receiver, instructions, &line.told);
    let what = format!("a sender after {instructions} instructions, {ENDS} ends, {end:?}");
    let sender = line.channel.sender().unwrap();
    let _receiver = receiver.let_go();
    crate::support::poll(|| line.told.load(Ordering::SeqCst) != 0);
    may_end.open();
    crate::support::poll(|| line.channel.receivers() == 0);
    let waits = sender.wait_for_receiver(Some(Duration::ZERO)).unwrap();
    assert!(waits, "{what}: a wait has missed the receiver");
    let refused = (0..3).find_map(|_| sender.send(MESSAGE).err());
    assert!(
        matches!(refused, Some(SendError::Disconnected { died, .. }) if died == (end == End::Dies)),
        "{what}: {refused:?}"
    );
    !was_open
}

/// Lets a receiver end after some instructions of a sender that opens. Returns whether
/// the sender had more instructions.
fn receiver_ends_after<const ENDS: usize>(instructions: u64) -> bool {
    let line = new_line::<ENDS>();
    let receiver = line.channel.receiver().unwrap();
    let mut sender = Walker::prepared(
        || drop(line.channel.sender().unwrap()),
        |()| {
            let sender = line.channel.sender().unwrap();
            line.tries.store(1, Ordering::SeqCst);
            crate::support::poll(|| line.channel.receivers() == 0);
            // Both tell of the receiver, or neither does.
            let waits = sender.wait_for_receiver(Some(Duration::ZERO)).unwrap();
            line.missed
                .store((waits != sender.is_disconnected()).into(), Ordering::SeqCst);
            line.told.store(GOT_IT, Ordering::SeqCst);
        },
    );
    let was_open = step_until(&mut sender, instructions, &line.tries);
    drop(receiver);
    let what = format!("the end of a receiver after {instructions} instructions, {ENDS} ends");
    line.wait_until_told(sender, u32::MAX, &what);
    let missed = line.missed.load(Ordering::SeqCst);
    assert_eq!(missed, 0, "{what}: two answers contradict each other");
    !was_open
}

/// Tries numbers of instructions, in steps, until there are no more.
fn anywhere(what: &str, mut has_more_after: impl FnMut(u64) -> bool) {
    let stride = number_from_env("SHM_SYNC_KILL_STRIDE").map_or(STRIDE, |it| it.clamp(1, STRIDE));
    let offset = u64::from(std::process::id()) % stride;
    let numbers = (offset..).step_by(stride as usize);
    let places = numbers.take_while(|&number| has_more_after(number));
    println!("{what}: {} places", places.count());
}

fn end_anywhere<const ENDS: usize>() {
    for end in [End::Closes, End::Dies] {
        let what = format!("{ENDS} ends, {end:?}");
        anywhere(&what, |number| end_after::<ENDS>(number, end));
    }
}

on_stage! {
    fn smoke() {
        if can_lead_for("the end of the senders") {
            end_after::<1>(0, End::Closes);
            end_after::<2>(0, End::Dies);
        }
    }

    fn rest_is_received_before_the_end() {
        if can_lead_for("the end of the senders") {
            end_anywhere::<1>();
            end_anywhere::<2>();
        }
    }

    fn opening_misses_no_end() {
        if can_lead_for("two endpoints that open at the same time") {
            for end in [End::Closes, End::Dies] {
                let what = format!("{end:?}, a sender opens");
                anywhere(&what, |number| sender_opens_after::<1>(number, end));
                anywhere(&what, |number| sender_opens_after::<2>(number, end));
            }
            anywhere("a receiver ends", receiver_ends_after::<1>);
            anywhere("a receiver ends", receiver_ends_after::<2>);
        }
    }

    fn new_sender_does_not_turn_a_death_into_an_end() {
        if can_lead_for("the death of a sender") {
            anywhere("1 end, another sender", come_after::<1>);
            anywhere("2 ends, another sender", come_after::<2>);
        }
    }
}
