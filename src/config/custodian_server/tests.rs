//! Each kind of mistake in a configuration of the custodian, with the line that is reported.

use std::path::Path;

use rcgen::{CertificateParams, KeyPair, SanType};
use tempfile::TempDir;

use super::{CustodianConfig, SealSection, StoreSection, load};
use crate::config::tests::private;
use crate::custodian::destruction::Wait;
use crate::names::LogicalBucket;
use crate::net::tests::Ca;

const GOOD: &str = r#"[custodian]
listen = "127.0.0.1:8200"
instance = "custodian-1"
certificate_file = "server.pem"
key_file = "server.key"
client_ca_file = "ca.pem"
identity = "spiffe://example.org/region/us/custodian/c1"
default_jurisdiction = "us"
[store]
kind = "sqlite"
file = "store.db"
[audit]
folder = "audit"
[policy]
file = "policy.cedar"
[approvals]
required = 3
[[seal]]
kind = "passphrase"
passphrase_file = "passphrase"
[[seal]]
kind = "shares"
threshold = 2
count = 3
"#;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    Ca::new(path, "ca").issue("server", &["localhost"]);
    private(path, "passphrase", "correct horse battery staple\n");
    private(path, "short", "short\n");
    private(path, "pin", "1234\n");
    private(path, "policy.cedar", "@id(\"all\") permit (principal, action, resource);\n");
    private(path, "bad.cedar", "permit (principal, action == Claviger::Action::\"fly\", resource);\n");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    let id = "spiffe://example.org/region/us/custodian/c9".try_into().expect("ASCII");
    params.subject_alt_names.push(SanType::URI(id));
    let key = KeyPair::generate().expect("a key");
    private(path, "named.pem", &params.self_signed(&key).expect("signs").pem());
    private(path, "named.key", &key.serialize_pem());
    folder
}

fn read(folder: &Path, text: &str) -> Result<CustodianConfig, Vec<String>> {
    let file = folder.join("custodian.toml");
    std::fs::write(&file, text).expect("writes");
    load(&file).map_err(|problems| {
        let lines = problems.list.iter().map(|problem| problems.line_of(problem));
        lines.map(|line| line.rsplit_once("custodian.toml").map_or(line.clone(), |(_, rest)| rest.to_owned())).collect()
    })
}

#[test]
fn a_right_configuration_gives_its_parts() {
    let folder = folder();
    let config = read(folder.path(), GOOD).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
    assert_eq!(config.server.identity.as_str(), "spiffe://example.org/region/us/custodian/c1");
    assert_eq!(config.server.default_labels.jurisdiction(), Some("us"));
    assert_eq!(config.audit.settings.origin, "example.org/custodian-1");
    assert_eq!((config.approvals.required, config.approvals.grants_required), (3, 1));
    assert_eq!(config.keys.destroy_wait, Wait::days(30));
    assert_eq!(config.metrics, None);
    let metrics = |listen: &str| {
        let config = read(folder.path(), &format!("{GOOD}\n[metrics]\nlisten = \"{listen}\"\n"));
        config.map(|config| config.metrics.map(|address| address.port()))
    };
    assert_eq!(metrics("127.0.0.1:9465").ok(), Some(Some(9465)));
    assert!(metrics("192.0.2.1:9465").is_err_and(|told| told[0].contains("[metrics.listen] metrics go by plain HTTP")));
    let traces = |more: &str| {
        let section = format!("{GOOD}\n[traces]\nendpoint = \"http://127.0.0.1:4318/v1/traces\"\n{more}");
        read(folder.path(), &section).map(|config| config.traces.expect("on"))
    };
    let settings = traces("").expect("right");
    assert_eq!((settings.service_name.as_str(), settings.trust_client), ("claviger-custodian", true));
    for key in ["trust_client = true", "reveal = [\"key\"]"] {
        assert!(traces(key).is_err_and(|told| told.len() == 1 && told[0].contains("unknown key")), "{key}");
    }
    let waits =
        |keys: &str| read(folder.path(), &format!("{GOOD}\n[keys]\n{keys}\n")).map(|config| config.keys.destroy_wait);
    assert_eq!(waits("destroy_wait_days = 7").ok(), Some(Wait::days(7)));
    let insecure = Wait { seconds: 2, insecure: true };
    assert_eq!(waits("insecure_destroy_wait_s = 2").ok(), Some(insecure));
    let waits =
        |keys: &str| read(folder.path(), &format!("{GOOD}\n[keys]\n{keys}\n")).map(|config| config.keys.retire_wait_s);
    assert_eq!(waits("sites = [\"main\"]").ok(), Some(3900));
    assert_eq!(waits("retire_wait_s = 7200").ok(), Some(7200));
    assert_eq!(waits("insecure_retire_wait_s = 2").ok(), Some(2));
    let site = |name: &str, bucket: &str| format!("[[keys.site]]\nname = \"{name}\"\nbuckets = [\"{bucket}\"]\n");
    let regional = format!("{GOOD}\n[keys]\n{}{}", site("singapore", "archive"), site("sg-dr", "archive"));
    let keys = read(folder.path(), &regional).unwrap_or_else(|wrong| panic!("{wrong:#?}")).keys;
    assert_eq!(keys.sites, ["main"], "for the branch keys of all other buckets");
    let archive = LogicalBucket::new("archive").expect("legal");
    assert_eq!(keys.sites_of, [(archive, vec!["singapore".to_owned(), "sg-dr".to_owned()])].into());
    assert!(matches!(config.store, StoreSection::Sqlite { .. }));
    assert!(matches!(
        config.seals[..],
        [SealSection::Passphrase { .. }, SealSection::Shares { threshold: 2, count: 3 }]
    ));
    let named = GOOD.replace("server.pem", "named.pem").replace("server.key", "named.key");
    let named = named.replace("identity = \"spiffe://example.org/region/us/custodian/c1\"\n", "");
    let config = read(folder.path(), &named).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
    assert_eq!(config.server.identity.name(), "c9", "as the certificate says");
    let postgres = GOOD.replace(
        "kind = \"sqlite\"\nfile = \"store.db\"",
        "kind = \"postgres\"\naddress = \"postgres://c@127.0.0.1/c\"",
    );
    assert!(matches!(read(folder.path(), &postgres).map(|config| config.store), Ok(StoreSection::Postgres(_))));
}

/// What is replaced by what, and the one line that is reported.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("\"127.0.0.1:8200\"", "\"localhost\"", ":2: [custodian.listen] not an address"),
    ("\"custodian-1\"", "\"a b\"", ":3: [custodian.instance] not a name"),
    ("\"server.pem\"", "\"absent.pem\"", ":4: [custodian.certificate_file] cannot read"),
    ("\"server.key\"", "\"policy.cedar\"", ":5: [custodian.key_file] "),
    ("\"ca.pem\"\n", "\"passphrase\"\n", ":6: [custodian.client_ca_file] "),
    ("\"ca.pem\"\n", "\"ca.pem\"\nclient_crl_file = \"ca.pem\"\n", ":7: [custodian.client_crl_file] "),
    (
        "spiffe://example.org/region/us/custodian/c1",
        "spiffe://example.org/c1",
        ":7: [custodian.identity] the id's path",
    ),
    (
        "identity = \"spiffe://example.org/region/us/custodian/c1\"\n",
        "",
        ":4: [custodian.certificate_file] the certificate has no SPIFFE id",
    ),
    (
        "default_jurisdiction = \"us\"",
        "default_jurisdiction = \"u s\"",
        ":8: [custodian.default_jurisdiction] labels are",
    ),
    ("kind = \"sqlite\"", "kind = \"mysql\"", ":10: [store.kind] not a known value"),
    ("\"store.db\"", "\"none/store.db\"", ":11: [store.file] the folder of"),
    (
        "kind = \"sqlite\"\nfile = \"store.db\"",
        "kind = \"postgres\"\naddress = \"postgres://c:secret@db/c\"",
        ":11: [store.address] the address of the database has a password",
    ),
    ("folder = \"audit\"", "folder = \"audit\"\norigin = \"a b\"", ":14: [audit.origin] not a log's name"),
    (
        "folder = \"audit\"",
        "folder = \"audit\"\nwitnesses = [\"w+1+x\"]",
        ":14: [audit.witnesses] not the key of a witness",
    ),
    (
        "folder = \"audit\"",
        "folder = \"audit\"\ncheckpoint_interval_ms = 6000",
        ":14: [audit.checkpoint_interval_ms] must be 10 to 5000",
    ),
    ("\"policy.cedar\"", "\"bad.cedar\"", ":15: [policy.file] the policy is not right"),
    ("\"policy.cedar\"", "\"absent\"", ":15: [policy.file] cannot read"),
    ("required = 3", "required = 1", ":17: [approvals.required] must be 2 to 16"),
    ("passphrase_file = \"passphrase\"", "passphrase_file = \"short\"", ":20: [seal.passphrase_file] a passphrase has"),
    (
        "passphrase_file = \"passphrase\"",
        "passphrase_file = \"passphrase\"\niterations = 10",
        ":21: [seal.iterations] must be 100000",
    ),
    ("threshold = 2", "threshold = 4", ":23: [seal.threshold] must be 2 to 3"),
    ("count = 3", "count = 2", ":24: [seal.count] must be 3 to 255"),
    ("kind = \"shares\"\nthreshold = 2\ncount = 3", "kind = \"key\"", ":22: [seal.kind] not a known value"),
    (
        "kind = \"shares\"\nthreshold = 2\ncount = 3",
        "kind = \"pkcs11\"\nmodule = \"pin\"\ntoken = \"t\"\nkey = \"k\"\npin_file = \"absent\"",
        ":26: [seal.pin_file] cannot read",
    ),
    (
        "kind = \"shares\"\nthreshold = 2\ncount = 3",
        "kind = \"transit\"\nkey = \"k\"\nurls = [\"http://10.0.0.1\"]\ntoken_file = \"pin\"",
        ":24: [seal.urls] \"http://10.0.0.1\" would carry keys",
    ),
    ("count = 3\n", "count = 3\n[[seal]]\nkind = \"shares\"\n", ":18: [seal] a custodian has one or two"),
    ("[approvals]", "[approvals]\nquorum = 2", ":17: [approvals.quorum] unknown key"),
    ("[approvals]", "[keys]\ndestroy_wait_days = 6\n[approvals]", ":17: [keys.destroy_wait_days] must be 7 to 365"),
    (
        "[approvals]",
        "[keys]\ndestroy_wait_days = 7\ninsecure_destroy_wait_s = 1\n[approvals]",
        ":18: [keys.insecure_destroy_wait_s] destroy_wait_days is given too",
    ),
    ("[approvals]", "[keys]\nretire_wait_s = 3899\n[approvals]", ":17: [keys.retire_wait_s] must be 3900 to 31536000"),
    (
        "[approvals]",
        "[keys]\nretire_wait_s = 3900\ninsecure_retire_wait_s = 1\n[approvals]",
        ":18: [keys.insecure_retire_wait_s] retire_wait_s is given too",
    ),
    ("[approvals]", "[[keys.site]]\nname = \"sg\"\n[approvals]", ":16: [keys.site] `buckets` is missing"),
    ("[approvals]", "[[keys.site]]\nbuckets = [\"archive\"]\n[approvals]", ":16: [keys.site] `name` is missing"),
    (
        "[approvals]",
        "[[keys.site]]\nname = \"main\"\nbuckets = [\"archive\"]\n[approvals]",
        ":17: [keys.site.name] stands in `sites`, too",
    ),
    ("[approvals]", "[[keys.site]]\nname = \"sg\"\nbuckets = [\"Archive\"]\n[approvals]", ":18: [keys.site.buckets] "),
    (
        "[approvals]",
        "[[keys.site]]\nname = \"sg\"\nbuckets = [\"abc\"]\n[[keys.site]]\nname = \"sg\"\nbuckets = [\"abd\"]\n[approvals]",
        ":20: [keys.site.name] already used in line 17",
    ),
];

#[test]
fn each_mistake_is_reported_with_its_line_and_key() {
    let folder = folder();
    let wrong = MISTAKES.iter().filter_map(|(right, bad, expected)| {
        let reported = read(folder.path(), &GOOD.replacen(right, bad, 1)).err().unwrap_or_default();
        let found = reported.len() == 1 && reported[0].starts_with(expected);
        (!found).then(|| format!("{bad}\n  {reported:#?}\n  not {expected}"))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_that_is_wrong_is_reported_at_once() {
    let folder = folder();
    let reported = read(folder.path(), "[custodian]\nlisten = 7\n").err().expect("wrong");
    for part in [
        "[custodian.listen]",
        "`instance` is missing",
        "`certificate_file` is missing",
        "[store]",
        "[audit]",
        "[policy]",
        "[[seal]]",
    ] {
        assert!(reported.iter().any(|line| line.contains(part)), "{part}: {reported:#?}");
    }
}
