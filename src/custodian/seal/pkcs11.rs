//! A seal whose key lies in a PKCS#11 token (an HSM, or SoftHSM for trying it).
//!
//! The token holds one AES-256 key, which is made there and never leaves it. It encrypts a seal's wrapping key with
//! `CKM_AES_GCM` (PKCS#11 3.1, section 6.13): `iv 12 ‖ ciphertext 32 ‖ tag 16`. The module is loaded at run time; nothing is linked.
//!
//! **Invariant:** a key that could be read out of the token is not used.
//! **Invariant:** the PIN is presented once per operation and never tried again: tokens lock themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use crate::crypto::{self, NONCE_LEN, RandomFailed, SEAL_OVERHEAD, TAG_LEN};
use crate::secret::Secret;

use super::super::passphrase::{PassphraseError, read_private};

const TAG_BITS: u64 = 8 * TAG_LEN as u64;

/// Modules that this process loaded. They stay: a module that was initialised and is unloaded may leave threads behind. Held
/// during each operation, because not every module bears two at once and none is in a hurry.
static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());

/// The token did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Pkcs11Error {
    /// The module cannot be loaded, or does not come up.
    #[error("cannot load the PKCS#11 module {}", path.display())]
    Module {
        /// The module.
        path: PathBuf,
        /// Why.
        source: Error,
    },
    /// No token of that label, or several.
    #[error("{found} tokens with the label given; expected one")]
    Token {
        /// How many there are.
        found: usize,
    },
    /// No key of that label, or several.
    #[error("{found} keys in the token with the label given; expected one")]
    Key {
        /// How many there are.
        found: usize,
    },
    /// The key is not AES-256, or the token would give it out.
    #[error("the key in the token is not an AES-256 key that never leaves it")]
    Unsafe,
    /// The PIN file is of no use.
    #[error("the PIN file: {0}")]
    PinFile(#[from] PassphraseError),
    /// Not text.
    #[error("the PIN is not 1 to 255 characters of text")]
    PinForm,
    /// The token does not take the PIN. It is not tried again.
    #[error("the token refuses the PIN")]
    Pin(#[source] Error),
    /// What is to be unwrapped is not what was wrapped by this key.
    #[error("not wrapped by the key in this token")]
    NotAuthentic,
    /// The token gave an error.
    #[error("the token does not {what}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// Its error.
        source: Error,
    },
    /// The token took too long.
    #[error("the token does not answer in time")]
    TimedOut,
    /// The program is shutting down.
    #[error("the work was given up")]
    GivenUp(#[from] tokio::task::JoinError),
    /// No randomness on this machine.
    #[error(transparent)]
    Random(#[from] RandomFailed),
}

fn failed(what: &'static str) -> impl Fn(Error) -> Pkcs11Error {
    move |source| Pkcs11Error::Failed { what, source }
}

/// Where the token is and which key in it to use.
#[derive(Debug, Clone)]
pub struct Pkcs11Settings {
    /// The module, a shared library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The key's label.
    pub key: String,
    /// The file with the user's PIN, closed to others.
    pub pin_file: PathBuf,
    /// How long the token may take for one operation.
    pub timeout: Duration,
}

/// A key in a token.
#[derive(Debug, Clone)]
pub struct Token(Arc<Pkcs11Settings>);

impl Token {
    /// The token is looked for when it is used.
    pub fn new(settings: Pkcs11Settings) -> Self {
        Self(Arc::new(settings))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Pkcs11Settings) -> Result<T, Pkcs11Error> + Send + 'static,
    ) -> Result<T, Pkcs11Error> {
        let settings = Arc::clone(&self.0);
        let work = tokio::task::spawn_blocking(move || work(&settings));
        tokio::time::timeout(self.0.timeout, work).await.map_err(|_| Pkcs11Error::TimedOut)??
    }

    /// Encrypts `key` for `context` by the key in the token, which is made if there is none.
    pub(super) async fn wrap(&self, key: &Secret<32>, context: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        let key: Secret<32> = Secret::from_slice(key.expose()).map_err(RandomFailed::from)?;
        let context = context.to_vec();
        self.run(move |settings| {
            with_session(settings, |session| {
                let handle = match find(session, &settings.key)? {
                    Some(handle) => handle,
                    None => generate(session, &settings.key)?,
                };
                encrypt(session, handle, &key, &context)
            })
        })
        .await
    }

    /// Decrypts what [`Token::wrap`] gave for the same `context`.
    pub(super) async fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<Secret<32>, Pkcs11Error> {
        let (wrapped, context) = (wrapped.to_vec(), context.to_vec());
        self.run(move |settings| {
            with_session(settings, |session| {
                let handle = find(session, &settings.key)?.ok_or(Pkcs11Error::Key { found: 0 })?;
                decrypt(session, handle, &wrapped, &context)
            })
        })
        .await
    }
}

fn with_session<T>(
    settings: &Pkcs11Settings,
    work: impl FnOnce(&Session) -> Result<T, Pkcs11Error>,
) -> Result<T, Pkcs11Error> {
    let pin = read_pin(&settings.pin_file)?;
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if !modules.contains_key(&settings.module) {
        modules.insert(settings.module.clone(), load(&settings.module)?);
    }
    let module = modules.get(&settings.module).expect("inserted above");
    let session = module.open_rw_session(slot(module, &settings.token)?).map_err(failed("open a session"))?;
    match session.login(UserType::User, Some(&pin)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
        Err(source @ Error::Pkcs11(RvError::PinIncorrect | RvError::PinLocked | RvError::PinExpired, _)) => {
            return Err(Pkcs11Error::Pin(source));
        }
        Err(source) => return Err(failed("log in")(source)),
    }
    // Closing the last session logs out (PKCS#11 3.1, section 5.6.7).
    work(&session)
}

fn load(path: &Path) -> Result<Pkcs11, Pkcs11Error> {
    let refused = |source| Pkcs11Error::Module { path: path.to_owned(), source };
    let module = Pkcs11::new(path).map_err(refused)?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Some other part of this process uses it too.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
        Err(source) => Err(refused(source)),
    }
}

fn slot(module: &Pkcs11, label: &str) -> Result<Slot, Pkcs11Error> {
    let mut found = Vec::new();
    for slot in module.get_slots_with_token().map_err(failed("list its slots"))? {
        // A slot of another token that is out of order is no reason to fail.
        if module.get_token_info(slot).is_ok_and(|info| info.label() == label) {
            found.push(slot);
        }
    }
    match found[..] {
        [slot] => Ok(slot),
        _ => Err(Pkcs11Error::Token { found: found.len() }),
    }
}

fn read_pin(path: &Path) -> Result<AuthPin, Pkcs11Error> {
    let bytes = Zeroizing::new(read_private(path)?);
    let text = std::str::from_utf8(bytes.trim_ascii()).map_err(|_| Pkcs11Error::PinForm)?;
    if !(1..=255).contains(&text.len()) {
        return Err(Pkcs11Error::PinForm);
    }
    Ok(AuthPin::new(text.into()))
}

fn find(session: &Session, label: &str) -> Result<Option<ObjectHandle>, Pkcs11Error> {
    let wanted = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Label(label.as_bytes().to_vec())];
    let found = session.find_objects(&wanted).map_err(failed("look for the key"))?;
    match found[..] {
        [] => Ok(None),
        [handle] => checked(session, handle).map(Some),
        _ => Err(Pkcs11Error::Key { found: found.len() }),
    }
}

fn checked(session: &Session, handle: ObjectHandle) -> Result<ObjectHandle, Pkcs11Error> {
    let types = [
        AttributeType::KeyType,
        AttributeType::ValueLen,
        AttributeType::Sensitive,
        AttributeType::AlwaysSensitive,
        AttributeType::Extractable,
        AttributeType::NeverExtractable,
    ];
    let attributes = session.get_attributes(handle, &types).map_err(failed("tell of the key"))?;
    let good = [
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(32u64.into()),
        Attribute::Sensitive(true),
        Attribute::AlwaysSensitive(true),
        Attribute::Extractable(false),
        Attribute::NeverExtractable(true),
    ];
    if good.iter().all(|good| attributes.contains(good)) { Ok(handle) } else { Err(Pkcs11Error::Unsafe) }
}

fn generate(session: &Session, label: &str) -> Result<ObjectHandle, Pkcs11Error> {
    let template = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::ValueLen(32u64.into()),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    let handle = session.generate_key(&Mechanism::AesKeyGen, &template).map_err(failed("make a key"))?;
    checked(session, handle)
}

fn encrypt(session: &Session, handle: ObjectHandle, key: &Secret<32>, context: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
    let mut iv: [u8; NONCE_LEN] = crypto::random_array()?;
    let mut wrapped = iv.to_vec();
    let parameters = GcmParams::new(&mut iv, context, TAG_BITS.into()).map_err(failed("take the parameters"))?;
    let body = session.encrypt(&Mechanism::AesGcm(parameters), handle, key.expose()).map_err(failed("encrypt"))?;
    wrapped.extend_from_slice(&body);
    Ok(wrapped)
}

fn decrypt(session: &Session, handle: ObjectHandle, wrapped: &[u8], context: &[u8]) -> Result<Secret<32>, Pkcs11Error> {
    let (iv, body) = wrapped.split_first_chunk::<NONCE_LEN>().ok_or(Pkcs11Error::NotAuthentic)?;
    if wrapped.len() != 32 + SEAL_OVERHEAD {
        return Err(Pkcs11Error::NotAuthentic);
    }
    let mut iv = *iv;
    let parameters = GcmParams::new(&mut iv, context, TAG_BITS.into()).map_err(failed("take the parameters"))?;
    let key = match session.decrypt(&Mechanism::AesGcm(parameters), handle, body) {
        Ok(key) => Zeroizing::new(key),
        // Tokens do not agree on which error a wrong tag is; SoftHSM says GENERAL_ERROR.
        Err(Error::Pkcs11(
            RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange | RvError::GeneralError,
            _,
        )) => return Err(Pkcs11Error::NotAuthentic),
        Err(source) => return Err(failed("decrypt")(source)),
    };
    Secret::from_slice(&key).map_err(|_| Pkcs11Error::NotAuthentic)
}

#[cfg(test)]
mod tests;
