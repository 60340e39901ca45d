//! An asynchronous service on tokio, whose state is shared with other processes.
//!
//! A thread of the runtime must not block, and a `ShmMutexGuard` must not be held
//! across an `.await`: the task could continue on another thread, but a thread unlocks
//! what it has locked. (The compiler refuses it in `tokio::spawn`, because a guard is
//! not `Send`.) So each access to the state is a closure that locks, changes and
//! unlocks, and `spawn_blocking` runs it on a thread that may block. While another
//! process holds the lock, the runtime goes on with all other tasks.
//!
//! `spawn_blocking` starts at most 512 threads. If more requests may come while the
//! lock is held, let `try_lock_for` limit their waiting.

use std::error::Error;
use std::io::{self, Write};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use shm_sync::{Segment, ShmMutex};
use tokio::runtime::Runtime;
use tokio::task::spawn_blocking;

const HELP: &str = "\
A service on tokio guards its shared state by a lock. Another process holds the
lock, and is killed. Requests that need no lock are answered meanwhile.

Usage: cargo run --release --example tokio_service --features tokio [-- OPTIONS]

  --requests N   number of requests of each kind, 1 to 400, default 100
  --help         print this text

Exit status: 0 if the state is right, 1 if it is wrong or after an error, 2 for
wrong arguments.
";

type Failure = Box<dyn Error + Send + Sync>;
/// The state: how many requests were counted.
type Count = Segment<ShmMutex<u64>>;

fn main() -> Result<(), Failure> {
    let [requests] = support::parse_arguments(HELP, [("requests", 100, 1..=400)]);
    let mut out = io::stdout();
    let count: Arc<Count> = Arc::new(Segment::anonymous(ShmMutex::new(0))?);

    // The runtime starts threads, so the other process is forked before.
    let other = support::fork(|| stop_with_the_lock(&count))?;
    match waitpid(other, Some(WaitPidFlag::WUNTRACED))? {
        WaitStatus::Stopped(..) => {}
        ended => return Err(format!("the other process failed: {ended:?}").into()),
    }
    writeln!(out, "process {other} has stopped, with the lock held")?;

    Runtime::new()?.block_on(async {
        let counting: Vec<_> = (0..requests)
            .map(|_| tokio::spawn(count_request(Arc::clone(&count))))
            .collect();
        // These need no lock, so they are answered meanwhile.
        let squares: Vec<_> = (0..requests)
            .map(|n| tokio::spawn(async move { n * n }))
            .collect();
        for square in squares {
            square.await?;
        }
        let waiting = counting.iter().filter(|task| !task.is_finished()).count();
        writeln!(out, "{requests} requests need no lock and were answered")?;
        writeln!(out, "{waiting} requests wait for the lock")?;

        kill(other, Signal::SIGKILL)?;
        for request in counting {
            request.await??;
        }
        Ok::<_, Failure>(())
    })?;
    waitpid(other, None)?;

    let counted = *count.lock_or_recover(|_, _| ())?;
    writeln!(
        out,
        "process {other} was killed, then {counted} were counted"
    )?;
    if counted == requests {
        Ok(())
    } else {
        Err("the count is wrong".into())
    }
}

/// Handles a request that changes the state. Returns its number.
async fn count_request(count: Arc<Count>) -> Result<u64, Failure> {
    let number = spawn_blocking(move || {
        // The change is one store, so there is nothing to repair.
        let mut count = count.lock_or_recover(|_, _| ())?;
        *count += 1;
        Ok::<_, shm_sync::Error>(*count)
    });
    Ok(number.await??)
}

/// Stops this process while it holds the lock.
fn stop_with_the_lock(count: &Count) -> Result<(), shm_sync::Error> {
    let _count = count.lock()?;
    let _ = raise(Signal::SIGSTOP);
    Ok(())
}
