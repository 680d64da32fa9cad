//! A database of its own for each test, and hands in it that go round the store.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

use super::server::server;
use crate::custodian::audit::permit;
use crate::custodian::kek::{Kek, KeyOptions};
use crate::custodian::seal::RootKey;
use crate::custodian::seal::config::SealList;
use crate::custodian::seal::make::NewSeal;
use crate::custodian::store::session::{Column, Field, Value};
use crate::custodian::store::sql::Mode;
use crate::custodian::store::{
    Change, Kind, NewRecord, PostgresSettings, SealedStore, SqlStore, StoreError, StoreSettings, connect_postgres,
    create_sqlite, open_sqlite,
};
use crate::names::KekName;

/// A database, with one store opened in it.
pub(in crate::custodian) struct Database {
    place: Place,
    pub(in crate::custodian) store: Arc<SqlStore>,
}

pub(in crate::custodian) enum Place {
    Sqlite(tempfile::TempDir),
    Postgres(String),
}

/// A row as the database has it.
pub(in crate::custodian) type RawRow = (String, Vec<u8>, i64, Vec<u8>);

pub(in crate::custodian) fn settings() -> StoreSettings {
    // Long: the tests' machines may be busy.
    StoreSettings { connections_max: 4, call_timeout: Duration::from_secs(30) }
}

/// With time-outs that a test can wait for.
pub(in crate::custodian) fn impatient() -> StoreSettings {
    StoreSettings { connections_max: 4, call_timeout: Duration::from_secs(2) }
}

pub(in crate::custodian) fn postgres_settings(port: u16, database: &str) -> PostgresSettings {
    let address = format!("postgres://claviger@127.0.0.1:{port}/{database}?sslmode=disable");
    PostgresSettings { address, password: None, root_certificate: None, client_certificate: None }
}

impl Database {
    pub(in crate::custodian) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = create_sqlite(&folder.path().join("store.db"), settings()).await.expect("makes");
        Self { place: Place::Sqlite(folder), store: Arc::new(store) }
    }

    pub(in crate::custodian) async fn postgres() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let port = server().port;
        let options = sqlx::postgres::PgConnectOptions::new().host("127.0.0.1").port(port);
        let mut admin =
            options.username("claviger").database("postgres").connect().await.expect("connects to the server");
        admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("makes a database");
        let store = connect_postgres(&postgres_settings(port, &name), settings()).await.expect("connects");
        Self { place: Place::Postgres(name), store: Arc::new(store) }
    }

    /// Another custodian's connections.
    pub(in crate::custodian) async fn again(&self, settings: StoreSettings) -> Result<Arc<SqlStore>, StoreError> {
        let store = match &self.place {
            Place::Sqlite(_) => open_sqlite(&self.path(), settings).await?,
            Place::Postgres(name) => connect_postgres(&postgres_settings(server().port, name), settings).await?,
        };
        Ok(Arc::new(store))
    }

    pub(in crate::custodian) fn path(&self) -> PathBuf {
        match &self.place {
            Place::Sqlite(folder) => folder.path().join("store.db"),
            Place::Postgres(name) => panic!("{name} is not a file"),
        }
    }

    pub(in crate::custodian) fn name(&self) -> &str {
        match &self.place {
            Place::Sqlite(_) => panic!("a file has no name here"),
            Place::Postgres(name) => name,
        }
    }

    /// The folder that holds all bytes of the database.
    pub(in crate::custodian) fn folder(&self) -> PathBuf {
        match &self.place {
            Place::Sqlite(folder) => folder.path().to_owned(),
            Place::Postgres(_) => server().folder.join("data"),
        }
    }

    /// A new sealed store in it.
    pub(in crate::custodian) async fn sealed(&self) -> (RootKey, SealedStore) {
        let root = RootKey::random().expect("random");
        let store = SealedStore::create(self.store.clone(), &root, &seals(&root).await).await.expect("makes");
        (root, store)
    }

    pub(in crate::custodian::store) async fn sql(&self, sql: &'static str, values: Vec<Value>) -> u64 {
        self.store.call(Mode::Write, move |session| session.execute(sql, values)).await.expect("runs")
    }

    pub(in crate::custodian) async fn empty_ledger(&self) {
        self.sql("DELETE FROM branches", Vec::new()).await;
    }

    pub(in crate::custodian) async fn raw_rows(&self, kind: Kind) -> Vec<RawRow> {
        const COLUMNS: &[Column] = &[Column::Bytes, Column::Int, Column::Bytes];
        let sql = "SELECT id, version, sealed FROM records WHERE kind = $1 ORDER BY id";
        let values = vec![Value::Text(kind.as_str())];
        let rows = self.store.call(Mode::Single, move |session| session.fetch(sql, values, COLUMNS, 1 << 30)).await;
        let row = |fields: Vec<Field>| match <[Field; 3]>::try_from(fields).expect("three columns") {
            [Field::Bytes(id), Field::Int(version), Field::Bytes(sealed)] => {
                (kind.as_str().to_owned(), id, version, sealed)
            }
            other => panic!("{other:?}"),
        };
        rows.expect("reads").into_iter().map(row).collect()
    }

    /// All rows of a kind are gone.
    pub(in crate::custodian) async fn raw_remove(&self, kind: Kind) {
        self.sql("DELETE FROM records WHERE kind = $1", vec![Value::Text(kind.as_str())]).await;
    }

    /// Puts back a row as it was, or changes it.
    pub(in crate::custodian) async fn put_raw(&self, kind: Kind, (_, id, version, sealed): RawRow) {
        let key = || vec![Value::Text(kind.as_str()), Value::Bytes(id.clone())];
        self.sql("DELETE FROM records WHERE kind = $1 AND id = $2", key()).await;
        let values = [key(), vec![Value::Int(version), Value::Bytes(sealed)]].concat();
        let insert = "INSERT INTO records (kind, id, version, sealed) VALUES ($1, $2, $3, $4)";
        assert_eq!(self.sql(insert, values).await, 1);
    }
}

pub(in crate::custodian) async fn seals(root: &RootKey) -> SealList {
    let shares = [NewSeal::Shares { threshold: 2, count: 3 }];
    SealList::make(root, &shares).await.expect("makes").0
}

/// A record of no special kind.
pub(in crate::custodian) fn put<'a>(name: &'a str, expected: u64, body: &'a [u8]) -> Change<'a> {
    Change::Put(NewRecord { kind: Kind::Grant, name, expected, state: 1, expires_unix_s: Some(1_800_000_000), body })
}

/// Writes a KEK as the engine does.
pub(in crate::custodian) async fn save_kek(
    store: &SealedStore,
    name: &KekName,
    kek: &Kek,
    expected: u64,
) -> Result<(), StoreError> {
    let (kind, name, body) = (Kind::Kek, name.as_str(), kek.to_bytes());
    let new = NewRecord { kind, name, expected, state: 0, expires_unix_s: None, body: &body };
    store.change(&[Change::Put(new)]).await.map(drop)
}

pub(in crate::custodian) fn new_kek() -> Kek {
    Kek::create(&KeyOptions::default(), 1, permit()).expect("random")
}
