//! What the demo's folder keeps, replaces and refuses.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::config;

fn address() -> SocketAddr {
    "127.0.0.1:9443".parse().expect("an address")
}

fn storage(home: &Home) -> StorageAccess {
    StorageAccess {
        url: "http://127.0.0.1:9000".to_owned(),
        region: "us-east-1".to_owned(),
        access_key: STORAGE_ACCESS_KEY.to_owned(),
        secret_file: home.own_storage_secret().expect("makes a secret"),
    }
}

/// A folder with a name that shells have to be told about.
fn odd(root: &TempDir) -> PathBuf {
    root.path().join("it's a $HOME \"folder\"")
}

fn custodian() -> SocketAddr {
    "127.0.0.1:9444".parse().expect("an address")
}

fn metrics() -> SocketAddr {
    "127.0.0.1:9464".parse().expect("an address")
}

#[test]
fn what_it_writes_is_a_right_configuration_and_a_second_demo_uses_the_same_keys() {
    let root = tempfile::tempdir().expect("a folder");
    let kept = [
        names::CA,
        names::KEY,
        names::CLIENT_CA,
        names::PROXY_CLIENT_KEY,
        names::CLIENT_SECRET,
        names::STORAGE_SECRET,
        names::ACCESS_LOG_SEED,
        PASSPHRASE,
    ];
    let demo = || {
        let home = Home::open(Some(&odd(&root))).expect("opens");
        home.furnish(address().ip()).expect("furnishes");
        let access = home.own_custodian(custodian(), metrics()).expect("writes");
        // The custodian itself makes its store.
        std::fs::write(home.path(names::STORE), b"").expect("writes");
        let file = home.write_config([address(), metrics()], &storage(&home), &access).expect("writes");
        config::load(&file).expect("right");
        kept.map(|name| std::fs::read(home.path(name)).expect(name))
    };
    assert_eq!(demo(), demo());
}

#[test]
fn a_passphrase_that_opens_no_store_is_not_kept() {
    let root = tempfile::tempdir().expect("a folder");
    let home = Home::open(Some(root.path())).expect("opens");
    home.furnish(address().ip()).expect("furnishes");
    let passphrase = || {
        home.own_custodian(custodian(), metrics()).expect("writes");
        std::fs::read(home.path(PASSPHRASE)).expect("there")
    };
    assert_ne!(passphrase(), passphrase());
}

#[test]
fn with_a_custodian_elsewhere_there_is_none_here() {
    let root = tempfile::tempdir().expect("a folder");
    let home = Home::open(Some(&odd(&root))).expect("opens");
    home.furnish(address().ip()).expect("furnishes");
    let token_file = home.path("a \"token\"");
    write_private(&token_file, b"s.token\n").expect("writes");
    let access = elsewhere(&home, Some(token_file), None);
    let file = home.write_config([address(), metrics()], &storage(&home), &access).expect("writes");
    config::load(&file).expect("right");
    let certificate = Some((home.path(names::AUDITOR), home.path(names::AUDITOR_KEY)));
    let access = CustodianAccess { login_mount: Some("auth/cert".to_owned()), ..elsewhere(&home, None, certificate) };
    let file = home.write_config([address(), metrics()], &storage(&home), &access).expect("writes");
    config::load(&file).expect("right");
    for name in [names::CUSTODIAN_CONFIG, names::STORE, PASSPHRASE] {
        assert!(!home.path(name).exists(), "{name}");
    }
}

fn elsewhere(home: &Home, token_file: Option<PathBuf>, certificate: Option<(PathBuf, PathBuf)>) -> CustodianAccess {
    let (url, ca_file) = ("https://nobody.invalid:8200".to_owned(), Some(home.path(names::CA)));
    CustodianAccess { url, ca_file, token_file, certificate, login_mount: None, own: false, metrics: None }
}

#[test]
fn the_environment_is_for_its_owner_and_reads_back_in_a_shell() {
    let root = tempfile::tempdir().expect("a folder");
    let home = Home::open(Some(&odd(&root))).expect("opens");
    home.furnish(address().ip()).expect("furnishes");
    assert!(!home.environment_file().exists());
    let access = home.own_custodian(custodian(), metrics()).expect("writes");
    home.write_environment([address(), metrics()], &storage(&home), &access).expect("writes");
    let mode = std::fs::metadata(home.environment_file()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let script = ". \"$0\" && printf '%s\\n' \"$AWS_ENDPOINT_URL\" \"$AWS_CA_BUNDLE\" \"$CLAVIGER_STORAGE_SECRET_KEY\" \
                  \"$VAULT_ADDR\" \"$VAULT_CLIENT_CERT\" \"$CLAVIGER_METRICS_URL\"";
    let shell = std::process::Command::new("sh").args(["-c", script]).arg(home.environment_file()).output();
    let shown = String::from_utf8(shell.expect("sh runs").stdout).expect("text");
    let secret = std::fs::read_to_string(home.path(names::STORAGE_SECRET)).expect("reads");
    let officer = home.path("certs/officer-alice.crt");
    let ca = home.path(names::CA);
    let (ca, officer) = (ca.display(), officer.display());
    let expected = format!(
        "https://{}\n{ca}\n{secret}https://{}\n{officer}\nhttp://{}/metrics\n",
        address(),
        custodian(),
        metrics()
    );
    assert_eq!(shown, expected);
}

#[test]
fn one_demo_at_a_time_and_the_environment_of_an_earlier_one_is_gone() {
    let root = tempfile::tempdir().expect("a folder");
    let home = Home::open(Some(root.path())).expect("opens");
    std::fs::write(home.environment_file(), "stale").expect("writes");
    let refused = Home::open(Some(root.path())).err().expect("another runs").to_string();
    assert!(refused.contains("another demo runs"), "{refused}");
    assert!(home.environment_file().exists(), "the refused one removes nothing");
    drop(home);
    assert!(!Home::open(Some(root.path())).expect("opens").environment_file().exists());
}

#[test]
fn a_deployment_is_not_turned_into_a_demo() {
    let root = tempfile::tempdir().expect("a folder");
    std::fs::write(root.path().join(names::CONFIG), "# The configuration of `claviger proxy`.").expect("writes");
    assert!(Home::open(Some(root.path())).is_err());
}

#[test]
fn a_temporary_folder_is_removed_at_the_end() {
    let home = Home::open(None).expect("opens");
    let dir = home.dir().to_owned();
    assert!(dir.is_dir() && home.is_temporary());
    drop(home);
    assert!(!dir.exists());
}
