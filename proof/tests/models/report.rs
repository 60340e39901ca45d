//! The results of all models, as lines of output and as the file `models.md`.
//!
//! Each result is added to those so far, and the file is written anew with all of them,
//! because the tests run in any order and in parallel.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shm_sync_proof::results::{Results, grouped};

use crate::size::Size;

/// The results so far: the rows of each table, in the order of the table.
static TABLES: Mutex<BTreeMap<Table, Vec<Vec<String>>>> = Mutex::new(BTreeMap::new());

/// A table of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Holds,
    Harmless,
    Mistakes,
    Protocols,
    Weakened,
    Planted,
}

impl Table {
    fn heading(self) -> &'static str {
        match self {
            Self::Holds => "Models in which every property holds",
            Self::Harmless => "Changes that break no property",
            Self::Mistakes => "Planted mistakes, each found",
            Self::Protocols => "Orderings, checked with loom",
            Self::Weakened => "Weaker orderings, each found with loom",
            Self::Planted => "Other mistakes, each found with loom",
        }
    }

    fn header(self) -> &'static [&'static str] {
        match self {
            Self::Holds => &["model", "scenario", "states", "steps", "depth", "time"],
            Self::Harmless => &[
                "model", "change", "scenario", "states", "steps", "depth", "time",
            ],
            Self::Mistakes => &["model", "mistake", "scenario", "broken property", "steps"],
            Self::Protocols => &["protocol", "scenarios", "time"],
            Self::Weakened => &["protocol", "place", "code", "weaker", "failure"],
            Self::Planted => &["protocol", "mistake", "failure"],
        }
    }
}

/// The extent of a search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visited {
    pub(crate) states: usize,
    /// The steps between the states, where they were counted.
    pub(crate) steps: Option<usize>,
    /// The length of the longest schedule, where a single thread searched.
    pub(crate) depth: Option<usize>,
    pub(crate) time: Duration,
}

impl Visited {
    fn cells(self) -> [String; 4] {
        let number = |number: usize| grouped(number as u64);
        let known = |count: Option<usize>| count.map_or("–".to_owned(), number);
        [
            number(self.states),
            known(self.steps),
            known(self.depth),
            seconds(self.time),
        ]
    }
}

/// A model, with the scenario in which it was searched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) model: &'a str,
    pub(crate) scenario: &'a str,
}

/// Reports that every property holds.
pub(crate) fn holds(Subject { model, scenario }: Subject<'_>, visited: Visited) {
    let [states, steps, depth, time] = visited.cells();
    println!("{model}: {scenario}: {states} states, {steps} steps, depth {depth}, {time}");
    add(
        Table::Holds,
        &[model, scenario, &states, &steps, &depth, &time],
    );
}

/// Reports that every property holds in spite of a change.
pub(crate) fn harmless(Subject { model, scenario }: Subject<'_>, change: &str, visited: Visited) {
    let [states, steps, depth, time] = visited.cells();
    println!("{model}: harmless: {change}: {states} states, {steps} steps, depth {depth}, {time}");
    add(
        Table::Harmless,
        &[model, change, scenario, &states, &steps, &depth, &time],
    );
}

/// Reports that a planted mistake breaks a property, and the schedule that shows it.
pub(crate) fn breaks(
    Subject { model, scenario }: Subject<'_>,
    mistake: &str,
    property: &str,
    schedule: &[String],
) {
    let steps = schedule.len();
    println!("{model}: {mistake}: breaks \"{property}\" after {steps} steps");
    if std::env::var_os("SHM_SYNC_MODEL_SCHEDULES").is_some() {
        println!("    {}", schedule.join("\n    "));
    }
    let row = [model, mistake, scenario, property, &steps.to_string()];
    add(Table::Mistakes, &row);
}

/// Reports that a planted mistake makes some states go on for ever.
pub(crate) fn livelocks(
    Subject { model, scenario }: Subject<'_>,
    mistake: &str,
    livelocked: usize,
    states: usize,
) {
    let [livelocked, states] = [livelocked, states].map(|number| grouped(number as u64));
    let property = format!("{livelocked} of {states} states go on for ever");
    println!("{model}: {mistake}: {property}");
    let row = [model, mistake, scenario, &property, "–"];
    add(Table::Mistakes, &row);
}

/// Reports that a protocol holds with the orderings of the code.
pub(crate) fn protocol(name: &str, scenarios: &str, time: Duration) {
    let time = seconds(time);
    println!("orderings: {name}: holds ({scenarios}), {time}");
    add(Table::Protocols, &[name, scenarios, &time]);
}

/// Reports that a protocol fails if an ordering of the code is weakened.
pub(crate) fn weakened(
    protocol: &str,
    (file, function): (&str, &str),
    [code, weaker]: [&str; 2],
    failure: &str,
) {
    let place = format!("`{file}`: `{function}`");
    println!("orderings: {protocol}: {place}: {weaker} for {code}: {failure}");
    add(Table::Weakened, &[protocol, &place, code, weaker, failure]);
}

/// Reports that a protocol fails with a planted mistake.
pub(crate) fn planted(protocol: &str, mistake: &str, failure: &str) {
    println!("orderings: {protocol}: {mistake}: {failure}");
    add(Table::Planted, &[protocol, mistake, failure]);
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn add(table: Table, row: &[&str]) {
    let row = row.iter().map(|cell| (*cell).to_owned()).collect();
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    let rows = tables.entry(table).or_default();
    rows.push(row);
    rows.sort();
    let (name, title) = match Size::chosen() {
        Size::Small => ("models", "The models"),
        Size::Large => ("models-large", "The models, large"),
    };
    let mut results = Results::new(name, title);
    for (table, rows) in tables.iter() {
        let section = results.section(table.heading());
        results = section.table(table.header(), rows);
    }
    results.write();
}
