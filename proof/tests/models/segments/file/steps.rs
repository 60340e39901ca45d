//! The steps: see the table of the model.

use super::state::{FileModel, Inode, Mistake, State, Step, Task, Violation};

impl FileModel {
    /// Takes the next step. Returns the step after it.
    pub(super) fn next(&self, state: &mut State, pid: usize) -> Step {
        match state.processes[pid].step {
            Step::OpenTmpfile | Step::Write | Step::LockOwn | Step::Linkat => {
                self.create(state, pid)
            }
            Step::Open | Step::LockShared | Step::CheckName | Step::Close => self.open(state, pid),
            Step::OpenToUnlink | Step::LockToUnlink => self.unlink(state, pid),
            Step::CheckToUnlink | Step::Unlink => self.unlink(state, pid),
            _ => self.remove(state, pid),
        }
    }

    /// Returns the first step of a remover that has opened the object.
    fn removal_start(&self) -> Step {
        if self.has(Mistake::RemoverWithoutRemoval) {
            Step::TryLockAttached
        } else {
            Step::LockRemoval
        }
    }

    /// Returns the step by which a remover begins to test for users.
    fn first_removal_check(&self) -> Step {
        if self.has(Mistake::RemoverChecksNameFirst) {
            Step::CheckNameAgain
        } else {
            Step::TryLockAttached
        }
    }

    /// Returns the step after a removal.
    fn after_removal(&self, task: Task) -> Step {
        match task {
            Task::Leave if self.has(Mistake::LeaverTestsBeforeClose) => Step::CloseAttached,
            _ => Step::Idle,
        }
    }

    fn build(&self, state: &mut State, pid: usize) -> Step {
        match state.processes[pid].built {
            Some(_) => Step::Linkat,
            None => Step::OpenTmpfile,
        }
    }

    /// Takes a step of a creator.
    fn create(&self, state: &mut State, pid: usize) -> Step {
        let me = &mut state.processes[pid];
        match (me.step, self.mistake) {
            (Step::OpenTmpfile, mistake) => {
                let inode = Inode {
                    is_whole: false,
                    is_unlinked: false,
                };
                let free = state.inodes.iter().position(Option::is_none);
                let ino = free.unwrap_or(state.inodes.len());
                state.inodes.resize(state.inodes.len().max(ino + 1), None);
                state.inodes[ino] = Some(inode);
                me.built = Some(ino);
                match mistake {
                    Some(Mistake::LinkedBeforeWritten) => Step::LockOwn,
                    _ => Step::Write,
                }
            }
            (Step::Write, mistake) => {
                let ino = me.built.or(me.file).expect("it was built");
                state.inodes[ino] = Some(Inode {
                    is_whole: true,
                    ..state.inode(ino)
                });
                match mistake {
                    Some(Mistake::LinkedBeforeWritten) => self.become_user(state, pid),
                    Some(Mistake::LinkedBeforeLocked) => Step::Linkat,
                    _ => Step::LockOwn,
                }
            }
            // The lock is free, because no other process can have an object without a
            // name.
            (Step::LockOwn, Some(Mistake::LinkedBeforeLocked)) => self.become_user(state, pid),
            (Step::LockOwn, _) => Step::Linkat,
            (Step::Linkat, mistake) => {
                if state.path.is_some() {
                    if me.task == Task::OpenOrCreate {
                        state.retry(pid);
                        return Step::Open;
                    }
                    me.built = None;
                    return Step::Idle;
                }
                me.file = me.built.take();
                let ino = me.file;
                me.is_attached = mistake != Some(Mistake::LinkedBeforeLocked);
                state.set_path(pid, ino);
                match mistake {
                    Some(Mistake::LinkedBeforeWritten) => Step::Write,
                    Some(Mistake::LinkedBeforeLocked) => Step::LockOwn,
                    _ => self.become_user(state, pid),
                }
            }
            (step, _) => unreachable!("{step:?} is no step of a creator"),
        }
    }

    fn become_user(&self, state: &mut State, pid: usize) -> Step {
        let me = &mut state.processes[pid];
        me.built = None;
        me.is_attached = true;
        me.is_user = true;
        Step::Idle
    }

    /// Takes a step of an opener.
    fn open(&self, state: &mut State, pid: usize) -> Step {
        let checks_first = self.has(Mistake::NameCheckedBeforeLock);
        match state.processes[pid].step {
            Step::Open => {
                state.processes[pid].file = state.path;
                match (state.path, state.processes[pid].task) {
                    (Some(_), _) if checks_first => Step::CheckName,
                    (Some(_), _) => Step::LockShared,
                    (None, task) => {
                        if state.users().any(|user| !state.is_named_or_unlinked(user)) {
                            state.violation = Some(Violation::NotFound);
                        }
                        match task {
                            Task::OpenOrCreate => self.build(state, pid),
                            _ => Step::Idle,
                        }
                    }
                }
            }
            Step::LockShared => {
                let ino = state.processes[pid].file.expect("it was opened");
                if state.is_locked_by_remover(pid, ino) {
                    return Step::Close; // with `OpenerTriesLock`
                }
                state.processes[pid].is_attached = true;
                if checks_first || self.has(Mistake::NameUnchecked) {
                    self.become_user(state, pid)
                } else {
                    Step::CheckName
                }
            }
            Step::CheckName if state.path != state.processes[pid].file => Step::Close,
            Step::CheckName if checks_first => Step::LockShared,
            Step::CheckName => self.become_user(state, pid),
            Step::Close => {
                state.processes[pid].file = None;
                state.processes[pid].is_attached = false;
                state.retry(pid);
                Step::Open
            }
            step => unreachable!("{step:?} is no step of an opener"),
        }
    }

    /// Takes a step of a leaver or a remover.
    fn remove(&self, state: &mut State, pid: usize) -> Step {
        let path = state.path;
        let me = &mut state.processes[pid];
        match me.step {
            Step::Reopen => {
                me.removal_file = me.file;
                match self.removal_start() {
                    Step::TryLockAttached if !self.has(Mistake::LeaverTestsBeforeClose) => {
                        Step::CloseAttached
                    }
                    removal_start => removal_start,
                }
            }
            Step::CloseAttached => {
                me.file = None;
                me.is_attached = false;
                if self.has(Mistake::LeaverTestsBeforeClose) {
                    Step::Idle
                } else {
                    self.first_removal_check()
                }
            }
            Step::OpenToRemove => {
                me.removal_file = path;
                match path {
                    Some(_) => self.removal_start(),
                    None => Step::Idle,
                }
            }
            Step::LockRemoval => {
                me.holds_removal = true;
                if me.is_attached && !self.has(Mistake::LeaverTestsBeforeClose) {
                    Step::CloseAttached
                } else {
                    self.first_removal_check()
                }
            }
            Step::TryLockAttached => {
                let ino = me.removal_file.expect("it was opened to remove");
                if state.is_attached_by_other(pid, ino) {
                    return Step::UnlockRemoval;
                }
                let tests_only = self.has(Mistake::RemoverTestsOnly);
                state.processes[pid].holds_attached = !tests_only;
                match self.mistake {
                    Some(Mistake::RemoverSkipsNameCheck | Mistake::RemoverChecksNameFirst) => {
                        Step::UnlinkAbandoned
                    }
                    _ => Step::CheckNameAgain,
                }
            }
            Step::CheckNameAgain if path != me.removal_file => Step::UnlockAttached,
            Step::CheckNameAgain if self.has(Mistake::RemoverChecksNameFirst) => {
                Step::TryLockAttached
            }
            Step::CheckNameAgain => Step::UnlinkAbandoned,
            Step::UnlinkAbandoned => {
                if path.is_some() {
                    if path != me.removal_file {
                        state.violation = Some(Violation::WrongObjectRemoved);
                    }
                    state.set_path(pid, None);
                }
                Step::UnlockAttached
            }
            Step::UnlockAttached if self.has(Mistake::RemovalUnlockedFirst) && me.holds_removal => {
                me.holds_removal = false;
                Step::UnlockAttached
            }
            Step::UnlockAttached => {
                me.holds_attached = false;
                Step::UnlockRemoval
            }
            Step::UnlockRemoval => {
                me.holds_removal = false;
                me.removal_file = None;
                self.after_removal(me.task)
            }
            step => unreachable!("{step:?} is no step of a remover"),
        }
    }

    /// Takes a step of `unlink`.
    fn unlink(&self, state: &mut State, pid: usize) -> Step {
        let path = state.path;
        let me = &mut state.processes[pid];
        match me.step {
            Step::OpenToUnlink => {
                me.removal_file = path;
                match path {
                    Some(_) if self.has(Mistake::UnlinkWithoutRemoval) => Step::CheckToUnlink,
                    Some(_) => Step::LockToUnlink,
                    None if self.has(Mistake::UnlinkOfMissingContinues) => Step::Unlink,
                    None => Step::Idle,
                }
            }
            Step::LockToUnlink => {
                me.holds_removal = true;
                Step::CheckToUnlink
            }
            Step::CheckToUnlink if path == me.removal_file => Step::Unlink,
            Step::CheckToUnlink => {
                me.holds_removal = false;
                me.removal_file = None;
                state.retry(pid);
                Step::OpenToUnlink
            }
            Step::Unlink => {
                if let Some(ino) = path {
                    state.inodes[ino] = Some(Inode {
                        is_unlinked: true,
                        ..state.inode(ino)
                    });
                    state.set_path(pid, None);
                }
                Step::UnlockRemoval
            }
            step => unreachable!("{step:?} is no step of unlink"),
        }
    }
}
