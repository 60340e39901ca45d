//! The checks of the models of locks.
//!
//! `stateright` visits every state and checks what must hold in each. This file adds
//! two properties. No process is **stuck**: in a state without forced steps, no process
//! must act any more. No state is **livelocked**: without new calls and new deaths, the
//! steps end, whatever the scheduler does. Together they say that every process makes
//! progress.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::report::{self, Subject, Visited};

/// A model with a finite number of states.
pub(crate) trait LockModel:
    Model<
        State: Copy + Debug + Eq + Hash + Send + Sync + 'static,
        Action: Copy + Debug + PartialEq + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
    /// The subject of the model.
    const NAME: &'static str;

    /// Describes the processes, and what they do.
    fn scenario(&self) -> String;

    /// Returns whether the action happens without outside events: it is not a death, a
    /// new call or a signal.
    fn is_forced(&self, state: &Self::State, action: Self::Action) -> bool;

    /// Returns whether no process must act any more in this state.
    fn is_final(&self, state: &Self::State) -> bool;

    /// Describes an action, for the schedule of a counterexample.
    fn describe(&self, state: &Self::State, action: Self::Action) -> String;
}

/// Describes how many processes may die, for a scenario.
pub(crate) fn deaths(deaths: u8) -> String {
    match deaths {
        0 => "no death".to_owned(),
        1 => "at most one death".to_owned(),
        deaths => format!("at most {deaths} deaths"),
    }
}

/// The property that every model has.
pub(crate) const NOT_STUCK: &str = "no process is stuck";

pub(crate) fn not_stuck<M: LockModel>() -> Property<M> {
    Property::always(NOT_STUCK, |model: &M, state| {
        model.is_final(state) || next(model, state).any(|(forced, _)| forced)
    })
}

/// Asserts that every property holds in every state, and that no state is livelocked.
pub(crate) fn assert_holds<M: LockModel>(model: &M) {
    let scenario = model.scenario();
    let visited = visit_all(&scenario, model);
    report::holds(subject::<M>(&scenario), visited);
}

/// Asserts that a mistake breaks no property, and that no state is livelocked.
pub(crate) fn assert_harmless<M: LockModel>(mistake: impl Display, model: &M) {
    let mistake = mistake.to_string();
    let visited = visit_all(&mistake, model);
    report::harmless(subject::<M>(&model.scenario()), &mistake, visited);
}

fn subject<M: LockModel>(scenario: &str) -> Subject<'_> {
    let model = M::NAME;
    Subject { model, scenario }
}

fn visit_all<M: LockModel>(what: &str, model: &M) -> Visited {
    let begin = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    let checker = model.clone().checker().threads(threads).spawn_bfs();
    let checker = checker.join();
    if let Some((property, path)) = checker.discoveries().into_iter().next() {
        let schedule = schedule(model, path.into_vec()).join(", ");
        panic!("{what}: broken: {property}: {schedule}");
    }
    let states = checker.unique_state_count();
    drop(checker);
    // The checker identifies a state by a hash of 64 bits, the graph by the whole
    // state.
    let graph = Graph::of(model);
    assert_eq!(graph.states, states, "{what}: two states have one hash");
    assert_eq!(graph.livelocked(), 0, "{what}: livelocked states");
    Visited {
        states,
        steps: Some(graph.steps),
        depth: None, // it depends on the threads
        time: begin.elapsed(),
    }
}

/// Asserts that a model with a mistake breaks `property`.
pub(crate) fn assert_breaks<M: LockModel>(
    mistake: impl Display,
    model: &M,
    property: &'static str,
) {
    // One thread, so that the schedule is the same each time.
    let checker = model
        .clone()
        .checker()
        .finish_when(HasDiscoveries::AllOf([property].into()))
        .spawn_bfs()
        .join();
    let Some(path) = checker.discovery(property) else {
        panic!("{mistake}: does not break: {property}");
    };
    let schedule = schedule(model, path.into_vec());
    report::breaks(
        subject::<M>(&model.scenario()),
        &mistake.to_string(),
        property,
        &schedule,
    );
}

/// Asserts that a model with a mistake has livelocked states.
pub(crate) fn assert_livelocks<M: LockModel>(mistake: impl Display, model: &M) {
    let graph = Graph::of(model);
    let livelocked = graph.livelocked();
    assert_ne!(livelocked, 0, "{mistake}: no livelocked states");
    report::livelocks(
        subject::<M>(&model.scenario()),
        &mistake.to_string(),
        livelocked,
        graph.states,
    );
}

fn schedule<M: LockModel>(model: &M, path: Vec<(M::State, Option<M::Action>)>) -> Vec<String> {
    let steps = path
        .iter()
        .filter_map(|(state, action)| Some(model.describe(state, (*action)?)));
    steps.collect()
}

/// Returns the next states, each with the question whether its step is forced.
fn next<'a, M: LockModel>(
    model: &'a M,
    state: &'a M::State,
) -> impl Iterator<Item = (bool, M::State)> + 'a {
    let mut actions = Vec::new();
    model.actions(state, &mut actions);
    actions.into_iter().filter_map(move |action| {
        let forced = model.is_forced(state, action);
        Some((forced, model.next_state(state, action)?))
    })
}

/// The states, numbered, and the forced steps between them.
struct Graph {
    states: usize,
    steps: usize,
    /// From, to.
    forced: Vec<(u32, u32)>,
}

impl Graph {
    fn of<M: LockModel>(model: &M) -> Self {
        let mut numbers = HashMap::new();
        let mut to_visit = Vec::new();
        for state in model.init_states() {
            numbers.insert(state, 0_u32);
            to_visit.push((state, 0));
        }
        assert_eq!(to_visit.len(), 1, "a model has one initial state");
        let mut steps = 0;
        let mut forced = Vec::new();
        while let Some((state, from)) = to_visit.pop() {
            for (is_forced, state) in next(model, &state) {
                steps += 1;
                let new = u32::try_from(numbers.len()).expect("32 bits number all states");
                let to = match numbers.entry(state) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(vacant) => {
                        to_visit.push((state, new));
                        *vacant.insert(new)
                    }
                };
                if is_forced {
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

    /// Counts the states from which the forced steps need never end. A state is removed
    /// if all its forced steps lead to removed states; the others remain.
    fn livelocked(&self) -> usize {
        let mut steps_left = vec![0_u32; self.states];
        for &(from, _) in &self.forced {
            steps_left[from as usize] += 1;
        }
        let mut into = self.forced.clone();
        into.sort_unstable_by_key(|&(_, to)| to);
        let mut ended: Vec<u32> = (0..)
            .zip(&steps_left)
            .filter(|(_, steps)| **steps == 0)
            .map(|(state, _)| state)
            .collect();
        let mut removed = 0;
        while let Some(state) = ended.pop() {
            removed += 1;
            let first = into.partition_point(|&(_, to)| to < state);
            for &(from, _) in into[first..].iter().take_while(|&&(_, to)| to == state) {
                let left = &mut steps_left[from as usize];
                *left -= 1;
                if *left == 0 {
                    ended.push(from);
                }
            }
        }
        self.states - removed
    }
}
