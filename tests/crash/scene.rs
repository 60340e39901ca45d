//! An operation that is killed at every instruction, and the processes around it.

#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

use std::time::{Duration, Instant};

use nix::sys::wait::WaitStatus;
use shm_sync::{Segment, ShmSafe};

use crate::family_results::Operation;
use crate::support::walker::{Point as Place, Walker, can_lead_for};
use crate::support::{Child, number_from_env, spawn};

/// The time after which a survivor counts as stuck. No load delays a healthy one for so
/// long.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(20);
/// The default number of kills of a scene, at most. Others are chosen in each run.
const MOST_KILLS: u64 = 25;
/// The number of kills of a scene with enough instructions, at least.
const FEWEST_KILLS: u64 = 10;
/// The promised time, which is asserted of the median.
const RECOVERS_WITHIN: Duration = Duration::from_millis(250);

/// The point at which the victim was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// Inside its operation.
    Inside,
    /// After its operation.
    End,
}

/// Where the victim is to be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    After(u64),
    Asleep,
    Woken,
}

/// An operation of a victim, and the processes around it.
pub(crate) struct Scene<'a, T: ShmSafe> {
    pub(crate) name: &'a str,
    pub(crate) object: &'a dyn Fn() -> T,
    /// Prepares what `release` ends, in the process of the harness.
    pub(crate) set_up: &'a dyn Fn(&'static T),
    /// The processes that sleep when the operation begins. They end when they have gone
    /// on.
    pub(crate) sleepers: &'a [&'a dyn Fn(&T)],
    /// When they fall asleep.
    pub(crate) order: Order,
    /// Starts the victim, stopped at the beginning of its operation.
    pub(crate) victim: &'a dyn Fn(&'static T) -> Walker,
    /// Causes the event for which the victim sleeps.
    pub(crate) release: &'a dyn Fn(&'static T),
    /// Checks the object in a new process. The sleepers have gone on already, or may
    /// wait for this.
    pub(crate) check: &'a dyn Fn(&T, Reached),
    /// Whether the sleepers go on without `check`, if the victim died there.
    pub(crate) goes_on_alone: &'a dyn Fn(&T, Reached) -> bool,
}

/// When the sleepers of a scene fall asleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    BeforeVictim,
    /// After the victim has prepared its operation.
    AfterPreparation,
}

/// What was seen of one kill.
struct Found {
    reached: Reached,
    /// The time from the kill until the last sleeper had gone on by itself.
    slept: Option<Duration>,
}

impl<T: ShmSafe> Scene<'_, T> {
    /// Leads the victim to a point, or to its end. Returns the number of instructions.
    fn walk(&self, object: &'static T, walker: &mut Walker, point: Point) -> (Reached, u64) {
        let mut is_released = false;
        for number in 0.. {
            if walker.is_at_end() {
                return (Reached::End, number);
            }
            if point == Point::After(number) {
                return (Reached::Inside, number);
            }
            let Some(is_asleep) = walker.step_or_sleep().waits() else {
                continue;
            };
            if point == Point::Asleep && is_asleep {
                return (Reached::Inside, number);
            }
            // Once more if the deadline has passed again: another process may have used
            // the first event.
            if !is_released || !is_asleep {
                (self.release)(object);
                is_released = true;
            }
            if point == Point::Woken {
                return (Reached::Inside, number);
            }
            crate::support::poll(|| {
                let stands = !is_asleep || walker.stands();
                if !stands {
                    // Another process has used the first event.
                    (self.release)(object);
                }
                stands
            });
        }
        unreachable!("an operation has fewer instructions than u64 has numbers")
    }

    fn kill_at(&self, point: Point) -> (Found, u64) {
        let object = leaked((self.object)());
        (self.set_up)(object);
        let mut sleepers: Vec<Child> = Vec::new();
        let mut start_sleepers = || {
            for sleep in self.sleepers {
                let child = spawn(|| sleep(object));
                child.wait_until_asleep();
                sleepers.push(child);
            }
        };
        let mut walker = match self.order {
            Order::BeforeVictim => {
                start_sleepers();
                (self.victim)(object)
            }
            Order::AfterPreparation => {
                let walker = (self.victim)(object);
                start_sleepers();
                walker
            }
        };
        let (reached, instructions) = self.walk(object, &mut walker, point);
        walker.kill();
        let death = Instant::now();
        if point == Point::Asleep || reached == Reached::Inside {
            // What the victim was to wait for happens for the others as well.
            (self.release)(object);
        }
        let what = || format!("{}: killed at {point:?} ({reached:?})", self.name);
        let mut slept = None;
        if (self.goes_on_alone)(object, reached) {
            for sleeper in &mut sleepers {
                expect_end(sleeper, || format!("{}: a sleeper is stuck", what()));
            }
            slept = Some(death.elapsed());
        }
        let mut check = spawn(|| (self.check)(object, reached));
        expect_end(&mut check, || format!("{}: the check is stuck", what()));
        for sleeper in &mut sleepers {
            expect_end(sleeper, || format!("{}: a sleeper is stuck", what()));
        }
        (Found { reached, slept }, instructions)
    }

    /// Kills at one in `stride` instructions, and in the sleep. Without the variable
    /// `SHM_SYNC_KILL_STRIDE`, it kills at [`MOST_KILLS`] of them at most.
    pub(crate) fn run(&self, stride: u64) {
        if !can_lead_for(self.name) {
            return;
        }
        let (whole, instructions) = self.kill_at(Point::After(u64::MAX));
        assert_eq!(whole.reached, Reached::End);
        let stride = number_from_env("SHM_SYNC_KILL_STRIDE")
            .unwrap_or_else(|| stride.max(instructions.div_ceil(MOST_KILLS)))
            .clamp(1, (instructions / FEWEST_KILLS).max(1));
        let offset = u64::from(std::process::id()) % stride;
        let numbers = (offset..=instructions).step_by(stride as usize);
        let mut points: Vec<Point> = numbers.map(Point::After).collect();
        points.extend([Point::Asleep, Point::Woken].repeat(2));
        let mut slept: Vec<Duration> = Vec::new();
        let mut inside = 0;
        for &point in &points {
            let (found, _) = self.kill_at(point);
            inside += u32::from(found.reached == Reached::Inside);
            slept.extend(found.slept);
        }
        slept.sort_unstable();
        let median = slept.get(slept.len() / 2).copied();
        println!(
            "{}: {instructions} instructions, {} kills, {inside} inside; sleepers that went on \
             by themselves: {}, median {median:.1?}, slowest {:.1?}",
            self.name,
            points.len(),
            slept.len(),
            slept.last()
        );
        Operation {
            name: self.name,
            instructions,
            kills: points.len(),
            inside,
            slept: &slept,
        }
        .print();
        assert!(inside > 0, "{}", self.name);
        assert!(
            median.is_none_or(|it| it < RECOVERS_WITHIN),
            "{}",
            self.name
        );
    }
}

/// Waits until a child has ended with exit status 0.
fn expect_end(child: &mut Child, what: impl Fn() -> String) {
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait() {
            break status;
        }
        assert!(begin.elapsed() < TIME_LIMIT, "{}", what());
        std::thread::sleep(Duration::from_micros(100));
    };
    assert!(
        matches!(status, WaitStatus::Exited(_, 0)),
        "{}: {status:?}",
        what()
    );
}

/// Places an object in shared memory that stays mapped until the process ends, because
/// guards of this process may stay in it.
pub(crate) fn leaked<T: ShmSafe>(object: T) -> &'static T {
    let segment = Segment::anonymous(object).unwrap();
    let object: *const T = &raw const *segment;
    std::mem::forget(segment);
    // SAFETY: the segment is leaked, so the object is mapped until the process ends.
    unsafe { &*object }
}

/// Stops a call that does not wait after every few instructions, in which it finds the
/// object held. Asserts that another such call succeeds after the release: a call that
/// does not wait must not look like a thread that waits.
pub(crate) fn try_keeps_no_other_try_out<T: ShmSafe, G>(
    what: &str,
    object: fn() -> T,
    warm_up: fn(),
    hold: fn(&'static T) -> G,
    acquires: fn(&'static T) -> bool,
) {
    const STRIDE: usize = 7;
    if !can_lead_for(what) {
        return;
    }
    let first = u64::from(std::process::id()) % STRIDE as u64;
    let mut places = 0;
    for instructions in (first..).step_by(STRIDE) {
        let object = leaked(object());
        let holder = hold(object);
        let mut other = Walker::prepared(warm_up, |()| {
            assert!(!acquires(object), "{what}: it is held");
        });
        other.go_to(Place::at(0, instructions));
        let is_over = other.is_at_end();
        drop(holder);
        let succeeds = acquires(object);
        assert!(succeeds, "{what}, after {instructions} instructions");
        other.kill();
        if is_over {
            break;
        }
        places += 1;
    }
    println!("{what}: {places} places");
}

pub(crate) fn nothing<T>(_: &'static T) {}

pub(crate) fn yes<T>(_: &T, _: Reached) -> bool {
    true
}
