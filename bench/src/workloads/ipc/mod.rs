//! Messages between two processes: through the channels of the system, and through
//! shared memory with the locks of shm-sync.
//!
//! * **Round trip**: the left process sends a message, and the right one sends it back.
//!   The unit is nanoseconds per round trip. Each process has its own processor.
//!   Messages of 8 bytes are also measured with both processes on one processor.
//! * **Throughput**: the left process sends, and the right one receives. The unit is
//!   bytes per second from the first send to the last receive.
//!
//! Every channel copies the message from the memory of the sender to that of the
//! receiver. The receiver checks the number of each message. After the measurement it
//! compares the last message byte by byte.
//!
//! Each channel uses the best settings that an unprivileged process may choose: pipes
//! and the messages of queues have the largest size that the system allows. Longer
//! messages are sent in pieces.

mod channel;
mod message;
mod pipe;
mod posix_queue;
mod rings;
mod signals;
mod socket;
mod stream;
mod system_v_queue;

pub(super) use self::pipe::large_pipe;
pub(super) use self::stream::{read_all, write_all};

use std::sync::atomic::{AtomicU64, Ordering};

use self::channel::{Channel, Side};
use self::message::Message;
use self::pipe::Pipes;
use self::posix_queue::PosixQueues;
use self::rings::Rings;
use self::signals::Signals;
use self::socket::{LONGEST_PACKET, Packets, Stream};
use self::system_v_queue::SystemVQueue;
use super::rounds::{Entry, run_rounds};
use crate::affinity;
use crate::clock::now;
use crate::failure::Failure;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{Measure, Series};
use crate::shared::Shared;
use crate::workers::{self, Worker};

/// A length of messages, and their number in a round.
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

/// The processors of the two processes.
#[derive(Clone, Copy)]
enum Placement {
    TwoProcessors,
    OneProcessor,
}

/// The pattern of messages.
#[derive(Clone, Copy)]
enum Traffic {
    RoundTrip(Placement),
    OneWay,
}

/// Measures all channels with all sizes.
pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    progress.print(&format!(
        "ipc: POSIX queues take up to {} messages of {} B, System V queues {} B in messages of up to {} B",
        channel::limit("/proc/sys/fs/mqueue/msg_max")?,
        channel::limit("/proc/sys/fs/mqueue/msgsize_max")?,
        channel::limit("/proc/sys/kernel/msgmnb")?,
        channel::limit("/proc/sys/kernel/msgmax")?,
    ));
    let mut entries = Vec::new();
    for size in SIZES {
        entries.extend(all_channels(
            plan,
            size,
            Traffic::RoundTrip(Placement::TwoProcessors),
        ));
        if size.len == SIZES[0].len {
            entries.extend(all_channels(
                plan,
                size,
                Traffic::RoundTrip(Placement::OneProcessor),
            ));
        }
    }
    for size in SIZES {
        entries.extend(all_channels(plan, size, Traffic::OneWay));
    }
    run_rounds(plan, "ipc", entries, plan.pick(11, 3), progress)
}

/// Returns the entries of all channels that can carry messages of this size.
fn all_channels(plan: &Plan, size: Size, traffic: Traffic) -> Vec<Entry> {
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

fn entry<C: Channel + 'static>(plan: &Plan, size: Size, traffic: Traffic) -> Entry {
    let share = plan.pick(1, 4);
    let (kind, column, measure) = match traffic {
        Traffic::RoundTrip(Placement::TwoProcessors) => {
            ("round trip", size.label, Measure::NanosPerOperation)
        }
        Traffic::RoundTrip(Placement::OneProcessor) => (
            "round trip",
            "8 B on one processor",
            Measure::NanosPerOperation,
        ),
        Traffic::OneWay => ("throughput", size.label, Measure::BytesPerSecond),
    };
    Entry {
        workload: format!("ipc/{kind}"),
        contestant: C::NAME,
        survives: C::SURVIVES,
        columns: vec![(column, measure)],
        round: Box::new(move || {
            Ok(vec![match traffic {
                Traffic::RoundTrip(placement) => {
                    round_trip::<C>(size.len, size.trips / share, placement)?
                }
                Traffic::OneWay => throughput::<C>(size.len, size.one_way / share)?,
            }])
        }),
    }
}

/// Returns nanoseconds per round trip.
fn round_trip<C: Channel>(len: usize, trips: u64, placement: Placement) -> Result<f64, Failure> {
    let channel = C::create(len)?;
    let took = Shared::<AtomicU64>::zeroed()?;
    let work = |worker: &mut Worker| {
        affinity::pin(match placement {
            Placement::TwoProcessors => worker.index,
            Placement::OneProcessor => 0,
        })?;
        let side = Side::from_worker(worker.index);
        let mut message = Message::new(len, side);
        let mut reply = Message::empty(len);
        channel.prepare(side)?;
        worker.start()?;
        if side == Side::Right {
            for _ in 0..trips {
                channel.receive(side, reply.bytes_mut())?;
                channel.send(side, reply.bytes())?;
            }
            return Ok(());
        }
        let start = now();
        for number in 0..trips {
            message.set_number(number);
            channel.send(side, message.bytes())?;
            channel.receive(side, reply.bytes_mut())?;
            reply.expect_number::<C>(number)?;
        }
        took.store(now() - start, Ordering::Relaxed);
        reply.expect::<C>(&message)
    };
    workers::run_processes(C::NAME, 2, work, || ())?;
    Ok(took.load(Ordering::Relaxed) as f64 / trips as f64)
}

/// Returns bytes per second from the left to the right process.
fn throughput<C: Channel>(len: usize, messages: u64) -> Result<f64, Failure> {
    let channel = C::create(len)?;
    let [started, ended] = &*Shared::<[AtomicU64; 2]>::zeroed()?;
    let work = |worker: &mut Worker| {
        affinity::pin(worker.index)?;
        let side = Side::from_worker(worker.index);
        let mut sent = Message::new(len, Side::Left);
        let mut received = Message::empty(len);
        channel.prepare(side)?;
        worker.start()?;
        if side == Side::Left {
            started.store(now(), Ordering::Relaxed);
            for number in 0..messages {
                sent.set_number(number);
                channel.send(side, sent.bytes())?;
            }
            return Ok(());
        }
        for number in 0..messages {
            channel.receive(side, received.bytes_mut())?;
            received.expect_number::<C>(number)?;
        }
        ended.store(now(), Ordering::Relaxed);
        sent.set_number(messages - 1);
        received.expect::<C>(&sent)
    };
    workers::run_processes(C::NAME, 2, work, || ())?;
    let nanos = ended.load(Ordering::Relaxed) - started.load(Ordering::Relaxed);
    Ok((len as u64 * messages) as f64 * 1e9 / nanos as f64)
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    /// Checks that a channel delivers messages completely and in order.
    fn check<C: Channel>(len: usize) -> Result<(), Failure> {
        assert!(round_trip::<C>(len, 20, Placement::TwoProcessors)? > 0.0);
        assert!(round_trip::<C>(len, 20, Placement::OneProcessor)? > 0.0);
        Ok(())
    }

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        // 1000 and 100 001 are not multiples of the pieces that queues and rings send.
        for len in [8, 1000, 100_001] {
            check::<Pipes>(len)?;
            check::<Stream>(len)?;
            check::<PosixQueues>(len)?;
            check::<SystemVQueue>(len)?;
            check::<Rings<512>>(len)?;
            assert!(throughput::<Rings<512>>(len, 300)? > 0.0);
            assert!(throughput::<PosixQueues>(len, 30)? > 0.0);
        }
        check::<Packets>(8)?;
        check::<Packets>(LONGEST_PACKET)?;
        check::<Signals>(8)
    }
}
