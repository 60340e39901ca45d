//! shm-sync and its peers, measured side by side.
//!
//! ```text
//! cargo run --release -p shm-sync-bench
//! cargo run --release -p shm-sync-bench -- --quick
//! cargo run --release -p shm-sync-bench -- --only contended
//! ```
//!
//! Everything runs on the machine that it finds, in one go. The contestants of a
//! workload take turns round by round, so that noise hits all alike; what is printed
//! are medians over the rounds, half the distance between the quartiles, and medians
//! of the ratios round by round. Absolute times mean little on a shared machine; the
//! ratios do.
//!
//! All values of all rounds go to CSV files, the tables to a Markdown file, and plots
//! to SVG files, in `target/bench` unless `--out` says otherwise. The exit status is 0,
//! 1 if something failed, and 3 if a target was missed.

mod child;
mod clock;
mod contestants;
mod crew;
mod failure;
mod histogram;
mod monitors;
mod plan;
mod report;
mod shared;
mod stats;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use failure::Failure;
use plan::{Plan, Progress};
use report::Style;
use workloads::Workload;

/// Measures shm-sync and its peers side by side.
#[derive(Debug, Parser)]
struct Options {
    /// Fewer and shorter rounds: under a minute, and a rough idea.
    #[arg(long)]
    quick: bool,
    /// Only workloads with this text in their names.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Says which workloads there are.
    #[arg(long)]
    list: bool,
    /// Where the files go.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/bench")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let chosen: Vec<&Workload> = workloads::ALL
        .iter()
        .filter(|workload| workload.name.contains(&options.only))
        .collect();
    if options.list {
        for workload in chosen {
            println!("{:<16} {}", workload.name, workload.about);
        }
        return ExitCode::SUCCESS;
    }
    match run(&options, &chosen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("shm-sync-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, chosen: &[&Workload]) -> Result<(), Failure> {
    plan::end_in_order()?;
    let plan = Plan {
        quick: options.quick,
    };
    let progress = Progress::new();
    for workload in chosen {
        let series = (workload.run)(&plan, &progress)?;
        print!(
            "{}",
            report::tables(&series, workload.baseline, Style::Terminal)
        );
    }
    progress.finish();
    Ok(())
}
