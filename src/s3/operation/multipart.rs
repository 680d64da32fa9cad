//! Multipart uploads in a request: upload ids, part numbers, and the operations on them.

use std::fmt;

use http::{HeaderMap, Method};

use super::parse::{flag, grants, known, locks, number, other_method};
use super::{ObjectOperation, OperationError};
use crate::s3::copy_source::CopySource;
use crate::s3::target::{Query, leads_out};

/// Longer upload ids are none.
const LONGEST_ID: usize = 512;
/// The highest part number (AWS, "Amazon S3 multipart upload limits").
pub const HIGHEST_PART: u32 = 10_000;
/// The most parts in one page of a listing.
const LONGEST_PAGE: u32 = 1_000;

/// The storage server's name for an upload under way: 1 to 512 printable ASCII characters. There are servers that keep
/// uploads as folders of that name, so it leads out of none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadId(Box<str>);

impl UploadId {
    /// Checks and takes one; none when it cannot be one.
    pub fn new(text: &str) -> Option<Self> {
        let printable = (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        (printable && !leads_out(text)).then(|| Self(text.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartOf {
    /// The upload.
    pub upload: UploadId,
    /// The part's number, 1 to 10,000.
    pub number: u32,
}

/// The parameters of ListParts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListParts {
    /// The upload.
    pub upload: UploadId,
    /// At most that many, 0 to 1,000.
    pub max_parts: u32,
    /// Only parts with a higher number.
    pub after: u32,
    /// Whether keys in the answer are percent-encoded.
    pub url_encoded: bool,
}

/// The operation on a multipart upload that the query names; none when it names none.
pub(super) fn parse(
    method: &Method,
    query: &Query,
    headers: &HeaderMap,
) -> Option<Result<ObjectOperation, OperationError>> {
    if query.has("uploads") {
        return Some(create(method, query, headers));
    }
    query.has("uploadId").then(|| on_upload(method, query, headers))
}

fn create(method: &Method, query: &Query, headers: &HeaderMap) -> Result<ObjectOperation, OperationError> {
    flag(query, "uploads")?;
    known(query, &["uploads"])?;
    if method != Method::POST {
        return Err(other_method(method, "uploads"));
    }
    Ok(ObjectOperation::CreateMultipartUpload { grants: grants(headers), locks: locks(headers) })
}

fn on_upload(method: &Method, query: &Query, headers: &HeaderMap) -> Result<ObjectOperation, OperationError> {
    let upload = || UploadId::new(query.get("uploadId").unwrap_or_default()).ok_or(OperationError::NoSuchUpload);
    match *method {
        Method::PUT => {
            known(query, &["uploadId", "partNumber"])?;
            let number = part_number(query)?.ok_or(OperationError::Value("partNumber"))?;
            let part = PartOf { upload: upload()?, number };
            match CopySource::from_headers(headers)? {
                None => Ok(ObjectOperation::UploadPart(part)),
                Some(source) => Ok(ObjectOperation::UploadPartCopy { part, source }),
            }
        }
        Method::GET => {
            known(query, &["uploadId", "max-parts", "part-number-marker", "encoding-type"])?;
            let max_parts = number(query, "max-parts")?.unwrap_or(LONGEST_PAGE).min(LONGEST_PAGE);
            let after = number(query, "part-number-marker")?.unwrap_or(0);
            let url_encoded = match query.get("encoding-type") {
                None => false,
                Some("url") => true,
                Some(_) => return Err(OperationError::Value("encoding-type")),
            };
            Ok(ObjectOperation::ListParts(ListParts { upload: upload()?, max_parts, after, url_encoded }))
        }
        Method::POST => {
            known(query, &["uploadId"])?;
            Ok(ObjectOperation::CompleteMultipartUpload { upload: upload()? })
        }
        Method::DELETE => {
            known(query, &["uploadId"])?;
            Ok(ObjectOperation::AbortMultipartUpload { upload: upload()? })
        }
        _ => Err(other_method(method, "an upload")),
    }
}

/// The part number, if one is given.
pub(super) fn part_number(query: &Query) -> Result<Option<u32>, OperationError> {
    match number(query, "partNumber")? {
        Some(number) if !(1..=HIGHEST_PART).contains(&number) => Err(OperationError::Value("partNumber")),
        number => Ok(number),
    }
}
