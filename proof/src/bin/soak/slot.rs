//! The slot of a worker in shared memory: the command for it, and its progress.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use shm_sync::ShmSafe;

/// The greatest number of workers.
pub(crate) const MAX_WORKERS: usize = 64;

/// A command for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Calls `exit` with a lock held and the data half-changed.
    Exit,
    /// Calls `exec` with a lock held and the data half-changed. The new image takes
    /// over the slot.
    Exec,
    /// Ends a thread that has leaked a guard.
    EndThread,
    /// Panics with the guard held, and catches the panic.
    Panic,
    /// Forks with the guard held.
    Fork,
    /// Leaks a guard, drops its segment, locks other mutexes, and ends.
    Leak,
}

impl Command {
    pub(crate) const ALL: [Self; 6] = [
        Self::Exit,
        Self::Exec,
        Self::EndThread,
        Self::Panic,
        Self::Fork,
        Self::Leak,
    ];
}

/// The slot of one worker. Another worker takes it over after a death.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Slot {
    /// A [`Command`], counted from 1; or 0.
    command: AtomicU32,
    /// The number of rounds that its workers have ended.
    rounds: AtomicU64,
    /// The last forked child of the worker that has ended its checks.
    pub(crate) checked_child: AtomicU32,
}

impl Slot {
    /// Replaces the command for the worker.
    pub(crate) fn set_command(&self, command: Option<Command>) {
        let code = command.map_or(0, |command| command as u32 + 1);
        self.command.store(code, Ordering::Relaxed);
    }

    /// Removes and returns the command if it is one of these.
    pub(crate) fn take_command(&self, among: &[Command]) -> Option<Command> {
        let code = self.command.load(Ordering::Relaxed);
        let found = among.iter().find(|&&command| command as u32 + 1 == code)?;
        let relaxed = Ordering::Relaxed;
        let taken = self.command.compare_exchange(code, 0, relaxed, relaxed);
        taken.is_ok().then_some(*found)
    }

    pub(crate) fn count_round(&self) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Acquire)
    }
}
