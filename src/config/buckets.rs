//! `[default_bucket]` and `[[bucket]]`: which KEKs encrypt and open which bucket, and where it lies.
//!
//! **Invariant:** a KEK comes from the file or not at all: every rule has to name its own.

use std::collections::HashMap;

use super::problem::Mistake;
use super::section::{Section, Text};
use super::sites::Server;
use crate::names::{InvalidName, KekName, LogicalBucket, WriterDomain};
use crate::object::bucket::{BucketRule, Buckets, KeyRule, Unencrypted};

/// A KEK that new objects are encrypted under, and where the configuration says so.
#[derive(Debug, Clone)]
pub struct KekUse {
    /// The KEK.
    pub kek: KekName,
    /// The line.
    pub line: usize,
    /// The key, such as `bucket.kek`.
    pub key: String,
}

/// What the rules refer to, and what they are collected in.
struct Rules<'a> {
    writer: Option<&'a WriterDomain>,
    servers: &'a [Server],
    names: Lines,
    /// By the place of the storage server.
    storage_names: HashMap<usize, Lines>,
    keks: Vec<KekUse>,
}

/// The buckets of each of `servers`, in their order.
pub(super) fn read(
    root: &Section<'_>,
    writer: Option<&WriterDomain>,
    servers: &[Server],
) -> Option<(Vec<Buckets>, Vec<KekUse>)> {
    let default = root.section("default_bucket");
    let sections = root.sections("bucket");
    if !root.has("default_bucket") && !root.has("bucket") {
        root.note(Mistake::NoBucket);
    }
    let default_is_right = default.is_some() == root.has("default_bucket");
    let (names, storage_names) = (Lines::new(), HashMap::new());
    let mut rules = Rules { writer, servers, names, storage_names, keks: Vec::new() };
    let others = default.map(|section| {
        let keys = keys(&section, &mut rules);
        section.finish();
        keys
    });
    let named: Vec<_> = sections.into_iter().map(|section| rule(section, &mut rules)).collect();
    let named = named.into_iter().collect::<Option<Vec<(usize, BucketRule)>>>()?;
    let mut others = match others {
        Some(keys) => Some(keys?),
        None if default_is_right => None,
        None => return None,
    };
    let elsewhere: Vec<_> =
        named.iter().filter(|(server, _)| *server != 0).map(|(_, rule)| rule.name.clone()).collect();
    let mut of_server: Vec<Vec<BucketRule>> = servers.iter().map(|_| Vec::new()).collect();
    for (server, rule) in named {
        of_server[server].push(rule);
    }
    let mut all = Vec::with_capacity(servers.len());
    for (server, named) in servers.iter().zip(of_server) {
        let state_bucket = server.state_bucket()?.to_owned();
        // Those without a rule of their own are on the first.
        let buckets = Buckets::new(named, others.take(), state_bucket).map_err(|error| root.note(error)).ok()?;
        all.push(if all.is_empty() { buckets.without(elsewhere.clone()) } else { buckets });
    }
    Some((all, rules.keks))
}

/// The lines in which names stand.
type Lines = HashMap<String, usize>;

/// Whether `text` stands there for the first time; if not, that is noted.
fn once(lines: &mut Lines, text: &Text<'_>) -> bool {
    if let Some(line) = lines.get(text.text) {
        text.note(Mistake::Duplicate(*line));
        return false;
    }
    lines.insert(text.text.to_owned(), text.line);
    true
}

/// A rule, and the place of the storage server that its bucket lies on.
fn rule(section: Section<'_>, rules: &mut Rules<'_>) -> Option<(usize, BucketRule)> {
    let name = section.required("name");
    let storage_name = section.text("storage_name");
    let keys = keys(&section, rules);
    let storage_name_is_right = storage_name.is_some() == section.has("storage_name");
    let server = server(&section, rules.servers);
    section.finish();
    let (name, server) = (name?, server?);
    let storage = storage_name.as_ref().unwrap_or(&name);
    // A name that stands twice is noted once, also where it serves as storage name.
    let unique = once(&mut rules.names, &name) && once(rules.storage_names.entry(server).or_default(), storage);
    let state_bucket = rules.servers[server].state_bucket();
    let state = [&name, storage].into_iter().find(|text| Some(text.text) == state_bucket);
    if let Some(text) = state {
        text.note(Mistake::StateBucket);
    }
    let logical = name.parsed(LogicalBucket::new)?;
    let physical = storage.parsed(LogicalBucket::new)?.as_str().to_owned();
    if !storage_name_is_right || !unique || state.is_some() {
        return None;
    }
    Some((server, BucketRule { name: logical, physical, keys: keys? }))
}

/// Which of `servers` the bucket lies on.
fn server(section: &Section<'_>, servers: &[Server]) -> Option<usize> {
    let Some(text) = section.text("site") else { return (!section.has("site")).then_some(0) };
    let found = servers.iter().position(|server| server.name.as_deref() == Some(text.text));
    if found.is_none() {
        text.note(Mistake::UnknownSite(servers.iter().filter_map(|server| server.name.clone()).collect()));
    }
    found
}

fn keys(section: &Section<'_>, rules: &mut Rules<'_>) -> Option<KeyRule> {
    let own = section.required("kek").and_then(|text| kek(&text, rules));
    let further: Vec<Option<KekName>> = section.texts("further_keks").iter().map(|text| kek(text, rules)).collect();
    let former_keks = names(section, "former_keks", KekName::new);
    let listed = section.has("accept_writers");
    let accept_writers = names(section, "accept_writers", WriterDomain::new);
    let accept_writers = if listed { accept_writers? } else { vec![rules.writer?.clone()] };
    let unencrypted = unencrypted(section);
    if accept_writers.is_empty() {
        section.note_at("accept_writers", Mistake::EmptyList);
        return None;
    }
    let further_keks = further.into_iter().collect::<Option<_>>()?;
    Some(KeyRule { kek: own?, further_keks, former_keks: former_keks?, accept_writers, unencrypted: unencrypted? })
}

fn unencrypted(section: &Section<'_>) -> Option<Unencrypted> {
    if !section.has("unencrypted") {
        return Some(Unencrypted::default());
    }
    section.text("unencrypted")?.parsed(|text| match text {
        "refuse" => Ok(Unencrypted::Refuse),
        "migrate" => Ok(Unencrypted::Migrate),
        _ => Err(Mistake::Choice(vec!["refuse", "migrate"])),
    })
}

fn kek(text: &Text<'_>, rules: &mut Rules<'_>) -> Option<KekName> {
    let kek = text.parsed(KekName::new)?;
    rules.keks.push(KekUse { kek: kek.clone(), line: text.line, key: text.key.clone() });
    Some(kek)
}

/// All names of a list, or `None` if one is wrong.
fn names<T>(section: &Section<'_>, key: &'static str, parse: fn(&str) -> Result<T, InvalidName>) -> Option<Vec<T>> {
    let texts = section.texts(key);
    let names: Vec<Option<T>> = texts.iter().map(|text| text.parsed(parse)).collect();
    names.into_iter().collect()
}
