//! Answers that the storage server begins before it knows the outcome: a status of 200, with an error in the document.
//!
//! Source: AWS, CompleteMultipartUpload, CopyObject and UploadPartCopy.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::s3::error::{Code, parse_error};
use crate::s3::xml::XmlError;
use crate::storage::{Refusal, StorageError, StorageResponse};

use super::error::{Error, WrongAnswer};

/// Most bytes of such a document, the white space included that came while the work went on.
const MAX_DOCUMENT: usize = 1 << 20;

/// Headers and document of a success, unless it says otherwise.
pub(super) async fn success(response: StorageResponse) -> Result<(HeaderMap, Bytes), Error> {
    let response = response.checked().await?;
    if response.status != StatusCode::OK {
        return Err(WrongAnswer::Kind.into());
    }
    let headers = response.headers.clone();
    let document = response.collect(MAX_DOCUMENT).await?;
    if document.is_empty() {
        return Err(WrongAnswer::Document(XmlError::NotATree).into());
    }
    match error_in(&document) {
        Some(refusal) => Err(StorageError::Refused(refusal).into()),
        None => Ok((headers, document)),
    }
}

fn error_in(document: &[u8]) -> Option<Refusal> {
    let error = parse_error(document.trim_ascii_start())?;
    let known = Code::ALL.iter().find(|code| code.as_str() == error.code);
    let status = known.map_or(StatusCode::INTERNAL_SERVER_ERROR, |code| code.status());
    let (code, told) = (Some(error.code), Box::default());
    Some(Refusal { status, code, message: error.message, told })
}
