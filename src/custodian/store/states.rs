//! Branch keys as a whole: all wrappings that the ledger has of each, and from which sites which of them was read back.
//!
//! A confirmation's plaintext is `["claviger/1 confirmation", id, site, KEK version, when]` in deterministic CBOR. Unlike the ledger's
//! rows it is replaced and removed: the last word about a site counts. Whoever writes the database can put an older one back,
//! of the same version and site: that bytes were there then, and not that they still are. Retiring asks for those of a late moment.

use std::collections::BTreeMap;

use minicbor::decode::Decoder;

use crate::cbor::{self, NotCanonical};
use crate::custody::context::BranchContext;
use crate::names::{BranchId, KekName, KekVersion};

use super::error::{Corruption, StoreError};
use super::ledger::{Cursor, LedgerEntry};
use super::sealed::SealedStore;
use super::{BRANCHES_MAX, ConfirmationRow, ConfirmationWrite, Kind, RowId, WhichBranches};

const LABEL: &str = "claviger/1 confirmation";
/// Most sites.
pub const SITES_MAX: usize = 16;
/// Most bytes of a site's name.
pub const SITE_LEN_MAX: usize = 64;

/// That a branch key's wrapping was read back from a site and opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation {
    /// The KEK version of the wrapping.
    pub version: KekVersion,
    /// When, in seconds since 1970.
    pub at_unix_s: i64,
}

/// A branch key.
#[derive(Debug, Clone)]
pub struct BranchState {
    /// Its id.
    pub id: BranchId,
    /// What the ledger has of it, by ascending KEK version; never empty.
    pub entries: Vec<LedgerEntry>,
    /// What was read back, by site.
    pub confirmed: BTreeMap<String, Confirmation>,
}

/// Some branch keys.
#[derive(Debug)]
pub struct StatePage {
    /// The branch keys, in no order that means anything.
    pub branches: Vec<BranchState>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

impl BranchState {
    /// Its newest wrapping.
    pub fn newest(&self) -> &LedgerEntry {
        self.entries.last().expect("never empty")
    }

    /// The KEK version that it was generated under.
    pub fn generated(&self) -> KekVersion {
        self.entries.iter().map(LedgerEntry::generated).min().expect("never empty")
    }

    /// When it came into the ledger, in seconds since 1970.
    pub fn created_unix_s(&self) -> i64 {
        self.entries.iter().map(|entry| entry.created_unix_s).min().expect("never empty")
    }

    /// What it is bound to, if the ledger tells.
    pub fn context(&self) -> Option<&BranchContext> {
        self.entries.iter().find_map(LedgerEntry::context)
    }

    /// The oldest KEK version that it still hangs on: at each site, that of what was read back there, or else that it was generated under.
    pub fn needs(&self, sites: &[String]) -> KekVersion {
        let at = |site: &String| self.confirmed.get(site).map_or(self.generated(), |found| found.version);
        sites.iter().map(at).min().unwrap_or(self.generated())
    }
}

impl SealedStore {
    /// Some of a KEK's branch keys. What is added while reading may be missed: read again for what must not be.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn branch_states(&self, kek: &KekName, from: Option<Cursor>) -> Result<StatePage, StoreError> {
        let which = WhichBranches::After(from.map(|Cursor(after)| after));
        let (branches, next) = self.read_states(kek, which).await?;
        Ok(StatePage { branches, next: next.map(Cursor) })
    }

    /// Those of up to 1,000 branch keys that the ledger knows under this KEK.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn branch_states_of(&self, kek: &KekName, ids: &[BranchId]) -> Result<Vec<BranchState>, StoreError> {
        if ids.len() > BRANCHES_MAX {
            return Err(StoreError::TooLarge);
        }
        let ids = ids.iter().map(|id| self.barrier.id(Kind::Branch, id.as_bytes())).collect();
        Ok(self.read_states(kek, WhichBranches::These(ids)).await?.0)
    }

    /// Where a listing goes on after a branch key.
    pub fn cursor_of(&self, id: BranchId) -> Cursor {
        Cursor(self.barrier.id(Kind::Branch, id.as_bytes()))
    }

    async fn read_states(
        &self,
        kek: &KekName,
        which: WhichBranches,
    ) -> Result<(Vec<BranchState>, Option<RowId>), StoreError> {
        let kek = self.barrier.id(Kind::Kek, kek.as_str().as_bytes());
        let found = self.store.branch_rows(kek, which).await?;
        let mut states: BTreeMap<RowId, BranchState> = BTreeMap::new();
        for row in found.rows.iter().filter(|row| row.kek == kek) {
            let entry = self.open_entry(row)?;
            let fresh = || BranchState { id: entry.id, entries: Vec::new(), confirmed: BTreeMap::new() };
            states.entry(row.id).or_insert_with(fresh).entries.push(entry.clone());
        }
        for row in &found.confirmations {
            // One without a branch key says nothing about any.
            let Some(state) = states.get_mut(&row.id) else { continue };
            let (site, confirmation) = self.open_confirmation(kek, state.id, row)?;
            state.confirmed.insert(site, confirmation);
        }
        let mut states: Vec<BranchState> = states.into_values().collect();
        states.iter_mut().for_each(|state| state.entries.sort_by_key(|entry| entry.wrapped.version()));
        Ok((states, found.next))
    }

    /// Notes what was read back from `site`, of up to 1,000 branch keys; `None` that it is not there any more. All or none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn confirm_branches(
        &self,
        kek: &KekName,
        site: &str,
        found: &[(BranchId, Option<Confirmation>)],
    ) -> Result<(), StoreError> {
        if found.len() > BRANCHES_MAX || site.len() > SITE_LEN_MAX {
            return Err(StoreError::TooLarge);
        }
        let kek = self.barrier.id(Kind::Kek, kek.as_str().as_bytes());
        let site_id = self.barrier.id(Kind::Confirmation, site.as_bytes());
        let write = |(id, confirmation): &(BranchId, Option<Confirmation>)| {
            let row = self.barrier.id(Kind::Branch, id.as_bytes());
            let Some(confirmation) = confirmation else { return Ok(ConfirmationWrite::Remove { id: row }) };
            let kek_version = confirmation.version.number();
            let place = place(&kek, &site_id, kek_version);
            let plaintext = to_bytes(*id, site, *confirmation);
            let sealed = self.barrier.seal(Kind::Confirmation, &row, &place, &plaintext)?;
            Ok(ConfirmationWrite::Put { id: row, kek_version, sealed })
        };
        let writes = found.iter().map(write).collect::<Result<_, StoreError>>()?;
        self.store.confirm(kek, site_id, writes).await
    }

    fn open_confirmation(
        &self,
        kek: RowId,
        id: BranchId,
        row: &ConfirmationRow,
    ) -> Result<(String, Confirmation), StoreError> {
        let place = place(&kek, &row.site, row.kek_version);
        let opened = self.barrier.open(Kind::Confirmation, &row.id, &place, &row.sealed);
        let read = opened.map_err(|_| NotCanonical).and_then(|bytes| parse(&bytes));
        match read {
            Ok((of, site, confirmation)) if of == id && confirmation.version.number() == row.kek_version => {
                Ok((site, confirmation))
            }
            _ => Err(StoreError::Corrupt(Corruption::Row)),
        }
    }
}

pub(super) fn to_bytes(id: BranchId, site: &str, confirmation: Confirmation) -> Vec<u8> {
    cbor::encode(|e| {
        e.array(5)?.str(LABEL)?.bytes(id.as_bytes())?.str(site)?;
        e.u32(confirmation.version.number())?.i64(confirmation.at_unix_s)?;
        Ok(())
    })
}

pub(super) fn parse(bytes: &[u8]) -> Result<(BranchId, String, Confirmation), NotCanonical> {
    let read = |d: &mut Decoder<'_>| {
        if d.array()? != Some(5) || d.str()? != LABEL {
            return Err(NotCanonical);
        }
        let id = BranchId::from_bytes(d.bytes()?.try_into().map_err(|_| NotCanonical)?);
        let site = d.str()?.to_owned();
        let version = KekVersion::new(d.u32()?).ok_or(NotCanonical)?;
        Ok((id, site, Confirmation { version, at_unix_s: d.i64()? }))
    };
    cbor::parse(bytes, read, |(id, site, confirmation)| to_bytes(*id, site, *confirmation))
}

/// A confirmation is bound to KEK, site and version.
fn place(kek: &RowId, site: &RowId, kek_version: u32) -> Vec<u8> {
    [kek.as_bytes().as_slice(), site.as_bytes(), &kek_version.to_be_bytes()].concat()
}
