//! ListObjects, version 1 and 2, and ListObjectVersions: one request each, with the plaintext's sizes by arithmetic.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::format::size;
use crate::s3::operation::{Parameters, clean_response_headers};
use crate::s3::xml::{Listing, rewrite_listing, rewrite_uploads};

use super::answer::Answer;
use super::bucket::Bucket;
use super::error::{Error, WrongAnswer};
use super::{Call, Objects};

/// Most bytes of a page: 1,000 keys of 1,024 bytes, each percent-encoded, and what belongs to them.
const MAX_PAGE: usize = 8 << 20;

impl Objects {
    pub(super) async fn list_objects(
        &self,
        call: &Call,
        bucket: Bucket<'_>,
        parameters: &Parameters,
    ) -> Result<Answer, Error> {
        self.listing(call, bucket, parameters, Listing::Objects).await
    }

    pub(super) async fn list_versions(
        &self,
        call: &Call,
        bucket: Bucket<'_>,
        parameters: &Parameters,
    ) -> Result<Answer, Error> {
        self.listing(call, bucket, parameters, Listing::Versions).await
    }

    async fn listing(
        &self,
        call: &Call,
        bucket: Bucket<'_>,
        parameters: &Parameters,
        listing: Listing,
    ) -> Result<Answer, Error> {
        let (headers, page) = self.page(call, bucket, parameters).await?;
        // A size that is none of ours is shown as it is: the object is not ours either, and cannot be read.
        let unencrypted = self.unencrypted_in(bucket, &page, listing).await?;
        let plaintext = |nth: usize, stored| match unencrypted.get(nth) {
            Some(true) => stored,
            _ => size::plaintext(stored).unwrap_or(stored),
        };
        let page = rewrite_listing(&page, listing, bucket.name, plaintext).map_err(WrongAnswer::Document)?;
        Ok(Answer::xml(StatusCode::OK, headers, page))
    }

    pub(super) async fn list_uploads(
        &self,
        call: &Call,
        bucket: Bucket<'_>,
        parameters: &Parameters,
    ) -> Result<Answer, Error> {
        let (headers, page) = self.page(call, bucket, parameters).await?;
        let page = rewrite_uploads(&page, bucket.name).map_err(WrongAnswer::Document)?;
        Ok(Answer::xml(StatusCode::OK, headers, page))
    }

    /// A page as the storage server has it, and those of its headers that clients get.
    async fn page(
        &self,
        call: &Call,
        bucket: Bucket<'_>,
        parameters: &Parameters,
    ) -> Result<(HeaderMap, Bytes), Error> {
        let mut request = self.request(call, Method::GET, bucket, None);
        request.query = parameters.as_slice().to_vec();
        let response = self.send(call, request).await?.checked().await?;
        let headers = clean_response_headers(&call.operation, &response.headers);
        Ok((headers, response.collect(MAX_PAGE).await?))
    }
}
