//! Records: what the custodian keeps besides the branch ledger, as plaintext of a row.
//!
//! `["claviger/1 record", name, state, expiry or null, body]` in deterministic CBOR. The name is inside, because the row's id does
//! not tell it.

use std::fmt;

use minicbor::decode::Decoder;
use minicbor::encode::{Encoder, Error};
use std::convert::Infallible;
use zeroize::Zeroizing;

use crate::cbor::NotCanonical;

use super::error::{Corruption, StoreError};
use super::{Kind, ROW_LEN_MAX};

const LABEL: &str = "claviger/1 record";
/// Most bytes of a record's name.
const NAME_MAX: usize = 512;
/// More than all but name and body takes.
const FRAME: usize = 64;
/// Most bytes of a record's body.
const BODY_MAX: usize = ROW_LEN_MAX - NAME_MAX - 2 * FRAME;

/// A record as it stands in the store.
pub struct Record {
    /// Its name within its kind.
    pub name: String,
    /// How often it was written: what the next write has to expect.
    pub version: u64,
    /// What its kind makes of it; 0 where there is nothing to tell.
    pub state: u8,
    /// When it ends, in seconds since 1970.
    pub expires_unix_s: Option<i64>,
    /// Its content, as its kind writes it.
    pub body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Record");
        shown.field("name", &self.name).field("version", &self.version).field("state", &self.state);
        shown.field("expires_unix_s", &self.expires_unix_s).finish_non_exhaustive()
    }
}

/// A record to be written.
#[derive(Clone, Copy)]
pub struct NewRecord<'a> {
    /// One of [`Kind::RECORDS`].
    pub kind: Kind,
    /// Its name within its kind: 1 to 512 bytes.
    pub name: &'a str,
    /// The version that it has now; 0 if there must be none of that name.
    pub expected: u64,
    /// As in [`Record`].
    pub state: u8,
    /// As in [`Record`].
    pub expires_unix_s: Option<i64>,
    /// As in [`Record`]; about 255 KiB at most.
    pub body: &'a [u8],
}

/// A change to the store.
#[derive(Clone, Copy)]
pub enum Change<'a> {
    /// Writes a record; its version is then `expected + 1`.
    Put(NewRecord<'a>),
    /// Removes a record.
    Remove {
        /// One of [`Kind::RECORDS`].
        kind: Kind,
        /// Its name.
        name: &'a str,
        /// The version that it has now.
        expected: u64,
    },
}

impl NewRecord<'_> {
    /// The plaintext of its row, zeroized on drop.
    pub(super) fn to_bytes(self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        if !(1..=NAME_MAX).contains(&self.name.len()) || self.body.len() > BODY_MAX {
            return Err(StoreError::TooLarge);
        }
        Ok(encode(self.name, self.state, self.expires_unix_s, self.body))
    }
}

pub(super) fn encode(name: &str, state: u8, expires_unix_s: Option<i64>, body: &[u8]) -> Zeroizing<Vec<u8>> {
    let room = FRAME + name.len() + body.len();
    // With room enough from the start, no copy of a key is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    let mut write = || -> Result<(), Error<Infallible>> {
        let mut e = Encoder::new(&mut *bytes);
        e.array(5)?.str(LABEL)?.str(name)?.u8(state)?;
        match expires_unix_s {
            Some(expires) => e.i64(expires)?,
            None => e.null()?,
        };
        e.bytes(body)?;
        Ok(())
    };
    write().expect("writing to memory does not fail");
    assert!(bytes.len() <= room, "the room for a record is reckoned too small");
    bytes
}

impl Record {
    /// Reads the plaintext of a row.
    pub(super) fn parse(bytes: &[u8], version: u64) -> Result<Self, StoreError> {
        read(bytes, version).map_err(|_| StoreError::Corrupt(Corruption::Row))
    }
}

fn read(bytes: &[u8], version: u64) -> Result<Record, NotCanonical> {
    let mut d = Decoder::new(bytes);
    if d.array()? != Some(5) || d.str()? != LABEL {
        return Err(NotCanonical);
    }
    let (name, state) = (d.str()?, d.u8()?);
    let expires_unix_s = match d.datatype()? {
        minicbor::data::Type::Null => d.null().map(|()| None)?,
        _ => Some(d.i64()?),
    };
    let body = d.bytes()?;
    // Anything but the one encoding comes out differently.
    if *encode(name, state, expires_unix_s, body) != bytes {
        return Err(NotCanonical);
    }
    Ok(Record { name: name.to_owned(), version, state, expires_unix_s, body: Zeroizing::new(body.to_vec()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        NewRecord { kind: Kind::Grant, name, expected: 0, state: 2, expires_unix_s: Some(-1), body }.to_bytes()
    }

    #[test]
    fn a_record_comes_back_and_no_part_of_it_parses() {
        let bytes = new("spiffe://example.org/x", b"body").expect("fits");
        let record = Record::parse(&bytes, 7).expect("parses");
        assert_eq!((record.name.as_str(), record.version, record.state), ("spiffe://example.org/x", 7, 2));
        assert_eq!((record.expires_unix_s, record.body.as_slice()), (Some(-1), b"body".as_slice()));
        for cut in 0..bytes.len() {
            assert!(Record::parse(&bytes[..cut], 7).is_err(), "cut at {cut}");
        }
        assert!(Record::parse(&[&bytes[..], b"\0"].concat(), 7).is_err());
        assert!(!format!("{record:?}").contains("body"));
    }

    #[test]
    fn lengths_are_bounded() {
        assert!(new(&"n".repeat(NAME_MAX), &vec![0; BODY_MAX]).is_ok_and(|bytes| bytes.len() < ROW_LEN_MAX - FRAME));
        assert!(matches!(new("", b""), Err(StoreError::TooLarge)));
        assert!(matches!(new(&"n".repeat(NAME_MAX + 1), b""), Err(StoreError::TooLarge)));
        assert!(matches!(new("n", &vec![0; BODY_MAX + 1]), Err(StoreError::TooLarge)));
    }
}
