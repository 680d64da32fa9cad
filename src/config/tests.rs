//! Each kind of mistake in a configuration, with the line that is reported.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

use super::{Config, Problems, load};
use crate::names::{KekName, LogicalBucket};
use crate::net::regular::tests::{at_once, put_pipe};

/// A right configuration, whose lines the tests change.
pub(super) const GOOD: &str = r#"[proxy]
listen = "127.0.0.1:8443"
region = "us"
plain_http_on_loopback = true
domains = ["s3.example.org"]
[storage]
url = "http://127.0.0.1:9000"
region = "us-east-1"
access_key = "claviger"
secret_key_file = "storage.key"
[custodian]
kind = "transit"
urls = ["http://127.0.0.1:8200"]
mount = "transit"
token_file = "token"
[leases]
read_lease_s = 300
[default_bucket]
kek = "others"
[[bucket]]
name = "records"
storage_name = "va-records"
kek = "records"
former_keks = ["old"]
[[client]]
access_key = "app"
secret_key_file = "client.key"
principal = "accounting"
[[client.grant]]
buckets = ["records", "logs-*", "*"]
access = ["read", "write"]
"#;

/// A file that only its owner may read.
pub(crate) fn private(folder: &Path, name: &str, content: &str) {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("writes");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
}

pub(super) fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    private(folder.path(), "storage.key", "storage-secret\n");
    private(folder.path(), "client.key", "0123456789abcdef\n");
    private(folder.path(), "token", "s.token\n");
    private(folder.path(), "empty.key", "\n");
    private(folder.path(), "short.key", "short\n");
    private(folder.path(), "two-lines.key", "one\ntwo\n");
    std::fs::write(folder.path().join("open.key"), "0123456789abcdef").expect("writes");
    std::fs::set_permissions(folder.path().join("open.key"), std::fs::Permissions::from_mode(0o644)).expect("chmod");
    folder
}

pub(super) fn load_text(folder: &TempDir, text: &str) -> Result<Config, Problems> {
    std::fs::write(folder.path().join("proxy.toml"), text).expect("writes");
    load(&folder.path().join("proxy.toml"))
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    let folder = folder();
    load_text(&folder, GOOD).expect("right");
    for name in ["token", "client.key", "storage.key", "proxy.toml"] {
        let (path, file) = (folder.path().join(name), folder.path().join("proxy.toml"));
        let before = std::fs::read_to_string(&path).expect("reads");
        put_pipe(&path);
        let problems = at_once(move || load(&file)).expect_err("a pipe").to_string();
        assert!(problems.contains(name) && problems.contains("cannot"), "{problems}");
        std::fs::remove_file(&path).expect("own pipe");
        private(folder.path(), name, &before);
    }
}

/// What is reported when `line` of [`GOOD`] is replaced by `replacement`, without the folder's name.
fn reported(line: &str, replacement: &str) -> Vec<String> {
    let folder = folder();
    assert_eq!(GOOD.matches(line).count(), 1, "{line}");
    let problems = load_text(&folder, &GOOD.replace(line, replacement)).expect_err(replacement);
    let prefix = format!("{}/", folder.path().display());
    problems.to_string().lines().map(|line| line.replace(&prefix, "")).collect()
}

#[test]
fn requests_without_a_signature_are_refused_unless_it_says_otherwise() {
    let folder = folder();
    let load = |text: &str| {
        let file = folder.path().join("proxy.toml");
        std::fs::write(&file, text).expect("writes");
        load(&file)
    };
    assert!(load(GOOD).expect("right").anonymous.is_none());
    let grant = "[[anonymous.grant]]\nbuckets = [\"public-*\"]\naccess = [\"read\"]\n";
    let right = format!("{GOOD}[anonymous]\nreason = \"customer-initiated\"\n{grant}");
    let anonymous = load(&right).expect("right").anonymous.expect("configured");
    assert_eq!((anonymous.reason.as_str(), anonymous.grants.len()), ("customer-initiated", 1));
    for (wrong, key) in [
        ("[anonymous]\n".to_owned(), "anonymous"),
        (format!("[anonymous]\nprincipal = \"me\"\n{grant}"), "anonymous.principal"),
        (grant.replace("public-*", "a"), "anonymous.grant.buckets"),
        (grant.replace("\"read\"", "\"bucket\""), "anonymous.grant.access"),
        (grant.replace("\"read\"", "\"read\", \"bucket\""), "anonymous.grant.access"),
    ] {
        let problems = load(&format!("{GOOD}{wrong}")).expect_err("wrong");
        assert!(problems.list.iter().any(|problem| problem.key == key), "{wrong}: {problems}");
    }
    let problems = load(&GOOD.replace("\"accounting\"", "\"anonymous\"")).expect_err("the name is taken");
    assert!(problems.to_string().contains("[client.principal] this is the name of requests without"), "{problems}");
}

#[test]
fn credentials_are_lacking_where_no_service_manager_says_where_they_are() {
    let reported = reported("\"storage.key\"", "\"${CREDENTIALS_DIRECTORY}/storage.key\"");
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(
        reported[0].starts_with("proxy.toml:10: [storage.secret_key_file] $CREDENTIALS_DIRECTORY is not set here"),
        "{reported:?}"
    );
}

#[test]
fn metrics_are_shown_on_loopback_unless_it_says_otherwise() {
    let folder = folder();
    assert_eq!(load_text(&folder, GOOD).expect("right").metrics, None);
    let metrics = |lines: &str| load_text(&folder, &format!("{GOOD}[metrics]\n{lines}\n")).map(|config| config.metrics);
    for listen in ["127.0.0.1:9464", "[::1]:9464"] {
        assert_eq!(metrics(&format!("listen = \"{listen}\"")).expect("right"), listen.parse().ok());
    }
    let anywhere = "listen = \"0.0.0.0:9464\"";
    assert!(metrics(&format!("{anywhere}\ninsecure_any_address = true")).is_ok());
    for (wrong, key) in [
        (anywhere, "metrics.listen"),
        ("", "metrics"),
        ("listen = \"9464\"", "metrics.listen"),
        ("listen = \"127.0.0.1:1\"\ninsecure_any_address = 1", "metrics.insecure_any_address"),
        ("listen = \"127.0.0.1:1\"\npath = \"/\"", "metrics.path"),
    ] {
        let problems = metrics(wrong).expect_err("wrong");
        assert!(problems.list.iter().any(|problem| problem.key == key), "{wrong}: {problems}");
    }
}

#[test]
fn a_right_configuration_is_resolved() {
    let folder = folder();
    let config = load_text(&folder, GOOD).expect("right");
    assert_eq!(config.proxy.writer.as_str(), "proxy/us");
    assert_eq!(config.storage.state_bucket, "claviger-state");
    assert_eq!(config.storage.settings.endpoint.to_string(), "http://127.0.0.1:9000");
    assert_eq!(config.storage.credentials.secret.expose(), b"storage-secret");
    assert_eq!(config.custodian.addresses[0].to_string(), "http://127.0.0.1:8200");
    let name = LogicalBucket::new("records").expect("legal");
    let bucket = config.buckets.find(&name).expect("configured");
    assert_eq!(bucket.physical, "va-records");
    assert_eq!(bucket.keys.accept_writers, std::slice::from_ref(&config.proxy.writer));
    assert!(bucket.keys.opens(&KekName::new("old").expect("legal")));
    assert_eq!(config.clients[0].grants[0].buckets.len(), 3);
    assert!(!format!("{config:?}").contains("storage-secret"));
}

/// Line of [`GOOD`], what it is replaced by, and the one line that is reported.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("listen = \"127.0.0.1:8443\"", "listen = \"8443\"", "proxy.toml:2: [proxy.listen] not an address to listen on"),
    (
        "listen = \"127.0.0.1:8443\"",
        "listen = 8443",
        "proxy.toml:2: [proxy.listen] expected a text in quotes, found integer",
    ),
    ("listen = \"127.0.0.1:8443\"", "", "proxy.toml:1: [proxy] `listen` is missing"),
    (
        "listen = \"127.0.0.1:8443\"",
        "listen = \"0.0.0.0:1\"",
        "proxy.toml:4: [proxy.plain_http_on_loopback] plain HTTP is for",
    ),
    ("region = \"us\"", "", "proxy.toml:1: [proxy] `region` is missing"),
    ("region = \"us\"", "region = \"u/s\"", "proxy.toml:3: [proxy.region] a writer domain must be ROLE/REGION"),
    (
        "plain_http_on_loopback = true",
        "plain_http_on_loopback = 1",
        "proxy.toml:4: [proxy.plain_http_on_loopback] expected true",
    ),
    ("[\"s3.example.org\"]", "[\"s3.example.org:443\"]", "proxy.toml:5: [proxy.domains] not a DNS name"),
    ("[\"s3.example.org\"]", "[\"a.b\",\n 7]", "proxy.toml:6: [proxy.domains] expected a list of texts, found integer"),
    (
        "[\"s3.example.org\"]",
        "[]\ndomain = \"x\"",
        "proxy.toml:6: [proxy.domain] unknown key; remove it, or write one of: ",
    ),
    ("[\"s3.example.org\"]", "[]\ndrain_s = 4000", "proxy.toml:6: [proxy.drain_s] must be 0 to 3600"),
    ("[\"s3.example.org\"]", "[]\ndrain_s = -1", "proxy.toml:6: [proxy.drain_s] must be 0 to 3600"),
    ("[\"s3.example.org\"]", "[]\nkey_file = \"x\"", "proxy.toml:6: [proxy.key_file] has no use with `plain_http"),
    (
        "url = \"http://127.0.0.1:9000\"",
        "url = \"http://10.0.0.1\"",
        "proxy.toml:7: [storage.url] \"http://10.0.0.1\" would carry",
    ),
    (
        "url = \"http://127.0.0.1:9000\"",
        "url = \"s3.example.org\"",
        "proxy.toml:7: [storage.url] \"s3.example.org\" is not",
    ),
    ("region = \"us-east-1\"", "region = \"us east\"", "proxy.toml:8: [storage.region] not a region"),
    (
        "region = \"us-east-1\"",
        "addressing = \"host\"",
        "proxy.toml:8: [storage.addressing] not a known value; write one of: path",
    ),
    ("region = \"us-east-1\"", "ca_file = \"ca\"", "proxy.toml:8: [storage.ca_file] has no use with an http URL"),
    (
        "region = \"us-east-1\"",
        "state_bucket = \"S\"",
        "proxy.toml:8: [storage.state_bucket] a bucket name must be 3 to 63",
    ),
    (
        "region = \"us-east-1\"",
        "metadata_limit_bytes = 1",
        "proxy.toml:8: [storage.metadata_limit_bytes] must be 1024 to",
    ),
    ("region = \"us-east-1\"", "copy_limit_bytes = 1", "proxy.toml:8: [storage.copy_limit_bytes] must be 5242880 to"),
    (
        "region = \"us-east-1\"",
        "server_side_copy = \"no\"",
        "proxy.toml:8: [storage.server_side_copy] expected true or false, found string",
    ),
    ("access_key = \"claviger\"", "access_key = \"a b\"", "proxy.toml:9: [storage.access_key] not an access key"),
    ("\"storage.key\"", "\"absent.key\"", "proxy.toml:10: [storage.secret_key_file] cannot read absent.key; check"),
    ("\"storage.key\"", "\".\"", "proxy.toml:10: [storage.secret_key_file] cannot read .; check"),
    (
        "\"storage.key\"",
        "\"empty.key\"",
        "proxy.toml:10: [storage.secret_key_file] empty.key holds no secret; write it",
    ),
    (
        "\"storage.key\"",
        "\"open.key\"",
        "proxy.toml:10: [storage.secret_key_file] open.key holds a secret and is open to all",
    ),
    (
        "\"storage.key\"",
        "\"two-lines.key\"",
        "proxy.toml:10: [storage.secret_key_file] two-lines.key does not hold one line",
    ),
    (
        "secret_key_file = \"storage.key\"",
        "secret_key_file = \"storage.key\"\nsecret_key = \"s\"",
        "proxy.toml:11: [storage.secret_key] secrets do not stand in the configuration",
    ),
    (
        "kind = \"transit\"",
        "kind = \"embedded\"",
        "proxy.toml:12: [custodian.kind] not a known value; write one of: transit",
    ),
    (
        "token_file = \"token\"",
        "token_file = \"token\"\ntoken = \"t\"",
        "proxy.toml:16: [custodian.token] secrets do not stand",
    ),
    ("\"token\"", "\"absent\"", "proxy.toml:15: [custodian.token_file] cannot read absent"),
    (
        "read_lease_s = 300",
        "read_lease_s = \"5m\"",
        "proxy.toml:17: [leases.read_lease_s] expected a whole number, found string",
    ),
    ("read_lease_s = 300", "read_lease_s = 0", "proxy.toml:17: [leases.read_lease_s] must be 1 to 86400"),
    ("read_lease_s = 300", "lease = 300", "proxy.toml:17: [leases.lease] unknown key"),
    ("kek = \"others\"", "", "proxy.toml:18: [default_bucket] `kek` is missing; add it"),
    ("kek = \"others\"", "kek = \"\"", "proxy.toml:19: [default_bucket.kek] a KEK name must be 1 to 64"),
    (
        "name = \"records\"\nstorage",
        "name = \"Records\"\nstorage",
        "proxy.toml:21: [bucket.name] a bucket name must be 3 to 63",
    ),
    (
        "\"va-records\"",
        "\"claviger-state\"",
        "proxy.toml:22: [bucket.storage_name] the state bucket is for the proxy alone",
    ),
    ("kek = \"records\"", "", "proxy.toml:20: [bucket] `kek` is missing; add it"),
    ("kek = \"records\"", "kek = \"re/cords\"", "proxy.toml:23: [bucket.kek] a KEK name must be"),
    ("[\"old\"]", "[\"o l d\"]", "proxy.toml:24: [bucket.former_keks] a KEK name must be"),
    ("[\"old\"]", "[]\naccept_writers = []", "proxy.toml:25: [bucket.accept_writers] the list is empty"),
    (
        "[\"old\"]",
        "[]\n[[bucket]]\nname = \"records\"\nkek = \"k\"",
        "proxy.toml:26: [bucket.name] already used in line 21",
    ),
    (
        "[\"old\"]",
        "[]\n[[bucket]]\nname = \"va-records\"\nkek = \"k\"",
        "proxy.toml:26: [bucket.name] already used in line 22",
    ),
    ("access_key = \"app\"", "", "proxy.toml:25: [client] `access_key` is missing"),
    (
        "\"client.key\"",
        "\"short.key\"",
        "proxy.toml:27: [client.secret_key_file] the secret in short.key has less than 16",
    ),
    ("principal = \"accounting\"", "principal = \"a b\"", "proxy.toml:28: [client.principal] a principal must be"),
    (
        "principal = \"accounting\"",
        "principal = \"a\"\nreason = \"because\"",
        "proxy.toml:29: [client.reason] not a known reason",
    ),
    (
        "principal = \"accounting\"",
        "principal = \"a\"\nstorage_access_key = \"abc\"",
        "proxy.toml:29: [client.storage_access_key] `storage_secret_key_file` belongs to it",
    ),
    ("\"logs-*\"", "\"Logs-*\"", "proxy.toml:30: [client.grant.buckets] not a bucket name or pattern"),
    (
        "\"write\"]",
        "\"admin\"]",
        "proxy.toml:31: [client.grant.access] not a known value; write one of: read, write, delete",
    ),
    (
        "[[client.grant]]",
        "[client.grant]",
        "proxy.toml:29: [client.grant] expected tables, each headed by its name in [[ ]]",
    ),
    ("[proxy]", "[proxy", "proxy.toml:1: not valid TOML: "),
    (
        "[proxy]",
        "colour = 1\n[proxy]",
        "proxy.toml:1: [colour] unknown key; remove it, or write one of: proxy, storage",
    ),
    (
        "read_lease_s = 300",
        "[log]\nformat = \"xml\"",
        "proxy.toml:18: [log.format] not a known value; write one of: text, json",
    ),
];

#[test]
fn each_mistake_is_reported_with_its_line_and_key() {
    let wrong = MISTAKES.iter().filter_map(|(line, replacement, expected)| {
        let reported = reported(line, replacement);
        let right = reported.len() == 1 && reported[0].starts_with(expected);
        (!right).then(|| format!("{replacement}\n  {reported:#?}\n  not {expected}"))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_lines() {
    let folder = folder();
    let text = GOOD
        .replace("region = \"us\"", "region = 1")
        .replace("\"storage.key\"", "\"absent\"")
        .replace("kek = \"others\"", "key = 3")
        .replace("\"write\"]", "\"write\", \"all\"]");
    let problems = load_text(&folder, &text).expect_err("many mistakes");
    let lines: Vec<_> = problems.list.iter().map(|problem| (problem.line, problem.key.as_str())).collect();
    let expected = [
        (Some(3), "proxy.region"),
        (Some(10), "storage.secret_key_file"),
        (Some(18), "default_bucket"),
        (Some(19), "default_bucket.key"),
        (Some(31), "client.grant.access"),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn nothing_configured_is_told_section_by_section() {
    let folder = folder();
    let problems = load_text(&folder, "").expect_err("empty").to_string();
    for part in
        ["[proxy] `proxy` is missing", "[storage]", "[custodian]", "no bucket is configured", "no client is configured"]
    {
        assert!(problems.contains(part), "{problems}");
    }
}

#[test]
fn two_clients_with_one_access_key_are_refused() {
    let folder = folder();
    let client = &GOOD[GOOD.find("[[client]]").expect("there")..];
    private(folder.path(), "other.key", "fedcba9876543210");
    let other = client.replace("client.key", "other.key");
    let problems = load_text(&folder, &format!("{GOOD}{other}")).expect_err("twice").to_string();
    assert!(
        problems.ends_with("proxy.toml:33: [client.access_key] already used in line 26; each must be there once"),
        "{problems}"
    );
}

#[test]
fn two_clients_with_one_secret_are_refused() {
    let folder = folder();
    let client = GOOD[GOOD.find("[[client]]").expect("there")..].replace("\"app\"", "\"other\"");
    let problems = load_text(&folder, &format!("{GOOD}{client}")).expect_err("twice").to_string();
    let expected = "proxy.toml:34: [client.secret_key_file] the same secret as that of the client `app`";
    assert!(problems.contains(expected), "{problems}");
}

#[test]
fn certificates_are_checked_at_once() {
    let wanted = |text: &str| {
        let reported = reported("plain_http_on_loopback = true", text);
        assert_eq!(reported.len(), 1, "{reported:#?}");
        reported[0].clone()
    };
    let missing = reported("plain_http_on_loopback = true", "");
    assert_eq!(missing.len(), 2, "{missing:#?}");
    assert!(missing[0].starts_with("proxy.toml:1: [proxy] `certificate_file` is missing"), "{missing:#?}");
    assert!(
        wanted("certificate_file = \"no\"\nkey_file = \"no2\"")
            .starts_with("proxy.toml:4: [proxy.certificate_file] cannot read")
    );
}

#[test]
fn a_file_that_is_none_is_told_without_a_line() {
    let folder = folder();
    let absent = load(&folder.path().join("absent.toml")).expect_err("absent").to_string();
    assert!(absent.contains("absent.toml: cannot read the configuration"), "{absent}");
    std::fs::write(folder.path().join("binary"), [0xff, 0xfe]).expect("writes");
    assert!(load(&folder.path().join("binary")).expect_err("binary").to_string().contains("not UTF-8"));
}
