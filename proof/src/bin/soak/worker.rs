//! A worker: a process that uses the mutexes, condition variables and segments until it
//! is killed, or ends by a command.

use std::sync::atomic::Ordering;

use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use shm_sync::Segment;

use crate::findings::{Findings, Violation};
use crate::process::{self, is_expected_end};
use crate::random::Random;
use crate::segments::Addresses;
use crate::shared::Shared;
use crate::slot::{MAX_WORKERS, Slot};

/// The work of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Changes the ledger.
    LedgerWriter,
    /// Takes from the queue.
    Consumer,
    /// Puts into the queue.
    Producer,
    /// Creates, opens and drops segments.
    SegmentUser,
    /// Uses the other primitives.
    FamilyUser,
}

impl Role {
    pub(crate) const ALL: [Self; 5] = [
        Self::LedgerWriter,
        Self::Consumer,
        Self::Producer,
        Self::SegmentUser,
        Self::FamilyUser,
    ];

    /// Returns the role of a slot. Five slots have one worker of each role.
    pub(crate) fn of_slot(slot: usize) -> Self {
        Self::ALL[slot % Self::ALL.len()]
    }
}

/// The kind of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    /// A child that a worker has forked inside a lock. It works for some rounds, and
    /// obeys no commands.
    ForkedChild,
}

/// A forked child of a worker.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: Pid,
    /// The number of rounds of its parent after which it is killed.
    pub(crate) rounds_left: u64,
}

#[derive(Debug)]
pub(crate) struct Worker<'a> {
    pub(crate) shared: &'a Segment<Shared>,
    pub(crate) addresses: &'a Addresses,
    pub(crate) slot_number: usize,
    pub(crate) kind: Kind,
    pub(crate) random: Random,
    pub(crate) child: Option<Child>,
    /// The changes of this slot in the ledger, once the worker has read them.
    pub(crate) changes: Option<u64>,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(
        shared: &'a Segment<Shared>,
        addresses: &'a Addresses,
        slot_number: usize,
        seed: u64,
    ) -> Self {
        assert!(slot_number < MAX_WORKERS, "slot {slot_number}");
        Self {
            shared,
            addresses,
            slot_number,
            kind: Kind::Regular,
            random: Random::new(seed),
            child: None,
            changes: None,
        }
    }

    pub(crate) fn slot(&self) -> &'a Slot {
        let shared: &'a Shared = self.shared;
        &shared.slots[self.slot_number]
    }

    pub(crate) fn findings(&self) -> &'a Findings {
        let shared: &'a Shared = self.shared;
        &shared.findings
    }

    /// Ends the forked child when its rounds are over, and checks how it ended.
    pub(crate) fn reap_child(&mut self) {
        let Some(child) = &mut self.child else {
            return;
        };
        let end = match child.rounds_left.checked_sub(1) {
            Some(rounds_left) => {
                child.rounds_left = rounds_left;
                process::reap_if_ended(Some(child.pid))
            }
            None => Some(process::kill_and_reap(child.pid)),
        };
        if let Some(end) = end {
            self.child = None;
            self.check_child_end(end);
        }
    }

    pub(crate) fn check_child_end(&self, end: WaitStatus) {
        if !is_expected_end(end) {
            let detail = format_args!("a forked child: {end:?}");
            self.findings().violation(Violation::WrongEnd, detail);
        }
    }

    pub(crate) fn end_round(&self) {
        if self.kind == Kind::Regular {
            self.slot().count_round();
        }
    }

    /// Waits until the child has ended its checks, during which its parent holds the
    /// lock. Returns how the child ended, if it ended before.
    pub(crate) fn wait_for_checks_of(&self, child: Pid) -> Option<WaitStatus> {
        let id = process::id_of(child);
        let end = loop {
            if self.slot().checked_child.load(Ordering::Acquire) == id {
                break None;
            }
            if let Some(end) = process::reap_if_ended(Some(child)) {
                break Some(end);
            }
            std::thread::yield_now();
        };
        end.inspect(|&end| self.check_child_end(end))
    }
}
