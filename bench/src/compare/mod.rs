//! Comparison of shm-sync with that of another commit.
//!
//! Two programs are compared: this one, and [`OldProgram`], which is the same benchmark
//! compiled with the library of the other commit. So only the library differs, and the
//! other commit needs no support for the comparison.
//!
//! In a round, each program measures one workload in a new process, with the
//! contestants of this crate only. The other program follows at once. A process makes a
//! quick measurement and prints its cells, and the medians in these cells are the
//! values of the round.
//!
//! Each process runs a new copy of its program's file. So the rounds are independent:
//! times differ between processes of a program, because their memory is at other
//! addresses. Times differ between copies of a file as well, perhaps because the kernel
//! keeps each copy in other pages.

mod command;
mod old_program;
mod pairs;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use self::old_program::OldProgram;
use self::pairs::Pairs;
use crate::cell::Cell;
use crate::failure::Failure;
use crate::plan::{Plan, order_in_round};
use crate::progress::Progress;
use crate::records;
use crate::report::Chosen;
use crate::tables::Style;

/// The names of the two programs, and of the copies that run.
const NAMES: [&str; 2] = ["old", "new"];

/// The option of a program that measures for one round.
const TURN: &str = "--turn";

/// Measures both programs, and prints a table for each workload.
pub(crate) fn run(commit: &str, plan: &Plan, chosen: &[Chosen]) -> Result<(), Failure> {
    if cfg!(debug_assertions) {
        return Err(Failure::NotOptimised);
    }
    let this_program = std::env::current_exe().map_err(Failure::os("readlink"))?;
    let old_program = OldProgram::build(commit)?;
    let programs = [old_program.path(), &this_program];
    let rounds = plan.pick(21, 7);
    println!("{}", legend(old_program.commit(), rounds));
    let progress = Progress::new();
    for workload in chosen.iter().flat_map(|chosen| &chosen.workloads) {
        let take_turn = |index: usize| {
            progress.step(NAMES[index])?;
            let copy = old_program.directory().join(NAMES[index]);
            take_turn(programs[index], &copy, workload.name)
        };
        progress.begin(workload.name, rounds * programs.len());
        let pairs = measure(rounds, take_turn)?;
        progress.finish();
        print!("{}", Style::Terminal.heading(3, workload.title));
        println!("{}", pairs.table(Style::Terminal));
    }
    Ok(())
}

/// Explains the tables.
fn legend(commit: &str, rounds: usize) -> String {
    format!(
        "\
Old: shm-sync of commit {commit}. New: shm-sync of this program. Medians of {rounds} rounds.
New / old: the median of the ratios round by round, and its 95 % confidence interval. The
last column is \"better\" or \"worse\" if the interval excludes 1. Of 20 cells that are equal,
one is expected there by chance. The interval does not cover the differences between two
builds of the same code: `--compare HEAD` without changes shows them."
    )
}

/// Measures all rounds. The program that comes first changes from round to round.
fn measure(
    rounds: usize,
    take_turn: impl Fn(usize) -> Result<Vec<Cell>, Failure>,
) -> Result<Pairs, Failure> {
    let mut pairs = Pairs::default();
    for round in 0..rounds {
        let mut cells = [vec![], vec![]];
        for index in order_in_round(round, cells.len()) {
            cells[index] = take_turn(index)?;
        }
        pairs.add(cells);
    }
    Ok(pairs)
}

/// Starts a copy of a program, which measures a workload, and returns the cells that it
/// prints.
fn take_turn(program: &Path, copy: &Path, workload: &str) -> Result<Vec<Cell>, Failure> {
    fs::copy(program, copy).map_err(Failure::os("copy"))?;
    let mut turn = Command::new(copy);
    turn.args([TURN, "--only", workload]);
    let text = command::output(&mut turn);
    // Without this, the next copy would be written into the same file.
    fs::remove_file(copy).map_err(Failure::os("unlink"))?;
    let (_, cells) = records::parse_cells(&text?)
        .map_err(|error| Failure::Command(command::name(&turn), error.to_string()))?;
    Ok(cells)
}

/// Measures for one round, and writes the cells for [`take_turn`].
pub(crate) fn turn(chosen: &[Chosen], output: &mut impl Write) -> Result<(), Failure> {
    let plan = Plan::own();
    let progress = Progress::new();
    let head = records::cell_head(&vec![]);
    output
        .write_all(head.as_bytes())
        .map_err(Failure::os("write"))?;
    for workload in chosen.iter().flat_map(|chosen| &chosen.workloads) {
        let mut series = (workload.run)(&plan, &progress)?;
        series.retain(|series| plan.includes(series.contestant));
        records::write_cells(output, &Cell::all(&series, workload.baseline))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::report;

    #[test]
    fn programs_take_turns() -> Result<(), Failure> {
        let order = RefCell::new(String::new());
        measure(4, |index| {
            order.borrow_mut().push_str(NAMES[index]);
            Ok(vec![])
        })?;
        assert_eq!(order.take(), "oldnewnewoldnewoldoldnew");
        Ok(())
    }

    #[test]
    fn turn_writes_cells_of_this_crate_only() -> Result<(), Failure> {
        let mut written = vec![];
        turn(&report::choose("once-lock"), &mut written)?;
        let text = String::from_utf8_lossy(&written);
        let (_, cells) = records::parse_cells(&text).unwrap();
        let contestants: Vec<_> = cells.iter().map(|cell| cell.contestant.as_str()).collect();
        assert_eq!(contestants, ["shm-sync"], "{text}");
        Ok(())
    }
}
