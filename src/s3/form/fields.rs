//! The fields of a form: what they ask for, as the headers that a PUT would have.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::FormError;
use crate::s3::target::LONGEST_KEY;
use crate::s3::xml;

/// Fields that go by another name in the headers of a PUT, or by the same.
const HEADERS: &[(&str, &str)] = &[
    ("acl", "x-amz-acl"),
    ("cache-control", "cache-control"),
    ("content-type", "content-type"),
    ("content-disposition", "content-disposition"),
    ("content-encoding", "content-encoding"),
    ("content-language", "content-language"),
    ("content-md5", "content-md5"),
    ("expires", "expires"),
    ("x-amz-storage-class", "x-amz-storage-class"),
    ("x-amz-website-redirect-location", "x-amz-website-redirect-location"),
    ("x-claviger-reason", "x-claviger-reason"),
];

/// Families of those that go by the same name.
const FAMILIES: &[&str] =
    &["x-amz-meta-", "x-amz-checksum-", "x-amz-grant-", "x-amz-object-lock-", "x-amz-server-side-encryption"];

/// `x-amz-` fields that are no headers of the upload.
const OTHERS: &[&str] =
    &["x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "x-amz-security-token"];

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the answer to a form that went well is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuccessAction<'a> {
    /// 200 without a body.
    Ok,
    /// 201 with a document.
    Created,
    /// 204.
    NoContent,
    /// The browser goes there.
    Redirect(&'a str),
}

/// The fields before the file, each once, by their names in lower case.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

/// The names only: among the values are keys and signatures.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Fields {
    /// The fields, as the reader gave them, with the file's name put in for `${filename}` in the key.
    pub fn new(mut fields: Vec<(String, String)>, file_name: &str) -> Self {
        for (_, key) in fields.iter_mut().filter(|(name, _)| name == "key") {
            *key = substituted(key, file_name);
        }
        Self(fields)
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The headers that a PUT of the same would have. What S3 has no use for is left out, as other headers are.
    ///
    /// # Errors
    /// [`FormError::Field`] and [`FormError::Tagging`].
    pub fn headers(&self) -> Result<HeaderMap, FormError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.0 {
            let wrong = || FormError::Field(name.clone());
            let known = HEADERS.iter().find(|(field, _)| field == name).map(|(_, header)| *header);
            let family = FAMILIES.iter().any(|family| name.starts_with(family)).then_some(name.as_str());
            let (header, value) = match (known.or(family), name.as_str()) {
                (Some(header), _) => (header, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong())?),
                (None, "tagging") => ("x-amz-tagging", tags(value)?),
                // It might change what is stored, or where.
                (None, name) if name.starts_with("x-amz-") && !OTHERS.contains(&name) => return Err(wrong()),
                (None, _) => continue,
            };
            headers.insert(HeaderName::try_from(header).map_err(|_| wrong())?, value);
        }
        // Nothing is aws-chunked in a form.
        if headers
            .get(header::CONTENT_ENCODING)
            .is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"aws-chunked"))
        {
            return Err(FormError::Field("content-encoding".to_owned()));
        }
        Ok(headers)
    }

    /// What is to be answered. A place or status that makes no sense counts as none, as S3 has it.
    pub fn success_action(&self) -> SuccessAction<'_> {
        if let Some(place) = self.get("success_action_redirect").or_else(|| self.get("redirect"))
            && let Ok(uri) = place.parse::<Uri>()
            && matches!(uri.scheme_str(), Some("http" | "https"))
        {
            return SuccessAction::Redirect(place);
        }
        match self.get("success_action_status") {
            Some("200") => SuccessAction::Ok,
            Some("201") => SuccessAction::Created,
            _ => SuccessAction::NoContent,
        }
    }
}

/// `key` with `file_name` put in. What is too long for a key is left off as soon as it is: such a key is refused, and a
/// name may be put in often.
fn substituted(key: &str, file_name: &str) -> String {
    let mut pieces = key.split("${filename}");
    let mut built = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        if built.len() > LONGEST_KEY {
            break;
        }
        built.push_str(file_name);
        built.push_str(piece);
    }
    built
}

/// The `x-amz-tagging` header of a Tagging document.
fn tags(document: &str) -> Result<HeaderValue, FormError> {
    let mut tags: Vec<(Option<String>, Option<String>)> = Vec::new();
    let read = xml::walk(document.as_bytes(), |node| {
        match node {
            xml::Node::Open { path, .. } if is(path, &["Tagging", "TagSet", "Tag"]) => tags.push((None, None)),
            xml::Node::Leaf { path, text, .. } => {
                let unfinished = tags.last_mut();
                let slot = match unfinished {
                    Some((key, _)) if is(path, &["Tagging", "TagSet", "Tag", "Key"]) => key,
                    Some((_, value)) if is(path, &["Tagging", "TagSet", "Tag", "Value"]) => value,
                    _ if is(path, &["Tagging", "TagSet"]) => return Ok(()),
                    _ => return Err(xml::XmlError::Element("Tag")),
                };
                if slot.replace(text.to_owned()).is_some() {
                    return Err(xml::XmlError::Element("Tag"));
                }
            }
            xml::Node::Open { path, .. } if !is(path, &["Tagging"]) && !is(path, &["Tagging", "TagSet"]) => {
                return Err(xml::XmlError::Root { expected: "Tagging" });
            }
            xml::Node::Open { .. } | xml::Node::Close { .. } => {}
        }
        Ok(())
    });
    read.map_err(|_| FormError::Tagging)?;
    let pairs: Option<Vec<String>> = tags
        .into_iter()
        .map(|(key, value)| {
            let (key, value) = (key?, value?);
            Some(format!("{}={}", utf8_percent_encode(&key, UNRESERVED), utf8_percent_encode(&value, UNRESERVED)))
        })
        .collect();
    let pairs = pairs.ok_or(FormError::Tagging)?;
    HeaderValue::try_from(pairs.join("&")).map_err(|_| FormError::Tagging)
}

fn is(path: &[String], expected: &[&str]) -> bool {
    path.iter().map(String::as_str).eq(expected.iter().copied())
}
