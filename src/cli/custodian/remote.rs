//! Another key server's Transit engine, as a seal needs it.

use anyhow::{Context as _, Result};
use futures_util::future::BoxFuture;

use crate::cli::wiring;
use crate::config::custodian_server::RemoteSeal;
use crate::custodian::seal::remote::{RemoteFailed, RemoteWrap};
use crate::custody::CustodyError;
use crate::names::KekName;
use crate::secret::Secret;
use crate::transit::Transit;

/// The key server, and the key there.
pub(super) struct KeyServer {
    transit: Transit,
    key: KekName,
}

impl KeyServer {
    pub(super) fn new(seal: &RemoteSeal) -> Result<Self> {
        let transit = Transit::new(&seal.settings).context("the settings of the key server that unseals do not do")?;
        Ok(Self { transit, key: seal.key.clone() })
    }
}

fn failed(error: CustodyError) -> RemoteFailed {
    if error.is_transient() { RemoteFailed::Unreachable(error.into()) } else { RemoteFailed::Refused(error.into()) }
}

impl RemoteWrap for KeyServer {
    fn wrap<'a>(&'a self, key: &'a Secret<32>, context: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, RemoteFailed>> {
        Box::pin(async move {
            let wrapped = self.transit.wrap_secret(&self.key, context, key, &wiring::itself()).await;
            wrapped.map(String::into_bytes).map_err(failed)
        })
    }

    fn unwrap<'a>(&'a self, wrapped: &'a [u8], context: &'a [u8]) -> BoxFuture<'a, Result<Secret<32>, RemoteFailed>> {
        Box::pin(async move {
            let text = std::str::from_utf8(wrapped).map_err(|error| RemoteFailed::Refused(error.into()))?;
            self.transit.unwrap_secret(&self.key, context, text, &wiring::itself()).await.map_err(failed)
        })
    }
}
