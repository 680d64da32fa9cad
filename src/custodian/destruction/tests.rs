//! Destructions as bytes, and what a name of a record stands for.

use super::*;
use crate::custodian::approval::ProposalDocument;
use crate::custodian::approval::testing::{NOW, People};
use crate::custodian::approval::{PROPOSAL_LIFE_S, Subject, Verb};

/// A proposal that two officers carried.
fn carried() -> Proposal {
    let people = People::new();
    let [rita, alice, bob] = ["rita", "alice", "bob"].map(|name| people.person(&format!("officer/{name}")));
    let document = ProposalDocument {
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
