//! Two POSIX message queues, one in each direction. What is longer than the system
//! allows a message to be is sent in pieces.

use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_close, mq_open, mq_receive, mq_send, mq_unlink};
use nix::sys::stat::Mode;

use super::way::{Side, Way, limit};
use crate::failure::Failure;
use crate::report::Survives;

/// Two queues, which have no names any more.
pub(super) struct PosixQueues {
    from: [Queue; 2],
    /// The length of a piece, and of every message of the queue.
    piece: usize,
}

impl Way for PosixQueues {
    const NAME: &'static str = "POSIX message queue";
    const SURVIVES: Survives = Survives::DoesNotApply;

    fn make(len: usize) -> Result<Self, Failure> {
        let piece = len.min(limit("/proc/sys/fs/mqueue/msgsize_max")?);
        let deep = limit("/proc/sys/fs/mqueue/msg_max")?;
        Ok(Self {
            from: [
                Queue::without_name("left", deep, piece)?,
                Queue::without_name("right", deep, piece)?,
            ],
            piece,
        })
    }

    fn send(&self, side: Side, message: &[u8]) -> Result<(), Failure> {
        for piece in message.chunks(self.piece) {
            mq_send(self.from[side.index()].get(), piece, 0).map_err(Failure::of("mq_send"))?;
        }
        Ok(())
    }

    fn receive(&self, side: Side, message: &mut [u8]) -> Result<(), Failure> {
        let queue = self.from[side.other().index()].get();
        let mut pieces = message.chunks_exact_mut(self.piece);
        for piece in &mut pieces {
            mq_receive(queue, piece, &mut 0).map_err(Failure::of("mq_receive"))?;
        }
        let rest = pieces.into_remainder();
        if !rest.is_empty() {
            // The kernel wants room for the longest message, whatever comes.
            let mut room = vec![0; self.piece];
            mq_receive(queue, &mut room, &mut 0).map_err(Failure::of("mq_receive"))?;
            rest.copy_from_slice(&room[..rest.len()]);
        }
        Ok(())
    }
}

/// A queue that is closed when it is dropped.
struct Queue(Option<MqdT>);

impl Queue {
    /// Makes one of `deep` messages, each of up to `len` bytes, and takes its name away.
    fn without_name(label: &str, deep: usize, len: usize) -> Result<Self, Failure> {
        let name = format!("/shm-sync-bench-{}-{label}", std::process::id());
        let as_long = |number: usize| number.try_into().unwrap_or(i64::MAX);
        let attributes = MqAttr::new(0, as_long(deep), as_long(len), 0);
        let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR | MQ_OFlag::O_CLOEXEC;
        let queue = mq_open(name.as_str(), flags, Mode::S_IRWXU, Some(&attributes))
            .map_err(Failure::of("mq_open"))?;
        let queue = Self(Some(queue));
        mq_unlink(name.as_str()).map_err(Failure::of("mq_unlink"))?;
        Ok(queue)
    }

    fn get(&self) -> &MqdT {
        self.0.as_ref().expect("it is taken out by the drop only")
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Whatever is said, it can't be used again.
        let _ = self.0.take().map(mq_close);
    }
}
