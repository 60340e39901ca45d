//! The last sender sends a message and ends, between any two instructions of a receiver
//! that looks for messages. The receiver gets the message before it is told of the end.

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use std::mem::forget;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shm_sync::{Receiver, Segment, ShmChannel, ShmSafe, TryRecvError};

use crate::scene::TIME_LIMIT;
use crate::support::walker::{Walker, can_lead_for};
use crate::support::{Gate, number_from_env, on_stage, spawn};

/// The number of instructions between two tries, by default.
const STRIDE: u64 = 31;
const MESSAGE: u64 = 7;

#[derive(ShmSafe)]
#[repr(C)]
struct Line<const ENDS: usize> {
    channel: ShmChannel<u64, 2, ENDS, ENDS>,
    /// What the receiver was told: [`GOT_IT`] or [`WAS_TOLD_OF_END`]; or 0.
    told: AtomicU32,
    /// How often the receiver has found nothing.
    tries: AtomicU32,
}

/// After so many tries, all instructions of a try were seen.
const TRIES: u32 = 2;

const GOT_IT: u32 = 1;
const WAS_TOLD_OF_END: u32 = 2;

impl<const ENDS: usize> Line<ENDS> {
    fn new() -> Self {
        Self {
            channel: ShmChannel::new(),
            told: AtomicU32::new(0),
            tries: AtomicU32::new(0),
        }
    }

    /// Tries until there is a message or an end.
    fn receive(&self, receiver: &Receiver<'_, u64, 2, ENDS, ENDS>) {
        let told = loop {
            match receiver.try_recv() {
                Ok(message) => {
                    assert_eq!(message, MESSAGE);
                    break GOT_IT;
                }
                Err(TryRecvError::Empty) => {
                    self.tries.fetch_add(1, Ordering::SeqCst);
                }
                Err(TryRecvError::Disconnected { .. }) => break WAS_TOLD_OF_END,
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

/// How the last sender ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closes,
    Dies,
}

/// Lets the sender send and end after some instructions of the receiver. Returns
/// whether the receiver had more of them.
fn end_after<const ENDS: usize>(instructions: u64, end: End) -> bool {
    let segment = Segment::anonymous(Line::<ENDS>::new()).unwrap();
    let line: *const Line<ENDS> = &raw const *segment;
    // SAFETY: the segment is leaked, so the object is mapped until the process ends.
    let line: &'static Line<ENDS> = unsafe { &*line };
    forget(segment);
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
    for _ in 0..instructions {
        receiver.step_blindly();
    }
    may_send.open();
    sender.join();
    let _receiver = receiver.let_go();
    let begin = Instant::now();
    while line.told.load(Ordering::SeqCst) == 0 {
        assert!(
            begin.elapsed() < TIME_LIMIT,
            "{end:?}: the receiver is stuck"
        );
        std::thread::sleep(Duration::from_micros(50));
    }
    let what = || format!("{end:?} after {instructions} instructions, {ENDS} ends");
    let told = line.told.load(Ordering::SeqCst);
    assert_eq!(told, GOT_IT, "{}: told of the end first", what());
    line.tries.load(Ordering::SeqCst) < TRIES
}

/// Tries all numbers of instructions, in steps.
fn end_anywhere<const ENDS: usize>() {
    let stride = number_from_env("SHM_SYNC_KILL_STRIDE").map_or(STRIDE, |it| it.clamp(1, STRIDE));
    for end in [End::Closes, End::Dies] {
        let offset = u64::from(std::process::id()) % stride;
        let mut numbers = (offset..).step_by(stride as usize);
        let ends = numbers
            .by_ref()
            .take_while(|&it| end_after::<ENDS>(it, end));
        println!("{ENDS} ends, {end:?}: {} places", ends.count());
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
}
