//! A TLS proxy that passes requests and answers on and does nothing else, made of the libraries that Claviger is made of: hyper, rustls
//! and tokio. What it costs, Claviger costs too; `benches/end-to-end` has it as a contender, to tell that from what is Claviger's own.
//! It verifies nothing and encrypts nothing.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Parser;
use claviger::net::tls::{self, IdentityFiles};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Passes on until it is killed.
#[derive(Parser)]
struct Options {
    /// The port of 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// The port of 127.0.0.1 that everything is passed on to, without TLS.
    #[arg(long)]
    to: u16,
    /// The certificate, in PEM.
    #[arg(long)]
    certificate: PathBuf,
    /// Its key.
    #[arg(long)]
    key: PathBuf,
}

#[cfg(target_env = "gnu")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Upstream = Client<HttpConnector, Incoming>;

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let identity = IdentityFiles { certificates: options.certificate, key: options.key };
    let mut tls = (*tls::server_config(&identity, None)?).clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tls = TlsAcceptor::from(Arc::new(tls));
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let upstream: Upstream = Client::builder(TokioExecutor::new()).timer(TokioTimer::new()).build(connector);
    let proxy = Arc::new(Proxy { upstream, to: SocketAddr::from((Ipv4Addr::LOCALHOST, options.to)) });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
    writeln!(std::io::stdout(), "listening")?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (tls, proxy) = (tls.clone(), Arc::clone(&proxy));
        tokio::spawn(async move {
            // A client that goes away is none of this program's business.
            let _ = proxy.serve(tls, stream).await;
        });
    }
}

struct Proxy {
    upstream: Upstream,
    to: SocketAddr,
}

impl Proxy {
    async fn serve(&self, tls: TlsAcceptor, stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let stream = TokioIo::new(tls.accept(stream).await?);
        let service = service_fn(|request| self.pass_on(request));
        hyper::server::conn::http1::Builder::new().timer(TokioTimer::new()).serve_connection(stream, service).await?;
        Ok(())
    }

    /// The signature stays the client's: the host that it signed goes along.
    async fn pass_on(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>> {
        let path = request.uri().path_and_query().context("no path")?;
        *request.uri_mut() =
            Uri::builder().scheme("http").authority(self.to.to_string()).path_and_query(path.clone()).build()?;
        Ok(self.upstream.request(request).await?)
    }
}
