//! What the kernel does with a System V segment.

use super::state::{Id, Process, World};

impl World {
    pub(super) fn attached(&self, id: Id) -> usize {
        let is_attached = |process: &&Process| process.id == Some(id) && process.is_mapped;
        self.processes.iter().filter(is_attached).count()
    }

    pub(super) fn is_locked(&self, id: Id) -> bool {
        let is_holder = |process: &Process| process.id == Some(id) && process.is_holder;
        self.processes.iter().any(is_holder)
    }

    /// The kernel notes who attached or detached last.
    pub(super) fn note(&mut self, who: usize, id: Id) {
        for (other, process) in self.processes.iter_mut().enumerate() {
            process.is_last = match process.id == Some(id) {
                true => other == who,
                false => process.is_last,
            };
        }
        self.tell_others(who);
    }

    /// `shmat`. Returns whether there was something.
    pub(super) fn map(&mut self, who: usize) -> bool {
        let id = self.id_of(who);
        if self.segment(id).is_destroyed {
            return false;
        }
        self.processes[who].is_mapped = true;
        self.note(who, id);
        true
    }

    /// `shmdt`.
    pub(super) fn unmap(&mut self, who: usize) {
        let id = self.id_of(who);
        self.processes[who].is_mapped = false;
        self.note(who, id);
        self.destroy_if_unused(id);
    }

    pub(super) fn destroy_if_unused(&mut self, id: Id) {
        if self.segment(id).is_condemned && self.attached(id) == 0 {
            self.change(id, |segment| segment.is_destroyed = true);
        }
    }

    /// `IPC_RMID`.
    pub(super) fn remove(&mut self, who: usize, id: Id) {
        if self.segment(id).is_condemned {
            return;
        }
        self.change(id, |segment| segment.is_condemned = true);
        if self.key == Some(id) {
            self.key = None;
        }
        self.destroy_if_unused(id);
        self.tell_others(who);
    }
}
