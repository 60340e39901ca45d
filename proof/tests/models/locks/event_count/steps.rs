//! The steps: see the table of the model.

use super::state::{
    EventCount, Id, MANY, MayDie, Mistake, Process, Role, Seat, Settling, State, Step, Targets,
    Then,
};

impl EventCount {
    pub(super) fn role(&self, id: Id) -> Role {
        self.roles[id as usize]
    }

    pub(super) fn first_step(&self, role: Role) -> Step {
        match role {
            Role::Absent => Step::Done,
            Role::Holder => Step::Leave,
            Role::Setter { .. } => self.first_of_notification(),
            _ => self.first_of_wait(),
        }
    }

    fn first_of_notification(&self) -> Step {
        match self.mistake {
            Mistake::RollReadBeforeChange => Step::LoadRoll,
            _ => Step::Change,
        }
    }

    fn first_of_wait(&self) -> Step {
        match self.mistake {
            Mistake::SequenceReadAfterAnnouncement | Mistake::SequenceReadAfterQuestion => {
                Step::Announce
            }
            _ => Step::ReadSequence,
        }
    }

    /// Returns the step of a waiter after this one, if the question has no answer.
    fn after(&self, step: Step, id: Id) -> Step {
        use Mistake as M;
        use Step::{Announce, Ask, FutexWait, Mark, ReadSequence};
        let order: &[Step] = match (self.role(id), self.mistake) {
            (Role::Watcher, M::MarkedAfterQuestion) => {
                &[ReadSequence, Announce, Ask, Mark, FutexWait]
            }
            (Role::Watcher, _) => &[ReadSequence, Announce, Mark, Ask, FutexWait],
            (_, M::AnnouncedAfterQuestion) => &[ReadSequence, Ask, Announce, FutexWait],
            (_, M::SequenceReadAfterAnnouncement) => &[Announce, ReadSequence, Ask, FutexWait],
            (_, M::SequenceReadAfterQuestion) => &[Announce, Ask, ReadSequence, FutexWait],
            _ => &[ReadSequence, Announce, Ask, FutexWait],
        };
        let at = order.iter().position(|other| *other == step);
        order[at.expect("the step is one of a waiter") + 1]
    }

    /// Takes the next step, in the order of the code. Returns `None` if it is not
    /// possible now.
    pub(super) fn take_step(&self, state: &mut State, id: Id) -> Option<()> {
        use Mistake as M;
        let mistake = self.mistake;
        let role = self.role(id);
        let me = &mut state.processes[id as usize];
        me.step = match me.step {
            Step::Waiting | Step::Done | Step::Dead => return None,
            Step::ReadSequence => {
                me.sequence_is_seen = true;
                let announces = mistake != M::AnnouncedOnce || !me.has_announced;
                match self.after(Step::ReadSequence, id) {
                    Step::Announce if !announces => Step::Ask,
                    next => next,
                }
            }
            Step::Announce => {
                me.has_announced = true;
                let open = match mistake {
                    M::CountInsteadOfRoll => state.open + 1,
                    _ => MANY.min(state.open + 1),
                };
                self.change_roll(state, open);
                Self::read_roll(state, id);
                state.processes[id as usize].step = self.after(Step::Announce, id);
                return Some(());
            }
            Step::Mark => {
                me.on_seat = state.seat.is_held();
                if me.on_seat {
                    state.seat = Seat::HeldMarked;
                }
                self.after(Step::Mark, id)
            }
            Step::Ask => {
                let then = match role {
                    Role::Watcher => (!state.seat.is_held()).then_some(Then::End),
                    _ => (state.tokens > 0).then_some(Then::Next),
                };
                match then {
                    None => self.after(Step::Ask, id),
                    // It has not announced itself yet.
                    Some(_) if mistake == M::AnnouncedAfterQuestion => {
                        state.tokens -= 1;
                        *me = Process::default();
                        Step::ReadSequence
                    }
                    Some(then) => {
                        if then == Then::Next {
                            state.tokens -= 1;
                        }
                        me.then = then;
                        Step::SettleAlone
                    }
                }
            }
            Step::FutexWait => {
                let unchanged =
                    me.sequence_is_seen && (!me.on_seat || state.seat == Seat::HeldMarked);
                if unchanged {
                    state.queue |= 1 << id;
                    if me.on_seat {
                        state.seat_queue |= 1 << id;
                    }
                    Step::Waiting
                } else {
                    Step::SettleAlone
                }
            }
            Step::SettleAlone => {
                let Process {
                    then,
                    open,
                    roll_is_read,
                    has_announced,
                    ..
                } = *me;
                *me = Process {
                    has_announced: has_announced && mistake == M::AnnouncedOnce,
                    step: match then {
                        Then::Again | Then::Next => self.first_of_wait(),
                        Then::Notify => Step::LoadRoll,
                        Then::End => Step::Done,
                    },
                    ..Process::default()
                };
                if mistake == M::CountInsteadOfRoll {
                    let open = state.open.saturating_sub(1);
                    self.change_roll(state, open);
                } else if (open == 1 || mistake == M::SettledInCompany) && roll_is_read {
                    self.change_roll(state, 0);
                }
                return Some(());
            }
            Step::Change => {
                state.tokens += 1;
                me.tokens_left -= 1;
                match mistake {
                    M::RollReadBeforeChange if me.open == 0 => {
                        return self.end_notification(state, id);
                    }
                    M::RollReadBeforeChange => Step::AddSequence,
                    _ => Step::LoadRoll,
                }
            }
            Step::LoadRoll => {
                me.open = state.open;
                me.roll_is_read = true;
                match role {
                    Role::Setter { .. } if mistake == M::RollReadBeforeChange => Step::Change,
                    _ if me.open != 0 || mistake == M::AnnouncementsIgnored => Step::AddSequence,
                    _ => return self.end_notification(state, id),
                }
            }
            Step::AddSequence => {
                me.step = Step::Wake;
                if mistake != M::SequenceKept {
                    for process in &mut state.processes {
                        process.sequence_is_seen = false;
                    }
                }
                return Some(());
            }
            // No waiter is queued, or all are woken. `Action::Wake` wakes one.
            Step::Wake => match (self.targets(id), state.queue) {
                (_, 0) => Step::Settle,
                (Targets::One, _) => return None,
                (Targets::All, queue) => {
                    let woken = (0..).take(8).filter(|other| queue & 1 << other != 0);
                    for other in woken {
                        self.wake(state, other, Then::Again);
                    }
                    return self.end_notification(state, id);
                }
            },
            Step::Settle => {
                let is_read = match mistake {
                    // The comparison of two counts.
                    M::CountInsteadOfRoll => state.open == me.open,
                    _ => me.roll_is_read,
                };
                let settles = match mistake {
                    M::NeverSettled => false,
                    M::SettledWithoutCompare => true,
                    _ => is_read,
                };
                if settles {
                    self.change_roll(state, 0);
                }
                if is_read && state.open != 0 {
                    state.settling = Settling::Missed;
                }
                return self.end_notification(state, id);
            }
            Step::Leave => {
                let was = state.seat;
                state.seat = Seat::Vacant;
                match was {
                    Seat::HeldMarked => Step::WakeSeat,
                    _ => Step::LoadRoll,
                }
            }
            Step::WakeSeat if state.seat_queue != 0 => return None,
            Step::WakeSeat => Step::LoadRoll,
            Step::Dying => {
                state.queue &= !(1 << id);
                state.seat_queue &= !(1 << id);
                let is_pending = me.on_seat;
                *me = Process::default();
                match (role, state.seat) {
                    (Role::Holder, Seat::HeldMarked) => {
                        state.seat = Seat::Orphaned;
                        Step::KernelWake
                    }
                    (Role::Holder, Seat::Held) => {
                        state.seat = Seat::Orphaned;
                        Step::Dead
                    }
                    (Role::Holder, Seat::Vacant) if is_pending => Step::KernelWake,
                    _ => Step::Dead,
                }
            }
            Step::KernelWake if state.seat_queue != 0 => return None,
            Step::KernelWake => Step::Dead,
        };
        Some(())
    }

    fn change_roll(&self, state: &mut State, open: u8) {
        state.open = open;
        for process in &mut state.processes {
            process.roll_is_read = false;
            if self.mistake != Mistake::CountInsteadOfRoll {
                // From now on it matters only whether there were any.
                process.open = process.open.min(1);
            }
        }
    }

    fn read_roll(state: &mut State, id: Id) {
        let me = &mut state.processes[id as usize];
        me.open = state.open;
        me.roll_is_read = true;
    }

    /// Returns for which waiters the notification of a process is meant.
    fn targets(&self, id: Id) -> Targets {
        match self.role(id) {
            Role::Setter { targets, .. } => targets,
            Role::Watcher if self.mistake == Mistake::DeathPassedToOne => Targets::One,
            _ => Targets::All,
        }
    }

    fn end_notification(&self, state: &mut State, id: Id) -> Option<()> {
        let me = &mut state.processes[id as usize];
        let tokens_left = me.tokens_left;
        *me = Process {
            step: match self.role(id) {
                Role::Setter { .. } if tokens_left > 0 => self.first_of_notification(),
                Role::Watcher => self.first_of_wait(),
                _ => Step::Done,
            },
            tokens_left,
            ..Process::default()
        };
        Some(())
    }

    /// Returns the waiters of which the next wake of a process chooses one.
    pub(super) fn wake_candidates(&self, state: &State, id: Id) -> u8 {
        match state.step(id) {
            Step::Wake if self.targets(id) == Targets::One => state.queue,
            Step::WakeSeat | Step::KernelWake => state.seat_queue,
            _ => 0,
        }
    }

    /// Wakes a waiter for a process.
    pub(super) fn wake_for(&self, state: &mut State, id: Id, other: Id) {
        match state.step(id) {
            Step::Wake => {
                self.wake(state, other, Then::Again);
                let _ = self.end_notification(state, id);
            }
            step => {
                let then = match self.mistake {
                    Mistake::DeathNotPassedOn => Then::Again,
                    _ => Then::Notify,
                };
                self.wake(state, other, then);
                state.processes[id as usize].step = match step {
                    Step::KernelWake => Step::Dead,
                    _ => Step::LoadRoll,
                };
            }
        }
    }

    fn wake(&self, state: &mut State, other: Id, then: Then) {
        state.queue &= !(1 << other);
        state.seat_queue &= !(1 << other);
        let woken = &mut state.processes[other as usize];
        // A dying process consumes its wake.
        if woken.step == Step::Waiting {
            woken.step = Step::SettleAlone;
            woken.then = then;
        }
    }

    pub(super) fn time_out(&self, state: &mut State, id: Id) {
        self.wake(state, id, Then::Again);
    }

    /// Returns whether the process waits although its question has an answer.
    pub(super) fn has_reason(&self, state: &State, id: Id) -> bool {
        state.step(id) == Step::Waiting
            && match self.role(id) {
                Role::Watcher => !state.seat.is_held(),
                _ => state.tokens > 0,
            }
    }

    pub(super) fn may_die_now(&self, state: &State, id: Id) -> bool {
        let is_alive = !matches!(
            state.step(id),
            Step::Done | Step::Dying | Step::KernelWake | Step::Dead
        );
        is_alive && (self.may_die == MayDie::AnyProcess || self.role(id) == Role::Holder)
    }

    pub(super) fn die(state: &mut State, id: Id) {
        let me = &mut state.processes[id as usize];
        *me = Process {
            step: Step::Dying,
            on_seat: me.step == Step::WakeSeat,
            ..Process::default()
        };
    }
}
