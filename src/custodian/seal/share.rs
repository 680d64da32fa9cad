//! Shamir shares of a wrapping key, or of the key of a backup, and their text form.
//!
//! ```text
//! version   1   0x01
//! seal     16   id of the seal, or of the backup, that the share belongs to
//! index     1   1 to 255: the x coordinate
//! value    32   the y coordinates, in GF(2^8), of the 32 bytes of the wrapping key
//! checksum  4   first bytes of SHA-256 over all before: finds slips of the pen, not forgers
//! ```
//!
//! in base64 (RFC 4648, section 4), 72 characters. Wrong shares with a right checksum are found when they are combined: what
//! comes out does not open the root key.
//!
//! **Invariant:** a share's value is zeroized on drop and is not in its `Debug` form.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand_core::{TryCryptoRng, TryRng};
use vsss_rs::Gf256;
use zeroize::{Zeroize as _, Zeroizing};

use crate::crypto::{self, RandomFailed};
use crate::secret::{Secret, SecretBytes};

use super::UnsealError;

const VERSION: u8 = 1;
const VALUE_LEN: usize = 32;
const SHARE_LEN: usize = 1 + 16 + 1 + VALUE_LEN + CHECKSUM_LEN;
const CHECKSUM_LEN: usize = 4;
/// Characters of a share's text.
pub const SHARE_TEXT_LEN: usize = SHARE_LEN / 3 * 4;

/// The id of one seal: random, and in each of its shares.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SealId([u8; 16]);

impl SealId {
    pub(super) fn random() -> Result<Self, RandomFailed> {
        crypto::random_array().map(Self)
    }

    pub(in crate::custodian) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for SealId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A share is not usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// Not base64 of a share's length.
    #[error("not a share: {SHARE_TEXT_LEN} characters of base64 are expected")]
    Malformed,
    /// Of a later version of this program.
    #[error("a share of an unknown version")]
    Version,
    /// A character is wrong.
    #[error("the share's checksum does not fit: it was mistyped or cut")]
    Checksum,
    /// Of another store, or from before the seal was changed.
    #[error("the share belongs to another seal")]
    Foreign,
    /// The seal has no share of that index.
    #[error("the seal has no share of this index")]
    Index,
    /// Given already.
    #[error("this share was given already")]
    Duplicate,
}

/// One share.
pub struct Share {
    seal: SealId,
    index: u8,
    value: Secret<VALUE_LEN>,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("seal", &self.seal).field("index", &self.index).finish_non_exhaustive()
    }
}

impl Share {
    /// Reads the text form; white space at both ends does not matter.
    ///
    /// # Errors
    /// [`ShareError`].
    pub fn parse(text: &str) -> Result<Self, ShareError> {
        crypto::scrubbing_stack(|| Self::read(text))
    }

    fn read(text: &str) -> Result<Self, ShareError> {
        let text = text.trim_ascii();
        if text.len() != SHARE_TEXT_LEN {
            return Err(ShareError::Malformed);
        }
        let mut bytes = Zeroizing::new([0; SHARE_LEN]);
        let length = STANDARD.decode_slice(text, &mut *bytes).map_err(|_| ShareError::Malformed)?;
        if length != SHARE_LEN {
            return Err(ShareError::Malformed);
        }
        let (body, checksum) = bytes.split_at(SHARE_LEN - CHECKSUM_LEN);
        if bytes[0] != VERSION {
            return Err(ShareError::Version);
        }
        if !crypto::constant_time_eq(&crypto::sha256(body)[..CHECKSUM_LEN], checksum) {
            return Err(ShareError::Checksum);
        }
        let seal = SealId(body[1..17].try_into().expect("16 bytes"));
        // A value of zeros is one in 2^256; it is a share that was never filled in.
        let value = Secret::from_slice(&body[18..]).map_err(|_| ShareError::Malformed)?;
        Ok(Self { seal, index: body[17], value })
    }

    /// The text form, for the one who is to keep it.
    pub fn to_text(&self) -> SecretBytes {
        crypto::scrubbing_stack(|| self.write())
    }

    fn write(&self) -> SecretBytes {
        let mut bytes = Zeroizing::new([0; SHARE_LEN]);
        bytes[0] = VERSION;
        bytes[1..17].copy_from_slice(self.seal.as_bytes());
        bytes[17] = self.index;
        bytes[18..18 + VALUE_LEN].copy_from_slice(self.value.expose());
        let checksum = crypto::sha256(&bytes[..SHARE_LEN - CHECKSUM_LEN]);
        bytes[SHARE_LEN - CHECKSUM_LEN..].copy_from_slice(&checksum[..CHECKSUM_LEN]);
        let mut text = vec![0; SHARE_TEXT_LEN];
        let length = STANDARD.encode_slice(bytes.as_slice(), &mut text);
        assert_eq!(length, Ok(SHARE_TEXT_LEN), "54 bytes are 72 characters of base64");
        SecretBytes::new(text).expect("not empty and not zeros")
    }

    /// The seal that it belongs to.
    pub fn seal(&self) -> SealId {
        self.seal
    }

    /// Its number, from 1.
    pub fn index(&self) -> u8 {
        self.index
    }
}

/// The program's generator for `vsss-rs`, which cannot be told of a failure: it is remembered.
struct Generator {
    failed: bool,
}

impl TryRng for Generator {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.failed |= crypto::random_fill(bytes).is_err();
        Ok(())
    }
}

impl TryCryptoRng for Generator {}

/// Splits `secret` into `count` shares, of which `threshold` give it back and fewer tell nothing.
pub(in crate::custodian) fn split(
    seal: SealId,
    threshold: u8,
    count: u8,
    secret: &Secret<32>,
) -> Result<Vec<Share>, UnsealError> {
    let mut generator = Generator { failed: false };
    let points =
        crypto::scrubbing_stack(|| Gf256::split_bytes(threshold.into(), count.into(), secret.expose(), &mut generator));
    let points: Vec<Zeroizing<Vec<u8>>> =
        points.map_err(|_| UnsealError::Threshold)?.into_iter().map(Zeroizing::new).collect();
    if generator.failed {
        return Err(RandomFailed.into());
    }
    let share = |point: &Zeroizing<Vec<u8>>| {
        let (index, value) = point.split_first().expect("a point is an index and a value");
        let value = Secret::from_slice(value).map_err(RandomFailed::from)?;
        Ok(Share { seal, index: *index, value })
    };
    points.iter().map(share).collect()
}

/// What `shares` are of, or, where too few or a wrong one is among them, something else. `None` if nothing comes out.
pub(in crate::custodian) fn combine<'s>(shares: impl IntoIterator<Item = &'s Share>) -> Option<Secret<32>> {
    let mut points: Vec<Vec<u8>> = Vec::new();
    for share in shares {
        let mut point = Vec::with_capacity(1 + VALUE_LEN);
        point.push(share.index);
        point.extend_from_slice(share.value.expose());
        points.push(point);
    }
    let combined = crypto::scrubbing_stack(|| Gf256::combine_bytes(&points).map(Zeroizing::new));
    points.iter_mut().for_each(|point| point.zeroize());
    Secret::from_slice(&combined.ok()?).ok()
}

/// A share of the same seal and index with another value, and a right checksum.
#[cfg(test)]
pub(in crate::custodian) fn forged(like: &Share) -> Share {
    let value = Secret::from_slice(&[0x42; VALUE_LEN]).expect("not zero");
    Share { seal: like.seal, index: like.index, value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(threshold: u8, count: u8) -> (Secret<32>, Vec<Share>) {
        let secret = crypto::random_secret().expect("random");
        let seal = SealId::random().expect("random");
        let shares = split(seal, threshold, count, &secret).expect("splits");
        (secret, shares)
    }

    fn text(share: &Share) -> String {
        String::from_utf8(share.to_text().expose().to_vec()).expect("base64")
    }

    fn copies(shares: &[&Share]) -> Vec<Share> {
        shares.iter().map(|share| Share::parse(&text(share)).expect("parses")).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_threshold_of_them_in_any_order_combine_and_one_fewer_do_not(
            (threshold, count, order) in (3u8..12).prop_flat_map(|count| {
                (2..=count, Just(count), Just((0..usize::from(count)).collect::<Vec<_>>()).prop_shuffle())
            }),
            more in 0usize..12,
        ) {
            let (secret, all) = shares(threshold, count);
            let enough = (usize::from(threshold) + more).min(all.len());
            let picked: Vec<&Share> = order.iter().take(enough).map(|index| &all[*index]).collect();
            let combined = combine(&copies(&picked)).expect("combines");
            prop_assert_eq!(combined.expose(), secret.expose());
            let too_few = combine(&copies(&picked[..usize::from(threshold) - 1]));
            prop_assert!(too_few.is_none_or(|wrong| wrong.expose() != secret.expose()));
        }

        #[test]
        fn a_changed_share_gives_another_secret(which in 0usize..3, byte in 0usize..32, flip in 1u8..) {
            let (secret, all) = shares(3, 5);
            let mut some = copies(&[&all[0], &all[2], &all[4]]);
            let mut value = *some[which].value.expose();
            value[byte] ^= flip;
            if let Ok(value) = Secret::from_slice(&value) {
                some[which].value = value;
                let wrong = combine(&some).expect("combines");
                prop_assert_ne!(wrong.expose(), secret.expose());
            }
        }

        #[test]
        fn no_text_panics_the_parser(text in "\\PC{0,80}") {
            prop_assert!(Share::parse(&text).is_err());
        }
    }

    #[test]
    fn too_few_shares_say_nothing_about_the_secret() {
        // One byte of one share of a 2-of-3 is uniform whatever the secret is: over many splittings of the same secret all
        // 256 values turn up, which a generator with a fixed bit or a missing coefficient would not give.
        let secret = Secret::from_slice(&[0x5a; 32]).expect("not zero");
        let seal = SealId::random().expect("random");
        let mut seen = [false; 256];
        for _ in 0..200 {
            for share in split(seal, 2, 3, &secret).expect("splits") {
                share.value.expose().iter().for_each(|byte| seen[usize::from(*byte)] = true);
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }

    #[test]
    fn a_share_survives_paper_and_slips_of_the_pen_are_found() {
        let (_, all) = shares(2, 3);
        let text = text(&all[1]);
        assert_eq!(text.len(), 72);
        let read = Share::parse(&format!(" {text}\r\n")).expect("parses");
        assert_eq!((read.seal, read.index, read.value.expose()), (all[1].seal, 2, all[1].value.expose()));
        for at in 0..text.len() {
            let mut slip = text.clone().into_bytes();
            slip[at] = if slip[at] == b'A' { b'B' } else { b'A' };
            let slip = String::from_utf8(slip).expect("ASCII");
            let error = Share::parse(&slip).expect_err("a slip");
            assert!(matches!(error, ShareError::Checksum | ShareError::Version), "{at}: {error}");
        }
        for cut in 0..text.len() {
            assert_eq!(Share::parse(&text[..cut]).err(), Some(ShareError::Malformed));
        }
        assert_eq!(Share::parse(&format!("{text}A")).err(), Some(ShareError::Malformed));
        assert_eq!(Share::parse(&"!".repeat(72)).err(), Some(ShareError::Malformed));
    }

    #[test]
    fn debug_does_not_show_the_value() {
        let (_, all) = shares(2, 3);
        let shown = format!("{:?} {:?}", all[0], all[0].to_text());
        let value = format!("{:?}", all[0].value.expose());
        assert!(!shown.contains(&value[1..20]) && !shown.contains(&text(&all[0])));
    }
}
