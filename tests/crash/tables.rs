//! Result files, made of the tables that stages print.
//!
//! A stage prints a heading (`## …`), the header of a table and its rows. The process
//! of the harness reads them after each test and writes the file again, so the file is
//! complete after the last test.

use std::sync::Mutex;

use crate::results::Results;

/// A result file, and the tables that were read so far.
pub(crate) struct ResultFile {
    name: &'static str,
    title: &'static str,
    /// The headings, in the order of the file.
    headings: &'static [&'static str],
    /// The first cells of rows, in the order of each table.
    order: &'static [&'static str],
    sections: Mutex<Vec<Section>>,
}

/// The table below one heading.
#[derive(Debug)]
struct Section {
    heading: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl ResultFile {
    pub(crate) const fn new(
        name: &'static str,
        title: &'static str,
        headings: &'static [&'static str],
        order: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            title,
            headings,
            order,
            sections: Mutex::new(Vec::new()),
        }
    }

    /// Adds the tables in the output of a stage, and writes the file.
    pub(crate) fn add(&self, output: &str) {
        let mut sections = self.sections.lock().unwrap();
        for section in sections_of(output) {
            let known = sections
                .iter_mut()
                .find(|known| known.heading == section.heading);
            match known {
                Some(known) => known.rows.extend(section.rows),
                None => sections.push(section),
            }
        }
        let position = |list: &[&str], text: &str| {
            let found = list.iter().position(|entry| *entry == text);
            found.unwrap_or(list.len())
        };
        sections.sort_by_key(|section| position(self.headings, &section.heading));
        let mut results = Results::new(self.name, self.title);
        for section in &mut *sections {
            section
                .rows
                .sort_by_key(|row| position(self.order, &row[0]));
            let header: Vec<&str> = section.header.iter().map(String::as_str).collect();
            results = results
                .section(&section.heading)
                .table(&header, &section.rows);
        }
        results.write();
    }
}

/// Returns the tables in the output of a stage.
fn sections_of(output: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in output.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            sections.push(Section {
                heading: heading.to_owned(),
                header: Vec::new(),
                rows: Vec::new(),
            });
        } else if let (Some(section), true) = (sections.last_mut(), is_row(line)) {
            let cells: Vec<String> = cells_of(line).map(str::to_owned).collect();
            if section.header.is_empty() {
                section.header = cells;
            } else {
                section.rows.push(cells);
            }
        }
    }
    sections
}

/// Returns whether a line is a row of a table, and not the line below the header.
fn is_row(line: &str) -> bool {
    line.starts_with("| ")
}

fn cells_of(line: &str) -> impl Iterator<Item = &str> {
    line.trim_matches('|').split('|').map(str::trim)
}

/// Prints the heading and the header of a table whose rows follow.
pub(crate) fn print_header(heading: &str, header: &[&str]) {
    println!("## {heading}");
    println!("| {} |", header.join(" | "));
    println!("|{}", "---|".repeat(header.len()));
}

/// Prints a row of a table.
pub(crate) fn print_row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

#[test]
fn tables_are_read_from_output() {
    let output = "noise\n## One\n| a | b |\n|---|---|\n| 1 | 2 |\nmore noise\n\
                  ## Two\n| c |\n|---|\n## One\n| a | b |\n|---|---|\n| 3 | – |\n";
    let sections = sections_of(output);
    let headings = sections.iter().map(|section| section.heading.as_str());
    assert!(headings.eq(["One", "Two", "One"]));
    assert_eq!(sections[0].header, ["a", "b"]);
    assert_eq!(sections[0].rows, [["1", "2"]]);
    assert!(sections[1].rows.is_empty());
    assert_eq!(sections[2].rows, [["3", "–"]]);
}
