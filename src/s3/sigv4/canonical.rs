//! The canonical request and the string to sign.
//!
//! Source: AWS, "Create a signed AWS API request", steps 1 to 3.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::encoding::{MalformedUri, Parameter, canonical_path, hex, query_parameters, uri_encode_query};
use super::key::Scope;
use super::{ALGORITHM, AuthError, Timestamp};
use crate::crypto::sha256;

/// What a canonical request is made of.
pub(super) struct Canonical<'a> {
    pub(super) method: &'a str,
    pub(super) raw_path: &'a str,
    pub(super) raw_query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
    /// Sorted, without repetition.
    pub(super) signed_headers: &'a [HeaderName],
    pub(super) payload_hash: &'a str,
}

impl Canonical<'_> {
    /// The bytes; not text, because header values may be any bytes.
    pub(super) fn request(&self) -> Result<Vec<u8>, MalformedUri> {
        let mut request = Vec::with_capacity(1024);
        for line in [self.method, &canonical_path(self.raw_path)?, &canonical_query(self.raw_query)?] {
            request.extend_from_slice(line.as_bytes());
            request.push(b'\n');
        }
        for name in self.signed_headers {
            request.extend_from_slice(name.as_str().as_bytes());
            request.push(b':');
            for (position, value) in self.headers.get_all(name).iter().enumerate() {
                if position > 0 {
                    request.push(b',');
                }
                push_trimmed(&mut request, value.as_bytes());
            }
            request.push(b'\n');
        }
        request.push(b'\n');
        request.extend_from_slice(join_names(self.signed_headers).as_bytes());
        request.push(b'\n');
        request.extend_from_slice(self.payload_hash.as_bytes());
        Ok(request)
    }
}

/// `a;b;c`.
pub(super) fn join_names(names: &[HeaderName]) -> String {
    let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    names.join(";")
}

/// The string that the signature of a whole request is over.
pub(super) fn string_to_sign(timestamp: &Timestamp, scope: &Scope, canonical_request: &[u8]) -> String {
    format!("{ALGORITHM}\n{}\n{scope}\n{}", timestamp.as_str(), hex(&sha256(canonical_request)))
}

/// All parameters but the signature itself, which only presigned requests carry there.
fn canonical_query(raw: Option<&str>) -> Result<String, MalformedUri> {
    let parameters = query_parameters(raw.unwrap_or_default())?;
    let signed = parameters.into_iter().filter(|parameter| parameter.name != b"X-Amz-Signature");
    Ok(uri_encode_query(signed.map(|Parameter { name, value }| (name, value))))
}

/// White space at the ends goes, and each run of it inside becomes one space.
fn push_trimmed(request: &mut Vec<u8>, value: &[u8]) {
    let words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    for (position, word) in words.enumerate() {
        if position > 0 {
            request.push(b' ');
        }
        request.extend_from_slice(word);
    }
}

/// The value of a header that may stand there only once.
pub(super) fn single_header<'h>(
    headers: &'h HeaderMap,
    name: &'static str,
) -> Result<Option<&'h HeaderValue>, AuthError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(AuthError::RepeatedHeader(HeaderName::from_static(name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_trimmed_joined_and_may_be_any_bytes() {
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static("x-amz-meta-a");
        headers.append(&name, HeaderValue::from_static("  one   two\tthree "));
        headers.append(&name, HeaderValue::from_bytes(b"\xff").expect("obs-text"));
        let canonical = Canonical {
            method: "GET",
            raw_path: "",
            raw_query: Some("b&a=%7e"),
            headers: &headers,
            signed_headers: &[name],
            payload_hash: "UNSIGNED-PAYLOAD",
        };
        let expected = b"GET\n/\na=~&b=\nx-amz-meta-a:one two three,\xff\n\nx-amz-meta-a\nUNSIGNED-PAYLOAD";
        assert_eq!(canonical.request().expect("well-formed"), expected);
    }
}
