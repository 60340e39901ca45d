//! The commands of the supervisor, as workers carry them out: end in every way there
//! is, fork, panic, leak a guard.

use std::convert::Infallible;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::unistd::{Pid, execv, getppid};
use shm_sync::{LockError, Segment, ShmMutexGuard};

use crate::checked_mutex::{CheckedData, CheckedMutex, step};
use crate::findings::{Findings, Violation};
use crate::process::{self, EXPECTED_EXIT};
use crate::segments::{Content, Visits};
use crate::shared::Shared;
use crate::slot::Command;
use crate::worker::{Child, Kind, Role, Worker};

/// The time that a worker waits for a lock that it can do without.
const SHORT_WAIT: Duration = Duration::from_millis(5);

/// The time within which the parent of a child that found its lock free must turn out
/// to be dead.
const UNTIL_DEAD: Duration = Duration::from_secs(2);

/// The state of a worker after a command that it carried out with a lock held.
pub(crate) enum AfterCommand<G> {
    /// It still holds the lock.
    Holds(G),
    Unlocked,
    /// It is the forked child of a holder.
    ForkedChild,
}

impl Worker<'_> {
    /// Carries out a command for a worker that holds a lock and has changed half of the
    /// data.
    pub(crate) fn obey_inside<'g, T: CheckedData>(
        &mut self,
        checked: &'g CheckedMutex<T>,
        guard: ShmMutexGuard<'g, T>,
    ) -> AfterCommand<ShmMutexGuard<'g, T>> {
        step();
        let inside = [Command::Exit, Command::Exec, Command::Panic, Command::Fork];
        let Some(command) = self.take_command(&inside) else {
            return AfterCommand::Holds(guard);
        };
        self.shared.count_command(command);
        match command {
            Command::Exec => self.exec(),
            Command::Fork => self.fork_inside(checked, guard),
            Command::Panic => {
                panic_with(guard);
                AfterCommand::Unlocked
            }
            _ => std::process::exit(EXPECTED_EXIT),
        }
    }

    /// Carries out a command for a worker that holds no lock.
    pub(crate) fn obey_outside(&mut self) {
        if self.take_command(&[Command::EndThread]).is_some() {
            self.end_thread();
        }
        // A user of segments leaks a guard in its own segment.
        let has_segment = Role::of_slot(self.slot_number) == Role::SegmentUser;
        if !has_segment && self.take_command(&[Command::Leak]).is_some() {
            self.leak_in_shared();
        }
    }

    fn take_command(&self, among: &[Command]) -> Option<Command> {
        match self.kind {
            Kind::Regular => self.slot().take_command(among),
            Kind::ForkedChild => None,
        }
    }

    /// Becomes another image, which takes over the slot.
    fn exec(&mut self) -> ! {
        let seed = self.random.below(u64::from(u32::MAX));
        let arguments = [
            "soak",
            "--join",
            self.addresses.shared(),
            "--slot",
            &self.slot_number.to_string(),
            "--worker-seed",
            &seed.to_string(),
        ]
        .map(|argument| CString::new(argument).expect("no argument has a zero byte"));
        let failed = execv(c"/proc/self/exe", &arguments);
        let detail = format_args!("exec: {failed:?}");
        self.findings().violation(Violation::WrongEnd, detail);
        process::end(EXPECTED_EXIT)
    }

    /// Ends a thread that has leaked its guard with the data half-changed.
    fn end_thread(&mut self) {
        let shared: &Shared = self.shared;
        let end = || {
            if leak(&shared.findings, &shared.ledger, |ledger| ledger.left += 1) {
                shared.count_command(Command::EndThread);
            }
        };
        // Joined, not only waited for by the scope: a process that forks must have one
        // thread.
        let joined = std::thread::scope(|scope| scope.spawn(end).join());
        if joined.is_err() {
            let findings = self.findings();
            findings.violation(Violation::WrongEnd, "a thread panicked");
        }
    }

    /// Leaks a guard in a second mapping of the shared memory.
    fn leak_in_shared(&mut self) {
        let findings = self.findings();
        let own = match Segment::<Shared>::open(self.addresses.shared()) {
            Ok(own) => own,
            Err(error) => {
                let detail = format_args!("the shared memory: {error}");
                return findings.violation(Violation::WrongSegment, detail);
            }
        };
        if leak(findings, &own.ledger, |ledger| ledger.left += 1) {
            self.end_with_leak(own);
        }
    }

    /// Leaks a guard in the segment that this worker has just opened, if commanded.
    pub(crate) fn leak_inside(&mut self, segment: Segment<Content>) -> Segment<Content> {
        let must_leak = self.take_command(&[Command::Leak]).is_some();
        if must_leak && leak(self.findings(), &segment.visits, Visits::begin) {
            self.end_with_leak(segment);
        }
        segment
    }

    /// Drops a segment with a leaked guard, locks other mutexes, and ends. Other
    /// workers wait for the leaked mutex.
    fn end_with_leak(&self, segment: impl Sized) -> ! {
        let (shared, findings) = (self.shared, self.findings());
        shared.count_command(Command::Leak);
        drop(segment);
        // The robust list, on which these are pushed, leads through the leaked mutex.
        for _ in 0..3 {
            let checked = &shared.queue;
            let result = checked.mutex.try_lock_for(SHORT_WAIT);
            if let Some(queue) = checked.enter(findings, result) {
                checked.leave(findings);
                drop(queue);
            }
        }
        process::end(EXPECTED_EXIT)
    }

    /// Forks with the lock held. The child tries to interfere, without effect.
    fn fork_inside<'g, T: CheckedData>(
        &mut self,
        checked: &'g CheckedMutex<T>,
        guard: ShmMutexGuard<'g, T>,
    ) -> AfterCommand<ShmMutexGuard<'g, T>> {
        if let Some(child) = self.child.take() {
            self.check_child_end(process::kill_and_reap(child.pid));
        }
        let rounds_left = self.random.below(64);
        let parent = Pid::this();
        let Some(pid) = process::fork_child() else {
            self.kind = Kind::ForkedChild;
            self.try_to_interfere(checked, guard, parent);
            let me = std::process::id();
            self.slot().checked_child.store(me, Ordering::Release);
            return AfterCommand::ForkedChild;
        };
        if self.wait_for_checks_of(pid).is_none() {
            self.child = Some(Child { pid, rounds_left });
        }
        if !checked.is_untouched() {
            let detail = format_args!("{:?}: held by {:?}", T::SITE, checked.mutex.holder());
            self.findings()
                .violation(Violation::ChildInterferes, detail);
        }
        AfterCommand::Holds(guard)
    }

    /// Uses the copy of the parent's guard in the child, while the parent waits.
    fn try_to_interfere<'g, T: CheckedData>(
        &mut self,
        checked: &'g CheckedMutex<T>,
        guard: ShmMutexGuard<'g, T>,
        parent: Pid,
    ) {
        let is_refused = match self.random.below(3) {
            0 => {
                drop(guard);
                true
            }
            1 => {
                panic_with(guard);
                true
            }
            _ => {
                let waited = self.shared.not_empty.shm.wait_timeout(guard, SHORT_WAIT);
                matches!(waited, Err(LockError::NotOwner))
            }
        };
        let is_excluded = matches!(checked.mutex.try_lock(), Err(LockError::WouldBlock));
        if !is_refused || (!is_excluded && !is_orphaned_soon(parent)) {
            let detail = format_args!(
                "{:?}: wait refused: {is_refused}, excluded: {is_excluded}",
                T::SITE
            );
            self.findings()
                .violation(Violation::ChildInterferes, detail);
        }
    }
}

/// Locks, if the mutex is soon free, changes half of the data, and leaks the guard.
fn leak<T: CheckedData>(
    findings: &Findings,
    checked: &CheckedMutex<T>,
    half_change: impl FnOnce(&mut T),
) -> bool {
    let result = checked.mutex.try_lock_for(SHORT_WAIT);
    match checked.enter(findings, result) {
        Some(mut guard) => {
            half_change(&mut guard);
            step();
            std::mem::forget(guard);
            true
        }
        None => false,
    }
}

/// Returns whether the parent of this process turns out to be dead. The kernel releases
/// a dead process's locks before it gives its children another parent.
fn is_orphaned_soon(parent: Pid) -> bool {
    let begin = Instant::now();
    while getppid() == parent {
        if begin.elapsed() > UNTIL_DEAD {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Unwinds through the guard, without a message.
fn panic_with<G>(guard: G) {
    let unwound = catch_unwind(AssertUnwindSafe(move || -> Infallible {
        let _guard = guard;
        resume_unwind(Box::new("commanded"))
    }));
    drop(unwound.expect_err("the closure unwinds"));
}
