//! SIGKILL at random instants, for senders and receivers of channels and pipes.
//! `family_storm` says how.
//!
//! The messages of each sender are numbered, without a gap between its incarnations.
//! For each message, one bit says that `send` has returned `Ok`, and another that a
//! receiver has it. So after the storm each message is accounted for: received once, or
//! not sent, or dead with its receiver.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shm_sync::{PipeReader, PipeWriter, ShmPipe};
use shm_sync::{Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError, TrySendError};
use shm_sync::{Segment, SegmentOptions, SendError, SendTimeoutError, ShmChannel, ShmSafe};

use crate::family_results::record;
use crate::storm::{Log, PROCESSES, check_progress, survive};
use crate::support::{Child, on_stage, spawn};

/// Half of the processes send, and the others receive.
const PAIRS: usize = PROCESSES / 2;
/// The most messages of each sender.
const MESSAGES: u64 = 1 << 27;
/// The most messages of one call.
const BATCH: usize = 3;

/// A message, of which a torn one is noticed.
#[derive(ShmSafe, Clone, Copy)]
#[repr(C)]
struct Message<const WORDS: usize> {
    sender: u64,
    numbers: [u64; WORDS],
}

impl<const WORDS: usize> Message<WORDS> {
    fn new(sender: usize, number: u64) -> Self {
        Self {
            sender: sender as u64,
            numbers: [number; WORDS],
        }
    }
}

/// One bit for each message of a sender.
#[derive(ShmSafe)]
#[repr(C)]
struct Bits([AtomicU64; (MESSAGES / 64) as usize]);

impl Bits {
    /// Sets a bit. Returns whether it was set.
    fn set(&self, number: u64) -> bool {
        let bit = 1 << (number % 64);
        self.0[(number / 64) as usize].fetch_or(bit, Ordering::SeqCst) & bit != 0
    }

    fn word(&self, index: usize) -> u64 {
        self.0[index].load(Ordering::SeqCst)
    }
}

#[derive(ShmSafe)]
#[repr(C)]
struct Ledger {
    log: Log,
    /// The next number of each sender: all below may have been sent.
    next: [AtomicU64; PAIRS],
    /// How many processes of each kind were started.
    senders: AtomicU64,
    receivers: AtomicU64,
    returned: AtomicU64,
    ends: AtomicU64,
    sent: [Bits; PAIRS],
    received: [Bits; PAIRS],
}

/// What has become of the messages.
#[derive(Debug, Default)]
struct Account {
    sent: u64,
    received: u64,
    /// `send` has returned, and no receiver has them.
    dead_with_receiver: u64,
    /// A receiver has them, and `send` has not returned.
    sent_by_dead: u64,
}

impl Ledger {
    /// Returns the numbers of the next messages, which count as used.
    fn reserve(&self, sender: usize, count: u64) -> Option<u64> {
        let first = self.next[sender].load(Ordering::SeqCst);
        if first + count > MESSAGES {
            return None;
        }
        self.next[sender].store(first + count, Ordering::SeqCst);
        Some(first)
    }

    fn record_sent(&self, sender: usize, numbers: std::ops::Range<u64>) {
        for number in numbers {
            if self.sent[sender].set(number) {
                self.log.record_violation("a number was used twice");
            }
        }
    }

    /// Records a message. `last` has the numbers that this process has received last.
    fn record_received<const W: usize>(&self, message: &Message<W>, last: &mut [u64; PAIRS]) {
        let sender = message.sender as usize;
        let number = message.numbers[0];
        let is_whole = sender < PAIRS && message.numbers.iter().all(|it| *it == number);
        if !is_whole {
            self.log.record_violation("a torn message");
            return;
        }
        if number >= self.next[sender].load(Ordering::SeqCst) {
            self.log.record_violation("a message that was never sent");
            return;
        }
        if self.received[sender].set(number) {
            self.log.record_violation("a message was received twice");
        }
        if last[sender] > number {
            self.log
                .record_violation("a message has overtaken another of its sender");
        }
        last[sender] = number;
    }

    /// Records what a receiver has got, or that it was told of the end.
    fn finish_receiving(&self, me: usize, received: Option<usize>) {
        match received {
            Some(0) => {}
            Some(_) => self.log.finish_round(me),
            None => {
                self.ends.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Records what a sender has sent.
    fn finish_sending(&self, me: usize, first: u64, sent: usize) {
        self.record_sent(me / 2, first..first + sent as u64);
        if sent == 0 {
            self.returned.fetch_add(1, Ordering::Relaxed);
        } else {
            self.log.finish_round(me);
        }
    }

    /// Prints and checks what has become of all messages. No message is in a channel or
    /// a pipe any more.
    fn check(&self, name: &str) {
        let account = self.account();
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let (senders, receivers) = (count(&self.senders), count(&self.receivers));
        println!(
            "{name}: {account:?}; {senders} senders and {receivers} receivers were killed; \
             {} sends gave the message back, {} receivers were told of the end",
            count(&self.returned),
            count(&self.ends)
        );
        assert_eq!(count(&self.log.violations), 0, "{name}: see above");
        // The messages of its last call.
        let most = receivers * BATCH as u64;
        assert!(
            account.dead_with_receiver <= most,
            "{name}: messages were lost"
        );
        let most = senders * BATCH as u64;
        assert!(
            account.sent_by_dead <= most,
            "{name}: too many unfinished sends"
        );
        assert!(account.received > 0, "{name}: nothing was received");
    }

    fn account(&self) -> Account {
        let mut account = Account::default();
        for sender in 0..PAIRS {
            let used = self.next[sender].load(Ordering::SeqCst);
            for word in 0..used.div_ceil(64) as usize {
                let (sent, received) = (
                    self.sent[sender].word(word),
                    self.received[sender].word(word),
                );
                account.sent += u64::from(sent.count_ones());
                account.received += u64::from(received.count_ones());
                account.dead_with_receiver += u64::from((sent & !received).count_ones());
                account.sent_by_dead += u64::from((received & !sent).count_ones());
            }
        }
        account
    }
}

/// A ledger, and the channels: one for all, or one for each pair.
struct Line<const W: usize, const N: usize, const S: usize, const R: usize> {
    ledger: Segment<Ledger>,
    channels: Segment<[ShmChannel<Message<W>, N, S, R>]>,
}

impl<const W: usize, const N: usize, const S: usize, const R: usize> Line<W, N, S, R> {
    fn new(channels: usize) -> Self {
        let ledger = SegmentOptions::<Ledger>::new();
        let line = SegmentOptions::new();
        Self {
            // Zeros: no message, and an empty channel.
            ledger: ledger.anonymous_in_place("ledger", |_| ()).unwrap(),
            channels: line
                .anonymous_with_len("channels", channels, |_| {})
                .unwrap(),
        }
    }

    fn run(&self, me: usize) {
        let channel = &self.channels[me / 2 % self.channels.len()];
        if me.is_multiple_of(2) {
            self.ledger.senders.fetch_add(1, Ordering::Relaxed);
            loop {
                // An endpoint is not kept for ever.
                let sender = channel.sender().unwrap();
                for round in 0..200 {
                    self.send(me, round, &sender);
                }
            }
        } else {
            self.ledger.receivers.fetch_add(1, Ordering::Relaxed);
            loop {
                let receiver = channel.receiver().unwrap();
                let mut last = [0; PAIRS];
                for round in 0..300 {
                    self.receive(me, round, &receiver, &mut last);
                }
            }
        }
    }

    fn send(&self, me: usize, round: usize, sender: &Sender<'_, Message<W>, N, S, R>) {
        let ledger = &self.ledger;
        let number = me / 2;
        let count = if round.is_multiple_of(4) { BATCH } else { 1 };
        let Some(first) = ledger.reserve(number, count as u64) else {
            std::thread::sleep(Duration::from_millis(1));
            ledger.log.finish_round(me);
            return;
        };
        let messages: [_; BATCH] =
            std::array::from_fn(|index| Message::<W>::new(number, first + index as u64));
        let timeout = Duration::from_micros(500);
        let sent = match round % 4 {
            0 => match sender.send_slice(&messages) {
                Ok(sent) => sent,
                Err(SendError::Disconnected { .. }) => 0,
                Err(other) => panic!("{other:?}"),
            },
            1 => match sender.try_send(messages[0]) {
                Ok(()) => 1,
                Err(TrySendError::Full(_) | TrySendError::Disconnected { .. }) => 0,
                Err(other) => panic!("{other:?}"),
            },
            2 => match sender.send_timeout(messages[0], timeout) {
                Ok(()) => 1,
                Err(SendTimeoutError::Timeout(_) | SendTimeoutError::Disconnected { .. }) => 0,
                Err(other) => panic!("{other:?}"),
            },
            _ => match sender.send(messages[0]) {
                Ok(()) => 1,
                Err(SendError::Disconnected { .. }) => 0,
                Err(other) => panic!("{other:?}"),
            },
        };
        ledger.finish_sending(me, first, sent);
    }

    fn receive(
        &self,
        me: usize,
        round: usize,
        receiver: &Receiver<'_, Message<W>, N, S, R>,
        last: &mut [u64; PAIRS],
    ) {
        let ledger = &self.ledger;
        let mut messages = [Message::<W>::new(PAIRS, 0); BATCH];
        let timeout = Duration::from_micros(500);
        let received = match round % 4 {
            0 => match receiver.recv_slice(&mut messages) {
                Ok(received) => Some(received),
                Err(RecvError::Disconnected { .. }) => None,
                Err(other) => panic!("{other:?}"),
            },
            1 => match receiver.try_recv() {
                Ok(message) => {
                    messages[0] = message;
                    Some(1)
                }
                Err(TryRecvError::Empty) => Some(0),
                Err(TryRecvError::Disconnected { .. }) => None,
                Err(other) => panic!("{other:?}"),
            },
            2 => match receiver.recv_timeout(timeout) {
                Ok(message) => {
                    messages[0] = message;
                    Some(1)
                }
                Err(RecvTimeoutError::Timeout) => Some(0),
                Err(RecvTimeoutError::Disconnected { .. }) => None,
                Err(other) => panic!("{other:?}"),
            },
            _ => match receiver.recv() {
                Ok(message) => {
                    messages[0] = message;
                    Some(1)
                }
                Err(RecvError::Disconnected { .. }) => None,
                Err(other) => panic!("{other:?}"),
            },
        };
        for message in &messages[..received.unwrap_or(0)] {
            ledger.record_received(message, last);
        }
        ledger.finish_receiving(me, received);
    }

    /// Kills processes, and accounts for each message.
    fn survive(&self, name: &str) {
        survive(name, &self.ledger.log, |me| self.run(me));
        let mut last = [0; PAIRS];
        for channel in &*self.channels {
            assert_eq!((channel.senders(), channel.receivers()), (0, 0));
            let receiver = channel.receiver().unwrap();
            for message in receiver.try_iter() {
                self.ledger.record_received(&message, &mut last);
            }
        }
        self.ledger.check(name);
    }
}

/// A ledger, and a pipe for each pair. The bytes of messages go through it: its length
/// and all calls are multiples of a message, so a call takes or puts whole messages.
struct PipeLine {
    ledger: Segment<Ledger>,
    pipes: Segment<[ShmPipe<PIPE>]>,
}

/// The bytes of a message.
const BYTES: usize = size_of::<Message<1>>();
/// The most messages in a pipe.
const IN_PIPE: usize = 16;
const PIPE: usize = IN_PIPE * BYTES;

fn to_bytes(message: &Message<1>) -> [u8; BYTES] {
    let number = message.numbers[0].to_ne_bytes();
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&message.sender.to_ne_bytes());
    bytes[8..].copy_from_slice(&number);
    bytes
}

fn from_bytes(bytes: &[u8]) -> Message<1> {
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    Message {
        sender: word(0),
        numbers: [word(8)],
    }
}

impl PipeLine {
    fn new() -> Self {
        let ledger = SegmentOptions::<Ledger>::new();
        let pipes = SegmentOptions::new();
        Self {
            ledger: ledger.anonymous_in_place("ledger", |_| ()).unwrap(),
            pipes: pipes.anonymous_with_len("pipes", PAIRS, |_| {}).unwrap(),
        }
    }

    fn run(&self, me: usize) {
        let pipe = &self.pipes[me / 2];
        if me.is_multiple_of(2) {
            self.ledger.senders.fetch_add(1, Ordering::Relaxed);
            loop {
                let mut writer = pipe.writer().unwrap();
                for _ in 0..200 {
                    self.write(me, &mut writer);
                }
            }
        } else {
            self.ledger.receivers.fetch_add(1, Ordering::Relaxed);
            loop {
                let mut reader = pipe.reader().unwrap();
                let mut last = [0; PAIRS];
                for round in 0..300 {
                    self.read(me, round, &mut reader, &mut last);
                }
            }
        }
    }

    fn write(&self, me: usize, writer: &mut PipeWriter<'_, PIPE>) {
        let ledger = &self.ledger;
        let Some(first) = ledger.reserve(me / 2, BATCH as u64) else {
            std::thread::sleep(Duration::from_millis(1));
            ledger.log.finish_round(me);
            return;
        };
        let message = |index: usize| Message::new(me / 2, first + index as u64);
        let bytes: [_; BATCH] = std::array::from_fn(|index| to_bytes(&message(index)));
        let written = match writer.write(bytes.as_flattened()) {
            Ok(written) => written,
            Err(error) if is_end(error.kind()) => 0,
            Err(other) => panic!("{other:?}"),
        };
        ledger.finish_sending(me, first, self.whole(written));
    }

    fn read(
        &self,
        me: usize,
        round: usize,
        reader: &mut PipeReader<'_, PIPE>,
        last: &mut [u64; PAIRS],
    ) {
        let mut bytes = [0; BATCH * BYTES];
        let result = if round.is_multiple_of(2) {
            reader.read(&mut bytes)
        } else {
            reader.fill_buf().map(|filled| {
                let taken = filled.len().min(bytes.len());
                bytes[..taken].copy_from_slice(&filled[..taken]);
                taken
            })
        };
        let taken = match result {
            Ok(taken) => taken,
            Err(error) if is_end(error.kind()) => 0,
            Err(other) => panic!("{other:?}"),
        };
        if !round.is_multiple_of(2) {
            reader.consume(taken);
        }
        let received = self.whole(taken);
        for message in bytes[..received * BYTES].chunks_exact(BYTES) {
            self.ledger.record_received(&from_bytes(message), last);
        }
        let received = (received > 0).then_some(received);
        self.ledger.finish_receiving(me, received);
    }

    /// Returns the number of messages in these bytes.
    fn whole(&self, bytes: usize) -> usize {
        if !bytes.is_multiple_of(BYTES) {
            self.ledger.log.record_violation("a part of a message");
        }
        bytes / BYTES
    }

    /// Kills processes, and accounts for each message.
    fn survive(&self, name: &str) {
        survive(name, &self.ledger.log, |me| self.run(me));
        let mut last = [0; PAIRS];
        for pipe in &*self.pipes {
            let mut rest = Vec::new();
            let end = pipe.reader().unwrap().read_to_end(&mut rest);
            assert!(end.is_ok() || end.is_err_and(|error| is_end(error.kind())));
            self.whole(rest.len());
            for message in rest.chunks_exact(BYTES) {
                self.ledger.record_received(&from_bytes(message), &mut last);
            }
        }
        self.ledger.check(name);
    }
}

/// Returns whether an error tells that the other side has closed its end or died.
fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}

on_stage! {
    output to record;

    fn smoke() {
        let line = Line::<1, 2, 16, 16>::new(1);
        let _processes: Vec<Child> =
            (0..PROCESSES).map(|me| spawn(|| line.run(me))).collect();
        assert_eq!(check_progress(&line.ledger.log), Ok(()));
    }

    fn channel_storm_loses_no_message() {
        Line::<9, 8, 16, 16>::new(1).survive("channel, ring of 8, 80 bytes");
    }

    fn large_channel_storm_loses_no_message() {
        Line::<127, 64, 16, 16>::new(1).survive("channel, ring of 64, 1 KiB");
    }

    fn one_to_one_storm_loses_no_message() {
        Line::<9, 8, 1, 1>::new(PAIRS).survive("channels of one to one, ring of 8");
    }

    fn pipe_storm_loses_no_byte() {
        PipeLine::new().survive("pipes, ring of 256 bytes");
    }
}
