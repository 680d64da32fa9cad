//! Named, versioned KEKs, and wrapping under them.
//!
//! `wrapped = nonce ‖ AES-256-GCM[HKDF-SHA256[no salt, context](key of the version)](branch key) ‖ tag`: what the Transit API
//! calls a derived key.
//!
//! **Invariant:** every KEK has at least one version, and the oldest that is opened is one of them.
//! **Invariant:** nothing is done with a key without a [`Permit`].

mod codec;
mod stored;

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::crypto::{self, AeadKey, RandomFailed};
use crate::custody::context::BranchContext;
use crate::custody::wrapped::WrappedKey;
use crate::names::{KekName, KekVersion};
use crate::secret::Secret;

use super::audit::Permit;

/// Most KEKs of one keyring.
pub const KEKS_MAX: usize = 10_000;
/// Most versions of one KEK.
pub const VERSIONS_MAX: usize = 1_000;

/// Why the keyring does not do it.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// There is no KEK of that name.
    #[error("there is no KEK of that name")]
    Unknown,
    /// There is one already.
    #[error("a KEK of that name exists")]
    Exists,
    /// The KEK is switched off.
    #[error("the KEK is disabled")]
    Disabled,
    /// The version is below the oldest that is opened.
    #[error("the KEK version is older than the oldest that is opened")]
    VersionTooOld,
    /// The KEK has no such version.
    #[error("the KEK has no such version")]
    VersionUnknown,
    /// Context or bytes are not those that were wrapped.
    #[error("not what was wrapped under this KEK and context")]
    NotAuthentic,
    /// The keyring, or the KEK, is full.
    #[error("no more than {KEKS_MAX} KEKs of {VERSIONS_MAX} versions each")]
    TooMany,
    /// No randomness on this machine.
    #[error(transparent)]
    Random(#[from] RandomFailed),
}

struct Version {
    created_unix_s: i64,
    key: Secret<32>,
}

impl Version {
    fn random() -> Result<Self, RandomFailed> {
        Ok(Self { created_unix_s: OffsetDateTime::now_utc().unix_timestamp(), key: crypto::random_secret()? })
    }

    fn derive(&self, context: &BranchContext) -> AeadKey {
        AeadKey::new(&crypto::hkdf_sha256(b"", self.key.expose(), &context.to_bytes()))
    }
}

struct Kek {
    disabled: bool,
    min_decryption: KekVersion,
    versions: BTreeMap<KekVersion, Version>,
}

impl Kek {
    fn latest(&self) -> (KekVersion, &Version) {
        let (number, version) = self.versions.last_key_value().expect("a KEK has at least one version");
        (*number, version)
    }

    fn enabled(&self) -> Result<&Self, KeyringError> {
        if self.disabled { Err(KeyringError::Disabled) } else { Ok(self) }
    }

    fn wrap(&self, context: &BranchContext, secret: &Secret<32>) -> Result<WrappedKey, KeyringError> {
        let (number, version) = self.latest();
        let bytes = version.derive(context).seal(b"", secret.expose())?;
        Ok(WrappedKey::new(number, bytes).expect("nonce, key and tag are 60 bytes"))
    }

    fn unwrap(&self, context: &BranchContext, wrapped: &WrappedKey) -> Result<Secret<32>, KeyringError> {
        if wrapped.version() < self.min_decryption {
            return Err(KeyringError::VersionTooOld);
        }
        let version = self.versions.get(&wrapped.version()).ok_or(KeyringError::VersionUnknown)?;
        let opened = version.derive(context).open(b"", wrapped.bytes()).map_err(|_| KeyringError::NotAuthentic)?;
        Secret::from_slice(&opened).map_err(|_| KeyringError::NotAuthentic)
    }
}

/// What may be told about a KEK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekInfo {
    /// Its name.
    pub name: KekName,
    /// When its oldest version was made, in seconds since 1970.
    pub created_unix_s: i64,
    /// The version that wraps.
    pub latest: KekVersion,
    /// The oldest version that is opened.
    pub min_decryption: KekVersion,
    /// Whether it is switched off.
    pub disabled: bool,
}

/// All KEKs.
#[derive(Default)]
pub struct Keyring {
    keks: BTreeMap<KekName, Kek>,
}

impl Keyring {
    fn kek(&self, name: &KekName) -> Result<&Kek, KeyringError> {
        self.keks.get(name).ok_or(KeyringError::Unknown)
    }

    fn kek_mut(&mut self, name: &KekName) -> Result<&mut Kek, KeyringError> {
        self.keks.get_mut(name).ok_or(KeyringError::Unknown)
    }

    /// Makes a KEK with its first version.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn create(&mut self, name: &KekName, _permit: Permit) -> Result<KekVersion, KeyringError> {
        if self.keks.contains_key(name) {
            return Err(KeyringError::Exists);
        }
        if self.keks.len() >= KEKS_MAX {
            return Err(KeyringError::TooMany);
        }
        let first = KekVersion::FIRST;
        let versions = BTreeMap::from([(first, Version::random()?)]);
        self.keks.insert(name.clone(), Kek { disabled: false, min_decryption: first, versions });
        Ok(first)
    }

    /// Adds a version, which wraps from now on.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn rotate(&mut self, name: &KekName, _permit: Permit) -> Result<KekVersion, KeyringError> {
        let kek = self.kek_mut(name)?;
        kek.enabled()?;
        let next = KekVersion::new(kek.latest().0.number().wrapping_add(1)).ok_or(KeyringError::TooMany)?;
        if kek.versions.len() >= VERSIONS_MAX {
            return Err(KeyringError::TooMany);
        }
        kek.versions.insert(next, Version::random()?);
        Ok(next)
    }

    /// Switches a KEK off or on.
    ///
    /// # Errors
    /// [`KeyringError::Unknown`].
    pub fn set_disabled(&mut self, name: &KekName, disabled: bool, _permit: Permit) -> Result<(), KeyringError> {
        self.kek_mut(name)?.disabled = disabled;
        Ok(())
    }

    /// From now on, only `oldest` and later versions are opened. It may be set back.
    ///
    /// # Errors
    /// [`KeyringError`]; `oldest` has to be a version of the KEK.
    pub fn set_min_decryption_version(
        &mut self,
        name: &KekName,
        oldest: KekVersion,
        _permit: Permit,
    ) -> Result<(), KeyringError> {
        let kek = self.kek_mut(name)?;
        if !kek.versions.contains_key(&oldest) {
            return Err(KeyringError::VersionUnknown);
        }
        kek.min_decryption = oldest;
        Ok(())
    }

    /// The version of `name` that wraps.
    pub fn latest(&self, name: &KekName) -> Option<KekVersion> {
        self.keks.get(name).map(|kek| kek.latest().0)
    }

    /// All KEKs by name.
    pub fn list(&self) -> Vec<KekInfo> {
        let info = |(name, kek): (&KekName, &Kek)| KekInfo {
            name: name.clone(),
            created_unix_s: kek.versions.values().next().map_or(0, |version| version.created_unix_s),
            latest: kek.latest().0,
            min_decryption: kek.min_decryption,
            disabled: kek.disabled,
        };
        self.keks.iter().map(info).collect()
    }

    /// A fresh branch key for `context`, in the clear and wrapped under the newest version.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn generate(
        &self,
        name: &KekName,
        context: &BranchContext,
        _permit: Permit,
    ) -> Result<(Secret<32>, WrappedKey), KeyringError> {
        let kek = self.kek(name)?.enabled()?;
        let secret = crypto::random_secret()?;
        let wrapped = kek.wrap(context, &secret)?;
        Ok((secret, wrapped))
    }

    /// Opens a branch key.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn unwrap(
        &self,
        name: &KekName,
        context: &BranchContext,
        wrapped: &WrappedKey,
        _permit: Permit,
    ) -> Result<Secret<32>, KeyringError> {
        self.kek(name)?.enabled()?.unwrap(context, wrapped)
    }

    /// Moves a branch key to the newest version.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn rewrap(
        &self,
        name: &KekName,
        context: &BranchContext,
        wrapped: &WrappedKey,
        _permit: Permit,
    ) -> Result<WrappedKey, KeyringError> {
        let kek = self.kek(name)?.enabled()?;
        kek.wrap(context, &kek.unwrap(context, wrapped)?)
    }
}

/// For fuzzing: whatever parses as a keyring is written back byte for byte.
#[doc(hidden)]
pub fn fuzz_keyring(bytes: &[u8]) {
    if let Ok(keyring) = Keyring::parse(bytes) {
        assert_eq!(keyring.to_bytes().as_slice(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custodian::audit::permit;
    use crate::names::{BranchId, LogicalBucket, Purpose, WriterDomain};

    fn kek(name: &str) -> KekName {
        KekName::new(name).expect("legal")
    }

    fn context(bucket: &str) -> BranchContext {
        BranchContext {
            purpose: Purpose::Object,
            bucket: LogicalBucket::new(bucket).expect("legal"),
            writer: WriterDomain::new("proxy/us").expect("legal"),
            id: BranchId::from_bytes([1; 16]),
        }
    }

    fn keyring() -> Keyring {
        let mut keyring = Keyring::default();
        keyring.create(&kek("a"), permit()).expect("new");
        keyring.create(&kek("b"), permit()).expect("new");
        keyring
    }

    #[test]
    fn a_branch_key_opens_under_its_own_kek_and_context_only() {
        let keyring = keyring();
        let (secret, wrapped) = keyring.generate(&kek("a"), &context("one"), permit()).expect("generates");
        let opened = keyring.unwrap(&kek("a"), &context("one"), &wrapped, permit()).expect("opens");
        assert_eq!(opened.expose(), secret.expose());
        let refused = |name, bucket| keyring.unwrap(&kek(name), &context(bucket), &wrapped, permit()).err();
        assert!(matches!(refused("b", "one"), Some(KeyringError::NotAuthentic)));
        assert!(matches!(refused("a", "two"), Some(KeyringError::NotAuthentic)));
        assert!(matches!(refused("c", "one"), Some(KeyringError::Unknown)));
        for bit in 0..8 * wrapped.bytes().len() {
            let mut bytes = wrapped.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = WrappedKey::new(wrapped.version(), bytes).expect("60 bytes");
            assert!(keyring.unwrap(&kek("a"), &context("one"), &flipped, permit()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn after_a_rotation_the_old_opens_the_new_wraps_and_rewrap_moves() {
        let mut keyring = keyring();
        let (secret, old) = keyring.generate(&kek("a"), &context("one"), permit()).expect("generates");
        let second = keyring.rotate(&kek("a"), permit()).expect("rotates");
        assert_eq!(second.number(), 2);
        assert!(keyring.unwrap(&kek("a"), &context("one"), &old, permit()).is_ok());
        let (_, new) = keyring.generate(&kek("a"), &context("one"), permit()).expect("generates");
        assert_eq!(new.version(), second);
        assert!(keyring.rewrap(&kek("a"), &context("two"), &old, permit()).is_err());
        let moved = keyring.rewrap(&kek("a"), &context("one"), &old, permit()).expect("rewraps");
        assert_eq!(moved.version(), second);
        keyring.set_min_decryption_version(&kek("a"), second, permit()).expect("is a version");
        let refused = keyring.unwrap(&kek("a"), &context("one"), &old, permit());
        assert!(matches!(refused, Err(KeyringError::VersionTooOld)));
        let opened = keyring.unwrap(&kek("a"), &context("one"), &moved, permit()).expect("opens");
        assert_eq!(opened.expose(), secret.expose());
    }

    #[test]
    fn versions_that_do_not_exist_are_told_apart() {
        let mut keyring = keyring();
        let third = KekVersion::new(3).expect("not zero");
        let (_, wrapped) = keyring.generate(&kek("a"), &context("one"), permit()).expect("generates");
        let early = WrappedKey::new(third, wrapped.bytes().to_vec()).expect("60 bytes");
        let refused = keyring.unwrap(&kek("a"), &context("one"), &early, permit());
        assert!(matches!(refused, Err(KeyringError::VersionUnknown)));
        let refused = keyring.set_min_decryption_version(&kek("a"), third, permit());
        assert!(matches!(refused, Err(KeyringError::VersionUnknown)));
        assert!(matches!(keyring.create(&kek("a"), permit()), Err(KeyringError::Exists)));
    }

    #[test]
    fn a_disabled_kek_does_nothing_until_enabled() {
        let mut keyring = keyring();
        let (_, wrapped) = keyring.generate(&kek("a"), &context("one"), permit()).expect("generates");
        keyring.set_disabled(&kek("a"), true, permit()).expect("is there");
        let (kek_a, one) = (kek("a"), context("one"));
        assert!(matches!(keyring.generate(&kek_a, &one, permit()), Err(KeyringError::Disabled)));
        assert!(matches!(keyring.unwrap(&kek_a, &one, &wrapped, permit()), Err(KeyringError::Disabled)));
        assert!(matches!(keyring.rewrap(&kek_a, &one, &wrapped, permit()), Err(KeyringError::Disabled)));
        assert!(matches!(keyring.rotate(&kek_a, permit()), Err(KeyringError::Disabled)));
        assert!(keyring.generate(&kek("b"), &one, permit()).is_ok());
        keyring.set_disabled(&kek_a, false, permit()).expect("is there");
        assert!(keyring.unwrap(&kek_a, &one, &wrapped, permit()).is_ok());
    }
}
