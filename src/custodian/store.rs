//! The custodian's store: rows that were sealed before they come here, in SQLite or PostgreSQL.
//!
//! [`SealedStore`] is what the custodian uses: records and the branch ledger, encrypted, authenticated and accounted for. Below
//! it stands [`Store`], which sees sealed rows only, and its one implementation over either database, [`SqlStore`], with the
//! same SQL for both.
//!
//! **Invariant:** nothing that reaches [`Store`] tells a key or a name; the list of seals, which is in the clear, has none.
//! **Invariant:** a change happens as a whole or not at all, and is on disk when the call returns.
//! **Invariant:** of two changes to the same record at the same time, one fails with [`StoreError::Conflict`].
//! **Invariant:** every call ends within [`StoreSettings::call_timeout`].

mod epoch;
mod error;
mod fresh;
mod ledger;
mod postgres;
mod record;
mod schema;
mod sealed;
mod session;
mod sql;
mod sqlite;
mod states;

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::barrier::{Kind, RowId};

pub use epoch::{Epoch, LogEvidence, LogHead, Verdict};
pub use error::{Corruption, StoreError};
pub use ledger::{Bound, Cursor, LedgerEntry};
pub use postgres::{PostgresSettings, connect_postgres};
pub use record::{Change, NewRecord, Record};
pub use sealed::{Listing, SealedStore};
pub use sql::SqlStore;
pub use sqlite::{create_sqlite, open_sqlite};
pub use states::{BranchState, Confirmation, SITE_LEN_MAX, SITES_MAX, StatePage};

/// Most rows of one kind, apart from the branch ledger.
pub const ROWS_MAX: usize = 10_000;
/// Most bytes of one sealed row.
pub const ROW_LEN_MAX: usize = 256 * 1024;
/// Most bytes of all rows of one kind together: they are read at once.
pub const ROWS_LEN_MAX: usize = 256 << 20;
/// Most branch keys that one call appends or reads.
pub const BRANCHES_MAX: usize = 1_000;

/// Limits of a store's use.
#[derive(Debug, Clone, Copy)]
pub struct StoreSettings {
    /// Most connections at once; 1 and up.
    pub connections_max: u32,
    /// How long a call may take, waiting for a connection included.
    pub call_timeout: Duration,
}

impl Default for StoreSettings {
    /// 8 connections, 5 s.
    fn default() -> Self {
        Self { connections_max: 8, call_timeout: Duration::from_secs(5) }
    }
}

impl StoreSettings {
    /// How long a connection or a lock may be waited for: less than the call, so that the cause is told.
    fn lock_timeout(self) -> Duration {
        self.call_timeout * 4 / 5
    }
}

/// A row of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its id within its kind.
    pub id: RowId,
    /// How often it was written: 1 and up.
    pub version: u64,
    /// Its sealed content.
    pub sealed: Vec<u8>,
}

/// All rows of a kind, and how far the store was when they stood so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The epoch's row, if there is one.
    pub epoch: Option<Row>,
    /// The rows, by ascending id.
    pub rows: Vec<Row>,
}

/// One write of a [`Store::commit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Writes a row, whose version is then `expected + 1`.
    Put {
        /// The row's kind.
        kind: Kind,
        /// The row.
        id: RowId,
        /// The version that it must have now; 0 if it must not exist.
        expected: u64,
        /// Its new content.
        sealed: Vec<u8>,
    },
    /// Removes a row.
    Remove {
        /// The row's kind.
        kind: Kind,
        /// The row.
        id: RowId,
        /// The version that it must have now.
        expected: u64,
    },
}

/// A row of the branch ledger. It is never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchRow {
    /// The branch key.
    pub id: RowId,
    /// The KEK that it is wrapped under.
    pub kek: RowId,
    /// The KEK's version.
    pub kek_version: u32,
    /// The rest, sealed.
    pub sealed: Vec<u8>,
}

/// Which branch keys of a KEK to read, each with all its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhichBranches {
    /// As many as are read at a time, after this one, by ascending id.
    After(Option<RowId>),
    /// These.
    These(Vec<RowId>),
}

/// That a branch key was read back from a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfirmationRow {
    /// The branch key.
    pub id: RowId,
    /// The site.
    pub site: RowId,
    /// The KEK's version.
    pub kek_version: u32,
    /// The rest, sealed.
    pub sealed: Vec<u8>,
}

/// What becomes of a confirmation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfirmationWrite {
    /// It takes the place of the one that is there.
    Put {
        /// The branch key.
        id: RowId,
        /// The KEK's version.
        kek_version: u32,
        /// The rest, sealed.
        sealed: Vec<u8>,
    },
    /// It goes.
    Remove {
        /// The branch key.
        id: RowId,
    },
}

/// Branch keys with all their rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BranchRows {
    /// From the ledger, each branch key's together.
    pub rows: Vec<BranchRow>,
    /// What was read back of them.
    pub confirmations: Vec<ConfirmationRow>,
    /// After which branch key more follow.
    pub next: Option<RowId>,
}

/// Rows in a database.
pub trait Store: Send + Sync {
    /// A row, if it exists.
    ///
    /// # Errors
    /// [`StoreError`].
    fn row(&self, kind: Kind, id: RowId) -> BoxFuture<'_, Result<Option<Row>, StoreError>>;

    /// The epoch's row and all rows of `kind` by ascending id, as they stood at one moment.
    ///
    /// # Errors
    /// [`StoreError`].
    fn rows(&self, kind: Kind, epoch: RowId) -> BoxFuture<'_, Result<Snapshot, StoreError>>;

    /// Does all of `writes`, in this order, or none.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a row is not as expected; see [`StoreError::outcome_is_unknown`] for others.
    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Adds rows to the ledger, all or none. What is there already, by id and KEK version, stays as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    fn append_branches(&self, rows: Vec<BranchRow>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Adds rows of branch keys that are new, all or none of them; for each, whether it was added, or its id was taken.
    ///
    /// # Errors
    /// [`StoreError`].
    fn add_branches(&self, rows: Vec<BranchRow>) -> BoxFuture<'_, Result<Vec<bool>, StoreError>>;

    /// All rows of one branch key, by ascending KEK version.
    ///
    /// # Errors
    /// [`StoreError`].
    fn branch(&self, id: RowId) -> BoxFuture<'_, Result<Vec<BranchRow>, StoreError>>;

    /// Branch keys of a KEK, each with all its rows, as they stood at one moment.
    ///
    /// # Errors
    /// [`StoreError`].
    fn branch_rows(&self, kek: RowId, which: WhichBranches) -> BoxFuture<'_, Result<BranchRows, StoreError>>;

    /// Writes what was read back from a site, all or none.
    ///
    /// # Errors
    /// [`StoreError`].
    fn confirm(&self, kek: RowId, site: RowId, writes: Vec<ConfirmationWrite>)
    -> BoxFuture<'_, Result<(), StoreError>>;

    /// How many rows of the ledger there are under each version of a KEK.
    ///
    /// # Errors
    /// [`StoreError`].
    fn count_branches(&self, kek: RowId) -> BoxFuture<'_, Result<Vec<(u32, u64)>, StoreError>>;

    /// Closes all connections. Calls from now on fail.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// For fuzzing: whatever parses as the plaintext of a row is written back byte for byte.
#[doc(hidden)]
pub fn fuzz_row(bytes: &[u8]) {
    if let Ok(Record { name, state, expires_unix_s, body, .. }) = Record::parse(bytes, 1) {
        assert_eq!(record::encode(&name, state, expires_unix_s, &body).as_slice(), bytes);
    }
    if let Ok(entry) = LedgerEntry::parse(bytes) {
        assert!(entry.generated() <= entry.wrapped.version());
        assert_eq!(entry.to_bytes(), bytes);
    }
    if let Ok((id, site, confirmation)) = states::parse(bytes) {
        assert_eq!(states::to_bytes(id, &site, confirmation), bytes);
    }
    if let Ok(epoch) = Epoch::parse(bytes, 1) {
        assert_eq!(epoch.to_bytes(), bytes);
    }
}

#[cfg(test)]
pub(super) mod tests;
