//! Measures shm-sync and its peers side by side.
//!
//! ```text
//! cargo run --release -p shm-sync-bench
//! cargo run --release -p shm-sync-bench -- --quick
//! cargo run --release -p shm-sync-bench -- --only contended
//! cargo run --release -p shm-sync-bench -- --only family
//! ```
//!
//! The contestants of a workload alternate round by round, so that noise affects all of
//! them. The tables show medians over the rounds, half the distance between the
//! quartiles, and medians of the ratios round by round. Ratios are comparable between
//! machines; absolute times are not.
//!
//! `--redraw` measures nothing: it draws the plots again from the cells of the tables,
//! which each run writes to `benchmarks.csv` beside the report.
//!
//! There are three reports: `benchmarks.md` about locks, `family.md` about the other
//! primitives, and `languages.md` about C. A run replaces those whose workloads it
//! measures. They and their plots go to `target/bench`, unless `--out` names another
//! directory. The exit status is 0, or 1 after a failure, or 3 if a target was missed.

mod affinity;
mod cell;
mod child;
mod clock;
mod contestants;
mod failure;
mod foreign;
mod histogram;
mod losses;
mod machine;
mod monitors;
mod output;
mod plan;
mod plot;
mod progress;
mod records;
mod report;
mod semaphores;
mod series;
mod shared;
mod stats;
mod tables;
mod targets;
mod workers;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use failure::Failure;
use output::Output;
use plan::Plan;
use progress::Progress;
use report::Chosen;
use targets::Target;

/// Measures shm-sync and its peers side by side.
#[derive(Debug, Parser)]
struct Options {
    /// Run fewer and shorter rounds: about a minute, for rough figures.
    #[arg(long)]
    quick: bool,
    /// Run only the workload of this name, or the workloads of the report of this name,
    /// or those that contain the text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// List the workloads and exit.
    #[arg(long)]
    list: bool,
    /// Draw the plots again from the `benchmarks.csv` of an earlier run, and exit.
    #[arg(long, conflicts_with_all = ["quick", "only", "list", "csv"])]
    redraw: bool,
    /// Write the report and its plots into this directory.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/bench")]
    out: PathBuf,
    /// Write the values of all rounds into this CSV file.
    #[arg(long, value_name = "FILE", default_value = "target/bench/rounds.csv")]
    csv: PathBuf,
}

/// The exit status after a missed target.
const MISSED: u8 = 3;

fn main() -> ExitCode {
    let options = Options::parse();
    let chosen = report::choose(&options.only);
    if chosen.is_empty() {
        let all = report::choose("");
        let all = all.iter().flat_map(|chosen| &chosen.workloads);
        let names: Vec<&str> = all.map(|workload| workload.name).collect();
        let message = format!(
            "no workload has a name with {:?}: the workloads are {}",
            options.only,
            names.join(", ")
        );
        Options::command()
            .error(ErrorKind::InvalidValue, message)
            .exit();
    }
    if options.list {
        for workload in chosen.iter().flat_map(|chosen| &chosen.workloads) {
            println!("{:<12} {}", workload.name, workload.title);
        }
        return ExitCode::SUCCESS;
    }
    let outcome = if options.redraw {
        redraw(&options)
    } else {
        run(&options, &chosen)
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(MISSED),
        Err(failure) => {
            eprintln!("shm-sync-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Draws the plots again, and prints the lines that show them in the report.
fn redraw(options: &Options) -> Result<bool, Failure> {
    for image in output::redraw(&options.out)? {
        println!("{image}");
    }
    Ok(true)
}

/// Measures, and writes the reports. Returns whether all targets were met.
fn run(options: &Options, chosen: &[Chosen]) -> Result<bool, Failure> {
    progress::install_signal_handlers()?;
    let mode = if options.quick { "quick" } else { "full" };
    let plan = Plan {
        quick: options.quick,
    };
    let mut rounds = records::create_rounds(&options.csv)?;
    let mut all_met = true;
    for Chosen { report, workloads } in chosen {
        let mut output = Output::create(&options.out, report, mode)?;
        let progress = Progress::new();
        let mut all = vec![];
        for workload in workloads {
            let series = (workload.run)(&plan, &progress)?;
            records::write_rounds(&mut rounds, &series)?;
            output.add(workload, &series)?;
            all.extend(series);
        }
        progress.finish();
        let targets = targets::evaluate(&all);
        output.finish(&all, &targets)?;
        all_met &= targets.iter().all(Target::is_met);
    }
    Ok(all_met)
}
