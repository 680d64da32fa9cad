//! The ACL of an object, as the headers that give another object the same one.
//!
//! Source: AWS, "Access control list (ACL) overview".

use super::{Node, XmlError, walk};

/// A permission that an ACL gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclGrant {
    /// The header of an upload that gives it, such as `x-amz-grant-read`.
    pub header: &'static str,
    /// To whom, as that header has it: `id="…"`, `uri="…"` or `emailAddress="…"`.
    pub grantee: String,
}

/// The grants of an `AccessControlPolicy`; none if there is only the owner's full control, which every object has that says
/// nothing. (One that says something says that, too.)
///
/// # Errors
/// [`XmlError`] if it is another document, malformed, or gives what no header can give.
pub fn acl_grants(body: &[u8]) -> Result<Vec<AclGrant>, XmlError> {
    let mut owner = String::new();
    let mut grants: Vec<(Option<String>, Option<&'static str>)> = Vec::new();
    walk(body, |node| {
        let (Node::Open { path, .. } | Node::Leaf { path, .. } | Node::Close { path, .. }) = &node;
        if path.first().is_none_or(|root| root != "AccessControlPolicy") {
            return Err(XmlError::Root { expected: "AccessControlPolicy" });
        }
        match node {
            Node::Open { path: [_, _, grant], .. } if grant == "Grant" => grants.push((None, None)),
            Node::Leaf { path: [_, holder, name], text, .. } if holder == "Owner" && name == "ID" => {
                text.clone_into(&mut owner);
            }
            Node::Leaf { path: [_, _, grant, name], text, .. } if grant == "Grant" && name == "Permission" => {
                let last = grants.last_mut().ok_or(XmlError::Element("Grant"))?;
                last.1 = Some(header(text.trim())?);
            }
            Node::Leaf { path: [_, _, grant, _, name], text, .. } if grant == "Grant" => {
                let last = grants.last_mut().ok_or(XmlError::Element("Grant"))?;
                last.0 = grantee(name, text)?.or(last.0.take());
            }
            _ => {}
        }
        Ok(())
    })?;
    let own = grantee("ID", &owner)?;
    let says_something = grants.iter().any(|(grantee, header)| {
        let owners = grantee.is_none() || *grantee == own;
        !(owners && *header == Some(FULL_CONTROL))
    });
    if !says_something {
        return Ok(Vec::new());
    }
    let grants = grants.into_iter().map(|(grantee, header)| {
        let header = header.ok_or(XmlError::Element("Permission"))?;
        Ok(AclGrant { header, grantee: grantee.ok_or(XmlError::Element("Grantee"))? })
    });
    grants.collect()
}

const FULL_CONTROL: &str = "x-amz-grant-full-control";

fn header(permission: &str) -> Result<&'static str, XmlError> {
    match permission {
        "FULL_CONTROL" => Ok(FULL_CONTROL),
        "READ" => Ok("x-amz-grant-read"),
        "READ_ACP" => Ok("x-amz-grant-read-acp"),
        "WRITE_ACP" => Ok("x-amz-grant-write-acp"),
        // Of an object it means nothing, and yet stands in some.
        "WRITE" => Ok("x-amz-grant-write"),
        _ => Err(XmlError::Value("Permission")),
    }
}

/// `None` for what only describes the grantee. What stands in quotes has none.
fn grantee(name: &str, text: &str) -> Result<Option<String>, XmlError> {
    let kind = match name {
        "ID" => "id",
        "URI" => "uri",
        "EmailAddress" => "emailAddress",
        _ => return Ok(None),
    };
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    if plain { Ok(Some(format!("{kind}=\"{text}\""))) } else { Err(XmlError::Value("Grantee")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(grants: &str) -> Vec<u8> {
        format!(
            "<AccessControlPolicy xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>me</ID>\
             <DisplayName>I</DisplayName></Owner><AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
        )
        .into_bytes()
    }

    fn grant(grantee: &str, permission: &str) -> String {
        format!(
            "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"X\">{grantee}</Grantee>\
             <Permission>{permission}</Permission></Grant>"
        )
    }

    #[test]
    fn what_others_may_is_told_as_headers() {
        let own = grant("<ID>me</ID><DisplayName>I</DisplayName>", "FULL_CONTROL");
        assert_eq!(acl_grants(&policy(&own)).expect("an ACL"), []);
        let everybody = grant("<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>", "READ");
        let other = grant("<ID>you</ID>", "WRITE_ACP");
        let grants = acl_grants(&policy(&format!("{own}{everybody}{other}"))).expect("an ACL");
        let told: Vec<_> = grants.iter().map(|grant| (grant.header, grant.grantee.as_str())).collect();
        let everybody = "uri=\"http://acs.amazonaws.com/groups/global/AllUsers\"";
        let own = ("x-amz-grant-full-control", "id=\"me\"");
        assert_eq!(told, [own, ("x-amz-grant-read", everybody), ("x-amz-grant-write-acp", "id=\"you\"")]);
    }

    #[test]
    fn what_no_header_can_say_is_refused() {
        for grants in [
            grant("<ID>a\"b</ID>", "READ"),
            grant("<ID>a b</ID>", "READ"),
            grant("<ID>you</ID>", "EVERYTHING"),
            grant("<DisplayName>you</DisplayName>", "READ"),
        ] {
            assert!(acl_grants(&policy(&grants)).is_err(), "{grants}");
        }
        assert!(acl_grants(b"<Tagging/>").is_err());
    }
}
