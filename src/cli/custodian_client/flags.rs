//! The flags that say which custodian to call and as whom, and the environment that stands in for them.
//!
//! `VAULT_ADDR` and its kin are those of the `bao` and `vault` command lines, so that one environment serves all.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use http::{HeaderValue, Uri};
use zeroize::Zeroizing;

use crate::cli::Usage;
use crate::custody::reason::Reason;
use crate::net::tls::{ClientTls, IdentityFiles};

/// Most bytes of a token.
const TOKEN_LEN_MAX: u64 = 8 << 10;

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "The custodian")]
pub(in crate::cli) struct CustodianFlags {
    /// Where it listens, such as https://custodian.example.org:8200; an OpenBao or Vault server will do for what Transit has
    /// [else: VAULT_ADDR]
    #[arg(long, env = "CLAVIGER_CUSTODIAN_URL", value_name = "URL")]
    custodian_url: Option<String>,
    /// PEM file of the CA that signed its certificate [else: VAULT_CACERT; else the web's public roots]
    #[arg(long, env = "CLAVIGER_CUSTODIAN_CA_FILE", value_name = "FILE")]
    custodian_ca_file: Option<PathBuf>,
    /// PEM file of your certificate [else: VAULT_CLIENT_CERT]
    #[arg(long, env = "CLAVIGER_CERTIFICATE_FILE", value_name = "FILE")]
    certificate_file: Option<PathBuf>,
    /// PEM file of its private key [else: VAULT_CLIENT_KEY]
    #[arg(long, env = "CLAVIGER_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// File with a token, where a certificate alone does not do [else: the token itself in VAULT_TOKEN]
    #[arg(long, env = "CLAVIGER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where Transit is mounted
    #[arg(long, value_name = "PATH", default_value = "transit")]
    mount: String,
    /// Why you do this; policy may ask for it, and it stands in the audit log
    #[arg(long, value_name = "REASON", value_parser = parse_reason)]
    reason: Option<Reason>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn parse_reason(text: &str) -> Result<Reason, String> {
    text.parse().map_err(|_| format!("one of {}", Reason::ALL.map(Reason::as_str).join(", ")))
}

/// The flags and their stand-ins, checked.
pub(super) struct Target {
    /// Without a slash at its end.
    pub(super) url: String,
    pub(super) tls: ClientTls,
    pub(super) token: Option<HeaderValue>,
    pub(super) mount: String,
    pub(super) reason: Option<Reason>,
    pub(super) json: bool,
}

impl CustodianFlags {
    /// Whether a custodian is named, by flag or environment.
    pub(in crate::cli) fn names_one(&self) -> bool {
        let url = self.custodian_url.clone().or_else(|| std::env::var("VAULT_ADDR").ok());
        url.is_some_and(|url| !url.is_empty())
    }

    /// Whether the answer is to be printed as it is.
    pub(in crate::cli) fn wants_json(&self) -> bool {
        self.json
    }

    /// `environment` gives the value of a variable. Empty ones count as not set.
    pub(super) fn resolve(&self, environment: impl Fn(&str) -> Option<String>) -> Result<Target> {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let file = |flag: &Option<PathBuf>, name: &str| {
            flag.clone().filter(|path| !path.as_os_str().is_empty()).or_else(|| variable(name).map(PathBuf::from))
        };
        let url = self.custodian_url.clone().filter(|url| !url.is_empty()).or_else(|| variable("VAULT_ADDR"));
        let url = url.ok_or_else(|| {
            Usage("which custodian? Give --custodian-url, or set CLAVIGER_CUSTODIAN_URL or VAULT_ADDR".to_owned())
        })?;
        let certificates = file(&self.certificate_file, "VAULT_CLIENT_CERT");
        let identity = match (certificates, file(&self.key_file, "VAULT_CLIENT_KEY")) {
            (Some(certificates), Some(key)) => Some(IdentityFiles { certificates, key }),
            (None, None) => None,
            _ => return Err(Usage("--certificate-file and --key-file go together".to_owned()).into()),
        };
        let token = match &self.token_file {
            Some(path) if !path.as_os_str().is_empty() => Some(token_of(path)?),
            _ => variable("VAULT_TOKEN").map(Zeroizing::new),
        };
        Ok(Target {
            url: base(&url)?,
            tls: ClientTls { ca_file: file(&self.custodian_ca_file, "VAULT_CACERT"), identity },
            token: token.map(|token| header(&token)).transpose()?,
            mount: mount(&self.mount)?,
            reason: self.reason,
            json: self.json,
        })
    }
}

/// `https://HOST[:PORT]`; `http` only on this machine, because tokens would travel in the clear.
fn base(url: &str) -> Result<String> {
    let wrong = |why: &str| Usage(format!("{url:?} does not do as the custodian's URL: {why}"));
    let uri: Uri = url.parse().map_err(|_| wrong("it is not a URL"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong("it is not https://HOST:PORT").into());
    };
    if !uri.path().trim_end_matches('/').is_empty() || uri.query().is_some() || authority.as_str().contains('@') {
        return Err(wrong("it is not https://HOST:PORT, without a path").into());
    }
    let here = matches!(authority.host(), "localhost" | "127.0.0.1" | "[::1]");
    if scheme != "https" && !(scheme == "http" && here) {
        return Err(wrong("http is only for servers on this machine; use https").into());
    }
    Ok(format!("{scheme}://{authority}"))
}

fn mount(path: &str) -> Result<String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(legal);
    let path = path.trim_matches('/');
    if path.len() <= 128 && path.split('/').all(part) {
        Ok(path.to_owned())
    } else {
        Err(Usage(format!("{path:?} is no path of a mount")).into())
    }
}

fn token_of(path: &Path) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(TOKEN_LEN_MAX + 1).expect("small")));
    let read = File::open(path).and_then(|file| file.take(TOKEN_LEN_MAX + 1).read_to_string(&mut text));
    let length = read.with_context(|| format!("cannot read the token in {}", path.display()))?;
    if length as u64 > TOKEN_LEN_MAX || text.trim().is_empty() {
        return Err(Usage(format!("{} does not hold a token", path.display())).into());
    }
    Ok(text)
}

fn header(token: &str) -> Result<HeaderValue> {
    let header = HeaderValue::from_str(token.trim());
    let mut header = header.map_err(|_| Usage("the token has characters that no token has".to_owned()))?;
    header.set_sensitive(true);
    Ok(header)
}
