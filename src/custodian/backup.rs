//! Backups of KEKs: encrypted under a key that is split among officers, each of whom gets a share in age's format.
//!
//! ```text
//! backup = {"format":"claviger/1 backup", id, made, instance, threshold, keks, shares, bundle}, as one line of canonical JSON
//! shares = for each recipient {"recipient", "share": age file (armored) with one Shamir share of the bundle key, as text}
//! bundle = base64(nonce 12 ‖ AES-256-GCM[bundle key](["claviger/1 backup bundle", [[name, KEK]…]]) ‖ tag 16),
//!          AAD = the backup without its bundle, as canonical JSON
//! ```
//!
//! Below that line the file of a backup has the branch keys of the ledger, a line each, as JSON: they are wrapped under the KEKs and no
//! secrets. The head says how many of them were made up to a minute before, and has a hash of their ids, so that it shows when some are
//! taken out. Whoever opens `threshold` shares opens the KEKs without any custodian: that is what a backup is for, and why making one
//! takes a quorum. A KEK that is destroyed lives on in its backups, which the certificate of destruction therefore names.
//!
//! **Invariant:** bundle key, shares and KEKs are in zeroized memory only, and in no `Debug` form.
//! **Invariant:** with fewer than `threshold` shares, of at least 2, nothing is opened.

mod bundle;
mod ledger;
mod note;
mod officer;
mod opening;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::crypto::{self, AeadKey, RandomFailed};
use crate::names::{KekName, KekVersion};
use crate::secret::Secret;

use super::approval::json::{hex, rfc3339};
use super::approval::{canonical_json, parse_json};
use super::kek::{Kek, Labels};
use super::seal::share::{self, Share};

#[doc(hidden)]
pub use bundle::fuzz_bundle;
pub use ledger::LedgerSum;
pub use note::BackupNote;
pub use officer::{Identities, NewIdentity, ShareRefused, new_identity, open_share};

pub(super) use opening::Opened;

use officer::Recipient;

const FORMAT: &str = "claviger/1 backup";
/// Most KEKs of one backup.
pub const BACKUP_KEKS_MAX: usize = 1_000;
/// Most officers of one.
pub const RECIPIENTS_MAX: usize = 16;
/// Fewest shares that open one.
pub const THRESHOLD_MIN: u8 = 2;
/// Most bytes of a backup, without the branch keys below it.
pub const BACKUP_LEN_MAX: usize = 3 << 20;

/// A backup is not made, or not restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupRefused {
    /// One or none, or more than there can be.
    #[error("a backup is for {THRESHOLD_MIN} to {RECIPIENTS_MAX} recipients")]
    Recipients,
    /// Not an age recipient of the kind that is supported.
    #[error("recipient {0} is none of age's X25519 recipients (age1…)")]
    Recipient(usize),
    /// One person would have two shares.
    #[error("recipient {0} stands there twice")]
    SameRecipient(usize),
    /// Fewer than two, or more than there are.
    #[error("the threshold must be {THRESHOLD_MIN} to the number of recipients")]
    Threshold,
    /// Nothing to back up.
    #[error("there is no KEK to back up")]
    NoKeks,
    /// There is no such KEK.
    #[error("there is no KEK {0}")]
    UnknownKek(KekName),
    /// It is to be destroyed: a copy would outlive it.
    #[error("{0} is to be destroyed, and is not copied any more")]
    Doomed(KekName),
    /// Too much for one backup.
    #[error(
        "a backup holds {BACKUP_KEKS_MAX} KEKs and {BACKUP_LEN_MAX} bytes at most: name the KEKs, in several backups"
    )]
    TooLarge,
    /// Not of the format.
    #[error("not a backup of this format")]
    Malformed,
    /// A share is no share, mistyped, or of something else.
    #[error("share {0} is no share of this backup")]
    Share(usize),
    /// The same share twice.
    #[error("share {0} was given twice")]
    SameShare(usize),
    /// Fewer than the threshold.
    #[error("{given} shares were given, and {threshold} are needed")]
    TooFewShares {
        /// How many there are.
        given: usize,
        /// How many it takes.
        threshold: u8,
    },
    /// The backup was changed, or a share is not what it seems.
    #[error("the shares do not open the backup: too many of them are wrong, or the backup was changed")]
    NotAuthentic,
    /// As before, of shares that officers sent.
    #[error(
        "no {threshold} of the shares that were sent open the backup: too many of them are wrong, or the backup was changed. There are \
         {sent}: who sent a wrong one can send the right one in its place"
    )]
    SentNotAuthentic {
        /// How many it takes.
        threshold: u8,
        /// Which there are, and whose.
        sent: String,
    },
    /// No randomness on this machine.
    #[error("the random number generator failed")]
    Random,
    /// A share for what was not approved.
    #[error("restoring this backup is not approved, or not any more: propose it first (`claviger key restore FILE`)")]
    NotApproved,
    /// The call was approved, and the parts to do it with did not come.
    #[error("it is approved: now send the backup and its shares")]
    NothingSent,
}

impl From<RandomFailed> for BackupRefused {
    fn from(_: RandomFailed) -> Self {
        Self::Random
    }
}

/// For whom a backup is.
pub struct Audience {
    recipients: Vec<Recipient>,
    threshold: u8,
}

impl Audience {
    /// # Errors
    /// [`BackupRefused`] unless they are 2 and more different recipients, of whom 2 and more are needed.
    pub fn new<'a>(recipients: impl IntoIterator<Item = &'a str>, threshold: u64) -> Result<Self, BackupRefused> {
        let mut known: Vec<Recipient> = Vec::new();
        for (number, text) in (1..).zip(recipients.into_iter().take(RECIPIENTS_MAX + 1)) {
            let recipient = Recipient::parse(text).ok_or(BackupRefused::Recipient(number))?;
            if known.iter().any(|one| one.text() == recipient.text()) {
                return Err(BackupRefused::SameRecipient(number));
            }
            known.push(recipient);
        }
        if known.len() < usize::from(THRESHOLD_MIN) || known.len() > RECIPIENTS_MAX {
            return Err(BackupRefused::Recipients);
        }
        let threshold = u8::try_from(threshold).ok().filter(|threshold| *threshold >= THRESHOLD_MIN);
        let threshold = threshold.filter(|threshold| usize::from(*threshold) <= known.len());
        Ok(Self { recipients: known, threshold: threshold.ok_or(BackupRefused::Threshold)? })
    }
}

/// A KEK that goes into a backup.
pub(super) struct BackedUp<'a> {
    pub(super) name: &'a KekName,
    pub(super) kek: &'a Kek,
    /// Its rows in the ledger.
    pub(super) ledger_rows: u64,
    /// Its branch keys in it.
    pub(super) ledger: LedgerSum,
}

/// Makes a backup: its text, and what is to be kept about it.
pub(super) fn make(
    keks: &[BackedUp<'_>],
    audience: &Audience,
    instance: &str,
    now_unix_s: i64,
) -> Result<(String, BackupNote), BackupRefused> {
    if keks.is_empty() {
        return Err(BackupRefused::NoKeks);
    }
    let note = BackupNote {
        id: hex(&crypto::random_array::<16>()?),
        made_unix_s: now_unix_s,
        instance: instance.to_owned(),
        threshold: audience.threshold,
        recipients: audience.recipients.iter().map(|one| one.text().to_owned()).collect(),
        keks: keks.iter().map(|one| (one.name.clone(), one.kek.latest())).collect(),
    };
    let key = crypto::random_secret()?;
    let count = u8::try_from(audience.recipients.len()).map_err(|_| BackupRefused::Recipients)?;
    let seal = note.seal_id().ok_or(BackupRefused::Malformed)?;
    let shares = share::split(seal, note.threshold, count, &key).map_err(|_| BackupRefused::Random)?;
    let sealed = |(recipient, share): (&Recipient, &Share)| {
        Some(json!({ "recipient": recipient.text(), "share": recipient.seal(&share.to_text())? }))
    };
    let shares: Option<Vec<Value>> = audience.recipients.iter().zip(&shares).map(sealed).collect();
    let mut backup = json!({
        "format": FORMAT,
        "id": note.id,
        "made": rfc3339(now_unix_s),
        "instance": instance,
        "threshold": note.threshold,
        "keks": keks.iter().map(BackedUp::to_json).collect::<Vec<_>>(),
        "shares": shares.ok_or(BackupRefused::Recipients)?,
    });
    let bundle = bundle::write(keks.iter().map(|one| (one.name, one.kek.to_bytes())));
    let bundle = AeadKey::new(&key).seal(canonical_json(&backup).as_bytes(), &bundle)?;
    backup["bundle"] = STANDARD.encode(bundle).into();
    let text = canonical_json(&backup);
    if keks.len() > BACKUP_KEKS_MAX || text.len() > BACKUP_LEN_MAX {
        Err(BackupRefused::TooLarge)
    } else {
        Ok((text, note))
    }
}

impl BackedUp<'_> {
    fn to_json(&self) -> Value {
        let info = self.kek.info(self.name);
        let versions = info.versions.iter().map(|(version, _)| version.number());
        let labels: Vec<String> = info.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        json!({
            "name": self.name.as_str(),
            "versions": versions.collect::<Vec<_>>(),
            "labels": labels,
            "ledger_rows": self.ledger_rows,
            "ledger": self.ledger.to_json(),
        })
    }
}

/// A backup as it was read. Nothing of it is believed before its bundle was opened.
pub struct Backup {
    /// All but the bundle.
    head: Value,
    bundle: Vec<u8>,
    note: BackupNote,
    sha256: [u8; 32],
}

impl Backup {
    /// Reads the line of a backup's file that has the backup itself. White space and the order of fields do not matter.
    ///
    /// # Errors
    /// [`BackupRefused::Malformed`], [`BackupRefused::TooLarge`].
    pub fn parse(text: &str) -> Result<Self, BackupRefused> {
        if text.len() > BACKUP_LEN_MAX {
            return Err(BackupRefused::TooLarge);
        }
        Self::read(text).ok_or(BackupRefused::Malformed)
    }

    fn read(text: &str) -> Option<Self> {
        let mut head = parse_json(text.as_bytes()).ok()?;
        let sha256 = crypto::sha256(canonical_json(&head).as_bytes());
        let bundle = STANDARD.decode(head.as_object_mut()?.remove("bundle")?.as_str()?).ok()?;
        if head["format"] != FORMAT {
            return None;
        }
        let note = BackupNote::of_head(&head)?;
        Some(Self { head, bundle, note, sha256 })
    }

    /// SHA-256 of its canonical JSON: what officers approve the restoring of.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// What it says of itself.
    pub fn note(&self) -> &BackupNote {
        &self.note
    }

    /// Its shares, each still encrypted to its recipient: recipient and armored age file.
    pub fn shares(&self) -> impl Iterator<Item = (&str, &str)> {
        let shares = self.head["shares"].as_array().into_iter().flatten();
        shares.filter_map(|one| Some((one["recipient"].as_str()?, one["share"].as_str()?)))
    }

    /// How many rows of the ledger there were of each KEK.
    pub fn ledger_rows(&self) -> impl Iterator<Item = (&str, u64)> {
        let keks = self.head["keks"].as_array().into_iter().flatten();
        keks.filter_map(|one| Some((one["name"].as_str()?, one["ledger_rows"].as_u64()?)))
    }

    /// Which branch keys of each KEK there have to be below it; `None` where it is from before that was kept.
    pub fn ledgers(&self) -> impl Iterator<Item = (&str, Option<LedgerSum>)> {
        let keks = self.head["keks"].as_array().into_iter().flatten();
        keks.filter_map(|one| Some((one["name"].as_str()?, LedgerSum::parse(&one["ledger"]))))
    }

    /// Reads shares as their recipients decrypted them.
    ///
    /// # Errors
    /// [`BackupRefused`] unless they are different shares of this backup.
    pub(super) fn read_shares<'a>(
        &self,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Share>, BackupRefused> {
        let mut shares: Vec<Share> = Vec::new();
        for (number, text) in (1..).zip(texts.into_iter().take(RECIPIENTS_MAX + 1)) {
            let share = Share::parse(text).ok().filter(|share| self.claims(share));
            let share = share.ok_or(BackupRefused::Share(number))?;
            if shares.iter().any(|known| known.index() == share.index()) {
                return Err(BackupRefused::SameShare(number));
            }
            shares.push(share);
        }
        Ok(shares)
    }

    /// The KEKs, if this is the bundle's key. `aad` is the canonical JSON of the head.
    fn open_with(&self, key: &Secret<32>, aad: &str) -> Option<Vec<Restorable>> {
        let opened = AeadKey::new(key).open(aad.as_bytes(), &self.bundle).ok()?;
        let keks = bundle::read(&opened)?;
        let named = keks.iter().map(|kek| (&kek.name, kek.latest));
        // What officers read in it is what is in it.
        named.eq(self.note.keks.iter().map(|(name, latest)| (name, *latest))).then_some(keks)
    }
}

/// A KEK out of a backup.
pub(super) struct Restorable {
    pub(super) name: KekName,
    pub(super) labels: Labels,
    pub(super) oldest: KekVersion,
    pub(super) latest: KekVersion,
    bytes: Zeroizing<Vec<u8>>,
}

impl Restorable {
    /// The KEK itself, as it was: off if it was off, and opening what it opened. It is marked: branch keys that were made after the
    /// backup are in no ledger.
    pub(super) fn kek(&self) -> Kek {
        let mut kek = Kek::parse(&self.bytes).expect("it was parsed when it was read");
        kek.mark_restored();
        kek
    }
}

/// For fuzzing: whatever parses as a backup has a note, and its text has one hash.
#[doc(hidden)]
pub fn fuzz_backup(text: &str) {
    if let Ok(backup) = Backup::parse(text) {
        assert!(backup.note.seal_id().is_some() && backup.note.threshold >= THRESHOLD_MIN);
        assert_eq!(BackupNote::parse(&backup.note.to_bytes()).as_ref(), Ok(&backup.note));
    }
}

#[cfg(test)]
mod tests;
