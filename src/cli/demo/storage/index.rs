//! The index: which buckets, objects, uploads and parts there are, in one SQLite database.
//!
//! Bytes are pieces, each a file: an object that came whole has one, one that came in parts has a piece for each. The pieces
//! of an object, or of an upload that is under way, share a content id; copies of an object share its files.
//!
//! **Invariant:** writers take turns, and each sees what the one before it committed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use s3s::{S3Error, S3ErrorCode, S3Result};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::rows::drop_content;

const CONNECTIONS_MAX: u32 = 8;
/// How long to wait for a connection, or for another process that looks into the database.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Keys are bytes: SQLite compares those as S3 does, and does not mind a zero among them. Times are ms since 1970.
const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS buckets (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        created INTEGER NOT NULL
    )",
    "CREATE TABLE IF NOT EXISTS objects (
        bucket INTEGER NOT NULL REFERENCES buckets (id),
        key BLOB NOT NULL,
        content TEXT NOT NULL,
        etag TEXT NOT NULL,
        size INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        headers TEXT NOT NULL,
        PRIMARY KEY (bucket, key)
    ) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS uploads (
        bucket INTEGER NOT NULL REFERENCES buckets (id),
        key BLOB NOT NULL,
        id TEXT NOT NULL,
        started INTEGER NOT NULL,
        headers TEXT NOT NULL,
        PRIMARY KEY (bucket, key, id)
    ) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS pieces (
        content TEXT NOT NULL,
        number INTEGER NOT NULL,
        file TEXT NOT NULL,
        size INTEGER NOT NULL,
        etag TEXT NOT NULL,
        modified INTEGER NOT NULL,
        checksums TEXT NOT NULL,
        PRIMARY KEY (content, number)
    ) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS pieces_by_file ON pieces (file)",
];

/// The open database.
pub(super) struct Index {
    pool: SqlitePool,
    turn: Arc<Mutex<()>>,
}

/// A transaction that writes.
pub(super) struct Change {
    transaction: Transaction<'static, Sqlite>,
    /// Files that nothing refers to any more once this is committed.
    dropped: Vec<String>,
    _turn: OwnedMutexGuard<()>,
}

/// Something failed that is no fault of the request.
pub(super) fn internal(error: impl Into<s3s::StdError>) -> S3Error {
    S3Error::with_source(S3ErrorCode::InternalError, error.into())
}

impl Index {
    pub(super) async fn open(path: &Path) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .busy_timeout(WAIT_MAX)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(WAIT_MAX);
        let pool = pool.connect_with(options).await?;
        for statement in SCHEMA {
            sqlx::query(*statement).execute(&pool).await?;
        }
        Ok(Self { pool, turn: Arc::default() })
    }

    /// A connection to read with.
    pub(super) async fn reader(&self) -> S3Result<PoolConnection<Sqlite>> {
        self.pool.acquire().await.map_err(internal)
    }

    pub(super) async fn begin(&self) -> S3Result<Change> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(internal)?;
        Ok(Change { transaction, dropped: Vec::new(), _turn: turn })
    }

    /// Whether `file` is a piece of anything.
    pub(super) async fn has_file(&self, file: &str) -> S3Result<bool> {
        let found = sqlx::query_scalar("SELECT COUNT(*) FROM pieces WHERE file = $1").bind(file);
        let count: i64 = found.fetch_one(&self.pool).await.map_err(internal)?;
        Ok(count > 0)
    }

    /// All files whose names begin with `lead`, which is lower-case hexadecimal.
    pub(super) async fn files(&self, lead: &str) -> Result<Vec<String>, sqlx::Error> {
        let found = sqlx::query_scalar("SELECT DISTINCT file FROM pieces WHERE file >= $1 AND file < $1 || 'g'");
        found.bind(lead).fetch_all(&self.pool).await
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

impl Change {
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }

    /// Drops the pieces of `content`.
    pub(super) async fn drop_content(&mut self, content: &str) -> S3Result<()> {
        let dropped = drop_content(&mut self.transaction, content).await?;
        self.dropped.extend(dropped);
        Ok(())
    }

    /// Notes files that the caller left without a reference.
    pub(super) fn note_dropped(&mut self, files: Vec<String>) {
        self.dropped.extend(files);
    }

    /// Makes it last, and returns the files that nothing refers to any more.
    pub(super) async fn commit(self) -> S3Result<Vec<String>> {
        self.transaction.commit().await.map_err(internal)?;
        Ok(self.dropped)
    }

    pub(super) async fn roll_back(self) {
        // Dropping it would do the same, only later.
        let _ = self.transaction.rollback().await;
    }
}
