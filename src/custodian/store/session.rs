//! One connection of either database, behind one interface.
//!
//! **Invariant:** a connection goes back to its pool only when [`Session::keep`] said that no statement and no transaction is
//! under way; whoever gives up in the middle closes it, and with it ends the transaction.

use futures_util::TryStreamExt as _;
use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::{Postgres, Row as _, Sqlite};

use super::error::StoreError;

/// A value that goes into a statement.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int(i64),
    Bytes(Vec<u8>),
    Text(&'static str),
}

/// A value that comes out.
#[derive(Debug, Clone)]
pub(super) enum Field {
    Int(i64),
    Bytes(Vec<u8>),
}

/// What comes out, by column.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column {
    Int,
    Bytes,
}

/// What differs between the databases.
#[derive(Debug)]
pub(super) struct Dialect {
    pub(super) begin_read: &'static str,
    pub(super) begin_write: &'static str,
    /// Keeps others from changing the schema until the end of the transaction.
    pub(super) lock_schema: Option<&'static str>,
    /// Keeps others from adding to the ledger until the end of the transaction, where writers do not wait for each other anyway.
    pub(super) lock_branches: Option<&'static str>,
    /// Counts the tables of the name `claviger_schema`.
    pub(super) probe_schema: &'static str,
}

pub(super) trait Session: Send {
    /// Runs a statement; gives the number of rows that it changed.
    fn execute(&mut self, sql: &'static str, values: Vec<Value>) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Runs a query; fails when the rows have more than `bytes_max` bytes together.
    fn fetch(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
        columns: &'static [Column],
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Vec<Vec<Field>>, StoreError>>;

    /// Says that the connection may serve others.
    fn keep(&mut self);
}

/// A database that gives out sessions.
pub(super) trait Backend: Send + Sync {
    fn session(&self) -> BoxFuture<'_, Result<Box<dyn Session>, StoreError>>;

    fn dialect(&self) -> &'static Dialect;

    fn close(&self) -> BoxFuture<'_, ()>;
}

macro_rules! session {
    ($name:ident, $database:ty) => {
        pub(super) struct $name {
            connection: Option<PoolConnection<$database>>,
            keep: bool,
        }

        impl $name {
            pub(super) fn new(connection: PoolConnection<$database>) -> Self {
                Self { connection: Some(connection), keep: false }
            }

            fn connection(&mut self) -> &mut PoolConnection<$database> {
                self.connection.as_mut().expect("taken out only on drop")
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                if let Some(connection) = self.connection.take().filter(|_| !self.keep) {
                    drop(connection.detach());
                }
            }
        }

        impl Session for $name {
            fn execute(&mut self, sql: &'static str, values: Vec<Value>) -> BoxFuture<'_, Result<u64, StoreError>> {
                let query = values.into_iter().fold(sqlx::query::<$database>(sql), |query, value| match value {
                    Value::Int(number) => query.bind(number),
                    Value::Bytes(bytes) => query.bind(bytes),
                    Value::Text(text) => query.bind(text),
                });
                Box::pin(async move { Ok(query.execute(&mut **self.connection()).await?.rows_affected()) })
            }

            fn fetch(
                &mut self,
                sql: &'static str,
                values: Vec<Value>,
                columns: &'static [Column],
                bytes_max: usize,
            ) -> BoxFuture<'_, Result<Vec<Vec<Field>>, StoreError>> {
                let query = values.into_iter().fold(sqlx::query::<$database>(sql), |query, value| match value {
                    Value::Int(number) => query.bind(number),
                    Value::Bytes(bytes) => query.bind(bytes),
                    Value::Text(text) => query.bind(text),
                });
                Box::pin(async move {
                    let mut found = query.fetch(&mut **self.connection());
                    let (mut rows, mut left) = (Vec::new(), bytes_max);
                    while let Some(row) = found.try_next().await? {
                        let field = |(index, column): (usize, &Column)| match column {
                            Column::Int => row.try_get(index).map(Field::Int),
                            Column::Bytes => row.try_get(index).map(Field::Bytes),
                        };
                        let fields: Vec<Field> = columns.iter().enumerate().map(field).collect::<Result<_, _>>()?;
                        let length = |field: &Field| if let Field::Bytes(bytes) = field { bytes.len() } else { 8 };
                        left = left.checked_sub(fields.iter().map(length).sum()).ok_or(StoreError::TooLarge)?;
                        rows.push(fields);
                    }
                    Ok(rows)
                })
            }

            fn keep(&mut self) {
                self.keep = true;
            }
        }
    };
}

session!(SqliteSession, Sqlite);
session!(PostgresSession, Postgres);
