//! One KEK: named by its owner, versioned, with all that the Transit API can ask of a symmetric key.
//!
//! `data key = key of the version`, or for a derived KEK `HKDF-SHA256[no salt, context](key of the version)` of the type's length;
//! `ciphertext = nonce ‖ AEAD[data key, nonce, aad](plaintext) ‖ tag`.
//!
//! **Invariant:** the versions are consecutive and at least one; the oldest is 1 or what [`Kek::trim`] left as the oldest. The
//! oldest that is opened is one of them, and the oldest that encrypts, where one is set, is not older than that.
//! **Invariant:** nothing is done with a key without a [`Permit`].

mod change;
mod cipher;
mod ciphertext;
mod codec;
mod error;
mod labels;

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::crypto;
use crate::names::{KekName, KekVersion};

use super::audit::Permit;

pub use change::{AUTO_ROTATE_MIN_S, KeyChange};
pub use cipher::{DataKeyLen, KeyType};
pub use ciphertext::{CIPHERTEXT_MAX, CIPHERTEXT_TEXT_MAX, Ciphertext, InvalidCiphertext};
pub use error::{ChangeRefused, KeyringError, Part};
pub use labels::{InvalidLabels, LABELS_MAX, Labels};

use cipher::Material;

/// Most versions that one KEK keeps at a time.
pub const VERSIONS_MAX: usize = 1_000;
/// Most bytes that are encrypted at a time.
pub const PLAINTEXT_MAX: usize = 128 << 10;
/// Most bytes of a context.
pub const CONTEXT_MAX: usize = 4 << 10;
/// Most bytes of associated data.
pub const AAD_MAX: usize = 64 << 10;

/// What a KEK is made with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyOptions {
    /// Its algorithm, for good.
    pub key_type: KeyType,
    /// Whether each use derives a key from the context, for good.
    pub derived: bool,
    /// Whether it may be exported.
    pub exportable: bool,
    /// Whether it may be backed up in the clear.
    pub allow_plaintext_backup: bool,
    /// Seconds between rotations: 0 for none, else at least [`AUTO_ROTATE_MIN_S`].
    pub auto_rotate_period_s: u64,
    /// What policy knows it by, for good.
    pub labels: Labels,
}

/// What may be told about a KEK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekInfo {
    /// Its name.
    pub name: KekName,
    /// Its algorithm.
    pub key_type: KeyType,
    /// Whether each use derives a key from the context.
    pub derived: bool,
    /// Whether it may be exported.
    pub exportable: bool,
    /// Whether it may be backed up in the clear.
    pub allow_plaintext_backup: bool,
    /// Whether it may be deleted.
    pub deletion_allowed: bool,
    /// Seconds between rotations, 0 for none.
    pub auto_rotate_period_s: u64,
    /// The oldest version that is opened.
    pub min_decryption: u32,
    /// The oldest version that encrypts; 0 when none was set.
    pub min_encryption: u32,
    /// The oldest version that there still is, as set by a trim; 0 when it was never trimmed.
    pub min_available: u32,
    /// The newest version, which encrypts when no other is asked for.
    pub latest: KekVersion,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Whether it is set aside for deletion.
    pub soft_deleted: bool,
    /// Its newest version in the backup that it came from, until its ledger was declared whole.
    pub restored_through: Option<KekVersion>,
    /// What policy knows it by.
    pub labels: Labels,
    /// The versions that there are, oldest first, and when they were made, in seconds since 1970.
    pub versions: Vec<(KekVersion, i64)>,
}

struct Version {
    created_unix_s: i64,
    key: Material,
}

/// A KEK with its keys.
pub struct Kek {
    key_type: KeyType,
    derived: bool,
    exportable: bool,
    allow_plaintext_backup: bool,
    deletion_allowed: bool,
    disabled: bool,
    soft_deleted: bool,
    auto_rotate_period_s: u64,
    min_decryption: KekVersion,
    /// 0: not set.
    min_encryption: u32,
    /// 0: not set.
    min_available: u32,
    /// Its newest version in the backup that it came from, as long as branch keys may hang on it that the ledger does not know.
    restored_through: Option<KekVersion>,
    labels: Labels,
    versions: BTreeMap<KekVersion, Version>,
}

impl Kek {
    /// Makes a KEK with its first version.
    ///
    /// # Errors
    /// [`KeyringError::BadChange`] when the rotation period is too short, [`KeyringError::NotApproved`], [`KeyringError::Random`].
    pub fn create(options: &KeyOptions, now_unix_s: i64, _permit: Permit) -> Result<Self, KeyringError> {
        change::check_period(options.auto_rotate_period_s)?;
        let first = Version { created_unix_s: now_unix_s, key: Material::random(options.key_type)? };
        Ok(Self {
            key_type: options.key_type,
            derived: options.derived,
            exportable: options.exportable,
            allow_plaintext_backup: options.allow_plaintext_backup,
            deletion_allowed: false,
            disabled: false,
            soft_deleted: false,
            auto_rotate_period_s: options.auto_rotate_period_s,
            min_decryption: KekVersion::FIRST,
            min_encryption: 0,
            min_available: 0,
            restored_through: None,
            labels: options.labels.clone(),
            versions: BTreeMap::from([(KekVersion::FIRST, first)]),
        })
    }

    /// What may be told about it, under its name.
    pub fn info(&self, name: &KekName) -> KekInfo {
        KekInfo {
            name: name.clone(),
            key_type: self.key_type,
            derived: self.derived,
            exportable: self.exportable,
            allow_plaintext_backup: self.allow_plaintext_backup,
            deletion_allowed: self.deletion_allowed,
            auto_rotate_period_s: self.auto_rotate_period_s,
            min_decryption: self.min_decryption.number(),
            min_encryption: self.min_encryption,
            min_available: self.min_available,
            latest: self.latest(),
            disabled: self.disabled,
            soft_deleted: self.soft_deleted,
            restored_through: self.restored_through,
            labels: self.labels.clone(),
            versions: self.versions.iter().map(|(number, version)| (*number, version.created_unix_s)).collect(),
        }
    }

    /// What policy knows it by.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Whether each use needs a context.
    pub fn is_derived(&self) -> bool {
        self.derived
    }

    /// Whether it is switched off.
    pub fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// The newest version.
    pub fn latest(&self) -> KekVersion {
        *self.versions.last_key_value().expect("a KEK has at least one version").0
    }

    /// Whether the newest version is older than the rotation period, where there is one, and the KEK can be rotated.
    pub fn is_rotation_due(&self, now_unix_s: i64) -> bool {
        let newest = self.versions.last_key_value().expect("a KEK has at least one version").1;
        let age_s = now_unix_s.saturating_sub(newest.created_unix_s);
        let is_old = u64::try_from(age_s).is_ok_and(|age_s| age_s >= self.auto_rotate_period_s);
        is_old && self.auto_rotate_period_s > 0 && self.usable().is_ok()
    }

    fn usable(&self) -> Result<&Self, KeyringError> {
        if self.soft_deleted {
            return Err(KeyringError::SoftDeleted);
        }
        if self.disabled { Err(KeyringError::Disabled) } else { Ok(self) }
    }

    /// Encrypts `plaintext` under `version`, or the newest. A KEK that is not derived takes no notice of `context`.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn encrypt(
        &self,
        version: Option<KekVersion>,
        context: &[u8],
        aad: &[u8],
        plaintext: &[u8],
        _permit: Permit,
    ) -> Result<Ciphertext, KeyringError> {
        self.usable()?.seal(version, context, aad, plaintext)
    }

    /// Opens `ciphertext`.
    ///
    /// # Errors
    /// [`KeyringError`]; whatever does not fit gives [`KeyringError::NotAuthentic`] and no more.
    pub fn decrypt(
        &self,
        ciphertext: &Ciphertext,
        context: &[u8],
        aad: &[u8],
        _permit: Permit,
    ) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
        self.usable()?.open(ciphertext, context, aad)
    }

    /// Whether `ciphertext` opens under it and `context`, also while it is switched off: what is in it does not come out.
    pub(in crate::custodian) fn holds(&self, ciphertext: &Ciphertext, context: &[u8], _permit: &Permit) -> bool {
        self.open(ciphertext, context, &[]).is_ok()
    }

    /// Whether two ciphertexts hold the same under `context`, also while it is switched off.
    pub(in crate::custodian) fn holds_alike(
        &self,
        [one, other]: [&Ciphertext; 2],
        context: &[u8],
        _permit: &Permit,
    ) -> bool {
        let [one, other] = [one, other].map(|ciphertext| self.open(ciphertext, context, &[]));
        matches!((one, other), (Ok(one), Ok(other)) if crypto::constant_time_eq(&one, &other))
    }

    /// Opens `ciphertext` and encrypts what is in it under `to`, or the newest version.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn rewrap(
        &self,
        ciphertext: &Ciphertext,
        to: Option<KekVersion>,
        context: &[u8],
        aad: &[u8],
        _permit: Permit,
    ) -> Result<Ciphertext, KeyringError> {
        let plaintext = self.usable()?.open(ciphertext, context, aad)?;
        self.seal(to, context, aad, &plaintext)
    }

    /// As [`Kek::rewrap`] to the newest version, for many: ciphertext and context of each.
    ///
    /// # Errors
    /// [`KeyringError`] when the KEK does nothing; for each, why it does not open.
    pub fn rewrap_all<'a>(
        &self,
        items: impl Iterator<Item = (&'a Ciphertext, &'a [u8])>,
        _permit: Permit,
    ) -> Result<Vec<Result<Ciphertext, KeyringError>>, KeyringError> {
        let kek = self.usable()?;
        let rewrap = |(ciphertext, context)| {
            let plaintext = kek.open(ciphertext, context, b"")?;
            kek.seal(None, context, b"", &plaintext)
        };
        Ok(items.map(rewrap).collect())
    }

    /// Whether two ciphertexts hold the same under one context, for many: one, the other and the context of each.
    ///
    /// # Errors
    /// [`KeyringError`] when the KEK does nothing; for each, why it does not open. Others are [`KeyringError::NotAuthentic`].
    pub fn hold_the_same<'a>(
        &self,
        items: impl Iterator<Item = (&'a Ciphertext, &'a Ciphertext, &'a [u8])>,
        _permit: Permit,
    ) -> Result<Vec<Result<(), KeyringError>>, KeyringError> {
        let kek = self.usable()?;
        let compare = |(one, other, context)| {
            let (one, other) = (kek.open(one, context, b"")?, kek.open(other, context, b"")?);
            if crypto::constant_time_eq(&one, &other) { Ok(()) } else { Err(KeyringError::NotAuthentic) }
        };
        Ok(items.map(compare).collect())
    }

    /// When a version was made, in seconds since 1970.
    pub fn created_unix_s(&self, version: KekVersion) -> Option<i64> {
        self.versions.get(&version).map(|version| version.created_unix_s)
    }

    /// A fresh random data key, in the clear and encrypted under `version`, or the newest.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn generate(
        &self,
        length: DataKeyLen,
        version: Option<KekVersion>,
        context: &[u8],
        aad: &[u8],
        _permit: Permit,
    ) -> Result<(Zeroizing<Vec<u8>>, Ciphertext), KeyringError> {
        self.usable()?;
        let mut key = Zeroizing::new(vec![0; length.bytes()]);
        crypto::random_fill(&mut key)?;
        let ciphertext = self.seal(version, context, aad, &key)?;
        Ok((key, ciphertext))
    }

    fn seal(
        &self,
        version: Option<KekVersion>,
        context: &[u8],
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<Ciphertext, KeyringError> {
        error::check_length(Part::Plaintext, plaintext, PLAINTEXT_MAX)?;
        let number = version.unwrap_or(self.latest());
        if number > self.latest() {
            return Err(KeyringError::VersionUnknown);
        }
        if number.number() < self.min_encryption || number < self.min_decryption {
            return Err(KeyringError::VersionNotForEncryption);
        }
        let bytes = self.data_key(number, context, aad)?.seal(aad, plaintext)?;
        Ok(Ciphertext::new(number, bytes).expect("a plaintext within its bound gives a ciphertext within its own"))
    }

    fn open(&self, ciphertext: &Ciphertext, context: &[u8], aad: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
        let number = ciphertext.version();
        if number > self.latest() {
            return Err(KeyringError::VersionUnknown);
        }
        if number < self.min_decryption {
            return Err(KeyringError::VersionTooOld);
        }
        let key = self.data_key(number, context, aad)?;
        key.open(aad, ciphertext.bytes()).map_err(|_| KeyringError::NotAuthentic)
    }

    fn data_key(&self, number: KekVersion, context: &[u8], aad: &[u8]) -> Result<crypto::AeadKey, KeyringError> {
        error::check_length(Part::Context, context, CONTEXT_MAX)?;
        error::check_length(Part::AssociatedData, aad, AAD_MAX)?;
        let version = self.versions.get(&number).ok_or(KeyringError::VersionTooOld)?;
        if !self.derived {
            return Ok(version.key.aead()?);
        }
        if context.is_empty() {
            return Err(KeyringError::MissingContext);
        }
        Ok(version.key.derive(context).aead()?)
    }
}

/// For fuzzing: whatever parses as a KEK is written back byte for byte.
#[doc(hidden)]
pub fn fuzz_kek(bytes: &[u8]) {
    if let Ok(kek) = Kek::parse(bytes) {
        assert_eq!(kek.to_bytes().as_slice(), bytes);
    }
}

#[cfg(test)]
mod tests;
