//! Percent-encoding as Signature Version 4 wants it, and hex.
//!
//! S3 encodes once: every byte except `A-Z a-z 0-9 - . _ ~` (and `/` in paths) becomes `%XX`, in upper case. What came
//! on the wire is decoded and encoded anew, because clients differ in what they leave bare while they sign this form.

/// Most parameters of a query.
pub const MAX_QUERY_PARAMETERS: usize = 512;

/// A path or query that is not percent-encoded text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedUri {
    /// A `%` without two hex digits after it.
    #[error("the URI has a % that is not followed by two hex digits")]
    Escape,
    /// More than [`MAX_QUERY_PARAMETERS`].
    #[error("the URI has more than {MAX_QUERY_PARAMETERS} query parameters")]
    TooManyParameters,
}

/// A query parameter, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The name; bytes, because nothing says that they are UTF-8.
    pub name: Vec<u8>,
    /// The value; empty when there is none.
    pub value: Vec<u8>,
}

/// Encodes a decoded path, such as `/bucket/` and an object key: what stands on the wire is what is signed.
pub fn uri_encode_path(path: &[u8]) -> String {
    encode(path, true)
}

/// Encodes decoded names and values as a query, sorted as signatures want it. Without values: `name=`.
pub fn uri_encode_query<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (N, V)>) -> String {
    let encoded = pairs.into_iter().map(|(name, value)| (encode(name.as_ref(), false), encode(value.as_ref(), false)));
    let mut encoded: Vec<(String, String)> = encoded.collect();
    encoded.sort();
    let joined: Vec<String> = encoded.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    joined.join("&")
}

/// The canonical form of a path as it came; an empty one is `/`.
///
/// # Errors
/// [`MalformedUri::Escape`].
pub fn canonical_path(raw: &str) -> Result<String, MalformedUri> {
    if raw.is_empty() {
        return Ok("/".to_owned());
    }
    Ok(uri_encode_path(&decode(raw, false)?))
}

/// The parameters of a query as it came, in their order. Empty ones (`a&&b`) are skipped.
///
/// A `+` is a space, as for AWS, MinIO and Ceph: clients that build queries as HTML forms do send it so, while they
/// sign `%20`. Whoever else reads the query has to decode it with this function, so that what is acted on is what was
/// signed.
///
/// # Errors
/// [`MalformedUri`].
pub fn query_parameters(raw: &str) -> Result<Vec<Parameter>, MalformedUri> {
    let mut parameters = Vec::new();
    for item in raw.split('&').filter(|item| !item.is_empty()) {
        if parameters.len() == MAX_QUERY_PARAMETERS {
            return Err(MalformedUri::TooManyParameters);
        }
        let (name, value) = item.split_once('=').unwrap_or((item, ""));
        parameters.push(Parameter { name: decode(name, true)?, value: decode(value, true)? });
    }
    Ok(parameters)
}

fn encode(bytes: &[u8], keep_slash: bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            b'/' if keep_slash => text.push('/'),
            _ => {
                text.push('%');
                text.push(hex_digit(byte >> 4).to_ascii_uppercase());
                text.push(hex_digit(byte & 15).to_ascii_uppercase());
            }
        }
    }
    text
}

fn decode(raw: &str, plus_is_space: bool) -> Result<Vec<u8>, MalformedUri> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(hex_value).ok_or(MalformedUri::Escape);
                let high = digit()?;
                (high << 4) | digit()?
            }
            b'+' if plus_is_space => b' ',
            _ => byte,
        });
    }
    Ok(bytes)
}

fn hex_digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).expect("half a byte is a hex digit")
}

fn hex_value(digit: u8) -> Option<u8> {
    u8::try_from(char::from(digit).to_digit(16)?).ok()
}

/// Lower-case hex of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [hex_digit(byte >> 4), hex_digit(byte & 15)]).collect()
}

/// Reads exactly 64 lower-case hex digits, the only form in which AWS writes signatures and hashes.
pub(in crate::s3) fn parse_hex32(text: &[u8]) -> Option<[u8; 32]> {
    if text.len() != 64 || text.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let &[high, low] = digits else { return None };
        *byte = (hex_value(high)? << 4) | hex_value(low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded_once_and_never_normalised() {
        assert_eq!(uri_encode_path(b"/b/a//../.~ +%\xc3\xa9$"), "/b/a//../.~%20%2B%25%C3%A9%24");
        assert_eq!(canonical_path("/test$file.text"), Ok("/test%24file.text".to_owned()));
        assert_eq!(canonical_path("/a%2fb+c%7e"), Ok("/a/b%2Bc~".to_owned()));
        assert_eq!(canonical_path(""), Ok("/".to_owned()));
        for bad in ["/%", "/%4", "/%zz", "/%+1", "/a%%41"] {
            assert_eq!(canonical_path(bad), Err(MalformedUri::Escape), "{bad}");
        }
    }

    #[test]
    fn queries_are_sorted_by_encoded_name_and_value() {
        let pairs = [("prefix", "J b"), ("max-keys", "2"), ("a", "z"), ("a", "A/"), ("A", "")];
        assert_eq!(uri_encode_query(pairs), "A=&a=A%2F&a=z&max-keys=2&prefix=J%20b");
        // Encoded, `~` stays behind `%C3`: bytes above ASCII sort before it.
        assert_eq!(uri_encode_query([("~", ""), ("é", "")]), "%C3%A9=&~=");
    }

    #[test]
    fn queries_are_decoded_as_aws_does() {
        let parameter = |name: &str, value: &str| Parameter { name: name.into(), value: value.into() };
        let parsed = query_parameters("&acl&a=b=c&&x=1+2%2B&%61=").expect("well-formed");
        let expected = [parameter("acl", ""), parameter("a", "b=c"), parameter("x", "1 2+"), parameter("a", "")];
        assert_eq!(parsed, expected);
        assert_eq!(query_parameters("a=%"), Err(MalformedUri::Escape));
        assert!(query_parameters(&"a&".repeat(MAX_QUERY_PARAMETERS)).is_ok());
        let many = "a&".repeat(MAX_QUERY_PARAMETERS + 1);
        assert_eq!(query_parameters(&many), Err(MalformedUri::TooManyParameters));
    }

    #[test]
    fn hex_goes_there_and_back_in_lower_case_only() {
        let bytes: [u8; 32] = std::array::from_fn(|i| u8::try_from(i * 8).expect("below 256"));
        assert_eq!(parse_hex32(hex(&bytes).as_bytes()), Some(bytes));
        assert_eq!(parse_hex32(hex(&bytes).to_uppercase().as_bytes()), None);
        assert_eq!(parse_hex32(&[b'0'; 63]), None);
        assert_eq!(parse_hex32(&[b'g'; 64]), None);
    }
}
