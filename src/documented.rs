//! Compares the tables of `docs/format.md` with the code.
//!
//! The first column of a table says what it has. The second one has the name of the
//! table in its head, and the names of the code in its rows. All names are in
//! backticks.
//!
//! | first column | rows | compared by |
//! |---|---|---|
//! | `offset` | the fields of a struct: offset, size, name | [`fields!`], [`rows`] |
//! | `bits` | the parts of a word: the first and the last bit, name | [`bits`] |
//! | `value` | constants: value, name | [`values`] |
//!
//! A module calls these in its tests, with the name of the table. The comparison is
//! exact: a row that the code does not have fails, and so does a name that the table
//! does not have. The tests below fail for a table with numbers that no module names.
//!
//! A number may be an expression: terms with `+` and `-`, each a number, a letter, or
//! both: `128 + 64 N`. The caller says what the letters are.
//!
//! The numbers are those of x86-64. On aarch64, the table `aarch64` replaces those of
//! some tables of fields, and "on aarch64: N" that of a constant. Where neither says
//! otherwise, the numbers must be the same.

use std::fmt::Debug;

/// Compares a table of fields with a struct. Does not compile if a field is missing.
macro_rules! fields {
    ($table:literal, $type:ty { $($field:ident),+ $(,)? } $(, $letters:expr)?) => {{
        type Described = $type;
        let _all_fields_are_listed = |it: &Described| {
            let Described { $($field: _),+ } = it;
        };
        let letters: &[(&str, usize)] = $crate::documented::fields!(@letters $($letters)?);
        let rows = [$((
            stringify!($field),
            std::mem::offset_of!(Described, $field),
            $crate::documented::size_of_field(|it: &Described| &it.$field),
        )),+];
        let total = (size_of::<Described>(), align_of::<Described>());
        $crate::documented::rows($table, &rows, letters, Some(total));
    }};
    (@letters) => { &[] };
    (@letters $letters:expr) => { &$letters };
}
pub(crate) use fields;

/// The document.
const TEXT: &str = include_str!("../docs/format.md");

/// The tables whose rows are not compared, by the head of their first column.
const WITHOUT_NUMBERS: [(&str, &str); 7] = [
    ("part", "each row refers to fields of the header"),
    (
        "step",
        "the kills at every instruction test the order of the stores",
    ),
    ("lock word", "its values are in the table of the lock word"),
    (
        "from",
        "the states are in a table of values; proof/ has the transitions",
    ),
    ("object", "the rows name constants of other tables"),
    ("kind", "[`kinds`] compares the kinds of types"),
    (ON_AARCH64, "[`rows`] reads it instead of other tables"),
];

/// The head of the table of what differs on aarch64.
const ON_AARCH64: &str = "aarch64";

/// A table of the document.
struct Table {
    /// The head of the first column.
    column: String,
    name: String,
    rows: Vec<Vec<String>>,
}

/// Returns the tables that have numbers or must say why not.
fn tables() -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut is_inside = false;
    for line in TEXT.lines() {
        let Some(row) = line.strip_prefix('|') else {
            is_inside = false;
            continue;
        };
        let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
        let cells: Vec<String> = row.trim_end_matches('|').split('|').map(cell).collect();
        if !is_inside {
            let column = cells[0].clone();
            let name = cells[if column == "offset" { 2 } else { 1 }].clone();
            let rows = Vec::new();
            tables.push(Table { column, name, rows });
        } else if !cells[0].starts_with("--") {
            tables.last_mut().expect("it has a head").rows.push(cells);
        }
        is_inside = true;
    }
    tables
}

fn table(column: &str, name: &str) -> Table {
    let found = tables().into_iter();
    let mut found = found.filter(|table| table.column == column && table.name == name);
    let table = found.next();
    assert!(found.next().is_none(), "two tables `{name}` with {column}");
    table.unwrap_or_else(|| panic!("docs/format.md has a table `{name}` with {column}"))
}

/// The numbers of a table of fields on aarch64, in the order of its rows.
struct OnAarch64 {
    table: String,
    offsets: Vec<String>,
    sizes: Vec<String>,
    /// The size of the struct, if the document has it.
    total: Option<String>,
}

/// Returns the tables of fields that differ on aarch64.
fn on_aarch64() -> Vec<OnAarch64> {
    let all = tables().into_iter();
    let rows = all.filter(|table| table.column == ON_AARCH64);
    let rows = rows.flat_map(|table| table.rows);
    let list = |cell: &str| cell.split(", ").map(str::to_owned).collect();
    rows.map(|row| OnAarch64 {
        offsets: list(&row[1]),
        sizes: list(&row[2]),
        total: Some(row[3].clone()).filter(|cell| !cell.is_empty()),
        table: row[0].clone(),
    })
    .collect()
}

/// Returns the numbers that replace those of a table on this machine.
fn replaced(table_name: &str) -> Option<OnAarch64> {
    let mut all = on_aarch64().into_iter();
    let found = all.find(|it| it.table == table_name);
    found.filter(|_| cfg!(target_arch = "aarch64"))
}

/// Compares the rows of a table with those of the code, whatever their order.
fn compare<T: Ord + Debug>(table: &str, mut documented: Vec<T>, mut code: Vec<T>) {
    documented.sort();
    code.sort();
    assert_eq!(documented, code, "docs/format.md (left), table `{table}`");
}

/// Returns the value of an expression: see the module documentation.
fn value_of(expression: &str, letters: &[(&str, usize)]) -> u64 {
    let factor = |word: &str| -> u64 {
        if let Some((_, value)) = letters.iter().find(|(letter, _)| *letter == word) {
            return *value as u64;
        }
        let parsed = match (word.strip_prefix("0x"), word.strip_prefix("2^")) {
            (Some(digits), _) => u64::from_str_radix(digits, 16).ok(),
            (_, Some(power)) => power.parse().ok().and_then(|it| 1_u64.checked_shl(it)),
            _ => word.parse().ok(),
        };
        parsed.unwrap_or_else(|| panic!("{word:?} in {expression:?} is a number"))
    };
    let mut sum = 0;
    for plus in expression.split(" + ") {
        let mut terms = plus.split(" - ").map(|term| -> u64 {
            let factors = term.split_whitespace().map(factor);
            factors.product()
        });
        sum += terms.next().unwrap_or(0);
        sum -= terms.sum::<u64>();
    }
    sum
}

/// Returns the size of a field.
pub(crate) fn size_of_field<T, F>(_: impl Fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// Compares a table of fields, which are name, offset and size. `total` is the size and
/// the alignment of the struct, if the document has them in a sentence.
pub(crate) fn rows(
    table_name: &str,
    code: &[(&str, usize, usize)],
    letters: &[(&str, usize)],
    total: Option<(usize, usize)>,
) {
    let mut table = table("offset", table_name);
    let replaced = replaced(table_name);
    if let Some(here) = &replaced {
        for (at, row) in table.rows.iter_mut().enumerate() {
            row[0].clone_from(&here.offsets[at]);
            row[1].clone_from(&here.sizes[at]);
        }
    }
    let number = |cell: &String| value_of(cell, letters) as usize;
    let documented = table
        .rows
        .iter()
        .map(|row| (number(&row[0]), number(&row[1]), row[2].as_str()));
    let code = code
        .iter()
        .map(|(name, offset, size)| (*offset, *size, *name));
    compare(table_name, documented.collect(), code.collect());

    let Some((size, align)) = total else { return };
    let Some((mut documented, rest)) = sentence_about(table_name) else {
        return;
    };
    if let Some(here) = replaced.and_then(|it| it.total) {
        documented = here;
    }
    let mut documented_size = value_of(&documented, letters) as usize;
    if rest.contains("rounded up to the alignment") {
        documented_size = documented_size.next_multiple_of(align);
    }
    assert_eq!(
        documented_size, size,
        "docs/format.md: size of `{table_name}`"
    );
    if let Some((_, documented)) = rest.split_once("the alignment ") {
        let documented = documented.rsplit(' ').next().unwrap_or_default();
        let documented = value_of(documented, &[]) as usize;
        assert_eq!(
            documented, align,
            "docs/format.md: alignment of `{table_name}`"
        );
    }
}

/// Finds the sentence "`name` has `SIZE` bytes …". Returns the size and the rest.
fn sentence_about(name: &str) -> Option<(String, String)> {
    let text = TEXT.replace('\n', " ");
    let (_, after) = text.split_once(&format!("`{name}` has "))?;
    let (size, rest) = after.split_once(" bytes")?;
    let (rest, _) = rest.split_once(". ")?;
    Some((size.to_owned(), rest.to_owned()))
}

/// Compares a table of the parts of a word, which are name and mask.
pub(crate) fn bits(table_name: &str, code: &[(&str, u64)]) {
    let rows = table("bits", table_name).rows;
    let documented = rows.iter().map(|row| {
        let (first, last) = row[0].split_once('–').unwrap_or((&row[0], &row[0]));
        let [first, last] = [first, last].map(|bit| value_of(bit, &[]));
        let mask = u64::MAX >> (63 - last) & u64::MAX << first;
        (mask, row[1].as_str())
    });
    let code = code.iter().map(|(name, mask)| (*mask, *name));
    compare(table_name, documented.collect(), code.collect());
}

/// Compares a table of constants, which are name and value.
pub(crate) fn values(table_name: &str, code: &[(&str, u64)]) {
    let rows = table("value", table_name).rows;
    let documented = rows.iter().map(|row| {
        let other = row.get(2).and_then(|it| it.strip_prefix("on aarch64: "));
        let other = other.filter(|_| cfg!(target_arch = "aarch64"));
        (value_of(other.unwrap_or(&row[0]), &[]), row[1].as_str())
    });
    let code = code.iter().map(|(name, value)| (*value, *name));
    compare(table_name, documented.collect(), code.collect());
}

/// Compares the table of the kinds of types, which are kind and names of fields. `None`
/// means any names.
pub(crate) fn kinds(code: &[(&str, Option<Vec<&str>>)]) {
    let quoted = |cell: &str| -> Vec<String> {
        let parts = cell.split('`').skip(1).step_by(2);
        parts.map(str::to_owned).collect()
    };
    let line = |line: &&str| line.starts_with("| kind |");
    let lines = TEXT.lines().skip_while(|it| !line(it)).skip(2);
    let mut documented: Vec<(String, Vec<String>)> = Vec::new();
    for row in lines.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').collect();
        let fields = quoted(cells[3]);
        documented.extend(
            quoted(cells[1])
                .into_iter()
                .map(|kind| (kind, fields.clone())),
        );
    }
    for (kind, fields) in &mut documented {
        let of_code = code.iter().find(|(name, _)| name == kind);
        let (_, of_code) = of_code.unwrap_or_else(|| panic!("`{kind}` is a kind of a type"));
        if let Some(of_code) = of_code {
            assert_eq!(fields, of_code, "docs/format.md (left): fields of `{kind}`");
        }
    }
    for (kind, _) in code {
        let is_there = documented.iter().any(|(name, _)| name == kind);
        assert!(
            is_there,
            "docs/format.md: the table of kinds has no `{kind}`"
        );
    }
}

mod tests {
    use super::*;
    use std::path::Path;

    /// Returns the text of all files of `src/` but this one.
    fn sources(folder: &Path) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(folder).expect("src/ can be listed") {
            let path = entry.expect("src/ can be listed").path();
            if path.is_dir() {
                text += &sources(&path);
            } else if !path.ends_with(Path::new("src/documented.rs")) {
                text += &std::fs::read_to_string(&path).expect("a source can be read");
            }
        }
        text
    }

    #[test]
    fn each_table_is_compared() {
        let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        let sources: String = sources.split_whitespace().collect();
        let mut list = Vec::new();
        for Table { column, name, rows } in tables() {
            let calls: &[&str] = match column.as_str() {
                "offset" => &["fields!(", "rows("],
                "bits" => &["bits("],
                "value" => &["values("],
                other => {
                    let reason = WITHOUT_NUMBERS.iter().find(|(head, _)| *head == other);
                    assert!(
                        reason.is_some(),
                        "the rows of the table `{other}` are compared"
                    );
                    continue;
                }
            };
            assert!(!rows.is_empty(), "the table `{name}` has rows");
            let name = name.replace(' ', "");
            let is_called =
                |call: &&str| sources.contains(&format!("documented::{call}\"{name}\","));
            if !calls.iter().any(is_called) {
                list.push(format!("{column}: {name}"));
            }
        }
        assert!(list.is_empty(), "no module compares {list:?}");
    }

    /// Only on aarch64 the numbers themselves are compared with the code.
    #[test]
    fn numbers_on_aarch64_are_of_other_tables() {
        let all = on_aarch64();
        assert!(all.len() > 12, "{} tables differ on aarch64", all.len());
        for here in all {
            let name = &here.table;
            let rows = table("offset", name).rows;
            assert_eq!(here.offsets.len(), rows.len(), "offsets of `{name}`");
            assert_eq!(here.sizes.len(), rows.len(), "sizes of `{name}`");
            let is_same = rows
                .iter()
                .zip(here.offsets.iter().zip(&here.sizes))
                .all(|(row, (offset, size))| (&row[0], &row[1]) == (offset, size));
            assert!(!is_same, "the table `{name}` is the same on aarch64");
            let has_size = sentence_about(name).is_some();
            assert_eq!(here.total.is_some(), has_size, "size of `{name}`");
        }
    }

    #[test]
    fn expressions_are_evaluated() {
        let letters = [("N", 3), ("side(S)", 500)];
        for (expression, value) in [
            ("128 + 64 N", 320),
            ("2^62 - 2", (1 << 62) - 2),
            ("0x2b0", 0x2b0),
            ("side(S) + N", 503),
        ] {
            assert_eq!(value_of(expression, &letters), value, "{expression}");
        }
    }

    /// A sentence about the size of no table would not be compared.
    #[test]
    fn each_size_belongs_to_a_table() {
        let text = TEXT.replace('\n', " ");
        let mut count = 0;
        for (at, has) in text.match_indices("` has ") {
            let after = &text[at + has.len()..];
            let Some((size, _)) = after.split_once(" bytes") else {
                continue;
            };
            if size.contains(['.', ',', ';', '|']) {
                continue; // another sentence
            }
            let name = text[..at].rsplit('`').next().unwrap_or_default();
            let _ = table("offset", name);
            count += 1;
        }
        assert!(count > 12, "{count} sentences are found");
    }

    #[test]
    fn sentences_are_found() {
        let (size, rest) = sentence_about("ShmSemaphore").expect("it has a sentence");
        assert_eq!(size, "128 + 64 N");
        assert!(rest.ends_with("the alignment 64"), "{rest}");
    }
}
