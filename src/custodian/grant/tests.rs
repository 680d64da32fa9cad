//! Tests of what a grant covers, who gives it and when it ends.

use serde_json::json;

use super::*;
use crate::custodian::approval::testing::{NOW, People, Person};
use crate::custodian::approval::{ApprovalError, Verb};
use crate::custodian::audit::Action;

const SUPPORT: &str = "spiffe://example.org/region/us/support/sam";

fn wanted() -> NewGrant {
    NewGrant {
        principal: SUPPORT.to_owned(),
        keks: ["records", "invoices"].map(|name| KekName::new(name).expect("legal")).into(),
        actions: [GrantedAction::Unwrap].into(),
        reason: Reason::CustomerSupport,
        justification: "ticket 4711".to_owned(),
        duration_s: 3600,
    }
}

fn document(requested_by: &Person, wanted: NewGrant) -> GrantDocument {
    let requested_by = requested_by.asks().id;
    GrantDocument { id: "g-0123456789abcdef".to_owned(), wanted, requested_by, requested_unix_s: NOW, required: 2 }
}

struct Scene {
    people: People,
    sam: Person,
    grant: Grant,
}

impl Scene {
    fn new(wanted: NewGrant) -> Self {
        let people = People::new();
        let sam = people.person("support/sam");
        let grant = Grant::new(document(&sam, wanted), Some(sam.asks().key_sha256)).expect("legal");
        Self { people, sam, grant }
    }

    fn approve(&mut self, who: &Person) -> Result<(), ApprovalError> {
        let approval = who.signs(Subject::Grant, Verb::Approve, &self.grant.hash());
        self.grant.approve(&who.asks(), approval, NOW + 10)
    }

    fn active(wanted: NewGrant) -> Self {
        let mut scene = Self::new(wanted);
        for name in ["officer/alice", "officer/bob"] {
            scene.approve(&scene.people.person(name)).expect("approves");
        }
        scene
    }

    fn asks(&self) -> Requester {
        Requester { reason: Reason::CustomerSupport, ..self.sam.asks() }
    }
}

fn use_of(action: Action, kek: &str) -> Use {
    Use { kek: Some(KekName::new(kek).expect("legal")), ..Use::of_custodian(action) }
}

#[test]
fn it_is_in_force_from_the_last_approval_until_its_end() {
    let mut scene = Scene::new(wanted());
    let (who, what) = (scene.asks(), use_of(Action::Unwrap, "records"));
    scene.approve(&scene.people.person("officer/alice")).expect("one");
    assert_eq!(scene.grant.state(NOW + 10), GrantState::Requested);
    assert!(!scene.grant.covers(&who, &what, NOW + 10), "one officer of two");
    scene.approve(&scene.people.person("officer/bob")).expect("two");
    assert_eq!(scene.grant.expires_unix_s(), Some(NOW + 3610));
    for (now, covered) in [(NOW + 9, false), (NOW + 10, true), (NOW + 3609, true), (NOW + 3610, false)] {
        assert_eq!(scene.grant.covers(&who, &what, now), covered, "{now}");
    }
    assert_eq!(scene.grant.state(NOW + 3610), GrantState::Expired);
    let carol = scene.people.person("officer/carol");
    assert_eq!(scene.approve(&carol), Err(ApprovalError::InForce), "no longer by more approvals");
}

#[test]
fn it_covers_what_was_signed_for_and_no_more() {
    let scene = Scene::active(wanted());
    let who = scene.asks();
    let covers = |who: &Requester, what: &Use| scene.grant.covers(who, what, NOW + 11);
    assert!(covers(&who, &use_of(Action::Unwrap, "invoices")));
    assert!(!covers(&who, &use_of(Action::Unwrap, "other")), "another KEK");
    assert!(!covers(&who, &Use::of_custodian(Action::Unwrap)), "no KEK");
    for action in Action::ALL.iter().filter(|action| **action != Action::Unwrap) {
        assert!(!covers(&who, &use_of(*action, "records")), "{action:?}");
    }
    let what = use_of(Action::Unwrap, "records");
    for reason in Reason::ALL {
        assert_eq!(covers(&Requester { reason, ..who.clone() }, &what), reason == Reason::CustomerSupport);
    }
    let other = Requester { reason: Reason::CustomerSupport, ..scene.people.person("support/sue").asks() };
    assert!(!covers(&other, &what), "another principal");
    // A name is never taken for an id, nor an id for a name.
    let named = Requester { behalf: Some(Principal::new("support/sam").expect("legal")), ..other };
    assert!(!covers(&named, &what));
}

#[test]
fn for_a_client_it_counts_only_when_the_proxy_says_that_very_name() {
    let scene = Scene::active(NewGrant { principal: "sam@support".to_owned(), ..wanted() });
    let proxy = Requester { reason: Reason::CustomerSupport, ..scene.people.person("proxy/p1").asks() };
    let what = use_of(Action::Unwrap, "records");
    let behalf = |name: &str| Requester { behalf: Some(Principal::new(name).expect("legal")), ..proxy.clone() };
    assert!(scene.grant.covers(&behalf("sam@support"), &what, NOW + 11));
    for name in ["sam", "Sam@support", "sam@support2", "sam@suppor"] {
        assert!(!scene.grant.covers(&behalf(name), &what, NOW + 11), "{name}");
    }
    assert!(!scene.grant.covers(&proxy, &what, NOW + 11), "for nobody");
}

#[test]
fn neither_who_asks_nor_who_gains_approves() {
    let people = People::new();
    let (rita, alice) = (people.person("officer/rita"), people.person("officer/alice"));
    let principal = alice.asks().id.to_string();
    let document = document(&rita, NewGrant { principal, ..wanted() });
    let grant = Grant::new(document, Some(rita.asks().key_sha256)).expect("legal");
    let mut scene = Scene { people, sam: rita, grant };
    let alias = scene.people.person_with_key("officer/rosa", scene.sam.key_again());
    let rita = scene.people.person_with_key("officer/rita", scene.sam.key_again());
    for who in [&rita, &alias, &alice] {
        assert_eq!(scene.approve(who), Err(ApprovalError::OwnRequest));
    }
    let bob = scene.people.person("officer/bob");
    scene.approve(&bob).expect("one");
    assert_eq!(scene.approve(&bob), Err(ApprovalError::AlreadyApproved));
    let support = scene.people.person("support/sue");
    let hash = scene.grant.hash();
    let approval = bob.signs(Subject::Proposal, Verb::Approve, &hash);
    assert_eq!(scene.grant.approve(&bob.asks(), approval, NOW), Err(ApprovalError::NotAuthentic), "for a proposal");
    let borrowed = bob.signs(Subject::Grant, Verb::Approve, &hash);
    assert_eq!(scene.grant.approve(&support.asks(), borrowed, NOW), Err(ApprovalError::OtherCertificate));
}

#[test]
fn it_is_denied_revoked_or_forgotten() {
    let bob = People::new().person("officer/bob");
    let mut denied = Scene::new(wanted());
    let veto = bob.signs(Subject::Grant, Verb::Veto, &denied.grant.hash());
    denied.grant.deny(&bob.asks(), veto, NOW + 1).expect("denies");
    assert_eq!(denied.grant.state(NOW + 1), GrantState::Denied);
    assert_eq!(denied.approve(&bob), Err(ApprovalError::Stopped));

    let mut revoked = Scene::active(wanted());
    let (who, what) = (revoked.asks(), use_of(Action::Unwrap, "records"));
    assert!(revoked.grant.covers(&who, &what, NOW + 20));
    revoked.grant.revoke(&bob.asks().id, NOW + 20).expect("ends it");
    assert!(!revoked.grant.covers(&who, &what, NOW + 20));
    assert_eq!(revoked.grant.state(NOW + 20), GrantState::Revoked);
    assert_eq!(revoked.grant.revoke(&bob.asks().id, NOW + 21), Err(ApprovalError::Stopped));

    let mut forgotten = Scene::new(wanted());
    let late = NOW + REQUEST_LIFE_S;
    assert_eq!(forgotten.grant.state(late), GrantState::Expired);
    let approval = bob.signs(Subject::Grant, Verb::Approve, &forgotten.grant.hash());
    assert_eq!(forgotten.grant.approve(&bob.asks(), approval, late), Err(ApprovalError::Expired));
}

#[test]
fn what_is_no_grant_is_refused() {
    let refused = |change: fn(&mut NewGrant)| {
        let mut changed = wanted();
        change(&mut changed);
        NewGrant::from_json(&changed.to_json()).expect_err("must be refused")
    };
    assert_eq!(refused(|wanted| wanted.principal = "a b".to_owned()), InvalidGrant::Principal);
    assert_eq!(refused(|wanted| wanted.keks.clear()), InvalidGrant::Keks);
    let many = |wanted: &mut NewGrant| {
        wanted.keks = (0..=KEKS_MAX).map(|n| KekName::new(&format!("k{n}")).expect("legal")).collect();
    };
    assert_eq!(refused(many), InvalidGrant::Keks);
    assert_eq!(refused(|wanted| wanted.actions.clear()), InvalidGrant::Actions);
    assert_eq!(refused(|wanted| wanted.reason = Reason::Unspecified), InvalidGrant::Reason);
    assert_eq!(refused(|wanted| wanted.justification = " ".to_owned()), InvalidGrant::Justification);
    assert_eq!(refused(|wanted| wanted.justification = "j".repeat(501)), InvalidGrant::Justification);
    assert_eq!(refused(|wanted| wanted.justification = "a\u{1b}[2Jb".to_owned()), InvalidGrant::Justification);
    assert_eq!(refused(|wanted| wanted.duration_s = DURATION_MAX_S + 1), InvalidGrant::Duration);
    assert_eq!(refused(|wanted| wanted.duration_s = 0), InvalidGrant::Duration);
    let mut other = wanted().to_json();
    other["actions"] = json!(["unwrap", "delete"]);
    assert_eq!(NewGrant::from_json(&other), Err(InvalidGrant::Actions));
    other["duration_s"] = json!(1u64 << 40);
    assert!(NewGrant::from_json(&other).is_err());
}

#[test]
fn the_hash_covers_every_field_and_json_comes_back() {
    let sam = People::new().person("support/sam");
    let made = document(&sam, wanted());
    assert_eq!(GrantDocument::from_json(&made.to_json()), Ok(made.clone()));
    let with = |wanted: NewGrant| GrantDocument { wanted, ..made.clone() };
    let others = [
        GrantDocument { id: "g-0123456789abcdee".to_owned(), ..made.clone() },
        GrantDocument { requested_by: SpiffeId::parse(SUPPORT.trim_end_matches('m')).expect("legal"), ..made.clone() },
        GrantDocument { requested_unix_s: NOW + 1, ..made.clone() },
        GrantDocument { required: 1, ..made.clone() },
        with(NewGrant { principal: "sam".to_owned(), ..wanted() }),
        with(NewGrant { keks: [KekName::new("records").expect("legal")].into(), ..wanted() }),
        with(NewGrant { actions: GrantedAction::ALL.into(), ..wanted() }),
        with(NewGrant { reason: Reason::Maintenance, ..wanted() }),
        with(NewGrant { justification: "ticket 4712".to_owned(), ..wanted() }),
        with(NewGrant { duration_s: 3601, ..wanted() }),
    ];
    for other in others {
        assert_ne!(other.hash(), made.hash(), "{other:?}");
    }
}

#[test]
fn stored_bytes_come_back_and_nothing_else_parses() {
    let mut revoked = Scene::active(wanted());
    revoked.grant.revoke(&revoked.sam.asks().id, NOW + 20).expect("ends it");
    for grant in [revoked.grant, Scene::active(wanted()).grant, Scene::new(wanted()).grant] {
        let bytes = grant.to_bytes();
        assert_eq!(Grant::parse(&bytes), Ok(grant.clone()));
        for cut in 0..bytes.len() {
            assert!(Grant::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Grant::parse(&[&bytes[..], b"\0"].concat()).is_err());
        let shown = grant.to_json(NOW + 10);
        assert_eq!(shown["state"], grant.state(NOW + 10).as_str());
        assert_eq!(shown["started"].is_null(), shown["approvals"].as_array().is_none_or(Vec::is_empty));
    }
}

#[test]
fn actions_that_can_be_granted_are_actions_of_the_log() {
    for granted in GrantedAction::ALL {
        assert!(Action::ALL.iter().any(|action| action.as_str() == granted.as_str()), "{granted:?}");
    }
}
