//! Which checksum the object of an upload is to have.
//!
//! Source: AWS, CreateMultipartUpload and "Checking object integrity in Amazon S3"; error texts as S3 gives them.

use http::HeaderMap;

use crate::format::checksum::Kind;
use crate::format::upload::ChecksumChoice;
use crate::s3::checksum::Algorithm;

use super::super::metadata::to_format;

const ALGORITHM: &str = "x-amz-checksum-algorithm";
const KIND: &str = "x-amz-checksum-type";

/// A choice that S3 does not offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChecksumChoiceError {
    /// No algorithm of S3.
    #[error(
        "checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"
    )]
    Algorithm,
    /// Neither of the two types.
    #[error("value for x-amz-checksum-type header is invalid")]
    Kind,
    /// A type without an algorithm.
    #[error("the x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header")]
    KindAlone,
    /// CRC64NVME is of the whole object only; digests and hashes cannot be combined from those of parts.
    #[error("the {} checksum type cannot be used with the {} checksum algorithm", kind_name(*.1), .0.wire_name().to_lowercase())]
    Pair(Algorithm, Kind),
}

/// As headers and documents have it.
pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::FullObject => "FULL_OBJECT",
        Kind::Composite => "COMPOSITE",
    }
}

/// The choice in the headers of a CreateMultipartUpload.
pub(super) fn choice(headers: &HeaderMap) -> Result<ChecksumChoice, ChecksumChoiceError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim());
    let kind = match text(KIND) {
        None => None,
        Some("FULL_OBJECT") => Some(Kind::FullObject),
        Some("COMPOSITE") => Some(Kind::Composite),
        Some(_) => return Err(ChecksumChoiceError::Kind),
    };
    let Some(name) = text(ALGORITHM) else {
        return if kind.is_none() { Ok(ChecksumChoice::DEFAULT) } else { Err(ChecksumChoiceError::KindAlone) };
    };
    let algorithm = Algorithm::from_wire_name(name).ok_or(ChecksumChoiceError::Algorithm)?;
    let (usual, other) = match algorithm {
        Algorithm::Crc64Nvme => (Kind::FullObject, None),
        Algorithm::Crc32 | Algorithm::Crc32c => (Kind::Composite, Some(Kind::FullObject)),
        Algorithm::Sha1
        | Algorithm::Sha256
        | Algorithm::Sha512
        | Algorithm::Md5
        | Algorithm::XxHash64
        | Algorithm::XxHash3
        | Algorithm::XxHash128 => (Kind::Composite, None),
    };
    let kind = kind.unwrap_or(usual);
    if kind != usual && Some(kind) != other {
        return Err(ChecksumChoiceError::Pair(algorithm, kind));
    }
    Ok(ChecksumChoice { algorithm: to_format(algorithm), kind, by_client: true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn choose(
        algorithm: Option<&'static str>,
        kind: Option<&'static str>,
    ) -> Result<ChecksumChoice, ChecksumChoiceError> {
        let mut headers = HeaderMap::new();
        headers
            .extend(algorithm.map(|name| (http::HeaderName::from_static(ALGORITHM), HeaderValue::from_static(name))));
        headers.extend(kind.map(|name| (http::HeaderName::from_static(KIND), HeaderValue::from_static(name))));
        choice(&headers)
    }

    #[test]
    fn the_usual_types_are_those_of_s3() {
        assert_eq!(choose(None, None), Ok(ChecksumChoice::DEFAULT));
        for (name, kind) in [
            ("CRC32", Kind::Composite),
            ("crc32c", Kind::Composite),
            ("CRC64NVME", Kind::FullObject),
            ("SHA1", Kind::Composite),
            ("SHA256", Kind::Composite),
        ] {
            let chosen = choose(Some(name), None).expect("a choice");
            assert_eq!((chosen.kind, chosen.by_client), (kind, true), "{name}");
        }
        assert_eq!(choose(Some("CRC32"), Some("FULL_OBJECT")).expect("a choice").kind, Kind::FullObject);
    }

    #[test]
    fn what_s3_does_not_offer_is_refused() {
        use ChecksumChoiceError::{Algorithm as Unknown, Kind as NoKind, KindAlone, Pair};
        for (algorithm, kind, error) in [
            (Some("CRC16"), None, Unknown),
            (Some(""), None, Unknown),
            (None, Some("COMPOSITE"), KindAlone),
            (Some("CRC32"), Some("WHOLE"), NoKind),
            (Some("CRC64NVME"), Some("COMPOSITE"), Pair(Algorithm::Crc64Nvme, Kind::Composite)),
            (Some("SHA1"), Some("FULL_OBJECT"), Pair(Algorithm::Sha1, Kind::FullObject)),
            (Some("SHA256"), Some("FULL_OBJECT"), Pair(Algorithm::Sha256, Kind::FullObject)),
        ] {
            assert_eq!(choose(algorithm, kind), Err(error), "{algorithm:?} {kind:?}");
        }
        let told = Pair(Algorithm::Sha256, Kind::FullObject).to_string();
        assert_eq!(told, "the FULL_OBJECT checksum type cannot be used with the sha256 checksum algorithm");
    }
}
