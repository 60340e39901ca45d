//! The command `gc`.

use std::time::SystemTime;

use serde::Serialize;
use shm_sync::inspect::{self, Content, Epoch, Link, Object, Scope, Segment, State};
use shm_sync::{Address, Backing, Error, Removal};

use crate::arguments::Gc;
use crate::confirm::{self, Answer};
use crate::json;
use crate::labels;
use crate::manage::removal_reason;
use crate::output::{Failure, Outcome, print};
use crate::sheet::{Sheet, left, plain, right, styled};
use crate::table::user;
use crate::text::{Style, bytes, escape};
use crate::view::View;

/// An object to which no process is attached.
#[derive(Debug)]
struct Leftover {
    address: Address,
    verdict: Verdict,
    owner: u32,
    origin: Option<(u32, Option<SystemTime>)>,
    row: Row,
}

/// A row of the output. The names of the fields and the words are an interface.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// `null` if it is not UTF-8.
    address: Option<String>,
    backing: String,
    size: u64,
    /// `removed`, `would be removed`, `in use`, `gone`, `left alone` or `failed`.
    outcome: &'static str,
    /// Why it is there, or why it was not removed.
    reason: Option<String>,
}

/// The decision about an object to which no process is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It should not exist any more, or the user has selected its kind. The text says
    /// why it is there.
    Remove(&'static str),
    Persistent,
    /// A copy of a segment, for example a backup.
    Copy,
    OtherUser,
    Unreadable(String),
}

/// Removes segments that their processes have left behind.
pub(crate) fn collect(gc: &Gc, view: View) -> Result<Outcome, Failure> {
    if !gc.yes && !gc.dry_run && !confirm::is_possible() {
        let text = "there is no terminal for a confirmation: use --yes, or --dry-run to list \
                    what would be removed";
        return Err(Failure::Refused(text.to_owned()));
    }
    let objects = inspect::objects(Scope::Segments).map_err(|error| Failure::of("gc", &error))?;
    let mut found: Vec<_> = objects
        .iter()
        .filter_map(|object| leftover(object, gc))
        .collect();
    let selected = found.iter().filter(|leftover| leftover.is_selected());
    let number = selected.count();
    if number > 0 && !gc.yes && !gc.dry_run {
        let question = match number {
            1 => "Remove this segment?".to_owned(),
            number => format!("Remove these {number} segments?"),
        };
        if confirm::ask(&plan(&found, view), &question)? == Answer::No {
            return Err(Failure::Refused("nothing was removed".to_owned()));
        }
    }
    for leftover in &mut found {
        leftover.act(gc);
    }
    print(&match gc.format.json {
        true => json::pretty(
            &found
                .iter()
                .map(|leftover| &leftover.row)
                .collect::<Vec<_>>(),
        )?,
        false => report(&found, view),
    })?;
    match found
        .iter()
        .any(|leftover| leftover.row.outcome == "failed")
    {
        true => Ok(Outcome::Incomplete),
        false => Ok(Outcome::Done),
    }
}

/// Returns the object as a row, if no process is attached and `gc` deals with its kind.
fn leftover(object: &Object, gc: &Gc) -> Option<Leftover> {
    let address = object.address.clone()?;
    let verdict = verdict(object, gc)?;
    let row = Row {
        name: object.name.clone(),
        address: address.to_str().map(str::to_owned),
        backing: object.backing.to_string(),
        size: object.len,
        outcome: "left alone",
        reason: verdict.reason(),
    };
    Some(Leftover {
        address,
        verdict,
        owner: object.owner,
        origin: origin(object),
        row,
    })
}

fn verdict(object: &Object, gc: &Gc) -> Option<Verdict> {
    // Files are listed only while a process maps them.
    let is_candidate = object.state() == State::Abandoned
        && object.link != Link::Unlinked
        && matches!(object.backing, Backing::Posix | Backing::SystemV);
    if !is_candidate {
        return None;
    }
    let why = match &object.content {
        // No process has used the copy, so none has left it.
        Content::Segment(segment) if segment.epoch == Epoch::Past => match gc.persistent {
            true => "a copy",
            false => return Some(Verdict::Copy),
        },
        Content::Segment(segment) if is_transient(segment) => "its last process left it",
        Content::Segment(_) if gc.persistent => "persistent",
        Content::Segment(_) => return Some(Verdict::Persistent),
        Content::Unfinished => "its creator died before it was complete",
        Content::Unreadable(error) => {
            return Some(Verdict::Unreadable(labels::error_chain(error)));
        }
        _ => return None,
    };
    if object.owner != inspect::effective_user() && !gc.all_users {
        return Some(Verdict::OtherUser);
    }
    Some(Verdict::Remove(why))
}

/// Returns whether the last process should have removed the segment.
fn is_transient(segment: &Segment) -> bool {
    segment.removal == Removal::UntilLastDetach
}

/// Returns facts that differ between a segment and a later one of the same name.
fn origin(object: &Object) -> Option<(u32, Option<SystemTime>)> {
    match &object.content {
        Content::Segment(segment) => Some((segment.creator, segment.created)),
        _ => None,
    }
}

impl Verdict {
    /// Returns why an object is left alone.
    fn reason(&self) -> Option<String> {
        Some(match self {
            Self::Remove(_) => return None,
            Self::Persistent => "persistent: --persistent removes it".to_owned(),
            Self::Copy => "a copy: --persistent removes it".to_owned(),
            Self::OtherUser => "of another user: --all-users removes it".to_owned(),
            Self::Unreadable(error) => format!("{error}; `shm-sync rm NAME` removes it"),
        })
    }
}

impl Leftover {
    fn is_selected(&self) -> bool {
        matches!(self.verdict, Verdict::Remove(_))
    }

    /// Removes the object, if it is selected and this is no dry run.
    fn act(&mut self, gc: &Gc) {
        let Verdict::Remove(why) = self.verdict else {
            return;
        };
        let (outcome, reason) = match gc.dry_run {
            true => ("would be removed", Some(why.to_owned())),
            false => self.remove(gc),
        };
        self.row.outcome = outcome;
        self.row.reason = reason;
    }

    /// Removes the object, unless a process uses it or another object has got its name
    /// since it was listed: the user may have thought about the answer for a while. A
    /// change between this check and the removal is not noticed; `inspect::remove`
    /// removes no object to which a process is attached.
    fn remove(&self, gc: &Gc) -> (&'static str, Option<String>) {
        let used = "a process has attached it meanwhile";
        let gone = "another process has removed it";
        let removed = inspect::object(&self.address).and_then(|object| {
            if object.state() != State::Abandoned {
                return Err(Error::InUse { address: None });
            }
            let is_same = object.owner == self.owner
                && object.len == self.row.size
                && origin(&object) == self.origin
                && verdict(&object, gc).as_ref() == Some(&self.verdict);
            if is_same {
                inspect::remove(&self.address)?;
            }
            Ok(is_same)
        });
        match removed {
            Ok(true) => ("removed", None),
            Ok(false) => ("left alone", Some("it has changed meanwhile".to_owned())),
            Err(Error::InUse { .. }) => ("in use", Some(used.to_owned())),
            Err(Error::NotFound { .. }) => ("gone", Some(gone.to_owned())),
            Err(error) => {
                let reason = removal_reason(&self.address, &error);
                let reason = reason.unwrap_or_else(|| labels::error_chain(&error));
                ("failed", Some(reason))
            }
        }
    }
}

/// Returns the table of the segments that will be removed.
fn plan(found: &[Leftover], view: View) -> String {
    let mut sheet = Sheet::new(vec![
        left("NAME").cut_in_middle_to(16),
        right("SIZE"),
        left("OWNER"),
        left("REASON"),
    ]);
    for leftover in found {
        if let Verdict::Remove(why) = leftover.verdict {
            sheet.add(vec![
                plain(escape(&leftover.row.name)),
                plain(bytes(leftover.row.size)),
                plain(user(leftover.owner)),
                plain(why),
            ]);
        }
    }
    sheet.render(view)
}

/// Returns the table of the outcomes, and how many segments stay that an option would
/// select.
fn report(found: &[Leftover], view: View) -> String {
    let mut sheet = Sheet::new(vec![
        left("NAME").cut_in_middle_to(16),
        right("SIZE"),
        left("OWNER"),
        left("OUTCOME"),
        left("REASON"),
    ]);
    let is_shown = |leftover: &&Leftover| {
        leftover.is_selected() || matches!(leftover.verdict, Verdict::Unreadable(_))
    };
    for Leftover { owner, row, .. } in found.iter().filter(is_shown) {
        let style = match row.outcome {
            "removed" | "would be removed" => Style::Good,
            "failed" => Style::Bad,
            _ => Style::Plain,
        };
        sheet.add(vec![
            plain(escape(&row.name)),
            plain(bytes(row.size)),
            plain(user(*owner)),
            styled(row.outcome, style),
            styled(escape(row.reason.as_deref().unwrap_or("")), Style::Faint),
        ]);
    }
    let mut text = match found.iter().any(|leftover| is_shown(&leftover)) {
        true => sheet.render(view),
        false => "nothing to remove\n".to_owned(),
    };
    for (verdict, what, option) in [
        (Verdict::Persistent, "persistent", "--persistent"),
        (Verdict::Copy, "copied", "--persistent"),
        (Verdict::OtherUser, "of another user", "--all-users"),
    ] {
        let all = found.iter().filter(|leftover| leftover.verdict == verdict);
        text += &match all.count() {
            0 => continue,
            1 => format!("1 segment without a process stays: {what} ({option})\n"),
            n => format!("{n} segments without a process stay: {what} ({option})\n"),
        };
    }
    text
}
