//! The statements of the branch ledger and of its confirmations: many branch keys to a statement.
//!
//! Each statement is a way to the database and back, so that a call about hundreds of branch keys takes a few of them. Their number of
//! values is one of a few, for the databases keep statements that they have seen.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use super::super::error::{Corruption, StoreError};
use super::super::session::{Column, Field, Session, Value};
use super::super::{
    BRANCHES_MAX, BranchRow, BranchRows, ConfirmationRow, ConfirmationWrite, ROWS_LEN_MAX, RowId, SITES_MAX,
};
use super::{bytes, id, number};

/// Rows or branch keys of one statement, the most first.
const SIZES: [usize; 3] = [64, 8, 1];
/// Statements for so many each.
type Statements = LazyLock<[(usize, String); SIZES.len()]>;

const BRANCH: &[Column] = &[Column::Bytes, Column::Bytes, Column::Int, Column::Bytes];
static INSERT_BRANCHES: Statements = LazyLock::new(|| {
    SIZES.map(|count| {
        let rows = listed(count, |row, at| {
            let first = 4 * at + 1;
            write!(row, "(${first}, ${}, ${}, ${})", first + 1, first + 2, first + 3)
        });
        (count, format!("INSERT INTO branches (id, kek, kek_version, sealed) VALUES {rows} ON CONFLICT DO NOTHING"))
    })
});
const SELECT_BRANCH: &str =
    "SELECT id, kek, kek_version, sealed FROM branches WHERE id = $1 ORDER BY kek_version LIMIT $2";
static SELECT_THESE: Statements = LazyLock::new(|| {
    of_ids(|ids| {
        format!(
            "SELECT id, kek, kek_version, sealed FROM branches WHERE kek = $1 AND id IN ({ids})
    ORDER BY id, kek_version LIMIT $2"
        )
    })
});
/// Rows of the ledger that are read at a time: more than one branch key can have.
const GROUPED_ROWS: usize = 2 * BRANCHES_MAX;
const SELECT_GROUPED: &str = "SELECT id, kek, kek_version, sealed FROM branches
    WHERE kek = $1 AND id > $2 ORDER BY id, kek_version LIMIT $3";

const CONFIRMATION: &[Column] = &[Column::Bytes, Column::Bytes, Column::Int, Column::Bytes];
/// Most confirmations of one statement.
const CONFIRMED_ROWS: usize = GROUPED_ROWS * SITES_MAX;
const SELECT_CONFIRMED: &str = "SELECT id, site, kek_version, sealed FROM confirmations
    WHERE kek = $1 AND id >= $2 AND id <= $3 ORDER BY id, site LIMIT $4";
static SELECT_CONFIRMED_THESE: Statements = LazyLock::new(|| {
    of_ids(|ids| {
        format!(
            "SELECT id, site, kek_version, sealed FROM confirmations WHERE kek = $1 AND id IN ({ids})
    ORDER BY id, site LIMIT $2"
        )
    })
});
static PUT_CONFIRMED: Statements = LazyLock::new(|| {
    SIZES.map(|count| {
        let rows = listed(count, |row, at| {
            let first = 3 * at + 3;
            write!(row, "($1, ${first}, $2, ${}, ${})", first + 1, first + 2)
        });
        let sql = format!(
            "INSERT INTO confirmations (kek, id, site, kek_version, sealed) VALUES {rows}
    ON CONFLICT (kek, id, site) DO UPDATE SET kek_version = excluded.kek_version, sealed = excluded.sealed"
        );
        (count, sql)
    })
});
static DELETE_CONFIRMED: Statements =
    LazyLock::new(|| of_ids(|ids| format!("DELETE FROM confirmations WHERE kek = $1 AND site = $2 AND id IN ({ids})")));

const COUNT: &[Column] = &[Column::Int, Column::Int];
const COUNT_BRANCHES: &str =
    "SELECT kek_version, COUNT(*) FROM branches WHERE kek = $1 GROUP BY kek_version ORDER BY kek_version";

/// `count` items with commas between them.
fn listed(count: usize, mut item: impl FnMut(&mut String, usize) -> std::fmt::Result) -> String {
    let mut text = String::new();
    for at in 0..count {
        text.push_str(if at == 0 { "" } else { ", " });
        item(&mut text, at).expect("a string takes everything");
    }
    text
}

/// Statements with ids after two other values.
fn of_ids(sql: impl Fn(&str) -> String) -> [(usize, String); SIZES.len()] {
    SIZES.map(|count| (count, sql(&listed(count, |text, at| write!(text, "${}", at + 3)))))
}

/// The statement for as many of `left` as one takes, and how many these are.
fn next_of(statements: &'static Statements, left: usize) -> (usize, &'static str) {
    let (count, sql) = statements.iter().find(|(count, _)| *count <= left).expect("the last is for one");
    (*count, sql)
}

/// Adds rows; one that is there already stays.
pub(super) async fn append(session: &mut dyn Session, mut rows: Vec<BranchRow>) -> Result<(), StoreError> {
    // In one order, whoever writes: two that write the same rows wait for each other, and in different orders each for the other.
    rows.sort_by_key(|row| (row.id, row.kek_version));
    let mut rows = rows.into_iter();
    while !rows.as_slice().is_empty() {
        let (count, sql) = next_of(&INSERT_BRANCHES, rows.len());
        let values = rows.by_ref().take(count).flat_map(|row| {
            let version = Value::Int(row.kek_version.into());
            [bytes(row.id), bytes(row.kek), version, Value::Bytes(row.sealed)]
        });
        session.execute(sql, values.collect()).await?;
    }
    Ok(())
}

/// All rows of one branch key.
pub(super) async fn one(session: &mut dyn Session, id: RowId) -> Result<Vec<BranchRow>, StoreError> {
    let values = vec![bytes(id), limit(BRANCHES_MAX)];
    let rows = session.fetch(SELECT_BRANCH, values, BRANCH, ROWS_LEN_MAX).await?;
    rows.into_iter().map(branch).collect()
}

/// A page of branch keys, none of them cut in two.
pub(super) async fn grouped(
    session: &mut dyn Session,
    kek: RowId,
    after: Option<RowId>,
) -> Result<BranchRows, StoreError> {
    let values = vec![bytes(kek), after.map_or(Value::Bytes(Vec::new()), bytes), limit(GROUPED_ROWS)];
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
        (Some(first), Some(last)) => {
            let values = vec![bytes(kek), bytes(first.id), bytes(last.id), limit(CONFIRMED_ROWS + 1)];
            confirmed(session, SELECT_CONFIRMED, values).await?
        }
        _ => Vec::new(),
    };
    Ok(BranchRows { rows, confirmations, next })
}

/// These branch keys, each once.
pub(super) async fn these(
    session: &mut dyn Session,
    kek: RowId,
    mut ids: Vec<RowId>,
) -> Result<BranchRows, StoreError> {
    ids.sort_unstable();
    ids.dedup();
    let mut found = BranchRows::default();
    let mut left = ids.as_slice();
    while !left.is_empty() {
        let (count, sql) = next_of(&SELECT_THESE, left.len());
        let (some, rest) = left.split_at(count);
        let most = count * BRANCHES_MAX;
        let values = |limit: Value| [bytes(kek), limit].into_iter().chain(some.iter().copied().map(bytes)).collect();
        let rows = session.fetch(sql, values(limit(most + 1)), BRANCH, ROWS_LEN_MAX).await?;
        if rows.len() > most {
            return Err(StoreError::TooLarge);
        }
        found.rows.extend(rows.into_iter().map(branch).collect::<Result<Vec<_>, _>>()?);
        let (_, sql) = next_of(&SELECT_CONFIRMED_THESE, left.len());
        found.confirmations.extend(confirmed(session, sql, values(limit(CONFIRMED_ROWS + 1))).await?);
        left = rest;
    }
    Ok(found)
}

async fn confirmed(
    session: &mut dyn Session,
    sql: &'static str,
    values: Vec<Value>,
) -> Result<Vec<ConfirmationRow>, StoreError> {
    let rows = session.fetch(sql, values, CONFIRMATION, ROWS_LEN_MAX).await?;
    if rows.len() > CONFIRMED_ROWS {
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

/// Writes confirmations of a site, and removes others. Of several about one branch key the last counts: PostgreSQL takes no row twice in
/// one statement.
pub(super) async fn confirm(
    session: &mut dyn Session,
    kek: RowId,
    site: RowId,
    writes: Vec<ConfirmationWrite>,
) -> Result<(), StoreError> {
    let mut last = BTreeMap::new();
    for write in writes {
        match write {
            ConfirmationWrite::Put { id, kek_version, sealed } => last.insert(id, Some((kek_version, sealed))),
            ConfirmationWrite::Remove { id } => last.insert(id, None),
        };
    }
    let (mut puts, mut removed) = (Vec::new(), Vec::new());
    for (id, put) in last {
        match put {
            Some((version, sealed)) => puts.push([bytes(id), Value::Int(version.into()), Value::Bytes(sealed)]),
            None => removed.push([bytes(id)]),
        }
    }
    in_pieces(session, &PUT_CONFIRMED, (kek, site), puts).await?;
    in_pieces(session, &DELETE_CONFIRMED, (kek, site), removed).await
}

/// Runs the statement, whose first two values are KEK and site, over all of `rows`.
async fn in_pieces<const N: usize>(
    session: &mut dyn Session,
    statements: &'static Statements,
    (kek, site): (RowId, RowId),
    rows: Vec<[Value; N]>,
) -> Result<(), StoreError> {
    let mut rows = rows.into_iter();
    while !rows.as_slice().is_empty() {
        let (count, sql) = next_of(statements, rows.len());
        let values = [bytes(kek), bytes(site)].into_iter().chain(rows.by_ref().take(count).flatten());
        session.execute(sql, values.collect()).await?;
    }
    Ok(())
}

/// How many rows there are under each version of a KEK.
pub(super) async fn count(session: &mut dyn Session, kek: RowId) -> Result<Vec<(u32, u64)>, StoreError> {
    let rows = session.fetch(COUNT_BRANCHES, vec![bytes(kek)], COUNT, ROWS_LEN_MAX).await?;
    let count = |fields: Vec<Field>| match fields[..] {
        [Field::Int(version), Field::Int(count)] => Ok((number(version)?, number(count)?)),
        _ => Err(StoreError::Corrupt(Corruption::Database)),
    };
    rows.into_iter().map(count).collect()
}

fn limit(rows: usize) -> Value {
    Value::Int(i64::try_from(rows).expect("small"))
}

fn branch(fields: Vec<Field>) -> Result<BranchRow, StoreError> {
    match <[Field; 4]>::try_from(fields) {
        Ok([Field::Bytes(key), Field::Bytes(kek), Field::Int(version), Field::Bytes(sealed)]) => {
            Ok(BranchRow { id: id(key)?, kek: id(kek)?, kek_version: number(version)?, sealed })
        }
        _ => Err(StoreError::Corrupt(Corruption::Database)),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;

    use super::*;

    /// Counts statements and their values, and knows of nothing.
    #[derive(Default)]
    struct Counting {
        statements: usize,
        values: usize,
    }

    impl Session for Counting {
        fn execute(&mut self, _: &'static str, values: Vec<Value>) -> BoxFuture<'_, Result<u64, StoreError>> {
            self.statements += 1;
            self.values += values.len();
            async { Ok(0) }.boxed()
        }

        fn fetch(
            &mut self,
            sql: &'static str,
            values: Vec<Value>,
            _: &'static [Column],
            _: usize,
        ) -> BoxFuture<'_, Result<Vec<Vec<Field>>, StoreError>> {
            self.execute(sql, values).map(|done| done.map(|_| Vec::new())).boxed()
        }

        fn keep(&mut self) {}
    }

    fn row(number: u16) -> RowId {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        RowId::from_bytes(bytes)
    }

    #[tokio::test]
    async fn hundreds_of_branch_keys_take_a_few_statements() {
        let (kek, site) = (row(9_000), row(9_001));
        // The page of a job: three times 64, and 8.
        let mut reading = Counting::default();
        these(&mut reading, kek, (0..200).map(row).collect()).await.expect("reads");
        assert_eq!((reading.statements, reading.values), (2 * 4, 2 * (200 + 4 * 2)));

        let put = |number| ConfirmationWrite::Put { id: row(number), kek_version: 2, sealed: vec![1; 60] };
        let remove = |number| ConfirmationWrite::Remove { id: row(number) };
        let mut writing = Counting::default();
        let writes = (0..128).map(put).chain((128..200).map(remove)).collect();
        confirm(&mut writing, kek, site, writes).await.expect("writes");
        assert_eq!((writing.statements, writing.values), (2 + 2, 128 * 3 + 72 + 4 * 2));
    }

    #[tokio::test]
    async fn a_branch_key_that_is_named_twice_is_asked_for_once() {
        let mut reading = Counting::default();
        these(&mut reading, row(1), vec![row(3), row(2), row(3)]).await.expect("reads");
        assert_eq!((reading.statements, reading.values), (2 * 2, 2 * 2 * 3));
        let mut nothing = Counting::default();
        these(&mut nothing, row(1), Vec::new()).await.expect("reads");
        assert_eq!(nothing.statements, 0);
    }
}
