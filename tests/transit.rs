//! The Transit client with a real OpenBao server as custodian.
//!
//! The server's texts decide what an error means (`src/transit/refusal.rs`): this is where they are held against the real ones.
//! `tests/run` installs OpenBao and runs these; by hand: `CLAVIGER_BAO=/path/to/bao cargo test --test transit -- --ignored`.

#[path = "transit/demo.rs"]
mod demo;
#[path = "transit/openbao.rs"]
mod openbao;
#[path = "transit/rotation.rs"]
mod rotation;

use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;

use claviger::custody::caller::Caller;
use claviger::custody::context::BranchContext;
use claviger::custody::derivation::{DerivationError, prove_derivation};
use claviger::custody::reason::Reason;
use claviger::custody::wrapped::WrappedKey;
use claviger::custody::{Custodian as _, CustodyError};
use claviger::names::{BranchId, KekName, KekVersion, LogicalBucket, Principal, Purpose, WriterDomain};
use claviger::secret::Secret;
use claviger::transit::Transit;
use claviger::transit::settings::{Address, Authentication, Mount, TransitSettings};

use openbao::OpenBao;

fn kek(name: &str) -> KekName {
    KekName::new(name).expect("legal")
}

fn context(id: u8) -> BranchContext {
    BranchContext {
        purpose: Purpose::Object,
        bucket: LogicalBucket::new("ledger").expect("legal"),
        writer: WriterDomain::new("proxy/us").expect("legal"),
        id: BranchId::from_bytes([id; 16]),
    }
}

fn caller() -> Caller {
    Caller { principal: Principal::new("alice").expect("legal"), reason: Reason::CustomerInitiated }
}

fn by_login(bao: &OpenBao) -> TransitSettings {
    let mount = Mount::parse("auth/cert").expect("legal");
    let authentication = Authentication::CertificateLogin { mount, role: Some("proxy".to_owned()) };
    TransitSettings { authentication, deadline: Duration::from_secs(10), ..settings(bao) }
}

fn settings(bao: &OpenBao) -> TransitSettings {
    TransitSettings::new(vec![Address::parse(&bao.url).expect("legal")], bao.tls())
}

/// A client with the KEK of one test.
struct Client {
    transit: Transit,
    kek: KekName,
}

impl Client {
    fn new(settings: &TransitSettings, name: &str) -> Self {
        Self { transit: Transit::new(settings).expect("good settings"), kek: kek(name) }
    }

    async fn generate(&self) -> Result<(Secret<32>, WrappedKey), CustodyError> {
        self.transit.generate(&self.kek, &context(1), &caller()).await
    }

    async fn unwrap(&self, wrapped: &WrappedKey) -> Result<Secret<32>, CustodyError> {
        self.transit.unwrap(&self.kek, &context(1), wrapped, &caller()).await
    }

    async fn rewrap(&self, wrapped: &WrappedKey) -> Result<WrappedKey, CustodyError> {
        self.transit.rewrap(&self.kek, &context(1), wrapped, &caller()).await
    }
}

#[tokio::test]
#[ignore = "needs OpenBao"]
async fn branch_keys_open_under_their_own_kek_and_context_and_move_to_its_next_version() {
    let bao = OpenBao::start().await;
    for name in ["records", "other"] {
        bao.create_kek(name, true).await;
    }
    let (client, other) = (Client::new(&by_login(&bao), "records"), Client::new(&by_login(&bao), "other"));
    prove_derivation(&client.transit, &client.kek, &context(1), &caller()).await.expect("derives by context");

    let (secret, first) = client.generate().await.expect("generates");
    assert_eq!((first.version(), first.bytes().len()), (KekVersion::FIRST, 60));
    assert_eq!(client.unwrap(&first).await.expect("opens").expose(), secret.expose());
    let (next, _) = client.generate().await.expect("generates");
    assert_ne!(next.expose(), secret.expose());

    let elsewhere = client.transit.unwrap(&client.kek, &context(2), &first, &caller()).await;
    assert!(matches!(elsewhere, Err(CustodyError::NotAuthentic)), "another context");
    let elsewhere = client.transit.rewrap(&client.kek, &context(2), &first, &caller()).await;
    assert!(matches!(elsewhere, Err(CustodyError::NotAuthentic)), "another context");
    assert!(matches!(other.unwrap(&first).await, Err(CustodyError::NotAuthentic)), "another KEK");
    for (at, bytes) in [(0, 1), (30, 1), (59, 1)].into_iter().chain([(0, 0)]) {
        let mut tampered = first.bytes().to_vec();
        tampered[at] ^= bytes;
        if bytes == 0 {
            tampered.truncate(20);
        }
        let tampered = WrappedKey::new(first.version(), tampered).expect("fits");
        assert!(matches!(client.unwrap(&tampered).await, Err(CustodyError::NotAuthentic)), "byte {at}");
    }

    bao.admin("POST", "transit/keys/records/rotate", &json!({})).await;
    let second = client.rewrap(&first).await.expect("rewraps");
    assert_eq!(second.version().number(), 2);
    assert_eq!(client.unwrap(&second).await.expect("opens").expose(), secret.expose());
    assert_eq!(client.unwrap(&first).await.expect("still opens").expose(), secret.expose());

    bao.admin("POST", "transit/keys/records/config", &json!({"min_decryption_version": 2})).await;
    assert!(matches!(client.unwrap(&first).await, Err(CustodyError::VersionTooOld)));
    assert!(matches!(client.rewrap(&first).await, Err(CustodyError::VersionTooOld)));
    assert_eq!(client.unwrap(&second).await.expect("opens").expose(), secret.expose());
    let future = WrappedKey::new(KekVersion::new(9).expect("not zero"), second.bytes().to_vec()).expect("fits");
    assert!(matches!(client.unwrap(&future).await, Err(CustodyError::VersionUnknown)));

    bao.admin("POST", "transit/keys/other/config", &json!({"deletion_allowed": true})).await;
    bao.admin("DELETE", "transit/keys/other/soft-delete", &json!({})).await;
    assert!(matches!(other.generate().await, Err(CustodyError::Disabled)));
}

#[tokio::test]
#[ignore = "needs OpenBao"]
async fn a_kek_without_derivation_is_found_out() {
    let bao = OpenBao::start().await;
    bao.create_kek("by-hand", false).await;
    let client = Client::new(&by_login(&bao), "by-hand");
    let (_, wrapped) = client.generate().await.expect("it takes the context and ignores it");
    let elsewhere = client.transit.unwrap(&client.kek, &context(2), &wrapped, &caller()).await;
    assert!(elsewhere.is_ok(), "which is why it has to be found out");
    let proof = prove_derivation(&client.transit, &client.kek, &context(1), &caller()).await;
    assert!(matches!(proof, Err(DerivationError::NotDerived)), "{proof:?}");
}

#[tokio::test]
#[ignore = "needs OpenBao"]
async fn policy_missing_keks_and_strangers_are_told_apart() {
    let bao = OpenBao::start().await;
    bao.create_kek("records", true).await;
    bao.create_kek("secret", true).await;
    bao.policy("path \"transit/*\" { capabilities = [\"update\"] }\npath \"transit/+/+/secret\" { capabilities = [\"deny\"] }\npath \"transit/decrypt/secret\" { capabilities = [\"deny\"] }").await;
    let denied = Client::new(&by_login(&bao), "secret");
    assert!(matches!(denied.generate().await, Err(CustodyError::Denied)));
    let missing = Client::new(&by_login(&bao), "missing");
    assert!(matches!(missing.generate().await, Err(CustodyError::UnknownKek)));

    let (_, wrapped) = Client::new(&by_login(&bao), "records").generate().await.expect("generates");
    assert!(matches!(missing.unwrap(&wrapped).await, Err(CustodyError::UnknownKek)));
    assert!(matches!(missing.rewrap(&wrapped).await, Err(CustodyError::UnknownKek)));
    assert!(matches!(denied.unwrap(&wrapped).await, Err(CustodyError::Denied)));

    let certificate_alone = Client::new(&settings(&bao), "records");
    assert!(matches!(certificate_alone.generate().await, Err(CustodyError::Denied)), "OpenBao wants a token");
    let mut stranger = by_login(&bao);
    stranger.tls.identity = Some(bao.stranger());
    assert!(matches!(Client::new(&stranger, "records").generate().await, Err(CustodyError::Denied)));
    let mount = Mount::parse("elsewhere").expect("legal");
    let elsewhere = Client::new(&TransitSettings { mount, ..by_login(&bao) }, "records");
    assert!(matches!(elsewhere.generate().await, Err(CustodyError::Denied)), "nor does it say what is mounted");
}

#[tokio::test]
#[ignore = "needs OpenBao"]
async fn a_sealed_or_stopped_server_is_told_and_recovers_and_a_dead_address_is_passed_over() {
    let mut bao = OpenBao::start().await;
    bao.create_kek("records", true).await;
    let dead = TcpListener::bind("127.0.0.1:0").expect("free port").local_addr().expect("bound").port();
    let mut settings = by_login(&bao);
    settings.addresses.insert(0, Address::parse(&format!("https://127.0.0.1:{dead}")).expect("legal"));
    let client = Client::new(&settings, "records");
    let (secret, wrapped) = client.generate().await.expect("the live address");

    bao.seal().await;
    assert!(matches!(client.unwrap(&wrapped).await, Err(CustodyError::Sealed)));
    bao.unseal().await;
    assert_eq!(client.unwrap(&wrapped).await.expect("opens again").expose(), secret.expose());

    bao.stop();
    let error = client.unwrap(&wrapped).await.err().expect("nobody answers");
    assert!(matches!(error, CustodyError::Unreachable(_)) && error.is_transient(), "{error:?}");
}

#[tokio::test]
#[ignore = "needs OpenBao"]
async fn a_lost_token_of_a_login_is_had_anew() {
    let bao = OpenBao::start().await;
    bao.create_kek("records", true).await;
    let client = Client::new(&by_login(&bao), "records");
    let (_, wrapped) = client.generate().await.expect("generates");
    bao.revoke_logins().await;
    assert!(matches!(client.unwrap(&wrapped).await, Err(CustodyError::Denied)), "no login so soon after the last");
    tokio::time::sleep(Duration::from_secs(11)).await;
    client.unwrap(&wrapped).await.expect("with a new token");
}

#[tokio::test]
#[ignore = "needs OpenBao"]
async fn a_token_file_is_followed_and_its_token_renewed() {
    let bao = OpenBao::start().await;
    bao.create_kek("records", true).await;
    let path = bao.folder().join("token");
    let first = bao.token("1h").await;
    bao.write_private("token", &first);
    let settings = TransitSettings { authentication: Authentication::TokenFile(path), ..by_login(&bao) };
    let client = Client::new(&settings, "records");
    let (_, wrapped) = client.generate().await.expect("generates");

    bao.admin("POST", "auth/token/revoke", &json!({"token": first})).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(matches!(client.unwrap(&wrapped).await, Err(CustodyError::Denied)));
    bao.write_private("token", &bao.token("20s").await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.unwrap(&wrapped).await.expect("the file's new token");
    tokio::time::sleep(Duration::from_secs(25)).await;
    client.unwrap(&wrapped).await.expect("beyond its first lease, as it was renewed");
}
