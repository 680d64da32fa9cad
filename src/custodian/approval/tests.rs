//! Tests of who may approve what, how often and until when.

use proptest::prelude::*;
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384};
use serde_json::json;

use super::signature::{OfflineRefused, SigningFailed, VERIFIED};
use super::testing::{NOW, People, Person};
use super::*;

fn document() -> ProposalDocument {
    ProposalDocument {
        id: "p-0123456789abcdef".to_owned(),
        requester: SpiffeId::parse("spiffe://example.org/region/us/officer/rita").expect("legal"),
        method: "POST".to_owned(),
        path: "/v1/transit/keys/records/trim".to_owned(),
        body: r#"{"min_available_version":2}"#.to_owned(),
        kek: Some(KekName::new("records").expect("legal")),
        version: KekVersion::new(3),
        policy: [5; 32],
        created_unix_s: NOW,
        expires_unix_s: NOW + PROPOSAL_LIFE_S,
        required: 2,
    }
}

struct Scene {
    people: People,
    rita: Person,
    alice: Person,
    bob: Person,
    proposal: Proposal,
}

impl Scene {
    fn new() -> Self {
        let people = People::new();
        let [rita, alice] = ["rita", "alice"].map(|name| people.person(&format!("officer/{name}")));
        let bob = people.person_with_ed25519("officer/bob");
        let proposal = Proposal::new(document(), Some(rita.asks().key_sha256)).expect("legal");
        Self { people, rita, alice, bob, proposal }
    }

    fn approve(&mut self, who: &Person) -> Result<(), ApprovalError> {
        let approval = who.signs(Subject::Proposal, Verb::Approve, &self.proposal.hash());
        self.proposal.approve(&who.asks(), approval, NOW + 1)
    }

    fn veto(&mut self, who: &Person) -> Result<(), ApprovalError> {
        let veto = who.signs(Subject::Proposal, Verb::Veto, &self.proposal.hash());
        self.proposal.veto(&who.asks(), veto, NOW + 1)
    }

    fn approved() -> Self {
        let mut scene = Self::new();
        for officer in [scene.people.person("officer/alice"), scene.people.person_with_ed25519("officer/bob")] {
            scene.approve(&officer).expect("approves");
        }
        scene
    }
}

#[test]
fn two_officers_carry_it_and_it_is_carried_out_once() {
    let mut scene = Scene::new();
    let (alice, bob) = (scene.people.person("officer/alice"), scene.people.person_with_ed25519("officer/bob"));
    let requester = document().requester;
    assert_eq!(scene.proposal.execute(&requester, NOW + 1), Err(ApprovalError::NotApproved));
    scene.approve(&alice).expect("one");
    assert_eq!(scene.proposal.state(NOW + 1), ProposalState::Pending);
    assert_eq!(scene.proposal.execute(&requester, NOW + 1), Err(ApprovalError::NotApproved), "one officer alone");
    scene.approve(&bob).expect("two");
    assert_eq!(scene.proposal.state(NOW + 1), ProposalState::Approved);
    assert_eq!(scene.proposal.execute(&alice.asks().id, NOW + 2), Err(ApprovalError::NotTheRequester));
    scene.proposal.execute(&requester, NOW + 2).expect("carried out");
    assert_eq!(scene.proposal.execute(&requester, NOW + 3), Err(ApprovalError::Executed));
    assert_eq!(scene.proposal.executed_unix_s(), Some(NOW + 2));
    assert_eq!(scene.veto(&alice), Err(ApprovalError::Executed), "too late");
}

#[test]
fn nobody_counts_twice() {
    let mut scene = Scene::new();
    let alice = scene.people.person("officer/alice");
    scene.approve(&alice).expect("one");
    assert_eq!(scene.approve(&alice), Err(ApprovalError::AlreadyApproved));
    let renewed = scene.people.person("officer/alice");
    assert_eq!(scene.approve(&renewed), Err(ApprovalError::AlreadyApproved), "another key, the same officer");
    let alias = scene.people.person_with_key("officer/carol", alice.key_again());
    assert_eq!(scene.approve(&alias), Err(ApprovalError::SameKey), "another name, the same key");
    assert_eq!(scene.proposal.state(NOW + 1), ProposalState::Pending);
    assert_eq!(scene.proposal.approvals().len(), 1);
}

#[test]
fn the_requester_does_not_count_under_any_name() {
    let mut scene = Scene::new();
    let alias = scene.people.person_with_key("officer/rosa", scene.rita.key_again());
    let renewed = scene.people.person("officer/rita");
    for who in [&scene.people.person_with_key("officer/rita", scene.rita.key_again()), &alias, &renewed] {
        assert_eq!(scene.approve(who), Err(ApprovalError::OwnRequest));
    }
    scene.veto(&renewed).expect("may take it back");
    assert_eq!(scene.proposal.state(NOW + 1), ProposalState::Vetoed);
}

#[test]
fn only_officers_approve_and_only_over_their_own_connection() {
    let mut scene = Scene::new();
    let hash = scene.proposal.hash();
    let proxy = scene.people.person("proxy/p1");
    let pem = proxy.key.serialize_pem();
    let refused = sign_approval(pem.as_bytes(), &proxy.certificate, Subject::Proposal, Verb::Approve, &hash, NOW);
    assert!(matches!(refused, Err(SigningFailed::Certificate(ApprovalError::NotAnOfficer))));
    // Signed all the same, by other means.
    let alice = scene.alice.signs(Subject::Proposal, Verb::Approve, &hash);
    let forged = Approval { officer: proxy.asks().id, certificate: proxy.certificate.clone(), ..alice.clone() };
    assert_eq!(scene.proposal.approve(&proxy.asks(), forged, NOW), Err(ApprovalError::NotAnOfficer));
    // The officer's approval over somebody else's connection, and one by a certificate that somebody made up.
    assert_eq!(scene.proposal.approve(&proxy.asks(), alice.clone(), NOW), Err(ApprovalError::OtherCertificate));
    assert_eq!(scene.proposal.approve(&scene.bob.asks(), alice, NOW), Err(ApprovalError::OtherCertificate));
    let made_up = People::new().person("officer/alice").signs(Subject::Proposal, Verb::Approve, &hash);
    assert_eq!(scene.proposal.approve(&scene.alice.asks(), made_up, NOW), Err(ApprovalError::OtherCertificate));
}

#[test]
fn a_signature_for_something_else_is_none() {
    let mut scene = Scene::new();
    let hash = scene.proposal.hash();
    let other = ProposalDocument { id: "p-0123456789abcdee".to_owned(), ..document() }.hash();
    let alice = &scene.alice;
    let replayed = alice.signs(Subject::Proposal, Verb::Approve, &other);
    let for_a_grant = alice.signs(Subject::Grant, Verb::Approve, &hash);
    let turned = Approval { verb: Verb::Approve, ..alice.signs(Subject::Proposal, Verb::Veto, &hash) };
    let renamed = Approval { officer: scene.bob.asks().id, ..alice.signs(Subject::Proposal, Verb::Approve, &hash) };
    let mut flipped = alice.signs(Subject::Proposal, Verb::Approve, &hash);
    *flipped.signature.last_mut().expect("not empty") ^= 1;
    for approval in [replayed, for_a_grant, turned, flipped] {
        assert_eq!(scene.proposal.approve(&alice.asks(), approval, NOW), Err(ApprovalError::NotAuthentic));
    }
    assert_eq!(scene.proposal.approve(&alice.asks(), renamed.clone(), NOW), Err(ApprovalError::OtherCertificate));
    assert_eq!(verify(&renamed, Subject::Proposal, &hash), Err(ApprovalError::Certificate));
    let veto = alice.signs(Subject::Proposal, Verb::Veto, &hash);
    assert_eq!(scene.proposal.approve(&alice.asks(), veto, NOW), Err(ApprovalError::WrongVerb));
    let approval = alice.signs(Subject::Proposal, Verb::Approve, &hash);
    assert_eq!(scene.proposal.veto(&alice.asks(), approval, NOW), Err(ApprovalError::WrongVerb));
    assert_eq!(scene.proposal.state(NOW), ProposalState::Pending);
}

#[test]
fn its_time_ends() {
    let (mut fresh, mut approved) = (Scene::new(), Scene::approved());
    let end = NOW + PROPOSAL_LIFE_S;
    let approval = fresh.alice.signs(Subject::Proposal, Verb::Approve, &fresh.proposal.hash());
    let refused = fresh.proposal.approve(&fresh.alice.asks(), approval, end);
    assert_eq!(refused, Err(ApprovalError::Expired));
    assert_eq!(approved.proposal.state(end - 1), ProposalState::Approved);
    assert_eq!(approved.proposal.state(end), ProposalState::Expired);
    let requester = document().requester;
    assert_eq!(approved.proposal.execute(&requester, end), Err(ApprovalError::Expired));
    assert_eq!(approved.proposal.execute(&requester, NOW - 3600), Err(ApprovalError::Expired), "a clock put back");
    approved.proposal.execute(&requester, end - 1).expect("in time");
}

#[test]
fn any_officer_stops_it_until_it_is_carried_out() {
    let mut scene = Scene::approved();
    let carol = scene.people.person("officer/carol");
    scene.veto(&carol).expect("stops it");
    assert_eq!(scene.proposal.state(NOW + 1), ProposalState::Vetoed);
    assert_eq!(scene.proposal.execute(&document().requester, NOW + 1), Err(ApprovalError::Stopped));
    assert_eq!(scene.approve(&carol), Err(ApprovalError::Stopped));
    assert_eq!(scene.proposal.stopped_by().map(|veto| veto.officer.name()), Some("carol"));
}

#[test]
fn it_is_for_one_call_of_one_requester() {
    let proposal = Scene::new().proposal;
    let made = document();
    let is_for =
        |method: &str, path: &str, body: &str, requester: &SpiffeId| proposal.is_for(method, path, body, requester);
    assert!(is_for("POST", &made.path, &made.body, &made.requester));
    assert!(!is_for("PUT", &made.path, &made.body, &made.requester));
    assert!(!is_for("POST", "/v1/transit/keys/other/trim", &made.body, &made.requester));
    assert!(!is_for("POST", &made.path, r#"{"min_available_version":3}"#, &made.requester));
    let other = SpiffeId::parse("spiffe://example.org/region/us/officer/alice").expect("legal");
    assert!(!is_for("POST", &made.path, &made.body, &other));
}

#[test]
fn the_hash_covers_every_field() {
    let made = document();
    let later = PROPOSAL_LIFE_S + 1;
    let others = [
        ProposalDocument { id: "p-0123456789abcdee".to_owned(), ..made.clone() },
        ProposalDocument {
            requester: SpiffeId::parse("spiffe://example.org/region/us/officer/rit").expect("legal"),
            ..made.clone()
        },
        ProposalDocument { method: "PUT".to_owned(), ..made.clone() },
        ProposalDocument { path: "/v1/transit/keys/record/trim".to_owned(), ..made.clone() },
        ProposalDocument { body: r#"{"min_available_version":3}"#.to_owned(), ..made.clone() },
        ProposalDocument { kek: None, ..made.clone() },
        ProposalDocument { version: None, ..made.clone() },
        ProposalDocument { policy: [6; 32], ..made.clone() },
        ProposalDocument { created_unix_s: NOW + 1, ..made.clone() },
        ProposalDocument { expires_unix_s: NOW + later, ..made.clone() },
        ProposalDocument { required: 3, ..made.clone() },
    ];
    for other in others {
        assert_ne!(other.hash(), made.hash(), "{other:?}");
    }
}

#[test]
fn what_is_no_proposal_is_refused() {
    let refused = |change: fn(&mut ProposalDocument)| {
        let mut changed = document();
        change(&mut changed);
        Proposal::new(changed, None).expect_err("must be refused")
    };
    assert_eq!(refused(|d| d.required = 1), InvalidProposal::Required);
    assert_eq!(refused(|d| d.required = 17), InvalidProposal::Required);
    assert_eq!(refused(|d| d.id = "p-0123456789ABCDEF".to_owned()), InvalidProposal::Id);
    assert_eq!(refused(|d| d.method = "post".to_owned()), InvalidProposal::Method);
    assert_eq!(refused(|d| d.path = "v1".to_owned()), InvalidProposal::Path);
    assert_eq!(refused(|d| d.path = "/v1 /x".to_owned()), InvalidProposal::Path);
    assert_eq!(refused(|d| d.expires_unix_s += 1), InvalidProposal::Times);
    assert_eq!(refused(|d| d.created_unix_s = i64::MIN), InvalidProposal::Times);
    assert_eq!(refused(|d| d.body = "{ }".to_owned()), InvalidProposal::Body);
    assert_eq!(refused(|d| d.body = r#"{"b":1,"a":2}"#.to_owned()), InvalidProposal::Body);
    assert_eq!(refused(|d| d.body = format!("\"{}\"", "a".repeat(BODY_LEN_MAX))), InvalidProposal::Body);
    let without = ProposalDocument { body: String::new(), kek: None, version: None, ..document() };
    Proposal::new(without, None).expect("a call without a body");
}

#[test]
fn an_officer_reads_the_document_and_reckons_the_hash_alone() {
    let scene = Scene::approved();
    let mut shown = scene.proposal.to_json(NOW + 1);
    assert_eq!(ProposalDocument::from_json(&shown), Ok(document()));
    assert_eq!(shown["state"], "approved");
    assert_eq!(shown["created"], "2027-01-15T08:00:00Z");
    assert_eq!(shown["hash"], json::hex(&document().hash()));
    assert_eq!(shown["approvals"].as_array().map(Vec::len), Some(2));
    // A server that shows one thing and asks to sign another.
    shown["body"] = r#"{"min_available_version":1}"#.into();
    let read = ProposalDocument::from_json(&shown).expect("well formed");
    assert_ne!(json::hex(&read.hash()), shown["hash"].as_str().expect("a text"));
    for field in ["id", "requester", "method", "path", "body", "policy_sha256", "created", "expires", "required"] {
        let mut without = document().to_json();
        without[field] = Value::Null;
        assert!(ProposalDocument::from_json(&without).is_err(), "{field}");
    }
    for (field, bad) in [("kek", json!("a/b")), ("version", json!(0)), ("created", json!("2027-01-15T09:00:00+01:00"))]
    {
        let mut other = document().to_json();
        other[field] = bad;
        assert!(ProposalDocument::from_json(&other).is_err(), "{field}");
    }
}

#[test]
fn an_approval_holds_without_the_custodian() {
    let scene = Scene::new();
    let hash = scene.proposal.hash();
    let check = |approval: &Approval, hash: &[u8; 32], people: &People, at: i64| {
        verify_offline(approval, Subject::Proposal, hash, &people.ca(), at)
    };
    for officer in [&scene.alice, &scene.bob] {
        let approval = officer.signs(Subject::Proposal, Verb::Approve, &hash);
        check(&approval, &hash, &scene.people, NOW).expect("holds");
        let refused = check(&approval, &hash, &People::new(), NOW);
        assert!(matches!(refused, Err(OfflineRefused::Chain(_))), "another CA");
        for at in [NOW - 2 * 24 * 3600, NOW + 2 * 24 * 3600] {
            assert!(matches!(check(&approval, &hash, &scene.people, at), Err(OfflineRefused::Chain(_))), "not valid");
        }
        assert!(check(&approval, &[0; 32], &scene.people, NOW).is_err(), "another hash");
        assert!(check(&approval, &hash, &scene.people, -1).is_err());
        let turned = Approval { verb: Verb::Veto, ..approval };
        assert!(check(&turned, &hash, &scene.people, NOW).is_err());
    }
}

#[test]
fn signing_needs_the_key_of_the_certificate() {
    let scene = Scene::new();
    let sign = |pem: &str, certificate: &[u8]| {
        sign_approval(pem.as_bytes(), certificate, Subject::Proposal, Verb::Approve, &[1; 32], NOW)
    };
    let bobs = scene.bob.key.serialize_pem();
    assert!(matches!(sign(&bobs, &scene.alice.certificate), Err(SigningFailed::OtherKey)));
    assert!(matches!(sign("", &scene.alice.certificate), Err(SigningFailed::NoKey(_))));
    assert!(matches!(sign(&bobs, b"no certificate"), Err(SigningFailed::Certificate(ApprovalError::Certificate))));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    let other = scene.people.person_with_key("officer/dora", key);
    assert!(matches!(sign(&other.key.serialize_pem(), &other.certificate), Err(SigningFailed::Key(_))));
    let huge = Approval::new(Verb::Approve, vec![0; signature::CERTIFICATE_LEN_MAX + 1], Vec::new(), NOW);
    assert_eq!(huge, Err(ApprovalError::Certificate));
    let huge = Approval::new(Verb::Approve, scene.alice.certificate.clone(), vec![0; 129], NOW);
    assert_eq!(huge, Err(ApprovalError::NotAuthentic));
}

#[test]
fn stored_bytes_come_back_and_nothing_else_parses() {
    let mut done = Scene::approved();
    done.proposal.execute(&document().requester, NOW + 5).expect("carried out");
    let mut stopped = Scene::approved();
    stopped.veto(&stopped.people.person("officer/carol")).expect("stops it");
    let plain = Proposal::new(ProposalDocument { kek: None, version: None, ..document() }, None).expect("legal");
    for proposal in [done.proposal, stopped.proposal, plain] {
        let bytes = proposal.to_bytes();
        assert_eq!(Proposal::parse(&bytes), Ok(proposal));
        for cut in 0..bytes.len() {
            assert!(Proposal::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Proposal::parse(&[&bytes[..], b"\0"].concat()).is_err());
    }
}

#[test]
fn approvals_altered_in_the_store_do_not_count() {
    let proposal = Scene::approved().proposal;
    let bytes = proposal.to_bytes();
    let signature = &proposal.approvals()[1].signature;
    let at = bytes.windows(signature.len()).position(|window| window == signature).expect("is there");
    let mut altered = bytes.clone();
    altered[at + 4] ^= 1;
    let altered = Proposal::parse(&altered).expect("well formed");
    assert_eq!(altered.state(NOW), ProposalState::Pending);
    // The same approval twice.
    let twice = Ballot::stored(vec![proposal.approvals()[0].clone(); 2], None);
    let hash = proposal.hash();
    assert!(!twice.is_carried(&question(proposal.document(), None, &hash), 2));
    assert!(twice.is_carried(&question(proposal.document(), None, &hash), 1));
}

#[test]
fn signatures_are_checked_once_as_long_as_nobody_signs() {
    let mut scene = Scene::approved();
    scene.proposal = Proposal::parse(&scene.proposal.to_bytes()).expect("stored");
    let before = VERIFIED.get();
    for _ in 0..3 {
        assert_eq!(scene.proposal.clone().state(NOW), ProposalState::Approved);
        assert!(scene.proposal.is_carried_by(2) && !scene.proposal.is_carried_by(3));
    }
    assert_eq!(VERIFIED.get() - before, 2, "each of the two once");
    scene.approve(&scene.people.person("officer/carol")).expect("approves");
    assert!(scene.proposal.is_carried_by(3));
    assert_eq!(VERIFIED.get() - before, 2 + 1 + 3, "the new one as it came, and all three together");
}

#[test]
fn json_has_one_form() {
    let value = parse_json(br#" {"b" : [1, 2.5, -3, null, true], "a": {"z": "\u00e9\n", "": {}}, "B": []} "#);
    let text = r#"{"B":[],"a":{"":{},"z":"é\n"},"b":[1,2.5,-3,null,true]}"#;
    assert_eq!(canonical_json(&value.expect("JSON")), text);
    assert_eq!(canonical_json(&parse_json(text.as_bytes()).expect("JSON")), text);
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse_json(nested(json::DEPTH_MAX).as_bytes()).is_ok());
    for bad in [
        nested(json::DEPTH_MAX + 1).as_str(),
        &nested(100_000),
        &format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40)),
        r#"{"a":1,"a":1}"#,
        r#"[{"x":{"a":1,"\u0061":2}}]"#,
        "{} {}",
        "",
        "nul",
        "1e400",
    ] {
        assert!(parse_json(bad.as_bytes()).is_err(), "{bad:.40}");
    }
    assert!(parse_json(b"\"\xff\"").is_err());
}

proptest! {
    #[test]
    fn any_document_comes_back_from_bytes_and_json(
        (digits, name, region) in ("[0-9a-f]{16}", "[a-z]{1,31}", "[a-z]{1,31}"),
        (method, path, text) in ("[A-Z]{1,16}", "/[!-~]{0,200}", "\\PC{0,200}"),
        (kek, version) in (proptest::option::of("[A-Za-z0-9_-]{1,64}"), proptest::option::of(1u32..)),
        (policy, created, required) in (any::<[u8; 32]>(), 0i64..200_000_000_000, 2u8..=16),
        key in proptest::option::of(any::<[u8; 32]>()),
    ) {
        let document = ProposalDocument {
            id: format!("p-{digits}"),
            requester: SpiffeId::parse(&format!("spiffe://example.org/region/{region}/officer/{name}")).expect("legal"),
            method,
            path,
            body: canonical_json(&json!({ "text": text })),
            kek: kek.map(|kek| KekName::new(&kek).expect("legal")),
            version: version.and_then(KekVersion::new),
            policy,
            created_unix_s: created,
            expires_unix_s: created + PROPOSAL_LIFE_S,
            required,
        };
        prop_assert_eq!(ProposalDocument::from_json(&document.to_json()), Ok(document.clone()));
        let proposal = Proposal::new(document, key).expect("legal");
        prop_assert_eq!(Proposal::parse(&proposal.to_bytes()), Ok(proposal));
    }
}
