//! What happened in a run, in order: what is printed of a failing seed, and what two runs of one seed have in common.

use std::fmt::Display;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::lock;

/// What a line of something that must not be has in it.
const WRONG: &str = " WRONG: ";

/// Lines, each with its time.
#[derive(Clone)]
pub(crate) struct Trace {
    begun: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), lines: Arc::default() }
    }

    pub(crate) fn note(&self, text: impl Display) {
        lock(&self.lines).push(format!("{:>8} {text}", self.begun.elapsed().as_millis()));
    }

    /// Something that must not be.
    pub(crate) fn wrong(&self, text: impl Display) {
        self.note(format!("{}{text}", WRONG.trim_start()));
    }

    pub(crate) fn end(&self) -> Outcome {
        Outcome::new(lock(&self.lines).clone())
    }
}

/// How a run went.
pub(crate) struct Outcome {
    pub(crate) lines: Vec<String>,
    pub(crate) wrong: Vec<String>,
}

impl Outcome {
    pub(crate) fn new(lines: Vec<String>) -> Self {
        let wrong = lines.iter().filter(|line| line.contains(WRONG)).cloned().collect();
        Self { lines, wrong }
    }
}
