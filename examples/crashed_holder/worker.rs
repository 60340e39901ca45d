//! A worker: takes a chunk, counts it without the lock, enters it into the
//! ledger. If it is doomed, it waits in the middle of that to be killed.

use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::process;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::pause;
use shm_sync::Segment;

use crate::Failure;
use crate::ledger::{HAND, Next, Shared};

/// What the parent tells a worker.
pub(crate) struct Orders {
    pub(crate) segment: String,
    pub(crate) fate: Fate,
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Clone, Copy)]
pub(crate) enum Fate {
    Survivor,
    Doomed,
}

/// What a worker tells the parent, each on a line of its standard output.
pub(crate) const READY: &str = "ready";
pub(crate) const HALFWAY: &str = "halfway";

pub(crate) fn work(orders: &Orders) -> Result<(), Failure> {
    let shared = Segment::<Shared>::open(&orders.segment)?;
    die_with_parent(shared.parent)?;
    println!("{READY}");

    let me = process::id();
    let mut ledger = shared.lock()?;
    while !ledger.started {
        ledger = shared.wait(ledger)?;
    }
    loop {
        match ledger.next(me) {
            Next::Count(chunk) => {
                drop(ledger);
                let counts = shared.plan.chunks[chunk].count(&orders.files)?;
                ledger = shared.lock()?;

                // The doomed do some good work first, and die with more in hand
                // than the chunk that they are entering.
                let half_done = ledger.chunks_in_hand_of(me) <= HAND / 2;
                let halfway = match orders.fate {
                    Fate::Doomed if half_done => wait_to_be_killed,
                    _ => do_nothing,
                };
                ledger.enter(me, chunk, counts, halfway);
                if ledger.is_complete() {
                    shared.changed.notify_all();
                }
            }
            Next::Wait => ledger = shared.wait(ledger)?,
            Next::Leave => return Ok(()),
        }
    }
}

/// If the parent were killed, nobody would end the doomed, who hold the lock.
fn die_with_parent(parent: u32) -> Result<(), Failure> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if parent_id() == parent {
        Ok(())
    } else {
        // It died before that call.
        Err("the parent is gone".into())
    }
}

fn do_nothing() {}

fn wait_to_be_killed() {
    println!("{HALFWAY}");
    loop {
        pause();
    }
}
