//! Notes, keys and signatures, against the vectors of Go's `sumdb/note` and of transparency-dev's cosignatures.

use super::*;
use crate::secret::Secret;

const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const ENOCH: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const PETER_LINE: &str =
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const ENOCH_LINE: &str =
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";

/// From the Go skey `PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALV…`.
const PETER_SEED: [u8; 32] = [
    0x81, 0x0a, 0x14, 0x02, 0xd5, 0x14, 0x6c, 0x8d, 0x84, 0xf2, 0x44, 0x33, 0x30, 0xf5, 0x40, 0x80, 0xeb, 0xf9, 0x8e,
    0xe1, 0x7d, 0x9c, 0x74, 0xf6, 0x25, 0x2f, 0xc5, 0xd5, 0xc7, 0x28, 0x31, 0x73,
];

fn key(text: &str) -> VerifierKey {
    VerifierKey::parse(text).expect("a key")
}

fn note(text: &str) -> Note {
    Note::parse(text.as_bytes()).expect("a note")
}

#[test]
fn signing_gives_the_note_that_go_gives() {
    let seed = Secret::from_slice(&PETER_SEED).expect("32 bytes");
    let signer = Signer::new("PeterNeumann", Use::Log, SigningKey::from_seed(seed)).expect("a name");
    assert_eq!(signer.verifier().to_string(), PETER);
    let signed = Note::signed(TEXT.to_owned(), signer.sign(TEXT));
    assert_eq!(signed.to_string(), format!("{TEXT}\n{PETER_LINE}"));
}

#[test]
fn only_good_signatures_of_the_key_count() {
    let both = note(&format!("{TEXT}\n{PETER_LINE}{ENOCH_LINE}"));
    assert_eq!(both.text(), TEXT);
    assert_eq!(both.to_string(), format!("{TEXT}\n{PETER_LINE}{ENOCH_LINE}"));
    assert_eq!(key(PETER).verify(&both), Ok(vec![Verified { time_s: None }]));
    assert!(key(ENOCH).verify(&both).is_ok());
    assert_eq!(key(PETER).verify(&note(&format!("{TEXT}\n{ENOCH_LINE}"))), Err(NotAuthentic));
    assert_eq!(key(PETER).verify(&note(&format!("x{TEXT}\n{PETER_LINE}"))), Err(NotAuthentic));
    let bad = PETER_LINE.replace("ZJkuBS", "ZJkuBT");
    assert_eq!(key(PETER).verify(&note(&format!("{TEXT}\n{PETER_LINE}{bad}"))), Err(NotAuthentic));
    let misnamed = PETER_LINE.replace("PeterNeumann", "CarmenSandiego");
    assert_eq!(key(PETER).verify(&note(&format!("{TEXT}\n{misnamed}"))), Err(NotAuthentic));
}

#[test]
fn verifier_keys_are_those_of_other_implementations() {
    for (text, usage) in [
        (PETER, Use::Log),
        ("TEST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6", Use::Log),
        ("remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2", Use::Witness),
    ] {
        assert_eq!(key(text).to_string(), text);
        assert_eq!(key(text).usage(), usage);
    }
    for text in [
        "",
        "bananas.sigstore.dev+12344556",
        "rekor.sigstore.dev+12345678+THIS_IS_NOT_BASE64!",
        "rekor.sigstore.dev+12345678+AwEB",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ] {
        assert!(VerifierKey::parse(text).is_err(), "{text}");
    }
}

#[test]
fn malformed_notes_are_refused() {
    let unfinished = format!("{TEXT}\n{}", PETER_LINE.trim_end());
    let bad_name = PETER_LINE.replace("PeterNeumann", "Bad Name");
    let many = PETER_LINE.repeat(MAX_SIGNATURES + 1);
    for text in [
        "",
        "\n\n",
        TEXT,
        &format!("{TEXT}\n"),
        &format!("\n{TEXT}"),
        &format!("{TEXT}{PETER_LINE}"),
        &unfinished,
        &format!("\u{1}{TEXT}\n{PETER_LINE}"),
        &format!("{TEXT}\r\n\n{PETER_LINE}"),
        &format!("{TEXT}\n{bad_name}"),
        &format!("{TEXT}\n{many}"),
        &format!("{TEXT}\n— PeterNeumann x08gow==\n"),
        &format!("{}\n{PETER_LINE}", TEXT.repeat(MAX_NOTE_LEN / TEXT.len() + 1)),
    ] {
        assert!(Note::parse(text.as_bytes()).is_err(), "{text}");
    }
    assert!(Note::parse(&[b"\xff", TEXT.as_bytes(), b"\n", PETER_LINE.as_bytes()].concat()).is_err());
    assert!(
        note(&format!("{TEXT}\n{}", PETER_LINE.repeat(MAX_SIGNATURES)))
            .with_signature(Signature::parse(ENOCH_LINE.trim_end()).expect("a line"))
            .is_err()
    );
}

#[test]
fn text_may_have_blank_lines() {
    let text = "one\n\ntwo\n";
    assert_eq!(note(&format!("{text}\n{PETER_LINE}")).text(), text);
}

#[test]
fn the_time_of_a_cosignature_stands_before_it() {
    // transparency-dev/formats, TestCoSigV1Timestamp: made at 1727964367 s.
    let line =
        "— w ZGhGuQAAAABm/qTPeyKXD+R2rzyQsxPiP8mXum7qq/iF0u4vanlqJyocWODBt97w9uL+8qT7S5gxEHWWOworDcFiEBYJXORmnFBOBA==";
    let signature = Signature::parse(line).expect("a line");
    assert_eq!(signature.bytes.len(), 8 + ED25519_SIGNATURE_LEN);
    assert_eq!(signature.bytes[..8], 1_727_964_367u64.to_be_bytes());
    assert_eq!(signature.to_string(), line);
}
