//! Two programs share a segment that has no name. The client creates it and sends its
//! descriptor over a Unix socket. The server, which is started by `exec`, receives the
//! descriptor and opens the segment. No other process can find the segment, and the
//! kernel frees it when both programs have ended.
//!
//! The client writes requests into the segment ("how many primes are below n?"), and
//! the server writes the answers. Both wait for each other with a mutex and a condition
//! variable, without polling. If one of them is killed, the other one is told. The
//! socket is closed in any case, and the lock is poisoned if the dead process held it.
//!
//! `descriptor.rs` sends and receives the descriptor.

mod descriptor;

use std::env;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{self, Child, Command, ExitCode, Stdio};
use std::thread;

use shm_sync::{PoisonCause, Segment, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe};

/// The argument that makes this program the server.
const SERVER: &str = "--server";
const REQUESTS: u64 = 5;

const HELP: &str = "\
A client sends a segment without a name to a server, over a Unix socket. The server
then counts primes for the client.

Usage: cargo run --release --example hand_over [-- OPTIONS]

  --below N   count the primes below N, in 5 requests, default 300000
  --help      print this text

Exit status: 0 if all requests were answered, 1 if not or after an error, 2 for
wrong arguments.
";

/// The contents of the segment.
#[derive(ShmSafe)]
#[repr(C)]
struct Exchange {
    request: ShmMutex<Request>,
    changed: ShmCondvar,
}

/// The current request.
///
/// | state | `below` | `primes` |
/// |---|---|---|
/// | `Requested` | the question | unused |
/// | `Answered` | the question | the answer |
/// | `Idle`, `Closed` | unused | unused |
#[derive(ShmSafe)]
#[repr(C)]
struct Request {
    state: State,
    below: u64,
    primes: u64,
}

#[derive(ShmSafe, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// There was no request yet.
    Idle,
    Requested,
    Answered,
    /// There are no more requests: one program has finished or died.
    Closed,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if env::args().nth(1).as_deref() == Some(SERVER) {
        return run_server();
    }
    let options = [("below", 300_000, REQUESTS..=u64::from(u32::MAX))];
    let [below] = support::parse_arguments(HELP, options);
    run_client(below)
}

fn run_client(limit: u64) -> Result<ExitCode, Box<dyn Error>> {
    let exchange = Segment::anonymous(Exchange {
        request: ShmMutex::new(Request {
            state: State::Idle,
            below: 0,
            primes: 0,
        }),
        changed: ShmCondvar::new(),
    })?;
    let (mut server, socket) = start_server()?;
    let fd = Segment::as_fd(&exchange).ok_or("the anonymous segment has no descriptor")?;
    descriptor::send(&socket, fd)?;
    writeln!(
        io::stdout(),
        "process {} has sent {} bytes of shared memory to process {}",
        process::id(),
        Segment::mapped_len(&exchange),
        server.id()
    )?;

    let answered = thread::scope(|scope| {
        // This thread ends when the server ends. The server ends at the latest when
        // the exchange is closed.
        scope.spawn(|| close_when_peer_ends(&exchange, &socket));
        let answered = request_all(&exchange, limit);
        exchange.close()?;
        answered
    });
    let status = server.wait()?;
    Ok(match answered? {
        REQUESTS if status.success() => ExitCode::SUCCESS,
        answers => {
            eprintln!("the server gave {answers} of {REQUESTS} answers, and ended: {status}");
            ExitCode::FAILURE
        }
    })
}

/// Starts this program again as the server, with one end of a socket as its standard
/// input. Returns the other end.
fn start_server() -> io::Result<(Child, UnixStream)> {
    let (socket, peer) = UnixStream::pair()?;
    let server = Command::new(env::current_exe()?)
        .arg(SERVER)
        .stdin(Stdio::from(OwnedFd::from(peer)))
        .spawn()?;
    Ok((server, socket))
}

/// Makes all requests. Returns how many were answered before the exchange was closed.
fn request_all(exchange: &Exchange, limit: u64) -> Result<u64, Box<dyn Error>> {
    for number in 1..=REQUESTS {
        let Some(mut request) = exchange.wait_until(|state| state != State::Requested)? else {
            return Ok(number - 1);
        };
        request.below = limit / REQUESTS * number;
        request.state = State::Requested;
        exchange.changed.notify_one();
        drop(request);

        let Some(request) = exchange.wait_until(|state| state == State::Answered)? else {
            return Ok(number - 1);
        };
        writeln!(
            io::stdout(),
            "{} primes are below {}",
            request.primes,
            request.below
        )?;
    }
    Ok(REQUESTS)
}

fn run_server() -> Result<ExitCode, Box<dyn Error>> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let fd = descriptor::receive(&socket)?;
    let exchange: Segment<Exchange> = Segment::<Exchange>::options().from_fd(fd)?;
    thread::scope(|scope| {
        scope.spawn(|| close_when_peer_ends(&exchange, &socket));
        let answered = answer_all(&exchange);
        // This ends the thread above and tells the client.
        let stopped = socket.shutdown(Shutdown::Both);
        answered?;
        stopped?;
        Ok(ExitCode::SUCCESS)
    })
}

fn answer_all(exchange: &Exchange) -> Result<(), shm_sync::Error> {
    while let Some(request) = exchange.wait_until(|state| state == State::Requested)? {
        let below = request.below;
        // Counting takes time, so the server does not hold the lock meanwhile.
        drop(request);
        let primes = support::count_primes(below);

        let Some(mut request) = exchange.wait_until(|state| state == State::Requested)? else {
            break;
        };
        request.primes = primes;
        request.state = State::Answered;
        exchange.changed.notify_one();
    }
    Ok(())
}

/// Closes the exchange when the peer has ended. The kernel closes the peer's end of the
/// socket then, and `read` returns. No program sends anything after the descriptor.
fn close_when_peer_ends(exchange: &Exchange, mut socket: &UnixStream) {
    let _ = socket.read(&mut [0]);
    if let Err(error) = exchange.close() {
        eprintln!("can't close the exchange: {error}");
    }
}

impl Exchange {
    /// Waits until the request is in a state that `is_wanted`. Returns `None` if the
    /// exchange is closed.
    fn wait_until(
        &self,
        is_wanted: impl Fn(State) -> bool,
    ) -> Result<Option<ShmMutexGuard<'_, Request>>, shm_sync::Error> {
        let must_wait =
            |request: &mut Request| request.state != State::Closed && !is_wanted(request.state);
        let request = self.request.lock_or_recover(close)?;
        let request = self
            .changed
            .wait_while_or_recover(request, must_wait, close)?;
        Ok((request.state != State::Closed).then_some(request))
    }

    fn close(&self) -> Result<(), shm_sync::Error> {
        let mut request = self.request.lock_or_recover(close)?;
        request.state = State::Closed;
        self.changed.notify_all();
        Ok(())
    }
}

/// Closes the exchange after the death of a holder: the peer does not answer any more.
fn close(request: &mut Request, _cause: PoisonCause) {
    request.state = State::Closed;
}
