//! The kernel's part in a System V segment.

use super::state::{Id, Process, State};

impl State {
    pub(super) fn attached(&self, id: Id) -> usize {
        let is_attached = |process: &&Process| process.id == Some(id) && process.is_mapped;
        self.processes.iter().filter(is_attached).count()
    }

    pub(super) fn is_locked(&self, id: Id) -> bool {
        let is_holder = |process: &Process| process.id == Some(id) && process.is_holder;
        self.processes.iter().any(is_holder)
    }

    /// Notes which process attached or detached last, as the kernel does.
    pub(super) fn note_last(&mut self, pid: usize, id: Id) {
        for (other, process) in self.processes.iter_mut().enumerate() {
            process.is_last = if process.id == Some(id) {
                other == pid
            } else {
                process.is_last
            };
        }
        self.note_progress(pid);
    }

    /// Does `shmat`. Returns whether the segment exists.
    pub(super) fn attach(&mut self, pid: usize) -> bool {
        let id = self.id_of(pid);
        if self.segment(id).is_destroyed {
            return false;
        }
        self.processes[pid].is_mapped = true;
        self.note_last(pid, id);
        true
    }

    /// Does `shmdt`.
    pub(super) fn detach(&mut self, pid: usize) {
        let id = self.id_of(pid);
        self.processes[pid].is_mapped = false;
        self.note_last(pid, id);
        self.destroy_if_unused(id);
    }

    pub(super) fn destroy_if_unused(&mut self, id: Id) {
        if self.segment(id).is_marked_for_removal && self.attached(id) == 0 {
            self.change(id, |segment| segment.is_destroyed = true);
        }
    }

    /// Does `IPC_RMID`.
    pub(super) fn remove(&mut self, pid: usize, id: Id) {
        if self.segment(id).is_marked_for_removal {
            return;
        }
        self.change(id, |segment| segment.is_marked_for_removal = true);
        if self.key == Some(id) {
            self.key = None;
        }
        self.destroy_if_unused(id);
        self.note_progress(pid);
    }
}
