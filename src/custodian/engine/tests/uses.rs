//! Uses of keys: bound to context, decided, logged before they are made.

use super::*;
use crate::custodian::kek::{Ciphertext, DataKeyLen, KeyringError};

on_both!(
    branch_keys_need_a_derived_kek,
    branch_keys_open_under_their_own_context_and_are_in_the_ledger,
    every_use_is_logged_first_and_a_denied_one_is_not_made,
    a_write_only_principal_makes_keys_of_its_own_domain_only,
    nobody_encrypts_under_a_branch_context,
    nobody_makes_a_second_branch_key_of_one_id,
    of_many_branch_keys_of_one_id_at_once_one_is_given_out,
    branch_keys_do_not_go_back_to_an_older_version,
    many_at_once_neither_fail_nor_starve,
);

async fn branch_keys_open_under_their_own_context_and_are_in_the_ledger(database: Database) {
    let custodian = Custodian::new(&database).await;
    let engine = &custodian.engine;
    let request = for_branch("proxy/us", 1);
    let made = engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, request.clone()).await.expect("generates").value;
    let key = made.plaintext.expect("asked for");
    let opened = engine.decrypt(&proxy(), &kek(), &made.ciphertext, &request.context, b"").await.expect("opens");
    assert_eq!(*opened.value, *key);
    let other = for_branch("proxy/us", 2).context;
    let refused = engine.decrypt(&proxy(), &kek(), &made.ciphertext, &other, b"").await;
    assert!(matches!(refused, Err(EngineError::Keyring(KeyringError::NotAuthentic))));

    engine.rotate(&proxy(), &kek()).await.expect("rotates");
    let moved = engine.rewrap(&proxy(), &kek(), &made.ciphertext, None, &request.context, b"").await.expect("rewraps");
    assert_eq!(moved.value.version().number(), 2);
    let opened = engine.decrypt(&proxy(), &kek(), &moved.value, &request.context, b"").await.expect("opens");
    assert_eq!(*opened.value, *key);
    let entries = engine.store.branch(BranchId::from_bytes([1; 16])).await.expect("reads");
    let wrapped: Vec<_> =
        entries.iter().map(|entry| (entry.wrapped.version().number(), entry.wrapped.bytes())).collect();
    assert_eq!(wrapped, [(1, made.ciphertext.bytes()), (2, moved.value.bytes())]);
    assert_eq!(entries[0].context().map(BranchContext::to_bytes), Some(request.context.clone()));

    let without = GenerateRequest { plaintext: false, ..for_branch("proxy/us", 3) };
    let made = engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, without).await.expect("generates").value;
    assert!(made.plaintext.is_none());
}

async fn every_use_is_logged_first_and_a_denied_one_is_not_made(database: Database) {
    let custodian = Custodian::new(&database).await;
    let engine = &custodian.engine;
    let request = for_branch("proxy/us", 1);
    let hash = crypto::sha256(&request.context);
    let made = engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, request.clone()).await.expect("generates");
    let ciphertext = &made.value.ciphertext;
    let reader = who("sg/proxy/p2");
    let refused = engine.decrypt(&reader, &kek(), ciphertext, &request.context, b"").await;
    assert!(matches!(refused, Err(EngineError::Denied)));
    let refused = engine.rewrap(&reader, &kek(), ciphertext, None, &request.context, b"").await;
    assert!(matches!(refused, Err(EngineError::Denied)));
    let plain = EncryptRequest { context: b"mine".to_vec(), ..EncryptRequest::default() };
    assert!(matches!(engine.encrypt(&reader, &kek(), plain).await, Err(EngineError::Denied)));
    assert!(matches!(engine.key(&reader, &kek()).await, Err(EngineError::Denied)));
    assert!(matches!(engine.keys(&reader).await, Err(EngineError::Denied)));
    assert!(matches!(engine.rotate(&reader, &kek()).await, Err(EngineError::Denied)));
    assert!(matches!(engine.disable(&reader, &kek()).await, Err(EngineError::Denied)));
    assert!(matches!(engine.trim(&reader, &kek(), 1, &call("trim")).await, Err(EngineError::Denied)), "no proposal");
    assert!(matches!(engine.watch(&reader).await, Err(EngineError::Denied)));
    assert!(engine.view().snapshot.proposals.is_empty());
    let told = custodian.told().await;
    let expected = [
        "change-policy allow",
        "start allow",
        "create allow",
        "generate allow",
        "unwrap deny",
        "rewrap deny",
        "encrypt deny",
        "read deny",
        "list deny",
        "rotate deny",
        "disable deny",
        "trim deny",
        "watch deny",
    ];
    assert_eq!(told, expected);
    let entry = &custodian.log().await[3];
    assert_eq!(made.receipt.index, 3);
    assert_eq!((entry["kek"].as_str(), entry["version"].as_u64()), (Some("records"), Some(1)));
    assert_eq!(entry["context_sha256"].as_str(), Some(crate::custodian::approval::json::hex(&hash).as_str()));
    assert_eq!((entry["bucket"].as_str(), entry["writer"].as_str()), (Some("ledger"), Some("proxy/us")));
    assert_eq!((entry["reason"].as_str(), entry["region"].as_str()), (Some("customer-initiated"), Some("us")));
    assert_eq!(entry["rules"], serde_json::json!(["us-all"]));
}

async fn a_write_only_principal_makes_keys_of_its_own_domain_only(database: Database) {
    let custodian = Custodian::new(&database).await;
    let engine = &custodian.engine;
    let writer = who("sg/proxy/p2");
    let length = DataKeyLen::Bits256;
    engine.generate(&writer, &kek(), length, for_branch("proxy/sg", 1)).await.expect("its own");
    let refused = engine.generate(&writer, &kek(), length, for_branch("proxy/us", 2)).await;
    assert!(matches!(refused, Err(EngineError::ContextOfOther)), "{refused:?}");
    // Policy would let this one; the rule does not.
    let refused = engine.generate(&proxy(), &kek(), length, for_branch("proxy/sg", 3)).await;
    assert!(matches!(refused, Err(EngineError::ContextOfOther)));
    let refused = engine.generate(&writer, &kek(), DataKeyLen::Bits512, for_branch("proxy/sg", 4)).await;
    assert!(matches!(refused, Err(EngineError::ContextOfOther)));
    // Not canonical: an array length in two bytes.
    let forged = [b"\x98\x05".as_slice(), &context("proxy/us", 5).to_bytes()[1..]].concat();
    let forged = GenerateRequest { context: forged, ..GenerateRequest::default() };
    assert!(matches!(engine.generate(&writer, &kek(), length, forged).await, Err(EngineError::ContextOfOther)));
    for id in 2..6 {
        assert!(engine.store.branch(BranchId::from_bytes([id; 16])).await.expect("reads").is_empty());
    }
    let denied_by: Vec<_> =
        custodian.log().await.iter().filter_map(|e| Some(e["denied_by"].as_str()?.to_owned())).collect();
    assert_eq!(denied_by, ["writer domain", "writer domain", "branch context", "branch context"]);
}

async fn nobody_encrypts_under_a_branch_context(database: Database) {
    let custodian = Custodian::new(&database).await;
    let branch = context("proxy/us", 1).to_bytes();
    for bytes in [branch.clone(), [b"x".as_slice(), &branch].concat()] {
        let known = EncryptRequest { plaintext: vec![7; 32].into(), context: bytes, ..EncryptRequest::default() };
        let refused = custodian.engine.encrypt(&proxy(), &kek(), known).await;
        assert!(matches!(refused, Err(EngineError::ContextOfOther)), "{refused:?}");
    }
    let other =
        EncryptRequest { plaintext: b"text".to_vec().into(), context: b"x".to_vec(), ..EncryptRequest::default() };
    let ciphertext = custodian.engine.encrypt(&proxy(), &kek(), other).await.expect("encrypts").value;
    let text = custodian.engine.decrypt(&proxy(), &kek(), &ciphertext, b"x", b"").await.expect("opens").value;
    assert_eq!(*text, b"text");
    let parsed = Ciphertext::parse(&ciphertext.to_text()).expect("its own text");
    assert!(custodian.engine.decrypt(&proxy(), &kek(), &parsed, &branch, b"").await.is_err());
}

/// The ids of branch keys lie open in the storage. Whoever could make keys of others' ids would take their places in the ledger.
async fn nobody_makes_a_second_branch_key_of_one_id(database: Database) {
    let custodian = Custodian::new(&database).await;
    let (engine, length) = (&custodian.engine, DataKeyLen::Bits256);
    let request = for_branch("proxy/us", 1);
    let made = engine.generate(&proxy(), &kek(), length, request.clone()).await.expect("generates").value;
    engine.rotate(&proxy(), &kek()).await.expect("rotates");
    let refused = engine.generate(&who("sg/proxy/p2"), &kek(), length, for_branch("proxy/sg", 1)).await;
    assert!(matches!(refused, Err(EngineError::BranchTaken)), "{refused:?}");
    let refused = engine.generate(&proxy(), &kek(), length, request.clone()).await;
    assert!(matches!(refused, Err(EngineError::BranchTaken)), "{refused:?}");
    let moved = engine.rewrap(&proxy(), &kek(), &made.ciphertext, None, &request.context, b"").await.expect("rewraps");
    let entries = engine.store.branch(BranchId::from_bytes([1; 16])).await.expect("reads");
    let wrapped: Vec<_> = entries.iter().map(|entry| entry.wrapped.bytes()).collect();
    assert_eq!(wrapped, [made.ciphertext.bytes(), moved.value.bytes()], "the ledger has what opens");
    let with_aad = GenerateRequest { aad: b"x".to_vec(), ..for_branch("proxy/us", 2) };
    let refused = engine.generate(&proxy(), &kek(), length, with_aad).await;
    assert!(matches!(refused, Err(EngineError::ContextOfOther)), "the ledger's copy would not open");
}

async fn branch_keys_do_not_go_back_to_an_older_version(database: Database) {
    let custodian = Custodian::new(&database).await;
    let (engine, length) = (&custodian.engine, DataKeyLen::Bits256);
    let second = engine.rotate(&proxy(), &kek()).await.expect("rotates").value;
    let first = Some(KekVersion::FIRST);
    let old = GenerateRequest { version: first, ..for_branch("proxy/us", 1) };
    let refused = engine.generate(&proxy(), &kek(), length, old).await;
    assert!(matches!(refused, Err(EngineError::ContextOfOther)), "{refused:?}");
    let request = GenerateRequest { version: Some(second), ..for_branch("proxy/us", 1) };
    let made = engine.generate(&proxy(), &kek(), length, request.clone()).await.expect("the newest").value;
    let refused = engine.rewrap(&proxy(), &kek(), &made.ciphertext, first, &request.context, b"").await;
    assert!(matches!(refused, Err(EngineError::ContextOfOther)), "{refused:?}");
    let counted = engine.store.count_branches(&kek()).await.expect("counts");
    assert_eq!(counted, [(second, 1)]);
    // What clients encrypt themselves goes where Transit lets it.
    let other = GenerateRequest { version: first, context: b"x".to_vec(), ..GenerateRequest::default() };
    engine.generate(&proxy(), &kek(), length, other).await.expect("generates");
}

async fn many_at_once_neither_fail_nor_starve(database: Database) {
    let custodian = Custodian::new(&database).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..30u8 {
        for of_it in 0..40u8 {
            let engine = Arc::clone(&custodian.engine);
            tasks.spawn(async move {
                let proxy = who(&format!("us/proxy/p{number}"));
                let mut id = [number; 16];
                id[1] = of_it;
                let context = BranchContext { id: BranchId::from_bytes(id), ..context("proxy/us", 0) };
                let request = GenerateRequest { context: context.to_bytes(), ..GenerateRequest::default() };
                engine.generate(&proxy, &kek(), DataKeyLen::Bits256, request).await.map(drop)
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("does not panic").expect("generates");
    }
    let counted = custodian.engine.store.count_branches(&kek()).await.expect("counts");
    assert_eq!(counted.iter().map(|(_, count)| count).sum::<u64>(), 30 * 40);
}

async fn branch_keys_need_a_derived_kek(database: Database) {
    let custodian = Custodian::new(&database).await;
    let (engine, plain) = (&custodian.engine, KekName::new("plain").expect("legal"));
    engine.create(&proxy(), &plain, KeyOptions::default(), &call("create")).await.expect("creates");
    let refused = engine.generate(&proxy(), &plain, DataKeyLen::Bits256, for_branch("proxy/us", 1)).await;
    assert!(matches!(refused, Err(EngineError::NotDerived)), "{refused:?}");
    assert!(engine.store.branch(BranchId::from_bytes([1; 16])).await.expect("reads").is_empty());
    let other = GenerateRequest { context: b"something else".to_vec(), ..GenerateRequest::default() };
    engine.generate(&proxy(), &plain, DataKeyLen::Bits256, other).await.expect("is no branch key");

    // Nor does what such a KEK opens under any context take an id from the branch key whose it is.
    let mine = EncryptRequest { plaintext: Zeroizing::new(vec![7; 32]), ..EncryptRequest::default() };
    let forged = engine.encrypt(&proxy(), &plain, mine).await.expect("encrypts").value;
    let request = for_branch("proxy/us", 1);
    engine.decrypt(&proxy(), &plain, &forged, &request.context, b"").await.expect("opens");
    let refused = engine.rewrap(&proxy(), &plain, &forged, None, &request.context, b"").await;
    assert!(matches!(refused, Err(EngineError::NotDerived)), "{refused:?}");
    assert!(engine.store.branch(BranchId::from_bytes([1; 16])).await.expect("reads").is_empty());
    engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, request).await.expect("the id is free");
}

async fn of_many_branch_keys_of_one_id_at_once_one_is_given_out(database: Database) {
    let root = make(&database).await;
    let first = Custodian::open(&database, &root, "custodian-1").await;
    first.engine.create(&proxy(), &kek(), derived(), &call("create")).await.expect("creates");
    let second = Custodian::open(&database, &root, "custodian-2").await;
    for id in 1..=12 {
        // One of the two may give out the version before for a moment.
        if id % 4 == 0 {
            first.engine.rotate(&proxy(), &kek()).await.expect("rotates");
        }
        let asked = (0..16).map(|number| {
            let engine = if number % 2 == 0 { &first.engine } else { &second.engine };
            let engine = Arc::clone(engine);
            tokio::spawn(async move {
                engine.generate(&proxy(), &kek(), DataKeyLen::Bits256, for_branch("proxy/us", id)).await
            })
        });
        let mut given = Vec::new();
        for answer in futures_util::future::join_all(asked).await {
            match answer.expect("ends") {
                Ok(done) => given.push(done.value.ciphertext),
                Err(refused) => assert!(matches!(refused, EngineError::BranchTaken), "{refused:?}"),
            }
        }
        let [given] = given.as_slice() else { panic!("{} were given out", given.len()) };
        let ledger = first.engine.store.branch(BranchId::from_bytes([id; 16])).await.expect("reads");
        let [row] = ledger.as_slice() else { panic!("{} rows of {id}", ledger.len()) };
        assert_eq!(row.wrapped.bytes(), given.bytes(), "the ledger has the one that was given out");
    }
}
