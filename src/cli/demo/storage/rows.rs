//! The rows of the index, and the statements about single ones.

use s3s::{S3Result, s3_error};
use sqlx::SqliteConnection;
use time::OffsetDateTime;

use super::described::{Checksums, Described};
use super::index::{Change, internal};

/// An object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ObjectRow {
    pub(super) content: String,
    pub(super) etag: String,
    pub(super) size: u64,
    pub(super) modified: i64,
    pub(super) described: Described,
}

/// A file with a part of some content's bytes, or all of them.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// The part's number; 1 for an object that came whole.
    pub(super) number: i32,
    pub(super) file: String,
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) modified: i64,
    pub(super) checksums: Checksums,
}

type ObjectFields = (String, String, i64, i64, String);
type PieceFields = (i32, String, i64, String, i64, String);

/// Milliseconds since 1970.
pub(super) fn now() -> i64 {
    let ms = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    i64::try_from(ms).expect("the range of the type's years")
}

pub(super) fn json(value: &impl serde::Serialize) -> S3Result<String> {
    serde_json::to_string(value).map_err(internal)
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> S3Result<T> {
    serde_json::from_str(text).map_err(internal)
}

/// A size as the index and S3's answers write it.
pub(super) fn signed(size: u64) -> i64 {
    i64::try_from(size).expect("file systems count so far")
}

fn unsigned(size: i64) -> S3Result<u64> {
    u64::try_from(size).map_err(internal)
}

/// The number of a bucket.
pub(super) async fn bucket_id(connection: &mut SqliteConnection, name: &str) -> S3Result<i64> {
    let found = sqlx::query_scalar("SELECT id FROM buckets WHERE name = $1").bind(name);
    let found: Option<i64> = found.fetch_optional(connection).await.map_err(internal)?;
    found.ok_or_else(|| s3_error!(NoSuchBucket))
}

pub(super) async fn object(connection: &mut SqliteConnection, bucket: i64, key: &str) -> S3Result<Option<ObjectRow>> {
    let sql = "SELECT content, etag, size, modified, headers FROM objects WHERE bucket = $1 AND key = $2";
    let found = sqlx::query_as(sql).bind(bucket).bind(key.as_bytes());
    let found: Option<ObjectFields> = found.fetch_optional(connection).await.map_err(internal)?;
    let row = |(content, etag, size, modified, headers): ObjectFields| {
        Ok(ObjectRow { content, etag, size: unsigned(size)?, modified, described: from_json(&headers)? })
    };
    found.map(row).transpose()
}

pub(super) async fn pieces(connection: &mut SqliteConnection, content: &str) -> S3Result<Vec<Piece>> {
    pieces_after(connection, content, 0, i64::MAX).await
}

/// The first `limit` pieces with numbers above `after`.
pub(super) async fn pieces_after(
    connection: &mut SqliteConnection,
    content: &str,
    after: i32,
    limit: i64,
) -> S3Result<Vec<Piece>> {
    let sql = "SELECT number, file, size, etag, modified, checksums FROM pieces
        WHERE content = $1 AND number > $2 ORDER BY number LIMIT $3";
    let found = sqlx::query_as(sql).bind(content).bind(after).bind(limit);
    let found: Vec<PieceFields> = found.fetch_all(connection).await.map_err(internal)?;
    let piece = |(number, file, size, etag, modified, checksums): PieceFields| {
        Ok(Piece { number, file, size: unsigned(size)?, etag, modified, checksums: from_json(&checksums)? })
    };
    found.into_iter().map(piece).collect()
}

/// What was said of the object when an upload in parts began; its id is its content's.
pub(super) async fn upload(
    connection: &mut SqliteConnection,
    bucket: i64,
    key: &str,
    id: &str,
) -> S3Result<Option<Described>> {
    let sql = "SELECT headers FROM uploads WHERE bucket = $1 AND key = $2 AND id = $3";
    let found = sqlx::query_scalar(sql).bind(bucket).bind(key.as_bytes()).bind(id);
    let found: Option<String> = found.fetch_optional(connection).await.map_err(internal)?;
    found.map(|headers| from_json(&headers)).transpose()
}

/// Removes the pieces of `content`, and returns the files that were pieces of nothing else.
pub(super) async fn drop_content(connection: &mut SqliteConnection, content: &str) -> S3Result<Vec<String>> {
    let sql = "SELECT file FROM pieces AS mine WHERE content = $1
        AND NOT EXISTS (SELECT 1 FROM pieces AS other WHERE other.file = mine.file AND other.content <> $1)";
    let files = sqlx::query_scalar(sql).bind(content).fetch_all(&mut *connection).await.map_err(internal)?;
    let sql = "DELETE FROM pieces WHERE content = $1";
    sqlx::query(sql).bind(content).execute(connection).await.map_err(internal)?;
    Ok(files)
}

impl Change {
    /// Puts `row` in the place of whatever object has the key.
    pub(super) async fn put_object(&mut self, bucket: i64, key: &str, row: &ObjectRow) -> S3Result<()> {
        if let Some(before) = object(self.connection(), bucket, key).await? {
            self.drop_content(&before.content).await?;
        }
        let sql = "INSERT OR REPLACE INTO objects (bucket, key, content, etag, size, modified, headers)
            VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let query = sqlx::query(sql).bind(bucket).bind(key.as_bytes()).bind(&row.content).bind(&row.etag);
        let query = query.bind(signed(row.size)).bind(row.modified).bind(json(&row.described)?);
        query.execute(self.connection()).await.map_err(internal)?;
        Ok(())
    }

    /// Removes `row`, which is the object of the key.
    pub(super) async fn remove_object(&mut self, bucket: i64, key: &str, row: &ObjectRow) -> S3Result<()> {
        self.drop_content(&row.content).await?;
        let query = sqlx::query("DELETE FROM objects WHERE bucket = $1 AND key = $2").bind(bucket);
        query.bind(key.as_bytes()).execute(self.connection()).await.map_err(internal)?;
        Ok(())
    }

    /// Adds a piece; one with the same number gives way.
    pub(super) async fn put_piece(&mut self, content: &str, piece: &Piece) -> S3Result<()> {
        let sql = "DELETE FROM pieces WHERE content = $1 AND number = $2 RETURNING file";
        let before = sqlx::query_scalar(sql).bind(content).bind(piece.number);
        // Parts are new files: no other piece shares them.
        let before = before.fetch_all(self.connection()).await.map_err(internal)?;
        self.note_dropped(before);
        let sql = "INSERT INTO pieces (content, number, file, size, etag, modified, checksums)
            VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let query = sqlx::query(sql).bind(content).bind(piece.number).bind(&piece.file).bind(signed(piece.size));
        let query = query.bind(&piece.etag).bind(piece.modified).bind(json(&piece.checksums)?);
        query.execute(self.connection()).await.map_err(internal)?;
        Ok(())
    }

    /// Lets `copy` have the pieces of `content`, too.
    pub(super) async fn share_pieces(&mut self, content: &str, copy: &str) -> S3Result<()> {
        let sql = "INSERT INTO pieces (content, number, file, size, etag, modified, checksums)
            SELECT $2, number, file, size, etag, modified, checksums FROM pieces WHERE content = $1";
        let query = sqlx::query(sql).bind(content).bind(copy);
        query.execute(self.connection()).await.map_err(internal)?;
        Ok(())
    }
}
