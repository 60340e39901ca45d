//! The actions in each state, and the properties of each state.

use stateright::{Model, Property};

use super::state::{
    Action, Channel, Content, Kind, MESSAGES, PROCESSES, Place, Process, Recheck, Role, SLOTS,
    State, Step,
};
use super::steps::messages;
use crate::locks::checker::{LockModel, deaths, not_stuck};

pub(super) const WHOLE: &str = "a receiver gets whole messages";
pub(super) const ONCE: &str = "a message is received once, and not if it was given back";
pub(super) const NOT_LOST: &str = "a sent message is in the ring or in the hands of a receiver";
pub(super) const REST_FIRST: &str = "a receiver is told of the end after it has the rest";
pub(super) const PEERS_FIRST: &str = "no process is told of the end before a peer has come";

impl Model for Channel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            slots: [Content::Nothing; SLOTS],
            sender_has_come: false,
            sent: 0,
            received: 0,
            locks: [None; 2],
            processes: self.roles.map(|role| Process {
                step: match role {
                    Role::Absent => Step::Done,
                    _ => Step::TakeSeat,
                },
                messages_left: messages(role),
                ..Process::default()
            }),
            deaths_left: self.deaths,
            places: [Place::NotSent; MESSAGES],
            has_torn: false,
            told_early: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, process) in state.all() {
            match process.step {
                Step::Waiting => {
                    if self.recheck == Recheck::Yes {
                        actions.push(Action::TimeOut(id));
                    }
                }
                Step::Done | Step::Dead => {}
                _ => match self.wake_candidates(state, id) {
                    0 => actions.push(Action::Step(id)),
                    targets => {
                        let each = (0..).take(PROCESSES);
                        let each = each.filter(|other| targets & 1 << other != 0);
                        actions.extend(each.map(|other| Action::Wake(id, other)));
                    }
                },
            }
            if state.deaths_left > 0 && self.may_die_now(state, id) {
                actions.push(Action::Die(id));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Step(id) => self.take_step(&mut state, id)?,
            Action::Wake(id, other) => self.wake_for(&mut state, id, other),
            Action::TimeOut(id) => self.time_out(&mut state, id),
            Action::Die(id) => {
                state.deaths_left -= 1;
                Self::die(&mut state, id);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            not_stuck(),
            Property::always(WHOLE, |_, state: &State| !state.has_torn),
            Property::always(ONCE, |_, state: &State| {
                !state.places.contains(&Place::Wrong)
            }),
            Property::always(NOT_LOST, |model: &Self, state: &State| {
                let sent = state.places.iter().filter(|it| **it == Place::Sent);
                let in_hands = state.all().filter(|(id, process)| {
                    model.role(*id) == Role::Receiver && process.has_committed
                });
                sent.count() == usize::from(state.sent - state.received) + in_hands.count()
            }),
            Property::always(REST_FIRST, |_, state: &State| !state.told_early),
            Property::always(PEERS_FIRST, |model: &Self, state: &State| {
                // A receiver leaves only when it is told of the end.
                let has_come = |wanted: fn(Role) -> bool| {
                    let mut all = state.all();
                    all.any(|(id, process)| {
                        wanted(model.role(id)) && process.step != Step::TakeSeat
                    })
                };
                let has_ended = |(id, process): (u8, &Process)| {
                    model.role(id) == Role::Receiver
                        && matches!(
                            process.step,
                            Step::WakeSeat | Step::NotifyClose | Step::Done
                        )
                };
                has_come(|role| messages(role) > 0) || !state.all().any(has_ended)
            }),
        ]
    }
}

impl LockModel for Channel {
    const NAME: &'static str = "channel";

    fn scenario(&self) -> String {
        let present = self.roles.iter().filter(|role| **role != Role::Absent);
        let roles: Vec<String> = present.map(ToString::to_string).collect();
        let kind = match self.kind {
            Kind::Locks => "locks",
            Kind::OneToOne => "one to one",
        };
        let recheck = match self.recheck {
            Recheck::No => "no recheck",
            Recheck::Yes => "all recheck",
        };
        let slots = self.slots;
        let deaths = deaths(self.deaths);
        format!(
            "{}; {kind}, {slots} slots, {deaths}, {recheck}",
            roles.join(", ")
        )
    }

    fn is_forced(&self, state: &State, action: Action) -> bool {
        match action {
            Action::TimeOut(id) => self.recheck == Recheck::Yes && self.has_reason(state, id),
            Action::Die(_) => false,
            Action::Step(_) | Action::Wake(..) => true,
        }
    }

    /// Returns whether every process has ended, or sleeps without a reason to wake.
    fn is_final(&self, state: &State) -> bool {
        state.all().all(|(id, process)| match process.step {
            Step::Done | Step::Dead => true,
            Step::Waiting => !self.has_reason(state, id),
            _ => false,
        })
    }

    fn describe(&self, state: &State, action: Action) -> String {
        match action {
            Action::Step(id) => format!("{id} {:?}", state.step(id)),
            Action::Wake(id, other) => format!("{id} {:?} {other}", state.step(id)),
            Action::TimeOut(id) => format!("{id} times out"),
            Action::Die(id) => format!("{id} DIES"),
        }
    }
}
