//! Uses of keys: generate, encrypt, decrypt, rewrap. The store is not asked; one entry of the audit log is waited for.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::crypto;
use crate::custodian::audit::{Action, Details, Permit, Use};
use crate::custodian::kek::{Ciphertext, DataKeyLen, Kek, KeyringError};
use crate::custodian::requester::Requester;
use crate::custodian::store::{Bound, LedgerEntry};
use crate::custody::context::{self, BranchContext};
use crate::custody::wrapped::WrappedKey;
use crate::names::{KekName, KekVersion};
use crate::tlog::Receipt;

use super::decide::rule;
use super::snapshot::Stored;
use super::{Done, EncryptRequest, Engine, EngineError, GenerateRequest, Generated};

/// A context: what a key is bound to.
enum Context {
    /// Something of the client's.
    Other,
    /// A branch key.
    Branch(BranchContext),
    /// It has the mark of a branch key's context and is none.
    Forged,
}

impl Context {
    fn read(bytes: &[u8]) -> Self {
        match BranchContext::parse(bytes) {
            Ok(branch) => Self::Branch(branch),
            Err(_) if context::bears_label(bytes) => Self::Forged,
            Err(_) => Self::Other,
        }
    }

    fn branch(self) -> Option<BranchContext> {
        match self {
            Self::Branch(branch) => Some(branch),
            Self::Other | Self::Forged => None,
        }
    }
}

/// A use that was allowed, and the KEK as it is now.
struct Allowed {
    kek: Arc<Stored<Kek>>,
    permit: Permit,
    receipt: Receipt,
    branch: Option<BranchContext>,
}

impl Allowed {
    /// Where the KEK ignores contexts, each branch key would open in the place of each other one, and the ledger would keep what is none.
    fn binds_branch(&self) -> Result<(), EngineError> {
        if self.branch.is_some() && !self.kek.value.is_derived() { Err(EngineError::NotDerived) } else { Ok(()) }
    }
}

/// What is asked for.
struct Asked<'a> {
    action: Action,
    name: &'a KekName,
    version: Option<KekVersion>,
    context: &'a [u8],
}

impl Engine {
    /// Makes a key of `length` bound to a context and gives it out wrapped, in the clear only if that is asked for. A branch key is in the
    /// ledger before it leaves.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn generate(
        &self,
        who: &Requester,
        name: &KekName,
        length: DataKeyLen,
        request: GenerateRequest,
    ) -> Result<Done<Generated>, EngineError> {
        let _turn = self.turns.take(who.certificate_sha256).await?;
        let GenerateRequest { context, aad, version, plaintext } = request;
        let bound = Context::read(&context);
        let latest = self.view().snapshot.keks.get(name).map(|stored| stored.value.latest());
        let broken = match &bound {
            Context::Branch(branch) if branch.writer != who.id.writer_domain() => Some(rule::WRITER_DOMAIN),
            // Branch keys have 256 bits, and nothing but their context opens them: the ledger keeps nothing else.
            Context::Branch(_) if length != DataKeyLen::Bits256 || !aad.is_empty() => Some(rule::BRANCH_CONTEXT),
            // No new ones under a version that is to be retired, or it never could be.
            Context::Branch(_) if version.is_some() && version != latest => Some(rule::BRANCH_CONTEXT),
            Context::Forged => Some(rule::BRANCH_CONTEXT),
            Context::Branch(_) | Context::Other => None,
        };
        // The version that the log names is the one that is used, also if the KEK is rotated meanwhile.
        let version = version.or(latest);
        let asked = Asked { action: Action::Generate, name, version, context: &context };
        let allowed = self.allow_use(who, &asked, bound, broken).await?;
        allowed.binds_branch()?;
        let (key, ciphertext) = allowed.kek.value.generate(length, version, &context, &aad, allowed.permit)?;
        self.enter_into_ledger(name, allowed.branch, None, &ciphertext).await?;
        let plaintext = plaintext.then_some(key);
        Ok(Done { value: Generated { plaintext, ciphertext }, receipt: allowed.receipt, existed: false })
    }

    /// Encrypts what the requester sends. Never under a branch key's context: such keys the custodian makes itself.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn encrypt(
        &self,
        who: &Requester,
        name: &KekName,
        request: EncryptRequest,
    ) -> Result<Done<Ciphertext>, EngineError> {
        let _turn = self.turns.take(who.certificate_sha256).await?;
        let EncryptRequest { plaintext, context, aad, version } = request;
        let bound = Context::read(&context);
        let broken = match &bound {
            Context::Branch(_) | Context::Forged => Some(rule::BRANCH_CONTEXT),
            Context::Other => None,
        };
        let version = version.or_else(|| Some(self.view().snapshot.keks.get(name)?.value.latest()));
        let asked = Asked { action: Action::Encrypt, name, version, context: &context };
        let allowed = self.allow_use(who, &asked, bound, broken).await?;
        let value = allowed.kek.value.encrypt(version, &context, &aad, &plaintext, allowed.permit)?;
        Ok(Done { value, receipt: allowed.receipt, existed: false })
    }

    /// Opens what was wrapped or encrypted. A branch key that the ledger does not know comes into it.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn decrypt(
        &self,
        who: &Requester,
        name: &KekName,
        ciphertext: &Ciphertext,
        context: &[u8],
        aad: &[u8],
    ) -> Result<Done<Zeroizing<Vec<u8>>>, EngineError> {
        let _turn = self.turns.take(who.certificate_sha256).await?;
        let asked = Asked { action: Action::Unwrap, name, version: Some(ciphertext.version()), context };
        let allowed = self.allow_use(who, &asked, Context::read(context), None).await?;
        if let Some(branch) = allowed.branch.as_ref().filter(|_| aad.is_empty()) {
            self.learn(name, &allowed.kek.value, branch, ciphertext, &allowed.permit).await?;
        }
        let value = allowed.kek.value.decrypt(ciphertext, context, aad, allowed.permit)?;
        Ok(Done { value, receipt: allowed.receipt, existed: false })
    }

    /// Moves what was wrapped or encrypted to the version `to`, or the newest, without showing it. A branch key's new wrapping is in the
    /// ledger before it leaves.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn rewrap(
        &self,
        who: &Requester,
        name: &KekName,
        ciphertext: &Ciphertext,
        to: Option<KekVersion>,
        context: &[u8],
        aad: &[u8],
    ) -> Result<Done<Ciphertext>, EngineError> {
        let _turn = self.turns.take(who.certificate_sha256).await?;
        let bound = Context::read(context);
        let goes_back = to.is_some_and(|to| to < ciphertext.version());
        let broken = (goes_back && matches!(bound, Context::Branch(_))).then_some(rule::BRANCH_CONTEXT);
        let asked = Asked { action: Action::Rewrap, name, version: Some(ciphertext.version()), context };
        let allowed = self.allow_use(who, &asked, bound, broken).await?;
        allowed.binds_branch()?;
        let value = allowed.kek.value.rewrap(ciphertext, to, context, aad, allowed.permit)?;
        let seen = Some((ciphertext.version(), allowed.kek.value.oldest()));
        self.enter_into_ledger(name, allowed.branch, seen, &value).await?;
        Ok(Done { value, receipt: allowed.receipt, existed: false })
    }

    async fn allow_use(
        &self,
        who: &Requester,
        asked: &Asked<'_>,
        bound: Context,
        broken: Option<&'static str>,
    ) -> Result<Allowed, EngineError> {
        let view = self.fresh()?;
        let name = asked.name;
        let labels = view.labels(name);
        let context_hash = crypto::sha256(asked.context);
        let what = Use {
            action: asked.action,
            kek: Some(name.clone()),
            version: asked.version,
            labels,
            context_hash: (!asked.context.is_empty()).then_some(context_hash),
            branch: bound.branch(),
            subject: None,
        };
        let verdict = self.decide(&view, who, &what, broken);
        let generation = view.snapshot.generation;
        drop(view);
        let (permit, receipt) = match self.permit(who, &what, &verdict, Details::at(generation)).await {
            Err(EngineError::Denied) if broken.is_some() && verdict.denied_by == broken => {
                return Err(EngineError::ContextOfOther);
            }
            other => other?,
        };
        // The log was waited for: what was switched off meanwhile is off.
        let view = self.fresh()?;
        if view.is_shut_out(who) {
            return Err(EngineError::Denied);
        }
        if view.is_stopped(name) {
            return Err(KeyringError::Disabled.into());
        }
        let kek = view.snapshot.keks.get(name).cloned().ok_or(KeyringError::Unknown)?;
        Ok(Allowed { kek, permit, receipt, branch: what.branch })
    }

    async fn enter_into_ledger(
        &self,
        name: &KekName,
        branch: Option<BranchContext>,
        seen: Option<(KekVersion, KekVersion)>,
        ciphertext: &Ciphertext,
    ) -> Result<(), EngineError> {
        let Some(branch) = branch else { return Ok(()) };
        // Branch keys wrapped by this engine have 60 bytes; what is longer was never one, and would not open as one.
        let Ok(wrapped) = WrappedKey::new(ciphertext.version(), ciphertext.bytes().to_vec()) else {
            return Err(EngineError::ContextOfOther);
        };
        let created_unix_s = self.clock.now_unix_s();
        // Where it was rewrapped: envelopes may have the wrapping that it was generated with, and of one that the ledger does not know, nobody
        // knows which that is.
        let generated = match seen {
            None => wrapped.version(),
            Some((from, oldest)) => {
                let known = self.store.branch_states_of(name, &[branch.id]).await?;
                known.first().map_or(oldest, |state| state.generated().min(from))
            }
        };
        let bound = Bound::To { context: branch.clone(), generated: generated.min(wrapped.version()) };
        let entry = LedgerEntry { id: branch.id, kek: name.clone(), wrapped, bound, created_unix_s };
        // The requester chooses the id. Under one that is known, the ledger would keep the other key and never this one.
        if seen.is_none() { self.ledger.add(entry).await } else { self.ledger.append(entry).await }
    }
}
