//! Any text is escaped to text that a terminal shows unchanged.

#![no_main]

use shm_sync::inspect::{is_printable, printable};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let shown = printable(text);
    assert!(shown.chars().all(is_printable));
    assert_eq!(printable(&shown), shown);
    assert_eq!(shown == text, text.chars().all(is_printable));
});
