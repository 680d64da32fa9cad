//! Branch keys that are new to the ledger: added only if it has none of their ids.
//!
//! **Invariant:** of two that come at once under one id, whoever adds them and under whichever version, one is added at most.

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::names::BranchId;

use super::error::{Corruption, StoreError};
use super::ledger::LedgerEntry;
use super::sealed::SealedStore;
use super::session::{Column, Field, Session, Value};
use super::sql::{Mode, SqlStore};
use super::{BRANCHES_MAX, BranchRow, ROW_LEN_MAX, ROWS_LEN_MAX, RowId};

/// Most rows of one statement.
const AT_ONCE: usize = 64;
const ID: &[Column] = &[Column::Bytes];
/// Which of `AT_ONCE` ids are known; of fewer, the last stands there several times.
static SELECT_KNOWN: LazyLock<String> = LazyLock::new(|| {
    let ids = (1..=AT_ONCE).map(|at| format!("${at}")).collect::<Vec<_>>().join(", ");
    format!("SELECT DISTINCT id FROM branches WHERE id IN ({ids})")
});
const INSERT: &str = "INSERT INTO branches (id, kek, kek_version, sealed) VALUES ($1, $2, $3, $4)";

impl SealedStore {
    /// Adds up to 1,000 branch keys that were just generated, and gives the ids that were taken already: of those, nothing is added.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was added.
    pub async fn add_branches(&self, entries: &[LedgerEntry]) -> Result<HashSet<BranchId>, StoreError> {
        if entries.len() > BRANCHES_MAX {
            return Err(StoreError::TooLarge);
        }
        let rows: Vec<BranchRow> = entries.iter().map(|entry| self.seal_entry(entry)).collect::<Result<_, _>>()?;
        let added = self.store.add_branches(rows.clone()).await?;
        let ids = rows.iter().zip(entries).zip(added);
        Ok(ids.filter(|(_, added)| !added).map(|((_, entry), _)| entry.id).collect())
    }
}

/// Adds those rows whose ids are new, all or none of them; for each row, whether it was added.
pub(super) async fn add(store: &SqlStore, rows: Vec<BranchRow>) -> Result<Vec<bool>, StoreError> {
    if rows.len() > BRANCHES_MAX || rows.iter().any(|row| row.sealed.len() > ROW_LEN_MAX) {
        return Err(StoreError::TooLarge);
    }
    let lock = store.dialect().lock_branches;
    store.call(Mode::Write, move |session| Box::pin(add_in(session, lock, rows))).await
}

async fn add_in(
    session: &mut dyn Session,
    lock: Option<&'static str>,
    rows: Vec<BranchRow>,
) -> Result<Vec<bool>, StoreError> {
    // From here to the end of the transaction nobody else adds any.
    if let Some(lock) = lock {
        session.execute(lock, Vec::new()).await?;
    }
    let mut taken: HashSet<RowId> = HashSet::new();
    for some in rows.chunks(AT_ONCE) {
        let ids = some.iter().chain(std::iter::repeat(some.last().expect("chunks have rows"))).take(AT_ONCE);
        let ids = ids.map(|row| Value::Bytes(row.id.as_bytes().to_vec())).collect();
        for fields in session.fetch(SELECT_KNOWN.as_str(), ids, ID, ROWS_LEN_MAX).await? {
            let [Field::Bytes(id)] = fields.as_slice() else { return Err(StoreError::Corrupt(Corruption::Database)) };
            let id = id.as_slice().try_into().map_err(|_| StoreError::Corrupt(Corruption::Row))?;
            taken.insert(RowId::from_bytes(id));
        }
    }
    let mut added = Vec::with_capacity(rows.len());
    for row in rows {
        let is_new = taken.insert(row.id);
        added.push(is_new);
        if is_new {
            let [id, kek] = [row.id, row.kek].map(|id| Value::Bytes(id.as_bytes().to_vec()));
            let values = vec![id, kek, Value::Int(row.kek_version.into()), Value::Bytes(row.sealed)];
            session.execute(INSERT, values).await?;
        }
    }
    Ok(added)
}
