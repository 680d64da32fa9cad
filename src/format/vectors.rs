//! Replays `tests/vectors/*.txt`: each says how a stored object is made, what is then done to it, and what a
//! reader must make of it. docs/FORMAT.md explains the files. `CLAVIGER_BLESS=1` writes the pinned lines anew.

mod build;
mod mutate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::body::{OpenError, RangeOpener, SingleOpener};
use super::envelope::{Binding, EnvelopeError, Layout, Unverified, Wrapping};
use super::footer::Tail;
use super::keys::Dek;
use super::layout::PartMap;
use super::{narrow, size, widen};
use crate::crypto::sha256;
use crate::names::{LogicalBucket, Purpose};
use crate::secret::Secret;

/// A stored object: the envelope's text and the body.
#[derive(Clone)]
struct Stored {
    envelope: String,
    body: Vec<u8>,
}

/// The lines of a vector file: name → values in order.
struct Vector {
    path: PathBuf,
    lines: Vec<(String, String)>,
}

impl Vector {
    fn load(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a readable vector");
        let lines = text.lines().filter(|line| !line.is_empty());
        let lines = lines.map(|line| line.split_once(": ").expect("name: value"));
        let lines = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { path: path.to_owned(), lines }
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.lines.iter().filter(move |line| line.0 == name).map(|line| line.1.as_str())
    }

    fn one(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_else(|| panic!("{} has no line {name}", self.path.display()))
    }

    fn or<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.all(name).next().unwrap_or(default)
    }

    /// Compares a pinned line, or writes it.
    fn pin(&mut self, name: &str, value: &str) {
        if std::env::var_os("CLAVIGER_BLESS").is_none() {
            assert_eq!(self.one(name), value, "{}: {name}", self.path.display());
            return;
        }
        self.lines.retain(|line| line.0 != name);
        self.lines.push((name.to_owned(), value.to_owned()));
        let text: String = self.lines.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        std::fs::write(&self.path, text).expect("a writable vector");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How a vector's object is read: which keys and binding the reader has.
struct Reader {
    branch_key: Secret<32>,
    customer_key: Option<Secret<32>>,
    purpose: Purpose,
    bucket: LogicalBucket,
    key: String,
    upload_id: String,
}

impl Reader {
    fn of(vector: &Vector, prefix: &str) -> Self {
        let line = |name: &str, default: &'static str| -> String {
            let own = vector.or(name, default).to_owned();
            vector.or(&format!("{prefix}{name}"), &own).to_owned()
        };
        let key = |seed: &str| Secret::from_slice(&sha256(seed.as_bytes())).expect("not zero");
        let customer = line("customer-key", "");
        Self {
            branch_key: key(&line("branch-key", "branch key")),
            customer_key: (!customer.is_empty()).then(|| key(&customer)),
            purpose: if line("purpose", "object") == "upload" { Purpose::Upload } else { Purpose::Object },
            bucket: LogicalBucket::new(&line("bucket", "records")).expect("legal"),
            key: line("key", "ledger/2026.csv"),
            upload_id: line("upload-id", ""),
        }
    }

    fn wrapping(&self) -> Wrapping<'_> {
        Wrapping { branch_key: &self.branch_key, customer_key: self.customer_key.as_ref() }
    }

    fn binding(&self) -> Binding<'_> {
        Binding { purpose: self.purpose, bucket: &self.bucket, key: &self.key, upload_id: &self.upload_id }
    }

    /// What a whole read gives: the plaintext, or the name of what is wrong.
    fn read(&self, stored: &Stored) -> Result<Vec<u8>, &'static str> {
        let envelope = Unverified::parse(&stored.envelope).map_err(|_| "malformed")?;
        let opened = envelope.open(self.wrapping(), self.binding());
        let opened = opened.map_err(|error| match error {
            EnvelopeError::CustomerKey => "customer-key",
            EnvelopeError::NotAuthentic => "not-authentic",
        })?;
        let dek = Arc::new(opened.dek);
        let result = match opened.layout {
            Layout::Empty if stored.body.is_empty() => Ok(Vec::new()),
            Layout::Empty => Err(OpenError::Length),
            Layout::Single => read_single(&dek, &stored.body),
            Layout::Multipart => read_multipart(&dek, &stored.body),
        };
        result.map_err(|_| "not-authentic")
    }
}

fn pieces(body: &[u8]) -> impl Iterator<Item = Bytes> {
    body.chunks(50_021).map(Bytes::copy_from_slice)
}

fn read_single(dek: &Arc<Dek>, body: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut opener = SingleOpener::new(Arc::clone(dek), widen(body.len())).ok_or(OpenError::Length)?;
    let mut plaintext = Vec::new();
    for mut piece in pieces(body) {
        while !piece.is_empty() {
            plaintext.extend_from_slice(&opener.push(&mut piece)?.unwrap_or_default());
        }
    }
    let (last, tail) = opener.finish()?;
    plaintext.extend_from_slice(&last);
    assert_eq!(tail.length(), widen(plaintext.len()));
    Ok(plaintext)
}

fn open_map(dek: &Dek, body: &[u8]) -> Result<PartMap, OpenError> {
    let cut = body.len().checked_sub(narrow(size::TAIL)).ok_or(OpenError::Length)?;
    let (before, tail) = body.split_at_checked(cut).ok_or(OpenError::Length)?;
    let tail = Tail::open(dek, Layout::Multipart, tail, widen(body.len()))?;
    let list_start = before.len().checked_sub(narrow(tail.footer_len() - size::TAIL)).ok_or(OpenError::Length)?;
    let list = before.get(list_start..).ok_or(OpenError::Length)?;
    Ok(tail.open_list(dek, Layout::Multipart, list)?)
}

fn read_multipart(dek: &Dek, body: &[u8]) -> Result<Vec<u8>, OpenError> {
    let map = Arc::new(open_map(dek, body)?);
    let mut opener = RangeOpener::new(dek, Arc::clone(&map), &map.plan_all());
    let mut plaintext = Vec::new();
    for mut piece in pieces(body.get(..narrow(map.sealed())).ok_or(OpenError::Length)?) {
        while !piece.is_empty() {
            plaintext.extend_from_slice(&opener.push(&mut piece)?.unwrap_or_default());
        }
    }
    opener.finish()?;
    Ok(plaintext)
}

fn check(path: &Path, others: &BTreeMap<String, Stored>) -> Stored {
    let mut vector = Vector::load(path);
    let made = build::make(&vector);
    vector.pin("envelope", &made.envelope);
    vector.pin("stored-size", &made.body.len().to_string());
    vector.pin("stored-sha256", &hex(&sha256(&made.body)));
    let mut stored = made.clone();
    for mutation in vector.all("mutate") {
        mutate::apply(&mut stored, mutation, others);
    }
    if vector.one("expect") != "success" && vector.all("mutate").next().is_some() {
        assert!(stored.body != made.body || stored.envelope != made.envelope, "{}: nothing mutated", path.display());
    }
    let outcome = match Reader::of(&vector, "read-").read(&stored) {
        Ok(plaintext) => {
            assert_eq!(plaintext, build::plaintext(&vector), "{}: wrong bytes", path.display());
            "success"
        }
        Err(problem) => problem,
    };
    assert_eq!(outcome, vector.one("expect"), "{}: {}", path.display(), vector.one("comment"));
    made
}

#[test]
fn every_vector_behaves_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let entries = std::fs::read_dir(folder).expect("the vectors' folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    // The valid objects come first: others are spliced from them.
    paths.sort_by_key(|path| (!path.to_string_lossy().contains("/valid-"), path.clone()));
    let mut objects = BTreeMap::new();
    for path in &paths {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let made = check(path, &objects);
        objects.insert(name, made);
    }
    assert!(paths.len() >= 50, "only {} vectors found", paths.len());
}
