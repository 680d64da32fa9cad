//! What a request is about, from its method and path alone.
//!
//! The path is taken literally: it is neither decoded nor tidied up, and what would need either is refused, so that nobody behind
//! or before this server can read it in another way.
//!
//! **Invariant:** a [`Route`] has checked names only; a path has one route at most, and a route one path (a list of keys may end in `/`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;

use crate::names::KekName;
use crate::tlog::tile::Tile;

/// Most bytes of a path.
pub(super) const PATH_MAX: usize = 512;
/// Most bytes of a query.
const QUERY_MAX: usize = 1024;

/// What is done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Read,
    List,
    Write,
    Delete,
    /// As `Read`, without the body.
    Head,
}

/// Where it goes. Names say what, comments which method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Health,
    SealStatus,
    Leader,
    Unseal,
    Seal,
    Login,
    LookUpSelf,
    RenewSelf,
    RevokeSelf,
    ListKeys,
    CreateKey(KekName),
    ReadKey(KekName),
    DeleteKey(KekName),
    ConfigureKey(KekName),
    RotateKey(KekName),
    TrimKey(KekName),
    SoftDeleteKey(KekName),
    RestoreKey(KekName),
    DisableKey(KekName),
    EnableKey(KekName),
    Census(KekName),
    Branches(KekName),
    RewrapBranches(KekName),
    ConfirmBranches(KekName),
    DeclareWhole(KekName),
    DestroyKey(KekName),
    CancelDestruction(KekName),
    EraseKey(KekName),
    Destruction(KekName),
    Backup,
    Restore,
    RestoreBranches,
    GiveShare,
    Encrypt(KekName),
    Decrypt(KekName),
    Rewrap(KekName),
    DataKey { kek: KekName, plaintext: bool },
    Revocations,
    Revoke,
    Reinstate(String),
    Proposals,
    Proposal(String),
    Approve(String),
    Veto(String),
    Grants,
    RequestGrant,
    ApproveGrant(String),
    EndGrant(String),
    Policy,
    Watch,
    Checkpoint,
    Tile(Tile),
    AuditKey,
    Cosign,
}

impl Route {
    /// For logs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::SealStatus => "seal-status",
            Self::Leader => "leader",
            Self::Unseal => "unseal",
            Self::Seal => "seal",
            Self::Login => "login",
            Self::LookUpSelf => "look-up-token",
            Self::RenewSelf => "renew-token",
            Self::RevokeSelf => "revoke-token",
            Self::ListKeys => "list-keys",
            Self::CreateKey(_) => "create-key",
            Self::ReadKey(_) => "read-key",
            Self::DeleteKey(_) => "delete-key",
            Self::ConfigureKey(_) => "configure-key",
            Self::RotateKey(_) => "rotate-key",
            Self::TrimKey(_) => "trim-key",
            Self::SoftDeleteKey(_) => "soft-delete-key",
            Self::RestoreKey(_) => "restore-key",
            Self::DisableKey(_) => "disable-key",
            Self::EnableKey(_) => "enable-key",
            Self::Census(_) => "census",
            Self::Branches(_) => "list-branch-keys",
            Self::RewrapBranches(_) => "rewrap-branch-keys",
            Self::ConfirmBranches(_) => "confirm-branch-keys",
            Self::DeclareWhole(_) => "declare-ledger-whole",
            Self::DestroyKey(_) => "destroy-key",
            Self::CancelDestruction(_) => "cancel-destruction",
            Self::EraseKey(_) => "erase-key",
            Self::Destruction(_) => "read-destruction",
            Self::Backup => "backup",
            Self::Restore => "restore-backup",
            Self::RestoreBranches => "restore-branches",
            Self::GiveShare => "give-share",
            Self::Encrypt(_) => "encrypt",
            Self::Decrypt(_) => "decrypt",
            Self::Rewrap(_) => "rewrap",
            Self::DataKey { .. } => "datakey",
            Self::Revocations => "list-revocations",
            Self::Revoke => "revoke",
            Self::Reinstate(_) => "reinstate",
            Self::Proposals => "list-proposals",
            Self::Proposal(_) => "read-proposal",
            Self::Approve(_) => "approve",
            Self::Veto(_) => "deny",
            Self::Grants => "list-grants",
            Self::RequestGrant => "request-grant",
            Self::ApproveGrant(_) => "approve-grant",
            Self::EndGrant(_) => "end-grant",
            Self::Policy => "read-policy",
            Self::Watch => "watch",
            Self::Checkpoint => "read-checkpoint",
            Self::Tile(_) => "read-tile",
            Self::AuditKey => "read-audit-key",
            Self::Cosign => "cosign",
        }
    }

    /// Whether it is written to. Bodies of other requests are not read.
    pub(super) fn takes_body(&self) -> bool {
        !matches!(
            self,
            Self::Health
                | Self::SealStatus
                | Self::Leader
                | Self::LookUpSelf
                | Self::ListKeys
                | Self::ReadKey(_)
                | Self::Census(_)
                | Self::Branches(_)
                | Self::Destruction(_)
                | Self::Revocations
                | Self::Proposals
                | Self::Proposal(_)
                | Self::Grants
                | Self::Policy
                | Self::Watch
                | Self::Checkpoint
                | Self::Tile(_)
                | Self::AuditKey
        )
    }
}

/// Why there is no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// A path that may be read in several ways.
    Path,
    /// No mount has that path.
    Nothing(String),
    /// Nothing below a mount.
    Unsupported,
    /// Another method is wanted; on a mount, or of the system.
    Method { on_mount: bool },
    /// `datakey/` neither `plaintext` nor `wrapped`.
    DataKeyKind,
}

/// The path after `/v1/`, which is a list of plain names.
fn segments(path: &str) -> Result<Vec<&str>, NoRoute> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
    if path.len() > PATH_MAX || !path.bytes().all(legal) {
        return Err(NoRoute::Path);
    }
    let rest = path.strip_prefix('/').ok_or(NoRoute::Path)?;
    let all: Vec<&str> = rest.split('/').collect();
    let (last, before) = all.split_last().expect("a split has one part at least");
    let plain = |segment: &&str| !segment.is_empty() && *segment != "." && *segment != "..";
    // A list may end in `/`.
    if !before.iter().all(plain) || (!last.is_empty() && !plain(last)) {
        return Err(NoRoute::Path);
    }
    match all.split_first() {
        Some((&"v1", rest)) => Ok(rest.to_vec()),
        _ => Err(NoRoute::Nothing(rest.to_owned())),
    }
}

/// The verb of a method. A list is asked for by `LIST`, or by `GET` with `list=true`.
fn verb(method: &Method, query: &str) -> Option<Verb> {
    match method.as_str() {
        "GET" if parameter(query, "list") == Some("true") => Some(Verb::List),
        "GET" => Some(Verb::Read),
        "LIST" => Some(Verb::List),
        "POST" | "PUT" => Some(Verb::Write),
        "DELETE" => Some(Verb::Delete),
        "HEAD" => Some(Verb::Head),
        _ => None,
    }
}

/// The value of a query parameter, as it stands there. A query that is too long has none.
pub(super) fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let pairs = query.get(..).filter(|query| query.len() <= QUERY_MAX)?.split('&');
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Finds the route.
pub(super) fn route(method: &Method, path: &str, query: &str) -> Result<Route, NoRoute> {
    let segments = segments(path)?;
    let verb = verb(method, query);
    match segments.as_slice() {
        ["transit", rest @ ..] => transit(rest, verb),
        ["sys", "claviger", rest @ ..] => ours(rest, verb),
        ["sys", rest @ ..] => system(rest, verb),
        ["auth", "cert", "login"] => only(verb, Verb::Write, true, Route::Login),
        ["auth", "token", rest @ ..] => token(rest, verb),
        other => Err(NoRoute::Nothing(other.join("/"))),
    }
}

fn only(verb: Option<Verb>, wanted: Verb, on_mount: bool, route: Route) -> Result<Route, NoRoute> {
    if verb == Some(wanted) { Ok(route) } else { Err(NoRoute::Method { on_mount }) }
}

fn kek(name: &str) -> Result<KekName, NoRoute> {
    KekName::new(name).map_err(|_| NoRoute::Unsupported)
}

fn transit(rest: &[&str], verb: Option<Verb>) -> Result<Route, NoRoute> {
    let write = |route| only(verb, Verb::Write, true, route);
    match *rest {
        ["keys"] | ["keys", ""] => only(verb, Verb::List, true, Route::ListKeys),
        ["keys", name] => {
            let name = kek(name)?;
            match verb {
                Some(Verb::Write) => Ok(Route::CreateKey(name)),
                Some(Verb::Read) => Ok(Route::ReadKey(name)),
                Some(Verb::Delete) => Ok(Route::DeleteKey(name)),
                _ => Err(NoRoute::Method { on_mount: true }),
            }
        }
        ["keys", name, "config"] => write(Route::ConfigureKey(kek(name)?)),
        ["keys", name, "rotate"] => write(Route::RotateKey(kek(name)?)),
        ["keys", name, "trim"] => write(Route::TrimKey(kek(name)?)),
        ["keys", name, "soft-delete"] => only(verb, Verb::Delete, true, Route::SoftDeleteKey(kek(name)?)),
        ["keys", name, "soft-delete-restore"] => write(Route::RestoreKey(kek(name)?)),
        ["encrypt", name] => write(Route::Encrypt(kek(name)?)),
        ["decrypt", name] => write(Route::Decrypt(kek(name)?)),
        ["rewrap", name] => write(Route::Rewrap(kek(name)?)),
        ["datakey", kind, name] => {
            let route = write(Route::DataKey { kek: kek(name)?, plaintext: kind == "plaintext" })?;
            if ["plaintext", "wrapped"].contains(&kind) { Ok(route) } else { Err(NoRoute::DataKeyKind) }
        }
        _ => Err(NoRoute::Unsupported),
    }
}

fn token(rest: &[&str], verb: Option<Verb>) -> Result<Route, NoRoute> {
    match *rest {
        ["lookup-self"] => only(verb, Verb::Read, true, Route::LookUpSelf),
        ["renew-self"] => only(verb, Verb::Write, true, Route::RenewSelf),
        ["revoke-self"] => only(verb, Verb::Write, true, Route::RevokeSelf),
        _ => Err(NoRoute::Unsupported),
    }
}

fn system(rest: &[&str], verb: Option<Verb>) -> Result<Route, NoRoute> {
    match *rest {
        ["health"] => match verb {
            Some(Verb::Read | Verb::Head) => Ok(Route::Health),
            _ => Err(NoRoute::Method { on_mount: false }),
        },
        ["seal-status"] => only(verb, Verb::Read, false, Route::SealStatus),
        ["leader"] => only(verb, Verb::Read, false, Route::Leader),
        ["unseal"] => only(verb, Verb::Write, false, Route::Unseal),
        ["seal"] => only(verb, Verb::Write, false, Route::Seal),
        _ => Err(NoRoute::Unsupported),
    }
}

fn ours(rest: &[&str], verb: Option<Verb>) -> Result<Route, NoRoute> {
    let write = |route| only(verb, Verb::Write, true, route);
    let read = |route| only(verb, Verb::Read, true, route);
    match *rest {
        ["keys", name, "disable"] => write(Route::DisableKey(kek(name)?)),
        ["keys", name, "enable"] => write(Route::EnableKey(kek(name)?)),
        ["keys", name, "census"] => read(Route::Census(kek(name)?)),
        ["keys", name, "branches"] => only(verb.map(list_is_read), Verb::Read, true, Route::Branches(kek(name)?)),
        ["keys", name, "rewrap"] => write(Route::RewrapBranches(kek(name)?)),
        ["keys", name, "confirm"] => write(Route::ConfirmBranches(kek(name)?)),
        ["keys", name, "ledger-whole"] => write(Route::DeclareWhole(kek(name)?)),
        ["keys", name, "destroy"] => write(Route::DestroyKey(kek(name)?)),
        ["keys", name, "destroy", "cancel"] => write(Route::CancelDestruction(kek(name)?)),
        ["keys", name, "erase"] => write(Route::EraseKey(kek(name)?)),
        ["keys", name, "destruction"] => read(Route::Destruction(kek(name)?)),
        ["backup"] => write(Route::Backup),
        ["restore"] => write(Route::Restore),
        ["restore", "branches"] => write(Route::RestoreBranches),
        ["restore", "share"] => write(Route::GiveShare),
        ["revocations"] => read_or_write(verb, Route::Revocations, Route::Revoke),
        ["revocations", encoded] => only(verb, Verb::Delete, true, Route::Reinstate(principal(encoded)?)),
        ["proposals"] => only(verb.map(list_is_read), Verb::Read, true, Route::Proposals),
        ["proposals", id] => read(Route::Proposal(id_of(id, "p-")?)),
        ["proposals", id, "approve"] => write(Route::Approve(id_of(id, "p-")?)),
        ["proposals", id, "deny"] => write(Route::Veto(id_of(id, "p-")?)),
        ["grants"] => read_or_write(verb, Route::Grants, Route::RequestGrant),
        ["grants", id, "approve"] => write(Route::ApproveGrant(id_of(id, "g-")?)),
        ["grants", id] => only(verb, Verb::Delete, true, Route::EndGrant(id_of(id, "g-")?)),
        ["policy"] => read(Route::Policy),
        ["watch"] => read(Route::Watch),
        ["audit", "checkpoint"] => read(Route::Checkpoint),
        ["audit", "key"] => read(Route::AuditKey),
        ["audit", "cosignature"] => write(Route::Cosign),
        ["audit", "tile", ..] => {
            let path = rest.get(1..).unwrap_or_default().join("/");
            read(Route::Tile(Tile::parse(&path).map_err(|_| NoRoute::Unsupported)?))
        }
        _ => Err(NoRoute::Unsupported),
    }
}

fn list_is_read(verb: Verb) -> Verb {
    if verb == Verb::List { Verb::Read } else { verb }
}

fn read_or_write(verb: Option<Verb>, read: Route, write: Route) -> Result<Route, NoRoute> {
    match verb.map(list_is_read) {
        Some(Verb::Read) => Ok(read),
        Some(Verb::Write) => Ok(write),
        _ => Err(NoRoute::Method { on_mount: true }),
    }
}

/// The id of a proposal or a grant: `p-` or `g-`, then hexadecimal digits.
fn id_of(text: &str, prefix: &str) -> Result<String, NoRoute> {
    let digits = text.strip_prefix(prefix).ok_or(NoRoute::Unsupported)?;
    let legal = (1..=64).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if legal { Ok(text.to_owned()) } else { Err(NoRoute::Unsupported) }
}

/// A principal has characters that mean something in a path, so it stands there in base64url.
fn principal(encoded: &str) -> Result<String, NoRoute> {
    let decoded = URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let graphic = |text: &String| (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    decoded.filter(graphic).ok_or(NoRoute::Unsupported)
}

/// Whatever the request is, it has a route or none; what has one is written in one way.
#[doc(hidden)]
pub fn fuzz_route(method: &str, path: &str, query: &str) {
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    if route(&method, path, query).is_ok() {
        assert!(path.starts_with("/v1/") && path.len() <= PATH_MAX);
        assert!(!path.contains("//") && !path.contains("/../") && !path.contains("/./") && !path.contains('%'));
        assert!(!path.ends_with('/') || path == "/v1/transit/keys/");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> KekName {
        KekName::new(text).expect("legal")
    }

    fn of(method: &str, path: &str) -> Result<Route, NoRoute> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        route(&Method::from_bytes(method.as_bytes()).expect("a method"), path, query)
    }

    #[test]
    fn each_endpoint_has_its_path() {
        let known = [
            ("GET", "/v1/sys/health", Route::Health),
            ("HEAD", "/v1/sys/health?standbyok", Route::Health),
            ("GET", "/v1/sys/seal-status", Route::SealStatus),
            ("GET", "/v1/sys/leader", Route::Leader),
            ("PUT", "/v1/sys/unseal", Route::Unseal),
            ("POST", "/v1/sys/seal", Route::Seal),
            ("POST", "/v1/auth/cert/login", Route::Login),
            ("GET", "/v1/auth/token/lookup-self", Route::LookUpSelf),
            ("PUT", "/v1/auth/token/renew-self", Route::RenewSelf),
            ("POST", "/v1/auth/token/revoke-self", Route::RevokeSelf),
            ("LIST", "/v1/transit/keys", Route::ListKeys),
            ("LIST", "/v1/transit/keys/", Route::ListKeys),
            ("GET", "/v1/transit/keys?list=true", Route::ListKeys),
            ("GET", "/v1/transit/keys/?a=b&list=true", Route::ListKeys),
            ("GET", "/v1/transit/keys/k", Route::ReadKey(name("k"))),
            ("POST", "/v1/transit/keys/k", Route::CreateKey(name("k"))),
            ("DELETE", "/v1/transit/keys/k", Route::DeleteKey(name("k"))),
            ("PUT", "/v1/transit/keys/k/config", Route::ConfigureKey(name("k"))),
            ("POST", "/v1/transit/keys/config/rotate", Route::RotateKey(name("config"))),
            ("DELETE", "/v1/transit/keys/k/soft-delete", Route::SoftDeleteKey(name("k"))),
            ("POST", "/v1/transit/keys/k/soft-delete-restore", Route::RestoreKey(name("k"))),
            ("PUT", "/v1/transit/encrypt/k", Route::Encrypt(name("k"))),
            ("POST", "/v1/transit/datakey/wrapped/k", Route::DataKey { kek: name("k"), plaintext: false }),
            ("POST", "/v1/sys/claviger/keys/k/disable", Route::DisableKey(name("k"))),
            ("GET", "/v1/sys/claviger/keys/k/census", Route::Census(name("k"))),
            ("GET", "/v1/sys/claviger/keys/k/branches?before=2", Route::Branches(name("k"))),
            ("POST", "/v1/sys/claviger/keys/k/rewrap", Route::RewrapBranches(name("k"))),
            ("POST", "/v1/sys/claviger/keys/k/confirm", Route::ConfirmBranches(name("k"))),
            ("POST", "/v1/sys/claviger/keys/k/ledger-whole", Route::DeclareWhole(name("k"))),
            ("POST", "/v1/sys/claviger/keys/k/destroy", Route::DestroyKey(name("k"))),
            ("POST", "/v1/sys/claviger/keys/k/destroy/cancel", Route::CancelDestruction(name("k"))),
            ("GET", "/v1/sys/claviger/keys/k/destruction", Route::Destruction(name("k"))),
            ("POST", "/v1/sys/claviger/backup", Route::Backup),
            ("POST", "/v1/sys/claviger/restore", Route::Restore),
            ("PUT", "/v1/sys/claviger/restore/branches", Route::RestoreBranches),
            ("POST", "/v1/sys/claviger/restore/share", Route::GiveShare),
            ("GET", "/v1/sys/claviger/watch", Route::Watch),
            ("POST", "/v1/sys/claviger/proposals/p-01ab/deny", Route::Veto("p-01ab".to_owned())),
            ("DELETE", "/v1/sys/claviger/revocations/c3BpZmZl", Route::Reinstate("spiffe".to_owned())),
            (
                "GET",
                "/v1/sys/claviger/audit/tile/0/x001/067.p/8",
                Route::Tile(Tile::parse("tile/0/x001/067.p/8").expect("a tile")),
            ),
        ];
        for (method, path, route) in known {
            assert_eq!(of(method, path), Ok(route), "{method} {path}");
        }
    }

    #[test]
    fn paths_that_may_be_read_in_several_ways_are_refused() {
        let long = format!("/v1/transit/keys/{}", "k".repeat(PATH_MAX));
        for path in [
            "/v1/transit/keys/../keys/k",
            "/v1/transit/../sys/health",
            "/v1/./sys/health",
            "/v1/transit/keys/.",
            "/v1/transit/keys/..",
            "/v1/transit/keys/%2e%2e",
            "/v1/transit/keys/k%00",
            "/v1/transit/keys/k%2frotate",
            "/v1/transit/%6beys/k",
            "/v1//sys/health",
            "//v1/sys/health",
            "/v1/transit//keys/k",
            "/v1/transit/keys/k\\rotate",
            "/v1/transit/keys/k\0",
            "/v1/transit/keys/k;a=b",
            "/v1/transit/keys/k é",
            "/v1/sys/claviger/audit/tile/../../checkpoint",
            "v1/sys/health",
            "",
            "*",
            &long,
        ] {
            assert_eq!(of("GET", path.split('?').next().unwrap_or_default()), Err(NoRoute::Path), "{path:?}");
        }
        for path in ["/v1/sys/health/", "/v1/transit/keys/k/", "/v1/transit/encrypt/k/", "/v1/sys/claviger/audit/tile/"]
        {
            assert!(of("GET", path).is_err() && of("POST", path).is_err(), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_as_vault_does() {
        assert_eq!(of("GET", "/v1/nothing/at/all"), Err(NoRoute::Nothing("nothing/at/all".to_owned())));
        assert_eq!(of("GET", "/"), Err(NoRoute::Nothing(String::new())));
        assert_eq!(of("GET", "/v2/sys/health"), Err(NoRoute::Nothing("v2/sys/health".to_owned())));
        for path in [
            "/v1/transit/nothing",
            "/v1/transit/keys/a.b",
            "/v1/transit/keys/k/export",
            "/v1/transit",
            "/v1/auth/token/create",
        ] {
            assert_eq!(of("GET", path), Err(NoRoute::Unsupported), "{path}");
        }
        for (method, path) in [
            ("GET", "/v1/transit/keys"),
            ("PATCH", "/v1/transit/keys/k"),
            ("GET", "/v1/transit/encrypt/k"),
            ("HEAD", "/v1/transit/keys/k"),
            ("DELETE", "/v1/transit/encrypt/k"),
            ("LIST", "/v1/transit/keys/k"),
        ] {
            assert_eq!(of(method, path), Err(NoRoute::Method { on_mount: true }), "{method} {path}");
        }
        for (method, path) in [
            ("PUT", "/v1/sys/seal-status"),
            ("GET", "/v1/sys/unseal"),
            ("OPTIONS", "/v1/sys/health"),
            ("GET", "/v1/sys/seal"),
        ] {
            assert_eq!(of(method, path), Err(NoRoute::Method { on_mount: false }), "{method} {path}");
        }
        assert_eq!(of("POST", "/v1/transit/datakey/other/k"), Err(NoRoute::DataKeyKind));
        assert_eq!(of("POST", "/v1/sys/claviger/proposals/..%2f/approve"), Err(NoRoute::Path));
        assert_eq!(of("GET", "/v1/sys/claviger/proposals/x-01"), Err(NoRoute::Unsupported));
    }
}
