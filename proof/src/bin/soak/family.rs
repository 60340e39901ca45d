//! The primitives beside the mutex and the condition variable, and what shows a
//! violation of each.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use shm_sync::{
    Lifelines, Published, ShmBarrier, ShmChannel, ShmEvent, ShmMutex, ShmOnceLock, ShmRwLock,
    ShmSafe, ShmSemaphore, ShmString,
};

use crate::slot::MAX_WORKERS;

/// The number of permits, lifelines and endpoints: few, so that workers often wait.
pub(crate) const FEW: usize = 2;

/// All of them. Zeros are the initial state.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Family {
    pub(crate) devices: ShmSemaphore<FEW>,
    pub(crate) device_users: [AtomicU32; FEW],
    pub(crate) table: ShmRwLock<Pair, FEW>,
    pub(crate) line: ShmChannel<Message, 4, FEW, 1>,
    /// The number of messages that each slot has made, and the last one of each slot
    /// that was received.
    pub(crate) made: [AtomicU64; MAX_WORKERS],
    pub(crate) received: [AtomicU64; MAX_WORKERS],
    pub(crate) latest: Published<[u64; 8]>,
    pub(crate) once: ShmOnceLock<u64>,
    pub(crate) bell: ShmEvent,
    pub(crate) members: Lifelines<FEW>,
    pub(crate) member_ids: [AtomicU32; FEW],
    pub(crate) steps: ShmBarrier<FEW>,
    pub(crate) text: ShmMutex<ShmString<24>>,
    pub(crate) uses: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) rounds_met: AtomicU64,
}

impl Family {
    /// Returns how often workers have used a primitive, how many messages they have
    /// received, and in how many complete rounds of the barrier they took part.
    pub(crate) fn counts(&self) -> [u64; 3] {
        [&self.uses, &self.messages, &self.rounds_met].map(|count| count.load(Ordering::Relaxed))
    }
}

/// Two equal numbers, unless a writer has died between them.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub(crate) struct Pair {
    pub(crate) left: u64,
    pub(crate) right: u64,
}

#[derive(ShmSafe, Clone, Copy)]
#[repr(C)]
pub(crate) struct Message {
    pub(crate) slot: u64,
    pub(crate) number: u64,
    pub(crate) inverse: u64,
}

impl Message {
    pub(crate) fn new(slot: usize, number: u64) -> Self {
        Self {
            slot: slot as u64,
            number,
            inverse: !number,
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.inverse == !self.number && (self.slot as usize) < MAX_WORKERS
    }
}
