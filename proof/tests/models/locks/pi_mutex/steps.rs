//! The steps: see the table of the model.

use super::state::{Id, Mistake, Owner, PiMutex, Process, Reply, State, Step, Waiter, Word};

impl PiMutex {
    pub(super) fn take_step(&self, state: &mut State, id: Id) -> Option<()> {
        use Mistake as M;
        let mistake = self.mistake;
        let mut me = state.processes[id as usize];
        match me.step {
            Step::Idle | Step::Waiting | Step::Pause | Step::Dead => return None,
            Step::Load => {
                me.pending = mistake != M::LockWithoutPending;
                let word = state.word;
                let is_free = match mistake {
                    M::KernelBypassed => word.owner == 0,
                    _ => word == Word::default(),
                };
                me.step = match () {
                    () if word.owner == id + 1 => Step::CheckWord,
                    () if is_free => Step::Exchange,
                    () => Step::FutexLockPi,
                };
            }
            Step::Exchange => {
                let is_free = match mistake {
                    M::KernelBypassed => state.word.owner == 0,
                    _ => state.word == Word::default(),
                };
                if is_free {
                    state.word.owner = id + 1;
                    me.step = Step::CheckWord;
                } else {
                    me.step = Step::Load;
                }
            }
            Step::FutexLockPi => {
                me.step = match state.lock_pi(id) {
                    Reply::Assigned => Step::CheckWord,
                    Reply::Queued => Step::Waiting,
                    Reply::Refused if mistake == M::RefusalIgnored => Step::CheckWord,
                    Reply::Refused => Step::WakePlainWaiters,
                };
            }
            Step::WakePlainWaiters => {
                if mistake != M::PlainWaitersNotWoken {
                    state.wake_plain();
                }
                me.step = if me.may_retry {
                    Step::Load
                } else {
                    Step::Pause
                };
                me.may_retry = false;
            }
            Step::CheckWord => {
                me.sees_owner_death = state.word.owner_died && mistake != M::OwnerDeathIgnored;
                state.word.owner_died = false;
                me.step = Step::PushFront;
            }
            Step::PushFront => {
                me.listed = true;
                me.step = Step::LockClearPending;
            }
            Step::LockClearPending => {
                me.pending = false;
                me.step = Step::WriteFirst;
            }
            Step::WriteFirst => {
                me.sees_owner_death = false;
                state.is_torn = true;
                me.step = Step::WriteSecond;
            }
            Step::WriteSecond => {
                state.is_torn = false;
                me.step = Step::SetPending;
            }
            Step::SetPending => {
                me.pending = mistake != M::UnlockWithoutPending;
                me.step = Step::RemoveFromList;
            }
            Step::RemoveFromList => {
                me.listed = false;
                me.may_retry = true;
                me.step = Step::ReleaseWord;
            }
            Step::ReleaseWord => {
                let mine = Word {
                    owner: id + 1,
                    ..Word::default()
                };
                if state.word == mine {
                    state.word = Word::default();
                    me.step = Step::UnlockClearPending;
                } else {
                    me.step = Step::FutexUnlockPi;
                }
            }
            // With a locker first in the queue that agrees with the word, it is
            // `Action::HandOver`.
            Step::FutexUnlockPi => match state.first() {
                Waiter::None => {
                    state.word = Word::default();
                    me.step = Step::UnlockClearPending;
                }
                Waiter::LockPi(_) if state.owner == Owner::Is(id) => return None,
                _ if mistake == M::RefusalIgnored => me.step = Step::UnlockClearPending,
                _ => me.step = Step::WakePlainWaitersAgain,
            },
            Step::WakePlainWaitersAgain => {
                if mistake != M::PlainWaitersNotWoken {
                    state.wake_plain();
                }
                me.step = if me.may_retry {
                    Step::FutexUnlockPi
                } else {
                    Step::ReleaseToKernel
                };
                me.may_retry = false;
            }
            Step::ReleaseToKernel => {
                state.word = Word {
                    waiters: mistake != M::ReleaseToZero,
                    ..Word::default()
                };
                me.step = Step::UnlockClearPending;
            }
            Step::UnlockClearPending => {
                me.pending = false;
                me.step = Step::Idle;
            }
            Step::ExitRobustList => {
                if (me.pending || me.listed) && state.word.owner == id + 1 {
                    state.word.owner = 0;
                    state.word.owner_died = true;
                }
                me.step = Step::ExitPiStateList;
            }
            Step::ExitPiStateList => {
                if state.owner == Owner::Is(id) {
                    state.owner = Owner::Ended;
                }
                me = Process {
                    step: Step::Dead,
                    ..Process::default()
                };
            }
        }
        state.processes[id as usize] = me;
        Some(())
    }
}
