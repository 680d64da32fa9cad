//! The network: TLS, listeners with limits and drain, the one HTTP client.

pub mod body;
pub mod client;
pub mod listener;
mod progress;
#[cfg(test)]
pub(crate) mod tests;
pub mod tls;

/// Any error, as HTTP bodies carry them.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
