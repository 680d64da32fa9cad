//! What is known of a backup without opening it: in its file, and in the custodian's store.
//!
//! `["claviger/1 backup note", id, made, instance, threshold, [recipient…], [[KEK, newest version]…]]` in deterministic CBOR.

use std::collections::BTreeSet;

use minicbor::decode::Decoder;
use serde_json::Value;

use crate::cbor::{self, NotCanonical};
use crate::custodian::approval::codec::{array, label, length, time};
use crate::custodian::approval::json::{unhex, unix_s};
use crate::custodian::seal::share::SealId;
use crate::names::{KekName, KekVersion};

use super::{BACKUP_KEKS_MAX, RECIPIENTS_MAX, THRESHOLD_MIN};

const LABEL: &str = "claviger/1 backup note";
/// Most bytes of an instance's name, and of a recipient.
const TEXT_MAX: usize = 256;

/// Which KEKs a backup holds, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupNote {
    /// 32 hexadecimal digits.
    pub id: String,
    /// When it was made, in seconds since 1970.
    pub made_unix_s: i64,
    /// By which custodian.
    pub instance: String,
    /// How many of the recipients it takes.
    pub threshold: u8,
    /// Who has a share.
    pub recipients: Vec<String>,
    /// The KEKs, and the newest version of each.
    pub keks: Vec<(KekName, KekVersion)>,
}

impl BackupNote {
    /// The id as shares bear it.
    pub(in crate::custodian) fn seal_id(&self) -> Option<SealId> {
        unhex(&self.id).map(SealId::from_bytes)
    }

    /// Whether that KEK is in it.
    pub fn holds(&self, kek: &KekName) -> bool {
        self.keks.iter().any(|(name, _)| name == kek)
    }

    fn is_sound(&self) -> bool {
        let recipients: BTreeSet<_> = self.recipients.iter().collect();
        let keks: BTreeSet<_> = self.keks.iter().map(|(name, _)| name.as_str()).collect();
        let short = |text: &String| (1..=TEXT_MAX).contains(&text.len());
        self.seal_id().is_some()
            && short(&self.instance)
            && self.recipients.iter().all(short)
            && (usize::from(THRESHOLD_MIN)..=RECIPIENTS_MAX).contains(&recipients.len())
            && recipients.len() == self.recipients.len()
            && (usize::from(THRESHOLD_MIN)..=recipients.len()).contains(&self.threshold.into())
            && (1..=BACKUP_KEKS_MAX).contains(&keks.len())
            && keks.len() == self.keks.len()
    }

    /// What the JSON of a backup says; whether it is so, only its bundle tells.
    pub(super) fn of_head(head: &Value) -> Option<Self> {
        let kek = |one: &Value| {
            let latest = one["versions"].as_array()?.last()?.as_u64()?;
            let latest = u32::try_from(latest).ok().and_then(KekVersion::new)?;
            Some((KekName::new(one["name"].as_str()?).ok()?, latest))
        };
        let note = Self {
            id: head["id"].as_str()?.to_owned(),
            made_unix_s: unix_s(head["made"].as_str()?)?,
            instance: head["instance"].as_str()?.to_owned(),
            threshold: u8::try_from(head["threshold"].as_u64()?).ok()?,
            recipients: (head["shares"].as_array()?.iter())
                .map(|one| Some(one["recipient"].as_str()?.to_owned()))
                .collect::<Option<_>>()?,
            keks: head["keks"].as_array()?.iter().map(kek).collect::<Option<_>>()?,
        };
        note.is_sound().then_some(note)
    }

    /// The bytes that [`BackupNote::parse`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::encode(|e| {
            e.array(7)?.str(LABEL)?.str(&self.id)?.i64(self.made_unix_s)?.str(&self.instance)?.u8(self.threshold)?;
            e.array(self.recipients.len() as u64)?;
            for recipient in &self.recipients {
                e.str(recipient)?;
            }
            e.array(self.keks.len() as u64)?;
            for (name, latest) in &self.keks {
                e.array(2)?.str(name.as_str())?.u32(latest.number())?;
            }
            Ok(())
        })
    }

    /// Reads what [`BackupNote::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`NotCanonical`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NotCanonical> {
        let note = cbor::parse(bytes, read, Self::to_bytes)?;
        if note.is_sound() { Ok(note) } else { Err(NotCanonical) }
    }
}

fn read(d: &mut Decoder<'_>) -> Result<BackupNote, NotCanonical> {
    array(d, 7)?;
    label(d, LABEL)?;
    let (id, made_unix_s) = (d.str()?.to_owned(), time(d)?);
    let (instance, threshold) = (d.str()?.to_owned(), d.u8()?);
    let recipient = |d: &mut Decoder<'_>| Ok::<_, NotCanonical>(d.str()?.to_owned());
    let recipients = (0..length(d, RECIPIENTS_MAX)?).map(|_| recipient(d)).collect::<Result<_, _>>()?;
    let kek = |d: &mut Decoder<'_>| {
        array(d, 2)?;
        let name = KekName::new(d.str()?).map_err(|_| NotCanonical)?;
        Ok((name, KekVersion::new(d.u32()?).ok_or(NotCanonical)?))
    };
    let keks = (0..length(d, BACKUP_KEKS_MAX)?).map(|_| kek(d)).collect::<Result<_, NotCanonical>>()?;
    Ok(BackupNote { id, made_unix_s, instance, threshold, recipients, keks })
}
