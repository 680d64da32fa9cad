//! Senders of aws-chunked bodies: with signed chunks, with trailers, and with each of these gone wrong.

use bytes::Bytes;
use claviger::crypto::{hmac_sha256, sha256};

use super::client::{Answer, Ask, Signed, hex};

const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// An aws-chunked upload, and what is wrong with it.
#[derive(Clone)]
pub(crate) struct Chunked {
    pub(crate) data: Bytes,
    pub(crate) chunk: usize,
    /// Name and value of the one trailer.
    pub(crate) trailer: Option<(String, String)>,
    /// `x-amz-trailer` is sent, the trailer is not.
    pub(crate) drop_trailer: bool,
    /// The signature of this chunk is another one.
    pub(crate) forge_chunk: Option<usize>,
    pub(crate) forge_trailer: bool,
    /// Sent in place of the length of `data`.
    pub(crate) announced: Option<usize>,
}

impl Chunked {
    pub(crate) fn new(data: impl Into<Bytes>) -> Self {
        Self {
            data: data.into(),
            chunk: 64 << 10,
            trailer: None,
            drop_trailer: false,
            forge_chunk: None,
            forge_trailer: false,
            announced: None,
        }
    }

    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailer = Some((name.to_owned(), value.to_owned()));
        self
    }

    fn head(&self, ask: Ask, word: &str) -> Ask {
        let length = self.announced.unwrap_or(self.data.len()).to_string();
        let ask = ask.header("content-encoding", "aws-chunked").header("x-amz-decoded-content-length", &length);
        let ask = ask.payload(word);
        match &self.trailer {
            Some((name, _)) => ask.header("x-amz-trailer", name),
            None => ask,
        }
    }

    fn sent_trailer(&self) -> Option<&(String, String)> {
        self.trailer.as_ref().filter(|_| !self.drop_trailer)
    }

    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`.
    pub(crate) async fn send_unsigned(&self, ask: Ask) -> Answer {
        let ask = self.head(ask, "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
        let mut body = Vec::new();
        for chunk in self.data.chunks(self.chunk) {
            body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n");
        if let Some((name, value)) = self.sent_trailer() {
            body.extend_from_slice(format!("{name}:{value}\r\n").as_bytes());
        }
        body.extend_from_slice(b"\r\n");
        ask.body(body).send().await
    }

    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`, with `-TRAILER` if there is one.
    pub(crate) async fn send_signed(&self, ask: Ask) -> Answer {
        let word = match self.trailer {
            Some(_) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            None => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        };
        let ask = self.head(ask, word);
        let signed = ask.sign();
        let body = self.signed_body(&signed);
        ask.body(body).send_with(signed.headers).await
    }

    /// The body that goes with a signed head.
    pub(crate) fn signed_body(&self, signed: &Signed) -> Vec<u8> {
        let mut previous = signed.signature.clone();
        let mut body = Vec::new();
        let chunks: Vec<&[u8]> = self.data.chunks(self.chunk).chain([&[][..]]).collect();
        for (number, chunk) in chunks.iter().enumerate() {
            let to_sign = format!(
                "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{previous}\n{EMPTY_SHA256}\n{}",
                signed.timestamp,
                signed.scope,
                hex(&sha256(chunk))
            );
            previous = hex(&hmac_sha256(&signed.key, to_sign.as_bytes()));
            let shown = if self.forge_chunk == Some(number) { forged(&previous) } else { previous.clone() };
            body.extend_from_slice(format!("{:x};chunk-signature={shown}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            if !chunk.is_empty() {
                body.extend_from_slice(b"\r\n");
            }
        }
        if let Some((name, value)) = self.sent_trailer() {
            let line = format!("{name}:{value}\n");
            let to_sign = format!(
                "AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{previous}\n{}",
                signed.timestamp,
                signed.scope,
                hex(&sha256(line.as_bytes()))
            );
            let signature = hex(&hmac_sha256(&signed.key, to_sign.as_bytes()));
            let shown = if self.forge_trailer { forged(&signature) } else { signature };
            body.extend_from_slice(format!("{name}:{value}\r\nx-amz-trailer-signature:{shown}\r\n").as_bytes());
        }
        body.extend_from_slice(b"\r\n");
        body
    }
}

fn forged(signature: &str) -> String {
    let first = if signature.starts_with('0') { "1" } else { "0" };
    format!("{first}{}", &signature[1..])
}
