//! Base64 as clients send it: standard, padded, perhaps in lines.

use std::borrow::Cow;

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeError, DecodeSliceError, Engine as _};
use zeroize::Zeroizing;

/// Decodes `text`; line ends in it do not matter.
///
/// # Errors
/// The text that Go's decoder, and so Vault, has for it.
pub(super) fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let lines = text.bytes().any(|byte| matches!(byte, b'\r' | b'\n'));
    let joined = lines.then(|| {
        // As long as the text, so that it is never moved.
        let mut joined = Zeroizing::new(Vec::with_capacity(text.len()));
        joined.extend(text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')));
        joined
    });
    let encoded = joined.as_ref().map_or(Cow::Borrowed(text.as_bytes()), |joined| Cow::Borrowed(joined.as_slice()));
    let mut decoded = Zeroizing::new(vec![0; encoded.len().div_ceil(4) * 3]);
    let length = STANDARD.decode_slice(&encoded, &mut decoded).map_err(|error| {
        let at = match error {
            DecodeSliceError::DecodeError(DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _)) => {
                at
            }
            DecodeSliceError::DecodeError(_) | DecodeSliceError::OutputSliceTooSmall => encoded.len() / 4 * 4,
        };
        format!("illegal base64 data at input byte {at}")
    })?;
    decoded.truncate(length);
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_padded_base64_is_decoded_and_lines_are_joined() {
        for (text, bytes) in [("", ""), ("aGVsbG8=", "hello"), ("aGVs\r\nbG8=\n", "hello"), ("aGVsbG8h", "hello!")] {
            assert_eq!(decode(text).expect(text).as_slice(), bytes.as_bytes());
        }
        for (text, at) in [("!!!", 0), ("aGVsbG8", 4), ("aGVs!G8=", 4), ("aGVsbG8=aGVs", 7), ("aGV_", 3), ("aGV-", 3)] {
            assert_eq!(decode(text).err(), Some(format!("illegal base64 data at input byte {at}")), "{text}");
        }
        for text in ["aGVsbG9=", " aGVsbG8=", "aGVsbG8= "] {
            assert!(decode(text).is_err(), "{text:?}");
        }
    }
}
