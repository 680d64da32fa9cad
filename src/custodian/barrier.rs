//! The barrier between the custodian and its store: nothing passes it in the clear.
//!
//! ```text
//! key[kind, label] = HKDF-SHA256[no salt, "claviger/1 barrier " ‖ kind ‖ " " ‖ label](root key)
//! row id    = HMAC-SHA256[key[kind, ids]](name)
//! sealed    = nonce 12 ‖ AES-256-GCM[HKDF-SHA256[no salt, row id](key[kind, rows])](plaintext) ‖ tag 16,
//!             AAD = ["claviger/1 row", kind, row id, place] in deterministic CBOR
//! row print = HMAC-SHA256[key[kind, prints]](row id ‖ SHA-256(sealed) ‖ place)
//! ```
//!
//! `place` is what else stands in the row in the clear, such as its version. Each row has a key of its own, so that random
//! nonces are good for 2^32 writes of one row.
//!
//! **Invariant:** a row opens only as the kind, under the id and at the place that it was sealed for.
//! **Invariant:** without the root key, names cannot be told from ids, nor ids made from names.

use std::fmt;

use zeroize::Zeroizing;

use crate::cbor;
use crate::crypto::{self, AeadKey, NotAuthentic, RandomFailed};
use crate::secret::Secret;

use super::seal::RootKey;

/// What a row of the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A KEK with all its versions.
    Kek,
    /// What someone proposes, and who approved.
    Proposal,
    /// Leave to use keys for a time.
    Grant,
    /// A principal that may do nothing any more.
    Revocation,
    /// One of the custodians that share the store.
    Instance,
    /// The policy in force.
    Policy,
    /// What is to be destroyed, or was: the tombstone of a KEK and its certificate.
    Destruction,
    /// A backup that was made, without what is in it.
    Backup,
    /// A branch key, in the ledger.
    Branch,
    /// That a branch key was read back from a site.
    Confirmation,
    /// How far the store is: see [`Epoch`](super::store::Epoch).
    Epoch,
    /// The list of seals, which stands in the clear (it is what opens the barrier) but is accounted for too.
    Seals,
}

impl Kind {
    /// Kinds whose rows are records.
    pub const RECORDS: [Self; 8] = [
        Self::Kek,
        Self::Proposal,
        Self::Grant,
        Self::Revocation,
        Self::Instance,
        Self::Policy,
        Self::Destruction,
        Self::Backup,
    ];
    /// Kinds whose rows the epoch accounts for.
    pub const ACCOUNTED: [Self; 9] = [
        Self::Kek,
        Self::Proposal,
        Self::Grant,
        Self::Revocation,
        Self::Instance,
        Self::Policy,
        Self::Destruction,
        Self::Backup,
        Self::Seals,
    ];
    const ALL: [Self; 12] = [
        Self::Kek,
        Self::Proposal,
        Self::Grant,
        Self::Revocation,
        Self::Instance,
        Self::Policy,
        Self::Destruction,
        Self::Backup,
        Self::Branch,
        Self::Confirmation,
        Self::Epoch,
        Self::Seals,
    ];

    /// As it stands in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kek => "kek",
            Self::Proposal => "proposal",
            Self::Grant => "grant",
            Self::Revocation => "revocation",
            Self::Instance => "instance",
            Self::Policy => "policy",
            Self::Destruction => "destruction",
            Self::Backup => "backup",
            Self::Branch => "branch",
            Self::Confirmation => "confirmation",
            Self::Epoch => "epoch",
            Self::Seals => "seals",
        }
    }
}

/// The id of a row: what its name looks like in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId([u8; 32]);

impl RowId {
    /// Of the one row of a kind that has only one and no secrets.
    pub const ONLY: Self = Self([0; 32]);

    /// From its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

struct Keys {
    ids: Secret<32>,
    rows: Secret<32>,
    prints: Secret<32>,
}

/// The keys that rows are sealed under; made from an opened root key.
pub struct Barrier([(Kind, Keys); Kind::ALL.len()]);

impl Barrier {
    /// Derives the keys.
    pub fn new(root: &RootKey) -> Self {
        let key = |kind: Kind, label: &str| {
            let info = format!("claviger/1 barrier {} {label}", kind.as_str());
            crypto::hkdf_sha256(b"", root.expose(), info.as_bytes())
        };
        let keys = |kind| (kind, Keys { ids: key(kind, "ids"), rows: key(kind, "rows"), prints: key(kind, "prints") });
        Self(Kind::ALL.map(keys))
    }

    fn keys(&self, kind: Kind) -> &Keys {
        let found = self.0.iter().find(|(of, _)| *of == kind);
        &found.expect("all kinds have keys").1
    }

    /// The id of the row of that name.
    pub fn id(&self, kind: Kind, name: &[u8]) -> RowId {
        RowId(crypto::hmac_sha256(self.keys(kind).ids.expose(), name))
    }

    fn row_key(&self, kind: Kind, id: &RowId) -> AeadKey {
        AeadKey::new(&crypto::hkdf_sha256(b"", self.keys(kind).rows.expose(), id.as_bytes()))
    }

    /// Seals `plaintext` for one row.
    ///
    /// # Errors
    /// [`RandomFailed`].
    pub fn seal(&self, kind: Kind, id: &RowId, place: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, RandomFailed> {
        self.row_key(kind, id).seal(&aad(kind, id, place), plaintext)
    }

    /// Opens what was sealed for that very row.
    ///
    /// # Errors
    /// [`NotAuthentic`].
    pub fn open(
        &self,
        kind: Kind,
        id: &RowId,
        place: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, NotAuthentic> {
        self.row_key(kind, id).open(&aad(kind, id, place), sealed)
    }

    /// What the epoch adds up over all rows of a kind, so that a missing or an older row is noticed.
    pub fn print(&self, kind: Kind, id: &RowId, place: &[u8], sealed: &[u8]) -> [u8; 32] {
        let message = [id.as_bytes().as_slice(), &crypto::sha256(sealed), place].concat();
        crypto::hmac_sha256(self.keys(kind).prints.expose(), &message)
    }
}

fn aad(kind: Kind, id: &RowId, place: &[u8]) -> Vec<u8> {
    cbor::encode(|e| {
        e.array(4)?.str("claviger/1 row")?.str(kind.as_str())?.bytes(id.as_bytes())?.bytes(place)?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn barrier() -> Barrier {
        Barrier::new(&RootKey::random().expect("random"))
    }

    #[test]
    fn a_row_opens_at_its_own_place_only() {
        let (barrier, of_another_root) = (barrier(), barrier());
        let id = barrier.id(Kind::Kek, b"records");
        let sealed = barrier.seal(Kind::Kek, &id, &[1], b"a key").expect("random");
        assert_eq!(barrier.open(Kind::Kek, &id, &[1], &sealed).expect("opens").as_slice(), b"a key");
        let other = barrier.id(Kind::Kek, b"other");
        assert!(barrier.open(Kind::Kek, &other, &[1], &sealed).is_err(), "another name");
        assert!(barrier.open(Kind::Grant, &id, &[1], &sealed).is_err(), "another kind");
        assert!(barrier.open(Kind::Kek, &id, &[2], &sealed).is_err(), "another version");
        assert!(of_another_root.open(Kind::Kek, &id, &[1], &sealed).is_err(), "another root key");
        for bit in 0..8 * sealed.len() {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(barrier.open(Kind::Kek, &id, &[1], &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn ids_and_prints_are_of_one_kind_and_one_root_key() {
        let (one, two) = (barrier(), barrier());
        let id = one.id(Kind::Kek, b"records");
        assert_eq!(id, one.id(Kind::Kek, b"records"));
        assert_ne!(id, one.id(Kind::Grant, b"records"));
        assert_ne!(id, two.id(Kind::Kek, b"records"));
        let print = one.print(Kind::Kek, &id, &[1], b"sealed");
        assert_eq!(print, one.print(Kind::Kek, &id, &[1], b"sealed"));
        for other in [
            one.print(Kind::Kek, &id, &[2], b"sealed"),
            one.print(Kind::Kek, &id, &[1], b"Sealed"),
            one.print(Kind::Grant, &id, &[1], b"sealed"),
            two.print(Kind::Kek, &id, &[1], b"sealed"),
        ] {
            assert_ne!(print, other);
        }
    }
}
