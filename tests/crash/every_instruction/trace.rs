//! A trace of an operation: its length, and where shared words change.

use std::collections::BTreeSet;

use super::experiment::{self, Point};
use super::operation::Case;
use super::subject::{Subject, Word};
use crate::support::walker::{Call, Step};

/// A change or a call at one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// A word in shared memory, which may have no name.
    Word {
        name: Option<Word>,
        old: u32,
        new: u32,
    },
    Call(Call),
}

/// The trace of one operation.
pub(crate) struct Trace {
    /// The number of instructions.
    pub(crate) instructions: u64,
    /// The numbers of instructions (from 1), and the change at each.
    changes: Vec<(u64, Change)>,
    sleeps: Sleeps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleeps {
    Never,
    Somewhere,
}

impl Trace {
    pub(crate) fn of<S: Subject>(case: Case) -> Self {
        let mut trace = Self {
            instructions: 0,
            changes: Vec::new(),
            sleeps: Sleeps::Never,
        };
        let mut before = Vec::new();
        experiment::trace(case, |subject: &S, number, step| {
            let now = subject.words();
            match step {
                Step::Plain => {}
                Step::Whole(call) => trace.changes.push((number, Change::Call(call))),
                Step::Asleep(call) | Step::Expired(call) => {
                    trace.changes.push((number, Change::Call(call)));
                    trace.sleeps = Sleeps::Somewhere;
                    // Other processes made the changes during the sleep.
                    before.clone_from(&now);
                }
            }
            for (at, (&old, &new)) in before.iter().zip(&now).enumerate() {
                if old != new {
                    let name = S::name_of(at * size_of::<u32>());
                    let change = Change::Word { name, old, new };
                    trace.changes.push((number, change));
                }
            }
            before = now;
            trace.instructions = number;
        });
        trace
    }

    /// Returns one point in `stride`, beginning at `offset`. Points before and after a
    /// change, and those in a sleep, are always included.
    pub(crate) fn points(&self, stride: u64, offset: u64) -> Vec<Point> {
        const TIMES_ASLEEP: usize = 4;
        let evenly = (offset % stride..=self.instructions).step_by(stride as usize);
        let changes = self.changes.iter();
        let around = changes.flat_map(|(number, _)| [number - 1, *number]);
        let chosen: BTreeSet<u64> = evenly.chain(around).chain([0]).collect();
        let mut points: Vec<Point> = chosen.into_iter().map(Point::After).collect();
        if self.sleeps == Sleeps::Somewhere {
            for _ in 0..TIMES_ASLEEP {
                points.extend([Point::Asleep, Point::Woken]);
            }
        }
        points
    }

    /// Returns the steps that the arguments in the library name, in order.
    pub(crate) fn steps(&self) -> Vec<&'static str> {
        let mut steps: Vec<&'static str> = Vec::new();
        let mut last = None;
        for (number, change) in &self.changes {
            let Some(step) = name(change) else { continue };
            // Both halves of a long word are one step. So is a sleep that the recheck
            // interval interrupts.
            let is_same = last.replace((*number, step)) == Some((*number, step));
            let sleeps_on = step == "futex wait" && steps.last() == Some(&step);
            if !is_same && !sleeps_on {
                steps.push(step);
            }
        }
        steps
    }
}

fn name(change: &Change) -> Option<&'static str> {
    /// glibc's `PTHREAD_MUTEX_INCONSISTENT`.
    const INCONSISTENT: u32 = i32::MAX as u32;
    let tid = |word: u32| word & libc::FUTEX_TID_MASK;
    let died = |word: u32| word & libc::FUTEX_OWNER_DIED != 0;
    Some(match *change {
        Change::Call(call) if call.number == libc::SYS_futex => {
            match call.second_argument as i32 & libc::FUTEX_CMD_MASK {
                libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET => "futex wake",
                libc::FUTEX_REQUEUE => "futex requeue",
                libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET => "futex wait",
                _ => "futex",
            }
        }
        Change::Call(_) => return None,
        Change::Word { name, old, new } => match name? {
            Word::Lock if tid(old) != tid(new) && tid(new) == 0 => "word freed",
            Word::Lock if tid(old) != tid(new) => "word taken",
            // A holder with musl removes the mark of the owner death.
            Word::Lock if cfg!(target_env = "musl") && died(old) && !died(new) => "made consistent",
            Word::Lock => return None,
            // The owner changes from the dead thread, or from glibc's mark, to the new
            // holder.
            Word::PthreadOwner if old != 0 && ![0, INCONSISTENT].contains(&new) => {
                "made consistent"
            }
            Word::PthreadOwner => return None,
            Word::Holder if new == 0 => "holder removed",
            Word::Holder => "holder set",
            Word::Poison if new == 0 => "poison cleared",
            Word::Poison => "poison set",
            Word::Poisonings => "poisonings up",
            Word::Sequence => "sequence up",
            Word::DistanceToMutex => "distance to mutex set",
            Word::Waiters if new > old => "waiters up",
            Word::Waiters => "waiters down",
            Word::Data => "data",
        },
    })
}
