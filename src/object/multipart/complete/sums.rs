//! Checksums and size of the object that an upload becomes, and what the client says they are.

use http::HeaderMap;

use crate::format::checksum::{Checksum, Kind};
use crate::format::upload::{ChecksumChoice, PartRecord};
use crate::s3::checksum::{Algorithm, Digest, combine};

use super::super::super::metadata::of_format;
use super::CompleteError;
use super::list::Wanted;

const PREFIX: &str = "x-amz-checksum-";
const OBJECT_SIZE: &str = "x-amz-mp-object-size";

/// What the client says of the whole object.
#[derive(Debug)]
pub(super) struct Promised {
    /// Algorithm and value, with the number of parts if it stands behind it.
    checksum: Option<(Algorithm, Digest, Option<usize>)>,
    kind: Option<Kind>,
    size: Option<u64>,
}

impl Promised {
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, CompleteError> {
        let mut promised = Self { checksum: None, kind: kind_of(headers)?, size: None };
        for (name, value) in headers {
            let known = matches!(name.as_str(), "x-amz-checksum-type" | "x-amz-checksum-algorithm");
            if !name.as_str().starts_with(PREFIX) || known {
                continue;
            }
            let algorithm = Algorithm::from_header_name(name).ok_or(CompleteError::MoreThanOne)?;
            let invalid = || CompleteError::ChecksumValue(algorithm);
            let text = value.to_str().map_err(|_| invalid())?.trim();
            // Base64 has no '-'.
            let (text, parts) = match text.split_once('-') {
                None => (text, None),
                Some((text, parts)) => (text, Some(parts.parse().map_err(|_| invalid())?)),
            };
            let digest = Digest::from_base64(algorithm, text).ok_or_else(invalid)?;
            if promised.checksum.replace((algorithm, digest, parts)).is_some() {
                return Err(CompleteError::MoreThanOne);
            }
        }
        if let Some(size) = headers.get(OBJECT_SIZE) {
            let size = size.to_str().ok().and_then(|size| size.parse().ok());
            promised.size = Some(size.unwrap_or(u64::MAX));
        }
        Ok(promised)
    }

    /// Whether an object of `parts` parts is the one promised. `checksum` is its own.
    pub(super) fn check(
        &self,
        choice: ChecksumChoice,
        checksum: Option<&Checksum>,
        parts: usize,
        length: u64,
    ) -> Result<(), CompleteError> {
        if self.size.is_some_and(|size| size != length) {
            return Err(CompleteError::ObjectSize { length });
        }
        let other =
            || CompleteError::OtherChecksum { algorithm: of_format(choice.algorithm), kind: name_of(choice.kind) };
        if self.kind.is_some_and(|kind| kind != choice.kind) {
            return Err(other());
        }
        let Some((algorithm, digest, counted)) = self.checksum else { return Ok(()) };
        let checksum = checksum.filter(|checksum| of_format(checksum.algorithm()) == algorithm).ok_or_else(other)?;
        let count_fits = counted.is_none_or(|counted| choice.kind == Kind::Composite && counted == parts);
        if count_fits && digest.as_bytes() == checksum.value() {
            Ok(())
        } else {
            Err(CompleteError::BadDigest(algorithm))
        }
    }
}

fn kind_of(headers: &HeaderMap) -> Result<Option<Kind>, CompleteError> {
    match headers.get("x-amz-checksum-type").map(|kind| kind.as_bytes()) {
        None => Ok(None),
        Some(b"FULL_OBJECT") => Ok(Some(Kind::FullObject)),
        Some(b"COMPOSITE") => Ok(Some(Kind::Composite)),
        Some(_) => Err(CompleteError::MoreThanOne),
    }
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::FullObject => "FULL_OBJECT",
        Kind::Composite => "COMPOSITE",
    }
}

/// Whether the checksums in the client's list are those of the parts, and all there that S3 wants there. (It wants those
/// of CRCs, too; but some SDKs choose a CRC for clients that know nothing of it, and these leave them out.)
pub(super) fn check_parts(
    choice: ChecksumChoice,
    wanted: &[Wanted],
    parts: &[PartRecord],
) -> Result<(), CompleteError> {
    let algorithm = of_format(choice.algorithm);
    for (wanted, part) in wanted.iter().zip(parts) {
        let number = wanted.number;
        // Where the upload has no algorithm of the client's choice, each part has its own; it was checked as it came.
        if choice.by_client && wanted.checksums.iter().any(|(listed, _)| *listed != algorithm) {
            return Err(CompleteError::OtherChecksum { algorithm, kind: name_of(choice.kind) });
        }
        let listed = wanted.checksums.iter().find(|(listed, _)| *listed == algorithm);
        match (listed, &part.checksum) {
            (Some((_, digest)), Some(checksum)) if digest.as_bytes() == checksum.value() => {}
            (Some(_), _) => return Err(CompleteError::Part(number)),
            (None, _) if choice.by_client && choice.kind == Kind::Composite && !combine::combines(algorithm) => {
                return Err(CompleteError::ChecksumMissing { number, algorithm });
            }
            (None, _) => {}
        }
    }
    Ok(())
}

/// The object's checksum from those of its parts; none if one of them is not known.
pub(super) fn object_checksum(choice: ChecksumChoice, parts: &[PartRecord]) -> Option<Checksum> {
    let algorithm = of_format(choice.algorithm);
    let digest = |part: &PartRecord| {
        let checksum = part.checksum.as_ref().filter(|checksum| checksum.algorithm() == choice.algorithm)?;
        Digest::from_slice(checksum.value())
    };
    let digests: Vec<Digest> = parts.iter().map(digest).collect::<Option<_>>()?;
    let whole = match choice.kind {
        Kind::Composite => combine::composite(algorithm, digests),
        Kind::FullObject => {
            let lengths = parts.iter().map(|part| part.entry.length);
            combine::full_object(algorithm, digests.into_iter().zip(lengths))?
        }
    };
    Checksum::new(choice.algorithm, choice.kind, whole.as_bytes())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::format::checksum::Algorithm as Stored;
    use crate::format::segment::AttemptId;

    const BY_CLIENT: ChecksumChoice =
        ChecksumChoice { algorithm: Stored::Sha256, kind: Kind::Composite, by_client: true };

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    fn part(number: u32, value: &[u8]) -> PartRecord {
        let checksum = Checksum::new(Stored::Sha256, Kind::FullObject, value);
        PartRecord::new(number, 10, AttemptId::from_bytes([1; 16]), checksum)
    }

    fn promised(pairs: &[(&'static str, &str)], checksum: &Checksum) -> Result<(), CompleteError> {
        Promised::from_headers(&headers(pairs))?.check(BY_CLIENT, Some(checksum), 2, 20)
    }

    #[test]
    fn a_composite_is_compared_with_its_count() {
        let parts = [part(1, &[7; 32]), part(2, &[8; 32])];
        let checksum = object_checksum(BY_CLIENT, &parts).expect("both are known");
        let digest = Digest::from_slice(checksum.value()).expect("32 bytes").to_base64();
        let with = |end: &str| promised(&[("x-amz-checksum-sha256", &format!("{digest}{end}"))], &checksum);
        assert!(with("").is_ok() && with("-2").is_ok());
        assert!(matches!(with("-3"), Err(CompleteError::BadDigest(Algorithm::Sha256))));
        assert!(matches!(with("-x"), Err(CompleteError::ChecksumValue(Algorithm::Sha256))));
        let other = Digest::from_slice(&[9; 32]).expect("32 bytes").to_base64();
        let wrong = promised(&[("x-amz-checksum-sha256", &other)], &checksum);
        assert!(matches!(wrong, Err(CompleteError::BadDigest(Algorithm::Sha256))));
        let bad = promised(&[("x-amz-checksum-sha256", "bad")], &checksum);
        assert!(matches!(bad, Err(CompleteError::ChecksumValue(Algorithm::Sha256))));
        let crc = promised(&[("x-amz-checksum-crc32", "AAAAAA==")], &checksum);
        assert!(matches!(crc, Err(CompleteError::OtherChecksum { .. })));
        assert!(promised(&[("x-amz-checksum-type", "COMPOSITE")], &checksum).is_ok());
        let kind = promised(&[("x-amz-checksum-type", "FULL_OBJECT")], &checksum);
        assert!(matches!(kind, Err(CompleteError::OtherChecksum { .. })));
        let two = [("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-checksum-sha256", other.as_str())];
        assert!(matches!(promised(&two, &checksum), Err(CompleteError::MoreThanOne)));
    }

    #[test]
    fn the_size_is_compared() {
        let checksum = object_checksum(BY_CLIENT, &[part(1, &[7; 32])]).expect("known");
        assert!(promised(&[("x-amz-mp-object-size", "20")], &checksum).is_ok());
        for wrong in ["19", "", "-1", "x"] {
            let size = promised(&[("x-amz-mp-object-size", wrong)], &checksum);
            assert!(matches!(size, Err(CompleteError::ObjectSize { length: 20 })), "{wrong}");
        }
    }

    #[test]
    fn the_lists_checksums_are_those_of_the_parts() {
        let parts = [part(1, &[7; 32])];
        let check = |choice: ChecksumChoice, checksums: Vec<(Algorithm, Digest)>| {
            let wanted = Wanted { number: 1, attempt: AttemptId::from_bytes([1; 16]), checksums };
            check_parts(choice, &[wanted], &parts)
        };
        let digest = |byte| Digest::from_slice(&[byte; 32]).expect("32 bytes");
        assert!(check(BY_CLIENT, vec![(Algorithm::Sha256, digest(7))]).is_ok());
        assert!(matches!(check(BY_CLIENT, vec![(Algorithm::Sha256, digest(8))]), Err(CompleteError::Part(1))));
        assert!(matches!(check(BY_CLIENT, Vec::new()), Err(CompleteError::ChecksumMissing { number: 1, .. })));
        assert!(check(ChecksumChoice::DEFAULT, Vec::new()).is_ok());
        let other = check(BY_CLIENT, vec![(Algorithm::Sha1, Digest::from_slice(&[1; 20]).expect("20 bytes"))]);
        assert!(matches!(other, Err(CompleteError::OtherChecksum { .. })));
    }

    #[test]
    fn without_a_parts_checksum_the_object_has_none() {
        let unknown = PartRecord::new(2, 10, AttemptId::from_bytes([1; 16]), None);
        assert_eq!(object_checksum(BY_CLIENT, &[part(1, &[7; 32]), unknown]), None);
    }
}
