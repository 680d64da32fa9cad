//! The sub-resources that carry no record data: a table of known ones, and requests for them.
//!
//! What they say goes to the storage server as the client wrote it, and its answer back, after a check that the
//! answer is what was asked for. Physical bucket names in policies, logging and inventory are the client's matter.

use std::collections::HashMap;

use http::{HeaderMap, Method};
use serde::de::IgnoredAny;

use crate::s3::target::Query;
use crate::s3::xml;

use super::parse::{flag, known, other_method, version_id, within_bucket};
use super::{Access, OperationError, Parameters};

/// A sub-resource of a bucket or an object that passes through.
#[derive(Debug, PartialEq, Eq)]
pub struct SubResource {
    /// The query parameter that names it.
    name: &'static str,
    /// What the storage server answers to a GET, and what a client sends with a PUT.
    answer: Answer,
    /// S3's names for reading, changing and removing it; `None` where S3 has no such operation.
    get: Option<&'static str>,
    put: Option<&'static str>,
    delete: Option<&'static str>,
    post: Option<&'static str>,
    /// For those of which a bucket has several, told apart by `id`: the name for listing them.
    list: Option<&'static str>,
    /// Parameters besides its own name.
    parameters: &'static [&'static str],
    read: Access,
    change: Access,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// XML with this root element.
    Xml(&'static str),
    /// A JSON object.
    Json,
}

impl Answer {
    fn is(&self, document: &[u8]) -> bool {
        match self {
            Self::Xml(expected) => xml::root_element(document).is_some_and(|root| root == *expected),
            Self::Json => std::str::from_utf8(document)
                .is_ok_and(|text| serde_json::from_str::<HashMap<String, IgnoredAny>>(text).is_ok()),
        }
    }
}

/// Ceph writes this root element for that of S3's documentation.
fn is_cephs_answer(expected: &Answer, document: &[u8]) -> bool {
    *expected == Answer::Xml("PublicAccessBlockConfiguration")
        && xml::root_element(document).is_some_and(|root| root == "BlockPublicAccessBlockConfiguration")
}

/// An ACL can be given in headers, and then there is no document (AWS, PutBucketAcl and PutObjectAcl).
fn says_acl(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str() == "x-amz-acl" || name.as_str().starts_with("x-amz-grant-"))
}

/// A setting of a bucket, one to a bucket.
const fn setting(
    name: &'static str,
    answer: Answer,
    get: &'static str,
    put: Option<&'static str>,
    delete: Option<&'static str>,
) -> SubResource {
    let (read, change) = (Access::List, Access::Configure);
    SubResource { name, answer, get: Some(get), put, delete, post: None, list: None, parameters: &[], read, change }
}

/// A setting of a bucket of which there are several, each with an `id`.
const fn settings(
    name: &'static str,
    root: &'static str,
    list: &'static str,
    [get, put, delete]: [&'static str; 3],
) -> SubResource {
    let one = setting(name, Answer::Xml(root), get, Some(put), Some(delete));
    SubResource { list: Some(list), parameters: &["id", "continuation-token"], ..one }
}

/// A setting of an object.
const fn of_object(
    name: &'static str,
    root: &'static str,
    [get, put]: [&'static str; 2],
    delete: Option<&'static str>,
    change: Access,
) -> SubResource {
    let one = setting(name, Answer::Xml(root), get, Some(put), delete);
    SubResource { parameters: &["versionId"], read: Access::Read, change, ..one }
}

const BUCKET: &[SubResource] = &[
    setting(
        "accelerate",
        Answer::Xml("AccelerateConfiguration"),
        "GetBucketAccelerateConfiguration",
        Some("PutBucketAccelerateConfiguration"),
        None,
    ),
    setting("acl", Answer::Xml("AccessControlPolicy"), "GetBucketAcl", Some("PutBucketAcl"), None),
    settings(
        "analytics",
        "AnalyticsConfiguration",
        "ListBucketAnalyticsConfigurations",
        ["GetBucketAnalyticsConfiguration", "PutBucketAnalyticsConfiguration", "DeleteBucketAnalyticsConfiguration"],
    ),
    setting("cors", Answer::Xml("CORSConfiguration"), "GetBucketCors", Some("PutBucketCors"), Some("DeleteBucketCors")),
    settings(
        "intelligent-tiering",
        "IntelligentTieringConfiguration",
        "ListBucketIntelligentTieringConfigurations",
        [
            "GetBucketIntelligentTieringConfiguration",
            "PutBucketIntelligentTieringConfiguration",
            "DeleteBucketIntelligentTieringConfiguration",
        ],
    ),
    settings(
        "inventory",
        "InventoryConfiguration",
        "ListBucketInventoryConfigurations",
        ["GetBucketInventoryConfiguration", "PutBucketInventoryConfiguration", "DeleteBucketInventoryConfiguration"],
    ),
    setting(
        "lifecycle",
        Answer::Xml("LifecycleConfiguration"),
        "GetBucketLifecycleConfiguration",
        Some("PutBucketLifecycleConfiguration"),
        Some("DeleteBucketLifecycle"),
    ),
    setting("logging", Answer::Xml("BucketLoggingStatus"), "GetBucketLogging", Some("PutBucketLogging"), None),
    settings(
        "metrics",
        "MetricsConfiguration",
        "ListBucketMetricsConfigurations",
        ["GetBucketMetricsConfiguration", "PutBucketMetricsConfiguration", "DeleteBucketMetricsConfiguration"],
    ),
    setting(
        "notification",
        Answer::Xml("NotificationConfiguration"),
        "GetBucketNotificationConfiguration",
        Some("PutBucketNotificationConfiguration"),
        None,
    ),
    setting(
        "object-lock",
        Answer::Xml("ObjectLockConfiguration"),
        "GetObjectLockConfiguration",
        Some("PutObjectLockConfiguration"),
        None,
    ),
    setting(
        "ownershipControls",
        Answer::Xml("OwnershipControls"),
        "GetBucketOwnershipControls",
        Some("PutBucketOwnershipControls"),
        Some("DeleteBucketOwnershipControls"),
    ),
    setting("policy", Answer::Json, "GetBucketPolicy", Some("PutBucketPolicy"), Some("DeleteBucketPolicy")),
    setting("policyStatus", Answer::Xml("PolicyStatus"), "GetBucketPolicyStatus", None, None),
    setting(
        "publicAccessBlock",
        Answer::Xml("PublicAccessBlockConfiguration"),
        "GetPublicAccessBlock",
        Some("PutPublicAccessBlock"),
        Some("DeletePublicAccessBlock"),
    ),
    setting(
        "replication",
        Answer::Xml("ReplicationConfiguration"),
        "GetBucketReplication",
        Some("PutBucketReplication"),
        Some("DeleteBucketReplication"),
    ),
    setting(
        "requestPayment",
        Answer::Xml("RequestPaymentConfiguration"),
        "GetBucketRequestPayment",
        Some("PutBucketRequestPayment"),
        None,
    ),
    setting(
        "tagging",
        Answer::Xml("Tagging"),
        "GetBucketTagging",
        Some("PutBucketTagging"),
        Some("DeleteBucketTagging"),
    ),
    setting(
        "versioning",
        Answer::Xml("VersioningConfiguration"),
        "GetBucketVersioning",
        Some("PutBucketVersioning"),
        None,
    ),
];

const OBJECT: &[SubResource] = &[
    of_object("acl", "AccessControlPolicy", ["GetObjectAcl", "PutObjectAcl"], None, Access::Configure),
    of_object("legal-hold", "LegalHold", ["GetObjectLegalHold", "PutObjectLegalHold"], None, Access::Configure),
    of_object("retention", "Retention", ["GetObjectRetention", "PutObjectRetention"], None, Access::Configure),
    of_object(
        "tagging",
        "Tagging",
        ["GetObjectTagging", "PutObjectTagging"],
        Some("DeleteObjectTagging"),
        Access::Write,
    ),
    // Bringing an archived object back leaves what is stored as it is.
    SubResource {
        name: "restore",
        answer: Answer::Xml("RestoreRequest"),
        get: None,
        put: None,
        delete: None,
        post: Some("RestoreObject"),
        list: None,
        parameters: &["versionId"],
        read: Access::Read,
        change: Access::Write,
    },
];

/// Elements with which a setting names a bucket that the storage server is to write to: of logging, replication,
/// inventory and analytics.
const DESTINATIONS: [&str; 2] = ["TargetBucket", "Bucket"];

/// Elements of a RestoreRequest that ask for more than an object's return: a query of its content, which is ciphertext.
const QUERIES: [&str; 2] = ["SelectParameters", "OutputLocation"];

impl SubResource {
    /// The sub-resource of a bucket that the query names, if it names one.
    pub(super) fn of_bucket(query: &Query) -> Option<&'static Self> {
        BUCKET.iter().find(|sub_resource| query.has(sub_resource.name))
    }

    /// The sub-resource of an object that the query names, if it names one.
    pub(super) fn of_object(query: &Query) -> Option<&'static Self> {
        OBJECT.iter().find(|sub_resource| query.has(sub_resource.name))
    }

    /// The query parameter that names it.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// What is done to a sub-resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Read it.
    Get,
    /// List all of its kind.
    List,
    /// Set it.
    Put,
    /// Remove it.
    Delete,
    /// Have the storage server act on it.
    Post,
}

/// A request for a sub-resource that passes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassThrough {
    sub_resource: &'static SubResource,
    verb: Verb,
    operation: &'static str,
    parameters: Parameters,
}

/// A bucket that a document names by itself or at the end of an ARN, in lower case: some servers tell no cases apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination(String);

impl Destination {
    /// The bucket's name.
    pub fn name(&self) -> &str {
        self.0.rsplit(':').next().and_then(|name| name.split('/').next()).unwrap_or_default()
    }

    /// Whether some server could take any piece of it for the bucket `physical`.
    pub fn mentions(&self, physical: &str) -> bool {
        self.0.split([':', '/']).any(|piece| piece.eq_ignore_ascii_case(physical))
    }
}

impl PassThrough {
    pub(super) fn parse(
        sub_resource: &'static SubResource,
        method: &Method,
        query: &Query,
    ) -> Result<Self, OperationError> {
        flag(query, sub_resource.name)?;
        let mut allowed = vec![sub_resource.name];
        allowed.extend(sub_resource.parameters);
        let parameters = known(query, &allowed)?;
        within_bucket(&parameters)?;
        let with_id = parameters.get("id").is_some_and(|id| !id.is_empty());
        let (verb, operation) = match *method {
            Method::GET if sub_resource.list.is_some() && !with_id => (Verb::List, sub_resource.list),
            Method::GET => (Verb::Get, sub_resource.get),
            Method::PUT => (Verb::Put, sub_resource.put),
            Method::DELETE => (Verb::Delete, sub_resource.delete),
            Method::POST => (Verb::Post, sub_resource.post),
            _ => return Err(other_method(method, sub_resource.name)),
        };
        if sub_resource.list.is_some() && verb != Verb::List && !with_id {
            return Err(OperationError::Value("id"));
        }
        version_id(query)?;
        let operation = operation.ok_or_else(|| other_method(method, sub_resource.name))?;
        Ok(Self { sub_resource, verb, operation, parameters })
    }

    /// S3's name for the operation.
    pub fn name(&self) -> &'static str {
        self.operation
    }

    /// The sub-resource.
    pub fn sub_resource(&self) -> &'static SubResource {
        self.sub_resource
    }

    /// What is done to it.
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// The query for the storage server, the sub-resource's own name included.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub(super) fn needs(&self) -> &'static [Access] {
        let access = match self.verb {
            Verb::Get | Verb::List => self.sub_resource.read,
            Verb::Put | Verb::Delete | Verb::Post => self.sub_resource.change,
        };
        match access {
            Access::Read => &[Access::Read],
            Access::Write => &[Access::Write],
            Access::List => &[Access::List],
            Access::Delete | Access::Bucket | Access::Configure => &[Access::Configure],
        }
    }

    /// Whether `document` is one to ask this with. To a server that does not know the sub-resource, whatever is sent
    /// with a PUT would be an object, kept as it is: so it must be what it claims to be, and no record.
    pub fn is_asked_by(&self, headers: &HeaderMap, document: &[u8]) -> bool {
        if !self.has_document() {
            return document.is_empty();
        }
        if document.is_empty() {
            return self.sub_resource.name == "acl" && says_acl(headers);
        }
        let queries = |names: Vec<String>| names.iter().any(|name| QUERIES.contains(&name.as_str()));
        self.sub_resource.answer.is(document)
            && (self.verb != Verb::Post || !xml::elements(document).is_none_or(queries))
    }

    /// Whether the request carries a document.
    pub fn has_document(&self) -> bool {
        matches!(self.verb, Verb::Put | Verb::Post)
    }

    /// The buckets that `document` would have the storage server write to.
    pub fn destinations(&self, document: &[u8]) -> Vec<Destination> {
        let named = DESTINATIONS.iter().filter_map(|name| xml::texts_of(document, name)).flatten();
        named.map(|text| Destination(text.trim().to_ascii_lowercase())).collect()
    }

    /// What the document of a PUT has to be, in words that follow "is not a".
    pub fn document_kind(&self) -> &'static str {
        match self.sub_resource.answer {
            Answer::Xml(root) => root,
            Answer::Json => "JSON object",
        }
    }

    /// Whether a successful answer of the storage server is an answer to this request. A server that does not
    /// know the sub-resource may have ignored its name, and answered with the object's bytes, a listing, or the
    /// ETag of an object that it has just overwritten.
    pub fn is_answered_by(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        match (self.verb, &self.sub_resource.answer) {
            (Verb::Put | Verb::Delete | Verb::Post, _) => {
                !headers.contains_key(http::header::ETAG) && (body.is_empty() || xml::root_element(body).is_some())
            }
            (Verb::List, _) => {
                xml::root_element(body).is_some_and(|root| root.starts_with("List") && root.contains("Configuration"))
            }
            (Verb::Get, expected) => expected.is(body) || is_cephs_answer(expected, body),
        }
    }
}
