//! What each step does: the table in the documentation of the model.

use super::state::{Answer, Id, Inheriting, Mistake, Owner, Process, State, Step, Waiter, Word};

impl Inheriting {
    pub(super) fn go(&self, state: &mut State, id: Id) -> Option<()> {
        use Mistake as M;
        let mistake = self.mistake;
        let mut me = state.processes[id as usize];
        match me.step {
            Step::Idle | Step::Queued | Step::WaitOut | Step::Dead => return None,
            Step::Load => {
                me.pending = mistake != M::TakesUnannounced;
                let word = state.word;
                let is_free = match mistake {
                    M::TakesFromTheKernel => word.owner == 0,
                    _ => word == Word::default(),
                };
                me.step = match () {
                    () if word.owner == id + 1 => Step::Look,
                    () if is_free => Step::Take,
                    () => Step::Request,
                };
            }
            Step::Take => {
                let is_free = match mistake {
                    M::TakesFromTheKernel => state.word.owner == 0,
                    _ => state.word == Word::default(),
                };
                if is_free {
                    state.word.owner = id + 1;
                    me.step = Step::Look;
                } else {
                    me.step = Step::Load;
                }
            }
            Step::Request => {
                me.step = match state.lock_pi(id) {
                    Answer::Assigned => Step::Look,
                    Answer::Queued => Step::Queued,
                    Answer::Refused if mistake == M::BelievesRefusals => Step::Look,
                    Answer::Refused => Step::Wake,
                };
            }
            Step::Wake => {
                if mistake != M::WakesNoReader {
                    state.wake_plain();
                }
                me.step = if me.may_repeat {
                    Step::Load
                } else {
                    Step::WaitOut
                };
                me.may_repeat = false;
            }
            Step::Look => {
                me.is_told = state.word.owner_died && mistake != M::IsNotTold;
                state.word.owner_died = false;
                me.step = Step::Enlist;
            }
            Step::Enlist => {
                me.listed = true;
                me.step = Step::Enlisted;
            }
            Step::Enlisted => {
                me.pending = false;
                me.step = Step::WriteFirst;
            }
            Step::WriteFirst => {
                me.is_told = false;
                state.is_torn = true;
                me.step = Step::WriteSecond;
            }
            Step::WriteSecond => {
                state.is_torn = false;
                me.step = Step::Announce;
            }
            Step::Announce => {
                me.pending = mistake != M::ReleasesUnannounced;
                me.step = Step::Delist;
            }
            Step::Delist => {
                me.listed = false;
                me.may_repeat = true;
                me.step = Step::Release;
            }
            Step::Release => {
                let mine = Word {
                    owner: id + 1,
                    ..Word::default()
                };
                if state.word == mine {
                    state.word = Word::default();
                    me.step = Step::Quiet;
                } else {
                    me.step = Step::HandOver;
                }
            }
            // With a locker first in the queue it is `Choose`, if the queue agrees.
            Step::HandOver => match state.first() {
                Waiter::None => {
                    state.word = Word::default();
                    me.step = Step::Quiet;
                }
                Waiter::Locker(_) if state.owner == Owner::Is(id) => return None,
                _ if mistake == M::BelievesRefusals => me.step = Step::Quiet,
                _ => me.step = Step::WakeAgain,
            },
            Step::WakeAgain => {
                if mistake != M::WakesNoReader {
                    state.wake_plain();
                }
                me.step = if me.may_repeat {
                    Step::HandOver
                } else {
                    Step::LeaveToKernel
                };
                me.may_repeat = false;
            }
            Step::LeaveToKernel => {
                state.word = Word {
                    waiters: mistake != M::ReleasesToZero,
                    ..Word::default()
                };
                me.step = Step::Quiet;
            }
            Step::Quiet => {
                me.pending = false;
                me.step = Step::Idle;
            }
            Step::DyingOnList => {
                if (me.pending || me.listed) && state.word.owner == id + 1 {
                    state.word.owner = 0;
                    state.word.owner_died = true;
                }
                me.step = Step::DyingInQueue;
            }
            Step::DyingInQueue => {
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
