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

use crate::arguments::Watch;
use crate::json::DetailsRow;
use crate::output::{Failure, Outcome, details, print};
use crate::text::{self, Palette, Style, escape};
use crate::{json, show};

/// Shows the segment until the count is reached or the user quits.
pub(crate) fn watch(watch: &Watch, palette: Palette) -> Result<Outcome, Failure> {
    // A segment that does not exist at the start is an error. On a terminal, a later
    // removal is shown on the page.
    let limit = watch.limit.limit;
    let mut first = Some(report(watch, limit, palette)?);
    if io::stdout().is_terminal() && io::stdin().is_terminal() && !watch.json {
        return on_screen(watch, palette);
    }
    let mut reports = 0;
    loop {
        let text = match first.take() {
            Some(text) => text,
            None => report(watch, limit, palette)?,
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

fn report(watch: &Watch, limit: usize, palette: Palette) -> Result<String, Failure> {
    let details = details(&watch.subject.address, limit)?;
    Ok(if watch.json {
        json::line(&DetailsRow::from(&details))?
    } else {
        show::details(&details, palette)
    })
}

/// Waits for the interval. No message arrives, and a signal ends the process.
fn pause(interval: Duration) {
    let (_sender, receiver) = mpsc::channel::<Infallible>();
    let _ = receiver.recv_timeout(interval);
}

fn on_screen(watch: &Watch, palette: Palette) -> Result<Outcome, Failure> {
    let screen = Screen::enter()?;
    let mut reports = 0;
    loop {
        // With a limit, unlocked and clean locks are omitted first, so the locks in use
        // are on the screen.
        let limit = watch.limit.limit.min(screen.room()?);
        let text = report(watch, limit, palette).unwrap_or_else(|failure| match failure {
            Failure::Failed(text) | Failure::Refused(text) => Style::Bad.paint(palette, &text),
            Failure::Output(error) => error.to_string(),
        });
        screen.draw(&headline(watch, palette), &text)?;
        reports += 1;
        if watch.count.is_some_and(|count| reports >= count) {
            return Ok(Outcome::Done);
        }
        if wait_for_key(watch.interval)? == Action::Quit {
            return Ok(Outcome::Done);
        }
    }
}

fn headline(watch: &Watch, palette: Palette) -> String {
    let name = escape(&watch.subject.address.to_string());
    let now = text::date(SystemTime::now());
    let text = format!("{name} every {:?}, {now}; q quits", watch.interval);
    Style::Faint.paint(palette, &text)
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

    /// Returns how many locks fit on the screen.
    fn room(&self) -> io::Result<usize> {
        /// The number of the other lines.
        const OTHER_LINES: usize = 17;
        let (_, height) = size()?;
        Ok(usize::from(height).saturating_sub(OTHER_LINES).max(1))
    }

    /// Replaces the content of the screen.
    fn draw(&self, headline: &str, text: &str) -> io::Result<()> {
        let (_, height) = size()?;
        let mut out = io::stdout().lock();
        let lines = std::iter::once(headline).chain(text.lines());
        for (row, line) in (0..height).zip(lines) {
            queue!(out, MoveTo(0, row))?;
            out.write_all(line.as_bytes())?;
            queue!(out, Clear(ClearType::UntilNewLine))?;
        }
        let used = 1 + text.lines().count();
        if let Some(row) = u16::try_from(used).ok().filter(|row| *row < height) {
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
