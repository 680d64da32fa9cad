//! The store in a SQLite file of its own.
//!
//! **Invariant:** the file has mode 0600 from the start; SQLite gives its companions (`-wal`, `-shm`) the same.
//! **Invariant:** a file that is not a store of this program is not touched.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqlitePool};

use super::error::StoreError;
use super::session::{Backend, Dialect, Session, SqliteSession};
use super::{SqlStore, StoreSettings};

/// "CLAV": tells our files from others' (<https://sqlite.org/fileformat2.html>, offset 68).
const APPLICATION_ID: u32 = 0x434c_4156;
const FILE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

const DIALECT: Dialect = Dialect {
    begin_read: "BEGIN DEFERRED",
    begin_write: "BEGIN IMMEDIATE",
    lock_schema: None,
    lock_branches: None,
    probe_schema: "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'claviger_schema'",
};

struct Sqlite(SqlitePool);

impl Backend for Sqlite {
    fn session(&self) -> BoxFuture<'_, Result<Box<dyn Session>, StoreError>> {
        Box::pin(async {
            let session: Box<dyn Session> = Box::new(SqliteSession::new(self.0.acquire().await?));
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

/// Makes a new store at `path`.
///
/// # Errors
/// [`StoreError::File`], also if there is a file already; [`StoreError`].
pub async fn create_sqlite(path: &Path, settings: StoreSettings) -> Result<SqlStore, StoreError> {
    let failed = |source| StoreError::File { path: path.to_owned(), source };
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    start(path, settings).await
}

/// Opens the store at `path`.
///
/// # Errors
/// [`StoreError`].
pub async fn open_sqlite(path: &Path, settings: StoreSettings) -> Result<SqlStore, StoreError> {
    check_file(path)?;
    start(path, settings).await
}

/// Looks at the file before SQLite does, which would change it at once.
fn check_file(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(StoreError::OpenToOthers { path: path.to_owned(), mode });
    }
    let mut header = [0; 72];
    match file.read_exact(&mut header) {
        Ok(()) => {}
        // Made, and then the power failed before there was anything in it.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            let empty = file.metadata().map_err(failed)?.len() == 0;
            return if empty { Ok(()) } else { Err(StoreError::NotAStore) };
        }
        Err(error) => return Err(failed(error)),
    }
    let ours = header.starts_with(FILE_MAGIC) && header[68..] == APPLICATION_ID.to_be_bytes();
    if ours { Ok(()) } else { Err(StoreError::NotAStore) }
}

async fn start(path: &Path, settings: StoreSettings) -> Result<SqlStore, StoreError> {
    let options =
        SqliteConnectOptions::new().filename(path).create_if_missing(false).busy_timeout(settings.lock_timeout());
    stamp(&options).await?;
    let options = options
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .pragma("trusted_schema", "OFF")
        // What is removed is overwritten, though it was sealed: a destroyed KEK least of all should lie around in free pages.
        .pragma("secure_delete", "ON")
        .pragma("cell_size_check", "ON");
    let pool = SqlitePoolOptions::new()
        .max_connections(settings.connections_max.max(1))
        .acquire_timeout(settings.lock_timeout())
        .connect_lazy_with(options);
    SqlStore::start(Sqlite(pool), 1, settings).await
}

/// Marks a file that [`check_file`] took for empty as ours, before there is a log beside it that could hold the mark back.
async fn stamp(options: &SqliteConnectOptions) -> Result<(), StoreError> {
    let mut connection = options.connect().await?;
    let found: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut connection).await?;
    if found != i64::from(APPLICATION_ID) {
        let stamp = format!("PRAGMA application_id = {APPLICATION_ID}");
        sqlx::query(AssertSqlSafe(stamp)).execute(&mut connection).await?;
    }
    Ok(connection.close().await?)
}
