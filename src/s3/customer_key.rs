//! SSE-C: the encryption key that a client sends along with each request.
//!
//! **Invariant:** once taken, the key is in no header map any more, and never reaches storage server, log or error.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use zeroize::Zeroizing;

use super::checksum::{Algorithm, Hasher};
use super::error::Code;
use crate::crypto::{constant_time_eq, scrubbing_stack};
use crate::secret::Secret;

/// Headers of the key for what the request reads or writes.
const TARGET: [&str; 3] = [
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-server-side-encryption-customer-key-md5",
];
/// What the names of all these headers have in them.
const IN_ALL: &str = "-customer-";
/// Headers of the key for what it copies from.
const SOURCE: [&str; 3] = [
    "x-amz-copy-source-server-side-encryption-customer-algorithm",
    "x-amz-copy-source-server-side-encryption-customer-key",
    "x-amz-copy-source-server-side-encryption-customer-key-md5",
];

/// The headers about a customer key make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CustomerKeyError {
    /// One or two of the three, or one of them twice.
    #[error("a customer key (SSE-C) needs its algorithm, key and key-MD5 headers, each once")]
    Incomplete,
    /// Another algorithm than AES256.
    #[error("the algorithm of a customer key (SSE-C) must be AES256")]
    Algorithm,
    /// Not the base64 of 32 bytes.
    #[error("a customer key (SSE-C) must be the base64 of 32 bytes")]
    Key,
    /// The MD5 is not that of the key.
    #[error("the MD5 of the customer key (SSE-C) is not that of the key: it was damaged on the way")]
    Md5,
    /// Together with a key of the custodian's.
    #[error("a customer key (SSE-C) and x-amz-server-side-encryption exclude each other")]
    Contradiction,
}

impl CustomerKeyError {
    /// The S3 code that goes with it.
    pub fn code(&self) -> Code {
        match self {
            Self::Algorithm => Code::InvalidEncryptionAlgorithm,
            Self::Incomplete | Self::Key | Self::Md5 | Self::Contradiction => Code::InvalidArgument,
        }
    }
}

/// A client's own key.
pub struct CustomerKey {
    key: Secret<32>,
    md5: String,
}

impl std::fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CustomerKey(..)")
    }
}

impl CustomerKey {
    /// The key.
    pub fn secret(&self) -> &Secret<32> {
        &self.key
    }

    /// The base64 of its MD5, as answers repeat it.
    pub fn md5(&self) -> &str {
        &self.md5
    }
}

/// The keys that come with a request.
#[derive(Debug, Default)]
pub struct CustomerKeys {
    /// For what it reads or writes.
    pub target: Option<CustomerKey>,
    /// For what it copies from.
    pub source: Option<CustomerKey>,
}

impl CustomerKeys {
    /// Takes the keys out of `headers`.
    ///
    /// # Errors
    /// [`CustomerKeyError`].
    pub fn take(headers: &mut HeaderMap) -> Result<Self, CustomerKeyError> {
        // Nearly all requests have none, which is seen sooner than six names are looked up.
        if !headers.keys().any(|name| name.as_str().contains(IN_ALL)) {
            return Ok(Self::default());
        }
        let keys = Self { target: take(headers, TARGET)?, source: take(headers, SOURCE)? };
        if keys.target.is_some() && headers.contains_key("x-amz-server-side-encryption") {
            return Err(CustomerKeyError::Contradiction);
        }
        Ok(keys)
    }
}

fn take(headers: &mut HeaderMap, names: [&'static str; 3]) -> Result<Option<CustomerKey>, CustomerKeyError> {
    let given = names.map(|name| headers.get_all(name).iter().count());
    if given == [0, 0, 0] {
        return Ok(None);
    }
    let [algorithm, key, md5] = names.map(|name| headers.remove(name));
    let (Some(algorithm), Some(key), Some(md5), [1, 1, 1]) = (algorithm, key, md5, given) else {
        return Err(CustomerKeyError::Incomplete);
    };
    if algorithm.as_bytes() != b"AES256" {
        return Err(CustomerKeyError::Algorithm);
    }
    let key = Zeroizing::new(STANDARD.decode(key.as_bytes()).map_err(|_| CustomerKeyError::Key)?);
    let secret = Secret::from_slice(&key).map_err(|_| CustomerKeyError::Key)?;
    // The hasher keeps the last block of what it was given.
    let expected = scrubbing_stack(|| {
        let mut hasher = Hasher::new(Algorithm::Md5);
        hasher.update(&key);
        hasher.finish().to_base64()
    });
    if !constant_time_eq(md5.as_bytes(), expected.as_bytes()) {
        return Err(CustomerKeyError::Md5);
    }
    Ok(Some(CustomerKey { key: secret, md5: expected }))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const KEY: &str = "pO3upElrwuEXSoFwCfnZPdSsmt/xWeFa0N9KgDijwVs=";
    const MD5: &str = "DWygnHRtgiJ77HCm+1rvHw==";

    fn headers(names: [&'static str; 3], values: [&'static str; 3]) -> HeaderMap {
        let pairs = names.into_iter().zip(values).filter(|(_, value)| !value.is_empty());
        pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_key_is_taken_out_of_the_headers() {
        assert!(TARGET.iter().chain(&SOURCE).all(|name| name.contains(IN_ALL)));
        for names in [TARGET, SOURCE] {
            let mut headers = headers(names, ["AES256", KEY, MD5]);
            let keys = CustomerKeys::take(&mut headers).expect("good");
            assert!(headers.is_empty());
            let key = keys.target.as_ref().or(keys.source.as_ref()).expect("there");
            assert_eq!((key.md5(), key.secret().expose()[0]), (MD5, 0xa4));
            assert_eq!(format!("{key:?}"), "CustomerKey(..)");
        }
        assert!(CustomerKeys::take(&mut HeaderMap::new()).expect("none").target.is_none());
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said_without_it() {
        use CustomerKeyError::{Algorithm, Incomplete, Key, Md5};
        for (values, expected) in [
            (["AES256", KEY, ""], Incomplete),
            (["AES256", "", MD5], Incomplete),
            (["", KEY, MD5], Incomplete),
            (["aes256", KEY, MD5], Algorithm),
            (["AES256", "pO3upElrwuEXSoFwCfnZPQ==", MD5], Key),
            (["AES256", "not base64", MD5], Key),
            (["AES256", KEY, "DWygnHRtgiJ77HCm+1rvHg=="], Md5),
        ] {
            assert_eq!(CustomerKeys::take(&mut headers(TARGET, values)).expect_err("wrong"), expected);
        }
        let mut both = headers(TARGET, ["AES256", KEY, MD5]);
        both.insert("x-amz-server-side-encryption", HeaderValue::from_static("aws:kms"));
        assert_eq!(CustomerKeys::take(&mut both).expect_err("both"), CustomerKeyError::Contradiction);
        let mut twice = headers(TARGET, ["AES256", KEY, MD5]);
        twice.append(TARGET[1], HeaderValue::from_static(KEY));
        assert_eq!(CustomerKeys::take(&mut twice).expect_err("twice"), Incomplete);
    }
}
