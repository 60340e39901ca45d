//! Every operation on a channel, killed at every instruction: with locks, and with one
//! seat on each side.
//!
//! `family_instructions` says how, and which command kills at all instructions. After
//! each kill, no message may be lost or received twice, except a message that died with
//! its receiver.

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use std::cell::RefCell;
use std::io::{BufRead, ErrorKind, Read, Write};
use std::mem::forget;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shm_sync::{
    Error, Receiver, RecvError, Segment, SendError, Sender, ShmChannel, ShmPipe, ShmSafe,
    TryRecvError,
};

use crate::family_results::record;
use crate::scene::{Order, Reached, Scene, TIME_LIMIT, nothing, yes};
use crate::support::walker::Walker;
use crate::support::{Child, on_stage, spawn};

const CAPACITY: usize = 2;
/// Messages are numbers below this.
const NUMBERS: usize = 64;

/// A message whose words are all its number.
#[derive(ShmSafe, Clone, Copy)]
#[repr(C)]
struct Message([u64; 5]);

impl Message {
    fn new(number: usize) -> Self {
        Self([number as u64; 5])
    }

    fn number(self) -> usize {
        assert!(
            self.0.iter().all(|word| *word == self.0[0]),
            "a torn message"
        );
        self.0[0] as usize
    }
}

/// A channel, and what has become of each message.
#[derive(ShmSafe)]
#[repr(C)]
struct Line<const S: usize, const R: usize> {
    channel: ShmChannel<Message, CAPACITY, S, R>,
    /// How often `send` has returned `Ok`.
    sent: [AtomicU32; NUMBERS],
    /// How often it has given the message back.
    returned: [AtomicU32; NUMBERS],
    received: [AtomicU32; NUMBERS],
    /// How many receivers were told that all senders have left.
    ends: AtomicU32,
}

type SenderOf<'a, const S: usize, const R: usize> = Sender<'a, Message, CAPACITY, S, R>;
type ReceiverOf<'a, const S: usize, const R: usize> = Receiver<'a, Message, CAPACITY, S, R>;

impl<const S: usize, const R: usize> Line<S, R> {
    fn new() -> Self {
        Self {
            channel: ShmChannel::new(),
            sent: [const { AtomicU32::new(0) }; NUMBERS],
            returned: [const { AtomicU32::new(0) }; NUMBERS],
            received: [const { AtomicU32::new(0) }; NUMBERS],
            ends: AtomicU32::new(0),
        }
    }

    fn sender(&self) -> SenderOf<'_, S, R> {
        self.channel.sender().unwrap()
    }

    fn receiver(&self) -> ReceiverOf<'_, S, R> {
        self.channel.receiver().unwrap()
    }

    fn send_by(&self, sender: &SenderOf<'_, S, R>, number: usize) {
        let counts = match sender.send(Message::new(number)) {
            Ok(()) => &self.sent,
            Err(SendError::Disconnected { .. }) => &self.returned,
            Err(other) => panic!("{other:?}"),
        };
        counts[number].fetch_add(1, Ordering::SeqCst);
    }

    fn send(&self, number: usize) {
        self.send_by(&self.sender(), number);
    }

    fn record(&self, message: Message) {
        self.received[message.number()].fetch_add(1, Ordering::SeqCst);
    }

    /// Receives one message, or learns that all senders have left.
    fn receive(&self) {
        match self.receiver().recv() {
            Ok(message) => self.record(message),
            Err(RecvError::Disconnected { .. }) => {
                self.ends.fetch_add(1, Ordering::SeqCst);
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Fills the channel with the messages 0 and 1.
    fn fill(&self) {
        let sender = self.sender();
        (0..CAPACITY).for_each(|number| self.send_by(&sender, number));
    }

    /// Receives what is left, and checks that no message is lost or doubled. `lost` is
    /// the message that may have died with its receiver, and whether it must have.
    /// `unknown` is the message of a sender that has died, and whether it was sent.
    fn check(&self, lost: Option<(usize, bool)>, unknown: Option<(usize, Option<bool>)>) {
        {
            let receiver = self.receiver();
            receiver.try_iter().for_each(|message| self.record(message));
        }
        for number in 0..NUMBERS {
            let count = |of: &[AtomicU32; NUMBERS]| of[number].load(Ordering::SeqCst);
            let (sent, received) = (count(&self.sent), count(&self.received));
            assert!(received <= 1, "message {number} was received twice");
            match (lost, unknown) {
                (Some((other, must)), _) if other == number => {
                    assert!(
                        !must || received == 0,
                        "message {number} was received again"
                    );
                }
                (_, Some((other, was_sent))) if other == number => {
                    assert!(was_sent.is_none_or(|it| received == u32::from(it)));
                }
                _ => assert_eq!(received, sent, "message {number}"),
            }
        }
    }

    /// Checks that the channel works. No other process uses it any more.
    fn check_use(&self) {
        let (sender, receiver) = (self.sender(), self.receiver());
        for number in 0..2 * CAPACITY {
            sender.send(Message::new(number)).unwrap();
            assert_eq!(receiver.recv().unwrap().number(), number);
        }
        drop(sender);
        let end = receiver.try_recv();
        assert!(matches!(end, Err(TryRecvError::Disconnected { died: false })) || S > 1);
        assert_eq!((self.channel.senders(), self.channel.receivers()), (0, 1));
    }
}

/// Uses an object of the same kind, because the first use in a process takes another
/// path.
fn warm_up<const S: usize, const R: usize>() {
    let spare = Segment::anonymous(Line::<S, R>::new()).unwrap();
    spare.fill();
    let receiver = spare.receiver();
    let soon = Duration::from_millis(1);
    {
        let sender = spare.sender();
        assert!(sender.send_timeout(Message::new(3), soon).is_err());
    }
    receiver.try_iter().for_each(drop);
    assert!(receiver.recv_timeout(soon).is_err());
}

fn poll_until(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < TIME_LIMIT, "{what}");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Returns the name of a scene on this kind of channel.
fn name<const S: usize, const R: usize>(name: &str) -> String {
    format!("{name}, {S} to {R}")
}

// --- Alone --------------------------------------------------------------------------

fn kill_in_send<const S: usize, const R: usize>() {
    let scene = Scene {
        name: &name::<S, R>("send"),
        object: &Line::<S, R>::new,
        set_up: &nothing,
        sleepers: &[],
        order: Order::BeforeVictim,
        victim: &|line| {
            let prepare = || {
                warm_up::<S, R>();
                line.sender()
            };
            Walker::prepared(prepare, |sender| {
                sender.send(Message::new(1)).unwrap();
                forget(sender);
            })
        },
        release: &nothing,
        check: &|line: &Line<S, R>, reached| {
            let was_sent = (reached == Reached::End).then_some(true);
            line.check(None, Some((1, was_sent)));
            line.check_use();
        },
        goes_on_alone: &yes,
    };
    scene.run(2);
}

fn kill_in_recv<const S: usize, const R: usize>() {
    let scene = Scene {
        name: &name::<S, R>("recv"),
        object: &Line::<S, R>::new,
        set_up: &|line| line.fill(),
        sleepers: &[],
        order: Order::BeforeVictim,
        victim: &|line| {
            let prepare = || {
                warm_up::<S, R>();
                line.receiver()
            };
            Walker::prepared(prepare, |receiver| {
                assert_eq!(receiver.recv().unwrap().number(), 0);
                forget(receiver);
            })
        },
        release: &nothing,
        check: &|line: &Line<S, R>, reached| {
            line.check(Some((0, reached == Reached::End)), None);
            line.check_use();
        },
        goes_on_alone: &yes,
    };
    scene.run(2);
}

fn kill_in_slices<const S: usize, const R: usize>() {
    let scene = Scene {
        name: &name::<S, R>("send and recv of two"),
        object: &Line::<S, R>::new,
        // The messages lie on both sides of the end of the ring.
        set_up: &|line| {
            line.send(9);
            line.receive();
        },
        sleepers: &[],
        order: Order::BeforeVictim,
        victim: &|line| {
            let prepare = || {
                warm_up::<S, R>();
                (line.sender(), line.receiver())
            };
            Walker::prepared(prepare, |(sender, receiver)| {
                let messages = [Message::new(0), Message::new(1)];
                assert_eq!(sender.send_slice(&messages).unwrap(), 2);
                let mut received = [Message::new(5); 2];
                assert_eq!(receiver.recv_slice(&mut received).unwrap(), 2);
                assert_eq!(received.map(Message::number), [0, 1]);
                forget((sender, receiver));
            })
        },
        release: &nothing,
        check: &|line: &Line<S, R>, reached| {
            let receiver = line.receiver();
            let left: Vec<usize> = receiver.try_iter().map(Message::number).collect();
            assert!(left == [0, 1] || left.is_empty(), "both or none: {left:?}");
            assert!(reached == Reached::Inside || left.is_empty());
            drop(receiver);
            line.check_use();
        },
        goes_on_alone: &yes,
    };
    scene.run(2);
}

/// Returns a pipe into which this process has written three bytes.
fn pipe_with_abc() -> Segment<ShmPipe<4>> {
    let pipe = Segment::anonymous(ShmPipe::new()).unwrap();
    pipe.writer().unwrap().write_all(b"abc").unwrap();
    pipe
}

fn kill_in_buffered_read() {
    let scene = Scene {
        name: "read from a pipe without a copy",
        object: &ShmPipe::<4>::new,
        set_up: &|pipe| pipe.writer().unwrap().write_all(b"abc").unwrap(),
        sleepers: &[],
        order: Order::BeforeVictim,
        victim: &|pipe| {
            let prepare = || {
                let spare = pipe_with_abc();
                let mut reader = spare.reader().unwrap();
                assert_eq!(reader.fill_buf().unwrap(), b"abc");
                reader.consume(3);
                pipe.reader().unwrap()
            };
            Walker::prepared(prepare, |mut reader| {
                assert_eq!(reader.fill_buf().unwrap(), b"abc");
                reader.consume(2);
                forget(reader);
            })
        },
        release: &nothing,
        check: &|pipe: &ShmPipe<4>, reached| {
            let mut reader = pipe.reader().unwrap();
            pipe.writer().unwrap().write_all(b"d").unwrap();
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).unwrap();
            let is_whole = rest == b"abcd" && reached == Reached::Inside;
            assert!(rest == b"cd" || is_whole, "all or nothing: {rest:?}");
        },
        goes_on_alone: &yes,
    };
    scene.run(2);
}

fn kill_in_write() {
    let scene = Scene {
        name: "write to a pipe",
        object: &ShmPipe::<4>::new,
        // The bytes lie on both sides of the end of the ring.
        set_up: &|pipe| {
            pipe.writer().unwrap().write_all(b"ab").unwrap();
            pipe.reader().unwrap().read_exact(&mut [0; 2]).unwrap();
        },
        sleepers: &[],
        order: Order::BeforeVictim,
        victim: &|pipe| {
            let prepare = || {
                pipe_with_abc();
                pipe.writer().unwrap()
            };
            Walker::prepared(prepare, |mut writer| {
                // There is room for four.
                assert_eq!(writer.write(b"abcdef").unwrap(), 4);
                forget(writer);
            })
        },
        release: &nothing,
        check: &|pipe: &ShmPipe<4>, reached| {
            let mut reader = pipe.reader().unwrap();
            let mut written = Vec::new();
            let end = reader.read_to_end(&mut written).unwrap_err();
            assert_eq!(end.kind(), ErrorKind::ConnectionAborted, "the writer died");
            let is_untouched = written.is_empty() && reached == Reached::Inside;
            assert!(
                written == b"abcd" || is_untouched,
                "all or nothing: {written:?}"
            );

            let mut writer = pipe.writer().unwrap();
            writer.write_all(b"xyz").unwrap();
            drop(writer);
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, b"xyz", "the pipe works with a new writer");
        },
        goes_on_alone: &yes,
    };
    scene.run(2);
}

// --- The other side sleeps ----------------------------------------------------------

fn kill_in_send_to_sleepers<const S: usize, const R: usize>(sleepers: &[&dyn Fn(&Line<S, R>)]) {
    let scene = Scene {
        name: &name::<S, R>("send to sleepers"),
        object: &Line::<S, R>::new,
        set_up: &nothing,
        sleepers,
        order: Order::AfterPreparation,
        victim: &|line| {
            let prepare = || {
                warm_up::<S, R>();
                line.sender()
            };
            Walker::prepared(prepare, |sender| {
                sender.send(Message::new(1)).unwrap();
                forget(sender);
            })
        },
        release: &nothing,
        // The sleepers have ended: one has the message, and the others were told of the
        // death.
        check: &|line: &Line<S, R>, reached| {
            let received = line.received[1].load(Ordering::SeqCst);
            let told = received + line.ends.load(Ordering::SeqCst);
            assert_eq!(told as usize, sleepers.len());
            let was_sent = (reached == Reached::End).then_some(true);
            line.check(None, Some((1, was_sent)));
            line.check_use();
        },
        goes_on_alone: &yes,
    };
    scene.run(3);
}

fn kill_in_recv_from_sleepers<const S: usize, const R: usize>(sleepers: &[&dyn Fn(&Line<S, R>)]) {
    let scene = Scene {
        name: &name::<S, R>("recv with sleeping senders"),
        object: &Line::<S, R>::new,
        set_up: &|line| line.fill(),
        sleepers,
        order: Order::AfterPreparation,
        victim: &|line| {
            let prepare = || {
                warm_up::<S, R>();
                line.receiver()
            };
            Walker::prepared(prepare, |receiver| {
                assert_eq!(receiver.recv().unwrap().number(), 0);
                forget(receiver);
            })
        },
        release: &nothing,
        // The sleepers have ended: at most one has sent its message, and the others
        // have it back.
        check: &|line: &Line<S, R>, reached| {
            line.check(Some((0, reached == Reached::End)), None);
            line.check_use();
        },
        goes_on_alone: &yes,
    };
    scene.run(3);
}

fn kill_in_close<const S: usize, const R: usize>(sleepers: &[&dyn Fn(&Line<S, R>)]) {
    let scene = Scene {
        name: &name::<S, R>("close with sleepers"),
        object: &Line::<S, R>::new,
        set_up: &nothing,
        sleepers,
        order: Order::AfterPreparation,
        victim: &|line| {
            let prepare = || {
                warm_up::<S, R>();
                line.sender()
            };
            Walker::prepared(prepare, drop)
        },
        release: &nothing,
        check: &|line: &Line<S, R>, _| {
            assert_eq!(line.ends.load(Ordering::SeqCst) as usize, sleepers.len());
            line.check_use();
        },
        goes_on_alone: &yes,
    };
    scene.run(3);
}

fn kill_in_open<const S: usize, const R: usize>() {
    let scene = Scene {
        name: &name::<S, R>("open with a sleeper"),
        object: &Line::<S, R>::new,
        set_up: &nothing,
        sleepers: &[&Line::<S, R>::receive],
        order: Order::BeforeVictim,
        victim: &|line| Walker::prepared(warm_up::<S, R>, |()| forget(line.sender())),
        release: &nothing,
        check: &|line: &Line<S, R>, _| {
            // If the victim has not come, this is the first sender.
            line.send(1);
            poll_until("the sleeper is told", || {
                line.ends.load(Ordering::SeqCst) + line.received[1].load(Ordering::SeqCst) == 1
            });
            // The sleeper may have its endpoint still.
            poll_until("the sleeper ends", || line.channel.receivers() == 0);
            line.check(None, None);
            line.check_use();
        },
        goes_on_alone: &|_, reached| reached == Reached::End,
    };
    scene.run(3);
}

// --- The victim sleeps --------------------------------------------------------------

fn kill_in_waiting_recv<const R: usize>(sleepers: &[&dyn Fn(&Line<16, R>)]) {
    // The harness sends, also when the victim has died.
    let kept: RefCell<Option<(SenderOf<'static, 16, R>, usize)>> = RefCell::new(None);
    let scene = Scene {
        name: &name::<16, R>("recv that waits"),
        object: &Line::<16, R>::new,
        set_up: &|line| drop(kept.replace(Some((line.sender(), 0)))),
        sleepers,
        order: Order::BeforeVictim,
        victim: &|line| {
            let prepare = || {
                warm_up::<16, R>();
                line.receiver()
            };
            Walker::prepared(prepare, |receiver| {
                receiver.recv().unwrap();
                forget(receiver);
            })
        },
        release: &|_| {
            if let Some((sender, number)) = &mut *kept.borrow_mut()
                && sender.try_send(Message::new(*number)).is_ok()
            {
                *number = (*number + 1) % 32;
            }
        },
        check: &|line: &Line<16, R>, _| {
            let sender = line.sender();
            let mut number = 32;
            // The sleeper needs a message, and the victim may have taken some.
            poll_until("the sleepers receive", || {
                let told = line
                    .received
                    .iter()
                    .map(|it| it.load(Ordering::SeqCst))
                    .sum::<u32>();
                if (told as usize) < sleepers.len() && line.channel.is_empty() {
                    sender.send(Message::new(number)).unwrap();
                    std::thread::sleep(Duration::from_millis(300));
                }
                told as usize >= sleepers.len()
            });
            number += 1;
            drop(sender);
            assert!(number < NUMBERS);
            let receiver = line.receiver();
            receiver.try_iter().for_each(|message| line.record(message));
            let twice = line.received.iter().any(|it| it.load(Ordering::SeqCst) > 1);
            assert!(!twice, "a message was received twice");
        },
        goes_on_alone: &|line, _| !line.channel.is_empty(),
    };
    scene.run(150);
}

fn kill_in_waiting_send<const S: usize>(sleepers: &[&dyn Fn(&Line<S, 16>)]) {
    // The harness receives, also when the victim has died.
    let kept: RefCell<Option<ReceiverOf<'static, S, 16>>> = RefCell::new(None);
    let scene = Scene {
        name: &name::<S, 16>("send that waits"),
        object: &Line::<S, 16>::new,
        set_up: &|line| {
            line.fill();
            drop(kept.replace(Some(line.receiver())));
        },
        sleepers,
        order: Order::BeforeVictim,
        victim: &|line| {
            let prepare = || {
                warm_up::<S, 16>();
                line.sender()
            };
            Walker::prepared(prepare, |sender| {
                sender.send(Message::new(2)).unwrap();
                forget(sender);
            })
        },
        release: &|line| {
            if let Some(receiver) = &*kept.borrow()
                && let Ok(message) = receiver.try_recv()
            {
                line.record(message);
            }
        },
        check: &|line: &Line<S, 16>, reached| {
            let receiver = line.receiver();
            poll_until("the sleepers send", || {
                receiver.try_iter().for_each(|message| line.record(message));
                let sent = line
                    .sent
                    .iter()
                    .map(|it| it.load(Ordering::SeqCst))
                    .sum::<u32>();
                sent as usize == CAPACITY + sleepers.len()
            });
            drop(receiver);
            let was_sent = (reached == Reached::End).then_some(true);
            line.check(None, Some((2, was_sent)));
        },
        goes_on_alone: &|line, _| !line.channel.is_full(),
    };
    scene.run(150);
}

fn kill_while_sender_dies<const S: usize, const R: usize>(sleepers: &[&dyn Fn(&Line<S, R>)]) {
    let sender: RefCell<Option<Child>> = RefCell::new(None);
    let scene = Scene {
        name: &name::<S, R>("recv, and the sender dies"),
        object: &Line::<S, R>::new,
        set_up: &|line| {
            let child = spawn(|| {
                forget(line.sender());
                nix::unistd::pause();
            });
            crate::support::poll(|| line.channel.senders() == 1);
            sender.replace(Some(child));
        },
        sleepers,
        order: Order::BeforeVictim,
        victim: &|line| {
            let prepare = || {
                warm_up::<S, R>();
                line.receiver()
            };
            Walker::prepared(prepare, |receiver| {
                let end = receiver.recv();
                assert!(matches!(end, Err(RecvError::Disconnected { died: true })));
                forget(receiver);
            })
        },
        release: &|_| {
            if let Some(mut child) = sender.take() {
                child.kill();
            }
        },
        check: &|line: &Line<S, R>, _| {
            assert_eq!(line.ends.load(Ordering::SeqCst) as usize, sleepers.len());
            line.check_use();
        },
        goes_on_alone: &yes,
    };
    scene.run(150);
}

on_stage! {
    output to record;

    fn smoke() {
        let line = Segment::anonymous(Line::<16, 16>::new()).unwrap();
        line.fill();
        line.check(None, None);
        line.check_use();
        let full = line.sender();
        assert!(matches!(line.channel.receiver().map(drop), Ok::<(), Error>(())));
        drop(full);
    }

    fn channel_send_survives_kills() {
        kill_in_send::<16, 16>();
        kill_in_send::<1, 1>();
    }

    fn channel_recv_survives_kills() {
        kill_in_recv::<16, 16>();
        kill_in_recv::<1, 1>();
    }

    fn channel_slices_survive_kills() {
        kill_in_slices::<16, 16>();
        kill_in_slices::<1, 1>();
    }

    fn pipe_read_survives_kills() {
        kill_in_buffered_read();
    }

    fn pipe_write_survives_kills() {
        kill_in_write();
    }

    fn channel_send_to_sleepers_survives_kills() {
        kill_in_send_to_sleepers::<16, 16>(&[&Line::receive, &Line::receive]);
        kill_in_send_to_sleepers::<1, 1>(&[&Line::receive]);
    }

    fn channel_recv_from_sleepers_survives_kills() {
        kill_in_recv_from_sleepers::<16, 16>(&[&|line| line.send(2), &|line| line.send(3)]);
        kill_in_recv_from_sleepers::<1, 1>(&[&|line| line.send(2)]);
    }

    fn channel_close_survives_kills() {
        kill_in_close::<16, 16>(&[&Line::receive, &Line::receive]);
        kill_in_close::<1, 1>(&[&Line::receive]);
    }

    fn channel_open_survives_kills() {
        kill_in_open::<16, 16>();
        kill_in_open::<1, 1>();
    }

    fn channel_waiting_recv_survives_kills() {
        kill_in_waiting_recv::<16>(&[&Line::receive]);
        kill_in_waiting_recv::<1>(&[]);
    }

    fn channel_waiting_send_survives_kills() {
        kill_in_waiting_send::<16>(&[&|line| line.send(3)]);
        kill_in_waiting_send::<1>(&[]);
    }

    fn channel_wait_for_dying_sender_survives_kills() {
        kill_while_sender_dies::<16, 16>(&[&Line::receive]);
        kill_while_sender_dies::<1, 1>(&[]);
    }
}
