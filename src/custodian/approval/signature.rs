//! One officer's signature for or against something.
//!
//! ```text
//! message = label ‖ 0 ‖ verb ‖ 0 ‖ hash,  label "claviger/1 approval" or "claviger/1 grant approval", verb "approve" or "veto"
//! ```
//!
//! The signature is by the key of the officer's certificate: ECDSA P-256 with SHA-256 (ASN.1), or Ed25519. Whoever has the
//! officers' CA can check it without the custodian.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::crypto::{self, NotAuthentic, Pkcs8Key, RandomFailed, SignatureKind, UnusableKey};
use crate::net::tls::{self, ClientRefused};

use super::json::rfc3339;
use crate::custodian::identity::{self, InvalidIdentity, SpiffeId};

/// Most bytes of an officer's certificate.
pub const CERTIFICATE_LEN_MAX: usize = 8 << 10;
/// Most bytes of a signature.
pub const SIGNATURE_LEN_MAX: usize = 128;
/// Object identifiers (RFC 5480, RFC 8410) of the keys that sign.
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const PRIME256V1: &str = "1.2.840.10045.3.1.7";
const ED25519: &str = "1.3.101.112";

/// What is signed for: a signature for one is none for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A proposal.
    Proposal,
    /// An access grant.
    Grant,
}

impl Subject {
    fn label(self) -> &'static str {
        match self {
            Self::Proposal => "claviger/1 approval",
            Self::Grant => "claviger/1 grant approval",
        }
    }
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// For it.
    Approve,
    /// Against it, which ends it.
    Veto,
}

impl Verb {
    /// As it stands in messages and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Veto => "veto",
        }
    }
}

/// An officer's signature, and the certificate to check it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Who.
    pub officer: SpiffeId,
    /// The officer's certificate, DER.
    pub certificate: Vec<u8>,
    /// The signature of the message.
    pub signature: Vec<u8>,
    /// When, by the clock of whoever took it in. It is not signed.
    pub at_unix_s: i64,
    /// Which way.
    pub verb: Verb,
}

/// An approval, a veto or the carrying out is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// The certificate does not say who, or its key is of another kind.
    #[error("the certificate is not one of an officer with an EC P-256 or Ed25519 key")]
    Certificate,
    /// Whoever asks is not the officer of the approval, or shows another certificate.
    #[error("the approval is by another certificate than the one that the connection was made with")]
    OtherCertificate,
    /// Only officers approve and veto.
    #[error("only officers may approve or deny")]
    NotAnOfficer,
    /// The signature is not by that key, or over something else.
    #[error("the signature is not of this officer over this hash")]
    NotAuthentic,
    /// An approval where a veto belongs, or the other way around.
    #[error("the signature is for the other verb")]
    WrongVerb,
    /// Nobody approves what they ask for themselves.
    #[error("whoever asks for something cannot approve it")]
    OwnRequest,
    /// One person counts once.
    #[error("this officer has approved already")]
    AlreadyApproved,
    /// One key counts once, whatever names its certificates bear.
    #[error("an officer has approved with this very key already")]
    SameKey,
    /// More approvals than are kept.
    #[error("there are as many approvals as can be kept")]
    TooMany,
    /// Too few officers have approved.
    #[error("too few officers have approved")]
    NotApproved,
    /// Only the requester carries out a proposal.
    #[error("only whoever proposed it may carry it out")]
    NotTheRequester,
    /// An officer said no, or it was ended.
    #[error("an officer has denied or ended it")]
    Stopped,
    /// It was carried out already.
    #[error("it was carried out already")]
    Executed,
    /// It was approved by enough already.
    #[error("it is in force already")]
    InForce,
    /// Its time is over.
    #[error("it has expired; ask again")]
    Expired,
}

impl From<InvalidIdentity> for ApprovalError {
    fn from(_: InvalidIdentity) -> Self {
        Self::Certificate
    }
}

impl From<NotAuthentic> for ApprovalError {
    fn from(_: NotAuthentic) -> Self {
        Self::NotAuthentic
    }
}

/// No signature could be made.
#[derive(Debug, thiserror::Error)]
pub enum SigningFailed {
    /// The key file has no PKCS#8 section.
    #[error(
        "the key file holds no PEM section `BEGIN PRIVATE KEY`, not encrypted: `openssl pkcs8 -topk8 -nocrypt` writes one"
    )]
    NoKey(#[source] pem::Error),
    /// The key is of another kind.
    #[error(transparent)]
    Key(#[from] UnusableKey),
    /// The certificate is none of an officer.
    #[error(transparent)]
    Certificate(#[from] ApprovalError),
    /// Key and certificate belong to different pairs.
    #[error("the key is not that of the certificate")]
    OtherKey,
    /// ECDSA draws.
    #[error(transparent)]
    Random(#[from] RandomFailed),
}

/// Why an approval does not hold without the custodian's word.
#[derive(Debug, thiserror::Error)]
pub enum OfflineRefused {
    /// The certificate is not from the officers' CA, or not valid at that time.
    #[error("the officer's certificate does not hold")]
    Chain(#[source] ClientRefused),
    /// The signature or the certificate's name does not hold.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
}

/// The key of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PublicKey {
    kind: SignatureKind,
    bytes: Vec<u8>,
}

impl PublicKey {
    pub(super) fn of(certificate: &[u8]) -> Result<Self, ApprovalError> {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| ApprovalError::Certificate)?;
        let key = certificate.public_key();
        let parameters = key.algorithm.parameters.as_ref();
        let curve = parameters.and_then(|any| any.as_oid().ok()).map(|oid| oid.to_id_string());
        let kind = match (key.algorithm.algorithm.to_id_string().as_str(), curve.as_deref()) {
            (EC_PUBLIC_KEY, Some(PRIME256V1)) => SignatureKind::EcdsaP256Sha256,
            (ED25519, None) => SignatureKind::Ed25519,
            _ => return Err(ApprovalError::Certificate),
        };
        Ok(Self { kind, bytes: key.subject_public_key.data.to_vec() })
    }

    pub(super) fn sha256(&self) -> [u8; 32] {
        crypto::sha256(&self.bytes)
    }
}

impl Approval {
    /// Of the officer whose certificate it is. Nothing is verified yet.
    ///
    /// # Errors
    /// [`ApprovalError::Certificate`] also when certificate or signature are larger than any should be.
    pub fn new(verb: Verb, certificate: Vec<u8>, signature: Vec<u8>, at_unix_s: i64) -> Result<Self, ApprovalError> {
        if certificate.len() > CERTIFICATE_LEN_MAX {
            return Err(ApprovalError::Certificate);
        }
        if signature.len() > SIGNATURE_LEN_MAX {
            return Err(ApprovalError::NotAuthentic);
        }
        let officer = identity::from_certificate(&certificate)?;
        Ok(Self { officer, certificate, signature, at_unix_s, verb })
    }

    /// For the API and the audit log; certificate and signature in base64.
    pub fn to_json(&self) -> Value {
        json!({
            "officer": self.officer.as_str(),
            "verb": self.verb.as_str(),
            "at": rfc3339(self.at_unix_s),
            "certificate": STANDARD.encode(&self.certificate),
            "signature": STANDARD.encode(&self.signature),
        })
    }
}

/// Signs with an officer's private key (PEM, PKCS#8).
///
/// # Errors
/// [`SigningFailed`].
pub fn sign_approval(
    key_pem: &[u8],
    certificate_der: &[u8],
    subject: Subject,
    verb: Verb,
    hash: &[u8; 32],
    now_unix_s: i64,
) -> Result<Approval, SigningFailed> {
    let mut approval = Approval::new(verb, certificate_der.to_vec(), Vec::new(), now_unix_s)?;
    if !approval.officer.is_officer() {
        return Err(ApprovalError::NotAnOfficer.into());
    }
    let der = PrivatePkcs8KeyDer::from_pem_slice(key_pem).map_err(SigningFailed::NoKey)?;
    let key = Pkcs8Key::parse(der.secret_pkcs8_der())?;
    let public = PublicKey::of(certificate_der)?;
    if public.kind != key.kind() || public.bytes != key.public() {
        return Err(SigningFailed::OtherKey);
    }
    approval.signature = key.sign(&message(subject, verb, hash))?;
    Ok(approval)
}

/// Checks that `approval` is an officer's signature over `hash`. That its certificate is from the officers' CA is not checked:
/// TLS has done that, or [`verify_offline`] does.
///
/// # Errors
/// [`ApprovalError`].
pub fn verify(approval: &Approval, subject: Subject, hash: &[u8; 32]) -> Result<(), ApprovalError> {
    if identity::from_certificate(&approval.certificate)? != approval.officer {
        return Err(ApprovalError::Certificate);
    }
    if !approval.officer.is_officer() {
        return Err(ApprovalError::NotAnOfficer);
    }
    #[cfg(test)]
    VERIFIED.set(VERIFIED.get() + 1);
    let key = PublicKey::of(&approval.certificate)?;
    let message = message(subject, approval.verb, hash);
    Ok(crypto::verify_signature(key.kind, &key.bytes, &message, &approval.signature)?)
}

/// As [`verify`], and that one of `officers_ca` signed the officer's certificate and it was valid at `at_unix_s`.
///
/// # Errors
/// [`OfflineRefused`].
pub fn verify_offline(
    approval: &Approval,
    subject: Subject,
    hash: &[u8; 32],
    officers_ca: &[CertificateDer<'_>],
    at_unix_s: i64,
) -> Result<(), OfflineRefused> {
    let at_unix_s = u64::try_from(at_unix_s).map_err(|_| ApprovalError::Expired)?;
    tls::verify_client(officers_ca, &approval.certificate, at_unix_s).map_err(OfflineRefused::Chain)?;
    Ok(verify(approval, subject, hash)?)
}

#[cfg(test)]
thread_local! {
    /// How many signatures were verified.
    pub(super) static VERIFIED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

fn message(subject: Subject, verb: Verb, hash: &[u8; 32]) -> Vec<u8> {
    [subject.label().as_bytes(), b"\0", verb.as_str().as_bytes(), b"\0", hash].concat()
}
