//! The trailers after the last chunk.

use http::HeaderName;

use super::{ChunkError, MAX_TRAILERS_LEN, Mode};
use crate::s3::sigv4::encoding::parse_hex32;

const SIGNATURE: &str = "x-amz-trailer-signature";

/// Reads trailers line by line and holds them against those announced.
pub(super) struct TrailerReader {
    awaited: Vec<HeaderName>,
    signed: bool,
    found: Vec<(HeaderName, String)>,
    signature: Option<[u8; 32]>,
    /// Bytes taken so far.
    taken: usize,
    /// Whether the line before ended in a bare LF, to which one CR LF more belongs.
    after_bare_lf: bool,
}

impl TrailerReader {
    pub(super) fn new(announced: Vec<HeaderName>, signed: bool) -> Self {
        Self { awaited: announced, signed, found: Vec::new(), signature: None, taken: 0, after_bare_lf: false }
    }

    /// Takes a line with its end. True when it was the one that ends the trailers.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<bool, ChunkError> {
        self.taken += line.len();
        if self.taken > MAX_TRAILERS_LEN {
            return Err(ChunkError::TrailerMalformed);
        }
        if line == b"\r\n" {
            return Ok(!std::mem::take(&mut self.after_bare_lf));
        }
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        let text = bare.strip_suffix(b"\r");
        self.after_bare_lf = text.is_none();
        self.trailer(text.unwrap_or(bare))?;
        Ok(false)
    }

    fn trailer(&mut self, text: &[u8]) -> Result<(), ChunkError> {
        let text = std::str::from_utf8(text).map_err(|_| ChunkError::TrailerMalformed)?;
        let (name, value) = text.split_once(':').ok_or(ChunkError::TrailerMalformed)?;
        let name = HeaderName::try_from(name).map_err(|_| ChunkError::TrailerMalformed)?;
        let value = value.trim_matches([' ', '\t']);
        if !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err(ChunkError::TrailerMalformed);
        }
        if self.signature.is_some() {
            return Err(ChunkError::TrailerUnexpected);
        }
        if self.signed && name == SIGNATURE {
            self.signature = Some(parse_hex32(value.as_bytes()).ok_or(ChunkError::TrailerSignature)?);
            return Ok(());
        }
        let position = self.awaited.iter().position(|awaited| *awaited == name);
        self.awaited.swap_remove(position.ok_or(ChunkError::TrailerUnexpected)?);
        self.found.push((name, value.to_owned()));
        Ok(())
    }

    /// The trailers, once all announced ones came and their signature held.
    pub(super) fn finish(&mut self, mode: &mut Mode) -> Result<Vec<(HeaderName, String)>, ChunkError> {
        if !self.awaited.is_empty() {
            return Err(ChunkError::TrailerMissing);
        }
        if let Mode::SignedTrailer(signer) = mode {
            let presented = self.signature.ok_or(ChunkError::TrailerSignature)?;
            if !signer.verify_trailers(&self.found, &presented) {
                return Err(ChunkError::TrailerSignature);
            }
        }
        Ok(std::mem::take(&mut self.found))
    }
}
