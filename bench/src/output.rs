//! Output of a run: on the terminal and in files.
//!
//! * `benchmarks.md` or `family.md`: the report with all tables
//! * `benchmarks.csv` or `family.csv`: the cells of these tables
//! * `plots/*.svg`: the plots that the report shows, drawn from these cells

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cell::Cell;
use crate::contestants;
use crate::failure::Failure;
use crate::losses;
use crate::machine;
use crate::plot::{self, Plot};
use crate::records::{self, About};
use crate::report::{LOCKS, Report};
use crate::series::Series;
use crate::tables::{self, Style};
use crate::targets::{self, Target};
use crate::workloads::Workload;

/// The text that explains the tables.
const LEGEND: &str = "
## How to read the tables

A cell has up to three parts:

* the median of all rounds,
* in brackets: a 95 % confidence interval of the median, in the unit of the median,
* after `×`: the median of the ratios to the baseline of the workload, round by round.

Fewer than 6 rounds have no such interval. Then the brackets hold the smallest and the
largest value and the number of rounds, as in `[19.8–20.5 of 3]`. The interval covers the
noise between the rounds of this run. Another run, and another build of the same code, can
differ by more.

*Survives* tells whether the other processes can continue after a process was killed while
it used the contestant: after every kill, after some kills, or after none.
";

/// The text before the table of losses.
const ABOUT_LOSSES: &str = "\
The best contestant of each column, if it is at least 1.1 times as good as shm-sync. The
times to lock and the processor time per operation are left out.
";

/// The files of a report.
#[derive(Debug)]
pub(crate) struct Output {
    directory: PathBuf,
    about: About,
    path: PathBuf,
    report: File,
    cells: File,
}

impl Output {
    /// Creates the files, or replaces them. Writes the description of the machine and
    /// of the contestants.
    pub(crate) fn create(directory: &Path, report: &Report, mode: &str) -> Result<Self, Failure> {
        fs::create_dir_all(plots_in(directory)).map_err(Failure::os("mkdir"))?;
        let create = |path: &Path| File::create(path).map_err(Failure::os("open"));
        let path = directory.join(report.name).with_extension("md");
        let machine = machine::describe().into_iter();
        let about = machine
            .map(|(name, value)| (name.to_owned(), value))
            .chain([("mode".to_owned(), mode.to_owned())])
            .collect();
        let mut output = Self {
            report: create(&path)?,
            cells: create(&cells_of(report, directory))?,
            path,
            directory: directory.to_owned(),
            about,
        };
        let head = records::cell_head(&output.about);
        write(&mut output.cells, &head)?;
        write(&mut output.report, report.introduction)?;
        let about = output.about.clone();
        output.print(|style| {
            let mut table = style.table(vec!["measured on", ""], 2);
            for (name, value) in &about {
                table.add_row([name, value]);
            }
            format!("\n{table}\n")
        })?;
        write(&mut output.report, LEGEND)?;
        if report.compares_locks {
            output.print(|style| {
                let heading = style.heading(2, "Compared locks");
                format!("{heading}{}\n", contestants::table(style))
            })?;
        }
        Ok(output)
    }

    /// Adds the results of a workload.
    pub(crate) fn add(&mut self, workload: &Workload, series: &[Series]) -> Result<(), Failure> {
        let cells = Cell::all(series, workload.baseline);
        records::write_cells(&mut self.cells, &cells)?;
        let Workload {
            title,
            method,
            baseline,
            ..
        } = workload;
        let heading = Style::Markdown.heading(2, title);
        let about = format!("{heading}{method}\n\nThe baseline is {baseline}.\n");
        write(&mut self.report, &about)?;
        self.print(|style| tables::tables(series, workload.baseline, style))?;
        let run = describe_run(&self.about);
        for plot in plot::plot(workload, &cells, &run, &plots_in(&self.directory))? {
            write(&mut self.report, &format!("\n{}\n", image(&plot)))?;
        }
        Ok(())
    }

    /// Writes the losses and the targets.
    pub(crate) fn finish(mut self, all: &[Series], targets: &[Target]) -> Result<(), Failure> {
        let losses = losses::find(all);
        if !losses.is_empty() {
            let heading = Style::Markdown.heading(2, "Where another contestant is better");
            let table = losses::table(&losses, Style::Markdown);
            write(
                &mut self.report,
                &format!("{heading}{ABOUT_LOSSES}\n{table}\n"),
            )?;
        }
        if !targets.is_empty() {
            self.print(|style| {
                let heading = style.heading(2, "Targets");
                format!("{heading}{}\n", targets::table(targets, style))
            })?;
        }
        let load = format!("\nLoad average after the run: {}.\n", machine::load());
        write(&mut self.report, &load)?;
        println!(
            "\nReport with all tables and plots: {}",
            self.path.display()
        );
        Ok(())
    }

    /// Writes text to the terminal and to the report.
    fn print(&mut self, text: impl Fn(Style) -> String) -> Result<(), Failure> {
        print!("{}", text(Style::Terminal));
        write(&mut self.report, &text(Style::Markdown))
    }
}

/// Draws the plots of `benchmarks.md` again from the cells in a directory. Returns the
/// lines that show them in the report.
pub(crate) fn redraw(directory: &Path) -> Result<Vec<String>, Failure> {
    let (about, cells) = records::read_cells(&cells_of(&LOCKS, directory))?;
    let plots = plots_in(directory);
    fs::create_dir_all(&plots).map_err(Failure::os("mkdir"))?;
    let run = describe_run(&about);
    let mut images = vec![];
    for workload in LOCKS.workloads {
        let drawn = plot::plot(workload, &cells, &run, &plots)?;
        images.extend(drawn.iter().map(image));
    }
    Ok(images)
}

fn cells_of(report: &Report, directory: &Path) -> PathBuf {
    directory.join(report.name).with_extension("csv")
}

fn plots_in(directory: &Path) -> PathBuf {
    directory.join("plots")
}

/// Returns the line of Markdown that shows a plot.
fn image(plot: &Plot) -> String {
    format!("![{}](plots/{})", plot.title, plot.file)
}

/// Returns a sentence about the run, for the plots.
fn describe_run(about: &About) -> String {
    let value = |name: &str| {
        let found = about.iter().find(|(other, _)| other == name);
        found.map_or("unknown", |(_, value)| value)
    };
    let rough = match value("mode") {
        "quick" => "Rough values of a quick run. ",
        _ => "",
    };
    let (processor, date) = (value("processor"), value("date"));
    format!("{rough}Medians. Processors: {processor}. Date: {date}.")
}

fn write(file: &mut File, text: &str) -> Result<(), Failure> {
    file.write_all(text.as_bytes())
        .map_err(Failure::os("write"))
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;
    use crate::report::REPORTS;

    /// The directory of the committed report.
    fn committed() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/results")
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|error| format!("{}: {error}", path.display()))
    }

    #[test]
    fn report_contains_each_committed_cell() -> Result<(), Failure> {
        let reports = REPORTS
            .iter()
            .filter(|it| cells_of(it, &committed()).exists());
        let checked = reports.map(contains_each_committed_cell);
        let checked = checked.collect::<Result<Vec<()>, _>>()?;
        assert!(!checked.is_empty(), "there are no reports");
        Ok(())
    }

    fn contains_each_committed_cell(report: &Report) -> Result<(), Failure> {
        let (_, cells) = records::read_cells(&cells_of(report, &committed()))?;
        let report = read(&committed().join(report.name).with_extension("md"));
        assert!(!cells.is_empty(), "there are no cells");
        let tables = tables_of(&report);
        for cell in &cells {
            // A row has one label, and its cells may have several: a lock survives more
            // than its condition variable.
            let rivals = cells
                .iter()
                .filter(|other| other.contestant == cell.contestant);
            let begins: Vec<String> = rivals
                .map(|it| format!("| {} | {} |", it.contestant, it.survives.label()))
                .collect();
            let is_shown = |row: &str| {
                let mut shown = row.split(" | ");
                shown.any(|shown| without_spread(shown.trim_end_matches(" |")) == cell.to_string())
            };
            let is_row = |row: &str| begins.iter().any(|begin| row.starts_with(begin));
            let fits = |row: &&str| is_row(row) && is_shown(row);
            let mut places = tables
                .iter()
                .filter(|(name, _)| cell.workload.starts_with(name));
            let is_there = places.any(|(_, rows)| rows.iter().any(fits));
            assert!(is_there, "the report has no {cell:?} at its place");
        }
        Ok(())
    }

    /// Removes the `±17 %` that reports of older versions have instead of an interval.
    fn without_spread(cell: &str) -> String {
        let parts = cell.split_once(" ±");
        let parts = parts.and_then(|(value, rest)| Some((value, rest.split_once(" %")?.1)));
        match parts {
            Some((value, ratio)) => format!("{value}{ratio}"),
            None => cell.to_owned(),
        }
    }

    /// Returns the workload of each table in a report, and its rows.
    fn tables_of(report: &str) -> Vec<(&str, Vec<&str>)> {
        let mut tables = Vec::new();
        for line in report.lines() {
            if let Some(heading) = line.strip_prefix("### ") {
                let (workload, _) = heading.split_once(':').unwrap_or((heading, ""));
                tables.push((workload, Vec::new()));
            } else if let (Some((_, rows)), true) = (tables.last_mut(), line.starts_with("| ")) {
                rows.push(line);
            }
        }
        tables
    }

    #[test]
    fn committed_plots_are_those_of_the_cells() -> Result<(), Failure> {
        const ADVICE: &str = "draw them again: see `Benchmarks` in docs/testing.md";
        let name = format!("shm-sync-bench-redraw-{}", process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).map_err(Failure::os("mkdir"))?;
        let (from, to) = (cells_of(&LOCKS, &committed()), cells_of(&LOCKS, &directory));
        fs::copy(from, to).map_err(Failure::os("copy"))?;
        let images = redraw(&directory);
        let plots = fs::read_dir(plots_in(&directory)).map_err(Failure::os("readdir"))?;
        let differing: Vec<PathBuf> = plots
            .flatten()
            .map(|plot| plots_in(&committed()).join(plot.file_name()))
            .filter(|kept| {
                let drawn = plots_in(&directory).join(kept.file_name().unwrap_or_default());
                read(kept) != read(&drawn)
            })
            .collect();
        fs::remove_dir_all(&directory).map_err(Failure::os("rmdir"))?;
        assert!(differing.is_empty(), "{ADVICE}: {differing:?}");
        let report = read(&committed().join("benchmarks.md"));
        for image in images? {
            assert!(report.contains(&image), "the report lacks {image}");
        }
        Ok(())
    }
}
