//! The text output of `show` and `watch`.

use std::fmt::Write;

use shm_sync::PoisonCause;
use shm_sync::inspect::{
    self, CondvarState, Details, Epoch, EventState, Holder, LockState, Locks, MutexState, Object,
    SeatState, Segment, SyncObject, SyncState, Value, Values,
};
use unicode_width::UnicodeWidthStr;

use crate::labels;
use crate::sheet::{Sheet, Text, faint, left, plain, right, styled};
use crate::table;
use crate::text::{self, Style, bytes, escape, shorten_middle, wrap};
use crate::view::View;

/// The maximum number of processes that `show` names.
const MAX_PIDS: usize = 32;
/// The maximum number of processes that `watch` names, so that the locks have room.
const MAX_WATCHED_PIDS: usize = 3;

/// Returns the object, its header, its users, and its sync objects.
pub(crate) fn details(details: &Details, view: View) -> String {
    with_sync_objects(head(details, view), details, view)
}

/// Appends the table of the sync objects to a head.
pub(crate) fn with_sync_objects(head: String, details: &Details, view: View) -> String {
    let mut text = head;
    if details.object.content.segment().is_some() {
        text.push('\n');
        text += &sync_objects(details, view);
    }
    text
}

/// Returns the object, its header and its users.
pub(crate) fn head(details: &Details, view: View) -> String {
    let object = &details.object;
    let mut lines = Lines::new(object, view);
    lines.add_content(object);
    lines.add_object(object);
    lines.add("attached", attached(object, MAX_PIDS));
    if let Some(segment) = object.content.segment() {
        lines.add_segment(segment);
        lines.add("sync objects", locks(segment.locks));
    }
    lines.text
}

/// Returns what changes while processes use the object: its users and its locks.
pub(crate) fn short_head(details: &Details, view: View) -> String {
    let object = &details.object;
    let mut lines = Lines::new(object, view);
    lines.add_content(object);
    lines.add("attached", attached(object, MAX_WATCHED_PIDS));
    if let Some(segment) = object.content.segment() {
        lines.add("sync objects", locks(segment.locks));
    }
    lines.text
}

/// The widest path of a value in columns. Each row is as wide as the widest one, and
/// another user may have chosen the names.
const WIDEST_PATH: usize = 200;

/// Returns the table of the values.
pub(crate) fn values(values: Option<&Values>, view: View) -> String {
    let Some(values) = values else {
        return "\nThe segment does not describe its types.\n".to_owned();
    };
    let mut columns = vec![
        left("FIELD").cut_in_middle_to(16),
        left("VALUE (not a snapshot)").cut_to(20),
    ];
    if view.is_wide {
        columns.push(right("OFFSET"));
    }
    let mut sheet = Sheet::new(columns);
    for field in &values.fields {
        let path = match field.path.as_str() {
            "" => ".",
            path => path,
        };
        let style = match field.value {
            Value::Invalid | Value::Unreadable => Style::Bad,
            Value::Omitted(_) | Value::None => Style::Faint,
            _ => Style::Plain,
        };
        // `Display` escapes the texts.
        let path = shorten_middle(&escape(path), WIDEST_PATH);
        let mut row = vec![plain(path), styled(&field.value, style)];
        if view.is_wide {
            row.push(plain(field.offset));
        }
        sheet.add(row);
    }
    let mut text = "\n".to_owned() + &sheet.render(view);
    if values.is_cut {
        text += "and more: see --limit\n";
    }
    text
}

/// Returns the table of the sync objects.
fn sync_objects(details: &Details, view: View) -> String {
    let mut columns = vec![
        left("FIELD").cut_in_middle_to(8),
        left("STATE").cut_to(6).late(),
        left("POISON"),
        left("WAITERS"),
        left("HOLDER").cut_to(7),
    ];
    if view.is_wide {
        columns.extend([left("KIND"), left("HOLDER RUNS SINCE").cut_to(10)]);
    }
    let mut sheet = Sheet::new(columns);
    for object in &details.sync_objects {
        sheet.add(row(object, view));
    }
    let mut text = if details.sync_objects.is_empty() {
        String::new()
    } else {
        sheet.render(view)
    };
    if details.omitted > 0 {
        let _ = writeln!(text, "and {} more", details.omitted);
    }
    text
}

fn row(object: &SyncObject, view: View) -> Vec<Text> {
    let nothing = || faint("-");
    let path = match object.path.as_str() {
        "" => ".",
        path => path,
    };
    let kind = labels::kind(&object.state);
    let mut since = faint("-");
    let mut row = vec![plain(escape(path))];
    match &object.state {
        SyncState::Mutex(mutex) => {
            row.extend(mutex_cells(mutex, view));
            since = since_of(&mutex.lock);
        }
        SyncState::Seat(seat) => {
            row.extend(seat_cells(seat));
            since = since_of(&seat.lock);
        }
        SyncState::Event(EventState {
            is_set, waiters, ..
        }) => row.extend([
            match is_set {
                true => styled(labels::event(true), Style::Good),
                false => plain(labels::event(false)),
            },
            nothing(),
            waiters_at_most(*waiters),
            nothing(),
        ]),
        SyncState::Condvar(CondvarState {
            waiters,
            notifications,
            ..
        }) => row.extend([
            match view.is_wide {
                true => plain(format!("{notifications} notifications")),
                false => faint(kind),
            },
            nothing(),
            waiters_at_most(*waiters),
            nothing(),
        ]),
        _ => row.extend([faint(kind), nothing(), nothing(), nothing()]),
    }
    if view.is_wide {
        row.extend([plain(kind), since]);
    }
    row
}

fn waiters_at_most(waiters: u32) -> Text {
    match waiters {
        0 => faint("-"),
        _ => styled(format!("up to {waiters}"), Style::Good),
    }
}

/// Returns the cell for the time since when the holder has run.
fn since_of(lock: &LockState) -> Text {
    let LockState::Held(thread) = lock else {
        return faint("-");
    };
    plain(match thread.thread_started {
        Some(started) => text::time(started),
        None => "unknown".to_owned(),
    })
}

/// Returns the cells for state, poison, waiters and occupant.
fn seat_cells(seat: &SeatState) -> [Text; 4] {
    let (state, style) = labels::seat_and_occupant(&seat.lock);
    let occupant = match &seat.lock {
        LockState::Held(thread) => styled(holder(thread), style),
        _ => faint("-"),
    };
    [styled(state, style), faint("-"), faint("-"), occupant]
}

/// Returns the cells for state, poison, waiters and holder.
fn mutex_cells(mutex: &MutexState, view: View) -> [Text; 4] {
    let (lock, style) = labels::lock_and_holder(&mutex.lock);
    let holder = match &mutex.lock {
        LockState::Held(thread) => styled(holder(thread), style),
        _ => faint("-"),
    };
    let waiters = match mutex.waiters {
        inspect::Waiters::NoneSeen => faint("-"),
        waiters => plain(labels::waiters(waiters)),
    };
    [
        styled(lock, style),
        poison_cell(mutex, view),
        waiters,
        holder,
    ]
}

fn poison_cell(mutex: &MutexState, view: View) -> Text {
    let before = match mutex.poison_count {
        0 | 1 => String::new(),
        n => format!(", {n} times so far"),
    };
    match (mutex.poison, mutex.poison_count) {
        (Some(cause), _) if view.is_wide => {
            styled(format!("{}{before}", poison(cause)), Style::Bad)
        }
        (Some(cause), _) => styled(short_poison(cause), Style::Bad),
        (None, 1..) if view.is_wide => plain(format!("no, {} before", mutex.poison_count)),
        (None, _) => faint("-"),
    }
}

fn holder(holder: &Holder) -> String {
    let command = holder.command.as_deref().map(escape).unwrap_or_default();
    let id = thread(holder.pid, holder.tid);
    match (id.split_once(' '), command.as_str()) {
        (_, "") => id,
        // The name of the process comes before the id of the thread.
        (Some((pid, thread)), command) if holder.pid != 0 => format!("{pid} {command} {thread}"),
        (_, command) => format!("{id} {command}"),
    }
}

/// Returns why a mutex is poisoned: `owner died: 41 (thread 42)`.
fn poison(cause: PoisonCause) -> String {
    let holder = match (cause.pid(), cause.tid()) {
        (0, 0) => "unknown".to_owned(),
        (pid, tid) => thread(pid, tid),
    };
    format!("{}: {holder}", labels::poison(cause))
}

/// Returns why a mutex is poisoned, without the thread: `owner died: 41`.
fn short_poison(cause: PoisonCause) -> String {
    match cause.pid() {
        0 => labels::poison(cause).to_owned(),
        pid => format!("{}: {pid}", labels::poison(cause)),
    }
}

/// Returns the ids of a thread. The process is unknown if `pid` is 0.
fn thread(pid: u32, tid: u32) -> String {
    match (pid, tid) {
        (0, tid) => format!("thread {tid}"),
        (pid, tid) if pid == tid => format!("{pid}"),
        (pid, tid) => format!("{pid} (thread {tid})"),
    }
}

/// Returns the number of sync objects by state.
fn locks(locks: Option<Locks>) -> String {
    let Some(locks) = locks else {
        return "those of another platform, which can't be read".to_owned();
    };
    let mut text = format!("{}, {} held", locks.objects, locks.held);
    if locks.stopped > 0 {
        let _ = write!(text, " ({} by a stopped thread)", locks.stopped);
    }
    if locks.dead > 0 {
        let _ = write!(text, ", {} held by a dead thread", locks.dead);
    }
    let _ = write!(text, ", {} poisoned", locks.poisoned);
    if locks.occupied > 0 || locks.orphaned > 0 {
        let _ = write!(text, "; seats: {} occupied", locks.occupied);
    }
    if locks.orphaned > 0 {
        let _ = write!(text, ", {} orphaned", locks.orphaned);
    }
    if locks.counted < locks.objects {
        let _ = write!(text, " (only {} were inspected)", locks.counted);
    }
    text
}

fn attached(object: &Object, most: usize) -> String {
    let users = &object.users;
    let possible = labels::possible_users(users);
    let mut text = match (users.pids.is_empty(), possible.is_empty()) {
        (false, _) => processes(&users.pids, most),
        (true, true) if users.attachments.is_none_or(|number| number == 0) => {
            "no process".to_owned()
        }
        (true, _) => "no visible process".to_owned(),
    };
    if let Some(attachments) = users.attachments {
        let _ = write!(text, "; the kernel counts {attachments}");
    }
    match possible {
        [] => {}
        [pid] => {
            let name = process(*pid);
            let _ = write!(text, "; the mappings of process {name} are unreadable");
        }
        pids => {
            let (number, names) = (pids.len(), processes(pids, most));
            let _ = write!(
                text,
                "; the mappings of {number} processes are unreadable: {names}"
            );
        }
    }
    text
}

/// Returns the ids and names of the first processes.
fn processes(pids: &[u32], most: usize) -> String {
    let named = pids.iter().take(most).map(|pid| process(*pid));
    let names = named.collect::<Vec<_>>().join(", ");
    match pids.len().saturating_sub(most) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

fn process(pid: u32) -> String {
    match inspect::command_of(pid) {
        Some(command) => format!("{pid} {}", escape(&command)),
        None => pid.to_string(),
    }
}

/// Lines that consist of a name and a text, below a title.
struct Lines {
    text: String,
    view: View,
}

impl Lines {
    /// The width of the names, with the space before them.
    const NAMES: usize = 16;

    /// Begins with the name and the state of an object.
    fn new(object: &Object, view: View) -> Self {
        let name = escape(&object.name);
        let (state, style) = labels::state(object);
        let (backing, link) = (object.backing, labels::link(object.link));
        let rest = format!("{backing}, {link}, ");
        let len = name.width() + 2 + rest.width() + state.width();
        let mut text = String::new();
        for line in wrap(&name, view.width) {
            let _ = writeln!(text, "{}", Style::Heading.paint(view.palette, &line));
        }
        if view.width.is_none_or(|width| len <= width) {
            text.pop();
        }
        let state = style.paint(view.palette, state);
        let _ = writeln!(text, "  {rest}{state}");
        Self { text, view }
    }

    fn add(&mut self, name: &str, text: String) {
        let width = self
            .view
            .width
            .map(|width| width.saturating_sub(Self::NAMES));
        let mut name = Style::Faint.paint(self.view.palette, &format!("{name:14}"));
        for line in wrap(&text, width) {
            let _ = writeln!(self.text, "  {name}{line}");
            name = " ".repeat(Self::NAMES - 2);
        }
    }

    /// Adds why the object is no readable segment, if it is none.
    fn add_content(&mut self, object: &Object) {
        if let Some(reason) = labels::reason(object) {
            self.add("content", escape(&reason));
        }
    }

    fn add_object(&mut self, object: &Object) {
        let resident = table::resident(object);
        let size = match object.len {
            len if len < 1024 => format!("{len} bytes"),
            len => format!("{len} bytes ({})", bytes(len)),
        };
        self.add("size", format!("{size}, {resident} pages in memory"));
        let owner = table::user(object.owner);
        let owner = format!("{owner} ({}), group {}", object.owner, object.group);
        self.add("owner", format!("{owner}, mode {:04o}", object.mode));
    }

    fn add_segment(&mut self, segment: &Segment) {
        let layout = &segment.layout;
        self.add("type", escape(&layout.type_name));
        self.add("fingerprint", layout.fingerprint.to_string());
        let value = format!(
            "{} bytes at {}, aligned to {}",
            layout.size, segment.value_offset, layout.align
        );
        self.add("value", value);
        if segment.elements > 0 {
            self.add("elements", segment.elements.to_string());
        }
        self.add("platform", layout.abi.to_string());
        let created = segment
            .created
            .map_or_else(|| "unknown".to_owned(), text::time);
        self.add(
            "created",
            format!("{created} by process {}", segment.creator),
        );
        self.add("removal", labels::removal(segment.removal).to_owned());
        let note = match segment.epoch {
            Epoch::Current => "",
            Epoch::OtherNamespace => ": not ours, so thread ids have another meaning there",
            Epoch::Unknown => ": the boot id or our own namespace can't be read from /proc",
            _ => ": its locks belong to another boot, or to the file of which it is a copy",
        };
        self.add("pid namespace", format!("{}{note}", segment.pid_namespace));
    }
}
