//! Compares `docs/orderings.md` with the sources and with the protocols.

use std::collections::{BTreeMap, BTreeSet};

use std::sync::atomic::Ordering::{self, Relaxed};

use super::protocol::Protocol;
use super::source::{Function, HEADER, SOURCES, ordering};
use super::{
    barrier, channel, condvar, epoch, event_count, mutex, pi, place, private_owner, published,
    rwlock, seat, sysv,
};

/// The protocols.
static PROTOCOLS: [&Protocol; 13] = [
    &barrier::PROTOCOL,
    &channel::PROTOCOL,
    &condvar::PROTOCOL,
    &epoch::PROTOCOL,
    &event_count::PROTOCOL,
    &mutex::PROTOCOL,
    &pi::PROTOCOL,
    &place::PROTOCOL,
    &private_owner::PROTOCOL,
    &published::PROTOCOL,
    &rwlock::PROTOCOL,
    &seat::PROTOCOL,
    &sysv::PROTOCOL,
];

const TEXT: &str = include_str!("../../../../docs/orderings.md");

/// The heading of the list of orderings that are stronger than needed.
const STRONGER: &str = "Stronger than needed";
/// The heading of the list of the C header.
const IN_C: &str = "In the C header";
/// The heading of the list of arguments.
const ARGUMENTS: &str = "Arguments";

/// Returns the rows of the table below a heading, without its head.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let is_heading = |line: &str| line.trim_start_matches('#').trim().replace('`', "") == heading;
    let lines = TEXT
        .lines()
        .skip_while(|line| !line.starts_with('#') || !is_heading(line));
    let section = lines.skip(1).take_while(|line| !line.starts_with('#'));
    let rows = section.filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = |row: &'static str| {
        row.split(" | ")
            .map(|cell| cell.trim_matches('`'))
            .collect()
    };
    rows.skip(1).map(cells).collect()
}

/// Returns the files that have a section.
fn files() -> Vec<&'static str> {
    let headings = TEXT.lines().filter_map(|line| line.strip_prefix("### `"));
    let names = headings.filter_map(|heading| heading.strip_suffix('`'));
    names.collect()
}

/// Joins orderings, with the number of equal ones that follow each other.
fn joined(orderings: impl Iterator<Item = String>) -> String {
    let mut runs: Vec<(String, usize)> = Vec::new();
    for ordering in orderings {
        match runs.last_mut() {
            Some((last, count)) if *last == ordering => *count += 1,
            _ => runs.push((ordering, 1)),
        }
    }
    let runs = runs.into_iter().map(|(ordering, count)| match count {
        1 => ordering,
        _ => format!("{count} × {ordering}"),
    });
    runs.collect::<Vec<_>>().join(", ")
}

/// Returns the first two cells of a row for each function.
fn described(functions: &[Function]) -> Vec<String> {
    let described = functions.iter().map(|function| {
        let orderings = function.orderings.iter().map(ToString::to_string);
        format!("{}: {}", function.name, joined(orderings))
    });
    described.collect()
}

/// Returns the same of the table below a heading.
fn documented(heading: &str) -> Vec<String> {
    let rows = rows(heading).into_iter();
    rows.map(|row| format!("{}: {}", row[0], row[1])).collect()
}

#[test]
fn table_has_every_ordering() {
    let in_sources: Vec<_> = SOURCES.keys().collect();
    assert_eq!(files(), in_sources, "docs/orderings.md (left): files");
    for (file, functions) in SOURCES.iter() {
        let written = described(functions);
        assert_eq!(
            documented(file),
            written,
            "docs/orderings.md (left): {file}"
        );
    }
}

/// Names the functions of the library that do the same as those of the header.
#[test]
fn table_has_the_orderings_of_the_header() {
    let written = described(&HEADER);
    assert_eq!(
        documented(IN_C),
        written,
        "docs/orderings.md (left): {IN_C}"
    );
    for row in rows(IN_C) {
        for same in row[2].split(", ").filter(|same| *same != "–") {
            let same = same.trim_matches('`');
            let (file, function) = same.split_once(": ").unwrap_or((same, ""));
            let functions = SOURCES.get(&format!("src/{file}")).into_iter().flatten();
            let mut names = functions.map(|function| function.name.as_str());
            assert!(names.any(|name| name == function), "`{}`: {same}", row[0]);
        }
    }
}

#[test]
fn table_names_the_protocols() {
    let mut protocols: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for protocol in PROTOCOLS {
        for place in protocol.places {
            let function = (place.site.file, place.site.function);
            protocols.entry(function).or_default().insert(protocol.name);
        }
    }
    let arguments: BTreeSet<_> = rows(ARGUMENTS).into_iter().map(|row| row[0]).collect();
    for file in files() {
        for row in rows(file) {
            let function = row[0];
            let reasons = row[2].split(", ");
            let reasons: BTreeSet<_> = reasons.map(|reason| reason.trim_matches('`')).collect();
            let expected = protocols.remove(&(file, function));
            let expected = expected.unwrap_or_default();
            let others: BTreeSet<_> = reasons.difference(&expected).copied().collect();
            assert!(
                reasons.is_superset(&expected),
                "{file}: `{function}`: {expected:?}"
            );
            assert!(
                others.is_subset(&arguments),
                "{file}: `{function}`: {others:?}"
            );
        }
    }
    assert!(
        protocols.is_empty(),
        "docs/orderings.md has no {protocols:?}"
    );
}

/// The weaker orderings that are enough for every protocol.
#[test]
fn table_names_the_orderings_that_are_stronger_than_needed() {
    let mut enough: BTreeMap<_, Vec<Ordering>> = BTreeMap::new();
    for place in PROTOCOLS.iter().flat_map(|protocol| protocol.places) {
        let here = enough
            .entry(place.site)
            .or_insert_with(|| place.enough.to_vec());
        here.retain(|ordering| place.enough.contains(ordering));
    }
    let enough = enough.into_iter().filter(|(_, enough)| !enough.is_empty());
    let computed = enough.map(|(site, enough)| {
        let written = ordering(site.file, site.function, site.nth);
        let weakest = if enough.contains(&Relaxed) {
            vec![Relaxed]
        } else {
            enough
        };
        let weakest: Vec<_> = weakest.iter().map(|it| format!("{it:?}")).collect();
        let weakest = weakest.join(", ");
        format!("{} {} {written}: {weakest}", site.file, site.function)
    });
    let documented = rows(STRONGER).into_iter();
    let documented = documented.map(|row| format!("{} {} {}: {}", row[0], row[1], row[2], row[3]));
    let [mut documented, mut computed] = [documented.collect::<Vec<_>>(), computed.collect()];
    documented.sort();
    computed.sort();
    assert_eq!(documented, computed, "docs/orderings.md (left): {STRONGER}");
}
