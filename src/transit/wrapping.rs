//! Wrapping one key of ours under a key of the server: for unsealing another custodian without people.
//!
//! `encrypt` and `decrypt` of 32 bytes, with the context given. A key of the server that is not derived ignores the context.

use bytes::Bytes;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::answer::{CiphertextAnswer, Envelope, PlaintextAnswer, branch_key, parse};
use super::error::TransitError;
use super::exchange::Call;
use super::{Transit, ciphertext};
use crate::custody::CustodyError;
use crate::custody::caller::Caller;
use crate::names::KekName;
use crate::secret::Secret;

/// Most bytes of a ciphertext's text.
const TEXT_MAX: usize = 1024;

impl Transit {
    /// `key`, encrypted under `kek`: the text that [`Transit::unwrap_secret`] takes.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub async fn wrap_secret(
        &self,
        kek: &KekName,
        context: &[u8],
        key: &Secret<32>,
        caller: &Caller,
    ) -> Result<String, CustodyError> {
        let plaintext = Zeroizing::new(ciphertext::to_base64(key.expose()));
        let answer = self.call_with("encrypt", kek, context, "plaintext", &plaintext, caller).await?;
        let Envelope { data }: Envelope<CiphertextAnswer<'_>> = parse(&answer)?;
        ciphertext::from_text(data.ciphertext).map_err(|source| TransitError::Ciphertext(source).malformed())?;
        if data.ciphertext.len() > TEXT_MAX {
            return Err(TransitError::KeyMaterial.malformed());
        }
        Ok(data.ciphertext.to_owned())
    }

    /// What was encrypted under `kek` with the same context.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub async fn unwrap_secret(
        &self,
        kek: &KekName,
        context: &[u8],
        wrapped: &str,
        caller: &Caller,
    ) -> Result<Secret<32>, CustodyError> {
        let answer = self.call_with("decrypt", kek, context, "ciphertext", wrapped, caller).await?;
        let Envelope { data }: Envelope<PlaintextAnswer<'_>> = parse(&answer)?;
        Ok(branch_key(data.plaintext)?)
    }

    /// Sends `{"context", field: text}`. Both are base64 or a ciphertext's text, which need no escapes.
    async fn call_with(
        &self,
        verb: &'static str,
        kek: &KekName,
        context: &[u8],
        field: &str,
        text: &str,
        caller: &Caller,
    ) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        let context = ciphertext::to_base64(context);
        let mut body = Zeroizing::new(Vec::with_capacity(64 + context.len() + text.len()));
        for part in ["{\"context\":\"", &context, "\",\"", field, "\":\"", text, "\"}"] {
            body.extend_from_slice(part.as_bytes());
        }
        let path = format!("{}/{verb}/{kek}", self.mount);
        let deadline = Instant::now() + self.deadline;
        let call = Call::post(verb, &path, Bytes::from_owner(Zeroized(body)));
        let asked = self.authenticated_call(call, caller, deadline);
        let answered = tokio::time::timeout_at(deadline, asked).await;
        answered.unwrap_or_else(|_| Err(TransitError::Deadline { limit: self.deadline }.unreachable()))
    }
}

/// Bytes that are zeroized when the last that reads them lets go.
struct Zeroized(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Zeroized {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
