//! The small documents around buckets.

use super::{NAMESPACE, Writer, XmlError, check_root, leaves};

/// The region that a `CreateBucketConfiguration` asks for. An empty body asks for none.
///
/// # Errors
/// [`XmlError`] if it is another document or malformed.
pub fn location_constraint(body: &[u8]) -> Result<Option<String>, XmlError> {
    if body.is_empty() {
        return Ok(None);
    }
    let mut region = None;
    leaves(body, |path, text| {
        check_root(path, "CreateBucketConfiguration")?;
        match path {
            [_, name] if name == "LocationConstraint" => match region.replace(text.trim().to_owned()) {
                None => Ok(()),
                Some(_) => Err(XmlError::Element("LocationConstraint")),
            },
            _ => Ok(()),
        }
    })?;
    Ok(region.filter(|region| !region.is_empty()))
}

/// The region in the answer to GetBucketLocation; `None` is us-east-1, as S3 has it.
///
/// # Errors
/// [`XmlError`] if it is another document or malformed.
pub fn bucket_location(body: &[u8]) -> Result<Option<String>, XmlError> {
    let mut region = String::new();
    leaves(body, |path, text| {
        // SeaweedFS wraps the element as in the request, others into another of the same name.
        if path.first().is_none_or(|root| root != "CreateBucketConfiguration") {
            check_root(path, "LocationConstraint")?;
        }
        if path.last().is_some_and(|name| name == "LocationConstraint") {
            text.trim().clone_into(&mut region);
        }
        Ok(())
    })?;
    Ok(Some(region).filter(|region| !region.is_empty()))
}

/// The answer to GetBucketLocation, in the one form that clients read.
pub fn location_xml(region: Option<&str>) -> Vec<u8> {
    let mut out = Writer::new();
    out.leaf_in("LocationConstraint", NAMESPACE, region.unwrap_or_default());
    out.into_bytes()
}
