//! What the program keeps on storage servers and in files, beside objects.

use claviger::custodian::backup::fuzz_bundle;
use claviger::custodian::destruction::fuzz_certificate;
use claviger::custodian::seal::config::SealList;
use claviger::custodian::seal::share::Share;
use claviger::custodian::store::fuzz_row;
use claviger::maintenance::{checkpoint, export};
use claviger::object::state;
use claviger::object::unencrypted::manifest as manifests;

/// What parses as a job's checkpoint is written back byte for byte.
pub fn job_checkpoint(bytes: &[u8]) {
    checkpoint::fuzz_checkpoint(bytes);
}

/// What parses as a piece of a migration's manifest is written back byte for byte; a line of an export's is written as one that reads as the same.
pub fn manifest(bytes: &[u8]) {
    manifests::fuzz_manifest(bytes);
    export::fuzz_manifest(bytes);
}

/// What parses as an entry of the branch-key directory, or as its name, is written back byte for byte.
pub fn directory(bytes: &[u8]) {
    state::fuzz_entry(bytes);
}

/// What parses as a store's list of seals, or as the text of a share, is written back byte for byte.
pub fn seals(bytes: &[u8]) {
    if let Ok(seals) = SealList::parse(bytes) {
        assert_eq!(seals.to_bytes(), bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(share) = Share::parse(text) {
        assert_eq!(share.to_text().expose(), text.trim_ascii().as_bytes());
    }
}

/// What parses as the opened contents of a backup is written as what reads as the same.
pub fn bundle(bytes: &[u8]) {
    fuzz_bundle(bytes);
}

/// What parses as a row of the custodian's store (a record, of the ledger, a confirmation, the epoch) is written back byte for byte.
pub fn store_row(bytes: &[u8]) {
    fuzz_row(bytes);
}

/// What officers have not signed passes for a certificate of destruction only where it says that signatures were left out.
pub fn certificate(bytes: &[u8]) {
    fuzz_certificate(bytes);
}
