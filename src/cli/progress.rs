//! How far a job is, for whoever watches: a bar on a terminal, else a line of JSON now and then. On stderr.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::maintenance::progress::Progress;
use crate::storage::Storage;

/// How often a bar is drawn.
const DRAWN_EVERY: Duration = Duration::from_millis(250);
/// How often a line is written.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What is shown of a job while it runs.
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    task: JoinHandle<()>,
}

/// What there is to show.
struct View {
    job: &'static str,
    progress: Arc<Progress>,
    storage: Storage,
    begun: Instant,
    /// Objects that an earlier run has treated.
    before: u64,
}

/// Whether somebody watches.
pub(super) fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

impl Shown {
    /// Shows the job from now on.
    pub(super) fn begin(job: &'static str, progress: Arc<Progress>, storage: Storage) -> Self {
        let before = Progress::of(&progress.listed);
        let view = View { job, progress, storage, begun: Instant::now(), before };
        if !is_watched() {
            return Self { bar: None, task: tokio::spawn(view.write_lines()) };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("a good template"));
        Self { task: tokio::spawn(view.draw(bar.clone())), bar: Some(bar) }
    }

    /// Prints something while the bar is out of the way.
    pub(super) fn aside(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl View {
    async fn write_lines(self) {
        loop {
            tokio::time::sleep(LINE_EVERY).await;
            eprintln!("{}", self.line());
        }
    }

    fn line(&self) -> Value {
        let seconds = self.begun.elapsed().as_secs_f64();
        let mut line = json!({
            "job": self.job, "seconds": seconds.round(), "requests": self.storage.requests(), "objects_s": self.rate(),
        });
        for (name, count) in self.progress.counts().named() {
            line[name] = count.into();
        }
        line
    }

    /// Objects in a second.
    fn rate(&self) -> f64 {
        let treated = Progress::of(&self.progress.listed).saturating_sub(self.before);
        (treated as f64 / self.begun.elapsed().as_secs_f64().max(0.001) * 10.0).round() / 10.0
    }

    async fn draw(self, bar: ProgressBar) {
        let mut has_total = false;
        loop {
            let total = Progress::of(&self.progress.total);
            if total > 0 && !has_total {
                has_total = true;
                let style = "{spinner} {msg} [{wide_bar}] {percent}%";
                bar.set_style(ProgressStyle::with_template(style).expect("a good template").progress_chars("=> "));
            }
            let counts = self.progress.counts();
            bar.set_length(total.max(counts.listed));
            bar.set_position(counts.listed);
            bar.set_message(self.message(total));
            bar.tick();
            tokio::time::sleep(DRAWN_EVERY).await;
        }
    }

    fn message(&self, total: u64) -> String {
        let (counts, rate) = (self.progress.counts(), self.rate());
        let of = if total > 0 { format!("/{total}") } else { String::new() };
        let failed = if counts.failed > 0 { format!(", {} FAILED", counts.failed) } else { String::new() };
        let left = match total.checked_sub(counts.listed) {
            Some(left) if total > 0 && rate > 0.0 => format!(", {} left", span(left as f64 / rate)),
            _ => String::new(),
        };
        format!("{} {}{of}{failed}, {rate}/s, {}{left}", self.job, counts.listed, bytes(counts.bytes))
    }
}

/// A time, in words.
pub(super) fn span(seconds: f64) -> String {
    match seconds.round() as u64 {
        seconds @ 0..100 => format!("{seconds} s"),
        seconds @ 100..6_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A number of bytes, in words.
pub(super) fn bytes(count: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} bytes") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_bytes_are_told_in_words() {
        assert_eq!([span(0.4), span(99.0), span(100.0), span(7_200.0)], ["0 s", "99 s", "1 min 40 s", "2 h 0 min"]);
        assert_eq!([bytes(0), bytes(1023), bytes(1536)], ["0 bytes", "1023 bytes", "1.5 KiB"]);
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    }
}
