//! Every operation on locks and condition variables, killed at every instruction.
//!
//! A child is led through one call by `ptrace`, one instruction at a time, and killed
//! after the i-th; another after the next; and so on to the return. Each time, others
//! must get on: a fresh process, those that sleep on the lock, and those that sleep on
//! the condition variable. What they see is counted.
//!
//! By default, the long ways are tried at some instructions, others each time, and
//! always before and behind a change of a shared word and a system call. For all
//! instructions of all ways, but of a panic, which has 30,000:
//!
//! ```sh
//! SHM_SYNC_KILL_STRIDE=1 SHM_SYNC_TEST_WATCHDOG=1800 \
//!     cargo test --release --test crash -- --nocapture --skip panic every_instruction
//! SHM_SYNC_KILL_STRIDE=60 SHM_SYNC_TEST_WATCHDOG=1800 \
//!     cargo test --release --test crash -- --nocapture killed_while_a_panic
//! ```
//!
//! The harness is tried as well, on subjects that don't survive.

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

mod arena;
mod experiment;
mod operation;
mod planted;
mod report;
mod subject;
mod survey;

use std::time::Duration;

use crate::support::on_stage;
use crate::support::walker::can_lead_for;
use arena::Fault;
use operation::{Operation, Scene, Way};
use planted::{Forgiving, Hasty, OverPthread, Ownerless};
use report::{HEADINGS, Report, Rigour, kill_everywhere};
use subject::{Inheriting, Ours, Subject};
use survey::Survey;

/// What the documentation promises. Asserted of the median, because any single
/// survivor may be held up by a busy machine.
const HEALS_WITHIN: Duration = Duration::from_millis(250);

/// Kills at the points of an operation, in some scenes, and finds nothing wrong.
fn survive(operation: Operation, stride: u64, scenes: &[Scene]) {
    survive_of::<Ours>(operation, stride, scenes);
}

fn survive_of<S: Subject>(operation: Operation, stride: u64, scenes: &[Scene]) {
    if !can_lead_for(&format!("{operation:?}")) {
        return;
    }
    println!("{HEADINGS}");
    for &scene in scenes {
        let report = report_on::<S>(operation, scene, Rigour::with_stride(stride));
        assert_eq!(report.faulty(), 0, "{report}");
        assert_eq!(report.left_out(), 0, "{report}");
        assert!(report.killed() > 0, "{report}");
        let healed = report.slept_on_condvar().median();
        assert!(healed.is_none_or(|it| it < HEALS_WITHIN), "{report}");
    }
}

fn report_on<S: Subject>(operation: Operation, scene: Scene, rigour: Rigour) -> Report {
    let report = kill_everywhere::<S>(Way::new(operation, scene), rigour);
    println!("{report}");
    report
}

fn steps_of<S: Subject>(operation: Operation, scene: Scene) -> Vec<&'static str> {
    let steps = Survey::of::<S>(Way::new(operation, scene)).steps();
    println!("| {operation:?} | {scene:?} | {} |", steps.join(", "));
    steps
}

/// The same among others, who do their own: by the heartbeat even before they are
/// woken, and if all have, nobody is woken. What was done before may be theirs.
fn steps_in_a_crowd(operation: Operation, scene: Scene, argument: &[&str]) -> Vec<&'static str> {
    let mut seen = Vec::new();
    for step in steps_of::<Ours>(operation, scene) {
        if argument.contains(&step) && !seen.contains(&step) {
            seen.push(step);
        }
    }
    seen
}

/// Every instruction. There are few of them, because `Cargo.toml` has this package
/// optimised in the development profile, too.
const ALL: u64 = 1;

/// The scenes of a long way in which nothing happens that does not in its others: for
/// those who have chosen a stride.
fn survive_in_full(operation: Operation, scenes: &[Scene]) {
    if crate::support::number_from_env("SHM_SYNC_KILL_STRIDE").is_some() {
        survive(operation, ALL, scenes);
    }
}

/// What the arguments in `src/sync` and docs/design.md say, in their order.
const ARGUMENTS: [(Operation, Scene, &[&str]); 15] = [
    (Operation::Lock, Scene::Alone, &["word taken", "holder set"]),
    (
        Operation::TryLock,
        Scene::Alone,
        &["word taken", "holder set"],
    ),
    (
        Operation::TryLockFor,
        Scene::Alone,
        &["word taken", "holder set"],
    ),
    (
        Operation::Unlock,
        Scene::Alone,
        &["holder removed", "word freed"],
    ),
    (
        Operation::Unlock,
        Scene::Crowd,
        &["holder removed", "word freed", "futex wake"],
    ),
    (
        Operation::Section,
        Scene::Alone,
        &[
            "word taken",
            "holder set",
            "data",
            "data",
            "holder removed",
            "word freed",
        ],
    ),
    (
        Operation::Inherit,
        Scene::Alone,
        &[
            "word taken",
            "poison set",
            "poisonings up",
            "made consistent",
            "holder set",
        ],
    ),
    (
        Operation::Recover,
        Scene::Alone,
        &["data", "data", "poison cleared"],
    ),
    (
        Operation::Panic,
        Scene::Alone,
        &[
            "poison set",
            "poisonings up",
            "holder removed",
            "word freed",
        ],
    ),
    (Operation::Wait, Scene::Alone, WAIT),
    (Operation::WaitTimeout, Scene::Alone, WAIT),
    (
        Operation::Wait,
        Scene::Called,
        &[
            "holder removed",
            "word freed",
            "sleepers up",
            "futex wait",
            "sleepers down",
            "futex wake",
            "word taken",
            "holder set",
        ],
    ),
    (Operation::NotifyOne, Scene::Alone, &["sequence up"]),
    (
        Operation::NotifyOne,
        Scene::Crowd,
        &["sequence up", "futex wake"],
    ),
    (
        Operation::NotifyAll,
        Scene::Crowd,
        &["sequence up", "futex wake"],
    ),
];

const WAIT: &[&str] = &[
    "holder removed",
    "word freed",
    "sleepers up",
    "futex wait",
    "sleepers down",
    "word taken",
    "holder set",
];

on_stage! {
    fn smoke() {
        survive(Operation::Nothing, ALL, &[Scene::Alone]);
    }

    fn killed_while_it_locks() {
        survive(Operation::Lock, ALL, &[Scene::Alone]);
        survive(Operation::Lock, 4, &[Scene::Crowd]);
        survive(Operation::Lock, 8, &[Scene::Behind, Scene::First, Scene::Overtaken]);
        survive(Operation::FirstLock, 50, &[Scene::Alone]);
    }

    fn killed_while_it_tries_to_lock() {
        survive(Operation::TryLock, ALL, &[Scene::Alone]);
        survive(Operation::TryLock, 4, &[Scene::Crowd]);
        survive(Operation::TryLockFor, 4, &[Scene::Alone, Scene::Crowd]);
        survive(Operation::TryLockFor, 12, &[Scene::Behind, Scene::First, Scene::Overtaken]);
    }

    fn killed_while_it_unlocks() {
        survive(Operation::Unlock, ALL, &[Scene::Alone]);
        survive(Operation::Unlock, 4, &[Scene::Crowd]);
        survive(Operation::Section, 4, &[Scene::Alone]);
        survive(Operation::Section, 4, &[Scene::Crowd]);
    }

    fn killed_while_it_inherits_and_repairs() {
        survive(Operation::Inherit, 8, &[Scene::Alone, Scene::First]);
        survive(Operation::Recover, 4, &[Scene::Alone, Scene::Crowd]);
    }

    fn killed_while_a_panic_unwinds_through_its_guard() {
        survive(Operation::Panic, 16_000, &[Scene::Crowd]);
        survive_in_full(Operation::Panic, &[Scene::Alone]);
    }

    fn killed_while_it_waits() {
        survive(Operation::Wait, 100, &[Scene::Crowd, Scene::First, Scene::Called]);
        survive_in_full(Operation::Wait, &[Scene::Alone]);
    }

    fn killed_while_it_waits_for_a_time() {
        survive(Operation::WaitTimeout, 100, &[Scene::Alone, Scene::First, Scene::Called]);
        survive_in_full(Operation::WaitTimeout, &[Scene::Crowd]);
    }

    fn killed_while_it_notifies() {
        for operation in [Operation::NotifyOne, Operation::NotifyAll] {
            survive(operation, ALL, &[Scene::Alone]);
            survive(operation, 2, &[Scene::Crowd, Scene::Unlocked]);
        }
    }

    // No third thread overtakes: the kernel has assigned the lock before the victim wakes.
    fn inheriting_lock_killed_while_it_locks() {
        survive_of::<Inheriting>(Operation::Lock, 2, &[Scene::Alone]);
        survive_of::<Inheriting>(Operation::Lock, 8, &[Scene::Crowd, Scene::Behind, Scene::First]);
        survive_of::<Inheriting>(Operation::TryLock, 4, &[Scene::Alone]);
        survive_of::<Inheriting>(Operation::TryLockFor, 12, &[Scene::Behind, Scene::First]);
    }

    fn inheriting_lock_killed_while_it_unlocks() {
        survive_of::<Inheriting>(Operation::Unlock, 2, &[Scene::Alone, Scene::Crowd]);
        survive_of::<Inheriting>(Operation::Section, 4, &[Scene::Alone, Scene::Crowd]);
    }

    fn inheriting_lock_killed_while_it_inherits_and_repairs() {
        survive_of::<Inheriting>(Operation::Inherit, 8, &[Scene::Alone, Scene::First]);
        survive_of::<Inheriting>(Operation::Recover, 4, &[Scene::Crowd]);
    }

    fn inheriting_lock_killed_while_it_waits() {
        survive_of::<Inheriting>(Operation::Wait, 100, &[Scene::Crowd, Scene::First]);
        survive_of::<Inheriting>(Operation::WaitTimeout, 100, &[Scene::Called]);
    }

    fn the_steps_are_in_the_order_of_the_arguments() {
        if !can_lead_for("the order of the steps") {
            return;
        }
        println!("| operation | scene | steps |\n|---|---|---|");
        for (operation, scene, argument) in ARGUMENTS {
            let steps = match scene {
                Scene::Crowd | Scene::Called => {
                    let mut tries = (0..5).map(|_| steps_in_a_crowd(operation, scene, argument));
                    tries.find(|steps| steps == argument).unwrap_or_default()
                }
                _ => steps_of::<Ours>(operation, scene),
            };
            assert_eq!(steps, argument, "{operation:?}");
        }
    }

    fn the_order_tells_a_repair_that_comes_after_the_all_clear() {
        if !can_lead_for("the order of the steps") {
            return;
        }
        // No kill shows it: who dies in a repair dies with the lock held, and that
        // poisons again.
        let steps = steps_of::<Hasty>(Operation::Recover, Scene::Alone);
        assert_eq!(steps, ["poison cleared", "data", "data"]);
    }

    fn it_finds_those_that_a_pthread_condvar_leaves_stuck() {
        if !can_lead_for("PthreadCondvar") {
            return;
        }
        println!("{HEADINGS}");
        let rigour = Rigour::for_a_planted_fault(96);
        let notify = report_on::<OverPthread>(Operation::NotifyOne, Scene::Unlocked, rigour);
        let wait = report_on::<OverPthread>(Operation::Wait, Scene::First, rigour);
        assert!(notify.faulty() + wait.faulty() > 0, "another glibc, a better one?");
    }

    fn it_finds_the_lock_that_dies_with_its_owner() {
        if !can_lead_for("a lock without owners") {
            return;
        }
        println!("{HEADINGS}");
        let rigour = Rigour::for_a_planted_fault(48);
        let lock = report_on::<Ownerless>(Operation::Lock, Scene::Alone, rigour);
        assert!(!lock.points_with(Fault::LockStuck).is_empty());
        let unlock = report_on::<Ownerless>(Operation::Unlock, Scene::Crowd, rigour);
        assert!(!unlock.points_with(Fault::LockStuck).is_empty());
        let section = report_on::<Ownerless>(Operation::Section, Scene::Alone, rigour);
        assert!(section.killed() > section.faulty(), "before and behind, it is free");
    }

    fn it_finds_what_is_torn_if_a_death_is_not_passed_on() {
        if !can_lead_for("a lock that hides deaths") {
            return;
        }
        println!("{HEADINGS}");
        let rigour = Rigour::for_a_planted_fault(48);
        let section = report_on::<Forgiving>(Operation::Section, Scene::Alone, rigour);
        assert!(!section.points_with(Fault::Torn).is_empty());
        let inherit = report_on::<Forgiving>(Operation::Inherit, Scene::Alone, rigour);
        assert!(!inherit.points_with(Fault::Torn).is_empty());
    }
}
