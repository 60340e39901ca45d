//! Measures shm-sync and its peers side by side.
//!
//! ```text
//! cargo run --release -p shm-sync-bench
//! cargo run --release -p shm-sync-bench -- --quick
//! cargo run --release -p shm-sync-bench -- --only contended
//! cargo run --release -p shm-sync-bench -- --only family
//! cargo run --release -p shm-sync-bench -- --compare HEAD~1 --only uncontended
//! ```
//!
//! The contestants of a workload alternate round by round, so that noise affects all of
//! them. The tables show medians over the rounds, their 95 % confidence intervals, and
//! medians of the ratios round by round. Ratios are comparable between machines;
//! absolute times are not.
//!
//! `--redraw` measures nothing: it draws the plots again from the cells of the tables,
//! which each run writes to `benchmarks.csv` beside the report.
//!
//! `--compare` measures only shm-sync, at two commits. It compiles this program again
//! with the library of the named commit, and both programs take turns. The comparison
//! is printed, and no file is written. See [`mod@compare`].
//!
//! There are three reports: `benchmarks.md` about locks, `family.md` about the other
//! primitives, and `languages.md` about C. A run replaces those whose workloads it
//! measures. They and their plots go to `target/bench`, unless `--out` names another
//! directory. The exit status is 0, or 1 after a failure, or 3 if a target was missed.

mod affinity;
mod cell;
mod child;
mod clock;
mod compare;
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

use std::io;
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
    /// Compare shm-sync with that of another commit, which is compiled first. Print a
    /// table, and write no report.
    #[arg(long, value_name = "COMMIT", conflicts_with_all = ["list", "redraw", "out", "csv"])]
    compare: Option<String>,
    /// Measure shm-sync once, and print the cells. `--compare` starts programs with it.
    #[arg(long, hide = true, conflicts_with_all = ["list", "redraw", "out", "csv", "compare"])]
    turn: bool,
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
    } else if options.turn {
        turn(&chosen)
    } else if let Some(commit) = &options.compare {
        compare(&options, commit, &chosen)
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

/// Compares shm-sync with that of another commit.
fn compare(options: &Options, commit: &str, chosen: &[Chosen]) -> Result<bool, Failure> {
    progress::install_signal_handlers()?;
    compare::run(commit, &Plan::new(options.quick), chosen)?;
    Ok(true)
}

/// Measures for one round of a comparison.
fn turn(chosen: &[Chosen]) -> Result<bool, Failure> {
    progress::install_signal_handlers()?;
    compare::turn(chosen, &mut io::stdout().lock())?;
    Ok(true)
}

/// Measures, and writes the reports. Returns whether all targets were met.
fn run(options: &Options, chosen: &[Chosen]) -> Result<bool, Failure> {
    progress::install_signal_handlers()?;
    let mode = if options.quick { "quick" } else { "full" };
    let plan = Plan::new(options.quick);
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
