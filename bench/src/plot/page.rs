//! The page that all plots share: colours, texts, the title and the line about the run.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::labels::wrap;
use crate::series::SHM_SYNC;

/// The width of a plot: that of the text column of a page on GitHub, about.
pub(super) const WIDTH: i32 = 800;
/// The left edge of titles.
pub(super) const MARGIN: i32 = 12;

pub(super) const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);
pub(super) const QUIET: RGBColor = RGBColor(0x57, 0x60, 0x6a);
pub(super) const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xea);
const GREY: RGBColor = RGBColor(0xb4, 0xbb, 0xc3);
// Vermilion and blue of the palette of Okabe and Ito: readers with any kind of colour
// blindness can tell them apart.
const OWN: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
const PEER: RGBColor = RGBColor(0x00, 0x72, 0xb2);

const TITLE_LINE: i32 = 23;
const ABOUT_LINE: i32 = 16;
const TITLE_COLUMNS: usize = 74;
const ABOUT_COLUMNS: usize = 112;

pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The result of drawing.
pub(super) type Drawn = Result<(), Box<dyn Error>>;

/// What all plots have.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) path: &'a Path,
    pub(super) title: &'a str,
    /// The machine and the time of the run.
    pub(super) about: &'a str,
    /// The contestant with the second colour.
    pub(super) peer: &'a str,
}

impl Page<'_> {
    /// Creates the file, with room of `height` below the title. Returns the top of that
    /// room as well.
    pub(super) fn open(&self, height: i32) -> Result<(Canvas<'_>, i32), Box<dyn Error>> {
        let title = wrap(self.title, TITLE_COLUMNS);
        let about = wrap(self.about, ABOUT_COLUMNS);
        let top = 14 + title.len() as i32 * TITLE_LINE + about.len() as i32 * ABOUT_LINE;
        let size = (WIDTH as u32, (top + height) as u32);
        let canvas = SVGBackend::new(self.path, size).into_drawing_area();
        canvas.fill(&WHITE)?;
        let mut line = 12;
        for text in title {
            canvas.draw(&Text::new(text, (MARGIN, line), bold(17, INK)))?;
            line += TITLE_LINE;
        }
        for text in about {
            canvas.draw(&Text::new(text, (MARGIN, line), plain(12, QUIET)))?;
            line += ABOUT_LINE;
        }
        Ok((canvas, top))
    }

    /// Returns the colour of a contestant's bar or line.
    pub(super) fn colour(&self, contestant: &str) -> RGBColor {
        match contestant {
            SHM_SYNC => OWN,
            _ if contestant == self.peer => PEER,
            _ => GREY,
        }
    }

    /// Returns whether a contestant has a colour. Its line is above the others.
    pub(super) fn stands_out(&self, contestant: &str) -> bool {
        contestant == SHM_SYNC || contestant == self.peer
    }

    /// Returns the style of a contestant's name.
    pub(super) fn name(&self, contestant: &str, size: i32) -> TextStyle<'static> {
        if self.stands_out(contestant) {
            bold(size, self.colour(contestant))
        } else {
            plain(size, INK)
        }
    }
}

/// Returns a text style of `size` pixels.
pub(super) fn plain(size: i32, colour: RGBColor) -> TextStyle<'static> {
    font(size, FontStyle::Normal, colour)
}

/// Returns a bold text style of `size` pixels.
pub(super) fn bold(size: i32, colour: RGBColor) -> TextStyle<'static> {
    font(size, FontStyle::Bold, colour)
}

fn font(size: i32, style: FontStyle, colour: RGBColor) -> TextStyle<'static> {
    // plotters writes a `font-size` that is smaller by this factor.
    let size = f64::from(size) * 1.24;
    FontDesc::new(FontFamily::SansSerif, size, style).color(&colour)
}

/// The anchors of texts: the side that is at the position of the text.
pub(super) const LEFT_CENTRE: Pos = Pos {
    h_pos: HPos::Left,
    v_pos: VPos::Center,
};
pub(super) const RIGHT_CENTRE: Pos = Pos {
    h_pos: HPos::Right,
    v_pos: VPos::Center,
};
pub(super) const CENTRE_TOP: Pos = Pos {
    h_pos: HPos::Center,
    v_pos: VPos::Top,
};
