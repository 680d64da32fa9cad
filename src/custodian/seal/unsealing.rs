//! Unsealing by people: shares given one by one.
//!
//! **Invariant:** once a combination failed, no share that was given is kept.
//! **Invariant:** memory is bounded: at most one share of each index of each seal.

use super::config::{Guard, Seal, SealList};
use super::share::{self, SealId, Share, ShareError};
use super::{RootKey, UnsealError};

/// How far the unsealing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Shares given.
    pub given: u8,
    /// Shares that open it.
    pub threshold: u8,
    /// Shares that were handed out.
    pub count: u8,
}

/// What a share led to.
pub enum Step {
    /// More shares are needed.
    Waiting(Progress),
    /// It is open.
    Opened(RootKey),
}

/// An unsealing under way.
pub struct Unsealing {
    list: SealList,
    given: Vec<Share>,
}

impl Unsealing {
    /// Of the store whose list of seals this is. Take care to have read the list afresh: seals may have been changed.
    pub fn new(list: SealList) -> Self {
        Self { list, given: Vec::new() }
    }

    /// The list of seals.
    pub fn list(&self) -> &SealList {
        &self.list
    }

    /// How far each seal that takes shares is.
    pub fn progress(&self) -> impl Iterator<Item = (SealId, Progress)> {
        self.list.seals().iter().filter_map(|seal| Some((seal.id(), self.progress_of(seal)?)))
    }

    fn progress_of(&self, seal: &Seal) -> Option<Progress> {
        let Guard::Shares { threshold, count } = *seal.guard() else { return None };
        let given = self.given.iter().filter(|share| share.seal() == seal.id()).count();
        let given = u8::try_from(given).expect("one share per index at most");
        Some(Progress { given, threshold, count })
    }

    /// Forgets the shares that were given.
    pub fn reset(&mut self) {
        self.given.clear();
    }

    /// Takes a share. With the last one that is needed, the seal opens and all shares are forgotten.
    ///
    /// # Errors
    /// [`UnsealError::Share`], and nothing has changed; [`UnsealError::WrongShares`] or [`UnsealError::Altered`], and all shares
    /// are forgotten.
    pub fn submit(&mut self, share: Share) -> Result<Step, UnsealError> {
        let seal = self.list.seals().iter().find(|seal| seal.id() == share.seal()).ok_or(ShareError::Foreign)?;
        let before = self.progress_of(seal).ok_or(ShareError::Foreign)?;
        if !(1..=before.count).contains(&share.index()) {
            return Err(ShareError::Index.into());
        }
        if self.given.iter().any(|given| given.seal() == share.seal() && given.index() == share.index()) {
            return Err(ShareError::Duplicate.into());
        }
        self.given.push(share);
        let progress = Progress { given: before.given + 1, ..before };
        if progress.given < progress.threshold {
            return Ok(Step::Waiting(progress));
        }
        let of_it: Vec<Share> = self.given.drain(..).filter(|share| share.seal() == seal.id()).collect();
        let wrapping = share::combine(&of_it).ok_or(UnsealError::WrongShares)?;
        self.list.open(seal, &wrapping)?.map(Step::Opened).ok_or(UnsealError::WrongShares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custodian::seal::make::NewSeal;
    use crate::custodian::seal::share::forged;

    async fn sealed(threshold: u8, count: u8) -> (RootKey, SealList, Vec<Share>) {
        let root = RootKey::random().expect("random");
        let (list, shares) = SealList::make(&root, &[NewSeal::Shares { threshold, count }]).await.expect("makes");
        (root, list, shares)
    }

    fn copy(share: &Share) -> Share {
        Share::parse(std::str::from_utf8(share.to_text().expose()).expect("text")).expect("parses")
    }

    fn given(unsealing: &Unsealing) -> u8 {
        unsealing.progress().next().expect("one seal").1.given
    }

    fn refusal(unsealing: &mut Unsealing, share: Share) -> UnsealError {
        unsealing.submit(share).err().expect("refused")
    }

    #[tokio::test]
    async fn progress_is_told_and_the_last_share_opens() {
        let (root, list, shares) = sealed(3, 5).await;
        let mut unsealing = Unsealing::new(list);
        for (given, index) in [(1, 4), (2, 0)] {
            let Ok(Step::Waiting(progress)) = unsealing.submit(copy(&shares[index])) else { panic!("waits") };
            assert_eq!(progress, Progress { given, threshold: 3, count: 5 });
        }
        let Ok(Step::Opened(opened)) = unsealing.submit(copy(&shares[2])) else { panic!("opens") };
        assert_eq!(opened.expose(), root.expose());
        assert_eq!(given(&unsealing), 0);
    }

    #[tokio::test]
    async fn foreign_duplicate_and_impossible_shares_change_nothing() {
        let (_, list, shares) = sealed(2, 3).await;
        let (_, _, others) = sealed(2, 3).await;
        let mut unsealing = Unsealing::new(list);
        unsealing.submit(copy(&shares[0])).expect("the first");
        assert!(matches!(refusal(&mut unsealing, copy(&others[1])), UnsealError::Share(ShareError::Foreign)));
        assert!(matches!(refusal(&mut unsealing, copy(&shares[0])), UnsealError::Share(ShareError::Duplicate)));
        assert!(matches!(refusal(&mut unsealing, forged(&shares[0])), UnsealError::Share(ShareError::Duplicate)));
        let (_, _, five) = sealed(2, 5).await;
        let mut text = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, five[4].to_text().expose())
            .expect("base64");
        text.truncate(50);
        text[1..17].copy_from_slice(shares[0].seal().as_bytes());
        let checksum = crate::crypto::sha256(&text);
        text.extend_from_slice(&checksum[..4]);
        let fifth = Share::parse(&base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text));
        let refused = refusal(&mut unsealing, fifth.expect("well formed"));
        assert!(matches!(refused, UnsealError::Share(ShareError::Index)));
        assert_eq!(given(&unsealing), 1);
        assert!(matches!(unsealing.submit(copy(&shares[1])), Ok(Step::Opened(_))));
    }

    #[tokio::test]
    async fn a_wrong_share_is_found_by_combining_and_all_are_forgotten() {
        let (_, list, shares) = sealed(3, 5).await;
        let mut unsealing = Unsealing::new(list);
        unsealing.submit(copy(&shares[0])).expect("the first");
        unsealing.submit(forged(&shares[1])).expect("cannot be told yet");
        assert!(matches!(refusal(&mut unsealing, copy(&shares[2])), UnsealError::WrongShares));
        assert_eq!(given(&unsealing), 0);
        for share in &shares[..2] {
            assert!(matches!(unsealing.submit(copy(share)), Ok(Step::Waiting(_))));
        }
        assert!(matches!(unsealing.submit(copy(&shares[2])), Ok(Step::Opened(_))));
    }

    #[tokio::test]
    async fn a_reset_forgets() {
        let (_, list, shares) = sealed(2, 3).await;
        let mut unsealing = Unsealing::new(list);
        unsealing.submit(copy(&shares[0])).expect("the first");
        unsealing.reset();
        assert!(matches!(unsealing.submit(copy(&shares[1])), Ok(Step::Waiting(_))));
        assert_eq!(given(&unsealing), 1);
    }

    #[tokio::test]
    async fn two_seals_of_shares_do_not_mix() {
        let root = RootKey::random().expect("random");
        let both = [NewSeal::Shares { threshold: 2, count: 3 }, NewSeal::Shares { threshold: 3, count: 3 }];
        let (list, shares) = SealList::make(&root, &both).await.expect("makes");
        let mut unsealing = Unsealing::new(list);
        assert!(matches!(unsealing.submit(copy(&shares[0])), Ok(Step::Waiting(_))));
        assert!(matches!(unsealing.submit(copy(&shares[3])), Ok(Step::Waiting(_))));
        assert!(matches!(unsealing.submit(copy(&shares[4])), Ok(Step::Waiting(_))));
        assert!(matches!(unsealing.submit(copy(&shares[2])), Ok(Step::Opened(_))));
    }
}
