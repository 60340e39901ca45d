//! The tables of `ls` and `maps`.

use shm_sync::inspect::{self, Attachment, Content, Link, Locks, Object};

use crate::labels;
use crate::sheet::{Sheet, Text, faint, left, plain, right, styled};
use crate::text::{self, Style, bytes, escape, short_bytes, short_type};
use crate::view::View;

/// The maximum number of process ids in a row of a wide table.
const MAX_PIDS: usize = 4;

pub(crate) fn objects(objects: &[Object], view: View) -> String {
    let mut columns = vec![
        left("NAME").cut_in_middle_to(14),
        left("STATE").cut_to(13).late(),
        left("HELD").cut_to(9).late(),
        left("POISON"),
        left("PIDS").cut_to(8),
        right("SIZE"),
    ];
    if view.is_wide {
        columns.extend([right("PAGES"), left("OWNER"), left("MODE"), left("BACKING")]);
    }
    columns.push(left("TYPE").cut_to(4));
    let mut sheet = Sheet::new(columns);
    for object in objects {
        let (held, poisoned) = lock_cells(object);
        let mut row = vec![
            name(object),
            state(object, view),
            held,
            poisoned,
            plain(pids(object, view)),
            size(object, view),
        ];
        if view.is_wide {
            row.extend([
                plain(resident(object)),
                plain(user(object.owner)),
                plain(format!("{:04o}", object.mode)),
                plain(object.backing),
            ]);
        }
        row.push(type_or_reason(object));
        sheet.add(row);
    }
    sheet.render(view)
}

pub(crate) fn attachments(attachments: &[Attachment], view: View) -> String {
    let mut columns = vec![
        left("NAME").cut_in_middle_to(14),
        left("ACCESS"),
        left("STATE").cut_to(13).late(),
        right("SIZE"),
        left("ADDRESS"),
    ];
    if view.is_wide {
        columns.extend([right("OFFSET"), left("BACKING")]);
    }
    columns.push(left("TYPE").cut_to(4));
    let mut sheet = Sheet::new(columns);
    for attachment in attachments {
        let object = &attachment.object;
        let addresses = &attachment.addresses;
        let address = match view.is_wide {
            true => format!("{:x}-{:x}", addresses.start, addresses.end),
            false => format!("{:x}", addresses.start),
        };
        let mut row = vec![
            name(object),
            plain(labels::access(attachment.access)),
            state(object, view),
            size(object, view),
            plain(address),
        ];
        if view.is_wide {
            row.extend([plain(attachment.offset), plain(object.backing)]);
        }
        row.push(type_or_reason(object));
        sheet.add(row);
    }
    sheet.render(view)
}

fn name(object: &Object) -> Text {
    plain(escape(&object.name))
}

fn state(object: &Object, view: View) -> Text {
    let (state, style) = labels::state(object);
    match (object.link, &object.content) {
        // A segment without its name exists because a process has mapped it.
        (Link::Unlinked, Content::Segment(_)) if !view.is_wide => styled("unlinked", style),
        (Link::Unlinked, _) => styled(format!("{state}, unlinked"), style),
        _ => styled(state, style),
    }
}

fn size(object: &Object, view: View) -> Text {
    plain(match view.is_wide {
        true => bytes(object.len),
        false => short_bytes(object.len),
    })
}

fn type_or_reason(object: &Object) -> Text {
    match (object.content.segment(), labels::reason(object)) {
        (Some(segment), _) => plain(short_type(&segment.layout.type_name)),
        (None, reason) => faint(escape(&reason.unwrap_or_default())),
    }
}

/// Returns the numbers of held and of poisoned mutexes.
fn lock_cells(object: &Object) -> (Text, Text) {
    let Content::Segment(segment) = &object.content else {
        return (faint("-"), faint("-"));
    };
    let Some(locks) = segment.locks else {
        return (faint("?"), faint("?"));
    };
    // Locks that were not inspected may be held as well.
    let more = if locks.counted < locks.objects {
        "+"
    } else {
        ""
    };
    let poisoned = match locks.poisoned {
        0 => plain(format!("0{more}")),
        number => styled(format!("{number}{more}"), Style::Bad),
    };
    (held(locks, more), poisoned)
}

/// Returns the number of held mutexes and occupied seats, and which holders do not run:
/// `3, 1 stopped`.
fn held(locks: Locks, more: &str) -> Text {
    let mut parts = Vec::new();
    let held = locks.held + locks.occupied;
    let running = held - locks.stopped.min(held);
    if running > 0 || (locks.stopped == 0 && locks.dead == 0) {
        parts.push(format!("{running}{more}"));
    }
    if locks.stopped > 0 {
        parts.push(format!("{} stopped", locks.stopped));
    }
    if locks.dead > 0 {
        parts.push(format!("{} dead", locks.dead));
    }
    let style = match locks {
        Locks { dead: 1.., .. } => Style::Bad,
        Locks { stopped: 1.., .. } => Style::Doubtful,
        _ if held > 0 => Style::Good,
        _ => Style::Plain,
    };
    styled(parts.join(", "), style)
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
fn pids(object: &Object, view: View) -> String {
    let users = &object.users;
    let unseen = labels::unseen_attachments(users);
    let first = match users.pids.as_slice() {
        [] if unseen > 0 => return format!("{unseen} unseen"),
        [] if users.attachments.is_none() && !users.unreadable_pids.is_empty() => {
            return "?".to_owned();
        }
        [] => return "-".to_owned(),
        [first, ..] => first,
    };
    if view.is_wide {
        let named = text::numbers(&users.pids, MAX_PIDS);
        return match unseen {
            0 => named,
            _ => format!("{named}, {unseen} unseen"),
        };
    }
    match users.pids.len() as u64 - 1 + unseen {
        0 => first.to_string(),
        more => format!("{first} +{more}"),
    }
}
