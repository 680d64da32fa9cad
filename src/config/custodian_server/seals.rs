//! `[[seal]]`: what the store's root key is kept under.

use std::sync::Arc;
use std::time::Duration;

use crate::config::problem::Mistake;
use crate::config::section::{Section, Text};
use crate::config::{files, transit};
use crate::custodian::passphrase::Passphrase;
use crate::custodian::seal::ITERATIONS_DEFAULT;
use crate::custodian::seal::config::SEALS_MAX;
use crate::custodian::seal::pkcs11::Pkcs11Settings;
use crate::names::KekName;
use crate::transit::settings::TransitSettings;

/// A key in another key server.
pub struct RemoteSeal {
    /// The server.
    pub settings: TransitSettings,
    /// The name of the key in its Transit engine.
    pub key: KekName,
}

/// One seal.
pub enum SealSection {
    /// Shares for people.
    Shares {
        /// How many open it.
        threshold: u8,
        /// How many there are.
        count: u8,
    },
    /// A passphrase: for demonstration.
    Passphrase {
        /// The passphrase.
        passphrase: Arc<Passphrase>,
        /// PBKDF2 iterations of a seal that is made.
        iterations: u32,
    },
    /// A key in a PKCS#11 token.
    Pkcs11(Pkcs11Settings),
    /// A key in another key server.
    Transit(RemoteSeal),
}

const KINDS: [&str; 4] = ["passphrase", "shares", "pkcs11", "transit"];

pub(super) fn read(root: &Section<'_>) -> Option<Vec<SealSection>> {
    let sections = root.sections("seal");
    let count = sections.len();
    if !root.has("seal") {
        root.note(Mistake::Missing("[[seal]]"));
    } else if !(1..=SEALS_MAX).contains(&count) {
        root.note_at("seal", Mistake::SealCount);
    }
    let seals: Vec<SealSection> = sections.into_iter().filter_map(seal).collect();
    (seals.len() == count && (1..=SEALS_MAX).contains(&count)).then_some(seals)
}

fn seal(section: Section<'_>) -> Option<SealSection> {
    let kind = section.required("kind").and_then(|text| {
        text.parsed(|text| KINDS.into_iter().find(|kind| *kind == text).ok_or(Mistake::Choice(KINDS.to_vec())))
    })?;
    let read = match kind {
        "shares" => shares(&section),
        "passphrase" => passphrase(&section),
        "pkcs11" => pkcs11(&section),
        _ => remote(&section),
    };
    section.finish();
    read
}

fn shares(section: &Section<'_>) -> Option<SealSection> {
    let count: u8 = section.number("count", 3..=255, 3);
    let threshold: u8 = section.number("threshold", 2..=255, 2);
    if threshold > count {
        section.note_at("threshold", Mistake::Range { least: 2, most: count.into() });
        return None;
    }
    Some(SealSection::Shares { threshold, count })
}

fn passphrase(section: &Section<'_>) -> Option<SealSection> {
    let text = section.required("passphrase_file");
    let passphrase = text.and_then(|text| text.parsed(|_| Passphrase::from_file(&text.path())));
    let iterations = section.number("iterations", 100_000..=10_000_000, ITERATIONS_DEFAULT);
    Some(SealSection::Passphrase { passphrase: Arc::new(passphrase?), iterations })
}

fn pkcs11(section: &Section<'_>) -> Option<SealSection> {
    let module = section.required("module").and_then(|text| existing(&text));
    let token = section.required("token").map(|text| text.text.to_owned());
    let key = section.required("key").map(|text| text.text.to_owned());
    let pin_file = section.required("pin_file").and_then(|text| {
        let path = text.path();
        let file = text.parsed(|_| files::open(&path))?;
        text.parsed(|_| files::closed_to_others(&path, &file)).map(|()| path)
    });
    let timeout = Duration::from_secs(section.number("timeout_s", 1..=300, 10));
    Some(SealSection::Pkcs11(Pkcs11Settings {
        module: module?,
        token: token?,
        key: key?,
        pin_file: pin_file?,
        timeout,
    }))
}

fn existing(text: &Text<'_>) -> Option<std::path::PathBuf> {
    let path = text.path();
    text.parsed(|_| files::open(&path)).map(|_| path)
}

fn remote(section: &Section<'_>) -> Option<SealSection> {
    let key = section.required("key").and_then(|text| text.parsed(KekName::new));
    let settings = transit::read(section);
    Some(SealSection::Transit(RemoteSeal { settings: settings?, key: key? }))
}
