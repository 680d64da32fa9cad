//! The context that a branch key is bound to.

use crate::cbor::{self, NotCanonical};
use crate::names::{BranchId, LogicalBucket, Purpose, WriterDomain};

/// Names the layout of [`BranchContext::to_bytes`], so that no other structure of ours can pass for a context.
const LABEL: &str = "claviger/1 branch";

/// What the custodian binds a branch key to, and what its policy sees of the key's use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BranchContext {
    /// What is wrapped under the branch key: objects, or upload records.
    pub purpose: Purpose,
    /// The bucket, by the name that clients use.
    pub bucket: LogicalBucket,
    /// The role and region of the process that generated the branch key.
    pub writer: WriterDomain,
    /// The branch key.
    pub id: BranchId,
}

impl BranchContext {
    /// Deterministic CBOR: `["claviger/1 branch", purpose, bucket, writer, id]`, texts and 16 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::encode(|e| {
            e.array(5)?.str(LABEL)?.str(self.purpose.as_str())?.str(self.bucket.as_str())?;
            e.str(self.writer.as_str())?.bytes(self.id.as_bytes())?;
            Ok(())
        })
    }

    /// Reads what [`BranchContext::to_bytes`] writes, and nothing else.
    ///
    /// # Errors
    /// [`NotCanonical`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NotCanonical> {
        cbor::parse(
            bytes,
            |d| {
                if d.array()? != Some(5) || d.str()? != LABEL {
                    return Err(NotCanonical);
                }
                let purpose = d.str()?;
                let purpose = Purpose::ALL.into_iter().find(|known| known.as_str() == purpose);
                Ok(Self {
                    purpose: purpose.ok_or(NotCanonical)?,
                    bucket: LogicalBucket::new(d.str()?).map_err(|_| NotCanonical)?,
                    writer: WriterDomain::new(d.str()?).map_err(|_| NotCanonical)?,
                    id: BranchId::from_bytes(d.bytes()?.try_into().map_err(|_| NotCanonical)?),
                })
            },
            Self::to_bytes,
        )
    }
}

/// Whether the label of a branch key's context stands anywhere in `bytes`, in whatever encoding is around it.
pub fn bears_label(bytes: &[u8]) -> bool {
    bytes.windows(LABEL.len()).any(|window| window == LABEL.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> BranchContext {
        BranchContext {
            purpose: Purpose::Upload,
            bucket: LogicalBucket::new("records").expect("legal"),
            writer: WriterDomain::new("proxy/us").expect("legal"),
            id: BranchId::from_bytes([7; 16]),
        }
    }

    #[test]
    fn bytes_are_as_documented_and_parse_back() {
        let bytes = context().to_bytes();
        let mut expected = b"\x85\x71claviger/1 branch\x66upload\x67records\x68proxy/us\x50".to_vec();
        expected.extend_from_slice(&[7; 16]);
        assert_eq!(bytes, expected);
        assert_eq!(BranchContext::parse(&bytes), Ok(context()));
    }

    #[test]
    fn anything_but_the_one_encoding_is_refused() {
        let bytes = context().to_bytes();
        for cut in 0..bytes.len() {
            assert!(BranchContext::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [bytes.as_slice(), b"\0"].concat();
        assert!(BranchContext::parse(&longer).is_err());
        let wordy = [b"\x98\x05", &bytes[1..]].concat();
        assert!(BranchContext::parse(&wordy).is_err(), "array length in two bytes");
        let mut label = bytes.clone();
        label[10] ^= 1;
        assert!(BranchContext::parse(&label).is_err());
        let mut bucket = bytes;
        bucket[27] = b'/';
        assert!(BranchContext::parse(&bucket).is_err());
    }
}
