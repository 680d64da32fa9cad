//! The list of buckets, and making, finding and removing them.

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::format::ciphertext::CipherBytes;
use crate::names::LogicalBucket;
use crate::s3::checksum::{Algorithm, Hasher};
use crate::s3::operation::clean_response_headers;
use crate::s3::xml::{BucketList, bucket_location, location_constraint, location_xml};
use crate::storage::{StorageBody, StorageRequest};

use super::answer::Answer;
use super::bucket::Bucket;
use super::error::{Error, WrongAnswer};
use super::plaintext::{Plaintext, Upload};
use super::{Call, Objects};

/// Most bytes of a document that a client sends.
pub(super) const MAX_DOCUMENT: usize = 2 << 20;
/// Most bytes of a storage server's list of buckets, all pages together: S3 allows up to 10,000 buckets by default.
const MAX_BUCKET_LIST: usize = 64 << 20;

/// `Content-MD5` of a document. Storage servers want one with some documents.
pub(super) fn content_md5(document: &[u8]) -> HeaderValue {
    let mut hasher = Hasher::new(Algorithm::Md5);
    hasher.update(document);
    let digest = base64::engine::general_purpose::STANDARD.encode(hasher.finish().as_bytes());
    HeaderValue::try_from(digest).expect("base64 is legal in headers")
}

impl Objects {
    /// The buckets that the storage server lists to us and that the configuration has a rule for, by their names for clients.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn stored_buckets(&self) -> Result<Vec<LogicalBucket>, Error> {
        let (mut names, mut after, mut bytes_left) = (Vec::new(), None::<String>, MAX_BUCKET_LIST);
        loop {
            let mut request = StorageRequest::new(Method::GET);
            if let Some(token) = &after {
                request = request.query("continuation-token", token);
            }
            let document = self.storage.send(request, None).await?.checked().await?.collect(bytes_left).await?;
            bytes_left -= document.len();
            let page = BucketList::parse(&document).map_err(WrongAnswer::Document)?;
            let progress = !page.buckets.is_empty() && page.continuation != after;
            names.extend(page.buckets.iter().filter_map(|bucket| self.buckets.logical_name(&bucket.name)));
            match page.continuation {
                Some(token) if progress => after = Some(token),
                _ => break,
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The storage server's buckets that the client may see, by their names for clients, sorted; and the headers of its answer.
    pub(super) async fn buckets_of(&self, call: &Call) -> Result<(HeaderMap, BucketList), Error> {
        // The names that clients see are others than the storage server's, so that its pages are of no use to them.
        let mut all = BucketList::default();
        let mut after: Option<String> = None;
        let mut headers = HeaderMap::new();
        let mut bytes_left = MAX_BUCKET_LIST;
        loop {
            let mut request = StorageRequest::new(Method::GET);
            if let Some(token) = &after {
                request = request.query("continuation-token", token);
            }
            let response = self.send(call, request).await?.checked().await?;
            headers =
                if headers.is_empty() { clean_response_headers(&call.operation, &response.headers) } else { headers };
            let document = response.collect(bytes_left).await?;
            bytes_left -= document.len();
            let page = BucketList::parse(&document).map_err(WrongAnswer::Document)?;
            let next = page.continuation.clone();
            let progress = !page.buckets.is_empty() && next != after;
            let mut buckets = std::mem::take(&mut all.buckets);
            buckets.extend(page.buckets);
            all = BucketList { buckets, ..page };
            match next {
                Some(token) if progress => after = Some(token),
                _ => break,
            }
        }
        Ok((headers, all.renamed(|physical| self.may_see(call, physical))))
    }

    pub(super) async fn create_bucket(&self, call: &Call, bucket: Bucket<'_>, upload: Upload) -> Result<Answer, Error> {
        let document = self.document(call, upload).await?;
        location_constraint(&document).map_err(Error::Xml)?;
        let mut request = self.request(call, Method::PUT, bucket, None);
        if !document.is_empty() {
            request = request.body(StorageBody::Replayable(CipherBytes::assume_ciphertext(document)));
        }
        let response = self.send(call, request).await?.checked().await?;
        let mut headers = clean_response_headers(&call.operation, &response.headers);
        let location = HeaderValue::try_from(format!("/{}", bucket.name)).expect("bucket names are legal in headers");
        headers.insert(http::header::LOCATION, location);
        Ok(Answer::empty(StatusCode::OK, headers))
    }

    /// HeadBucket and DeleteBucket.
    pub(super) async fn plain_bucket_request(
        &self,
        call: &Call,
        bucket: Bucket<'_>,
        method: Method,
    ) -> Result<Answer, Error> {
        let request = self.request(call, method, bucket, None);
        let response = self.send(call, request).await?.checked().await?;
        Ok(Answer::empty(response.status, clean_response_headers(&call.operation, &response.headers)))
    }

    pub(super) async fn bucket_location(&self, call: &Call, bucket: Bucket<'_>) -> Result<Answer, Error> {
        let request = self.request(call, Method::GET, bucket, None).flag("location");
        let response = self.send(call, request).await?.checked().await?;
        let headers = clean_response_headers(&call.operation, &response.headers);
        let document = response.collect(MAX_DOCUMENT).await?;
        let region = bucket_location(&document).map_err(WrongAnswer::Document)?;
        Ok(Answer::xml(StatusCode::OK, headers, location_xml(region.as_deref())))
    }

    /// A request's document, checked against what the client promised of it.
    pub(super) async fn document(&self, call: &Call, upload: Upload) -> Result<Bytes, Error> {
        let without_body = !call.headers.contains_key("content-length")
            && !call.headers.contains_key("transfer-encoding")
            && http_body::Body::is_end_stream(&upload.body);
        if without_body {
            return Ok(Bytes::new());
        }
        Ok(Plaintext::new(upload, &call.headers)?.collect(MAX_DOCUMENT).await?.0.into())
    }
}
