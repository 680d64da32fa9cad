//! S3's XML.

use claviger::names::LogicalBucket;
use claviger::s3::checksum::Algorithm;
use claviger::s3::error::{ErrorBody, parse_error};
use claviger::s3::etag::storage_from_client;
use claviger::s3::operation::UploadId;
use claviger::s3::xml::{
    BucketList, CopyResult, DeleteRequest, ListedPart, ListedUploads, Listing, PartsListing, StoredListing, Who,
    acl_grants, all_deleted, bucket_location, complete_upload_xml, copy_object_result, default_encryption,
    default_encryption_xml, delete_xml, initiated_upload, initiated_upload_xml, listed_keys, listed_page, listed_parts,
    location_constraint, location_xml, rewrite_listing, rewrite_uploads, sized_entries, tags,
};

/// A listing that is rewritten has the same keys as before, and can be rewritten again.
pub fn xml_listing(bytes: &[u8]) {
    let bucket = LogicalBucket::new("records").expect("legal");
    for listing in [Listing::Objects, Listing::Versions] {
        let rewrite = |bytes: &[u8]| rewrite_listing(bytes, listing, &bucket, |_, size| size);
        let Ok(rewritten) = rewrite(bytes) else { continue };
        // (Each time anew, as the mark on ETags is one that can be taken off again.)
        assert!(rewrite(&rewritten).is_ok());
        if listing == Listing::Objects {
            let keys = listed_keys(bytes).expect("a listing that can be rewritten can be read");
            assert_eq!(listed_keys(&rewritten).expect("what is written is a listing"), keys);
        }
    }
}

/// A new upload's id is written as what was read, a listing of uploads can be rewritten again, and a page of keys has
/// the same keys as the listing.
pub fn xml_multipart(bytes: &[u8]) {
    let bucket = LogicalBucket::new("records").expect("legal");
    if let Ok(id) = initiated_upload(bytes) {
        let written = initiated_upload_xml(&bucket, "a", &id);
        assert_eq!(initiated_upload(&written).expect("what is written is read"), id);
    }
    if let Ok(rewritten) = rewrite_uploads(bytes, &bucket) {
        assert_eq!(rewrite_uploads(&rewritten, &bucket).expect("what is written is a listing"), rewritten);
        // Clients see each upload that is looked for there.
        assert_eq!(ListedUploads::parse(&rewritten).ok(), ListedUploads::parse(bytes).ok());
    }
    assert_eq!(listed_page(bytes).ok().map(|page| page.keys), listed_keys(bytes).ok());
}

/// A list of buckets, and a bucket's location, are written as what was read.
pub fn xml_buckets(bytes: &[u8]) {
    if let Ok(list) = BucketList::parse(bytes) {
        assert_eq!(BucketList::parse(&list.to_xml(None)).expect("what is written is a list"), list);
    }
    for region in [bucket_location(bytes), location_constraint(bytes)].into_iter().flatten() {
        let written = location_xml(region.as_deref());
        assert_eq!(bucket_location(&written).expect("what is written is a location"), region);
    }
}

/// What the storage server is asked to delete is what the client asked to delete, under the same conditions.
pub fn xml_delete(bytes: &[u8]) {
    if let Ok(mut request) = DeleteRequest::parse(bytes) {
        let forwarded = request.to_storage_xml(|size| size);
        for object in &mut request.objects {
            object.etag = object.etag.as_deref().map(storage_from_client);
        }
        assert_eq!(DeleteRequest::parse(&forwarded).expect("what is written is a request"), request);
    }
}

/// A storage server's error is read as the same again after it was passed on.
pub fn xml_error(bytes: &[u8]) {
    if let Some(error) = parse_error(bytes) {
        let (code, message) = (error.code.as_str(), error.message.as_str().into());
        let passed_on = ErrorBody { code, message, resource: "/records/a", request_id: "1", extra: &[] };
        assert_eq!(parse_error(&passed_on.to_xml()), Some(error.clone()));
    }
}

/// What clients send: the parts of an upload, and a bucket's encryption, are written as what was read.
pub fn xml_client(bytes: &[u8]) {
    if let Ok(parts) = listed_parts(bytes) {
        let written = complete_upload_xml(parts.iter().map(|part| (part.number, part.etag.as_str())));
        let again = listed_parts(&written).expect("what is written is a list");
        assert_eq!(again.len(), parts.len());
        assert!(again.iter().zip(&parts).all(|(one, other)| one.number == other.number && one.etag == other.etag));
    }
    if let Ok(encryption) = default_encryption(bytes)
        && let Some(key) = &encryption.key
    {
        let again = default_encryption(&default_encryption_xml(key)).expect("what is written is a configuration");
        assert_eq!(again.key.as_ref(), Some(key));
    }
}

/// What storage servers send beside listings of keys is read within bounds; the result of a copy is written as what was read, and keys are deleted as
/// they were listed.
pub fn xml_stored(bytes: &[u8]) {
    if let Ok(listing) = StoredListing::parse(bytes) {
        assert!(listing.entries.len() <= 10_000);
        let keys: Vec<&str> = listing.entries.iter().map(|entry| entry.key.as_str()).collect();
        if let Ok(request) = DeleteRequest::parse(&delete_xml(keys.iter().copied())) {
            assert!(request.objects.iter().map(|object| object.key.as_str()).eq(keys));
        }
    }
    for listing in [Listing::Objects, Listing::Versions] {
        let _ = sized_entries(bytes, listing);
    }
    if let Ok(CopyResult { etag: Some(etag), last_modified: Some(at) }) = CopyResult::parse(bytes, "CopyObjectResult") {
        let written = copy_object_result(&etag, &at, None);
        let again = CopyResult::parse(&written, "CopyObjectResult").expect("what is written is a result");
        assert_eq!((again.etag, again.last_modified), (Some(etag), Some(at)));
    }
    let _ = (tags(bytes), acl_grants(bytes), all_deleted(bytes));
}

/// Of a storage server's list of parts, what the client is shown reads as what was taken over, beside parts that the storage server has no say in.
pub fn xml_parts(bytes: &[u8]) {
    let bucket = LogicalBucket::new("records").expect("legal");
    let upload = UploadId::new("upload").expect("legal");
    let modified = "2026-01-01T00:00:00.000Z".to_owned();
    let part = ListedPart { number: 7, modified, etag: "ours".to_owned(), size: 5 << 20, checksum: None };
    let empty = PartsListing {
        bucket: &bucket,
        key: "a&b",
        url_encoded: false,
        upload: &upload,
        after: 6,
        max_parts: 1000,
        truncated: false,
        parts: vec![part],
        initiator: Who::default(),
        owner: Who::default(),
        storage_class: String::new(),
        checksum: (Algorithm::Crc64Nvme, "FULL_OBJECT"),
    };
    let mut listing = empty.clone();
    if listing.take_of_storage(bytes).is_err() {
        return;
    }
    assert_eq!(listing.parts, empty.parts);
    let mut again = empty;
    again.take_of_storage(&listing.to_xml()).expect("what is written is a list");
    assert_eq!(again, listing);
}
