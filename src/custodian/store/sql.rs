//! [`Store`] over SQL: one set of statements, two databases.

mod branches;

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::error::{Corruption, StoreError};
use super::session::{Backend, Column, Dialect, Field, Session, Value};
use super::{
    BRANCHES_MAX, BranchRow, BranchRows, ConfirmationWrite, Kind, ROW_LEN_MAX, ROWS_LEN_MAX, ROWS_MAX, Row, RowId,
    Snapshot, Store, StoreSettings, WhichBranches, Write, fresh, schema,
};

const ROW: &[Column] = &[Column::Bytes, Column::Int, Column::Bytes];
const SELECT_ROW: &str = "SELECT id, version, sealed FROM records WHERE kind = $1 AND id = $2";
const SELECT_ROWS: &str = "SELECT id, version, sealed FROM records WHERE kind = $1 ORDER BY id LIMIT $2";
const INSERT_ROW: &str =
    "INSERT INTO records (kind, id, version, sealed) VALUES ($1, $2, 1, $3) ON CONFLICT DO NOTHING";
const UPDATE_ROW: &str =
    "UPDATE records SET version = version + 1, sealed = $3 WHERE kind = $1 AND id = $2 AND version = $4";
const DELETE_ROW: &str = "DELETE FROM records WHERE kind = $1 AND id = $2 AND version = $3";

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

    /// What differs between the databases.
    pub(super) fn dialect(&self) -> &'static Dialect {
        self.backend.dialect()
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
            self.call(Mode::Write, move |session| Box::pin(branches::append(session, rows))).await
        })
    }

    fn branch(&self, id: RowId) -> BoxFuture<'_, Result<Vec<BranchRow>, StoreError>> {
        Box::pin(self.call(Mode::Single, move |session| Box::pin(branches::one(session, id))))
    }

    fn branch_rows(&self, kek: RowId, which: WhichBranches) -> BoxFuture<'_, Result<BranchRows, StoreError>> {
        Box::pin(self.call(Mode::Read, move |session| {
            Box::pin(async move {
                match which {
                    WhichBranches::After(after) => branches::grouped(session, kek, after).await,
                    WhichBranches::These(ids) => branches::these(session, kek, ids).await,
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
        Box::pin(self.call(Mode::Write, move |session| Box::pin(branches::confirm(session, kek, site, writes))))
    }

    fn count_branches(&self, kek: RowId) -> BoxFuture<'_, Result<Vec<(u32, u64)>, StoreError>> {
        Box::pin(self.call(Mode::Single, move |session| Box::pin(branches::count(session, kek))))
    }

    fn add_branches(&self, rows: Vec<BranchRow>) -> BoxFuture<'_, Result<Vec<bool>, StoreError>> {
        Box::pin(fresh::add(self, rows))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.backend.close()
    }
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
