//! The progress: a bar on a terminal, otherwise a line every ten seconds.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::plan::Limit;

#[derive(Debug)]
pub(crate) struct Progress {
    limit: Limit,
    shown: Shown,
    /// The time of the next update.
    next: Duration,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    pub(crate) fn new(limit: Limit) -> Self {
        let shown = if std::io::stderr().is_terminal() {
            let (len, template) = match limit {
                Limit::Time(time) => (time.as_secs(), "{bar:40} {pos}/{len} s  {msg}"),
                Limit::Kills(kills) => (kills, "{bar:40} {pos}/{len} kills, {eta} left  {msg}"),
            };
            let style = ProgressStyle::with_template(template).expect("the template is valid");
            Shown::Bar(ProgressBar::new(len).with_style(style))
        } else {
            Shown::Lines
        };
        Self {
            limit,
            shown,
            next: Duration::ZERO,
        }
    }

    pub(crate) fn show(&mut self, elapsed: Duration, kills: u64) {
        if elapsed < self.next {
            return;
        }
        match &self.shown {
            Shown::Bar(bar) => {
                self.next = elapsed + Duration::from_millis(200);
                match self.limit {
                    Limit::Time(_) => bar.set_position(elapsed.as_secs()),
                    Limit::Kills(_) => bar.set_position(kills),
                }
                bar.set_message(format!("{kills} killed"));
            }
            Shown::Lines => {
                self.next = elapsed + Duration::from_secs(10);
                eprintln!("soak: {} s, {kills} kills", elapsed.as_secs());
            }
        }
    }

    pub(crate) fn end(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}
