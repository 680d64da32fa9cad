//! The store in PostgreSQL, for several custodians behind one name.
//!
//! **Invariant:** across a network the server is authenticated by its certificate, or there is no connection.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr as _;

use futures_util::future::BoxFuture;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};

use crate::secret::SecretBytes;

use super::error::StoreError;
use super::session::{Backend, Dialect, PostgresSession, Session};
use super::{SqlStore, StoreSettings};

const DIALECT: Dialect = Dialect {
    begin_read: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    begin_write: "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
    // "CLAV" again.
    lock_schema: Some("SELECT pg_advisory_xact_lock(1129070934)"),
    lock_branches: Some("LOCK TABLE branches IN SHARE ROW EXCLUSIVE MODE"),
    probe_schema: "SELECT COUNT(*) FROM pg_tables
        WHERE schemaname = current_schema() AND tablename = 'claviger_schema'",
};

/// Where the database is.
#[derive(Debug)]
pub struct PostgresSettings {
    /// `postgres://USER@HOST:PORT/DATABASE`, or `postgres://USER@%2Fvar%2Frun%2Fpostgresql/DATABASE` for a socket. Without a
    /// password.
    pub address: String,
    /// The password, if the server wants one.
    pub password: Option<SecretBytes>,
    /// The certificate authority that signed the server's certificate; without one, those that browsers trust.
    pub root_certificate: Option<PathBuf>,
    /// Our certificate and its key, if the server wants them.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

impl PostgresSettings {
    /// Whether it can be connected to at all; nobody is.
    ///
    /// # Errors
    /// [`StoreError::Address`], [`StoreError::PasswordInAddress`].
    pub fn check(&self) -> Result<(), StoreError> {
        options(self).map(drop)
    }
}

struct Postgres(PgPool);

impl Backend for Postgres {
    fn session(&self) -> BoxFuture<'_, Result<Box<dyn Session>, StoreError>> {
        Box::pin(async {
            let session: Box<dyn Session> = Box::new(PostgresSession::new(self.0.acquire().await?));
            Ok(session)
        })
    }

    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.close())
    }
}

/// Connects, and makes the tables if there are none. An account that may not make tables is enough later on.
///
/// # Errors
/// [`StoreError`].
pub async fn connect_postgres(server: &PostgresSettings, settings: StoreSettings) -> Result<SqlStore, StoreError> {
    let limit_ms = settings.call_timeout.as_millis();
    let options = options(server)?.application_name("claviger").options([
        ("statement_timeout", limit_ms),
        ("lock_timeout", settings.lock_timeout().as_millis()),
        ("idle_in_transaction_session_timeout", 2 * limit_ms),
    ]);
    // A standby takes reads only, and may lag; and commits must be on disk whatever the server's default is.
    let options = options.options([("default_transaction_read_only", "off"), ("synchronous_commit", "on")]);
    let connections = settings.connections_max.max(1);
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(settings.lock_timeout())
        .connect_lazy_with(options);
    SqlStore::start(Postgres(pool), connections, settings).await
}

fn options(server: &PostgresSettings) -> Result<PgConnectOptions, StoreError> {
    let rest = server.address.strip_prefix("postgres://").ok_or(StoreError::Address(None))?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    if user.contains(':') || rest.contains("password=") {
        return Err(StoreError::PasswordInAddress);
    }
    let mut options =
        PgConnectOptions::from_str(&server.address).map_err(|error| StoreError::Address(Some(error.into())))?;
    if let Some(password) = &server.password {
        let text = std::str::from_utf8(password.expose()).map_err(|_| StoreError::Address(None))?;
        options = options.password(text);
    }
    if let Some(root) = &server.root_certificate {
        options = options.ssl_root_cert(root);
    }
    if let Some((certificate, key)) = &server.client_certificate {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    if server.root_certificate.is_some() || !is_local(&options) {
        options = options.ssl_mode(PgSslMode::VerifyFull);
    }
    Ok(options)
}

/// Whether the connection stays on this machine.
fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    options.get_socket().is_some() || host.starts_with('/') || loopback
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(address: &str) -> PostgresSettings {
        let address = address.to_owned();
        PostgresSettings { address, password: None, root_certificate: None, client_certificate: None }
    }

    #[test]
    fn across_a_network_the_server_is_always_verified() {
        for address in ["postgres://c@db.example.org/c", "postgres://c@db.example.org/c?sslmode=disable"] {
            let options = options(&settings(address)).expect("an address");
            assert!(matches!(options.get_ssl_mode(), PgSslMode::VerifyFull), "{address}");
        }
        for address in ["postgres://c@127.0.0.1:5433/c", "postgres://c@%2Frun%2Fpostgresql/c"] {
            let local = options(&settings(address)).expect("an address");
            assert!(!matches!(local.get_ssl_mode(), PgSslMode::VerifyFull), "{address}");
            let given = PostgresSettings { root_certificate: Some("ca.pem".into()), ..settings(address) };
            let options = options(&given).expect("an address");
            assert!(matches!(options.get_ssl_mode(), PgSslMode::VerifyFull), "{address}");
        }
    }

    #[test]
    fn addresses_with_passwords_and_other_addresses_are_refused() {
        for address in ["postgres://c:secret@db/c", "postgres://c@db/c?password=secret"] {
            assert!(matches!(options(&settings(address)), Err(StoreError::PasswordInAddress)), "{address}");
        }
        for address in ["mysql://c@db/c", "", "db.example.org", "postgres://c@db:port/c"] {
            assert!(matches!(options(&settings(address)), Err(StoreError::Address(_))), "{address}");
        }
    }
}
