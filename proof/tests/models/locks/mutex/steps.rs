//! The steps: see the table of the model.

use super::state::{
    Blocking, Consistency, Found, Id, Kernel, Mistake, Mutex, Poison, Process, State, Step, Word,
};

impl Mutex {
    /// Takes the next step, in the order of the code. Returns `None` if it is not
    /// possible now.
    pub(super) fn take_step(&self, state: &mut State, id: Id) -> Option<()> {
        use Mistake as M;
        let mistake = self.mistake;
        let me = &mut state.processes[id as usize];
        match me.step {
            Step::Idle | Step::Waiting | Step::Wake | Step::DyingWakes | Step::Dead => return None,
            Step::Load | Step::Reload => {
                me.pending = mistake != M::LockWithoutPending;
                me.seen = state.word;
                me.step = Step::Exchange;
            }
            Step::Exchange => self.exchange(state, id),
            Step::FutexWait => {
                if state.word == me.seen {
                    state.queue |= 1 << id;
                    me.seen = Word::FREE;
                    me.step = Step::Waiting;
                } else {
                    me.step = Step::Reload;
                }
            }
            Step::PushFront => {
                me.listed = true;
                me.seen = Word::FREE;
                me.assume_waiters = false;
                if me.found == Found::OwnerDied {
                    state.consistency = Consistency::Inconsistent;
                }
                me.step = Step::LockClearPending;
            }
            Step::LockClearPending => {
                me.pending = false;
                me.step = match me.found {
                    Found::Free => Step::SetHolder,
                    Found::OwnerDied if mistake == M::NoPoison => Step::MakeConsistent,
                    Found::OwnerDied if mistake == M::PoisonAfterConsistent => Step::MakeConsistent,
                    Found::OwnerDied => Step::SetPoison,
                };
            }
            Step::SetPoison => {
                if mistake == M::HolderBeforePoison {
                    state.holder = id + 1;
                }
                state.poison = Poison::OwnerDied(state.holder);
                me.step = Step::AddEpoch;
            }
            Step::AddEpoch => {
                state.is_epoch_due = false;
                me.step = match mistake {
                    M::PoisonAfterConsistent => Step::SetHolder,
                    _ => Step::MakeConsistent,
                };
            }
            Step::MakeConsistent => {
                if mistake != M::NoConsistent {
                    state.consistency = Consistency::Consistent;
                }
                me.step = match mistake {
                    M::PoisonAfterConsistent => Step::SetPoison,
                    _ => Step::SetHolder,
                };
            }
            Step::SetHolder => {
                state.holder = id + 1;
                me.found = Found::Free;
                me.step = Step::CheckPoison;
            }
            Step::CheckPoison => {
                me.step = match state.poison {
                    Poison::Clean => Step::WriteFirst,
                    _ if mistake == M::ClearBeforeRepair => Step::ClearPoison,
                    _ => Step::RepairFirst,
                };
            }
            Step::WriteFirst => {
                state.is_torn = true;
                me.step = Step::WriteSecond;
            }
            Step::WriteSecond => {
                state.is_torn = false;
                me.step = Step::ClearHolder;
            }
            Step::RepairFirst => {
                state.is_torn = true;
                me.step = Step::RepairSecond;
            }
            Step::RepairSecond => {
                state.is_torn = false;
                state.may_be_inconsistent = false;
                me.step = match mistake {
                    M::ClearBeforeRepair => Step::ClearHolder,
                    _ => Step::ClearPoison,
                };
            }
            Step::ClearPoison => {
                state.poison = Poison::Clean;
                me.step = match mistake {
                    M::ClearBeforeRepair => Step::RepairFirst,
                    _ => Step::ClearHolder,
                };
            }
            Step::PanicSetPoison => {
                state.poison = Poison::Panicked(state.holder);
                me.poisons_later = false;
                me.step = Step::PanicAddEpoch;
            }
            Step::PanicAddEpoch => {
                state.is_epoch_due &= mistake == M::PanicKeepsEpoch;
                me.step = match mistake {
                    M::PanicPoisonAfterUnlock => Step::Idle,
                    _ => Step::ClearHolder,
                };
            }
            Step::ClearHolder => {
                if mistake != M::UnlockKeepsHolder {
                    state.holder = 0;
                }
                if mistake == M::UnlockClearsPoison {
                    state.poison = Poison::Clean;
                }
                me.step = Step::SetPending;
            }
            Step::SetPending => {
                me.pending = mistake != M::UnlockWithoutPending;
                me.step = Step::RemoveFromList;
            }
            Step::RemoveFromList => {
                me.listed = false;
                if state.consistency == Consistency::Inconsistent {
                    state.consistency = Consistency::NotRecoverable;
                }
                me.step = Step::ReleaseWord;
            }
            Step::ReleaseWord => {
                me.step = if state.word.waiters {
                    Step::Wake
                } else {
                    Step::UnlockClearPending
                };
                me.pending &= mistake != M::PendingClearedBeforeWake;
                state.word = Word::FREE;
            }
            Step::UnlockClearPending => {
                me.pending = false;
                me.step = match mistake {
                    M::PanicPoisonAfterUnlock if me.poisons_later => Step::PanicSetPoison,
                    _ => Step::Idle,
                };
            }
            Step::Dying => self.exit_robust_list(state, id),
        }
        Some(())
    }

    /// Takes one step of the waiting loop: from one load of the word to the next.
    pub(super) fn exchange(&self, state: &mut State, id: Id) {
        let me = &mut state.processes[id as usize];
        let seen = me.seen;
        let waiters = me.assume_waiters && self.mistake != Mistake::WaitersForgotten;
        let owner = id + 1;
        let (found, wanted) = if seen == Word::FREE {
            let wanted = Word {
                owner,
                waiters,
                ..seen
            };
            (Some(Found::Free), wanted)
        } else if seen.owner_died {
            let waiters = waiters || seen.waiters;
            (
                Some(Found::OwnerDied),
                Word {
                    owner,
                    waiters,
                    owner_died: false,
                },
            )
        } else {
            (
                None,
                Word {
                    waiters: true,
                    ..seen
                },
            )
        };
        if found.is_none() && me.blocking == Blocking::Try {
            *me = Process {
                rounds: me.rounds,
                ..Process::default()
            };
            return;
        }
        if state.word != seen {
            me.seen = state.word;
            return; // and compares again
        }
        state.word = wanted;
        match found {
            Some(found) => {
                me.found = found;
                me.blocking = Blocking::Wait;
                me.step = Step::PushFront;
            }
            None => {
                me.seen = wanted;
                me.assume_waiters = true;
                me.step = Step::FutexWait;
            }
        }
    }

    /// Does what the kernel does at the end of a thread.
    pub(super) fn exit_robust_list(&self, state: &mut State, id: Id) {
        let me = &mut state.processes[id as usize];
        let word = state.word;
        state.queue &= !(1 << id);
        let wakes = if (me.pending || me.listed) && word.is_owned_by(id) {
            state.word.owner = 0;
            state.word.owner_died = true;
            word.waiters
        } else if !me.pending {
            false
        } else if word.owner != 0 {
            self.kernel == Kernel::Fixed
        } else {
            self.mistake != Mistake::WakeOnZeroOnly || word == Word::FREE
        };
        *me = Process {
            step: if wakes { Step::DyingWakes } else { Step::Dead },
            ..Process::default()
        };
    }
}
