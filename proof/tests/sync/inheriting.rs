//! The mutex with priority inheritance: this crate's lockers, the kernel's queue for
//! the word, and a reader that waits on the word by `FUTEX_WAIT`.
//!
//! The words beside the mutex (holder, poison) are those of the machine in `mutex.rs`,
//! and are left out here.
//!
//! # The steps, and where they are
//!
//! | step | in the code | reads, *writes* |
//! |---|---|---|
//! | `Load` | `inheriting::lock`: `pending` is set, the word read | *pending*, word |
//! | `Take` | `lock_pending`: compare and exchange, from 0 | *word* |
//! | `Request` | `request`: `FUTEX_LOCK_PI2` | word, queue, *word*, *queue* |
//! | `Queued` | asleep in the kernel; ended by the kernel's choice or by the end of the turn | |
//! | `Wake` | `request` after `EINVAL`: `FUTEX_WAKE` for all plain waiters | *queue* |
//! | `WaitOut` | `futex::wait_out`: until the turn ends | |
//! | `Look` | `lock_pending`, `finish_lock`: the word names this thread; `FUTEX_OWNER_DIED` is cleared | *word* |
//! | `Enlist` | `RobustList::push_front` | *list* |
//! | `Enlisted` | `RobustList::clear_pending` | *pending* |
//! | `WriteFirst`, `WriteSecond` | what a user does under the lock | *data* |
//! | `Announce` | `inheriting::unlock`: `pending` is set | *pending* |
//! | `Delist` | `RobustList::remove` | *list* |
//! | `Release` | `unlock_word`: compare and exchange, to 0 | *word* |
//! | `HandOver` | `unlock_word`: `FUTEX_UNLOCK_PI` | word, queue, *word*, *queue* |
//! | `WakeAgain` | `unlock_word` after `EINVAL`: `FUTEX_WAKE` for all plain waiters | *queue* |
//! | `LeaveToKernel` | `unlock_word`: the word becomes `FUTEX_WAITERS` | *word* |
//! | `Quiet` | `RobustList::clear_pending` | *pending* |
//! | `DyingOnList` | the kernel, `exit_robust_list` | *word* |
//! | `DyingInQueue` | the kernel, `exit_pi_state_list` | *queue* |
//!
//! The kernel's side is `kernel/futex/pi.c` of Linux 6.1 to 6.18, function by function:
//! `futex_lock_pi_atomic`, `attach_to_pi_state`, `attach_to_pi_owner`, `futex_unlock_pi`,
//! `fixup_pi_owner`, `exit_pi_state_list`. One thing decides about the design:
//! `fixup_pi_state_owner` writes the new owner into the word *without looking at what the
//! word says*. So a word that a thread has taken without the kernel is overwritten, if a
//! waiter of an earlier owner is still queued when that owner ends.
//!
//! # What is simpler than the truth
//!
//! * Priorities: the kernel may choose any of the waiters.
//! * An attempt that the kernel refuses is repeated once, not eight times.
//! * The reader comes and goes a limited number of times.

use stateright::{Model, Property};

use crate::check::{self, Machine, NOBODY_IS_STUCK, Size, nobody_is_stuck};

const PROCESSES: usize = 3;
/// Places in the kernel's queue: for each process and each wait of the reader.
const PLACES: usize = PROCESSES + READS;
const READS: usize = 2;

type Id = u8;

/// The lock word. `owner` is the owner's number plus one; 0 is no thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Word {
    owner: u8,
    waiters: bool,
    owner_died: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Step {
    #[default]
    Idle,
    Load,
    Take,
    Request,
    Queued,
    Wake,
    WaitOut,
    Look,
    Enlist,
    Enlisted,
    WriteFirst,
    WriteSecond,
    Announce,
    Delist,
    Release,
    HandOver,
    WakeAgain,
    LeaveToKernel,
    Quiet,
    DyingOnList,
    DyingInQueue,
    Dead,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Process {
    step: Step,
    pending: bool,
    listed: bool,
    /// It may still repeat what the kernel refused.
    may_repeat: bool,
    /// The word said that the last owner died.
    is_told: bool,
    rounds: u8,
}

/// A waiter in the kernel's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Waiter {
    #[default]
    None,
    /// `FUTEX_LOCK_PI2`.
    Locker(Id),
    /// `FUTEX_WAIT`.
    Plain,
    /// `FUTEX_WAIT_REQUEUE_PI`.
    ForRequeue,
}

/// For which owner the lockers in the queue wait: the kernel's `pi_state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Owner {
    /// No locker waits.
    #[default]
    NoState,
    Is(Id),
    /// It ended: the next waiter becomes the owner.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    word: Word,
    queue: [Waiter; PLACES],
    owner: Owner,
    processes: [Process; PROCESSES],
    deaths_left: u8,
    reads_left: u8,
    is_torn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Begin(Id),
    Go(Id),
    /// The kernel lets this waiter have the mutex.
    Choose(Id, Id),
    /// The owner ended, and this waiter becomes the owner.
    Succeed(Id),
    /// The turn of a wait ends.
    TurnEnds(Id),
    Die(Id),
    Read(Waiter),
    /// The reader's waits end.
    StopReading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// glibc: a refusal is taken for success.
    BelievesRefusals,
    /// The holder that can't hand the mutex on writes 0 into the word.
    ReleasesToZero,
    /// A locker takes a mutex without an owner by itself, whatever the flags say.
    TakesFromTheKernel,
    /// Plain waiters are left in the queue.
    WakesNoReader,
    /// A wait has no turns.
    WaitsForEver,
    /// The mutex is taken without `list_op_pending`.
    TakesUnannounced,
    /// The mutex is released without `list_op_pending`.
    ReleasesUnannounced,
    /// `FUTEX_OWNER_DIED` is not looked at.
    IsNotTold,
}

#[derive(Clone, Copy, Debug)]
struct Inheriting {
    mistake: Mistake,
    /// How the reader waits.
    reader: Waiter,
    deaths: u8,
    rounds: u8,
}

/// What the kernel answers.
#[derive(PartialEq, Eq)]
enum Answer {
    Assigned,
    Queued,
    Refused,
}

impl State {
    fn first(&self) -> Waiter {
        self.queue[0]
    }

    fn push(&mut self, waiter: Waiter) {
        let mut free = self.queue.iter_mut().filter(|at| **at == Waiter::None);
        *free.next().expect("there is a place for each") = waiter;
    }

    fn retain(&mut self, stays: impl Fn(Waiter) -> bool) {
        let mut queue = [Waiter::None; PLACES];
        let waiting = self.queue.into_iter();
        let staying = waiting.filter(|waiter| *waiter != Waiter::None && stays(*waiter));
        for (place, waiter) in queue.iter_mut().zip(staying) {
            *place = waiter;
        }
        self.queue = queue;
        let is_locker = |waiter: &Waiter| matches!(waiter, Waiter::Locker(_));
        if !self.queue.iter().any(is_locker) {
            self.owner = Owner::NoState;
        }
    }

    /// `FUTEX_WAKE` for all: ends at the first waiter that is no plain one.
    fn wake_plain(&mut self) {
        while self.first() == Waiter::Plain {
            self.queue.rotate_left(1);
            self.queue[PLACES - 1] = Waiter::None;
        }
    }

    /// `FUTEX_LOCK_PI2`: `futex_lock_pi_atomic`.
    fn lock_pi(&mut self, me: Id) -> Answer {
        match self.first() {
            Waiter::Plain | Waiter::ForRequeue => return Answer::Refused,
            Waiter::Locker(_) => {
                if !self.queue_agrees() {
                    return Answer::Refused;
                }
            }
            Waiter::None if self.word.owner == 0 => {
                self.word = Word {
                    owner: me + 1,
                    waiters: false,
                    owner_died: self.word.owner_died,
                };
                return Answer::Assigned;
            }
            Waiter::None => {
                self.word.waiters = true;
                let owner = self.word.owner - 1;
                if self.processes[owner as usize].step == Step::Dead {
                    return Answer::Refused;
                }
                self.owner = Owner::Is(owner);
            }
        }
        self.push(Waiter::Locker(me));
        Answer::Queued
    }

    /// `attach_to_pi_state`.
    fn queue_agrees(&self) -> bool {
        let word = self.word;
        match self.owner {
            Owner::NoState => false,
            Owner::Ended => word.owner_died && word.owner == 0,
            Owner::Is(_) if word.owner_died && word.owner == 0 => true,
            Owner::Is(owner) => word.owner == owner + 1,
        }
    }

    /// Whether the kernel would refuse this process.
    fn refuses(&self, me: Id) -> bool {
        self.clone().lock_pi(me) == Answer::Refused
    }

    fn is_alive(&self, id: Id) -> bool {
        let step = self.processes[id as usize].step;
        !matches!(step, Step::DyingOnList | Step::DyingInQueue | Step::Dead)
    }

    fn all(&self) -> impl Iterator<Item = (Id, &Process)> {
        (0..).zip(&self.processes)
    }
}

impl Inheriting {
    fn go(&self, state: &mut State, id: Id) -> Option<()> {
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

impl Model for Inheriting {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            word: Word::default(),
            queue: [Waiter::None; PLACES],
            owner: Owner::NoState,
            processes: [Process {
                rounds: self.rounds,
                ..Process::default()
            }; PROCESSES],
            deaths_left: self.deaths,
            reads_left: READS as u8,
            is_torn: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, process) in state.all() {
            let is_owner = state.owner == Owner::Is(id);
            match process.step {
                Step::Idle if process.rounds == 0 => {}
                Step::Idle => actions.push(Action::Begin(id)),
                Step::Queued if is_owner => actions.push(Action::Succeed(id)),
                Step::Queued => {
                    if state.owner == Owner::Ended {
                        actions.push(Action::Succeed(id));
                    }
                    if self.mistake != Mistake::WaitsForEver {
                        actions.push(Action::TurnEnds(id));
                    }
                }
                Step::WaitOut => actions.push(Action::TurnEnds(id)),
                Step::Dead => {}
                Step::HandOver if is_owner && matches!(state.first(), Waiter::Locker(_)) => {
                    let lockers = state.queue.iter().filter_map(|waiter| match waiter {
                        Waiter::Locker(next) => Some(Action::Choose(id, *next)),
                        _ => None,
                    });
                    actions.extend(lockers);
                }
                _ => actions.push(Action::Go(id)),
            }
            if state.deaths_left > 0 && state.is_alive(id) {
                actions.push(Action::Die(id));
            }
        }
        if state.reads_left > 0 && self.reader != Waiter::None {
            actions.push(Action::Read(self.reader));
        }
        if state.queue.contains(&self.reader) && self.reader != Waiter::None {
            actions.push(Action::StopReading);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Begin(id) => {
                let me = &mut state.processes[id as usize];
                me.rounds -= 1;
                me.may_repeat = true;
                me.step = Step::Load;
            }
            Action::Go(id) => self.go(&mut state, id)?,
            // `futex_unlock_pi`: the word and the state name the next owner, which is
            // still in the queue.
            Action::Choose(id, next) => {
                state.word = Word {
                    owner: next + 1,
                    waiters: true,
                    owner_died: false,
                };
                state.owner = Owner::Is(next);
                state.processes[id as usize].step = Step::Quiet;
            }
            // `fixup_pi_owner`: whatever the word says, unless it names this one.
            Action::Succeed(id) => {
                if state.owner == Owner::Ended {
                    state.word = Word {
                        owner: id + 1,
                        waiters: true,
                        owner_died: true,
                    };
                    state.owner = Owner::Is(id);
                }
                state.retain(|waiter| waiter != Waiter::Locker(id));
                state.processes[id as usize].step = Step::Look;
            }
            Action::TurnEnds(id) => {
                state.retain(|waiter| waiter != Waiter::Locker(id));
                let me = &mut state.processes[id as usize];
                me.may_repeat = true;
                me.step = Step::Load;
            }
            // It leaves the queue on its way out; if the mutex is its own, it has it.
            Action::Die(id) => {
                state.deaths_left -= 1;
                state.retain(|waiter| waiter != Waiter::Locker(id));
                state.processes[id as usize].step = Step::DyingOnList;
            }
            Action::Read(waiter) => {
                state.reads_left -= 1;
                state.push(waiter);
            }
            Action::StopReading => state.retain(|waiter| waiter != self.reader),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            nobody_is_stuck(),
            Property::always(ONE_AT_A_TIME, |_, state: &State| {
                let inside = state
                    .all()
                    .filter(|(id, process)| state.is_alive(*id) && is_inside(process));
                inside.count() <= 1
            }),
            Property::always(TOLD, |_, state: &State| {
                let enters = |process: &Process| process.step == Step::WriteFirst;
                let mut all = state.all();
                !state.is_torn || all.all(|(_, process)| !enters(process) || process.is_told)
            }),
        ]
    }
}

const ONE_AT_A_TIME: &str = "one at a time has the lock";
const TOLD: &str = "the next holder is told of a death";

fn is_inside(process: &Process) -> bool {
    process.listed || matches!(process.step, Step::Look | Step::Enlist | Step::Release)
}

impl Machine for Inheriting {
    fn must_come(&self, state: &State, action: Action) -> bool {
        match action {
            Action::Go(_) | Action::Choose(..) | Action::Succeed(_) => true,
            // Turns without an effect would be a circle.
            Action::TurnEnds(id) => match state.processes[id as usize].step {
                Step::Queued => !state.queue_agrees(),
                _ => !state.refuses(id),
            },
            // Only a wake ends a plain wait. Nothing but the reader ends the other kind.
            Action::StopReading => self.reader == Waiter::ForRequeue,
            Action::Begin(_) | Action::Die(_) | Action::Read(_) => false,
        }
    }

    fn is_settled(&self, state: &State) -> bool {
        let mut all = state.all();
        all.all(|(_, process)| matches!(process.step, Step::Idle | Step::Dead))
    }

    fn describe(&self, state: &State, action: Action) -> String {
        let step = |id: Id| state.processes[id as usize].step;
        match action {
            Action::Begin(id) => format!("{id} wants it"),
            Action::Go(id) => format!("{id} {:?}", step(id)),
            Action::Choose(id, next) => format!("{id} hands over to {next}"),
            Action::Succeed(id) => format!("{id} becomes the owner"),
            Action::TurnEnds(id) => format!("{id}'s turn ends"),
            Action::Die(id) => format!("{id} DIES"),
            Action::Read(how) => format!("the reader waits: {how:?}"),
            Action::StopReading => "the reader goes".to_owned(),
        }
    }
}

fn machine(mistake: Mistake, reader: Waiter) -> Inheriting {
    Inheriting {
        mistake,
        reader,
        deaths: 1,
        rounds: match Size::wanted() {
            Size::Small => 1,
            Size::Large => 2,
        },
    }
}

pub(crate) fn smoke() {
    let alone = Inheriting {
        deaths: 0,
        ..machine(Mistake::None, Waiter::None)
    };
    check::holds("no death, no reader", &alone);
}

#[test]
fn lockers_get_on_beside_a_reader() {
    for reader in [Waiter::None, Waiter::Plain, Waiter::ForRequeue] {
        let what = format!("reader {reader:?}");
        check::holds(&what, &machine(Mistake::None, reader));
    }
}

#[test]
fn each_mistake_is_found() {
    use Mistake as M;
    let (plain, requeue) = (Waiter::Plain, Waiter::ForRequeue);
    for (mistake, reader, property) in [
        (M::BelievesRefusals, plain, ONE_AT_A_TIME),
        (M::ReleasesToZero, requeue, ONE_AT_A_TIME),
        (M::TakesFromTheKernel, requeue, ONE_AT_A_TIME),
        (M::WakesNoReader, plain, NOBODY_IS_STUCK),
        (M::WaitsForEver, requeue, NOBODY_IS_STUCK),
        (M::TakesUnannounced, Waiter::None, NOBODY_IS_STUCK),
        (M::ReleasesUnannounced, Waiter::None, NOBODY_IS_STUCK),
        (M::IsNotTold, Waiter::None, TOLD),
    ] {
        let machine = Inheriting {
            rounds: 2,
            deaths: 1,
            ..machine(mistake, reader)
        };
        check::is_found(mistake, &machine, property);
    }
}
