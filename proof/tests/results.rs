//! Tests of the files that harnesses write.

use shm_sync_proof::results::{Results, grouped};

#[test]
fn smoke() {
    let directory = std::env::temp_dir().join(format!("shm-sync-results-{}", std::process::id()));
    let rows = [vec!["a|b".to_owned(), "1".to_owned()]];
    let results = Results::new("name", "Title").section("Part");
    results
        .table(&["what", "count"], &rows)
        .write_to(&directory);
    let text = std::fs::read_to_string(directory.join("name.md")).expect("the file was written");
    std::fs::remove_dir_all(&directory).expect("the directory was created");
    assert!(text.starts_with("# Title\n\n| "), "the title: {text}");
    let table = "\n## Part\n\n| what | count |\n|---|--:|\n| a\\|b | 1 |\n";
    assert!(text.ends_with(table), "the table: {text}");
    for fact in ["processor", "kernel", "libc", "compiler", "date", "commit"] {
        assert!(text.contains(&format!("\n| {fact} | ")), "{fact}: {text}");
    }
    // The hash that cargo appends to the name of this program is left out.
    assert!(text.contains("| command line | `results"), "{text}");
    let program = text
        .split("`results")
        .nth(1)
        .expect("the name of the program");
    assert!(program.starts_with([' ', '`']), "{program}");
}

#[test]
fn grouped_has_commas() {
    for (number, text) in [
        (0, "0"),
        (999, "999"),
        (1_000, "1,000"),
        (1_234_567, "1,234,567"),
    ] {
        assert_eq!(grouped(number), text, "{number}");
    }
}

#[test]
#[should_panic(expected = "must be an absolute path")]
fn relative_path_is_refused() {
    Results::new("name", "Title").write_to("relative".as_ref());
}
