//! The S3 operations on encrypted objects.
