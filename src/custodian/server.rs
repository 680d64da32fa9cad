//! The custodian as a server: mutual TLS, the Transit HTTP API, the system's endpoints, and what is ours beside it.
//!
//! A request walks: certificate, path, claims, token, a place among those served, body, then [`Engine`](super::engine::Engine), then the
//! answer. Who is on the connection comes first: without a certificate that names a client of ours nothing else is looked at.
//!
//! **Invariant:** whoever asks is known by the certificate that TLS verified; a token takes nothing from that and adds nothing to it.
//! **Invariant:** neither plaintexts, keys, shares nor tokens are in the log; what a client sends is not repeated there.

mod answer;
mod backup;
mod base64;
mod branches;
mod certificate;
mod destruction;
mod json;
mod keys;
mod logfiles;
mod metrics;
mod ours;
mod places;
mod refusal;
mod request;
mod router;
mod session;
mod state;
mod sys;
mod token;
mod traced;
mod transit;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use rustls::ServerConfig;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::watch as channel;
use tokio::time::timeout;
use zeroize::Zeroizing;

use self::answer::{Answer, Content, Failure, ResponseBody, respond};
use self::certificate::{Certificate, Identities};
use self::json::Object;
use self::metrics::ServerMetrics;
use self::places::Places;
use self::request::for_request;
use self::router::{NoRoute, Route, parameter, route};
use self::state::{State, Unsealed};
use super::approval::{Verb, canonical_json};
use super::audit::Action;
use super::engine::{GatedCall, Offer};
use super::requester::{Requester, random_request_id};
use crate::net::listener::{self, ConnectionInfo, DrainReport, Former, ListenerLimits, Tls};
use crate::telemetry::metrics::seconds_since;
use crate::telemetry::traces::Tracer;
use crate::tlog::note::VerifierKey;

#[doc(hidden)]
pub use json::fuzz_body;
#[doc(hidden)]
pub use router::fuzz_route;
pub use state::{AutoSeal, OpenFailed, Opening};

/// How long a request waits for a place.
const PLACE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the server needs to know.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// The name of this custodian among those that share a store.
    pub instance: String,
    /// What keeps the store, for those who ask: `sqlite` or `postgresql`.
    pub storage_type: &'static str,
    /// Requests at a time; further ones wait a while.
    pub max_requests: usize,
    /// Watches at a time; further ones are refused.
    pub max_watches: usize,
    /// Who may cosign the audit log's checkpoints.
    pub witnesses: Vec<VerifierKey>,
    /// Where spans of requests are made.
    pub tracer: Tracer,
}

/// The server.
pub struct Server {
    settings: ServerSettings,
    state: State,
    identities: Identities,
    places: Places,
    watches: Places,
    ending: channel::Sender<bool>,
    metrics: ServerMetrics,
}

impl Server {
    /// Sealed, over the store of `opening`.
    pub fn new(settings: ServerSettings, opening: Opening) -> Arc<Self> {
        // Half of the requests, as one proxy may well be all there is; of watches, replicas under one name have a few.
        let (places, watches) = (Places::new(settings.max_requests, 2), Places::new(settings.max_watches, 4));
        let metrics = ServerMetrics::default();
        let state = State::new(opening, settings.witnesses.clone(), metrics.decisions.clone());
        let (identities, ending) = (Identities::new(), channel::Sender::new(false));
        Arc::new(Self { settings, state, identities, places, watches, ending, metrics })
    }

    /// Opens one of `seals`, again and again if that can help. Returns when the custodian is unsealed or only people can unseal it.
    pub async fn unseal_by_itself(&self, seals: &[AutoSeal]) {
        self.state.unseal_by_itself(seals).await;
    }

    /// Whether it waits for someone to unseal it.
    pub fn is_sealed(&self) -> bool {
        self.state.unsealed().is_none()
    }

    /// The policy file changed. Another policy than the one in force becomes a proposal, or the policy of a store that is opened later
    /// and has none.
    ///
    /// # Errors
    /// [`OpenFailed::Engine`]; the policy in force stays.
    pub async fn offer_policy(&self, text: &str) -> Result<Option<Offer>, OpenFailed> {
        self.state.offer_policy(text).await
    }

    /// Serves `listener` until `shutdown` resolves, drains, and seals. Each new connection is made with the TLS configuration that `tls`
    /// has then, and ends soon after that was replaced; it has to ask for client certificates.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: channel::Receiver<Arc<ServerConfig>>,
        limits: ListenerLimits,
        shutdown: impl Future<Output = ()>,
    ) -> DrainReport {
        let server = Arc::clone(&self);
        let service = move |request, info| {
            let server = Arc::clone(&server);
            async move { server.handle(request, info).await }
        };
        let shutdown = async {
            shutdown.await;
            // Watches would last for ever.
            self.ending.send_replace(true);
        };
        let tls = Tls { config: tls, former: Former::Leave };
        let report = listener::run_with(listener, Some(tls), limits, service, shutdown).await;
        self.state.seal().await;
        report
    }

    async fn handle(self: Arc<Self>, request: Request<Incoming>, info: ConnectionInfo) -> Response<ResponseBody> {
        let (begun, _in_flight) = (Instant::now(), self.metrics.begin());
        let bodiless = request.method() == Method::HEAD;
        let Ok(id) = random_request_id() else {
            return respond(Err(Failure::internal("no randomness")), "", bodiless);
        };
        let (parts, mut body) = request.into_parts();
        let now_s = OffsetDateTime::now_utc().unix_timestamp();
        let (who, certificate) = match self.identities.identify(&info, id, now_s) {
            Ok(identified) => identified,
            Err(failure) => {
                tracing::warn!(peer = %info.peer, "a client without an identity");
                return respond(Err(failure), &uuid(id), bodiless);
            }
        };
        let span = self.settings.tracer.serve("request", &parts.headers);
        let call = Call { parts, certificate, now_s: u64::try_from(now_s).unwrap_or_default() };
        let (name, done) = self.answer(&call, &who, &mut body).await;
        request::discard(&mut body).await;
        let response = respond(done, &who.request_uuid(), bodiless);
        self.metrics.answered(name, response.status(), seconds_since(begun));
        traced::answered(&span, &call.parts, (name, response.status()), &who);
        tracing::info!(
            request_id = who.request_uuid(),
            for_request = for_request(&call.parts.headers).map(tracing::field::display),
            trace_id = span.trace().and_then(|trace| trace.id()),
            peer = %info.peer,
            principal = %who.id,
            operation = name,
            status = response.status().as_u16(),
            elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "request"
        );
        response
    }

    /// The answer, and what was asked for.
    async fn answer(
        &self,
        call: &Call,
        who: &Requester,
        body: &mut Incoming,
    ) -> (&'static str, Result<Answer, Failure>) {
        let Parts { method, uri, headers, .. } = &call.parts;
        let query = uri.query().unwrap_or_default();
        let route = match route(method, uri.path(), query) {
            Ok(route) => route,
            Err(none) => return ("-", Err(self.no_route(&none))),
        };
        let name = route.name();
        let who = match request::with_claims(who.clone(), headers) {
            Ok(who) => who,
            Err(failure) => return (name, Err(failure)),
        };
        let Ok(Some(place)) = timeout(PLACE_TIMEOUT, self.places.take(&who.id)).await else {
            return (name, Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once")));
        };
        let mut done = self.dispatch(call, &who, &route, body).await;
        if let Ok(answer @ Answer { content: Content::Raw { .. }, .. }) = &mut done {
            answer.place = Some(place);
        }
        (name, done)
    }

    fn no_route(&self, none: &NoRoute) -> Failure {
        match none {
            NoRoute::Path => Failure::bad("relative and escaped paths are not supported"),
            _ if self.is_sealed() => Failure::sealed(),
            NoRoute::Nothing(path) => {
                let text = format!("no handler for route {path:?}. route entry not found.");
                Failure::new(StatusCode::NOT_FOUND, text)
            }
            NoRoute::Unsupported => Failure::new(StatusCode::NOT_FOUND, answer::wrapped("unsupported path")),
            NoRoute::Method { on_mount: true } => {
                Failure::new(StatusCode::METHOD_NOT_ALLOWED, answer::wrapped("unsupported operation"))
            }
            NoRoute::Method { on_mount: false } => Failure::empty(StatusCode::METHOD_NOT_ALLOWED),
            NoRoute::DataKeyKind => Failure::bad("Invalid path, must be 'plaintext' or 'wrapped'"),
        }
    }

    async fn dispatch(
        &self,
        call: &Call,
        who: &Requester,
        route: &Route,
        body: &mut Incoming,
    ) -> Result<Answer, Failure> {
        let query = call.parts.uri.query().unwrap_or_default();
        match route {
            Route::Health => return sys::health(self, query).await,
            Route::SealStatus => return sys::seal_status(self).await,
            Route::Leader => return Ok(sys::leader()),
            Route::Unseal => {
                let bytes = request::read_body(body).await?;
                return sys::unseal(self, who, &object(&bytes)?).await;
            }
            _ => {}
        }
        let unsealed = self.state.unsealed().ok_or_else(Failure::sealed)?;
        if *route == Route::Login {
            let bytes = request::read_body(body).await?;
            return session::log_in(&unsealed, who, &call.certificate, &object(&bytes)?, call.now_s);
        }
        let token = match request::token(&call.parts.headers)? {
            None => None,
            Some(text) => {
                let checked = unsealed.tokens.check(text, &who.certificate_sha256, call.now_s);
                Some((text, checked.map_err(|_| Failure::denied())?))
            }
        };
        let bytes = match route {
            Route::Restore => request::read_body_up_to(body, request::RESTORE_BODY_MAX).await?,
            _ if route.takes_body() => request::read_body(body).await?,
            _ => Zeroizing::default(),
        };
        match route {
            Route::LookUpSelf => Ok(session::look_up(who, &call.certificate, token, call.now_s)),
            Route::RenewSelf => session::renew(&unsealed, who, &call.certificate, token, &object(&bytes)?, call.now_s),
            Route::RevokeSelf => session::revoke(&unsealed, token, call.now_s),
            Route::Seal => self.seal(&unsealed, who).await,
            Route::Watch => self.watch(unsealed, who, call.certificate.expires_s).await,
            Route::Checkpoint | Route::Tile(_) | Route::AuditKey | Route::Cosign => {
                let cosigned = parameter(query, "cosigned") == Some("true");
                log_files(&unsealed, who, route, &bytes, cosigned).await
            }
            _ => on_engine(&unsealed, who, route, &object(&bytes)?, &call.parts.uri).await,
        }
    }

    async fn seal(&self, unsealed: &Unsealed, who: &Requester) -> Result<Answer, Failure> {
        let receipt = authorise(unsealed, who, Action::Seal).await?;
        self.state.seal().await;
        Ok(Answer::new(Content::Nothing).with_receipt(receipt))
    }

    async fn watch(&self, unsealed: Arc<Unsealed>, who: &Requester, expires_s: i64) -> Result<Answer, Failure> {
        let full = || Failure::new(StatusCode::SERVICE_UNAVAILABLE, "too many watches at once");
        let slot = self.watches.try_take(&who.id).ok_or_else(full)?;
        let watching = unsealed.engine.watch(who).await;
        let watching = watching.map_err(|error| refusal::failure(&error, refusal::Asked::Other, None))?;
        let watch = watch::Watch {
            who: who.clone(),
            expires_s,
            events: watching.value,
            instance: self.settings.instance.clone(),
            policy: unsealed.engine.policy_hash(),
            ending: self.ending.subscribe(),
            slot,
            _counted: self.metrics.watches(),
            unsealed: Arc::downgrade(&unsealed),
        };
        let body = watch::start(watch);
        let stream = Content::Stream { content_type: "application/x-ndjson", body };
        Ok(Answer::new(stream).with_receipt(watching.receipt))
    }

    /// Names this store's seals.
    async fn cluster_id(&self) -> String {
        let status = self.state.seal_status().await.ok().flatten();
        status.map_or_else(String::new, |status| sys::uuid(status.id))
    }
}

fn uuid(id: [u8; 16]) -> String {
    sys::uuid(id)
}

fn object(bytes: &[u8]) -> Result<Object<'_>, Failure> {
    Object::parse(bytes).map_err(|invalid| Failure::bad(invalid.to_string()))
}

/// A request's head, and what else is known when it came.
struct Call {
    parts: Parts,
    certificate: Arc<Certificate>,
    now_s: u64,
}

async fn authorise(unsealed: &Unsealed, who: &Requester, action: Action) -> Result<crate::tlog::Receipt, Failure> {
    let allowed = unsealed.engine.authorise(who, action, None).await;
    allowed.map_err(|error| refusal::failure(&error, refusal::Asked::Other, None))
}

async fn log_files(
    unsealed: &Unsealed,
    who: &Requester,
    route: &Route,
    body: &[u8],
    cosigned: bool,
) -> Result<Answer, Failure> {
    let files = &unsealed.files;
    match route {
        Route::Cosign => {
            let receipt = authorise(unsealed, who, Action::Cosign).await?;
            Ok(files.cosign(body).await?.with_receipt(receipt))
        }
        _ => {
            // Reading the log does not make it longer, or nobody could ever read it to its end.
            if !unsealed.engine.may(who, Action::ReadAudit) {
                authorise(unsealed, who, Action::ReadAudit).await?;
            }
            match route {
                Route::Checkpoint => files.checkpoint(cosigned),
                Route::Tile(tile) => files.tile(*tile).await,
                _ => Ok(files.key()),
            }
        }
    }
}

/// What the engine does by itself.
async fn on_engine(
    unsealed: &Unsealed,
    who: &Requester,
    route: &Route,
    body: &Object<'_>,
    uri: &http::Uri,
) -> Result<Answer, Failure> {
    use transit::Operation::{Decrypt, Encrypt, Rewrap};
    let engine = unsealed.engine.as_ref();
    let gated = |method| GatedCall { method, path: uri.path().to_owned(), body: canonical_json(&body.to_plain()) };
    match route {
        Route::Encrypt(kek) => transit::perform(engine, who, Encrypt, kek, body).await,
        Route::Decrypt(kek) => transit::perform(engine, who, Decrypt, kek, body).await,
        Route::Rewrap(kek) => transit::perform(engine, who, Rewrap, kek, body).await,
        Route::DataKey { kek, plaintext } => transit::data_key(engine, who, kek, *plaintext, body).await,
        Route::ListKeys => keys::list(engine, who).await,
        Route::CreateKey(kek) => keys::create(engine, who, kek, body, &gated("POST")).await,
        Route::ReadKey(kek) => keys::read(engine, who, kek).await,
        Route::DeleteKey(kek) => keys::delete(engine, who, kek, &gated("DELETE")).await,
        Route::ConfigureKey(kek) => keys::configure(engine, who, kek, body, &gated("POST")).await,
        Route::RotateKey(kek) => keys::rotate(engine, who, kek).await,
        Route::TrimKey(kek) => keys::trim(engine, who, kek, body, &gated("POST")).await,
        Route::SoftDeleteKey(kek) => keys::set_aside(engine, who, kek, true).await,
        Route::RestoreKey(kek) => keys::set_aside(engine, who, kek, false).await,
        Route::DisableKey(kek) => keys::disable(engine, who, kek).await,
        Route::EnableKey(kek) => keys::enable(engine, who, kek, &gated("POST")).await,
        Route::Census(kek) => branches::census(engine, who, kek).await,
        Route::Branches(kek) => branches::list(engine, who, kek, uri.query().unwrap_or_default()).await,
        Route::RewrapBranches(kek) => branches::rewrap(engine, who, kek, body).await,
        Route::ConfirmBranches(kek) => branches::confirm(engine, who, kek, body).await,
        Route::DeclareWhole(kek) => backup::declare_whole(engine, who, kek, &gated("POST")).await,
        Route::DestroyKey(kek) => destruction::destroy(engine, who, kek, body, &gated("POST")).await,
        Route::CancelDestruction(kek) => destruction::cancel(engine, who, kek, body).await,
        Route::EraseKey(kek) => destruction::erase(engine, who, kek, body, &gated("POST")).await,
        Route::Destruction(kek) => destruction::read(engine, who, kek).await,
        Route::Backup => backup::make(engine, who, body, &gated("POST")).await,
        // Its body has secrets in it, which a proposal must not.
        Route::Restore => backup::restore(engine, who, body, uri.path()).await,
        Route::RestoreBranches => backup::restore_branches(engine, who, body).await,
        Route::GiveShare => backup::give_share(engine, who, body, uri.path()).await,
        Route::Revocations => ours::revocations(engine, who).await,
        Route::Revoke => ours::revoke(engine, who, body).await,
        Route::Reinstate(principal) => ours::reinstate(engine, who, principal, &gated("DELETE")).await,
        Route::Proposals => ours::proposals(engine, who).await,
        Route::Proposal(id) => ours::proposal(engine, who, id).await,
        Route::Approve(id) => ours::vote(engine, who, id, Verb::Approve, body).await,
        Route::Veto(id) => ours::vote(engine, who, id, Verb::Veto, body).await,
        Route::Grants => ours::grants(engine, who).await,
        Route::RequestGrant => ours::request_grant(engine, who, body).await,
        Route::ApproveGrant(id) => ours::approve_grant(engine, who, id, body).await,
        Route::EndGrant(id) => ours::end_grant(engine, who, id, body).await,
        Route::Policy => ours::policy(engine, who).await,
        Route::Health
        | Route::SealStatus
        | Route::Leader
        | Route::Unseal
        | Route::Seal
        | Route::Login
        | Route::LookUpSelf
        | Route::RenewSelf
        | Route::RevokeSelf
        | Route::Watch
        | Route::Checkpoint
        | Route::Tile(_)
        | Route::AuditKey
        | Route::Cosign => Err(Failure::empty(StatusCode::NOT_FOUND)),
    }
}

#[cfg(test)]
mod tests;
