//! The output as JSON. The names of fields and the words in them are an interface:
//! programs read them.
//!
//! Times are in seconds since 1970, sizes in bytes.
//!
//! The types of [`inspect`] can be serialised as well, but with the names and the
//! nesting of the library, and without what the tool adds: states, reasons, user names.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value as Json;
use shm_sync::PoisonCause;
use shm_sync::inspect::{
    self, Attachment, Details, FieldValue, Holder, LockState, Locks, MutexState, Object, SeatState,
    Segment, SyncObject, SyncState, Value, Values,
};

use crate::labels;
use crate::text::seconds;

#[derive(Debug, Serialize)]
pub(crate) struct ObjectRow {
    name: String,
    /// The address by which the tool finds the object again. `null` if it is not UTF-8.
    address: Option<String>,
    backing: String,
    link: &'static str,
    state: &'static str,
    /// `attached`, `abandoned` or `unknown`, for any content.
    in_use: &'static str,
    /// Why `segment` is missing.
    reason: Option<String>,
    size: u64,
    resident_pages: Option<u64>,
    page_size: u64,
    owner: u32,
    owner_name: Option<String>,
    group: u32,
    /// Octal digits.
    mode: String,
    pids: Vec<u32>,
    attachments: Option<u64>,
    unreadable_processes: usize,
    segment: Option<SegmentRow>,
}

#[derive(Debug, Serialize)]
struct SegmentRow {
    type_name: String,
    fingerprint: String,
    value_size: u64,
    value_offset: u64,
    align: u64,
    platform: String,
    elements: u64,
    removal: &'static str,
    creator: u32,
    created: Option<u64>,
    pid_namespace: u32,
    epoch: &'static str,
    locks: Option<LocksRow>,
}

#[derive(Debug, Serialize)]
struct LocksRow {
    objects: u64,
    counted: u64,
    held: u64,
    stopped: u64,
    dead: u64,
    poisoned: u64,
    occupied: u64,
    orphaned: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct DetailsRow {
    #[serde(flatten)]
    object: ObjectRow,
    sync_objects: Vec<SyncObjectRow>,
    omitted: u64,
    #[serde(flatten)]
    values: Option<ValuesRow>,
}

/// The values: `null` if the segment does not describe its types.
#[derive(Debug, Serialize)]
struct ValuesRow {
    values: Option<Vec<FieldRow>>,
    values_are_cut: bool,
}

#[derive(Debug, Serialize)]
struct FieldRow {
    path: String,
    offset: u64,
    #[serde(flatten)]
    value: ValueRow,
}

/// A value. What is no value of the type is `null`, with a reason.
#[derive(Debug, Serialize)]
struct ValueRow {
    value: Json,
    /// The number of elements or bytes that were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    omitted: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct SyncObjectRow {
    path: String,
    offset: u64,
    kind: &'static str,
    #[serde(flatten)]
    state: StateRow,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum StateRow {
    Mutex {
        lock: &'static str,
        holder: Option<HolderRow>,
        poison: Option<PoisonRow>,
        poison_count: u16,
        waiters: &'static str,
    },
    Condvar {
        waiters_at_most: u32,
        notifications: u32,
    },
    Seat {
        seat: &'static str,
        occupant: Option<HolderRow>,
        note: u64,
        deaths: u16,
    },
    Event {
        event: &'static str,
        resets_itself: bool,
        waiters_at_most: u32,
    },
    Opaque {},
}

#[derive(Debug, Serialize)]
struct HolderRow {
    /// `null` if it is unknown.
    pid: Option<u32>,
    tid: u32,
    state: &'static str,
    command: Option<String>,
    running_since: Option<u64>,
}

#[derive(Debug, Serialize)]
struct PoisonRow {
    cause: &'static str,
    pid: u32,
    tid: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct AttachmentRow {
    start: u64,
    end: u64,
    access: &'static str,
    offset: u64,
    object: ObjectRow,
}

impl From<&Object> for ObjectRow {
    fn from(object: &Object) -> Self {
        Self {
            name: object.name.clone(),
            address: object
                .address
                .as_ref()
                .and_then(|at| at.to_str().map(str::to_owned)),
            backing: object.backing.to_string(),
            link: labels::link(object.link),
            state: labels::state(object).0,
            in_use: labels::in_use(object).0,
            reason: labels::reason(object),
            size: object.len,
            resident_pages: object.resident_pages,
            page_size: shm_sync::inspect::page_size(),
            owner: object.owner,
            owner_name: shm_sync::inspect::user_name(object.owner),
            group: object.group,
            mode: format!("{:04o}", object.mode),
            pids: object.users.pids.clone(),
            attachments: object.users.attachments,
            unreadable_processes: object.users.unreadable_pids.len(),
            segment: object.content.segment().map(SegmentRow::from),
        }
    }
}

impl From<&Segment> for SegmentRow {
    fn from(segment: &Segment) -> Self {
        let layout = &segment.layout;
        Self {
            type_name: layout.type_name.clone(),
            fingerprint: layout.fingerprint.to_string(),
            value_size: layout.size,
            value_offset: segment.value_offset,
            align: layout.align,
            platform: layout.abi.to_string(),
            elements: segment.elements,
            removal: labels::removal(segment.removal),
            creator: segment.creator,
            created: segment.created.map(seconds),
            pid_namespace: segment.pid_namespace,
            epoch: labels::epoch(segment.epoch),
            locks: segment.locks.map(LocksRow::from),
        }
    }
}

impl From<Locks> for LocksRow {
    fn from(locks: Locks) -> Self {
        Self {
            objects: locks.objects,
            counted: locks.counted,
            held: locks.held,
            stopped: locks.stopped,
            dead: locks.dead,
            poisoned: locks.poisoned,
            occupied: locks.occupied,
            orphaned: locks.orphaned,
        }
    }
}

impl From<&Details> for DetailsRow {
    fn from(details: &Details) -> Self {
        Self {
            object: (&details.object).into(),
            sync_objects: details
                .sync_objects
                .iter()
                .map(SyncObjectRow::from)
                .collect(),
            omitted: details.omitted,
            values: None,
        }
    }
}

impl DetailsRow {
    /// Adds the values. `None`: the segment does not describe its types.
    pub(crate) fn set_values(&mut self, values: Option<&Values>) {
        let fields = values.map(|values| values.fields.iter().map(FieldRow::from).collect());
        self.values = Some(ValuesRow {
            values: fields,
            values_are_cut: values.is_some_and(|values| values.is_cut),
        });
    }
}

impl From<&FieldValue> for FieldRow {
    fn from(field: &FieldValue) -> Self {
        Self {
            path: field.path.clone(),
            offset: field.offset,
            value: (&field.value).into(),
        }
    }
}

impl From<&Value> for ValueRow {
    fn from(value: &Value) -> Self {
        let omitted = match value {
            Value::Text { omitted, .. }
            | Value::List { omitted, .. }
            | Value::Bytes { omitted, .. }
            | Value::Omitted(omitted) => Some(*omitted).filter(|omitted| *omitted > 0),
            _ => None,
        };
        let fault = match value {
            Value::Invalid => Some("invalid"),
            Value::Unreadable => Some("unreadable"),
            _ => None,
        };
        Self {
            value: json_of(value),
            omitted,
            fault,
        }
    }
}

/// Returns a value in JSON. A number that JSON does not have is a text.
fn json_of(value: &Value) -> Json {
    match value {
        Value::Unsigned(number) => match u64::try_from(*number) {
            Ok(number) => number.into(),
            Err(_) => number.to_string().into(),
        },
        Value::Signed(number) => match i64::try_from(*number) {
            Ok(number) => number.into(),
            Err(_) => number.to_string().into(),
        },
        Value::Float(number) if number.is_finite() => f64::from(*number).into(),
        Value::Double(number) if number.is_finite() => (*number).into(),
        Value::Bool(value) => (*value).into(),
        Value::Char(character) => character.to_string().into(),
        Value::Text { text, .. } => text.as_str().into(),
        Value::Variant(name) => name.as_str().into(),
        Value::List { elements, .. } => elements.iter().map(json_of).collect(),
        Value::Bytes { bytes, .. } => bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
            .into(),
        Value::Float(_) | Value::Double(_) => value.to_string().into(),
        _ => Json::Null,
    }
}

impl From<&SyncObject> for SyncObjectRow {
    fn from(object: &SyncObject) -> Self {
        Self {
            path: object.path.clone(),
            offset: object.offset,
            kind: labels::kind(&object.state),
            state: match &object.state {
                SyncState::Mutex(mutex) => mutex.into(),
                SyncState::Condvar(condvar) => StateRow::Condvar {
                    waiters_at_most: condvar.waiters,
                    notifications: condvar.notifications,
                },
                SyncState::Seat(seat) => seat.into(),
                SyncState::Event(event) => StateRow::Event {
                    event: labels::event(event.is_set),
                    resets_itself: event.resets_itself,
                    waiters_at_most: event.waiters,
                },
                _ => StateRow::Opaque {},
            },
        }
    }
}

impl From<&MutexState> for StateRow {
    fn from(mutex: &MutexState) -> Self {
        Self::Mutex {
            lock: labels::lock(&mutex.lock),
            holder: match &mutex.lock {
                LockState::Held(holder) => Some(holder.into()),
                _ => None,
            },
            poison: mutex.poison.map(PoisonRow::from),
            poison_count: mutex.poison_count,
            waiters: labels::waiters(mutex.waiters),
        }
    }
}

impl From<&SeatState> for StateRow {
    fn from(seat: &SeatState) -> Self {
        Self::Seat {
            seat: labels::seat(&seat.lock),
            occupant: match &seat.lock {
                LockState::Held(holder) => Some(holder.into()),
                _ => None,
            },
            note: seat.note,
            deaths: seat.deaths,
        }
    }
}

impl From<&Holder> for HolderRow {
    fn from(holder: &Holder) -> Self {
        Self {
            pid: Some(holder.pid).filter(|pid| *pid != 0),
            tid: holder.tid,
            state: labels::holder_state(holder.state),
            command: holder.command.clone(),
            running_since: holder.thread_started.map(seconds),
        }
    }
}

impl From<PoisonCause> for PoisonRow {
    fn from(cause: PoisonCause) -> Self {
        Self {
            cause: labels::poison(cause),
            pid: cause.pid(),
            tid: cause.tid(),
        }
    }
}

impl From<&Attachment> for AttachmentRow {
    fn from(attachment: &Attachment) -> Self {
        Self {
            start: attachment.addresses.start,
            end: attachment.addresses.end,
            access: labels::access(attachment.access),
            offset: attachment.offset,
            object: (&attachment.object).into(),
        }
    }
}

/// Returns indented JSON that ends with a line break.
pub(crate) fn pretty(value: &impl Serialize) -> std::io::Result<String> {
    Ok(escape(&serde_json::to_string_pretty(value)?) + "\n")
}

/// Returns JSON on one line, which ends with a line break.
pub(crate) fn line(value: &impl Serialize) -> std::io::Result<String> {
    Ok(escape(&serde_json::to_string(value)?) + "\n")
}

/// Escapes characters that control a terminal. A JSON parser returns the original
/// texts.
///
/// `serde_json` escapes only the control characters that the standard requires (C0).
/// All other such characters can only be inside strings.
fn escape(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        if character == '\n' || inspect::is_printable(character) {
            shown.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let text = "a\x1b\x7f\u{9b}\u{202e}\u{e0041}\"\n\\ż";
        let shown = line(&text).unwrap();
        let expected = r#""a\u001b\u007f\u009b\u202e\udb40\udc41\"\n\\ż""#;
        assert_eq!(shown, format!("{expected}\n"));
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
    }
}
