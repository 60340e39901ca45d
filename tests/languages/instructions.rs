//! The operations of the C header, killed at every n-th instruction. Afterwards, Rust
//! processes use all objects.
//!
//! `ptrace` steps a child through an operation in `steps.c`, and kills it after the
//! n-th instruction, another child for each n, and in its sleep. By default it kills at
//! 25 instructions of each operation, at others in each run:
//!
//! ```sh
//! SHM_SYNC_KILL_STRIDE=1 SHM_SYNC_TEST_WATCHDOG=3600 \
//!     cargo test -p shm-sync-tests --test languages -- --nocapture instructions
//! ```

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::wait::WaitStatus;
use shm_sync::{
    Backing, LockError, Receiver, Removal, Segment, SegmentOptions, SemaphorePermit, Sender,
};

use crate::build::{Compiler, Language, Product};
use crate::support::walker::{Walker, can_lead_for};
use crate::support::{Child, TestAddress, TestName, die, number_from_env, on_stage, poll, spawn};
use crate::world::{CAPACITY, ENDPOINTS, Ledger, PERMITS, World, fingerprint};

/// The time after which a survivor counts as stuck.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// The default number of kills of an operation, at most.
const MOST_KILLS: u64 = 25;

type Prepare = unsafe extern "C" fn(*const c_char, *const c_char, *const c_char);
type SetStale = unsafe extern "C" fn(*const c_char);
type Run = unsafe extern "C" fn();

/// The functions of `steps.c`.
enum Steps {
    /// In this process.
    Library {
        prepare: Prepare,
        set_stale: SetStale,
        run: Run,
    },
    /// The path of a program that calls them.
    Program(CString),
}

impl Steps {
    /// Compiles and loads them. Returns `None`, and prints why, if there is no
    /// compiler.
    fn load() -> Option<Self> {
        let Some(compiler) = Compiler::any(Language::C) else {
            println!("not run, because this machine has no C compiler");
            return None;
        };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("languages/steps.c");
        // A program that is linked with musl can't load libraries.
        let is_loadable = cfg!(target_env = "gnu");
        let product = if is_loadable {
            Product::Library
        } else {
            Product::Program
        };
        let path = compiler.compile(&source, product);
        let path = CString::new(path.into_os_string().into_encoded_bytes());
        let path = path.expect("a path has no zero byte");
        if !is_loadable {
            return Some(Self::Program(path));
        }
        // SAFETY: the library has no constructors, so loading it runs no code of its
        // own.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null(), "{path:?} can be loaded");
        let symbol = |name: &CStr| {
            // SAFETY: the handle is open and is never closed.
            let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
            assert!(!symbol.is_null(), "{name:?} is there");
            symbol
        };
        let (prepare, set_stale) = (symbol(c"steps_prepare"), symbol(c"steps_set_stale"));
        let run = symbol(c"steps_run");
        Some(Self::Library {
            // SAFETY: `steps.c` declares the function with this type.
            prepare: unsafe { std::mem::transmute::<*mut libc::c_void, Prepare>(prepare) },
            // SAFETY: `steps.c` declares the function with this type.
            set_stale: unsafe { std::mem::transmute::<*mut libc::c_void, SetStale>(set_stale) },
            // SAFETY: `steps.c` declares the function with this type.
            run: unsafe { std::mem::transmute::<*mut libc::c_void, Run>(run) },
        })
    }

    /// Starts a child that is stopped at the beginning of an operation. `stale` is the
    /// address of a segment with stale locks, for the operation that opens it.
    fn walker(&self, address: &str, operation: &str, stale: &str) -> Walker {
        let texts = [address, &fingerprint(), operation, stale];
        let texts = texts.map(|text| CString::new(text).expect("it has no zero byte"));
        match self {
            Self::Library {
                prepare,
                set_stale,
                run,
            } => Walker::prepared(
                || {
                    let [address, fingerprint, operation, stale] =
                        texts.each_ref().map(|text| text.as_ptr());
                    // SAFETY: the function takes a text.
                    unsafe { set_stale(stale) };
                    // SAFETY: the function takes three texts.
                    unsafe { prepare(address, fingerprint, operation) };
                },
                // SAFETY: the function may be called after `steps_prepare`.
                |()| unsafe { run() },
            ),
            Self::Program(path) => {
                Walker::of_program(path, &texts.each_ref().map(|text| text.as_c_str()))
            }
        }
    }
}

/// Where the victim is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    After(u64),
    Asleep,
    Woken,
}

/// What this process holds while the victim runs.
#[derive(Default)]
struct Held {
    permits: Vec<SemaphorePermit<'static, PERMITS>>,
    sender: Option<Sender<'static, u8, CAPACITY, ENDPOINTS, ENDPOINTS>>,
    receiver: Option<Receiver<'static, u8, CAPACITY, ENDPOINTS, ENDPOINTS>>,
}

/// An operation of `steps.c`, and what is around it.
struct Scene<'a> {
    operation: &'a str,
    /// Prepares the objects in this process.
    set_up: &'a dyn Fn(&'static World, &mut Held),
    /// Processes that sleep when the operation begins.
    sleeper: Option<&'a dyn Fn(&'static World)>,
    /// Causes what the victim or the sleeper waits for.
    release: &'a dyn Fn(&'static World, &mut Held),
    /// Checks the result in this process. The flag tells whether the operation had
    /// ended.
    check: &'a dyn Fn(&'static World, &Held, bool),
}

const PLAIN: Scene<'static> = Scene {
    operation: "nothing",
    set_up: &|_, _| (),
    sleeper: None,
    release: &|_, _| (),
    check: &|_, _, _| (),
};

/// Waits until a child has ended with exit status 0.
fn expect_end(mut child: Child, what: &str) {
    let begin = Instant::now();
    let mut status = None;
    poll(|| {
        status = child.try_wait();
        assert!(begin.elapsed() < TIME_LIMIT, "{what} is stuck");
        status.is_some()
    });
    assert!(
        matches!(status, Some(WaitStatus::Exited(_, 0))),
        "{what}: {status:?}"
    );
}

/// Uses all objects, in new processes of this program.
fn use_everything(world: &'static World, held: &Held, what: &str) {
    expect_end(
        spawn(|| {
            let mut guard = match world.ledger.try_lock_for(TIME_LIMIT) {
                Ok(guard) => {
                    assert_eq!(guard.total, guard.check, "torn data are poisoned");
                    guard
                }
                Err(LockError::Poisoned(poisoned)) => poisoned.recover(Ledger::repair),
                Err(other) => panic!("{other:?}"),
            };
            guard.turn = 0;
            drop(guard);
            for worker in &world.workers {
                let _ = worker.lock.lock_or_recover(|_, _| ()).expect("it is free");
            }
            let wanted = PERMITS - held.permits.len();
            let permits = world.permits.try_acquire_many_for(wanted, TIME_LIMIT);
            assert_eq!(permits.expect("they are free").len(), wanted);
            world.turnstile.set().expect("it is initialised");
            let waited = world.turnstile.wait_timeout(TIME_LIMIT);
            assert!(!waited.expect("it is initialised").timed_out(), "it is set");
        }),
        what,
    );
    let waiter = spawn(|| {
        let guard = world
            .ledger
            .try_lock_for(TIME_LIMIT)
            .expect("it is repaired");
        let waited = world
            .changed
            .wait_timeout_while(guard, TIME_LIMIT, |ledger| ledger.turn != 99);
        assert!(
            !waited.expect("no holder dies").1.timed_out(),
            "it is notified"
        );
    });
    let notifier = spawn(|| {
        let mut guard = world
            .ledger
            .try_lock_for(TIME_LIMIT)
            .expect("it is repaired");
        guard.turn = 99;
        world.changed.notify_one();
    });
    expect_end(notifier, what);
    expect_end(waiter, what);
    expect_end(
        spawn(|| {
            let taken = usize::from(held.sender.is_some());
            let senders: Vec<_> = (taken..ENDPOINTS)
                .map(|_| world.bytes.sender().expect("each endpoint comes back"))
                .collect();
            let taken = usize::from(held.receiver.is_some());
            let receivers: Vec<_> = (taken..ENDPOINTS)
                .map(|_| world.bytes.receiver().expect("each endpoint comes back"))
                .collect();
            while receivers[0].try_recv().is_ok() {}
            senders[0].send(77).expect("there is room");
            let got = receivers[0].recv_timeout(TIME_LIMIT).expect("it is sent");
            assert_eq!(got, 77, "the byte of the new sender");
        }),
        what,
    );
}

impl Scene<'_> {
    /// Leads the victim to a point. Returns whether the operation has ended, and the
    /// number of instructions.
    fn walk(
        &self,
        world: &'static World,
        held: &RefCell<Held>,
        walker: &mut Walker,
        point: Point,
    ) -> (bool, u64) {
        let mut is_released = false;
        for number in 0.. {
            if walker.is_at_end() {
                return (true, number);
            }
            if point == Point::After(number) {
                return (false, number);
            }
            let Some(is_asleep) = walker.step_or_sleep().waits() else {
                continue;
            };
            if point == Point::Asleep && is_asleep {
                return (false, number);
            }
            // Once more if the deadline has passed again: another process may have used
            // the first event.
            if !is_released || !is_asleep {
                (self.release)(world, &mut held.borrow_mut());
                is_released = true;
            }
            if point == Point::Woken {
                return (false, number);
            }
            poll(|| !is_asleep || walker.stands());
        }
        unreachable!("an operation has fewer instructions than u64 has numbers")
    }

    fn kill_at(&self, steps: &Steps, point: Point) -> (bool, u64) {
        let address = TestAddress::new(Backing::Posix, "languages-steps");
        let segment = SegmentOptions::new()
            .removal(Removal::UntilLastDetach)
            .create(&address, World::new())
            .expect("the name is new");
        let world: *const World = &raw const *segment;
        // SAFETY: the segment is mapped until it is dropped at the end, when all that
        // borrows from it has ended.
        let world: &'static World = unsafe { &*world };
        let held = RefCell::new(Held::default());
        (self.set_up)(world, &mut held.borrow_mut());
        let sleeper = self.sleeper.map(|sleep| {
            let child = spawn(|| sleep(world));
            child.wait_until_asleep();
            child
        });
        let mut walker = steps.walker(&address, self.operation, "");
        let (is_over, instructions) = self.walk(world, &held, &mut walker, point);
        walker.kill();
        let what = format!("{} killed at {point:?}", self.operation);
        (self.check)(world, &held.borrow(), is_over);
        (self.release)(world, &mut held.borrow_mut());
        if let Some(sleeper) = sleeper {
            expect_end(sleeper, &format!("{what}: the sleeper"));
        }
        use_everything(world, &held.borrow(), &what);
        drop(held);
        drop(segment);
        assert!(!address.exists(), "{what}: this was the last user");
        (is_over, instructions)
    }

    /// Kills at some instructions, and in the sleep.
    fn run(&self) {
        if !can_lead_for(self.operation) {
            return;
        }
        let Some(steps) = Steps::load() else { return };
        let (is_over, instructions) = self.kill_at(&steps, Point::After(u64::MAX));
        assert!(is_over, "{} ends", self.operation);
        let stride = number_from_env("SHM_SYNC_KILL_STRIDE")
            .unwrap_or(instructions.div_ceil(MOST_KILLS))
            .max(1);
        let offset = u64::from(std::process::id()) % stride;
        let numbers = (offset..=instructions).step_by(stride as usize);
        let mut points: Vec<Point> = numbers.map(Point::After).collect();
        points.extend([Point::Asleep, Point::Woken]);
        let mut inside = 0;
        for point in &points {
            let (is_over, _) = self.kill_at(&steps, *point);
            inside += u32::from(!is_over);
        }
        println!(
            "{}: {instructions} instructions, {} kills, {inside} inside",
            self.operation,
            points.len()
        );
        assert!(inside > 0 || instructions == 0, "{}", self.operation);
    }
}

/// Kills a process that reinitialises the locks of a copy, at a point. Another process
/// then finds them usable, and the data poisoned. Returns whether the operation has
/// ended, and the number of instructions.
fn kill_in_reinitialisation(steps: &Steps, point: u64) -> (bool, u64) {
    let address = TestAddress::new(Backing::Posix, "languages-original");
    let segment = Segment::create(&address, World::new()).expect("the name is new");
    let mut guard = segment.ledger.lock().expect("it is free");
    guard.total += 1;
    let permit = segment.permits.acquire().expect("it is free");
    let copy = TestName::new("languages-copy");
    copy.write(&std::fs::read(format!("/dev/shm{}", &*address)).expect("it is a file"));
    drop((permit, guard));
    let mut walker = steps.walker(&address, "attach_stale", &copy);
    let mut number = 0;
    while number < point && !walker.is_at_end() {
        walker.step_blindly();
        number += 1;
    }
    let is_over = walker.is_at_end();
    walker.kill();
    expect_end(
        spawn(|| {
            let copied = Segment::<World>::open(&copy).expect("it can be opened");
            let result = copied.ledger.try_lock_for(TIME_LIMIT);
            let Err(LockError::Poisoned(poisoned)) = result else {
                panic!("the lock was held, so the data are poisoned: {result:?}");
            };
            drop(poisoned.recover(Ledger::repair));
            let permits = copied.permits.try_acquire_many_for(PERMITS, TIME_LIMIT);
            let permits = permits.expect("they are free");
            let dead = permits.iter().filter(|permit| permit.after_death()).count();
            assert_eq!(dead, 1, "the holder of one permit is gone");
        }),
        &format!("reinitialisation killed after {point}"),
    );
    (is_over, number)
}

/// Leaves torn data and an owner death.
fn leave_torn(world: &'static World, _: &mut Held) {
    let mut owner = spawn(|| {
        let mut guard = world.ledger.lock().expect("it is free");
        guard.total += 1;
        die();
    });
    owner.wait();
}

/// Waits for a turn, and repairs after an owner death.
fn sleep_for_turn(world: &'static World) {
    let mut guard = world
        .ledger
        .lock_or_recover(|ledger, _| ledger.repair())
        .expect("it can be locked");
    while guard.turn != 7 {
        guard = match world.changed.wait(guard) {
            Ok(guard) => guard,
            Err(LockError::Poisoned(poisoned)) => poisoned.recover(Ledger::repair),
            Err(other) => panic!("{other:?}"),
        };
    }
}

fn give_turn(world: &'static World, _: &mut Held) {
    let mut guard = match world.ledger.try_lock_for(TIME_LIMIT) {
        Ok(guard) => guard,
        Err(LockError::Poisoned(poisoned)) => poisoned.recover(Ledger::repair),
        Err(other) => panic!("{other:?}"),
    };
    guard.turn = 7;
    world.changed.notify_all();
}

fn take_all_permits(world: &'static World, held: &mut Held) {
    held.permits = world.permits.acquire_many(PERMITS).expect("they are free");
}

on_stage! {
    fn smoke() {
        PLAIN.run();
    }

    fn locks_survive_kills() {
        for operation in ["lock", "try_lock", "section"] {
            Scene { operation, ..PLAIN }.run();
        }
        Scene {
            operation: "unlock",
            check: &|world, _, _| {
                let guard = world.ledger.lock_or_recover(|_, _| ());
                let guard = guard.expect("it is free");
                assert_eq!((guard.total, guard.check), (1, 1), "the change is complete");
            },
            ..PLAIN
        }
        .run();
    }

    fn contended_lock_survives_kills() {
        // The sleeper waits for the lock that the victim unlocks.
        Scene {
            operation: "notify_one",
            sleeper: Some(&sleep_for_turn),
            release: &give_turn,
            ..PLAIN
        }
        .run();
    }

    fn recovery_survives_kills() {
        Scene {
            operation: "recover",
            set_up: &leave_torn,
            check: &|world, _, is_over| {
                match world.ledger.try_lock_for(TIME_LIMIT) {
                    Ok(guard) => {
                        assert_eq!(guard.total, guard.check, "the repair is complete");
                        assert_eq!(guard.repairs, 1, "the victim has repaired");
                    }
                    Err(LockError::Poisoned(_)) => assert!(!is_over, "the poison is cleared"),
                    Err(other) => panic!("{other:?}"),
                }
            },
            ..PLAIN
        }
        .run();
        Scene {
            operation: "poison",
            check: &|world, _, is_over| {
                let result = world.ledger.try_lock_for(TIME_LIMIT);
                let is_poisoned = matches!(result, Err(LockError::Poisoned(_)));
                assert!(is_poisoned || !is_over, "the poison is there");
            },
            ..PLAIN
        }
        .run();
    }

    fn wait_survives_kills() {
        Scene {
            operation: "wait",
            sleeper: Some(&sleep_for_turn),
            release: &give_turn,
            ..PLAIN
        }
        .run();
    }

    fn notify_survives_kills() {
        Scene {
            operation: "notify_all",
            sleeper: Some(&sleep_for_turn),
            release: &give_turn,
            ..PLAIN
        }
        .run();
    }

    fn semaphore_survives_kills() {
        Scene { operation: "acquire_and_release", ..PLAIN }.run();
        Scene {
            operation: "acquire",
            set_up: &take_all_permits,
            release: &|_, held| held.permits.clear(),
            ..PLAIN
        }
        .run();
    }

    fn event_survives_kills() {
        Scene {
            operation: "set",
            sleeper: Some(&|world| world.turnstile.wait().expect("it is initialised")),
            release: &|world, _| world.turnstile.set().expect("it is initialised"),
            ..PLAIN
        }
        .run();
        Scene {
            operation: "await",
            release: &|world, _| world.turnstile.set().expect("it is initialised"),
            ..PLAIN
        }
        .run();
    }

    fn channel_survives_kills() {
        Scene {
            operation: "send",
            set_up: &|world, held| {
                held.receiver = Some(world.bytes.receiver().expect("there is a seat"));
            },
            check: &|_, held, is_over| {
                let receiver = held.receiver.as_ref().expect("it is open");
                let got = receiver.recv_timeout(TIME_LIMIT);
                assert!(got.is_ok() || !is_over, "the byte is sent: {got:?}");
                assert!(got.is_err() || got.is_ok_and(|byte| byte == 9), "it is whole");
            },
            ..PLAIN
        }
        .run();
        Scene {
            operation: "recv",
            set_up: &|world, held| {
                let sender = world.bytes.sender().expect("there is a seat");
                sender.send(9).expect("there is room");
                sender.send(9).expect("there is room");
                held.sender = Some(sender);
            },
            check: &|world, _, is_over| {
                let left = world.bytes.len();
                assert!(left == 1 || left == 2 && !is_over, "{left} bytes are left");
            },
            ..PLAIN
        }
        .run();
        Scene {
            operation: "recv",
            set_up: &|world, held| {
                held.sender = Some(world.bytes.sender().expect("there is a seat"));
            },
            release: &|_, held| {
                let sender = held.sender.as_ref().expect("it is open");
                sender.send(9).expect("there is room");
            },
            ..PLAIN
        }
        .run();
        Scene { operation: "ends", ..PLAIN }.run();
    }

    fn reinitialisation_survives_kills() {
        if !can_lead_for("reinitialisation_survives_kills") {
            return;
        }
        let Some(steps) = Steps::load() else { return };
        let (is_over, instructions) = kill_in_reinitialisation(&steps, u64::MAX);
        assert!(is_over, "it ends");
        let stride = number_from_env("SHM_SYNC_KILL_STRIDE")
            .unwrap_or(instructions.div_ceil(2 * MOST_KILLS))
            .max(1);
        let offset = u64::from(std::process::id()) % stride;
        let points = (offset..instructions).step_by(stride as usize);
        let kills = points.clone().count();
        let inside = points.filter(|point| !kill_in_reinitialisation(&steps, *point).0);
        println!(
            "reinitialisation: {instructions} instructions, {kills} kills, {} inside",
            inside.count()
        );
    }

    fn attachment_survives_kills() {
        Scene { operation: "attach", ..PLAIN }.run();
    }
}
