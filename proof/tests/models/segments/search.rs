//! What the models share: processes that begin something, take steps and die, and
//! the search through every order in which they can.

use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

/// A protocol: what processes can do to a world, one system call or one access to
/// shared memory at a time.
pub(crate) trait Protocol: Send + Sync + Sized + 'static {
    /// Everything that steps depend on: what the kernel knows, what is in the memory,
    /// and where each process is.
    type World: Clone + Debug + PartialEq + Hash + Send + Sync;
    /// What a process can set out to do.
    type Task: Copy + Debug + PartialEq + Send + Sync;
    /// The step that a process takes next.
    type At: Copy + Debug + PartialEq + Send + Sync;

    fn start(&self) -> Self::World;

    /// How many processes there are, the dead included.
    fn processes(world: &Self::World) -> usize;

    /// The name of the process that is at this place among them, and its next step.
    fn place(world: &Self::World, who: usize) -> (Name, Self::At);

    fn condition(world: &Self::World, who: usize) -> Condition;

    /// What a process that does nothing may set out to do.
    fn choices(&self, world: &Self::World, who: usize) -> Vec<Self::Task>;

    fn begin(&self, world: &mut Self::World, who: usize, task: Self::Task);

    /// In how many ways the next step of a busy process can end. 0: it has to wait.
    fn ways(&self, world: &Self::World, who: usize) -> usize;

    fn step(&self, world: &mut Self::World, who: usize, way: usize);

    /// The kernel takes back what the process had.
    fn die(&self, world: &mut Self::World, who: usize);

    /// Brings worlds that differ in nothing but names into one form.
    fn normalize(world: &mut Self::World);

    fn properties() -> Vec<Property<Exploration<Self>>>;
}

/// What can be said of a process, whatever the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It may begin something or never do anything again, and may be attached.
    Resting,
    Busy,
    Dead,
}

/// Which process it is, for people: worlds are the same whatever the names in them.
#[derive(Clone, Copy)]
pub(crate) struct Name(pub(crate) char);

impl Name {
    pub(crate) fn of(number: usize) -> Self {
        Self(char::from(b'A' + number as u8))
    }
}

impl Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.0, f)
    }
}

impl PartialEq for Name {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action<Task, At> {
    Begin { who: usize, task: Task },
    Step { who: usize, at: At, way: usize },
    Die { who: usize, at: At },
}

/// All that can happen to a protocol.
pub(crate) struct Exploration<P>(P);

impl<P: Protocol> Exploration<P> {
    pub(crate) fn must_wait(&self, world: &P::World, who: usize) -> bool {
        P::condition(world, who) == Condition::Busy && self.0.ways(world, who) == 0
    }
}

impl<P: Protocol> Model for Exploration<P> {
    type State = P::World;
    type Action = Action<P::Task, P::At>;

    fn init_states(&self) -> Vec<P::World> {
        vec![self.0.start()]
    }

    fn actions(&self, world: &P::World, actions: &mut Vec<Self::Action>) {
        for who in 0..P::processes(world) {
            let (_, at) = P::place(world, who);
            match P::condition(world, who) {
                Condition::Dead => continue,
                Condition::Resting => {
                    let choices = self.0.choices(world, who).into_iter();
                    actions.extend(choices.map(|task| Action::Begin { who, task }));
                }
                Condition::Busy => {
                    let ways = 0..self.0.ways(world, who);
                    actions.extend(ways.map(|way| Action::Step { who, at, way }));
                }
            }
            actions.push(Action::Die { who, at });
        }
    }

    fn next_state(&self, world: &P::World, action: Self::Action) -> Option<P::World> {
        let mut world = world.clone();
        match action {
            Action::Begin { who, task } => self.0.begin(&mut world, who, task),
            Action::Step { who, way, .. } => self.0.step(&mut world, who, way),
            Action::Die { who, .. } => self.0.die(&mut world, who),
        }
        P::normalize(&mut world);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = P::properties();
        properties.push(Property::always(WAITS, |Exploration(protocol), world| {
            let is_busy = |who: &usize| P::condition(world, *who) == Condition::Busy;
            let mut busy = (0..P::processes(world)).filter(is_busy).peekable();
            busy.peek().is_none() || busy.any(|who| protocol.ways(world, who) > 0)
        }));
        properties
    }
}

/// Of every protocol.
pub(crate) const WAITS: &str = "whoever waits, waits for somebody who goes on";

/// What a search has come to.
struct Findings {
    /// How a property can be broken.
    broken: Option<Counterexample>,
    /// What should happen now and then, and never did.
    missing: Vec<&'static str>,
}

/// One of the shortest ways to break a property.
struct Counterexample {
    property: &'static str,
    schedule: Vec<String>,
}

/// Searches everything, and prints how much that was.
fn explore<P: Protocol>(title: &str, protocol: P) -> Findings {
    let begun = Instant::now();
    let checker = Exploration(protocol)
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .threads(1) // so that it finds the same each time
        .spawn_bfs()
        .join();
    let seconds = begun.elapsed().as_secs_f32();
    let (worlds, depth) = (checker.unique_state_count(), checker.max_depth() - 1);
    println!("{title}: {worlds} worlds, up to {depth} steps deep, {seconds:.1} s");

    let mut findings = Findings {
        broken: None,
        missing: Vec::new(),
    };
    for property in checker.model().properties() {
        match (&property.expectation, checker.discovery(property.name)) {
            (Expectation::Always, Some(path)) => {
                // The search goes on for a while after the first finding.
                let holds = |world: &P::World| (property.condition)(checker.model(), world);
                let until_broken = path.into_vec().into_iter();
                let until_broken = until_broken.take_while(|(world, _)| holds(world));
                let schedule = until_broken
                    .filter_map(|(world, action)| Some(describe::<P>(&world, &action?)));
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
            (Expectation::Sometimes, None) => findings.missing.push(property.name),
            _ => {}
        }
    }
    findings
}

fn describe<P: Protocol>(world: &P::World, action: &Action<P::Task, P::At>) -> String {
    let name = |who: usize| P::place(world, who).0.0;
    match action {
        Action::Begin { who, task } => format!("{} sets out to {task:?}", name(*who)),
        Action::Step { who, at, way: 0 } => format!("{}: {at:?}", name(*who)),
        Action::Step { who, at, way } => format!("{}: {at:?} (otherwise: {way})", name(*who)),
        Action::Die { who, at } => format!("{} dies before {at:?}", name(*who)),
    }
}

/// Asserts that nothing breaks a property.
pub(crate) fn assert_safe<P: Protocol>(title: &str, protocol: P) {
    assert_holds(title, &explore(title, protocol));
}

/// As [`assert_safe`], and that whatever should happen now and then does happen: what
/// never happens in a model is not tried by it.
pub(crate) fn assert_safe_and_lively<P: Protocol>(title: &str, protocol: P) {
    let findings = explore(title, protocol);
    assert_holds(title, &findings);
    assert!(
        findings.missing.is_empty(),
        "{title}: never {:?}",
        findings.missing
    );
}

fn assert_holds(title: &str, findings: &Findings) {
    if let Some(found) = &findings.broken {
        let schedule = found.schedule.join("\n  ");
        panic!("{title}: not true: {}:\n  {schedule}", found.property);
    }
}

/// Asserts that a planted bug is found, and by which property.
pub(crate) fn assert_found<P: Protocol>(title: &str, protocol: P, property: &str) {
    let Some(found) = explore(title, protocol).broken else {
        panic!("{title}: not found");
    };
    let steps = found.schedule.len();
    println!("  found: not true after {steps} steps: {}", found.property);
    if std::env::var_os("SHM_SYNC_MODEL_SCHEDULES").is_some() {
        println!("    {}", found.schedule.join("\n    "));
    }
    assert_eq!(found.property, property, "{title}");
}
