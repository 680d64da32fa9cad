//! Which operation a request asks for, and what the client must be allowed for it.
//!
//! **Invariant:** an operation exists only for a request whose every query parameter is known for it. What is not
//! known is `NotImplemented`: a storage server that ignores an unknown parameter would take `PUT key?new-thing` for
//! a PutObject and keep its body in plaintext.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::names::LogicalBucket;

use super::copy_source::CopySource;
use super::target::ObjectKey;

mod headers;
mod multipart;
mod needs;
mod parse;
mod refusal;
mod sub_resource;

pub use headers::{clean_response_headers, cors_headers, forwardable_request_headers, storage_request_id};
pub use multipart::{HIGHEST_PART, ListParts, PartOf, UploadId};
pub use refusal::{OperationError, Unsupported};
pub use sub_resource::{Destination, PassThrough, SubResource, Verb};

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// The list of buckets.
    ListBuckets(ListBuckets),
    /// Something about a bucket.
    Bucket(LogicalBucket, BucketOperation),
    /// Something about an object.
    Object(LogicalBucket, ObjectKey, ObjectOperation),
}

/// What is asked of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketOperation {
    /// Make it.
    CreateBucket {
        /// With headers that give others access to it, or settings that are hard to take back.
        configures: bool,
    },
    /// Does it exist?
    HeadBucket,
    /// Remove it.
    DeleteBucket,
    /// Where is it?
    GetBucketLocation,
    /// What is in it, version 1. The parameters go to the storage server as they are.
    ListObjectsV1(Parameters),
    /// What is in it, version 2. The parameters go to the storage server as they are.
    ListObjectsV2(Parameters),
    /// All versions of what is in it. The parameters go to the storage server as they are.
    ListObjectVersions(Parameters),
    /// The uploads that are under way. The parameters go to the storage server as they are.
    ListMultipartUploads(Parameters),
    /// Delete many objects.
    DeleteObjects {
        /// Also where retention in governance mode forbids it.
        bypasses_governance: bool,
    },
    /// Read, set or remove its encryption configuration, which the proxy answers itself.
    Encryption(Verb),
    /// Read or change a setting that carries no record data.
    PassThrough(PassThrough),
}

/// What is asked of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectOperation {
    /// Store it.
    PutObject {
        /// With headers that give others access to it.
        grants: bool,
        /// With headers that set a retention or legal hold.
        locks: bool,
    },
    /// Store what another object holds.
    CopyObject {
        /// The other object.
        source: CopySource,
        /// With headers that give others access to it.
        grants: bool,
        /// With headers that set a retention or legal hold.
        locks: bool,
    },
    /// Its bytes.
    GetObject(Read),
    /// Its headers.
    HeadObject(Read),
    /// What is known of it.
    GetObjectAttributes(GetAttributes),
    /// Begin to store it in parts.
    CreateMultipartUpload {
        /// With headers that give others access to it.
        grants: bool,
        /// With headers that set a retention or legal hold.
        locks: bool,
    },
    /// Store a part.
    UploadPart(PartOf),
    /// Store a part that another object holds.
    UploadPartCopy {
        /// The part.
        part: PartOf,
        /// The other object.
        source: CopySource,
    },
    /// The parts that are there.
    ListParts(ListParts),
    /// Put the parts together.
    CompleteMultipartUpload {
        /// The upload.
        upload: UploadId,
    },
    /// Give the upload up.
    AbortMultipartUpload {
        /// The upload.
        upload: UploadId,
    },
    /// Delete it.
    DeleteObject {
        /// This version only.
        version_id: Option<String>,
        /// Also where retention in governance mode forbids it.
        bypasses_governance: bool,
    },
    /// Read or change a setting that carries no record data.
    PassThrough(PassThrough),
}

/// The parameters of GetObject and HeadObject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    /// This version.
    pub version_id: Option<String>,
    /// Only this part, 1 to 10,000.
    pub part_number: Option<u32>,
    /// Headers (`content-type`, …) that the answer shall have instead of the stored ones: the `response-*`
    /// parameters. The proxy applies them; they never reach the storage server.
    pub overrides: Vec<(HeaderName, HeaderValue)>,
}

/// The parameters of GetObjectAttributes. What is wanted stands in the headers `x-amz-object-attributes`,
/// `x-amz-max-parts` and `x-amz-part-number-marker`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GetAttributes {
    /// This version.
    pub version_id: Option<String>,
}

/// The parameters of ListBuckets, which the proxy applies to its own list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListBuckets {
    /// Only names that begin so.
    pub prefix: Option<String>,
    /// Only names after this one.
    pub continuation_token: Option<String>,
    /// At most that many, 1 to 10,000.
    pub max_buckets: Option<usize>,
}

/// Query parameters that are known for an operation and go to the storage server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, Option<String>)>);

impl Parameters {
    /// The decoded parameters in the client's order; `None` is one without `=`.
    pub fn as_slice(&self) -> &[(String, Option<String>)] {
        &self.0
    }

    /// The value of a parameter: `None` if it is absent, `Some("")` if it has none.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        Some(value.as_deref().unwrap_or_default())
    }
}

/// What a client can be allowed. The configuration speaks of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// Objects' bytes and headers, and their tags, ACLs, retention and legal holds.
    Read,
    /// Storing objects and their tags.
    Write,
    /// Deleting objects.
    Delete,
    /// What there is: buckets, keys, and the buckets' settings.
    List,
    /// Making and removing buckets.
    Bucket,
    /// Changing settings of buckets, and who else may use or must keep an object: ACLs, retention, legal holds,
    /// also as headers of an upload or of a new bucket, and deleting in spite of governance.
    Configure,
}

impl Operation {
    /// The bucket, if it is about one.
    pub fn bucket(&self) -> Option<&LogicalBucket> {
        match self {
            Self::ListBuckets(_) => None,
            Self::Bucket(bucket, _) | Self::Object(bucket, _, _) => Some(bucket),
        }
    }

    /// The key, if it is about an object.
    pub fn key(&self) -> Option<&ObjectKey> {
        match self {
            Self::ListBuckets(_) | Self::Bucket(..) => None,
            Self::Object(_, key, _) => Some(key),
        }
    }

    /// The version that it is about, where it names one.
    pub fn version(&self) -> Option<&str> {
        let Self::Object(_, _, operation) = self else { return None };
        match operation {
            ObjectOperation::GetObject(read) | ObjectOperation::HeadObject(read) => read.version_id.as_deref(),
            ObjectOperation::GetObjectAttributes(attributes) => attributes.version_id.as_deref(),
            ObjectOperation::DeleteObject { version_id, .. } => version_id.as_deref(),
            ObjectOperation::PassThrough(passed) => passed.parameters().get("versionId"),
            _ => None,
        }
    }

    /// The object that it copies from.
    pub fn source(&self) -> Option<&CopySource> {
        match self {
            Self::Object(
                _,
                _,
                ObjectOperation::CopyObject { source, .. } | ObjectOperation::UploadPartCopy { source, .. },
            ) => Some(source),
            _ => None,
        }
    }

    /// Whether it is about a multipart upload: begins one, or goes on with one.
    pub fn is_on_upload(&self) -> bool {
        use ObjectOperation::{
            AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, ListParts, UploadPart, UploadPartCopy,
        };
        let Self::Object(_, _, operation) = self else { return false };
        matches!(
            operation,
            CreateMultipartUpload { .. }
                | UploadPart(_)
                | UploadPartCopy { .. }
                | ListParts(_)
                | CompleteMultipartUpload { .. }
                | AbortMultipartUpload { .. }
        )
    }

    /// S3's name for it, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ListBuckets(_) => "ListBuckets",
            Self::Bucket(_, operation) => operation.name(),
            Self::Object(_, _, operation) => operation.name(),
        }
    }

    /// The class of the operation, for metrics and logs: the first of [`Self::needs`].
    pub fn class(&self) -> Access {
        self.needs().first().copied().unwrap_or(Access::Configure)
    }

    /// Everything that the client must be allowed on the bucket, never empty. (ListBuckets needs [`Access::List`]
    /// on each bucket that it shows.)
    pub fn needs(&self) -> &'static [Access] {
        match self {
            Self::ListBuckets(_) => &[Access::List],
            Self::Bucket(_, operation) => operation.needs(),
            Self::Object(_, _, operation) => operation.needs(),
        }
    }
}

fn is_given(headers: &HeaderMap, name: &str) -> bool {
    headers.get_all(name).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"false"))
}

#[cfg(test)]
mod tests;
