//! The keyring in the custodian's store: one record for each KEK, so that two custodians change different KEKs side by side, and of
//! two that change the same one, one is told.

use std::collections::BTreeMap;

use crate::custodian::barrier::Kind;
use crate::custodian::store::{Change, Corruption, Epoch, NewRecord, SealedStore, StoreError};
use crate::names::KekName;

use super::Keyring;

/// A keyring as it was read from the store.
pub struct StoredKeyring {
    /// The KEKs.
    pub keyring: Keyring,
    /// The version of each KEK's record, for [`Keyring::save_kek`].
    pub records: BTreeMap<KekName, u64>,
    /// The epoch that it was read at.
    pub epoch: Epoch,
}

impl Keyring {
    /// Reads all KEKs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load(store: &SealedStore) -> Result<StoredKeyring, StoreError> {
        let listing = store.list(Kind::Kek).await?;
        let (mut keyring, mut records) = (Self::default(), BTreeMap::new());
        for record in &listing.records {
            let name = keyring.take_in(&record.name, &record.body)?;
            records.insert(name, record.version);
        }
        Ok(StoredKeyring { keyring, records, epoch: listing.epoch })
    }

    /// Reads one KEK again, as after a [`StoreError::Conflict`], and gives the version of its record; 0 if it is not there any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reload_kek(&mut self, store: &SealedStore, name: &KekName) -> Result<u64, StoreError> {
        let Some(record) = store.get(Kind::Kek, name.as_str()).await? else {
            self.keks.remove(name);
            return Ok(0);
        };
        self.take_in(name.as_str(), &record.body)?;
        Ok(record.version)
    }

    /// Writes one KEK. `expected` is the version that its record has, 0 if it has none yet; it is one more afterwards. A KEK that is
    /// not in the keyring is removed from the store.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another custodian changed it: reload it and change it again. [`StoreError`].
    pub async fn save_kek(&self, store: &SealedStore, name: &KekName, expected: u64) -> Result<Epoch, StoreError> {
        let body = self.kek_to_bytes(name);
        let name = name.as_str();
        let change = match &body {
            Some(body) => {
                Change::Put(NewRecord { kind: Kind::Kek, name, expected, state: 0, expires_unix_s: None, body })
            }
            None => Change::Remove { kind: Kind::Kek, name, expected },
        };
        store.change(&[change]).await
    }

    fn take_in(&mut self, name: &str, body: &[u8]) -> Result<KekName, StoreError> {
        let inserted = self.insert_kek(body).ok().filter(|inserted| inserted.as_str() == name);
        inserted.ok_or(StoreError::Corrupt(Corruption::Row))
    }
}
