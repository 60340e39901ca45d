//! The work with the primitives beside the mutex and the condition variable. Workers
//! hold permits, seats and guards while they change the ledger, where commands reach
//! them.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use shm_sync::{
    BarrierError, Error, LockError, LockResult, OrRecover, RecvTimeoutError, SendTimeoutError,
    ShmRwLockWriteGuard,
};

use crate::checked_mutex::step;
use crate::family::{FEW, Message, Pair};
use crate::findings::{Findings, Violation};
use crate::worker::Worker;

/// A timeout that is often reached.
const SHORT: Duration = Duration::from_millis(1);
/// The value that is made once.
const MADE: u64 = 0x5eed;

/// Marks a place that one process at a time may use. `after_death` says that the last
/// one has died there.
fn enter(findings: &Findings, what: &str, place: &AtomicU32, after_death: bool) {
    let before = place.swap(std::process::id(), Ordering::SeqCst);
    if before != 0 && !after_death {
        let detail = format_args!("{what}: process {before} is there");
        findings.violation(Violation::TwoHolders, detail);
    }
}

fn leave(findings: &Findings, what: &str, place: &AtomicU32) {
    let me = std::process::id();
    let found = place.swap(0, Ordering::SeqCst);
    if found != me {
        let detail = format_args!("{what}: {me} and {found}");
        findings.violation(Violation::TwoHolders, detail);
    }
}

fn refused(findings: &Findings, what: &str, error: impl Debug) {
    findings.violation(Violation::LockRefused, format_args!("{what}: {error:?}"));
}

impl Worker<'_> {
    /// Uses one of the primitives.
    pub(crate) fn use_family(&mut self) {
        match self.random.below(10) {
            0 => self.use_device(),
            1 | 2 => self.read_table(),
            3 => self.write_table(),
            4 => self.send(),
            5 => self.receive(),
            6 => self.publish(),
            7 => self.be_a_member(),
            8 => self.take_a_step(),
            _ => self.change_text(),
        }
        self.shared.family.uses.fetch_add(1, Ordering::Relaxed);
        self.end_round();
    }

    fn use_device(&mut self) {
        let (shared, findings) = (self.shared, self.findings());
        let devices = &shared.family.devices;
        let permits = match self.random.below(4) {
            0 => devices.try_acquire().map(|permit| vec![permit]),
            1 => devices.try_acquire_for(SHORT).map(|permit| vec![permit]),
            2 => devices.acquire_many(FEW),
            _ => devices.acquire().map(|permit| vec![permit]),
        };
        let permits = match permits {
            Ok(permits) => permits,
            Err(Error::Lock(LockError::WouldBlock | LockError::TimedOut)) => return,
            Err(error) => return refused(findings, "semaphore", error),
        };
        let users = &shared.family.device_users;
        for permit in &permits {
            enter(
                findings,
                "device",
                &users[permit.index()],
                permit.after_death(),
            );
        }
        self.change_ledger();
        for permit in &permits {
            leave(findings, "device", &users[permit.index()]);
        }
    }

    fn read_table(&mut self) {
        let (shared, findings) = (self.shared, self.findings());
        let table = &shared.family.table;
        let result = match self.random.below(4) {
            0 => table.try_read(),
            1 => table.try_read_for(SHORT),
            _ => table.read(),
        };
        let Some(pair) = entered(findings, result) else {
            return;
        };
        self.check_pair(&pair);
        if self.random.below(4) == 0 {
            self.change_ledger();
            self.check_pair(&pair);
        }
    }

    fn write_table(&mut self) {
        let (shared, findings) = (self.shared, self.findings());
        let table = &shared.family.table;
        let result = match self.random.below(4) {
            0 => table.try_write(),
            1 => table.try_write_for(SHORT),
            _ => table.write(),
        };
        let result = match result {
            Err(LockError::WouldBlock | LockError::TimedOut) => return,
            other => other.or_recover(|pair, _| pair.right = pair.left),
        };
        let mut pair = match result {
            Ok(pair) => pair,
            Err(error) => return refused(findings, "readers-writer lock", error),
        };
        self.check_pair(&pair);
        pair.left += 1;
        step();
        if self.random.below(8) == 0 {
            self.change_ledger();
        }
        step();
        pair.right += 1;
        if self.random.below(2) == 0 {
            let pair = ShmRwLockWriteGuard::downgrade(pair);
            self.check_pair(&pair);
        }
    }

    fn check_pair(&self, pair: &Pair) {
        let Pair { left, right } = pair;
        if left != right {
            let detail = format_args!("readers-writer lock: {left} and {right}");
            self.findings().violation(Violation::Torn, detail);
        }
    }

    fn send(&mut self) {
        let (shared, findings) = (self.shared, self.findings());
        let family = &shared.family;
        let sender = match family.line.sender() {
            Ok(sender) => sender,
            Err(Error::TooManyEndpoints { .. }) => return,
            Err(error) => return refused(findings, "sender", error),
        };
        for _ in 0..self.random.below(8) {
            // Another worker has this slot after a death. So the number is stored
            // first.
            let number = family.made[self.slot_number].fetch_add(1, Ordering::SeqCst) + 1;
            match sender.send_timeout(Message::new(self.slot_number, number), SHORT) {
                Ok(()) => {}
                Err(SendTimeoutError::Timeout(_) | SendTimeoutError::Disconnected { .. }) => {
                    return;
                }
                Err(error) => return refused(findings, "send", error),
            }
        }
    }

    fn receive(&mut self) {
        let (shared, findings) = (self.shared, self.findings());
        let family = &shared.family;
        let receiver = match family.line.receiver() {
            Ok(receiver) => receiver,
            Err(Error::TooManyEndpoints { .. }) => return,
            Err(error) => return refused(findings, "receiver", error),
        };
        for _ in 0..self.random.below(8) {
            let message = match receiver.recv_timeout(SHORT) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected { .. }) => return,
                Err(error) => return refused(findings, "receive", error),
            };
            if !message.is_whole() {
                findings.violation(Violation::Torn, "a message");
                return;
            }
            family.messages.fetch_add(1, Ordering::Relaxed);
            let Message { slot, number, .. } = message;
            // One receiver at a time: the messages of a slot come in order.
            let last = family.received[slot as usize].swap(number, Ordering::SeqCst);
            if number <= last {
                let detail = format_args!("slot {slot}: message {number} after {last}");
                findings.violation(Violation::WrongMessage, detail);
            }
        }
    }

    fn publish(&mut self) {
        let (shared, findings) = (self.shared, self.findings());
        let family = &shared.family;
        if let Err(error) = family.latest.update(|value| [value[0] + 1; 8]) {
            return refused(findings, "publish", error);
        }
        let mut last = 0;
        for _ in 0..4 {
            let (value, version) = family.latest.read_with_version();
            if value.iter().any(|&number| number != value[0]) {
                findings.violation(Violation::Torn, format_args!("published: {value:?}"));
            }
            if version < last {
                let detail = format_args!("version {version} after {last}");
                findings.violation(Violation::LostUpdate, detail);
            }
            last = version;
        }
        match family.once.get_or_init(|| MADE) {
            Ok(&MADE) => {}
            other => refused(findings, "once", other),
        }
    }

    fn be_a_member(&mut self) {
        let (shared, findings) = (self.shared, self.findings());
        let family = &shared.family;
        let guard = match family.members.hold() {
            Ok(guard) => guard,
            Err(Error::Lock(LockError::WouldBlock)) => {
                let any = self.random.index(FEW);
                if let Err(error) = family.members.wait_for_end(any, Some(SHORT)) {
                    refused(findings, "wait for the end", error);
                }
                return;
            }
            Err(error) => return refused(findings, "lifeline", error),
        };
        let place = &family.member_ids[guard.index()];
        enter(findings, "lifeline", place, guard.after_death());
        if !family.members.is_alive(guard.index()) {
            findings.violation(Violation::WrongHolder, "a lifeline without its holder");
        }
        self.change_ledger();
        leave(findings, "lifeline", place);
    }

    fn take_a_step(&mut self) {
        let (shared, findings) = (self.shared, self.findings());
        let family = &shared.family;
        match self.random.below(3) {
            0 => {
                let _ = family.bell.set();
            }
            1 => family.bell.reset(),
            _ => {
                if let Err(error) = family.bell.wait_timeout(SHORT) {
                    refused(findings, "event", error);
                }
            }
        }
        let member = match family.steps.join() {
            Ok(member) => member,
            Err(Error::Lock(LockError::WouldBlock)) => return,
            Err(error) => return refused(findings, "barrier", error),
        };
        for _ in 0..1 + self.random.below(4) {
            match member.wait_timeout(SHORT) {
                Ok(_) => {
                    family.rounds_met.fetch_add(1, Ordering::Relaxed);
                }
                Err(BarrierError::Broken | BarrierError::TimedOut) => {}
                Err(error) => return refused(findings, "barrier", error),
            }
        }
    }

    fn change_text(&mut self) {
        let (shared, findings) = (self.shared, self.findings());
        let number = self.random.below(1_000_000);
        let result = shared.family.text.lock_or_recover(|_, _| ());
        let mut text = match result {
            Ok(text) => text,
            Err(error) => return refused(findings, "text", error),
        };
        // Each change is one commit, so there is nothing to repair.
        if !text.is_empty() && text.parse::<u64>().is_err() {
            findings.violation(Violation::Torn, format_args!("text: {:?}", &**text));
        }
        text.clear();
        if let Err(error) = text.try_push_str(&number.to_string()) {
            refused(findings, "text", error);
        }
    }
}

/// Returns the guard. Poisoned data is left to a writer.
fn entered<G>(findings: &Findings, result: LockResult<G>) -> Option<G> {
    match result {
        Ok(guard) => Some(guard),
        Err(LockError::Poisoned(_) | LockError::WouldBlock | LockError::TimedOut) => None,
        Err(other) => {
            refused(findings, "readers-writer lock", Error::from(other));
            None
        }
    }
}
