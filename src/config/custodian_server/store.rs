//! `[store]`: the database.

use std::path::PathBuf;

use crate::config::files;
use crate::config::problem::Mistake;
use crate::config::section::Section;
use crate::custodian::store::PostgresSettings;

/// The database.
pub enum StoreSection {
    /// A file of this machine.
    Sqlite {
        /// The file.
        file: PathBuf,
    },
    /// A server, which several custodians may share.
    Postgres(PostgresSettings),
}

impl StoreSection {
    /// As those who ask for the seal's status are told.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "sqlite",
            Self::Postgres(_) => "postgresql",
        }
    }
}

pub(super) fn read(section: Section<'_>) -> Option<StoreSection> {
    // Which keys belong here hangs on the kind, so that without one nothing more can be said.
    let kind = section.required("kind").and_then(|text| {
        text.parsed(|text| match text {
            "sqlite" | "postgres" => Ok(text),
            _ => Err(Mistake::Choice(vec!["sqlite", "postgres"])),
        })
    })?;
    let read = if kind == "sqlite" { sqlite(&section) } else { postgres(&section) };
    section.finish();
    read
}

fn sqlite(section: &Section<'_>) -> Option<StoreSection> {
    let text = section.required("file")?;
    let path = text.path();
    let folder_is_there = path.parent().is_some_and(|folder| folder.as_os_str().is_empty() || folder.is_dir());
    let file = text.parsed(|_| if folder_is_there { Ok(path) } else { Err(Mistake::NoFolder { path }) })?;
    Some(StoreSection::Sqlite { file })
}

fn postgres(section: &Section<'_>) -> Option<StoreSection> {
    let address = section.required("address");
    let password = match section.text("password_file") {
        None => Some(None),
        Some(text) => text.parsed(|_| files::secret_access_key(&text.path())).map(Some),
    };
    let existing = |text: crate::config::section::Text<'_>| {
        let path = text.path();
        text.parsed(|_| files::open(&path)).map(|_| path)
    };
    let root_certificate = match section.text("ca_file") {
        None => Some(None),
        Some(text) => existing(text).map(Some),
    };
    let has_pair = section.has("certificate_file") || section.has("key_file");
    let pair = files::optional_pair(section, "certificate_file", "key_file");
    let pair = pair.and_then(|(certificate, key)| Some((existing(certificate)?, existing(key)?)));
    let address = address?;
    let server = PostgresSettings {
        address: address.text.to_owned(),
        password: password?,
        root_certificate: root_certificate?,
        client_certificate: pair,
    };
    address.parsed(|_| server.check())?;
    (server.client_certificate.is_some() == has_pair).then_some(StoreSection::Postgres(server))
}
