//! `[custodian]` and `[leases]`: who holds the KEKs, and how long branch keys are leased.

use std::path::PathBuf;

use super::files;
use super::problem::Mistake;
use super::section::{Section, Text};
use super::transit;
use crate::custodian::passphrase::Passphrase;
use crate::custody::lease::LeaseSettings;
use crate::transit::settings::TransitSettings;

/// Who holds the KEKs.
pub enum CustodianSection {
    /// The engine in this process.
    Embedded(EmbeddedSection),
    /// A custodian on the network: OpenBao, Vault or one of ours.
    Transit(TransitSettings),
}

/// The embedded custodian: its engine runs in this process.
pub struct EmbeddedSection {
    /// The sealed KEKs.
    pub keyring_file: PathBuf,
    /// The line that names it.
    pub keyring_line: usize,
    /// What opens them.
    pub passphrase: Passphrase,
    /// Where every decision about a key is written before it is acted on.
    pub audit_file: PathBuf,
}

pub(super) fn read(section: Section<'_>) -> Option<CustodianSection> {
    // Which keys belong here hangs on the kind, so that without one nothing more can be said.
    let kind = section.required("kind").and_then(|text| text.parsed(kind))?;
    let read = match kind {
        Kind::Embedded => embedded(&section).map(CustodianSection::Embedded),
        Kind::Transit => transit::read(&section).map(CustodianSection::Transit),
    };
    section.finish();
    read
}

enum Kind {
    Embedded,
    Transit,
}

fn kind(text: &str) -> Result<Kind, Mistake> {
    match text {
        "embedded" => Ok(Kind::Embedded),
        "transit" => Ok(Kind::Transit),
        _ => Err(Mistake::Choice(vec!["embedded", "transit"])),
    }
}

fn embedded(section: &Section<'_>) -> Option<EmbeddedSection> {
    let keyring = section.required("keyring_file");
    let keyring = keyring.and_then(|text| Some((text.parsed(|_| sealed_file(&text))?, text.line)));
    let passphrase = section.required("passphrase_file");
    let passphrase = passphrase.and_then(|text| text.parsed(|_| Passphrase::from_file(&text.path())));
    let audit = section.required("audit_file").and_then(|text| text.parsed(|_| writable(&text)));
    let (keyring_file, keyring_line) = keyring?;
    Some(EmbeddedSection { keyring_file, keyring_line, passphrase: passphrase?, audit_file: audit? })
}

fn sealed_file(text: &Text<'_>) -> Result<PathBuf, Mistake> {
    let path = text.path();
    files::closed_to_others(&path, &files::open(&path)?)?;
    Ok(path)
}

fn writable(text: &Text<'_>) -> Result<PathBuf, Mistake> {
    let path = text.path();
    let folder_is_there = path.parent().is_some_and(|folder| folder.as_os_str().is_empty() || folder.is_dir());
    if folder_is_there { Ok(path) } else { Err(Mistake::NoFolder { path }) }
}

const DAY_S: u64 = 24 * 3600;

pub(super) fn leases(section: Option<Section<'_>>) -> LeaseSettings {
    let default = LeaseSettings::default();
    let Some(section) = section else { return default };
    let leases = LeaseSettings {
        read_lease_s: section.number("read_lease_s", 1..=DAY_S, default.read_lease_s),
        write_renew_s: section.number("write_renew_s", 1..=DAY_S, default.write_renew_s),
        write_age_max_s: section.number("write_age_max_s", 1..=366 * DAY_S, default.write_age_max_s),
        write_objects_max: section.number("write_objects_max", 1..=1 << 32, default.write_objects_max),
        write_bytes_max: section.number("write_bytes_max", 1..=1 << 50, default.write_bytes_max),
        refresh_percent: section.number("refresh_percent", 1..=100, default.refresh_percent),
        not_found_s: section.number("not_found_s", 0..=3600, default.not_found_s),
        denied_s: section.number("denied_s", 0..=60, default.denied_s),
        rpc_deadline_s: section.number("rpc_deadline_s", 1..=60, default.rpc_deadline_s),
        directory_deadline_s: section.number("directory_deadline_s", 1..=120, default.directory_deadline_s),
        calls_max: section.number("calls_max", 1..=65_536, default.calls_max),
        read_entries_max: section.number("read_entries_max", 1..=1 << 24, default.read_entries_max),
        write_slots_max: section.number("write_slots_max", 1..=1 << 20, default.write_slots_max),
        write_callers_max: section.number("write_callers_max", 1..=1 << 20, default.write_callers_max),
        refusals_per_bucket_max: section.number("refusals_per_bucket_max", 1..=65_536, default.refusals_per_bucket_max),
        refusal_buckets_max: section.number("refusal_buckets_max", 1..=65_536, default.refusal_buckets_max),
    };
    section.finish();
    leases
}
