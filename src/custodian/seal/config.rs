//! The list of a store's seals, as it stands in the store in the clear.
//!
//! ```text
//! list   = ["claviger/1 seals", [seal, …], mac]
//! seal   = [id, "shares", threshold, count, wrapped root]
//!        | [id, "passphrase", iterations, salt, wrapped root]
//!        | [id, "pkcs11", wrapped wrapping key, wrapped root]
//!        | [id, "remote", wrapped wrapping key, wrapped root]
//! AAD    = ["claviger/1 seal", seal without its wrapped root]
//! mac    = HMAC-SHA256[HKDF-SHA256[no salt, "claviger/1 seals"](root key)](["claviger/1 seals", [seal, …]])
//! ```
//!
//! in deterministic CBOR. The MAC can only be checked once a seal has opened; until then a list that was tampered with leads to
//! nothing but a refusal, because each seal's fields are the AAD of its wrapped root key.
//!
//! **Invariant:** one or two seals, each within its bounds.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use minicbor::decode::Decoder;
use minicbor::encode::{Encoder, Error};

use crate::cbor::{self, NotCanonical};
use crate::crypto::{self, AeadKey, NotAuthentic};
use crate::secret::Secret;

use super::share::SealId;
use super::{RootKey, UnsealError};

const LIST_LABEL: &str = "claviger/1 seals";
const SEAL_LABEL: &str = "claviger/1 seal";
const WRAPPED_ROOT_LEN: usize = 32 + crypto::SEAL_OVERHEAD;
/// Most bytes of a wrapping key as a token or another OpenBao wrapped it.
pub(super) const WRAPPED_KEY_MAX: usize = 1024;
/// Most seals of one store.
pub const SEALS_MAX: usize = 2;

/// PBKDF2 iterations of new seals, unless told otherwise (OWASP's figure for HMAC-SHA256).
pub const ITERATIONS_DEFAULT: u32 = 600_000;
/// Enough to be slow for a guesser, not so many that a forged list stalls us.
const ITERATIONS: RangeInclusive<u32> = 100_000..=10_000_000;

/// The number, if a seal may have so many PBKDF2 iterations.
pub(super) fn legal_iterations(iterations: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(iterations).filter(|_| ITERATIONS.contains(&iterations))
}

type Writer<'a> = Encoder<&'a mut Vec<u8>>;

/// What keeps a seal's wrapping key.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Guard {
    Shares { threshold: u8, count: u8 },
    Passphrase { iterations: u32, salt: [u8; 32] },
    Pkcs11 { wrapped: Vec<u8> },
    Remote { wrapped: Vec<u8> },
}

impl Guard {
    /// Items of the CBOR array that [`Guard::write`] writes.
    fn items(&self) -> u64 {
        match self {
            Self::Shares { .. } | Self::Passphrase { .. } => 3,
            Self::Pkcs11 { .. } | Self::Remote { .. } => 2,
        }
    }

    fn write(&self, e: &mut Writer<'_>) -> Result<(), Error<Infallible>> {
        match self {
            Self::Shares { threshold, count } => e.str("shares")?.u8(*threshold)?.u8(*count)?,
            Self::Passphrase { iterations, salt } => e.str("passphrase")?.u32(*iterations)?.bytes(salt)?,
            Self::Pkcs11 { wrapped } => e.str("pkcs11")?.bytes(wrapped)?,
            Self::Remote { wrapped } => e.str("remote")?.bytes(wrapped)?,
        };
        Ok(())
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, NotCanonical> {
        let guard = match d.str()? {
            "shares" => Self::Shares { threshold: d.u8()?, count: d.u8()? },
            "passphrase" => {
                let (iterations, salt) = (d.u32()?, d.bytes()?);
                Self::Passphrase { iterations, salt: salt.try_into().map_err(|_| NotCanonical)? }
            }
            "pkcs11" => Self::Pkcs11 { wrapped: d.bytes()?.to_vec() },
            "remote" => Self::Remote { wrapped: d.bytes()?.to_vec() },
            _ => return Err(NotCanonical),
        };
        guard.check().map_err(|_| NotCanonical)?;
        Ok(guard)
    }

    pub(super) fn check(&self) -> Result<(), UnsealError> {
        match self {
            Self::Shares { threshold, count } if *count < 3 || !(2..=*count).contains(threshold) => {
                Err(UnsealError::Threshold)
            }
            Self::Passphrase { iterations, .. } if legal_iterations(*iterations).is_none() => {
                Err(UnsealError::Iterations(*iterations))
            }
            Self::Pkcs11 { wrapped } | Self::Remote { wrapped }
                if wrapped.is_empty() || wrapped.len() > WRAPPED_KEY_MAX =>
            {
                Err(UnsealError::WrongKey)
            }
            _ => Ok(()),
        }
    }
}

/// What kind a seal is, for those who ask how to unseal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealKind {
    /// `threshold` of `count` people with shares.
    Shares {
        /// How many shares open it.
        threshold: u8,
        /// How many were handed out.
        count: u8,
    },
    /// A passphrase.
    Passphrase,
    /// A PKCS#11 token.
    Pkcs11,
    /// Another OpenBao's Transit.
    Remote,
}

/// One seal.
#[derive(Clone, PartialEq, Eq)]
pub struct Seal {
    id: SealId,
    guard: Guard,
    wrapped_root: [u8; WRAPPED_ROOT_LEN],
}

impl Seal {
    pub(super) fn make(id: SealId, guard: Guard, wrapping: &Secret<32>, root: &RootKey) -> Result<Self, UnsealError> {
        guard.check()?;
        let wrapped = AeadKey::new(wrapping).seal(&aad(id, &guard), root.expose())?;
        let wrapped_root = wrapped.try_into().expect("32 bytes and the overhead");
        Ok(Self { id, guard, wrapped_root })
    }

    /// Its id.
    pub fn id(&self) -> SealId {
        self.id
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Its kind.
    pub fn kind(&self) -> SealKind {
        match self.guard {
            Guard::Shares { threshold, count } => SealKind::Shares { threshold, count },
            Guard::Passphrase { .. } => SealKind::Passphrase,
            Guard::Pkcs11 { .. } => SealKind::Pkcs11,
            Guard::Remote { .. } => SealKind::Remote,
        }
    }

    fn open(&self, wrapping: &Secret<32>) -> Result<RootKey, NotAuthentic> {
        let root = AeadKey::new(wrapping).open(&aad(self.id, &self.guard), &self.wrapped_root)?;
        Secret::from_slice(&root).map(RootKey).map_err(|_| NotAuthentic)
    }

    fn write(&self, e: &mut Writer<'_>) -> Result<(), Error<Infallible>> {
        e.array(self.guard.items() + 2)?.bytes(self.id.as_bytes())?;
        self.guard.write(e)?;
        e.bytes(&self.wrapped_root)?;
        Ok(())
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, NotCanonical> {
        let items = d.array()?;
        let id = SealId::from_bytes(d.bytes()?.try_into().map_err(|_| NotCanonical)?);
        let guard = Guard::read(d)?;
        if items != Some(guard.items() + 2) {
            return Err(NotCanonical);
        }
        Ok(Self { id, guard, wrapped_root: d.bytes()?.try_into().map_err(|_| NotCanonical)? })
    }
}

fn aad(id: SealId, guard: &Guard) -> Vec<u8> {
    cbor::encode(|e| {
        e.array(guard.items() + 2)?.str(SEAL_LABEL)?.bytes(id.as_bytes())?;
        guard.write(e)
    })
}

/// The seals of a store.
#[derive(Clone, PartialEq, Eq)]
pub struct SealList {
    seals: Vec<Seal>,
    mac: [u8; 32],
}

impl SealList {
    pub(super) fn new(root: &RootKey, seals: Vec<Seal>) -> Result<Self, UnsealError> {
        if !(1..=SEALS_MAX).contains(&seals.len()) {
            return Err(UnsealError::SealCount);
        }
        let mac = mac(root, &seals);
        Ok(Self { seals, mac })
    }

    /// The seals.
    pub fn seals(&self) -> &[Seal] {
        &self.seals
    }

    /// Opens `seal`, one of this list's, with its wrapping key, and checks the list with what comes out.
    ///
    /// `Ok(None)` if the key is not the seal's.
    pub(super) fn open(&self, seal: &Seal, wrapping: &Secret<32>) -> Result<Option<RootKey>, UnsealError> {
        let Ok(root) = seal.open(wrapping) else { return Ok(None) };
        if crypto::constant_time_eq(&mac(&root, &self.seals), &self.mac) {
            Ok(Some(root))
        } else {
            Err(UnsealError::Altered)
        }
    }

    /// As it stands in the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::encode(|e| {
            e.array(3)?.str(LIST_LABEL)?.array(self.seals.len() as u64)?;
            self.seals.iter().try_for_each(|seal| seal.write(e))?;
            e.bytes(&self.mac)?;
            Ok(())
        })
    }

    /// Reads what [`SealList::to_bytes`] writes, and nothing else.
    ///
    /// # Errors
    /// [`UnsealError::NotSeals`].
    pub fn parse(bytes: &[u8]) -> Result<Self, UnsealError> {
        cbor::parse(bytes, Self::read, Self::to_bytes).map_err(|_| UnsealError::NotSeals)
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, NotCanonical> {
        if d.array()? != Some(3) || d.str()? != LIST_LABEL {
            return Err(NotCanonical);
        }
        let count = d.array()?.filter(|count| (1..=SEALS_MAX as u64).contains(count)).ok_or(NotCanonical)?;
        let seals = (0..count).map(|_| Seal::read(d)).collect::<Result<_, _>>()?;
        Ok(Self { seals, mac: d.bytes()?.try_into().map_err(|_| NotCanonical)? })
    }
}

fn mac(root: &RootKey, seals: &[Seal]) -> [u8; 32] {
    let message = cbor::encode(|e| {
        e.array(2)?.str(LIST_LABEL)?.array(seals.len() as u64)?;
        seals.iter().try_for_each(|seal| seal.write(e))
    });
    let key: Secret<32> = crypto::hkdf_sha256(b"", root.expose(), LIST_LABEL.as_bytes());
    crypto::hmac_sha256(key.expose(), &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> (RootKey, Secret<32>, SealList) {
        let (root, wrapping) = (RootKey::random().expect("random"), crypto::random_secret().expect("random"));
        let seal = |guard| Seal::make(SealId::random().expect("random"), guard, &wrapping, &root).expect("makes");
        let seals = vec![
            seal(Guard::Shares { threshold: 2, count: 3 }),
            seal(Guard::Passphrase { iterations: 600_000, salt: [7; 32] }),
        ];
        let list = SealList::new(&root, seals).expect("two");
        (root, wrapping, list)
    }

    #[test]
    fn a_list_comes_back_and_either_seal_opens_it() {
        let (root, wrapping, list) = list();
        let read = SealList::parse(&list.to_bytes()).expect("parses");
        for seal in read.seals() {
            let opened = read.open(seal, &wrapping).expect("unaltered").expect("opens");
            assert_eq!(opened.expose(), root.expose());
        }
        let kinds: Vec<SealKind> = read.seals().iter().map(Seal::kind).collect();
        assert_eq!(kinds, [SealKind::Shares { threshold: 2, count: 3 }, SealKind::Passphrase]);
        let other = crypto::random_secret().expect("random");
        assert!(read.open(&read.seals()[0], &other).expect("unaltered").is_none());
    }

    #[test]
    fn a_flipped_bit_anywhere_opens_neither_seal() {
        let (_, wrapping, list) = list();
        let bytes = list.to_bytes();
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(list) = SealList::parse(&flipped) {
                let opens = |seal: &Seal| matches!(list.open(seal, &wrapping), Ok(Some(_)));
                assert!(!list.seals().iter().any(opens), "bit {bit}");
            }
        }
        for cut in 0..bytes.len() {
            assert!(SealList::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(SealList::parse(&[bytes.as_slice(), b"\0"].concat()).is_err());
    }

    #[test]
    fn a_seal_taken_out_or_taken_from_another_list_is_noticed() {
        let (_, wrapping, list) = list();
        let alone = SealList { seals: vec![list.seals[0].clone()], mac: list.mac };
        assert!(matches!(alone.open(&alone.seals[0], &wrapping), Err(UnsealError::Altered)));
        let other_root = RootKey::random().expect("random");
        let id = SealId::random().expect("random");
        let foreign = Seal::make(id, Guard::Shares { threshold: 2, count: 3 }, &wrapping, &other_root);
        let mixed = SealList { seals: vec![foreign.expect("makes"), list.seals[1].clone()], mac: list.mac };
        assert!(matches!(mixed.open(&mixed.seals[0], &wrapping), Err(UnsealError::Altered)));
    }

    #[test]
    fn bounds_hold_for_writers_and_readers() {
        let (root, wrapping, list) = list();
        let id = SealId::random().expect("random");
        for (threshold, count) in [(0, 3), (1, 3), (4, 3), (2, 2), (1, 1), (0, 0)] {
            let guard = Guard::Shares { threshold, count };
            assert!(matches!(Seal::make(id, guard.clone(), &wrapping, &root), Err(UnsealError::Threshold)));
            let seal = Seal { id, guard, wrapped_root: [0; WRAPPED_ROOT_LEN] };
            assert!(SealList::parse(&SealList { seals: vec![seal], mac: [0; 32] }.to_bytes()).is_err());
        }
        for iterations in [0, 99_999, 10_000_001] {
            let guard = Guard::Passphrase { iterations, salt: [0; 32] };
            assert!(matches!(Seal::make(id, guard, &wrapping, &root), Err(UnsealError::Iterations(_))));
        }
        for wrapped in [Vec::new(), vec![0; WRAPPED_KEY_MAX + 1]] {
            assert!(Seal::make(id, Guard::Remote { wrapped }, &wrapping, &root).is_err());
        }
        assert!(matches!(SealList::new(&root, Vec::new()), Err(UnsealError::SealCount)));
        let three = vec![list.seals[0].clone(), list.seals[0].clone(), list.seals[1].clone()];
        assert!(matches!(SealList::new(&root, three), Err(UnsealError::SealCount)));
    }
}
