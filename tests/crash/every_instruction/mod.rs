//! Every operation on locks and condition variables, killed at every instruction.
//!
//! `ptrace` steps a child through one operation, one instruction at a time, and kills
//! it after the n-th instruction, with another child for each n. After each kill, the
//! survivors must continue: a new process, the waiters of the lock, and the waiters of
//! the condition variable. Their observations are counted.
//!
//! By default, long operations are killed in some scenes and at some instructions.
//! These differ from run to run, and always include those before and after a system
//! call and a change of a shared word. `.ci/run` kills optimised operations in all
//! scenes, at one in four instructions. A panic has 30,000 instructions. These commands
//! kill at all instructions of the other operations, and at some of the panic:
//!
//! ```sh
//! SHM_SYNC_KILL_STRIDE=1 SHM_SYNC_TEST_WATCHDOG=1800 \
//!     cargo test --release --test crash -- --nocapture --skip panic every_instruction
//! SHM_SYNC_KILL_STRIDE=60 SHM_SYNC_TEST_WATCHDOG=1800 \
//!     cargo test --release --test crash -- --nocapture panic_survives
//! ```
//!
//! The harness also runs on subjects with planted mistakes, in which it must find
//! faults.

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

mod arena;
mod experiment;
mod operation;
mod planted;
mod report;
mod subject;
mod trace;

use std::time::Duration;

use crate::support::on_stage;
use crate::support::walker::can_lead_for;
use crate::tables::{ResultFile, print_header, print_row};
use arena::Fault;
use operation::{Case, Operation, Scene};
use planted::{ClearsPoisonFirst, HidesOwnerDeath, NotRobust, WithPthreadCondvar};
use report::{HEADER, PLANTED_HEADER, Report, Settings, kill_at_all_points};
use subject::{Ours, PriorityInheritance, Subject, WITH_INHERITANCE, WITHOUT_PROTOCOL};
use trace::Trace;

/// The time that the documentation promises. It is asserted of the median, because a
/// busy machine may delay any single survivor.
const RECOVERS_WITHIN: Duration = Duration::from_millis(250);

const STEPS: &str = "Steps";
const PLANTED: &str = "Planted mistakes: subjects";

static KILLS: ResultFile = ResultFile::new(
    "kills",
    "Kills at every instruction",
    &[WITHOUT_PROTOCOL, WITH_INHERITANCE, STEPS, PLANTED],
    &Operation::TEXTS,
);

fn record(output: &str) {
    KILLS.add(output);
}

/// Kills at the points of an operation in some scenes, and expects no fault.
fn survive(operation: Operation, stride: u64, scenes: &[Scene]) {
    survive_of::<Ours>(operation, stride, scenes);
}

fn survive_of<S: Subject>(operation: Operation, stride: u64, scenes: &[Scene]) {
    if !can_lead_for(&format!("{operation:?}")) {
        return;
    }
    print_header(S::NAME, &HEADER);
    for &scene in scenes {
        let case = Case::new(operation, scene);
        let report = kill_at_all_points::<S>(case, Settings::with_stride(stride));
        print_row(&report.row());
        println!("{report}");
        assert_eq!(report.faulty(), 0, "{report}");
        assert_eq!(report.left_out(), 0, "{report}");
        assert!(report.killed() > 0, "{report}");
        let recovered = report.waited_on_condvar().median();
        assert!(recovered.is_none_or(|it| it < RECOVERS_WITHIN), "{report}");
    }
}

/// Kills at the points of an operation of a subject with a planted mistake.
fn report_on<S: Subject>(operation: Operation, scene: Scene, settings: Settings) -> Report {
    print_header(PLANTED, &PLANTED_HEADER);
    let report = kill_at_all_points::<S>(Case::new(operation, scene), settings);
    print_row(&report.planted_row(S::NAME));
    println!("{report}");
    report
}

fn steps_of<S: Subject>(operation: Operation, scene: Scene) -> Vec<&'static str> {
    Trace::of::<S>(Case::new(operation, scene)).steps()
}

/// Returns each documented step once, in the order in which it was first seen. In a
/// crowd, waiters repeat steps: they wake by the recheck interval even before a
/// notification, and then no process is woken. An earlier step may also be that of a
/// waiter.
fn steps_in_a_crowd(operation: Operation, scene: Scene, documented: &[&str]) -> Vec<&'static str> {
    let mut seen = Vec::new();
    for step in steps_of::<Ours>(operation, scene) {
        if documented.contains(&step) && !seen.contains(&step) {
            seen.push(step);
        }
    }
    seen
}

/// Every instruction. There are few, because `Cargo.toml` optimises this package in the
/// development profile as well.
const ALL: u64 = 1;

/// Kills in further scenes of a long operation, if the environment sets the stride.
fn survive_in_full(operation: Operation, scenes: &[Scene]) {
    survive_in_full_of::<Ours>(operation, scenes);
}

fn survive_in_full_of<S: Subject>(operation: Operation, scenes: &[Scene]) {
    if crate::support::number_from_env("SHM_SYNC_KILL_STRIDE").is_some() {
        survive_of::<S>(operation, ALL, scenes);
    }
}

/// The steps in the arguments of `src/sync` and docs/design.md, in their order.
const DOCUMENTED_STEPS: [(Operation, Scene, &[&str]); 19] = [
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
        Operation::RecoverOwnerDeath,
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
    (Operation::WaitTimeout, Scene::Alone, WAIT),
    (Operation::Wait, Scene::Alone, WAIT),
    (Operation::Wait, Scene::Called, WAIT),
    (Operation::NotifyOne, Scene::Alone, &["sequence up"]),
    (Operation::NotifyOne, Scene::Crowd, &["sequence up"]),
    (
        Operation::NotifyOne,
        Scene::Unlocked,
        &["sequence up", "futex wake"],
    ),
    (
        Operation::NotifyOneAndUnlock,
        Scene::Crowd,
        &["sequence up", "holder removed", "word freed", "futex wake"],
    ),
    (
        Operation::NotifyAll,
        Scene::Crowd,
        &["sequence up", "futex requeue"],
    ),
    (
        Operation::NotifyAll,
        Scene::Unlocked,
        &["sequence up", "futex wake"],
    ),
    (
        Operation::NotifyAllAndUnlock,
        Scene::Crowd,
        &[
            "sequence up",
            "futex requeue",
            "holder removed",
            "word freed",
            "futex wake",
        ],
    ),
];

const WAIT: &[&str] = &[
    "holder removed",
    "word freed",
    "distance to mutex set",
    "waiters up",
    "futex wait",
    "waiters down",
    "word taken",
    "holder set",
];

on_stage! {
    output to record;

    fn smoke() {
        survive(Operation::Nothing, ALL, &[Scene::Alone]);
    }

    fn lock_survives_kills() {
        survive(Operation::Lock, ALL, &[Scene::Alone]);
        survive(Operation::Lock, 8, &[Scene::Crowd]);
        survive(Operation::Lock, 40, &[Scene::Overtaken]);
        survive_in_full(Operation::Lock, &[Scene::Behind, Scene::First]);
        survive(Operation::FirstLock, 50, &[Scene::Alone]);
    }

    fn try_lock_survives_kills() {
        survive(Operation::TryLock, ALL, &[Scene::Alone]);
        survive(Operation::TryLock, 8, &[Scene::Crowd]);
        survive(Operation::TryLockFor, 8, &[Scene::Alone]);
        survive(Operation::TryLockFor, 60, &[Scene::First]);
        survive_in_full(Operation::TryLockFor, &[Scene::Crowd, Scene::Behind, Scene::Overtaken]);
    }

    fn unlock_survives_kills() {
        survive(Operation::Unlock, ALL, &[Scene::Alone]);
        survive(Operation::Unlock, 4, &[Scene::Crowd]);
        survive(Operation::Section, 4, &[Scene::Alone]);
        survive(Operation::Section, 4, &[Scene::Crowd]);
    }

    fn recovery_survives_kills() {
        survive(Operation::RecoverOwnerDeath, 8, &[Scene::Alone, Scene::First]);
        survive(Operation::Recover, 4, &[Scene::Alone, Scene::Crowd]);
    }

    fn panic_survives_kills() {
        survive(Operation::Panic, 16_000, &[Scene::Crowd]);
        survive_in_full(Operation::Panic, &[Scene::Alone]);
    }

    fn wait_survives_kills() {
        survive(Operation::Wait, 100, &[Scene::Crowd, Scene::First]);
        survive_in_full(Operation::Wait, &[Scene::Alone, Scene::Called]);
    }

    fn wait_timeout_survives_kills() {
        survive(Operation::WaitTimeout, 100, &[Scene::Called]);
        survive_in_full(Operation::WaitTimeout, &[Scene::Alone, Scene::Crowd, Scene::First]);
    }

    fn notify_survives_kills() {
        for operation in [Operation::NotifyOne, Operation::NotifyAll] {
            survive(operation, ALL, &[Scene::Alone]);
            survive(operation, 2, &[Scene::Crowd, Scene::Unlocked]);
        }
    }

    fn unlock_after_notification_survives_kills() {
        for operation in [Operation::NotifyOneAndUnlock, Operation::NotifyAllAndUnlock] {
            survive(operation, 4, &[Scene::Alone]);
            survive(operation, 2, &[Scene::Crowd]);
        }
    }

    // `Overtaken` is missing, because the kernel assigns the lock before the victim
    // wakes.
    fn pi_lock_survives_kills() {
        survive_of::<PriorityInheritance>(Operation::Lock, 2, &[Scene::Alone]);
        survive_of::<PriorityInheritance>(Operation::Lock, 8, &[Scene::Crowd, Scene::First]);
        survive_in_full_of::<PriorityInheritance>(Operation::Lock, &[Scene::Behind]);
        survive_of::<PriorityInheritance>(Operation::TryLock, 4, &[Scene::Alone]);
        survive_of::<PriorityInheritance>(Operation::TryLockFor, 12, &[Scene::Behind]);
        survive_in_full_of::<PriorityInheritance>(Operation::TryLockFor, &[Scene::First]);
    }

    fn pi_unlock_survives_kills() {
        survive_of::<PriorityInheritance>(Operation::Unlock, 4, &[Scene::Alone, Scene::Crowd]);
        survive_in_full_of::<PriorityInheritance>(Operation::Section, &[Scene::Alone, Scene::Crowd]);
    }

    fn pi_recovery_survives_kills() {
        survive_of::<PriorityInheritance>(Operation::RecoverOwnerDeath, 8, &[Scene::Alone, Scene::First]);
        survive_of::<PriorityInheritance>(Operation::Recover, 4, &[Scene::Crowd]);
    }

    fn pi_wait_survives_kills() {
        survive_of::<PriorityInheritance>(Operation::Wait, 100, &[Scene::Crowd]);
        survive_in_full_of::<PriorityInheritance>(Operation::Wait, &[Scene::First]);
        survive_in_full_of::<PriorityInheritance>(Operation::WaitTimeout, &[Scene::Called]);
    }

    fn steps_follow_documented_order() {
        if !can_lead_for("the order of the steps") {
            return;
        }
        print_header(STEPS, &["operation", "scene", "steps seen"]);
        for (operation, scene, documented) in DOCUMENTED_STEPS {
            let steps = match scene {
                Scene::Crowd | Scene::Called | Scene::Unlocked => {
                    let mut tries = (0..5).map(|_| steps_in_a_crowd(operation, scene, documented));
                    tries.find(|steps| steps == documented).unwrap_or_default()
                }
                _ => steps_of::<Ours>(operation, scene),
            };
            print_row(&[operation.to_string(), format!("{scene:?}"), steps.join(", ")]);
            assert_eq!(steps, documented, "{operation:?}");
        }
    }

    fn steps_show_poison_cleared_before_repair() {
        if !can_lead_for("the order of the steps") {
            return;
        }
        // No kill shows this mistake: a death during a repair is an owner death, which
        // poisons again.
        let steps = steps_of::<ClearsPoisonFirst>(Operation::Recover, Scene::Alone);
        assert_eq!(steps, ["poison cleared", "data", "data"]);
    }

    fn harness_finds_stuck_pthread_condvar() {
        if !can_lead_for("PthreadCondvar") {
            return;
        }
        let settings = Settings::for_planted_fault(96);
        let notify = report_on::<WithPthreadCondvar>(Operation::NotifyOne, Scene::Unlocked, settings);
        let wait = report_on::<WithPthreadCondvar>(Operation::Wait, Scene::First, settings);
        assert!(notify.faulty() + wait.faulty() > 0, "the condition variable of this glibc has no stuck process");
    }

    fn harness_finds_lock_that_is_not_robust() {
        if !can_lead_for("a lock without owners") {
            return;
        }
        let settings = Settings::for_planted_fault(48);
        let lock = report_on::<NotRobust>(Operation::Lock, Scene::Alone, settings);
        assert!(!lock.points_with(Fault::LockStuck).is_empty());
        let unlock = report_on::<NotRobust>(Operation::Unlock, Scene::Crowd, settings);
        assert!(!unlock.points_with(Fault::LockStuck).is_empty());
        let section = report_on::<NotRobust>(Operation::Section, Scene::Alone, settings);
        assert!(section.killed() > section.faulty(), "some kills must have no fault, because the lock was free");
    }

    fn harness_finds_hidden_owner_death() {
        if !can_lead_for("a lock that hides deaths") {
            return;
        }
        let settings = Settings::for_planted_fault(48);
        let section = report_on::<HidesOwnerDeath>(Operation::Section, Scene::Alone, settings);
        assert!(!section.points_with(Fault::Torn).is_empty());
        let run_successor = report_on::<HidesOwnerDeath>(Operation::RecoverOwnerDeath, Scene::Alone, settings);
        assert!(!run_successor.points_with(Fault::Torn).is_empty());
    }
}
