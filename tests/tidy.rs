//! The rules of the house that the compiler does not know: floors, confined crates, headers, no printing.
//!
//! docs/ARCHITECTURE.md gives the reasons. Each rule has a test below that shows it catching a violation.

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/tokens.rs"]
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};

use rules::{check, test_only_modules};

/// Folders of the package whose Rust files are held to the rules.
const HELD: &[&str] = &["src", "tests", "benches", "fuzz/fuzz_targets"];

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder of the package can be listed").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_house_is_tidy() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in HELD {
        rust_files(&package.join(folder), &mut files);
    }
    files.sort();
    assert!(files.iter().any(|file| file.ends_with("src/lib.rs")), "the walk did not even find src/lib.rs");
    let read = |file: &PathBuf| {
        let relative = file.strip_prefix(package).expect("the walk starts in the package");
        let source = fs::read_to_string(file).expect("a source file is readable UTF-8");
        (relative.to_string_lossy().replace('\\', "/"), source)
    };
    let files: Vec<(String, String)> = files.iter().map(read).collect();
    let test_only: Vec<String> = files.iter().flat_map(|(path, source)| test_only_modules(path, source)).collect();
    let is_test_only = |path: &str| {
        test_only
            .iter()
            .any(|module| path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/')))
    };
    let violations = files.iter().flat_map(|(path, source)| check(path, source, is_test_only(path)));
    let lines: Vec<String> = violations.map(|violation| violation.to_string()).collect();
    assert!(lines.is_empty(), "{} broken rules of the house:\n{}\n", lines.len(), lines.join("\n"));
}

/// The rules that `code` breaks in the file `path`, as `rule@line`; the header is line 1.
fn broken(path: &str, code: &str) -> Vec<String> {
    let source = format!("//! A file.\n{code}\n");
    let violations = check(path, &source, false);
    violations.iter().map(|v| format!("{}@{}", v.rule, v.place.rsplit(':').next().unwrap_or_default())).collect()
}

fn is_broken(path: &str, code: &str) -> bool {
    !broken(path, code).is_empty()
}

#[test]
fn imports_from_a_higher_floor_are_caught() {
    assert_eq!(broken("src/format/footer.rs", "use std::fmt;\nuse crate::object::Put;"), ["floors@3"]);
    assert_eq!(broken("src/object/put.rs", "fn f() { crate::proxy::serve(); }"), ["floors@2"]);
    assert_eq!(
        broken("src/storage.rs", "use crate::{\n    crypto::{self, Tag},\n    object::{self},\n};"),
        ["floors@4"]
    );
    assert_eq!(broken("src/net/http.rs", "use super::super::storage::Client;"), ["floors@2"]);
    assert_eq!(broken("src/net.rs", "use super::storage::Client;"), ["floors@2"]);
    assert_eq!(broken("src/s3.rs", "#[cfg(test)]\nmod tests {\n    use super::super::object::X;\n}"), ["floors@4"]);
    assert_eq!(broken("src/main.rs", "use claviger::nowhere::X;"), ["floors@2"]);
}

#[test]
fn imports_beside_on_the_same_floor_are_caught() {
    assert!(is_broken("src/format.rs", "use crate::s3::Range;"));
    assert!(is_broken("src/proxy/route.rs", "use crate::maintenance::Job;"));
    assert!(is_broken("src/config.rs", "use crate::cli::Demo;"));
    assert!(is_broken("src/proxy.rs", "use crate::config::Config;"));
    assert!(is_broken("src/secret.rs", "use crate::crypto::random_fill;"));
    assert!(is_broken("src/crypto.rs", "use crate::names::KekName;"));
    assert!(is_broken("src/net/tls.rs", "use crate::telemetry::Meter;"));
}

#[test]
fn modules_that_are_not_on_the_map_are_caught() {
    assert_eq!(broken("src/util.rs", ""), ["floors@1"]);
    assert_eq!(broken("src/proxy.rs", "use crate::*;"), ["floors@2"]);
}

#[test]
fn imports_downwards_and_within_a_module_are_free() {
    assert!(!is_broken(
        "src/object/put.rs",
        "use crate::{crypto, format::{envelope, segment}, s3, storage, object::get};"
    ));
    assert!(!is_broken(
        "src/format/footer.rs",
        "use super::envelope::Envelope;\n#[cfg(test)]\nmod tests { use super::super::segment; }"
    ));
    assert!(!is_broken("src/names.rs", "use crate::crypto::random_array; pub(crate) fn f() {}"));
    assert!(!is_broken("src/cli/demo.rs", "use crate::{config::Config, proxy};"));
    assert!(!is_broken("src/main.rs", "use claviger::cli;"));
    assert!(!is_broken("src/crypto.rs", "/// See [`crate::object`].\nfn f() { let a = \"crate::object::put\"; }"));
}

#[test]
fn confined_crates_are_caught_outside_their_homes() {
    assert_eq!(broken("src/custodian/keyring.rs", "use ring::aead;"), ["crate confinement@2"]);
    assert_eq!(broken("src/custodian/keyring.rs", "use aws_lc_rs::aead;"), ["crate confinement@2"]);
    for library in ["ring", "aws_lc_rs"] {
        let provider = format!("fn f() {{ rustls::crypto::{library}::default_provider(); }}");
        assert!(is_broken("src/storage.rs", &provider));
        assert!(!is_broken("src/net/tls.rs", &provider));
    }
    assert!(is_broken("src/net/tls.rs", "fn f() { ring::digest::digest(); }"));
    assert!(is_broken("src/format.rs", "#[cfg(test)]\nmod tests { use ring::aead; }"));
    assert!(is_broken("src/proxy.rs", "fn f() -> anyhow::Result<()> { Ok(()) }"));
    assert!(is_broken("src/net/listener.rs", "use rcgen::KeyPair;"));
    assert!(is_broken("src/storage.rs", "use s3s::S3;"));
    assert!(is_broken("src/object.rs", "use s3s::auth::SimpleAuth;"));
    assert!(!is_broken("src/crypto.rs", "use ring::aead;\nuse aws_lc_rs as library;"));
    assert!(!is_broken("src/net/listener.rs", "#[cfg(test)]\nmod tests { use rcgen::KeyPair; }"));
    assert!(!is_broken("src/cli/demo.rs", "use anyhow::Context;\nuse rcgen::KeyPair;\nuse s3s::S3;"));
}

#[test]
fn printing_outside_the_command_line_is_caught() {
    for print in ["print", "println", "eprint", "eprintln"] {
        assert_eq!(broken("src/object/get.rs", &format!("fn f() {{ {print}!(\"x\"); }}")), ["printing@2"]);
    }
    assert!(!is_broken("src/cli/inspect.rs", "fn f() { println!(\"x\"); }"));
}

#[test]
fn input_and_output_in_protocol_logic_is_caught() {
    assert_eq!(broken("src/s3/chunked.rs", "use tokio::io::AsyncRead;"), ["no I/O@2"]);
    assert_eq!(broken("src/format.rs", "async fn f() {}"), ["no I/O@2"]);
    assert_eq!(broken("src/format.rs", "use std::{fmt, fs};"), ["no I/O@2"]);
    assert!(!is_broken("src/format.rs", "use std::fmt;\n#[cfg(test)]\nmod tests { use std::fs; }"));
    assert!(is_broken("src/s3.rs", "use std::net::TcpStream;"));
    assert!(!is_broken("src/s3.rs", "use std::net::Ipv4Addr;"));
    assert!(!is_broken("src/custody/cache.rs", "async fn f() {}"));
}

#[test]
fn secrets_that_are_compared_with_an_operator_are_caught() {
    for comparison in
        ["a.expose() == b", "a != self.b.expose()", "*a.expose() != *b.expose()", "f(a == &b.c.expose()[..])"]
    {
        assert!(is_broken("src/proxy.rs", &format!("fn f() {{ {comparison} }}")), "{comparison}");
    }
    for other in
        ["constant_time_eq(a.expose(), b)", "a.expose().len() == 3", "let a = b.expose();", "a == b && c(d.expose())"]
    {
        assert!(!is_broken("src/proxy.rs", &format!("fn f() {{ {other} }}")), "{other}");
    }
    assert!(!is_broken("src/secret.rs", "#[cfg(test)]\nmod tests { fn f() { a.expose() == b } }"));
}

#[test]
fn files_that_are_test_code_are_told_by_their_declaration() {
    let declares = "#[cfg(test)]\nmod vectors;\nmod envelope;\n#[cfg(test)]\nmod tests { }";
    assert_eq!(test_only_modules("src/format.rs", declares), ["src/format/vectors"]);
    assert_eq!(test_only_modules("src/net.rs", "#[cfg(test)]\npub(crate) mod tests;"), ["src/net/tests"]);
    assert_eq!(test_only_modules("src/net.rs", "#[cfg(test)]\nuse x;\nmod tests;"), [""; 0]);
    assert_eq!(test_only_modules("src/lib.rs", declares), ["src/vectors"]);
    let source = "//! Vectors.\nuse std::fs;";
    assert_eq!(check("src/format/vectors.rs", source, true), []);
    assert_eq!(check("src/format/vectors.rs", source, false).len(), 1);
}

#[test]
fn a_missing_header_is_caught() {
    assert_eq!(check("src/names.rs", "use std::fmt;\n//! Late.", false).len(), 1);
    assert_eq!(check("benches/codec.rs", "fn main() {}", false).len(), 1);
    assert_eq!(check("tests/all/put.rs", "//!\nfn main() {}", false).len(), 1);
    assert_eq!(check("tests/all/put.rs", "", false).len(), 1);
    assert_eq!(check("tests/all/put.rs", "//! Puts.\n", false), []);
}

#[test]
fn a_mod_rs_is_caught() {
    assert_eq!(broken("src/net/mod.rs", ""), ["no mod.rs@1"]);
    assert_eq!(broken("tests/all/mod.rs", ""), ["no mod.rs@1"]);
}
