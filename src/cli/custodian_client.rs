//! Calls of the custodian by commands: where it is, who calls, and what its answers mean for a person.

mod flags;
mod shown;
#[cfg(test)]
pub(in crate::cli) mod tests;

use std::error::Error;
use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::custodian::approval::ProposalDocument;
use crate::custody::reason::Reason;
use crate::net::body::{BodyError, collect_bounded};
use crate::net::client::{ClientError, ClientSettings, HttpClient};
use crate::net::tls::{IdentityFiles, client_config};

pub(super) use flags::CustodianFlags;
use flags::Target;
pub(super) use shown::{ascii, plain, table};

/// Most bytes of an answer.
const ANSWER_LEN_MAX: usize = 16 << 20;
/// How long the custodian may take for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Our custodian puts it on each answer, and no other server does.
const OURS: &str = "x-claviger-request-id";

/// The call did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// No connection.
    #[error("cannot reach the custodian at {url}: check --custodian-url, and that it runs")]
    Unreachable { url: String, source: ClientError },
    /// The server's certificate is not from the CA that is trusted here.
    #[error(
        "the certificate of the server at {url} is not trusted: check --custodian-ca-file, and the host's name in --custodian-url"
    )]
    Untrusted { url: String, source: ClientError },
    /// The connection was made and broke, as it does when the server does not like the client's certificate.
    #[error(
        "the server at {url} broke the connection off: check that --certificate-file and --key-file are from the CA that it trusts, and valid"
    )]
    BrokenOff { url: String, source: ClientError },
    /// No answer in time, or not in HTTP.
    #[error("no usable answer from {url}: nothing is known of what it did; try again, or look with `show` or `list`")]
    NoAnswer { url: String, source: ClientError },
    /// The answer broke off or was too long.
    #[error("the answer from {url} broke off")]
    Body { url: String, source: BodyError },
    /// The answer is not what the API gives.
    #[error("the answer from {url} is not one of a custodian: check --custodian-url")]
    NotACustodian { url: String },
    /// Policy says no, or the caller is not known.
    #[error("the custodian refuses: {texts}: check with which certificate or token you call, --reason, and the policy")]
    Denied { texts: String },
    /// It is sealed, or cannot serve for another reason.
    #[error(
        "the custodian is sealed or cannot serve now: {texts}: `claviger seal-status` tells, `claviger unseal` unseals"
    )]
    Sealed { texts: String },
    /// An endpoint of ours, and another server.
    #[error("this server does not have {what}: it is an OpenBao or Vault server")]
    NotHere { what: &'static str },
    /// There is no such thing; without texts when the list or the name is not there, with texts when the endpoint is not.
    #[error("the custodian does not know it: {}", if texts.is_empty() { "there is nothing of that name" } else { texts })]
    NotFound { texts: String },
    /// Any other refusal.
    #[error("the custodian answered {status}: {texts}")]
    Refused { status: StatusCode, texts: String },
}

/// Officers have to approve it first. Not a failure of the program: it has an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("approval required: proposal {proposal_id}")]
pub(super) struct Gated {
    pub(super) proposal_id: String,
    document: Option<Box<ProposalDocument>>,
}

impl Gated {
    /// What to do now, in lines.
    pub(super) fn advice(&self) -> String {
        let id = &self.proposal_id;
        let who = match &self.document {
            Some(document) => format!("{} officers other than {}", document.required, document.requester),
            None => "officers other than you".to_owned(),
        };
        format!(
            "approval required: it was not done yet\n  proposal {id}\n  {who} must each run: claviger approve {id}\n  then run the same command again, as the same user, within 72 hours\n"
        )
    }
}

/// An answer that says yes.
#[derive(Debug)]
pub(super) struct Answer {
    /// What the API gives; null without a body.
    pub(super) data: Value,
    /// Whether it is our custodian that answered.
    pub(super) ours: bool,
}

/// A connection to one custodian, as one caller.
pub(super) struct Client {
    http: HttpClient<Full<Bytes>>,
    target: Target,
}

impl Client {
    /// Of what flags and environment say.
    pub(super) fn new(flags: &CustodianFlags) -> Result<Self> {
        Self::of(flags.resolve(|name| std::env::var(name).ok())?)
    }

    fn of(target: Target) -> Result<Self> {
        let tls = client_config(&target.tls).context("the certificates for calling the custodian do not do")?;
        let settings = ClientSettings { body_timeout: ANSWER_TIMEOUT, ..ClientSettings::default() };
        Ok(Self { http: HttpClient::new(tls, &settings), target })
    }

    /// Whether the answer is to be printed as it is.
    pub(super) fn json(&self) -> bool {
        self.target.json
    }

    /// The caller's own certificate and key.
    pub(super) fn identity(&self) -> Option<&IdentityFiles> {
        self.target.tls.identity.as_ref()
    }

    /// Calls an endpoint of the Transit mount, which OpenBao and Vault have too.
    pub(super) async fn transit(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let path = format!("/v1/{}/{path}", self.target.mount);
        let found = self.send(method, &path, body).await?;
        self.judge(found, None).await
    }

    /// Calls an endpoint that only our custodian has; `what` says what it is, for users of another server.
    pub(super) async fn ours(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        what: &'static str,
    ) -> Result<Answer> {
        let found = self.send(method, &format!("/v1/sys/claviger/{path}"), body).await?;
        self.judge(found, Some(what)).await
    }

    /// As [`Client::ours`], with a body that holds secrets.
    pub(super) async fn ours_secret(&self, path: &str, body: Zeroizing<Vec<u8>>, what: &'static str) -> Result<Answer> {
        let body = Some(Bytes::from_owner(body));
        let found = self.send_bytes(Method::POST, &format!("/v1/sys/claviger/{path}"), body).await?;
        self.judge(found, Some(what)).await
    }

    /// Calls an endpoint below `sys/`, whose answers have no envelope: the whole body.
    pub(super) async fn system(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let found = self.send(method, &format!("/v1/sys/{path}"), body).await?;
        if found.status.is_success() { Ok(found.body) } else { Err(refusal(found.status, &found.body).into()) }
    }

    async fn judge(&self, found: Found, ours_alone: Option<&'static str>) -> Result<Answer> {
        for warning in texts(&found.body, "warnings") {
            eprintln!("claviger: the custodian warns: {warning}");
        }
        if found.status.is_success() {
            let data = found.body.get("data").cloned().unwrap_or_default();
            return Ok(Answer { data, ours: found.ours });
        }
        let lacks =
            matches!(found.status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED);
        if let (Some(what), true, false) = (ours_alone, lacks, found.ours) {
            return Err(CallError::NotHere { what }.into());
        }
        let proposal_id = found.body.pointer("/data/proposal_id").and_then(Value::as_str);
        if let (StatusCode::FORBIDDEN, Some(id)) = (found.status, proposal_id.filter(|id| ProposalDocument::is_id(id)))
        {
            return Err(self.gated(id).await.into());
        }
        Err(refusal(found.status, &found.body).into())
    }

    /// With what can be learnt about the proposal; the caller may not be allowed to look at it.
    async fn gated(&self, id: &str) -> Gated {
        let found = self.send(Method::GET, &format!("/v1/sys/claviger/proposals/{id}"), None).await.ok();
        let document = found.and_then(|found| ProposalDocument::from_json(found.body.get("data")?).ok());
        Gated { proposal_id: id.to_owned(), document: document.map(Box::new) }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Found, CallError> {
        self.send_bytes(method, path, body.map(|body| body.to_string().into())).await
    }

    async fn send_bytes(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Found, CallError> {
        let url = || self.target.url.clone();
        let request = self.request(method, path, body);
        let response = self.http.request(request, ANSWER_TIMEOUT).await;
        let response = response.map_err(|error| unanswered(error, url()))?;
        let (head, body) = response.into_parts();
        let body = collect_bounded(body, ANSWER_LEN_MAX).await;
        let body = body.map_err(|source| CallError::Body { url: url(), source })?;
        let body = match body.trim_ascii() {
            b"" => Value::Null,
            text => serde_json::from_slice(text).map_err(|_| CallError::NotACustodian { url: url() })?,
        };
        Ok(Found { status: head.status, ours: head.headers.contains_key(OURS), body })
    }

    fn request(&self, method: Method, path: &str, body: Option<Bytes>) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.target.url));
        if let Some(token) = &self.target.token {
            request = request.header("X-Vault-Token", token);
        }
        if let Some(reason) = self.target.reason {
            request = request.header("X-Claviger-Reason", reason.as_str());
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::from(body.unwrap_or_default());
        request.body(body).expect("the parts of the address were checked")
    }

    /// The reason that calls state.
    pub(super) fn reason(&self) -> Option<Reason> {
        self.target.reason
    }
}

/// An answer before it is judged.
struct Found {
    status: StatusCode,
    ours: bool,
    body: Value,
}

fn unanswered(source: ClientError, url: String) -> CallError {
    match source {
        ClientError::Connect(_) if is_distrust(&source) => CallError::Untrusted { url, source },
        ClientError::Connect(_) => CallError::Unreachable { url, source },
        ClientError::Closed(_) | ClientError::Unsent(_) => CallError::BrokenOff { url, source },
        ClientError::Timeout { .. } | ClientError::Garbage(_) | ClientError::Request(_) => {
            CallError::NoAnswer { url, source }
        }
    }
}

/// Whether among the causes is a complaint of ours about the server's certificate. An `io::Error` hides what it wraps.
fn is_distrust(error: &(dyn Error + 'static)) -> bool {
    if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return true;
    }
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    wrapped.is_some_and(|wrapped| is_distrust(wrapped)) || error.source().is_some_and(is_distrust)
}

fn refusal(status: StatusCode, body: &Value) -> CallError {
    let texts = texts(body, "errors").join("; ");
    let untold = texts.is_empty() && status != StatusCode::NOT_FOUND;
    let texts = if untold { "it does not say why".to_owned() } else { texts };
    match status {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => CallError::Denied { texts },
        StatusCode::SERVICE_UNAVAILABLE => CallError::Sealed { texts },
        StatusCode::NOT_FOUND => CallError::NotFound { texts },
        status => CallError::Refused { status, texts },
    }
}

/// What the server says in words, made harmless for a terminal.
fn texts(body: &Value, list: &str) -> Vec<String> {
    let texts = body.get(list).and_then(Value::as_array).into_iter().flatten().take(10);
    texts.filter_map(Value::as_str).map(|text| plain(&single(text).chars().take(300).collect::<String>())).collect()
}

/// The one error in the frame that Vault puts around some: `1 error occurred:`, a list of one item, empty lines.
fn single(text: &str) -> &str {
    text.strip_prefix("1 error occurred:\n\t* ").map_or(text, str::trim_end)
}
