//! Visiting every state of a machine, and saying what was found.
//!
//! `stateright` visits the states and checks what must hold in each. Two more things
//! are asked here. One is that nobody is **stuck**: a state in which nothing more must
//! happen is one in which everybody may rest. The other is that nobody goes **in
//! circles**: without new work and new deaths, whatever the scheduler does, the steps
//! come to an end. Together they say that everybody always gets on.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

/// A machine whose states are finite in number.
pub(crate) trait Machine:
    Model<
        State: Copy + Debug + Eq + Hash + Send + Sync + 'static,
        Action: Copy + Debug + PartialEq + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
    /// Whether the action comes by itself if the scheduler is patient: not a death, not
    /// new work, not a signal.
    fn must_come(&self, state: &Self::State, action: Self::Action) -> bool;

    /// Whether everybody may rest in this state for ever.
    fn is_settled(&self, state: &Self::State) -> bool;

    /// What the action does, for the way into a mistake.
    fn describe(&self, state: &Self::State, action: Self::Action) -> String;
}

/// The property that every machine has.
pub(crate) const NOBODY_IS_STUCK: &str = "nobody is stuck";

pub(crate) fn nobody_is_stuck<M: Machine>() -> Property<M> {
    Property::always(NOBODY_IS_STUCK, |machine: &M, state| {
        machine.is_settled(state) || next(machine, state).any(|(forced, _)| forced)
    })
}

/// Asserts that every property holds in every state, and that there are no circles.
pub(crate) fn holds<M: Machine>(what: &str, machine: &M) {
    let begin = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    let checker = machine.clone().checker().threads(threads).spawn_bfs();
    let checker = checker.join();
    if let Some((property, path)) = checker.discoveries().into_iter().next() {
        panic!(
            "{what}: not so: {property}: {}",
            way(machine, path.into_vec())
        );
    }
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    drop(checker);
    // The checker knows states by 64 bits of their hash, the map below by all they are.
    let map = Map::of(machine);
    assert_eq!(map.states, states, "{what}: two states have the same hash");
    assert_eq!(map.in_circles(), 0, "{what}: states that go in circles");
    println!(
        "{what}: {states} states, {} steps between them, {depth} deep, {:.1} s",
        map.steps,
        begin.elapsed().as_secs_f64()
    );
}

/// Asserts that a machine that makes a mistake breaks `property`.
pub(crate) fn is_found<M: Machine>(mistake: impl Debug, machine: &M, property: &'static str) {
    let begin = Instant::now();
    // One thread, so that the way is the same every time.
    let checker = machine
        .clone()
        .checker()
        .finish_when(HasDiscoveries::AllOf([property].into()))
        .spawn_bfs()
        .join();
    let Some(path) = checker.discovery(property) else {
        panic!("{mistake:?}: not found by: {property}");
    };
    let path = path.into_vec();
    println!(
        "{mistake:?}: not so: {property}: after {} steps ({} states seen, {:.1} s): {}",
        path.len() - 1,
        checker.unique_state_count(),
        begin.elapsed().as_secs_f64(),
        way(machine, path)
    );
}

/// Asserts that a machine that makes a mistake breaks no property, but goes in circles.
pub(crate) fn goes_in_circles<M: Machine>(mistake: impl Debug, machine: &M) {
    let map = Map::of(machine);
    let circling = map.in_circles();
    assert_ne!(circling, 0, "{mistake:?}: no circles");
    println!(
        "{mistake:?}: {circling} of {} states go in circles",
        map.states
    );
}

fn way<M: Machine>(machine: &M, path: Vec<(M::State, Option<M::Action>)>) -> String {
    let steps = path
        .iter()
        .filter_map(|(state, action)| Some(machine.describe(state, (*action)?)));
    steps.collect::<Vec<_>>().join(", ")
}

/// What can happen next, and whether it must.
fn next<'a, M: Machine>(
    machine: &'a M,
    state: &'a M::State,
) -> impl Iterator<Item = (bool, M::State)> + 'a {
    let mut actions = Vec::new();
    machine.actions(state, &mut actions);
    actions.into_iter().filter_map(move |action| {
        let forced = machine.must_come(state, action);
        Some((forced, machine.next_state(state, action)?))
    })
}

/// The states, numbered, and the steps between them that must come.
struct Map {
    states: usize,
    steps: usize,
    /// From, to.
    forced: Vec<(u32, u32)>,
}

impl Map {
    fn of<M: Machine>(machine: &M) -> Self {
        let mut numbers = HashMap::new();
        let mut to_visit = Vec::new();
        for state in machine.init_states() {
            numbers.insert(state, 0_u32);
            to_visit.push((state, 0));
        }
        assert_eq!(to_visit.len(), 1, "a machine begins in one way");
        let mut steps = 0;
        let mut forced = Vec::new();
        while let Some((state, from)) = to_visit.pop() {
            for (must, state) in next(machine, &state) {
                steps += 1;
                let new = u32::try_from(numbers.len()).expect("the states fit");
                let to = match numbers.entry(state) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(vacant) => {
                        to_visit.push((state, new));
                        *vacant.insert(new)
                    }
                };
                if must {
                    forced.push((from, to));
                }
            }
        }
        Self {
            states: numbers.len(),
            steps,
            forced,
        }
    }

    /// How many states there are from which the steps that must come need never end:
    /// those that are left when all that lead nowhere else are taken away.
    fn in_circles(&self) -> usize {
        let mut ways_on = vec![0_u32; self.states];
        for &(from, _) in &self.forced {
            ways_on[from as usize] += 1;
        }
        let mut into = self.forced.clone();
        into.sort_unstable_by_key(|&(_, to)| to);
        let mut ended: Vec<u32> = (0..)
            .zip(&ways_on)
            .filter(|(_, n)| **n == 0)
            .map(|(s, _)| s)
            .collect();
        let mut done = 0;
        while let Some(state) = ended.pop() {
            done += 1;
            let first = into.partition_point(|&(_, to)| to < state);
            for &(from, _) in into[first..].iter().take_while(|&&(_, to)| to == state) {
                let left = &mut ways_on[from as usize];
                *left -= 1;
                if *left == 0 {
                    ended.push(from);
                }
            }
        }
        self.states - done
    }
}
