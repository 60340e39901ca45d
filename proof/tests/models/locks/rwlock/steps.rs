//! The steps: see the table of the model.

use super::state::{Downgrades, Id, Mistake, READERS, RwLock, Seat, State, Step};

impl RwLock {
    pub(super) fn first_step(&self, id: Id) -> Step {
        match self.mistake {
            _ if id as usize >= READERS => Step::LookAtGate,
            Mistake::ReaderReadsPhaseFirst => Step::ReadPhase,
            _ => Step::TakeSeat,
        }
    }

    /// Takes the next step, in the order of the code. Returns `None` if it is not
    /// possible now.
    pub(super) fn take_step(&self, state: &mut State, id: Id) -> Option<()> {
        use Mistake as M;
        let mistake = self.mistake;
        let is_reader = (id as usize) < READERS;
        let me = id as usize;
        let since = state.processes[me].since;
        let waits = |seat: u8| {
            let note = state.notes[seat as usize];
            match mistake {
                M::WriterIgnoresWaitOfAnyPhase => note != 0,
                M::WriterWaitsForWaitingReader => false,
                _ => note == state.number + 1,
            }
        };
        let next_seat = |seat: u8| match seat + 1 {
            next if (next as usize) < READERS => Step::LookAtSeat(next),
            _ => Step::SetInside,
        };
        let next = match state.step(id) {
            Step::Done | Step::Dead => return None,
            Step::TakeSeat => {
                state.seats[me] = Seat::Held(id);
                match mistake {
                    M::ReaderReadsPhaseFirst if !state.is_closed => Step::Look,
                    M::ReaderReadsPhaseFirst => Step::Note,
                    _ => Step::ReadPhase,
                }
            }
            Step::ReadPhase => {
                state.processes[me].since = state.number;
                match mistake {
                    // A reader that has found a closed phase takes its seat later, and
                    // waits.
                    M::ReaderReadsPhaseFirst => return self.take_seat_late(state, id),
                    M::ReaderIgnoresPhase => Step::Look,
                    _ if state.is_closed => Step::Note,
                    _ => Step::Look,
                }
            }
            Step::Note => {
                state.notes[me] = since + 1;
                Step::AskNumber
            }
            Step::AskNumber => match mistake {
                M::NoPhaseFairness if !state.is_closed => Step::Look,
                M::NoPhaseFairness => {
                    state.processes[me].since = state.number;
                    state.notes[me] = state.number + 1;
                    Step::AskWriter
                }
                _ if state.number != since => Step::Look,
                _ => Step::AskWriter,
            },
            Step::AskWriter if state.writer.is_held() => Step::WaitForTurn,
            Step::AskWriter if mistake == M::ReaderDoesNotRepair => Step::WaitForTurn,
            Step::AskWriter => Step::TakeWriterToRepair,
            Step::WaitForTurn => {
                let is_dead = !state.writer.is_held() && mistake != M::ReaderDoesNotRepair;
                if state.number == since && !is_dead {
                    return None;
                }
                Step::AskNumber
            }
            Step::TakeWriterToRepair if state.writer.is_held() => Step::AskNumber,
            Step::TakeWriterToRepair => {
                state.writer = Seat::Held(id);
                Step::LookForDeath
            }
            Step::LeaveSeat | Step::LeaveSeatUnread => {
                state.seats[me] = Seat::Vacant;
                return self.end_round(state, id);
            }
            Step::LookAtGate if state.gate.is_held() => Step::TakeGate,
            Step::LookAtGate => Step::TakeWriter,
            Step::TakeWriter if state.writer.is_held() => Step::TakeGate,
            Step::TakeWriter => {
                state.writer = Seat::Held(id);
                Step::LookForDeath
            }
            Step::TakeGate if state.gate.is_held() => return None,
            Step::TakeGate => {
                state.gate = Seat::Held(id);
                Step::TakeWriterAtGate
            }
            Step::TakeWriterAtGate if state.writer.is_held() => return None,
            Step::TakeWriterAtGate => {
                state.writer = Seat::Held(id);
                Step::LeaveGate
            }
            Step::LeaveGate => {
                state.gate = Seat::Vacant;
                Step::LookForDeath
            }
            Step::LookForDeath => match (state.is_closed, state.is_inside) {
                (true, true) if mistake == M::DeadWriterDoesNotPoison => Step::ClearDead,
                (true, true) if mistake == M::DeathClearedFirst => Step::ClearDead,
                (true, true) => Step::PoisonForDead,
                (true, false) => Step::OpenForDead,
                (false, _) if is_reader => Step::LeaveWriter,
                (false, _) => Step::Close,
            },
            Step::PoisonForDead => {
                state.is_poisoned = true;
                match mistake {
                    M::DeathClearedFirst => Step::OpenForDead,
                    _ => Step::ClearDead,
                }
            }
            Step::ClearDead => {
                state.is_inside = false;
                match mistake {
                    M::DeathClearedFirst => Step::PoisonForDead,
                    _ => Step::OpenForDead,
                }
            }
            Step::OpenForDead => {
                self.open_next(state);
                if is_reader {
                    Step::LeaveWriter
                } else {
                    Step::Close
                }
            }
            Step::Close => {
                state.is_closed = true;
                match mistake {
                    M::WriterIgnoresReaders => Step::SetInside,
                    _ => Step::LookAtSeat(0),
                }
            }
            Step::LookAtSeat(seat) => {
                if mistake == M::WaitingWriterPoisons {
                    state.is_inside = true;
                }
                match state.seats[seat as usize] {
                    Seat::Held(_) => Step::LookAtNote(seat),
                    _ => next_seat(seat),
                }
            }
            Step::LookAtNote(seat) if waits(seat) => next_seat(seat),
            Step::LookAtNote(seat) => Step::WaitForReader(seat),
            Step::WaitForReader(seat) => {
                if state.seats[seat as usize].is_held() && !waits(seat) {
                    return None;
                }
                Step::LookAtSeat(0)
            }
            Step::SetInside => {
                state.is_inside = true;
                for reader in &mut state.processes[..READERS] {
                    let is_waiting = matches!(
                        reader.step,
                        Step::AskNumber | Step::AskWriter | Step::WaitForTurn
                    );
                    reader.passed_by += u8::from(is_waiting);
                }
                Step::Look
            }
            Step::Look => {
                state.is_misled |= state.is_half && !state.is_poisoned;
                match state.is_poisoned {
                    _ if is_reader => Step::LeaveSeat,
                    true => Step::Repair,
                    false => Step::Begin,
                }
            }
            Step::Repair => {
                state.is_half = false;
                Step::ClearPoison
            }
            Step::ClearPoison => {
                state.is_poisoned = false;
                state.has_died_inside = false;
                Step::Begin
            }
            Step::Begin => {
                state.is_half = true;
                Step::Finish
            }
            Step::Finish => {
                state.is_half = false;
                match mistake {
                    M::DowngradeWithoutClear => Step::OpenKept,
                    _ => Step::ClearInside,
                }
            }
            Step::ClearInside => {
                state.is_inside = false;
                match self.downgrades {
                    Downgrades::No => Step::Open,
                    Downgrades::Yes => Step::OpenKept,
                }
            }
            Step::OpenKept => {
                self.open_next(state);
                if mistake == M::DowngradeLeavesSeat {
                    state.writer = Seat::Vacant;
                }
                Step::LookDowngraded
            }
            Step::LookDowngraded => {
                state.is_misled |= state.is_half && !state.is_poisoned;
                if mistake == M::DowngradeLeavesSeat {
                    return self.end_round(state, id);
                }
                Step::LeaveWriter
            }
            Step::Open => {
                self.open_next(state);
                Step::LeaveWriter
            }
            Step::LeaveWriter => {
                state.writer = Seat::Vacant;
                if !is_reader {
                    return self.end_round(state, id);
                }
                Step::AskNumber
            }
        };
        state.processes[me].step = next;
        Some(())
    }

    /// The mistake [`Mistake::ReaderReadsPhaseFirst`]: a reader that has found an open
    /// phase takes its seat afterwards.
    fn take_seat_late(&self, state: &mut State, id: Id) -> Option<()> {
        if state.is_closed {
            return None;
        }
        state.processes[id as usize].step = Step::TakeSeat;
        Some(())
    }

    fn open_next(&self, state: &mut State) {
        state.is_closed = false;
        if self.mistake != Mistake::NumberKept {
            state.number += 1;
        }
    }

    fn end_round(&self, state: &mut State, id: Id) -> Option<()> {
        let process = &mut state.processes[id as usize];
        process.since = 0;
        process.passed_by = 0;
        process.rounds -= 1;
        process.step = match process.rounds {
            0 => Step::Done,
            _ => self.first_step(id),
        };
        Some(())
    }

    /// Returns whether the process waits, and may give up.
    pub(super) fn may_give_up(state: &State, id: Id) -> bool {
        matches!(
            state.step(id),
            Step::WaitForTurn | Step::WaitForReader(_) | Step::TakeGate | Step::TakeWriterAtGate
        )
    }

    /// The deadline of a process has passed.
    pub(super) fn give_up(&self, state: &mut State, id: Id) {
        let step = match state.step(id) {
            Step::WaitForTurn => Step::LeaveSeatUnread,
            Step::WaitForReader(_) => Step::Open,
            Step::TakeWriterAtGate => {
                state.gate = Seat::Vacant;
                Step::Done
            }
            _ => Step::Done,
        };
        state.processes[id as usize].rounds = 1;
        state.processes[id as usize].step = step;
    }

    /// Returns whether a process has write access.
    pub(super) fn writes(step: Step) -> bool {
        matches!(
            step,
            Step::Repair | Step::ClearPoison | Step::Begin | Step::Finish | Step::ClearInside
        )
    }

    pub(super) fn die(state: &mut State, id: Id) {
        let step = state.step(id);
        let is_writer = id as usize >= READERS;
        state.has_died_inside |= is_writer && (Self::writes(step) || step == Step::Look);
        state.processes[id as usize].step = Step::Dead;
        let seats = state.seats.iter_mut();
        for seat in seats.chain([&mut state.gate, &mut state.writer]) {
            if *seat == Seat::Held(id) {
                *seat = Seat::Orphaned;
            }
        }
    }
}
