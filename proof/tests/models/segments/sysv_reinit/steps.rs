//! The steps: see the table of the model.

use super::state::{Mistake, Process, State, Step, SysvReinit, SysvState, Task, Violation};

impl SysvReinit {
    fn load(&self, state: &mut State, pid: usize) -> Step {
        let me = &mut state.processes[pid];
        let is_current = me.namespace == state.namespace;
        match state.state {
            // A remover of the same namespace takes other steps: see the model `sysv`.
            SysvState::Ready if is_current && me.task == Task::Remove => Step::Detach,
            SysvState::Ready if is_current => {
                me.is_user = true;
                Step::Idle
            }
            SysvState::Ready
                if self.has_one_of([Mistake::NoFirstCount, Mistake::UnnumberedAndNoFirstCount]) =>
            {
                Step::Claim
            }
            SysvState::Ready => Step::Count,
            SysvState::Claimed(_) if self.has(Mistake::StaleClaimStays) => Step::Refuse,
            SysvState::Claimed(claim) => {
                me.claim = claim;
                if is_current {
                    Step::CancelClaim
                } else {
                    Step::CancelClaimIfAlone
                }
            }
            SysvState::Reinitializing if self.has(Mistake::StaleReinitStays) => Step::Refuse,
            SysvState::Reinitializing => Step::TakeOverIfAlone,
            SysvState::Dead => Step::Detach,
        }
    }

    fn after_commit(&self, state: &State, pid: usize) -> Step {
        match state.processes[pid].task {
            Task::Remove => Step::RemoveSegment,
            _ if self.has(Mistake::ReadyBeforeLocks) => Step::SetReady,
            _ => Step::BeginInit,
        }
    }

    /// Takes the next step. Returns the step after it.
    pub(super) fn next(&self, state: &mut State, pid: usize) -> Step {
        let is_alone = state.attached() == 1;
        let Process {
            step,
            claim,
            namespace,
            task,
            saw_others,
            ..
        } = state.processes[pid];
        match step {
            Step::EarlyLoad => {
                let is_born = state.state == SysvState::Ready && namespace == state.namespace;
                if is_born {
                    Step::AttachReady
                } else {
                    Step::Attach
                }
            }
            Step::AttachReady => {
                state.attach(pid);
                state.processes[pid].is_user = task == Task::Open;
                if task == Task::Open {
                    Step::Idle
                } else {
                    Step::Detach
                }
            }
            // The segment was destroyed with its last attachment.
            Step::Attach if !state.has_key && state.attached() == 0 => Step::Idle,
            Step::Attach => {
                state.attach(pid);
                if task == Task::Probe {
                    Step::Detach
                } else {
                    Step::Load
                }
            }
            Step::Load => self.load(state, pid),
            Step::CancelClaimIfAlone if is_alone => Step::CancelClaim,
            Step::CancelClaimIfAlone => Step::Refuse,
            Step::CancelClaim => {
                state.exchange(SysvState::Claimed(claim), SysvState::Ready);
                Step::Load
            }
            Step::TakeOverIfAlone if self.has(Mistake::TakeOverWithoutCount) => {
                self.after_commit(state, pid)
            }
            Step::TakeOverIfAlone if is_alone => {
                if self.has(Mistake::TakeOverWithoutReload) {
                    self.after_commit(state, pid)
                } else {
                    Step::LoadAgain
                }
            }
            Step::LoadAgain if state.state == SysvState::Reinitializing && !state.has_key => {
                state.state = SysvState::Dead;
                Step::Detach
            }
            Step::LoadAgain if state.state == SysvState::Reinitializing => {
                self.after_commit(state, pid)
            }
            Step::LoadAgain => Step::Load,
            Step::TakeOverIfAlone => Step::Refuse,
            Step::Count if is_alone => Step::Claim,
            Step::Count => Step::Refuse,
            Step::Claim => {
                state.claims += 1;
                let is_numbered = !self.has_one_of([
                    Mistake::UnnumberedClaims,
                    Mistake::UnnumberedAndNoFirstCount,
                ]);
                let claim = if is_numbered { state.claims } else { 0 };
                state.processes[pid].claim = claim;
                match state.exchange(SysvState::Ready, SysvState::Claimed(claim)) {
                    true if self.has(Mistake::NoSecondCount) => Step::Commit,
                    true => Step::CountAgain,
                    false => Step::Refuse,
                }
            }
            Step::CountAgain if is_alone => Step::Commit,
            Step::CountAgain => Step::Withdraw,
            Step::Commit if self.has(Mistake::CommitWithoutExchange) => {
                state.state = SysvState::Reinitializing;
                self.after_commit(state, pid)
            }
            Step::Commit => {
                if state.exchange(SysvState::Claimed(claim), SysvState::Reinitializing) {
                    self.after_commit(state, pid)
                } else {
                    Step::Withdraw
                }
            }
            Step::Withdraw => {
                state.exchange(SysvState::Claimed(claim), SysvState::Ready);
                Step::Refuse
            }
            Step::BeginInit => {
                state.locks = None;
                Step::EndInit
            }
            Step::EndInit => {
                state.locks = Some(namespace);
                Step::WriteNamespace
            }
            Step::WriteNamespace => {
                state.namespace = namespace;
                let is_last = self.has(Mistake::ReadyBeforeLocks);
                state.processes[pid].is_user = is_last;
                if is_last { Step::Idle } else { Step::SetReady }
            }
            Step::SetReady => {
                state.state = SysvState::Ready;
                let is_early = self.has(Mistake::ReadyBeforeLocks);
                state.processes[pid].is_user = !is_early;
                if is_early {
                    Step::BeginInit
                } else {
                    Step::Idle
                }
            }
            Step::RemoveSegment => {
                state.has_key = false;
                Step::SetDead
            }
            Step::SetDead => {
                state.state = SysvState::Dead;
                Step::Detach
            }
            Step::Refuse => {
                if !saw_others && state.has_key {
                    state.violation = Some(Violation::RefusedAlone);
                }
                Step::Detach
            }
            Step::Detach => {
                state.processes[pid].is_mapped = false;
                Step::Idle
            }
            Step::Idle | Step::Dead => unreachable!("an idle or dead process takes no step"),
        }
    }
}
