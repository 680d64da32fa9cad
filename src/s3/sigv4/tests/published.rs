//! The examples that AWS publishes, all with the same key and date.
//!
//! Source: AWS S3 API reference, "Signature Calculations for the Authorization Header" (single chunk, multiple chunks,
//! trailing headers) and "Authenticating Requests: Using Query Parameters".

use super::super::encoding::{hex, parse_hex32};
use super::super::{ChunkSigner, Credentials, Payload, PayloadHash, SigningTarget, presign, sign};
use super::{ACCESS_KEY, NOW, Request, secret};
use crate::crypto::sha256;
use crate::s3::checksum::Algorithm;

fn credentials() -> Credentials {
    Credentials { access_key: ACCESS_KEY.to_owned(), secret: secret(), session_token: None }
}

fn authorization(signed_headers: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request,\
         SignedHeaders={signed_headers},Signature={signature}"
    )
}

/// An example on the virtual host, verified; and signed by us, which gives the same header.
fn check(method: &str, path: &str, query: Option<&str>, extra: &[(&str, &str)], body: &[u8], signed: &str, sig: &str) {
    let mut request = Request::new(method, path, query, &[("host", "examplebucket.s3.amazonaws.com")]);
    extra.iter().for_each(|(name, value)| request.append(name, value));
    let mut ours = request.clone();

    request.append("x-amz-date", "20130524T000000Z");
    request.append("x-amz-content-sha256", &hex(&sha256(body)));
    request.append("authorization", &authorization(signed, sig));
    let verified = request.verify().expect("AWS's own signature");
    assert_eq!(verified.access_key(), ACCESS_KEY);
    assert_eq!(verified.region(), "us-east-1");
    assert!(matches!(verified.payload(), Payload::Signed(hash) if *hash == sha256(body)));

    let target = SigningTarget { method, raw_path: path, raw_query: query };
    let payload = PayloadHash::of(body);
    sign(&credentials(), "us-east-1", NOW, &target, &mut ours.headers, payload).expect("can be signed");
    let header = ours.headers.get("authorization").expect("just set").to_str().expect("text").replace(", ", ",");
    assert_eq!(header, authorization(signed, sig));
}

#[test]
fn get_object_with_a_range() {
    let signed = "host;range;x-amz-content-sha256;x-amz-date";
    let signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
    check("GET", "/test.txt", None, &[("range", "bytes=0-9")], b"", signed, signature);
}

#[test]
fn put_object_with_an_odd_name() {
    let extra = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
    let signed = "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class";
    let signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd";
    for path in ["/test%24file.text", "/test$file.text"] {
        check("PUT", path, None, &extra, b"Welcome to Amazon S3.", signed, signature);
    }
}

#[test]
fn get_bucket_lifecycle() {
    let signature = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
    for query in ["lifecycle", "lifecycle="] {
        check("GET", "/", Some(query), &[], b"", "host;x-amz-content-sha256;x-amz-date", signature);
    }
}

#[test]
fn list_objects() {
    let signature = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
    for query in ["max-keys=2&prefix=J", "prefix=J&max-keys=%32"] {
        check("GET", "/", Some(query), &[], b"", "host;x-amz-content-sha256;x-amz-date", signature);
    }
}

#[test]
fn presigned_get() {
    let target = SigningTarget { method: "GET", raw_path: "/test.txt", raw_query: None };
    let mut request = Request::new("GET", "/test.txt", None, &[("host", "examplebucket.s3.amazonaws.com")]);
    let query = presign(&credentials(), "us-east-1", NOW, 86_400, &target, &request.headers).expect("can be signed");
    assert_eq!(
        query,
        "X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
         &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
         &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    );
    request.query = Some(query);
    let verified = request.verify().expect("AWS's own signature");
    assert!(matches!(verified.payload(), Payload::Unsigned));
}

/// The PutObject of 66,560 bytes `a` in chunks of 64 KiB.
fn streaming(payload: &str, extra: &[(&str, &str)], signed: &str, signature: &str) -> ChunkSigner {
    let mut request = Request::new("PUT", "/examplebucket/chunkObject.txt", None, extra);
    request.append("host", "s3.amazonaws.com");
    request.append("x-amz-date", "20130524T000000Z");
    request.append("x-amz-storage-class", "REDUCED_REDUNDANCY");
    request.append("content-encoding", "aws-chunked");
    request.append("x-amz-decoded-content-length", "66560");
    request.append("x-amz-content-sha256", payload);
    request.append("authorization", &authorization(signed, signature));
    match request.verify().expect("AWS's own signature").into_parts().1 {
        Payload::StreamingSigned { trailer, signer } => {
            assert_eq!(trailer, payload.ends_with("-TRAILER"));
            signer
        }
        other => panic!("not a streaming payload: {other:?}"),
    }
}

fn check_chunks(signer: &mut ChunkSigner, signatures: [&str; 3]) {
    for (length, signature) in [65_536, 1024, 0].into_iter().zip(signatures) {
        let signature = parse_hex32(signature.as_bytes()).expect("hex");
        assert!(signer.verify_chunk(&sha256(&vec![b'a'; length]), &signature), "chunk of {length} bytes");
    }
}

#[test]
fn put_object_in_signed_chunks() {
    let signed = "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;\
                  x-amz-decoded-content-length;x-amz-storage-class";
    let seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    let mut signer = streaming("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", &[("content-length", "66824")], signed, seed);
    check_chunks(
        &mut signer,
        [
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ],
    );
}

#[test]
fn put_object_in_signed_chunks_with_a_trailer() {
    let signed = "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
                  x-amz-storage-class;x-amz-trailer";
    let seed = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";
    let extra = [("x-amz-trailer", "x-amz-checksum-crc32c")];
    let mut signer = streaming("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", &extra, signed, seed);
    check_chunks(
        &mut signer,
        [
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        ],
    );
    let trailers = [(Algorithm::Crc32c.header_name(), "sOO8/Q==".to_owned())];
    let signature = parse_hex32(b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435").expect("hex");
    assert!(signer.verify_trailers(&trailers, &signature));
}
