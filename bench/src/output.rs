//! Output of a run: on the terminal and in files.
//!
//! * `benchmarks.md`: the report with all tables
//! * `plots/*.svg`: the plots that the report shows
//! * the values of all rounds, as CSV

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::contestants;
use crate::failure::Failure;
use crate::losses;
use crate::machine;
use crate::plot;
use crate::series::Series;
use crate::tables::{self, CSV_TITLES, Style};
use crate::targets::{self, Target};
use crate::workloads::Workload;

/// The text before the first table of the report.
const INTRODUCTION: &str = "# Benchmarks

`cargo run --release -p shm-sync-bench -- --out docs/results` writes this file. The method
and its limits are in [testing.md](../testing.md).
";

/// The text that explains the tables.
const LEGEND: &str = "
## How to read the tables

A cell has up to three parts:

* the median of all rounds,
* after `±`: half the distance between the quartiles, relative to the median,
* after `×`: the median of the ratios to the baseline of the workload, round by round.

*Survives* tells whether the other processes can continue after a process was killed while
it used the contestant: after every kill, after some kills, or after none.
";

/// The text before the table of losses.
const ABOUT_LOSSES: &str = "\
The best contestant of each column, if it is at least 1.1 times as good as shm-sync. The
times to lock and the processor time per operation are left out.
";

/// The files of a run.
#[derive(Debug)]
pub(crate) struct Output {
    directory: PathBuf,
    plots: PathBuf,
    report: File,
    rounds: File,
}

impl Output {
    /// Creates the files, or replaces them. Writes the description of the machine and
    /// of the contestants.
    pub(crate) fn create(directory: &Path, rounds: &Path, mode: &str) -> Result<Self, Failure> {
        let plots = directory.join("plots");
        fs::create_dir_all(&plots).map_err(Failure::os("mkdir"))?;
        if let Some(parent) = rounds.parent() {
            fs::create_dir_all(parent).map_err(Failure::os("mkdir"))?;
        }
        let create = |path: &Path| File::create(path).map_err(Failure::os("open"));
        let mut output = Self {
            report: create(&directory.join("benchmarks.md"))?,
            rounds: create(rounds)?,
            directory: directory.to_owned(),
            plots,
        };
        write(&mut output.rounds, CSV_TITLES)?;
        write(&mut output.report, INTRODUCTION)?;
        output.print(|style| {
            let mut table = style.table(vec!["measured on", ""], 2);
            for (name, value) in machine::describe() {
                table.add_row([name.to_owned(), value]);
            }
            table.add_row(["mode", mode]);
            format!("\n{table}\n")
        })?;
        write(&mut output.report, LEGEND)?;
        output.print(|style| {
            let heading = style.heading(2, "Compared locks");
            format!("{heading}{}\n", contestants::table(style))
        })?;
        Ok(output)
    }

    /// Adds the results of a workload.
    pub(crate) fn add(&mut self, workload: &Workload, series: &[Series]) -> Result<(), Failure> {
        write(&mut self.rounds, &tables::csv(series))?;
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
        for plot in plot::plot(series, &self.plots)? {
            write(&mut self.report, &format!("\n![{plot}](plots/{plot})\n"))?;
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
            self.directory.join("benchmarks.md").display()
        );
        Ok(())
    }

    /// Writes text to the terminal and to the report.
    fn print(&mut self, text: impl Fn(Style) -> String) -> Result<(), Failure> {
        print!("{}", text(Style::Terminal));
        write(&mut self.report, &text(Style::Markdown))
    }
}

fn write(file: &mut File, text: &str) -> Result<(), Failure> {
    file.write_all(text.as_bytes())
        .map_err(Failure::os("write"))
}
