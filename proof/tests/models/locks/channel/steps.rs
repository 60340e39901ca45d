//! The steps: see the table of the model.

use super::state::{
    Attempt, Channel, Content, Id, Kind, MayDie, Mistake, Place, Process, Role, Side, State, Step,
};

impl Channel {
    pub(super) fn role(&self, id: Id) -> Role {
        self.roles[id as usize]
    }

    fn side(&self, id: Id) -> Side {
        match self.role(id) {
            Role::Sender(_) => Side::Senders,
            _ => Side::Receivers,
        }
    }

    fn is_on(&self, id: Id, side: Side) -> bool {
        self.role(id) != Role::Absent && self.side(id) == side
    }

    /// Returns the number of the message that a sender sends next.
    fn message(&self, state: &State, id: Id) -> u8 {
        let before = &self.roles[..id as usize];
        let of_others: u8 = before.iter().map(|role| messages(*role)).sum();
        of_others + messages(self.role(id)) - state.processes[id as usize].messages_left
    }

    /// Returns the processes of a side that have a seat, one bit each.
    fn seated(&self, state: &State, side: Side) -> u8 {
        let seated = state
            .all()
            .filter(|(id, process)| self.is_on(*id, side) && process.has_seat);
        seated.map(|(id, _)| 1 << id).sum()
    }

    /// Returns the first step of an attempt.
    fn first_of_attempt(&self) -> Step {
        match self.kind {
            Kind::OneToOne => Step::Check,
            Kind::Locks if self.mistake == Mistake::NotLocked => Step::Check,
            Kind::Locks => Step::Lock,
        }
    }

    /// Takes the next step, in the order of the code. Returns `None` if it is not
    /// possible now.
    pub(super) fn take_step(&self, state: &mut State, id: Id) -> Option<()> {
        use Mistake as M;
        let mistake = self.mistake;
        let side = self.side(id);
        let before_commit = match side {
            Side::Senders => mistake != M::SentBeforeCopy,
            Side::Receivers => mistake != M::ReceivedBeforeCopy,
        };
        let me = state.processes[id as usize];
        let next = match me.step {
            Step::Waiting | Step::Done | Step::Dead => return None,
            Step::TakeSeat => {
                let has_peer = self.seated(state, side.other()) != 0;
                let counts_earlier =
                    side == Side::Receivers && mistake != M::EarlierSendersForgotten;
                let had_earlier = counts_earlier && state.sender_has_come;
                let me = &mut state.processes[id as usize];
                me.has_seat = true;
                me.had_peer = has_peer || had_earlier || mistake == M::EndBeforeFirstPeer;
                Step::Arrive
            }
            Step::Arrive => {
                state.sender_has_come |= side == Side::Senders;
                for other in 0..state.processes.len() as Id {
                    if self.is_on(other, side.other()) {
                        let other = &mut state.processes[other as usize];
                        other.had_peer |= other.has_seat;
                    }
                }
                match mistake {
                    M::ArrivalNotNotified => self.next_call(state, id),
                    _ => Step::NotifyArrival,
                }
            }
            Step::NotifyArrival => {
                self.notify_all(state, side.other());
                self.next_call(state, id)
            }
            Step::Lock => {
                let lock = &mut state.locks[side as usize];
                if lock.is_some() {
                    return None;
                }
                *lock = Some(id);
                Step::Check
            }
            Step::Check => {
                let filled = state.sent - state.received;
                let is_possible = match side {
                    Side::Senders => filled < self.slots,
                    Side::Receivers => filled > 0,
                };
                match (is_possible, before_commit) {
                    (false, _) => Step::UnlockInVain,
                    (true, true) => Step::CopyBegin,
                    (true, false) => Step::Commit,
                }
            }
            Step::CopyBegin => {
                self.copy(state, id, true);
                Step::CopyEnd
            }
            Step::CopyEnd => {
                self.copy(state, id, false);
                match (before_commit, mistake) {
                    (true, M::NotifiedBeforeCommit) => Step::Notify,
                    (true, _) => Step::Commit,
                    (false, _) => Step::Unlock,
                }
            }
            Step::Commit => {
                self.commit(state, id);
                if before_commit {
                    Step::Unlock
                } else {
                    Step::CopyBegin
                }
            }
            Step::Unlock => {
                self.unlock(state, id);
                match mistake {
                    M::NotNotified | M::NotifiedBeforeCommit => Step::Return,
                    _ => Step::Notify,
                }
            }
            // No waiter is asleep. `Action::Wake` wakes one.
            Step::Notify => {
                if self.asleep(state, side.other()) != 0 {
                    return None;
                }
                self.call(state, side.other());
                self.after_notify()
            }
            Step::Return => {
                self.finish_call(state, id);
                self.next_call(state, id)
            }
            Step::UnlockInVain => {
                self.unlock(state, id);
                match me.attempt {
                    Attempt::First if mistake == M::AskedBeforeAnnouncement => Step::Look,
                    Attempt::First => Step::Announce,
                    Attempt::Announced => Step::Look,
                    Attempt::Last => {
                        self.end_by_disconnection(state, id);
                        Step::Leave
                    }
                }
            }
            Step::Announce => {
                let watched = match mistake {
                    M::SeatsNotWatched => 0,
                    _ => self.seated(state, side.other()),
                };
                let me = &mut state.processes[id as usize];
                me.is_called = false;
                me.watched = watched;
                me.attempt = Attempt::Announced;
                match mistake {
                    M::AskedBeforeAnnouncement => Step::Sleep,
                    _ => self.first_of_attempt(),
                }
            }
            Step::Look => {
                let has_left = me.had_peer && self.seated(state, side.other()) == 0;
                let sent = state.sent;
                let me = &mut state.processes[id as usize];
                me.sent_at_look = sent;
                match (has_left, side, mistake) {
                    (false, _, M::AskedBeforeAnnouncement) => Step::Announce,
                    (false, ..) => Step::Sleep,
                    (true, Side::Receivers, M::ToldBeforeRest) | (true, Side::Senders, _) => {
                        self.end_by_disconnection(state, id);
                        Step::Leave
                    }
                    (true, Side::Receivers, _) => {
                        me.attempt = Attempt::Last;
                        self.first_of_attempt()
                    }
                }
            }
            Step::Sleep => {
                let has_changed = me.watched & !self.seated(state, side.other()) != 0;
                if me.is_called || has_changed {
                    self.again()
                } else {
                    Step::Waiting
                }
            }
            Step::PassOn => {
                self.notify_all(state, side);
                self.again_of(state, id)
            }
            Step::Leave => {
                state.processes[id as usize].has_seat = false;
                Step::WakeSeat
            }
            Step::WakeSeat if self.watchers(state, id) != 0 => return None,
            Step::WakeSeat => Step::NotifyClose,
            Step::NotifyClose => {
                self.notify_all(state, side.other());
                state.processes[id as usize] = Process::default();
                Step::Done
            }
            Step::Dying => {
                if mistake != M::LockKeptByDead {
                    self.unlock(state, id);
                }
                if let (true, Content::Message(number)) = (me.has_committed, me.copied)
                    && side == Side::Receivers
                {
                    self.move_message(state, number, Place::Sent, Place::Lost);
                }
                state.processes[id as usize] = Process::default();
                if me.seat_is_listed {
                    Step::KernelWake
                } else {
                    Step::Dead
                }
            }
            Step::KernelWake if self.watchers(state, id) != 0 => return None,
            Step::KernelWake => Step::Dead,
        };
        state.processes[id as usize].step = next;
        Some(())
    }

    /// Copies a message into its slot, or out of it. The first half of the copy tears
    /// the target.
    fn copy(&self, state: &mut State, id: Id, is_first_half: bool) {
        let has_committed = state.processes[id as usize].has_committed;
        let slot_of = |index: u8| ((index - u8::from(has_committed)) % self.slots) as usize;
        match self.side(id) {
            Side::Senders => {
                let message = self.message(state, id);
                state.slots[slot_of(state.sent)] = match is_first_half {
                    true => Content::Torn,
                    false => Content::Message(message),
                };
            }
            Side::Receivers => {
                let content = state.slots[slot_of(state.received)];
                let copied = &mut state.processes[id as usize].copied;
                *copied = match is_first_half {
                    true => content,
                    false if *copied == content => content,
                    false => Content::Torn,
                };
            }
        }
    }

    fn commit(&self, state: &mut State, id: Id) {
        match self.side(id) {
            Side::Senders => {
                let message = self.message(state, id);
                state.sent += 1;
                self.move_message(state, message, Place::NotSent, Place::Sent);
            }
            // Without a lock, two receivers may move it.
            Side::Receivers => state.received = state.sent.min(state.received + 1),
        }
        state.processes[id as usize].has_committed = true;
    }

    fn move_message(&self, state: &mut State, number: u8, from: Place, to: Place) {
        let place = &mut state.places[number as usize];
        *place = if *place == from { to } else { Place::Wrong };
    }

    fn finish_call(&self, state: &mut State, id: Id) {
        let me = state.processes[id as usize];
        match (self.side(id), me.copied) {
            (Side::Senders, _) => state.processes[id as usize].messages_left -= 1,
            (Side::Receivers, Content::Message(number)) => {
                self.move_message(state, number, Place::Sent, Place::Received);
            }
            (Side::Receivers, _) => state.has_torn = true,
        }
        let me = &mut state.processes[id as usize];
        *me = Process {
            has_seat: true,
            had_peer: me.had_peer,
            messages_left: me.messages_left,
            ..Process::default()
        };
    }

    fn end_by_disconnection(&self, state: &mut State, id: Id) {
        match self.side(id) {
            Side::Senders => {
                let message = self.message(state, id);
                self.move_message(state, message, Place::NotSent, Place::Returned);
            }
            Side::Receivers => {
                let at_look = state.processes[id as usize].sent_at_look;
                state.told_early |= state.received < at_look;
            }
        }
    }

    /// Returns the first step of the next call, or that of the close.
    fn next_call(&self, state: &State, id: Id) -> Step {
        match self.role(id) {
            Role::Sender(_) if state.processes[id as usize].messages_left == 0 => Step::Leave,
            _ => self.first_of_attempt(),
        }
    }

    fn again(&self) -> Step {
        match self.mistake {
            Mistake::AskedBeforeAnnouncement => self.first_of_attempt(),
            _ => Step::Announce,
        }
    }

    /// As [`again`](Self::again), after a wait.
    fn again_of(&self, state: &mut State, id: Id) -> Step {
        let me = &mut state.processes[id as usize];
        me.watched = 0;
        if self.mistake == Mistake::AskedBeforeAnnouncement {
            me.attempt = Attempt::First;
        }
        self.again()
    }

    fn unlock(&self, state: &mut State, id: Id) {
        let lock = &mut state.locks[self.side(id) as usize];
        if *lock == Some(id) {
            *lock = None;
        }
    }

    fn after_notify(&self) -> Step {
        match self.mistake {
            Mistake::NotifiedBeforeCommit => Step::Commit,
            _ => Step::Return,
        }
    }

    /// Returns the sleepers of a side, one bit each.
    fn asleep(&self, state: &State, side: Side) -> u8 {
        let asleep = state
            .all()
            .filter(|(id, process)| self.is_on(*id, side) && process.step == Step::Waiting);
        asleep.map(|(id, _)| 1 << id).sum()
    }

    /// Returns the sleepers that have marked the seat of a process.
    fn watchers(&self, state: &State, id: Id) -> u8 {
        let watchers = state
            .all()
            .filter(|(_, process)| process.step == Step::Waiting && process.watched & 1 << id != 0);
        watchers.map(|(id, _)| 1 << id).sum()
    }

    /// Keeps the announced processes of a side from falling asleep.
    fn call(&self, state: &mut State, side: Side) {
        for id in 0..state.processes.len() as Id {
            if self.is_on(id, side) {
                state.processes[id as usize].is_called = true;
            }
        }
    }

    fn notify_all(&self, state: &mut State, side: Side) {
        self.call(state, side);
        let asleep = self.asleep(state, side);
        for id in (0..8).filter(|id| asleep & 1 << id != 0) {
            self.wake(state, id);
        }
    }

    fn wake(&self, state: &mut State, id: Id) {
        let step = self.again_of(state, id);
        state.processes[id as usize].step = step;
    }

    /// Returns the waiters of which the next wake of a process chooses one.
    pub(super) fn wake_candidates(&self, state: &State, id: Id) -> u8 {
        match state.step(id) {
            Step::Notify => self.asleep(state, self.side(id).other()),
            Step::WakeSeat | Step::KernelWake => self.watchers(state, id),
            _ => 0,
        }
    }

    /// Wakes a waiter for a process.
    pub(super) fn wake_for(&self, state: &mut State, id: Id, other: Id) {
        let next = match state.step(id) {
            Step::Notify => {
                self.call(state, self.side(id).other());
                self.wake(state, other);
                self.after_notify()
            }
            step => {
                self.wake(state, other);
                if self.mistake != Mistake::DeathNotPassedOn {
                    state.processes[other as usize].step = Step::PassOn;
                }
                match step {
                    Step::KernelWake => Step::Dead,
                    _ => Step::NotifyClose,
                }
            }
        };
        state.processes[id as usize].step = next;
    }

    pub(super) fn time_out(&self, state: &mut State, id: Id) {
        self.wake(state, id);
    }

    /// Returns whether the process waits although it could go on.
    pub(super) fn has_reason(&self, state: &State, id: Id) -> bool {
        let me = &state.processes[id as usize];
        let side = self.side(id);
        let filled = state.sent - state.received;
        let had_peer = match side {
            Side::Senders => me.had_peer,
            Side::Receivers => me.had_peer || state.sender_has_come,
        };
        me.step == Step::Waiting
            && match side {
                _ if had_peer && self.seated(state, side.other()) == 0 => true,
                Side::Senders => filled < self.slots,
                Side::Receivers => filled > 0,
            }
    }

    pub(super) fn may_die_now(&self, state: &State, id: Id) -> bool {
        let is_alive = !matches!(
            state.step(id),
            Step::Done | Step::Dying | Step::KernelWake | Step::Dead
        );
        let is_new = state.step(id) == Step::NotifyArrival;
        is_alive
            && match self.may_die {
                MayDie::Any => true,
                MayDie::OnlySenders => self.side(id) == Side::Senders && !is_new,
                MayDie::OnlyReceivers => self.side(id) == Side::Receivers && !is_new,
            }
    }

    pub(super) fn die(state: &mut State, id: Id) {
        let me = &mut state.processes[id as usize];
        *me = Process {
            step: Step::Dying,
            has_seat: me.has_seat,
            seat_is_listed: me.has_seat || me.step == Step::WakeSeat,
            copied: me.copied,
            has_committed: me.has_committed,
            ..Process::default()
        };
    }
}

pub(super) fn messages(role: Role) -> u8 {
    match role {
        Role::Sender(messages) => messages,
        _ => 0,
    }
}
