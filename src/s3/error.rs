//! S3 error codes, their HTTP statuses and the XML that carries them.
//!
//! Codes and statuses as the AWS page "Error responses" (API_Error) lists them.

use std::borrow::Cow;

use http::StatusCode;

use super::xml;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal $status:ident,)*) => {
        /// An error code of S3. What a client decides on: the message beside it is for people.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code, for tables and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as it stands in the XML.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The HTTP status that S3 sends with it.
            pub fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }
        }
    };
}

codes! {
    /// The bucket's CORS configuration does not allow it.
    AccessForbidden = "AccessForbidden" FORBIDDEN,
    /// The client may not do this.
    AccessDenied = "AccessDenied" FORBIDDEN,
    /// The Authorization header is not in the form asked for.
    AuthorizationHeaderMalformed = "AuthorizationHeaderMalformed" BAD_REQUEST,
    /// A presigned URL lacks a parameter or has one in the wrong form.
    AuthorizationQueryParametersError = "AuthorizationQueryParametersError" BAD_REQUEST,
    /// Content-MD5 or a checksum is not that of the body.
    BadDigest = "BadDigest" BAD_REQUEST,
    /// The name is taken by someone else.
    BucketAlreadyExists = "BucketAlreadyExists" CONFLICT,
    /// The bucket exists and is the client's.
    BucketAlreadyOwnedByYou = "BucketAlreadyOwnedByYou" CONFLICT,
    /// Only an empty bucket can be deleted.
    BucketNotEmpty = "BucketNotEmpty" CONFLICT,
    /// Another conditional write to the same key got in between.
    ConditionalRequestConflict = "ConditionalRequestConflict" CONFLICT,
    /// The body is over the limit.
    EntityTooLarge = "EntityTooLarge" BAD_REQUEST,
    /// A part other than the last is under 5 MiB.
    EntityTooSmall = "EntityTooSmall" BAD_REQUEST,
    /// The session token has expired.
    ExpiredToken = "ExpiredToken" BAD_REQUEST,
    /// A form has one file.
    IncorrectNumberOfFilesInPostRequest = "IncorrectNumberOfFilesInPostRequest" BAD_REQUEST,
    /// The region asked for is not this one.
    IllegalLocationConstraint = "IllegalLocationConstraintException" BAD_REQUEST,
    /// The body was shorter than its announced length.
    IncompleteBody = "IncompleteBody" BAD_REQUEST,
    /// Our fault, or the storage server's. May be retried.
    InternalError = "InternalError" INTERNAL_SERVER_ERROR,
    /// The access key is not known.
    InvalidAccessKeyId = "InvalidAccessKeyId" FORBIDDEN,
    /// A header or parameter has a value that it cannot have.
    InvalidArgument = "InvalidArgument" BAD_REQUEST,
    /// The bucket name has not the form of one.
    InvalidBucketName = "InvalidBucketName" BAD_REQUEST,
    /// A Content-MD5 or checksum header is not of the right form.
    InvalidDigest = "InvalidDigest" BAD_REQUEST,
    /// The encryption asked for is not one there is.
    InvalidEncryptionAlgorithm = "InvalidEncryptionAlgorithmError" BAD_REQUEST,
    /// The object is archived.
    InvalidObjectState = "InvalidObjectState" FORBIDDEN,
    /// A part in the list does not exist or has another ETag.
    InvalidPart = "InvalidPart" BAD_REQUEST,
    /// The object has no part of this number.
    InvalidPartNumber = "InvalidPartNumber" RANGE_NOT_SATISFIABLE,
    /// The list of parts is not ascending.
    InvalidPartOrder = "InvalidPartOrder" BAD_REQUEST,
    /// The policy of a form is none.
    InvalidPolicyDocument = "InvalidPolicyDocument" BAD_REQUEST,
    /// The range begins beyond the end of the object.
    InvalidRange = "InvalidRange" RANGE_NOT_SATISFIABLE,
    /// The request contradicts itself.
    InvalidRequest = "InvalidRequest" BAD_REQUEST,
    /// The session token is malformed.
    InvalidToken = "InvalidToken" BAD_REQUEST,
    /// The path cannot be read as bucket and key.
    InvalidUri = "InvalidURI" BAD_REQUEST,
    /// The key is over 1,024 bytes.
    KeyTooLong = "KeyTooLongError" BAD_REQUEST,
    /// The KEK is disabled at the custodian.
    KmsDisabled = "KMS.DisabledException" BAD_REQUEST,
    /// The KEK is in a state in which it cannot be used (retired, to be deleted).
    KmsInvalidState = "KMS.KMSInvalidStateException" BAD_REQUEST,
    /// There is no such KEK.
    KmsNotFound = "KMS.NotFoundException" BAD_REQUEST,
    /// The body of a POST is not a well-formed form.
    MalformedPostRequest = "MalformedPOSTRequest" BAD_REQUEST,
    /// A trailer after an aws-chunked body is missing, unexpected or malformed.
    MalformedTrailer = "MalformedTrailerError" BAD_REQUEST,
    /// The XML does not follow the schema.
    MalformedXml = "MalformedXML" BAD_REQUEST,
    /// An XML or JSON body is over the limit.
    MaxMessageLengthExceeded = "MaxMessageLengthExceeded" BAD_REQUEST,
    /// The fields of a form are over the limit.
    MaxPostPreDataLengthExceeded = "MaxPostPreDataLengthExceededError" BAD_REQUEST,
    /// The user metadata is over the limit.
    MetadataTooLarge = "MetadataTooLarge" BAD_REQUEST,
    /// The method does not go with this resource.
    MethodNotAllowed = "MethodNotAllowed" METHOD_NOT_ALLOWED,
    /// An upload must say its length.
    MissingContentLength = "MissingContentLength" LENGTH_REQUIRED,
    /// A body was expected and is empty.
    MissingRequestBody = "MissingRequestBodyError" BAD_REQUEST,
    /// A required header is missing.
    MissingSecurityHeader = "MissingSecurityHeader" BAD_REQUEST,
    /// No such bucket.
    NoSuchBucket = "NoSuchBucket" NOT_FOUND,
    /// No such key.
    NoSuchKey = "NoSuchKey" NOT_FOUND,
    /// No such multipart upload.
    NoSuchUpload = "NoSuchUpload" NOT_FOUND,
    /// No such version.
    NoSuchVersion = "NoSuchVersion" NOT_FOUND,
    /// What was asked is not done here.
    NotImplemented = "NotImplemented" NOT_IMPLEMENTED,
    /// If-None-Match or If-Modified-Since: the client has it already. Sent without a body.
    NotModified = "NotModified" NOT_MODIFIED,
    /// Another operation on the same thing is under way.
    OperationAborted = "OperationAborted" CONFLICT,
    /// A condition of the request does not hold.
    PreconditionFailed = "PreconditionFailed" PRECONDITION_FAILED,
    /// The headers are over the limit.
    RequestHeaderSectionTooLarge = "RequestHeaderSectionTooLarge" BAD_REQUEST,
    /// The client did not send in time.
    RequestTimeout = "RequestTimeout" BAD_REQUEST,
    /// The clocks differ too much.
    RequestTimeTooSkewed = "RequestTimeTooSkewed" FORBIDDEN,
    /// Not now; may be retried.
    ServiceUnavailable = "ServiceUnavailable" SERVICE_UNAVAILABLE,
    /// The signature is not the one that this request has under the key.
    SignatureDoesNotMatch = "SignatureDoesNotMatch" FORBIDDEN,
    /// Too many requests.
    SlowDown = "SlowDown" SERVICE_UNAVAILABLE,
    /// The body should have been empty.
    UnexpectedContent = "UnexpectedContent" BAD_REQUEST,
    /// The request is signed in a way, or with a service or scheme, that is not accepted.
    UnsupportedSignature = "UnsupportedSignature" BAD_REQUEST,
    /// x-amz-content-sha256 is not the hash of the body.
    XAmzContentSha256Mismatch = "XAmzContentSHA256Mismatch" BAD_REQUEST,
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The body of an error answer. HEAD and 304 answers have none: that is the caller's to know.
#[derive(Debug, Clone)]
pub struct ErrorBody<'a> {
    /// The code: [`Code::as_str`], or one that a storage server gave.
    pub code: &'a str,
    /// What happened and what to do about it, for people.
    pub message: Cow<'a, str>,
    /// The path that was asked for, as the client sent it.
    pub resource: &'a str,
    /// The id under which the logs know this request.
    pub request_id: &'a str,
    /// Further elements some codes have, such as `("BucketName", …)` or `("ActualObjectSize", …)`.
    pub extra: &'a [(&'static str, String)],
}

impl ErrorBody<'_> {
    /// The XML document.
    pub fn to_xml(&self) -> Vec<u8> {
        let mut body = xml::Writer::new();
        body.open("Error", None);
        body.leaf("Code", self.code);
        body.leaf("Message", &self.message);
        for (name, value) in self.extra {
            body.leaf(name, value);
        }
        body.leaf("Resource", self.resource);
        body.leaf("RequestId", self.request_id);
        body.close("Error");
        body.into_bytes()
    }
}

/// An error that a storage server reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageError {
    /// The code as text: servers have codes of their own. 1 to 64 letters, digits, `.`, `_` and `-`.
    pub code: String,
    /// The message, for people. At most 1 KiB, without control characters.
    pub message: String,
}

/// Error documents longer than this are not read.
const LONGEST_ERROR: usize = 64 * 1024;

/// Longer codes are none.
const LONGEST_CODE: usize = 64;

/// Longer messages are cut.
const LONGEST_MESSAGE: usize = 1024;

/// Reads a storage server's error document. `None` if it is not one, or its code has not the form of a code: both go
/// into logs and to clients, and are the operator's to write. Unknown elements are passed over.
pub fn parse_error(body: &[u8]) -> Option<StorageError> {
    if body.len() > LONGEST_ERROR {
        return None;
    }
    let (mut code, mut message) = (None, None);
    let mut in_error = false;
    xml::leaves(body, |path, text| {
        // IAM-like services put `Error` into an `ErrorResponse`.
        let [.., parent, name] = path else { return Ok(()) };
        if parent != "Error" {
            return Ok(());
        }
        in_error = true;
        match name.as_str() {
            "Code" if code.is_none() => code = Some(text.trim().to_owned()),
            "Message" if message.is_none() => message = Some(legible(text)),
            _ => {}
        }
        Ok(())
    })
    .ok()?;
    let code = code.filter(|code| in_error && is_code(code))?;
    Some(StorageError { code, message: message.unwrap_or_default() })
}

fn is_code(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST_CODE).contains(&text.len()) && text.bytes().all(legal)
}

/// The text cut at a character, with a blank for each control character, so that it stays one line wherever it is shown.
fn legible(text: &str) -> String {
    let longest = LONGEST_MESSAGE.min(text.len());
    let end = (0..=longest).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let blanked = text.get(..end).unwrap_or_default().replace(is_control, " ");
    blanked.trim().to_owned()
}

/// Those of Unicode, and those that break lines or turn the direction of text.
fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_their_statuses_are_errors() {
        let mut texts: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        texts.sort_unstable();
        let all = texts.len();
        texts.dedup();
        assert_eq!(texts.len(), all);
        for code in Code::ALL {
            let status = code.status();
            assert!(status.is_client_error() || status.is_server_error() || *code == Code::NotModified, "{code}");
        }
        assert_eq!(Code::SlowDown.status().as_u16(), 503);
        assert_eq!(Code::InvalidRange.status().as_u16(), 416);
        assert_eq!(Code::RequestTimeout.status().as_u16(), 400);
    }

    #[test]
    fn error_bodies_escape_what_they_carry_and_read_back() {
        let body = ErrorBody {
            code: Code::NoSuchKey.as_str(),
            message: "no <such> key & \"nothing\" like it".into(),
            resource: "/records/a&b\u{1}",
            request_id: "4442587FB7D0A2F9",
            extra: &[("Key", "a&b\r".to_owned())],
        };
        let xml = String::from_utf8(body.to_xml()).expect("we write UTF-8");
        assert_eq!(
            xml,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code>\
             <Message>no &lt;such&gt; key &amp; &quot;nothing&quot; like it</Message><Key>a&amp;b&#xD;</Key>\
             <Resource>/records/a&amp;b&#x1;</Resource><RequestId>4442587FB7D0A2F9</RequestId></Error>"
        );
        let read = parse_error(xml.as_bytes()).expect("our own error reads back");
        assert_eq!(read.code, "NoSuchKey");
        assert_eq!(read.message, "no <such> key & \"nothing\" like it");
    }

    #[test]
    fn storage_errors_of_real_servers_are_read() {
        let garage = br#"<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>NoSuchBucket</Code><Message>Bucket not found: x</Message><Resource>/x/</Resource><Region>garage</Region></Error>"#;
        assert_eq!(parse_error(garage).expect("an error").code, "NoSuchBucket");
        let iam = b"<ErrorResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><Error><Type>Sender</Type>\
            <Code>SlowDown</Code></Error><RequestId>1</RequestId></ErrorResponse>";
        assert_eq!(parse_error(iam), Some(StorageError { code: "SlowDown".to_owned(), message: String::new() }));
        for not_one in [
            &b""[..],
            b"<html><body>502 Bad Gateway</body></html>",
            b"<Error><Message>no code</Message></Error>",
            b"<Error><Code></Code></Error>",
            b"<Error><Code>Cut",
            b"<Error><Code>No Such Key</Code></Error>",
            b"<Error><Code>NoSuch&#10;Key</Code></Error>",
            b"<Error><Code>&#27;[2JOops</Code></Error>",
            b"<Error><Code>NoSuchK\xc3\xa9y</Code></Error>",
            b"<Error><Code>a&lt;b</Code></Error>",
            b"{\"code\": \"NoSuchKey\"}",
            b"<ListBucketResult><Code>NoSuchKey</Code></ListBucketResult>",
        ] {
            assert_eq!(parse_error(not_one), None, "{}", String::from_utf8_lossy(not_one));
        }
    }

    #[test]
    fn storage_messages_stay_one_line() {
        let body = "<Error><Code>X.y_z-1</Code><Message>a&#10;2026 ERROR b\r\n&#9;c&#127;\u{85}\u{2028}\u{202e}d</Message></Error>";
        let read = parse_error(body.as_bytes()).expect("an error");
        assert_eq!(read.code, "X.y_z-1");
        assert!(read.message.starts_with("a 2026 ERROR b") && read.message.ends_with("d"), "{:?}", read.message);
        assert!(!read.message.contains(is_control), "{:?}", read.message);
    }

    #[test]
    fn overlong_storage_messages_are_cut_at_a_character() {
        let body = format!("<Error><Code>X</Code><Message>{}</Message></Error>", "é".repeat(2000));
        let read = parse_error(body.as_bytes()).expect("an error");
        assert_eq!(read.message, "é".repeat(512));
        let coded = |length| format!("<Error><Code>{}</Code></Error>", "x".repeat(length));
        assert!(parse_error(coded(64).as_bytes()).is_some() && parse_error(coded(65).as_bytes()).is_none());
        assert_eq!(parse_error(&vec![b' '; LONGEST_ERROR + 1]), None);
    }
}
