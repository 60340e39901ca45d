//! Text for people: what others chose made harmless, numbers made readable,
//! colours where they are wanted.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::SystemTime;

use shm_sync::inspect;

use crate::arguments::When;

/// Escapes text that another user chose: a name must not move the cursor, nor pass for
/// two lines.
///
/// Each such text goes through here, in a table or in a message. Standard error goes
/// through [`harmless_lines`] as a whole once more, and JSON has its own escapes.
pub(crate) fn harmless(text: &str) -> String {
    inspect::printable(text)
}

/// Escapes a whole message and keeps its line breaks.
pub(crate) fn harmless_lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(harmless).collect();
    lines.join("\n")
}

/// A type's name without the paths: `ShmMutex<Jobs>`.
pub(crate) fn short_type(name: &str) -> String {
    let mut short = String::new();
    let mut word = String::new();
    let mut rest = name;
    while let Some(character) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("::") {
            word.clear();
            rest = after;
            continue;
        }
        rest = &rest[character.len_utf8()..];
        if character.is_alphanumeric() || character == '_' {
            word.push(character);
        } else {
            short += &word;
            word.clear();
            short.push(character);
        }
    }
    harmless(&(short + &word))
}

/// A number of bytes: `72 B`, `4.0 KiB`.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A time, in UTC, and how long ago it was.
pub(crate) fn time(time: SystemTime) -> String {
    let age = match time.elapsed() {
        Ok(age) => format!("{} ago", span(age.as_secs())),
        Err(_) => "in the future".to_owned(),
    };
    format!("{} ({age})", date(time))
}

/// A time, in UTC.
pub(crate) fn date(time: SystemTime) -> String {
    utc(seconds(time))
}

/// A time in seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Seconds since 1970 as a date of the Gregorian calendar.
fn utc(seconds: u64) -> String {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    /// From 1 March of the year 0 to 1 January 1970.
    const DAYS_TO_1970: u64 = 719_468;
    let (days, second) = (seconds / 86_400 + DAYS_TO_1970, seconds % 86_400);
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    // Years begin in March here, so that a leap day is the last of its year.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (era * 400 + year, month + 3),
        _ => (era * 400 + year + 1, month - 9),
    };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// The first few numbers of a list.
pub(crate) fn numbers(list: &[u32], most: usize) -> String {
    let mut text = String::new();
    for (i, number) in list.iter().take(most).enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        let _ = write!(text, "{comma}{number}");
    }
    if list.len() > most {
        let _ = write!(text, " and {} more", list.len() - most);
    }
    text
}

/// Whether output is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Palette {
    Plain,
    Coloured,
}

impl Palette {
    pub(crate) fn new(when: When) -> Self {
        let is_wanted = match when {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
                let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                std::io::stdout().is_terminal() && unset("NO_COLOR") && !is_dumb
            }
        };
        match is_wanted {
            true => Self::Coloured,
            false => Self::Plain,
        }
    }
}

/// What a piece of text means to who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Heading,
    Good,
    Doubtful,
    Bad,
    Faint,
}

impl Tone {
    /// The text in the colour of this tone.
    pub(crate) fn paint(self, palette: Palette, text: &str) -> String {
        let code = match self {
            Self::Plain => return text.to_owned(),
            Self::Heading => "1",
            Self::Good => "32",
            Self::Doubtful => "33",
            Self::Bad => "31",
            Self::Faint => "2",
        };
        match palette {
            Palette::Plain => text.to_owned(),
            Palette::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(numbers(&[1, 2, 3], 2), "1, 2 and 1 more");
        assert_eq!(numbers(&[], 2), "");
    }

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        assert_eq!(harmless("a\x1b[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(harmless_lines("a\x1b[2Jb\nc\n"), "a\\u{1b}[2Jb\nc\n");
        assert_eq!(short_type("a::B<\x1b[2J>"), "B<\\u{1b}[2J>");
    }

    #[test]
    fn types_lose_their_paths() {
        assert_eq!(
            short_type("shm_sync::sync::mutex::ShmMutex<u64>"),
            "ShmMutex<u64>"
        );
        assert_eq!(short_type("[(a::B, c::d::E<'_>); 3]"), "[(B, E<'_>); 3]");
        assert_eq!(short_type("u8"), "u8");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_709_251_199), "2024-02-29 23:59:59 UTC");
        assert_eq!(utc(4_102_444_799), "2099-12-31 23:59:59 UTC");
    }

    #[test]
    fn any_time_can_be_shown() {
        for seconds in [0, 59, 1 << 40, u64::MAX] {
            let _ = (utc(seconds), span(seconds));
        }
    }

    #[test]
    fn colours_end_where_they_begin() {
        assert_eq!(Tone::Bad.paint(Palette::Coloured, "x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Tone::Bad.paint(Palette::Plain, "x"), "x");
    }
}
