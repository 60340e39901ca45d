//! The text output of `show`.

use std::fmt::Write;

use comfy_table::Cell;
use shm_sync::PoisonCause;
use shm_sync::inspect::{
    self, CondvarState, Details, Epoch, Holder, LockState, MutexState, Object, Segment, SyncObject,
    SyncState,
};

use crate::labels;
use crate::table::{self, cell};
use crate::text::{self, Palette, Style, bytes, escape};

/// The maximum number of attached processes that are named.
const MAX_PIDS: usize = 32;

/// Returns the object, its header, its users, and its sync objects.
pub(crate) fn details(details: &Details, palette: Palette) -> String {
    let object = &details.object;
    let mut text = object_lines(object, palette);
    if let Some(segment) = object.content.segment() {
        text += &segment_lines(segment, palette);
        text.push('\n');
        text += &sync_objects(details, palette);
    }
    text
}

fn object_lines(object: &Object, palette: Palette) -> String {
    let (state, style) = labels::state(object);
    let mut lines = Lines::new(palette);
    let name = Style::Heading.paint(palette, &escape(&object.name));
    let state = style.paint(palette, state);
    let link = labels::link(object.link);
    lines.text = format!("{name}  {}, {link}, {state}\n", object.backing);
    if let Some(reason) = labels::reason(object) {
        lines.add("content", escape(&reason));
    }
    let resident = table::resident(object);
    let size = match object.len {
        len if len < 1024 => format!("{len} bytes"),
        len => format!("{len} bytes ({})", bytes(len)),
    };
    lines.add("size", format!("{size}, {resident} pages in memory"));
    let owner = table::user(object.owner);
    let owner = format!("{owner} ({}), group {}", object.owner, object.group);
    lines.add("owner", format!("{owner}, mode {:04o}", object.mode));
    lines.add("attached", attached(object));
    lines.text
}

fn attached(object: &Object) -> String {
    let users = &object.users;
    let names: Vec<_> = users
        .pids
        .iter()
        .take(MAX_PIDS)
        .map(|pid| process(*pid))
        .collect();
    let mut text = if !names.is_empty() {
        names.join(", ")
    } else if users.unreadable_processes == 0 {
        "no process".to_owned()
    } else {
        "no visible process".to_owned()
    };
    if let Some(more) = users
        .pids
        .len()
        .checked_sub(MAX_PIDS)
        .filter(|more| *more > 0)
    {
        let _ = write!(text, " and {more} more");
    }
    if let Some(attachments) = users.attachments {
        let _ = write!(text, "; the kernel counts {attachments}");
    }
    match users.unreadable_processes {
        0 => {}
        1 => text += "; the mappings of one process are unreadable",
        count => {
            let _ = write!(text, "; the mappings of {count} processes are unreadable");
        }
    }
    text
}

fn process(pid: u32) -> String {
    match inspect::command_of(pid) {
        Some(command) => format!("{pid} {}", escape(&command)),
        None => pid.to_string(),
    }
}

fn segment_lines(segment: &Segment, palette: Palette) -> String {
    let layout = &segment.layout;
    let mut lines = Lines::new(palette);
    lines.add("type", escape(&layout.type_name));
    lines.add("fingerprint", layout.fingerprint.to_string());
    let value = format!(
        "{} bytes at {}, aligned to {}",
        layout.size, segment.value_offset, layout.align
    );
    lines.add("value", value);
    if segment.elements > 0 {
        lines.add("elements", segment.elements.to_string());
    }
    lines.add("platform", layout.abi.to_string());
    let created = segment
        .created
        .map_or_else(|| "unknown".to_owned(), text::time);
    lines.add(
        "created",
        format!("{created} by process {}", segment.creator),
    );
    lines.add("removal", labels::removal(segment.removal).to_owned());
    let note = match segment.epoch {
        Epoch::Current => "",
        Epoch::OtherNamespace => ": not ours, so thread ids have another meaning there",
        Epoch::Unknown => ": the boot id or our own namespace can't be read from /proc",
        _ => ": its locks belong to another boot, or to the file of which it is a copy",
    };
    lines.add("pid namespace", format!("{}{note}", segment.pid_namespace));
    match segment.locks {
        Some(locks) => {
            let all = format!(
                "{}, {} held, {} poisoned",
                locks.objects, locks.held, locks.poisoned
            );
            let text = if locks.counted < locks.objects {
                format!("{all} (only {} were inspected)", locks.counted)
            } else {
                all
            };
            lines.add("sync objects", text);
        }
        None => lines.add(
            "sync objects",
            "those of another platform, which can't be read".to_owned(),
        ),
    }
    lines.text
}

fn sync_objects(details: &Details, palette: Palette) -> String {
    let titles = [
        "FIELD",
        "KIND",
        "STATE",
        "WAITERS",
        "HOLDER",
        "HOLDER RUNS SINCE",
        "POISON",
    ];
    let mut table = table::new(palette, &titles);
    for object in &details.sync_objects {
        table.add_row(row(object));
    }
    let mut text = if details.sync_objects.is_empty() {
        String::new()
    } else {
        table::finish(&table)
    };
    if details.omitted > 0 {
        let _ = writeln!(text, "and {} more", details.omitted);
    }
    text
}

fn row(object: &SyncObject) -> Vec<Cell> {
    let path = match object.path.as_str() {
        "" => ".",
        path => path,
    };
    let mut cells = vec![
        cell(escape(path), Style::Plain),
        cell(labels::kind(&object.state), Style::Plain),
    ];
    match &object.state {
        SyncState::Mutex(mutex) => cells.extend(mutex_cells(mutex)),
        SyncState::Condvar(CondvarState {
            waiters,
            notifications,
            ..
        }) => {
            cells.push(cell(format!("{notifications} notifications"), Style::Plain));
            cells.push(match waiters {
                0 => cell("none", Style::Plain),
                _ => cell(format!("up to {waiters}"), Style::Good),
            });
            cells.extend(["-"; 3].map(|dash| cell(dash, Style::Faint)));
        }
        _ => cells.extend(["-"; 5].map(|dash| cell(dash, Style::Faint))),
    }
    cells
}

fn mutex_cells(mutex: &MutexState) -> [Cell; 5] {
    let (lock, style) = labels::lock(&mutex.lock);
    let nothing = || cell("-", Style::Faint);
    let (holder, since) = match &mutex.lock {
        LockState::Held(thread) => {
            let since = thread
                .thread_started
                .map_or_else(|| "unknown".to_owned(), text::time);
            (cell(holder_text(thread), style), cell(since, Style::Plain))
        }
        _ => (nothing(), nothing()),
    };
    let times = match mutex.poison_count {
        0 | 1 => String::new(),
        n => format!(", {n} times so far"),
    };
    let poison = match (&mutex.poison, mutex.poison_count) {
        (Some(cause), _) => cell(format!("{}{times}", poison(*cause)), Style::Bad),
        (None, 0) => cell("no", Style::Plain),
        (None, n) => cell(format!("no, {n} before"), Style::Plain),
    };
    let waiters = cell(labels::waiters(mutex.waiters), Style::Plain);
    [cell(lock, style), waiters, holder, since, poison]
}

fn holder_text(holder: &Holder) -> String {
    let state = labels::holder_state(holder.state);
    let command = holder.command.as_deref().map(escape).unwrap_or_default();
    let id = thread(holder.pid, holder.tid);
    match command.as_str() {
        "" => format!("{id}, {state}"),
        command => format!("{id} {command}, {state}"),
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

/// Returns the ids of a thread. The process is unknown if `pid` is 0.
fn thread(pid: u32, tid: u32) -> String {
    match (pid, tid) {
        (0, tid) => format!("thread {tid}"),
        (pid, tid) if pid == tid => format!("{pid}"),
        (pid, tid) => format!("{pid} (thread {tid})"),
    }
}

/// Lines that consist of a name and a text.
struct Lines {
    text: String,
    palette: Palette,
}

impl Lines {
    fn new(palette: Palette) -> Self {
        Self {
            text: String::new(),
            palette,
        }
    }

    fn add(&mut self, name: &str, text: String) {
        let name = Style::Faint.paint(self.palette, &format!("{name:14}"));
        let _ = writeln!(self.text, "  {name}{text}");
    }
}
