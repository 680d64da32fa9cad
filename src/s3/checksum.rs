//! Checksums that S3 clients ask for.
