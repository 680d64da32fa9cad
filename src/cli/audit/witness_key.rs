//! `claviger audit witness-key`: a witness's key, and the file that it lies in.
//!
//! The file holds one line, as Go's note package writes signing keys: `PRIVATE+KEY+name+id+base64(type ‖ seed)`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use zeroize::Zeroizing;

use super::read_bounded;
use crate::cli::{Usage, files};
use crate::crypto::SigningKey;
use crate::secret::Secret;
use crate::tlog::note::{Signer, Use};

const PREFIX: &str = "PRIVATE+KEY+";
/// The type of cosignatures (C2SP tlog-cosignature v1).
const TYPE: u8 = 4;
const FILE_LEN_MAX: u64 = 1024;

#[derive(Args)]
pub(super) struct Arguments {
    /// The witness's name, such as witness.example.org/claviger
    #[arg(long)]
    name: String,
    /// The file to make, for this user alone
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let key = SigningKey::generate()?;
    let seed = Secret::<32>::from_slice(key.seed().expose())?;
    let signer = Signer::new(&arguments.name, Use::Witness, key)
        .map_err(|_| Usage("a name has 1 to 255 characters, no white space and no '+'".to_owned()))?;
    files::write_private(&arguments.out, line(&signer, &seed).as_bytes())?;
    println!("{}", signer.verifier());
    Ok(())
}

fn line(signer: &Signer, seed: &Secret<32>) -> Zeroizing<String> {
    let mut key = Zeroizing::new(Vec::with_capacity(33));
    key.push(TYPE);
    key.extend_from_slice(seed.expose());
    let id = u32::from_be_bytes(signer.verifier().id());
    let encoded = Zeroizing::new(STANDARD.encode(&*key));
    Zeroizing::new(format!("{PREFIX}{}+{id:08x}+{}\n", signer.verifier().name(), *encoded))
}

/// The key in the file, which must not be open to all users.
pub(super) fn load(path: &Path) -> Result<Signer> {
    let open = || std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()));
    let mode = open()?.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        bail!("{} holds a private key and is open to all users: run `chmod o-rwx` on it", path.display());
    }
    let bytes = Zeroizing::new(read_bounded(path, FILE_LEN_MAX)?);
    parse(&bytes).with_context(|| format!("{} holds no key of a witness", path.display()))
}

fn parse(bytes: &[u8]) -> Result<Signer> {
    let text = std::str::from_utf8(bytes).context("it is not text")?;
    let rest = text.trim_end().strip_prefix(PREFIX).with_context(|| format!("it does not begin with {PREFIX}"))?;
    let mut parts = rest.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        bail!("it is not name, id and key");
    };
    let key = Zeroizing::new(STANDARD.decode(key).ok().context("the key is not base64")?);
    let seed = match key.split_first() {
        Some((&TYPE, seed)) => Secret::<32>::from_slice(seed).ok().context("the key is not 32 bytes")?,
        _ => bail!("the key is not for cosignatures (type {TYPE})"),
    };
    let signer = Signer::new(name, Use::Witness, SigningKey::from_seed(seed))?;
    ensure!(id == format!("{:08x}", u32::from_be_bytes(signer.verifier().id())), "the id is not that of name and key");
    Ok(signer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_loaded() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("witness.key");
        let arguments = Arguments { name: "witness.example.org".to_owned(), out: out.clone() };
        run(&arguments).expect("makes a key");
        let signer = load(&out).expect("loads");
        assert_eq!((signer.verifier().name(), signer.verifier().usage()), ("witness.example.org", Use::Witness));
        assert!(run(&arguments).is_err(), "it is not overwritten");

        std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o644)).expect("own file");
        assert!(load(&out).expect_err("open to all").to_string().contains("chmod"));
    }

    #[test]
    fn other_files_are_no_keys() {
        let seed = Secret::<32>::from_slice(&[7; 32]).expect("32 bytes");
        let signer = Signer::new("w", Use::Witness, SigningKey::from_seed(seed)).expect("a name");
        let seed = Secret::<32>::from_slice(&[7; 32]).expect("32 bytes");
        let good = line(&signer, &seed).to_string();
        assert_eq!(parse(good.as_bytes()).expect("a key").verifier(), signer.verifier());
        for bad in [
            String::new(),
            good.replace(PREFIX, ""),
            good.replace("+w+", "+v+"),
            good.replace("+w+", "+w+0"),
            good.trim_end()[..good.len() - 2].to_owned(),
            signer.verifier().to_string(),
            good.replace("BAcH", "AQcH"),
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
