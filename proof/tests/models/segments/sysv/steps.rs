//! The steps: see the table of the model.

use super::state::{
    Mistake, Process, Purpose, Segment, State, Step, SysvModel, SysvState, Task, Violation,
};

impl SysvModel {
    /// Takes the next step. Returns the step after it.
    pub(super) fn next(&self, state: &mut State, pid: usize, outcome: usize) -> Step {
        match state.processes[pid].step {
            Step::Shmget | Step::AttachNew | Step::InitNew | Step::LockNew => {
                self.create(state, pid, outcome)
            }
            Step::TryLeaveNew
            | Step::Write
            | Step::SetPermissions
            | Step::SetReady
            | Step::UnlockNew => self.create(state, pid, outcome),
            Step::AbortUnlock | Step::AbortSetDead | Step::AbortRemove | Step::AbortDetach => {
                self.create(state, pid, outcome)
            }
            Step::ProbeFind | Step::ProbeAttach | Step::ProbeLoad | Step::ProbeCount => {
                self.probe(state, pid)
            }
            Step::ProbeLoadAgain | Step::ProbeCountAgain | Step::ProbeDetach => {
                self.probe(state, pid)
            }
            Step::Find | Step::Stat | Step::Attach | Step::AttachReady | Step::Load => {
                self.attach_ready(state, pid)
            }
            Step::TryNewToDead | Step::RemoveDead | Step::Detach | Step::ReaderDetach => {
                self.attach_ready(state, pid)
            }
            Step::Lock | Step::Unlock | Step::Finish | Step::FinishStat => {
                self.finish_interrupted(state, pid)
            }
            Step::FinishReady | Step::FinishDead | Step::FinishRemove => {
                self.finish_interrupted(state, pid)
            }
            _ => self.remove(state, pid),
        }
    }

    /// Takes a step of a creator.
    fn create(&self, state: &mut State, pid: usize, outcome: usize) -> Step {
        let step = state.processes[pid].step;
        match step {
            Step::Shmget if state.key.is_some() => Step::ProbeFind,
            Step::Shmget => {
                let free = state.segments.iter().position(Option::is_none);
                let id = free.unwrap_or(state.segments.len());
                state
                    .segments
                    .resize(state.segments.len().max(id + 1), None);
                state.segments[id] = Some(Segment {
                    state: SysvState::New,
                    is_marked_unfinished: true,
                    has_lock: false,
                    has_header: false,
                    is_whole: false,
                    is_marked_for_removal: false,
                    is_unlinked: false,
                    is_destroyed: false,
                    has_probe_race: false,
                });
                state.key = Some(id);
                state.processes[pid].id = Some(id);
                state.note_progress(pid);
                Step::AttachNew
            }
            Step::AttachNew if state.attach(pid) => Step::InitNew,
            Step::AttachNew => {
                state.retry(pid);
                Step::Shmget
            }
            // No other process reads either before the state changes.
            Step::InitNew => {
                state.change(state.id_of(pid), |segment| {
                    segment.has_lock = true;
                    segment.has_header = true;
                });
                Step::LockNew
            }
            Step::LockNew => {
                state.processes[pid].is_holder = true;
                Step::TryLeaveNew
            }
            Step::TryLeaveNew => {
                let has_won = state.mine(pid).state == SysvState::New;
                if has_won || self.has(Mistake::CreatorSkipsExchange) {
                    state.set_state(pid, SysvState::Initializing);
                    return Step::Write;
                }
                state.processes[pid].lost_race = true;
                Step::AbortUnlock
            }
            Step::Write if outcome == 1 => Step::AbortUnlock, // a panic or an error
            Step::Write => {
                state.change(state.id_of(pid), |segment| segment.is_whole = true);
                Step::SetPermissions
            }
            Step::SetPermissions => {
                state.change(state.id_of(pid), |segment| {
                    segment.is_marked_unfinished = false
                });
                Step::SetReady
            }
            Step::SetReady => {
                state.set_state(pid, SysvState::Ready);
                Step::UnlockNew
            }
            Step::UnlockNew => {
                state.processes[pid].is_holder = false;
                self.become_user(state, pid)
            }
            Step::AbortUnlock => {
                state.processes[pid].is_holder = false;
                Step::AbortSetDead
            }
            Step::AbortSetDead => {
                state.set_state(pid, SysvState::Dead);
                Step::AbortRemove
            }
            Step::AbortRemove => {
                state.remove(pid, state.id_of(pid));
                Step::AbortDetach
            }
            Step::AbortDetach => {
                state.detach(pid);
                if !std::mem::take(&mut state.processes[pid].lost_race) {
                    return Step::Idle;
                }
                state.retry(pid);
                Step::Shmget
            }
            step => unreachable!("{step:?} is no step of a creator"),
        }
    }

    fn become_user(&self, state: &mut State, pid: usize) -> Step {
        let me = &mut state.processes[pid];
        me.is_user = true;
        me.is_reader = me.task == Task::Read;
        Step::Idle
    }

    /// Takes a step of a probe.
    fn probe(&self, state: &mut State, pid: usize) -> Step {
        let step = state.processes[pid].step;
        match step {
            Step::ProbeFind => {
                state.processes[pid].id = state.key;
                match state.key {
                    Some(_) => Step::ProbeAttach,
                    None => self.after_probe(state, pid),
                }
            }
            Step::ProbeAttach if state.attach(pid) => {
                let id = state.id_of(pid);
                if state.has_detached_leaver(pid, id) && !self.has(Mistake::KnownLimitCounts) {
                    state.change(id, |segment| segment.has_probe_race = true);
                }
                Step::ProbeLoad
            }
            Step::ProbeAttach => self.after_probe(state, pid),
            Step::ProbeLoad => match state.mine(pid).state {
                SysvState::Ready | SysvState::Removing => Step::ProbeCount,
                _ => self.after_count(state, pid),
            },
            Step::ProbeCount => {
                state.processes[pid].was_abandoned = self.is_alone(state, pid);
                self.after_count(state, pid)
            }
            Step::ProbeLoadAgain => {
                let sysv_state = state.mine(pid).state;
                state.processes[pid].is_complete =
                    matches!(sysv_state, SysvState::Ready | SysvState::Removing);
                Step::ProbeCountAgain
            }
            Step::ProbeCountAgain => {
                state.processes[pid].was_abandoned &= self.is_alone(state, pid);
                Step::ProbeDetach
            }
            Step::ProbeDetach => {
                let has_header = state.mine(pid).has_header;
                state.detach(pid);
                let skips_check = self.has(Mistake::ProbeSkipsCheck);
                if has_header && !state.processes[pid].was_abandoned && !skips_check {
                    self.count_after_detach(state, pid)
                } else {
                    self.after_probe(state, pid)
                }
            }
            step => unreachable!("{step:?} is no step of a probe"),
        }
    }

    fn is_alone(&self, state: &State, pid: usize) -> bool {
        state.attached(state.id_of(pid)) == 1 && state.processes[pid].is_last
    }

    fn after_count(&self, state: &State, pid: usize) -> Step {
        match state.processes[pid].task {
            Task::Probe => Step::ProbeCountAgain,
            _ => Step::ProbeLoadAgain,
        }
    }

    /// Returns the next step of a call after its probe or removal.
    fn after_probe(&self, state: &mut State, pid: usize) -> Step {
        let me = &mut state.processes[pid];
        me.id = None;
        match (me.task, me.is_complete) {
            (Task::Create | Task::OpenOrCreate, false) => {
                me.purpose = Purpose::Creating;
                Step::Find
            }
            (Task::OpenOrCreate, true) => {
                me.purpose = Purpose::Opening;
                me.is_complete = false;
                state.retry(pid);
                Step::Find
            }
            _ => Step::Idle,
        }
    }

    fn count_after_detach(&self, state: &mut State, pid: usize) -> Step {
        state.processes[pid].purpose = Purpose::Removing;
        Step::CountAfterDetach
    }

    /// Takes a step of an opener, up to the load of the state.
    fn attach_ready(&self, state: &mut State, pid: usize) -> Step {
        let Process {
            step,
            task,
            purpose,
            ..
        } = state.processes[pid];
        match step {
            Step::Find => {
                state.processes[pid].id = state.key;
                if state.key.is_some() {
                    return Step::Stat;
                }
                if state.users().any(|user| !state.is_named_or_unlinked(user)) {
                    state.violation = Some(Violation::NotFound);
                }
                match (purpose, task) {
                    // The existing segment is gone.
                    (Purpose::Creating, _) | (_, Task::OpenOrCreate) => Step::Shmget,
                    (_, _) => Step::Idle,
                }
            }
            Step::Stat if state.mine(pid).is_destroyed => self.find_again(state, pid),
            Step::Stat => {
                let segment = state.mine(pid);
                state.processes[pid].saw_unfinished_mark = segment.is_marked_unfinished;
                let loads_before = self.has(Mistake::LoadBeforeAttach);
                let is_ready = segment.state == SysvState::Ready;
                if loads_before && is_ready && purpose == Purpose::Opening {
                    Step::AttachReady
                } else {
                    Step::Attach
                }
            }
            Step::Attach if state.attach(pid) => Step::Load,
            Step::AttachReady if state.attach(pid) => self.become_user(state, pid),
            Step::Attach | Step::AttachReady => self.find_again(state, pid),
            Step::Load => self.load(state, pid),
            Step::TryNewToDead => {
                let has_won = state.mine(pid).state == SysvState::New;
                if has_won || self.has(Mistake::OpenerSkipsExchange) {
                    state.set_state(pid, SysvState::Dead);
                    state.note_progress(pid);
                }
                Step::Load
            }
            Step::RemoveDead => {
                state.remove(pid, state.id_of(pid));
                Step::Detach
            }
            Step::Detach => {
                state.detach(pid);
                state.processes[pid].is_gone = false;
                self.find_again(state, pid)
            }
            Step::ReaderDetach => {
                let has_header = state.mine(pid).has_header;
                state.detach(pid);
                if has_header && !self.has(Mistake::ReaderSkipsCheck) {
                    self.count_after_detach(state, pid)
                } else {
                    Step::Idle
                }
            }
            step => unreachable!("{step:?} is no step of an opener"),
        }
    }

    fn load(&self, state: &mut State, pid: usize) -> Step {
        let Process {
            task,
            purpose,
            saw_unfinished_mark,
            ..
        } = state.processes[pid];
        let is_reader = task == Task::Read && purpose == Purpose::Opening;
        match (state.mine(pid).state, purpose) {
            (SysvState::Ready, Purpose::Opening) => self.become_user(state, pid),
            (SysvState::Ready, Purpose::Creating) => {
                state.processes[pid].is_complete = true;
                if self.has(Mistake::CreatorSkipsCheck) {
                    state.detach(pid);
                    self.after_probe(state, pid)
                } else {
                    self.leave(state, pid)
                }
            }
            (SysvState::Ready, _) => {
                state.processes[pid].is_removing = true;
                Step::Lock
            }
            (SysvState::New, _) if !saw_unfinished_mark => {
                state.violation = Some(Violation::TakenForForeign);
                Step::Detach
            }
            (_, _) if is_reader => Step::ReaderDetach,
            (SysvState::New, _) => Step::TryNewToDead,
            (SysvState::Dead, _) => Step::RemoveDead,
            (_, _) => Step::Lock,
        }
    }

    /// Returns the next step of a process that found the segment removed. Another
    /// segment may have the key.
    fn find_again(&self, state: &mut State, pid: usize) -> Step {
        if state.processes[pid].purpose == Purpose::Removing {
            return self.after_probe(state, pid);
        }
        state.processes[pid].id = None;
        state.retry(pid);
        Step::Find
    }

    /// Returns whether a process waits for a held lock.
    pub(super) fn waits_for_lock(&self, state: &State, pid: usize) -> bool {
        matches!(
            state.processes[pid].purpose,
            Purpose::Opening | Purpose::Creating
        )
    }

    pub(super) fn removes_without_lock(&self, state: &State, pid: usize) -> bool {
        self.has(Mistake::RemovingWithoutLock) && state.processes[pid].is_removing
    }

    /// Takes a step of a process that locks.
    fn finish_interrupted(&self, state: &mut State, pid: usize) -> Step {
        let step = state.processes[pid].step;
        match step {
            Step::Lock => {
                if !state.mine(pid).has_lock {
                    state.violation = Some(Violation::NoLock);
                }
                if state.is_locked(state.id_of(pid)) && !self.removes_without_lock(state, pid) {
                    // A leaver or remover does not wait. It detaches and counts again.
                    return Step::LeaveDetach;
                }
                let is_unlocked = self.removes_without_lock(state, pid);
                state.processes[pid].is_holder = !is_unlocked;
                state.processes[pid].is_gone = false;
                Step::Finish
            }
            Step::Finish => match state.mine(pid).state {
                SysvState::Removing if self.has(Mistake::RemovingBecomesReady) => Step::FinishReady,
                SysvState::Removing => Step::FinishStat,
                SysvState::Ready => self.after_finish(state, pid),
                _ => Step::FinishDead,
            },
            Step::FinishStat if state.mine(pid).is_marked_for_removal => Step::FinishDead,
            Step::FinishStat => Step::FinishReady,
            Step::FinishReady => {
                state.set_state(pid, SysvState::Ready);
                self.after_finish(state, pid)
            }
            Step::FinishDead => {
                state.set_state(pid, SysvState::Dead);
                Step::FinishRemove
            }
            Step::FinishRemove => {
                state.remove(pid, state.id_of(pid));
                state.processes[pid].is_gone = true;
                Step::Unlock
            }
            Step::Unlock => {
                let me = &mut state.processes[pid];
                me.is_holder = false;
                match (me.is_removing, me.is_gone) {
                    (true, _) => Step::LeaveDetach,
                    (false, true) => Step::Detach,
                    (false, false) => Step::Load,
                }
            }
            step => unreachable!("{step:?} is no step under the lock"),
        }
    }

    /// Returns the step after `finish_interrupted`, if the segment stays.
    fn after_finish(&self, state: &State, pid: usize) -> Step {
        if !state.processes[pid].is_removing {
            Step::Unlock
        } else if self.has(Mistake::CountBeforeRemoving) {
            Step::CountAgain
        } else {
            Step::SetRemoving
        }
    }

    /// Returns the first step of a process that drops its segment.
    pub(super) fn leave(&self, state: &mut State, pid: usize) -> Step {
        let me = &mut state.processes[pid];
        me.is_user = false;
        me.purpose = Purpose::Leaving;
        if me.is_reader {
            Step::LeaveDetach
        } else {
            Step::Count
        }
    }

    /// Takes a step of a leaver or a remover.
    fn remove(&self, state: &mut State, pid: usize) -> Step {
        let step = state.processes[pid].step;
        match step {
            Step::Count if state.attached(state.id_of(pid)) == 1 => {
                state.processes[pid].is_removing = true;
                Step::Lock
            }
            Step::Count => Step::LeaveDetach,
            Step::SetRemoving => {
                state.set_state(pid, SysvState::Removing);
                if self.has(Mistake::CountBeforeRemoving) {
                    Step::RemoveSegment
                } else {
                    Step::CountAgain
                }
            }
            Step::CountAgain if state.attached(state.id_of(pid)) > 1 => Step::RestoreReady,
            Step::CountAgain if self.has(Mistake::CountBeforeRemoving) => Step::SetRemoving,
            Step::CountAgain => Step::RemoveSegment,
            Step::RemoveSegment => {
                state.remove(pid, state.id_of(pid));
                Step::SetDead
            }
            Step::SetDead => {
                state.set_state(pid, SysvState::Dead);
                state.processes[pid].is_gone = true;
                Step::Unlock
            }
            Step::RestoreReady => {
                state.set_state(pid, SysvState::Ready);
                Step::Unlock
            }
            Step::LeaveDetach => {
                state.detach(pid);
                let me = &mut state.processes[pid];
                me.is_removing = false;
                match (std::mem::take(&mut me.is_gone), me.purpose) {
                    (true, _) => self.after_probe(state, pid),
                    (false, Purpose::Removing) => {
                        state.retry(pid);
                        self.count_after_detach(state, pid)
                    }
                    (false, _) if self.has(Mistake::NoCountAfterDetach) => {
                        self.after_probe(state, pid)
                    }
                    (false, _) => self.count_after_detach(state, pid),
                }
            }
            Step::CountAfterDetach => {
                let id = state.id_of(pid);
                if state.segment(id).is_destroyed || state.attached(id) > 0 {
                    self.after_probe(state, pid)
                } else {
                    Step::Stat
                }
            }
            Step::FindToRemove => {
                state.processes[pid].id = state.key;
                match state.key {
                    Some(_) => self.count_after_detach(state, pid),
                    None => Step::Idle,
                }
            }
            Step::FindToUnlink => {
                state.processes[pid].id = state.key;
                match state.key {
                    Some(_) => Step::Unlink,
                    None => Step::Idle,
                }
            }
            Step::Unlink => {
                let id = state.id_of(pid);
                if !state.segment(id).is_marked_for_removal {
                    state.change(id, |segment| segment.is_unlinked = true);
                }
                state.remove(pid, id);
                Step::Idle
            }
            step => unreachable!("{step:?} is no step of a remover"),
        }
    }
}
