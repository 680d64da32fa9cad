//! Errors as clients see them: S3's codes, and messages that say what to do.
//!
//! **Invariant:** every cause has its code in one of the exhaustive matches below; a new cause does not compile without.

use std::borrow::Cow;
use std::error::Error as StdError;

use http::header::CONTENT_RANGE;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::custody::CustodyError;
use crate::custody::keys::BranchKeyError;
use crate::format::body::SealError;
use crate::net::body::BodyError;
use crate::object::answer::ReadFailure;
use crate::object::copy::CopyError;
use crate::object::error::Error;
use crate::object::plaintext::UploadError;
use crate::object::unencrypted::MigrationError;
use crate::s3::checksum::{InvalidPromise, Mismatch};
use crate::s3::chunked::ChunkError;
use crate::s3::customer_key::CustomerKeyError;
use crate::s3::error::Code;
use crate::s3::form::FormError;
use crate::s3::form::policy::PolicyError;
use crate::s3::operation::OperationError;
use crate::s3::sigv4::{AuthError, Field, Malformed};
use crate::s3::target::{QueryError, TargetError};
use crate::storage::{Refusal, StorageError};
use crate::telemetry::request_id::RequestId;

use super::access_log::Unwritten;

/// After how many seconds a client may try again what failed for want of a server.
const RETRY_AFTER_S: u32 = 2;

/// An error answer.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) code: Cow<'static, str>,
    pub(super) message: Cow<'static, str>,
    pub(super) extra: Vec<(&'static str, String)>,
    pub(super) retry_after_s: Option<u32>,
    /// Further headers: of the object, and to browsers.
    pub(super) headers: Box<HeaderMap>,
    /// It is the access log itself that failed.
    pub(super) unlogged: bool,
    /// What is stored is not what was written.
    pub(super) alarm: bool,
}

impl Fault {
    pub(super) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: code.status(),
            code: code.as_str().into(),
            message: message.into(),
            extra: Vec::new(),
            retry_after_s: (code.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_S),
            headers: Box::default(),
            unlogged: false,
            alarm: false,
        }
    }

    /// The access log cannot be written, so that nothing is done and nothing is given out.
    pub(super) fn unlogged(error: &Unwritten, id: RequestId) -> Self {
        let error: &(dyn StdError + 'static) = error;
        tracing::error!(request_id = id.as_str(), error, "the access log cannot be written; the request is refused");
        let message = "The proxy cannot write its access log, and does nothing without. Try again later.";
        Self { unlogged: true, ..Self::new(Code::ServiceUnavailable, message) }
    }

    /// The message is the error's own, as a sentence.
    fn saying(code: Code, error: &dyn StdError) -> Self {
        let text = error.to_string();
        let mut letters = text.chars();
        let first = letters.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
        Self::new(code, format!("{first}{}.", letters.as_str()))
    }

    pub(super) fn slow_down() -> Self {
        Self::new(Code::SlowDown, "The proxy has as many requests as it serves at a time. Try again later.")
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.extra.push((name, value.to_string()));
        self
    }

    /// With further headers.
    pub(super) fn also(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// That to an operation that went to the storage server unsigned, where nothing can be wrong with a signature.
    pub(super) fn of_unsigned(error: Error, id: RequestId) -> Self {
        match &error {
            Error::Storage(StorageError::Refused(refusal)) if is_about_proxy(refusal) => {
                tracing::debug!(request_id = id.as_str(), %refusal, "the storage server wants a signature");
                Self::new(Code::AccessDenied, "The storage server does not allow this without a signature.")
            }
            _ => Self::of(error, id),
        }
    }

    /// The answer to a failed operation; tells the operator what the client is not told.
    pub(super) fn of(error: Error, id: RequestId) -> Self {
        let mut fault = fault_of(&error);
        let cause: &(dyn StdError + 'static) = &error;
        fault.alarm = is_alarm(&error);
        if fault.alarm {
            tracing::error!(request_id = id.as_str(), error = cause, "ALARM: stored data is not what was written");
        } else if fault.status.is_server_error() {
            tracing::warn!(request_id = id.as_str(), error = cause, code = %fault.code, "the operation failed");
        } else {
            tracing::debug!(request_id = id.as_str(), error = cause, code = %fault.code, "the operation was refused");
        }
        fault
    }
}

/// Whether somebody tampered with what is stored, or it rotted.
fn is_alarm(error: &Error) -> bool {
    let not_authentic = |error: &BranchKeyError| matches!(error.custody(), Some(CustodyError::NotAuthentic));
    match error {
        Error::NotEncrypted
        | Error::Malformed(_)
        | Error::NotAuthentic
        | Error::ForeignKek(_)
        | Error::ForeignWriter(_)
        | Error::Migration(MigrationError::OldManifest)
        | Error::Copy(CopyError::NotCopied)
        | Error::Upload(UploadError::Source(ReadFailure::Open(_))) => true,
        Error::Key(error) => not_authentic(error),
        _ => false,
    }
}

fn fault_of(error: &Error) -> Fault {
    match error {
        Error::Denied => Fault::new(
            Code::AccessDenied,
            "The proxy's configuration does not grant this client this operation on this bucket.",
        ),
        Error::Preflight => Fault::saying(Code::InvalidRequest, error),
        Error::OtherOrigin => Fault::saying(Code::AccessForbidden, error),
        Error::NoSuchBucket => Fault::new(Code::NoSuchBucket, "The proxy's configuration has no bucket of this name."),
        Error::Storage(error) => storage_fault(error),
        Error::WrongAnswer(_) => Fault::new(
            Code::InternalError,
            "The storage server's answer was not an answer to this request. Its operator should look at the proxy's log.",
        ),
        Error::Key(error) => key_fault(error),
        Error::Revoked(_) => {
            Fault::new(Code::ServiceUnavailable, "The key's lease ended while it was in use. Try again.")
        }
        Error::NotEncrypted => Fault::new(
            Code::InvalidObjectState,
            "The stored object was not encrypted by this proxy, and this bucket does not serve such objects.",
        ),
        Error::Malformed(_) | Error::NotAuthentic => not_authentic(),
        Error::ForeignKek(_) => Fault::new(
            Code::InvalidObjectState,
            "The stored object is encrypted under a KEK that this bucket does not accept.",
        ),
        Error::ForeignWriter(_) => Fault::new(
            Code::InvalidObjectState,
            "The stored object was written by a proxy that this bucket does not accept.",
        ),
        Error::Overwritten => Fault::new(
            Code::ServiceUnavailable,
            "The object was overwritten while it was read, several times in a row. Try again.",
        ),
        Error::UnknownKek => Fault::new(
            Code::KmsNotFound,
            "This bucket does not offer the requested KMS key. Leave the key id out to use the bucket's own.",
        ),
        Error::MissingCustomerKey | Error::NeedlessCustomerKey | Error::WrongCustomerKey => {
            Fault::saying(Code::InvalidRequest, error)
        }
        Error::OtherDefaultKek => Fault::saying(Code::KmsNotFound, error),
        Error::Destination => Fault::saying(Code::NoSuchBucket, error),
        Error::AskedEncryption => Fault::saying(Code::InvalidArgument, error),
        Error::MissingLength => Fault::new(Code::MissingContentLength, "Say the length of the body in Content-Length."),
        Error::TooLarge { length, limit } => {
            Fault::new(Code::EntityTooLarge, "The body is larger than one upload may be.")
                .with("ProposedSize", length)
                .with("MaxSizeAllowed", limit)
        }
        Error::MetadataTooLarge { length, limit } => {
            Fault::saying(Code::MetadataTooLarge, error).with("Size", length).with("MaxSizeAllowed", limit)
        }
        Error::Header(_) => Fault::saying(Code::InvalidArgument, error),
        Error::Promise(error) => promise_fault(error),
        Error::Condition(error) => Fault::saying(error.code(), error),
        Error::Upload(error) => upload_fault(error),
        Error::Xml(error) => Fault::saying(error.code(), error),
        Error::Range { length } => {
            let fault = Fault::new(Code::InvalidRange, "The requested range lies outside the object.");
            let range = HeaderValue::try_from(format!("bytes */{length}")).expect("digits are legal in headers");
            fault.with("ActualObjectSize", length).also(HeaderMap::from_iter([(CONTENT_RANGE, range)]))
        }
        Error::NoSuchUpload => Fault::new(
            Code::NoSuchUpload,
            "The upload does not exist: its id may be wrong, or it was aborted or completed.",
        ),
        Error::State(_) => Fault::new(
            Code::ServiceUnavailable,
            "The proxies' own bucket on the storage server cannot be used. Try again later.",
        ),
        Error::ChecksumChoice(_) | Error::PartChecksum { .. } => Fault::saying(Code::InvalidRequest, error),
        Error::Attributes(error) => Fault::saying(Code::InvalidArgument, error),
        Error::Copy(error) => copy_fault(error),
        Error::RangeAndPart => Fault::saying(Code::InvalidRequest, error),
        Error::Part { number, parts } => Fault::new(Code::InvalidPartNumber, "The object has no part of this number.")
            .with("PartNumberRequested", number)
            .with("ActualPartCount", parts),
        Error::Complete(error) => Fault::saying(error.code(), error),
        Error::Migration(_) => Fault::new(
            Code::InvalidObjectState,
            "What this bucket has unencrypted cannot be told now. Its operator should look at the proxy's log.",
        ),
        // Jobs have no clients.
        Error::Renewal(_) | Error::Random(_) => Fault::saying(Code::InternalError, error),
    }
}

fn copy_fault(error: &CopyError) -> Fault {
    let code = match error {
        CopyError::Illegal | CopyError::TooLarge { .. } | CopyError::DeleteMarker => Code::InvalidRequest,
        CopyError::Directive(_) | CopyError::Algorithm => Code::InvalidArgument,
        CopyError::Range { .. } => Code::InvalidRange,
        CopyError::SourceCondition => Code::PreconditionFailed,
        CopyError::Replaced => Code::ServiceUnavailable,
        CopyError::NotCopied => Code::InternalError,
    };
    Fault::saying(code, error)
}

fn not_authentic() -> Fault {
    Fault::new(
        Code::InvalidObjectState,
        "What is stored under this name is not what was written under it. Nothing of it is given out. Tell the operator of the proxy.",
    )
}

fn storage_fault(error: &StorageError) -> Fault {
    match error {
        StorageError::Refused(refusal) => refusal_fault(refusal).also((*refusal.told).clone()),
        StorageError::Unreachable(_) => {
            Fault::new(Code::ServiceUnavailable, "The storage server cannot be reached. Try again later.")
        }
        StorageError::Timeout { .. } => {
            Fault::new(Code::ServiceUnavailable, "The storage server did not answer in time. Try again later.")
        }
        StorageError::Broken(_) => Fault::new(
            Code::InternalError,
            "The storage server hung up. Whether it did what was asked is not known: try again.",
        ),
        StorageError::Garbage(_) => Fault::new(Code::InternalError, "The storage server's answer makes no sense."),
        StorageError::Request(_) => {
            Fault::new(Code::InvalidRequest, "The request cannot be put to the storage server.")
        }
        StorageError::Aborted(_) => Fault::new(Code::InternalError, "The upload was given up. Nothing was stored."),
    }
}

/// Codes that speak of the proxy's own signature or clock, not of the client's.
const ABOUT_THE_PROXY: [&str; 8] = [
    "AuthorizationHeaderMalformed",
    "InvalidAccessKeyId",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "XAmzContentSHA256Mismatch",
    "BadDigest",
    "MissingContentLength",
];

fn is_about_proxy(refusal: &Refusal) -> bool {
    refusal.status == StatusCode::UNAUTHORIZED
        || refusal.code.as_deref().is_some_and(|code| ABOUT_THE_PROXY.contains(&code))
}

fn refusal_fault(refusal: &Refusal) -> Fault {
    let Refusal { status, code, message, told: _ } = refusal;
    if is_about_proxy(refusal) {
        tracing::error!(%refusal, "the storage server does not accept the proxy's credentials, clock or signature");
        return Fault::new(
            Code::InternalError,
            "The storage server does not accept the proxy's own credentials or clock.",
        );
    }
    if !status.is_client_error() && !status.is_server_error() {
        return Fault::new(
            Code::InternalError,
            "The storage server answered with a redirection. Its address is misconfigured.",
        );
    }
    let standard = match *status {
        StatusCode::NOT_FOUND => Code::NoSuchKey,
        StatusCode::FORBIDDEN => Code::AccessDenied,
        StatusCode::PRECONDITION_FAILED => Code::PreconditionFailed,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        StatusCode::RANGE_NOT_SATISFIABLE => Code::InvalidRange,
        StatusCode::CONFLICT => Code::OperationAborted,
        StatusCode::NOT_IMPLEMENTED => Code::NotImplemented,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            Code::ServiceUnavailable
        }
        status if status.is_server_error() => Code::InternalError,
        _ => Code::InvalidRequest,
    };
    let said = if message.is_empty() { "The storage server refused.".to_owned() } else { message.clone() };
    let fault = Fault::new(standard, said);
    let retry_after_s = status.is_server_error().then_some(RETRY_AFTER_S);
    let code = code.clone().map_or(fault.code, Cow::Owned);
    Fault { status: *status, code, retry_after_s, ..fault }
}

fn key_fault(error: &BranchKeyError) -> Fault {
    match error {
        BranchKeyError::Custody(error) => custody_fault(error),
        BranchKeyError::Directory(_) | BranchKeyError::DirectoryTimeout => Fault::new(
            Code::ServiceUnavailable,
            "The directory of branch keys on the storage server cannot be used. Try again later.",
        ),
        BranchKeyError::NotInDirectory => Fault::new(
            Code::KmsInvalidState,
            "The object's key is under a retired KEK version, and no newer copy of it was found.",
        ),
        BranchKeyError::NotDerived => Fault::new(
            Code::KmsInvalidState,
            "The KEK does not bind keys to their context (it was made without 'derived'), and is refused.",
        ),
        BranchKeyError::Revoked | BranchKeyError::NotReady => {
            Fault::new(Code::ServiceUnavailable, "The key is not to be had just now. Try again.")
        }
    }
}

fn custody_fault(error: &CustodyError) -> Fault {
    match error {
        CustodyError::UnknownKek => Fault::new(Code::KmsNotFound, "The custodian has no KEK of that name."),
        CustodyError::Denied => Fault::new(Code::AccessDenied, "The custodian's policy denies this use of the key."),
        CustodyError::Disabled => Fault::new(Code::KmsDisabled, "The KEK is disabled."),
        CustodyError::VersionTooOld => Fault::new(Code::KmsInvalidState, "The KEK version is retired."),
        CustodyError::VersionUnknown => {
            Fault::new(Code::ServiceUnavailable, "The custodian does not know the KEK version yet. Try again later.")
        }
        CustodyError::NotAuthentic => not_authentic(),
        CustodyError::Unreachable(_) => {
            Fault::new(Code::ServiceUnavailable, "The custodian cannot be reached. Try again later.")
        }
        CustodyError::Sealed => {
            Fault::new(Code::ServiceUnavailable, "The custodian is sealed. Try again once it is unsealed.")
        }
        CustodyError::Malformed(_) => Fault::new(Code::InternalError, "The custodian's answer is malformed."),
        CustodyError::Random(_) => Fault::saying(Code::InternalError, error),
    }
}

fn upload_fault(error: &UploadError) -> Fault {
    match error {
        UploadError::Client(BodyError::Stalled { .. }) => {
            Fault::new(Code::RequestTimeout, "The body did not come in time. Nothing was stored.")
        }
        UploadError::Client(BodyError::Broken(cause)) => match cause.downcast_ref::<FormError>() {
            Some(error) => error.clone().into(),
            None => Fault::new(Code::IncompleteBody, "The body broke off. Nothing was stored."),
        },
        UploadError::Client(BodyError::TooLarge { .. }) => Fault::new(Code::EntityTooLarge, "The body is too large."),
        UploadError::Chunk(error) => chunk_fault(error),
        UploadError::Promise(error) => promise_fault(error),
        UploadError::Mismatch(error) => mismatch_fault(error),
        UploadError::Seal(SealError::Length) => {
            Fault::new(Code::IncompleteBody, "The body does not have the announced length. Nothing was stored.")
        }
        UploadError::Seal(SealError::Footer(_) | SealError::Random) => Fault::saying(Code::InternalError, error),
        UploadError::Lease(error) => key_fault(error),
        UploadError::Revoked(_) => {
            Fault::new(Code::ServiceUnavailable, "The key was revoked during the upload. Nothing was stored.")
        }
        UploadError::Source(error) => source_fault(error),
        UploadError::DocumentTooLarge { .. } => Fault::saying(Code::MaxMessageLengthExceeded, error),
    }
}

fn source_fault(error: &ReadFailure) -> Fault {
    match error {
        ReadFailure::Open(_) => not_authentic(),
        ReadFailure::Storage(error) => storage_fault(error),
        ReadFailure::Lease(error) => key_fault(error),
        ReadFailure::Revoked(_) => {
            Fault::new(Code::ServiceUnavailable, "The source's key was revoked during the copy. Nothing was stored.")
        }
    }
}

fn chunk_fault(error: &ChunkError) -> Fault {
    let code = match error {
        ChunkError::DecodedLengthMissing => Code::MissingContentLength,
        ChunkError::DecodedLengthInvalid => Code::InvalidArgument,
        ChunkError::TooManyTrailers
        | ChunkError::SizeLine
        | ChunkError::LineTooLong
        | ChunkError::ChunkEnd
        | ChunkError::AfterEnd => Code::InvalidRequest,
        ChunkError::ChunkSignature | ChunkError::TrailerSignature => Code::SignatureDoesNotMatch,
        ChunkError::TooLong | ChunkError::TooShort | ChunkError::Truncated => Code::IncompleteBody,
        ChunkError::TrailerMalformed | ChunkError::TrailerUnexpected | ChunkError::TrailerMissing => {
            Code::MalformedTrailer
        }
    };
    Fault::saying(code, error)
}

fn promise_fault(error: &InvalidPromise) -> Fault {
    let code = match error {
        InvalidPromise::ContentMd5 => Code::InvalidDigest,
        InvalidPromise::UnexpectedTrailer => Code::MalformedTrailer,
        InvalidPromise::Value(_)
        | InvalidPromise::MoreThanOne
        | InvalidPromise::UnknownHeader(_)
        | InvalidPromise::UnknownSdkAlgorithm
        | InvalidPromise::SdkAlgorithmMismatch
        | InvalidPromise::SdkAlgorithmAlone
        | InvalidPromise::UnknownTrailer => Code::InvalidRequest,
    };
    Fault::saying(code, error)
}

fn mismatch_fault(error: &Mismatch) -> Fault {
    let code = match error {
        Mismatch::ContentMd5 | Mismatch::Checksum(_) => Code::BadDigest,
        Mismatch::ContentSha256 => Code::XAmzContentSha256Mismatch,
        Mismatch::TrailerMissing => Code::MalformedTrailer,
    };
    Fault::saying(code, error)
}

impl From<AuthError> for Fault {
    fn from(error: AuthError) -> Self {
        let code = match &error {
            AuthError::SeveralMechanisms
            | AuthError::UnsupportedScheme
            | AuthError::RepeatedHeader(_)
            | AuthError::ContentSha256Invalid
            | AuthError::Form(_) => Code::InvalidArgument,
            AuthError::SignatureV2 | AuthError::ContentSha256Missing => Code::InvalidRequest,
            AuthError::Ecdsa => Code::NotImplemented,
            AuthError::Header(_) => Code::AuthorizationHeaderMalformed,
            // A time that no URL may be valid for is over, to whoever follows it.
            AuthError::Query(Malformed::Invalid(Field::Expires)) => Code::AccessDenied,
            AuthError::Query(_) => Code::AuthorizationQueryParametersError,
            AuthError::Uri(_) => Code::InvalidUri,
            AuthError::DateMissing
            | AuthError::DateInvalid
            | AuthError::HostNotSigned
            | AuthError::HeaderNotSigned(_)
            | AuthError::NotYetValid
            | AuthError::Expired => Code::AccessDenied,
            AuthError::SignedHeaderMissing(_) | AuthError::SignatureMismatch => Code::SignatureDoesNotMatch,
            AuthError::Skewed => Code::RequestTimeTooSkewed,
        };
        Self::saying(code, &error)
    }
}

impl From<FormError> for Fault {
    fn from(error: FormError) -> Self {
        let code = match &error {
            FormError::Boundary | FormError::Malformed(_) | FormError::NotLast => Code::MalformedPostRequest,
            FormError::FieldsTooLong => Code::MaxPostPreDataLengthExceeded,
            FormError::NoFile | FormError::SecondFile => Code::IncorrectNumberOfFilesInPostRequest,
            FormError::Twice(_) | FormError::Missing(_) | FormError::Field(_) => Code::InvalidArgument,
            FormError::Truncated => Code::IncompleteBody,
            FormError::Tagging => Code::MalformedXml,
        };
        Self::saying(code, &error)
    }
}

impl From<PolicyError> for Fault {
    fn from(error: PolicyError) -> Self {
        let code = match &error {
            PolicyError::Invalid(_) => Code::InvalidPolicyDocument,
            PolicyError::Expired | PolicyError::Unmet(_) | PolicyError::Uncovered(_) => Code::AccessDenied,
            PolicyError::TooSmall { .. } => Code::EntityTooSmall,
            PolicyError::TooLarge { .. } => Code::EntityTooLarge,
        };
        Self::saying(code, &error)
    }
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        upload_fault(&UploadError::Client(error))
    }
}

impl From<TargetError> for Fault {
    fn from(error: TargetError) -> Self {
        Self::saying(error.code(), &error)
    }
}

impl From<QueryError> for Fault {
    fn from(error: QueryError) -> Self {
        Self::saying(error.code(), &error)
    }
}

impl From<CustomerKeyError> for Fault {
    fn from(error: CustomerKeyError) -> Self {
        Self::saying(error.code(), &error)
    }
}

impl From<OperationError> for Fault {
    fn from(error: OperationError) -> Self {
        Self::saying(error.code(), &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: Option<&str>) -> Fault {
        let status = StatusCode::from_u16(status).expect("legal");
        refusal_fault(&Refusal { status, code: code.map(str::to_owned), message: "said".into(), told: Box::default() })
    }

    #[test]
    fn the_storage_servers_own_errors_pass() {
        let fault = refused(404, Some("NoSuchKey"));
        assert_eq!((fault.status.as_u16(), &*fault.code, &*fault.message), (404, "NoSuchKey", "said"));
        assert_eq!(refused(409, Some("ItsOwn")).code, "ItsOwn");
        assert_eq!(refused(412, None).code, "PreconditionFailed");
        assert_eq!(refused(503, Some("SlowDown")).retry_after_s, Some(RETRY_AFTER_S));
    }

    #[test]
    fn errors_about_the_proxy_are_not_blamed_on_the_client() {
        for code in ABOUT_THE_PROXY {
            let fault = refused(403, Some(code));
            assert_eq!((fault.status.as_u16(), &*fault.code), (500, "InternalError"), "{code}");
            assert!(!fault.message.contains("said"));
        }
        assert_eq!(refused(301, Some("PermanentRedirect")).status.as_u16(), 500);
    }

    #[test]
    fn a_url_that_is_valid_for_no_time_is_like_an_expired_one() {
        let fault = |field| Fault::from(AuthError::Query(Malformed::Invalid(field)));
        assert_eq!((fault(Field::Expires).status.as_u16(), &*fault(Field::Expires).code), (403, "AccessDenied"));
        assert_eq!(fault(Field::Signature).status.as_u16(), 400);
    }

    #[test]
    fn without_a_signature_they_are_a_refusal() {
        for (status, code) in
            [(401, None), (403, Some("InvalidAccessKeyId")), (400, Some("AuthorizationHeaderMalformed"))]
        {
            let status = StatusCode::from_u16(status).expect("a status");
            let code = code.map(str::to_owned);
            let refusal = Refusal { status, code, message: "said".into(), told: Box::default() };
            let fault = Fault::of_unsigned(Error::Storage(StorageError::Refused(refusal)), RequestId::random());
            assert_eq!((fault.status.as_u16(), &*fault.code), (403, "AccessDenied"));
        }
        let fault = Fault::of_unsigned(Error::NoSuchUpload, RequestId::random());
        assert_eq!(&*fault.code, "NoSuchUpload");
    }

    #[test]
    fn tampering_is_neither_retried_nor_explained() {
        let fault = fault_of(&Error::NotAuthentic);
        assert_eq!((fault.status.as_u16(), fault.retry_after_s), (403, None));
        assert!(is_alarm(&Error::NotAuthentic) && is_alarm(&Error::NotEncrypted));
        assert!(!is_alarm(&Error::Denied));
    }
}
