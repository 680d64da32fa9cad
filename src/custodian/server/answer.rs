//! Answers as Vault gives them: one envelope with all its fields, or a list of errors.
//!
//! **Invariant:** each answer is marked `Cache-Control: no-store`; what has a key in it is zeroized once it has been sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::json::InvalidField;
use super::places::Place;
use crate::net::BoxError;
use crate::tlog::Receipt;

/// The body of a response.
pub(super) type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// Names an answer's entry in the audit log: its index and leaf hash.
pub(super) const RECEIPT_HEADER: &str = "x-claviger-receipt";
/// Most receipts with one answer: those of the batch's first items.
const RECEIPTS_MAX: usize = 64;
/// Bytes of a piece of a large answer.
const PIECE: usize = 64 << 10;
/// Names the request.
pub(super) const REQUEST_ID_HEADER: &str = "x-claviger-request-id";

/// What an answer holds.
pub(super) enum Content {
    /// 204.
    Nothing,
    /// The envelope's `data`.
    Data(Value),
    /// The envelope's `data`, with keys or plaintexts in it.
    Secret(SecretJson),
    /// The envelope's `auth`.
    Auth(SecretJson),
    /// An object without an envelope.
    Bare(Value),
    /// Not JSON at all.
    Raw { content_type: &'static str, bytes: Vec<u8> },
    /// As `Raw`, piece by piece.
    Stream { content_type: &'static str, body: ResponseBody },
}

/// The answer to one request.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content: Content,
    pub(super) warnings: Vec<String>,
    /// Where the audit log tells of it; several for a batch.
    pub(super) receipts: Vec<Receipt>,
    /// The request's place, kept until a large answer is sent.
    pub(super) place: Option<Place>,
}

impl Answer {
    pub(super) fn new(content: Content) -> Self {
        let status = if matches!(content, Content::Nothing) { StatusCode::NO_CONTENT } else { StatusCode::OK };
        Self { status, content, warnings: Vec::new(), receipts: Vec::new(), place: None }
    }

    pub(super) fn data(data: Value) -> Self {
        Self::new(Content::Data(data))
    }

    pub(super) fn with_receipt(self, receipt: Receipt) -> Self {
        Self { receipts: vec![receipt], ..self }
    }

    pub(super) fn with_warnings(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

/// A request that is not done.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) errors: Vec<String>,
    pub(super) data: Option<Value>,
}

impl From<InvalidField> for Failure {
    fn from(error: InvalidField) -> Self {
        Self::bad(error.to_string())
    }
}

impl Failure {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, errors: vec![error.into()], data: None }
    }

    /// Without a word: `{"errors":[]}`.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, errors: Vec::new(), data: None }
    }

    pub(super) fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(super) fn denied() -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission denied")
    }

    pub(super) fn sealed() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Vault is sealed")
    }

    /// As Vault wraps what is wrong inside.
    pub(super) fn internal(error: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, wrapped(error))
    }
}

/// How Vault prints one of several errors.
pub(super) fn wrapped(error: &str) -> String {
    format!("1 error occurred:\n\t* {error}\n\n")
}

/// JSON that holds secrets, in one zeroized piece that never moves.
pub(super) struct SecretJson(Zeroizing<Vec<u8>>);

impl SecretJson {
    /// With room for `capacity` bytes, which must do.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(capacity)))
    }

    /// JSON as it stands.
    pub(super) fn raw(&mut self, json: &str) -> &mut Self {
        self.append(json.as_bytes());
        self
    }

    /// Any text, as JSON.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        let escaped = Zeroizing::new(serde_json::to_vec(text).expect("a text is JSON"));
        self.append(&escaped);
        self
    }

    /// Bytes, in base64.
    pub(super) fn base64(&mut self, bytes: &[u8]) -> &mut Self {
        let mut encoded = Zeroizing::new(vec![0; base64_len(bytes.len())]);
        let length = STANDARD.encode_slice(bytes, &mut encoded).expect("there is room for the encoded length");
        self.append(b"\"");
        self.append(encoded.get(..length).unwrap_or_default());
        self.append(b"\"");
        self
    }

    fn append(&mut self, bytes: &[u8]) {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            // Vec would move its bytes and leave a copy behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(2 * self.0.capacity())));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Characters of so many bytes in base64.
pub(super) fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// Bytes that are zeroized when the last that reads them lets go.
struct Sent(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A large body, which goes out in pieces: the next one when there is room for it, so that all of it is here until nearly all was sent.
struct Pieces {
    rest: Bytes,
    /// Whoever does not take the answer keeps the place, and cannot ask for more and more.
    _place: Option<Place>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let length = self.rest.len().min(PIECE);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

fn full(bytes: Bytes) -> ResponseBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn empty() -> ResponseBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The response of a request that is named `request_id`. A bodiless one is for `HEAD`.
pub(super) fn respond(done: Result<Answer, Failure>, request_id: &str, bodiless: bool) -> Response<ResponseBody> {
    let (status, content_type, body, receipts) = match done {
        Ok(Answer { status, content, warnings, receipts, place }) => {
            let (content_type, body) = body_of(content, &warnings, request_id, place);
            (status, content_type, body, receipts)
        }
        Err(failure) => {
            let mut body = json!({ "errors": failure.errors });
            if let (Some(data), Some(object)) = (failure.data, body.as_object_mut()) {
                object.insert("data".to_owned(), data);
            }
            (failure.status, "application/json", full(line(&body)), Vec::new())
        }
    };
    let mut response = Response::new(if bodiless { empty() } else { body });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    append(headers, REQUEST_ID_HEADER, request_id);
    for receipt in receipts.iter().take(RECEIPTS_MAX) {
        append(headers, RECEIPT_HEADER, &format!("{} {}", receipt.index, STANDARD.encode(receipt.leaf.0)));
    }
    response
}

fn append(headers: &mut http::HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(name, value);
    }
}

fn line(value: &Value) -> Bytes {
    let mut bytes = serde_json::to_vec(value).expect("a value is JSON");
    bytes.push(b'\n');
    bytes.into()
}

fn body_of(
    content: Content,
    warnings: &[String],
    request_id: &str,
    place: Option<Place>,
) -> (&'static str, ResponseBody) {
    const JSON: &str = "application/json";
    match content {
        Content::Nothing => (JSON, empty()),
        Content::Data(data) => (JSON, full(envelope(request_id, &data.to_string(), warnings, "null"))),
        Content::Secret(data) => (JSON, full(secret_envelope(request_id, &data, warnings, None))),
        Content::Auth(auth) => (JSON, full(secret_envelope(request_id, &null(), warnings, Some(&auth)))),
        Content::Bare(value) => (JSON, full(line(&value))),
        Content::Raw { content_type, bytes } => {
            (content_type, Pieces { rest: bytes.into(), _place: place }.boxed_unsync())
        }
        Content::Stream { content_type, body } => (content_type, body),
    }
}

fn null() -> SecretJson {
    SecretJson(Zeroizing::new(b"null".to_vec()))
}

/// Before and after an envelope's `data`.
fn around(request_id: &str, warnings: &[String]) -> (String, String) {
    let warnings = if warnings.is_empty() { Value::Null } else { json!(warnings) };
    (
        format!(r#"{{"request_id":"{request_id}","lease_id":"","renewable":false,"lease_duration":0,"data":"#),
        format!(r#","wrap_info":null,"warnings":{warnings},"auth":"#),
    )
}

fn envelope(request_id: &str, data: &str, warnings: &[String], auth: &str) -> Bytes {
    let (before, after) = around(request_id, warnings);
    [before.as_str(), data, after.as_str(), auth, "}\n"].concat().into()
}

fn secret_envelope(request_id: &str, data: &SecretJson, warnings: &[String], auth: Option<&SecretJson>) -> Bytes {
    let (before, after) = around(request_id, warnings);
    let auth = auth.map_or(&b"null"[..], SecretJson::as_bytes);
    let length = before.len() + data.as_bytes().len() + after.len() + auth.len() + 2;
    let mut all = Zeroizing::new(Vec::with_capacity(length));
    for part in [before.as_bytes(), data.as_bytes(), after.as_bytes(), auth, b"}\n"] {
        all.extend_from_slice(part);
    }
    Bytes::from_owner(Sent(all))
}

#[cfg(test)]
mod tests {
    use super::super::places::Places;
    use super::*;
    use crate::custodian::identity::SpiffeId;

    async fn body(response: Response<ResponseBody>) -> String {
        let bytes = response.into_body().collect().await.expect("in memory").to_bytes();
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    fn id() -> &'static str {
        "00112233-4455-4677-8899-aabbccddeeff"
    }

    #[tokio::test]
    async fn an_envelope_has_all_its_fields() {
        let expected = |data: &str, warnings: &str, auth: &str| {
            format!(
                "{{\"request_id\":\"{}\",\"lease_id\":\"\",\"renewable\":false,\"lease_duration\":0,\"data\":{data},\
                 \"wrap_info\":null,\"warnings\":{warnings},\"auth\":{auth}}}\n",
                id()
            )
        };
        let answer = Answer::data(json!({"a": 1}));
        assert_eq!(body(respond(Ok(answer), id(), false)).await, expected("{\"a\":1}", "null", "null"));
        let answer = Answer::data(json!({"a": 1})).with_warnings(["x \"y\"".to_owned()]);
        assert_eq!(body(respond(Ok(answer), id(), false)).await, expected("{\"a\":1}", "[\"x \\\"y\\\"\"]", "null"));
        let mut secret = SecretJson::with_capacity(4);
        secret.raw("{\"plaintext\":").base64(b"hello").raw(",\"reference\":").text("a\"b").raw("}");
        let answer = Answer::new(Content::Secret(secret));
        let data = "{\"plaintext\":\"aGVsbG8=\",\"reference\":\"a\\\"b\"}";
        assert_eq!(body(respond(Ok(answer), id(), false)).await, expected(data, "null", "null"));
        let mut auth = SecretJson::with_capacity(4);
        auth.raw("{}");
        let answer = Answer::new(Content::Auth(auth));
        assert_eq!(body(respond(Ok(answer), id(), false)).await, expected("null", "null", "{}"));
    }

    #[tokio::test]
    async fn errors_are_a_list_and_nothing_is_kept_by_others() {
        let failures = [
            (Failure::denied(), 403, "{\"errors\":[\"permission denied\"]}\n"),
            (Failure::empty(StatusCode::NOT_FOUND), 404, "{\"errors\":[]}\n"),
            (Failure::sealed(), 503, "{\"errors\":[\"Vault is sealed\"]}\n"),
            (Failure::internal("x"), 500, "{\"errors\":[\"1 error occurred:\\n\\t* x\\n\\n\"]}\n"),
            (
                Failure { data: Some(json!({"proposal_id": "p-1"})), ..Failure::denied() },
                403,
                "{\"errors\":[\"permission denied\"],\"data\":{\"proposal_id\":\"p-1\"}}\n",
            ),
        ];
        for (failure, status, text) in failures {
            let response = respond(Err(failure), id(), false);
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert_eq!(response.headers()["content-type"], "application/json");
            assert_eq!(response.headers()["x-claviger-request-id"], id());
            assert_eq!(body(response).await, text);
        }
        let response = respond(Ok(Answer::new(Content::Nothing)), id(), false);
        assert_eq!((response.status().as_u16(), body(response).await.as_str()), (204, ""));
        let response = respond(Err(Failure::sealed()), id(), true);
        assert_eq!((response.status().as_u16(), body(response).await.as_str()), (503, ""));
    }

    #[tokio::test]
    async fn a_large_answer_keeps_its_place_until_it_is_sent() {
        let (places, client) = (Places::new(1, 1), SpiffeId::parse("spiffe://example.org/region/us/proxy/p1"));
        let client = client.expect("legal");
        let answer = || {
            let bytes = vec![7; 2 * PIECE + 1];
            let place = places.try_take(&client);
            assert!(place.is_some());
            Answer { place, ..Answer::new(Content::Raw { content_type: "text/plain", bytes }) }
        };
        let mut response = respond(Ok(answer()), id(), false);
        assert_eq!(response.body().size_hint().exact(), Some(2 * PIECE as u64 + 1));
        let mut taken = 0;
        while let Some(frame) = response.body_mut().frame().await {
            assert!(places.try_take(&client).is_none(), "after {taken} bytes");
            taken += frame.expect("in memory").into_data().expect("data").len();
        }
        assert_eq!(taken, 2 * PIECE + 1);
        drop(response);
        drop(respond(Ok(answer()), id(), false));
        assert!(places.try_take(&client).is_some(), "also of what nobody takes");
    }

    #[test]
    fn secret_json_grows_without_losing_anything() {
        let mut json = SecretJson::with_capacity(0);
        for _ in 0..100 {
            json.base64(&[7; 100]);
        }
        assert_eq!(json.as_bytes().len(), 100 * (base64_len(100) + 2));
    }
}
