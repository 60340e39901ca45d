//! Channels and pipes: messages from one process to another.
//!
//! Every contestant copies the message from the memory of the sender to that of the
//! receiver. The receiver checks the number of each message, and all bytes of the last
//! one.

mod api;
mod crossbeam;
mod iceoryx2;
mod pipe;
mod this_crate;
mod traffic;

use self::api::Channel;
use self::crossbeam::Crossbeam;
use self::iceoryx2::Iceoryx2;
use self::pipe::Pipe;
use self::this_crate::{Own, OwnPipe, SEATS};
use crate::failure::Failure;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{Measure, Series, Survives};
use crate::workloads::rounds::{Entry, run_rounds};

/// The bytes of a chunk.
const CHUNK: usize = 64 << 10;

/// A column of a table, with the number of messages or trips in a round.
#[derive(Clone, Copy)]
struct Column {
    table: &'static str,
    name: &'static str,
    measure: Measure,
    count: u64,
}

pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let share: u64 = plan.pick(1, 4);
    let column = |table, name, measure, count| Column {
        table,
        name,
        measure,
        count: count / share,
    };
    let rate = Measure::OperationsPerSecond;
    let mut entries = small(column("channel/messages", "8 B", rate, 40_000));
    entries.extend(kibibyte(column("channel/messages", "1 KiB", rate, 20_000)));
    entries.extend(chunks(column(
        "channel/bytes",
        "64 KiB",
        Measure::BytesPerSecond,
        800,
    )));
    let nanos = Measure::NanosPerOperation;
    entries.extend(trips(column("channel/round trip", "8 B", nanos, 4_000)));
    entries.extend(one_thread(column(
        "channel/one thread",
        "8 B",
        nanos,
        20_000,
    )));
    run_rounds(plan, "channel", entries, plan.pick(31, 5), progress)
}

/// Messages of 8 bytes from one process to another.
fn small(column: Column) -> Vec<Entry> {
    vec![
        one_way::<Own<8, SEATS>, 8>(column),
        one_way::<Own<8, 1>, 8>(column),
        in_batches::<SEATS>("shm-sync, 32 at a time", column),
        in_batches::<1>("shm-sync 1 to 1, 32 at a time", column),
        one_way::<Pipe, 8>(column),
        one_way::<Crossbeam<8>, 8>(column),
        one_way::<Iceoryx2, 8>(column),
    ]
}

/// Messages of 1 KiB from one process to another.
fn kibibyte(column: Column) -> Vec<Entry> {
    vec![
        one_way::<Own<1024, SEATS>, 1024>(column),
        one_way::<Own<1024, 1>, 1024>(column),
        one_way::<Pipe, 1024>(column),
        one_way::<Crossbeam<1024>, 1024>(column),
        one_way::<Iceoryx2, 1024>(column),
    ]
}

/// A stream of bytes in chunks.
fn chunks(column: Column) -> Vec<Entry> {
    vec![
        one_way::<OwnPipe, CHUNK>(column),
        one_way::<Pipe, CHUNK>(column),
    ]
}

fn trips(column: Column) -> Vec<Entry> {
    vec![
        round_trip::<Own<8, SEATS>>(column),
        round_trip::<Own<8, 1>>(column),
        round_trip::<Pipe>(column),
        round_trip::<Crossbeam<8>>(column),
        round_trip::<Iceoryx2>(column),
    ]
}

fn one_thread(column: Column) -> Vec<Entry> {
    vec![
        alone::<Own<8, SEATS>>(column),
        alone::<Own<8, 1>>(column),
        alone::<Pipe>(column),
        alone::<Crossbeam<8>>(column),
    ]
}

fn one_way<C: Channel<LEN>, const LEN: usize>(column: Column) -> Entry {
    entry(C::NAME, C::SURVIVES, column, move || {
        let nanos = traffic::one_way::<C, LEN>(column.count)?;
        Ok(match column.measure {
            Measure::BytesPerSecond => LEN as f64 * 1e9 / nanos,
            _ => 1e9 / nanos,
        })
    })
}

fn in_batches<const ENDS: usize>(contestant: &'static str, column: Column) -> Entry {
    entry(contestant, Survives::Kills, column, move || {
        Ok(1e9 / traffic::in_batches::<ENDS>(column.count)?)
    })
}

fn round_trip<C: Channel<8>>(column: Column) -> Entry {
    entry(C::NAME, C::SURVIVES, column, move || {
        traffic::round_trip::<C, 8>(column.count)
    })
}

fn alone<C: Channel<8>>(column: Column) -> Entry {
    entry(C::NAME, C::SURVIVES, column, move || {
        traffic::one_thread::<C, 8>(column.count)
    })
}

fn entry(
    contestant: &'static str,
    survives: Survives,
    column: Column,
    measure: impl Fn() -> Result<f64, Failure> + 'static,
) -> Entry {
    Entry {
        workload: column.table.to_owned(),
        contestant,
        survives,
        columns: vec![(column.name, column.measure)],
        round: Box::new(move || Ok(vec![measure()?])),
    }
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    fn check<C: Channel<LEN>, const LEN: usize>() -> Result<(), Failure> {
        assert!(traffic::one_way::<C, LEN>(100)? > 0.0);
        assert!(traffic::round_trip::<C, LEN>(20)? > 0.0);
        Ok(())
    }

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        check::<Own<8, SEATS>, 8>()?;
        check::<Own<1024, 1>, 1024>()?;
        check::<OwnPipe, CHUNK>()?;
        check::<Pipe, CHUNK>()?;
        check::<Crossbeam<8>, 8>()?;
        check::<Iceoryx2, 8>()?;
        assert!(traffic::in_batches::<SEATS>(100)? > 0.0);
        assert!(traffic::in_batches::<1>(100)? > 0.0);
        assert!(traffic::one_thread::<Own<8, 1>, 8>(100)? > 0.0);
        Ok(())
    }
}
