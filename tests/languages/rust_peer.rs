//! The peer in Rust: this program, started once more.

use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::atomic::{Ordering, compiler_fence};
use std::time::{Duration, Instant};

use shm_sync::{
    Error, LockError, LockResult, PoisonCause, Poisoned, Receiver, RecvError, RecvTimeoutError,
    Segment, SemaphorePermit, SendError, SendTimeoutError, Sender, ShmEvent, ShmMutexGuard,
    TryRecvError, TrySendError,
};

use crate::world::{self, CAPACITY, ENDPOINTS, Ledger, PERMITS, WORKERS, World};

const PEER: &str = "SHM_SYNC_TEST_PEER";

/// Returns the command that starts this peer.
pub(crate) fn command() -> Command {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.env(PEER, "rust");
    command
}

/// Runs before `main` in every process of this program.
extern "C" fn enter() {
    if std::env::var_os(PEER).is_some() {
        let run = catch_unwind(|| Peer::default().run());
        crate::support::exit_now(if run.is_ok() { 0 } else { 101 });
    }
}

#[used]
// SAFETY: the section holds pointers to functions of this type.
#[unsafe(link_section = ".init_array")]
static ENTER: extern "C" fn() = enter;

/// The lock on the ledger.
enum Held {
    Guard(ShmMutexGuard<'static, Ledger>),
    Poisoned(Poisoned<ShmMutexGuard<'static, Ledger>>),
}

type ByteSender = Sender<'static, u8, CAPACITY, ENDPOINTS, ENDPOINTS>;
type ByteReceiver = Receiver<'static, u8, CAPACITY, ENDPOINTS, ENDPOINTS>;

#[derive(Default)]
struct Peer {
    held: Option<Held>,
    permits: Vec<SemaphorePermit<'static, PERMITS>>,
    sender: Option<ByteSender>,
    receiver: Option<ByteReceiver>,
    segment: Option<*mut Segment<World>>,
}

/// The word of a command that is not there.
const NO_WORD: &str = "";

fn milliseconds(text: &str) -> Duration {
    Duration::from_millis(text.parse().expect("a number of milliseconds"))
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn describe(cause: PoisonCause) -> String {
    let kind = match cause {
        PoisonCause::Panicked { .. } => "panicked",
        _ => "owner_died",
    };
    format!("poisoned {kind} {} {}", cause.pid(), cause.tid())
}

fn name_of<G>(error: &LockError<G>) -> String {
    match error {
        LockError::Poisoned(poisoned) => return describe(poisoned.cause()),
        LockError::WouldBlock => "would_block",
        LockError::TimedOut => "timed_out",
        LockError::Deadlock => "deadlock",
        LockError::NotOwner => "not_held",
        LockError::TooManyLocks => "too_many_locks",
        LockError::ForeignPidNamespace => "foreign_pid_namespace",
        LockError::NotPlaced => "not_placed",
        _ => "system",
    }
    .to_owned()
}

fn name_of_error(error: &Error) -> String {
    match error {
        Error::Lock(error) => return name_of(error),
        Error::NotFound { .. } => "not_found",
        Error::NotASegment { .. } => "not_a_segment",
        Error::UnsupportedFormat { .. } => "unsupported_format",
        Error::LayoutMismatch { .. } => "layout_mismatch",
        Error::Corrupt { .. } => "corrupt",
        Error::PermissionDenied { .. } => "permission_denied",
        Error::ForeignPidNamespace { .. } => "foreign_pid_namespace",
        Error::InUse { .. } => "in_use",
        Error::WrongOwner { .. } => "wrong_owner",
        Error::TooPermissive { .. } => "too_permissive",
        Error::TooManyEndpoints { .. } => "too_many_endpoints",
        _ => "system",
    }
    .to_owned()
}

fn end(died: bool) -> String {
    if died { "peer_died" } else { "disconnected" }.to_owned()
}

impl Peer {
    fn run(&mut self) {
        let input = std::io::stdin().lock();
        for line in input.lines() {
            let line = line.expect("the input is readable");
            let words: Vec<&str> = line.split(' ').collect();
            let reply = self.reply(&words).unwrap_or_else(|refusal| refusal);
            let mut output = std::io::stdout().lock();
            writeln!(output, "{reply}").expect("the output is writable");
            output.flush().expect("the output is writable");
        }
        let _ = self.reply(&["close"]);
    }

    fn world(&self) -> &'static World {
        let segment = self.segment.expect("the segment is open");
        // SAFETY: `close` alone frees it, and ends all borrows before.
        unsafe { &*segment }
    }

    /// Executes a command. An error is a reply, too.
    fn reply(&mut self, words: &[&str]) -> Result<String, String> {
        let word = |at: usize| words.get(at).copied().unwrap_or(NO_WORD);
        let ok = || Ok("ok".to_owned());
        match word(0) {
            "open" => {
                let segment = Segment::<World>::open(word(1)).map_err(|it| name_of_error(&it))?;
                if ![&*world::fingerprint(), "-"].contains(&word(2)) {
                    return Err("layout_mismatch".to_owned());
                }
                self.segment = Some(Box::into_raw(Box::new(segment)));
                ok()
            }
            "close" => {
                self.held = None;
                self.permits.clear();
                self.sender = None;
                self.receiver = None;
                if let Some(segment) = self.segment.take() {
                    // SAFETY: `open` has made it, and all borrows have just ended.
                    let segment = unsafe { Box::from_raw(segment) };
                    Segment::close(*segment).map_err(|error| name_of_error(&error))?;
                }
                ok()
            }
            // The compiler has found them.
            "find" => ok(),
            "lock" => {
                let locked = self.world().ledger.lock();
                self.keep(locked)
            }
            "try_lock" => {
                let locked = self.world().ledger.try_lock();
                self.keep(locked)
            }
            "lock_for" => {
                let timeout = milliseconds(word(1));
                let locked = self.world().ledger.try_lock_for(timeout);
                self.keep(locked)
            }
            "unlock" => match self.held.take() {
                Some(_) => ok(),
                None => Err("not_held".to_owned()),
            },
            "recover" => match self.held.take() {
                Some(Held::Poisoned(poisoned)) => {
                    self.held = Some(Held::Guard(poisoned.recover(Ledger::repair)));
                    ok()
                }
                held => {
                    self.held = held;
                    Err("not_held".to_owned())
                }
            },
            "cause" => self.cause(),
            "tear" => {
                match &mut self.held {
                    Some(Held::Guard(guard)) => guard.total += 1,
                    _ => return Err("not_held".to_owned()),
                }
                ok()
            }
            "fail" => {
                let world = self.world();
                let failed = catch_unwind(AssertUnwindSafe(|| {
                    let mut guard = world.ledger.lock().expect("it is consistent");
                    guard.total += 1;
                    resume_unwind(Box::new(()));
                }));
                assert!(failed.is_err(), "it has panicked");
                ok()
            }
            "read" => {
                let ledger = *self.locked()?;
                let Ledger {
                    total,
                    check,
                    turn,
                    repairs,
                    ..
                } = ledger;
                Ok(format!("ok {total} {check} {turn} {repairs}"))
            }
            "increment" => self.increment(number(word(1))),
            "worker" => {
                let index = number(word(1)) as usize;
                for _ in 0..number(word(2)) {
                    let mut guard = self.world().workers[index]
                        .lock
                        .lock()
                        .map_err(|error| name_of(&error))?;
                    *guard += 1;
                }
                ok()
            }
            "turn" => {
                let changed = &self.world().changed;
                let mut guard = self.locked()?;
                guard.turn = number(word(1));
                match word(2) {
                    "one" => changed.notify_one(),
                    _ => changed.notify_all(),
                }
                ok()
            }
            "wait" => self.wait(number(word(1)), None),
            "wait_for" => self.wait(number(word(1)), Some(milliseconds(word(2)))),
            "wait_once" => {
                let waited = self
                    .world()
                    .changed
                    .wait_timeout(self.locked()?, milliseconds(word(1)));
                if waited.map_err(|error| name_of(&error))?.1.timed_out() {
                    return Err("timed_out".to_owned());
                }
                ok()
            }
            "hand_over" => self.hand_over(number(word(1)), number(word(2)), number(word(3))),
            "acquire" => self.keep_permit(self.world().permits.acquire()),
            "try_acquire" => self.keep_permit(self.world().permits.try_acquire()),
            "acquire_for" => {
                let timeout = milliseconds(word(1));
                self.keep_permit(self.world().permits.try_acquire_for(timeout))
            }
            "release" => match self.permits.pop() {
                Some(_) => ok(),
                None => Err("not_held".to_owned()),
            },
            "available" => Ok(format!("ok {}", self.world().permits.available())),
            "set" => {
                self.event(word(1)).set().map_err(|it| name_of_error(&it))?;
                ok()
            }
            "reset" => {
                self.event(word(1)).reset();
                ok()
            }
            "is_set" => Ok(format!("ok {}", u8::from(self.event(word(1)).is_set()))),
            "await" => {
                let waited = self.event(word(1)).wait_timeout(milliseconds(word(2)));
                match waited.map_err(|error| name_of_error(&error))?.timed_out() {
                    false => ok(),
                    true => Err("timed_out".to_owned()),
                }
            }
            "sender" => {
                let sender = self.world().bytes.sender();
                self.sender = Some(sender.map_err(|error| name_of_error(&error))?);
                ok()
            }
            "receiver" => {
                let receiver = self.world().bytes.receiver();
                self.receiver = Some(receiver.map_err(|error| name_of_error(&error))?);
                ok()
            }
            "close_sender" => {
                self.sender = None;
                ok()
            }
            "close_receiver" => {
                self.receiver = None;
                ok()
            }
            "send" | "try_send" | "send_for" => {
                let byte = word(1).parse().expect("a byte");
                match word(0) {
                    "send" => send(self.sender(), byte, Patience::Long),
                    "try_send" => send(self.sender(), byte, Patience::None),
                    _ => send(self.sender(), byte, Patience::For(milliseconds(word(2)))),
                }?;
                ok()
            }
            "recv" => Ok(format!("ok {}", receive(self.receiver(), Patience::Long)?)),
            "try_recv" => Ok(format!("ok {}", receive(self.receiver(), Patience::None)?)),
            "recv_for" => {
                let patience = Patience::For(milliseconds(word(1)));
                Ok(format!("ok {}", receive(self.receiver(), patience)?))
            }
            "flood" => {
                let byte = word(1).parse().expect("a byte");
                for _ in 0..number(word(2)) {
                    send(self.sender(), byte, Patience::Long)?;
                }
                ok()
            }
            "drain" => {
                let (mut count, mut sum) = (0, 0);
                loop {
                    match receive(self.receiver(), Patience::Long) {
                        Ok(byte) => {
                            count += 1;
                            sum += u64::from(byte);
                        }
                        Err(end) if end == "disconnected" => {
                            return Ok(format!("ok {count} {sum}"));
                        }
                        Err(other) => return Err(other),
                    }
                }
            }
            "storm" => self.storm(number(word(1)) as usize),
            other => panic!("{other:?} is no command"),
        }
    }

    fn sender(&self) -> &ByteSender {
        self.sender.as_ref().expect("the endpoint is open")
    }

    fn receiver(&self) -> &ByteReceiver {
        self.receiver.as_ref().expect("the endpoint is open")
    }

    fn event(&self, name: &str) -> &'static ShmEvent {
        match name {
            "gate" => &self.world().gate,
            "turnstile" => &self.world().turnstile,
            other => panic!("{other:?} is no event"),
        }
    }

    /// Keeps the lock, if there is one.
    fn keep(
        &mut self,
        locked: LockResult<ShmMutexGuard<'static, Ledger>>,
    ) -> Result<String, String> {
        match locked {
            Ok(guard) => {
                self.held = Some(Held::Guard(guard));
                Ok("ok".to_owned())
            }
            Err(LockError::Poisoned(poisoned)) => {
                let reply = describe(poisoned.cause());
                self.held = Some(Held::Poisoned(poisoned));
                Err(reply)
            }
            Err(other) => Err(name_of(&other)),
        }
    }

    /// Locks the ledger, which is consistent.
    fn locked(&self) -> Result<ShmMutexGuard<'static, Ledger>, String> {
        self.world().ledger.lock().map_err(|error| name_of(&error))
    }

    /// Returns why the ledger is poisoned. The interface of the crate has the cause
    /// only for the holder.
    fn cause(&self) -> Result<String, String> {
        match self.world().ledger.try_lock() {
            Err(LockError::Poisoned(poisoned)) => Err(describe(poisoned.cause())),
            Err(other) => Err(name_of(&other)),
            Ok(_) => Ok("ok".to_owned()),
        }
    }

    fn keep_permit(
        &mut self,
        permit: Result<SemaphorePermit<'static, PERMITS>, Error>,
    ) -> Result<String, String> {
        let permit = permit.map_err(|error| name_of_error(&error))?;
        let after_death = u8::from(permit.after_death());
        let reply = format!("ok {} {after_death}", permit.index());
        self.permits.push(permit);
        Ok(reply)
    }

    fn increment(&self, times: u64) -> Result<String, String> {
        let mut repairs = 0;
        for _ in 0..times {
            let mut guard = self
                .world()
                .ledger
                .lock_or_recover(|ledger, _| {
                    ledger.repair();
                    repairs += 1;
                })
                .map_err(|error| name_of_error(&error))?;
            add(&mut guard);
        }
        Ok(format!("ok {repairs}"))
    }

    fn wait(&self, turn: u64, timeout: Option<Duration>) -> Result<String, String> {
        let world = self.world();
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut guard = self.locked()?;
        while guard.turn != turn {
            let waited = match deadline {
                None => world.changed.wait(guard),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err("timed_out".to_owned());
                    }
                    world.changed.wait_timeout(guard, left).map(|(it, _)| it)
                }
            };
            guard = match waited {
                Ok(guard) => guard,
                Err(LockError::Poisoned(poisoned)) => {
                    let reply = describe(poisoned.cause());
                    drop(poisoned.recover(Ledger::repair));
                    return Err(reply);
                }
                Err(other) => return Err(name_of(&other)),
            };
        }
        Ok("ok".to_owned())
    }

    fn hand_over(&self, me: u64, other: u64, rounds: u64) -> Result<String, String> {
        let world = self.world();
        let mut guard = self.locked()?;
        for _ in 0..rounds {
            guard = world
                .changed
                .wait_while(guard, |ledger| ledger.turn != me)
                .map_err(|error| name_of(&error))?;
            add(&mut guard);
            guard.turn = other;
            world.changed.notify_one();
        }
        Ok("ok".to_owned())
    }

    fn storm(&mut self, me: usize) -> Result<String, String> {
        let world = self.world();
        let sends = me.is_multiple_of(2);
        if sends {
            self.reply(&["sender"])?;
        } else {
            self.reply(&["receiver"])?;
        }
        for round in 0_u64.. {
            let mut is_repaired = false;
            let mut guard = world
                .ledger
                .lock_or_recover(|ledger, _| {
                    ledger.repair();
                    is_repaired = true;
                })
                .map_err(|error| name_of_error(&error))?;
            if !is_repaired && (guard.inside != 0 || guard.total != guard.check) {
                guard.violations += 1;
            }
            if guard.turn == u64::MAX {
                return Ok(format!("ok {round}"));
            }
            guard.inside = me as u64 + 1;
            add(&mut guard);
            guard.rounds[me] += 1;
            guard.inside = 0;
            if round.is_multiple_of(8) {
                world.changed.notify_all();
            }
            if round.is_multiple_of(4) {
                match world.changed.wait_timeout(guard, Duration::from_millis(1)) {
                    Ok(_) => {}
                    Err(LockError::Poisoned(poisoned)) => {
                        drop(poisoned.recover(Ledger::repair));
                    }
                    Err(other) => return Err(name_of(&other)),
                }
            } else {
                drop(guard);
            }

            let worker = world.workers[me % WORKERS].lock.lock_or_recover(|_, _| ());
            *worker.map_err(|error| name_of_error(&error))? += 1;

            let permit = world.permits.acquire();
            drop(permit.map_err(|error| name_of_error(&error))?);

            let patience = Patience::For(Duration::from_millis(1));
            let passed = if sends {
                send(self.sender(), me as u8, patience)
            } else {
                receive(self.receiver(), patience).map(|byte| {
                    assert!(byte.is_multiple_of(2) && byte < 8, "{byte} was not sent");
                })
            };
            match passed.as_ref().map_err(|it| &**it) {
                Ok(()) | Err("timed_out" | "disconnected" | "peer_died") => {}
                Err(other) => return Err((*other).to_owned()),
            }

            let event = &world.turnstile;
            event.set().map_err(|error| name_of_error(&error))?;
            let waited = event.wait_timeout(Duration::from_millis(1));
            waited.map_err(|error| name_of_error(&error))?;
        }
        unreachable!("a storm ends before so many rounds")
    }
}

/// Changes the ledger, in two steps that a death can separate.
fn add(ledger: &mut Ledger) {
    ledger.total += 1;
    compiler_fence(Ordering::SeqCst);
    ledger.check += 1;
}

/// How long a call waits.
#[derive(Clone, Copy)]
enum Patience {
    None,
    For(Duration),
    Long,
}

fn send(sender: &ByteSender, byte: u8, patience: Patience) -> Result<(), String> {
    match patience {
        Patience::None => sender.try_send(byte).map_err(|error| match error {
            TrySendError::Full(_) => "would_block".to_owned(),
            TrySendError::Disconnected { died, .. } => end(died),
            TrySendError::Lock { source, .. } => name_of(&source),
            _ => "system".to_owned(),
        }),
        Patience::For(timeout) => sender
            .send_timeout(byte, timeout)
            .map_err(|error| match error {
                SendTimeoutError::Timeout(_) => "timed_out".to_owned(),
                SendTimeoutError::Disconnected { died, .. } => end(died),
                SendTimeoutError::Lock { source, .. } => name_of(&source),
                _ => "system".to_owned(),
            }),
        Patience::Long => sender.send(byte).map_err(|error| match error {
            SendError::Disconnected { died, .. } => end(died),
            SendError::Lock { source, .. } => name_of(&source),
            _ => "system".to_owned(),
        }),
    }
}

fn receive(receiver: &ByteReceiver, patience: Patience) -> Result<u8, String> {
    match patience {
        Patience::None => receiver.try_recv().map_err(|error| match error {
            TryRecvError::Empty => "would_block".to_owned(),
            TryRecvError::Disconnected { died } => end(died),
            TryRecvError::Lock(source) => name_of(&source),
            _ => "system".to_owned(),
        }),
        Patience::For(timeout) => receiver.recv_timeout(timeout).map_err(|error| match error {
            RecvTimeoutError::Timeout => "timed_out".to_owned(),
            RecvTimeoutError::Disconnected { died } => end(died),
            RecvTimeoutError::Lock(source) => name_of(&source),
            _ => "system".to_owned(),
        }),
        Patience::Long => receiver.recv().map_err(|error| match error {
            RecvError::Disconnected { died } => end(died),
            RecvError::Lock(source) => name_of(&source),
            _ => "system".to_owned(),
        }),
    }
}
