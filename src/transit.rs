//! A custodian reached over the Transit HTTP API, as OpenBao, Vault and our own custodian speak it.
//!
//! One call of [`Custodian`] is one request: `datakey/plaintext`, `decrypt` or `rewrap`, always with the branch context as
//! the key's derivation context. Source: <https://openbao.org/api-docs/secret/transit/>.
//!
//! **Invariant:** every call ends within [`TransitSettings::deadline`], and asks each address at most once (twice where a
//! kept connection turns out closed). **Invariant:** what an answer says in the clear is in zeroized memory of ours only,
//! and neither key bytes, tokens nor the custodian's own words reach an error, a log or a `Debug` form.

mod answer;
pub mod branches;
pub mod ciphertext;
mod connections;
pub mod error;
mod exchange;
mod failover;
mod pause;
mod refusal;
mod session;
pub mod settings;
#[cfg(test)]
mod tests;
mod token_api;
pub mod token_file;
mod traced;
pub mod watch;
mod wrapping;

#[doc(hidden)]
pub use answer::fuzz_answer;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::custody::caller::Caller;
use crate::custody::context::BranchContext;
use crate::custody::wrapped::WrappedKey;
use crate::custody::{Custodian, CustodyError};
use crate::names::KekName;
use crate::secret::Secret;

use answer::{CiphertextAnswer, DataKeyAnswer, Envelope, PlaintextAnswer, branch_key, parse};
use error::TransitError;
use exchange::Call;
use failover::Failover;
use session::{Keeper, Session};
use settings::{Authentication, SettingsError, TransitSettings};
use token_api::TokenApi;

/// Bits of a branch key.
const BRANCH_KEY_BITS: u16 = 256;

/// The client. Dropping it ends the care for its token; the token itself is left to expire.
pub struct Transit {
    failover: Arc<Failover>,
    mount: String,
    session: Option<Arc<Session<TokenApi>>>,
    deadline: std::time::Duration,
    _keeper: Option<Keeper>,
}

impl fmt::Debug for Transit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transit").field("mount", &self.mount).field("failover", &self.failover).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct DataKeyRequest {
    context: String,
    bits: u16,
}

#[derive(Serialize)]
struct CiphertextRequest {
    context: String,
    ciphertext: String,
}

impl CiphertextRequest {
    fn new(context: &BranchContext, wrapped: &WrappedKey) -> Self {
        Self { context: context_text(context), ciphertext: ciphertext::to_text(wrapped) }
    }
}

fn context_text(context: &BranchContext) -> String {
    ciphertext::to_base64(&context.to_bytes())
}

impl Transit {
    /// A client of the custodian that `settings` describe. It reads the TLS files, but connects only when it is asked for
    /// something. Where it authenticates with a token, a task of the current runtime renews it.
    ///
    /// # Errors
    /// [`SettingsError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(settings: &TransitSettings) -> Result<Self, SettingsError> {
        let failover = Arc::new(Failover::new(settings)?);
        let api = |login| TokenApi::new(Arc::clone(&failover), login, settings.deadline);
        let session = match &settings.authentication {
            Authentication::Certificate => None,
            Authentication::CertificateLogin { mount, role } => {
                Some(Session::by_login(api(Some((mount.clone(), role.clone())))))
            }
            Authentication::TokenFile(path) => Some(Session::from_file(api(None), path.clone())),
        };
        let session = session.map(Arc::new);
        let keeper = session.as_ref().map(|session| Keeper::start(Arc::clone(session)));
        let (mount, deadline) = (settings.mount.as_str().to_owned(), settings.deadline);
        Ok(Self { failover, mount, session, deadline, _keeper: keeper })
    }

    /// Whether there is no sign that the custodian cannot be reached: at some address the last call did not fail, or that was a while ago.
    pub fn answers(&self) -> bool {
        self.failover.answers()
    }

    /// Sends `request` to `verb` of `kek`: the answer's JSON.
    async fn ask(
        &self,
        verb: &'static str,
        kek: &KekName,
        request: &impl Serialize,
        caller: &Caller,
    ) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        let path = format!("{}/{verb}/{kek}", self.mount);
        let body = Bytes::from(serde_json::to_vec(request).expect("texts and numbers serialize"));
        let deadline = Instant::now() + self.deadline;
        let answered =
            tokio::time::timeout_at(deadline, self.authenticated_call(Call::post(verb, &path, body), caller, deadline))
                .await;
        answered.unwrap_or_else(|_| Err(TransitError::Deadline { limit: self.deadline }.unreachable()))
    }

    /// With a token, if there is one to have; a refused one is replaced once.
    async fn authenticated_call(
        &self,
        call: Call<'_>,
        caller: &Caller,
        deadline: Instant,
    ) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        let call = Call { caller: Some(caller), ..call };
        let Some(session) = &self.session else { return self.failover.call(&call, deadline).await };
        let token = session.token().await?;
        match self.failover.call(&call.with_token(&token), deadline).await {
            Err(CustodyError::Denied) => {}
            settled => return settled,
        }
        match session.replaced(&token).await? {
            Some(newer) => self.failover.call(&call.with_token(&newer), deadline).await,
            None => Err(CustodyError::Denied),
        }
    }

    async fn generate_key(
        &self,
        kek: &KekName,
        context: &BranchContext,
        caller: &Caller,
    ) -> Result<(Secret<32>, WrappedKey), CustodyError> {
        let request = DataKeyRequest { context: context_text(context), bits: BRANCH_KEY_BITS };
        let body = self.ask("datakey/plaintext", kek, &request, caller).await?;
        let Envelope { data }: Envelope<DataKeyAnswer<'_>> = parse(&body)?;
        Ok((branch_key(data.plaintext)?, from_text(data.ciphertext)?))
    }

    async fn unwrap_key(
        &self,
        kek: &KekName,
        context: &BranchContext,
        wrapped: &WrappedKey,
        caller: &Caller,
    ) -> Result<Secret<32>, CustodyError> {
        let body = self.ask("decrypt", kek, &CiphertextRequest::new(context, wrapped), caller).await?;
        let Envelope { data }: Envelope<PlaintextAnswer<'_>> = parse(&body)?;
        Ok(branch_key(data.plaintext)?)
    }

    async fn rewrap_key(
        &self,
        kek: &KekName,
        context: &BranchContext,
        wrapped: &WrappedKey,
        caller: &Caller,
    ) -> Result<WrappedKey, CustodyError> {
        let body = self.ask("rewrap", kek, &CiphertextRequest::new(context, wrapped), caller).await?;
        let Envelope { data }: Envelope<CiphertextAnswer<'_>> = parse(&body)?;
        let rewrapped = from_text(data.ciphertext)?;
        if rewrapped.version() < wrapped.version() {
            return Err(TransitError::OlderVersion.malformed());
        }
        Ok(rewrapped)
    }
}

fn from_text(text: &str) -> Result<WrappedKey, CustodyError> {
    ciphertext::from_text(text).map_err(|source| TransitError::Ciphertext(source).malformed())
}

impl Custodian for Transit {
    fn generate<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<(Secret<32>, WrappedKey), CustodyError>> {
        Box::pin(self.generate_key(kek, context, caller))
    }

    fn unwrap<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        wrapped: &'a WrappedKey,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Secret<32>, CustodyError>> {
        Box::pin(self.unwrap_key(kek, context, wrapped, caller))
    }

    fn rewrap<'a>(
        &'a self,
        kek: &'a KekName,
        context: &'a BranchContext,
        wrapped: &'a WrappedKey,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<WrappedKey, CustodyError>> {
        Box::pin(self.rewrap_key(kek, context, wrapped, caller))
    }
}
