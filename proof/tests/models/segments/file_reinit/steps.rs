//! The steps: see the table of the model.

use super::state::{
    Boot, CHANGING, FileReinit, Locks, Mistake, Path, State, Step, Violation, Writers,
};

impl FileReinit {
    /// Compares a word of the epoch with the boot of this process.
    fn compare(&self, state: &mut State, pid: usize, word: Boot) {
        let me = &mut state.processes[pid];
        me.is_current &= word == me.epoch.0;
    }

    /// Compares the namespace in the header with that of this process.
    fn compare_namespace(&self, state: &mut State, pid: usize) {
        let me = &mut state.processes[pid];
        me.is_current &= state.namespace == me.epoch.1;
    }

    /// Returns the next step of a process that holds its own byte.
    fn after_lock(&self, state: &mut State, pid: usize) -> Step {
        let me = &mut state.processes[pid];
        me.is_current = true;
        match me.path {
            Path::Reinit if self.has(Mistake::NoLoadBeforeReinit) => self.after_load(),
            Path::Normal if self.has(Mistake::NoLoadAfterLock) => {
                me.is_user = true;
                Step::Idle
            }
            _ => Step::LoadEnd,
        }
    }

    fn after_load(&self) -> Step {
        if self.has(Mistake::OthersIgnored) {
            self.begin_reinit()
        } else {
            Step::LockWriters
        }
    }

    fn begin_reinit(&self) -> Step {
        if self.has(Mistake::InvalidatedLate) {
            Step::BeginReinit
        } else {
            Step::InvalidateEnd
        }
    }

    fn after_reinit(&self, state: &State, pid: usize) -> Step {
        match state.processes[pid].writers {
            Writers::All => Step::Downgrade,
            _ => Step::UnlockReinit,
        }
    }

    fn decide(&self, state: &mut State, pid: usize) -> Step {
        let me = &mut state.processes[pid];
        match (me.path, me.is_current) {
            (Path::Reinit, true) => Step::UnlockReinit,
            (Path::Reinit, false) => self.after_load(),
            (_, true) => {
                me.is_user = true;
                Step::Idle
            }
            (_, false) => {
                me.path = Path::Retry;
                Step::Close
            }
        }
    }

    pub(super) fn next(&self, state: &mut State, pid: usize) -> Step {
        let step = state.processes[pid].step;
        let epoch = state.processes[pid].epoch;
        let (boot, namespace) = epoch;
        match step {
            Step::ReadNamespace => {
                state.processes[pid].is_current = true;
                state.processes[pid].path = Path::Normal;
                self.compare_namespace(state, pid);
                Step::ReadFront
            }
            Step::ReadFront => {
                self.compare(state, pid, state.front);
                Step::ReadEnd
            }
            Step::ReadEnd => {
                self.compare(state, pid, state.end);
                Step::ReadBack
            }
            Step::ReadBack => {
                self.compare(state, pid, state.back);
                if state.processes[pid].is_current {
                    return Step::LockOwn;
                }
                state.processes[pid].path = Path::Reinit;
                if self.has(Mistake::NoReinitLock) {
                    Step::LockOwn
                } else {
                    Step::LockReinit
                }
            }
            Step::LockReinit => {
                state.processes[pid].holds_reinit = true;
                Step::LockOwn
            }
            Step::LockOwn => {
                state.processes[pid].writers = Writers::Own;
                self.after_lock(state, pid)
            }
            Step::LoadEnd => {
                self.compare(state, pid, state.end);
                Step::LoadFront
            }
            Step::LoadFront => {
                self.compare(state, pid, state.front);
                Step::LoadBack
            }
            Step::LoadBack => {
                self.compare(state, pid, state.back);
                Step::LoadNamespace
            }
            Step::LoadNamespace => {
                let is_reinit = state.processes[pid].path == Path::Reinit;
                if is_reinit || !self.has(Mistake::NamespaceReadOnce) {
                    self.compare_namespace(state, pid);
                }
                if self.has(Mistake::EndLoadedOnce) {
                    self.decide(state, pid)
                } else {
                    Step::LoadEndAgain
                }
            }
            Step::LoadEndAgain => {
                self.compare(state, pid, state.end);
                self.decide(state, pid)
            }
            Step::LockWriters => {
                if state.is_attached_by_other(pid) {
                    if state.is_wrongly_refused(pid) {
                        state.violation = Some(Violation::Refused);
                    }
                    state.processes[pid].path = Path::Refused;
                    return if self.has(Mistake::ReinitUnlockedFirst) {
                        Step::UnlockReinit
                    } else {
                        Step::UnlockOwn
                    };
                }
                if state.is_valid_in(epoch) {
                    state.violation = Some(Violation::ReinitialisedAgain);
                }
                if !self.has(Mistake::OthersTestedOnly) {
                    state.processes[pid].writers = Writers::All;
                }
                self.begin_reinit()
            }
            Step::BeginReinit => {
                state.locks = Locks::Partial;
                Step::EndReinit
            }
            Step::EndReinit => {
                state.locks = Locks::ValidIn(epoch);
                match self.mistake {
                    Some(Mistake::EpochBeforeLocks) => self.after_reinit(state, pid),
                    Some(Mistake::InvalidatedLate) => Step::InvalidateEnd,
                    Some(Mistake::NamespaceWrittenLast) => Step::WriteFront,
                    _ => Step::WriteNamespace,
                }
            }
            Step::InvalidateEnd => {
                state.end = CHANGING;
                state.note_progress(pid);
                match self.mistake {
                    Some(Mistake::InvalidatedLate | Mistake::EpochBeforeLocks) => {
                        Step::WriteNamespace
                    }
                    _ => Step::BeginReinit,
                }
            }
            Step::WriteNamespace => {
                state.namespace = namespace;
                state.note_progress(pid);
                if self.has(Mistake::NamespaceWrittenLast) {
                    self.after_reinit(state, pid)
                } else {
                    Step::WriteFront
                }
            }
            Step::WriteFront => {
                state.front = boot;
                state.note_progress(pid);
                Step::WriteBack
            }
            Step::WriteBack => {
                state.back = boot;
                state.note_progress(pid);
                Step::WriteEnd
            }
            Step::WriteEnd => {
                state.end = boot;
                state.note_progress(pid);
                match self.mistake {
                    Some(Mistake::EpochBeforeLocks) => Step::BeginReinit,
                    Some(Mistake::NamespaceWrittenLast) => Step::WriteNamespace,
                    _ => self.after_reinit(state, pid),
                }
            }
            Step::Downgrade => {
                state.processes[pid].writers = Writers::Own;
                Step::UnlockReinit
            }
            Step::UnlockOwn => {
                state.processes[pid].writers = Writers::None;
                Step::UnlockReinit
            }
            Step::UnlockReinit => {
                let me = &mut state.processes[pid];
                me.holds_reinit = false;
                if me.path == Path::Refused {
                    return Step::Close;
                }
                me.path = Path::Normal;
                self.after_lock(state, pid)
            }
            Step::Close => {
                let me = &mut state.processes[pid];
                me.writers = Writers::None;
                if me.path != Path::Retry {
                    return Step::Idle;
                }
                if !std::mem::take(&mut me.epoch_changed) {
                    state.violation = Some(Violation::IdleRetry);
                }
                Step::ReadNamespace
            }
            Step::Idle | Step::Dead => unreachable!("an idle or dead process takes no step"),
        }
    }
}
