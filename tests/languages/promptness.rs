//! A process that sleeps is woken at once, and not by its recheck.
//!
//! A lost wake-up would cost one recheck interval each time. So the median of several
//! rounds tells, also on a busy machine.

use std::time::{Duration, Instant};

use crate::peer::{Peer, Running, for_each_pair, peers};
use crate::support::median;
use crate::world::{PERMITS, Place};

const ROUNDS: usize = 15;
/// A third of the recheck interval.
const LIMIT: Duration = Duration::from_millis(50);

/// Lets `sleeper` sleep and `waker` wake it, several times. Asserts that the median of
/// the times is short.
fn assert_prompt(
    what: &str,
    (sleeper, sleep): (&mut Running, &str),
    (waker, wake): (&mut Running, &str),
    mut after: impl FnMut(&mut Running, &mut Running),
) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            sleeper.tell(sleep);
            sleeper.wait_until_asleep();
            let begin = Instant::now();
            waker.expect_ok(wake);
            let reply = sleeper.reply();
            assert!(reply.starts_with("ok"), "{what}: {reply}");
            let time = begin.elapsed();
            after(sleeper, waker);
            time
        })
        .collect();
    times.sort();
    let median = times[ROUNDS / 2];
    assert!(median < LIMIT, "{what}: the median is {median:?}");
}

fn open(place: &Place, sleeper: &Peer, waker: &Peer) -> (Running, Running) {
    (sleeper.open(&place.name), waker.open(&place.name))
}

#[test]
fn locks_and_notifications_wake_at_once() {
    for_each_pair(|sleeper, waker| {
        let place = Place::new("languages-prompt-locks");
        let (mut sleeper, mut waker) = open(&place, sleeper, waker);
        waker.expect_ok("lock");
        assert_prompt(
            "unlock",
            (&mut sleeper, "lock"),
            (&mut waker, "unlock"),
            |sleeper, waker| {
                sleeper.expect_ok("unlock");
                waker.expect_ok("lock");
            },
        );
        waker.expect_ok("unlock");
        for notify in ["one", "all"] {
            let wake = format!("turn 7 {notify}");
            assert_prompt(
                "notify",
                (&mut sleeper, "wait 7"),
                (&mut waker, &wake),
                |_, waker| waker.expect_ok("turn 0 one"),
            );
        }
    });
}

// The notifier's unlock wakes the first, and each waiter's unlock the next.
#[test]
fn notify_all_wakes_all_at_once() {
    for_each_pair(|sleeper, waker| {
        let place = Place::new("languages-prompt-all");
        let mut waker = waker.open(&place.name);
        let mut sleepers = [0; 3].map(|_| sleeper.open(&place.name));
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                for sleeper in &mut sleepers {
                    sleeper.tell("wait 7");
                    sleeper.wait_until_asleep();
                }
                let begin = Instant::now();
                waker.expect_ok("turn 7 all");
                for sleeper in &mut sleepers {
                    sleeper.expect_reply("ok");
                }
                let time = begin.elapsed();
                waker.expect_ok("turn 0 one");
                time
            })
            .collect();
        times.sort();
        let median = times[ROUNDS / 2];
        assert!(median < LIMIT, "the median is {median:?}");
    });
}

/// Returns the time from the last recheck to the reply of the last of eight waiters,
/// which the peers `kinds` are in turn. `waker` notifies them all under the lock.
fn time_of_eight(kinds: [&Peer; 2], waker: &Peer) -> Duration {
    const WAITERS: usize = 8;
    const ROUNDS: usize = 9;
    let place = Place::new("languages-prompt-eight");
    let mut waker = waker.open(&place.name);
    let mut waiters: [_; WAITERS] = std::array::from_fn(|i| kinds[i % 2].open(&place.name));
    median(ROUNDS, || {
        for waiter in &mut waiters {
            waiter.tell("wait 7");
            waiter.wait_until_asleep();
        }
        let last_recheck = sleep_past_recheck();
        waker.expect_ok("turn 7 all");
        for waiter in &mut waiters {
            waiter.expect_reply("ok");
        }
        let time = last_recheck.elapsed();
        waker.expect_ok("turn 0 one");
        time
    })
}

// The waiters sleep in the queue of the mutex. So each unlock must wake the next, in
// each language, and a waiter that breaks this chain leaves the rest to the recheck.
#[test]
fn moved_waiters_wake_before_recheck() {
    let of = |name: &str| peers().iter().find(|peer| peer.name == name);
    let (Some(rust), Some(c)) = (of("Rust"), of("peer.c")) else {
        return;
    };
    let late: Vec<String> = [
        ([c, c], rust),
        ([rust, rust], c),
        ([c, c], c),
        ([c, rust], c),
        ([c, rust], rust),
    ]
    .into_iter()
    .filter_map(|(kinds, waker)| {
        let woken = time_of_eight(kinds, waker);
        let what = format!("{kinds:?} by {waker:?}: {woken:?} since the last recheck");
        println!("{what}");
        (woken >= RECHECK_INTERVAL - Duration::from_millis(10)).then_some(what)
    })
    .collect();
    assert!(late.is_empty(), "medians: {late:#?}");
}

/// All waiters recheck at the multiples of this time on the monotonic clock.
const RECHECK_INTERVAL: Duration = Duration::from_millis(150);

/// Sleeps until the waiters of the machine have rechecked. Returns that time, or a
/// little before it.
fn sleep_past_recheck() -> Instant {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is valid for writes during the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let read = Instant::now();
    let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
    let interval = RECHECK_INTERVAL.as_nanos() as u64;
    let recheck = read + Duration::from_nanos(interval - now % interval);
    std::thread::sleep(recheck - read + Duration::from_millis(5));
    recheck
}

// A thread that was woken does not know whether others wait behind it.
#[test]
fn queue_of_two_wakes_at_once() {
    for_each_pair(|first, second| {
        let place = Place::new("languages-prompt-queue");
        let mut holder = second.open(&place.name);
        let mut queue = [first, second].map(|it| it.open(&place.name));
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                holder.expect_ok("lock");
                for waiter in &mut queue {
                    waiter.tell("lock");
                    waiter.wait_until_asleep();
                }
                holder.expect_ok("unlock");
                // A recheck may have changed their order.
                let [a, b] = &mut queue;
                let (next, last) = if a.replies_before(b) { (a, b) } else { (b, a) };
                next.expect_reply("ok");
                let begin = Instant::now();
                next.expect_ok("unlock");
                last.expect_reply("ok");
                let time = begin.elapsed();
                last.expect_ok("unlock");
                time
            })
            .collect();
        times.sort();
        let median = times[ROUNDS / 2];
        assert!(median < LIMIT, "the median is {median:?}");
    });
}

#[test]
fn objects_wake_at_once() {
    for_each_pair(|sleeper, waker| {
        let place = Place::new("languages-prompt-objects");
        let (mut sleeper, mut waker) = open(&place, sleeper, waker);
        let nothing = |_: &mut Running, _: &mut Running| ();
        assert_prompt(
            "set",
            (&mut sleeper, "await turnstile 1000000"),
            (&mut waker, "set turnstile"),
            nothing,
        );
        sleeper.expect_ok("receiver");
        waker.expect_ok("sender");
        assert_prompt(
            "send",
            (&mut sleeper, "recv"),
            (&mut waker, "send 1"),
            nothing,
        );
        for _ in 0..PERMITS {
            assert!(waker.ask("acquire").starts_with("ok"), "it is free");
        }
        assert_prompt(
            "release",
            (&mut sleeper, "acquire"),
            (&mut waker, "release"),
            |sleeper, waker| {
                sleeper.expect_ok("release");
                assert!(waker.ask("acquire").starts_with("ok"), "it is free");
            },
        );
    });
}

#[test]
fn deaths_wake_at_once() {
    if !has_futex_waitv() {
        println!("not run, because this kernel has no futex_waitv");
        return;
    }
    for_each_pair(|victim, sleeper| {
        let place = Place::new("languages-prompt-deaths");
        let mut sleeper = sleeper.open(&place.name);
        sleeper.expect_ok("receiver");
        let mut times: Vec<Duration> = Vec::new();
        for round in 0..ROUNDS {
            let mut victim = victim.open(&place.name);
            let (sleep, reply) = match round % 3 {
                0 => {
                    victim.expect_ok("lock");
                    ("lock", "poisoned owner_died")
                }
                1 => {
                    for _ in 0..PERMITS {
                        assert!(victim.ask("acquire").starts_with("ok"), "it is free");
                    }
                    ("acquire", "ok")
                }
                _ => {
                    victim.expect_ok("sender");
                    ("recv", "peer_died")
                }
            };
            sleeper.tell(sleep);
            sleeper.wait_until_asleep();
            let begin = Instant::now();
            victim.kill();
            let got = sleeper.reply();
            times.push(begin.elapsed());
            assert!(got.starts_with(reply), "{sleep}: {got}");
            match round % 3 {
                0 => {
                    sleeper.expect_ok("recover");
                    sleeper.expect_ok("unlock");
                }
                1 => sleeper.expect_ok("release"),
                _ => {}
            }
        }
        // Each kind by itself, so that a slow one does not hide behind the others.
        for kind in 0..3 {
            let mut times: Vec<Duration> = times.iter().skip(kind).step_by(3).copied().collect();
            times.sort();
            let median = times[times.len() / 2];
            assert!(median < LIMIT, "kind {kind}: the median is {median:?}");
        }
    });
}

fn has_futex_waitv() -> bool {
    // SAFETY: the call reads no memory, because the list is empty.
    let code = unsafe { libc::syscall(libc::SYS_futex_waitv, std::ptr::null::<u8>(), 0, 0, 0, 0) };
    code == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}
