//! Seals made for a root key, at first and when seals are changed, and opened without people.

use std::sync::Arc;

use crate::cbor;
use crate::crypto;
use crate::secret::Secret;

use super::super::passphrase::Passphrase;
use super::config::{Guard, Seal, SealList, legal_iterations};
use super::pkcs11::Token;
use super::remote::{RemoteWrap, in_time};
use super::share::{self, SealId, Share};
use super::{RootKey, UnsealError};

/// A seal to be made.
pub enum NewSeal<'a> {
    /// Shares for people, `threshold` of which open it: 2 of 3 and up.
    Shares {
        /// How many open it.
        threshold: u8,
        /// How many there are.
        count: u8,
    },
    /// A passphrase: for demonstration.
    Passphrase {
        /// The passphrase.
        passphrase: Arc<Passphrase>,
        /// PBKDF2 iterations, 100,000 to 10,000,000.
        iterations: u32,
    },
    /// A key in a PKCS#11 token. It is made there if it does not exist.
    Pkcs11(&'a Token),
    /// A key in another key server.
    Remote(&'a dyn RemoteWrap),
}

impl SealList {
    /// Seals `root` with one or two new seals, and gives the shares to hand out. To change the seals of a store, call it with the
    /// opened root key and put the list in the place of the old one: shares and wrapped keys of the old seals are then of no
    /// use, unless someone kept a copy of the old list besides.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub async fn make(root: &RootKey, seals: &[NewSeal<'_>]) -> Result<(Self, Vec<Share>), UnsealError> {
        let (mut made, mut shares) = (Vec::with_capacity(seals.len()), Vec::new());
        for new in seals {
            let (seal, of_it) = seal(root, new).await?;
            made.push(seal);
            shares.extend(of_it);
        }
        Ok((Self::new(root, made)?, shares))
    }

    /// Opens with a passphrase.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub async fn open_with_passphrase(&self, passphrase: &Arc<Passphrase>) -> Result<RootKey, UnsealError> {
        let mut refused = UnsealError::NoSuchSeal;
        for seal in self.seals() {
            let Guard::Passphrase { iterations, salt } = seal.guard() else { continue };
            let wrapping = stretch(passphrase, *iterations, *salt).await?;
            if let Some(root) = self.open(seal, &wrapping)? {
                return Ok(root);
            }
            refused = UnsealError::WrongPassphrase;
        }
        Err(refused)
    }

    /// Opens with a PKCS#11 token.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub async fn open_with_token(&self, token: &Token) -> Result<RootKey, UnsealError> {
        let mut refused = UnsealError::NoSuchSeal;
        for seal in self.seals() {
            let Guard::Pkcs11 { wrapped } = seal.guard() else { continue };
            refused = match token.unwrap(wrapped, &context(seal.id())).await {
                Ok(wrapping) => match self.open(seal, &wrapping)? {
                    Some(root) => return Ok(root),
                    None => UnsealError::WrongKey,
                },
                Err(failed) => failed.into(),
            };
        }
        Err(refused)
    }

    /// Opens with another key server.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub async fn open_with_remote(&self, remote: &dyn RemoteWrap) -> Result<RootKey, UnsealError> {
        let mut refused = UnsealError::NoSuchSeal;
        for seal in self.seals() {
            let Guard::Remote { wrapped } = seal.guard() else { continue };
            refused = match in_time(remote.unwrap(wrapped, &context(seal.id()))).await {
                Ok(wrapping) => match self.open(seal, &wrapping)? {
                    Some(root) => return Ok(root),
                    None => UnsealError::WrongKey,
                },
                Err(failed) => failed.into(),
            };
        }
        Err(refused)
    }
}

/// What a token or key server binds a seal's wrapping key to: `["claviger/1 wrapping key", id]` in CBOR.
fn context(id: SealId) -> Vec<u8> {
    cbor::encode(|e| {
        e.array(2)?.str("claviger/1 wrapping key")?.bytes(id.as_bytes())?;
        Ok(())
    })
}

async fn stretch(passphrase: &Arc<Passphrase>, iterations: u32, salt: [u8; 32]) -> Result<Secret<32>, UnsealError> {
    let iterations = legal_iterations(iterations).ok_or(UnsealError::Iterations(iterations))?;
    let passphrase = Arc::clone(passphrase);
    // Takes a good part of a second, on purpose.
    let work = move || crypto::pbkdf2_sha256(passphrase.expose(), &salt, iterations);
    Ok(tokio::task::spawn_blocking(work).await?)
}

async fn seal(root: &RootKey, new: &NewSeal<'_>) -> Result<(Seal, Vec<Share>), UnsealError> {
    let id = SealId::random()?;
    let mut shares = Vec::new();
    let (guard, wrapping) = match new {
        NewSeal::Shares { threshold, count } => {
            let guard = Guard::Shares { threshold: *threshold, count: *count };
            guard.check()?;
            let wrapping = crypto::random_secret()?;
            shares = share::split(id, *threshold, *count, &wrapping)?;
            (guard, wrapping)
        }
        NewSeal::Passphrase { passphrase, iterations } => {
            let salt = crypto::random_array()?;
            let wrapping = stretch(passphrase, *iterations, salt).await?;
            (Guard::Passphrase { iterations: *iterations, salt }, wrapping)
        }
        NewSeal::Pkcs11(token) => {
            let wrapping = crypto::random_secret()?;
            let wrapped = token.wrap(&wrapping, &context(id)).await?;
            // What it cannot unwrap again must not be all that keeps the root key.
            let wrapping = proven(wrapping, &token.unwrap(&wrapped, &context(id)).await?)?;
            (Guard::Pkcs11 { wrapped }, wrapping)
        }
        NewSeal::Remote(remote) => {
            let wrapping = crypto::random_secret()?;
            let wrapped = in_time(remote.wrap(&wrapping, &context(id))).await?;
            let wrapping = proven(wrapping, &in_time(remote.unwrap(&wrapped, &context(id))).await?)?;
            (Guard::Remote { wrapped }, wrapping)
        }
    };
    Ok((Seal::make(id, guard, &wrapping, root)?, shares))
}

fn proven(wrapping: Secret<32>, unwrapped: &Secret<32>) -> Result<Secret<32>, UnsealError> {
    let same = crypto::constant_time_eq(wrapping.expose(), unwrapped.expose());
    same.then_some(wrapping).ok_or(UnsealError::WrongKey)
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::crypto::AeadKey;
    use crate::custodian::seal::config::SealKind;
    use crate::custodian::seal::remote::RemoteFailed;
    use crate::custodian::seal::unsealing::{Step, Unsealing};

    /// A key server that may be away, refuse, hang or give back something else.
    #[derive(Clone, Copy, PartialEq)]
    enum Mood {
        Well,
        Away,
        Refusing,
        Hanging,
        Lying,
    }

    struct Server {
        key: AeadKey,
        mood: Mood,
    }

    impl Server {
        fn new(key: &Secret<32>, mood: Mood) -> Self {
            Self { key: AeadKey::new(key), mood }
        }

        async fn answer(&self) -> Result<(), RemoteFailed> {
            let reason = || std::io::Error::from(std::io::ErrorKind::Other).into();
            match self.mood {
                Mood::Away => Err(RemoteFailed::Unreachable(reason())),
                Mood::Refusing => Err(RemoteFailed::Refused(reason())),
                Mood::Hanging => std::future::pending().await,
                Mood::Well | Mood::Lying => Ok(()),
            }
        }
    }

    impl RemoteWrap for Server {
        fn wrap<'a>(&'a self, key: &'a Secret<32>, context: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, RemoteFailed>> {
            Box::pin(async move {
                self.answer().await?;
                Ok(self.key.seal(context, key.expose()).expect("random"))
            })
        }

        fn unwrap<'a>(
            &'a self,
            wrapped: &'a [u8],
            context: &'a [u8],
        ) -> BoxFuture<'a, Result<Secret<32>, RemoteFailed>> {
            Box::pin(async move {
                self.answer().await?;
                if self.mood == Mood::Lying {
                    return Ok(crypto::random_secret().expect("random"));
                }
                let opened = self.key.open(context, wrapped).map_err(|failed| RemoteFailed::Refused(failed.into()))?;
                Ok(Secret::from_slice(&opened).expect("32 bytes"))
            })
        }
    }

    fn passphrase(text: &str) -> Arc<Passphrase> {
        Arc::new(Passphrase::new(text.as_bytes().to_vec()).expect("long enough"))
    }

    fn with_passphrase<'a>() -> NewSeal<'a> {
        NewSeal::Passphrase { passphrase: passphrase("correct horse battery"), iterations: 100_000 }
    }

    #[tokio::test]
    async fn of_two_seals_either_opens() {
        let root = RootKey::random().expect("random");
        let key = crypto::random_secret().expect("random");
        let server = Server::new(&key, Mood::Well);
        let seals = [NewSeal::Remote(&server), NewSeal::Shares { threshold: 2, count: 3 }];
        let (list, shares) = SealList::make(&root, &seals).await.expect("makes");
        let list = SealList::parse(&list.to_bytes()).expect("parses");
        assert_eq!(list.seals()[1].kind(), SealKind::Shares { threshold: 2, count: 3 });
        let opened = list.open_with_remote(&server).await.expect("opens");
        assert_eq!(opened.expose(), root.expose());

        let mut unsealing = Unsealing::new(list);
        let mut shares = shares.into_iter().skip(1);
        assert!(matches!(unsealing.submit(shares.next().expect("three")), Ok(Step::Waiting(_))));
        let Ok(Step::Opened(opened)) = unsealing.submit(shares.next().expect("three")) else { panic!("opens") };
        assert_eq!(opened.expose(), root.expose());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_server_in_any_mood_leads_to_an_answer() {
        let root = RootKey::random().expect("random");
        let key = crypto::random_secret().expect("random");
        let well = Server::new(&key, Mood::Well);
        let (list, _) = SealList::make(&root, &[NewSeal::Remote(&well)]).await.expect("makes");
        let open = async |mood| list.open_with_remote(&Server::new(&key, mood)).await.err().expect("refused");
        assert!(matches!(open(Mood::Away).await, UnsealError::Remote(RemoteFailed::Unreachable(_))));
        assert!(matches!(open(Mood::Refusing).await, UnsealError::Remote(RemoteFailed::Refused(_))));
        assert!(matches!(open(Mood::Hanging).await, UnsealError::Remote(RemoteFailed::Unreachable(_))));
        assert!(matches!(open(Mood::Lying).await, UnsealError::WrongKey));
        let other = Server::new(&crypto::random_secret().expect("random"), Mood::Well);
        assert!(list.open_with_remote(&other).await.is_err());
        let liar = Server::new(&key, Mood::Lying);
        assert!(matches!(SealList::make(&root, &[NewSeal::Remote(&liar)]).await, Err(UnsealError::WrongKey)));
    }

    #[tokio::test]
    async fn a_passphrase_opens_its_seal_and_another_does_not() {
        let root = RootKey::random().expect("random");
        let (list, shares) = SealList::make(&root, &[with_passphrase()]).await.expect("makes");
        assert!(shares.is_empty());
        let opened = list.open_with_passphrase(&passphrase("correct horse battery")).await.expect("opens");
        assert_eq!(opened.expose(), root.expose());
        let wrong = list.open_with_passphrase(&passphrase("wrong horse battery")).await.err();
        assert!(matches!(wrong, Some(UnsealError::WrongPassphrase)));
        let key = crypto::random_secret().expect("random");
        let none = list.open_with_remote(&Server::new(&key, Mood::Well)).await.err();
        assert!(matches!(none, Some(UnsealError::NoSuchSeal)));
    }

    #[tokio::test]
    async fn new_seals_keep_the_root_key_and_shut_out_the_old_ones() {
        let root = RootKey::random().expect("random");
        let shares = [NewSeal::Shares { threshold: 2, count: 3 }];
        let (_, old) = SealList::make(&root, &shares).await.expect("makes");
        let (list, _) = SealList::make(&root, &[with_passphrase(), NewSeal::Shares { threshold: 3, count: 5 }])
            .await
            .expect("makes");
        let opened = list.open_with_passphrase(&passphrase("correct horse battery")).await.expect("opens");
        assert_eq!(opened.expose(), root.expose());
        let mut unsealing = Unsealing::new(list);
        for share in old {
            assert!(matches!(unsealing.submit(share), Err(UnsealError::Share(share::ShareError::Foreign))));
        }
    }

    #[tokio::test]
    async fn seals_out_of_bounds_are_not_made() {
        let root = RootKey::random().expect("random");
        assert!(matches!(SealList::make(&root, &[]).await, Err(UnsealError::SealCount)));
        let one_of_one = NewSeal::Shares { threshold: 1, count: 1 };
        assert!(matches!(SealList::make(&root, &[one_of_one]).await, Err(UnsealError::Threshold)));
        let quick = NewSeal::Passphrase { passphrase: passphrase("correct horse battery"), iterations: 1 };
        assert!(matches!(SealList::make(&root, &[quick]).await, Err(UnsealError::Iterations(1))));
    }
}
