//! The steps: see the table of the model.

use super::state::{Barrier, Ended, Id, Mistake, Note, Seat, State, Step};

impl Barrier {
    /// Takes the next step, in the order of the code. Returns `None` if it is not
    /// possible now.
    pub(super) fn take_step(&self, state: &mut State, id: Id) -> Option<()> {
        use Mistake as M;
        let mistake = self.mistake;
        let me = id as usize;
        let is_member = state.processes[me].index.is_some();
        let next = match state.step(id) {
            Step::Done | Step::Dead => return None,
            Step::TakeGate if state.gate.is_held() => return None,
            Step::TakeGate => {
                state.gate = Seat::Held(id);
                match mistake {
                    M::JoinHidesDeath => Step::TakeSeat,
                    _ => Step::LookForDeath(0),
                }
            }
            Step::LookForDeath(seat) if seat == self.members => {
                if is_member {
                    Step::LeaveGate
                } else {
                    Step::TakeSeat
                }
            }
            Step::LookForDeath(seat) if state.seats[seat as usize].is_held() => {
                Step::LookForDeath(seat + 1)
            }
            Step::LookForDeath(seat) => Step::LookAtDeadNote(seat),
            Step::LookAtDeadNote(seat) => match state.notes[seat as usize] {
                Note::NoMember => Step::LookForDeath(seat + 1),
                _ => Step::TakeDead(seat),
            },
            Step::BreakForDead(seat) => {
                self.break_present(state);
                match mistake {
                    M::NoteClearedFirst => Step::LeaveDead(seat),
                    _ => Step::ClearDead(seat),
                }
            }
            Step::TakeDead(seat) if state.seats[seat as usize].is_held() => {
                Step::LookForDeath(seat + 1)
            }
            Step::TakeDead(seat) => {
                state.seats[seat as usize] = Seat::Held(id);
                match mistake {
                    M::NoteClearedFirst => Step::ClearDead(seat),
                    _ => Step::BreakForDead(seat),
                }
            }
            Step::ClearDead(seat) => {
                state.notes[seat as usize] = Note::NoMember;
                match mistake {
                    M::NoteClearedFirst => Step::BreakForDead(seat),
                    _ => Step::LeaveDead(seat),
                }
            }
            Step::LeaveDead(seat) => {
                state.seats[seat as usize] = Seat::Vacant;
                Step::LookForDeath(seat + 1)
            }
            Step::TakeSeat => {
                let seats = &mut state.seats[..self.members as usize];
                match seats.iter().position(|seat| !seat.is_held()) {
                    Some(free) => {
                        seats[free] = Seat::Held(id);
                        state.processes[me].index = Some(free as u8);
                        Step::LookAtTaken
                    }
                    None => {
                        let members = state.all().filter(|(_, it)| it.index.is_some());
                        let has_place = members.count() < self.members as usize;
                        state.is_refused |= has_place;
                        // Leaves the gate, and returns an error.
                        state.gate = Seat::Vacant;
                        Step::Done
                    }
                }
            }
            Step::LookAtTaken => match self.note(state, id) {
                Note::NoMember => Step::Become,
                _ if mistake == M::JoinHidesDeath => Step::Become,
                _ => Step::BreakForTaken,
            },
            Step::BreakForTaken => {
                self.break_present(state);
                Step::Become
            }
            Step::Become => {
                self.set_note(state, id, Note::Member);
                Step::ReadRound
            }
            Step::ReadRound => {
                state.processes[me].round = state.round;
                Step::LeaveGate
            }
            Step::LeaveGate => {
                state.gate = match state.gate {
                    Seat::Held(holder) if holder == id => Seat::Vacant,
                    other => other,
                };
                match self.note(state, id) {
                    // It has settled while it waited.
                    Note::Arrived(_) => Step::ReadRounds,
                    _ => Step::Check,
                }
            }
            Step::Check if state.round != state.processes[me].round => {
                return self.end_wait(state, id);
            }
            Step::Check if mistake == M::LooksBeforeArrival => Step::ReadRounds,
            Step::Check => Step::Arrive,
            Step::Arrive => {
                let round = state.processes[me].round;
                self.set_note(state, id, Note::Arrived(round));
                state.arrived += u8::from(round == state.round);
                match mistake {
                    M::LooksBeforeArrival => Step::Waiting,
                    _ => Step::ReadRounds,
                }
            }
            Step::ReadRounds if state.round != state.processes[me].round => {
                return self.end_wait(state, id);
            }
            Step::ReadRounds => {
                state.processes[me].all_arrived = true;
                Step::LookAtSeat(0)
            }
            Step::LookAtSeat(seat) if seat == self.members => {
                match (state.processes[me].all_arrived, mistake) {
                    (true, _) => Step::Complete,
                    (false, M::LooksBeforeArrival) if self.note(state, id) == Note::Member => {
                        Step::Arrive
                    }
                    (false, _) => Step::Waiting,
                }
            }
            Step::LookAtSeat(seat) => {
                let is_vacant = !state.seats[seat as usize].is_held();
                let is_death = is_vacant
                    && state.notes[seat as usize] != Note::NoMember
                    && mistake != M::DeathsIgnored;
                match mistake {
                    _ if !is_death => Step::LookAtNote(seat),
                    M::SettledWithoutGate => Step::LookForDeath(0),
                    _ => Step::TryGate,
                }
            }
            Step::LookAtNote(seat) => {
                let arrived = Note::Arrived(state.processes[me].round);
                let own = state.processes[me].index == Some(seat);
                let counts_itself = mistake == M::LooksBeforeArrival && own;
                if state.notes[seat as usize] != arrived && !counts_itself {
                    state.processes[me].all_arrived = false;
                }
                Step::LookAtSeat(seat + 1)
            }
            Step::Complete => {
                let round = state.processes[me].round;
                if state.round == round || mistake == M::RoundNotChecked {
                    state.is_incomplete |= state.arrived < self.members || state.round != round;
                    state.after_completed = state.round + 1;
                    state.last_is_broken = false;
                    self.next_round(state);
                }
                return self.end_wait(state, id);
            }
            Step::TryGate if state.gate.is_held() => Step::Waiting,
            Step::TryGate => {
                state.gate = Seat::Held(id);
                Step::LookForDeath(0)
            }
            Step::Waiting => {
                if !self.has_reason(state, id) {
                    return None;
                }
                Step::ReadRounds
            }
            Step::GiveUp if state.round != state.processes[me].round => {
                return self.end_wait(state, id);
            }
            Step::GiveUp => {
                let round = state.processes[me].round;
                if mistake != M::TimeoutKeepsRound {
                    self.break_present(state);
                    state.processes[me].round = state.round;
                }
                self.tell(state, id, round, Ended::Broken);
                self.after_wait(state, id)
            }
            Step::ReadNextRound => {
                state.processes[me].round = state.round;
                self.after_wait(state, id)
            }
            Step::BreakToLeave => {
                if mistake != M::LeaverClearsFirst {
                    self.owe(state, id);
                }
                self.break_present(state);
                match mistake {
                    M::LeaverClearsFirst | M::LeaverClearsNothing => Step::LeaveSeat,
                    _ => Step::ClearOwn,
                }
            }
            Step::ClearOwn => {
                if mistake == M::LeaverClearsFirst {
                    self.owe(state, id);
                }
                self.set_note(state, id, Note::NoMember);
                match mistake {
                    M::LeaverClearsFirst => Step::BreakToLeave,
                    _ => Step::LeaveSeat,
                }
            }
            Step::LeaveSeat => {
                if let Some(index) = state.processes[me].index.take() {
                    state.seats[index as usize] = Seat::Vacant;
                }
                Step::Done
            }
        };
        state.processes[me].step = next;
        Some(())
    }

    fn note(&self, state: &State, id: Id) -> Note {
        let index = state.processes[id as usize].index;
        index.map_or(Note::NoMember, |index| state.notes[index as usize])
    }

    fn set_note(&self, state: &mut State, id: Id, note: Note) {
        if let Some(index) = state.processes[id as usize].index {
            state.notes[index as usize] = note;
        }
    }

    fn break_present(&self, state: &mut State) {
        state.last_is_broken = true;
        self.next_round(state);
    }

    fn next_round(&self, state: &mut State) {
        state.round += 1;
        state.arrived = 0;
    }

    /// Notes that the other members are to be told that this one goes.
    fn owe(&self, state: &mut State, id: Id) {
        state.reasons += 1;
        // If it has arrived at the round, that one may still be complete.
        let has_arrived = self.note(state, id) == Note::Arrived(state.round);
        let first_broken = state.round + u8::from(has_arrived);
        for (other, process) in (0..).zip(&mut state.processes) {
            let is_member = process.index.is_some()
                && !matches!(
                    process.step,
                    Step::LookAtTaken
                        | Step::BreakForTaken
                        | Step::Become
                        | Step::ReadRound
                        | Step::Done
                        | Step::Dead
                );
            if other != id && is_member {
                process.owed.get_or_insert(first_broken);
            }
        }
    }

    /// Ends a wait: the round of the member has ended.
    fn end_wait(&self, state: &mut State, id: Id) -> Option<()> {
        let round = state.processes[id as usize].round;
        if state.round == round {
            // The exchange has failed, and the member asks again.
            state.processes[id as usize].step = Step::ReadRounds;
            return Some(());
        }
        let is_complete = match self.mistake {
            Mistake::OnlyLastEnd => !state.last_is_broken,
            _ => state.after_completed == round + 1,
        };
        let process = &mut state.processes[id as usize];
        if is_complete {
            process.round += 1;
            self.tell(state, id, round, Ended::Complete);
            state.processes[id as usize].step = self.after_wait(state, id);
        } else {
            self.tell(state, id, round, Ended::Broken);
            state.processes[id as usize].step = Step::ReadNextRound;
        }
        Some(())
    }

    fn tell(&self, state: &mut State, id: Id, round: u8, ended: Ended) {
        let before = &mut state.told[round as usize];
        state.is_contradicted |= *before != Ended::Unknown && *before != ended;
        *before = ended;
        let process = &mut state.processes[id as usize];
        match ended {
            Ended::Broken => {
                process.owed = None;
                process.told += 1;
            }
            _ => state.is_death_hidden |= process.owed.is_some_and(|first| round >= first),
        }
    }

    fn after_wait(&self, state: &mut State, id: Id) -> Step {
        let process = &mut state.processes[id as usize];
        process.waits -= 1;
        match process.waits {
            0 if self.mistake == Mistake::LeaverClearsFirst => Step::ClearOwn,
            0 => Step::BreakToLeave,
            _ => Step::Check,
        }
    }

    /// Returns whether a member that waits has a reason to ask again: the round has
    /// ended, all have arrived, or a death is not settled and the gate is free.
    pub(super) fn has_reason(&self, state: &State, id: Id) -> bool {
        let round = state.processes[id as usize].round;
        let members = self.members as usize;
        let mut seats = state.seats[..members].iter().zip(&state.notes);
        let ignores = self.mistake == Mistake::DeathsIgnored;
        let is_death = seats.any(|(seat, note)| !seat.is_held() && *note != Note::NoMember);
        let mut seats = state.seats[..members].iter().zip(&state.notes);
        let all_arrived = seats.all(|(seat, note)| seat.is_held() && *note == Note::Arrived(round));
        state.round != round
            || (all_arrived && self.mistake != Mistake::LooksBeforeArrival)
            || (is_death && !state.gate.is_held() && !ignores)
    }

    /// The deadline of a process that waits has passed.
    pub(super) fn give_up(&self, state: &mut State, id: Id) {
        state.timeouts_left -= 1;
        state.reasons += 1;
        state.processes[id as usize].step = Step::GiveUp;
    }

    pub(super) fn die(&self, state: &mut State, id: Id) {
        let step = state.step(id);
        let note = self.note(state, id);
        let joins = matches!(step, Step::LookAtTaken | Step::BreakForTaken | Step::Become);
        // If it joins, the note is that of the member before it.
        if note != Note::NoMember && !joins {
            self.owe(state, id);
        }
        // The round that it has just broken is broken again.
        state.reasons += 1;
        state.processes[id as usize].step = Step::Dead;
        state.processes[id as usize].index = None;
        for seat in state.seats.iter_mut().chain([&mut state.gate]) {
            if *seat == Seat::Held(id) {
                *seat = Seat::Orphaned;
            }
        }
    }
}
