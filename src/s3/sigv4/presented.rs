//! Reads the credentials that a request presents. Nothing here is believed yet.

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};

use super::encoding::{Parameter, parse_hex32, query_parameters};
use super::key::Scope;
use super::{ALGORITHM, AuthError, Field, MAX_EXPIRES_S, Malformed, RequestView, SERVICE, TERMINATOR, Timestamp};

/// Most bytes of an `Authorization` header.
const MAX_AUTHORIZATION_LEN: usize = 8 * 1024;
/// Most headers that a signature covers.
const MAX_SIGNED_HEADERS: usize = 256;
/// Most bytes of an access key, and of a region.
const MAX_NAME_LEN: usize = 128;

/// The credentials that a request presents, read but not verified.
#[derive(Debug, Clone)]
pub struct Presented {
    pub(super) access_key: String,
    pub(super) timestamp: Timestamp,
    pub(super) scope: Scope,
    pub(super) signed_headers: Vec<HeaderName>,
    pub(super) signature: [u8; 32],
    pub(super) form: Form,
    has_security_token: bool,
}

/// Where the credentials stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// In the `Authorization` header.
    Header,
    /// In the query.
    Presigned {
        expires_s: u32,
        /// `X-Amz-Content-Sha256`.
        content_sha256: Option<String>,
    },
}

impl Presented {
    /// Reads the credentials of a request; none when it presents none.
    ///
    /// # Errors
    /// [`AuthError`]: credentials of another kind, of two kinds, or malformed.
    pub fn parse(view: &RequestView<'_>) -> Result<Option<Self>, AuthError> {
        let query = QueryCredentials::read(view.raw_query)?;
        let mut headers = view.headers.get_all(AUTHORIZATION).iter();
        match (headers.next(), headers.next(), query) {
            (None, _, None) => Ok(None),
            (Some(header), None, None) => Self::from_header(header, view).map(Some),
            (None, _, Some(query)) => Self::from_query(query, view).map(Some).map_err(AuthError::from),
            _ => Err(AuthError::SeveralMechanisms),
        }
    }

    /// The access key id, as the client wrote it. A signature in the header does not cover it: it is bound to the
    /// request only by the secret that the caller finds under it, so no two access keys may share a secret.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The region in the credential.
    pub fn region(&self) -> &str {
        &self.scope.region
    }

    /// The time that the request says it was signed at.
    pub fn timestamp(&self) -> &Timestamp {
        &self.timestamp
    }

    /// Whether the credentials stand in the query.
    pub fn is_presigned(&self) -> bool {
        matches!(self.form, Form::Presigned { .. })
    }

    /// Whether the request carries a session token, in header or query.
    pub fn has_security_token(&self) -> bool {
        self.has_security_token
    }

    fn from_header(header: &HeaderValue, view: &RequestView<'_>) -> Result<Self, AuthError> {
        let fields = HeaderCredentials::read(header)?;
        let timestamp = Timestamp::of_headers(view.headers)?;
        let (access_key, scope) = parse_credential(fields.credential).map_err(AuthError::Header)?;
        if scope.date != timestamp.date() {
            return Err(AuthError::Header(Malformed::ScopeDate));
        }
        Ok(Self {
            access_key,
            timestamp,
            scope,
            signed_headers: parse_signed_headers(fields.signed_headers).map_err(AuthError::Header)?,
            signature: parse_signature(fields.signature).map_err(AuthError::Header)?,
            form: Form::Header,
            has_security_token: view.headers.contains_key("x-amz-security-token"),
        })
    }

    fn from_query(query: QueryCredentials, view: &RequestView<'_>) -> Result<Self, QueryError> {
        let algorithm = query.algorithm.ok_or(Malformed::Missing(Field::Algorithm))?;
        if algorithm.starts_with("AWS4-ECDSA") {
            return Err(QueryError(AuthError::Ecdsa));
        }
        if algorithm != ALGORITHM {
            return Err(Malformed::Invalid(Field::Algorithm).into());
        }
        let credential = query.credential.ok_or(Malformed::Missing(Field::Credential))?;
        let (access_key, scope) = parse_credential(&credential)?;
        let date = query.date.ok_or(Malformed::Missing(Field::Date))?;
        let timestamp = Timestamp::parse(&date).ok_or(Malformed::Invalid(Field::Date))?;
        if scope.date != timestamp.date() {
            return Err(Malformed::ScopeDate.into());
        }
        let expires_s = parse_expires(&query.expires.ok_or(Malformed::Missing(Field::Expires))?)?;
        let signed_headers = query.signed_headers.ok_or(Malformed::Missing(Field::SignedHeaders))?;
        let signature = query.signature.ok_or(Malformed::Missing(Field::Signature))?;
        Ok(Self {
            access_key,
            timestamp,
            scope,
            signed_headers: parse_signed_headers(&signed_headers)?,
            signature: parse_signature(&signature)?,
            form: Form::Presigned { expires_s, content_sha256: query.content_sha256 },
            has_security_token: query.security_token.is_some() || view.headers.contains_key("x-amz-security-token"),
        })
    }
}

/// An error while reading presigned credentials, so that `?` puts [`Malformed`] in its place.
struct QueryError(AuthError);

impl From<Malformed> for QueryError {
    fn from(cause: Malformed) -> Self {
        Self(AuthError::Query(cause))
    }
}

impl From<QueryError> for AuthError {
    fn from(error: QueryError) -> Self {
        error.0
    }
}

/// The parts of an `Authorization` header.
struct HeaderCredentials<'h> {
    credential: &'h str,
    signed_headers: &'h str,
    signature: &'h str,
}

impl<'h> HeaderCredentials<'h> {
    /// Reads `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`, in any order, with or without spaces
    /// after the commas (minio-go sends none).
    fn read(header: &'h HeaderValue) -> Result<Self, AuthError> {
        let malformed = |cause| AuthError::Header(cause);
        if header.len() > MAX_AUTHORIZATION_LEN {
            return Err(malformed(Malformed::Syntax));
        }
        let text = header.to_str().map_err(|_| malformed(Malformed::Syntax))?.trim();
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        match scheme {
            ALGORITHM => {}
            "AWS" => return Err(AuthError::SignatureV2),
            _ if scheme.starts_with("AWS4-ECDSA") => return Err(AuthError::Ecdsa),
            _ => return Err(AuthError::UnsupportedScheme),
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for item in rest.split(',') {
            let (name, value) = item.trim().split_once('=').ok_or(malformed(Malformed::Syntax))?;
            let (slot, field) = match name {
                "Credential" => (&mut credential, Field::Credential),
                "SignedHeaders" => (&mut signed_headers, Field::SignedHeaders),
                "Signature" => (&mut signature, Field::Signature),
                _ => return Err(malformed(Malformed::Syntax)),
            };
            if slot.replace(value).is_some() {
                return Err(malformed(Malformed::Duplicate(field)));
            }
        }
        Ok(Self {
            credential: credential.ok_or(malformed(Malformed::Missing(Field::Credential)))?,
            signed_headers: signed_headers.ok_or(malformed(Malformed::Missing(Field::SignedHeaders)))?,
            signature: signature.ok_or(malformed(Malformed::Missing(Field::Signature)))?,
        })
    }
}

/// The `X-Amz-` parameters of a presigned query.
#[derive(Default)]
struct QueryCredentials {
    algorithm: Option<String>,
    credential: Option<String>,
    date: Option<String>,
    expires: Option<String>,
    signed_headers: Option<String>,
    signature: Option<String>,
    security_token: Option<String>,
    content_sha256: Option<String>,
}

impl QueryCredentials {
    /// None when the query presents no credentials: a date, token or hash alone are none.
    fn read(raw: Option<&str>) -> Result<Option<Self>, AuthError> {
        let mut found = Self::default();
        for Parameter { name, value } in query_parameters(raw.unwrap_or_default())? {
            let (slot, field) = match name.as_slice() {
                b"AWSAccessKeyId" | b"Signature" => return Err(AuthError::SignatureV2),
                b"X-Amz-Algorithm" => (&mut found.algorithm, Field::Algorithm),
                b"X-Amz-Credential" => (&mut found.credential, Field::Credential),
                b"X-Amz-Date" => (&mut found.date, Field::Date),
                b"X-Amz-Expires" => (&mut found.expires, Field::Expires),
                b"X-Amz-SignedHeaders" => (&mut found.signed_headers, Field::SignedHeaders),
                b"X-Amz-Signature" => (&mut found.signature, Field::Signature),
                b"X-Amz-Security-Token" => (&mut found.security_token, Field::SecurityToken),
                b"X-Amz-Content-Sha256" => (&mut found.content_sha256, Field::ContentSha256),
                _ => continue,
            };
            let value = String::from_utf8(value).map_err(|_| AuthError::Query(Malformed::Invalid(field)))?;
            if slot.replace(value).is_some() {
                return Err(AuthError::Query(Malformed::Duplicate(field)));
            }
        }
        let credentials =
            [&found.algorithm, &found.credential, &found.expires, &found.signed_headers, &found.signature];
        let presented = credentials.into_iter().any(Option::is_some);
        Ok(presented.then_some(found))
    }
}

/// Splits `access key/YYYYMMDD/region/s3/aws4_request` from the right, because access keys of other makers than AWS
/// may contain a slash.
pub(super) fn parse_credential(text: &str) -> Result<(String, Scope), Malformed> {
    let mut parts = text.rsplitn(5, '/');
    let mut next = || parts.next().ok_or(Malformed::Credential);
    let (terminator, service, region, date, access_key) = (next()?, next()?, next()?, next()?, next()?);
    let is_name = |name: &str| (1..=MAX_NAME_LEN).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    let is_date = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    if terminator != TERMINATOR || !is_date || !is_name(region) || !is_name(access_key) {
        return Err(Malformed::Credential);
    }
    if service != SERVICE {
        return Err(Malformed::Service);
    }
    Ok((access_key.to_owned(), Scope { date: date.to_owned(), region: region.to_owned() }))
}

/// Lower-case names, sorted and without repetition, as AWS demands; so the list is its own canonical form.
fn parse_signed_headers(text: &str) -> Result<Vec<HeaderName>, Malformed> {
    let invalid = Malformed::Invalid(Field::SignedHeaders);
    let mut names: Vec<HeaderName> = Vec::new();
    for item in text.split(';') {
        let name = HeaderName::try_from(item).map_err(|_| invalid)?;
        let in_order = names.last().is_none_or(|last| last.as_str() < name.as_str());
        if name.as_str() != item || !in_order || names.len() == MAX_SIGNED_HEADERS {
            return Err(invalid);
        }
        names.push(name);
    }
    Ok(names)
}

pub(super) fn parse_signature(text: &str) -> Result<[u8; 32], Malformed> {
    parse_hex32(text.as_bytes()).ok_or(Malformed::Invalid(Field::Signature))
}

/// Zero is a number like others, and gives a URL that was never valid.
fn parse_expires(text: &str) -> Result<u32, Malformed> {
    let digits = (1..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = digits.then(|| text.parse().ok()).flatten().filter(|seconds| *seconds <= MAX_EXPIRES_S);
    seconds.ok_or(Malformed::Invalid(Field::Expires))
}
