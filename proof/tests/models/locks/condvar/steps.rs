//! What each step does: the table in the documentation of the model.

use super::state::{
    Condvar, Door, Errand, Heartbeat, Id, Killed, Lock, Mistake, Poison, Process, Role, State,
    Step, When, Whom,
};

impl Condvar {
    /// One after the other, in the order of the code. `None`: this step can't be now.
    pub(super) fn go(&self, state: &mut State, id: Id) -> Option<()> {
        use Mistake as M;
        let mistake = self.mistake;
        let role = self.cast[id as usize];
        if matches!(state.step(id), Step::Wake | Step::CallNext)
            && self.whom_it_may_wake(state, id) != 0
        {
            return None;
        }
        let me = &mut state.processes[id as usize];
        me.step = match me.step {
            Step::Queued | Step::Done | Step::Dead => return None,
            Step::Lock => {
                let found = state.lock;
                if matches!(found, Lock::HeldBy(_)) {
                    return None;
                }
                state.lock = Lock::HeldBy(id);
                match found {
                    Lock::OwnerDied => Step::Mark,
                    _ => Step::Judge,
                }
            }
            Step::Mark => {
                state.poison = Poison::Set;
                Step::Count
            }
            Step::Count => {
                state.poisonings += u8::from(mistake != M::Uncounted);
                state.poisonings_really += 1;
                match me.errand {
                    Errand::Panic => Step::Unlock,
                    Errand::Relock | Errand::RelockTimedOut if mistake != M::KeepsItToItself => {
                        me.errand = Errand::Tell;
                        self.notify()
                    }
                    _ => Step::Judge,
                }
            }
            Step::AddSequence => {
                state.sequence += u8::from(mistake != M::OnlyWakes);
                if self.whom(me.errand) == Whom::All && mistake != M::StaysInGeneration {
                    state.generation += 1;
                }
                // Of `notify_one` what it was, of `notify_all` what it is.
                me.generation = state.generation;
                match mistake {
                    M::LooksFirst if me.seen == 0 => self.after_notifying(id, me),
                    M::LooksFirst => Step::Wake,
                    _ => Step::ReadSleepers,
                }
            }
            Step::ReadSleepers if mistake == M::LooksFirst => {
                me.seen = state.sleepers;
                Step::AddSequence
            }
            Step::ReadSleepers => match state.sleepers {
                0 => self.after_notifying(id, me),
                _ => Step::Wake,
            },
            // Of nobody. Of one it is `Action::Wake`.
            Step::Wake | Step::CallNext => {
                if mistake == M::WakerDeregisters {
                    self.deregister(&mut state.sleepers);
                }
                self.after_waking(id, me)
            }
            Step::Judge => match state.poison {
                Poison::Clean => Step::Work,
                Poison::Set => Step::Clear,
            },
            Step::Clear => {
                state.poison = Poison::Clean;
                Step::Work
            }
            Step::Work => match role {
                Role::Absent | Role::Visitor => Step::Unlock,
                Role::Panicker => {
                    me.errand = Errand::Panic;
                    Step::Mark
                }
                Role::Host { when, .. } if state.door == Door::Closed => {
                    state.door = Door::Open;
                    me.errand = Errand::NotifyAll;
                    self.after_changing(when)
                }
                Role::Producer { when, .. } | Role::Host { when, .. } => {
                    state.items += 1;
                    me.to_put -= 1;
                    me.errand = match role {
                        Role::Producer {
                            whom: Whom::All, ..
                        } => Errand::NotifyAll,
                        _ => Errand::NotifyOne,
                    };
                    self.after_changing(when)
                }
                // It does not even look.
                Role::Consumer | Role::Impatient if me.errand == Errand::RelockTimedOut => {
                    Step::Unlock
                }
                Role::Consumer | Role::Impatient if state.items > 0 => {
                    state.items -= 1;
                    self.after_finding(me)
                }
                Role::Guest if state.door == Door::Open => self.after_finding(me),
                Role::Consumer | Role::Impatient | Role::Guest => {
                    me.errand = Errand::Relock;
                    match mistake {
                        M::ReadsSequenceLate => Step::ReadCount,
                        _ => Step::ReadSequence,
                    }
                }
            },
            Step::ReadSequence => {
                me.seen = state.sequence;
                me.generation = state.generation;
                match mistake {
                    M::ReadsSequenceLate => Step::Spin,
                    M::ReadsPoisoningsLate => Step::GiveBack,
                    _ => Step::ReadCount,
                }
            }
            Step::ReadCount => {
                me.poisonings_seen = state.poisonings;
                match mistake {
                    M::ReadsPoisoningsLate => Step::Spin,
                    _ => Step::GiveBack,
                }
            }
            Step::GiveBack => {
                me.poisonings_really = state.poisonings_really;
                state.lock = Lock::Free;
                match mistake {
                    M::ReadsSequenceLate => Step::ReadSequence,
                    M::ReadsPoisoningsLate => Step::ReadCount,
                    _ => Step::Spin,
                }
            }
            Step::Spin if state.sequence != me.seen => Step::Lock,
            // For `RegistersLate`, this was the comparison.
            Step::Spin => Step::Register,
            Step::Register => {
                state.sleepers += 1;
                Step::Sleep
            }
            Step::Sleep if state.sequence == me.seen || mistake == M::RegistersLate => {
                state.queue |= 1 << id;
                Step::Queued
            }
            Step::Sleep if mistake == M::SleepsAnyway => Step::LookForDeath,
            Step::Sleep => Step::Deregister,
            Step::LookForDeath => match (state.lock, mistake) {
                (Lock::OwnerDied, m) if m != M::NoLookForDeath => Step::Deregister,
                _ => Step::LookForPoison,
            },
            Step::LookForPoison => {
                let changed = state.poisonings != me.poisonings_seen;
                match changed && mistake != M::NoLookForPoison {
                    true => Step::Deregister,
                    false => Step::LookAtClock,
                }
            }
            Step::LookAtClock if self.has_heartbeat(id) => {
                if mistake == M::ForgetsSequence {
                    me.seen = state.sequence;
                    me.generation = state.generation;
                }
                Step::Sleep
            }
            Step::LookAtClock => return None,
            Step::Deregister => {
                self.deregister(&mut state.sleepers);
                match (me.errand, mistake) {
                    (Errand::RelockTimedOut, M::TimesOutWithoutLock) => Step::Judge,
                    (_, M::CallsNobody | M::CallsIfContent) => Step::Lock,
                    _ => Step::LookForCall,
                }
            }
            Step::LookForCall if state.generation == me.generation => self.after_calling(),
            Step::LookForCall => {
                me.generation = state.generation;
                Step::LookForNext
            }
            Step::LookForNext => match state.sleepers {
                0 => self.after_calling(),
                _ => Step::CallNext,
            },
            Step::Unlock => {
                state.lock = Lock::Free;
                match (role, me.errand) {
                    (Role::Consumer | Role::Impatient, Errand::Ordinary) => Step::Lock,
                    (_, Errand::NotifyOne | Errand::NotifyAll)
                        if self.when(id) == Some(When::AfterUnlocking) =>
                    {
                        self.notify()
                    }
                    (Role::Producer { .. } | Role::Host { .. }, _) => Self::after_unlocking(me),
                    _ => Step::Done,
                }
            }
            Step::Dying => {
                state.queue &= !(1 << id);
                if state.lock == Lock::HeldBy(id) {
                    state.lock = Lock::OwnerDied;
                }
                Step::Dead
            }
        };
        self.forget(state, id);
        Some(())
    }

    /// What no later step reads must not make states different.
    pub(super) fn forget(&self, state: &mut State, id: Id) {
        let is_queued = state.queue & 1 << id != 0;
        let me = &mut state.processes[id as usize];
        let Process {
            step,
            errand,
            generation,
            to_put,
            ..
        } = *me;
        match step {
            Step::Dead | Step::Done => {
                *me = Process {
                    step,
                    ..Process::default()
                }
            }
            // The kernel still finds it by its generation.
            Step::Dying => {
                *me = Process {
                    step,
                    generation: if is_queued { generation } else { 0 },
                    ..Process::default()
                }
            }
            Step::Deregister | Step::LookForCall | Step::LookForNext | Step::CallNext => {
                *me = Process {
                    step,
                    errand,
                    generation,
                    to_put,
                    ..Process::default()
                }
            }
            // It has still to see whether it calls the next one.
            Step::Lock | Step::Judge if self.mistake == Mistake::CallsIfContent => {}
            Step::Lock | Step::Unlock | Step::Judge => {
                *me = Process {
                    step,
                    errand,
                    to_put,
                    ..Process::default()
                }
            }
            _ => {}
        }
    }

    pub(super) fn deregister(&self, sleepers: &mut u8) {
        *sleepers = match self.mistake {
            // Taken off twice. One less than none would be very many: it is bad enough.
            Mistake::WakerDeregisters => sleepers.saturating_sub(1),
            _ => *sleepers - 1,
        };
    }

    /// The first step of a notification.
    pub(super) fn notify(&self) -> Step {
        match self.mistake {
            Mistake::LooksFirst => Step::ReadSleepers,
            _ => Step::AddSequence,
        }
    }

    pub(super) fn after_changing(&self, when: When) -> Step {
        match when {
            When::AfterUnlocking => Step::Unlock,
            When::UnderTheLock => self.notify(),
        }
    }

    pub(super) fn after_waking(&self, id: Id, me: &mut Process) -> Step {
        match me.step {
            Step::CallNext => self.after_calling(),
            _ => self.after_notifying(id, me),
        }
    }

    pub(super) fn after_notifying(&self, id: Id, me: &mut Process) -> Step {
        if me.errand == Errand::Tell {
            me.errand = Errand::Relock;
            return Step::Judge;
        }
        match self.when(id) {
            Some(When::AfterUnlocking) => Self::after_unlocking(me),
            _ => Step::Unlock,
        }
    }

    pub(super) fn after_unlocking(me: &mut Process) -> Step {
        me.errand = Errand::Ordinary;
        match me.to_put {
            0 => Step::Done,
            _ => Step::Lock,
        }
    }

    /// It has found what it came for.
    pub(super) fn after_finding(&self, me: &mut Process) -> Step {
        let waited = me.errand == Errand::Relock;
        me.errand = Errand::Ordinary;
        match self.mistake {
            Mistake::CallsIfContent if waited => Step::LookForCall,
            _ => Step::Unlock,
        }
    }

    pub(super) fn after_calling(&self) -> Step {
        match self.mistake {
            Mistake::CallsIfContent => Step::Unlock,
            _ => Step::Lock,
        }
    }

    pub(super) fn when(&self, id: Id) -> Option<When> {
        match self.cast[id as usize] {
            Role::Producer { when, .. } | Role::Host { when, .. } => Some(when),
            _ => None,
        }
    }

    /// Whom a notification is for.
    pub(super) fn whom(&self, errand: Errand) -> Whom {
        match errand {
            Errand::NotifyOne => Whom::One,
            Errand::Tell if self.mistake == Mistake::TellsOne => Whom::One,
            _ => Whom::All,
        }
    }

    /// Whom the kernel might choose for the wake that is next, a bit for each.
    pub(super) fn whom_it_may_wake(&self, state: &State, id: Id) -> u8 {
        let me = &state.processes[id as usize];
        let calls = me.step == Step::CallNext;
        let one = !calls && self.whom(me.errand) == Whom::One;
        let is_meant = |sleeper: &Process| match self.mistake {
            Mistake::CallsAnyone if calls => true,
            Mistake::NotifiesTheCalled if one => true,
            Mistake::BeginsWithAnyone | Mistake::StaysInGeneration if !calls && !one => true,
            _ => (sleeper.generation == me.generation) == one,
        };
        let meant = state.all().filter(|(_, sleeper)| is_meant(sleeper));
        meant.fold(0, |meant, (who, _)| meant | 1 << who) & state.queue
    }

    pub(super) fn has_heartbeat(&self, id: Id) -> bool {
        match self.heartbeat {
            Heartbeat::Nobody => false,
            Heartbeat::OnlyTheFirst => id == 0,
            Heartbeat::Everybody => true,
        }
    }

    pub(super) fn may_be_killed(&self, state: &State, id: Id) -> bool {
        match self.killed {
            Killed::AnyoneAnywhere => true,
            Killed::WhileOthersSleep(only) => {
                let others = state.all().filter(|(other, _)| *other != id);
                let mut there =
                    others.filter(|(other, _)| self.cast[*other as usize] != Role::Absent);
                id == only && there.all(|(_, other)| other.step == Step::Queued)
            }
        }
    }

    pub(super) fn wake(&self, state: &mut State, who: Id) {
        state.queue &= !(1 << who);
        let woken = &mut state.processes[who as usize];
        // A dying one takes its wakeup along.
        if woken.step == Step::Queued {
            woken.step = Step::Deregister;
            if self.mistake == Mistake::WakerDeregisters {
                self.deregister(&mut state.sleepers);
                woken.step = Step::LookForCall;
            }
            if self.mistake == Mistake::DeadlineBeatsWake
                && self.cast[who as usize] == Role::Impatient
            {
                woken.errand = Errand::RelockTimedOut;
            }
        }
        self.forget(state, who);
    }

    /// Whether the process waits, and has reason to stop waiting.
    pub(super) fn has_reason(state: &State, id: Id) -> bool {
        Self::has_bad_news(state, id)
            || (Self::is_waiting(state.step(id))
                && state.sequence != state.processes[id as usize].seen)
    }

    /// The same, and the reason is a death or a panic.
    pub(super) fn has_bad_news(state: &State, id: Id) -> bool {
        let process = &state.processes[id as usize];
        Self::is_waiting(process.step)
            && (state.lock == Lock::OwnerDied
                || state.poisonings_really != process.poisonings_really)
    }

    pub(super) fn is_waiting(step: Step) -> bool {
        use Step::{LookAtClock, LookForDeath, LookForPoison, Queued, Register, Sleep, Spin};
        matches!(
            step,
            Spin | Register | Sleep | Queued | LookForDeath | LookForPoison | LookAtClock
        )
    }

    /// Whether the process, if it alone goes on from here, stops waiting at its next
    /// heartbeat at the latest.
    pub(super) fn leaves_by_itself(&self, state: &State, id: Id) -> bool {
        let mut state = *state;
        let mut heartbeats = 0;
        // Longer than any way out.
        for _ in 0..20 {
            if !Self::is_waiting(state.step(id)) {
                return true;
            }
            if state.step(id) != Step::Queued {
                if self.go(&mut state, id).is_none() {
                    return false;
                }
            } else if heartbeats == 0 {
                heartbeats += 1;
                Self::time_out(&mut state, id);
            } else {
                return false;
            }
        }
        false
    }

    pub(super) fn time_out(state: &mut State, id: Id) {
        state.queue &= !(1 << id);
        state.processes[id as usize].step = Step::LookForDeath;
    }
}
