//! Verifies presented credentials against a secret.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use time::{Duration, OffsetDateTime};

use super::canonical::{Canonical, single_header, string_to_sign};
use super::encoding::parse_hex32;
use super::key::{Scope, SecretKey};
use super::presented::Form;
use super::{
    AuthError, ChunkSigner, Malformed, Presented, RequestView, STREAMING_SIGNED, STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER, UNSIGNED_PAYLOAD,
};
use crate::crypto::{HmacKey, constant_time_eq};

/// Beginnings of the names of headers that must be signed when they are there.
const SIGNED_FAMILIES: [&str; 2] = ["x-amz-", "x-claviger-"];

/// What a server accepts.
#[derive(Debug, Clone)]
pub struct VerifySettings {
    /// The regions that a credential may name; empty: any.
    pub regions: Vec<String>,
    /// How far a client's clock may be off.
    pub max_skew: Duration,
}

impl Default for VerifySettings {
    /// Any region; 15 minutes, as AWS.
    fn default() -> Self {
        Self { regions: Vec::new(), max_skew: Duration::minutes(15) }
    }
}

/// What a verified signature says about the body.
#[derive(Debug)]
pub enum Payload {
    /// The SHA-256 of the whole body, which the body must have.
    Signed([u8; 32]),
    /// Nothing.
    Unsigned,
    /// The body is aws-chunked, and each chunk is signed.
    StreamingSigned {
        /// Whether a signed trailer follows.
        trailer: bool,
        /// Verifies the chunks.
        signer: ChunkSigner,
    },
    /// The body is aws-chunked without chunk signatures, and a trailer follows.
    StreamingUnsignedTrailer,
}

impl Payload {
    /// What the headers of a request that is not signed say about its body. Without `x-amz-content-sha256`, which signing
    /// brings along, `x-amz-decoded-content-length` tells that it is aws-chunked.
    ///
    /// # Errors
    /// [`AuthError::ContentSha256Invalid`], for chunk signatures too: there is no key that could have made them.
    pub fn of_unsigned(headers: &HeaderMap) -> Result<Self, AuthError> {
        let Some(word) = single_header(headers, "x-amz-content-sha256")? else {
            let chunked = headers.contains_key("x-amz-decoded-content-length");
            return Ok(if chunked { Self::StreamingUnsignedTrailer } else { Self::Unsigned });
        };
        match parse_payload_word(word.to_str().map_err(|_| AuthError::ContentSha256Invalid)?)? {
            PayloadWord::Signed(hash) => Ok(Self::Signed(hash)),
            PayloadWord::Unsigned => Ok(Self::Unsigned),
            PayloadWord::StreamingUnsignedTrailer => Ok(Self::StreamingUnsignedTrailer),
            PayloadWord::StreamingSigned { .. } => Err(AuthError::ContentSha256Invalid),
        }
    }

    /// The SHA-256 that the body must have, if the signature covers one.
    pub fn sha256(&self) -> Option<[u8; 32]> {
        match self {
            Self::Signed(hash) => Some(*hash),
            Self::Unsigned | Self::StreamingSigned { .. } | Self::StreamingUnsignedTrailer => None,
        }
    }
}

/// The proof that a request, or the policy of a form, was signed with the secret of its access key.
pub struct VerifiedSignature {
    access_key: String,
    region: String,
    payload: Payload,
}

impl VerifiedSignature {
    /// For [`super::PresentedPolicy::verify`].
    pub(super) fn of_policy(access_key: &str, region: &str, payload: Payload) -> Self {
        Self { access_key: access_key.to_owned(), region: region.to_owned(), payload }
    }

    /// The access key id.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The region that the client signed for.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// What the signature says about the body.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The access key id, and what the signature says about the body.
    pub fn into_parts(self) -> (String, Payload) {
        (self.access_key, self.payload)
    }
}

impl fmt::Debug for VerifiedSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedSignature").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// The word in `x-amz-content-sha256`.
#[derive(Clone, Copy)]
enum PayloadWord {
    Signed([u8; 32]),
    Unsigned,
    StreamingSigned { trailer: bool },
    StreamingUnsignedTrailer,
}

impl Presented {
    /// Verifies that the request in `view`, from which this was parsed, was signed with `secret`.
    ///
    /// As AWS demands, `host` and every `x-amz-` header have to be signed, and so have our own, `x-claviger-`: nobody on
    /// the way shall put a reason for using keys into a client's mouth. No other header has to (minio-go leaves
    /// `Content-Type` out when it streams).
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn verify(
        &self,
        view: &RequestView<'_>,
        secret: &SecretKey,
        now: OffsetDateTime,
        settings: &VerifySettings,
    ) -> Result<VerifiedSignature, AuthError> {
        self.check_region(settings)?;
        self.check_time(now, settings)?;
        self.check_signed_headers(view)?;
        let payload_hash = self.payload_hash(view)?;
        let word = parse_payload_word(payload_hash)?;

        let canonical = Canonical {
            method: view.method,
            raw_path: view.raw_path,
            raw_query: view.raw_query,
            headers: view.headers,
            signed_headers: &self.signed_headers,
            payload_hash,
        };
        let string_to_sign = string_to_sign(&self.timestamp, &self.scope, &canonical.request()?);
        let key = secret.signing_key(&self.scope);
        let expected = key.sign(string_to_sign.as_bytes());
        if !constant_time_eq(&expected, &self.signature) {
            return Err(AuthError::SignatureMismatch);
        }
        Ok(VerifiedSignature {
            access_key: self.access_key.clone(),
            region: self.scope.region.clone(),
            payload: self.payload(word, key),
        })
    }

    fn check_region(&self, settings: &VerifySettings) -> Result<(), AuthError> {
        check_region(
            &self.scope,
            settings,
            match self.form {
                Form::Header => AuthError::Header,
                Form::Presigned { .. } => AuthError::Query,
            },
        )
    }

    fn check_time(&self, now: OffsetDateTime, settings: &VerifySettings) -> Result<(), AuthError> {
        let since = now - self.timestamp.at();
        match self.form {
            Form::Header if since.abs() > settings.max_skew => Err(AuthError::Skewed),
            Form::Presigned { expires_s: 0, .. } => Err(AuthError::Expired),
            Form::Presigned { .. } if since < -settings.max_skew => Err(AuthError::NotYetValid),
            Form::Presigned { expires_s, .. } if since > Duration::seconds(expires_s.into()) => Err(AuthError::Expired),
            _ => Ok(()),
        }
    }

    fn check_signed_headers(&self, view: &RequestView<'_>) -> Result<(), AuthError> {
        if !self.signed_headers.iter().any(|name| name == "host") {
            return Err(AuthError::HostNotSigned);
        }
        single_header(view.headers, "host")?;
        if let Some(missing) = self.signed_headers.iter().find(|name| !view.headers.contains_key(*name)) {
            return Err(AuthError::SignedHeaderMissing(missing.clone()));
        }
        let mut unsigned = view.headers.keys().filter(|name| !self.signed_headers.contains(name));
        match unsigned.find(|name| SIGNED_FAMILIES.iter().any(|family| name.as_str().starts_with(family))) {
            Some(name) => Err(AuthError::HeaderNotSigned(name.clone())),
            None => Ok(()),
        }
    }

    /// The text that stands for the body in what is signed.
    fn payload_hash<'v>(&'v self, view: &RequestView<'v>) -> Result<&'v str, AuthError> {
        let header = single_header(view.headers, "x-amz-content-sha256")?;
        let header = header.map(|value| value.to_str().map_err(|_| AuthError::ContentSha256Invalid)).transpose()?;
        match (&self.form, header) {
            (Form::Header, None) => Err(AuthError::ContentSha256Missing),
            (Form::Header, Some(hash)) => Ok(hash),
            (Form::Presigned { content_sha256: Some(query), .. }, Some(header)) if query != header => {
                Err(AuthError::ContentSha256Invalid)
            }
            (Form::Presigned { content_sha256, .. }, header) => {
                Ok(header.or(content_sha256.as_deref()).unwrap_or(UNSIGNED_PAYLOAD))
            }
        }
    }

    fn payload(&self, word: PayloadWord, key: Arc<HmacKey>) -> Payload {
        match word {
            PayloadWord::Signed(hash) => Payload::Signed(hash),
            PayloadWord::Unsigned => Payload::Unsigned,
            PayloadWord::StreamingUnsignedTrailer => Payload::StreamingUnsignedTrailer,
            PayloadWord::StreamingSigned { trailer } => {
                let signer = ChunkSigner::new(key, self.timestamp.clone(), self.scope.clone(), self.signature);
                Payload::StreamingSigned { trailer, signer }
            }
        }
    }
}

pub(super) fn check_region(
    scope: &Scope,
    settings: &VerifySettings,
    error: fn(Malformed) -> AuthError,
) -> Result<(), AuthError> {
    let known = settings.regions.is_empty() || settings.regions.contains(&scope.region);
    if known { Ok(()) } else { Err(error(Malformed::Region)) }
}

fn parse_payload_word(text: &str) -> Result<PayloadWord, AuthError> {
    match text {
        UNSIGNED_PAYLOAD => Ok(PayloadWord::Unsigned),
        STREAMING_UNSIGNED_TRAILER => Ok(PayloadWord::StreamingUnsignedTrailer),
        STREAMING_SIGNED => Ok(PayloadWord::StreamingSigned { trailer: false }),
        STREAMING_SIGNED_TRAILER => Ok(PayloadWord::StreamingSigned { trailer: true }),
        _ if text.starts_with("STREAMING-AWS4-ECDSA-") => Err(AuthError::Ecdsa),
        _ => parse_hex32(text.as_bytes()).map(PayloadWord::Signed).ok_or(AuthError::ContentSha256Invalid),
    }
}
