//! What happened in a run, in order: what is printed of a failing seed, and what two runs of one seed have in common.

use std::fmt::Display;
use std::sync::{Arc, Mutex};

use claviger::crypto::sha256;
use tokio::time::Instant;

use crate::lock;

/// Lines, each with its time, and what was wrong.
#[derive(Clone)]
pub(crate) struct Trace {
    begun: Instant,
    lines: Arc<Mutex<Vec<String>>>,
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), lines: Arc::default(), wrong: Arc::default() }
    }

    fn at(&self, text: impl Display) -> String {
        format!("{:>8} {text}", self.begun.elapsed().as_millis())
    }

    pub(crate) fn note(&self, text: impl Display) {
        lock(&self.lines).push(self.at(text));
    }

    /// Something that must not be.
    pub(crate) fn wrong(&self, text: impl Display) {
        let text = self.at(format!("WRONG: {text}"));
        lock(&self.lines).push(text.clone());
        lock(&self.wrong).push(text);
    }

    pub(crate) fn end(&self) -> Outcome {
        let lines = lock(&self.lines).clone();
        let wrong = lock(&self.wrong).clone();
        let digest = sha256(lines.join("\n").as_bytes());
        Outcome { lines, wrong, digest }
    }
}

/// How a run went.
pub(crate) struct Outcome {
    pub(crate) lines: Vec<String>,
    pub(crate) wrong: Vec<String>,
    pub(crate) digest: [u8; 32],
}
