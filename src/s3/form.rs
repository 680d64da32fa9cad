//! Browser forms (AWS, "POST Object"): `multipart/form-data` (RFC 7578, RFC 2046) read as a stream, and what its fields ask.
//!
//! Bytes are fed in, events come out. Before the file everything is small and held; the file itself is passed on as it
//! comes, but for the few bytes that may begin a delimiter.
//!
//! **Invariant:** however the bytes are cut, the events say the same.
//!
//! **Invariant:** what is held is bounded: the fields by [`LONGEST_FIELDS`], a part's head by `head::LONGEST`.

#![warn(clippy::indexing_slicing, clippy::as_conversions)]

mod fields;
mod head;
pub mod policy;

use std::fmt;

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderValue;

pub use fields::{Fields, SuccessAction};

/// Most bytes of all fields before the file together, names and values (AWS, "POST Object").
pub const LONGEST_FIELDS: usize = 20 << 10;
/// More fields than any form has.
const MOST_FIELDS: usize = 256;
/// The longest boundary (RFC 2046, section 5.1.1).
const LONGEST_BOUNDARY: usize = 70;

/// Why a form is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// No boundary, or not one.
    #[error("the Content-Type has no boundary of 1 to 70 characters")]
    Boundary,
    /// Not `multipart/form-data` as RFC 2046 and RFC 7578 have it.
    #[error("the body is not a well-formed form: {0}")]
    Malformed(&'static str),
    /// More or longer fields than S3 takes.
    #[error("the form's fields before the file are over the limit of {LONGEST_FIELDS} bytes")]
    FieldsTooLong,
    /// A field that stands there twice: which one counts would be anyone's guess.
    #[error("the form field {0:?} is given more than once")]
    Twice(String),
    /// The form ended, and there was no file.
    #[error("the form has no field 'file'")]
    NoFile,
    /// Another file.
    #[error("the form has more than one field 'file'")]
    SecondFile,
    /// What follows the file is not what was reckoned with.
    #[error("a file of over 1 MiB has to be the last field of its form, and the form to end with a line's end")]
    NotLast,
    /// The body ended within the form.
    #[error("the form broke off")]
    Truncated,
    /// A field that has to be there.
    #[error("the form has no field {0:?}")]
    Missing(&'static str),
    /// A field that is not taken in forms, or has a value that it cannot have.
    #[error("the form field {0:?} is not supported, or has a value that it cannot have")]
    Field(String),
    /// The `tagging` field.
    #[error("the form field 'tagging' is not a Tagging document")]
    Tagging,
}

/// What was read.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// More bytes are needed.
    NeedMore,
    /// A field before the file.
    Field {
        /// Its name, in lower case: S3 does not tell cases apart.
        name: String,
        /// Its value.
        value: String,
    },
    /// The file begins.
    File {
        /// The name that it has where it comes from, without folders; empty when there is none.
        name: String,
    },
    /// Bytes of the file, not empty.
    Data(Bytes),
    /// The file ended.
    FileEnd {
        /// Nothing but the end of the form follows.
        last: bool,
    },
    /// The form ended. What follows is not part of it.
    End,
}

/// Without values: they may be keys and signatures.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedMore => f.write_str("NeedMore"),
            Self::Field { name, .. } => f.debug_struct("Field").field("name", name).finish_non_exhaustive(),
            Self::File { name } => f.debug_struct("File").field("name", name).finish(),
            Self::Data(data) => f.debug_tuple("Data").field(&data.len()).finish(),
            Self::FileEnd { last } => f.debug_struct("FileEnd").field("last", last).finish(),
            Self::End => f.write_str("End"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first delimiter.
    Start,
    /// After a delimiter: a part's head follows, or nothing.
    Delimiter,
    Head,
    Field,
    File,
    /// In a field after the file, which S3 does not look at.
    Ignored,
    End,
}

/// Reads a form.
pub struct FormReader {
    /// `CRLF--boundary`.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    /// Bytes of the buffer in which no delimiter begins.
    scanned: usize,
    fed: u64,
    state: State,
    name: String,
    fields: Vec<String>,
    fields_length: usize,
    /// The file was met.
    file: bool,
}

/// Without what is held.
impl fmt::Debug for FormReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FormReader").field("state", &self.state).field("fed", &self.fed).finish_non_exhaustive()
    }
}

impl FormReader {
    /// For a body of this Content-Type; `None` when it is another one than `multipart/form-data`.
    ///
    /// # Errors
    /// [`FormError::Boundary`].
    pub fn of_content_type(content_type: &HeaderValue) -> Result<Option<Self>, FormError> {
        let text = content_type.to_str().unwrap_or_default();
        let kind = text.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("multipart/form-data") {
            return Ok(None);
        }
        let (_, parameters) = head::parameters(text).map_err(|_| FormError::Boundary)?;
        let boundary =
            head::one(&parameters, "boundary").map_err(|_| FormError::Boundary)?.ok_or(FormError::Boundary)?;
        Self::new(boundary).map(Some)
    }

    /// For a body with this boundary.
    ///
    /// # Errors
    /// [`FormError::Boundary`].
    pub fn new(boundary: &str) -> Result<Self, FormError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
        if !(1..=LONGEST_BOUNDARY).contains(&boundary.len()) || boundary.ends_with(' ') || !boundary.bytes().all(legal)
        {
            return Err(FormError::Boundary);
        }
        Ok(Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            buffer: BytesMut::new(),
            scanned: 0,
            fed: 0,
            state: State::Start,
            name: String::new(),
            fields: Vec::new(),
            fields_length: 0,
            file: false,
        })
    }

    /// Takes the next bytes of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.fed += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes of the body were made use of. After [`Event::File`]: where the file begins.
    pub fn consumed(&self) -> u64 {
        self.fed - u64::try_from(self.buffer.len()).unwrap_or(u64::MAX)
    }

    /// How many bytes were fed and not made use of.
    pub fn unread(&self) -> usize {
        self.buffer.len()
    }

    /// How many bytes follow a file that is the last field, in the form in which browsers write them: the delimiter, `--`,
    /// CRLF.
    pub fn closing_length(&self) -> u64 {
        u64::try_from(self.delimiter.len() + 4).unwrap_or(u64::MAX)
    }

    /// The next event. After [`Event::End`] or an error it is of no more use.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn next_event(&mut self) -> Result<Event, FormError> {
        loop {
            let event = match self.state {
                State::Start => self.start()?,
                State::Delimiter => self.after_delimiter()?,
                State::Head => self.head()?,
                State::Field => self.field()?,
                State::File => self.data()?,
                State::Ignored => self.ignored()?,
                State::End => Some(Event::End),
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// The first delimiter, for which nobody writes a preamble.
    fn start(&mut self) -> Result<Option<Event>, FormError> {
        let first = self.delimiter.get(2..).unwrap_or_default();
        let there = self.buffer.len().min(first.len());
        if self.buffer.get(..there) != first.get(..there) {
            return Err(FormError::Malformed("it does not begin with its boundary"));
        }
        if there < first.len() {
            return Ok(Some(Event::NeedMore));
        }
        self.buffer.advance(there);
        self.state = State::Delimiter;
        Ok(None)
    }

    fn after_delimiter(&mut self) -> Result<Option<Event>, FormError> {
        match self.buffer.get(..2) {
            None => Ok(Some(Event::NeedMore)),
            Some(b"--") if !self.file => Err(FormError::NoFile),
            Some(b"--") => {
                self.buffer.advance(2);
                self.state = State::End;
                Ok(None)
            }
            Some(b"\r\n") => {
                self.buffer.advance(2);
                self.state = State::Head;
                Ok(None)
            }
            Some(_) => Err(FormError::Malformed("something else than a line's end follows a boundary")),
        }
    }

    fn head(&mut self) -> Result<Option<Event>, FormError> {
        let Some(end) = find(&self.buffer, b"\r\n\r\n", self.scanned) else {
            self.scanned = self.buffer.len().saturating_sub(3);
            return if self.buffer.len() > head::LONGEST {
                Err(FormError::FieldsTooLong)
            } else {
                Ok(Some(Event::NeedMore))
            };
        };
        if end > head::LONGEST {
            return Err(FormError::FieldsTooLong);
        }
        let lines = self.buffer.split_to(end);
        self.buffer.advance(4);
        self.scanned = 0;
        let part = head::PartHead::parse(&lines)?;
        let name = part.name.to_ascii_lowercase();
        if self.file {
            self.state = State::Ignored;
            return if name == "file" { Err(FormError::SecondFile) } else { Ok(None) };
        }
        if name == "file" {
            (self.file, self.state) = (true, State::File);
            return Ok(Some(Event::File { name: part.file_name() }));
        }
        if self.fields.contains(&name) {
            return Err(FormError::Twice(name));
        }
        self.take_length(name.len())?;
        if self.fields.len() >= MOST_FIELDS {
            return Err(FormError::FieldsTooLong);
        }
        self.fields.push(name.clone());
        (self.name, self.state) = (name, State::Field);
        Ok(None)
    }

    fn take_length(&mut self, length: usize) -> Result<(), FormError> {
        self.fields_length += length;
        if self.fields_length > LONGEST_FIELDS { Err(FormError::FieldsTooLong) } else { Ok(()) }
    }

    fn field(&mut self) -> Result<Option<Event>, FormError> {
        let Some(end) = self.find_delimiter() else {
            let room = LONGEST_FIELDS - self.fields_length + self.delimiter.len();
            return if self.buffer.len() > room { Err(FormError::FieldsTooLong) } else { Ok(Some(Event::NeedMore)) };
        };
        self.take_length(end)?;
        let value = self.buffer.split_to(end);
        self.pass_delimiter();
        let value = String::from_utf8(value.to_vec()).map_err(|_| FormError::Malformed("a field is not UTF-8"))?;
        Ok(Some(Event::Field { name: std::mem::take(&mut self.name), value }))
    }

    fn data(&mut self) -> Result<Option<Event>, FormError> {
        let Some(end) = self.find_delimiter() else {
            let safe = self.scanned;
            if safe == 0 {
                return Ok(Some(Event::NeedMore));
            }
            self.scanned = 0;
            return Ok(Some(Event::Data(self.buffer.split_to(safe).freeze())));
        };
        if end > 0 {
            self.scanned = 0;
            return Ok(Some(Event::Data(self.buffer.split_to(end).freeze())));
        }
        let last = match self.buffer.get(self.delimiter.len()..self.delimiter.len() + 2) {
            None => return Ok(Some(Event::NeedMore)),
            Some(next) => next == b"--",
        };
        self.pass_delimiter();
        Ok(Some(Event::FileEnd { last }))
    }

    fn ignored(&mut self) -> Result<Option<Event>, FormError> {
        match self.find_delimiter() {
            None => {
                self.buffer.advance(self.scanned);
                self.scanned = 0;
                Ok(Some(Event::NeedMore))
            }
            Some(end) => {
                self.buffer.advance(end);
                self.pass_delimiter();
                Ok(None)
            }
        }
    }

    fn pass_delimiter(&mut self) {
        self.buffer.advance(self.delimiter.len());
        (self.scanned, self.state) = (0, State::Delimiter);
    }

    /// Where the next delimiter begins; without one, `scanned` says up to where none can.
    fn find_delimiter(&mut self) -> Option<usize> {
        let found = find(&self.buffer, &self.delimiter, self.scanned);
        self.scanned = found.unwrap_or((self.buffer.len() + 1).saturating_sub(self.delimiter.len()));
        found
    }
}

/// The first place of `needle`, which begins with CR, from `from` on.
fn find(haystack: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let rest = haystack.get(at..)?;
        at += rest.iter().position(|byte| *byte == b'\r')?;
        let rest = haystack.get(at..)?;
        if rest.starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests;
