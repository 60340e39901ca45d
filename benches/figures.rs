//! The three figures this crate promises, measured side by side with raw
//! pthread in one run: `cargo bench --bench figures`.
//!
//! 1. Uncontended: lock, add one, unlock, against the raw C calls on the same
//!    kind of mutex (robust, error-checking, process-shared).
//! 2. Hand-over: two processes pass a turn to and fro by condition variable,
//!    against a raw `pthread_cond_t` with a raw robust mutex.
//! 3. Idle: the processor time of four processes that sleep for five seconds.
//!
//! Contestants take turns, round by round, so that noise hits them alike;
//! medians and the spread are printed. Absolute times mean little on a shared
//! machine; the ratios do.

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use shm_sync::{Error, PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmSafe};

const UNCONTENDED_ROUNDS: usize = 801;
const UNCONTENDED_OPS: u32 = 20_000;
const HANDOVER_ROUNDS: usize = 9;
const HANDOVER_TRIPS: u32 = 5_000;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut all_met = true;
    all_met &= uncontended()?;
    all_met &= handover()?;
    all_met &= idle()?;
    println!(
        "\n{}",
        if all_met {
            "all targets met"
        } else {
            "A TARGET WAS MISSED"
        }
    );
    Ok(if all_met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Minimum, median and maximum of `values`.
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self {
            min: values[0],
            median: values[values.len() / 2],
            max: values[values.len() - 1],
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:8.2}  (min {:.2}, max {:.2})",
            self.median, self.min, self.max
        )
    }
}

fn report(what: &str, value: &Spread, target: &str, met: bool) -> bool {
    let verdict = if met { "met" } else { "MISSED" };
    println!("  {what:<34} {value}   target {target}: {verdict}");
    met
}

// ---------------------------------------------------------------- raw pthread

/// A `pthread_mutex_t` and a `pthread_cond_t`, initialised as a careful C
/// program would.
struct RawPthread {
    mutex: UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>,
    cond: UnsafeCell<MaybeUninit<libc::pthread_cond_t>>,
    value: UnsafeCell<u64>,
}

impl RawPthread {
    /// Makes one in anonymous shared memory that is never unmapped.
    fn shared() -> &'static Self {
        // SAFETY: a fresh anonymous mapping is asked for.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Self>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(memory, libc::MAP_FAILED, "mmap failed");
        // SAFETY: the mapping is large enough, aligned to a page, zeroed, and
        // stays for ever; every field may be zero.
        let this: &'static Self = unsafe { &*memory.cast::<Self>() };
        this.init();
        this
    }

    #[expect(
        clippy::multiple_unsafe_ops_per_block,
        reason = "plain C, as a C program has it"
    )]
    fn init(&self) {
        // SAFETY: the attributes are initialised before use, and the objects lie
        // where they stay.
        unsafe {
            let mut attr = MaybeUninit::uninit();
            libc::pthread_mutexattr_init(attr.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(attr.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(attr.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutexattr_settype(attr.as_mut_ptr(), libc::PTHREAD_MUTEX_ERRORCHECK);
            assert_eq!(libc::pthread_mutex_init(self.mutex(), attr.as_ptr()), 0);
            let mut attr = MaybeUninit::uninit();
            libc::pthread_condattr_init(attr.as_mut_ptr());
            libc::pthread_condattr_setpshared(attr.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            assert_eq!(libc::pthread_cond_init(self.cond(), attr.as_ptr()), 0);
        }
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        self.mutex.get().cast()
    }

    fn cond(&self) -> *mut libc::pthread_cond_t {
        self.cond.get().cast()
    }
}

// ---------------------------------------------------------------- uncontended

fn uncontended() -> Result<bool, Error> {
    pin(0);
    let ours = Segment::anonymous(ShmMutex::new(0_u64))?;
    let raw = black_box(RawPthread::shared());
    let lock = black_box(&*ours);
    let (mut ours_ns, mut raw_ns, mut ratios) = (vec![], vec![], vec![]);
    for _ in 0..UNCONTENDED_ROUNDS {
        let raw_time = per_op(|| {
            for _ in 0..UNCONTENDED_OPS {
                // SAFETY: initialised; the return code is checked as a C
                // program would check it.
                let locked = unsafe { libc::pthread_mutex_lock(raw.mutex()) };
                assert!(locked == 0);
                // SAFETY: the lock is held.
                unsafe { *raw.value.get() += 1 };
                // SAFETY: initialised and held.
                let unlocked = unsafe { libc::pthread_mutex_unlock(raw.mutex()) };
                assert!(unlocked == 0);
            }
        });
        let mut failed = None;
        let our_time = per_op(|| {
            for _ in 0..UNCONTENDED_OPS {
                match lock.lock() {
                    Ok(mut guard) => *guard += 1,
                    Err(error) => failed = Some(Error::from(error)),
                }
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        raw_ns.push(raw_time);
        ours_ns.push(our_time);
        ratios.push(our_time / raw_time);
    }
    println!("Uncontended lock + increment + unlock, {UNCONTENDED_ROUNDS} rounds");
    println!("  {:<34} {} ns", "raw pthread", Spread::of(raw_ns));
    println!("  {:<34} {} ns", "ShmMutex<u64>", Spread::of(ours_ns));
    let ratio = Spread::of(ratios);
    let met = ratio.median <= 1.15;
    Ok(report("ratio, round by round", &ratio, "at most 1.15", met))
}

fn per_op(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_nanos() as f64 / f64::from(UNCONTENDED_OPS)
}

// ------------------------------------------------------------------- handover

/// The turn, under each of the condition variables.
#[derive(ShmSafe)]
#[repr(C)]
struct Court {
    turn: ShmMutex<u64>,
    futex: ShmCondvar,
    pthread: PthreadCondvar,
}

fn handover() -> Result<bool, Box<dyn std::error::Error>> {
    println!("\nHand-over of a turn between two processes, {HANDOVER_ROUNDS} rounds");
    let (mut raw_us, mut wrapped_us, mut ours_us, mut ratios) = (vec![], vec![], vec![], vec![]);
    for _ in 0..HANDOVER_ROUNDS {
        let raw = RawPthread::shared();
        let raw_time = play(|side| raw_side(raw, side))?;

        let court = Segment::anonymous(Court {
            turn: ShmMutex::new(0),
            futex: ShmCondvar::new(),
            pthread: PthreadCondvar::new(),
        })?;
        let our_time = play(|side| {
            for _ in 0..HANDOVER_TRIPS {
                let turn = court.turn.lock()?;
                let mut turn = court.futex.wait_while(turn, |turn| *turn % 2 != side)?;
                *turn += 1;
                court.futex.notify_one();
            }
            Ok(())
        })?;
        *court.turn.lock().map_err(Error::from)? = 0;
        let wrapped_time = play(|side| {
            for _ in 0..HANDOVER_TRIPS {
                let turn = court.turn.lock()?;
                let mut turn = court.pthread.wait_while(turn, |turn| *turn % 2 != side)?;
                *turn += 1;
                court.pthread.notify_one();
            }
            Ok(())
        })?;
        raw_us.push(raw_time);
        wrapped_us.push(wrapped_time);
        ours_us.push(our_time);
        ratios.push(raw_time / our_time);
    }
    println!("  {:<34} {} µs", "raw pthread_cond_t", Spread::of(raw_us));
    println!("  {:<34} {} µs", "PthreadCondvar", Spread::of(wrapped_us));
    println!("  {:<34} {} µs", "ShmCondvar", Spread::of(ours_us));
    let ratio = Spread::of(ratios);
    let met = ratio.median >= 5.0;
    Ok(report("raw / ShmCondvar", &ratio, "at least 5", met))
}

#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "plain C, as a C program has it"
)]
fn raw_side(raw: &RawPthread, side: u64) -> Result<(), Error> {
    for _ in 0..HANDOVER_TRIPS {
        // SAFETY: both objects are initialised, and the value is only touched
        // under the mutex.
        unsafe {
            assert_eq!(libc::pthread_mutex_lock(raw.mutex()), 0);
            while *raw.value.get() % 2 != side {
                assert_eq!(libc::pthread_cond_wait(raw.cond(), raw.mutex()), 0);
            }
            *raw.value.get() += 1;
            libc::pthread_cond_signal(raw.cond());
            assert_eq!(libc::pthread_mutex_unlock(raw.mutex()), 0);
        }
    }
    Ok(())
}

/// Runs both sides, each in a process and on a processor of its own. Returns
/// microseconds per hand-over.
fn play(side: impl Fn(u64) -> Result<(), Error>) -> Result<f64, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let child = spawn(|| {
        pin(1);
        side(1)
    })?;
    pin(0);
    side(0)?;
    waitpid(child, None)?;
    let handovers = 2.0 * f64::from(HANDOVER_TRIPS);
    Ok(start.elapsed().as_secs_f64() * 1e6 / handovers)
}

// ----------------------------------------------------------------------- idle

fn idle() -> Result<bool, Box<dyn std::error::Error>> {
    const SLEEPERS: usize = 4;
    const SPAN: Duration = Duration::from_secs(5);
    let court = Segment::anonymous(Court {
        turn: ShmMutex::new(0),
        futex: ShmCondvar::new(),
        pthread: PthreadCondvar::new(),
    })?;
    let before = children_cpu_ms()?;
    let mut sleepers = Vec::new();
    for _ in 0..SLEEPERS {
        sleepers.push(spawn(|| {
            let turn = court.turn.lock()?;
            court.futex.wait_while(turn, |turn| *turn == 0).map(drop)?;
            Ok(())
        })?);
    }
    std::thread::sleep(SPAN);
    for &sleeper in &sleepers {
        kill(sleeper, Signal::SIGKILL)?;
        waitpid(sleeper, None)?;
    }
    let used = Spread::of(vec![children_cpu_ms()? - before]);
    println!(
        "\n{SLEEPERS} sleepers, {} s, fork and exit included",
        SPAN.as_secs()
    );
    let met = used.median < 10.0;
    Ok(report(
        "processor time together, ms",
        &used,
        "below 10",
        met,
    ))
}

fn children_cpu_ms() -> nix::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let total = usage.user_time() + usage.system_time();
    Ok(total.num_microseconds() as f64 / 1000.0)
}

// -------------------------------------------------------------------- helpers

/// Runs `f` in a forked child.
fn spawn(f: impl FnOnce() -> Result<(), Error>) -> nix::Result<Pid> {
    // SAFETY: this program is single-threaded.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = match f() {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("child: {error}");
                    1
                }
            };
            // SAFETY: ends the child without the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Keeps this process on one processor, if there is that one.
fn pin(processor: usize) {
    let mut set = CpuSet::new();
    if set.set(processor).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}
