//! Round trips through SoftHSM, in a token made for the test.
//!
//! SoftHSM finds its tokens by an environment variable, which a test may not set for its own process: the outer test makes the
//! token and runs the inner one in a process of its own.

use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::custodian::seal::config::SealList;
use crate::custodian::seal::make::NewSeal;
use crate::custodian::seal::{RootKey, UnsealError};

const MODULES_OF_DISTRIBUTIONS: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
];

fn module() -> PathBuf {
    let module = MODULES_OF_DISTRIBUTIONS.iter().map(PathBuf::from).find(|path| path.exists());
    module.expect("SoftHSM is needed for this test (Debian: apt-get install softhsm2)")
}

fn write_private(path: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, content).expect("writes");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
}

#[test]
fn a_token_opens_its_seal() {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = folder.path().join("tokens");
    std::fs::create_dir(&tokens).expect("a folder");
    let configuration = folder.path().join("softhsm2.conf");
    std::fs::write(&configuration, format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display()))
        .expect("writes");
    for label in ["claviger", "twin", "twin"] {
        let made = Command::new("softhsm2-util")
            .env("SOFTHSM2_CONF", &configuration)
            .args(["--init-token", "--free", "--label", label, "--so-pin", "87654321", "--pin", "12345678"])
            .output()
            .expect("softhsm2-util is needed for this test (Debian: apt-get install softhsm2)");
        assert!(made.status.success(), "{made:?}");
    }
    write_private(&folder.path().join("pin"), "12345678\n");
    write_private(&folder.path().join("wrong-pin"), "00000000\n");
    let inner = Command::new(std::env::current_exe().expect("this test"))
        .env("SOFTHSM2_CONF", &configuration)
        .env("CLAVIGER_TEST_FOLDER", folder.path())
        .args(["--exact", "custodian::seal::pkcs11::tests::inside_a_process_that_sees_the_token", "--ignored"])
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&inner.stdout);
    assert!(inner.status.success() && said.contains("1 passed"), "{said}\n{}", String::from_utf8_lossy(&inner.stderr));
}

fn settings(token: &str, key: &str, pin_file: &str) -> Pkcs11Settings {
    let folder = PathBuf::from(std::env::var_os("CLAVIGER_TEST_FOLDER").expect("set by the outer test"));
    Pkcs11Settings {
        module: module(),
        token: token.to_owned(),
        key: key.to_owned(),
        pin_file: folder.join(pin_file),
        timeout: Duration::from_secs(10),
    }
}

fn token(key: &str) -> Token {
    Token::new(settings("claviger", key, "pin"))
}

#[tokio::test]
#[ignore = "run by a_token_opens_its_seal"]
async fn inside_a_process_that_sees_the_token() {
    opens_and_refuses().await;
    misconfiguration_is_told_apart().await;
    unsafe_keys_are_refused().await;
}

async fn opens_and_refuses() {
    let root = RootKey::random().expect("random");
    let hsm = token("root");
    let seals = [NewSeal::Pkcs11(&hsm), NewSeal::Shares { threshold: 2, count: 3 }];
    let (list, _) = SealList::make(&root, &seals).await.expect("makes");
    let list = SealList::parse(&list.to_bytes()).expect("parses");
    let opened = list.open_with_token(&hsm).await.expect("opens");
    assert_eq!(opened.expose(), root.expose());
    // Again, with the key that is there now.
    let (second, _) = SealList::make(&root, &seals).await.expect("makes");
    assert!(second.open_with_token(&hsm).await.is_ok());

    let other = token("other");
    let secret = crypto::random_secret().expect("random");
    let wrapped = hsm.wrap(&secret, b"context").await.expect("wraps");
    assert_eq!(hsm.unwrap(&wrapped, b"context").await.expect("unwraps").expose(), secret.expose());
    assert!(matches!(hsm.unwrap(&wrapped, b"contexT").await, Err(Pkcs11Error::NotAuthentic)));
    assert!(matches!(hsm.unwrap(&wrapped[..20], b"context").await, Err(Pkcs11Error::NotAuthentic)));
    for byte in 0..wrapped.len() {
        let mut flipped = wrapped.clone();
        flipped[byte] ^= 1;
        assert!(matches!(hsm.unwrap(&flipped, b"context").await, Err(Pkcs11Error::NotAuthentic)), "{byte}");
    }
    other.wrap(&secret, b"context").await.expect("makes a key of its own");
    assert!(matches!(other.unwrap(&wrapped, b"context").await, Err(Pkcs11Error::NotAuthentic)));
    let refused = list.open_with_token(&other).await.err();
    assert!(matches!(refused, Some(UnsealError::Pkcs11(Pkcs11Error::NotAuthentic))));
}

async fn misconfiguration_is_told_apart() {
    let unwrap = async |settings| Token::new(settings).unwrap(&[0; 60], b"").await.err().expect("refused");
    assert!(matches!(unwrap(settings("claviger", "none", "pin")).await, Pkcs11Error::Key { found: 0 }));
    assert!(matches!(unwrap(settings("none", "root", "pin")).await, Pkcs11Error::Token { found: 0 }));
    assert!(matches!(unwrap(settings("twin", "root", "pin")).await, Pkcs11Error::Token { found: 2 }));
    assert!(matches!(unwrap(settings("claviger", "root", "wrong-pin")).await, Pkcs11Error::Pin(_)));
    assert!(matches!(unwrap(settings("claviger", "root", "no-pin")).await, Pkcs11Error::PinFile(_)));
    let mut elsewhere = settings("claviger", "root", "pin");
    elsewhere.module = PathBuf::from("/nonexistent/module.so");
    assert!(matches!(unwrap(elsewhere).await, Pkcs11Error::Module { .. }));

    // A token that does not come back: an earlier operation still holds it.
    let (hold, held) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let _module = MODULES.lock().expect("not poisoned");
        hold.send(()).expect("the test listens");
        released.recv().expect("the test tells");
    });
    held.recv().expect("holds");
    let mut slow = settings("claviger", "root", "pin");
    slow.timeout = Duration::from_millis(100);
    assert!(matches!(unwrap(slow).await, Pkcs11Error::TimedOut));
    release.send(()).expect("the holder listens");
    holder.join().expect("does not panic");
}

async fn unsafe_keys_are_refused() {
    let readable = settings("claviger", "readable", "pin");
    let given_out = readable.clone();
    tokio::task::spawn_blocking(move || {
        with_session(&given_out, |session| {
            let template = [
                Attribute::Token(true),
                Attribute::Sensitive(false),
                Attribute::Extractable(true),
                Attribute::ValueLen(32u64.into()),
                Attribute::Encrypt(true),
                Attribute::Decrypt(true),
                Attribute::Label(b"readable".to_vec()),
            ];
            session.generate_key(&Mechanism::AesKeyGen, &template).map(drop).map_err(failed("make a key"))
        })
    })
    .await
    .expect("runs")
    .expect("makes an extractable key");
    let secret = crypto::random_secret().expect("random");
    assert!(matches!(Token::new(readable).wrap(&secret, b"").await, Err(Pkcs11Error::Unsafe)));
}
