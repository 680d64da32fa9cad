//! Changes of a KEK: rotation, configuration, trimming, switching off, setting aside.

use crate::names::KekVersion;

use super::cipher::Material;
use super::{ChangeRefused, Kek, KeyOptions, KeyringError, Permit, VERSIONS_MAX, Version};

/// The shortest rotation period.
pub const AUTO_ROTATE_MIN_S: u64 = 3600;

/// What is to change in a KEK's configuration; `None` leaves it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyChange {
    /// The oldest version that is opened; 0 means 1.
    pub min_decryption_version: Option<u32>,
    /// The oldest version that encrypts; 0: not set.
    pub min_encryption_version: Option<u32>,
    /// Whether it may be deleted.
    pub deletion_allowed: Option<bool>,
    /// Whether it may be exported. Once set it stays: `false` changes nothing.
    pub exportable: Option<bool>,
    /// Whether it may be backed up in the clear. Once set it stays: `false` changes nothing.
    pub allow_plaintext_backup: Option<bool>,
    /// Seconds between rotations: 0 for none, else at least [`AUTO_ROTATE_MIN_S`].
    pub auto_rotate_period_s: Option<u64>,
}

impl KeyChange {
    /// Whether it makes old versions unreadable or readable again, or lets the key or copies of it out or away: what two people have to
    /// agree on.
    /// Measured against `kek`: asking for what already is changes nothing, and nobody needs to agree on what would be refused anyway.
    pub fn is_grave_for(&self, kek: &Kek) -> bool {
        let moves = self.min_decryption_version.is_some_and(|asked| asked.max(1) != kek.min_decryption.number());
        let sets = |asked: Option<bool>, is: bool| asked == Some(true) && !is;
        let is_grave = moves
            || sets(self.deletion_allowed, kek.deletion_allowed)
            || sets(self.exportable, kek.exportable)
            || sets(self.allow_plaintext_backup, kek.allow_plaintext_backup);
        is_grave && kek.minima_after(self).is_ok()
    }

    /// Whether less may be possible afterwards than before.
    pub fn narrows(&self) -> bool {
        self.min_decryption_version.is_some()
            || self.min_encryption_version.is_some()
            || self.deletion_allowed == Some(false)
    }
}

impl KeyOptions {
    /// Whether it lets the key or copies of it out: what two people have to agree on. As in a change, nobody is asked about what would be
    /// refused anyway.
    pub fn is_grave(&self) -> bool {
        (self.exportable || self.allow_plaintext_backup) && check_period(self.auto_rotate_period_s).is_ok()
    }
}

pub(super) fn check_period(period_s: u64) -> Result<(), ChangeRefused> {
    if (1..AUTO_ROTATE_MIN_S).contains(&period_s) { Err(ChangeRefused::AutoRotatePeriod) } else { Ok(()) }
}

impl Kek {
    /// Adds a version, which encrypts from now on.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn rotate(&mut self, now_unix_s: i64, _permit: Permit) -> Result<KekVersion, KeyringError> {
        self.usable()?;
        let next = self.latest().number().checked_add(1).and_then(KekVersion::new).ok_or(KeyringError::TooMany)?;
        if self.versions.len() >= VERSIONS_MAX {
            return Err(KeyringError::TooMany);
        }
        let version = Version { created_unix_s: now_unix_s, key: Material::random(self.key_type)? };
        self.versions.insert(next, version);
        Ok(next)
    }

    /// Changes the configuration: all of it, or nothing when a part is refused.
    ///
    /// # Errors
    /// [`KeyringError::BadChange`].
    pub fn configure(&mut self, change: &KeyChange, _permit: Permit) -> Result<(), KeyringError> {
        let minima = self.minima_after(change)?;
        (self.min_decryption, self.min_encryption) = minima;
        self.auto_rotate_period_s = change.auto_rotate_period_s.unwrap_or(self.auto_rotate_period_s);
        self.deletion_allowed = change.deletion_allowed.unwrap_or(self.deletion_allowed);
        self.exportable |= change.exportable.unwrap_or(false);
        self.allow_plaintext_backup |= change.allow_plaintext_backup.unwrap_or(false);
        Ok(())
    }

    /// The oldest version that is opened and the oldest that encrypts as `change` would have them, if all of it is in order.
    fn minima_after(&self, change: &KeyChange) -> Result<(KekVersion, u32), ChangeRefused> {
        let latest = self.latest().number();
        let asked = change.min_decryption_version.map_or(self.min_decryption.number(), |asked| asked.max(1));
        let min_decryption = KekVersion::new(asked).filter(|number| *number <= self.latest());
        let min_decryption = min_decryption.ok_or(ChangeRefused::MinDecryptionAboveLatest { asked, latest })?;
        let min_encryption = change.min_encryption_version.unwrap_or(self.min_encryption);
        if min_encryption > latest {
            return Err(ChangeRefused::MinEncryptionAboveLatest { asked: min_encryption, latest });
        }
        if min_encryption > 0 && min_encryption < min_decryption.number() {
            let min_decryption = min_decryption.number();
            return Err(ChangeRefused::MinEncryptionBelowMinDecryption { min_encryption, min_decryption });
        }
        check_period(change.auto_rotate_period_s.unwrap_or(self.auto_rotate_period_s))?;
        if min_encryption < self.min_available {
            return Err(ChangeRefused::MinEncryptionBelowAvailable);
        }
        if min_decryption.number() < self.min_available {
            return Err(ChangeRefused::MinDecryptionBelowAvailable);
        }
        Ok((min_decryption, min_encryption))
    }

    /// Erases all versions before `min_available`, for good.
    ///
    /// # Errors
    /// [`KeyringError::BadChange`]: only versions that neither open nor encrypt any more can go.
    pub fn trim(&mut self, min_available: u32, _permit: Permit) -> Result<(), KeyringError> {
        self.trimmable(min_available)?;
        self.versions.retain(|number, _| number.number() >= min_available);
        self.min_available = min_available;
        Ok(())
    }

    /// Whether all versions before `min_available` can be erased.
    ///
    /// # Errors
    /// [`ChangeRefused`].
    pub fn trimmable(&self, min_available: u32) -> Result<(), ChangeRefused> {
        if min_available < self.min_available {
            Err(ChangeRefused::AvailableDecremented)
        } else if self.min_encryption == 0 {
            Err(ChangeRefused::AvailableWithoutMinEncryption)
        } else if min_available > self.min_encryption {
            Err(ChangeRefused::AvailableAboveMinEncryption)
        } else if min_available > self.min_decryption.number() {
            Err(ChangeRefused::AvailableAboveMinDecryption)
        } else if min_available == 0 {
            Err(ChangeRefused::AvailableZero)
        } else {
            Ok(())
        }
    }

    /// Prepares for the destruction of all of it: it is off from now on.
    pub(in crate::custodian) fn doom(&mut self, _permit: Permit) {
        self.disabled = true;
    }

    /// Erases the versions up to `through`, for good. None of them is opened or encrypts any more.
    ///
    /// # Errors
    /// [`KeyringError::VersionUnknown`] when one still does, or no version would be left.
    pub(in crate::custodian) fn erase_through(
        &mut self,
        through: KekVersion,
        _permit: Permit,
    ) -> Result<(), KeyringError> {
        self.erase(through)
    }

    fn erase(&mut self, through: KekVersion) -> Result<(), KeyringError> {
        if through >= self.min_decryption {
            return Err(KeyringError::VersionUnknown);
        }
        self.versions.retain(|number, _| *number > through);
        // What is not opened does not encrypt; as after a trim, that stands in it now.
        self.min_encryption = self.min_encryption.max(self.min_decryption.number());
        self.min_available = self.min_available.max(through.number() + 1);
        Ok(())
    }

    /// Marks it as come from a backup: branch keys may hang on it that the ledger does not know.
    pub(in crate::custodian) fn mark_restored(&mut self) {
        self.restored_through = Some(self.latest());
    }

    /// Takes that mark off.
    pub(in crate::custodian) fn declare_whole(&mut self, _permit: Permit) {
        self.restored_through = None;
    }

    /// Its newest version in the backup that it came from, as long as the ledger may lack branch keys that hang on it.
    pub(in crate::custodian) fn restored_through(&self) -> Option<KekVersion> {
        self.restored_through
    }

    /// A copy in which the versions up to `through`, of which none is opened, are not; `None` where one still is.
    pub(in crate::custodian) fn without(&self, through: KekVersion) -> Option<Self> {
        let mut copy = Self::parse(&self.to_bytes()).ok()?;
        copy.erase(through).ok()?;
        Some(copy)
    }

    /// The oldest version that there is.
    pub(in crate::custodian) fn oldest(&self) -> KekVersion {
        *self.versions.first_key_value().expect("a KEK has at least one version").0
    }

    /// The oldest version that is opened.
    pub(in crate::custodian) fn min_decryption(&self) -> KekVersion {
        self.min_decryption
    }

    /// Switches it off or on. Nothing is encrypted, opened or rotated while it is off; it can be configured, trimmed and deleted.
    pub fn set_disabled(&mut self, disabled: bool, _permit: Permit) {
        self.disabled = disabled;
    }

    /// Sets it aside for deletion, or takes it back. While it is set aside it does as little as a disabled one.
    pub fn set_soft_deleted(&mut self, soft_deleted: bool, _permit: Permit) {
        self.soft_deleted = soft_deleted;
    }

    /// Whether it may be deleted.
    ///
    /// # Errors
    /// [`KeyringError::DeletionNotAllowed`].
    pub fn deletable(&self) -> Result<(), KeyringError> {
        if self.deletion_allowed { Ok(()) } else { Err(KeyringError::DeletionNotAllowed) }
    }
}
