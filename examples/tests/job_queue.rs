//! The example `job_queue`: each job has one result, however many workers are killed.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use support::Random;

use super::{Running, WATCHDOG};

/// The supervisor kills workers, and the test kills more of them.
#[test]
fn each_job_has_one_result() {
    let (mut in_hand, mut not_received) = (0, 0);
    let start = Instant::now();
    for seed in 1_u64.. {
        let number = seed.to_string();
        let arguments = [
            "--workers",
            "6",
            "--jobs",
            "300",
            "--kills",
            "120",
            "--seed",
            &number,
        ];
        let running = Running::start("job_queue", &arguments);
        let mut random = Random(seed);
        for _ in 0..random.below(20) {
            thread::sleep(Duration::from_micros(random.below(5000)));
            let children = running.children();
            if !children.is_empty() {
                // Fails if the example has just reaped it.
                let victim = children[random.below(children.len() as u64) as usize];
                let _ = kill(victim, Signal::SIGKILL);
            }
        }
        let ended = running.wait();
        ended.assert_success();
        let verdict = "300 jobs, with exactly one right result: 300\n";
        assert!(ended.stdout.ends_with(verdict), "seed {seed}: {ended:#?}");
        in_hand += ended.stdout.matches("in hand").count();
        not_received += ended.stdout.matches("before it received job").count();
        let all_seen = in_hand > 0 && not_received > 0;
        if seed >= 3 && (all_seen || start.elapsed() > WATCHDOG) {
            break;
        }
    }
    assert!(in_hand > 0, "a worker died with a job in hand");
    assert!(not_received > 0, "a worker died before it received its job");
}

/// At times, no worker is left that could send the supervisor a message.
#[test]
fn supervisor_needs_no_survivor() {
    for workers in ["1", "4"] {
        let arguments = ["--workers", workers, "--jobs", "300", "--kills", "0"];
        let running = Running::start("job_queue", &arguments);
        for _ in 0..10 {
            for child in running.children() {
                // Fails if the example has just reaped it.
                let _ = kill(child, Signal::SIGKILL);
            }
            thread::sleep(Duration::from_millis(10));
        }
        let ended = running.wait();
        ended.assert_success();
        assert!(ended.stdout.ends_with("result: 300\n"), "{ended:#?}");
    }
}
