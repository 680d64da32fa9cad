//! `claviger custodian init`: a new store under its seals.
//!
//! **Invariant:** shares are where they belong before there is a store that they open; a store that exists is left alone.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::remote::KeyServer;
use crate::cli::files::{make_private_folder, write_private};
use crate::cli::{Usage, runtime};
use crate::config::custodian_server::{self as config, CustodianConfig, SealSection, StoreSection};
use crate::custodian::passphrase::Passphrase;
use crate::custodian::seal::RootKey;
use crate::custodian::seal::config::SealList;
use crate::custodian::seal::make::NewSeal;
use crate::custodian::seal::pkcs11::Token;
use crate::custodian::seal::share::Share;
use crate::custodian::store::{
    SealedStore, Store, StoreError, StoreSettings, connect_postgres, create_sqlite, open_sqlite,
};

#[derive(Args)]
pub(super) struct Arguments {
    /// The configuration file
    #[arg(long = "config", env = "CLAVIGER_CUSTODIAN_CONFIG", value_name = "FILE")]
    file: PathBuf,
    /// Write each share into a file of its own in this folder, instead of showing them on the terminal
    #[arg(long, value_name = "DIR")]
    shares_to: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let config = config::load(&arguments.file)?;
    let has_shares = config.seals.iter().any(|seal| matches!(seal, SealSection::Shares { .. }));
    if has_shares && arguments.shares_to.is_none() && !std::io::stdout().is_terminal() {
        return Err(Usage("there is no terminal to show the shares on: give --shares-to DIR".to_owned()).into());
    }
    runtime()?.block_on(make(&config, arguments.shares_to.as_deref()))
}

async fn make(config: &CustodianConfig, shares_to: Option<&Path>) -> Result<()> {
    let store = empty_store(&config.store).await?;
    let root = RootKey::random()?;
    let parts = config.seals.iter().map(Part::new).collect::<Result<Vec<_>>>()?;
    let seals: Vec<NewSeal<'_>> = parts.iter().map(Part::seal).collect();
    let (list, shares) = SealList::make(&root, &seals).await.context("a seal cannot be made")?;
    if let Some(folder) = shares_to.filter(|_| !shares.is_empty()) {
        write_shares(folder, &shares)?;
    }
    SealedStore::create(Arc::clone(&store), &root, &list).await.context("the store cannot be made")?;
    if shares_to.is_none() {
        show_shares(&shares);
    }
    store.close().await;
    println!("the store is made, with {} seal{}", seals.len(), if seals.len() == 1 { "" } else { "s" });
    println!("run it: claviger custodian --config {}", config.file.display());
    if !shares.is_empty() {
        println!("then each of those who have a share: claviger unseal");
    }
    Ok(())
}

/// A database without a store in it.
async fn empty_store(section: &StoreSection) -> Result<Arc<dyn Store>> {
    let settings = StoreSettings::default();
    let store: Arc<dyn Store> = match section {
        StoreSection::Sqlite { file } if file.exists() => Arc::new(open_sqlite(file, settings).await?),
        StoreSection::Sqlite { file } => Arc::new(create_sqlite(file, settings).await?),
        StoreSection::Postgres(server) => Arc::new(connect_postgres(server, settings).await?),
    };
    match SealedStore::seals(store.as_ref()).await {
        Err(StoreError::Empty) => Ok(store),
        Ok(_) => bail!("there is a store already; it is left as it is"),
        Err(failed) => Err(failed).context("cannot look into the store"),
    }
}

/// What a seal is made of, kept while it is made.
enum Part {
    Shares { threshold: u8, count: u8 },
    Passphrase { passphrase: Arc<Passphrase>, iterations: u32 },
    Token(Token),
    KeyServer(KeyServer),
}

impl Part {
    fn new(section: &SealSection) -> Result<Self> {
        Ok(match section {
            SealSection::Shares { threshold, count } => Self::Shares { threshold: *threshold, count: *count },
            SealSection::Passphrase { passphrase, iterations } => {
                Self::Passphrase { passphrase: Arc::clone(passphrase), iterations: *iterations }
            }
            SealSection::Pkcs11(settings) => Self::Token(Token::new(settings.clone())),
            SealSection::Transit(seal) => Self::KeyServer(KeyServer::new(seal)?),
        })
    }

    fn seal(&self) -> NewSeal<'_> {
        match self {
            Self::Shares { threshold, count } => NewSeal::Shares { threshold: *threshold, count: *count },
            Self::Passphrase { passphrase, iterations } => {
                NewSeal::Passphrase { passphrase: Arc::clone(passphrase), iterations: *iterations }
            }
            Self::Token(token) => NewSeal::Pkcs11(token),
            Self::KeyServer(server) => NewSeal::Remote(server),
        }
    }
}

/// The shares by seal, each with the number of the seal among those that have shares.
fn numbered(shares: &[Share]) -> impl Iterator<Item = (usize, &Share)> {
    let first = shares.first().map(Share::seal);
    shares.iter().map(move |share| (if Some(share.seal()) == first { 1 } else { 2 }, share))
}

fn write_shares(folder: &Path, shares: &[Share]) -> Result<()> {
    make_private_folder(folder)?;
    for (seal, share) in numbered(shares) {
        let path = folder.join(format!("seal-{seal}-share-{}", share.index()));
        let mut text = share.to_text().expose().to_vec();
        text.push(b'\n');
        write_private(&path, &zeroize::Zeroizing::new(text))?;
        println!("{}", path.display());
    }
    println!("hand each file to another person, and delete it here");
    Ok(())
}

fn show_shares(shares: &[Share]) {
    if shares.is_empty() {
        return;
    }
    println!("these shares are shown once; give each to another person:");
    for (seal, share) in numbered(shares) {
        let text = share.to_text();
        println!("seal {seal}, share {}: {}", share.index(), String::from_utf8_lossy(text.expose()));
    }
}
