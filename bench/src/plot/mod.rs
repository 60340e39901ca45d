//! Plots as SVG files.
//!
//! [`pictures`] chooses the tables that become plots, and writes each title as a
//! sentence from the measured values. A table whose columns are numbers of processes
//! becomes lines. Other tables become bars, with one panel per column. Scales are
//! linear and begin at zero. shm-sync and one peer have colours, and the others are
//! grey. The peer is the baseline of the workload, except where [`pictures`] names
//! another one. Names stand at the bars and at the ends of the lines.

mod axis;
mod bars;
mod finding;
mod labels;
mod lines;
mod page;
mod pictures;

use std::path::Path;

use crate::cell::Cell;
use crate::failure::Failure;
use crate::workloads::Workload;

/// A plot that was drawn.
#[derive(Debug)]
pub(crate) struct Plot {
    /// The name of its file.
    pub(crate) file: String,
    pub(crate) title: String,
}

/// Draws the plots of a workload into files in `directory`. `about` names the machine
/// and the time of the run.
pub(crate) fn plot(
    workload: &Workload,
    cells: &[Cell],
    about: &str,
    directory: &Path,
) -> Result<Vec<Plot>, Failure> {
    let mut plots = vec![];
    for picture in pictures::ALL {
        let cells = picture.cells(workload.name, cells);
        if cells.is_empty() {
            continue;
        }
        let peer = picture.peer(workload.baseline);
        let finding = finding::Finding::new(&cells, peer);
        let plot = Plot {
            file: picture.file(),
            title: picture.title(&finding),
        };
        let path = directory.join(&plot.file);
        let page = page::Page {
            path: &path,
            title: &plot.title,
            about,
            peer,
        };
        let axis = picture.axis();
        match lines::counts(&cells) {
            Some(counts) => lines::draw(&page, &axis, &cells, &counts),
            None => bars::draw(&page, &axis, &cells),
        }
        .map_err(|error| Failure::Plot(plot.file.clone(), error.to_string()))?;
        plots.push(plot);
    }
    Ok(plots)
}
