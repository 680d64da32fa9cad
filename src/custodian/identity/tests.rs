//! Tests of ids, and of certificates that do or do not carry one.

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};

use super::*;

const P1: &str = "spiffe://example.org/region/us/proxy/p1";

fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text).expect("ASCII"))
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(Ia5String::try_from(name).expect("ASCII"))
}

fn certificate(names: Vec<SanType>, extensions: Vec<CustomExtension>) -> Vec<u8> {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.custom_extensions = extensions;
    params.self_signed(&key).expect("a certificate").der().to_vec()
}

fn of(names: Vec<SanType>) -> Result<SpiffeId, InvalidIdentity> {
    from_certificate(&certificate(names, Vec::new()))
}

#[test]
fn an_id_has_its_parts() {
    let id = SpiffeId::parse("spiffe://keys.example.org/region/us-east/officer/alice_b.2").expect("legal");
    assert_eq!(id.trust_domain(), "keys.example.org");
    assert_eq!((id.region(), id.role(), id.name()), ("us-east", "officer", "alice_b.2"));
    assert_eq!(id.writer_domain().as_str(), "officer/us-east");
    assert!(id.is_officer());
    assert!(!SpiffeId::parse(P1).expect("legal").is_officer());
    assert_eq!(id.to_string(), id.as_str());
}

#[test]
fn other_texts_are_no_ids() {
    use InvalidIdentity::{NotSpiffe, Path, TooLong, TrustDomain};
    let long = format!("spiffe://{}/region/us/proxy/p1", ["a".repeat(63).as_str(); 4].join("."));
    for (text, expected) in [
        ("", NotSpiffe),
        ("https://example.org/region/us/proxy/p1", NotSpiffe),
        ("SPIFFE://example.org/region/us/proxy/p1", NotSpiffe),
        (" spiffe://example.org/region/us/proxy/p1", NotSpiffe),
        ("spiffe:/example.org/region/us/proxy/p1", NotSpiffe),
        ("spiffe:///region/us/proxy/p1", TrustDomain),
        ("spiffe://Example.org/region/us/proxy/p1", TrustDomain),
        ("spiffe://example.org:443/region/us/proxy/p1", TrustDomain),
        ("spiffe://me@example.org/region/us/proxy/p1", TrustDomain),
        ("spiffe://example..org/region/us/proxy/p1", TrustDomain),
        ("spiffe://example.org./region/us/proxy/p1", TrustDomain),
        ("spiffe://exämple.org/region/us/proxy/p1", TrustDomain),
        ("spiffe://example.org", Path),
        ("spiffe://example.org/", Path),
        ("spiffe://example.org/region/us/proxy", Path),
        ("spiffe://example.org/region/us/proxy/", Path),
        ("spiffe://example.org/region/us/proxy/p1/", Path),
        ("spiffe://example.org/region/us/proxy/p1/x", Path),
        ("spiffe://example.org//region/us/proxy/p1", Path),
        ("spiffe://example.org/region//proxy/p1", Path),
        ("spiffe://example.org/Region/us/proxy/p1", Path),
        ("spiffe://example.org/zone/us/proxy/p1", Path),
        ("spiffe://example.org/region/../proxy/p1", Path),
        ("spiffe://example.org/region/us/proxy/.", Path),
        ("spiffe://example.org/region/us/proxy/%2e%2e", Path),
        ("spiffe://example.org/region/us/proxy/p%31", Path),
        ("spiffe://example.org/region/us/proxy/p1?x=1", Path),
        ("spiffe://example.org/region/us/proxy/p1#x", Path),
        ("spiffe://example.org/region/us/proxy/p1\0", Path),
        ("spiffe://example.org/region/us/proxy/p1\n", Path),
        ("spiffe://example.org/region/us/pröxy/p1", Path),
        ("spiffe://example.org/region/us/proxy/abcdefghijklmnopqrstuvwxyz012345", Path),
        (&long, TooLong),
    ] {
        assert_eq!(SpiffeId::parse(text), Err(expected), "{text:?}");
    }
}

#[test]
fn a_certificate_with_one_uri_names_its_holder() {
    assert_eq!(of(vec![uri(P1)]).expect("one URI").as_str(), P1);
    let besides = vec![dns("p1.example.org"), uri(P1), dns("localhost"), SanType::IpAddress([127, 0, 0, 1].into())];
    assert_eq!(of(besides).expect("one URI").as_str(), P1);
}

#[test]
fn certificates_with_no_or_several_uris_name_nobody() {
    assert_eq!(of(Vec::new()), Err(InvalidIdentity::NoUri));
    assert_eq!(of(vec![dns("p1.example.org")]), Err(InvalidIdentity::NoUri));
    assert_eq!(of(vec![dns(P1)]), Err(InvalidIdentity::NoUri), "an id as another kind of name");
    let officer = "spiffe://example.org/region/us/officer/alice";
    assert_eq!(of(vec![uri(P1), uri(officer)]), Err(InvalidIdentity::SeveralUris));
    assert_eq!(of(vec![uri(P1), uri(P1)]), Err(InvalidIdentity::SeveralUris), "even twice the same");
    assert_eq!(of(vec![uri(P1), uri("https://example.org/")]), Err(InvalidIdentity::SeveralUris));
    assert_eq!(of(vec![uri("https://example.org/region/us/proxy/p1")]), Err(InvalidIdentity::NotSpiffe));
    assert_eq!(of(vec![uri("spiffe://example.org/region/us/proxy/p%31")]), Err(InvalidIdentity::Path));
    let long = format!("spiffe://example.org/region/us/proxy/{}", "p".repeat(300));
    assert_eq!(of(vec![uri(&long)]), Err(InvalidIdentity::TooLong));
}

/// Alternative names as given in DER, in an extension beside what rcgen writes.
fn raw_names(content: &[u8]) -> CustomExtension {
    CustomExtension::from_oid_content(&[2, 5, 29, 17], content.to_vec())
}

#[test]
fn unreadable_names_are_not_passed_over() {
    let uri_of = |bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).expect("short");
        [&[0x86, length][..], bytes].concat()
    };
    let sequence = |content: &[u8]| [&[0x30, u8::try_from(content.len()).expect("short")][..], content].concat();
    let alone = certificate(Vec::new(), vec![raw_names(&sequence(&uri_of(P1.as_bytes())))]);
    assert_eq!(from_certificate(&alone).expect("what we wrote by hand is right").as_str(), P1);

    let beside = sequence(&[uri_of(P1.as_bytes()), uri_of(b"spiffe://\xff")].concat());
    let beside = certificate(Vec::new(), vec![raw_names(&beside)]);
    assert_eq!(from_certificate(&beside), Err(InvalidIdentity::NotACertificate), "a second URI that is no text");
    let twice = certificate(vec![uri(P1)], vec![raw_names(&sequence(&uri_of(P1.as_bytes())))]);
    assert_eq!(from_certificate(&twice), Err(InvalidIdentity::NotACertificate), "the extension twice");
    let broken = certificate(Vec::new(), vec![raw_names(&[0x30, 0x7f, 0x86])]);
    assert_eq!(from_certificate(&broken), Err(InvalidIdentity::NotACertificate), "an extension cut short");
}

#[test]
fn only_a_whole_certificate_is_one() {
    let der = certificate(vec![uri(P1)], Vec::new());
    for cut in 0..der.len() {
        assert_eq!(from_certificate(&der[..cut]), Err(InvalidIdentity::NotACertificate), "cut at {cut}");
    }
    let longer = [der.as_slice(), b"\0"].concat();
    assert_eq!(from_certificate(&longer), Err(InvalidIdentity::NotACertificate));
    assert_eq!(from_certificate(&vec![0x30; 64 << 10]), Err(InvalidIdentity::NotACertificate));
}
