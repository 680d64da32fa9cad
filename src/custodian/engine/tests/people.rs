//! Who is shut out, who is let in for a time, and how the policy changes.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::*;
use crate::custodian::grant::{GrantState, GrantedAction, NewGrant};
use crate::custodian::kek::DataKeyLen;
use crate::names::Principal;

on_both!(
    a_revoked_id_certificate_or_client_is_denied_everything,
    a_grant_opens_for_its_time_and_no_longer,
    a_grant_for_a_client_opens_nothing_to_a_proxy_that_may_not,
    approvals_of_a_revoked_officer_no_longer_count,
    approvals_are_not_kept_for_the_next_time,
    an_old_proposal_takes_as_many_as_a_new_one,
    what_happens_while_a_watch_is_decided_is_told,
    one_person_leaves_room_for_others,
    another_policy_waits_for_two_officers,
);

async fn a_revoked_id_certificate_or_client_is_denied_everything(database: Database) {
    let custodian = Custodian::new(&database).await;
    let (engine, officers) = (&custodian.engine, Officers::new());
    let rita = officers.rita.asks();
    let generates = async |who: &Requester| {
        let context = BranchContext { id: BranchId::random().expect("random"), ..context("proxy/us", 0) };
        let request = GenerateRequest { context: context.to_bytes(), ..GenerateRequest::default() };
        engine.generate(who, &kek(), DataKeyLen::Bits256, request).await.map(drop)
    };
    let client = Requester { behalf: Some(Principal::new("mallory").expect("legal")), ..proxy() };
    let renewed = Requester { certificate_sha256: [9; 32], ..proxy() };
    let certificate = format!("certificate:{}", crate::custodian::approval::json::hex(&[9; 32]));
    for (principal, shut_out, others) in [
        ("mallory", vec![&client], vec![proxy(), renewed.clone()]),
        (certificate.as_str(), vec![&renewed], vec![proxy()]),
        ("spiffe://example.org/region/us/proxy/p1", vec![&client, &renewed], vec![who("us/proxy/p2")]),
    ] {
        shut_out.iter().for_each(|who| assert!(!engine.view().is_shut_out(who)));
        engine.revoke_principal(&rita, principal, "a test").await.expect("revokes");
        for who in shut_out {
            assert!(matches!(generates(who).await, Err(EngineError::Denied)), "{principal}");
            assert!(matches!(engine.key(who, &kek()).await, Err(EngineError::Denied)));
        }
        for who in others {
            generates(&who).await.expect("is not meant");
        }
        let call = GatedCall { method: "DELETE", path: format!("/v1/revocations/{principal}"), body: String::new() };
        let id = proposal_of(engine.reinstate(&rita, principal, &call).await);
        approve(engine, &officers.alice, &id).await.expect("one");
        approve(engine, &officers.bob, &id).await.expect("two");
        engine.reinstate(&rita, principal, &call).await.expect("lets in again");
    }
    generates(&client).await.expect("is in again");
    let denied: Vec<_> = custodian.log().await.into_iter().filter(|entry| entry["denied_by"] == "revoked").collect();
    assert_eq!(denied.len(), 8);
    assert!(matches!(engine.revoke_principal(&rita, "a b", "").await, Err(EngineError::Revocation(_))));
}

fn wanted() -> NewGrant {
    NewGrant {
        principal: "spiffe://example.org/region/sg/support/sue".to_owned(),
        keks: BTreeSet::from([kek()]),
        actions: BTreeSet::from([GrantedAction::Unwrap]),
        reason: Reason::CustomerSupport,
        justification: "ticket 4711".to_owned(),
        duration_s: 3600,
    }
}

async fn a_grant_opens_for_its_time_and_no_longer(database: Database) {
    let custodian = Custodian::new(&database).await;
    let (engine, officers) = (&custodian.engine, Officers::new());
    let sue = Requester { reason: Reason::CustomerSupport, ..who("sg/support/sue") };
    let request = for_branch("proxy/us", 1);
    let made = engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, request.clone()).await.expect("generates").value;
    let opens =
        async |who: &Requester| engine.decrypt(who, &kek(), &made.ciphertext, &request.context, b"").await.map(drop);
    let rita = officers.rita.asks();
    let grant = engine.request_grant(&rita, wanted()).await.expect("asks").value;
    assert!(matches!(opens(&sue).await, Err(EngineError::Denied)), "not approved yet");
    let approval = officers.rita.signs(Subject::Grant, Verb::Approve, &grant.hash());
    assert!(matches!(engine.approve_grant(&rita, grant.id(), approval).await, Err(EngineError::Approval(_))));
    let alice = officers.alice.asks();
    let approval = officers.alice.signs(Subject::Grant, Verb::Approve, &grant.hash());
    engine.approve_grant(&alice, grant.id(), approval).await.expect("approves");
    opens(&sue).await.expect("is granted");
    assert_eq!(custodian.log().await.last().expect("an entry")["grant"], *grant.id());
    assert!(opens(&Requester { reason: Reason::Maintenance, ..sue.clone() }).await.is_err(), "another reason");
    assert!(engine.rotate(&sue, &kek()).await.is_err(), "another action");
    // The clock goes back: nothing lasts longer for it. It goes on by more than the grant lasts: over.
    let now = engine.now_unix_s();
    engine.clock.set_off_s.store(-7200, Ordering::Relaxed);
    assert!((now..now + 60).contains(&engine.now_unix_s()));
    engine.clock.set_off_s.store(3601, Ordering::Relaxed);
    assert!(matches!(opens(&sue).await, Err(EngineError::Denied)), "expired");
    engine.clock.set_off_s.store(0, Ordering::Relaxed);
    opens(&sue).await.expect("the clock was wrong, and is right again");
    let officer = officers.alice.asks().id.to_string();
    engine.revoke_principal(&rita, &officer, "her key was stolen").await.expect("revokes");
    assert!(matches!(opens(&sue).await, Err(EngineError::Denied)), "what she granted is over with her");
    let call = GatedCall { method: "DELETE", path: format!("/v1/revocations/{officer}"), body: String::new() };
    let id = proposal_of(engine.reinstate(&rita, &officer, &call).await);
    approve(engine, &officers.bob, &id).await.expect("one");
    approve(engine, &officers.people.person("officer/carol"), &id).await.expect("two");
    engine.reinstate(&rita, &officer, &call).await.expect("lets in again");
    opens(&sue).await.expect("her word counts again");
    let ended = engine.end_grant(&alice, grant.id(), None).await.expect("ends").value;
    assert_eq!(ended.state(engine.now_unix_s()), GrantState::Revoked);
    assert!(matches!(opens(&sue).await, Err(EngineError::Denied)), "ended");
    assert!(matches!(engine.end_grant(&alice, "g-none", None).await, Err(EngineError::NoSuchGrant)));
    assert_eq!(engine.grants(&alice).await.expect("lists").value.len(), 1);
}

/// A proxy names its client as it likes.
async fn a_grant_for_a_client_opens_nothing_to_a_proxy_that_may_not(database: Database) {
    let custodian = Custodian::new(&database).await;
    let (engine, officers) = (&custodian.engine, Officers::new());
    let request = for_branch("proxy/us", 1);
    let made = engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, request.clone()).await.expect("generates").value;
    let wanted = NewGrant { principal: "sue".to_owned(), ..wanted() };
    let grant = engine.request_grant(&officers.rita.asks(), wanted).await.expect("asks").value;
    let approval = officers.alice.signs(Subject::Grant, Verb::Approve, &grant.hash());
    engine.approve_grant(&officers.alice.asks(), grant.id(), approval).await.expect("approves");
    let for_sue = |id: &str| Requester {
        reason: Reason::CustomerSupport,
        behalf: Some(Principal::new("sue").expect("legal")),
        ..who(id)
    };
    let opens =
        async |who: Requester| engine.decrypt(&who, &kek(), &made.ciphertext, &request.context, b"").await.map(drop);
    opens(for_sue("us/proxy/p1")).await.expect("this proxy may");
    assert_eq!(custodian.log().await.last().expect("an entry")["grant"], *grant.id());
    for id in ["sg/proxy/p2", "sg/support/tom"] {
        assert!(matches!(opens(for_sue(id)).await, Err(EngineError::Denied)), "{id}");
    }
}

async fn approvals_of_a_revoked_officer_no_longer_count(database: Database) {
    let custodian = Custodian::new(&database).await;
    let (engine, officers) = (&custodian.engine, Officers::new());
    let (rita, carol) = (officers.rita.asks(), officers.people.person("officer/carol"));
    engine.disable(&rita, &kek()).await.expect("disables");
    let id = proposal_of(engine.enable(&rita, &kek(), &call("enable")).await);
    approve(engine, &officers.alice, &id).await.expect("one");
    approve(engine, &officers.bob, &id).await.expect("two");
    let certificate =
        format!("certificate:{}", crate::custodian::approval::json::hex(&officers.bob.asks().certificate_sha256));
    engine.revoke_principal(&rita, &certificate, "stolen").await.expect("revokes");
    assert_eq!(proposal_of(engine.enable(&rita, &kek(), &call("enable")).await), id, "it waits for another");
    assert!(engine.key(&rita, &kek()).await.expect("reads").value.disabled);
    approve(engine, &carol, &id).await.expect("in his place");
    engine.enable(&rita, &kek(), &call("enable")).await.expect("enables");
}

async fn approvals_are_not_kept_for_the_next_time(database: Database) {
    let custodian = Custodian::new(&database).await;
    let (engine, officers) = (&custodian.engine, Officers::new());
    let rita = officers.rita.asks();
    let approved = async |id: &str| {
        approve(engine, &officers.alice, id).await.expect("one");
        approve(engine, &officers.bob, id).await.expect("two");
    };
    engine.enable(&rita, &kek(), &call("enable")).await.expect("is on, and there is nothing to approve");
    assert!(engine.proposals(&rita).await.expect("lists").value.is_empty());
    // Two of the same, by an empty object in other words.
    let calls = ["{}", "{\"again\":true}"].map(|body| GatedCall { body: body.to_owned(), ..call("enable") });
    engine.disable(&rita, &kek()).await.expect("disables");
    let mut kept = Vec::new();
    for call in &calls {
        kept.push(proposal_of(engine.enable(&rita, &kek(), call).await));
        approved(kept.last().expect("one")).await;
    }
    engine.enable(&rita, &kek(), &calls[0]).await.expect("enables");
    assert!(matches!(engine.proposal(&rita, &kept[1]).await, Err(EngineError::NoSuchProposal)), "is over with it");
    engine.disable(&rita, &kek()).await.expect("disables");
    let id = proposal_of(engine.enable(&rita, &kek(), &calls[1]).await);
    assert!(!kept.contains(&id));
    approved(&id).await;
    engine.disable(&rita, &kek()).await.expect("says so again");
    assert_ne!(proposal_of(engine.enable(&rita, &kek(), &calls[1]).await), id, "it was for the state before");

    let path = "/v1/sys/claviger/revocations/mallory".to_owned();
    let calls = ["", "{}"].map(|body| GatedCall { method: "DELETE", path: path.clone(), body: body.to_owned() });
    engine.revoke_principal(&rita, "mallory", "").await.expect("revokes");
    for call in &calls {
        approved(&proposal_of(engine.reinstate(&rita, "mallory", call).await)).await;
    }
    engine.reinstate(&rita, "mallory", &calls[0]).await.expect("lets in again");
    engine.clock.set_off_s.store(2, Ordering::Relaxed);
    engine.revoke_principal(&rita, "mallory", "").await.expect("revokes");
    let id = proposal_of(engine.reinstate(&rita, "mallory", &calls[1]).await);
    approved(&id).await;
    engine.reinstate(&rita, "mallory", &calls[1]).await.expect("approved for this time");
}

async fn an_old_proposal_takes_as_many_as_a_new_one(database: Database) {
    let root = make(&database).await;
    let custodian = Custodian::open(&database, &root, "custodian-1").await;
    let (officers, rita) = (Officers::new(), who("us/officer/someone"));
    custodian.engine.create(&rita, &kek(), derived(), &call("create")).await.expect("creates");
    custodian.engine.disable(&rita, &kek()).await.expect("disables");
    let id = proposal_of(custodian.engine.enable(&rita, &kek(), &call("enable")).await);
    approve(&custodian.engine, &officers.alice, &id).await.expect("one");
    approve(&custodian.engine, &officers.bob, &id).await.expect("two");
    let (folder, sql) = (custodian.crash(), database.again(settings()).await.expect("opens"));
    let stricter = EngineSettings { approvals_required: 3, ..patient() };
    let again = Custodian::open_in(folder, sql, &root, "custodian-1", stricter).await.expect("opens");
    assert_eq!(proposal_of(again.engine.enable(&rita, &kek(), &call("enable")).await), id, "it waits for another");
    assert!(again.engine.key(&rita, &kek()).await.expect("reads").value.disabled);
    approve(&again.engine, &officers.people.person("officer/carol"), &id).await.expect("three");
    again.engine.enable(&rita, &kek(), &call("enable")).await.expect("enables");
}

async fn what_happens_while_a_watch_is_decided_is_told(database: Database) {
    let custodian = Custodian::new(&database).await;
    let engine = Arc::clone(&custodian.engine);
    custodian.disk.hang.store(true, Ordering::SeqCst);
    let watching = tokio::spawn(async move { engine.watch(&proxy()).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    // As another custodian's change that was just read.
    custodian.engine.stop_principal("spiffe://example.org/region/us/proxy/p1");
    custodian.disk.hang.store(false, Ordering::SeqCst);
    let mut events = watching.await.expect("does not panic").expect("was allowed before").value;
    assert!(matches!(events.try_recv(), Ok(Event::Principal { revoked: true, .. })));
}

async fn one_person_leaves_room_for_others(database: Database) {
    let custodian = Custodian::new(&database).await;
    let (engine, officers) = (&custodian.engine, Officers::new());
    let (rita, alice) = (officers.rita.asks(), officers.alice.asks());
    for number in 0..100 {
        let grant = engine.request_grant(&rita, wanted()).await.unwrap_or_else(|error| panic!("{number}: {error}"));
        engine.end_grant(&rita, grant.value.id(), None).await.expect("takes it back");
    }
    engine.request_grant(&alice, wanted()).await.expect("there is room");
    engine.disable(&rita, &kek()).await.expect("disables");
    for number in 0..100 {
        let call = GatedCall { body: format!("{{\"n\":{number}}}"), ..call("enable") };
        let id = proposal_of(engine.enable(&rita, &kek(), &call).await);
        let veto = engine.proposal(&rita, &id).await.expect("is there").value.hash();
        let veto = officers.rita.signs(Subject::Proposal, Verb::Veto, &veto);
        engine.veto(&rita, &id, veto).await.expect("vetoes");
    }
    proposal_of(engine.enable(&alice, &kek(), &call("enable")).await);
    let mut revoked = 0;
    while engine.revoke_principal(&rita, &format!("nobody{revoked}"), "").await.is_ok() {
        revoked += 1;
    }
    engine.revoke_principal(&alice, "mallory", "").await.expect("there is room");
}

async fn another_policy_waits_for_two_officers(database: Database) {
    let custodian = Custodian::new(&database).await;
    let (engine, officers) = (&custodian.engine, Officers::new());
    let narrower = POLICY.replace("\"sg\"", "\"jp\"");
    assert!(matches!(engine.offer_policy("permit everything").await, Err(EngineError::Policy(_))));
    let before = engine.policy_hash();
    assert_eq!(engine.offer_policy(POLICY).await.expect("the same"), Offer::InForce);
    let Offer::Proposed { proposal_id } = engine.offer_policy(&narrower).await.expect("offers") else { panic!() };
    let again = engine.offer_policy(&narrower).await.expect("offers");
    assert_eq!(again, Offer::Proposed { proposal_id: proposal_id.clone() }, "proposed once");
    let mut events = engine.watch(&officers.rita.asks()).await.expect("watches").value;
    approve(engine, &officers.alice, &proposal_id).await.expect("one");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(engine.policy_hash(), before);
    approve(engine, &officers.bob, &proposal_id).await.expect("two");
    let hash = crypto::sha256(narrower.as_bytes());
    assert!(within(Duration::from_secs(20), || engine.policy_hash() == hash).await, "adopted");
    assert_eq!(events.recv().await.expect("is told"), Event::Policy { hash });
    let (_, text) = engine.policy(&officers.rita.asks()).await.expect("reads").value;
    assert_eq!(text, narrower);
    let refused = engine.generate(&who("sg/proxy/p2"), &kek(), DataKeyLen::Bits256, for_branch("proxy/sg", 1)).await;
    assert!(matches!(refused, Err(EngineError::Denied)));
}
