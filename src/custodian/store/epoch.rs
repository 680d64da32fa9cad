//! The epoch: how far the store is, and what it must hold.
//!
//! One sealed row that every change to a record writes too. Its row version is the **generation**. It holds, for each kind of
//! record, how many rows there are and the sum (XOR) of their prints, which are keyed and never leave the custodian; whoever
//! alters the database can therefore neither remove a row nor put an older one in its place, except by putting back a whole
//! older store. That is what the generation is for: the audit log names it, and the log's heads are noted here in turn.
//!
//! `["claviger/1 epoch", [[kind, count, sum], …], [[instance, size, root], …]]` in deterministic CBOR, kinds and instances ascending.

use std::collections::BTreeMap;

use minicbor::decode::Decoder;

use crate::cbor::{self, NotCanonical};
use crate::crypto::constant_time_eq;

use super::error::{Corruption, StoreError};
use super::{Kind, ROWS_MAX};

const LABEL: &str = "claviger/1 epoch";
/// Most custodians that share a store.
const INSTANCES_MAX: usize = 64;
/// Most bytes of an instance's name.
const INSTANCE_MAX: usize = 256;

/// What must be there of one kind.
#[derive(Debug, Clone, Copy, Eq, Default)]
pub(super) struct Account {
    pub(super) count: u32,
    pub(super) sum: [u8; 32],
}

/// Prints are keyed, and their sum is held against rows that others may have written.
impl PartialEq for Account {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && constant_time_eq(&self.sum, &other.sum)
    }
}

impl Account {
    fn toggle(&mut self, print: &[u8; 32]) {
        self.sum.iter_mut().zip(print).for_each(|(sum, print)| *sum ^= print);
    }

    pub(super) fn add(&mut self, print: &[u8; 32]) -> Result<(), StoreError> {
        self.count += 1;
        self.toggle(print);
        if usize::try_from(self.count).is_ok_and(|count| count <= ROWS_MAX) {
            Ok(())
        } else {
            Err(StoreError::TooLarge)
        }
    }

    pub(super) fn remove(&mut self, print: &[u8; 32]) -> Result<(), StoreError> {
        self.count = self.count.checked_sub(1).ok_or(StoreError::Corrupt(Corruption::Account))?;
        self.toggle(print);
        Ok(())
    }
}

/// The head of an audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHead {
    /// How many entries it has.
    pub size: u64,
    /// The root hash of its Merkle tree at that size.
    pub root: [u8; 32],
}

/// What an instance's own audit log tells, to be held against the store.
pub struct LogEvidence<'a> {
    /// The highest generation that an entry names.
    pub generation: u64,
    /// How many entries the log has.
    pub size: u64,
    /// The root hash of the log's first so many entries; `None` if it cannot be told.
    pub root_at: &'a dyn Fn(u64) -> Option<[u8; 32]>,
}

/// What store and log say of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against either.
    Agree,
    /// The log knows a later generation: the store was put back to an older state.
    StoreIsOld {
        /// The generation of the store.
        store: u64,
        /// The generation that the log names.
        log: u64,
    },
    /// The store knows a longer log: the log was cut or put back.
    LogIsShort {
        /// Entries that the store knows of.
        store: u64,
        /// Entries of the log.
        log: u64,
    },
    /// The log's first entries are not those that the store knows: it is another log, or was rewritten.
    LogDiffers {
        /// So many entries.
        size: u64,
    },
}

/// How far the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    generation: u64,
    accounts: BTreeMap<Kind, Account>,
    heads: BTreeMap<String, LogHead>,
}

impl Epoch {
    /// Of an empty store.
    pub(super) fn start() -> Self {
        Self { generation: 1, accounts: BTreeMap::new(), heads: BTreeMap::new() }
    }

    /// Grows by one with every change. A change is to be named in the audit log by the generation *before* it, so that a log that
    /// names one is never ahead of a store that was stopped in between.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The head of that instance's audit log, as last noted with [`SealedStore::note_log`](super::SealedStore::note_log).
    pub fn log_head(&self, instance: &str) -> Option<LogHead> {
        self.heads.get(instance).copied()
    }

    /// Holds the audit log of `instance` against the store.
    pub fn judge(&self, instance: &str, log: &LogEvidence<'_>) -> Verdict {
        if log.generation > self.generation {
            return Verdict::StoreIsOld { store: self.generation, log: log.generation };
        }
        let Some(known) = self.log_head(instance) else { return Verdict::Agree };
        if known.size > log.size {
            return Verdict::LogIsShort { store: known.size, log: log.size };
        }
        if (log.root_at)(known.size) == Some(known.root) {
            Verdict::Agree
        } else {
            Verdict::LogDiffers { size: known.size }
        }
    }

    pub(super) fn account(&self, kind: Kind) -> Account {
        self.accounts.get(&kind).copied().unwrap_or_default()
    }

    pub(super) fn account_mut(&mut self, kind: Kind) -> &mut Account {
        self.accounts.entry(kind).or_default()
    }

    /// The epoch after this one, to be changed further and written.
    pub(super) fn next(&self) -> Self {
        Self { generation: self.generation + 1, ..self.clone() }
    }

    pub(super) fn note(&mut self, instance: &str, head: LogHead) -> Result<(), StoreError> {
        self.heads.insert(instance.to_owned(), head);
        let fits = self.heads.len() <= INSTANCES_MAX && (1..=INSTANCE_MAX).contains(&instance.len());
        if fits { Ok(()) } else { Err(StoreError::TooLarge) }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let accounts = || self.accounts.iter().filter(|(_, account)| **account != Account::default());
        cbor::encode(|e| {
            e.array(3)?.str(LABEL)?.array(accounts().count() as u64)?;
            for (kind, account) in accounts() {
                e.array(3)?.str(kind.as_str())?.u32(account.count)?.bytes(&account.sum)?;
            }
            e.array(self.heads.len() as u64)?;
            for (instance, head) in &self.heads {
                e.array(3)?.str(instance)?.u64(head.size)?.bytes(&head.root)?;
            }
            Ok(())
        })
    }

    pub(super) fn parse(bytes: &[u8], generation: u64) -> Result<Self, StoreError> {
        let read = cbor::parse(bytes, |d| read(d, generation), Self::to_bytes);
        read.map_err(|_| StoreError::Corrupt(Corruption::Epoch))
    }
}

fn hash(d: &mut Decoder<'_>) -> Result<[u8; 32], NotCanonical> {
    d.bytes()?.try_into().map_err(|_| NotCanonical)
}

fn triples(d: &mut Decoder<'_>) -> Result<u64, NotCanonical> {
    d.array()?.ok_or(NotCanonical)
}

fn read(d: &mut Decoder<'_>, generation: u64) -> Result<Epoch, NotCanonical> {
    if d.array()? != Some(3) || d.str()? != LABEL {
        return Err(NotCanonical);
    }
    let (mut accounts, mut heads) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..triples(d)? {
        if d.array()? != Some(3) {
            return Err(NotCanonical);
        }
        let name = d.str()?;
        let kind = Kind::ACCOUNTED.into_iter().find(|kind| kind.as_str() == name).ok_or(NotCanonical)?;
        accounts.insert(kind, Account { count: d.u32()?, sum: hash(d)? });
    }
    for _ in 0..triples(d)? {
        if d.array()? != Some(3) {
            return Err(NotCanonical);
        }
        let instance = d.str()?.to_owned();
        heads.insert(instance, LogHead { size: d.u64()?, root: hash(d)? });
    }
    Ok(Epoch { generation, accounts, heads })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch() -> Epoch {
        let mut epoch = Epoch { generation: 10, ..Epoch::start() };
        epoch.account_mut(Kind::Kek).add(&[1; 32]).expect("fits");
        epoch.account_mut(Kind::Grant).add(&[2; 32]).expect("fits");
        epoch.note("custodian-1", LogHead { size: 100, root: [7; 32] }).expect("fits");
        epoch
    }

    #[test]
    fn an_epoch_comes_back_and_nothing_else_parses() {
        let bytes = epoch().to_bytes();
        assert_eq!(Epoch::parse(&bytes, 10).expect("parses"), epoch());
        for cut in 0..bytes.len() {
            assert!(Epoch::parse(&bytes[..cut], 10).is_err(), "cut at {cut}");
        }
        // A length of 2^64 - 1 must not be believed.
        let long = [b"\x83\x70claviger/1 epoch\x9b".as_slice(), &[0xff; 8]].concat();
        assert!(Epoch::parse(&long, 10).is_err());
    }

    #[test]
    fn accounts_tell_sets_of_rows_apart() {
        let mut account = Account::default();
        account.add(&[1; 32]).expect("fits");
        account.add(&[2; 32]).expect("fits");
        let both = account;
        account.remove(&[1; 32]).expect("is there");
        assert_ne!(account, both);
        account.add(&[1; 32]).expect("fits");
        assert_eq!(account, both);
        assert!(Account::default().remove(&[1; 32]).is_err());
    }

    #[test]
    fn store_and_log_are_held_against_each_other() {
        let epoch = epoch();
        let root_at = |size| (size == 100).then_some([7; 32]);
        let log = |generation, size| LogEvidence { generation, size, root_at: &root_at };
        assert_eq!(epoch.judge("custodian-1", &log(10, 100)), Verdict::Agree);
        assert_eq!(epoch.judge("custodian-1", &log(9, 150)), Verdict::Agree);
        assert_eq!(epoch.judge("custodian-1", &log(11, 150)), Verdict::StoreIsOld { store: 10, log: 11 });
        assert_eq!(epoch.judge("custodian-1", &log(10, 99)), Verdict::LogIsShort { store: 100, log: 99 });
        let other = LogEvidence { generation: 10, size: 150, root_at: &|_| Some([8; 32]) };
        assert_eq!(epoch.judge("custodian-1", &other), Verdict::LogDiffers { size: 100 });
        assert_eq!(epoch.judge("custodian-2", &log(10, 0)), Verdict::Agree, "a new instance");
    }

    #[test]
    fn instances_are_bounded() {
        let mut epoch = epoch();
        let head = LogHead { size: 0, root: [0; 32] };
        let full = (0..INSTANCES_MAX).map(|n| epoch.note(&n.to_string(), head)).filter(Result::is_err).count();
        assert_eq!(full, 1);
        assert!(Epoch::start().note("", head).is_err());
        assert!(Epoch::start().note(&"i".repeat(INSTANCE_MAX + 1), head).is_err());
    }
}
