//! Opens a backup with shares of which some may be wrong, and tells which.
//!
//! A wrong share can have the right form, number and checksum. Only what comes out of it tells: so as many shares as it takes are tried
//! together, one choice after the other, until one opens the bundle. Of 16 shares there are 12,870 choices at the most.
//!
//! **Invariant:** what does not belong with the shares that opened the backup is told together with those: who is to be believed, two
//! officers who change theirs to fit each other can turn round.

use std::collections::BTreeSet;

use super::{Backup, BackupRefused, RECIPIENTS_MAX, Restorable, canonical_json};
use crate::crypto;
use crate::custodian::seal::share::{self, Share};
use crate::secret::Secret;

/// What came out of a backup.
pub(in crate::custodian) struct Opened {
    pub(in crate::custodian) keks: Vec<Restorable>,
    /// Where those stand, among the shares that it was tried with, that do not belong with the rest. The rest opened it.
    pub(in crate::custodian) stray: Vec<usize>,
}

impl Backup {
    /// Whether the share says that it is one of this backup's.
    pub(in crate::custodian) fn claims(&self, share: &Share) -> bool {
        self.note.seal_id() == Some(share.seal()) && (1..=self.note.recipients.len()).contains(&share.index().into())
    }

    /// # Errors
    /// [`BackupRefused::TooFewShares`], those of one index counted once.
    pub(in crate::custodian) fn need_enough(&self, shares: &[&Share]) -> Result<(), BackupRefused> {
        let indices: BTreeSet<u8> = shares.iter().map(|share| share.index()).collect();
        let (given, threshold) = (indices.len(), self.note.threshold);
        if given < usize::from(threshold) { Err(BackupRefused::TooFewShares { given, threshold }) } else { Ok(()) }
    }

    /// Opens it with those of `shares` that are right; there may be several of one index.
    ///
    /// # Errors
    /// [`BackupRefused::NotAuthentic`] when no choice of them opens it.
    pub(in crate::custodian) async fn open(&self, shares: &[&Share]) -> Result<Opened, BackupRefused> {
        let (shares, threshold) = (&shares[..shares.len().min(RECIPIENTS_MAX)], u32::from(self.note.threshold));
        let choices = || (0..1_u32 << shares.len()).filter(|choice| choice.count_ones() == threshold);
        let aad = canonical_json(&self.head);
        for choice in choices() {
            // Two of one index are never combined.
            let opened =
                share::combine(chosen(shares, choice)).and_then(|key| Some((self.open_with(&key, &aad)?, key)));
            if let Some((keks, key)) = opened {
                let mut together = belonging(shares, choice, &key);
                if together.len() < shares.len() {
                    // Others may give the same key, and be more.
                    for other in choices() {
                        if is_of(chosen(shares, other), &key) {
                            let others = belonging(shares, other, &key);
                            together = if others.len() > together.len() { others } else { together };
                        }
                        tokio::task::yield_now().await;
                    }
                }
                let stray = (0..shares.len()).filter(|at| !together.contains(at)).collect();
                return Ok(Opened { keks, stray });
            }
            tokio::task::yield_now().await;
        }
        Err(BackupRefused::NotAuthentic)
    }
}

/// Those whose bit is set.
fn chosen<'s>(shares: &[&'s Share], choice: u32) -> Vec<&'s Share> {
    (0..).zip(shares).filter(|(at, _)| choice >> at & 1 == 1).map(|(_, share)| *share).collect()
}

fn is_of<'s>(shares: impl IntoIterator<Item = &'s Share>, key: &Secret<32>) -> bool {
    share::combine(shares).is_some_and(|found| crypto::constant_time_eq(found.expose(), key.expose()))
}

/// Which shares lie on one polynomial with those of `choice`, which give `key`: each gives it too, in the place of one of them.
fn belonging(shares: &[&Share], choice: u32, key: &Secret<32>) -> Vec<usize> {
    let chosen = chosen(shares, choice);
    let belongs = |share: &Share| {
        let mut others = chosen.clone();
        let at = others.iter().position(|one| one.index() == share.index()).unwrap_or_default();
        others[at] = share;
        is_of(others, key)
    };
    (0..).zip(shares).filter(|(_, share)| belongs(share)).map(|(at, _)| at).collect()
}
