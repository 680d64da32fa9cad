//! Configuration: a TOML file to checked, resolved structs.
//!
//! Everything that is wrong is reported at once, each with its line and what to do ([`Problems`]); a file with any mistake
//! gives no configuration at all. Paths in it are relative to its folder, or begin with `${CREDENTIALS_DIRECTORY}/`.
//!
//! **Invariant:** no KEK, key or passphrase comes from a default, and none stands in the file itself.

mod audit;
mod buckets;
mod clients;
mod custodian;
pub mod custodian_server;
mod files;
mod metrics;
mod places;
mod problem;
mod proxy;
mod section;
mod sites;
mod storage;
#[cfg(test)]
pub(crate) mod tests;
mod traces;
mod transit;
mod written;

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::custody::lease::LeaseSettings;
use crate::names::KekName;
use crate::net::regular;
use crate::object::access::{Anonymous, Client};
use crate::object::bucket::Buckets;
use crate::object::sites::Placement;
use crate::proxy::access_log::AccessLogSettings;
use crate::telemetry::LogFormat;
use crate::telemetry::traces::TraceSettings;
use crate::transit::settings::TransitSettings;

pub use buckets::KekUse;
pub use problem::{Mistake, Problem, Problems};
pub use proxy::ProxySettings;
pub use sites::SiteSection;
pub use storage::StorageSection;
pub use written::Written;

use section::{Document, Section, if_sound};
use written::NamedFile;

/// Most bytes of a configuration file.
const FILE_MAX: u64 = 1 << 20;

/// A checked configuration, with the secrets that its files held.
pub struct Config {
    /// The file.
    pub file: PathBuf,
    /// The listening side.
    pub proxy: ProxySettings,
    /// The default storage server.
    pub storage: StorageSection,
    /// Further ones, with their buckets.
    pub sites: Vec<SiteSection>,
    /// Who holds the KEKs.
    pub custodian: TransitSettings,
    /// How long branch keys are leased.
    pub leases: LeaseSettings,
    /// The buckets on the default storage server, and their KEKs.
    pub buckets: Buckets,
    /// The KEKs that new objects are encrypted under, each where it is named.
    pub keks: Vec<KekUse>,
    /// Who may sign requests.
    pub clients: Vec<Client>,
    /// What may be done without a signature; nothing without it.
    pub anonymous: Option<Anonymous>,
    /// The log of record accesses, if there is to be one.
    pub audit: Option<AccessLogSettings>,
    /// Where metrics are shown, if they are.
    pub metrics: Option<SocketAddr>,
    /// Where spans are sent, if they are made.
    pub traces: Option<TraceSettings>,
    /// How a line of the log looks.
    pub log_format: LogFormat,
    /// Which events are logged.
    pub log_filter: String,
    /// What all this was read from.
    pub written: Written,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("proxy", &self.proxy).field("storage", &self.storage).finish_non_exhaustive()
    }
}

impl Config {
    /// Which bucket lies on which storage server.
    pub fn placement(&self) -> Placement {
        let of_site = |site: &SiteSection| {
            let named: Vec<_> =
                site.buckets.named().map(|bucket| (bucket.clone(), site.storage.site.clone())).collect();
            named
        };
        Placement::new(self.storage.site.clone(), self.sites.iter().flat_map(of_site))
    }

    /// All KEKs that objects may be under, former ones too.
    pub fn all_keks(&self) -> Vec<KekName> {
        let all = std::iter::once(&self.buckets).chain(self.sites.iter().map(|site| &site.buckets));
        let mut keks: Vec<KekName> = all.flat_map(Buckets::all_keks).collect();
        keks.sort();
        keks.dedup();
        keks
    }
}

/// Reads and checks `file`.
///
/// # Errors
/// [`Problems`]: all that is wrong with it.
pub fn load(file: &Path) -> Result<Config, Problems> {
    load_with(file, |root| read(root, file))
}

/// Reads `file` and has `read` look into it.
fn load_with<T>(file: &Path, read: impl FnOnce(Section<'_>) -> Option<T>) -> Result<T, Problems> {
    let of_file =
        |mistake| Problems { file: file.to_owned(), list: vec![Problem { line: None, key: String::new(), mistake }] };
    let itself = NamedFile::now("", file);
    let text = read_text(file).map_err(of_file)?;
    parse(&text, itself, read).map_err(|list| Problems { file: file.to_owned(), list })
}

fn read_text(file: &Path) -> Result<String, Mistake> {
    let mut text = String::new();
    let opened = regular::open(file).map_err(Mistake::Unreadable)?;
    match opened.take(FILE_MAX + 1).read_to_string(&mut text) {
        Ok(length) if length as u64 <= FILE_MAX => Ok(text),
        Ok(_) => Err(Mistake::NotText),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(Mistake::NotText),
        Err(error) => Err(Mistake::Unreadable(error)),
    }
}

fn parse<T>(text: &str, file: NamedFile, read: impl FnOnce(Section<'_>) -> Option<T>) -> Result<T, Vec<Problem>> {
    let document = Document::new(text, file);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = error.span().map(|span| document.line(&span));
        document.note(line, "", Mistake::Syntax(error.message().to_owned()));
    }
    // What follows a syntax error may be misread, so that only a sound document is looked into.
    let config = if errors.is_empty() { read(Section::root(&document, table.get_ref())) } else { None };
    let problems = document.into_problems();
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

fn read(root: Section<'_>, file: &Path) -> Option<Config> {
    let proxy = root.required_section("proxy").and_then(proxy::read);
    let servers = sites::read(&root);
    let custodian = root.required_section("custodian").and_then(custodian::read);
    let leases = custodian::leases(root.section("leases"));
    let writer = proxy.as_ref().map(|proxy| &proxy.writer);
    let buckets = buckets::read(&root, writer, &servers);
    let clients = clients::read(&root);
    let anonymous = root.section("anonymous").map(clients::anonymous);
    let audit = root.section("audit").map(audit::read);
    let metrics = root.section("metrics").map(metrics::read);
    let traces = root.section("traces").map(|section| traces::read(section, traces::Role::Proxy));
    let (log_format, log_filter) = log(root.section("log"));
    let written = root.written();
    root.finish();
    let (buckets, keks) = buckets?;
    let servers = servers.into_iter().map(|server| server.storage).collect::<Option<Vec<_>>>()?;
    let mut servers = servers.into_iter().zip(buckets);
    let (storage, buckets) = servers.next()?;
    let sites = servers.map(|(storage, buckets)| SiteSection { storage, buckets }).collect();
    Some(Config {
        file: file.to_owned(),
        proxy: proxy?,
        storage,
        sites,
        custodian: custodian?,
        leases,
        buckets,
        keks,
        clients: clients?,
        anonymous: if_sound(anonymous)?,
        audit: if_sound(audit)?,
        metrics: if_sound(metrics)?,
        traces: if_sound(traces)?,
        log_format,
        log_filter,
        written,
    })
}

fn log(section: Option<Section<'_>>) -> (LogFormat, String) {
    let standard = (LogFormat::Text, "info".to_owned());
    let Some(section) = section else { return standard };
    let format = section.text("format").and_then(|text| {
        text.parsed(|text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(Mistake::Choice(vec!["text", "json"])),
        })
    });
    let filter = section.text("filter").map(|text| text.text.to_owned());
    section.finish();
    (format.unwrap_or(standard.0), filter.unwrap_or(standard.1))
}

/// A configuration is taken, or refused for a reason; as a proxy's and as a custodian's.
#[doc(hidden)]
pub fn fuzz_config(text: &str) {
    let file = Path::new("/nonexistent/claviger.toml");
    let refused = [
        parse(text, NamedFile::now("", file), |root| read(root, file)).err(),
        custodian_server::refused(text, NamedFile::now("", file)),
    ];
    for list in refused.into_iter().flatten() {
        assert!(!list.is_empty(), "refused without a reason");
        let problems = Problems { file: file.to_owned(), list };
        assert!(!problems.to_string().is_empty());
    }
}
