//! The CSV files of a run.
//!
//! * The rounds: one line per value.
//! * The cells: one line per cell of the tables, after lines `# name: value` about the
//!   machine. The plots can be drawn again from this file.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use csv::{ReaderBuilder, Writer, WriterBuilder};

use crate::cell::Cell;
use crate::failure::Failure;
use crate::series::Series;

/// The first line of the rounds.
const ROUND_TITLES: &str = "workload,contestant,survives,measure,unit,round,value\n";

/// Lines of a name and a value about the machine and the run.
pub(crate) type About = Vec<(String, String)>;

/// Creates the file of the rounds, or replaces it.
pub(crate) fn create_rounds(path: &Path) -> Result<File, Failure> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Failure::os("mkdir"))?;
    }
    let mut file = File::create(path).map_err(Failure::os("open"))?;
    file.write_all(ROUND_TITLES.as_bytes())
        .map_err(Failure::os("write"))?;
    Ok(file)
}

/// Appends one line per value to a CSV file.
pub(crate) fn write_rounds(file: &mut impl Write, series: &[Series]) -> Result<(), Failure> {
    let mut writer = Writer::from_writer(file);
    for series in series {
        for (round, value) in series.rounds.iter().enumerate() {
            let record = [
                &series.workload,
                series.contestant,
                series.survives.label(),
                &format!("{:?}", series.measure),
                series.measure.unit(),
                &round.to_string(),
                &value.to_string(),
            ];
            writer.write_record(record).map_err(failed)?;
        }
    }
    writer.flush().map_err(Failure::os("write"))
}

/// Returns the lines about the machine, and the titles of the cells.
pub(crate) fn cell_head(about: &About) -> String {
    let mut head = String::new();
    for (name, value) in about {
        head += &format!("# {name}: {value}\n");
    }
    head + "workload,contestant,survives,measure,rounds,median,low,high,ratio\n"
}

/// Appends one line per cell to a CSV file.
pub(crate) fn write_cells(file: &mut impl Write, cells: &[Cell]) -> Result<(), Failure> {
    let mut writer = WriterBuilder::new().has_headers(false).from_writer(file);
    for cell in cells {
        writer.serialize(cell).map_err(failed)?;
    }
    writer.flush().map_err(Failure::os("write"))
}

/// Reads a file that [`cell_head`] and [`write_cells`] have written.
pub(crate) fn read_cells(path: &Path) -> Result<(About, Vec<Cell>), Failure> {
    let unreadable = |why: String| Failure::Records(path.display().to_string(), why);
    let text = fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    parse_cells(&text).map_err(|error| unreadable(error.to_string()))
}

/// Parses the text of such a file. Files of older versions have the column `spread`
/// instead of `rounds`, `low` and `high`.
pub(crate) fn parse_cells(text: &str) -> Result<(About, Vec<Cell>), csv::Error> {
    let about = text
        .lines()
        .map_while(|line| line.strip_prefix("# ")?.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let reader = ReaderBuilder::new()
        .comment(Some(b'#'))
        .from_reader(text.as_bytes());
    let cells = reader.into_deserialize().collect::<Result<_, _>>()?;
    Ok((about, cells))
}

fn failed(error: csv::Error) -> Failure {
    Failure::Records("CSV".to_owned(), error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Measure, Survives};

    fn series(contestant: &'static str, rounds: &[f64]) -> Series {
        Series {
            workload: "hand-over/two/both running".to_owned(),
            contestant,
            survives: Survives::SomeKills,
            measure: Measure::NanosPerOperation,
            rounds: rounds.to_vec(),
        }
    }

    #[test]
    fn cells_survive_a_round_trip() -> Result<(), Failure> {
        let about = vec![("processor".to_owned(), "A, 2.5 GHz: 2 usable".to_owned())];
        let all = [
            series("pthread robust", &[0.1, 0.2, 0.7]),
            series("bare word, spinning", &[1.0 / 3.0]),
        ];
        let cells = Cell::all(&all, "pthread robust");
        let mut file = cell_head(&about).into_bytes();
        write_cells(&mut file, &cells)?;
        let text = String::from_utf8_lossy(&file);
        let read = parse_cells(&text).map_err(failed)?;
        assert_eq!(read, (about, cells), "{text}");
        Ok(())
    }

    #[test]
    fn cells_of_older_versions_have_no_interval() -> Result<(), Failure> {
        let titles = "workload,contestant,survives,measure,median,spread,ratio\n";
        let text = format!("# mode: full\n{titles}a/b,c,kills,Nanos,1.5,0.1,2.0\n");
        let (_, cells) = parse_cells(&text).map_err(failed)?;
        assert_eq!(cells[0].to_string(), "1.50 ns ×2.00");
        Ok(())
    }

    #[test]
    fn rounds_quote_names_with_a_comma() -> Result<(), Failure> {
        let mut file = ROUND_TITLES.as_bytes().to_vec();
        write_rounds(&mut file, &[series("bare word, spinning", &[1.5, 2.5])])?;
        let mut reader = csv::Reader::from_reader(&file[..]);
        let lengths: Vec<usize> = reader.records().flatten().map(|line| line.len()).collect();
        assert_eq!(lengths, [7, 7], "{}", String::from_utf8_lossy(&file));
        Ok(())
    }

    #[test]
    fn wrong_cells_name_the_line() {
        let text = cell_head(&vec![]) + "a,b,kills,Nanos,1,1,1,1,\na,b,kills,Miles,1,1,1,1,\n";
        let error = parse_cells(&text).unwrap_err().to_string();
        assert!(
            error.contains("line: 3") && error.contains("Miles"),
            "{error}"
        );
    }
}
