//! `show --values`, and type tables that another user has written.

use crate::run::{json, refusal, stdout};
use crate::support::{TestName, TypeTable, on_stage};
use serde_json::json as value;
use shm_sync::{Segment, ShmMutex, ShmSafe, ShmString};

#[derive(ShmSafe, Clone, Copy)]
#[repr(u8)]
#[allow(dead_code, reason = "the tool reads it")]
enum State {
    Idle,
    Busy { since: u64 },
}

#[derive(ShmSafe)]
#[repr(C)]
struct Jobs {
    pending: ShmMutex<State>,
    name: ShmString<20>,
    rates: [f64; 2],
    counts: [u8; 20],
    large: u128,
}

fn jobs() -> Jobs {
    Jobs {
        pending: ShmMutex::new(State::Busy { since: 7 }),
        name: ShmString::try_from("a\x1b[2J").unwrap(),
        rates: [0.5, f64::INFINITY],
        counts: [1; 20],
        large: u128::MAX,
    }
}

/// Characters that move the cursor, end a comment, and look like another text.
const EVIL: &str = "*/\x1b[2J\u{202e}\n#error evil\n/*";

on_stage! {
    fn smoke() {
        let name = TestName::new("cli-values");
        let segment = Segment::create(&name, jobs()).unwrap();
        // A holder does not disturb the tool.
        let _guard = segment.pending.lock().unwrap();
        let text = stdout(&["show", &name, "--values"]);
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<_> = text.lines().map(words).collect();
        for line in [
            "FIELD VALUE (not a snapshot)",
            ".pending.data Busy",
            ".pending.data::Busy.since 7",
            ".name \"a\\u{1b}[2J\"",
            ".rates [0.5, inf]",
            &format!(".large {}", u128::MAX),
        ] {
            assert!(lines.contains(&words(line)), "{line} is in {text}");
        }
        assert!(text.contains(" … 4 more elements]"), "{text}");
        assert!(!stdout(&["show", &name]).contains("VALUE"));
        let wide = stdout(&["show", &name, "--values", "--wide"]);
        assert!(wide.contains("OFFSET"), "{wide}");

        let shown = json(&["show", &name, "--values"]);
        let one = |path: &str| {
            let all = shown["values"].as_array().unwrap().iter();
            let mut found = all.filter(|field| field["path"] == path);
            found.next().unwrap_or_else(|| panic!("{path} is in {shown}")).clone()
        };
        assert_eq!(one(".pending.data")["value"], "Busy");
        assert_eq!(one(".pending.data::Busy.since")["value"], 7);
        assert_eq!(one(".pending.data::Busy.since")["offset"], 8 + size_of::<ShmMutex<()>>());
        assert_eq!(one(".name")["value"], "a\x1b[2J");
        assert_eq!(one(".rates")["value"], value!([0.5, "inf"]));
        assert_eq!(one(".counts")["value"], value!(vec![1; 16]));
        assert_eq!(one(".counts")["omitted"], 4);
        assert_eq!(one(".large")["value"], u128::MAX.to_string());
        assert_eq!(shown["values_are_cut"], false);
        assert_eq!(json(&["show", &name])["values"], serde_json::Value::Null);
    }

    fn limit_cuts_the_values() {
        let name = TestName::new("cli-values");
        let _segment = Segment::create(&name, jobs()).unwrap();
        let text = stdout(&["show", &name, "--values", "--limit", "2"]);
        assert!(text.ends_with("Busy.since  7\nand more: see --limit\n"), "{text}");
        let shown = json(&["show", &name, "--values", "--limit", "2"]);
        assert_eq!(shown["values_are_cut"], true);
        assert_eq!(shown["values"].as_array().unwrap().len(), 2);
    }

    fn names_of_strangers_are_escaped() {
        let mut table = TypeTable::default();
        let byte = table.add("u8", 1, 1, &[]);
        let choice = table.add_enum(
            "enum", 2, 1, &[("u8", 0, byte)], &[(EVIL, 0, &[(EVIL, 1, byte)])]);
        let evil = table.add(EVIL, 1, 1, &[]);
        table.add("struct", 8, 1, &[(EVIL, 0, choice), (EVIL, 2, evil), (EVIL, 3, byte)]);
        let name = table.create(&[0, 1, 2, 3, 4, 5, 6, 7], 1);
        for arguments in [
            &["show", &name, "--values"][..],
            &["show", &name, "--values", "--wide"],
            &["show", &name, "--values", "--json"],
            &["export-c", &name],
        ] {
            let text = stdout(arguments);
            let steers = |c: &char| *c != '\n' && (c.is_control() || *c == '\u{202e}');
            let found: Vec<char> = text.chars().filter(steers).collect();
            assert!(found.is_empty(), "{arguments:?}: {found:?} in {text:?}");
            assert!(!text.lines().any(|line| line.starts_with("#error")), "{text}");
        }
        let shown = json(&["show", &name, "--values"]);
        assert_eq!(shown["values"][0]["value"], EVIL, "JSON has the text as it is");
    }

    /// Each row is as wide as the widest one.
    fn long_names_do_not_widen_the_table() {
        let mut table = TypeTable::default();
        let byte = table.add("u8", 1, 1, &[]);
        let long = "x".repeat(900);
        table.add("struct", 2, 1, &[(&long, 0, byte), ("y", 1, byte)]);
        let name = table.create(&[1, 2], 1);
        for arguments in [&["show", &name, "--values"][..], &["show", &name, "--values", "--wide"]] {
            let text = stdout(arguments);
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest < Some(300), "{widest:?}: {text}");
        }
    }

    fn tables_that_cannot_be_read_are_reported() {
        let mut table = TypeTable::default();
        table.add("struct", 1, 1, &[("a", 0, 7)]);
        let name = table.create(&[0], 1);
        for arguments in [&["show", &name, "--values"][..], &["export-c", &name]] {
            let (text, code) = refusal(arguments);
            assert!(code == 1 && text.contains("the type table can't be read"), "{text}");
        }
        assert!(stdout(&["show", &name]).contains("1 bytes at"));
        let mut bytes = std::fs::read(name.path()).unwrap();
        bytes[100..104].fill(0);
        name.write(&bytes);
        let text = stdout(&["show", &name, "--values"]);
        assert!(text.contains("does not describe its types"), "{text}");
        let shown = json(&["show", &name, "--values"]);
        assert_eq!(shown["values"], serde_json::Value::Null);
        let (text, code) = refusal(&["export-c", &name]);
        assert!(code == 1 && text.contains("does not describe its types"), "{text}");
    }

    fn exponential_and_large_tables_end_soon() {
        let mut table = TypeTable::default();
        let mut of = table.add("u8", 1, 1, &[]);
        for _ in 0..150 {
            of = table.add("struct", 1, 1, &[("a", 0, of), ("b", 0, of)]);
        }
        let name = table.create(&[3], 1);
        assert!(stdout(&["show", &name, "--values"]).contains("and more"));
        let header = stdout(&["export-c", &name]);
        assert!(header.contains("its fields overlap") && header.len() < 1 << 20);

        // Many types with one name, whose paths are long.
        let mut table = TypeTable::default();
        let byte = table.add("u8", 1, 1, &[]);
        let long = "x".repeat(50_000);
        let mut fields = Vec::new();
        for number in 0..20_000_u64 {
            let of = table.add("struct", 1, 1, &[(&number.to_string(), 0, byte)]);
            fields.push(("a", number, of));
        }
        let inner = table.add("struct", 20_000, 1, &fields);
        table.add("struct", 20_000, 1, &[(&long, 0, inner)]);
        let name = table.create(&[1; 20_000], 1);
        let text = stdout(&["show", &name, "--values", "--limit", "100000"]);
        assert!(text.lines().count() > 20_000);
        let header = stdout(&["export-c", &name]);
        assert!(header.len() < 32 << 20, "{}", header.len());
    }
}
