//! KEKs as a whole: made, shown, changed, switched off and on.
//!
//! Each change reads the record, decides, writes the decision down, changes a copy and saves it if nobody else changed the record
//! meanwhile; otherwise it begins again.

use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::crypto;
use crate::custodian::approval::ProposalDocument;
use crate::custodian::audit::{Action, Decision, Details, Permit, Use};
use crate::custodian::barrier::Kind;
use crate::custodian::destruction::DestructionRefused;
use crate::custodian::kek::{Kek, KekInfo, KeyChange, KeyOptions, KeyringError, Labels};
use crate::custodian::requester::Requester;
use crate::custodian::store::{Corruption, Record, StoreError};
use crate::names::{KekName, KekVersion};

use super::census;
use super::decide::allowed_itself;
use super::destruction::Spares;
use super::edit::{Edit, Item};
use super::gate::{Gate, Gated};
use super::refresh::View;
use super::snapshot::parse_kek;
use super::{Done, Engine, EngineError, GatedCall};

/// Most KEKs of one custodian.
pub const KEKS_MAX: usize = 10_000;
/// How often it is looked whether a KEK is due for rotation.
const ROTATION_INTERVAL: Duration = Duration::from_secs(60);
/// How often a change is tried when others get in between.
const TRIES: u32 = 20;

/// A change that is asked for.
struct Ask<'a> {
    action: Action,
    /// As it came, where it may have to be approved.
    call: Option<&'a GatedCall>,
    /// What the log is to tell of it.
    detail: Option<Value>,
    /// Whether it takes something away, so that a store without it is not to be believed.
    narrows: bool,
    /// The version that would be the oldest to be opened, if it is to be changed.
    min_decryption: Option<u32>,
    /// Which destruction must not be under way.
    spares: Option<Spares>,
}

impl<'a> Ask<'a> {
    fn of(action: Action) -> Self {
        Self { action, call: None, detail: None, narrows: false, min_decryption: None, spares: None }
    }

    fn gated(action: Action, call: &'a GatedCall) -> Self {
        Self { call: Some(call), ..Self::of(action) }
    }

    fn narrowing(self) -> Self {
        Self { narrows: true, ..self }
    }
}

impl Engine {
    /// Makes a KEK. One that exists is left as it is and told about. One that lets the key out has to be approved.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn create(
        &self,
        who: &Requester,
        name: &KekName,
        options: KeyOptions,
        call: &GatedCall,
    ) -> Result<Done<KekInfo>, EngineError> {
        let labels = options.labels.with_defaults(&self.settings.default_labels)?;
        let options = KeyOptions { labels, ..options };
        Tries::until_settled(|| self.try_create(who, name, &options, call)).await
    }

    async fn try_create(
        &self,
        who: &Requester,
        name: &KekName,
        options: &KeyOptions,
        call: &GatedCall,
    ) -> Result<Done<KekInfo>, EngineError> {
        let mut view = self.fresh()?;
        let found = self.read_kek(name).await?;
        if found.is_none() {
            // After the KEK was looked for: what erases it leaves the tombstone with the same change.
            view = self.newest().await?;
        }
        let destroyed = found.is_none() && view.is_destroyed(name);
        let labels = found.as_ref().map_or(&options.labels, |(kek, _)| kek.labels());
        let what = Use::of_kek(Action::Create, name, Some(KekVersion::FIRST), labels);
        let verdict = self.decide(&view, who, &what, None);
        let mut approved = None;
        if options.is_grave() && found.is_none() && !destroyed && verdict.decision == Decision::Allow {
            view = self.newest().await?;
            let gated = Gated {
                call,
                requester: Some(&who.id),
                kek: Some(name),
                version: Some(KekVersion::FIRST),
                since_unix_s: None,
            };
            match self.gate(&view, gated) {
                Gate::Open(open) => approved = Some(open),
                Gate::Closed(_) => return Err(self.refuse_unapproved(who, &what, &verdict, gated).await),
            }
        }
        let (generation, proposal) = (view.snapshot.generation, approved.as_ref().map(|approved| approved.id()));
        let more = Details { generation, proposal, detail: Some(options_to_json(options)) };
        let (permit, receipt) = self.permit(who, &what, &verdict, more).await?;
        if let Some((kek, _)) = found {
            return Ok(Done { value: kek.info(name), receipt, existed: true });
        }
        if destroyed {
            return Err(DestructionRefused::Destroyed.into());
        }
        if view.snapshot.keks.len() >= KEKS_MAX {
            return Err(KeyringError::TooMany.into());
        }
        let now = self.clock.now_unix_s();
        let kek = Kek::create(options, now, permit)?;
        let info = kek.info(name);
        let mut edits = vec![Edit { expected: 0, item: Item::Kek(name.clone(), Some(kek)) }];
        edits.extend(approved.map(|approved| approved.execute(now)).transpose()?);
        self.commit(edits).await?;
        Ok(Done { value: info, receipt, existed: false })
    }

    /// What may be told about a KEK.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn key(&self, who: &Requester, name: &KekName) -> Result<Done<KekInfo>, EngineError> {
        let view = self.fresh()?;
        let stored = view.snapshot.keks.get(name);
        let none = Labels::default();
        let what = Use::of_kek(Action::Read, name, None, stored.map_or(&none, |stored| stored.value.labels()));
        let verdict = self.decide(&view, who, &what, None);
        let (_, receipt) = self.permit(who, &what, &verdict, Details::at(view.snapshot.generation)).await?;
        let mut info = stored.ok_or(KeyringError::Unknown)?.value.info(name);
        info.disabled |= view.is_stopped(name);
        Ok(Done { value: info, receipt, existed: true })
    }

    /// The names of all KEKs, in order.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn keys(&self, who: &Requester) -> Result<Done<Vec<KekName>>, EngineError> {
        let receipt = self.authorise(who, Action::List, None).await?;
        let mut names: Vec<KekName> = self.running()?.snapshot.keks.keys().cloned().collect();
        names.sort();
        Ok(Done { value: names, receipt, existed: true })
    }

    /// Adds a version to a KEK.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn rotate(&self, who: &Requester, name: &KekName) -> Result<Done<KekVersion>, EngineError> {
        let rotate = |kek: &mut Kek, now, permit| kek.rotate(now, permit);
        self.change(who, name, &Ask::of(Action::Rotate), |_| false, rotate).await
    }

    /// Changes a KEK's settings. What makes old versions unreadable or lets the key out has to be approved.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn configure(
        &self,
        who: &Requester,
        name: &KekName,
        change: KeyChange,
        call: &GatedCall,
    ) -> Result<Done<KekInfo>, EngineError> {
        let (detail, narrows) = (Some(change_to_json(&change)), change.narrows());
        let min_decryption = change.min_decryption_version;
        let spares = min_decryption.map(Spares::Versions);
        let ask = Ask { detail, narrows, spares, min_decryption, ..Ask::gated(Action::Configure, call) };
        let configure = |kek: &mut Kek, _, permit| kek.configure(&change, permit).map(|()| kek.info(name));
        self.change(who, name, &ask, |kek| change.is_grave_for(kek), configure).await
    }

    /// Erases a KEK's versions before `min_available`, once that was approved.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn trim(
        &self,
        who: &Requester,
        name: &KekName,
        min_available: u32,
        call: &GatedCall,
    ) -> Result<Done<KekInfo>, EngineError> {
        let detail = Some(json!({ "min_available": min_available }));
        let ask = Ask { detail, ..Ask::gated(Action::Trim, call).narrowing() };
        let trim = |kek: &mut Kek, _, permit| kek.trim(min_available, permit).map(|()| kek.info(name));
        // Officers are not asked about what would be refused anyway.
        self.change(who, name, &ask, |kek| kek.trimmable(min_available).is_ok(), trim).await
    }

    /// Sets a KEK aside for deletion.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn soft_delete(&self, who: &Requester, name: &KekName) -> Result<Done<()>, EngineError> {
        let set_aside = |kek: &mut Kek, _, permit| {
            kek.set_soft_deleted(true, permit);
            Ok(())
        };
        self.change(who, name, &Ask::of(Action::SoftDelete).narrowing(), |_| false, set_aside).await
    }

    /// Takes that back.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn restore(&self, who: &Requester, name: &KekName) -> Result<Done<()>, EngineError> {
        let restore = |kek: &mut Kek, _, permit| {
            kek.set_soft_deleted(false, permit);
            Ok(())
        };
        self.change(who, name, &Ask::of(Action::Restore), |_| false, restore).await
    }

    /// Switches a KEK on again, once that was approved.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn enable(&self, who: &Requester, name: &KekName, call: &GatedCall) -> Result<Done<()>, EngineError> {
        let enable = |kek: &mut Kek, _, permit| {
            kek.set_disabled(false, permit);
            Ok(())
        };
        let ask = Ask { spares: Some(Spares::Whole), ..Ask::gated(Action::Enable, call) };
        // One that is on is left as it is, without a proposal that could be kept until it is off.
        let (was_off, through) = (AtomicBool::new(true), self.last_stop());
        let is_off = |kek: &Kek| {
            let is_off = kek.is_disabled() || self.view().is_stopped(name);
            was_off.store(is_off, Ordering::Relaxed);
            is_off
        };
        let done = self.change(who, name, &ask, is_off, enable).await?;
        if was_off.into_inner() {
            self.resume(Some(name), None, through);
        }
        Ok(done)
    }

    /// Takes it as given from now on that the ledger has every branch key of a KEK that came from a backup, once that was approved.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn declare_whole(
        &self,
        who: &Requester,
        name: &KekName,
        call: &GatedCall,
    ) -> Result<Done<()>, EngineError> {
        let declare = |kek: &mut Kek, _, permit| {
            kek.declare_whole(permit);
            Ok(())
        };
        let ask = Ask::gated(Action::RestoreBackup, call);
        self.change(who, name, &ask, |kek| kek.restored_through().is_some(), declare).await
    }

    /// Erases a KEK, once that was approved.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn delete(&self, who: &Requester, name: &KekName, call: &GatedCall) -> Result<Done<()>, EngineError> {
        let ask = Ask { spares: Some(Spares::Any), ..Ask::gated(Action::Delete, call) };
        Tries::until_settled(|| self.try_delete(who, name, &ask)).await
    }

    async fn try_delete(&self, who: &Requester, name: &KekName, ask: &Ask<'_>) -> Result<Done<()>, EngineError> {
        let Allowed { kek, version, what, permit: _, receipt, mut edits } =
            self.allow(who, name, ask, |kek| kek.deletable().is_ok()).await?;
        kek.deletable()?;
        edits.push(Edit { expected: version, item: Item::Kek(name.clone(), None) });
        self.commit_noted(&what, edits).await?;
        Ok(Done { value: (), receipt, existed: false })
    }

    /// Switches a KEK off. It is off here at once, also when that cannot be saved.
    ///
    /// # Errors
    /// [`EngineError`]; after [`EngineError::Store`] the KEK is off here until the custodian is started again.
    pub async fn disable(&self, who: &Requester, name: &KekName) -> Result<Done<()>, EngineError> {
        let mut view = self.running()?;
        if !view.snapshot.keks.contains_key(name) && self.look().await.is_ok() {
            view = self.running()?;
        }
        let (what, known) = disabling(&view, name);
        let verdict = self.decide(&view, who, &what, None);
        let generation = view.snapshot.generation;
        let (first, receipt) = self.permit(who, &what, &verdict, Details::at(generation)).await?;
        if !known {
            return Err(KeyringError::Unknown.into());
        }
        self.stop_kek(name);
        let (mut permit, mut tries) = (first, Tries::default());
        loop {
            match self.save_disabled(&what, name, permit).await {
                Err(failed) => tries.again(failed).await?,
                Ok(()) => return Ok(Done { value: (), receipt, existed: false }),
            }
            permit = self.permit(who, &what, &verdict, Details::at(generation)).await?.0;
        }
    }

    async fn save_disabled(&self, what: &Use, name: &KekName, permit: Permit) -> Result<(), EngineError> {
        let (mut kek, version) = self.read_kek(name).await?.ok_or(KeyringError::Unknown)?;
        kek.set_disabled(true, permit);
        let mut edits = vec![Edit { expected: version, item: Item::Kek(name.clone(), Some(kek)) }];
        self.withdraw(&mut edits, |document| is_to_enable(document, name)).await?;
        self.commit_noted(what, edits).await
    }

    /// Rotates what is due, at each interval until the engine is dropped.
    pub(super) async fn keep_rotating(engine: Weak<Self>) {
        loop {
            tokio::time::sleep(ROTATION_INTERVAL).await;
            let Some(engine) = engine.upgrade() else { return };
            engine.rotate_due().await;
        }
    }

    pub(super) async fn rotate_due(&self) {
        let Ok(view) = self.fresh() else { return };
        let now = self.clock.now_unix_s();
        let due = view.snapshot.keks.iter().filter(|(_, stored)| is_due(&stored.value, now));
        for name in due.map(|(name, _)| name) {
            let mut tries = Tries::default();
            while let Err(failed) = self.try_rotate_due(name).await {
                if let Err(failed) = tries.again(failed).await {
                    tracing::warn!(kek = name.as_str(), cause = %failed, "a KEK that is due could not be rotated");
                    break;
                }
            }
        }
    }

    async fn try_rotate_due(&self, name: &KekName) -> Result<(), EngineError> {
        let now = self.clock.now_unix_s();
        // Another custodian may have rotated it a moment ago.
        let found = self.read_kek(name).await?.filter(|(kek, _)| is_due(kek, now));
        let Some((mut kek, version)) = found else { return Ok(()) };
        let view = self.fresh()?;
        let what = Use::of_kek(Action::Rotate, name, Some(kek.latest()), kek.labels());
        let verdict = allowed_itself(view.snapshot.policy.value.hash());
        let more = Details::at(view.snapshot.generation);
        let (permit, _) = self.permit(&self.itself()?, &what, &verdict, more).await?;
        kek.rotate(now, permit)?;
        self.commit(vec![Edit { expected: version, item: Item::Kek(name.clone(), Some(kek)) }]).await?;
        Ok(())
    }

    /// Reads, decides, writes down, changes, saves; again while others get in between.
    async fn change<T>(
        &self,
        who: &Requester,
        name: &KekName,
        ask: &Ask<'_>,
        is_grave: impl Fn(&Kek) -> bool + Sync,
        apply: impl Fn(&mut Kek, i64, Permit) -> Result<T, KeyringError> + Sync,
    ) -> Result<Done<T>, EngineError> {
        Tries::until_settled(|| self.try_change(who, name, ask, &is_grave, &apply)).await
    }

    async fn try_change<T>(
        &self,
        who: &Requester,
        name: &KekName,
        ask: &Ask<'_>,
        is_grave: &(impl Fn(&Kek) -> bool + Sync),
        apply: &(impl Fn(&mut Kek, i64, Permit) -> Result<T, KeyringError> + Sync),
    ) -> Result<Done<T>, EngineError> {
        let Allowed { mut kek, version, what, permit, receipt, mut edits } =
            self.allow(who, name, ask, is_grave).await?;
        let value = apply(&mut kek, self.clock.now_unix_s(), permit)?;
        edits.push(Edit { expected: version, item: Item::Kek(name.clone(), Some(kek)) });
        if ask.action == Action::Enable {
            self.withdraw(&mut edits, |document| is_to_enable(document, name)).await?;
        }
        if ask.narrows {
            self.commit_noted(&what, edits).await?;
        } else {
            self.commit(edits).await?;
        }
        Ok(Done { value, receipt, existed: false })
    }

    /// Reads the KEK as it is now, and decides whether the change may be made to it.
    async fn allow(
        &self,
        who: &Requester,
        name: &KekName,
        ask: &Ask<'_>,
        is_grave: impl Fn(&Kek) -> bool + Sync,
    ) -> Result<Allowed, EngineError> {
        let mut view = self.fresh()?;
        let found = self.read_kek(name).await?;
        let mut under_way = false;
        if let Some(spares) = ask.spares {
            // After the KEK was read: what schedules a destruction changes the KEK with it, so that none is missed.
            view = self.newest().await?;
            under_way = view.is_under_way(name, spares);
        }
        let none = Labels::default();
        let (latest, labels) = found.as_ref().map_or((None, &none), |(kek, _)| (Some(kek.latest()), kek.labels()));
        let what = Use::of_kek(ask.action, name, latest, labels);
        let verdict = self.decide(&view, who, &what, None);
        let (mut approved, mut detail) = (None, ask.detail.clone());
        if let (Some((kek, _)), Decision::Allow) = (&found, verdict.decision) {
            if let Some(before) = census::retired_by(kek, ask.min_decryption) {
                self.may_retire(&view, who, &what, (name, kek), before).await?;
                if let Some(detail) = &mut detail {
                    detail["retire"] = self.settings.of_retiring();
                }
            }
            if ask.action == Action::Delete {
                self.may_delete(&view, who, &what, (name, kek)).await?;
            }
            if ask.action == Action::Trim {
                self.may_trim(&view, who, &what, (name, kek)).await?;
            }
        }
        let grave = !under_way && found.as_ref().is_some_and(|(kek, _)| is_grave(kek));
        if let (Some(call), true, Decision::Allow) = (ask.call, grave, verdict.decision) {
            view = self.newest().await?;
            let gated = Gated { call, requester: Some(&who.id), kek: Some(name), version: latest, since_unix_s: None };
            match self.gate(&view, gated) {
                Gate::Open(open) => approved = Some(open),
                Gate::Closed(_) => return Err(self.refuse_unapproved(who, &what, &verdict, gated).await),
            }
        }
        // What is refused below without having been approved changes nothing: its entry has no version.
        let gated = [Action::Trim, Action::Delete, Action::Enable, Action::RestoreBackup].contains(&ask.action);
        let changes = approved.is_some() || !gated;
        let what = Use { version: what.version.filter(|_| changes), ..what };
        let proposal = approved.as_ref().map(|approved| approved.id());
        let more = Details { generation: view.snapshot.generation, proposal, detail };
        let (permit, receipt) = self.permit(who, &what, &verdict, more).await?;
        let (kek, version) = found.ok_or(KeyringError::Unknown)?;
        if under_way {
            return Err(DestructionRefused::UnderWay.into());
        }
        let now = self.clock.now_unix_s();
        let edits = approved.map(|approved| approved.execute(now)).transpose()?;
        Ok(Allowed { kek, version, what, permit, receipt, edits: edits.into_iter().collect() })
    }

    /// The KEK as the store has it, and the version of its record.
    pub(super) async fn read_kek(&self, name: &KekName) -> Result<Option<(Kek, u64)>, StoreError> {
        let Some(record) = self.read(Kind::Kek, name.as_str()).await? else { return Ok(None) };
        Ok(Some((parse_kek(&record)?, record.version)))
    }

    /// A record as the store has it, and not older than it was seen before.
    pub(super) async fn read(&self, kind: Kind, name: &str) -> Result<Option<Record>, StoreError> {
        self.try_read(kind, name).await.inspect_err(|failed| self.halt_if_broken(failed))
    }

    async fn try_read(&self, kind: Kind, name: &str) -> Result<Option<Record>, StoreError> {
        for _ in 0..TRIES {
            let seen = self.view().snapshot;
            let record = self.store.get(kind, name).await?;
            if record.as_ref().map_or(0, |record| record.version) >= seen.version_of(kind, name) {
                return Ok(record);
            }
            // Another custodian may have removed it, and made it anew; then the store moved on.
            if self.store.epoch().await?.generation() == seen.generation {
                return Err(StoreError::Corrupt(Corruption::Account));
            }
            self.look().await?;
        }
        Err(StoreError::Busy)
    }
}

/// What a change was allowed for.
struct Allowed {
    kek: Kek,
    version: u64,
    what: Use,
    permit: Permit,
    receipt: crate::tlog::Receipt,
    /// What has to be stored with the change.
    edits: Vec<Edit>,
}

/// Whether it is proposed to switch the KEK on.
fn is_to_enable(document: &ProposalDocument, name: &KekName) -> bool {
    document.kek.as_ref() == Some(name) && document.path.ends_with("/enable")
}

fn is_due(kek: &Kek, now: i64) -> bool {
    !kek.is_disabled() && kek.is_rotation_due(now)
}

fn disabling(view: &View, name: &KekName) -> (Use, bool) {
    let none = Labels::default();
    let stored = view.snapshot.keks.get(name);
    let (latest, labels) = stored.map_or((None, &none), |stored| (Some(stored.value.latest()), stored.value.labels()));
    (Use::of_kek(Action::Disable, name, latest, labels), stored.is_some())
}

/// How often something was tried while someone else changed the same records.
#[derive(Default)]
pub(super) struct Tries(u32);

impl Tries {
    /// Makes `attempt` until it is settled, again while others get in between.
    ///
    /// # Errors
    /// The attempt's; [`StoreError::Busy`] after too many.
    pub(super) async fn until_settled<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, EngineError>>,
    {
        let mut tries = Self::default();
        loop {
            match attempt().await {
                Err(failed) => tries.again(failed).await?,
                settled => return settled,
            }
        }
    }

    /// Returns after a pause when it is worth trying again.
    ///
    /// # Errors
    /// `failed`, if it is something else than a conflict; [`StoreError::Busy`] after too many.
    pub(super) async fn again(&mut self, failed: EngineError) -> Result<(), EngineError> {
        if !matches!(failed, EngineError::Store(StoreError::Conflict)) {
            return Err(failed);
        }
        self.0 += 1;
        if self.0 >= TRIES {
            return Err(StoreError::Busy.into());
        }
        let [jitter] = crypto::random_array::<1>()?;
        tokio::time::sleep(Duration::from_micros(u64::from(jitter) * 50 * u64::from(self.0))).await;
        Ok(())
    }
}

fn options_to_json(options: &KeyOptions) -> Value {
    json!({
        "type": options.key_type.as_str(),
        "derived": options.derived,
        "exportable": options.exportable,
        "allow_plaintext_backup": options.allow_plaintext_backup,
        "auto_rotate_period_s": options.auto_rotate_period_s,
        "labels": options.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
    })
}

fn change_to_json(change: &KeyChange) -> Value {
    json!({
        "min_decryption_version": change.min_decryption_version,
        "min_encryption_version": change.min_encryption_version,
        "deletion_allowed": change.deletion_allowed,
        "exportable": change.exportable,
        "allow_plaintext_backup": change.allow_plaintext_backup,
        "auto_rotate_period_s": change.auto_rotate_period_s,
    })
}
