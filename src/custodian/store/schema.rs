//! The tables, and how an older store comes to have them.
//!
//! The statements are the same for both databases: SQLite takes any name for a type, and keeps bytes as bytes under `BYTEA`.
//!
//! **Invariant:** a migration that was released is never changed; new ones are added at the end.

use super::error::StoreError;
use super::session::{Column, Dialect, Field, Session};

const MIGRATIONS: &[&[&str]] = &[
    &[
        "CREATE TABLE records (
        kind TEXT NOT NULL,
        id BYTEA NOT NULL,
        version BIGINT NOT NULL CHECK (version > 0),
        sealed BYTEA NOT NULL,
        PRIMARY KEY (kind, id)
    )",
        "CREATE TABLE branches (
        id BYTEA NOT NULL,
        kek BYTEA NOT NULL,
        kek_version BIGINT NOT NULL CHECK (kek_version > 0),
        sealed BYTEA NOT NULL,
        PRIMARY KEY (id, kek_version)
    )",
        "CREATE INDEX branches_by_kek ON branches (kek, kek_version, id)",
    ],
    &[
        "CREATE INDEX branches_by_id ON branches (kek, id, kek_version)",
        "CREATE TABLE confirmations (
        kek BYTEA NOT NULL,
        id BYTEA NOT NULL,
        site BYTEA NOT NULL,
        kek_version BIGINT NOT NULL CHECK (kek_version > 0),
        sealed BYTEA NOT NULL,
        PRIMARY KEY (kek, id, site)
    )",
    ],
];

/// Brings the schema up to date; within a transaction that writes.
pub(super) async fn migrate(session: &mut dyn Session, dialect: &Dialect) -> Result<(), StoreError> {
    let known = i64::try_from(MIGRATIONS.len()).expect("few");
    if let Some(lock) = dialect.lock_schema {
        session.execute(lock, Vec::new()).await?;
    }
    if one(session, dialect.probe_schema).await? == Some(0) {
        session.execute("CREATE TABLE claviger_schema (version BIGINT NOT NULL)", Vec::new()).await?;
        session.execute("INSERT INTO claviger_schema (version) VALUES (0)", Vec::new()).await?;
    }
    let found = one(session, "SELECT version FROM claviger_schema").await?.ok_or(StoreError::NotAStore)?;
    let done = usize::try_from(found).map_err(|_| StoreError::NotAStore)?;
    let Some(to_do) = MIGRATIONS.get(done..) else { return Err(StoreError::SchemaTooNew { found, known }) };
    for migration in to_do {
        for statement in *migration {
            session.execute(statement, Vec::new()).await?;
        }
        session.execute("UPDATE claviger_schema SET version = version + 1", Vec::new()).await?;
    }
    Ok(())
}

async fn one(session: &mut dyn Session, sql: &'static str) -> Result<Option<i64>, StoreError> {
    let rows = session.fetch(sql, Vec::new(), &[Column::Int], 1024).await?;
    match rows.first().and_then(|row| row.first()) {
        Some(Field::Int(number)) => Ok(Some(*number)),
        _ => Ok(None),
    }
}
