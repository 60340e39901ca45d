//! What each step does: the table in `mutex.rs`, as a machine.

use stateright::{Model, Property};

use super::{
    Action, Consistency, Found, Id, Kernel, Mistake, Mutex, Names, PROCESSES, Patience, Poison,
    Process, Sleep, State, Step, UNLIMITED, Word, tests,
};
use crate::check::Machine;

impl Mutex {
    /// One after the other, in the order of the code. `None`: this step can't be now.
    fn go(&self, state: &mut State, id: Id) -> Option<()> {
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
    fn take(&self, state: &mut State, id: Id) {
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
    fn bury(&self, state: &mut State, id: Id) {
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

impl Model for Mutex {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            word: Word::FREE,
            consistency: Consistency::Consistent,
            holder: 0,
            poison: Poison::Clean,
            is_torn: false,
            queue: 0,
            processes: [Process {
                rounds: self.rounds,
                ..Process::default()
            }; PROCESSES],
            names: Names([0, 1, 2]),
            deaths_left: self.deaths,
            is_in_doubt: false,
            is_uncounted: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, process) in state.all() {
            match process.step {
                Step::Idle if process.rounds == 0 => {}
                Step::Idle => {
                    actions.push(Action::Begin(id, Patience::Forever));
                    actions.push(Action::Begin(id, Patience::Limited));
                }
                Step::Queued
                    if process.patience == Patience::Limited || self.sleep == Sleep::InTurns =>
                {
                    actions.push(Action::TimeOut(id));
                }
                Step::Queued | Step::Dead => {}
                Step::Wake | Step::DyingWakes => {
                    let asleep = (0..)
                        .take(PROCESSES)
                        .filter(|who| state.queue & 1 << who != 0);
                    actions.extend(asleep.map(|who| Action::Wake(id, Some(who))));
                    if state.queue == 0 {
                        actions.push(Action::Wake(id, None));
                    }
                }
                _ => actions.push(Action::Go(id)),
            }
            match process.step {
                Step::WriteFirst | Step::WriteSecond => actions.push(Action::Panic(id)),
                Step::RepairFirst => actions.extend([Action::Panic(id), Action::Leave(id)]),
                Step::RepairSecond => actions.push(Action::Panic(id)),
                _ => {}
            }
            if state.deaths_left > 0 && state.is_alive(id) {
                actions.push(Action::Die(id));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Begin(id, patience) => {
                let me = &mut state.processes[id as usize];
                if patience == Patience::Limited && state.word.owner != 0 {
                    return None; // busy
                }
                if me.rounds != UNLIMITED {
                    me.rounds -= 1;
                }
                me.patience = patience;
                me.step = Step::Load;
            }
            Action::Go(id) => self.go(&mut state, id)?,
            Action::Wake(id, who) => {
                if let Some(who) = who {
                    state.queue &= !(1 << who);
                    let woken = &mut state.processes[who as usize].step;
                    // A dying one takes its wakeup along.
                    if *woken == Step::Queued {
                        *woken = Step::Reload;
                    }
                }
                let me = &mut state.processes[id as usize];
                me.step = match me.step {
                    Step::DyingWakes => Step::Dead,
                    _ => Step::Quiet,
                };
            }
            Action::TimeOut(id) => {
                state.queue &= !(1 << id);
                let me = &mut state.processes[id as usize];
                *me = Process {
                    step: Step::Load,
                    patience: match me.patience {
                        Patience::Forever => Patience::Forever,
                        _ => Patience::None,
                    },
                    // Kept for as long as it waits.
                    pending: me.pending,
                    assumes_waiters: me.assumes_waiters,
                    rounds: me.rounds,
                    ..Process::default()
                };
            }
            Action::Panic(id) => {
                let me = &mut state.processes[id as usize];
                me.marks_later = self.mistake == Mistake::PanicMarksAfterUnlock;
                me.step = match me.marks_later {
                    true => Step::Unname,
                    false => Step::MarkPanic,
                };
                state.is_in_doubt = true;
                state.is_uncounted = true;
            }
            Action::Leave(id) => state.processes[id as usize].step = Step::Unname,
            Action::Die(id) => {
                if state.word.is_owned_by(id) {
                    state.is_in_doubt = true;
                    state.is_uncounted = true;
                }
                state.deaths_left -= 1;
                state.processes[id as usize].step = Step::Dying;
            }
        }
        Some(state.sorted())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        tests::properties()
    }
}

impl Machine for Mutex {
    fn must_come(&self, state: &State, action: Action) -> bool {
        match action {
            Action::Go(_) | Action::Wake(..) => true,
            // For ever without reason would be in circles.
            Action::TimeOut(id) => match state.processes[id as usize].patience {
                Patience::Forever => !state.word.waiters || state.word.owner_died,
                _ => true,
            },
            _ => false,
        }
    }

    /// Nobody sleeps, and nobody is at work.
    fn is_settled(&self, state: &State) -> bool {
        let mut all = state.all();
        all.all(|(_, process)| matches!(process.step, Step::Idle | Step::Dead))
    }

    fn describe(&self, state: &State, action: Action) -> String {
        let name = |id: Id| state.names.0[id as usize];
        let step = |id: Id| state.processes[id as usize].step;
        match action {
            Action::Begin(id, patience) => format!("{} wants it {patience:?}", name(id)),
            Action::Go(id) | Action::Wake(id, None) => format!("{} {:?}", name(id), step(id)),
            Action::Wake(id, Some(who)) => format!("{} wakes {}", name(id), name(who)),
            Action::TimeOut(id) => format!("{} times out", name(id)),
            Action::Panic(id) => format!("{} PANICS", name(id)),
            Action::Leave(id) => format!("{} leaves it poisoned", name(id)),
            Action::Die(id) => format!("{} DIES", name(id)),
        }
    }
}
