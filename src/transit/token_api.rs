//! The calls about our own token: log in, renew, look up.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::custody::CustodyError;
use crate::secret::SecretBytes;

use super::answer::{Envelope, LookUpAnswer, TokenAnswer, parse};
use super::error::TransitError;
use super::exchange::Call;
use super::failover::Failover;
use super::session::{Grant, Lease, Token, TokenCalls};
use super::settings::Mount;

/// The calls over HTTP.
pub(super) struct TokenApi {
    failover: Arc<Failover>,
    /// Mount of certificate login, and the role.
    login: Option<(Mount, Option<String>)>,
    deadline: Duration,
}

#[derive(Serialize)]
struct LoginRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

impl TokenApi {
    pub(super) fn new(failover: Arc<Failover>, login: Option<(Mount, Option<String>)>, deadline: Duration) -> Self {
        Self { failover, login, deadline }
    }

    async fn call(&self, call: &Call<'_>) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        self.failover.call(call, Instant::now() + self.deadline).await
    }

    async fn request_login(&self) -> Result<Grant, CustodyError> {
        let Some((mount, role)) = &self.login else { return Err(TransitError::NoToken.unreachable()) };
        let body = serde_json::to_vec(&LoginRequest { name: role.as_deref() }).expect("a text serializes");
        let body = self.call(&Call::post("login", &format!("{}/login", mount.as_str()), body.into())).await?;
        let TokenAnswer { auth } = parse(&body)?;
        let token = SecretBytes::new(auth.client_token.as_bytes().to_vec()).map_err(|_| TransitError::Token)?;
        Ok(Grant { token, lease: Lease { seconds: auth.lease_duration, renewable: auth.renewable } })
    }
}

impl TokenCalls for TokenApi {
    fn log_in(&self) -> BoxFuture<'_, Result<Grant, CustodyError>> {
        Box::pin(self.request_login())
    }

    fn renew<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Lease, CustodyError>> {
        Box::pin(async move {
            let call = Call::post("renew token", "auth/token/renew-self", Bytes::from_static(b"{}")).with_token(token);
            let body = self.call(&call).await?;
            let TokenAnswer { auth } = parse(&body)?;
            Ok(Lease { seconds: auth.lease_duration, renewable: auth.renewable })
        })
    }

    fn look_up<'a>(&'a self, token: &'a Token) -> BoxFuture<'a, Result<Lease, CustodyError>> {
        Box::pin(async move {
            let body = self.call(&Call::get("look up token", "auth/token/lookup-self").with_token(token)).await?;
            let Envelope { data }: Envelope<LookUpAnswer> = parse(&body)?;
            Ok(Lease { seconds: data.ttl, renewable: data.renewable })
        })
    }
}
