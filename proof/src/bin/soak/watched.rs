//! A mutex and those who watch it: two inside at once, a death that nobody is told
//! of, torn data, a poison that goes too early.

use std::sync::atomic::{AtomicU32, Ordering, compiler_fence, fence};

use shm_sync::{LockError, LockResult, PoisonCause, ShmMutex, ShmMutexGuard, ShmSafe};

use crate::arena::{Arena, Place, Violation};

/// Data of which can be told whether somebody died between two of its changes.
pub(crate) trait Sound: ShmSafe {
    /// Where it is, for the report.
    const PLACE: Place;

    /// What is wrong with it.
    fn fault(&self) -> Option<String>;

    /// Makes it sound, whatever point its last user died at. May be repeated.
    fn repair(&mut self);
}

/// The mutex, and words that only those who hold it write.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Watched<T: ShmSafe> {
    pub(crate) lock: ShmMutex<T>,
    /// The process that is inside, by its own account; or 0.
    inside: AtomicU32,
    /// How many repairs were begun.
    repairs: AtomicU32,
    /// The number of the repair that is going on, or was left unfinished; or 0.
    repairing: AtomicU32,
}

type Guard<'a, T> = ShmMutexGuard<'a, T>;

impl<T: Sound> Watched<T> {
    pub(crate) fn new(lock: ShmMutex<T>) -> Self {
        Self {
            lock,
            inside: AtomicU32::new(0),
            repairs: AtomicU32::new(0),
            repairing: AtomicU32::new(0),
        }
    }

    /// Gives the lock priority inheritance.
    pub(crate) fn inherit_priorities(&mut self)
    where
        T: Default,
    {
        let value = std::mem::take(self.lock.get_mut());
        self.lock = ShmMutex::with_priority_inheritance(value);
    }

    /// Checks a lock that was just taken: nobody else is inside, and the data is
    /// sound, or else poisoned, and repaired now.
    pub(crate) fn enter<'a>(
        &self,
        arena: &Arena,
        result: LockResult<Guard<'a, T>>,
    ) -> Option<Guard<'a, T>> {
        let guard = match result {
            Ok(guard) => {
                let other = self.inside.load(Ordering::Relaxed);
                if other != 0 {
                    let detail = format_args!("{:?}: process {other} had not left", T::PLACE);
                    arena.violated(Violation::TwoInside, detail);
                }
                guard
            }
            Err(LockError::Poisoned(poisoned)) => {
                match poisoned.cause() {
                    PoisonCause::Panicked { .. } => arena.count_panic(),
                    cause => arena.deaths.report(cause.pid(), T::PLACE),
                }
                poisoned.recover(|data| self.repair(data))
            }
            Err(LockError::TimedOut | LockError::WouldBlock) => return None,
            Err(other) => {
                arena.violated(
                    Violation::LockRefused,
                    format_args!("{:?}: {other}", T::PLACE),
                );
                return None;
            }
        };
        if let Some(fault) = guard.fault() {
            arena.violated(Violation::Torn, format_args!("{:?}: {fault}", T::PLACE));
        }
        self.inside.store(std::process::id(), Ordering::Relaxed);
        Some(guard)
    }

    fn repair(&self, data: &mut T) {
        let number = self.repairs.load(Ordering::Relaxed).wrapping_add(1).max(1);
        self.repairs.store(number, Ordering::Relaxed);
        self.repairing.store(number, Ordering::Release);
        // Long enough to be seen at it, and to die of it.
        for _ in 0..64 {
            std::hint::spin_loop();
        }
        self.inside.store(0, Ordering::Relaxed);
        data.repair();
        self.repairing.store(0, Ordering::Relaxed);
        // Whoever sees what the library stores next sees this zero: see `look`.
        fence(Ordering::Release);
    }

    /// Gives the lock back, or is about to: it was this process's all the time.
    pub(crate) fn leave(&self, arena: &Arena) {
        let me = std::process::id();
        let holder = self.lock.holder();
        if holder.is_none_or(|holder| holder.pid != me) {
            let detail = format_args!("{:?}: process {me} holds it, not {holder:?}", T::PLACE);
            arena.violated(Violation::WrongHolder, detail);
        }
        let inside = self.inside.swap(0, Ordering::Relaxed);
        if inside != me {
            let detail = format_args!("{:?}: {me} and {inside}", T::PLACE);
            arena.violated(Violation::TwoInside, detail);
        }
        compiler_fence(Ordering::SeqCst);
    }

    /// Looks from outside, without the lock: while a repair is going on, the data is
    /// in doubt, and says so.
    pub(crate) fn look(&self, arena: &Arena) {
        let before = self.repairing.load(Ordering::Acquire);
        if before == 0 {
            return;
        }
        let is_poisoned = self.lock.is_poisoned();
        // If that was the clean word which follows the repair, the zero that was
        // stored before it is seen below.
        fence(Ordering::Acquire);
        if !is_poisoned && self.repairing.load(Ordering::Relaxed) == before {
            let detail = format_args!("{:?}: repair {before} is going on", T::PLACE);
            arena.violated(Violation::PoisonGone, detail);
        }
    }

    /// Checks, with the lock held and no repair pending, that nobody has touched it.
    pub(crate) fn is_untouched(&self) -> bool {
        let me = std::process::id();
        self.inside.load(Ordering::Relaxed) == me
            && self.lock.holder().is_some_and(|holder| holder.pid == me)
            && !self.lock.is_poisoned()
    }
}
