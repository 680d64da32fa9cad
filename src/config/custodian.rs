//! `[custodian]` and `[leases]`: who holds the KEKs, and how long branch keys are leased.

use super::problem::Mistake;
use super::section::Section;
use super::transit;
use crate::custody::lease::LeaseSettings;
use crate::transit::settings::TransitSettings;

/// The one kind there is: a custodian on the network, OpenBao, Vault or one of ours.
pub(super) fn read(section: Section<'_>) -> Option<TransitSettings> {
    let only = |text: &str| if text == "transit" { Ok(()) } else { Err(Mistake::Choice(vec!["transit"])) };
    section.required("kind").and_then(|text| text.parsed(only))?;
    let read = transit::read(&section);
    section.finish();
    read
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
