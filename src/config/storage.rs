//! `[storage]` and `[[site]]`: the storage servers and the proxy's identity there.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::custodian_server::site as site_name;
use super::files;
use super::problem::Mistake;
use super::section::{Section, Text, if_sound};
use crate::names::LogicalBucket;
use crate::net::tls::{self, ClientTls};
use crate::s3::sigv4::Credentials;
use crate::storage::{Addressing, Endpoint, StorageSettings};

/// Most addresses of one storage cluster.
const ADDRESSES_MAX: usize = 16;
/// How the default storage server is called, unless it says otherwise.
pub(super) const MAIN: &str = "main";
/// How long an address may be silent, in seconds: unless it says otherwise, and at all.
const ANSWER_TIMEOUT_S: u64 = 60;
const ANSWER_TIMEOUTS_S: RangeInclusive<u64> = 1..=3600;

/// A storage server.
#[derive(Debug)]
pub struct StorageSection {
    /// Where it is and how it is spoken to.
    pub settings: StorageSettings,
    /// The proxy's own identity on the storage server.
    pub credentials: Credentials,
    /// Where reads go while the storage server is not there.
    pub replica: Option<(StorageSettings, Credentials)>,
    /// The bucket of what the proxy keeps beside records.
    pub state_bucket: String,
    /// Its name: that by which buckets choose it, and by which the custodian's configuration knows its state bucket.
    pub site: String,
}

/// The default storage server, `[storage]`.
pub(super) fn read(section: Section<'_>) -> Option<StorageSection> {
    let site = section.text("site").map_or_else(|| Some(MAIN.to_owned()), |text| text.parsed(site_name));
    server(section, site)
}

/// The storage server that a section describes, under that name.
pub(super) fn server(section: Section<'_>, site: Option<String>) -> Option<StorageSection> {
    let allow_plaintext = section.flag("allow_plaintext");
    let allows = allow_plaintext.unwrap_or(true);
    let answer_timeout_s = section.number("answer_timeout_s", ANSWER_TIMEOUTS_S, ANSWER_TIMEOUT_S);
    let place = place(&section, allows, answer_timeout_s);
    let hedge_after = section.has("hedge_after_ms").then(|| section.number("hedge_after_ms", 1..=60_000, 1000));
    let replica = section.section("replica").map(|replica| {
        let answer_timeout_s = replica.number("answer_timeout_s", ANSWER_TIMEOUTS_S, answer_timeout_s);
        let place = self::place(&replica, allows, answer_timeout_s);
        replica.finish();
        place
    });
    let state_bucket = section.text("state_bucket").map_or_else(
        || Some("claviger-state".to_owned()),
        |text| text.parsed(|text| LogicalBucket::new(text).map(|name| name.as_str().to_owned())),
    );
    let metadata_limit_bytes = section.number("metadata_limit_bytes", 1024..=24_576, 2048);
    let server_side_copy = section.flag("server_side_copy");
    let server_side_copy = if section.has("server_side_copy") { server_side_copy } else { Some(true) };
    let copy_limit_bytes = section.number("copy_limit_bytes", 5 << 20..=5 << 30, 5 << 30);
    section.finish();
    allow_plaintext?;
    let replica = if_sound(replica)?;
    let (settings, credentials) = place?;
    let settings = StorageSettings {
        metadata_limit_bytes,
        server_side_copy: server_side_copy?,
        copy_limit_bytes,
        hedge_after: hedge_after.map(Duration::from_millis),
        ..settings
    };
    Some(StorageSection { settings, credentials, replica, state_bucket: state_bucket?, site: site? })
}

/// Where a storage server is, how long it may take to answer, and the proxy's identity there.
fn place(
    section: &Section<'_>,
    allow_plaintext: bool,
    answer_timeout_s: u64,
) -> Option<(StorageSettings, Credentials)> {
    let endpoints = endpoints(section, allow_plaintext);
    let region = section.text("region").map_or_else(|| Some("us-east-1".to_owned()), |text| text.parsed(region));
    let addressing = section.text("addressing").map_or(Some(Addressing::Path), |text| text.parsed(addressing));
    let access_key = section.required("access_key").and_then(|text| text.parsed(files::access_key));
    let secret = section.required("secret_key_file");
    let secret = secret.and_then(|text| text.parsed(|_| files::secret_access_key(&text.path())));
    let tls = trust(section, endpoints.as_ref().map(|(first, _)| first));
    let (endpoint, further_endpoints) = endpoints?;
    let settings = StorageSettings {
        addressing: addressing?,
        tls: tls?,
        further_endpoints,
        head_timeout: Duration::from_secs(answer_timeout_s),
        ..StorageSettings::new(endpoint, region?)
    };
    Some((settings, Credentials { access_key: access_key?, secret: secret?.into(), session_token: None }))
}

/// `url`, or `urls` for a cluster with several addresses: the first and the others.
fn endpoints(section: &Section<'_>, allow_plaintext: bool) -> Option<(Endpoint, Vec<Endpoint>)> {
    let parse = |text: &Text<'_>| text.parsed(|url| Endpoint::parse(url, allow_plaintext));
    if !section.has("urls") {
        return Some((parse(&section.required("url")?)?, Vec::new()));
    }
    if let Some(text) = section.text("url") {
        text.note(Mistake::UrlAndUrls);
        return None;
    }
    let texts = section.texts("urls");
    if section.is_empty_list("urls") {
        section.note_at("urls", Mistake::EmptyList);
    }
    if texts.len() > ADDRESSES_MAX {
        section.note_at("urls", Mistake::Addresses);
        return None;
    }
    let mut parsed = texts.iter().map(parse).collect::<Option<Vec<_>>>()?.into_iter();
    Some((parsed.next()?, parsed.collect()))
}

fn region(text: &str) -> Result<String, Mistake> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if (1..=64).contains(&text.len()) && text.bytes().all(legal) { Ok(text.to_owned()) } else { Err(Mistake::Region) }
}

fn addressing(text: &str) -> Result<Addressing, Mistake> {
    match text {
        "path" => Ok(Addressing::Path),
        "virtual-hosted" => Ok(Addressing::VirtualHosted),
        _ => Err(Mistake::Choice(vec!["path", "virtual-hosted"])),
    }
}

/// Whom to trust: the CA file alone, or the web's public roots.
fn trust(section: &Section<'_>, endpoint: Option<&Endpoint>) -> Option<ClientTls> {
    let Some(text) = section.text("ca_file") else { return Some(ClientTls::default()) };
    if endpoint.is_some_and(|endpoint| !endpoint.is_tls()) {
        text.note(Mistake::UnusedCaFile);
        return None;
    }
    let tls = ClientTls { ca_file: Some(text.path()), identity: None };
    text.parsed(|_| tls::client_config(&tls))?;
    Some(tls)
}
