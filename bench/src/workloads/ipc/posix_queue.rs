//! Two POSIX message queues, one in each direction. Messages above the limit of the
//! system are sent in pieces.

use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_close, mq_open, mq_receive, mq_send, mq_unlink};
use nix::sys::stat::Mode;

use super::channel::{Channel, Side, limit};
use crate::failure::Failure;
use crate::series::Survives;

/// Two queues without names.
pub(super) struct PosixQueues {
    from: [Queue; 2],
    /// The length of a piece, and the largest message of the queue.
    piece: usize,
}

impl Channel for PosixQueues {
    const NAME: &'static str = "POSIX message queue";
    const SURVIVES: Survives = Survives::DoesNotApply;

    fn create(len: usize) -> Result<Self, Failure> {
        let piece = len.min(limit("/proc/sys/fs/mqueue/msgsize_max")?);
        let capacity = limit("/proc/sys/fs/mqueue/msg_max")?;
        Ok(Self {
            from: [
                Queue::without_name("left", capacity, piece)?,
                Queue::without_name("right", capacity, piece)?,
            ],
            piece,
        })
    }

    fn send(&self, side: Side, message: &[u8]) -> Result<(), Failure> {
        for piece in message.chunks(self.piece) {
            mq_send(self.from[side.index()].get(), piece, 0).map_err(Failure::os("mq_send"))?;
        }
        Ok(())
    }

    fn receive(&self, side: Side, message: &mut [u8]) -> Result<(), Failure> {
        let queue = self.from[side.other().index()].get();
        let mut pieces = message.chunks_exact_mut(self.piece);
        for piece in &mut pieces {
            mq_receive(queue, piece, &mut 0).map_err(Failure::os("mq_receive"))?;
        }
        let rest = pieces.into_remainder();
        if !rest.is_empty() {
            // The kernel requires a buffer for the longest message.
            let mut buffer = vec![0; self.piece];
            mq_receive(queue, &mut buffer, &mut 0).map_err(Failure::os("mq_receive"))?;
            rest.copy_from_slice(&buffer[..rest.len()]);
        }
        Ok(())
    }
}

/// A queue. `drop` closes it.
struct Queue(Option<MqdT>);

impl Queue {
    /// Creates a queue of `capacity` messages of up to `len` bytes, and removes its
    /// name.
    fn without_name(label: &str, capacity: usize, len: usize) -> Result<Self, Failure> {
        let name = format!("/shm-sync-bench-{}-{label}", std::process::id());
        let as_long = |number: usize| number.try_into().unwrap_or(i64::MAX);
        let attributes = MqAttr::new(0, as_long(capacity), as_long(len), 0);
        let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR | MQ_OFlag::O_CLOEXEC;
        let queue = mq_open(name.as_str(), flags, Mode::S_IRWXU, Some(&attributes))
            .map_err(Failure::os("mq_open"))?;
        let queue = Self(Some(queue));
        mq_unlink(name.as_str()).map_err(Failure::os("mq_unlink"))?;
        Ok(queue)
    }

    fn get(&self) -> &MqdT {
        self.0.as_ref().expect("only `drop` takes the descriptor")
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // The descriptor is invalid after the call, even if the call fails.
        let _ = self.0.take().map(mq_close);
    }
}
