//! The look of the output: colours, columns and width.

use std::io::{self, IsTerminal};

use crate::arguments::When;
use crate::text::Palette;

/// The width of a terminal that does not know its own.
const USUAL_WIDTH: usize = 80;

#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) palette: Palette,
    /// Whether all columns are shown.
    pub(crate) is_wide: bool,
    /// The width that the output must fit. `None` has no limit.
    pub(crate) width: Option<usize>,
}

impl View {
    /// Returns the view for standard output. With `--wide`, and without a terminal, the
    /// width is not limited, unless the variable `COLUMNS` limits it.
    pub(crate) fn new(color: When, is_wide: bool) -> Self {
        let width = if is_wide { None } else { width() };
        Self {
            palette: palette(color),
            is_wide,
            width,
        }
    }
}

fn palette(color: When) -> Palette {
    let is_coloured = match color {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
            let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            io::stdout().is_terminal() && unset("NO_COLOR") && !is_dumb
        }
    };
    match is_coloured {
        true => Palette::Coloured,
        false => Palette::Plain,
    }
}

fn width() -> Option<usize> {
    let variable = std::env::var("COLUMNS");
    let chosen = variable.ok().and_then(|columns| columns.parse().ok());
    if let Some(columns) = chosen.filter(|columns| *columns > 0) {
        return Some(columns);
    }
    let stdout = io::stdout();
    stdout.is_terminal().then(|| {
        let size = terminal_size::terminal_size_of(stdout);
        size.map_or(USUAL_WIDTH, |(width, _)| usize::from(width.0))
    })
}
