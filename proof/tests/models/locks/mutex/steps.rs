//! What each step does: the table in the documentation of the model.

use super::state::{
    Consistency, Found, Id, Kernel, Mistake, Mutex, Patience, Poison, Process, State, Step, Word,
};

impl Mutex {
    /// One after the other, in the order of the code. `None`: this step can't be now.
    pub(super) fn go(&self, state: &mut State, id: Id) -> Option<()> {
        use Mistake as M;
        let mistake = self.mistake;
        let me = &mut state.processes[id as usize];
        match me.step {
            Step::Idle | Step::Queued | Step::Wake | Step::DyingWakes | Step::Dead => return None,
            Step::Load | Step::Reload => {
                me.pending = mistake != M::TakesUnannounced;
                me.seen = state.word;
                me.step = Step::Take;
            }
            Step::Take => self.take(state, id),
            Step::Sleep => {
                if state.word == me.seen {
                    state.queue |= 1 << id;
                    me.seen = Word::FREE;
                    me.step = Step::Queued;
                } else {
                    me.step = Step::Reload;
                }
            }
            Step::Enlist => {
                me.listed = true;
                me.seen = Word::FREE;
                me.assumes_waiters = false;
                if me.found == Found::OwnerDied {
                    state.consistency = Consistency::Inconsistent;
                }
                me.step = Step::Enlisted;
            }
            Step::Enlisted => {
                me.pending = false;
                me.step = match me.found {
                    Found::Free => Step::Name,
                    Found::OwnerDied if mistake == M::NoMark => Step::Consistent,
                    Found::OwnerDied if mistake == M::MarksAfterConsistent => Step::Consistent,
                    Found::OwnerDied => Step::Mark,
                };
            }
            Step::Mark => {
                if mistake == M::NamesItselfFirst {
                    state.holder = id + 1;
                }
                state.poison = Poison::OwnerDied(state.holder);
                me.step = Step::Count;
            }
            Step::Count => {
                state.is_uncounted = false;
                me.step = match mistake {
                    M::MarksAfterConsistent => Step::Name,
                    _ => Step::Consistent,
                };
            }
            Step::Consistent => {
                if mistake != M::NotConsistent {
                    state.consistency = Consistency::Consistent;
                }
                me.step = match mistake {
                    M::MarksAfterConsistent => Step::Mark,
                    _ => Step::Name,
                };
            }
            Step::Name => {
                state.holder = id + 1;
                me.found = Found::Free;
                me.step = Step::Judge;
            }
            Step::Judge => {
                me.step = match state.poison {
                    Poison::Clean => Step::WriteFirst,
                    _ if mistake == M::ClearsFirst => Step::Clear,
                    _ => Step::RepairFirst,
                };
            }
            Step::WriteFirst => {
                state.is_torn = true;
                me.step = Step::WriteSecond;
            }
            Step::WriteSecond => {
                state.is_torn = false;
                me.step = Step::Unname;
            }
            Step::RepairFirst => {
                state.is_torn = true;
                me.step = Step::RepairSecond;
            }
            Step::RepairSecond => {
                state.is_torn = false;
                state.is_in_doubt = false;
                me.step = match mistake {
                    M::ClearsFirst => Step::Unname,
                    _ => Step::Clear,
                };
            }
            Step::Clear => {
                state.poison = Poison::Clean;
                me.step = match mistake {
                    M::ClearsFirst => Step::RepairFirst,
                    _ => Step::Unname,
                };
            }
            Step::MarkPanic => {
                state.poison = Poison::Panicked(state.holder);
                me.marks_later = false;
                me.step = Step::CountPanic;
            }
            Step::CountPanic => {
                state.is_uncounted &= mistake == M::PanicUncounted;
                me.step = match mistake {
                    M::PanicMarksAfterUnlock => Step::Idle,
                    _ => Step::Unname,
                };
            }
            Step::Unname => {
                if mistake != M::NameStays {
                    state.holder = 0;
                }
                if mistake == M::UnlockClears {
                    state.poison = Poison::Clean;
                }
                me.step = Step::Announce;
            }
            Step::Announce => {
                me.pending = mistake != M::ReleasesUnannounced;
                me.step = Step::Delist;
            }
            Step::Delist => {
                me.listed = false;
                if state.consistency == Consistency::Inconsistent {
                    state.consistency = Consistency::NotRecoverable;
                }
                me.step = Step::Release;
            }
            Step::Release => {
                me.step = match state.word.waiters {
                    true => Step::Wake,
                    false => Step::Quiet,
                };
                me.pending &= mistake != M::QuietBeforeWake;
                state.word = Word::FREE;
            }
            Step::Quiet => {
                me.pending = false;
                me.step = match mistake {
                    M::PanicMarksAfterUnlock if me.marks_later => Step::MarkPanic,
                    _ => Step::Idle,
                };
            }
            Step::Dying => self.bury(state, id),
        }
        Some(())
    }

    /// The loop of whoever waits, from one look at the word to the next.
    pub(super) fn take(&self, state: &mut State, id: Id) {
        let me = &mut state.processes[id as usize];
        let seen = me.seen;
        let waiters = me.assumes_waiters && self.mistake != Mistake::ForgetsOtherWaiters;
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
        if found.is_none() && me.patience == Patience::None {
            *me = Process {
                rounds: me.rounds,
                ..Process::default()
            };
            return;
        }
        if state.word != seen {
            me.seen = state.word;
            return; // once more
        }
        state.word = wanted;
        match found {
            Some(found) => {
                me.found = found;
                me.patience = Patience::Forever;
                me.step = Step::Enlist;
            }
            None => {
                me.seen = wanted;
                me.assumes_waiters = true;
                me.step = Step::Sleep;
            }
        }
    }

    /// What the kernel does for the dead.
    pub(super) fn bury(&self, state: &mut State, id: Id) {
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
            self.kernel == Kernel::Mended
        } else {
            self.mistake != Mistake::WakesOnZeroOnly || word == Word::FREE
        };
        *me = Process {
            step: if wakes { Step::DyingWakes } else { Step::Dead },
            ..Process::default()
        };
    }
}
