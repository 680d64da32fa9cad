//! `[[client]]`: who may sign requests, and what for; `[anonymous]`: what may be done without a signature.

use std::collections::HashMap;

use super::files;
use super::problem::Mistake;
use super::section::{Section, if_sound};
use crate::crypto::constant_time_eq;
use crate::custody::reason::Reason;
use crate::names::{LogicalBucket, Principal};
use crate::object::access::{ANONYMOUS, Anonymous, BucketPattern, Client, Grant};
use crate::s3::operation::Access;
use crate::s3::sigv4::Credentials;

/// The words for kinds of access.
const ACCESS: &[(&str, Access)] = &[
    ("read", Access::Read),
    ("write", Access::Write),
    ("delete", Access::Delete),
    ("list", Access::List),
    ("bucket", Access::Bucket),
    ("configure", Access::Configure),
];
pub(super) fn read(root: &Section<'_>) -> Option<Vec<Client>> {
    let sections = root.sections("client");
    if sections.is_empty() && !root.has("client") {
        root.note(Mistake::NoClient);
        return None;
    }
    let mut lines = HashMap::new();
    let mut clients: Vec<Option<Client>> = Vec::new();
    for section in sections {
        let client = client(&section, &mut lines);
        // A signature says which secret made it, so that no two clients may have the same.
        let same = |other: &&Client| {
            client.as_ref().is_some_and(|client| constant_time_eq(client.secret.expose(), other.secret.expose()))
        };
        if let Some(other) = clients.iter().flatten().find(same) {
            section.note_at("secret_key_file", Mistake::SameSecret(other.access_key.clone()));
        }
        section.finish();
        clients.push(client);
    }
    clients.into_iter().collect()
}

fn client(section: &Section<'_>, lines: &mut HashMap<String, usize>) -> Option<Client> {
    let access_key = section.required("access_key");
    let secret = section.required("secret_key_file");
    let secret = secret.and_then(|text| text.parsed(|_| files::client_secret(&text.path())));
    let principal = section.required("principal").and_then(|text| text.parsed(principal));
    let reason = reason(section);
    let storage = files::optional_pair(section, "storage_access_key", "storage_secret_key_file");
    let storage_credentials = storage.map(|(key, secret)| {
        let access_key = key.parsed(files::access_key);
        let secret = secret.parsed(|_| files::secret_access_key(&secret.path()));
        Some(Credentials { access_key: access_key?, secret: secret?.into(), session_token: None })
    });
    let grants = grants(section, |_| true);
    let access_key = access_key?;
    if let Some(line) = lines.insert(access_key.text.to_owned(), access_key.line) {
        access_key.note(Mistake::Duplicate(line));
    }
    let storage_credentials = if_sound(storage_credentials)?;
    Some(Client {
        access_key: access_key.parsed(files::access_key)?,
        secret: secret?.into(),
        principal: principal?,
        reason: reason?,
        grants: grants?,
        storage_credentials,
    })
}

/// What requests without a signature may do. `None` stands for a mistake.
pub(super) fn anonymous(section: Section<'_>) -> Option<Anonymous> {
    let (reason, grants) = (reason(&section), grants(&section, for_everybody));
    section.finish();
    Some(Anonymous { reason: reason?, grants: grants? })
}

fn principal(text: &str) -> Result<Principal, Mistake> {
    if text == ANONYMOUS { Err(Mistake::ReservedPrincipal) } else { Ok(Principal::new(text)?) }
}

fn reason(section: &Section<'_>) -> Option<Reason> {
    let reason = section.text("reason");
    reason.map_or(Some(Reason::Unspecified), |text| text.parsed(|text| text.parse().map_err(|_| Mistake::Reason)))
}

fn grants(section: &Section<'_>, allowed: fn(Access) -> bool) -> Option<Vec<Grant>> {
    let grants: Vec<Option<Grant>> =
        section.sections("grant").into_iter().map(|section| grant(section, allowed)).collect();
    if !section.has("grant") {
        section.note(Mistake::Missing("grant"));
    }
    grants.into_iter().collect()
}

fn grant(section: Section<'_>, allowed: fn(Access) -> bool) -> Option<Grant> {
    let mut grant = Grant { buckets: Vec::new(), access: Vec::new() };
    for key in ["buckets", "access"].into_iter().filter(|key| !section.has(key)) {
        section.note(Mistake::Missing(key));
    }
    for text in section.texts("buckets") {
        grant.buckets.push(text.parsed(pattern)?);
    }
    for text in section.texts("access") {
        grant.access.push(text.parsed(|text| access(text, allowed))?);
    }
    section.finish();
    Some(grant)
}

fn pattern(text: &str) -> Result<BucketPattern, Mistake> {
    let Some(prefix) = text.strip_suffix('*') else {
        return LogicalBucket::new(text).map(BucketPattern::Exactly).map_err(|_| Mistake::Pattern);
    };
    if prefix.is_empty() {
        return Ok(BucketPattern::All);
    }
    // A prefix that some bucket's name begins with is one that becomes a name when it is filled up.
    match LogicalBucket::new(&format!("{prefix}000")).or_else(|_| LogicalBucket::new(prefix)) {
        Ok(_) => Ok(BucketPattern::Prefix(prefix.to_owned())),
        Err(_) => Err(Mistake::Pattern),
    }
}

fn access(text: &str, allowed: fn(Access) -> bool) -> Result<Access, Mistake> {
    let known = || ACCESS.iter().filter(|(_, access)| allowed(*access));
    let found = known().find(|(word, _)| *word == text);
    found.map(|(_, access)| *access).ok_or_else(|| Mistake::Choice(known().map(|(word, _)| *word).collect()))
}

/// What requests without a signature may have: nobody makes or removes buckets.
fn for_everybody(access: Access) -> bool {
    access != Access::Bucket
}
