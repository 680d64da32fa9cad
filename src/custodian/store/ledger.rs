//! The branch ledger: every branch key that the custodian generated or rewrapped, with a backup copy of its wrapped form.
//!
//! A row's plaintext is `["claviger/2 ledger", id, KEK, KEK version, wrapped, context, generated, created]` in deterministic CBOR; in the
//! clear stand the ids of branch key and KEK, which tell no names, and the KEK version, to count by. Rows of before have
//! `["claviger/1 ledger", id, KEK, KEK version, wrapped, context hash, created]`.
//!
//! **Invariant:** rows are added and never changed. Each is authentic by itself; the ledger is not part of the epoch's account,
//! because every generated branch key would then wait for every other. That none was removed, nobody here notices; SECURITY.md says so.

use minicbor::decode::Decoder;

use crate::cbor::{self, NotCanonical};
use crate::crypto;
use crate::custodian::approval::json::{hex, unhex};
use crate::custody::context::BranchContext;
use crate::custody::wrapped::WrappedKey;
use crate::names::{BranchId, KekName, KekVersion};

use super::error::{Corruption, StoreError};
use super::sealed::SealedStore;
use super::{BRANCHES_MAX, BranchRow, Kind, RowId};

const LABEL: &str = "claviger/2 ledger";
const LABEL_1: &str = "claviger/1 ledger";

/// A branch key under one version of its KEK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The branch key.
    pub id: BranchId,
    /// The KEK that it is wrapped under.
    pub kek: KekName,
    /// Its wrapped form, with the KEK's version.
    pub wrapped: WrappedKey,
    /// What it is bound to.
    pub bound: Bound,
    /// When it was generated or rewrapped, in seconds since 1970.
    pub created_unix_s: i64,
}

/// What a branch key of the ledger is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// This context, and the KEK version that it was generated under: envelopes may have its wrapping under that one.
    To {
        /// The context.
        context: BranchContext,
        /// The KEK version.
        generated: KekVersion,
    },
    /// A context with bytes of this SHA-256: all that the entries of before tell.
    Hash([u8; 32]),
}

impl LedgerEntry {
    /// The context, if the entry tells it.
    pub fn context(&self) -> Option<&BranchContext> {
        match &self.bound {
            Bound::To { context, .. } => Some(context),
            Bound::Hash(_) => None,
        }
    }

    /// Whether it is bound to that context.
    pub fn is_bound_to(&self, context: &BranchContext) -> bool {
        match &self.bound {
            Bound::To { context: own, .. } => own == context,
            Bound::Hash(hash) => *hash == crypto::sha256(&context.to_bytes()),
        }
    }

    /// The KEK version that the branch key was generated under, as far as the entry tells.
    pub fn generated(&self) -> KekVersion {
        match &self.bound {
            Bound::To { generated, .. } => *generated,
            Bound::Hash(_) => self.wrapped.version(),
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        cbor::encode(|e| {
            match &self.bound {
                Bound::To { .. } => e.array(8)?.str(LABEL)?,
                Bound::Hash(_) => e.array(7)?.str(LABEL_1)?,
            };
            e.bytes(self.id.as_bytes())?.str(self.kek.as_str())?;
            e.u32(self.wrapped.version().number())?.bytes(self.wrapped.bytes())?;
            match &self.bound {
                Bound::To { context, generated } => e.bytes(&context.to_bytes())?.u32(generated.number())?,
                Bound::Hash(hash) => e.bytes(hash)?,
            };
            e.i64(self.created_unix_s)?;
            Ok(())
        })
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NotCanonical> {
        cbor::parse(bytes, Self::read, Self::to_bytes)
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, NotCanonical> {
        let is_whole = match (d.array()?, d.str()?) {
            (Some(8), LABEL) => true,
            (Some(7), LABEL_1) => false,
            _ => return Err(NotCanonical),
        };
        let id = BranchId::from_bytes(d.bytes()?.try_into().map_err(|_| NotCanonical)?);
        let kek = KekName::new(d.str()?).map_err(|_| NotCanonical)?;
        let version = KekVersion::new(d.u32()?).ok_or(NotCanonical)?;
        let wrapped = WrappedKey::new(version, d.bytes()?.to_vec()).map_err(|_| NotCanonical)?;
        let bound = if is_whole {
            let context = BranchContext::parse(d.bytes()?)?;
            let generated = KekVersion::new(d.u32()?).ok_or(NotCanonical)?;
            if context.id != id || generated > version {
                return Err(NotCanonical);
            }
            Bound::To { context, generated }
        } else {
            Bound::Hash(d.bytes()?.try_into().map_err(|_| NotCanonical)?)
        };
        Ok(Self { id, kek, wrapped, bound, created_unix_s: d.i64()? })
    }
}

/// Where the next page of the ledger starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub(super) RowId);

impl Cursor {
    /// As text: 64 hexadecimal digits.
    pub fn to_text(self) -> String {
        hex(self.0.as_bytes())
    }

    /// Reads what [`Cursor::to_text`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text).map(RowId::from_bytes).map(Self)
    }
}

impl SealedStore {
    /// Adds up to 1,000 entries, all or none. An entry of a branch key and KEK version that is there already is left as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn append_branches(&self, entries: &[LedgerEntry]) -> Result<(), StoreError> {
        if entries.len() > BRANCHES_MAX {
            return Err(StoreError::TooLarge);
        }
        let rows = entries.iter().map(|entry| self.seal_entry(entry)).collect::<Result<_, _>>()?;
        self.store.append_branches(rows).await
    }

    /// All entries of one branch key, by ascending KEK version.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn branch(&self, id: BranchId) -> Result<Vec<LedgerEntry>, StoreError> {
        let rows = self.store.branch(self.barrier.id(Kind::Branch, id.as_bytes())).await?;
        rows.iter().map(|row| self.open_entry(row)).collect()
    }

    /// How many entries there are under each version of a KEK, by ascending version.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_branches(&self, kek: &KekName) -> Result<Vec<(KekVersion, u64)>, StoreError> {
        let counts = self.store.count_branches(self.barrier.id(Kind::Kek, kek.as_str().as_bytes())).await?;
        let version = |number| KekVersion::new(number).ok_or(StoreError::Corrupt(Corruption::Row));
        counts.into_iter().map(|(number, count)| Ok((version(number)?, count))).collect()
    }

    pub(super) fn seal_entry(&self, entry: &LedgerEntry) -> Result<BranchRow, StoreError> {
        let id = self.barrier.id(Kind::Branch, entry.id.as_bytes());
        let kek = self.barrier.id(Kind::Kek, entry.kek.as_str().as_bytes());
        let kek_version = entry.wrapped.version().number();
        let sealed = self.barrier.seal(Kind::Branch, &id, &place(&kek, kek_version), &entry.to_bytes())?;
        Ok(BranchRow { id, kek, kek_version, sealed })
    }

    pub(super) fn open_entry(&self, row: &BranchRow) -> Result<LedgerEntry, StoreError> {
        let corrupt = StoreError::Corrupt(Corruption::Row);
        let opened = self.barrier.open(Kind::Branch, &row.id, &place(&row.kek, row.kek_version), &row.sealed);
        let Ok(entry) = opened.map_err(|_| NotCanonical).and_then(|bytes| LedgerEntry::parse(&bytes)) else {
            return Err(corrupt);
        };
        if entry.wrapped.version().number() == row.kek_version { Ok(entry) } else { Err(corrupt) }
    }
}

/// An entry is bound to its KEK and version.
fn place(kek: &RowId, kek_version: u32) -> Vec<u8> {
    [kek.as_bytes().as_slice(), &kek_version.to_be_bytes()].concat()
}
