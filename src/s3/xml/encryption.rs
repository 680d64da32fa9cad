//! The bucket encryption configuration: read from a client, and written in the one form that there is here.

use super::{NAMESPACE, Writer, XmlError, check_root, leaves};

/// What a `ServerSideEncryptionConfiguration` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultEncryption {
    /// `SSEAlgorithm`.
    pub algorithm: String,
    /// `KMSMasterKeyID`, if it names one.
    pub key: Option<String>,
}

/// Reads a client's document, which has exactly one rule.
///
/// # Errors
/// [`XmlError`] if it is another document or malformed.
pub fn default_encryption(body: &[u8]) -> Result<DefaultEncryption, XmlError> {
    const ALGORITHM: &str = "SSEAlgorithm";
    const KEY: &str = "KMSMasterKeyID";
    let (mut algorithm, mut key) = (None, None);
    leaves(body, |path, text| {
        check_root(path, "ServerSideEncryptionConfiguration")?;
        let (slot, name) = match path {
            [_, rule, default, leaf] if rule == "Rule" && default == "ApplyServerSideEncryptionByDefault" => {
                match leaf.as_str() {
                    ALGORITHM => (&mut algorithm, ALGORITHM),
                    KEY => (&mut key, KEY),
                    _ => return Err(XmlError::Element("ApplyServerSideEncryptionByDefault")),
                }
            }
            // What else a rule may say, such as BucketKeyEnabled, changes nothing here.
            [_, rule, ..] if rule == "Rule" => return Ok(()),
            _ => return Err(XmlError::Element("Rule")),
        };
        match slot.replace(text.trim().to_owned()) {
            None => Ok(()),
            Some(_) => Err(XmlError::Element(name)),
        }
    })?;
    let algorithm = algorithm.ok_or(XmlError::Element(ALGORITHM))?;
    Ok(DefaultEncryption { algorithm, key: key.filter(|key| !key.is_empty()) })
}

/// The document that says that objects are encrypted under the KEK `key`.
pub fn default_encryption_xml(key: &str) -> Vec<u8> {
    let mut out = Writer::new();
    out.open("ServerSideEncryptionConfiguration", Some(NAMESPACE));
    out.open("Rule", None);
    out.open("ApplyServerSideEncryptionByDefault", None);
    out.leaf("SSEAlgorithm", "aws:kms");
    out.leaf("KMSMasterKeyID", key);
    out.close("ApplyServerSideEncryptionByDefault");
    out.leaf("BucketKeyEnabled", "true");
    out.close("Rule");
    out.close("ServerSideEncryptionConfiguration");
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(rule: &str) -> Result<DefaultEncryption, XmlError> {
        let text = format!("<ServerSideEncryptionConfiguration>{rule}</ServerSideEncryptionConfiguration>");
        default_encryption(text.as_bytes())
    }

    #[test]
    fn what_is_written_reads_back() {
        let read = default_encryption(&default_encryption_xml("demo")).expect("our own");
        assert_eq!(read, DefaultEncryption { algorithm: "aws:kms".into(), key: Some("demo".into()) });
    }

    #[test]
    fn there_is_one_rule_with_one_algorithm() {
        let apply = |inner: &str| {
            format!("<Rule><ApplyServerSideEncryptionByDefault>{inner}</ApplyServerSideEncryptionByDefault></Rule>")
        };
        let aes = apply("<SSEAlgorithm>AES256</SSEAlgorithm>");
        assert_eq!(document(&aes).expect("read"), DefaultEncryption { algorithm: "AES256".into(), key: None });
        for wrong in [
            String::new(),
            "<Rule/>".to_owned(),
            "<Other/>".to_owned(),
            apply(""),
            apply("<KMSMasterKeyID>demo</KMSMasterKeyID>"),
            apply("<SSEAlgorithm>a</SSEAlgorithm><SSEAlgorithm>b</SSEAlgorithm>"),
            apply("<SSEAlgorithm>a</SSEAlgorithm><New>b</New>"),
            aes.repeat(2),
        ] {
            assert!(document(&wrong).is_err(), "{wrong}");
        }
    }
}
