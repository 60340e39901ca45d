//! The tables of `ls`, `maps`, `show` and `gc`.

use comfy_table::presets::NOTHING;
use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table,
};
use shm_sync::inspect::{self, Attachment, Content, Link, Object};

use crate::labels;
use crate::text::{self, Palette, Style, bytes, escape, short_type};

/// The maximum number of process ids in a row.
const MAX_PIDS: usize = 4;

/// Returns an empty table with these column titles.
pub(crate) fn new(palette: Palette, titles: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(titles.iter().map(|title| cell(title, Style::Heading)));
    match palette {
        Palette::Plain => table.force_no_tty(),
        Palette::Coloured => table.enforce_styling(),
    };
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    table
}

pub(crate) fn cell(text: impl ToString, style: Style) -> Cell {
    let cell = Cell::new(text);
    match style {
        Style::Plain => cell,
        Style::Heading => cell.add_attribute(Attribute::Bold),
        Style::Good => cell.fg(Color::DarkGreen),
        Style::Doubtful => cell.fg(Color::DarkYellow),
        Style::Bad => cell.fg(Color::DarkRed),
        Style::Faint => cell.add_attribute(Attribute::Dim),
    }
}

fn plain(text: impl ToString) -> Cell {
    cell(text, Style::Plain)
}

fn right(text: impl ToString, style: Style) -> Cell {
    cell(text, style).set_alignment(CellAlignment::Right)
}

/// Returns the table as text, one line per row, without spaces at the ends.
pub(crate) fn finish(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text += line.trim_end();
        text.push('\n');
    }
    text
}

pub(crate) fn objects(objects: &[Object], palette: Palette) -> String {
    let titles = [
        "NAME", "BACKING", "SIZE", "PAGES", "OWNER", "MODE", "PIDS", "HELD", "POISONED", "STATE",
        "TYPE",
    ];
    let mut table = new(palette, &titles);
    for object in objects {
        table.add_row(row(object));
    }
    finish(&table)
}

fn row(object: &Object) -> Vec<Cell> {
    let (state, style) = labels::state(object);
    let state = match object.link {
        Link::Unlinked => format!("{state}, unlinked"),
        _ => state.to_owned(),
    };
    let [held, poisoned] = lock_cells(object);
    vec![
        plain(escape(&object.name)),
        plain(object.backing),
        right(bytes(object.len), Style::Plain),
        right(resident(object), Style::Plain),
        plain(user(object.owner)),
        plain(format!("{:04o}", object.mode)),
        plain(pids(object)),
        held,
        poisoned,
        cell(state, style),
        match (object.content.segment(), labels::reason(object)) {
            (Some(segment), _) => plain(short_type(&segment.layout.type_name)),
            (None, reason) => cell(escape(&reason.unwrap_or_default()), Style::Faint),
        },
    ]
}

fn lock_cells(object: &Object) -> [Cell; 2] {
    let Content::Segment(segment) = &object.content else {
        return [right("-", Style::Faint), right("-", Style::Faint)];
    };
    let Some(locks) = segment.locks else {
        return [right("?", Style::Faint), right("?", Style::Faint)];
    };
    // Locks that were not inspected may be held as well.
    let more = if locks.counted < locks.objects {
        "+"
    } else {
        ""
    };
    let number = |number, style| match number {
        0 => right(format!("0{more}"), Style::Plain),
        _ => right(format!("{number}{more}"), style),
    };
    [
        number(locks.held, Style::Good),
        number(locks.poisoned, Style::Bad),
    ]
}

/// Returns the number of pages in memory and of all pages: `1/4`.
pub(crate) fn resident(object: &Object) -> String {
    let all = object.len.div_ceil(inspect::page_size());
    match object.resident_pages {
        Some(resident) => format!("{resident}/{all}"),
        None => format!("?/{all}"),
    }
}

/// Returns the name of a user, or the id if there is no name.
pub(crate) fn user(id: u32) -> String {
    inspect::user_name(id).map_or_else(|| id.to_string(), |name| escape(&name))
}

/// Returns the attached processes, and the number of attachments without a visible
/// process.
fn pids(object: &Object) -> String {
    let users = &object.users;
    let named = text::numbers(&users.pids, MAX_PIDS);
    let unseen = users
        .attachments
        .unwrap_or(0)
        .saturating_sub(users.pids.len() as u64);
    match (users.pids.is_empty(), unseen) {
        (true, 0) if users.attachments.is_none() && users.unreadable_processes > 0 => {
            "?".to_owned()
        }
        (true, 0) => "-".to_owned(),
        (true, _) => format!("{unseen} unseen"),
        (false, 0) => named,
        // A process can attach a segment twice, so these may be no further processes.
        (false, _) if users.unreadable_processes == 0 => named,
        (false, _) => format!("{named}, {unseen} unseen"),
    }
}

pub(crate) fn attachments(attachments: &[Attachment], palette: Palette) -> String {
    let titles = [
        "ADDRESSES",
        "ACCESS",
        "OFFSET",
        "NAME",
        "BACKING",
        "SIZE",
        "STATE",
        "TYPE",
    ];
    let mut table = new(palette, &titles);
    for attachment in attachments {
        let mut cells = row(&attachment.object).into_iter();
        let mut take = |skipped: usize| cells.nth(skipped).unwrap_or_else(|| plain(""));
        let addresses = &attachment.addresses;
        table.add_row([
            plain(format!("{:x}-{:x}", addresses.start, addresses.end)),
            plain(labels::access(attachment.access)),
            right(attachment.offset, Style::Plain),
            take(0),
            take(0),
            take(0),
            take(6),
            take(0),
        ]);
    }
    finish(&table)
}
