//! TLS configurations from PEM files.
//!
//! **Invariant:** TLS 1.2 and 1.3 only, with one explicitly named provider. A client trusts either the
//! given CA file and nothing else, or the web's public roots; verification cannot be turned off.

mod issuer;
mod lifetime;
mod server_names;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
#[cfg(all(feature = "aws-lc", not(feature = "fips")))]
use rustls::crypto::aws_lc_rs::default_provider;
#[cfg(feature = "fips")]
use rustls::crypto::default_fips_provider as default_provider;
#[cfg(not(feature = "aws-lc"))]
use rustls::crypto::ring::default_provider;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use issuer::Issuer;
pub use lifetime::Lifetime;
use server_names::ServerNames;

use super::regular;

/// Most bytes of a PEM file: the largest CA bundles have a third of that.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A certificate or key file does not do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read {path}: check that it exists and that this user may read it")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is far too large to be what it should be.
    #[error("{path} is larger than 1 MiB: this is not a PEM file of certificates or a key")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The private key can be read or written by every user of the machine.
    #[error("{path} holds a private key and is open to all users (mode {mode:03o}): run `chmod o-rwx` on it")]
    OpenToAll {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file's PEM sections are broken.
    #[error("{path} is not well-formed PEM: it may be cut short; write it anew")]
    NotPem {
        /// The file.
        path: PathBuf,
        /// Where it breaks.
        source: pem::Error,
    },
    /// There is no certificate in the file.
    #[error("{path} holds no certificate: expected PEM sections `BEGIN CERTIFICATE`")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is no list of revoked certificates in the file.
    #[error("{path} holds no list of revoked certificates: expected PEM sections `BEGIN X509 CRL`")]
    NoRevocationList {
        /// The file.
        path: PathBuf,
    },
    /// There is no private key in the file that can be used as it is.
    #[error(
        "{path} holds no usable private key: expected one PEM section `BEGIN PRIVATE KEY` (or `RSA`, `EC`), not encrypted"
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A certificate in a CA file is not usable as a root.
    #[error("{path} holds a certificate that cannot be trusted as a CA")]
    BadRoot {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Certificate and key do not form an identity.
    #[error("the certificate in {certificates} and the key in {key} do not go together")]
    Identity {
        /// The certificate file.
        certificates: PathBuf,
        /// The key file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// No verifier of client certificates can be made of the CA file.
    #[error("{path} cannot serve as the CA of client certificates")]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why.
        source: VerifierBuilderError,
    },
    /// The certificate is no longer valid.
    #[error("the certificate in {path} ended at {ended}: put a new one in its place")]
    Expired {
        /// The file.
        path: PathBuf,
        /// When it ended.
        ended: OffsetDateTime,
    },
    /// The certificate is not valid yet.
    #[error("the certificate in {path} is valid from {begins} on: check this machine's clock, or use another one")]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// When it begins.
        begins: OffsetDateTime,
    },
    /// What should issue certificates is no CA.
    #[error("{path} begins with a certificate that is not a CA's: it can issue none")]
    NoCa {
        /// The file.
        path: PathBuf,
    },
    /// The key of an issuing CA is of a kind that cannot be used for that.
    #[error("{path} holds a key that cannot issue certificates: write it as PKCS#8 (`openssl pkcs8 -topk8 -nocrypt`)")]
    IssuerKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rcgen::Error,
    },
    /// The provider does not do TLS 1.2 and 1.3: a build without them.
    #[error("this build does not support TLS 1.2 and 1.3")]
    Versions(#[source] rustls::Error),
}

impl TlsError {
    /// The one file that it is about.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::TooLarge { path }
            | Self::OpenToAll { path, .. }
            | Self::NotPem { path, .. }
            | Self::NoCertificate { path }
            | Self::NoKey { path }
            | Self::NoRevocationList { path }
            | Self::BadRoot { path, .. }
            | Self::ClientCa { path, .. }
            | Self::Expired { path, .. }
            | Self::NotYetValid { path, .. }
            | Self::NoCa { path }
            | Self::IssuerKey { path, .. } => Some(path),
            Self::Identity { .. } | Self::Versions(_) => None,
        }
    }
}

/// A client's certificate does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ClientRefused {
    /// Another CA, expired or not yet valid, or not for clients.
    #[error("the certificate is not one that these CAs signed for clients and that is valid at the time")]
    Chain(#[source] rustls::Error),
    /// What should be CAs cannot serve as such.
    #[error("the certificates cannot serve as CAs of clients")]
    Ca(#[source] VerifierBuilderError),
}

/// Where a party's certificate chain (leaf first) and private key lie, both PEM.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    /// The certificate chain.
    pub certificates: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1, not encrypted, not open to all users.
    pub key: PathBuf,
}

/// How a client verifies servers and shows itself.
#[derive(Debug, Clone, Default)]
pub struct ClientTls {
    /// PEM file of the only CAs to trust; without it the web's public roots.
    pub ca_file: Option<PathBuf>,
    /// The client's own certificate, for servers that ask for one.
    pub identity: Option<IdentityFiles>,
}

/// A server's TLS configuration, offering HTTP/2 and HTTP/1.1. With `client_ca`, every client must show a
/// certificate that one of the CAs in that file signed.
///
/// # Errors
/// [`TlsError`] names the file, what is wrong with it and what to do.
pub fn server_config(identity: &IdentityFiles, client_ca: Option<&Path>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Versions)?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(client_verifier(path, provider)?),
    };
    let (certificates, key) = load_identity(identity)?;
    check_lifetime(identity)?;
    let mut config = builder.with_single_cert(certificates, key).map_err(|source| mismatch(identity, source))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What a server shows itself with, by the name that a client asks for.
#[derive(Debug, Clone)]
pub struct ServerIdentities {
    /// For whoever asks for no name, or for one that nothing else is for.
    pub first: IdentityFiles,
    /// Each for the DNS names that stand in it.
    pub further: Vec<IdentityFiles>,
    /// A CA whose certificates are made when somebody asks for a name, and the domains (in small letters) that it issues for and
    /// below.
    pub issuer: Option<(IdentityFiles, Vec<String>)>,
}

/// As [`server_config`], without client certificates, for a server with several names.
///
/// # Errors
/// [`TlsError`] names the file, what is wrong with it and what to do.
pub fn server_config_by_name(identities: &ServerIdentities) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(default_provider());
    let issuer = match &identities.issuer {
        None => None,
        Some((files, domains)) => Some(Issuer::load(files, domains.clone(), Arc::clone(&provider))?),
    };
    let names = ServerNames::load(&identities.first, &identities.further, issuer, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(names));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// As [`server_config`], for clients that must each show a certificate from a CA in `client_ca`; with `client_crl`, none that a list in
/// that file revokes, and only certificates of CAs that a list is of. Every connection proves its certificate anew: none is resumed.
///
/// # Errors
/// [`TlsError`] names the file, what is wrong with it and what to do.
pub fn mutual_server_config(
    identity: &IdentityFiles,
    client_ca: &Path,
    client_crl: Option<&Path>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(default_provider());
    let revoked = client_crl.map(load_revocations).transpose()?.unwrap_or_default();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(load_roots(client_ca)?), Arc::clone(&provider))
        .with_crls(revoked)
        .only_check_end_entity_revocation()
        .enforce_revocation_expiration()
        .build()
        .map_err(|source| TlsError::ClientCa { path: client_ca.into(), source })?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Versions)?
        .with_client_cert_verifier(verifier);
    let (certificates, key) = load_identity(identity)?;
    check_lifetime(identity)?;
    let mut config = builder.with_single_cert(certificates, key).map_err(|source| mismatch(identity, source))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// A client's TLS configuration. It offers HTTP/1.1 only, as [`crate::net::client`] speaks nothing else.
///
/// # Errors
/// [`TlsError`] names the file, what is wrong with it and what to do.
pub fn client_config(tls: &ClientTls) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Versions)?;
    let roots = match &tls.ca_file {
        Some(path) => load_roots(path)?,
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
    };
    let builder = builder.with_root_certificates(roots);
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (certificates, key) = load_identity(identity)?;
            builder.with_client_auth_cert(certificates, key).map_err(|source| mismatch(identity, source))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Checks that one of `ca` signed the client certificate `leaf` (both DER) and that it was valid at `at_unix_s`, as a server
/// that asks for client certificates would have then.
///
/// # Errors
/// [`ClientRefused`].
pub fn verify_client(ca: &[CertificateDer<'_>], leaf: &[u8], at_unix_s: u64) -> Result<(), ClientRefused> {
    let mut roots = RootCertStore::empty();
    for certificate in ca {
        roots.add(certificate.clone().into_owned()).map_err(ClientRefused::Chain)?;
    }
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at_unix_s));
    let verified = verifier.map_err(ClientRefused::Ca)?.verify_client_cert(&CertificateDer::from(leaf), &[], at);
    verified.map(|_| ()).map_err(ClientRefused::Chain)
}

fn client_verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(load_roots(path)?), provider)
        .build()
        .map_err(|source| TlsError::ClientCa { path: path.into(), source })
}

fn mismatch(identity: &IdentityFiles, source: rustls::Error) -> TlsError {
    TlsError::Identity { certificates: identity.certificates.clone(), key: identity.key.clone(), source }
}

fn load_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in load_certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::BadRoot { path: path.into(), source })?;
    }
    Ok(roots)
}

/// The certificate (DER) in which a party shows itself: the first of its chain.
///
/// # Errors
/// [`TlsError`] names the file, what is wrong with it and what to do.
pub fn own_certificate(identity: &IdentityFiles) -> Result<CertificateDer<'static>, TlsError> {
    let certificates = load_certificates(&identity.certificates)?;
    Ok(certificates.into_iter().next().expect("at least one, or it does not load"))
}

/// Refuses a certificate that is not valid now.
///
/// # Errors
/// [`TlsError`] names the file, what is wrong with it and what to do.
pub fn check_lifetime(identity: &IdentityFiles) -> Result<(), TlsError> {
    lifetime::check(&own_certificate(identity)?, &identity.certificates)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn load_identity(identity: &IdentityFiles) -> Result<Identity, TlsError> {
    Ok((load_certificates(&identity.certificates)?, load_key(&identity.key)?))
}

/// The revocation lists in a PEM file; at least one.
///
/// # Errors
/// [`TlsError`] names the file, what is wrong with it and what to do.
pub fn load_revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let text = read_all(path, open(path)?)?;
    let lists = CertificateRevocationListDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let lists = lists.map_err(|source| TlsError::NotPem { path: path.into(), source })?;
    if lists.is_empty() {
        return Err(TlsError::NoRevocationList { path: path.into() });
    }
    Ok(lists)
}

/// The certificates in a PEM file; at least one.
///
/// # Errors
/// [`TlsError`] names the file, what is wrong with it and what to do.
pub fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read_all(path, open(path)?)?;
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|source| TlsError::NotPem { path: path.into(), source })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate { path: path.into() });
    }
    Ok(certificates)
}

/// The text of a PEM file with a private key, which must not be open to all users.
///
/// # Errors
/// [`TlsError`] names the file, what is wrong with it and what to do.
pub fn load_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let file = open(path)?;
    refuse_open_to_all(path, &file)?;
    read_all(path, file)
}

fn load_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = load_private(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|source| match source {
        pem::Error::NoItemsFound => TlsError::NoKey { path: path.into() },
        source => TlsError::NotPem { path: path.into(), source },
    })
}

/// Asks the open file, not the path, so that nobody can swap it in between.
#[cfg(unix)]
fn refuse_open_to_all(path: &Path, file: &File) -> Result<(), TlsError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = file.metadata().map_err(|source| TlsError::Read { path: path.into(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(TlsError::OpenToAll { path: path.into(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_open_to_all(_: &Path, _: &File) -> Result<(), TlsError> {
    Ok(())
}

fn open(path: &Path) -> Result<File, TlsError> {
    regular::open(path).map_err(|source| TlsError::Read { path: path.into(), source })
}

/// The whole file. The buffer has its final size from the start: growing would leave copies of a key behind.
fn read_all(path: &Path, file: File) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let read_error = |source| TlsError::Read { path: path.into(), source };
    let length = file.metadata().map_err(read_error)?.len();
    if length > MAX_FILE_BYTES {
        return Err(TlsError::TooLarge { path: path.into() });
    }
    let room = usize::try_from(length).map_err(|_| TlsError::TooLarge { path: path.into() })?;
    let mut text = Zeroizing::new(Vec::with_capacity(room.saturating_add(1)));
    file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(read_error)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConnection, NamedGroup, ProtocolVersion, ServerConnection};
    use rustls_pki_types::ServerName;

    use super::*;
    use crate::net::regular::tests::{at_once, put_pipe};
    use crate::net::tests::{Ca, carry, write_file};

    #[test]
    fn keys_are_agreed_on_by_what_the_library_has_of_the_best() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let ca = Ca::new(dir.path(), "ca");
        let server = server_config(&ca.issue("server", &["localhost"]), None).expect("good files");
        let client = client_config(&ClientTls { ca_file: Some(ca.file), identity: None }).expect("good files");
        assert_eq!((server.fips(), client.fips()), (cfg!(feature = "fips"), cfg!(feature = "fips")));
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(Arc::new(client), name).expect("starts");
        let mut server = ServerConnection::new(server).expect("starts");
        while client.is_handshaking() || server.is_handshaking() {
            carry(&mut client, &mut server).expect("TLS");
            carry(&mut server, &mut client).expect("TLS");
        }
        assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        let best = if cfg!(feature = "aws-lc") { NamedGroup::X25519MLKEM768 } else { NamedGroup::X25519 };
        assert_eq!(client.negotiated_key_exchange_group().map(|group| group.name()), Some(best));
        let suites = default_provider().cipher_suites;
        assert_eq!(suites.iter().all(|suite| suite.fips()), cfg!(feature = "fips"));
    }

    #[test]
    fn a_good_identity_loads_for_server_and_client() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let ca = Ca::new(dir.path(), "ca");
        let identity = ca.issue("server", &["localhost"]);
        let server = server_config(&identity, Some(&ca.file)).expect("good files");
        assert_eq!(server.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        client_config(&ClientTls { ca_file: Some(ca.file.clone()), identity: Some(identity) }).expect("good files");
        client_config(&ClientTls::default()).expect("public roots");
    }

    #[cfg(unix)]
    #[test]
    fn a_world_readable_key_is_refused_by_name() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("temporary folder");
        let identity = Ca::new(dir.path(), "ca").issue("server", &["localhost"]);
        std::fs::set_permissions(&identity.key, std::fs::Permissions::from_mode(0o644)).expect("own file");
        let error = server_config(&identity, None).expect_err("open to all");
        assert!(matches!(&error, TlsError::OpenToAll { path, mode: 0o644 } if *path == identity.key));
        assert!(error.to_string().contains("chmod o-rwx"));
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let ca = Ca::new(dir.path(), "ca");
        let identity = ca.issue("server", &["localhost"]);
        for path in [&identity.certificates, &identity.key, &ca.file] {
            let (identity, ca_file) = (ca.issue("server", &["localhost"]), ca.file.clone());
            put_pipe(path);
            let error = at_once(move || server_config(&identity, Some(&ca_file))).expect_err("a pipe");
            assert!(matches!(&error, TlsError::Read { path: found, .. } if found == path), "{error}");
            std::fs::remove_file(path).expect("own pipe");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let ca = Ca::new(dir.path(), "ca");
        let one = ca.issue("one", &["localhost"]);
        let two = ca.issue("two", &["localhost"]);
        let with = |certificates: &Path, key: &Path| {
            let files = IdentityFiles { certificates: certificates.into(), key: key.into() };
            server_config(&files, None).expect_err("must be refused")
        };
        assert!(matches!(with(&one.certificates, &two.key), TlsError::Identity { .. }));
        assert!(matches!(with(&dir.path().join("absent"), &one.key), TlsError::Read { .. }));
        assert!(matches!(with(&one.key, &one.key), TlsError::NoCertificate { .. }));
        assert!(matches!(with(&one.certificates, &write_file(dir.path(), "empty", b"")), TlsError::NoKey { .. }));
        let cut = write_file(dir.path(), "cut", b"-----BEGIN CERTIFICATE-----\nMIIB\n");
        assert!(matches!(with(&cut, &one.key), TlsError::NotPem { .. }));
        let garbage = write_file(dir.path(), "bad", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
        assert!(matches!(server_config(&one, Some(&garbage)), Err(TlsError::BadRoot { .. })));
    }
}
