//! The steps: see the table of the model.

use super::state::{
    Condvar, Flag, Id, Lock, Lockers, MayDie, Mistake, NotifyWhen, PROCESSES, Poison, Process,
    Purpose, Recheck, Role, Set, State, Step, Targets,
};

impl Condvar {
    /// Takes the next step, in the order of the code. Returns `None` if it is not
    /// possible now.
    pub(super) fn take_step(&self, state: &mut State, id: Id) -> Option<()> {
        use Mistake as M;
        let mistake = self.mistake;
        let role = self.roles[id as usize];
        let me = &mut state.processes[id as usize];
        me.step = match me.step {
            Step::LockWaiting | Step::Waiting | Step::Done | Step::Dead => return None,
            // `Action::Wake` takes it.
            Step::WakeLockers | Step::WakeDeferred | Step::Wake | Step::DyingWakes => return None,
            Step::Lock => match (state.lock, self.lockers) {
                (Lock::HeldBy(_), Lockers::Spin) => return None,
                (Lock::HeldBy(_), Lockers::Sleep) => {
                    state.is_marked = true;
                    state.lock_queue |= 1 << id;
                    me.queued = true;
                    Step::LockWaiting
                }
                (found @ (Lock::Free | Lock::OwnerDied), _) => {
                    if found == Lock::OwnerDied && mistake == M::MarkDroppedByHeir {
                        state.is_marked = false;
                    }
                    state.lock = Lock::HeldBy(id);
                    state.is_marked |= me.queued && mistake != M::MarkedAfterLock;
                    match found {
                        Lock::OwnerDied => Step::SetPoison,
                        _ => self.after_locking(me),
                    }
                }
            },
            Step::SetPoison => {
                state.poison = Poison::Set;
                Step::AddEpoch
            }
            Step::AddEpoch => {
                state.epoch += u8::from(mistake != M::EpochKept);
                state.real_epoch += 1;
                match me.purpose {
                    Purpose::Panic => Step::Unlock,
                    Purpose::Relock | Purpose::RelockTimedOut => {
                        if mistake != M::DeathNotPassedOn {
                            me.purpose = Purpose::NotifyOfDeath;
                        }
                        self.after_locking(me)
                    }
                    _ => Step::CheckPoison,
                }
            }
            Step::MarkLate => {
                state.is_marked = true;
                self.pass_death_on(me)
            }
            Step::AddSequence => {
                state.sequence += u8::from(mistake != M::SequenceKept);
                if self.targets(me.purpose) == Targets::All && mistake != M::GenerationKept {
                    state.generation += 1;
                }
                match mistake {
                    M::WaitersReadFirst if me.seen == 0 => self.after_notifying(id, me),
                    M::WaitersReadFirst => self.wake_up(id, me),
                    _ => Step::ReadWaiters,
                }
            }
            Step::ReadWaiters if mistake == M::WaitersReadFirst => {
                me.seen = state.waiters;
                Step::AddSequence
            }
            Step::ReadWaiters => match state.waiters {
                0 => self.after_notifying(id, me),
                _ => self.wake_up(id, me),
            },
            Step::Mark => {
                state.is_marked |= mistake != M::MoveUnmarked;
                match mistake {
                    M::MovedBehindOneWithoutLock if !self.knows_lock(id, me.purpose) => Step::Wake,
                    _ => Step::Move,
                }
            }
            Step::Move => {
                let moved = std::mem::take(&mut state.queue);
                state.lock_queue |= moved;
                self.after_notifying(id, me)
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
                Role::TimedConsumer if me.purpose == Purpose::RelockTimedOut => Step::Unlock,
                Role::Consumer | Role::TimedConsumer | Role::TakerOfOne if state.items > 0 => {
                    state.items -= 1;
                    Self::after_success(me)
                }
                Role::FlagWaiter if state.flag == Flag::Set => Self::after_success(me),
                Role::Consumer | Role::TimedConsumer | Role::TakerOfOne | Role::FlagWaiter => {
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
            Step::UnlockForWait | Step::Unlock => {
                let is_for_wait = me.step == Step::UnlockForWait;
                if is_for_wait {
                    me.real_epoch = state.real_epoch;
                }
                state.lock = Lock::Free;
                let was_marked = std::mem::take(&mut state.is_marked);
                if was_marked && !(is_for_wait && mistake == M::UnlockForWaitWakesNone) {
                    Step::WakeLockers
                } else {
                    self.after_waking_lockers(id, me)
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
                    _ => Step::CheckGeneration,
                }
            }
            Step::CheckGeneration => {
                me.queued = match (me.purpose, mistake) {
                    (_, M::NeverMarked) => false,
                    (Purpose::RelockTimedOut, M::MarkedUnlessTimedOut) => false,
                    _ => me.generation != state.generation,
                };
                Step::Lock
            }
            Step::Dying => {
                state.queue &= !(1 << id);
                state.lock_queue &= !(1 << id);
                let holds = state.lock == Lock::HeldBy(id);
                if holds {
                    state.lock = Lock::OwnerDied;
                }
                let is_free = state.lock == Lock::Free && !state.is_marked;
                if holds && state.is_marked || me.pending && is_free {
                    Step::DyingWakes
                } else {
                    Step::Dead
                }
            }
        };
        self.forget(state, id);
        Some(())
    }

    /// Clears what no later step reads, so that it makes no states different.
    pub(super) fn forget(&self, state: &mut State, id: Id) {
        let me = &mut state.processes[id as usize];
        let old = *me;
        let kept = Process {
            step: old.step,
            purpose: old.purpose,
            items_left: old.items_left,
            ..Process::default()
        };
        *me = match old.step {
            Step::Dead | Step::Done | Step::DyingWakes => Process {
                step: old.step,
                ..Process::default()
            },
            Step::Dying => Process {
                step: old.step,
                pending: old.pending,
                ..Process::default()
            },
            Step::RemoveWaiter => Process {
                generation: old.generation,
                notified_in_time: old.notified_in_time && old.purpose == Purpose::RelockTimedOut,
                ..kept
            },
            Step::CheckGeneration => Process {
                generation: old.generation,
                ..kept
            },
            Step::Lock | Step::LockWaiting => Process {
                queued: old.queued,
                ..kept
            },
            // It has still to mark the lock word.
            Step::SetPoison | Step::AddEpoch if self.mistake == Mistake::MarkedAfterLock => {
                Process {
                    queued: old.queued,
                    ..kept
                }
            }
            Step::SetPoison | Step::AddEpoch | Step::MarkLate => kept,
            Step::FutexWait | Step::Waiting => Process {
                notified_in_time: false,
                ..old
            },
            Step::CheckPoison | Step::ClearPoison | Step::Work | Step::Unlock => Process {
                deferred: old.deferred,
                wakes_several: old.wakes_several,
                ..kept
            },
            Step::WakeLockers | Step::WakeDeferred if old.purpose != Purpose::Relock => Process {
                deferred: old.deferred,
                wakes_several: old.wakes_several,
                ..kept
            },
            _ => old,
        };
    }

    pub(super) fn remove_waiter(&self, waiters: &mut u8) {
        *waiters = match self.mistake {
            // The count is lowered twice. A count of 0 stays, so that it does not wrap.
            Mistake::NotifierRemovesWaiter => waiters.saturating_sub(1),
            _ => *waiters - 1,
        };
    }

    /// Returns the next step of a process that has locked, and has recorded an owner
    /// death.
    fn after_locking(&self, me: &Process) -> Step {
        match self.mistake {
            Mistake::MarkedAfterLock if me.queued => Step::MarkLate,
            _ => self.pass_death_on(me),
        }
    }

    fn pass_death_on(&self, me: &Process) -> Step {
        match me.purpose {
            Purpose::NotifyOfDeath => self.notify(),
            _ => Step::CheckPoison,
        }
    }

    /// Returns the first step of a notification.
    fn notify(&self) -> Step {
        match self.mistake {
            Mistake::WaitersReadFirst => Step::ReadWaiters,
            _ => Step::AddSequence,
        }
    }

    fn after_change(&self, when: NotifyWhen) -> Step {
        match when {
            NotifyWhen::AfterUnlock => Step::Unlock,
            _ => self.notify(),
        }
    }

    /// Returns the next step of a notifier, after it has found that there are waiters.
    fn wake_up(&self, id: Id, me: &mut Process) -> Step {
        match (self.targets(me.purpose), self.knows_lock(id, me.purpose)) {
            (Targets::One, true) => {
                me.deferred += 1;
                self.after_notifying(id, me)
            }
            (Targets::All, true) => {
                me.wakes_several = true;
                Step::Mark
            }
            (Targets::All, false) if self.moves_without_lock() => Step::Mark,
            (_, false) => Step::Wake,
        }
    }

    fn after_notifying(&self, id: Id, me: &mut Process) -> Step {
        if me.purpose == Purpose::NotifyOfDeath {
            me.purpose = Purpose::Relock;
            return Step::CheckPoison;
        }
        match self.roles[id as usize].when() {
            Some(NotifyWhen::AfterUnlock) => Self::after_call(me),
            Some(NotifyWhen::UnderOneLock) if me.items_left > 0 => Step::Work,
            _ => Step::Unlock,
        }
    }

    /// Returns the next step of a producer that has notified and unlocked.
    fn after_call(me: &mut Process) -> Step {
        me.purpose = Purpose::FirstLock;
        match me.items_left {
            0 => Step::Done,
            _ => Step::Lock,
        }
    }

    /// Returns the next step of a process after its condition holds.
    fn after_success(me: &mut Process) -> Step {
        me.purpose = Purpose::FirstLock;
        Step::Unlock
    }

    fn after_waking_lockers(&self, id: Id, me: &mut Process) -> Step {
        me.wakes_several = false;
        if me.deferred > 0 && self.mistake != Mistake::DeferredForgotten {
            return Step::WakeDeferred;
        }
        self.after_unlocking(id, me)
    }

    fn after_unlocking(&self, id: Id, me: &mut Process) -> Step {
        me.deferred = 0;
        let role = self.roles[id as usize];
        match (role, me.purpose) {
            (_, Purpose::Relock) => match self.mistake {
                Mistake::SequenceReadLate => Step::ReadSequence,
                Mistake::EpochReadLate => Step::ReadEpoch,
                _ => Step::Spin,
            },
            (Role::Consumer | Role::TimedConsumer, Purpose::FirstLock) => Step::Lock,
            (_, Purpose::NotifyOne | Purpose::NotifyAll)
                if role.when() == Some(NotifyWhen::AfterUnlock) =>
            {
                self.notify()
            }
            (Role::Producer { .. } | Role::FlagSetter { .. }, _) => Self::after_call(me),
            _ => Step::Done,
        }
    }

    /// Returns for which waiters a notification is meant.
    fn targets(&self, purpose: Purpose) -> Targets {
        match purpose {
            Purpose::NotifyOne => Targets::One,
            Purpose::NotifyOfDeath if self.mistake == Mistake::DeathPassedToOne => Targets::One,
            _ => Targets::All,
        }
    }

    /// Returns whether a notifier holds the waiters' mutex, and knows that.
    fn knows_lock(&self, id: Id, purpose: Purpose) -> bool {
        let when = self.roles[id as usize].when();
        purpose == Purpose::NotifyOfDeath
            || matches!(when, Some(NotifyWhen::UnderLock | NotifyWhen::UnderOneLock))
    }

    fn moves_without_lock(&self) -> bool {
        matches!(
            self.mistake,
            Mistake::MovedWithoutLock | Mistake::MovedBehindOneWithoutLock
        )
    }

    /// Returns the sets of waiters, of which the kernel wakes one in the next step of
    /// the process.
    pub(super) fn sets_to_wake(&self, state: &State, id: Id) -> impl Iterator<Item = Set> {
        let me = &state.processes[id as usize];
        let (queue, count) = match me.step {
            Step::WakeLockers if me.wakes_several => (state.lock_queue, self.woken_together),
            Step::WakeLockers | Step::DyingWakes => (state.lock_queue, 1),
            Step::WakeDeferred if self.mistake == Mistake::DeferredOnce => (state.queue, 1),
            Step::WakeDeferred => (state.queue, me.deferred),
            _ => match (self.targets(me.purpose), self.mistake) {
                (Targets::One, _)
                | (_, Mistake::OneWokenWithoutLock | Mistake::MovedBehindOneWithoutLock) => {
                    (state.queue, 1)
                }
                (Targets::All, _) => (state.queue, u8::MAX),
            },
        };
        let count = queue.count_ones().min(count.into());
        let sets = 0..1 << PROCESSES;
        sets.filter(move |set| set & !queue == 0 && set.count_ones() == count)
    }

    /// Takes a step that wakes these waiters.
    pub(super) fn wake(&self, state: &mut State, id: Id, set: Set) {
        let waker = state.processes[id as usize];
        for other in (0..).take(PROCESSES).filter(|other| set & 1 << other != 0) {
            self.wake_one(state, &waker, other);
        }
        match self.mistake {
            Mistake::MovedBehindOneWithoutLock if waker.step == Step::Wake => {
                state.lock_queue |= std::mem::take(&mut state.queue);
            }
            // It does not ask the kernel whether there was one.
            Mistake::NotifierRemovesWaiter if set == 0 => self.remove_waiter(&mut state.waiters),
            _ => {}
        }
        let me = &mut state.processes[id as usize];
        me.step = match me.step {
            Step::WakeLockers => self.after_waking_lockers(id, me),
            Step::WakeDeferred => self.after_unlocking(id, me),
            Step::DyingWakes => Step::Dead,
            _ => self.after_notifying(id, me),
        };
        self.forget(state, id);
    }

    fn wake_one(&self, state: &mut State, waker: &Process, other: Id) {
        state.queue &= !(1 << other);
        state.lock_queue &= !(1 << other);
        let generation = state.generation;
        let woken = &mut state.processes[other as usize];
        match woken.step {
            Step::LockWaiting => woken.step = Step::Lock,
            Step::Waiting => {
                woken.step = Step::RemoveWaiter;
                match self.mistake {
                    Mistake::NotifierRemovesWaiter => {
                        self.remove_waiter(&mut state.waiters);
                        woken.step = Step::CheckGeneration;
                    }
                    Mistake::DeadlineOverridesWake
                        if self.roles[other as usize] == Role::TimedConsumer =>
                    {
                        woken.purpose = Purpose::RelockTimedOut;
                    }
                    Mistake::FirstDoNotMark if waker.wakes_several => {
                        woken.generation = generation;
                    }
                    _ => {}
                }
            }
            // A dying process consumes its wake.
            _ => {}
        }
        self.forget(state, other);
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
            MayDie::FlagWaiterOutsideGap => {
                let mut others = state.all().filter(|(other, _)| *other != id);
                self.roles[id as usize] == Role::FlagWaiter
                    && !matches!(
                        state.step(id),
                        Step::CheckGeneration | Step::Lock | Step::WakeLockers
                    )
                    && others.all(|(_, other)| matches!(other.step, Step::Waiting | Step::Done))
            }
        }
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
                self.time_out(&mut state, id);
            } else {
                return false;
            }
        }
        false
    }

    /// Ends the sleep of a process.
    pub(super) fn time_out(&self, state: &mut State, id: Id) {
        state.queue &= !(1 << id);
        state.lock_queue &= !(1 << id);
        let me = &mut state.processes[id as usize];
        me.step = match me.step {
            Step::LockWaiting => Step::Lock,
            _ => {
                let has_deadline = self.roles[id as usize] == Role::TimedConsumer;
                me.notified_in_time = has_deadline && state.sequence != me.seen;
                Step::CheckOwnerDeath
            }
        };
    }

    /// Returns whether `list_op_pending` names the mutex at this step, while the
    /// process does not hold it. It is so between the wait and the lock, too, but not
    /// always.
    pub(super) fn is_pending(&self, step: Step) -> bool {
        use Step::{
            AddWaiter, CheckDeadline, CheckEpoch, CheckOwnerDeath, FutexWait, RemoveWaiter, Waiting,
        };
        let waits = matches!(
            step,
            AddWaiter
                | FutexWait
                | Waiting
                | CheckOwnerDeath
                | CheckEpoch
                | CheckDeadline
                | RemoveWaiter
        );
        waits && self.mistake != Mistake::NotPendingInWait
    }
}
