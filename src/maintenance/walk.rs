//! The objects of a scope, one after the other, with the next page of the listing asked for ahead.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::object::Objects;
use crate::object::error::{Error, WrongAnswer};
use crate::object::stored::{Position, StoredPage};
use crate::s3::target::ObjectKey;
use crate::s3::xml::StoredEntry;

use super::job::{Patience, Scope};
use super::order::Order;
use super::work::Item;

/// A walk under way.
pub(super) struct Walk {
    objects: Arc<Objects>,
    scope: Scope,
    patience: Patience,
    entries: VecDeque<StoredEntry>,
    /// The page that is asked for; none after the last one.
    ahead: JoinSet<Result<StoredPage, Error>>,
    /// The key that the walk is at, and the one before it.
    keys: (String, String),
    order: Order,
    /// It goes on within the listing, which is nothing but the order of keys.
    goes_on: bool,
}

/// What a walk comes upon.
pub(super) enum Step {
    /// An object.
    Object {
        item: Item,
        /// Where a walk may begin anew once all up to here is treated; empty: at the beginning.
        position: String,
    },
    /// A key that no client can name.
    NoKey,
    /// The end.
    End,
}

impl Walk {
    /// Begins after `after`.
    pub(super) fn new(objects: Arc<Objects>, scope: Scope, patience: Patience, after: Position) -> Self {
        let (entries, ahead, keys) = (VecDeque::new(), JoinSet::new(), (after.key.clone(), after.key.clone()));
        let (order, goes_on) = (Order::after(&after.key, scope.versions), !after.key.is_empty());
        let mut walk = Self { objects, scope, patience, entries, ahead, keys, order, goes_on };
        walk.ask(after);
        walk
    }

    fn ask(&mut self, after: Position) {
        let (objects, scope, patience) = (Arc::clone(&self.objects), self.scope.clone(), self.patience);
        self.ahead.spawn(async move {
            patience.with(|| objects.stored(&scope.bucket, &scope.prefix, &after, scope.versions)).await
        });
    }

    /// The next step. It may be dropped before it is ready, and asked for again.
    pub(super) async fn next(&mut self) -> Result<Step, Error> {
        loop {
            while let Some(entry) = self.entries.pop_front() {
                if entry.is_delete_marker {
                    continue;
                }
                return Ok(self.step(entry));
            }
            let Some(page) = self.ahead.join_next().await else { return Ok(Step::End) };
            let page = page.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
            self.order.take(&page)?;
            if self.goes_on && !self.order.is_rising() {
                return Err(WrongAnswer::Order.into());
            }
            if let Some(next) = page.next {
                self.ask(next);
            }
            self.entries = page.entries.into();
        }
    }

    /// Whether keys came in the order of their bytes so far, so that a later walk may begin at one of them.
    pub(super) fn is_rising(&self) -> bool {
        self.order.is_rising()
    }

    fn step(&mut self, entry: StoredEntry) -> Step {
        let Ok(key) = ObjectKey::new(&entry.key) else { return Step::NoKey };
        if entry.key != self.keys.0 {
            self.keys.1 = std::mem::replace(&mut self.keys.0, entry.key.clone());
        }
        // Further versions of this key may follow, so that only the one before it is treated whole.
        let position = if self.scope.versions { self.keys.1.clone() } else { entry.key.clone() };
        Step::Object { item: Item { bucket: self.scope.bucket.clone(), key, entry }, position }
    }
}
