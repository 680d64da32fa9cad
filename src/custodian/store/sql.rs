//! [`Store`] over SQL: one set of statements, two databases.

use std::sync::LazyLock;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::error::{Corruption, StoreError};
use super::session::{Backend, Column, Field, Session, Value};
use super::{
    BRANCHES_MAX, BranchRow, BranchRows, ConfirmationRow, ConfirmationWrite, Kind, ROW_LEN_MAX, ROWS_LEN_MAX, ROWS_MAX,
    Row, RowId, SITES_MAX, Snapshot, Store, StoreSettings, WhichBranches, Write, schema,
};

const ROW: &[Column] = &[Column::Bytes, Column::Int, Column::Bytes];
const SELECT_ROW: &str = "SELECT id, version, sealed FROM records WHERE kind = $1 AND id = $2";
const SELECT_ROWS: &str = "SELECT id, version, sealed FROM records WHERE kind = $1 ORDER BY id LIMIT $2";
const INSERT_ROW: &str =
    "INSERT INTO records (kind, id, version, sealed) VALUES ($1, $2, 1, $3) ON CONFLICT DO NOTHING";
const UPDATE_ROW: &str =
    "UPDATE records SET version = version + 1, sealed = $3 WHERE kind = $1 AND id = $2 AND version = $4";
const DELETE_ROW: &str = "DELETE FROM records WHERE kind = $1 AND id = $2 AND version = $3";

const BRANCH: &[Column] = &[Column::Bytes, Column::Bytes, Column::Int, Column::Bytes];
/// For so many rows each, the most first.
static INSERT_BRANCHES: LazyLock<[(usize, String); 3]> = LazyLock::new(|| {
    [64, 8, 1].map(|count| {
        let row = |at: usize| format!("(${}, ${}, ${}, ${})", 4 * at + 1, 4 * at + 2, 4 * at + 3, 4 * at + 4);
        let rows = (0..count).map(row).collect::<Vec<_>>().join(", ");
        (count, format!("INSERT INTO branches (id, kek, kek_version, sealed) VALUES {rows} ON CONFLICT DO NOTHING"))
    })
});
const SELECT_BRANCH: &str =
    "SELECT id, kek, kek_version, sealed FROM branches WHERE id = $1 ORDER BY kek_version LIMIT $2";
/// Rows of the ledger that are read at a time: more than one branch key can have.
const GROUPED_ROWS: usize = 2 * BRANCHES_MAX;
const SELECT_GROUPED: &str = "SELECT id, kek, kek_version, sealed FROM branches
    WHERE kek = $1 AND id > $2 ORDER BY id, kek_version LIMIT $3";
const CONFIRMATION: &[Column] = &[Column::Bytes, Column::Bytes, Column::Int, Column::Bytes];
const SELECT_CONFIRMED: &str = "SELECT id, site, kek_version, sealed FROM confirmations
    WHERE kek = $1 AND id >= $2 AND id <= $3 ORDER BY id, site LIMIT $4";
const PUT_CONFIRMED: &str = "INSERT INTO confirmations (kek, id, site, kek_version, sealed) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (kek, id, site) DO UPDATE SET kek_version = excluded.kek_version, sealed = excluded.sealed";
const DELETE_CONFIRMED: &str = "DELETE FROM confirmations WHERE kek = $1 AND id = $2 AND site = $3";
const COUNT: &[Column] = &[Column::Int, Column::Int];
const COUNT_BRANCHES: &str =
    "SELECT kek_version, COUNT(*) FROM branches WHERE kek = $1 GROUP BY kek_version ORDER BY kek_version";

/// How the statements of a call belong together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// One statement that reads.
    Single,
    /// Several that see the same moment.
    Read,
    /// All or nothing.
    Write,
}

/// A store in SQLite or PostgreSQL.
pub struct SqlStore {
    backend: Box<dyn Backend>,
    /// Writers at once. With SQLite one, so that they queue in order instead of polling for the file's lock.
    writers: Semaphore,
    timeout: Duration,
}

impl SqlStore {
    /// Brings the schema up to date and serves.
    pub(super) async fn start(
        backend: impl Backend + 'static,
        writers: u32,
        settings: StoreSettings,
    ) -> Result<Self, StoreError> {
        let writers = Semaphore::new(usize::try_from(writers).expect("32 bits fit"));
        let store = Self { backend: Box::new(backend), writers, timeout: settings.call_timeout };
        let dialect = store.backend.dialect();
        store.call(Mode::Write, |session| Box::pin(schema::migrate(session, dialect))).await?;
        Ok(store)
    }

    /// Runs `work` on a connection, within the time-out. However it ends early, its transaction is not committed.
    pub(super) async fn call<T, W>(&self, mode: Mode, work: W) -> Result<T, StoreError>
    where
        W: for<'s> FnOnce(&'s mut dyn Session) -> BoxFuture<'s, Result<T, StoreError>>,
    {
        let call = async {
            let _turn = match mode {
                Mode::Write => Some(self.writers.acquire().await.expect("never closed")),
                Mode::Single | Mode::Read => None,
            };
            let mut session = self.backend.session().await?;
            let begin = match mode {
                Mode::Single => None,
                Mode::Read => Some(self.backend.dialect().begin_read),
                Mode::Write => Some(self.backend.dialect().begin_write),
            };
            if let Some(begin) = begin {
                session.execute(begin, Vec::new()).await?;
            }
            let result = work(&mut *session).await;
            match &result {
                Ok(_) if begin.is_some() => drop(session.execute("COMMIT", Vec::new()).await?),
                Ok(_) => {}
                // Only after this one is the connection known to be in order; after others it is closed.
                Err(StoreError::Conflict) => drop(session.execute("ROLLBACK", Vec::new()).await?),
                Err(_) => return result,
            }
            session.keep();
            result
        };
        tokio::time::timeout(self.timeout, call).await.unwrap_or(Err(StoreError::TimedOut))
    }
}

impl Store for SqlStore {
    fn row(&self, kind: Kind, id: RowId) -> BoxFuture<'_, Result<Option<Row>, StoreError>> {
        Box::pin(self.call(Mode::Single, move |session| Box::pin(select_row(session, kind, id))))
    }

    fn rows(&self, kind: Kind, epoch: RowId) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        Box::pin(self.call(Mode::Read, move |session| {
            Box::pin(async move {
                let epoch = select_row(session, Kind::Epoch, epoch).await?;
                let most = i64::try_from(ROWS_MAX).expect("small") + 1;
                let values = vec![Value::Text(kind.as_str()), Value::Int(most)];
                let rows = session.fetch(SELECT_ROWS, values, ROW, ROWS_LEN_MAX).await?;
                if rows.len() > ROWS_MAX {
                    return Err(StoreError::Corrupt(Corruption::Account));
                }
                Ok(Snapshot { epoch, rows: rows.into_iter().map(row).collect::<Result<_, _>>()? })
            })
        }))
    }

    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.call(Mode::Write, move |session| {
            Box::pin(async move {
                for write in writes {
                    let (sql, values) = statement(write)?;
                    if session.execute(sql, values).await? != 1 {
                        return Err(StoreError::Conflict);
                    }
                }
                Ok(())
            })
        }))
    }

    fn append_branches(&self, rows: Vec<BranchRow>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if rows.len() > BRANCHES_MAX || rows.iter().any(|row| row.sealed.len() > ROW_LEN_MAX) {
                return Err(StoreError::TooLarge);
            }
            self.call(Mode::Write, move |session| {
                Box::pin(async move {
                    let mut rows = rows.into_iter();
                    while !rows.as_slice().is_empty() {
                        // Each statement is a way to the database and back.
                        let fits = |(count, _): &&(usize, String)| *count <= rows.len();
                        let (count, sql) = INSERT_BRANCHES.iter().find(fits).expect("the last is of one row");
                        let values = rows.by_ref().take(*count).flat_map(|row| {
                            let version = Value::Int(row.kek_version.into());
                            [bytes(row.id), bytes(row.kek), version, Value::Bytes(row.sealed)]
                        });
                        session.execute(sql, values.collect()).await?;
                    }
                    Ok(())
                })
            })
            .await
        })
    }

    fn branch(&self, id: RowId) -> BoxFuture<'_, Result<Vec<BranchRow>, StoreError>> {
        Box::pin(self.call(Mode::Single, move |session| {
            Box::pin(async move {
                let most = i64::try_from(BRANCHES_MAX).expect("small");
                let values = vec![bytes(id), Value::Int(most)];
                let rows = session.fetch(SELECT_BRANCH, values, BRANCH, ROWS_LEN_MAX).await?;
                rows.into_iter().map(branch).collect()
            })
        }))
    }

    fn branch_rows(&self, kek: RowId, which: WhichBranches) -> BoxFuture<'_, Result<BranchRows, StoreError>> {
        Box::pin(self.call(Mode::Read, move |session| {
            Box::pin(async move {
                match which {
                    WhichBranches::After(after) => grouped(session, kek, after).await,
                    WhichBranches::These(ids) => these(session, kek, ids).await,
                }
            })
        }))
    }

    fn confirm(
        &self,
        kek: RowId,
        site: RowId,
        writes: Vec<ConfirmationWrite>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.call(Mode::Write, move |session| {
            Box::pin(async move {
                for write in writes {
                    match write {
                        ConfirmationWrite::Put { id, kek_version, sealed } => {
                            let version = Value::Int(kek_version.into());
                            let values = vec![bytes(kek), bytes(id), bytes(site), version, Value::Bytes(sealed)];
                            session.execute(PUT_CONFIRMED, values).await?;
                        }
                        ConfirmationWrite::Remove { id } => {
                            session.execute(DELETE_CONFIRMED, vec![bytes(kek), bytes(id), bytes(site)]).await?;
                        }
                    }
                }
                Ok(())
            })
        }))
    }

    fn count_branches(&self, kek: RowId) -> BoxFuture<'_, Result<Vec<(u32, u64)>, StoreError>> {
        Box::pin(self.call(Mode::Single, move |session| {
            Box::pin(async move {
                let rows = session.fetch(COUNT_BRANCHES, vec![bytes(kek)], COUNT, ROWS_LEN_MAX).await?;
                let count = |fields: Vec<Field>| match fields[..] {
                    [Field::Int(version), Field::Int(count)] => Ok((number(version)?, number(count)?)),
                    _ => Err(StoreError::Corrupt(Corruption::Database)),
                };
                rows.into_iter().map(count).collect()
            })
        }))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.backend.close()
    }
}

/// A page of branch keys, none of them cut in two.
async fn grouped(session: &mut dyn Session, kek: RowId, after: Option<RowId>) -> Result<BranchRows, StoreError> {
    let limit = i64::try_from(GROUPED_ROWS).expect("small");
    let values = vec![bytes(kek), after.map_or(Value::Bytes(Vec::new()), bytes), Value::Int(limit)];
    let rows = session.fetch(SELECT_GROUPED, values, BRANCH, ROWS_LEN_MAX).await?;
    let mut rows: Vec<BranchRow> = rows.into_iter().map(branch).collect::<Result<_, _>>()?;
    let mut next = None;
    if rows.len() >= GROUPED_ROWS {
        let last = rows.last().map(|row| row.id);
        rows.retain(|row| Some(row.id) != last);
        next = rows.last().map(|row| row.id);
        if next.is_none() {
            return Err(StoreError::Corrupt(Corruption::Row));
        }
    }
    let confirmations = match (rows.first(), rows.last()) {
        (Some(first), Some(last)) => confirmed(session, kek, first.id, last.id).await?,
        _ => Vec::new(),
    };
    Ok(BranchRows { rows, confirmations, next })
}

async fn these(session: &mut dyn Session, kek: RowId, ids: Vec<RowId>) -> Result<BranchRows, StoreError> {
    let most = i64::try_from(BRANCHES_MAX).expect("small");
    let mut found = BranchRows::default();
    for id in ids {
        let rows = session.fetch(SELECT_BRANCH, vec![bytes(id), Value::Int(most)], BRANCH, ROWS_LEN_MAX).await?;
        found.rows.extend(rows.into_iter().map(branch).collect::<Result<Vec<_>, _>>()?);
        found.confirmations.extend(confirmed(session, kek, id, id).await?);
    }
    Ok(found)
}

async fn confirmed(
    session: &mut dyn Session,
    kek: RowId,
    first: RowId,
    last: RowId,
) -> Result<Vec<ConfirmationRow>, StoreError> {
    let most = GROUPED_ROWS * SITES_MAX;
    let values = vec![bytes(kek), bytes(first), bytes(last), Value::Int(i64::try_from(most).expect("small") + 1)];
    let rows = session.fetch(SELECT_CONFIRMED, values, CONFIRMATION, ROWS_LEN_MAX).await?;
    if rows.len() > most {
        return Err(StoreError::TooLarge);
    }
    let confirmation = |fields: Vec<Field>| match <[Field; 4]>::try_from(fields) {
        Ok([Field::Bytes(key), Field::Bytes(site), Field::Int(version), Field::Bytes(sealed)]) => {
            Ok(ConfirmationRow { id: id(key)?, site: id(site)?, kek_version: number(version)?, sealed })
        }
        _ => Err(StoreError::Corrupt(Corruption::Database)),
    };
    rows.into_iter().map(confirmation).collect()
}

async fn select_row(session: &mut dyn Session, kind: Kind, id: RowId) -> Result<Option<Row>, StoreError> {
    let values = vec![Value::Text(kind.as_str()), bytes(id)];
    let rows = session.fetch(SELECT_ROW, values, ROW, ROWS_LEN_MAX).await?;
    rows.into_iter().next().map(row).transpose()
}

fn statement(write: Write) -> Result<(&'static str, Vec<Value>), StoreError> {
    let version = |version| i64::try_from(version).map(Value::Int).map_err(|_| StoreError::TooLarge);
    Ok(match write {
        Write::Put { sealed, .. } if sealed.len() > ROW_LEN_MAX => return Err(StoreError::TooLarge),
        Write::Put { kind, id, expected: 0, sealed } => {
            (INSERT_ROW, vec![Value::Text(kind.as_str()), bytes(id), Value::Bytes(sealed)])
        }
        Write::Put { kind, id, expected, sealed } => {
            (UPDATE_ROW, vec![Value::Text(kind.as_str()), bytes(id), Value::Bytes(sealed), version(expected)?])
        }
        Write::Remove { kind, id, expected } => {
            (DELETE_ROW, vec![Value::Text(kind.as_str()), bytes(id), version(expected)?])
        }
    })
}

fn bytes(id: RowId) -> Value {
    Value::Bytes(id.as_bytes().to_vec())
}

fn id(bytes: Vec<u8>) -> Result<RowId, StoreError> {
    bytes.try_into().map(RowId::from_bytes).map_err(|_| StoreError::Corrupt(Corruption::Row))
}

fn number<N: TryFrom<i64>>(number: i64) -> Result<N, StoreError> {
    N::try_from(number).map_err(|_| StoreError::Corrupt(Corruption::Row))
}

fn row(fields: Vec<Field>) -> Result<Row, StoreError> {
    match <[Field; 3]>::try_from(fields) {
        Ok([Field::Bytes(key), Field::Int(version), Field::Bytes(sealed)]) => {
            Ok(Row { id: id(key)?, version: number(version)?, sealed })
        }
        _ => Err(StoreError::Corrupt(Corruption::Database)),
    }
}

fn branch(fields: Vec<Field>) -> Result<BranchRow, StoreError> {
    match <[Field; 4]>::try_from(fields) {
        Ok([Field::Bytes(key), Field::Bytes(kek), Field::Int(version), Field::Bytes(sealed)]) => {
            Ok(BranchRow { id: id(key)?, kek: id(kek)?, kek_version: number(version)?, sealed })
        }
        _ => Err(StoreError::Corrupt(Corruption::Database)),
    }
}
