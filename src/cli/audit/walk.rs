//! Reads all entries of a log up to its checkpoint, and notices if they are not those that were signed.

use anyhow::{Result, bail};

use crate::tlog::merkle::{Frontier, leaf_hash};
use crate::tlog::reader::Reader;

/// Hands each entry after those in `edge` to `take`, and checks at the end that all together are the tree of the checkpoint.
///
/// `take` sees entries before they are checked. `edge` is what was read before, from the first entry on.
pub(super) fn walk(
    reader: &Reader,
    edge: &mut Frontier,
    mut take: impl FnMut(u64, Vec<u8>) -> Result<()>,
) -> Result<()> {
    let checkpoint = reader.checkpoint().checkpoint();
    if checkpoint.size() < edge.size() {
        bail!("the log went back from {} to {} entries: it was rolled back", edge.size(), checkpoint.size());
    }
    for entry in reader.entries(edge.size()) {
        let (index, entry) = entry?;
        edge.push(leaf_hash(&entry));
        take(index, entry)?;
    }
    if edge.size() != checkpoint.size() || edge.root() != *checkpoint.root() {
        bail!("the entries are not those that the log signed: `claviger audit verify` says which were changed");
    }
    Ok(())
}
