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

mod book;
mod child;
mod clock;
mod contestants;
mod crew;
mod failure;
mod histogram;
mod machine;
mod monitors;
mod plan;
mod plot;
mod report;
mod shared;
mod stats;
mod targets;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use book::Book;
use failure::Failure;
use plan::{Plan, Progress};
use targets::Target;
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

/// The exit status if a target was missed.
const MISSED: u8 = 3;

fn main() -> ExitCode {
    let options = Options::parse();
    let chosen = choose(&options.only);
    if options.list {
        for workload in chosen {
            println!("{:<12} {}", workload.name, workload.about);
        }
        return ExitCode::SUCCESS;
    }
    match run(&options, &chosen) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(MISSED),
        Err(failure) => {
            eprintln!("shm-sync-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The workload of this name, or else all that have it in their names.
fn choose(only: &str) -> Vec<&'static Workload> {
    let all = workloads::ALL.iter();
    match all.clone().find(|workload| workload.name == only) {
        Some(workload) => vec![workload],
        None => all
            .filter(|workload| workload.name.contains(only))
            .collect(),
    }
}

/// Measures, and writes it all down. Returns whether all targets were met.
fn run(options: &Options, chosen: &[&Workload]) -> Result<bool, Failure> {
    plan::end_in_order()?;
    let mut book = Book::open(&options.out)?;
    let plan = Plan {
        quick: options.quick,
    };
    let progress = Progress::new();
    let mut all = vec![];
    for workload in chosen {
        let series = (workload.run)(&plan, &progress)?;
        book.enter(workload, &series)?;
        all.extend(series);
    }
    progress.finish();
    let targets = targets::judge(&all);
    book.close(&targets)?;
    Ok(targets.iter().all(Target::is_met))
}
