//! The search that all models of segments share.
//!
//! A [`Protocol`] says what a process may begin, what its next step does, and what the
//! kernel does when it dies. The search lets every process take its next step, or die,
//! in every state. A stopped process is one that takes no step.

use std::fmt::{self, Debug, Display};
use std::hash::{Hash, Hasher};
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use crate::report::{self, Subject, Visited};

/// A protocol: what each process can do, one system call or one access to shared memory
/// at a time.
pub(crate) trait Protocol: Send + Sync + Sized + 'static {
    /// All that decides about the next steps: the kernel's data, the shared memory, and
    /// the step of each process.
    type State: Clone + Debug + PartialEq + Hash + Send + Sync;
    /// A call that a process can make.
    type Task: Copy + Debug + PartialEq + Send + Sync;
    /// The step that a process takes next.
    type Step: Copy + Debug + PartialEq + Send + Sync;

    /// The subject of the model.
    const NAME: &'static str;

    /// Describes the processes, and which calls they make.
    fn scenario(&self) -> String;

    fn start(&self) -> Self::State;

    /// Counts the processes, dead ones included.
    fn processes(state: &Self::State) -> usize;

    /// Returns the label of a process, and its next step.
    fn step_of(state: &Self::State, pid: usize) -> (Label, Self::Step);

    fn activity(state: &Self::State, pid: usize) -> Activity;

    /// Returns the calls that an idle process may make.
    fn tasks_of(&self, state: &Self::State, pid: usize) -> Vec<Self::Task>;

    fn begin(&self, state: &mut Self::State, pid: usize, task: Self::Task);

    /// Counts the outcomes of the next step of a busy process. 0: it has to wait.
    fn outcomes(&self, state: &Self::State, pid: usize) -> usize;

    fn step(&self, state: &mut Self::State, pid: usize, outcome: usize);

    /// Does what the kernel does at the end of a process.
    fn die(&self, state: &mut Self::State, pid: usize);

    /// Makes states equal that differ only in labels and in what no later step reads.
    fn normalise(state: &mut Self::State);

    fn properties() -> Vec<Property<Search<Self>>>;
}

/// The activity of a process, in any protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// It may make a call or stay as it is for ever. It may be attached.
    Idle,
    Busy,
    Dead,
}

/// The label of a process in a schedule. All labels are equal, so that they make no
/// states different.
#[derive(Clone, Copy)]
pub(crate) struct Label(char);

impl Label {
    pub(crate) fn of(number: usize) -> Self {
        Self(char::from(b'A' + number as u8))
    }
}

impl Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

impl Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.0, f)
    }
}

impl PartialEq for Label {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Label {}

impl PartialOrd for Label {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Label {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Hash for Label {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The next action.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action<Task, Step> {
    Begin {
        pid: usize,
        task: Task,
    },
    Step {
        pid: usize,
        step: Step,
        outcome: usize,
    },
    Die {
        pid: usize,
        step: Step,
    },
}

/// The model of a protocol.
pub(crate) struct Search<P>(P);

impl<P: Protocol> Search<P> {
    pub(crate) fn must_wait(&self, state: &P::State, pid: usize) -> bool {
        P::activity(state, pid) == Activity::Busy && self.0.outcomes(state, pid) == 0
    }
}

impl<P: Protocol> Model for Search<P> {
    type State = P::State;
    type Action = Action<P::Task, P::Step>;

    fn init_states(&self) -> Vec<P::State> {
        vec![self.0.start()]
    }

    fn actions(&self, state: &P::State, actions: &mut Vec<Self::Action>) {
        for pid in 0..P::processes(state) {
            let (_, step) = P::step_of(state, pid);
            match P::activity(state, pid) {
                Activity::Dead => continue,
                Activity::Idle => {
                    let tasks = self.0.tasks_of(state, pid).into_iter();
                    actions.extend(tasks.map(|task| Action::Begin { pid, task }));
                }
                Activity::Busy => {
                    let outcomes = 0..self.0.outcomes(state, pid);
                    actions.extend(outcomes.map(|outcome| Action::Step { pid, step, outcome }));
                }
            }
            actions.push(Action::Die { pid, step });
        }
    }

    fn next_state(&self, state: &P::State, action: Self::Action) -> Option<P::State> {
        let mut state = state.clone();
        match action {
            Action::Begin { pid, task } => self.0.begin(&mut state, pid, task),
            Action::Step { pid, outcome, .. } => self.0.step(&mut state, pid, outcome),
            Action::Die { pid, .. } => self.0.die(&mut state, pid),
        }
        P::normalise(&mut state);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = P::properties();
        properties.push(Property::always(
            WAITS_FOR_ACTIVE,
            |Search(protocol), state| {
                let is_busy = |pid: &usize| P::activity(state, *pid) == Activity::Busy;
                let mut busy = (0..P::processes(state)).filter(is_busy).peekable();
                busy.peek().is_none() || busy.any(|pid| protocol.outcomes(state, pid) > 0)
            },
        ));
        properties
    }
}

/// The property that every protocol has.
pub(crate) const WAITS_FOR_ACTIVE: &str = "a waiting process waits for one that can act";

/// The result of a search.
struct Findings {
    visited: Visited,
    /// A schedule that breaks a property.
    broken: Option<Counterexample>,
    /// The events that should happen in some state, and happened in none.
    uncovered: Vec<&'static str>,
}

/// A schedule after which a property is broken: one of the shortest.
struct Counterexample {
    property: &'static str,
    schedule: Vec<String>,
}

/// Searches every state, or until a property is broken.
fn search<P: Protocol>(protocol: P) -> Findings {
    let begin = Instant::now();
    let checker = Search(protocol)
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .threads(1) // so that the schedule is the same each time
        .spawn_bfs()
        .join();
    let mut findings = Findings {
        visited: Visited {
            states: checker.unique_state_count(),
            steps: None,
            depth: Some(checker.max_depth() - 1),
            time: begin.elapsed(),
        },
        broken: None,
        uncovered: Vec::new(),
    };
    for property in checker.model().properties() {
        match (&property.expectation, checker.discovery(property.name)) {
            (Expectation::Always, Some(path)) => {
                // The checker goes on for some states after the first finding.
                let holds = |state: &P::State| (property.condition)(checker.model(), state);
                let until_broken = path.into_vec().into_iter();
                let until_broken = until_broken.take_while(|(state, _)| holds(state));
                let schedule = until_broken
                    .filter_map(|(state, action)| Some(describe::<P>(&state, &action?)));
                let found = Counterexample {
                    property: property.name,
                    schedule: schedule.collect(),
                };
                let len = found.schedule.len();
                let best = findings.broken.as_ref();
                if best.is_none_or(|best| len < best.schedule.len()) {
                    findings.broken = Some(found);
                }
            }
            (Expectation::Sometimes, None) => findings.uncovered.push(property.name),
            _ => {}
        }
    }
    findings
}

fn describe<P: Protocol>(state: &P::State, action: &Action<P::Task, P::Step>) -> String {
    let label = |pid: usize| P::step_of(state, pid).0;
    match action {
        Action::Begin { pid, task } => format!("{} begins {task:?}", label(*pid)),
        Action::Step {
            pid,
            step,
            outcome: 0,
        } => format!("{}: {step:?}", label(*pid)),
        Action::Step { pid, step, outcome } => {
            format!("{}: {step:?} (outcome {outcome})", label(*pid))
        }
        Action::Die { pid, step } => format!("{} dies before {step:?}", label(*pid)),
    }
}

/// Asserts that no state breaks a property.
pub(crate) fn assert_holds<P: Protocol>(protocol: P) {
    let scenario = protocol.scenario();
    let findings = search(protocol);
    assert_no_violation(&scenario, &findings);
    report::holds(subject::<P>(&scenario), findings.visited);
}

/// Asserts that no state breaks a property, and that everything happens in some state
/// that should: what never happens in a model is not tried by it.
pub(crate) fn assert_holds_and_covers<P: Protocol>(protocol: P) {
    let scenario = protocol.scenario();
    let findings = search(protocol);
    assert_no_violation(&scenario, &findings);
    let uncovered = &findings.uncovered;
    assert!(uncovered.is_empty(), "{scenario}: never {uncovered:?}");
    report::holds(subject::<P>(&scenario), findings.visited);
}

/// Asserts that a mistake breaks no property.
pub(crate) fn assert_harmless<P: Protocol>(mistake: impl Display, protocol: P) {
    let mistake = mistake.to_string();
    let scenario = protocol.scenario();
    let findings = search(protocol);
    assert_no_violation(&mistake, &findings);
    report::harmless(subject::<P>(&scenario), &mistake, findings.visited);
}

/// Asserts that a mistake breaks `property`, and that no other property breaks earlier.
pub(crate) fn assert_breaks<P: Protocol>(mistake: impl Display, protocol: P, property: &str) {
    let mistake = mistake.to_string();
    let scenario = protocol.scenario();
    let Some(found) = search(protocol).broken else {
        panic!("{mistake}: breaks no property");
    };
    let subject = subject::<P>(&scenario);
    report::breaks(subject, &mistake, found.property, &found.schedule);
    assert_eq!(
        found.property, property,
        "{mistake}: breaks another property"
    );
}

fn assert_no_violation(what: &str, findings: &Findings) {
    if let Some(found) = &findings.broken {
        let schedule = found.schedule.join("\n  ");
        panic!("{what}: broken: {}:\n  {schedule}", found.property);
    }
}

fn subject<P: Protocol>(scenario: &str) -> Subject<'_> {
    let model = P::NAME;
    Subject { model, scenario }
}

/// Returns how many calls each process makes, for a scenario.
pub(crate) fn calls_each(calls: u8) -> String {
    match calls {
        1 => "one call each".to_owned(),
        calls => format!("{calls} calls each"),
    }
}
