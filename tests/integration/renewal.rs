//! Jobs that write objects anew: encrypted under other keys, or bound to another name.

mod bound;
mod carried;
mod crashes;
mod encrypted;
mod lost_races;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use claviger::custody::caller::Caller;
use claviger::custody::reason::Reason;
use claviger::format::envelope::Unverified;
use claviger::maintenance::job::{self, Patience, Run, Scope};
use claviger::maintenance::progress::Progress;
use claviger::maintenance::re_encrypt::ReEncrypt;
use claviger::maintenance::rebind::Rebind;
use claviger::maintenance::renewing::Tally;
use claviger::maintenance::work::Work;
use claviger::names::{LogicalBucket, Principal};
use claviger::object::Objects;
use claviger::object::access::Authenticated;
use claviger::object::renewal::{Choice, Manner};
use http::Method;

use crate::harness::proxy::workbench;
use crate::harness::{Answer, BUCKET, S3, Setup, Store, World, noise};

pub(crate) const PART: usize = 5 << 20;
/// All objects of these tests are stored in one request.
const AT_ONCE: u64 = 5 << 30;
/// Objects of more than a part are stored in parts.
const IN_PARTS: u64 = 5 << 20;
/// What answers are compared by.
const TOLD: [&str; 12] = [
    "content-length",
    "content-type",
    "content-encoding",
    "cache-control",
    "x-amz-meta-owner",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha256",
    "x-amz-checksum-type",
    "x-amz-mp-parts-count",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "content-range",
];

fn name(bucket: &str) -> LogicalBucket {
    LogicalBucket::new(bucket).expect("legal")
}

pub(crate) fn who() -> Authenticated {
    let principal = Principal::new("claviger").expect("legal");
    Authenticated::program(Caller { principal, reason: Reason::Maintenance })
}

const MANNER: Manner = Manner { dry_run: false, conditional: true };

/// What came of a job.
#[derive(Debug)]
struct Report {
    listed: u64,
    done: u64,
    skipped: u64,
    overtaken: u64,
    bytes: u64,
    /// Keys and errors.
    found: Vec<(String, String)>,
    /// The job came to its end.
    through: bool,
}

impl Report {
    /// Done, skipped, overtaken and failed.
    fn counts(&self) -> (u64, u64, u64, usize) {
        assert!(self.through, "{self:?}");
        (self.done, self.skipped, self.overtaken, self.found.len())
    }
}

async fn run(objects: &Arc<Objects>, bucket: &str, prefix: &str, versions: bool, work: Arc<dyn Work>) -> Report {
    let (progress, mut found) = (Arc::new(Progress::default()), Vec::new());
    let scope = Scope { bucket: name(bucket), prefix: prefix.to_owned(), versions, concurrency: 4 };
    let keep = |finding: job::Finding| found.push((finding.key, format!("{:#}", finding.error)));
    let patience = Patience { pause: Duration::from_millis(1), tries: 3, ..Patience::default() };
    let run = Run { patience, ..Run::simple(Arc::clone(&progress)) };
    let through = job::run(objects, &scope, work, run, keep).await.is_ok();
    let [listed, done, skipped, overtaken, bytes] =
        [&progress.listed, &progress.done, &progress.skipped, &progress.overtaken, &progress.bytes].map(Progress::of);
    Report { listed, done, skipped, overtaken, bytes, found, through }
}

/// Re-encrypts what is chosen in the bucket, on a machine of its own.
async fn re_encrypt(store: &Store, choice: Choice) -> Report {
    re_encrypt_by(store, choice, AT_ONCE).await
}

/// The same with a storage server that takes so many stored bytes in one request.
async fn re_encrypt_by(store: &Store, choice: Choice, limit: u64) -> Report {
    let objects = workbench(store, Setup { copies: (true, limit), ..Setup::default() });
    re_encrypt_with(objects, choice, MANNER, false).await.0
}

async fn re_encrypt_with(
    objects: Arc<Objects>,
    choice: Choice,
    manner: Manner,
    versions: bool,
) -> (Report, Vec<String>) {
    let work =
        ReEncrypt { objects: Arc::clone(&objects), who: who(), choice, manner, versions, tally: Tally::default() };
    let work = Arc::new(work);
    let report = run(&objects, BUCKET, "", versions, Arc::clone(&work) as Arc<dyn Work>).await;
    (report, work.tally.notes())
}

/// Binds what lies under the first name, which was written under the second.
async fn rebind(objects: Arc<Objects>, to: (&str, &str), from: (&str, &str), manner: Manner) -> Report {
    rebind_only(objects, to, from, manner, None).await.0
}

/// The same of these keys only; gives the keys of what a dry run would bind, too.
async fn rebind_only(
    objects: Arc<Objects>,
    to: (&str, &str),
    from: (&str, &str),
    manner: Manner,
    only: Option<&[String]>,
) -> (Report, Vec<String>) {
    let work = Arc::new(Rebind {
        objects: Arc::clone(&objects),
        who: who(),
        prefix: to.1.to_owned(),
        from_bucket: name(from.0),
        from_prefix: from.1.to_owned(),
        only: only.map(|keys| keys.iter().cloned().collect()),
        would: Mutex::default(),
        manner,
        tally: Tally::default(),
    });
    let report = run(&objects, to.0, to.1, false, Arc::clone(&work) as _).await;
    let mut would = std::mem::take(&mut *work.would.lock().expect("nobody panicked"));
    would.sort();
    (report, would)
}

fn envelope(store: &Store, bucket: &str, key: &str) -> Unverified {
    Unverified::parse(store.object(bucket, key).expect("it is there").envelope()).expect("an envelope")
}

/// Uploads an object in parts, given their numbers and lengths.
pub(crate) async fn upload(s3: &S3, key: &str, algorithm: Option<&str>, lengths: &[(u32, usize)]) -> Bytes {
    let mut begin = s3.ask(Method::POST, BUCKET, key).query_text("uploads").header("content-type", "text/csv");
    begin = begin.header("x-amz-meta-owner", "alice");
    if let Some(algorithm) = algorithm {
        begin = begin.header("x-amz-checksum-algorithm", algorithm);
    }
    let id = begin.send().await.ok().leaf("UploadId");
    let (mut parts, mut whole) = (String::new(), Vec::new());
    for (number, length) in lengths {
        let body = noise(*length, u64::from(*number));
        whole.extend_from_slice(&body);
        let ask = s3.ask(Method::PUT, BUCKET, key).query("partNumber", &number.to_string()).query("uploadId", &id);
        let ask = if let Some(name) = algorithm { ask.header("x-amz-sdk-checksum-algorithm", name) } else { ask };
        let ask = match algorithm {
            Some("SHA256") => ask.header("x-amz-checksum-sha256", &sha256_of(&body)),
            _ => ask,
        };
        let etag = ask.body(body.clone()).send().await.ok().header("etag").to_owned();
        let checksum = match algorithm {
            Some("SHA256") => format!("<ChecksumSHA256>{}</ChecksumSHA256>", sha256_of(&body)),
            _ => String::new(),
        };
        parts.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{checksum}</Part>"));
    }
    let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    s3.ask(Method::POST, BUCKET, key).query("uploadId", &id).body(document).send().await.ok();
    whole.into()
}

fn sha256_of(body: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(claviger::crypto::sha256(body))
}

/// The names of an object of each kind, which [`objects_of_each_kind`] writes, with their bytes.
async fn objects_of_each_kind(s3: &S3) -> Vec<(&'static str, Bytes)> {
    let mut written = Vec::new();
    for (key, size) in [("a/empty", 0), ("a/one", 1), ("a/segment", 65_536), ("b/long & ö", 300_000)] {
        let body = noise(size, size as u64);
        let ask = s3.ask(Method::PUT, BUCKET, key).body(body.clone()).header("content-type", "text/csv");
        let ask = ask.header("x-amz-meta-owner", "alice").header("cache-control", "no-store");
        ask.header("content-encoding", "gzip").header("x-amz-server-side-encryption", "AES256").send().await.ok();
        written.push((key, body));
    }
    written.push(("c/parts", upload(s3, "c/parts", None, &[(1, PART), (2, PART + 3), (3, 100)]).await));
    written.push(("c/sparse", upload(s3, "c/sparse", Some("SHA256"), &[(7, PART + 70_000), (10_000, PART)]).await));
    written.push(("c/short", upload(s3, "c/short", Some("SHA256"), &[(4, 10)]).await));
    written
}

/// What clients see of an object: in several ways, without what may change.
async fn seen(s3: &S3, bucket: &str, key: &str) -> Vec<(u16, Vec<String>, Bytes)> {
    let ask = |method: Method| s3.ask(method, bucket, key).header("x-amz-checksum-mode", "ENABLED");
    let mut answers = vec![ask(Method::GET).send().await, ask(Method::HEAD).send().await];
    for number in ["1", "2", "7", "10000"] {
        answers.push(ask(Method::GET).query("partNumber", number).send().await);
    }
    answers.push(ask(Method::GET).header("range", "bytes=1-65536").send().await);
    let attributes = ask(Method::GET).query_text("attributes");
    let attributes =
        attributes.header("x-amz-object-attributes", "Checksum,ObjectParts,ObjectSize,StorageClass").send().await;
    answers.push(attributes.ok());
    answers.into_iter().map(told).collect()
}

fn told(answer: Answer) -> (u16, Vec<String>, Bytes) {
    assert!(!answer.cut, "{answer:?}");
    let failed = answer.status >= 400;
    let told = if failed { &[] } else { &TOLD[..] };
    let headers = told.iter().map(|name| format!("{name}: {}", answer.header(name))).collect();
    // Errors name the request.
    let body = if failed { Bytes::from(answer.code()) } else { answer.body };
    (answer.status, headers, body)
}

/// A fresh proxy, which remembers nothing.
async fn fresh(world: &World) -> S3 {
    let (_proxy, s3) = world.fresh().await;
    s3
}
