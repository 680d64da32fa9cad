//! `re-encrypt`: objects under new DEKs and another branch key, for the case that one of theirs may have leaked.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::object::Objects;
use crate::object::access::Authenticated;
use crate::object::renewal::{Choice, Manner};

use super::renewing::Tally;
use super::work::{Item, Outcome, Work};

/// The job. With `versions`, what stays of old versions is found.
pub struct ReEncrypt {
    /// Where the objects are.
    pub objects: Arc<Objects>,
    /// Who the job is.
    pub who: Authenticated,
    /// Which objects.
    pub choice: Choice,
    /// How.
    pub manner: Manner,
    /// Whether old versions are gone over.
    pub versions: bool,
    /// What is counted.
    pub tally: Tally,
}

impl Work for ReEncrypt {
    fn name(&self) -> &'static str {
        "re-encrypt"
    }

    fn parameters(&self) -> String {
        format!("{:?}", self.choice)
    }

    fn notes(&self) -> Vec<String> {
        self.tally.notes()
    }

    fn treat<'a>(&'a self, item: &'a Item) -> BoxFuture<'a, Outcome> {
        async move {
            let old = item.entry.version.as_deref().filter(|_| !item.entry.is_latest);
            let object = (&item.bucket, &item.key);
            let renewed = self.objects.re_encrypt(&self.who, object, old, &self.choice, self.manner).await;
            self.tally.outcome(renewed, self.versions)
        }
        .boxed()
    }
}
