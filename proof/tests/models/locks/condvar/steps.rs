//! The steps: see the table of the model.

use super::state::{
    Condvar, Flag, Id, Lock, MayDie, Mistake, NotifyWhen, Poison, Process, Purpose, Recheck, Role,
    State, Step, Targets,
};

impl Condvar {
    /// Takes the next step, in the order of the code. Returns `None` if it is not
    /// possible now.
    pub(super) fn take_step(&self, state: &mut State, id: Id) -> Option<()> {
        use Mistake as M;
        let mistake = self.mistake;
        let role = self.roles[id as usize];
        if matches!(state.step(id), Step::Wake | Step::WakeNext)
            && self.wake_candidates(state, id) != 0
        {
            return None;
        }
        let me = &mut state.processes[id as usize];
        me.step = match me.step {
            Step::Waiting | Step::Done | Step::Dead => return None,
            Step::Lock => {
                let found = state.lock;
                if matches!(found, Lock::HeldBy(_)) {
                    return None;
                }
                state.lock = Lock::HeldBy(id);
                match found {
                    Lock::OwnerDied => Step::SetPoison,
                    _ => Step::CheckPoison,
                }
            }
            Step::SetPoison => {
                state.poison = Poison::Set;
                Step::AddEpoch
            }
            Step::AddEpoch => {
                state.epoch += u8::from(mistake != M::EpochKept);
                state.real_epoch += 1;
                match me.purpose {
                    Purpose::Panic => Step::Unlock,
                    Purpose::Relock | Purpose::RelockTimedOut if mistake != M::DeathNotPassedOn => {
                        me.purpose = Purpose::NotifyOfDeath;
                        self.notify()
                    }
                    _ => Step::CheckPoison,
                }
            }
            Step::AddSequence => {
                state.sequence += u8::from(mistake != M::SequenceKept);
                if self.targets(me.purpose) == Targets::All && mistake != M::GenerationKept {
                    state.generation += 1;
                }
                // The previous generation for `notify_one`, the new one for
                // `notify_all`.
                me.generation = state.generation;
                match mistake {
                    M::WaitersReadFirst if me.seen == 0 => self.after_notifying(id, me),
                    M::WaitersReadFirst => Step::Wake,
                    _ => Step::ReadWaiters,
                }
            }
            Step::ReadWaiters if mistake == M::WaitersReadFirst => {
                me.seen = state.waiters;
                Step::AddSequence
            }
            Step::ReadWaiters => match state.waiters {
                0 => self.after_notifying(id, me),
                _ => Step::Wake,
            },
            // No waiter can be woken. `Action::Wake` wakes one.
            Step::Wake | Step::WakeNext => {
                if mistake == M::NotifierRemovesWaiter {
                    self.remove_waiter(&mut state.waiters);
                }
                self.after_waking(id, me)
            }
            Step::CheckPoison => match state.poison {
                Poison::Clean => Step::Work,
                Poison::Set => Step::ClearPoison,
            },
            Step::ClearPoison => {
                state.poison = Poison::Clean;
                Step::Work
            }
            Step::Work => match role {
                Role::Absent | Role::Repairer => Step::Unlock,
                Role::Panicker => {
                    me.purpose = Purpose::Panic;
                    Step::SetPoison
                }
                Role::FlagSetter { when, .. } if state.flag == Flag::Clear => {
                    state.flag = Flag::Set;
                    me.purpose = Purpose::NotifyAll;
                    self.after_change(when)
                }
                Role::Producer { when, .. } | Role::FlagSetter { when, .. } => {
                    state.items += 1;
                    me.items_left -= 1;
                    me.purpose = match role {
                        Role::Producer {
                            targets: Targets::All,
                            ..
                        } => Purpose::NotifyAll,
                        _ => Purpose::NotifyOne,
                    };
                    self.after_change(when)
                }
                // It does not test its condition.
                Role::Consumer | Role::TimedConsumer if me.purpose == Purpose::RelockTimedOut => {
                    Step::Unlock
                }
                Role::Consumer | Role::TimedConsumer if state.items > 0 => {
                    state.items -= 1;
                    self.after_success(me)
                }
                Role::FlagWaiter if state.flag == Flag::Set => self.after_success(me),
                Role::Consumer | Role::TimedConsumer | Role::FlagWaiter => {
                    me.purpose = Purpose::Relock;
                    match mistake {
                        M::SequenceReadLate => Step::ReadEpoch,
                        _ => Step::ReadSequence,
                    }
                }
            },
            Step::ReadSequence => {
                me.seen = state.sequence;
                me.generation = state.generation;
                match mistake {
                    M::SequenceReadLate => Step::Spin,
                    M::EpochReadLate => Step::UnlockForWait,
                    _ => Step::ReadEpoch,
                }
            }
            Step::ReadEpoch => {
                me.epoch_seen = state.epoch;
                match mistake {
                    M::EpochReadLate => Step::Spin,
                    _ => Step::UnlockForWait,
                }
            }
            Step::UnlockForWait => {
                me.real_epoch = state.real_epoch;
                state.lock = Lock::Free;
                match mistake {
                    M::SequenceReadLate => Step::ReadSequence,
                    M::EpochReadLate => Step::ReadEpoch,
                    _ => Step::Spin,
                }
            }
            Step::Spin if state.sequence != me.seen => Step::Lock,
            // With `WaiterAddedLate` this is the comparison.
            Step::Spin => Step::AddWaiter,
            Step::AddWaiter => {
                state.waiters += 1;
                Step::FutexWait
            }
            Step::FutexWait if state.sequence == me.seen || mistake == M::WaiterAddedLate => {
                state.queue |= 1 << id;
                Step::Waiting
            }
            Step::FutexWait if mistake == M::RefusedWaitRetried => Step::CheckOwnerDeath,
            Step::FutexWait => Step::RemoveWaiter,
            Step::CheckOwnerDeath => match (state.lock, mistake) {
                (Lock::OwnerDied, m) if m != M::OwnerDeathUnchecked => Step::RemoveWaiter,
                _ => Step::CheckEpoch,
            },
            Step::CheckEpoch => {
                let changed = state.epoch != me.epoch_seen;
                if changed && mistake != M::EpochUnchecked {
                    Step::RemoveWaiter
                } else {
                    Step::CheckDeadline
                }
            }
            Step::CheckDeadline if self.has_recheck(id) => {
                if mistake == M::SequenceReadAgain {
                    me.seen = state.sequence;
                    me.generation = state.generation;
                }
                Step::FutexWait
            }
            Step::CheckDeadline => return None,
            Step::RemoveWaiter => {
                self.remove_waiter(&mut state.waiters);
                match (me.purpose, mistake) {
                    (Purpose::RelockTimedOut, M::TimeoutWithoutLock) => Step::CheckPoison,
                    (_, M::ChainWakesNone | M::ChainWakesIfSatisfied) => Step::Lock,
                    _ => Step::CheckGeneration,
                }
            }
            Step::CheckGeneration if state.generation == me.generation => self.after_chain(),
            Step::CheckGeneration => {
                me.generation = state.generation;
                Step::ReadWaitersAgain
            }
            Step::ReadWaitersAgain => match state.waiters {
                0 => self.after_chain(),
                _ => Step::WakeNext,
            },
            Step::Unlock => {
                state.lock = Lock::Free;
                match (role, me.purpose) {
                    (Role::Consumer | Role::TimedConsumer, Purpose::FirstLock) => Step::Lock,
                    (_, Purpose::NotifyOne | Purpose::NotifyAll)
                        if self.when(id) == Some(NotifyWhen::AfterUnlock) =>
                    {
                        self.notify()
                    }
                    (Role::Producer { .. } | Role::FlagSetter { .. }, _) => {
                        Self::after_unlocking(me)
                    }
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

    /// Clears what no later step reads, so that it makes no states different.
    pub(super) fn forget(&self, state: &mut State, id: Id) {
        let is_queued = state.queue & 1 << id != 0;
        let me = &mut state.processes[id as usize];
        let Process {
            step,
            purpose,
            generation,
            items_left,
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
            Step::RemoveWaiter
            | Step::CheckGeneration
            | Step::ReadWaitersAgain
            | Step::WakeNext => {
                *me = Process {
                    step,
                    purpose,
                    generation,
                    items_left,
                    ..Process::default()
                }
            }
            // It has still to decide whether it wakes the next waiter.
            Step::Lock | Step::CheckPoison if self.mistake == Mistake::ChainWakesIfSatisfied => {}
            Step::Lock | Step::Unlock | Step::CheckPoison => {
                *me = Process {
                    step,
                    purpose,
                    items_left,
                    ..Process::default()
                }
            }
            _ => {}
        }
    }

    pub(super) fn remove_waiter(&self, waiters: &mut u8) {
        *waiters = match self.mistake {
            // The count is lowered twice. A count of 0 stays, so that it does not wrap.
            Mistake::NotifierRemovesWaiter => waiters.saturating_sub(1),
            _ => *waiters - 1,
        };
    }

    /// Returns the first step of a notification.
    pub(super) fn notify(&self) -> Step {
        match self.mistake {
            Mistake::WaitersReadFirst => Step::ReadWaiters,
            _ => Step::AddSequence,
        }
    }

    pub(super) fn after_change(&self, when: NotifyWhen) -> Step {
        match when {
            NotifyWhen::AfterUnlock => Step::Unlock,
            NotifyWhen::UnderLock => self.notify(),
        }
    }

    pub(super) fn after_waking(&self, id: Id, me: &mut Process) -> Step {
        match me.step {
            Step::WakeNext => self.after_chain(),
            _ => self.after_notifying(id, me),
        }
    }

    pub(super) fn after_notifying(&self, id: Id, me: &mut Process) -> Step {
        if me.purpose == Purpose::NotifyOfDeath {
            me.purpose = Purpose::Relock;
            return Step::CheckPoison;
        }
        match self.when(id) {
            Some(NotifyWhen::AfterUnlock) => Self::after_unlocking(me),
            _ => Step::Unlock,
        }
    }

    pub(super) fn after_unlocking(me: &mut Process) -> Step {
        me.purpose = Purpose::FirstLock;
        match me.items_left {
            0 => Step::Done,
            _ => Step::Lock,
        }
    }

    /// Returns the next step of a process after its condition holds.
    pub(super) fn after_success(&self, me: &mut Process) -> Step {
        let waited = me.purpose == Purpose::Relock;
        me.purpose = Purpose::FirstLock;
        match self.mistake {
            Mistake::ChainWakesIfSatisfied if waited => Step::CheckGeneration,
            _ => Step::Unlock,
        }
    }

    pub(super) fn after_chain(&self) -> Step {
        match self.mistake {
            Mistake::ChainWakesIfSatisfied => Step::Unlock,
            _ => Step::Lock,
        }
    }

    pub(super) fn when(&self, id: Id) -> Option<NotifyWhen> {
        match self.roles[id as usize] {
            Role::Producer { when, .. } | Role::FlagSetter { when, .. } => Some(when),
            _ => None,
        }
    }

    /// Returns for which waiters a notification is meant.
    pub(super) fn targets(&self, purpose: Purpose) -> Targets {
        match purpose {
            Purpose::NotifyOne => Targets::One,
            Purpose::NotifyOfDeath if self.mistake == Mistake::DeathPassedToOne => Targets::One,
            _ => Targets::All,
        }
    }

    /// Returns the waiters that the kernel may choose for the next wake, one bit each.
    pub(super) fn wake_candidates(&self, state: &State, id: Id) -> u8 {
        let me = &state.processes[id as usize];
        let is_chain = me.step == Step::WakeNext;
        let one = !is_chain && self.targets(me.purpose) == Targets::One;
        let is_candidate = |waiter: &Process| match self.mistake {
            Mistake::ChainWakesAny if is_chain => true,
            Mistake::NotifyOneWakesAny if one => true,
            Mistake::NotifyAllWakesAny | Mistake::GenerationKept if !is_chain && !one => true,
            _ => (waiter.generation == me.generation) == one,
        };
        let candidates = state.all().filter(|(_, waiter)| is_candidate(waiter));
        candidates.fold(0, |candidates, (other, _)| candidates | 1 << other) & state.queue
    }

    pub(super) fn has_recheck(&self, id: Id) -> bool {
        match self.recheck {
            Recheck::NoProcess => false,
            Recheck::OnlyFirst => id == 0,
            Recheck::EveryProcess => true,
        }
    }

    pub(super) fn may_die_now(&self, state: &State, id: Id) -> bool {
        match self.may_die {
            MayDie::AnyProcess => true,
            MayDie::WhileOthersWait(only) => {
                let others = state.all().filter(|(other, _)| *other != id);
                let mut there =
                    others.filter(|(other, _)| self.roles[*other as usize] != Role::Absent);
                id == only && there.all(|(_, other)| other.step == Step::Waiting)
            }
        }
    }

    pub(super) fn wake(&self, state: &mut State, other: Id) {
        state.queue &= !(1 << other);
        let woken = &mut state.processes[other as usize];
        // A dying process consumes its wake.
        if woken.step == Step::Waiting {
            woken.step = Step::RemoveWaiter;
            if self.mistake == Mistake::NotifierRemovesWaiter {
                self.remove_waiter(&mut state.waiters);
                woken.step = Step::CheckGeneration;
            }
            if self.mistake == Mistake::DeadlineOverridesWake
                && self.roles[other as usize] == Role::TimedConsumer
            {
                woken.purpose = Purpose::RelockTimedOut;
            }
        }
        self.forget(state, other);
    }

    /// Returns whether the process waits, and has a reason to stop waiting.
    pub(super) fn has_reason(state: &State, id: Id) -> bool {
        Self::has_owner_failure(state, id)
            || (Self::is_waiting(state.step(id))
                && state.sequence != state.processes[id as usize].seen)
    }

    /// Returns whether the process waits, and a holder has died or panicked since.
    pub(super) fn has_owner_failure(state: &State, id: Id) -> bool {
        let process = &state.processes[id as usize];
        Self::is_waiting(process.step)
            && (state.lock == Lock::OwnerDied || state.real_epoch != process.real_epoch)
    }

    pub(super) fn is_waiting(step: Step) -> bool {
        use Step::{
            AddWaiter, CheckDeadline, CheckEpoch, CheckOwnerDeath, FutexWait, Spin, Waiting,
        };
        matches!(
            step,
            Spin | AddWaiter | FutexWait | Waiting | CheckOwnerDeath | CheckEpoch | CheckDeadline
        )
    }

    /// Returns whether the process stops waiting at its next recheck, if no other
    /// process acts.
    pub(super) fn wakes_by_itself(&self, state: &State, id: Id) -> bool {
        let mut state = *state;
        let mut rechecks = 0;
        // More than the steps of any way out of a wait.
        for _ in 0..20 {
            if !Self::is_waiting(state.step(id)) {
                return true;
            }
            if state.step(id) != Step::Waiting {
                if self.take_step(&mut state, id).is_none() {
                    return false;
                }
            } else if rechecks == 0 {
                rechecks += 1;
                Self::time_out(&mut state, id);
            } else {
                return false;
            }
        }
        false
    }

    pub(super) fn time_out(state: &mut State, id: Id) {
        state.queue &= !(1 << id);
        state.processes[id as usize].step = Step::CheckOwnerDeath;
    }
}
