//! Where results are written down: as they come, on the terminal and in files.
//!
//! * `report.md`: all tables, also those that would be too many on the terminal
//! * `rounds.csv`: every value of every round
//! * `*.svg`: the plots

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::contestants;
use crate::failure::Failure;
use crate::machine;
use crate::plot;
use crate::report::{self, CSV_TITLES, Series, Style};
use crate::targets::{self, Target};
use crate::workloads::Workload;

/// The files of one run.
#[derive(Debug)]
pub(crate) struct Book {
    directory: PathBuf,
    tables: File,
    rounds: File,
}

impl Book {
    /// Begins new files in `directory`, in place of those that are there, with what is to
    /// be known of the machine and the contestants.
    pub(crate) fn open(directory: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(directory).map_err(Failure::of("mkdir"))?;
        let create = |name| File::create(directory.join(name)).map_err(Failure::of("open"));
        let mut book = Self {
            directory: directory.to_owned(),
            tables: create("report.md")?,
            rounds: create("rounds.csv")?,
        };
        write(&mut book.rounds, CSV_TITLES)?;
        book.say(|style| {
            let mut table = style.table(vec!["measured on", ""], 2);
            for (what, value) in machine::describe() {
                table.add_row([what.to_owned(), value]);
            }
            format!("{table}\n")
        })?;
        book.say(|style| {
            let heading = style.heading("Locks that are compared");
            format!("{heading}{}\n", contestants::table(style))
        })?;
        Ok(book)
    }

    /// Enters what a workload gave.
    pub(crate) fn enter(&mut self, workload: &Workload, series: &[Series]) -> Result<(), Failure> {
        write(&mut self.rounds, &report::csv(series))?;
        self.say(|style| report::tables(series, workload.baseline, style))?;
        for plot in plot::plot(series, &self.directory)? {
            write(&mut self.tables, &format!("\n![{plot}]({plot})\n"))?;
        }
        Ok(())
    }

    /// Ends with the targets.
    pub(crate) fn close(mut self, targets: &[Target]) -> Result<(), Failure> {
        if !targets.is_empty() {
            self.say(|style| {
                let heading = style.heading("Targets");
                format!("{heading}{}\n", targets::table(targets, style))
            })?;
        }
        println!(
            "\nAll values, the plots, and more tables (times to get a lock, processor time): {}",
            self.directory.display()
        );
        Ok(())
    }

    /// Writes the same to the terminal and to the file.
    fn say(&mut self, what: impl Fn(Style) -> String) -> Result<(), Failure> {
        print!("{}", what(Style::Terminal));
        write(&mut self.tables, &what(Style::Markdown))
    }
}

fn write(file: &mut File, text: &str) -> Result<(), Failure> {
    file.write_all(text.as_bytes())
        .map_err(Failure::of("write"))
}
