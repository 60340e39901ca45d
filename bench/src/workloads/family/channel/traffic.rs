//! Patterns of traffic. Each function returns a value of one round.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use shm_sync::Error;

use super::api::{self, Channel, Receiver, Sender};
use super::this_crate::Own;
use crate::affinity::{self, PinnedToFirst};
use crate::clock::now;
use crate::failure::Failure;
use crate::shared::Shared;
use crate::workers::{self, Worker};

/// Returns nanoseconds per message from one worker to another.
pub(super) fn one_way<C: Channel<LEN>, const LEN: usize>(messages: u64) -> Result<f64, Failure> {
    one_way_by::<C, LEN>(
        messages,
        |sender| {
            let mut message = api::message();
            for number in 0..messages {
                api::set_number(&mut message, number);
                sender.send(&message)?;
            }
            Ok(())
        },
        |receiver| {
            let mut message = [0; LEN];
            for number in 0..messages {
                receiver.receive(&mut message)?;
                api::expect_number(C::NAME, &message, number)?;
            }
            api::expect_bytes(C::NAME, &message)
        },
    )
}

/// The number of messages in a batch.
pub(super) const BATCH: usize = 32;

/// Returns nanoseconds per message of 8 bytes, if both workers handle up to [`BATCH`]
/// at a time.
pub(super) fn in_batches<const ENDS: usize>(messages: u64) -> Result<f64, Failure> {
    let name = <Own<8, ENDS> as Channel<8>>::NAME;
    one_way_by::<Own<8, ENDS>, 8>(
        messages,
        |sender| {
            let mut batch = [api::message::<8>(); BATCH];
            for first in (0..messages).step_by(BATCH) {
                for (message, number) in batch.iter_mut().zip(first..messages) {
                    api::set_number(message, number);
                }
                let count = BATCH.min((messages - first) as usize);
                let mut rest = &batch[..count];
                while !rest.is_empty() {
                    let sent = sender.send_slice(rest).map_err(Error::from)?;
                    rest = &rest[sent..];
                }
            }
            Ok(())
        },
        |receiver| {
            let mut batch = [[0; 8]; BATCH];
            let mut number = 0;
            while number < messages {
                let count = receiver.recv_slice(&mut batch).map_err(Error::from)?;
                for message in &batch[..count] {
                    api::expect_number(name, message, number)?;
                    number += 1;
                }
            }
            Ok(())
        },
    )
}

fn one_way_by<C: Channel<LEN>, const LEN: usize>(
    messages: u64,
    send: impl Fn(&mut C::Sender<'_>) -> Result<(), Failure> + Sync,
    receive: impl Fn(&mut C::Receiver<'_>) -> Result<(), Failure> + Sync,
) -> Result<f64, Failure> {
    let channel = C::create()?;
    let [started, ended] = &*Shared::<[AtomicU64; 2]>::zeroed()?;
    workers::run(C::SCOPE, C::NAME, 2, |worker: &mut Worker| {
        affinity::pin(worker.index)?;
        if worker.index == 0 {
            let mut sender = channel.sender()?;
            worker.start()?;
            started.store(now(), Ordering::Relaxed);
            send(&mut sender)?;
            // The end stays open until the receiver has ended, as the channel does.
            while ended.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            return Ok(());
        }
        let mut receiver = channel.receiver()?;
        worker.start()?;
        let result = receive(&mut receiver);
        ended.store(now(), Ordering::Relaxed);
        result
    })?;
    let nanos = ended.load(Ordering::Relaxed) - started.load(Ordering::Relaxed);
    Ok(nanos as f64 / messages as f64)
}

/// Returns nanoseconds per round trip through two channels.
pub(super) fn round_trip<C: Channel<LEN>, const LEN: usize>(trips: u64) -> Result<f64, Failure> {
    let (there, back) = (C::create()?, C::create()?);
    let took = Shared::<AtomicU64>::zeroed()?;
    workers::run(C::SCOPE, C::NAME, 2, |worker: &mut Worker| {
        affinity::pin(worker.index)?;
        let mut message = api::message();
        if worker.index == 1 {
            let (mut receiver, mut sender) = (there.receiver()?, back.sender()?);
            worker.start()?;
            for _ in 0..trips {
                receiver.receive(&mut message)?;
                sender.send(&message)?;
            }
            // See `one_way_by`.
            while took.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            return Ok(());
        }
        let (mut sender, mut receiver) = (there.sender()?, back.receiver()?);
        worker.start()?;
        let start = now();
        for number in 0..trips {
            api::set_number(&mut message, number);
            sender.send(&message)?;
            receiver.receive(&mut message)?;
            api::expect_number(C::NAME, &message, number)?;
        }
        took.store(now() - start, Ordering::Relaxed);
        api::expect_bytes(C::NAME, &message)
    })?;
    Ok(took.load(Ordering::Relaxed) as f64 / trips as f64)
}

/// Returns nanoseconds per message that one thread sends and then receives.
pub(super) fn one_thread<C: Channel<LEN>, const LEN: usize>(messages: u64) -> Result<f64, Failure> {
    let channel = C::create()?;
    let _pinned = PinnedToFirst::new()?;
    let (mut sender, mut receiver) = (channel.sender()?, channel.receiver()?);
    let mut message = api::message();
    let mut pass = |messages| -> Result<(), Failure> {
        for number in 0..messages {
            api::set_number(&mut message, number);
            sender.send(&message)?;
            receiver.receive(&mut message)?;
            api::expect_number(C::NAME, &message, number)?;
        }
        Ok(())
    };
    pass(messages / 10)?;
    let start = Instant::now();
    pass(messages)?;
    Ok(start.elapsed().as_nanos() as f64 / messages as f64)
}
