//! Destructions as bytes, and what a name of a record stands for.

use super::*;
use crate::custodian::approval::ProposalDocument;
use crate::custodian::approval::testing::{NOW, People};
use crate::custodian::approval::{PROPOSAL_LIFE_S, Subject, Verb};
use crate::custodian::kek::{KekInfo, KeyType};

/// A proposal that two officers carried.
fn carried() -> Proposal {
    carried_as(|_| ())
}

/// As another one than that.
fn carried_as(change: impl FnOnce(&mut ProposalDocument)) -> Proposal {
    let people = People::new();
    let [rita, alice, bob] = ["rita", "alice", "bob"].map(|name| people.person(&format!("officer/{name}")));
    let mut document = ProposalDocument {
        id: "p-0123456789abcdef".to_owned(),
        requester: rita.asks().id,
        method: "POST".to_owned(),
        path: "/v1/sys/claviger/keys/records/destroy".to_owned(),
        body: "{}".to_owned(),
        kek: Some(KekName::new("records").expect("legal")),
        version: KekVersion::new(2),
        policy: [7; 32],
        created_unix_s: NOW,
        expires_unix_s: NOW + PROPOSAL_LIFE_S,
        required: 2,
    };
    change(&mut document);
    let mut proposal = Proposal::new(document, None).expect("legal");
    for officer in [&alice, &bob] {
        let approval = officer.signs(Subject::Proposal, Verb::Approve, &proposal.hash());
        proposal.approve(&officer.asks(), approval, NOW).expect("approves");
    }
    proposal.execute(&rita.asks().id, NOW + 60).expect("is carried out");
    proposal
}

fn destruction(through: Option<u32>, state: State) -> Destruction {
    Destruction {
        target: Target { kek: KekName::new("records").expect("legal"), through: through.and_then(KekVersion::new) },
        labels: Labels::new([("jurisdiction".to_owned(), "us".to_owned())].into()).expect("legal"),
        wait: Wait::days(30),
        scheduled: carried(),
        state,
    }
}

fn states() -> [State; 3] {
    let by = SpiffeId::parse("spiffe://example.org/region/us/officer/bob").expect("legal");
    [
        State::Waiting,
        State::Cancelled { by, at_unix_s: NOW + 70 },
        State::Erased { at_unix_s: NOW + 80, certificate: "a note\n".to_owned() },
    ]
}

#[test]
fn a_destruction_comes_back_and_no_part_of_it_parses() {
    for (through, state) in [None, Some(2), Some(1)].into_iter().zip(states()) {
        let destruction = destruction(through, state);
        let bytes = destruction.to_bytes();
        assert_eq!(Destruction::parse(&bytes).as_ref(), Ok(&destruction));
        for cut in 0..bytes.len() {
            assert!(Destruction::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Destruction::parse(&[&bytes[..], b"\0"].concat()).is_err());
    }
    let pending = Destruction { wait: Wait { seconds: u64::MAX, insecure: true }, ..destruction(None, State::Waiting) };
    assert!(Destruction::parse(&pending.to_bytes()).is_err(), "a wait beyond all bounds");
}

#[test]
fn it_is_told_where_it_stands() {
    let state = |one: &Destruction, now| one.to_json(now)["state"].as_str().map(str::to_owned).expect("a text");
    let [waiting, cancelled, erased] = states().map(|state| destruction(None, state));
    let due = NOW + 60 + 30 * 24 * 3600;
    assert_eq!(waiting.due_unix_s(), due);
    assert_eq!((state(&waiting, due - 1), state(&waiting, due)), ("waiting".to_owned(), "due".to_owned()));
    assert_eq!((state(&cancelled, due), state(&erased, NOW)), ("cancelled".to_owned(), "erased".to_owned()));
    assert_eq!(destruction(Some(2), State::Waiting).target.record_name(), "records:v2");
}

/// What a certificate would say with those two quorums, `wait_s` seconds apart.
fn certificate(through: Option<u32>, scheduled: Proposal, erasing: &Proposal, wait_s: u64) -> Value {
    let wait = Wait { seconds: wait_s, insecure: true };
    let destruction = Destruction { wait, scheduled, ..destruction(through, State::Waiting) };
    let number = |number| KekVersion::new(number).expect("not zero");
    let kek = KekInfo {
        name: KekName::new("records").expect("legal"),
        key_type: KeyType::default(),
        derived: true,
        exportable: false,
        allow_plaintext_backup: false,
        deletion_allowed: false,
        auto_rotate_period_s: 0,
        min_decryption: 1,
        min_encryption: 0,
        min_available: 0,
        latest: number(2),
        disabled: true,
        soft_deleted: false,
        restored_through: None,
        labels: Labels::default(),
        versions: vec![(number(1), NOW - 100), (number(2), NOW - 50)],
    };
    let lost = Lost::default();
    let text = certificate_text(&Certified {
        destruction: &destruction,
        erasing,
        kek: &kek,
        instance: "custodian-1",
        log_index: 7,
        at_unix_s: NOW + 500,
        lost: &lost,
    });
    let text = text.expect("fits");
    let (_, body) = text.split_once('\n').expect("two parts");
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn only_quorums_about_this_destruction_carry_its_certificate() {
    let first = || carried();
    let second = |change: &dyn Fn(&mut ProposalDocument)| {
        carried_as(|document| {
            "p-fedcba9876543210".clone_into(&mut document.id);
            "/v1/sys/claviger/keys/records/erase".clone_into(&mut document.path);
            document.created_unix_s = NOW + 60;
            change(document);
            document.expires_unix_s = document.created_unix_s + PROPOSAL_LIFE_S;
        })
    };
    let right = second(&|_| ());
    let is_approved = |certificate: &Value| certificate::is_approved(certificate).is_some();
    let good = certificate(None, first(), &right, 0);
    assert!(is_approved(&good));
    assert_eq!(signatures_left_out(&good), 0);
    type Change = &'static dyn Fn(&mut ProposalDocument);
    let others: [(&str, Change); 8] = [
        ("switching it on", &|document| "/v1/sys/claviger/keys/records/enable".clone_into(&mut document.path)),
        ("the first step again", &|document| "/v1/sys/claviger/keys/records/destroy".clone_into(&mut document.path)),
        ("another key's path", &|document| "/v1/sys/claviger/keys/other/erase".clone_into(&mut document.path)),
        ("another method", &|document| "DELETE".clone_into(&mut document.method)),
        ("a version of it", &|document| "{\"version\":1}".clone_into(&mut document.body)),
        ("as it was before", &|document| document.version = KekVersion::new(1)),
        ("before the waiting was over", &|document| document.created_unix_s = NOW + 59),
        ("the same proposal", &|document| "p-0123456789abcdef".clone_into(&mut document.id)),
    ];
    for (what, change) in others {
        assert!(!is_approved(&certificate(None, first(), &second(change), 0)), "{what}");
    }
    assert!(!is_approved(&certificate(None, first(), &right, 1)), "a second too early");
    assert!(!is_approved(&certificate(Some(2), first(), &right, 0)), "they were asked about all of it");
    let enabling = carried_as(|document| "/v1/sys/claviger/keys/records/enable".clone_into(&mut document.path));
    assert!(!is_approved(&certificate(None, enabling, &right, 0)));
    let of_versions = |document: &mut ProposalDocument| "{\"version\":2}".clone_into(&mut document.body);
    let versions = certificate(Some(2), carried_as(of_versions), &second(&of_versions), 0);
    assert!(is_approved(&versions));
    let mut short = good.clone();
    for quorum in ["first_quorum", "second_quorum"] {
        let approvals = short[quorum]["approvals"].as_array_mut().expect("a list");
        approvals.iter_mut().for_each(|one| drop(one.as_object_mut().expect("one").remove("certificate")));
    }
    assert_eq!(signatures_left_out(&short), 4, "whoever shows it says so");
}
