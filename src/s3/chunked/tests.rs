//! AWS's published bodies, the forms that clients send, and what breaks a body.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use time::macros::datetime;

use super::{ChunkError, Decoder, Event, MAX_LINE_LEN, Mode, decoded_content_length};
use crate::crypto::sha256;
use crate::s3::checksum::Algorithm;
use crate::s3::sigv4::encoding::hex;
use crate::s3::sigv4::{ChunkSigner, Presented, RequestView, VerifySettings};
use crate::secret::SecretBytes;

type Trailers = Vec<(HeaderName, String)>;
type Outcome = Result<(Vec<u8>, Trailers), ChunkError>;

/// Decodes a body that comes in the pieces that `cuts` make of it; after an error, what was given out is gone.
fn decode(mode: Mode, length: u64, announced: &[&'static str], body: &[u8], cuts: &[usize]) -> Outcome {
    let announced = announced.iter().map(|name| HeaderName::from_static(name)).collect();
    let mut decoder = Decoder::new(mode, length, announced)?;
    let mut rest = Bytes::copy_from_slice(body);
    let (mut data, mut trailers) = (Vec::new(), None);
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let size = cuts.next().copied().unwrap_or(rest.len()).clamp(1, rest.len());
        let mut piece = rest.split_to(size);
        loop {
            match decoder.feed(&mut piece) {
                Ok(Event::Data(bytes)) => data.extend_from_slice(&bytes),
                Ok(Event::NeedMore) => break,
                Ok(Event::End(found)) => trailers = Some(found),
                Err(error) => {
                    assert_eq!(decoder.feed(&mut Bytes::from_static(b"more")), Err(error), "errors last");
                    assert_eq!(decoder.finish(), Err(error));
                    return Err(error);
                }
            }
        }
    }
    decoder.finish()?;
    Ok((data, trailers.expect("the end came")))
}

/// The decoder's and the client's end of the chain of signatures in AWS's published examples.
fn signers(trailer: bool) -> (ChunkSigner, ChunkSigner) {
    (published_signer(trailer), published_signer(trailer))
}

fn published_signer(trailer: bool) -> ChunkSigner {
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    set("host", "s3.amazonaws.com");
    set("content-encoding", "aws-chunked");
    set("x-amz-date", "20130524T000000Z");
    set("x-amz-storage-class", "REDUCED_REDUNDANCY");
    set("x-amz-decoded-content-length", "66560");
    if trailer {
        set("x-amz-trailer", "x-amz-checksum-crc32c");
        set("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER");
        set(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=\
             content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;\
             x-amz-trailer, Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        );
    } else {
        set("content-length", "66824");
        set("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
        set(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=\
             content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
             x-amz-storage-class, Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        );
    }
    let path = "/examplebucket/chunkObject.txt";
    let view = RequestView { method: "PUT", raw_path: path, raw_query: None, headers: &headers };
    let secret = SecretBytes::new(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_vec()).expect("not empty");
    let presented = Presented::parse(&view).expect("valid").expect("presented");
    let now = datetime!(2013-05-24 0:00 UTC);
    let verified = presented.verify(&view, &secret.into(), now, &VerifySettings::default()).expect("AWS's own");
    match Mode::of_payload(verified.into_parts().1).expect("streaming") {
        Mode::SignedTrailer(signer) if trailer => signer,
        Mode::Signed(signer) if !trailer => signer,
        other => panic!("another mode: {other:?}"),
    }
}

const CRC32C: &str = "x-amz-checksum-crc32c";

/// Encodes chunks and the last one, as far as the trailers.
fn encode(chunks: &[&[u8]], mut signer: Option<&mut ChunkSigner>) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in chunks.iter().copied().chain([b"".as_slice()]) {
        let signature = signer.as_mut().map(|signer| hex(&signer.sign_chunk(&sha256(chunk))));
        let extension = signature.map(|signature| format!(";chunk-signature={signature}")).unwrap_or_default();
        body.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        if !chunk.is_empty() {
            body.extend_from_slice(b"\r\n");
        }
    }
    body
}

fn with(mut body: Vec<u8>, trailers: &str) -> Vec<u8> {
    body.extend_from_slice(trailers.as_bytes());
    body
}

fn unsigned(length: u64, announced: &[&'static str], body: &[u8]) -> Outcome {
    decode(Mode::Unsigned, length, announced, body, &[])
}

#[test]
fn the_published_signed_body() {
    let (a64k, a1k) = (vec![b'a'; 65_536], vec![b'a'; 1024]);
    let mut body = Vec::new();
    for (data, signature) in [
        (a64k.as_slice(), "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (a1k.as_slice(), "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (b"", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ] {
        body.extend_from_slice(format!("{:x};chunk-signature={signature}\r\n", data.len()).as_bytes());
        body.extend_from_slice(data);
        body.extend_from_slice(b"\r\n");
    }
    assert_eq!(body.len(), 66_824, "the Content-Length of the example");
    let (data, trailers) = decode(Mode::Signed(published_signer(false)), 66_560, &[], &body, &[1000]).expect("whole");
    assert_eq!((data, trailers), (vec![b'a'; 66_560], vec![]));
}

#[test]
fn the_published_signed_trailer_in_both_forms() {
    let body = vec![b'a'; 66_560];
    let (first, second) = body.split_at(65_536);
    let signature = "x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";
    for end in ["\r\n", "\n\r\n"] {
        let (ours, mut theirs) = signers(true);
        let trailers = format!("{CRC32C}:sOO8/Q=={end}{signature}\r\n\r\n");
        let wire = with(encode(&[first, second], Some(&mut theirs)), &trailers);
        let (data, trailers) = decode(Mode::SignedTrailer(ours), 66_560, &[CRC32C], &wire, &[]).expect("whole");
        assert_eq!(data, body);
        assert_eq!(trailers, vec![(Algorithm::Crc32c.header_name(), "sOO8/Q==".to_owned())]);
    }
}

#[test]
fn unsigned_bodies_of_botocore_and_minio_go() {
    let expected = vec![(Algorithm::Crc32c.header_name(), "AAAAAA==".to_owned())];
    for trailers in ["x-amz-checksum-crc32c:AAAAAA==\r\n\r\n", "X-Amz-Checksum-Crc32c: AAAAAA==\n\r\n\r\n"] {
        let wire = with(encode(&[b"hello ", b"w", b"orld"], None), trailers);
        assert_eq!(unsigned(11, &[CRC32C], &wire), Ok((b"hello world".to_vec(), expected.clone())));
        let empty = with(encode(&[], None), trailers);
        assert_eq!(unsigned(0, &[CRC32C], &empty), Ok((vec![], expected.clone())));
    }
    assert_eq!(unsigned(1, &[], b"1\r\nx\r\n0\r\n\r\n"), Ok((b"x".to_vec(), vec![])));
}

#[test]
fn a_length_other_than_announced_is_refused() {
    let wire = with(encode(&[b"hello"], None), "\r\n");
    assert_eq!(unsigned(4, &[], &wire), Err(ChunkError::TooLong));
    assert_eq!(unsigned(6, &[], &wire), Err(ChunkError::TooShort));
    assert_eq!(unsigned(u64::MAX, &[], b"ffffffffffffffff\r\nx"), Err(ChunkError::Truncated));
}

#[test]
fn framing_is_strict() {
    let cases: &[(&[u8], ChunkError)] = &[
        (b"1\nx\r\n0\r\n\r\n", ChunkError::SizeLine),
        (b"1\r\nx\n0\r\n\r\n", ChunkError::ChunkEnd),
        (b"1\r\nxy\r\n0\r\n\r\n", ChunkError::ChunkEnd),
        (b"1\r\nx0\r\n\r\n", ChunkError::ChunkEnd),
        (b"1;a=b\r\nx\r\n0\r\n\r\n", ChunkError::SizeLine),
        (b"1\r\nx\r\n0\r\n\n", ChunkError::TrailerMalformed),
        (b"1\r\nx\r\n0\r\n\r\nG", ChunkError::AfterEnd),
        (b"1\r\nx\r\n0\r\n", ChunkError::Truncated),
        (b"1\r\nx\r\n", ChunkError::Truncated),
        (b"", ChunkError::Truncated),
    ];
    for (body, error) in cases {
        let body = *body;
        for cuts in [&[][..], &[1]] {
            assert_eq!(decode(Mode::Unsigned, 1, &[], body, cuts), Err(*error), "{body:?}");
        }
    }
    let endless = [b'0'; MAX_LINE_LEN + 1];
    assert_eq!(decode(Mode::Unsigned, 1, &[], &endless, &[7]), Err(ChunkError::LineTooLong));
}

#[test]
fn trailers_are_exactly_those_announced() {
    let long = format!("{CRC32C}:{}\r\n\r\n", "A".repeat(MAX_LINE_LEN));
    let cases = [
        ("\r\n", ChunkError::TrailerMissing),
        ("x-amz-checksum-crc32c:AAAAAA==\r\nx-amz-checksum-crc32c:AAAAAA==\r\n\r\n", ChunkError::TrailerUnexpected),
        ("x-amz-checksum-crc32:AAAAAA==\r\n\r\n", ChunkError::TrailerUnexpected),
        ("x-amz-trailer-signature:00\r\n\r\n", ChunkError::TrailerUnexpected),
        ("x-amz-checksum-crc32c\r\n\r\n", ChunkError::TrailerMalformed),
        (":AAAAAA==\r\n\r\n", ChunkError::TrailerMalformed),
        ("x-amz-checksum-crc32c:A\rA\r\n\r\n", ChunkError::TrailerMalformed),
        ("x-amz-checksum-crc32c:\u{e9}\r\n\r\n", ChunkError::TrailerMalformed),
        ("x-amz-checksum-crc32c:AAAAAA==\n\r\n", ChunkError::Truncated),
        ("x-amz-checksum-crc32c:AAAAAA==\r\n", ChunkError::Truncated),
        ("x-amz-checksum-crc32c:AAAAAA==\n\n", ChunkError::TrailerMalformed),
        (&long, ChunkError::LineTooLong),
    ];
    for (trailers, error) in cases {
        assert_eq!(unsigned(0, &[CRC32C], &with(encode(&[], None), trailers)), Err(error), "{trailers:?}");
    }
    assert_eq!(unsigned(0, &[CRC32C; 9], b"").err(), Some(ChunkError::TooManyTrailers));
}

#[test]
fn trailers_together_are_bounded() {
    let names: [&'static str; 8] = ["x-a", "x-b", "x-c", "x-d", "x-e", "x-f", "x-g", "x-h"];
    let lines = |length: usize| -> String {
        names.iter().map(|name| format!("{name}:{}\r\n", "A".repeat(length))).chain(["\r\n".to_owned()]).collect()
    };
    assert!(unsigned(0, &names, &with(encode(&[], None), &lines(500))).is_ok());
    let too_long = unsigned(0, &names, &with(encode(&[], None), &lines(600)));
    assert_eq!(too_long, Err(ChunkError::TrailerMalformed));
}

#[test]
fn a_wrong_chunk_signature_withholds_the_end_of_its_chunk() {
    let (ours, mut theirs) = signers(false);
    let mut wire = with(encode(&[b"first", b"second"], Some(&mut theirs)), "\r\n");
    let position = wire.windows(6).position(|window| window == b"second").expect("there");
    *wire.get_mut(position).expect("there") ^= 1;
    let mut decoder = Decoder::new(Mode::Signed(ours), 11, Vec::new()).expect("no trailers");
    let mut input = Bytes::from(wire);
    assert_eq!(decoder.feed(&mut input), Ok(Event::Data(Bytes::from_static(b"first"))));
    assert_eq!(decoder.feed(&mut input), Err(ChunkError::ChunkSignature));
}

#[test]
fn signed_chunks_cannot_be_swapped_dropped_or_cut_short() {
    let encoded = |chunks: &[&[u8]]| {
        let (ours, mut theirs) = signers(false);
        (ours, with(encode(chunks, Some(&mut theirs)), "\r\n"))
    };
    // Two chunks of one byte are 85 + 3 bytes each on the wire, and so is the last but for its data.
    let chunk = 1 + 17 + 64 + 2 + 1 + 2;
    let (ours, wire) = encoded(&[b"a", b"b"]);
    let (first, rest) = wire.split_at(chunk);
    let (second, last) = rest.split_at(chunk);
    let swapped = [second, first, last].concat();
    assert_eq!(decode(Mode::Signed(ours), 2, &[], &swapped, &[]), Err(ChunkError::ChunkSignature));
    for (left, length) in [([second, last].concat(), 1), ([first, last].concat(), 1), (last.to_vec(), 0)] {
        let signer = published_signer(false);
        assert_eq!(decode(Mode::Signed(signer), length, &[], &left, &[]), Err(ChunkError::ChunkSignature));
    }
    let signer = published_signer(false);
    assert_eq!(decode(Mode::Signed(signer), 2, &[], &[first, second].concat(), &[]), Err(ChunkError::Truncated));
    let signer = published_signer(false);
    let stripped = decode(Mode::Signed(signer), 1, &[], b"1\r\na\r\n0\r\n\r\n", &[]);
    assert_eq!(stripped, Err(ChunkError::SizeLine));
    let signer = published_signer(false);
    assert!(decode(Mode::Signed(signer), 2, &[], &wire, &[]).is_ok());
}

#[test]
fn signed_trailers_need_their_signature() {
    let judge = |trailers: &dyn Fn(&str) -> String| {
        let (ours, mut theirs) = signers(true);
        let body = encode(&[b"a"], Some(&mut theirs));
        let signature = theirs.sign_trailers(&[(Algorithm::Crc32c.header_name(), "AAAAAA==".to_owned())]);
        let wire = with(body, &trailers(&format!("x-amz-trailer-signature:{}\r\n", hex(&signature))));
        decode(Mode::SignedTrailer(ours), 1, &[CRC32C], &wire, &[]).err()
    };
    assert_eq!(judge(&|signature| format!("{CRC32C}:AAAAAA==\r\n{signature}\r\n")), None);
    let wrong = Some(ChunkError::TrailerSignature);
    assert_eq!(judge(&|signature| format!("{CRC32C}:AAAAAB==\r\n{signature}\r\n")), wrong);
    assert_eq!(judge(&|_| format!("{CRC32C}:AAAAAA==\r\n\r\n")), wrong);
    assert_eq!(judge(&|_| format!("{CRC32C}:AAAAAA==\r\nx-amz-trailer-signature:00\r\n\r\n")), wrong);
    let early = judge(&|signature| format!("{signature}{CRC32C}:AAAAAA==\r\n\r\n"));
    assert_eq!(early, Some(ChunkError::TrailerUnexpected));
    let twice = judge(&|signature| format!("{CRC32C}:AAAAAA==\r\n{signature}{signature}\r\n"));
    assert_eq!(twice, Some(ChunkError::TrailerUnexpected));
}

#[test]
fn the_decoded_length_is_one_number() {
    let length = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-amz-decoded-content-length", HeaderValue::from_static(value));
        }
        decoded_content_length(&headers)
    };
    assert_eq!(length(&["66560"]), Ok(66_560));
    assert_eq!(length(&[]), Err(ChunkError::DecodedLengthMissing));
    for values in [&["1", "1"][..], &["-1"], &["+1"], &[""], &["1x"], &["18446744073709551616"]] {
        assert_eq!(length(values), Err(ChunkError::DecodedLengthInvalid), "{values:?}");
    }
}

/// Chunks, none empty.
fn chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 0..6)
}

proptest! {
    #[test]
    fn how_the_bytes_come_does_not_matter(chunks in chunks(), cuts in proptest::collection::vec(1usize..90, 1..6)) {
        let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        let expected = chunks.concat();
        let length = u64::try_from(expected.len()).expect("small");
        let crc = vec![(Algorithm::Crc32c.header_name(), "AAAAAA==".to_owned())];

        let wire = with(encode(&chunks, None), "x-amz-checksum-crc32c:AAAAAA==\n\r\n\r\n");
        for cuts in [cuts.as_slice(), &[1], &[]] {
            let outcome = decode(Mode::Unsigned, length, &[CRC32C], &wire, cuts);
            prop_assert_eq!(outcome, Ok((expected.clone(), crc.clone())));
        }
        let (ours, mut theirs) = signers(true);
        let body = encode(&chunks, Some(&mut theirs));
        let signature = hex(&theirs.sign_trailers(&crc));
        let wire = with(body, &format!("{CRC32C}:AAAAAA==\r\nx-amz-trailer-signature:{signature}\r\n\r\n"));
        let outcome = decode(Mode::SignedTrailer(ours), length, &[CRC32C], &wire, &cuts);
        prop_assert_eq!(outcome, Ok((expected, crc)));
    }

    #[test]
    fn any_changed_byte_of_a_signed_body_is_noticed(chunks in chunks(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        let length = u64::try_from(chunks.concat().len()).expect("small");
        let (ours, mut theirs) = signers(false);
        let mut wire = with(encode(&chunks, Some(&mut theirs)), "\r\n");
        let position = at.index(wire.len());
        let byte = wire.get_mut(position).expect("in range");
        *byte ^= 1 << bit;
        // Hex sizes may be written in either case: then nothing has changed.
        prop_assume!(!(bit == 5 && byte.is_ascii_uppercase()));
        prop_assert!(decode(Mode::Signed(ours), length, &[], &wire, &[]).is_err());
    }

    #[test]
    fn junk_never_panics(body in "([0-9a-f]{1,3}(;chunk-signature=[0-9a-f]{0,64})?\r?\n|[a-z]{0,9}\r?\n|\\PC{0,9}){0,9}", length in 0u64..40) {
        let one = decode(Mode::Unsigned, length, &[CRC32C], body.as_bytes(), &[]);
        let cut = decode(Mode::Unsigned, length, &[CRC32C], body.as_bytes(), &[1]);
        prop_assert_eq!(one, cut);
        prop_assert!(decode(Mode::Signed(published_signer(false)), length, &[], body.as_bytes(), &[]).is_err());
    }
}
