//! Rows and columns.

use comfy_table::presets::NOTHING;
use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table,
};
use shm_sync::inspect::{self, Access, Attachment, Content, Link, Object};

use crate::text::{self, Palette, Tone, bytes, harmless, short_type};
use crate::words;

/// How many process ids a row shows.
const MOST_PIDS: usize = 4;

/// An empty table with these titles.
pub(crate) fn new(palette: Palette, titles: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(titles.iter().map(|title| cell(title, Tone::Heading)));
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

pub(crate) fn cell(text: impl ToString, tone: Tone) -> Cell {
    let cell = Cell::new(text);
    match tone {
        Tone::Plain => cell,
        Tone::Heading => cell.add_attribute(Attribute::Bold),
        Tone::Good => cell.fg(Color::DarkGreen),
        Tone::Doubtful => cell.fg(Color::DarkYellow),
        Tone::Bad => cell.fg(Color::DarkRed),
        Tone::Faint => cell.add_attribute(Attribute::Dim),
    }
}

fn plain(text: impl ToString) -> Cell {
    cell(text, Tone::Plain)
}

fn right(text: impl ToString, tone: Tone) -> Cell {
    cell(text, tone).set_alignment(CellAlignment::Right)
}

/// A table as text, one line for each row, without blanks at the ends.
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
    let (state, tone) = words::state(object);
    let state = match object.link {
        Link::Unlinked => format!("{state}, unlinked"),
        _ => state.to_owned(),
    };
    let [held, poisoned] = lock_cells(object);
    vec![
        plain(harmless(&object.name)),
        plain(object.backing),
        right(bytes(object.len), Tone::Plain),
        right(resident(object), Tone::Plain),
        plain(user(object.owner)),
        plain(format!("{:04o}", object.mode)),
        plain(pids(object)),
        held,
        poisoned,
        cell(state, tone),
        match (object.content.segment(), words::reason(object)) {
            (Some(segment), _) => plain(short_type(&segment.layout.type_name)),
            (None, reason) => cell(harmless(&reason.unwrap_or_default()), Tone::Faint),
        },
    ]
}

fn lock_cells(object: &Object) -> [Cell; 2] {
    let Content::Segment(segment) = &object.content else {
        return [right("-", Tone::Faint), right("-", Tone::Faint)];
    };
    let Some(locks) = segment.locks else {
        return [right("?", Tone::Faint), right("?", Tone::Faint)];
    };
    // What was not counted may be held, too.
    let more = if locks.counted < locks.objects {
        "+"
    } else {
        ""
    };
    let number = |number, tone| match number {
        0 => right(format!("0{more}"), Tone::Plain),
        _ => right(format!("{number}{more}"), tone),
    };
    [
        number(locks.held, Tone::Good),
        number(locks.poisoned, Tone::Bad),
    ]
}

/// Pages in memory, of all.
pub(crate) fn resident(object: &Object) -> String {
    let all = object.len.div_ceil(inspect::page_size());
    match object.resident_pages {
        Some(resident) => format!("{resident}/{all}"),
        None => format!("?/{all}"),
    }
}

pub(crate) fn user(id: u32) -> String {
    inspect::user_name(id).map_or_else(|| id.to_string(), |name| harmless(&name))
}

/// Who is attached, and how many that can't be named.
fn pids(object: &Object) -> String {
    let users = &object.users;
    let named = text::numbers(&users.pids, MOST_PIDS);
    let nameless = users
        .attachments
        .unwrap_or(0)
        .saturating_sub(users.pids.len() as u64);
    match (users.pids.is_empty(), nameless) {
        (true, 0) if users.attachments.is_none() && users.unreadable_processes > 0 => {
            "?".to_owned()
        }
        (true, 0) => "-".to_owned(),
        (true, _) => format!("{nameless} unseen"),
        (false, 0) => named,
        // A process can attach a segment twice, so these need not be others.
        (false, _) if users.unreadable_processes == 0 => named,
        (false, _) => format!("{named}, {nameless} unseen"),
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
            plain(access(attachment.access)),
            right(attachment.offset, Tone::Plain),
            take(0),
            take(0),
            take(0),
            take(6),
            take(0),
        ]);
    }
    finish(&table)
}

pub(crate) fn access(access: Access) -> &'static str {
    match access {
        Access::ReadOnly => "read-only",
        _ => "read-write",
    }
}
