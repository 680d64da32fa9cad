//! Why a request is not authenticated.

use http::HeaderName;

use super::encoding::MalformedUri;

/// A part of the credentials in a header or query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `AWS4-HMAC-SHA256` or `X-Amz-Algorithm`.
    Algorithm,
    /// `Credential` or `X-Amz-Credential`.
    Credential,
    /// `SignedHeaders` or `X-Amz-SignedHeaders`.
    SignedHeaders,
    /// `Signature` or `X-Amz-Signature`.
    Signature,
    /// `X-Amz-Date`.
    Date,
    /// `X-Amz-Expires`.
    Expires,
    /// `X-Amz-Security-Token`.
    SecurityToken,
    /// `X-Amz-Content-Sha256`.
    ContentSha256,
    /// `policy`.
    Policy,
}

/// What is wrong with the credentials in a header or query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Too long, or not `Name=value` pairs with commas.
    #[error("it is not a list of Name=value")]
    Syntax,
    /// A part that is needed is not there.
    #[error("{0:?} is missing")]
    Missing(Field),
    /// A part stands there twice.
    #[error("{0:?} is given twice")]
    Duplicate(Field),
    /// A part that is not text, or not of its form.
    #[error("{0:?} is not valid")]
    Invalid(Field),
    /// The credential is not `access key/YYYYMMDD/region/service/aws4_request`.
    #[error("the credential is not ACCESS-KEY/YYYYMMDD/REGION/s3/aws4_request")]
    Credential,
    /// The credential is for another service than S3.
    #[error("the credential is not for the service s3")]
    Service,
    /// The credential's date is not the request's.
    #[error("the date in the credential is not the date of the request")]
    ScopeDate,
    /// The credential's region is not one that this server answers for.
    #[error("the region in the credential is wrong")]
    Region,
}

/// Why a request is not authenticated. Beside each variant: the error code that AWS answers with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Credentials both in the header and in the query, or twice in the header (`InvalidArgument`).
    #[error("only one authentication mechanism is allowed")]
    SeveralMechanisms,
    /// Signature Version 2 (`InvalidRequest`).
    #[error("signature version 2 is not supported, use AWS4-HMAC-SHA256")]
    SignatureV2,
    /// `Authorization` of another kind, such as `Basic` (`InvalidArgument`).
    #[error("the authorization type is not supported, use AWS4-HMAC-SHA256")]
    UnsupportedScheme,
    /// An asymmetric signature, Signature Version 4A (`NotImplemented`).
    #[error("signature version 4A (ECDSA) is not implemented")]
    Ecdsa,
    /// The `Authorization` header is malformed (`AuthorizationHeaderMalformed`).
    #[error("the Authorization header is malformed: {0}")]
    Header(Malformed),
    /// The presigned query is malformed (`AuthorizationQueryParametersError`; for a validity that is out of range,
    /// `AccessDenied`, as others answer).
    #[error("the query parameters for authentication are malformed: {0}")]
    Query(Malformed),
    /// The fields of a form are malformed (`InvalidArgument`).
    #[error("the form's fields for authentication are malformed: {0}")]
    Form(Malformed),
    /// The path or query is not percent-encoded, or has too many parameters (`InvalidURI`).
    #[error(transparent)]
    Uri(#[from] MalformedUri),
    /// Neither `x-amz-date` nor `Date` (`AccessDenied`).
    #[error("authentication requires a Date or x-amz-date header")]
    DateMissing,
    /// `x-amz-date` or `Date` is no date (`AccessDenied`).
    #[error("the Date or x-amz-date header is not a valid date")]
    DateInvalid,
    /// A header that may stand there once stands there twice (`InvalidArgument`).
    #[error("the header {0} may be given only once")]
    RepeatedHeader(HeaderName),
    /// `host` is not signed (`AccessDenied`).
    #[error("the host header is not signed")]
    HostNotSigned,
    /// An `x-amz-` header of the request is not signed (`AccessDenied`).
    #[error("the header {0} is present in the request but not signed")]
    HeaderNotSigned(HeaderName),
    /// A header that is said to be signed is not there (`SignatureDoesNotMatch`).
    #[error("the header {0} is signed but not present in the request")]
    SignedHeaderMissing(HeaderName),
    /// A request with a signature in its header has no `x-amz-content-sha256` (`InvalidRequest`).
    #[error("missing required header: x-amz-content-sha256")]
    ContentSha256Missing,
    /// `x-amz-content-sha256` is neither a hash nor a known word (`InvalidArgument`).
    #[error("x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a STREAMING- value, or a SHA-256 in hex")]
    ContentSha256Invalid,
    /// The request's date is too far from now (`RequestTimeTooSkewed`).
    #[error("the difference between the request time and the current time is too large")]
    Skewed,
    /// A presigned request is for later (`AccessDenied`).
    #[error("the request is not yet valid")]
    NotYetValid,
    /// A presigned request is over (`AccessDenied`).
    #[error("the request has expired")]
    Expired,
    /// The signature is not that of this request under this key (`SignatureDoesNotMatch`).
    #[error("the signature does not match")]
    SignatureMismatch,
}
