//! The work of the workers, in rounds.

use std::time::Duration;

use shm_sync::{Error, IfAbandoned, Segment, ShmMutexGuard};

use crate::checked_mutex::{CheckedData, CheckedMutex};
use crate::commands::AfterCommand;
use crate::findings::Violation;
use crate::process::{self, EXPECTED_EXIT};
use crate::segments::{Content, transient};
use crate::worker::{Kind, Role, Worker};

/// A timeout that is rarely reached, and shorter than the recheck interval.
const WAIT_TIMEOUT: Duration = Duration::from_millis(20);

impl Worker<'_> {
    /// Works until a kill or a command ends the process.
    pub(crate) fn run(mut self) -> ! {
        loop {
            self.begin_round();
            match Role::of_slot(self.slot_number) {
                Role::LedgerWriter => self.change_ledger(),
                Role::Consumer => self.consume(),
                Role::Producer => self.produce(),
                Role::SegmentUser => self.use_segment(),
                Role::FamilyUser => self.use_family(),
            }
        }
    }

    /// Works for some rounds, as a forked child.
    fn run_as_forked_child(&mut self) -> ! {
        for _ in 0..self.random.below(64) {
            self.begin_round();
            self.change_ledger();
        }
        process::end(EXPECTED_EXIT)
    }

    fn begin_round(&mut self) {
        self.shared.check_poison();
        self.reap_child();
        self.obey_outside();
    }

    /// Carries out a command in the middle of a change. Returns the guard if the worker
    /// still holds the lock.
    fn obey_in_change<'g, T: CheckedData>(
        &mut self,
        checked: &'g CheckedMutex<T>,
        guard: ShmMutexGuard<'g, T>,
    ) -> Option<ShmMutexGuard<'g, T>> {
        match self.obey_inside(checked, guard) {
            AfterCommand::Holds(guard) => Some(guard),
            AfterCommand::Unlocked => None,
            AfterCommand::ForkedChild => self.run_as_forked_child(),
        }
    }

    pub(crate) fn change_ledger(&mut self) {
        let findings = self.findings();
        let checked = &self.shared.ledger;
        let result = match self.random.below(4) {
            0 => checked.mutex.try_lock(),
            1 => checked.mutex.try_lock_for(Duration::from_millis(5)),
            _ => checked.mutex.lock(),
        };
        let Some(mut ledger) = checked.enter(findings, result) else {
            return;
        };
        self.check_own_changes(ledger.by_slot[self.slot_number]);
        ledger.left += 1;
        let Some(mut ledger) = self.obey_in_change(checked, ledger) else {
            return;
        };
        if self.kind == Kind::Regular {
            ledger.by_slot[self.slot_number] += 1;
            self.changes = Some(ledger.by_slot[self.slot_number]);
        }
        ledger.right += 1;
        checked.leave(findings);
        drop(ledger);
        self.end_round();
    }

    /// Checks that no other worker has changed the number of this slot.
    fn check_own_changes(&self, found: u64) {
        if let (Kind::Regular, Some(expected)) = (self.kind, self.changes) {
            if found != expected {
                let slot = self.slot_number;
                let detail = format_args!("slot {slot} has made {expected} changes, not {found}");
                self.findings().violation(Violation::LostUpdate, detail);
            }
        }
    }

    fn consume(&mut self) {
        let (shared, findings) = (self.shared, self.findings());
        let (checked, kind) = (&shared.queue, shared.condvar_kind());
        let Some(mut queue) = checked.enter(findings, checked.mutex.lock()) else {
            return;
        };
        while queue.is_empty() {
            checked.leave(findings);
            let result = match self.random.below(8) {
                0 => shared.not_empty.wait_timeout(kind, queue, WAIT_TIMEOUT),
                _ => shared.not_empty.wait(kind, queue),
            };
            match checked.enter(findings, result) {
                Some(guard) => queue = guard,
                None => return,
            }
        }
        queue.begin_take();
        let Some(mut queue) = self.obey_in_change(checked, queue) else {
            return;
        };
        queue.end_take();
        match self.random.below(4) {
            0 => shared.not_full.notify_all(kind),
            _ => shared.not_full.notify_one(kind),
        }
        checked.leave(findings);
        drop(queue);
        self.end_round();
    }

    fn produce(&mut self) {
        let (shared, findings) = (self.shared, self.findings());
        let (checked, kind) = (&shared.queue, shared.condvar_kind());
        let Some(mut queue) = checked.enter(findings, checked.mutex.lock()) else {
            return;
        };
        while queue.is_full() {
            checked.leave(findings);
            let result = match self.random.below(8) {
                0 => shared.not_full.wait_timeout(kind, queue, WAIT_TIMEOUT),
                _ => shared.not_full.wait(kind, queue),
            };
            match checked.enter(findings, result) {
                Some(guard) => queue = guard,
                None => return,
            }
        }
        queue.begin_put();
        let Some(mut queue) = self.obey_in_change(checked, queue) else {
            return;
        };
        queue.end_put();
        match self.random.below(4) {
            0 => shared.not_empty.notify_all(kind),
            _ => shared.not_empty.notify_one(kind),
        }
        checked.leave(findings);
        drop(queue);
        self.end_round();
    }

    fn use_segment(&mut self) {
        let address = self.addresses.any(&mut self.random);
        let options = transient(match self.random.below(2) {
            0 => IfAbandoned::Recreate,
            _ => IfAbandoned::Reuse,
        });
        let result = match self.random.below(4) {
            0 => options.open(address),
            _ => options.open_or_create(address, || Content::new(self.shared.next_value())),
        };
        match result {
            Ok(segment) => self.visit(segment, address),
            Err(Error::NotFound { .. }) => {}
            Err(other) => {
                let detail = format_args!("{address}: {other}");
                self.findings().violation(Violation::WrongSegment, detail);
            }
        }
        self.end_round();
    }

    fn visit(&mut self, segment: Segment<Content>, address: &str) {
        let findings = self.findings();
        self.shared.count_opened();
        let Some(id) = segment.id() else {
            let detail = format_args!("{address} is incomplete");
            findings.violation(Violation::WrongSegment, detail);
            return;
        };
        let segment = self.leak_inside(segment);
        let checked = &segment.visits;
        if let Some(mut visits) = checked.enter(findings, checked.mutex.lock()) {
            visits.begin();
            if let Some(mut visits) = self.obey_in_change(checked, visits) {
                visits.end();
                checked.leave(findings);
            }
        }
        // The name leads to the attached segment, because no worker unlinks it.
        for _ in 0..self.random.below(3) {
            let again = Segment::<Content>::open(address);
            let found = again.as_ref().map(|again| again.id());
            if !matches!(found, Ok(Some(found)) if found == id) {
                let detail = format_args!("{address}: attached to {id}, found {found:?}");
                findings.violation(Violation::WrongSegment, detail);
            }
        }
    }
}
