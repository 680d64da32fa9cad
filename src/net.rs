//! The network: TLS, listeners with limits and drain, the one HTTP client.

pub mod body;
pub mod client;
pub mod listener;
pub mod network;
mod progress;
pub mod regular;
pub mod seldom;
pub mod stamp;
#[cfg(test)]
pub(crate) mod tests;
pub mod tls;

/// Any error, as HTTP bodies carry them.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
