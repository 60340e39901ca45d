//! Two programs share memory that has no name: the first makes it and sends its
//! descriptor over a Unix socket; the second, started by `exec` and not forked
//! with the memory, opens what it is sent. Nobody else can find it, and nothing is
//! left when both are gone.
//!
//! ```text
//! cargo run --release --example hand_over
//! cargo run --release --example hand_over -- 5000000
//! ```
//!
//! The first puts questions on a desk ("how many primes are below n?"), the second
//! puts the answers there. Each sleeps until it is its turn: a mutex and a
//! condition variable in the shared memory, no polling. Kill one of them, and the
//! other is told: by the poisoned lock if it was held, and by the end of the socket
//! in any case.
//!
//! `post.rs` has the socket's part.

use std::env;
use std::error::Error;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{self, Child, Command, ExitCode, Stdio};
use std::thread;

use shm_sync::{LockError, LockResult, Segment, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe};

// A file in this directory itself would be another example.
#[path = "hand_over/post.rs"]
mod post;

/// Tells the second program that it is the second.
const ANSWERER: &str = "--answerer";
const DEFAULT_LIMIT: u64 = 300_000;
const QUESTIONS: u64 = 5;

/// What both see.
#[derive(ShmSafe)]
#[repr(C)]
struct Desk {
    sheet: ShmMutex<Sheet>,
    turned: ShmCondvar,
}

/// The one sheet of paper on the desk.
///
/// | state | `below` | `primes` |
/// |---|---|---|
/// | `Asked` | the question | |
/// | `Answered` | the question | the answer |
/// | `Empty`, `Closed` | | |
#[derive(ShmSafe)]
#[repr(C)]
struct Sheet {
    state: State,
    below: u64,
    primes: u64,
}

#[derive(ShmSafe, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// Nothing was asked yet.
    Empty,
    Asked,
    Answered,
    /// There will be no more: one side has finished, or has died.
    Closed,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    match env::args().nth(1) {
        None => ask(DEFAULT_LIMIT),
        Some(argument) if argument == ANSWERER => answer(),
        Some(argument) => ask(argument
            .parse()
            .map_err(|_| "the argument must be a number: the primes below it are counted")?),
    }
}

/// The first program.
fn ask(limit: u64) -> Result<ExitCode, Box<dyn Error>> {
    let desk = Segment::anonymous(Desk {
        sheet: ShmMutex::new(Sheet {
            state: State::Empty,
            below: 0,
            primes: 0,
        }),
        turned: ShmCondvar::new(),
    })?;
    let (mut answerer, socket) = start_answerer()?;
    let file = Segment::as_fd(&desk).ok_or("an anonymous segment has a descriptor")?;
    post::send(&socket, file)?;
    println!(
        "process {} has sent {} bytes of shared memory to process {}",
        process::id(),
        Segment::mapped_len(&desk),
        answerer.id()
    );

    let asked = thread::scope(|scope| {
        // Over when the answerer ends, at the latest because the desk is closed.
        scope.spawn(|| close_when_left_alone(&desk, &socket));
        let asked = ask_all(&desk, limit);
        desk.close().and(asked)
    });
    let ended = answerer.wait()?;
    Ok(match asked? {
        QUESTIONS if ended.success() => ExitCode::SUCCESS,
        answers => {
            eprintln!("{answers} of {QUESTIONS} answers came; the answerer: {ended}");
            ExitCode::FAILURE
        }
    })
}

/// Starts this program again, with one end of a socket as its standard input.
fn start_answerer() -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let answerer = Command::new(env::current_exe()?)
        .arg(ANSWERER)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    Ok((answerer, ours))
}

/// Returns how many questions were answered before the desk was closed.
fn ask_all(desk: &Desk, limit: u64) -> Result<u64, shm_sync::Error> {
    for number in 1..=QUESTIONS {
        let Some(mut sheet) = desk.wait_until(|state| state != State::Asked)? else {
            return Ok(number - 1);
        };
        sheet.below = limit / QUESTIONS * number;
        sheet.state = State::Asked;
        desk.turned.notify_one();
        drop(sheet);

        let Some(sheet) = desk.wait_until(|state| state == State::Answered)? else {
            return Ok(number - 1);
        };
        println!("{} primes are below {}", sheet.primes, sheet.below);
    }
    Ok(QUESTIONS)
}

/// The second program.
fn answer() -> Result<ExitCode, Box<dyn Error>> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let desk = Segment::<Desk>::from_fd(post::receive(&socket)?)?;
    thread::scope(|scope| {
        scope.spawn(|| close_when_left_alone(&desk, &socket));
        let answered = answer_all(&desk);
        // Ends the wait for the other side.
        let stopped = socket.shutdown(std::net::Shutdown::Both);
        answered?;
        stopped?;
        Ok(ExitCode::SUCCESS)
    })
}

fn answer_all(desk: &Desk) -> Result<(), shm_sync::Error> {
    while let Some(sheet) = desk.wait_until(|state| state == State::Asked)? {
        let below = sheet.below;
        // Work takes time: not with the lock held.
        drop(sheet);
        let primes = count_primes(below);

        let Some(mut sheet) = desk.wait_until(|state| state == State::Asked)? else {
            break;
        };
        sheet.primes = primes;
        sheet.state = State::Answered;
        desk.turned.notify_one();
    }
    Ok(())
}

/// Sleeps until the other side's end of the socket is closed, which the kernel does
/// however it ends. Nothing more is sent after the descriptor.
fn close_when_left_alone(desk: &Desk, mut socket: &UnixStream) {
    let _ = socket.read(&mut [0]);
    if let Err(error) = desk.close() {
        eprintln!("the desk can't be closed: {error}");
    }
}

impl Desk {
    /// Sleeps until the sheet is in a state that `is_wanted`. `None` if the desk is
    /// closed.
    fn wait_until(
        &self,
        is_wanted: impl Fn(State) -> bool,
    ) -> Result<Option<ShmMutexGuard<'_, Sheet>>, shm_sync::Error> {
        let is_unwanted =
            |sheet: &mut Sheet| sheet.state != State::Closed && !is_wanted(sheet.state);
        let sheet = closed_if_poisoned(self.sheet.lock())?;
        let sheet = closed_if_poisoned(self.turned.wait_while(sheet, is_unwanted))?;
        Ok((sheet.state != State::Closed).then_some(sheet))
    }

    fn close(&self) -> Result<(), shm_sync::Error> {
        let mut sheet = closed_if_poisoned(self.sheet.lock())?;
        sheet.state = State::Closed;
        self.turned.notify_all();
        Ok(())
    }
}

/// Whoever died with the sheet in hand answers no more.
fn closed_if_poisoned<'a>(
    sheet: LockResult<ShmMutexGuard<'a, Sheet>>,
) -> Result<ShmMutexGuard<'a, Sheet>, shm_sync::Error> {
    match sheet {
        Ok(sheet) => Ok(sheet),
        Err(LockError::Poisoned(poisoned)) => {
            Ok(poisoned.recover(|sheet| sheet.state = State::Closed))
        }
        Err(other) => Err(other.into()),
    }
}

fn count_primes(below: u64) -> u64 {
    let is_prime = |n: &u64| {
        (2..)
            .take_while(|d| d * d <= *n)
            .all(|d| !n.is_multiple_of(d))
    };
    (2..below).filter(is_prime).count() as u64
}
