//! `[metrics]`: where metrics, health and readiness are shown.

use std::net::SocketAddr;

use super::problem::Mistake;
use super::section::Section;

/// The address to listen on: a loopback address, unless it says that it need not be.
pub(super) fn read(section: Section<'_>) -> Option<SocketAddr> {
    let listen =
        section.required("listen").and_then(|text| text.parsed(|text| text.parse().map_err(|_| Mistake::Address)));
    let anywhere = section.flag("insecure_any_address");
    if anywhere == Some(false) && listen.is_some_and(|listen: SocketAddr| !listen.ip().is_loopback()) {
        section.note_at("listen", Mistake::MetricsBeyondLoopback);
    }
    section.finish();
    anywhere?;
    listen
}
