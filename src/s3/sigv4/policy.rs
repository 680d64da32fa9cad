//! The signature of a browser form, which is made over its policy.
//!
//! Source: AWS, "Authenticating Requests in Browser-Based Uploads Using POST (AWS Signature Version 4)": the string to sign
//! is the base64 of the policy as it stands in the form.

use std::fmt;

use super::key::{Scope, SecretKey};
use super::presented::{parse_credential, parse_signature};
use super::verify::{Payload, check_region};
use super::{ALGORITHM, AuthError, Field, Malformed, Timestamp, VerifiedSignature, VerifySettings};
use crate::crypto::constant_time_eq;

use time::OffsetDateTime;

/// The credentials that a form presents, read but not verified.
#[derive(Clone)]
pub struct PresentedPolicy {
    access_key: String,
    timestamp: Timestamp,
    scope: Scope,
    signature: [u8; 32],
    policy: String,
}

/// Without the signature and what it is over.
impl fmt::Debug for PresentedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresentedPolicy").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

impl PresentedPolicy {
    /// Reads the credentials among the fields of a form, whose names are in lower case; none when it presents none.
    ///
    /// # Errors
    /// [`AuthError`]: Signature Version 2, or malformed ones.
    pub fn parse<'f>(field: impl Fn(&str) -> Option<&'f str>) -> Result<Option<Self>, AuthError> {
        if field("awsaccesskeyid").is_some() || field("signature").is_some() {
            return Err(AuthError::SignatureV2);
        }
        let names = ["policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"];
        if names.iter().all(|name| field(name).is_none()) {
            return Ok(None);
        }
        let needed = |name, part| field(name).ok_or(AuthError::Form(Malformed::Missing(part)));
        let algorithm = needed("x-amz-algorithm", Field::Algorithm)?;
        if algorithm.starts_with("AWS4-ECDSA") {
            return Err(AuthError::Ecdsa);
        }
        if algorithm != ALGORITHM {
            return Err(AuthError::Form(Malformed::Invalid(Field::Algorithm)));
        }
        let (access_key, scope) =
            parse_credential(needed("x-amz-credential", Field::Credential)?).map_err(AuthError::Form)?;
        let timestamp = Timestamp::parse(needed("x-amz-date", Field::Date)?);
        let timestamp = timestamp.ok_or(AuthError::Form(Malformed::Invalid(Field::Date)))?;
        if scope.date != timestamp.date() {
            return Err(AuthError::Form(Malformed::ScopeDate));
        }
        let signature = parse_signature(needed("x-amz-signature", Field::Signature)?).map_err(AuthError::Form)?;
        let policy = needed("policy", Field::Policy)?.to_owned();
        Ok(Some(Self { access_key, timestamp, scope, signature, policy }))
    }

    /// The access key id, as the form has it.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The policy, in base64, as the form has it. What it says counts once it is verified.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Verifies that the policy was signed with `secret`. How long it is good for, the policy itself says.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn verify(
        &self,
        secret: &SecretKey,
        now: OffsetDateTime,
        settings: &VerifySettings,
    ) -> Result<VerifiedSignature, AuthError> {
        check_region(&self.scope, settings, AuthError::Form)?;
        if self.timestamp.at() - now > settings.max_skew {
            return Err(AuthError::NotYetValid);
        }
        let expected = secret.signing_key(&self.scope).sign(self.policy.as_bytes());
        if !constant_time_eq(&expected, &self.signature) {
            return Err(AuthError::SignatureMismatch);
        }
        Ok(VerifiedSignature::of_policy(&self.access_key, &self.scope.region, Payload::Unsigned))
    }
}
