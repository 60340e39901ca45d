//! Random histories of lock, unlock, die, panic and recover, played by real
//! processes and compared step by step with a model of a dozen lines.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::support::{Child, die, on_stage, spawn};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shm_sync::{LockError, LockResult, PoisonCause, Poisoned, Segment, ShmMutex, ShmMutexGuard};

const PLAYERS: usize = 3;

/// What a player can be told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Order {
    TryLock,
    TimedLock,
    /// Gives the lock back as it is, poison included.
    Unlock,
    /// Repairs, and keeps the lock.
    Recover,
    /// Uses the data as it is, and keeps the lock.
    IntoInner,
    /// Begins to repair, and dies.
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

/// What a player says, or what its end says for it.
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
    /// The order makes no sense for one that holds, or does not hold, the lock.
    Pointless,
    Dead,
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
            Self::Pointless,
            Self::Dead,
        ][usize::from(byte)]
    }
}

// ------------------------------------------------------------------ the model

/// All there is to know about a robust mutex with persistent poison.
#[derive(Clone, Copy, Debug, Default)]
struct Model {
    holder: Option<usize>,
    /// How the last unlucky holder ended, until somebody vouches for the data.
    poison: Option<Poison>,
    /// Whether the holder has been told, and not decided what to do.
    undecided: bool,
    /// A holder has died, and nobody has come across it.
    unnoticed: bool,
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
                if std::mem::take(&mut self.unnoticed) {
                    self.poison = Some(Poison::Death);
                }
                self.undecided = self.poison.is_some();
                match self.poison {
                    None => Answer::Clean,
                    Some(Poison::Death) => Answer::PoisonedByDeath,
                    Some(Poison::Panic) => Answer::PoisonedByPanic,
                }
            }
            Order::IsPoisoned if self.poison.is_some() || self.unnoticed => Answer::Yes,
            Order::IsPoisoned => Answer::No,
            Order::ClearPoison => {
                self.poison = None;
                Answer::Done
            }
            Order::Die => {
                self.unnoticed |= holds;
                self.holder = self.holder.filter(|_| !holds);
                Answer::Dead
            }
            _ if !holds => Answer::Pointless,
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
                Answer::Pointless
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
                self.unnoticed = true;
                Answer::Dead
            }
        }
    }
}

// ---------------------------------------------------------------- the players

/// What a player holds.
enum Hand<'a> {
    Empty,
    Guard(#[expect(dead_code, reason = "held, not looked at")] ShmMutexGuard<'a, u64>),
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
            let mut hand = Hand::Empty;
            let mut byte = [0];
            while read_orders.read_exact(&mut byte).is_ok() {
                let order = ORDERS[usize::from(byte[0])];
                let (next, answer) = obey(lock, hand, order);
                hand = next;
                write_answers.write_all(&[answer as u8]).unwrap();
            }
        });
        Self {
            process,
            orders,
            answers,
        }
    }

    fn tell(&mut self, order: Order) -> Answer {
        self.orders.write_all(&[order as u8]).unwrap();
        let mut byte = [0];
        match self.answers.read_exact(&mut byte) {
            Ok(()) => Answer::from_byte(byte[0]),
            Err(_) => Answer::Dead,
        }
    }
}

fn obey<'a>(lock: &'a ShmMutex<u64>, hand: Hand<'a>, order: Order) -> (Hand<'a>, Answer) {
    match (order, hand) {
        (Order::TryLock, hand) => took(lock.try_lock(), hand),
        (Order::TimedLock, hand) => took(lock.try_lock_for(Duration::from_millis(3)), hand),
        (Order::IsPoisoned, hand) if lock.is_poisoned() => (hand, Answer::Yes),
        (Order::IsPoisoned, hand) => (hand, Answer::No),
        (Order::ClearPoison, hand) => {
            lock.clear_poison();
            (hand, Answer::Done)
        }
        (Order::Die, _hand) => die(),
        (_, Hand::Empty) => (Hand::Empty, Answer::Pointless),
        (Order::Unlock, _hand) => (Hand::Empty, Answer::Done),
        (Order::Panic, hand) => {
            let result = catch_unwind(AssertUnwindSafe(move || {
                let _hand = hand;
                std::panic::resume_unwind(Box::new("on purpose, without a message"));
            }));
            assert!(result.is_err());
            (Hand::Empty, Answer::Done)
        }
        (Order::Recover, Hand::Poisoned(p)) => {
            (Hand::Guard(p.recover(|value| *value += 1)), Answer::Done)
        }
        (Order::IntoInner, Hand::Poisoned(p)) => (Hand::Guard(p.into_inner()), Answer::Done),
        (Order::DieRepairing, Hand::Poisoned(p)) => {
            drop(p.recover(|_| die()));
            unreachable!("it died")
        }
        (_, hand) => (hand, Answer::Pointless),
    }
}

fn took<'a>(result: LockResult<ShmMutexGuard<'a, u64>>, hand: Hand<'a>) -> (Hand<'a>, Answer) {
    match result {
        Ok(guard) => (Hand::Guard(guard), Answer::Clean),
        Err(LockError::Poisoned(p)) => {
            let answer = Answer::of_cause(p.cause());
            (Hand::Poisoned(p), answer)
        }
        Err(LockError::WouldBlock) => (hand, Answer::WouldBlock),
        Err(LockError::TimedOut) => (hand, Answer::TimedOut),
        Err(LockError::Deadlock) => (hand, Answer::Deadlock),
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

/// Plays a history. The dead are replaced.
fn play(history: &[(usize, Order)]) -> Result<(), TestCaseError> {
    let lock = Segment::anonymous(ShmMutex::new(0_u64)).unwrap();
    let mut players: Vec<Player> = (0..PLAYERS).map(|_| Player::enter(&lock)).collect();
    let mut model = Model::default();
    for (step, &(player, order)) in history.iter().enumerate() {
        let expected = model.apply(player, order);
        let answer = players[player].tell(order);
        prop_assert_eq!(answer, expected, "step {} ({}, {:?})", step, player, order);
        let holder = model.holder.map(|player| players[player].process.pid());
        if !model.unnoticed {
            prop_assert_eq!(
                lock.holder().map(|holder| holder.pid),
                holder,
                "step {}",
                step
            );
        }
        if answer == Answer::Dead {
            players[player] = Player::enter(&lock);
        }
    }
    Ok(())
}
