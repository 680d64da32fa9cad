//! The lines of a watch: cut out of the stream, and read.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::Deserialize;

use crate::custody::watch::Event;
use crate::names::{KekName, Principal};
use crate::net::client::ResponseBody;
use crate::net::tls::ClientTls;
use crate::transit::error::TransitError;

use super::own_names::{Named, OwnNames};

/// Most bytes of a line.
const LINE_MAX: usize = 4 << 10;
/// Heartbeats that are neither so many that they cost something nor so few that they say nothing.
const HEARTBEAT_MS: std::ops::RangeInclusive<u64> = 10..=10_000;

/// A body, line by line.
pub(super) struct Lines {
    body: ResponseBody,
    cutter: Cutter,
}

impl Lines {
    pub(super) fn new(body: ResponseBody) -> Self {
        Self { body, cutter: Cutter::default() }
    }

    /// The next line, without its line feed. The end of the body is an error: a watch has none.
    pub(super) async fn next(&mut self) -> Result<Bytes, TransitError> {
        loop {
            if let Some(line) = self.cutter.line()? {
                return Ok(line);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.cutter.take(&frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(error.into()),
                None => return Err(TransitError::WatchEnded),
            }
        }
    }
}

/// Cuts lines out of what comes in pieces.
#[derive(Default)]
struct Cutter {
    buffer: BytesMut,
    /// So many bytes at the beginning have no line feed among them.
    searched: usize,
}

impl Cutter {
    fn take(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next line, once it is there as a whole.
    fn line(&mut self) -> Result<Option<Bytes>, TransitError> {
        let found = self.buffer.iter().skip(self.searched).position(|byte| *byte == b'\n');
        let length = found.map_or(self.buffer.len(), |at| self.searched + at);
        if length > LINE_MAX {
            return Err(TransitError::WatchLine);
        }
        if found.is_none() {
            self.searched = length;
            return Ok(None);
        }
        self.searched = 0;
        let mut line = self.buffer.split_to(length + 1);
        line.truncate(length);
        Ok(Some(line.freeze()))
    }
}

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) said: Said,
    /// When it was made, from the greeting on; the greeting itself does not tell.
    pub(super) made: Option<Duration>,
}

/// What a line says to us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The first line.
    Hello {
        heartbeat: Duration,
    },
    Heartbeat,
    Event(Event),
    /// Something that changes nothing here.
    Nothing,
}

#[derive(Deserialize)]
struct Line {
    event: String,
    name: Option<String>,
    change: Option<String>,
    principal: Option<String>,
    heartbeat_ms: Option<u64>,
    elapsed_ms: Option<u64>,
}

pub(super) fn parse(line: &[u8], own_names: &OwnNames) -> Result<Told, TransitError> {
    if line.len() > LINE_MAX {
        return Err(TransitError::WatchLine);
    }
    let Line { event, name, change, principal, heartbeat_ms, elapsed_ms } = serde_json::from_slice(line)?;
    let change = change.as_deref().unwrap_or_default();
    let said = match event.as_str() {
        "hello" => {
            let heartbeat = heartbeat_ms.filter(|ms| HEARTBEAT_MS.contains(ms)).ok_or(TransitError::WatchLine)?;
            Said::Hello { heartbeat: Duration::from_millis(heartbeat) }
        }
        "heartbeat" => Said::Heartbeat,
        "kek" => kek(&name.unwrap_or_default(), change),
        "principal" => self::principal(&principal.unwrap_or_default(), change, own_names),
        // "policy", "grants", "lagged", and whatever a later custodian says.
        _ => Said::Event(Event::Rules),
    };
    Ok(Told { said, made: elapsed_ms.map(Duration::from_millis) })
}

fn kek(name: &str, change: &str) -> Said {
    let Ok(kek) = KekName::new(name) else { return Said::Event(Event::Rules) };
    match change {
        "disabled" | "deleted" => Said::Event(Event::KekClosed(kek)),
        "rotated" => Said::Event(Event::KekRotated(kek)),
        // These take nothing from anyone.
        "created" | "enabled" => Said::Nothing,
        _ => Said::Event(Event::KekChanged(kek)),
    }
}

fn principal(principal: &str, change: &str, own_names: &OwnNames) -> Said {
    if change == "reinstated" {
        return Said::Nothing;
    }
    match own_names.look_up(principal) {
        Named::Ourselves => Said::Event(Event::Ourselves),
        Named::Another => Said::Nothing,
        Named::Unclear => Said::Event(Event::Rules),
        Named::Client => match Principal::new(principal) {
            Ok(principal) => Said::Event(Event::PrincipalRevoked(principal)),
            Err(_) => Said::Event(Event::Rules),
        },
    }
}

/// However a stream is cut into `pieces`, the same lines come of it, each within its bound, until one is too long.
#[doc(hidden)]
pub fn fuzz_stream(stream: &[u8], pieces: impl Iterator<Item = Bytes>) {
    let (mut cutter, mut lines) = (Cutter::default(), Vec::new());
    let mut too_long = false;
    for piece in pieces {
        cutter.take(&piece);
        while let Some(line) = cutter.line().unwrap_or_else(|_| {
            too_long = true;
            None
        }) {
            lines.push(line);
        }
        if too_long {
            break;
        }
    }
    let mut expected: Vec<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
    // What follows the last line feed is no line yet.
    let rest = expected.pop().unwrap_or_default();
    let good = expected.iter().take_while(|line| line.len() <= LINE_MAX).count();
    assert!(lines.iter().eq(&expected[..good]));
    assert_eq!(too_long, good < expected.len() || rest.len() > LINE_MAX);
}

/// What is not understood is taken for a change that may concern anything.
#[doc(hidden)]
pub fn fuzz_line(line: &[u8]) {
    const KNOWN: [&str; 4] = ["hello", "heartbeat", "kek", "principal"];
    let own_names = OwnNames::of(&ClientTls::default());
    let Ok(told) = parse(line, &own_names) else { return };
    assert!(line.len() <= LINE_MAX);
    let Line { event, change, name, .. } = serde_json::from_slice(line).expect("it was read");
    match &told.said {
        Said::Hello { heartbeat } => assert!((10..=10_000).contains(&heartbeat.as_millis())),
        Said::Event(Event::KekClosed(kek)) => assert_eq!(name.as_deref(), Some(kek.as_str())),
        Said::Nothing => assert!(["created", "enabled", "reinstated"].contains(&change.as_deref().unwrap_or_default())),
        Said::Event(Event::Rules) | Said::Heartbeat => {}
        Said::Event(_) => assert!(KNOWN.contains(&event.as_str())),
    }
    assert!(KNOWN.contains(&event.as_str()) || told.said == Said::Event(Event::Rules));
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "spiffe://example.org/region/us/proxy/p1";

    fn said(line: &str) -> Said {
        parse(line.as_bytes(), &OwnNames::assume(&[OURS, "certificate:00ff"])).expect("a line").said
    }

    fn named(name: &str) -> KekName {
        KekName::new(name).expect("legal")
    }

    #[test]
    fn each_event_has_its_meaning() {
        let hello = r#"{"event":"hello","instance":"a","heartbeat_ms":250,"policy_sha256":"00"}"#;
        assert_eq!(said(hello), Said::Hello { heartbeat: Duration::from_millis(250) });
        assert_eq!(said(r#"{"event":"heartbeat"}"#), Said::Heartbeat);
        let kek = |change: &str| said(&format!(r#"{{"event":"kek","name":"records","change":"{change}"}}"#));
        for change in ["disabled", "deleted"] {
            assert_eq!(kek(change), Said::Event(Event::KekClosed(named("records"))));
        }
        for change in ["changed", "soft-deleted", "", "new"] {
            assert_eq!(kek(change), Said::Event(Event::KekChanged(named("records"))));
        }
        for change in ["created", "enabled"] {
            assert_eq!(kek(change), Said::Nothing);
        }
        assert_eq!(kek("rotated"), Said::Event(Event::KekRotated(named("records"))));
        for line in [
            r#"{"event":"policy","sha256":"00"}"#,
            r#"{"event":"grants"}"#,
            r#"{"event":"lagged"}"#,
            r#"{"event":"something new","name":7.5e3}"#.replace("7.5e3", "\"x\"").as_str(),
            r#"{"event":"kek","name":"a/b","change":"disabled"}"#,
            r#"{"event":"kek"}"#,
        ] {
            assert_eq!(said(line), Said::Event(Event::Rules), "{line}");
        }
    }

    #[test]
    fn a_principal_is_we_or_a_client_of_ours_or_another() {
        let revoked = |name: &str| said(&format!(r#"{{"event":"principal","principal":"{name}","change":"revoked"}}"#));
        for ours in [OURS, "certificate:00ff", "certificate:00FF"] {
            assert_eq!(revoked(ours), Said::Event(Event::Ourselves), "{ours}");
        }
        for another in ["spiffe://example.org/region/us/proxy/p2", "certificate:00fe"] {
            assert_eq!(revoked(another), Said::Nothing, "{another}");
        }
        let alice = Principal::new("alice@example.org").expect("legal");
        assert_eq!(revoked("alice@example.org"), Said::Event(Event::PrincipalRevoked(alice)));
        for odd in ["", "a b", &"x".repeat(200)] {
            assert_eq!(revoked(odd), Said::Event(Event::Rules), "{odd}");
        }
        assert_eq!(said(r#"{"event":"principal","principal":"bob","change":"reinstated"}"#), Said::Nothing);
        assert!(matches!(said(r#"{"event":"principal","principal":"bob"}"#), Said::Event(Event::PrincipalRevoked(_))));
        let nobody = OwnNames::assume(&[]);
        let line = format!(r#"{{"event":"principal","principal":"{OURS}","change":"revoked"}}"#);
        let unclear = parse(line.as_bytes(), &nobody).expect("a line").said;
        assert_eq!(unclear, Said::Event(Event::Rules), "who does not know who it is asks the custodian");
    }

    #[test]
    fn what_is_no_line_is_refused() {
        let long = format!(r#"{{"event":"{}"}}"#, "x".repeat(LINE_MAX));
        let deep = "[".repeat(2000);
        let bad = [
            "",
            "{}",
            "null",
            "\"heartbeat\"",
            r#"{"event":7}"#,
            r#"{"event":"kek","name":{}}"#,
            "{",
            &long,
            &deep,
            r#"{"event":"heartbeat","elapsed_ms":-1}"#,
        ];
        let hellos = ["", r#","heartbeat_ms":0"#, r#","heartbeat_ms":10001"#, r#","heartbeat_ms":-1"#];
        let hellos = hellos.map(|rest| format!(r#"{{"event":"hello"{rest}}}"#));
        for line in bad.into_iter().chain(hellos.iter().map(String::as_str)) {
            assert!(parse(line.as_bytes(), &OwnNames::assume(&[])).is_err(), "{line:.40}");
        }
    }
}
