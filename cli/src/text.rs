//! Text output: escapes for names that other users chose, readable numbers and times,
//! and colours.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_seconds;
use shm_sync::inspect;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Escapes text that another user chose. A name must not move the cursor or look like
/// two lines.
///
/// All such texts in tables and messages pass through this function. All of standard
/// error passes through [`escape_lines`] in addition. JSON has its own escapes.
pub(crate) fn escape(text: &str) -> String {
    inspect::printable(text)
}

/// Escapes a message, but not its line breaks.
pub(crate) fn escape_lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(escape).collect();
    lines.join("\n")
}

/// Returns the name of a type without module paths: `ShmMutex<Jobs>`.
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
    escape(&(short + &word))
}

/// Returns a number of bytes: `72 B`, `4.0 KiB`.
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

/// Returns a number of bytes in at most five characters: `72B`, `4.0K`, `16M`.
pub(crate) fn short_bytes(number: u64) -> String {
    const UNITS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];
    if number < 1024 {
        return format!("{number}B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 9.95 { 1 } else { 0 };
    format!("{value:.digits$}{}", UNITS[unit])
}

/// Returns the text, or its beginning and `…` if it is wider than `width` columns.
pub(crate) fn shorten_end(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let kept = end_of_columns(text, width.saturating_sub(1));
    format!("{}…", &text[..kept])
}

/// Returns the text, or its beginning, `…` and its end if it is wider than `width`
/// columns.
pub(crate) fn shorten_middle(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let before = end_of_columns(text, room.div_ceil(2));
    let mut after = text.len();
    let mut used = 0;
    for (at, character) in text.char_indices().rev() {
        used += character.width().unwrap_or(0);
        if used > room / 2 {
            break;
        }
        after = at;
    }
    format!("{}…{}", &text[..before], &text[after.max(before)..])
}

/// Returns the index at which the first `columns` columns of the text end.
fn end_of_columns(text: &str, columns: usize) -> usize {
    let mut used = 0;
    for (at, character) in text.char_indices() {
        used += character.width().unwrap_or(0);
        if used > columns {
            return at;
        }
    }
    text.len()
}

/// Returns the lines of a text that is wrapped to a width, between words where
/// possible.
pub(crate) fn wrap(text: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width.map(|width| width.max(1)) else {
        return vec![text.to_owned()];
    };
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.width() + 1 + word.width() <= width {
            line.push(' ');
            line.push_str(word);
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        let mut rest = word;
        while rest.width() > width {
            // At least one character, so that the loop ends.
            let first = rest.chars().next().map_or(0, char::len_utf8);
            let (part, after) = rest.split_at(end_of_columns(rest, width).max(first));
            lines.push(part.to_owned());
            rest = after;
        }
        line.push_str(rest);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// Returns a time in UTC, and how long ago it was.
pub(crate) fn time(time: SystemTime) -> String {
    let age = match time.elapsed() {
        Ok(age) => format!("{} ago", span(age.as_secs())),
        Err(_) => "in the future".to_owned(),
    };
    format!("{} ({age})", date(time))
}

/// Returns a time in UTC: `2024-02-29 23:59:59 UTC`, or the seconds since 1970 if its
/// year has more than four digits.
pub(crate) fn date(time: SystemTime) -> String {
    let seconds = seconds(time);
    let since_1970 = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let mut text = String::new();
    match since_1970.map(|time| write!(text, "{}", format_rfc3339_seconds(time))) {
        Some(Ok(())) => text.replace('T', " ").replace('Z', " UTC"),
        _ => format!("{seconds} s since 1970"),
    }
}

/// Returns a time in seconds since 1970, or 0 if it is earlier.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Returns a span of time in its largest unit: `5 min`.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Returns the first numbers of a list, and how many more there are.
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

/// The style of the output: with or without colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Palette {
    Plain,
    Coloured,
}

/// The meaning of a piece of text, which determines its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Heading,
    Good,
    Doubtful,
    Bad,
    Faint,
}

impl Style {
    /// Returns the text in the colour of this style.
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
        for (number, short) in [
            (72, "72B"),
            (4096, "4.0K"),
            (10_200, "10K"),
            (1 << 20, "1.0M"),
        ] {
            assert_eq!(short_bytes(number), short);
        }
        assert_eq!(short_bytes(u64::MAX), "16E");
        assert_eq!(short_bytes((1 << 20) - 1), "1.0M");
        assert_eq!(numbers(&[1, 2, 3], 2), "1, 2 and 1 more");
        assert_eq!(numbers(&[], 2), "");
    }

    #[test]
    fn terminal_control_is_escaped() {
        assert_eq!(escape("a\x1b[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(escape_lines("a\x1b[2Jb\nc\n"), "a\\u{1b}[2Jb\nc\n");
        assert_eq!(short_type("a::B<\x1b[2J>"), "B<\\u{1b}[2J>");
    }

    #[test]
    fn long_texts_are_shortened() {
        assert_eq!(shorten_end("segment", 7), "segment");
        assert_eq!(shorten_end("segment", 6), "segme…");
        assert_eq!(shorten_middle("segment", 6), "seg…nt");
        assert_eq!(shorten_middle("segment", 5), "se…nt");
        // A character of two columns is never halved.
        assert_eq!(shorten_end("日本語", 4), "日…");
        assert_eq!(shorten_middle("日本語", 5), "日…語");
        for width in 0..8 {
            let shortened = [
                shorten_end("日本語", width),
                shorten_middle("日本語", width),
            ];
            assert!(
                shortened.iter().all(|text| text.width() <= width.max(1)),
                "{shortened:?}"
            );
        }
    }

    #[test]
    fn long_lines_are_wrapped() {
        assert_eq!(wrap("one two three", None), ["one two three"]);
        assert_eq!(wrap("one two three", Some(7)), ["one two", "three"]);
        assert_eq!(
            wrap("a abcdefgh b", Some(3)),
            ["a", "abc", "def", "gh", "b"]
        );
        assert_eq!(wrap("日本", Some(1)), ["日", "本"]);
        assert_eq!(wrap("", Some(4)), [""]);
    }

    #[test]
    fn short_type_has_no_paths() {
        assert_eq!(
            short_type("shm_sync::sync::mutex::ShmMutex<u64>"),
            "ShmMutex<u64>"
        );
        assert_eq!(short_type("[(a::B, c::d::E<'_>); 3]"), "[(B, E<'_>); 3]");
        assert_eq!(short_type("u8"), "u8");
    }

    #[test]
    fn dates_follow_the_calendar() {
        let utc = |seconds| date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_709_251_199), "2024-02-29 23:59:59 UTC");
        assert_eq!(utc(4_102_444_799), "2099-12-31 23:59:59 UTC");
        assert_eq!(utc(253_402_300_799), "9999-12-31 23:59:59 UTC");
        assert_eq!(utc(253_402_300_800), "253402300800 s since 1970");
    }

    #[test]
    fn any_time_can_be_shown() {
        for seconds in [0, 59, 1 << 40, i64::MAX as u64] {
            let since = Duration::from_secs(seconds);
            let after = SystemTime::UNIX_EPOCH.checked_add(since);
            let before = SystemTime::UNIX_EPOCH.checked_sub(since);
            for any in after.into_iter().chain(before) {
                let _ = (date(any), time(any));
            }
        }
        for seconds in [0, 59, 1 << 40, u64::MAX] {
            let _ = span(seconds);
        }
    }

    #[test]
    fn colours_end_with_the_text() {
        assert_eq!(Style::Bad.paint(Palette::Coloured, "x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Style::Bad.paint(Palette::Plain, "x"), "x");
    }
}
