//! Tests of whom a revocation reaches.

use super::*;
use crate::custodian::approval::testing::{NOW, People};

fn officer() -> SpiffeId {
    SpiffeId::parse("spiffe://example.org/region/us/officer/alice").expect("legal")
}

fn revoked(principal: &str) -> Revocation {
    Revocation::new(principal, officer(), "laptop lost", NOW).expect("legal")
}

#[test]
fn it_reaches_an_id_a_certificate_or_a_client() {
    let people = People::new();
    let mut who = people.person("proxy/p1").asks();
    let renewed = people.person("proxy/p1").asks();
    let certificate = format!("certificate:{}", texts::hex(&who.certificate_sha256));
    who.behalf = Some(Principal::new("billing").expect("legal"));
    for principal in ["spiffe://example.org/region/us/proxy/p1", certificate.as_str(), "billing"] {
        assert!(revoked(principal).covers(&who), "{principal}");
        assert!(principals(&who).iter().any(|one| one == principal), "{principal}");
    }
    for principal in ["spiffe://example.org/region/us/proxy/p2", "spiffe://example.org/region/us/proxy/p", "Billing"] {
        assert!(!revoked(principal).covers(&who), "{principal}");
    }
    assert!(!revoked(&certificate).covers(&renewed), "one certificate alone");
    assert!(!revoked("billing").covers(&renewed), "not for that client");
}

#[test]
fn what_names_nobody_is_refused() {
    let new = |principal: &str, note: &str, at| Revocation::new(principal, officer(), note, at).map(drop);
    let upper = format!("certificate:{}", "AB".repeat(32));
    for bad in ["", "a b", "spiffe://example.org/p1", "certificate:", "certificate:00", &upper, &"a".repeat(129)] {
        assert_eq!(new(bad, "", NOW), Err(InvalidRevocation::Principal), "{bad:?}");
    }
    assert_eq!(new("billing", &"n".repeat(501), NOW), Err(InvalidRevocation::Note));
    assert_eq!(new("billing", "two\nlines", NOW), Err(InvalidRevocation::Note));
    assert_eq!(new("billing", "", -1), Err(InvalidRevocation::Time));
}

#[test]
fn stored_bytes_come_back_and_nothing_else_parses() {
    let revocation = revoked("billing");
    let bytes = revocation.to_bytes();
    assert_eq!(Revocation::parse(&bytes), Ok(revocation.clone()));
    for cut in 0..bytes.len() {
        assert!(Revocation::parse(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    assert!(Revocation::parse(&[&bytes[..], b"\0"].concat()).is_err());
    let shown = revocation.to_json();
    assert_eq!((shown["principal"].as_str(), shown["note"].as_str()), (Some("billing"), Some("laptop lost")));
    assert_eq!(shown["at"], "2027-01-15T08:00:00Z");
}
