//! Random histories of lock, unlock, death, panic and recovery. Processes run them, and
//! each step is compared with a small model.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::support::{Child, die, on_stage, spawn};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shm_sync::{LockError, LockResult, PoisonCause, Poisoned, Segment, ShmMutex, ShmMutexGuard};

const PLAYERS: usize = 3;

/// A command for a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Order {
    TryLock,
    TimedLock,
    /// Unlocks without a repair. Poison stays.
    Unlock,
    /// Repairs the data, and keeps the lock.
    Recover,
    /// Keeps the lock and the data as they are.
    IntoInner,
    /// Dies during a repair.
    DieRepairing,
    Die,
    Panic,
    ClearPoison,
    IsPoisoned,
}

const ORDERS: [Order; 10] = [
    Order::TryLock,
    Order::TimedLock,
    Order::Unlock,
    Order::Recover,
    Order::IntoInner,
    Order::DieRepairing,
    Order::Die,
    Order::Panic,
    Order::ClearPoison,
    Order::IsPoisoned,
];

/// The answer of a player, or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Answer {
    Clean,
    PoisonedByDeath,
    PoisonedByPanic,
    WouldBlock,
    TimedOut,
    Deadlock,
    Yes,
    No,
    Done,
    /// The order does not apply to a player that holds, or does not hold, the lock.
    Invalid,
    Died,
}

impl Answer {
    fn of_cause(cause: PoisonCause) -> Self {
        match cause {
            PoisonCause::Panicked { .. } => Self::PoisonedByPanic,
            _ => Self::PoisonedByDeath,
        }
    }

    fn from_byte(byte: u8) -> Self {
        [
            Self::Clean,
            Self::PoisonedByDeath,
            Self::PoisonedByPanic,
            Self::WouldBlock,
            Self::TimedOut,
            Self::Deadlock,
            Self::Yes,
            Self::No,
            Self::Done,
            Self::Invalid,
            Self::Died,
        ][usize::from(byte)]
    }
}

/// A robust mutex with persistent poison.
#[derive(Clone, Copy, Debug, Default)]
struct Model {
    holder: Option<usize>,
    /// Why the mutex is poisoned.
    poison: Option<Poison>,
    /// The holder got `Poisoned` and has not decided what to do.
    undecided: bool,
    /// A holder died, and no locker has noticed.
    owner_died: bool,
}

#[derive(Clone, Copy, Debug)]
enum Poison {
    Death,
    Panic,
}

impl Model {
    fn apply(&mut self, player: usize, order: Order) -> Answer {
        let holds = self.holder == Some(player);
        match order {
            Order::TryLock if self.holder.is_some() => Answer::WouldBlock,
            Order::TimedLock if holds => Answer::Deadlock,
            Order::TimedLock if self.holder.is_some() => Answer::TimedOut,
            Order::TryLock | Order::TimedLock => {
                self.holder = Some(player);
                if std::mem::take(&mut self.owner_died) {
                    self.poison = Some(Poison::Death);
                }
                self.undecided = self.poison.is_some();
                match self.poison {
                    None => Answer::Clean,
                    Some(Poison::Death) => Answer::PoisonedByDeath,
                    Some(Poison::Panic) => Answer::PoisonedByPanic,
                }
            }
            Order::IsPoisoned if self.poison.is_some() || self.owner_died => Answer::Yes,
            Order::IsPoisoned => Answer::No,
            Order::ClearPoison => {
                self.poison = None;
                Answer::Done
            }
            Order::Die => {
                self.owner_died |= holds;
                self.holder = self.holder.filter(|_| !holds);
                Answer::Died
            }
            _ if !holds => Answer::Invalid,
            Order::Unlock => {
                self.holder = None;
                Answer::Done
            }
            Order::Panic => {
                self.holder = None;
                self.poison = Some(Poison::Panic);
                Answer::Done
            }
            Order::Recover | Order::IntoInner | Order::DieRepairing if !self.undecided => {
                Answer::Invalid
            }
            Order::Recover => {
                self.poison = None;
                self.undecided = false;
                Answer::Done
            }
            Order::IntoInner => {
                self.undecided = false;
                Answer::Done
            }
            Order::DieRepairing => {
                self.holder = None;
                self.owner_died = true;
                Answer::Died
            }
        }
    }
}

/// The lock as a player holds it.
enum Held<'a> {
    Empty,
    Guard(#[expect(dead_code, reason = "held, never read")] ShmMutexGuard<'a, u64>),
    Poisoned(Poisoned<ShmMutexGuard<'a, u64>>),
}

struct Player {
    process: Child,
    orders: PipeWriter,
    answers: PipeReader,
}

impl Player {
    fn enter(lock: &ShmMutex<u64>) -> Self {
        let (mut read_orders, orders) = std::io::pipe().unwrap();
        let (answers, mut write_answers) = std::io::pipe().unwrap();
        let ours = orders.try_clone().unwrap();
        let process = spawn(|| {
            drop(ours);
            let mut held = Held::Empty;
            let mut byte = [0];
            while read_orders.read_exact(&mut byte).is_ok() {
                let order = ORDERS[usize::from(byte[0])];
                let (next, answer) = execute(lock, held, order);
                held = next;
                write_answers.write_all(&[answer as u8]).unwrap();
            }
        });
        Self {
            process,
            orders,
            answers,
        }
    }

    fn send(&mut self, order: Order) -> Answer {
        self.orders.write_all(&[order as u8]).unwrap();
        let mut byte = [0];
        match self.answers.read_exact(&mut byte) {
            Ok(()) => Answer::from_byte(byte[0]),
            Err(_) => Answer::Died,
        }
    }
}

fn execute<'a>(lock: &'a ShmMutex<u64>, held: Held<'a>, order: Order) -> (Held<'a>, Answer) {
    match (order, held) {
        (Order::TryLock, held) => locked(lock.try_lock(), held),
        (Order::TimedLock, held) => locked(lock.try_lock_for(Duration::from_millis(3)), held),
        (Order::IsPoisoned, held) if lock.is_poisoned() => (held, Answer::Yes),
        (Order::IsPoisoned, held) => (held, Answer::No),
        (Order::ClearPoison, held) => {
            lock.clear_poison();
            (held, Answer::Done)
        }
        (Order::Die, _held) => die(),
        (_, Held::Empty) => (Held::Empty, Answer::Invalid),
        (Order::Unlock, _held) => (Held::Empty, Answer::Done),
        (Order::Panic, held) => {
            let result = catch_unwind(AssertUnwindSafe(move || {
                let _held = held;
                std::panic::resume_unwind(Box::new("on purpose, without a message"));
            }));
            assert!(result.is_err());
            (Held::Empty, Answer::Done)
        }
        (Order::Recover, Held::Poisoned(p)) => {
            (Held::Guard(p.recover(|value| *value += 1)), Answer::Done)
        }
        (Order::IntoInner, Held::Poisoned(p)) => (Held::Guard(p.into_inner()), Answer::Done),
        (Order::DieRepairing, Held::Poisoned(p)) => {
            drop(p.recover(|_| die()));
            unreachable!("the process died")
        }
        (_, held) => (held, Answer::Invalid),
    }
}

fn locked<'a>(result: LockResult<ShmMutexGuard<'a, u64>>, held: Held<'a>) -> (Held<'a>, Answer) {
    match result {
        Ok(guard) => (Held::Guard(guard), Answer::Clean),
        Err(LockError::Poisoned(p)) => {
            let answer = Answer::of_cause(p.cause());
            (Held::Poisoned(p), answer)
        }
        Err(LockError::WouldBlock) => (held, Answer::WouldBlock),
        Err(LockError::TimedOut) => (held, Answer::TimedOut),
        Err(LockError::Deadlock) => (held, Answer::Deadlock),
        Err(other) => panic!("{other:?}"),
    }
}

fn history() -> impl Strategy<Value = Vec<(usize, Order)>> {
    let order = prop_oneof![
        4 => Just(Order::TryLock),
        1 => Just(Order::TimedLock),
        3 => Just(Order::Unlock),
        3 => Just(Order::Recover),
        1 => Just(Order::IntoInner),
        1 => Just(Order::DieRepairing),
        2 => Just(Order::Die),
        1 => Just(Order::Panic),
        1 => Just(Order::ClearPoison),
        2 => Just(Order::IsPoisoned),
    ];
    proptest::collection::vec((0..PLAYERS, order), 1..60)
}

on_stage! {
    fn smoke() {
        play(&[
            (0, Order::TryLock),
            (1, Order::TryLock),
            (0, Order::Die),
            (1, Order::IsPoisoned),
            (1, Order::TryLock),
            (1, Order::DieRepairing),
            (2, Order::TryLock),
            (2, Order::Recover),
            (2, Order::Panic),
            (0, Order::TimedLock),
        ])
        .unwrap();
    }

    fn history_matches_model() {
        let mut runner = TestRunner::new(Config {
            cases: 150,
            failure_persistence: None,
            ..Config::default()
        });
        runner.run(&history(), |history| play(&history)).unwrap();
    }
}

/// Runs a history. Dead players are replaced.
fn play(history: &[(usize, Order)]) -> Result<(), TestCaseError> {
    let lock = Segment::anonymous(ShmMutex::new(0_u64)).unwrap();
    let mut players: Vec<Player> = (0..PLAYERS).map(|_| Player::enter(&lock)).collect();
    let mut model = Model::default();
    for (step, &(player, order)) in history.iter().enumerate() {
        let expected = model.apply(player, order);
        let answer = players[player].send(order);
        prop_assert_eq!(answer, expected, "step {} ({}, {:?})", step, player, order);
        let holder = model.holder.map(|player| players[player].process.pid());
        if !model.owner_died {
            prop_assert_eq!(
                lock.holder().map(|holder| holder.pid),
                holder,
                "step {}",
                step
            );
        }
        if answer == Answer::Died {
            players[player] = Player::enter(&lock);
        }
    }
    Ok(())
}
