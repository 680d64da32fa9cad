//! S3's names for operations, and what a client must be allowed for each.

use super::{Access, BucketOperation, ObjectOperation, Verb};

impl BucketOperation {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::CreateBucket { .. } => "CreateBucket",
            Self::HeadBucket => "HeadBucket",
            Self::DeleteBucket => "DeleteBucket",
            Self::GetBucketLocation => "GetBucketLocation",
            Self::ListObjectsV1(_) => "ListObjects",
            Self::ListObjectsV2(_) => "ListObjectsV2",
            Self::ListObjectVersions(_) => "ListObjectVersions",
            Self::ListMultipartUploads(_) => "ListMultipartUploads",
            Self::DeleteObjects { .. } => "DeleteObjects",
            Self::Encryption(Verb::Put) => "PutBucketEncryption",
            Self::Encryption(Verb::Delete) => "DeleteBucketEncryption",
            Self::Encryption(_) => "GetBucketEncryption",
            Self::PassThrough(pass) => pass.name(),
        }
    }

    pub(super) fn needs(&self) -> &'static [Access] {
        match self {
            // As on AWS, where these headers need PutBucketAcl, PutBucketObjectLockConfiguration or
            // PutBucketOwnershipControls.
            Self::CreateBucket { configures: true } => &[Access::Bucket, Access::Configure],
            Self::CreateBucket { configures: false } | Self::DeleteBucket => &[Access::Bucket],
            Self::HeadBucket
            | Self::GetBucketLocation
            | Self::ListObjectsV1(_)
            | Self::ListObjectsV2(_)
            | Self::ListObjectVersions(_)
            | Self::ListMultipartUploads(_) => &[Access::List],
            Self::Encryption(Verb::Put | Verb::Delete) => &[Access::Configure],
            Self::Encryption(_) => &[Access::List],
            Self::DeleteObjects { bypasses_governance } => deletion(*bypasses_governance),
            Self::PassThrough(pass) => pass.needs(),
        }
    }
}

impl ObjectOperation {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::PutObject { .. } => "PutObject",
            Self::CopyObject { .. } => "CopyObject",
            Self::GetObject(_) => "GetObject",
            Self::HeadObject(_) => "HeadObject",
            Self::GetObjectAttributes(_) => "GetObjectAttributes",
            Self::CreateMultipartUpload { .. } => "CreateMultipartUpload",
            Self::UploadPart(_) => "UploadPart",
            Self::UploadPartCopy { .. } => "UploadPartCopy",
            Self::ListParts(_) => "ListParts",
            Self::CompleteMultipartUpload { .. } => "CompleteMultipartUpload",
            Self::AbortMultipartUpload { .. } => "AbortMultipartUpload",
            Self::DeleteObject { .. } => "DeleteObject",
            Self::PassThrough(pass) => pass.name(),
        }
    }

    pub(super) fn needs(&self) -> &'static [Access] {
        match self {
            // As on AWS, where these headers need PutObjectAcl, PutObjectRetention or PutObjectLegalHold.
            Self::PutObject { grants, locks }
            | Self::CopyObject { grants, locks, .. }
            | Self::CreateMultipartUpload { grants, locks }
                if *grants || *locks =>
            {
                &[Access::Write, Access::Configure]
            }
            // The source of a copy may lie in another bucket: reading it is asked for there.
            Self::PutObject { .. }
            | Self::CopyObject { .. }
            | Self::CreateMultipartUpload { .. }
            | Self::UploadPart(_)
            | Self::UploadPartCopy { .. }
            | Self::ListParts(_)
            | Self::CompleteMultipartUpload { .. }
            | Self::AbortMultipartUpload { .. } => &[Access::Write],
            Self::GetObject(_) | Self::HeadObject(_) | Self::GetObjectAttributes(_) => &[Access::Read],
            Self::DeleteObject { bypasses_governance, .. } => deletion(*bypasses_governance),
            Self::PassThrough(pass) => pass.needs(),
        }
    }
}

fn deletion(bypasses_governance: bool) -> &'static [Access] {
    if bypasses_governance { &[Access::Delete, Access::Configure] } else { &[Access::Delete] }
}
