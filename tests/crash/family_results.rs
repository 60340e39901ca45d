//! The file with the kills of all primitives beside the mutex and the condition
//! variables: at every instruction, and at random instants.

use std::time::Duration;

use crate::tables::{ResultFile, print_header, print_row};

/// The modules of the tests, and the headings of their tables.
const HEADINGS: [(&str, &str); 5] = [
    (
        "family_instructions",
        "By instruction: events, semaphores, lifelines",
    ),
    ("barrier_instructions", "By instruction: barriers"),
    (
        "rwlock_instructions",
        "By instruction: readers-writer locks",
    ),
    ("channel_instructions", "By instruction: channels and pipes"),
    (
        "values",
        "By instruction: published values, values made once",
    ),
];
const STORMS: &str = "Random instants";

static FAMILY: ResultFile = ResultFile::new(
    "kills-family",
    "Kills of the other primitives",
    &[
        HEADINGS[0].1,
        HEADINGS[1].1,
        HEADINGS[2].1,
        HEADINGS[3].1,
        HEADINGS[4].1,
        STORMS,
    ],
    &[],
);

/// Adds the tables of a stage to the file.
pub(crate) fn record(output: &str) {
    FAMILY.add(output);
}

/// Returns the heading for the stage that this process is. Its first argument is the
/// name of its test.
fn heading() -> &'static str {
    let test = std::env::args().nth(1).unwrap_or_default();
    let module = test.split("::").next().unwrap_or_default();
    let known = HEADINGS.iter().find(|(name, _)| *name == module);
    known.map_or("By instruction", |(_, heading)| heading)
}

/// What the kills of one operation have shown.
pub(crate) struct Operation<'a> {
    pub(crate) name: &'a str,
    pub(crate) instructions: u64,
    pub(crate) kills: usize,
    pub(crate) inside: u32,
    /// From the kill until the last sleeper had gone on, for each kill after which the
    /// sleepers must do so by themselves. Sorted.
    pub(crate) slept: &'a [Duration],
}

impl Operation<'_> {
    pub(crate) fn print(&self) {
        let Self { slept, .. } = self;
        let time =
            |time: Option<&Duration>| time.map_or("–".to_owned(), |it| format!("{it:.1?}"));
        print_header(
            heading(),
            &[
                "operation",
                "instructions",
                "kills",
                "inside",
                "sleepers go on, median",
                "max",
                "stuck or wrong",
            ],
        );
        print_row(&[
            self.name.to_owned(),
            self.instructions.to_string(),
            self.kills.to_string(),
            self.inside.to_string(),
            time(slept.get(slept.len() / 2)),
            time(slept.last()),
            "0".to_owned(),
        ]);
    }
}

/// What a storm has shown.
pub(crate) struct Storm<'a> {
    pub(crate) name: &'a str,
    pub(crate) kills: u64,
    pub(crate) seed: u64,
    pub(crate) rounds: u64,
    pub(crate) deaths_reported: u64,
    pub(crate) slowest: Duration,
    pub(crate) violations: u64,
}

impl Storm<'_> {
    pub(crate) fn print(&self) {
        print_header(
            STORMS,
            &[
                "primitive",
                "kills",
                "seed",
                "rounds",
                "deaths reported",
                "until all had made progress, max",
                "violations",
            ],
        );
        print_row(&[
            self.name.to_owned(),
            self.kills.to_string(),
            self.seed.to_string(),
            self.rounds.to_string(),
            self.deaths_reported.to_string(),
            format!("{:.1?}", self.slowest),
            self.violations.to_string(),
        ]);
    }
}
