//! `key census --objects`: which version of a KEK the envelopes of objects have their branch key's copy under.
//!
//! One HEAD for each object. An envelope of the KEK in question is opened, which proves the KEK, the branch key and that the envelope is this
//! object's; the copy in it is not part of that, so that its version is the storage server's word, as is every envelope of another
//! KEK and every object that is not listed. Nothing is decided by these counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::names::KekName;
use crate::object::Objects;
use crate::object::access::Authenticated;
use crate::object::error::Error;
use crate::object::read_back::{EnvelopeBack, Readable};

use super::work::{CLASSES_MAX, Item, Outcome, Work};

/// Versions that are told apart: as many as a KEK of ours has.
const VERSIONS_MAX: u32 = 1_000;
/// No envelope.
const UNENCRYPTED: u64 = 0;
/// An envelope of another KEK.
const OTHER_KEK: u64 = 1;
const _: () = assert!(2 * (VERSIONS_MAX as usize + 2) <= CLASSES_MAX);

/// The job.
pub struct Census {
    /// Where the objects are.
    pub objects: Arc<Objects>,
    /// Who the job is.
    pub who: Authenticated,
    /// The KEK.
    pub kek: KekName,
    /// All versions of objects are counted, and not only the newest.
    pub versions: bool,
}

/// Objects of one version of the KEK.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OfVersion {
    /// Those whose envelope opened.
    pub opened: u64,
    /// Those under a customer key (SSE-C), whose envelope nobody here can open.
    pub unopened: u64,
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// By version. Those beyond the first thousand stand under the number after them.
    pub versions: BTreeMap<u32, OfVersion>,
    /// Objects without an envelope.
    pub unencrypted: u64,
    /// Objects whose envelope names another KEK, by the storage server's word.
    pub other_keks: u64,
}

impl Counted {
    /// Of the classes that the job counted.
    pub fn of(classes: &BTreeMap<u64, u64>) -> Self {
        let mut counted = Self::default();
        for (class, count) in classes {
            let version = u32::try_from(class / 2).unwrap_or(u32::MAX);
            match *class {
                UNENCRYPTED => counted.unencrypted = *count,
                OTHER_KEK => counted.other_keks = *count,
                class if class % 2 == 0 => counted.versions.entry(version).or_default().opened = *count,
                _ => counted.versions.entry(version).or_default().unopened = *count,
            }
        }
        counted
    }
}

/// The class of an object.
fn class(envelope: Option<&EnvelopeBack>, kek: &KekName) -> u64 {
    let Some(envelope) = envelope else { return UNENCRYPTED };
    if envelope.kek != *kek {
        return OTHER_KEK;
    }
    // The number is nobody's but the storage server's: however many there are, they are as many classes.
    let version = envelope.version.number().min(VERSIONS_MAX + 1);
    2 * u64::from(version) + u64::from(!envelope.opened)
}

impl Census {
    async fn look(&self, item: &Item) -> Result<u64, Error> {
        let version = item.entry.version.as_deref().filter(|_| self.versions);
        let object = Readable { bucket: &item.bucket, key: &item.key, version };
        let envelope = self.objects.envelope_back(&self.who, object, &self.kek).await?;
        Ok(class(envelope.as_ref(), &self.kek))
    }
}

impl Work for Census {
    fn name(&self) -> &'static str {
        "census"
    }

    fn parameters(&self) -> String {
        self.kek.to_string()
    }

    /// A checkpoint among the versions of a key says of some of them twice that they are counted.
    fn keeps_checkpoints(&self) -> bool {
        !self.versions
    }

    fn treat<'a>(&'a self, item: &'a Item) -> BoxFuture<'a, Outcome> {
        async move {
            match self.look(item).await {
                Ok(class) => Outcome::Counted { class },
                // Deleted since it was listed.
                Err(error) if error.is_gone() => Outcome::Overtaken,
                Err(error) => Outcome::Failed { error },
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::KekVersion;

    fn envelope(kek: &str, version: u32, opened: bool) -> EnvelopeBack {
        let version = KekVersion::new(version).expect("not zero");
        EnvelopeBack { kek: KekName::new(kek).expect("legal"), version, opened }
    }

    #[test]
    fn objects_are_told_apart_by_version_and_by_whether_they_were_opened() {
        let kek = KekName::new("records").expect("legal");
        let mut classes = BTreeMap::new();
        let all = [
            None,
            Some(envelope("other", 7, false)),
            Some(envelope("records", 1, true)),
            Some(envelope("records", 1, false)),
            Some(envelope("records", 2, true)),
            Some(envelope("records", 2, true)),
            Some(envelope("records", u32::MAX, true)),
            Some(envelope("records", VERSIONS_MAX + 1, true)),
        ];
        for envelope in &all {
            *classes.entry(class(envelope.as_ref(), &kek)).or_default() += 1;
        }
        let counted = Counted::of(&classes);
        let of = |opened, unopened| OfVersion { opened, unopened };
        let versions = [(1, of(1, 1)), (2, of(2, 0)), (VERSIONS_MAX + 1, of(2, 0))].into();
        assert_eq!(counted, Counted { versions, unencrypted: 1, other_keks: 1 });
    }
}
