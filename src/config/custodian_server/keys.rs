//! `[keys]`: what the life of keys is bound to, and which sites have to hold which branch keys.

use std::collections::{BTreeMap, HashMap};

use crate::config::problem::Mistake;
use crate::config::section::Section;
use crate::custodian::destruction::Wait;
use crate::custodian::engine::RETIRE_WAIT_S;
use crate::custodian::store::SITES_MAX;
use crate::names::LogicalBucket;

/// `[keys]`.
#[derive(Debug, Clone)]
pub struct KeysSection {
    /// The sites that have to hold every branch key.
    pub sites: Vec<String>,
    /// The sites that have to hold those of these buckets instead.
    pub sites_of: BTreeMap<LogicalBucket, Vec<String>>,
    /// Seconds between a rotation and the retirement of the versions before.
    pub retire_wait_s: u64,
    /// How long is waited before something is destroyed.
    pub destroy_wait: Wait,
}

impl Default for KeysSection {
    fn default() -> Self {
        let (sites, sites_of) = (vec!["main".to_owned()], BTreeMap::new());
        Self { sites, sites_of, retire_wait_s: RETIRE_WAIT_S, destroy_wait: Wait::days(30) }
    }
}

/// The name of a site: of a state bucket that has to hold the branch-key directory.
pub(in crate::config) fn site(text: &str) -> Result<String, Mistake> {
    super::instance(text).map_err(|_| Mistake::Site)
}

pub(super) fn read(section: Option<Section<'_>>) -> Option<KeysSection> {
    let standard = KeysSection::default();
    let Some(section) = section else { return Some(standard) };
    let texts = section.texts("sites");
    let sites: Vec<String> = texts.iter().filter_map(|text| text.parsed(site)).collect();
    let are_good = sites.len() == texts.len();
    let sites = if sites.is_empty() { standard.sites } else { sites };
    let further = section.sections("site");
    let is_short = sites.len() + further.len() <= SITES_MAX;
    if !is_short {
        section.note_at("sites", Mistake::Sites);
    }
    let sites_of = sites_of(further, &sites);
    let retire_wait_s = retire_wait_s(&section);
    let destroy_wait = destroy_wait(&section);
    section.finish();
    let sites_of = sites_of?;
    (are_good && is_short).then_some(KeysSection { sites, sites_of, retire_wait_s, destroy_wait })
}

/// `[[keys.site]]`: the buckets whose branch keys lie there, and not at `sites`.
fn sites_of(sections: Vec<Section<'_>>, sites: &[String]) -> Option<BTreeMap<LogicalBucket, Vec<String>>> {
    let (mut of, mut lines, mut are_good): (BTreeMap<_, Vec<String>>, _, _) = (BTreeMap::new(), HashMap::new(), true);
    for section in sections {
        let text = section.required("name");
        let name = text.as_ref().and_then(|text| text.parsed(site));
        if let (Some(text), Some(name)) = (&text, &name) {
            if let Some(line) = lines.insert(name.clone(), text.line) {
                text.note(Mistake::Duplicate(line));
            } else if sites.contains(name) {
                text.note(Mistake::SiteOfAll);
            }
        }
        if !section.has("buckets") {
            section.note(Mistake::Missing("buckets"));
        } else if section.is_empty_list("buckets") {
            section.note_at("buckets", Mistake::EmptyList);
        }
        for text in section.texts("buckets") {
            let (Some(bucket), Some(name)) = (text.parsed(LogicalBucket::new), &name) else {
                are_good = false;
                continue;
            };
            let sites = of.entry(bucket).or_default();
            if sites.contains(name) {
                text.note(Mistake::Duplicate(text.line));
            }
            sites.push(name.clone());
        }
        are_good &= name.is_some();
        section.finish();
    }
    are_good.then_some(of)
}

/// In days, or for looking at it only, in seconds.
fn destroy_wait(section: &Section<'_>) -> Wait {
    let wait = Wait::days(section.number("destroy_wait_days", 7..=365, 30));
    let insecure = "insecure_destroy_wait_s";
    let seconds = section.number(insecure, 0..=365 * 86_400, 0);
    if !section.has(insecure) {
        return wait;
    }
    if section.has("destroy_wait_days") {
        section.note_at(insecure, Mistake::TwoWaits("destroy_wait_days"));
    }
    Wait { seconds, insecure: true }
}

/// No shorter than proxies use what they were given before a rotation; or for looking at it only, whatever is asked for.
fn retire_wait_s(section: &Section<'_>) -> u64 {
    let wait_s = section.number("retire_wait_s", RETIRE_WAIT_S..=31_536_000, RETIRE_WAIT_S);
    let insecure = "insecure_retire_wait_s";
    let insecure_s = section.number(insecure, 0..=31_536_000, 0);
    if !section.has(insecure) {
        return wait_s;
    }
    if section.has("retire_wait_s") {
        section.note_at(insecure, Mistake::TwoWaits("retire_wait_s"));
    }
    insecure_s
}
