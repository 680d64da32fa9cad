//! The store behind the barrier: what is written is sealed, what is read is authenticated and accounted for.
//!
//! **Invariant:** [`SealedStore::list`] gives all records of a kind in their newest versions, or fails.
//! **Invariant:** the generation that one [`SealedStore`] sees never goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::crypto;
use crate::custodian::barrier::Barrier;
use crate::custodian::seal::RootKey;
use crate::custodian::seal::config::SealList;

use super::epoch::{Account, Epoch, LogHead};
use super::error::{Corruption, StoreError};
use super::record::{Change, Record};
use super::{Kind, Row, RowId, Snapshot, Store, Write};

/// How often a change is tried when others get in between.
const TRIES: u32 = 20;
/// Most changes at once.
const CHANGES_MAX: usize = 64;
/// The name of the epoch's row.
const EPOCH_NAME: &[u8] = b"epoch";

/// All records of a kind at one moment.
#[derive(Debug)]
pub struct Listing {
    /// The moment.
    pub epoch: Epoch,
    /// The records, in no order that means anything.
    pub records: Vec<Record>,
}

/// An unsealed store.
pub struct SealedStore {
    pub(super) store: Arc<dyn Store>,
    pub(super) barrier: Barrier,
    epoch_id: RowId,
    /// The highest generation seen.
    seen: AtomicU64,
}

impl SealedStore {
    fn new(store: Arc<dyn Store>, root: &RootKey) -> Self {
        let barrier = Barrier::new(root);
        let epoch_id = barrier.id(Kind::Epoch, EPOCH_NAME);
        Self { store, barrier, epoch_id, seen: AtomicU64::new(0) }
    }

    /// Makes a new store, in a database that has none yet.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is one already; [`StoreError`].
    pub async fn create(store: Arc<dyn Store>, root: &RootKey, seals: &SealList) -> Result<Self, StoreError> {
        let new = Self::new(store, root);
        let list = Write::Put { kind: Kind::Seals, id: RowId::ONLY, expected: 0, sealed: seals.to_bytes() };
        let mut epoch = Epoch::start();
        new.account(&mut epoch, &list)?;
        let epoch = new.epoch_write(&epoch)?;
        new.store.commit(vec![list, epoch]).await?;
        Ok(new)
    }

    /// The list of seals of the store, and its version.
    ///
    /// # Errors
    /// [`StoreError::Empty`] if no store was made yet; [`StoreError`].
    pub async fn seals(store: &dyn Store) -> Result<(SealList, u64), StoreError> {
        let row = store.row(Kind::Seals, RowId::ONLY).await?.ok_or(StoreError::Empty)?;
        let list = SealList::parse(&row.sealed).map_err(|_| StoreError::Corrupt(Corruption::Seals))?;
        Ok((list, row.version))
    }

    /// Opens the store with the key that its seals gave out, and checks that it is whole.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(store: Arc<dyn Store>, root: &RootKey) -> Result<Self, StoreError> {
        let opened = Self::new(store, root);
        for kind in Kind::RECORDS {
            opened.list(kind).await?;
        }
        opened.accounted(Kind::Seals).await?;
        Ok(opened)
    }

    /// Puts `seals` in the place of the list of version `expected`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_seals(&self, seals: &SealList, expected: u64) -> Result<Epoch, StoreError> {
        let write = Write::Put { kind: Kind::Seals, id: RowId::ONLY, expected, sealed: seals.to_bytes() };
        self.write(vec![write], |_| Ok(())).await
    }

    /// How far the store is now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn epoch(&self) -> Result<Epoch, StoreError> {
        let seen = self.seen.load(Ordering::Acquire);
        self.read_epoch(self.store.row(Kind::Epoch, self.epoch_id).await?, seen)
    }

    /// `seen` is the highest generation that was seen before the row was read.
    fn read_epoch(&self, row: Option<Row>, seen: u64) -> Result<Epoch, StoreError> {
        let row = row.ok_or(StoreError::Corrupt(Corruption::Epoch))?;
        let opened = self.barrier.open(Kind::Epoch, &self.epoch_id, &place(row.version), &row.sealed);
        let bytes = opened.map_err(|_| StoreError::Corrupt(Corruption::Epoch))?;
        let epoch = Epoch::parse(&bytes, row.version)?;
        if epoch.generation() < seen {
            return Err(StoreError::RolledBack { seen, found: epoch.generation() });
        }
        self.seen.fetch_max(epoch.generation(), Ordering::AcqRel);
        Ok(epoch)
    }

    /// One record. It is authentic; whether it is the newest version, only [`SealedStore::list`] and [`SealedStore::change`] know.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, StoreError> {
        let id = self.barrier.id(kind, name.as_bytes());
        self.store.row(kind, id).await?.map(|row| self.open_row(kind, &row)).transpose()
    }

    /// All records of a kind.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self, kind: Kind) -> Result<Listing, StoreError> {
        let (epoch, rows) = self.accounted(kind).await?;
        let records = rows.iter().map(|row| self.open_row(kind, row)).collect::<Result<_, _>>()?;
        Ok(Listing { epoch, records })
    }

    /// All rows of a kind, which are those that the epoch accounts for.
    async fn accounted(&self, kind: Kind) -> Result<(Epoch, Vec<Row>), StoreError> {
        let seen = self.seen.load(Ordering::Acquire);
        let Snapshot { epoch, rows } = self.store.rows(kind, self.epoch_id).await?;
        let epoch = self.read_epoch(epoch, seen)?;
        let mut account = Account::default();
        for row in &rows {
            account.add(&self.barrier.print(kind, &row.id, &place(row.version), &row.sealed))?;
        }
        // A row that is given twice would cancel itself out of the sum.
        let ascending = rows.is_sorted_by(|one, next| one.id < next.id);
        if ascending && account == epoch.account(kind) {
            return Ok((epoch, rows));
        }
        // Tell a row that was altered from one that is missing or old.
        rows.iter().filter(|_| kind != Kind::Seals).try_for_each(|row| self.open_row(kind, row).map(drop))?;
        Err(StoreError::Corrupt(Corruption::Account))
    }

    fn open_row(&self, kind: Kind, row: &Row) -> Result<Record, StoreError> {
        let opened = self.barrier.open(kind, &row.id, &place(row.version), &row.sealed);
        let record = Record::parse(&opened.map_err(|_| StoreError::Corrupt(Corruption::Row))?, row.version)?;
        // Holds for whatever was sealed here; a slip of ours must not go unnoticed.
        if self.barrier.id(kind, record.name.as_bytes()) != row.id {
            return Err(StoreError::Corrupt(Corruption::Row));
        }
        Ok(record)
    }

    /// Does all of `changes` or none, and gives the epoch that follows. Records of the same change are different ones.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a record is not of the version expected: read it again and decide again. After others, see
    /// [`StoreError::outcome_is_unknown`].
    pub async fn change(&self, changes: &[Change<'_>]) -> Result<Epoch, StoreError> {
        if changes.len() > CHANGES_MAX {
            return Err(StoreError::TooLarge);
        }
        let writes = changes.iter().map(|change| self.seal(change)).collect::<Result<_, _>>()?;
        self.write(writes, |_| Ok(())).await
    }

    /// Notes how far the audit log of `instance` is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_log(&self, instance: &str, head: LogHead) -> Result<Epoch, StoreError> {
        self.write(Vec::new(), |epoch| epoch.note(instance, head)).await
    }

    fn seal(&self, change: &Change<'_>) -> Result<Write, StoreError> {
        match *change {
            Change::Put(record) => {
                let id = self.barrier.id(record.kind, record.name.as_bytes());
                let place = place(record.expected.wrapping_add(1));
                let sealed = self.barrier.seal(record.kind, &id, &place, &record.to_bytes()?)?;
                Ok(Write::Put { kind: record.kind, id, expected: record.expected, sealed })
            }
            Change::Remove { kind, name, expected } => {
                Ok(Write::Remove { kind, id: self.barrier.id(kind, name.as_bytes()), expected })
            }
        }
    }

    async fn write(
        &self,
        writes: Vec<Write>,
        further: impl Fn(&mut Epoch) -> Result<(), StoreError>,
    ) -> Result<Epoch, StoreError> {
        for tried in 0..TRIES {
            // Read first: whatever is read after it and does not fit it anymore makes the commit fail.
            let mut next = self.epoch().await?.next();
            for write in &writes {
                self.take_out(&mut next, write).await?;
                self.account(&mut next, write)?;
            }
            further(&mut next)?;
            let mut all = vec![self.epoch_write(&next)?];
            all.extend(writes.iter().cloned());
            match self.store.commit(all).await {
                Ok(()) => {
                    self.seen.fetch_max(next.generation(), Ordering::AcqRel);
                    return Ok(next);
                }
                Err(StoreError::Conflict) => {
                    let [jitter] = crypto::random_array::<1>()?;
                    tokio::time::sleep(Duration::from_micros(u64::from(jitter) * 50 * u64::from(tried + 1))).await;
                }
                Err(failed) => return Err(failed),
            }
        }
        Err(StoreError::Busy)
    }

    /// Takes the row that `write` replaces or removes out of the account.
    async fn take_out(&self, epoch: &mut Epoch, write: &Write) -> Result<(), StoreError> {
        let (Write::Put { kind, id, expected, .. } | Write::Remove { kind, id, expected }) = write;
        let row = self.store.row(*kind, *id).await?;
        if row.as_ref().map_or(0, |row| row.version) != *expected {
            return Err(StoreError::Conflict);
        }
        let Some(row) = row else { return Ok(()) };
        if *kind != Kind::Seals {
            self.open_row(*kind, &row)?;
        }
        epoch.account_mut(*kind).remove(&self.barrier.print(*kind, id, &place(row.version), &row.sealed))
    }

    /// Takes the row that `write` leaves into the account.
    fn account(&self, epoch: &mut Epoch, write: &Write) -> Result<(), StoreError> {
        match write {
            Write::Put { kind, id, expected, sealed } => {
                epoch.account_mut(*kind).add(&self.barrier.print(*kind, id, &place(expected.wrapping_add(1)), sealed))
            }
            Write::Remove { .. } => Ok(()),
        }
    }

    fn epoch_write(&self, epoch: &Epoch) -> Result<Write, StoreError> {
        let place = place(epoch.generation());
        let sealed = self.barrier.seal(Kind::Epoch, &self.epoch_id, &place, &epoch.to_bytes())?;
        Ok(Write::Put { kind: Kind::Epoch, id: self.epoch_id, expected: epoch.generation() - 1, sealed })
    }
}

/// A row of records is bound to its version.
fn place(version: u64) -> [u8; 8] {
    version.to_be_bytes()
}
