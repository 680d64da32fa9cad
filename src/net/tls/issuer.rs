//! Certificates that are made when somebody asks for a name: for applications that go on using the names of a public storage service,
//! below which each bucket is a name of its own.
//!
//! **Invariant:** it issues for the domains that it was given and names below them, and for nothing else.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer as _, GeneralName, NameConstraints, X509Certificate};

use super::{IdentityFiles, TlsError, check_lifetime, lifetime, load_identity, mismatch};

/// Names whose certificates are kept.
const KEPT: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// How long a certificate is valid. It is replaced after half of that.
const LASTS: Duration = Duration::days(7);
/// Clocks of clients may lag.
const LAG: Duration = Duration::hours(12);

/// A private CA, and the domains that it issues for.
pub(super) struct Issuer {
    ca: rcgen::Issuer<'static, KeyPair>,
    /// The CA's certificate, and those above it that clients may need.
    chain: Vec<CertificateDer<'static>>,
    ends: OffsetDateTime,
    domains: Vec<String>,
    provider: Arc<CryptoProvider>,
    issued: Mutex<LruCache<String, Issued>>,
}

struct Issued {
    shown: Arc<CertifiedKey>,
    replaced_after: OffsetDateTime,
}

/// No certificate can be made for a name.
#[derive(Debug, thiserror::Error)]
enum IssueError {
    #[error("the certificate cannot be made")]
    Make(#[from] rcgen::Error),
    #[error("the certificate cannot be used")]
    Use(#[from] rustls::Error),
}

impl Issuer {
    /// The CA in these files, for `domains` (in small letters) and names below them.
    ///
    /// # Errors
    /// [`TlsError`] names the file, what is wrong with it and what to do.
    pub(super) fn load(
        files: &IdentityFiles,
        domains: Vec<String>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let path = files.certificates.as_path();
        let no_ca = || TlsError::NoCa { path: path.to_owned() };
        let (chain, key) = load_identity(files)?;
        check_lifetime(files)?;
        let first = chain.first().ok_or_else(no_ca)?;
        let ends = ca_ends(first, path)?;
        let unusable = |source| TlsError::IssuerKey { path: files.key.clone(), source };
        let ca_key = KeyPair::try_from(&key).map_err(unusable)?;
        let ca = rcgen::Issuer::from_ca_cert_der(first, ca_key).map_err(|_| no_ca())?;
        // Whether they belong together, this says.
        CertifiedKey::from_der(chain.clone(), key, &provider).map_err(|source| mismatch(files, source))?;
        Ok(Self { ca, chain, ends, domains, provider, issued: Mutex::new(LruCache::new(KEPT)) })
    }

    /// A certificate for `name` (in small letters), if it is one of the domains or below one.
    pub(super) fn certificate_for(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let below = |domain: &String| name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'));
        if !self.domains.iter().any(|domain| name == domain || below(domain)) {
            return None;
        }
        let now = OffsetDateTime::now_utc();
        let kept = |issued: &Issued| (now < issued.replaced_after).then(|| Arc::clone(&issued.shown));
        let lock = || self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shown) = lock().get(name).and_then(kept) {
            return Some(shown);
        }
        match self.issue(name, now) {
            Ok(issued) => {
                let shown = Arc::clone(&issued.shown);
                lock().put(name.to_owned(), issued);
                Some(shown)
            }
            Err(error) => {
                tracing::error!(name, error = &error as &dyn std::error::Error, "cannot issue a certificate");
                None
            }
        }
    }

    fn issue(&self, name: &str, now: OffsetDateTime) -> Result<Issued, IssueError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = now - LAG;
        params.not_after = (now + LASTS).min(self.ends);
        let leaf = params.signed_by(&key, &self.ca)?;
        let chain = std::iter::once(leaf.der().clone()).chain(self.chain.iter().cloned()).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let shown = Arc::new(CertifiedKey::from_der(chain, key, &self.provider)?);
        tracing::debug!(name, "a certificate was issued");
        Ok(Issued { shown, replaced_after: now + (params.not_after - now) / 2 })
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("domains", &self.domains).finish_non_exhaustive()
    }
}

/// When the CA's certificate ends. One that is no CA's is refused.
fn ca_ends(certificate: &CertificateDer<'_>, path: &Path) -> Result<OffsetDateTime, TlsError> {
    let no_ca = || TlsError::NoCa { path: path.to_owned() };
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| no_ca())?;
    let may_sign = parsed.key_usage().ok().flatten().is_none_or(|usage| usage.value.key_cert_sign());
    if !parsed.is_ca() || !may_sign {
        return Err(no_ca());
    }
    let constraints = parsed.name_constraints().ok().flatten();
    if !constraints.is_some_and(|constraints| is_bound(constraints.value)) {
        tracing::warn!(
            file = %path.display(),
            "the issuing CA has no name constraints for DNS names, or none for IP addresses: whoever gets its key can pass for any such name \
             towards those who trust it"
        );
    }
    Ok(lifetime::Lifetime::of(certificate).ok_or_else(no_ca)?.ends)
}

/// Whether the constraints are about both forms of name that a server has: what they do not mention, they allow.
fn is_bound(constraints: &NameConstraints<'_>) -> bool {
    let permits = |is_of: fn(&GeneralName<'_>) -> bool| {
        constraints.permitted_subtrees.iter().flatten().any(|subtree| is_of(&subtree.base))
    };
    // An address and its mask: none of either version is left.
    let excludes = |bytes: usize| {
        let is_all = |name: &GeneralName<'_>| matches!(name, GeneralName::IPAddress(net) if **net == vec![0; bytes]);
        constraints.excluded_subtrees.iter().flatten().any(|subtree| is_all(&subtree.base))
    };
    permits(|name| matches!(name, GeneralName::DNSName(_)))
        && (permits(|name| matches!(name, GeneralName::IPAddress(_))) || excludes(8) && excludes(32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tests::Ca;
    use crate::net::tls::default_provider;

    fn issuer(domains: &[&str]) -> (tempfile::TempDir, Ca, Issuer) {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = Ca::new(folder.path(), "ca");
        let files = ca.as_identity();
        let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
        let issuer = Issuer::load(&files, domains, Arc::new(default_provider())).expect("a CA");
        (folder, ca, issuer)
    }

    #[test]
    fn it_issues_for_its_domains_and_nothing_else() {
        let (_folder, _ca, issuer) = issuer(&["s3.example.org"]);
        for name in ["s3.example.org", "records.s3.example.org", "a.b.s3.example.org"] {
            assert!(issuer.certificate_for(name).is_some(), "{name}");
        }
        for name in ["example.org", "s3.example.com", "evils3.example.org", "s3.example.org.evil", "", ".", "localhost"]
        {
            assert!(issuer.certificate_for(name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_ca_is_bound_only_if_addresses_are_too() {
        use rcgen::{CidrSubnet, GeneralSubtree};
        let [v4, v6] = [CidrSubnet::V4([0; 4], [0; 4]), CidrSubnet::V6([0; 16], [0; 16])];
        let net = GeneralSubtree::IpAddress(CidrSubnet::V4([10, 0, 0, 0], [255, 0, 0, 0]));
        let dns = GeneralSubtree::DnsName("s3.example.org".to_owned());
        let [v4, v6] = [v4, v6].map(GeneralSubtree::IpAddress);
        for (permitted_subtrees, excluded_subtrees, bound) in [
            (vec![dns.clone()], vec![v4.clone(), v6.clone()], true),
            (vec![dns.clone(), net.clone()], vec![], true),
            (vec![dns.clone()], vec![], false),
            (vec![dns.clone()], vec![v4.clone()], false),
            (vec![dns], vec![net, v6.clone()], false),
            (vec![], vec![v4, v6], false),
        ] {
            let mut params = CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
            params.name_constraints = Some(rcgen::NameConstraints { permitted_subtrees, excluded_subtrees });
            let made = params.self_signed(&KeyPair::generate().expect("a key")).expect("makes");
            let (_, parsed) = X509Certificate::from_der(made.der()).expect("a certificate");
            let constraints = parsed.name_constraints().expect("reads").expect("has some").value;
            assert_eq!(is_bound(constraints), bound, "{constraints:?}");
        }
    }

    #[test]
    fn a_name_is_issued_for_once_and_never_beyond_the_end_of_the_ca() {
        let (_folder, _ca, mut issuer) = issuer(&["s3.example.org"]);
        let first = issuer.certificate_for("s3.example.org").expect("ours");
        assert!(Arc::ptr_eq(&first, &issuer.certificate_for("s3.example.org").expect("ours")));
        issuer.ends = OffsetDateTime::now_utc() + Duration::hours(1);
        let other = issuer.certificate_for("b.s3.example.org").expect("ours");
        let ends = lifetime::Lifetime::of(&other.cert[0]).expect("a certificate").ends;
        assert!(ends <= issuer.ends);
    }

    #[test]
    fn what_is_no_ca_issues_nothing() {
        let (_folder, ca, _) = issuer(&[]);
        let leaf = ca.issue("leaf", &["localhost"]);
        let refused = Issuer::load(&leaf, Vec::new(), Arc::new(default_provider())).expect_err("no CA");
        assert!(matches!(refused, TlsError::NoCa { path } if path == leaf.certificates));
        let mixed = IdentityFiles { key: leaf.key, ..ca.as_identity() };
        let refused = Issuer::load(&mixed, Vec::new(), Arc::new(default_provider())).expect_err("another key");
        assert!(matches!(refused, TlsError::Identity { .. }));
    }
}
