//! Escapes text of other users for a terminal.

/// Returns the text with each character escaped that is not [printable](is_printable),
/// so that a terminal shows it as one line.
///
/// Other users choose the names of their objects, types and processes. This crate's
/// errors escape them. The names in [`inspect`](crate::inspect) are not escaped.
///
/// ```
/// use shm_sync::inspect::printable;
///
/// assert_eq!(printable("jobs\x1b[2J\u{202e}"), "jobs\\u{1b}[2J\\u{202e}");
/// assert_eq!(printable("żółw"), "żółw");
/// ```
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_printable(character) {
            shown.push(character);
        } else if character.is_ascii() {
            shown.extend(character.escape_default());
        } else {
            shown.extend(character.escape_unicode());
        }
    }
    shown
}

/// Returns whether a terminal shows a character and does nothing else.
///
/// It returns `false` for
///
/// * control characters, which move the cursor or begin an escape sequence: C0, DEL
///   and C1 (U+0000–U+001F, U+007F–U+009F), the line break included,
/// * the separators of lines and paragraphs (U+2028, U+2029),
/// * characters that change the direction of writing (U+061C, U+200E, U+200F,
///   U+202A–U+202E, U+2066–U+2069),
/// * invisible characters, with which two names would look alike (U+00AD, U+180E,
///   U+200B–U+200D, U+2060–U+2065, U+206A–U+206F, U+FEFF, U+FFF9–U+FFFB,
///   U+E0000–U+E0FFF).
///
/// ```
/// use shm_sync::inspect::is_printable;
///
/// assert!(is_printable('a') && is_printable(' '));
/// assert!(!is_printable('\n') && !is_printable('\u{9b}'));
/// ```
#[must_use]
pub fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        assert_eq!(
            printable("a\x1b[2Jb\nc\u{202e}ż"),
            "a\\u{1b}[2Jb\\nc\\u{202e}ż"
        );
        assert_eq!(printable("\u{9b}\x7f"), "\\u{9b}\\u{7f}");
        assert_eq!(printable("a\\n"), "a\\n", "a backslash is not escaped");
    }

    #[test]
    fn output_is_printable() {
        for character in '\0'..=char::MAX {
            let shown = printable(&character.to_string());
            assert!(shown.chars().all(is_printable), "{character:?}");
            assert_eq!(shown == character.to_string(), is_printable(character));
        }
    }
}
