//! The command `watch`: on a terminal a page that is updated, otherwise one report
//! after the other.

use std::convert::Infallible;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use crossterm::cursor::{Hide, MoveTo, Show as ShowCursor};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::terminal::{
    Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};
use shm_sync::inspect::Details;

use crate::arguments::Watch;
use crate::json::DetailsRow;
use crate::output::{Failure, Outcome, details, print};
use crate::text::{self, Style, escape, wrap};
use crate::view::View;
use crate::{json, show};

/// Shows the segment until the count is reached or the user quits.
pub(crate) fn watch(watch: &Watch, view: View) -> Result<Outcome, Failure> {
    // A segment that does not exist at the start is an error. On a terminal, a later
    // removal is shown on the page.
    let mut first = Some(report(watch, view)?);
    if io::stdout().is_terminal() && io::stdin().is_terminal() && !watch.json {
        return on_screen(watch, view);
    }
    let mut reports = 0;
    loop {
        let text = match first.take() {
            Some(text) => text,
            None => report(watch, view)?,
        };
        print(&text)?;
        reports += 1;
        if watch.count.is_some_and(|count| reports >= count) {
            return Ok(Outcome::Done);
        }
        if !watch.json {
            print("\n")?;
        }
        pause(watch.interval);
    }
}

fn report(watch: &Watch, view: View) -> Result<String, Failure> {
    let details = details(&watch.subject.address, watch.limit.limit)?;
    if watch.json {
        return Ok(json::line(&DetailsRow::from(&details))?);
    }
    let head = head(&details, view);
    Ok(show::with_sync_objects(head, &details, view))
}

fn head(details: &Details, view: View) -> String {
    match view.is_wide {
        true => show::head(details, view),
        false => show::short_head(details, view),
    }
}

/// Waits for the interval. No message arrives, and a signal ends the process.
fn pause(interval: Duration) {
    let (_sender, receiver) = mpsc::channel::<Infallible>();
    let _ = receiver.recv_timeout(interval);
}

fn on_screen(watch: &Watch, view: View) -> Result<Outcome, Failure> {
    let screen = Screen::enter()?;
    let mut reports = 0;
    loop {
        let (width, height) = size()?;
        let view = View {
            width: Some(usize::from(width)),
            ..view
        };
        let mut page = headline(watch, view);
        page += &report_of_height(watch, view, usize::from(height)).unwrap_or_else(|failure| {
            let (text, _) = failure.message();
            let lines = wrap(&text, view.width).into_iter();
            lines
                .map(|line| Style::Bad.paint(view.palette, &line) + "\n")
                .collect()
        });
        screen.draw(&page)?;
        reports += 1;
        if watch.count.is_some_and(|count| reports >= count) {
            return Ok(Outcome::Done);
        }
        if wait_for_key(watch.interval)? == Action::Quit {
            return Ok(Outcome::Done);
        }
    }
}

/// Returns a report for a screen. If some locks do not fit, those that are unlocked and
/// clean are omitted first, and poisoned ones last.
fn report_of_height(watch: &Watch, view: View, height: usize) -> Result<String, Failure> {
    /// The line of the screen above the report, the empty line, the titles, and the
    /// number of omitted locks.
    const OTHER_LINES: usize = 4;
    /// The number of locks for which the head is cut.
    const LEAST_LOCKS: usize = 4;
    let address = &watch.subject.address;
    let mut found = details(address, watch.limit.limit)?;
    let shown = found.sync_objects.len().min(LEAST_LOCKS);
    let mut head = head(&found, view);
    let lines = height.saturating_sub(OTHER_LINES + shown).max(1);
    head.truncate(end_of_lines(&head, lines));
    let room = height.saturating_sub(head.lines().count() + OTHER_LINES);
    if found.sync_objects.len() > room.max(1) {
        found = details(address, room.max(1))?;
    }
    Ok(show::with_sync_objects(head, &found, view))
}

/// Returns the length of the first lines of a text.
fn end_of_lines(text: &str, lines: usize) -> usize {
    text.split_inclusive('\n').take(lines).map(str::len).sum()
}

fn headline(watch: &Watch, view: View) -> String {
    let name = escape(&watch.subject.address.to_string());
    let now = text::date(SystemTime::now());
    let text = format!("every {:?}, {now}; q quits: {name}", watch.interval);
    let text = text::shorten_end(&text, view.width.unwrap_or(usize::MAX));
    Style::Faint.paint(view.palette, &text) + "\n"
}

/// The action for a key, or for the end of the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Refresh,
    Quit,
}

/// Waits for a key or a change of the terminal's size, at most for the interval.
fn wait_for_key(interval: Duration) -> io::Result<Action> {
    let end = Instant::now() + interval;
    loop {
        let rest = end.saturating_duration_since(Instant::now());
        if !event::poll(rest)? {
            return Ok(Action::Refresh);
        }
        match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Release => {}
            Event::Key(key) => {
                let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
                return Ok(match key.code {
                    KeyCode::Esc | KeyCode::Char('q' | 'Q') => Action::Quit,
                    KeyCode::Char('c' | 'd') if is_control => Action::Quit,
                    _ => Action::Refresh,
                });
            }
            Event::Resize(..) => return Ok(Action::Refresh),
            _ => {}
        }
    }
}

/// The alternate screen of the terminal. `drop` restores the normal screen.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Self> {
        enable_raw_mode()?;
        // After an error, `drop` of this value restores the terminal.
        let screen = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide, DisableLineWrap)?;
        Ok(screen)
    }

    /// Replaces the content of the screen.
    fn draw(&self, page: &str) -> io::Result<()> {
        let (_, height) = size()?;
        let mut out = io::stdout().lock();
        for (row, line) in (0..height).zip(page.lines()) {
            queue!(out, MoveTo(0, row))?;
            out.write_all(line.as_bytes())?;
            queue!(out, Clear(ClearType::UntilNewLine))?;
        }
        let used = u16::try_from(page.lines().count()).ok();
        if let Some(row) = used.filter(|row| *row < height) {
            queue!(out, MoveTo(0, row), Clear(ClearType::FromCursorDown))?;
        }
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(
            io::stdout(),
            EnableLineWrap,
            ShowCursor,
            LeaveAlternateScreen
        );
        let _ = disable_raw_mode();
    }
}
