//! What the custodian's server reads of a request.

use claviger::custodian::server;

use super::input::Request;

/// A body is read within its bounds or refused; what is read of it is JSON again.
pub fn api_body(bytes: &[u8]) {
    server::fuzz_body(bytes);
}

/// A path that has a route is taken literally: there is nothing in it that others could read in another way.
pub fn api_route(bytes: &[u8]) {
    if let Some(request) = Request::read(bytes) {
        server::fuzz_route(request.method, request.path, request.query.unwrap_or_default());
    }
}
