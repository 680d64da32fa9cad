//! What a client promised about the plaintext of a body, and whether it holds.
//!
//! Source: AWS, PutObject and "Checking object integrity in Amazon S3"; error texts and codes as S3 gives them.
//!
//! **Invariant:** [`Verified`] exists only after every promise was compared with the bytes that came, an announced
//! trailer included.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Algorithm, Digest, HEADER_PREFIX, Hasher, is_checksum_setting};

/// The headers or trailers make no promise that can be checked. Nothing of the body need be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPromise {
    /// `Content-MD5` is not the base64 of 16 bytes, or stands there twice (S3: `InvalidDigest`).
    #[error("Content-MD5 is not the base64 of 16 bytes")]
    ContentMd5,
    /// A checksum header or trailer is not the base64 of a digest of its algorithm (S3: `InvalidRequest`).
    #[error("the value of {} is not valid", .0.header_name())]
    Value(Algorithm),
    /// More than one checksum, in headers and trailers together (S3: `InvalidRequest`).
    #[error("expecting a single x-amz-checksum- header")]
    MoreThanOne,
    /// An `x-amz-checksum-…` header of an algorithm that nobody knows (S3: `InvalidRequest`).
    #[error("unknown checksum header {0}")]
    UnknownHeader(HeaderName),
    /// `x-amz-sdk-checksum-algorithm` names an algorithm that nobody knows (S3: `InvalidRequest`).
    #[error("the value of x-amz-sdk-checksum-algorithm is not valid")]
    UnknownSdkAlgorithm,
    /// `x-amz-sdk-checksum-algorithm` names another algorithm than the checksum sent (S3: `InvalidRequest`).
    #[error("x-amz-sdk-checksum-algorithm does not match the checksum sent")]
    SdkAlgorithmMismatch,
    /// `x-amz-sdk-checksum-algorithm` without a checksum or an announced trailer (S3: `InvalidRequest`).
    #[error("x-amz-sdk-checksum-algorithm was given, but no x-amz-checksum- header or trailer")]
    SdkAlgorithmAlone,
    /// `x-amz-trailer` announces something that is not a known checksum (S3: `InvalidRequest`).
    #[error("the value of x-amz-trailer is not supported")]
    UnknownTrailer,
    /// A trailer came that was not announced, or came twice (S3: `MalformedTrailerError`).
    #[error("a trailer came that was not announced")]
    UnexpectedTrailer,
}

/// The body is not what the client promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Of `Content-MD5` (S3: `BadDigest`).
    #[error("the Content-MD5 you specified did not match what we received")]
    ContentMd5,
    /// Of an `x-amz-checksum-…` header or trailer (S3: `BadDigest`).
    #[error("the {} you specified did not match the calculated checksum", .0.wire_name())]
    Checksum(Algorithm),
    /// Of the signed `x-amz-content-sha256` (S3: `XAmzContentSHA256Mismatch`).
    #[error("the provided x-amz-content-sha256 header does not match what was computed")]
    ContentSha256,
    /// The trailer that was announced never came (S3: `MalformedTrailerError`).
    #[error("the announced trailer is missing")]
    TrailerMissing,
}

/// The proof that a body is what its client promised.
#[derive(Debug, Clone, Copy)]
pub struct Verified {
    algorithm: Algorithm,
    digest: Digest,
    sent: Option<(Algorithm, Digest)>,
}

impl Verified {
    /// The algorithm of the one checksum that S3 would store: that of the upload which a part belongs to, else the
    /// client's, or CRC64NVME when it sent none.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its value over the plaintext.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether the client sent this checksum, rather than us choosing it.
    pub fn chosen_by_client(&self) -> bool {
        self.sent.is_some_and(|(algorithm, _)| algorithm == self.algorithm)
    }

    /// The checksum that the client sent, if it sent one.
    pub fn sent(&self) -> Option<(Algorithm, Digest)> {
        self.sent
    }
}

/// Which header made a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    ContentMd5,
    ContentSha256,
    Checksum,
}

struct Promise {
    origin: Origin,
    algorithm: Algorithm,
    digest: Digest,
}

/// The promises about one body, while it streams by.
pub struct Expectations {
    promises: Vec<Promise>,
    /// The checksum announced in a trailer and not seen yet.
    awaited: Option<Algorithm>,
    stored: Algorithm,
    /// That of the client's own checksum.
    chosen: Option<Algorithm>,
    hashers: Vec<(Algorithm, Hasher)>,
}

impl Expectations {
    /// Reads the promises in `headers`: `Content-MD5`, `x-amz-checksum-…`, `x-amz-sdk-checksum-algorithm`,
    /// `x-amz-trailer`; and `signed_sha256`, the body hash that the request's signature covers, if it covers one.
    ///
    /// Only for requests whose checksum headers speak of the body they come with. On CompleteMultipartUpload they
    /// speak of the object instead: use [`Expectations::of_body_only`].
    ///
    /// # Errors
    /// [`InvalidPromise`].
    pub fn from_headers(headers: &HeaderMap, signed_sha256: Option<[u8; 32]>) -> Result<Self, InvalidPromise> {
        let in_header = checksum_header(headers)?;
        let trailers = announced_trailers(headers)?;
        let announced = trailers.first().and_then(Algorithm::from_header_name);
        if trailers.len() > 1 || (in_header.is_some() && announced.is_some()) {
            return Err(InvalidPromise::MoreThanOne);
        }
        let chosen = in_header.as_ref().map(|promise| promise.algorithm).or(announced);
        check_sdk_algorithm(headers, chosen)?;
        let mut promises = body_promises(headers, signed_sha256)?;
        promises.extend(in_header);
        Ok(Self::new(promises, announced, chosen))
    }

    /// As [`Expectations::from_headers`], without what `x-amz-checksum-…` headers say.
    ///
    /// # Errors
    /// [`InvalidPromise::ContentMd5`].
    pub fn of_body_only(headers: &HeaderMap, signed_sha256: Option<[u8; 32]>) -> Result<Self, InvalidPromise> {
        Ok(Self::new(body_promises(headers, signed_sha256)?, None, None))
    }

    /// No promises; the checksum to store is by `algorithm`, or CRC64NVME.
    pub fn none(algorithm: Option<Algorithm>) -> Self {
        Self::new(Vec::new(), None, algorithm)
    }

    fn new(promises: Vec<Promise>, awaited: Option<Algorithm>, chosen: Option<Algorithm>) -> Self {
        let stored = chosen.unwrap_or(Algorithm::Crc64Nvme);
        let mut needed: Vec<Algorithm> = vec![stored];
        for promise in &promises {
            if !needed.contains(&promise.algorithm) {
                needed.push(promise.algorithm);
            }
        }
        let hashers = needed.into_iter().map(|algorithm| (algorithm, Hasher::new(algorithm))).collect();
        Self { promises, awaited, stored, chosen, hashers }
    }

    /// The same with the checksum to store by `algorithm`, whatever the client sends: a part's is by its upload's.
    #[must_use]
    pub fn storing(mut self, algorithm: Algorithm) -> Self {
        self.stored = algorithm;
        if !self.hashers.iter().any(|(known, _)| *known == algorithm) {
            self.hashers.push((algorithm, Hasher::new(algorithm)));
        }
        self
    }

    /// The algorithm of the checksum that the client sends, in a header or a trailer.
    pub fn chosen(&self) -> Option<Algorithm> {
        self.chosen
    }

    /// Takes the next plaintext bytes of the body.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hashers.iter_mut().for_each(|(_, hasher)| hasher.update(bytes));
    }

    /// Takes the trailers that came after the body.
    ///
    /// # Errors
    /// [`InvalidPromise::UnexpectedTrailer`] and [`InvalidPromise::Value`].
    pub fn trailers<'t>(
        &mut self,
        trailers: impl IntoIterator<Item = (&'t HeaderName, &'t str)>,
    ) -> Result<(), InvalidPromise> {
        for (name, value) in trailers {
            let algorithm = Algorithm::from_header_name(name).ok_or(InvalidPromise::UnexpectedTrailer)?;
            if self.awaited != Some(algorithm) {
                return Err(InvalidPromise::UnexpectedTrailer);
            }
            let digest = Digest::from_base64(algorithm, value).ok_or(InvalidPromise::Value(algorithm))?;
            self.promises.push(Promise { origin: Origin::Checksum, algorithm, digest });
            self.awaited = None;
        }
        Ok(())
    }

    /// Compares every promise with the bytes that came.
    ///
    /// # Errors
    /// [`Mismatch`]: the first promise that does not hold.
    pub fn finish(self) -> Result<Verified, Mismatch> {
        if self.awaited.is_some() {
            return Err(Mismatch::TrailerMissing);
        }
        let digests: Vec<(Algorithm, Digest)> =
            self.hashers.into_iter().map(|(algorithm, hasher)| (algorithm, hasher.finish())).collect();
        let computed = |wanted: Algorithm| {
            let found = digests.iter().find(|(algorithm, _)| *algorithm == wanted);
            found.expect("there is a hasher for the stored algorithm and for that of each promise").1
        };
        for promise in &self.promises {
            if computed(promise.algorithm) != promise.digest {
                return Err(match promise.origin {
                    Origin::ContentMd5 => Mismatch::ContentMd5,
                    Origin::ContentSha256 => Mismatch::ContentSha256,
                    Origin::Checksum => Mismatch::Checksum(promise.algorithm),
                });
            }
        }
        let sent = self.chosen.map(|algorithm| (algorithm, computed(algorithm)));
        Ok(Verified { algorithm: self.stored, digest: computed(self.stored), sent })
    }
}

/// The names in `x-amz-trailer` (repeated or comma-separated): all known checksums.
///
/// # Errors
/// [`InvalidPromise::UnknownTrailer`] and, for more than one, [`InvalidPromise::MoreThanOne`].
pub fn announced_trailers(headers: &HeaderMap) -> Result<Vec<HeaderName>, InvalidPromise> {
    let mut names = Vec::new();
    for value in headers.get_all("x-amz-trailer") {
        let list = value.to_str().map_err(|_| InvalidPromise::UnknownTrailer)?;
        for item in list.split(',') {
            let name = HeaderName::try_from(item.trim()).map_err(|_| InvalidPromise::UnknownTrailer)?;
            Algorithm::from_header_name(&name).ok_or(InvalidPromise::UnknownTrailer)?;
            if !names.is_empty() {
                return Err(InvalidPromise::MoreThanOne);
            }
            names.push(name);
        }
    }
    Ok(names)
}

/// The one `x-amz-checksum-<algorithm>` header, if there is one.
fn checksum_header(headers: &HeaderMap) -> Result<Option<Promise>, InvalidPromise> {
    let mut found = None;
    for (name, value) in headers {
        if !name.as_str().starts_with(HEADER_PREFIX) || is_checksum_setting(name) {
            continue;
        }
        let Some(algorithm) = Algorithm::from_header_name(name) else {
            return Err(InvalidPromise::UnknownHeader(name.clone()));
        };
        if found.is_some() {
            return Err(InvalidPromise::MoreThanOne);
        }
        let digest = digest_of(algorithm, value).ok_or(InvalidPromise::Value(algorithm))?;
        found = Some(Promise { origin: Origin::Checksum, algorithm, digest });
    }
    Ok(found)
}

/// What `Content-MD5` and the signature say.
fn body_promises(headers: &HeaderMap, signed_sha256: Option<[u8; 32]>) -> Result<Vec<Promise>, InvalidPromise> {
    let mut promises = Vec::new();
    for value in headers.get_all("content-md5") {
        let digest = digest_of(Algorithm::Md5, value).ok_or(InvalidPromise::ContentMd5)?;
        if !promises.is_empty() {
            return Err(InvalidPromise::ContentMd5);
        }
        promises.push(Promise { origin: Origin::ContentMd5, algorithm: Algorithm::Md5, digest });
    }
    if let Some(digest) = signed_sha256.as_ref().and_then(|hash| Digest::from_slice(hash)) {
        promises.push(Promise { origin: Origin::ContentSha256, algorithm: Algorithm::Sha256, digest });
    }
    Ok(promises)
}

fn check_sdk_algorithm(headers: &HeaderMap, chosen: Option<Algorithm>) -> Result<(), InvalidPromise> {
    for value in headers.get_all("x-amz-sdk-checksum-algorithm") {
        let named = value.to_str().ok().and_then(Algorithm::from_wire_name);
        let named = named.ok_or(InvalidPromise::UnknownSdkAlgorithm)?;
        match chosen {
            Some(chosen) if chosen == named => {}
            Some(_) => return Err(InvalidPromise::SdkAlgorithmMismatch),
            None => return Err(InvalidPromise::SdkAlgorithmAlone),
        }
    }
    Ok(())
}

fn digest_of(algorithm: Algorithm, value: &HeaderValue) -> Option<Digest> {
    Digest::from_base64(algorithm, value.to_str().ok()?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256;

    const BODY: &[u8] = b"Welcome to Amazon S3.";

    fn digest(algorithm: Algorithm, body: &[u8]) -> Digest {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(body);
        hasher.finish()
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::try_from(*name).expect("a header name");
            map.append(name, HeaderValue::try_from(*value).expect("a header value"));
        }
        map
    }

    fn promise(pairs: &[(&str, &str)]) -> Result<Expectations, InvalidPromise> {
        Expectations::from_headers(&headers(pairs), None)
    }

    fn judge(pairs: &[(&str, &str)], body: &[u8]) -> Result<Verified, Mismatch> {
        let mut expectations = promise(pairs).expect("valid promises");
        body.chunks(4).for_each(|piece| expectations.update(piece));
        expectations.finish()
    }

    #[test]
    fn without_promises_crc64nvme_is_stored() {
        let verified = judge(&[("x-amz-checksum-type", "FULL_OBJECT"), ("x-amz-checksum-mode", "ENABLED")], BODY);
        let verified = verified.expect("nothing to mismatch");
        assert_eq!(verified.algorithm(), Algorithm::Crc64Nvme);
        assert_eq!(verified.digest(), digest(Algorithm::Crc64Nvme, BODY));
        assert!(!verified.chosen_by_client());
    }

    #[test]
    fn every_algorithm_is_checked_and_stored() {
        for algorithm in Algorithm::ALL {
            let name = algorithm.header_name();
            let value = digest(algorithm, BODY).to_base64();
            let sdk = ("x-amz-sdk-checksum-algorithm", algorithm.wire_name());
            let verified = judge(&[(name.as_str(), &value), sdk], BODY).expect("matches");
            assert_eq!((verified.algorithm(), verified.chosen_by_client()), (algorithm, true));
            let other = judge(&[(name.as_str(), &value)], b"another body").err();
            assert_eq!(other, Some(Mismatch::Checksum(algorithm)));
        }
    }

    #[test]
    fn a_parts_checksum_is_by_its_uploads_algorithm_and_the_clients_is_checked_too() {
        let trailer = [("x-amz-trailer", "x-amz-checksum-crc32")];
        for wrong in [false, true] {
            let mut expectations = promise(&trailer).expect("valid").storing(Algorithm::Sha256);
            assert_eq!(expectations.chosen(), Some(Algorithm::Crc32));
            expectations.update(BODY);
            let sent = digest(Algorithm::Crc32, if wrong { b"" } else { BODY });
            let name = Algorithm::Crc32.header_name();
            expectations.trailers([(&name, sent.to_base64().as_str())]).expect("announced");
            match expectations.finish() {
                Err(error) => assert_eq!((wrong, error), (true, Mismatch::Checksum(Algorithm::Crc32))),
                Ok(verified) => {
                    assert!(!wrong && !verified.chosen_by_client());
                    assert_eq!(
                        (verified.algorithm(), verified.digest()),
                        (Algorithm::Sha256, digest(Algorithm::Sha256, BODY))
                    );
                    assert_eq!(verified.sent(), Some((Algorithm::Crc32, sent)));
                }
            }
        }
    }

    #[test]
    fn content_md5_is_checked_beside_the_stored_checksum() {
        let md5 = digest(Algorithm::Md5, BODY).to_base64();
        let verified = judge(&[("content-md5", &md5)], BODY).expect("matches");
        assert_eq!((verified.algorithm(), verified.chosen_by_client()), (Algorithm::Crc64Nvme, false));
        assert_eq!(judge(&[("content-md5", &md5)], b"").err(), Some(Mismatch::ContentMd5));
        for bad in ["", "abc", "AAAA", "ZZZZ!"] {
            assert_eq!(promise(&[("content-md5", bad)]).err(), Some(InvalidPromise::ContentMd5), "{bad:?}");
        }
        let twice = promise(&[("content-md5", &md5), ("content-md5", &md5)]).err();
        assert_eq!(twice, Some(InvalidPromise::ContentMd5));
    }

    #[test]
    fn the_signed_body_hash_is_checked() {
        let mut good = Expectations::from_headers(&HeaderMap::new(), Some(sha256(BODY))).expect("valid");
        good.update(BODY);
        assert!(good.finish().is_ok());
        let mut bad = Expectations::of_body_only(&HeaderMap::new(), Some(sha256(BODY))).expect("valid");
        bad.update(b"x");
        assert_eq!(bad.finish().err(), Some(Mismatch::ContentSha256));
    }

    #[test]
    fn promises_that_cannot_be_checked_are_refused() {
        let crc = ("x-amz-checksum-crc32", "AAAAAA==");
        let unknown = HeaderName::from_static("x-amz-checksum-crc16");
        let cases: &[(&[(&str, &str)], InvalidPromise)] = &[
            (&[crc, crc], InvalidPromise::MoreThanOne),
            (&[crc, ("x-amz-checksum-crc32c", "AAAAAA==")], InvalidPromise::MoreThanOne),
            (&[crc, ("x-amz-trailer", "x-amz-checksum-crc32")], InvalidPromise::MoreThanOne),
            (&[("x-amz-trailer", "x-amz-checksum-crc32,x-amz-checksum-sha1")], InvalidPromise::MoreThanOne),
            (&[("x-amz-trailer", "x-amz-meta-a")], InvalidPromise::UnknownTrailer),
            (&[("x-amz-trailer", "")], InvalidPromise::UnknownTrailer),
            (&[("x-amz-checksum-crc16", "AAA=")], InvalidPromise::UnknownHeader(unknown)),
            (&[("x-amz-checksum-crc32", "AAAA")], InvalidPromise::Value(Algorithm::Crc32)),
            (&[crc, ("x-amz-sdk-checksum-algorithm", "SHA1")], InvalidPromise::SdkAlgorithmMismatch),
            (&[crc, ("x-amz-sdk-checksum-algorithm", "ROT13")], InvalidPromise::UnknownSdkAlgorithm),
            (&[("x-amz-sdk-checksum-algorithm", "CRC32")], InvalidPromise::SdkAlgorithmAlone),
        ];
        for (pairs, error) in cases {
            assert_eq!(promise(pairs).err().as_ref(), Some(error), "{pairs:?}");
        }
    }

    #[test]
    fn an_announced_trailer_must_come_and_match() {
        let announced = [("x-amz-trailer", "X-Amz-Checksum-Sha256"), ("x-amz-sdk-checksum-algorithm", "sha256")];
        let name = Algorithm::Sha256.header_name();
        let value = digest(Algorithm::Sha256, BODY).to_base64();
        let with = |trailers: &[(&HeaderName, &str)], body: &[u8]| {
            let mut expectations = promise(&announced).expect("valid");
            expectations.update(body);
            expectations.trailers(trailers.iter().copied()).map(|()| expectations.finish())
        };
        let verified = with(&[(&name, &value)], BODY).expect("announced").expect("matches");
        assert_eq!(verified.algorithm(), Algorithm::Sha256);
        assert_eq!(
            with(&[(&name, &value)], b"").expect("announced").err(),
            Some(Mismatch::Checksum(Algorithm::Sha256))
        );
        assert_eq!(with(&[], BODY).expect("none").err(), Some(Mismatch::TrailerMissing));
        let crc32 = Algorithm::Crc32.header_name();
        assert_eq!(with(&[(&crc32, "AAAAAA==")], BODY).err(), Some(InvalidPromise::UnexpectedTrailer));
        assert_eq!(with(&[(&name, &value), (&name, &value)], BODY).err(), Some(InvalidPromise::UnexpectedTrailer));
        assert_eq!(with(&[(&name, "AAAA")], BODY).err(), Some(InvalidPromise::Value(Algorithm::Sha256)));
        let unannounced = promise(&[]).expect("valid").trailers([(&name, value.as_str())]);
        assert_eq!(unannounced.err(), Some(InvalidPromise::UnexpectedTrailer));
    }
}
