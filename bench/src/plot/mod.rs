//! Plots as SVG files: one per table of a workload.
//!
//! A table whose columns are numbers of processes becomes lines, one per contestant.
//! Other tables become bars, with one panel per column. Scales are logarithmic, because
//! contestants differ by orders of magnitude. The colour of a contestant shows which
//! kills it survives.

mod bars;
mod lines;
mod style;

use std::path::Path;

use crate::failure::Failure;
use crate::series::{Series, distinct};

/// Plots all tables of a workload into files in `directory`. Returns the names of the
/// files.
pub(crate) fn plot(series: &[Series], directory: &Path) -> Result<Vec<String>, Failure> {
    let mut files = vec![];
    for table in distinct(series.iter().map(|series| series.table_and_column().0)) {
        let members: Vec<&Series> = series
            .iter()
            .filter(|series| series.table_and_column().0 == table && !series.rounds.is_empty())
            .collect();
        let name = format!("{}.svg", table.replace([' ', '/'], "-"));
        let path = directory.join(&name);
        match lines::columns(&members) {
            Some(counts) => lines::draw(&path, table, &members, &counts),
            None => bars::draw(&path, table, &members),
        }
        .map_err(|error| Failure::Plot(name.clone(), error.to_string()))?;
        files.push(name);
    }
    Ok(files)
}
