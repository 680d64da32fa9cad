//! The policy of a browser form: what its signer lets the form say (AWS, "POST policy").
//!
//! **Invariant:** every field of a form is covered by a condition, or it is refused.

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Fields;

/// Fields that no condition has to name.
const EXEMPT: [&str; 4] = ["x-amz-signature", "policy", "bucket", "file"];
const EXEMPT_PREFIX: &str = "x-ignore-";

/// Why a policy does not let a form pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not a policy.
    #[error("the form's policy is not valid: {0}")]
    Invalid(&'static str),
    /// It was for earlier.
    #[error("the form's policy has expired")]
    Expired,
    /// A condition that does not hold.
    #[error("the form does not meet its policy's condition on {0:?}")]
    Unmet(String),
    /// A field without a condition.
    #[error("the form's policy has no condition on the field {0:?}")]
    Uncovered(String),
    /// The file is shorter than the policy lets it be.
    #[error("the file has {length} bytes, fewer than the {least} that the form's policy asks for")]
    TooSmall {
        /// The file's bytes.
        length: u64,
        /// The fewest allowed.
        least: u64,
    },
    /// The file is longer than the policy lets it be.
    #[error("the file has {length} bytes, more than the {most} that the form's policy allows")]
    TooLarge {
        /// The file's bytes.
        length: u64,
        /// The most allowed.
        most: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Exactly,
    Beginning,
}

#[derive(Debug)]
struct Condition {
    field: String,
    how: Match,
    value: String,
}

/// A policy.
#[derive(Debug)]
pub struct Policy {
    expires: OffsetDateTime,
    conditions: Vec<Condition>,
    /// The fewest and most bytes of the file.
    length: (u64, u64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    expiration: String,
    conditions: Vec<Value>,
}

impl Policy {
    /// Reads the `policy` field: base64 of a JSON document.
    ///
    /// # Errors
    /// [`PolicyError::Invalid`].
    pub fn parse(field: &str) -> Result<Self, PolicyError> {
        // Tools that make base64 break it into lines.
        let packed: String = field.split_ascii_whitespace().collect();
        let json = base64::engine::general_purpose::STANDARD.decode(packed);
        let json = json.map_err(|_| PolicyError::Invalid("it is not base64"))?;
        let document: Document = serde_json::from_slice(&json)
            .map_err(|_| PolicyError::Invalid("it is not JSON with 'expiration' and 'conditions'"))?;
        let expires = Some(document.expiration.as_str()).filter(|text| text.ends_with('Z'));
        let expires = expires.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let expires = expires.ok_or(PolicyError::Invalid("'expiration' is not a time such as 2030-01-01T00:00:00Z"))?;
        let mut policy = Self { expires, conditions: Vec::new(), length: (0, u64::MAX) };
        for condition in document.conditions {
            policy.take(condition)?;
        }
        if policy.length.0 > policy.length.1 {
            return Err(PolicyError::Invalid("no file has the lengths that content-length-range asks for"));
        }
        Ok(policy)
    }

    fn take(&mut self, condition: Value) -> Result<(), PolicyError> {
        match condition {
            Value::Object(object) => {
                let mut pairs = object.into_iter();
                let (Some((field, Value::String(value))), None) = (pairs.next(), pairs.next()) else {
                    return Err(PolicyError::Invalid("a condition in braces is one name with one text"));
                };
                self.conditions.push(Condition { field: field.to_ascii_lowercase(), how: Match::Exactly, value });
            }
            Value::Array(list) => {
                let [Value::String(operator), first, second] = list.as_slice() else {
                    return Err(PolicyError::Invalid("a condition in brackets is an operator with two operands"));
                };
                let how = match operator.to_ascii_lowercase().as_str() {
                    "eq" => Match::Exactly,
                    "starts-with" => Match::Beginning,
                    "content-length-range" => {
                        let bounds = bytes(first).zip(bytes(second));
                        let (least, most) =
                            bounds.ok_or(PolicyError::Invalid("content-length-range has two numbers of bytes"))?;
                        self.length = (self.length.0.max(least), self.length.1.min(most));
                        return Ok(());
                    }
                    _ => return Err(PolicyError::Invalid("an operator is none of those that S3 knows")),
                };
                let field = first.as_str().and_then(|name| name.strip_prefix('$'));
                let (Some(field), Value::String(value)) = (field, second) else {
                    return Err(PolicyError::Invalid("a condition names a field as '$name', and a text"));
                };
                self.conditions.push(Condition { field: field.to_ascii_lowercase(), how, value: value.clone() });
            }
            _ => return Err(PolicyError::Invalid("a condition is in braces or in brackets")),
        }
        Ok(())
    }

    /// Whether a form with these fields may be sent to `bucket` at `now`. The length of its file is another question:
    /// [`Policy::check_length`].
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn check(&self, now: OffsetDateTime, bucket: &str, fields: &Fields) -> Result<(), PolicyError> {
        if now >= self.expires {
            return Err(PolicyError::Expired);
        }
        for condition in &self.conditions {
            let said = if condition.field == "bucket" { Some(bucket) } else { fields.get(&condition.field) };
            if !condition.holds(said) {
                return Err(PolicyError::Unmet(condition.field.clone()));
            }
        }
        if fields.get("bucket").is_some_and(|said| said != bucket) {
            return Err(PolicyError::Unmet("bucket".to_owned()));
        }
        let covered = |name: &str| self.conditions.iter().any(|condition| condition.field == name);
        let named = fields.names().filter(|name| !EXEMPT.contains(name) && !name.starts_with(EXEMPT_PREFIX));
        match named.chain(["bucket", "key"]).find(|name| !covered(name)) {
            Some(name) => Err(PolicyError::Uncovered(name.to_owned())),
            None => Ok(()),
        }
    }

    /// Whether a file of `length` bytes may be sent.
    ///
    /// # Errors
    /// [`PolicyError::TooSmall`] and [`PolicyError::TooLarge`].
    pub fn check_length(&self, length: u64) -> Result<(), PolicyError> {
        let (least, most) = self.length;
        if length < least {
            return Err(PolicyError::TooSmall { length, least });
        }
        if length > most { Err(PolicyError::TooLarge { length, most }) } else { Ok(()) }
    }
}

impl Condition {
    fn holds(&self, said: Option<&str>) -> bool {
        match self.how {
            Match::Exactly => said == Some(self.value.as_str()),
            // As S3 has it, each type of a list has to begin so.
            Match::Beginning if self.field == "content-type" => {
                said.unwrap_or_default().split(',').all(|kind| kind.trim_start().starts_with(&self.value))
            }
            Match::Beginning => said.unwrap_or_default().starts_with(&self.value),
        }
    }
}

/// A number of bytes, which some write as text.
fn bytes(value: &Value) -> Option<u64> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    value.as_u64().or_else(|| value.as_str().and_then(digits))
}

#[cfg(test)]
mod tests;
