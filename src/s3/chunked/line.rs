//! Lines of an aws-chunked body.

use bytes::Bytes;

use super::{ChunkError, MAX_LINE_LEN};
use crate::s3::sigv4::encoding::parse_hex32;

/// Most digits of a chunk size: 64 bits.
const MAX_SIZE_DIGITS: usize = 16;

/// Gathers one line at a time, however its bytes come.
#[derive(Default)]
pub(super) struct LineBuffer(Vec<u8>);

impl LineBuffer {
    /// Takes bytes to the next LF off `input`. None while the line is not whole, and then `input` is used up.
    pub(super) fn take(&mut self, input: &mut Bytes) -> Result<Option<Vec<u8>>, ChunkError> {
        let end = input.iter().position(|byte| *byte == b'\n').map(|position| position + 1);
        let taken = end.unwrap_or(input.len());
        if self.0.len() + taken > MAX_LINE_LEN {
            return Err(ChunkError::LineTooLong);
        }
        self.0.extend_from_slice(&input.split_to(taken));
        Ok(end.map(|_| std::mem::take(&mut self.0)))
    }
}

/// The line before a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SizeLine {
    pub(super) size: u64,
    pub(super) signature: Option<[u8; 32]>,
}

impl SizeLine {
    /// Reads `size CRLF`, or `size;chunk-signature=… CRLF` when `signed`; nothing else may stand there.
    pub(super) fn parse(line: &[u8], signed: bool) -> Result<Self, ChunkError> {
        let line = line.strip_suffix(b"\r\n").ok_or(ChunkError::SizeLine)?;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let rest = line.strip_prefix(digits).unwrap_or_default();
        let size = parse_size(digits).ok_or(ChunkError::SizeLine)?;
        let signature = match (signed, rest) {
            (false, b"") => None,
            (true, rest) => {
                let hex = rest.strip_prefix(b";chunk-signature=").ok_or(ChunkError::SizeLine)?;
                Some(parse_hex32(hex).ok_or(ChunkError::SizeLine)?)
            }
            (false, _) => return Err(ChunkError::SizeLine),
        };
        Ok(Self { size, signature })
    }
}

fn parse_size(digits: &[u8]) -> Option<u64> {
    if !(1..=MAX_SIZE_DIGITS).contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0, |size: u64, digit| Some((size << 4) | u64::from(char::from(*digit).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_hex_of_up_to_64_bits() {
        let size = |line: &str| SizeLine::parse(line.as_bytes(), false).map(|line| line.size);
        assert_eq!(size("0\r\n"), Ok(0));
        assert_eq!(size("00fF\r\n"), Ok(255));
        assert_eq!(size("ffffffffffffffff\r\n"), Ok(u64::MAX));
        for bad in [
            "\r\n",
            "1\n",
            "1",
            "1\r",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "g\r\n",
            "1;\r\n",
            "1;a=b\r\n",
            "00000000000000001\r\n",
            "1\r\r\n",
        ] {
            assert_eq!(size(bad), Err(ChunkError::SizeLine), "{bad:?}");
        }
    }

    #[test]
    fn signatures_stand_where_they_must_and_nowhere_else() {
        let hex = "ab".repeat(32);
        let good = format!("10;chunk-signature={hex}\r\n");
        let parsed = SizeLine::parse(good.as_bytes(), true).expect("valid");
        assert_eq!(parsed, SizeLine { size: 16, signature: Some([0xab; 32]) });
        assert_eq!(SizeLine::parse(good.as_bytes(), false), Err(ChunkError::SizeLine));
        for bad in [
            "10\r\n".to_owned(),
            "10;chunk-signature=\r\n".to_owned(),
            good.replace(";chunk", "; chunk"),
            good.replace("chunk-", "Chunk-"),
            good.replace("ab\r", "ab;a=b\r"),
            good.replace("ab\r", "\r"),
            good.replace("ab", "AB"),
        ] {
            assert_eq!(SizeLine::parse(bad.as_bytes(), true), Err(ChunkError::SizeLine), "{bad:?}");
        }
    }
}
