//! What may go wrong with the store, and which of the databases' errors is which.

use std::path::PathBuf;

use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

use crate::crypto::RandomFailed;

/// What is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corruption {
    /// The database says so of its own file.
    Database,
    /// A row is not authentic for its place: changed, or taken from elsewhere.
    Row,
    /// Rows are missing, older than they should be, or there are too many.
    Account,
    /// The epoch is missing or not authentic.
    Epoch,
    /// The list of seals is not one.
    Seals,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, is full, read-only or going down.
    #[error("the store cannot be reached or written")]
    Unavailable(#[source] Box<sqlx::Error>),
    /// No answer in time.
    #[error("the store does not answer in time")]
    TimedOut,
    /// Others hold the rows or the file for too long. Trying again helps.
    #[error("the store is busy")]
    Busy,
    /// The record is not as expected: someone else changed it. Read it again and decide again.
    #[error("the record was changed by someone else")]
    Conflict,
    /// The content is not what was written.
    #[error("the store was altered or damaged ({0:?})")]
    Corrupt(Corruption),
    /// The store is older than it was: someone put a backup or a stale replica in its place.
    #[error("the store went back from generation {seen} to {found}")]
    RolledBack {
        /// As it was.
        seen: u64,
        /// As it is.
        found: u64,
    },
    /// Nothing was made there yet.
    #[error("the store is empty")]
    Empty,
    /// The file or database is something else.
    #[error("the file is not a store of this program")]
    NotAStore,
    /// Made by a later version of this program.
    #[error("the store has schema {found}; this program knows up to {known}")]
    SchemaTooNew {
        /// The store's.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// More than a row, a name or a call may have.
    #[error("more than the store takes")]
    TooLarge,
    /// A file cannot be made, read or locked.
    #[error("cannot open the store {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others on the machine can read or change it.
    #[error("the store {} is open to others on this machine (mode {mode:04o}); run: chmod 600 {}",
        path.display(), path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The address of the database is not one.
    #[error("the address of the database is not postgres://USER@HOST:PORT/DATABASE")]
    Address(#[source] Option<Box<sqlx::Error>>),
    /// Passwords belong in files.
    #[error("the address of the database has a password in it; give it in a file")]
    PasswordInAddress,
    /// The program does something that the database does not understand.
    #[error("the database refuses a statement")]
    Statement(#[source] Box<sqlx::Error>),
    /// No randomness on this machine.
    #[error(transparent)]
    Random(#[from] RandomFailed),
}

impl StoreError {
    /// Whether a write that failed so may have happened all the same. Read the record again to know.
    pub fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::TimedOut)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        let is = |database: bool| if database { code.as_deref() } else { None };
        let of_sqlite = error.as_database_error().is_some_and(|e| e.try_downcast_ref::<SqliteError>().is_some());
        let of_postgres = error.as_database_error().is_some_and(|e| e.try_downcast_ref::<PgDatabaseError>().is_some());
        if let Some(code) = is(of_sqlite) {
            return of_sqlite_code(code.parse().unwrap_or(0), error);
        }
        if let Some(code) = is(of_postgres) {
            return of_sqlstate(code, error);
        }
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error.into()),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Corrupt(Corruption::Database),
            _ => Self::Statement(error.into()),
        }
    }
}

/// Result codes of SQLite (<https://sqlite.org/rescode.html>); the low byte is the primary one.
fn of_sqlite_code(code: u32, error: sqlx::Error) -> StoreError {
    match code & 0xff {
        5 | 6 => StoreError::Busy,
        11 | 26 => StoreError::Corrupt(Corruption::Database),
        19 => StoreError::Conflict,
        // CANTOPEN, IOERR, FULL, READONLY, PERM, AUTH, PROTOCOL, NOMEM, INTERRUPT.
        14 | 10 | 13 | 8 | 3 | 23 | 15 | 7 | 9 => StoreError::Unavailable(error.into()),
        _ => StoreError::Statement(error.into()),
    }
}

/// SQLSTATE codes (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn of_sqlstate(code: &str, error: sqlx::Error) -> StoreError {
    match code {
        // Serialization failure, deadlock, lock not available, statement time-out.
        "40001" | "40P01" | "55P03" | "57014" => StoreError::Busy,
        "23505" => StoreError::Conflict,
        "XX001" | "XX002" => StoreError::Corrupt(Corruption::Database),
        // Connection, credentials, no such database, resources, operator intervention, system error, read-only transaction.
        _ if ["08", "28", "3D", "53", "57", "58"].iter().any(|class| code.starts_with(class)) || code == "25006" => {
            StoreError::Unavailable(error.into())
        }
        _ => StoreError::Statement(error.into()),
    }
}
