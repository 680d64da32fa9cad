//! Branch keys in memory, as leased from the custodian.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

use crate::names::KekName;
use crate::secret::Secret;

use super::caller::Caller;
use super::context::BranchContext;
use super::wrapped::WrappedKey;

/// The branch key was revoked, or its lease has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the branch key was revoked or its lease has ended")]
pub struct Revoked;

/// The key itself; zeroized when the last lease on it is dropped.
pub(super) struct Material {
    kek: KekName,
    context: BranchContext,
    wrapped: WrappedKey,
    secret: Secret<32>,
    revoked: AtomicBool,
    outdated: AtomicBool,
}

impl Material {
    pub(super) fn new(kek: KekName, context: BranchContext, wrapped: WrappedKey, secret: Secret<32>) -> Self {
        Self { kek, context, wrapped, secret, revoked: AtomicBool::new(false), outdated: AtomicBool::new(false) }
    }

    pub(super) fn kek(&self) -> &KekName {
        &self.kek
    }

    pub(super) fn context(&self) -> &BranchContext {
        &self.context
    }

    pub(super) fn wrapped(&self) -> &WrappedKey {
        &self.wrapped
    }

    /// Whether `secret` is this key, in constant time.
    pub(super) fn is(&self, secret: &Secret<32>) -> bool {
        crate::crypto::constant_time_eq(self.secret.expose(), secret.expose())
    }

    pub(super) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// The KEK has a newer version than the one that this key was generated under. It works as before, and is replaced.
    pub(super) fn outdate(&self) {
        self.outdated.store(true, Ordering::Release);
    }

    pub(super) fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Acquire)
    }
}

/// That the custodian let one caller use a branch key, until it says otherwise.
pub(super) struct Right {
    material: Arc<Material>,
    caller: Caller,
    ended: AtomicBool,
    revoked: AtomicBool,
    /// It ends by itself, where the custodian that gave it may not have known what another one had told.
    until: Option<Instant>,
}

impl Right {
    pub(super) fn new(material: Arc<Material>, caller: Caller, until: Option<Instant>) -> Self {
        Self { material, caller, ended: AtomicBool::new(false), revoked: AtomicBool::new(false), until }
    }

    pub(super) fn material(&self) -> &Arc<Material> {
        &self.material
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The custodian has to be asked again before the next use.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire) || self.until.is_some_and(|until| until <= Instant::now())
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire) || self.material.is_revoked()
    }

    /// Neither ended nor revoked.
    pub(super) fn is_good(&self) -> bool {
        !self.is_ended() && !self.is_revoked()
    }
}

/// A branch key and one caller's lease on it.
#[derive(Clone)]
pub struct BranchKey {
    right: Arc<Right>,
    ends: Instant,
}

impl BranchKey {
    pub(super) fn new(right: Arc<Right>, ends: Instant) -> Self {
        Self { right, ends }
    }

    /// The KEK that it is wrapped under.
    pub fn kek(&self) -> &KekName {
        &self.right.material.kek
    }

    /// The context that it is bound to.
    pub fn context(&self) -> &BranchContext {
        &self.right.material.context
    }

    /// Its wrapped form, as it goes into envelopes.
    pub fn wrapped(&self) -> &WrappedKey {
        &self.right.material.wrapped
    }

    /// When the lease ends at the latest.
    pub(super) fn ends(&self) -> Instant {
        self.ends
    }

    pub(super) fn caller(&self) -> &Caller {
        self.right.caller()
    }

    /// The key, to wrap or unwrap a DEK with now. Do not hold on to it.
    ///
    /// # Errors
    /// [`Revoked`].
    pub fn secret(&self) -> Result<&Secret<32>, Revoked> {
        if self.is_usable() { Ok(&self.right.material.secret) } else { Err(Revoked) }
    }

    /// Whether [`BranchKey::secret`] would give the key now.
    ///
    /// A stream that outlasts the lease is not cut off for that: when this turns false and [`BranchKey::is_revoked`] is
    /// false, it asks [`BranchKeys::for_reading`] again, and goes on or ends by what the custodian says.
    ///
    /// [`BranchKeys::for_reading`]: super::keys::BranchKeys::for_reading
    pub fn is_usable(&self) -> bool {
        self.right.is_good() && Instant::now() < self.ends
    }

    /// Whether somebody revoked it. Running streams check this at each segment; it is two atomic loads.
    pub fn is_revoked(&self) -> bool {
        self.right.is_revoked()
    }

    /// Whether the lease was ended ahead of its time: what the custodian said before may hold no longer, and it has to be
    /// asked again.
    pub fn is_ended(&self) -> bool {
        self.right.is_ended()
    }
}

impl fmt::Debug for BranchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("BranchKey");
        shown.field("kek", self.kek()).field("context", self.context()).field("usable", &self.is_usable());
        shown.finish_non_exhaustive()
    }
}

/// A branch key that this process generated: DEKs may be wrapped under it.
#[derive(Debug, Clone)]
pub struct WritingKey(BranchKey);

/// A branch key that was loaded: it opens DEKs and wraps none.
#[derive(Debug, Clone)]
pub struct ReadingKey(BranchKey);

impl WritingKey {
    /// **Invariant:** only the write cache calls this, for keys that the custodian generated for it.
    pub(super) fn assume_generated(key: BranchKey) -> Self {
        Self(key)
    }
}

impl ReadingKey {
    pub(super) fn new(key: BranchKey) -> Self {
        Self(key)
    }
}

impl Deref for WritingKey {
    type Target = BranchKey;

    fn deref(&self) -> &BranchKey {
        &self.0
    }
}

impl Deref for ReadingKey {
    type Target = BranchKey;

    fn deref(&self) -> &BranchKey {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::custody::fake;

    fn leased() -> BranchKey {
        let secret = Secret::from_slice(&[9; 32]).expect("a key");
        let material = Arc::new(Material::new(fake::kek(), fake::context(1), fake::garbage(1), secret));
        let right = Arc::new(Right::new(material, fake::caller("alice"), None));
        BranchKey::new(right, Instant::now() + Duration::from_secs(300))
    }

    #[tokio::test(start_paused = true)]
    async fn the_key_is_gone_when_the_lease_ends() {
        let key = leased();
        tokio::time::advance(Duration::from_millis(299_999)).await;
        assert!(key.secret().is_ok());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(key.secret().err(), Some(Revoked));
        assert!(!key.is_revoked());
    }

    #[tokio::test(start_paused = true)]
    async fn the_key_is_gone_for_every_holder_when_revoked() {
        let key = leased();
        let held = key.clone();
        key.right.material.revoke();
        assert_eq!(held.secret().err(), Some(Revoked));
        assert!(held.is_revoked());
    }

    #[tokio::test(start_paused = true)]
    async fn one_callers_right_ends_or_is_revoked_alone() {
        let (key, ends) = (leased(), Instant::now() + Duration::from_secs(300));
        let others =
            BranchKey::new(Arc::new(Right::new(Arc::clone(&key.right.material), fake::caller("bob"), None)), ends);
        key.right.end();
        assert_eq!((key.is_usable(), key.is_ended(), key.is_revoked()), (false, true, false));
        key.right.revoke();
        assert!(key.is_revoked() && others.is_usable() && !others.is_ended());
    }

    #[tokio::test]
    async fn debug_does_not_show_the_key() {
        assert!(!format!("{:?}", WritingKey(leased())).contains("9, 9"));
    }
}
