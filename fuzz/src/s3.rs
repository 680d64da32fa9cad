//! Signatures, targets and queries, aws-chunked bodies.

use bytes::Bytes;
use claviger::crypto::sha256;
use claviger::s3::chunked::{ChunkError, Decoder, Event, Mode};
use claviger::s3::operation::{BucketOperation, ObjectOperation, Operation};
use claviger::s3::sigv4::encoding::{canonical_path, query_parameters};
use claviger::s3::sigv4::{
    AuthError, ChunkSigner, Credentials, Payload, PayloadHash, Presented, RequestView, SecretKey, SigningTarget,
    VerifySettings, presign, sign, uri_encode_query,
};
use claviger::s3::target::{Query, Target};
use claviger::secret::SecretBytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use time::OffsetDateTime;
use time::macros::datetime;

use super::input::{Numbers, Request, pieces};

const NOW: OffsetDateTime = datetime!(2013-05-24 0:00 UTC);

fn secret() -> SecretKey {
    SecretBytes::new(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_vec()).expect("not empty").into()
}

fn credentials() -> Credentials {
    Credentials { access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(), secret: secret(), session_token: None }
}

/// Credentials of any form are read and judged; and whatever we sign, in header or query, verifies, but not for another method.
pub fn sigv4(bytes: &[u8]) {
    let Some(request) = Request::read(bytes) else { return };
    let Request { method, path, query, .. } = request;
    let view = RequestView { method, raw_path: path, raw_query: query, headers: &request.headers };
    if let Ok(Some(presented)) = Presented::parse(&view) {
        // Whether it holds is the fuzzer's luck.
        let _ = presented.verify(&view, &secret(), presented.timestamp().at(), &VerifySettings::default());
    }

    let mut headers = request.headers.clone();
    if !headers.contains_key("host") {
        headers.insert("host", HeaderValue::from_static("localhost"));
    }
    let target = SigningTarget { method, raw_path: path, raw_query: query };
    let mut signed = headers.clone();
    if sign(&credentials(), "us-east-1", NOW, &target, &mut signed, PayloadHash::of(bytes)).is_ok() {
        verifies(RequestView { headers: &signed, ..view });
    }
    // What stands in a presigned query already, or says what the body hashes to, is not for us to contradict.
    let names = query_parameters(query.unwrap_or_default()).unwrap_or_default();
    if !names.iter().any(|parameter| parameter.name.starts_with(b"X-Amz-")) {
        headers.remove("x-amz-content-sha256");
        if let Ok(query) = presign(&credentials(), "us-east-1", NOW, 60, &target, &headers) {
            verifies(RequestView { raw_query: Some(&query), headers: &headers, ..view });
        }
    }
}

/// What we signed verifies, unless it carries other credentials besides or more headers than are read.
fn verifies(view: RequestView<'_>) {
    let judge = |view: &RequestView<'_>| {
        let presented = Presented::parse(view)?.expect("credentials were put in");
        presented.verify(view, &secret(), NOW, &VerifySettings::default())
    };
    match judge(&view) {
        Ok(_) => {
            let other = RequestView { method: "OTHER", ..view };
            assert!(matches!(judge(&other), Err(AuthError::SignatureMismatch)) || view.method == "OTHER");
        }
        Err(
            AuthError::SeveralMechanisms
            | AuthError::SignatureV2
            | AuthError::RepeatedHeader(_)
            | AuthError::Header(_)
            | AuthError::Query(_),
        ) => {}
        Err(error) => panic!("signed, but {error}"),
    }
}

/// What is acted on is what was signed: target and query are decoded to the same bucket, key and parameters from which
/// the canonical request is made; and no parameter is left over in what becomes a PUT.
pub fn request(bytes: &[u8]) {
    let Some(mut request) = Request::read(bytes) else { return };
    let raw_query = request.query.unwrap_or_default();
    if let Ok(canonical) = canonical_path(request.path) {
        assert_eq!(canonical_path(&canonical).as_deref(), Ok(canonical.as_str()));
    }
    if let Ok(parameters) = query_parameters(raw_query) {
        let canonical = uri_encode_query(parameters.into_iter().map(|parameter| (parameter.name, parameter.value)));
        let again = query_parameters(&canonical).expect("what is written is a query");
        let again = uri_encode_query(again.into_iter().map(|parameter| (parameter.name, parameter.value)));
        assert_eq!(again, canonical);
    }
    let query = Query::parse(raw_query);
    query.iter().for_each(|query| same_parameters(query, raw_query));

    let domains = ["s3.example.com".to_owned(), "example.com".to_owned()];
    let Ok(target) = Target::parse(request.header("host").unwrap_or("localhost"), request.path, &domains) else {
        return;
    };
    if let Target::Object { bucket, key } = &target {
        let canonical = canonical_path(request.path).expect("the target was read");
        let (path_style, virtual_hosted) = (format!("/{bucket}/{}", key.encoded()), format!("/{}", key.encoded()));
        assert!(canonical == path_style || canonical == virtual_hosted, "{canonical} became {bucket} {key}");
    }
    let (Ok(query), Ok(method)) = (query, Method::from_bytes(request.method.as_bytes())) else { return };
    match Operation::parse(&method, target, &query, &mut request.headers) {
        Ok(
            operation @ (Operation::Object(_, _, ObjectOperation::PutObject { .. })
            | Operation::Bucket(_, BucketOperation::CreateBucket { .. })),
        ) => assert!(query.operational().is_empty(), "{} in spite of parameters", operation.name()),
        Ok(operation) => assert!(!operation.needs().is_empty()),
        Err(error) => assert!(error.code().status().is_client_error() || error.code().status().is_server_error()),
    }
}

/// `query`, which was read from `raw`, has the parameters that the signature is over, each once, and `x-id` besides.
fn same_parameters(query: &Query, raw: &str) {
    let decoded = query_parameters(raw).expect("the query was read");
    let value_of = |name: &str, same: fn(&str, &str) -> bool| {
        let named = |found: &[u8]| std::str::from_utf8(found).is_ok_and(|found| same(found, name));
        decoded.iter().find(|parameter| named(&parameter.name)).map(|parameter| parameter.value.as_slice())
    };
    let exact: fn(&str, &str) -> bool = |one, other| one == other;
    for (name, value) in query.operational() {
        assert_eq!(value_of(name, exact), Some(value.as_deref().unwrap_or_default().as_bytes()), "{name}");
    }
    for (name, value) in query.presign() {
        assert_eq!(value_of(name, exact), Some(value.as_bytes()), "{name}");
    }
    for (name, value) in query.hoisted() {
        assert_eq!(
            value_of(name.as_str(), |one, other| one.eq_ignore_ascii_case(other)),
            Some(value.as_bytes()),
            "{name}"
        );
    }
    let known = query.operational().len() + query.presign().len() + query.hoisted().len();
    assert_eq!(known + usize::from(value_of("x-id", exact).is_some()), decoded.len());
}

const TRAILER: &str = "x-amz-checksum-crc32c";

/// However a body is cut, the outcome is the same; and a body that was signed comes back, but not with a bit flipped.
pub fn chunked(bytes: &[u8]) {
    let mut numbers = Numbers(bytes);
    let (mode, cut, length) = (numbers.below(6), 1 + numbers.below(100), numbers.below(2048));
    let wire = numbers.0;
    let mode_of = |mode| match mode {
        0 => Mode::Unsigned,
        1 => Mode::Signed(signer(false)),
        _ => Mode::SignedTrailer(signer(true)),
    };
    let announced = mode >= 3;
    let whole = decoded(mode_of(mode % 3), length, announced, wire, wire.len());
    for size in [cut, 1] {
        assert_eq!(decoded(mode_of(mode % 3), length, announced, wire, size), whole, "in pieces of {size}");
    }

    let (data, with_trailer) = (wire, mode % 3 == 2);
    // Not so many chunks that one input takes long.
    let mut wire = encoded(data, cut.max(data.len() / 16), with_trailer);
    let mode = if with_trailer { Mode::SignedTrailer(signer(true)) } else { Mode::Signed(signer(false)) };
    let (found, trailers) = decoded(mode, data.len(), with_trailer, &wire, cut).expect("it was signed");
    assert_eq!((found.as_slice(), trailers.len()), (data, usize::from(with_trailer)));
    let at = length % wire.len();
    wire[at] ^= 1;
    let mode = if with_trailer { Mode::SignedTrailer(signer(true)) } else { Mode::Signed(signer(false)) };
    assert!(decoded(mode, data.len(), with_trailer, &wire, cut).is_err(), "byte {at} flipped");
}

type Decoded = Result<(Vec<u8>, Vec<(HeaderName, String)>), ChunkError>;

/// What comes of a body in pieces of `size`; after an error, what was given out does not count.
fn decoded(mode: Mode, length: usize, announced: bool, wire: &[u8], size: usize) -> Decoded {
    let announced = announced.then(|| HeaderName::from_static(TRAILER)).into_iter().collect();
    let mut decoder = Decoder::new(mode, length as u64, announced)?;
    let (mut data, mut trailers) = (Vec::new(), Vec::new());
    for mut piece in pieces(wire, size) {
        loop {
            match decoder.feed(&mut piece) {
                Ok(Event::Data(bytes)) => data.extend_from_slice(&bytes),
                Ok(Event::End(found)) => trailers = found,
                Ok(Event::NeedMore) => break,
                Err(error) => {
                    assert_eq!(decoder.feed(&mut Bytes::from_static(b"more")), Err(error), "errors last");
                    return Err(error);
                }
            }
        }
    }
    decoder.finish()?;
    assert_eq!(data.len(), length);
    Ok((data, trailers))
}

/// `data` in signed chunks of `size`, and a signed trailer if asked for.
fn encoded(data: &[u8], size: usize, with_trailer: bool) -> Vec<u8> {
    let mut signer = signer(with_trailer);
    let mut wire = Vec::new();
    for chunk in data.chunks(size) {
        let signature = hex(&signer.sign_chunk(&sha256(chunk)));
        wire.extend_from_slice(format!("{:x};chunk-signature={signature}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    let signature = hex(&signer.sign_chunk(&sha256(b"")));
    wire.extend_from_slice(format!("0;chunk-signature={signature}\r\n").as_bytes());
    if with_trailer {
        let trailers = [(HeaderName::from_static(TRAILER), "AAAAAA==".to_owned())];
        let signature = hex(&signer.sign_trailers(&trailers));
        wire.extend_from_slice(format!("{TRAILER}:AAAAAA==\r\nx-amz-trailer-signature:{signature}\r\n").as_bytes());
    }
    wire.extend_from_slice(b"\r\n");
    wire
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The signatures of AWS's published examples of aws-chunked uploads ("Transferring Payload in Multiple Chunks" and
/// "Including Trailing Headers"), which start the chain that the chunks go on with.
fn signer(with_trailer: bool) -> ChunkSigner {
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &str| headers.insert(name, HeaderValue::from_str(value).expect("legal"));
    let (word, signed_with, signature) = if with_trailer {
        set("x-amz-trailer", TRAILER);
        let signature = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", ["", ";x-amz-trailer"], signature)
    } else {
        set("content-length", "66824");
        let signature = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", ["content-length;", ""], signature)
    };
    set("host", "s3.amazonaws.com");
    set("content-encoding", "aws-chunked");
    set("x-amz-date", "20130524T000000Z");
    set("x-amz-storage-class", "REDUCED_REDUNDANCY");
    set("x-amz-decoded-content-length", "66560");
    set("x-amz-content-sha256", word);
    let [before, after] = signed_with;
    let credential = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";
    let names = format!(
        "content-encoding;{before}host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class{after}"
    );
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}");
    set("authorization", &authorization);
    let path = "/examplebucket/chunkObject.txt";
    let view = RequestView { method: "PUT", raw_path: path, raw_query: None, headers: &headers };
    let presented = Presented::parse(&view).expect("as published").expect("presented");
    let verified = presented.verify(&view, &secret(), NOW, &VerifySettings::default()).expect("as published");
    match verified.into_parts() {
        (_, Payload::StreamingSigned { signer, .. }) => signer,
        (_, payload) => panic!("{payload:?} in the published example"),
    }
}
