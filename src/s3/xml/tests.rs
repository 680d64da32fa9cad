//! Tests of the XML readers and writers.

use std::fmt::Write as _;

use super::*;
use crate::names::LogicalBucket;

const AWS_V2: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>physical-7</Name><Prefix/><KeyCount>2</KeyCount>
  <MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>
  <Contents>
    <Key>a&amp;b&#x1;&lt;&#13;ü🔑.jpg</Key><LastModified>2014-11-21T19:40:05.000Z</LastModified>
    <ETag>&quot;70ee1738b6b21e2c8a43f3a5ab0eee71&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>
    <ChecksumType>FULL_OBJECT</ChecksumType><Size>1111</Size>
    <Owner><ID>o</ID></Owner><StorageClass>STANDARD</StorageClass><NewThing><Size>5</Size></NewThing>
  </Contents>
  <Contents><Key> </Key><ETag>"70ee1738b6b21e2c8a43f3a5ab0eee71-2"</ETag><Size>0</Size></Contents>
  <CommonPrefixes><Prefix>photos/</Prefix></CommonPrefixes>
</ListBucketResult>"#;

fn rewritten(body: &str) -> Result<String, XmlError> {
    let bucket = LogicalBucket::new("records").expect("a bucket name");
    let xml = rewrite_listing(body.as_bytes(), Listing::Objects, &bucket, |_, stored| stored.saturating_sub(1000))?;
    Ok(String::from_utf8(xml).expect("we write UTF-8"))
}

#[test]
fn listings_show_plaintext_sizes_mapped_etags_and_the_logical_bucket() {
    let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
        <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>records</Name><Prefix></Prefix>\
        <KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated><Contents>\
        <Key>a&amp;b&#x1;&lt;&#xD;ü🔑.jpg</Key><LastModified>2014-11-21T19:40:05.000Z</LastModified>\
        <ETag>&quot;70ee1738b6b21e2c8a43f3a5ab0eee71-0&quot;</ETag><Size>111</Size><Owner><ID>o</ID></Owner>\
        <StorageClass>STANDARD</StorageClass><NewThing><Size>5</Size></NewThing></Contents>\
        <Contents><Key> </Key><ETag>&quot;70ee1738b6b21e2c8a43f3a5ab0eee71-2&quot;</ETag><Size>0</Size></Contents>\
        <CommonPrefixes><Prefix>photos/</Prefix></CommonPrefixes></ListBucketResult>";
    assert_eq!(rewritten(AWS_V2).expect("a listing"), expected);
    let seaweedfs = rewritten(
        "<ListBucketResult><Contents><ETag>&#34;5d41402abc4b2a76b9719d911017c592&#34;</ETag><Size>1005</Size></Contents>\
         </ListBucketResult>",
    );
    assert!(
        seaweedfs
            .expect("a listing")
            .contains("<ETag>&quot;5d41402abc4b2a76b9719d911017c592-0&quot;</ETag><Size>5</Size>")
    );
    assert_eq!(
        rewritten("<ListBucketResult/>").expect("an empty one").lines().last(),
        Some("<ListBucketResult></ListBucketResult>")
    );
}

/// As AWS documents ListObjectVersions, with an optional attribute.
const AWS_VERSIONS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>physical-7</Name><Prefix>my</Prefix>
  <KeyMarker/><VersionIdMarker/><NextKeyMarker>my%2Bb</NextKeyMarker><NextVersionIdMarker>QUpf</NextVersionIdMarker>
  <MaxKeys>5</MaxKeys><Delimiter>%2F</Delimiter><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
  <Version><Key>my%2Fa</Key><VersionId>3/L4</VersionId><IsLatest>true</IsLatest>
    <LastModified>2009-10-12T17:50:30.000Z</LastModified><ETag>"fba9dede5f27731c9771645a39863328"</ETag>
    <ChecksumAlgorithm>SHA256</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType><Size>434234</Size>
    <StorageClass>STANDARD</StorageClass><RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress></RestoreStatus>
    <Owner><ID>7</ID><DisplayName>mtd</DisplayName></Owner></Version>
  <DeleteMarker><Key>my%2Bb</Key><VersionId>03j</VersionId><IsLatest>true</IsLatest>
    <LastModified>2009-11-12T17:50:30.000Z</LastModified><Owner><ID>7</ID></Owner></DeleteMarker>
  <CommonPrefixes><Prefix>my%2Fphotos%2F</Prefix></CommonPrefixes>
</ListVersionsResult>"#;

#[test]
fn listings_of_versions_keep_delete_markers_names_and_places() {
    let bucket = LogicalBucket::new("records").expect("a bucket name");
    let rewritten = |body: &str, listing| rewrite_listing(body.as_bytes(), listing, &bucket, |_, stored| stored - 4);
    let shown = String::from_utf8(rewritten(AWS_VERSIONS, Listing::Versions).expect("a listing")).expect("UTF-8");
    let same = |text: &str| text.lines().map(str::trim_start).collect::<String>();
    let expected = same(AWS_VERSIONS)
        .replace("physical-7", "records")
        .replace("\"fba9dede5f27731c9771645a39863328\"", "&quot;fba9dede5f27731c9771645a39863328-0&quot;")
        .replace("434234", "434230")
        .replace("<ChecksumAlgorithm>SHA256</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType>", "")
        .replace("<KeyMarker/><VersionIdMarker/>", "<KeyMarker></KeyMarker><VersionIdMarker></VersionIdMarker>");
    assert_eq!(same(&shown), expected);
    // A server that does not know of versions answers with the other listing.
    assert!(matches!(rewritten(AWS_V2, Listing::Versions), Err(XmlError::Root { .. })));
    assert!(matches!(rewritten(AWS_VERSIONS, Listing::Objects), Err(XmlError::Root { .. })));
    let lie = AWS_VERSIONS.replace("434234", "many");
    assert!(matches!(rewritten(&lie, Listing::Versions), Err(XmlError::Value("Size"))));
}

#[test]
fn answers_that_are_not_the_listing_asked_for_are_refused() {
    for (body, why) in [
        ("", "nothing"),
        ("the object's bytes", "no XML"),
        ("<ListAllMyBucketsResult/>", "another root"),
        ("<Error><Code>NoSuchBucket</Code></Error>", "an error"),
        ("<ListBucketResult>", "cut"),
        ("<ListBucketResult></ListBucketResul>", "wrong end"),
        ("<ListBucketResult/><ListBucketResult/>", "two roots"),
        ("<ListBucketResult/>junk", "text after it"),
        ("junk<ListBucketResult/>", "text before it"),
        ("<ListBucketResult>text<Name>n</Name></ListBucketResult>", "text beside elements"),
        ("<ListBucketResult><Name>n</Name>text</ListBucketResult>", "text after elements"),
        ("<ListBucketResult><Contents><Size>big</Size></Contents></ListBucketResult>", "no number"),
        ("<ListBucketResult><Contents><Size>-1</Size></Contents></ListBucketResult>", "negative"),
        ("<ListBucketResult><Contents><Size>18446744073709551616</Size></Contents></ListBucketResult>", "too big"),
        ("<!DOCTYPE x [<!ENTITY e \"y\">]><ListBucketResult><Name>&e;</Name></ListBucketResult>", "a document type"),
        ("<ListBucketResult><Name>&nbsp;</Name></ListBucketResult>", "a foreign entity"),
        ("<ListBucketResult><Name>&#0;</Name></ListBucketResult>", "NUL"),
        ("<ListBucketResult><Name>&#xD800;</Name></ListBucketResult>", "a surrogate"),
        ("<ListBucketResult><Name>a & b</Name></ListBucketResult>", "a bare ampersand"),
        ("<ListBucketResult a=\"1\" a=\"2\"/>", "an attribute twice"),
        ("<ListBucketResult a=\"&e;\"/>", "an entity in an attribute"),
        ("<ListBucketResult a=\"<\"/>", "markup in an attribute"),
        ("<ListBucketResult><?php x?></ListBucketResult>", "a processing instruction"),
        ("<?xml version=\"1.0\" encoding=\"UTF-16\"?><ListBucketResult/>", "another encoding"),
        ("<ListBucketResult><?xml version=\"1.0\"?></ListBucketResult>", "a late declaration"),
        ("<ListBucketResult><1a/></ListBucketResult>", "no name"),
        ("<ListBucketResult><a\u{0}/></ListBucketResult>", "a NUL in a name"),
    ] {
        assert!(rewritten(body).is_err(), "{why}: {body}");
    }
    let bucket = LogicalBucket::new("records").expect("a bucket name");
    let not_utf8 = b"<ListBucketResult><Name>\xff</Name></ListBucketResult>";
    assert!(matches!(rewrite_listing(not_utf8, Listing::Objects, &bucket, |_, size| size), Err(XmlError::NotUtf8(_))));
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    assert_eq!(root_element(nested(DEEPEST).as_bytes()).as_deref(), Some("a"));
    let refused = walk(nested(DEEPEST + 1).as_bytes(), |_| Ok(()));
    assert!(matches!(refused, Err(XmlError::TooDeep)));
    assert!(root_element("<a>".repeat(100_000).as_bytes()).is_none());
}

#[test]
fn attributes_comments_cdata_and_prefixes_survive_or_vanish_as_they_should() {
    let body = "\u{feff}<?xml version='1.0' encoding='utf-8' standalone='yes'?><!-- c --><s:ListBucketResult xmlns:s='u&amp;v' \
        b=\"x&quot;y\"><s:Name>n</s:Name><Key><![CDATA[a<b&c]]>&#x41;<!-- x -->b</Key></s:ListBucketResult>\n";
    let out = rewritten(body).expect("a listing");
    assert_eq!(
        out.lines().last(),
        Some(
            "<s:ListBucketResult xmlns:s=\"u&amp;v\" b=\"x&quot;y\"><s:Name>records</s:Name>\
             <Key>a&lt;b&amp;cAb</Key></s:ListBucketResult>"
        )
    );
}

#[test]
fn roots_are_those_of_whole_documents() {
    assert_eq!(root_element(b"<?xml version=\"1.0\"?>\n<x:Tagging xmlns:x=\"u\"/>").as_deref(), Some("Tagging"));
    for junk in [&b""[..], b"  ", b"{}", b"<a>", b"<a></b>", b"<a/>x", b"<a b></a>", b"\xff", b"<!-- -->"] {
        assert_eq!(root_element(junk), None, "{}", String::from_utf8_lossy(junk));
    }
    assert!(expect_root(b"<DeleteResult/>", "DeleteResult").is_ok());
    assert!(matches!(all_deleted(b"<ListBucketResult/>"), Err(XmlError::Root { expected: "DeleteResult" })));
}

#[test]
fn buckets_are_shown_under_their_logical_names_and_the_rest_is_hidden() {
    let body = r#"<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>admin</ID>
        <DisplayName/></Owner><Buckets><Bucket><Name>p-b</Name><CreationDate>2026-01-02T03:04:05Z</CreationDate>
        <BucketArn>arn:aws:s3:::p-b</BucketArn></Bucket><Bucket><Name>claviger-state</Name><CreationDate/></Bucket>
        <Bucket><CreationDate>x</CreationDate><Name>p-a</Name><BucketRegion>eu-1</BucketRegion></Bucket></Buckets>
        </ListAllMyBucketsResult>"#;
    let list = BucketList::parse(body.as_bytes()).expect("a list");
    assert_eq!(list.buckets.len(), 3);
    let list = list.renamed(|physical| physical.strip_prefix("p-").map(|name| format!("logical-{name}")));
    let xml = String::from_utf8(list.to_xml(None)).expect("we write UTF-8");
    assert_eq!(
        xml.lines().last(),
        Some(
            "<ListAllMyBucketsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>admin</ID>\
             <DisplayName></DisplayName></Owner><Buckets><Bucket><Name>logical-a</Name><CreationDate>x</CreationDate>\
             <BucketRegion>eu-1</BucketRegion></Bucket><Bucket><Name>logical-b</Name>\
             <CreationDate>2026-01-02T03:04:05Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>"
        )
    );
    assert_eq!(BucketList::parse(xml.as_bytes()).expect("our own list"), list);

    let page = list.clone().page(Some("logical-"), None, Some(1));
    assert_eq!(page.continuation.as_deref(), Some("logical-a"));
    let next = list.clone().page(None, page.continuation.as_deref(), Some(1));
    assert_eq!((next.buckets.len(), next.continuation), (1, None));
    assert!(list.page(Some("other"), None, None).buckets.is_empty());
}

#[test]
fn bucket_lists_of_another_shape_are_refused() {
    for body in [
        "<ListBucketResult/>",
        "<ListAllMyBucketsResult><Buckets><Bucket/></Buckets></ListAllMyBucketsResult>",
        "<ListAllMyBucketsResult><Buckets><Bucket><CreationDate>1</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>",
    ] {
        assert!(BucketList::parse(body.as_bytes()).is_err(), "{body}");
    }
    let empty = "<ListAllMyBucketsResult><Owner/><Buckets/></ListAllMyBucketsResult>";
    assert_eq!(BucketList::parse(empty.as_bytes()).expect("an empty list"), BucketList::default());
}

#[test]
fn deletes_keep_keys_exactly_and_in_order() {
    let body = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>b//../ü&amp;&#x1;&#13;&#10; </Key></Object>\
        <Object><Key>a</Key><VersionId>v1</VersionId><ETag>\"9b2cf535f27731c974343645a3985328-0\"</ETag><Size>7</Size>\
        <LastModifiedTime>Wed, 21 Oct 2015 07:28:00 GMT</LastModifiedTime></Object>\
        <Object><Key>a</Key><VersionId/></Object><Quiet>true</Quiet></Delete>";
    let request = DeleteRequest::parse(body.as_bytes()).expect("a Delete");
    assert!(request.quiet);
    let keys: Vec<&str> = request.objects.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(keys, ["b//../ü&\u{1}\r\n ", "a", "a"]);
    let versions: Vec<_> = request.objects.iter().map(|object| object.version_id.as_deref()).collect();
    assert_eq!(versions, [None, Some("v1"), None]);

    let stored = request.to_storage_xml(|plain| plain + 100);
    let reread = DeleteRequest::parse(&stored).expect("our own request");
    let second = reread.objects.get(1).expect("three objects");
    assert_eq!(second.etag.as_deref(), Some("\"9b2cf535f27731c974343645a3985328\""));
    assert_eq!((second.size, second.last_modified.is_some()), (Some(107), true));
    assert_eq!((reread.quiet, reread.objects.first()), (true, request.objects.first()));
}

#[test]
fn deletes_of_another_shape_are_refused() {
    let object = |inner: &str| format!("<Delete><Object>{inner}</Object></Delete>");
    for (body, code) in [
        (String::new(), Code::MalformedXml),
        ("<Delete/>".to_owned(), Code::MalformedXml),
        ("<Delete><Quiet>true</Quiet></Delete>".to_owned(), Code::MalformedXml),
        ("<DeleteX><Object><Key>a</Key></Object></DeleteX>".to_owned(), Code::MalformedXml),
        (object(""), Code::MalformedXml),
        (object("<VersionId>1</VersionId>"), Code::MalformedXml),
        (object("<Key>a</Key><Key>b</Key>"), Code::MalformedXml),
        (object("<Key>a</Key><IfNew>b</IfNew>"), Code::MalformedXml),
        (object("<Key><b>a</b></Key>"), Code::MalformedXml),
        (object("<Key>a</Key><Size>x</Size>"), Code::MalformedXml),
        (object("<Key></Key>"), Code::InvalidArgument),
        (object("<Key>a/../../claviger-state/b</Key>"), Code::InvalidArgument),
        (object("<Key>a\\..\\..\\b</Key>"), Code::InvalidArgument),
        (object(&format!("<Key>a</Key><VersionId>{}</VersionId>", "v".repeat(1025))), Code::MalformedXml),
        (object("<Key>a</Key><VersionId>/../b</VersionId>"), Code::MalformedXml),
        (object(&format!("<Key>{}</Key>", "k".repeat(1025))), Code::KeyTooLong),
        ("<Delete><Object><Key>a</Key></Object><Quiet>perhaps</Quiet></Delete>".to_owned(), Code::MalformedXml),
        ("<Delete><Object><Key>a</Key></Object><Quiet/><Quiet/></Delete>".to_owned(), Code::MalformedXml),
        (" ".repeat(LONGEST_DELETE + 1), Code::MaxMessageLengthExceeded),
    ] {
        let refused = DeleteRequest::parse(body.as_bytes()).expect_err("not a Delete");
        assert_eq!(refused.code(), code, "{}", body.chars().take(100).collect::<String>());
    }
}

#[test]
fn a_thousand_deletes_and_no_more() {
    let body = |count: usize| {
        let mut body = "<Delete>".to_owned();
        for number in 0..count {
            write!(body, "<Object><Key>{number}</Key></Object>").expect("a String takes it all");
        }
        body + "</Delete>"
    };
    let request = DeleteRequest::parse(body(MOST_DELETES).as_bytes()).expect("just within");
    assert_eq!(request.objects.len(), MOST_DELETES);
    let refused = DeleteRequest::parse(body(MOST_DELETES + 1).as_bytes());
    assert!(matches!(refused, Err(XmlError::TooLarge { unit: "objects", .. })));
}

#[test]
fn bucket_configuration_and_location_are_read() {
    let asked = |body: &str| location_constraint(body.as_bytes());
    assert_eq!(asked("").expect("an empty body"), None);
    let eu = "<CreateBucketConfiguration xmlns=\"u\"><LocationConstraint>eu-1</LocationConstraint><Tags/></CreateBucketConfiguration>";
    assert_eq!(asked(eu).expect("a configuration").as_deref(), Some("eu-1"));
    assert_eq!(asked("<CreateBucketConfiguration/>").expect("a configuration"), None);
    assert!(asked("<Configuration/>").is_err());
    assert!(asked("not XML").is_err());

    let answered = |body: &str| bucket_location(body.as_bytes());
    assert_eq!(answered("<LocationConstraint xmlns=\"u\"/>").expect("a location"), None);
    assert_eq!(
        answered("<LocationConstraint>garage</LocationConstraint>").expect("a location").as_deref(),
        Some("garage")
    );
    let nested = "<LocationConstraint><LocationConstraint>eu</LocationConstraint></LocationConstraint>";
    assert_eq!(answered(nested).expect("a location").as_deref(), Some("eu"));
    let seaweedfs = "<CreateBucketConfiguration><LocationConstraint></LocationConstraint></CreateBucketConfiguration>";
    assert_eq!(answered(seaweedfs).expect("a location"), None);
    assert!(answered("<ListBucketResult/>").is_err());
    assert_eq!(bucket_location(&location_xml(Some("eu-1"))).expect("our own").as_deref(), Some("eu-1"));
    assert_eq!(bucket_location(&location_xml(None)).expect("our own"), None);
}

proptest::proptest! {
    #[test]
    fn texts_survive_writing_and_reading(text in "[^\0]{0,60}", odd in "[\u{1}-\u{20}<>&\"'\u{7f}-\u{9f}\u{2028}]{0,20}") {
        let text = format!("{text}{odd}");
        let mut out = Writer::new();
        out.open("a", None);
        out.leaf("b", &text);
        out.close("a");
        let mut read = None;
        leaves(&out.into_bytes(), |_, text| {
            read = Some(text.to_owned());
            Ok(())
        }).expect("what we write is well-formed");
        proptest::prop_assert_eq!(read, Some(text));
    }

    #[test]
    fn junk_never_panics(junk in "(<[a-c/!?]{0,3}( x=\"[&;a]{0,3}\")?/?>|&#?x?[0-9a]{0,4};|[ -~]{0,4}|<!\\[CDATA\\[|\\]\\]>|<!--|-->|<!DOCTYPE|\\PC){0,30}") {
        read_everything(junk.as_bytes());
    }

    #[test]
    fn damaged_documents_never_panic(at in 0_usize..1400, byte: u8, cut in 0_usize..1400) {
        let mut body = AWS_V2.as_bytes().to_vec();
        if let Some(place) = body.get_mut(at) {
            *place = byte;
        }
        body.truncate(cut);
        read_everything(&body);
    }
}

fn read_everything(body: &[u8]) {
    let bucket = LogicalBucket::new("records").expect("a bucket name");
    for (listing, root) in [(Listing::Objects, "ListBucketResult"), (Listing::Versions, "ListVersionsResult")] {
        if let Ok(xml) = rewrite_listing(body, listing, &bucket, |_, size| size) {
            expect_root(&xml, root).expect("what we write is well-formed");
        }
    }
    let _ = BucketList::parse(body);
    let _ = DeleteRequest::parse(body);
    let _ = location_constraint(body);
    let _ = bucket_location(body);
    let _ = crate::s3::error::parse_error(body);
}
