//! Shares of a backup, each sent by the officer who has it, until they are enough: so that nobody has to collect them in the open.
//!
//! **Invariant:** a share is taken only for a restoring that was approved, kept in zeroized memory of this custodian alone, never given
//! out, and dropped when the restoring was done or its approval has ended.

use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::custodian::audit::{Action, Details, Use};
use crate::custodian::backup::{Backup, BackupRefused, RECIPIENTS_MAX};
use crate::custodian::identity::SpiffeId;
use crate::custodian::requester::Requester;
use crate::custodian::seal::share::Share;

use super::super::gate::{Gate, Gated};
use super::super::refresh::View;
use super::super::{Done, Engine, EngineError, GatedCall};

/// Most restorings for which shares are kept at a time.
const RESTORINGS_MAX: usize = 8;

/// Who sent which: one of each officer, but of each index as many as were sent, since not all need be right.
pub(super) type Sent = Vec<(SpiffeId, Arc<Share>)>;

/// Shares, by the call that is to be carried out with them.
#[derive(Default)]
pub(in crate::custodian::engine) struct HeldShares {
    held: Mutex<Vec<(GatedCall, Sent)>>,
    /// Held while shares are tried.
    opening: tokio::sync::Mutex<()>,
}

impl HeldShares {
    /// Leave to try shares, which one has at a time.
    pub(super) async fn opening(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.opening.lock().await
    }

    /// Keeps an officer's share in the place of an earlier one, and gives how many there are.
    fn keep(&self, call: &GatedCall, who: &SpiffeId, share: Share) -> Option<usize> {
        let mut all = self.held.lock().expect("nobody panics while holding it");
        let at = match all.iter().position(|(of, _)| of == call) {
            Some(at) => at,
            None if all.len() >= RESTORINGS_MAX => return None,
            None => {
                all.push((call.clone(), Vec::new()));
                all.len() - 1
            }
        };
        let sent = &mut all[at].1;
        sent.retain(|(officer, _)| officer != who);
        if sent.len() >= RECIPIENTS_MAX {
            return None;
        }
        sent.push((who.clone(), Arc::new(share)));
        Some(sent.len())
    }

    /// Those that say that they are of this backup.
    fn of(&self, call: &GatedCall, backup: &Backup) -> Sent {
        let all = self.held.lock().expect("nobody panics while holding it");
        let sent = all.iter().filter(|(of, _)| of == call).flat_map(|(_, sent)| sent);
        sent.filter(|(_, share)| backup.claims(share)).cloned().collect()
    }

    fn retain(&self, keeps: impl Fn(&GatedCall) -> bool) {
        self.held.lock().expect("nobody panics while holding it").retain(|(call, _)| keeps(call));
    }
}

impl Engine {
    /// Takes an officer's share for the restoring `call`, once that was approved, and gives how many there are.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn give_share(&self, who: &Requester, share: &str, call: &GatedCall) -> Result<Done<usize>, EngineError> {
        self.fresh()?;
        let view = self.newest().await?;
        let what = Use::of_custodian(Action::GiveShare);
        let verdict = self.decide(&view, who, &what, None);
        let share = Share::parse(share);
        let index = share.as_ref().ok().map(Share::index);
        let approved = self.approved_restoring(&view, call);
        let detail = json!({ "restoring": call.body, "share": index, "approved": approved.is_some() });
        let more =
            Details { proposal: approved.clone(), detail: Some(detail), ..Details::at(view.snapshot.generation) };
        let (_, receipt) = self.permit(who, &what, &verdict, more).await?;
        approved.ok_or(BackupRefused::NotApproved)?;
        let share = share.map_err(|_| BackupRefused::Share(1))?;
        self.drop_stale_shares(&view);
        let value = self.shares.keep(call, &who.id, share).ok_or(EngineError::TooMany)?;
        Ok(Done { value, receipt, existed: false })
    }

    /// The proposal that carries it, whoever's it is.
    fn approved_restoring(&self, view: &View, call: &GatedCall) -> Option<String> {
        let gated = Gated { call, requester: None, kek: None, version: None, since_unix_s: None };
        match self.gate(view, gated) {
            Gate::Open(approved) => Some(approved.id()),
            Gate::Closed(_) => None,
        }
    }

    /// What officers sent for this restoring.
    pub(super) fn sent_shares(&self, call: &GatedCall, backup: &Backup) -> Sent {
        self.shares.of(call, backup)
    }

    /// Drops the shares of a restoring that was carried out.
    pub(super) fn drop_shares(&self, call: &GatedCall) {
        self.shares.retain(|of| of != call);
    }

    /// Drops what nobody has leave to use any more.
    pub(in crate::custodian::engine) fn drop_stale_shares(&self, view: &View) {
        self.shares.retain(|call| self.approved_restoring(view, call).is_some());
    }
}
