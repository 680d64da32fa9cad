//! Bucket and key from host and path.
