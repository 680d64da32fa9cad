//! The network: TLS, listeners with limits and drain, the one HTTP client.
