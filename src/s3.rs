//! The S3 protocol, no I/O: bytes and header maps in, values out.

#![warn(clippy::indexing_slicing, clippy::as_conversions)]

pub mod checksum;
pub mod chunked;
pub mod conditions;
pub mod copy_source;
pub mod customer_key;
pub mod error;
pub mod etag;
pub mod form;
pub mod operation;
pub mod range;
pub mod sigv4;
pub mod target;
pub mod xml;
