//! Tests of records and markers: what each field is bound to, and that nothing else opens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::*;
use crate::format::checksum::Checksum;
use crate::format::envelope::{Branch, Layout, Wrapping, wrap};
use crate::format::layout::PartEntry;
use crate::format::metadata::Metadata;
use crate::format::segment::AttemptId;
use crate::format::size::MAX_PART;
use crate::names::{BranchId, KekName, KekVersion, Principal, Purpose, WriterDomain};
use crate::secret::Secret;

fn dek(byte: u8) -> Dek {
    Dek::from_slice(&[byte; 32]).expect("a key")
}

fn bucket(name: &str) -> LogicalBucket {
    LogicalBucket::new(name).expect("legal")
}

fn binding<'a>(bucket: &'a LogicalBucket, key: &'a str, upload_id: &'a str) -> Binding<'a> {
    Binding { purpose: Purpose::Upload, bucket, key, upload_id }
}

fn envelope(dek: &Dek, binding: Binding<'_>) -> String {
    let branch = Branch {
        kek: KekName::new("demo").expect("legal"),
        id: BranchId::from_bytes([7; 16]),
        writer: WriterDomain::new("proxy/us").expect("legal"),
        version: KekVersion::FIRST,
        wrapped: vec![1; 60],
    };
    let branch_key = Secret::from_slice(&[9; 32]).expect("a key");
    let wrapping = Wrapping { branch_key: &branch_key, customer_key: None };
    wrap(dek, Layout::Multipart, &Metadata::default(), branch, wrapping, binding).expect("random")
}

fn settings() -> UploadSettings {
    let checksum = ChecksumChoice { algorithm: Algorithm::Crc32, kind: Kind::Composite, by_client: true };
    let headers = vec![("x-amz-acl".to_owned(), b"private".to_vec()), ("x-amz-tagging".to_owned(), b"a=\xff".to_vec())];
    UploadSettings { checksum, headers, begun_ms: 1_289_422_113_007 }
}

fn record(dek: &Dek, binding: Binding<'_>) -> Vec<u8> {
    seal_record(&UploadKey::new(dek), &envelope(dek, binding), &settings(), binding).expect("sealed")
}

fn part(number: u32, algorithm: Algorithm) -> PartRecord {
    let checksum = Checksum::new(algorithm, Kind::FullObject, &vec![5; algorithm.value_len()]);
    let part = PartRecord::new(number, 70_000, AttemptId::from_bytes([3; 16]), checksum);
    PartRecord { written_ms: 1, etag: "\"9b2cf535f27731c974343645a3985328\"".into(), ..part }
}

#[test]
fn a_record_opens_for_its_bucket_key_and_upload_and_for_no_other() {
    let (records, others) = (bucket("records"), bucket("others"));
    let mine = binding(&records, "a/b", "upload-1");
    let key = UploadKey::new(&dek(1));
    let parsed = Unverified::parse(&record(&dek(1), mine)).expect("a record");
    assert_eq!(parsed.open(&key, mine), Ok(settings()));
    assert_eq!((parsed.bucket(), parsed.key(), parsed.upload_id()), (&records, "a/b", "upload-1"));
    for other in [
        binding(&others, "a/b", "upload-1"),
        binding(&records, "a/c", "upload-1"),
        binding(&records, "a/b", "upload-2"),
        Binding { purpose: Purpose::Object, ..mine },
    ] {
        assert!(parsed.open(&key, other).is_err(), "{other:?}");
        // Also when the names in clear are changed to go with it.
        let moved = Unverified {
            bucket: other.bucket.clone(),
            key: other.key.to_owned(),
            upload_id: other.upload_id.to_owned(),
            ..parsed.clone()
        };
        assert!(moved.open(&key, other).is_err(), "{other:?}, renamed");
    }
    assert!(parsed.open(&UploadKey::new(&dek(2)), mine).is_err(), "another DEK");
}

#[test]
fn every_bit_of_a_record_counts() {
    let records = bucket("records");
    let mine = binding(&records, "a", "u");
    let (good, key) = (record(&dek(1), mine), UploadKey::new(&dek(1)));
    let branch_key = Secret::from_slice(&[9; 32]).expect("a key");
    let wrapping = Wrapping { branch_key: &branch_key, customer_key: None };
    let branch = Unverified::parse(&good).expect("a record").envelope().branch().clone();
    for at in 0..good.len() {
        for bit in [0, 3, 7] {
            let mut bad = good.clone();
            *bad.get_mut(at).expect("inside") ^= 1 << bit;
            let Ok(parsed) = Unverified::parse(&bad) else { continue };
            let opened = parsed.envelope().open(wrapping, mine);
            let settings = parsed.open(&key, mine);
            // The branch key's wrapped form is the custodian's to authenticate.
            let now = parsed.envelope().branch().clone();
            let only_wrapped =
                now != branch && Branch { version: branch.version, wrapped: branch.wrapped.clone(), ..now } == branch;
            assert!(opened.is_err() || settings.is_err() || only_wrapped, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn records_are_strict_and_bounded() {
    let records = bucket("records");
    let good = record(&dek(1), binding(&records, "a", "u"));
    for cut in 0..good.len() {
        assert!(Unverified::parse(good.get(..cut).expect("inside")).is_err(), "cut at {cut}");
    }
    assert!(Unverified::parse(&[good.as_slice(), &[0]].concat()).is_err());
    assert!(Unverified::parse(&vec![0; MAX_RECORD + 1]).is_err());
    let (one, long) = (binding(&records, "a", "u"), "k".repeat(1024));
    let limits = binding(&records, &long, &long);
    let most = |length: usize| UploadSettings { headers: vec![("n".into(), vec![b'v'; length - 1])], ..settings() };
    let sealed = |settings: &UploadSettings, binding| {
        seal_record(&UploadKey::new(&dek(1)), &envelope(&dek(1), binding), settings, binding)
    };
    let largest = sealed(&most(MAX_HEADERS), limits).expect("within the limits");
    assert!(largest.len() < MAX_RECORD - crate::format::envelope::MAX_TEXT && Unverified::parse(&largest).is_ok());
    let length = MAX_HEADERS + 1;
    assert_eq!(sealed(&most(length), one), Err(RecordError::TooLarge { length }));
    let many = UploadSettings { headers: vec![("n".into(), Vec::new()); MOST_HEADERS + 1], ..settings() };
    assert!(sealed(&many, one).is_err());
}

#[test]
fn settings_have_one_encoding() {
    let good = settings().to_bytes();
    assert_eq!(UploadSettings::parse(&good), Ok(settings()));
    for bad in [
        &[0x83, 0x83, 0, 1, 0xf5, 0x80, 0][..],
        &[0x83, 0x83, 1, 2, 0xf5, 0x80, 0],
        &[0x83, 0x83, 1, 1, 1, 0x80, 0],
        &[0x83, 0x83, 1, 1, 0xf5, 0x81, 0x61, b'n', 0],
        &[0x83, 0x83, 1, 1, 0xf5, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x83, 0x83, 1, 1, 0xf5, 0x80, 0x18, 0],
        &[0x84, 0x83, 1, 1, 0xf5, 0x80, 0, 0],
        &[],
    ] {
        assert!(UploadSettings::parse(bad).is_err(), "{bad:02x?}");
    }
    assert!(UploadSettings::parse(&[0x83, 0x83, 1, 1, 0xf5, 0x80, 0]).is_ok());
}

#[test]
fn a_marker_opens_for_its_part_of_its_upload_and_for_no_other() {
    let key = UploadKey::new(&dek(1));
    for algorithm in [Algorithm::Crc32, Algorithm::Crc64Nvme, Algorithm::Sha256, Algorithm::Sha512] {
        let part = part(7, algorithm);
        let marker = key.seal_marker("u", &part).expect("sealed");
        assert!(marker.len() <= LONGEST_MARKER, "{}", marker.len());
        assert_eq!(key.open_marker("u", 7, &marker), Ok(part));
        assert!(key.open_marker("u", 8, &marker).is_err(), "another part");
        assert!(key.open_marker("v", 7, &marker).is_err(), "another upload");
        assert!(UploadKey::new(&dek(2)).open_marker("u", 7, &marker).is_err(), "another DEK");
    }
}

#[test]
fn every_bit_of_a_marker_counts() {
    let key = UploadKey::new(&dek(1));
    let marker = key.seal_marker("u", &part(7, Algorithm::Crc32)).expect("sealed");
    let sealed = URL_SAFE_NO_PAD.decode(&marker).expect("our own");
    for at in 0..8 * sealed.len() {
        let mut bad = sealed.clone();
        *bad.get_mut(at / 8).expect("inside") ^= 1 << (at % 8);
        assert!(key.open_marker("u", 7, &URL_SAFE_NO_PAD.encode(bad)).is_err(), "bit {at}");
    }
    let padded = format!("{marker}=");
    let long = "A".repeat(LONGEST_MARKER + 1);
    for bad in ["", "AAAA", &marker[1..], &padded, &long, "§"] {
        assert!(key.open_marker("u", 7, bad).is_err(), "{bad}");
    }
}

#[test]
fn a_record_is_no_marker_and_a_marker_no_record() {
    let records = bucket("records");
    let mine = binding(&records, "a", "u");
    let key = UploadKey::new(&dek(1));
    let parsed = Unverified::parse(&record(&dek(1), mine)).expect("a record");
    assert!(key.open_marker("u", 7, &URL_SAFE_NO_PAD.encode(&parsed.settings)).is_err());
    let marker = key.seal_marker("u", &part(7, Algorithm::Crc32)).expect("sealed");
    let settings = URL_SAFE_NO_PAD.decode(marker).expect("our own");
    assert!(Unverified { settings, ..parsed }.open(&key, mine).is_err());
}

#[test]
fn a_pinned_marker_opens() {
    let marker = PINNED;
    let opened = UploadKey::new(&dek(1)).open_marker("u", 7, marker).expect("authentic");
    assert_eq!(opened, part(7, Algorithm::Crc32));
}

/// The marker of `part(7, CRC32)` of the upload `u` whose DEK is 32 bytes of 1.
const PINNED: &str = concat!(
    "Djns7psqn8u9vtwGyTn3o19xa3wJ3vrl2f5VxhwwYykZBjVQDDD6TAl43vxXyP33AMpVBZdCHbHrsEljrErJhK1Z",
    "-6Xvt5Iegd841M6S6oCZ7RhzQWeiMBZ4692NDyBqa_BcJg"
);

#[test]
fn parts_that_no_marker_can_tell_are_refused() {
    let key = UploadKey::new(&dek(1));
    let good = part(7, Algorithm::Crc32);
    for etag in ["", "a b", "é", "a\n", &"e".repeat(LONGEST_ETAG + 1)] {
        let bad = PartRecord { etag: etag.to_owned(), ..good.clone() };
        assert_eq!(key.seal_marker("u", &bad), Err(MarkerError::Etag), "{etag:?}");
    }
    let held = PartRecord { held: true, etag: String::new(), ..good.clone() };
    let marker = key.seal_marker("u", &held).expect("sealed");
    assert_eq!(key.open_marker("u", 7, &marker), Ok(held.clone()));
    assert!(key.seal_marker("u", &PartRecord { etag: "e".into(), ..held }).is_err(), "a held part has no ETag");
    let longest = PartRecord { etag: "e".repeat(LONGEST_ETAG), ..part(7, Algorithm::Sha512) };
    assert_eq!(key.seal_marker("u", &longest).expect("sealed").len(), LONGEST_MARKER);
}

#[test]
fn a_sender_is_told_of_its_own_attempt_only() {
    let key = UploadKey::new(&dek(1));
    let (sender, mine) = (Principal::new("alice").expect("legal"), part(7, Algorithm::Crc32).entry);
    let sealed = key.seal_sender("u", &mine, &sender).expect("sealed");
    assert_eq!(key.open_sender("u", &mine, &sealed), Ok(sender));
    let longest = Principal::new(&"a".repeat(128)).expect("legal");
    assert!(key.seal_sender("u", &mine, &longest).expect("sealed").len() <= MAX_SENDER);
    let (other, again) =
        (PartEntry { number: 8, ..mine }, PartEntry { attempt: AttemptId::from_bytes([4; 16]), ..mine });
    for (upload, entry) in [("v", mine), ("u", other), ("u", again)] {
        assert!(key.open_sender(upload, &entry, &sealed).is_err());
    }
    assert!(UploadKey::new(&dek(2)).open_sender("u", &mine, &sealed).is_err());
    assert!(key.open_sender("u", &mine, b"").is_err(), "of an earlier version");
}

#[test]
fn markers_of_impossible_parts_do_not_open() {
    // Whoever has the DEK could seal them.
    let key = UploadKey::new(&dek(1));
    for number in [0, 10_001, u32::MAX] {
        let marker = key.seal_marker("u", &part(number, Algorithm::Crc32)).expect("sealed");
        assert!(key.open_marker("u", number, &marker).is_err(), "part {number}");
    }
    let mut long = part(7, Algorithm::Crc32);
    long.entry.length = MAX_PART + 1;
    let marker = key.seal_marker("u", &long).expect("sealed");
    assert!(key.open_marker("u", 7, &marker).is_err(), "too long");
}

#[test]
fn the_part_list_keeps_checksums_of_up_to_32_bytes() {
    assert_eq!(part(1, Algorithm::Crc32).entry.checksum.get(..5), Some(&[5, 5, 5, 5, 0][..]));
    assert_eq!(part(1, Algorithm::Sha256).entry.checksum, [5; 32]);
    assert_eq!(part(1, Algorithm::Sha512).entry.checksum, [0; 32]);
}

proptest! {
    #[test]
    fn junk_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), marker in "[A-Za-z0-9_-]{0,260}") {
        fuzz_record(&bytes);
        fuzz_marker(&bytes);
        prop_assert!(UploadKey::new(&dek(1)).open_marker("u", 1, &marker).is_err());
    }

    #[test]
    fn settings_round_trip(
        headers in prop::collection::vec(("[a-z-]{1,20}", prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        begun_ms in any::<u64>(),
        by_client in any::<bool>(),
    ) {
        let checksum = ChecksumChoice { by_client, ..ChecksumChoice::DEFAULT };
        let settings = UploadSettings { checksum, headers, begun_ms };
        prop_assert_eq!(UploadSettings::parse(&settings.to_bytes()), Ok(settings));
    }
}
