//! What the engine looks at: all records of the store at one moment, in memory.
//!
//! **Invariant:** a snapshot holds every record as it was at its generation or later, so that whoever sees the store at that generation
//! knows that nothing in the snapshot is older.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::crypto::{scrubbing_stack, sha256};
use crate::custodian::approval::Proposal;
use crate::custodian::backup::BackupNote;
use crate::custodian::barrier::Kind;
use crate::custodian::destruction::Destruction;
use crate::custodian::grant::Grant;
use crate::custodian::kek::Kek;
use crate::custodian::policy::Policy;
use crate::custodian::revocation::Revocation;
use crate::custodian::store::{Corruption, Record, SealedStore, StoreError};
use crate::names::KekName;

use super::edit::{Edit, Encoded, Item, POLICY_NAME};
use super::events::{Event, KekEvent};

/// A value, the version of its record and what identifies its content.
pub(super) struct Stored<T> {
    pub(super) value: T,
    pub(super) version: u64,
    pub(super) print: Print,
}

/// SHA-256 of a record's content. Versions begin at 1 again where a record was removed and made anew.
pub(super) type Print = [u8; 32];

type Named<T> = BTreeMap<String, Arc<Stored<T>>>;

/// All records at one moment.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) generation: u64,
    pub(super) keks: HashMap<KekName, Arc<Stored<Kek>>>,
    pub(super) proposals: Named<Proposal>,
    pub(super) grants: Named<Grant>,
    pub(super) revocations: Named<Revocation>,
    pub(super) policy: Arc<Stored<Policy>>,
    /// By the names of their records.
    pub(super) destructions: Named<Destruction>,
    pub(super) backups: Named<BackupNote>,
}

/// A record that is authentic and says nothing that this program understands.
fn not_understood(kind: Kind) -> StoreError {
    tracing::error!(
        kind = kind.as_str(),
        "a record of the store is authentic, but cannot be read: was it written by a later version?"
    );
    StoreError::Corrupt(Corruption::Row)
}

pub(super) fn parse_policy(bytes: &[u8]) -> Result<Policy, StoreError> {
    let text = std::str::from_utf8(bytes).map_err(|_| not_understood(Kind::Policy))?;
    Policy::parse(text).map_err(|_| not_understood(Kind::Policy))
}

pub(super) fn parse_kek(record: &Record) -> Result<Kek, StoreError> {
    Kek::parse(&record.body).map_err(|_| not_understood(Kind::Kek))
}

/// The print of a record, which may be a key's.
fn print_of(body: &[u8]) -> Print {
    scrubbing_stack(|| sha256(body))
}

/// All records of a kind. What did not change since `before` is not parsed again.
async fn list<N: Ord + std::hash::Hash + Eq, T>(
    store: &SealedStore,
    kind: Kind,
    before: impl Fn(&N) -> Option<Arc<Stored<T>>>,
    name: impl Fn(&str) -> Option<N>,
    parse: impl Fn(&Record) -> Result<T, StoreError>,
) -> Result<(u64, Vec<(N, Arc<Stored<T>>)>), StoreError> {
    let listing = store.list(kind).await?;
    let mut all = Vec::with_capacity(listing.records.len());
    for record in &listing.records {
        let name = name(&record.name).ok_or_else(|| not_understood(kind))?;
        let (version, print) = (record.version, print_of(&record.body));
        let same = before(&name).filter(|stored| stored.version == version && stored.print == print);
        let stored = match same {
            Some(stored) => stored,
            None => Arc::new(Stored { value: parse(record)?, version, print }),
        };
        all.push((name, stored));
    }
    Ok((listing.epoch.generation(), all))
}

async fn list_named<T>(
    store: &SealedStore,
    kind: Kind,
    before: Option<&Named<T>>,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<(u64, Named<T>), StoreError> {
    let before = |name: &String| before.and_then(|before| before.get(name)).cloned();
    let parse = |record: &Record| parse(&record.body).ok_or_else(|| not_understood(kind));
    let (generation, all) = list(store, kind, before, |name| Some(name.to_owned()), parse).await?;
    Ok((generation, all.into_iter().collect()))
}

impl Snapshot {
    /// Reads the store, which has a policy.
    pub(super) async fn load(store: &SealedStore, before: Option<&Self>) -> Result<Self, StoreError> {
        let kek_before = |name: &KekName| before.and_then(|before| before.keks.get(name)).cloned();
        let kek_name = |name: &str| KekName::new(name).ok();
        let (of_keks, keks) = list(store, Kind::Kek, kek_before, kek_name, parse_kek).await?;
        let named = before.map(|before| &before.proposals);
        let (of_proposals, proposals) =
            list_named(store, Kind::Proposal, named, |bytes| Proposal::parse(bytes).ok()).await?;
        let named = before.map(|before| &before.grants);
        let (of_grants, grants) = list_named(store, Kind::Grant, named, |bytes| Grant::parse(bytes).ok()).await?;
        let named = before.map(|before| &before.revocations);
        let (of_revocations, revocations) =
            list_named(store, Kind::Revocation, named, |bytes| Revocation::parse(bytes).ok()).await?;
        let named = before.map(|before| &before.destructions);
        let (of_destructions, destructions) =
            list_named(store, Kind::Destruction, named, |bytes| Destruction::parse(bytes).ok()).await?;
        let named = before.map(|before| &before.backups);
        let (of_backups, backups) =
            list_named(store, Kind::Backup, named, |bytes| BackupNote::parse(bytes).ok()).await?;
        let policy_before = |_: &String| before.map(|before| Arc::clone(&before.policy));
        let policy_name = |name: &str| (name == POLICY_NAME).then(|| name.to_owned());
        let parse = |record: &Record| parse_policy(&record.body);
        let (of_policy, mut policies) = list(store, Kind::Policy, policy_before, policy_name, parse).await?;
        let (_, policy) = policies.pop().ok_or_else(|| not_understood(Kind::Policy))?;
        let generation = of_keks
            .min(of_proposals)
            .min(of_grants)
            .min(of_revocations)
            .min(of_policy)
            .min(of_destructions)
            .min(of_backups);
        Ok(Self {
            generation,
            keks: keks.into_iter().collect(),
            proposals,
            grants,
            revocations,
            policy,
            destructions,
            backups,
        })
    }

    /// The version of a record; 0 if there is none.
    pub(super) fn version_of(&self, kind: Kind, name: &str) -> u64 {
        fn of<T>(stored: Option<&Arc<Stored<T>>>) -> u64 {
            stored.map_or(0, |stored| stored.version)
        }
        match kind {
            Kind::Kek => of(KekName::new(name).ok().and_then(|name| self.keks.get(&name))),
            Kind::Proposal => of(self.proposals.get(name)),
            Kind::Grant => of(self.grants.get(name)),
            Kind::Revocation => of(self.revocations.get(name)),
            Kind::Destruction => of(self.destructions.get(name)),
            Kind::Backup => of(self.backups.get(name)),
            Kind::Policy => of((name == POLICY_NAME).then_some(&self.policy)),
            _ => 0,
        }
    }

    /// As it is after `edits`, which are `encoded` and made `generation` out of this one.
    pub(super) fn after(&self, generation: u64, edits: Vec<Edit>, encoded: &[Encoded]) -> Self {
        let mut next = Self { generation, ..self.clone() };
        for (Edit { expected, item }, encoded) in edits.into_iter().zip(encoded) {
            let now = (expected + 1, encoded.body.as_ref().map(|body| print_of(body)).unwrap_or_default());
            let (version, print) = now;
            match item {
                Item::Kek(name, Some(value)) => {
                    drop(next.keks.insert(name, Arc::new(Stored { value, version, print })));
                }
                Item::Kek(name, None) => drop(next.keks.remove(&name)),
                Item::Proposal(id, value) => put(&mut next.proposals, id, value, now),
                Item::Grant(id, value) => put(&mut next.grants, id, value, now),
                Item::Revocation(principal, value) => put(&mut next.revocations, principal, value, now),
                Item::Destruction(value) => put(&mut next.destructions, value.target.record_name(), Some(value), now),
                Item::Backup(note) => put(&mut next.backups, note.id.clone(), Some(note), now),
                Item::Policy(value) => next.policy = Arc::new(Stored { value, version, print }),
            }
        }
        next
    }

    /// What changed since `before`, for those who watch.
    pub(super) fn events_since(&self, before: &Self) -> Vec<Event> {
        let mut events = Vec::new();
        if self.policy.value.hash() != before.policy.value.hash() {
            events.push(Event::Policy { hash: self.policy.value.hash() });
        }
        let principal = |principal: &String, revoked| Event::Principal { principal: principal.clone(), revoked };
        let revoked = self.revocations.keys().filter(|name| !before.revocations.contains_key(*name));
        events.extend(revoked.map(|name| principal(name, true)));
        let reinstated = before.revocations.keys().filter(|name| !self.revocations.contains_key(*name));
        events.extend(reinstated.map(|name| principal(name, false)));
        let grants = |snapshot: &Self| -> Vec<(String, Print)> {
            snapshot.grants.iter().map(|(id, stored)| (id.clone(), stored.print)).collect()
        };
        if grants(self) != grants(before) {
            events.push(Event::Grants);
        }
        for (name, now) in &self.keks {
            let changes = before.keks.get(name).map_or(vec![KekEvent::Created], |was| kek_changes(name, was, now));
            events.extend(changes.into_iter().map(|change| Event::Kek { name: name.clone(), change }));
        }
        let gone = before.keks.keys().filter(|name| !self.keks.contains_key(*name));
        events.extend(gone.map(|name| Event::Kek { name: name.clone(), change: KekEvent::Deleted }));
        events
    }
}

fn put<T>(map: &mut Named<T>, name: String, value: Option<T>, (version, print): (u64, Print)) {
    match value {
        Some(value) => drop(map.insert(name, Arc::new(Stored { value, version, print }))),
        None => drop(map.remove(&name)),
    }
}

fn kek_changes(name: &KekName, was: &Arc<Stored<Kek>>, now: &Arc<Stored<Kek>>) -> Vec<KekEvent> {
    if Arc::ptr_eq(was, now) || was.print == now.print {
        return Vec::new();
    }
    // Versions only grow: it is another one under the same name.
    if now.version <= was.version {
        return vec![KekEvent::Deleted, KekEvent::Created];
    }
    let (was, now) = (was.value.info(name), now.value.info(name));
    let is_off = |info: &crate::custodian::kek::KekInfo| info.disabled || info.soft_deleted;
    let mut changes = Vec::new();
    match (is_off(&was), is_off(&now)) {
        (false, true) => changes.push(KekEvent::Disabled),
        (true, false) => changes.push(KekEvent::Enabled),
        _ => {}
    }
    if was.latest != now.latest {
        changes.push(KekEvent::Rotated);
    }
    if changes.is_empty() {
        changes.push(KekEvent::Changed);
    }
    changes
}
