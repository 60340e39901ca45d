//! Holders that the kernel kills for want of memory. Before Linux 5.18, its reaper may
//! free a victim's memory, and the robust list in it, before the kernel has walked the
//! list. The lock then stays held.
//!
//! The victim of each round holds a lock in one thread. The other thread fills a cgroup
//! of 64 MiB. Busy processes keep the holder from the processor when it is killed.
//!
//! `SHM_SYNC_OUT_OF_MEMORY_ROUNDS` sets the number of rounds.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::pause;
use shm_sync::{LockError, Segment, ShmMutex};

use crate::support::{Child, exit_now, number_from_env, on_stage, spawn};

/// The kernel waits since this version. Stable kernels before it may wait as well.
const REPAIRED: (u32, u32) = (5, 18);

/// The limit of the cgroup in bytes.
const LIMIT: usize = 64 << 20;

/// Writes to a file of the kernel. Never creates one, where there is no cgroup.
fn put(path: &Path, text: &str) -> io::Result<()> {
    File::options()
        .write(true)
        .open(path)?
        .write_all(text.as_bytes())
}

/// A cgroup with little memory. It is removed when dropped.
struct Group(PathBuf);

impl Group {
    /// Returns `None` if the machine permits no cgroup with a limit.
    fn new() -> Option<Self> {
        // Version 2 has its controller in the root, version 1 in a tree of its own.
        let second = Path::new("/sys/fs/cgroup");
        let first = second.join("memory");
        let _ = put(&second.join("cgroup.subtree_control"), "+memory");
        [(second, "memory.max"), (&first, "memory.limit_in_bytes")]
            .into_iter()
            .find_map(|(root, limit)| {
                let group = Self(root.join(format!("shm-sync-{}", std::process::id())));
                fs::create_dir(&group.0).ok()?;
                put(&group.0.join(limit), &LIMIT.to_string()).ok()?;
                Some(group)
            })
    }

    fn enter(&self) {
        put(&self.0.join("cgroup.procs"), "0").unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().unwrap().parse().unwrap();
    (next(), next())
}

/// Starts processes that keep all processors busy.
fn busy_processes() -> Vec<Child> {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let busy = || loop {
        std::hint::spin_loop();
    };
    (0..count).map(|_| spawn(busy)).collect()
}

/// Holds the lock in one thread, and fills the memory of the group in another.
fn hold_and_fill(lock: &ShmMutex<u64>, group: &Group) {
    group.enter();
    std::thread::scope(|scope| {
        let (send, held) = std::sync::mpsc::channel();
        scope.spawn(move || {
            let _guard = lock.lock().unwrap();
            send.send(()).unwrap();
            // So that the reaper comes first.
            let me = nix::unistd::gettid().as_raw().cast_unsigned();
            // SAFETY: the call takes and returns numbers.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, me, 19) };
            pause();
        });
        held.recv().unwrap();
        let blocks: Vec<Vec<u8>> = (0..(2 * LIMIT) >> 20).map(|_| vec![1; 1 << 20]).collect();
        eprintln!("{} MiB fit into the group", blocks.len());
        exit_now(1);
    });
}

on_stage! {
    fn lock_of_killed_holder_is_released() {
        let rounds = number_from_env("SHM_SYNC_OUT_OF_MEMORY_ROUNDS").unwrap_or(5);
        let Some(group) = Group::new() else {
            println!("not run, because no cgroup can be limited: holders out of memory");
            return;
        };
        let _busy = busy_processes();
        let mut lost = 0;
        for _ in 0..rounds {
            let lock = Segment::anonymous(ShmMutex::new(0_u64)).unwrap();
            let mut victim = spawn(|| hold_and_fill(&lock, &group));
            let end = victim.wait();
            assert!(matches!(end, WaitStatus::Signaled(_, Signal::SIGKILL, _)), "{end:?}");
            match lock.try_lock_for(Duration::from_secs(1)) {
                Err(LockError::Poisoned(_)) => {}
                Err(LockError::TimedOut) => lost += 1,
                other => panic!("{other:?}"),
            }
        }
        println!("note: killed for want of memory: {lost} of {rounds} locks stayed held");
        assert!(lost == 0 || kernel() < REPAIRED);
    }
}
