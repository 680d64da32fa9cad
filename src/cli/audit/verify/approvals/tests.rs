//! Approvals that hold and those that do not, as an inspector without the custodian's trust sees them.

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::custodian::approval::{PROPOSAL_LIFE_S, sign_approval};
use crate::custodian::identity::SpiffeId;
use crate::names::{KekName, KekVersion};

const NOW: i64 = 1_800_000_000;
const ID: &str = "p-0123456789abcdef";

struct Person {
    id: String,
    certificate: Vec<u8>,
    key: String,
}

struct World {
    ca: CertifiedIssuer<'static, KeyPair>,
    officers_ca: tempfile::NamedTempFile,
}

impl World {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs itself");
        let officers_ca = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(officers_ca.path(), ca.pem()).expect("writes");
        Self { ca, officers_ca }
    }

    fn person(&self, name: &str) -> Person {
        self.person_with(name, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key"))
    }

    /// Valid for a day around [`NOW`].
    fn person_with(&self, name: &str, key: KeyPair) -> Person {
        let id = format!("spiffe://example.org/region/us/{name}");
        let now = OffsetDateTime::from_unix_timestamp(NOW).expect("a time");
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (now - Duration::DAY, now + Duration::DAY);
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(id.as_str()).expect("ASCII"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.ca).expect("signs").der().to_vec();
        Person { id, certificate, key: key.serialize_pem() }
    }

    /// What is found in a log with these entries.
    fn check(&self, entries: &[Value]) -> Result<Approved> {
        let logs: Vec<(usize, &Value)> = entries.iter().map(|entry| (0, entry)).collect();
        self.check_logs(&logs)
    }

    fn check_logs(&self, entries: &[(usize, &Value)]) -> Result<Approved> {
        let mut approvals = Approvals::new(self.officers_ca.path())?;
        for (index, (log, entry)) in (0..).zip(entries) {
            approvals.take(*log, &Entry::new(index, entry.to_string().into_bytes()))?;
        }
        approvals.check()
    }

    fn refused(&self, entries: &[Value], expected: &str) {
        let error = self.check(entries).expect_err(expected);
        assert!(error.is::<Finding>() && error.to_string().contains(expected), "{error:#} is not {expected:?}");
    }
}

fn at(second: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(NOW + second).expect("a time");
    time.format(&Rfc3339).expect("a time")
}

fn document(requester: &Person) -> ProposalDocument {
    ProposalDocument {
        id: ID.to_owned(),
        requester: SpiffeId::parse(&requester.id).expect("an id"),
        method: "POST".to_owned(),
        path: "/v1/transit/keys/records/trim".to_owned(),
        body: r#"{"min_available_version":2}"#.to_owned(),
        kek: Some(KekName::new("records").expect("a name")),
        version: KekVersion::new(3),
        policy: [7; 32],
        created_unix_s: NOW,
        expires_unix_s: NOW + PROPOSAL_LIFE_S,
        required: 2,
    }
}

fn propose(requester: &Person, document: &ProposalDocument) -> Value {
    json!({
        "time": at(0), "principal": requester.id, "action": "propose", "kek": "records", "decision": "allow",
        "proposal": document.id, "subject": document.id, "detail": document.to_json(),
    })
}

fn vote(second: i64, officer: &Person, verb: Verb, document: &ProposalDocument) -> Value {
    let signed = sign_approval(
        officer.key.as_bytes(),
        &officer.certificate,
        Subject::Proposal,
        verb,
        &document.hash(),
        NOW + second,
    );
    let signed = signed.expect("signs");
    json!({
        "time": at(second), "principal": officer.id, "action": verb.as_str(), "kek": "records", "decision": "allow",
        "proposal": document.id, "detail": signed.to_json(),
    })
}

fn trim(second: i64, requester: &Person) -> Value {
    json!({
        "time": at(second), "principal": requester.id, "action": "trim", "kek": "records", "version": 3, "decision": "allow",
        "proposal": ID, "policy_sha256": "07".repeat(32), "detail": {"min_available": 2},
    })
}

fn with(entry: &Value, field: &str, value: impl Into<Value>) -> Value {
    let mut entry = entry.clone();
    entry[field] = value.into();
    entry
}

#[test]
fn what_enough_officers_approved_is_good_and_nothing_less() {
    let world = World::new();
    let [rita, ann, bob] = ["operator/rita", "officer/ann", "officer/bob"].map(|name| world.person(name));
    let document = document(&rita);
    let (proposed, trimmed) = (propose(&rita, &document), trim(30, &rita));
    let (first, second) = (vote(10, &ann, Verb::Approve, &document), vote(20, &bob, Verb::Approve, &document));
    let all = [proposed, first, second, trimmed].map(|entry| entry);
    let [proposed, first, second, trimmed] = &all;
    let log = |entries: &[&Value]| entries.iter().map(|entry| (*entry).clone()).collect::<Vec<_>>();

    let good = world.check(&all).expect("approved");
    assert_eq!((good.proposals, good.votes, good.changes, good.notes.len()), (1, 2, 1, 0));
    // Denied ones, and those that a conflict had written down again, count for nothing.
    let repeated = log(&[proposed, first, first, second, &with(trimmed, "decision", "deny"), trimmed, trimmed]);
    let notes = world.check(&repeated).expect("approved").notes;
    assert!(notes.len() == 1 && notes[0].contains("entries 5 and 6"), "{notes:?}");

    world.refused(&log(&[proposed, first, trimmed]), "1 of 2 approvals");
    world.refused(&log(&[proposed, first, first, trimmed]), "1 of 2 approvals");
    world.refused(&log(&[proposed, first, trimmed, second]), "1 of 2 approvals");
    world.refused(&log(&[first, second, trimmed]), "is not in the log");
    world.refused(&log(&[&with(trimmed, "proposal", Value::Null)]), "without a proposal");
    let veto = vote(25, &bob, Verb::Veto, &document);
    world.refused(&log(&[proposed, first, second, &veto, trimmed]), "was vetoed");
    world.refused(&log(&[proposed, first, second, &trim(PROPOSAL_LIFE_S, &rita)]), "had expired");
    world.refused(&log(&[proposed, first, second, &trim(30, &ann)]), "someone else");
    let elsewhere = with(trimmed, "action", "delete");
    world.refused(&log(&[proposed, first, second, &elsewhere]), "something else");
    world.refused(&log(&[proposed, first, second, &with(trimmed, "kek", "others")]), "something else");
    world.refused(&log(&[proposed, first, second, &with(trimmed, "policy_sha256", "00")]), "another policy");
}

#[test]
fn approvals_that_nobody_gave_are_found() {
    let world = World::new();
    let [rita, ann, bob] = ["officer/rita", "officer/ann", "officer/bob"].map(|name| world.person(name));
    let document = document(&rita);
    let (proposed, first) = (propose(&rita, &document), vote(10, &ann, Verb::Approve, &document));
    let check = |second: Value, expected: &str| {
        world.refused(&[proposed.clone(), first.clone(), second, trim(30, &rita)], expected);
    };
    check(vote(20, &rita, Verb::Approve, &document), "their own proposal");
    let outsider = World::new().person("officer/bob");
    check(vote(20, &outsider, Verb::Approve, &document), "certificate does not hold");
    // The same key under two names is one person.
    let key = KeyPair::from_pem(&ann.key).expect("a key");
    check(vote(20, &world.person_with("officer/anna", key), Verb::Approve, &document), "1 of 2 approvals");
    let mut other = document.clone();
    other.body = r#"{"min_available_version":3}"#.to_owned();
    check(vote(20, &bob, Verb::Approve, &other), "not of this officer over this hash");
    check(with(&vote(20, &bob, Verb::Veto, &document), "action", "approve"), "not of this officer over this hash");
    check(with(&vote(20, &bob, Verb::Approve, &document), "principal", ann.id.as_str()), "lacks what can be checked");
    check(with(&vote(20, &bob, Verb::Approve, &document), "detail", Value::Null), "lacks what can be checked");
    check(vote(2 * 24 * 3600, &bob, Verb::Approve, &document), "certificate does not hold");
    let own = with(&proposed, "principal", ann.id.as_str());
    world.refused(&[own], "not that of its entry");
    let mut twice = document.clone();
    twice.path += "x";
    world.refused(&[proposed.clone(), propose(&rita, &twice)], "two proposals");
}

#[test]
fn peers_may_hold_the_proposal_and_its_approvals() {
    let world = World::new();
    let [rita, ann, bob] = ["operator/rita", "officer/ann", "officer/bob"].map(|name| world.person(name));
    let document = document(&rita);
    let (proposed, trimmed) = (propose(&rita, &document), trim(30, &rita));
    let (first, second) = (vote(10, &ann, Verb::Approve, &document), vote(20, &bob, Verb::Approve, &document));
    world.check_logs(&[(0, &trimmed), (0, &second), (1, &proposed), (1, &first)]).expect_err("one came after");
    world.check_logs(&[(0, &second), (0, &trimmed), (1, &proposed), (1, &first)]).expect("approved");
    let late = vote(40, &ann, Verb::Approve, &document);
    world.check_logs(&[(0, &second), (0, &trimmed), (1, &proposed), (1, &late)]).expect_err("one came after");
}

#[test]
fn a_key_that_lets_itself_out_is_made_as_it_was_approved() {
    let world = World::new();
    let [rita, ann, bob] = ["operator/rita", "officer/ann", "officer/bob"].map(|name| world.person(name));
    let mut document = document(&rita);
    document.path = "/v1/transit/keys/records".to_owned();
    document.body = r#"{"exportable":true}"#.to_owned();
    let votes = [&ann, &bob].map(|officer| vote(10, officer, Verb::Approve, &document));
    let check = |action: &str| {
        let change = with(&trim(30, &rita), "action", action);
        let log = [propose(&rita, &document), votes[0].clone(), votes[1].clone(), change];
        world.check(&log).map(drop)
    };
    check("create").expect("approved");
    check("trim").expect_err("something else");
}

#[test]
fn destructions_and_backups_were_approved_as_what_they_are() {
    let world = World::new();
    let [rita, ann, bob] = ["operator/rita", "officer/ann", "officer/bob"].map(|name| world.person(name));
    let check = |path: &str, action: &str, kek: bool, proposal: bool| {
        let mut document = document(&rita);
        document.path = format!("/v1/sys/claviger/{path}");
        document.body = "{}".to_owned();
        let votes = [&ann, &bob].map(|officer| vote(10, officer, Verb::Approve, &document));
        let mut change = with(&trim(30, &rita), "action", action);
        let fields = change.as_object_mut().expect("an object");
        if !kek {
            fields.remove("kek");
            fields.remove("version");
        }
        if !proposal {
            fields.remove("proposal");
        }
        world.check(&[propose(&rita, &document), votes[0].clone(), votes[1].clone(), change]).map(drop)
    };
    for (path, action, kek) in [
        ("keys/records/destroy", "destroy", true),
        ("keys/records/erase", "erase", true),
        ("backup", "backup", false),
        ("restore", "restore-backup", false),
    ] {
        check(path, action, kek, true).unwrap_or_else(|refused| panic!("{action}: {refused:#}"));
        check(path, action, kek, false).expect_err("without a proposal");
    }
    check("keys/records/destroy", "erase", true, true).expect_err("the first quorum is not the second");
    check("keys/others/erase", "erase", true, true).expect_err("another key");
    check("restore", "backup", false, true).expect_err("something else");
    check("keys/records/ledger-whole", "restore-backup", true, true).expect("two officers said that a ledger is whole");
    check("keys/records/ledger-whole", "restore-backup", true, false).expect_err("nobody else can");
    check("keys/others/ledger-whole", "restore-backup", true, true).expect_err("another key");
    let mut taken_in = with(&trim(30, &rita), "action", "restore-backup");
    let fields = taken_in.as_object_mut().expect("an object");
    let _ = ["version", "proposal"].map(|field| fields.remove(field));
    world.check(&[taken_in]).map(drop).expect("branch keys open by themselves or not at all");
}

#[test]
fn what_needs_no_proposal_at_first_is_noted() {
    let world = World::new();
    let entry = json!({"time": at(0), "action": "change-policy", "decision": "allow", "subject": "00"});
    let absent = json!({"time": at(0), "action": "delete", "decision": "allow", "kek": "absent"});
    let notes = world.check(&[absent, entry]).expect("nothing was done").notes;
    assert_eq!(notes, ["entry 1: change-policy without a proposal"]);
}
