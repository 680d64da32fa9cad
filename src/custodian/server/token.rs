//! Tokens, for clients that want one: each is good with the very client certificate that it was given for, and with no other.
//!
//! ```text
//! token = "clv." ‖ base64url(nonce ‖ AES-256-GCM[HKDF-SHA256[no salt, "claviger/1 tokens"](root key)](id 16 ‖ issued 8 ‖ expires 8) ‖ tag),
//!         AAD = "claviger/1 token" ‖ 0 ‖ SHA-256 of the certificate
//! ```
//!
//! Nothing is kept of a token, so that custodians over one store take each other's and a restart loses none; only renewals and
//! revocations are remembered, by the process that was asked for them, until the token's time is over. That is little to lose: a token
//! adds nothing to what its certificate may do anyway, and goes no further than the connection that proves the certificate.
//!
//! **Invariant:** no token, and no part of one, is in an error, a log or a `Debug` form.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::crypto::{self, AeadKey, RandomFailed, SEAL_OVERHEAD};
use crate::custodian::seal::RootKey;

/// How long a token is good, from login or renewal on.
pub(super) const TOKEN_TTL_S: u64 = 3600;
/// Most renewals and revocations that are remembered.
const REMEMBERED_MAX: usize = 16_384;
const PREFIX: &str = "clv.";
const PLAIN_LEN: usize = 32;
const TEXT_LEN: usize = PREFIX.len() + (SEAL_OVERHEAD + PLAIN_LEN) * 4 / 3;

/// The token is not good here: malformed, of another certificate, over, or revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("permission denied")]
pub(super) struct NotGood;

/// So many renewals and revocations are remembered that there is no room for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many tokens were renewed or revoked within the hour")]
pub(super) struct TooMany;

/// What a good token says. Times are in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    id: [u8; 16],
    pub(super) issued_s: u64,
    pub(super) expires_s: u64,
}

impl Token {
    /// A name for the token that does not open anything.
    pub(super) fn accessor(&self) -> String {
        let hash = crypto::sha256(&self.id);
        URL_SAFE_NO_PAD.encode(hash.get(..18).unwrap_or_default())
    }

    /// Seconds that are left.
    pub(super) fn ttl_s(&self, now_s: u64) -> u64 {
        self.expires_s.saturating_sub(now_s)
    }
}

enum Fate {
    Renewed,
    Revoked,
}

/// Makes and checks tokens. There are none while the custodian is sealed.
pub(super) struct Tokens {
    key: AeadKey,
    /// By id: what became of it, and until when it is of interest.
    remembered: Mutex<HashMap<[u8; 16], (Fate, u64)>>,
}

impl Tokens {
    pub(super) fn new(root: &RootKey) -> Self {
        let key = AeadKey::new(&crypto::hkdf_sha256(b"", root.expose(), b"claviger/1 tokens"));
        Self { key, remembered: Mutex::default() }
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<[u8; 16], (Fate, u64)>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new token for the certificate with that hash.
    pub(super) fn issue(&self, certificate: &[u8; 32], now_s: u64) -> Result<(Token, Zeroizing<String>), RandomFailed> {
        let token = Token { id: crypto::random_array()?, issued_s: now_s, expires_s: now_s + TOKEN_TTL_S };
        let mut plain = Zeroizing::new([0; PLAIN_LEN]);
        plain[..16].copy_from_slice(&token.id);
        plain[16..24].copy_from_slice(&token.issued_s.to_be_bytes());
        plain[24..].copy_from_slice(&token.expires_s.to_be_bytes());
        let sealed = Zeroizing::new(self.key.seal(&aad(certificate), plain.as_slice())?);
        let mut text = Zeroizing::new(String::with_capacity(TEXT_LEN));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(sealed.as_slice(), &mut text);
        Ok((token, text))
    }

    /// What the token says, if it is good with that certificate now.
    pub(super) fn check(&self, text: &[u8], certificate: &[u8; 32], now_s: u64) -> Result<Token, NotGood> {
        let encoded = text.strip_prefix(PREFIX.as_bytes()).filter(|_| text.len() == TEXT_LEN).ok_or(NotGood)?;
        let sealed = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| NotGood)?);
        let plain = self.key.open(&aad(certificate), &sealed).map_err(|_| NotGood)?;
        let plain: &[u8; PLAIN_LEN] = plain.as_slice().try_into().map_err(|_| NotGood)?;
        let number = |at: usize| u64::from_be_bytes(plain[at..at + 8].try_into().expect("8 bytes"));
        let id = plain[..16].try_into().expect("16 bytes");
        let mut token = Token { id, issued_s: number(16), expires_s: number(24) };
        match self.remembered().get(&id) {
            Some((Fate::Revoked, _)) => return Err(NotGood),
            Some((Fate::Renewed, until)) => token.expires_s = token.expires_s.max(*until),
            None => {}
        }
        if token.expires_s > now_s { Ok(token) } else { Err(NotGood) }
    }

    /// Gives a good token `increment_s` from now on, but never more than the usual time, nor less than it has.
    pub(super) fn renew(&self, token: Token, increment_s: u64, now_s: u64) -> Result<Token, TooMany> {
        let expires_s = token.expires_s.max(now_s + increment_s.clamp(1, TOKEN_TTL_S));
        self.remember(token.id, Fate::Renewed, expires_s, now_s)?;
        Ok(Token { expires_s, ..token })
    }

    /// Makes a good token a bad one.
    pub(super) fn revoke(&self, token: Token, now_s: u64) -> Result<(), TooMany> {
        self.remember(token.id, Fate::Revoked, token.expires_s, now_s)
    }

    fn remember(&self, id: [u8; 16], fate: Fate, until_s: u64, now_s: u64) -> Result<(), TooMany> {
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED_MAX && !remembered.contains_key(&id) {
            remembered.retain(|_, (_, until)| *until > now_s);
            if remembered.len() >= REMEMBERED_MAX {
                return Err(TooMany);
            }
        }
        // A renewal that was asked for at the same time does not undo a revocation.
        let revoked = matches!(remembered.get(&id), Some((Fate::Revoked, _)));
        if !revoked {
            remembered.insert(id, (fate, until_s));
        }
        Ok(())
    }
}

fn aad(certificate: &[u8; 32]) -> Vec<u8> {
    [b"claviger/1 token\0".as_slice(), certificate].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_558_086;
    const ALICE: [u8; 32] = [1; 32];
    const MALLORY: [u8; 32] = [2; 32];

    fn tokens() -> Tokens {
        Tokens::new(&RootKey::random().expect("random"))
    }

    #[test]
    fn a_token_is_good_with_its_own_certificate_alone() {
        let tokens = tokens();
        let (token, text) = tokens.issue(&ALICE, NOW).expect("random");
        assert_eq!(text.len(), TEXT_LEN);
        assert_eq!(tokens.check(text.as_bytes(), &ALICE, NOW + 10), Ok(token));
        assert_eq!(tokens.check(text.as_bytes(), &MALLORY, NOW + 10), Err(NotGood));
        assert_eq!(self::tokens().check(text.as_bytes(), &ALICE, NOW), Err(NotGood), "another store's");
        for at in 0..text.len() {
            let mut other = text.as_bytes().to_vec();
            other[at] ^= 1;
            assert_eq!(tokens.check(&other, &ALICE, NOW), Err(NotGood), "{at}");
        }
        for bad in [&b""[..], b"clv.", b"s.Ixk2QzNXRMg8rPSdn1FciHV5", &[b'A'; 4096]] {
            assert_eq!(tokens.check(bad, &ALICE, NOW), Err(NotGood));
        }
    }

    #[test]
    fn a_token_ends_unless_it_is_renewed() {
        let tokens = tokens();
        let (token, text) = tokens.issue(&ALICE, NOW).expect("random");
        assert!(tokens.check(text.as_bytes(), &ALICE, NOW + TOKEN_TTL_S - 1).is_ok());
        assert_eq!(tokens.check(text.as_bytes(), &ALICE, NOW + TOKEN_TTL_S), Err(NotGood));
        let renewed = tokens.renew(token, u64::MAX - NOW - 1, NOW + 1800).expect("room");
        assert_eq!(renewed.ttl_s(NOW + 1800), TOKEN_TTL_S, "never longer than the usual time");
        assert_eq!(tokens.check(text.as_bytes(), &ALICE, NOW + TOKEN_TTL_S), Ok(renewed));
        assert_eq!(tokens.renew(renewed, 1, NOW + 1800).expect("room"), renewed, "nor shorter than it has");
        assert_eq!(tokens.check(text.as_bytes(), &ALICE, NOW + 1800 + TOKEN_TTL_S), Err(NotGood));
    }

    #[test]
    fn a_revoked_token_stays_revoked() {
        let tokens = tokens();
        let (token, text) = tokens.issue(&ALICE, NOW).expect("random");
        tokens.revoke(token, NOW).expect("room");
        assert_eq!(tokens.check(text.as_bytes(), &ALICE, NOW), Err(NotGood));
        tokens.renew(token, 60, NOW).expect("room");
        assert_eq!(tokens.check(text.as_bytes(), &ALICE, NOW), Err(NotGood));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten_in_time() {
        let tokens = tokens();
        let token =
            |number: u64| Token { id: u128::from(number).to_be_bytes(), issued_s: NOW, expires_s: NOW + TOKEN_TTL_S };
        for number in 0..REMEMBERED_MAX as u64 {
            tokens.revoke(token(number), NOW).expect("room");
        }
        assert_eq!(tokens.revoke(token(1 << 40), NOW), Err(TooMany));
        assert_eq!(tokens.revoke(token(0), NOW), Ok(()));
        assert_eq!(tokens.revoke(token(1 << 40), NOW + TOKEN_TTL_S), Ok(()), "the others are over");
    }

    #[test]
    fn accessors_say_nothing_of_the_token() {
        let tokens = tokens();
        let (token, text) = tokens.issue(&ALICE, NOW).expect("random");
        assert_eq!(token.accessor().len(), 24);
        assert!(!text.contains(&token.accessor()));
    }
}
