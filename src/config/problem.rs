//! What can be wrong with a configuration file, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::custodian::identity::InvalidIdentity;
use crate::custodian::kek::InvalidLabels;
use crate::custodian::passphrase::PassphraseError;
use crate::custodian::policy::PolicyError;
use crate::custodian::store::StoreError;
use crate::custody::reason::Reason;
use crate::names::InvalidName;
use crate::net::tls::TlsError;
use crate::object::bucket::BucketsError;
use crate::storage::SettingsError;
use crate::telemetry::traces::InvalidCollector;
use crate::transit::settings::SettingsError as TransitSettingsError;
use crate::transit::token_file::TokenFileError;

/// One thing that is wrong.
#[derive(Debug)]
pub struct Problem {
    /// The line, from 1 on; `None` when it is about the file as a whole.
    pub line: Option<usize>,
    /// The key, such as `storage.url`; empty when it is about no key.
    pub key: String,
    /// What is wrong and what to do.
    pub mistake: Mistake,
}

/// All that is wrong with one file, in the order of its lines. Never empty.
#[derive(Debug)]
pub struct Problems {
    /// The file.
    pub file: PathBuf,
    /// What is wrong.
    pub list: Vec<Problem>,
}

impl Problems {
    /// `problem` of the file, as one line: `file:line: [key] what is wrong; what to do`.
    pub fn line_of(&self, problem: &Problem) -> String {
        let mut text = self.file.display().to_string();
        if let Some(line) = problem.line {
            text.push_str(&format!(":{line}"));
        }
        text.push_str(": ");
        if !problem.key.is_empty() {
            text.push_str(&format!("[{}] ", problem.key));
        }
        text + &problem.what()
    }
}

impl Problem {
    /// What is wrong and what to do, with the causes.
    pub fn what(&self) -> String {
        let mut text = self.mistake.to_string();
        let mut source = std::error::Error::source(&self.mistake);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        text
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.line_of(problem))?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A mistake in a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// The configuration file itself cannot be read.
    #[error("cannot read the configuration; give the path of a file that this user may read")]
    Unreadable(#[source] io::Error),
    /// The configuration file is not one.
    #[error("larger than 1 MiB or not UTF-8; this is not a configuration file")]
    NotText,
    /// Not TOML.
    #[error("not valid TOML: {0}; correct the line")]
    Syntax(String),
    /// A key that means nothing here.
    #[error("unknown key; remove it, or write one of: {}", known.join(", "))]
    UnknownKey {
        /// The keys of the section.
        known: Vec<&'static str>,
    },
    /// A key that has to be there.
    #[error("`{0}` is missing; add it")]
    Missing(&'static str),
    /// Another type of value is expected.
    #[error("expected {expected}, found {found}; correct the value")]
    Type {
        /// What is expected.
        expected: &'static str,
        /// What there is.
        found: &'static str,
    },
    /// Two lengths of one period.
    #[error("{0} is given too; remove one of the two")]
    TwoWaits(&'static str),
    /// A number out of bounds.
    #[error("must be {least} to {most}; choose a value within")]
    Range {
        /// The least.
        least: u64,
        /// The greatest.
        most: u64,
    },
    /// Not one of the words that stand for something.
    #[error("not a known value; write one of: {}", .0.join(", "))]
    Choice(Vec<&'static str>),
    /// A name of the wrong form.
    #[error("{0}; choose another name")]
    Name(#[from] InvalidName),
    /// A list that must not be empty.
    #[error("the list is empty; name at least one")]
    EmptyList,
    /// Stands twice.
    #[error("already used in line {0}; each must be there once")]
    Duplicate(usize),
    /// A secret in the configuration itself.
    #[error("secrets do not stand in the configuration; write it into a file of mode 600 and name that as `{0}`")]
    InlineSecret(&'static str),
    /// A credential, and nothing says where the credentials are.
    #[error(
        "$CREDENTIALS_DIRECTORY is not set here: systemd sets it for services; elsewhere set it to the folder that holds these files"
    )]
    NoCredentials,
    /// Not an address to listen on.
    #[error("not an address to listen on; write for example \"0.0.0.0:8443\" or \"[::1]:8443\"")]
    Address,
    /// Plain HTTP where others could listen.
    #[error("plain HTTP is for loopback addresses only; remove it and set `certificate_file` and `key_file`")]
    PlainHttpBeyondLoopback,
    /// Metrics where others could read them.
    #[error(
        "metrics go by plain HTTP, and are for loopback addresses only; listen on one, or set `insecure_any_address = true` where nobody else reaches it"
    )]
    MetricsBeyondLoopback,
    /// Spans where others could read them.
    #[error(
        "spans would go unencrypted to another machine; use https, a collector on a loopback address, or set `insecure_any_address = true` where nobody else reads along"
    )]
    TracesInTheClear,
    /// Not the URL of a collector.
    #[error(transparent)]
    Collector(#[from] InvalidCollector),
    /// Not the name of a service.
    #[error("not a service's name; it has 1 to 128 letters, digits or '._/-'")]
    ServiceName,
    /// Not a share of the whole.
    #[error("must be a number from 0 to 1, such as 0.05; choose a value within")]
    Ratio,
    /// Certificates are named and not used.
    #[error("has no use with `plain_http_on_loopback = true`; remove one of them")]
    UnusedWithPlainHttp,
    /// Nothing says what certificates are to be issued for.
    #[error("issues certificates for `domains` and names below them, and there are none; add `domains`")]
    IssuerWithoutDomains,
    /// The storage server's address.
    #[error(transparent)]
    Storage(#[from] SettingsError),
    /// One address or several.
    #[error("stands beside `urls`; keep one of them")]
    UrlAndUrls,
    /// More addresses than there can be.
    #[error("has more than 16 addresses; name fewer")]
    Addresses,
    /// A CA file that is not used.
    #[error("has no use with an http URL; remove it")]
    UnusedCaFile,
    /// Not a region's name.
    #[error("not a region; it has 1 to 64 letters, digits or '-', such as \"us-east-1\"")]
    Region,
    /// Not a DNS name.
    #[error("not a DNS name; write for example \"s3.example.org\", in lower case and without a port")]
    Domain,
    /// Not an access key.
    #[error("not an access key; it has 3 to 128 letters, digits or '._@+-'")]
    AccessKey,
    /// A bucket pattern that no bucket name matches.
    #[error("not a bucket name or pattern; write a name, a prefix with a final `*`, or \"*\"")]
    Pattern,
    /// Not a reason.
    #[error("not a known reason; write one of: {}", Reason::ALL.map(Reason::as_str).join(", "))]
    Reason,
    /// A file that cannot be used.
    #[error("cannot read {}; check that it is a file and that this user may read it", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A secret that every user of the machine can read or change.
    #[error("{} holds a secret and is open to all users (mode {mode:03o}); run: chmod 600 {}", path.display(), path.display())]
    OpenToAll {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file of a secret has none in it.
    #[error("{} holds no secret; write it into the file", path.display())]
    NoSecret {
        /// The file.
        path: PathBuf,
    },
    /// What is in the file is no secret access key.
    #[error("{} does not hold one line of visible characters; write only the secret into it", path.display())]
    NotOneLine {
        /// The file.
        path: PathBuf,
    },
    /// A secret that could be guessed.
    #[error("the secret in {} has less than {least} characters; make a random one", path.display())]
    ShortSecret {
        /// The file.
        path: PathBuf,
        /// Fewest characters.
        least: usize,
    },
    /// What is in the file is no seed of a signing key.
    #[error("{} does not hold a seed of 32 bytes in base64url; `claviger init` makes one", path.display())]
    NoSeed {
        /// The file.
        path: PathBuf,
    },
    /// Two clients that nobody could tell apart.
    #[error("the same secret as that of the client `{0}`; give each client its own")]
    SameSecret(String),
    /// The folder of a file that will be written is not there.
    #[error("the folder of {} does not exist; make it", path.display())]
    NoFolder {
        /// The file.
        path: PathBuf,
    },
    /// Certificates and keys.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A custodian's address or mount.
    #[error(transparent)]
    Transit(#[from] TransitSettingsError),
    /// The custodian's token.
    #[error(transparent)]
    TokenFile(#[from] TokenFileError),
    /// Not the name of a certificate role.
    #[error("not the name of a role; it has 1 to 128 letters, digits or '._-'")]
    Role,
    /// The custodian cannot know who asks.
    #[error("nothing says how the custodian knows this proxy; add `token_file`, or `certificate_file` and `key_file`")]
    NoAuthentication,
    /// It is not clear as whom to ask.
    #[error(
        "there are two ways for the custodian to know this proxy; keep either `token_file`, or `certificate_file` and \
         `key_file`"
    )]
    TwoAuthentications,
    /// The custodian's passphrase.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// The table of buckets contradicts itself.
    #[error("{0}; give each bucket its own name and storage name, apart from the state bucket")]
    Buckets(#[from] BucketsError),
    /// A bucket that would be the state bucket.
    #[error("the state bucket is for the proxy alone; choose another name, or another `state_bucket` of its server")]
    StateBucket,
    /// No bucket is served.
    #[error("no bucket is configured; add [[bucket]] sections, or [default_bucket] for all others")]
    NoBucket,
    /// A client by the name of those who are none.
    #[error("this is the name of requests without a signature; choose another")]
    ReservedPrincipal,
    /// No client is served.
    #[error("no client is configured; add a [[client]] section for each access key")]
    NoClient,
    /// A site is named otherwise than plainly.
    #[error("is not a site's name: 1 to 64 letters, digits, '.', '_' or '-'")]
    Site,
    /// A site for some buckets that has to hold all of them.
    #[error(
        "stands in `sites`, too, which have to hold the branch keys of all other buckets; leave it out there, or here"
    )]
    SiteOfAll,
    /// More sites than there can be.
    #[error("names more than 16 sites")]
    Sites,
    /// A further site by the name of the default one.
    #[error("is the name of [storage] (`site` there, \"main\" unless it says otherwise); choose another name")]
    DefaultSite,
    /// Two sites of one name.
    #[error("another [[site]] has this name; choose another one, or put their buckets on one site")]
    SiteTwice,
    /// Two sections for one storage server.
    #[error(
        "this is the storage server of the site {0}; name each server once, and put the buckets of both on one site"
    )]
    SameServer(String),
    /// A bucket on a site that there is not.
    #[error("there is no site of this name; add a [[site]] section for it, or write one of: {}", .0.join(", "))]
    UnknownSite(Vec<String>),
    /// Not the name of a custodian.
    #[error("not a name; it has 1 to 64 letters, digits or '._-'")]
    Instance,
    /// Not an id of ours.
    #[error("{0}; write for example \"spiffe://example.org/region/us/custodian/c1\"")]
    Identity(#[from] InvalidIdentity),
    /// The certificate does not say who the custodian is.
    #[error("the certificate has no SPIFFE id as its one URI; name the custodian with `identity`")]
    NoIdentity,
    /// A jurisdiction that cannot be a label.
    #[error("{0}")]
    Labels(#[from] InvalidLabels),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// None, or three and more.
    #[error("a custodian has one or two [[seal]] sections; remove the others")]
    SealCount,
    /// Not the name of a log.
    #[error(
        "not a log's name; it has 1 to 255 characters without white space or '+', such as \"example.org/custodian-1\""
    )]
    Origin,
    /// Not the key of a witness.
    #[error("not the key of a witness; write it as `claviger audit witness` prints it: NAME+ID+KEY")]
    Witness,
    /// The policy.
    #[error("the policy is not right: {0}")]
    Policy(#[from] PolicyError),
    /// Half of a pair of keys.
    #[error("`{0}` belongs to it; set both or none")]
    OtherHalf(&'static str),
}
