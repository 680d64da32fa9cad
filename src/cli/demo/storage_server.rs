//! The demo's storage server: an S3 server on a loopback address, over a folder.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;

use super::storage::FolderStorage;
use crate::net::listener::{self, ListenerLimits};
use crate::secret::SecretBytes;

/// A storage server that listens and does not serve yet.
pub(super) struct StorageServer {
    listener: TcpListener,
    service: S3Service,
    storage: FolderStorage,
}

impl StorageServer {
    /// Over `folder`, on a free port, for one identity.
    pub(super) async fn bind(folder: &Path, access_key: &str, secret: &SecretBytes) -> Result<Self> {
        let secret = std::str::from_utf8(secret.expose()).context("the storage server's secret is not text")?;
        let storage = FolderStorage::open(folder).await?;
        let mut builder = S3ServiceBuilder::new(storage.clone());
        builder.set_auth(SimpleAuth::from_single(access_key, secret));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.context("no port of 127.0.0.1 is free for the storage server")?;
        Ok(Self { listener, service: builder.build(), storage })
    }

    pub(super) fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().context("the storage server's socket is gone")
    }

    /// Serves until `shutdown` resolves.
    pub(super) async fn serve(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, service, storage } = self;
        let answer = move |request: Request<Incoming>, _| {
            let service = service.clone();
            async move { service.call(request.map(Body::from)).await.unwrap_or_else(|_| failed()) }
        };
        // Idle connections stay open for longer than the proxy keeps them.
        let limits = ListenerLimits {
            header_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(120),
            drain: Duration::from_secs(2),
            ..ListenerLimits::default()
        };
        listener::run(listener, None, limits, answer, shutdown).await;
        storage.close().await;
    }
}

fn failed() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
