//! The classic comparison: messages between two processes, over what the system offers
//! and through shared memory with this crate's locks.
//!
//! * **Round trip**: the left process sends a message, the right one sends it back, and
//!   so on; nanoseconds from one sending to the next. Each process has a processor of its
//!   own; with 8 bytes, once more with both on one processor.
//! * **Throughput**: the left process sends, the right one receives; bytes per second
//!   from the first sending to the last receiving.
//!
//! All copy: the message is in the sender's memory before, and in the receiver's after.
//! Every message carries its number, which is looked at; the last one of each round is
//! compared byte for byte, when the clock has stopped.
//!
//! Each way has its own best use as far as an unprivileged process may choose it: pipes
//! are as large as allowed, messages of queues as long as allowed. What is longer is sent
//! in pieces.

mod message;
mod pipe;
mod posix_queue;
mod shared;
mod signals;
mod socket;
mod stream;
mod system_v_queue;
mod way;

use std::sync::atomic::{AtomicU64, Ordering};

use self::message::Message;
use self::pipe::Pipes;
use self::posix_queue::PosixQueues;
use self::shared::Rings;
use self::signals::Signals;
use self::socket::{LONGEST_PACKET, Packets, Stream};
use self::system_v_queue::SystemVQueue;
use self::way::{Side, Way};
use super::rounds::{Entry, take_turns};
use crate::clock::now;
use crate::crew::{self, Worker};
use crate::failure::Failure;
use crate::plan::{Plan, Progress};
use crate::report::{Measure, Series};
use crate::shared::Shared;

/// A length of messages, and how many of them make a round.
#[derive(Clone, Copy)]
struct Size {
    label: &'static str,
    len: usize,
    trips: u64,
    one_way: u64,
}

const SIZES: [Size; 4] = [
    Size {
        label: "8 B",
        len: 8,
        trips: 1000,
        one_way: 10_000,
    },
    Size {
        label: "1 KiB",
        len: 1 << 10,
        trips: 1000,
        one_way: 10_000,
    },
    Size {
        label: "64 KiB",
        len: 64 << 10,
        trips: 200,
        one_way: 400,
    },
    Size {
        label: "1 MiB",
        len: 1 << 20,
        trips: 20,
        one_way: 32,
    },
];

/// Where the two processes run.
#[derive(Clone, Copy)]
enum Seats {
    /// Each on a processor of its own.
    Apart,
    /// Both on one processor.
    Together,
}

/// What is measured.
#[derive(Clone, Copy)]
enum Traffic {
    RoundTrip(Seats),
    OneWay,
}

/// Measures all ways, all sizes.
pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    progress.say(&format!(
        "ipc: POSIX queues take up to {} messages of {} B, System V queues {} B in messages of up to {} B",
        way::limit("/proc/sys/fs/mqueue/msg_max")?,
        way::limit("/proc/sys/fs/mqueue/msgsize_max")?,
        way::limit("/proc/sys/kernel/msgmnb")?,
        way::limit("/proc/sys/kernel/msgmax")?,
    ));
    let mut entries = Vec::new();
    for size in SIZES {
        entries.extend(all_ways(plan, size, Traffic::RoundTrip(Seats::Apart)));
        if size.len == SIZES[0].len {
            entries.extend(all_ways(plan, size, Traffic::RoundTrip(Seats::Together)));
        }
    }
    for size in SIZES {
        entries.extend(all_ways(plan, size, Traffic::OneWay));
    }
    take_turns("ipc", entries, plan.pick(11, 3), progress)
}

/// Every way that can carry such messages.
fn all_ways(plan: &Plan, size: Size, traffic: Traffic) -> Vec<Entry> {
    let mut entries = vec![
        entry::<Pipes>(plan, size, traffic),
        entry::<Stream>(plan, size, traffic),
        entry::<PosixQueues>(plan, size, traffic),
        entry::<SystemVQueue>(plan, size, traffic),
    ];
    if size.len <= LONGEST_PACKET {
        entries.push(entry::<Packets>(plan, size, traffic));
    }
    if size.len == size_of::<usize>() && matches!(traffic, Traffic::RoundTrip(_)) {
        entries.push(entry::<Signals>(plan, size, traffic));
    }
    entries.push(match size.len {
        8 => entry::<Rings<8>>(plan, size, traffic),
        1024 => entry::<Rings<1024>>(plan, size, traffic),
        _ => entry::<Rings<{ 64 << 10 }>>(plan, size, traffic),
    });
    entries
}

fn entry<W: Way + 'static>(plan: &Plan, size: Size, traffic: Traffic) -> Entry {
    let share = plan.pick(1, 4);
    let (kind, column, measure) = match traffic {
        Traffic::RoundTrip(Seats::Apart) => ("round trip", size.label, Measure::NanosPerOperation),
        Traffic::RoundTrip(Seats::Together) => (
            "round trip",
            "8 B on one processor",
            Measure::NanosPerOperation,
        ),
        Traffic::OneWay => ("throughput", size.label, Measure::BytesPerSecond),
    };
    Entry {
        workload: format!("ipc/{kind}"),
        contestant: W::NAME,
        survives: W::SURVIVES,
        columns: vec![(column, measure)],
        round: Box::new(move || {
            Ok(vec![match traffic {
                Traffic::RoundTrip(seats) => round_trip::<W>(size.len, size.trips / share, seats)?,
                Traffic::OneWay => throughput::<W>(size.len, size.one_way / share)?,
            }])
        }),
    }
}

/// Nanoseconds for there and back.
fn round_trip<W: Way>(len: usize, trips: u64, seats: Seats) -> Result<f64, Failure> {
    let way = W::make(len)?;
    let took = Shared::<AtomicU64>::zeroed()?;
    let work = |worker: &mut Worker| {
        crew::sit(match seats {
            Seats::Apart => worker.index,
            Seats::Together => 0,
        })?;
        let side = Side::of(worker.index);
        let mut message = Message::new(len, side);
        let mut reply = Message::empty(len);
        way.enter(side)?;
        worker.start()?;
        if side == Side::Right {
            for _ in 0..trips {
                way.receive(side, reply.bytes_mut())?;
                way.send(side, reply.bytes())?;
            }
            return Ok(());
        }
        let start = now();
        for number in 0..trips {
            message.set_number(number);
            way.send(side, message.bytes())?;
            way.receive(side, reply.bytes_mut())?;
            reply.expect_number::<W>(number)?;
        }
        took.store(now() - start, Ordering::Relaxed);
        reply.expect::<W>(&message)
    };
    crew::processes(W::NAME, 2, work, || ())?;
    Ok(took.load(Ordering::Relaxed) as f64 / trips as f64)
}

/// Bytes per second from the left to the right.
fn throughput<W: Way>(len: usize, messages: u64) -> Result<f64, Failure> {
    let way = W::make(len)?;
    let [began, ended] = &*Shared::<[AtomicU64; 2]>::zeroed()?;
    let work = |worker: &mut Worker| {
        crew::sit(worker.index)?;
        let side = Side::of(worker.index);
        let mut sent = Message::new(len, Side::Left);
        let mut received = Message::empty(len);
        way.enter(side)?;
        worker.start()?;
        if side == Side::Left {
            began.store(now(), Ordering::Relaxed);
            for number in 0..messages {
                sent.set_number(number);
                way.send(side, sent.bytes())?;
            }
            return Ok(());
        }
        for number in 0..messages {
            way.receive(side, received.bytes_mut())?;
            received.expect_number::<W>(number)?;
        }
        ended.store(now(), Ordering::Relaxed);
        sent.set_number(messages - 1);
        received.expect::<W>(&sent)
    };
    crew::processes(W::NAME, 2, work, || ())?;
    let nanos = ended.load(Ordering::Relaxed) - began.load(Ordering::Relaxed);
    Ok((len as u64 * messages) as f64 * 1e9 / nanos as f64)
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    /// Every way carries what it is given, whole and in order.
    fn carries<W: Way>(len: usize) -> Result<(), Failure> {
        assert!(round_trip::<W>(len, 20, Seats::Apart)? > 0.0);
        assert!(round_trip::<W>(len, 20, Seats::Together)? > 0.0);
        Ok(())
    }

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        // None of these is a multiple of the pieces that queues and rings send.
        for len in [8, 1000, 100_001] {
            carries::<Pipes>(len)?;
            carries::<Stream>(len)?;
            carries::<PosixQueues>(len)?;
            carries::<SystemVQueue>(len)?;
            carries::<Rings<512>>(len)?;
            assert!(throughput::<Rings<512>>(len, 300)? > 0.0);
            assert!(throughput::<PosixQueues>(len, 30)? > 0.0);
        }
        carries::<Packets>(8)?;
        carries::<Packets>(LONGEST_PACKET)?;
        carries::<Signals>(8)
    }
}
