//! Opens a backup with shares of which some may be wrong, and tells which.
//!
//! A wrong share can have the right form, number and checksum. Only what comes out of it tells: so as many shares as it takes are tried
//! together, one choice after the other, until one opens the bundle. Of 16 shares there are 12,870 choices at the most.
//!
//! **Invariant:** a share is called wrong only beside others that opened the backup.

use std::collections::BTreeSet;

use super::{Backup, BackupRefused, RECIPIENTS_MAX, Restorable};
use crate::crypto;
use crate::custodian::seal::share::{self, Share};
use crate::secret::Secret;

/// What came out of a backup.
pub(in crate::custodian) struct Opened {
    pub(in crate::custodian) keks: Vec<Restorable>,
    /// Where the wrong ones stand among the shares that it was tried with.
    pub(in crate::custodian) wrong: Vec<usize>,
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
        for choice in (0..1_u32 << shares.len()).filter(|choice| choice.count_ones() == threshold) {
            let chosen: Vec<&Share> =
                (0..).zip(shares).filter(|(at, _)| choice >> at & 1 == 1).map(|one| *one.1).collect();
            // Two of one index are never combined.
            if let Some(key) = share::combine(chosen.iter().copied())
                && let Some(keks) = self.open_with(&key)
            {
                let is_wrong = |share: &Share| !fits(share, &chosen, &key);
                let wrong = (0..).zip(shares).filter(|(_, share)| is_wrong(share)).map(|(at, _)| at).collect();
                return Ok(Opened { keks, wrong });
            }
            tokio::task::yield_now().await;
        }
        Err(BackupRefused::NotAuthentic)
    }
}

/// Whether a share is of the secret that `chosen` gave: it gives it too, in the place of one of them.
fn fits(share: &Share, chosen: &[&Share], key: &Secret<32>) -> bool {
    let mut others = chosen.to_vec();
    let at = others.iter().position(|one| one.index() == share.index()).unwrap_or_default();
    others[at] = share;
    share::combine(others).is_some_and(|found| crypto::constant_time_eq(found.expose(), key.expose()))
}
