//! What says who may do what: policies, tables of cases, ids and the certificates that carry them.

use claviger::custodian::identity::{SpiffeId, from_certificate};
use claviger::custodian::policy::Policy;
use claviger::custodian::policy::cases::Cases;

/// A policy that is refused says why; one that is not keeps its text, and is not refused another time.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Policy::parse(text) {
        Ok(policy) => {
            assert_eq!(policy.text(), text);
            let again = Policy::parse(policy.text()).expect("what was right is right");
            assert_eq!((again.hash(), again.counts()), (policy.hash(), policy.counts()));
        }
        Err(error) => assert!((1..=64).contains(&error.problems.len())),
    }
}

/// A table that is refused says why; the rows of one that is not stand for cases.
pub fn cases(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Cases::parse(text) {
        Ok(cases) => assert!(cases.rows().iter().all(|row| row.count() > 0)),
        Err(error) => assert!((1..=64).contains(&error.problems.len())),
    }
}

/// What parses as an id is made of its parts and nothing else; what is found in a certificate is such an id.
pub fn identity(bytes: &[u8]) {
    let in_text = std::str::from_utf8(bytes).ok().and_then(|text| Some((SpiffeId::parse(text).ok()?, text)));
    if let Some((id, text)) = in_text {
        assert_eq!(parts(&id), text);
    }
    if let Ok(id) = from_certificate(bytes) {
        assert_eq!(parts(&id), id.as_str());
        assert_eq!(SpiffeId::parse(id.as_str()), Ok(id));
    }
}

fn parts(id: &SpiffeId) -> String {
    assert_eq!(id.writer_domain().as_str(), format!("{}/{}", id.role(), id.region()));
    format!("spiffe://{}/region/{}/{}/{}", id.trust_domain(), id.region(), id.role(), id.name())
}
