//! The sealed file that the keyring of the embedded custodian lives in.
//!
//! ```text
//! magic       16   "claviger seal 1\n"
//! iterations   4   big-endian
//! salt        32
//! root        60   nonce ‖ AES-256-GCM[PBKDF2-HMAC-SHA256(passphrase, salt, iterations)](root key) ‖ tag, AAD = all before
//! keyring          nonce ‖ AES-256-GCM[root key](keyring) ‖ tag, AAD = all before
//! ```
//!
//! **Invariant:** every byte of the file is authenticated; a file that was changed anywhere is not opened.
//! **Invariant:** at any moment the path holds a whole file, the old or the new one, with mode 0600.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::crypto::{self, AeadKey, RandomFailed, SEAL_OVERHEAD};
use crate::secret::Secret;

use super::super::keyring::Keyring;
use super::super::passphrase::Passphrase;

const MAGIC: &[u8; 16] = b"claviger seal 1\n";
const SALT_LEN: usize = 32;
const HEADER_LEN: usize = MAGIC.len() + 4 + SALT_LEN;
const ROOT_LEN: usize = 32 + SEAL_OVERHEAD;
/// Most bytes of a sealed file.
const FILE_MAX: u64 = 64 << 20;

/// PBKDF2 iterations of new seals, unless told otherwise (OWASP's figure for HMAC-SHA256).
pub const ITERATIONS_DEFAULT: u32 = 600_000;

/// How many PBKDF2 iterations a seal may have: enough to be slow for a guesser, not so many that a forged header stalls us.
#[derive(Debug, Clone, Copy)]
pub(in crate::custodian) struct Bounds {
    floor: u32,
    ceiling: u32,
}

impl Bounds {
    pub(super) const PRODUCTION: Self = Self { floor: 100_000, ceiling: 10_000_000 };

    /// Cheap ones, so that tests can open a seal thousands of times.
    #[cfg(test)]
    pub(in crate::custodian) const TEST: Self = Self { floor: 1, ceiling: 1_000 };

    pub(super) fn legal(self, iterations: u32) -> Option<NonZeroU32> {
        NonZeroU32::new(iterations).filter(|_| (self.floor..=self.ceiling).contains(&iterations))
    }

    fn check(self, iterations: u32) -> Result<NonZeroU32, SealError> {
        let Self { floor, ceiling } = self;
        self.legal(iterations).ok_or(SealError::Iterations { found: iterations, floor, ceiling })
    }
}

/// Why a sealed file is not opened or written.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file system says no.
    #[error("cannot {what} the key store {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A new one would replace keys.
    #[error("the key store {} exists already; it is not overwritten", .0.display())]
    Exists(PathBuf),
    /// Another process works with it.
    #[error("the key store {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The file is something else, or cut short.
    #[error("the file is not a key store of this version, or was cut short")]
    NotASeal,
    /// The number of PBKDF2 iterations is out of bounds.
    #[error("{found} PBKDF2 iterations; expected {floor} to {ceiling}")]
    Iterations {
        /// As found.
        found: u32,
        /// Fewest.
        floor: u32,
        /// Most.
        ceiling: u32,
    },
    /// The passphrase is another, or the first 112 bytes were changed: cryptography cannot tell which.
    #[error("wrong passphrase for this key store (or its header was altered)")]
    WrongPassphrase,
    /// The passphrase is right, but the keyring is not what was sealed.
    #[error("the key store was altered or damaged")]
    Altered,
    /// No randomness on this machine.
    #[error(transparent)]
    Random(#[from] RandomFailed),
}

/// Where a keyring is saved, with the root key that encrypts it.
pub struct SealFile {
    path: PathBuf,
    /// Header and wrapped root key: what stands before the keyring.
    front: Vec<u8>,
    root: Secret<32>,
    /// Held as long as this exists, so that no two processes overwrite each other's keys.
    _lock: File,
}

/// An opened seal.
pub struct Unsealed {
    pub(in crate::custodian) store: SealFile,
    pub(in crate::custodian) keyring: Keyring,
}

impl Unsealed {
    /// Makes a new, empty key store at `path`.
    ///
    /// # Errors
    /// [`SealError`]; a file that is there is never replaced.
    pub fn create(path: &Path, passphrase: &Passphrase, iterations: u32) -> Result<Self, SealError> {
        Self::create_within(Bounds::PRODUCTION, path, passphrase, iterations)
    }

    /// Opens the key store at `path`.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn open(path: &Path, passphrase: &Passphrase) -> Result<Self, SealError> {
        Self::open_within(Bounds::PRODUCTION, path, passphrase)
    }

    pub(in crate::custodian) fn create_within(
        bounds: Bounds,
        path: &Path,
        passphrase: &Passphrase,
        iterations: u32,
    ) -> Result<Self, SealError> {
        let iterations = bounds.check(iterations)?;
        let lock = lock(path)?;
        let salt = crypto::random_array::<SALT_LEN>()?;
        let root = crypto::random_secret::<32>()?;
        let mut front = [MAGIC.as_slice(), &iterations.get().to_be_bytes(), &salt].concat();
        let wrapping = AeadKey::new(&crypto::pbkdf2_sha256(passphrase.expose(), &salt, iterations));
        let wrapped = wrapping.seal(&front, root.expose())?;
        front.extend_from_slice(&wrapped);
        let store = SealFile { path: path.to_owned(), front, root, _lock: lock };
        let keyring = Keyring::default();
        store.write(&keyring, Replace::Never)?;
        Ok(Self { store, keyring })
    }

    pub(in crate::custodian) fn open_within(
        bounds: Bounds,
        path: &Path,
        passphrase: &Passphrase,
    ) -> Result<Self, SealError> {
        // Read first: where there is no key store, no lock file should appear.
        let failed = |source| SealError::Io { what: "open", path: path.to_owned(), source };
        File::open(path).map_err(failed)?;
        let lock = lock(path)?;
        let bytes = read(path)?;
        let (front, root, keyring) = unseal(bounds, &bytes, passphrase)?;
        let store = SealFile { path: path.to_owned(), front, root, _lock: lock };
        Ok(Self { store, keyring })
    }
}

fn unseal(bounds: Bounds, bytes: &[u8], passphrase: &Passphrase) -> Result<(Vec<u8>, Secret<32>, Keyring), SealError> {
    let (front, body) = bytes.split_at_checked(HEADER_LEN + ROOT_LEN).ok_or(SealError::NotASeal)?;
    let (header, wrapped) = front.split_at(HEADER_LEN);
    let rest = header.strip_prefix(MAGIC).ok_or(SealError::NotASeal)?;
    let (iterations, salt) = rest.split_first_chunk::<4>().ok_or(SealError::NotASeal)?;
    let iterations = bounds.check(u32::from_be_bytes(*iterations))?;
    let wrapping = AeadKey::new(&crypto::pbkdf2_sha256(passphrase.expose(), salt, iterations));
    let root = wrapping.open(header, wrapped).map_err(|_| SealError::WrongPassphrase)?;
    let root = Secret::from_slice(&root).map_err(|_| SealError::Altered)?;
    let keyring = AeadKey::new(&root).open(front, body).map_err(|_| SealError::Altered)?;
    let keyring = Keyring::parse(&keyring).map_err(|_| SealError::Altered)?;
    Ok((front.to_vec(), root, keyring))
}

fn read(path: &Path) -> Result<Vec<u8>, SealError> {
    let failed = |source| SealError::Io { what: "read", path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX { Err(SealError::NotASeal) } else { Ok(bytes) }
}

/// Takes the lock beside `path`. The file itself cannot bear it, because saving replaces it.
fn lock(path: &Path) -> Result<File, SealError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |source| SealError::Io { what: "lock", path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SealError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[derive(Clone, Copy)]
enum Replace {
    Never,
    Old,
}

impl SealFile {
    /// Replaces the file by one with `keyring`; returns when that is on disk. Blocks on I/O.
    ///
    /// # Errors
    /// [`SealError`]; the old file then still stands, unless only the last step, syncing the folder, failed.
    pub fn save(&self, keyring: &Keyring) -> Result<(), SealError> {
        self.write(keyring, Replace::Old)
    }

    fn write(&self, keyring: &Keyring, replace: Replace) -> Result<(), SealError> {
        let body = AeadKey::new(&self.root).seal(&self.front, &keyring.to_bytes())?;
        self.put(&body, replace).map_err(|source| match (source.kind(), replace) {
            (io::ErrorKind::AlreadyExists, Replace::Never) => SealError::Exists(self.path.clone()),
            _ => SealError::Io { what: "write", path: self.path.clone(), source },
        })
    }

    fn put(&self, body: &[u8], replace: Replace) -> io::Result<()> {
        let folder = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        // Made with mode 0600, and removed again if we fail.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&self.front)?;
        file.write_all(body)?;
        file.as_file().sync_all()?;
        match replace {
            Replace::Never => file.persist_noclobber(&self.path)?,
            Replace::Old => file.persist(&self.path)?,
        };
        File::open(folder)?.sync_all()
    }
}

/// For fuzzing: what opens under the passphrase "correct horse battery" is made of the keyring that it gives and nothing else.
#[doc(hidden)]
pub fn fuzz_seal(bytes: &[u8]) {
    let passphrase = Passphrase::new(b"correct horse battery".to_vec()).expect("long enough");
    // So few iterations that a fuzzer gets somewhere.
    let bounds = Bounds { floor: 1, ceiling: 100 };
    if let Ok((front, root, keyring)) = unseal(bounds, bytes, &passphrase) {
        let body = bytes.strip_prefix(front.as_slice()).expect("the file begins with its front");
        let plaintext = AeadKey::new(&root).open(&front, body).expect("it has just been opened");
        assert_eq!(*plaintext, *keyring.to_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::custodian::audit::permit;
    use crate::names::KekName;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(text.as_bytes().to_vec()).expect("long enough")
    }

    fn right() -> Passphrase {
        passphrase("correct horse battery")
    }

    /// A store with one KEK, closed again.
    fn sealed(folder: &tempfile::TempDir) -> PathBuf {
        let path = folder.path().join("keys.seal");
        let mut unsealed = Unsealed::create_within(Bounds::TEST, &path, &right(), 2).expect("creates");
        unsealed.keyring.create(&KekName::new("records").expect("legal"), permit()).expect("new");
        unsealed.store.save(&unsealed.keyring).expect("saves");
        path
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn what_was_saved_opens_again_and_the_file_is_private() {
        let folder = folder();
        let path = sealed(&folder);
        let opened = Unsealed::open_within(Bounds::TEST, &path, &right()).expect("opens");
        assert_eq!(opened.keyring.list().len(), 1);
        let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let names = std::fs::read_dir(folder.path()).expect("lists").count();
        assert_eq!(names, 2, "the file and its lock, no leftovers");
    }

    #[test]
    fn a_wrong_passphrase_is_one_clear_error() {
        let folder = folder();
        let path = sealed(&folder);
        let error = Unsealed::open_within(Bounds::TEST, &path, &passphrase("wrong horse battery")).err();
        assert!(matches!(error, Some(SealError::WrongPassphrase)));
    }

    #[test]
    fn a_flipped_bit_anywhere_and_a_cut_anywhere_are_refused() {
        let folder = folder();
        let bytes = std::fs::read(sealed(&folder)).expect("reads");
        assert!(unseal(Bounds::TEST, &bytes, &right()).is_ok());
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(Bounds::TEST, &flipped, &right()).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(unseal(Bounds::TEST, &bytes[..cut], &right()).is_err(), "cut at {cut}");
        }
        let longer = [bytes.as_slice(), b"\0"].concat();
        assert!(unseal(Bounds::TEST, &longer, &right()).is_err());
    }

    #[test]
    fn keyrings_of_two_seals_do_not_mix() {
        let (one, other) = (folder(), folder());
        let [one, other] = [&one, &other].map(|folder| std::fs::read(sealed(folder)).expect("reads"));
        let mixed = [&one[..HEADER_LEN + ROOT_LEN], &other[HEADER_LEN + ROOT_LEN..]].concat();
        assert!(matches!(unseal(Bounds::TEST, &mixed, &right()), Err(SealError::Altered)));
    }

    #[test]
    fn an_existing_store_is_not_replaced_and_not_shared() {
        let folder = folder();
        let path = sealed(&folder);
        let before = std::fs::read(&path).expect("reads");
        let again = Unsealed::create_within(Bounds::TEST, &path, &right(), 2).err();
        assert!(matches!(again, Some(SealError::Exists(_))));
        assert_eq!(std::fs::read(&path).expect("reads"), before);
        let first = Unsealed::open_within(Bounds::TEST, &path, &right()).expect("opens");
        let second = Unsealed::open_within(Bounds::TEST, &path, &right()).err();
        assert!(matches!(second, Some(SealError::InUse(_))));
        drop(first);
        assert!(Unsealed::open_within(Bounds::TEST, &path, &right()).is_ok());
    }

    #[test]
    fn iterations_outside_the_bounds_are_refused_by_writer_and_reader() {
        let folder = folder();
        let path = sealed(&folder);
        let weak = Unsealed::open(&path, &right()).err();
        assert!(matches!(weak, Some(SealError::Iterations { found: 2, floor: 100_000, .. })));
        for iterations in [0, 99_999, 10_000_001] {
            let path = folder.path().join("other.seal");
            let error = Unsealed::create(&path, &right(), iterations).err();
            assert!(matches!(error, Some(SealError::Iterations { .. })), "{iterations}");
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_store_that_is_not_there_is_not_made_by_opening_it() {
        let folder = folder();
        let missing = Unsealed::open(&folder.path().join("keys.seal"), &right()).err();
        assert!(matches!(missing, Some(SealError::Io { what: "open", .. })));
        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 0);
    }
}
