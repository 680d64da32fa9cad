//! `[storage]`: the storage server and the proxy's identity there.

use super::files;
use super::problem::Mistake;
use super::section::Section;
use crate::names::LogicalBucket;
use crate::net::tls::{self, ClientTls};
use crate::s3::sigv4::Credentials;
use crate::storage::{Addressing, Endpoint, StorageSettings};

/// The storage server.
#[derive(Debug)]
pub struct StorageSection {
    /// Where it is and how it is spoken to.
    pub settings: StorageSettings,
    /// The proxy's own identity on the storage server.
    pub credentials: Credentials,
    /// The bucket of what the proxy keeps beside records.
    pub state_bucket: String,
    /// The site, as the custodian's configuration names it.
    pub site: String,
}

pub(super) fn read(section: Section<'_>) -> Option<StorageSection> {
    let allow_plaintext = section.flag("allow_plaintext");
    let url = section.required("url");
    let endpoint = url.and_then(|text| text.parsed(|url| Endpoint::parse(url, allow_plaintext.unwrap_or(true))));
    let region = section.text("region").map_or_else(|| Some("us-east-1".to_owned()), |text| text.parsed(region));
    let addressing = section.text("addressing").map_or(Some(Addressing::Path), |text| text.parsed(addressing));
    let access_key = section.required("access_key").and_then(|text| text.parsed(files::access_key));
    let secret = section.required("secret_key_file");
    let secret = secret.and_then(|text| text.parsed(|_| files::secret_access_key(&text.path())));
    let tls = trust(&section, endpoint.as_ref());
    let state_bucket = section.text("state_bucket").map_or_else(
        || Some("claviger-state".to_owned()),
        |text| text.parsed(|text| LogicalBucket::new(text).map(|name| name.as_str().to_owned())),
    );
    let site =
        section.text("site").map_or_else(|| Some("main".to_owned()), |text| text.parsed(super::custodian_server::site));
    let metadata_limit_bytes = section.number("metadata_limit_bytes", 1024..=24_576, 2048);
    let server_side_copy = section.flag("server_side_copy");
    let server_side_copy = if section.has("server_side_copy") { server_side_copy } else { Some(true) };
    let copy_limit_bytes = section.number("copy_limit_bytes", 5 << 20..=5 << 30, 5 << 30);
    section.finish();
    allow_plaintext?;
    let settings = StorageSettings {
        addressing: addressing?,
        tls: tls?,
        metadata_limit_bytes,
        server_side_copy: server_side_copy?,
        copy_limit_bytes,
        ..StorageSettings::new(endpoint?, region?)
    };
    let credentials = Credentials { access_key: access_key?, secret: secret?, session_token: None };
    Some(StorageSection { settings, credentials, state_bucket: state_bucket?, site: site? })
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
