//! AWS's published examples, clients' own signatures, and what tampering, clocks and junk do.

mod clients;
mod forms;
mod presenting;
mod published;
mod tampering;

use http::{HeaderMap, HeaderName, HeaderValue};
use time::OffsetDateTime;
use time::macros::datetime;

use super::{AuthError, Presented, RequestView, SecretKey, VerifiedSignature, VerifySettings};
use crate::secret::SecretBytes;

const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const NOW: OffsetDateTime = datetime!(2013-05-24 0:00 UTC);

fn secret() -> SecretKey {
    SecretBytes::new(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_vec()).expect("not empty").into()
}

/// A request that tests may change.
#[derive(Clone)]
struct Request {
    method: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
}

impl Request {
    fn new(method: &str, path: &str, query: Option<&str>, headers: &[(&str, &str)]) -> Self {
        let mut request =
            Self { method: method.into(), path: path.into(), query: query.map(Into::into), headers: HeaderMap::new() };
        headers.iter().for_each(|(name, value)| request.append(name, value));
        request
    }

    fn append(&mut self, name: &str, value: &str) {
        let name = HeaderName::try_from(name).expect("a header name");
        self.headers.append(name, HeaderValue::try_from(value).expect("a header value"));
    }

    fn set(&mut self, name: &str, value: &str) {
        self.headers.remove(name);
        self.append(name, value);
    }

    fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            raw_path: &self.path,
            raw_query: self.query.as_deref(),
            headers: &self.headers,
        }
    }

    fn verify_at(&self, now: OffsetDateTime) -> Result<VerifiedSignature, AuthError> {
        let presented = Presented::parse(&self.view())?.expect("credentials are presented");
        presented.verify(&self.view(), &secret(), now, &VerifySettings::default())
    }

    fn verify(&self) -> Result<VerifiedSignature, AuthError> {
        self.verify_at(NOW)
    }
}
