//! The actions in each state, and the properties of each state.

use stateright::{Model, Property};

use super::state::{
    Action, Condvar, Flag, Id, Lock, Lockers, Mistake, PROCESSES, Poison, Process, Purpose,
    Recheck, Role, State, Step,
};
use crate::locks::checker::{LockModel, deaths, not_stuck};

pub(super) const ENOUGH_WAITERS: &str = "`waiters` is never too low";
pub(super) const HOLDS_MUTEX: &str = "a process that returns from a wait holds the mutex";
pub(super) const NOTIFIER_NOT_BLOCKED: &str = "no process blocks a notifier";
pub(super) const NOTIFIED_IN_TIME: &str = "a notification before the deadline is no timeout";
pub(super) const WAKES_BY_RECHECK: &str = "a waiter with a reason wakes at its next recheck";

fn properties() -> Vec<Property<Condvar>> {
    vec![
        not_stuck(),
        Property::always(ENOUGH_WAITERS, |_, state: &State| {
            use Step::{
                CheckDeadline, CheckEpoch, CheckOwnerDeath, FutexWait, RemoveWaiter, Waiting,
            };
            let sleeps = |(_, process): &(Id, &Process)| {
                matches!(
                    process.step,
                    FutexWait
                        | Waiting
                        | CheckOwnerDeath
                        | CheckEpoch
                        | CheckDeadline
                        | RemoveWaiter
                )
            };
            state.all().filter(sleeps).count() <= usize::from(state.waiters)
        }),
        Property::always(HOLDS_MUTEX, |_, state: &State| {
            use Step::{
                AddEpoch, CheckPoison, ClearPoison, Mark, MarkLate, Move, ReadEpoch, ReadSequence,
                SetPoison, Unlock, UnlockForWait, Work,
            };
            state.all().all(|(id, process)| match process.step {
                SetPoison | AddEpoch | MarkLate | Mark | Move | CheckPoison | ClearPoison
                | Work | ReadSequence | ReadEpoch | UnlockForWait | Unlock => {
                    state.lock == Lock::HeldBy(id)
                }
                _ => true,
            })
        }),
        Property::always(NOTIFIER_NOT_BLOCKED, |model: &Condvar, state: &State| {
            use Step::{AddSequence, Mark, Move, ReadWaiters, Wake, WakeDeferred, WakeLockers};
            let notifies = |step| {
                matches!(
                    step,
                    AddSequence | ReadWaiters | Wake | Mark | Move | WakeLockers | WakeDeferred
                )
            };
            let notifiers = state.all().filter(|(_, process)| notifies(process.step));
            let next: Vec<State> = model.next_states(state);
            let goes_on = |id| {
                next.iter().any(|next| {
                    !matches!(next.step(id), Step::Dying) && next.step(id) != state.step(id)
                })
            };
            notifiers.map(|(id, _)| id).all(goes_on)
        }),
        Property::always(NOTIFIED_IN_TIME, |_, state: &State| {
            state.all().all(|(_, process)| {
                process.purpose != Purpose::RelockTimedOut || !process.notified_in_time
            })
        }),
        Property::always(WAKES_BY_RECHECK, |model: &Condvar, state: &State| {
            let all = state.all().map(|(id, _)| id);
            let mut with_reason = all.filter(|id| Condvar::has_reason(state, *id));
            model.recheck != Recheck::EveryProcess
                || with_reason.all(|id| model.wakes_by_itself(state, id))
        }),
    ]
}
impl Model for Condvar {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            lock: Lock::Free,
            is_marked: false,
            poison: Poison::Clean,
            epoch: 0,
            real_epoch: 0,
            sequence: 0,
            generation: 0,
            waiters: 0,
            items: 0,
            flag: Flag::Clear,
            queue: 0,
            lock_queue: 0,
            processes: self.roles.map(|role| Process {
                step: match role {
                    Role::Absent => Step::Done,
                    _ => Step::Lock,
                },
                items_left: match role {
                    Role::Producer { items, .. } | Role::FlagSetter { items, .. } => items,
                    _ => 0,
                },
                ..Process::default()
            }),
            deaths_left: self.deaths,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, process) in state.all() {
            let is_timed = self.roles[id as usize] == Role::TimedConsumer;
            match process.step {
                Step::Waiting if is_timed || self.has_recheck(id) => {
                    actions.push(Action::TimeOut(id));
                }
                Step::LockWaiting if self.has_recheck(id) => actions.push(Action::TimeOut(id)),
                Step::Waiting | Step::LockWaiting | Step::Done | Step::Dead => {}
                Step::Wake | Step::WakeLockers | Step::WakeDeferred | Step::DyingWakes => {
                    let sets = self.sets_to_wake(state, id);
                    actions.extend(sets.map(|set| Action::Wake(id, set)));
                }
                _ => actions.push(Action::Step(id)),
            }
            if process.step == Step::CheckDeadline && is_timed {
                actions.push(Action::GiveUp(id));
            }
            let is_alive = !matches!(
                process.step,
                Step::Done | Step::Dying | Step::DyingWakes | Step::Dead
            );
            if is_alive && state.deaths_left > 0 && self.may_die_now(state, id) {
                actions.push(Action::Die(id));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Step(id) => self.take_step(&mut state, id)?,
            Action::Wake(id, set) => self.wake(&mut state, id, set),
            Action::TimeOut(id) => self.time_out(&mut state, id),
            Action::GiveUp(id) => {
                let me = &mut state.processes[id as usize];
                let is_notified = state.sequence != me.seen;
                if !is_notified || self.mistake == Mistake::TimeoutOverridesNotification {
                    me.purpose = Purpose::RelockTimedOut;
                }
                me.step = Step::RemoveWaiter;
                self.forget(&mut state, id);
            }
            Action::Die(id) => {
                state.deaths_left -= 1;
                let is_pending = self.is_pending(state.step(id));
                let me = &mut state.processes[id as usize];
                me.pending = is_pending;
                me.step = Step::Dying;
                self.forget(&mut state, id);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}

impl LockModel for Condvar {
    const NAME: &'static str = "condvar";

    fn scenario(&self) -> String {
        let mut groups: Vec<(Role, usize)> = Vec::new();
        for role in self.roles.into_iter().filter(|role| *role != Role::Absent) {
            match groups.iter_mut().find(|(other, _)| *other == role) {
                Some((_, count)) => *count += 1,
                None => groups.push((role, 1)),
            }
        }
        let groups = groups
            .iter()
            .map(|(role, count)| format!("{count} × {role}"));
        let groups: Vec<String> = groups.collect();
        let recheck = match self.recheck {
            Recheck::NoProcess => "no recheck",
            Recheck::OnlyFirst => "the first rechecks",
            Recheck::EveryProcess => "all recheck",
        };
        let groups = groups.join("; ");
        let deaths = deaths(self.deaths);
        let together = match self.woken_together {
            1 => String::new(),
            several => format!(", {several} woken together"),
        };
        let lockers = match self.lockers {
            Lockers::Spin => "",
            Lockers::Sleep => ", lockers sleep",
        };
        format!("{groups}; {deaths}, {recheck}{together}{lockers}")
    }

    fn is_forced(&self, state: &State, action: Action) -> bool {
        match action {
            Action::TimeOut(id) if state.step(id) == Step::LockWaiting => {
                !matches!(state.lock, Lock::HeldBy(_))
            }
            // A recheck without a reason is not forced: it would be a livelock.
            Action::TimeOut(id) => {
                Self::has_reason(state, id) || self.roles[id as usize] == Role::TimedConsumer
            }
            Action::Die(_) => false,
            // Nor is a check of the clock before the deadline.
            Action::Step(id) if self.roles[id as usize] == Role::TimedConsumer => {
                state.step(id) != Step::CheckDeadline
            }
            Action::Step(_) | Action::Wake(..) | Action::GiveUp(_) => true,
        }
    }

    /// Returns whether every process has ended its work, or waits. Each waiter has seen
    /// every owner death, no `notify_all` of its generation is outstanding, it has left
    /// the queue of the mutex, and its condition does not hold.
    fn is_final(&self, state: &State) -> bool {
        let has_no_reason = |id| match self.roles[id as usize] {
            Role::FlagWaiter => state.flag == Flag::Clear,
            _ => state.items == 0,
        };
        state.all().all(|(id, process)| match process.step {
            Step::Done | Step::Dead => true,
            Step::Waiting => {
                has_no_reason(id)
                    && process.generation == state.generation
                    && state.queue & 1 << id != 0
                    && !Self::has_owner_failure(state, id)
            }
            _ => false,
        })
    }

    fn describe(&self, state: &State, action: Action) -> String {
        match action {
            Action::Step(id) => format!("{id} {:?}", state.step(id)),
            Action::Wake(id, set) => {
                let woken = (0..PROCESSES).filter(|other| set & 1 << other != 0);
                let woken: Vec<_> = woken.map(|other| other.to_string()).collect();
                format!("{id} {:?}: [{}]", state.step(id), woken.join(", "))
            }
            Action::TimeOut(id) => format!("{id} times out"),
            Action::GiveUp(id) => format!("{id} gives up"),
            Action::Die(id) => format!("{id} DIES"),
        }
    }
}
