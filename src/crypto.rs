//! The cryptographic primitives that Claviger uses, and the only file that names the library behind them.
//!
//! AES-256-GCM and AES-128-GCM (NIST SP 800-38D), ChaCha20-Poly1305 (RFC 8439), HKDF-SHA256 (RFC 5869), HMAC-SHA256 (RFC 2104),
//! SHA-2 and SHA-1 (FIPS 180-4), PBKDF2-HMAC-SHA256 (RFC 8018), Ed25519 (RFC 8032), ECDSA P-256 with SHA-256 (FIPS 186-4).
//!
//! The library is ring; with the feature `aws-lc` it is AWS-LC, and with `fips` that one's module for FIPS 140.
//!
//! **Invariant:** with `fips`, nothing is sealed under a nonce that the module did not draw itself, nor with an algorithm that FIPS 140
//! does not approve of: such code is not compiled.
//!
//! **Invariant:** what is made of a secret key leaves no copy of it on the stack: the library zeroizes nothing, and a stack is never freed.

use std::hint::black_box;
use std::num::NonZeroU32;

use zeroize::Zeroize as _;

#[cfg(feature = "aws-lc")]
use aws_lc_rs as library;
#[cfg(not(feature = "aws-lc"))]
use ring as library;

use library::rand::SecureRandom as _;
use library::signature::{self, KeyPair as _};
use library::{aead, digest, hkdf, hmac, pbkdf2, rand};

use crate::secret::{InvalidSecret, Secret};

/// The library behind all of this and behind TLS.
pub const LIBRARY: &str = if cfg!(feature = "fips") {
    "AWS-LC, FIPS module"
} else if cfg!(feature = "aws-lc") {
    "AWS-LC"
} else {
    "ring"
};

/// Bytes of a nonce of any [`AeadKey`].
pub const NONCE_LEN: usize = 12;
/// Bytes of a tag of any [`AeadKey`].
pub const TAG_LEN: usize = 16;
/// Bytes that sealing adds when the nonce is stored in front: nonce and tag.
pub const SEAL_OVERHEAD: usize = NONCE_LEN + TAG_LEN;
/// Most plaintext bytes of one AES-GCM message (SP 800-38D: 2^36 - 32); ChaCha20-Poly1305 would take a few more.
const GCM_LIMIT: u64 = (1 << 36) - 32;

/// What was opened is not what was sealed under this key and associated data. It says no more on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not authentic")]
pub struct NotAuthentic;

/// The random generator failed. Nothing can be done safely without it.
#[derive(Debug, thiserror::Error)]
#[error("the random number generator failed")]
pub struct RandomFailed;

impl From<InvalidSecret> for RandomFailed {
    fn from(_: InvalidSecret) -> Self {
        // An all-zero draw of 16 bytes or more is a broken generator, not chance.
        Self
    }
}

/// A build for FIPS 140 has no module that works as FIPS 140 wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic module is not in FIPS mode, and this build does not work in another")]
pub struct NotInFipsMode;

/// Whether the library is in the mode that the program was built for. To be asked before anything else is done.
///
/// # Errors
/// [`NotInFipsMode`], of a build with the feature `fips` alone.
pub fn check_mode() -> Result<(), NotInFipsMode> {
    #[cfg(feature = "fips")]
    library::try_fips_mode().map_err(|_| NotInFipsMode)?;
    Ok(())
}

/// FIPS 140 does not approve of the algorithm, and this build does nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ChaCha20-Poly1305 is not approved for FIPS 140, and this build uses nothing that is not")]
pub struct NotApproved;

/// Fills `bytes` from the library's generator: with ring the operating system's, with AWS-LC its own (CTR_DRBG, SP 800-90A).
///
/// # Errors
/// [`RandomFailed`].
pub fn random_fill(bytes: &mut [u8]) -> Result<(), RandomFailed> {
    #[cfg(test)]
    if testing::fill(bytes) {
        return Ok(());
    }
    rand::SystemRandom::new().fill(bytes).map_err(|_| RandomFailed)
}

/// `N` random bytes that are not secret: nonces and identifiers.
///
/// # Errors
/// [`RandomFailed`].
pub fn random_array<const N: usize>() -> Result<[u8; N], RandomFailed> {
    let mut bytes = [0; N];
    random_fill(&mut bytes)?;
    Ok(bytes)
}

/// A fresh random key.
///
/// # Errors
/// [`RandomFailed`].
pub fn random_secret<const N: usize>() -> Result<Secret<N>, RandomFailed> {
    Secret::try_fill(|bytes| random_fill(bytes))
}

/// Bytes of the stack that are overwritten after something was done with a secret: more than the library's frames take, in a build
/// without optimization too. `tests/interop/test_key_memory.py` would find what is left.
const SCRUBBED: usize = 16 << 10;

/// Runs `work` and overwrites what it left on the stack. What it gives back has its secrets on the heap.
pub(crate) fn scrubbing_stack<T>(work: impl FnOnce() -> T) -> T {
    let done = apart(work);
    scrub();
    done
}

/// Its frame, and those of all that it calls, lie where [`scrub`]'s will.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn scrub() {
    let mut overwritten = [0u8; SCRUBBED];
    black_box(&mut overwritten);
}

/// Nonce and tag of what was sealed in place.
pub type Sealed = ([u8; NONCE_LEN], [u8; TAG_LEN]);

/// An expanded key of an AEAD: AES-256-GCM unless it says otherwise.
///
/// On the heap, so that none of it stays behind where it is moved; the program's allocator zeroizes it.
pub struct AeadKey {
    /// Draws its nonces within the module: what FIPS 140 asks of AES-GCM (implementation guidance C.H, technique 2).
    #[cfg(feature = "fips")]
    drawing: Box<aead::RandomizedNonceKey>,
    /// Takes the nonces that it is given.
    #[cfg(any(test, not(feature = "fips")))]
    chosen: Box<aead::LessSafeKey>,
}

impl AeadKey {
    /// Expands `key` for AES-256-GCM.
    pub fn new(key: &Secret<32>) -> Self {
        Self::expand(&aead::AES_256_GCM, key.expose())
    }

    /// Expands `key` for AES-128-GCM.
    pub fn aes_128_gcm(key: &Secret<16>) -> Self {
        Self::expand(&aead::AES_128_GCM, key.expose())
    }

    /// Expands `key` for ChaCha20-Poly1305.
    ///
    /// # Errors
    /// [`NotApproved`], of a build with the feature `fips` and always then.
    #[cfg(not(feature = "fips"))]
    pub fn chacha20_poly1305(key: &Secret<32>) -> Result<Self, NotApproved> {
        Ok(Self::expand(&aead::CHACHA20_POLY1305, key.expose()))
    }

    /// Refuses: this build has no ChaCha20-Poly1305.
    ///
    /// # Errors
    /// [`NotApproved`].
    #[cfg(feature = "fips")]
    pub fn chacha20_poly1305(_key: &Secret<32>) -> Result<Self, NotApproved> {
        Err(NotApproved)
    }

    fn expand(algorithm: &'static aead::Algorithm, key: &[u8]) -> Self {
        const LENGTH: &str = "the callers' types have the algorithm's key length";
        scrubbing_stack(|| Self {
            #[cfg(feature = "fips")]
            drawing: Box::new(aead::RandomizedNonceKey::new(algorithm, key).expect(LENGTH)),
            #[cfg(any(test, not(feature = "fips")))]
            chosen: Box::new(aead::LessSafeKey::new(aead::UnboundKey::new(algorithm, key).expect(LENGTH))),
        })
    }

    /// Encrypts `buffer` in place under a random nonce, and returns nonce and tag.
    ///
    /// # Errors
    /// [`RandomFailed`]; the buffer then holds the plaintext, or nothing usable.
    ///
    /// # Panics
    /// When `buffer` is longer than the 64 GiB that AES-GCM allows; no caller seals more than 5 MiB.
    pub fn seal_in_place(&self, aad: &[u8], buffer: &mut [u8]) -> Result<Sealed, RandomFailed> {
        assert!((buffer.len() as u64) < GCM_LIMIT, "message too long");
        #[cfg(not(feature = "fips"))]
        {
            self.seal_outside(aad, buffer)
        }
        #[cfg(all(feature = "fips", not(test)))]
        {
            self.seal_within(aad, buffer)
        }
        // Test vectors have nonces that follow from a seed, which the module does not take.
        #[cfg(all(feature = "fips", test))]
        {
            if testing::is_seeded() { self.seal_outside(aad, buffer) } else { self.seal_within(aad, buffer) }
        }
    }

    /// The module draws the nonce.
    #[cfg(feature = "fips")]
    fn seal_within(&self, aad: &[u8], buffer: &mut [u8]) -> Result<Sealed, RandomFailed> {
        let sealed = self.drawing.seal_in_place_separate_tag(aead::Aad::from(aad), buffer);
        let (nonce, tag) = sealed.map_err(|_| RandomFailed)?;
        Ok((*nonce.as_ref(), tag.as_ref().try_into().expect("tags have 16 bytes")))
    }

    /// The nonce is drawn here.
    #[cfg(any(test, not(feature = "fips")))]
    fn seal_outside(&self, aad: &[u8], buffer: &mut [u8]) -> Result<Sealed, RandomFailed> {
        let nonce = random_array()?;
        Ok((nonce, self.seal_with(nonce, aad, buffer)))
    }

    /// Returns the tag. The caller never uses a nonce twice under one key.
    #[cfg(any(test, not(feature = "fips")))]
    fn seal_with(&self, nonce: [u8; NONCE_LEN], aad: &[u8], buffer: &mut [u8]) -> [u8; TAG_LEN] {
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let tag = self.chosen.seal_in_place_separate_tag(nonce, aead::Aad::from(aad), buffer);
        let tag = tag.expect("sealing fails only on messages over 64 GiB");
        tag.as_ref().try_into().expect("tags have 16 bytes")
    }

    /// Decrypts `ciphertext ‖ tag` in place and returns the plaintext part of the buffer.
    ///
    /// # Errors
    /// [`NotAuthentic`]; the buffer then holds nothing usable.
    pub fn open_in_place<'b>(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        buffer: &'b mut [u8],
    ) -> Result<&'b mut [u8], NotAuthentic> {
        #[cfg(feature = "fips")]
        let key = &self.drawing;
        #[cfg(not(feature = "fips"))]
        let key = &self.chosen;
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        key.open_in_place(nonce, aead::Aad::from(aad), buffer).map_err(|_| NotAuthentic)
    }

    /// `nonce ‖ ciphertext ‖ tag` of `plaintext` with a random nonce.
    ///
    /// # Errors
    /// [`RandomFailed`].
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, RandomFailed> {
        let mut sealed = Vec::with_capacity(plaintext.len() + SEAL_OVERHEAD);
        sealed.extend_from_slice(&[0; NONCE_LEN]);
        sealed.extend_from_slice(plaintext);
        let (room, body) = sealed.split_at_mut(NONCE_LEN);
        match self.seal_in_place(aad, body) {
            Ok((nonce, tag)) => {
                room.copy_from_slice(&nonce);
                sealed.extend_from_slice(&tag);
                Ok(sealed)
            }
            Err(failed) => {
                sealed.zeroize();
                Err(failed)
            }
        }
    }

    /// Opens what [`AeadKey::seal`] made. The plaintext is zeroized on drop.
    ///
    /// # Errors
    /// [`NotAuthentic`].
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<zeroize::Zeroizing<Vec<u8>>, NotAuthentic> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(NotAuthentic)?;
        let mut buffer = zeroize::Zeroizing::new(body.to_vec());
        let length = self.open_in_place(*nonce, aad, &mut buffer)?.len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

struct OutputLength(usize);

impl hkdf::KeyType for OutputLength {
    fn len(&self) -> usize {
        self.0
    }
}

/// `HKDF-SHA256[salt, info](ikm)` (RFC 5869), as a secret of `N` bytes; an empty `salt` is the RFC's "not provided".
pub fn hkdf_sha256<const N: usize>(salt: &[u8], ikm: &[u8], info: &[u8]) -> Secret<N> {
    let derive = |out: &mut [u8; N]| {
        hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
            .extract(ikm)
            .expand(&[info], OutputLength(N))
            .and_then(|okm| okm.fill(out))
            .map_err(|_| InvalidSecret::Zero)
    };
    let derived = scrubbing_stack(|| Secret::try_fill(derive));
    derived.expect("HKDF-SHA256 gives up to 8,160 bytes, and not zeros")
}

/// HMAC-SHA256 of `message` under `key`.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    bytes_of(scrubbing_stack(|| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message)))
}

fn bytes_of(tag: hmac::Tag) -> [u8; 32] {
    tag.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

/// An expanded key of HMAC-SHA256. On the heap, as [`AeadKey`] is.
pub struct HmacKey(Box<hmac::Key>);

impl HmacKey {
    /// Expands `key`.
    pub fn new(key: &Secret<32>) -> Self {
        Self(scrubbing_stack(|| Box::new(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))))
    }

    /// HMAC-SHA256 of `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        bytes_of(scrubbing_stack(|| hmac::sign(&self.0, message)))
    }
}

/// `HMAC(…HMAC(HMAC(key, first), further₁)…)`: a key that is derived in steps.
pub fn hmac_sha256_chain(key: &[u8], first: &[u8], further: &[&[u8]]) -> Secret<32> {
    let sign = |key: &[u8], message: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let derived = scrubbing_stack(|| {
        Secret::try_fill(|out| {
            let last = further.iter().fold(sign(key, first), |tag, message| sign(tag.as_ref(), message));
            out.copy_from_slice(last.as_ref());
            Ok::<(), InvalidSecret>(())
        })
    });
    derived.expect("an HMAC-SHA256 is not zeros")
}

/// A key from a passphrase: PBKDF2-HMAC-SHA256 (RFC 8018).
pub fn pbkdf2_sha256(passphrase: &[u8], salt: &[u8], iterations: NonZeroU32) -> Secret<32> {
    let derived = scrubbing_stack(|| {
        Secret::try_fill(|out| {
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, passphrase, out);
            Ok::<(), InvalidSecret>(())
        })
    });
    derived.expect("PBKDF2 does not give zeros")
}

/// Bytes of an Ed25519 public key.
pub const ED25519_PUBLIC_LEN: usize = 32;
/// Bytes of an Ed25519 signature.
pub const ED25519_SIGNATURE_LEN: usize = 64;

/// An Ed25519 private key (RFC 8032), kept as its seed.
///
/// The library's expanded key is not zeroized on drop, so it is made for each signature and lives no longer than that.
pub struct SigningKey {
    seed: Secret<32>,
    public: [u8; ED25519_PUBLIC_LEN],
}

impl SigningKey {
    /// The key of `seed`: the 32 bytes that RFC 8032 calls the private key.
    pub fn from_seed(seed: Secret<32>) -> Self {
        let public = scrubbing_stack(|| expand(&seed).public_key().as_ref().try_into());
        let public = public.expect("Ed25519 public keys have 32 bytes");
        Self { seed, public }
    }

    /// A fresh random key.
    ///
    /// # Errors
    /// [`RandomFailed`].
    pub fn generate() -> Result<Self, RandomFailed> {
        random_secret().map(Self::from_seed)
    }

    /// The seed, for storing the key under another one.
    pub fn seed(&self) -> &Secret<32> {
        &self.seed
    }

    /// The public key.
    pub fn public(&self) -> &[u8; ED25519_PUBLIC_LEN] {
        &self.public
    }
}

fn expand(seed: &Secret<32>) -> signature::Ed25519KeyPair {
    signature::Ed25519KeyPair::from_seed_unchecked(seed.expose()).expect("any 32 bytes are an Ed25519 seed")
}

/// The signature of `message`; deterministic, as RFC 8032 has it.
pub fn ed25519_sign(key: &SigningKey, message: &[u8]) -> [u8; ED25519_SIGNATURE_LEN] {
    let signature = scrubbing_stack(|| expand(&key.seed).sign(message));
    signature.as_ref().try_into().expect("Ed25519 signatures have 64 bytes")
}

/// Checks `signature`; one of the wrong length is refused like any other bad one.
///
/// # Errors
/// [`NotAuthentic`].
pub fn ed25519_verify(public: &[u8; ED25519_PUBLIC_LEN], message: &[u8], signature: &[u8]) -> Result<(), NotAuthentic> {
    let key = signature::UnparsedPublicKey::new(&signature::ED25519, public);
    key.verify(message, signature).map_err(|_| NotAuthentic)
}

/// The kinds of signature that people make with the key of their certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignatureKind {
    /// ECDSA on P-256 with SHA-256; the signature is ASN.1 (RFC 3279), the public key an uncompressed point.
    EcdsaP256Sha256,
    /// Ed25519.
    Ed25519,
}

/// Checks a signature by `public`, in the form that [`SignatureKind`] gives.
///
/// # Errors
/// [`NotAuthentic`], also for a public key or a signature that is none.
pub fn verify_signature(
    kind: SignatureKind,
    public: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), NotAuthentic> {
    let algorithm: &dyn signature::VerificationAlgorithm = match kind {
        SignatureKind::EcdsaP256Sha256 => &signature::ECDSA_P256_SHA256_ASN1,
        SignatureKind::Ed25519 => &signature::ED25519,
    };
    signature::UnparsedPublicKey::new(algorithm, public).verify(message, signature).map_err(|_| NotAuthentic)
}

/// The private key is not one in PKCS#8 that [`SignatureKind`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an EC P-256 or Ed25519 private key in PKCS#8")]
pub struct UnusableKey;

/// A private key out of PKCS#8 (RFC 5958): EC P-256 or Ed25519.
///
/// The library does not zeroize it on drop, so it should live no longer than one command.
pub struct Pkcs8Key(KeyPair);

enum KeyPair {
    EcdsaP256(signature::EcdsaKeyPair),
    Ed25519(signature::Ed25519KeyPair),
}

impl Pkcs8Key {
    /// The key in `der`.
    ///
    /// # Errors
    /// [`UnusableKey`].
    pub fn parse(der: &[u8]) -> Result<Self, UnusableKey> {
        if let Some(pair) = ecdsa_p256(der) {
            return Ok(Self(KeyPair::EcdsaP256(pair)));
        }
        let ed25519 = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(der);
        ed25519.map(|pair| Self(KeyPair::Ed25519(pair))).map_err(|_| UnusableKey)
    }

    /// What it signs with.
    pub fn kind(&self) -> SignatureKind {
        match self.0 {
            KeyPair::EcdsaP256(_) => SignatureKind::EcdsaP256Sha256,
            KeyPair::Ed25519(_) => SignatureKind::Ed25519,
        }
    }

    /// The public key.
    pub fn public(&self) -> &[u8] {
        match &self.0 {
            KeyPair::EcdsaP256(pair) => pair.public_key().as_ref(),
            KeyPair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    /// A signature of `message`.
    ///
    /// # Errors
    /// [`RandomFailed`]: ECDSA draws.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, RandomFailed> {
        match &self.0 {
            KeyPair::EcdsaP256(pair) => {
                let signature = pair.sign(&rand::SystemRandom::new(), message).map_err(|_| RandomFailed)?;
                Ok(signature.as_ref().to_vec())
            }
            KeyPair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

fn ecdsa_p256(der: &[u8]) -> Option<signature::EcdsaKeyPair> {
    let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    #[cfg(feature = "aws-lc")]
    let pair = signature::EcdsaKeyPair::from_pkcs8(algorithm, der);
    #[cfg(not(feature = "aws-lc"))]
    let pair = signature::EcdsaKeyPair::from_pkcs8(algorithm, der, &rand::SystemRandom::new());
    pair.ok()
}

/// Whether `a` and `b` are equal, in time that depends on their lengths only.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    subtle::ConstantTimeEq::ct_eq(a, b).into()
}

/// The digests of [`Digest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// SHA-1: only because S3 clients may ask for it as a checksum.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// A running digest.
#[derive(Clone)]
pub struct Digest(digest::Context);

impl Digest {
    /// Starts one.
    pub fn new(algorithm: DigestAlgorithm) -> Self {
        Self(digest::Context::new(match algorithm {
            DigestAlgorithm::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            DigestAlgorithm::Sha256 => &digest::SHA256,
            DigestAlgorithm::Sha512 => &digest::SHA512,
        }))
    }

    /// Takes `bytes` in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest: 20, 32 or 64 bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}

/// SHA-256 of `bytes`. The library leaves its last block on the stack: a secret is hashed within `scrubbing_stack`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

/// Repeatable "random" bytes for the format's test vectors; not compiled into the program.
#[cfg(test)]
pub(crate) mod testing {
    use std::cell::RefCell;

    thread_local! {
        static DRAWS: RefCell<Option<(String, u64)>> = const { RefCell::new(None) };
    }

    /// Runs `work` with draws that depend on `seed` only: draw n gives SHA-256(seed ‖ n as u64 ‖ block as u64), block after block.
    pub(crate) fn with_seed<T>(seed: &str, work: impl FnOnce() -> T) -> T {
        DRAWS.set(Some((seed.to_owned(), 0)));
        let result = work();
        DRAWS.set(None);
        result
    }

    /// Whether this thread's draws are such.
    #[cfg(feature = "fips")]
    pub(super) fn is_seeded() -> bool {
        DRAWS.with_borrow(Option::is_some)
    }

    pub(super) fn fill(bytes: &mut [u8]) -> bool {
        DRAWS.with_borrow_mut(|draws| {
            let Some((seed, draw)) = draws else { return false };
            for (block, chunk) in (0u64..).zip(bytes.chunks_mut(32)) {
                let message = [seed.as_bytes(), &draw.to_be_bytes(), &block.to_be_bytes()].concat();
                chunk.copy_from_slice(&super::sha256(&message)[..chunk.len()]);
            }
            *draw += 1;
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seal_opens_only_with_the_same_key_and_aad() {
        let key = AeadKey::new(&random_secret().expect("random"));
        let other = AeadKey::new(&random_secret().expect("random"));
        let mut sealed = key.seal(b"aad", b"record").expect("random");
        assert_eq!(key.open(b"aad", &sealed).expect("opens").as_slice(), b"record");
        assert!(key.open(b"axd", &sealed).is_err());
        assert!(other.open(b"aad", &sealed).is_err());
        sealed[NONCE_LEN] ^= 1;
        assert!(key.open(b"aad", &sealed).is_err());
        assert!(key.open(b"aad", &sealed[..27]).is_err());
    }

    #[test]
    fn aes_128_gcm_case_4_of_its_specification() {
        let key = AeadKey::aes_128_gcm(&secret("feffe9928665731c6d6a8f9467308308"));
        let mut buffer = hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
             1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39");
        let nonce = hex("cafebabefacedbaddecaf888").try_into().expect("12 bytes");
        let tag = key.seal_with(nonce, &hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"), &mut buffer);
        assert_eq!(buffer[..8], hex("42831ec221777424"));
        assert_eq!(tag.as_slice(), hex("5bc94fbc3221a5db94fae95ae7121a47"));
        buffer.extend_from_slice(&tag);
        let aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let opened = key.open_in_place(nonce, &aad, &mut buffer).expect("opens");
        assert_eq!(opened[..4], hex("d9313225"));
    }

    #[test]
    fn each_sealing_draws_a_nonce() {
        let key = AeadKey::new(&random_secret().expect("random"));
        let mut nonces = (0..64).map(|_| key.seal_in_place(b"", &mut [0; 16]).expect("random").0).collect::<Vec<_>>();
        nonces.sort_unstable();
        nonces.dedup();
        assert_eq!(nonces.len(), 64);
    }

    #[test]
    fn the_library_is_the_one_that_was_asked_for_and_in_its_mode() {
        assert_eq!(check_mode(), Ok(()));
        assert_eq!(LIBRARY.contains("AWS-LC"), cfg!(feature = "aws-lc"));
        assert_eq!(LIBRARY.contains("FIPS"), cfg!(feature = "fips"));
        #[cfg(feature = "aws-lc")]
        assert_eq!(library::try_fips_mode().is_ok(), cfg!(feature = "fips"));
    }

    #[cfg(feature = "fips")]
    #[test]
    fn what_fips_140_does_not_approve_of_is_refused() {
        let key = random_secret().expect("random");
        assert_eq!(AeadKey::chacha20_poly1305(&key).err(), Some(NotApproved));
    }

    #[cfg(not(feature = "fips"))]
    #[test]
    fn chacha20_poly1305_rfc8439_2_8_2() {
        let key = secret("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
        let key = AeadKey::chacha20_poly1305(&key).expect("not for FIPS");
        let mut buffer =
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
            sunscreen would be it."
                .to_vec();
        let nonce = hex("070000004041424344454647").try_into().expect("12 bytes");
        let tag = key.seal_with(nonce, &hex("50515253c0c1c2c3c4c5c6c7"), &mut buffer);
        assert_eq!(buffer[..8], hex("d31a8d34648e60db"));
        assert_eq!(tag.as_slice(), hex("1ae10b594f09e26a7e902ecbd0600691"));
    }

    fn hex(text: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
        (0..text.len()).step_by(2).map(byte).collect()
    }

    fn secret<const N: usize>(text: &str) -> Secret<N> {
        Secret::from_slice(&hex(text)).expect("a key")
    }

    #[test]
    fn hkdf_rfc5869_case_3() {
        let okm = hkdf_sha256::<42>(b"", &[0x0b; 22], b"");
        assert_eq!(okm.expose()[..8], [0x8d, 0xa4, 0xe7, 0x75, 0xa5, 0x63, 0xc1, 0x8f]);
        assert_eq!(okm.expose()[34..], [0x9d, 0x20, 0x13, 0x95, 0xfa, 0xa4, 0xb6, 0x1a, 0x96, 0xc8][2..]);
    }

    #[test]
    fn hmac_rfc4231_case_2() {
        let tag = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(tag[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }

    #[test]
    fn ed25519_rfc8032_test_2() {
        let seed = [
            0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11, 0x4e, 0x0f, 0x5b, 0x8a,
            0x31, 0x9f, 0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8, 0xa6, 0xfb,
        ];
        let key = SigningKey::from_seed(Secret::from_slice(&seed).expect("32 bytes"));
        assert_eq!(key.public()[..4], [0x3d, 0x40, 0x17, 0xc3]);
        let mut signature = ed25519_sign(&key, &[0x72]);
        assert_eq!(signature[..8], [0x92, 0xa0, 0x09, 0xa9, 0xf0, 0xd4, 0xca, 0xb8]);
        assert_eq!(ed25519_verify(key.public(), &[0x72], &signature), Ok(()));
        assert_eq!(ed25519_verify(key.public(), &[0x73], &signature), Err(NotAuthentic));
        assert_eq!(ed25519_verify(key.public(), &[0x72], &signature[..63]), Err(NotAuthentic));
        signature[63] ^= 1;
        assert_eq!(ed25519_verify(key.public(), &[0x72], &signature), Err(NotAuthentic));
    }

    #[test]
    fn a_key_of_pkcs8_signs_what_only_its_public_key_verifies() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
            let [one, two] = [0, 1].map(|_| {
                let key = rcgen::KeyPair::generate_for(algorithm).expect("random");
                Pkcs8Key::parse(key.serialized_der()).expect("PKCS#8")
            });
            let mut signature = one.sign(b"message").expect("random");
            let check = |key: &Pkcs8Key, message: &[u8], signature: &[u8]| {
                verify_signature(key.kind(), key.public(), message, signature)
            };
            assert_eq!(check(&one, b"message", &signature), Ok(()));
            assert_eq!(check(&one, b"messagf", &signature), Err(NotAuthentic));
            assert_eq!(check(&two, b"message", &signature), Err(NotAuthentic));
            assert_eq!(check(&one, b"message", &signature[1..]), Err(NotAuthentic));
            let last = signature.len() - 1;
            signature[last] ^= 1;
            assert_eq!(check(&one, b"message", &signature), Err(NotAuthentic));
        }
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("random");
        assert_eq!(Pkcs8Key::parse(other.serialized_der()).err(), Some(UnusableKey));
        assert!(Pkcs8Key::parse(b"").is_err());
    }
}
