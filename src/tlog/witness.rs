//! Witnesses: cosigning what is consistent with everything seen before, and asking for a quorum of them (C2SP tlog-cosignature).

use super::checkpoint::{Checkpoint, SignedCheckpoint};
use super::merkle::Hash;
use super::note::{Signature, Signer, Use, VerifierKey};
use super::proof::{InvalidProof, verify_consistency};

/// How far a witness's clock may be ahead of the verifier's.
const CLOCK_MARGIN_S: u64 = 300;

/// Why a witness does not sign. All but [`CosignError::Record`] and [`CosignError::NotAWitness`] speak against the log.
#[derive(Debug, thiserror::Error)]
pub enum CosignError<E> {
    /// The signer is not for cosigning.
    #[error("the key is not a witness's key")]
    NotAWitness,
    /// The checkpoint and what was seen are of different logs.
    #[error("the checkpoint is of another log than the one seen before")]
    Origin,
    /// The log got shorter.
    #[error("the checkpoint has {size} entries, fewer than the {seen} seen before")]
    Shorter {
        /// Entries now.
        size: u64,
        /// Entries seen.
        seen: u64,
    },
    /// Two roots for one size.
    #[error("the log has forked: another root for the {size} entries seen before")]
    Fork {
        /// Entries.
        size: u64,
    },
    /// The proof does not show that the log only grew.
    #[error("no proof that the log only grew since {seen} entries")]
    Inconsistent {
        /// Entries seen.
        seen: u64,
        /// The cause.
        source: InvalidProof,
    },
    /// What was seen could not be stored, so nothing was signed.
    #[error("what was seen could not be stored")]
    Record(#[source] E),
}

/// Cosigns `checkpoint` if it is consistent with `seen`, the latest checkpoint of this log that this witness cosigned (`None`: trust on
/// first use). `proof` is the consistency proof from `seen` (empty at first, and for the same size); `now_s` is in seconds since 1970.
///
/// `record` stores the checkpoint durably as the new `seen` **before** the cosignature exists: a witness that forgets could be made to
/// sign a fork. The caller lets one call per log run at a time.
///
/// # Errors
/// [`CosignError`].
pub fn cosign<E>(
    checkpoint: &SignedCheckpoint,
    witness: &Signer,
    seen: Option<&Checkpoint>,
    proof: &[Hash],
    now_s: u64,
    record: impl FnOnce(&Checkpoint) -> Result<(), E>,
) -> Result<Signature, CosignError<E>> {
    if witness.verifier().usage() != Use::Witness {
        return Err(CosignError::NotAWitness);
    }
    let new = checkpoint.checkpoint();
    if let Some(seen) = seen {
        check(seen, new, proof)?;
    }
    record(new).map_err(CosignError::Record)?;
    Ok(witness.cosign(checkpoint.note().text(), now_s))
}

fn check<E>(seen: &Checkpoint, new: &Checkpoint, proof: &[Hash]) -> Result<(), CosignError<E>> {
    let (size, seen_size) = (new.size(), seen.size());
    if seen.origin() != new.origin() {
        return Err(CosignError::Origin);
    }
    if size < seen_size {
        return Err(CosignError::Shorter { size, seen: seen_size });
    }
    if size == seen_size && new.root() != seen.root() {
        return Err(CosignError::Fork { size });
    }
    verify_consistency(proof, (seen_size, seen.root()), (size, new.root()))
        .map_err(|source| CosignError::Inconsistent { seen: seen_size, source })
}

/// How many of which witnesses must have cosigned.
#[derive(Debug, Clone)]
pub struct WitnessPolicy {
    witnesses: Vec<VerifierKey>,
    quorum: usize,
}

/// Why a policy makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// A key that is not for cosigning.
    #[error("{0} is not a witness's key")]
    NotAWitness(String),
    /// One key under two names would count twice.
    #[error("{0} has the same key as another witness")]
    SameKey(String),
    /// Zero, or more than there are witnesses.
    #[error("a quorum of {quorum} among {witnesses} witnesses")]
    Quorum {
        /// Asked for.
        quorum: usize,
        /// There are.
        witnesses: usize,
    },
}

/// Why a checkpoint does not satisfy a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoQuorum {
    /// Too few cosignatures.
    #[error("{found} of the {quorum} cosignatures that the policy asks for")]
    TooFew {
        /// Good ones.
        found: usize,
        /// Asked for.
        quorum: usize,
    },
    /// A line in the name of a witness that it did not sign.
    #[error("a forged cosignature of {0}")]
    Forged(String),
    /// From a clock that is too far ahead.
    #[error("the cosignature of {0} is from the future")]
    Future(String),
}

/// A good cosignature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// The witness.
    pub witness: String,
    /// When, in seconds since 1970; the latest if there are several.
    pub time_s: u64,
}

impl WitnessPolicy {
    /// `quorum` of `witnesses`.
    ///
    /// # Errors
    /// [`InvalidPolicy`].
    pub fn new(witnesses: Vec<VerifierKey>, quorum: usize) -> Result<Self, InvalidPolicy> {
        for (at, witness) in witnesses.iter().enumerate() {
            if witness.usage() != Use::Witness {
                return Err(InvalidPolicy::NotAWitness(witness.name().to_owned()));
            }
            if witnesses[..at].iter().any(|other| other.public() == witness.public()) {
                return Err(InvalidPolicy::SameKey(witness.name().to_owned()));
            }
        }
        if quorum == 0 || quorum > witnesses.len() {
            return Err(InvalidPolicy::Quorum { quorum, witnesses: witnesses.len() });
        }
        Ok(Self { witnesses, quorum })
    }

    /// Checks the cosignatures of `checkpoint`; `now_s` is in seconds since 1970. Lines of others are ignored.
    ///
    /// # Errors
    /// [`NoQuorum`].
    pub fn verify(&self, checkpoint: &SignedCheckpoint, now_s: u64) -> Result<Vec<Cosigned>, NoQuorum> {
        let note = checkpoint.note();
        let mut found = Vec::new();
        for witness in &self.witnesses {
            let id = witness.id();
            if !note.signatures().iter().any(|line| line.name() == witness.name() && line.id() == id) {
                continue;
            }
            let name = || witness.name().to_owned();
            let times = witness.verify(note).map_err(|_| NoQuorum::Forged(name()))?;
            let time_s = times.iter().filter_map(|verified| verified.time_s).max().unwrap_or(0);
            if time_s > now_s.saturating_add(CLOCK_MARGIN_S) {
                return Err(NoQuorum::Future(name()));
            }
            found.push(Cosigned { witness: name(), time_s });
        }
        if found.len() < self.quorum {
            return Err(NoQuorum::TooFew { found: found.len(), quorum: self.quorum });
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::crypto::SigningKey;
    use crate::secret::Secret;
    use crate::tlog::merkle::vectors::root;
    use crate::tlog::merkle::{leaf_hash, node_hash};

    const NOW: u64 = 1_679_315_147;

    fn signer(name: &str, usage: Use, first: u8) -> Signer {
        let seed: [u8; 32] = std::array::from_fn(|at| first + u8::try_from(at).expect("small"));
        let key = SigningKey::from_seed(Secret::from_slice(&seed).expect("32 bytes"));
        Signer::new(name, usage, key).expect("a name")
    }

    fn checkpoint(size: u64, root: Hash) -> SignedCheckpoint {
        Checkpoint::new("example.com/audit", size, root).sign(&signer("example.com/audit", Use::Log, 1))
    }

    fn witness() -> Signer {
        signer("witness.example.com/w1", Use::Witness, 33)
    }

    fn cosigned(
        new: &SignedCheckpoint,
        seen: Option<&SignedCheckpoint>,
        proof: &[Hash],
    ) -> Result<Signature, CosignError<Infallible>> {
        cosign(new, &witness(), seen.map(SignedCheckpoint::checkpoint), proof, NOW, |_| Ok(()))
    }

    #[test]
    fn a_cosignature_is_the_one_of_the_vector() {
        // Made with an independent implementation of Ed25519.
        let line = "— witness.example.com/w1 \
             ay/augAAAABkGFDLYWU7VqUBwMusnCanOIS+x0uZ/6tMqtUoz74ZtyjIxs1riq4H4u+UDwh18I2r1rHQBdFVX+HCzBlo1EBRESgLAA==";
        let key = "witness.example.com/w1+6b2fdaba+BOfxYqEL7FWa/qGV5NzoS2lWjV0ssJY+tEbAaF4rF/Lw";
        let new = checkpoint(1, leaf_hash(b"hello"));
        let signature = cosigned(&new, None, &[]).expect("first use");
        assert_eq!(signature.to_string(), line);
        assert_eq!(witness().verifier().to_string(), key);
        let policy = WitnessPolicy::new(vec![witness().verifier().clone()], 1).expect("a policy");
        let new = new.with_cosignature(signature).expect("room");
        let expected = Cosigned { witness: "witness.example.com/w1".to_owned(), time_s: NOW };
        assert_eq!(policy.verify(&new, NOW), Ok(vec![expected]));
    }

    #[test]
    fn nothing_inconsistent_is_cosigned() {
        let [one, two, fork] = [checkpoint(1, root(1)), checkpoint(2, root(2)), checkpoint(2, root(3))];
        let proof = [leaf_hash(b"\x00")];
        assert_eq!(node_hash(&root(1), &proof[0]), root(2));
        assert!(cosigned(&two, Some(&one), &proof).is_ok());
        assert!(cosigned(&two, Some(&two), &[]).is_ok());
        assert!(matches!(cosigned(&two, Some(&one), &[]), Err(CosignError::Inconsistent { seen: 1, .. })));
        assert!(matches!(cosigned(&fork, Some(&one), &proof), Err(CosignError::Inconsistent { seen: 1, .. })));
        assert!(matches!(cosigned(&fork, Some(&two), &[]), Err(CosignError::Fork { size: 2 })));
        assert!(matches!(cosigned(&one, Some(&two), &proof), Err(CosignError::Shorter { size: 1, seen: 2 })));
        let other = Checkpoint::new("example.com/b", 2, root(2)).sign(&signer("example.com/b", Use::Log, 1));
        assert!(matches!(cosigned(&other, Some(&two), &[]), Err(CosignError::Origin)));
        let log = signer("example.com/audit", Use::Log, 1);
        let refused = cosign(&two, &log, None, &[], NOW, |_| Ok::<(), Infallible>(()));
        assert!(matches!(refused, Err(CosignError::NotAWitness)));
    }

    #[test]
    fn nothing_is_cosigned_that_could_not_be_recorded() {
        let refused = cosign(&checkpoint(1, root(1)), &witness(), None, &[], NOW, |_| Err("disk full"));
        assert!(matches!(refused, Err(CosignError::Record("disk full"))));
    }

    #[test]
    fn a_quorum_is_of_different_witnesses_with_good_cosignatures() {
        let witnesses: Vec<Signer> =
            [(40, "a"), (80, "b"), (120, "c")].map(|(first, name)| signer(name, Use::Witness, first)).into();
        let keys = witnesses.iter().map(|witness| witness.verifier().clone()).collect();
        let policy = WitnessPolicy::new(keys, 2).expect("a policy");
        let sign = |checkpoint: SignedCheckpoint, witness: &Signer, time_s| {
            let line = witness.cosign(checkpoint.note().text(), time_s);
            checkpoint.with_cosignature(line).expect("room")
        };
        let twice = sign(sign(checkpoint(1, root(1)), &witnesses[0], NOW), &witnesses[0], NOW + 1);
        assert_eq!(policy.verify(&twice, NOW), Err(NoQuorum::TooFew { found: 1, quorum: 2 }));
        let stranger = sign(twice.clone(), &signer("d", Use::Witness, 200), NOW);
        assert_eq!(policy.verify(&stranger, NOW), Err(NoQuorum::TooFew { found: 1, quorum: 2 }));
        let two = sign(twice.clone(), &witnesses[2], NOW);
        let found = policy.verify(&two, NOW).expect("two of three");
        assert_eq!(
            found.iter().map(|c| (c.witness.as_str(), c.time_s)).collect::<Vec<_>>(),
            [("a", NOW + 1), ("c", NOW)]
        );
        let future = sign(two.clone(), &witnesses[1], NOW + 301);
        assert_eq!(policy.verify(&future, NOW), Err(NoQuorum::Future("b".to_owned())));
        let of_another = witnesses[1].cosign(checkpoint(2, root(2)).note().text(), NOW);
        let forged = two.with_cosignature(of_another).expect("room");
        assert_eq!(policy.verify(&forged, NOW), Err(NoQuorum::Forged("b".to_owned())));
    }

    #[test]
    fn policies_that_count_one_witness_twice_are_refused() {
        let key = |name, usage, first| signer(name, usage, first).verifier().clone();
        let same = vec![key("a", Use::Witness, 1), key("b", Use::Witness, 1)];
        assert_eq!(WitnessPolicy::new(same, 1).err(), Some(InvalidPolicy::SameKey("b".to_owned())));
        let log = vec![key("a", Use::Log, 1)];
        assert_eq!(WitnessPolicy::new(log, 1).err(), Some(InvalidPolicy::NotAWitness("a".to_owned())));
        let one = vec![key("a", Use::Witness, 1)];
        assert!(matches!(WitnessPolicy::new(one.clone(), 0), Err(InvalidPolicy::Quorum { .. })));
        assert!(matches!(WitnessPolicy::new(one, 2), Err(InvalidPolicy::Quorum { .. })));
    }
}
