//! The actions in each state, and the properties of each state.

use stateright::{Model, Property};

use super::state::{
    Action, Condvar, Flag, Id, Lock, PROCESSES, Poison, Process, Purpose, Recheck, Role, State,
    Step,
};
use crate::locks::checker::{LockModel, deaths, not_stuck};

pub(super) const ENOUGH_WAITERS: &str = "`waiters` is never too low";
pub(super) const HOLDS_MUTEX: &str = "a process that returns from a wait holds the mutex";
pub(super) const NOTIFIER_NOT_BLOCKED: &str = "no process blocks a notifier";
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
                AddEpoch, CheckPoison, ClearPoison, ReadEpoch, ReadSequence, SetPoison, Unlock,
                UnlockForWait, Work,
            };
            state.all().all(|(id, process)| match process.step {
                SetPoison | AddEpoch | CheckPoison | ClearPoison | Work | ReadSequence
                | ReadEpoch | UnlockForWait | Unlock => state.lock == Lock::HeldBy(id),
                _ => true,
            })
        }),
        Property::always(NOTIFIER_NOT_BLOCKED, |model: &Condvar, state: &State| {
            use Step::{
                AddSequence, CheckGeneration, ReadWaiters, ReadWaitersAgain, Wake, WakeNext,
            };
            let notifies = |step| {
                matches!(
                    step,
                    AddSequence
                        | ReadWaiters
                        | Wake
                        | CheckGeneration
                        | ReadWaitersAgain
                        | WakeNext
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
            poison: Poison::Clean,
            epoch: 0,
            real_epoch: 0,
            sequence: 0,
            generation: 0,
            waiters: 0,
            items: 0,
            flag: Flag::Clear,
            queue: 0,
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
                Step::Waiting | Step::Done | Step::Dead => {}
                Step::Wake | Step::WakeNext => match self.wake_candidates(state, id) {
                    0 => actions.push(Action::Step(id)),
                    targets => {
                        let each = (0..)
                            .take(PROCESSES)
                            .filter(|other| targets & 1 << other != 0);
                        actions.extend(each.map(|other| Action::Wake(id, other)));
                    }
                },
                _ => actions.push(Action::Step(id)),
            }
            if process.step == Step::CheckDeadline && is_timed {
                actions.push(Action::GiveUp(id));
            }
            let is_alive = !matches!(process.step, Step::Done | Step::Dying | Step::Dead);
            if is_alive && state.deaths_left > 0 && self.may_die_now(state, id) {
                actions.push(Action::Die(id));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Step(id) => self.take_step(&mut state, id)?,
            Action::Wake(id, other) => {
                self.wake(&mut state, other);
                let me = &mut state.processes[id as usize];
                me.step = self.after_waking(id, me);
                self.forget(&mut state, id);
            }
            Action::TimeOut(id) => Self::time_out(&mut state, id),
            Action::GiveUp(id) => {
                let me = &mut state.processes[id as usize];
                me.purpose = Purpose::RelockTimedOut;
                me.step = Step::RemoveWaiter;
                self.forget(&mut state, id);
            }
            Action::Die(id) => {
                state.deaths_left -= 1;
                state.processes[id as usize].step = Step::Dying;
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
        format!("{}; {}, {recheck}", groups.join("; "), deaths(self.deaths))
    }

    fn is_forced(&self, state: &State, action: Action) -> bool {
        match action {
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
    /// every owner death, no `notify_all` of its generation is outstanding, and its
    /// condition does not hold.
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
                    && !Self::has_owner_failure(state, id)
            }
            _ => false,
        })
    }

    fn describe(&self, state: &State, action: Action) -> String {
        match action {
            Action::Step(id) => format!("{id} {:?}", state.step(id)),
            Action::Wake(id, other) => format!("{id} wakes {other}"),
            Action::TimeOut(id) => format!("{id} times out"),
            Action::GiveUp(id) => format!("{id} gives up"),
            Action::Die(id) => format!("{id} DIES"),
        }
    }
}
